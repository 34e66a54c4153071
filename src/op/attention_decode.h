#ifndef CST_OP_ATTENTION_DECODE_H
#define CST_OP_ATTENTION_DECODE_H

#include "memory/memory.h"

/* Attention of the last token of one sequence over all tokens so far, whose keys and values were kept: one row of what
 * cst_attention_forward computes (Vaswani et al., "Attention is all you need", 2017, section 3.2), without its other
 * rows. Head h of `heads` (H) takes columns h * hd .. h * hd + hd of every row, hd = columns / H:
 *     s_j = q . k_j / sqrt(hd) for j in [0, count);   o = sum_j exp(s_j) v_j / sum_j exp(s_j)
 * All tensors are f32, row-major. Errors: USAGE on wrong shapes, a count outside 1..R or a number of heads that doesn't
 * divide the columns; UNSUPPORTED on types other than f32 and on hd above 128.
 */

/* o: [1, H*hd], overwritten; q: [1, H*hd]; k, v: [R, H*hd], of which the first `count` rows are read. None may be the
 * same, but k and v. 4 count H hd FLOPs; moves 8 count H hd bytes. No scratch. */
cst_status cst_attention_decode(cst_mem *m, cst_tensor *o, const cst_tensor *q, const cst_tensor *k, const cst_tensor *v,
                                int64_t count, int64_t heads);

/* cache[at + i] = x[i], i in [0, n). cache: [R, D], n rows of it updated; x: [n, D]. Moves 8 n D bytes. USAGE when the
 * rows aren't there, STATE when cache has no storage. */
cst_status cst_attention_append(cst_mem *m, cst_tensor *cache, const cst_tensor *x, int64_t at);

#endif
