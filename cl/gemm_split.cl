/* Products with a long inner dimension and a small result, on GPUs: C = A B, all as stored, f32. A group of 256 work-items
 * sums a tile of 64 x 128 of C over a piece of k, many pieces side by side; gemm_split_sum then adds the pieces in order.
 *
 * gemm_split: parts [pieces][m][n]; groups are tile columns in tile rows in pieces of kc, a multiple of KT.
 * gemm_split_sum: C becomes, or where accumulate is set grows by, the sum of the parts; a work-item takes VW columns.
 * Build options: ALIGNED: 1 if rows of A and B begin at multiples of 16 bytes; SUB_GROUP: smallest sub-group where the driver tells
 * one, else 0. They change no numbers.
 */
#include "common.clh"
#include "row.clh"

/* With wide hardware threads, which it takes where it can, Intel's compiler puts sums into memory. */
#if SUB_GROUP
#define TILE_GROUP __attribute__((reqd_work_group_size(256, 1, 1), intel_reqd_sub_group_size(SUB_GROUP)))
#else
#define TILE_GROUP __attribute__((reqd_work_group_size(256, 1, 1)))
#endif

#define TM 64
#define TN 128
#define KT 16

/* Four floats, zeros past `left`. */
float4 take4(__global const float *p, const long left)
{
    if (left >= 4) {
#if ALIGNED
        return *(__global const float4 *)p;
#else
        return vload4(0, p);
#endif
    }
    return (float4)(left > 0 ? p[0] : 0.0f, left > 1 ? p[1] : 0.0f, left > 2 ? p[2] : 0.0f, 0.0f);
}

#define EACH4(X) X(0) X(1) X(2) X(3)
#define ACC(r) float4 lo##r = 0.0f, hi##r = 0.0f;
#define MULTIPLY(r) lo##r = fma((float4)(a.s##r), b0, lo##r), hi##r = fma((float4)(a.s##r), b1, hi##r);
#define STORE(r)                                        \
    if (row + r < m) {                                  \
        __global float *p = parts + (row + r) * (ulong)n; \
        put4(lo##r, p + left, n - left);                \
        put4(hi##r, p + left + TN / 2, n - left - TN / 2); \
    }

void put4(const float4 v, __global float *p, const int left)
{
    if (left >= 4) {
        vstore4(v, 0, p);
        return;
    }
    if (left > 0) p[0] = v.s0;
    if (left > 1) p[1] = v.s1;
    if (left > 2) p[2] = v.s2;
}

__kernel TILE_GROUP void gemm_split(IN(float, a), IN(float, b), __global float *parts, const int m, const int n,
                                                                          const ulong k, const ulong lda, const ulong ldb, const int kc)
{
    __local float at[KT][TM + 4], bt[KT][TN];
    const int i = (int)get_local_id(0), across = (n + TN - 1) / TN, tiles = across * ((m + TM - 1) / TM);
    const int group = (int)get_group_id(0), piece = group / tiles, tile = group % tiles, m0 = tile / across * TM, n0 = tile % across * TN;
    const ulong first = (ulong)piece * kc, end = min(k, first + kc);
    const int ar = i / 4, ak = i % 4 * 4, bk = i / 32, bc = i % 32 * 4, row = m0 + i / 16 * 4, left = n0 + i % 16 * 4;
    USE_IN(float, a) + (ulong)(m0 + ar) * lda;
    USE_IN(float, b) + (ulong)(n0 + bc);
    parts += (ulong)piece * m * n;
    EACH4(ACC)
    for (ulong k0 = first; k0 < end; k0 += KT) {
        const float4 x = m0 + ar < m ? take4(a + k0 + ak, (long)(end - k0) - ak) : (float4)(0.0f);
        const float4 y0 = k0 + bk < end ? take4(b + (k0 + bk) * ldb, n - n0 - bc) : (float4)(0.0f);
        const float4 y1 = k0 + bk + 8 < end ? take4(b + (k0 + bk + 8) * ldb, n - n0 - bc) : (float4)(0.0f);
        barrier(CLK_LOCAL_MEM_FENCE); /* the tiles before have been read */
        at[ak][ar] = x.s0, at[ak + 1][ar] = x.s1, at[ak + 2][ar] = x.s2, at[ak + 3][ar] = x.s3;
        vstore4(y0, 0, &bt[bk][bc]);
        vstore4(y1, 0, &bt[bk + 8][bc]);
        barrier(CLK_LOCAL_MEM_FENCE);
#pragma unroll
        for (int t = 0; t < KT; t++) {
            const float4 a = vload4(i / 16, at[t]), b0 = vload4(i % 16, bt[t]), b1 = vload4(i % 16 + TN / 8, bt[t]);
            EACH4(MULTIPLY)
        }
    }
    EACH4(STORE)
}

__kernel void gemm_split_sum(__global const float *parts, IO(float, c), const ulong m, const int n, const ulong ldc, const int pieces, const int accumulate)
{
    const ulong row = get_group_id(0);
    if (row >= m) return;
    USE_IO(float, c) + row * ldc;
    parts += row * n;
    FOR_ROW(j, n) {
        floatv v = 0.0f;
        for (int p = 0; p < pieces; p++) v += row_load(parts + (ulong)p * m * n + j, n - j);
        if (accumulate) v += row_load(c + j, n - j);
        row_store(v, c + j, n - j);
    }
}
