/* Places. What is always there lies at the bottom of the slabs; the other stays are taken one by one, large ones first, and
 * go to the lowest place that is free as long as they last. Stays that last long are in one list by offset, the short ones in
 * lists by time, so that few are looked at. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "memory/plan_internal.h"

#define BUCKETS 64
#define LONG (BUCKETS / 8)   /* buckets that a short stay may last */

typedef struct placed {
    uint64_t begin, end;     /* of the slab */
    int start, moments;      /* 0 <= start < moments of the trace */
    int slab, stay;
    int bucket, buckets;     /* those that it touches: so many from `bucket` on, around the end */
} placed;

typedef struct range { uint64_t begin, end; } range;

typedef struct placed_list {
    placed *p;
    int n, room;
} placed_list;

typedef struct packer {
    const cst_trace *t;
    cst_gaps *g;
    cst_stays *y;
    placed_list lasting, bucket[BUCKETS];
    range *found;            /* [founds], room for twice `ranges` */
    int founds, ranges;
    uint64_t *floor;         /* [slabs] below which all is always there */
    int *sorted, *urgent;    /* [stays' room]; urgent: failed so often, goes first */
    uint64_t limit;
    int64_t work;            /* of rejoining: stays looked at */
} packer;

static int is_permanent(const cst_stay *s) { return s->in < 0; }

static cst_status list_add(placed_list *l, int at, const placed *p)
{
    if (l->n == l->room) {
        int room = l->room ? 2 * l->room : 32;
        placed *q = realloc(l->p, (size_t)room * sizeof *q);
        if (!q) return cst_fail(CST_NO_MEMORY, "plan");
        l->p = q;
        l->room = room;
    }
    memmove(l->p + at + 1, l->p + at, (size_t)(l->n - at) * sizeof *l->p);
    l->p[at] = *p;
    l->n++;
    return CST_OK;
}

static void list_remove(placed_list *l, int stay)
{
    for (int i = 0; i < l->n; i++)
        if (l->p[i].stay == stay) {
            l->n--;
            memmove(l->p + i, l->p + i + 1, (size_t)(l->n - i) * sizeof *l->p);
            return;
        }
}

static int bucket_of(const packer *k, int moment) { return (int)((int64_t)(moment % k->t->moments) * BUCKETS / k->t->moments); }

static void set_buckets(const packer *k, placed *p)
{
    int n = k->t->moments, last = p->start + p->moments - 1, b = bucket_of(k, last) + (last >= n ? BUCKETS : 0);
    p->bucket = bucket_of(k, p->start);
    p->buckets = p->moments >= n || b - p->bucket + 1 > BUCKETS ? BUCKETS : b - p->bucket + 1;
}

/* A stay at a place. */
static placed placed_at(const packer *k, const cst_stay *s, int i)
{
    int n = k->t->moments, start = ((s->start % n) + n) % n;
    placed p = {.begin = s->offset, .end = s->offset + k->t->tensor[s->tensor].bytes, .start = start, .moments = s->end - s->start + 1,
                .slab = s->slab, .stay = i};
    set_buckets(k, &p);
    return p;
}

static placed place_of(const packer *k, int i) { return placed_at(k, &k->y->s[i], i); }

static int meet(const packer *k, const placed *a, const placed *b)
{
    int d = b->start - a->start;
    if (d < 0) return d + k->t->moments < a->moments || -d < b->moments;
    return d < a->moments || k->t->moments - d < b->moments;
}

static cst_status enter(packer *k, int i)
{
    placed p = place_of(k, i);
    if (p.buckets > LONG) {
        int lo = 0, hi = k->lasting.n;
        while (lo < hi) {
            int mid = (lo + hi) / 2;
            if (k->lasting.p[mid].begin < p.begin) lo = mid + 1;
            else hi = mid;
        }
        return list_add(&k->lasting, lo, &p);
    }
    for (int b = 0; b < p.buckets; b++) {
        placed_list *l = &k->bucket[(p.bucket + b) % BUCKETS];
        CST_TRY(list_add(l, l->n, &p));
    }
    return CST_OK;
}

static void take_out(packer *k, int i)
{
    placed p = place_of(k, i);
    if (p.buckets > LONG) list_remove(&k->lasting, i);
    else
        for (int b = 0; b < p.buckets; b++) list_remove(&k->bucket[(p.bucket + b) % BUCKETS], i);
}

/* Sort ranges by where they begin: in merges, for there are millions of short lists. */
static void sort_ranges(range *r, range *other, int n)
{
    for (int i = 0; i < n; i += 8)
        for (int j = i + 1; j < n && j < i + 8; j++) {
            range one = r[j];
            int at = j;
            for (; at > i && r[at - 1].begin > one.begin; at--) r[at] = r[at - 1];
            r[at] = one;
        }
    for (int width = 8; width < n; width *= 2) {
        for (int i = 0; i < n; i += 2 * width) {
            int mid = i + width < n ? i + width : n, end = i + 2 * width < n ? i + 2 * width : n;
            for (int a = i, b = mid, at = i; at < end; at++)
                other[at] = b == end || (a < mid && r[a].begin <= r[b].begin) ? r[a++] : r[b++];
        }
        memcpy(r, other, (size_t)n * sizeof *r);
    }
}

/* found: the short stays of a slab that meet p, by offset. Each is taken from the first bucket that both touch. */
static cst_status find_short(packer *k, const placed *p, int slab)
{
    int most = 0;
    for (int b = 0; b < p->buckets; b++) most += k->bucket[(p->bucket + b) % BUCKETS].n;
    if (most > k->ranges) {
        range *r = realloc(k->found, 4 * (size_t)most * sizeof *r);
        if (!r) return cst_fail(CST_NO_MEMORY, "plan");
        k->found = r;
        k->ranges = 2 * most; /* and as many to sort with */
    }
    k->founds = 0;
    for (int b = 0; b < p->buckets; b++) {
        int at = (p->bucket + b) % BUCKETS;
        const placed_list *l = &k->bucket[at];
        for (int i = 0; i < l->n; i++)
            if (l->p[i].slab == slab && (!b || l->p[i].bucket == at) && meet(k, p, &l->p[i]))
                k->found[k->founds++] = (range){l->p[i].begin, l->p[i].end};
    }
    sort_ranges(k->found, k->found + k->ranges, k->founds);
    return CST_OK;
}

/* Lowest offset in a slab that is free for p. */
static cst_status lowest(packer *k, const placed *p, int slab, uint64_t bytes, uint64_t *offset)
{
    uint64_t at = k->floor[slab];
    int i = 0, j = 0;
    CST_TRY(find_short(k, p, slab));
    for (;;) {
        const placed_list *l = &k->lasting;
        range next = {UINT64_MAX, 0};
        while (i < l->n && (l->p[i].slab != slab || l->p[i].end <= at || !meet(k, p, &l->p[i]))) i++;
        if (i < l->n) next = (range){l->p[i].begin, l->p[i].end};
        if (j < k->founds && k->found[j].begin < next.begin) next = k->found[j++];
        else i++;
        if (next.begin >= at + bytes) break;
        if (next.end > at) at = next.end;
    }
    *offset = at;
    return CST_OK;
}

/* The place that makes the slabs grow least, the lowest of those. *done = 0: none within the limit. */
static cst_status place(packer *k, int i, int *done)
{
    cst_stays *y = k->y;
    cst_stay *s = &y->s[i];
    uint64_t bytes = k->t->tensor[s->tensor].bytes, least = UINT64_MAX;
    placed p = place_of(k, i);
    for (int slab = 0; slab < y->slabs && least; slab++) {
        uint64_t at, growth;
        if (is_permanent(s)) at = k->floor[slab];
        else CST_TRY(lowest(k, &p, slab, bytes, &at));
        growth = at + bytes > y->top[slab] ? at + bytes - y->top[slab] : 0;
        if (at + bytes > k->t->max_slab || growth >= least) continue;
        least = growth;
        s->slab = slab;
        s->offset = at;
    }
    *done = 0;
    if (least == UINT64_MAX) {
        if (y->total + bytes > k->limit) return CST_OK;
        s->slab = y->slabs++;
        s->offset = 0;
        least = bytes;
        y->top[s->slab] = k->floor[s->slab] = 0;
    } else if (y->total + least > k->limit) return CST_OK;
    *done = 1;
    y->top[s->slab] += least;
    y->total += least;
    if (!is_permanent(s)) return enter(k, i);
    k->floor[s->slab] = s->offset + bytes;
    return CST_OK;
}

/* ---- orders ---- */

typedef struct keyed { double key; int urgent, i; } keyed;

static int by_key(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    if (x->urgent != y->urgent) return y->urgent - x->urgent;
    return x->key != y->key ? (x->key < y->key) - (x->key > y->key) : (x->i > y->i) - (x->i < y->i);
}

static cst_status sort_stays(packer *k, int order)
{
    cst_stays *y = k->y;
    keyed *q = malloc(((size_t)y->n + 1) * sizeof *q);
    if (!q) return cst_fail(CST_NO_MEMORY, "plan");
    for (int i = 0; i < y->n; i++) {
        const cst_stay *s = &y->s[i];
        double b = (double)k->t->tensor[s->tensor].bytes, part = (double)(s->end - s->start + 1) / k->t->moments;
        double key = order == 0 ? b + (part * BUCKETS > LONG ? 1e18 : 0) : order == 4 ? b + 0.9 * part : order == 1 ? b * part : order == 2 ? part + 1e-14 * b : -s->start;
        q[i] = (keyed){key, k->t->tensor[s->tensor].fixed ? INT_MAX : is_permanent(s) ? 1 << 30 : k->urgent[i], i};
    }
    qsort(q, (size_t)y->n, sizeof *q, by_key);
    for (int i = 0; i < y->n; i++) k->sorted[i] = q[i].i;
    free(q);
    return CST_OK;
}

static void clear(packer *k)
{
    k->lasting.n = 0;
    for (int b = 0; b < BUCKETS; b++) k->bucket[b].n = 0;
    k->y->slabs = 0;
    k->y->total = 0;
}

static cst_status packer_make(packer *k, cst_stays *y, cst_gaps *g, uint64_t limit)
{
    /* Splits add at most one stay a gap. */
    size_t n = (size_t)y->n + (size_t)g->gaps + 1;
    *k = (packer){.t = g->t, .g = g, .y = y, .limit = limit};
    k->sorted = malloc(n * sizeof *k->sorted);
    k->urgent = calloc(n, sizeof *k->urgent);
    k->floor = calloc(n, sizeof *k->floor);
    cst_stay *s = realloc(y->s, n * sizeof *s);
    uint64_t *top = realloc(y->top, n * sizeof *top);
    if (s) {
        y->s = s;
        y->room = (int)n;
    }
    if (top) y->top = top;
    return s && top && k->sorted && k->urgent && k->floor ? CST_OK : cst_fail(CST_NO_MEMORY, "plan");
}

static void packer_free(packer *k)
{
    for (int b = 0; b < BUCKETS; b++) free(k->bucket[b].p);
    free(k->lasting.p);
    free(k->found);
    free(k->floor);
    free(k->sorted);
    free(k->urgent);
}

/* ---- packing, with splits ---- */

/* Split stay i at the longest paid gap in it; the part after the gap becomes stay *rest. -1: it was always there, and now
 * lasts from the gap's end around to its beginning. 0: nothing to split. */
static int split(packer *k, int i, int *rest)
{
    cst_stay *s = &k->y->s[i];
    int n = k->t->moments, at = -1, span = 0;
    for (int j = k->g->first[s->tensor]; j < k->g->first[s->tensor + 1]; j++) {
        const cst_gap *a = &k->g->gap[j];
        int from = a->from;
        if (!a->paid || !a->keep || a->to - a->from <= span) continue;
        if (from < s->from && !is_permanent(s)) from += n;
        if (!is_permanent(s) && from + (a->to - a->from) > s->to) continue;
        span = a->to - a->from;
        at = j;
    }
    *rest = -1;
    if (at < 0 || k->y->n == k->y->room) return 0;
    cst_gap *a = &k->g->gap[at];
    a->keep = 0;
    if (is_permanent(s)) {
        s->in = s->out = at;
        s->from = s->start = a->to % n;
        s->to = s->end = a->from < s->from ? a->from + n : a->from;
        return 1;
    }
    cst_stay *r = &k->y->s[k->y->n];
    *rest = k->y->n++;
    *r = *s;
    int from = a->from < s->from ? a->from + n : a->from;
    s->to = s->end = from;
    s->out = at;
    int shift = from + span >= n ? n : 0;
    r->from = r->start = from + span - shift;
    r->to -= shift;
    r->end = r->to;
    r->in = at;
    k->urgent[*rest] = k->urgent[i];
    return 1;
}

static cst_status place_or_split(packer *k, int i, int *fits)
{
    int todo[2] = {i, -1}, n = 1;
    /* The second half waits on the machine's stack while the first one is placed. */
    while (n) {
        int one = todo[--n], done, rest;
        cst_stay *s = &k->y->s[one];
        CST_TRY(place(k, one, &done));
        if (done) continue;
        if (!is_permanent(s) && (s->start < s->from || s->end > s->to)) {
            s->start = s->from;
            s->end = s->to;
            todo[n++] = one;
            continue;
        }
        if (!split(k, one, &rest)) {
            *fits = 0;
            k->urgent[one]++;
            continue;
        }
        if (rest >= 0) {
            int whole = *fits;
            CST_TRY(place_or_split(k, rest, &whole));
            *fits &= whole;
        }
        todo[n++] = one;
    }
    return CST_OK;
}

/* What is always there; where that is too much, stays become others, placed later. */
static cst_status place_permanent(packer *k, int *fits)
{
    for (int i = 0, n = k->y->n, done, rest; i < n; i++) {
        if (!is_permanent(&k->y->s[k->sorted[i]])) continue;
        CST_TRY(place(k, k->sorted[i], &done));
        if (!done && !split(k, k->sorted[i], &rest)) *fits = 0;
    }
    return CST_OK;
}

/* Places without splits: what finds none goes first in the next round. *fits = 0: after all rounds some has none, and `urgent` is as
 * it was in the round that left out the fewest bytes. */
static cst_status pack_patiently(packer *k, int order, int rounds, int *fits)
{
    cst_stays *y = k->y;
    uint64_t fewest = UINT64_MAX;
    size_t size = ((size_t)y->n + 1) * sizeof *k->urgent;
    int *best = malloc(size), *urgent = malloc(size);
    cst_status st = best && urgent ? CST_OK : cst_fail(CST_NO_MEMORY, "plan");
    for (int round = 0; round < rounds && fewest && st == CST_OK; round++) {
        uint64_t out = 0;
        memcpy(urgent, k->urgent, size);
        clear(k);
        CST_GO(sort_stays(k, order), done);
        for (int i = 0, placed_now; i < y->n; i++) {
            CST_GO(place(k, k->sorted[i], &placed_now), done);
            if (placed_now) continue;
            out += k->t->tensor[y->s[k->sorted[i]].tensor].bytes;
            k->urgent[k->sorted[i]]++;
        }
        if (out >= fewest) continue;
        fewest = out;
        memcpy(best, urgent, size);
    }
    *fits = !fewest;
    if (fewest < UINT64_MAX) memcpy(k->urgent, best, size);
done:
    free(best);
    free(urgent);
    return st;
}

cst_status cst_plan_pack(cst_stays *y, cst_gaps *g, uint64_t limit, int order, int patience, int *fits)
{
    enum { ROUNDS = 6 };
    packer k;
    cst_status st = packer_make(&k, y, g, limit);
    *fits = 0;
    if (st == CST_OK) st = pack_patiently(&k, order, patience, fits);
    for (int round = 0; round < ROUNDS && st == CST_OK && !*fits; round++) {
        clear(&k);
        *fits = 1;
        CST_GO(sort_stays(&k, order), done);
        CST_GO(place_permanent(&k, fits), done);
        for (int i = 0, n = y->n; i < n && *fits; i++)
            if (!is_permanent(&y->s[k.sorted[i]])) CST_GO(place_or_split(&k, k.sorted[i], fits), done);
    }
done:
    packer_free(&k);
    return st;
}

/* ---- the best of several orders ---- */

/* What reaches highest goes earlier the next time. */
static void hurry(packer *k)
{
    cst_stays *y = k->y;
    for (int i = 0; i < y->n; i++) {
        const cst_stay *s = &y->s[i];
        if (!is_permanent(s) && s->offset + k->t->tensor[s->tensor].bytes == y->top[s->slab]) k->urgent[i]++;
    }
}

cst_status cst_plan_pack_best(cst_stays *y, cst_gaps *g, uint64_t limit)
{
    enum { ORDERS = 5 };
    int rounds = 4000 / (y->n + 20);
    if (rounds > 60) rounds = 60;
    if (rounds < 3) rounds = 3;
    packer k;
    cst_stay *best = NULL;
    uint64_t *top = NULL, total = UINT64_MAX;
    int slabs = 0;
    cst_status st;
    CST_GO(packer_make(&k, y, g, UINT64_MAX), done);
    best = malloc(((size_t)y->n + 1) * sizeof *best);
    if (!best) CST_GO(cst_fail(CST_NO_MEMORY, "plan"), done);
    for (int order = 0; order < ORDERS && total > limit; order++) {
        memset(k.urgent, 0, (size_t)y->n * sizeof *k.urgent);
        for (int round = 0; round < rounds && total > limit; round++) {
            clear(&k);
            CST_GO(sort_stays(&k, order), done);
            for (int i = 0, placed_now; i < y->n; i++) CST_GO(place(&k, k.sorted[i], &placed_now), done);
            hurry(&k);
            if (y->total >= total) continue;
            uint64_t *q = realloc(top, ((size_t)y->slabs + 1) * sizeof *q);
            if (!q) CST_GO(cst_fail(CST_NO_MEMORY, "plan"), done);
            top = q;
            memcpy(best, y->s, (size_t)y->n * sizeof *best);
            if (y->slabs) memcpy(top, y->top, (size_t)y->slabs * sizeof *top);
            total = y->total;
            slabs = y->slabs;
        }
    }
    memcpy(y->s, best, (size_t)y->n * sizeof *best);
    if (slabs) memcpy(y->top, top, (size_t)slabs * sizeof *top);
    y->slabs = slabs;
    y->total = total;
done:
    packer_free(&k);
    free(best);
    free(top);
    return st;
}

/* ---- rejoining ---- */

/* Whether nothing but stays a and b is in p's range of its slab while p lasts. */
static int is_free(packer *k, const placed *p, int a, int b)
{
    k->work += k->lasting.n;
    for (int i = 0; i < k->lasting.n; i++) {
        const placed *q = &k->lasting.p[i];
        if (q->slab == p->slab && q->begin < p->end && q->end > p->begin && q->stay != a && q->stay != b && meet(k, p, q)) return 0;
    }
    for (int j = 0; j < p->buckets; j++) {
        const placed_list *l = &k->bucket[(p->bucket + j) % BUCKETS];
        k->work += l->n;
        for (int i = 0; i < l->n; i++) {
            const placed *q = &l->p[i];
            if (q->slab == p->slab && q->begin < p->end && q->end > p->begin && q->stay != a && q->stay != b && meet(k, p, q)) return 0;
        }
    }
    return 1;
}

/* Keep gap i between stays a and b (the same one where it is the tensor's only gap) if a's place or b's is free for both. */
static cst_status join(packer *k, int i, int a, int b, int *joined)
{
    cst_gap *gap = &k->g->gap[i];
    cst_stay whole = k->y->s[a], *s = &k->y->s[a], *r = &k->y->s[b];
    int n = k->t->moments;
    *joined = 0;
    whole.to = a == b ? s->from + n - 1 : s->to + (gap->to - gap->from) + (r->to - r->from);
    whole.start = a == b ? s->from : s->start;
    whole.end = a == b ? whole.to : whole.to + (r->end - r->to);
    if (whole.end - whole.start >= n) return CST_OK;
    for (int try = 0; try < 2 && !*joined; try++) {
        const cst_stay *home = try ? r : s;
        whole.slab = home->slab;
        whole.offset = home->offset;
        placed p = placed_at(k, &whole, a);
        *joined = is_free(k, &p, a, b);
    }
    if (!*joined) return CST_OK;
    take_out(k, a);
    if (b != a) take_out(k, b);
    whole.out = r->out;
    if (a == b) {
        whole.in = whole.out = -1;
        whole.from = whole.start = 0;
        whole.to = whole.end = n - 1;
    }
    *s = whole;
    if (b != a) r->tensor = -1;
    gap->keep = 1;
    return enter(k, a);
}

cst_status cst_plan_rejoin(cst_stays *y, cst_gaps *g)
{
    enum { WORK = 12000000 };
    packer k;
    int *before = malloc(((size_t)g->gaps + 1) * sizeof *before), *after = malloc(((size_t)g->gaps + 1) * sizeof *after);
    keyed *q = malloc(((size_t)g->gaps + 1) * sizeof *q);
    int n = 0, joined;
    cst_status st;
    CST_GO(packer_make(&k, y, g, 0), done);
    if (!before || !after || !q) CST_GO(cst_fail(CST_NO_MEMORY, "plan"), done);
    for (int i = 0; i < y->n; i++) {
        if (is_permanent(&y->s[i])) continue;
        before[y->s[i].out] = i;
        after[y->s[i].in] = i;
        CST_GO(enter(&k, i), done);
    }
    for (int i = 0; i < g->gaps; i++) {
        const cst_gap *a = &g->gap[i];
        if (a->paid && !a->keep && !a->away) q[n++] = (keyed){-(a->to - a->from), 0, i};
    }
    qsort(q, (size_t)n, sizeof *q, by_key);
    for (int j = 0; j < n && k.work < WORK; j++) {
        int i = q[j].i, a = before[i], b = after[i];
        CST_GO(join(&k, i, a, b, &joined), done);
        if (!joined) continue;
        if (y->s[a].out >= 0) before[y->s[a].out] = a;
    }
    int kept = 0;
    for (int i = 0; i < y->n; i++)
        if (y->s[i].tensor >= 0) y->s[kept++] = y->s[i];
    y->n = kept;
done:
    packer_free(&k);
    free(before);
    free(after);
    free(q);
    return st;
}
