/* What operators took on a device, kept between runs, so that a plan is made with measured times before its own iterations were
 * measured. Plain data, no OpenCL. */
#ifndef CST_MEMORY_OPERATORS_H
#define CST_MEMORY_OPERATORS_H

#include "memory/trace.h"

typedef struct cst_operator {
    char op[48];
    int by_flops;            /* work is counted in FLOP, else in bytes */
    double work;
    double seconds;          /* mean */
} cst_operator;

typedef struct cst_operators {
    cst_operator *o;
    int n, room;
    double enqueue;          /* as a trace's, of the iteration measured last; 0: unknown */
} cst_operators;

void cst_operators_clear(cst_operators *x);
/* From a trace with measured times: the mean of each operator at each amount of work (those within 2 % are one), in place of what
 * was known of it. */
cst_status cst_operators_learn(cst_operators *x, const cst_trace *t);
/* Times for moments that have none: those of the same operator at the most similar amount of work, scaled; moments of
 * operators that were never seen stay without. *known: the part of the trace's seconds that is measured, or from the same FLOP, or
 * from bytes within 25 %. */
void cst_operators_apply(const cst_operators *x, cst_trace *t, double *known);
/* A JSON file, written whole or not at all. load: INPUT, *x is then as it was. */
cst_status cst_operators_save(const cst_operators *x, const char *path);
cst_status cst_operators_load(cst_operators *x, const char *path);

#endif
