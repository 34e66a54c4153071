/* The training loop.
 *
 * A gradient that isn't finite leaves its update out, with a warning. A loss that isn't finite ends the run, because no
 * later step would repair it: nothing is saved, older checkpoints stay.
 */
#ifndef CST_TRAIN_TRAINER_H
#define CST_TRAIN_TRAINER_H

#include "optim/schedule.h"
#include "text/batches.h"
#include "train/checkpoint.h"
#include "train/session.h"

/* What is known of a finished step. */
typedef struct cst_step_report {
    int64_t step, steps;         /* 1-based; of the whole run */
    double loss, lr, grad_norm;
    int finite;                  /* 0: the update was left out */
    double ms, tokens_per_s;
    double eta_s;                /* seconds to the end at this speed */
    double valid_loss;           /* of an evaluation after this step, else NaN */
    uint64_t device_bytes, device_peak, h2d_bytes, d2h_bytes; /* the last two of this step */
} cst_step_report;

typedef struct cst_train_options {
    const char *out_dir;         /* metrics.jsonl, TensorBoard's events, checkpoints and best go there; NULL: nowhere */
    int64_t steps, stop_after;   /* steps of the run; stop earlier after so many (0: no) */
    int64_t eval_every, save_every; /* 0: never */
    int64_t keep;                /* newest checkpoints to keep; 0: all */
    const cst_checkpoint *from;  /* go on from this one, which the session has loaded; NULL: from the start */
    const char *from_dir;        /* another run's folder that it is of, whose metrics.jsonl is gone on with; NULL: out_dir */
    json_t *about;               /* kept in checkpoints, see cst_checkpoint; may be NULL */
    cst_schedule schedule;
    cst_batches *train, *valid;  /* valid may be NULL */
    /* Called after each step's figures are known (one step late) and written. */
    void (*report)(const cst_step_report *r, void *user);
    cst_save_model save;         /* NULL: no checkpoints and no best */
    int (*stop)(void *user);     /* != 0: finish this step and return INTERRUPTED */
    void *user;
} cst_train_options;

typedef struct cst_train_result {
    int64_t steps;               /* done, those before the checkpoint included */
    int64_t saved;               /* step of the last checkpoint, 0: none */
    double best_loss;            /* lowest validation loss of the run, NaN when never evaluated */
    int64_t best_step;           /* and after which step that was: what out_dir/best is */
    double first_loss, last_loss, valid_loss, median_ms, tokens_per_s; /* valid_loss NaN when never evaluated */
} cst_train_result;

/* Train. OK when all steps (or stop_after) are done, INTERRUPTED when stop asked for it; result is filled in
 * both cases, and when steps are left, the last thing done is a checkpoint. NOT_FINITE (see above) names the step and the
 * first tensor, weights before gradients, that has such a value. Saving the final model is the caller's. */
cst_status cst_train(cst_train_result *result, cst_session *s, const cst_train_options *o);

/* NOT_FINITE, with the first tensor to blame for the loss of step `step` (from 1). */
cst_status cst_train_not_finite(cst_session *s, const cst_train_options *o, int64_t step);

/* Mean loss per token over all batches of b (made with keep_last), dropout off. */
cst_status cst_evaluate(double *mean_loss, cst_session *s, cst_batches *b);

#endif
