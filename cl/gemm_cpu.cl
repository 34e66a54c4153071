/* Matrix products for devices that run one work-item per group with wide vectors.
 *
 *     C[m,n] = op(A)[m,k] op(B)[k,n]   or  C += ...        row-major; lda, ldb, ldc elements between rows
 *
 * A product is made of tiles of 8 x 32 sums in registers (NARROW: 8 x 24, of which 4 x 24 at a time): for each k, 8 numbers
 * of one operand are broadcast and multiplied with 32 of the other. Operands are packed for that, so that a tile reads them
 * from end to end:
 *     tiles  t[i / 8][k][8]        the operand that is broadcast
 *     panels p[j / NR][k][NR]      the operand that is taken as vectors
 * The smaller operand is packed once for all groups, by gemm_pack_tiles or gemm_pack_panels; the larger one by the
 * group that uses it, KC of k at a time, into local memory, which is cache on a CPU:
 *     gemm_columns   a group owns COUNT panels of op(B); tiles of op(A) come packed
 *     gemm_packed    the same with op(B) packed beforehand as a whole, panels `step` apart; op(B) was stored as it is used
 *     gemm_rows      a group owns COUNT tiles of op(A); panels of op(B) come packed
 *     gemm_strips    a group owns COUNT times 8 columns; op(B) is stored transposed and read in place, as what is
 *                    broadcast; panels of op(A) come packed, and the finished tile is transposed
 * The order of loops is that of Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008).
 *
 * When `last` is set, C is what the epilogue makes of the sum: + bias[n], then ReLU, then + residual[m,n] (rows ldr
 * apart). bias and residual may be null.
 *
 * Operands may be stored in 16 bits: packing converts them; strips take op(B) in fp32 only.
 *
 * Set by the host: TA, TB (stored transposed); TILE_TYPE and PANEL_TYPE, how what becomes tiles and panels is stored: 0 f32,
 * 1 f16, 2 bf16; KC, COUNT; KIND, which of the four, in that order: no other is compiled.
 */
#include "common.clh"

#define T_0 float
#define T_1 half
#define T_2 ushort
#define LOAD_16_0(p) vload16(0, p)
#define LOAD_16_1(p) vload_half16(0, p)
#define LOAD_16_2(p) as_float16(convert_uint16(vload16(0, p)) << 16)
#define LOAD_8_0(p) vload8(0, p)
#define LOAD_8_1(p) vload_half8(0, p)
#define LOAD_8_2(p) as_float8(convert_uint8(vload8(0, p)) << 16)
#define LOAD_1_0(p) *(p)
#define LOAD_1_1(p) vload_half(0, p)
#define LOAD_1_2(p) as_float((uint)*(p) << 16)
#define TILE_T CAT(T_, TILE_TYPE)
#define TILE_16 CAT(LOAD_16_, TILE_TYPE)
#define TILE_1 CAT(LOAD_1_, TILE_TYPE)
#define PANEL_T CAT(T_, PANEL_TYPE)
#define PANEL_16 CAT(LOAD_16_, PANEL_TYPE)
#define PANEL_8 CAT(LOAD_8_, PANEL_TYPE)
#define PANEL_1 CAT(LOAD_1_, PANEL_TYPE)

#define MR 8
#define PACK_ROWS 32 /* rows that a group packs into tiles */
/* A tile's row: 16 sums, and those of type REST from the 17th on. */
#if NARROW
#define NR 24
#define REST float8
#define LOAD_REST vload8
#define STORE_REST vstore8
#define PANEL_REST PANEL_8
#else
#define NR 32
#define REST float16
#define LOAD_REST vload16
#define STORE_REST vstore16
#define PANEL_REST PANEL_16
#endif
#define ONE __attribute__((reqd_work_group_size(1, 1, 1)))
#define UPPER4(X) X(0) X(1) X(2) X(3)
#define LOWER4(X) X(4) X(5) X(6) X(7)
#define EACH8(X) UPPER4(X) LOWER4(X)
#define EACH16(X) EACH8(X) X(8) X(9) X(a) X(b) X(c) X(d) X(e) X(f)

/* Lanes of x and y in turn: lo from their lower halves, hi from their upper. */
#define ZIP(lo_, hi_, x, y)                                 \
    float16 lo_, hi_;                                       \
    lo_.even = (x).lo, lo_.odd = (y).lo;                    \
    hi_.even = (x).hi, hi_.odd = (y).hi;

/* g0..g7: the transpose of rows x0..x7, two of its 16 rows each. */
#define TRANSPOSE_8x16(g, x)                                                                                     \
    ZIP(g##a0, g##a1, x##0, x##4) ZIP(g##b0, g##b1, x##1, x##5) ZIP(g##c0, g##c1, x##2, x##6) ZIP(g##d0, g##d1, x##3, x##7) \
    ZIP(g##e0, g##e1, g##a0, g##c0) ZIP(g##e2, g##e3, g##a1, g##c1) ZIP(g##f0, g##f1, g##b0, g##d0) ZIP(g##f2, g##f3, g##b1, g##d1) \
    ZIP(g##0, g##1, g##e0, g##f0) ZIP(g##2, g##3, g##e1, g##f1) ZIP(g##4, g##5, g##e2, g##f2) ZIP(g##6, g##7, g##e3, g##f3)

/* Packing is the same in global and in local memory: each function twice. */
#define SPACE __global
#define NAME(x) x##_global
#include "gemm_cpu_pack.clh"
#undef SPACE
#undef NAME
#define SPACE __local
#define NAME(x) x##_local
#include "gemm_cpu_pack.clh"

#define COLUMNS 0
#define PACKED 1
#define ROWS 2
#define STRIPS 3

#if KIND == COLUMNS || KIND == PACKED
/* Group i packs rows 32 i .. 32 i + 31 of op(A) into four tiles; rows past m become zero. */
__kernel ONE void gemm_pack_tiles(IN(TILE_T, a), __global float *packed, const int m, const int k, const ulong lda)
{
    USE_IN(TILE_T, a);
    const int row = get_group_id(0) * PACK_ROWS;
    pack_tiles_global(packed + (ulong)row * k, (ulong)k * MR, a + (TA ? (ulong)row : row * lda), lda, TA, k, min(PACK_ROWS, m - row));
}
#else
/* Group i packs NR rows of op(A), or NR columns of op(B), from NR i; those past `rows` become zero. along: they are
 * stored next to each other, else k is. */
__kernel ONE void gemm_pack_panels(IN(PANEL_T, x), __global float *packed, const int rows, const int k, const ulong ld, const int along)
{
    USE_IN(PANEL_T, x);
    const int row = get_group_id(0) * NR;
    pack_panel_global(packed + (ulong)row * k, x + (along ? (ulong)row : row * ld), ld, along, k, min(NR, rows - row));
}

#endif

#if KIND == PACKED
/* The same for the whole of a matrix [k,cols], into a tensor that is kept. */
__kernel ONE void gemm_keep_panels(IN(PANEL_T, x), OUT(float, packed), const int cols, const int k)
{
    USE_IN(PANEL_T, x);
    USE_OUT(float, packed);
    const int col = get_group_id(0) * NR;
    pack_panel_global(packed + (ulong)col * k, x + col, cols, 1, k, min(NR, cols - col));
}

#endif

/* What becomes of a tile's sums. */
typedef struct epilogue {
    __global const float *bias, *residual; /* at the tile's first column, and element */
    ulong ldr;
    int add, last, relu;                   /* add: to what is in C */
} epilogue;

/* The arguments of all kernels that multiply, about C. */
#define OUTPUT_ARGS                                                                                                   \
    IO(float, c), const ulong ldc, const int accumulate, const int last, IN(float, bias), const int has_bias, const int relu, \
        IN(float, residual), const int has_residual, const ulong ldr
#define USE_OUTPUT      \
    USE_IO(float, c);   \
    USE_IN(float, bias); \
    USE_IN(float, residual)
#define EPILOGUE(row_, col_, add_) \
    {has_bias ? bias + (col_) : 0, has_residual ? residual + (row_) * ldr + (col_) : 0, ldr, add_, last && last_k, relu}

float16 finish(float16 v, const epilogue e, const int row)
{
    if (e.bias) v += vload16(0, e.bias);
    if (e.relu) v = v < 0.0f ? (float16)(0.0f) : v;
    if (e.residual) v += vload16(0, e.residual + row * e.ldr);
    return v;
}

REST finish_rest(REST v, const epilogue e, const int row)
{
    if (e.bias) v += LOAD_REST(0, e.bias + 16);
    if (e.relu) v = v < 0.0f ? (REST)(0.0f) : v;
    if (e.residual) v += LOAD_REST(0, e.residual + row * e.ldr + 16);
    return v;
}

/* Row `row` of a tile, `cols` of its numbers inside C. Rare: inlined, what it keeps in registers would slow the whole tiles down. */
__attribute__((noinline)) void put_row(__global float *c, const float16 lo, const REST hi, const int row, const int cols, const epilogue e)
{
    float t[NR];
    vstore16(lo, 0, t);
    STORE_REST(hi, 0, t + 16);
    for (int i = 0; i < cols; i++) {
        float v = e.add ? c[i] + t[i] : t[i];
        if (e.last && e.bias) v += e.bias[i];
        if (e.last && e.relu) v = v < 0.0f ? 0.0f : v;
        if (e.last && e.residual) v += e.residual[row * e.ldr + i];
        c[i] = v;
    }
}

#define START(r) float16 s##r = 0.0f; REST v##r = 0.0f;
#define STEP(r) s##r = fma((float16)(BROADCAST(r)), u, s##r), v##r = fma((REST)(BROADCAST(r)), w, v##r);
#if NARROW
#define UNROLL _Pragma("unroll 2")
#else
#define UNROLL
#endif
#define STEPS(kc, panel, ROWS_)                                                               \
    UNROLL for (int j = 0; j < (kc); j++) {                                                   \
        const float16 u = vload16(0, (panel) + j * NR);                                       \
        const REST w = LOAD_REST(0, (panel) + j * NR + 16);                                   \
        ROWS_(STEP)                                                                           \
    }

#define ROW_LINES ((COUNT * NR + 15) / 16) /* lines of a row of op(B) that a group owns */
#define NEXT_LINES (TB ? COUNT * NR * (KC / 16) : KC * ROW_LINES)
/* Ask for line `i` of what the group packs next: k of op(B) from k1, `count` panels from column `first`. */
#define prefetch_next(b_, i)                                                                                         \
    do {                                                                                                             \
        const int next_ = (i);                                                                                       \
        if (TB) prefetch_line(b_ + (first + next_ / (KC / 16)) * ldb + k1 + next_ % (KC / 16) * 16);                 \
        else prefetch_line(b_ + (k1 + next_ / ROW_LINES) * ldb + first + next_ % ROW_LINES * 16);                    \
    } while (0)

#define PREFETCH_ROW(r) prefetch_line(out + r * ldc), prefetch_line(out + r * ldc + NR - 1);
#define LOAD_C(r) s##r += vload16(0, out + r * ldc), v##r += LOAD_REST(0, out + r * ldc + 16);
#define FINISH(r) s##r = finish(s##r, e, r), v##r = finish_rest(v##r, e, r);
#define STORE_C(r) vstore16(s##r, 0, out + r * ldc), STORE_REST(v##r, 0, out + r * ldc + 16);
#define STORE_PART(r) if (r < rows) put_row(out + r * ldc, s##r, v##r, r, cols, e);
/* The sums of a tile's rows over kc of k, and to C with them. */
#define SUMS_TO_C(kc, panel, ROWS_)             \
    {                                           \
        ROWS_(START)                            \
        STEPS(kc, panel, ROWS_)                 \
        if (rows == MR && cols == NR) {         \
            if (e.add) { ROWS_(LOAD_C) }        \
            if (e.last && (e.bias || e.relu || e.residual)) { ROWS_(FINISH) } \
            ROWS_(STORE_C)                      \
        } else {                                \
            ROWS_(STORE_PART)                   \
        }                                       \
    }
/* A whole tile. EACH_PAIR: all pairs of the group's panels and of tiles. */
#if NARROW /* half of its rows at a time: 12 registers of 8 sums, 3 of the panel and what is broadcast are all there are; the panel stays in the
            * first cache */
#define TILE(kc, panel) SUMS_TO_C(kc, panel, UPPER4) SUMS_TO_C(kc, panel, LOWER4)
#define EACH_PAIR for (int p = 0; p < count; p++) for (int row = 0; row < m; row += MR)
#else
#define TILE(kc, panel) SUMS_TO_C(kc, panel, EACH8)
#define EACH_PAIR for (int row = 0; row < m; row += MR) for (int p = 0; p < count; p++)
#endif

#if KIND != STRIPS
#define BROADCAST(r) t[j * MR + r]
#endif
/* kc of k, from k0, of all tiles of a group's panels: PANEL says where panel p is, MEANWHILE is done before a tile's sums. */
#define EACH_TILE(PANEL, MEANWHILE)                                                        \
    EACH_PAIR {                                                                            \
        __global const float *t = packed + (ulong)row * k + (ulong)k0 * MR;                \
        const int col = first + p * NR, rows = min(MR, m - row), cols = min(NR, n - col);  \
        PANEL                                                                              \
        __global float *out = c + row * ldc + col;                                         \
        const epilogue e = EPILOGUE(row, col, accumulate || k0);                           \
        EACH8(PREFETCH_ROW)                                                                \
        MEANWHILE                                                                          \
        TILE(kc, panel)                                                                    \
    }

#if KIND == COLUMNS
/* The first `whole` panels of a group from kc rows of op(B), each row in one go. */
void pack_whole_rows(__local float *panels, __global const PANEL_T *x, const ulong ld, const int kc, const int whole)
{
    for (int j = 0; j < kc; j++, x += ld)
        for (int p = 0; p < whole; p++) {
            __local float *to = panels + (p * KC + j) * NR;
            vstore16(PANEL_16(x + p * NR), 0, to);
            STORE_REST(PANEL_REST(x + p * NR + 16), 0, to + 16);
        }
}

__kernel ONE void gemm_columns(__global const float *packed, IN(PANEL_T, b), const int m, const int n, const int k, const ulong ldb,
                             OUTPUT_ARGS)
{
    __local float panels[COUNT * KC * NR] __attribute__((aligned(64)));
    USE_IN(PANEL_T, b);
    USE_OUTPUT;
    const int first = get_group_id(0) * NR * COUNT, count = min(COUNT, (n - first + NR - 1) / NR);
    for (int k0 = 0; k0 < k; k0 += KC) {
        const int kc = min(KC, k - k0), last_k = k0 + KC >= k;
        const int k1 = k0 + KC, lines = k1 + KC <= k && count == COUNT ? NEXT_LINES : 0;
        const int part = lines / (((m + MR - 1) / MR) * COUNT) + 1;
        int line = 0;
        const int whole = TB ? 0 : min(count, (n - first) / NR);
        pack_whole_rows(panels, b + k0 * ldb + first, ldb, kc, whole);
        for (int p = whole; p < count; p++) {
            const int col = first + p * NR;
            pack_panel_local(panels + p * KC * NR, b + (TB ? col * ldb + k0 : k0 * ldb + col), ldb, !TB, kc, min(NR, n - col));
        }
        EACH_TILE(__local const float *panel = panels + p * KC * NR;,
                  for (const int end = min(line + part, lines); line < end; line++) prefetch_next(b, line);)
    }
}
#elif KIND == PACKED
__kernel ONE void gemm_packed(__global const float *packed, IN(float, b), const int m, const int n, const int k, const ulong step,
                             OUTPUT_ARGS)
{
    USE_IN(float, b);
    USE_OUTPUT;
    const int first = get_group_id(0) * NR * COUNT, count = min(COUNT, (n - first + NR - 1) / NR);
    for (int k0 = 0; k0 < k; k0 += KC) {
        const int kc = min(KC, k - k0), last_k = k0 + KC >= k;
        EACH_TILE(__global const float *panel = b + col / NR * step + (ulong)k0 * NR;, )
    }
}
#elif KIND == ROWS
__kernel ONE void gemm_rows(IN(TILE_T, a), __global const float *packed, const int m, const int n, const int k, const ulong lda,
                             OUTPUT_ARGS)
{
    __local float tiles[COUNT * KC * MR] __attribute__((aligned(64)));
    USE_IN(TILE_T, a);
    USE_OUTPUT;
    const int first = get_group_id(0) * MR * COUNT, count = min(COUNT, (m - first + MR - 1) / MR);
    for (int k0 = 0; k0 < k; k0 += KC) {
        const int kc = min(KC, k - k0), last_k = k0 + KC >= k;
        pack_tiles_local(tiles, KC * MR, a + (TA ? k0 * lda + first : first * lda + k0), lda, TA, kc, min(MR * COUNT, m - first));
        for (int col = 0; col < n; col += NR) {
            __global const float *panel = packed + (ulong)col * k + (ulong)k0 * NR;
            const int cols = min(NR, n - col);
            for (int p = 0; p < count; p++) {
                __local const float *t = tiles + p * KC * MR;
                const int row = first + p * MR, rows = min(MR, m - row);
                __global float *out = c + row * ldc + col;
                const epilogue e = EPILOGUE(row, col, accumulate || k0);
                EACH8(PREFETCH_ROW)
                TILE(kc, panel)
            }
        }
    }
}
#else
/* Row `row` of C, `cols` of its 8 numbers inside. */
void put_8(__global float *c, float8 x, const int row, const int cols, const epilogue e)
{
    if (cols == MR) {
        if (e.add) x += vload8(0, c);
        if (e.last) {
            if (e.bias) x += vload8(0, e.bias);
            if (e.relu) x = x < 0.0f ? (float8)(0.0f) : x;
            if (e.residual) x += vload8(0, e.residual + row * e.ldr);
        }
        vstore8(x, 0, c);
    } else {
        float t[MR];
        vstore8(x, 0, t);
        for (int i = 0; i < cols; i++) {
            float v = e.add ? c[i] + t[i] : t[i];
            if (e.last) {
                if (e.bias) v += e.bias[i];
                if (e.relu) v = v < 0.0f ? 0.0f : v;
                if (e.residual) v += e.residual[row * e.ldr + i];
            }
            c[i] = v;
        }
    }
}

#define ROW_OF_B(r) __global const float *b##r = x + min(r, cols - 1) * ldb;
#define BROADCAST(r) b##r[j]
#define PUT_PAIR(r) PUT_ONE(2 * r, g##r.lo) PUT_ONE(2 * r + 1, g##r.hi)
#define PUT_PAIR_2(r) PUT_ONE(2 * r + 16, h##r.lo) PUT_ONE(2 * r + 17, h##r.hi)
#if NARROW
#define PUT_REST(PUT) UPPER4(PUT)
#define ALL_16(r) const float16 w##r = (float16)(v##r, v##r);
#else
#define PUT_REST(PUT) EACH8(PUT)
#define ALL_16(r) const float16 w##r = v##r;
#endif
#define PUT_ONE(i, x_) if ((i) < rows) put_8(out + (i) * ldc, x_, i, cols, e);
__kernel ONE void gemm_strips(__global const float *packed, IN(float, b), const int m, const int n, const int k, const ulong ldb,
                             OUTPUT_ARGS)
{
    USE_IN(float, b);
    USE_OUTPUT;
    const int first = get_group_id(0) * MR * COUNT, count = min(COUNT, (n - first + MR - 1) / MR);
    for (int k0 = 0; k0 < k; k0 += KC) {
        const int kc = min(KC, k - k0), last_k = k0 + KC >= k;
        for (int row = 0; row < m; row += NR) {
            __global const float *panel = packed + (ulong)row * k + (ulong)k0 * NR;
            const int rows = min(NR, m - row);
            for (int p = 0; p < count; p++) {
                const int col = first + p * MR, cols = min(MR, n - col);
                __global const float *x = b + col * ldb + k0;
                __global float *out = c + row * ldc + col;
                const epilogue e = EPILOGUE(row, col, accumulate || k0);
                EACH8(ROW_OF_B)
                EACH8(START)
                STEPS(kc, panel, EACH8)
                TRANSPOSE_8x16(g, s)
                EACH8(ALL_16)
                TRANSPOSE_8x16(h, w)
                EACH8(PUT_PAIR)
                PUT_REST(PUT_PAIR_2)
            }
        }
    }
}
#endif
