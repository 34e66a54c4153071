#include "op_testing.h"

#include "op/linear.h"

/* N, in, out: ones, primes, around a vector and a tile. */
static const int64_t SHAPES[][3] = {{1, 1, 1},    {2, 3, 5},    {7, 13, 11},  {15, 16, 17}, {16, 17, 15}, {17, 15, 16},
                                    {31, 63, 65}, {32, 64, 64}, {33, 65, 63}, {5, 1, 129},  {130, 127, 1},
                                    {96, 256, 384}};
enum { NSHAPES = sizeof SHAPES / sizeof *SHAPES };

typedef struct {
    int64_t n, in, out;
    float *x, *w, *b, *dy, *dx0, *dw0;
    cst_tensor *tx, *tw, *tb, *ty, *tdy, *tdx, *tdw;
} layer;

static layer layer_new(const int64_t shape[3])
{
    layer l = {.n = shape[0], .in = shape[1], .out = shape[2]};
    size_t nx = (size_t)(l.n * l.in), ny = (size_t)(l.n * l.out), nw = (size_t)(l.in * l.out);
    l.x = op_random(nx, -1, 1, 1), l.w = op_random(nw, -1, 1, 2), l.b = op_random((size_t)l.out, -1, 1, 3);
    l.dy = op_random(ny, -1, 1, 4), l.dx0 = op_random(nx, -1, 1, 5), l.dw0 = op_random(nw, -1, 1, 6);
    l.tx = op_tensor("x", CST_ACTIVATION, l.n, l.in, l.x), l.tw = op_tensor("w", CST_PARAM, l.out, l.in, l.w);
    l.tb = op_tensor("bias", CST_PARAM, l.out, 0, l.b), l.ty = op_tensor("y", CST_ACTIVATION, l.n, l.out, NULL);
    l.tdy = op_tensor("dy", CST_GRAD, l.n, l.out, l.dy), l.tdx = op_tensor("dx", CST_GRAD, l.n, l.in, NULL);
    l.tdw = op_tensor("dw", CST_GRAD, l.out, l.in, l.dw0);
    return l;
}

static void layer_free(layer *l)
{
    cst_tensor *all[] = {l->tx, l->tw, l->tb, l->ty, l->tdy, l->tdx, l->tdw};
    for (int i = 0; i < 7; i++) cst_tensor_free(all[i]);
    free(l->x), free(l->w), free(l->b), free(l->dy), free(l->dx0), free(l->dw0);
}

/* want[i,j] = start[i,j] + sum_k a(i,k) b(k,j), a and b with their strides. */
static double *product(const float *start, int64_t m, int64_t n, int64_t k, const float *a, int64_t ai, int64_t ak,
                       const float *b, int64_t bk, int64_t bj)
{
    double *want = malloc((size_t)(m * n) * sizeof *want);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = start ? start[i * n + j] : 0;
            for (int64_t q = 0; q < k; q++) sum += (double)a[i * ai + q * ak] * b[q * bk + j * bj];
            want[i * n + j] = sum;
        }
    return want;
}

/* Sums of k products of size 1: rounding grows like sqrt k. */
static void expect(const char *what, cst_tensor *t, double *want, int64_t k)
{
    float *got = op_read(t);
    op_close(what, got, want, (size_t)cst_tensor_count(t), 1e-6, sqrt((double)k));
    free(got), free(want);
}

START_TEST(forward_agrees)
{
    layer l = layer_new(SHAPES[_i]);
    ck_ok(cst_linear_forward(mem, l.ty, l.tx, l.tw, NULL));
    expect("y", l.ty, product(NULL, l.n, l.out, l.in, l.x, l.in, 1, l.w, 1, l.in), l.in);
    ck_ok(cst_linear_forward(mem, l.ty, l.tx, l.tw, l.tb));
    double *want = product(NULL, l.n, l.out, l.in, l.x, l.in, 1, l.w, 1, l.in);
    for (int64_t i = 0; i < l.n * l.out; i++) want[i] += l.b[i % l.out];
    expect("y with bias", l.ty, want, l.in);
    float *a = op_read(l.ty);
    ck_ok(cst_linear_forward(mem, l.ty, l.tx, l.tw, l.tb));
    float *b = op_read(l.ty);
    ck_assert(!memcmp(a, b, l.ty->bytes));
    op_check();
    free(a), free(b);
    layer_free(&l);
}
END_TEST

START_TEST(backward_agrees)
{
    layer l = layer_new(SHAPES[_i]);
    ck_ok(cst_linear_backward_input(mem, l.tdx, l.tdy, l.tw, 0));
    expect("dx", l.tdx, product(NULL, l.n, l.in, l.out, l.dy, l.out, 1, l.w, l.in, 1), l.out);
    ck_ok(cst_tensor_write(l.tdx, 0, l.dx0, l.tdx->bytes));
    ck_ok(cst_linear_backward_input(mem, l.tdx, l.tdy, l.tw, 1));
    expect("dx accumulated", l.tdx, product(l.dx0, l.n, l.in, l.out, l.dy, l.out, 1, l.w, l.in, 1), l.out);
    ck_ok(cst_linear_backward_weight(mem, l.tdw, l.tdy, l.tx, 1));
    expect("dw", l.tdw, product(l.dw0, l.out, l.in, l.n, l.dy, 1, l.out, l.x, l.in, 1), l.n);
    op_check();
    layer_free(&l);
}
END_TEST

/* sum(w y) of the double reference, as a function of (x, weights, bias). */
typedef struct {
    int64_t n, in, out;
    const float *dy;
} objective_shape;

static double objective(const double *p, void *user)
{
    const objective_shape *o = user;
    const double *x = p, *w = x + o->n * o->in, *b = w + o->out * o->in;
    double sum = 0;
    for (int64_t i = 0; i < o->n; i++)
        for (int64_t j = 0; j < o->out; j++) {
            double y = b[j];
            for (int64_t k = 0; k < o->in; k++) y += x[i * o->in + k] * w[j * o->in + k];
            sum += o->dy[i * o->out + j] * y;
        }
    return sum;
}

START_TEST(slopes_agree)
{
    layer l = layer_new(SHAPES[_i]);
    size_t nx = (size_t)(l.n * l.in), nw = (size_t)(l.in * l.out), nb = (size_t)l.out, all = nx + nw + nb;
    double *p = malloc(all * sizeof *p), *slope = malloc(all * sizeof *slope);
    for (size_t i = 0; i < all; i++) p[i] = i < nx ? l.x[i] : i < nx + nw ? l.w[i - nx] : l.b[i - nx - nw];
    objective_shape o = {l.n, l.in, l.out, l.dy};
    for (size_t i = 0; i < all; i++) slope[i] = op_slope(objective, p, i, 1e-3, &o); /* linear in each */
    for (size_t i = 0; i < nw; i++) slope[nx + i] += l.dw0[i];
    for (size_t i = 0; i < nb; i++) slope[nx + nw + i] += l.b[i];
    ck_ok(cst_linear_backward_input(mem, l.tdx, l.tdy, l.tw, 0));
    ck_ok(cst_linear_backward_weight(mem, l.tdw, l.tdy, l.tx, 1));
    ck_ok(cst_linear_backward_bias(mem, l.tb, l.tdy, 1));
    float *dx = op_read(l.tdx), *dw = op_read(l.tdw), *db = op_read(l.tb);
    op_close("dx", dx, slope, nx, 1e-5, 1);
    op_close("dw", dw, slope + nx, nw, 1e-5, 1);
    op_close("db", db, slope + nx + nw, nb, 1e-5, 1);
    op_check();
    free(p), free(slope), free(dx), free(dw), free(db);
    layer_free(&l);
}
END_TEST

/* Rows around one block (32), around four at a time, and more than 64 blocks of 32; columns around a strip of 32
 * or 256, and more than the widest (4096). */
static const int64_t SUMS[][2] = {{1, 1},   {2, 3},   {3, 17},  {4, 31},    {5, 32},    {31, 33},  {32, 255},
                                  {33, 256}, {64, 257}, {127, 16}, {2048, 40}, {2049, 15}, {4999, 7}, {37, 4101}};
enum { NSUMS = sizeof SUMS / sizeof *SUMS };

static void bias_case(int64_t n, int64_t d, float mean)
{
    float *dy = op_random((size_t)(n * d), mean - 1, mean + 1, 1), *start = op_random((size_t)d, -5, 5, 2),
        *first = NULL;
    double *want = malloc((size_t)d * sizeof *want);
    for (int64_t j = 0; j < d; j++) {
        want[j] = start[j];
        for (int64_t i = 0; i < n; i++) want[j] += dy[i * d + j];
    }
    cst_tensor *t = op_tensor("dy", CST_GRAD, n, d, dy);
    for (int k = 0; k < 2; k++) {
        cst_tensor *db = op_tensor("db", CST_GRAD, d, 0, start);
        ck_ok(cst_linear_backward_bias(mem, db, t, 1));
        float *got = op_read(db);
        op_close("db", got, want, (size_t)d, 5e-7, sqrt((double)n));
        if (first) ck_assert(!memcmp(first, got, db->bytes));
        op_check();
        free(first);
        first = got;
        cst_tensor_free(db);
    }
    cst_tensor_free(t);
    free(dy), free(start), free(want), free(first);
}

START_TEST(bias_gradient_agrees)
{
    bias_case(SUMS[_i][0], SUMS[_i][1], 0);
    bias_case(SUMS[_i][0], SUMS[_i][1], 3);
}
END_TEST

START_TEST(bias_gradient_of_a_larger_one)
{
    bias_case(1024, 4096, 0.01f);
}
END_TEST

/* Without accumulate what was there before, NaN here, leaves no trace. */
START_TEST(overwriting_is_adding_to_zeros)
{
    layer l = layer_new(SHAPES[_i]);
    cst_tensor *w[2] = {op_tensor("dw", CST_GRAD, l.out, l.in, NULL), op_zeros("dw added to", CST_GRAD, l.out, l.in)};
    for (int k = 0; k < 2; k++) ck_ok(cst_linear_backward_weight(mem, w[k], l.tdy, l.tx, k));
    op_equal(w[0], w[1]);
    op_check();
    for (int k = 0; k < 2; k++) cst_tensor_free(w[k]);
    layer_free(&l);
}
END_TEST

START_TEST(overwriting_sums_is_adding_to_zeros)
{
    int64_t n = SUMS[_i][0], d = SUMS[_i][1];
    float *dy = op_random((size_t)(n * d), -1, 1, 1);
    cst_tensor *t = op_tensor("dy", CST_GRAD, n, d, dy);
    cst_tensor *b[2] = {op_tensor("db", CST_GRAD, d, 0, NULL), op_zeros("db added to", CST_GRAD, d, 0)};
    for (int k = 0; k < 2; k++) ck_ok(cst_linear_backward_bias(mem, b[k], t, k));
    op_equal(b[0], b[1]);
    op_check();
    cst_tensor_free(t), cst_tensor_free(b[0]), cst_tensor_free(b[1]);
    free(dy);
}
END_TEST

START_TEST(can_be_planned)
{
    cst_tensor *y, *x, *w, *b, *db;
    ck_ok(cst_mem_plan_begin(mem));
    ck_ok(cst_tensor_create(&y, mem, CST_ACTIVATION, CST_F32, 2, (int64_t[]){100, 64}, "y"));
    ck_ok(cst_tensor_create(&x, mem, CST_ACTIVATION, CST_F32, 2, (int64_t[]){100, 32}, "x"));
    ck_ok(cst_tensor_create(&w, mem, CST_PARAM, CST_F32, 2, (int64_t[]){64, 32}, "w"));
    ck_ok(cst_tensor_create(&b, mem, CST_PARAM, CST_F32, 1, (int64_t[]){64}, "b"));
    ck_ok(cst_tensor_create(&db, mem, CST_GRAD, CST_F32, 1, (int64_t[]){64}, "db"));
    cst_tensor *all[] = {y, x, w, b, db};
    for (int i = 1; i < 5; i++) ck_ok(cst_tensor_place(all[i]));
    ck_ok(cst_linear_forward(mem, y, x, w, b));
    uint64_t before = cst_mem_plan_bytes(mem);
    ck_ok(cst_linear_backward_bias(mem, db, y, 1));
    ck_assert(cst_mem_plan_bytes(mem) > before); /* the scratch is in the plan */
    for (int i = 0; i < 5; i++) cst_tensor_free(all[i]);
}
END_TEST

START_TEST(fused_relu_keeps_a_nan)
{
    float x[6] = {1, NAN, -1, 2, -3, 1}, w[2 * 2] = {1, 1, -1, 0}, bias[2] = {0.5f, 0}, residual[6] = {10, 20, 30, 40, 50, 60};
    cst_tensor *tx = op_tensor("x", CST_ACTIVATION, 3, 2, x), *tw = op_tensor("w", CST_PARAM, 2, 2, w),
               *tb = op_tensor("b", CST_PARAM, 2, 0, bias);
    cst_tensor *tr = op_tensor("r", CST_ACTIVATION, 3, 2, residual), *ty = op_tensor("y", CST_ACTIVATION, 3, 2, NULL);
    ck_ok(cst_linear_forward_fused(mem, ty, tx, tw, tb, 1, tr));
    float *y = op_read(ty);
    ck_assert(isnan(y[0]) && isnan(y[1])); /* as every product with a NaN in its row */
    ck_assert(y[2] == 31.5f && y[3] == 41 && y[4] == 50 && y[5] == 63);
    free(y);
    cst_tensor *all[] = {tx, tw, tb, tr, ty};
    for (int i = 0; i < 5; i++) cst_tensor_free(all[i]);
}
END_TEST

START_TEST(refuses_what_is_wrong)
{
    cst_tensor *x = op_tensor("x", CST_ACTIVATION, 4, 6, NULL), *w = op_tensor("w", CST_PARAM, 5, 6, NULL);
    cst_tensor *y = op_tensor("y", CST_ACTIVATION, 4, 5, NULL), *b = op_tensor("b", CST_PARAM, 6, 0, NULL);
    cst_tensor *sq = op_tensor("sq", CST_PARAM, 4, 4, NULL), *half;
    ck_ok(cst_tensor_create(&half, mem, CST_PARAM, CST_BF16, 2, (int64_t[]){5, 6}, "halves"));
    ck_fails(cst_linear_forward(mem, x, x, w, NULL), CST_USAGE, "x is 2-d");
    ck_fails(cst_linear_forward(mem, y, w, w, NULL), CST_USAGE, "y is 2-d");
    ck_fails(cst_linear_forward(mem, y, y, w, NULL), CST_USAGE, "y is 2-d");
    ck_fails(cst_linear_forward(mem, y, x, w, b), CST_USAGE, "b is 1-d");
    ck_fails(cst_linear_forward(mem, sq, sq, sq, NULL), CST_USAGE, "given twice");
    ck_fails(cst_linear_forward(mem, y, x, half, NULL), CST_UNSUPPORTED, "halves is bf16");
    ck_fails(cst_linear_backward_input(mem, y, y, w, 0), CST_USAGE, "y is 2-d");
    ck_fails(cst_linear_backward_weight(mem, w, x, x, 1), CST_USAGE, "x is 2-d");
    ck_fails(cst_linear_backward_bias(mem, b, y, 1), CST_USAGE, "b is 1-d");
    ck_fails(cst_linear_backward_bias(mem, y, y, 1), CST_USAGE, "y is 2-d");
    cst_tensor *all[] = {x, w, y, b, sq, half};
    for (int i = 0; i < 6; i++) cst_tensor_free(all[i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("linear");
    TCase *tc = op_case(s, "linear");
    tcase_add_loop_test(tc, forward_agrees, 0, NSHAPES);
    tcase_add_loop_test(tc, backward_agrees, 0, NSHAPES);
    tcase_add_loop_test(tc, slopes_agree, 0, 6);
    tcase_add_loop_test(tc, bias_gradient_agrees, 0, NSUMS);
    tcase_add_test(tc, bias_gradient_of_a_larger_one);
    tcase_add_loop_test(tc, overwriting_is_adding_to_zeros, 0, NSHAPES);
    tcase_add_loop_test(tc, overwriting_sums_is_adding_to_zeros, 0, NSUMS);
    tcase_add_test(tc, fused_relu_keeps_a_nan);
    tcase_add_test(tc, can_be_planned);
    tcase_add_test(tc, refuses_what_is_wrong);
    return op_main(s);
}
