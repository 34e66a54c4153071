#include "memory/plan.h"

#include <limits.h>
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

typedef enum goal { SOONEST, FEWEST } goal;

static uint64_t moved_by(const cst_plan *p) { return p->up_bytes + p->down_bytes; }

/* Is p better than b? SOONEST: sooner done, by more than a prediction is worth, or fewer bytes. FEWEST: fewer bytes, or sooner done. */
static int is_better(const cst_plan *p, const cst_plan *b, goal want)
{
    uint64_t moved = moved_by(p), least = moved_by(b);
    int same = p->seconds < 1.001 * b->seconds && b->seconds < 1.001 * p->seconds;
    if (want == FEWEST || same) return moved < least || (moved == least && p->seconds < b->seconds);
    return p->seconds <= b->seconds;
}

/* The better of two plans. Takes both. */
static void take_better(cst_plan **best, cst_plan *p, goal want)
{
    if (*best && !is_better(p, *best, want)) {
        cst_plan_free(p);
        return;
    }
    cst_plan_free(*best);
    *best = p;
}

/* Plans from placed stays, for each order of uploads. */
static cst_status finish(cst_plan **best, cst_stays *y, cst_gaps *g, goal want)
{
    cst_plan *p;
    CST_TRY(cst_plan_rejoin(y, g));
    for (int order = 0; order < 2; order++) {
        CST_TRY(cst_plan_actions(&p, y, g, order));
        take_better(best, p, want);
    }
    return CST_OK;
}

/* Plans from a selection. *fits 0: it finds no places within `bytes`. */
static cst_status settle(cst_plan **best, cst_gaps *g, uint64_t bytes, int order, int patience, goal want, int *fits)
{
    cst_stays y;
    cst_status st = cst_stays_make(&y, g);
    *fits = 0;
    if (st == CST_OK) st = cst_plan_pack(&y, g, bytes, order, patience, fits);
    if (st == CST_OK && *fits) st = finish(best, &y, g, want);
    cst_stays_free(&y);
    return st;
}

static uint64_t part_of(uint64_t bytes, int per_mille)
{
    return bytes / 1000 * (uint64_t)per_mille + bytes % 1000 * (uint64_t)per_mille / 1000;
}

/* A selection with the leads that the gaps have, in places: the capacity is lowered while it doesn't fit. */
static cst_status attempt(cst_plan **best, cst_gaps *g, uint64_t bytes, cst_prices *prices, int patience)
{
    static const int per_mille[] = {1000, 985, 960, 910};
    int fits = 0;
    for (int k = 0; k < (int)(sizeof per_mille / sizeof *per_mille) && !fits; k++) {
        uint64_t capacity = part_of(bytes, per_mille[k]);
        if (capacity < g->need) break;
        CST_TRY(cst_plan_select(g, capacity, prices, 0));
        CST_TRY(settle(best, g, bytes, 0, patience, SOONEST, &fits));
    }
    return CST_OK;
}

static void put_keep(cst_gaps *g, const uint8_t *keep)
{
    for (int i = 0; i < g->gaps; i++) g->gap[i].keep = keep[i];
}

static void get_keep(uint8_t *keep, const cst_gaps *g)
{
    for (int i = 0; i < g->gaps; i++) keep[i] = (uint8_t)g->gap[i].keep;
}

/* Without lead times, for the fewest bytes: several capacities, as a selection for less than there is finds places with fewer
 * splits, and orders of placing, until the selection alone moves more than the best plan. tries: most capacities. */
static cst_status attempt_fewest(cst_plan **best, cst_gaps *g, uint64_t bytes, cst_prices *prices, int tries, goal want)
{
    static const int per_mille[] = {1000, 996, 992, 988, 984, 976, 968, 950, 910}, order[] = {4, 0, 1};
    enum { PATIENCE = 30 };
    uint8_t *keep = malloc((size_t)g->gaps + 1);
    cst_plan *few = NULL;
    cst_status st = keep ? CST_OK : cst_fail(CST_NO_MEMORY, "plan");
    for (int k = 0; st == CST_OK && k < (int)(sizeof per_mille / sizeof *per_mille); k++) {
        uint64_t capacity = part_of(bytes, per_mille[k]);
        if (capacity < g->need || (few && k >= tries)) break;
        keep_all(g, 0);
        CST_GO(cst_plan_select(g, capacity, prices, 1), done);
        if (few && cst_gaps_moved(g) >= moved_by(few)) break;
        get_keep(keep, g);
        for (int o = 0, fits; o < (tries > 1 ? 3 : 1); o++) {
            put_keep(g, keep);
            CST_GO(settle(&few, g, bytes, order[o], PATIENCE, FEWEST, &fits), done);
        }
    }
    if (few) take_better(best, few, want);
done:
    if (st != CST_OK) cst_plan_free(few);
    free(keep);
    return st;
}

static cst_status over_budget(const cst_gaps *g, uint64_t bytes, uint64_t least)
{
    return cst_fail(CST_OVER_BUDGET,
                    "moment %d (%s) uses %llu bytes at once; the least that a plan can do with is %llu bytes, there are %llu",
                    g->need_moment, g->t->moment[g->need_moment].op, (unsigned long long)g->need, (unsigned long long)least,
                    (unsigned long long)bytes);
}

/* Is a better plan worth looking for? */
static int stalls(const cst_plan *p) { return !p || p->stall_seconds > 0.005 * p->seconds; }

/* Plans with transfers, of several lead times and of none. */
static cst_status make_soonest(cst_plan **best, cst_gaps *g, uint64_t bytes)
{
    /* A selection changes the queues that the next one's lead times come from; the last one is placed patiently. */
    enum { TURNS = 4, PATIENCE = 4 };
    static const struct { double factor, queue; } lead[] = {{1, 0.25}, {1, 0.08}, {1, 0.02}, {0.5, 0.004}};
    cst_prices prices = {0};
    uint8_t *keep = malloc((size_t)g->gaps + 1);
    cst_status st = CST_OK;
    if (!keep) return cst_fail(CST_NO_MEMORY, "plan");
    keep_all(g, 0);
    CST_GO(cst_plan_select(g, bytes, &prices, 1), done);
    uint64_t fewest = cst_gaps_moved(g);
    get_keep(keep, g);
    for (int k = 0; k < 4 && stalls(*best); k++) {
        put_keep(g, keep);
        for (int turn = 0; turn < TURNS && stalls(*best); turn++) {
            CST_GO(cst_plan_leads(g, lead[k].factor, lead[k].queue), done);
            CST_GO(attempt(best, g, bytes, &prices, turn == TURNS - 1 ? PATIENCE : 0), done);
        }
    }
    /* On a large trace the fewest bytes only help where the others had to move many more. */
    if (!*best || g->gaps < SMALL || (double)moved_by(*best) > 1.1 * (double)fewest)
        CST_GO(attempt_fewest(best, g, bytes, &prices, 1, SOONEST), done);
done:
    free(prices.moment);
    free(keep);
    return st;
}

static cst_status make_fewest(cst_plan **best, cst_gaps *g, uint64_t bytes)
{
    cst_prices prices = {0};
    cst_status st = attempt_fewest(best, g, bytes, &prices, INT_MAX, FEWEST);
    free(prices.moment);
    return st;
}

/* A plan by either goal. `least`: places of the stays when all is given up that can be. */
static cst_status make(cst_plan **out, const cst_trace *t, uint64_t bytes, goal want)
{
    cst_gaps g = {0};
    cst_stays least = {0}, all = {0};
    cst_plan *best = NULL;
    cst_status st;
    CST_TRY(cst_trace_check(t));
    bytes = bytes / t->align * t->align;
    CST_TRY(cst_gaps_make(&g, t));
    uint64_t *full = malloc(((size_t)t->moments + 1) * sizeof *full);
    if (!full) CST_GO(cst_fail(CST_NO_MEMORY, "plan"), done);
    CST_GO(pack_extreme(&least, &g, 0, bytes), done);
    if (least.total > bytes) CST_GO(over_budget(&g, bytes, least.total), done);
    if (!g.away && cst_gaps_full(&g, full) <= bytes) {
        CST_GO(pack_extreme(&all, &g, 1, bytes), done);
        if (all.total <= bytes) CST_GO(cst_plan_actions(&best, &all, &g, 0), done);
    }
    if (!best) CST_GO(want == FEWEST ? make_fewest(&best, &g, bytes) : make_soonest(&best, &g, bytes), done);
    if (!best) {
        keep_all(&g, 0);
        CST_GO(finish(&best, &least, &g, want), done);
    }
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

cst_status cst_plan_make(cst_plan **out, const cst_trace *t, uint64_t bytes) { return make(out, t, bytes, SOONEST); }
cst_status cst_plan_fewest(cst_plan **out, const cst_trace *t, uint64_t bytes) { return make(out, t, bytes, FEWEST); }

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

cst_status cst_plan_takes(uint64_t *bytes, const cst_trace *t, uint64_t room, uint64_t high)
{
    uint64_t most, largest = 0;
    *bytes = room / t->align * t->align;
    int away = cst_trace_away(t);
    if (!away && high >= *bytes) return CST_OK;
    CST_TRY(cst_plan_resident(&most, t));
    for (int k = 0; k < t->moments; k++) {
        uint64_t sum = 0;
        for (int i = 0; i < t->moment[k].uses; i++) sum += t->tensor[t->use[t->moment[k].first + i].tensor].bytes;
        if (sum > largest) largest = sum;
    }
    if (away) most += largest;
    else if (most < high) most = high;
    if (most < *bytes) *bytes = most;
    return CST_OK;
}
