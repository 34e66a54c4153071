/* Settings of CLBlast: kept, found again, refused when they are wrong, and used without changing results. */
#include "op_testing.h"

#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "gemm/gemm.h"
#include "gemm/state.h"

/* Settings that every device with 16 KiB of local memory and groups of 64 takes. */
static const cst_xgemm good = {.GEMMK = 0, .KREG = 1, .KWG = 16, .KWI = 2, .MDIMA = 8, .MDIMC = 8, .MWG = 64, .NDIMB = 8, .NDIMC = 8,
                               .NWG = 64, .SA = 1, .SB = 1, .STRM = 0, .STRN = 0, .VWM = 2, .VWN = 4, .min_indirect = 1};
static char cache[300];

static void setup(void)
{
    snprintf(cache, sizeof cache, "%s/cache", test_dir());
    setenv("CASTOR_CACHE_DIR", cache, 1);
    ck_ok(cst_make_dirs(cache));
    op_setup();
}

static void teardown(void)
{
    char *path = cst_tuning_path(&dev->info);
    unlink(path);
    free(path);
    op_teardown();
}

/* Settings and one product. */
static cst_tuning make(const cst_xgemm *x)
{
    cst_tuning t = {.has_xgemm = 1, .xgemm = *x, .gflops_default = 10, .gflops = 20};
    const cst_gemm_shape_key key = {128, 4096, 1024, 0, 1, CST_F32, CST_BF16};
    const cst_gemm_choice how = {CST_GEMM_NATIVE, CST_GEMM_ROWS, 4, 64};
    ck_ok(cst_tuning_add(&t, &key, &how, 99));
    return t;
}

static void save(const cst_xgemm *x, const char *path, const cst_device_info *d)
{
    cst_tuning t = make(x);
    ck_ok(cst_tuning_save(&t, path, d));
    cst_tuning_clear(&t);
}

static void check_same(const cst_tuning *got)
{
    cst_tuning want = make(&good);
    ck_assert(got->has_xgemm && !memcmp(&got->xgemm, &good, sizeof good));
    ck_assert_int_eq(got->products, 1);
    ck_assert(!memcmp(&got->product[0].key, &want.product[0].key, sizeof want.product[0].key));
    ck_assert(!memcmp(&got->product[0].how, &want.product[0].how, sizeof want.product[0].how));
    ck_assert(got->product[0].gflops == 99);
    cst_tuning_clear(&want);
}

START_TEST(comes_back_as_it_was_saved)
{
    cst_tuning got = {0};
    const char *where;
    char *path = cst_tuning_path(&dev->info);
    save(&good, path, &dev->info);
    ck_ok(cst_tuning_load(&got, path, &dev->info));
    check_same(&got);
    cst_tuning_clear(&got);
    ck_assert(cst_tuning_find(&got, &where, dev) && !strcmp(where, "the user's"));
    check_same(&got);
    cst_tuning_clear(&got);
    free(path);
}
END_TEST

START_TEST(another_driver_has_a_file_of_its_own)
{
    cst_device_info other = dev->info;
    char *path = cst_tuning_path(&dev->info), *its;
    snprintf(other.driver, sizeof other.driver, "9.9 beta");
    its = cst_tuning_path(&other);
    ck_assert_str_ne(path, its);
    ck_assert(strstr(its, "9-9-beta.json"));
    free(path), free(its);
}
END_TEST

START_TEST(another_devices_file_is_refused)
{
    cst_tuning got = {0};
    const char *where;
    cst_device_info other = dev->info;
    char *path = cst_tuning_path(&dev->info);
    snprintf(other.name, sizeof other.name, "Another device");
    save(&good, path, &other);
    ck_fails(cst_tuning_load(&got, path, &dev->info), CST_INPUT, "Another device");
    ck_assert(!got.products && !got.product);
    /* left aside: nothing is found, unless Castor brings settings for this device */
    ck_assert(!cst_tuning_find(&got, &where, dev) || !strcmp(where, "shipped"));
    cst_tuning_clear(&got);
    free(path);
}
END_TEST

START_TEST(wrong_files_are_refused_by_name)
{
#define HEAD "{\"schema\": 2, \"device\": \"%s\", \"vendor\": \"%s\", "
    static const char *const text[][2] = {
        {"{", "line 1"},
        {"[]", "JSON object"},
        {"{\"schema\": 1}", "\"schema\" is 1"},
        {"{\"schema\": 2, \"device\": 3}", "\"device\" must be a string"},
        {HEAD "\"clblast\": {}}", "no object \"Xgemm\""},
        {HEAD "\"products\": {}}", "must be an array"},
        {HEAD "\"products\": [{\"form\": \"NN\", \"m\": 1, \"n\": 0}]}", "\"n\""},
        {HEAD "\"products\": [{\"form\": \"NX\", \"m\": 1, \"n\": 1, \"k\": 1}]}", "a product needs"},
        {HEAD "\"products\": [{\"form\": \"NN\", \"m\": 1, \"n\": 1, \"k\": 1, \"engine\": \"fast\"}]}", "engine \"fast\""}};
    cst_tuning got = {0};
    char path[400], file[1000];
    snprintf(path, sizeof path, "%s/bad.json", test_dir());
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        snprintf(file, sizeof file, text[i][0], dev->info.name, dev->info.vendor);
        ck_ok(cst_file_write(path, file, strlen(file)));
        ck_fails(cst_tuning_load(&got, path, &dev->info), CST_INPUT, text[i][1]);
        ck_assert(strstr(cst_detail(), "bad.json"));
        ck_assert(!got.product);
    }
    cst_xgemm broken = good;
    broken.VWM = 16; /* 8 * 16 doesn't divide 64 */
    save(&broken, path, &dev->info);
    ck_fails(cst_tuning_load(&got, path, &dev->info), CST_INPUT, "divide MWG");
    ck_fails(cst_xgemm_use(dev, &broken), CST_USAGE, "divide MWG");
}
END_TEST

START_TEST(rules_of_the_kernel_are_checked)
{
    static const struct {
        size_t offset, value;
        const char *words;
    } wrong[] = {{offsetof(cst_xgemm, GEMMK), 1, "GEMMK"},   {offsetof(cst_xgemm, KWI), 3, "KWI"},
                 {offsetof(cst_xgemm, VWN), 16, "NWG"},      {offsetof(cst_xgemm, MDIMA), 7, "MWG"},
                 {offsetof(cst_xgemm, KWG), 4, "KWG"},       {offsetof(cst_xgemm, NWG), 0, "out of range"}};
    ck_ok(cst_xgemm_check(&good, &dev->info));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cst_xgemm x = good;
        *(size_t *)((char *)&x + wrong[i].offset) = wrong[i].value;
        ck_fails(cst_xgemm_check(&x, &dev->info), CST_USAGE, wrong[i].words);
    }
    cst_device_info small = dev->info;
    small.local_bytes = 1024;
    ck_fails(cst_xgemm_check(&good, &small), CST_USAGE, "local memory");
    small = dev->info;
    small.max_group = 32;
    ck_fails(cst_xgemm_check(&good, &small), CST_USAGE, "work-group");
}
END_TEST

/* Products with these settings are right, also those whose sizes the tiles don't divide. */
/* What ships for one device is where the search on another begins. */
START_TEST(shipped_settings_suit_other_devices)
{
    cst_xgemm list[8];
    cst_device_info other = dev->info;
    other.max_group = 1024;
    other.local_bytes = 48 * 1024;
    int n = cst_tuning_shipped(list, 8, &other);
    ck_assert(n >= 1);
    for (int i = 0; i < n; i++) {
        ck_ok(cst_xgemm_check(&list[i], &other));
        for (int k = 0; k < i; k++) ck_assert(memcmp(&list[i], &list[k], sizeof *list));
    }
    ck_assert_int_eq(cst_tuning_shipped(list, n - 1, &other), n - 1);
    other.max_group = 8;
    ck_assert_int_eq(cst_tuning_shipped(list, 8, &other), 0);
}
END_TEST

START_TEST(products_are_right_with_settings)
{
    static const int64_t shape[][3] = {{64, 64, 32}, {65, 63, 17}, {1, 70, 33}, {130, 129, 128}};
    cst_gemm_state *state;
    ck_ok(cst_gemm_state_get(&state, dev));
    state->xgemm_used = 1;
    ck_ok(cst_xgemm_use(dev, &good));
    for (size_t s = 0; s < 4; s++) {
        int64_t m = shape[s][0], n = shape[s][1], k = shape[s][2];
        float *a = op_random((size_t)(m * k), -1, 1, 1), *b = op_random((size_t)(k * n), -1, 1, 2);
        cst_tensor *ta = op_tensor("a", CST_DATA, m, k, a), *tb = op_tensor("b", CST_DATA, k, n, b),
                   *tc = op_tensor("c", CST_DATA, m, n, NULL);
        double *want = calloc((size_t)(m * n), sizeof *want);
        for (int64_t i = 0; i < m * n; i++)
            for (int64_t j = 0; j < k; j++) want[i] += (double)a[i / n * k + j] * b[j * n + i % n];
        ck_ok(cst_gemm(mem, &(cst_gemm_args){.m = m, .n = n, .k = k, .a = ta, .b = tb, .c = tc}));
        float *got = op_read(tc);
        op_close("c", got, want, (size_t)(m * n), 1e-6, sqrt((double)k));
        op_check();
        free(a), free(b), free(want), free(got);
        cst_tensor_free(ta), cst_tensor_free(tb), cst_tensor_free(tc);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tuning");
    TCase *tc = tcase_create("tuning");
    tcase_set_timeout(tc, 0);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, comes_back_as_it_was_saved);
    tcase_add_test(tc, another_driver_has_a_file_of_its_own);
    tcase_add_test(tc, another_devices_file_is_refused);
    tcase_add_test(tc, wrong_files_are_refused_by_name);
    tcase_add_test(tc, rules_of_the_kernel_are_checked);
    tcase_add_test(tc, shipped_settings_suit_other_devices);
    tcase_add_test(tc, products_are_right_with_settings);
    suite_add_tcase(s, tc);
    setenv("CASTOR_GPU_SHAPE", "1", 1); /* CLBlast serves that shape everywhere */
    return op_main(s);
}
