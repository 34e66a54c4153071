/* What a device can do, measured: the rows of `castor bench device`, which `castor bench submit` writes to its result file.
 *
 * Each result is checked against a reference in double on the host before its time counts. Ceilings: the multiply-add peak that was
 * measured for matrix products and attention, the triad's bytes a second for what moves memory, the best of the transfers
 * for transfers. A row that needs one of them has that one measured as well.
 */
#ifndef CST_BENCH_DEVICE_ROWS_H
#define CST_BENCH_DEVICE_ROWS_H

#include "bench/result.h"

typedef struct cst_bench_device_options {
    int quick;               /* few cases and samples: under half a minute on two cores */
    const char *rows;        /* names with commas; NULL: all */
    uint64_t device_mem;     /* budget of device memory in bytes; 0: what is safe */
    void (*progress)(void *user, const char *row, const char *what); /* before each case; what is "" for a row's start. May be NULL */
    int (*interrupted)(void *user); /* asked between cases. May be NULL */
    void *user;
} cst_bench_device_options;

typedef struct cst_bench_device_name {
    const char *name, *about; /* "fft", "clFFT, complex and real, 2^8 to 2^20 and sizes with 3, 5, 7" */
} cst_bench_device_name;

/* The rows there are, in the order they are measured; *list is static. */
int cst_bench_device_names(const cst_bench_device_name **list);
/* OK when `rows` (see options) names only rows that there are; USAGE names the others and what there is. */
cst_status cst_bench_device_check(const char *rows);
/* Measure on dev and append to *out what comes, so that after a failure the rows until then are there. What the device lacks is a
 * row with `missing`. USAGE as above; INTERRUPTED; DEVICE when the device is gone, and, with all rows measured, when a result
 * was wrong (its row is missing; the detail names it). Choices of engines for matrix products are forgotten. */
cst_status cst_bench_device(cst_rows *out, cst_device *dev, const cst_bench_device_options *o);

#endif
