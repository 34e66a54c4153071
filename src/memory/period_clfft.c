/* Autocorrelation on the device, by clFFT. Complex transforms in place: for real ones of these lengths clFFT 2.12 makes a buffer
 * of its own besides the one it is given. */
#include <clFFT.h>
#include <pthread.h>

#include "memory/internal.h"
#include "memory/launch.h"
#include "memory/period_internal.h"

/* clFFT makes 128 bytes of constants for each of a plan's kernels; there are a handful. */
#define CONSTANTS ((uint64_t)4096)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* clFFT's tables are global */

typedef struct work {
    cst_mem *m;
    cl_mem s, x, power, room; /* accesses; the complex numbers; their powers, later the result; what clFFT needs */
    size_t bytes[4], n, points;
    clfftPlanHandle plan;
    int set_up, planned;
} work;

static cst_status fft(clfftStatus code, const char *what)
{
    if (code == CLFFT_SUCCESS) return CST_OK;
    return code < 0 ? cst_cl((cl_int)code, what) : cst_fail(CST_DEVICE, "clFFT: %s: status %d", what, (int)code);
}

static cst_status make_plan(work *k)
{
    cst_device *dev = k->m->dev;
    clfftSetupData setup = {.major = clfftVersionMajor, .minor = clfftVersionMinor, .patch = clfftVersionPatch};
    CST_TRY(fft(clfftSetup(&setup), "clfftSetup"));
    k->set_up = 1;
    CST_TRY(fft(clfftCreateDefaultPlan(&k->plan, dev->context, CLFFT_1D, &k->points), "clfftCreateDefaultPlan"));
    k->planned = 1;
    CST_TRY(fft(clfftSetPlanPrecision(k->plan, CLFFT_SINGLE), "clfftSetPlanPrecision"));
    CST_TRY(fft(clfftSetLayout(k->plan, CLFFT_COMPLEX_INTERLEAVED, CLFFT_COMPLEX_INTERLEAVED), "clfftSetLayout"));
    CST_TRY(fft(clfftSetResultLocation(k->plan, CLFFT_INPLACE), "clfftSetResultLocation"));
    CST_TRY(fft(clfftSetPlanScale(k->plan, CLFFT_BACKWARD, 1), "clfftSetPlanScale"));
    CST_TRY(fft(clfftBakePlan(k->plan, 1, &dev->compute, NULL, NULL), "clfftBakePlan"));
    return fft(clfftGetTmpBufSize(k->plan, &k->bytes[3]), "clfftGetTmpBufSize");
}

static cst_status make_buffers(work *k)
{
    cl_mem *at[] = {&k->s, &k->x, &k->power, &k->room};
    k->bytes[0] = 8 * k->n;
    k->bytes[1] = 8 * k->points;
    k->bytes[2] = 4 * k->points;
    for (int i = 0; i < 4; i++)
        if (k->bytes[i]) CST_TRY(cst_mem_buffer(k->m, at[i], k->bytes[i]));
    return CST_OK;
}

static void release(work *k)
{
    cl_mem at[] = {k->s, k->x, k->power, k->room};
    for (int i = 0; i < 4; i++) {
        if (!at[i]) continue;
        clReleaseMemObject(at[i]);
        k->m->dev->released++;
        k->m->stats.reserved -= k->bytes[i];
    }
    if (k->planned) clfftDestroyPlan(&k->plan);
    if (k->set_up) clfftTeardown();
}

static cst_status transform(work *k, clfftDirection direction)
{
    return fft(clfftEnqueueTransform(k->plan, direction, 1, &k->m->dev->compute, 0, NULL, NULL, &k->x, NULL, k->room), "clfftEnqueueTransform");
}

static cst_status run(cst_launch *l, const work *k, size_t items)
{
    size_t group = cst_flat_group(k->m->dev, "period"), all = cst_round_up(items, group);
    return cst_launch_run(l, 1, &all, &group);
}

static cst_status view(const work *k, int pair)
{
    cst_launch l;
    cst_launch_begin(&l, k->m, "period", "period_view", NULL);
    cst_launch_mem(&l, "s", k->s);
    cst_launch_mem(&l, "x", k->x);
    cst_launch_ulong(&l, "n", k->n);
    cst_launch_ulong(&l, "points", k->points);
    cst_launch_int(&l, "pair", pair);
    return run(&l, k, k->points);
}

static cst_status power(const work *k, int pair)
{
    cst_launch l;
    cst_launch_begin(&l, k->m, "period", "period_power", NULL);
    cst_launch_mem(&l, "x", k->x);
    cst_launch_mem(&l, "power", k->power);
    cst_launch_ulong(&l, "points", k->points);
    cst_launch_int(&l, "first", pair == 0);
    cst_launch_int(&l, "last", pair == CST_PERIOD_VIEWS / 2 - 1);
    return run(&l, k, k->points);
}

static cst_status real_part(const work *k, size_t count)
{
    cst_launch l;
    cst_launch_begin(&l, k->m, "period", "period_real", NULL);
    cst_launch_mem(&l, "x", k->x);
    cst_launch_mem(&l, "r", k->power);
    cst_launch_ulong(&l, "count", count);
    cst_launch_float(&l, "scale", 1 / ((float)k->points * CST_PERIOD_VIEWS));
    return run(&l, k, count);
}

static cst_status compute(float *r, const uint64_t *s, work *k)
{
    cst_mem *m = k->m;
    size_t count = k->n / 2 + 1;
    CST_TRY(make_plan(k));
    CST_TRY(make_buffers(k));
    CST_TRY(cst_cl(clEnqueueWriteBuffer(m->dev->compute, k->s, CL_TRUE, 0, k->bytes[0], s, 0, NULL, NULL), "clEnqueueWriteBuffer"));
    m->stats.h2d_bytes += k->bytes[0];
    for (int pair = 0; pair < CST_PERIOD_VIEWS / 2; pair++) {
        CST_TRY(view(k, pair));
        CST_TRY(transform(k, CLFFT_FORWARD));
        CST_TRY(power(k, pair));
    }
    CST_TRY(transform(k, CLFFT_BACKWARD));
    CST_TRY(real_part(k, count));
    CST_TRY(cst_cl(clEnqueueReadBuffer(m->dev->compute, k->power, CL_TRUE, 0, 4 * count, r, 0, NULL, NULL), "clEnqueueReadBuffer"));
    m->stats.d2h_bytes += 4 * count;
    return CST_OK;
}

cst_status cst_period_correlate_device(float *r, const uint64_t *s, int64_t n, cst_mem *m)
{
    work k = {.m = m, .n = (size_t)n, .points = (size_t)cst_period_points(n)};
    if (m->planning) return cst_fail(CST_STATE, "a period is looked for while the manager is planning");
    if (m->stats.reserved + CONSTANTS > m->stats.budget) return cst_fail(CST_OVER_BUDGET, "no room for a transform's constants");
    pthread_mutex_lock(&lock);
    m->stats.reserved += CONSTANTS;
    cst_status st = compute(r, s, &k);
    if (st != CST_OK) cst_mem_finish(m); /* something may still be running */
    release(&k);
    m->stats.reserved -= CONSTANTS;
    pthread_mutex_unlock(&lock);
    return st;
}
