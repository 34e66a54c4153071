/* What a period costs to find, by length of the sequence: a direct search, the linear one for exact periods, and the
 * autocorrelation by our own transform and by clFFT on the device, which is set up anew for every length.
 *
 *     make && gcc -std=gnu11 -D_GNU_SOURCE -DCL_TARGET_OPENCL_VERSION=120 -O2 -fopenmp -Isrc bench/period_times.c libcastor.a \
 *         -o period_times -lclblast -lclFFT -lOpenCL -ljansson -lxxhash -lpcre2-8 -lzip -lm
 *     ./period_times [log2 of the longest sequence, 22]          (CASTOR_DEVICE chooses the device)
 *
 * Not part of `make all`. Milliseconds, the shortest of three calls, for the device of the first one too. Exit status 1 when the
 * device's correlation isn't the host's.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/random.h"
#include "memory/memory.h"
#include "memory/period.h"

#define DIRECT_MOST (1 << 17)
#define CALLS 3

typedef struct bench {
    uint64_t *s;
    int64_t n;
    cst_mem *m;
    float *r, *got;
} bench;

/* How many accesses agree, at each distance. */
static cst_status direct(bench *b)
{
#pragma omp parallel for schedule(dynamic, 64)
    for (int64_t l = 0; l <= b->n / 2; l++) {
        int64_t same = 0;
        for (int64_t i = 0; i + l < b->n; i++) same += b->s[i] == b->s[i + l];
        b->got[l] = (float)same;
    }
    return CST_OK;
}

static cst_status suffix(bench *b)
{
    cst_period p;
    return cst_period_suffix(&p, b->s, b->n, 2);
}

static cst_status host(bench *b) { return cst_period_correlate_host(b->r, b->s, b->n); }
static cst_status device(bench *b) { return cst_period_correlate_device(b->got, b->s, b->n, b->m); }

static cst_status whole(bench *b)
{
    cst_period p;
    return cst_period_find(&p, b->s, b->n, NULL);
}

/* *first: of the first call; NULL: not asked for. */
static cst_status timed(double *best, double *first, cst_status (*f)(bench *), bench *b)
{
    for (int i = 0; i < CALLS; i++) {
        double t = cst_now();
        CST_TRY(f(b));
        t = 1e3 * (cst_now() - t);
        if (!i && first) *first = t;
        if (!i || t < *best) *best = t;
    }
    return CST_OK;
}

static cst_status row(bench *b)
{
    double t[5] = {-1, -1, -1, -1, -1}, first = -1, worst = 0;
    for (int64_t i = 0; i < b->n; i++) b->s[i] = cst_random_u64(1, 2, (uint64_t)(i % (b->n / 3 + 1))); /* three iterations */
    if (b->n <= DIRECT_MOST) CST_TRY(timed(&t[0], NULL, direct, b));
    CST_TRY(timed(&t[1], NULL, suffix, b));
    CST_TRY(timed(&t[2], NULL, host, b));
    CST_TRY(timed(&t[3], &first, device, b));
    for (int64_t l = 0; l <= b->n / 2; l++) worst = fmax(worst, fabs((double)b->r[l] - b->got[l]));
    CST_TRY(timed(&t[4], NULL, whole, b));
    printf("%9lld %10.2f %10.2f %10.2f %10.2f %10.2f %12.2f   %.2g\n", (long long)b->n, t[0], t[1], t[2], first, t[3], t[4], worst / (double)b->n);
    fflush(stdout);
    return worst <= 1e-4 * (double)b->n ? CST_OK : cst_fail(CST_STATE, "the device's correlation differs by %g", worst);
}

int main(int argc, char **argv)
{
    int most = argc > 1 ? atoi(argv[1]) : 22;
    bench b = {.m = NULL};
    cst_device *dev = NULL;
    if (most < 10 || most > 26) return 2;
    size_t n = (size_t)1 << most;
    cst_device_prepare();
    cst_status st = cst_device_open(&dev, getenv("CASTOR_DEVICE"), 0);
    if (st == CST_OK) st = cst_mem_create(&b.m, dev, 0);
    b.s = malloc(n * sizeof *b.s);
    b.r = malloc((n / 2 + 1) * sizeof *b.r);
    b.got = malloc((n / 2 + 1) * sizeof *b.got);
    if (st == CST_OK && (!b.s || !b.r || !b.got)) st = cst_fail(CST_NO_MEMORY, "sequences");
    if (st == CST_OK) printf("%s\n%9s %10s %10s %10s %10s %10s %12s   %s\n", dev->info.name, "accesses", "direct", "exact", "host", "device 1st", "device",
                             "find (host)", "difference");
    for (int k = 10; k <= most && st == CST_OK; k += 2) b.n = (int64_t)1 << k, st = row(&b);
    if (st != CST_OK) fprintf(stderr, "period_times: %s: %s\n", cst_status_text(st), cst_detail());
    free(b.s);
    free(b.r);
    free(b.got);
    cst_status books = cst_mem_free(b.m);
    cst_device_close(dev);
    return st == CST_NO_DEVICE ? 77 : st != CST_OK || books != CST_OK;
}
