/* Every call that can fail, failed once: the Nth buffer, host memory, transfer, kernel and marker of an iteration of a toy
 * program and of a training step, for every N. Built with the memory room compiled with -DCST_FAULTS (src/memory/fault.h).
 */
#include "model_testing.h"
#include "migration_testing.h"

static long count[CST_FAULT_KINDS], fail_at[CST_FAULT_KINDS]; /* 0: never; negative: that one and all after it */
static int failed;

int cst_fault(cst_fault_kind k)
{
    count[k]++;
    int now = fail_at[k] > 0 ? count[k] == fail_at[k] : fail_at[k] < 0 && count[k] >= -fail_at[k];
    failed += now;
    return now;
}

static void arm(cst_fault_kind k, long n)
{
    memset(count, 0, sizeof count);
    memset(fail_at, 0, sizeof fail_at);
    failed = 0;
    fail_at[k] = n;
}

static void disarm(void)
{
    memset(fail_at, 0, sizeof fail_at);
}

/* --- the toy --------------------------------------------------------------------------------------------- */

static void toy_program_for_faults(toy *y, uint64_t seed, uint64_t *least)
{
    uint64_t all;
    toy_make(y, seed, 8, 3, 18, 500, 6000, 1);
    toy_needs(y, &all, least);
    *least += (all - *least) / 4;
}

/* One iteration; an operator that fails is called again: that is the way to go on (contract 6 of memory.h). Returns how many
 * calls failed. */
static int stubborn_iteration(toy *y)
{
    int refused = 0;
    cst_status st;
    while ((st = cst_mem_step(y->m)) != CST_OK) {
        ck_assert_msg(++refused < 3, "%s: %s", cst_status_text(st), cst_detail());
        ck_ok(cst_mem_check(y->m));
    }
    for (int k = 0; k < y->ops; k++) {
        while ((st = toy_on_device(y, &y->op[k], "mix")) != CST_OK) {
            ck_assert_msg(++refused < 3, "%s: %s", cst_status_text(st), cst_detail());
            ck_assert(cst_detail()[0]);
            ck_ok(cst_mem_check(y->m));
        }
        toy_on_host(y, &y->op[k]);
        toy_drop_transients(y, k + 1);
    }
    while ((st = cst_mem_step_end(y->m)) != CST_OK) ck_assert_msg(++refused < 3, "%s: %s", cst_status_text(st), cst_detail());
    toy_between(y);
    return refused;
}

START_TEST(every_call_of_an_iteration_may_fail)
{
    for (uint64_t seed = 1; seed <= 2; seed++) {
        toy y;
        uint64_t budget;
        int reported = 0;
        disarm();
        toy_program_for_faults(&y, seed, &budget);
        toy_open(&y, budget);
        toy_plan(&y);
        ck_ok(cst_mem_plan_commit(y.m));
        toy_start(&y);
        for (int k = 0; k < 4; k++) toy_iteration(&y);
        for (long n = 1;; n++) {
            arm((cst_fault_kind)_i, n);
            reported += stubborn_iteration(&y);
            int fired = failed;
            disarm();
            ck_ok(cst_mem_check(y.m));
            toy_iteration(&y); /* an unharmed one, by the plan */
            toy_compare(&y);
            if (!fired) break;
        }
        if (_i >= CST_FAULT_TRANSFER) ck_assert_int_gt(reported, 2);
        toy_compare(&y);
        toy_close(&y); /* fails when anything was left */
        toy_free(&y);
    }
}
END_TEST

/* Planning and the first iterations of a new manager: it says so, and can be closed or planned again. */
START_TEST(every_call_of_a_beginning_may_fail)
{
    for (long n = 1, fired = 1; fired; n++) {
        toy y;
        uint64_t budget;
        disarm();
        toy_program_for_faults(&y, 5, &budget);
        toy_open(&y, budget);
        toy_plan(&y);
        arm((cst_fault_kind)_i, n);
        cst_status st = cst_mem_plan_commit(y.m);
        fired = failed;
        if (st != CST_OK) {
            ck_assert(fired && cst_detail()[0]);
            disarm();
            ck_ok(cst_mem_check(y.m));
            if (cst_mem_planning(y.m)) ck_ok(cst_mem_plan_commit(y.m));
            else {
                toy_plan(&y);
                ck_ok(cst_mem_plan_commit(y.m));
            }
        }
        disarm();
        toy_start(&y);
        toy_iteration(&y);
        toy_iteration(&y);
        toy_compare(&y);
        toy_close(&y);
        toy_free(&y);
    }
}
END_TEST

/* --- training -------------------------------------------------------------------------------------------- */

static cst_status train_step(cst_session *s, int t, int *at_end)
{
    int32_t ids[24];
    *at_end = 0;
    CST_TRY(cst_session_begin(s, 1e-2, t + 1));
    for (int i = 0; i < 24; i++) ids[i] = (int32_t)(cst_random_u64(3, (uint64_t)t, (uint64_t)i) % (uint64_t)s->o.config.vocab_size);
    CST_TRY(cst_batch_set(s->batch, ids, NULL, s->o.config.vocab_size));
    CST_TRY(cst_session_micro(s, (uint64_t)t));
    *at_end = 1;
    return cst_optim_step(s->optim);
}

static void train_start(cst_session *s)
{
    ck_ok(cst_model_init(s->model, 1));
    ck_ok(cst_session_start(s));
}

/* Loss and weights, malloc'd. */
static char *results(cst_session *s, size_t *bytes)
{
    const cst_model *M = s->model;
    ck_ok(cst_session_settle(s));
    *bytes = 4;
    for (int i = 0; i < M->params; i++) *bytes += M->w[i]->bytes;
    char *all = malloc(*bytes), *at = all + 4;
    ck_ok(cst_tensor_read(s->losses, 0, all, 4));
    for (int i = 0; i < M->params; at += M->w[i++]->bytes) ck_ok(cst_tensor_read(M->w[i], 0, at, M->w[i]->bytes));
    return all;
}

/* With half of the memory that all would take, so that tensors migrate. */
static cst_session *open_in_half(cst_session_options *o, int host_layers)
{
    cst_session *s;
    ck_ok(cst_session_open(&s, o));
    o->device_mem = s->planned / 2;
    o->host_layers = host_layers;
    ck_ok(cst_session_close(s, CST_OK));
    ck_ok(cst_session_open(&s, o));
    ck_assert(cst_mem_migrating(s->mem));
    return s;
}

/* What two steps make when nothing fails. */
static char *two_steps(cst_session *s, size_t *bytes)
{
    int at_end;
    train_start(s);
    for (int t = 0; t < 2; t++) ck_ok(train_step(s, t, &at_end));
    return results(s, bytes);
}

/* Whatever fails, nothing is lost: the step is begun anew, whose forward pass updates what isn't updated yet, or its end is
 * called again. Step 0 is unharmed, so that step 1 has its update to do; in odd rounds of loops settling
 * fails; from the second round on the host updates the layers. */
START_TEST(every_call_of_a_training_step_may_fail)
{
    int at_end, settling = _i / CST_FAULT_KINDS % 2;
    cst_fault_kind kind = (cst_fault_kind)(_i % CST_FAULT_KINDS);
    cst_session_options o = fixture_options("tiny-pre", 2, 12);
    cst_session *s;
    size_t bytes;
    disarm();
    o.with_optim = 1;
    o.dropout = 0.1;
    s = open_in_half(&o, _i / CST_FAULT_KINDS / 2 * (int)o.config.num_hidden_layers);
    char *want = two_steps(s, &bytes);
    for (long n = 1, fired = 1; fired; n++) {
        train_start(s);
        for (int t = 0; t < 1 + settling; t++) ck_ok(train_step(s, t, &at_end));
        arm(kind, n);
        cst_status st = settling ? cst_session_settle(s) : train_step(s, 1, &at_end);
        fired = failed;
        disarm();
        ck_ok(cst_mem_check(s->mem));
        ck_assert((st != CST_OK) == (fired != 0));
        if (st != CST_OK) {
            ck_assert(cst_detail()[0]);
            if (settling) ck_ok(cst_session_settle(s));
            else if (at_end) ck_ok(cst_optim_step(s->optim));
            else ck_ok(train_step(s, 1, &at_end));
        }
        char *got = results(s, &bytes);
        ck_assert_msg(!memcmp(got, want, bytes), "call %ld of kind %d: other results", n, _i);
        free(got);
    }
    free(want);
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

/* Without clipping layers are updated in backward, so a step that fails there can't be begun anew, and says so; its end can be
 * called again. Starting over goes on. */
START_TEST(without_clipping_a_step_may_fail)
{
    int at_end, torn = 0, ended = 0;
    cst_session_options o = fixture_options("tiny-pre", 2, 12);
    cst_session *s;
    size_t bytes;
    disarm();
    o.with_optim = 1;
    o.optim.clip = 0;
    s = open_in_half(&o, 0);
    char *want = two_steps(s, &bytes);
    for (long n = 1, fired = 1; fired; n++) {
        train_start(s);
        ck_ok(train_step(s, 0, &at_end));
        arm((cst_fault_kind)_i, n);
        cst_status st = train_step(s, 1, &at_end);
        fired = failed;
        disarm();
        ck_ok(cst_mem_check(s->mem));
        ck_assert((st != CST_OK) == (fired != 0));
        if (st != CST_OK && !at_end && cst_session_begin(s, 1e-2, 2) != CST_OK) {
            torn++;
            ck_assert_ptr_nonnull(strstr(cst_detail(), "go on from a checkpoint"));
            ck_fails(cst_session_settle(s), CST_STATE, "go on from a checkpoint");
            continue;
        }
        if (st != CST_OK && at_end) {
            ended++;
            ck_ok(cst_optim_step(s->optim));
        } else if (st != CST_OK) {
            ck_ok(train_step(s, 1, &at_end));
        }
        char *got = results(s, &bytes);
        ck_assert_msg(!memcmp(got, want, bytes), "call %ld of kind %d: other results", n, _i);
        free(got);
    }
    ck_assert(torn > 0 && ended > 0);
    free(want);
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

/* Nothing works any more: a status, and everything is released. */
START_TEST(a_lost_device_is_a_clean_stop)
{
    cst_session_options o = fixture_options("tiny-post", 2, 12);
    int at_end;
    o.with_optim = 1;
    disarm();
    cst_session *s;
    ck_ok(cst_session_open(&s, &o));
    o.device_mem = s->planned / 2;
    ck_ok(cst_session_close(s, CST_OK));
    for (long n = 1; n < 60; n += 7) {
        ck_ok(cst_session_open(&s, &o));
        train_start(s);
        ck_ok(train_step(s, 0, &at_end));
        memset(count, 0, sizeof count);
        for (int k = 0; k < CST_FAULT_KINDS; k++) fail_at[k] = -n;
        ck_assert(train_step(s, 1, &at_end) != CST_OK);
        ck_assert(train_step(s, 1, &at_end) != CST_OK);
        ck_assert(cst_session_close(s, CST_DEVICE) == CST_DEVICE);
        disarm();
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("migration faults");
    TCase *tc = tcase_create("faults");
    tcase_set_timeout(tc, 0);
    tcase_add_unchecked_fixture(tc, toy_build, toy_unbuild);
    tcase_add_loop_test(tc, every_call_of_an_iteration_may_fail, 0, CST_FAULT_KINDS);
    tcase_add_loop_test(tc, every_call_of_a_beginning_may_fail, 0, CST_FAULT_KINDS);
    for (int round = 0; round < 4; round++)
        tcase_add_loop_test(tc, every_call_of_a_training_step_may_fail, round * CST_FAULT_KINDS + CST_FAULT_TRANSFER, (round + 1) * CST_FAULT_KINDS);
    tcase_add_loop_test(tc, without_clipping_a_step_may_fail, CST_FAULT_TRANSFER, CST_FAULT_KINDS);
    tcase_add_test(tc, a_lost_device_is_a_clean_stop);
    suite_add_tcase(s, tc);
    return op_main(s);
}
