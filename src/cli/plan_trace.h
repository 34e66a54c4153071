/* Where castor plan and castor trace get a trace, and what they tell about a budget. */
#ifndef CST_CLI_PLAN_TRACE_H
#define CST_CLI_PLAN_TRACE_H

#include "cli/cli.h"
#include "memory/timeline.h"

/* From the FILE that the command line names, or of the step that --config and its fellows describe; with --rates. */
cst_status cst_trace_from(cst_trace **out, const cst_args *a);

/* A plan within a budget of device memory (scratch included), and what happens when. Free both. OVER_BUDGET names the
 * smallest --device-mem that works. */
cst_status cst_trace_plan(cst_plan **p, cst_timeline **l, const cst_trace *t, uint64_t budget);
/* Budgets, scratch included: the smallest that works; one within which nothing ever moves. */
cst_status cst_trace_extremes(uint64_t *least, uint64_t *resident, const cst_trace *t);
/* --device-mem, else what lets all stay. */
cst_status cst_trace_budget(uint64_t *budget, const cst_args *a, const cst_trace *t);

/* What is asked about: the step that --config describes, or the trace of a file. */
typedef struct cst_planner {
    cst_session *s;          /* NULL: a file's */
    cst_trace *t;            /* of the file; of the configuration with all on the device */
    uint64_t least, resident; /* as cst_trace_extremes */
} cst_planner;
cst_status cst_planner_open(cst_planner *p, const cst_args *a);
/* For a budget. Clear *x, free *l. OVER_BUDGET as cst_trace_plan. */
cst_status cst_planner_ask(cst_outlook *x, cst_timeline **l, cst_planner *p, uint64_t budget);
/* Returns st, its detail kept. */
cst_status cst_planner_close(cst_planner *p, cst_status st);

/* "12.3 us", "812 ms", "1.24 s" */
const char *cst_seconds_text(char buf[32], double s);
/* "1.97 TFLOP", "53 GB": thousands, with a unit behind. */
const char *cst_thousands_text(char buf[32], double v, const char *unit);

#endif
