#include "op_testing.h"

#include "op/residual.h"

static const int64_t SHAPES[][2] = {{1, 1}, {2, 3}, {5, 4}, {7, 15}, {3, 16}, {4, 17}, {13, 127}, {2, 511}, {3, 512},
                                    {2, 513}, {1, 2053}, {96, 1024}};
enum { NSHAPES = sizeof SHAPES / sizeof *SHAPES };

/* 1 / (1 - p) where the element is kept, else 0; straight from the definition, on the host. */
static float mask(const cst_dropout *q, uint64_t i)
{
    uint32_t r[4];
    if (!q) return 1;
    cst_philox(r, (uint32_t[]){(uint32_t)(i / 4), (uint32_t)(i / 4 >> 32), q->site, q->step},
               (uint32_t[]){(uint32_t)q->seed, (uint32_t)(q->seed >> 32)});
    return r[i % 4] >= (uint32_t)((double)q->p * 4294967296.0) ? 1.0f / (1.0f - q->p) : 0.0f;
}

static void forward_case(int64_t n, int64_t d, int with_bias, const cst_dropout *q, int inplace)
{
    size_t count = (size_t)(n * d);
    float *x = op_random(count, -2, 2, 1), *r = op_random(count, -2, 2, 2), *b = op_random((size_t)d, -1, 1, 3);
    double *want = malloc(count * sizeof *want);
    for (size_t i = 0; i < count; i++)
        want[i] = r[i] + (double)mask(q, i) * ((double)x[i] + (with_bias ? b[i % (size_t)d] : 0));
    cst_tensor *tx = op_tensor("x", CST_ACTIVATION, n, d, x), *tr = op_tensor("r", CST_ACTIVATION, n, d, r);
    cst_tensor *tb = op_tensor("bias", CST_PARAM, d, 0, b), *ts = op_tensor("s", CST_ACTIVATION, n, d, NULL);
    cst_tensor *out = inplace == 1 ? tx : inplace == 2 ? tr : ts;
    ck_ok(cst_residual_forward(mem, out, tx, with_bias ? tb : NULL, tr, q));
    float *got = op_read(out);
    op_close("s", got, want, count, 3e-7, 3); /* two sums and a product of numbers of size 3 */
    op_check();
    cst_tensor *all[] = {tx, tr, tb, ts};
    for (int i = 0; i < 4; i++) cst_tensor_free(all[i]);
    free(x), free(r), free(b), free(want), free(got);
}

START_TEST(forward_agrees)
{
    const cst_dropout q = {0.3f, 0x123456789abcdefull, 7, 99}, none = {0, 1, 2, 3};
    const cst_dropout *drop[] = {NULL, &q, &none};
    for (int v = 0; v < 6; v++) forward_case(SHAPES[_i][0], SHAPES[_i][1], v & 1,
                                             drop[v / 2] == &none ? NULL : drop[v / 2], v % 3);
    forward_case(SHAPES[_i][0], SHAPES[_i][1], 0, &q, 1);
    forward_case(SHAPES[_i][0], SHAPES[_i][1], 1, &q, 2);
}
END_TEST

/* s = 0 + dropout(1) shows the mask itself; backward of ones must show the same one, bit for bit. */
START_TEST(mask_is_exact)
{
    int64_t n = SHAPES[_i][0], d = SHAPES[_i][1];
    const cst_dropout cases[] = {{0.1f, 42, 0, 0}, {0.5f, ~0ull, ~0u, ~0u}, {0.9999f, 1ull << 40, 3, 1u << 31}};
    size_t count = (size_t)(n * d);
    float *ones = malloc(count * sizeof *ones), *zeros = calloc(count, sizeof *zeros);
    for (size_t i = 0; i < count; i++) ones[i] = 1;
    cst_tensor *x = op_tensor("ones", CST_ACTIVATION, n, d, ones), *r = op_tensor("zeros", CST_ACTIVATION, n, d, zeros);
    cst_tensor *s = op_tensor("s", CST_ACTIVATION, n, d, NULL), *dx = op_tensor("dx", CST_GRAD, n, d, NULL);
    for (int k = 0; k < 3; k++) {
        ck_ok(cst_residual_forward(mem, s, x, NULL, r, &cases[k]));
        ck_ok(cst_residual_backward(mem, dx, x, &cases[k]));
        float *f = op_read(s), *b = op_read(dx);
        for (size_t i = 0; i < count; i++) {
            float want = mask(&cases[k], i);
            ck_assert_msg(f[i] == want && b[i] == want, "case %d, element %zu: %g and %g, wanted %g", k, i, f[i],
                          b[i], want);
        }
        free(f), free(b);
    }
    ck_ok(cst_residual_backward(mem, x, x, &cases[0])); /* in place */
    float *b = op_read(x);
    for (size_t i = 0; i < count; i++) ck_assert(b[i] == mask(&cases[0], i));
    op_check();
    free(b), free(ones), free(zeros);
    cst_tensor *all[] = {x, r, s, dx};
    for (int i = 0; i < 4; i++) cst_tensor_free(all[i]);
}
END_TEST

START_TEST(keeps_the_share_it_should)
{
    enum { N = 256, D = 1024 };
    const float p[] = {0.1f, 0.5f, 0.9f};
    float *ones = malloc(N * D * sizeof *ones);
    for (int i = 0; i < N * D; i++) ones[i] = 1;
    cst_tensor *g = op_tensor("g", CST_GRAD, N, D, ones), *dx = op_tensor("dx", CST_GRAD, N, D, NULL);
    float *last = NULL;
    for (int k = 0; k < 9; k++) {
        const cst_dropout q = {p[k / 3], 5, k % 3 == 1, k % 3 == 2};
        ck_ok(cst_residual_backward(mem, dx, g, &q));
        float *got = op_read(dx);
        int kept = 0, agree = 0;
        for (int i = 0; i < N * D; i++) kept += got[i] != 0;
        double share = (double)kept / (N * D), sigma = sqrt(p[k / 3] * (1 - p[k / 3]) / (N * D));
        ck_assert_msg(fabs(share - (1 - p[k / 3])) < 5 * sigma, "p = %g keeps %g", p[k / 3], share);
        if (k % 3) { /* another site or step gives an independent mask */
            double both = (double)p[k / 3] * p[k / 3] + (1.0 - p[k / 3]) * (1.0 - p[k / 3]);
            for (int i = 0; i < N * D; i++) agree += (got[i] != 0) == (last[i] != 0);
            ck_assert(fabs((double)agree / (N * D) - both) < 0.01);
        }
        free(last);
        last = got;
    }
    op_check();
    free(last), free(ones);
    cst_tensor_free(g), cst_tensor_free(dx);
}
END_TEST

START_TEST(backward_without_dropout_copies)
{
    float *g = op_random(33 * 35, -1, 1, 9);
    const cst_dropout none = {0, 3, 0, 0};
    cst_tensor *ds = op_tensor("ds", CST_GRAD, 33, 35, g), *dx = op_tensor("dx", CST_GRAD, 33, 35, NULL);
    for (int k = 0; k < 2; k++) {
        ck_ok(cst_residual_backward(mem, dx, ds, k ? &none : NULL));
        ck_ok(cst_residual_backward(mem, ds, ds, k ? &none : NULL));
        float *a = op_read(dx), *b = op_read(ds);
        ck_assert(!memcmp(a, g, 33 * 35 * sizeof *g) && !memcmp(b, g, 33 * 35 * sizeof *g));
        free(a), free(b);
    }
    op_check();
    free(g);
    cst_tensor_free(ds), cst_tensor_free(dx);
}
END_TEST

START_TEST(refuses_what_is_wrong)
{
    cst_tensor *a = op_tensor("a", CST_ACTIVATION, 4, 6, NULL), *b = op_tensor("b", CST_ACTIVATION, 6, 4, NULL);
    cst_tensor *v = op_tensor("v", CST_PARAM, 5, 0, NULL), *half;
    const cst_dropout one = {1, 0, 0, 0}, negative = {-0.1f, 0, 0, 0}, nan = {NAN, 0, 0, 0};
    ck_ok(cst_tensor_create(&half, mem, CST_DATA, CST_BF16, 2, (int64_t[]){4, 6}, "halves"));
    ck_fails(cst_residual_forward(mem, a, a, NULL, b, NULL), CST_USAGE, "b is 2-d");
    ck_fails(cst_residual_forward(mem, b, a, NULL, a, NULL), CST_USAGE, "b is 2-d");
    ck_fails(cst_residual_forward(mem, a, a, v, a, NULL), CST_USAGE, "v is 1-d");
    ck_fails(cst_residual_forward(mem, a, half, NULL, a, NULL), CST_UNSUPPORTED, "halves is bf16");
    ck_fails(cst_residual_forward(mem, a, a, NULL, a, &one), CST_USAGE, "below 1");
    ck_fails(cst_residual_backward(mem, a, a, &negative), CST_USAGE, "at least 0");
    ck_fails(cst_residual_backward(mem, a, a, &nan), CST_USAGE, "at least 0");
    ck_fails(cst_residual_backward(mem, a, b, NULL), CST_USAGE, "a is 2-d");
    cst_tensor *all[] = {a, b, v, half};
    for (int i = 0; i < 4; i++) cst_tensor_free(all[i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("residual");
    TCase *tc = op_case(s, "residual");
    tcase_add_loop_test(tc, forward_agrees, 0, NSHAPES);
    tcase_add_loop_test(tc, mask_is_exact, 0, NSHAPES);
    tcase_add_test(tc, keeps_the_share_it_should);
    tcase_add_test(tc, backward_without_dropout_copies);
    tcase_add_test(tc, refuses_what_is_wrong);
    return op_main(s);
}
