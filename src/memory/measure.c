/* What operators and transfers take, from the device's own clock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "device/program.h"
#include "memory/fault.h"
#include "memory/internal.h"

#define ROUNDS 2 /* iterations measured */
#define WORTH_KEEPING 0.05 /* s: a shorter iteration's operators tell little about another's */
#define WORTH_TIMING (CST_MIB / 4) /* bytes: of smaller transfers beside work the launches would be measured */
#define TRIES 3  /* when iterations aren't the recorded one, or the device doesn't tell times */

/* --- operators: iterations on a queue that keeps times ------------------------------------------------- */

static cst_status begin(cst_mem *m)
{
    cst_measure *x = &m->measure;
    size_t n = (size_t)m->trace->moments;
    cl_int err;
    m->measured = 1;
    cl_command_queue q = clCreateCommandQueue(m->dev->context, m->dev->info.id, CL_QUEUE_PROFILING_ENABLE, &err);
    if (err != CL_SUCCESS) return CST_OK; /* then without */
    x->marks = (int)n;
    x->mark = calloc(n, sizeof *x->mark);
    x->parent = malloc(n * sizeof *x->parent);
    x->called = calloc(n, sizeof *x->called);
    cst_status st = x->mark && x->parent && x->called ? cst_mem_finish(m) : cst_fail(CST_NO_MEMORY, "measuring");
    if (st != CST_OK) {
        clReleaseCommandQueue(q);
        cst_measure_stop(m);
        return st;
    }
    for (size_t i = 0; i < n; i++) x->parent[i] = -1;
    x->usual = m->dev->compute;
    m->dev->compute = q;
    return CST_OK;
}

void cst_measure_mark(cst_mem *m, int moment, int end)
{
    if (moment < 0) return;
    if (!end && m->depth > 1) m->measure.parent[moment] = m->open[m->depth - 2];
    if (!end) m->measure.called[moment] = cst_now();
    cl_event *e = &m->measure.mark[moment][end];
    if (*e || clEnqueueMarkerWithWaitList(m->dev->compute, 0, NULL, e) != CL_SUCCESS) *e = NULL;
}

static double time_of(cl_event e)
{
    cl_ulong t = 0;
    if (!e || clGetEventProfilingInfo(e, CL_PROFILING_COMMAND_END, sizeof t, &t, NULL) != CL_SUCCESS) return 0;
    return 1e-9 * (double)t;
}

/* Time of the markers alone: what the shortest moment takes. */
static double marker_time(const double *took, int n)
{
    double least = -1;
    for (int k = 0; k < n; k++)
        if (took[k] > 0 && (least < 0 || took[k] < least)) least = took[k];
    return least < 0 ? 0 : least;
}

/* Each moment's time, without that of operators inside it, into took[]. 0: the device doesn't tell. */
static int read_times(double *took, const cst_mem *m)
{
    const cst_measure *x = &m->measure;
    int n = m->trace->moments;
    double sum = 0;
    for (int k = 0; k < n; k++) {
        double from = time_of(x->mark[k][0]), to = time_of(x->mark[k][1]);
        took[k] = from > 0 && to > from ? to - from : 0;
        sum += took[k];
    }
    double marker = marker_time(took, n);
    for (int k = n - 1; k >= 0; k--) { /* the inner ones come later: they are whole when they are subtracted */
        if (x->parent[k] >= 0) took[x->parent[k]] -= took[k] + marker;
        took[k] = took[k] > marker ? took[k] - marker : 0;
    }
    return sum > 0;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What the host takes to enqueue a moment: the mean, without the fifth of them that took longest, where it waited for the device or
 * did work of its own. */
static void keep_enqueue(cst_mem *m, double *room)
{
    const cst_measure *x = &m->measure;
    int n = m->trace->moments - 1, most = n - n / 5;
    double sum = 0;
    if (n < 1) return;
    for (int k = 0; k < n; k++) room[k] = x->called[k + 1] - x->called[k];
    qsort(room, (size_t)n, sizeof *room, by_size);
    for (int k = 0; k < most; k++) sum += room[k];
    if (sum > 0 && (x->rounds == 1 || sum / most < m->trace->enqueue)) m->trace->enqueue = sum / most;
}

/* The shorter of two measurements: where the host was late, one is too long. */
static void keep_times(cst_mem *m, const double *took)
{
    cst_trace *t = m->trace;
    double flops = 0, seconds = 0;
    for (int k = 0; k < t->moments; k++) {
        cst_trace_moment *o = &t->moment[k];
        if (m->measure.rounds == 1 || took[k] < o->seconds) o->seconds = took[k];
    }
    for (int k = 0; k < t->moments; k++) {
        if (m->measure.parent[k] < 0 && t->moment[k].flops > 0) flops += t->moment[k].flops;
        int p = m->measure.parent[k];
        if (t->moment[k].flops > 0 || (p >= 0 && t->moment[p].flops > 0)) seconds += t->moment[k].seconds;
    }
    if (flops > 0 && seconds > 0) t->rates.flops = m->rates.flops = flops / seconds;
    double bytes = 0;
    seconds = 0;
    for (int k = 0; k < t->moments; k++) {
        int p = m->measure.parent[k];
        if (t->moment[k].flops > 0 || (p >= 0 && t->moment[p].flops > 0)) continue;
        bytes += cst_trace_bytes(t, k);
        seconds += t->moment[k].seconds;
    }
    if (bytes > 0 && seconds > 0) t->rates.memory = m->rates.memory = bytes / seconds;
}

/* What was measured is kept beside the built kernels for the next run's first plan. */
static void store(cst_mem *m, int rates)
{
    char *path = cst_cache_file("rates", &m->dev->info), *operators = cst_cache_file("operators", &m->dev->info), *dir = cst_cache_dir();
    cst_measure_load(m); /* another run's may have come */
    cst_status st = path && operators ? cst_make_dirs(dir) : cst_fail(CST_NO_MEMORY, "cache");
    if (st == CST_OK && rates) st = cst_rates_save(&m->rates, path);
    if (st == CST_OK) st = cst_operators_learn(&m->operators, m->trace);
    if (st == CST_OK) st = cst_operators_save(&m->operators, operators);
    if (st != CST_OK) cst_log(CST_LOG_DEBUG, "%s", cst_detail());
    free(path);
    free(operators);
    free(dir);
}

static void load_rates(cst_mem *m)
{
    int computing;
    char *path = cst_cache_file("rates", &m->dev->info);
    if (path && cst_path_exists(path) && cst_rates_load(&m->rates, path, &computing) != CST_OK)
        cst_log(CST_LOG_WARN, "%s; left aside", cst_detail());
    free(path);
}

void cst_measure_load(cst_mem *m)
{
    char *path = cst_cache_file("operators", &m->dev->info);
    if (path && cst_path_exists(path) && cst_operators_load(&m->operators, path) != CST_OK) cst_log(CST_LOG_WARN, "%s; left aside", cst_detail());
    free(path);
}

static void forget_marks(cst_mem *m)
{
    cst_measure *x = &m->measure;
    for (int i = 0; x->mark && i < x->marks; i++) {
        for (int k = 0; k < 2; k++)
            if (x->mark[i][k]) clReleaseEvent(x->mark[i][k]);
        x->mark[i][0] = x->mark[i][1] = NULL;
        x->parent[i] = -1;
    }
}

void cst_measure_stop(cst_mem *m)
{
    cst_measure *x = &m->measure;
    if (x->usual) {
        clFinish(m->dev->compute);
        clReleaseCommandQueue(m->dev->compute);
        m->dev->compute = x->usual;
    }
    forget_marks(m);
    free(x->mark);
    free(x->parent);
    free(x->called);
    memset(x, 0, sizeof *x);
}

/* After an iteration that was measured. */
static cst_status collect(cst_mem *m)
{
    CST_TRY(cst_mem_finish(m));
    double *took = malloc((size_t)m->trace->moments * sizeof *took), before = m->plan->seconds;
    if (!took) return cst_fail(CST_NO_MEMORY, "measuring");
    int good = m->on_plan && m->at == m->trace->moments && read_times(took, m);
    if (good) m->measure.rounds++;
    if (good) keep_times(m, took);
    if (good) keep_enqueue(m, took);
    free(took);
    forget_marks(m);
    if (good && m->measure.rounds < ROUNDS) return CST_OK;
    cst_measure_stop(m);
    m->measured = good || ++m->measure_tries == TRIES;
    if (!good) return CST_OK;
    CST_TRY(cst_step_plan(m, cst_mem_plan_room(m)));
    int long_enough = m->plan->compute_seconds > WORTH_KEEPING;
    if (long_enough || m->keep_times) store(m, long_enough);
    cst_log(CST_LOG_DEBUG, "planned with measured times: %.1f ms a step (%.1f ms guessed before), of which %.1f ms are operators; the host takes %.0f us to enqueue one",
            1e3 * m->plan->seconds, 1e3 * before, 1e3 * m->plan->compute_seconds, 1e6 * m->trace->enqueue);
    return CST_OK;
}

cst_status cst_measure_step(cst_mem *m)
{
    if (m->measure.usual) return collect(m);
    return m->plan_iterations++ && !m->measured ? begin(m) : CST_OK; /* not the first: it may bring everything up */
}

/* --- transfers --------------------------------------------------------------------------------------------- */

typedef struct transfers {
    cl_mem b;
    char *host;
    size_t bytes;            /* of one; b and host have room for one each way */
    int planning;            /* m's, before */
} transfers;

static void room_end(transfers *x, cst_mem *m, cst_status st)
{
    if (x->b) {
        if (st != CST_OK) cst_mem_finish(m); /* something may still be running */
        clReleaseMemObject(x->b);
        m->dev->released++;
        m->stats.reserved -= 2 * x->bytes;
    }
    cst_host_free(m, x->host);
    m->planning = x->planning;
}

static cst_status enqueue(cst_mem *m, const transfers *x, int up, int down)
{
    cl_int err = CL_SUCCESS;
    if (up)
        err = CST_FAULT(CST_FAULT_TRANSFER, CL_OUT_OF_RESOURCES,
                        clEnqueueWriteBuffer(m->dev->up, x->b, CL_FALSE, 0, x->bytes, x->host, 0, NULL, NULL));
    if (down && err == CL_SUCCESS)
        err = CST_FAULT(CST_FAULT_TRANSFER, CL_OUT_OF_RESOURCES,
                        clEnqueueReadBuffer(m->dev->down, x->b, CL_FALSE, x->bytes, x->bytes, x->host + x->bytes, 0, NULL, NULL));
    return cst_cl(err, "transfer");
}

/* Seconds of one transfer each way that is asked for, of many in a row: single ones are faster than what lasts. */
static cst_status transfer_time(double *seconds, cst_mem *m, const transfers *x, int up, int down)
{
    enum { TIMES = 32 };
    double from = 0;
    for (int i = 0; i <= TIMES; i++) {
        CST_TRY(enqueue(m, x, up, down));
        if (i) continue;
        CST_TRY(cst_mem_finish(m)); /* the first one warms up */
        from = cst_now();
    }
    CST_TRY(cst_mem_finish(m));
    *seconds = (cst_now() - from) / TIMES;
    return CST_OK;
}

/* Room on both sides for transfers to measure: of what the plan takes at least. b NULL afterwards: there is too little. */
static cst_status room_begin(transfers *x, cst_mem *m)
{
    cst_status st;
    *x = (transfers){.bytes = 16 * CST_MIB, .planning = m->planning};
    while (x->bytes > 4096 && 2 * x->bytes > m->largest) x->bytes /= 2;
    if (2 * x->bytes > m->largest) return CST_OK;
    m->planning = 0;
    CST_GO(cst_mem_buffer(m, &x->b, 2 * x->bytes), fail);
    CST_GO(cst_host_alloc((void **)&x->host, m, 2 * x->bytes), fail);
    return CST_OK;
fail:
    room_end(x, m, st);
    return st;
}

static double between(double least, double x, double most) { return x < least ? least : x > most ? most : x; }

cst_status cst_measure_rates(cst_mem *m)
{
    transfers x;
    double up, down, both;
    cst_status st;
    load_rates(m);
    cst_measure_load(m);
    CST_TRY(room_begin(&x, m));
    if (!x.b) return CST_OK; /* the guess stays */
    CST_GO(transfer_time(&up, m, &x, 1, 0), out);
    CST_GO(transfer_time(&down, m, &x, 0, 1), out);
    CST_GO(transfer_time(&both, m, &x, 1, 1), out);
    m->rates.up = (double)x.bytes / up;
    m->rates.down = (double)x.bytes / down;
    m->rates.both = between(0.5, (up > down ? up : down) / both, 1);
    cst_log(CST_LOG_DEBUG, "transfers: %.1f GB/s up, %.1f GB/s down, %.2f of that both at once", 1e-9 * m->rates.up, 1e-9 * m->rates.down,
            m->rates.both);
out:
    room_end(&x, m, st);
    return st;
}

/* Work while `n` transfers go each way; *took: until the work, until all was done. */
static cst_status work_beside(double took[2], cst_mem *m, const transfers *x, int n, void (*work)(void *), void *user)
{
    double from = cst_now();
    for (int i = 0; i < n; i++) CST_TRY(enqueue(m, x, 1, 1));
    CST_TRY(cst_cl(clFlush(m->dev->up), "transfer"));
    CST_TRY(cst_cl(clFlush(m->dev->down), "transfer"));
    work(user);
    took[0] = cst_now() - from;
    CST_TRY(cst_mem_finish(m));
    took[1] = cst_now() - from;
    return CST_OK;
}

cst_status cst_mem_host_speed(cst_host_speed *s, cst_mem *m, void (*work)(void *), void *user)
{
    enum { TIMES = 3 };
    transfers x;
    cst_status st = CST_OK;
    *s = (cst_host_speed){.share = 1, .transfers = 1};
    work(user);
    double from = cst_now();
    for (int i = 0; i < TIMES; i++) work(user);
    s->seconds = (cst_now() - from) / TIMES;
    CST_TRY(room_begin(&x, m));
    if (!x.b || x.bytes < WORTH_TIMING) goto out;
    double one = (double)x.bytes / ((m->rates.up < m->rates.down ? m->rates.up : m->rates.down) * m->rates.both), took[2];
    double share = 0, kept = 0;
    int n = 4 + (int)(2 * s->seconds / one), good = 0;
    for (int i = 0; i < 2 * TIMES && good < TIMES; i++) {
        CST_GO(work_beside(took, m, &x, n, work, user), out);
        double alone = n * one - (took[1] - took[0]); /* seconds that what was done of them beside the work takes alone */
        if (took[0] > 0.9 * took[1]) { /* not all of the work was beside them */
            n *= 2;
            continue;
        }
        share += s->seconds / took[0];
        kept += alone / took[0];
        good++;
    }
    if (good) {
        s->share = between(0.1, share / good, 1);
        s->transfers = between(0.1, kept / good, 1);
    }
out:
    room_end(&x, m, st);
    return st;
}
