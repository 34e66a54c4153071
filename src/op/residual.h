/* Residual connection with dropout. Kernels: cl/residual.cl, cl/dropout.clh.
 *
 * Sources: Vaswani et al., "Attention is all you need", 2017, section 5.4 (where dropout goes); Srivastava et
 * al., "Dropout", JMLR 15, 2014, p. 1930 (here in the inverted form: kept values are scaled while training).
 * All tensors are row-major f32; activations [N,D].
 */
#ifndef CST_OP_RESIDUAL_H
#define CST_OP_RESIDUAL_H

#include "memory/memory.h"

/* The mask of one dropout: element i of the [N,D] array is kept when lane i % 4 of
 * cst_philox(counter {low(i / 4), high(i / 4), site, step}, key {low(seed), high(seed)}) is at least p * 2^32
 * rounded down, and is then scaled by 1 / (1 - p). A pure function of (seed, site, step, i): forward, backward
 * and a recomputation get the same mask, and nothing is stored. */
typedef struct cst_dropout {
    float p;             /* chance to drop, in [0, 1) */
    uint64_t seed;
    uint32_t site, step; /* which dropout of the model; which training step */
} cst_dropout;

/* s = r + dropout(x + bias). x, r, s: [N,D], s overwritten; bias: [D] or NULL; drop: NULL or p = 0 for none. s
 * may be x or r. Moves 12 N D bytes; 2 to 3 N D FLOPs besides the random numbers. USAGE on shapes that
 * don't agree or p outside [0, 1), UNSUPPORTED on other types. */
cst_status cst_residual_forward(cst_mem *m, cst_tensor *s, const cst_tensor *x, const cst_tensor *bias,
                                const cst_tensor *r, const cst_dropout *drop);

/* dx = ds where the forward pass kept the element, times 1 / (1 - p); 0 elsewhere. ds, dx: [N,D], dx
 * overwritten, may be ds (then without dropout nothing is done). The gradient of r is ds itself, that of bias
 * the column sums of dx (cst_linear_backward_bias). Moves 8 N D bytes; N D FLOPs. Errors as above. */
cst_status cst_residual_backward(cst_mem *m, cst_tensor *dx, const cst_tensor *ds, const cst_dropout *drop);

/* For the operators that contain a dropout: USAGE when p is outside [0, 1) (NULL is fine); and the arguments
 * key0, key1, site, step, threshold, scale of its kernel (a threshold of 0 for none). */
struct cst_launch;
cst_status cst_dropout_check(const char *op, const cst_dropout *drop);
void cst_dropout_bind(struct cst_launch *l, const cst_dropout *drop);

#endif
