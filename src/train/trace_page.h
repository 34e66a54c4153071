/* A trace and its plan on one page, for people. */
#ifndef CST_TRAIN_TRACE_PAGE_H
#define CST_TRAIN_TRACE_PAGE_H

#include "memory/timeline.h"

/* Write one HTML file without scripts and without anything from elsewhere: key figures, device memory over the iteration by
 * class of tensor, operators, waits, uploads and downloads under the same axis, and tables of the longest waits, the
 * operators and the largest tensors. budget: bytes, scratch included. IO when the file can't be written; it is then as it
 * was. */
cst_status cst_trace_page_write(const char *path, const cst_trace *t, const cst_plan *p, const cst_timeline *l, uint64_t budget);

#endif
