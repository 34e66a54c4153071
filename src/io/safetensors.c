#include "io/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors data is little-endian: a big-endian host needs byte swaps here"
#endif

static const struct {
    const char *name;
    size_t bytes;
} DTYPES[CST_ST_DTYPE_COUNT] = {
#define X(name, bytes) {#name, bytes},
    CST_ST_DTYPE_LIST(X)
#undef X
};

static int dtype_valid(cst_st_dtype t)
{
    return (unsigned)t < CST_ST_DTYPE_COUNT;
}

const char *cst_st_dtype_name(cst_st_dtype t)
{
    return dtype_valid(t) ? DTYPES[t].name : "?";
}

size_t cst_st_dtype_bytes(cst_st_dtype t)
{
    return dtype_valid(t) ? DTYPES[t].bytes : 0;
}

/* Elements and bytes of a shape; nonzero on a negative dimension or overflow. */
static int shape_size(uint64_t *count, uint64_t *bytes, cst_st_dtype t, int rank, const int64_t *dims)
{
    *count = 1;
    for (int i = 0; i < rank; i++)
        if (dims[i] < 0 || __builtin_mul_overflow(*count, (uint64_t)dims[i], count)) return 1;
    return __builtin_mul_overflow(*count, DTYPES[t].bytes, bytes) || *bytes > INT64_MAX;
}

/* ---- reading ---- */

struct cst_safetensors {
    char *path;
    unsigned char *map, *data;
    size_t size, data_size; /* bytes of the file, bytes after its header */
    json_t *header;         /* owns the names */
    size_t count;
    cst_safetensors_view *views; /* by place in the file */
    const cst_safetensors_view **by_name;
};

static cst_status map_file(cst_safetensors *s)
{
    struct stat sb;
    int fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return cst_fail(CST_IO, "%s: %s", s->path, strerror(errno));
    cst_status st = CST_OK;
    if (fstat(fd, &sb) || !S_ISREG(sb.st_mode)) {
        st = cst_fail(CST_IO, "%s: not a regular file", s->path);
        goto out;
    }
    if (sb.st_size < 8) {
        st = cst_fail(CST_INPUT, "%s: truncated: no room for the header's length", s->path);
        goto out;
    }
    void *p = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        st = cst_fail(CST_IO, "%s: mmap: %s", s->path, strerror(errno));
        goto out;
    }
    s->map = p;
    s->size = (size_t)sb.st_size;
out:
    close(fd);
    return st;
}

static cst_status parse_header(cst_safetensors *s)
{
    uint64_t n;
    json_error_t e;
    memcpy(&n, s->map, sizeof n);
    if (n > CST_SAFETENSORS_HEADER_MAX)
        return cst_fail(CST_INPUT, "%s: header of %llu bytes; allowed: %u", s->path, (unsigned long long)n,
                        CST_SAFETENSORS_HEADER_MAX);
    if (n > s->size - 8)
        return cst_fail(CST_INPUT, "%s: truncated: header of %llu bytes in a file of %zu", s->path,
                        (unsigned long long)n, s->size);
    const char *text = (const char *)s->map + 8;
    if (n < 2 || text[0] != '{') return cst_fail(CST_INPUT, "%s: the header is not a JSON object", s->path);
    s->header = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &e);
    if (!s->header) return cst_fail(CST_INPUT, "%s: header: %s", s->path, e.text);
    s->data = s->map + 8 + n;
    s->data_size = s->size - 8 - (size_t)n;
    return CST_OK;
}

static cst_status check_metadata(const cst_safetensors *s, json_t *meta)
{
    const char *key;
    json_t *value;
    if (!json_is_object(meta)) return cst_fail(CST_INPUT, "%s: __metadata__ is not an object", s->path);
    json_object_foreach(meta, key, value)
        if (!json_is_string(value)) return cst_fail(CST_INPUT, "%s: __metadata__: \"%s\" is no string", s->path, key);
    return CST_OK;
}

static cst_status bad(const cst_safetensors *s, const char *name, const char *what)
{
    return cst_fail(CST_INPUT, "%s: tensor \"%s\": %s", s->path, name, what);
}

static cst_status parse_shape(cst_safetensors_view *v, const cst_safetensors *s, const json_t *shape)
{
    if (!json_is_array(shape)) return bad(s, v->name, "no shape");
    size_t rank = json_array_size(shape);
    if (rank > CST_SAFETENSORS_RANK_MAX)
        return cst_fail(CST_UNSUPPORTED, "%s: tensor \"%s\": %zu dimensions; allowed: %d", s->path, v->name, rank,
                        CST_SAFETENSORS_RANK_MAX);
    v->rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d)) return bad(s, v->name, "a dimension is not an integer");
        v->dims[i] = json_integer_value(d);
        if (v->dims[i] < 0) return bad(s, v->name, "a dimension is negative");
    }
    return CST_OK;
}

static cst_status parse_view(cst_safetensors_view *v, const cst_safetensors *s, const char *name, const json_t *info)
{
    v->name = name;
    if (!json_is_object(info)) return bad(s, name, "its entry is not an object");
    const char *type = json_string_value(json_object_get(info, "dtype"));
    if (!type) return bad(s, name, "no dtype");
    int t = 0;
    while (t < CST_ST_DTYPE_COUNT && strcmp(type, DTYPES[t].name)) t++;
    if (t == CST_ST_DTYPE_COUNT)
        return cst_fail(CST_INPUT, "%s: tensor \"%s\": unknown dtype \"%s\"", s->path, name, type);
    v->dtype = (cst_st_dtype)t;
    v->dtype_name = DTYPES[t].name;
    CST_TRY(parse_shape(v, s, json_object_get(info, "shape")));

    const json_t *range = json_object_get(info, "data_offsets");
    const json_t *b = json_array_get(range, 0), *e = json_array_get(range, 1);
    if (json_array_size(range) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return bad(s, name, "data_offsets must be two integers");
    int64_t begin = json_integer_value(b), end = json_integer_value(e);
    if (begin < 0 || end < begin) return bad(s, name, "data_offsets are negative or out of order");
    if ((uint64_t)end > s->data_size)
        return cst_fail(CST_INPUT, "%s: tensor \"%s\": truncated: ends at byte %lld of %zu bytes of data", s->path,
                        name, (long long)end, s->data_size);
    uint64_t count, bytes;
    if (shape_size(&count, &bytes, v->dtype, v->rank, v->dims)) return bad(s, name, "the shape overflows");
    if (bytes != (uint64_t)(end - begin))
        return cst_fail(CST_INPUT, "%s: tensor \"%s\": shape and dtype need %llu bytes, data_offsets give %lld",
                        s->path, name, (unsigned long long)bytes, (long long)(end - begin));
    v->count = (size_t)count;
    v->bytes = (size_t)bytes;
    v->data = s->data + begin;
    return CST_OK;
}

static int cmp_place(const void *a, const void *b)
{
    const cst_safetensors_view *x = a, *y = b;
    uintptr_t p = (uintptr_t)x->data, q = (uintptr_t)y->data;
    if (p != q) return p < q ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* an empty tensor stands before its neighbour */
}

static int cmp_name(const void *a, const void *b)
{
    const cst_safetensors_view *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* Every byte of the data belongs to exactly one tensor. */
static cst_status check_layout(const cst_safetensors *s)
{
    const unsigned char *at = s->data;
    for (size_t i = 0; i < s->count; i++) {
        const cst_safetensors_view *v = &s->views[i];
        const unsigned char *p = v->data;
        if (p > at) return bad(s, v->name, "a hole in the data before it");
        if (p < at) return bad(s, v->name, "it overlaps the tensor before it");
        at = p + v->bytes;
    }
    if (at != s->data + s->data_size)
        return cst_fail(CST_INPUT, "%s: %zu bytes after the last tensor", s->path,
                        (size_t)(s->data + s->data_size - at));
    return CST_OK;
}

static cst_status parse_views(cst_safetensors *s)
{
    const char *name;
    json_t *info;
    size_t n = json_object_size(s->header) + 1;
    s->views = calloc(n, sizeof *s->views);
    s->by_name = calloc(n, sizeof *s->by_name);
    if (!s->views || !s->by_name) return cst_fail(CST_NO_MEMORY, "%s: %zu tensors", s->path, n - 1);
    json_object_foreach(s->header, name, info) {
        if (!strcmp(name, "__metadata__")) {
            CST_TRY(check_metadata(s, info));
            continue;
        }
        CST_TRY(parse_view(&s->views[s->count], s, name, info));
        s->count++;
    }
    qsort(s->views, s->count, sizeof *s->views, cmp_place);
    CST_TRY(check_layout(s));
    for (size_t i = 0; i < s->count; i++) s->by_name[i] = &s->views[i];
    qsort(s->by_name, s->count, sizeof *s->by_name, cmp_name);
    return CST_OK;
}

cst_status cst_safetensors_open(cst_safetensors **out, const char *path)
{
    cst_status st;
    cst_safetensors *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path))) {
        free(s);
        return cst_fail(CST_NO_MEMORY, "%s", path);
    }
    CST_GO(map_file(s), fail);
    CST_GO(parse_header(s), fail);
    CST_GO(parse_views(s), fail);
    *out = s;
    return CST_OK;
fail:
    cst_safetensors_close(s);
    return st;
}

void cst_safetensors_close(cst_safetensors *s)
{
    if (!s) return;
    if (s->map) munmap(s->map, s->size);
    json_decref(s->header);
    free(s->views);
    free(s->by_name);
    free(s->path);
    free(s);
}

size_t cst_safetensors_count(const cst_safetensors *s)
{
    return s->count;
}

const cst_safetensors_view *cst_safetensors_get(const cst_safetensors *s, size_t i)
{
    return i < s->count ? &s->views[i] : NULL;
}

const cst_safetensors_view *cst_safetensors_find(const cst_safetensors *s, const char *name)
{
    cst_safetensors_view key = {.name = name};
    const cst_safetensors_view *k = &key;
    const cst_safetensors_view **p = bsearch(&k, s->by_name, s->count, sizeof *s->by_name, cmp_name);
    return p ? *p : NULL;
}

const char *cst_safetensors_metadata(const cst_safetensors *s, const char *key)
{
    return json_string_value(json_object_get(json_object_get(s->header, "__metadata__"), key));
}

static float float_of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static float float_of_half(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 1023;
    if (e == 0) return sign ? -(float)m * 0x1p-24f : (float)m * 0x1p-24f;
    return float_of_bits(sign | (e == 31 ? 0x7f800000u : (e + 112) << 23) | m << 13);
}

/* One block, from data that may be unaligned. */
static void to_f32(float *dst, const unsigned char *p, cst_st_dtype t, size_t n)
{
    uint16_t h;
    double d;
    if (t == CST_ST_F32) memcpy(dst, p, n * sizeof *dst);
    for (size_t i = 0; t == CST_ST_F64 && i < n; i++) {
        memcpy(&d, p + i * sizeof d, sizeof d);
        dst[i] = (float)d;
    }
    for (size_t i = 0; (t == CST_ST_F16 || t == CST_ST_BF16) && i < n; i++) {
        memcpy(&h, p + i * sizeof h, sizeof h);
        dst[i] = t == CST_ST_F16 ? float_of_half(h) : float_of_bits((uint32_t)h << 16);
    }
}

int cst_st_dtype_is_real(cst_st_dtype t)
{
    return t == CST_ST_F64 || t == CST_ST_F32 || t == CST_ST_F16 || t == CST_ST_BF16;
}

void cst_st_to_f32(float *dst, const void *src, cst_st_dtype t, size_t count)
{
    enum { BLOCK = 1 << 16 };
    size_t size = DTYPES[t].bytes, blocks = (count + BLOCK - 1) / BLOCK;
    const unsigned char *p = src;
#pragma omp parallel for schedule(static) if (blocks > 4)
    for (size_t b = 0; b < blocks; b++) {
        size_t at = b * BLOCK, n = count - at < BLOCK ? count - at : BLOCK;
        to_f32(dst + at, p + at * size, t, n);
    }
}

cst_status cst_safetensors_copy_f32(float *dst, const cst_safetensors_view *v, size_t first, size_t count)
{
    if (!cst_st_dtype_is_real(v->dtype))
        return cst_fail(CST_UNSUPPORTED, "tensor \"%s\" is %s; allowed: F64, F32, F16, BF16", v->name, v->dtype_name);
    if (first > v->count || count > v->count - first)
        return cst_fail(CST_USAGE, "tensor \"%s\": elements %zu + %zu of %zu", v->name, first, count, v->count);
    cst_st_to_f32(dst, (const unsigned char *)v->data + first * DTYPES[v->dtype].bytes, v->dtype, count);
    return CST_OK;
}

void cst_safetensors_forget(const cst_safetensors_view *v, size_t first, size_t count)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), size = DTYPES[v->dtype].bytes;
    uintptr_t begin = (uintptr_t)v->data + first * size, end = begin + count * size;
    begin &= ~(page - 1); /* a page shared with the tensor before is read no more; the last one may be shared with the next */
    end &= ~(page - 1);
    if (end > begin) (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* ---- writing ---- */

struct cst_safetensors_writer {
    char *path;
    cst_file *file;
    json_t *header, *metadata; /* metadata is borrowed from header */
    uint64_t declared, written;
    int begun;
};

cst_status cst_safetensors_writer_create(cst_safetensors_writer **out, const char *path)
{
    cst_status st;
    cst_safetensors_writer *w = calloc(1, sizeof *w);
    if (!w || !(w->path = strdup(path)) || !(w->header = json_pack("{s:{s:s}}", "__metadata__", "format", "pt"))) {
        st = cst_fail(CST_NO_MEMORY, "%s", path);
        goto fail;
    }
    w->metadata = json_object_get(w->header, "__metadata__");
    CST_GO(cst_file_create(&w->file, path), fail);
    *out = w;
    return CST_OK;
fail:
    cst_safetensors_writer_discard(w);
    return st;
}

cst_status cst_safetensors_writer_declare(cst_safetensors_writer *w, const char *name, cst_st_dtype dtype, int rank,
                                          const int64_t *dims)
{
    uint64_t count, bytes, end;
    if (w->begun) return cst_fail(CST_STATE, "%s: tensor \"%s\" declared after begin", w->path, name);
    if (!*name || json_object_get(w->header, name))
        return cst_fail(CST_USAGE, "%s: tensor name \"%s\" is empty, reserved or used twice", w->path, name);
    if (!dtype_valid(dtype) || rank < 0 || rank > CST_SAFETENSORS_RANK_MAX ||
        shape_size(&count, &bytes, dtype, rank, dims) || __builtin_add_overflow(w->declared, bytes, &end) ||
        end > INT64_MAX)
        return cst_fail(CST_USAGE, "%s: tensor \"%s\": wrong dtype or shape", w->path, name);
    json_t *shape = json_array();
    for (int i = 0; i < rank; i++) json_array_append_new(shape, json_integer(dims[i]));
    json_t *info = json_pack("{s:s, s:o, s:[I,I]}", "dtype", DTYPES[dtype].name, "shape", shape, "data_offsets",
                             (json_int_t)w->declared, (json_int_t)end);
    if (json_array_size(shape) != (size_t)rank || json_object_set_new(w->header, name, info))
        return cst_fail(CST_USAGE, "%s: tensor name \"%s\" is not UTF-8, or out of memory", w->path, name);
    w->declared = end;
    return CST_OK;
}

cst_status cst_safetensors_writer_metadata(cst_safetensors_writer *w, const char *key, const char *value)
{
    if (w->begun) return cst_fail(CST_STATE, "%s: metadata \"%s\" after begin", w->path, key);
    if (json_object_set_new(w->metadata, key, json_string(value)))
        return cst_fail(CST_USAGE, "%s: metadata \"%s\" is not UTF-8, or out of memory", w->path, key);
    return CST_OK;
}

cst_status cst_safetensors_writer_begin(cst_safetensors_writer *w)
{
    static const char spaces[8] = "        ";
    cst_status st;
    if (w->begun) return cst_fail(CST_STATE, "%s: begin called twice", w->path);
    char *text = json_dumps(w->header, JSON_COMPACT);
    if (!text) return cst_fail(CST_NO_MEMORY, "%s: header", w->path);
    size_t n = strlen(text), pad = (8 - n % 8) % 8;
    uint64_t length = n + pad;
    if (length > CST_SAFETENSORS_HEADER_MAX) {
        st = cst_fail(CST_USAGE, "%s: header of %zu bytes; allowed: %u", w->path, n, CST_SAFETENSORS_HEADER_MAX);
        goto out;
    }
    CST_GO(cst_file_put(w->file, &length, sizeof length), out);
    CST_GO(cst_file_put(w->file, text, n), out);
    CST_GO(cst_file_put(w->file, spaces, pad), out);
    w->begun = 1;
out:
    free(text);
    return st;
}

cst_status cst_safetensors_writer_put(cst_safetensors_writer *w, const void *data, size_t bytes)
{
    if (!w->begun) return cst_fail(CST_STATE, "%s: data before begin", w->path);
    if (bytes > w->declared - w->written)
        return cst_fail(CST_STATE, "%s: %zu bytes more than declared", w->path,
                        (size_t)(bytes - (w->declared - w->written)));
    CST_TRY(cst_file_put(w->file, data, bytes));
    w->written += bytes;
    return CST_OK;
}

cst_status cst_safetensors_writer_commit(cst_safetensors_writer *w)
{
    cst_status st;
    if (!w->begun || w->written != w->declared) {
        st = cst_fail(CST_STATE, "%s: %llu of %llu declared bytes written", w->path, (unsigned long long)w->written,
                      (unsigned long long)w->declared);
    } else {
        st = cst_file_commit(w->file); /* frees it either way */
        w->file = NULL;
    }
    cst_safetensors_writer_discard(w);
    return st;
}

void cst_safetensors_writer_discard(cst_safetensors_writer *w)
{
    if (!w) return;
    cst_file_discard(w->file);
    json_decref(w->header);
    free(w->path);
    free(w);
}
