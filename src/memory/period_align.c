/* Periods with other accesses in between: what comes about a span later, in the same order? By the longest common subsequence of
 * the sequence and itself a span later, within a band around that distance. Then, where three iterations are there, what is in all
 * of them? What was inserted twice at the same place by chance isn't. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memory/period_internal.h"

#define MOST_CELLS ((int64_t)1 << 28)
#define LEAST_SHARE 0.55     /* of the accesses have a repetition: 0.8 with 20 % of insertions */
#define ABOVE_CHANCE 0.2     /* more than in the same accesses in another order */

/* Rows are accesses i of x[0..rows), columns their distances span - band ... span + band to accesses of y[0..n). */
typedef struct grid {
    const uint64_t *x, *y;
    int64_t rows, n;
    int64_t span, band;
    unsigned char *step;     /* [rows][2 band + 1] how the best came about; NULL: only its length is asked for */
    const unsigned char *only; /* [rows] the accesses of x that may have partners; NULL: all */
    const unsigned char *better_x, *better_y; /* [rows], [n] 1: rather than others; NULL */
} grid;

enum { MATCH = 1, LEFT = 2, UP = 3 };

/* What it counts that accesses i and j are partners: of ways with as many, the one with the better ones. */
static int32_t value(const grid *g, int64_t i, int64_t j)
{
    return g->better_x ? 1024 + g->better_x[i] + g->better_y[j] : 1024;
}

/* Length of the common subsequence of x[i] and y[i + span + e]. */
static cst_status common(int64_t *length, const grid *g)
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
        int64_t j = i + g->span - g->band, until = !g->only || g->only[i] ? g->n : 0;
        for (int64_t e = 0; e < wide; e++, j++) {
            int32_t up = e + 1 < wide ? old[e + 1] : 0, left = e ? now[e - 1] : 0;
            int32_t best = up > left ? up : left, with = j >= 0 && j < until && g->x[i] == g->y[j] ? old[e] + value(g, i, j) : 0;
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

/* Partners; and which accesses have one. */
static cst_status pair_up(int64_t *length, int64_t *to, unsigned char *of_x, unsigned char *of_y, const grid *g)
{
    CST_TRY(common(length, g));
    trace_back(to, g);
    memset(of_x, 0, (size_t)g->rows);
    memset(of_y, 0, (size_t)g->n);
    for (int64_t i = 0; i < g->rows; i++)
        if (to[i] >= 0) of_x[i] = of_y[to[i]] = 1;
    return CST_OK;
}

/* --- the sequence and itself --------------------------------------------------------------------------------- */

/* The sequence itself a span later: which accesses have a partner after them, and before. */
typedef struct itself {
    grid g;
    int64_t *to;             /* [rows] */
    unsigned char *after, *before; /* [n] */
} itself;

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* An access belongs to the iteration when it has a partner on both sides. Where it stands twice, once inserted, the partners may
 * have gone to one each: between two that belong, equal ones with the two sides are one. */
static void join_sides(const itself *s)
{
    int64_t n = s->g.n, far = s->g.span + s->g.band;
    unsigned char *after = s->after, *before = s->before;
    for (int64_t i = 0; i < n; i++) { /* where the sequence ends, and no partner can be */
        int any = after[i] || before[i];
        if (any && i < far) before[i] = 1;
        if (any && i + far >= n) after[i] = 1;
    }
    for (int64_t i = 0, end; i < n; i = end + 1) {
        for (end = i; end < n && !(after[end] && before[end]); end++) continue;
        for (int64_t a = i; a < end; a++)
            for (int64_t b = i; b < end && before[a] && !after[a]; b++)
                if (after[b] && !before[b] && s->g.x[a] == s->g.x[b]) before[a] = 0, before[b] = 1;
    }
}

/* The median number of accesses that belong, from one to its partner; and the median distance. 0: there is none such. */
static cst_status count(cst_period *p, const itself *s)
{
    const int64_t *to = s->to, rows = s->g.rows;
    int64_t *belong = malloc((size_t)(s->g.n + 1) * sizeof *belong), *length = malloc((size_t)rows * sizeof *length),
            *span = malloc((size_t)rows * sizeof *span), n = 0;
    cst_status st = belong && length && span ? CST_OK : cst_fail(CST_NO_MEMORY, "period");
    if (st != CST_OK) goto out;
    join_sides(s);
    belong[0] = 0;
    for (int64_t i = 0; i < s->g.n; i++) belong[i + 1] = belong[i] + (s->before[i] && s->after[i]);
    for (int64_t i = 0; i < rows; i++) {
        if (to[i] < 0 || belong[i + 1] == belong[i]) continue;
        span[n] = to[i] - i;
        length[n++] = belong[to[i]] - belong[i];
    }
    p->length = p->span = 0;
    if (!n) goto out;
    qsort(length, (size_t)n, sizeof *length, by_size);
    qsort(span, (size_t)n, sizeof *span, by_size);
    p->length = length[n / 2];
    p->span = span[n / 2];
out:
    free(belong);
    free(length);
    free(span);
    return st;
}

/* --- three iterations ---------------------------------------------------------------------------------------- */

#define SOLID 3              /* so many telling ones in a row whose partners are in a row too: not by chance */

/* Three iterations, each from the same access on. Where there are just three the last one is the end of the sequence and then its
 * beginning. */
typedef struct thrice {
    grid g;                  /* for two of them */
    const uint64_t *s[3];
    int64_t n[3];
    int64_t seam;            /* where in the last one the sequence ends */
    uint64_t *last;
    int64_t *to;
    unsigned char *telling;  /* the sequence's accesses that come once or twice an iteration: among others partners may be off by a few */
    unsigned char *first, *second, *both, *of_x, *of_y; /* who is paired */
} thrice;

static void find_telling(thrice *t, const itself *s)
{
    int64_t n = s->g.n, most = 2 * n / s->g.span;
    int64_t *sorted = (int64_t *)t->last;
    memcpy(sorted, s->g.x, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_size);
    for (int64_t i = 0; i < n; i++) {
        int64_t x = (int64_t)s->g.x[i], low = 0, high = n - 1; /* the first x */
        while (low < high) {
            int64_t middle = (low + high) / 2;
            if (sorted[middle] < x) low = middle + 1;
            else high = middle;
        }
        t->telling[i] = low + most >= n || sorted[low + most] != x;
    }
}

/* How many telling accesses from i on have partners that are in a row too, and so on, so many times; run: how many from i + 1 on. */
static int64_t in_a_row(const thrice *t, const itself *s, int64_t i, int times, int64_t run)
{
    int telling = t->telling[i];
    for (int64_t next = i + 1; times > 0; times--) {
        i = i < s->g.rows ? s->to[i] : -1;
        next = next >= 0 && next < s->g.rows ? s->to[next] : -1;
        if (i < 0) return 0;
        if (next != i + 1) run = 0;
    }
    return run + telling;
}

/* Cuts where most telling accesses in a row come again and again. 0: there is no such place. */
static int cut(thrice *t, const itself *s)
{
    const int64_t *to = s->to, rows = s->g.rows, n = s->g.n;
    int64_t longest = 0, first = 0, begin = 0, end = -1, run = 0;
    for (int64_t i = rows - 1; i >= 0; i--) {
        run = in_a_row(t, s, i, 3, run);
        if (run > longest) longest = run, first = i;
    }
    int whole = longest >= SOLID; /* and to where they come the fourth time */
    if (!whole) run = longest = 0;
    for (int64_t i = rows - 1; i >= 0 && !whole; i--) {
        run = in_a_row(t, s, i, 2, run);
        if (run < SOLID) continue;
        if (end < 0) end = i;
        if (to[i] <= end) { /* what comes before is the end once more */
            begin = i;
            break;
        }
        if (run > longest) longest = run, first = i;
    }
    if (longest < SOLID) return 0;
    int64_t second = to[first], third = to[second], rest = first - begin;
    t->seam = whole ? to[third] - third : n - third;
    t->s[0] = s->g.x + first, t->n[0] = second - first;
    t->s[1] = s->g.x + second, t->n[1] = third - second;
    t->s[2] = t->last, t->n[2] = whole ? t->seam : t->seam + rest;
    memcpy(t->last, s->g.x + third, (size_t)t->seam * sizeof *t->last);
    if (!whole) memcpy(t->last + t->seam, s->g.x + begin, (size_t)rest * sizeof *t->last);
    return t->n[0] <= rows && t->n[1] <= rows;
}

/* Partners of accesses of a in b; of: which have one; from: which may have one, NULL: all. */
static cst_status pair_two(int64_t *length, thrice *t, int a, int b, unsigned char *of, const unsigned char *from)
{
    t->g.x = t->s[a], t->g.rows = t->n[a];
    t->g.y = t->s[b], t->g.n = t->n[b];
    t->g.only = from;
    return pair_up(length, t->to, of, t->of_y, &t->g);
}

/* How many accesses come in all three in the same order: those common to two, and of them what is in the third as well. Two of them
 * may rather have something in common that the third lacks; so all three pairs are tried, the last one with what the third has as
 * the better partners. *missing: in the first two, but not where the third has its seam. */
static cst_status in_all(int64_t *length, int64_t *missing, thrice *t)
{
    int64_t way[3], last = -1, next = t->n[0], any;
    int before = 0, after = 0; /* so many in a row have partners on that side of the seam */
    CST_TRY(pair_two(&any, t, 0, 2, t->first, NULL));
    CST_TRY(pair_two(&way[0], t, 0, 1, t->of_x, t->first));
    CST_TRY(pair_two(&any, t, 1, 2, t->second, NULL));
    CST_TRY(pair_two(&way[1], t, 1, 0, t->of_x, t->second));
    t->g.better_x = t->first, t->g.better_y = t->second;
    CST_TRY(pair_two(&any, t, 0, 1, t->both, NULL));
    t->g.better_x = t->g.better_y = NULL;
    CST_TRY(pair_two(&way[2], t, 0, 2, t->of_x, t->both));
    *length = way[0] > way[1] ? way[0] : way[1];
    if (way[2] > *length) *length = way[2];
    for (int64_t i = 0; i < t->n[0] && after < SOLID; i++) {
        if (!t->both[i]) continue;
        before = t->to[i] >= 0 && t->to[i] < t->seam ? before + 1 : 0;
        after = t->to[i] >= t->seam ? after + 1 : 0;
        if (before >= SOLID) last = i;
        if (after == SOLID) next = i;
    }
    *missing = 0;
    for (int64_t i = last + 1; i < next; i++) *missing += t->both[i] && t->to[i] < 0;
    return CST_OK;
}

/* Where three whole iterations are there: what isn't in all of them isn't the iteration's. Where they aren't, the third lacks more
 * than insertions explain, at its seam or altogether. */
static cst_status confirm(cst_period *p, const itself *s)
{
    size_t n = (size_t)s->g.n;
    thrice t = {.g = s->g, .last = malloc(n * sizeof *t.last), .to = malloc(n * sizeof *t.to), .both = malloc(6 * n)};
    int64_t length, missing;
    cst_status st = t.last && t.to && t.both ? CST_OK : cst_fail(CST_NO_MEMORY, "period");
    if (st != CST_OK) goto out;
    t.first = t.both + n, t.second = t.first + n, t.of_x = t.second + n, t.of_y = t.of_x + n, t.telling = t.of_y + n;
    t.g.span = 0;
    find_telling(&t, s);
    if (!cut(&t, s)) goto out;
    CST_GO(in_all(&length, &missing, &t), out);
    if (missing < 2 && 32 * (p->length - length - 1) <= p->length) p->length = length;
out:
    free(t.last);
    free(t.to);
    free(t.both);
    return st;
}

/* --- is it so? ------------------------------------------------------------------------------------------------- */

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
    itself t = {.g = {.x = s + from, .n = n - from, .span = span, .band = band}};
    t.g.rows = t.g.n - span + band < t.g.n ? t.g.n - span + band : t.g.n;
    memset(p, 0, sizeof *p);
    if (span < 8 || t.g.rows < span || t.g.rows * (2 * band + 1) > MOST_CELLS) return CST_OK;
    uint64_t *other = malloc((size_t)t.g.n * sizeof *other);
    int64_t pairs = t.g.n - span;
    t.to = malloc((size_t)t.g.rows * sizeof *t.to);
    t.after = calloc((size_t)t.g.n, 1);
    t.before = calloc((size_t)t.g.n, 1);
    cst_status st = other && t.to && t.after && t.before ? CST_OK : cst_fail(CST_NO_MEMORY, "period");
    if (st != CST_OK) goto out;
    memcpy(other, t.g.x, (size_t)t.g.n * sizeof *other);
    shuffle(other, t.g.n);
    t.g.y = other;
    CST_GO(common(&chance, &t.g), out);
    t.g.y = t.g.x;
    t.g.step = malloc((size_t)(t.g.rows * (2 * band + 1)));
    if (!t.g.step) CST_GO(cst_fail(CST_NO_MEMORY, "period"), out);
    CST_GO(pair_up(&found, t.to, t.after, t.before, &t.g), out);
    double share = (double)found / (double)pairs;
    if (share < LEAST_SHARE || share < (double)chance / (double)pairs + ABOVE_CHANCE) goto out;
    t.g.better_x = t.before, t.g.better_y = t.after; /* longer chains */
    CST_GO(pair_up(&found, t.to, t.after, t.before, &t.g), out);
    t.g.better_x = t.g.better_y = NULL;
    CST_GO(count(p, &t), out);
    if (p->length) CST_GO(confirm(p, &t), out);
    p->share = share < 1 ? share : 1;
    p->first = from;
    p->end = n;
out:
    free(t.g.step);
    free(t.after);
    free(t.before);
    free(t.to);
    free(other);
    return st;
}
