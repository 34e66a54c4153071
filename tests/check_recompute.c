/* Groups that are computed again (memory/recompute.h), by a program without models: a chain of blocks of whole numbers, each
 * with an input that stays and a large inside that can be dropped and computed again. The same bits whatever is dropped.
 */
#include "migration_testing.h"

#include "memory/recompute.h"

#define BLOCKS 12
#define SMALL 2048           /* elements of a weight or an input */
#define LARGE (1 << 18)      /* of an inside */

typedef struct chain {
    cst_mem *m;
    cst_tensor *w[BLOCKS], *in[BLOCKS + 1], *inside[BLOCKS];
    int again;               /* blocks computed again */
    int recorded;            /* calls of record */
} chain;

static void make(chain *c, cst_tensor **t, int64_t n, cst_class cls)
{
    if (!*t) ck_ok(cst_tensor_create(t, c->m, cls, CST_F32, 1, &n, "t"));
}

static void drop(cst_tensor **t)
{
    cst_tensor_free(*t);
    *t = NULL;
}

/* dst = f(a, b), or with keep f(dst, a, b). */
static void apply(chain *c, cst_tensor *dst, int keep, cst_tensor *a, cst_tensor *b)
{
    static toy y; /* for its kernel */
    toy_op o = {keep ? TOY_KEEP : TOY_MIX, 0, 0, 0, 12345};
    y.m = c->m;
    y.count[0] = cst_tensor_count(dst);
    cst_use use[3] = {{a, CST_READ, NULL, 0}, {dst, keep ? CST_UPDATE : CST_WRITE, NULL, 0}, {b, CST_READ, NULL, 0}};
    ck_ok(cst_mem_acquire(c->m, "blend", use, 3, NULL, NULL));
    ck_ok(toy_enqueue(&y, &o, &use[0], &use[2], &use[1], 0, NULL));
    cst_mem_release(c->m, use, 3);
}

static void compute_inside(chain *c, int k)
{
    make(c, &c->inside[k], LARGE, CST_ACTIVATION);
    apply(c, c->inside[k], 0, c->in[k], c->w[k]);
}

static void iterate(chain *c)
{
    ck_ok(cst_mem_step(c->m));
    make(c, &c->in[0], SMALL, CST_ACTIVATION);
    ck_ok(cst_fill(c->m, c->in[0], 3));
    for (int k = 0; k < BLOCKS; k++) {
        compute_inside(c, k);
        make(c, &c->in[k + 1], SMALL, CST_ACTIVATION);
        apply(c, c->in[k + 1], 0, c->inside[k], c->in[k]);
        if (k < c->again) drop(&c->inside[k]);
    }
    for (int k = BLOCKS; k-- > 0;) { /* weights change by what came behind them */
        if (k < c->again) compute_inside(c, k);
        apply(c, c->in[k], 1, c->inside[k], c->in[k + 1]);
        apply(c, c->w[k], 1, c->inside[k], c->in[k + 1]);
        drop(&c->inside[k]);
        drop(&c->in[k + 1]);
    }
    drop(&c->in[0]);
    ck_ok(cst_mem_step_end(c->m));
}

static void take_down(chain *c)
{
    for (int k = 0; k < BLOCKS; k++) drop(&c->w[k]);
}

static cst_status record(void *user, int k)
{
    chain *c = user;
    ck_assert(k >= 0 && k <= BLOCKS);
    take_down(c);
    c->again = k;
    c->recorded++;
    CST_TRY(cst_mem_plan_begin(c->m));
    for (int i = 0; i < BLOCKS; i++) {
        make(c, &c->w[i], SMALL, CST_PARAM);
        CST_TRY(cst_tensor_place(c->w[i]));
    }
    iterate(c);
    return CST_OK;
}

static void open_chain(chain *c, uint64_t budget)
{
    memset(c, 0, sizeof *c);
    ck_ok(cst_mem_create(&c->m, dev, budget));
    cst_mem_migrate(c->m, 0, UINT64_MAX);
}

static void close_chain(chain *c)
{
    take_down(c);
    ck_ok(cst_mem_free(c->m));
}

/* Five iterations for real; the weights' bits. */
static void run(chain *c, uint32_t *bits)
{
    ck_ok(cst_mem_plan_commit(c->m));
    for (int k = 0; k < BLOCKS; k++) {
        for (int i = 0; i < SMALL; i++) bits[i] = (uint32_t)(k * 1000003 + i);
        ck_ok(cst_tensor_write(c->w[k], 0, bits, SMALL * 4));
    }
    for (int i = 0; i < 5; i++) iterate(c);
    for (int k = 0; k < BLOCKS; k++) ck_ok(cst_tensor_read(c->w[k], 0, bits + k * SMALL, SMALL * 4));
    cst_mem_stats s;
    cst_mem_get_stats(c->m, &s);
    ck_assert(s.reserved_peak <= s.budget);
    ck_assert_uint_eq(s.strays, 0);
    ck_ok(cst_mem_check(c->m));
}

/* Predicted seconds of each k, asked one by one; < 0: doesn't fit. */
static void predict_all(double *seconds, uint64_t budget, const cst_rates *r)
{
    chain c;
    open_chain(&c, 64 * MIB);
    cst_mem_suppose(c.m, budget, r);
    for (int k = 0; k <= BLOCKS; k++) {
        cst_plan *p;
        ck_ok(record(&c, k));
        cst_status st = cst_mem_plan_try(&p, NULL, c.m);
        seconds[k] = st == CST_OK ? p->seconds : -1;
        if (st == CST_OK) cst_plan_free(p);
        else ck_assert_int_eq(st, CST_OVER_BUDGET);
    }
    close_chain(&c);
}

/* Slow transfers and quick operators, the other way round, and between: in each the best of those that can be asked for. */
START_TEST(the_best_by_prediction_is_found)
{
    static const double wire[] = {1e8, 3e9, 1e10, 1e13};
    cst_rates r = {.up = wire[_i], .down = wire[_i], .both = 1, .memory = 1e10, .flops = 1e12, .launch = 1e-6};
    static uint32_t want[BLOCKS * SMALL], got[BLOCKS * SMALL];
    uint64_t budgets[] = {16 * MIB, 8 * MIB, 5 * MIB, 3 * MIB};
    chain c;
    open_chain(&c, 64 * MIB);
    ck_ok(record(&c, 0));
    run(&c, want);
    ck_assert(!cst_mem_migrating(c.m));
    close_chain(&c);
    for (int b = 0; b < 4; b++) {
        double seconds[BLOCKS + 1];
        int best;
        predict_all(seconds, budgets[b], &r);
        open_chain(&c, 64 * MIB);
        cst_mem_suppose(c.m, budgets[b], &r);
        ck_ok(cst_mem_groups(&best, NULL, &(cst_mem_search){.m = c.m, .n = BLOCKS, .near = -1, .record = record, .user = &c}));
        ck_assert_int_eq(c.again, best); /* that is what is recorded now */
        ck_assert_int_le(c.recorded, 13);
        ck_assert(seconds[best] >= 0);
        for (int k = 0; k <= BLOCKS; k++) {
            int asked = k % 3 == 0 || k == best - 1 || k == best + 1;
            if (asked && seconds[k] >= 0) ck_assert_msg(seconds[best] <= seconds[k], "%d: %g s, %d: %g s", best, seconds[best], k, seconds[k]);
        }
        if (b && _i == 0) ck_assert_int_gt(best, 0);
        if (!b || _i == 3) ck_assert_int_eq(best, 0);
        run(&c, got);
        ck_assert(cst_mem_migrating(c.m) || best || !b);
        ck_assert_msg(!memcmp(want, got, sizeof want), "%d blocks computed again: other bits", best);
        close_chain(&c);
    }
}
END_TEST

/* None fits: all groups are left recorded, and commit says what is needed. */
START_TEST(too_small_a_budget_is_said)
{
    chain c;
    int best = -1;
    uint64_t least;
    open_chain(&c, MIB);
    ck_ok(cst_mem_groups(&best, NULL, &(cst_mem_search){.m = c.m, .n = BLOCKS, .near = -1, .record = record, .user = &c}));
    ck_assert_int_eq(best, BLOCKS);
    ck_assert_int_eq(c.again, BLOCKS);
    ck_fails(cst_mem_plan_commit(c.m), CST_OVER_BUDGET, "budget");
    ck_ok(cst_mem_plan_least(&least, c.m));
    ck_assert(least > MIB && least < 2 * MIB);
    close_chain(&c);
}
END_TEST

static void write_much(void *user)
{
    char *p = user;
    for (size_t i = 0; i < 64 * MIB; i++) p[i] = (char)(p[i] + 1);
}

/* The host's work beside transfers, within the budget, with even books. */
START_TEST(the_hosts_speed_is_measured)
{
    chain c;
    cst_rates rates;
    cst_host_speed s;
    cst_mem_stats before, after;
    void *p;
    open_chain(&c, 3 * MIB);
    ck_ok(record(&c, 0));
    ck_ok(cst_host_alloc_pageable(&p, c.m, 64 * MIB));
    ck_ok(cst_mem_rates(&rates, c.m));
    cst_mem_get_stats(c.m, &before);
    ck_ok(cst_mem_host_speed(&s, c.m, write_much, p));
    cst_mem_get_stats(c.m, &after);
    ck_assert(s.seconds > 1e-4 && s.seconds < 60);
    ck_assert(s.share >= 0.1 && s.share <= 1 && s.transfers >= 0.1 && s.transfers <= 1);
    ck_assert_uint_eq(after.reserved, before.reserved);
    ck_assert_uint_eq(after.host_bytes, before.host_bytes);
    int times = *(char *)p;
    ck_assert_int_ge(times, 6); /* alone and beside them */
    cst_host_free(c.m, p);
    close_chain(&c);
}
END_TEST

static cst_status record_badly(void *user, int k)
{
    return k >= BLOCKS / 2 ? cst_fail(CST_INPUT, "no more than half") : record(user, k);
}

START_TEST(an_error_of_the_program_is_passed_on)
{
    chain c;
    int best = -1;
    open_chain(&c, 6 * MIB);
    ck_fails(cst_mem_groups(&best, NULL, &(cst_mem_search){.m = c.m, .n = BLOCKS, .near = -1, .record = record_badly, .user = &c}), CST_INPUT, "no more than half");
    ck_assert_int_eq(best, -1);
    close_chain(&c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("recompute");
    TCase *tc = tcase_create("recompute");
    tcase_set_timeout(tc, 0);
    tcase_add_unchecked_fixture(tc, toy_build, toy_unbuild);
    tcase_add_loop_test(tc, the_best_by_prediction_is_found, 0, 4);
    tcase_add_test(tc, too_small_a_budget_is_said);
    tcase_add_test(tc, an_error_of_the_program_is_passed_on);
    tcase_add_test(tc, the_hosts_speed_is_measured);
    suite_add_tcase(s, tc);
    return op_main(s);
}
