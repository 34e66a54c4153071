#include "bench/measure.h"

#include <stdio.h>
#include <stdlib.h>

#define SAMPLE_SECONDS 5e-3 /* so that neither the clock nor waiting for the device counts */
#define CALLS_MOST 1000
#define COLD_BYTES 201326592.0 /* more than the caches that devices don't tell of */
#define SAMPLES_MOST 100000
#define COPIES_MOST 64

void cst_timing_from(cst_timing *t, double *ms, int n, int calls)
{
    cst_sort_times(ms, (size_t)n);
    *t = (cst_timing){(ms[n / 2] + ms[(n - 1) / 2]) / 2, ms[0], ms[n - 1], n, calls};
}

double cst_timing_spread(const cst_timing *t)
{
    return 100 * (t->ms_max - t->ms_min) / t->ms;
}

int cst_measure_calls(double seconds)
{
    double calls = SAMPLE_SECONDS / seconds;
    return calls < 1 ? 1 : calls > CALLS_MOST ? CALLS_MOST : (int)calls;
}

/* Seconds of one of `calls` calls, counted on in *at. */
static cst_status sample(double *seconds, cst_mem *m, cst_timed run, void *what, int *at, int calls)
{
    double t0 = cst_now();
    for (int i = 0; i < calls; i++) CST_TRY(run(what, (*at)++));
    CST_TRY(cst_mem_finish(m));
    *seconds = (cst_now() - t0) / calls;
    return CST_OK;
}

/* `sides` things in turn, see cst_measure_pair. */
static cst_status measure(cst_timing *t, double *ratio, int sides, cst_mem *const *m, int64_t samples, const cst_timed *run,
                          void *const *what)
{
    cst_status st = CST_OK;
    int at[2] = {0}, calls[2];
    double s, *ms;
    if (samples < 1 || samples > SAMPLES_MOST) return cst_fail(CST_USAGE, "--repeat: 1 to %d samples", SAMPLES_MOST);
    ms = malloc((size_t)samples * 3 * sizeof *ms);
    if (!ms) return cst_fail(CST_NO_MEMORY, "samples");
    for (int k = 0; k < sides; k++) {
        CST_GO(sample(&s, m[k], run[k], what[k], &at[k], 1), out);
        CST_GO(sample(&s, m[k], run[k], what[k], &at[k], 1), out);
        calls[k] = cst_measure_calls(s);
    }
    for (int64_t i = 0; i < samples; i++) {
        for (int k = 0; k < sides; k++) {
            CST_GO(sample(&s, m[k], run[k], what[k], &at[k], calls[k]), out);
            ms[k * samples + i] = s * 1e3;
        }
        if (sides == 2) ms[2 * samples + i] = ms[i] / ms[samples + i];
    }
    for (int k = 0; k < sides; k++) cst_timing_from(&t[k], ms + k * samples, (int)samples, calls[k]);
    if (sides == 2) {
        cst_timing of_ratio;
        cst_timing_from(&of_ratio, ms + 2 * samples, (int)samples, 1);
        *ratio = of_ratio.ms;
    }
out:
    free(ms);
    return st;
}

cst_status cst_measure(cst_timing *t, cst_mem *m, int64_t samples, cst_timed run, void *what)
{
    return measure(t, NULL, 1, &m, samples, &run, &what);
}

cst_status cst_measure_pair(cst_timing t[2], double *ratio, cst_mem *const m[2], int64_t samples, const cst_timed run[2],
                            void *const what[2])
{
    return measure(t, ratio, 2, m, samples, run, what);
}

int cst_measure_copies(const cst_mem *m, double bytes)
{
    cst_mem_stats stats;
    cst_mem_get_stats(m, &stats);
    double cold = 2.0 * (double)cst_mem_device(m)->info.cache_bytes, copies;
    if (cold < COLD_BYTES) cold = COLD_BYTES;
    copies = cold / bytes + 1;
    if (copies < 2) copies = 2;
    if (copies > COPIES_MOST) copies = COPIES_MOST;
    if (copies * bytes > (double)stats.budget / 2) copies = (double)stats.budget / 2 / bytes;
    return copies < 1 ? 1 : (int)copies;
}

cst_status cst_measure_end(cst_mem *m, cst_status st)
{
    char why[2048];
    snprintf(why, sizeof why, "%s", cst_detail());
    cst_mem_finish(m);
    cst_status books = cst_mem_free(m);
    return st == CST_OK ? books : cst_fail(st, "%s", why);
}
