/* Trials of attention, with heads of the size that is going to be used. */
#include <math.h>

#include "op/attention.h"
#include "op/attention_decode.h"
#include "selftest/trial.h"

/* Rows that leave tails behind tiles of 64 and 128. */
enum { SEQ = 135, BATCH = 2, HEADS = 2, ROWS = BATCH * SEQ };

/* One row of attention over `count` rows of k and v, D apart: probabilities to p; o, and the logarithm of the sum. */
static double attend(double *o, double *p, const double *q, const double *k, const double *v, int count, int hd, int D)
{
    double most = -INFINITY, sum = 0;
    for (int j = 0; j < count; j++) {
        p[j] = 0;
        for (int d = 0; d < hd; d++) p[j] += q[d] * k[j * D + d];
        p[j] /= sqrt(hd);
        most = fmax(most, p[j]);
    }
    for (int j = 0; j < count; j++) sum += exp(p[j] - most);
    for (int d = 0; d < hd; d++) o[d] = 0;
    for (int j = 0; j < count; j++) {
        p[j] = exp(p[j] - most) / sum;
        for (int d = 0; d < hd; d++) o[d] += p[j] * v[j * D + d];
    }
    return most + log(sum);
}

/* Gradients of row i of a head; p: its probabilities. k, v, dk, dv begin at the sequence's first row. */
static void attend_backward(double *dq, double *dk, double *dv, const double *d_o, const double *o, const double *p, const double *q, const double *k,
                            const double *v, int count, int hd, int D)
{
    double delta = 0;
    for (int d = 0; d < hd; d++) delta += d_o[d] * o[d];
    for (int j = 0; j < count; j++) {
        double dp = 0;
        for (int d = 0; d < hd; d++) dp += d_o[d] * v[j * D + d];
        double ds = p[j] * (dp - delta) / sqrt(hd);
        for (int d = 0; d < hd; d++) {
            dq[d] += ds * k[j * D + d];
            dk[j * D + d] += ds * q[d];
            dv[j * D + d] += p[j] * d_o[d];
        }
    }
}

cst_status cst_trial_attention(cst_trial *r)
{
    int hd = (int)(r->use->columns / r->use->heads), D = HEADS * hd;
    cst_tensor *q, *k, *v, *d_o, *o, *lse, *grad[3];
    double *hq, *hk, *hv, *hd_o, *ho, *hlse, *want[3], p[SEQ];
    static const char *const name[] = {"attention's dq", "attention's dk", "attention's dv"};
    CST_TRY(cst_trial_random(&q, &hq, r, ROWS, D, -1, 1));
    CST_TRY(cst_trial_random(&k, &hk, r, ROWS, D, -1, 1));
    CST_TRY(cst_trial_random(&v, &hv, r, ROWS, D, -1, 1));
    CST_TRY(cst_trial_random(&d_o, &hd_o, r, ROWS, D, -1, 1));
    CST_TRY(cst_trial_empty(&o, r, ROWS, D));
    CST_TRY(cst_trial_empty(&lse, r, ROWS, HEADS));
    CST_TRY(cst_trial_room(&ho, r, ROWS * D));
    CST_TRY(cst_trial_room(&hlse, r, ROWS * HEADS));
    for (int i = 0; i < 3; i++) {
        CST_TRY(cst_trial_empty(&grad[i], r, ROWS, D));
        CST_TRY(cst_trial_room(&want[i], r, ROWS * D));
    }
    for (int row = 0; row < ROWS; row++)
        for (int h = 0; h < HEADS; h++) {
            int i = row % SEQ, at = row * D + h * hd, first = (row - i) * D + h * hd;
            hlse[row * HEADS + h] = attend(ho + at, p, hq + at, hk + first, hv + first, i + 1, hd, D);
            attend_backward(want[0] + at, want[1] + first, want[2] + first, hd_o + at, ho + at, p, hq + at, hk + first, hv + first, i + 1, hd, D);
        }
    CST_TRY(cst_attention_forward(r->m, o, lse, q, k, v, BATCH, SEQ, HEADS));
    CST_TRY(cst_attention_backward(r->m, grad[0], grad[1], grad[2], d_o, o, lse, q, k, v, BATCH, SEQ, HEADS));
    CST_TRY(cst_trial_compare(r, "attention's o", o, ho, 1e-5, 1));
    CST_TRY(cst_trial_compare(r, "attention's sums", lse, hlse, 1e-5, 1));
    for (int i = 0; i < 3; i++) CST_TRY(cst_trial_compare(r, name[i], grad[i], want[i], 2e-5, 1));
    return CST_OK;
}

cst_status cst_trial_attention_decode(cst_trial *r)
{
    enum { KEPT = CST_TRIAL_COLS, COUNT = KEPT - 8, AT = 5, NEW = 3 }; /* some rows for each of 128 work-items */
    int hd = (int)(r->use->columns / r->use->heads), D = HEADS * hd;
    cst_tensor *q, *k, *v, *x, *o;
    double *hq, *hk, *hv, *hx, *ho, p[KEPT];
    CST_TRY(cst_trial_random(&q, &hq, r, 1, D, -1, 1));
    CST_TRY(cst_trial_random(&k, &hk, r, KEPT, D, -1, 1));
    CST_TRY(cst_trial_random(&v, &hv, r, KEPT, D, -1, 1));
    CST_TRY(cst_trial_random(&x, &hx, r, NEW, D, -1, 1));
    CST_TRY(cst_trial_empty(&o, r, 1, D));
    CST_TRY(cst_trial_room(&ho, r, D));
    for (int i = 0; i < NEW * D; i++) hk[AT * D + i] = hx[i];
    for (int h = 0; h < HEADS; h++) attend(ho + h * hd, p, hq + h * hd, hk + h * hd, hv + h * hd, COUNT, hd, D);
    CST_TRY(cst_attention_append(r->m, k, x, AT));
    CST_TRY(cst_attention_decode(r->m, o, q, k, v, COUNT, HEADS));
    CST_TRY(cst_trial_compare(r, "kept keys", k, hk, 0, 0));
    return cst_trial_compare(r, "attention's o for one token", o, ho, 1e-5, 1);
}
