/* Plays a plan: shares nothing with what made it. */
#include <stdlib.h>
#include <string.h>

#include "memory/memory.h"
#include "memory/plan.h"

typedef struct tensor_state {
    int slab;                /* -1: not on the device */
    uint64_t offset;
    int changed;             /* the device's content is newer than the host's copy */
    long newest, device, host; /* versions: of the last write; what is in either place, 0: nothing of worth */
    int passing_uses;        /* uses left in this iteration */
} tensor_state;

typedef struct play {
    const cst_plan *p;
    const cst_trace *t;
    tensor_state *x;
    struct { uint64_t begin, end; int tensor; } **in; /* [slabs][]: what is there, by offset */
    int *count, *room;       /* [slabs] */
    int moment;
    uint64_t up_bytes, down_bytes, up_count, down_count, live, live_peak;
} play;

static const char *where(const play *q)
{
    return q->moment < q->t->moments ? q->t->moment[q->moment].op : "the iteration's end";
}

#define WRONG(q, x, text) cst_fail(CST_STATE, "plan: moment %d (%s): %s " text, (q)->moment, where(q), (q)->t->tensor[x].name)

/* Index of the first range in a slab that ends after `begin`. */
static int find(const play *q, int slab, uint64_t begin)
{
    int lo = 0, hi = q->count[slab];
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (q->in[slab][mid].end <= begin) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

static cst_status arrive(play *q, int x, int slab, uint64_t offset)
{
    uint64_t end = offset + q->t->tensor[x].bytes;
    if (q->x[x].slab >= 0) return WRONG(q, x, "is on the device already");
    if (slab < 0 || slab >= q->p->slabs || end > q->p->slab[slab] || end < offset) return WRONG(q, x, "leaves its slab");
    if (offset % q->t->align) return WRONG(q, x, "is not aligned");
    int at = find(q, slab, offset);
    if (at < q->count[slab] && q->in[slab][at].begin < end)
        return cst_fail(CST_STATE, "plan: moment %d (%s): %s overlaps %s", q->moment, where(q), q->t->tensor[x].name,
                        q->t->tensor[q->in[slab][at].tensor].name);
    if (q->count[slab] == q->room[slab]) {
        int room = q->room[slab] ? 2 * q->room[slab] : 64;
        void *a = realloc(q->in[slab], (size_t)room * sizeof **q->in);
        if (!a) return cst_fail(CST_NO_MEMORY, "plan");
        q->in[slab] = a;
        q->room[slab] = room;
    }
    memmove(q->in[slab] + at + 1, q->in[slab] + at, (size_t)(q->count[slab]++ - at) * sizeof **q->in);
    q->in[slab][at].begin = offset;
    q->in[slab][at].end = end;
    q->in[slab][at].tensor = x;
    q->x[x].slab = slab;
    q->x[x].offset = offset;
    q->live += q->t->tensor[x].bytes;
    if (q->live > q->live_peak) q->live_peak = q->live;
    return CST_OK;
}

static void depart(play *q, int x)
{
    int slab = q->x[x].slab, at = find(q, slab, q->x[x].offset);
    q->count[slab]--;
    memmove(q->in[slab] + at, q->in[slab] + at + 1, (size_t)(q->count[slab] - at) * sizeof **q->in);
    q->x[x].slab = -1;
    q->x[x].changed = 0;
    q->x[x].device = 0;
    q->live -= q->t->tensor[x].bytes;
}

static cst_status act(play *q, const cst_plan_action *a)
{
    if (a->tensor < 0 || a->tensor >= q->t->tensors) return cst_fail(CST_STATE, "plan: moment %d: no tensor %d", q->moment, a->tensor);
    tensor_state *x = &q->x[a->tensor];
    uint64_t bytes = q->t->tensor[a->tensor].bytes;
    if (a->kind == CST_PLAN_PLACE || a->kind == CST_PLAN_UPLOAD) {
        int upload = a->kind == CST_PLAN_UPLOAD;
        CST_TRY(arrive(q, a->tensor, a->slab, a->offset));
        if (a->moves != upload) return WRONG(q, a->tensor, "has the wrong `moves`");
        if (!upload) return CST_OK;
        if (!x->host || x->host != x->newest) return WRONG(q, a->tensor, "is uploaded, but the host hasn't got its content");
        x->device = x->host;
        q->up_bytes += bytes;
        q->up_count++;
        return CST_OK;
    }
    if (a->kind != CST_PLAN_EVICT && a->kind != CST_PLAN_DISCARD) return WRONG(q, a->tensor, "has an unknown action");
    if (x->slab < 0) return WRONG(q, a->tensor, "leaves, but isn't on the device");
    if (q->t->tensor[a->tensor].fixed) return WRONG(q, a->tensor, "is fixed, but leaves");
    if (a->moves != (a->kind == CST_PLAN_EVICT && x->changed)) return WRONG(q, a->tensor, "has the wrong `moves`");
    if (a->moves) {
        x->host = x->device;
        q->down_bytes += bytes;
        q->down_count++;
    }
    depart(q, a->tensor);
    return CST_OK;
}

/* The operator of a moment: all there, with content where it reads. `version` numbers what is written. */
static cst_status operate(play *q, long version)
{
    const cst_trace_moment *m = &q->t->moment[q->moment];
    for (int i = m->first; i < m->first + m->uses; i++) {
        const cst_trace_use *u = &q->t->use[i];
        tensor_state *x = &q->x[u->tensor];
        int whole = u->access == CST_WRITE && !u->held;
        /* Where a passing tensor begins it is written, whoever holds it. */
        if (!q->t->tensor[u->tensor].persistent && x->passing_uses == 0) whole = 1;
        x->passing_uses++;
        if (x->slab < 0) return WRONG(q, u->tensor, "is used, but isn't on the device");
        if (!whole && (!x->device || x->device != x->newest)) return WRONG(q, u->tensor, "has lost its content");
        if (u->access == CST_READ) continue;
        x->newest = x->device = version;
        x->changed = 1;
    }
    return CST_OK;
}

/* The iteration begins: passing tensors have no content. */
static void begin(play *q)
{
    for (int x = 0; x < q->t->tensors; x++)
        if (!q->t->tensor[x].persistent) {
            q->x[x].passing_uses = 0;
            q->x[x].device = q->x[x].host = q->x[x].newest = 0;
        }
}

/* Whether the end is the start. */
static cst_status compare(play *q)
{
    for (int i = 0; i < q->t->tensors; i++) {
        const tensor_state *x = &q->x[i];
        const cst_plan_start *b = &q->p->start[i];
        if (x->slab != b->slab || (b->slab >= 0 && x->offset != b->offset)) return WRONG(q, i, "isn't where the iteration begins");
        if (b->worthless) continue;
        if (x->changed != b->changed) return WRONG(q, i, "is changed at the end but not at the start, or the other way round");
        if (x->newest != (x->slab >= 0 ? x->device : x->host)) return WRONG(q, i, "has lost its content at the end");
    }
    return CST_OK;
}

static cst_status set_up(play *q)
{
    long first = 1; /* the version that everything of worth begins with */
    for (int i = 0; i < q->t->tensors; i++) {
        const cst_plan_start *b = &q->p->start[i];
        tensor_state *x = &q->x[i];
        x->slab = -1;
        if (!b->worthless) {
            x->newest = first;
            x->host = b->changed ? 0 : first;
        }
        if (b->slab < 0 && b->changed) return WRONG(q, i, "is changed at the start, but not on the device");
        if (b->slab < 0) continue;
        CST_TRY(arrive(q, i, b->slab, b->offset));
        if (!b->worthless) x->device = first;
        x->changed = b->changed;
    }
    return CST_OK;
}

static cst_status totals(const play *q)
{
    const cst_plan *p = q->p;
    uint64_t sum = 0;
    for (int i = 0; i < p->slabs; i++) {
        if (p->slab[i] > q->t->max_slab) return cst_fail(CST_STATE, "plan: slab %d is larger than slabs may be", i);
        sum += p->slab[i];
    }
    if (sum != p->bytes)
        return cst_fail(CST_STATE, "plan: its slabs have %llu bytes, it says %llu", (unsigned long long)sum, (unsigned long long)p->bytes);
    if (q->up_bytes != 2 * p->up_bytes || q->down_bytes != 2 * p->down_bytes || q->up_count != 2 * p->up_count ||
        q->down_count != 2 * p->down_count)
        return cst_fail(CST_STATE, "plan: it says %llu bytes up and %llu down, its actions move %llu and %llu",
                        (unsigned long long)p->up_bytes, (unsigned long long)p->down_bytes, (unsigned long long)q->up_bytes / 2,
                        (unsigned long long)q->down_bytes / 2);
    if (q->live_peak != p->live_peak)
        return cst_fail(CST_STATE, "plan: it says %llu bytes are live at most, there are %llu", (unsigned long long)p->live_peak,
                        (unsigned long long)q->live_peak);
    return CST_OK;
}

static cst_status play_round(play *q, int round)
{
    const cst_plan *p = q->p;
    int i = 0;
    begin(q);
    for (q->moment = 0; q->moment <= p->moments; q->moment++) {
        for (; i < p->actions && p->action[i].moment == q->moment; i++) CST_TRY(act(q, &p->action[i]));
        if (q->moment < p->moments) CST_TRY(operate(q, 2 + (long)round * p->moments + q->moment));
    }
    q->moment = p->moments;
    if (i < p->actions) return cst_fail(CST_STATE, "plan: action %d is out of order", i);
    return compare(q);
}

cst_status cst_plan_check(const cst_plan *p, const cst_trace *t)
{
    play q = {.p = p, .t = t};
    cst_status st;
    if (p->tensors != t->tensors || p->moments != t->moments) return cst_fail(CST_STATE, "plan: it is of another trace");
    q.x = calloc((size_t)t->tensors + 1, sizeof *q.x);
    q.in = calloc((size_t)p->slabs + 1, sizeof *q.in);
    q.count = calloc((size_t)p->slabs + 1, sizeof *q.count);
    q.room = calloc((size_t)p->slabs + 1, sizeof *q.room);
    if (!q.x || !q.in || !q.count || !q.room) CST_GO(cst_fail(CST_NO_MEMORY, "plan"), done);
    CST_GO(set_up(&q), done);
    for (int round = 0; round < 2; round++) CST_GO(play_round(&q, round), done);
    st = totals(&q);
done:
    for (int i = 0; q.in && i < p->slabs; i++) free(q.in[i]);
    free(q.x);
    free(q.in);
    free(q.count);
    free(q.room);
    return st;
}
