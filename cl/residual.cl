/* Residual connection with dropout (post- and pre-norm transformer blocks, Vaswani et al., 2017, section 5.4):
 *     residual_forward   s[i,j] = r[i,j] + dropout(x[i,j] + bias[j])
 *     residual_backward  dx[i,j] = dropout(ds[i,j]), with the mask of the forward pass
 * x, r, s, ds, dx: n rows of d floats; bias: d floats, read when has_bias. One group a row. s may be x or r,
 * dx may be ds: an element is read before it is written, by the same work-item.
 */
#include "common.clh"
#include "row.clh"
#include "dropout.clh"

__kernel void residual_forward(IN(float, x), IN(float, bias), IN(float, r), OUT(float, s), const ulong n, const int d,
                               const int has_bias, const uint key0, const uint key1, const uint site, const uint step,
                               const uint threshold, const float scale)
{
    drop_t drop = DROP_INIT;
    const ulong row = get_group_id(0), at = row * (ulong)d;
    if (row >= n) return;
    USE_IN(float, x) + at;
    USE_IN(float, bias);
    USE_IN(float, r) + at;
    USE_OUT(float, s) + at;
    FOR_ROW(c, d) {
        floatv v = row_load(x + c, d - c);
        if (has_bias) v += row_load(bias + c, d - c);
        row_store(row_load(r + c, d - c) + dropout(v, at + c, &drop), s + c, d - c);
    }
}

__kernel void residual_backward(IN(float, ds), OUT(float, dx), const ulong n, const int d, const uint key0,
                                const uint key1, const uint site, const uint step, const uint threshold,
                                const float scale)
{
    drop_t drop = DROP_INIT;
    const ulong row = get_group_id(0), at = row * (ulong)d;
    if (row >= n) return;
    USE_IN(float, ds) + at;
    USE_OUT(float, dx) + at;
    FOR_ROW(c, d) row_store(dropout(row_load(ds + c, d - c), at + c, &drop), dx + c, d - c);
}
