/* Token and position embeddings. Kernels: cl/embed.cl.
 *
 * Source: Vaswani et al., "Attention is all you need", 2017, section 3.4; learned positions as in OPT (Zhang et
 * al., arXiv:2205.01068), whose table begins `offset` = 2 rows early. Tensors are row-major f32 unless said
 * otherwise. Rows are tokens, sequence after sequence, each of `seq`: row i has position i % seq + offset.
 * Ids outside the table are the caller's fault and not looked for: forward gives NaN for them, backward leaves
 * them out; nothing outside the table is touched. All return USAGE on shapes that don't agree, N no multiple of
 * seq, or seq + offset > P; UNSUPPORTED on other types.
 */
#ifndef CST_OP_EMBED_H
#define CST_OP_EMBED_H

#include "memory/memory.h"

/* out[i] = table[ids[i]] (+ pos[i % seq + offset]). out: [N,E], overwritten; table: [V,E]; ids: [N] i32; pos:
 * [P,E] or NULL (seq and offset are then ignored). Moves 8 N E bytes (12 with pos). */
cst_status cst_embed_forward(cst_mem *m, cst_tensor *out, const cst_tensor *table, const cst_tensor *ids,
                             const cst_tensor *pos, int64_t seq, int64_t offset);

/* x[i] += pos[i % seq + offset]. x: [N,D], in place; pos: [P,D]. Moves 8 N D bytes and pos. */
cst_status cst_embed_add_positions(cst_mem *m, cst_tensor *x, const cst_tensor *pos, int64_t seq, int64_t offset);

/* On the host: group the rows by id. index, 3 n + 1 ints, gets order[n] (rows sorted by id, equal ids in
 * ascending order), uid[n] (the distinct ids, ascending, then zeros) and start[n + 1] (where each id begins in
 * order, then n). Returns the number of distinct ids. n < 2^31; radix sort, O(n), no allocation. */
int64_t cst_embed_index(int32_t *index, const int32_t *ids, int64_t n);

/* dtable[id] += sum of dout[i] over the rows i with that id, in ascending order. dtable: [V,E], accumulated
 * into; dout: [N,E]; index: [3 N + 1] i32 and `unique` from cst_embed_index. Moves 4 N E + 8 unique E bytes. An
 * id that owns most of the rows is summed by one group: slow, but exact in the same order. */
cst_status cst_embed_backward(cst_mem *m, cst_tensor *dtable, const cst_tensor *dout, const cst_tensor *index,
                              int64_t unique);

/* dpos[p + offset] (+)= sum of dx[b seq + p] over the sequences b, in ascending order, for p in [0, seq). dpos:
 * [P,D], overwritten whole (rows that no token uses become 0), or added to when accumulate; dx: [N,D]. Moves
 * 4 N D + 4 P D bytes, 4 N D + 8 seq D when accumulating. */
cst_status cst_embed_backward_positions(cst_mem *m, cst_tensor *dpos, const cst_tensor *dx, int64_t seq,
                                        int64_t offset, int accumulate);

#endif
