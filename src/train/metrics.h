/* metrics.jsonl: a line of JSON a step. */
#ifndef CST_TRAIN_METRICS_H
#define CST_TRAIN_METRICS_H

#include <stdint.h>

#include "base/status.h"

/* Open out_dir/metrics.jsonl for appending. step 0: empty. Else with the lines of steps 1 to `step` from from_dir's file
 * (which may be the same): what a killed run wrote beyond its checkpoint is dropped. The caller closes *fd. */
cst_status cst_metrics_open(int *fd, const char *out_dir, const char *from_dir, int64_t step);

#endif
