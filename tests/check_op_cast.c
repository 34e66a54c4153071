#include "op_testing.h"

#include "op/cast.h"

static float float_of(uint32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}

/* Value of 16 bits with `e` exponent bits, in double. */
static double value16(uint16_t h, int e)
{
    int f = 15 - e, bias = (1 << (e - 1)) - 1, exponent = h >> f & ((1 << e) - 1), fraction = h & ((1 << f) - 1);
    double x = exponent == (1 << e) - 1 ? (fraction ? NAN : INFINITY)
               : exponent                ? ldexp(1 + ldexp(fraction, -f), exponent - bias)
                                         : ldexp(fraction, 1 - bias - f);
    return h >> 15 ? -x : x;
}

/* The 16 bits nearest to x, ties to even: quantum of x's binade, then rint (round-half-even) in double. */
static uint16_t round16(double x, int e)
{
    int f = 15 - e, bias = (1 << (e - 1)) - 1, exponent;
    uint16_t sign = signbit(x) ? 0x8000 : 0, inf = (uint16_t)(((1 << e) - 1) << f);
    x = fabs(x);
    if (isinf(x)) return sign | inf;
    if (x == 0) return sign;
    exponent = ilogb(x) < 1 - bias ? 1 - bias : ilogb(x);
    /* counted in quanta of this binade; a carry into the next binade comes out right by itself */
    int64_t q = (int64_t)rint(ldexp(x, f - exponent)) + ((int64_t)(exponent + bias - 1) << f);
    return sign | (q >= inf ? inf : (uint16_t)q);
}

static int exponent_bits(cst_type t)
{
    return t == CST_F16 ? 5 : 8;
}

static cst_tensor *make(const char *name, cst_type type, int64_t n, const void *src)
{
    cst_tensor *t;
    ck_ok(cst_tensor_create(&t, mem, CST_DATA, type, 1, &n, "%s", name));
    if (src) ck_ok(cst_tensor_write(t, 0, src, t->bytes));
    return t;
}

static void *cast(cst_type to, cst_type from, int64_t n, const void *src)
{
    cst_tensor *x = make("x", from, n, src), *y = make("y", to, n, NULL);
    void *got = malloc(y->bytes);
    ck_ok(cst_cast(mem, y, x));
    ck_ok(cst_tensor_read(y, 0, got, y->bytes));
    op_check();
    cst_tensor_free(x);
    cst_tensor_free(y);
    return got;
}

/* All 65536 patterns to f32: exact. */
START_TEST(widening_is_exact)
{
    cst_type from = _i ? CST_BF16 : CST_F16;
    uint16_t *x = malloc(65536 * 2);
    for (int i = 0; i < 65536; i++) x[i] = (uint16_t)i;
    float *got = cast(CST_F32, from, 65536, x);
    for (int i = 0; i < 65536; i++) {
        float want = (float)value16(x[i], exponent_bits(from));
        if (isnan(want) ? !isnan(got[i]) : bits(got[i]) != bits(want))
            ck_abort_msg("%04x: %.9g, wanted %.9g", i, got[i], want);
    }
    free(x), free(got);
}
END_TEST

static void check16(const uint16_t *got, const float *x, size_t n, int e)
{
    for (size_t i = 0; i < n; i++)
        if (isnan(x[i]) ? !isnan(value16(got[i], e)) : got[i] != round16(x[i], e))
            ck_abort_msg("%.9g (%08x): %04x, wanted %04x", x[i], bits(x[i]), got[i],
                         isnan(x[i]) ? 0x7FC0 : round16(x[i], e));
}

/* Every exponent with the fractions where rounding turns, and random bits. */
START_TEST(narrowing_rounds_to_nearest_even)
{
    cst_type to = _i ? CST_BF16 : CST_F16;
    static const uint32_t low[] = {0,        1,        0xFFF,    0x1000,  0x1001,   0x1FFF,   0x2000,
                                   0x2FFF,   0x3000,   0x3001,   0x7FFF,  0x8000,   0x8001,   0xFFFF,
                                   0x10000,  0x17FFF,  0x18000,  0x18001, 0x3FFFFF, 0x400000, 0x7FEFFF,
                                   0x7FF000, 0x7F7FFF, 0x7F8000, 0x7FFFFF};
    enum { LOW = sizeof low / sizeof *low, RANDOM = 200003 };
    size_t n = 0;
    float *x = malloc((512 * LOW + RANDOM) * sizeof *x);
    for (uint32_t e = 0; e < 512; e++)
        for (size_t k = 0; k < LOW; k++) x[n++] = float_of(e << 23 | low[k]);
    for (uint64_t i = 0; i < RANDOM; i++) x[n++] = float_of((uint32_t)cst_random_u64(3, 1, i));
    uint16_t *got = cast(to, CST_F32, (int64_t)n, x);
    check16(got, x, n, exponent_bits(to));
    free(x), free(got);
}
END_TEST

START_TEST(between_the_16_bit_types)
{
    cst_type from = _i ? CST_BF16 : CST_F16, to = _i ? CST_F16 : CST_BF16;
    uint16_t *x = malloc(65536 * 2);
    float *wide = malloc(65536 * 4);
    for (int i = 0; i < 65536; i++) {
        x[i] = (uint16_t)i;
        wide[i] = (float)value16(x[i], exponent_bits(from));
    }
    uint16_t *got = cast(to, from, 65536, x);
    check16(got, wide, 65536, exponent_bits(to));
    free(x), free(wide), free(got);
}
END_TEST

START_TEST(all_sizes_and_types)
{
    static const int64_t sizes[] = {1, 2, 3, 4, 5, 15, 16, 17, 31, 33, 127, 1009};
    int64_t n = sizes[_i];
    float *x = op_random((size_t)n, -4, 4, 1);
    for (int from = CST_F32; from <= CST_BF16; from++)
        for (int to = CST_F32; to <= CST_BF16; to++) {
            void *a = cast((cst_type)from, CST_F32, n, x), *b = cast((cst_type)to, (cst_type)from, n, a);
            float *back = cast(CST_F32, (cst_type)to, n, b);
            for (int64_t i = 0; i < n; i++) {
                float want = x[i];
                if (from != CST_F32)
                    want = (float)value16(round16(want, exponent_bits((cst_type)from)), exponent_bits((cst_type)from));
                if (to != CST_F32)
                    want = (float)value16(round16(want, exponent_bits((cst_type)to)), exponent_bits((cst_type)to));
                ck_assert_msg(bits(back[i]) == bits(want), "%d to %d, element %d", from, to, (int)i);
            }
            free(a), free(b), free(back);
        }
    free(x);
}
END_TEST

START_TEST(wrong_use_is_refused)
{
    cst_tensor *x = make("x", CST_F32, 8, NULL), *y = make("y", CST_BF16, 9, NULL), *k = make("k", CST_I32, 8, NULL),
               *z;
    ck_fails(cst_cast(mem, y, x), CST_USAGE, "y has 9");
    ck_fails(cst_cast(mem, k, x), CST_UNSUPPORTED, "k is i32");
    ck_fails(cst_cast(mem, x, k), CST_UNSUPPORTED, "k is i32");
    ck_ok(cst_tensor_create(&z, mem, CST_DATA, CST_F16, 2, (int64_t[]){2, 4}, "z"));
    ck_fails(cst_cast(mem, z, x), CST_STATE, "x");
    ck_ok(cst_tensor_place(x));
    ck_ok(cst_cast(mem, z, x)); /* another shape with the same count */
    cst_tensor_free(x), cst_tensor_free(y), cst_tensor_free(k), cst_tensor_free(z);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cast");
    TCase *tc = op_case(s, "cast");
    tcase_add_loop_test(tc, widening_is_exact, 0, 2);
    tcase_add_loop_test(tc, narrowing_rounds_to_nearest_even, 0, 2);
    tcase_add_loop_test(tc, between_the_16_bit_types, 0, 2);
    tcase_add_loop_test(tc, all_sizes_and_types, 0, 12);
    tcase_add_test(tc, wrong_use_is_refused);
    return op_main(s);
}
