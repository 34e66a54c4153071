#include "op_testing.h"

#include "op/layer_norm.h"

/* Rows of 1, primes, one lane, around a vector (4, 16) and around a group's stride (512); row counts around the
 * blocks of the backward pass (4 and 16). */
static const int64_t SHAPES[][2] = {{1, 1},   {3, 2},    {4, 3},   {5, 4},   {15, 15}, {16, 16}, {17, 17},
                                    {33, 64}, {13, 127}, {2, 511}, {7, 512}, {3, 513}, {2, 2053}};
enum { NSHAPES = sizeof SHAPES / sizeof *SHAPES };
static const float EPS = 1e-5f;

static void reference(double *y, double *stats, const double *x, const double *gamma, const double *beta, int64_t n,
                      int64_t d)
{
    for (int64_t i = 0; i < n; i++) {
        const double *row = x + i * d;
        double mean = 0, var = 0;
        for (int64_t j = 0; j < d; j++) mean += row[j] / (double)d;
        for (int64_t j = 0; j < d; j++) var += (row[j] - mean) * (row[j] - mean) / (double)d;
        double rstd = 1 / sqrt(var + EPS);
        for (int64_t j = 0; j < d; j++) y[i * d + j] = (row[j] - mean) * rstd * gamma[j] + beta[j];
        if (stats) stats[2 * i] = mean, stats[2 * i + 1] = rstd;
    }
}

static double *doubles(const float *p, size_t n)
{
    double *q = calloc(n, sizeof *q);
    for (size_t i = 0; i < n; i++) q[i] = p[i];
    return q;
}

/* Rows of the given mean and about the given spread. */
static void forward_case(int64_t n, int64_t d, float mean, float spread, double tol)
{
    size_t count = (size_t)(n * d);
    float *x = op_random(count, mean - 1.732f * spread, mean + 1.732f * spread, 1);
    float *gamma = op_random((size_t)d, 0.5f, 1.5f, 2), *beta = op_random((size_t)d, -1, 1, 3);
    double *X = doubles(x, count), *G = doubles(gamma, (size_t)d), *B = doubles(beta, (size_t)d);
    double *want = malloc(count * sizeof *want), *stats = malloc((size_t)n * 2 * sizeof *stats);
    reference(want, stats, X, G, B, n, d);
    cst_tensor *tx = op_tensor("x", CST_ACTIVATION, n, d, x), *ty = op_tensor("y", CST_ACTIVATION, n, d, NULL);
    cst_tensor *tg = op_tensor("gamma", CST_PARAM, d, 0, gamma), *tb = op_tensor("beta", CST_PARAM, d, 0, beta);
    cst_tensor *ts = op_tensor("stats", CST_ACTIVATION, n, 2, NULL);
    ck_ok(cst_layer_norm_forward(mem, ty, ts, tx, tg, tb, EPS));
    float *y = op_read(ty), *s = op_read(ts);
    op_close("y", y, want, count, tol, 1);
    for (int64_t i = 0; i < n; i++) {
        op_close("mean", s + 2 * i, stats + 2 * i, 1, 2e-7, spread); /* one rounding of the mean */
        op_close("rstd", s + 2 * i + 1, stats + 2 * i + 1, 1, tol, 0);
    }
    ck_ok(cst_layer_norm_forward(mem, ty, ts, tx, tg, tb, EPS));
    float *again = op_read(ty);
    ck_assert(!memcmp(y, again, ty->bytes));
    op_check();
    cst_tensor *all[] = {tx, ty, tg, tb, ts};
    for (int i = 0; i < 5; i++) cst_tensor_free(all[i]);
    free(x), free(gamma), free(beta), free(X), free(G), free(B), free(want), free(stats), free(y), free(s), free(again);
}

START_TEST(forward_agrees)
{
    forward_case(SHAPES[_i][0], SHAPES[_i][1], 0, 1, 2e-6);
}
END_TEST

START_TEST(forward_of_rows_far_from_zero)
{
    forward_case(64, 1024, 100, 1, 2e-6);
    forward_case(64, 1024, -3000, 1, 2e-6);
    forward_case(9, 4099, 100, 1, 2e-6);
    forward_case(9, 1024, 1e4f, 100, 2e-6);
    forward_case(4, 1024, 0, 1e-4f, 2e-6); /* eps dominates */
}
END_TEST

START_TEST(equal_and_huge_rows_stay_finite)
{
    enum { D = 1000 };
    float x[2 * D], one[D], zero[D] = {0};
    for (int j = 0; j < D; j++) x[j] = 1234.567f, x[D + j] = j ? 0 : 1e6f, one[j] = 1;
    cst_tensor *tx = op_tensor("x", CST_ACTIVATION, 2, D, x), *ty = op_tensor("y", CST_ACTIVATION, 2, D, NULL);
    cst_tensor *tg = op_tensor("gamma", CST_PARAM, D, 0, one), *tb = op_tensor("beta", CST_PARAM, D, 0, zero);
    cst_tensor *ts = op_tensor("stats", CST_ACTIVATION, 2, 2, NULL);
    ck_ok(cst_layer_norm_forward(mem, ty, ts, tx, tg, tb, EPS));
    float *y = op_read(ty);
    for (int j = 0; j < D; j++) ck_assert_msg(fabsf(y[j]) < 1e-3f, "equal row, y[%d] = %g", j, y[j]);
    double outlier = (D - 1) / sqrt(D - 1.0), rest = -1 / sqrt(D - 1.0);
    for (int j = 0; j < D; j++) op_close("outlier", y + D + j, j ? &rest : &outlier, 1, 1e-5, 0);
    op_check();
    cst_tensor *all[] = {tx, ty, tg, tb, ts};
    for (int i = 0; i < 5; i++) cst_tensor_free(all[i]);
    free(y);
}
END_TEST

/* The fused form has the bits of its two halves; s may be x. */
START_TEST(residual_form_equals_its_parts)
{
    int64_t n = SHAPES[_i][0], d = SHAPES[_i][1];
    size_t count = (size_t)(n * d);
    float *x = op_random(count, -2, 2, 1), *r = op_random(count, 98, 102, 2), *v = op_random((size_t)d, -1, 1, 3);
    cst_tensor *tr = op_tensor("r", CST_ACTIVATION, n, d, r), *tv = op_tensor("v", CST_PARAM, d, 0, v);
    const cst_dropout q = {0.25f, 77, 1, 2};
    for (int turn = 0; turn < 3; turn++) { /* of the 8 cases three a shape: some runtimes compile at every launch */
        int k = (_i + 3 * turn) % 8;
        const cst_dropout *drop = k & 1 ? &q : NULL;
        cst_tensor *bias = k & 2 ? tv : NULL;
        cst_tensor *tx = op_tensor("x", CST_ACTIVATION, n, d, x), *s0 = op_tensor("s0", CST_ACTIVATION, n, d, NULL);
        cst_tensor *y0 = op_tensor("y0", CST_ACTIVATION, n, d, NULL), *y1 = op_tensor("y1", CST_ACTIVATION, n, d, NULL);
        cst_tensor *t0 = op_tensor("t0", CST_ACTIVATION, n, 2, NULL), *t1 = op_tensor("t1", CST_ACTIVATION, n, 2, NULL);
        cst_tensor *s1 = k & 4 ? tx : op_tensor("s1", CST_ACTIVATION, n, d, NULL);
        ck_ok(cst_residual_forward(mem, s0, tx, bias, tr, drop));
        ck_ok(cst_layer_norm_forward(mem, y0, t0, s0, tv, tv, EPS));
        ck_ok(cst_layer_norm_residual_forward(mem, y1, t1, s1, tx, bias, tr, tv, tv, EPS, drop));
        cst_tensor *pair[][2] = {{s0, s1}, {y0, y1}, {t0, t1}};
        for (int p = 0; p < 3; p++) {
            float *a = op_read(pair[p][0]), *b = op_read(pair[p][1]);
            ck_assert_msg(!memcmp(a, b, pair[p][0]->bytes), "case %d: %s", k, pair[p][1]->name);
            for (int64_t i = 0; i < cst_tensor_count(pair[p][0]); i++) ck_assert(isfinite(a[i]));
            free(a), free(b);
        }
        op_check();
        if (s1 != tx) cst_tensor_free(s1);
        cst_tensor *all[] = {tx, s0, y0, y1, t0, t1};
        for (int i = 0; i < 6; i++) cst_tensor_free(all[i]);
    }
    cst_tensor_free(tr), cst_tensor_free(tv);
    free(x), free(r), free(v);
}
END_TEST

/* The double gradients by formula; slopes_agree proves the formula against finite differences of `reference`. */
static void gradients(double *dx, double *dgamma, double *dbeta, const double *dy, const double *x, const double *gamma,
                      int64_t n, int64_t d)
{
    double *xhat = malloc((size_t)d * sizeof *xhat);
    for (int64_t i = 0; i < n; i++) {
        const double *row = x + i * d, *up = dy + i * d;
        double mean = 0, var = 0, a = 0, b = 0;
        for (int64_t j = 0; j < d; j++) mean += row[j] / (double)d;
        for (int64_t j = 0; j < d; j++) var += (row[j] - mean) * (row[j] - mean) / (double)d;
        double rstd = 1 / sqrt(var + EPS);
        for (int64_t j = 0; j < d; j++) {
            xhat[j] = (row[j] - mean) * rstd;
            a += up[j] * gamma[j] / (double)d;
            b += up[j] * gamma[j] * xhat[j] / (double)d;
            dgamma[j] += up[j] * xhat[j];
            dbeta[j] += up[j];
        }
        for (int64_t j = 0; j < d; j++) dx[i * d + j] += rstd * (up[j] * gamma[j] - a - xhat[j] * b);
    }
    free(xhat);
}

/* Without accumulate what gamma's and beta's gradients held before, NaN here, leaves no trace. */
START_TEST(overwriting_is_adding_to_zeros)
{
    int64_t n = SHAPES[_i][0], d = SHAPES[_i][1];
    float *values = op_random((size_t)(n * d), -1, 1, 1);
    cst_tensor *x = op_tensor("x", CST_ACTIVATION, n, d, values), *gamma = op_tensor("gamma", CST_PARAM, d, 0, values);
    cst_tensor *y = op_tensor("y", CST_ACTIVATION, n, d, NULL), *stats = op_tensor("stats", CST_ACTIVATION, n, 2, NULL);
    cst_tensor *g[2] = {op_tensor("dgamma", CST_GRAD, d, 0, NULL), op_zeros("dgamma added to", CST_GRAD, d, 0)};
    cst_tensor *b[2] = {op_tensor("dbeta", CST_GRAD, d, 0, NULL), op_zeros("dbeta added to", CST_GRAD, d, 0)};
    ck_ok(cst_layer_norm_forward(mem, y, stats, x, gamma, gamma, EPS));
    for (int k = 0; k < 2; k++) ck_ok(cst_layer_norm_backward(mem, y, g[k], b[k], x, x, stats, gamma, NULL, k));
    op_equal(g[0], g[1]);
    op_equal(b[0], b[1]);
    op_check();
    cst_tensor *all[] = {x, gamma, y, stats, g[0], g[1], b[0], b[1]};
    for (int i = 0; i < 8; i++) cst_tensor_free(all[i]);
    free(values);
}
END_TEST

typedef struct {
    float *x, *gamma, *dy, *add, *dg0, *db0, *dx, *dg, *db; /* the last three: what the operator gave */
} backward_data;

/* How dx shares its storage. */
enum { OWN, IS_DY, IS_ADD };

static void backward_run(backward_data *b, int64_t n, int64_t d, int with_add, int place)
{
    cst_tensor *x = op_tensor("x", CST_ACTIVATION, n, d, b->x), *dy = op_tensor("dy", CST_GRAD, n, d, b->dy);
    cst_tensor *gamma = op_tensor("gamma", CST_PARAM, d, 0, b->gamma), *add = op_tensor("add", CST_GRAD, n, d, b->add);
    cst_tensor *y = op_tensor("y", CST_ACTIVATION, n, d, NULL), *stats = op_tensor("stats", CST_ACTIVATION, n, 2, NULL);
    cst_tensor *dg = op_tensor("dgamma", CST_GRAD, d, 0, b->dg0), *db = op_tensor("dbeta", CST_GRAD, d, 0, b->db0);
    cst_tensor *own = op_tensor("dx", CST_GRAD, n, d, NULL), *dx = place == IS_DY ? dy : place == IS_ADD ? add : own;
    ck_ok(cst_layer_norm_forward(mem, y, stats, x, gamma, gamma, EPS));
    ck_ok(cst_layer_norm_backward(mem, dx, dg, db, dy, x, stats, gamma, with_add ? add : NULL, 1));
    b->dx = op_read(dx), b->dg = op_read(dg), b->db = op_read(db);
    op_check();
    cst_tensor *all[] = {x, dy, gamma, add, y, stats, dg, db, own};
    for (int i = 0; i < 9; i++) cst_tensor_free(all[i]);
}

static void backward_case(int64_t n, int64_t d, float mean, double tol)
{
    size_t count = (size_t)(n * d), D = (size_t)d;
    backward_data b = {.x = op_random(count, mean - 1.7f, mean + 1.7f, 1), .gamma = op_random(D, 0.5f, 1.5f, 2),
                       .dy = op_random(count, -1, 1, 3), .add = op_random(count, -1, 1, 4),
                       .dg0 = op_random(D, -3, 3, 5), .db0 = op_random(D, -3, 3, 6)};
    double *X = doubles(b.x, count), *G = doubles(b.gamma, D), *DY = doubles(b.dy, count);
    float *first = NULL;
    for (int k = 0; k < 4; k++) {
        int with_add = k > 0;
        double *dx = calloc(count, sizeof *dx), *dg = doubles(b.dg0, D), *db = doubles(b.db0, D);
        for (size_t i = 0; with_add && i < count; i++) dx[i] = b.add[i];
        gradients(dx, dg, db, DY, X, G, n, d);
        backward_run(&b, n, d, with_add, k == 2 ? IS_DY : k == 3 ? IS_ADD : OWN);
        double rows = sqrt((double)n);
        op_close("dx", b.dx, dx, count, tol, d < 3 ? 100 : 1); /* one or two columns: rstd is up to 316, the result 0 */
        op_close("dgamma", b.dg, dg, D, tol, rows);
        op_close("dbeta", b.db, db, D, tol, rows);
        if (k == 1) first = b.dx;
        if (k > 1) ck_assert_msg(!memcmp(first, b.dx, count * sizeof *first), "in place, case %d", k);
        if (k != 1) free(b.dx);
        free(dx), free(dg), free(db), free(b.dg), free(b.db);
    }
    free(first), free(X), free(G), free(DY);
    free(b.x), free(b.gamma), free(b.dy), free(b.add), free(b.dg0), free(b.db0);
}

START_TEST(backward_agrees)
{
    backward_case(SHAPES[_i][0], SHAPES[_i][1], 0, 3e-6);
}
END_TEST

START_TEST(backward_of_larger_ones)
{
    backward_case(300, 1024, 0, 3e-6);
    backward_case(4200, 24, 0, 3e-6); /* more rows than the least block times the most blocks */
    /* the saved mean of 100 is rounded to 4e-6, a 4e-6th of the deviation, and so is every xhat */
    backward_case(64, 1024, 100, 1e-5);
}
END_TEST

/* sum(w y) as a function of (x, gamma, beta), one after the other. */
typedef struct {
    int64_t n, d;
    const double *w;
} objective_shape;

static double objective(const double *p, void *user)
{
    const objective_shape *o = user;
    double y[17 * 17], sum = 0;
    reference(y, NULL, p, p + o->n * o->d, p + (o->n + 1) * o->d, o->n, o->d);
    for (int64_t i = 0; i < o->n * o->d; i++) sum += o->w[i] * y[i];
    return sum;
}

START_TEST(slopes_agree)
{
    int64_t n = SHAPES[_i][0], d = SHAPES[_i][1];
    size_t count = (size_t)(n * d), D = (size_t)d;
    backward_data b = {.x = op_random(count, -2, 2, 1), .gamma = op_random(D, 0.5f, 1.5f, 2),
                       .dy = op_random(count, -1, 1, 3),
                       .add = op_random(count, 0, 1, 4),
                       .dg0 = calloc(D, sizeof(float)), .db0 = calloc(D, sizeof(float))};
    double *p = malloc((count + 2 * D) * sizeof *p), *w = doubles(b.dy, count),
        *slope = malloc((count + 2 * D) * sizeof *slope);
    for (size_t i = 0; i < count; i++) p[i] = b.x[i];
    for (size_t j = 0; j < D; j++) p[count + j] = p[count + D + j] = b.gamma[j];
    objective_shape o = {n, d, w};
    for (size_t i = 0; i < count + 2 * D; i++) slope[i] = op_slope(objective, p, i, 1e-5, &o);
    backward_run(&b, n, d, 0, OWN);
    double scale = d < 3 ? 100 : 1; /* as in backward_case */
    op_close("dx", b.dx, slope, count, 1e-5, scale);
    op_close("dgamma", b.dg, slope + count, D, 1e-5, sqrt((double)n));
    op_close("dbeta", b.db, slope + count + D, D, 1e-5, sqrt((double)n));
    free(b.x), free(b.gamma), free(b.dy), free(b.add), free(b.dg0), free(b.db0), free(b.dx), free(b.dg), free(b.db);
    free(p), free(w), free(slope);
}
END_TEST

START_TEST(backward_can_be_planned)
{
    cst_tensor *t[8];
    const char *name[] = {"dx", "dgamma", "dbeta", "dy", "x", "stats", "gamma", "y"};
    ck_ok(cst_mem_plan_begin(mem));
    for (int i = 0; i < 8; i++) {
        int64_t dims[2] = {i == 1 || i == 2 || i == 6 ? 64 : 200, i == 5 ? 2 : 64};
        ck_ok(cst_tensor_create(&t[i], mem, CST_DATA, CST_F32, i == 1 || i == 2 || i == 6 ? 1 : 2, dims, "%s",
                                name[i]));
        ck_ok(cst_tensor_place(t[i]));
    }
    uint64_t before = cst_mem_plan_bytes(mem);
    ck_ok(cst_layer_norm_forward(mem, t[7], t[5], t[4], t[6], t[6], EPS));
    ck_ok(cst_layer_norm_backward(mem, t[0], t[1], t[2], t[3], t[4], t[5], t[6], NULL, 1));
    ck_assert(cst_mem_plan_bytes(mem) > before); /* the scratch is in the plan */
    for (int i = 0; i < 8; i++) cst_tensor_free(t[i]);
}
END_TEST

START_TEST(refuses_what_is_wrong)
{
    cst_tensor *a = op_tensor("a", CST_ACTIVATION, 4, 6, NULL), *b = op_tensor("b", CST_ACTIVATION, 4, 5, NULL);
    cst_tensor *c = op_tensor("c", CST_ACTIVATION, 4, 6, NULL), *s = op_tensor("s", CST_ACTIVATION, 4, 2, NULL);
    cst_tensor *v = op_tensor("v", CST_PARAM, 6, 0, NULL), *w = op_tensor("w", CST_PARAM, 5, 0, NULL), *half;
    const cst_dropout one = {1, 0, 0, 0};
    ck_ok(cst_tensor_create(&half, mem, CST_DATA, CST_F16, 2, (int64_t[]){4, 6}, "halves"));
    ck_fails(cst_layer_norm_forward(mem, b, s, a, v, v, EPS), CST_USAGE, "b is 2-d");
    ck_fails(cst_layer_norm_forward(mem, c, a, a, v, v, EPS), CST_USAGE, "a is 2-d");
    ck_fails(cst_layer_norm_forward(mem, c, s, a, w, v, EPS), CST_USAGE, "w is 1-d");
    ck_fails(cst_layer_norm_forward(mem, c, s, a, v, w, EPS), CST_USAGE, "w is 1-d");
    ck_fails(cst_layer_norm_forward(mem, a, s, a, v, v, EPS), CST_USAGE, "in place");
    ck_fails(cst_layer_norm_forward(mem, c, s, half, v, v, EPS), CST_UNSUPPORTED, "halves is f16");
    ck_fails(cst_layer_norm_residual_forward(mem, c, s, a, a, w, a, v, v, EPS, NULL), CST_USAGE, "w is 1-d");
    ck_fails(cst_layer_norm_residual_forward(mem, c, s, a, a, v, b, v, v, EPS, NULL), CST_USAGE, "b is 2-d");
    ck_fails(cst_layer_norm_residual_forward(mem, c, s, b, a, v, a, v, v, EPS, NULL), CST_USAGE, "b is 2-d");
    ck_fails(cst_layer_norm_residual_forward(mem, a, s, a, a, v, c, v, v, EPS, NULL), CST_USAGE, "as well");
    ck_fails(cst_layer_norm_residual_forward(mem, c, s, a, a, v, a, v, v, EPS, &one), CST_USAGE, "below 1");
    ck_fails(cst_layer_norm_backward(mem, c, w, v, c, a, s, v, NULL, 1), CST_USAGE, "w is 1-d");
    ck_fails(cst_layer_norm_backward(mem, c, v, w, c, a, s, v, NULL, 1), CST_USAGE, "w is 1-d");
    ck_fails(cst_layer_norm_backward(mem, c, v, v, b, a, s, v, NULL, 1), CST_USAGE, "b is 2-d");
    ck_fails(cst_layer_norm_backward(mem, c, v, v, c, a, s, v, b, 1), CST_USAGE, "b is 2-d");
    ck_fails(cst_layer_norm_backward(mem, a, v, v, c, a, s, v, NULL, 1), CST_USAGE, "as well");
    cst_tensor *all[] = {a, b, c, s, v, w, half};
    for (int i = 0; i < 7; i++) cst_tensor_free(all[i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("layer_norm");
    TCase *tc = op_case(s, "layer_norm");
    tcase_add_loop_test(tc, forward_agrees, 0, NSHAPES);
    tcase_add_test(tc, forward_of_rows_far_from_zero);
    tcase_add_test(tc, equal_and_huge_rows_stay_finite);
    tcase_add_loop_test(tc, residual_form_equals_its_parts, 0, NSHAPES);
    tcase_add_loop_test(tc, backward_agrees, 0, NSHAPES);
    tcase_add_loop_test(tc, overwriting_is_adding_to_zeros, 0, NSHAPES);
    tcase_add_test(tc, backward_of_larger_ones);
    tcase_add_loop_test(tc, slopes_agree, 0, 7);
    tcase_add_test(tc, backward_can_be_planned);
    tcase_add_test(tc, refuses_what_is_wrong);
    return op_main(s);
}
