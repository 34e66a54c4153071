/* Matrix products: one entry point, several engines (see choice.h).
 *
 *     S[m,n] = op(A)[m,k] * op(B)[k,n]  (+ C when accumulate)
 *     C[m,n] = epilogue(S)                  + bias[n], then max(0, .) when relu, then + residual[m,n]
 * All matrices are row-major inside tensors; op(X) is X or its transpose. C, bias and residual are f32; A and B are f32,
 * or f16 or bf16 as stored (native engine): sums are fp32 always. 2 m n k FLOPs a product.
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
    const cst_tensor *bias;          /* [n] from its first element, or NULL */
    int relu;
    const cst_tensor *residual;      /* or NULL; may be no part of C */
    int64_t residual_at, ldr;
    int64_t batch;                   /* products, one after the other in the tensors; 0 and 1: one */
    int64_t a_step, b_step, c_step, residual_step; /* elements from one product's operand to the next one's; 0 for A, B: shared */
} cst_gemm_args;

/* Enqueue the product on dev->compute. A size of 0 for m or n is a no-op; k = 0 leaves C as it is when
 * accumulating without an epilogue and is USAGE otherwise. c is written whole only when it covers the tensor (then an
 * empty c gets storage); a part of a tensor needs storage already. USAGE on shapes outside the tensors, UNSUPPORTED
 * on other types and where no engine takes them, DEVICE when CLBlast refuses (the detail has its status code and the shape). */
cst_status cst_gemm(cst_mem *m, const cst_gemm_args *g);

#endif
