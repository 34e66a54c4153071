/* The audit layer counts exactly what a program does. This program starts itself again with the layer in
 * OPENCL_LAYERS; the child makes OpenCL calls of known effect (argv[1] names which), and the parent reads
 * the report that the layer left behind.
 */
#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#include <CL/cl.h>
#include <glob.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audit_children.h"
#include "base/file.h"
#include "base/json.h"
#include "testing.h"

static const char *self;

static const char *layer_path(void)
{
    const char *p = getenv("AUDIT_LAYER");
    return p ? p : "./tests/audit_layer.so";
}

static const char *report_path(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/report.json", test_dir());
    return path;
}

/* Run one child under the layer; its exit status. `name`, `value`: one more variable, or NULL. */
static int run_child(const char *scenario, const char *name, const char *value)
{
    int status;
    unlink(report_path());
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
        setenv("OPENCL_LAYERS", layer_path(), 1);
        setenv("CASTOR_AUDIT_FILE", report_path(), 1);
        unsetenv("CASTOR_AUDIT_LIMIT");
        unsetenv("CASTOR_AUDIT_FAIL");
        if (name) setenv(name, value, 1);
        execl(self, self, scenario, (char *)NULL);
        _exit(126);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return 125;
    return WEXITSTATUS(status);
}

static json_t *load_report(int child_status)
{
    json_t *j;
    ck_assert_int_eq(child_status, 0);
    ck_ok(cst_json_load(&j, report_path(), JSON_OBJECT));
    return j;
}

static json_t *audit_env(const char *scenario, const char *name, const char *value)
{
    return load_report(run_child(scenario, name, value));
}

static json_t *audit(const char *scenario)
{
    return audit_env(scenario, NULL, NULL);
}

/* NULL, with a word about it, when the child found that what it needs isn't there. */
static json_t *audit_or_skip(const char *scenario)
{
    int r = run_child(scenario, NULL, NULL);
    if (r != SKIP) return load_report(r);
    fprintf(stderr, "%s: not there, not tried\n", scenario);
    return NULL;
}

/* A whole number of the report; "alive.mems" looks one object deeper. */
static long long value(const json_t *j, const char *key)
{
    char outer[64];
    const char *dot = strchr(key, '.');
    if (dot) {
        snprintf(outer, sizeof outer, "%.*s", (int)(dot - key), key);
        j = json_object_get(j, outer);
        key = dot + 1;
    }
    json_t *v = json_object_get(j, key);
    if (!json_is_integer(v)) ck_abort_msg("the report lacks %s", key);
    return json_integer_value(v);
}

#define is(j, key, want)                                                                                  \
    do {                                                                                                  \
        long long got_ = value(j, key);                                                                   \
        if (got_ != (long long)(want)) ck_abort_msg("%s: %lld, wanted %lld", key, got_, (long long)(want)); \
    } while (0)

/* What holds at the end of every orderly child. */
static void is_clean(const json_t *j)
{
    static const char *const zero[] = {"device_bytes_live", "host_registered_bytes_live", "pinned_bytes_live",
                                       "buffers_alive", "subbuffers_alive", "alive.contexts", "alive.queues",
                                       "alive.programs", "alive.kernels", "alive.events", "alive.mems",
                                       "book_errors", "config_errors"};
    for (size_t i = 0; i < sizeof zero / sizeof *zero; i++) is(j, zero[i], 0);
}

START_TEST(peak_is_of_what_lives_together)
{
    json_t *j = audit("buffers");
    is(j, "device_bytes_peak", 3 * MIB);
    is(j, "device_bytes_allocated", 3 * MIB + 512 * KIB);
    is(j, "largest_allocation", 2 * MIB);
    is(j, "buffers_created", 3);
    is(j, "created.contexts", 1);
    is(j, "created.queues", 1);
    is(j, "created.mems", 3);
    is(j, "failed_calls", 0);
    is(j, "calls", 10);
    ck_assert(json_is_false(json_object_get(j, "over_limit")));
    ck_assert(json_is_null(json_object_get(j, "limit_bytes")));
    is_clean(j);
    json_decref(j);
}
END_TEST

START_TEST(retained_buffer_lives_on)
{
    json_t *j = audit("retain");
    is(j, "device_bytes_peak", 1 * MIB + 1 * KIB);
    is_clean(j);
    json_decref(j);
}
END_TEST

START_TEST(subbuffer_holds_its_parent)
{
    json_t *j = audit("subbuffer");
    is(j, "device_bytes_peak", 1 * MIB + 8 * KIB);
    is(j, "device_bytes_allocated", 2 * MIB + 8 * KIB);
    is(j, "buffers_created", 3);
    is(j, "subbuffers_created", 2);
    is_clean(j);
    json_decref(j);

    j = audit("held");
    is(j, "device_bytes_live", 1 * MIB);
    is(j, "buffers_alive", 1);
    is(j, "subbuffers_alive", 1);
    is(j, "alive.mems", 1);
    json_decref(j);
}
END_TEST

START_TEST(host_memory_is_apart)
{
    json_t *j = audit("kinds");
    is(j, "host_registered_bytes_peak", 128 * KIB);
    is(j, "device_bytes_peak", 96 * KIB);
    is(j, "pinned_bytes_peak", 64 * KIB);
    is(j, "init_bytes", 32 * KIB);
    is(j, "copy_calls", 2);
    is(j, "copy_h2d_bytes", 1000);
    is(j, "copy_d2h_bytes", 100);
    is(j, "d2d_bytes", 0);
    is_clean(j);
    json_decref(j);
}
END_TEST

START_TEST(transfers_are_exact)
{
    static const struct {
        const char *key;
        long long want;
    } t[] = {{"h2d_bytes", 1000 + 500 + 128}, {"h2d_calls", 3},         {"h2d_blocking_bytes", 1000},
             {"h2d_blocking_calls", 1},       {"d2h_calls", 3},         {"d2h_bytes", 700 + 50 + 128},
             {"d2h_blocking_calls", 2},       {"copy_calls", 2},        {"d2h_blocking_bytes", 700 + 128},
             {"d2d_bytes", 2048 + 128},       {"fill_calls", 1},        {"fill_bytes", 300},
             {"map_calls", 2},                {"map_bytes", 4040},      {"map_read_bytes", 4000},
             {"map_write_bytes", 40},         {"unmap_calls", 2},       {"map_blocking_calls", 1},
             {"migrate_calls", 2},            {"finish_calls", 2},      {"migrate_undefined_bytes", 8192},
             {"migrate_h2d_bytes", 8192},     {"migrate_d2h_bytes", 0}, {"blocking_calls", 1 + 2 + 1 + 2},
             {"failed_calls", 1},             {"wait_calls", 0},        {"created.events", 0},
             {"kernel_launches", 0}};
    json_t *j = audit("transfers");
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) is(j, t[i].key, t[i].want);
    ck_assert_int_gt(value(j, "blocking_ns"), 0);
    is_clean(j);
    json_decref(j);
}
END_TEST

START_TEST(images_count_their_pixels)
{
    json_t *j = audit_or_skip("images");
    if (!j) return;
    is(j, "images_created", 1);
    is(j, "images_alive", 0);
    ck_assert_int_ge(value(j, "device_bytes_peak"), 512 + 512);
    is(j, "h2d_bytes", 512);
    is(j, "d2h_bytes", 32);
    is(j, "fill_bytes", 32);
    is(j, "d2d_bytes", 512 + 32);
    is(j, "map_read_bytes", 32);
    is_clean(j);
    json_decref(j);
}
END_TEST

START_TEST(kernels_and_events)
{
    json_t *j = audit("kernel");
    is(j, "kernel_launches", 3);
    is(j, "builds", 1);
    is(j, "wait_calls", 1);
    is(j, "blocking_calls", 1);
    is(j, "created.programs", 1);
    is(j, "created.kernels", 1);
    is(j, "created.events", 1);
    is(j, "alive.events", 1); /* retained once too often */
    is(j, "alive.kernels", 0);
    is(j, "alive.programs", 0);
    is(j, "book_errors", 0);
    json_decref(j);
}
END_TEST

START_TEST(leaks_are_seen)
{
    json_t *j = audit("leak");
    is(j, "device_bytes_live", 4196);
    is(j, "buffers_alive", 2);
    is(j, "alive.mems", 2);
    is(j, "alive.contexts", 1);
    is(j, "alive.queues", 0);
    json_decref(j);

    j = audit("null_release");
    is(j, "failed_calls", 1);
    is_clean(j);
    json_decref(j);
}
END_TEST

/* Exactly at the limit is within it; one byte less is not, from the second creation (call 4) on. */
START_TEST(limit_is_seen)
{
    json_t *j = audit_env("buffers", "CASTOR_AUDIT_LIMIT", "3145728");
    is(j, "limit_bytes", 3 * MIB);
    ck_assert(json_is_false(json_object_get(j, "over_limit")));
    json_decref(j);

    j = audit_env("buffers", "CASTOR_AUDIT_LIMIT", "3145727");
    ck_assert(json_is_true(json_object_get(j, "over_limit")));
    is(j, "over_limit_call", 4);
    is(j, "over_limit_bytes", 3 * MIB);
    json_decref(j);

    j = audit_env("none", "CASTOR_AUDIT_LIMIT", "3M");
    is(j, "config_errors", 1);
    json_decref(j);
}
END_TEST

START_TEST(faults_are_injected)
{
    json_t *j = audit_env("faults", "CASTOR_AUDIT_FAIL", "create:2,write:2,read:1,enqueue:4");
    is(j, "faults_injected", 4);
    is(j, "failed_calls", 4);
    is(j, "buffers_created", 1);
    is(j, "h2d_calls", 1);
    is(j, "d2h_calls", 0);
    is(j, "fill_calls", 1);
    is_clean(j);
    json_decref(j);

    j = audit_env("faults_onward", "CASTOR_AUDIT_FAIL", "create:2+");
    is(j, "faults_injected", 3);
    is_clean(j);
    json_decref(j);

    static const char *const bad[] = {"create", "create:", "create:0", "create:2x", "make:1", "create:1,", ":1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        j = audit_env("buffers", "CASTOR_AUDIT_FAIL", bad[i]);
        is(j, "config_errors", 1);
        is(j, "faults_injected", 0);
        json_decref(j);
    }
}
END_TEST

START_TEST(threads_lose_nothing)
{
    json_t *j = audit("threads");
    is(j, "buffers_created", THREADS * ROUNDS);
    is(j, "subbuffers_created", THREADS * ROUNDS);
    is(j, "h2d_bytes", THREADS * ROUNDS * 256);
    is(j, "wait_calls", THREADS * ROUNDS);
    is(j, "created.events", THREADS * ROUNDS);
    is(j, "device_bytes_allocated", THREADS * ROUNDS * 4096);
    ck_assert_int_le(value(j, "device_bytes_peak"), THREADS * 4096);
    is_clean(j);
    json_decref(j);
}
END_TEST

/* Calls that a library makes by itself pass through the layer as well. */
START_TEST(libraries_are_seen)
{
    json_t *j = audit_or_skip("clblast");
    if (!j) return;
    long long temp = value(j, "host_registered_bytes_peak"), own = 2 * GEMM_N * GEMM_N * 4;
    is(j, "buffers_created", 3 + GEMM_CALLS);
    is(j, "device_bytes_allocated", own + GEMM_CALLS * temp);
    is(j, "device_bytes_peak", own + temp);
    ck_assert_int_gt(value(j, "kernel_launches"), GEMM_CALLS);
    ck_assert_int_gt(value(j, "builds"), 0);
    is_clean(j);
    json_decref(j);
}
END_TEST

/* %p in the name stands for the number of the process that wrote it. */
START_TEST(name_takes_the_process_number)
{
    char name[600];
    glob_t g;
    json_t *j;
    snprintf(name, sizeof name, "%s/p-%%p.json", test_dir());
    ck_assert_int_eq(run_child("none", "CASTOR_AUDIT_FILE", name), 0);
    snprintf(name, sizeof name, "%s/p-*", test_dir());
    ck_assert_int_eq(glob(name, 0, NULL, &g), 0);
    ck_assert_uint_eq(g.gl_pathc, 1);
    ck_ok(cst_json_load(&j, g.gl_pathv[0], JSON_OBJECT));
    snprintf(name, sizeof name, "%s/p-%lld.json", test_dir(), value(j, "pid"));
    ck_assert_str_eq(g.gl_pathv[0], name);
    json_decref(j);
    globfree(&g);
}
END_TEST

/* Does the loader that this program runs with know layers at all? Looked up in its own text, so that a
 * layer that fails to load is a failure and not a skip. */
static int loader_has_layers(void)
{
    Dl_info info;
    char *data = NULL;
    size_t size = 0;
    if (!dladdr((void *)clGetPlatformIDs, &info)) return 0;
    if (cst_file_read(&data, &size, info.dli_fname)) return 0;
    int found = memmem(data, size, "OPENCL_LAYERS", 13) != NULL;
    free(data);
    return found;
}

int main(int argc, char **argv)
{
    if (argc > 1) return child_main(argv[1]);
    self = cst_path_exists("/proc/self/exe") ? "/proc/self/exe" : argv[0];
    if (!loader_has_layers()) {
        fprintf(stderr, "skipped: this OpenCL loader has no layers\n");
        return SKIP;
    }
    if (run_child("none", NULL, NULL) == SKIP) {
        fprintf(stderr, "skipped: no OpenCL device\n");
        return SKIP;
    }
    Suite *s = suite_create("audit");
    TCase *t = tcase_create("audit");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, peak_is_of_what_lives_together);
    tcase_add_test(t, retained_buffer_lives_on);
    tcase_add_test(t, subbuffer_holds_its_parent);
    tcase_add_test(t, host_memory_is_apart);
    tcase_add_test(t, transfers_are_exact);
    tcase_add_test(t, images_count_their_pixels);
    tcase_add_test(t, kernels_and_events);
    tcase_add_test(t, leaks_are_seen);
    tcase_add_test(t, limit_is_seen);
    tcase_add_test(t, faults_are_injected);
    tcase_add_test(t, threads_lose_nothing);
    tcase_add_test(t, libraries_are_seen);
    tcase_add_test(t, name_takes_the_process_number);
    suite_add_tcase(s, t);
    return test_run(s);
}
