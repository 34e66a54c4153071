/* Devices, sources, built programs and their disk cache. */
#include "op_testing.h"

#include <dirent.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "device/source.h"
#include "op/fill.h"

static char cache[300];
static int builds; /* "building" lines seen */

static void count_builds(cst_log_level level, const char *line, void *user)
{
    (void)level, (void)user;
    builds += !strncmp(line, "building", 8);
}

/* Fill a tensor on a device opened anew; returns how many programs were built from source. */
static int fresh_fill(void)
{
    cst_device *d;
    cst_mem *m;
    cst_tensor *t;
    float got[100];
    builds = 0;
    cst_log_set(count_builds, NULL, CST_LOG_INFO);
    ck_ok(cst_device_open(&d, getenv("CASTOR_DEVICE"), 0));
    ck_ok(cst_mem_create(&m, d, 0));
    ck_ok(cst_tensor_create(&t, m, CST_DATA, CST_F32, 1, (int64_t[]){100}, "t"));
    ck_ok(cst_fill(m, t, 7));
    ck_ok(cst_tensor_read(t, 0, got, sizeof got));
    for (int i = 0; i < 100; i++) ck_assert(got[i] == 7);
    cst_tensor_free(t);
    ck_ok(cst_mem_free(m));
    cst_program_save(d);
    cst_device_close(d);
    cst_log_set(NULL, NULL, CST_LOG_INFO);
    return builds;
}

/* Apply f to every file of the cache folder; returns their number. */
static int each_file(void (*f)(const char *path))
{
    int n = 0;
    DIR *d = opendir(cache);
    if (!d) return 0;
    for (struct dirent *e; (e = readdir(d));) {
        char path[600];
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", cache, e->d_name);
        if (f) f(path);
        n++;
    }
    closedir(d);
    return n;
}

static void flip_a_byte(const char *path)
{
    char *data;
    size_t n;
    ck_ok(cst_file_read(&data, &n, path));
    data[n / 2] ^= 1;
    ck_ok(cst_file_write(path, data, n));
    free(data);
}

static void cut_short(const char *path)
{
    ck_assert(truncate(path, 20) == 0);
}

static void remove_file(const char *path)
{
    unlink(path);
}

static void cache_setup(void)
{
    static int n;
    snprintf(cache, sizeof cache, "%s/cache-%d", test_dir(), n++);
    setenv("CASTOR_CACHE_DIR", cache, 1);
}

static void cache_teardown(void)
{
    each_file(remove_file);
    rmdir(cache);
}

START_TEST(second_start_builds_nothing)
{
    ck_assert_int_eq(fresh_fill(), 1);
    ck_assert_int_eq(each_file(NULL), 1);
    ck_assert_int_eq(fresh_fill(), 0);
}
END_TEST

START_TEST(a_damaged_entry_costs_a_rebuild_only)
{
    fresh_fill();
    each_file(_i ? cut_short : flip_a_byte);
    ck_assert_int_eq(fresh_fill(), 1);
    ck_assert_int_eq(fresh_fill(), 0);
}
END_TEST

START_TEST(a_cache_that_cannot_be_written_is_no_error)
{
    setenv("CASTOR_CACHE_DIR", "/proc/nowhere", 1);
    ck_assert_int_eq(fresh_fill(), 1);
}
END_TEST

START_TEST(another_source_is_another_entry)
{
    char path[400], *text;
    fresh_fill();
    ck_ok(cst_source_get(&text, "fill"));
    snprintf(path, sizeof path, "%s/fill.cl", test_dir());
    ck_ok(cst_file_write(path, text, strlen(text)));
    free(text);
    setenv("CASTOR_CL_DIR", test_dir(), 1); /* the expanded source needs no includes */
    ck_assert_int_eq(fresh_fill(), 0);      /* the same text: the same entry */
    ck_ok(cst_source_get(&text, "fill"));
    FILE *f = fopen(path, "a");
    fprintf(f, "/* changed */\n");
    fclose(f);
    ck_assert_int_eq(fresh_fill(), 1);
    free(text);
    unlink(path);
    unsetenv("CASTOR_CL_DIR");
}
END_TEST

START_TEST(a_failed_build_shows_device_kernel_options_and_log)
{
    char path[400];
    static const char bad[] = "__kernel void broken(const int n) { undeclared_thing = n; }\n";
    cst_kernel *k;
    snprintf(path, sizeof path, "%s/broken.cl", test_dir());
    ck_ok(cst_file_write(path, bad, strlen(bad)));
    setenv("CASTOR_CL_DIR", test_dir(), 1);
    ck_fails(cst_kernel_get(&k, dev, "broken", "broken", "-DOPTION=3"), CST_BUILD, "undeclared_thing");
    ck_assert(strstr(cst_detail(), dev->info.name) && strstr(cst_detail(), "broken.cl") && strstr(cst_detail(), "-DOPTION=3"));
    unsetenv("CASTOR_CL_DIR");
    unlink(path);
}
END_TEST

START_TEST(arguments_are_read_from_the_source)
{
    char *name[32];
    int buffer[32], n;
    static const char src[] = "__kernel void other(const int z) {}\n__kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
                              "void f(IN(float, x),\n  OUT(float4, y), IO(int, some_z), const ulong n_items, const float scale)\n{ }\n";
    ck_ok(cst_source_arguments(name, buffer, &n, src, "f"));
    ck_assert_int_eq(n, 5);
    static const char *const want[] = {"x", "y", "some_z", "n_items", "scale"};
    for (int i = 0; i < 5; i++) {
        ck_assert_str_eq(name[i], want[i]);
        ck_assert_int_eq(buffer[i], i < 3);
    }
    free(name[0]);
    ck_fails(cst_source_arguments(name, buffer, &n, src, "g"), CST_STATE, "kernel g");
    static const char macros[] = "#define MORE_OF 7\n#define MORE IO(float, c), const ulong ldc, \\\n    const int last\n"
                                 "__kernel void f(IN(T, x), MORE,\n    const int n)\n{ }\n__kernel void g(const int m, MORE )\n{ }\n";
    static const char *const expanded[] = {"x", "c", "ldc", "last", "n"}, *const end[] = {"m", "c", "ldc", "last"};
    ck_ok(cst_source_arguments(name, buffer, &n, macros, "f"));
    ck_assert_int_eq(n, 5);
    for (int i = 0; i < 5; i++) {
        ck_assert_str_eq(name[i], expanded[i]);
        ck_assert_int_eq(buffer[i], i < 2);
    }
    free(name[0]);
    ck_ok(cst_source_arguments(name, buffer, &n, macros, "g"));
    ck_assert_int_eq(n, 4);
    for (int i = 0; i < 4; i++) ck_assert_str_eq(name[i], end[i]);
    free(name[0]);
}
END_TEST

START_TEST(the_binder_refuses_wrong_arguments)
{
    cst_launch l;
    size_t one = 1;
    cst_tensor *t = op_tensor("t", CST_DATA, 4, 0, NULL);
    cst_launch_begin(&l, mem, "fill", "fill", NULL);
    cst_launch_write(&l, "y", t, 0);
    cst_launch_float(&l, "valeu", 1);
    ck_fails(cst_launch_run(&l, 1, &one, NULL), CST_STATE, "valeu");
    cst_launch_begin(&l, mem, "fill", "fill", NULL);
    cst_launch_write(&l, "y", t, 0);
    cst_launch_float(&l, "value", 1);
    ck_fails(cst_launch_run(&l, 1, &one, NULL), CST_STATE, "\"n\" was not given");
    cst_launch_begin(&l, mem, "fill", "fill", NULL);
    cst_launch_write(&l, "value", t, 0);
    ck_fails(cst_launch_run(&l, 1, &one, NULL), CST_STATE, "another kind");
    cst_tensor_free(t);
}
END_TEST

START_TEST(devices_are_chosen_by_rule)
{
    cst_device_info d[4];
    size_t pick;
    memset(d, 0, sizeof d);
    for (int i = 0; i < 4; i++) d[i].index = i;
    strcpy(d[0].name, "Some CPU"), d[0].type = CL_DEVICE_TYPE_CPU, d[0].mem_bytes = 100;
    strcpy(d[1].name, "Small GPU"), d[1].type = CL_DEVICE_TYPE_GPU, d[1].mem_bytes = 10;
    strcpy(d[2].name, "Large GPU"), d[2].type = CL_DEVICE_TYPE_GPU, d[2].mem_bytes = 20;
    strcpy(d[3].name, "FPGA"), d[3].type = CL_DEVICE_TYPE_ACCELERATOR, d[3].mem_bytes = 500, strcpy(d[3].platform, "Boards");
    ck_ok(cst_device_choose(&pick, d, 4, NULL));
    ck_assert_uint_eq(pick, 2);
    ck_ok(cst_device_choose(&pick, d, 1, ""));
    ck_assert_uint_eq(pick, 0);
    ck_ok(cst_device_choose(&pick, d, 4, "1"));
    ck_assert_uint_eq(pick, 1);
    ck_ok(cst_device_choose(&pick, d, 4, "boards"));
    ck_assert_uint_eq(pick, 3);
    ck_ok(cst_device_choose(&pick, d, 4, "some c"));
    ck_assert_uint_eq(pick, 0);
    ck_fails(cst_device_choose(&pick, d, 4, "9"), CST_NO_DEVICE, "there are 4");
    ck_fails(cst_device_choose(&pick, d, 4, "tpu"), CST_NO_DEVICE, "Large GPU");
    ck_fails(cst_device_choose(&pick, d, 0, NULL), CST_NO_DEVICE, "no OpenCL device");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("program");
    TCase *tc = tcase_create("cache"), *rest = op_case(s, "kernels");
    tcase_set_timeout(tc, 0);
    tcase_add_checked_fixture(tc, cache_setup, cache_teardown);
    tcase_add_test(tc, second_start_builds_nothing);
    tcase_add_loop_test(tc, a_damaged_entry_costs_a_rebuild_only, 0, 2);
    tcase_add_test(tc, a_cache_that_cannot_be_written_is_no_error);
    tcase_add_test(tc, another_source_is_another_entry);
    suite_add_tcase(s, tc);
    tcase_add_test(rest, a_failed_build_shows_device_kernel_options_and_log);
    tcase_add_test(rest, arguments_are_read_from_the_source);
    tcase_add_test(rest, the_binder_refuses_wrong_arguments);
    tcase_add_test(rest, devices_are_chosen_by_rule);
    return op_main(s);
}
