/* What moves memory, for castor bench device. Sizes are the host's to choose so that nothing is left over: n is a multiple of
 * VW and of the group, `per` of 4 VW WG, rows and columns of TILE. */
#include "common.clh"
#include "row.clh"

#define TILE 32
#ifndef COLS
#define COLS 1024
#endif

__kernel void copy(OUT(float, y), IN(float, x))
{
    USE_OUT(float, y);
    USE_IN(float, x);
    const ulong i = (ulong)get_global_id(0) * VW;
    row_store(row_load(x + i, VW), y + i, VW);
}

/* y = x + s z */
__kernel void triad(OUT(float, y), IN(float, x), IN(float, z), const float s)
{
    USE_OUT(float, y);
    USE_IN(float, x);
    USE_IN(float, z);
    const ulong i = (ulong)get_global_id(0) * VW;
    row_store(fma((floatv)(s), row_load(z + i, VW), row_load(x + i, VW)), y + i, VW);
}

/* y[g]: the sum of x[g per ... (g + 1) per), of group g. */
__kernel void sum(OUT(float, y), IN(float, x), const int per)
{
    USE_OUT(float, y);
    USE_IN(float, x);
    GROUP_SCRATCH(scratch);
    __global const float *p = x + (ulong)get_group_id(0) * per;
    const int step = WG * VW;
    floatv a = (floatv)(0.0f), b = a, c = a, d = a;
    for (int i = (int)get_local_id(0) * VW; i < per; i += 4 * step) {
        a += row_load(p + i, VW);
        b += row_load(p + i + step, VW);
        c += row_load(p + i + 2 * step, VW);
        d += row_load(p + i + 3 * step, VW);
    }
    const float all = group_sum(lanes_sum((a + b) + (c + d)), scratch);
    if (get_local_id(0) == 0) y[get_group_id(0)] = all;
}

/* y[cols,rows] = x[rows,cols] transposed. A group has a tile; on a CPU 16 rows of TILE * 8 columns (VW is 16), a square of
 * 16 at a time in registers. Groups: (columns, rows). */
__kernel void transpose(OUT(float, y), IN(float, x), const int rows, const int cols)
{
    USE_OUT(float, y);
    USE_IN(float, x);
#if WG == 1
    const int r = get_group_id(1) * VW;
    for (int k = 0; k < TILE * 8; k += VW) {
        const int c = get_group_id(0) * TILE * 8 + k;
        float t[VW][VW];
        for (int i = 0; i < VW; i++) vstorev(vloadv(0, x + (ulong)(r + i) * cols + c), 0, t[i]);
        for (int j = 0; j < VW; j++) {
            float u[VW];
            for (int i = 0; i < VW; i++) u[i] = t[i][j];
            vstorev(vloadv(0, u), 0, y + (ulong)(c + j) * rows + r);
        }
    }
#else
    __local float t[TILE][TILE + 1]; /* one more: a column's numbers are then in different banks */
    const int r = get_group_id(1) * TILE, c = get_group_id(0) * TILE;
    for (int e = get_local_id(0); e < TILE * TILE; e += WG) t[e / TILE][e % TILE] = x[(ulong)(r + e / TILE) * cols + c + e % TILE];
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int e = get_local_id(0); e < TILE * TILE; e += WG) y[(ulong)(c + e / TILE) * rows + r + e % TILE] = t[e % TILE][e / TILE];
#endif
}

/* y = exp(x - max) / sum of that, along each row of COLS; a group has a row, in registers. */
#define MINE (COLS / (WG * VW))
__kernel void softmax(OUT(float, y), IN(float, x))
{
    USE_OUT(float, y);
    USE_IN(float, x);
    GROUP_SCRATCH(scratch);
    const ulong at = (ulong)get_group_id(0) * COLS + get_local_id(0) * VW;
    floatv v[MINE], most, all = (floatv)(0.0f);
    /* an array with other than constant indices would be memory */
#pragma unroll
    for (int k = 0; k < MINE; k++) v[k] = row_load(x + at + k * WG * VW, VW);
    most = v[0];
#pragma unroll
    for (int k = 1; k < MINE; k++) most = fmax(most, v[k]);
    const float top = group_max(lanes_max(most), scratch);
#pragma unroll
    for (int k = 0; k < MINE; k++) {
        v[k] = exp(v[k] - top);
        all += v[k];
    }
    const float factor = 1.0f / group_sum(lanes_sum(all), scratch);
#pragma unroll
    for (int k = 0; k < MINE; k++) row_store(v[k] * factor, y + at + k * WG * VW, VW);
}
