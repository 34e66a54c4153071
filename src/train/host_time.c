#include "train/host_time.h"

#include <stdlib.h>
#include <string.h>

/* The moment that uses this tensor first or last; -1: none does. */
static int use_of(const cst_trace *t, int tensor, int last)
{
    int at = -1;
    for (int k = 0; k < t->moments && (at < 0 || last); k++)
        for (int u = t->moment[k].first; u < t->moment[k].first + t->moment[k].uses; u++)
            if (t->use[u].tensor == tensor && !t->use[u].held) at = k;
    return at;
}

/* -1: there is none of this name, or it is a part of a chunk. */
static int id_of(const cst_trace *t, const cst_tensor *x)
{
    int i = 0;
    while (i < t->tensors && strcmp(t->tensor[i].name, x->name)) i++;
    return i < t->tensors ? i : -1;
}

/* The moment with which a layer begins in the forward pass; 0: the iteration's. */
static int layer_begins(const cst_session *s, const cst_trace *t, int layer)
{
    if (layer < 0) return 0;
    int at = use_of(t, id_of(t, s->model->w[cst_param_id(&s->model->config, CST_ROLE_LAYER_FIRST, layer)]), 0);
    return at < 0 ? 0 : at;
}

/* ends[layer]: the moment after which a layer's gradients aren't used any more: it is updated. */
static void find_ends(int *ends, const cst_session *s, const cst_trace *t)
{
    const cst_model *M = s->model;
    for (int layer = 0; layer < M->config.num_hidden_layers; layer++) ends[layer] = -1;
    for (int i = 0; i < M->params; i++) {
        int layer = M->param[i].layer, k = layer >= 0 && M->g[i] ? use_of(t, id_of(t, M->g[i]), 1) : -1;
        if (layer >= 0 && k > ends[layer]) ends[layer] = k;
    }
    for (int layer = 0; layer < M->config.num_hidden_layers; layer++)
        if (ends[layer] < 0) ends[layer] = t->moments - 1;
}

/* optim/optim.h tells when: with clipping from the norm on, before a layer begins in forward; without, as soon as its
 * layer's gradients are complete, before backward ends the layer CST_OPTIM_AHEAD below, or before the next iteration. */
static void set_turn(cst_plan_host_task *x, const cst_session *s, const cst_trace *t, const int *ends, int i)
{
    int layer = s->model->param[i].layer, below = layer - CST_OPTIM_AHEAD;
    x->after = t->moments - 1;
    if (s->o.optim.clip > 0) x->before = layer_begins(s, t, cst_optim_turn(s->optim, i));
    else if (layer >= 0) {
        x->after = ends[layer];
        x->before = below < 0 ? 0 : ends[below] + 1;
        if (x->before >= t->moments) x->before = 0;
    }
}

static void set_task(cst_plan_host_task *x, const cst_session *s, const cst_trace *t, const int *ends, int i)
{
    const cst_model *M = s->model;
    *x = (cst_plan_host_task){.down = M->w[i]->bytes, .seconds = s->host_speed.seconds * (double)M->param[i].count, .tensor = id_of(t, M->w[i])};
    set_turn(x, s, t, ends, i);
    x->from = id_of(t, M->g[i]);
    x->made = x->from < 0 ? x->after : use_of(t, x->from, 1);
    if (s->placement == CST_PLACEMENT_STATIC) x->up = x->down; /* else the plan brings it up */
}

cst_status cst_host_time(double *seconds, const cst_session *s, const cst_plan *plan)
{
    const cst_trace *t = cst_mem_trace(s->mem);
    cst_plan_host h = {.share = 1, .transfers = 1};
    *seconds = plan->seconds;
    if (!cst_session_host_updates(s)) return CST_OK;
    cst_plan_host_task *task = malloc((size_t)s->model->params * sizeof *task);
    int *ends = malloc(((size_t)s->model->config.num_hidden_layers + 1) * sizeof *ends);
    cst_status st;
    if (!task || !ends) CST_GO(cst_fail(CST_NO_MEMORY, "prediction"), out);
    find_ends(ends, s, t);
    for (int i = 0; i < s->model->params; i++)
        if (cst_optim_on_host(s->optim, i)) set_task(&task[h.tasks++], s, t, ends, i);
    h.task = task;
    if (s->host_speed.seconds > 0) {
        h.share = s->host_speed.share;
        h.transfers = s->host_speed.transfers;
    }
    st = cst_plan_seconds(seconds, plan, t, &h);
out:
    free(task);
    free(ends);
    return st;
}
