/* Attention of one new token over the keys and values of all tokens so far, and the copy that keeps those.
 *
 * For each head h, with x_j the columns h * HD .. h * HD + HD of row j of x (rows are tokens, [rows, heads * HD],
 * row-major), j in [0, count) and scale = 1 / sqrt(HD):
 *     s_j = scale q . k_j;   o = sum_j exp(s_j) v_j / sum_j exp(s_j)
 * A group owns a head and walks over the rows BLOCK at a time with a running maximum (Milakov and Gimelshein, "Online
 * normalizer calculation for softmax", 2018). Exponentials are taken in base 2. The order of sums depends on count, HD
 * and WG only.
 *
 * With WG = 1 a work-item computes the scores of a block, then adds its values in vectors. With work-groups an item
 * computes the score of one row, and then owns columns of the values, or, where there are more items than columns, the
 * columns of every PARTS-th row.
 *
 * Set by the host: HD, columns of a head, 1 to 128.
 */
#include "common.clh"
#include "row.clh"
#define LOG2E 1.44269504088896341f

/* q . k_j of one head */
float score(__global const float *q, __global const float *k)
{
    floatv sum = 0.0f;
    for (int d = 0; d < HD; d += VW) sum = fma(row_load(q + d, HD - d), row_load(k + d, HD - d), sum);
    return lanes_sum(sum);
}

#if WG == 1

#define BLOCK 64
#define VECTORS ((HD + VW - 1) / VW)

void head(__global float *o, __global const float *q, __global const float *k, __global const float *v, const int count,
          const ulong dim, const float c)
{
    floatv a[VECTORS];
    float s[BLOCK], most = -INFINITY, all = 0.0f;
    for (int i = 0; i < VECTORS; i++) a[i] = 0.0f;
    for (int j0 = 0; j0 < count; j0 += BLOCK) {
        const int n = min(BLOCK, count - j0);
        float top = most;
        for (int j = 0; j < n; j++) top = fmax(top, s[j] = score(q, k + (j0 + j) * dim));
        const float down = exp2((most - top) * c);
        most = top;
        all *= down;
        for (int i = 0; i < VECTORS; i++) a[i] *= down;
        for (int j = 0; j < n; j++) {
            const float p = exp2((s[j] - most) * c);
            __global const float *row = v + (j0 + j) * dim;
            all += p;
            for (int i = 0; i < VECTORS; i++) a[i] = fma((floatv)(p), row_load(row + i * VW, HD - i * VW), a[i]);
        }
    }
    for (int i = 0; i < VECTORS; i++) row_store(a[i] / all, o + i * VW, HD - i * VW);
}

#else

#define BLOCK WG
#define HDP (HD <= 8 ? 8 : HD <= 16 ? 16 : HD <= 32 ? 32 : HD <= 64 ? 64 : 128)
#define PARTS (WG > HDP ? WG / HDP : 1)
#define COLS (WG > HDP ? 1 : HDP / WG)

void head(__global float *o, __global const float *q, __global const float *k, __global const float *v, const int count,
          const ulong dim, const float c, __local float *s, __local float *scratch)
{
    const int item = (int)get_local_id(0), column = PARTS > 1 ? item % HDP : item, part = PARTS > 1 ? item / HDP : 0;
    float a[COLS], most = -INFINITY, all = 0.0f;
    for (int i = 0; i < COLS; i++) a[i] = 0.0f;
    for (int j0 = 0; j0 < count; j0 += BLOCK) {
        const int n = min(BLOCK, count - j0);
        const float mine = item < n ? score(q, k + (j0 + item) * dim) : -INFINITY;
        const float top = fmax(most, group_max(mine, scratch)), down = exp2((most - top) * c), p = exp2((mine - top) * c);
        most = top;
        s[item] = p;
        all = all * down + group_sum(p, scratch); /* its barriers make s visible to all */
        for (int i = 0; i < COLS; i++) {
            const int d = column + i * WG;
            float sum = 0.0f;
            if (d < HD)
                for (int j = part; j < n; j += PARTS) sum = fma(s[j], v[(j0 + j) * dim + d], sum);
            a[i] = a[i] * down + sum;
        }
        barrier(CLK_LOCAL_MEM_FENCE); /* s is written again */
    }
    s[item] = a[0]; /* the parts of a column; with one part it is read back by who wrote it */
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int i = 0; i < COLS; i++) {
        const int d = column + i * WG;
        float sum = i ? a[i] : s[item];
        if (part || d >= HD) continue;
        for (int p = 1; p < PARTS; p++) sum += s[d + p * HDP];
        o[d] = sum / all;
    }
}

#endif

__kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void attention_decode(OUT(float, o), IN(float, q), IN(float, k),
                                                                               IN(float, v), const int count,
                                                                               const int heads, const float scale)
{
    USE_OUT(float, o);
    USE_IN(float, q);
    USE_IN(float, k);
    USE_IN(float, v);
    const int at = (int)get_group_id(0) * HD;
    const ulong dim = (ulong)heads * HD;
#if WG == 1
    head(o + at, q + at, k + at, v + at, count, dim, scale * LOG2E);
#else
    __local float s[WG];
    GROUP_SCRATCH(scratch);
    head(o + at, q + at, k + at, v + at, count, dim, scale * LOG2E, s, scratch);
#endif
}

/* cache[i] = x[i] for i < n; the host puts the start of cache at the first row to fill. */
__kernel void attention_append(IO(float, cache), IN(float, x), const ulong n)
{
    USE_IO(float, cache);
    USE_IN(float, x);
    const ulong i = (ulong)get_global_id(0) * VW;
    if (i < n) row_store(row_load(x + i, (int)min(n - i, (ulong)VW)), cache + i, (int)min(n - i, (ulong)VW));
}
