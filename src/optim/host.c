#include "optim/host.h"

#include <stdlib.h>
#include <string.h>

#define PIECE ((size_t)4 << 20)  /* elements of the largest piece: 16 MiB */
#define SLOTS 4                  /* pieces whose gradients are on their way at once */

/* A piece of one parameter. */
typedef struct piece {
    int param;
    size_t first, count;         /* elements within the parameter */
    size_t at;                   /* elements into the host arrays */
    cl_event sent;               /* its last upload */
} piece;

struct cst_host_optim {
    cst_model *model;
    const unsigned char *chosen; /* [params] */
    float *w, *m1, *m2;          /* all trained parameters, one after the other */
    size_t *at;                  /* [params] each one's first element in these */
    float *slot[SLOTS];          /* gradients that came down */
    cl_event came[SLOTS];
    piece *list;
    size_t pieces;
    float *g;                    /* each apart: gradients, as w */
    cl_event *fetched;           /* [params] */
};

/* Elements of parameter i whose state is here. */
static size_t ours(const cst_host_optim *h, int i)
{
    return h->model->g[i] && h->chosen[i] ? (size_t)h->model->param[i].count : 0;
}

static cst_status cut(cst_host_optim *h)
{
    cst_model *M = h->model;
    size_t n = 0, at = 0;
    for (int i = 0; i < M->params; i++) n += (ours(h, i) + PIECE - 1) / PIECE;
    h->list = calloc(n, sizeof *h->list);
    if (!h->list) return cst_fail(CST_NO_MEMORY, "optimizer");
    for (int i = 0; i < M->params; i++) {
        size_t count = ours(h, i);
        for (size_t first = 0; first < count; first += PIECE) {
            size_t c = count - first < PIECE ? count - first : PIECE;
            h->list[h->pieces++] = (piece){i, first, c, at + first, NULL};
        }
        at += count;
    }
    return CST_OK;
}

static cst_status make_slots(cst_host_optim *h, size_t n)
{
    for (int i = 0; i < SLOTS; i++)
        CST_TRY(cst_host_alloc((void **)&h->slot[i], h->model->mem, (n < PIECE ? n : PIECE) * sizeof(float)));
    return cut(h);
}

cst_status cst_host_optim_create(cst_host_optim **out, cst_model *M, const unsigned char *chosen, int each_apart)
{
    cst_host_optim *h = calloc(1, sizeof *h);
    size_t n = 0;
    cst_status st;
    if (!h) return cst_fail(CST_NO_MEMORY, "optimizer");
    h->model = M;
    h->chosen = chosen;
    h->at = calloc((size_t)M->params, sizeof *h->at);
    h->fetched = calloc((size_t)M->params, sizeof *h->fetched);
    if (!h->at || !h->fetched) CST_GO(cst_fail(CST_NO_MEMORY, "optimizer"), fail);
    for (int i = 0; i < M->params; n += ours(h, i++)) h->at[i] = n;
    float **arrays[] = {&h->w, &h->m1, &h->m2, &h->g};
    for (int i = 0; i < 3 + each_apart; i++) CST_GO(cst_host_alloc((void **)arrays[i], M->mem, n * sizeof(float)), fail);
    if (!each_apart) CST_GO(make_slots(h, n), fail);
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
    for (size_t i = 0; i < h->pieces; i++) cst_mem_wait(&h->list[i].sent);
    for (int i = 0; i < SLOTS; i++) {
        cst_mem_wait(&h->came[i]);
        cst_host_free(m, h->slot[i]);
    }
    for (int i = 0; h->fetched && i < h->model->params; i++) cst_mem_wait(&h->fetched[i]);
    cst_host_free(m, h->g);
    cst_host_free(m, h->w);
    cst_host_free(m, h->m1);
    cst_host_free(m, h->m2);
    free(h->list);
    free(h->at);
    free(h->fetched);
    free(h);
}

float *cst_host_optim_moment(cst_host_optim *h, int which, int param)
{
    return (which ? h->m2 : h->m1) + h->at[param];
}

static cst_status fetch(cst_host_optim *h, size_t i)
{
    const piece *p = &h->list[i];
    return cst_tensor_read_async(h->model->g[p->param], p->first * sizeof(float), h->slot[i % SLOTS], p->count * sizeof(float),
                                 &h->came[i % SLOTS]);
}

cst_status cst_host_optim_step(cst_host_optim *h, const float *result, const int *which, const cst_adamw_step *step, double weight_decay)
{
    cst_model *M = h->model;
    cst_adamw_step s = *step;
    for (size_t i = 0; i < SLOTS - 1 && i < h->pieces; i++) CST_TRY(fetch(h, i));
    for (size_t i = 0; i < h->pieces; i++) {
        piece *p = &h->list[i];
        if (i + SLOTS - 1 < h->pieces) CST_TRY(fetch(h, i + SLOTS - 1)); /* its slot was used up in the last turn */
        CST_TRY(cst_mem_wait(&p->sent)); /* the upload of the step before reads what is changed now */
        CST_TRY(cst_mem_wait(&h->came[i % SLOTS]));
        const float *r = result + 4 * which[p->param];
        if (r[2] == 0) continue;
        s.weight_decay = M->param[p->param].decay ? weight_decay : 0;
        cst_adamw_host(h->w + p->at, h->slot[i % SLOTS], h->m1 + p->at, h->m2 + p->at, NULL, p->count, r[1], &s);
        CST_TRY(cst_tensor_write_async(M->w[p->param], p->first * sizeof(float), h->w + p->at, p->count * sizeof(float), &p->sent));
    }
    return CST_OK;
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
    CST_TRY(cst_tensor_host_room(t, &room));
    if (step) cst_adamw_host(h->w + at, h->g + at, h->m1 + at, h->m2 + at, room, n, coefficient, step);
    else if (room) memcpy(room, h->w + at, n * sizeof(float));
    *updated = 1;
    return room ? cst_tensor_host_renewed(t) : cst_tensor_write(t, 0, h->w + at, n * sizeof(float));
}
