/* Frozen parameters: which ones a pattern names, and training of the others against PyTorch's requires_grad = False. */
#include "model_testing.h"

#include "model/freeze.h"

static const char *const models[] = {"tiny-post", "tiny-pre", "tiny-gelu"};
enum { MODELS = 3, CASES = 4 };

static int frozen_of(const cst_config *c, const char *patterns, const char *name)
{
    unsigned char *f;
    int count, id = cst_param_find(c, name);
    ck_assert_int_ge(id, 0);
    ck_ok(cst_freeze(&f, &count, c, patterns));
    int yes = f[id], sum = 0;
    for (int i = 0; i < cst_param_count(c); i++) sum += f[i];
    ck_assert_int_eq(sum, count);
    free(f);
    return yes;
}

START_TEST(patterns_name_parameters)
{
    cst_config c;
    unsigned char *f;
    int count;
    ck_ok(cst_config_load(&c, fixture("tiny-post", NULL)));
    ck_assert(frozen_of(&c, "model.decoder.embed_*,*.layers.[1-9].*", "model.decoder.embed_positions.weight"));
    ck_assert(frozen_of(&c, "model.decoder.embed_*,*.layers.[1-9].*", "model.decoder.layers.1.fc1.bias"));
    ck_assert(!frozen_of(&c, "model.decoder.embed_*,*.layers.[1-9].*", "model.decoder.layers.0.fc1.bias"));
    ck_assert(!frozen_of(&c, "model.decoder.embed_*,*.layers.[1-9].*", "model.decoder.project_in.weight"));
    ck_assert(frozen_of(&c, "layers.0.*", "model.decoder.layers.0.fc1.bias"));
    ck_assert(frozen_of(&c, "decoder.layers.0.*", "model.decoder.layers.0.fc1.bias"));
    ck_assert(frozen_of(&c, "lm_head.weight", "model.decoder.embed_tokens.weight")); /* tied */
    ck_ok(cst_freeze(&f, &count, &c, "*.layers.0.*"));
    ck_assert_int_eq(count, CST_ROLES_PER_LAYER);
    free(f);
    ck_fails(cst_freeze(&f, &count, &c, "*.embed_token"), CST_USAGE, "model.decoder.embed_tokens.weight");
    ck_fails(cst_freeze(&f, &count, &c, "*bias,transformer.h.0.self_atn.k_proj.*"), CST_USAGE, "self_attn.k_proj");
    ck_fails(cst_freeze(&f, &count, &c, "*.layers.7.*"), CST_USAGE, "no parameter is named \"*.layers.7.*\"; similar: ");
    ck_fails(cst_freeze(&f, &count, &c, "*"), CST_USAGE, "nothing is left to train");
    ck_fails(cst_freeze(&f, &count, &c, "*bias,,*norm*"), CST_USAGE, "commas between them");
    ck_fails(cst_freeze(&f, &count, &c, ""), CST_USAGE, "commas between them");
}
END_TEST

static double probe(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * cos((double)i);
    return sum;
}

/* Every parameter at the end: frozen ones have the bits they began with, the others are where PyTorch's went. */
static void check_end(cst_session *s, float **start, const json_t *want, const unsigned char *frozen)
{
    for (int i = 0; i < s->model->params; i++) {
        const cst_param *p = &s->model->param[i];
        float *w = op_read(s->model->w[i]);
        double to = json_number_value(json_object_get(json_object_get(want, "probe"), p->name));
        double moved = json_number_value(json_object_get(json_object_get(want, "change"), p->name)), got = 0;
        for (int64_t k = 0; k < p->count; k++) got += (w[k] - start[i][k]) * (w[k] - start[i][k]);
        got = sqrt(got);
        if (frozen[i]) {
            ck_assert_msg(!memcmp(w, start[i], s->model->w[i]->bytes), "%s is frozen and has changed", p->name);
            ck_assert_ptr_null(s->model->g[i]);
        } else if (!strstr(p->name, "k_proj.bias")) { /* AdamW moves that one by rounding noise alone */
            ck_assert_msg(moved > 1e-3 && fabs(got - moved) <= 1e-4 * moved, "%s moved by %.9g, PyTorch's by %.9g", p->name, got, moved);
            ck_assert_msg(fabs(probe(w, (size_t)p->count) - to) <= 1e-4 * (1 + fabs(to)), "%s isn't where PyTorch's is", p->name);
        }
        free(w);
        free(start[i]);
    }
}

static void ten_steps(const char *model, const json_t *want, const json_t *j, cst_placement placement, cst_recompute recompute)
{
    cst_session_options o;
    cst_session *s;
    int64_t batch, seq;
    int32_t *length;
    unsigned char *frozen;
    int count;
    const json_t *tokens = json_object_get(j, "tokens");
    free(json_tokens(json_array_get(tokens, 0), &batch, &seq, &length));
    free(length);
    o = fixture_options(model, batch, seq);
    o.with_optim = 1;
    o.placement = placement;
    o.recompute = recompute;
    ck_ok(cst_session_open(&s, &o));
    uint64_t all = s->planned;
    ck_ok(cst_session_close(s, CST_OK));
    ck_ok(cst_freeze(&frozen, &count, &o.config, json_string_value(json_object_get(want, "patterns"))));
    ck_assert_uint_eq((size_t)count, json_array_size(json_object_get(want, "frozen")));
    o.frozen = frozen;
    ck_ok(cst_session_open(&s, &o));
    ck_assert(s->planned < all);
    ck_ok(cst_weights_load(s->model, fixture(model, NULL)));
    ck_ok(cst_session_start(s));
    float **start = calloc((size_t)s->model->params, sizeof *start);
    for (int i = 0; i < s->model->params; i++) start[i] = op_read(s->model->w[i]);
    cst_schedule schedule = {CST_SCHEDULE_LINEAR, json_number_value(json_object_get(j, "lr")),
                             json_integer_value(json_object_get(j, "warmup")), json_integer_value(json_object_get(j, "steps"))};
    for (int64_t t = 0; t < schedule.steps; t++) {
        float loss, norm[4];
        double want_loss = json_number_value(json_array_get(json_object_get(want, "loss"), (size_t)t));
        double want_norm = json_number_value(json_array_get(json_object_get(want, "grad_norm"), (size_t)t));
        int32_t *ids = json_tokens(json_array_get(tokens, (size_t)t), &batch, &seq, &length);
        ck_ok(cst_batch_set(s->batch, ids, length, o.config.vocab_size));
        ck_ok(cst_session_begin(s, cst_schedule_lr(&schedule, t), t + 1));
        ck_ok(cst_session_micro(s, (uint64_t)t));
        ck_ok(cst_optim_step(s->optim));
        ck_ok(cst_tensor_read(s->losses, 0, &loss, sizeof loss));
        ck_ok(cst_tensor_read(cst_optim_norm(s->optim), 0, norm, sizeof norm));
        ck_assert_msg(fabs(loss - want_loss) <= 1e-5 * want_loss, "%s step %d: loss %.9g, wanted %.9g", model, (int)t, loss, want_loss);
        ck_assert_msg(fabs(norm[0] - want_norm) <= 1e-4 * want_norm, "%s step %d: norm %.9g, wanted %.9g", model, (int)t, norm[0],
                      want_norm);
        free(ids);
        free(length);
    }
    ck_ok(cst_session_settle(s));
    check_end(s, start, want, frozen);
    ck_ok(cst_mem_check(s->mem));
    ck_ok(cst_session_close(s, CST_OK));
    free(start);
    free(frozen);
}

START_TEST(ten_steps_are_pytorchs)
{
    json_t *j, *cases;
    const char *model = models[_i / CASES];
    ck_ok(cst_json_load(&j, fixture(model, "steps.json"), JSON_OBJECT));
    ck_ok(cst_json_load(&cases, fixture(model, "frozen.json"), JSON_ARRAY));
    ck_assert_uint_eq(json_array_size(cases), CASES);
    const json_t *want = json_array_get(cases, (size_t)(_i % CASES));
    ten_steps(model, want, j, CST_PLACEMENT_RESIDENT, _i % 2 ? CST_RECOMPUTE_LAYER : CST_RECOMPUTE_NONE);
    ten_steps(model, want, j, CST_PLACEMENT_STATIC, _i % 2 ? CST_RECOMPUTE_NONE : CST_RECOMPUTE_LAYER);
    json_decref(j);
    json_decref(cases);
}
END_TEST

/* The others' gradients have the bits they have when nothing is frozen, over two micro-batches. */
START_TEST(other_gradients_keep_their_bits)
{
    static const char *const patterns[] = {"*.layers.0.*,*embed*", "lm_head.weight", "*bias", "*_proj.*,*norm.weight,*fc*", "*layers*"};
    cst_session_options o = fixture_options(models[_i % 2], 2, 11);
    unsigned char *frozen;
    int count;
    float **all = NULL;
    o.accum = 2;
    o.dropout = 0.1;
    ck_ok(cst_freeze(&frozen, &count, &o.config, patterns[_i / 2]));
    for (int turn = 0; turn < 2; turn++) {
        cst_session *s;
        o.frozen = turn ? frozen : NULL;
        ck_ok(cst_session_open(&s, &o));
        ck_ok(cst_weights_load(s->model, fixture(models[_i % 2], NULL)));
        if (!turn) all = calloc((size_t)s->model->params, sizeof *all);
        ck_ok(cst_session_begin(s, 0, 1));
        for (int a = 0; a < o.accum; a++) {
            int32_t ids[22];
            for (int i = 0; i < 22; i++) ids[i] = (int32_t)(cst_random_u64(9, (uint64_t)a, (uint64_t)i) % 60);
            ck_ok(cst_batch_set(s->batch, ids, NULL, o.config.vocab_size));
            ck_ok(cst_session_micro(s, (uint64_t)a));
        }
        for (int i = 0; i < s->model->params; i++) {
            if (turn && frozen[i]) {
                ck_assert_ptr_null(s->model->g[i]);
                continue;
            }
            float *g = op_read(s->model->g[i]);
            if (!turn) {
                all[i] = g;
                continue;
            }
            ck_assert_msg(!memcmp(g, all[i], s->model->g[i]->bytes), "%s: other bits", s->model->param[i].name);
            free(g);
        }
        for (int i = 0; turn && i < s->model->params; i++) free(all[i]);
        ck_ok(cst_session_close(s, CST_OK));
    }
    free(all);
    free(frozen);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("freeze");
    TCase *tc = tcase_create("freeze");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, patterns_name_parameters);
    tcase_add_loop_test(tc, ten_steps_are_pytorchs, 0, MODELS * CASES);
    tcase_add_loop_test(tc, other_gradients_keep_their_bits, 0, 10);
    suite_add_tcase(s, tc);
    return op_main(s);
}
