/* Layer normalisation, alone and behind a residual connection. Kernels: cl/layer_norm.cl.
 *
 *     y = (x - mean) / sqrt(var + eps) * gamma + beta, mean and biased variance of each row
 * Source: Ba, Kiros, Hinton, "Layer normalization", arXiv:1607.06450, eq. 3. All tensors are row-major f32:
 * activations [N,D], gamma, beta and their gradients [D], stats [N,2] = (mean, 1 / sqrt(var + eps)).
 * All return USAGE on shapes that don't agree and UNSUPPORTED on other types.
 */
#ifndef CST_OP_LAYER_NORM_H
#define CST_OP_LAYER_NORM_H

#include "memory/memory.h"
#include "op/residual.h"

/* y = LN(x). y and stats are overwritten; y is not x (backward needs x). The mean is good to one rounding
 * whatever the rows' offset. Moves 8 N D bytes; 8 N D FLOPs. */
cst_status cst_layer_norm_forward(cst_mem *m, cst_tensor *y, cst_tensor *stats, const cst_tensor *x,
                                  const cst_tensor *gamma, const cst_tensor *beta, float eps);

/* s = r + dropout(x + bias), y = LN(s) in one pass over memory. s, y, stats are overwritten; s may be x, y is
 * none of the others; bias: [D] or NULL; drop: see residual.h, NULL for none. The bits are those of
 * cst_residual_forward followed by cst_layer_norm_forward. Moves 16 N D bytes; 11 N D FLOPs. */
cst_status cst_layer_norm_residual_forward(cst_mem *m, cst_tensor *y, cst_tensor *stats, cst_tensor *s,
                                           const cst_tensor *x, const cst_tensor *bias, const cst_tensor *r,
                                           const cst_tensor *gamma, const cst_tensor *beta, float eps,
                                           const cst_dropout *drop);

/* With g = dy gamma, xhat = (x - mean) rstd and means over the row:
 *     dx = [add +] rstd (g - mean(g) - xhat mean(g xhat)),  dgamma (+)= sum_i dy xhat,  dbeta (+)= sum_i dy
 * x: what was normalised (x, or s of the residual form), with the stats of that call; add: NULL or [N,D], a
 * gradient that joins here. dx is overwritten and may be dy or add; dgamma and dbeta, each NULL when it isn't wanted, are
 * overwritten, or added to when accumulate, in an order that depends on the shapes and the kind of device only. Scratch: 2 B D floats, B <= 1024 blocks of
 * rows. Moves 12 N D bytes (16 with add) and the scratch twice; 14 N D FLOPs. */
cst_status cst_layer_norm_backward(cst_mem *m, cst_tensor *dx, cst_tensor *dgamma, cst_tensor *dbeta,
                                   const cst_tensor *dy, const cst_tensor *x, const cst_tensor *stats,
                                   const cst_tensor *gamma, const cst_tensor *add, int accumulate);

#endif
