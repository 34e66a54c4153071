/* Predictions with work of the host between operators (cst_plan_seconds): steps of four operators of a second each, every other time
 * counted by hand. A tensor takes a second to go up or down. */
#include "testing.h"

#include "memory/memory.h"
#include "memory/plan.h"

#define BYTES 1024

typedef struct step {
    cst_trace *t;
    cst_plan *p;
    int w[2], g[2];          /* weights and gradients of two layers: forward 0, 1, backward 1, 0 */
} step;

/* passing: gradients live in their operators only, and share a place. */
static step make(int passing)
{
    static const char *const op[] = {"forward 0", "forward 1", "backward 1", "backward 0"};
    step s;
    ck_ok(cst_trace_create(&s.t));
    s.t->rates = (cst_rates){.up = BYTES, .down = BYTES, .both = 1, .memory = 1e9, .flops = 1e9, .launch = 1e-9};
    for (int k = 0; k < 2; k++) {
        ck_ok(cst_trace_add_tensor(s.t, k ? "w1" : "w0", CST_PARAM, BYTES, 1, 1, &s.w[k]));
        ck_ok(cst_trace_add_tensor(s.t, k ? "g1" : "g0", CST_GRAD, BYTES, !passing, !passing, &s.g[k]));
    }
    for (int k = 0; k < 4; k++) {
        int layer = k == 1 || k == 2;
        ck_ok(cst_trace_add_moment(s.t, op[k], 0));
        s.t->moment[k].seconds = 1;
        ck_ok(cst_trace_add_use(s.t, s.w[layer], CST_READ, 0));
        if (k > 1) ck_ok(cst_trace_add_use(s.t, s.g[layer], CST_WRITE, 0));
    }
    ck_ok(cst_plan_make(&s.p, s.t, 8 * BYTES));
    ck_assert_double_eq_tol(s.p->seconds, 4, 1e-6);
    return s;
}

static void drop(step *s)
{
    cst_plan_free(s->p);
    cst_trace_free(s->t);
}

static void takes(const step *s, double seconds, const cst_plan_host *h)
{
    double found;
    ck_ok(cst_plan_seconds(&found, s->p, s->t, h));
    ck_assert_double_eq_tol(found, seconds, 1e-6);
}

static void one_takes(const step *s, double seconds, cst_plan_host_task x)
{
    takes(s, seconds, &(cst_plan_host){.task = &x, .tasks = 1, .share = 1, .transfers = 1});
}

START_TEST(work_hides_behind_operators_or_not)
{
    step s = make(0);
    takes(&s, 4, &(cst_plan_host){.tasks = 0});
    /* Layer 1's gradient is here when the step ends; its weight is needed a second later. */
    one_takes(&s, 4, (cst_plan_host_task){.made = 2, .from = s.g[1], .down = BYTES, .after = 3, .seconds = 0.5, .before = 1, .tensor = -1});
    one_takes(&s, 5, (cst_plan_host_task){.made = 2, .from = s.g[1], .down = BYTES, .after = 3, .seconds = 2, .before = 1, .tensor = -1});
    /* Layer 0's comes a second after the step, and its weight is needed at once. */
    one_takes(&s, 6, (cst_plan_host_task){.made = 3, .from = s.g[0], .down = BYTES, .after = 3, .seconds = 1, .before = 0, .tensor = -1});
    /* In the same step: down while nothing else happens, then the work, then the last operator. */
    one_takes(&s, 6, (cst_plan_host_task){.made = 2, .from = s.g[1], .down = BYTES, .after = 2, .seconds = 1, .before = 3, .tensor = -1});
    drop(&s);
}
END_TEST

/* The host enqueues a step's operators in turn with its work. */
START_TEST(enqueueing_takes_time)
{
    step s = make(0);
    cst_plan_host_task x = {.made = 3, .from = -1, .after = 3, .seconds = 1, .before = 2, .tensor = -1};
    s.t->enqueue = 0.25;
    one_takes(&s, 4, x); /* half a second for operators 0 and 1, then the work */
    s.t->enqueue = 1.25;
    one_takes(&s, 6, x); /* 2.5 for two operators, 1, 2.5 for the others: operators 2 and 3 are done 2 later than the work */
    s.t->enqueue = 0;
    one_takes(&s, 4, x);
    drop(&s);
}
END_TEST

START_TEST(one_task_after_another)
{
    step s = make(0);
    cst_plan_host_task x[2] = {{.made = 1, .from = -1, .after = 3, .seconds = 1, .before = 0, .tensor = -1},
                               {.made = 1, .from = -1, .after = 3, .seconds = 2, .before = 1, .tensor = -1}};
    /* The first operator waits a second; the second task takes two more, of which that operator hides one. */
    takes(&s, 6, &(cst_plan_host){.task = x, .tasks = 2, .share = 1, .transfers = 1});
    drop(&s);
}
END_TEST

START_TEST(what_goes_up_is_waited_for)
{
    step s = make(0);
    cst_plan_host_task x = {.made = 3, .from = -1, .after = 3, .seconds = 1, .before = 0, .up = BYTES, .tensor = -1};
    one_takes(&s, 5, x);
    x.tensor = s.w[1]; /* used a second later */
    one_takes(&s, 5, x);
    x.tensor = s.w[0];
    one_takes(&s, 6, x);
    drop(&s);
}
END_TEST

/* Weight 0 comes anew for each use, and its update takes half a second: an upload begun before would be for nothing. */
START_TEST(uploads_wait_for_what_is_made_anew)
{
    step s;
    ck_ok(cst_trace_create(&s.t));
    s.t->rates = (cst_rates){.up = BYTES, .down = BYTES, .both = 1, .memory = 1e9, .flops = 1e9, .launch = 1e-9};
    for (int k = 0; k < 2; k++) ck_ok(cst_trace_add_tensor(s.t, k ? "w1" : "w0", CST_PARAM, BYTES, 1, 0, &s.w[k]));
    for (int k = 0; k < 2; k++) {
        ck_ok(cst_trace_add_moment(s.t, "use", 0));
        s.t->moment[k].seconds = 3;
        ck_ok(cst_trace_add_use(s.t, s.w[k], CST_READ, 0));
    }
    ck_ok(cst_plan_make(&s.p, s.t, BYTES)); /* one place: each goes up when the other has been used */
    ck_assert_uint_eq(s.p->up_count, 2);
    takes(&s, 8, &(cst_plan_host){.tasks = 0});
    cst_plan_host_task x = {.made = 1, .from = -1, .after = 1, .seconds = 0.5, .before = 0, .tensor = s.w[0]};
    one_takes(&s, 8.5, x); /* before the upload */
    x.before = 1;
    x.tensor = s.w[1];
    one_takes(&s, 8, x);
    drop(&s);
}
END_TEST

START_TEST(both_are_slower_beside_each_other)
{
    step s = make(0);
    cst_plan_host_task x[2] = {{.made = 0, .from = -1, .after = 3, .seconds = 2, .before = 0, .tensor = -1},
                               {.made = 3, .from = s.g[0], .down = 2 * BYTES, .after = 3, .seconds = 0, .before = 0, .tensor = -1}};
    /* One direction costs half of what both do: the host runs at 0.75 and is done after 8/3 s. Of the two seconds of transfer 4/3 are done by
     * then, 2/3 are left. */
    takes(&s, 4 + 8.0 / 3 + 2.0 / 3, &(cst_plan_host){.task = x, .tasks = 2, .share = 0.5, .transfers = 0.5});
    takes(&s, 6, &(cst_plan_host){.task = x, .tasks = 2, .share = 1, .transfers = 1});
    drop(&s);
}
END_TEST

START_TEST(a_place_is_taken_until_its_content_is_down)
{
    step s = make(1);
    ck_assert_uint_eq(s.p->live_peak, 3 * BYTES);
    cst_plan_host_task x = {.made = 2, .from = s.g[1], .down = BYTES, .after = 3, .seconds = 0.5, .before = 1, .tensor = -1};
    one_takes(&s, 5, x);
    x.from = -1;
    one_takes(&s, 4, x);
    drop(&s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan_host");
    TCase *c = tcase_create("plan_host");
    tcase_add_test(c, work_hides_behind_operators_or_not);
    tcase_add_test(c, enqueueing_takes_time);
    tcase_add_test(c, one_task_after_another);
    tcase_add_test(c, what_goes_up_is_waited_for);
    tcase_add_test(c, uploads_wait_for_what_is_made_anew);
    tcase_add_test(c, both_are_slower_beside_each_other);
    tcase_add_test(c, a_place_is_taken_until_its_content_is_down);
    suite_add_tcase(s, c);
    return test_run(s);
}
