/* A tokenizer's parts while it is built. */
#include "text/vocabulary.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

const char *const cst_special_name[CST_SPECIALS] = {"<s>", "<pad>", "</s>", "<unk>"};

static int stands_for_itself(int byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

void cst_alphabet(uint16_t code[256], int16_t byte[CST_ALPHABET])
{
    int next = 256;
    for (int c = 0; c < CST_ALPHABET; c++) byte[c] = -1;
    for (int b = 0; b < 256; b++) {
        code[b] = (uint16_t)(stands_for_itself(b) ? b : next++);
        byte[code[b]] = (int16_t)b;
    }
}

cst_status cst_vocabulary_new(cst_tokenizer **out, uint32_t size, size_t room)
{
    cst_tokenizer *t = calloc(1, sizeof *t);
    if (t) {
        t->size = size;
        t->at = calloc((size_t)size + 1, sizeof *t->at);
        t->bytes = malloc(room + 1);
        memset(t->byte_id, 0xff, sizeof t->byte_id);
    }
    if (!t || !t->at || !t->bytes) {
        cst_tokenizer_free(t);
        return cst_fail(CST_NO_MEMORY, "tokenizer of %" PRIu32 " pieces", size);
    }
    *out = t;
    return CST_OK;
}

void cst_vocabulary_add(cst_tokenizer *t, uint32_t id, const char *bytes, size_t n, int special)
{
    memmove(t->bytes + t->filled, bytes, n); /* a reader may have put them there */
    t->filled += n;
    t->at[id + 1] = (uint32_t)t->filled;
    if (!special && n == 1) t->byte_id[(unsigned char)bytes[0]] = id;
}

size_t cst_vocabulary_piece(const cst_tokenizer *t, const char **bytes, uint32_t id)
{
    *bytes = t->bytes + t->at[id];
    return t->at[id + 1] - t->at[id];
}

const cst_special *cst_vocabulary_special_of(const cst_tokenizer *t, uint32_t id)
{
    for (size_t s = 0; s < t->specials; s++)
        if (t->special[s].id == id) return &t->special[s];
    return NULL;
}

cst_status cst_vocabulary_special(cst_tokenizer *t, uint32_t id, int in_text)
{
    for (size_t s = 0; s < t->specials; s++)
        if (t->special[s].id == id) {
            t->special[s].in_text |= in_text;
            return CST_OK;
        }
    CST_TRY(cst_grow(&t->special, &t->specials_room, t->specials + 1, sizeof *t->special));
    size_t s = t->specials++;
    for (; s && t->special[s - 1].id > id; s--) t->special[s] = t->special[s - 1];
    t->special[s] = (cst_special){id, in_text};
    return CST_OK;
}

cst_status cst_vocabulary_opt(cst_tokenizer *t)
{
    for (uint32_t s = 0; s < CST_SPECIALS; s++) {
        cst_vocabulary_add(t, s, cst_special_name[s], strlen(cst_special_name[s]), 1);
        CST_TRY(cst_vocabulary_special(t, s, s == CST_TOKEN_EOS || s == CST_TOKEN_PAD));
    }
    t->bos = t->eos = CST_TOKEN_EOS;
    return CST_OK;
}

static uint64_t hash(const cst_tokenizer *t)
{
    const uint32_t ends[] = {t->size, t->bos, t->eos};
    char unicode[64] = {0};
    cst_split_version(unicode);
    uint64_t h = XXH3_64bits_withSeed(unicode, sizeof unicode, 1); /* 1: of the way text is encoded */
    h = XXH3_64bits_withSeed(ends, sizeof ends, h);
    h = XXH3_64bits_withSeed(t->at, ((size_t)t->size + 1) * sizeof *t->at, h);
    h = XXH3_64bits_withSeed(t->bytes, t->filled, h);
    h = XXH3_64bits_withSeed(t->merges.pair.pair, t->merges.pair.count * sizeof *t->merges.pair.pair, h);
    h = XXH3_64bits_withSeed(t->merges.made, t->merges.pair.count * sizeof *t->merges.made, h);
    return XXH3_64bits_withSeed(t->special, t->specials * sizeof *t->special, h);
}

cst_status cst_vocabulary_finish(cst_tokenizer *t, const char *where)
{
    for (int b = 0; b < 256; b++)
        if (t->byte_id[b] == UINT32_MAX) return cst_fail(CST_INPUT, "%s: no piece for byte 0x%02x", where, b);
    CST_TRY(cst_split_create(&t->split));
    t->hash = hash(t);
    return CST_OK;
}
