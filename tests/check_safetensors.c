/* Reader and writer of safetensors: round trips, conversions, a file made by PyTorch, and bad files. */
#include <math.h>
#include <stdint.h>
#include <unistd.h>

#include "base/file.h"
#include "io/safetensors.h"
#include "testing.h"

static const char *fixture(const char *name)
{
    return test_path(source_path("tests/fixtures"), name);
}

/* A file with this header, a length field of its size + `extra`, and n bytes of data. */
static const char *write_raw(const char *header, int64_t extra, size_t n)
{
    const char *path = test_file("raw.safetensors");
    size_t len = strlen(header);
    uint64_t field = len + (uint64_t)extra;
    char *all = calloc(1, 8 + len + n + 1);
    memcpy(all, &field, 8);
    memcpy(all + 8, header, len);
    ck_ok(cst_file_write(path, all, 8 + len + n));
    free(all);
    return path;
}

static void check_bad(const char *header, int64_t extra, size_t n, const char *words)
{
    cst_safetensors *s = NULL;
    const char *path = write_raw(header, extra, n);
    ck_fails(cst_safetensors_open(&s, path), CST_INPUT, words);
    ck_assert_msg(strstr(cst_detail(), path) != NULL, "the detail lacks the file: %s", cst_detail());
    ck_assert_ptr_null(s);
}

static void check_good(const char *header, size_t n, size_t count)
{
    cst_safetensors *s;
    ck_ok(cst_safetensors_open(&s, write_raw(header, 0, n)));
    ck_assert_uint_eq(cst_safetensors_count(s), count);
    cst_safetensors_close(s);
}

START_TEST(round_trip)
{
    const int64_t dims[] = {2, 3}, none[] = {0, 5};
    const double d[6] = {1, -2, 3.5, 1e-300, 5, 6};
    const float f[6] = {0.5f, 1, 2, 3, 4, 5}, scalar = 7;
    const uint8_t u[6] = {1, 2, 3, 4, 5, 255};
    const char *path = test_file("round.safetensors");
    cst_safetensors_writer *w;
    ck_ok(cst_safetensors_writer_create(&w, path));
    ck_ok(cst_safetensors_writer_declare(w, "z.double", CST_ST_F64, 2, dims));
    ck_ok(cst_safetensors_writer_declare(w, "empty", CST_ST_I64, 2, none));
    ck_ok(cst_safetensors_writer_declare(w, "a \"float\" \xc3\xa9", CST_ST_F32, 2, dims));
    ck_ok(cst_safetensors_writer_declare(w, "loss", CST_ST_F32, 0, NULL));
    ck_ok(cst_safetensors_writer_declare(w, "bytes", CST_ST_U8, 2, dims));
    ck_ok(cst_safetensors_writer_metadata(w, "step", "12"));
    ck_ok(cst_safetensors_writer_begin(w));
    ck_ok(cst_safetensors_writer_put(w, d, 20)); /* in pieces */
    ck_ok(cst_safetensors_writer_put(w, (const char *)d + 20, sizeof d - 20));
    ck_ok(cst_safetensors_writer_put(w, f, sizeof f));
    ck_ok(cst_safetensors_writer_put(w, &scalar, sizeof scalar));
    ck_ok(cst_safetensors_writer_put(w, u, sizeof u));
    ck_assert(!cst_path_exists(path));
    ck_ok(cst_safetensors_writer_commit(w));

    cst_safetensors *s;
    ck_ok(cst_safetensors_open(&s, path));
    ck_assert_uint_eq(cst_safetensors_count(s), 5);
    ck_assert_str_eq(cst_safetensors_metadata(s, "format"), "pt");
    ck_assert_str_eq(cst_safetensors_metadata(s, "step"), "12");
    ck_assert_ptr_null(cst_safetensors_metadata(s, "none"));
    const cst_safetensors_view *v = cst_safetensors_find(s, "z.double");
    ck_assert_ptr_eq(v, cst_safetensors_get(s, 0));
    ck_assert_uint_eq((uintptr_t)v->data % 8, 0); /* the header is padded */
    ck_assert(v->dtype == CST_ST_F64 && v->rank == 2 && v->dims[0] == 2 && v->dims[1] == 3 && v->count == 6);
    ck_assert_str_eq(v->dtype_name, "F64");
    ck_assert_uint_eq(v->bytes, sizeof d);
    ck_assert_mem_eq(v->data, d, sizeof d);
    v = cst_safetensors_find(s, "a \"float\" \xc3\xa9");
    ck_assert_mem_eq(v->data, f, sizeof f);
    v = cst_safetensors_find(s, "loss");
    ck_assert(v->rank == 0 && v->count == 1 && v->bytes == 4);
    ck_assert_mem_eq(v->data, &scalar, sizeof scalar);
    v = cst_safetensors_find(s, "bytes");
    ck_assert_mem_eq(v->data, u, sizeof u);
    v = cst_safetensors_find(s, "empty");
    ck_assert(v->count == 0 && v->bytes == 0 && v->dims[1] == 5);
    ck_assert_ptr_null(cst_safetensors_find(s, "los"));
    ck_assert_ptr_null(cst_safetensors_get(s, 5));
    cst_safetensors_close(s);
}
END_TEST

START_TEST(writer_misuse)
{
    const int64_t four[] = {4}, negative[] = {-1}, huge[] = {INT64_MAX / 2, 3};
    const char *path = test_file("misuse.safetensors");
    const float data[5] = {0};
    cst_safetensors_writer *w;
    ck_ok(cst_file_write(path, "old", 3));
    ck_ok(cst_safetensors_writer_create(&w, path));
    ck_fails(cst_safetensors_writer_put(w, data, 4), CST_STATE, "before begin");
    ck_ok(cst_safetensors_writer_declare(w, "x", CST_ST_F32, 1, four));
    ck_fails(cst_safetensors_writer_declare(w, "x", CST_ST_F32, 1, four), CST_USAGE, "\"x\"");
    ck_fails(cst_safetensors_writer_declare(w, "__metadata__", CST_ST_F32, 1, four), CST_USAGE, "reserved");
    ck_fails(cst_safetensors_writer_declare(w, "y", CST_ST_F32, 1, negative), CST_USAGE, "\"y\"");
    ck_fails(cst_safetensors_writer_declare(w, "y", CST_ST_F32, 2, huge), CST_USAGE, "\"y\"");
    ck_fails(cst_safetensors_writer_declare(w, "y", CST_ST_F32, 9, four), CST_USAGE, "\"y\"");
    ck_fails(cst_safetensors_writer_declare(w, "\xff", CST_ST_F32, 1, four), CST_USAGE, "UTF-8");
    ck_ok(cst_safetensors_writer_begin(w));
    ck_fails(cst_safetensors_writer_begin(w), CST_STATE, "twice");
    ck_fails(cst_safetensors_writer_declare(w, "y", CST_ST_F32, 1, four), CST_STATE, "\"y\"");
    ck_fails(cst_safetensors_writer_put(w, data, 20), CST_STATE, "4 bytes more");
    ck_ok(cst_safetensors_writer_put(w, data, 12));
    ck_fails(cst_safetensors_writer_commit(w), CST_STATE, "12 of 16");

    ck_ok(cst_safetensors_writer_create(&w, path));
    cst_safetensors_writer_discard(w);
    cst_safetensors_writer_discard(NULL);
    char *text;
    size_t n;
    ck_ok(cst_file_read(&text, &n, path)); /* the old file is untouched */
    ck_assert_str_eq(text, "old");
    free(text);
    ck_fails(cst_safetensors_writer_create(&w, "/nonexistent/x"), CST_IO, "/nonexistent/x");
}
END_TEST

static void write_one(const char *path, cst_st_dtype t, int64_t n, const void *data)
{
    cst_safetensors_writer *w;
    ck_ok(cst_safetensors_writer_create(&w, path));
    ck_ok(cst_safetensors_writer_declare(w, "x", t, 1, &n));
    ck_ok(cst_safetensors_writer_begin(w));
    ck_ok(cst_safetensors_writer_put(w, data, (size_t)n * cst_st_dtype_bytes(t)));
    ck_ok(cst_safetensors_writer_commit(w));
}

START_TEST(half_all_values)
{
    enum { N = 65536 };
    uint16_t *h = malloc(N * sizeof *h);
    float *out = malloc(N * sizeof *out);
    for (int i = 0; i < N; i++) h[i] = (uint16_t)i;
    cst_safetensors *s;
    const char *path = test_file("half.safetensors");
    write_one(path, CST_ST_F16, N, h);
    ck_ok(cst_safetensors_open(&s, path));
    ck_ok(cst_safetensors_copy_f32(out, cst_safetensors_get(s, 0), 0, N));
    for (int i = 0; i < N; i++) {
        int e = i >> 10 & 31, m = i & 1023;
        if (e == 31 && m) {
            ck_assert(isnan(out[i]));
            continue;
        }
        double want = e == 31 ? INFINITY : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
        ck_assert_msg(out[i] == (float)(i >> 15 ? -want : want), "half %04x: %g", (unsigned)i, (double)out[i]);
        ck_assert_int_eq(!!signbit(out[i]), i >> 15);
    }
    cst_safetensors_close(s);

    write_one(path, CST_ST_BF16, N, h);
    ck_ok(cst_safetensors_open(&s, path));
    ck_ok(cst_safetensors_copy_f32(out, cst_safetensors_get(s, 0), 0, N));
    for (int i = 0; i < N; i++) {
        uint32_t bits;
        memcpy(&bits, &out[i], sizeof bits);
        ck_assert_uint_eq(bits, (uint32_t)i << 16);
    }
    cst_safetensors_close(s);
    free(h);
    free(out);
}
END_TEST

START_TEST(copy_ranges)
{
    enum { N = 400000 }; /* several blocks */
    double *d = malloc(N * sizeof *d);
    float *out = malloc(N * sizeof *out);
    for (int i = 0; i < N; i++) d[i] = i / 3.0;
    cst_safetensors *s;
    const char *path = test_file("range.safetensors");
    write_one(path, CST_ST_F64, N, d);
    ck_ok(cst_safetensors_open(&s, path));
    const cst_safetensors_view *v = cst_safetensors_find(s, "x");
    ck_ok(cst_safetensors_copy_f32(out, v, 1, N - 1));
    for (int i = 1; i < N; i++) ck_assert(out[i - 1] == (float)d[i]);
    out[2] = -1;
    ck_ok(cst_safetensors_copy_f32(out, v, 100, 2));
    ck_assert(out[0] == (float)d[100] && out[1] == (float)d[101] && out[2] == -1);
    ck_ok(cst_safetensors_copy_f32(out, v, N, 0));
    ck_fails(cst_safetensors_copy_f32(out, v, N, 1), CST_USAGE, "\"x\"");
    ck_fails(cst_safetensors_copy_f32(out, v, 1, SIZE_MAX), CST_USAGE, "\"x\"");
    cst_safetensors_close(s);
    write_one(path, CST_ST_I64, 4, d);
    ck_ok(cst_safetensors_open(&s, path));
    ck_fails(cst_safetensors_copy_f32(out, cst_safetensors_get(s, 0), 0, 1), CST_UNSUPPORTED, "I64");
    cst_safetensors_close(s);
    free(d);
    free(out);
}
END_TEST

START_TEST(unaligned_data)
{
    /* 61 bytes of header: the floats stand at an odd address */
    cst_safetensors *s;
    const char *h = "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}       }";
    ck_assert_uint_eq(strlen(h), 61);
    ck_ok(cst_safetensors_open(&s, write_raw(h, 0, 8)));
    float out[2] = {1, 1};
    ck_ok(cst_safetensors_copy_f32(out, cst_safetensors_get(s, 0), 0, 2));
    ck_assert(out[0] == 0 && out[1] == 0);
    cst_safetensors_close(s);
}
END_TEST

START_TEST(pytorch_file)
{
    cst_safetensors *s;
    ck_ok(cst_safetensors_open(&s, fixture("tiny-post/model.safetensors")));
    ck_assert_uint_eq(cst_safetensors_count(s), 36);
    const cst_safetensors_view *v = cst_safetensors_find(s, "model.decoder.project_in.weight");
    ck_assert_ptr_nonnull(v);
    ck_assert(v->dtype == CST_ST_F32 && v->rank == 2 && v->dims[0] == 24 && v->dims[1] == 12);
    ck_assert_ptr_null(cst_safetensors_find(s, "lm_head.weight"));
    cst_safetensors_close(s);
    ck_ok(cst_safetensors_open(&s, fixture("tiny-post/expected.safetensors")));
    v = cst_safetensors_find(s, "loss");
    ck_assert(v && v->dtype == CST_ST_F64 && v->rank == 0);
    float loss;
    ck_ok(cst_safetensors_copy_f32(&loss, v, 0, 1));
    ck_assert(loss > 3 && loss < 7); /* about log(97) */
    cst_safetensors_close(s);
}
END_TEST

/* One tensor of a header. */
#define T(name, type, shape, range) \
    "\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" range "}"

START_TEST(good_files)
{
    check_good("{}", 0, 0);
    check_good("{\"__metadata__\":{\"a\":\"b\"}}  ", 0, 0);
    check_good("{" T("x", "F32", "[]", "[0,4]") "}", 4, 1);
    check_good("{" T("b", "U8", "[3]", "[4,7]") "," T("a", "F32", "[1,1]", "[0,4]") "}", 7, 2); /* any order */
    check_good("{" T("a", "F8_E4M3", "[2]", "[0,2]") "," T("e", "F32", "[0]", "[2,2]") ","
               T("b", "BOOL", "[1]", "[2,3]") "}", 3, 3);
    check_good("{" T("x", "I8", "[1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, 1);
}
END_TEST

START_TEST(bad_headers)
{
    cst_safetensors *s = NULL;
    const char *path = test_file("short.safetensors");
    ck_ok(cst_file_write(path, "\1\0\0", 3));
    ck_fails(cst_safetensors_open(&s, path), CST_INPUT, "truncated");
    ck_ok(cst_file_write(path, "", 0));
    ck_fails(cst_safetensors_open(&s, path), CST_INPUT, "truncated");
    ck_fails(cst_safetensors_open(&s, "/nonexistent"), CST_IO, "/nonexistent");
    ck_fails(cst_safetensors_open(&s, test_dir()), CST_IO, "not a regular file");
    check_bad("{}", 1, 0, "truncated: header of 3 bytes");
    check_bad("{}", 200000000, 0, "allowed: 100000000");
    check_bad("{}", -10, 0, "allowed: 100000000"); /* a length near 2^64 */
    check_bad("{}", -1, 0, "not a JSON object");
    check_bad("", 0, 4, "not a JSON object");
    check_bad("[1]", 0, 0, "not a JSON object");
    check_bad("{\"x\":", 0, 0, "header: ");
    check_bad("{} x", 0, 0, "header: ");
    check_bad("{\"\xff\":1}", 0, 0, "header: ");
    check_bad("{\"x\":1}", 0, 0, "tensor \"x\": its entry is not an object");
    check_bad("{\"__metadata__\":3}", 0, 0, "__metadata__");
    check_bad("{\"__metadata__\":{\"k\":3}}", 0, 0, "\"k\"");
    check_bad("{" T("x", "U8", "[1]", "[0,1]") "," T("x", "U8", "[1]", "[1,2]") "}", 0, 2, "duplicate");
    check_bad("{\"x\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 0, 1, "duplicate");
}
END_TEST

START_TEST(bad_nesting)
{
    enum { DEPTH = 100000 };
    char *h = malloc(2 * DEPTH + 16);
    strcpy(h, "{\"x\":");
    memset(h + 5, '[', DEPTH);
    memset(h + 5 + DEPTH, ']', DEPTH);
    strcpy(h + 5 + 2 * DEPTH, "}");
    check_bad(h, 0, 0, "depth");
    free(h);
}
END_TEST

START_TEST(bad_tensors)
{
    cst_safetensors *s;
    check_bad("{" T("x", "F31", "[1]", "[0,4]") "}", 0, 4, "tensor \"x\": unknown dtype \"F31\"");
    check_bad("{" T("x", "f32", "[1]", "[0,4]") "}", 0, 4, "unknown dtype");
    check_bad("{\"x\":{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 4, "no dtype");
    check_bad("{\"x\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 0, 4, "no shape");
    check_bad("{\"x\":{\"dtype\":\"F32\",\"shape\":[1]}}", 0, 4, "data_offsets");
    check_bad("{" T("x", "F32", "[1.0]", "[0,4]") "}", 0, 4, "not an integer");
    check_bad("{" T("x", "F32", "[-1]", "[0,4]") "}", 0, 4, "negative");
    check_bad("{" T("x", "F32", "[-1,-1]", "[0,4]") "}", 0, 4, "negative");
    check_bad("{" T("x", "F32", "[1]", "[0,4,8]") "}", 0, 8, "two integers");
    check_bad("{" T("x", "F32", "[1]", "[-4,0]") "}", 0, 4, "negative");
    check_bad("{" T("x", "F32", "[1]", "[4,0]") "}", 0, 4, "out of order");
    check_bad("{" T("x", "F32", "[2]", "[0,4]") "}", 0, 4, "need 8 bytes, data_offsets give 4");
    check_bad("{" T("x", "F32", "[2]", "[0,8]") "}", 0, 7, "tensor \"x\": truncated");
    check_bad("{" T("x", "F32", "[4294967296,4294967296]", "[0,0]") "}", 0, 0, "overflows");
    check_bad("{" T("x", "F32", "[4611686018427387904]", "[0,0]") "}", 0, 0, "overflows");
    check_bad("{" T("x", "F32", "[99999999999999999999]", "[0,0]") "}", 0, 0, "too big");
    check_bad("{" T("x", "F32", "[1]", "[0,9223372036854775807]") "}", 0, 4, "truncated");
    ck_fails(cst_safetensors_open(&s, write_raw("{" T("x", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 0, 1)),
             CST_UNSUPPORTED, "tensor \"x\": 9 dimensions");
}
END_TEST

START_TEST(bad_layout)
{
    check_bad("{" T("a", "U8", "[4]", "[0,4]") "," T("b", "U8", "[4]", "[3,7]") "}", 0, 7, "tensor \"b\": it overlaps");
    check_bad("{" T("a", "U8", "[4]", "[0,4]") "," T("b", "U8", "[4]", "[0,4]") "}", 0, 4, "overlaps");
    check_bad("{" T("a", "U8", "[8]", "[0,8]") "," T("b", "U8", "[2]", "[2,4]") "}", 0, 8, "tensor \"b\": it overlaps");
    check_bad("{" T("a", "U8", "[4]", "[0,4]") "," T("e", "U8", "[0]", "[2,2]") "}", 0, 4, "tensor \"e\": it overlaps");
    check_bad("{" T("a", "U8", "[4]", "[0,4]") "," T("b", "U8", "[4]", "[5,9]") "}", 0, 9, "tensor \"b\": a hole");
    check_bad("{" T("a", "U8", "[4]", "[1,5]") "}", 0, 5, "tensor \"a\": a hole");
    check_bad("{" T("a", "U8", "[4]", "[0,4]") "}", 0, 6, "2 bytes after the last tensor");
    check_bad("{}", 0, 1, "1 bytes after");
}
END_TEST

/* However short the file is cut, opening it is a clean error. */
START_TEST(every_truncation)
{
    char *all;
    size_t n;
    cst_safetensors *s = NULL;
    const char *path = write_raw("{" T("a", "F32", "[3]", "[0,12]") "," T("b", "U8", "[2]", "[12,14]") "}", 0, 14);
    ck_ok(cst_file_read(&all, &n, path));
    for (size_t k = 0; k < n; k++) {
        ck_ok(cst_file_write(path, all, k));
        ck_fails(cst_safetensors_open(&s, path), CST_INPUT, "truncated");
    }
    ck_ok(cst_file_write(path, all, n));
    ck_ok(cst_safetensors_open(&s, path));
    cst_safetensors_close(s);
    free(all);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("safetensors");
    TCase *t = tcase_create("all");
    tcase_add_test(t, round_trip);
    tcase_add_test(t, writer_misuse);
    tcase_add_test(t, half_all_values);
    tcase_add_test(t, copy_ranges);
    tcase_add_test(t, unaligned_data);
    tcase_add_test(t, pytorch_file);
    tcase_add_test(t, good_files);
    tcase_add_test(t, bad_headers);
    tcase_add_test(t, bad_nesting);
    tcase_add_test(t, bad_tensors);
    tcase_add_test(t, bad_layout);
    tcase_add_test(t, every_truncation);
    suite_add_tcase(s, t);
    return test_run(s);
}
