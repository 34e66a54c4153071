#include "gemm/gemm.h"

#include <inttypes.h>

#include "gemm/engine.h"

static cst_status check_operand(const char *which, const cst_tensor *t, int64_t at, int64_t rows, int64_t cols, int64_t ld)
{
    if (t->type != CST_F32)
        return cst_fail(CST_UNSUPPORTED, "matrix product: %s (%s) is %s; only f32 is supported so far", which, t->name, cst_type_name(t->type));
    if (ld < cols || at < 0 || at + (rows - 1) * ld + cols > cst_tensor_count(t))
        return cst_fail(CST_USAGE, "matrix product: %s (%s, %" PRId64 " elements) doesn't hold %" PRId64 " x %" PRId64 " with row length %" PRId64 " from %" PRId64,
                        which, t->name, cst_tensor_count(t), rows, cols, ld, at);
    return CST_OK;
}

cst_status cst_gemm(cst_mem *m, const cst_gemm_args *args)
{
    cst_gemm_args g = *args;
    if (g.m < 0 || g.n < 0 || g.k < 0 || (!g.k && !g.accumulate)) return cst_fail(CST_USAGE, "matrix product: a size is negative, or k is 0");
    if (!g.m || !g.n || !g.k) return CST_OK;
    if (!g.lda) g.lda = g.trans_a ? g.m : g.k;
    if (!g.ldb) g.ldb = g.trans_b ? g.k : g.n;
    if (!g.ldc) g.ldc = g.n;
    CST_TRY(check_operand("A", g.a, g.a_at, g.trans_a ? g.k : g.m, g.trans_a ? g.m : g.k, g.lda));
    CST_TRY(check_operand("B", g.b, g.b_at, g.trans_b ? g.n : g.k, g.trans_b ? g.k : g.n, g.ldb));
    CST_TRY(check_operand("C", g.c, g.c_at, g.m, g.n, g.ldc));
    int whole = !g.accumulate && g.m * g.n == cst_tensor_count(g.c);
    cst_use use[3] = {{(cst_tensor *)g.a, CST_READ, NULL, 0},
                      {(cst_tensor *)g.b, CST_READ, NULL, 0},
                      {g.c, whole ? CST_WRITE : CST_UPDATE, NULL, 0}};
    CST_TRY(cst_mem_acquire(m, "gemm", use, 3, NULL, NULL));
    cst_status st = cst_native_cpu_serves(cst_mem_device(m)) ? cst_native_cpu_gemm(m, &g) : cst_clblast_gemm(m, &g, use);
    cst_mem_release(m, use, 3);
    return st;
}
