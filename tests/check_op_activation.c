#include "op_testing.h"

#include "op/activation.h"

static const int64_t SHAPES[][2] = {{1, 1}, {3, 2}, {5, 4}, {7, 15}, {3, 16}, {4, 17}, {13, 127}, {2, 511}, {3, 512},
                                    {2, 513}, {32, 4096}};
enum { NSHAPES = sizeof SHAPES / sizeof *SHAPES };

static double act(cst_activation kind, double v)
{
    return kind == CST_RELU ? (v > 0 ? v : 0) : 0.5 * v * erfc(-v / sqrt(2));
}

/* variant: 1 bias, 2 u, then y is x, or u is x. */
static void forward_case(cst_activation kind, int64_t n, int64_t d, int variant)
{
    size_t count = (size_t)(n * d);
    float *x = op_random(count, -6, 6, 1), *b = op_random((size_t)d, -1, 1, 2);
    double *want = malloc(count * sizeof *want), *before = malloc(count * sizeof *before);
    cst_tensor *tx = op_tensor("x", CST_ACTIVATION, n, d, x), *tb = op_tensor("bias", CST_PARAM, d, 0, b);
    cst_tensor *ty = op_tensor("y", CST_ACTIVATION, n, d, NULL), *tu = op_tensor("u", CST_ACTIVATION, n, d, NULL);
    int place = variant >> 2, with_u = (variant & 2) || place == 2;
    cst_tensor *y = place == 1 ? tx : ty, *u = !with_u ? NULL : place == 2 ? tx : tu;
    for (size_t i = 0; i < count; i++) {
        before[i] = (float)((double)x[i] + (variant & 1 ? b[i % (size_t)d] : 0)); /* rounded once,
            as the operator must */
        want[i] = act(kind, before[i]);
    }
    ck_ok(cst_activation_forward(mem, kind, y, u, tx, variant & 1 ? tb : NULL));
    float *got = op_read(y);
    op_close("y", got, want, count, 3e-6, 1e-6);
    if (u) {
        float *g = op_read(u);
        for (size_t i = 0; i < count; i++) ck_assert_msg(g[i] == (float)before[i], "u[%zu] = %g, wanted %g", i, g[i],
                                                         before[i]);
        free(g);
    }
    op_check();
    cst_tensor *all[] = {tx, tb, ty, tu};
    for (int i = 0; i < 4; i++) cst_tensor_free(all[i]);
    free(x), free(b), free(want), free(before), free(got);
}

START_TEST(forward_agrees)
{
    for (int v = 0; v < 12; v++) {
        forward_case(CST_RELU, SHAPES[_i][0], SHAPES[_i][1], v);
        forward_case(CST_GELU, SHAPES[_i][0], SHAPES[_i][1], v);
    }
}
END_TEST

typedef struct {
    cst_activation kind;
    double w;
} objective_user;

static double objective(const double *v, void *user)
{
    const objective_user *o = user;
    return o->w * act(o->kind, *v);
}

static void backward_case(cst_activation kind, int64_t n, int64_t d)
{
    size_t count = (size_t)(n * d);
    float *u = op_random(count, -6, 6, 1), *dy = op_random(count, -1, 1, 2), *got[3];
    double *want = malloc(count * sizeof *want);
    for (size_t i = 0; i < count; i++) {
        double v = u[i];
        objective_user o = {kind, dy[i]};
        if (kind == CST_RELU && fabs(v) < 1e-3) u[i] = (float)(v = i % 2 ? 0 : -0.5); /* no slope at the corner */
        want[i] = op_slope(objective, &v, 0, 1e-5, &o);
        if (v == 0) want[i] = 0;
    }
    cst_tensor *tu = op_tensor("u", CST_ACTIVATION, n, d, u), *ty = op_tensor("y", CST_ACTIVATION, n, d, NULL);
    cst_tensor *tg = op_tensor("dy", CST_GRAD, n, d, dy), *tx = op_tensor("dx", CST_GRAD, n, d, NULL);
    ck_ok(cst_activation_forward(mem, kind, ty, NULL, tu, NULL));
    for (int k = 0; k < 3; k++) { /* twice, then in place */
        cst_tensor *dx = k < 2 ? tx : tg;
        ck_ok(cst_activation_backward(mem, kind, dx, tg, kind == CST_RELU ? ty : tu));
        got[k] = op_read(dx);
        op_close("dx", got[k], want, count, 3e-6, 1);
        ck_assert(!memcmp(got[0], got[k], tx->bytes));
    }
    op_check();
    cst_tensor *all[] = {tu, ty, tg, tx};
    for (int i = 0; i < 4; i++) cst_tensor_free(all[i]);
    free(u), free(dy), free(want), free(got[0]), free(got[1]), free(got[2]);
}

START_TEST(backward_agrees)
{
    backward_case(CST_RELU, SHAPES[_i][0], SHAPES[_i][1]);
    backward_case(CST_GELU, SHAPES[_i][0], SHAPES[_i][1]);
}
END_TEST

START_TEST(extreme_values)
{
    float x[] = {INFINITY, NAN, 1e30f, -1e30f, 0.0f, -0.0f, -100, 100, -9}, up[9];
    for (int i = 0; i < 9; i++) up[i] = 1;
    cst_tensor *tx = op_tensor("x", CST_ACTIVATION, 1, 9, x), *ty = op_tensor("y", CST_ACTIVATION, 1, 9, NULL);
    cst_tensor *tg = op_tensor("dy", CST_GRAD, 1, 9, up), *td = op_tensor("dx", CST_GRAD, 1, 9, NULL);
    for (cst_activation kind = CST_RELU; kind <= CST_GELU; kind++) {
        ck_ok(cst_activation_forward(mem, kind, ty, NULL, tx, NULL));
        ck_ok(cst_activation_backward(mem, kind, td, tg, kind == CST_RELU ? ty : tx));
        float *y = op_read(ty), *d = op_read(td);
        ck_assert(y[0] == INFINITY && isnan(y[1]) && y[2] == 1e30f && y[3] == 0 && y[4] == 0 && y[5] == 0);
        ck_assert(fabsf(y[6]) == 0 && y[7] == 100 && fabsf(y[8]) < 1e-17f);
        ck_assert(d[2] == 1 && d[3] == 0 && d[4] == (kind == CST_RELU ? 0.0f : 0.5f) && d[6] == 0 && d[7] == 1);
        free(y), free(d);
    }
    op_check();
    cst_tensor *all[] = {tx, ty, tg, td};
    for (int i = 0; i < 4; i++) cst_tensor_free(all[i]);
}
END_TEST

/* GELU and its slope from where they are all but 0 to where they are all but v and 1. The slope is a difference where
 * it changes its sign near -0.75: relative to the size of its two terms there, 0.23. */
START_TEST(gelu_is_accurate_far_out)
{
    enum { N = 65536 };
    float *x = malloc(N * sizeof *x), *one = malloc(N * sizeof *one);
    double *y = malloc(N * sizeof *y), *slope = malloc(N * sizeof *slope);
    for (int i = 0; i < N; i++) {
        x[i] = -12.5f + 19.0f * (float)i / N;
        one[i] = 1;
        double v = x[i], p = 0.5 * erfc(-v / sqrt(2));
        y[i] = v * p;
        slope[i] = p + v * exp(-v * v / 2) / sqrt(2 * acos(-1));
    }
    cst_tensor *tx = op_tensor("x", CST_ACTIVATION, 16, N / 16, x), *ty = op_tensor("y", CST_ACTIVATION, 16, N / 16, NULL);
    cst_tensor *tg = op_tensor("dy", CST_GRAD, 16, N / 16, one), *td = op_tensor("dx", CST_GRAD, 16, N / 16, NULL);
    ck_ok(cst_activation_forward(mem, CST_GELU, ty, NULL, tx, NULL));
    ck_ok(cst_activation_backward(mem, CST_GELU, td, tg, tx));
    float *gy = op_read(ty), *gd = op_read(td);
    op_close("y", gy, y, N, 6e-7, 1e-36);
    for (int i = 0; i < N; i++) op_close("dx", gd + i, slope + i, 1, 1e-6, x[i] < -0.9f || x[i] > -0.6f ? 1e-36 : 0.23);
    op_check();
    cst_tensor *all[] = {tx, ty, tg, td};
    for (int i = 0; i < 4; i++) cst_tensor_free(all[i]);
    free(x), free(one), free(y), free(slope), free(gy), free(gd);
}
END_TEST

START_TEST(refuses_what_is_wrong)
{
    cst_tensor *a = op_tensor("a", CST_ACTIVATION, 4, 6, NULL), *b = op_tensor("b", CST_ACTIVATION, 4, 5, NULL);
    cst_tensor *v = op_tensor("v", CST_PARAM, 5, 0, NULL), *half;
    ck_ok(cst_tensor_create(&half, mem, CST_DATA, CST_BF16, 2, (int64_t[]){4, 6}, "halves"));
    ck_fails(cst_activation_forward(mem, CST_RELU, b, NULL, a, NULL), CST_USAGE, "b is 2-d");
    ck_fails(cst_activation_forward(mem, CST_GELU, a, b, a, NULL), CST_USAGE, "b is 2-d");
    ck_fails(cst_activation_forward(mem, CST_GELU, a, NULL, a, v), CST_USAGE, "v is 1-d");
    ck_fails(cst_activation_forward(mem, CST_GELU, a, a, a, NULL), CST_USAGE, "both a");
    ck_fails(cst_activation_forward(mem, (cst_activation)2, a, NULL, a, NULL), CST_USAGE, "number 2");
    ck_fails(cst_activation_forward(mem, CST_RELU, a, NULL, half, NULL), CST_UNSUPPORTED, "halves is bf16");
    ck_fails(cst_activation_backward(mem, CST_RELU, a, a, b), CST_USAGE, "b is 2-d");
    ck_fails(cst_activation_backward(mem, CST_RELU, b, a, a), CST_USAGE, "b is 2-d");
    cst_tensor *all[] = {a, b, v, half};
    for (int i = 0; i < 4; i++) cst_tensor_free(all[i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("activation");
    TCase *tc = op_case(s, "activation");
    tcase_add_loop_test(tc, forward_agrees, 0, NSHAPES);
    tcase_add_loop_test(tc, backward_agrees, 0, NSHAPES);
    tcase_add_test(tc, extreme_values);
    tcase_add_test(tc, gelu_is_accurate_far_out);
    tcase_add_test(tc, refuses_what_is_wrong);
    return op_main(s);
}
