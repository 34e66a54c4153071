#include "op/adamw.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "memory/launch.h"

/* What one step multiplies by: computed in double, rounded once, the same for the kernel and the host. */
typedef struct factors {
    float decay, lerp1, beta2, lerp2, root2, eps, step;
} factors;

static factors get_factors(const cst_adamw_step *s)
{
    return (factors){
        .decay = (float)(1.0 - s->lr * s->weight_decay),
        .lerp1 = (float)(1.0 - s->beta1),
        .beta2 = (float)s->beta2,
        .lerp2 = (float)(1.0 - s->beta2),
        .root2 = (float)sqrt(s->bias2),
        .eps = (float)s->eps,
        .step = (float)(s->lr / s->bias1),
    };
}

cst_status cst_adamw(cst_mem *m, cst_tensor *w, const cst_tensor *g, int64_t at, cst_tensor *m1, cst_tensor *m2,
                     const cst_tensor *norm, int64_t which, const cst_adamw_step *s)
{
    cst_launch l;
    factors f = s ? get_factors(s) : (factors){0};
    const cst_device *dev = cst_mem_device(m);
    size_t n = (size_t)cst_tensor_count(m1), vec = (size_t)cst_device_shape(dev, "adamw").vec;
    size_t group = cst_flat_group(dev, "adamw");
    size_t items = s ? cst_round_up(cst_round_up(n, vec) / vec, group) : 0;
    CST_TRY(cst_expect("adamw", w, CST_F32, w->rank, 0, 0));
    CST_TRY(cst_expect("adamw", g, CST_F32, w->rank, w->dim[0], w->dim[1]));
    CST_TRY(cst_expect("adamw", m1, CST_F32, m1->rank, 0, 0));
    CST_TRY(cst_expect("adamw", m2, CST_F32, m2->rank, 0, 0));
    if (cst_tensor_count(g) != cst_tensor_count(w)) return cst_fail(CST_USAGE, "adamw: %s and %s differ in size", w->name, g->name);
    if (cst_tensor_count(m2) != (int64_t)n || at < 0 || at > cst_tensor_count(w) - (int64_t)n)
        return cst_fail(CST_USAGE, "adamw: %s and %s aren't the moments of a piece of %s from element %" PRId64 " on", m1->name, m2->name, w->name, at);
    CST_TRY(cst_expect("adamw", norm, CST_F32, 1, 0, 0));
    if (which < 0 || which >= norm->dim[0] / 4 || norm->dim[0] % 4)
        return cst_fail(CST_USAGE, "adamw: result %" PRId64 " of %s, which has %" PRId64 " values, four a result", which, norm->name, norm->dim[0]);
    cst_launch_begin(&l, m, "adamw", "adamw", NULL);
    cst_launch_update(&l, "w", w, at);
    cst_launch_read(&l, "grad", g, at);
    cst_launch_update(&l, "m1", m1, 0);
    cst_launch_update(&l, "m2", m2, 0);
    cst_launch_read(&l, "norm", norm, 4 * which);
    cst_launch_ulong(&l, "n", n);
    cst_launch_float(&l, "decay", f.decay);
    cst_launch_float(&l, "lerp1", f.lerp1);
    cst_launch_float(&l, "beta2", f.beta2);
    cst_launch_float(&l, "lerp2", f.lerp2);
    cst_launch_float(&l, "root2", f.root2);
    cst_launch_float(&l, "eps", f.eps);
    cst_launch_float(&l, "step", f.step);
    return cst_launch_run(&l, 1, &items, &group);
}

/* The body, compiled once for each instruction set below. The same steps as cl/adamw.cl: change both. Every
 * operation is rounded on its own (fmaf is exact with or without the instruction), so the instruction set
 * doesn't show in the result. */
static inline __attribute__((always_inline)) void update(float *restrict w, const float *restrict grad,
                                                         float *restrict m1, float *restrict m2, size_t n,
                                                         float coefficient, const factors *p)
{
    const factors f = *p;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float g = grad[i] * coefficient;
        float a = fmaf(f.lerp1, fmaf(grad[i], coefficient, -m1[i]), m1[i]);
        float b = fmaf(g * f.lerp2, g, m2[i] * f.beta2);
        float d = sqrtf(b) / f.root2 + f.eps;
        m1[i] = a;
        m2[i] = b;
        w[i] = fmaf(-f.step, a / d, w[i] * f.decay);
    }
}

typedef void update_fn(float *, const float *, float *, float *, size_t, float, const factors *);

#define VARIANT(name, attribute)                                                                                       \
    attribute static void name(float *w, const float *g, float *m1, float *m2, size_t n, float c, const factors *f)    \
    {                                                                                                                  \
        update(w, g, m1, m2, n, c, f);                                                                                 \
    }

VARIANT(update_any, )
#if defined(__GNUC__) && defined(__x86_64__)
VARIANT(update_avx2, __attribute__((target("avx2,fma"))))
VARIANT(update_avx512, __attribute__((target("avx512f,avx2,fma"))))
#endif

static update_fn *choose(void)
{
#if defined(__GNUC__) && defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) return update_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return update_avx2;
#endif
    return update_any;
}

void cst_adamw_host(float *w, const float *g, float *m1, float *m2, float *copy, size_t n, float coefficient,
                    const cst_adamw_step *s)
{
    const size_t block = 32768; /* enough that handing it out costs nothing */
    factors f = get_factors(s);
    update_fn *run = choose();
#pragma omp parallel for schedule(static)
    for (size_t b = 0; b < (n + block - 1) / block; b++) {
        size_t i = b * block, count = n - i < block ? n - i : block;
        run(w + i, g + i, m1 + i, m2 + i, count, coefficient, &f);
        if (copy) memcpy(copy + i, w + i, count * sizeof *w);
    }
}

#define SAMPLE ((size_t)1 << 26) /* elements: the five arrays must be many times what caches hold (2^24 on a Xeon with 32 cores: twice as fast) */
#define PIECE ((size_t)1 << 24)  /* as large as a matrix: handing it out and waiting for the last thread count */

static void sample(void *user)
{
    const cst_adamw_step s = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .bias1 = 1, .bias2 = 1};
    float **x = user;
    for (size_t i = 0; i < SAMPLE; i += PIECE) cst_adamw_host(x[0] + i, x[1] + i, x[2] + i, x[3] + i, x[4] + i, PIECE, 1, &s);
}

cst_status cst_adamw_host_speed(cst_host_speed *s, cst_mem *m)
{
    enum { ARRAYS = 5 };
    float *x[ARRAYS] = {NULL};
    cst_status st = CST_OK;
    for (int k = 0; k < ARRAYS; k++) CST_GO(cst_host_alloc_pageable((void **)&x[k], m, SAMPLE * sizeof(float)), out);
    CST_GO(cst_mem_host_speed(s, m, sample, x), out);
    s->seconds /= (double)SAMPLE;
out:
    for (int k = 0; k < ARRAYS; k++) cst_host_free(m, x[k]);
    return st;
}
