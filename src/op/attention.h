#ifndef CST_OP_ATTENTION_H
#define CST_OP_ATTENTION_H

#include "memory/memory.h"

/* Causal self-attention of several heads, without stored scores (Dao et al., FlashAttention, 2022, and
 * FlashAttention-2, 2023). A sequence is `seq` (T) rows of each tensor, `batch` (B) sequences stand below
 * each other; head h of `heads` (H) takes columns h * hd .. h * hd + hd of every row, hd = columns / H.
 * Within a sequence and head, i and j counting its rows:
 *     s_ij = q_i . k_j / sqrt(hd) for j <= i;   lse_i = log sum_j exp(s_ij);   o_i = sum_j exp(s_ij - lse_i) v_j
 * All tensors are f32, row-major; no two of one call may be the same, except that q, k and v (which are only
 * read) may coincide.
 *
 * Errors: USAGE on wrong shapes or a number of heads that doesn't divide the columns; UNSUPPORTED on types
 * other than f32 and on hd above 128.
 */

/* o: [B*T, H*hd], overwritten. lse: [B*T, H], overwritten; the backward pass wants it. q, k, v: [B*T, H*hd].
 * 2 B H T (T+1) hd FLOPs; reads q once, k and v about T/128 times half (T/64 on a GPU, T/32 on Intel's; from caches), writes o. No
 * scratch. */
cst_status cst_attention_forward(cst_mem *m, cst_tensor *o, cst_tensor *lse, const cst_tensor *q, const cst_tensor *k,
                                 const cst_tensor *v, int64_t batch, int64_t seq, int64_t heads);

/* Gradients dq, dk, dv of q, k, v: [B*T, H*hd], overwritten, from d_o, the gradient of o. o and lse are what
 * forward wrote for the same q, k, v. 5 B H T (T+1) hd FLOPs where a work-item takes whole heads, else 7, of
 * which 2 repeat work of the dq kernel in the dk/dv kernel; the same bits either way. Scratch: B*T*H floats, sum_d d_o * o of
 * each row and head. */
cst_status cst_attention_backward(cst_mem *m, cst_tensor *dq, cst_tensor *dk, cst_tensor *dv, const cst_tensor *d_o,
                                  const cst_tensor *o, const cst_tensor *lse, const cst_tensor *q, const cst_tensor *k,
                                  const cst_tensor *v, int64_t batch, int64_t seq, int64_t heads);

#endif
