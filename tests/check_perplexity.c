/* Perplexity: which tokens are predicted from what, and their losses against logits in double. */
#include "model_testing.h"

#include "train/perplexity.h"

typedef struct by_hand {
    int64_t n, length, stride, count;
    cst_window w[5];
} by_hand;

START_TEST(windows_are_those_of_the_guide)
{
    static const by_hand cases[] = {
        {10, 4, 4, 3, {{0, 4, 1}, {4, 8, 5}, {8, 10, 9}}},   /* a shorter last block */
        {8, 4, 4, 2, {{0, 4, 1}, {4, 8, 5}}},
        {9, 4, 4, 3, {{0, 4, 1}, {4, 8, 5}, {8, 9, 9}}},     /* the last token has nothing before it */
        {10, 4, 2, 4, {{0, 4, 1}, {2, 6, 4}, {4, 8, 6}, {6, 10, 8}}},
        {9, 4, 2, 4, {{0, 4, 1}, {2, 6, 4}, {4, 8, 6}, {6, 9, 8}}},
        {10, 4, 3, 3, {{0, 4, 1}, {3, 7, 4}, {6, 10, 7}}},
        {7, 4, 1, 4, {{0, 4, 1}, {1, 5, 4}, {2, 6, 5}, {3, 7, 6}}},
        {3, 4, 2, 1, {{0, 3, 1}}},
        {4, 4, 4, 1, {{0, 4, 1}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const by_hand *c = &cases[i];
        ck_assert_int_eq(cst_window_count(c->n, c->length, c->stride), c->count);
        for (int64_t k = 0; k < c->count; k++) {
            cst_window w = cst_window_at(k, c->n, c->length, c->stride);
            ck_assert_msg(w.begin == c->w[k].begin && w.end == c->w[k].end && w.first == c->w[k].first,
                          "case %d, window %d: [%d, %d) from %d", (int)i, (int)k, (int)w.begin, (int)w.end, (int)w.first);
        }
    }
}
END_TEST

/* Each token at most once; none is missed but the first of a window without context. */
START_TEST(every_token_is_predicted_once)
{
    for (int64_t n = 2; n < 30; n++)
        for (int64_t length = 2; length < 9; length++)
            for (int64_t stride = 1; stride <= length; stride++) {
                int seen[30] = {0};
                for (int64_t i = 0; i < cst_window_count(n, length, stride); i++) {
                    cst_window w = cst_window_at(i, n, length, stride);
                    ck_assert(w.begin < w.first && w.end <= n && w.end - w.begin <= length);
                    for (int64_t t = w.first; t < w.end; t++) {
                        seen[t]++;
                        if (t >= length) ck_assert_int_ge(t - w.begin, stride < length ? length - stride : 1);
                    }
                }
                for (int64_t t = 0; t < n; t++) ck_assert_int_eq(seen[t], t > 0 && (stride < length || t % length));
            }
}
END_TEST

#define N 50

static void make_text(uint32_t ids[N], int64_t vocab)
{
    for (int i = 0; i < N; i++) ids[i] = (uint32_t)(cst_random_u64(5, 6, (uint64_t)i) % (uint64_t)vocab);
}

static cst_session *open_session(const char *model, int64_t batch, int64_t seq)
{
    cst_session *s;
    cst_session_options o = fixture_options(model, batch, seq);
    o.forward_only = 1;
    ck_ok(cst_session_open(&s, &o));
    ck_ok(cst_weights_load(s->model, fixture(model, NULL)));
    return s;
}

/* -log p of the token behind ids[n], from its logits in double. */
static double reference(cst_session *s, const uint32_t *ids, int64_t n, uint32_t next)
{
    int32_t row[N] = {0}, length = (int32_t)n;
    int64_t vocab = s->o.config.vocab_size;
    cst_tensor *t;
    double most = -INFINITY, all = 0;
    for (int64_t i = 0; i < n; i++) row[i] = (int32_t)ids[i];
    ck_ok(cst_batch_set(s->batch, row, &length, vocab));
    ck_ok(cst_tensor_create(&t, s->mem, CST_SCRATCH, CST_F32, 2, (int64_t[]){s->o.seq, vocab}, "logits"));
    ck_ok(cst_model_logits(s->model, s->batch, t));
    float *x = op_read(t), *logits = x + (n - 1) * vocab;
    for (int64_t i = 0; i < vocab; i++) most = fmax(most, logits[i]);
    for (int64_t i = 0; i < vocab; i++) all += exp(logits[i] - most);
    double loss = most + log(all) - logits[next];
    free(x);
    cst_tensor_free(t);
    return loss;
}

static const struct {
    const char *model;
    int64_t length, stride, batch;
} runs[] = {{"tiny-post", 24, 24, 1}, {"tiny-post", 24, 24, 2}, {"tiny-post", 13, 13, 3},
            {"tiny-pre", 30, 11, 2},  {"tiny-pre", 16, 5, 4},   {"tiny-pre", 7, 7, 8}};

/* Every token's loss against that of its context alone, fp32 losses of about 5; sums in double. */
START_TEST(losses_are_those_of_the_context)
{
    int64_t length = runs[_i].length, stride = runs[_i].stride;
    float losses[N];
    uint32_t ids[N];
    cst_loss_total all, whole;
    cst_loss_total want = {0, 0, 0}, want_whole = {0, 0, 0};
    cst_session *s = open_session(runs[_i].model, runs[_i].batch, length), *one = open_session(runs[_i].model, 1, length);
    cst_perplexity_options o = {.stride = stride, .losses = losses};
    make_text(ids, s->o.config.vocab_size);
    ck_ok(cst_perplexity(&all, &whole, s, ids, N, &o));
    for (int64_t begin = 0, end = 0; end < N; begin += stride) { /* as the guide's loop has it */
        int64_t before = end;
        end = begin + length < N ? begin + length : N;
        if (begin == 0) ck_assert(isnan(losses[0]));
        for (int64_t t = before; t < end; t++) {
            if (t == begin) {
                ck_assert(isnan(losses[t]));
                continue;
            }
            double loss = reference(one, ids + begin, t - begin, ids[t]);
            ck_assert_msg(fabs(losses[t] - loss) <= 1e-5 * (1 + loss), "token %d: %.9g, wanted %.9g", (int)t, losses[t], loss);
            cst_loss_total *to[] = {&want, &want_whole};
            for (int k = 0; k < (end - begin == length ? 2 : 1); k++) to[k]->sum += loss, to[k]->tokens++;
        }
        want.windows++;
        want_whole.windows += end - begin == length;
    }
    ck_assert(all.windows == want.windows && all.tokens == want.tokens && fabs(all.sum - want.sum) <= 1e-6 * want.sum);
    ck_assert(whole.windows == want_whole.windows && whole.tokens == want_whole.tokens &&
              fabs(whole.sum - want_whole.sum) <= 1e-6 * want_whole.sum);
    ck_assert(fabs(cst_perplexity_of(&all) / exp(want.sum / (double)want.tokens) - 1) < 1e-5);
    ck_ok(cst_session_close(one, CST_OK));
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

START_TEST(evaluation_takes_no_gradients_and_no_byte_more_than_planned)
{
    uint32_t ids[N];
    cst_loss_total all, whole;
    cst_mem_stats stats;
    cst_session *s = open_session("tiny-post", 3, 12), *again;
    cst_perplexity_options o = {.stride = 12};
    make_text(ids, s->o.config.vocab_size);
    ck_ok(cst_perplexity(&all, &whole, s, ids, N, &o));
    ck_ok(cst_mem_check(s->mem));
    cst_mem_get_stats(s->mem, &stats);
    ck_assert_uint_eq(stats.class_peak[CST_GRAD], 0);
    ck_assert_uint_eq(stats.reserved_peak, s->planned);
    cst_session_options less = s->o;
    less.device_mem = s->planned;
    ck_ok(cst_session_open(&again, &less));
    ck_ok(cst_session_close(again, CST_OK));
    less.device_mem--;
    less.placement = CST_PLACEMENT_RESIDENT; /* else weights migrate */
    ck_fails(cst_session_open(&again, &less), CST_OVER_BUDGET, "a smaller --batch or --length needs less");
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

static int reports;
static void count_reports(const cst_loss_total *sofar, int64_t windows, void *user)
{
    (void)user;
    ck_assert(sofar->windows <= windows);
    reports++;
}

static int after_two(void *user)
{
    (void)user;
    return reports == 2;
}

START_TEST(wrong_texts_and_strides_are_refused)
{
    uint32_t ids[N];
    cst_loss_total all, whole;
    cst_session *s = open_session("tiny-post", 2, 10);
    cst_perplexity_options o = {.stride = 10, .report = count_reports, .stop = after_two};
    make_text(ids, s->o.config.vocab_size);
    reports = 0;
    ck_fails(cst_perplexity(&all, &whole, s, ids, N, &o), CST_INTERRUPTED, "after window 4 of 5");
    ck_assert_int_eq(reports, 2);
    o.stop = NULL;
    for (int64_t stride = 0; stride < 12; stride += 11) {
        o.stride = stride;
        ck_fails(cst_perplexity(&all, &whole, s, ids, N, &o), CST_USAGE, "1 to 10");
    }
    o.stride = 10;
    ck_fails(cst_perplexity(&all, &whole, s, ids, 1, &o), CST_INPUT, "2 or more");
    ids[30] = 97;
    ck_fails(cst_perplexity(&all, &whole, s, ids, N, &o), CST_INPUT, "token 97");
    ids[30] = UINT32_MAX;
    ck_fails(cst_perplexity(&all, &whole, s, ids, N, &o), CST_INPUT, "token 4294967295 at place 30");
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

START_TEST(a_loss_that_is_no_number_is_an_error)
{
    uint32_t ids[N];
    float bad = NAN;
    cst_loss_total all, whole;
    cst_session *s = open_session("tiny-post", 2, 10);
    cst_perplexity_options o = {.stride = 10};
    make_text(ids, s->o.config.vocab_size);
    ck_ok(cst_tensor_write(s->model->w[0], 4 * (size_t)ids[0] * (size_t)s->o.config.word_embed_proj_dim, &bad, sizeof bad));
    ck_fails(cst_perplexity(&all, &whole, s, ids, N, &o), CST_NOT_FINITE, "the loss of token 1 of the text");
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("perplexity");
    TCase *tc = tcase_create("perplexity");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, windows_are_those_of_the_guide);
    tcase_add_test(tc, every_token_is_predicted_once);
    tcase_add_loop_test(tc, losses_are_those_of_the_context, 0, sizeof runs / sizeof *runs);
    tcase_add_test(tc, evaluation_takes_no_gradients_and_no_byte_more_than_planned);
    tcase_add_test(tc, wrong_texts_and_strides_are_refused);
    tcase_add_test(tc, a_loss_that_is_no_number_is_an_error);
    suite_add_tcase(s, tc);
    return op_main(s);
}
