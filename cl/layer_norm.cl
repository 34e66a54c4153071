/* Layer normalisation (Ba, Kiros, Hinton, "Layer normalization", arXiv:1607.06450), a row at a time:
 *     mean = sum_j x[j] / d,  rstd = 1 / sqrt(sum_j (x[j] - mean)^2 / d + eps),  xhat = (x - mean) rstd
 *     layer_norm_forward           y = xhat gamma + beta
 *     layer_norm_residual_forward  s = r + dropout(x + bias), y = the same of s
 *     layer_norm_backward          with g = dy gamma:
 *                                  dx = rstd (g - mean_j(g) - xhat mean_j(g xhat)) [+ add]
 *                                  dgamma_part[b] = sum of dy xhat, dbeta_part[b] = sum of dy over the rows of block b
 * x, y, r, s, dy, dx, add: n rows of d floats; gamma, beta, bias: d floats; stats: n rows of (mean, rstd);
 * dgamma_part, dbeta_part: one row of d floats a block. bias is read when has_bias, add when has_add.
 * Build option DROP: 1 with dropout; its code alone, unused, costs a CPU a fifth of the time.
 *
 * Rows far from zero lose nothing: the variance comes from what is left when a pivot near the mean is taken away, and the
 * mean of that is taken out of both (Chan, Golub, LeVeque, "Algorithms for computing the sample variance", The American
 * Statistician 37, 1983, eq. 1.7). On a GPU the pivot is the rounded mean. A CPU, where one more pass over the row is a
 * fifth of the time, takes the mean of the row's first VW elements: (pivot - mean)^2 is at most d / VW variances then,
 * whatever the row, and much less than one in all but strange ones.
 */
#include "common.clh"
#include "row.clh"
#include "compensated.clh"
#include "dropout.clh"

/* group_sum for two values at once. */
#if WG == 1
#define PAIR_SCRATCH(name)
#define pair_sum(v, scratch) (v)
#else
#define PAIR_SCRATCH(name) __local float2 name[WG]
#define pair_sum(v, scratch) pair_sum_(v, scratch)
float2 pair_sum_(float2 v, __local float2 *s)
{
    const int l = get_local_id(0);
    s[l] = v;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int h = WG / 2; h > 0; h >>= 1) {
        if (l < h) s[l] += s[l + h];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    v = s[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    return v;
}
#endif

/* What the first pass over a row collects, by sums_add of its elements v from column c on (zeros past the end), and the
 * row's statistics from that: (mean, what the mean's rounding left out, rstd). x: the row, complete in memory. */
#if WG == 1
typedef struct {
    floatv a, b;
    float pivot;
} sums_t;
#define SUMS_INIT {0.0f, 0.0f, 0.0f}
#else
typedef floatv sums_t; /* Intel's compiler puts a structure into memory */
#define SUMS_INIT 0.0f
#endif

/* t: means over the row of what is left of it without the pivot, and of the squares of that. */
float row_rstd(const float2 t, const float eps)
{
    return 1.0f / sqrt(fmax(fma(-t.x, t.x, t.y), 0.0f) + eps);
}

#if WG == 1
#define SCRATCH(name)
void sums_add(sums_t *s, const floatv v, const int c, const int d)
{
    if (c == 0) s->pivot = lanes_sum(v) / (float)min(d, VW);
    const floatv w = row_keep(v - s->pivot, d - c);
    s->a += w;
    s->b = fma(w, w, s->b);
}

float3 sums_stats(const sums_t *s, __global const float *x, const int d, const float eps)
{
    const float2 t = (float2)(lanes_sum(s->a), lanes_sum(s->b)) / (float)d, mean = pair_add((float2)(s->pivot, 0.0f), t.x);
    return (float3)(mean, row_rstd(t, eps));
}
#else
#define SCRATCH(name) , name
#define sums_add(s, v, c, d) (*(s) += (v))

float3 sums_stats(const sums_t *s, __global const float *x, const int d, const float eps, __local float2 *scratch)
{
    const float mean = pair_sum((float2)(lanes_sum(*s), 0.0f), scratch).x / (float)d;
    floatv a = 0.0f, b = 0.0f;
    FOR_ROW(c, d) {
        const floatv v = row_keep(row_load(x + c, d - c) - mean, d - c);
        a += v;
        b = fma(v, v, b);
    }
    const float2 t = pair_sum((float2)(lanes_sum(a), lanes_sum(b)), scratch) / (float)d;
    return (float3)(mean, t.x, row_rstd(t, eps));
}
#endif

/* next: fetch the next rows of x and y meanwhile. A CPU doesn't see them coming, as this pass has x in its first cache. */
void row_normalise(__global float *y, __global float *stats, __global const float *x, __global const float *gamma,
                   __global const float *beta, const float3 st, const int d, const int next)
{
    FOR_ROW(c, d) {
#if NARROW
        if (next && c % 16 == 0) {
            prefetch_line(x + d + c);
            prefetch_line(y + d + c);
        }
#endif
        const floatv xhat = (row_load(x + c, d - c) - st.x - st.y) * st.z;
        row_store(fma(xhat, row_load(gamma + c, d - c), row_load(beta + c, d - c)), y + c, d - c);
    }
    if (get_local_id(0) == 0) {
        stats[0] = st.x + st.y;
        stats[1] = st.z;
    }
}

__kernel void layer_norm_forward(IN(float, x), IN(float, gamma), IN(float, beta), OUT(float, y), OUT(float, stats),
                                 const ulong n, const int d, const float eps)
{
    PAIR_SCRATCH(scratch);
    const ulong row = get_group_id(0), at = row * (ulong)d;
    if (row >= n) return;
    USE_IN(float, x) + at;
    USE_IN(float, gamma);
    USE_IN(float, beta);
    USE_OUT(float, y) + at;
    USE_OUT(float, stats) + 2 * row;
    sums_t sums = SUMS_INIT;
    FOR_ROW(c, d) sums_add(&sums, row_load(x + c, d - c), c, d);
    row_normalise(y, stats, x, gamma, beta, sums_stats(&sums, x, d, eps SCRATCH(scratch)), d, 1);
}

__kernel void layer_norm_residual_forward(IN(float, x), IN(float, bias), IN(float, r), IN(float, gamma),
                                          IN(float, beta), OUT(float, s), OUT(float, y), OUT(float, stats),
                                          const ulong n, const int d, const float eps, const int has_bias,
                                          const uint key0, const uint key1, const uint site, const uint step,
                                          const uint threshold, const float scale)
{
    PAIR_SCRATCH(scratch);
#if DROP
    drop_t drop = DROP_INIT;
#endif
    const ulong row = get_group_id(0), at = row * (ulong)d;
    if (row >= n) return;
    USE_IN(float, x) + at;
    USE_IN(float, bias);
    USE_IN(float, r) + at;
    USE_IN(float, gamma);
    USE_IN(float, beta);
    USE_OUT(float, s) + at;
    USE_OUT(float, y) + at;
    USE_OUT(float, stats) + 2 * row;
    sums_t sums = SUMS_INIT;
    FOR_ROW(c, d) {
        floatv v = row_load(x + c, d - c);
        if (has_bias) v += row_load(bias + c, d - c);
#if DROP
        v = dropout(v, at + c, &drop);
#endif
        v = row_keep(row_load(r + c, d - c) + v, d - c);
        row_stream(v, s + c, d - c);
        if (ROW_STREAMS) row_store(v, y + c, d - c);
        sums_add(&sums, v, c, d);
    }
    x = ROW_STREAMS ? y : s; /* what went past the caches is far */
    row_normalise(y, stats, x, gamma, beta, sums_stats(&sums, x, d, eps SCRATCH(scratch)), d, 0);
}

/* One group takes `block` rows, one after the other, and sums what they give to gamma and beta in its own row
 * of the two parts; the columns of that row belong to the same work-item all the time. dx may be dy or add. */
__kernel void layer_norm_backward(IN(float, dy), IN(float, x), IN(float, stats), IN(float, gamma), IN(float, add),
                                  OUT(float, dx), OUT(float, dgamma_part), OUT(float, dbeta_part), const ulong n,
                                  const int d, const ulong block, const int has_add)
{
    PAIR_SCRATCH(scratch);
    const ulong first = get_group_id(0) * block, end = min(n, first + block);
    USE_IN(float, stats);
    USE_IN(float, gamma);
    USE_OUT(float, dgamma_part) + get_group_id(0) * (ulong)d;
    USE_OUT(float, dbeta_part) + get_group_id(0) * (ulong)d;
    for (ulong row = first; row < end; row++) {
        const ulong at = row * (ulong)d;
        USE_IN(float, dy) + at;
        USE_IN(float, x) + at;
        USE_IN(float, add) + at;
        USE_OUT(float, dx) + at;
        const float mean = stats[2 * row], rstd = stats[2 * row + 1];
        floatv a = 0.0f, b = 0.0f;
        FOR_ROW(c, d) { /* lanes past the end have g = 0 */
            const int left = d - c;
            /* all loads before the stores: a CPU holds back those that follow a store to the same place of another page */
            floatv pg = 0.0f, pb = 0.0f;
            if (row > first) {
                pg = row_load(dgamma_part + c, left);
                pb = row_load(dbeta_part + c, left);
            }
            const floatv up = row_load(dy + c, left), xhat = (row_load(x + c, left) - mean) * rstd;
            const floatv g = up * row_load(gamma + c, left);
            a += g;
            b = fma(g, xhat, b);
            row_store(fma(up, xhat, pg), dgamma_part + c, left);
            row_store(pb + up, dbeta_part + c, left);
        }
        const float2 t = pair_sum((float2)(lanes_sum(a), lanes_sum(b)), scratch) / (float)d;
        FOR_ROW(c, d) {
            const int left = d - c;
            const floatv xhat = (row_load(x + c, left) - mean) * rstd, means = fma(xhat, (floatv)(t.y), (floatv)(t.x));
            const floatv v = fma(row_load(dy + c, left), row_load(gamma + c, left), -means) * rstd;
            row_stream(has_add ? v + row_load(add + c, left) : v, dx + c, left);
        }
    }
}
