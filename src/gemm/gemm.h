/* Matrix products: one entry point. CLBlast computes them for now; native engines come behind the same call.
 *
 *     C[m,n] = op(A)[m,k] * op(B)[k,n]            accumulate = 0
 *     C[m,n] += op(A)[m,k] * op(B)[k,n]           accumulate = 1
 * All matrices are row-major f32 inside tensors; op(X) is X or its transpose. 2 m n k FLOPs.
 */
#ifndef CST_GEMM_GEMM_H
#define CST_GEMM_GEMM_H

#include "memory/memory.h"

typedef struct cst_gemm_args {
    int64_t m, n, k;
    int trans_a, trans_b;            /* stored [k,m] instead of [m,k]; [n,k] instead of [k,n] */
    const cst_tensor *a, *b;
    cst_tensor *c;
    int64_t a_at, b_at, c_at;        /* first element within the tensor */
    int64_t lda, ldb, ldc;           /* elements between rows as stored; 0: tightly packed */
    int accumulate;
} cst_gemm_args;

/* Enqueue the product on dev->compute. A size of 0 for m or n is a no-op; k = 0 leaves C as it is when
 * accumulating and is USAGE otherwise. c is written whole only when it covers the tensor (then an empty c
 * gets storage); a part of a tensor needs storage already. USAGE on shapes outside the tensors, UNSUPPORTED
 * on other types, DEVICE when CLBlast refuses (the detail has its status code and the shape). */
cst_status cst_gemm(cst_mem *m, const cst_gemm_args *g);

#endif
