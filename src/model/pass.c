/* Forward and backward of the whole model: embeddings, layers, head and loss. */
#include <stdlib.h>

#include "model/layer.h"
#include "op/cross_entropy.h"
#include "op/embed.h"
#include "op/layer_norm.h"
#include "op/linear.h"

#define POSITION_OFFSET 2 /* OPT's position table begins with two rows that no token uses */

/* What backward needs of the two ends of the model. */
typedef struct ends {
    cst_tensor *e;           /* [N, E] token embeddings, only with project_in */
    cst_tensor *last;        /* [N, D] output of the last layer */
    cst_tensor *norm, *stats; /* [N, D], [N, 2] with a final layer norm */
    cst_tensor *h;           /* [N, E] what the head takes; may be one of the above */
} ends;

static cst_status embed_forward(cst_model *M, ends *s, cst_tensor **x, const cst_batch *b, const cst_kv *kv)
{
    int64_t n = b->rows * b->seq, d = M->config.hidden_size, e = M->config.word_embed_proj_dim;
    int64_t first = POSITION_OFFSET + (kv ? kv->count : 0);
    cst_tensor *table = cst_model_w(M, CST_ROLE_EMBED_TOKENS, 0), *pos = cst_model_w(M, CST_ROLE_EMBED_POSITIONS, 0);
    cst_tensor *in = cst_model_w(M, CST_ROLE_PROJECT_IN, 0);
    CST_TRY(cst_activation_tensor(M, x, n, d, "x"));
    if (!in) return cst_embed_forward(M->mem, *x, table, b->ids, pos, b->seq, first);
    CST_TRY(cst_activation_tensor(M, &s->e, n, e, "token embeddings"));
    CST_TRY(cst_embed_forward(M->mem, s->e, table, b->ids, NULL, b->seq, 0));
    CST_TRY(cst_linear_forward(M->mem, *x, s->e, in, NULL));
    return cst_embed_add_positions(M->mem, *x, pos, b->seq, first);
}

static cst_status head_forward(cst_model *M, ends *s)
{
    int64_t n = s->last->dim[0], d = M->config.hidden_size, e = M->config.word_embed_proj_dim;
    cst_tensor *gain = cst_model_w(M, CST_ROLE_FINAL_NORM_WEIGHT, 0), *out = cst_model_w(M, CST_ROLE_PROJECT_OUT, 0);
    s->h = s->last;
    if (gain) {
        CST_TRY(cst_activation_tensor(M, &s->norm, n, d, "final norm"));
        CST_TRY(cst_activation_tensor(M, &s->stats, n, 2, "final stats"));
        CST_TRY(cst_layer_norm_forward(M->mem, s->norm, s->stats, s->last, gain, cst_model_w(M, CST_ROLE_FINAL_NORM_BIAS, 0),
                                       (float)M->config.layer_norm_eps));
        s->h = s->norm;
    }
    if (!out) return CST_OK;
    cst_tensor *in = s->h;
    s->h = NULL;
    CST_TRY(cst_activation_tensor(M, &s->h, n, e, "projected output"));
    return cst_linear_forward(M->mem, s->h, in, out, NULL);
}

static void ends_clear(ends *s)
{
    if (s->h != s->last && s->h != s->norm) cst_tensor_free(s->h);
    cst_tensor_free(s->e);
    cst_tensor_free(s->last);
    cst_tensor_free(s->norm);
    cst_tensor_free(s->stats);
    *s = (ends){NULL, NULL, NULL, NULL, NULL};
}

/* Forward through head_forward. layers: NULL, or room for every layer's input and, unless recomputing, what
 * its backward needs, of those layers that backward reaches. */
static cst_status forward(cst_model *M, ends *s, cst_layer *layers, const cst_batch *b, const cst_pass *p)
{
    cst_tensor *x = NULL, *y = NULL;
    cst_status st;
    if (!p->before) CST_TRY(cst_model_settled(M));
    else CST_TRY(p->before(p->user, -1));
    CST_GO(embed_forward(M, s, &x, b, p->kv), fail);
    if (!layers || !cst_model_g(M, CST_ROLE_PROJECT_IN, 0)) {
        cst_tensor_free(s->e);
        s->e = NULL;
    }
    for (int l = 0; l < M->config.num_hidden_layers; l++) {
        int keep = layers && l >= M->backward_from;
        if (p->before) CST_GO(p->before(p->user, l), fail);
        cst_layer own = {0}, *a = keep ? &layers[l] : &own;
        a->x = x;
        x = NULL;
        st = cst_layer_forward(M, l, a, &y, b, p, keep && l >= p->recompute);
        if (!keep) { /* layers[] is cleared by the caller; `own` goes with this turn */
            cst_layer_clear(a);
            cst_tensor_free(a->x);
        }
        if (st != CST_OK) goto fail;
        x = y;
        y = NULL;
    }
    s->last = x;
    return head_forward(M, s);
fail:
    cst_tensor_free(x);
    cst_tensor_free(y);
    return st;
}

/* From the gradient of h to that of the last layer's output, *d. */
static cst_status head_backward(cst_model *M, ends *s, cst_tensor **d, int accumulate)
{
    int64_t n = s->last->dim[0], dim = M->config.hidden_size;
    cst_tensor *out = cst_model_w(M, CST_ROLE_PROJECT_OUT, 0), *gain = cst_model_w(M, CST_ROLE_FINAL_NORM_WEIGHT, 0);
    if (out) {
        cst_tensor *dh = *d, *dw = cst_model_g(M, CST_ROLE_PROJECT_OUT, 0);
        if (dw) CST_TRY(cst_linear_backward_weight(M->mem, dw, dh, gain ? s->norm : s->last, accumulate));
        *d = NULL;
        cst_status st = cst_activation_tensor(M, d, n, dim, "gradient of the last layer");
        if (st == CST_OK) st = cst_linear_backward_input(M->mem, *d, dh, out, 0);
        cst_tensor_free(dh);
        CST_TRY(st);
    }
    if (!gain) return CST_OK;
    return cst_layer_norm_backward(M->mem, *d, cst_model_g(M, CST_ROLE_FINAL_NORM_WEIGHT, 0), cst_model_g(M, CST_ROLE_FINAL_NORM_BIAS, 0),
                                   *d, s->last, s->stats, gain, NULL, accumulate);
}

/* The head's product has been there before: the token table is added to in any case. */
static cst_status embed_backward(cst_model *M, ends *s, cst_tensor *d, const cst_batch *b, int accumulate)
{
    cst_tensor *in = cst_model_w(M, CST_ROLE_PROJECT_IN, 0), *de = d;
    cst_tensor *dtable = cst_model_g(M, CST_ROLE_EMBED_TOKENS, 0), *dpos = cst_model_g(M, CST_ROLE_EMBED_POSITIONS, 0);
    cst_tensor *din = cst_model_g(M, CST_ROLE_PROJECT_IN, 0);
    cst_status st;
    if (dpos) CST_TRY(cst_embed_backward_positions(M->mem, dpos, d, b->seq, POSITION_OFFSET, accumulate));
    if (din) CST_TRY(cst_linear_backward_weight(M->mem, din, d, s->e, accumulate));
    if (!dtable) return CST_OK;
    if (!in) return cst_embed_backward(M->mem, dtable, d, b->index, b->unique);
    CST_TRY(cst_activation_tensor(M, &de, d->dim[0], M->config.word_embed_proj_dim, "gradient of token embeddings"));
    CST_GO(cst_linear_backward_input(M->mem, de, d, in, 0), out);
    CST_GO(cst_embed_backward(M->mem, dtable, de, b->index, b->unique), out);
out:
    cst_tensor_free(de);
    return st;
}

static cst_status head_loss(cst_model *M, ends *s, const cst_batch *b, cst_tensor *loss, cst_tensor *dh, const cst_pass *p)
{
    cst_lm_loss_args a = {.h = s->h, .table = cst_model_w(M, CST_ROLE_EMBED_TOKENS, 0), .targets = b->targets, .loss = loss, .dh = dh,
                          .dtable = dh ? cst_model_g(M, CST_ROLE_EMBED_TOKENS, 0) : NULL, .scale = p->scale, .accumulate = p->accumulate};
    return cst_lm_loss(M->mem, &a);
}

cst_status cst_model_evaluate(cst_model *M, const cst_batch *b, cst_tensor *loss)
{
    ends s = {NULL, NULL, NULL, NULL, NULL};
    cst_pass p = {.recompute = 0};
    cst_status st;
    CST_GO(forward(M, &s, NULL, b, &p), out);
    CST_GO(head_loss(M, &s, b, loss, NULL, &p), out);
out:
    ends_clear(&s);
    return st;
}

cst_status cst_model_logits(cst_model *M, const cst_batch *b, cst_tensor *logits)
{
    ends s = {NULL, NULL, NULL, NULL, NULL};
    cst_pass p = {.recompute = 0};
    cst_status st;
    CST_GO(forward(M, &s, NULL, b, &p), out);
    CST_GO(cst_logits(M->mem, logits, s.h, 0, b->rows * b->seq, cst_model_w(M, CST_ROLE_EMBED_TOKENS, 0)), out);
out:
    ends_clear(&s);
    return st;
}

cst_status cst_model_next(cst_model *M, const cst_batch *b, int64_t at, cst_kv *kv, cst_tensor *logits)
{
    ends s = {NULL, NULL, NULL, NULL, NULL};
    cst_pass p = {.kv = kv};
    cst_status st;
    if (b->rows != 1 || (kv && kv->count && b->seq != 1))
        return cst_fail(CST_USAGE, "next token: %lld sequences of %lld tokens; one sequence is wanted, of one token behind others",
                        (long long)b->rows, (long long)b->seq);
    if (kv && b->seq > kv->room - kv->count)
        return cst_fail(CST_USAGE, "next token: keys and values of %lld tokens have no room for %lld behind %lld", (long long)kv->room,
                        (long long)b->seq, (long long)kv->count);
    CST_GO(forward(M, &s, NULL, b, &p), out);
    CST_GO(cst_logits(M->mem, logits, s.h, at, 1, cst_model_w(M, CST_ROLE_EMBED_TOKENS, 0)), out);
    if (kv) kv->count += b->seq;
out:
    ends_clear(&s);
    return st;
}

cst_status cst_model_train(cst_model *M, const cst_batch *b, const cst_pass *p, cst_tensor *loss)
{
    int64_t n = b->rows * b->seq;
    int layers = (int)M->config.num_hidden_layers;
    ends s = {NULL, NULL, NULL, NULL, NULL};
    cst_tensor *d = NULL, *again = NULL;
    cst_layer *act = calloc((size_t)layers, sizeof *act);
    if (!act) return cst_fail(CST_NO_MEMORY, "activations");
    cst_status st;
    CST_GO(forward(M, &s, act, b, p), out);
    CST_GO(cst_activation_tensor(M, &d, n, M->config.word_embed_proj_dim, "gradient of the head's input"), out);
    CST_GO(head_loss(M, &s, b, loss, d, p), out);
    CST_GO(head_backward(M, &s, &d, p->accumulate), out);
    cst_tensor *e = s.e;
    s.e = NULL;
    ends_clear(&s);
    s.e = e;
    for (int l = layers - 1; l >= M->backward_from; l--) {
        if (l < p->recompute) {
            CST_GO(cst_layer_forward(M, l, &act[l], &again, b, p, 1), out);
            cst_tensor_free(again);
            again = NULL;
        }
        CST_GO(cst_layer_backward(M, l, &act[l], &d, b, p), out);
        cst_tensor_free(act[l].x);
        act[l].x = NULL;
        if (p->complete) CST_GO(p->complete(p->user, l), out);
    }
    CST_GO(embed_backward(M, &s, d, b, p->accumulate), out);
    if (p->complete) CST_GO(p->complete(p->user, -1), out);
out:
    for (int l = 0; l < layers; l++) {
        cst_layer_clear(&act[l]);
        cst_tensor_free(act[l].x);
    }
    free(act);
    cst_tensor_free(again);
    cst_tensor_free(d);
    ends_clear(&s);
    return st;
}
