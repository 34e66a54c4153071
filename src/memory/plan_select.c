/* Which gaps to keep. A gap kept saves its upload, and its download if it is the last of its group, and takes its bytes at
 * all moments between its uses. Moments that could be over-full become slots; the rest doesn't matter.
 *
 * Prices per byte and slot come from the Lagrangian relaxation of the slots' room, by subgradients: without the room's limits
 * each group decides alone, so one evaluation costs a pass over gaps and slots, and its value is a lower bound of the bytes
 * moved. Gaps then enter by worth over price while there is room, and a local search forces one in, drops what is worth least
 * where that overflows, and fills again. Work is bounded by counts, never by clocks: the same trace gives the same plan. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memory/plan_internal.h"

#define BLOCK 32

typedef struct candidate {
    int gap, group;          /* group: of this selection, see group_first */
    int lo, hi;              /* slots [lo, hi); hi > slots: around the end */
    int keep;
    int64_t bytes;
    double order;            /* what it is sorted by */
} candidate;

typedef struct selection {
    candidate *c;
    int n, slots, groups;
    int *slot_of;            /* [moments]: slot, or -1 */
    int *group_first;        /* [groups + 1] into c */
    int *given_up;           /* [groups] of its candidates */
    int64_t *download;       /* [groups] */
    int64_t *limit;          /* [slots] bytes beside what is used */
    int64_t *room;           /* [slots] of that still free, less its block's `added` */
    int64_t *least, *added;  /* [blocks] */
    double *price, *sum, *gradient, *direction, *best; /* by slot; sum: [2 slots + 1] */
    int64_t settled;         /* bytes moved whatever is chosen here */
    int *sorted;             /* [n] */
    int *removed;            /* [2 n + 8] log of a step of the search: ~i put in, i taken out */
    int removals;
    int64_t work;            /* of the search: candidates and slots looked at */
    uint64_t random;
} selection;

static uint64_t draw(selection *s)
{
    uint64_t z = s->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* ---- room ---- */

static void block_least(selection *s, int k)
{
    int end = (k + 1) * BLOCK < s->slots ? (k + 1) * BLOCK : s->slots;
    int64_t m = INT64_MAX;
    for (int i = k * BLOCK; i < end; i++)
        if (s->room[i] < m) m = s->room[i];
    s->least[k] = m + s->added[k];
}

/* Least room of slots [lo, hi), hi <= slots. */
static int64_t least_in(const selection *s, int lo, int hi)
{
    int64_t m = INT64_MAX;
    for (int i = lo; i < hi;) {
        int k = i / BLOCK, end = (k + 1) * BLOCK;
        if (i == k * BLOCK && end <= hi) {
            if (s->least[k] < m) m = s->least[k];
            i = end;
            continue;
        }
        if (end > hi) end = hi;
        int64_t b = INT64_MAX;
        for (; i < end; i++)
            if (s->room[i] < b) b = s->room[i];
        if (b + s->added[k] < m) m = b + s->added[k];
    }
    return m;
}

static void add_in(selection *s, int lo, int hi, int64_t bytes)
{
    for (int i = lo; i < hi;) {
        int k = i / BLOCK, end = (k + 1) * BLOCK;
        if (i == k * BLOCK && end <= hi) {
            s->added[k] += bytes;
            s->least[k] += bytes;
            i = end;
            continue;
        }
        if (end > hi) end = hi;
        for (; i < end; i++) s->room[i] += bytes;
        block_least(s, k);
    }
}

static int64_t least(const selection *s, const candidate *c)
{
    if (c->hi <= s->slots) return least_in(s, c->lo, c->hi);
    int64_t a = least_in(s, c->lo, s->slots), b = least_in(s, 0, c->hi - s->slots);
    return a < b ? a : b;
}

static void set_keep(selection *s, candidate *c, int keep)
{
    int64_t bytes = keep ? -c->bytes : c->bytes;
    if (c->keep == keep) return;
    c->keep = keep;
    s->given_up[c->group] += keep ? -1 : 1;
    add_in(s, c->lo, c->hi < s->slots ? c->hi : s->slots, bytes);
    if (c->hi > s->slots) add_in(s, 0, c->hi - s->slots, bytes);
}

/* Bytes moved less if c, given up, is kept; more if c, kept, is given up. */
static int64_t worth(const selection *s, const candidate *c)
{
    return c->bytes + (s->given_up[c->group] == (c->keep ? 0 : 1) ? s->download[c->group] : 0);
}

static int64_t moved(const selection *s)
{
    int64_t sum = s->settled;
    for (int i = 0; i < s->n; i++)
        if (!s->c[i].keep) sum += s->c[i].bytes;
    for (int q = 0; q < s->groups; q++)
        if (s->given_up[q]) sum += s->download[q];
    return sum;
}

/* ---- building ---- */

static void selection_free(selection *s)
{
    free(s->c);
    free(s->slot_of);
    free(s->group_first);
    free(s->given_up);
    free(s->download);
    free(s->limit);
    free(s->room);
    free(s->least);
    free(s->added);
    free(s->price);
    free(s->sum);
    free(s->gradient);
    free(s->direction);
    free(s->best);
    free(s->sorted);
    free(s->removed);
}

static cst_status selection_alloc(selection *s, const cst_gaps *g)
{
    size_t n = (size_t)g->gaps + 1, m = (size_t)g->t->moments + 2, q = (size_t)g->groups + 2;
    *s = (selection){.random = 88172645463325252u};
    s->c = malloc(n * sizeof *s->c);
    s->slot_of = malloc(m * sizeof *s->slot_of);
    s->group_first = calloc(q, sizeof *s->group_first);
    s->given_up = calloc(q, sizeof *s->given_up);
    s->download = calloc(q, sizeof *s->download);
    s->limit = malloc(m * sizeof *s->limit);
    s->room = malloc(m * sizeof *s->room);
    s->least = calloc(m, sizeof *s->least);
    s->added = calloc(m, sizeof *s->added);
    s->price = calloc(m, sizeof *s->price);
    s->sum = malloc(2 * m * sizeof *s->sum);
    s->gradient = malloc(2 * m * sizeof *s->gradient);
    s->direction = calloc(m, sizeof *s->direction);
    s->best = calloc(m, sizeof *s->best);
    s->sorted = malloc(n * sizeof *s->sorted);
    s->removed = malloc(2 * (n + 4) * sizeof *s->removed);
    if (s->c && s->slot_of && s->group_first && s->given_up && s->download && s->limit && s->room && s->least && s->added && s->price &&
        s->sum && s->gradient && s->direction && s->best && s->sorted && s->removed)
        return CST_OK;
    selection_free(s);
    return cst_fail(CST_NO_MEMORY, "plan");
}

/* Lead times take what is left beside the uses, a part of each gap's at a time; they end where it isn't enough. used[m]
 * becomes uses and leads. */
static cst_status fit_leads(cst_gaps *g, uint64_t *used, uint64_t capacity)
{
    enum { PARTS = 4 };
    int n = g->t->moments;
    struct lead { int head, tail; } *want = malloc(((size_t)g->gaps + 1) * sizeof *want);
    if (!want) return cst_fail(CST_NO_MEMORY, "plan");
    for (int i = 0; i < g->gaps; i++) {
        want[i] = (struct lead){g->gap[i].head, g->gap[i].tail};
        g->gap[i].head = g->gap[i].tail = 0;
    }
    memcpy(used, g->use, (size_t)n * sizeof *used);
    for (int part = 1; part <= PARTS; part++)
        for (int i = 0; i < g->gaps; i++) {
            cst_gap *a = &g->gap[i];
            uint64_t b = g->t->tensor[a->tensor].bytes;
            int span = a->to - a->from - 1;
            if (!a->paid) continue;
            for (int most = (want[i].head * part + PARTS - 1) / PARTS; a->head < most && a->head + a->tail < span; a->head++) {
                uint64_t *u = &used[(a->to - 1 - a->head) % n];
                if (*u + b > capacity) break;
                *u += b;
            }
            for (int most = (want[i].tail * part + PARTS - 1) / PARTS; a->tail < most && a->tail + a->head < span; a->tail++) {
                uint64_t *u = &used[(a->from + 1 + a->tail) % n];
                if (*u + b > capacity) break;
                *u += b;
            }
        }
    free(want);
    return CST_OK;
}

/* Slots: moments that would be over-full if all gaps were kept, neighbours joined where no gap begins or ends between. */
static cst_status make_slots(selection *s, const cst_gaps *g, const uint64_t *used, uint64_t capacity)
{
    int n = g->t->moments, fresh = 1;
    uint64_t *full = calloc((size_t)n + 1, sizeof *full);
    uint8_t *border = calloc((size_t)n + 1, 1);
    if (!full || !border) {
        free(full);
        free(border);
        return cst_fail(CST_NO_MEMORY, "plan");
    }
    cst_gaps_full(g, full);
    for (int i = 0; i < g->gaps; i++)
        if (g->gap[i].paid) border[(g->gap[i].from + 1 + g->gap[i].tail) % n] = border[(g->gap[i].to - g->gap[i].head) % n] = 1;
    for (int m = 0; m < n; m++) {
        fresh |= border[m];
        s->slot_of[m] = -1;
        if (full[m] <= capacity) continue;
        int64_t left = (int64_t)(capacity - used[m]);
        if (fresh || !s->slots) s->limit[s->slots++] = left;
        else if (left < s->limit[s->slots - 1]) s->limit[s->slots - 1] = left;
        s->slot_of[m] = s->slots - 1;
        fresh = 0;
    }
    free(full);
    free(border);
    return CST_OK;
}

/* Candidates: paid gaps that cover slots where they fit. The others are settled: kept if they cover none, else given up. */
static void make_candidates(selection *s, cst_gaps *g, int *upto)
{
    int n = g->t->moments;
    upto[0] = 0;
    for (int m = 0; m < n; m++) upto[m + 1] = s->slot_of[m] < 0 ? upto[m] : s->slot_of[m] + 1;
    memcpy(s->room, s->limit, (size_t)s->slots * sizeof *s->room);
    for (int k = 0; k * BLOCK < s->slots; k++) block_least(s, k);
    for (int q = 0; q < g->groups; q++) s->given_up[q] = 0; /* here: 1 where one of the group is given up for certain */
    for (int i = 0; i < g->gaps; i++) {
        cst_gap *a = &g->gap[i];
        int first = a->from + 1 + a->tail, end = a->to - a->head;
        if (!a->paid) continue;
        if (a->away) {
            s->settled += (int64_t)g->t->tensor[a->tensor].bytes;
            s->given_up[a->group] = 1;
            continue;
        }
        int lo = first < n ? upto[first] : s->slots + upto[first - n], hi = end <= n ? upto[end] : s->slots + upto[end - n];
        /* upto[first] counts a slot that begins before `first` only if it ends there: borders part slots. */
        candidate c = {.gap = i, .group = a->group, .bytes = (int64_t)g->t->tensor[a->tensor].bytes};
        c.lo = lo >= s->slots ? lo - s->slots : lo;
        c.hi = hi - (lo - c.lo);
        a->keep = first >= end || lo >= hi;
        if (a->keep) continue;
        if (least(s, &c) < c.bytes) {
            s->settled += c.bytes;
            s->given_up[a->group] = 1;
        } else s->c[s->n++] = c;
    }
    for (int q = 0; q < g->groups; q++)
        if (s->given_up[q]) s->settled += (int64_t)g->download[q];
}

static int by_group(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    return x->group != y->group ? (x->group > y->group) - (x->group < y->group) : (x->gap > y->gap) - (x->gap < y->gap);
}

static void make_groups(selection *s, const cst_gaps *g)
{
    qsort(s->c, (size_t)s->n, sizeof *s->c, by_group);
    for (int i = 0, last = -1; i < s->n; i++) {
        int old = s->c[i].group;
        if (old != last) {
            s->download[s->groups] = s->given_up[old] ? 0 : (int64_t)g->download[old];
            s->group_first[s->groups++] = i;
            last = old;
        }
        s->c[i].group = s->groups - 1;
    }
    s->group_first[s->groups] = s->n;
    for (int q = 0; q < s->groups; q++) s->given_up[q] = s->group_first[q + 1] - s->group_first[q];
}

static cst_status selection_make(selection *s, cst_gaps *g, uint64_t capacity)
{
    if (g->need > capacity)
        return cst_fail(CST_OVER_BUDGET, "moment %d (%s) uses %llu bytes at once, there are %llu", g->need_moment,
                        g->t->moment[g->need_moment].op, (unsigned long long)g->need, (unsigned long long)capacity);
    uint64_t *used = malloc(((size_t)g->t->moments + 1) * sizeof *used);
    if (!used) return cst_fail(CST_NO_MEMORY, "plan");
    cst_status st = selection_alloc(s, g);
    if (st == CST_OK) {
        st = fit_leads(g, used, capacity);
        if (st == CST_OK) st = make_slots(s, g, used, capacity);
        if (st != CST_OK) selection_free(s);
    }
    free(used);
    if (st != CST_OK) return st;
    int *upto = malloc(((size_t)g->t->moments + 2) * sizeof *upto);
    if (!upto) {
        selection_free(s);
        return cst_fail(CST_NO_MEMORY, "plan");
    }
    make_candidates(s, g, upto);
    make_groups(s, g);
    free(upto);
    return CST_OK;
}

/* ---- prices ---- */

static void sum_prices(selection *s, const double *price)
{
    s->sum[0] = 0;
    for (int i = 0; i < s->slots; i++) s->sum[i + 1] = s->sum[i] + price[i];
    for (int i = 0; i < s->slots; i++) s->sum[s->slots + i + 1] = s->sum[s->slots] + s->sum[i + 1];
}

/* The relaxation's value at these prices: no choice moves fewer bytes. gradient: by how much each slot overflows. */
static double relax(selection *s, const double *price)
{
    double value = (double)s->settled, *diff = s->gradient;
    int n = s->slots;
    sum_prices(s, price);
    memset(diff, 0, (size_t)(2 * n + 1) * sizeof *diff);
    for (int q = 0; q < s->groups; q++) {
        double whole = 0, parts = (double)s->download[q];
        for (int i = s->group_first[q]; i < s->group_first[q + 1]; i++) {
            double b = (double)s->c[i].bytes, p = b * (s->sum[s->c[i].hi] - s->sum[s->c[i].lo]);
            whole += p;
            parts += p < b ? p : b;
        }
        int all = whole <= parts;
        value += all ? whole : parts;
        for (int i = s->group_first[q]; i < s->group_first[q + 1]; i++) {
            const candidate *c = &s->c[i];
            if (!all && s->sum[c->hi] - s->sum[c->lo] >= 1) continue;
            diff[c->lo] += (double)c->bytes;
            diff[c->hi] -= (double)c->bytes;
        }
    }
    for (int i = 1; i < 2 * n; i++) diff[i] += diff[i - 1];
    for (int i = 0; i < n; i++) {
        diff[i] += diff[n + i] - (double)s->limit[i];
        value -= price[i] * (double)s->limit[i];
    }
    return value;
}

/* Raise the relaxation's value, from s->price on; upper: bytes moved of some selection. s->best gets the best prices. Steps
 * are Polyak's along an average of gradients (Camerini, Fratta, Maffioli, 1975), shortened after `patience` ones in vain. */
static double raise_bound(selection *s, double upper, int steps, int patience)
{
    double best = -DBL_MAX, share = 1;
    int since = 0;
    memset(s->direction, 0, (size_t)s->slots * sizeof *s->direction);
    for (int k = 0; k < steps; k++) {
        double value = relax(s, s->price), norm = 0;
        since++;
        if (value > best) {
            if (value > best + 1e-4 * (upper - best)) since = 0;
            best = value;
            memcpy(s->best, s->price, (size_t)s->slots * sizeof *s->best);
        }
        if (upper - best < 0.5) break;
        if (since >= patience) {
            since = 0;
            share *= 0.8;
            memcpy(s->price, s->best, (size_t)s->slots * sizeof *s->best);
            memset(s->direction, 0, (size_t)s->slots * sizeof *s->direction);
            if (share < 1e-4) break;
            continue;
        }
        for (int i = 0; i < s->slots; i++) {
            double d = s->gradient[i] + 0.75 * s->direction[i];
            if (s->price[i] <= 0 && d < 0) d = 0;
            s->direction[i] = d;
            norm += d * d;
        }
        if (norm <= 0) break;
        double step = share * (upper - value) / norm;
        for (int i = 0; i < s->slots; i++) {
            double p = s->price[i] + step * s->direction[i];
            s->price[i] = p > 0 ? p : 0;
        }
    }
    return best;
}

/* ---- filling and searching ---- */

typedef struct ranked { double order; int i; } ranked;

static int by_order(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return x->order != y->order ? (x->order < y->order) - (x->order > y->order) : (x->i > y->i) - (x->i < y->i);
}

/* Put the n candidates of list in order of falling c[].order. */
static void rank(selection *s, int *list, int n)
{
    ranked small[64], *r = n <= 64 ? small : malloc((size_t)n * sizeof *r);
    if (!r) return; /* any order is a right one */
    for (int i = 0; i < n; i++) r[i] = (ranked){s->c[list[i]].order, list[i]};
    qsort(r, (size_t)n, sizeof *r, by_order);
    for (int i = 0; i < n; i++) list[i] = r[i].i;
    if (r != small) free(r);
}

/* Worth over price, with what is left of it where prices are zero. */
static void order_by_price(selection *s, const double *price)
{
    if (price) sum_prices(s, price);
    for (int i = 0; i < s->n; i++) {
        candidate *c = &s->c[i];
        int k = s->group_first[c->group + 1] - s->group_first[c->group];
        double w = (double)c->bytes + (double)s->download[c->group] / k, span = (double)(c->hi - c->lo) / s->slots;
        double p = price ? s->sum[c->hi] - s->sum[c->lo] + 1e-6 * span : span;
        c->order = w / (p * (double)c->bytes);
    }
}

static void fill(selection *s, const int *list, int n)
{
    for (int k = 0; k < n; k++) {
        candidate *c = &s->c[list[k]];
        if (!c->keep && least(s, c) >= c->bytes) set_keep(s, c, 1);
    }
}

/* From nothing, in order of c[].order. */
static void build(selection *s)
{
    for (int i = 0; i < s->n; i++) {
        set_keep(s, &s->c[i], 0);
        s->sorted[i] = i;
    }
    rank(s, s->sorted, s->n);
    fill(s, s->sorted, s->n);
}

static int covers(const selection *s, const candidate *c, int slot)
{
    return (slot >= c->lo && slot < c->hi) || slot + s->slots < c->hi;
}

/* Some slot of c with less than no room, or -1. */
static int overflow(const selection *s, const candidate *c)
{
    if (least(s, c) >= 0) return -1;
    for (int i = c->lo; i < c->hi; i++) {
        int k = i < s->slots ? i : i - s->slots;
        if (s->room[k] + s->added[k / BLOCK] < 0) return k;
    }
    return -1;
}

static void change(selection *s, int i, int keep)
{
    s->removed[s->removals++] = keep ? ~i : i;
    set_keep(s, &s->c[i], keep);
}

/* Take out what is worth least over what it frees, somewhat at random, until candidate `in` overflows nothing. 0: gave up. */
static int make_way(selection *s, int in, double noise)
{
    for (int slot; (slot = overflow(s, &s->c[in])) >= 0;) {
        int64_t over = -(s->room[slot] + s->added[slot / BLOCK]);
        double best = DBL_MAX;
        int out = -1;
        for (int i = 0; i < s->n; i++) {
            const candidate *c = &s->c[i];
            if (!c->keep || i == in || !covers(s, c, slot)) continue;
            double frees = (double)(c->bytes < over ? c->bytes : over) * (s->sum[c->hi] - s->sum[c->lo] + 1e-6);
            double loss = (double)worth(s, c) / frees * (1 + noise * (double)(draw(s) >> 40) / (1 << 24));
            if (loss >= best) continue;
            best = loss;
            out = i;
        }
        if (out < 0 || s->removals >= 2 * s->n - 4) return 0;
        change(s, out, 0);
        s->work += s->n;
    }
    return 1;
}

/* Undo the step in the log. */
static void undo(selection *s)
{
    while (s->removals) {
        int i = s->removed[--s->removals];
        set_keep(s, &s->c[i < 0 ? ~i : i], i >= 0);
    }
}

/* A candidate at random that is kept or not, or -1. */
static int pick(selection *s, int keep)
{
    int i = (int)(draw(s) % (uint64_t)s->n);
    for (int k = 0; k < s->n; k++, i = i + 1 == s->n ? 0 : i + 1)
        if (s->c[i].keep == keep) return i;
    return -1;
}

/* One step: force a candidate that was given up in and make way, or force one out; twice now and then. Fill with what fits,
 * what was forced out last. Undone if it moves more. */
static int64_t search_step(selection *s, int64_t before, double noise)
{
    int out[2] = {-1, -1}, twice = draw(s) % 4 == 0;
    s->removals = 0;
    for (int f = 0; f <= twice; f++) {
        int keep = draw(s) % 3 == 0, i = pick(s, keep);
        if (i < 0) continue;
        change(s, i, !keep);
        if (keep) out[f] = i;
        else if (!make_way(s, i, noise)) {
            undo(s);
            return before;
        }
    }
    for (int k = 0; k < s->n + 2 && s->removals < 2 * s->n; k++) {
        int i = k < s->n ? s->sorted[k] : out[k - s->n];
        if (i < 0 || s->c[i].keep || (k < s->n && (i == out[0] || i == out[1]))) continue;
        if (least(s, &s->c[i]) >= s->c[i].bytes) change(s, i, 1);
    }
    s->work += 3 * s->n + s->slots;
    int64_t now = moved(s);
    if (now <= before) return now;
    undo(s);
    return before;
}

static void remember(const selection *s, uint8_t *kept)
{
    for (int i = 0; i < s->n; i++) kept[i] = (uint8_t)s->c[i].keep;
}

static void recall(selection *s, const uint8_t *kept)
{
    for (int i = 0; i < s->n; i++)
        if (!kept[i]) set_keep(s, &s->c[i], 0);
    for (int i = 0; i < s->n; i++)
        if (kept[i]) set_keep(s, &s->c[i], 1);
}

static void load_prices(selection *s, const cst_prices *p, int moments)
{
    memset(s->price, 0, (size_t)s->slots * sizeof *s->price);
    for (int m = 0; p && p->moment && m < moments; m++)
        if (s->slot_of[m] >= 0) s->price[s->slot_of[m]] += p->moment[m];
}

static void store_prices(const selection *s, cst_prices *p, int moments)
{
    if (!p) return;
    if (!p->moment) p->moment = malloc((size_t)moments * sizeof *p->moment);
    if (!p->moment) return;
    for (int m = 0, last = -1; m < moments; m++) {
        int k = s->slot_of[m];
        p->moment[m] = k >= 0 && k != last ? s->best[k] : 0;
        if (k >= 0) last = k;
    }
}

/* Improve a selection that moves so many bytes. */
static void search(selection *s, int64_t now, int effort)
{
    static const struct { int64_t work; int steps; } most[] = {{300000, 60}, {1000000, 300}, {4000000, 1200}};
    s->work = 0;
    for (int k = 0; k < most[effort].steps && s->work < most[effort].work && now > s->settled; k++)
        now = search_step(s, now, k % 3 ? 1.5 : 0.2);
}

cst_status cst_plan_select(cst_gaps *g, uint64_t capacity, cst_prices *p, int effort)
{
    selection s;
    int moments = g->t->moments, warm = p && p->moment;
    CST_TRY(selection_make(&s, g, capacity));
    uint8_t *kept = calloc((size_t)s.n + 1, 1);
    if (!kept) {
        selection_free(&s);
        return cst_fail(CST_NO_MEMORY, "plan");
    }
    if (s.n) {
        order_by_price(&s, NULL);
        build(&s);
        int64_t first = moved(&s), second;
        remember(&s, kept);
        load_prices(&s, p, moments);
        raise_bound(&s, (double)first, warm ? 60 : 150 + 50 * effort, 15);
        store_prices(&s, p, moments);
        order_by_price(&s, s.best);
        build(&s);
        second = moved(&s);
        if (first < second) {
            recall(&s, kept);
            second = first;
        }
        search(&s, second, effort);
        for (int i = 0; i < s.n; i++) g->gap[s.c[i].gap].keep = s.c[i].keep;
    }
    free(kept);
    selection_free(&s);
    return CST_OK;
}

cst_status cst_plan_select_bytes(uint64_t *bytes_moved, const cst_trace *t, uint64_t bytes)
{
    cst_gaps g;
    CST_TRY(cst_gaps_make(&g, t));
    cst_status st = cst_plan_select(&g, bytes, NULL, 2);
    if (st == CST_OK) *bytes_moved = cst_gaps_moved(&g);
    cst_gaps_free(&g);
    return st;
}

cst_status cst_plan_bound(uint64_t *bytes_moved, const cst_trace *t, uint64_t bytes)
{
    cst_gaps g;
    selection s;
    cst_status st;
    CST_TRY(cst_gaps_make(&g, t));
    CST_GO(selection_make(&s, &g, bytes), done);
    double value = (double)s.settled;
    if (s.n) {
        order_by_price(&s, NULL);
        build(&s);
        load_prices(&s, NULL, 0);
        double v = raise_bound(&s, (double)moved(&s), 5000, 60);
        if (v > value) value = v;
    }
    /* Sums of doubles: leave more than they can be off. */
    value -= 1e-9 * value + 1;
    *bytes_moved = value < 0 ? 0 : (uint64_t)ceil(value / (double)t->align) * t->align;
    selection_free(&s);
done:
    cst_gaps_free(&g);
    return st;
}
