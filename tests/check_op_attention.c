#include "op_testing.h"

#include "op/attention.h"

/* Sizes of one case and its data on the host; doubles are what the reference takes. */
typedef struct problem {
    int b, t, h, hd;
    size_t n, rows;               /* elements of q, rows of lse times heads */
    float *q, *k, *v, *w;         /* w: the gradient of o */
    double *in;                   /* q, k, v as doubles, n each */
    double *o, *lse, *dq, *dk, *dv;
} problem;

static double *doubles(size_t n)
{
    return calloc(n, sizeof(double));
}

/* o and lse from in; also the objective sum(w * o). */
static double reference_forward(const double *in, void *user)
{
    problem *p = user;
    const double *q = in, *k = in + p->n, *v = in + 2 * p->n;
    double scale = 1 / sqrt((double)p->hd), sum = 0, s[1024];
    int dim = p->h * p->hd;
    memset(p->o, 0, p->n * sizeof *p->o);
    for (int r = 0; r < p->b * p->h * p->t; r++) {
        int i = r % p->t, h = r / p->t % p->h, row0 = r / p->t / p->h * p->t;
        size_t qi = (size_t)(row0 + i) * dim + h * p->hd;
        double m = -INFINITY, l = 0;
        for (int j = 0; j <= i; j++) {
            s[j] = 0;
            for (int d = 0; d < p->hd; d++) s[j] += q[qi + d] * k[(size_t)(row0 + j) * dim + h * p->hd + d];
            s[j] *= scale;
            m = fmax(m, s[j]);
        }
        for (int j = 0; j <= i; j++) l += exp(s[j] - m);
        p->lse[(row0 + i) * p->h + h] = m + log(l);
        for (int j = 0; j <= i; j++)
            for (int d = 0; d < p->hd; d++)
                p->o[qi + d] += exp(s[j] - m) / l * v[(size_t)(row0 + j) * dim + h * p->hd + d];
        for (int d = 0; d < p->hd; d++) sum += p->w[qi + d] * p->o[qi + d];
    }
    return sum;
}

/* dq, dk, dv, after reference_forward. */
static void reference_backward(problem *p)
{
    const double *q = p->in, *k = p->in + p->n, *v = p->in + 2 * p->n;
    double scale = 1 / sqrt((double)p->hd);
    int dim = p->h * p->hd;
    for (int r = 0; r < p->b * p->h * p->t; r++) {
        int i = r % p->t, h = r / p->t % p->h, row0 = r / p->t / p->h * p->t;
        size_t qi = (size_t)(row0 + i) * dim + h * p->hd;
        double delta = 0;
        for (int d = 0; d < p->hd; d++) delta += p->w[qi + d] * p->o[qi + d];
        for (int j = 0; j <= i; j++) {
            size_t kj = (size_t)(row0 + j) * dim + h * p->hd;
            double s = 0, dp = 0;
            for (int d = 0; d < p->hd; d++) s += q[qi + d] * k[kj + d], dp += p->w[qi + d] * v[kj + d];
            double prob = exp(s * scale - p->lse[(row0 + i) * p->h + h]), ds = prob * (dp - delta) * scale;
            for (int d = 0; d < p->hd; d++) {
                p->dq[qi + d] += ds * k[kj + d];
                p->dk[kj + d] += ds * q[qi + d];
                p->dv[kj + d] += prob * p->w[qi + d];
            }
        }
    }
}

/* q and k in [-range, range), v and w in [-1, 1). */
static void problem_make(problem *p, int b, int t, int h, int hd, float range)
{
    *p = (problem){.b = b, .t = t, .h = h, .hd = hd, .n = (size_t)b * t * h * hd, .rows = (size_t)b * t * h};
    p->q = op_random(p->n, -range, range, 1);
    p->k = op_random(p->n, -range, range, 2);
    p->v = op_random(p->n, -1, 1, 3);
    p->w = op_random(p->n, -1, 1, 4);
    p->in = doubles(3 * p->n);
    for (size_t i = 0; i < p->n; i++) p->in[i] = p->q[i], p->in[p->n + i] = p->k[i], p->in[2 * p->n + i] = p->v[i];
    p->o = doubles(p->n), p->lse = doubles(p->rows);
    p->dq = doubles(p->n), p->dk = doubles(p->n), p->dv = doubles(p->n);
}

static void problem_free(problem *p)
{
    void *all[] = {p->q, p->k, p->v, p->w, p->in, p->o, p->lse, p->dq, p->dk, p->dv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* The device's results, malloc'd: o, lse, dq, dk, dv. */
static void device_run(const problem *p, float *result[5])
{
    int64_t rows = (int64_t)p->b * p->t, dim = (int64_t)p->h * p->hd;
    cst_tensor *q = op_tensor("q", CST_ACTIVATION, rows, dim, p->q);
    cst_tensor *k = op_tensor("k", CST_ACTIVATION, rows, dim, p->k);
    cst_tensor *v = op_tensor("v", CST_ACTIVATION, rows, dim, p->v);
    cst_tensor *w = op_tensor("w", CST_ACTIVATION, rows, dim, p->w);
    cst_tensor *out[5];
    for (int i = 0; i < 5; i++) out[i] = op_tensor("out", CST_ACTIVATION, rows, i == 1 ? p->h : dim, NULL);
    ck_ok(cst_attention_forward(mem, out[0], out[1], q, k, v, p->b, p->t, p->h));
    ck_ok(cst_attention_backward(mem, out[2], out[3], out[4], w, out[0], out[1], q, k, v, p->b, p->t, p->h));
    for (int i = 0; i < 5; i++) result[i] = op_read(out[i]);
    op_check();
    cst_tensor *all[] = {q, k, v, w, out[0], out[1], out[2], out[3], out[4]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) cst_tensor_free(all[i]);
}

static void compare(problem *p, double tol, double grad_scale)
{
    float *got[5];
    char name[80];
    static const char *const what[] = {"o", "lse", "dq", "dk", "dv"};
    reference_forward(p->in, p);
    reference_backward(p);
    device_run(p, got);
    const double *want[] = {p->o, p->lse, p->dq, p->dk, p->dv};
    for (int i = 0; i < 5; i++) {
        snprintf(name, sizeof name, "B %d T %d H %d hd %d: %s", p->b, p->t, p->h, p->hd, what[i]);
        op_close(name, got[i], want[i], i == 1 ? p->rows : p->n, tol, i < 2 ? 1 : grad_scale);
        free(got[i]);
    }
}

/* The analytic gradient that everything else is compared with, against central differences of the double
 * reference: error of order h^2 = 1e-10. */
START_TEST(reference_agrees_with_finite_differences)
{
    problem p;
    problem_make(&p, 2, 5, 2, 3, 2);
    reference_forward(p.in, &p);
    reference_backward(&p);
    double *want[] = {p.dq, p.dk, p.dv}, *slope = doubles(3 * p.n);
    for (size_t i = 0; i < 3 * p.n; i++)
        slope[i] = op_slope(reference_forward, p.in, i, 1e-5, &p);
    for (size_t i = 0; i < 3 * p.n; i++)
        ck_assert_msg(fabs(slope[i] - want[i / p.n][i % p.n]) < 1e-8, "element %d: %g, wanted %g", (int)i,
                      want[i / p.n][i % p.n], slope[i]);
    free(slope);
    problem_free(&p);
}
END_TEST

/* Head sizes of small models and of OPT, and awkward ones; lengths around the tiles of 32 and 64. */
static const int head_sizes[] = {8, 10, 37, 64, 80, 128};
static const int lengths[] = {1, 2, 7, 31, 32, 33, 63, 64, 65, 130};

/* fp32 sums of up to 130 terms of size 1, and dot products of 128 terms inside an exponential: 1e-6 for the
 * outputs, gradients are sums of p * (dp - delta) with terms of size 4. */
START_TEST(agrees_with_double_reference)
{
    int hd = head_sizes[_i];
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        problem p;
        problem_make(&p, 1 + (int)(i + 1) % 3, lengths[i], 1 + ((int)i + _i) % 3, hd, 1);
        compare(&p, 2e-6, 2);
        problem_free(&p);
    }
}
END_TEST

/* The smaller tiles of GPUs whose work-items have few registers, with 8 and 16 work-items across. */
START_TEST(small_tiles_agree_with_double_reference)
{
    static const int sizes[] = {1, 31, 32, 33, 65};
    const cst_device as_it_is = *dev;
    dev->group = dev->info.max_group < 128 ? 64 : 128;
    dev->vec = 4;
    dev->registers = 128;
    for (int hd = 37; hd <= 80; hd += 43)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            problem p;
            problem_make(&p, 2, sizes[i], 2, hd, 1);
            compare(&p, 2e-6, 2);
            problem_free(&p);
        }
    dev->group = as_it_is.group;
    dev->vec = as_it_is.vec;
    dev->registers = as_it_is.registers;
}
END_TEST

/* CPUs with narrow vectors keep fewer sums in registers, in the same order. */
START_TEST(narrow_vectors_give_the_same_bits)
{
    static const int sizes[][2] = {{130, 64}, {33, 10}, {65, 128}};
    const int as_it_is = dev->narrow;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        problem p;
        float *got[2][5];
        problem_make(&p, 2, sizes[i][0], 2, sizes[i][1], 1);
        for (int narrow = 0; narrow < 2; narrow++) {
            dev->narrow = narrow;
            cst_kernel_forget(dev, "attention"); /* built with the other width */
            device_run(&p, got[narrow]);
        }
        for (int r = 0; r < 5; r++) {
            ck_assert(!memcmp(got[0][r], got[1][r], (r == 1 ? p.rows : p.n) * sizeof(float)));
            free(got[0][r]), free(got[1][r]);
        }
        problem_free(&p);
    }
    dev->narrow = as_it_is;
    cst_kernel_forget(dev, "attention");
}
END_TEST

START_TEST(agrees_at_a_realistic_size)
{
    problem p;
    problem_make(&p, 1, 509, 2, 64, 1.5f);
    compare(&p, 4e-6, 2);
    problem_free(&p);
}
END_TEST

/* Scores of several thousand: exp of the plain score would overflow. q and k are whole numbers, so that their
 * products are exact in fp32 and only the exponentials differ: an argument near 2000 is off by 1e-4 in the
 * backward pass, where it is recovered from lse. */
START_TEST(large_scores_do_not_overflow)
{
    problem p;
    problem_make(&p, 2, 97, 2, 64, 30);
    for (size_t i = 0; i < p.n; i++) {
        p.in[i] = p.q[i] = rintf(p.q[i]);
        p.in[p.n + i] = p.k[i] = rintf(p.k[i]);
    }
    compare(&p, 5e-4, 30);
    problem_free(&p);
}
END_TEST

/* One key far above all others, at each place in turn: the maximum changes late, or stays from the start. */
START_TEST(finds_the_needle)
{
    enum { T = 150 };
    problem p;
    problem_make(&p, 1, T, 1, 8, 0.01f);
    for (int j = 0; j < T; j++)
        for (int d = 0; d < 8; d++) p.q[j * 8 + d] = 30, p.k[j * 8 + d] = 0.02f * (float)((j * 37) % T);
    for (int i = 0; i < T * 8; i++) p.in[i] = p.q[i], p.in[p.n + i] = p.k[i];
    compare(&p, 1e-4, 30);
    problem_free(&p);
}
END_TEST

START_TEST(future_tokens_do_not_matter)
{
    problem p;
    float *a[5], *b[5];
    enum { T = 100, CUT = 40, DIM = 2 * 10 };
    problem_make(&p, 1, T, 2, 10, 1);
    device_run(&p, a);
    for (int i = CUT * DIM; i < T * DIM; i++) p.k[i] = p.v[i] = 1e30f, p.q[i] = 7;
    device_run(&p, b);
    ck_assert(!memcmp(a[0], b[0], CUT * DIM * sizeof(float)));
    for (int i = 0; i < 5; i++) free(a[i]), free(b[i]);
    problem_free(&p);
}
END_TEST

START_TEST(two_runs_give_the_same_bits)
{
    problem p;
    float *a[5], *b[5];
    problem_make(&p, 2, 130, 3, 64, 1);
    device_run(&p, a);
    device_run(&p, b);
    for (int i = 0; i < 5; i++) {
        ck_assert(!memcmp(a[i], b[i], (i == 1 ? p.rows : p.n) * sizeof(float)));
        free(a[i]), free(b[i]);
    }
    problem_free(&p);
}
END_TEST

static void add_launches(const cst_kernel *k, void *user)
{
    if (!strcmp(k->file, "attention") && strcmp(k->name, "attention_delta")) *(uint64_t *)user += k->launches;
}

static uint64_t launches(void)
{
    uint64_t n = 0;
    cst_kernel_each(dev, add_launches, &n);
    return n;
}

/* A device whose kernels must stay short gets parts of a launch: single heads, heads of a sequence, sequences. */
START_TEST(parts_of_a_launch_give_the_same_bits)
{
    enum { B = 3, T = 70, H = 5, HD = 64 };
    static const double heads[] = {0.1, 1, 2, 5, 7, 10};
    problem p;
    float *a[5], *b[5];
    problem_make(&p, B, T, H, HD, 1);
    uint64_t before = launches();
    device_run(&p, a);
    uint64_t whole = launches() - before;
    dev->launch_flops = 2.0 * T * T * HD * heads[_i];
    before = launches();
    device_run(&p, b);
    ck_assert_uint_ge(launches() - before, whole + (_i < 2 ? B * H : _i < 4 ? B : 1) - 1);
    dev->launch_flops = 1e12;
    before = launches();
    for (int i = 0; i < 5; i++) {
        ck_assert(!memcmp(a[i], b[i], (i == 1 ? p.rows : p.n) * sizeof(float)));
        free(b[i]);
    }
    device_run(&p, b);
    ck_assert_uint_eq(launches() - before, whole);
    dev->launch_flops = 0;
    for (int i = 0; i < 5; i++) free(a[i]), free(b[i]);
    problem_free(&p);
}
END_TEST

/* The work is divided in another way when there are many heads; the bits of each head must not show it. */
START_TEST(number_of_sequences_does_not_matter)
{
    enum { T = 200, HD = 64, COPIES = 40 };
    problem one, many;
    float *a[5], *b[5];
    problem_make(&one, 1, T, 1, HD, 1);
    problem_make(&many, COPIES, T, 1, HD, 1);
    for (size_t i = 0; i < many.n; i++) {
        size_t j = i % one.n;
        many.q[i] = one.q[j], many.k[i] = one.k[j], many.v[i] = one.v[j], many.w[i] = one.w[j];
    }
    device_run(&one, a);
    device_run(&many, b);
    for (int i = 0; i < 5; i++) {
        size_t n = i == 1 ? one.rows : one.n;
        for (size_t c = 0; c < COPIES; c++) ck_assert(!memcmp(a[i], b[i] + c * n, n * sizeof(float)));
        free(a[i]), free(b[i]);
    }
    problem_free(&one), problem_free(&many);
}
END_TEST

START_TEST(refuses_wrong_shapes)
{
    cst_tensor *x = op_tensor("x", CST_ACTIVATION, 12, 20, NULL), *y = op_tensor("y", CST_ACTIVATION, 12, 20, NULL);
    cst_tensor *lse = op_tensor("lse", CST_ACTIVATION, 12, 2, NULL);
    cst_tensor *bad = op_tensor("bad", CST_ACTIVATION, 12, 18, NULL);
    cst_tensor *wide = op_tensor("wide", CST_ACTIVATION, 12, 129, NULL), *half;
    ck_ok(cst_tensor_create(&half, mem, CST_ACTIVATION, CST_BF16, 2, (int64_t[]){12, 20}, "half"));
    ck_fails(cst_attention_forward(mem, y, lse, x, x, x, 3, 5, 2), CST_USAGE, "x is 2-d [12, 20]");
    ck_fails(cst_attention_forward(mem, y, lse, x, x, x, 3, 4, 3), CST_USAGE, "3 heads don't divide the 20 columns");
    ck_fails(cst_attention_forward(mem, y, lse, x, bad, x, 3, 4, 2), CST_USAGE, "bad is");
    ck_fails(cst_attention_forward(mem, bad, lse, x, x, x, 3, 4, 2), CST_USAGE, "bad is");
    ck_fails(cst_attention_forward(mem, y, bad, x, x, x, 3, 4, 2), CST_USAGE, "bad is");
    ck_fails(cst_attention_forward(mem, y, lse, x, x, x, 0, 4, 2), CST_USAGE, "0 sequences");
    ck_fails(cst_attention_forward(mem, y, lse, x, half, x, 3, 4, 2), CST_UNSUPPORTED, "half is bf16");
    ck_fails(cst_attention_forward(mem, wide, lse, wide, wide, wide, 3, 4, 1), CST_UNSUPPORTED, "head size 129");
    ck_fails(cst_attention_backward(mem, y, y, bad, x, x, lse, x, x, x, 3, 4, 2), CST_USAGE, "bad is");
    ck_fails(cst_attention_backward(mem, y, y, y, x, x, bad, x, x, x, 3, 4, 2), CST_USAGE, "bad is");
    cst_tensor *all[] = {x, y, lse, bad, wide, half};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) cst_tensor_free(all[i]);
}
END_TEST

/* The scratch is B T H floats, nothing that grows with T squared. */
START_TEST(scratch_is_one_float_a_row_and_head)
{
    cst_mem_stats s;
    problem p;
    float *got[5];
    problem_make(&p, 1, 600, 1, 8, 1);
    device_run(&p, got);
    cst_mem_get_stats(mem, &s);
    ck_assert_msg(s.class_peak[CST_SCRATCH] >= 600 * 4 && s.class_peak[CST_SCRATCH] <= 600 * 4 + 4096, "%llu bytes",
                  (unsigned long long)s.class_peak[CST_SCRATCH]);
    for (int i = 0; i < 5; i++) free(got[i]);
    problem_free(&p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("attention");
    TCase *tc = op_case(s, "attention");
    builds_are_of_use = 0;
    tcase_add_test(tc, reference_agrees_with_finite_differences);
    tcase_add_loop_test(tc, agrees_with_double_reference, 0, sizeof head_sizes / sizeof *head_sizes);
    tcase_add_test(tc, small_tiles_agree_with_double_reference);
    tcase_add_test(tc, narrow_vectors_give_the_same_bits);
    tcase_add_test(tc, agrees_at_a_realistic_size);
    tcase_add_test(tc, large_scores_do_not_overflow);
    tcase_add_test(tc, finds_the_needle);
    tcase_add_test(tc, future_tokens_do_not_matter);
    tcase_add_test(tc, two_runs_give_the_same_bits);
    tcase_add_loop_test(tc, parts_of_a_launch_give_the_same_bits, 0, 6);
    tcase_add_test(tc, number_of_sequences_does_not_matter);
    tcase_add_test(tc, refuses_wrong_shapes);
    tcase_add_test(tc, scratch_is_one_float_a_row_and_head);
    return op_main(s);
}
