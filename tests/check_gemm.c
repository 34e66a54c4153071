#include "op_testing.h"

#include "gemm/choice.h"
#include "gemm/gemm.h"
#include "gemm/packed.h"
#include "op/fill.h"

/* m, n, k: 1, primes, around tiles; the last ones are large enough for CLBlast's indirect kernels */
static const int64_t sizes[][3] = {{1, 1, 1},       {2, 3, 5},       {7, 1, 129},    {1, 64, 65}, {64, 64, 64},
                                   {65, 63, 64},    {37, 41, 43},    {16, 65, 17},   {63, 65, 1}, {35, 34, 5000},
                                   {128, 129, 127}, {450, 470, 461}, {512, 448, 480}, {71, 5, 17001}};
#define SIZES ((int)(sizeof sizes / sizeof *sizes))

/* One matrix as it is stored: rows x cols inside a tensor of `total` elements. */
typedef struct matrix {
    int64_t rows, cols, ld, at, total;
    float *x;
    cst_tensor *t;
} matrix;

/* Random inside, `outside` everywhere else. */
static matrix make(const char *name, int64_t rows, int64_t cols, int64_t ld, int64_t at, int64_t behind, float outside,
                   uint64_t stream)
{
    matrix a = {rows, cols, ld, at, at + (rows - 1) * ld + cols + behind, NULL, NULL};
    float *r = op_random((size_t)(rows * cols), -1, 1, stream);
    a.x = malloc((size_t)a.total * sizeof(float));
    for (int64_t i = 0; i < a.total; i++) a.x[i] = outside;
    for (int64_t i = 0; i < rows * cols; i++) a.x[at + i / cols * ld + i % cols] = r[i];
    free(r);
    a.t = op_tensor(name, CST_DATA, a.total, 0, a.x);
    return a;
}

static void drop(matrix *a)
{
    cst_tensor_free(a->t);
    free(a->x);
}

static double element(const matrix *a, int trans, int64_t i, int64_t j)
{
    return trans ? a->x[a->at + j * a->ld + i] : a->x[a->at + i * a->ld + j];
}

static int64_t position(const matrix *c, int64_t i, int64_t j)
{
    return c->at + i * c->ld + j;
}

/* op(A) op(B) in double, rows of B gathered first so that this isn't slow. */
static double *product(const cst_gemm_args *g, const matrix *a, const matrix *b)
{
    double *c = calloc((size_t)(g->m * g->n), sizeof *c), *row = malloc((size_t)(g->k * g->n) * sizeof *row);
    for (int64_t p = 0; p < g->k; p++)
        for (int64_t j = 0; j < g->n; j++) row[p * g->n + j] = element(b, g->trans_b, p, j);
#pragma omp parallel for
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t p = 0; p < g->k; p++) {
            double x = element(a, g->trans_a, i, p);
            for (int64_t j = 0; j < g->n; j++) c[i * g->n + j] += x * row[p * g->n + j];
        }
    free(row);
    return c;
}

/* C against the product; every element of the tensor outside of C must be as it was. */
static void compare(const cst_gemm_args *g, const matrix *a, const matrix *b, const matrix *c)
{
    float *got = op_read(c->t);
    double *want = product(g, a, b), bound = sqrt((double)g->k);
    for (int64_t i = 0; i < g->m; i++)
        for (int64_t j = 0; j < g->n; j++) {
            int64_t p = position(c, i, j);
            double w = want[i * g->n + j] + (g->accumulate ? c->x[p] : 0);
            if (!(fabs(got[p] - w) <= 3e-6 * (fabs(w) + bound))) /* terms of size 1, summed in order */
                ck_abort_msg("%dx%dx%d %c%c acc %d: C[%d,%d] = %.9g, wanted %.9g", (int)g->m, (int)g->n, (int)g->k,
                             "NT"[g->trans_a], "NT"[g->trans_b], g -> accumulate, (int)i, (int)j, got[p], w);
            got[p] = c->x[p];
        }
    ck_assert_msg(!memcmp(got, c->x, (size_t)c->total * 4), "%dx%dx%d: written outside of C", (int)g->m, (int)g->n,
                  (int)g->k);
    free(got);
    free(want);
}

/* A product with `slack` elements before, between rows and behind every matrix (0: tight, C whole). */
static void check(const int64_t *size, int ta, int tb, int accumulate, int64_t slack)
{
    int64_t m = size[0], n = size[1], k = size[2];
    int64_t la = (ta ? m : k) + slack, lb = (tb ? k : n) + 2 * slack, lc = n + 3 * slack;
    matrix a = make("a", ta ? k : m, ta ? m : k, la, slack * 5, slack, NAN, 1);
    matrix b = make("b", tb ? n : k, tb ? k : n, lb, slack * 7, slack, NAN, 2);
    matrix c = make("c", m, n, lc, slack * 3, slack, 777, 3);
    cst_gemm_args g = {.m = m, .n = n, .k = k, .trans_a = ta, .trans_b = tb, .a = a.t, .b = b.t, .c = c.t, .a_at = a.at,
                       .b_at = b.at, .c_at = c.at, .lda = slack ? la : 0, .ldb = slack ? lb : 0, .ldc = slack ? lc : 0,
                       .accumulate = accumulate};
    if (!accumulate) { /* what was in C must not matter */
        for (int64_t i = 0; i < m * n; i++) c.x[position(&c, i / n, i % n)] = NAN;
        ck_ok(cst_tensor_write(c.t, 0, c.x, c.t->bytes));
    }
    ck_ok(cst_gemm(mem, &g));
    compare(&g, &a, &b, &c);
    op_check();
    drop(&a), drop(&b), drop(&c);
}

/* Forms to try: all, or for large sizes one half here and the other half there. */
static int wanted(const int64_t *size, int form, int half)
{
    static const int in_half[] = {1, 1, 0, 0, 0, 1, 1, 0};
    return size[0] * size[1] * size[2] < 50000000 || in_half[form] == half;
}

START_TEST(all_forms)
{
    for (int form = 0; form < 8; form++)
        if (wanted(sizes[_i], form, 0)) check(sizes[_i], form & 1, form >> 1 & 1, form >> 2, 0);
}
END_TEST

START_TEST(parts_of_tensors)
{
    for (int form = 0; form < 8; form++)
        if (wanted(sizes[_i], form, 1)) check(sizes[_i], form & 1, form >> 1 & 1, form >> 2, 3);
}
END_TEST

START_TEST(an_empty_c_gets_storage_when_it_is_written_whole)
{
    matrix a = make("a", 5, 7, 7, 0, 0, 0, 1), b = make("b", 7, 3, 3, 0, 0, 0, 2);
    cst_tensor *c;
    ck_ok(cst_tensor_create(&c, mem, CST_DATA, CST_F32, 2, (int64_t[]){5, 3}, "empty"));
    cst_gemm_args g = {.m = 5, .n = 3, .k = 7, .a = a.t, .b = b.t, .c = c, .accumulate = 1};
    ck_fails(cst_gemm(mem, &g), CST_STATE, "empty");
    g.accumulate = 0;
    g.m = 4; /* a part */
    ck_fails(cst_gemm(mem, &g), CST_STATE, "empty");
    ck_assert(c->state == CST_TENSOR_EMPTY);
    g.m = 5;
    ck_ok(cst_gemm(mem, &g));
    float *got = op_read(c);
    double *want = product(&g, &a, &b);
    op_close("c", got, want, 15, 1e-6, 1);
    free(got), free(want);
    op_check();
    cst_tensor_free(c);
    drop(&a), drop(&b);
}
END_TEST

START_TEST(two_runs_give_the_same_bits)
{
    static const int64_t size[][3] = {{130, 70, 300}, {480, 450, 470}};
    const int64_t *s = size[_i];
    matrix a = make("a", s[0], s[2], s[2], 0, 0, 0, 1), b = make("b", s[2], s[1], s[1], 0, 0, 0, 2);
    float *got[2];
    for (int i = 0; i < 2; i++) {
        cst_tensor *shift = op_tensor("shift", CST_DATA, 1000 * (i + 1), 0, NULL); /* another place */
        cst_tensor *c = op_tensor("c", CST_DATA, s[0], s[1], NULL);
        ck_ok(cst_gemm(mem, &(cst_gemm_args){.m = s[0], .n = s[1], .k = s[2], .a = a.t, .b = b.t, .c = c}));
        got[i] = op_read(c);
        cst_tensor_free(c);
        cst_tensor_free(shift);
    }
    ck_assert(!memcmp(got[0], got[1], (size_t)(s[0] * s[1]) * 4));
    free(got[0]), free(got[1]);
    drop(&a), drop(&b);
}
END_TEST

static void epilogues(const cst_kernel *k, void *user)
{
    if (!strcmp(k->name, "gemm_epilogue")) *(uint64_t *)user += k->launches;
}

/* A device whose kernels must stay short gets products in parts of C's rows. */
START_TEST(parts_of_a_launch_give_the_same_bits)
{
    enum { m = 341, n = 130, k = 4219 };
    int ta = _i & 1, tb = _i >> 1, count = _i & 1 ? 2 : 5; /* with 5 a part has 68 or 69 rows */
    const cst_gemm_choice clblast = {CST_GEMM_CLBLAST, CST_GEMM_COLUMNS, 0, 0};
    matrix a = make("a", ta ? k : m, ta ? m : k, ta ? m : k, 0, 0, 0, 1), b = make("b", tb ? n : k, tb ? k : n, tb ? k : n, 0, 0, 0, 2);
    matrix bias = make("bias", 1, n, n, 0, 0, 0, 3), residual = make("residual", m, n, n, 7, 0, 0, 4);
    float *got[2];
    ck_ok(cst_gemm_force(dev, &clblast));
    for (int i = 0; i < 2; i++) {
        uint64_t before = 0, after = 0;
        cst_tensor *c = op_tensor("c", CST_DATA, m, n, NULL);
        dev->launch_flops = i ? 2.0 * m * n * 4096 / (count - 0.5) : 0;
        cst_kernel_each(dev, epilogues, &before);
        ck_ok(cst_gemm(mem, &(cst_gemm_args){.m = m, .n = n, .k = k, .trans_a = ta, .trans_b = tb, .a = a.t, .b = b.t, .c = c, .bias = bias.t,
                                             .relu = 1, .residual = residual.t, .residual_at = 7}));
        cst_kernel_each(dev, epilogues, &after);
        ck_assert_uint_eq(after - before, i ? count : 1);
        got[i] = op_read(c);
        cst_tensor_free(c);
    }
    dev->launch_flops = 0;
    ck_ok(cst_gemm_force(dev, NULL));
    op_check();
    ck_assert(!memcmp(got[0], got[1], (size_t)m * n * 4));
    free(got[0]), free(got[1]);
    drop(&a), drop(&b), drop(&bias), drop(&residual);
}
END_TEST

START_TEST(empty_products)
{
    matrix a = make("a", 4, 4, 4, 0, 0, 0, 1), c = make("c", 4, 4, 4, 0, 0, 0, 2);
    cst_gemm_args g = {.m = 0, .n = 4, .k = 4, .a = a.t, .b = a.t, .c = c.t};
    ck_ok(cst_gemm(mem, &g));
    g = (cst_gemm_args){.m = 4, .n = 0, .k = 4, .a = a.t, .b = a.t, .c = c.t};
    ck_ok(cst_gemm(mem, &g));
    g = (cst_gemm_args){.m = 4, .n = 4, .k = 0, .a = a.t, .b = a.t, .c = c.t, .accumulate = 1};
    ck_ok(cst_gemm(mem, &g));
    float *got = op_read(c.t);
    ck_assert(!memcmp(got, c.x, 64));
    free(got);
    g.accumulate = 0;
    ck_fails(cst_gemm(mem, &g), CST_USAGE, "k is 0");
    drop(&a), drop(&c);
}
END_TEST

START_TEST(bad_arguments_are_refused)
{
    matrix a = make("a", 4, 6, 6, 0, 0, 0, 1), b = make("b", 6, 5, 5, 0, 0, 0, 2), c = make("c", 4, 5, 5, 0, 0, 0, 3);
    const cst_gemm_args good = {.m = 4, .n = 5, .k = 6, .a = a.t, .b = b.t, .c = c.t};
    cst_tensor *h;
    ck_ok(cst_gemm(mem, &good));
    ck_ok(cst_tensor_create(&h, mem, CST_DATA, CST_I32, 2, (int64_t[]){4, 6}, "integers"));
#define REFUSED(change, status, words)            \
    do {                                          \
        cst_gemm_args g = good;                   \
        change;                                   \
        ck_fails(cst_gemm(mem, &g), status, words); \
    } while (0)
    REFUSED(g.m = -1, CST_USAGE, "negative");
    REFUSED(g.m = 5, CST_USAGE, "A (a");
    REFUSED(g.n = 6, CST_USAGE, "B (b");
    REFUSED(g.a_at = 1, CST_USAGE, "A (a");
    REFUSED(g.b_at = -1, CST_USAGE, "B (b");
    REFUSED(g.c_at = 1, CST_USAGE, "C (c");
    REFUSED(g.lda = 5, CST_USAGE, "A (a");
    REFUSED(g.ldb = 6, CST_USAGE, "B (b");
    REFUSED(g.ldc = 4, CST_USAGE, "C (c");
    REFUSED((g.trans_a = 1, g.lda = 3), CST_USAGE, "A (a");
    REFUSED(g.a = h, CST_UNSUPPORTED, "integers");
    REFUSED(g.c = h, CST_UNSUPPORTED, "C (integers");
    REFUSED(g.bias = h, CST_UNSUPPORTED, "bias (integers");
    REFUSED(g.residual = c.t, CST_USAGE, "also the residual");
    REFUSED((g.residual = a.t, g.ldr = 4), CST_USAGE, "residual (a");
    REFUSED(g.batch = -1, CST_USAGE, "negative");
    REFUSED(g.batch = 2, CST_USAGE, "overlap");
    REFUSED((g.batch = 2, g.c_step = 20), CST_USAGE, "C (c");
    REFUSED(g.b = c.t, CST_USAGE, "B (c");
#undef REFUSED
    cst_tensor_free(h);
    op_check();
    drop(&a), drop(&b), drop(&c);
}
END_TEST

/* x rounded to f16 or bf16, as floats in `x` and as stored in the result. */
static uint16_t *rounded(float *x, int64_t n, cst_type type)
{
    uint16_t *h = malloc((size_t)n * sizeof *h);
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], 4);
        if (type == CST_BF16) {
            u &= 0xffff0000u;
            h[i] = (uint16_t)(u >> 16);
        } else { /* the sizes used here are normal in both types, or zero */
            uint32_t e = u >> 23 & 0xff;
            u = e < 113 ? u & 0x80000000u : u & 0xffffe000u;
            h[i] = (uint16_t)(u >> 16 & 0x8000) | (e < 113 ? 0 : (uint16_t)((e - 112) << 10 | (u >> 13 & 0x3ff)));
        }
        memcpy(&x[i], &u, 4);
    }
    return h;
}

/* Every variant of the native engine on one awkward shape: bias, ReLU, residual; one, or a batch of three; operands of
 * these types. Where there are gaps between rows and products they must stay as they are. */
static void check_variant(const cst_gemm_choice *how, const int64_t *size, int form, cst_type ta, cst_type tb, int batch)
{
    int64_t m = size[0], n = size[1], k = size[2], gap = batch > 1 ? 5 : 0, ldc = n + gap;
    int64_t count[5] = {batch * (m * k + gap), batch * (k * n + gap), n, batch * (m * n + gap), batch * (m * ldc + gap)};
    cst_type type[5] = {ta, tb, CST_F32, CST_F32, CST_F32};
    float *x[5];
    cst_tensor *t[5];
    for (int i = 0; i < 5; i++) {
        x[i] = op_random((size_t)count[i], -1, 1, (uint64_t)(10 + i));
        uint16_t *h = type[i] == CST_F32 ? NULL : rounded(x[i], count[i], type[i]);
        ck_ok(cst_tensor_create(&t[i], mem, CST_DATA, type[i], 1, &count[i], "operand %d", i));
        ck_ok(cst_tensor_write(t[i], 0, h ? (void *)h : x[i], t[i]->bytes));
        free(h);
    }
    cst_gemm_args g = {.m = m, .n = n, .k = k, .trans_a = form & 1, .trans_b = form >> 1 & 1, .a = t[0], .b = t[1], .c = t[4], .ldc = ldc,
                       .accumulate = form >> 2, .bias = t[2], .relu = 1, .residual = t[3], .batch = batch, .a_step = m * k + gap,
                       .b_step = k * n + gap, .residual_step = m * n + gap, .c_step = m * ldc + gap};
    if (!cst_gemm_fits(how, dev, &g)) goto out;
    ck_ok(cst_gemm_force(dev, how));
    ck_ok(cst_gemm(mem, &g));
    ck_ok(cst_gemm_force(dev, NULL));
    float *got = op_read(t[4]);
    for (int b = 0; b < batch; b++) {
        matrix A = {.rows = m, .cols = k, .ld = form & 1 ? m : k, .at = b * g.a_step, .x = x[0]};
        matrix B = {.rows = k, .cols = n, .ld = form >> 1 & 1 ? k : n, .at = b * g.b_step, .x = x[1]};
        double *want = product(&g, &A, &B);
        for (int64_t i = 0; i < m * n; i++) {
            int64_t p = b * g.c_step + i / n * ldc + i % n;
            double w = fmax(want[i] + (g.accumulate ? x[4][p] : 0) + x[2][i % n], 0) + x[3][b * g.residual_step + i];
            char text[48];
            if (!(fabs(got[p] - w) <= 3e-6 * (fabs(w) + sqrt((double)k))))
                ck_abort_msg("%s, form %d, %dx%dx%d, product %d: C[%d] = %.9g, wanted %.9g", cst_gemm_choice_text(text, how), form, (int)m,
                             (int)n, (int)k, b, (int)i, got[p], w);
            got[p] = x[4][p];
        }
        free(want);
    }
    ck_assert_msg(!memcmp(got, x[4], (size_t)count[4] * 4), "written between rows or products");
    free(got);
    op_check();
out:
    for (int i = 0; i < 5; i++) {
        cst_tensor_free(t[i]);
        free(x[i]);
    }
}

static const cst_gemm_choice variants[] = {
    {CST_GEMM_NATIVE, CST_GEMM_COLUMNS, 1, 64}, {CST_GEMM_NATIVE, CST_GEMM_COLUMNS, 4, 32}, {CST_GEMM_NATIVE, CST_GEMM_ROWS, 1, 64},
    {CST_GEMM_NATIVE, CST_GEMM_ROWS, 16, 32},   {CST_GEMM_NATIVE, CST_GEMM_STRIPS, 1, 64},  {CST_GEMM_NATIVE, CST_GEMM_STRIPS, 4, 32},
    {CST_GEMM_CLBLAST, CST_GEMM_COLUMNS, 0, 0}, {CST_GEMM_SPLIT, CST_GEMM_COLUMNS, 0, 0},
};

#define VARIANTS ((int)(sizeof variants / sizeof *variants))

START_TEST(every_variant_with_epilogue)
{
    static const int64_t size[][3] = {{1, 1, 1}, {8, 32, 64}, {9, 31, 65}, {39, 129, 33}, {131, 67, 150}};
    for (int form = 0; form < 8; form++)
        for (int s = 0; s < 5; s++) check_variant(&variants[_i], size[s], form, CST_F32, CST_F32, 1);
    static const int64_t pieces[][3] = {{67, 130, 1040}, {65, 129, 1301}, {200, 260, 515}};
    for (int s = 0; s < 3 && variants[_i].engine == CST_GEMM_SPLIT; s++)
        for (int form = 0; form < 8; form += 4) check_variant(&variants[_i], pieces[s], form, CST_F32, CST_F32, 1);
}
END_TEST

START_TEST(every_variant_in_batches)
{
    static const int64_t size[][3] = {{33, 65, 70}, {7, 5, 3}};
    for (int form = 0; form < 8; form++)
        for (int s = 0; s < 2; s++) check_variant(&variants[_i], size[s], form, CST_F32, CST_F32, 3);
}
END_TEST

START_TEST(sixteen_bit_operands)
{
    static const cst_type type[][2] = {{CST_F16, CST_BF16}, {CST_BF16, CST_F32}}; /* each costs builds: two forms show both orders */
    static const int64_t size[] = {45, 70, 83};
    for (int form = 0; form < 4; form += 3)
        for (int t = 0; t < 2; t++) check_variant(&variants[1 + 2 * _i], size, form, type[t][0], type[t][1], 1);
}
END_TEST

/* C, malloc'd, of g with this variant. */
static float *bits_of(cst_gemm_args g, const cst_gemm_choice *how)
{
    float *start = op_random((size_t)cst_tensor_count(g.c), -1, 1, 9);
    ck_ok(cst_tensor_write(g.c, 0, start, g.c->bytes));
    free(start);
    ck_ok(cst_gemm_force(dev, how));
    ck_ok(cst_gemm(mem, &g));
    ck_ok(cst_gemm_force(dev, NULL));
    op_check();
    return op_read(g.c);
}

static float *bits_of_width(int narrow, cst_gemm_args g, const cst_gemm_choice *how)
{
    dev->narrow = narrow;
    cst_kernel_forget(dev, "gemm_cpu"); /* built with the other width */
    return bits_of(g, how);
}

/* CPUs with narrow vectors keep fewer sums in registers, in the same order. */
START_TEST(narrow_vectors_give_the_same_bits)
{
    static const int64_t size[][3] = {{9, 31, 65}, {39, 129, 33}, {131, 67, 600}};
    const cst_gemm_choice *how = &variants[1 + 2 * (_i % 3)];
    const int as_it_is = dev->narrow, ta = _i < 3, tb = how->kind == CST_GEMM_STRIPS; /* each form costs builds */
    for (int s = 0; s < 3; s++) {
        int64_t m = size[s][0], n = size[s][1], k = size[s][2];
        matrix a = make("a", ta ? k : m, ta ? m : k, ta ? m : k, 0, 0, 0, 1), b = make("b", tb ? n : k, tb ? k : n, tb ? k : n, 0, 0, 0, 2);
        cst_tensor *c = op_tensor("c", CST_DATA, m, n, NULL);
        cst_gemm_args g = {.m = m, .n = n, .k = k, .trans_a = ta, .trans_b = tb, .a = a.t, .b = b.t, .c = c, .accumulate = 1};
        if (cst_gemm_fits(how, dev, &g)) {
            float *wide = bits_of_width(0, g, how), *narrow = bits_of_width(1, g, how);
            ck_assert(!memcmp(wide, narrow, c->bytes));
            free(wide), free(narrow);
        }
        cst_tensor_free(c);
        drop(&a), drop(&b);
    }
    dev->narrow = as_it_is;
    cst_kernel_forget(dev, "gemm_cpu");
}
END_TEST

/* The same product of w, which is kept packed, and of plain, which isn't: the same bits, as w is `what`. */
static float *same_bits(const char *what, cst_gemm_args g, const cst_gemm_choice *how, cst_tensor *w, cst_tensor *plain)
{
    char text[48];
    g.b = w;
    float *got = bits_of(g, how);
    g.b = plain;
    float *want = bits_of(g, how);
    for (int64_t i = 0; i < cst_tensor_count(g.c); i++)
        if (memcmp(&got[i], &want[i], 4))
            ck_abort_msg("%s, %s, %dx%dx%d acc %d: C[%d] = %.9g packed, %.9g otherwise", what, cst_gemm_choice_text(text, how), (int)g.m,
                         (int)g.n, (int)g.k, g.accumulate, (int)i, got[i], want[i]);
    free(want);
    return got;
}

START_TEST(a_packed_copy_gives_the_same_bits)
{
    static const int64_t size[][3] = {{1, 1, 1}, {9, 31, 65}, {39, 129, 33}, {131, 67, 150}, {130, 96, 600}, {300, 40, 8300}};
    const cst_gemm_choice *how = &variants[_i];
    /* strips never take B as it is stored here; the native engine is for devices without groups */
    if (how->kind == CST_GEMM_STRIPS || how->engine == (dev->group > 1 ? CST_GEMM_NATIVE : CST_GEMM_SPLIT)) return;
    for (int s = 0; s < 6; s++) {
        int64_t m = size[s][0], n = size[s][1], k = size[s][2];
        float *x[3];
        for (int i = 0; i < 3; i++) x[i] = op_random((size_t)(k * n), -1, 1, (uint64_t)(20 + i));
        matrix a = make("a", m, k, k, 0, 0, 0, 1), bias = make("bias", 1, n, n, 0, 0, 0, 2);
        cst_tensor *w = op_tensor("w", CST_PARAM, k, n, x[0]), *plain = op_tensor("plain", CST_PARAM, k, n, x[0]);
        cst_tensor *c = op_tensor("c", CST_DATA, m, n, NULL), *r = op_tensor("residual", CST_DATA, m, n, NULL);
        ck_ok(cst_fill(mem, r, 0.25f));
        ck_ok(cst_gemm_keep_packed(w));
        ck_ok(cst_gemm_keep_packed(w)); /* once is enough */
        cst_gemm_args g = {.m = m, .n = n, .k = k, .a = a.t, .c = c};
        free(same_bits("new", g, how, w, plain));
        g.accumulate = 1, g.bias = bias.t, g.relu = 1, g.residual = r;
        float *before = same_bits("used again", g, how, w, plain);
        ck_ok(cst_tensor_write(w, 0, x[1], w->bytes));
        ck_ok(cst_tensor_write(plain, 0, x[1], w->bytes));
        float *after = same_bits("written", g, how, w, plain);
        ck_assert(m * n < 100 || memcmp(before, after, c->bytes));
        ck_ok(cst_fill(mem, w, 0.5f)); /* a kernel */
        ck_ok(cst_fill(mem, plain, 0.5f));
        free(before);
        before = same_bits("filled", g, how, w, plain);
        ck_assert(m * n < 100 || memcmp(before, after, c->bytes));
        cst_tensor_drop(w);
        ck_ok(cst_tensor_write(w, 0, x[2], w->bytes));
        ck_ok(cst_tensor_write(plain, 0, x[2], w->bytes));
        free(same_bits("dropped", g, how, w, plain));
        free(before), free(after);
        for (int i = 0; i < 3; i++) free(x[i]);
        cst_tensor_free(w), cst_tensor_free(plain), cst_tensor_free(c), cst_tensor_free(r);
        drop(&a), drop(&bias);
    }
}
END_TEST

/* The copy is filled once while w stays the same, used for the whole of w only, and goes with w. */
START_TEST(a_packed_copy_is_kept_and_freed)
{
    int64_t k = 70, n = 45;
    matrix a = make("a", 6, k, k, 0, 0, 0, 1);
    cst_tensor *w = op_tensor("w", CST_PARAM, k, n, NULL), *c = op_tensor("c", CST_DATA, 6, n, NULL),
               *line = op_tensor("line", CST_PARAM, 8, 0, NULL);
    cst_mem_stats before, with, after;
    cst_mem_get_stats(mem, &before);
    ck_fails(cst_gemm_keep_packed(line), CST_USAGE, "line");
    ck_ok(cst_gemm_keep_packed(w));
    cst_mem_get_stats(mem, &with);
    ck_assert_uint_eq(with.class_used[CST_PARAM] - before.class_used[CST_PARAM], (dev->narrow ? 48 : 64) * (uint64_t)k * 4); /* whole panels */
    const cst_tensor *panels = line->prev; /* the newest tensor */
    ck_assert_str_eq(panels->name, "w packed");
    ck_ok(cst_fill(mem, w, 1));
    cst_gemm_args g = {.m = 6, .n = n, .k = k, .a = a.t, .b = w, .c = c};
    if (dev->group == 1) {
        uint64_t version = panels->version;
        for (int i = 0; i < 3; i++) free(bits_of(g, &variants[0]));
        ck_assert_uint_eq(panels->version, version + 1);
        g.n = n - 1, g.ldb = n; /* a part of w */
        free(bits_of(g, &variants[0]));
        ck_ok(cst_fill(mem, w, 2));
        free(bits_of(g, &variants[0]));
        ck_assert_uint_eq(panels->version, version + 1);
    }
    cst_tensor_free(w);
    cst_mem_get_stats(mem, &after);
    ck_assert_uint_eq(after.tensors, before.tensors - 1);
    ck_assert_uint_eq(after.class_used[CST_PARAM], before.class_used[CST_PARAM] - 4 * (uint64_t)(k * n));
    op_check();
    cst_tensor_free(c), cst_tensor_free(line);
    drop(&a);
}
END_TEST

/* A manager freed too early says so and releases owners and copies alike. */
START_TEST(a_packed_copy_left_over)
{
    cst_mem *other;
    cst_tensor *w;
    ck_ok(cst_mem_create(&other, dev, (uint64_t)64 << 20));
    ck_ok(cst_tensor_create(&w, other, CST_PARAM, CST_F32, 2, (int64_t[]){5, 7}, "left over"));
    ck_ok(cst_gemm_keep_packed(w));
    ck_fails(cst_mem_free(other), CST_STATE, "left over");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gemm");
    TCase *tc = op_case(s, "gemm");
    builds_are_of_use = 0;
    tcase_add_loop_test(tc, all_forms, 0, SIZES);
    tcase_add_loop_test(tc, parts_of_tensors, 0, SIZES);
    tcase_add_test(tc, an_empty_c_gets_storage_when_it_is_written_whole);
    tcase_add_loop_test(tc, two_runs_give_the_same_bits, 0, 2);
    tcase_add_loop_test(tc, parts_of_a_launch_give_the_same_bits, 0, 4);
    tcase_add_test(tc, empty_products);
    tcase_add_test(tc, bad_arguments_are_refused);
    tcase_add_loop_test(tc, every_variant_with_epilogue, 0, VARIANTS);
    tcase_add_loop_test(tc, every_variant_in_batches, 0, VARIANTS);
    tc = op_case(s, "short"); /* few builds, every kernel: what tests/check_faults.sh runs */
    tcase_add_loop_test(tc, sixteen_bit_operands, 0, 3);
    tcase_add_loop_test(tc, narrow_vectors_give_the_same_bits, 0, 6);
    tcase_add_loop_test(tc, a_packed_copy_gives_the_same_bits, 0, VARIANTS);
    tcase_add_test(tc, a_packed_copy_is_kept_and_freed);
    tcase_add_test(tc, a_packed_copy_left_over);
    return op_main(s);
}
