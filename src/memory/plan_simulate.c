/* What a plan takes: its transfers and operators, and the host's own work, on queues that wait for one another. */
#include <stdlib.h>
#include <string.h>

#include "memory/plan_internal.h"

enum { COMPUTE, UP, DOWN, HOST, QUEUES };

/* One entry of an in-order queue: starts when so many entries of the queues are done. */
typedef struct entry {
    int need[QUEUES];
    double work;
    int slows;               /* transfers and is slowed by them: the host's work on memory, not its enqueueing */
} entry;

/* What the host's task waits for, in the iteration that is being put. */
typedef struct input { int down, operators; } input;

typedef struct timeline {
    const cst_trace *t;
    const cst_plan *p;
    const cst_plan_host *h;
    input *input;            /* [h->tasks] */
    int gate;                /* what is put now is enqueued when so many of the host's tasks are done */
    int enqueued;            /* moments of this round whose enqueueing is among those */
    entry *e[QUEUES];
    int n[QUEUES], room[QUEUES];
    int (*latest)[QUEUES];   /* [tensors]: entries of each queue that have to do with a tensor, counted; at HOST: downloads for its tasks */
    struct renewal {         /* [tensors] uploads of what the host makes anew */
        int comes, put_off;  /* a task for it is still to come; an upload waits for that */
        int need[QUEUES];    /* of that upload */
    } *renewal;
    int *slab;               /* [tensors] where it is */
    uint64_t *offset;
    cst_rooms *rooms;        /* [slabs]: who left last: 2 * entries done + 1 if of downloads, else of operators */
} timeline;

static cst_status put(timeline *l, int queue, const int *need, double work)
{
    if (l->n[queue] == l->room[queue]) {
        int room = l->room[queue] ? 2 * l->room[queue] : 256;
        entry *e = realloc(l->e[queue], (size_t)room * sizeof *e);
        if (!e) return cst_fail(CST_NO_MEMORY, "plan");
        l->e[queue] = e;
        l->room[queue] = room;
    }
    entry *e = &l->e[queue][l->n[queue]++];
    memcpy(e->need, need, sizeof e->need);
    if (queue != HOST) e->need[HOST] = l->gate;
    e->work = work;
    e->slows = 0;
    return CST_OK;
}

static cst_status put_upload(timeline *l, int tensor)
{
    const cst_rates *r = &l->t->rates;
    CST_TRY(put(l, UP, l->renewal[tensor].need, (double)l->t->tensor[tensor].bytes / r->up + r->launch));
    l->latest[tensor][UP] = l->n[UP];
    l->renewal[tensor].put_off = 0;
    return CST_OK;
}

static cst_status put_action(timeline *l, const cst_plan_action *a)
{
    int *latest = l->latest[a->tensor], need[QUEUES] = {0}, x = a->tensor;
    uint64_t bytes = l->t->tensor[x].bytes;
    const cst_rates *r = &l->t->rates;
    if (a->kind == CST_PLAN_EVICT || a->kind == CST_PLAN_DISCARD) {
        int64_t mark = latest[HOST] ? 2 * (int64_t)latest[HOST] + 1 : 2 * (int64_t)latest[COMPUTE];
        latest[HOST] = 0;
        if (a->moves) {
            need[COMPUTE] = latest[COMPUTE];
            need[UP] = latest[UP];
            CST_TRY(put(l, DOWN, need, (double)bytes / r->down + r->launch));
            latest[DOWN] = l->n[DOWN];
            mark = 2 * (int64_t)l->n[DOWN] + 1;
        }
        return cst_rooms_set(&l->rooms[l->slab[x]], l->offset[x], l->offset[x] + bytes, mark);
    }
    cst_rooms *room = &l->rooms[a->slab];
    need[DOWN] = a->kind == CST_PLAN_UPLOAD ? latest[DOWN] : 0;
    for (int i = cst_rooms_find(room, a->offset); i < room->n && room->room[i].begin < a->offset + bytes; i++) {
        int queue = room->room[i].mark % 2 ? DOWN : COMPUTE, done = (int)(room->room[i].mark / 2);
        if (done > need[queue]) need[queue] = done;
    }
    l->slab[x] = a->slab;
    l->offset[x] = a->offset;
    if (a->kind != CST_PLAN_UPLOAD) {
        latest[DOWN] = need[DOWN]; /* the operator that writes it waits for who was there */
        return CST_OK;
    }
    latest[DOWN] = 0;
    struct renewal *anew = &l->renewal[x];
    anew->put_off = anew->comes;
    memcpy(anew->need, need, sizeof need);
    return anew->comes ? CST_OK : put_upload(l, x);
}

static cst_status put_operator(timeline *l, int m)
{
    const cst_trace_moment *o = &l->t->moment[m];
    int need[QUEUES] = {0};
    for (int i = o->first; i < o->first + o->uses; i++) {
        int *latest = l->latest[l->t->use[i].tensor];
        if (latest[UP] > need[UP]) need[UP] = latest[UP];
        if (latest[DOWN] > need[DOWN]) need[DOWN] = latest[DOWN];
        latest[COMPUTE] = l->n[COMPUTE] + 1;
    }
    return put(l, COMPUTE, need, cst_trace_seconds(l->t, m));
}

/* The host has enqueued everything before moment m. */
static cst_status put_enqueueing(timeline *l, int m)
{
    double work = l->t->enqueue * (m - l->enqueued);
    l->enqueued = m;
    return work > 0 ? put(l, HOST, (int[QUEUES]){0}, work) : CST_OK;
}

/* Before moment m the host does what must be done by then, of this round's input or of that of the one before. */
static cst_status put_tasks(timeline *l, int m, int round)
{
    for (int i = 0; i < l->h->tasks; i++) {
        const cst_plan_host_task *x = &l->h->task[i];
        int need[QUEUES] = {[COMPUTE] = l->input[i].operators, [DOWN] = l->input[i].down};
        if (x->before != m || (x->before <= x->after && !round)) continue;
        CST_TRY(put_enqueueing(l, m));
        CST_TRY(put(l, HOST, need, x->seconds));
        l->e[HOST][l->n[HOST] - 1].slows = 1;
        l->gate = l->n[HOST];
        if (x->tensor >= 0) l->renewal[x->tensor].comes = 0;
        if (x->tensor >= 0 && l->renewal[x->tensor].put_off) CST_TRY(put_upload(l, x->tensor));
        if (!x->up) continue;
        CST_TRY(put(l, UP, (int[QUEUES]){0}, (double)x->up / l->t->rates.up + l->t->rates.launch));
        if (x->tensor >= 0) l->latest[x->tensor][UP] = l->n[UP];
    }
    return CST_OK;
}

/* After moment m its results come down for the host. */
static cst_status put_inputs(timeline *l, int m)
{
    for (int i = 0; i < l->h->tasks; i++) {
        const cst_plan_host_task *x = &l->h->task[i];
        if (x->made == m) {
            CST_TRY(put(l, DOWN, (int[QUEUES]){[COMPUTE] = l->n[COMPUTE]}, (double)x->down / l->t->rates.down + l->t->rates.launch));
            l->input[i].down = l->n[DOWN];
            if (x->from >= 0) l->latest[x->from][HOST] = l->n[DOWN];
        }
        if (x->after != m) continue;
        l->input[i].operators = l->n[COMPUTE];
        if (x->tensor >= 0 && !x->up) l->renewal[x->tensor].comes = 1;
    }
    return CST_OK;
}

static cst_status put_rounds(timeline *l, int rounds)
{
    const cst_plan *p = l->p;
    for (int x = 0; x < p->tensors; x++) {
        l->slab[x] = p->start[x].slab;
        l->offset[x] = p->start[x].offset;
    }
    for (int k = 0; k < rounds; k++) {
        for (int m = 0, i = 0; m <= p->moments; m++) {
            CST_TRY(put_tasks(l, m, k));
            for (; i < p->actions && p->action[i].moment == m; i++) CST_TRY(put_action(l, &p->action[i]));
            if (m == p->moments) break;
            CST_TRY(put_operator(l, m));
            CST_TRY(put_inputs(l, m));
        }
        if (l->h->tasks) CST_TRY(put_enqueueing(l, p->moments));
        l->enqueued = 0;
    }
    return CST_OK;
}

/* How fast the queues are that run, where 1 is alone. */
static void set_speeds(double *speed, const int *runs, const int *done, const timeline *l)
{
    int transfers = runs[UP] + runs[DOWN];
    for (int q = 0; q < QUEUES; q++) speed[q] = 1;
    if (transfers == 2) speed[UP] = speed[DOWN] = l->t->rates.both;
    if (!runs[HOST] || !l->e[HOST][done[HOST]].slows) return;
    speed[HOST] = 1 - 0.5 * transfers * (1 - l->h->share);
    speed[UP] *= l->h->transfers;
    speed[DOWN] *= l->h->transfers;
}

/* Let time pass; end[round]: when the round's last operator is done. */
static cst_status run(timeline *l, double *end, int rounds)
{
    int done[QUEUES] = {0};
    double now = 0, left[QUEUES];
    for (int q = 0; q < QUEUES; q++) left[q] = l->n[q] ? l->e[q][0].work : 0;
    while (done[COMPUTE] < l->n[COMPUTE]) {
        int runs[QUEUES];
        double step = -1, speed[QUEUES];
        for (int q = 0; q < QUEUES; q++) {
            const int *need = done[q] < l->n[q] ? l->e[q][done[q]].need : NULL;
            runs[q] = need && need[COMPUTE] <= done[COMPUTE] && need[UP] <= done[UP] && need[DOWN] <= done[DOWN] && need[HOST] <= done[HOST];
        }
        set_speeds(speed, runs, done, l);
        for (int q = 0; q < QUEUES; q++)
            if (runs[q] && (step < 0 || left[q] / speed[q] < step)) step = left[q] / speed[q];
        if (step < 0) return cst_fail(CST_STATE, "plan: operator %d waits for ever", done[COMPUTE] % l->p->moments);
        now += step;
        for (int q = 0; q < QUEUES; q++) {
            if (!runs[q]) continue;
            left[q] -= step * speed[q];
            if (left[q] > step * 1e-12) continue;
            done[q]++;
            left[q] = done[q] < l->n[q] ? l->e[q][done[q]].work : 0;
            if (q == COMPUTE && done[q] % l->p->moments == 0 && done[q] / l->p->moments <= rounds) end[done[q] / l->p->moments - 1] = now;
        }
    }
    return CST_OK;
}

cst_status cst_plan_seconds(double *seconds, const cst_plan *p, const cst_trace *t, const cst_plan_host *h)
{
    enum { ROUNDS = 3 };
    timeline l = {.t = t, .p = p, .h = h};
    double end[ROUNDS] = {0};
    cst_status st;
    l.latest = calloc((size_t)t->tensors + 1, sizeof *l.latest);
    l.renewal = calloc((size_t)t->tensors + 1, sizeof *l.renewal);
    l.slab = malloc(((size_t)t->tensors + 1) * sizeof *l.slab);
    l.offset = malloc(((size_t)t->tensors + 1) * sizeof *l.offset);
    l.rooms = calloc((size_t)p->slabs + 1, sizeof *l.rooms);
    l.input = calloc((size_t)h->tasks + 1, sizeof *l.input);
    if (!l.latest || !l.renewal || !l.slab || !l.offset || !l.rooms || !l.input) CST_GO(cst_fail(CST_NO_MEMORY, "plan"), done);
    CST_GO(put_rounds(&l, ROUNDS), done);
    CST_GO(run(&l, end, ROUNDS), done);
    *seconds = end[ROUNDS - 1] - end[ROUNDS - 2];
done:
    for (int q = 0; q < QUEUES; q++) free(l.e[q]);
    for (int i = 0; l.rooms && i < p->slabs; i++) free(l.rooms[i].room);
    free(l.latest);
    free(l.renewal);
    free(l.slab);
    free(l.offset);
    free(l.rooms);
    free(l.input);
    return st;
}

cst_status cst_plan_simulate(cst_plan *p, const cst_trace *t)
{
    p->compute_seconds = 0;
    for (int m = 0; m < t->moments; m++) p->compute_seconds += cst_trace_seconds(t, m);
    CST_TRY(cst_plan_seconds(&p->seconds, p, t, &(cst_plan_host){.tasks = 0}));
    p->stall_seconds = p->seconds > p->compute_seconds ? p->seconds - p->compute_seconds : 0;
    return CST_OK;
}
