/* What a step takes where the host updates a part of the model (optim/host.h), which no trace has. */
#ifndef CST_TRAIN_HOST_TIME_H
#define CST_TRAIN_HOST_TIME_H

#include "train/session.h"

/* Seconds of a step by this plan, made for what the session's manager recorded last. Where the host's speed wasn't measured its
 * work takes no time, but its transfers do. NO_MEMORY. */
cst_status cst_host_time(double *seconds, const cst_session *s, const cst_plan *plan);

#endif
