/* The learning rate over a run. */
#ifndef CST_OPTIM_SCHEDULE_H
#define CST_OPTIM_SCHEDULE_H

#include <stdint.h>

typedef enum cst_schedule_kind { CST_SCHEDULE_LINEAR, CST_SCHEDULE_COSINE, CST_SCHEDULE_CONSTANT } cst_schedule_kind;

typedef struct cst_schedule {
    cst_schedule_kind kind;
    double lr;               /* the highest */
    int64_t warmup, steps;   /* steps of rise; steps of the whole run */
} cst_schedule;

/* Learning rate of step t (from 0). For t < warmup: lr (t + 1) / warmup. Then, with r = (t - warmup) /
 * (steps - warmup): linear lr (1 - r), cosine lr (1 + cos(pi r)) / 2, constant lr. Never below 0. */
double cst_schedule_lr(const cst_schedule *s, int64_t t);

#endif
