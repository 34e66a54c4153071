/* The fewest bytes that any plan moves within a capacity, places disregarded; two ways, neither by the library's planner. */
#ifndef PLAN_EXACT_H
#define PLAN_EXACT_H

#include "testing.h"

#include "memory/memory.h"
#include "memory/trace.h"

enum { EXACT_GAPS = 128, EXACT_MOMENTS = 64 };

/* Branch and bound: at the fullest moment some gap has to be given up; each in turn, those before it then stay for certain. */
typedef struct exact {
    const cst_trace *t;
    struct { int tensor, from, to, group; int64_t bytes, download; int state; } gap[EXACT_GAPS]; /* state: 0 open, 1 stays, 2 given up */
    int n, moments, groups;
    int given_up[EXACT_GAPS];
    int64_t over[EXACT_MOMENTS]; /* bytes too many if all that isn't given up stays */
    int64_t best;
    long nodes, most;
} exact;

static inline int exact_covers(const exact *e, int i, int m)
{
    return (m > e->gap[i].from && m < e->gap[i].to) || m + e->moments < e->gap[i].to;
}

static inline void exact_prepare(exact *e, const cst_trace *t, uint64_t capacity)
{
    memset(e, 0, sizeof *e);
    e->t = t;
    e->moments = t->moments;
    e->most = 3000000;
    for (int m = 0; m < t->moments; m++) e->over[m] = -(int64_t)capacity;
    for (int x = 0; x < t->tensors; x++) {
        int at[EXACT_MOMENTS], access[EXACT_MOMENTS], n = 0, changed = 0, around = e->groups, first = e->n;
        for (int m = 0; m < t->moments; m++)
            for (int i = 0; i < t->moment[m].uses; i++) {
                const cst_trace_use *u = &t->use[t->moment[m].first + i];
                if (t->tensor[x].fixed) continue;
                if (u->tensor != x) continue;
                at[n] = m;
                access[n] = u->access == CST_WRITE && u->held && (n || t->tensor[x].persistent) ? CST_UPDATE : u->access;
                changed |= access[n++] != CST_READ;
                e->over[m] += (int64_t)t->tensor[x].bytes;
            }
        if (t->tensor[x].fixed)
            for (int m = 0; m < t->moments; m++) e->over[m] += (int64_t)t->tensor[x].bytes;
        /* Groups: the gaps before the first change belong to the last change's, around the end. */
        int current = e->groups++;
        for (int k = 0; k < n; k++) {
            if (access[k] != CST_READ) current = e->groups++;
            int next = k + 1 < n ? at[k + 1] : at[0] + t->moments;
            if (access[k + 1 < n ? k + 1 : 0] == CST_WRITE || next == at[k] + 1) continue;
            int i = e->n++;
            e->gap[i].tensor = x;
            e->gap[i].from = at[k];
            e->gap[i].to = next;
            e->gap[i].bytes = (int64_t)t->tensor[x].bytes;
            e->gap[i].download = changed ? e->gap[i].bytes : 0;
            e->gap[i].group = current;
            for (int m = 0; m < t->moments; m++)
                if (exact_covers(e, i, m)) e->over[m] += e->gap[i].bytes;
        }
        for (int i = first; i < e->n; i++)
            if (e->gap[i].group == around) e->gap[i].group = current;
    }
}

static inline int64_t exact_cost(const exact *e, int i)
{
    return e->gap[i].bytes + (e->given_up[e->gap[i].group] ? 0 : e->gap[i].download);
}

/* At least this much more has to move: at some moments, part of what is too many there, by the cheapest open gaps. Gaps and
 * downloads count at one moment only. */
static inline double exact_more(const exact *e)
{
    double sum = 0;
    uint8_t counted[EXACT_GAPS] = {0}, loaded[EXACT_GAPS] = {0};
    for (int round = 0; round < 4; round++) {
        int at = -1;
        int64_t worst = 0;
        for (int m = 0; m < e->moments; m++) {
            int64_t over = e->over[m];
            for (int i = 0; i < e->n && over > worst; i++)
                if (counted[i] && exact_covers(e, i, m)) over -= e->gap[i].bytes;
            if (over <= worst) continue;
            worst = over;
            at = m;
        }
        if (at < 0) break;
        uint8_t here[EXACT_GAPS] = {0};
        for (int dear = 0; dear < 2 && worst > 0; dear++)
            for (int i = 0; i < e->n && worst > 0; i++) {
                int twice = e->gap[i].download && !e->given_up[e->gap[i].group] && !loaded[e->gap[i].group];
                if (e->gap[i].state || counted[i] || twice != dear || !exact_covers(e, i, at)) continue;
                int64_t part = e->gap[i].bytes < worst ? e->gap[i].bytes : worst;
                sum += (double)part * (1 + dear);
                worst -= part;
            }
        if (worst > 0) return 1e300;
        for (int i = 0; i < e->n; i++)
            if (!e->gap[i].state && exact_covers(e, i, at)) here[i] = 1;
        for (int i = 0; i < e->n; i++)
            if (here[i]) counted[i] = loaded[e->gap[i].group] = 1;
    }
    return sum;
}

static inline void exact_set(exact *e, int i, int state)
{
    int out = (state == 2) - (e->gap[i].state == 2);
    e->gap[i].state = state;
    if (!out) return;
    e->given_up[e->gap[i].group] += out;
    for (int m = 0; m < e->moments; m++)
        if (exact_covers(e, i, m)) e->over[m] -= out * e->gap[i].bytes;
}

static inline void exact_branch(exact *e, int64_t cost)
{
    int at = 0, open[EXACT_GAPS], n = 0;
    if (++e->nodes > e->most) return;
    for (int m = 1; m < e->moments; m++)
        if (e->over[m] > e->over[at]) at = m;
    if (e->over[at] <= 0) {
        if (cost < e->best) e->best = cost;
        return;
    }
    if ((double)cost + exact_more(e) >= (double)e->best) return;
    for (int i = 0; i < e->n; i++)
        if (!e->gap[i].state && exact_covers(e, i, at)) open[n++] = i;
    for (int k = 0; k < n; k++) /* cheapest and longest first: good bounds soon */
        for (int j = k + 1; j < n; j++) {
            int a = open[k], b = open[j];
            double x = (double)exact_cost(e, a) / (double)(e->gap[a].bytes * (e->gap[a].to - e->gap[a].from));
            double y = (double)exact_cost(e, b) / (double)(e->gap[b].bytes * (e->gap[b].to - e->gap[b].from));
            if (y >= x) continue;
            open[k] = b;
            open[j] = a;
        }
    for (int k = 0; k < n; k++) {
        int64_t more = exact_cost(e, open[k]);
        exact_set(e, open[k], 2);
        exact_branch(e, cost + more);
        exact_set(e, open[k], 1);
    }
    for (int k = 0; k < n; k++) exact_set(e, open[k], 0);
}

/* -1: more than it can do. */
static inline int64_t exact_moved(const cst_trace *t, uint64_t capacity)
{
    static exact e;
    exact_prepare(&e, t, capacity);
    e.best = INT64_MAX;
    exact_branch(&e, 0);
    return e.nodes > e.most ? -1 : e.best;
}

/* Dynamic program over the states of all tensors after each moment: absent with its content on the host, clean, changed,
 * absent and lost. Tiny traces only. */
typedef struct states {
    const cst_trace *t;
    int64_t from[256], to[256];
    int64_t capacity;
    int access[4];           /* of the moment, 0: not used */
} states;

/* Choose what becomes of tensor x and those after it on the way from state `old`; `made` is the state so far. */
static inline void states_choose(states *s, int x, int old, int made, int64_t cost, int64_t used)
{
    if (used > s->capacity) return;
    if (x == s->t->tensors) {
        if (cost < s->to[made]) s->to[made] = cost;
        return;
    }
    int64_t b = (int64_t)s->t->tensor[x].bytes;
    int was = old >> (2 * x) & 3, a = s->access[x], shift = 2 * x;
    if (a == CST_WRITE) {
        states_choose(s, x + 1, old, made | 2 << shift, cost, used + b);
        return;
    }
    /* On the device here: as it is, or brought; a changed one may be copied to the host as well. */
    if (was == 0) states_choose(s, x + 1, old, made | (a == CST_UPDATE ? 2 : 1) << shift, cost + b, used + b);
    if (was == 1 || was == 2) states_choose(s, x + 1, old, made | (a == CST_UPDATE ? 2 : was) << shift, cost, used + b);
    if (was == 2 && a != CST_UPDATE) states_choose(s, x + 1, old, made | 1 << shift, cost + b, used + b);
    if (a || s->t->tensor[x].fixed) return;
    states_choose(s, x + 1, old, made | 3 << shift, cost, used);
    if (was != 3) states_choose(s, x + 1, old, made, cost + (was == 2 ? b : 0), used);
}

static inline int64_t states_moved(const cst_trace *t, uint64_t capacity)
{
    states s = {.t = t, .capacity = (int64_t)capacity};
    int n = 1 << 2 * t->tensors;
    int64_t best = INT64_MAX;
    for (int begin = 0; begin < n; begin++) {
        for (int k = 0; k < n; k++) s.from[k] = k == begin ? 0 : INT64_MAX;
        for (int m = 0; m < t->moments; m++) {
            memset(s.access, 0, sizeof s.access);
            for (int i = 0; i < t->moment[m].uses; i++) {
                const cst_trace_use *u = &t->use[t->moment[m].first + i];
                s.access[u->tensor] = u->access;
            }
            for (int k = 0; k < n; k++) s.to[k] = INT64_MAX;
            for (int k = 0; k < n; k++)
                if (s.from[k] < INT64_MAX) states_choose(&s, 0, k, 0, s.from[k], 0);
            memcpy(s.from, s.to, sizeof s.from);
        }
        if (s.from[begin] < best) best = s.from[begin];
    }
    return best;
}

#endif
