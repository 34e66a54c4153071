/* Learning rate schedules: the formulas at their corners, and a whole curve. */
#include "testing.h"

#include <math.h>

#include "optim/schedule.h"

static void close_to(double got, double want)
{
    ck_assert_msg(fabs(got - want) <= 1e-15 + 1e-12 * fabs(want), "%.17g, wanted %.17g", got, want);
}

START_TEST(warms_up_then_decays_linearly)
{
    cst_schedule s = {CST_SCHEDULE_LINEAR, 1e-2, 3, 10};
    static const double want[] = {1e-2 / 3,     2e-2 / 3, 1e-2, 1e-2, 1e-2 * 6 / 7, 1e-2 * 5 / 7, 1e-2 * 4 / 7, 1e-2 * 3 / 7,
                                  1e-2 * 2 / 7, 1e-2 / 7, 0,    0};
    for (int t = 0; t < 12; t++) close_to(cst_schedule_lr(&s, t), want[t]);
}
END_TEST

START_TEST(cosine_meets_its_corners)
{
    cst_schedule s = {CST_SCHEDULE_COSINE, 2.0, 0, 8};
    close_to(cst_schedule_lr(&s, 0), 2.0);
    close_to(cst_schedule_lr(&s, 4), 1.0);
    close_to(cst_schedule_lr(&s, 2), 1 + sqrt(0.5));
    close_to(cst_schedule_lr(&s, 8), 0);
}
END_TEST

START_TEST(constant_stays)
{
    cst_schedule s = {CST_SCHEDULE_CONSTANT, 0.5, 2, 4};
    close_to(cst_schedule_lr(&s, 0), 0.25);
    for (int t = 1; t < 20; t++) close_to(cst_schedule_lr(&s, t), 0.5);
}
END_TEST

START_TEST(a_run_of_warmup_only_never_divides_by_zero)
{
    cst_schedule s = {CST_SCHEDULE_LINEAR, 1, 4, 4};
    close_to(cst_schedule_lr(&s, 3), 1);
    close_to(cst_schedule_lr(&s, 4), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("schedule");
    TCase *tc = tcase_create("schedule");
    tcase_add_test(tc, warms_up_then_decays_linearly);
    tcase_add_test(tc, cosine_meets_its_corners);
    tcase_add_test(tc, constant_stays);
    tcase_add_test(tc, a_run_of_warmup_only_never_divides_by_zero);
    suite_add_tcase(s, tc);
    return test_run(s);
}
