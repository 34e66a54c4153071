#include "op_testing.h"

#include "op/attention.h"
#include "op/attention_decode.h"

/* One case's data on the host: q [1, dim], k and v [rows, dim]. */
typedef struct problem {
    int rows, heads, dim;
    float *q, *k, *v;
} problem;

static problem problem_make(int rows, int heads, int hd, float range)
{
    problem p = {rows, heads, heads * hd, NULL, NULL, NULL};
    size_t n = (size_t)rows * (size_t)p.dim;
    p.q = op_random((size_t)p.dim, -range, range, 1);
    p.k = op_random(n, -range, range, 2);
    p.v = op_random(n, -1, 1, 3);
    return p;
}

static void problem_free(problem *p)
{
    free(p->q), free(p->k), free(p->v);
}

/* o of the first `count` rows, in double. */
static void reference(double *o, const problem *p, int count)
{
    int hd = p->dim / p->heads;
    double *s = malloc((size_t)count * sizeof *s);
    for (int h = 0; h < p->heads; h++) {
        double most = -INFINITY, all = 0;
        for (int j = 0; j < count; j++) {
            s[j] = 0;
            for (int d = h * hd; d < (h + 1) * hd; d++) s[j] += (double)p->q[d] * p->k[(size_t)j * p->dim + d];
            s[j] /= sqrt((double)hd);
            most = fmax(most, s[j]);
        }
        for (int j = 0; j < count; j++) all += s[j] = exp(s[j] - most);
        for (int d = h * hd; d < (h + 1) * hd; d++) {
            o[d] = 0;
            for (int j = 0; j < count; j++) o[d] += s[j] / all * p->v[(size_t)j * p->dim + d];
        }
    }
    free(s);
}

/* The device's o, malloc'd. */
static float *device_run(const problem *p, int count)
{
    cst_tensor *q = op_tensor("q", CST_ACTIVATION, 1, p->dim, p->q), *o = op_tensor("o", CST_ACTIVATION, 1, p->dim, NULL);
    cst_tensor *k = op_tensor("k", CST_ACTIVATION, p->rows, p->dim, p->k), *v = op_tensor("v", CST_ACTIVATION, p->rows, p->dim, p->v);
    ck_ok(cst_attention_decode(mem, o, q, k, v, count, p->heads));
    float *got = op_read(o);
    op_check();
    cst_tensor *all[] = {q, k, v, o};
    for (int i = 0; i < 4; i++) cst_tensor_free(all[i]);
    return got;
}

static void compare(const problem *p, int count, double tol)
{
    char name[80];
    double *want = malloc((size_t)p->dim * sizeof *want);
    float *got = device_run(p, count);
    reference(want, p, count);
    snprintf(name, sizeof name, "%d of %d rows, %d heads of %d: o", count, p->rows, p->heads, p->dim / p->heads);
    op_close(name, got, want, (size_t)p->dim, tol, 1);
    free(got), free(want);
}

/* Below and above the blocks of 64 and 128 rows, and of what a group has columns for. */
static const int head_sizes[] = {1, 8, 10, 37, 64, 80, 128};
static const int counts[] = {1, 2, 7, 63, 64, 65, 127, 128, 129, 300};

/* Sums of up to 300 terms below 1, and dot products of up to 128 terms inside an exponential. */
START_TEST(agrees_with_double_reference)
{
    int hd = head_sizes[_i];
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        problem p = problem_make(counts[i] + (int)i % 3, 1 + (int)(i + (size_t)_i) % 3, hd, 1);
        compare(&p, counts[i], 2e-6);
        problem_free(&p);
    }
}
END_TEST

START_TEST(agrees_at_a_realistic_size)
{
    problem p = problem_make(2048, 16, 64, 1.5f);
    compare(&p, 2048, 4e-6);
    compare(&p, 1111, 4e-6);
    problem_free(&p);
}
END_TEST

/* Scores of thousands: exp of the plain score would overflow. Whole numbers, so that the products are exact. */
START_TEST(large_scores_do_not_overflow)
{
    problem p = problem_make(200, 2, 64, 30);
    for (int i = 0; i < p.dim; i++) p.q[i] = rintf(p.q[i]);
    for (int i = 0; i < p.rows * p.dim; i++) p.k[i] = rintf(p.k[i]);
    compare(&p, 200, 1e-4);
    problem_free(&p);
}
END_TEST

/* One key far above all others, in every block: the maximum changes late, or stays from the start. */
START_TEST(finds_the_needle)
{
    static const int places[] = {0, 63, 64, 130, 259};
    problem p = problem_make(260, 1, 8, 0.01f);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        for (int d = 0; d < 8; d++) p.q[d] = 4, p.k[places[i] * 8 + d] = 3 + (float)i;
        compare(&p, p.rows, 2e-6);
    }
    problem_free(&p);
}
END_TEST

/* What lies behind the rows counted is not looked at, and the same call gives the same bits. */
START_TEST(rows_behind_do_not_matter)
{
    problem p = problem_make(150, 3, 20, 1);
    float *a = device_run(&p, 70);
    for (int i = 70 * p.dim; i < p.rows * p.dim; i++) p.k[i] = p.v[i] = NAN;
    float *b = device_run(&p, 70);
    ck_assert(!memcmp(a, b, (size_t)p.dim * sizeof *a));
    free(a), free(b);
    problem_free(&p);
}
END_TEST

/* The last row of the operator that computes all rows. */
START_TEST(is_the_last_row_of_attention_forward)
{
    problem p = problem_make(97, 2, 16, 1);
    double want[32];
    float *all_q = op_random((size_t)(97 * 32), -1, 1, 9);
    memcpy(all_q + 96 * 32, p.q, 32 * sizeof(float));
    cst_tensor *q = op_tensor("q", CST_ACTIVATION, 97, 32, all_q), *k = op_tensor("k", CST_ACTIVATION, 97, 32, p.k);
    cst_tensor *v = op_tensor("v", CST_ACTIVATION, 97, 32, p.v), *o = op_tensor("o", CST_ACTIVATION, 97, 32, NULL);
    cst_tensor *lse = op_tensor("lse", CST_ACTIVATION, 97, 2, NULL);
    ck_ok(cst_attention_forward(mem, o, lse, q, k, v, 1, 97, 2));
    float *whole = op_read(o), *got = device_run(&p, 97);
    for (int i = 0; i < 32; i++) want[i] = whole[96 * 32 + i];
    op_close("o", got, want, 32, 2e-6, 1);
    cst_tensor *all[] = {q, k, v, o, lse};
    for (int i = 0; i < 5; i++) cst_tensor_free(all[i]);
    free(whole), free(got), free(all_q);
    problem_free(&p);
}
END_TEST

/* Rows come where they belong, and no other one changes. */
START_TEST(append_fills_its_rows)
{
    static const int dims[] = {1, 6, 16, 37, 64};
    static const int rows[] = {1, 2, 9};
    for (int i = 0; i < 15; i++) {
        int d = dims[i % 5], n = rows[i / 5], room = 13;
        float *before = op_random((size_t)(room * d), -1, 1, 1), *x = op_random((size_t)(n * d), -1, 1, 2);
        for (int at = 0; at <= room - n; at += room - n) {
            cst_tensor *c = op_tensor("cache", CST_ACTIVATION, room, d, before), *t = op_tensor("x", CST_ACTIVATION, n, d, x);
            ck_ok(cst_attention_append(mem, c, t, at));
            float *got = op_read(c);
            for (int k = 0; k < room * d; k++) {
                int own = k >= at * d && k < (at + n) * d;
                ck_assert_msg(got[k] == (own ? x[k - at * d] : before[k]), "%d rows of %d at %d: element %d", n, d, at, k);
            }
            free(got);
            op_check();
            cst_tensor_free(c), cst_tensor_free(t);
        }
        free(before), free(x);
    }
}
END_TEST

START_TEST(refuses_wrong_shapes)
{
    cst_tensor *q = op_tensor("q", CST_ACTIVATION, 1, 20, NULL), *o = op_tensor("o", CST_ACTIVATION, 1, 20, NULL);
    cst_tensor *k = op_tensor("k", CST_ACTIVATION, 9, 20, NULL), *two = op_tensor("two", CST_ACTIVATION, 2, 20, NULL);
    cst_tensor *bad = op_tensor("bad", CST_ACTIVATION, 9, 18, NULL), *wide = op_tensor("wide", CST_ACTIVATION, 1, 129, NULL);
    cst_tensor *wide_o = op_tensor("wide_o", CST_ACTIVATION, 1, 129, NULL), *half, *empty;
    ck_ok(cst_tensor_create(&half, mem, CST_ACTIVATION, CST_BF16, 2, (int64_t[]){9, 20}, "half"));
    ck_ok(cst_tensor_create(&empty, mem, CST_ACTIVATION, CST_F32, 2, (int64_t[]){9, 20}, "empty"));
    ck_fails(cst_attention_decode(mem, o, two, k, k, 9, 2), CST_USAGE, "two is 2-d [2, 20]");
    ck_fails(cst_attention_decode(mem, two, q, k, k, 9, 2), CST_USAGE, "two is");
    ck_fails(cst_attention_decode(mem, o, q, bad, k, 9, 2), CST_USAGE, "bad is");
    ck_fails(cst_attention_decode(mem, o, q, k, two, 2, 2), CST_USAGE, "two is");
    ck_fails(cst_attention_decode(mem, o, q, k, k, 9, 3), CST_USAGE, "3 heads don't divide the 20 columns");
    ck_fails(cst_attention_decode(mem, o, q, k, k, 10, 2), CST_USAGE, "10 rows of k, which has 9");
    ck_fails(cst_attention_decode(mem, o, q, k, k, 0, 2), CST_USAGE, "0 rows of k");
    ck_fails(cst_attention_decode(mem, o, q, k, half, 9, 2), CST_UNSUPPORTED, "half is bf16");
    ck_fails(cst_attention_decode(mem, wide_o, wide, wide, wide, 1, 1), CST_UNSUPPORTED, "head size 129");
    ck_fails(cst_attention_decode(mem, q, q, k, k, 9, 2), CST_USAGE, "can't be q as well");
    ck_fails(cst_attention_append(mem, k, bad, 0), CST_USAGE, "k is");
    ck_fails(cst_attention_append(mem, k, two, 8), CST_USAGE, "2 rows from row 8 on of k, which has 9");
    ck_fails(cst_attention_append(mem, k, two, -1), CST_USAGE, "from row -1");
    ck_fails(cst_attention_append(mem, k, k, 0), CST_USAGE, "can't be k as well");
    ck_fails(cst_attention_append(mem, empty, two, 0), CST_STATE, "empty");
    cst_tensor *all[] = {q, o, k, two, bad, wide, wide_o, half, empty};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) cst_tensor_free(all[i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("attention_decode");
    TCase *tc = op_case(s, "attention_decode");
    tcase_add_loop_test(tc, agrees_with_double_reference, 0, sizeof head_sizes / sizeof *head_sizes);
    tcase_add_test(tc, agrees_at_a_realistic_size);
    tcase_add_test(tc, large_scores_do_not_overflow);
    tcase_add_test(tc, finds_the_needle);
    tcase_add_test(tc, rows_behind_do_not_matter);
    tcase_add_test(tc, is_the_last_row_of_attention_forward);
    tcase_add_test(tc, append_fills_its_rows);
    tcase_add_test(tc, refuses_wrong_shapes);
    return op_main(s);
}
