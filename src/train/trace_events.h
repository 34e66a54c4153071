/* A plan's times in the JSON format of trace events, which ui.perfetto.dev and chrome://tracing show. */
#ifndef CST_TRAIN_TRACE_EVENTS_H
#define CST_TRAIN_TRACE_EVENTS_H

#include "memory/timeline.h"

/* Write one iteration: threads for operators, uploads, downloads and what the host enqueues, a counter of device memory by
 * class. Source of the format: "Trace Event Format", the Chromium project. IO when the file can't be written; it is then as
 * it was. */
cst_status cst_trace_events_write(const char *path, const cst_trace *t, const cst_plan *p, const cst_timeline *l);

#endif
