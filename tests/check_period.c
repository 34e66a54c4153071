/* Periods of sequences: of OPT steps (castor's own and made ones), disturbed, interrupted, changed; and none where there is none. */
#include "period_testing.h"


static const struct {
    const char *config;
    int64_t batch, seq;
} steps[] = {{"tests/fixtures/tiny-post/config.json", 2, 12}, {"opt-125m", 8, 1024}, {"opt-350m", 8, 1024}};
#define STEPS 3

static cst_period found(const tape *t)
{
    cst_period p, again;
    ck_ok(cst_period_find(&p, t->s, t->n, NULL));
    ck_ok(cst_period_find(&again, t->s, t->n, NULL));
    ck_assert(p.length == again.length && p.first == again.first && p.end == again.end);
    ck_assert(p.first >= 0 && p.end <= t->n && p.length <= p.span);
    for (int64_t i = p.first; p.exact && i + p.length < p.end; i++) ck_assert(t->s[i] == t->s[i + p.length]);
    if (p.exact) ck_assert(p.end - p.first >= 2 * p.length);
    return p;
}

static void finds(const char *what, const tape *t, int64_t length, int exact)
{
    cst_period p = found(t);
    ck_assert_msg(p.length == length && p.exact == exact, "%s: period %d%s in %d accesses, wanted %d", what, (int)p.length,
                  p.exact ? "" : " (not exact)", (int)t->n, (int)length);
}

START_TEST(three_iterations)
{
    tape s = opt_step(steps[_i].config, steps[_i].batch, steps[_i].seq, 1, 0), t = {NULL, 0, 0};
    static const double whole[] = {2.05, 2.5, 3, 7.4, 40};
    for (int k = 0; k < 5; k++) {
        t.n = 0;
        repeat(&t, &s, whole[k]);
        finds("iterations alone", &t, s.n, 1);
        uint64_t odd[40];
        for (int i = 0; i < 40; i++) odd[i] = cst_random_u64(9, 9, (uint64_t)i);
        t.n = 0;
        tape_add(&t, odd, 40); /* set-up, and a beginning somewhere else */
        tape_add(&t, s.s + s.n / 3, s.n - s.n / 3);
        repeat(&t, &s, whole[k]);
        finds("after set-up", &t, s.n, 1);
    }
    tape_free(&t), tape_free(&s);
}
END_TEST

START_TEST(made_steps)
{
    static const opt_shape o[] = {{2, 64, 256, 1000, 64, 32, 2, 1}, {12, 768, 3072, 50272, 768, 1024, 8, 1}, {24, 1024, 4096, 50272, 512, 1024, 8, 1}};
    tape s = made_step(&o[_i]), t = {NULL, 0, 0};
    repeat(&t, &s, 3);
    finds("made steps", &t, s.n, 1);
    tape x = disturbed(&t, NULL, 200, 5);
    finds("made steps, disturbed", &x, s.n, 0);
    tape_free(&x), tape_free(&t), tape_free(&s);
}
END_TEST

/* One of five is an insertion. New accesses: right to the last one. Accesses of the step itself: an insertion that by chance comes
 * twice at the same place can't be told from the step's own, so one or two too many are possible, in a few of a hundred traces. */
START_TEST(insertions)
{
    enum { TRACES = 40 };
    tape s = opt_step(steps[_i].config, steps[_i].batch, steps[_i].seq, 1, 0), t = {NULL, 0, 0};
    int off = 0;
    repeat(&t, &s, 3);
    for (int k = 0; k < TRACES; k++) {
        tape x = disturbed(&t, NULL, 200, 100 + (uint64_t)k), y = disturbed(&t, &s, 200, 100 + (uint64_t)k);
        finds("20 % of new accesses", &x, s.n, 0);
        cst_period p = found(&y);
        ck_assert_msg(p.length >= s.n - 2 && p.length <= s.n + 2, "20 %% of its own accesses: %d, wanted %d", (int)p.length, (int)s.n);
        ck_assert(p.share > 0.7 && p.share < 0.9 && p.span > s.n * 23 / 20 && p.span < s.n * 27 / 20);
        off += p.length != s.n;
        tape_free(&x), tape_free(&y);
    }
    ck_assert_msg(off <= TRACES / 10, "%d of %d are off", off, TRACES);
    tape_free(&t), tape_free(&s);
}
END_TEST

START_TEST(evaluation_in_between)
{
    tape s = opt_step(steps[_i].config, steps[_i].batch, steps[_i].seq, 1, 0), e = opt_step(steps[_i].config, steps[_i].batch, steps[_i].seq, 1, 1);
    for (int every = 2; every < 7; every++) {
        tape t = {NULL, 0, 0};
        for (int k = 0; k < 3; k++) {
            repeat(&t, &s, every);
            if (k) finds("steps, evaluation, steps", &t, s.n, 1);
            repeat(&t, &e, 1);
            finds("steps, evaluation", &t, s.n, 1);
        }
        repeat(&t, &s, 1.5);
        finds("evaluation, steps", &t, s.n, 1);
        tape_free(&t);
    }
    tape_free(&s), tape_free(&e);
}
END_TEST

/* Another number of micro-batches, in the middle of a run: known within three iterations. */
START_TEST(the_period_changes)
{
    tape a = opt_step(steps[_i].config, steps[_i].batch, steps[_i].seq, 1, 0), b = opt_step(steps[_i].config, steps[_i].batch, steps[_i].seq, 2, 0);
    for (int turn = 0; turn < 2; turn++) {
        const tape *from = turn ? &b : &a, *to = turn ? &a : &b;
        for (int before = 3; before < 200; before *= 4) {
            tape t = {NULL, 0, 0};
            repeat(&t, from, before + 0.4);
            repeat(&t, to, 3);
            finds("after a change", &t, to->n, 1);
            tape_free(&t);
        }
    }
    tape_free(&a), tape_free(&b);
}
END_TEST

/* Draws of several kinds: even and uneven, chains, from one to 2,000 different accesses. */
START_TEST(none_is_claimed_by_chance)
{
    for (int k = _i; k < 10000; k += 4) {
        dice d = {1000 + (uint64_t)k, 0};
        cst_period p;
        int n = 64 + roll(&d, k % 10 ? 1000 : 4000), different = 1 + roll(&d, k % 3 == 0 ? 4 : k % 3 == 1 ? 60 : 2000);
        uint64_t *s = malloc((size_t)n * sizeof *s);
        for (int i = 0; i < n; i++) {
            s[i] = (uint64_t)roll(&d, different);
            if (_i == 1) s[i] = (uint64_t)roll(&d, 1 + (int)s[i]);
            if (_i == 2 && i && roll(&d, 3)) s[i] = (s[i - 1] + (uint64_t)roll(&d, 2)) % (uint64_t)different;
        }
        ck_ok(cst_period_find(&p, s, n, NULL));
        ck_assert_msg(!p.length, "trace %d, %d draws of %d: period %d claimed", k, n, different, (int)p.length);
        ck_ok(cst_period_suffix(&p, s, n, 2));
        ck_assert_msg(!p.length, "trace %d, %d draws of %d: period %d claimed of its end", k, n, different, (int)p.length);
        free(s);
    }
}
END_TEST

/* Against the definition: the shortest length whose last `repeats` are the same. */
START_TEST(the_end_repeats)
{
    for (int k = 0; k < 400; k++) {
        dice d = {77 + (uint64_t)k, 0};
        int repeats = 2 + k % 3, odd = roll(&d, 50), step = 20 + roll(&d, 60), n = odd + repeats * step + roll(&d, step);
        uint64_t *s = malloc((size_t)n * sizeof *s);
        cst_period p;
        int want = 0;
        for (int i = 0; i < n; i++) s[i] = i < odd ? (uint64_t)i + 1000 : (uint64_t)((i - odd) % step);
        for (int l = 1; repeats * l <= n && !want; l++) {
            int same = 1;
            for (int i = n - (repeats - 1) * l; i < n && same; i++) same = s[i] == s[i - l];
            if (same) want = l;
        }
        ck_assert_int_gt(want, 0);
        ck_ok(cst_period_suffix(&p, s, n, repeats));
        ck_assert_msg(p.length == want && p.exact && p.end == n, "%d: %d of %d, wanted %d", k, (int)p.length, n, want);
        for (int cut = n - 1; cut >= odd + step + 16 && 16 * (cut - odd - step) >= cut; cut--) { /* earlier: it says when */
            ck_ok(cst_period_suffix(&p, s, cut, repeats));
            if (!p.length && cut < odd + repeats * step) ck_assert_msg(p.next == odd + repeats * step, "%d: at %d told to look at %d, wanted %d", k, cut, (int)p.next, odd + repeats * step);
        }
        free(s);
    }
}
END_TEST

START_TEST(short_and_odd_sequences)
{
    cst_period p;
    uint64_t s[600];
    for (int i = 0; i < 600; i++) s[i] = 5;
    ck_ok(cst_period_find(&p, s, 0, NULL));
    ck_ok(cst_period_find(&p, s, 1, NULL));
    ck_ok(cst_period_find(&p, s, 600, NULL)); /* always the same tells nothing */
    ck_assert_int_eq(p.length, 0);
    ck_ok(cst_period_suffix(&p, s, 1, 2));
    ck_ok(cst_period_suffix(&p, s, 600, 2));
    ck_assert_int_eq(p.length, 0);
    for (int i = 0; i < 600; i++) s[i] = (uint64_t)i & 1;
    ck_ok(cst_period_find(&p, s, 600, NULL));
    ck_assert(p.length == 2 && p.exact);
    ck_fails(cst_period_find(&p, s, ((int64_t)1 << 26) + 1, NULL), CST_INPUT, "allowed: up to 67108864");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("period");
    TCase *tc = tcase_create("period");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, three_iterations, 0, STEPS);
    tcase_add_loop_test(tc, made_steps, 0, 3);
    tcase_add_loop_test(tc, insertions, 0, STEPS);
    tcase_add_loop_test(tc, evaluation_in_between, 0, STEPS);
    tcase_add_loop_test(tc, the_period_changes, 0, STEPS);
    tcase_add_loop_test(tc, none_is_claimed_by_chance, 0, 4);
    tcase_add_test(tc, the_end_repeats);
    tcase_add_test(tc, short_and_odd_sequences);
    suite_add_tcase(s, tc);
    return test_run(s);
}
