#include "op_testing.h"

#include "op/embed.h"

/* Sequences, their length, columns, vocabulary, first position. */
static const int64_t SHAPES[][5] = {{1, 1, 1, 1, 0},   {1, 5, 3, 2, 2},    {3, 7, 15, 11, 2},  {2, 16, 16, 300, 0},
                                    {4, 3, 17, 7, 1},   {2, 13, 127, 5, 2}, {1, 31, 511, 40, 3}, {3, 2, 513, 1, 0},
                                    {2, 128, 512, 5027, 2}};
enum { NSHAPES = sizeof SHAPES / sizeof *SHAPES };

static int32_t *random_ids(int64_t n, int64_t vocab, uint64_t stream)
{
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    for (int64_t i = 0; i < n; i++) { /* the product makes low ids frequent, as in text */
        uint64_t id = cst_random_u64(1, stream, (uint64_t)i) % (uint64_t)vocab;
        ids[i] = (int32_t)(id * (cst_random_u64(2, stream, (uint64_t)i) % 1000) / 1000);
    }
    return ids;
}

START_TEST(forward_agrees)
{
    int64_t batch = SHAPES[_i][0], seq = SHAPES[_i][1], d = SHAPES[_i][2], vocab = SHAPES[_i][3],
        first = SHAPES[_i][4], n = batch * seq;
    float *table = op_random((size_t)(vocab * d), -1, 1, 1), *pos = op_random((size_t)((seq + first) * d), -1, 1, 2);
    int32_t *ids = random_ids(n, vocab, 3);
    ids[n - 1] = (int32_t)vocab - 1;
    cst_tensor *tt = op_tensor("table", CST_PARAM, vocab, d, table), *ti = op_tensor_i32("ids", n, 0, ids);
    cst_tensor *tp = op_tensor("pos", CST_PARAM, seq + first, d, pos);
    cst_tensor *out = op_tensor("out", CST_ACTIVATION, n, d, NULL);
    for (int k = 0; k < 3; k++) { /* without positions, with, and added afterwards: exact to the bit */
        ck_ok(cst_embed_forward(mem, out, tt, ti, k == 1 ? tp : NULL, seq, first));
        if (k == 2) ck_ok(cst_embed_add_positions(mem, out, tp, seq, first));
        float *got = op_read(out);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < d; j++) {
                float want = table[ids[i] * d + j] + (k ? pos[(i % seq + first) * d + j] : 0);
                ck_assert_msg(got[i * d + j] == want, "case %d, row %d, column %d: %g, wanted %g", k, (int)i, (int)j,
                              got[i * d + j], want);
            }
        free(got);
    }
    op_check();
    cst_tensor *all[] = {tt, ti, tp, out};
    for (int i = 0; i < 4; i++) cst_tensor_free(all[i]);
    free(table), free(pos), free(ids);
}
END_TEST

static void index_case(const int32_t *ids, int64_t n)
{
    int32_t *index = malloc((size_t)(3 * n + 1) * sizeof *index);
    memset(index, 0xAA, (size_t)(3 * n + 1) * sizeof *index);
    int64_t unique = cst_embed_index(index, ids, n), rows = 0;
    const int32_t *order = index, *uid = index + n, *start = index + 2 * n;
    char *seen = calloc((size_t)n + 1, 1);
    ck_assert(unique >= (n > 0) && unique <= n && start[0] == 0 && start[unique] == n);
    for (int64_t u = 0; u < unique; u++) {
        ck_assert(start[u] < start[u + 1] && (!u || uid[u - 1] < uid[u]));
        for (int64_t k = start[u]; k < start[u + 1]; k++, rows++) {
            ck_assert(order[k] >= 0 && order[k] < n && !seen[order[k]]);
            ck_assert(ids[order[k]] == uid[u] && (k == start[u] || order[k - 1] < order[k]));
            seen[order[k]] = 1;
        }
    }
    ck_assert(rows == n);
    for (int64_t u = unique; u < n; u++) ck_assert(uid[u] == 0 && start[u + 1] == n); /* nothing left undefined */
    free(index), free(seen);
}

START_TEST(index_groups_rows_by_id)
{
    static const int64_t vocab[] = {1, 2, 255, 256, 257, 50272, 70000, 20000000, 2147483647};
    for (size_t v = 0; v < sizeof vocab / sizeof *vocab; v++)
        for (int64_t n = 1; n <= 3000; n = n * 3 + 1) {
            int32_t *ids = random_ids(n, vocab[v], 7 + v);
            index_case(ids, n);
            free(ids);
        }
    int32_t back[100];
    for (int i = 0; i < 100; i++) back[i] = 1000 * (99 - i);
    index_case(back, 100);
    index_case(back, 0);
}
END_TEST

static void backward_case(const int32_t *ids, int64_t n, int64_t d, int64_t vocab)
{
    float *dout = op_random((size_t)(n * d), -1, 1, 1), *start = op_random((size_t)(vocab * d), -1, 1, 2),
        *first = NULL;
    double *want = malloc((size_t)(vocab * d) * sizeof *want), most = 1;
    int *count = calloc((size_t)vocab, sizeof *count);
    int32_t *index = malloc((size_t)(3 * n + 1) * sizeof *index);
    for (int64_t i = 0; i < vocab * d; i++) want[i] = start[i];
    for (int64_t i = 0; i < n; i++) {
        if (++count[ids[i]] > most) most = count[ids[i]];
        for (int64_t j = 0; j < d; j++) want[ids[i] * d + j] += dout[i * d + j];
    }
    int64_t unique = cst_embed_index(index, ids, n);
    cst_tensor *td = op_tensor("dout", CST_GRAD, n, d, dout), *ti = op_tensor_i32("index", 3 * n + 1, 0, index);
    for (int k = 0; k < 2; k++) {
        cst_tensor *tt = op_tensor("dtable", CST_GRAD, vocab, d, start);
        ck_ok(cst_embed_backward(mem, tt, td, ti, unique));
        float *got = op_read(tt);
        /* k terms one after the other: sums of size sqrt k are rounded k times */
        op_close("dtable", got, want, (size_t)(vocab * d), most > 1000 ? 3e-6 : 5e-7, sqrt(most));
        for (int64_t v = 0; v < vocab; v++)
            if (!count[v]) ck_assert_msg(!memcmp(got + v * d, start + v * d, (size_t)d * sizeof *got),
                                         "row %d changed", (int)v);
        if (first) ck_assert(!memcmp(first, got, tt->bytes));
        op_check();
        free(first);
        first = got;
        cst_tensor_free(tt);
    }
    cst_tensor_free(td), cst_tensor_free(ti);
    free(dout), free(start), free(want), free(count), free(index), free(first);
}

START_TEST(backward_agrees)
{
    int64_t n = SHAPES[_i][0] * SHAPES[_i][1], d = SHAPES[_i][2], vocab = SHAPES[_i][3];
    int32_t *ids = random_ids(n, vocab, 3);
    backward_case(ids, n, d, vocab);
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)vocab - 1; /* one id owns all */
    backward_case(ids, n, d, vocab);
    free(ids);
}
END_TEST

START_TEST(backward_of_a_batch_of_equal_tokens)
{
    int32_t *ids = calloc(5000, sizeof *ids);
    for (int i = 0; i < 5000; i += 977) ids[i] = 3;
    backward_case(ids, 5000, 33, 4);
    free(ids);
}
END_TEST

START_TEST(position_gradient_agrees)
{
    int64_t batch = SHAPES[_i][0], seq = SHAPES[_i][1], d = SHAPES[_i][2], first = SHAPES[_i][4], n = batch * seq,
        p = seq + first + 1;
    float *dx = op_random((size_t)(n * d), -1, 1, 1), *start = op_random((size_t)(p * d), -1, 1, 2);
    double *want = malloc((size_t)(p * d) * sizeof *want);
    for (int64_t i = 0; i < p * d; i++) want[i] = start[i];
    for (int64_t i = 0; i < n * d; i++) want[(i / d % seq + first) * d + i % d] += dx[i];
    cst_tensor *tx = op_tensor("dx", CST_GRAD, n, d, dx), *tp = op_tensor("dpos", CST_GRAD, p, d, start);
    ck_ok(cst_embed_backward_positions(mem, tp, tx, seq, first, 1));
    float *got = op_read(tp);
    op_close("dpos", got, want, (size_t)(p * d), 5e-7, 1);
    for (int64_t j = 0; j < d; j++) ck_assert(got[(p - 1) * d + j] == start[(p - 1) * d + j]);
    /* overwriting: the same into NaN as into zeros, zeros where no token is */
    cst_tensor *over = op_tensor("dpos overwritten", CST_GRAD, p, d, NULL), *zeros = op_zeros("dpos added to", CST_GRAD, p, d);
    ck_ok(cst_embed_backward_positions(mem, over, tx, seq, first, 0));
    ck_ok(cst_embed_backward_positions(mem, zeros, tx, seq, first, 1));
    op_equal(over, zeros);
    op_check();
    cst_tensor_free(tx), cst_tensor_free(tp), cst_tensor_free(over), cst_tensor_free(zeros);
    free(dx), free(start), free(want), free(got);
}
END_TEST

/* sum(w out) is linear in table and positions, so its slopes are exact up to rounding. */
typedef struct {
    const int32_t *ids;
    const float *w;
} objective_user;
enum { B = 3, S = 4, D = 5, V = 6, FIRST = 2, P = S + FIRST };

static double objective(const double *p, void *user)
{
    const objective_user *o = user;
    double sum = 0;
    for (int i = 0; i < B * S; i++)
        for (int j = 0; j < D; j++) sum += o->w[i * D + j] * (p[o->ids[i] * D + j] + p[(V + i % S + FIRST) * D + j]);
    return sum;
}

START_TEST(slopes_agree)
{
    float *w = op_random(B * S * D, -1, 1, 4), zero[P * D] = {0};
    double p[(V + P) * D] = {0}, slope[(V + P) * D];
    int32_t *ids = random_ids(B * S, V, 3), index[3 * B * S + 1];
    objective_user o = {ids, w};
    for (size_t i = 0; i < (V + P) * D; i++) slope[i] = op_slope(objective, p, i, 1e-3, &o);
    int64_t unique = cst_embed_index(index, ids, B * S);
    cst_tensor *td = op_tensor("dout", CST_GRAD, B * S, D, w), *ti = op_tensor_i32("index", 3 * B * S + 1, 0, index);
    cst_tensor *tt = op_tensor("dtable", CST_GRAD, V, D, zero), *tp = op_tensor("dpos", CST_GRAD, P, D, zero);
    ck_ok(cst_embed_backward(mem, tt, td, ti, unique));
    ck_ok(cst_embed_backward_positions(mem, tp, td, S, FIRST, 1));
    float *dt = op_read(tt), *dp = op_read(tp);
    op_close("dtable", dt, slope, V * D, 1e-6, 1);
    op_close("dpos", dp, slope + V * D, P * D, 1e-6, 1);
    op_check();
    cst_tensor *all[] = {td, ti, tt, tp};
    for (int i = 0; i < 4; i++) cst_tensor_free(all[i]);
    free(w), free(ids), free(dt), free(dp);
}
END_TEST

START_TEST(ids_outside_the_table_touch_nothing)
{
    float table[3 * 4], grad[5 * 4];
    int32_t ids[] = {1, -1, 3, 2147483647, 2}, index[16];
    for (int i = 0; i < 20; i++) grad[i] = 1;
    for (int i = 0; i < 12; i++) table[i] = (float)i;
    cst_tensor *tt = op_tensor("table", CST_PARAM, 3, 4, table), *ti = op_tensor_i32("ids", 5, 0, ids);
    cst_tensor *out = op_tensor("out", CST_ACTIVATION, 5, 4, NULL), *td = op_tensor("dout", CST_GRAD, 5, 4, grad);
    int64_t unique = cst_embed_index(index, ids, 5);
    cst_tensor *tx = op_tensor_i32("index", 16, 0, index);
    ck_ok(cst_embed_forward(mem, out, tt, ti, NULL, 0, 0));
    ck_ok(cst_embed_backward(mem, tt, td, tx, unique));
    float *o = op_read(out), *t = op_read(tt);
    for (int i = 0; i < 4; i++) ck_assert(o[i] == table[4 + i] && o[16 + i] == table[8 + i]);
    for (int i = 4; i < 16; i++) ck_assert(isnan(o[i]));
    for (int i = 0; i < 12; i++) ck_assert(t[i] == table[i] + (i >= 4));
    op_check();
    cst_tensor *all[] = {tt, ti, out, td, tx};
    for (int i = 0; i < 5; i++) cst_tensor_free(all[i]);
    free(o), free(t);
}
END_TEST

START_TEST(refuses_what_is_wrong)
{
    int32_t ids[13] = {0};
    cst_tensor *t = op_tensor("t", CST_PARAM, 10, 8, NULL), *o = op_tensor("o", CST_ACTIVATION, 6, 8, NULL);
    cst_tensor *narrow = op_tensor("narrow", CST_PARAM, 10, 7, NULL), *p = op_tensor("p", CST_PARAM, 5, 8, NULL);
    cst_tensor *i6 = op_tensor_i32("i6", 6, 0, ids), *i13 = op_tensor_i32("i13", 13, 0, ids);
    cst_tensor *f = op_tensor("f", CST_DATA, 6, 0, NULL);
    ck_fails(cst_embed_forward(mem, o, narrow, i6, NULL, 6, 0), CST_USAGE, "narrow is 2-d");
    ck_fails(cst_embed_forward(mem, o, t, i13, NULL, 6, 0), CST_USAGE, "i13 is 1-d");
    ck_fails(cst_embed_forward(mem, o, t, f, NULL, 6, 0), CST_UNSUPPORTED, "f is f32");
    ck_fails(cst_embed_forward(mem, o, t, i6, p, 4, 0), CST_USAGE, "no sequences of 4");
    ck_fails(cst_embed_forward(mem, o, t, i6, p, 0, 0), CST_USAGE, "no sequences of 0");
    ck_fails(cst_embed_forward(mem, o, t, i6, p, 6, 0), CST_USAGE, "the 5 of p");
    ck_fails(cst_embed_forward(mem, o, t, i6, p, 3, 3), CST_USAGE, "the 5 of p");
    ck_fails(cst_embed_forward(mem, o, t, i6, p, 3, -1), CST_USAGE, "position -1");
    ck_fails(cst_embed_forward(mem, o, t, i6, narrow, 3, 0), CST_USAGE, "narrow is 2-d");
    ck_fails(cst_embed_forward(mem, o, o, i6, NULL, 1, 0), CST_USAGE, "as well");
    ck_fails(cst_embed_add_positions(mem, o, p, 3, INT64_MAX), CST_USAGE, "the 5 of p");
    ck_fails(cst_embed_backward(mem, t, o, i13, 1), CST_USAGE, "i13 is 1-d");
    ck_fails(cst_embed_backward_positions(mem, p, o, 3, 3, 1), CST_USAGE, "the 5 of p");
    cst_tensor *i19;
    ck_ok(cst_tensor_create(&i19, mem, CST_DATA, CST_I32, 1, (int64_t[]){19}, "i19"));
    ck_fails(cst_embed_backward(mem, t, o, i19, 7), CST_USAGE, "7 distinct ids");
    ck_fails(cst_embed_backward(mem, narrow, o, i19, 1), CST_USAGE, "narrow is 2-d");
    cst_tensor *all[] = {t, o, narrow, p, i6, i13, f, i19};
    for (int i = 0; i < 8; i++) cst_tensor_free(all[i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("embed");
    TCase *tc = op_case(s, "embed");
    tcase_add_loop_test(tc, forward_agrees, 0, NSHAPES);
    tcase_add_test(tc, index_groups_rows_by_id);
    tcase_add_loop_test(tc, backward_agrees, 0, NSHAPES);
    tcase_add_test(tc, backward_of_a_batch_of_equal_tokens);
    tcase_add_loop_test(tc, position_gradient_agrees, 0, NSHAPES);
    tcase_add_test(tc, slopes_agree);
    tcase_add_test(tc, ids_outside_the_table_touch_nothing);
    tcase_add_test(tc, refuses_what_is_wrong);
    return op_main(s);
}
