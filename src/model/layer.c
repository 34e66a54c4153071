#include "model/layer.h"

#include <stdio.h>
#include <string.h>

#include "op/activation.h"
#include "op/attention.h"
#include "op/attention_decode.h"
#include "op/layer_norm.h"
#include "op/linear.h"
#include "op/residual.h"

cst_tensor *cst_model_w(const cst_model *M, cst_role role, int layer)
{
    int id = cst_param_id(&M->config, role, layer);
    return id < 0 ? NULL : M->w[id];
}

cst_tensor *cst_model_g(const cst_model *M, cst_role role, int layer)
{
    int id = cst_param_id(&M->config, role, layer);
    return id < 0 || !M->g ? NULL : M->g[id];
}

cst_status cst_activation_tensor(cst_model *M, cst_tensor **out, int64_t rows, int64_t cols, const char *name)
{
    return cst_tensor_create(out, M->mem, CST_ACTIVATION, CST_F32, 2, (int64_t[]){rows, cols}, "%s", name);
}

/* An activation of layer l. */
static cst_status layer_tensor(cst_model *M, int l, cst_tensor **out, int64_t rows, int64_t cols, const char *name)
{
    char full[64];
    snprintf(full, sizeof full, "%s of layer %d", name, l);
    return cst_activation_tensor(M, out, rows, cols, full);
}

static void drop(cst_tensor **t)
{
    cst_tensor_free(*t);
    *t = NULL;
}

void cst_layer_clear(cst_layer *a)
{
    if (a->n1 == a->x) a->n1 = NULL;
    cst_tensor **all[] = {&a->n1, &a->stats1, &a->q, &a->k, &a->v, &a->o, &a->lse, &a->s1, &a->h, &a->stats2, &a->u, &a->f, &a->s2};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) drop(all[i]);
}

/* Dropout of one of a layer's two places; NULL when there is none. */
static const cst_dropout *dropout_at(cst_dropout *d, const cst_pass *p, int layer, int place)
{
    *d = (cst_dropout){p->dropout, p->seed, (uint32_t)(2 * layer + place), p->step};
    return p->dropout > 0 ? d : NULL;
}

/* Keep k and v behind those of earlier tokens; without such, attention is that of a whole sequence. */
static cst_status attend(cst_model *M, int l, cst_layer *a, const cst_batch *b, const cst_kv *kv)
{
    int64_t n = b->rows * b->seq, heads = M->config.num_attention_heads;
    if (kv) {
        CST_TRY(cst_attention_append(M->mem, kv->k[l], a->k, kv->count));
        CST_TRY(cst_attention_append(M->mem, kv->v[l], a->v, kv->count));
        if (kv->count) return cst_attention_decode(M->mem, a->o, a->q, kv->k[l], kv->v[l], kv->count + 1, heads);
    }
    CST_TRY(layer_tensor(M, l, &a->lse, n, heads, "log-sum-exp"));
    return cst_attention_forward(M->mem, a->o, a->lse, a->q, a->k, a->v, b->rows, b->seq, heads);
}

static cst_status attention_forward(cst_model *M, int l, cst_layer *a, const cst_batch *b, const cst_kv *kv)
{
    int64_t n = b->rows * b->seq, d = M->config.hidden_size;
    cst_tensor **out[] = {&a->q, &a->k, &a->v};
    static const cst_role w[] = {CST_ROLE_Q_WEIGHT, CST_ROLE_K_WEIGHT, CST_ROLE_V_WEIGHT};
    static const cst_role bias[] = {CST_ROLE_Q_BIAS, CST_ROLE_K_BIAS, CST_ROLE_V_BIAS};
    static const char *const name[] = {"q", "k", "v"};
    for (int i = 0; i < 3; i++) {
        CST_TRY(layer_tensor(M, l, out[i], n, d, name[i]));
        CST_TRY(cst_linear_forward(M->mem, *out[i], a->n1, cst_model_w(M, w[i], l), cst_model_w(M, bias[i], l)));
    }
    CST_TRY(layer_tensor(M, l, &a->o, n, d, "attention"));
    CST_TRY(attend(M, l, a, b, kv));
    CST_TRY(layer_tensor(M, l, &a->s1, n, d, "s1"));
    return cst_linear_forward(M->mem, a->s1, a->o, cst_model_w(M, CST_ROLE_OUT_WEIGHT, l), NULL);
}

/* out = fc2 act(fc1 h); residual: + fc2's bias + residual, else without that bias */
static cst_status ffn_forward(cst_model *M, int l, cst_layer *a, cst_tensor *out, const cst_tensor *residual)
{
    int64_t n = a->h->dim[0], ffn = M->config.ffn_dim;
    cst_activation kind = M->config.activation_function;
    cst_tensor *w = cst_model_w(M, CST_ROLE_FC1_WEIGHT, l), *bias = cst_model_w(M, CST_ROLE_FC1_BIAS, l);
    CST_TRY(layer_tensor(M, l, &a->f, n, ffn, "ffn"));
    if (kind == CST_GELU) CST_TRY(layer_tensor(M, l, &a->u, n, ffn, "ffn before activation"));
    CST_TRY(cst_linear_forward_fused(M->mem, a->f, a->h, w, kind == CST_RELU ? bias : NULL, kind == CST_RELU, NULL));
    if (kind != CST_RELU) CST_TRY(cst_activation_forward(M->mem, kind, a->f, a->u, a->f, bias));
    return cst_linear_forward_fused(M->mem, out, a->f, cst_model_w(M, CST_ROLE_FC2_WEIGHT, l),
                                    residual ? cst_model_w(M, CST_ROLE_FC2_BIAS, l) : NULL, 0, residual);
}

cst_status cst_layer_forward(cst_model *M, int l, cst_layer *a, cst_tensor **y, const cst_batch *b, const cst_pass *p, int keep)
{
    int64_t n = b->rows * b->seq, d = M->config.hidden_size;
    int pre = M->config.do_layer_norm_before;
    float eps = (float)M->config.layer_norm_eps;
    cst_tensor *g1 = cst_model_w(M, CST_ROLE_ATTN_NORM_WEIGHT, l), *b1 = cst_model_w(M, CST_ROLE_ATTN_NORM_BIAS, l);
    cst_tensor *g2 = cst_model_w(M, CST_ROLE_FFN_NORM_WEIGHT, l), *b2 = cst_model_w(M, CST_ROLE_FFN_NORM_BIAS, l);
    cst_tensor *out_bias = cst_model_w(M, CST_ROLE_OUT_BIAS, l), *fc2_bias = cst_model_w(M, CST_ROLE_FC2_BIAS, l);
    cst_dropout d1, d2;
    const cst_dropout *drop1 = dropout_at(&d1, p, l, 0), *drop2 = dropout_at(&d2, p, l, 1);
    CST_TRY(layer_tensor(M, l, &a->stats1, n, 2, "stats1"));
    a->n1 = a->x;
    if (pre) {
        CST_TRY(layer_tensor(M, l, &a->n1, n, d, "n1"));
        CST_TRY(cst_layer_norm_forward(M->mem, a->n1, a->stats1, a->x, g1, b1, eps));
    }
    CST_TRY(attention_forward(M, l, a, b, p->kv));
    if (!keep) { /* evaluation: give back early what nothing needs any more */
        if (pre) drop(&a->n1);
        drop(&a->q), drop(&a->k), drop(&a->v), drop(&a->o), drop(&a->lse);
    }
    CST_TRY(layer_tensor(M, l, &a->h, n, d, "h"));
    CST_TRY(layer_tensor(M, l, &a->stats2, n, 2, "stats2"));
    CST_TRY(cst_layer_norm_residual_forward(M->mem, a->h, pre ? a->stats2 : a->stats1, a->s1, a->s1, out_bias, a->x,
                                            pre ? g2 : g1, pre ? b2 : b1, eps, drop1));
    if (pre) {
        CST_TRY(layer_tensor(M, l, y, n, d, "y"));
        CST_TRY(ffn_forward(M, l, a, *y, drop2 ? NULL : a->s1));
        if (drop2) CST_TRY(cst_residual_forward(M->mem, *y, *y, fc2_bias, a->s1, drop2));
    } else {
        CST_TRY(layer_tensor(M, l, &a->s2, n, d, "s2"));
        CST_TRY(ffn_forward(M, l, a, a->s2, NULL));
        CST_TRY(layer_tensor(M, l, y, n, d, "y"));
        CST_TRY(cst_layer_norm_residual_forward(M->mem, *y, a->stats2, a->s2, a->s2, fc2_bias, a->h, g2, b2, eps, drop2));
    }
    if (!keep) cst_layer_clear(a);
    return CST_OK;
}

/* Gradients of a linear layer's weight and bias from that of its output; none where they are frozen. */
static cst_status linear_params(cst_model *M, int l, cst_role weight, cst_role bias, const cst_tensor *dy, const cst_tensor *x,
                                const cst_pass *p)
{
    cst_tensor *dw = cst_model_g(M, weight, l), *db = cst_model_g(M, bias, l);
    if (dw) CST_TRY(cst_linear_backward_weight(M->mem, dw, dy, x, p->accumulate));
    return db ? cst_linear_backward_bias(M->mem, db, dy, p->accumulate) : CST_OK;
}

/* The gradient in front of a dropout: dy itself when there is none, else a new tensor. */
static cst_status through_dropout(cst_model *M, int l, cst_tensor **dx, cst_tensor *dy, const cst_dropout *drop)
{
    *dx = dy;
    if (!drop) return CST_OK;
    CST_TRY(layer_tensor(M, l, dx, dy->dim[0], dy->dim[1], "gradient before dropout"));
    return cst_residual_backward(M->mem, *dx, dy, drop);
}

/* dh (+)= gradient through fc2 act(fc1 h) of ds, which is also read. dh may be ds. */
static cst_status ffn_backward(cst_model *M, int l, cst_layer *a, cst_tensor *dh, cst_tensor *ds, int accumulate, const cst_pass *p)
{
    cst_dropout place;
    cst_activation kind = M->config.activation_function;
    cst_tensor *dz = NULL, *df = NULL;
    cst_status st;
    CST_GO(through_dropout(M, l, &dz, ds, dropout_at(&place, p, l, 1)), out);
    CST_GO(linear_params(M, l, CST_ROLE_FC2_WEIGHT, CST_ROLE_FC2_BIAS, dz, a->f, p), out);
    CST_GO(layer_tensor(M, l, &df, dz->dim[0], M->config.ffn_dim, "gradient of ffn"), out);
    CST_GO(cst_linear_backward_input(M->mem, df, dz, cst_model_w(M, CST_ROLE_FC2_WEIGHT, l), 0), out);
    CST_GO(cst_activation_backward(M->mem, kind, df, df, kind == CST_GELU ? a->u : a->f), out);
    drop(&a->f), drop(&a->u);
    CST_GO(linear_params(M, l, CST_ROLE_FC1_WEIGHT, CST_ROLE_FC1_BIAS, df, a->h, p), out);
    drop(&a->h);
    st = cst_linear_backward_input(M->mem, dh, df, cst_model_w(M, CST_ROLE_FC1_WEIGHT, l), accumulate);
out:
    if (dz != ds) cst_tensor_free(dz);
    cst_tensor_free(df);
    return st;
}

/* dn (+)= gradient through the attention block of ds1, which is also read. dn may be ds1. */
static cst_status attention_backward(cst_model *M, int l, cst_layer *a, cst_tensor *dn, cst_tensor *ds1, int accumulate,
                                     const cst_batch *b, const cst_pass *p)
{
    cst_dropout place;
    int64_t n = ds1->dim[0], d = M->config.hidden_size;
    cst_tensor *da = NULL, *d_o = NULL, *dqkv[3] = {NULL, NULL, NULL};
    static const cst_role w[] = {CST_ROLE_Q_WEIGHT, CST_ROLE_K_WEIGHT, CST_ROLE_V_WEIGHT};
    static const cst_role bias[] = {CST_ROLE_Q_BIAS, CST_ROLE_K_BIAS, CST_ROLE_V_BIAS};
    static const char *const name[] = {"gradient of q", "gradient of k", "gradient of v"};
    cst_status st;
    CST_GO(through_dropout(M, l, &da, ds1, dropout_at(&place, p, l, 0)), out);
    CST_GO(linear_params(M, l, CST_ROLE_OUT_WEIGHT, CST_ROLE_OUT_BIAS, da, a->o, p), out);
    CST_GO(layer_tensor(M, l, &d_o, n, d, "gradient of attention"), out);
    CST_GO(cst_linear_backward_input(M->mem, d_o, da, cst_model_w(M, CST_ROLE_OUT_WEIGHT, l), 0), out);
    for (int i = 0; i < 3; i++) CST_GO(layer_tensor(M, l, &dqkv[i], n, d, name[i]), out);
    CST_GO(cst_attention_backward(M->mem, dqkv[0], dqkv[1], dqkv[2], d_o, a->o, a->lse, a->q, a->k, a->v, b->rows, b->seq,
                                  M->config.num_attention_heads), out);
    drop(&d_o), drop(&a->q), drop(&a->k), drop(&a->v), drop(&a->o), drop(&a->lse);
    for (int i = 0; i < 3; i++) {
        CST_GO(linear_params(M, l, w[i], bias[i], dqkv[i], a->n1, p), out);
        CST_GO(cst_linear_backward_input(M->mem, dn, dqkv[i], cst_model_w(M, w[i], l), accumulate || i), out);
    }
out:
    if (da != ds1) cst_tensor_free(da);
    cst_tensor_free(d_o);
    for (int i = 0; i < 3; i++) cst_tensor_free(dqkv[i]);
    return st;
}

static cst_status norm_backward(cst_model *M, int l, cst_role weight, cst_role bias, cst_tensor *dx, const cst_tensor *dy,
                                const cst_tensor *x, const cst_tensor *stats, const cst_tensor *add, const cst_pass *p)
{
    return cst_layer_norm_backward(M->mem, dx, cst_model_g(M, weight, l), cst_model_g(M, bias, l), dy, x, stats,
                                   cst_model_w(M, weight, l), add, p->accumulate);
}

static cst_status post_backward(cst_model *M, int l, cst_layer *a, cst_tensor *d, const cst_batch *b, const cst_pass *p)
{
    CST_TRY(norm_backward(M, l, CST_ROLE_FFN_NORM_WEIGHT, CST_ROLE_FFN_NORM_BIAS, d, d, a->s2, a->stats2, NULL, p));
    drop(&a->s2);
    CST_TRY(ffn_backward(M, l, a, d, d, 1, p));
    CST_TRY(norm_backward(M, l, CST_ROLE_ATTN_NORM_WEIGHT, CST_ROLE_ATTN_NORM_BIAS, d, d, a->s1, a->stats1, NULL, p));
    drop(&a->s1);
    return attention_backward(M, l, a, d, d, 1, b, p);
}

static cst_status pre_backward(cst_model *M, int l, cst_layer *a, cst_tensor *d, const cst_batch *b, const cst_pass *p)
{
    cst_tensor *dn = NULL;
    cst_status st;
    CST_GO(layer_tensor(M, l, &dn, d->dim[0], d->dim[1], "gradient of a layer norm"), out);
    CST_GO(ffn_backward(M, l, a, dn, d, 0, p), out);
    CST_GO(norm_backward(M, l, CST_ROLE_FFN_NORM_WEIGHT, CST_ROLE_FFN_NORM_BIAS, d, dn, a->s1, a->stats2, d, p), out);
    drop(&a->s1);
    CST_GO(attention_backward(M, l, a, dn, d, 0, b, p), out);
    CST_GO(norm_backward(M, l, CST_ROLE_ATTN_NORM_WEIGHT, CST_ROLE_ATTN_NORM_BIAS, d, dn, a->x, a->stats1, d, p), out);
out:
    cst_tensor_free(dn);
    return st;
}

cst_status cst_layer_backward(cst_model *M, int l, cst_layer *a, cst_tensor **d, const cst_batch *b, const cst_pass *p)
{
    cst_status st = M->config.do_layer_norm_before ? pre_backward(M, l, a, *d, b, p) : post_backward(M, l, a, *d, b, p);
    cst_layer_clear(a);
    return st;
}
