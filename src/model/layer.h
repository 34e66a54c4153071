/* One transformer layer, forward and backward; internal to this room. */
#ifndef CST_MODEL_LAYER_H
#define CST_MODEL_LAYER_H

#include "model/model.h"

/* What backward needs of a layer; N tokens, D hidden, F ffn_dim, H heads. */
typedef struct cst_layer {
    cst_tensor *x;           /* [N, D] the layer's input */
    cst_tensor *n1, *stats1; /* pre: LN1 x [N, D], [N, 2]; post: n1 is x itself, stats1 of LN1 s1 */
    cst_tensor *q, *k, *v;   /* [N, D] */
    cst_tensor *o, *lse;     /* [N, D], [N, H] */
    cst_tensor *s1;          /* [N, D] x + drop(attention) */
    cst_tensor *h, *stats2;  /* [N, D] what fc1 takes; [N, 2] of the layer's second layer norm */
    cst_tensor *u, *f;       /* [N, F] before (GELU only) and after the activation */
    cst_tensor *s2;          /* [N, D] post only: what LN2 takes */
} cst_layer;

/* Forward of layer `index`. a->x is set by the caller and stays the caller's; *y becomes the output. When
 * keep is 0, everything but a->x and *y is freed before it returns. */
cst_status cst_layer_forward(cst_model *M, int index, cst_layer *a, cst_tensor **y, const cst_batch *b, const cst_pass *p, int keep);
/* Backward. *d holds the gradient of y and then that of x. Frees what forward kept, but not a->x. */
cst_status cst_layer_backward(cst_model *M, int index, cst_layer *a, cst_tensor **d, const cst_batch *b, const cst_pass *p);
/* Free everything but a->x. */
void cst_layer_clear(cst_layer *a);

/* An activation of this model, [N, cols]. */
cst_status cst_activation_tensor(cst_model *M, cst_tensor **out, int64_t rows, int64_t cols, const char *name);
/* Parameter and gradient by role. */
cst_tensor *cst_model_w(const cst_model *M, cst_role role, int layer);
cst_tensor *cst_model_g(const cst_model *M, cst_role role, int layer);

#endif
