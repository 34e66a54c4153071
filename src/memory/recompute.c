#include "memory/recompute.h"

#include <math.h>
#include <stdlib.h>

typedef struct answers {
    double *seconds;         /* [n + 1] predicted; < 0: not asked */
    int best, recorded;
} answers;

/* INFINITY: it doesn't fit. Where the operators alone take longer than the best so far, no plan is made: that time will do. */
static cst_status predict(answers *a, const cst_mem_search *s, int k)
{
    cst_plan *plan;
    CST_TRY(s->record(s->user, k));
    a->recorded = k;
    cst_rates rates;
    cst_status st = cst_mem_rates(&rates, s->m); /* the trace's operators have times then */
    a->seconds[k] = INFINITY;
    if (st != CST_OK) return st == CST_OVER_BUDGET ? CST_OK : st;
    const cst_trace *t = cst_mem_trace(s->m);
    double alone = 0;
    for (int i = 0; t && i < t->moments; i++) alone += cst_trace_seconds(t, i);
    a->seconds[k] = alone;
    if (k != a->best && alone > a->seconds[a->best]) return CST_OK;
    st = cst_mem_plan_try(&plan, NULL, s->m);
    a->seconds[k] = INFINITY;
    if (st != CST_OK) return st == CST_OVER_BUDGET ? CST_OK : st;
    a->seconds[k] = s->judge ? s->judge(s->user, plan) : plan->seconds;
    cst_plan_free(plan);
    return CST_OK;
}

static cst_status ask(answers *a, const cst_mem_search *s, int k)
{
    if (k < 0 || k > s->n || a->seconds[k] >= 0) return CST_OK;
    CST_TRY(predict(a, s, k));
    double least = a->seconds[a->best], now = a->seconds[k];
    if (now < least || (now == least && now < INFINITY && k < a->best)) a->best = k;
    return CST_OK;
}

cst_status cst_mem_groups(int *best, double *seconds, const cst_mem_search *s)
{
    answers a = {.recorded = -1};
    cst_status st = CST_OK;
    int n = s->n;
    a.seconds = malloc(((size_t)n + 1) * sizeof *a.seconds);
    if (!a.seconds) return cst_fail(CST_NO_MEMORY, "memory manager");
    for (int k = 0; k <= n; k++) a.seconds[k] = -1;
    a.best = s->near > 0 && s->near <= n ? s->near : 0; /* the best as long as it's the only one */
    CST_GO(ask(&a, s, a.best), out);
    for (int i = 0; i <= 4 && s->near < 0; i++) CST_GO(ask(&a, s, (int)((int64_t)n * i / 4)), out);
    for (int d = (n + 7) / 8, at = a.best; d >= 1; d = d > 1 ? (d + 1) / 2 : 0, at = a.best)
        for (int k = at - d; k <= at + d; k += 2 * d) CST_GO(ask(&a, s, k), out);
    if (a.seconds[a.best] == INFINITY) a.best = n;
    if (a.recorded != a.best) CST_GO(s->record(s->user, a.best), out);
    *best = a.best;
    if (seconds) *seconds = a.seconds[a.best] < 0 ? INFINITY : a.seconds[a.best];
out:
    free(a.seconds);
    return st;
}
