/* Whole models against PyTorch's float64: loss, logits, every gradient, ten steps of training. */
#include "model_testing.h"

#include "op/fill.h"

static const char *const models[] = {"tiny-post", "tiny-pre", "tiny-gelu"};

/* Every gradient within 1e-5 relative L2 of PyTorch's float64; each element of k_proj.bias, whose gradient is
 * zero in theory, within 1e-8. */
static void check_gradients(cst_session *s, const cst_safetensors *want, const char *prefix)
{
    for (int i = 0; i < s->model->params; i++) {
        const char *name = s->model->param[i].name;
        size_t n;
        double norm, *w = expected(want, prefix, name, &n);
        float *got = op_read(s->model->g[i]);
        double d = distance(got, w, n, &norm);
        if (strstr(name, "k_proj.bias")) op_close(name, got, w, n, 1e-8, 1);
        else ck_assert_msg(d <= 1e-5 * norm, "%s%s: off by %.3g of %.3g", prefix, name, d, norm);
        free(got);
        free(w);
    }
}

static void check_batch(const char *model, const char *file, const char *prefix, cst_recompute recompute)
{
    json_t *j;
    cst_safetensors *want;
    int64_t batch, seq;
    int32_t *length;
    size_t n;
    float loss;
    ck_ok(cst_json_load(&j, fixture(model, file), JSON_ARRAY));
    int32_t *ids = json_tokens(j, &batch, &seq, &length);
    ck_ok(cst_safetensors_open(&want, fixture(model, "expected.safetensors")));
    cst_session_options o = fixture_options(model, batch, seq);
    o.recompute = recompute;
    cst_session *s;
    ck_ok(cst_session_open(&s, &o));
    ck_ok(cst_weights_load(s->model, fixture(model, NULL)));
    ck_ok(cst_batch_set(s->batch, ids, length, o.config.vocab_size));
    for (int turn = 1; turn <= 2; turn++) { /* the second time over the first one's gradients: nothing is left of them */
        ck_ok(cst_session_begin(s, 0, 1));
        ck_ok(cst_session_micro(s, 0));
        ck_ok(cst_tensor_read(s->losses, 0, &loss, sizeof loss));
        double *w = expected(want, prefix, "loss", &n);
        ck_assert_msg(fabs(loss - *w) <= 1e-6 * *w, "loss %.9g, wanted %.9g", loss, *w);
        free(w);
        check_gradients(s, want, prefix);
    }
    ck_ok(cst_mem_check(s->mem));
    cst_safetensors_close(want);
    free(ids);
    free(length);
    json_decref(j);
    ck_ok(cst_session_close(s, CST_OK));
}

START_TEST(loss_and_gradients_are_pytorchs)
{
    check_batch(models[_i], "tokens.json", "", CST_RECOMPUTE_NONE);
}
END_TEST

/* Whatever the gradients held before a step, here NaN, none of it gets into them: one or two micro-batches give the
 * numbers that adding to zeros gives. */
static void fill_gradients(cst_session *s, float value)
{
    for (int i = 0; i < s->model->params; i++) ck_ok(cst_fill(s->mem, s->model->g[i], value));
}

START_TEST(a_step_overwrites_what_gradients_held)
{
    cst_session_options o = fixture_options(models[_i % 3], 2, 7);
    o.accum = 1 + _i / 3;
    o.recompute = _i / 3 ? CST_RECOMPUTE_LAYER : CST_RECOMPUTE_NONE;
    o.dropout = 0.1;
    cst_session *s;
    float **first = NULL;
    ck_ok(cst_session_open(&s, &o));
    ck_ok(cst_weights_load(s->model, fixture(models[_i % 3], NULL)));
    first = calloc((size_t)s->model->params, sizeof *first);
    for (int turn = 0; turn < 2; turn++) {
        fill_gradients(s, turn ? 0 : NAN);
        ck_ok(cst_session_begin(s, 0, 1));
        s->micros = turn; /* the second turn adds from the start */
        for (int a = 0; a < o.accum; a++) {
            int32_t ids[14];
            for (int i = 0; i < 14; i++) ids[i] = (int32_t)(cst_random_u64(4, (uint64_t)a, (uint64_t)i) % 50);
            ck_ok(cst_batch_set(s->batch, ids, NULL, o.config.vocab_size));
            ck_ok(cst_session_micro(s, (uint64_t)a));
        }
        for (int i = 0; i < s->model->params; i++) {
            float *g = op_read(s->model->g[i]);
            for (int64_t k = 0; turn && k < s->model->param[i].count; k++)
                if (!(g[k] == first[i][k])) ck_abort_msg("%s[%d]: %.9g and %.9g", s->model->param[i].name, (int)k, first[i][k], g[k]);
            if (turn) free(g), free(first[i]);
            else first[i] = g;
        }
    }
    free(first);
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

START_TEST(rows_of_different_lengths)
{
    check_batch(models[_i], "tokens-ragged.json", "ragged.", CST_RECOMPUTE_NONE);
}
END_TEST

START_TEST(recomputed_layers)
{
    check_batch(models[_i], "tokens.json", "", CST_RECOMPUTE_LAYER);
}
END_TEST

START_TEST(logits_are_pytorchs)
{
    json_t *j;
    cst_safetensors *want;
    int64_t batch, seq;
    int32_t *length;
    size_t n;
    double norm;
    const char *model = models[_i];
    ck_ok(cst_json_load(&j, fixture(model, "tokens.json"), JSON_ARRAY));
    int32_t *ids = json_tokens(j, &batch, &seq, &length);
    ck_ok(cst_safetensors_open(&want, fixture(model, "expected.safetensors")));
    cst_session_options o = fixture_options(model, batch, seq);
    cst_session *s;
    cst_tensor *logits;
    ck_ok(cst_session_open(&s, &o));
    ck_ok(cst_weights_load(s->model, fixture(model, NULL)));
    ck_ok(cst_batch_set(s->batch, ids, length, o.config.vocab_size));
    ck_ok(cst_tensor_create(&logits, s->mem, CST_SCRATCH, CST_F32, 2, (int64_t[]){batch * seq, o.config.vocab_size}, "logits"));
    ck_ok(cst_model_logits(s->model, s->batch, logits));
    float *got = op_read(logits);
    double *w = expected(want, "", "logits", &n);
    ck_assert_uint_eq(n, (size_t)cst_tensor_count(logits));
    double d = distance(got, w, n, &norm);
    ck_assert_msg(d <= 1e-6 * norm, "logits off by %.3g of %.3g", d, norm);
    free(got);
    free(w);
    cst_tensor_free(logits);
    cst_safetensors_close(want);
    free(ids);
    free(length);
    json_decref(j);
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

/* Ten AdamW steps of a fixture with warm-up, decay and clipping: every loss within 1e-5 of PyTorch's float64. */
static void ten_steps(const char *model, cst_placement placement)
{
    json_t *j, *tokens;
    int64_t batch, seq;
    int32_t *length;
    ck_ok(cst_json_load(&j, fixture(model, "steps.json"), JSON_OBJECT));
    tokens = json_object_get(j, "tokens");
    free(json_tokens(json_array_get(tokens, 0), &batch, &seq, &length));
    free(length);
    cst_session_options o = fixture_options(model, batch, seq);
    o.with_optim = 1;
    o.placement = placement;
    cst_session *s;
    ck_ok(cst_session_open(&s, &o));
    ck_assert_int_eq(s->placement, placement);
    ck_ok(cst_weights_load(s->model, fixture(model, NULL)));
    ck_ok(cst_session_start(s));
    cst_schedule schedule = {CST_SCHEDULE_LINEAR, json_number_value(json_object_get(j, "lr")),
                             json_integer_value(json_object_get(j, "warmup")), json_integer_value(json_object_get(j, "steps"))};
    for (int64_t t = 0; t < schedule.steps; t++) {
        float loss, norm[4];
        double lr = cst_schedule_lr(&schedule, t), want = json_number_value(json_array_get(json_object_get(j, "loss"), (size_t)t));
        double want_norm = json_number_value(json_array_get(json_object_get(j, "grad_norm"), (size_t)t));
        int32_t *ids = json_tokens(json_array_get(tokens, (size_t)t), &batch, &seq, &length);
        ck_ok(cst_batch_set(s->batch, ids, length, o.config.vocab_size));
        ck_ok(cst_session_begin(s, lr, t + 1));
        ck_ok(cst_session_micro(s, (uint64_t)t));
        ck_ok(cst_optim_step(s->optim));
        ck_ok(cst_tensor_read(s->losses, 0, &loss, sizeof loss));
        ck_ok(cst_tensor_read(cst_optim_norm(s->optim), 0, norm, sizeof norm));
        ck_assert_msg(fabs(loss - want) <= 1e-5 * want, "%s step %d: loss %.9g, wanted %.9g", model, (int)t, loss, want);
        ck_assert_msg(fabs(norm[0] - want_norm) <= 1e-4 * want_norm, "%s step %d: norm %.9g, wanted %.9g", model, (int)t, norm[0],
                      want_norm);
        free(ids);
        free(length);
    }
    json_decref(j);
    ck_ok(cst_session_close(s, CST_OK));
}

START_TEST(ten_steps_resident)
{
    ten_steps(models[_i], CST_PLACEMENT_RESIDENT);
}
END_TEST

START_TEST(ten_steps_with_state_on_the_host)
{
    ten_steps(models[_i], CST_PLACEMENT_STATIC);
}
END_TEST

START_TEST(ids_outside_the_vocabulary_are_refused)
{
    cst_session_options o = fixture_options("tiny-pre", 1, 4);
    cst_session *s;
    ck_ok(cst_session_open(&s, &o));
    ck_fails(cst_batch_set(s->batch, (int32_t[]){1, 2, 61, 3}, NULL, o.config.vocab_size), CST_INPUT, "token 61 at position 2");
    ck_fails(cst_batch_set(s->batch, (int32_t[]){1, 2, -1, 3}, NULL, o.config.vocab_size), CST_INPUT, "0 to 60");
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("model");
    TCase *tc = tcase_create("against PyTorch");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, loss_and_gradients_are_pytorchs, 0, 3);
    tcase_add_loop_test(tc, a_step_overwrites_what_gradients_held, 0, 6);
    tcase_add_loop_test(tc, rows_of_different_lengths, 0, 3);
    tcase_add_loop_test(tc, recomputed_layers, 0, 3);
    tcase_add_loop_test(tc, logits_are_pytorchs, 0, 3);
    tcase_add_loop_test(tc, ten_steps_resident, 0, 3);
    tcase_add_loop_test(tc, ten_steps_with_state_on_the_host, 0, 3);
    tcase_add_test(tc, ids_outside_the_vocabulary_are_refused);
    suite_add_tcase(s, tc);
    return op_main(s);
}
