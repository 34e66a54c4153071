/* Trials of what works on elements: fill, cast, AdamW, gradient norm. */
#include <math.h>

#include "op/adamw.h"
#include "op/cast.h"
#include "op/fill.h"
#include "op/grad_norm.h"
#include "selftest/trial.h"

cst_status cst_trial_fill(cst_trial *r)
{
    cst_tensor *t;
    double *want;
    CST_TRY(cst_trial_random(&t, &want, r, CST_TRIAL_COLS, 0, 0, 1));
    for (int i = 0; i < CST_TRIAL_COLS; i++) want[i] = -2.5;
    CST_TRY(cst_fill(r->m, t, -2.5f));
    return cst_trial_compare(r, "fill", t, want, 0, 0);
}

/* To 16 bits and back. */
cst_status cst_trial_cast(cst_trial *r)
{
    static const cst_type type[] = {CST_F16, CST_BF16};
    static const char *const name[] = {"f32 by way of f16", "f32 by way of bf16"};
    cst_tensor *x, *back, *half;
    double *want;
    int64_t n = CST_TRIAL_COLS;
    CST_TRY(cst_trial_random(&x, &want, r, n, 0, -8, 8));
    CST_TRY(cst_trial_empty(&back, r, n, 0));
    for (int i = 0; i < 2; i++) {
        CST_TRY(cst_tensor_create(&half, r->m, CST_DATA, type[i], 1, &n, "self-test %s", name[i]));
        r->tensor[r->tensors++] = half;
        CST_TRY(cst_cast(r->m, half, x));
        CST_TRY(cst_cast(r->m, back, half));
        CST_TRY(cst_trial_compare(r, name[i], back, want, i ? 0x1p-8 : 0x1p-11, 1e-6));
    }
    return CST_OK;
}

cst_status cst_trial_adamw(cst_trial *r)
{
    enum { WHOLE = 1061, AT = 5, PART = 1043 };
    const cst_adamw_step s = {.lr = 0.01, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1, .bias1 = 0.271, .bias2 = 0.002997};
    cst_tensor *w, *g, *m1, *m2, *norm;
    double *hw, *hg, *hm1, *hm2, *unused;
    CST_TRY(cst_trial_random(&w, &hw, r, WHOLE, 0, -1, 1));
    CST_TRY(cst_trial_random(&g, &hg, r, WHOLE, 0, -1, 1));
    CST_TRY(cst_trial_random(&m1, &hm1, r, PART, 0, -1, 1));
    CST_TRY(cst_trial_random(&m2, &hm2, r, PART, 0, 0, 1));
    CST_TRY(cst_trial_random(&norm, &unused, r, 4, 0, 0, 1));
    CST_TRY(cst_tensor_write(norm, 0, (float[]){2, 0.5f, 1, 0}, 16)); /* the gradient is halved */
    for (int i = 0; i < PART; i++) {
        double grad = 0.5 * hg[AT + i];
        hm1[i] += (1 - s.beta1) * (grad - hm1[i]);
        hm2[i] = s.beta2 * hm2[i] + (1 - s.beta2) * grad * grad;
        hw[AT + i] = hw[AT + i] * (1 - s.lr * s.weight_decay) - s.lr / s.bias1 * hm1[i] / (sqrt(hm2[i]) / sqrt(s.bias2) + s.eps);
    }
    CST_TRY(cst_adamw(r->m, w, g, AT, m1, m2, norm, 0, &s));
    CST_TRY(cst_trial_compare(r, "AdamW's weights", w, hw, 1e-6, 1));
    CST_TRY(cst_trial_compare(r, "AdamW's first moment", m1, hm1, 1e-6, 1));
    return cst_trial_compare(r, "AdamW's second moment", m2, hm2, 1e-6, 1);
}

cst_status cst_trial_grad_norm(cst_trial *r)
{
    enum { MANY = 2 * 16384 + 37, FEW = CST_TRIAL_COLS };
    cst_tensor *a, *b, *partial, *result;
    double *ha, *hb, sum = 0;
    int64_t first = cst_grad_norm_blocks(MANY), all = first + cst_grad_norm_blocks(FEW);
    CST_TRY(cst_trial_random(&a, &ha, r, MANY, 0, -1, 1));
    CST_TRY(cst_trial_random(&b, &hb, r, FEW, 0, -1, 1));
    CST_TRY(cst_trial_empty(&partial, r, all, 0));
    CST_TRY(cst_trial_empty(&result, r, 4, 0));
    for (int i = 0; i < MANY; i++) sum += ha[i] * ha[i];
    for (int i = 0; i < FEW; i++) sum += hb[i] * hb[i];
    CST_TRY(cst_grad_norm_partial(r->m, partial, 0, a));
    CST_TRY(cst_grad_norm_partial(r->m, partial, first, b));
    CST_TRY(cst_grad_norm_finish(r->m, result, 0, partial, 0, all, 2));
    return cst_trial_compare(r, "gradient norm", result, (double[]){sqrt(sum), 2 / (sqrt(sum) + 1e-6), 1, 0}, 1e-6, 0);
}
