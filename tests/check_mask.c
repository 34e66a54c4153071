/* Loss behind a marker only: which tokens count, and that the loss and the gradients are those of these tokens. */
#include "model_testing.h"

#include "text/mask.h"

/* The counts of a text's tokens as a string of 0 and 1 a byte (byte tokenizer; </s> is one token). */
static const char *counted(const char *text, const char *marker, cst_mask_figures *f)
{
    static char out[400];
    cst_tokenizer *t;
    uint32_t *ids;
    size_t n;
    unsigned char c[400];
    ck_ok(cst_tokenizer_open(&t, "bytes"));
    ck_ok(cst_tokenizer_encode(t, &ids, &n, text, strlen(text), 0));
    ck_ok(cst_mask_before(c, f, t, ids, n, NULL, 0, marker));
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) out[i] = (char)('0' + c[i]), sum += c[i];
    out[n] = 0;
    ck_assert_uint_eq(sum, f->tokens);
    free(ids);
    cst_tokenizer_free(t);
    return out;
}

START_TEST(what_follows_the_last_marker_counts)
{
    cst_mask_figures f;
    ck_assert_str_eq(counted("Q:aA:b\nQ:A:cA:d\n", "A:", &f), "0000011000000011"); /* lines, where there is no </s> */
    ck_assert(f.documents == 2 && f.unmarked == 0);
    ck_assert_str_eq(counted("Q\nA:b\n\n</s>x</s>A:\n</s>A:y", "A:", &f), "00001111" "00" "0011" "001");
    ck_assert(f.documents == 4 && f.unmarked == 1);
    ck_assert_str_eq(counted("</s>A:b</s>\n", "A:", &f), "0001" "1" "0"); /* </s> in front and a line end behind are no documents */
    ck_assert(f.documents == 1 && f.unmarked == 0);
    ck_assert_str_eq(counted("aAAb", "AA", &f), "0001");
    ck_assert_str_eq(counted("A:", "A:", &f), "00");
    ck_assert_str_eq(counted("A:b", "a longer marker than the text", &f), "000");
    ck_assert(f.documents == 1 && f.unmarked == 1);
}
END_TEST

/* Merged tokens: one that reaches over the marker's end doesn't count; arrays are documents; ids beyond the tokenizer's. */
START_TEST(tokens_of_several_bytes)
{
    static const char text[] = "the question and the answer the answer is the end";
    cst_tokenizer *t;
    cst_mask_figures f;
    uint32_t *ids;
    size_t n;
    unsigned char c[100];
    ck_ok(cst_tokenizer_open(&t, fixture("tokenizer", NULL)));
    ck_ok(cst_tokenizer_encode(t, &ids, &n, text, strlen(text), 0));
    for (const char *const *marker = (const char *const[]){"answer", "the answe", "the end", "e", NULL}; *marker; marker++) {
        ck_ok(cst_mask_before(c, &f, t, ids, n, NULL, 0, *marker));
        size_t end = 0, at = 0;
        for (const char *p = text; (p = strstr(p, *marker)); p++) end = (size_t)(p - text) + strlen(*marker);
        for (size_t i = 0; i < n; i++) {
            char *piece;
            size_t k;
            ck_ok(cst_tokenizer_decode(t, &piece, &k, ids + i, 1, 0));
            ck_assert_int_eq(c[i], at >= end);
            at += k;
            free(piece);
        }
    }
    ids = realloc(ids, (2 * n + 1) * sizeof *ids);
    memcpy(ids + n, ids, n * sizeof *ids);
    ids[2 * n] = 1000000;
    const size_t end[] = {n, 2 * n + 1};
    ck_ok(cst_mask_before(c, &f, t, ids, 2 * n + 1, end, 2, "is"));
    ck_assert_uint_eq(f.documents, 2);
    ck_assert(c[n - 1] && c[2 * n - 1] && c[2 * n] && !c[0] && !c[n] && !memcmp(c, c + n, n));
    free(ids);
    cst_tokenizer_free(t);
}
END_TEST

START_TEST(batches_hand_the_counts_out)
{
    uint32_t ids[24];
    unsigned char counts[24];
    int32_t got[8];
    int rows;
    cst_batches *b;
    cst_batches_config c = {.seq = 4, .batch = 2, .shuffle = 1, .seed = 3, .counts = counts};
    for (uint32_t i = 0; i < 24; i++) ids[i] = i, counts[i] = i % 3 == 0;
    ck_ok(cst_batches_create(&b, ids, 24, &c));
    for (uint64_t k = 0; k < 9; k++) {
        cst_batches_get(b, k, got, &rows);
        for (int i = 0; i < 8; i++) ck_assert_int_eq(cst_batches_counts(b)[i], counts[got[i]]);
    }
    cst_batches_free(b);
    for (int i = 0; i < 24; i++) counts[i] = i % 4 == 0; /* the first of each block is nobody's target */
    ck_fails(cst_batches_create(&b, ids, 24, &c), CST_INPUT, "no token of the text counts");
    c.counts = NULL;
    ck_ok(cst_batches_create(&b, ids, 24, &c));
    ck_assert_ptr_null(cst_batches_counts(b));
    cst_batches_free(b);
}
END_TEST

enum { ROWS = 2, SEQ = 11, N = ROWS * SEQ };

/* Loss and gradients of one batch of which these tokens count, times their number: sums over tokens. */
static double sums(const char *model, const unsigned char *counts, double **grad, int64_t *targets)
{
    cst_session_options o = fixture_options(model, ROWS, SEQ);
    cst_session *s;
    int32_t ids[N];
    float loss, each[N];
    double sum = 0;
    for (int i = 0; i < N; i++) ids[i] = (int32_t)(cst_random_u64(9, 1, (uint64_t)i) % 60);
    ck_ok(cst_session_open(&s, &o));
    ck_ok(cst_weights_load(s->model, fixture(model, NULL)));
    ck_ok(cst_batch_set_counted(s->batch, ids, NULL, counts, o.config.vocab_size));
    ck_ok(cst_session_begin(s, 0, 1));
    ck_ok(cst_session_micro(s, 0));
    ck_ok(cst_tensor_read(s->losses, 0, &loss, sizeof loss));
    ck_ok(cst_tensor_read(s->loss, 0, each, sizeof each));
    for (int i = 0; i < N; i++) {
        int target = (i + 1) % SEQ && (!counts || counts[i + 1]);
        ck_assert_int_eq(each[i] > 0, target);
        sum += each[i];
    }
    *targets = s->batch->count;
    ck_assert_msg(fabs(loss * (double)*targets - sum) <= 1e-5 * sum, "loss %g is no mean of %g over %d", loss, sum, (int)*targets);
    *grad = NULL;
    int id = cst_param_id(&o.config, CST_ROLE_FC1_WEIGHT, 0);
    size_t n = (size_t)s->model->param[id].count;
    float *g = op_read(s->model->g[id]);
    *grad = malloc(n * sizeof **grad);
    for (size_t i = 0; i < n; i++) (*grad)[i] = g[i] * (double)*targets;
    free(g);
    ck_ok(cst_session_close(s, CST_OK));
    return sum;
}

START_TEST(loss_and_gradients_are_those_of_the_counted_tokens)
{
    const char *model = _i ? "tiny-post" : "tiny-pre";
    unsigned char a[N], b[N];
    double *g[3];
    int64_t n[3];
    for (int i = 0; i < N; i++) b[i] = !(a[i] = i % SEQ > 6 || i == 3);
    double part = sums(model, a, &g[0], &n[0]), rest = sums(model, b, &g[1], &n[1]), all = sums(model, NULL, &g[2], &n[2]);
    ck_assert_int_eq(n[0], 9);
    ck_assert_int_eq(n[0] + n[1], n[2]);
    ck_assert(fabs(part + rest - all) <= 1e-5 * all);
    size_t count = model[5] == 'p' && model[6] == 'o' ? 40 * 24 : 36 * 20;
    double off = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        off += (g[0][i] + g[1][i] - g[2][i]) * (g[0][i] + g[1][i] - g[2][i]);
        norm += g[2][i] * g[2][i];
    }
    ck_assert_msg(sqrt(off) <= 1e-5 * sqrt(norm), "gradients are off by %g of %g", sqrt(off), sqrt(norm));
    for (int i = 0; i < 3; i++) free(g[i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("mask");
    TCase *tc = tcase_create("mask");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, what_follows_the_last_marker_counts);
    tcase_add_test(tc, tokens_of_several_bytes);
    tcase_add_test(tc, batches_hand_the_counts_out);
    tcase_add_loop_test(tc, loss_and_gradients_are_those_of_the_counted_tokens, 0, 2);
    suite_add_tcase(s, tc);
    return op_main(s);
}
