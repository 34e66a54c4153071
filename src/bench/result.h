/* What a device can do, as numbers: the rows that `castor bench device` measures, and the result file that `castor bench
 * submit` writes and `castor bench report` reads. docs/results.md describes the file for people, bench/result.schema.json for
 * programs.
 */
#ifndef CST_BENCH_RESULT_H
#define CST_BENCH_RESULT_H

#include <jansson.h>

#include "device/device.h"

#define CST_RESULT_SCHEMA 1 /* the file's "schema": changes when old readers would misread it */

/* One measurement. Names are ASCII, from tables, never freed. */
typedef struct cst_row {
    const char *row;         /* what --rows names: "gemm", "fft", "triad", ... */
    char what[64];           /* the case: "1024 x 1024 x 1024, CLBlast", "complex 2^16, 64 at a time" */
    const char *unit;        /* "GFLOP/s", "GB/s", "us", "ms", "MiB" */
    int less;                /* less is better (times) */
    double value;            /* median, in unit */
    double spread;           /* (slowest - fastest) / median of the samples' times */
    double seconds;          /* median of one call */
    double ceiling;          /* the best that could be, in unit; 0: none known */
    const char *ceiling_of;  /* what that is: "multiply-add peak, measured", "triad", "stated clock x units" */
    double error;            /* largest error of the result against the reference, relative to the row's own measure; below 0: no number
                                comes out to check */
    double limit;            /* what error may be */
    char missing[160];       /* why there is no value: what the device lacks, or that the result was wrong; else "" */
} cst_row;

/* A growing list. Zero it first; cst_rows_free at the end. */
typedef struct cst_rows {
    cst_row *list;
    size_t n, room;
} cst_rows;

/* Append a copy. */
cst_status cst_rows_add(cst_rows *rows, const cst_row *row);
void cst_rows_free(cst_rows *rows);
/* {"row", "case", "unit", "value", "spread", "seconds", "ceiling", "ceiling_of", "error", "limit"} or {"row", "case", "missing"}, a
 * member only where there is something to say ("less": true too); new reference, NULL when out of memory. */
json_t *cst_row_json(const cst_row *row);

#endif
