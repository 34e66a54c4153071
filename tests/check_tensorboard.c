/* Event files: known checksums, and every frame and field read back. tests/read_events.py does the same in Python. */
#include "testing.h"

#include <dirent.h>
#include <math.h>

#include "base/file.h"
#include "train/tensorboard.h"

START_TEST(checksums_are_those_of_the_standard)
{
    uint8_t b[32];
    ck_assert_uint_eq(cst_crc32c("", 0), 0);
    ck_assert_uint_eq(cst_crc32c("123456789", 9), 0xe3069283u);
    memset(b, 0, sizeof b);
    ck_assert_uint_eq(cst_crc32c(b, 32), 0x8a9136aau); /* RFC 3720, B.4, from here on */
    memset(b, 0xff, sizeof b);
    ck_assert_uint_eq(cst_crc32c(b, 32), 0x62a8ab43u);
    for (int i = 0; i < 32; i++) b[i] = (uint8_t)i;
    ck_assert_uint_eq(cst_crc32c(b, 32), 0x46dd794eu);
}
END_TEST

static uint64_t little(const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = 0; i < n; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static uint32_t masked(const void *p, size_t n)
{
    uint32_t c = cst_crc32c(p, n);
    return (c >> 15 | c << 17) + 0xa282ead8u;
}

/* The next record's payload. */
static const uint8_t *record(const uint8_t **p, const uint8_t *end, size_t *n)
{
    ck_assert(end - *p >= 16);
    *n = little(*p, 8);
    ck_assert_uint_eq(little(*p + 8, 4), masked(*p, 8));
    ck_assert(*n <= (size_t)(end - *p) - 16);
    const uint8_t *data = *p + 12;
    ck_assert_uint_eq(little(data + *n, 4), masked(data, *n));
    *p = data + *n + 4;
    return data;
}

static uint64_t varint(const uint8_t **p)
{
    uint64_t v = 0;
    int shift = 0;
    for (;; shift += 7) {
        uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 127) << shift;
        if (!(b & 128)) return v;
    }
}

/* The only event file of the folder. */
static char *read_events(const char *dir, size_t *n, int files)
{
    char *data = NULL, path[600];
    int found = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));) {
        if (strncmp(e->d_name, "events.out.tfevents.", 20)) continue;
        found++;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        free(data);
        ck_ok(cst_file_read(&data, n, path));
    }
    closedir(d);
    ck_assert_int_eq(found, files);
    return data;
}

START_TEST(events_are_read_back)
{
    cst_events *e;
    size_t n, k;
    const cst_scalar first[] = {{"loss", 10.5}, {"lr", 5e-5}, {"valid_loss", NAN}}, second[] = {{"loss", INFINITY}};
    ck_ok(cst_events_open(&e, test_dir()));
    ck_ok(cst_events_write(e, 1, first, 3));
    ck_ok(cst_events_write(e, 300000000000, second, 1));
    char *data = read_events(test_dir(), &n, 1); /* while it is open: nothing is kept back */
    const uint8_t *p = (uint8_t *)data, *end = p + n, *v = record(&p, end, &k);
    ck_assert(v[0] == 9 && v[9] == 26 && v[10] == 13 && !memcmp(v + 11, "brain.Event:2", 13) && k == 24);
    double t;
    memcpy(&t, v + 1, 8);
    ck_assert(t > 1.7e9 && t < 1e11);
    static const double want[2][2] = {{10.5, 5e-5}, {INFINITY, 0}};
    for (int event = 0; event < 2; event++) {
        v = record(&p, end, &k);
        const uint8_t *stop = v + k;
        v += 9;
        ck_assert_int_eq(*v++, 16);
        ck_assert_uint_eq(varint(&v), event ? 300000000000 : 1);
        ck_assert_int_eq(*v++, 42);
        ck_assert_uint_eq(varint(&v), (uint64_t)(stop - v));
        for (int i = 0; i < 2 - event; i++) {
            float x;
            ck_assert_int_eq(*v++, 10);
            const uint8_t *value_end = v + 1 + v[0];
            v++;
            ck_assert(v[0] == 10 && v[1] == (i ? 2 : 4) && !memcmp(v + 2, i ? "lr" : "loss", v[1]));
            v += 2 + v[1];
            ck_assert_int_eq(*v++, 21);
            memcpy(&x, v, 4);
            v += 4;
            ck_assert(x == (float)want[event][i]);
            ck_assert_ptr_eq(v, value_end);
        }
        ck_assert_ptr_eq(v, stop);
    }
    ck_assert_ptr_eq(p, end);
    free(data);
    cst_events_close(e);
    ck_ok(cst_events_open(&e, test_dir())); /* another run in the same second: another file */
    cst_events_close(e);
    free(read_events(test_dir(), &n, 2));
    ck_fails(cst_events_open(&e, "/proc/none"), CST_IO, "/proc/none/events");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tensorboard");
    TCase *tc = tcase_create("events");
    tcase_add_test(tc, checksums_are_those_of_the_standard);
    tcase_add_test(tc, events_are_read_back);
    suite_add_tcase(s, tc);
    return test_run(s);
}
