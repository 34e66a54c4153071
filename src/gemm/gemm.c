#include "gemm/gemm.h"

#include <inttypes.h>
#include <math.h>

#include "gemm/engine.h"
#include "memory/launch.h"

static cst_status check_operand(const char *which, const cst_tensor *t, int64_t at, int64_t rows, int64_t cols, int64_t ld, int halves)
{
    if (t->type != CST_F32 && !(halves && (t->type == CST_F16 || t->type == CST_BF16)))
        return cst_fail(CST_UNSUPPORTED, "matrix product: %s (%s) is %s; %s", which, t->name, cst_type_name(t->type),
                        halves ? "f32, f16 and bf16 are supported" : "only f32 is supported here");
    if (ld < cols || at < 0 || at + (rows - 1) * ld + cols > cst_tensor_count(t))
        return cst_fail(CST_USAGE, "matrix product: %s (%s, %" PRId64 " elements) doesn't hold %" PRId64 " x %" PRId64 " with row length %" PRId64 " from %" PRId64,
                        which, t->name, cst_tensor_count(t), rows, cols, ld, at);
    return CST_OK;
}

/* All of a batch's operands: the first and the last lie inside. */
static cst_status check(const cst_gemm_args *g)
{
    int64_t last = g->batch - 1;
    if (g->a_step < 0 || g->b_step < 0 || g->c_step < 0 || g->residual_step < 0 || (last && g->c_step < (g->m - 1) * g->ldc + g->n))
        return cst_fail(CST_USAGE, "matrix product: a batch's step is negative, or its results overlap");
    CST_TRY(check_operand("A", g->a, g->a_at, g->trans_a ? g->k : g->m, g->trans_a ? g->m : g->k, g->lda, 1));
    CST_TRY(check_operand("A", g->a, g->a_at + last * g->a_step, g->trans_a ? g->k : g->m, g->trans_a ? g->m : g->k, g->lda, 1));
    CST_TRY(check_operand("B", g->b, g->b_at, g->trans_b ? g->n : g->k, g->trans_b ? g->k : g->n, g->ldb, 1));
    CST_TRY(check_operand("B", g->b, g->b_at + last * g->b_step, g->trans_b ? g->n : g->k, g->trans_b ? g->k : g->n, g->ldb, 1));
    CST_TRY(check_operand("C", g->c, g->c_at, g->m, g->n, g->ldc, 0));
    CST_TRY(check_operand("C", g->c, g->c_at + last * g->c_step, g->m, g->n, g->ldc, 0));
    if (g->c == g->a || g->c == g->b) return cst_fail(CST_USAGE, "matrix product: C (%s) is also an operand", g->c->name);
    if (g->bias) CST_TRY(check_operand("bias", g->bias, 0, 1, g->n, g->n, 0));
    if (!g->residual) return CST_OK;
    if (g->residual == g->c) return cst_fail(CST_USAGE, "matrix product: C (%s) is also the residual; accumulate does that", g->c->name);
    CST_TRY(check_operand("residual", g->residual, g->residual_at, g->m, g->n, g->ldr, 0));
    return check_operand("residual", g->residual, g->residual_at + last * g->residual_step, g->m, g->n, g->ldr, 0);
}

cst_status cst_gemm_epilogue(cst_mem *m, const cst_gemm_args *g)
{
    cst_launch l;
    size_t group = cst_group(m, "gemm_epilogue"), items = (size_t)g->m * group;
    if (!g->bias && !g->relu && !g->residual) return CST_OK;
    cst_launch_begin(&l, m, "gemm_epilogue", "gemm_epilogue", NULL);
    cst_launch_read(&l, "bias", g->bias, 0);
    cst_launch_read(&l, "residual", g->residual, g->residual ? g->residual_at : 0);
    cst_launch_update(&l, "c", g->c, g->c_at);
    cst_launch_ulong(&l, "m", (uint64_t)g->m);
    cst_launch_int(&l, "n", g->n);
    cst_launch_ulong(&l, "ldc", (uint64_t)g->ldc);
    cst_launch_ulong(&l, "ldr", (uint64_t)g->ldr);
    cst_launch_int(&l, "has_bias", g->bias != NULL);
    cst_launch_int(&l, "has_residual", g->residual != NULL);
    cst_launch_int(&l, "relu", g->relu);
    return cst_launch_run(&l, 1, &items, &group);
}

/* A product without epilogue, and that, in parts of rows of C that have at most dev->launch_flops each (CLBlast takes one piece of
 * k at a time). The parts differ by one row at most, so that none of them is left for a kernel for small products,
 * which adds up in another order. */
static cst_status in_parts(cst_mem *m, const cst_gemm_args *args, const cst_use *use, cst_gemm_engine engine)
{
    double most = cst_mem_device(m)->launch_flops, k = engine == CST_GEMM_SPLIT || args->k < CST_CLBLAST_K ? (double)args->k : CST_CLBLAST_K;
    double flops = 2.0 * (double)args->m * (double)args->n * k;
    int64_t parts = most > 0 && flops > most ? (int64_t)ceil(flops / most) : 1;
    if (parts > args->m / 64) parts = args->m < 128 ? 1 : args->m / 64;
    for (int64_t i = 0; i < parts; i++) {
        cst_gemm_args g = *args;
        int64_t from = args->m * i / parts;
        g.m = args->m * (i + 1) / parts - from;
        g.a_at += from * (g.trans_a ? 1 : g.lda);
        g.c_at += from * g.ldc;
        g.residual_at += from * g.ldr;
        CST_TRY(engine == CST_GEMM_SPLIT ? cst_split_gemm(m, &g) : cst_clblast_gemm(m, &g, use));
        CST_TRY(cst_gemm_epilogue(m, &g));
    }
    return CST_OK;
}

cst_status cst_gemm_run(cst_mem *m, const cst_gemm_args *args, const cst_gemm_choice *how)
{
    cst_gemm_args g = *args;
    int whole = !g.accumulate && g.batch * g.m * g.n == cst_tensor_count(g.c);
    cst_use use[5] = {{(cst_tensor *)g.a, CST_READ, NULL, 0}, {(cst_tensor *)g.b, CST_READ, NULL, 0}, {g.c, whole ? CST_WRITE : CST_UPDATE, NULL, 0}};
    int n = 3;
    if (g.bias) use[n++] = (cst_use){(cst_tensor *)g.bias, CST_READ, NULL, 0};
    if (g.residual) use[n++] = (cst_use){(cst_tensor *)g.residual, CST_READ, NULL, 0};
    cst_mem_work(m, 2.0 * (double)g.m * (double)g.n * (double)g.k * (double)g.batch);
    CST_TRY(cst_mem_acquire(m, "gemm", use, n, NULL, NULL));
    cst_status st = CST_OK;
    g.batch = 1;
    for (int64_t i = 0; i < args->batch && st == CST_OK; i++) {
        st = how->engine == CST_GEMM_NATIVE ? cst_native_gemm(m, &g, how) : in_parts(m, &g, use, how->engine);
        g.a_at += g.a_step, g.b_at += g.b_step, g.c_at += g.c_step, g.residual_at += g.residual_step;
    }
    cst_mem_release(m, use, n);
    return st;
}

cst_status cst_gemm(cst_mem *m, const cst_gemm_args *args)
{
    cst_gemm_args g = *args;
    cst_gemm_choice how;
    int plain = g.accumulate && !g.bias && !g.relu && !g.residual;
    if (g.m < 0 || g.n < 0 || g.k < 0 || g.batch < 0 || (!g.k && !plain)) return cst_fail(CST_USAGE, "matrix product: a size is negative, or k is 0");
    if (!g.m || !g.n || !g.k) return CST_OK;
    if (!g.batch) g.batch = 1;
    if (!g.lda) g.lda = g.trans_a ? g.m : g.k;
    if (!g.ldb) g.ldb = g.trans_b ? g.k : g.n;
    if (!g.ldc) g.ldc = g.n;
    if (!g.ldr) g.ldr = g.n;
    CST_TRY(check(&g));
    CST_TRY(cst_gemm_choose(&how, cst_mem_device(m), &g, cst_mem_planning(m) && cst_mem_device(m)->context));
    return cst_gemm_run(m, &g, &how);
}
