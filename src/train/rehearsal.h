/* A few steps of a model's first layers, so that a device's times of its operators are known before a plan for all is made. */
#ifndef CST_TRAIN_REHEARSAL_H
#define CST_TRAIN_REHEARSAL_H

#include "train/session.h"

#define CST_REHEARSAL_LAYERS 2

/* One whole step, the t-th, of random tokens that seed and t give; ids: room for a batch. Nothing is waited for. */
cst_status cst_random_step(cst_session *s, int32_t *ids, int64_t t);

/* Four steps with the shapes that `like` gives, two layers, random weights and tokens, within `budget` bytes of device memory. What the
 * operators take is kept for later runs (memory/operators.h). Errors of cst_session_open and of steps. */
cst_status cst_rehearse(const cst_session_options *like, uint64_t budget);

#endif
