#include "text/mask.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "text/vocabulary.h"

typedef struct masking {
    const cst_tokenizer *t;
    const uint32_t *ids;
    const char *marker;
    char *text;    /* of one document */
    size_t room;
} masking;

/* A model's vocabulary may be larger than the tokenizer's: the ids beyond it have no text. */
static size_t piece_of(const masking *m, const char **piece, size_t i)
{
    return m->ids[i] < cst_tokenizer_size(m->t) ? cst_vocabulary_piece(m->t, piece, m->ids[i]) : 0;
}

/* Does the document end behind token i? */
static int ends_at(const masking *m, size_t i, int by_line)
{
    const char *piece;
    if (!by_line) return m->ids[i] == cst_tokenizer_eos(m->t);
    size_t n = piece_of(m, &piece, i);
    return n && memchr(piece, '\n', n) != NULL;
}

/* The text of ids [from, to) into m->text; *blank: nothing but spaces and </s>. */
static cst_status write_text(masking *m, size_t *length, int *blank, size_t from, size_t to)
{
    size_t n = 0, at = 0;
    const char *piece;
    for (size_t i = from; i < to; i++) n += piece_of(m, &piece, i);
    if (n > m->room) {
        char *p = realloc(m->text, n);
        if (!p) return cst_fail(CST_NO_MEMORY, "a document of %zu bytes", n);
        m->text = p;
        m->room = n;
    }
    *blank = 1;
    for (size_t i = from; i < to; i++) {
        size_t k = piece_of(m, &piece, i);
        if (k) memcpy(m->text + at, piece, k);
        for (size_t c = 0; c < k && *blank; c++)
            if (m->ids[i] != cst_tokenizer_eos(m->t) && !isspace((unsigned char)piece[c])) *blank = 0;
        at += k;
    }
    *length = n;
    return CST_OK;
}

/* Where the last marker ends, 0: there is none. */
static size_t marker_end(const masking *m, size_t length)
{
    size_t n = strlen(m->marker);
    for (size_t at = length; at >= n; at--)
        if (!memcmp(m->text + at - n, m->marker, n)) return at;
    return 0;
}

static cst_status document(masking *m, unsigned char *counts, cst_mask_figures *f, size_t from, size_t to)
{
    size_t length = 0, at = 0;
    int blank = 1;
    const char *piece;
    CST_TRY(write_text(m, &length, &blank, from, to));
    size_t begin = marker_end(m, length);
    f->documents += !blank;
    f->unmarked += !blank && !begin;
    for (size_t i = from; i < to; i++) {
        counts[i] = begin && at >= begin;
        f->tokens += counts[i];
        at += piece_of(m, &piece, i);
    }
    return CST_OK;
}

cst_status cst_mask_before(unsigned char *counts, cst_mask_figures *f, const cst_tokenizer *t, const uint32_t *ids, size_t n,
                           const size_t *end, size_t ends, const char *marker)
{
    masking m = {.t = t, .ids = ids, .marker = marker};
    cst_status st = CST_OK;
    int by_line = 1;
    *f = (cst_mask_figures){0, 0, 0};
    if (!*marker) return cst_fail(CST_USAGE, "the marker is empty");
    for (size_t i = 0; i < n && by_line; i++) by_line = ids[i] != cst_tokenizer_eos(t);
    for (size_t k = 0, from = 0; from < n; k++) {
        size_t to = from;
        if (end) to = k < ends ? end[k] : n;
        else
            while (to < n && !ends_at(&m, to++, by_line)) continue;
        CST_GO(document(&m, counts, f, from, to), out);
        from = to;
    }
out:
    free(m.text);
    return st;
}
