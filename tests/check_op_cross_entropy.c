#include "op_testing.h"

#include "op/cross_entropy.h"

/* tokens, width, vocabulary: 1, primes, and the borders of vectors (4, 16), of batches of 8 vectors (128 on a
 * CPU, 4096 in a group of 128) and of groups of vectors (512) */
static const int64_t sizes[][3] = {{1, 1, 1},    {1, 3, 2},     {5, 7, 3},    {2, 4, 4},    {13, 11, 15},
                                   {64, 8, 16},  {65, 16, 17},  {63, 5, 127}, {3, 16, 128}, {17, 16, 129},
                                   {11, 8, 511}, {4, 32, 512},  {6, 8, 513},  {3, 4, 4095}, {2, 16, 4096},
                                   {5, 8, 4097}, {3, 8, 10007}, {97, 48, 601}};
#define SIZES ((int)(sizeof sizes / sizeof *sizes))

typedef struct problem {
    int64_t n, e, v;
    float *h, *table, scale;
    int32_t *target;
    double *h64, *table64, *loss, *dh, *dtable; /* the last three: the reference's outcome */
    cst_tensor *th, *ttable, *ttarget;
} problem;

static double *widen(const float *x, int64_t n)
{
    double *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = x[i];
    return p;
}

/* Loss of every row, and with grad both gradients, all in double. Returns the objective. */
static double reference(problem *p, int grad)
{
    double sum = 0, *x = malloc((size_t)p->v * sizeof *x);
    if (grad) memset(p->dh, 0, (size_t)(p->n * p->e) * sizeof(double));
    if (grad) memset(p->dtable, 0, (size_t)(p->v * p->e) * sizeof(double));
    for (int64_t i = 0; i < p->n; i++) {
        double most = -INFINITY, total = 0;
        p->loss[i] = 0;
        if (p->target[i] < 0) continue;
        for (int64_t v = 0; v < p->v; v++) {
            x[v] = 0;
            for (int64_t k = 0; k < p->e; k++) x[v] += p->h64[i * p->e + k] * p->table64[v * p->e + k];
            most = fmax(most, x[v]);
        }
        for (int64_t v = 0; v < p->v; v++) total += exp(x[v] - most);
        p->loss[i] = log(total) + most - x[p->target[i]];
        sum += p->loss[i];
        for (int64_t v = 0; grad && v < p->v; v++) {
            double d = (exp(x[v] - most) / total - (v == p->target[i])) * p->scale;
            for (int64_t k = 0; k < p->e; k++) {
                p->dh[i * p->e + k] += d * p->table64[v * p->e + k];
                p->dtable[v * p->e + k] += d * p->h64[i * p->e + k];
            }
        }
    }
    free(x);
    return p->scale * sum;
}

/* `reach`: how far the logits spread. Every third position has no target. */
static problem make(int64_t n, int64_t e, int64_t v, float reach)
{
    problem p = {.n = n, .e = e, .v = v, .scale = 1.0f / (float)n};
    float r = sqrtf(reach / sqrtf((float)e));
    p.h = op_random((size_t)(n * e), -r, r, 1);
    p.table = op_random((size_t)(v * e), -r, r, 2);
    p.target = malloc((size_t)n * sizeof *p.target);
    for (int64_t i = 0; i < n; i++)
        p.target[i] = i % 3 == 2 ? -1 - (int32_t)i : (int32_t)(cst_random_u64(7, 3, (uint64_t)i) % (uint64_t)v);
    p.target[0] = (int32_t)v - 1; /* in the tail, where there is one */
    p.h64 = widen(p.h, n * e);
    p.table64 = widen(p.table, v * e);
    p.loss = malloc((size_t)n * sizeof(double));
    p.dh = malloc((size_t)(n * e) * sizeof(double));
    p.dtable = malloc((size_t)(v * e) * sizeof(double));
    p.th = op_tensor("h", CST_ACTIVATION, n, e, p.h);
    p.ttable = op_tensor("table", CST_PARAM, v, e, p.table);
    p.ttarget = op_tensor_i32("targets", n, 0, p.target);
    return p;
}

static void drop(problem *p)
{
    void *all[] = {p->h, p->table, p->target, p->h64, p->table64, p->loss, p->dh, p->dtable};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    cst_tensor_free(p->th);
    cst_tensor_free(p->ttable);
    cst_tensor_free(p->ttarget);
}

static cst_lm_loss_args args_of(const problem *p, cst_tensor *loss, cst_tensor *dh, cst_tensor *dtable)
{
    return (cst_lm_loss_args){p->th, p->ttable, p->ttarget, loss, dh, dtable, p->scale, 1};
}

/* One run against the reference; dtable starts at `start` everywhere. */
static void compare(problem *p, float start, double tol)
{
    float *first = malloc((size_t)(p->v * p->e) * sizeof(float));
    for (int64_t i = 0; i < p->v * p->e; i++) first[i] = start;
    cst_tensor *loss = op_tensor("loss", CST_ACTIVATION, p->n, 0, NULL);
    cst_tensor *dh = op_tensor("dh", CST_ACTIVATION, p->n, p->e, NULL);
    cst_tensor *dtable = op_tensor("dtable", CST_GRAD, p->v, p->e, first);
    cst_lm_loss_args a = args_of(p, loss, dh, dtable);
    ck_ok(cst_lm_loss(mem, &a));
    float *l = op_read(loss), *d = op_read(dh), *t = op_read(dtable);
    reference(p, 1);
    for (int64_t i = 0; i < p->v * p->e; i++) p->dtable[i] += start;
    op_close("loss", l, p->loss, (size_t)p->n, 2e-6, 1);
    /* what is summed in both is about `scale` in size, however small the sum */
    op_close("dh", d, p->dh, (size_t)(p->n * p->e), tol, p->scale);
    op_close("dtable", t, p->dtable, (size_t)(p->v * p->e), tol, p->scale);
    for (int64_t i = 0; i < p->n; i++)
        if (p->target[i] < 0) {
            ck_assert(l[i] == 0);
            for (int64_t k = 0; k < p->e; k++) ck_assert(d[i * p->e + k] == 0);
        }
    op_check();
    free(first), free(l), free(d), free(t);
    cst_tensor_free(loss), cst_tensor_free(dh), cst_tensor_free(dtable);
}

START_TEST(equals_the_reference)
{
    problem p = make(sizes[_i][0], sizes[_i][1], sizes[_i][2], 3);
    compare(&p, 0.0f, 3e-6);
    compare(&p, 0.25f, 3e-6); /* dtable is added to */
    drop(&p);
}
END_TEST

START_TEST(several_chunks_at_the_real_vocabulary)
{
    problem p = make(331, 4, 50272, 3);
    ck_assert_int_eq(cst_lm_loss_chunk(331, 50272), 320);
    compare(&p, 0.0f, 1e-5); /* each element of dh is one product of length 50272, summed in order */
    drop(&p);
}
END_TEST

/* Without accumulate the first chunk overwrites: what the table's gradient held before, NaN here, leaves no trace. */
START_TEST(overwriting_is_adding_to_zeros)
{
    problem p = _i ? make(37, 24, 1013, 3) : make(331, 4, 50272, 3); /* the latter in two chunks */
    cst_tensor *loss = op_tensor("loss", CST_ACTIVATION, p.n, 0, NULL), *dh = op_tensor("dh", CST_ACTIVATION, p.n, p.e, NULL);
    cst_tensor *t[2] = {op_tensor("dtable", CST_GRAD, p.v, p.e, NULL), op_zeros("dtable added to", CST_GRAD, p.v, p.e)};
    for (int k = 0; k < 2; k++) {
        cst_lm_loss_args a = args_of(&p, loss, dh, t[k]);
        a.accumulate = k;
        ck_ok(cst_lm_loss(mem, &a));
    }
    op_equal(t[0], t[1]);
    op_check();
    cst_tensor_free(loss), cst_tensor_free(dh), cst_tensor_free(t[0]), cst_tensor_free(t[1]);
    drop(&p);
}
END_TEST

static double objective_h(const double *x, void *user)
{
    problem *p = user;
    (void)x; /* p->h64 or p->table64 itself */
    return reference(p, 0);
}

START_TEST(gradients_are_the_slopes_of_the_loss)
{
    problem p = make(sizes[_i][0], sizes[_i][1], sizes[_i][2], 3);
    int64_t nh = p.n * p.e, nt = p.v * p.e;
    cst_tensor *loss = op_tensor("loss", CST_ACTIVATION, p.n, 0, NULL),
               *dh = op_tensor("dh", CST_ACTIVATION, p.n, p.e, NULL);
    float *zero = calloc((size_t)nt, sizeof *zero);
    cst_tensor *dtable = op_tensor("dtable", CST_GRAD, p.v, p.e, zero);
    cst_lm_loss_args a = args_of(&p, loss, dh, dtable);
    ck_ok(cst_lm_loss(mem, &a));
    float *d = op_read(dh), *t = op_read(dtable);
    for (int k = 0; k < 12; k++) {
        size_t i = cst_random_u64(1, 1, (uint64_t)k) % (uint64_t)nh,
               j = cst_random_u64(1, 2, (uint64_t)k) % (uint64_t)nt;
        double s = op_slope(objective_h, p.h64, i, 1e-5, &p);
        op_close("dh", &d[i], &s, 1, 1e-5, p.scale);
        s = op_slope(objective_h, p.table64, j, 1e-5, &p);
        op_close("dtable", &t[j], &s, 1, 1e-5, p.scale);
    }
    free(zero), free(d), free(t);
    cst_tensor_free(loss), cst_tensor_free(dh), cst_tensor_free(dtable);
    drop(&p);
}
END_TEST

/* Logits of thousands: nothing overflows, and a sure wrong answer costs its distance. */
START_TEST(large_logits)
{
    enum { V = 1000 };
    float *table = calloc(V, sizeof *table), one = 1, *got;
    int32_t target = 3;
    table[3] = -2000, table[700] = 9000, table[999] = 8999;
    cst_tensor *h = op_tensor("h", CST_ACTIVATION, 1, 1, &one), *tt = op_tensor("table", CST_PARAM, V, 1, table);
    cst_tensor *tg = op_tensor_i32("targets", 1, 0, &target), *loss = op_tensor("loss", CST_ACTIVATION, 1, 0, NULL);
    cst_tensor *dh = op_tensor("dh", CST_ACTIVATION, 1, 1, NULL);
    ck_ok(cst_lm_loss(mem, &(cst_lm_loss_args){h, tt, tg, loss, dh, NULL, 1.0f, 0}));
    got = op_read(loss);
    double q = 1 / (1 + exp(-1)), want = 11000 - log(q), slope = q * 9000 + (1 - q) * 8999 + 2000;
    op_close("loss", got, &want, 1, 1e-6, 0);
    free(got);
    got = op_read(dh);
    op_close("dh", got, &slope, 1, 1e-6, 0);
    free(got), free(table);
    op_check();
    cst_tensor_free(h), cst_tensor_free(tt), cst_tensor_free(tg), cst_tensor_free(loss), cst_tensor_free(dh);
}
END_TEST

START_TEST(evaluation_and_single_gradients_give_the_same_bits)
{
    problem p = make(37, 24, 1013, 3);
    size_t nh = (size_t)(p.n * p.e), nt = (size_t)(p.v * p.e);
    float *zero = calloc(nt, sizeof *zero), *l[4], *d[4] = {0}, *t[4] = {0};
    for (int k = 0; k < 4; k++) { /* both, both again, dh only, neither */
        cst_tensor *loss = op_tensor("loss", CST_ACTIVATION, p.n, 0, NULL);
        cst_tensor *dh = k < 3 ? op_tensor("dh", CST_ACTIVATION, p.n, p.e, NULL) : NULL;
        cst_tensor *dtable = k < 2 ? op_tensor("dtable", CST_GRAD, p.v, p.e, zero) : NULL;
        cst_lm_loss_args a = args_of(&p, loss, dh, dtable);
        ck_ok(cst_lm_loss(mem, &a));
        l[k] = op_read(loss);
        if (dh) d[k] = op_read(dh);
        if (dtable) t[k] = op_read(dtable);
        cst_tensor_free(loss), cst_tensor_free(dh), cst_tensor_free(dtable);
    }
    for (int k = 1; k < 4; k++) {
        ck_assert(!memcmp(l[0], l[k], (size_t)p.n * 4));
        if (d[k]) ck_assert(!memcmp(d[0], d[k], nh * 4));
        if (t[k]) ck_assert(!memcmp(t[0], t[k], nt * 4));
    }
    op_check();
    for (int k = 0; k < 4; k++) free(l[k]), free(d[k]), free(t[k]);
    free(zero);
    drop(&p);
}
END_TEST

START_TEST(a_target_outside_the_vocabulary_shows)
{
    problem p = make(4, 4, 19, 1);
    int32_t target[] = {1, 19, -7, 2000000000};
    ck_ok(cst_tensor_write(p.ttarget, 0, target, sizeof target));
    cst_tensor *loss = op_tensor("loss", CST_ACTIVATION, 4, 0, NULL), *dh = op_tensor("dh", CST_ACTIVATION, 4, 4, NULL);
    cst_lm_loss_args a = args_of(&p, loss, dh, NULL);
    ck_ok(cst_lm_loss(mem, &a));
    float *l = op_read(loss), *d = op_read(dh);
    ck_assert(isfinite(l[0]) && isnan(l[1]) && l[2] == 0 && isnan(l[3]));
    ck_assert(isfinite(d[0]) && isnan(d[4]) && d[8] == 0 && isnan(d[12]));
    op_check();
    free(l), free(d);
    cst_tensor_free(loss), cst_tensor_free(dh);
    drop(&p);
}
END_TEST

START_TEST(nan_in_a_row_stays_there)
{
    problem p = make(3, 4, 200, 1);
    p.h[5] = NAN;
    p.target[2] = 0;
    ck_ok(cst_tensor_write(p.th, 0, p.h, 12 * 4));
    ck_ok(cst_tensor_write(p.ttarget, 0, p.target, 3 * 4));
    cst_tensor *loss = op_tensor("loss", CST_ACTIVATION, 3, 0, NULL);
    cst_lm_loss_args a = args_of(&p, loss, NULL, NULL);
    ck_ok(cst_lm_loss(mem, &a));
    float *l = op_read(loss);
    ck_assert(isfinite(l[0]) && isnan(l[1]) && isfinite(l[2]));
    free(l);
    cst_tensor_free(loss);
    drop(&p);
}
END_TEST

START_TEST(wrong_shapes_are_refused)
{
    problem p = make(6, 4, 10, 1);
    cst_tensor *loss = op_tensor("loss", CST_ACTIVATION, 6, 0, NULL), *dh = op_tensor("dh", CST_ACTIVATION, 6, 4, NULL);
    cst_tensor *bad = op_tensor("bad", CST_ACTIVATION, 6, 5, NULL),
               *flat = op_tensor("flat", CST_ACTIVATION, 7, 0, NULL);
    cst_lm_loss_args a = args_of(&p, loss, dh, bad);
    ck_fails(cst_lm_loss(mem, &a), CST_USAGE, "bad");
    a = args_of(&p, loss, bad, NULL);
    ck_fails(cst_lm_loss(mem, &a), CST_USAGE, "bad");
    a = args_of(&p, flat, dh, NULL);
    ck_fails(cst_lm_loss(mem, &a), CST_USAGE, "flat");
    a = args_of(&p, loss, dh, NULL);
    a.table = bad;
    ck_fails(cst_lm_loss(mem, &a), CST_USAGE, "bad");
    a = args_of(&p, loss, dh, NULL);
    a.targets = flat;
    ck_fails(cst_lm_loss(mem, &a), CST_UNSUPPORTED, "flat is f32");
    ck_fails(cst_logits(mem, bad, p.th, 4, 3, p.ttable), CST_USAGE, "rows 4 to 7");
    ck_fails(cst_logits(mem, bad, p.th, 0, 6, p.ttable), CST_USAGE, "bad");
    ck_fails(cst_loss_sum(mem, flat, 7, loss, 1), CST_USAGE, "slot 7");
    ck_fails(cst_loss_sum(mem, flat, -1, loss, 1), CST_USAGE, "slot -1");
    cst_tensor_free(loss), cst_tensor_free(dh), cst_tensor_free(bad), cst_tensor_free(flat);
    drop(&p);
}
END_TEST

START_TEST(chunks_follow_shapes)
{
    ck_assert_int_eq(cst_lm_loss_chunk(1, 50272), 64);
    ck_assert_int_eq(cst_lm_loss_chunk(65, 50272), 128);
    ck_assert_int_eq(cst_lm_loss_chunk(1 << 20, 50272), 320);
    ck_assert_int_eq(cst_lm_loss_chunk(1 << 20, 1 << 30), 64);
    ck_assert_int_eq(cst_lm_loss_chunk(1 << 20, 1024), 16384);
}
END_TEST

START_TEST(plain_logits_of_some_rows)
{
    problem p = make(9, 7, 33, 2);
    cst_tensor *x = op_tensor("logits", CST_ACTIVATION, 4, 33, NULL);
    ck_ok(cst_logits(mem, x, p.th, 5, 4, p.ttable));
    float *got = op_read(x);
    for (int i = 0; i < 4 * 33; i++) {
        double want = 0;
        for (int k = 0; k < 7; k++) want += (double)p.h[(5 + i / 33) * 7 + k] * p.table[i % 33 * 7 + k];
        op_close("logit", &got[i], &want, 1, 1e-6, 1);
    }
    op_check();
    free(got);
    cst_tensor_free(x);
    drop(&p);
}
END_TEST

START_TEST(sums_losses_exactly_enough)
{
    static const int64_t counts[] = {1, 2, 3, 15, 16, 17, 511, 512, 513, 1009, 1000003};
    int64_t n = counts[_i];
    float *x = op_random((size_t)n, 0, 11, 5), out[] = {1, 2, 3};
    double want[] = {1, 2, 3};
    float scale = 1.0f / (float)n;
    x[n / 2] = 1e4f;
    for (int64_t i = 0; i < n; i++) want[1] += (double)scale * x[i];
    cst_tensor *t = op_tensor("loss", CST_ACTIVATION, n, 0, x), *o = op_tensor("out", CST_DATA, 3, 0, out);
    ck_ok(cst_loss_sum(mem, o, 1, t, scale));
    float *got = op_read(o);
    op_close("sum", got, want, 3, 1.2e-7, 0);
    want[1] = 2 * want[1] - 2;
    ck_ok(cst_loss_sum(mem, o, 1, t, scale));
    float *twice = op_read(o);
    op_close("sum", twice, want, 3, 1.8e-7, 0);
    op_check();
    free(x), free(got), free(twice);
    cst_tensor_free(t), cst_tensor_free(o);
}
END_TEST

/* The same call on tensors of a manager with little room. */
static cst_status small_run(cst_mem *m, cst_tensor **t)
{
    return cst_lm_loss(m, &(cst_lm_loss_args){t[0], t[1], t[2], t[3], t[4], NULL, 1, 0});
}

START_TEST(over_budget_changes_nothing_and_a_plan_is_kept)
{
    enum { N = 64, E = 8, V = 20000 };
    cst_mem *m;
    cst_tensor *t[5];
    cst_mem_stats s;
    ck_ok(cst_mem_create(&m, dev, (uint64_t)3 << 20));
    ck_ok(cst_tensor_create(&t[0], m, CST_ACTIVATION, CST_F32, 2, (int64_t[]){N, E}, "h"));
    ck_ok(cst_tensor_create(&t[1], m, CST_PARAM, CST_F32, 2, (int64_t[]){V, E}, "table"));
    ck_ok(cst_tensor_create(&t[2], m, CST_DATA, CST_I32, 1, (int64_t[]){N}, "targets"));
    ck_ok(cst_tensor_create(&t[3], m, CST_ACTIVATION, CST_F32, 1, (int64_t[]){N}, "loss"));
    ck_ok(cst_tensor_create(&t[4], m, CST_ACTIVATION, CST_F32, 2, (int64_t[]){N, E}, "dh"));
    for (int i = 0; i < 3; i++) ck_ok(cst_tensor_place(t[i]));
    ck_fails(small_run(m, t), CST_OVER_BUDGET, "logits");
    ck_assert(t[3]->state == CST_TENSOR_EMPTY && t[4]->state == CST_TENSOR_EMPTY);
    ck_ok(cst_mem_check(m));
    for (int i = 0; i < 3; i++) cst_tensor_drop(t[i]);
    ck_ok(cst_mem_plan_begin(m));
    for (int i = 0; i < 3; i++) ck_ok(cst_tensor_place(t[i]));
    ck_ok(small_run(m, t));
    uint64_t need = cst_mem_plan_bytes(m);
    ck_assert(need > N * V * 4 && need < (N * V + V * E) * 4 + ((uint64_t)20 << 20)); /* with the products' scratch */
    ck_fails(cst_mem_plan_commit(m), CST_OVER_BUDGET, "needed");
    for (int i = 0; i < 5; i++) cst_tensor_free(t[i]);
    cst_mem_get_stats(m, &s);
    ck_assert(s.reserved == 0 && s.used == 0 && s.tensors == 0);
    ck_ok(cst_mem_free(m));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cross_entropy");
    TCase *tc = op_case(s, "cross_entropy");
    tcase_add_loop_test(tc, equals_the_reference, 0, SIZES);
    tcase_add_test(tc, several_chunks_at_the_real_vocabulary);
    tcase_add_loop_test(tc, overwriting_is_adding_to_zeros, 0, 2);
    tcase_add_loop_test(tc, gradients_are_the_slopes_of_the_loss, 1, 10);
    tcase_add_test(tc, large_logits);
    tcase_add_test(tc, evaluation_and_single_gradients_give_the_same_bits);
    tcase_add_test(tc, a_target_outside_the_vocabulary_shows);
    tcase_add_test(tc, nan_in_a_row_stays_there);
    tcase_add_test(tc, wrong_shapes_are_refused);
    tcase_add_test(tc, chunks_follow_shapes);
    tcase_add_test(tc, plain_logits_of_some_rows);
    tcase_add_loop_test(tc, sums_losses_exactly_enough, 0, 11);
    tcase_add_test(tc, over_budget_changes_nothing_and_a_plan_is_kept);
    return op_main(s);
}
