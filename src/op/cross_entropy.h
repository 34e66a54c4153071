/* The LM head and its cross-entropy, fused in chunks of tokens, so that the logits never exist whole.
 *
 *     logits = h table^T,    loss[i] = log(sum over v of exp(logits[i,v])) - logits[i,targets[i]]
 *     objective = scale * sum of loss
 *     dlogits = (softmax(logits) - onehot(targets)) * scale,    dh = dlogits table,    dtable (+)= dlogits^T h
 * Goodfellow, Bengio, Courville, "Deep Learning", 6.2.2.3. For one chunk at a time the logits lie in scratch,
 * where their gradient takes their place.
 */
#ifndef CST_OP_CROSS_ENTROPY_H
#define CST_OP_CROSS_ENTROPY_H

#include "memory/memory.h"

typedef struct cst_lm_loss_args {
    const cst_tensor *h;        /* [N,E] */
    const cst_tensor *table;    /* [V,E] the tied head */
    const cst_tensor *targets;  /* [N] i32; negative: no loss at this position */
    cst_tensor *loss;           /* [N] written: -log p(target), 0 where there is none */
    cst_tensor *dh;             /* [N,E] written, or NULL for evaluation */
    cst_tensor *dtable;         /* [V,E] written, or added to when accumulate; or NULL */
    float scale;                /* the objective is scale * sum(loss): 1/(number of targets) for the mean */
    int accumulate;             /* dtable += */
} cst_lm_loss_args;

/* f32 unless said otherwise; no tensor may be given twice. A target >= V gives a loss (and gradients) of NaN.
 * Takes scratch of chunk x V floats while it runs. 2 NVE FLOPs, 6 NVE with both gradients; the logits pass
 * memory once, three times with gradients (4 NV bytes each, besides the products' own traffic). USAGE on other
 * shapes, UNSUPPORTED on other types, STATE when dtable is empty and accumulated into; OVER_BUDGET when what is written
 * and the scratch don't fit, and then none of them has changed. */
cst_status cst_lm_loss(cst_mem *m, const cst_lm_loss_args *a);

/* What cst_lm_loss does between its products: loss[row0 + i] of logits x[i] for i in [0, rows), and with grad their gradient
 * in x's place. x: [at least rows,V], updated; targets: [N] i32, loss: [N], this part of it updated. 4 rows V bytes, three
 * times with grad. */
cst_status cst_cross_entropy(cst_mem *m, cst_tensor *x, const cst_tensor *targets, cst_tensor *loss, int64_t row0, int64_t rows, float scale,
                             int grad);

/* Rows of logits that cst_lm_loss holds at once for n tokens and a vocabulary of this size: about 64 MiB of
 * them, a multiple of 64, at least 64, at most n rounded up. Follows these two numbers only, so that the order
 * of summation in dtable does too. */
int64_t cst_lm_loss_chunk(int64_t n, int64_t vocab);

/* logits[i,v] = sum over e of h[row0 + i, e] * table[v,e], i in [0, rows): plain logits, for generation and
 * tests. logits: [rows,V] f32, written; h: [N,E]; table: [V,E]. 2 rows V E FLOPs. USAGE on other shapes. */
cst_status cst_logits(cst_mem *m, cst_tensor *logits, const cst_tensor *h, int64_t row0, int64_t rows,
                      const cst_tensor *table);

/* out[slot] += scale * sum of loss. out: [S] f32, updated; loss: [N] f32. The sum is compensated: its error is
 * about one rounding of the result. Reads 4 bytes an element, in one work-group. USAGE on a wrong slot. */
cst_status cst_loss_sum(cst_mem *m, cst_tensor *out, int64_t slot, const cst_tensor *loss, float scale);

#endif
