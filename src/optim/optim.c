#include "optim/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "op/adamw.h"
#include "op/fill.h"
#include "op/grad_norm.h"
#include "optim/host.h"

#define PIECE ((int64_t)4 << 20) /* elements whose moments are tensors of their own, so that they can come and go */

/* Moments of a part of a parameter. */
typedef struct piece {
    int param;
    int64_t first;                /* element of the parameter */
    cst_tensor *m[2];
    int behind;                   /* its update is still to come */
} piece;

struct cst_optim {
    cst_model *model;
    cst_optim_options opt;
    piece *list;                  /* state on the device, by parameter; none of frozen ones */
    int pieces;
    cst_adamw_step step, next;    /* the last one and the one that has begun, but for weight_decay */
    int torn;                     /* a part of the weights has been updated in backward */
    unsigned char *layer_done;    /* [layers] of this step, without clipping */
    cst_host_optim *host;         /* the rest's state, or NULL */
    unsigned char *on_host;       /* [params] */
    int *turn;                    /* [params] the host updates it before this layer, -1: the first thing, where clipping lets it wait */
    unsigned char *host_behind;   /* [params] 1: its update is still to come, 2: sending it */
    float *result;                /* `norm` as it comes down for the host, four values a result */
    cl_event *came;               /* [results] */
    int results;
    cst_tensor *partial, *norm;   /* partial sums of squares of all gradients; four values a result, see `which` */
    int *which;                   /* [params] the result that tells whether it may be updated: 0 is of all gradients, 1 + layer of a layer's */
    int64_t partials;
    int64_t *partial_at;          /* [params] each one's first */
    unsigned char *summed;        /* [params] of this step */
};

cst_tensor *cst_optim_norm(const cst_optim *o)
{
    return o->norm;
}

int cst_optim_on_host(const cst_optim *o, int param)
{
    return o->on_host[param];
}

int cst_optim_turn(const cst_optim *o, int param)
{
    return o->turn[param];
}

/* Without clipping no update waits for the norm of all gradients. */
static int at_once(const cst_optim *o)
{
    return o->opt.clip <= 0;
}

static cst_status make_moments(cst_optim *o)
{
    cst_model *M = o->model;
    int64_t n = 0;
    for (int i = 0; i < M->params; i++)
        if (M->g[i] && !o->on_host[i]) n += (M->param[i].count + PIECE - 1) / PIECE;
    o->list = calloc((size_t)n + 1, sizeof *o->list);
    if (!o->list) return cst_fail(CST_NO_MEMORY, "optimizer");
    for (int i = 0; i < M->params; i++)
        for (int64_t first = 0; M->g[i] && !o->on_host[i] && first < M->param[i].count; first += PIECE) {
            const cst_param *p = &M->param[i];
            int64_t count = p->count - first < PIECE ? p->count - first : PIECE;
            piece *x = &o->list[o->pieces++];
            *x = (piece){i, first, {NULL, NULL}, 0};
            for (int k = 0; k < 2; k++) {
                CST_TRY(cst_tensor_create(&x->m[k], M->mem, CST_OPTIM, CST_F32, 1, &count, "moment %d of %.70s", k + 1, p->name));
                CST_TRY(cst_tensor_place(x->m[k]));
            }
        }
    return CST_OK;
}

static cst_status choose_sides(cst_optim *o)
{
    const cst_model *M = o->model;
    int64_t first = M->config.num_hidden_layers - o->opt.host_layers;
    o->on_host = calloc((size_t)M->params + 1, 1);
    o->host_behind = calloc((size_t)M->params + 1, 1);
    if (!o->on_host || !o->host_behind) return cst_fail(CST_NO_MEMORY, "optimizer");
    for (int i = 0; i < M->params; i++)
        o->on_host[i] = !o->opt.host_layers ? cst_model_among_first(M, i, o->opt.host_share)
                                            : M->g[i] && M->param[i].rank == 2 && M->param[i].layer >= first && M->param[i].layer >= 0;
    return CST_OK;
}

/* In even parts over the forward pass, in order of layers, and CST_OPTIM_AHEAD layers before they are used at the latest. */
static cst_status set_turns(cst_optim *o)
{
    const cst_model *M = o->model;
    double all = 0, before = 0;
    o->turn = calloc((size_t)M->params + 1, sizeof *o->turn);
    if (!o->turn) return cst_fail(CST_NO_MEMORY, "optimizer");
    for (int i = 0; i < M->params; i++) all += o->on_host[i] ? (double)M->param[i].count : 0;
    for (int i = 0; i < M->params; i++) {
        if (!o->on_host[i]) continue;
        int even = (int)(before / all * (double)M->config.num_hidden_layers), layer = M->param[i].layer;
        o->turn[i] = (even < layer ? even : layer) - CST_OPTIM_AHEAD;
        if (o->turn[i] < -1) o->turn[i] = -1;
        before += (double)M->param[i].count;
    }
    return CST_OK;
}

cst_status cst_optim_create(cst_optim **out, cst_model *M, const cst_optim_options *opt)
{
    cst_optim *o = calloc(1, sizeof *o);
    int results = opt->clip > 0 ? 1 : 1 + (int)M->config.num_hidden_layers;
    int64_t values = 4 * results;
    cst_status st;
    if (!o) return cst_fail(CST_NO_MEMORY, "optimizer");
    o->model = M;
    o->opt = *opt;
    o->partial_at = calloc((size_t)M->params, sizeof *o->partial_at);
    o->summed = calloc((size_t)M->params, 1);
    o->which = calloc((size_t)M->params, sizeof *o->which);
    o->result = calloc((size_t)values, sizeof *o->result);
    o->came = calloc((size_t)results, sizeof *o->came);
    o->layer_done = calloc((size_t)M->config.num_hidden_layers, 1);
    if (!o->partial_at || !o->summed || !o->which || !o->result || !o->came || !o->layer_done) CST_GO(cst_fail(CST_NO_MEMORY, "optimizer"), fail);
    o->results = results;
    for (int i = 0; i < M->params; i++) {
        o->partial_at[i] = o->partials;
        o->which[i] = at_once(o) ? 1 + M->param[i].layer : 0; /* the two ends come last */
        if (M->g[i]) o->partials += cst_grad_norm_blocks(M->param[i].count);
    }
    CST_GO(cst_tensor_create(&o->partial, M->mem, CST_OPTIM, CST_F32, 1, &o->partials, "sums of squares"), fail);
    CST_GO(cst_tensor_create(&o->norm, M->mem, CST_OPTIM, CST_F32, 1, &values, "gradient norm"), fail);
    cst_tensor_fix(o->partial);
    cst_tensor_fix(o->norm);
    CST_GO(cst_tensor_place(o->partial), fail);
    CST_GO(cst_tensor_place(o->norm), fail);
    CST_GO(choose_sides(o), fail);
    CST_GO(set_turns(o), fail);
    CST_GO(make_moments(o), fail);
    *out = o;
    return CST_OK;
fail:
    cst_optim_free(o);
    return st;
}

void cst_optim_free(cst_optim *o)
{
    if (!o) return;
    for (int i = 0; i < o->pieces; i++)
        for (int k = 0; k < 2; k++) cst_tensor_free(o->list[i].m[k]);
    free(o->list);
    for (int r = 0; r < o->results; r++) cst_mem_wait(&o->came[r]);
    free(o->came);
    free(o->on_host);
    free(o->turn);
    free(o->host_behind);
    free(o->partial_at);
    free(o->summed);
    free(o->which);
    free(o->layer_done);
    free(o->result);
    cst_host_optim_free(o->host);
    cst_tensor_free(o->partial);
    cst_tensor_free(o->norm);
    free(o);
}

/* All updates are still to come, or none. */
static void set_behind(cst_optim *o, int behind)
{
    o->model->behind = behind ? o->pieces : 0;
    for (int i = 0; i < o->pieces; i++) o->list[i].behind = behind;
    for (int i = 0; i < o->model->params; i++) {
        o->host_behind[i] = behind && o->on_host[i];
        o->model->behind += o->host_behind[i];
        if (!at_once(o) || !behind) cst_tensor_host_renews(o->model->w[i], o->host_behind[i]);
    }
}

static cst_status whole(const cst_optim *o)
{
    if (!o->torn) return CST_OK;
    return cst_fail(CST_STATE, "a step failed in its backward pass, where a part of the weights was updated: go on from a checkpoint");
}

/* Nothing of the step is done. */
static void begin_anew(cst_optim *o)
{
    memset(o->summed, 0, (size_t)o->model->params);
    memset(o->layer_done, 0, (size_t)o->model->config.num_hidden_layers);
}

cst_status cst_optim_start(cst_optim *o)
{
    cst_model *M = o->model;
    cst_host_optim_free(o->host);
    o->host = NULL;
    if (o->opt.host_share > 0 || o->opt.host_layers) CST_TRY(cst_host_optim_create(&o->host, M, o->on_host));
    for (int i = 0; i < o->pieces; i++)
        for (int k = 0; k < 2; k++) CST_TRY(cst_fill(M->mem, o->list[i].m[k], 0));
    begin_anew(o);
    o->torn = 0;
    set_behind(o, 0);
    return CST_OK;
}

/* What [first, first + count) of a parameter has in common with a piece: *at elements into the range, *from into the piece. */
static int64_t common(const piece *x, int param, int64_t first, int64_t count, int64_t *at, int64_t *from)
{
    int64_t size = cst_tensor_count(x->m[0]), begin = first > x->first ? first : x->first, end = first + count;
    if (end > x->first + size) end = x->first + size;
    *at = begin - first;
    *from = begin - x->first;
    return x->param == param && end > begin ? end - begin : 0;
}

cst_status cst_optim_read(cst_optim *o, int which, int param, size_t first, float *dst, size_t count)
{
    CST_TRY(cst_optim_settle(o));
    if (o->on_host[param]) memcpy(dst, cst_host_optim_moment(o->host, which, param) + first, count * sizeof *dst);
    for (int i = 0; i < o->pieces; i++) {
        int64_t at, from, n = common(&o->list[i], param, (int64_t)first, (int64_t)count, &at, &from);
        if (n) CST_TRY(cst_tensor_read(o->list[i].m[which], (size_t)from * sizeof *dst, dst + at, (size_t)n * sizeof *dst));
    }
    return CST_OK;
}

cst_status cst_optim_write(cst_optim *o, int which, int param, size_t first, const float *src, size_t count)
{
    CST_TRY(cst_optim_settle(o));
    if (o->on_host[param]) memcpy(cst_host_optim_moment(o->host, which, param) + first, src, count * sizeof *src);
    for (int i = 0; i < o->pieces; i++) {
        int64_t at, from, n = common(&o->list[i], param, (int64_t)first, (int64_t)count, &at, &from);
        if (n) CST_TRY(cst_tensor_write(o->list[i].m[which], (size_t)from * sizeof *src, src + at, (size_t)n * sizeof *src));
    }
    return CST_OK;
}

static cst_status sum_squares(cst_optim *o, int param)
{
    cst_model *M = o->model;
    if (!M->g[param] || o->summed[param]) return CST_OK;
    CST_TRY(cst_grad_norm_partial(M->mem, o->partial, o->partial_at[param], M->g[param]));
    if (o->host && o->on_host[param]) CST_TRY(cst_host_optim_fetch(o->host, param));
    o->summed[param] = 1;
    return CST_OK;
}

static cst_status compute_norm(cst_optim *o)
{
    cst_model *M = o->model;
    for (int i = 0; i < M->params; i++) CST_TRY(sum_squares(o, i));
    return cst_grad_norm_finish(M->mem, o->norm, 0, o->partial, 0, o->partials, (float)o->opt.clip);
}

static cst_status update(cst_optim *o, piece *x)
{
    cst_model *M = o->model;
    int i = x->param;
    cst_adamw_step s = o->step;
    s.weight_decay = M->param[i].decay ? o->opt.weight_decay : 0;
    CST_TRY(cst_adamw(M->mem, M->w[i], M->g[i], x->first, x->m[0], x->m[1], o->norm, o->which[i], x->behind ? &s : NULL));
    M->behind -= x->behind;
    x->behind = 0;
    return CST_OK;
}

/* From here on the step can't be begun anew, where updates are done at once. */
static void begin_updates(cst_optim *o)
{
    o->step = o->next;
    if (!at_once(o) || o->torn) return;
    set_behind(o, 1);
    o->torn = 1;
}

/* The host's updates go by this result. */
static cst_status fetch_result(cst_optim *o, int which)
{
    if (!o->host) return CST_OK;
    CST_TRY(cst_mem_wait(&o->came[which]));
    return cst_tensor_read_async(o->norm, 4 * (size_t)which * sizeof(float), o->result + 4 * which, 4 * sizeof(float), &o->came[which]);
}

/* What is still to come of a layer's updates, whose partial sums are there. */
static cst_status update_layer(cst_optim *o, int layer)
{
    const cst_model *M = o->model;
    int first = cst_param_id(&M->config, CST_ROLE_LAYER_FIRST, layer), end = first + CST_ROLES_PER_LAYER;
    int64_t at = o->partial_at[first], n = (end < M->params ? o->partial_at[end] : o->partials) - at;
    if (!n || o->layer_done[layer]) return CST_OK;
    begin_updates(o);
    CST_TRY(cst_grad_norm_finish(M->mem, o->norm, 1 + layer, o->partial, at, n, 0));
    for (int i = 0; i < o->pieces; i++)
        if (o->list[i].behind && M->param[o->list[i].param].layer == layer) CST_TRY(update(o, &o->list[i]));
    CST_TRY(fetch_result(o, 1 + layer));
    for (int i = first; i < end; i++) cst_tensor_host_renews(M->w[i], o->host_behind[i] != 0);
    o->layer_done[layer] = 1;
    return CST_OK;
}

/* A parameter whose state is on the host. */
static cst_status update_apart(cst_optim *o, int param)
{
    cst_model *M = o->model;
    cst_adamw_step s = o->step;
    int updated = 1;
    cst_status st = CST_OK;
    if (!o->host_behind[param]) return CST_OK;
    CST_TRY(cst_mem_wait(&o->came[o->which[param]]));
    s.weight_decay = M->param[param].decay ? o->opt.weight_decay : 0;
    const float *result = o->result + 4 * o->which[param];
    int finite = result[2] != 0, send = o->host_behind[param] == 2;
    if (o->host && (finite || send)) st = cst_host_optim_update(o->host, param, result[1], send ? NULL : &s, &updated);
    if (updated) o->host_behind[param] = 2;
    CST_TRY(st);
    cst_tensor_host_renews(M->w[param], 0);
    o->host_behind[param] = 0;
    M->behind--;
    return CST_OK;
}

cst_status cst_optim_complete(void *optim, int layer)
{
    cst_optim *o = optim;
    const cst_param *p = o->model->param;
    for (int i = 0; i < o->model->params; i++)
        if (p[i].layer == layer) CST_TRY(sum_squares(o, i));
    if (!at_once(o) || layer < 0) return CST_OK;
    CST_TRY(update_layer(o, layer));
    for (int i = 0; i < o->model->params; i++) /* while the device computes what is enqueued */
        if (p[i].layer == layer + CST_OPTIM_AHEAD) CST_TRY(update_apart(o, i));
    return CST_OK;
}

cst_status cst_optim_before(void *optim, int layer)
{
    cst_optim *o = optim;
    const cst_param *p = o->model->param;
    if (layer < 0) begin_anew(o); /* perhaps a step that was begun before */
    for (int i = 0; i < o->pieces && !at_once(o); i++)
        if (p[o->list[i].param].layer == layer) CST_TRY(update(o, &o->list[i]));
    for (int i = 0; i < o->model->params; i++)
        if (o->turn[i] <= layer) CST_TRY(update_apart(o, i));
    return CST_OK;
}

cst_status cst_optim_settle(cst_optim *o)
{
    CST_TRY(whole(o));
    for (int i = 0; i < o->pieces; i++)
        if (o->list[i].behind) CST_TRY(update(o, &o->list[i]));
    for (int i = 0; i < o->model->params; i++) CST_TRY(update_apart(o, i));
    return CST_OK;
}

cst_status cst_optim_begin(cst_optim *o, double lr, int64_t t)
{
    CST_TRY(whole(o));
    o->next = (cst_adamw_step){.lr = lr, .beta1 = o->opt.beta1, .beta2 = o->opt.beta2, .eps = o->opt.eps,
                               .bias1 = 1 - pow(o->opt.beta1, (double)t), .bias2 = 1 - pow(o->opt.beta2, (double)t)};
    return CST_OK;
}

cst_status cst_optim_step(cst_optim *o)
{
    CST_TRY(compute_norm(o));
    begin_updates(o);
    for (int l = 0; l < o->model->config.num_hidden_layers && at_once(o); l++) CST_TRY(update_layer(o, l));
    CST_TRY(fetch_result(o, 0));
    if (!at_once(o)) set_behind(o, 1);
    for (int i = 0; i < o->pieces && at_once(o); i++)
        if (o->list[i].behind) CST_TRY(update(o, &o->list[i]));
    CST_TRY(cst_mem_step_end(o->model->mem));
    begin_anew(o);
    o->torn = 0;
    return CST_OK;
}
