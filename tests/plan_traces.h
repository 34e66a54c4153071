/* Traces for the planner's test: random small ones, and steps like OPT's. */
#ifndef PLAN_TRACES_H
#define PLAN_TRACES_H

#include "testing.h"

#include "base/random.h"
#include "memory/memory.h"
#include "memory/trace.h"

typedef struct dice { uint64_t seed, at; } dice;

static inline int roll(dice *d, int n)
{
    return (int)(cst_random_u64(d->seed, 7, d->at++) % (uint64_t)n);
}

/* How a random trace looks. */
typedef struct trace_shape {
    int tensors, moments, uses; /* at most so many uses a moment */
    int sizes;               /* 0 alike, 1 from 1 to 20 units, 2 from 1 to 4000, most small */
    int passing, fixed, held; /* of 10: not persistent; fixed; uses that only hold */
    uint64_t max_slab;       /* units; 0: plenty */
} trace_shape;

static inline uint64_t roll_size(dice *d, int sizes)
{
    if (!sizes) return 8;
    if (sizes == 1) return 1 + (uint64_t)roll(d, 20);
    return roll(d, 4) ? 1 + (uint64_t)roll(d, 30) : 1 + (uint64_t)roll(d, 4000);
}

static inline cst_trace *random_trace(uint64_t seed, const trace_shape *w)
{
    dice d = {seed, 0};
    cst_trace *t;
    int *last = calloc((size_t)w->tensors + 1, sizeof *last), id;
    ck_ok(cst_trace_create(&t));
    t->align = 256;
    t->max_slab = w->max_slab ? w->max_slab * 256 : (uint64_t)1 << 32;
    t->rates = (cst_rates){.up = 1e9, .down = 0.8e9, .both = 0.8, .memory = 5e9, .flops = 1e12, .launch = 1e-7};
    for (int x = 0; x < w->tensors; x++) {
        char name[32];
        int passing = roll(&d, 10) < w->passing, fixed = !passing && roll(&d, 10) < w->fixed;
        uint64_t size = roll_size(&d, w->sizes);
        if (w->max_slab && size > w->max_slab) size = w->max_slab;
        snprintf(name, sizeof name, "t%d", x);
        ck_ok(cst_trace_add_tensor(t, name, CST_PARAM, size * 256, !passing, fixed, &id));
    }
    for (int m = 0; m < w->moments; m++) {
        char op[32];
        snprintf(op, sizeof op, "op%d", m);
        ck_ok(cst_trace_add_moment(t, op, 0));
        for (int i = roll(&d, w->uses + 1); i > 0; i--) {
            static const int access[] = {CST_READ, CST_READ, CST_READ, CST_UPDATE, CST_UPDATE, CST_WRITE};
            int x = roll(&d, w->tensors), a = access[roll(&d, 6)], held = last[x] && roll(&d, 10) < w->held, twice = 0;
            for (int k = 0; k < t->moment[m].uses; k++) twice |= t->use[t->moment[m].first + k].tensor == x;
            if (twice) continue;
            if (!last[x] && !t->tensor[x].persistent) a = CST_WRITE;
            ck_ok(cst_trace_add_use(t, x, a, held));
            last[x] = 1;
        }
        if (roll(&d, 3) == 0) t->moment[m].seconds = roll(&d, 30) * 1e-7;
    }
    free(last);
    ck_ok(cst_trace_check(t));
    return t;
}

/* A training step like OPT's. */
typedef struct opt_shape {
    int layers, d, ffn, vocabulary, embedding, positions, batch, micro_batches;
} opt_shape;

typedef struct opt_maker {
    cst_trace *t;
    const opt_shape *o;
    int w[2000], g[2000], m1[2000], m2[2000], params;
    double n[2000];
    int micro;
} opt_maker;

static inline int opt_param(opt_maker *k, const char *name, int layer, double n)
{
    char text[96];
    int i = k->params++;
    k->n[i] = n;
    snprintf(text, sizeof text, "%s.%d", name, layer);
    ck_ok(cst_trace_add_tensor(k->t, text, CST_PARAM, (uint64_t)(4 * n), 1, 0, &k->w[i]));
    snprintf(text, sizeof text, "%s.%d.grad", name, layer);
    ck_ok(cst_trace_add_tensor(k->t, text, CST_GRAD, (uint64_t)(4 * n), 1, 0, &k->g[i]));
    snprintf(text, sizeof text, "%s.%d.m1", name, layer);
    ck_ok(cst_trace_add_tensor(k->t, text, CST_OPTIM, (uint64_t)(4 * n), 1, 0, &k->m1[i]));
    snprintf(text, sizeof text, "%s.%d.m2", name, layer);
    ck_ok(cst_trace_add_tensor(k->t, text, CST_OPTIM, (uint64_t)(4 * n), 1, 0, &k->m2[i]));
    return i;
}

static inline int opt_activation(opt_maker *k, const char *name, double n)
{
    int id;
    ck_ok(cst_trace_add_tensor(k->t, name, CST_ACTIVATION, (uint64_t)(4 * n), 0, 0, &id));
    return id;
}

static inline void opt_op(opt_maker *k, const char *name, double flops) { ck_ok(cst_trace_add_moment(k->t, name, flops)); }
static inline void opt_use(opt_maker *k, int x, int access) { ck_ok(cst_trace_add_use(k->t, x, access, 0)); }

/* A matrix product with weight and bias, forward. */
static inline void opt_linear(opt_maker *k, int p, int in, int out, double rows)
{
    opt_op(k, "linear", 2 * rows * k->n[p]);
    opt_use(k, in, CST_READ);
    opt_use(k, k->w[p], CST_READ);
    opt_use(k, out, CST_WRITE);
    opt_op(k, "bias", 0);
    opt_use(k, out, CST_UPDATE);
    opt_use(k, k->w[p + 1], CST_READ);
}

/* Its backward: dout, saved input; din. */
static inline void opt_linear_back(opt_maker *k, int p, int in, int dout, int din, double rows)
{
    int access = k->micro ? CST_UPDATE : CST_WRITE;
    opt_op(k, "linear_dx", 2 * rows * k->n[p]);
    opt_use(k, dout, CST_READ);
    opt_use(k, k->w[p], CST_READ);
    opt_use(k, din, CST_WRITE);
    opt_op(k, "linear_dw", 2 * rows * k->n[p]);
    opt_use(k, dout, CST_READ);
    opt_use(k, in, CST_READ);
    opt_use(k, k->g[p], access);
    opt_op(k, "linear_db", 0);
    opt_use(k, dout, CST_READ);
    opt_use(k, k->g[p + 1], access);
}

enum { OPT_SAVED = 9 };

static inline void opt_layer_forward(opt_maker *k, int p, int x, int *saved, int y)
{
    const opt_shape *o = k->o;
    double rows = (double)o->batch * o->positions, rd = rows * o->d;
    static const char *name[OPT_SAVED] = {"ln1", "q", "k", "v", "att", "mid", "ln2", "h", "stat"};
    for (int i = 0; i < OPT_SAVED; i++) saved[i] = opt_activation(k, name[i], i == 7 ? rows * o->ffn : i == 8 ? rows * 16 : rd);
    opt_op(k, "layer_norm", 0);
    opt_use(k, x, CST_READ);
    opt_use(k, k->w[p], CST_READ);
    opt_use(k, k->w[p + 1], CST_READ);
    opt_use(k, saved[0], CST_WRITE);
    for (int i = 0; i < 3; i++) opt_linear(k, p + 2 + 2 * i, saved[0], saved[1 + i], rows);
    opt_op(k, "attention", 4 * rows * o->positions * o->d);
    for (int i = 1; i < 4; i++) opt_use(k, saved[i], CST_READ);
    opt_use(k, saved[4], CST_WRITE);
    opt_use(k, saved[8], CST_WRITE);
    opt_linear(k, p + 8, saved[4], saved[5], rows);
    opt_op(k, "layer_norm", 0);
    opt_use(k, saved[5], CST_UPDATE);
    opt_use(k, x, CST_READ);
    opt_use(k, k->w[p + 10], CST_READ);
    opt_use(k, saved[6], CST_WRITE);
    opt_linear(k, p + 12, saved[6], saved[7], rows);
    opt_linear(k, p + 14, saved[7], y, rows);
    opt_op(k, "residual", 0);
    opt_use(k, y, CST_UPDATE);
    opt_use(k, saved[5], CST_READ);
}

static inline void opt_layer_back(opt_maker *k, int p, int x, const int *saved, int dy, int dx)
{
    const opt_shape *o = k->o;
    double rows = (double)o->batch * o->positions, rd = rows * o->d;
    int access = k->micro ? CST_UPDATE : CST_WRITE;
    int dh = opt_activation(k, "dh", rows * o->ffn), dln = opt_activation(k, "dln2", rd), da = opt_activation(k, "da", rd), dqkv[3];
    opt_linear_back(k, p + 14, saved[7], dy, dh, rows);
    opt_linear_back(k, p + 12, saved[6], dh, dln, rows);
    opt_op(k, "layer_norm_back", 0);
    opt_use(k, dln, CST_UPDATE);
    opt_use(k, saved[5], CST_READ);
    opt_use(k, k->w[p + 10], CST_READ);
    opt_use(k, k->g[p + 10], access);
    opt_use(k, k->g[p + 11], access);
    opt_use(k, dy, CST_UPDATE);
    opt_linear_back(k, p + 8, saved[4], dy, da, rows);
    for (int i = 0; i < 3; i++) dqkv[i] = opt_activation(k, "dqkv", rd);
    opt_op(k, "attention_back", 10 * rows * o->positions * o->d);
    for (int i = 1; i < 5; i++) opt_use(k, saved[i], CST_READ);
    opt_use(k, saved[8], CST_READ);
    opt_use(k, da, CST_READ);
    for (int i = 0; i < 3; i++) opt_use(k, dqkv[i], CST_WRITE);
    for (int i = 0; i < 3; i++) {
        int din = i ? opt_activation(k, "dx part", rd) : dx;
        opt_linear_back(k, p + 2 + 2 * i, saved[0], dqkv[i], din, rows);
        if (!i) continue;
        opt_op(k, "add", 0);
        opt_use(k, dx, CST_UPDATE);
        opt_use(k, din, CST_READ);
    }
    opt_op(k, "layer_norm_back", 0);
    opt_use(k, dx, CST_UPDATE);
    opt_use(k, dy, CST_READ);
    opt_use(k, x, CST_READ);
    opt_use(k, k->w[p], CST_READ);
    opt_use(k, k->g[p], access);
    opt_use(k, k->g[p + 1], access);
}

static inline void opt_head(opt_maker *k, int table, int x, int dx, double rows)
{
    int access = k->micro ? CST_UPDATE : CST_WRITE;
    for (int part = 0; part < 4; part++) {
        int logits = opt_activation(k, "logits", rows / 4 * k->o->vocabulary / 8);
        opt_op(k, "head", rows / 2 * k->n[table]);
        opt_use(k, x, CST_READ);
        opt_use(k, k->w[table], CST_READ);
        opt_use(k, logits, CST_WRITE);
        opt_op(k, "cross_entropy", 0);
        opt_use(k, logits, CST_UPDATE);
        opt_op(k, "head_back", rows * k->n[table]);
        opt_use(k, logits, CST_READ);
        opt_use(k, x, CST_READ);
        opt_use(k, k->w[table], CST_READ);
        opt_use(k, k->g[table], part ? CST_UPDATE : access);
        opt_use(k, dx, part ? CST_UPDATE : CST_WRITE);
    }
}

static inline void opt_micro_batch(opt_maker *k, const int *layer, int table, int position)
{
    const opt_shape *o = k->o;
    double rows = (double)o->batch * o->positions, rd = rows * o->d;
    int x[64], saved[64][OPT_SAVED], dx[2];
    x[0] = opt_activation(k, "x", rd);
    opt_op(k, "embed", 0);
    opt_use(k, k->w[table], CST_READ);
    opt_use(k, k->w[position], CST_READ);
    opt_use(k, x[0], CST_WRITE);
    for (int l = 0; l < o->layers; l++) {
        x[l + 1] = opt_activation(k, "x", rd);
        opt_layer_forward(k, layer[l], x[l], saved[l], x[l + 1]);
    }
    dx[0] = opt_activation(k, "dx", rd);
    opt_head(k, table, x[o->layers], dx[0], rows);
    for (int l = o->layers; l-- > 0;) {
        dx[1] = opt_activation(k, "dx", rd);
        opt_layer_back(k, layer[l], x[l], saved[l], dx[0], dx[1]);
        dx[0] = dx[1];
    }
    opt_op(k, "embed_back", 0);
    opt_use(k, dx[0], CST_READ);
    opt_use(k, k->g[table], CST_UPDATE);
    opt_use(k, k->g[position], k->micro ? CST_UPDATE : CST_WRITE);
}

static inline cst_trace *opt_trace(const opt_shape *o)
{
    opt_maker *k = calloc(1, sizeof *k);
    int layer[64], norm, id;
    k->o = o;
    ck_ok(cst_trace_create(&k->t));
    cst_trace *t = k->t;
    t->rates = (cst_rates){.up = 50e9, .down = 50e9, .both = 0.9, .memory = 2.5e12, .flops = 40e12, .launch = 8e-6};
    ck_ok(cst_trace_add_tensor(t, "tokens", CST_DATA, (uint64_t)o->batch * o->positions * 4, 1, 1, &id));
    ck_ok(cst_trace_add_tensor(t, "norm", CST_DATA, 256, 1, 1, &norm));
    int table = opt_param(k, "embed", 0, (double)o->vocabulary * o->embedding), position = opt_param(k, "position", 0, 2050.0 * o->d);
    for (int l = 0; l < o->layers; l++) {
        layer[l] = k->params;
        for (int i = 0; i < 16; i++) {
            double d = o->d, n = i < 2 || i == 10 || i == 11 ? d : i % 2 ? (i == 13 ? o->ffn : d) : i < 10 ? d * d : d * o->ffn;
            opt_param(k, "p", l, n);
        }
    }
    for (k->micro = 0; k->micro < o->micro_batches; k->micro++) opt_micro_batch(k, layer, table, position);
    for (int i = 0; i < k->params; i++) {
        opt_op(k, "grad_norm", 0);
        opt_use(k, k->g[i], CST_READ);
        opt_use(k, norm, i ? CST_UPDATE : CST_WRITE);
    }
    for (int i = 0; i < k->params; i++) {
        opt_op(k, "adamw", 0);
        opt_use(k, k->w[i], CST_UPDATE);
        opt_use(k, k->g[i], CST_READ);
        opt_use(k, k->m1[i], CST_UPDATE);
        opt_use(k, k->m2[i], CST_UPDATE);
    }
    free(k);
    ck_ok(cst_trace_check(t));
    return t;
}

#endif
