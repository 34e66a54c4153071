/* Token and position embeddings (Vaswani et al., "Attention is all you need", 2017, section 3.4; learned
 * positions as in GPT and OPT). Rows of d floats; one group a row.
 *     embed_forward             out[i] = table[ids[i]] [+ pos[i % seq + offset] when has_pos]
 *     embed_add_positions       x[i] += pos[i % seq + offset]
 *     embed_backward            dtable[id] += sum of dout[i] over the i with ids[i] = id, in ascending order of i
 *     embed_backward_positions  dpos[p + offset] (+)= sum of dx[b seq + p] over b, in ascending order of b; when it
 *                               doesn't accumulate, a group for each row of dpos, and unused rows become 0
 * ids: n ints below vocab (others give NaN and read nothing). index: order[n], uid[n], start[n + 1] as
 * cst_embed_index makes them: rows order[start[u]] .. order[start[u + 1] - 1] have the id uid[u].
 */
#include "common.clh"
#include "row.clh"

__kernel void embed_forward(IN(float, table), IN(int, ids), IN(float, pos), OUT(float, out), const ulong n,
                            const int d, const int vocab, const ulong seq, const ulong offset, const int has_pos)
{
    const ulong row = get_group_id(0);
    if (row >= n) return;
    USE_IN(int, ids);
    const int id = ids[row], known = id >= 0 && id < vocab;
    USE_IN(float, table) + (known ? (ulong)id : 0) * (ulong)d;
    USE_IN(float, pos) + (has_pos ? row % seq + offset : 0) * (ulong)d;
    USE_OUT(float, out) + row * (ulong)d;
    FOR_ROW(c, d) {
        floatv v = known ? row_load(table + c, d - c) : (floatv)(NAN);
        if (has_pos) v += row_load(pos + c, d - c);
        row_store(v, out + c, d - c);
    }
}

__kernel void embed_add_positions(IN(float, pos), IO(float, x), const ulong n, const int d, const ulong seq,
                                  const ulong offset)
{
    const ulong row = get_group_id(0);
    if (row >= n) return;
    USE_IN(float, pos) + (row % seq + offset) * (ulong)d;
    USE_IO(float, x) + row * (ulong)d;
    FOR_ROW(c, d) row_store(row_load(x + c, d - c) + row_load(pos + c, d - c), x + c, d - c);
}

__kernel void embed_backward(IN(float, dout), IN(int, index), IO(float, dtable), const ulong n, const int d,
                             const int vocab, const ulong unique)
{
    const ulong u = get_group_id(0);
    if (u >= unique) return;
    USE_IN(float, dout);
    USE_IN(int, index);
    const int id = index[n + u], from = index[2 * n + u], to = index[2 * n + u + 1];
    if (id < 0 || id >= vocab) return;
    USE_IO(float, dtable) + (ulong)id * (ulong)d;
    FOR_ROW(c, d) {
        floatv v = 0.0f;
        for (int k = from; k < to; k++) v += row_load(dout + (ulong)index[k] * (ulong)d + c, d - c);
        row_store(row_load(dtable + c, d - c) + v, dtable + c, d - c);
    }
}

__kernel void embed_backward_positions(IN(float, dx), IO(float, dpos), const ulong n, const int d, const ulong seq,
                                       const ulong offset, const int accumulate)
{
    const ulong row = get_group_id(0) + (accumulate ? offset : 0), p = row - offset; /* wraps in unused rows */
    if (accumulate && p >= seq) return;
    USE_IN(float, dx);
    USE_IO(float, dpos) + row * (ulong)d;
    FOR_ROW(c, d) {
        floatv v = 0.0f;
        if (p < seq)
            for (ulong i = p; i < n; i += seq) v += row_load(dx + i * (ulong)d + c, d - c);
        row_store(accumulate ? row_load(dpos + c, d - c) + v : v, dpos + c, d - c);
    }
}
