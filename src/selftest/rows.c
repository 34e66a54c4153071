/* Trials of what works on rows: layer norm, residual, activation, column sums, epilogue, embedding, cross-entropy. */
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "gemm/engine.h"
#include "op/cross_entropy.h"
#include "op/embed.h"
#include "op/layer_norm.h"
#include "op/linear.h"
#include "selftest/trial.h"

#define N CST_TRIAL_ROWS
#define D CST_TRIAL_COLS
#define EPS 1e-5

static const cst_dropout half = {.p = 0.5f, .seed = UINT64_C(0x123456789abcdef), .site = 3, .step = 7};

/* What the mask of `half` multiplies element i by; 1 without dropout. */
static double mask(const cst_trial *r, uint64_t i)
{
    uint32_t lane[4], c[4] = {(uint32_t)(i / 4), (uint32_t)(i / 4 >> 32), half.site, half.step};
    if (!r->use->dropout) return 1;
    cst_philox(lane, c, (uint32_t[]){(uint32_t)half.seed, (uint32_t)(half.seed >> 32)});
    return lane[i % 4] >= UINT32_C(1) << 31 ? 2 : 0;
}

static const cst_dropout *dropout(const cst_trial *r)
{
    return r->use->dropout ? &half : NULL;
}

cst_status cst_trial_residual(cst_trial *r)
{
    cst_tensor *x, *bias, *old, *s, *dx;
    double *hx, *hbias, *hold, *want, *grad;
    CST_TRY(cst_trial_random(&x, &hx, r, N, D, -1, 1));
    CST_TRY(cst_trial_random(&bias, &hbias, r, D, 0, -1, 1));
    CST_TRY(cst_trial_random(&old, &hold, r, N, D, -1, 1));
    CST_TRY(cst_trial_empty(&s, r, N, D));
    CST_TRY(cst_trial_empty(&dx, r, N, D));
    CST_TRY(cst_trial_room(&want, r, N * D));
    CST_TRY(cst_trial_room(&grad, r, N * D));
    for (int i = 0; i < N * D; i++) {
        want[i] = hold[i] + mask(r, (uint64_t)i) * (hx[i] + hbias[i % D]);
        grad[i] = mask(r, (uint64_t)i) * hx[i];
    }
    CST_TRY(cst_residual_forward(r->m, s, x, bias, old, dropout(r)));
    CST_TRY(cst_residual_backward(r->m, dx, x, dropout(r)));
    CST_TRY(cst_trial_compare(r, "residual's s", s, want, 1e-6, 1));
    return cst_trial_compare(r, "residual's dx", dx, grad, 1e-6, 1);
}

/* y and (mean, 1 / standard deviation) of rows of x. */
static void norm(double *y, double *stats, const double *x, const double *gamma, const double *beta)
{
    for (int i = 0; i < N; i++, x += D, y += D, stats += 2) {
        double mean = 0, var = 0;
        for (int j = 0; j < D; j++) mean += x[j] / D;
        for (int j = 0; j < D; j++) var += (x[j] - mean) * (x[j] - mean) / D;
        stats[0] = mean, stats[1] = 1 / sqrt(var + EPS);
        for (int j = 0; j < D; j++) y[j] = (x[j] - mean) * stats[1] * gamma[j] + beta[j];
    }
}

/* Gradients of that, with `add` joining dx; dgamma and dbeta are added to. */
static void norm_backward(double *dx, double *dgamma, double *dbeta, const double *dy, const double *x, const double *stats, const double *gamma,
                          const double *add)
{
    for (int i = 0; i < N; i++, x += D, dy += D, dx += D, add += D, stats += 2) {
        double mean = 0, along = 0;
        for (int j = 0; j < D; j++) {
            double xhat = (x[j] - stats[0]) * stats[1], g = dy[j] * gamma[j];
            mean += g / D, along += g * xhat / D;
            dgamma[j] += dy[j] * xhat, dbeta[j] += dy[j];
        }
        for (int j = 0; j < D; j++)
            dx[j] = add[j] + stats[1] * (dy[j] * gamma[j] - mean - (x[j] - stats[0]) * stats[1] * along);
    }
}

cst_status cst_trial_layer_norm(cst_trial *r)
{
    cst_tensor *x, *bias, *old, *gamma, *beta, *s, *y, *stats, *dx, *dgamma, *dbeta;
    double *hx, *hbias, *hold, *hgamma, *hbeta, *hs, *hy, *hstats, *hdx, *hdgamma, *hdbeta;
    CST_TRY(cst_trial_random(&x, &hx, r, N, D, -1, 3));
    CST_TRY(cst_trial_random(&bias, &hbias, r, D, 0, -1, 1));
    CST_TRY(cst_trial_random(&old, &hold, r, N, D, -1, 1));
    CST_TRY(cst_trial_random(&gamma, &hgamma, r, D, 0, 0.5, 2));
    CST_TRY(cst_trial_random(&beta, &hbeta, r, D, 0, -1, 1));
    CST_TRY(cst_trial_random(&dgamma, &hdgamma, r, D, 0, -1, 1));
    CST_TRY(cst_trial_random(&dbeta, &hdbeta, r, D, 0, -1, 1));
    CST_TRY(cst_trial_empty(&s, r, N, D));
    CST_TRY(cst_trial_empty(&y, r, N, D));
    CST_TRY(cst_trial_empty(&stats, r, N, 2));
    CST_TRY(cst_trial_empty(&dx, r, N, D));
    CST_TRY(cst_trial_room(&hs, r, N * D));
    CST_TRY(cst_trial_room(&hy, r, N * D));
    CST_TRY(cst_trial_room(&hstats, r, N * 2));
    CST_TRY(cst_trial_room(&hdx, r, N * D));

    norm(hy, hstats, hx, hgamma, hbeta);
    CST_TRY(cst_layer_norm_forward(r->m, y, stats, x, gamma, beta, (float)EPS));
    CST_TRY(cst_trial_compare(r, "layer norm's y", y, hy, 1e-5, 1));
    CST_TRY(cst_trial_compare(r, "layer norm's stats", stats, hstats, 1e-5, 1));

    for (int i = 0; i < N * D; i++) hs[i] = hold[i] + mask(r, (uint64_t)i) * (hx[i] + hbias[i % D]);
    norm(hy, hstats, hs, hgamma, hbeta);
    CST_TRY(cst_layer_norm_residual_forward(r->m, y, stats, s, x, bias, old, gamma, beta, (float)EPS, dropout(r)));
    CST_TRY(cst_trial_compare(r, "layer norm's s", s, hs, 1e-6, 1));
    CST_TRY(cst_trial_compare(r, "layer norm's y behind a residual", y, hy, 1e-5, 1));

    norm_backward(hdx, hdgamma, hdbeta, hx, hs, hstats, hgamma, hold);
    CST_TRY(cst_layer_norm_backward(r->m, dx, dgamma, dbeta, x, s, stats, gamma, old, 1));
    CST_TRY(cst_trial_compare(r, "layer norm's dx", dx, hdx, 1e-5, 4));
    CST_TRY(cst_trial_compare(r, "layer norm's dgamma", dgamma, hdgamma, 1e-5, 4));
    return cst_trial_compare(r, "layer norm's dbeta", dbeta, hdbeta, 1e-5, 4);
}

static double gelu(double v)
{
    return 0.5 * v * (1 + erf(v * M_SQRT1_2));
}

static double gelu_slope(double v)
{
    return 0.5 * (1 + erf(v * M_SQRT1_2)) + v * exp(-0.5 * v * v) / sqrt(2 * M_PI);
}

cst_status cst_trial_activation(cst_trial *r)
{
    int relu = r->use->activation == CST_RELU;
    cst_tensor *x, *bias, *dy, *u, *y, *dx;
    double *hx, *hbias, *hdy, *hu, *hy, *hdx;
    CST_TRY(cst_trial_random(&x, &hx, r, N, D, -4, 4));
    CST_TRY(cst_trial_random(&bias, &hbias, r, D, 0, -1, 1));
    CST_TRY(cst_trial_random(&dy, &hdy, r, N, D, -1, 1));
    CST_TRY(cst_trial_empty(&u, r, N, D));
    CST_TRY(cst_trial_empty(&y, r, N, D));
    CST_TRY(cst_trial_empty(&dx, r, N, D));
    CST_TRY(cst_trial_room(&hu, r, N * D));
    CST_TRY(cst_trial_room(&hy, r, N * D));
    CST_TRY(cst_trial_room(&hdx, r, N * D));
    for (int i = 0; i < N * D; i++) {
        hu[i] = (float)(hx[i] + hbias[i % D]); /* as the kernel rounds it: no sign may depend on that */
        hy[i] = relu ? fmax(hu[i], 0) : gelu(hu[i]);
        hdx[i] = hdy[i] * (relu ? hu[i] > 0 : gelu_slope(hu[i]));
    }
    CST_TRY(cst_activation_forward(r->m, r->use->activation, y, u, x, bias));
    CST_TRY(cst_activation_backward(r->m, r->use->activation, dx, dy, relu ? y : u));
    CST_TRY(cst_trial_compare(r, "activation's u", u, hu, 1e-6, 1));
    CST_TRY(cst_trial_compare(r, "activation's y", y, hy, 2e-6, 1));
    return cst_trial_compare(r, "activation's dx", dx, hdx, 2e-6, 1);
}

/* Rows for three blocks of column sums. */
cst_status cst_trial_linear(cst_trial *r)
{
    enum { ROWS = 70 };
    cst_tensor *x, *db;
    double *hx, *want;
    CST_TRY(cst_trial_random(&x, &hx, r, ROWS, D, -1, 1));
    CST_TRY(cst_trial_random(&db, &want, r, D, 0, -1, 1));
    for (int i = 0; i < ROWS * D; i++) want[i % D] += hx[i];
    CST_TRY(cst_linear_backward_bias(r->m, db, x, 1));
    return cst_trial_compare(r, "sums of columns", db, want, 1e-6, 8);
}

cst_status cst_trial_gemm_epilogue(cst_trial *r)
{
    cst_tensor *c, *bias, *residual;
    double *hc, *hbias, *hresidual;
    CST_TRY(cst_trial_random(&c, &hc, r, N, D, -1, 1));
    CST_TRY(cst_trial_random(&bias, &hbias, r, D, 0, -1, 1));
    CST_TRY(cst_trial_random(&residual, &hresidual, r, N, D, -1, 1));
    for (int i = 0; i < N * D; i++) hc[i] = fmax(hc[i] + hbias[i % D], 0) + hresidual[i];
    CST_TRY(cst_gemm_epilogue(r->m, &(cst_gemm_args){.m = N, .n = D, .c = c, .ldc = D, .ldr = D, .bias = bias, .relu = 1, .residual = residual}));
    return cst_trial_compare(r, "product with bias, ReLU and residual", c, hc, 1e-6, 1);
}

cst_status cst_trial_embed(cst_trial *r)
{
    enum { V = 23, SEQ = 7, ROWS = 3 * SEQ, OFFSET = 2, P = SEQ + OFFSET + 1 };
    int32_t id[ROWS], index[3 * ROWS + 1];
    cst_tensor *table, *pos, *ids, *out, *idx, *dpos;
    double *htable, *hpos, *want, *hdpos;
    for (int i = 0; i < ROWS; i++) id[i] = i % 4 == 3 ? V - 1 : i * 5 % V;
    int64_t unique = cst_embed_index(index, id, ROWS);
    CST_TRY(cst_trial_random(&table, &htable, r, V, D, -1, 1));
    CST_TRY(cst_trial_random(&pos, &hpos, r, P, D, -1, 1));
    CST_TRY(cst_trial_random(&dpos, &hdpos, r, P, D, -1, 1));
    CST_TRY(cst_trial_ints(&ids, r, ROWS, id));
    CST_TRY(cst_trial_ints(&idx, r, 3 * ROWS + 1, index));
    CST_TRY(cst_trial_empty(&out, r, ROWS, D));
    CST_TRY(cst_trial_room(&want, r, ROWS * D));

    for (int i = 0; i < ROWS * D; i++) want[i] = htable[id[i / D] * D + i % D] + hpos[(i / D % SEQ + OFFSET) * D + i % D];
    CST_TRY(cst_embed_forward(r->m, out, table, ids, pos, SEQ, OFFSET));
    CST_TRY(cst_trial_compare(r, "embeddings", out, want, 1e-6, 1));
    for (int i = 0; i < ROWS * D; i++) want[i] += hpos[(i / D % SEQ + OFFSET) * D + i % D];
    CST_TRY(cst_embed_add_positions(r->m, out, pos, SEQ, OFFSET));
    CST_TRY(cst_trial_compare(r, "embeddings with positions", out, want, 1e-6, 1));

    for (int i = 0; i < ROWS * D; i++) {
        htable[id[i / D] * D + i % D] += want[i];
        hdpos[(i / D % SEQ + OFFSET) * D + i % D] += want[i];
    }
    CST_TRY(cst_embed_backward(r->m, table, out, idx, unique));
    CST_TRY(cst_trial_compare(r, "the embedding's gradient", table, htable, 1e-6, 8));
    CST_TRY(cst_embed_backward_positions(r->m, dpos, out, SEQ, OFFSET, 1));
    return cst_trial_compare(r, "the positions' gradient", dpos, hdpos, 1e-6, 8);
}

/* A vocabulary for which 128 work-items of 4 take a batch of 8 vectors, some more, and a tail. */
cst_status cst_trial_cross_entropy(cst_trial *r)
{
    enum { V = 5131, ROWS = 5, FIRST = 3, TOKENS = FIRST + ROWS };
    static const int32_t target[TOKENS] = {1, 1, 1, V - 1, 0, -1, 4096, 77};
    const double scale = 0.125;
    cst_tensor *x, *loss, *targets, *sum;
    double *hx, *hloss, *hsum;
    CST_TRY(cst_trial_random(&x, &hx, r, ROWS, V, -8, 8));
    CST_TRY(cst_trial_random(&loss, &hloss, r, TOKENS, 0, 0, 1));
    CST_TRY(cst_trial_random(&sum, &hsum, r, 3, 0, 0, 1));
    CST_TRY(cst_trial_ints(&targets, r, TOKENS, target));
    for (int i = 0; i < ROWS; i++) {
        double *row = hx + i * V, total = 0;
        int t = target[FIRST + i];
        for (int j = 0; j < V; j++) total += exp(row[j]);
        hloss[FIRST + i] = t < 0 ? 0 : log(total) - row[t];
        for (int j = 0; j < V; j++) row[j] = t < 0 ? 0 : (exp(row[j]) / total - (j == t)) * scale;
    }
    for (int i = 0; i < TOKENS; i++) hsum[1] += scale * hloss[i];
    CST_TRY(cst_cross_entropy(r->m, x, targets, loss, FIRST, ROWS, (float)scale, 1));
    CST_TRY(cst_loss_sum(r->m, sum, 1, loss, (float)scale));
    CST_TRY(cst_trial_compare(r, "loss", loss, hloss, 1e-6, 8));
    CST_TRY(cst_trial_compare(r, "the logits' gradient", x, hx, 3e-6, 1e-3));
    return cst_trial_compare(r, "sum of losses", sum, hsum, 1e-6, 8);
}
