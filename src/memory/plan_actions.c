/* From stays with places to the plan: actions, and where everything is when the iteration begins. */
#include <stdlib.h>
#include <string.h>

#include "memory/memory.h"
#include "memory/plan_internal.h"

/* ---- rooms ---- */

int cst_rooms_find(const cst_rooms *r, uint64_t begin)
{
    int lo = 0, hi = r->n;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (r->room[mid].end <= begin) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

cst_status cst_rooms_set(cst_rooms *r, uint64_t begin, uint64_t end, int64_t mark)
{
    if (r->n + 2 > r->space) {
        int space = r->space ? 2 * r->space : 64;
        struct cst_room *q = realloc(r->room, (size_t)space * sizeof *q);
        if (!q) return cst_fail(CST_NO_MEMORY, "plan");
        r->room = q;
        r->space = space;
    }
    int i = cst_rooms_find(r, begin), j = i, n = 0;
    struct cst_room now[3];
    if (i < r->n && r->room[i].begin < begin) now[n++] = (struct cst_room){r->room[i].begin, begin, r->room[i].mark};
    now[n++] = (struct cst_room){begin, end, mark};
    while (j < r->n && r->room[j].begin < end) j++;
    if (j > i && r->room[j - 1].end > end) now[n++] = (struct cst_room){end, r->room[j - 1].end, r->room[j - 1].mark};
    memmove(r->room + i + n, r->room + j, (size_t)(r->n - j) * sizeof *r->room);
    memcpy(r->room + i, now, (size_t)n * sizeof *now);
    r->n += n - (j - i);
    return CST_OK;
}

/* ---- when uploads are issued ---- */

static int by_from(const void *a, const void *b)
{
    const cst_stay *x = a, *y = b;
    return x->from != y->from ? x->from - y->from : x->tensor - y->tensor;
}

static int is_upload(const cst_gaps *g, const cst_stay *s) { return s->in >= 0 && g->gap[s->in].paid; }

/* issue: the first moment at which an upload's place is free and the tensor has left; of one that is away, in the same
 * iteration. */
static cst_status soonest(cst_stays *y, const cst_gaps *g)
{
    cst_rooms *rooms = calloc((size_t)y->slabs + 1, sizeof *rooms);
    int n = g->t->moments;
    cst_status st = CST_OK;
    if (!rooms) return cst_fail(CST_NO_MEMORY, "plan");
    /* Through the cycle twice: the second time everyone finds whom he follows. */
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < y->n; i++) {
            cst_stay *s = &y->s[i];
            uint64_t begin = s->offset, end = begin + g->t->tensor[s->tensor].bytes;
            cst_rooms *r = &rooms[s->slab];
            if (s->in < 0) continue;
            s->issue = s->from;
            if (is_upload(g, s)) {
                s->issue = s->from - (g->gap[s->in].to - g->gap[s->in].from) + 1;
                if (g->gap[s->in].away && s->issue < 0) s->issue = 0;
                for (int k = cst_rooms_find(r, begin); k < r->n && r->room[k].begin < end; k++) {
                    int64_t free_at = r->room[k].mark - (int64_t)round * n;
                    if (free_at > s->issue) s->issue = (int)free_at;
                }
            }
            CST_GO(cst_rooms_set(r, begin, end, (int64_t)round * n + s->to + 1), done);
        }
done:
    for (int i = 0; i < y->slabs; i++) free(rooms[i].room);
    free(rooms);
    return st;
}

/* Let uploads queue in the order in which they are needed: none is issued before an earlier one. */
static void by_deadline(cst_stays *y, const cst_gaps *g)
{
    int last = -2 * g->t->moments;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < y->n; i++) {
            cst_stay *s = &y->s[i];
            if (!is_upload(g, s)) continue;
            if (s->issue < last) s->issue = last;
            last = s->issue;
        }
        last -= g->t->moments;
    }
}

/* ---- the plan ---- */

/* Whether the stay's content changes before moment `end`. */
static int changes(const cst_gaps *g, const cst_stay *s, int end)
{
    int first = g->first[s->tensor], n = g->first[s->tensor + 1] - first;
    if (s->in < 0) return 0;
    for (int k = s->in - first;;) {
        k = (k + 1) % n;
        int moment = g->gap[first + k].from;
        if (moment < s->from) moment += g->t->moments;
        if (moment >= end) return 0;
        if (g->changes[first + k]) return 1;
        if (first + k == s->out) return 0;
    }
}

typedef struct dated { cst_plan_action a; int rank, deadline; } dated;

static int by_date(const void *a, const void *b)
{
    const dated *x = a, *y = b;
    if (x->a.moment != y->a.moment) return x->a.moment - y->a.moment;
    if (x->rank != y->rank) return x->rank - y->rank;
    return x->deadline != y->deadline ? x->deadline - y->deadline : x->a.tensor - y->a.tensor;
}

static void add_actions(cst_plan *p, dated *q, const cst_stays *y, const cst_gaps *g)
{
    int n = g->t->moments;
    for (int i = 0; i < y->n; i++) {
        const cst_stay *s = &y->s[i];
        if (s->in < 0) continue;
        int upload = is_upload(g, s), evict = g->gap[s->out].paid, moved = evict && changes(g, s, 2 * n + 1);
        int in = upload ? s->issue : s->from, out = s->to + 1;
        cst_plan_action a = {in < 0 ? in + n : in, upload ? CST_PLAN_UPLOAD : CST_PLAN_PLACE, s->tensor, s->slab, s->offset, upload};
        q[p->actions++] = (dated){a, 1, in < 0 ? s->from + n : s->from};
        a = (cst_plan_action){out > n ? out - n : out, evict ? CST_PLAN_EVICT : CST_PLAN_DISCARD, s->tensor, s->slab, s->offset, moved};
        q[p->actions++] = (dated){a, 0, s->to};
        uint64_t bytes = g->t->tensor[s->tensor].bytes;
        p->up_bytes += upload ? bytes : 0;
        p->up_count += (uint64_t)upload;
        p->down_bytes += moved ? bytes : 0;
        p->down_count += (uint64_t)moved;
    }
    qsort(q, (size_t)p->actions, sizeof *q, by_date);
    for (int i = 0; i < p->actions; i++) p->action[i] = q[i].a;
}

static void set_start(cst_plan *p, const cst_stays *y, const cst_gaps *g)
{
    const cst_trace *t = g->t;
    for (int x = 0; x < t->tensors; x++) p->start[x] = (cst_plan_start){.slab = -1, .worthless = !t->tensor[x].persistent};
    for (int x = 0; x < t->tensors; x++) {
        int last = g->first[x + 1] - 1;
        if (last < g->first[x]) continue;
        /* The gap around the end is worthless when a WRITE follows; a kept one that touches says so by its first use. */
        for (int i = 0; i < t->moment[g->gap[g->first[x]].from].uses; i++) {
            const cst_trace_use *u = &t->use[t->moment[g->gap[g->first[x]].from].first + i];
            if (u->tensor == x && u->access == CST_WRITE && !u->held) p->start[x].worthless = 1;
        }
    }
    for (int i = 0; i < y->n; i++) {
        const cst_stay *s = &y->s[i];
        cst_plan_start *b = &p->start[s->tensor];
        int ahead = s->in >= 0 && is_upload(g, s) && s->issue < 0;
        if (s->in >= 0 && !ahead && s->to < t->moments) continue;
        b->slab = s->slab;
        b->offset = s->offset;
        if (s->in >= 0) b->changed = !ahead && changes(g, s, t->moments);
    }
    /* What is always there was changed by any use. */
    for (int i = 0; i < y->n; i++) {
        const cst_stay *s = &y->s[i];
        if (s->in >= 0) continue;
        for (int j = g->first[s->tensor]; j < g->first[s->tensor + 1]; j++) p->start[s->tensor].changed |= g->changes[j];
    }
    for (int j = 0; j < t->uses; j++) {
        const cst_trace_use *u = &t->use[j];
        if (t->tensor[u->tensor].fixed && u->access != CST_READ) p->start[u->tensor].changed = 1;
    }
    for (int x = 0; x < t->tensors; x++)
        if (p->start[x].worthless) p->start[x].changed = 0;
}

/* Add an interval [from, to] around n moments to their differences sum[n]. */
static void add_interval(int64_t *sum, int n, int from, int to, int64_t bytes)
{
    if (from < 0) {
        from += n;
        to += n;
    }
    sum[from % n] += bytes;
    if (to - from + 1 >= n) {
        sum[from % n] -= bytes;
        sum[0] += bytes;
    } else if (from % n + (to - from) >= n) {
        sum[0] += bytes;
        sum[(to + 1) % n] -= bytes;
    } else if (from % n + (to - from) + 1 < n) sum[from % n + (to - from) + 1] -= bytes;
}

static uint64_t largest(const int64_t *sum, int n)
{
    int64_t now = 0, most = 0;
    for (int m = 0; m < n; m++) {
        now += sum[m];
        if (now > most) most = now;
    }
    return (uint64_t)most;
}

static cst_status set_peaks(cst_plan *p, const cst_stays *y, const cst_gaps *g)
{
    const cst_trace *t = g->t;
    int n = t->moments;
    int64_t *device = calloc((size_t)n + 1, sizeof *device), *host = calloc((size_t)n + 1, sizeof *host);
    if (!device || !host) {
        free(device);
        free(host);
        return cst_fail(CST_NO_MEMORY, "plan");
    }
    for (int i = 0; i < y->n; i++) {
        const cst_stay *s = &y->s[i];
        int from = s->in < 0 ? 0 : is_upload(g, s) ? s->issue : s->from, to = s->in < 0 ? n - 1 : s->to;
        add_interval(device, n, from, to, (int64_t)t->tensor[s->tensor].bytes);
    }
    for (int i = 0; i < g->gaps; i++)
        if (g->gap[i].paid && !g->gap[i].keep)
            add_interval(host, n, g->gap[i].from + 1, g->gap[i].to - 1, (int64_t)t->tensor[g->gap[i].tensor].bytes);
    for (int x = 0; x < t->tensors; x++)
        if (g->first[x] == g->first[x + 1] && t->tensor[x].persistent && !t->tensor[x].fixed) host[0] += (int64_t)t->tensor[x].bytes;
    p->live_peak = largest(device, n);
    p->host_bytes = largest(host, n);
    free(device);
    free(host);
    return CST_OK;
}

cst_status cst_plan_actions(cst_plan **out, cst_stays *y, const cst_gaps *g, int order)
{
    cst_plan *p = calloc(1, sizeof *p);
    dated *q = malloc((2 * (size_t)y->n + 1) * sizeof *q);
    cst_status st;
    if (!p || !q) CST_GO(cst_fail(CST_NO_MEMORY, "plan"), fail);
    p->tensors = g->t->tensors;
    p->moments = g->t->moments;
    p->slabs = y->slabs;
    p->bytes = y->total;
    p->action = malloc((2 * (size_t)y->n + 1) * sizeof *p->action);
    p->start = malloc(((size_t)p->tensors + 1) * sizeof *p->start);
    p->slab = malloc(((size_t)p->slabs + 1) * sizeof *p->slab);
    if (!p->action || !p->start || !p->slab) CST_GO(cst_fail(CST_NO_MEMORY, "plan"), fail);
    if (p->slabs) memcpy(p->slab, y->top, (size_t)p->slabs * sizeof *p->slab);
    qsort(y->s, (size_t)y->n, sizeof *y->s, by_from);
    CST_GO(soonest(y, g), fail);
    if (!order) by_deadline(y, g);
    add_actions(p, q, y, g);
    set_start(p, y, g);
    CST_GO(set_peaks(p, y, g), fail);
    CST_GO(cst_plan_simulate(p, g->t), fail);
    free(q);
    *out = p;
    return CST_OK;
fail:
    free(q);
    cst_plan_free(p);
    return st;
}
