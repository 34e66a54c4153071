/* Global L2 norm over many gradients, the factor that clips it, and whether all of them are finite; the
 * outcome stays on the device, where cst_adamw reads it.
 *
 *     norm = sqrt(sum over all tensors of g^2),    coefficient = min(1, clip / (norm + 1e-6))
 * Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", ICML 2013, algorithm 1;
 * the 1e-6 as PyTorch's clip_grad_norm_ has it. Call partial for each gradient, each at its own place in
 * `partial`, then finish once. The order of summation follows shapes only.
 */
#ifndef CST_OP_GRAD_NORM_H
#define CST_OP_GRAD_NORM_H

#include "memory/memory.h"

/* Partial sums that a tensor of `count` elements needs: one for every 16384, rounded up. */
int64_t cst_grad_norm_blocks(int64_t count);

/* partial[at + b] = sum of squares of block b of grad. partial: [P] f32, this part of it written (an empty one
 * gets storage); grad: f32, any shape. Reads 4 bytes an element, 2 FLOPs. USAGE when the blocks don't fit P. */
cst_status cst_grad_norm_partial(cst_mem *m, cst_tensor *partial, int64_t at, const cst_tensor *grad);

/* result[4 which ...] = norm, coefficient, finite (1 or 0), 0 from partial[at..at + count). result: [4 R] f32, these four
 * written (an empty one gets storage); partial: [P] f32. clip <= 0: the coefficient is 1. NaN or infinity in any gradient, or squares whose sum
 * overflows (from a norm of 1.8e19 on), give finite 0 and coefficient 0; norm is then NaN or infinite.
 * Compensated sum, in one work-group. USAGE when which is not 0..R - 1, or the partial sums are not 1 or more of P. */
cst_status cst_grad_norm_finish(cst_mem *m, cst_tensor *result, int64_t which, const cst_tensor *partial, int64_t at, int64_t count,
                                float clip);

#endif
