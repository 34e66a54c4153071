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
    float *slot[SLOTS];          /* gradients that came down */
    cl_event came[SLOTS];
    piece *list;
    size_t pieces;
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

cst_status cst_host_optim_create(cst_host_optim **out, cst_model *M, const unsigned char *chosen)
{
    cst_host_optim *h = calloc(1, sizeof *h);
    size_t n = 0, at = 0;
    cst_status st;
    if (!h) return cst_fail(CST_NO_MEMORY, "optimizer");
    h->model = M;
    h->chosen = chosen;
    for (int i = 0; i < M->params; i++) n += ours(h, i);
    float **arrays[] = {&h->w, &h->m1, &h->m2};
    for (int i = 0; i < 3; i++) CST_GO(cst_host_alloc((void **)arrays[i], M->mem, n * sizeof(float)), fail);
    for (int i = 0; i < SLOTS; i++) CST_GO(cst_host_alloc((void **)&h->slot[i], M->mem, (n < PIECE ? n : PIECE) * sizeof(float)), fail);
    CST_GO(cut(h), fail);
    for (int i = 0; i < M->params; i++) {
        if (!ours(h, i)) continue;
        CST_GO(cst_tensor_read(M->w[i], 0, h->w + at, M->w[i]->bytes), fail);
        at += ours(h, i);
    }
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
    cst_host_free(m, h->w);
    cst_host_free(m, h->m1);
    cst_host_free(m, h->m2);
    free(h->list);
    free(h);
}

float *cst_host_optim_moment(cst_host_optim *h, int which, int param)
{
    size_t at = 0;
    for (int i = 0; i < param; i++) at += ours(h, i);
    return (which ? h->m2 : h->m1) + at;
}

static cst_status fetch(cst_host_optim *h, size_t i)
{
    const piece *p = &h->list[i];
    return cst_tensor_read_async(h->model->g[p->param], p->first * sizeof(float), h->slot[i % SLOTS], p->count * sizeof(float),
                                 &h->came[i % SLOTS]);
}

cst_status cst_host_optim_step(cst_host_optim *h, float coefficient, const cst_adamw_step *step, double weight_decay)
{
    cst_model *M = h->model;
    cst_adamw_step s = *step;
    for (size_t i = 0; i < SLOTS - 1 && i < h->pieces; i++) CST_TRY(fetch(h, i));
    for (size_t i = 0; i < h->pieces; i++) {
        piece *p = &h->list[i];
        if (i + SLOTS - 1 < h->pieces) CST_TRY(fetch(h, i + SLOTS - 1)); /* its slot was used up in the last turn */
        CST_TRY(cst_mem_wait(&p->sent)); /* the upload of the step before reads what is changed now */
        CST_TRY(cst_mem_wait(&h->came[i % SLOTS]));
        s.weight_decay = M->param[p->param].decay ? weight_decay : 0;
        cst_adamw_host(h->w + p->at, h->slot[i % SLOTS], h->m1 + p->at, h->m2 + p->at, p->count, coefficient, &s);
        CST_TRY(cst_tensor_write_async(M->w[p->param], p->first * sizeof(float), h->w + p->at, p->count * sizeof(float), &p->sent));
    }
    return CST_OK;
}
