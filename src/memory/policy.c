#include "memory/policy.h"

#include <stdlib.h>
#include <string.h>

#include "memory/memory.h"

typedef struct content {
    int there, changed;      /* on the device; newer than the host's copy */
    int last;                /* moment of its latest use, counted through all rounds */
    int use;                 /* index of that use in the tensor's list */
    int pinned;              /* moment that it may not leave at */
} content;

typedef struct replay {
    const cst_trace *t;
    content *c;
    int *first, *moment;     /* uses by tensor, in order of moments */
    uint8_t *overwrites;     /* [uses]: the use is a WRITE, old content is worthless */
    uint64_t used, bytes, moved;
} replay;

static cst_status list_uses(replay *r)
{
    const cst_trace *t = r->t;
    r->c = calloc((size_t)t->tensors + 1, sizeof *r->c);
    r->first = calloc((size_t)t->tensors + 2, sizeof *r->first);
    r->moment = malloc(((size_t)t->uses + 1) * sizeof *r->moment);
    r->overwrites = malloc((size_t)t->uses + 1);
    if (!r->c || !r->first || !r->moment || !r->overwrites) return cst_fail(CST_NO_MEMORY, "policy");
    for (int i = 0; i < t->uses; i++) r->first[t->use[i].tensor + 2]++;
    for (int x = 0; x < t->tensors; x++) r->first[x + 2] += r->first[x + 1];
    for (int m = 0; m < t->moments; m++)
        for (int i = 0; i < t->moment[m].uses; i++) {
            const cst_trace_use *u = &t->use[t->moment[m].first + i];
            int at = r->first[u->tensor + 1]++;
            r->moment[at] = m;
            r->overwrites[at] = u->access == CST_WRITE && (!u->held || (at == r->first[u->tensor] && !t->tensor[u->tensor].persistent));
        }
    for (int x = 0; x < t->tensors; x++)
        if (t->tensor[x].fixed) {
            r->c[x].there = 1;
            r->used += t->tensor[x].bytes;
        }
    return CST_OK;
}

/* Index of the use after a tensor's latest one, and the moment of it. */
static int next_use(const replay *r, int x, int *moment)
{
    int begin = r->first[x], n = r->first[x + 1] - begin, k = r->c[x].use + 1, round = r->c[x].last / r->t->moments;
    if (k >= n) {
        k = 0;
        round++;
    }
    *moment = round * r->t->moments + r->moment[begin + k];
    return begin + k;
}

static void leave(replay *r, int x)
{
    if (r->c[x].changed) r->moved += r->t->tensor[x].bytes;
    r->c[x].there = r->c[x].changed = 0;
    r->used -= r->t->tensor[x].bytes;
}

/* Evict until everything fits. */
static cst_status make_room(replay *r, int now, cst_policy policy)
{
    while (r->used > r->bytes) {
        int out = -1, best = 0;
        for (int x = 0; x < r->t->tensors; x++) {
            int when = r->c[x].last;
            if (!r->c[x].there || r->t->tensor[x].fixed || r->c[x].pinned == now) continue;
            if (policy == CST_POLICY_FARTHEST) next_use(r, x, &when);
            else when = -when;
            if (out >= 0 && when <= best) continue;
            best = when;
            out = x;
        }
        if (out < 0)
            return cst_fail(CST_OVER_BUDGET, "moment %d (%s) uses more than %llu bytes at once", now % r->t->moments,
                            r->t->moment[now % r->t->moments].op, (unsigned long long)r->bytes);
        leave(r, out);
    }
    return CST_OK;
}

static cst_status play(replay *r, int now, cst_policy policy)
{
    const cst_trace *t = r->t;
    const cst_trace_moment *m = &t->moment[now % t->moments];
    for (int i = m->first; i < m->first + m->uses; i++) {
        int x = t->use[i].tensor;
        content *c = &r->c[x];
        int k = r->first[x];
        while (r->moment[k] != now % t->moments) k++;
        if (!c->there) {
            if (!r->overwrites[k]) r->moved += t->tensor[x].bytes;
            r->used += t->tensor[x].bytes;
            c->there = 1;
        }
        c->pinned = c->last = now;
        c->use = k - r->first[x];
    }
    CST_TRY(make_room(r, now, policy));
    for (int i = m->first; i < m->first + m->uses; i++) {
        int x = t->use[i].tensor, when;
        if (t->use[i].access != CST_READ) r->c[x].changed = 1;
        if (t->tensor[x].fixed || !r->overwrites[next_use(r, x, &when)]) continue;
        r->c[x].changed = 0;
        leave(r, x);
    }
    return CST_OK;
}

cst_status cst_policy_run(uint64_t *moved, const cst_trace *t, uint64_t bytes, cst_policy policy)
{
    replay r = {.t = t, .bytes = bytes};
    cst_status st = list_uses(&r);
    /* The first rounds bring it to what it does again and again, or nearly so; the mean of the rest counts. */
    enum { BEFORE = 3, COUNTED = 4 };
    for (int k = 0; k < (BEFORE + COUNTED) * t->moments && st == CST_OK; k++) {
        if (k == BEFORE * t->moments) r.moved = 0;
        st = play(&r, k, policy);
    }
    if (st == CST_OK) *moved = r.moved / COUNTED;
    free(r.c);
    free(r.first);
    free(r.moment);
    free(r.overwrites);
    return st;
}
