/* What the files that measure rows share; not for others. */
#ifndef CST_BENCH_ROWS_H
#define CST_BENCH_ROWS_H

#include <math.h>

#include "bench/device_rows.h"
#include "bench/measure.h"
#include "memory/memory.h"

/* One call of cst_bench_device. */
typedef struct cst_row_run {
    cst_rows *rows;
    cst_device *dev;
    const cst_bench_device_options *o;
    double peak;             /* measured multiply-add peak, FLOP/s; 0: not known */
    int peak_shape;          /* of cst_peak_shapes, that had it */
    double triad;            /* measured bytes/s; 0: not known */
    char wrong[256];         /* rows whose result was wrong, with commas */
} cst_row_run;

/* Something to check and to time. */
typedef struct cst_row_case {
    cst_row row;             /* names, unit, less, limit, ceiling are the caller's */
    double work;             /* what one call does: unit is work a second, or, where it is 0, the call's time */
    cst_timed run;
    cst_status (*check)(double *error, void *what); /* of the result after one call; NULL: row.error holds already */
    void *what;
} cst_row_case;

/* A row's beginning: its names and no error known. */
cst_row cst_row_begin(const char *row, const char *unit, const char *what, ...) CST_PRINTF(3, 4);
/* More of the case's name. */
void cst_row_case_name(cst_row *row, const char *more, ...) CST_PRINTF(2, 3);
/* The larger of `worst` and |got - want| / scale; infinite when that is no number. */
static inline double cst_row_worse(double worst, double got, double want, double scale)
{
    double e = fabs(got - want) / scale;
    return isnan(e) ? INFINITY : e > worst ? e : worst;
}
/* Tell of the case about to be measured. INTERRUPTED. */
cst_status cst_row_tell(cst_row_run *r, const cst_row *row);
/* Call once, check, time, and append the row. What the calls return. */
cst_status cst_row_measure(cst_row_run *r, cst_mem *m, cst_row_case *c);
/* Fill in value and spread from times; work as in cst_row_case. */
void cst_row_time(cst_row *row, const cst_timing *t, double work);
/* Is row.error within its limit? If not, the row is appended as missing and remembered as wrong. */
cst_status cst_row_right(int *right, cst_row_run *r, cst_row *row);
/* Append row, as missing unless st is OK, with the detail's text. Returns st when there is no use in going on: interrupted, the
 * device gone. */
cst_status cst_row_end(cst_row_run *r, cst_row *row, cst_status st);
cst_status cst_row_missing(cst_row_run *r, cst_row *row, const char *why, ...) CST_PRINTF(3, 4);
/* Samples of a timing. */
int cst_row_samples(const cst_row_run *r);
/* A manager with the run's budget. */
cst_status cst_row_mem(cst_mem **m, const cst_row_run *r);
/* An f32 tensor of n numbers. */
cst_status cst_row_tensor(cst_tensor **t, cst_mem *m, int64_t rows, int64_t cols, const char *name);
/* Even in [-1, 1), multiples of 2^-23. */
float cst_row_number(uint64_t stream, uint64_t i);
/* *x: n of them, malloc'd. */
cst_status cst_row_numbers(float **x, int64_t n, uint64_t stream);

/* The peak's kernel (cl/bench_peak.cl) with its data, also as something that computes beside transfers. */
typedef struct cst_peak {
    cst_mem *m;
    int width, chains;
    int64_t items;
    double flops;            /* of a call */
    char options[64];
    cst_tensor *lane, *y;
} cst_peak;
/* Roundings of 1,024 steps whose errors fade by 1 - 2^-10 each: at most 1,024 * 2^-24 if they all go one way. A step left out is
 * more than that. */
#define CST_PEAK_LIMIT 6.2e-5
typedef struct cst_peak_shape {
    int width, chains, fused;
} cst_peak_shape;
/* Three shapes worth a try on dev, likely the best one first. */
const cst_peak_shape *cst_peak_shapes(const cst_device *dev);
/* p is cleared first; close it also after a failure. */
cst_status cst_peak_open(cst_peak *p, cst_row_run *r, const cst_peak_shape *s);
cst_status cst_peak_close(cst_peak *p, cst_status st);
/* As in cst_row_case. */
cst_status cst_peak_run(void *p, int call);
cst_status cst_peak_check(double *error, void *p);

/* The rows; what they return ends the run. */
cst_status cst_rows_peak(cst_row_run *r);
cst_status cst_rows_triad(cst_row_run *r);
cst_status cst_rows_copy(cst_row_run *r);
cst_status cst_rows_gemm(cst_row_run *r);
cst_status cst_rows_fft(cst_row_run *r);
cst_status cst_rows_reduction(cst_row_run *r);
cst_status cst_rows_transpose(cst_row_run *r);
cst_status cst_rows_softmax(cst_row_run *r);
cst_status cst_rows_layer_norm(cst_row_run *r);
cst_status cst_rows_attention(cst_row_run *r);
cst_status cst_rows_transfer(cst_row_run *r);
cst_status cst_rows_overlap(cst_row_run *r);
cst_status cst_rows_launch(cst_row_run *r);
cst_status cst_rows_build(cst_row_run *r);
cst_status cst_rows_allocation(cst_row_run *r);

#endif
