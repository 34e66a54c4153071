/* See period.h. */
#include "memory/period.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/log.h"
#include "memory/memory.h"
#include "memory/period_internal.h"

#define MOST ((int64_t)1 << 26)
#define LEAST 64             /* accesses of the shortest suffix looked at */
#define PEAKS 24             /* candidates of a suffix */
#define SIGMAS 4.0           /* a peak is that far above the other distances; whether it is a period is seen on the accesses */

/* --- what agreement is worth ------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Bits that one agreement is worth: -log2 of the chance that two accesses drawn from these agree. */
static cst_status worth(double *bits, const uint64_t *s, int64_t n)
{
    double same = 0;
    uint64_t *sorted = malloc((size_t)n * sizeof *sorted);
    if (!sorted) return cst_fail(CST_NO_MEMORY, "period of %lld accesses", (long long)n);
    memcpy(sorted, s, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    for (int64_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && sorted[j] == sorted[i]; j++) continue;
        same += (double)(j - i) * (double)(j - i);
    }
    free(sorted);
    *bits = -log2(same / ((double)n * (double)n));
    return CST_OK;
}

/* Agreements that can't be chance in n accesses. */
static double enough(double bits, int64_t n)
{
    return bits > 1e-9 ? (30 + 2 * log2((double)n)) / bits : INFINITY;
}

/* --- the end repeats ---------------------------------------------------------------------------------------- */

/* z[p]: how many accesses from the end agree with those p earlier. */
static void agreements(int64_t *z, const uint64_t *s, int64_t n)
{
    const uint64_t *last = s + n - 1;
    int64_t left = 0, right = 0; /* [left, right) from the end agrees with the end itself */
    z[0] = n;
    for (int64_t p = 1; p < n; p++) {
        int64_t k = p < right ? (z[p - left] < right - p ? z[p - left] : right - p) : 0;
        while (p + k < n && last[-k] == last[-p - k]) k++;
        z[p] = k;
        if (p + k > right) left = p, right = p + k;
    }
}

cst_status cst_period_suffix(cst_period *p, const uint64_t *s, int64_t n, int repeats)
{
    memset(p, 0, sizeof *p);
    if (n < 2) return CST_OK;
    int64_t *z = malloc((size_t)n * sizeof *z), more = repeats - 1, soonest = 0;
    double bits;
    cst_status st = z ? worth(&bits, s, n) : cst_fail(CST_NO_MEMORY, "period of %lld accesses", (long long)n);
    if (st != CST_OK) goto out;
    double least = enough(bits, n);
    agreements(z, s, n);
    for (int64_t l = 1; l < n && !p->length; l++) {
        if (z[l] >= more * l && z[l] >= least && 2 * (z[l] + l) >= n)
            *p = (cst_period){.length = l, .span = l, .first = n - z[l] - l, .end = n, .share = 1, .exact = 1};
        int64_t missing = more * l - z[l];
        if (missing > 0 && z[l] >= 16 && z[l] >= n / 16 && (!soonest || missing < soonest)) soonest = missing;
    }
    if (!p->length && soonest) p->next = n + soonest;
out:
    free(z);
    return st;
}

/* --- exact periods anywhere --------------------------------------------------------------------------------- */

/* Runs of accesses that agree with those l later, of two iterations or more: how much they cover; *p: the last of them. */
static int64_t covered(cst_period *p, const uint64_t *s, int64_t n, int64_t l, double least)
{
    int64_t sum = 0, until = 0;
    p->length = 0;
    for (int64_t i = 0, j; i + l < n; i = j + 1) {
        for (j = i; j + l < n && s[j] == s[j + l]; j++) continue;
        if (j - i < l || (double)(j - i) < least) continue;
        sum += j + l - (i > until ? i : until);
        until = j + l;
        *p = (cst_period){.length = l, .span = l, .first = i, .end = until, .share = 1, .exact = 1};
    }
    return sum;
}

/* The shortest of these distances that covers half. *lasts: until the end, but for less than half an iteration; or what interrupts
 * it comes again and again: a longer distance lasts until the end. */
static void exact_of(cst_period *p, const uint64_t *s, int64_t n, const int64_t *distance, int distances, double least, int *lasts)
{
    cst_period q[PEAKS];
    int found = 0;
    memset(p, 0, sizeof *p);
    for (int i = 0; i < distances; i++) {
        if (2 * covered(&q[found], s, n, distance[i], least) < n) continue;
        if (!p->length || q[found].length < p->length) *p = q[found];
        found++;
    }
    *lasts = p->length && p->end >= n - p->length / 2;
    for (int i = 0; i < found; i++) *lasts |= q[i].end > p->end && q[i].end >= n - p->length / 2 && p->end >= n - q[i].length;
}

/* --- peaks ---------------------------------------------------------------------------------------------------- */

typedef struct peak {
    int64_t at;
    double score;
} peak;

static int by_score(const void *a, const void *b)
{
    const peak *x = a, *y = b;
    return x->score != y->score ? (x->score < y->score ? 1 : -1) : (x->at > y->at) - (x->at < y->at);
}

static double quantile(float *x, int64_t n, double q)
{
    int64_t k = (int64_t)(q * (double)(n - 1)), lo = 0, hi = n - 1; /* quickselect */
    while (lo < hi) {
        float pivot = x[(lo + hi) / 2];
        int64_t i = lo, j = hi;
        while (i <= j) {
            while (x[i] < pivot) i++;
            while (x[j] > pivot) j--;
            if (i > j) break;
            float t = x[i];
            x[i++] = x[j];
            x[j--] = t;
        }
        if (k <= j) hi = j;
        else if (k >= i) lo = i;
        else break;
    }
    return x[k];
}

/* The highest of the distances whose correlation, summed over `width` neighbours, stands out. Each is the highest within its
 * width. sum, work: room for as many as r. */
static int find_peaks(peak *out, const float *r, int64_t most, int64_t width, float *sum, float *work)
{
    double run = 0;
    int64_t half = width / 2;
    int n = 0;
    for (int64_t l = 1; l <= most && l <= half; l++) run += r[l];
    for (int64_t l = 1; l <= most; l++) {
        if (l + half <= most) run += r[l + half];
        if (l - half - 1 >= 1) run -= r[l - half - 1];
        sum[l] = (float)run;
    }
    memcpy(work, sum + 1, (size_t)most * sizeof *work);
    double middle = quantile(work, most, 0.5), sigma = (middle - quantile(work, most, 0.16)) + 1e-3;
    int64_t best = 0; /* of the distances since the last one that was lower than its left neighbours */
    for (int64_t l = 1; l <= most + half; l++) {
        if (l <= most && (!best || sum[l] > sum[best])) best = l;
        else if (best && l > best + half) {
            double score = (sum[best] - middle) / sigma;
            if (score >= SIGMAS && n < PEAKS) out[n++] = (peak){best, score};
            else if (score >= SIGMAS) {
                int low = 0;
                for (int i = 1; i < n; i++)
                    if (out[i].score < out[low].score) low = i;
                if (score > out[low].score) out[low] = (peak){best, score};
            }
            best = 0;
        }
    }
    qsort(out, (size_t)n, sizeof *out, by_score);
    return n;
}

/* --- a suffix --------------------------------------------------------------------------------------------------- */

typedef struct search {
    const uint64_t *s;
    int64_t n;
    cst_mem *m;
    float *r, *sum, *work;   /* [n/2 + 1] */
    cst_period loose, older; /* with others in between; exact, but not until the end */
} search;

static cst_status correlate(search *q, const uint64_t *s, int64_t n, int *on_device)
{
    *on_device = 0;
    if (q->m && n >= CST_PERIOD_DEVICE_FROM && !cst_mem_device(q->m)->is_cpu) { /* a CPU is never quicker than the host */
        cst_status st = cst_period_correlate_device(q->r, s, n, q->m);
        *on_device = st == CST_OK;
        if (st == CST_OK) return st;
        cst_log(CST_LOG_DEBUG, "period: %s; the host does it", cst_detail());
        q->m = NULL;
    }
    return cst_period_correlate_host(q->r, s, n);
}

/* Insertions spread a peak: over about the root of the distance. Wider and wider sums, until one has a peak that holds. */
static cst_status loose_of(cst_period *p, search *q, const uint64_t *s, int64_t n)
{
    peak x[PEAKS];
    int64_t width = 1;
    p->length = 0;
    while (width * width < n) width *= 2;
    for (; width >= 4 && !p->length; width /= 4) {
        int found = find_peaks(x, q->r, n / 2, width, q->sum, q->work);
        int64_t tried = 0;
        for (int i = 0; i < found && i < 3; i++) { /* the shortest of the three that stand out most */
            int64_t at = 0;
            for (int k = 0; k < found && k < 3; k++)
                if (x[k].at > tried && (!at || x[k].at < at)) at = x[k].at;
            tried = at;
            CST_TRY(cst_period_align(p, s, n, at));
            if (p->length) break;
        }
    }
    return CST_OK;
}

/* Of a suffix: told as of the whole. */
static void within(cst_period *p, const search *q, const uint64_t *s, int on_device)
{
    if (!p->length) return;
    p->on_device = on_device;
    p->first += s - q->s;
    p->end += s - q->s;
}

/* Exact and until the end into *p; what else there may be into *q. */
static cst_status look(cst_period *p, search *q, const uint64_t *s, int64_t n)
{
    peak x[PEAKS];
    int64_t distance[PEAKS];
    double bits;
    int on_device, lasts;
    CST_TRY(worth(&bits, s, n));
    CST_TRY(correlate(q, s, n, &on_device));
    int found = find_peaks(x, q->r, n / 2, 1, q->sum, q->work);
    for (int i = 0; i < found; i++) distance[i] = x[i].at;
    double least = enough(bits, n);
    exact_of(p, s, n, distance, found, least, &lasts);
    within(p, q, s, on_device);
    if (lasts) return CST_OK;
    if (!q->older.length) q->older = *p;
    memset(p, 0, sizeof *p);
    if (q->loose.length) return CST_OK;
    CST_TRY(loose_of(&q->loose, q, s, n));
    within(&q->loose, q, s, on_device);
    return CST_OK;
}

cst_status cst_period_find(cst_period *p, const uint64_t *s, int64_t n, cst_mem *m)
{
    search q = {.s = s, .n = n, .m = m};
    size_t room = (size_t)n / 2 + 2;
    cst_status st = CST_OK;
    memset(p, 0, sizeof *p);
    if (n < 0 || n > MOST) return cst_fail(CST_INPUT, "a sequence of %lld accesses; allowed: up to %lld", (long long)n, (long long)MOST);
    q.r = malloc(room * sizeof *q.r);
    q.sum = malloc(room * sizeof *q.sum);
    q.work = malloc(room * sizeof *q.work);
    if (!q.r || !q.sum || !q.work) CST_GO(cst_fail(CST_NO_MEMORY, "period of %lld accesses", (long long)n), out);
    for (int64_t w = n; w >= LEAST && !p->length; w /= 2) CST_GO(look(p, &q, s + n - w, w), out);
    if (!p->length) *p = q.loose.length ? q.loose : q.older;
    if (!p->length) memset(p, 0, sizeof *p);
out:
    free(q.r);
    free(q.sum);
    free(q.work);
    return st;
}

cst_status cst_period_accesses(uint64_t **out, const cst_trace *t)
{
    uint64_t *s = malloc(((size_t)t->moments + 1) * sizeof *s);
    if (!s) return cst_fail(CST_NO_MEMORY, "period of %d accesses", t->moments);
    for (int k = 0; k < t->moments; k++) {
        const cst_trace_moment *m = &t->moment[k];
        s[k] = XXH3_64bits(m->op, strlen(m->op));
        for (int i = m->first; i < m->first + m->uses; i++) {
            const cst_trace_use *u = &t->use[i];
            uint32_t use[3] = {(uint32_t)u->tensor, (uint32_t)u->access, (uint32_t)u->held};
            s[k] = XXH3_64bits_withSeed(use, sizeof use, s[k]);
        }
    }
    *out = s;
    return CST_OK;
}
