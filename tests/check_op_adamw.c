#include "op_testing.h"

#include "op/adamw.h"

static cst_adamw_step step_at(int t, float lr, float decay)
{
    cst_adamw_step s = {.lr = lr, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = decay};
    s.bias1 = 1 - pow(s.beta1, t);
    s.bias2 = 1 - pow(s.beta2, t);
    return s;
}

static cst_tensor *norm_tensor(float coefficient, float finite)
{
    return op_tensor("norm", CST_SCRATCH, 4, 0, (float[]){1, coefficient, finite, 0});
}

/* Any sign, exponents from 2^low to 2^high. */
static float mixed(uint64_t stream, uint64_t i, int low, int high)
{
    uint64_t r = cst_random_u64(99, stream, i);
    float x = ldexpf(1 + (float)(r & 0x7FFFFF) * 0x1p-23f, low + (int)((r >> 23 & 0xFFFF) % (uint64_t)(high - low)));
    return r >> 40 & 1 ? -x : x;
}

/* Does this device keep denormal numbers? The promise of equal bits is for those that do. */
static int keeps_denormals(void)
{
    cl_device_fp_config c = 0;
    clGetDeviceInfo(dev->info.id, CL_DEVICE_SINGLE_FP_CONFIG, sizeof c, &c, NULL);
    return (c & CL_FP_DENORM) != 0;
}

/* llvmpipe divides with the CPU's instruction, though it doesn't say so. */
static int divides_exactly(void)
{
    return dev->info.exact_divide || strstr(dev->info.name, "llvmpipe");
}

/* w, g, m1, m2 [n] of all magnitudes. The largest are chosen so that nothing overflows (g^2, v), the smallest
 * without denormals so that no intermediate result is one. */
static void make(float *x[4], size_t n, int denormals)
{
    int low = denormals ? -149 : -50;
    for (int k = 0; k < 4; k++) x[k] = malloc((n ? n : 1) * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        x[0][i] = mixed(1, i, i % 5 ? -12 : low, i % 5 ? 2 : 100);
        x[1][i] = i % 7 == 0 ? 0.0f : mixed(2, i, i % 3 ? -30 : low, i % 3 ? 0 : 60);
        x[2][i] = i % 11 == 0 ? 0.0f : mixed(3, i, i % 3 ? -30 : low, i % 3 ? 0 : 60);
        x[3][i] = i % 13 == 0 ? 0.0f : fabsf(mixed(4, i, i % 2 ? -40 : low, i % 2 ? 0 : 120));
    }
}

/* Where equal bits are not promised: a few units in the last place. */
static void nearly_same(const char *what, const float *host, const float *device, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(host[i] - device[i]) <= 1e-6f * fabsf(host[i]) + 1e-9f))
            ck_abort_msg("%s[%zu]: host %.9g, device %.9g", what, i, host[i], device[i]);
}

static void same_bits(const char *what, const float *host, const float *device, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bits(host[i]) != bits(device[i]))
            ck_abort_msg("%s[%zu]: host %.9g (%08x), device %.9g (%08x)", what, i, host[i], bits(host[i]), device[i],
                         bits(device[i]));
}

/* Pieces of a tensor give what the whole gives. */
START_TEST(pieces)
{
    int64_t n = 1000, cut = 1 + 37 * _i;
    float *x[4];
    cst_tensor *t[4], *part[4], *w = NULL, *norm = norm_tensor(0.5f, 1);
    cst_adamw_step s = step_at(2, 0.1f, 0.1f);
    make(x, (size_t)n, 0);
    for (int k = 0; k < 4; k++) t[k] = op_tensor("t", CST_OPTIM, n, 0, x[k]);
    w = op_tensor("w", CST_OPTIM, n, 0, x[0]);
    for (int k = 0; k < 4; k++) part[k] = op_tensor("part", CST_OPTIM, k % 2 ? n - cut : cut, 0, x[2 + k / 2] + (k % 2 ? cut : 0));
    ck_ok(cst_adamw(mem, t[0], t[1], 0, t[2], t[3], norm, 0, &s));
    ck_ok(cst_adamw(mem, w, t[1], 0, part[0], part[2], norm, 0, &s));
    ck_ok(cst_adamw(mem, w, t[1], cut, part[1], part[3], norm, 0, &s));
    float *whole = op_read(t[0]), *got = op_read(w);
    same_bits("w", whole, got, (size_t)n);
    free(whole), free(got);
    op_check();
    for (int k = 0; k < 4; k++) free(x[k]), cst_tensor_free(t[k]), cst_tensor_free(part[k]);
    cst_tensor_free(w), cst_tensor_free(norm);
}
END_TEST

/* A few steps on both sides, from the same start. */
static void both(int64_t d0, int64_t d1, float coefficient, int denormals)
{
    static const char *const name[] = {"w", "grad", "m1", "m2"};
    size_t n = (size_t)(d0 * (d1 ? d1 : 1));
    float *x[4];
    cst_tensor *t[4], *norm = norm_tensor(coefficient, 1);
    make(x, n, denormals);
    for (int k = 0; k < 4; k++) t[k] = op_tensor(name[k], CST_OPTIM, d0, d1, x[k]);
    for (int i = 1; i <= 3; i++) {
        cst_adamw_step s = step_at(i * i, 1e-3f / (float)i, i == 2 ? 0.0f : 0.1f);
        ck_ok(cst_adamw(mem, t[0], t[1], 0, t[2], t[3], norm, 0, &s));
        cst_adamw_host(x[0], x[1], x[2], x[3], NULL, n, coefficient, &s);
        for (int k = 0; k < 4; k++) {
            float *got = op_read(t[k]);
            (divides_exactly() ? same_bits : nearly_same)(name[k], x[k], got, n);
            free(got);
        }
    }
    op_check();
    for (int k = 0; k < 4; k++) free(x[k]), cst_tensor_free(t[k]);
    cst_tensor_free(norm);
}

START_TEST(host_and_device_give_the_same_bits)
{
    static const int64_t shapes[][2] = {{1, 0}, {2, 0}, {3, 5}, {16, 0}, {17, 0}, {509, 0}, {127, 131}, {1000, 1000}};
    both(shapes[_i][0], shapes[_i][1], 1.0f, keeps_denormals());
    both(shapes[_i][0], shapes[_i][1], 0.37f, keeps_denormals());
}
END_TEST

/* The host's own result depends neither on where an array starts nor on how long it is. */
START_TEST(host_result_is_independent_of_alignment)
{
    enum { N = 70001 };
    float *x[4], *y[4], *copy = malloc(N * sizeof *copy);
    cst_adamw_step s = step_at(3, 1e-3f, 0.1f);
    make(x, N, 1);
    make(y, N, 1);
    cst_adamw_host(x[0], x[1], x[2], x[3], copy, N, 0.5f, &s);
    for (size_t i = 0; i < N;) {
        size_t n = 1 + cst_random_u64(5, 5, i) % (i < 3000 ? 40 : 40000);
        if (n > N - i) n = N - i;
        cst_adamw_host(y[0] + i, y[1] + i, y[2] + i, y[3] + i, NULL, n, 0.5f, &s);
        i += n;
    }
    same_bits("w", x[0], y[0], N);
    same_bits("the copy of w", copy, x[0], N);
    same_bits("m1", x[2], y[2], N);
    same_bits("m2", x[3], y[3], N);
    free(copy);
    cst_adamw_host(NULL, NULL, NULL, NULL, NULL, 0, 1, &s); /* nothing to do */
    for (int k = 0; k < 4; k++) free(x[k]), free(y[k]);
}
END_TEST

/* PyTorch's formula in double: torch.optim.AdamW, single tensor, not amsgrad. */
static void reference(double *w, const double *grad, double *m, double *v, size_t n, double c, const cst_adamw_step *s)
{
    for (size_t i = 0; i < n; i++) {
        double g = grad[i] * c;
        w[i] *= 1 - (double)s->lr * s->weight_decay;
        m[i] += (g - m[i]) * (1 - (double)s->beta1);
        v[i] = v[i] * s->beta2 + (1 - (double)s->beta2) * g * g;
        w[i] -= s->lr / s->bias1 * m[i] / (sqrt(v[i]) / sqrt(s->bias2) + s->eps);
    }
}

START_TEST(twenty_steps_follow_the_reference)
{
    enum { N = 10007 };
    float *w = op_random(N, -1, 1, 1), *zero = calloc(N, sizeof *zero);
    double *r[4];
    for (int k = 0; k < 4; k++) r[k] = calloc(N, sizeof(double));
    for (int i = 0; i < N; i++) r[0][i] = w[i];
    cst_tensor *tw = op_tensor("w", CST_PARAM, N, 0, w), *m1 = op_tensor("m1", CST_OPTIM, N, 0, zero);
    cst_tensor *m2 = op_tensor("m2", CST_OPTIM, N, 0, zero), *norm = norm_tensor(0.8f, 1);
    for (int t = 1; t <= 20; t++) {
        cst_adamw_step s = step_at(t, 1e-3f * (float)t / 20, 0.1f);
        float *g = op_random(N, -1, 1, (uint64_t)(100 + t));
        for (int i = 0; i < N; i++) r[1][i] = g[i];
        reference(r[0], r[1], r[2], r[3], N, 0.8f, &s);
        cst_tensor *tg = op_tensor("grad", CST_GRAD, N, 0, g);
        ck_ok(cst_adamw(mem, tw, tg, 0, m1, m2, norm, 0, &s));
        op_check();
        cst_tensor_free(tg);
        free(g);
    }
    float *a = op_read(tw), *b = op_read(m1), *c = op_read(m2);
    op_close("w", a, r[0], N, 5e-7, 1);
    op_close("m1", b, r[2], N, 1e-6, 0.1);
    op_close("m2", c, r[3], N, 3e-6, 0);
    free(a), free(b), free(c), free(w), free(zero);
    for (int k = 0; k < 4; k++) free(r[k]);
    cst_tensor_free(tw), cst_tensor_free(m1), cst_tensor_free(m2), cst_tensor_free(norm);
}
END_TEST

/* The first step moves each weight by lr against the sign of its gradient, whatever the gradient's size. */
START_TEST(first_step_is_lr_times_sign)
{
    float w[] = {1, 1, 1, 1}, g[] = {1e-3f, -2, 30, 0}, m[4] = {0}, v[4] = {0};
    cst_adamw_step s = step_at(1, 0.01f, 0);
    cst_adamw_host(w, g, m, v, NULL, 4, 1, &s);
    double want[] = {0.99, 1.01, 0.99, 1};
    op_close("w", w, want, 4, 2e-7, 0);
}
END_TEST

START_TEST(not_finite_changes_nothing)
{
    enum { N = 1031 };
    float *x = op_random(N, 0, 1, 1), *g = op_random(N, 0, 1, 2);
    g[5] = NAN;
    cst_tensor *w = op_tensor("w", CST_PARAM, N, 0, x), *m1 = op_tensor("m1", CST_OPTIM, N, 0, x);
    cst_tensor *m2 = op_tensor("m2", CST_OPTIM, N, 0, x), *tg = op_tensor("grad", CST_GRAD, N, 0, g),
               *norm = norm_tensor(0, 0);
    cst_adamw_step s = step_at(1, 0.1f, 0.1f);
    ck_ok(cst_adamw(mem, w, tg, 0, m1, m2, norm, 0, &s));
    cst_tensor *all[] = {w, m1, m2};
    for (int k = 0; k < 3; k++) {
        float *got = op_read(all[k]);
        same_bits(all[k]->name, x, got, N);
        free(got);
    }
    free(x), free(g);
    cst_tensor_free(w), cst_tensor_free(m1), cst_tensor_free(m2), cst_tensor_free(tg), cst_tensor_free(norm);
}
END_TEST

START_TEST(wrong_shapes_are_refused)
{
    cst_tensor *w = op_tensor("w", CST_PARAM, 4, 6, NULL), *a = op_tensor("a", CST_OPTIM, 4, 6, NULL);
    cst_tensor *flat = op_tensor("flat", CST_OPTIM, 24, 0, NULL), *norm = norm_tensor(1, 1), *h, *cube, *brick;
    cst_adamw_step s = step_at(1, 0.1f, 0.1f);
    ck_ok(cst_tensor_create(&h, mem, CST_OPTIM, CST_F16, 2, (int64_t[]){4, 6}, "halves"));
    ck_ok(cst_tensor_create(&cube, mem, CST_OPTIM, CST_F32, 3, (int64_t[]){4, 6, 2}, "cube"));
    ck_ok(cst_tensor_create(&brick, mem, CST_OPTIM, CST_F32, 3, (int64_t[]){4, 6, 3}, "brick"));
    ck_fails(cst_adamw(mem, w, flat, 0, a, a, norm, 0, &s), CST_USAGE, "flat");
    ck_fails(cst_adamw(mem, w, a, 1, flat, a, norm, 0, &s), CST_USAGE, "flat");
    ck_fails(cst_adamw(mem, w, a, -1, flat, a, norm, 0, &s), CST_USAGE, "flat");
    ck_fails(cst_adamw(mem, w, a, 0, flat, norm, norm, 0, &s), CST_USAGE, "flat");
    ck_fails(cst_adamw(mem, w, a, 0, a, h, norm, 0, &s), CST_UNSUPPORTED, "halves");
    ck_fails(cst_adamw(mem, w, a, 0, a, a, norm, 1, &s), CST_USAGE, "adamw: result 1 of");
    ck_fails(cst_adamw(mem, w, a, 0, a, a, norm, -1, &s), CST_USAGE, "adamw: result -1 of");
    ck_fails(cst_adamw(mem, cube, brick, 0, cube, cube, norm, 0, &s), CST_USAGE, "brick");
    cst_tensor *all[] = {w, a, flat, norm, h, cube, brick};
    for (int k = 0; k < 7; k++) cst_tensor_free(all[k]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("adamw");
    TCase *tc = op_case(s, "adamw");
    tcase_add_loop_test(tc, pieces, 0, 4);
    tcase_add_loop_test(tc, host_and_device_give_the_same_bits, 0, 8);
    tcase_add_test(tc, host_result_is_independent_of_alignment);
    tcase_add_test(tc, twenty_steps_follow_the_reference);
    tcase_add_test(tc, first_step_is_lr_times_sign);
    tcase_add_test(tc, not_finite_changes_nothing);
    tcase_add_test(tc, wrong_shapes_are_refused);
    return op_main(s);
}
