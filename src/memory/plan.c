#include "memory/plan.h"

#include <stdlib.h>
#include <string.h>

#include "memory/plan_internal.h"

#define SMALL 2000 /* gaps of a trace that is planned in no time */

const char *cst_plan_kind_name(cst_plan_kind k)
{
    static const char *name[] = {"place", "upload", "evict", "discard"};
    return name[k];
}

void cst_plan_free(cst_plan *p)
{
    if (!p) return;
    free(p->action);
    free(p->start);
    free(p->slab);
    free(p);
}

static void keep_all(cst_gaps *g, int keep)
{
    for (int i = 0; i < g->gaps; i++)
        if (g->gap[i].paid) {
            g->gap[i].keep = keep && !g->gap[i].away;
            g->gap[i].tail = g->gap[i].head = 0;
        }
}

/* Stays with all gaps kept, or none of those that can be given up, at the best places; tried until they take `limit`. */
static cst_status pack_extreme(cst_stays *y, cst_gaps *g, int keep, uint64_t limit)
{
    keep_all(g, keep);
    CST_TRY(cst_stays_make(y, g));
    return cst_plan_pack_best(y, g, limit);
}

/* The better of two plans: sooner done, by more than a prediction is worth, or fewer bytes. Takes both. */
static void take_better(cst_plan **best, cst_plan *p)
{
    cst_plan *b = *best;
    if (b) {
        uint64_t moved = p->up_bytes + p->down_bytes, least = b->up_bytes + b->down_bytes;
        int same = p->seconds < 1.001 * b->seconds && b->seconds < 1.001 * p->seconds;
        if (same ? moved > least || (moved == least && p->seconds >= b->seconds) : p->seconds > b->seconds) {
            cst_plan_free(p);
            return;
        }
    }
    cst_plan_free(b);
    *best = p;
}

/* Plans from placed stays, for each order of uploads. */
static cst_status finish(cst_plan **best, cst_stays *y, cst_gaps *g)
{
    cst_plan *p;
    CST_TRY(cst_plan_rejoin(y, g));
    for (int order = 0; order < 2; order++) {
        CST_TRY(cst_plan_actions(&p, y, g, order));
        take_better(best, p);
    }
    return CST_OK;
}

/* A selection with the leads that the gaps have, in places: the capacity is lowered while it doesn't fit. */
static cst_status attempt(cst_plan **best, cst_gaps *g, uint64_t bytes, cst_prices *prices, int effort)
{
    static const int per_mille[] = {1000, 985, 960, 910};
    int fits = 0;
    for (int k = 0; k < (int)(sizeof per_mille / sizeof *per_mille) && !fits; k++) {
        uint64_t capacity = bytes / 1000 * (uint64_t)per_mille[k] + bytes % 1000 * (uint64_t)per_mille[k] / 1000;
        cst_stays y;
        if (capacity < g->need) break;
        CST_TRY(cst_plan_select(g, capacity, prices, effort));
        cst_status st = cst_stays_make(&y, g);
        if (st == CST_OK) st = cst_plan_pack(&y, g, bytes, 0, &fits);
        if (st == CST_OK && fits) st = finish(best, &y, g);
        cst_stays_free(&y);
        CST_TRY(st);
    }
    return CST_OK;
}

static cst_status over_budget(const cst_gaps *g, uint64_t bytes, uint64_t least)
{
    return cst_fail(CST_OVER_BUDGET,
                    "moment %d (%s) uses %llu bytes at once; the least that a plan can do with is %llu bytes, there are %llu",
                    g->need_moment, g->t->moment[g->need_moment].op, (unsigned long long)g->need, (unsigned long long)least,
                    (unsigned long long)bytes);
}

static uint64_t moved_by(const cst_plan *p) { return p->up_bytes + p->down_bytes; }

/* Is a better plan worth looking for? */
static int stalls(const cst_plan *p) { return !p || p->stall_seconds > 0.005 * p->seconds; }

/* Plans with transfers, of several lead times. least: places of the stays when all is given up that can be. */
static cst_status make_moving(cst_plan **best, cst_gaps *g, uint64_t bytes, cst_stays *least)
{
    enum { TURNS = 4 }; /* a selection changes the queues that the next one's lead times come from */
    static const struct { double factor, queue; } lead[] = {{1, 0.25}, {1, 0.08}, {1, 0.02}, {0.5, 0.004}};
    cst_prices prices = {0};
    uint8_t *keep = malloc((size_t)g->gaps + 1);
    cst_status st = CST_OK;
    if (!keep) return cst_fail(CST_NO_MEMORY, "plan");
    keep_all(g, 0);
    CST_GO(cst_plan_select(g, bytes, &prices, 1), done);
    uint64_t fewest = cst_gaps_moved(g);
    for (int i = 0; i < g->gaps; i++) keep[i] = (uint8_t)g->gap[i].keep;
    for (int k = 0; k < 4 && stalls(*best); k++) {
        for (int i = 0; i < g->gaps; i++) g->gap[i].keep = keep[i];
        for (int turn = 0; turn < TURNS && stalls(*best); turn++) {
            CST_GO(cst_plan_leads(g, lead[k].factor, lead[k].queue), done);
            CST_GO(attempt(best, g, bytes, &prices, 0), done);
        }
    }
    /* No lead times: the fewest bytes. On a large trace that only helps where the others had to move many more. */
    if (!*best || g->gaps < SMALL || (double)moved_by(*best) > 1.1 * (double)fewest) {
        keep_all(g, 0);
        CST_GO(attempt(best, g, bytes, &prices, 1), done);
    }
    if (!*best) {
        keep_all(g, 0);
        CST_GO(finish(best, least, g), done);
    }
done:
    free(prices.moment);
    free(keep);
    return st;
}

cst_status cst_plan_make(cst_plan **out, const cst_trace *t, uint64_t bytes)
{
    cst_gaps g = {0};
    cst_stays least = {0}, all = {0};
    cst_plan *best = NULL;
    cst_status st;
    CST_TRY(cst_trace_check(t));
    CST_TRY(cst_gaps_make(&g, t));
    uint64_t *full = malloc(((size_t)t->moments + 1) * sizeof *full);
    if (!full) CST_GO(cst_fail(CST_NO_MEMORY, "plan"), done);
    CST_GO(pack_extreme(&least, &g, 0, bytes), done);
    if (least.total > bytes) CST_GO(over_budget(&g, bytes, least.total), done);
    if (!g.away && cst_gaps_full(&g, full) <= bytes) {
        CST_GO(pack_extreme(&all, &g, 1, bytes), done);
        if (all.total <= bytes) CST_GO(cst_plan_actions(&best, &all, &g, 0), done);
    }
    if (!best) CST_GO(make_moving(&best, &g, bytes, &least), done);
    *out = best;
    best = NULL;
done:
    cst_plan_free(best);
    cst_stays_free(&least);
    cst_stays_free(&all);
    cst_gaps_free(&g);
    free(full);
    return st;
}

/* The best places' bytes with all gaps kept or given up, tried until nothing better is possible. */
static cst_status extreme_bytes(uint64_t *bytes, const cst_trace *t, int keep)
{
    cst_gaps g = {0};
    cst_stays y = {0};
    cst_status st;
    CST_TRY(cst_trace_check(t));
    CST_TRY(cst_gaps_make(&g, t));
    uint64_t *full = malloc(((size_t)t->moments + 1) * sizeof *full);
    if (!full) CST_GO(cst_fail(CST_NO_MEMORY, "plan"), done);
    CST_GO(pack_extreme(&y, &g, keep, keep ? cst_gaps_full(&g, full) : g.need), done);
    *bytes = y.total;
done:
    cst_stays_free(&y);
    cst_gaps_free(&g);
    free(full);
    return st;
}

cst_status cst_plan_least(uint64_t *bytes, const cst_trace *t) { return extreme_bytes(bytes, t, 0); }
cst_status cst_plan_resident(uint64_t *bytes, const cst_trace *t) { return extreme_bytes(bytes, t, 1); }
