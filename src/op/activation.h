/* Activations of the feed-forward block, with the bias of the layer before. Kernels: cl/activation.cl.
 *
 * Sources: ReLU: Nair and Hinton, ICML 2010; GELU: Hendrycks and Gimpel, arXiv:1606.08415, section 2 (the exact
 * form, not the tanh one). All tensors are row-major f32, activations [N,F].
 */
#ifndef CST_OP_ACTIVATION_H
#define CST_OP_ACTIVATION_H

#include "memory/memory.h"

typedef enum cst_activation {
    CST_RELU, /* max(v, 0); a NaN stays a NaN */
    CST_GELU  /* 0.5 v (1 + erf(v / sqrt 2)) */
} cst_activation;

/* y = act(x + bias). y is overwritten and may be x; u: NULL, or gets x + bias (overwritten; GELU's backward
 * needs it) and may be x; y is not u. bias: [F] or NULL. Moves 8 N F bytes (12 with u); N F FLOPs and the
 * function. USAGE on shapes that don't agree, UNSUPPORTED on other types. */
cst_status cst_activation_forward(cst_mem *m, cst_activation kind, cst_tensor *y, cst_tensor *u, const cst_tensor *x,
                                  const cst_tensor *bias);

/* dx = dy act'(.), overwritten; may be dy. saved: y of the forward pass for ReLU (dx = y > 0 ? dy : 0), u for
 * GELU. Moves 12 N F bytes. Errors as above. */
cst_status cst_activation_backward(cst_mem *m, cst_activation kind, cst_tensor *dx, const cst_tensor *dy,
                                   const cst_tensor *saved);

#endif
