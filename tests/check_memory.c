#include "op_testing.h"

#include "gemm/gemm.h"
#include "op/cast.h"
#include "op/fill.h"

#define MIB ((uint64_t)1 << 20)

static cst_mem_stats stats_of(const cst_mem *m)
{
    cst_mem_stats s;
    cst_mem_get_stats(m, &s);
    return s;
}

/* f32, one dimension, no storage yet. */
static cst_tensor *tensor(cst_mem *m, const char *name, int64_t n)
{
    cst_tensor *t;
    ck_ok(cst_tensor_create(&t, m, CST_DATA, CST_F32, 1, &n, "%s", name));
    return t;
}

/* What the smallest tensor takes. */
static uint64_t block_bytes(void)
{
    return dev->info.align > 256 ? dev->info.align : 256;
}

/* A manager of its own with this budget, without guards. */
static cst_mem *manager(uint64_t budget)
{
    cst_mem *m;
    ck_ok(cst_mem_create(&m, dev, budget));
    ck_assert_uint_eq(stats_of(m).budget, budget);
    ck_assert_uint_eq(stats_of(m).reserved, 0);
    return m;
}

static void all_equal(cst_tensor *t, float want)
{
    float *got = op_read(t);
    for (int64_t i = 0; i < cst_tensor_count(t); i++) /* Check's own macros are slow */
        if (got[i] != want) ck_abort_msg("%s[%d] = %g, wanted %g", t->name, (int)i, got[i], want);
    free(got);
}

/* --- budget ------------------------------------------------------------------------------------------- */

START_TEST(the_budget_is_exact)
{
    cst_mem *m = manager(MIB);
    cst_tensor *more = tensor(m, "more", MIB / 4 + 1), *all = tensor(m, "all", MIB / 4), *tiny = tensor(m, "tiny", 1);
    ck_fails(cst_tensor_place(more), CST_OVER_BUDGET, "more");
    ck_assert(more->state == CST_TENSOR_EMPTY && stats_of(m).reserved == 0 && stats_of(m).used == 0);
    ck_ok(cst_mem_check(m));
    ck_ok(cst_tensor_place(all)); /* just fits */
    ck_ok(cst_mem_check(m));
    cst_mem_stats before = stats_of(m), after;
    ck_assert(before.reserved == MIB && before.used == MIB && before.class_used[CST_DATA] == MIB);
    ck_fails(cst_tensor_place(tiny), CST_OVER_BUDGET, "tiny");
    ck_fails(cst_fill(m, tiny, 1), CST_OVER_BUDGET, "fill");
    ck_assert(tiny->state == CST_TENSOR_EMPTY);
    after = stats_of(m);
    after.acquires = before.acquires;
    ck_assert(!memcmp(&before, &after, sizeof before)); /* nothing has changed */
    ck_ok(cst_mem_check(m));
    cst_tensor_drop(all);
    ck_assert(stats_of(m).used == 0 && stats_of(m).reserved == MIB);
    ck_ok(cst_fill(m, tiny, 1)); /* the same call works now */
    all_equal(tiny, 1);
    ck_fails(cst_fill(m, all, 2), CST_OVER_BUDGET, "all");
    cst_tensor_free(tiny);
    ck_ok(cst_fill(m, all, 2));
    all_equal(all, 2);
    ck_assert(stats_of(m).reserved_peak == MIB && stats_of(m).used_peak == MIB);
    cst_tensor_free(all), cst_tensor_free(more);
    ck_ok(cst_mem_check(m));
    ck_ok(cst_mem_free(m));
}
END_TEST

/* Slabs of a round size first; what is left of the budget is still used to the last block. */
START_TEST(the_rest_of_a_budget_is_used)
{
    cst_mem *m = manager(40 * MIB);
    cst_tensor *a = tensor(m, "a", 1), *b = tensor(m, "b", 40 * MIB / 4),
               *c = tensor(m, "c", (int64_t)(32 * MIB - block_bytes()) / 4);
    cst_tensor *d = tensor(m, "d", 8 * MIB / 4), *e = tensor(m, "e", 1);
    ck_ok(cst_tensor_place(a)); /* a slab of 32 MiB */
    ck_assert_uint_eq(stats_of(m).reserved, 32 * MIB);
    ck_fails(cst_tensor_place(b), CST_OVER_BUDGET, "b");
    ck_ok(cst_tensor_place(c)); /* fills it */
    ck_ok(cst_tensor_place(d)); /* a slab of the 8 MiB left */
    ck_assert(stats_of(m).reserved == 40 * MIB && stats_of(m).used == 40 * MIB && stats_of(m).slabs == 2);
    ck_fails(cst_tensor_place(e), CST_OVER_BUDGET, "e");
    ck_ok(cst_mem_check(m));
    cst_tensor *all[] = {a, b, c, d, e};
    for (int i = 0; i < 5; i++) cst_tensor_free(all[i]);
    ck_ok(cst_mem_free(m));
}
END_TEST

START_TEST(scratch_of_a_library_is_inside_the_budget)
{
    cst_mem *m = manager(2 * MIB);
    cst_tensor *a = tensor(m, "a", MIB / 4);
    cl_mem b, c;
    ck_ok(cst_tensor_place(a));
    ck_ok(cst_mem_scratch(m, MIB / 2, &b));
    ck_ok(cst_mem_scratch(m, 100, &c));
    ck_assert(b == c && stats_of(m).class_used[CST_SCRATCH] == MIB / 2); /* one, shared */
    uint64_t slab = stats_of(m).reserved - MIB / 2;
    ck_fails(cst_mem_scratch(m, 2 * MIB - slab + 1, &c), CST_OVER_BUDGET, "scratch");
    ck_ok(cst_mem_check(m));
    ck_ok(cst_mem_scratch(m, 2 * MIB - slab, &c));
    ck_assert_uint_eq(stats_of(m).reserved, 2 * MIB);
    ck_ok(cst_mem_check(m));
    cst_tensor_free(a);
    ck_ok(cst_mem_free(m));
}
END_TEST

START_TEST(budgets_beyond_the_device)
{
    cst_mem *m;
    ck_fails(cst_mem_create(&m, dev, (uint64_t)1 << 50), CST_USAGE, dev->info.name);
    ck_ok(cst_mem_create(&m, dev, 0));
    ck_assert_uint_eq(stats_of(m).budget > 64 * MIB, 1);
    ck_ok(cst_mem_free(m));
    ck_ok(cst_mem_free(NULL));
}
END_TEST

/* --- tensors and acquire ------------------------------------------------------------------------------ */

START_TEST(tensors_are_checked)
{
    cst_tensor *t;
    int64_t huge[] = {(int64_t)1 << 40, (int64_t)1 << 40};
    ck_fails(cst_tensor_create(&t, mem, CST_DATA, CST_F32, 2, (int64_t[]){3, 0}, "zero"), CST_USAGE, "zero");
    ck_fails(cst_tensor_create(&t, mem, CST_DATA, CST_F32, 1, (int64_t[]){-1}, "minus"), CST_USAGE, "minus");
    ck_fails(cst_tensor_create(&t, mem, CST_DATA, CST_F32, 2, huge, "huge"), CST_USAGE, "huge");
    ck_fails(cst_tensor_create(&t, mem, CST_DATA, CST_F32, 5, huge, "deep"), CST_USAGE, "deep");
    ck_fails(cst_tensor_create(&t, mem, CST_DATA, CST_F32, 0, huge, "flat"), CST_USAGE, "flat");
    ck_assert_uint_eq(stats_of(mem).tensors, 0);
    ck_ok(cst_tensor_create(&t, mem, CST_OPTIM, CST_BF16, 3, (int64_t[]){2, 3, 5}, "layer %d %s", 4, "x"));
    ck_assert_str_eq(t->name, "layer 4 x");
    ck_assert(t->bytes == 60 && cst_tensor_count(t) == 30 && t->dim[3] == 1 && t->state == CST_TENSOR_EMPTY);
    char byte[64];
    ck_fails(cst_tensor_read(t, 0, byte, 1), CST_STATE, "layer 4 x");
    ck_ok(cst_tensor_place(t));
    ck_fails(cst_tensor_write(t, 60, byte, 1), CST_USAGE, "layer 4 x");
    ck_fails(cst_tensor_read(t, 1, byte, 60), CST_USAGE, "layer 4 x");
    ck_fails(cst_tensor_read(t, 2, byte, (size_t)-1), CST_USAGE, "layer 4 x");
    ck_assert_uint_eq(t->offset % 256, 0);
    cst_tensor_free(t);
    cst_tensor_free(NULL);
}
END_TEST

START_TEST(an_empty_tensor_cannot_be_read)
{
    cst_tensor *x = tensor(mem, "nothing", 8), *y = tensor(mem, "y", 8);
    static const cst_access access[] = {CST_READ, CST_UPDATE};
    for (int i = 0; i < 2; i++) {
        cst_use use[] = {{y, CST_WRITE, NULL, 0}, {x, access[i], NULL, 0}};
        ck_fails(cst_mem_acquire(mem, "op", use, 2, NULL, NULL), CST_STATE, "op reads nothing before");
        ck_assert(y->state == CST_TENSOR_EMPTY && !y->pins && !x->pins); /* nothing has changed */
        op_check();
    }
    ck_fails(cst_cast(mem, y, x), CST_STATE, "nothing");
    cst_use use[] = {{x, CST_WRITE, NULL, 0}, {y, CST_WRITE, NULL, 0}};
    ck_ok(cst_mem_acquire(mem, "op", use, 2, NULL, NULL));
    ck_assert(use[0].mem && x->pins == 1 && y->pins == 1 && use[0].offset == x->offset);
    cst_mem_release(mem, use, 2);
    ck_assert(x->pins == 0 && y->pins == 0);
    op_check();
    cst_tensor_free(x), cst_tensor_free(y);
}
END_TEST

START_TEST(leftovers_are_reported)
{
    cst_mem *m = manager(MIB);
    cst_tensor *t = tensor(m, "forgotten", 100);
    ck_ok(cst_tensor_place(t));
    ck_fails(cst_mem_free(m), CST_STATE, "forgotten");
    m = manager(MIB);
    t = tensor(m, "held", 100);
    cst_use use = {t, CST_WRITE, NULL, 0};
    ck_ok(cst_mem_acquire(m, "op", &use, 1, NULL, NULL));
    ck_fails(cst_mem_free(m), CST_STATE, "not released");
}
END_TEST

/* fill on [at, at + n) of t, whatever t's size is. */
static void fill_span(cst_tensor *t, int64_t at, uint64_t n)
{
    cst_launch l;
    size_t items = n;
    cst_launch_begin(&l, mem, "fill", "fill", NULL);
    cst_launch_update(&l, "y", t, at);
    cst_launch_float(&l, "value", 1);
    cst_launch_ulong(&l, "n", n);
    ck_ok(cst_launch_run(&l, 1, &items, NULL));
}

START_TEST(guards_see_an_overrun)
{
    cst_tensor *a = op_tensor("first", CST_DATA, 64, 0, NULL), *b = op_tensor("second", CST_DATA, 61, 0, NULL);
    op_check();
    fill_span(b, 60, 1);
    op_check(); /* the last element is its own */
    fill_span(b, 60, 2); /* one too many */
    ck_fails(cst_mem_guards_check(mem), CST_STATE, "behind second");
    cst_tensor_free(b);
    b = op_tensor("second", CST_DATA, 61, 0, NULL);
    op_check(); /* new borders */
    int64_t gap = (int64_t)(b->offset - a->offset) / 4; /* its own rear guard, then the next one's front guard */
    fill_span(a, 64, (uint64_t)gap - 64);
    ck_fails(cst_mem_guards_check(mem), CST_STATE, "before second");
    cst_tensor_free(b);
    ck_fails(cst_mem_guards_check(mem), CST_STATE, "behind first");
    cst_tensor_free(a);
    cst_mem *m = manager(MIB);
    ck_fails(cst_mem_guards_check(m), CST_STATE, "no guards");
    ck_ok(cst_mem_free(m));
}
END_TEST

/* --- planning ------------------------------------------------------------------------------------------ */

/* A small step: parameters that stay (made by the caller), activations and scratch that come and go, a matrix
 * product with a library's scratch, transfers. */
typedef struct step {
    cst_tensor *w, *dw;
    cst_status st;
    size_t place[8];
    int places;
} step;

static void note(step *s, const cst_tensor *t)
{
    s->place[s->places++] = (size_t)t->slab << 40 | t->offset;
}

static void run_step(cst_mem *m, step *s)
{
    static float input[300 * 500];
    cst_tensor *x, *y, *z;
    s->places = 0;
    ck_ok(cst_tensor_create(&x, m, CST_ACTIVATION, CST_F32, 2, (int64_t[]){300, 500}, "x"));
    ck_ok(cst_tensor_create(&y, m, CST_ACTIVATION, CST_F32, 2, (int64_t[]){300, 500}, "y"));
    ck_ok(cst_tensor_write(x, 0, input, sizeof input));
    note(s, x);
    ck_ok(cst_gemm(m, &(cst_gemm_args){.m = 300, .n = 500, .k = 500, .a = x, .b = s->w, .c = y}));
    note(s, y);
    cst_tensor_free(x);
    ck_ok(cst_tensor_create(&z, m, CST_SCRATCH, CST_F32, 1, (int64_t[]){100001}, "z"));
    ck_ok(cst_fill(m, z, 1));
    note(s, z);
    ck_ok(cst_gemm(
        m, &(cst_gemm_args){.m = 500, .n = 500, .k = 300, .trans_a = 1, .a = y, .b = y, .c = s->dw, .accumulate = 1}));
    cst_tensor_free(y);
    ck_ok(cst_tensor_create(&x, m, CST_SCRATCH, CST_F32, 1, (int64_t[]){130001}, "x again"));
    ck_ok(cst_fill(m, x, 1));
    note(s, x);
    ck_ok(cst_tensor_read(z, 4, input, 4));
    cst_tensor_free(z);
    cst_tensor_free(x);
    ck_ok(cst_mem_check(m));
}

static void make_params(cst_mem *m, step *s)
{
    ck_ok(cst_tensor_create(&s->w, m, CST_PARAM, CST_F32, 2, (int64_t[]){500, 500}, "w"));
    ck_ok(cst_tensor_create(&s->dw, m, CST_GRAD, CST_F32, 2, (int64_t[]){500, 500}, "dw"));
}

static void fill_params(cst_mem *m, step *s)
{
    ck_ok(cst_fill(m, s->w, 0.5f));
    ck_ok(cst_fill(m, s->dw, 0));
    note(s, s->w);
    note(s, s->dw);
}

/* What the step needs, by planning it in a manager of its own. */
static uint64_t plan(cst_mem *m, step *s)
{
    ck_ok(cst_mem_plan_begin(m));
    ck_assert(cst_mem_planning(m));
    fill_params(m, s);
    run_step(m, s);
    cst_mem_stats t = stats_of(m);
    ck_assert(t.reserved == 0 && t.h2d_bytes == 0 && t.d2h_bytes == 0); /* nothing touched the device */
    return cst_mem_plan_bytes(m);
}

START_TEST(a_plan_is_exactly_what_the_step_takes)
{
    cst_mem *m = manager(64 * MIB);
    step s = {0}, r = {0};
    make_params(m, &s);
    uint64_t need = plan(m, &s);
    ck_assert(need > 3 * MIB && need < 8 * MIB);
    r = s;
    ck_ok(cst_mem_plan_commit(m));
    ck_assert(!cst_mem_planning(m));
    ck_assert_uint_eq(stats_of(m).reserved, need);
    ck_fails(cst_mem_plan_commit(m), CST_STATE, "no plan");
    for (int i = 0; i < 3; i++) {
        r.places = 0;
        fill_params(m, &r);
        run_step(m, &r);
        ck_assert(r.places == s.places && !memcmp(r.place, s.place, sizeof r.place)); /* the same places */
        cst_mem_stats t = stats_of(m);
        ck_assert_msg(t.reserved == need && t.reserved_peak == need, "%g of %g", (double)t.reserved_peak, (double)need);
    }
    ck_ok(cst_mem_finish(m));
    cst_tensor_free(s.w), cst_tensor_free(s.dw);
    ck_ok(cst_mem_free(m));
    /* and no more than that is needed */
    m = manager(need);
    make_params(m, &r);
    ck_assert_uint_eq(plan(m, &r), need);
    ck_ok(cst_mem_plan_commit(m));
    r.places = 0;
    fill_params(m, &r);
    run_step(m, &r);
    cst_tensor_free(r.w), cst_tensor_free(r.dw);
    ck_ok(cst_mem_free(m));
}
END_TEST

START_TEST(a_plan_over_the_budget_is_refused_with_both_numbers)
{
    cst_mem *m = manager(3 * MIB);
    step s = {0};
    char words[64];
    make_params(m, &s);
    uint64_t need = plan(m, &s);
    snprintf(words, sizeof words, "%.1f MiB are needed, the budget is 3.0 MiB", (double)need / (double)MIB);
    ck_fails(cst_mem_plan_commit(m), CST_OVER_BUDGET, words);
    ck_assert(cst_mem_planning(m) && cst_mem_plan_bytes(m) == need && stats_of(m).reserved == 0);
    ck_fails(cst_mem_plan_begin(m), CST_STATE, "has storage already");
    cst_tensor_drop(s.w), cst_tensor_drop(s.dw);
    ck_ok(cst_mem_plan_begin(m)); /* a smaller step */
    ck_ok(cst_fill(m, s.w, 1));
    ck_ok(cst_mem_plan_commit(m));
    ck_assert_uint_eq(stats_of(m).reserved, cst_mem_plan_bytes(m));
    ck_ok(cst_fill(m, s.w, 1));
    all_equal(s.w, 1);
    cst_tensor_free(s.w), cst_tensor_free(s.dw);
    ck_ok(cst_mem_free(m));
}
END_TEST

/* --- transfers ------------------------------------------------------------------------------------------ */

/* Nothing waits inside the loop: uploads, kernels and downloads of a hundred rounds are ordered by the manager
 * alone. x is written while the kernel of the round before may still read it, y while it may still be read back. */
START_TEST(transfers_are_ordered_against_kernels)
{
    enum { ROUNDS = 100, N = 50021 };
    cst_tensor *x = tensor(mem, "x", N), *y = tensor(mem, "y", N), *z = tensor(mem, "z", N);
    float *in = malloc((size_t)ROUNDS * N * 4), *out = malloc((size_t)ROUNDS * N * 4),
          *constant = malloc((size_t)ROUNDS * N * 4);
    cl_event up[ROUNDS], down[ROUNDS], third[ROUNDS];
    for (int r = 0; r < ROUNDS; r++)
        for (int i = 0; i < N; i++) in[r * N + i] = (float)(r * 1000 + i % 997);
    cst_mem_stats before = stats_of(mem);
    for (int r = 0; r < ROUNDS; r++) {
        ck_ok(cst_tensor_write_async(x, 0, in + r * N, N * 4, &up[r]));
        ck_ok(cst_cast(mem, y, x)); /* a copy: f32 to f32 */
        ck_ok(cst_tensor_read_async(y, 0, out + r * N, N * 4, &down[r]));
        ck_ok(cst_fill(mem, z, (float)r));
        ck_ok(cst_tensor_read_async(z, 0, constant + r * N, N * 4, &third[r]));
    }
    for (int r = 0; r < ROUNDS; r++) {
        ck_ok(cst_mem_wait(&up[r]));
        ck_ok(cst_mem_wait(&down[r]));
        ck_ok(cst_mem_wait(&third[r]));
        ck_assert(!up[r] && !down[r]);
        ck_assert_msg(!memcmp(in + r * N, out + r * N, N * 4), "round %d", r);
        for (int i = 0; i < N; i++)
            if (constant[r * N + i] != (float)r) ck_abort_msg("round %d, element %d: %g", r, i, constant[r * N + i]);
    }
    cst_mem_stats after = stats_of(mem);
    ck_assert_uint_eq(after.h2d_bytes - before.h2d_bytes, (uint64_t)ROUNDS * N * 4);
    ck_assert_uint_eq(after.d2h_bytes - before.d2h_bytes, (uint64_t)ROUNDS * N * 8);
    op_check();
    free(in), free(out), free(constant);
    cst_tensor_free(x), cst_tensor_free(y), cst_tensor_free(z);
}
END_TEST

/* A tensor dropped while kernels and transfers that use it are on their way; another takes its place. */
START_TEST(a_dropped_place_is_reused_in_order)
{
    enum { N = 300007 };
    float *in = malloc(N * 4), *out = malloc(N * 4);
    cst_tensor *y = tensor(mem, "y", N);
    ck_ok(cst_tensor_place(y));
    for (int r = 0; r < 30; r++) {
        cl_event up, down;
        cst_tensor *x = tensor(mem, "x", N);
        for (int i = 0; i < N; i++) in[i] = (float)(r + i);
        ck_ok(cst_tensor_write_async(x, 0, in, N * 4, &up));
        ck_ok(cst_cast(mem, y, x));
        size_t place = x->offset;
        cst_tensor_free(x); /* the copy may still be running */
        x = tensor(mem, "x again", N);
        ck_ok(cst_fill(mem, x, -1));
        ck_assert_uint_eq(x->offset, place);
        ck_ok(cst_tensor_read_async(y, 0, out, N * 4, &down));
        cst_tensor_free(x);
        ck_ok(cst_mem_wait(&down));
        ck_ok(cst_mem_wait(&up));
        ck_assert_msg(!memcmp(in, out, N * 4), "round %d", r);
    }
    free(in), free(out);
    cst_tensor_free(y);
}
END_TEST

/* A launch of no work-items still takes over the order of an upload that it was given. */
START_TEST(an_empty_launch_keeps_the_order)
{
    enum { N = 4 << 20 };
    float *in = malloc(N * 4), *out = malloc(N * 4);
    cst_tensor *x = op_tensor("x", CST_DATA, N, 0, NULL), *y = tensor(mem, "y", N);
    for (int r = 0; r < 5; r++) {
        cl_event up;
        size_t none = 0;
        cst_launch l;
        for (int i = 0; i < N; i++) in[i] = (float)(r * 7 + i % 1000);
        ck_ok(cst_tensor_write_async(x, 0, in, N * 4, &up));
        cst_launch_begin(&l, mem, "fill", "fill", NULL);
        cst_launch_update(&l, "y", x, 0);
        cst_launch_float(&l, "value", 1);
        cst_launch_ulong(&l, "n", 0);
        ck_ok(cst_launch_run(&l, 1, &none, NULL));
        ck_ok(cst_cast(mem, y, x));
        ck_ok(cst_tensor_read(y, 0, out, N * 4));
        ck_ok(cst_mem_wait(&up));
        ck_assert_msg(!memcmp(in, out, N * 4), "round %d", r);
    }
    free(in), free(out);
    cst_tensor_free(x), cst_tensor_free(y);
}
END_TEST

START_TEST(parts_and_counters)
{
    cst_tensor *t = op_tensor("t", CST_DATA, 1000, 0, NULL);
    float in[1000], out[1000];
    for (int i = 0; i < 1000; i++) in[i] = (float)i;
    cst_mem_stats before = stats_of(mem);
    ck_ok(cst_tensor_write(t, 0, in, 4000));
    ck_ok(cst_tensor_write(t, 400, in, 36)); /* elements 100 to 108 */
    ck_ok(cst_tensor_write(t, 8, in, 0));
    ck_ok(cst_tensor_read(t, 0, out, 4000));
    ck_ok(cst_tensor_read(t, 3996, out, 4));
    ck_ok(cst_tensor_read(t, 4000, out, 0));
    cst_mem_stats after = stats_of(mem);
    ck_assert_uint_eq(after.h2d_bytes - before.h2d_bytes, 4036);
    ck_assert_uint_eq(after.d2h_bytes - before.d2h_bytes, 4004);
    ck_assert(out[0] == 999);
    for (int i = 1; i < 1000; i++) ck_assert(out[i] == (float)(i >= 100 && i < 109 ? i - 100 : i));
    cl_event none = NULL;
    ck_ok(cst_mem_wait(&none));
    op_check();
    cst_tensor_free(t);
}
END_TEST

START_TEST(two_managers_do_not_disturb_each_other)
{
    cst_mem *m[2] = {manager(8 * MIB), manager(4 * MIB)};
    cst_tensor *t[2][4];
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 2; k++) {
            t[k][i] = tensor(m[k], k ? "right" : "left", 60000 + 1000 * i);
            ck_ok(cst_fill(m[k], t[k][i], (float)(10 * k + i)));
        }
    cst_tensor_free(t[0][1]);
    t[0][1] = tensor(m[0], "left again", 60000);
    ck_ok(cst_fill(m[0], t[0][1], 1));
    for (int k = 0; k < 2; k++) {
        ck_ok(cst_mem_check(m[k]));
        ck_assert_uint_eq(stats_of(m[k]).tensors, 4);
        ck_assert(stats_of(m[k]).reserved <= stats_of(m[k]).budget && stats_of(m[k]).d2h_bytes == 0);
        for (int i = 0; i < 4; i++) all_equal(t[k][i], (float)(10 * k + i));
    }
    for (int i = 0; i < 4; i++) cst_tensor_free(t[0][i]);
    ck_ok(cst_mem_free(m[0]));
    for (int i = 0; i < 4; i++) all_equal(t[1][i], (float)(10 + i));
    for (int i = 0; i < 4; i++) cst_tensor_free(t[1][i]);
    ck_ok(cst_mem_free(m[1]));
}
END_TEST

static int all_bytes(const unsigned char *p, int want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != want) return 0;
    return 1;
}

START_TEST(host_memory)
{
    static const size_t sizes[] = {1, 4096, 5000, 3 << 20, 17 << 20};
    unsigned char *p[5];
    uint64_t sum = 0;
    for (int i = 0; i < 5; i++) {
        ck_ok(cst_host_alloc((void **)&p[i], mem, sizes[i]));
        ck_assert(all_bytes(p[i], 0, sizes[i]));
        memset(p[i], i + 1, sizes[i]);
        sum += sizes[i];
    }
    ck_assert(stats_of(mem).host_bytes == sum && stats_of(mem).host_peak == sum);
    for (int i = 0; i < 5; i++) ck_assert(all_bytes(p[i], i + 1, sizes[i]));
    cst_tensor *t = op_tensor("t", CST_DATA, 17 << 18, 0, (float *)p[4]); /* good for transfers */
    ck_ok(cst_tensor_read(t, 0, p[4], sizes[4]));
    ck_assert(p[4][0] == 5 && p[4][sizes[4] - 1] == 5);
    cst_tensor_free(t);
    cst_host_free(mem, NULL);
    for (int i = 0; i < 4; i++) cst_host_free(mem, p[i]); /* the last is freed with the manager */
    ck_assert(stats_of(mem).host_bytes == sizes[4] && stats_of(mem).host_peak == sum);
}
END_TEST

/* --- launches ------------------------------------------------------------------------------------------- */

static cst_status launch(cst_tensor *t, int64_t at, const char *y, const char *value, const char *n, int as_buffer)
{
    cst_launch l;
    size_t one = 1;
    cst_launch_begin(&l, mem, "fill", "fill", NULL);
    if (y) cst_launch_update(&l, y, t, at);
    if (value && as_buffer) cst_launch_update(&l, value, t, 0);
    else if (value) cst_launch_float(&l, value, 1);
    if (n) cst_launch_ulong(&l, n, 1);
    return cst_launch_run(&l, 1, &one, NULL);
}

START_TEST(launch_arguments_are_checked)
{
    cst_tensor *t = op_tensor("t", CST_DATA, 8, 0, NULL);
    cst_launch l;
    ck_ok(launch(t, 0, "y", "value", "n", 0));
    ck_fails(launch(t, 0, "x", "value", "n", 0), CST_STATE, "\"x\"");
    ck_fails(launch(t, 0, "y", "value", NULL, 0), CST_STATE, "\"n\" was not given");
    ck_fails(launch(t, 0, NULL, "value", "n", 0), CST_STATE, "\"y\" was not given");
    ck_fails(launch(t, 0, "y", "value", "n", 1), CST_STATE, "\"value\"");
    ck_fails(launch(t, 0, "value", "value", "n", 0), CST_STATE, "\"value\"");
    ck_fails(launch(t, 9, "y", "value", "n", 0), CST_STATE, "element 9 of 8");
    ck_fails(launch(t, -1, "y", "value", "n", 0), CST_STATE, "element -1");
    cst_launch_begin(&l, mem, "fill", "no_such", NULL);
    ck_fails(cst_launch_run(&l, 1, (size_t[]){1}, NULL), CST_STATE, "no_such");
    cst_launch_begin(&l, mem, "no_file", "fill", NULL);
    ck_fails(cst_launch_run(&l, 1, (size_t[]){1}, NULL), CST_STATE, "no_file");
    cst_launch_begin(&l, mem, "fill", "fill", NULL);
    cst_launch_int(&l, "n", (int64_t)1 << 31);
    ck_fails(cst_launch_run(&l, 1, (size_t[]){1}, NULL), CST_STATE, "doesn't fit");
    cst_launch_begin(&l, mem, "fill", "fill", NULL);
    cst_launch_ulong(&l, "n", 1);
    cst_launch_ulong(&l, "n", 1);
    ck_fails(cst_launch_run(&l, 1, (size_t[]){1}, NULL), CST_STATE, "given twice");
    ck_assert(!t->pins);
    op_check();
    cst_tensor_free(t);
}
END_TEST

/* What a kernel was bound to is kept between launches: it must follow every change, of values, tensors and places, and
 * a manager whose buffers may have the handles of another one's. */
START_TEST(bound_arguments_follow_their_values)
{
    for (int turn = 0; turn < 3; turn++) {
        cst_mem *m = manager(MIB);
        cst_tensor *t[2] = {tensor(m, "first", 1000), tensor(m, "second", 1000)};
        for (int r = 0; r < 6; r++) {
            ck_ok(cst_fill(m, t[r % 2], (float)(r / 3)));
            all_equal(t[r % 2], (float)(r / 3));
            if (r == 3) cst_tensor_drop(t[0]); /* and comes back */
        }
        all_equal(t[0], 1), all_equal(t[1], 1);
        cst_tensor_free(t[0]), cst_tensor_free(t[1]);
        ck_ok(cst_mem_free(m));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("memory");
    TCase *tc = op_case(s, "memory");
    tcase_add_test(tc, the_budget_is_exact);
    tcase_add_test(tc, the_rest_of_a_budget_is_used);
    tcase_add_test(tc, scratch_of_a_library_is_inside_the_budget);
    tcase_add_test(tc, budgets_beyond_the_device);
    tcase_add_test(tc, tensors_are_checked);
    tcase_add_test(tc, an_empty_tensor_cannot_be_read);
    tcase_add_test(tc, leftovers_are_reported);
    tcase_add_test(tc, guards_see_an_overrun);
    tcase_add_test(tc, a_plan_is_exactly_what_the_step_takes);
    tcase_add_test(tc, a_plan_over_the_budget_is_refused_with_both_numbers);
    tcase_add_test(tc, transfers_are_ordered_against_kernels);
    tcase_add_test(tc, a_dropped_place_is_reused_in_order);
    tcase_add_test(tc, an_empty_launch_keeps_the_order);
    tcase_add_test(tc, parts_and_counters);
    tcase_add_test(tc, two_managers_do_not_disturb_each_other);
    tcase_add_test(tc, host_memory);
    tcase_add_test(tc, launch_arguments_are_checked);
    tcase_add_test(tc, bound_arguments_follow_their_values);
    return op_main(s);
}
