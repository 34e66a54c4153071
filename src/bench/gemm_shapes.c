#include "bench/gemm_shapes.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "bench/measure.h"
#include "op/cross_entropy.h"

#define HIDDEN 1024
#define FFN 4096
#define PROJECTION 512
#define VOCAB 50272
#define LAYERS 24
#define CHECKED 256 /* elements, corners included */

typedef struct shape_list {
    cst_gemm_shape *s;
    int n;
} shape_list;

static void add(shape_list *l, const char *name, const char *pass, int64_t tokens, int64_t m, int64_t n, int64_t k, const char *form,
                int accumulate, int per_step)
{
    cst_gemm_shape *s = &l->s[l->n++];
    *s = (cst_gemm_shape){.tokens = tokens, .m = m, .n = n, .k = k, .trans_a = form[0] == 'T', .trans_b = form[1] == 'T',
                          .accumulate = accumulate, .per_step = per_step};
    snprintf(s->name, sizeof s->name, "%s%s%s", name, *pass ? " " : "", pass);
}

/* The three products of y = x w^T for rows of x [rows,in], w [out,in]. */
static void add_linear(shape_list *l, const char *name, int64_t tokens, int64_t rows, int64_t in, int64_t out, int per_step)
{
    add(l, name, "forward", tokens, rows, out, in, "NT", 0, per_step);
    add(l, name, "dx", tokens, rows, in, out, "NN", 0, per_step);
    add(l, name, "dw", tokens, out, in, rows, "TN", 1, per_step);
}

int cst_gemm_shapes_opt350m(cst_gemm_shape list[CST_GEMM_SHAPES_MOST], int64_t tokens)
{
    shape_list l = {list, 0};
    int64_t chunk = cst_lm_loss_chunk(tokens, VOCAB);
    if (chunk > tokens) chunk = tokens;
    add_linear(&l, "q/k/v/out", tokens, tokens, HIDDEN, HIDDEN, 4 * LAYERS);
    add_linear(&l, "fc1", tokens, tokens, HIDDEN, FFN, LAYERS);
    add_linear(&l, "fc2", tokens, tokens, FFN, HIDDEN, LAYERS);
    add_linear(&l, "project_in", tokens, tokens, PROJECTION, HIDDEN, 1);
    add_linear(&l, "project_out", tokens, tokens, HIDDEN, PROJECTION, 1);
    add_linear(&l, "head", tokens, chunk, PROJECTION, VOCAB, (int)(tokens / chunk));
    if (tokens % chunk) add_linear(&l, "head, rest", tokens, tokens % chunk, PROJECTION, VOCAB, 1);
    return l.n;
}

int cst_gemm_shapes_square(cst_gemm_shape list[CST_GEMM_SHAPES_MOST])
{
    shape_list l = {list, 0};
    for (int64_t n = 512; n <= 2048; n *= 2) add(&l, "square", "", 0, n, n, n, "NN", 0, 0);
    return l.n;
}

cst_status cst_gemm_shape_parse(cst_gemm_shape *s, const char *text)
{
    shape_list l = {s, 0};
    int64_t size[3];
    const char *at = text;
    int ok = 1;
    for (int i = 0; i < 3 && ok; i++) {
        char *end;
        size[i] = strtoll(at, &end, 10);
        ok = end != at && *end == ',' && size[i] >= 1 && size[i] <= 1 << 24;
        at = end + 1;
    }
    if (!ok || strlen(at) != 2 || strspn(at, "NT") != 2)
        return cst_fail(CST_USAGE, "--shape %s: m,n,k,NT is wanted, three sizes from 1 to 16777216 and one of NN, NT, TN, TT", text);
    add(&l, "shape", "", 0, size[0], size[1], size[2], at, 0, 0);
    return CST_OK;
}

const char *cst_gemm_shape_form(const cst_gemm_shape *s)
{
    static const char *const form[] = {"NN", "NT", "TN", "TT"};
    return form[2 * !!s->trans_a + !!s->trans_b];
}

double cst_gemm_shape_flops(const cst_gemm_shape *s)
{
    return 2.0 * (double)s->m * (double)s->n * (double)s->k;
}

static float even(uint64_t stream, int64_t i)
{
    return (float)(int32_t)(cst_random_u64(1, stream, (uint64_t)i) >> 40) * 0x1p-23f - 1.0f;
}

cst_status cst_gemm_trial_open(cst_gemm_trial *t, cst_mem *m, const cst_gemm_shape *s)
{
    double bytes = 0;
    *t = (cst_gemm_trial){.shape = *s, .mem = m, .count = {s->m * s->k, s->k * s->n, s->m * s->n}, .error = -1};
    for (int i = 0; i < 3; i++) {
        t->stride[i] = (t->count[i] + 63) / 64 * 64;
        bytes += 4.0 * (double)t->stride[i];
    }
    t->copies = cst_measure_copies(m, bytes);
    for (int i = 0; i < 3; i++) {
        int64_t n = t->count[i], all = t->stride[i] * t->copies;
        CST_TRY(cst_tensor_create(&t->t[i], m, CST_DATA, CST_F32, 1, &all, "%c", "ABC"[i]));
        CST_TRY(cst_tensor_place(t->t[i]));
        float *x = t->x[i] = malloc((size_t)n * sizeof *x);
        if (!x) return cst_fail(CST_NO_MEMORY, "%" PRId64 " numbers", n);
        int nan = i == 2 && !s->accumulate;
#pragma omp parallel for
        for (int64_t j = 0; j < n; j++) x[j] = nan ? NAN : even((uint64_t)i, j);
        for (int c = 0; c < t->copies; c++) CST_TRY(cst_tensor_write(t->t[i], (size_t)(c * t->stride[i]) * 4, x, (size_t)n * 4));
    }
    return CST_OK;
}

void cst_gemm_trial_close(cst_gemm_trial *t)
{
    for (int i = 0; i < 3; i++) {
        cst_tensor_free(t->t[i]);
        free(t->x[i]);
        t->t[i] = NULL;
        t->x[i] = NULL;
    }
}

static cst_gemm_args product(const cst_gemm_trial *t, int copy)
{
    const cst_gemm_shape *s = &t->shape;
    return (cst_gemm_args){.m = s->m, .n = s->n, .k = s->k, .trans_a = s->trans_a, .trans_b = s->trans_b,
                           .a = t->t[0], .b = t->t[1], .c = t->t[2], .a_at = copy * t->stride[0],
                           .b_at = copy * t->stride[1], .c_at = copy * t->stride[2], .accumulate = s->accumulate};
}

cst_status cst_gemm_trial_run(void *trial, int call)
{
    cst_gemm_trial *t = trial;
    cst_gemm_args g = product(t, call % t->copies);
    return cst_gemm(t->mem, &g);
}

cst_status cst_gemm_trial_choice(cst_gemm_choice *how, const cst_gemm_trial *t)
{
    cst_gemm_args g = product(t, 0);
    return cst_gemm_choose(how, cst_mem_device(t->mem), &g, 0);
}

cst_status cst_gemm_trial_verify(cst_gemm_trial *t)
{
    cst_status st;
    float *c = malloc((size_t)t->count[2] * sizeof *c);
    if (!c) return cst_fail(CST_NO_MEMORY, "%" PRId64 " numbers", t->count[2]);
    CST_GO(cst_tensor_write(t->t[2], 0, t->x[2], (size_t)t->count[2] * 4), out);
    CST_GO(cst_gemm_trial_run(t, 0), out);
    CST_GO(cst_tensor_read(t->t[2], 0, c, (size_t)t->count[2] * sizeof *c), out);
    CST_GO(cst_gemm_trial_check(t, c, "cst_gemm"), out);
out:
    free(c);
    return st;
}

/* Element i,j of the result in double. */
static double element(const cst_gemm_trial *t, int64_t i, int64_t j)
{
    const cst_gemm_shape *s = &t->shape;
    const float *a = t->x[0] + (s->trans_a ? i : i * s->k), *b = t->x[1] + (s->trans_b ? j * s->k : j);
    int64_t da = s->trans_a ? s->m : 1, db = s->trans_b ? 1 : s->n;
    double sum = s->accumulate ? t->x[2][i * s->n + j] : 0;
    for (int64_t p = 0; p < s->k; p++) sum += (double)a[p * da] * b[p * db];
    return sum;
}

cst_status cst_gemm_trial_check(cst_gemm_trial *t, const float *c, const char *who)
{
    const cst_gemm_shape *s = &t->shape;
    int64_t nans = 0;
    double want[CHECKED];
    int64_t at[CHECKED] = {0, s->n - 1, (s->m - 1) * s->n, s->m * s->n - 1};
    for (int i = 4; i < CHECKED; i++) at[i] = (int64_t)(cst_random_u64(2, 0, (uint64_t)i) % (uint64_t)(s->m * s->n));
#pragma omp parallel for
    for (int i = 0; i < CHECKED; i++) want[i] = element(t, at[i] / s->n, at[i] % s->n);
    int worst = 0;
    t->error = -1;
    for (int i = 0; i < CHECKED; i++) {
        double e = fabs(c[at[i]] - want[i]) / (fabs(want[i]) + sqrt((double)s->k));
        if (isnan(e)) e = INFINITY;
        if (e > t->error) t->error = e, worst = i;
    }
    if (t->error > CST_GEMM_TRIAL_LIMIT)
        return cst_fail(CST_DEVICE, "wrong result of %s: %s, %" PRId64 " x %" PRId64 " x %" PRId64 " %s: C[%" PRId64 ",%" PRId64
                        "] = %.9g, not %.9g", who, s->name, s->m, s->n, s->k, cst_gemm_shape_form(s), at[worst] / s->n, at[worst] % s->n,
                        c[at[worst]], want[worst]);
#pragma omp parallel for reduction(+ : nans)
    for (int64_t i = 0; i < s->m * s->n; i++) nans += isnan(c[i]) != 0;
    if (!nans) return CST_OK;
    t->error = INFINITY;
    return cst_fail(CST_DEVICE, "wrong result of %s: %s, %" PRId64 " x %" PRId64 " x %" PRId64 " %s: %" PRId64
                    " elements are NaN, or weren't written", who, s->name, s->m, s->n, s->k, cst_gemm_shape_form(s), nans);
}
