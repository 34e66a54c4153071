/* Times of operators kept between runs: what is learnt from a trace, given to another, written and read; and a rehearsal on a device. */
#include "model_testing.h"

#include <unistd.h>

#include "memory/memory.h"
#include "memory/operators.h"
#include "train/rehearsal.h"

static cst_trace *empty_trace(void)
{
    cst_trace *t;
    ck_ok(cst_trace_create(&t));
    t->align = 256;
    t->max_slab = (uint64_t)1 << 32;
    return t;
}

/* A moment that reads so many bytes. */
static void add(cst_trace *t, const char *op, double flops, uint64_t bytes, double seconds)
{
    int id;
    ck_ok(cst_trace_add_tensor(t, op, CST_PARAM, bytes, 1, 0, &id));
    ck_ok(cst_trace_add_moment(t, op, flops));
    ck_ok(cst_trace_add_use(t, id, CST_READ, 0));
    t->moment[t->moments - 1].seconds = seconds;
}

static cst_operators learnt(void)
{
    cst_operators x = {.o = NULL};
    cst_trace *t = empty_trace();
    add(t, "gemm", 1e9, 1 << 20, 1e-3);
    add(t, "gemm", 1e9, 1 << 22, 3e-3); /* the same work: 2e-3 in the mean */
    add(t, "gemm", 8e9, 1 << 20, 8e-3);
    add(t, "norm", 0, 1 << 20, 1e-4);
    add(t, "unmeasured", 0, 1 << 20, -1);
    t->enqueue = 5e-5;
    ck_ok(cst_operators_learn(&x, t));
    ck_assert_int_eq(x.n, 3);
    cst_trace_free(t);
    return x;
}

START_TEST(times_go_to_the_most_similar_work)
{
    cst_operators x = learnt();
    cst_trace *t = empty_trace();
    double known;
    add(t, "gemm", 1e9, 1 << 10, -1);
    add(t, "gemm", 6e9, 1 << 10, -1);     /* nearer to 8e9 */
    add(t, "norm", 0, 1 << 21, -1);
    add(t, "norm", 1e6, 1 << 21, -1);     /* counts FLOP, those that are known don't */
    add(t, "gemm", 8e9, 1 << 10, 7e-3);   /* has its own */
    cst_operators_apply(&x, t, &known);
    static const double want[] = {2e-3, 6e-3, 2e-4, -1, 7e-3};
    for (int k = 0; k < t->moments; k++) ck_assert_double_eq_tol(t->moment[k].seconds, want[k], 1e-12);
    double all = 0;
    for (int k = 0; k < t->moments; k++) all += cst_trace_seconds(t, k);
    ck_assert_double_eq_tol(known, (2e-3 + 7e-3) / all, 1e-9); /* 6e9 FLOP and twice the bytes weren't seen */
    ck_assert_double_eq(t->enqueue, 5e-5);
    cst_operators_clear(&x);
    cst_operators_apply(&x, t, &known);
    cst_trace_free(t);
}
END_TEST

START_TEST(newer_times_replace_older_ones)
{
    cst_operators x = learnt();
    cst_trace *t = empty_trace();
    add(t, "gemm", 8.05e9, 1 << 10, 5e-3); /* within 2 % */
    add(t, "gelu", 0, 1 << 10, 1e-5);
    ck_ok(cst_operators_learn(&x, t));
    ck_assert_int_eq(x.n, 4);
    ck_assert_double_eq(x.o[1].seconds, 5e-3);
    ck_assert_double_eq(x.enqueue, 5e-5); /* that trace knows nothing of it */
    cst_trace_free(t);
    /* Full: the oldest go. */
    t = empty_trace();
    for (int k = 0; k < 5000; k++) add(t, "many", 1e6 * pow(1.03, k % 1000), 256, 1e-6 * (k + 1));
    ck_ok(cst_operators_learn(&x, t));
    ck_assert_int_eq(x.n, 4 + 1000);
    cst_trace_free(t);
    cst_operators_clear(&x);
}
END_TEST

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    ck_assert(f && fputs(text, f) >= 0 && !fclose(f));
}

START_TEST(files)
{
    const char *path = test_path(test_dir(), "operators.json");
    cst_operators x = learnt(), y = {.o = NULL};
    ck_ok(cst_operators_save(&x, path));
    ck_ok(cst_operators_load(&y, path));
    ck_assert_int_eq(x.n, y.n);
    ck_assert_double_eq(x.enqueue, y.enqueue);
    for (int i = 0; i < x.n; i++) {
        ck_assert_str_eq(x.o[i].op, y.o[i].op);
        ck_assert_int_eq(x.o[i].by_flops, y.o[i].by_flops);
        ck_assert_double_eq(x.o[i].work, y.o[i].work);
        ck_assert_double_eq(x.o[i].seconds, y.o[i].seconds);
    }
    static const char *const wrong[][2] = {{"{}", "must be an array"},
                                           {"{\"operators\": [1]}", "array of objects"},
                                           {"{\"operators\": [{\"op\": \"a\", \"flop\": 1}]}", "and \"seconds\""},
                                           {"{\"operators\": [{\"op\": \"a\", \"seconds\": 1}]}", "and \"seconds\""},
                                           {"{\"operators\": [{\"op\": \"a\", \"bytes\": -1, \"seconds\": 1}]}", "and \"seconds\""},
                                           {"{\"operators\": [{\"op\": 3, \"bytes\": 1, \"seconds\": 1}]}", "\"op\""},
                                           {"{\"operators\": [], \"enqueue\": -1}", "allowed: 0 to 1"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        write_text(path, wrong[i][0]);
        ck_fails(cst_operators_load(&y, path), CST_INPUT, wrong[i][1]);
        ck_assert_int_eq(x.n, y.n);
    }
    cst_operators_clear(&x);
    cst_operators_clear(&y);
}
END_TEST

/* What a step's operators would take is unknown, then two layers are run, then it is known, for a model of more layers as well. */
START_TEST(a_rehearsal_makes_them_known)
{
    cst_session_options o = fixture_options("tiny-pre", 2, 12);
    cst_session *s;
    double known, seconds;
    const char *was = getenv("CASTOR_CACHE_DIR");
    char *before = was ? strdup(was) : NULL;
    setenv("CASTOR_CACHE_DIR", test_path(test_dir(), "cache"), 1);
    o.config.num_hidden_layers = 6;
    o.with_optim = 1;
    if (!o.device) o.device = "0";
    ck_ok(cst_session_imagine(&s, &o));
    ck_ok(cst_mem_know_operators(&known, &seconds, s->mem));
    ck_assert_double_eq(known, 0);
    ck_assert_double_gt(seconds, 0);
    ck_ok(cst_rehearse(&o, 0));
    ck_ok(cst_mem_know_operators(&known, &seconds, s->mem));
    ck_assert_double_gt(known, 0.9);
    cst_trace *t;
    ck_ok(cst_session_trace(&t, s));
    for (int k = 0; k < t->moments; k++) ck_assert_msg(t->moment[k].seconds >= 0, "%s", t->moment[k].op);
    ck_assert_double_gt(t->enqueue, 0);
    cst_rates other = t->rates;
    other.flops *= 2;
    cst_mem_suppose(s->mem, (uint64_t)1 << 40, &other);
    ck_ok(cst_mem_know_operators(&known, &seconds, s->mem));
    ck_assert_double_eq(known, 0);
    cst_trace_free(t);
    ck_ok(cst_session_close(s, CST_OK));
    ck_fails(cst_rehearse(&o, 4096), CST_OVER_BUDGET, "smallest --device-mem");
    if (before) setenv("CASTOR_CACHE_DIR", before, 1);
    else unsetenv("CASTOR_CACHE_DIR");
    free(before);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("operators");
    TCase *c = tcase_create("operators");
    tcase_set_timeout(c, 300);
    tcase_add_test(c, times_go_to_the_most_similar_work);
    tcase_add_test(c, newer_times_replace_older_ones);
    tcase_add_test(c, files);
    tcase_add_test(c, a_rehearsal_makes_them_known);
    suite_add_tcase(s, c);
    return test_run(s);
}
