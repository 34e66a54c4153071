#include "text/tokenizer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "text/vocabulary.h"

/* Ids of a piece that came before are copied; not so for long ones, and not when there are very many. */
enum { SEEN_LENGTH = 255, SEEN_COUNT = 1 << 20 };

typedef struct span {
    size_t at; /* in the ids */
    size_t count;
} span;

typedef struct encoder {
    const cst_tokenizer *t;
    uint32_t *ids;
    size_t count, room;
    cst_word_map seen;
    span *spans; /* [seen.count] */
    size_t spans_room;
    cst_bpe bpe;
    cst_pieces *pieces;
} encoder;

static cst_status push_bytes(encoder *e, const char *text, size_t n)
{
    if (n > SIZE_MAX / 8 - e->count) return cst_fail(CST_NO_MEMORY, "ids of %zu bytes of text", n);
    CST_TRY(cst_grow(&e->ids, &e->room, e->count + n, sizeof *e->ids));
    for (size_t i = 0; i < n; i++) e->ids[e->count++] = e->t->byte_id[(unsigned char)text[i]];
    return CST_OK;
}

static cst_status push_again(encoder *e, span s)
{
    CST_TRY(cst_grow(&e->ids, &e->room, e->count + s.count, sizeof *e->ids));
    for (size_t i = 0; i < s.count; i++) e->ids[e->count++] = e->ids[s.at + i];
    return CST_OK;
}

static cst_status push_piece(encoder *e, const char *piece, size_t n)
{
    uint32_t index = CST_NO_INDEX, known = e->seen.count;
    if (n <= SEEN_LENGTH) {
        if (known < SEEN_COUNT) CST_TRY(cst_word_map_add(&e->seen, &index, piece, (uint32_t)n));
        else index = cst_word_map_find(&e->seen, piece, (uint32_t)n);
        if (index < known) return push_again(e, e->spans[index]);
    }
    span s = {.at = e->count, .count = n};
    CST_TRY(push_bytes(e, piece, n));
    CST_TRY(cst_bpe_merge(&e->bpe, &e->t->merges, e->ids + s.at, &s.count));
    e->count = s.at + s.count;
    if (index == CST_NO_INDEX) return CST_OK;
    CST_TRY(cst_grow(&e->spans, &e->spans_room, (size_t)index + 1, sizeof *e->spans));
    e->spans[index] = s;
    return CST_OK;
}

/* Text without special tokens. */
static cst_status push_text(encoder *e, const char *text, size_t n)
{
    const char *piece;
    if (!e->t->merges.pair.count) return push_bytes(e, text, n);
    cst_pieces_start(e->pieces, text, n);
    for (;;) {
        CST_TRY(cst_pieces_next(e->pieces, &piece, &n));
        if (!n) return CST_OK;
        CST_TRY(push_piece(e, piece, n));
    }
}

/* The first special token in text[from..n), of several at one place the longest; *at = n if there is none. next[s] is
 * where special token s was seen last, so that each name is looked for once along the text. */
static const cst_special *find_special(const cst_tokenizer *t, const char *text, size_t n, size_t from, size_t *next, size_t *at)
{
    const cst_special *best = NULL;
    size_t longest = 0;
    const char *name;
    *at = n;
    for (size_t s = 0; s < t->specials; s++) {
        size_t length = cst_vocabulary_piece(t, &name, t->special[s].id);
        if (!t->special[s].in_text) continue;
        if (next[s] < from || next[s] == SIZE_MAX) {
            const char *p = memmem(text + from, n - from, name, length);
            next[s] = p ? (size_t)(p - text) : n;
        }
        if (next[s] < *at || (best && next[s] == *at && length > longest)) {
            best = &t->special[s];
            *at = next[s];
            longest = length;
        }
    }
    return best;
}

static cst_status push_all(encoder *e, const char *text, size_t n, unsigned flags)
{
    const char *name;
    size_t from = 0, at;
    if (flags & CST_ENCODE_PLAIN) return push_text(e, text, n);
    size_t *next = malloc((e->t->specials + 1) * sizeof *next);
    if (!next) return cst_fail(CST_NO_MEMORY, "special tokens");
    for (size_t s = 0; s < e->t->specials; s++) next[s] = SIZE_MAX;
    cst_status st;
    for (;;) {
        const cst_special *s = find_special(e->t, text, n, from, next, &at);
        CST_GO(push_text(e, text + from, at - from), out);
        if (!s) break;
        CST_GO(cst_grow(&e->ids, &e->room, e->count + 1, sizeof *e->ids), out);
        e->ids[e->count++] = s->id;
        from = at + cst_vocabulary_piece(e->t, &name, s->id);
    }
out:
    free(next);
    return st;
}

cst_status cst_tokenizer_encode(const cst_tokenizer *t, uint32_t **ids, size_t *count, const char *text, size_t n, unsigned flags)
{
    encoder e = {.t = t};
    cst_status st;
    CST_GO(cst_grow(&e.ids, &e.room, n / 4 + 1, sizeof *e.ids), out);
    CST_GO(cst_pieces_create(&e.pieces, t->split), out);
    if (flags & CST_ENCODE_BOS) e.ids[e.count++] = t->bos;
    CST_GO(push_all(&e, text, n, flags), out);
    *ids = e.ids;
    *count = e.count;
    e.ids = NULL;
out:
    free(e.ids);
    free(e.spans);
    cst_word_map_free(&e.seen);
    cst_bpe_free(&e.bpe);
    cst_pieces_free(e.pieces);
    return st;
}

cst_status cst_tokenizer_decode(const cst_tokenizer *t, char **text, size_t *n, const uint32_t *ids, size_t count,
                                int skip_special)
{
    const char *piece;
    size_t total = 0, k = 0;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] >= t->size)
            return cst_fail(CST_INPUT, "id %" PRIu32 " at place %zu: the tokenizer has %" PRIu32, ids[i], i, t->size);
        total += cst_vocabulary_piece(t, &piece, ids[i]);
    }
    char *p = malloc(total + 1);
    if (!p) return cst_fail(CST_NO_MEMORY, "%zu bytes of text", total);
    for (size_t i = 0; i < count; i++) {
        size_t length = cst_vocabulary_piece(t, &piece, ids[i]);
        if (skip_special && cst_vocabulary_special_of(t, ids[i])) continue;
        memcpy(p + k, piece, length);
        k += length;
    }
    p[k] = 0;
    *text = p;
    *n = k;
    return CST_OK;
}

/* The bytes, and no merges. */
static cst_status open_bytes(cst_tokenizer **out)
{
    cst_tokenizer *t;
    cst_status st;
    CST_TRY(cst_vocabulary_new(&t, CST_SPECIALS + 256, 256 + CST_SPECIALS * 8));
    CST_GO(cst_vocabulary_opt(t), out);
    for (uint32_t b = 0; b < 256; b++) {
        char c = (char)b;
        cst_vocabulary_add(t, CST_SPECIALS + b, &c, 1, 0);
    }
    CST_GO(cst_vocabulary_finish(t, "bytes"), out);
    *out = t;
    t = NULL;
out:
    cst_tokenizer_free(t);
    return st;
}

cst_status cst_tokenizer_open(cst_tokenizer **out, const char *spec)
{
    return strcmp(spec, "bytes") ? cst_vocabulary_read(out, spec) : open_bytes(out);
}

void cst_tokenizer_free(cst_tokenizer *t)
{
    if (!t) return;
    free(t->at);
    free(t->bytes);
    free(t->special);
    cst_merges_free(&t->merges);
    cst_split_free(t->split);
    json_decref(t->settings);
    free(t);
}

uint32_t cst_tokenizer_size(const cst_tokenizer *t)
{
    return t->size;
}

uint32_t cst_tokenizer_merges(const cst_tokenizer *t)
{
    return t->merges.pair.count;
}

uint32_t cst_tokenizer_eos(const cst_tokenizer *t)
{
    return t->eos;
}

uint64_t cst_tokenizer_hash(const cst_tokenizer *t)
{
    return t->hash;
}
