/* The training loop. */
#ifndef CST_TRAIN_TRAINER_H
#define CST_TRAIN_TRAINER_H

#include "optim/schedule.h"
#include "text/batches.h"
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
    const char *out_dir;         /* metrics.jsonl, TensorBoard's events and checkpoints go there; NULL: nowhere */
    int64_t steps, stop_after;   /* steps of the run; stop earlier after so many (0: no) */
    int64_t eval_every, save_every; /* 0: never */
    cst_schedule schedule;
    cst_batches *train, *valid;  /* valid may be NULL */
    /* Called after each step's figures are known (one step late) and written. */
    void (*report)(const cst_step_report *r, void *user);
    /* Called to save what the model is now, in `dir`. */
    cst_status (*save)(cst_session *s, const char *dir, void *user);
    int (*stop)(void *user);     /* != 0: finish this step and return INTERRUPTED */
    void *user;
} cst_train_options;

typedef struct cst_train_result {
    int64_t steps;               /* done */
    double first_loss, last_loss, valid_loss, median_ms, tokens_per_s; /* valid_loss NaN when never evaluated */
} cst_train_result;

/* Train. OK when all steps (or stop_after) are done, INTERRUPTED when stop asked for it; result is filled in
 * both cases. Saving the final model is the caller's. */
cst_status cst_train(cst_train_result *result, cst_session *s, const cst_train_options *o);

/* Mean loss per token over all batches of b (made with keep_last), dropout off. */
cst_status cst_evaluate(double *mean_loss, cst_session *s, cst_batches *b);

#endif
