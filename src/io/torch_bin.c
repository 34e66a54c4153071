#include "io/torch_bin.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zip.h>

#include "io/pickle.h"

#define MEMBERS_MAX 100000
#define PICKLE_NAME "data.pkl"

struct cst_torch_bin {
    char *path;
    zip_t *zip;
    char *folder;         /* with its '/' */
    cst_pickle *pickle;   /* owns the names */
    cst_torch_tensor *tensor;
    size_t count;
    zip_file_t *open;     /* the member being read, its number, bytes read of it */
    uint64_t member, at;
};

/* ---- the archive ---- */

static cst_status zip_failed(const cst_torch_bin *b, const char *what, zip_error_t *e)
{
    return cst_fail(CST_INPUT, "%s: %s: %s", b->path, what, zip_error_strerror(e));
}

/* What stands at the start of a file tells the formats apart. */
static cst_status check_magic(const cst_torch_bin *b, uint64_t *size)
{
    static const unsigned char legacy[] = {0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46}; /* pickled magic number */
    unsigned char head[8] = {0};
    struct stat sb;
    FILE *f = fopen(b->path, "rb");
    if (!f) return cst_fail(CST_IO, "%s: %s", b->path, strerror(errno));
    int failed = fstat(fileno(f), &sb) || !S_ISREG(sb.st_mode);
    size_t n = failed ? 0 : fread(head, 1, sizeof head, f);
    fclose(f);
    if (failed) return cst_fail(CST_IO, "%s: not a regular file", b->path);
    *size = (uint64_t)sb.st_size;
    if (n == sizeof head && !memcmp(head, legacy, sizeof legacy))
        return cst_fail(CST_UNSUPPORTED, "%s: torch.save's format before PyTorch 1.6; allowed: its zip format. To convert: "
                        "torch.save(torch.load(FILE, map_location=\"cpu\", weights_only=True), FILE)", b->path);
    if (n < 4 || memcmp(head, "PK\3\4", 4)) return cst_fail(CST_INPUT, "%s: not a zip archive, as torch.save writes it", b->path);
    return CST_OK;
}

static cst_status open_zip(cst_torch_bin *b)
{
    int code;
    zip_error_t e;
    b->zip = zip_open(b->path, ZIP_RDONLY | ZIP_CHECKCONS, &code);
    if (b->zip) return CST_OK;
    zip_error_init_with_code(&e, code);
    cst_status st = zip_failed(b, "truncated or damaged zip archive", &e);
    zip_error_fini(&e);
    return st;
}

/* A relative path without "..". */
static int name_is_plain(const char *name)
{
    if (*name == '/' || strchr(name, '\\') || strchr(name, ':')) return 0;
    for (const char *s = name; s; s = strchr(s, '/')) {
        s += *s == '/';
        if (!strncmp(s, "..", 2) && (s[2] == '/' || !s[2])) return 0;
    }
    return 1;
}

/* All in one folder, stored as they are, and no larger together than the file: what unpacks to more than is there is a bomb. */
static cst_status check_members(cst_torch_bin *b, uint64_t file_size)
{
    zip_int64_t n = zip_get_num_entries(b->zip, 0);
    const zip_uint64_t need = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
    uint64_t sum = 0;
    if (n < 1 || n > MEMBERS_MAX) return cst_fail(CST_INPUT, "%s: %lld members; allowed: 1 to %d", b->path, (long long)n, MEMBERS_MAX);
    for (zip_int64_t i = 0; i < n; i++) {
        zip_stat_t s;
        if (zip_stat_index(b->zip, (zip_uint64_t)i, 0, &s)) return zip_failed(b, "a member", zip_get_error(b->zip));
        if ((s.valid & need) != need) return cst_fail(CST_INPUT, "%s: member %lld lacks its name or size", b->path, (long long)i);
        if (!name_is_plain(s.name))
            return cst_fail(CST_INPUT, "%s: member \"%.200s\"; allowed: relative paths without \"..\"", b->path, s.name);
        const char *slash = strchr(s.name, '/');
        size_t folder = slash ? (size_t)(slash - s.name) + 1 : 0;
        if (!folder || (b->folder && (strlen(b->folder) != folder || memcmp(b->folder, s.name, folder))))
            return cst_fail(CST_INPUT, "%s: member \"%.200s\"; allowed: members of one folder", b->path, s.name);
        if (!b->folder && !(b->folder = strndup(s.name, folder))) return cst_fail(CST_NO_MEMORY, "%s", b->path);
        if (s.comp_method != ZIP_CM_STORE || s.comp_size != s.size || (s.valid & ZIP_STAT_ENCRYPTION_METHOD && s.encryption_method))
            return cst_fail(CST_INPUT, "%s: member \"%.200s\" is compressed or encrypted (%" PRIu64 " bytes become %" PRIu64
                            "); allowed: stored members, as torch.save writes them",
                            b->path, s.name, (uint64_t)s.comp_size, (uint64_t)s.size);
        if (s.size > file_size || (sum += s.size) > file_size)
            return cst_fail(CST_INPUT, "%s: member \"%.200s\": the members so far have more bytes than the file's %" PRIu64, b->path,
                            s.name, file_size);
    }
    return CST_OK;
}

/* Number and size of "<folder>/<name>"; *size is UINT64_MAX when it isn't there. */
static cst_status find_member(uint64_t *member, uint64_t *size, const cst_torch_bin *b, const char *name)
{
    char path[512];
    zip_stat_t s;
    *size = UINT64_MAX;
    if (snprintf(path, sizeof path, "%s%s", b->folder, name) >= (int)sizeof path)
        return cst_fail(CST_INPUT, "%s: the name of member \"%.100s\" is too long", b->path, name);
    zip_int64_t i = zip_name_locate(b->zip, path, 0);
    if (i < 0) return CST_OK;
    if (zip_stat_index(b->zip, (zip_uint64_t)i, 0, &s)) return zip_failed(b, path, zip_get_error(b->zip));
    *member = (uint64_t)i;
    *size = s.size;
    return CST_OK;
}

static void close_member(cst_torch_bin *b)
{
    if (b->open) zip_fclose(b->open);
    b->open = NULL;
}

/* Bytes [at, at + n) of a member; `what` names it in messages. */
static cst_status read_member(cst_torch_bin *b, uint64_t member, uint64_t at, void *dst, size_t n, const char *what)
{
    char *p = dst;
    if (!b->open || b->member != member) {
        close_member(b);
        b->open = zip_fopen_index(b->zip, member, 0);
        if (!b->open) return zip_failed(b, what, zip_get_error(b->zip));
        b->member = member;
        b->at = 0;
    }
    if (b->at != at && zip_fseek(b->open, (zip_int64_t)at, SEEK_SET)) return zip_failed(b, what, zip_file_get_error(b->open));
    b->at = at;
    while (n) {
        zip_int64_t got = zip_fread(b->open, p, n);
        if (got < 0) return zip_failed(b, what, zip_file_get_error(b->open));
        if (!got) return cst_fail(CST_INPUT, "%s: %s: truncated", b->path, what);
        p += got;
        n -= (size_t)got;
        b->at += (uint64_t)got;
    }
    return CST_OK;
}

/* libzip compares the checksum when a member has been read from its first byte and one reads at its end. */
static cst_status check_end(cst_torch_bin *b, const char *what)
{
    char extra;
    zip_int64_t got = zip_fread(b->open, &extra, 1);
    if (got < 0) return zip_failed(b, what, zip_file_get_error(b->open));
    return got ? cst_fail(CST_INPUT, "%s: %s: longer than the archive says", b->path, what) : CST_OK;
}

static cst_status check_byteorder(cst_torch_bin *b)
{
    static const char little[] = "little";
    char text[sizeof little - 1];
    uint64_t member, size;
    CST_TRY(find_member(&member, &size, b, "byteorder"));
    if (size == UINT64_MAX) return CST_OK; /* archives before PyTorch 2.1 lack it; all were little-endian */
    if (size == sizeof text) CST_TRY(read_member(b, member, 0, text, sizeof text, "byteorder"));
    if (size != sizeof text || memcmp(text, little, sizeof text))
        return cst_fail(CST_UNSUPPORTED, "%s: \"byteorder\" is not \"little\"; allowed: little-endian archives", b->path);
    return CST_OK;
}

static cst_status read_pickle(cst_torch_bin *b)
{
    cst_status st;
    uint64_t member, size;
    char where[1024], *data = NULL;
    CST_TRY(find_member(&member, &size, b, PICKLE_NAME));
    if (size == UINT64_MAX)
        return cst_fail(CST_INPUT, "%s: no member \"%.200s" PICKLE_NAME "\": torch.save didn't write it", b->path, b->folder);
    if (size > CST_PICKLE_SIZE_MAX)
        return cst_fail(CST_INPUT, "%s: " PICKLE_NAME " has %" PRIu64 " bytes; allowed: %u", b->path, size, CST_PICKLE_SIZE_MAX);
    if (!(data = malloc((size_t)size + 1))) return cst_fail(CST_NO_MEMORY, "%s", b->path);
    CST_GO(read_member(b, member, 0, data, (size_t)size, PICKLE_NAME), out);
    CST_GO(check_end(b, PICKLE_NAME), out);
    snprintf(where, sizeof where, "%s: " PICKLE_NAME, b->path);
    st = cst_pickle_read(&b->pickle, data, (size_t)size, where);
out:
    free(data);
    return st;
}

/* ---- tensors ---- */

/* Row-major without gaps? A dimension of 1 may have any stride. */
static int is_contiguous(const cst_pickle_tensor *p)
{
    int64_t want = 1;
    for (int i = p->rank - 1; i >= 0; i--) {
        if (p->dims[i] != 1 && p->strides[i] != want) return 0;
        want *= p->dims[i];
    }
    return 1;
}

static cst_status place(cst_torch_tensor *t, const cst_torch_bin *b, const cst_pickle_tensor *p)
{
    static const char allowed[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    char name[80];
    uint64_t size, count = 1, end;
    *t = (cst_torch_tensor){.name = p->name, .dtype = p->dtype, .rank = p->rank};
    t->offset = (uint64_t)p->offset;
    t->storage = (uint64_t)p->storage_count;
    for (int i = 0; i < p->rank; i++) {
        t->dims[i] = p->dims[i];
        if (__builtin_mul_overflow(count, (uint64_t)p->dims[i], &count) || count > (uint64_t)INT64_MAX / 8)
            return cst_fail(CST_INPUT, "%s: tensor \"%.100s\": the shape overflows", b->path, p->name);
    }
    if (strlen(p->storage) > 60 || p->storage[strspn(p->storage, allowed)])
        return cst_fail(CST_INPUT, "%s: tensor \"%.100s\": storage key \"%.100s\"; allowed: up to 60 letters, digits, _", b->path, p->name,
                        p->storage);
    snprintf(name, sizeof name, "data/%s", p->storage);
    CST_TRY(find_member(&t->member, &size, b, name));
    if (size == UINT64_MAX)
        return cst_fail(CST_INPUT, "%s: tensor \"%.100s\": its storage \"%s\" is missing", b->path, p->name, name);
    size_t width = cst_st_dtype_bytes(p->dtype);
    if (size % width || size / width != t->storage)
        return cst_fail(CST_INPUT, "%s: tensor \"%.100s\": its storage \"%s\" has %" PRIu64 " bytes; %" PRIu64 " elements of %s are wanted",
                        b->path, p->name, name, size, t->storage, cst_st_dtype_name(p->dtype));
    if (__builtin_add_overflow(t->offset, count, &end) || end > t->storage)
        return cst_fail(CST_INPUT, "%s: tensor \"%.100s\": %" PRIu64 " elements from %" PRIu64 " on; its storage has %" PRIu64, b->path,
                        p->name, count, t->offset, t->storage);
    if (count && !is_contiguous(p))
        return cst_fail(CST_UNSUPPORTED, "%s: tensor \"%.100s\" is not stored row by row; allowed: contiguous tensors (save them with "
                        ".contiguous())", b->path, p->name);
    t->count = (size_t)count;
    return CST_OK;
}

static cst_status place_all(cst_torch_bin *b)
{
    size_t n = cst_pickle_count(b->pickle);
    b->tensor = calloc(n + 1, sizeof *b->tensor);
    if (!b->tensor) return cst_fail(CST_NO_MEMORY, "%s: %zu tensors", b->path, n);
    for (b->count = 0; b->count < n; b->count++) CST_TRY(place(&b->tensor[b->count], b, cst_pickle_get(b->pickle, b->count)));
    return CST_OK;
}

cst_status cst_torch_bin_open(cst_torch_bin **out, const char *path)
{
    cst_status st;
    uint64_t size = 0;
    cst_torch_bin *b = calloc(1, sizeof *b);
    if (!b || !(b->path = strdup(path))) {
        st = cst_fail(CST_NO_MEMORY, "%s", path);
        goto fail;
    }
    CST_GO(check_magic(b, &size), fail);
    CST_GO(open_zip(b), fail);
    CST_GO(check_members(b, size), fail);
    CST_GO(check_byteorder(b), fail);
    CST_GO(read_pickle(b), fail);
    CST_GO(place_all(b), fail);
    close_member(b);
    *out = b;
    return CST_OK;
fail:
    cst_torch_bin_close(b);
    return st;
}

void cst_torch_bin_close(cst_torch_bin *b)
{
    if (!b) return;
    close_member(b);
    if (b->zip) zip_discard(b->zip);
    cst_pickle_free(b->pickle);
    free(b->tensor);
    free(b->folder);
    free(b->path);
    free(b);
}

size_t cst_torch_bin_count(const cst_torch_bin *b)
{
    return b->count;
}

const cst_torch_tensor *cst_torch_bin_get(const cst_torch_bin *b, size_t i)
{
    return i < b->count ? &b->tensor[i] : NULL;
}

cst_status cst_torch_bin_read(cst_torch_bin *b, const cst_torch_tensor *t, void *dst, size_t first, size_t count)
{
    char what[160];
    size_t width = cst_st_dtype_bytes(t->dtype);
    if (first > t->count || count > t->count - first)
        return cst_fail(CST_USAGE, "tensor \"%s\": elements %zu + %zu of %zu", t->name, first, count, t->count);
    if (!count) return CST_OK;
    snprintf(what, sizeof what, "tensor \"%.120s\"", t->name);
    CST_TRY(read_member(b, t->member, (t->offset + first) * width, dst, count * width, what));
    return first + count == t->count && t->count == t->storage ? check_end(b, what) : CST_OK;
}
