/* Which engine serves a product: modes, measured shapes, recorded choices, and proofs before the first use. */
#include "op_testing.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "device/source.h"
#include "gemm/engine.h"
#include "gemm/packed.h"
#include "gemm/state.h"

static cst_tensor *a, *b, *halves;
static char cache[300];
static int before;

static void forget(void)
{
    if (dev->gemm) dev->gemm_free(dev->gemm);
    dev->gemm = NULL;
    json_decref(dev->verdicts);
    dev->verdicts = NULL;
}

/* A device that knows nothing yet, and a cache of its own. */
static void setup(void)
{
    static int n;
    snprintf(cache, sizeof cache, "%s/cache-%d-%d", test_dir(), (int)getpid(), n++);
    setenv("CASTOR_CACHE_DIR", cache, 1);
    ck_ok(cst_make_dirs(cache));
    forget();
    op_setup();
    int64_t many = 1 << 20;
    a = op_tensor("a", CST_DATA, many, 0, NULL);
    b = op_tensor("b", CST_DATA, many, 0, NULL);
    ck_ok(cst_tensor_create(&halves, mem, CST_DATA, CST_F16, 1, &many, "halves"));
}

static void teardown(void)
{
    cst_tensor_free(a), cst_tensor_free(b), cst_tensor_free(halves);
    op_teardown();
}

static cst_gemm_args shape(int64_t m, int64_t n, int64_t k, int ta, int tb)
{
    return (cst_gemm_args){.m = m, .n = n, .k = k, .trans_a = ta, .trans_b = tb, .a = a, .b = b};
}

static const char *choice(const cst_gemm_args *g)
{
    static char text[48];
    cst_gemm_choice how;
    ck_ok(cst_gemm_choose(&how, dev, g, 0));
    return cst_gemm_choice_text(text, &how);
}

START_TEST(texts_come_back)
{
    static const char *const good[] = {"clblast", "native columns 4x512", "native rows 16x64", "native strips 1x1024"};
    static const char *const bad[] = {
        "",       "native", "native columns", "native columns 0x512", "native columns 4x8", "native tiles 4x512", "native rows 4x512 ",
        "CLBlast"};
    cst_gemm_choice how;
    char text[48];
    for (int i = 0; i < 4; i++) {
        ck_ok(cst_gemm_choice_parse(&how, good[i], "file"));
        ck_assert_str_eq(cst_gemm_choice_text(text, &how), good[i]);
    }
    for (int i = 0; i < 8; i++) ck_fails(cst_gemm_choice_parse(&how, bad[i], "file"), CST_INPUT, "file: engine");
}
END_TEST

START_TEST(modes)
{
    cst_gemm_args g = shape(64, 64, 64, 0, 1);
    cst_gemm_choice how;
    ck_ok(cst_gemm_set_mode(dev, CST_GEMM_MODE_CLBLAST));
    ck_assert_str_eq(choice(&g), "clblast");
    g.a = halves;
    ck_fails(cst_gemm_choose(&how, dev, &g, 0), CST_UNSUPPORTED, "f16");
    ck_ok(cst_gemm_set_mode(dev, CST_GEMM_MODE_NATIVE));
    g.a = a;
    if (dev->group > 1) {
        ck_fails(cst_gemm_choose(&how, dev, &g, 0), CST_UNSUPPORTED, "--gemm native");
        return;
    }
    ck_assert(!strncmp(choice(&g), dev->narrow ? "native columns" : "native strips", 13));
    g.b = halves; /* strips read it in place */
    ck_assert(!strncmp(choice(&g), "native columns", 14));
}
END_TEST

/* Whatever the shape and the local memory, the rule's choice can be built. */
START_TEST(the_rule_fits_every_device)
{
    static const int64_t size[] = {1, 7, 64, 513, 4096, 50272};
    cst_device fake = *dev;
    for (int i = 0; i < 6 * 6 * 4 * 3; i++) {
        cst_gemm_args g = shape(size[i % 6], size[i / 6 % 6], 100, i / 36 & 1, i / 72 & 1);
        fake.info.local_bytes = i / 144 == 0 ? 16384 : i / 144 == 1 ? 32768 : 1 << 20;
        fake.info.units = 1 + (uint32_t)i % 64;
        cst_gemm_choice how = cst_gemm_rule(&fake, &g);
        ck_assert(cst_gemm_fits(&how, &fake, &g));
    }
}
END_TEST

START_TEST(the_nearest_measured_shape_decides)
{
    cst_gemm_state *s;
    cst_gemm_choice one = {CST_GEMM_NATIVE, CST_GEMM_COLUMNS, 1, 64}, two = {CST_GEMM_NATIVE, CST_GEMM_ROWS, 2, 64},
                    none = {CST_GEMM_CLBLAST, 0, 0, 0};
    if (dev->group > 1) return;
    ck_ok(cst_gemm_state_get(&s, dev));
    cst_tuning_clear(&s->tuning);
    ck_ok(cst_tuning_add(&s->tuning, &(cst_gemm_shape_key){100, 100, 100, 0, 0, CST_F32, CST_F32}, &one, 1));
    ck_ok(cst_tuning_add(&s->tuning, &(cst_gemm_shape_key){1000, 1000, 1000, 0, 0, CST_F32, CST_F32}, &two, 1));
    ck_ok(cst_tuning_add(&s->tuning, &(cst_gemm_shape_key){10, 10, 10, 0, 0, CST_F32, CST_F32}, &none, 1));
    cst_gemm_args g = shape(120, 90, 100, 0, 0);
    ck_assert_str_eq(choice(&g), "native columns 1x64");
    g = shape(500, 700, 1000, 0, 0);
    ck_assert_str_eq(choice(&g), "native rows 2x64");
    g = shape(9, 11, 10, 0, 0);
    ck_assert_str_eq(choice(&g), "clblast");
    g.a = halves; /* not for CLBlast: the next one */
    ck_assert_str_eq(choice(&g), "native columns 1x64");
    ck_ok(cst_gemm_set_mode(dev, CST_GEMM_MODE_NATIVE));
    g.a = a;
    ck_assert_str_eq(choice(&g), "native columns 1x64");
}
END_TEST

START_TEST(recorded_choices_are_repeated)
{
    cst_gemm_args g = shape(64, 96, 32, 0, 1), h = shape(64, 96, 33, 1, 0);
    char first[48];
    snprintf(first, sizeof first, "%s", choice(&g));
    json_t *j = cst_gemm_choices_json(dev), *p = json_object_get(j, "products");
    ck_assert_int_eq(json_array_size(p), 1);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(p, 0), "engine")), first);
    json_object_set_new(json_array_get(p, 0), "engine", json_string("native rows 3x48")); /* what no rule gives */
    ck_ok(cst_gemm_choices_pin(dev, j, "run.json"));
    ck_assert_str_eq(choice(&g), "native rows 3x48");
    ck_ok(cst_gemm_set_mode(dev, CST_GEMM_AUTO));
    ck_assert_str_eq(choice(&g), "native rows 3x48");
    ck_assert_str_ne(choice(&h), "native rows 3x48");
    json_object_set_new(json_array_get(p, 0), "m", json_string("64"));
    ck_fails(cst_gemm_choices_pin(dev, j, "run.json"), CST_INPUT, "run.json");
    json_object_set_new(j, "device", json_string("another"));
    ck_fails(cst_gemm_choices_pin(dev, j, "run.json"), CST_INPUT, "another");
    json_decref(j);
}
END_TEST

/* The kernels with a fault in them: the proof finds it, remembers it, and the choice goes elsewhere. */
static void plant_fault(const char *dir, const char *there, const char *instead)
{
    char *text, path[600], *at;
    ck_ok(cst_make_dirs(dir));
    for (const cst_embedded *f = cst_embedded_files; f->name; f++) {
        text = strdup(f->text);
        if (!strcmp(f->name, "gemm_cpu.cl")) {
            ck_assert((at = strstr(text, there)) != NULL);
            memcpy(at, instead, strlen(instead));
        }
        snprintf(path, sizeof path, "%s/%s", dir, f->name);
        ck_ok(cst_file_write(path, text, strlen(text)));
        free(text);
    }
}

START_TEST(a_wrong_engine_is_out_of_use)
{
    char dir[400];
    cst_gemm_args g = shape(64, 64, 64, 0, 0);
    cst_gemm_choice how, wrong = {CST_GEMM_NATIVE, CST_GEMM_COLUMNS, 1, 64}, right = {CST_GEMM_NATIVE, CST_GEMM_ROWS, 1, 64};
    if (dev->group > 1) return;
    ck_ok(cst_gemm_prove(&before, dev, &g, &wrong)); /* as it is */
    snprintf(dir, sizeof dir, "%s/cl", cache);
    plant_fault(dir, "!TB, kc, min(NR, n - col)", "!TB, 16,"); /* a part of the panel is packed only */
    setenv("CASTOR_CL_DIR", dir, 1);
    wrong.kc = 80; /* another build */
    ck_fails(cst_gemm_prove(&before, dev, &g, &wrong), CST_STATE, "wrong result");
    ck_assert(!before);
    ck_fails(cst_gemm_prove(&before, dev, &g, &wrong), CST_STATE, "wrong result");
    ck_assert(before);
    ck_ok(cst_gemm_prove(&before, dev, &g, &right));
    forget(); /* another process */
    ck_fails(cst_gemm_prove(&before, dev, &g, &wrong), CST_STATE, "wrong result");
    ck_assert(before);
    setenv("CASTOR_SELF_TEST", "off", 1);
    ck_ok(cst_gemm_prove(&before, dev, &g, &wrong));
    unsetenv("CASTOR_SELF_TEST");
    cst_gemm_state *s;
    ck_ok(cst_gemm_state_get(&s, dev));
    cst_tuning_clear(&s->tuning);
    ck_ok(cst_tuning_add(&s->tuning, &(cst_gemm_shape_key){64, 64, 64, 0, 0, CST_F32, CST_F32}, &wrong, 1));
    ck_ok(cst_gemm_choose(&how, dev, &g, 1));
    ck_assert(how.engine == CST_GEMM_CLBLAST); /* the rule's columns are wrong, too */
    unsetenv("CASTOR_CL_DIR");
}
END_TEST

/* The kernel for weights kept packed proves itself where it will be used. */
START_TEST(a_wrong_kernel_for_kept_weights_is_noticed)
{
    char dir[400];
    cst_gemm_args g = shape(64, 64, 64, 0, 0);
    cst_gemm_choice how = {CST_GEMM_NATIVE, CST_GEMM_COLUMNS, 1, 96};
    if (dev->group > 1) return;
    snprintf(dir, sizeof dir, "%s/cl", cache);
    plant_fault(dir, "col / NR * step + (ulong)k0", "col / NR * step + (ulong)13");
    setenv("CASTOR_CL_DIR", dir, 1);
    ck_ok(cst_gemm_prove(&before, dev, &g, &how));
    cst_tensor *w = op_tensor("w", CST_PARAM, 64, 64, NULL);
    g.b = w;
    g.ldb = 64;
    ck_ok(cst_gemm_keep_packed(w));
    ck_fails(cst_gemm_prove(&before, dev, &g, &how), CST_STATE, "wrong result");
    cst_tensor_free(w);
    unsetenv("CASTOR_CL_DIR");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gemm_choice");
    TCase *tc = tcase_create("gemm_choice");
    tcase_set_timeout(tc, 0);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, texts_come_back);
    tcase_add_test(tc, modes);
    tcase_add_test(tc, the_rule_fits_every_device);
    tcase_add_test(tc, the_nearest_measured_shape_decides);
    tcase_add_test(tc, recorded_choices_are_repeated);
    tcase_add_test(tc, a_wrong_engine_is_out_of_use);
    tcase_add_test(tc, a_wrong_kernel_for_kept_weights_is_noticed);
    suite_add_tcase(s, tc);
    return op_main(s);
}
