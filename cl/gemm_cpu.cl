/* Matrix products for devices that run one work-item per group with wide vectors.
 *
 *     C[m,n] = op(A)[m,k] op(B)[k,n]   or  C += ...        row-major; lda, ldb, ldc elements between rows
 *
 * gemm_pack copies op(A) into tiles of MR rows, t[m / MR][k][MR], once for all groups. In gemm_panel a group owns
 * NR columns of C: it packs its part of op(B), KC rows at a time, into local memory (plain cache on a CPU) as
 * p[k][NR], and multiplies it with every tile of A; the MR x NR sums stay in registers. This is the order of
 * Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008), with the panel of B in the
 * second-level cache and a tile of A in the first.
 *
 * Set by the host: TA, TB (stored transposed), KC.
 */
#include "common.clh"

#define MR 8
#define NR 32
#define ONE __attribute__((reqd_work_group_size(1, 1, 1)))
#define EACH8(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

/* Lanes of x and y in turn: lo from their lower halves, hi from their upper. */
#define ZIP(lo_, hi_, x, y)                                 \
    float16 lo_, hi_;                                       \
    lo_.even = (x).lo, lo_.odd = (y).lo;                    \
    hi_.even = (x).hi, hi_.odd = (y).hi;

/* t[j * MR + i] = x[i * ld + j], 8 rows of 16. */
void pack_8x16(__global float *t, __global const float *x, const ulong ld)
{
#define LOAD(i) const float16 x##i = vload16(0, x + i * ld);
    EACH8(LOAD)
#undef LOAD
    ZIP(a0, a1, x0, x4) ZIP(b0, b1, x1, x5) ZIP(c0, c1, x2, x6) ZIP(d0, d1, x3, x7)
    ZIP(e0, e1, a0, c0) ZIP(e2, e3, a1, c1) ZIP(f0, f1, b0, d0) ZIP(f2, f3, b1, d1)
    ZIP(g0, g1, e0, f0) ZIP(g2, g3, e1, f1) ZIP(g4, g5, e2, f2) ZIP(g6, g7, e3, f3)
#define STORE(i) vstore16(g##i, i, t);
    EACH8(STORE)
#undef STORE
}

/* Group i packs rows i * MR .. i * MR + 7 of op(A); rows past m become zero. */
__kernel ONE void gemm_pack(IN(float, a), __global float *packed, const int m, const int k, const ulong lda)
{
    USE_IN(float, a);
    const int tile = get_group_id(0), row = tile * MR, rows = min(MR, m - row);
    __global float *t = packed + (ulong)tile * MR * k;
#if TA
    __global const float *x = a + row;
    if (rows == MR) {
        for (int j = 0; j < k; j++) vstore8(vload8(0, x + j * lda), j, t);
    } else {
        for (int j = 0; j < k; j++)
            for (int i = 0; i < MR; i++) t[j * MR + i] = i < rows ? x[j * lda + i] : 0.0f;
    }
#else
    __global const float *x = a + row * lda;
    int j = 0;
    if (rows == MR)
        for (; j + 16 <= k; j += 16) pack_8x16(t + j * MR, x + j, lda);
    for (; j < k; j++)
        for (int i = 0; i < MR; i++) t[j * MR + i] = i < rows ? x[i * lda + j] : 0.0f;
#endif
}

#if TB
/* p[j * NR + i] = x[i * ld + j], 16 rows of 16. */
void pack_16x16(__local float *p, __global const float *x, const ulong ld)
{
#define LOAD(i) const float16 x##i = vload16(0, x + 0x##i * ld);
    LOAD(0) LOAD(1) LOAD(2) LOAD(3) LOAD(4) LOAD(5) LOAD(6) LOAD(7)
    LOAD(8) LOAD(9) LOAD(a) LOAD(b) LOAD(c) LOAD(d) LOAD(e) LOAD(f)
#undef LOAD
    /* four rounds: rows 8 apart, then 4, 2, 1 */
    ZIP(a0, a1, x0, x8) ZIP(a2, a3, x1, x9) ZIP(a4, a5, x2, xa) ZIP(a6, a7, x3, xb)
    ZIP(a8, a9, x4, xc) ZIP(aa, ab, x5, xd) ZIP(ac, ad, x6, xe) ZIP(ae, af, x7, xf)
    ZIP(b0, b1, a0, a8) ZIP(b2, b3, a1, a9) ZIP(b4, b5, a2, aa) ZIP(b6, b7, a3, ab)
    ZIP(b8, b9, a4, ac) ZIP(ba, bb, a5, ad) ZIP(bc, bd, a6, ae) ZIP(be, bf, a7, af)
    ZIP(c0, c1, b0, b8) ZIP(c2, c3, b1, b9) ZIP(c4, c5, b2, ba) ZIP(c6, c7, b3, bb)
    ZIP(c8, c9, b4, bc) ZIP(ca, cb, b5, bd) ZIP(cc, cd, b6, be) ZIP(ce, cf, b7, bf)
    ZIP(d0, d1, c0, c8) ZIP(d2, d3, c1, c9) ZIP(d4, d5, c2, ca) ZIP(d6, d7, c3, cb)
    ZIP(d8, d9, c4, cc) ZIP(da, db, c5, cd) ZIP(dc, dd, c6, ce) ZIP(de, df, c7, cf)
#define STORE(i) vstore16(d##i, 2 * 0x##i, p);
    STORE(0) STORE(1) STORE(2) STORE(3) STORE(4) STORE(5) STORE(6) STORE(7)
    STORE(8) STORE(9) STORE(a) STORE(b) STORE(c) STORE(d) STORE(e) STORE(f)
#undef STORE
}
#endif

/* p[j][i] = op(B)[k0 + j][col + i] for j < kc, i < cols; zero for the other i. */
void pack_panel(__local float *p, __global const float *b, const ulong ldb, const int k0, const int kc, const int col, const int cols)
{
#if TB
    __global const float *x = b + col * ldb + k0;
    int j = 0;
    if (cols == NR)
        for (; j + 16 <= kc; j += 16) {
            pack_16x16(p + j * NR, x + j, ldb);
            pack_16x16(p + j * NR + 16, x + 16 * ldb + j, ldb);
        }
    for (; j < kc; j++)
        for (int i = 0; i < NR; i++) p[j * NR + i] = i < cols ? x[i * ldb + j] : 0.0f;
#else
    __global const float *x = b + k0 * ldb + col;
    if (cols == NR) {
        for (int j = 0; j < kc; j++) {
            vstore16(vload16(0, x + j * ldb), 2 * j, p);
            vstore16(vload16(1, x + j * ldb), 2 * j + 1, p);
        }
    } else {
        for (int j = 0; j < kc; j++)
            for (int i = 0; i < NR; i++) p[j * NR + i] = i < cols ? x[j * ldb + i] : 0.0f;
    }
#endif
}

/* Write or add two vectors of a row of C, `cols` of them. */
void put_row(__global float *c, const float16 lo, const float16 hi, const int cols, const int add)
{
    if (cols == NR) {
        vstore16(add ? lo + vload16(0, c) : lo, 0, c);
        vstore16(add ? hi + vload16(1, c) : hi, 1, c);
    } else {
        float t[NR];
        vstore16(lo, 0, t);
        vstore16(hi, 1, t);
        for (int i = 0; i < cols; i++) c[i] = add ? c[i] + t[i] : t[i];
    }
}

__kernel ONE void gemm_panel(__global const float *packed, IN(float, b), IO(float, c), const int m, const int n, const int k,
                             const ulong ldb, const ulong ldc, const int accumulate)
{
    __local float panel[KC * NR] __attribute__((aligned(64)));
    USE_IN(float, b);
    USE_IO(float, c);
    const int col = get_group_id(0) * NR, cols = min(NR, n - col);
    for (int k0 = 0; k0 < k; k0 += KC) {
        const int kc = min(KC, k - k0), add = accumulate || k0;
        pack_panel(panel, b, ldb, k0, kc, col, cols);
        for (int row = 0; row < m; row += MR) {
            __global const float *t = packed + (ulong)row * k + (ulong)k0 * MR;
            __global float *out = c + row * ldc + col;
#define START(r) float16 a##r = 0.0f, b##r = 0.0f;
#define STEP(r) a##r = fma((float16)(t[j * MR + r]), u, a##r), b##r = fma((float16)(t[j * MR + r]), w, b##r);
#define END(r) if (row + r < m) put_row(out + r * ldc, a##r, b##r, cols, add);
            EACH8(START)
            for (int j = 0; j < kc; j++) {
                const float16 u = vload16(2 * j, panel), w = vload16(2 * j + 1, panel);
                EACH8(STEP)
            }
            EACH8(END)
#undef START
#undef STEP
#undef END
        }
    }
}
