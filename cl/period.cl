/* What src/memory/period_clfft.c does around its transforms. x: complex numbers. */
#include "common.clh"

/* The bits of the views of one access, as cst_period_mix. */
ulong mix_bits(ulong x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9UL;
    x = (x ^ x >> 27) * 0x94d049bb133111ebUL;
    return x ^ x >> 31;
}

/* Two views of s[0..n) as the parts of x, zeros behind them up to `points`. */
__kernel void period_view(__global const ulong *s, __global float2 *x, const ulong n, const ulong points, const int pair)
{
    const ulong i = get_global_id(0);
    if (i >= points) return;
    const ulong bits = i < n ? mix_bits(s[i]) >> 2 * pair : 0;
    x[i] = i < n ? (float2)(bits & 1 ? 1.0f : -1.0f, bits & 2 ? 1.0f : -1.0f) : (float2)(0.0f);
}

/* power[i] (+)= |x[i]|^2; the last of them back into x. */
__kernel void period_power(__global float2 *x, __global float *power, const ulong points, const int first, const int last)
{
    const ulong i = get_global_id(0);
    if (i >= points) return;
    const float2 v = x[i];
    float p = fma(v.x, v.x, v.y * v.y);
    if (!first) p += power[i];
    if (last) x[i] = (float2)(p, 0.0f);
    else power[i] = p;
}

/* r[i] = scale * the real part of x[i] */
__kernel void period_real(__global const float2 *x, __global float *r, const ulong count, const float scale)
{
    const ulong i = get_global_id(0);
    if (i < count) r[i] = scale * x[i].x;
}
