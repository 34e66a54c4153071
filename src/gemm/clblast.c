#include <clblast_c.h>
#include <inttypes.h>
#include <pthread.h>

#include "gemm/engine.h"
#include "gemm/state.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* CLBlast is not safe from two threads */

static cst_status failed(const cst_gemm_args *g, int code)
{
    return cst_fail(CST_DEVICE, "CLBlast: status %d for a product of %" PRId64 " x %" PRId64 " x %" PRId64 " (%c%c)", code, g->m, g->n,
                    g->k, g->trans_a ? 'T' : 'N', g->trans_b ? 'T' : 'N');
}

/* The same for one row: C' = B' a'. CLBlast's matrix kernels would compute a whole tile of rows for it. Its
 * Sgemv reads C even where it shall only write, and 0 times what isn't finite isn't 0: so C is cleared first. */
static cst_status row(cst_mem *m, const cst_gemm_args *g, const cst_use *use, size_t a, size_t b, size_t c, size_t k, int add)
{
    cst_device *dev = cst_mem_device(m);
    size_t rows = g->trans_b ? (size_t)g->n : k, cols = g->trans_b ? k : (size_t)g->n;
    const cl_float zero = 0;
    if (!add)
        CST_TRY(cst_cl(clEnqueueFillBuffer(dev->compute, use[2].mem, &zero, sizeof zero, 4 * c, 4 * (size_t)g->n, 0, NULL, NULL),
                       "clEnqueueFillBuffer"));
    int code = CLBlastSgemv(CLBlastLayoutRowMajor, g->trans_b ? CLBlastTransposeNo : CLBlastTransposeYes, rows, cols, 1.0f, use[1].mem, b,
                            (size_t)g->ldb, use[0].mem, a, g->trans_a ? (size_t)g->lda : 1, 1.0f, use[2].mem, c, 1, &dev->compute, NULL);
    return code ? failed(g, code) : CST_OK;
}

/* One call of CLBlast: k0 .. k0 + k of the inner dimension. */
static cst_status piece(cst_mem *m, const cst_gemm_args *g, const cst_use *use, int64_t k0, int64_t k)
{
    cst_device *dev = cst_mem_device(m);
    CLBlastTranspose ta = g->trans_a ? CLBlastTransposeYes : CLBlastTransposeNo;
    CLBlastTranspose tb = g->trans_b ? CLBlastTransposeYes : CLBlastTransposeNo;
    size_t M = (size_t)g->m, N = (size_t)g->n, K = (size_t)k;
    size_t lda = (size_t)g->lda, ldb = (size_t)g->ldb, ldc = (size_t)g->ldc, scratch_bytes = 0;
    size_t a = use[0].offset / 4 + (size_t)(g->a_at + (g->trans_a ? k0 * g->lda : k0));
    size_t b = use[1].offset / 4 + (size_t)(g->b_at + (g->trans_b ? k0 : k0 * g->ldb));
    size_t c = use[2].offset / 4 + (size_t)g->c_at;
    cl_mem scratch = NULL;
    if (M == 1) return cst_mem_planning(m) ? CST_OK : row(m, g, use, a, b, c, K, g->accumulate || k0);
    if (!dev->context) { /* imagined: what it asks for when both operands must be copied in another order */
        scratch_bytes = 4 * (M * K + K * N);
        return cst_mem_scratch(m, scratch_bytes, &scratch);
    }
    /* The size depends on whether offsets are zero: ask as for a product inside a slab, planned or real. */
    int code = CLBlastSGemmTempBufferSize(CLBlastLayoutRowMajor, ta, tb, M, N, K, 1, lda, 1, ldb, 1, ldc, &dev->compute, &scratch_bytes);
    if (code) return failed(g, code);
    if (scratch_bytes) CST_TRY(cst_mem_scratch(m, scratch_bytes, &scratch));
    if (cst_mem_planning(m)) return CST_OK;
    code = CLBlastSgemmWithTempBuffer(CLBlastLayoutRowMajor, ta, tb, M, N, K, 1.0f, use[0].mem, a, lda, use[1].mem, b, ldb,
                                      g->accumulate || k0 ? 1.0f : 0.0f, use[2].mem, c, ldc, &dev->compute, NULL, scratch);
    return code ? failed(g, code) : CST_OK;
}

/* The device's settings, before its first product here. */
static cst_status use_settings(cst_device *dev)
{
    cst_gemm_state *s;
    CST_TRY(cst_gemm_state_get(&s, dev));
    if (s->xgemm_used) return CST_OK;
    s->xgemm_used = 1;
    return s->tuning.has_xgemm ? cst_xgemm_use(dev, &s->tuning.xgemm) : CST_OK;
}

cst_status cst_clblast_gemm(cst_mem *m, const cst_gemm_args *g, const cst_use *use)
{
    cst_status st = CST_OK;
    pthread_mutex_lock(&lock);
    st = use_settings(cst_mem_device(m));
    for (int64_t k0 = 0; k0 < g->k && st == CST_OK; k0 += CST_CLBLAST_K)
        st = piece(m, g, use, k0, g->k - k0 < CST_CLBLAST_K ? g->k - k0 : CST_CLBLAST_K);
    pthread_mutex_unlock(&lock);
    return st;
}
