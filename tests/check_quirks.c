/* The table of quirks, by made-up devices, and what the library does where one applies. */
#include "op_testing.h"

#include "device/quirks.h"

static cst_device_info device(const char *platform, const char *vendor, const char *driver, const char *version, cl_device_type type)
{
    cst_device_info d;
    memset(&d, 0, sizeof d);
    snprintf(d.name, sizeof d.name, "Some Device");
    snprintf(d.platform, sizeof d.platform, "%s", platform);
    snprintf(d.vendor, sizeof d.vendor, "%s", vendor);
    snprintf(d.driver, sizeof d.driver, "%s", driver);
    snprintf(d.version, sizeof d.version, "%s", version);
    d.type = type;
    d.quirks = cst_quirk_flags(&d);
    return d;
}

START_TEST(versions_are_compared_by_number)
{
    static const struct {
        const char *a, *b;
        int order;
    } cases[] = {{"1.2", "1.2", 0}, {"1.10", "1.9", 1}, {"580.159.04", "580.159.4", 0}, {"3.1+debian", "3.1", 0}, {"22.3.6", "23.1", -1},
                 {"23.1", "23.1.0", -1}, {"", "1", -1}, {"1", "", 1}, {"", "", 0}, {"v7", "7", 0}, {"7.x.2", "7.1", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_int_eq(cst_version_compare(cases[i].a, cases[i].b), cases[i].order);
        ck_assert_int_eq(cst_version_compare(cases[i].b, cases[i].a), -cases[i].order);
    }
}
END_TEST

START_TEST(devices_get_the_flags_of_their_entries)
{
    static const struct {
        const char *platform, *vendor, *driver;
        cl_device_type type;
        unsigned flags;
    } cases[] = {
        {"Portable Computing Language", "AuthenticAMD", "3.1+debian", CL_DEVICE_TYPE_CPU, CST_QUIRK_PREFETCH | CST_QUIRK_SLOW_GROUPS},
        {"rusticl", "Mesa", "22.3.6", CL_DEVICE_TYPE_CPU, CST_QUIRK_SHARE_ROWS | CST_QUIRK_SLOW_GROUPS | CST_QUIRK_OLD},
        {"rusticl", "Mesa", "24.0", CL_DEVICE_TYPE_CPU, CST_QUIRK_SHARE_ROWS | CST_QUIRK_SLOW_GROUPS},
        {"rusticl", "AMD", "24.0", CL_DEVICE_TYPE_GPU, CST_QUIRK_WATCHDOG},
        {"AMD Accelerated Parallel Processing", "Advanced Micro Devices, Inc.", "3602.0", CL_DEVICE_TYPE_GPU, CST_QUIRK_WATCHDOG},
        {"Intel(R) OpenCL Graphics", "Intel(R) Corporation", "24.13", CL_DEVICE_TYPE_GPU, CST_QUIRK_WATCHDOG},
        {"Intel(R) OpenCL", "Intel(R) Corporation", "2024.1", CL_DEVICE_TYPE_CPU, CST_QUIRK_SLOW_GROUPS},
        {"NVIDIA CUDA", "NVIDIA Corporation", "580.159.04", CL_DEVICE_TYPE_GPU, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cst_device_info d = device(cases[i].platform, cases[i].vendor, cases[i].driver, "OpenCL 3.0", cases[i].type);
        if (d.quirks != cases[i].flags) ck_abort_msg("%s, %s: %x, wanted %x", d.platform, d.vendor, d.quirks, cases[i].flags);
        ck_ok(cst_quirk_refusal(&d));
    }
}
END_TEST

START_TEST(old_opencl_is_refused_and_never_the_default)
{
    size_t pick;
    cst_device_info d[2] = {device("Clover", "AMD", "22.3.6", "OpenCL 1.1 Mesa 22.3.6", CL_DEVICE_TYPE_GPU),
                            device("Portable Computing Language", "x", "3.1", "OpenCL 3.0 PoCL", CL_DEVICE_TYPE_CPU)};
    ck_fails(cst_quirk_refusal(&d[0]), CST_UNSUPPORTED, "OpenCL 1.1");
    ck_assert(strstr(cst_detail(), "Clover") && strstr(cst_detail(), "22.3.6") && strstr(cst_detail(), "rusticl"));
    ck_ok(cst_device_choose(&pick, d, 2, NULL));
    ck_assert_uint_eq(pick, 1);
    ck_ok(cst_device_choose(&pick, d, 1, NULL)); /* opening it tells why not */
    ck_assert_uint_eq(pick, 0);
    cst_device_info old = device("NVIDIA CUDA", "NVIDIA Corporation", "304.1", "OpenCL 1.0 CUDA", CL_DEVICE_TYPE_GPU);
    ck_fails(cst_quirk_refusal(&old), CST_UNSUPPORTED, "OpenCL 1.0");
}
END_TEST

START_TEST(entries_are_complete)
{
    int settings = 0;
    for (const cst_quirk *q = cst_quirks; q->name; q++) {
        ck_assert(*q->name && strspn(q->name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == strlen(q->name));
        if (!(q->platform || q->vendor || q->version || q->type)) ck_abort_msg("%s is about all devices", q->name);
        if (!(q->what && q->does && q->evidence && q->test)) ck_abort_msg("%s lacks a text", q->name);
        ck_assert(!q->setting == !q->value);
        if (!q->setting) continue;
        settings++;
        unsetenv(q->setting);
        cst_device_prepare();
        ck_assert_str_eq(getenv(q->setting), q->value);
        setenv(q->setting, "the user's", 1);
        cst_device_prepare();
        ck_assert_str_eq(getenv(q->setting), "the user's");
    }
    ck_assert_int_ge(settings, 1);
}
END_TEST

/* Whatever device the tests run on: what code asks for is what the table says. */
START_TEST(the_open_device_has_its_flags)
{
    ck_assert_uint_eq(dev->info.quirks & ~CST_QUIRK_WATCHDOG, cst_quirk_flags(&dev->info) & ~CST_QUIRK_WATCHDOG);
    ck_assert_int_eq(dev->launch_flops > 0, (dev->info.quirks & CST_QUIRK_WATCHDOG) != 0);
    if (dev->info.quirks & CST_QUIRK_SHARE_ROWS) ck_assert_int_gt(dev->group, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("quirks");
    TCase *tc = op_case(s, "quirks");
    tcase_add_test(tc, versions_are_compared_by_number);
    tcase_add_test(tc, devices_get_the_flags_of_their_entries);
    tcase_add_test(tc, old_opencl_is_refused_and_never_the_default);
    tcase_add_test(tc, entries_are_complete);
    tcase_add_test(tc, the_open_device_has_its_flags);
    return op_main(s);
}
