/* What a linear layer needs besides its matrix products:
 *     column_sum    out[b,j] (+)= sum of x[i,j] over the rows i of block b, which has `block` rows
 * column_sum: x: n rows of d floats; out: one row of d floats a block, overwritten, or added to when `add`.
 * Groups: dimension 0 strips of `width` columns, dimension 1 blocks. The order of summation depends on the
 * shapes only. With WG > 1, width is a power of two that divides WG.
 */
#include "common.clh"
#include "row.clh"

#if WG == 1
/* Row after row, four at a time; the strip of `out` stays in the cache. */
__kernel void column_sum(IN(float, x), IO(float, out), const ulong n, const int d, const ulong block, const int width,
                         const int add)
{
    const ulong first = get_group_id(1) * block, end = min(n, first + block);
    const int from = (int)get_group_id(0) * width, to = min(d, from + width);
    USE_IN(float, x);
    USE_IO(float, out) + get_group_id(1) * (ulong)d;
    for (ulong row = first; row < end; row += 4) {
        __global const float *p = x + row * (ulong)d;
        const int rows = (int)min(end - row, (ulong)4), fresh = row == first && !add;
        for (int c = from; c < to; c += VW) {
            floatv v = row_load(p + c, to - c), w = 0.0f;
            if (rows == 4) {
                v += row_load(p + (ulong)d + c, to - c);
                w = row_load(p + 2 * (ulong)d + c, to - c) + row_load(p + 3 * (ulong)d + c, to - c);
            } else {
                for (int i = 1; i < rows; i++) w += row_load(p + (ulong)i * (ulong)d + c, to - c);
            }
            v += w;
            row_store(fresh ? v : row_load(out + c, to - c) + v, out + c, to - c);
        }
    }
}
#else
/* width columns side by side, WG / width rows at a time; their sums meet in local memory. */
__kernel void column_sum(IN(float, x), IO(float, out), const ulong n, const int d, const ulong block, const int width,
                         const int add)
{
    __local float part[WG];
    const int l = get_local_id(0), rows = WG / width, r = l / width;
    const int c = (int)get_group_id(0) * width + l % width;
    const ulong first = get_group_id(1) * block, end = min(n, first + block);
    USE_IN(float, x) + c;
    USE_IO(float, out) + get_group_id(1) * (ulong)d;
    float a[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (c < d) {
        ulong i = first + r;
        const ulong step = (ulong)rows * (ulong)d;
        for (; i + 3 * rows < end; i += 4 * rows) {
            __global const float *p = x + i * (ulong)d;
            for (int k = 0; k < 4; k++) a[k] += p[k * step];
        }
        for (; i < end; i += rows) a[0] += x[i * (ulong)d];
    }
    part[l] = (a[0] + a[1]) + (a[2] + a[3]);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int h = rows / 2; h > 0; h >>= 1) {
        if (r < h) part[l] += part[l + h * width];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (r == 0 && c < d) out[c] = add ? out[c] + part[l] : part[l];
}
#endif
