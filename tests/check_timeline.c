/* Times of plans: a case reckoned by hand, what must hold for any plan, and the files made of them. */
#include "testing.h"

#include <jansson.h>
#include <math.h>

#include "base/file.h"
#include "memory/plan.h"
#include "memory/timeline.h"
#include "plan_traces.h"
#include "train/trace_events.h"
#include "train/trace_page.h"

/* Two tensors take turns in room for one: nothing can overlap. */
static cst_trace *turns(void)
{
    cst_trace *t;
    int a, b;
    ck_ok(cst_trace_create(&t));
    t->rates = (cst_rates){.up = 256, .down = 128, .both = 0.5, .memory = 1e9, .flops = 1e9, .launch = 0.25};
    ck_ok(cst_trace_add_tensor(t, "<script>a&b", CST_PARAM, 256, 1, 0, &a));
    ck_ok(cst_trace_add_tensor(t, "b", CST_GRAD, 256, 1, 0, &b));
    ck_ok(cst_trace_add_moment(t, "</title>first", 0));
    ck_ok(cst_trace_add_use(t, a, CST_UPDATE, 0));
    ck_ok(cst_trace_add_moment(t, "second", 0));
    ck_ok(cst_trace_add_use(t, b, CST_UPDATE, 0));
    t->moment[0].seconds = 0.5;
    t->moment[1].seconds = 1;
    return t;
}

#define near(a, b) ck_assert_msg(fabs((a) - (b)) <= 1e-9 * (1 + fabs((double)(b))), "%s: %.12g, not %.12g", #a, (double)(a), (double)(b))

START_TEST(by_hand)
{
    cst_trace *t = turns();
    cst_plan *p;
    cst_timeline *l;
    cst_level *v;
    int n;
    ck_ok(cst_plan_make(&p, t, 256));
    ck_ok(cst_timeline_make(&l, p, t));
    /* 0.5 + (2 + 0.25) down + (1 + 0.25) up + 1 + down + up */
    near(l->seconds, 8.5);
    near(l->stall, 7);
    near(l->busy[CST_LANE_COMPUTE], 1.5);
    near(l->busy[CST_LANE_UP], 2.5);
    near(l->busy[CST_LANE_DOWN], 4.5);
    near(l->stall_with[CST_LANE_UP], 2.5);
    near(l->stall_with[CST_LANE_DOWN], 4.5);
    ck_assert_str_eq(cst_timeline_limit(l), "downloads");
    ck_assert_int_eq(l->first[CST_LANE_UP] - l->first[CST_LANE_COMPUTE], 2);
    const cst_span *s = l->span; /* the time before the first operator, which waits for its tensor, is the iteration's, too */
    near(s[0].begin, 3.5);
    near(s[0].wait, 3.5);
    ck_assert_int_eq(s[0].tensor, 0);
    near(s[1].begin, 7.5);
    near(s[1].wait, 3.5);
    ck_assert_int_eq(s[1].tensor, 1);
    near(s[1].end, 8.5);
    ck_ok(cst_timeline_levels(&v, &n, l, t));
    for (int i = 0; i < n; i++) ck_assert(v[i].sum == 256 && v[i].bytes[CST_PARAM] + v[i].bytes[CST_GRAD] == 256);
    free(v);
    cst_timeline_free(l);
    cst_plan_free(p);
    ck_ok(cst_plan_make(&p, t, 512)); /* both stay */
    ck_ok(cst_timeline_make(&l, p, t));
    near(l->seconds, 1.5);
    near(l->stall, 0);
    ck_assert(l->first[CST_LANE_ROOM] == 2 && l->spans == 4);
    ck_assert_str_eq(cst_timeline_limit(l), "compute");
    cst_timeline_free(l);
    cst_plan_free(p);
    cst_trace_free(t);
}
END_TEST

/* A place of this tensor lasts at least so long. */
static int has_room(const cst_timeline *l, int tensor, double begin, double end)
{
    double e = 1e-9 * l->seconds;
    for (int i = l->first[CST_LANE_ROOM]; i < l->first[CST_LANE_ROOM + 1]; i++)
        if (l->span[i].tensor == tensor && l->span[i].begin <= begin + e && l->span[i].end >= end - e) return 1;
    return 0;
}

static void check_lanes(const cst_timeline *l, const cst_plan *p, const cst_trace *t)
{
    double e = 1e-9 * l->seconds, waits = 0;
    for (int lane = CST_LANE_COMPUTE; lane <= CST_LANE_DOWN; lane++)
        for (int i = l->first[lane]; i < l->first[lane + 1]; i++) {
            const cst_span *s = &l->span[i];
            ck_assert(s->lane == (cst_lane)lane && s->begin >= -e && s->begin <= s->end + e && s->end <= l->seconds + e);
            if (i > l->first[lane]) ck_assert(s->begin >= s[-1].end - e); /* in order, one at a time */
            if (lane != CST_LANE_COMPUTE) ck_assert(has_room(l, s->tensor, s->begin, s->end));
        }
    ck_assert_int_eq(l->first[CST_LANE_UP], t->moments);
    for (int k = 0; k < t->moments; k++) {
        const cst_span *s = &l->span[k];
        const cst_trace_moment *m = &t->moment[k];
        ck_assert_int_eq(s->moment, k);
        near(s->end - s->begin, cst_trace_seconds(t, k));
        waits += s->wait;
        if (!(s->end > s->begin)) continue; /* at the very end even its room takes no time */
        for (int i = m->first; i < m->first + m->uses; i++) ck_assert_msg(has_room(l, t->use[i].tensor, s->begin, s->end), "moment %d", k);
    }
    near(waits, l->stall);
    ck_assert(l->stall_with[CST_LANE_UP] <= l->stall + e && l->stall_with[CST_LANE_DOWN] <= l->stall + e);
    ck_assert(l->first[CST_LANE_UP + 1] - l->first[CST_LANE_UP] >= (int)p->up_count);
    ck_assert(l->first[CST_LANE_DOWN + 1] - l->first[CST_LANE_DOWN] >= (int)p->down_count);
}

static void check_levels(const cst_timeline *l, const cst_plan *p, const cst_trace *t)
{
    cst_level *v;
    int n;
    uint64_t most = 0;
    ck_ok(cst_timeline_levels(&v, &n, l, t));
    ck_assert(n >= 1 && v[0].at == 0);
    for (int i = 0; i < n; i++) {
        uint64_t sum = 0;
        for (int c = 0; c < CST_CLASS_COUNT; c++) sum += v[i].bytes[c];
        ck_assert(sum == v[i].sum && (i == 0 || v[i].at > v[i - 1].at));
        if (sum > most) most = sum;
    }
    ck_assert_msg(most <= p->bytes, "%llu bytes in %llu", (unsigned long long)most, (unsigned long long)p->bytes);
    free(v);
}

/* At budgets from the least to what lets all stay. The planner predicts times by a reckoning of its own: both must agree. */
static void check_trace(const cst_trace *t, int budgets)
{
    uint64_t least, resident;
    ck_ok(cst_plan_least(&least, t));
    ck_ok(cst_plan_resident(&resident, t));
    for (int i = 0; i <= budgets; i++) {
        cst_plan *p;
        cst_timeline *l;
        ck_ok(cst_plan_make(&p, t, least + (resident - least) / (uint64_t)budgets * (uint64_t)i));
        ck_ok(cst_timeline_make(&l, p, t));
        near(l->seconds, p->seconds);
        ck_assert(fabs(l->stall - p->stall_seconds) <= 1e-9 * l->seconds);
        check_lanes(l, p, t);
        check_levels(l, p, t);
        cst_timeline_free(l);
        cst_plan_free(p);
    }
}

START_TEST(random_plans)
{
    const trace_shape shapes[] = {
        {8, 12, 3, 1, 3, 1, 1, 0}, {20, 40, 4, 2, 5, 1, 2, 0}, {30, 60, 5, 1, 2, 0, 0, 64}, {4, 30, 2, 0, 0, 0, 0, 0}};
    for (uint64_t seed = 1; seed <= 60; seed++) {
        cst_trace *t = random_trace(seed, &shapes[seed % 4]);
        check_trace(t, 4);
        cst_trace_free(t);
    }
}
END_TEST

START_TEST(steps_like_opt)
{
    const opt_shape o = {4, 256, 1024, 4000, 256, 128, 4, 2};
    cst_trace *t = opt_trace(&o);
    check_trace(t, 5);
    cst_trace_free(t);
}
END_TEST

START_TEST(other_plans_are_refused)
{
    cst_trace *t = turns(), *more;
    cst_plan *p;
    cst_timeline *l;
    ck_ok(cst_plan_make(&p, t, 256));
    ck_ok(cst_trace_copy(&more, t));
    ck_ok(cst_trace_add_moment(more, "third", 0));
    ck_fails(cst_timeline_make(&l, p, more), CST_STATE, "another trace's");
    cst_trace_free(more);
    int upload = 0;
    while (p->action[upload].kind != CST_PLAN_UPLOAD) upload++;
    p->action[upload].tensor ^= 1;
    ck_fails(cst_timeline_make(&l, p, t), CST_STATE, "timeline: moment");
    p->action[upload].tensor ^= 1;
    p->action[p->actions - 1].moment = 7;
    ck_fails(cst_timeline_make(&l, p, t), CST_STATE, "order of moments");
    cst_plan_free(p);
    cst_trace_free(t);
}
END_TEST

static char *written(const char *name, const cst_trace *t, uint64_t bytes, int page)
{
    char path[300], *text;
    size_t n;
    cst_plan *p;
    cst_timeline *l;
    snprintf(path, sizeof path, "%s/%s", test_dir(), name);
    ck_ok(cst_plan_make(&p, t, bytes));
    ck_ok(cst_timeline_make(&l, p, t));
    ck_ok(page ? cst_trace_page_write(path, t, p, l, bytes + t->scratch) : cst_trace_events_write(path, t, p, l));
    ck_fails(page ? cst_trace_page_write("/proc/none/x", t, p, l, bytes) : cst_trace_events_write("/proc/none/x", t, p, l), CST_IO,
             "/proc/none");
    ck_ok(cst_file_read(&text, &n, path));
    ck_assert_uint_eq(n, strlen(text));
    cst_timeline_free(l);
    cst_plan_free(p);
    return text;
}

START_TEST(events_are_json)
{
    cst_trace *t = turns();
    snprintf(t->about, sizeof t->about, "quote \" and \\");
    char *text = written("t.json", t, 256, 0);
    json_error_t e;
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, &e), *list = json_object_get(j, "traceEvents"), *x;
    size_t i;
    double busy[5] = {0};
    int operators = 0, instants = 0, levels = 0, names = 0;
    ck_assert_msg(j != NULL, "%s", e.text);
    json_array_foreach(list, i, x) {
        const char *ph = json_string_value(json_object_get(x, "ph"));
        int lane = (int)json_integer_value(json_object_get(x, "tid"));
        ck_assert(lane >= 0 && lane < 5);
        if (*ph == 'X') busy[lane] += json_number_value(json_object_get(x, "dur"));
        operators += *ph == 'X' && lane == 1;
        instants += *ph == 'i';
        names += *ph == 'M';
        if (*ph != 'C') continue;
        levels++;
        json_t *args = json_object_get(x, "args");
        ck_assert_int_eq(json_integer_value(json_object_get(args, "parameters")) + json_integer_value(json_object_get(args, "gradients")),
                         256);
    }
    ck_assert(operators == 2 && instants == 4 && levels >= 2 && names == 9);
    near(busy[1], 1.5e6);
    near(busy[2], 2.5e6);
    near(busy[3], 4.5e6);
    json_decref(j);
    free(text);
    cst_trace_free(t);
}
END_TEST

START_TEST(pages_are_whole_and_escaped)
{
    cst_trace *t = turns();
    snprintf(t->about, sizeof t->about, "<b>bold");
    for (uint64_t bytes = 256; bytes <= 512; bytes += 256) {
        char *text = written("p.html", t, bytes, 1);
        ck_assert(strstr(text, "</html>") && strstr(text, "prefers-color-scheme:dark") && strstr(text, "&lt;script&gt;a&amp;b") &&
                  strstr(text, "&lt;b&gt;bold"));
        ck_assert(!strstr(text, "<script") && !strstr(text, "<b>bold") && !strstr(text, "nan") && !strstr(text, "inf"));
        ck_assert(!strstr(text, "http") && !strstr(text, "src=") && !strstr(text, "</title>first"));
        ck_assert(!strstr(text, "No operator waits.") == (bytes == 256));
        ck_assert(!strstr(text, "Nothing moves.") == (bytes == 256));
        ck_assert(!strstr(text, "Downloads set the pace") == (bytes == 512));
        free(text);
    }
    t->moment[0].seconds = t->moment[1].seconds = 0; /* no time at all */
    char *text = written("p.html", t, 512, 1);
    ck_assert(strstr(text, "</html>") && !strstr(text, "nan") && !strstr(text, "inf"));
    free(text);
    cst_trace_free(t);
}
END_TEST

START_TEST(kinds_of_operators)
{
    cst_trace *t;
    cst_trace_kind *k;
    int n;
    ck_ok(cst_trace_create(&t));
    static const char *const ops[] = {"b", "a", "c", "b", "a", "b"};
    for (int i = 0; i < 6; i++) {
        ck_ok(cst_trace_add_moment(t, ops[i], i));
        t->moment[i].seconds = 1 + i % 2;
    }
    ck_ok(cst_trace_kinds(&k, &n, t));
    ck_assert_int_eq(n, 3);
    ck_assert(!strcmp(k[0].op, "b") && k[0].count == 3 && k[0].seconds == 5 && k[0].flops == 8);
    ck_assert(!strcmp(k[1].op, "a") && k[1].count == 2 && k[1].seconds == 3);
    ck_assert(!strcmp(k[2].op, "c") && k[2].count == 1);
    free(k);
    cst_trace_free(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("timeline");
    TCase *tc = tcase_create("timeline");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, by_hand);
    tcase_add_test(tc, random_plans);
    tcase_add_test(tc, steps_like_opt);
    tcase_add_test(tc, other_plans_are_refused);
    tcase_add_test(tc, events_are_json);
    tcase_add_test(tc, pages_are_whole_and_escaped);
    tcase_add_test(tc, kinds_of_operators);
    suite_add_tcase(s, tc);
    return test_run(s);
}
