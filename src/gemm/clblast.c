#include <clblast_c.h>
#include <inttypes.h>
#include <pthread.h>

#include "gemm/engine.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* CLBlast is not safe from two threads */

static cst_status failed(const cst_gemm_args *g, int code)
{
    return cst_fail(CST_DEVICE, "CLBlast: status %d for a product of %" PRId64 " x %" PRId64 " x %" PRId64 " (%c%c)", code, g->m, g->n,
                    g->k, g->trans_a ? 'T' : 'N', g->trans_b ? 'T' : 'N');
}

cst_status cst_clblast_gemm(cst_mem *m, const cst_gemm_args *g, const cst_use *use)
{
    cst_device *dev = cst_mem_device(m);
    CLBlastTranspose ta = g->trans_a ? CLBlastTransposeYes : CLBlastTransposeNo;
    CLBlastTranspose tb = g->trans_b ? CLBlastTransposeYes : CLBlastTransposeNo;
    size_t M = (size_t)g->m, N = (size_t)g->n, K = (size_t)g->k;
    size_t lda = (size_t)g->lda, ldb = (size_t)g->ldb, ldc = (size_t)g->ldc, scratch_bytes = 0;
    size_t a = use[0].offset / 4 + (size_t)g->a_at, b = use[1].offset / 4 + (size_t)g->b_at, c = use[2].offset / 4 + (size_t)g->c_at;
    cl_mem scratch = NULL;
    pthread_mutex_lock(&lock);
    /* The size depends on whether offsets are zero: ask as for a product inside a slab, planned or real. */
    int code = CLBlastSGemmTempBufferSize(CLBlastLayoutRowMajor, ta, tb, M, N, K, 1, lda, 1, ldb, 1, ldc, &dev->compute, &scratch_bytes);
    cst_status st = code ? failed(g, code) : CST_OK;
    if (st == CST_OK && scratch_bytes) st = cst_mem_scratch(m, scratch_bytes, &scratch);
    if (st == CST_OK && !cst_mem_planning(m)) {
        code = CLBlastSgemmWithTempBuffer(CLBlastLayoutRowMajor, ta, tb, M, N, K, 1.0f, use[0].mem, a, lda, use[1].mem, b, ldb,
                                          g->accumulate ? 1.0f : 0.0f, use[2].mem, c, ldc, &dev->compute, NULL, scratch);
        if (code) st = failed(g, code);
    }
    pthread_mutex_unlock(&lock);
    return st;
}
