/* Lead times: how long before and after its uses a tensor's transfers need its room. */
#include <stdlib.h>

#include "memory/plan_internal.h"

typedef struct clock_of { double *begin; int n; } clock_of; /* begin[n + 1]: when each moment begins if nothing waits */

static double when(const clock_of *c, int moment)
{
    int round = moment >= 0 ? moment / c->n : -((-moment + c->n - 1) / c->n);
    return round * c->begin[c->n] + c->begin[moment - round * c->n];
}

typedef struct transfer { int gap, moment; double wait; } transfer;

static int by_moment(const void *a, const void *b)
{
    const transfer *x = a, *y = b;
    return x->moment != y->moment ? x->moment - y->moment : x->gap - y->gap;
}

/* How long gaps wait for their transfers: those of one direction in order of moments, downloads looking ahead from the use
 * before, uploads back from the use after. Gaps kept would wait as long, but nobody waits for them. */
static void queueing(const cst_gaps *g, const clock_of *c, transfer *q, int n, int up, double rate, double ahead_most)
{
    double busy = up ? 1e300 : -1e300, cycle = c->begin[c->n];
    qsort(q, (size_t)n, sizeof *q, by_moment);
    for (int k = 0; k < 2 * n; k++) {
        int round = k >= n, i = up ? n - 1 - k % n : k % n;
        const cst_gap *a = &g->gap[q[i].gap];
        double ready = when(c, q[i].moment) + (up ? -round : round) * cycle;
        double seconds = (double)g->t->tensor[a->tensor].bytes / rate, limit = 6 * seconds + ahead_most * cycle;
        /* Time runs backwards for uploads. */
        double ahead = up ? ready - busy : busy - ready;
        ahead = ahead < 0 ? 0 : ahead > limit ? limit : ahead;
        q[i].wait = ahead + seconds;
        if (!a->keep) busy = up ? ready - q[i].wait : ready + q[i].wait;
    }
}

/* Does giving this gap up cost a download? The first one given up after a change does; the others leave at once. */
static int downloads(const cst_gaps *g, int i)
{
    int first = g->first[g->gap[i].tensor], n = g->first[g->gap[i].tensor + 1] - first;
    if (!g->download[g->gap[i].group]) return 0;
    for (int k = 0, j = i; k < n; k++) {
        if (g->changes[j]) return 1;
        j = first + (j - first + n - 1) % n;
        if (g->gap[j].paid && !g->gap[j].keep) return 0;
    }
    return 1;
}

cst_status cst_plan_leads(cst_gaps *g, double factor, double queue)
{
    const cst_trace *t = g->t;
    clock_of c = {malloc(((size_t)t->moments + 1) * sizeof *c.begin), t->moments};
    transfer *q = malloc(((size_t)g->gaps + 1) * sizeof *q);
    double *wait[2] = {calloc((size_t)g->gaps + 1, sizeof(double)), calloc((size_t)g->gaps + 1, sizeof(double))};
    cst_status st = CST_OK;
    if (!c.begin || !q || !wait[0] || !wait[1]) CST_GO(cst_fail(CST_NO_MEMORY, "plan"), done);
    c.begin[0] = 0;
    for (int m = 0; m < t->moments; m++) c.begin[m + 1] = c.begin[m] + cst_trace_seconds(t, m);
    for (int up = 0; up < 2; up++) {
        double rate = (up ? t->rates.up : t->rates.down) * t->rates.both;
        int n = 0;
        for (int i = 0; i < g->gaps; i++) {
            const cst_gap *a = &g->gap[i];
            if (a->paid && (up || downloads(g, i))) q[n++] = (transfer){i, (up ? a->to : a->from + 1) % t->moments, 0};
        }
        queueing(g, &c, q, n, up, rate, queue);
        for (int k = 0; k < n; k++) wait[up][q[k].gap] = q[k].wait;
    }
    for (int i = 0; i < g->gaps; i++) {
        cst_gap *a = &g->gap[i];
        double down = when(&c, a->from + 1) + factor * wait[0][i], up = when(&c, a->to) - factor * wait[1][i];
        a->tail = a->head = 0;
        if (!a->paid) continue;
        while (wait[0][i] > 0 && a->from + 1 + a->tail < a->to && when(&c, a->from + 1 + a->tail) < down) a->tail++;
        while (a->to - a->head > a->from + 1 && when(&c, a->to - a->head) > up) a->head++;
    }
done:
    free(c.begin);
    free(q);
    free(wait[0]);
    free(wait[1]);
    return st;
}
