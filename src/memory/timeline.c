#include "memory/timeline.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memory/internal.h"

#define ROUNDS 4   /* iterations played; the last but one is kept, so that what belongs to the next one is in it too */
#define NEVER (-1) /* a task that is none: done from the start */

typedef struct task {
    int moment, tensor;
    uint64_t bytes;
    double work;     /* s, alone */
    int lane, round;
    int dep, deps;   /* into play.dep: tasks that end before this one begins */
    double begin, end;
    int last;        /* the dependency that ended last */
} task;

/* A place given up; whoever comes next waits for `until`. */
typedef struct left {
    int slab, until;
    uint64_t begin, end;
} left;

typedef struct stay {
    int tensor, moment, round;
    int from, to;    /* tasks: from the begin of one to the end of the other; NEVER: before, or after all */
} stay;

/* A tensor while the plan is played. */
typedef struct state {
    int slab;        /* -1: nowhere */
    uint64_t offset;
    int stay;        /* the one going on */
    int last;        /* task that touched it last here */
    int room[3], rooms; /* downloads and operators that its next operator, or its upload, waits for: latest of each lane */
    int loaded, saved;  /* its upload, its download; NEVER */
} state;

typedef struct play {
    const cst_plan *p;
    const cst_trace *t;
    task *task;
    int *dep;
    left *left;
    stay *stay;
    state *state;
    int tasks, deps, lefts, stays, task_room, dep_room, left_room, stay_room;
} play;

static cst_status add_task(play *y, int lane, int round, int moment, int tensor, double work)
{
    if (!cst_array_more((void **)&y->task, y->tasks, &y->task_room, sizeof *y->task)) return cst_fail(CST_NO_MEMORY, "timeline");
    y->task[y->tasks++] = (task){.moment = moment, .tensor = tensor, .bytes = tensor < 0 ? 0 : y->t->tensor[tensor].bytes, .work = work,
                                 .lane = lane, .round = round, .dep = y->deps, .last = NEVER};
    return CST_OK;
}

/* The task added last waits for `id` too. */
static cst_status add_dep(play *y, int id)
{
    if (id == NEVER) return CST_OK;
    if (!cst_array_more((void **)&y->dep, y->deps, &y->dep_room, sizeof *y->dep)) return cst_fail(CST_NO_MEMORY, "timeline");
    y->dep[y->deps++] = id;
    y->task[y->tasks - 1].deps++;
    return CST_OK;
}

static cst_status begin_stay(play *y, int tensor, int round, int moment, int from, int slab, uint64_t offset)
{
    state *s = &y->state[tensor];
    if (!cst_array_more((void **)&y->stay, y->stays, &y->stay_room, sizeof *y->stay)) return cst_fail(CST_NO_MEMORY, "timeline");
    s->stay = y->stays;
    s->slab = slab;
    s->offset = offset;
    y->stay[y->stays++] = (stay){tensor, moment, round, from, NEVER};
    return CST_OK;
}

/* The tensor gives up its place when task `until` is done. */
static cst_status leave(play *y, int tensor, int until)
{
    state *s = &y->state[tensor];
    if (!cst_array_more((void **)&y->left, y->lefts, &y->left_room, sizeof *y->left)) return cst_fail(CST_NO_MEMORY, "timeline");
    y->left[y->lefts++] = (left){s->slab, until, s->offset, s->offset + y->t->tensor[tensor].bytes};
    y->stay[s->stay].to = until;
    s->slab = -1;
    return CST_OK;
}

/* Whom a tensor that comes to this place waits for: of each lane the latest, for they work in order. */
static void take(play *y, state *s, int slab, uint64_t begin, uint64_t end)
{
    int latest[CST_LANE_COUNT] = {NEVER, NEVER, NEVER, NEVER};
    for (int i = 0; i < y->lefts; i++) {
        left *x = &y->left[i];
        if (x->slab != slab || x->begin >= end || x->end <= begin) continue;
        if (x->until != NEVER && x->until > latest[y->task[x->until].lane]) latest[y->task[x->until].lane] = x->until;
        if (x->begin >= begin && x->end <= end) y->left[i--] = y->left[--y->lefts]; /* covered: the newcomer speaks for it */
    }
    s->rooms = 0;
    for (int k = 0; k < 3; k++)
        if (latest[k] != NEVER) s->room[s->rooms++] = latest[k];
}

static cst_status act(play *y, const cst_plan_action *a, int round)
{
    const cst_trace_tensor *x = &y->t->tensor[a->tensor];
    state *s = &y->state[a->tensor];
    if ((a->kind == CST_PLAN_PLACE || a->kind == CST_PLAN_UPLOAD) == (s->slab >= 0))
        return cst_fail(CST_STATE, "timeline: moment %d: %s %s: it is %s", a->moment, cst_plan_kind_name(a->kind), x->name,
                        s->slab < 0 ? "away" : "there");
    switch (a->kind) {
    case CST_PLAN_PLACE:
        take(y, s, a->slab, a->offset, a->offset + x->bytes);
        s->last = s->loaded = NEVER;
        return begin_stay(y, a->tensor, round, a->moment, NEVER, a->slab, a->offset);
    case CST_PLAN_UPLOAD:
        take(y, s, a->slab, a->offset, a->offset + x->bytes);
        CST_TRY(add_task(y, CST_LANE_UP, round, a->moment, a->tensor, (double)x->bytes / y->t->rates.up + y->t->rates.launch));
        for (int i = 0; i < s->rooms; i++) CST_TRY(add_dep(y, s->room[i]));
        CST_TRY(add_dep(y, s->saved));
        s->rooms = 0;
        s->last = s->loaded = y->tasks - 1;
        return begin_stay(y, a->tensor, round, a->moment, s->loaded, a->slab, a->offset);
    case CST_PLAN_EVICT:
        if (a->moves) {
            CST_TRY(add_task(y, CST_LANE_DOWN, round, a->moment, a->tensor, (double)x->bytes / y->t->rates.down + y->t->rates.launch));
            CST_TRY(add_dep(y, s->last));
            s->saved = y->tasks - 1;
            return leave(y, a->tensor, s->saved);
        }
        return leave(y, a->tensor, s->last);
    default: return leave(y, a->tensor, s->last);
    }
}

static cst_status operate(play *y, int moment, int round)
{
    const cst_trace_moment *m = &y->t->moment[moment];
    CST_TRY(add_task(y, CST_LANE_COMPUTE, round, moment, -1, cst_trace_seconds(y->t, moment)));
    int id = y->tasks - 1;
    for (int i = m->first; i < m->first + m->uses; i++) {
        state *s = &y->state[y->t->use[i].tensor];
        CST_TRY(add_dep(y, s->loaded));
        for (int k = 0; k < s->rooms; k++) CST_TRY(add_dep(y, s->room[k]));
        s->loaded = NEVER; /* the queue is in order: who waited once needn't again */
        s->rooms = 0;
        s->last = id;
        if (s->slab >= 0 && y->stay[s->stay].from == NEVER && y->stay[s->stay].round >= 0) y->stay[s->stay].from = id;
    }
    return CST_OK;
}

/* All rounds as tasks, in the order in which the host enqueues them. */
static cst_status enqueue(play *y)
{
    for (int i = 0; i < y->t->tensors; i++) {
        const cst_plan_start *at = &y->p->start[i];
        y->state[i] = (state){.slab = -1, .last = NEVER, .loaded = NEVER, .saved = NEVER};
        if (at->slab >= 0) CST_TRY(begin_stay(y, i, -1, -1, NEVER, at->slab, at->offset));
    }
    for (int round = 0; round < ROUNDS; round++) {
        int a = 0;
        for (int m = 0; m <= y->t->moments; m++) {
            for (; a < y->p->actions && y->p->action[a].moment == m; a++) CST_TRY(act(y, &y->p->action[a], round));
            if (m < y->t->moments) CST_TRY(operate(y, m, round));
        }
        if (a < y->p->actions) return cst_fail(CST_STATE, "timeline: the plan's actions are not in the order of moments");
    }
    return CST_OK;
}

/* Play the three queues from event to event. done[id]: it has ended. */
static void run(play *y, unsigned char *done)
{
    int head[3] = {0, 0, 0}, running[3] = {0, 0, 0};
    double left_of[3] = {0, 0, 0}, now = 0;
    for (;;) {
        double step = INFINITY;
        for (int k = 0; k < 3; k++) {
            while (head[k] < y->tasks && y->task[head[k]].lane != k) head[k]++;
            if (running[k] || head[k] == y->tasks) continue;
            task *x = &y->task[head[k]];
            for (; x->deps && done[y->dep[x->dep]]; x->dep++, x->deps--)
                if (x->last == NEVER || y->task[y->dep[x->dep]].end >= y->task[x->last].end) x->last = y->dep[x->dep];
            if (x->deps) continue;
            running[k] = 1;
            left_of[k] = x->work;
            x->begin = now;
        }
        double rate[3] = {1, 1, 1};
        if (running[CST_LANE_UP] && running[CST_LANE_DOWN]) rate[CST_LANE_UP] = rate[CST_LANE_DOWN] = y->t->rates.both;
        for (int k = 0; k < 3; k++)
            if (running[k] && left_of[k] / rate[k] < step) step = left_of[k] / rate[k];
        if (step == INFINITY) return; /* all done: a dependency is always enqueued before who waits for it */
        now += step;
        for (int k = 0; k < 3; k++) {
            if (!running[k]) continue;
            if (left_of[k] / rate[k] > step) {
                left_of[k] -= step * rate[k];
                continue;
            }
            running[k] = 0;
            y->task[head[k]].end = now;
            done[head[k]++] = 1;
        }
    }
}

static int by_lane_and_begin(const void *a, const void *b)
{
    const cst_span *x = a, *y = b;
    if (x->lane != y->lane) return (int)x->lane - (int)y->lane;
    return x->begin != y->begin ? x->begin < y->begin ? -1 : 1 : x->moment - y->moment;
}

/* Keep the part of it that lies in the round shown. */
static void add_span(cst_timeline *l, double from, cst_span s)
{
    s.begin -= from;
    s.end -= from;
    if (s.lane != CST_LANE_COMPUTE && (s.begin >= l->seconds || s.end <= 0)) return;
    if (s.begin < 0) s.begin = 0;
    if (s.end > l->seconds) s.end = l->seconds;
    if (s.lane < CST_LANE_ROOM) l->busy[s.lane] += s.end - s.begin;
    l->span[l->spans++] = s;
}

/* When the last operator of a round ended. */
static double end_of(const play *y, int round)
{
    for (int i = y->tasks; i-- > 0;)
        if (y->task[i].lane == CST_LANE_COMPUTE && y->task[i].round == round) return y->task[i].end;
    return 0;
}

/* Seconds of waits during which a queue is busy; both lists are in order. */
static double during_waits(const cst_timeline *l, cst_lane lane)
{
    int k = l->first[lane];
    double sum = 0;
    for (int i = l->first[CST_LANE_COMPUTE]; i < l->first[CST_LANE_COMPUTE + 1]; i++) {
        double from = l->span[i].begin - l->span[i].wait, to = l->span[i].begin;
        if (!(to > from)) continue;
        while (k < l->first[lane + 1] && l->span[k].end <= from) k++;
        for (int j = k; j < l->first[lane + 1] && l->span[j].begin < to; j++)
            sum += fmin(to, l->span[j].end) - fmax(from, l->span[j].begin);
    }
    return sum;
}

static void collect(cst_timeline *l, const play *y)
{
    double from = end_of(y, ROUNDS - 3), before = from;
    l->seconds = end_of(y, ROUNDS - 2) - from;
    for (int i = 0; i < y->tasks; i++) {
        const task *x = &y->task[i];
        cst_span s = {(cst_lane)x->lane, x->moment, x->tensor, x->begin, x->end, 0, x->bytes};
        if (x->lane == CST_LANE_COMPUTE && x->round == ROUNDS - 2) {
            s.wait = x->begin - before;
            s.tensor = s.wait > 0 && x->last != NEVER ? y->task[x->last].tensor : -1;
            before = x->end;
        } else if (x->lane == CST_LANE_COMPUTE) continue;
        add_span(l, from, s);
    }
    for (int i = 0; i < y->stays; i++) {
        const stay *x = &y->stay[i];
        double begin = x->from == NEVER ? -INFINITY : y->task[x->from].begin, end = x->to == NEVER ? INFINITY : y->task[x->to].end;
        if (x->round >= 0 && x->from == NEVER) continue; /* placed, never used */
        add_span(l, from, (cst_span){CST_LANE_ROOM, x->moment, x->tensor, begin, end, 0, y->t->tensor[x->tensor].bytes});
    }
    qsort(l->span, (size_t)l->spans, sizeof *l->span, by_lane_and_begin);
    for (int i = 0; i < l->spans; i++) l->first[l->span[i].lane + 1] = i + 1;
    for (int k = 1; k <= CST_LANE_COUNT; k++)
        if (l->first[k] < l->first[k - 1]) l->first[k] = l->first[k - 1];
    l->stall = fmax(l->seconds - l->busy[CST_LANE_COMPUTE], 0);
    l->stall_with[CST_LANE_UP] = during_waits(l, CST_LANE_UP);
    l->stall_with[CST_LANE_DOWN] = during_waits(l, CST_LANE_DOWN);
}

cst_status cst_timeline_make(cst_timeline **out, const cst_plan *p, const cst_trace *t)
{
    play y = {.p = p, .t = t};
    cst_timeline *l = NULL;
    unsigned char *done = NULL;
    cst_status st;
    if (p->tensors != t->tensors || p->moments != t->moments) return cst_fail(CST_STATE, "timeline: the plan is another trace's");
    y.state = calloc((size_t)t->tensors + 1, sizeof *y.state);
    l = calloc(1, sizeof *l);
    if (!y.state || !l) {
        st = cst_fail(CST_NO_MEMORY, "timeline");
        goto out;
    }
    CST_GO(enqueue(&y), out);
    done = calloc((size_t)y.tasks + 1, 1);
    l->span = malloc((size_t)(y.tasks + y.stays + 1) * sizeof *l->span);
    if (!done || !l->span) {
        st = cst_fail(CST_NO_MEMORY, "timeline");
        goto out;
    }
    run(&y, done);
    collect(l, &y);
    *out = l;
    l = NULL;
out:
    cst_timeline_free(l);
    free(done);
    free(y.task);
    free(y.dep);
    free(y.left);
    free(y.stay);
    free(y.state);
    return st;
}

void cst_timeline_free(cst_timeline *l)
{
    if (!l) return;
    free(l->span);
    free(l);
}

const char *cst_timeline_limit(const cst_timeline *l)
{
    double up = l->stall_with[CST_LANE_UP], down = l->stall_with[CST_LANE_DOWN];
    if (l->stall <= 0.02 * l->seconds) return "compute";
    if (up < l->stall / 2 && down < l->stall / 2) return "room";
    return up >= down ? "uploads" : "downloads";
}

typedef struct change {
    double at;
    int cls, down;
    uint64_t bytes;
} change;

/* Who goes gives way to who comes at the same time. */
static int by_time(const void *a, const void *b)
{
    const change *x = a, *y = b;
    return x->at != y->at ? x->at < y->at ? -1 : 1 : y->down - x->down;
}

cst_status cst_timeline_levels(cst_level **out, int *n, const cst_timeline *l, const cst_trace *t)
{
    int from = l->first[CST_LANE_ROOM], to = l->first[CST_LANE_ROOM + 1], changes = 0, levels = 0;
    change *c = malloc(2 * (size_t)(to - from + 1) * sizeof *c);
    cst_level *v = malloc((2 * (size_t)(to - from) + 1) * sizeof *v), now = {0};
    if (!c || !v) {
        free(c);
        free(v);
        return cst_fail(CST_NO_MEMORY, "timeline");
    }
    for (int i = from; i < to; i++) {
        const cst_span *s = &l->span[i];
        c[changes++] = (change){s->begin, t->tensor[s->tensor].cls, 0, s->bytes};
        if (s->end < l->seconds) c[changes++] = (change){s->end, t->tensor[s->tensor].cls, 1, s->bytes};
    }
    qsort(c, (size_t)changes, sizeof *c, by_time);
    v[levels++] = now;
    for (int i = 0; i < changes; i++) {
        uint64_t *b = &now.bytes[c[i].cls];
        *b = c[i].down ? *b - c[i].bytes : *b + c[i].bytes;
        now.sum = c[i].down ? now.sum - c[i].bytes : now.sum + c[i].bytes;
        now.at = c[i].at;
        if (i + 1 < changes && c[i + 1].at == c[i].at) continue;
        if (now.at <= 0) levels = 0;
        v[levels++] = now;
    }
    free(c);
    *out = v;
    *n = levels;
    return CST_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const cst_trace_kind *)a)->op, ((const cst_trace_kind *)b)->op);
}

static int by_seconds(const void *a, const void *b)
{
    const cst_trace_kind *x = a, *y = b;
    return x->seconds != y->seconds ? x->seconds < y->seconds ? 1 : -1 : strcmp(x->op, y->op);
}

cst_status cst_trace_kinds(cst_trace_kind **out, int *n, const cst_trace *t)
{
    cst_trace_kind *k = malloc(((size_t)t->moments + 1) * sizeof *k);
    int kinds = 0;
    if (!k) return cst_fail(CST_NO_MEMORY, "trace");
    for (int i = 0; i < t->moments; i++) k[i] = (cst_trace_kind){t->moment[i].op, 1, t->moment[i].flops, cst_trace_seconds(t, i)};
    qsort(k, (size_t)t->moments, sizeof *k, by_name);
    for (int i = 0; i < t->moments; i++) {
        cst_trace_kind *last = kinds ? &k[kinds - 1] : NULL;
        if (!last || strcmp(last->op, k[i].op)) k[kinds++] = k[i];
        else last->count++, last->flops += k[i].flops, last->seconds += k[i].seconds;
    }
    qsort(k, (size_t)kinds, sizeof *k, by_seconds);
    *out = k;
    *n = kinds;
    return CST_OK;
}
