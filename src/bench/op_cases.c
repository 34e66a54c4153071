#include "bench/op_cases.h"

#include <stdlib.h>

#include "base/random.h"
#include "bench/measure.h"
#include "memory/launch.h"
#include "op/activation.h"
#include "op/adamw.h"
#include "op/attention.h"
#include "op/cast.h"
#include "op/cross_entropy.h"
#include "op/fill.h"
#include "op/grad_norm.h"
#include "op/layer_norm.h"
#include "op/linear.h"
#include "op/residual.h"

#define N 2048   /* tokens */
#define D 1024   /* hidden */
#define F 4096   /* feed-forward */
#define HEADS 16
#define HD 64
#define V 50272  /* vocabulary */
#define E 512    /* projection */
#define ROWS 320 /* logits at once: cst_lm_loss_chunk for N tokens and V */
#define LONG 16384

static const cst_dropout drop = {.p = 0.1f, .seed = 42, .site = 1, .step = 1};
static const cst_adamw_step adamw = {
    .lr = 1e-5, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .bias1 = 0.1, .bias2 = 0.001
};

#define RUN(name) static cst_status name(cst_op_trial *c, cst_tensor **t, float **host)
#define UNUSED (void)c, (void)host

RUN(run_triad)
{
    UNUSED;
    return cst_residual_forward(c->mem, t[0], t[1], NULL, t[2], NULL);
}

RUN(run_attention_forward)
{
    UNUSED;
    return cst_attention_forward(c->mem, t[0], t[1], t[2], t[3], t[4], c->c->p, c->c->q, HEADS);
}

RUN(run_attention_both)
{
    CST_TRY(run_attention_forward(c, t, host));
    return cst_attention_backward(c->mem, t[6], t[7], t[8], t[5], t[0], t[1], t[2], t[3], t[4], c->c->p, c->c->q, HEADS);
}

RUN(run_layer_norm)
{
    UNUSED;
    return cst_layer_norm_forward(c->mem, t[0], t[1], t[2], t[3], t[4], 1e-5f);
}

RUN(run_layer_norm_residual)
{
    UNUSED;
    return cst_layer_norm_residual_forward(c->mem, t[0], t[1], t[5], t[2], t[6], t[7], t[3], t[4], 1e-5f, c->c->p ? &drop : NULL);
}

static cst_status prepare_layer_norm(cst_op_trial *c, cst_tensor **t)
{
    return run_layer_norm(c, t, NULL);
}

RUN(run_layer_norm_backward)
{
    UNUSED;
    return cst_layer_norm_backward(c->mem, t[0], t[6], t[7], t[5], t[2], t[1], t[3], NULL, 1);
}

RUN(run_activation)
{
    UNUSED;
    return cst_activation_forward(c->mem, (cst_activation)c->c->p, t[0], NULL, t[1], t[2]);
}

RUN(run_activation_backward)
{
    UNUSED;
    return cst_activation_backward(c->mem, (cst_activation)c->c->p, t[0], t[1], t[2]);
}

RUN(run_residual)
{
    UNUSED;
    return cst_residual_forward(c->mem, t[0], t[1], t[3], t[2], &drop);
}

RUN(run_residual_backward)
{
    UNUSED;
    return cst_residual_backward(c->mem, t[0], t[1], &drop);
}

RUN(run_bias)
{
    UNUSED;
    return cst_linear_backward_bias(c->mem, t[0], t[1], 1);
}

RUN(run_lm_loss)
{
    UNUSED;
    return cst_lm_loss(c->mem, &(cst_lm_loss_args){.h = t[0], .table = t[1], .targets = t[2], .loss = t[3], .dh = t[4], .dtable = t[5],
                                                   .scale = 1.0f / ROWS, .accumulate = 1});
}

/* The kernel between cst_lm_loss's products, as that launches it. p: with gradient. Later calls find gradients where
 * logits were; that changes no instruction. */
RUN(run_cross_entropy)
{
    UNUSED;
    return cst_cross_entropy(c->mem, t[0], t[1], t[2], 0, ROWS, 1.0f / ROWS, c->c->p);
}

RUN(run_adamw)
{
    UNUSED;
    return cst_adamw(c->mem, t[0], t[1], 0, t[2], t[3], t[4], 0, &adamw);
}

RUN(run_adamw_host)
{
    (void)c, (void)t;
    cst_adamw_host(host[0], host[1], host[2], host[3], NULL, (size_t)F * D, 1, &adamw);
    return CST_OK;
}

RUN(run_grad_norm)
{
    UNUSED;
    return cst_grad_norm_partial(c->mem, t[0], 0, t[1]);
}

RUN(run_fill)
{
    UNUSED;
    return cst_fill(c->mem, t[0], 1);
}

RUN(run_cast)
{
    UNUSED;
    return cst_cast(c->mem, t[0], t[1]);
}

#define NORMAL(...) {CST_OP_NORMAL, __VA_ARGS__}
#define EMPTY(...) {CST_OP_EMPTY, __VA_ARGS__}
#define ND (1.0 * N * D)
#define NF (1.0 * N * F)
#define FD (1.0 * F * D)
#define VROWS (1.0 * ROWS * V)

/* B sequences of T tokens. FLOPs: of the causal half; the backward pass counts 5 products, not the 2 it repeats. */
#define ATTENTION(B, T, shape)                                                                                                           \
    {"attention forward", shape, 16 * ND + 4.0 * N * HEADS, 2.0 * N * HEADS * (T + 1) * HD,                                              \
     {EMPTY(N, D), EMPTY(N, HEADS), NORMAL(N, D), NORMAL(N, D), NORMAL(N, D)}, NULL, run_attention_forward, B, T},                       \
    {"attention forward, backward", shape, 48 * ND + 16.0 * N * HEADS, 7.0 * N * HEADS * (T + 1) * HD,                                   \
     {EMPTY(N, D), EMPTY(N, HEADS), NORMAL(N, D), NORMAL(N, D), NORMAL(N, D), NORMAL(N, D), EMPTY(N, D), EMPTY(N, D), EMPTY(N, D)},      \
     NULL, run_attention_both, B, T}

static const cst_op_case cases[] = {
    {"triad", "16384 x 1024", 12.0 * LONG * D, 1.0 * LONG * D,
     {EMPTY(LONG, D), NORMAL(LONG, D), NORMAL(LONG, D)}, NULL, run_triad, 0, 0},
    ATTENTION(16, 128, "16 x 128, 16 x 64"),
    ATTENTION(8, 256, "8 x 256, 16 x 64"),
    ATTENTION(4, 512, "4 x 512, 16 x 64"),
    ATTENTION(2, 1024, "2 x 1024, 16 x 64"),
    {"layer norm", "2048 x 1024", 8 * ND, 8 * ND, {EMPTY(N, D), EMPTY(N, 2), NORMAL(N, D), NORMAL(D, 0), NORMAL(D, 0)}, NULL,
     run_layer_norm, 0, 0},
    {"layer norm, residual", "2048 x 1024", 16 * ND, 11 * ND,
     {EMPTY(N, D), EMPTY(N, 2), NORMAL(N, D), NORMAL(D, 0), NORMAL(D, 0), EMPTY(N, D), NORMAL(D, 0), NORMAL(N, D)}, NULL,
     run_layer_norm_residual, 0, 0},
    {"layer norm, residual, dropout", "2048 x 1024", 16 * ND, 11 * ND,
     {EMPTY(N, D), EMPTY(N, 2), NORMAL(N, D), NORMAL(D, 0), NORMAL(D, 0), EMPTY(N, D), NORMAL(D, 0), NORMAL(N, D)}, NULL,
     run_layer_norm_residual, 1, 0},
    {"layer norm backward", "2048 x 1024", 12 * ND, 14 * ND,
     {EMPTY(N, D), EMPTY(N, 2), NORMAL(N, D), NORMAL(D, 0), NORMAL(D, 0), NORMAL(N, D), NORMAL(D, 0), NORMAL(D, 0)}, prepare_layer_norm,
     run_layer_norm_backward, 0, 0},
    {"relu with bias", "2048 x 4096", 8 * NF, NF, {EMPTY(N, F), NORMAL(N, F), NORMAL(F, 0)}, NULL, run_activation, CST_RELU, 0},
    {"relu backward", "2048 x 4096", 12 * NF, NF, {EMPTY(N, F), NORMAL(N, F), NORMAL(N, F)}, NULL, run_activation_backward, CST_RELU, 0},
    {"gelu with bias", "2048 x 4096", 8 * NF, 0, {EMPTY(N, F), NORMAL(N, F), NORMAL(F, 0)}, NULL, run_activation, CST_GELU, 0},
    {"gelu backward", "2048 x 4096", 12 * NF, 0, {EMPTY(N, F), NORMAL(N, F), NORMAL(N, F)}, NULL, run_activation_backward, CST_GELU, 0},
    {"residual, dropout", "2048 x 1024", 12 * ND, 3 * ND,
     {EMPTY(N, D), NORMAL(N, D), NORMAL(N, D), NORMAL(D, 0)}, NULL, run_residual, 0, 0},
    {"residual backward, dropout", "2048 x 1024", 8 * ND, ND, {EMPTY(N, D), NORMAL(N, D)}, NULL, run_residual_backward, 0, 0},
    {"bias gradient", "2048 x 1024", 4 * ND, ND, {NORMAL(D, 0), NORMAL(N, D)}, NULL, run_bias, 0, 0},
    {"bias gradient", "2048 x 4096", 4 * NF, NF, {NORMAL(F, 0), NORMAL(N, F)}, NULL, run_bias, 0, 0},
    {"cross-entropy kernel, loss", "320 x 50272", 4 * VROWS, 0, {NORMAL(ROWS, V), {CST_OP_TARGETS, ROWS, 0}, NORMAL(ROWS, 0)}, NULL,
     run_cross_entropy, 0, 0},
    {"cross-entropy kernel, both", "320 x 50272", 12 * VROWS, 0, {NORMAL(ROWS, V), {CST_OP_TARGETS, ROWS, 0}, NORMAL(ROWS, 0)}, NULL,
     run_cross_entropy, 1, 0},
    {"lm_loss, both", "320 x 512 x 50272", 12 * VROWS, 6 * VROWS * E,
     {NORMAL(ROWS, E), NORMAL(V, E), {CST_OP_TARGETS, ROWS, 0}, EMPTY(ROWS, 0), EMPTY(ROWS, E), NORMAL(V, E)}, NULL, run_lm_loss, 0, 0},
    {"adamw, device", "4096 x 1024", 28 * FD, 13 * FD,
     {NORMAL(F, D), NORMAL(F, D), NORMAL(F, D), {CST_OP_POSITIVE, F, D}, {CST_OP_NORM, 4, 0}}, NULL, run_adamw, 0, 0},
    {"adamw, host", "4096 x 1024", 28 * FD, 13 * FD,
     {{CST_OP_HOST, F, D}, {CST_OP_HOST, F, D}, {CST_OP_HOST, F, D}, {CST_OP_HOST, F, D}},
     NULL, run_adamw_host, 0, 0},
    {"gradient norm, partial sums", "4096 x 1024", 4 * FD, 2 * FD, {EMPTY(F * D / 16384, 0), NORMAL(F, D)}, NULL, run_grad_norm, 0, 0},
    {"fill", "4096 x 1024", 4 * FD, 0, {EMPTY(F, D)}, NULL, run_fill, 0, 0},
    {"cast to bf16", "4096 x 1024", 6 * FD, 0, {{CST_OP_EMPTY_16, F, D}, NORMAL(F, D)}, NULL, run_cast, 0, 0},
};

int cst_op_cases(void)
{
    return (int)(sizeof cases / sizeof *cases);
}

const cst_op_case *cst_op_case_at(int i)
{
    return &cases[i];
}

static int64_t elements(const cst_op_case *c, int i)
{
    return c->tensor[i].d0 * (c->tensor[i].d1 ? c->tensor[i].d1 : 1);
}

/* What tensor i of c starts with: 4 bytes an element. */
static void make(float *x, const cst_op_case *c, int i)
{
    int64_t n = elements(c, i);
    switch (c->tensor[i].fill) {
    case CST_OP_NORM:
        x[0] = x[1] = x[2] = 1;
        x[3] = 0;
        break;
    case CST_OP_EMPTY:
    case CST_OP_EMPTY_16: /* zeros all the same: some systems make a page when it is first written, and that takes time */
        for (int64_t j = 0; j < n; j++) x[j] = 0;
        break;
    case CST_OP_TARGETS:
        for (int64_t j = 0; j < n; j++) ((int32_t *)(void *)x)[j] = (int32_t)(cst_random_u64(1, (uint64_t)i, (uint64_t)j) % V);
        break;
    default:
        cst_random_normal(x, (size_t)n, 0, 1, 1, (uint64_t)i);
        if (c->tensor[i].fill == CST_OP_NORMAL) break;
        for (int64_t j = 0; j < n; j++) x[j] *= x[j];
    }
}

/* Tensor i in every copy. x: its content. */
static cst_status place(cst_op_trial *trial, int i, const float *x)
{
    const cst_op_case *c = trial->c;
    cst_op_fill fill = c->tensor[i].fill;
    int64_t dims[2] = {c->tensor[i].d0, c->tensor[i].d1};
    size_t bytes = (size_t)elements(c, i) * 4;
    cst_type type = fill == CST_OP_EMPTY_16 ? CST_BF16 : fill == CST_OP_TARGETS ? CST_I32 : CST_F32;
    for (int k = i; k < trial->copies * CST_OP_TENSORS; k += CST_OP_TENSORS) {
        if (fill == CST_OP_HOST) {
            CST_TRY(cst_host_alloc((void **)&trial->host[k], trial->mem, bytes));
            for (size_t j = 0; j < bytes / 4; j++) trial->host[k][j] = x[j];
            continue;
        }
        CST_TRY(cst_tensor_create(&trial->t[k], trial->mem, CST_DATA, type, dims[1] ? 2 : 1, dims, "tensor %d", i));
        CST_TRY(cst_tensor_write(trial->t[k], 0, x, trial->t[k]->bytes));
    }
    return CST_OK;
}

cst_status cst_op_trial_open(cst_op_trial *trial, cst_mem *m, const cst_op_case *c)
{
    double bytes = 0;
    *trial = (cst_op_trial){.c = c, .mem = m};
    for (int i = 0; i < CST_OP_TENSORS && c->tensor[i].fill; i++) bytes += 4.0 * (double)elements(c, i);
    trial->copies = cst_measure_copies(m, bytes);
    trial->t = calloc((size_t)trial->copies * CST_OP_TENSORS, sizeof *trial->t);
    trial->host = calloc((size_t)trial->copies * CST_OP_TENSORS, sizeof *trial->host);
    if (!trial->t || !trial->host) return cst_fail(CST_NO_MEMORY, "tensors");
    for (int i = 0; i < CST_OP_TENSORS && c->tensor[i].fill; i++) {
        float *x = malloc((size_t)elements(c, i) * sizeof *x);
        if (!x) return cst_fail(CST_NO_MEMORY, "numbers");
        make(x, c, i);
        cst_status st = place(trial, i, x);
        free(x);
        CST_TRY(st);
    }
    if (c->prepare)
        for (int k = 0; k < trial->copies; k++) CST_TRY(c->prepare(trial, trial->t + k * CST_OP_TENSORS));
    return CST_OK;
}

void cst_op_trial_close(cst_op_trial *trial)
{
    for (int k = 0; trial->t && trial->host && k < trial->copies * CST_OP_TENSORS; k++) {
        cst_tensor_free(trial->t[k]);
        cst_host_free(trial->mem, trial->host[k]);
    }
    free(trial->t);
    free(trial->host);
    trial->t = NULL;
    trial->host = NULL;
}

cst_status cst_op_trial_run(void *p, int call)
{
    cst_op_trial *trial = p;
    int at = call % trial->copies * CST_OP_TENSORS;
    return trial->c->run(trial, trial->t + at, trial->host + at);
}
