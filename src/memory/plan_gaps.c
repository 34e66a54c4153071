#include <stdlib.h>
#include <string.h>

#include "memory/memory.h"
#include "memory/plan_internal.h"

typedef struct visit { int moment, access; } visit;

/* All uses by tensor, in order of moments: visit[first[x] .. first[x + 1]). A held WRITE is content in the making: it counts
 * as UPDATE, unless it is where a tensor begins. */
static cst_status visits(const cst_trace *t, visit **out, int **first_out)
{
    int *first = calloc((size_t)t->tensors + 2, sizeof *first);
    visit *v = malloc(((size_t)t->uses + 1) * sizeof *v);
    if (!first || !v) {
        free(first);
        free(v);
        return cst_fail(CST_NO_MEMORY, "plan");
    }
    for (int m = 0; m < t->moments; m++)
        for (int i = 0; i < t->moment[m].uses; i++) first[t->use[t->moment[m].first + i].tensor + 2]++;
    for (int x = 0; x < t->tensors; x++) first[x + 2] += first[x + 1];
    for (int m = 0; m < t->moments; m++)
        for (int i = 0; i < t->moment[m].uses; i++) {
            const cst_trace_use *u = &t->use[t->moment[m].first + i];
            int *at = &first[u->tensor + 1], begins = !t->tensor[u->tensor].persistent && *at == first[u->tensor];
            v[(*at)++] = (visit){m, u->held && u->access == CST_WRITE && !begins ? CST_UPDATE : u->access};
        }
    *out = v;
    *first_out = first;
    return CST_OK;
}

/* The gaps of a tensor's n visits. */
static void tensor_gaps(cst_gaps *g, int x, const visit *v, int n)
{
    const cst_trace *t = g->t;
    int base = g->gaps, last_change = -1;
    for (int i = 0; i < n; i++) {
        int ends = i == n - 1, next = ends ? v[0].moment + t->moments : v[i + 1].moment;
        int worthless = v[ends ? 0 : i + 1].access == CST_WRITE || (ends && !t->tensor[x].persistent);
        int touches = next == v[i].moment + 1 && !(ends && !t->tensor[x].persistent);
        int stays = !worthless && (touches || (g->away && !t->tensor[x].away)), paid = !worthless && !stays;
        g->changes[g->gaps] = v[i].access != CST_READ;
        if (v[i].access != CST_READ) last_change = i;
        g->gap[g->gaps++] = (cst_gap){.tensor = x, .from = v[i].moment, .to = next, .paid = paid, .keep = stays || touches, .away = paid && t->tensor[x].away};
    }
    if (!n) return;
    /* Groups, from the last change on around the end: each change begins one. */
    int group = -1;
    for (int k = 0; k < n; k++) {
        int i = base + (last_change < 0 ? k : (last_change + k) % n);
        if (group < 0 || g->changes[i]) {
            group = g->groups++;
            g->download[group] = last_change < 0 ? 0 : t->tensor[x].bytes;
        }
        g->gap[i].group = group;
    }
}

cst_status cst_gaps_make(cst_gaps *g, const cst_trace *t)
{
    visit *v = NULL;
    int *first = NULL;
    uint64_t fixed = 0;
    *g = (cst_gaps){.t = t, .away = cst_trace_away(t)};
    CST_TRY(visits(t, &v, &first));
    size_t n = (size_t)t->uses + 1;
    g->gap = malloc(n * sizeof *g->gap);
    g->changes = malloc(n);
    g->download = malloc(n * sizeof *g->download);
    g->first = calloc((size_t)t->tensors + 1, sizeof *g->first);
    g->use = calloc((size_t)t->moments + 1, sizeof *g->use);
    if (!g->gap || !g->changes || !g->download || !g->first || !g->use) {
        cst_gaps_free(g);
        free(v);
        free(first);
        return cst_fail(CST_NO_MEMORY, "plan");
    }
    for (int x = 0; x < t->tensors; x++) {
        g->first[x] = g->gaps;
        if (t->tensor[x].fixed) fixed += t->tensor[x].bytes;
        else tensor_gaps(g, x, v + first[x], first[x + 1] - first[x]);
    }
    g->first[t->tensors] = g->gaps;
    for (int m = 0; m < t->moments; m++) {
        g->use[m] = fixed;
        for (int i = 0; i < t->moment[m].uses; i++) {
            const cst_trace_tensor *x = &t->tensor[t->use[t->moment[m].first + i].tensor];
            if (!x->fixed) g->use[m] += x->bytes;
        }
    }
    for (int i = 0; i < g->gaps; i++)
        for (int m = g->gap[i].from + 1; g->gap[i].keep && m < g->gap[i].to; m++) g->use[m % t->moments] += t->tensor[g->gap[i].tensor].bytes;
    for (int m = 0; m < t->moments; m++)
        if (g->use[m] > g->need || !m) {
            g->need = g->use[m];
            g->need_moment = m;
        }
    free(v);
    free(first);
    return CST_OK;
}

void cst_gaps_free(cst_gaps *g)
{
    free(g->gap);
    free(g->changes);
    free(g->download);
    free(g->first);
    free(g->use);
    *g = (cst_gaps){0};
}

uint64_t cst_gaps_moved(const cst_gaps *g)
{
    uint64_t sum = 0;
    /* A tensor's groups stand together but for the one around the end, whose parts are the tensor's first and last gaps. */
    for (int x = 0; x < g->t->tensors; x++) {
        int begin = g->first[x], end = g->first[x + 1], split = end > begin ? g->gap[begin].group : -1, paid_first = 0;
        for (int i = begin, last = -1; i < end; i++) {
            const cst_gap *a = &g->gap[i];
            if (!a->paid || a->keep) continue;
            sum += g->t->tensor[x].bytes;
            if (a->group == last || (a->group == split && paid_first)) continue;
            sum += g->download[a->group];
            last = a->group;
            paid_first |= a->group == split;
        }
    }
    return sum;
}

uint64_t cst_gaps_full(const cst_gaps *g, uint64_t *most)
{
    int n = g->t->moments;
    uint64_t peak = 0, sum = 0;
    /* Differences first: unsigned sums wrap around and back. */
    memset(most, 0, (size_t)n * sizeof *most);
    for (int i = 0; i < g->gaps; i++) {
        const cst_gap *a = &g->gap[i];
        uint64_t b = g->t->tensor[a->tensor].bytes;
        if (!a->paid || a->away) continue;
        if (a->from + 1 < n) most[a->from + 1] += b;
        if (a->to < n) most[a->to] -= b;
        else {
            if (a->from + 1 >= n) most[a->from + 1 - n] += b;
            else most[0] += b;
            if (a->to - n < n) most[a->to - n] -= b;
        }
    }
    for (int m = 0; m < n; m++) {
        sum += most[m];
        most[m] = g->use[m] + sum;
        if (most[m] > peak) peak = most[m];
    }
    return peak;
}

cst_status cst_stays_make(cst_stays *y, const cst_gaps *g)
{
    const cst_trace *t = g->t;
    int n = t->moments;
    *y = (cst_stays){.room = g->gaps + t->tensors + 1};
    y->s = malloc((size_t)y->room * sizeof *y->s);
    if (!y->s) return cst_fail(CST_NO_MEMORY, "plan");
    for (int x = 0; x < t->tensors; x++) {
        int begin = g->first[x], end = g->first[x + 1], first = -1, last = -1;
        for (int i = begin; i < end; i++)
            if (!g->gap[i].keep) {
                if (last >= 0) y->s[y->n++] = (cst_stay){.tensor = x, .from = g->gap[last].to, .to = g->gap[i].from, .in = last, .out = i};
                else first = i;
                last = i;
            }
        if (last >= 0) {
            int from = g->gap[last].to % n, to = g->gap[first].from;
            y->s[y->n++] = (cst_stay){.tensor = x, .from = from, .to = to < from ? to + n : to, .in = last, .out = first};
        } else if (end > begin || t->tensor[x].fixed) y->s[y->n++] = (cst_stay){.tensor = x, .to = n - 1, .in = -1, .out = -1};
    }
    for (int i = 0; i < y->n; i++) {
        cst_stay *s = &y->s[i];
        s->start = s->from - (s->in >= 0 && g->gap[s->in].paid ? g->gap[s->in].head : 0);
        s->end = s->to + (s->out >= 0 && g->gap[s->out].paid ? g->gap[s->out].tail : 0);
    }
    return CST_OK;
}

void cst_stays_free(cst_stays *y)
{
    free(y->s);
    free(y->top);
    *y = (cst_stays){0};
}
