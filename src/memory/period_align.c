/* Periods with other accesses in between: what comes about a span later, in the same order? By the longest common subsequence of
 * the sequence and itself a span later, within a band around that distance. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memory/period_internal.h"

#define MOST_CELLS ((int64_t)1 << 28)
#define LEAST_SHARE 0.55     /* of the accesses have a repetition: 0.8 with 20 % of insertions */
#define ABOVE_CHANCE 0.2     /* more than in the same accesses in another order */

/* Rows are accesses i of x[0..rows), columns distances span - band ... span + band. */
typedef struct grid {
    const uint64_t *x;
    int64_t rows, n;         /* x has n accesses; those from `rows` on are only partners */
    int64_t span, band;
    unsigned char *step;     /* [rows][2 band + 1] how the best came about; NULL: only its length is asked for */
    unsigned char *side;     /* [n] where an access has a partner */
} grid;

enum { MATCH = 1, LEFT = 2, UP = 3 };
enum { BEFORE = 1, AFTER = 2, BOTH = 3 };

/* What it counts that accesses i and j are partners: of ways with as many, the one that makes longer chains. */
static int32_t value(const grid *g, int64_t i, int64_t j)
{
    return 1024 + (g->side[i] & BEFORE) + (g->side[j] & AFTER) / 2;
}

/* Length of the common subsequence of x[i] and y[i + span + e]. */
static cst_status common(int64_t *length, const grid *g, const uint64_t *y)
{
    int64_t wide = 2 * g->band + 1;
    int32_t *old = calloc((size_t)wide + 1, sizeof *old), *now = calloc((size_t)wide + 1, sizeof *now);
    if (!old || !now) {
        free(old);
        free(now);
        return cst_fail(CST_NO_MEMORY, "period");
    }
    for (int64_t i = 0; i < g->rows; i++) {
        unsigned char *step = g->step ? g->step + i * wide : NULL;
        int64_t j = i + g->span - g->band;
        for (int64_t e = 0; e < wide; e++, j++) {
            int32_t up = e + 1 < wide ? old[e + 1] : 0, left = e ? now[e - 1] : 0;
            int32_t best = up > left ? up : left, with = j >= 0 && j < g->n && g->x[i] == y[j] ? old[e] + value(g, i, j) : 0;
            if (step) step[e] = with && with >= best ? MATCH : up > left ? UP : LEFT;
            if (with > best) best = with;
            now[e] = best;
        }
        int32_t *t = old;
        old = now;
        now = t;
    }
    *length = 0;
    for (int64_t e = 0; e < wide; e++)
        if (old[e] / 1024 > *length) *length = old[e] / 1024;
    free(old);
    free(now);
    return CST_OK;
}

/* to[i]: the partner of access i, -1: none. */
static void trace_back(int64_t *to, const grid *g)
{
    int64_t wide = 2 * g->band + 1, i = g->rows - 1, e = wide - 1;
    for (int64_t k = 0; k < g->rows; k++) to[k] = -1;
    while (i >= 0 && e >= 0 && e < wide) {
        switch (g->step[i * wide + e]) {
        case MATCH: to[i] = i + g->span - g->band + e, i--; break;
        case UP: i--, e++; break;
        default: e--;
        }
    }
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void find_sides(const grid *g, const int64_t *to)
{
    memset(g->side, 0, (size_t)g->n);
    for (int64_t i = 0; i < g->rows; i++)
        if (to[i] >= 0) g->side[i] |= AFTER, g->side[to[i]] |= BEFORE;
}

/* An access belongs to the iteration when it has a partner on both sides. Where it stands twice, once inserted, the partners may
 * have gone to one each: between two that belong, equal ones with the two sides are one. */
static void join_sides(const grid *g)
{
    int64_t far = g->span + g->band;
    unsigned char *side = g->side;
    for (int64_t i = 0; i < g->n; i++) /* where the sequence ends, and no partner can be */
        if (side[i] && (i < far || i + far >= g->n)) side[i] |= i < far ? BEFORE : AFTER;
    for (int64_t i = 0, end; i < g->n; i = end + 1) {
        for (end = i; end < g->n && side[end] != BOTH; end++) continue;
        for (int64_t a = i; a < end; a++)
            for (int64_t b = i; b < end && side[a] == BEFORE; b++)
                if (side[b] == AFTER && g->x[a] == g->x[b]) side[a] = 0, side[b] = BOTH;
    }
}

/* The median number of accesses that belong, from one to its partner; and the median distance. 0: there is none such. */
static cst_status count(cst_period *p, const int64_t *to, const grid *g)
{
    int64_t *before = malloc((size_t)(g->n + 1) * sizeof *before), *length = malloc((size_t)g->rows * sizeof *length),
            *span = malloc((size_t)g->rows * sizeof *span), n = 0;
    cst_status st = before && length && span ? CST_OK : cst_fail(CST_NO_MEMORY, "period");
    if (st != CST_OK) goto out;
    join_sides(g);
    before[0] = 0;
    for (int64_t i = 0; i < g->n; i++) before[i + 1] = before[i] + (g->side[i] == BOTH);
    for (int64_t i = 0; i < g->rows; i++) {
        if (to[i] < 0 || before[i + 1] == before[i]) continue;
        span[n] = to[i] - i;
        length[n++] = before[to[i]] - before[i];
    }
    p->length = p->span = 0;
    if (!n) goto out;
    qsort(length, (size_t)n, sizeof *length, by_size);
    qsort(span, (size_t)n, sizeof *span, by_size);
    p->length = length[n / 2];
    p->span = span[n / 2];
out:
    free(before);
    free(length);
    free(span);
    return st;
}

/* The same accesses in another order, the same each time. */
static void shuffle(uint64_t *y, int64_t n)
{
    uint64_t state = 1;
    for (int64_t i = n - 1; i > 0; i--) {
        state += 0x9e3779b97f4a7c15u;
        int64_t j = (int64_t)(cst_period_mix(state) % (uint64_t)(i + 1));
        uint64_t t = y[i];
        y[i] = y[j];
        y[j] = t;
    }
}

cst_status cst_period_align(cst_period *p, const uint64_t *s, int64_t n, int64_t span)
{
    int64_t band = 8 + 4 * (int64_t)sqrt((double)span), most = 3 * span + 2 * band, from = n > most ? n - most : 0, chance = 0, found = 0;
    if (band > span / 2) band = span / 2;
    grid g = {.x = s + from, .n = n - from, .span = span, .band = band};
    g.rows = g.n - span + band < g.n ? g.n - span + band : g.n;
    memset(p, 0, sizeof *p);
    if (span < 8 || g.rows < span || g.rows * (2 * band + 1) > MOST_CELLS) return CST_OK;
    uint64_t *other = malloc((size_t)g.n * sizeof *other);
    int64_t *to = malloc((size_t)g.rows * sizeof *to), pairs = g.n - span;
    g.side = calloc((size_t)g.n, 1);
    cst_status st = other && to && g.side ? CST_OK : cst_fail(CST_NO_MEMORY, "period");
    if (st != CST_OK) goto out;
    memcpy(other, g.x, (size_t)g.n * sizeof *other);
    shuffle(other, g.n);
    CST_GO(common(&chance, &g, other), out);
    g.step = malloc((size_t)(g.rows * (2 * band + 1)));
    if (!g.step) CST_GO(cst_fail(CST_NO_MEMORY, "period"), out);
    CST_GO(common(&found, &g, g.x), out);
    double share = (double)found / (double)pairs;
    if (share < LEAST_SHARE || share < (double)chance / (double)pairs + ABOVE_CHANCE) goto out;
    trace_back(to, &g);
    find_sides(&g, to);
    CST_GO(common(&found, &g, g.x), out);
    trace_back(to, &g);
    find_sides(&g, to);
    CST_GO(count(p, to, &g), out);
    p->share = share < 1 ? share : 1;
    p->first = from;
    p->end = n;
out:
    free(g.step);
    free(g.side);
    free(other);
    free(to);
    return st;
}
