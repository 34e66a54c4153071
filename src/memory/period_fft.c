/* Autocorrelation on the host: our own transform, radix 2, recursive, so that it is quick in every cache. Forward it leaves the
 * spectrum in bit-reversed order and backward it takes it so: the order doesn't matter to powers. */
#include <math.h>
#include <stdlib.h>

#include "memory/period_internal.h"

#define ALONE (1 << 14) /* points that one thread does */

typedef struct number { float re, im; } number;

/* w[h + i] = exp(-2 pi i / 2h), for every half h: each level reads its own in order. */
static number *make_roots(int64_t points)
{
    number *w = malloc((size_t)points * sizeof *w);
    for (int64_t h = 1; w && h < points; h *= 2)
#pragma omp parallel for schedule(static) if (h > ALONE)
        for (int64_t i = 0; i < h; i++) {
            double a = -M_PI * (double)i / (double)h;
            w[h + i] = (number){(float)cos(a), (float)sin(a)};
        }
    return w;
}

static void forward(number *x, int64_t points, const number *w)
{
    int64_t h = points / 2;
    if (!h) return;
    for (int64_t i = 0; i < h; i++) {
        number a = x[i], b = x[i + h], d = {a.re - b.re, a.im - b.im}, r = w[h + i];
        x[i] = (number){a.re + b.re, a.im + b.im};
        x[i + h] = (number){d.re * r.re - d.im * r.im, d.re * r.im + d.im * r.re};
    }
#pragma omp task if (h >= ALONE)
    forward(x, h, w);
    forward(x + h, h, w);
#pragma omp taskwait
}

/* Without the division by the number of points. */
static void backward(number *x, int64_t points, const number *w)
{
    int64_t h = points / 2;
    if (!h) return;
#pragma omp task if (h >= ALONE)
    backward(x, h, w);
    backward(x + h, h, w);
#pragma omp taskwait
    for (int64_t i = 0; i < h; i++) {
        number a = x[i], c = x[i + h], r = w[h + i];
        number b = {c.re * r.re + c.im * r.im, c.im * r.re - c.re * r.im};
        x[i] = (number){a.re + b.re, a.im + b.im};
        x[i + h] = (number){a.re - b.re, a.im - b.im};
    }
}

static void view(number *x, const uint64_t *s, int64_t n, int64_t points, int pair)
{
#pragma omp parallel for schedule(static) if (points > ALONE)
    for (int64_t i = 0; i < points; i++) {
        uint64_t bits = i < n ? cst_period_mix(s[i]) >> 2 * pair : 0;
        x[i] = i < n ? (number){bits & 1 ? 1 : -1, bits & 2 ? 1 : -1} : (number){0, 0};
    }
}

cst_status cst_period_correlate_host(float *r, const uint64_t *s, int64_t n)
{
    int64_t points = cst_period_points(n);
    number *w = make_roots(points), *x = malloc((size_t)points * sizeof *x);
    float *power = calloc((size_t)points, sizeof *power);
    cst_status st = w && x && power ? CST_OK : cst_fail(CST_NO_MEMORY, "period of %lld accesses", (long long)n);
    if (st != CST_OK) goto out;
    for (int pair = 0; pair < CST_PERIOD_VIEWS / 2; pair++) {
        view(x, s, n, points, pair);
#pragma omp parallel if (points > ALONE)
#pragma omp single
        forward(x, points, w);
#pragma omp parallel for schedule(static) if (points > ALONE)
        for (int64_t i = 0; i < points; i++) power[i] += x[i].re * x[i].re + x[i].im * x[i].im;
    }
    for (int64_t i = 0; i < points; i++) x[i] = (number){power[i], 0};
#pragma omp parallel if (points > ALONE)
#pragma omp single
    backward(x, points, w);
    for (int64_t i = 0; i <= n / 2; i++) r[i] = x[i].re / ((float)points * CST_PERIOD_VIEWS);
out:
    free(w);
    free(x);
    free(power);
    return st;
}
