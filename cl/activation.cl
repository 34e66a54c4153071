/* Activations of the feed-forward block, with the bias of the layer before:
 *     v = x[i,j] + bias[j], stored in u when has_u
 *     relu  y = max(v, 0) (Nair and Hinton, ICML 2010)            dx = y > 0 ? dy : 0
 *     gelu  y = v P(v) (Hendrycks and Gimpel, arXiv:1606.08415)   dx = dy (P(u) + u p(u))
 * with the normal distribution P(v) = (1 + erf(v / sqrt 2)) / 2 and its density p. x, y, u, dy, dx, saved: n rows of d
 * floats; bias: d floats, read when has_bias. One group a row. y or u may be x, dx may be dy. Build option: KIND=relu or
 * KIND=gelu.
 */
#include "common.clh"
#include "row.clh"
#include "power2.clh"

POWER2(power2, floatv, intv)

/* P(v), and exp(-v^2 / 2) in *e, both with a relative error of a few units in the last place, also far below zero. With
 * z = |v|: P(-z) = exp(-z^2 / 2) R(z), and (z + 3) R(z) is a polynomial in t = (z - 3) / (z + 3), which takes 0 to
 * infinity into -1 to 1 (the form of Shepherd and Laframboise, Math. Comp. 36, 1981). Its coefficients are those of the
 * least largest relative error, 1.4e-9, for z up to 20, by Remez' exchange in 30 digits; beyond 14 P is 0. What the
 * square and its product with log2(e) / 2 lose by rounding is kept and multiplied in. The runtime's erfc is not used:
 * PoCL's works lane by lane and takes ten times as long. */
floatv normal(const floatv v, floatv *e)
{
    const floatv a = fabs(v), z = a < 20.0f ? a : (floatv)(20.0f); /* a NaN comes back with v */
    const floatv h = z * z, x = h * 0.72134752f;
    const floatv tail = fma(h, (floatv)(0.72134752f), -x) * 0.69314718f;
    const floatv lost = fma(h, (floatv)(6.67487909e-9f), fma(fma(z, z, -h), (floatv)(0.5f), tail));
    const floatv w = power2(-x), r = 1.0f / (z + 3.0f), t = fma(r, (floatv)(-6.0f), (floatv)(1.0f));
    floatv g = (floatv)(5.28613746e-5f);
    g = fma(g, t, (floatv)(1.29481035e-4f));
    g = fma(g, t, (floatv)(-2.42892405e-4f));
    g = fma(g, t, (floatv)(-1.0304047e-3f));
    g = fma(g, t, (floatv)(1.02400593e-3f));
    g = fma(g, t, (floatv)(6.96846982e-3f));
    g = fma(g, t, (floatv)(-1.04623754e-2f));
    g = fma(g, t, (floatv)(-4.7262568e-2f));
    g = fma(g, t, (floatv)(2.30017692e-1f));
    g = fma(g, t, (floatv)(-5.09332001e-1f));
    g = fma(g, t, (floatv)(7.29083717e-1f));
    *e = fma(w, -lost, w);
    const floatv below = *e * g * r;
    return v < (floatv)(0.0f) ? below : 1.0f - below;
}

floatv relu(const floatv v)
{
    return v < (floatv)(0.0f) ? (floatv)(0.0f) : v; /* a NaN stays one */
}

floatv gelu(const floatv v)
{
    floatv e;
    return v * normal(v, &e);
}

floatv relu_slope(const floatv y, const floatv dy)
{
    return y > (floatv)(0.0f) ? dy : (floatv)(0.0f);
}

floatv gelu_slope(const floatv u, const floatv dy)
{
    floatv e;
    const floatv p = normal(u, &e);
    return dy * fma(u, e * 0.39894228040143268f, p);
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
