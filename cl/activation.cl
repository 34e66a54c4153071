/* Activations of the feed-forward block, with the bias of the layer before:
 *     v = x[i,j] + bias[j], stored in u when has_u
 *     relu  y = max(v, 0) (Nair and Hinton, ICML 2010)            dx = y > 0 ? dy : 0
 *     gelu  y = v P(v) (Hendrycks and Gimpel, arXiv:1606.08415)   dx = dy (P(u) + u p(u))
 * with the normal distribution P(v) = erfc(-v / sqrt 2) / 2 = (1 + erf(v / sqrt 2)) / 2 (the first form keeps its
 * digits for negative v) and its density p. x, y, u, dy, dx, saved: n rows of d floats; bias: d floats, read
 * when has_bias. One group a row. y or u may be x, dx may be dy. Build option: KIND=relu or KIND=gelu.
 */
#include "common.clh"
#include "row.clh"

floatv normal(const floatv v)
{
    return 0.5f * erfc(v * -0.70710678118654752f);
}

floatv relu(const floatv v)
{
    return v < (floatv)(0.0f) ? (floatv)(0.0f) : v; /* a NaN stays one */
}

floatv gelu(const floatv v)
{
    return v * normal(v);
}

floatv relu_slope(const floatv y, const floatv dy)
{
    return y > (floatv)(0.0f) ? dy : (floatv)(0.0f);
}

floatv gelu_slope(const floatv u, const floatv dy)
{
    const floatv density = 0.39894228040143268f * exp(-0.5f * u * u);
    return dy * fma(u, density, normal(u));
}

__kernel void activation_forward(IN(float, x), IN(float, bias), OUT(float, y), OUT(float, u), const ulong n,
                                 const int d, const int has_bias, const int has_u)
{
    const ulong row = get_group_id(0), at = row * (ulong)d;
    if (row >= n) return;
    USE_IN(float, x) + at;
    USE_IN(float, bias);
    USE_OUT(float, y) + at;
    USE_OUT(float, u) + at;
    FOR_ROW(c, d) {
        floatv v = row_load(x + c, d - c);
        if (has_bias) v += row_load(bias + c, d - c);
        if (has_u) row_store(v, u + c, d - c);
        row_store(KIND(v), y + c, d - c);
    }
}

__kernel void activation_backward(IN(float, saved), IN(float, dy), OUT(float, dx), const ulong n, const int d)
{
    const ulong row = get_group_id(0), at = row * (ulong)d;
    if (row >= n) return;
    USE_IN(float, saved) + at;
    USE_IN(float, dy) + at;
    USE_OUT(float, dx) + at;
    FOR_ROW(c, d) {
        const floatv v = CAT(KIND, _slope)(row_load(saved + c, d - c), row_load(dy + c, d - c));
        row_store(v, dx + c, d - c);
    }
}
