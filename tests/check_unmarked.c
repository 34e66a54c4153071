/* Programs that never mark their iterations: found, planned and followed by the manager, against the same program on the host, to
 * the bit, whatever they do in between and wherever they stop. */
#include "migration_testing.h"

#include "memory/period_internal.h"
#include "memory/plan.h"

static void make(toy *y, uint64_t seed)
{
    toy z = {.seed = seed};
    int persistent = 6 + (int)toy_random(&z, 10), transient = (int)toy_random(&z, 6), ops = 33 + (int)toy_random(&z, 30);
    toy_make(y, seed, persistent, transient, ops, 1000, 20000, seed % 3 == 1);
    if (seed % 4 == 1) y->guard = 256;
    if (seed % 5 == 2) y->fixed[seed % (uint64_t)persistent] = 1;
}

/* On demand, tensors that never leave and operators in operators find their places by luck where there is little room. */
static int ample(const toy *y)
{
    int found = 0;
    for (int i = 0; i < y->persistent; i++) found |= y->fixed[i];
    for (int k = 0; k < y->ops; k++) found |= y->op[k].kind == TOY_NEST;
    return found;
}

/* A manager that may migrate and was told nothing. part: of what is between the smallest budget and everything. */
static void begin(toy *y, double part)
{
    uint64_t all, least;
    toy_needs(y, &all, &least);
    toy_open(y, least + (uint64_t)(part * (double)(all - least)));
    cst_mem_migrate(y->m, 0, UINT64_MAX);
    toy_start(y);
    for (int i = 0; i < y->persistent; i++) y->valid[i] = 1;
    for (int i = 0; i < y->persistent; i++) /* toy_start leaves out what an iteration overwrites */
        ck_ok(cst_tensor_write(y->t[i], 0, y->host[i], (size_t)y->count[i] * 4));
}

/* The operators from..to; what lives in an iteration only goes with its last use, all of it at the iteration's end. */
static void operate(toy *y, int from, int to)
{
    for (int k = from; k < to; k++) {
        ck_ok(toy_on_device(y, &y->op[k], "mix"));
        toy_on_host(y, &y->op[k]);
        toy_drop_transients(y, k + 1);
    }
}

static void stop(toy *y)
{
    toy_drop_transients(y, y->ops);
}

/* Everything, also what marked iterations may drop because the next one overwrites it. */
static void compare_all(toy *y)
{
    for (int i = 0; i < y->persistent; i++) toy_compare_part(y, i, 0, y->count[i]);
    for (int i = y->persistent; i < y->tensors; i++)
        if (y->t[i] && y->valid[i]) toy_compare_part(y, i, 0, y->count[i]);
    ck_ok(cst_mem_check(y->m));
    cst_mem_stats s = toy_stats(y);
    ck_assert(s.reserved_peak <= s.budget);
}

/* How many of the next iterations went by the plan from end to end, without anything on demand. */
static int planned(toy *y, int iterations)
{
    int n = 0;
    for (int k = 0; k < iterations; k++) {
        cst_mem_stats a = toy_stats(y), b;
        operate(y, 0, y->ops);
        stop(y);
        b = toy_stats(y);
        n += cst_mem_plan(y->m) && b.iterations > a.iterations && b.strays == a.strays && b.evictions == a.evictions;
    }
    return n;
}

START_TEST(iterations_are_found_and_planned)
{
    int late = 0, programs = 0;
    for (uint64_t seed = 1 + (uint64_t)_i; seed <= 120; seed += 6) {
        toy y;
        make(&y, seed);
        begin(&y, ample(&y) ? 4 : seed % 2 ? 0.75 : 0.5);
        ck_assert_int_eq(planned(&y, 2), 0); /* nothing is known yet */
        cst_mem_stats a, b;
        int first = planned(&y, 3);
        a = toy_stats(&y);
        compare_all(&y);
        int then = planned(&y, 6);
        b = toy_stats(&y);
        programs++;
        late += first < 1;
        ck_assert_msg(then == 6, "seed %llu: %d of 6 iterations planned (%d operators)", (unsigned long long)seed, then, y.ops);
        ck_assert_uint_eq(b.strays, 0);
        if (cst_mem_plan(y.m)->up_count) ck_assert(b.planned_moves > a.planned_moves);
        compare_all(&y);
        toy_close(&y);
        toy_free(&y);
    }
    ck_assert_msg(late == 0, "%d of %d programs had no planned iteration among the first five", late, programs);
}
END_TEST

/* Iterations that end anywhere, other operators, reads: no content is ever lost. */
START_TEST(nothing_is_lost_by_guessing)
{
    for (uint64_t seed = 1 + (uint64_t)_i; seed <= 60; seed += 6) {
        toy y;
        make(&y, seed);
        begin(&y, ample(&y) ? 4 : seed % 2 ? 0.75 : 0.5);
        for (int round = 0; round < 12; round++) {
            for (int k = 0; k < 3 + round % 3; k++) operate(&y, 0, y.ops), stop(&y);
            operate(&y, 0, (int)toy_random(&y, (uint32_t)y.ops)); /* and then something else */
            compare_all(&y);
            stop(&y);
            for (int k = 0; k < 3; k++) {
                int i = (int)toy_random(&y, (uint32_t)y.persistent), j = (int)toy_random(&y, (uint32_t)y.persistent);
                toy_op o = {TOY_KEEP, i, j, j, toy_random(&y, 1u << 20)};
                if (i == j) continue;
                ck_ok(toy_on_device(&y, &o, "outside"));
                toy_on_host(&y, &o);
            }
            compare_all(&y);
        }
        toy_close(&y);
        toy_free(&y);
    }
}
END_TEST

/* An evaluation pass (the first third of the operators, under other names) after every few iterations: the plan stays, and one
 * iteration after each is on demand. */
START_TEST(evaluation_passes_come_in_between)
{
    toy y;
    make(&y, 4);
    begin(&y, 0.5);
    planned(&y, 6);
    const cst_plan *plan = cst_mem_plan(y.m);
    ck_assert_ptr_nonnull(plan);
    for (int round = 0; round < 6; round++) {
        for (int k = 0; k < y.ops / 3; k++) {
            ck_ok(toy_on_device(&y, &y.op[k], "evaluate"));
            toy_on_host(&y, &y.op[k]);
            toy_drop_transients(&y, k + 1);
        }
        stop(&y);
        int n = planned(&y, 6);
        ck_assert_msg(n >= 4, "round %d: %d of 6 planned", round, n);
        compare_all(&y);
    }
    ck_assert_ptr_eq(cst_mem_plan(y.m), plan);
    toy_close(&y);
    toy_free(&y);
}
END_TEST

/* Micro-batches: a part of the iteration repeats in it. The longer one is learned. */
START_TEST(a_loop_inside_of_the_iteration)
{
    toy y;
    toy_make(&y, 77, 12, 0, 60, 5000, 20000, 0);
    begin(&y, 0.6);
    uint64_t strays = 0;
    for (int k = 0; k < 16; k++) {
        cst_mem_stats s = toy_stats(&y);
        if (k == 12) strays = s.strays;
        for (int micro = 0; micro < 4; micro++) operate(&y, 0, 30);
        operate(&y, 30, 60);
    }
    cst_mem_stats s = toy_stats(&y);
    ck_assert_uint_eq(s.strays, strays);
    ck_assert_int_eq(cst_mem_trace(y.m)->moments, 4 * 30 + 30);
    ck_assert(s.planned_moves > 0);
    compare_all(&y);
    toy_close(&y);
    toy_free(&y);
}
END_TEST

/* Another shape of batch, or another schedule: within four iterations the new one is planned. */
START_TEST(the_period_changes)
{
    toy y;
    toy_make(&y, 78, 12, 0, 90, 5000, 20000, 0);
    begin(&y, 0.6);
    static const int part[][2] = {{0, 90}, {10, 60}, {0, 90}, {30, 90}};
    for (int p = 0; p < 4; p++) {
        for (int k = 0; k < 4; k++) operate(&y, part[p][0], part[p][1]);
        uint64_t before = toy_stats(&y).strays;
        for (int k = 0; k < 4; k++) operate(&y, part[p][0], part[p][1]);
        ck_assert_uint_eq(toy_stats(&y).strays, before);
        ck_assert_ptr_nonnull(cst_mem_trace(y.m));
        ck_assert_int_eq(cst_mem_trace(y.m)->moments, part[p][1] - part[p][0]);
        compare_all(&y);
    }
    toy_close(&y);
    toy_free(&y);
}
END_TEST

/* Marks that come later take over; a program that never repeats anything is left alone. */
START_TEST(marks_take_over)
{
    toy y;
    make(&y, 8);
    begin(&y, 0.5);
    planned(&y, 6);
    for (int k = 0; k < 5; k++) {
        uint64_t strays = toy_stats(&y).strays;
        ck_ok(cst_mem_step(y.m));
        operate(&y, 0, y.ops);
        ck_ok(cst_mem_step_end(y.m));
        stop(&y);
        ck_assert_uint_eq(toy_stats(&y).strays, strays);
    }
    ck_assert_ptr_nonnull(cst_mem_plan(y.m));
    ck_assert_int_eq(cst_mem_trace(y.m)->moments, cst_mem_plan(y.m)->moments);
    ck_fails(cst_mem_accesses_save(y.m, "/proc/none"), CST_STATE, "without marks");
    toy_close(&y);
    begin(&y, 0.5);
    for (int k = 0; k < 300; k++) {
        toy_op o = {TOY_KEEP, (int)toy_random(&y, (uint32_t)y.persistent), 0, 1, toy_random(&y, 1u << 20)};
        if (o.dst < 2) continue;
        ck_ok(toy_on_device(&y, &o, "any"));
        toy_on_host(&y, &o);
    }
    ck_assert_ptr_null(cst_mem_plan(y.m));
    compare_all(&y);
    toy_close(&y);
    toy_free(&y);
}
END_TEST

/* clFFT's transforms and ours, within the budget and with even books. */
START_TEST(the_device_correlates_as_the_host)
{
    static const int64_t lengths[] = {1, 2, 63, 700, 4096, 50000};
    ck_ok(cst_mem_create(&mem, dev, 64 * MIB));
    for (int k = 0; k < 6; k++) {
        int64_t n = lengths[k];
        uint64_t *s = malloc((size_t)n * sizeof *s);
        float *r = malloc((size_t)(n / 2 + 1) * sizeof *r), *got = malloc((size_t)(n / 2 + 1) * sizeof *got);
        for (int64_t i = 0; i < n; i++) s[i] = cst_random_u64(5, 6, (uint64_t)i % 300) % 40;
        ck_ok(cst_period_correlate_host(r, s, n));
        ck_ok(cst_period_correlate_device(got, s, n, mem));
        for (int64_t l = 0; l <= n / 2; l++) {
            double views = 0; /* by definition */
            for (int64_t i = 0; n < 5000 && i + l < n; i++)
                for (int bit = 0; bit < CST_PERIOD_VIEWS; bit++) views += ((cst_period_mix(s[i]) ^ cst_period_mix(s[i + l])) >> bit & 1) ? -1 : 1;
            views /= CST_PERIOD_VIEWS;
            if (n < 5000) ck_assert_msg(fabs(r[l] - views) <= 1e-5 * (double)n, "host: r[%d] = %g, wanted %g", (int)l, r[l], views);
            ck_assert_msg(fabsf(r[l] - got[l]) <= 1e-5f * (float)n, "%d accesses: r[%d] = %g on the device, %g on the host", (int)n, (int)l, got[l], r[l]);
        }
        free(s), free(r), free(got);
    }
    cst_mem_stats st;
    cst_mem_get_stats(mem, &st);
    ck_assert_uint_eq(st.reserved, 0);
    ck_assert(st.reserved_peak <= st.budget && st.reserved_peak > 8 * 131072);
    ck_ok(cst_mem_free(mem));
    ck_ok(cst_mem_create(&mem, dev, MIB / 4));
    float r[2000];
    static uint64_t s[30000];
    ck_fails(cst_period_correlate_device(r, s, 30000, mem), CST_OVER_BUDGET, "budget");
    cst_mem_get_stats(mem, &st);
    ck_assert_uint_eq(st.reserved, 0);
    ck_ok(cst_mem_free(mem));
    mem = NULL;
}
END_TEST

int main(void)
{
    Suite *s = suite_create("unmarked");
    TCase *tc = tcase_create("unmarked");
    tcase_set_timeout(tc, 0);
    tcase_add_unchecked_fixture(tc, toy_build, toy_unbuild);
    tcase_add_loop_test(tc, iterations_are_found_and_planned, 0, 6);
    tcase_add_loop_test(tc, nothing_is_lost_by_guessing, 0, 6);
    tcase_add_test(tc, evaluation_passes_come_in_between);
    tcase_add_test(tc, a_loop_inside_of_the_iteration);
    tcase_add_test(tc, the_period_changes);
    tcase_add_test(tc, marks_take_over);
    tcase_add_test(tc, the_device_correlates_as_the_host);
    suite_add_tcase(s, tc);
    return op_main(s);
}
