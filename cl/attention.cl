/* Causal attention of several heads, scores never stored.
 *
 * For each sequence and head, with x_i the columns h * HD .. h * HD + HD of row i of x (rows are tokens,
 * [batch * seq, heads * HD], row-major) and scale = 1 / sqrt(HD):
 *     s_ij = scale q_i . k_j  for j <= i;   lse_i = log sum_j exp(s_ij);   p_ij = exp(s_ij - lse_i)
 *     o_i = sum_j p_ij v_j
 * Backward, from d_o:
 *     delta_i = d_o_i . o_i;   ds_ij = p_ij (d_o_i . v_j - delta_i)
 *     dq_i = scale sum_j ds_ij k_j;   dk_j = scale sum_i ds_ij q_i;   dv_j = sum_i p_ij d_o_i
 * lse and delta are [batch * seq, heads].
 *
 * Tiles, the running maximum of the forward pass and the recomputation of p in the backward pass are those
 * of Dao et al., FlashAttention (2022), algorithms 1 and 4, and Dao, FlashAttention-2 (2023), with dq in a
 * kernel of its own or with all keys in one group, so that nothing is summed by atomics. Exponentials are taken
 * in base 2.
 *
 * Set by the host:
 *   HD      columns of a head, 1 to 128
 *   TX, TY  work-items of a group across and down a tile; TX = 1: one work-item a group (attention_cpu.clh),
 *           else 8 or 16 (attention_gpu.clh), and then also
 *   TILE    rows of a block: 64, or 32 for work-items with few registers
 *   SUB_GROUP  work-items that one hardware thread takes, 0: as the compiler likes
 * Groups are (part, head, sequence), a part being `own` rows, queries or keys (TILE in attention_gpu.clh, up to 128 in
 * attention_cpu.clh); the longest parts start first. With TX = 1 one kernel gives dq, or dk and dv, or all three from
 * one recomputation of p, and then its groups are (1, head, sequence).
 */
#include "common.clh"
/* Of this group. A launch may be a part of the heads or sequences, see cst_launch_run. */
#define HEAD (int)(get_group_id(1) + get_global_offset(1))
#define SEQUENCE (ulong)(get_group_id(2) + get_global_offset(2))
#define LOG2E 1.44269504088896341f
#if TX == 1
#include "attention_cpu.clh"
#else
#include "attention_gpu.clh"
#endif

__kernel GROUP_SIZE void attention_forward(OUT(float, o), OUT(float, lse), IN(float, q), IN(float, k), IN(float, v),
                                           const int seq, const int heads, const float scale, const int own)
{
    USE_OUT(float, o);
    USE_OUT(float, lse);
    USE_IN(float, q);
    USE_IN(float, k);
    USE_IN(float, v);
    POOL(pool);
    const int first = (int)(get_num_groups(0) - 1 - get_group_id(0)) * own, h = HEAD;
    const ulong row = SEQUENCE * seq, at = (row * heads + h) * HD;
    forward_part(o + at, lse + row * heads + h, q + at, k + at, v + at, first, own, seq, heads, scale, pool);
}

/* One work-item a row and head. */
__kernel void attention_delta(OUT(float, delta), IN(float, d_o), IN(float, o), const ulong n)
{
    USE_OUT(float, delta);
    USE_IN(float, d_o);
    USE_IN(float, o);
    const ulong i = get_global_id(0);
    if (i >= n) return;
    __global const float *a = d_o + i * HD, *b = o + i * HD;
    floatv sums = 0.0f;
    float sum = 0.0f;
    for (int d = 0; d + VW <= HD; d += VW) sums = fma(vloadv(0, a + d), vloadv(0, b + d), sums);
    for (int d = HD / VW * VW; d < HD; d++) sum = fma(a[d], b[d], sum);
    delta[i] = sum + lanes_sum(sums);
}

#if TX == 1
/* parts: WITH_DQ, WITH_DKV, or both, which one group a head does then. */
__kernel GROUP_SIZE void attention_backward(OUT(float, dq), OUT(float, dk), OUT(float, dv), IN(float, d_o),
                                            IN(float, lse), IN(float, delta), IN(float, q), IN(float, k), IN(float, v),
                                            const int seq, const int heads, const float scale, const int own,
                                            const int parts)
{
    USE_OUT(float, dq);
    USE_OUT(float, dk);
    USE_OUT(float, dv);
    USE_IN(float, d_o);
    USE_IN(float, lse);
    USE_IN(float, delta);
    USE_IN(float, q);
    USE_IN(float, k);
    USE_IN(float, v);
    const ulong row = SEQUENCE * seq, stat = row * heads + HEAD, at = stat * HD;
    const int first = (int)get_group_id(0) * own, last = min(first + own, seq);
    const int k_from = parts == WITH_DKV ? first : 0, k_to = parts == (WITH_DQ | WITH_DKV) ? seq : last;
    const int q_from = parts == WITH_DQ ? first : 0, q_to = parts == WITH_DQ ? last : seq;
    for (int k0 = k_from; k0 < k_to; k0 += own)
        backward_part(dq + at, dk + at, dv + at, d_o + at, lse + stat, delta + stat, q + at, k + at, v + at, k0, own,
                      max(q_from, k0), q_to, seq, heads, scale, parts);
}
#else
__kernel GROUP_SIZE void attention_dq(OUT(float, dq), IN(float, d_o), IN(float, lse), IN(float, delta), IN(float, q),
                                      IN(float, k), IN(float, v), const int seq, const int heads, const float scale,
                                      const int own)
{
    USE_OUT(float, dq);
    USE_IN(float, d_o);
    USE_IN(float, lse);
    USE_IN(float, delta);
    USE_IN(float, q);
    USE_IN(float, k);
    USE_IN(float, v);
    POOL(pool);
    const int first = (int)(get_num_groups(0) - 1 - get_group_id(0)) * own, h = HEAD;
    const ulong row = SEQUENCE * seq, at = (row * heads + h) * HD, stat = row * heads + h;
    dq_part(dq + at, d_o + at, lse + stat, delta + stat, q + at, k + at, v + at, first, own, seq, heads, scale, pool);
}

__kernel GROUP_SIZE void attention_dkv(OUT(float, dk), OUT(float, dv), IN(float, d_o), IN(float, lse), IN(float, delta),
                                       IN(float, q), IN(float, k), IN(float, v), const int seq, const int heads,
                                       const float scale, const int own)
{
    USE_OUT(float, dk);
    USE_OUT(float, dv);
    USE_IN(float, d_o);
    USE_IN(float, lse);
    USE_IN(float, delta);
    USE_IN(float, q);
    USE_IN(float, k);
    USE_IN(float, v);
    POOL(pool);
    const int first = (int)get_group_id(0) * own, h = HEAD;
    const ulong row = SEQUENCE * seq, at = (row * heads + h) * HD, stat = row * heads + h;
    dkv_part(dk + at, dv + at, d_o + at, lse + stat, delta + stat, q + at, k + at, v + at, first, own, seq, heads,
             scale, pool);
}
#endif
