/* report.html: a run on one page, for people. */
#ifndef CST_TRAIN_REPORT_H
#define CST_TRAIN_REPORT_H

#include "base/status.h"

/* Write dir/report.html from dir/metrics.jsonl and, where it is there, dir/run.json: charts of loss, learning rate, gradient
 * norm, tokens/s and device memory, and what the run was. One file without scripts and without anything from elsewhere. IO
 * when there is no metrics.jsonl, INPUT (line) when a line is no JSON object with a step; a last line that is cut off, as a run
 * that goes on may leave it, is left out. */
cst_status cst_report_write(const char *dir);

#endif
