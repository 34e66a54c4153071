/* Times: how long before and after its uses a tensor's transfers need its room, and what a whole plan takes. */
#include <stdlib.h>
#include <string.h>

#include "memory/plan_internal.h"

/* ---- lead times ---- */

typedef struct clock_of { double *begin; int n; } clock_of; /* begin[n + 1]: when each moment begins if nothing waits */

static double when(const clock_of *c, int moment)
{
    int round = moment >= 0 ? moment / c->n : -((-moment + c->n - 1) / c->n);
    return round * c->begin[c->n] + c->begin[moment - round * c->n];
}

typedef struct transfer { int gap, moment; double wait; } transfer;

static int by_moment(const void *a, const void *b)
{
    const transfer *x = a, *y = b;
    return x->moment != y->moment ? x->moment - y->moment : x->gap - y->gap;
}

/* How long gaps given up wait for their queue: transfers of one direction in order of moments. Downloads look ahead from the
 * use before, uploads back from the use after. */
static void queueing(const cst_gaps *g, const clock_of *c, transfer *q, int n, int up, double rate)
{
    double busy = up ? 1e300 : -1e300;
    qsort(q, (size_t)n, sizeof *q, by_moment);
    for (int k = 0; k < 2 * n; k++) {
        int round = k >= n, i = up ? n - 1 - k % n : k % n;
        double shift = (up ? -round : round) * c->begin[c->n], ready = when(c, q[i].moment) + shift;
        double seconds = (double)g->t->tensor[g->gap[q[i].gap].tensor].bytes / rate, limit = 6 * seconds + 0.02 * c->begin[c->n];
        if (up) {
            if (busy > ready) busy = ready;
            if (ready - busy > limit) busy = ready - limit;
            busy -= seconds;
            q[i].wait = ready - busy;
        } else {
            if (busy < ready) busy = ready;
            if (busy - ready > limit) busy = ready + limit;
            busy += seconds;
            q[i].wait = busy - ready;
        }
    }
}

cst_status cst_plan_leads(cst_gaps *g, double factor)
{
    const cst_trace *t = g->t;
    clock_of c = {malloc(((size_t)t->moments + 1) * sizeof *c.begin), t->moments};
    transfer *q = malloc(((size_t)g->gaps + 1) * sizeof *q);
    double *wait[2] = {calloc((size_t)g->gaps + 1, sizeof(double)), calloc((size_t)g->gaps + 1, sizeof(double))};
    cst_status st = CST_OK;
    if (!c.begin || !q || !wait[0] || !wait[1]) CST_GO(cst_fail(CST_NO_MEMORY, "plan"), done);
    c.begin[0] = 0;
    for (int m = 0; m < t->moments; m++) c.begin[m + 1] = c.begin[m] + cst_trace_seconds(t, m);
    for (int up = 0; up < 2; up++) {
        double rate = (up ? t->rates.up : t->rates.down) * t->rates.both;
        int n = 0;
        for (int i = 0; i < g->gaps; i++) {
            const cst_gap *a = &g->gap[i];
            int downloads = g->download[a->group] > 0;
            wait[up][i] = a->paid && (up || downloads) ? (double)t->tensor[a->tensor].bytes / rate : 0;
            /* A group's download is its first one's: the others' leave at once. */
            if (a->paid && !a->keep && (up || (downloads && g->changes[i]))) q[n++] = (transfer){i, (up ? a->to : a->from + 1) % t->moments, 0};
            if (a->paid && !up && !g->changes[i]) wait[up][i] = 0;
        }
        queueing(g, &c, q, n, up, rate);
        for (int k = 0; k < n; k++) wait[up][q[k].gap] = q[k].wait;
    }
    for (int i = 0; i < g->gaps; i++) {
        cst_gap *a = &g->gap[i];
        double down = when(&c, a->from + 1) + factor * wait[0][i], up = when(&c, a->to) - factor * wait[1][i];
        a->tail = a->head = 0;
        if (!a->paid) continue;
        while (wait[0][i] > 0 && a->from + 1 + a->tail < a->to && when(&c, a->from + 1 + a->tail) < down) a->tail++;
        while (a->to - a->head > a->from + 1 && when(&c, a->to - a->head) > up) a->head++;
    }
done:
    free(c.begin);
    free(q);
    free(wait[0]);
    free(wait[1]);
    return st;
}

/* ---- simulation ---- */

enum { COMPUTE, UP, DOWN, QUEUES };

/* One entry of an in-order queue: starts when so many entries of the queues are done. */
typedef struct entry { int need[QUEUES]; double work; } entry;

typedef struct timeline {
    const cst_trace *t;
    const cst_plan *p;
    entry *e[QUEUES];
    int n[QUEUES], room[QUEUES];
    int (*latest)[QUEUES];   /* [tensors]: entries of each queue that have to do with a tensor, counted */
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
    e->work = work;
    return CST_OK;
}

static cst_status put_action(timeline *l, const cst_plan_action *a)
{
    int *latest = l->latest[a->tensor], need[QUEUES] = {0}, x = a->tensor;
    uint64_t bytes = l->t->tensor[x].bytes;
    const cst_rates *r = &l->t->rates;
    if (a->kind == CST_PLAN_EVICT || a->kind == CST_PLAN_DISCARD) {
        int64_t mark = 2 * (int64_t)latest[COMPUTE];
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
    if (a->kind == CST_PLAN_UPLOAD) {
        CST_TRY(put(l, UP, need, (double)bytes / r->up + r->launch));
        latest[UP] = l->n[UP];
        latest[DOWN] = 0;
    } else latest[DOWN] = need[DOWN]; /* the operator that writes it waits for who was there */
    return CST_OK;
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

static cst_status put_rounds(timeline *l, int rounds)
{
    const cst_plan *p = l->p;
    for (int x = 0; x < p->tensors; x++) {
        l->slab[x] = p->start[x].slab;
        l->offset[x] = p->start[x].offset;
    }
    for (int k = 0; k < rounds; k++)
        for (int m = 0, i = 0; m <= p->moments; m++) {
            for (; i < p->actions && p->action[i].moment == m; i++) CST_TRY(put_action(l, &p->action[i]));
            if (m < p->moments) CST_TRY(put_operator(l, m));
        }
    return CST_OK;
}

/* Let time pass; end[round]: when the round's last operator is done. */
static cst_status run(timeline *l, double *end, int rounds)
{
    int done[QUEUES] = {0};
    double now = 0, left[QUEUES];
    for (int q = 0; q < QUEUES; q++) left[q] = l->n[q] ? l->e[q][0].work : 0;
    while (done[COMPUTE] < l->n[COMPUTE]) {
        int runs[QUEUES];
        double step = -1, speed[QUEUES] = {1, 1, 1};
        for (int q = 0; q < QUEUES; q++) {
            const int *need = done[q] < l->n[q] ? l->e[q][done[q]].need : NULL;
            runs[q] = need && need[COMPUTE] <= done[COMPUTE] && need[UP] <= done[UP] && need[DOWN] <= done[DOWN];
        }
        if (runs[UP] && runs[DOWN]) speed[UP] = speed[DOWN] = l->t->rates.both;
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

cst_status cst_plan_simulate(cst_plan *p, const cst_trace *t)
{
    enum { ROUNDS = 3 };
    timeline l = {.t = t, .p = p};
    double end[ROUNDS] = {0};
    cst_status st;
    l.latest = calloc((size_t)t->tensors + 1, sizeof *l.latest);
    l.slab = malloc(((size_t)t->tensors + 1) * sizeof *l.slab);
    l.offset = malloc(((size_t)t->tensors + 1) * sizeof *l.offset);
    l.rooms = calloc((size_t)p->slabs + 1, sizeof *l.rooms);
    if (!l.latest || !l.slab || !l.offset || !l.rooms) CST_GO(cst_fail(CST_NO_MEMORY, "plan"), done);
    CST_GO(put_rounds(&l, ROUNDS), done);
    CST_GO(run(&l, end, ROUNDS), done);
    p->compute_seconds = 0;
    for (int m = 0; m < t->moments; m++) p->compute_seconds += cst_trace_seconds(t, m);
    p->seconds = end[ROUNDS - 1] - end[ROUNDS - 2];
    p->stall_seconds = p->seconds > p->compute_seconds ? p->seconds - p->compute_seconds : 0;
done:
    for (int q = 0; q < QUEUES; q++) free(l.e[q]);
    for (int i = 0; l.rooms && i < p->slabs; i++) free(l.rooms[i].room);
    free(l.latest);
    free(l.slab);
    free(l.offset);
    free(l.rooms);
    return st;
}
