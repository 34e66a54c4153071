#include "text/token_cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/log.h"

typedef struct header {
    uint64_t mark, text_hash, text_length, tokenizer_hash, count, ids_hash;
} header;

#define MARK UINT64_C(0x314b4f5452545343) /* "CSTRTOK1" on a little-endian machine */

/* What the header of these ids must be. */
static header wanted(const cst_tokenizer *t, const char *text, size_t n)
{
    return (header){.mark = MARK, .text_hash = XXH3_64bits(text, n), .text_length = n, .tokenizer_hash = cst_tokenizer_hash(t)};
}

/* malloc'd; NULL when out of memory. */
static char *file_path(const header *h, const char *dir)
{
    char name[64];
    snprintf(name, sizeof name, "%016" PRIx64 "-%016" PRIx64 ".tokens", h->text_hash, h->tokenizer_hash);
    return cst_path_join(dir, name);
}

/* What is wrong with the file, NULL if nothing is. */
static const char *check(const char *data, size_t size, const header *want, uint32_t vocab)
{
    header h;
    if (size < sizeof h) return "it is cut off";
    memcpy(&h, data, sizeof h);
    if (h.mark != want->mark) return "it is no file of token ids";
    if (h.text_hash != want->text_hash || h.text_length != want->text_length || h.tokenizer_hash != want->tokenizer_hash)
        return "it is of another text or tokenizer";
    if (h.count != (size - sizeof h) / sizeof(uint32_t) || (size - sizeof h) % sizeof(uint32_t)) return "its length is wrong";
    if (h.ids_hash != XXH3_64bits(data + sizeof h, size - sizeof h)) return "its checksum is wrong";
    for (size_t i = sizeof h; i < size; i += sizeof(uint32_t)) {
        uint32_t id;
        memcpy(&id, data + i, sizeof id);
        if (id >= vocab) return "it has ids outside the vocabulary";
    }
    return NULL;
}

/* The ids from the file; 0 if there is none that is good. */
static int read_ids(uint32_t **ids, size_t *count, const char *path, const header *want, uint32_t vocab)
{
    char *data;
    size_t size;
    if (!cst_path_exists(path)) return 0;
    if (cst_file_read(&data, &size, path) != CST_OK) {
        cst_log(CST_LOG_WARN, "token ids kept earlier can't be read: %s", cst_detail());
        return 0;
    }
    const char *wrong = check(data, size, want, vocab);
    if (wrong) {
        cst_log(CST_LOG_WARN, "%s: %s; the text is encoded anew", path, wrong);
        free(data);
        return 0;
    }
    memmove(data, data + sizeof *want, size - sizeof *want);
    *ids = (uint32_t *)(void *)data;
    *count = (size - sizeof *want) / sizeof **ids;
    return 1;
}

static cst_status write_ids(const uint32_t *ids, size_t count, const char *dir, const char *path, header h)
{
    cst_file *f = NULL;
    cst_status st;
    h.count = count;
    h.ids_hash = XXH3_64bits(ids, count * sizeof *ids);
    CST_GO(cst_make_dirs(dir), out);
    CST_GO(cst_file_create(&f, path), out);
    CST_GO(cst_file_put(f, &h, sizeof h), out);
    CST_GO(cst_file_put(f, ids, count * sizeof *ids), out);
    st = cst_file_commit(f);
    f = NULL;
out:
    cst_file_discard(f);
    return st;
}

cst_status cst_token_cache_encode(uint32_t **ids, size_t *count, const cst_tokenizer *t, const char *text, size_t n, const char *dir)
{
    if (!dir) return cst_tokenizer_encode(t, ids, count, text, n, 0);
    header h = wanted(t, text, n);
    char *path = file_path(&h, dir);
    if (!path) return cst_fail(CST_NO_MEMORY, "%s", dir);
    cst_status st = CST_OK;
    if (read_ids(ids, count, path, &h, cst_tokenizer_size(t))) {
        cst_log(CST_LOG_DEBUG, "%zu token ids from %s", *count, path);
        goto out;
    }
    CST_GO(cst_tokenizer_encode(t, ids, count, text, n, 0), out);
    if (write_ids(*ids, *count, dir, path, h) != CST_OK) cst_log(CST_LOG_WARN, "token ids can't be kept: %s", cst_detail());
out:
    free(path);
    return st;
}
