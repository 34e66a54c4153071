#include "op_testing.h"

#include "op/grad_norm.h"

/* [d0, d1] of a gradient; d1 = 0: one dimension. Around vectors, groups and blocks of 16384. */
static const int64_t shapes[][2] = {{1, 0},     {3, 0},     {15, 0},    {16, 0},     {17, 0},
                                    {127, 5},   {512, 0},   {513, 0},   {16383, 0},  {16384, 0},
                                    {16385, 0}, {128, 128}, {32771, 0}, {1021, 509}, {4096, 256}};
#define SHAPES ((int)(sizeof shapes / sizeof *shapes))

static int64_t count_of(const int64_t *d)
{
    return d[0] * (d[1] ? d[1] : 1);
}

/* result[0..3] of the gradients x[0..n). */
static void norm_of(float result[4], float *const *x, const int64_t (*shape)[2], int n, float clip)
{
    int64_t blocks = 0, at = 2;
    for (int i = 0; i < n; i++) blocks += cst_grad_norm_blocks(count_of(shape[i]));
    float all[12] = {1, 2, 3, 4, 0, 0, 0, 0, 5, 6, 7, 8};
    cst_tensor *partial = op_tensor("partial", CST_SCRATCH, blocks + 3, 0, NULL),
               *r = op_tensor("result", CST_SCRATCH, 12, 0, all);
    for (int i = 0; i < n; i++) {
        cst_tensor *g = op_tensor("grad", CST_GRAD, shape[i][0], shape[i][1], x[i]);
        ck_ok(cst_grad_norm_partial(mem, partial, at, g));
        at += cst_grad_norm_blocks(count_of(shape[i]));
        op_check();
        cst_tensor_free(g);
    }
    ck_ok(cst_grad_norm_finish(mem, r, 1, partial, 2, at - 2, clip));
    ck_ok(cst_tensor_read(r, 0, all, sizeof all));
    for (int i = 0; i < 4; i++) ck_assert(all[i] == (float)(i + 1) && all[8 + i] == (float)(i + 5)); /* the others' places */
    memcpy(result, all + 4, 16);
    op_check();
    cst_tensor_free(partial);
    cst_tensor_free(r);
}

START_TEST(one_tensor)
{
    int64_t n = count_of(shapes[_i]);
    float *x = op_random((size_t)n, -2, 2, 1), got[4], again[4];
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    norm_of(got, &x, &shapes[_i], 1, 0.5f);
    double want[] = {sqrt(sum), fmin(1, 0.5 / (sqrt(sum) + 1e-6)), 1, 0};
    op_close("norm", got, want, 4, 1e-6, 0);
    norm_of(again, &x, &shapes[_i], 1, 0.5f);
    ck_assert(!memcmp(got, again, sizeof got));
    free(x);
}
END_TEST

START_TEST(all_tensors_together)
{
    float *x[SHAPES], got[4];
    double sum = 0;
    for (int k = 0; k < SHAPES; k++) {
        int64_t n = count_of(shapes[k]);
        float reach = powf(10, (float)(k % 7 - 3));
        x[k] = op_random((size_t)n, -reach, reach, (uint64_t)k);
        for (int64_t i = 0; i < n; i++) sum += (double)x[k][i] * x[k][i];
    }
    norm_of(got, x, shapes, SHAPES, 1e9f);
    double want[] = {sqrt(sum), fmin(1, 1e9 / sqrt(sum)), 1, 0};
    op_close("norm", got, want, 4, 1e-6, 0);
    for (int k = 0; k < SHAPES; k++) free(x[k]);
}
END_TEST

START_TEST(clipping)
{
    static const int64_t shape[][2] = {{2, 0}};
    float v[] = {3, 4}, *x = v, got[4];
    static const struct {
        float clip, want;
    } cases[] = {{10, 1}, {5.1f, 1}, {1, 1 / (5 + 1e-6f)}, {2.5f, 2.5f / (5 + 1e-6f)}, {0, 1}, {-1, 1}};
    for (int i = 0; i < 6; i++) {
        norm_of(got, &x, shape, 1, cases[i].clip);
        ck_assert(got[0] == 5 && got[2] == 1 && got[3] == 0);
        ck_assert_msg(fabsf(got[1] - cases[i].want) <= 6e-8f, "clip %g: %.9g", cases[i].clip, got[1]);
    }
    v[0] = v[1] = 0;
    norm_of(got, &x, shape, 1, 1);
    ck_assert(got[0] == 0 && got[1] == 1 && got[2] == 1);
}
END_TEST

/* Wherever it hides: in a vector, in a tail, in the last block. */
START_TEST(not_finite_is_found)
{
    static const int64_t shape[][2] = {{32771, 0}};
    static const int64_t places[] = {0, 1, 15, 16384, 20000, 32767, 32768, 32770};
    static const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f};
    float *x = op_random(32771, -1, 1, 1), got[4];
    for (int p = 0; p < 8; p++) {
        float keep = x[places[p]];
        x[places[p]] = bad[_i];
        norm_of(got, &x, shape, 1, 1);
        x[places[p]] = keep;
        ck_assert_msg(got[2] == 0 && got[1] == 0 && got[3] == 0, "element %d: %g %g %g", (int)places[p], got[0], got[1],
                      got[2]);
        ck_assert(_i == 0 ? isnan(got[0]) : isinf(got[0]));
    }
    norm_of(got, &x, shape, 1, 1);
    ck_assert(got[2] == 1);
    /* each square is finite, their sum isn't */
    for (int i = 0; i < 32771; i++) x[i] = 1e18f;
    norm_of(got, &x, shape, 1, 0);
    ck_assert(got[2] == 0 && got[1] == 0 && isinf(got[0]));
    free(x);
}
END_TEST

START_TEST(finish_is_compensated)
{
    enum { N = 100003 };
    float *x = op_random(N, 0, 1, 9), got[4];
    double sum = 0;
    x[0] = 3e7f;
    for (int i = 0; i < N; i++) sum += x[i];
    cst_tensor *p = op_tensor("partial", CST_SCRATCH, N, 0, x), *r = op_tensor("result", CST_SCRATCH, 4, 0, NULL);
    ck_ok(cst_grad_norm_finish(mem, r, 0, p, 0, N, 0));
    ck_ok(cst_tensor_read(r, 0, got, 16));
    double want = sqrt(sum);
    op_close("norm", got, &want, 1, 1e-7, 0);
    free(x);
    cst_tensor_free(p), cst_tensor_free(r);
}
END_TEST

START_TEST(wrong_use_is_refused)
{
    float zero[4] = {0};
    cst_tensor *g = op_tensor("grad", CST_GRAD, 20000, 0, NULL), *p = op_tensor("partial", CST_SCRATCH, 2, 0, NULL);
    cst_tensor *r = op_tensor("result", CST_SCRATCH, 4, 0, zero), *e, *h;
    ck_assert_int_eq(cst_grad_norm_blocks(20000), 2);
    ck_fails(cst_grad_norm_partial(mem, p, 1, g), CST_USAGE, "2 partial sums");
    ck_fails(cst_grad_norm_partial(mem, p, -1, g), CST_USAGE, "at -1");
    ck_fails(cst_grad_norm_finish(mem, r, 0, p, 0, 3, 1), CST_USAGE, "3 partial sums");
    ck_fails(cst_grad_norm_finish(mem, r, 0, p, 0, 0, 1), CST_USAGE, "0 partial sums");
    ck_fails(cst_grad_norm_finish(mem, r, 0, p, 1, 2, 1), CST_USAGE, "2 partial sums at 1");
    ck_fails(cst_grad_norm_finish(mem, r, 0, p, -1, 2, 1), CST_USAGE, "at -1");
    ck_fails(cst_grad_norm_finish(mem, r, 1, p, 0, 2, 1), CST_USAGE, "result 1 of result");
    ck_fails(cst_grad_norm_finish(mem, r, -1, p, 0, 2, 1), CST_USAGE, "result -1");
    ck_fails(cst_grad_norm_finish(mem, p, 0, r, 0, 2, 1), CST_USAGE, "result 0 of partial");
    ck_ok(cst_tensor_create(&h, mem, CST_GRAD, CST_F16, 1, (int64_t[]){8}, "halves"));
    ck_fails(cst_grad_norm_partial(mem, p, 0, h), CST_UNSUPPORTED, "halves is f16");
    ck_ok(cst_tensor_create(&e, mem, CST_SCRATCH, CST_F32, 1, (int64_t[]){2}, "empty"));
    ck_fails(cst_grad_norm_finish(mem, r, 0, e, 0, 2, 1), CST_STATE, "empty");
    ck_ok(cst_grad_norm_partial(mem, e, 0, g)); /* gets storage */
    cst_tensor_free(g), cst_tensor_free(p), cst_tensor_free(r), cst_tensor_free(e), cst_tensor_free(h);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("grad_norm");
    TCase *tc = op_case(s, "grad_norm");
    tcase_add_loop_test(tc, one_tensor, 0, SHAPES);
    tcase_add_test(tc, all_tensors_together);
    tcase_add_test(tc, clipping);
    tcase_add_loop_test(tc, not_finite_is_found, 0, 4);
    tcase_add_test(tc, finish_is_compensated);
    tcase_add_test(tc, wrong_use_is_refused);
    return op_main(s);
}
