#include "optim/host.h"

#include <stdlib.h>
#include <string.h>

struct cst_host_optim {
    cst_model *model;
    const unsigned char *chosen; /* [params] */
    float *w, *m1, *m2;          /* all trained parameters, one after the other */
    size_t *at;                  /* [params] each one's first element in these */
    float *g;                    /* gradients that came down, as w */
    cl_event *fetched, *sent;    /* [params] its gradient's download, its weight's upload */
};

/* Elements of parameter i whose state is here. */
static size_t ours(const cst_host_optim *h, int i)
{
    return h->model->g[i] && h->chosen[i] ? (size_t)h->model->param[i].count : 0;
}

cst_status cst_host_optim_create(cst_host_optim **out, cst_model *M, const unsigned char *chosen)
{
    cst_host_optim *h = calloc(1, sizeof *h);
    size_t n = 0;
    cst_status st;
    if (!h) return cst_fail(CST_NO_MEMORY, "optimizer");
    h->model = M;
    h->chosen = chosen;
    h->at = calloc((size_t)M->params, sizeof *h->at);
    h->fetched = calloc((size_t)M->params, sizeof *h->fetched);
    h->sent = calloc((size_t)M->params, sizeof *h->sent);
    if (!h->at || !h->fetched || !h->sent) CST_GO(cst_fail(CST_NO_MEMORY, "optimizer"), fail);
    for (int i = 0; i < M->params; n += ours(h, i++)) h->at[i] = n;
    float **arrays[] = {&h->w, &h->m1, &h->m2, &h->g};
    for (int i = 0; i < 4; i++) CST_GO(cst_host_alloc((void **)arrays[i], M->mem, n * sizeof(float)), fail);
    for (int i = 0; i < M->params; i++)
        if (ours(h, i)) CST_GO(cst_tensor_read(M->w[i], 0, h->w + h->at[i], M->w[i]->bytes), fail);
    *out = h;
    return CST_OK;
fail:
    cst_host_optim_free(h);
    return st;
}

void cst_host_optim_free(cst_host_optim *h)
{
    if (!h) return;
    cst_mem *m = h->model->mem;
    for (int i = 0; h->fetched && i < h->model->params; i++) cst_mem_wait(&h->fetched[i]);
    for (int i = 0; h->sent && i < h->model->params; i++) cst_mem_wait(&h->sent[i]);
    cst_host_free(m, h->g);
    cst_host_free(m, h->w);
    cst_host_free(m, h->m1);
    cst_host_free(m, h->m2);
    free(h->at);
    free(h->fetched);
    free(h->sent);
    free(h);
}

float *cst_host_optim_moment(cst_host_optim *h, int which, int param)
{
    return (which ? h->m2 : h->m1) + h->at[param];
}

cst_status cst_host_optim_fetch(cst_host_optim *h, int param)
{
    cst_tensor *g = h->model->g[param];
    CST_TRY(cst_mem_wait(&h->fetched[param]));
    return cst_tensor_read_async(g, 0, h->g + h->at[param], g->bytes, &h->fetched[param]);
}

cst_status cst_host_optim_update(cst_host_optim *h, int param, float coefficient, const cst_adamw_step *step, int *updated)
{
    cst_tensor *t = h->model->w[param];
    size_t at = h->at[param], n = ours(h, param);
    void *room;
    *updated = 0;
    CST_TRY(cst_mem_wait(&h->fetched[param]));
    CST_TRY(cst_mem_wait(&h->sent[param])); /* the upload before reads what is changed now */
    CST_TRY(cst_tensor_host_room(t, &room));
    if (step) cst_adamw_host(h->w + at, h->g + at, h->m1 + at, h->m2 + at, room, n, coefficient, step);
    else if (room) memcpy(room, h->w + at, n * sizeof(float));
    *updated = 1;
    return room ? cst_tensor_host_renewed(t) : cst_tensor_write_async(t, 0, h->w + at, n * sizeof(float), &h->sent[param]);
}
