/* Generation: transformers' greedy texts, the same with and without kept keys and values, budgets to the byte; sampling. */
#include "model_testing.h"

#include "train/generate.h"

static const char *const models[] = {"generate/post", "generate/pre"};
static const cst_sampling greedy = {.top_p = 1};

/* Tokens of a text: as many as a test wants, or fewer where CASTOR_TEST_TOKENS says so, for devices where every launch is slow. */
static int64_t tokens_of(int64_t want)
{
    const char *most = getenv("CASTOR_TEST_TOKENS");
    return most && atoll(most) < want ? atoll(most) : want;
}

static cst_generate_options options(const char *model, int64_t prompt, int64_t tokens)
{
    cst_generate_options o = {.device = getenv("CASTOR_DEVICE"), .prompt = prompt, .tokens = tokens};
    ck_ok(cst_config_load(&o.config, fixture(model, NULL)));
    return o;
}

/* What a generator makes of a prompt. */
typedef struct text {
    int32_t ids[160];
    int64_t count;
    cst_generate_end end;
    uint64_t peak;
} text;

static text generate(const char *model, const cst_generate_options *o, const int32_t *prompt, const cst_sampling *s)
{
    text t;
    cst_generator *g;
    cst_mem_stats stats;
    ck_ok(cst_generator_open(&g, o));
    ck_ok(cst_weights_load(g->model, fixture(model, NULL)));
    ck_ok(cst_generate(t.ids, &t.count, &t.end, g, prompt, s, NULL, NULL));
    ck_ok(cst_mem_check(g->mem));
    cst_mem_get_stats(g->mem, &stats);
    t.peak = stats.reserved_peak;
    ck_assert_uint_eq(t.peak, g->planned); /* the plan was exact */
    ck_ok(cst_generator_close(g, CST_OK));
    return t;
}

/* Text k of a model's fixture. Returns the prompt, malloc'd; NULL behind the last one. */
static int32_t *fixture_text(const char *model, size_t k, int64_t *prompt, text *want)
{
    json_t *j;
    ck_ok(cst_json_load(&j, fixture(model, "greedy.json"), JSON_OBJECT));
    json_t *t = json_array_get(json_object_get(j, "texts"), k), *ids = json_object_get(t, "prompt");
    int32_t *p = t ? malloc(json_array_size(ids) * sizeof *p) : NULL;
    if (t) {
        const char *end = json_string_value(json_object_get(t, "end"));
        *prompt = (int64_t)json_array_size(ids);
        for (int64_t i = 0; i < *prompt; i++) p[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
        ids = json_object_get(t, "ids");
        want->count = (int64_t)json_array_size(ids);
        for (int64_t i = 0; i < want->count; i++) want->ids[i] = (int32_t)json_integer_value(json_array_get(ids, (size_t)i));
        want->end = !strcmp(end, "eos") ? CST_GENERATE_EOS : !strcmp(end, "positions") ? CST_GENERATE_POSITIONS : CST_GENERATE_TOKENS;
    }
    json_decref(j);
    return p;
}

static void same_text(const char *what, const text *got, const text *want)
{
    for (int64_t i = 0; i < got->count && i < want->count; i++)
        ck_assert_msg(got->ids[i] == want->ids[i], "%s: token %d is %d, wanted %d", what, (int)i, got->ids[i], want->ids[i]);
    ck_assert_msg(got->count == want->count, "%s: %d tokens, wanted %d", what, (int)got->count, (int)want->count);
    ck_assert_msg(got->end == want->end, "%s: ended by %s, wanted %s", what, cst_generate_end_name(got->end),
                  cst_generate_end_name(want->end));
}

/* Prompts of 1 to 130 tokens, across the tiles of attention, each with up to 70 tokens of text; with and without kept keys
 * and values. */
START_TEST(greedy_texts_are_those_of_transformers)
{
    const char *model = models[_i / 2];
    int64_t prompt;
    text want;
    int32_t *p;
    size_t k = 0;
    for (; (p = fixture_text(model, k, &prompt, &want)); k++) {
        char what[80];
        int64_t tokens = tokens_of(70);
        cst_generate_options o = options(model, prompt, tokens);
        o.no_cache = _i % 2;
        if (want.count > tokens) {
            want.count = tokens;
            want.end = CST_GENERATE_TOKENS;
        }
        text got = generate(model, &o, p, &greedy);
        snprintf(what, sizeof what, "%s, prompt of %d, %s", model, (int)prompt, o.no_cache ? "without cache" : "with cache");
        same_text(what, &got, &want);
        free(p);
    }
    ck_assert_uint_ge(k, 10);
}
END_TEST

START_TEST(drawn_texts_are_the_same_without_cache)
{
    const char *model = models[_i];
    int32_t prompt[64];
    cst_sampling s = {.temperature = 0.9, .top_k = 20, .top_p = 0.95, .seed = 5};
    text other;
    int differ = 0;
    for (int i = 0; i < 64; i++) prompt[i] = 3 + (int32_t)(cst_random_u64(8, 8, (uint64_t)i) % 60);
    for (int n = 1; n <= 64; n += 63) {
        cst_generate_options o = options(model, n, tokens_of(50));
        text a = generate(model, &o, prompt, &s), b = generate(model, &o, prompt, &s);
        same_text("twice", &a, &b);
        o.no_cache = 1;
        b = generate(model, &o, prompt, &s);
        same_text("without cache", &b, &a);
        o.no_cache = 0;
        s.seed++;
        other = generate(model, &o, prompt, &s);
        differ += memcmp(a.ids, other.ids, (size_t)(a.count < other.count ? a.count : other.count) * sizeof *a.ids) != 0;
        s.seed--;
    }
    ck_assert_int_ge(differ, 1);
    s = (cst_sampling){.temperature = 2, .top_k = 1, .top_p = 1, .seed = 9};
    cst_generate_options o = options(model, 5, tokens_of(50));
    text a = generate(model, &o, prompt, &s), b = generate(model, &o, prompt, &greedy);
    same_text("top-k 1", &a, &b);
}
END_TEST

START_TEST(budgets_are_obeyed_to_the_byte)
{
    int32_t prompt[] = {2, 7, 9};
    cst_generate_options o = options(models[_i], 3, 100);
    cst_generator *g;
    text a = generate(models[_i], &o, prompt, &greedy);
    o.device_mem = a.peak;
    text b = generate(models[_i], &o, prompt, &greedy);
    same_text("least budget", &b, &a);
    o.device_mem--;
    char words[80];
    snprintf(words, sizeof words, "smallest --device-mem is %llu bytes", (unsigned long long)a.peak);
    ck_fails(cst_generator_open(&g, &o), CST_OVER_BUDGET, words);
    ck_fails(cst_generator_open(&g, &o), CST_OVER_BUDGET, "values of 102 tokens");
    o.tokens = 10; /* keys and values of fewer tokens */
    text c = generate(models[_i], &o, prompt, &greedy);
    ck_assert_uint_lt(c.peak, a.peak);
}
END_TEST

static cst_status third_is_too_much(int32_t id, void *user)
{
    (void)id;
    return ++*(int *)user == 3 ? cst_fail(CST_INTERRUPTED, "enough") : CST_OK;
}

START_TEST(a_generator_stops_when_asked_and_begins_again)
{
    int32_t prompt[] = {2, 7, 9}, bad[] = {2, 67, 9};
    cst_generate_options o = options(models[_i], 3, 12);
    o.config.eos_token_id = -1; /* so that there are 12 */
    cst_generator *g;
    text a, b;
    int calls = 0;
    cst_sampling s = {.temperature = 1, .top_p = 1.5};
    ck_ok(cst_generator_open(&g, &o));
    ck_ok(cst_weights_load(g->model, fixture(models[_i], NULL)));
    ck_ok(cst_generate(a.ids, &a.count, &a.end, g, prompt, &greedy, NULL, NULL));
    ck_fails(cst_generate(b.ids, &b.count, &b.end, g, prompt, &greedy, third_is_too_much, &calls), CST_INTERRUPTED, "enough");
    ck_assert_int_eq(b.count, 3);
    ck_fails(cst_generate(b.ids, &b.count, &b.end, g, bad, &greedy, NULL, NULL), CST_INPUT, "token 67 at position 1");
    ck_fails(cst_generate(b.ids, &b.count, &b.end, g, prompt, &s, NULL, NULL), CST_USAGE, "top-p of 1.5");
    ck_ok(cst_generate(b.ids, &b.count, &b.end, g, prompt, &greedy, NULL, NULL));
    same_text("again", &b, &a);
    ck_ok(cst_generator_close(g, CST_OK));
}
END_TEST

START_TEST(impossible_lengths_are_refused)
{
    cst_generator *g;
    cst_generate_options o = options(models[0], 0, 5);
    ck_fails(cst_generator_open(&g, &o), CST_USAGE, "no token");
    o.prompt = 150;
    ck_fails(cst_generator_open(&g, &o), CST_USAGE, "150 tokens; the model has positions for 150");
    o.prompt = 3;
    o.tokens = 0;
    ck_fails(cst_generator_open(&g, &o), CST_USAGE, "1 or more");
}
END_TEST

/* One token behind a whole sequence only, and only where there is room. */
START_TEST(the_model_refuses_what_it_cannot_keep)
{
    cst_config c;
    cst_model *M;
    cst_kv *kv;
    cst_batch *two, *rows;
    cst_tensor *logits;
    ck_ok(cst_config_load(&c, fixture(models[0], NULL)));
    ck_ok(cst_model_create(&M, mem, &c, 0, NULL));
    ck_ok(cst_model_init(M, 1));
    ck_ok(cst_kv_create(&kv, M, 3));
    ck_ok(cst_batch_create(&two, mem, 1, 2, 1));
    ck_ok(cst_batch_create(&rows, mem, 2, 2, 1));
    ck_ok(cst_tensor_create(&logits, mem, CST_DATA, CST_F32, 2, (int64_t[]){1, c.vocab_size}, "logits"));
    ck_ok(cst_batch_set(two, (int32_t[]){2, 5}, NULL, c.vocab_size));
    ck_fails(cst_model_next(M, rows, 0, NULL, logits), CST_USAGE, "2 sequences");
    ck_ok(cst_model_next(M, two, 1, kv, logits));
    ck_assert_int_eq(kv->count, 2);
    ck_fails(cst_model_next(M, two, 1, kv, logits), CST_USAGE, "of one token behind others");
    kv->count = 0;
    kv->room = 1;
    ck_fails(cst_model_next(M, two, 1, kv, logits), CST_USAGE, "no room for 2 behind 0");
    op_check();
    cst_batch_free(two);
    cst_batch_free(rows);
    cst_tensor_free(logits);
    cst_kv_free(kv);
    cst_model_free(M);
}
END_TEST

#define DRAWS 40000

/* How often each of n <= 8 tokens is drawn, in parts of 1. */
static void frequencies(double f[8], const float *logits, int64_t n, const cst_sampling *s)
{
    memset(f, 0, 8 * sizeof *f);
    for (int i = 0; i < DRAWS; i++) {
        int32_t id;
        ck_ok(cst_sample(&id, logits, n, s, (uint64_t)i));
        ck_assert(id >= 0 && id < n);
        f[id]++;
    }
    for (int i = 0; i < 8; i++) f[i] /= DRAWS;
}

/* Five standard deviations of a count; where p is 0 it must be 0. */
static void expect_frequencies(const char *what, const float *logits, int64_t n, const cst_sampling *s, const double *p)
{
    double f[8];
    frequencies(f, logits, n, s);
    for (int64_t i = 0; i < n; i++)
        ck_assert_msg(fabs(f[i] - p[i]) <= 5 * sqrt(p[i] * (1 - p[i]) / DRAWS), "%s: token %d comes in %g of cases, wanted %g", what,
                      (int)i, f[i], p[i]);
}

/* Probabilities 0.1, 0.4, 0.2, 0.05, 0.25 of logits that are their logarithms, and 3 more. */
START_TEST(draws_follow_the_probabilities)
{
    static const double p[] = {0.1, 0.4, 0.2, 0.05, 0.25};
    float logits[5];
    for (int i = 0; i < 5; i++) logits[i] = (float)log(p[i]) + 3;
    cst_sampling s = {.temperature = 1, .top_p = 1, .seed = 1};
    expect_frequencies("all", logits, 5, &s, p);
    s.temperature = 0.5; /* squares, of sum 0.275 */
    expect_frequencies("temperature", logits, 5, &s, (double[]){0.01 / 0.275, 0.16 / 0.275, 0.04 / 0.275, 0.0025 / 0.275, 0.0625 / 0.275});
    s.temperature = 1;
    s.top_k = 2;
    expect_frequencies("top-k", logits, 5, &s, (double[]){0, 0.4 / 0.65, 0, 0, 0.25 / 0.65});
    s.top_k = 0;
    s.top_p = 0.6; /* 0.4 + 0.25 are enough */
    expect_frequencies("top-p", logits, 5, &s, (double[]){0, 0.4 / 0.65, 0, 0, 0.25 / 0.65});
    s.top_p = 0.7; /* one more */
    expect_frequencies("top-p", logits, 5, &s, (double[]){0, 0.4 / 0.85, 0.2 / 0.85, 0, 0.25 / 0.85});
    s.top_k = 3;
    s.top_p = 0.75; /* of the three left: 0.4 + 0.25 = 0.765 of 0.85 */
    expect_frequencies("both", logits, 5, &s, (double[]){0, 0.4 / 0.65, 0, 0, 0.25 / 0.65});
    s.top_k = 99;
    s.top_p = 1e-9; /* never fewer than one */
    expect_frequencies("tiny top-p", logits, 5, &s, (double[]){0, 1, 0, 0, 0});
}
END_TEST

START_TEST(the_likeliest_token_is_the_first_of_equals)
{
    float logits[] = {1, 5, -3, 5, 5};
    int32_t a, b;
    cst_sampling one = {.temperature = 3, .top_k = 1, .top_p = 1};
    ck_ok(cst_sample(&a, logits, 5, &greedy, 0));
    ck_ok(cst_sample(&b, logits, 5, &one, 0));
    ck_assert_int_eq(a, 1);
    ck_assert_int_eq(b, 1);
    one.temperature = 1e-300; /* exp of minus infinity: nothing but the likeliest is left */
    one.top_k = 2;
    for (uint64_t i = 0; i < 50; i++) {
        ck_ok(cst_sample(&b, (float[]){-1e30f, 3e38f, 0}, 3, &one, i));
        ck_assert_int_eq(b, 1);
    }
}
END_TEST

START_TEST(a_draw_depends_on_seed_and_place_only)
{
    float logits[8] = {0};
    int seeds = 0, places = 0;
    cst_sampling s = {.temperature = 1, .top_p = 1, .seed = 7}, t = s;
    t.seed = 8;
    for (uint64_t i = 0; i < 100; i++) {
        int32_t a, b, c, d;
        ck_ok(cst_sample(&a, logits, 8, &s, i));
        ck_ok(cst_sample(&b, logits, 8, &s, i));
        ck_ok(cst_sample(&c, logits, 8, &t, i));
        ck_ok(cst_sample(&d, logits, 8, &s, i + 1));
        ck_assert_int_eq(a, b);
        seeds += a != c;
        places += a != d;
    }
    ck_assert_int_ge(seeds, 60);
    ck_assert_int_ge(places, 60);
}
END_TEST

START_TEST(bad_sampling_is_refused)
{
    int32_t id;
    float logits[] = {1, 2, NAN}, infinite[] = {1, -INFINITY};
    cst_sampling bad[] = {{.temperature = -1, .top_p = 1}, {.temperature = NAN, .top_p = 1}, {.temperature = INFINITY, .top_p = 1},
                          {.temperature = 1, .top_p = 0},  {.temperature = 1, .top_p = 1.01}, {.temperature = 1, .top_p = NAN},
                          {.temperature = 1, .top_p = 1, .top_k = -1}};
    static const char *const words[] = {"temperature of -1", "temperature of", "temperature of inf", "top-p of 0",
                                        "top-p of 1.01",     "top-p of",       "top-k of -1"};
    for (int i = 0; i < 7; i++) ck_fails(cst_sample(&id, logits, 2, &bad[i], 0), CST_USAGE, words[i]);
    ck_fails(cst_sample(&id, logits, 3, &greedy, 0), CST_NOT_FINITE, "the logit of token 2 is");
    ck_fails(cst_sample(&id, infinite, 2, &greedy, 0), CST_NOT_FINITE, "the logit of token 1 is");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("generate");
    TCase *tc = op_case(s, "generate");
    tcase_add_loop_test(tc, greedy_texts_are_those_of_transformers, 0, 4);
    tcase_add_loop_test(tc, drawn_texts_are_the_same_without_cache, 0, 2);
    tcase_add_loop_test(tc, budgets_are_obeyed_to_the_byte, 0, 2);
    tcase_add_loop_test(tc, a_generator_stops_when_asked_and_begins_again, 0, 2);
    tcase_add_test(tc, impossible_lengths_are_refused);
    tcase_add_test(tc, the_model_refuses_what_it_cannot_keep);
    tcase_add_test(tc, draws_follow_the_probabilities);
    tcase_add_test(tc, the_likeliest_token_is_the_first_of_equals);
    tcase_add_test(tc, a_draw_depends_on_seed_and_place_only);
    tcase_add_test(tc, bad_sampling_is_refused);
    return op_main(s);
}
