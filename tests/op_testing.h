/* What the operator tests share: one device, a manager with guards around every tensor, host data, double
 * references, finite differences. Include after nothing else; each test program calls op_main(suite).
 */
#ifndef OP_TESTING_H
#define OP_TESTING_H

#include <math.h>

#include "base/random.h"
#include "memory/launch.h"
#include "memory/memory.h"
#include "testing.h"

static cst_device *dev;
static int builds_are_of_use = 1; /* to other programs: keep them. A CPU's compiler builds kernels once more for that */
static cst_mem *mem;

/* Every test starts with an empty manager and ends with intact guards and exact books. */
static inline void op_setup(void)
{
    ck_ok(cst_mem_create(&mem, dev, 0));
    cst_mem_set_guard(mem, 256);
}

static inline void op_teardown(void)
{
    ck_ok(cst_mem_free(mem)); /* fails when a test left a tensor alive */
    mem = NULL;
}

static inline void op_check(void)
{
    ck_ok(cst_mem_finish(mem));
    ck_ok(cst_mem_guards_check(mem));
    ck_ok(cst_mem_check(mem));
}

/* Run the suite on the device that CASTOR_DEVICE names, or the default one. No device: skip (77). */
static inline int op_main(Suite *s)
{
    cst_device_prepare();
    cst_status st = cst_device_open(&dev, getenv("CASTOR_DEVICE"), 0);
    if (st != CST_OK) {
        fprintf(stderr, "skipped: %s\n", cst_detail());
        return st == CST_NO_DEVICE ? 77 : 1;
    }
    int r = test_run(s);
    if (builds_are_of_use) cst_program_save(dev);
    cst_device_close(dev);
    return r;
}

/* A test case whose tests are wrapped in op_setup and op_teardown, with time for slow runtimes. */
static inline TCase *op_case(Suite *s, const char *name)
{
    TCase *tc = tcase_create(name);
    tcase_add_checked_fixture(tc, op_setup, op_teardown);
    tcase_set_timeout(tc, 0);
    suite_add_tcase(s, tc);
    return tc;
}

/* n floats in [lo, hi), the same every time for one stream. malloc'd. */
static inline float *op_random(size_t n, float lo, float hi, uint64_t stream)
{
    float *p = malloc((n ? n : 1) * sizeof *p);
    for (size_t i = 0; i < n; i++) p[i] = lo + (hi - lo) * (float)(cst_random_u64(12345, stream, i) >> 40) * 0x1p-24f;
    return p;
}

/* A tensor with these values; src NULL: filled with NaN, so that what an operator fails to write shows. */
static inline cst_tensor *op_tensor(const char *name, cst_class cls, int64_t d0, int64_t d1, const float *src)
{
    cst_tensor *t;
    int64_t dims[2] = {d0, d1};
    ck_ok(cst_tensor_create(&t, mem, cls, CST_F32, d1 ? 2 : 1, dims, "%s", name));
    size_t n = (size_t)cst_tensor_count(t);
    float *nan = NULL;
    if (!src) {
        nan = malloc(n * sizeof *nan);
        for (size_t i = 0; i < n; i++) nan[i] = NAN;
    }
    ck_ok(cst_tensor_write(t, 0, src ? src : nan, n * sizeof(float)));
    free(nan);
    return t;
}

static inline cst_tensor *op_tensor_i32(const char *name, int64_t d0, int64_t d1, const int32_t *src)
{
    cst_tensor *t;
    int64_t dims[2] = {d0, d1};
    ck_ok(cst_tensor_create(&t, mem, CST_DATA, CST_I32, d1 ? 2 : 1, dims, "%s", name));
    ck_ok(cst_tensor_write(t, 0, src, t->bytes));
    return t;
}

/* The tensor's values, malloc'd. */
static inline float *op_read(cst_tensor *t)
{
    float *p = malloc(t->bytes);
    ck_ok(cst_tensor_read(t, 0, p, t->bytes));
    return p;
}

/* |got - want| <= tol * (|want| + scale) for every element; NaN fails. `scale` is the size of the terms that
 * were summed, where a result can be near zero by cancellation. */
static inline void op_close(const char *what, const float *got, const double *want, size_t n, double tol, double scale)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tol * (fabs(want[i]) + scale)))
            ck_abort_msg("%s[%zu] = %.9g, wanted %.9g (tolerance %g, scale %g)", what, i, got[i], want[i], tol, scale);
}

/* Two tensors that must hold the same numbers; NaN anywhere fails, 0 equals -0. For what an operator writes over
 * NaN (op_tensor without values) against what it adds to zeros. */
static inline void op_equal(cst_tensor *a, cst_tensor *b)
{
    float *p = op_read(a), *q = op_read(b);
    ck_assert_uint_eq(a->bytes, b->bytes);
    for (size_t i = 0; i < a->bytes / sizeof *p; i++)
        if (!(p[i] == q[i])) ck_abort_msg("%s[%zu] = %.9g, %s has %.9g", a->name, i, p[i], b->name, q[i]);
    free(p), free(q);
}

/* A tensor of zeros. */
static inline cst_tensor *op_zeros(const char *name, cst_class cls, int64_t d0, int64_t d1)
{
    float *zero = calloc((size_t)(d0 * (d1 ? d1 : 1)), sizeof *zero);
    cst_tensor *t = op_tensor(name, cls, d0, d1, zero);
    free(zero);
    return t;
}

/* Central difference of a scalar function of doubles at x[i]. */
static inline double op_slope(double (*f)(const double *x, void *user), double *x, size_t i, double h, void *user)
{
    double keep = x[i];
    x[i] = keep + h;
    double up = f(x, user);
    x[i] = keep - h;
    double down = f(x, user);
    x[i] = keep;
    return (up - down) / (2 * h);
}

/* The bits of a float. */
static inline uint32_t bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

#endif
