/* Whole training steps on random tokens, timed: what castor bench step and castor bench plugins share. */
#ifndef CST_BENCH_STEP_H
#define CST_BENCH_STEP_H

#include "train/session.h"

typedef struct cst_steps {
    int64_t warm, steps;     /* steps that aren't timed, which come first; steps that are */
    double first_ms;         /* the very first one, until its loss is there: kernels are built in it */
    double *ms;              /* [steps] */
    float *loss;             /* [warm + steps] before each step's update */
    uint64_t up_bytes, down_bytes; /* enqueued in all timed steps */
} cst_steps;

/* Before each step that is enqueued; number counts from 1 to `all`, warm: it isn't timed. Not 0: stop. */
typedef int (*cst_steps_told)(void *user, int64_t number, int64_t all, int warm);

/* Give the model of a session just opened its random start and train it: two steps of warm-up, or five where tensors migrate
 * (the second and third are measured there, then the manager plans again), and `steps` timed ones, as training runs them: one
 * is enqueued while the one before it is computed. A step's time is from the end of the one before to its own end, by the
 * device's clock where it has one. Tokens are a function of the session's seed and the step alone. NOT_FINITE names a step whose loss
 * isn't; INTERRUPTED when `told` (may be NULL) says so. r: cst_steps_free, also after a failure. */
cst_status cst_steps_run(cst_steps *r, cst_session *s, int64_t steps, cst_steps_told told, void *user);
void cst_steps_free(cst_steps *r);

#endif
