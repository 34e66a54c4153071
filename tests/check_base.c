#include "testing.h"

#include <dirent.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/host_memory.h"
#include "base/json.h"
#include "base/log.h"
#include "base/random.h"

/* From kat_vectors of the Random123 distribution (philox4x32, 10 rounds). */
START_TEST(philox_known_answers)
{
    static const struct { uint32_t c[4], k[2], want[4];
    } v[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t got[4];
        cst_philox(got, v[i].c, v[i].k);
        ck_assert(!memcmp(got, v[i].want, sizeof got));
    }
    ck_assert(cst_random_u64(0, 0, 0) == 0xe169c58d6627e8d5u);
}
END_TEST

START_TEST(seed_stream_and_index_all_matter)
{
    uint64_t x = cst_random_u64(1, 2, 3), high = (uint64_t)1 << 32;
    ck_assert(x == cst_random_u64(1, 2, 3));
    ck_assert(x != cst_random_u64(2, 2, 3) && x != cst_random_u64(1, 3, 3) && x != cst_random_u64(1, 2, 4));
    ck_assert(x != cst_random_u64(1 + high, 2, 3) && x != cst_random_u64(1, 2 + high, 3) &&
              x != cst_random_u64(1, 2, 3 + high));
}
END_TEST

START_TEST(normal_moments)
{
    enum { N = 1000003 };
    float *x = malloc(N * sizeof *x);
    double sum[5] = {0};
    int outside = 0;
    cst_random_normal(x, N, 0, 1, 42, 7);
    for (int i = 0; i < N; i++) {
        double p = 1;
        for (int k = 1; k <= 4; k++) sum[k] += (p *= x[i]);
        outside += fabsf(x[i]) > 1.959964f;
    }
    /* five standard errors each: 1/sqrt N, sqrt 2, sqrt 15 and sqrt 96 times that; 0.05 +- 0.00109 */
    ck_assert(fabs(sum[1] / N) < 0.005 && fabs(sum[2] / N - 1) < 0.0071);
    ck_assert(fabs(sum[3] / N) < 0.0194 && fabs(sum[4] / N - 3) < 0.049);
    ck_assert(fabs(outside / (double)N - 0.05) < 0.00109);
    free(x);
}
END_TEST

/* Vector instructions make the same bits as the formula with the mathematical library's functions, one by one; in three
 * million values a few lie where a float's rounding needs the latter. */
START_TEST(normal_has_the_bits_of_its_formula)
{
    enum { N = 3000003, FIRST = 4100 };
    static const float mean[] = {0, 1}, std[] = {0.02f, 0.5f};
    float *x = malloc(N * sizeof *x), *part = malloc(N * sizeof *part);
    for (int c = 0; c < 2; c++) {
        cst_random_normal(x, N, mean[c], std[c], (uint64_t)3 << 40 | 9, (uint64_t)5 << 33 | 2);
        for (int i = 0; i < N; i++) {
            uint32_t r[4];
            cst_philox(r, (uint32_t[]){(uint32_t)i / 4, 0, 2, 5 << 1}, (uint32_t[]){9, 3 << 8});
            double u = (r[i & 2] + 1.0) * 0x1p-32, t = 6.283185307179586476925286766559 * (r[(i & 2) + 1] * 0x1p-32);
            double z = sqrt(-2.0 * log(u)) * (i & 1 ? sin(t) : cos(t));
            float want = (float)(mean[c] + std[c] * z);
            if (memcmp(&x[i], &want, 4)) ck_abort_msg("%d: %.9g, wanted %.9g", i, x[i], want);
        }
        cst_random_normal_part(part, FIRST, N - FIRST, mean[c], std[c], (uint64_t)3 << 40 | 9, (uint64_t)5 << 33 | 2);
        ck_assert(!memcmp(part, x + FIRST, (N - FIRST) * sizeof *x));
    }
    free(x), free(part);
}
END_TEST

START_TEST(normal_is_pure_and_scales)
{
    float a[1003], b[1003], c[1003];
    cst_random_normal(a, 1003, 0, 1, 5, 6);
    cst_random_normal(b, 7, 0, 1, 5, 6);
    ck_assert(!memcmp(a, b, 7 * sizeof(float))); /* a prefix doesn't depend on the length */
    cst_random_normal(b, 1003, 3, 0.5f, 5, 6);
    cst_random_normal(c, 1003, 0, 1, 5, 7);
    int same = 0;
    for (int i = 0; i < 1003; i++) {
        ck_assert(fabsf(b[i] - (3 + 0.5f * a[i])) <= 1e-6f);
        same += a[i] == c[i];
    }
    ck_assert(same < 3);
    b[0] = 99;
    cst_random_normal(b, 0, 0, 1, 1, 1);
    ck_assert(b[0] == 99);
}
END_TEST

START_TEST(shuffle_is_a_pure_permutation)
{
    enum { N = 1009 };
    uint32_t a[N], b[N], seen[N] = {0};
    int moved = 0;
    for (uint32_t i = 0; i < N; i++) a[i] = b[i] = i;
    cst_random_shuffle(a, N, 1, 2);
    cst_random_shuffle(b, N, 1, 2);
    ck_assert(!memcmp(a, b, sizeof a));
    for (int i = 0; i < N; i++) {
        ck_assert(a[i] < N && !seen[a[i]]++);
        moved += a[i] != (uint32_t)i;
    }
    ck_assert(moved > N - 20);
    for (uint32_t i = 0; i < N; i++) b[i] = i;
    cst_random_shuffle(b, N, 1, 3);
    ck_assert(memcmp(a, b, sizeof a));
    cst_random_shuffle(b, 0, 1, 3);
    cst_random_shuffle(NULL, 0, 1, 3);
    uint32_t one = 5;
    cst_random_shuffle(&one, 1, 1, 3);
    ck_assert(one == 5);
}
END_TEST

/* All orders of three come up equally often. */
START_TEST(shuffle_is_uniform)
{
    enum { RUNS = 60000 };
    int count[27] = {0};
    for (uint64_t r = 0; r < RUNS; r++) {
        uint32_t p[] = {0, 1, 2};
        cst_random_shuffle(p, 3, 11, r);
        count[p[0] * 9 + p[1] * 3 + p[2]]++;
    }
    static const int orders[] = {5, 7, 11, 15, 19, 21}; /* 012 021 102 120 201 210 */
    for (int i = 0; i < 6; i++)
        ck_assert_msg(abs(count[orders[i]] - RUNS / 6) < 460, "%d", count[orders[i]]); /* 5 sigma */
}
END_TEST

static void check_content(const char *path, const char *want)
{
    char *text;
    size_t n;
    ck_ok(cst_file_read(&text, &n, path));
    ck_assert_str_eq(text, want); /* the 0 byte behind its end is promised */
    ck_assert_uint_eq(n, strlen(want));
    free(text);
}

static int files_in(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

START_TEST(a_file_is_old_or_new_never_between)
{
    cst_file *f;
    char dir[512], path[560];
    snprintf(dir, sizeof dir, "%s", test_file("atomic"));
    snprintf(path, sizeof path, "%s/f", dir);
    ck_ok(cst_make_dirs(dir));
    ck_ok(cst_file_write(path, "old", 3));
    ck_ok(cst_file_create(&f, path));
    ck_ok(cst_file_put(f, "half of", 7));
    check_content(path, "old");
    cst_file_discard(f);
    check_content(path, "old");
    ck_assert_int_eq(files_in(dir), 1); /* the temporary is gone */
    ck_ok(cst_file_create(&f, path));
    ck_ok(cst_file_put(f, "new ", 4));
    ck_ok(cst_file_put(f, "", 0));
    ck_ok(cst_file_put(f, "one", 3));
    check_content(path, "old");
    ck_ok(cst_file_commit(f));
    check_content(path, "new one");
    ck_assert_int_eq(files_in(dir), 1);
    struct stat sb;
    mode_t mask = umask(022);
    umask(mask);
    ck_assert(!stat(path, &sb) && (sb.st_mode & 0777) == (0666 & ~mask));
    cst_file_discard(NULL);
}
END_TEST

START_TEST(a_failed_commit_leaves_nothing)
{
    cst_file *f;
    char dir[512], target[560];
    snprintf(dir, sizeof dir, "%s", test_file("taken"));
    snprintf(target, sizeof target, "%s/folder", dir);
    ck_ok(cst_make_dirs(target)); /* renaming a file over a folder fails */
    ck_ok(cst_file_create(&f, target));
    ck_ok(cst_file_put(f, "x", 1));
    ck_fails(cst_file_commit(f), CST_IO, "folder");
    ck_assert_int_eq(files_in(dir), 1);
}
END_TEST

START_TEST(file_errors)
{
    char *text, nested[560];
    size_t n;
    ck_fails(cst_file_read(&text, &n, test_file("absent")), CST_IO, "absent");
    ck_fails(cst_file_read(&text, &n, test_dir()), CST_IO, "not a regular file");
    ck_fails(cst_file_write(test_file("no/such/folder"), "x", 1), CST_IO, "no/such/folder");
    ck_ok(cst_file_write(test_file("empty"), "", 0));
    check_content(test_file("empty"), "");
    ck_fails(cst_make_dirs(test_file("empty")), CST_IO, "not a folder");
    snprintf(nested, sizeof nested, "%s", test_file("a/b//c/"));
    ck_ok(cst_make_dirs(nested));
    ck_ok(cst_make_dirs(nested));
    ck_assert(cst_path_exists(nested) && !cst_path_exists(test_file("a/x")));
    char *p = cst_path_join("a", "b");
    ck_assert_str_eq(p, "a/b");
    free(p);
}
END_TEST

static cst_status load(json_t **j, const char *text)
{
    ck_ok(cst_file_write(test_file("t.json"), text, strlen(text)));
    return cst_json_load(j, test_file("t.json"), JSON_OBJECT);
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    ck_assert_msg(f != NULL, "%s", path);
    fputs(text, f);
    fclose(f);
}

static void make_dir(char *out, const char *root, const char *name)
{
    snprintf(out, 600, "%s/%s", root, name);
    ck_assert_int_eq(mkdir(out, 0700), 0);
}

/* A container's limit counts, of both versions of control groups, wherever above the process it is. */
START_TEST(control_groups_limit_memory)
{
    char root[] = "cgroup-XXXXXX", v2[600], inner[600], v1[600], list[600];
    ck_assert_ptr_nonnull(mkdtemp(root));
    make_dir(v2, root, "box"), make_dir(inner, root, "box/job"), make_dir(v1, root, "memory");
    snprintf(list, sizeof list, "%s/self", root);
    put(root, "self", "1:cpu,memory:/elsewhere\n0::/box/job\n");
    ck_assert_uint_eq(cst_cgroup_left(root, list), UINT64_MAX); /* it tells nothing */
    put(inner, "memory.max", "max\n"), put(inner, "memory.current", "700\n");
    ck_assert_uint_eq(cst_cgroup_left(root, list), UINT64_MAX);
    put(v2, "memory.max", "4000\n"), put(v2, "memory.current", "1500\n");
    ck_assert_uint_eq(cst_cgroup_left(root, list), 2500);
    put(v2, "memory.stat", "anon 900\ninactive_file 300\nactive_file 5\n"); /* cache goes when it must */
    ck_assert_uint_eq(cst_cgroup_left(root, list), 2800);
    put(inner, "memory.max", "1000\n");
    ck_assert_uint_eq(cst_cgroup_left(root, list), 300);
    put(inner, "memory.current", "1001\n");
    ck_assert_uint_eq(cst_cgroup_left(root, list), 0);
    put(root, "self", "4:memory:/\n0::/\n");
    put(v1, "memory.limit_in_bytes", "5000\n"), put(v1, "memory.usage_in_bytes", "2000\n"), put(v1, "memory.stat", "inactive_file 1\ntotal_inactive_file 100\n");
    ck_assert_uint_eq(cst_cgroup_left(root, list), 3100);
    ck_assert_uint_eq(cst_cgroup_left(root, "no such file"), UINT64_MAX);
    ck_assert_uint_gt(cst_host_available(), 1 << 20);
    char command[700];
    snprintf(command, sizeof command, "rm -r %s", root);
    ck_assert_int_eq(system(command), 0);
}
END_TEST

START_TEST(json_files)
{
    json_t *j;
    ck_fails(load(&j, "{\n\"a\": 1,\n\"b\" 2}"), CST_INPUT, "line 3");
    ck_fails(load(&j, "{\"a\": 1, \"a\": 2}"), CST_INPUT, "t.json");
    ck_fails(load(&j, "[1]"), CST_INPUT, "expected a JSON object");
    ck_fails(load(&j, ""), CST_INPUT, "t.json");
    ck_fails(load(&j, "{} x"), CST_INPUT, "t.json");
    ck_fails(cst_json_load(&j, test_file("none.json"), JSON_OBJECT), CST_IO, "none.json");
    ck_fails(cst_json_load(&j, test_file("t.json"), JSON_ARRAY), CST_INPUT, "t.json");
    ck_ok(load(&j, "{\"a\": 1}"));
    ck_ok(cst_json_save(j, test_file("saved.json")));
    json_decref(j);
    check_content(test_file("saved.json"), "{\n  \"a\": 1\n}\n");
    ck_ok(cst_json_load(&j, test_file("saved.json"), JSON_OBJECT));
    json_decref(j);
    ck_fails(load(&j, "{\"a\": \"\\ud800\"}"), CST_INPUT, "t.json");
}
END_TEST

START_TEST(json_members)
{
    json_t *j;
    int64_t i = 5;
    double r = 2.5;
    int b = 1;
    const char *s = "kept";
    ck_ok(load(&j, "{\"i\": -7, \"r\": 0.5, \"b\": false, \"s\": \"text\", \"n\": null}"));
    ck_ok(cst_json_int(&i, j, "absent", 0, 9, "f"));
    ck_ok(cst_json_int(&i, j, "n", 0, 9, "f"));
    ck_ok(cst_json_real(&r, j, "n", "f"));
    ck_ok(cst_json_bool(&b, j, "absent", "f"));
    ck_ok(cst_json_string(&s, j, "n", "f"));
    ck_assert(i == 5 && r == 2.5 && b == 1 && !strcmp(s, "kept"));
    ck_fails(cst_json_int(&i, j, "i", 0, 9, "here.json"), CST_INPUT, "here.json: \"i\" is -7; allowed: 0 to 9");
    ck_fails(cst_json_int(&i, j, "r", 0, 9, "here.json"), CST_INPUT, "\"r\" must be an integer");
    ck_fails(cst_json_int(&i, j, "s", 0, 9, "here.json"), CST_INPUT, "\"s\" must be an integer");
    ck_fails(cst_json_real(&r, j, "s", "f"), CST_INPUT, "\"s\" must be a number");
    ck_fails(cst_json_bool(&b, j, "i", "f"), CST_INPUT, "\"i\" must be true or false");
    ck_fails(cst_json_string(&s, j, "b", "f"), CST_INPUT, "\"b\" must be a string");
    ck_assert(i == 5 && r == 2.5 && b == 1 && !strcmp(s, "kept")); /* errors change nothing */
    ck_ok(cst_json_int(&i, j, "i", -7, -7, "f"));
    ck_ok(cst_json_real(&r, j, "i", "f"));
    ck_assert(i == -7 && r == -7);
    ck_ok(cst_json_real(&r, j, "r", "f"));
    ck_ok(cst_json_bool(&b, j, "b", "f"));
    ck_ok(cst_json_string(&s, j, "s", "f"));
    ck_assert(r == 0.5 && b == 0 && !strcmp(s, "text"));
    json_decref(j);
}
END_TEST

START_TEST(status_text_and_exit_codes)
{
    static const int exits[] = {0, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 130};
    ck_assert_uint_eq(sizeof exits / sizeof *exits, CST_STATUS_COUNT);
    for (int i = 0; i < CST_STATUS_COUNT; i++) {
        ck_assert_int_eq(cst_status_exit((cst_status)i), exits[i]);
        ck_assert(strlen(cst_status_text((cst_status)i)) > 1);
        for (int k = 0; k < i; k++) ck_assert_str_ne(cst_status_text((cst_status)i), cst_status_text((cst_status)k));
    }
    ck_assert_str_eq(cst_status_text(CST_OVER_BUDGET), "over the device-memory budget");
    ck_assert_str_eq(cst_status_text((cst_status)99), "unknown status");
    ck_assert_str_eq(cst_status_text((cst_status)-1), "unknown status");
    ck_assert(cst_status_exit((cst_status)99) == 1 && cst_status_exit((cst_status)-1) == 1);
}
END_TEST

START_TEST(details)
{
    char longer[5000];
    ck_assert_int_eq(cst_fail(CST_IO, "%s: %d", "file", 3), CST_IO);
    ck_assert_str_eq(cst_detail(), "file: 3");
    ck_assert_int_eq(cst_fail_in(CST_IO, "step %d", 4), CST_IO);
    ck_assert_str_eq(cst_detail(), "step 4: file: 3");
    cst_fail(CST_IO, "again: %s", cst_detail()); /* the old detail may be an argument of the new one */
    ck_assert_str_eq(cst_detail(), "again: step 4: file: 3");
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    cst_fail(CST_IO, "%s", longer);
    cst_fail_in(CST_IO, "%s", longer);
    cst_fail_in(CST_IO, "prefix");
    ck_assert(strlen(cst_detail()) < 2048 && !strncmp(cst_detail(), "prefix: xxx", 11));
}
END_TEST

static char logged[256];
static int lines;

static void sink(cst_log_level level, const char *line, void *user)
{
    snprintf(logged, sizeof logged, "%d %s %s", (int)level, line, (char *)user);
    lines++;
}

START_TEST(log_lines)
{
    cst_log(CST_LOG_ERROR, "nobody listens");
    cst_log_set(sink, "user", CST_LOG_INFO);
    cst_log(CST_LOG_INFO, "%d %s", 3, "words");
    ck_assert_str_eq(logged, "2 3 words user");
    cst_log(CST_LOG_DEBUG, "too detailed");
    ck_assert(lines == 1 && cst_log_wants(CST_LOG_WARN) && !cst_log_wants(CST_LOG_DEBUG));
    cst_log_set(NULL, NULL, CST_LOG_DEBUG);
    cst_log(CST_LOG_ERROR, "nobody listens");
    ck_assert(lines == 1 && !cst_log_wants(CST_LOG_ERROR));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base");
    TCase *tc = tcase_create("base");
    tcase_set_timeout(tc, 0);
    suite_add_tcase(s, tc);
    tcase_add_test(tc, philox_known_answers);
    tcase_add_test(tc, seed_stream_and_index_all_matter);
    tcase_add_test(tc, normal_moments);
    tcase_add_test(tc, normal_has_the_bits_of_its_formula);
    tcase_add_test(tc, normal_is_pure_and_scales);
    tcase_add_test(tc, shuffle_is_a_pure_permutation);
    tcase_add_test(tc, shuffle_is_uniform);
    tcase_add_test(tc, a_file_is_old_or_new_never_between);
    tcase_add_test(tc, a_failed_commit_leaves_nothing);
    tcase_add_test(tc, file_errors);
    tcase_add_test(tc, control_groups_limit_memory);
    tcase_add_test(tc, json_files);
    tcase_add_test(tc, json_members);
    tcase_add_test(tc, status_text_and_exit_codes);
    tcase_add_test(tc, details);
    tcase_add_test(tc, log_lines);
    return test_run(s);
}
