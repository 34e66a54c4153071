/* Linear layer y = x w^T + bias. Matrix products through cst_gemm; kernels: cl/linear.cl.
 *
 * Source: the usual dense layer with weights stored [out,in], as PyTorch and Hugging Face files have them. All
 * tensors are row-major f32: x, dx [N,in]; y, dy [N,out]; w, dw [out,in]; bias, db [out]. All return USAGE on
 * shapes that don't agree, UNSUPPORTED on other types, and what cst_gemm returns. None works in place.
 */
#ifndef CST_OP_LINEAR_H
#define CST_OP_LINEAR_H

#include "memory/memory.h"

/* y = max(0, x w^T + bias) + residual, overwritten: ReLU when relu, bias and residual [N,out] may be NULL; y is neither of
 * them. 2 N in out FLOPs. The engine does it while the sums are in registers, or another 8 N out bytes are moved. */
cst_status cst_linear_forward_fused(cst_mem *m, cst_tensor *y, const cst_tensor *x, const cst_tensor *w, const cst_tensor *bias, int relu,
                                    const cst_tensor *residual);
/* y = x w^T + bias. */
cst_status cst_linear_forward(cst_mem *m, cst_tensor *y, const cst_tensor *x, const cst_tensor *w, const cst_tensor *bias);

/* dx = dy w, overwritten; dx += dy w when accumulate. 2 N in out FLOPs. */
cst_status cst_linear_backward_input(cst_mem *m, cst_tensor *dx, const cst_tensor *dy, const cst_tensor *w,
                                     int accumulate);

/* dw = dy^T x, overwritten; dw += dy^T x when accumulate. 2 N in out FLOPs. */
cst_status cst_linear_backward_weight(cst_mem *m, cst_tensor *dw, const cst_tensor *dy, const cst_tensor *x,
                                      int accumulate);

/* db[j] = sum_i dy[i,j], overwritten, or added to when accumulate: sums of row blocks, then the sum of those (no
 * atomics; the order depends on shapes and
 * the kind of device only). Scratch: at most 64 out floats. Moves 4 N out bytes; N out FLOPs. */
cst_status cst_linear_backward_bias(cst_mem *m, cst_tensor *db, const cst_tensor *dy, int accumulate);

#endif
