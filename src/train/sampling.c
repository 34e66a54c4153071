#include "train/sampling.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/random.h"

#define STREAM 0x67656e6572617465u /* apart from the streams of weights and dropout */

typedef struct option {
    double p;      /* not normalised */
    float logit;
    int32_t id;
} option;

cst_status cst_sampling_check(const cst_sampling *s)
{
    if (!(s->temperature >= 0) || isinf(s->temperature))
        return cst_fail(CST_USAGE, "a temperature of %g: 0 or more is allowed", s->temperature);
    if (!(s->top_p > 0 && s->top_p <= 1)) return cst_fail(CST_USAGE, "a top-p of %g: above 0 and up to 1 is allowed", s->top_p);
    if (s->top_k < 0) return cst_fail(CST_USAGE, "a top-k of %" PRId64 ": 0 or more is allowed", s->top_k);
    return CST_OK;
}

static int likelier(const void *a, const void *b)
{
    const option *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* How many of the options, which are in order, are drawn from. */
static int64_t cut(const option *o, int64_t n, const cst_sampling *s)
{
    double all = 0, sum = 0;
    int64_t k = 0;
    if (s->top_k && s->top_k < n) n = s->top_k;
    for (int64_t i = 0; i < n; i++) all += o[i].p;
    while (k < n && sum < s->top_p * all) sum += o[k++].p;
    return s->top_p < 1 ? k : n;
}

static int32_t draw(const option *o, int64_t n, const cst_sampling *s, uint64_t index)
{
    double all = 0, u = (double)(cst_random_u64(s->seed, STREAM, index) >> 11) * 0x1p-53;
    for (int64_t i = 0; i < n; i++) all += o[i].p;
    u *= all;
    int64_t last = 0;
    for (int64_t i = 0; i < n; i++) {
        if (o[i].p > 0) last = i; /* rounding may leave a rest behind the last one */
        if ((u -= o[i].p) < 0) return o[i].id;
    }
    return o[last].id;
}

cst_status cst_sample(int32_t *id, const float *logits, int64_t n, const cst_sampling *s, uint64_t index)
{
    int64_t best = 0;
    CST_TRY(cst_sampling_check(s));
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(logits[i])) return cst_fail(CST_NOT_FINITE, "the logit of token %" PRId64 " is %g", i, logits[i]);
        if (logits[i] > logits[best]) best = i;
    }
    *id = (int32_t)best;
    if (s->temperature == 0) return CST_OK;
    option *o = malloc((size_t)n * sizeof *o);
    if (!o) return cst_fail(CST_NO_MEMORY, "sampling");
    for (int64_t i = 0; i < n; i++)
        o[i] = (option){exp(((double)logits[i] - (double)logits[best]) / s->temperature), logits[i], (int32_t)i};
    int64_t count = n;
    if (s->top_k || s->top_p < 1) {
        qsort(o, (size_t)n, sizeof *o, likelier);
        count = cut(o, n, s);
    }
    *id = draw(o, count, s, index);
    free(o);
    return CST_OK;
}
