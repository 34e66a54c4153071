/* Where castor plan and castor trace get a trace: a file, or a configuration. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/plan_trace.h"
#include "model/names.h"

/* ---- a step by the model's sizes alone: what sessions record themselves takes this part's place ---- */

typedef struct sketch {
    cst_trace *t;
    const cst_session_options *o;
    int *w, *g, params;      /* tensors of the parameters and their gradients */
    int x, micro;            /* x: what goes from operator to operator */
    int (*kept)[10];         /* [layers] what forward leaves for backward */
    cst_status st;
} sketch;

static int tensor(sketch *s, int cls, int persistent, int64_t count, const char *name, ...) CST_PRINTF(5, 6);
static int tensor(sketch *s, int cls, int persistent, int64_t count, const char *name, ...)
{
    char text[96];
    int id = 0;
    va_list ap;
    va_start(ap, name);
    vsnprintf(text, sizeof text, name, ap);
    va_end(ap);
    if (s->st == CST_OK) s->st = cst_trace_add_tensor(s->t, text, cls, 4 * (uint64_t)count, persistent, 0, &id);
    return id;
}

/* uses: pairs of tensor and access, -1 at the end. */
static void op(sketch *s, const char *name, double flops, ...)
{
    va_list ap;
    if (s->st == CST_OK) s->st = cst_trace_add_moment(s->t, name, flops);
    va_start(ap, flops);
    for (int id; s->st == CST_OK && (id = va_arg(ap, int)) >= 0;) s->st = cst_trace_add_use(s->t, id, va_arg(ap, int), 0);
    va_end(ap);
}

static int weight(const sketch *s, cst_role role, int layer)
{
    return s->w[cst_param_id(&s->o->config, role, layer)];
}

static int grad(const sketch *s, cst_role role, int layer)
{
    return s->g[cst_param_id(&s->o->config, role, layer)];
}

#define R CST_READ
#define W CST_WRITE
#define U CST_UPDATE

/* k: x q k v context log-sums a(out_proj) h(norm) f(fc1) y */
static void forward(sketch *s, int l, double n, double attention)
{
    const cst_config *c = &s->o->config;
    int64_t N = s->o->batch * s->o->seq, D = c->hidden_size, F = c->ffn_dim;
    int *k = s->kept[l];
    static const char *const names[] = {"x", "q", "k", "v", "context", "log-sums", "sum", "norm", "fc1", "y"};
    for (int i = 1; i < 10; i++)
        k[i] = tensor(s, CST_ACTIVATION, 0, i == 5 ? N * c->num_attention_heads : N * (i == 8 ? F : D), "micro %d layer %d %s", s->micro, l,
                      names[i]);
    k[0] = s->x;
    double d = (double)D, f = (double)F;
    for (int i = 0; i < 3; i++)
        op(s, "linear", 2 * n * d * d, k[0], R, weight(s, (cst_role)(CST_ROLE_K_WEIGHT + i), l), R, k[1 + i], W, -1);
    op(s, "attention", attention, k[1], R, k[2], R, k[3], R, k[4], W, k[5], W, -1);
    op(s, "linear", 2 * n * d * d, k[4], R, weight(s, CST_ROLE_OUT_WEIGHT, l), R, k[6], W, -1);
    op(s, "residual_norm", 0, k[0], R, k[6], U, weight(s, CST_ROLE_ATTN_NORM_WEIGHT, l), R, k[7], W, -1);
    op(s, "linear", 2 * n * d * f, k[7], R, weight(s, CST_ROLE_FC1_WEIGHT, l), R, k[8], W, -1);
    op(s, "linear", 2 * n * d * f, k[8], R, weight(s, CST_ROLE_FC2_WEIGHT, l), R, k[9], W, -1);
    op(s, "residual_norm", 0, k[7], R, k[9], U, weight(s, CST_ROLE_FFN_NORM_WEIGHT, l), R, -1);
    s->x = k[9];
}

static void product_backward(sketch *s, cst_role role, int l, double flops, int dy, int x, int dx, int first)
{
    int a = s->micro ? U : W;
    op(s, "linear_grad_w", flops, dy, R, x, R, grad(s, role, l), a,
       grad(s, (cst_role)(role == CST_ROLE_OUT_WEIGHT ? CST_ROLE_OUT_BIAS : role), l), a, -1);
    op(s, "linear_grad_x", flops, dy, R, weight(s, role, l), R, dx, first ? W : U, -1);
}

static void backward(sketch *s, int l, double n, double attention, int *dy)
{
    const cst_config *c = &s->o->config;
    int64_t N = s->o->batch * s->o->seq, D = c->hidden_size, F = c->ffn_dim;
    int *k = s->kept[l], a = s->micro ? U : W;
    double d = (double)D, f = (double)F;
    int df = tensor(s, CST_ACTIVATION, 0, N * F, "micro %d layer %d dfc1", s->micro, l),
        dh = tensor(s, CST_ACTIVATION, 0, N * D, "micro %d layer %d dnorm", s->micro, l);
    int dc = tensor(s, CST_ACTIVATION, 0, N * D, "micro %d layer %d dcontext", s->micro, l),
        dx = tensor(s, CST_ACTIVATION, 0, N * D, "micro %d layer %d dx", s->micro, l);
    int dq[3];
    for (int i = 0; i < 3; i++) dq[i] = tensor(s, CST_ACTIVATION, 0, N * D, "micro %d layer %d d%c", s->micro, l, "kvq"[i]);
    op(s, "norm_grad", 0, *dy, U, k[9], R, weight(s, CST_ROLE_FFN_NORM_WEIGHT, l), R, grad(s, CST_ROLE_FFN_NORM_WEIGHT, l), a,
       grad(s, CST_ROLE_FFN_NORM_BIAS, l), a, -1);
    product_backward(s, CST_ROLE_FC2_WEIGHT, l, 2 * n * d * f, *dy, k[8], df, 1);
    op(s, "bias_grad", 0, *dy, R, df, R, grad(s, CST_ROLE_FC1_BIAS, l), a, grad(s, CST_ROLE_FC2_BIAS, l), a, -1);
    product_backward(s, CST_ROLE_FC1_WEIGHT, l, 2 * n * d * f, df, k[7], dh, 1);
    op(s, "norm_grad", 0, dh, U, *dy, R, k[6], R, weight(s, CST_ROLE_ATTN_NORM_WEIGHT, l), R, grad(s, CST_ROLE_ATTN_NORM_WEIGHT, l), a,
       grad(s, CST_ROLE_ATTN_NORM_BIAS, l), a, -1);
    product_backward(s, CST_ROLE_OUT_WEIGHT, l, 2 * n * d * d, dh, k[4], dc, 1);
    op(s, "attention_grad", 2.5 * attention, dc, R, k[1], R, k[2], R, k[3], R, k[4], R, k[5], R, dq[0], W, dq[1], W, dq[2], W, -1);
    for (int i = 0; i < 3; i++) {
        product_backward(s, (cst_role)(CST_ROLE_K_WEIGHT + i), l, 2 * n * d * d, dq[i], k[0], dx, i == 0);
        op(s, "bias_grad", 0, dq[i], R, grad(s, (cst_role)(CST_ROLE_K_BIAS + i), l), a, -1);
    }
    op(s, "add", 0, dh, R, dx, U, -1);
    *dy = dx;
}

static void micro(sketch *s)
{
    const cst_config *c = &s->o->config;
    int64_t N = s->o->batch * s->o->seq, L = c->num_hidden_layers;
    double n = (double)N, attention = 2 * n * (double)s->o->seq * (double)c->hidden_size;
    int ids = tensor(s, CST_DATA, 0, 5 * N, "micro %d ids", s->micro), loss = tensor(s, CST_DATA, 0, N, "micro %d losses", s->micro);
    int a = s->micro ? U : W, embed = s->w[0];
    s->x = tensor(s, CST_ACTIVATION, 0, N * c->hidden_size, "micro %d embedding", s->micro);
    op(s, "embed", 0, ids, W, embed, R, s->w[1], R, s->x, W, -1);
    for (int l = 0; l < L; l++) forward(s, l, n, attention);
    int dy = tensor(s, CST_ACTIVATION, 0, N * c->hidden_size, "micro %d dhidden", s->micro);
    int logits = tensor(s, CST_SCRATCH, 0, (1 << 24) / c->vocab_size * c->vocab_size, "micro %d logits", s->micro);
    int64_t chunks = (N * c->vocab_size + (1 << 24) - 1) >> 24;
    for (int64_t i = 0; i < chunks; i++)
        op(s, "head_loss", 6 * n * (double)(c->vocab_size * c->word_embed_proj_dim) / (double)chunks, s->x, R, embed, R, logits, W, loss,
           i ? U : W, s->g[0], i ? U : a, dy, i ? U : W, -1);
    for (int l = (int)L - 1; l >= 0; l--) backward(s, l, n, attention, &dy);
    op(s, "embed_grad", 0, ids, R, dy, R, s->g[0], U, s->g[1], a, -1);
}

static void update(sketch *s)
{
    int norm = tensor(s, CST_SCRATCH, 0, 4096, "norm");
    for (int i = 0; i < s->params; i++) op(s, "grad_norm", 0, s->g[i], R, norm, i ? U : W, -1);
    for (int i = 0; i < s->params && s->o->placement != CST_PLACEMENT_STATIC; i++) {
        cst_param p;
        if (s->st == CST_OK) s->st = cst_param_get(&p, &s->o->config, i);
        if (s->st != CST_OK) return;
        int m = tensor(s, CST_OPTIM, 1, p.count, "%s.m", p.name), v = tensor(s, CST_OPTIM, 1, p.count, "%s.v", p.name);
        op(s, "adamw", 0, s->w[i], U, s->g[i], R, m, U, v, U, norm, R, -1);
    }
}

static cst_status sketched(cst_trace **out, const cst_session_options *o)
{
    sketch s = {.o = o, .params = cst_param_count(&o->config)};
    CST_TRY(cst_trace_create(&s.t));
    s.w = calloc((size_t)s.params, sizeof *s.w);
    s.g = calloc((size_t)s.params, sizeof *s.g);
    s.kept = calloc((size_t)o->config.num_hidden_layers, sizeof *s.kept);
    if (!s.w || !s.g || !s.kept) s.st = cst_fail(CST_NO_MEMORY, "trace");
    s.t->scratch = 64 << 20;
    for (int i = 0; i < s.params && s.st == CST_OK; i++) {
        cst_param p;
        s.st = cst_param_get(&p, &o->config, i);
        s.w[i] = tensor(&s, CST_PARAM, 1, p.count, "%s", p.name);
        s.g[i] = tensor(&s, CST_GRAD, 1, p.count, "%s.grad", p.name);
    }
    for (s.micro = 0; s.micro < o->accum && s.st == CST_OK; s.micro++) micro(&s);
    update(&s);
    free(s.w);
    free(s.g);
    free(s.kept);
    if (s.st == CST_OK) s.st = cst_trace_check(s.t);
    if (s.st == CST_OK) *out = s.t;
    else cst_trace_free(s.t);
    return s.st;
}

/* ---- */

/* "opt-350m, batch 8 x 1024, 4 micro-batches, recompute layer" */
static void tell_about(cst_trace *t, const cst_args *a, const cst_session_options *o)
{
    const char *name = a->text[CST_OPTION_CONFIG], *slash = strrchr(name, '/');
    char micros[40] = "", placement[40] = "";
    if (o->accum > 1) snprintf(micros, sizeof micros, ", %d micro-batches", o->accum);
    if (o->placement != CST_PLACEMENT_AUTO) snprintf(placement, sizeof placement, ", placement %s", cst_placement_name(o->placement));
    snprintf(t->about, sizeof t->about, "%.120s, batch %lld x %lld%s%s%s", slash && slash[1] ? slash + 1 : name, (long long)o->batch,
             (long long)o->seq, micros, o->recompute == CST_RECOMPUTE_LAYER ? ", recompute layer" : "", placement);
}

static cst_status from_config(cst_trace **out, const cst_args *a)
{
    cst_config c;
    cst_session_options o;
    CST_TRY(cst_config_from(&c, a));
    CST_TRY(cst_session_options_from(&o, a, &c));
    if (o.seq > c.max_position_embeddings)
        return cst_fail(CST_USAGE, "--seq %lld: the model has positions for %lld tokens", (long long)o.seq,
                        (long long)c.max_position_embeddings);
    CST_TRY(sketched(out, &o));
    tell_about(*out, a, &o);
    return CST_OK;
}

cst_status cst_trace_from(cst_trace **out, const cst_args *a)
{
    if (a->command & IN_TRACED && !a->operand)
        return cst_fail(CST_USAGE, "castor %s needs a FILE, as castor trace record writes it", a->command_name);
    const char *file = a->operand ? a->operand : a->text[CST_OPTION_TRACE], *rates = a->text[CST_OPTION_RATES];
    cst_trace *t;
    int computing = 0;
    if (file && a->text[CST_OPTION_CONFIG])
        return cst_fail(CST_USAGE, "--trace and --config exclude each other: a trace is of one configuration");
    CST_TRY(file ? cst_trace_load(&t, file) : from_config(&t, a));
    cst_status st = rates ? cst_rates_load(&t->rates, rates, &computing) : CST_OK;
    for (int k = 0; computing && k < t->moments; k++) t->moment[k].seconds = -1;
    if (st == CST_OK) *out = t;
    else cst_trace_free(t);
    return st;
}

cst_status cst_trace_extremes(uint64_t *least, uint64_t *resident, const cst_trace *t)
{
    CST_TRY(cst_plan_least(least, t));
    CST_TRY(cst_plan_resident(resident, t));
    *least += t->scratch;
    *resident += t->scratch;
    return CST_OK;
}

cst_status cst_trace_budget(uint64_t *budget, const cst_args *a, const cst_trace *t)
{
    uint64_t least;
    if (!a->text[CST_OPTION_BUDGET]) return cst_trace_extremes(&least, budget, t);
    *budget = cst_args_size(a, CST_OPTION_BUDGET);
    return CST_OK;
}

cst_status cst_trace_plan(cst_plan **p, cst_timeline **l, const cst_trace *t, uint64_t budget)
{
    uint64_t least, resident;
    char a[32], b[32];
    cst_plan *plan = NULL;
    CST_TRY(cst_trace_extremes(&least, &resident, t));
    if (budget < least)
        return cst_fail(CST_OVER_BUDGET,
                        "%s of device memory are too little for this step: the smallest --device-mem that works is %llu (%s)",
                        cst_bytes_text(a, (double)budget), (unsigned long long)least, cst_bytes_text(b, (double)least));
    CST_TRY(cst_plan_make(&plan, t, budget - t->scratch));
    cst_status st = cst_timeline_make(l, plan, t);
    if (st == CST_OK) *p = plan;
    else cst_plan_free(plan);
    return st;
}

const char *cst_seconds_text(char buf[32], double s)
{
    if (s <= 0) snprintf(buf, 32, "0 s");
    else if (s >= 0.9995) snprintf(buf, 32, "%.3g s", s);
    else if (s >= 0.9995e-3) snprintf(buf, 32, "%.3g ms", 1e3 * s);
    else snprintf(buf, 32, "%.3g us", 1e6 * s);
    return buf;
}

const char *cst_thousands_text(char buf[32], double v, const char *unit)
{
    static const char prefix[] = " kMGTPE";
    int i = 0;
    while (v >= 999.5 && prefix[i + 1]) v /= 1000, i++;
    if (i) snprintf(buf, 32, "%.3g %c%s", v, prefix[i], unit);
    else snprintf(buf, 32, "%.3g %s", v, unit);
    return buf;
}
