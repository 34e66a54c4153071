/* Global L2 norm of many gradients and the factor that clips it (Pascanu, Mikolov, Bengio, "On the difficulty
 * of training recurrent neural networks", ICML 2013, algorithm 1):
 *     norm = sqrt(sum of g^2),    coefficient = min(1, clip / (norm + 1e-6))
 * Sums of squares of blocks of BLOCK elements (set by the host) first, then the sum of those.
 */
#include "common.clh"
#include "compensated.clh"

/* partial[b] = sum of grad[i]^2 over i in [b * BLOCK, min(n, (b + 1) * BLOCK)); a group a block. */
__kernel void grad_norm_partial(IO(float, partial), IN(float, grad), const ulong n)
{
    USE_IO(float, partial);
    USE_IN(float, grad);
    GROUP_SCRATCH(scratch);
    const int l = get_local_id(0);
    const ulong block = get_group_id(0), start = block * BLOCK;
    if (start >= n) return;
    const int count = (int)min(n - start, (ulong)BLOCK), nv = count / VW;
    __global const float *g = grad + start;
    floatv s0 = (floatv)(0.0f), s1 = s0, s2 = s0, s3 = s0;
    int v = l;
    for (; v + 3 * WG < nv; v += 4 * WG) {
        const floatv a = vloadv(v, g), b = vloadv(v + WG, g), c = vloadv(v + 2 * WG, g), d = vloadv(v + 3 * WG, g);
        s0 = fma(a, a, s0);
        s1 = fma(b, b, s1);
        s2 = fma(c, c, s2);
        s3 = fma(d, d, s3);
    }
    for (; v < nv; v += WG) {
        const floatv a = vloadv(v, g);
        s0 = fma(a, a, s0);
    }
    float sum = lanes_sum((s0 + s1) + (s2 + s3));
    for (int j = nv * VW + l; j < count; j += WG) sum = fma(g[j], g[j], sum);
    sum = group_sum(sum, scratch);
    if (l == 0) partial[block] = sum;
}

/* result[0..3] = norm, coefficient, finite, 0 from partial[0..n); one group. clip <= 0: coefficient 1. */
__kernel void grad_norm_finish(IO(float, result), IN(float, partial), const ulong n, const float clip)
{
    USE_IO(float, result);
    USE_IN(float, partial);
    __local float2 scratch[WG];
    const float2 sum = compensated_sum(partial, n, scratch);
    if (get_local_id(0)) return;
    const float total = sum.x + sum.y;
    const int finite = isfinite(total) != 0;
    const float norm = sqrt(finite ? total : sum.x);
    result[0] = norm;
    result[1] = !finite ? 0.0f : clip > 0.0f ? fmin(1.0f, clip / (norm + 1e-6f)) : 1.0f;
    result[2] = finite ? 1.0f : 0.0f;
    result[3] = 0.0f;
}
