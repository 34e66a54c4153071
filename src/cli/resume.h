/* castor train --resume: what a run's checkpoints say of its options, and whether the same run goes on. */
#ifndef CST_CLI_RESUME_H
#define CST_CLI_RESUME_H

#include "cli/options.h"
#include "optim/schedule.h"
#include "text/tokenizer.h"
#include "train/checkpoint.h"

/* Texts as ids, by which data are known again. */
typedef struct cst_run_text {
    const uint32_t *ids;     /* NULL: none */
    size_t count;
} cst_run_text;

/* What decides a run's numbers, a member a setting, as it came out of options, files and defaults; new reference, NULL
 * when out of memory. tok may be NULL. */
json_t *cst_run_settings(const cst_args *a, const cst_session_options *o, const cst_schedule *s, const cst_tokenizer *tok,
                         cst_run_text train, cst_run_text valid);
/* cst_checkpoint.about: the settings (borrowed) and the options as text. */
json_t *cst_run_about(const cst_args *a, const json_t *settings, const cst_tokenizer *tok);

/* Read the checkpoint that --resume names and give a its options, unless the command line gives others: files by absolute
 * path, model and tokenizer from the checkpoint, --out the folder that the checkpoint is in (*run_dir, which the caller
 * frees after the last use of a). *c and *run_dir, both zeroed before, are to be closed and freed also after a failure. */
cst_status cst_resume_open(cst_checkpoint *c, char **run_dir, cst_args *a);
/* USAGE with every setting that isn't what it was, new and old value. */
cst_status cst_resume_check(const cst_checkpoint *c, const json_t *settings);
/* Are both the same folder? A missing one is no other's. */
int cst_same_folder(const char *a, const char *b);

#endif
