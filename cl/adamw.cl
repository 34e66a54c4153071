/* AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2), in the order
 * of operations that PyTorch's AdamW has:
 *     g  = grad * coefficient
 *     w  = w * (1 - lr * weight_decay)
 *     m1 = m1 + (1 - beta1) * (g - m1)
 *     m2 = beta2 * m2 + (1 - beta2) * g^2
 *     w  = w - lr / bias1 * m1 / (sqrt(m2) / sqrt(bias2) + eps)
 * src/op/adamw.c has the same steps for the host: change both. Each place where a product meets a sum is an
 * explicit fma, so that no compiler has a choice, and both sides give the same bits.
 */
#include "common.clh"

/* w, m1, m2 [n]: changed in place; grad [n]; norm: what grad_norm_finish writes. The factors come from the
 * host: decay = 1 - lr * weight_decay, lerp1 = 1 - beta1, lerp2 = 1 - beta2, root2 = sqrt(bias2),
 * step = lr / bias1. */
__kernel void adamw(IO(float, w), IN(float, grad), IO(float, m1), IO(float, m2), IN(float, norm), const ulong n,
                    const float decay, const float lerp1, const float beta2, const float lerp2, const float root2,
                    const float eps, const float step)
{
    USE_IO(float, w);
    USE_IN(float, grad);
    USE_IO(float, m1);
    USE_IO(float, m2);
    USE_IN(float, norm);
    const float coefficient = norm[1];
    const ulong i = (ulong)get_global_id(0) * VW;
    if (norm[2] == 0.0f) return; /* a gradient is not finite: this step doesn't happen */
    if (i + VW <= n) {
        const floatv g0 = vloadv(0, grad + i), a0 = vloadv(0, m1 + i), b0 = vloadv(0, m2 + i), w0 = vloadv(0, w + i);
        const floatv g = g0 * coefficient;
        const floatv a = fma((floatv)(lerp1), fma(g0, (floatv)(coefficient), -a0), a0);
        const floatv b = fma(g * lerp2, g, b0 * beta2);
        const floatv d = sqrt(b) / root2 + eps;
        vstorev(a, 0, m1 + i);
        vstorev(b, 0, m2 + i);
        vstorev(fma((floatv)(-step), a / d, w0 * decay), 0, w + i);
    } else {
        for (ulong j = i; j < n; j++) {
            const float g = grad[j] * coefficient;
            const float a = fma(lerp1, fma(grad[j], coefficient, -m1[j]), m1[j]);
            const float b = fma(g * lerp2, g, m2[j] * beta2);
            const float d = sqrt(b) / root2 + eps;
            m1[j] = a;
            m2[j] = b;
            w[j] = fma(-step, a / d, w[j] * decay);
        }
    }
}
