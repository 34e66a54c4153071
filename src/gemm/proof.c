/* Engines prove themselves on a device before they are used: once, the verdict is kept beside the kernel cache. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/random.h"
#include "device/verdict.h"
#include "gemm/engine.h"
#include "gemm/packed.h"
#include "gemm/state.h"

#define M 141 /* one more than some tiles, one less than others */
#define N 151
#define BUDGET ((uint64_t)24 << 20)

/* Will the product take B from a packed copy? */
static int packed(const cst_gemm_args *g, const cst_gemm_choice *how)
{
    return how->engine == CST_GEMM_NATIVE && cst_packed_for(g) != NULL;
}

/* A verdict holds for this engine, form and types, these kernels and, with CLBlast, these settings. */
static void describe(char *text, size_t size, const cst_gemm_state *s, const cst_gemm_args *g, const cst_gemm_choice *how)
{
    char variant[48];
    uint64_t hash = s->tuning.has_xgemm ? XXH3_64bits(&s->tuning.xgemm, sizeof s->tuning.xgemm) : 0;
    if (how->engine == CST_GEMM_CLBLAST) hash ^= cst_verdict_hash("gemm_epilogue");
    else hash = how->engine == CST_GEMM_SPLIT ? cst_verdict_hash("gemm_split") ^ cst_verdict_hash("gemm_epilogue") : cst_verdict_hash("gemm_cpu");
    snprintf(text, size, "%s%s %c%c %s %s %016llx", cst_gemm_choice_text(variant, how), packed(g, how) ? " packed" : "", "NT"[g->trans_a != 0], "NT"[g->trans_b != 0],
             cst_type_name(g->a->type), cst_type_name(g->b->type), (unsigned long long)hash);
}

/* rows x cols numbers of this type, each exact in bf16, and the same as floats. */
static cst_status operand(cst_tensor **t, float **x, cst_mem *m, cst_type type, int64_t rows, int64_t cols, uint64_t stream)
{
    cst_status st;
    int64_t n = rows * cols;
    *x = malloc((size_t)n * sizeof **x);
    uint16_t *half = malloc((size_t)n * sizeof *half);
    if (!*x || !half) {
        st = cst_fail(CST_NO_MEMORY, "proof");
        goto out;
    }
    for (int64_t i = 0; i < n; i++) {
        uint64_t r = cst_random_u64(3, stream, (uint64_t)i);
        uint32_t bits = (uint32_t)(r & 0x80000000) | (uint32_t)(120 + (r >> 8) % 8) << 23 |
                        (uint32_t)(r >> 16 & 0x7f) << 16; /* 1/128 <= |x| < 2 */
        memcpy(&(*x)[i], &bits, 4);
        half[i] = type == CST_BF16
                      ? (uint16_t)(bits >> 16)
                      : (uint16_t)(bits >> 16 & 0x8000) | (uint16_t)(((bits >> 23 & 0xff) - 112) << 10) | (uint16_t)(bits >> 13 & 0x3ff);
    }
    CST_GO(cst_tensor_create(t, m, CST_DATA, type, 2, (int64_t[]){rows, cols}, "proof"), out);
    CST_GO(cst_tensor_write(*t, 0, type == CST_F32 ? (void *)*x : half, (*t)->bytes), out);
out:
    free(half);
    return st;
}

static cst_status compare(const cst_gemm_args *g, const float *const x[4], const float *c)
{
    int64_t sa = g->trans_a ? g->m : 1, ra = g->trans_a ? 1 : g->k, sb = g->trans_b ? 1 : g->n, rb = g->trans_b ? g->k : 1;
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            double sum = 0, size = 1;
            for (int64_t p = 0; p < g->k; p++) {
                double v = (double)x[0][i * ra + p * sa] * x[1][j * rb + p * sb];
                sum += v;
                size += fabs(v);
            }
            sum = fmax(sum + x[2][j], 0) + x[3][i * g->n + j];
            if (!(fabs(c[i * g->n + j] - sum) <= 1e-5 * size))
                return cst_fail(CST_STATE, "wrong result: C[%d,%d] of %d x %d x %d (%c%c) is %.9g, not %.9g", (int)i, (int)j, (int)g->m,
                                (int)g->n, (int)g->k, "NT"[g->trans_a], "NT"[g->trans_b], c[i * g->n + j], sum);
        }
    return CST_OK;
}

/* C, which starts as NaN, and the comparison. */
static cst_status product(cst_mem *m, const cst_gemm_args *g, float *x[5], const cst_gemm_choice *how)
{
    memset(x[4], 0xff, g->c->bytes);
    CST_TRY(cst_tensor_write(g->c, 0, x[4], g->c->bytes));
    CST_TRY(cst_gemm_run(m, g, how));
    CST_TRY(cst_tensor_read(g->c, 0, x[4], g->c->bytes));
    return compare(g, (const float *const *)x, x[4]);
}

/* One product with everything that an epilogue has. */
static cst_status try_it(cst_mem *m, cst_gemm_args g, const cst_gemm_choice *how, int keep_packed)
{
    cst_tensor *t[5] = {NULL, NULL, NULL, NULL, NULL};
    float *x[5] = {NULL, NULL, NULL, NULL, NULL};
    int64_t size[5][2] = {{g.m, g.k}, {g.k, g.n}, {1, g.n}, {g.m, g.n}, {g.m, g.n}};
    cst_type type[5] = {g.a->type, g.b->type, CST_F32, CST_F32, CST_F32};
    cst_status st = CST_OK;
    for (int i = 0; i < 5; i++) CST_GO(operand(&t[i], &x[i], m, type[i], size[i][0], size[i][1], (uint64_t)i), out);
    g.a = t[0], g.b = t[1], g.bias = t[2], g.residual = t[3], g.c = t[4], g.relu = 1;
    if (keep_packed) CST_GO(cst_gemm_keep_packed(t[1]), out);
    CST_GO(product(m, &g, x, how), out);
out:
    for (int i = 0; i < 5; i++) {
        cst_tensor_free(t[i]);
        free(x[i]);
    }
    return st;
}

static cst_status prove(cst_device *dev, const cst_gemm_args *g, const cst_gemm_choice *how)
{
    cst_mem *m;
    int64_t k = how->engine == CST_GEMM_NATIVE && how->kc < 1024 ? how->kc + 21 : how->engine != CST_GEMM_CLBLAST ? 1045 : 157;
    CST_TRY(cst_mem_create(&m, dev, BUDGET));
    cst_gemm_args small = {.m = M, .n = N, .k = k, .trans_a = g->trans_a != 0, .trans_b = g->trans_b != 0, .a = g->a, .b = g->b, .batch = 1,
                           .lda = g->trans_a ? M : k, .ldb = g->trans_b ? k : N, .ldc = N, .ldr = N};
    cst_status st = try_it(m, small, how, packed(g, how)), freed;
    char detail[256];
    snprintf(detail, sizeof detail, "%s", st == CST_OK ? "" : cst_detail());
    freed = cst_mem_free(m);
    return st == CST_OK ? freed : cst_fail(st, "%s", detail);
}

cst_status cst_gemm_prove(int *before, cst_device *dev, const cst_gemm_args *g, const cst_gemm_choice *how)
{
    *before = 0;
    cst_gemm_state *s;
    char what[128];
    if (cst_verdicts_off()) return CST_OK;
    CST_TRY(cst_gemm_state_get(&s, dev));
    describe(what, sizeof what, s, g, how);
    const char *wrong;
    switch (cst_verdict_get(&wrong, dev, what)) {
    case CST_RIGHT: return CST_OK;
    case CST_WRONG: *before = 1; return cst_fail(CST_STATE, "%s", wrong);
    default: break;
    }
    cst_status st = prove(dev, g, how);
    if (st != CST_OK && st != CST_STATE) return st; /* no verdict */
    char detail[256];
    snprintf(detail, sizeof detail, "%s", st == CST_OK ? "" : cst_detail());
    cst_verdict_set(dev, what, st == CST_OK ? NULL : detail);
    cst_verdict_save(dev);
    return st == CST_OK ? CST_OK : cst_fail(st, "%s", detail);
}
