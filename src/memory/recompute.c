#include "memory/recompute.h"

#include <math.h>
#include <stdlib.h>

typedef struct search {
    cst_mem *m;
    int n;
    cst_mem_record record;
    void *user;
    double *seconds;         /* [n + 1] predicted; < 0: not asked */
    int best, recorded;
} search;

/* INFINITY: it doesn't fit. Where the operators alone take longer than the best so far, no plan is made: that time will do. */
static cst_status predict(search *s, int k)
{
    cst_plan *plan;
    cst_rates rates;
    CST_TRY(s->record(s->user, k));
    s->recorded = k;
    CST_TRY(cst_mem_rates(&rates, s->m));
    const cst_trace *t = cst_mem_trace(s->m);
    double alone = 0;
    for (int i = 0; t && i < t->moments; i++) alone += cst_trace_seconds(t, i);
    s->seconds[k] = alone;
    if (k != s->best && alone > s->seconds[s->best]) return CST_OK;
    cst_status st = cst_mem_plan_try(&plan, s->m);
    s->seconds[k] = st == CST_OK ? plan->seconds : INFINITY;
    if (st != CST_OK) return st == CST_OVER_BUDGET ? CST_OK : st;
    cst_plan_free(plan);
    return CST_OK;
}

static cst_status ask(search *s, int k)
{
    if (k < 0 || k > s->n || s->seconds[k] >= 0) return CST_OK;
    CST_TRY(predict(s, k));
    double least = s->seconds[s->best], now = s->seconds[k];
    if (now < least || (now == least && now < INFINITY && k < s->best)) s->best = k;
    return CST_OK;
}

cst_status cst_mem_groups(int *best, cst_mem *m, int n, cst_mem_record record, void *user)
{
    search s = {.m = m, .n = n, .record = record, .user = user, .recorded = -1};
    cst_status st = CST_OK;
    s.seconds = malloc(((size_t)n + 1) * sizeof *s.seconds);
    if (!s.seconds) return cst_fail(CST_NO_MEMORY, "memory manager");
    for (int k = 0; k <= n; k++) s.seconds[k] = -1;
    for (int i = 0; i <= 4; i++) /* 0 is the best as long as it's the only one */
        CST_GO(ask(&s, (int)((int64_t)n * i / 4)), out);
    for (int d = (n + 7) / 8, at = s.best; d >= 1; d = d > 1 ? (d + 1) / 2 : 0, at = s.best)
        for (int k = at - d; k <= at + d; k += 2 * d) CST_GO(ask(&s, k), out);
    if (s.seconds[s.best] == INFINITY) s.best = n;
    if (s.recorded != s.best) CST_GO(record(user, s.best), out);
    *best = s.best;
out:
    free(s.seconds);
    return st;
}
