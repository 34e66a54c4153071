/* The planner: against the exact optimum on small traces, against its lower bound on steps like OPT's, and its promises on
 * thousands of random traces. */
#include "plan_exact.h"
#include "plan_traces.h"

#include "memory/plan.h"
#include "memory/plan_internal.h"
#include "memory/policy.h"

typedef struct ratios { double *r; int n, room; } ratios;

static void note(ratios *s, double r)
{
    if (s->n == s->room) s->r = realloc(s->r, (size_t)(s->room = s->room ? 2 * s->room : 256) * sizeof *s->r);
    s->r[s->n++] = r;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double mean(const ratios *s)
{
    double sum = 0;
    for (int i = 0; i < s->n; i++) sum += s->r[i];
    return sum / s->n;
}

static double at(ratios *s, double part)
{
    qsort(s->r, (size_t)s->n, sizeof *s->r, rising);
    return s->r[(int)(part * (s->n - 1))];
}

static void tell(const char *what, ratios *s)
{
    printf("%-34s mean %.4f  99th percentile %.4f  max %.4f  (%d)\n", what, mean(s), at(s, 0.99), at(s, 1), s->n);
}

/* What all uses at once need, and all that could stay. */
static void range(const cst_trace *t, uint64_t *need, uint64_t *full)
{
    cst_gaps g;
    uint64_t *most = calloc((size_t)t->moments + 1, sizeof *most);
    ck_ok(cst_gaps_make(&g, t));
    *need = g.need;
    *full = cst_gaps_full(&g, most);
    free(most);
    cst_gaps_free(&g);
}

static uint64_t part(uint64_t need, uint64_t full, int k, int of)
{
    return need + (full - need) / 256 * (uint64_t)k / (uint64_t)of * 256;
}

START_TEST(exact_solvers_agree)
{
    int moved = 0;
    for (int k = 0; k < 60; k++) {
        trace_shape w = {.tensors = 2 + k % 3 % 2 + (k % 15 == 0), .moments = 3 + k % 5, .uses = 2, .sizes = 1, .passing = k % 3 * 3,
                         .fixed = 1};
        cst_trace *t = random_trace(900 + (uint64_t)k, &w);
        uint64_t need, full;
        range(t, &need, &full);
        for (int p = 0; p < 4; p++) {
            int64_t a = exact_moved(t, part(need, full, p, 3)), b = states_moved(t, part(need, full, p, 3));
            ck_assert_msg(a == b, "trace %d, %d/3: %lld and %lld", k, p, (long long)a, (long long)b);
            moved += a > 0;
        }
        cst_trace_free(t);
    }
    ck_assert_int_gt(moved, 40);
}
END_TEST

START_TEST(small_traces_are_nearly_optimal)
{
    ratios ours = {0}, plan = {0}, few = {0}, far = {0}, lru = {0};
    int undecided = 0;
    for (int k = 0; k < 500; k++) {
        trace_shape w = {.tensors = 4 + k % 12, .moments = 6 + k % 25, .uses = 3, .sizes = k % 3, .passing = k / 3 % 3 * 3, .fixed = 1,
                         .held = k % 5 ? 0 : 3};
        cst_trace *t = random_trace((uint64_t)k, &w);
        uint64_t need, full, moved, bound;
        range(t, &need, &full);
        for (int p = 0; p < 4; p++) {
            uint64_t capacity = part(need, full, p, 4);
            int64_t exact = exact_moved(t, capacity);
            if (exact < 0) undecided++;
            if (exact < 0) continue;
            ck_ok(cst_plan_select_bytes(&moved, t, capacity));
            ck_ok(cst_plan_bound(&bound, t, capacity));
            ck_assert_msg((int64_t)bound <= exact && exact <= (int64_t)moved, "trace %d, %d/4: bound %llu, exact %lld, ours %llu", k, p,
                          (unsigned long long)bound, (long long)exact, (unsigned long long)moved);
            if (!exact) {
                ck_assert_uint_eq(moved, 0);
                continue;
            }
            note(&ours, (double)moved / (double)exact);
            ck_ok(cst_policy_run(&moved, t, capacity, CST_POLICY_FARTHEST));
            note(&far, (double)moved / (double)exact);
            ck_ok(cst_policy_run(&moved, t, capacity, CST_POLICY_LRU));
            note(&lru, (double)moved / (double)exact);
            cst_plan *q;
            if (cst_plan_make(&q, t, capacity) != CST_OK) continue;
            moved = q->up_bytes + q->down_bytes;
            ck_assert_int_ge((int64_t)moved, exact);
            note(&plan, (double)moved / (double)exact);
            cst_plan_free(q);
            ck_ok(cst_plan_fewest(&q, t, capacity));
            ck_ok(cst_plan_check(q, t));
            ck_assert_uint_le(q->bytes, capacity);
            moved = q->up_bytes + q->down_bytes;
            ck_assert_int_ge((int64_t)moved, exact);
            note(&few, (double)moved / (double)exact);
            cst_plan_free(q);
        }
        cst_trace_free(t);
    }
    printf("bytes moved over the exact optimum, small traces (%d undecided):\n", undecided);
    tell("  selection", &ours);
    tell("  plan of the fewest bytes: places, too", &few);
    tell("  plan: places and lead times, too", &plan);
    tell("  farthest next use", &far);
    tell("  least recently used", &lru);
    ck_assert_int_ge(ours.n, 1000);
    ck_assert_int_lt(undecided, 20);
    ck_assert_double_le(mean(&ours), 1.03);
    ck_assert_double_le(at(&ours, 0.99), 1.10);
    ck_assert_double_lt(mean(&ours), mean(&far));
    free(ours.r);
    free(plan.r);
    free(few.r);
    free(far.r);
    free(lru.r);
}
END_TEST

/* Everything that a plan promises. */
static void check_plan(const cst_plan *p, const cst_trace *t, uint64_t bytes)
{
    uint64_t up = 0, down = 0;
    ck_ok(cst_plan_check(p, t));
    ck_assert_uint_le(p->bytes, bytes);
    ck_assert_uint_le(p->live_peak, p->bytes);
    for (int i = 0; i < p->actions; i++) {
        const cst_plan_action *a = &p->action[i];
        if (!a->moves) continue;
        *(a->kind == CST_PLAN_UPLOAD ? &up : &down) += t->tensor[a->tensor].bytes;
    }
    ck_assert_uint_eq(up, p->up_bytes);
    ck_assert_uint_eq(down, p->down_bytes);
    ck_assert_double_ge(p->seconds, p->compute_seconds * (1 - 1e-9));
}

static void check_least(const cst_trace *t, uint64_t least)
{
    cst_plan *p;
    cst_gaps g;
    if (least < t->align) return;
    ck_ok(cst_gaps_make(&g, t));
    ck_fails(cst_plan_make(&p, t, least - t->align), CST_OVER_BUDGET, t->moment[g.need_moment].op);
    cst_gaps_free(&g);
}

START_TEST(random_traces_keep_the_promises)
{
    static const int tensors[] = {1, 2, 6, 12, 25}, moments[] = {1, 2, 7, 20, 45};
    int plans = 0, moving = 0, tight = 0;
    double waste = 0;
    for (int k = 0; k < 700; k++) {
        trace_shape w = {.tensors = tensors[k % 5], .moments = moments[k / 5 % 5], .uses = 1 + k % 4, .sizes = k % 3, .passing = k % 4 * 2,
                         .fixed = k % 7 == 0 ? 10 : k % 2, .held = k % 3 * 2, .max_slab = k % 4 ? 0 : 30};
        cst_trace *t = random_trace(5000 + (uint64_t)k, &w);
        uint64_t least, resident, need, full;
        ck_ok(cst_plan_least(&least, t));
        ck_ok(cst_plan_resident(&resident, t));
        range(t, &need, &full);
        ck_assert_uint_ge(least, need);
        ck_assert_uint_ge(resident, full);
        tight += least == need;
        check_least(t, least);
        for (int i = 0; i < 4; i++) {
            uint64_t bytes = i == 3 ? resident : i == 0 ? least : part(least, resident > least ? resident : least, i, 3);
            cst_plan *p;
            ck_ok(cst_plan_make(&p, t, bytes));
            check_plan(p, t, bytes);
            if (i == 3) ck_assert_uint_eq(p->up_count + p->down_count, 0);
            moving += p->up_count > 0;
            plans++;
            waste += p->bytes ? (double)(p->bytes - p->live_peak) / (double)p->bytes : 0;
            cst_plan_free(p);
        }
        cst_trace_free(t);
    }
    printf("random traces: %d plans, %d move, least is the largest need in %d of 700, %.1f %% lost by place\n", plans, moving, tight,
           100 * waste / plans);
    ck_assert_int_ge(plans, 2000);
    ck_assert_int_gt(moving, 500);
}
END_TEST

/* Tensors that are away leave after each use and never come before the iteration; the others only come and go where their content
 * is worthless. */
START_TEST(what_is_away_moves_alone)
{
    int uploads = 0;
    for (int k = 0; k < 300; k++) {
        trace_shape w = {.tensors = 3 + k % 20, .moments = 2 + k % 40, .uses = 1 + k % 4, .sizes = k % 3, .passing = k % 4 * 2, .fixed = k % 2,
                         .held = k % 3 * 2};
        cst_trace *t = random_trace(9000 + (uint64_t)k, &w);
        int away = 0;
        for (int x = 0; x < t->tensors; x++) {
            t->tensor[x].away = t->tensor[x].persistent && !t->tensor[x].fixed && (x + k) % 3 == 0;
            away += t->tensor[x].away;
        }
        uint64_t least, resident, bound;
        ck_ok(cst_plan_least(&least, t));
        ck_ok(cst_plan_resident(&resident, t));
        if (away) ck_assert_uint_eq(least, resident);
        check_least(t, least);
        for (int i = 0; away && i < 3; i++) {
            cst_plan *p;
            uint64_t bytes = least + least / 2 * (uint64_t)i;
            ck_ok(cst_plan_make(&p, t, bytes));
            ck_ok(cst_plan_check(p, t));
            ck_assert(p->bytes <= bytes);
            for (int a = 0; a < p->actions; a++) {
                const cst_trace_tensor *x = &t->tensor[p->action[a].tensor];
                int comes = p->action[a].kind == CST_PLAN_UPLOAD, goes = p->action[a].kind == CST_PLAN_EVICT;
                ck_assert_msg(x->away || !(comes || goes), "trace %d: %s moves", k, x->name);
                uploads += comes;
            }
            ck_ok(cst_plan_bound(&bound, t, bytes));
            ck_assert(p->up_bytes + p->down_bytes <= bound && bound <= p->up_bytes + p->down_bytes); /* there is no choice */
            for (int x = 0; x < t->tensors; x++) {
                int first = t->moments, last = -1;
                for (int m = 0; m < t->moments; m++)
                    for (int u = t->moment[m].first; u < t->moment[m].first + t->moment[m].uses; u++)
                        if (t->use[u].tensor == x) first = m < first ? m : first, last = m;
                int around = last == t->moments - 1 && first == 0; /* used at the end and at once again */
                if (t->tensor[x].away && !around) ck_assert_int_eq(p->start[x].slab, -1);
            }
            cst_plan_free(p);
        }
        cst_trace_free(t);
    }
    ck_assert_int_gt(uploads, 2000);
}
END_TEST

START_TEST(steps_like_opt)
{
    static const opt_shape shape[] = {
        {2, 64, 256, 5000, 32, 64, 2, 2}, {24, 1024, 4096, 50272, 512, 1024, 4, 4}, {24, 2048, 8192, 50272, 2048, 1024, 2, 2}};
    for (int k = 0; k < 3; k++) {
        cst_trace *t = opt_trace(&shape[k]);
        uint64_t least, resident, need, full, far, lru;
        ck_ok(cst_plan_least(&least, t));
        ck_ok(cst_plan_resident(&resident, t));
        range(t, &need, &full);
        printf("%d moments, %d tensors: need %.3f GB, least %.3f, all stays %.3f, resident %.3f\n", t->moments, t->tensors,
               (double)need / 1e9, (double)least / 1e9, (double)full / 1e9, (double)resident / 1e9);
        ck_assert_double_le((double)least, 1.02 * (double)need);
        ck_assert_double_le((double)resident, 1.02 * (double)full);
        for (int p = 0; p < 4; p++) {
            static const int per_cent[] = {2, 15, 40, 75};
            uint64_t bytes = part(least, resident, per_cent[p], 100), moved, bound;
            cst_plan *q, *few;
            ck_ok(cst_plan_select_bytes(&moved, t, bytes));
            ck_ok(cst_plan_bound(&bound, t, bytes));
            ck_ok(cst_plan_make(&q, t, bytes));
            check_plan(q, t, bytes);
            ck_ok(cst_plan_fewest(&few, t, bytes));
            check_plan(few, t, bytes);
            uint64_t fewest = few->up_bytes + few->down_bytes;
            ck_ok(cst_policy_run(&far, t, bytes, CST_POLICY_FARTHEST));
            ck_ok(cst_policy_run(&lru, t, bytes, CST_POLICY_LRU));
            printf("  %2d %%: bound %.3f GB, over it: selection %.3f, fewest bytes %.3f, plan %.3f, farthest %.3f, LRU %.3f; %.4f s, of it stalls %.4f; "
                   "place %.3f\n",
                   per_cent[p], (double)bound / 1e9, (double)moved / (double)bound, (double)fewest / (double)bound,
                   (double)(q->up_bytes + q->down_bytes) / (double)bound,
                   (double)far / (double)bound, (double)lru / (double)bound, q->seconds,
                   q->stall_seconds, (double)q->live_peak / (double)q->bytes);
            ck_assert_double_le((double)moved, 1.05 * (double)bound);
            ck_assert_double_le((double)fewest, 1.05 * (double)bound);
            cst_plan_free(few);
            cst_plan_free(q);
        }
        cst_trace_free(t);
    }
}
END_TEST

/* The checker finds what is wrong with a plan. */
START_TEST(checker_finds_faults)
{
    trace_shape w = {.tensors = 12, .moments = 20, .uses = 3, .sizes = 1, .passing = 3};
    int caught = 0, harmless = 0;
    for (uint64_t k = 0; k < 100; k++) {
        cst_trace *t = random_trace(k + 70000, &w);
        uint64_t least, resident;
        cst_plan *p;
        ck_ok(cst_plan_least(&least, t));
        ck_ok(cst_plan_resident(&resident, t));
        ck_ok(cst_plan_make(&p, t, part(least, resident, 1, 3)));
        for (int i = 0; i < p->actions; i++) {
            cst_plan_action was = p->action[i], *a = &p->action[i];
            for (int fault = 0; fault < 3; fault++) {
                if (fault == 0) a->moves = !a->moves;
                static const cst_plan_kind other[] = {CST_PLAN_UPLOAD, CST_PLAN_PLACE, CST_PLAN_DISCARD, CST_PLAN_EVICT};
                if (fault == 1) a->kind = other[a->kind];
                if (fault == 2) a->tensor = (a->tensor + 1) % t->tensors;
                cst_status st = cst_plan_check(p, t);
                ck_assert(st == CST_OK || st == CST_STATE);
                caught += st == CST_STATE;
                harmless += st == CST_OK;
                /* A clean tensor may as well be discarded; the rest is never right. */
                ck_assert_msg(st == CST_STATE || (fault == 1 && !was.moves), "trace %d: fault %d of action %d went unseen", (int)k,
                              fault, i);
                *a = was;
            }
        }
        if (p->actions) {
            for (int i = 0; i < p->actions; i++) {
                cst_plan_action was = p->action[i];
                if (was.kind != CST_PLAN_UPLOAD) continue;
                p->action[i].offset = p->bytes;
                ck_fails(cst_plan_check(p, t), CST_STATE, "leaves its slab");
                p->action[i] = was;
            }
            p->up_bytes += 256;
            ck_fails(cst_plan_check(p, t), CST_STATE, "actions move");
        }
        cst_plan_free(p);
        cst_trace_free(t);
    }
    ck_assert_int_gt(caught, 1000);
    ck_assert_int_lt(harmless, caught / 3);
}
END_TEST

/* A tensor may lie elsewhere when it comes back, but two that are used together never share a byte: by hand. */
START_TEST(plain_cases)
{
    cst_trace *t;
    int a, b, c;
    uint64_t moved, bytes;
    cst_plan *p;
    ck_ok(cst_trace_create(&t));
    ck_ok(cst_trace_add_tensor(t, "a", CST_PARAM, 1024, 1, 0, &a));
    ck_ok(cst_trace_add_tensor(t, "b", CST_PARAM, 1024, 1, 0, &b));
    ck_ok(cst_trace_add_tensor(t, "c", CST_GRAD, 1024, 1, 0, &c));
    ck_ok(cst_trace_add_moment(t, "read a", 0));
    ck_ok(cst_trace_add_use(t, a, CST_READ, 0));
    ck_ok(cst_trace_add_moment(t, "update b", 0));
    ck_ok(cst_trace_add_use(t, b, CST_UPDATE, 0));
    ck_ok(cst_trace_add_moment(t, "write c", 0));
    ck_ok(cst_trace_add_use(t, c, CST_WRITE, 0));
    /* One place: a goes up; b goes up and down; c is never read. */
    ck_ok(cst_plan_least(&bytes, t));
    ck_assert_uint_eq(bytes, 1024);
    ck_ok(cst_plan_make(&p, t, 1024));
    ck_ok(cst_plan_check(p, t));
    ck_assert_uint_eq(p->up_bytes, 2048);
    ck_assert_uint_eq(p->down_bytes, 1024);
    cst_plan_free(p);
    /* Two: b stays, a goes up for c takes the place. */
    ck_ok(cst_plan_make(&p, t, 2048));
    ck_ok(cst_plan_check(p, t));
    ck_assert_uint_eq(p->up_bytes, 1024);
    ck_assert_uint_eq(p->down_bytes, 0);
    ck_assert_uint_eq(p->host_bytes, 1024);
    cst_plan_free(p);
    ck_ok(cst_plan_select_bytes(&moved, t, 2048));
    ck_assert_uint_eq(moved, 1024);
    ck_ok(cst_plan_resident(&bytes, t));
    ck_assert_uint_eq(bytes, 3072);
    ck_fails(cst_plan_make(&p, t, 768), CST_OVER_BUDGET, "read a");
    ck_fails(cst_plan_bound(&moved, t, 768), CST_OVER_BUDGET, "read a");
    ck_fails(cst_policy_run(&moved, t, 768, CST_POLICY_LRU), CST_OVER_BUDGET, "read a");
    t->rates.up = 0;
    ck_fails(cst_plan_make(&p, t, 2048), CST_INPUT, "rate");
    cst_trace_free(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan");
    TCase *c = tcase_create("plan");
    tcase_set_timeout(c, 0);
    tcase_add_test(c, plain_cases);
    tcase_add_test(c, exact_solvers_agree);
    tcase_add_test(c, small_traces_are_nearly_optimal);
    tcase_add_test(c, random_traces_keep_the_promises);
    tcase_add_test(c, what_is_away_moves_alone);
    tcase_add_test(c, checker_finds_faults);
    tcase_add_test(c, steps_like_opt);
    suite_add_tcase(s, c);
    return test_run(s);
}
