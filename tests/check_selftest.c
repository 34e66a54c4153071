/* Kernels prove themselves: right ones once, wrong ones are noticed, taken out of use, and remembered. */
#include "op_testing.h"

#include "base/file.h"
#include "base/log.h"
#include "device/quirks.h"
#include "device/source.h"
#include "selftest/selftest.h"

static const cst_self_test_use everything = {42, 2, CST_RELU, .dropout = 1, .train = 1, .generate = 1, .cast = 1};
static char warning[600]; /* the last one */
static int warnings, tests, builds;

static void listen(cst_log_level level, const char *line, void *user)
{
    (void)user;
    builds += !strncmp(line, "building", 8);
    tests += !strncmp(line, "self-test:", 10);
    if (level != CST_LOG_WARN) return;
    warnings++;
    snprintf(warning, sizeof warning, "%s", line);
}

/* Self-test on a device opened anew, as another process would. *other: the family's kernels are in another shape. */
static cst_status start(const cst_self_test_use *use, const char *file, int *other)
{
    cst_device *d;
    warnings = tests = builds = 0;
    cst_log_set(listen, NULL, CST_LOG_INFO);
    ck_ok(cst_device_open(&d, getenv("CASTOR_DEVICE"), 0));
    cst_status st = cst_self_test(d, use);
    *other = cst_device_shape(d, file).group != d->group;
    ck_assert_int_eq(d->reshapes, *other);
    cst_program_save(d);
    cst_device_close(d);
    cst_log_set(NULL, NULL, CST_LOG_INFO);
    return st;
}

/* A copy of the kernels, in the one named `file` `instead` for `there`; there NULL: in front of it. */
static void plant(const char *file, const char *there, const char *instead)
{
    ck_ok(cst_make_dirs(test_file("cl")));
    for (const cst_embedded *f = cst_embedded_files; f->name; f++) {
        char *made = NULL;
        size_t n;
        FILE *out = open_memstream(&made, &n);
        if (strcmp(f->name, file)) {
            fputs(f->text, out);
        } else {
            const char *at = there ? strstr(f->text, there) : f->text;
            if (!at) ck_abort_msg("%s has no \"%s\"", file, there);
            fprintf(out, "%.*s%s%s", (int)(at - f->text), f->text, instead, at + (there ? strlen(there) : 0));
        }
        fclose(out);
        ck_ok(cst_file_write(test_path(test_file("cl"), f->name), made, n));
        free(made);
    }
    setenv("CASTOR_CL_DIR", test_file("cl"), 1);
}

static void new_cache(void)
{
    static int n;
    char name[32];
    snprintf(name, sizeof name, "cache-%d", n++);
    setenv("CASTOR_CACHE_DIR", test_file(name), 1);
    unsetenv("CASTOR_CL_DIR");
}

START_TEST(right_kernels_prove_themselves_once)
{
    int other;
    cst_self_test_use gelu = everything;
    new_cache();
    ck_ok(start(&everything, "fill", &other));
    ck_assert(!warnings && !other && tests == 1 && builds > 8);
    ck_ok(start(&everything, "fill", &other));
    ck_assert(!warnings && !other && tests == 0 && builds == 0);
    gelu.activation = CST_GELU; /* what is built otherwise is proven by itself */
    ck_ok(start(&gelu, "fill", &other));
    ck_assert(!warnings && !other && tests == 1 && builds == 1);

    cst_self_test_use tight = everything; /* no trial takes more than the budget; what is left out comes another time */
    new_cache();
    tight.device_mem = 1000;
    ck_ok(start(&tight, "fill", &other));
    ck_assert(!warnings && !other);
    tight.device_mem = 0;
    ck_ok(start(&tight, "fill", &other));
    ck_assert(!warnings && !other && tests == 1 && builds > 8);
}
END_TEST

/* Wrong in the device's own shape only: the other one serves. */
START_TEST(the_other_shape_stands_in)
{
    char fault[100];
    const cst_self_test_use plain = {42, 2, CST_RELU, .train = 1};
    int other, shared = (dev->info.quirks & CST_QUIRK_SHARE_ROWS) != 0;
    new_cache();
    snprintf(fault, sizeof fault, "root2 + (WG == %d ? 0.5f : eps);", dev->group);
    plant("adamw.cl", "root2 + eps;", fault);
    if (shared) { /* there is no other shape for this device */
        ck_fails(start(&plain, "adamw", &other), CST_UNSUPPORTED, "cl/adamw.cl");
        return;
    }
    ck_ok(start(&plain, "adamw", &other));
    ck_assert(other && warnings == 1 && tests == 1);
    ck_assert(strstr(warning, "cl/adamw.cl") && strstr(warning, dev->info.name) && strstr(warning, "wrong result: AdamW's weights"));
    ck_ok(start(&plain, "adamw", &other));
    ck_assert(other && !warnings && !tests && !builds);
    plant("adamw.cl", NULL, "/* mended */\n");
    ck_ok(start(&plain, "adamw", &other));
    ck_assert(!other && !warnings && tests == 1 && builds == 1);
}
END_TEST

START_TEST(a_kernel_without_alternative_is_refused)
{
    const cst_self_test_use plain = {.columns = 42, .heads = 2};
    int other;
    new_cache();
    plant("fill.cl", "j < n; j++", "j + 1 < n; j++");
    for (int again = 0; again < 2; again++) {
        ck_fails(start(&plain, "fill", &other), CST_UNSUPPORTED, "cl/fill.cl");
        ck_assert(strstr(cst_detail(), dev->info.name) && strstr(cst_detail(), dev->info.driver) && strstr(cst_detail(), "wrong result: fill[530]"));
        ck_assert(strstr(cst_detail(), "CASTOR_SELF_TEST=off"));
        ck_assert(!other && !warnings && (again ? !builds : builds >= 1));
    }
    setenv("CASTOR_SELF_TEST", "off", 1);
    ck_ok(start(&plain, "fill", &other));
    ck_assert(!builds && !tests && !warnings);
    unsetenv("CASTOR_SELF_TEST");
    plant("fill.cl", NULL, "#error not on this device\n"); /* no verdict: it may be another time */
    ck_fails(start(&plain, "fill", &other), CST_UNSUPPORTED, "doesn't build");
    ck_fails(start(&plain, "fill", &other), CST_UNSUPPORTED, "doesn't build");
}
END_TEST

/* One fault in each family; shape: 1 one work-item a row, 2 groups, 0 both. */
static const struct {
    const char *file, *there, *instead;
    int shape;
} faults[] = {
    {"fill", "if (i + VW <= n) {", "if (i < n) {", 0}, /* writes behind the end */
    {"embed", "for (int k = from; k < to; k++)", "for (int k = from + 1; k < to; k++)", 0},
    {"embed", "(has_pos ? row % seq + offset : 0)", "(has_pos ? row % seq : 0)", 0},
    {"linear", "for (int i = 1; i < rows; i++)", "for (int i = 2; i < rows; i++)", 1},
    {"linear", "for (; i < end; i += rows) a[0]", "for (; i + rows < end; i += rows) a[0]", 2},
    {"gemm_epilogue", "if (has_residual) v += row_load", "if (has_residual) v -= row_load", 2},
    {"layer_norm", "fma(xhat, (floatv)(t.y), (floatv)(t.x));", "xhat * t.y;", 0},
    {"residual", "dropout(row_load(ds + c, d - c), at + c,", "dropout(row_load(ds + c, d - c), at + c + 1,", 0},
    {"activation", "return y > (floatv)(0.0f) ? dy", "return y < (floatv)(0.0f) ? dy", 0},
    {"attention", "delta[i] = sum + lanes_sum(sums);", "delta[i] = sum - lanes_sum(sums);", 0},
    {"attention_decode", "a[i] *= down;", "a[i] *= 1.0f;", 1},
    {"attention_decode", "for (int p = 1; p < PARTS; p++) sum", "for (int p = 2; p < PARTS; p++) sum", 2},
    {"cross_entropy", "loss[row] = log(total) - hit;", "loss[row] = log(total) + hit;", 0},
    {"cross_entropy", "x[target] = exp(hit) * factor - scale;", "x[target] = exp(hit) * factor;", 0},
    {"grad_norm", "s3 = fma(d, d, s3);", "s3 = fma(d, c, s3);", 0},
    {"adamw", "w[j] = fma(-step, a / d, w[j] * decay);", "w[j] = fma(-step, a / d, w[j]);", 0},
    {"cast", "rounded = (u + 0x7FFF + (u >> 16 & 1)) >> 16;", "rounded = u >> 16;", 0},
};

START_TEST(every_family_notices_a_fault)
{
    int other;
    char file[40];
    new_cache();
    ck_ok(start(&everything, "fill", &other)); /* so that each fault costs its own family only */
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        if (faults[i].shape && faults[i].shape != (dev->group > 1 ? 2 : 1)) continue;
        snprintf(file, sizeof file, "%s.cl", faults[i].file);
        plant(file, faults[i].there, faults[i].instead);
        cst_status st = start(&everything, faults[i].file, &other);
        if (st == CST_OK && !other) ck_abort_msg("%s with \"%s\": unnoticed", file, faults[i].instead);
        if (st != CST_OK && (st != CST_UNSUPPORTED || !strstr(cst_detail(), file) || strstr(cst_detail(), "build")))
            ck_abort_msg("%s with \"%s\": %s", file, faults[i].instead, cst_detail());
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("selftest");
    TCase *tc = op_case(s, "selftest");
    tcase_add_test(tc, right_kernels_prove_themselves_once);
    tcase_add_test(tc, the_other_shape_stands_in);
    tcase_add_test(tc, a_kernel_without_alternative_is_refused);
    tcase_add_test(tc, every_family_notices_a_fault);
    return op_main(s);
}
