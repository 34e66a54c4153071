#include "train/perplexity.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

int64_t cst_window_count(int64_t n, int64_t length, int64_t stride)
{
    return n <= length ? 1 : 1 + (n - length + stride - 1) / stride;
}

cst_window cst_window_at(int64_t i, int64_t n, int64_t length, int64_t stride)
{
    cst_window w = {.begin = i * stride};
    w.end = w.begin + length < n ? w.begin + length : n;
    w.first = i ? w.begin - stride + length : 1; /* the end of the window before */
    if (w.first == w.begin) w.first++;
    return w;
}

double cst_perplexity_of(const cst_loss_total *t)
{
    return t->tokens ? exp(t->sum / (double)t->tokens) : NAN;
}

/* Windows of one batch, and their losses. */
typedef struct work {
    int32_t *ids, *length; /* [batch * seq], [batch] */
    float *loss;           /* [batch * seq]: at a token's place, that of the next one */
} work;

static cst_status run_batch(work *k, cst_session *s, const uint32_t *ids, int64_t n, int64_t stride, int64_t from, int64_t to)
{
    int64_t seq = s->o.seq;
    for (int64_t r = 0; r < s->o.batch; r++) {
        cst_window w = cst_window_at(from + r, n, seq, stride);
        k->length[r] = from + r < to ? (int32_t)(w.end - w.begin) : 0;
        for (int32_t t = 0; t < k->length[r]; t++) {
            uint32_t id = ids[w.begin + t];
            if (id > INT32_MAX) return cst_fail(CST_INPUT, "token %" PRIu32 " at place %" PRId64 " of the text", id, w.begin + t);
            k->ids[r * seq + t] = (int32_t)id;
        }
    }
    CST_TRY(cst_batch_set(s->batch, k->ids, k->length, s->o.config.vocab_size));
    CST_TRY(cst_session_evaluate(s));
    return cst_tensor_read(s->loss, 0, k->loss, s->loss->bytes);
}

static cst_status add_window(cst_loss_total *all, cst_loss_total *whole, const cst_window *w, const float *loss, int64_t length, float *losses)
{
    cst_loss_total t = {1, 0, 0};
    for (int64_t i = w->first; i < w->end; i++) {
        float x = loss[i - 1 - w->begin];
        if (!isfinite(x)) return cst_fail(CST_NOT_FINITE, "the loss of token %" PRId64 " of the text is %g", i, x);
        if (losses) losses[i] = x;
        t.sum += x;
        t.tokens++;
    }
    for (int k = 0; k < (w->end - w->begin == length ? 2 : 1); k++) {
        cst_loss_total *to = k ? whole : all;
        to->windows++;
        to->tokens += t.tokens;
        to->sum += t.sum;
    }
    return CST_OK;
}

static cst_status run(cst_loss_total *all, cst_loss_total *whole, work *k, cst_session *s, const uint32_t *ids, int64_t n,
                      const cst_perplexity_options *o)
{
    int64_t seq = s->o.seq, windows = cst_window_count(n, seq, o->stride);
    for (int64_t from = 0; from < windows; from += s->o.batch) {
        int64_t to = from + s->o.batch < windows ? from + s->o.batch : windows;
        if (o->stop && o->stop(o->user)) return cst_fail(CST_INTERRUPTED, "interrupted after window %" PRId64 " of %" PRId64, from, windows);
        CST_TRY(run_batch(k, s, ids, n, o->stride, from, to));
        for (int64_t i = from; i < to; i++) {
            cst_window w = cst_window_at(i, n, seq, o->stride);
            CST_TRY(add_window(all, whole, &w, k->loss + (i - from) * seq, seq, o->losses));
        }
        if (o->report) o->report(all, windows, o->user);
    }
    return CST_OK;
}

cst_status cst_perplexity(cst_loss_total *all, cst_loss_total *whole, cst_session *s, const uint32_t *ids, size_t n,
                          const cst_perplexity_options *o)
{
    int64_t size = s->o.batch * s->o.seq;
    work k = {calloc((size_t)size, sizeof *k.ids), calloc((size_t)s->o.batch, sizeof *k.length), calloc((size_t)size, sizeof *k.loss)};
    cst_status st;
    *all = *whole = (cst_loss_total){0, 0, 0};
    if (!k.ids || !k.length || !k.loss) st = cst_fail(CST_NO_MEMORY, "perplexity");
    else if (o->stride < 1 || o->stride > s->o.seq)
        st = cst_fail(CST_USAGE, "a stride of %" PRId64 ": 1 to %" PRId64 ", the length of a window, is allowed", o->stride, s->o.seq);
    else if (n < 2 || n > INT64_MAX / 2) st = cst_fail(CST_INPUT, "a text of %zu tokens: 2 or more are needed", n);
    else {
        for (size_t i = 0; o->losses && i < n; i++) o->losses[i] = NAN;
        st = run(all, whole, &k, s, ids, (int64_t)n, o);
    }
    free(k.ids);
    free(k.length);
    free(k.loss);
    return st;
}
