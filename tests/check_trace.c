/* Trace files: what is saved is loaded unchanged; what is wrong is refused with the member's name. */
#include "testing.h"

#include <dirent.h>
#include <math.h>

#include "base/file.h"
#include "base/random.h"
#include "memory/memory.h"
#include "memory/trace.h"

static char path[300];

static void same(const cst_trace *a, const cst_trace *b)
{
    ck_assert_str_eq(a->device, b->device);
    ck_assert_str_eq(a->about, b->about);
    ck_assert(a->align == b->align && a->max_slab == b->max_slab && a->scratch == b->scratch);
    ck_assert(!memcmp(&a->rates, &b->rates, sizeof a->rates));
    ck_assert(a->tensors == b->tensors && a->moments == b->moments && a->uses == b->uses);
    for (int i = 0; i < a->tensors; i++) {
        const cst_trace_tensor *x = &a->tensor[i], *y = &b->tensor[i];
        ck_assert_str_eq(x->name, y->name);
        ck_assert(x->cls == y->cls && x->bytes == y->bytes && x->persistent == y->persistent && x->fixed == y->fixed && x->away == y->away);
    }
    for (int k = 0; k < a->moments; k++) {
        const cst_trace_moment *x = &a->moment[k], *y = &b->moment[k];
        ck_assert_str_eq(x->op, y->op);
        ck_assert(x->first == y->first && x->uses == y->uses && x->flops == y->flops && x->seconds == y->seconds);
        for (int i = x->first; i < x->first + x->uses; i++) {
            const cst_trace_use *u = &a->use[i], *v = &b->use[i];
            ck_assert(u->tensor == v->tensor && u->access == v->access && u->held == v->held);
        }
    }
}

static uint64_t seed, draws;

static uint64_t draw(uint64_t below)
{
    return cst_random_u64(seed, 3, draws++) % below;
}

/* From the smallest fraction to large numbers, all digits in use. */
static double draw_real(void)
{
    return ldexp((double)draw(1ull << 53), (int)draw(60) - 70);
}

/* A trace that is right, of any shape; names have what JSON must escape. */
static cst_trace *random_trace(void)
{
    static const char *const names[] = {"w", "layer \"0\"\\", "tab\there", "\xc3\xa9\xe2\x82\xac", "", "</script>&'"};
    cst_trace *t;
    int used[64] = {0};
    int id, tensors = (int)draw(40), moments = 1 + (int)draw(60);
    ck_ok(cst_trace_create(&t));
    t->align = 1ull << draw(13);
    t->max_slab = t->align << (10 + draw(20));
    t->scratch = draw(1ull << 40);
    t->rates = (cst_rates){1 + draw_real(), 1 + draw_real(), 0.5 + 0.5 / (double)(1 + draw(1000)),
                           1 + draw_real(), 1 + draw_real(), 1e-9 + ldexp(1, -(int)draw(20))};
    snprintf(t->device, sizeof t->device, "%s", names[draw(6)]);
    snprintf(t->about, sizeof t->about, "%s, batch %d", names[draw(6)], (int)draw(9));
    for (int i = 0; i < tensors; i++) {
        int fixed = draw(5) == 0;
        ck_ok(cst_trace_add_tensor(t, names[draw(6)], (int)draw(CST_CLASS_COUNT), 1 + draw(t->max_slab), fixed || draw(2), fixed, &id));
        t->tensor[id].away = t->tensor[id].persistent && !fixed && draw(3) == 0;
    }
    for (int k = 0; k < moments; k++) {
        ck_ok(cst_trace_add_moment(t, names[draw(6)], draw(2) ? draw_real() : 0));
        if (draw(2)) t->moment[k].seconds = fmod(draw_real(), 1e6);
        for (int i = tensors ? (int)draw(6) : 0; i > 0; i--) {
            id = (int)draw((uint64_t)tensors);
            if (used[id] > k) continue;
            ck_ok(cst_trace_add_use(t, id, t->tensor[id].persistent || used[id] ? 1 + (int)draw(3) : CST_WRITE, (int)draw(2)));
            used[id] = k + 1;
        }
    }
    return t;
}

START_TEST(random_traces_survive)
{
    for (seed = 1; seed <= 400; seed++) {
        draws = 0;
        cst_trace *t = random_trace(), *back;
        ck_ok(cst_trace_save(t, path));
        ck_ok(cst_trace_load(&back, path));
        same(t, back);
        cst_trace_free(back);
        cst_trace_free(t);
    }
}
END_TEST

/* Two tensors, two moments; every part that a test replaces comes once. */
static const char good[] =
    "{\"castor_trace\": 1, \"device\": \"d\", \"about\": \"a\", \"later\": [1], \"align\": 256, \"max_slab\": 4096, \"scratch\": 64,\n"
    "\"rates\": {\"up\": 1e9, \"down\": 2e9, \"both\": 0.75, \"memory\": 3e9, \"flops\": 4e9, \"launch\": 1e-6},\n"
    "\"tensors\": [{\"name\": \"w\", \"class\": \"parameters\", \"bytes\": 512, \"persistent\": true, \"fixed\": true},\n"
    "{\"name\": \"x\", \"class\": \"activations\", \"bytes\": 1024, \"shape\": [16, 16]}],\n"
    "\"moments\": [[\"first\", 8.5, 0.25, [[1,2,0],[0,1,1]]], [\"second\", 0, null, []]]}\n";

static cst_status load_text(cst_trace **t, const char *text, size_t n)
{
    ck_ok(cst_file_write(path, text, n));
    return cst_trace_load(t, path);
}

/* The good file with one part replaced. */
static cst_status load_with(const char *old, const char *new)
{
    char text[40000];
    cst_trace *t;
    const char *at = strstr(good, old);
    ck_assert_msg(at != NULL, "%s", old);
    int n = snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, new, at + strlen(old));
    ck_assert_int_lt(n, (int)sizeof text);
    cst_status st = load_text(&t, text, (size_t)n);
    if (st == CST_OK) cst_trace_free(t);
    return st;
}

START_TEST(members_are_read)
{
    cst_trace *t;
    ck_ok(load_text(&t, good, sizeof good - 1)); /* with members that nobody knows */
    ck_assert(t->align == 256 && t->max_slab == 4096 && t->scratch == 64 && t->tensors == 2 && t->moments == 2 && t->uses == 2);
    ck_assert(t->rates.up == 1e9 && t->rates.down == 2e9 && t->rates.both == 0.75 && t->rates.memory == 3e9 && t->rates.flops == 4e9 &&
              t->rates.launch == 1e-6);
    ck_assert(t->tensor[0].cls == CST_PARAM && t->tensor[0].persistent && t->tensor[0].fixed);
    ck_assert(t->tensor[1].cls == CST_ACTIVATION && !t->tensor[1].persistent && t->tensor[1].bytes == 1024);
    ck_assert(t->moment[0].flops == 8.5 && t->moment[0].seconds == 0.25 && t->moment[0].uses == 2);
    ck_assert(t->moment[1].seconds < 0 && t->moment[1].uses == 0);
    ck_assert(t->use[0].tensor == 1 && t->use[0].access == CST_WRITE && !t->use[0].held && t->use[1].held);
    cst_trace_free(t);
    ck_ok(load_with("\"device\": \"d\", \"about\": \"a\", ", ""));
}
END_TEST

static const struct {
    const char *old, *new, *words;
} bad[] = {
    {"\"castor_trace\": 1", "\"castor_trace\": 2", "\"castor_trace\" is 2; this program reads 1"},
    {"\"castor_trace\": 1, ", "", "\"castor_trace\" is missing"},
    {"\"castor_trace\": 1", "\"castor_trace\": \"1\"", "\"castor_trace\" must be an integer"},
    {"\"device\": \"d\"", "\"device\": 3", "\"device\" must be a string"},
    {"\"align\": 256, ", "", "\"align\" is missing"},
    {"\"align\": 256", "\"align\": 0", "\"align\" is 0; allowed: 1 to"},
    {"\"align\": 256", "\"align\": -256", "\"align\" is -256; allowed: 1 to"},
    {"\"align\": 256", "\"align\": null", "\"align\" is missing"},
    {"\"max_slab\": 4096", "\"max_slab\": 4000", "align or max_slab"},
    {"\"max_slab\": 4096", "\"max_slab\": 9223372036854775807", "\"max_slab\" is"},
    {"\"max_slab\": 4096", "\"max_slab\": 99999999999999999999", "line 1"},
    {"\"max_slab\": 4096", "\"max_slab\": 512", "tensor 1 (x) has 1024 bytes"},
    {"\"scratch\": 64", "\"scratch\": -1", "\"scratch\" is -1"},
    {"\"scratch\": 64", "\"scratch\": 1.5", "\"scratch\" must be an integer"},
    {"\"rates\": {", "\"rate\": {", "\"rates\" must be an object"},
    {"\"up\": 1e9, ", "", "\"rates\": \"up\" is missing"},
    {"\"up\": 1e9", "\"up\": 0", "\"up\" is 0; allowed: 1 to"},
    {"\"up\": 1e9", "\"up\": true", "\"up\" must be a number"},
    {"\"both\": 0.75", "\"both\": 1.5", "\"both\" is 1.5; allowed: 0.01 to 1"},
    {"\"launch\": 1e-6", "\"launch\": 1e-300", "\"launch\" is 1e-300"},
    {"\"flops\": 4e9", "\"flops\": 1e999", "line 2"},
    {"\"tensors\": [", "\"tensors\": 2, \"t\": [", "\"tensors\" must be an array"},
    {"\"tensors\": [", "\"t\": [", "\"tensors\" is missing"},
    {"{\"name\": \"w\"", "7, {\"name\": \"w\"", "\"tensors\"[0] must be an object"},
    {"\"name\": \"x\", ", "", "\"tensors\"[1]: \"name\" is missing"},
    {"\"class\": \"parameters\"", "\"class\": \"params\"", "\"tensors\"[0]: \"class\" is \"params\"; allowed: parameters, gradients"},
    {"\"class\": \"parameters\", ", "", "\"tensors\"[0]: \"class\" is missing"},
    {"\"bytes\": 512", "\"bytes\": 513", "\"tensors\"[0]: \"bytes\" is 513, no multiple"},
    {"\"bytes\": 512", "\"bytes\": 0", "\"bytes\" is 0; allowed: 1"},
    {"\"bytes\": 512", "\"bytes\": \"big\"", "\"bytes\" must be an integer"},
    {"\"persistent\": true", "\"persistent\": false", "\"fixed\" is true, but"},
    {"\"fixed\": true", "\"fixed\": true, \"away\": true", "\"away\" is true, but"},
    {"\"persistent\": true", "\"persistent\": 1", "\"persistent\" must be true or false"},
    {"\"moments\": [", "\"moments\": {}, \"m\": [", "\"moments\" must be an array"},
    {"\"moments\": [", "\"m\": [", "\"moments\" is missing"},
    {"\"moments\": [", "\"moments\": [], \"m\": [", "it has no moments"},
    {"[\"first\", 8.5,", "[8.5,", "\"moments\"[0] must be an array [op, flops, seconds, uses]"},
    {"[\"second\", 0, null, []]", "\"second\"", "\"moments\"[1] must be an array"},
    {"\"first\"", "1", "\"moments\"[0]: its op must be a string"},
    {"\"first\"", "\"012345678901234567890123456789012345678901234567\"", "its op must be a string of less than 48 bytes"},
    {"8.5", "-8.5", "its flops must be a number of 0 or more"},
    {"8.5", "null", "its flops must be a number"},
    {"8.5", "1e30", "\"moments\"[0]: 1e+30 FLOP; allowed: 0 to"},
    {"0.25", "-1", "its seconds must be a number of 0 or more, or null"},
    {"0.25", "1e7", "\"moments\"[0]: 1e+07 seconds; allowed"},
    {"[]]", "3]", "\"moments\"[1]: its uses must be an array"},
    {"[1,2,0]", "[1,2]", "a use must be an array [tensor, access, held]"},
    {"[1,2,0]", "[2,2,0]", "a use's tensor must be an integer from 0 to 1"},
    {"[1,2,0]", "[-1,2,0]", "a use's tensor must be"},
    {"[1,2,0]", "[1,0,0]", "a use's access must be an integer from 1 to 3"},
    {"[1,2,0]", "[1,2.0,0]", "a use's access must be"},
    {"[1,2,0]", "[1,2,true]", "a use's held must be an integer from 0 to 1"},
    {"[1,2,0]", "[1,1,0]", "moment 0 (first) reads x before anything wrote it"},
    {"[0,1,1]", "[1,1,1]", "\"moments\"[0]: tensor 1 is used twice"},
    {"[[\"first\"", "[\"first\"", "line 5"},
    {"\"castor_trace\": 1", "\"castor_trace\": 1, \"align\": 128", "duplicate"},
};

START_TEST(bad_files_are_refused)
{
    ck_fails(load_with(bad[_i].old, bad[_i].new), CST_INPUT, bad[_i].words);
    ck_assert_msg(strstr(cst_detail(), path) == cst_detail(), "%s", cst_detail());
}
END_TEST

START_TEST(whole_files_that_are_bad)
{
    cst_trace *t;
    char name[200], long_text[900], uses[300 * 8 + 1];
    for (size_t n = 0; n + 2 < sizeof good; n += 7) ck_assert_int_eq(load_text(&t, good, n), CST_INPUT); /* cut anywhere */
    ck_fails(load_text(&t, "[]", 2), CST_INPUT, "expected a JSON object");
    ck_fails(load_text(&t, "\0\0", 2), CST_INPUT, path);
    ck_fails(cst_trace_load(&t, "/proc/none"), CST_IO, "/proc/none");
    ck_fails(cst_trace_load(&t, test_dir()), CST_IO, "not a regular file");
    memset(name, 'n', sizeof name);
    name[96] = 0;
    snprintf(long_text, sizeof long_text, "\"name\": \"%s\"", name);
    ck_fails(load_with("\"name\": \"x\"", long_text), CST_INPUT, "\"tensors\"[1]: \"name\" is longer than 95 bytes");
    name[95] = 0;
    snprintf(long_text, sizeof long_text, "\"name\": \"%s\"", name);
    ck_ok(load_with("\"name\": \"x\"", long_text));
    for (int i = 0; i < 300; i++) memcpy(uses + 8 * i, "[0,1,0],", 9);
    uses[300 * 8 - 1] = 0;
    ck_fails(load_with("[0,1,1]", uses), CST_INPUT, "an array of at most 256");
}
END_TEST

START_TEST(saving_refuses_what_loading_would)
{
    cst_trace *t;
    int id;
    char none[320];
    snprintf(none, sizeof none, "%s/none.json", test_dir());
    ck_ok(cst_trace_create(&t));
    ck_fails(cst_trace_save(t, none), CST_INPUT, "no moments");
    ck_ok(cst_trace_add_tensor(t, "w", CST_PARAM, 1, 1, 0, &id));
    ck_ok(cst_trace_add_moment(t, "op", NAN));
    ck_fails(cst_trace_save(t, none), CST_INPUT, "\"moments\"[0]: nan FLOP");
    t->moment[0].flops = 0;
    t->moment[0].seconds = INFINITY;
    ck_fails(cst_trace_save(t, none), CST_INPUT, "seconds");
    t->moment[0].seconds = -1;
    t->rates.both = 2;
    ck_fails(cst_trace_save(t, none), CST_INPUT, "\"both\" is 2");
    t->rates.both = 1;
    t->tensor[0].cls = CST_CLASS_COUNT;
    ck_fails(cst_trace_save(t, none), CST_INPUT, "there is no class 6");
    t->tensor[0].cls = CST_PARAM;
    t->max_slab = 1ull << 60;
    ck_fails(cst_trace_save(t, none), CST_INPUT, "max_slab");
    t->max_slab = 1ull << 32;
    ck_assert(!cst_path_exists(none));
    ck_fails(cst_trace_save(t, "/proc/none/t.json"), CST_IO, "/proc/none");
    ck_ok(cst_trace_save(t, none));
    cst_trace_free(t);
}
END_TEST

static cst_status rates_with(cst_rates *r, const char *text, int *computing)
{
    ck_ok(cst_file_write(path, text, strlen(text)));
    return cst_rates_load(r, path, computing);
}

START_TEST(rates_come_from_a_file)
{
    cst_rates r = {1, 2, 0.5, 4, 5, 6}, was = r;
    int computing = 9;
    ck_ok(rates_with(&r, "{\"up\": 10, \"down\": 20}", &computing));
    ck_assert(r.up == 10 && r.down == 20 && r.both == 0.5 && r.memory == 4 && !computing);
    ck_ok(rates_with(&r, good, &computing)); /* a whole trace */
    ck_assert(r.up == 1e9 && r.flops == 4e9 && computing);
    r = was;
    ck_fails(rates_with(&r, "{\"up\": 10, \"down\": 0}", &computing), CST_INPUT, "\"down\" is 0; allowed");
    ck_fails(rates_with(&r, "{\"upload\": 10}", &computing), CST_INPUT, "none of up, down");
    ck_fails(rates_with(&r, "{\"rates\": 10}", &computing), CST_INPUT, "\"rates\" must be an object");
    ck_fails(rates_with(&r, "{\"up\": \"10\"}", &computing), CST_INPUT, "\"up\" must be a number");
    ck_assert(!memcmp(&r, &was, sizeof r));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("trace");
    TCase *tc = tcase_create("files");
    snprintf(path, sizeof path, "%s/trace.json", test_dir());
    tcase_add_test(tc, random_traces_survive);
    tcase_add_test(tc, members_are_read);
    tcase_add_loop_test(tc, bad_files_are_refused, 0, (int)(sizeof bad / sizeof *bad));
    tcase_add_test(tc, whole_files_that_are_bad);
    tcase_add_test(tc, saving_refuses_what_loading_would);
    tcase_add_test(tc, rates_come_from_a_file);
    suite_add_tcase(s, tc);
    return test_run(s);
}
