/* The two parts of castor tune. */
#ifndef CST_CLI_TUNE_H
#define CST_CLI_TUNE_H

#include "gemm/tuning.h"

/* What was tried, and what the winners need for the products of training steps. */
typedef struct cst_tune_sum {
    int shapes, tried, failed, native; /* native: shapes that it won */
    double ms, flops;
} cst_tune_sum;

typedef void (*cst_tune_progress)(void *user, int done, int all, const char *what);

/* Time every engine and variant on OPT-350M's products of 128 and 1,024 tokens, each result checked, and add the
 * fastest of each to the store. Ends early at `until` (cst_now's clock) and on Ctrl-C. */
cst_status cst_tune_products(cst_tune_sum *sum, cst_tuning *store, cst_device *dev, uint64_t device_mem, double until,
                             cst_tune_progress progress, void *user);

#endif
