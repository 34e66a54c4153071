/* What the measuring commands share: medians, a loop that times something on the device. */
#ifndef CST_BENCH_MEASURE_H
#define CST_BENCH_MEASURE_H

#include "base/clock.h"
#include "memory/memory.h"

/* Times of one call in milliseconds: median, fastest and slowest of `samples`, each the mean of `calls`. */
typedef struct cst_timing {
    double ms, ms_min, ms_max;
    int samples, calls;
} cst_timing;

/* Sorts ms[0..n), n >= 1, and fills t. */
void cst_timing_from(cst_timing *t, double *ms, int n, int calls);
/* (slowest - fastest) / median in percent. */
double cst_timing_spread(const cst_timing *t);

/* What is timed: enqueue it once more. call counts from 0: copy call % copies of the data is the one to use. */
typedef cst_status (*cst_timed)(void *what, int call);
/* Time `run`: two calls untimed (kernels are built, pages touched), then `samples` samples of as many calls as
 * fill about 5 ms, each waited for as a whole. Returns what run or the device returns; USAGE unless samples is
 * 1..100000. */
cst_status cst_measure(cst_timing *t, cst_mem *m, int64_t samples, cst_timed run, void *what);
/* The same of two things in turn, a sample of one and a sample of the other, so that both see the same machine: t[0]
 * and t[1] of run[0], what[0] in m[0] and run[1], what[1] in m[1]; *ratio: median over the pairs of the time of the first over
 * that of the second. */
cst_status cst_measure_pair(cst_timing t[2], double *ratio, cst_mem *const m[2], int64_t samples, const cst_timed run[2],
                            void *const what[2]);
/* Calls that a sample takes when one call takes so long. */
int cst_measure_calls(double seconds);

/* Copies of `bytes` of data to go through in turn, so that none is still in a cache when it comes again: as many as
 * exceed the caches, 1..64, within half of m's budget. A step of training finds its weights cold, too. */
int cst_measure_copies(const cst_mem *m, double bytes);
/* Wait for the device and free m. Returns st with its detail, or what freeing returns when st is OK. */
cst_status cst_measure_end(cst_mem *m, cst_status st);

#endif
