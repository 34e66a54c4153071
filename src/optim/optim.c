#include "optim/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "op/adamw.h"
#include "op/fill.h"
#include "op/grad_norm.h"
#include "optim/host.h"

struct cst_optim {
    cst_model *model;
    cst_optim_options opt;
    cst_tensor **m1, **m2;        /* [params] on the device, NULL of frozen parameters; or NULL */
    cst_host_optim *host;         /* state on the host, or NULL */
    cst_tensor *partial, *norm;   /* partial sums of squares of all gradients; result */
    int64_t partials;
};

cst_tensor *cst_optim_norm(const cst_optim *o)
{
    return o->norm;
}

static cst_status make_moments(cst_optim *o)
{
    cst_model *M = o->model;
    o->m1 = calloc((size_t)M->params, sizeof *o->m1);
    o->m2 = calloc((size_t)M->params, sizeof *o->m2);
    if (!o->m1 || !o->m2) return cst_fail(CST_NO_MEMORY, "optimizer");
    for (int i = 0; i < M->params; i++) {
        const cst_param *p = &M->param[i];
        if (!M->g[i]) continue;
        CST_TRY(cst_tensor_create(&o->m1[i], M->mem, CST_OPTIM, CST_F32, p->rank, p->dims, "moment 1 of %.80s", p->name));
        CST_TRY(cst_tensor_create(&o->m2[i], M->mem, CST_OPTIM, CST_F32, p->rank, p->dims, "moment 2 of %.80s", p->name));
        CST_TRY(cst_tensor_place(o->m1[i]));
        CST_TRY(cst_tensor_place(o->m2[i]));
    }
    return CST_OK;
}

cst_status cst_optim_create(cst_optim **out, cst_model *M, const cst_optim_options *opt)
{
    cst_optim *o = calloc(1, sizeof *o);
    cst_status st;
    if (!o) return cst_fail(CST_NO_MEMORY, "optimizer");
    o->model = M;
    o->opt = *opt;
    for (int i = 0; i < M->params; i++)
        if (M->g[i]) o->partials += cst_grad_norm_blocks(M->param[i].count);
    CST_GO(cst_tensor_create(&o->partial, M->mem, CST_OPTIM, CST_F32, 1, &o->partials, "sums of squares"), fail);
    CST_GO(cst_tensor_create(&o->norm, M->mem, CST_OPTIM, CST_F32, 1, (int64_t[]){4}, "gradient norm"), fail);
    CST_GO(cst_tensor_place(o->partial), fail);
    CST_GO(cst_tensor_place(o->norm), fail);
    if (!opt->on_host) CST_GO(make_moments(o), fail);
    *out = o;
    return CST_OK;
fail:
    cst_optim_free(o);
    return st;
}

void cst_optim_free(cst_optim *o)
{
    if (!o) return;
    for (int i = 0; i < o->model->params; i++) {
        if (o->m1) cst_tensor_free(o->m1[i]);
        if (o->m2) cst_tensor_free(o->m2[i]);
    }
    free(o->m1);
    free(o->m2);
    cst_host_optim_free(o->host);
    cst_tensor_free(o->partial);
    cst_tensor_free(o->norm);
    free(o);
}

cst_status cst_optim_start(cst_optim *o)
{
    cst_model *M = o->model;
    if (o->opt.on_host) return cst_host_optim_create(&o->host, M);
    for (int i = 0; i < M->params; i++) {
        if (!M->g[i]) continue;
        CST_TRY(cst_fill(M->mem, o->m1[i], 0));
        CST_TRY(cst_fill(M->mem, o->m2[i], 0));
    }
    return CST_OK;
}

cst_status cst_optim_read(cst_optim *o, int which, int param, size_t first, float *dst, size_t count)
{
    if (!o->opt.on_host) return cst_tensor_read((which ? o->m2 : o->m1)[param], first * sizeof *dst, dst, count * sizeof *dst);
    memcpy(dst, cst_host_optim_moment(o->host, which, param) + first, count * sizeof *dst);
    return CST_OK;
}

cst_status cst_optim_write(cst_optim *o, int which, int param, size_t first, const float *src, size_t count)
{
    if (!o->opt.on_host) return cst_tensor_write((which ? o->m2 : o->m1)[param], first * sizeof *src, src, count * sizeof *src);
    memcpy(cst_host_optim_moment(o->host, which, param) + first, src, count * sizeof *src);
    return CST_OK;
}

static cst_status compute_norm(cst_optim *o)
{
    cst_model *M = o->model;
    int64_t at = 0;
    for (int i = 0; i < M->params; i++) {
        if (!M->g[i]) continue;
        CST_TRY(cst_grad_norm_partial(M->mem, o->partial, at, M->g[i]));
        at += cst_grad_norm_blocks(M->param[i].count);
    }
    return cst_grad_norm_finish(M->mem, o->norm, o->partial, o->partials, (float)o->opt.clip);
}

cst_status cst_optim_step(cst_optim *o, double lr, int64_t t)
{
    cst_model *M = o->model;
    cst_adamw_step s = {.lr = lr, .beta1 = o->opt.beta1, .beta2 = o->opt.beta2, .eps = o->opt.eps,
                        .bias1 = 1 - pow(o->opt.beta1, (double)t), .bias2 = 1 - pow(o->opt.beta2, (double)t)};
    CST_TRY(compute_norm(o));
    if (o->opt.on_host) {
        float result[4] = {0, 0, 0, 0};
        if (cst_mem_planning(M->mem)) return CST_OK;
        CST_TRY(cst_tensor_read(o->norm, 0, result, sizeof result));
        if (result[2] == 0) return CST_OK;
        return cst_host_optim_step(o->host, result[1], &s, o->opt.weight_decay);
    }
    for (int i = 0; i < M->params; i++) {
        if (!M->g[i]) continue;
        s.weight_decay = M->param[i].decay ? o->opt.weight_decay : 0;
        CST_TRY(cst_adamw(M->mem, M->w[i], M->g[i], o->m1[i], o->m2[i], o->norm, &s));
    }
    return CST_OK;
}
