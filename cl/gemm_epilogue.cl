/* What follows a matrix product whose engine doesn't do it itself, in place, one group a row:
 *     c[i,j] = max(0, c[i,j] + bias[j]) + residual[i,j]
 * each part if it is asked for. c: m rows of n floats, ldc apart; residual: rows ldr apart; bias: n floats.
 */
#include "common.clh"
#include "row.clh"

__kernel void gemm_epilogue(IN(float, bias), IN(float, residual), IO(float, c), const ulong m, const int n, const ulong ldc, const ulong ldr,
                            const int has_bias, const int has_residual, const int relu)
{
    const ulong i = get_group_id(0);
    if (i >= m) return;
    USE_IN(float, bias);
    USE_IN(float, residual) + i * ldr;
    USE_IO(float, c) + i * ldc;
    FOR_ROW(j, n) {
        floatv v = row_load(c + j, n - j);
        if (has_bias) v += row_load(bias + j, n - j);
        if (relu) v = v < (floatv)(0.0f) ? (floatv)(0.0f) : v;
        if (has_residual) v += row_load(residual + j, n - j);
        row_store(v, c + j, n - j);
    }
}
