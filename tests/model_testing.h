/* Fixtures and tiny sessions, shared by the tests of the model and of training. */
#ifndef MODEL_TESTING_H
#define MODEL_TESTING_H

#include "op_testing.h"

#include <jansson.h>

#include "base/file.h"
#include "base/json.h"
#include "io/safetensors.h"
#include "model/folder.h"
#include "model/weights.h"
#include "train/trainer.h"

/* "<srcdir>/tests/fixtures/<name>[/<file>]", borrowed as test_path's. */
static inline const char *fixture(const char *name, const char *file)
{
    const char *dir = test_path(source_path("tests/fixtures"), name);
    return file ? test_path(dir, file) : dir;
}

/* Options of a small session for one fixture: gradients only unless with_optim is set afterwards. */
static inline cst_session_options fixture_options(const char *name, int64_t batch, int64_t seq)
{
    cst_session_options o;
    memset(&o, 0, sizeof o);
    ck_ok(cst_config_load(&o.config, fixture(name, NULL)));
    o.device = getenv("CASTOR_DEVICE");
    o.batch = batch;
    o.seq = seq;
    o.accum = 1;
    o.seed = 1;
    o.optim = (cst_optim_options){.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .clip = 1.0};
    return o;
}

/* Enqueue step t, counted from 0, of a run of 24 random tokens a micro-batch. */
static inline void enqueue_step(cst_session *s, int64_t t)
{
    int32_t ids[24];
    ck_ok(cst_session_begin(s, 1e-2, t + 1));
    for (int a = 0; a < s->o.accum; a++) {
        uint64_t index = (uint64_t)(t * s->o.accum + a);
        for (int i = 0; i < 24; i++) ids[i] = (int32_t)(cst_random_u64(3, index, (uint64_t)i) % (uint64_t)s->o.config.vocab_size);
        ck_ok(cst_batch_set(s->batch, ids, NULL, s->o.config.vocab_size));
        ck_ok(cst_session_micro(s, index));
    }
    ck_ok(cst_optim_step(s->optim));
}

/* Rows of token ids from a JSON array of arrays, padded with 0; *length per row. Returns ids, malloc'd. */
static inline int32_t *json_tokens(const json_t *rows, int64_t *batch, int64_t *seq, int32_t **length)
{
    *batch = (int64_t)json_array_size(rows);
    *seq = 0;
    for (int64_t r = 0; r < *batch; r++)
        if ((int64_t)json_array_size(json_array_get(rows, (size_t)r)) > *seq)
            *seq = (int64_t)json_array_size(json_array_get(rows, (size_t)r));
    int32_t *ids = calloc((size_t)(*batch * *seq), sizeof *ids);
    *length = calloc((size_t)*batch, sizeof **length);
    for (int64_t r = 0; r < *batch; r++) {
        json_t *row = json_array_get(rows, (size_t)r);
        (*length)[r] = (int32_t)json_array_size(row);
        for (int32_t i = 0; i < (*length)[r]; i++) ids[r * *seq + i] = (int32_t)json_integer_value(json_array_get(row, (size_t)i));
    }
    return ids;
}

/* A tensor of expected.safetensors as doubles, malloc'd. */
static inline double *expected(const cst_safetensors *f, const char *prefix, const char *name, size_t *n)
{
    char full[200];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const cst_safetensors_view *v = cst_safetensors_find(f, full);
    ck_assert_msg(v && v->dtype == CST_ST_F64, "%s is not in expected.safetensors", full);
    double *d = malloc(v->bytes);
    memcpy(d, v->data, v->bytes);
    *n = v->count;
    return d;
}

/* sqrt(sum (got - want)^2), and the norm of want. */
static inline double distance(const float *got, const double *want, size_t n, double *norm)
{
    double d = 0, w = 0;
    for (size_t i = 0; i < n; i++) {
        d += (got[i] - want[i]) * (got[i] - want[i]);
        w += want[i] * want[i];
    }
    *norm = sqrt(w);
    return sqrt(d);
}

#endif
