/* The folder of a run, in which checkpoint-N and best are made so that a whole one stays whatever happens.
 *
 * A folder is filled under a hidden name (.checkpoint-40.tmp-x1Y2z3), every file synced, and renamed. A checkpoint counts
 * once it has its file `complete`, which comes last. What a killed run left is removed when the next one opens the folder.
 */
#ifndef CST_TRAIN_OUTDIR_H
#define CST_TRAIN_OUTDIR_H

#include <stdint.h>

#include "base/status.h"

/* Make the folder if it is missing, keep other runs out of it until *lock is closed, and remove what killed runs left
 * there. STATE when another run has it. */
cst_status cst_outdir_open(int *lock, const char *out);
/* USAGE when it has a complete checkpoint: a new run would mix its own with those. */
cst_status cst_outdir_check_new(const char *out);

/* The newest complete checkpoint of a run's folder, or `path` itself if it is a complete checkpoint; the caller frees
 * *dir. INPUT when there is none. */
cst_status cst_outdir_find(char **dir, const char *path);

/* IO, with what is needed and what is free, unless the folder's disk has room for `bytes` more. */
cst_status cst_outdir_room(const char *out, uint64_t bytes);
/* A new hidden folder to fill, for `name` ("checkpoint-40", "best"); the caller frees *temp. */
cst_status cst_outdir_begin(char **temp, const char *out, const char *name);
/* Throw it away. */
void cst_outdir_discard(const char *temp);
/* It becomes checkpoint-`step`, complete; on failure it is thrown away. IO when there is a folder of this name already. */
cst_status cst_outdir_commit(const char *temp, const char *out, int64_t step);
/* It becomes best, in one step with the old one's going where the file system can; on failure it is thrown away and the
 * old one stays. */
cst_status cst_outdir_commit_best(const char *temp, const char *out);

/* Remove the oldest complete checkpoints but for `keep`; 0 keeps all. */
cst_status cst_outdir_keep(const char *out, int64_t keep);
/* Remove the checkpoints of later steps, which a run that goes on from `step` makes again. */
cst_status cst_outdir_drop_after(const char *out, int64_t step);

#endif
