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

/* One of five is an insertion, of what is never seen again or of the step's own accesses: right to the last one. (Only what is
 * inserted in all three at the same place can't be told from the step's own; that isn't so in any of these.) */
START_TEST(insertions)
{
    tape s = opt_step(steps[_i].config, steps[_i].batch, steps[_i].seq, 1, 0), t = {NULL, 0, 0};
    int traces = _i ? 40 : 400, off = 0;
    repeat(&t, &s, 3);
    for (int k = 0; k < traces; k++) {
        tape x = disturbed(&t, NULL, 200, 100 + (uint64_t)k), y = disturbed(&t, &s, 200, 100 + (uint64_t)k);
        finds("20 % of new accesses", &x, s.n, 0);
        cst_period p = found(&y);
        off += p.length != s.n || p.exact;
        ck_assert(p.share > 0.7 && p.share < 0.9 && p.span > s.n * 23 / 20 && p.span < s.n * 27 / 20);
        tape_free(&x), tape_free(&y);
    }
    ck_assert_msg(!off, "20 %% of its own accesses: %d of %d are off", off, traces);
    tape_free(&t), tape_free(&s);
}
END_TEST

/* More iterations, from anywhere to anywhere; and new accesses between fewer. */
START_TEST(insertions_and_other_lengths)
{
    static const double whole[] = {3.05, 3.3, 3.6, 4.2, 7.5};
    tape s = opt_step(steps[_i].config, steps[_i].batch, steps[_i].seq, 1, 0), t = {NULL, 0, 0};
    for (int k = 0; k < 5; k++)
        for (int i = _i ? 9 : 0; i < (_i ? 11 : 40); i++) { /* OPT-125M, 3.6: what is aligned begins where four accesses come 25 times */
            t.n = 0;
            tape_add(&t, s.s + s.n - s.n * i / 40, s.n * i / 40);
            repeat(&t, &s, whole[k]);
            tape x = disturbed(&t, NULL, 200, 100 + (uint64_t)i), y = disturbed(&t, &s, 200, 100 + (uint64_t)i);
            finds("new accesses, more iterations", &x, s.n, 0);
            finds("own accesses, more iterations", &y, s.n, 0);
            tape_free(&x), tape_free(&y);
        }
    for (int i = 0; i < 8; i++) {
        t.n = 0;
        repeat(&t, &s, i % 2 && _i ? 2.2 : 2.97);
        tape x = disturbed(&t, NULL, 200, 100 + (uint64_t)i);
        finds("new accesses, fewer than three iterations", &x, s.n, 0);
        tape_free(&x);
    }
    tape_free(&t), tape_free(&s);
}
END_TEST

/* Three times a step with these accesses at these places; -1: nothing. In between others, that are new. */
static cst_period thrice(const tape *s, const int64_t at[3][2], const int64_t of[3][2])
{
    tape t = {NULL, 0, 0};
    for (int k = 0; k < 3; k++)
        for (int64_t i = 0; i < s->n; i++) {
            for (int j = 0; j < 2; j++)
                if (at[k][j] == i) tape_add(&t, &s->s[of[k][j]], 1);
            tape_add(&t, &s->s[i], 1);
        }
    tape x = disturbed(&t, NULL, 100, 3);
    cst_period p = found(&x);
    tape_free(&x), tape_free(&t);
    return p;
}

/* The same insertion at the same place: of the step only when it is there in all three. And two accesses that two iterations have in
 * common in place of one of the step's. (Not at the ends, where the sequence may have been cut.) */
START_TEST(insertions_at_the_same_place)
{
    tape s = opt_step(steps[0].config, steps[0].batch, steps[0].seq, 1, 0);
    for (int64_t place = 4; place < s.n - 4; place += 9) {
        int64_t of[3][2], other = (place + s.n / 2) % s.n;
        for (int k = 0; k < 3; k++) of[k][0] = other, of[k][1] = (other + 5) % s.n;
        for (int have = 0; have < 8; have++) {
            int64_t at[3][2];
            for (int k = 0; k < 3; k++) at[k][0] = at[k][1] = have >> k & 1 ? place : -1;
            cst_period p = thrice(&s, (const int64_t(*)[2])at, (const int64_t(*)[2])of);
            ck_assert_msg(p.length == s.n + (have == 7 ? 2 : 0), "at %d in %d: %d, wanted %d", (int)place, have, (int)p.length, (int)s.n);
        }
        for (int lacks = 0; lacks < 3; lacks++) { /* before an access here, after it there */
            int64_t at[3][2];
            for (int k = 0; k < 3; k++) at[k][0] = at[k][1] = k == lacks ? -1 : k == (lacks + 1) % 3 ? place : place + 1;
            cst_period p = thrice(&s, (const int64_t(*)[2])at, (const int64_t(*)[2])of);
            ck_assert_msg(p.length == s.n, "at %d, all but %d: %d, wanted %d", (int)place, lacks, (int)p.length, (int)s.n);
        }
    }
    tape_free(&s);
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
    tcase_add_loop_test(tc, insertions_and_other_lengths, 0, STEPS);
    tcase_add_test(tc, insertions_at_the_same_place);
    tcase_add_loop_test(tc, evaluation_in_between, 0, STEPS);
    tcase_add_loop_test(tc, the_period_changes, 0, STEPS);
    tcase_add_loop_test(tc, none_is_claimed_by_chance, 0, 4);
    tcase_add_test(tc, the_end_repeats);
    tcase_add_test(tc, short_and_odd_sequences);
    suite_add_tcase(s, tc);
    return test_run(s);
}
