/* Where a loss that isn't finite comes from. */
#include <math.h>
#include <stdlib.h>

#include "train/trainer.h"

#define CHUNK ((size_t)1 << 20)

/* The first value of t that isn't finite, -1: all are. */
static cst_status scan(int64_t *at, float *bad, cst_tensor *t, float *chunk)
{
    size_t count = t->bytes / sizeof *chunk;
    *at = -1;
    for (size_t first = 0; first < count; first += CHUNK) {
        size_t n = count - first < CHUNK ? count - first : CHUNK;
        CST_TRY(cst_tensor_read(t, first * sizeof *chunk, chunk, n * sizeof *chunk));
        for (size_t i = 0; i < n; i++)
            if (!isfinite(chunk[i])) {
                *at = (int64_t)(first + i);
                *bad = chunk[i];
                return CST_OK;
            }
    }
    return CST_OK;
}

/* NOT_FINITE naming the first of the tensors that has such a value; OK when none has. */
static cst_status name_first(const cst_session *s, cst_tensor *const *t, const char *what, int64_t step, float *chunk)
{
    for (int i = 0; i < s->model->params; i++) {
        int64_t at;
        float bad = 0;
        if (!t[i]) continue;
        CST_TRY(scan(&at, &bad, t[i], chunk));
        if (at >= 0)
            return cst_fail(
                CST_NOT_FINITE,
                "step %lld: the loss is not a finite number; the first tensor that isn't either is %s \"%s\" (%s at element %lld)",
                (long long)step, what, s->model->param[i].name, isnan(bad) ? "NaN" : "infinity", (long long)at);
    }
    return CST_OK;
}

/* Gradients are gone by now, since the next step has begun: the step's are made again. */
static cst_status same_gradients(cst_session *s, const cst_train_options *o, int64_t step, int32_t *ids)
{
    s->keeps_gradients = 1;
    CST_TRY(cst_session_begin(s, 0, 1));
    for (int64_t a = 0; a < s->o.accum; a++) {
        int rows;
        uint64_t index = (uint64_t)((step - 1) * s->o.accum + a);
        cst_batches_get(o->train, index, ids, &rows);
        CST_TRY(cst_batch_set(s->batch, ids, NULL, s->o.config.vocab_size));
        CST_TRY(cst_session_micro(s, index));
    }
    return CST_OK;
}

cst_status cst_train_not_finite(cst_session *s, const cst_train_options *o, int64_t step)
{
    cst_status st;
    float *chunk = malloc(CHUNK * sizeof *chunk);
    int32_t *ids = calloc((size_t)(s->o.batch * s->o.seq), sizeof *ids);
    if (!chunk || !ids) {
        st = cst_fail(CST_NO_MEMORY, "step %lld: the loss is not a finite number", (long long)step);
        goto out;
    }
    CST_GO(cst_session_settle(s), out);
    CST_GO(name_first(s, s->model->w, "weight", step, chunk), out);
    CST_GO(same_gradients(s, o, step, ids), out);
    CST_GO(name_first(s, s->model->g, "the gradient of", step, chunk), out);
    st = cst_fail(CST_NOT_FINITE, "step %lld: the loss is not a finite number, though all weights and gradients are", (long long)step);
out:
    free(chunk);
    free(ids);
    return st;
}
