/* AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, "Decoupled weight decay regularization",
 * ICLR 2019, algorithm 2), in PyTorch's order of operations, on the device or on the host:
 *
 *     g  = grad * coefficient
 *     w  = w * (1 - lr * weight_decay)
 *     m1 = m1 + (1 - beta1) * (g - m1)
 *     m2 = beta2 * m2 + (1 - beta2) * g^2
 *     w  = w - lr / bias1 * m1 / (sqrt(m2) / sqrt(bias2) + eps)
 *
 * The factors of one step are computed in double and rounded once. Device and host then do the same fp32
 * operations in the same order, so that for finite input they give the same bits, wherever a weight is
 * updated. That is promised on devices with correctly rounded divide and square root
 * (dev->info.exact_divide) that keep denormal numbers; elsewhere the two differ by rounding.
 */
#ifndef CST_OP_ADAMW_H
#define CST_OP_ADAMW_H

#include "memory/memory.h"

typedef struct cst_adamw_step {
    double lr, beta1, beta2, eps, weight_decay;
    double bias1, bias2; /* 1 - beta^t for step t = 1, 2, ... */
} cst_adamw_step;

/* One step of a tensor, or of a piece of it. w: f32, changed in place; g: f32 of the same shape, read; m1, m2: f32 of one
 * size, changed in place: the moments of w's elements from `at` on; norm: [4 R] f32, result `which` (0..R - 1)
 * what cst_grad_norm_finish wrote there: g is multiplied by its coefficient, and when it says that a gradient isn't finite nothing changes. s NULL: nothing changes
 * either, but the tensors are acquired as for a step, so that iterations with and without one are the same to the manager.
 * Moves 28 bytes an element of m1, 13 FLOPs. USAGE on other shapes. */
cst_status cst_adamw(cst_mem *m, cst_tensor *w, const cst_tensor *g, int64_t at, cst_tensor *m1, cst_tensor *m2,
                     const cst_tensor *norm, int64_t which, const cst_adamw_step *s);

/* The same step in host memory, n elements, any alignment, on all host threads; the result depends on neither.
 * copy: gets the new w as well; may be NULL. The arrays don't overlap. The caller looks at the finite flag. */
void cst_adamw_host(float *w, const float *g, float *m1, float *m2, float *copy, size_t n, float coefficient,
                    const cst_adamw_step *s);

/* Its speed on arrays of 256 MiB, measured while planning: some 0.3 s; s->seconds: an element. NO_MEMORY, DEVICE. */
cst_status cst_adamw_host_speed(cst_host_speed *s, cst_mem *m);

#endif
