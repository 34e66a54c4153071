/* Cross-entropy of rows of logits, and its gradient in their place (Goodfellow, Bengio, Courville, "Deep
 * Learning", 6.2.2.3; one pass for maximum and sum: Milakov and Gimelshein, "Online normalizer calculation
 * for softmax", 2018):
 *     loss[i]     = log(sum over k of exp(x[i,k])) - x[i,t],      t = targets[i]
 *     x[i,k]     := (exp(x[i,k] - max) / sum - [k = t]) * scale
 * A group of WG work-items takes a row; each of them steps over the row in vectors, WG vectors apart.
 */
#include "common.clh"
#include "compensated.clh"

#define BATCH 8 /* vectors whose maximum is found before their exponentials are summed; any value >= 1 */

/* logits  [n, vocab], row-major: read, and overwritten with the gradient when grad is not 0
 * targets [n]: -1 or less: loss 0, gradient 0; vocab or more: both NaN
 * loss    [n]: written */
__kernel void cross_entropy(IO(float, logits), IN(int, targets), IO(float, loss), const int n, const int vocab,
                            const float scale, const int grad)
{
    USE_IO(float, logits);
    USE_IN(int, targets);
    USE_IO(float, loss);
    GROUP_SCRATCH(scratch);
    const int row = get_group_id(0), l = get_local_id(0), nv = vocab / VW, tail = nv * VW;
    if (row >= n) return;
    const int target = targets[row];
    __global float *x = logits + (ulong)row * vocab;

    if (target < 0) {
        if (l == 0) loss[row] = 0.0f;
        if (!grad) return;
        for (int v = l; v < nv; v += WG) vstorev((floatv)(0.0f), v, x);
        for (int j = tail + l; j < vocab; j += WG) x[j] = 0.0f;
        return;
    }

    float top = -FLT_MAX; /* maximum so far; sum and rest are relative to it */
    floatv sum = (floatv)(0.0f);
    int v = l;
    for (; v + (BATCH - 1) * WG < nv; v += BATCH * WG) {
        floatv m = vloadv(v, x), s = (floatv)(0.0f);
        for (int b = 1; b < BATCH; b++) m = fmax(m, vloadv(v + b * WG, x));
        const float m1 = lanes_max(m);
        if (m1 > top) {
            sum *= exp(top - m1);
            top = m1;
        }
        for (int b = 0; b < BATCH; b++) s += exp(vloadv(v + b * WG, x) - top);
        sum += s;
    }
    for (; v < nv; v += WG) {
        const floatv a = vloadv(v, x);
        const float m1 = lanes_max(a);
        if (m1 > top) {
            sum *= exp(top - m1);
            top = m1;
        }
        sum += exp(a - top);
    }
    float all = lanes_sum(sum);
    for (int j = tail + l; j < vocab; j += WG) {
        const float a = x[j];
        if (a > top) {
            all *= exp(top - a);
            top = a;
        }
        all += exp(a - top);
    }
    const float most = group_max(top, scratch);
    const float total = group_sum(all * exp(top - most), scratch);

    /* The work-item that overwrites x[target] also reads it first and corrects it last: no fence needed. */
    const int valid = target < vocab;
    const int owner = !valid ? 0 : target < tail ? target / VW % WG : (target - tail) % WG;
    float hit = NAN;
    if (l == owner) {
        if (valid) hit = x[target] - most;
        loss[row] = log(total) - hit;
    }
    if (!grad) return;
    const float factor = (valid ? scale : NAN) / total;
    for (v = l; v < nv; v += WG) vstorev(exp(vloadv(v, x) - most) * factor, v, x);
    for (int j = tail + l; j < vocab; j += WG) x[j] = exp(x[j] - most) * factor;
    if (l == owner && valid) x[target] = exp(hit) * factor - scale;
}

/* out[0] += scale * (loss[0] + ... + loss[n - 1]); one group. */
__kernel void loss_sum(IO(float, out), IN(float, loss), const ulong n, const float scale)
{
    USE_IO(float, out);
    USE_IN(float, loss);
    __local float2 scratch[WG];
    const float2 sum = compensated_sum(loss, n, scratch);
    if (get_local_id(0) == 0) out[0] += fma(scale, sum.x, scale * sum.y);
}
