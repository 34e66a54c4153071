/* Checkpoints: all that a run needs to go on as if it had never stopped, to the bit.
 *
 * A checkpoint is a folder: the model as a Hugging Face folder, so that it is a starting point of its own as well;
 * optimizer.safetensors with AdamW's moments ("exp_avg.NAME", "exp_avg_sq.NAME", f32) and trainer.json. All that is random
 * in a run is a function of its seed and of the number of the micro-batch, and so is the place in the text, so that steps
 * done say both; the caller's settings are kept beside. How it is written: see outdir.h.
 */
#ifndef CST_TRAIN_CHECKPOINT_H
#define CST_TRAIN_CHECKPOINT_H

#include <jansson.h>

#include "train/session.h"

typedef struct cst_checkpoint {
    int64_t step;            /* steps done */
    double best_loss;        /* lowest validation loss so far, NaN: none */
    int64_t best_step;       /* and after which step that was */
    json_t *about;           /* an object: what the caller wants to find again; NULL: nothing */
    json_t *products;        /* engines of the matrix products, for cst_session_options.products; set by read only */
    char *dir;               /* where it was read from; set by read only */
    uint64_t weights_hash, moments_hash; /* for load; set by read only */
} cst_checkpoint;

/* Writes a model's files into a folder that is there. */
typedef cst_status (*cst_save_model)(cst_session *s, const char *dir, void *user);

/* Bytes that a checkpoint of this session takes, about; or its model alone. */
uint64_t cst_checkpoint_bytes(const cst_session *s, int model_only);
/* Write out_dir/checkpoint-`step`. Room on the disk is checked first; after a failure nothing of it is there and all
 * older ones are. */
cst_status cst_checkpoint_save(cst_session *s, const char *out_dir, const cst_checkpoint *c, cst_save_model save, void *user);
/* Write out_dir/best, the model alone, in place of what was there. */
cst_status cst_checkpoint_save_best(cst_session *s, const char *out_dir, cst_save_model save, void *user);

/* Read trainer.json of `path`: a complete checkpoint, or a run's folder, whose newest one is taken. INPUT names the file
 * and what is wrong with it. Close it also after a failure. */
cst_status cst_checkpoint_read(cst_checkpoint *c, const char *path);
void cst_checkpoint_close(cst_checkpoint *c);
/* Weights and moments into a session just opened, in place of cst_session_start. INPUT names the file when tensors or
 * numbers are not those that were saved. */
cst_status cst_checkpoint_load(cst_session *s, const cst_checkpoint *c);

#endif
