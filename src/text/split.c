#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/split.h"

#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>

#include "text/utf8.h"

/* Letters and numbers of Unicode 15 and 16, which PCRE2 10.42 and older don't know yet. */
#define NEW_LETTERS                                                                                                        \
    "\\x{1c89}\\x{1c8a}\\x{a7cb}-\\x{a7cd}\\x{a7da}-\\x{a7dc}\\x{105c0}-\\x{105f3}\\x{10d4a}-\\x{10d65}"                   \
    "\\x{10d6f}-\\x{10d85}\\x{10ec2}-\\x{10ec4}\\x{1123f}\\x{11240}\\x{11380}-\\x{11389}\\x{1138b}\\x{1138e}"              \
    "\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}\\x{113d3}\\x{11bc0}-\\x{11be0}\\x{11f02}\\x{11f04}-\\x{11f10}"              \
    "\\x{11f12}-\\x{11f33}\\x{1342f}\\x{13441}-\\x{13446}\\x{13460}-\\x{143fa}\\x{16100}-\\x{1611d}\\x{16d40}-\\x{16d6c}"  \
    "\\x{18cff}\\x{1b132}\\x{1b155}\\x{1df25}-\\x{1df2a}\\x{1e030}-\\x{1e06d}\\x{1e4d0}-\\x{1e4eb}\\x{1e5d0}-\\x{1e5ed}"   \
    "\\x{1e5f0}\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"
#define NEW_NUMBERS                                                                                                        \
    "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11f50}-\\x{11f59}\\x{16130}-\\x{16139}"            \
    "\\x{16d70}-\\x{16d79}\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}\\x{1e4f0}-\\x{1e4f9}\\x{1e5f1}-\\x{1e5fa}"
/* White_Space; PCRE2's \s has U+180E besides. */
#define SPACE                                                                                                              \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define LETTER "\\p{L}" NEW_LETTERS
#define NUMBER "\\p{N}" NEW_NUMBERS

static const char pattern[] = "'(?:s|t|re|ve|m|ll|d)| ?[" LETTER "]+| ?[" NUMBER "]+| ?[^" SPACE LETTER NUMBER "]+|"
                              "[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+";

struct cst_split {
    pcre2_code *code;
    pcre2_match_context *limits;
};

struct cst_pieces {
    const cst_split *split;
    pcre2_match_data *match;
    const char *text;      /* what is left begins here */
    const char *valid_end; /* UTF-8 from text to here */
    const char *end;
};

cst_status cst_split_create(cst_split **out)
{
    int error;
    PCRE2_SIZE place;
    PCRE2_UCHAR words[128];
    cst_split *s = calloc(1, sizeof *s);
    if (!s || !(s->limits = pcre2_match_context_create(NULL))) {
        cst_split_free(s);
        return cst_fail(CST_NO_MEMORY, "pattern");
    }
    pcre2_set_match_limit(s->limits, UINT32_MAX);
    s->code = pcre2_compile((PCRE2_SPTR)pattern, sizeof pattern - 1, PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &place, NULL);
    if (!s->code) {
        pcre2_get_error_message(error, words, sizeof words);
        cst_split_free(s);
        return cst_fail(CST_UNSUPPORTED, "PCRE2 can't compile the tokenizer's pattern: %s", (const char *)words);
    }
    (void)pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE); /* where there is none, matching is slower */
    *out = s;
    return CST_OK;
}

void cst_split_free(cst_split *s)
{
    if (!s) return;
    pcre2_code_free(s->code);
    pcre2_match_context_free(s->limits);
    free(s);
}

void cst_split_version(char version[64])
{
    version[0] = 0;
    if (pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, NULL) <= 64) pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
}

cst_status cst_pieces_create(cst_pieces **out, const cst_split *s)
{
    cst_pieces *p = calloc(1, sizeof *p);
    if (!p || !(p->match = pcre2_match_data_create(1, NULL))) {
        free(p);
        return cst_fail(CST_NO_MEMORY, "match data");
    }
    p->split = s;
    *out = p;
    return CST_OK;
}

void cst_pieces_free(cst_pieces *p)
{
    if (!p) return;
    pcre2_match_data_free(p->match);
    free(p);
}

/* Where the run of characters, or with want = 0 the run of other bytes, ends. */
static const char *run_end(const char *text, const char *stop, int want)
{
    const char *p = text;
    while (p < stop) {
        int n = cst_utf8_character(p, stop, NULL);
        if ((n > 0) != want) break;
        p += n > 0 ? n : 1;
    }
    return p;
}

void cst_pieces_start(cst_pieces *p, const char *text, size_t n)
{
    p->text = text;
    p->end = text + n;
    p->valid_end = run_end(text, p->end, 1);
}

cst_status cst_pieces_next(cst_pieces *p, const char **piece, size_t *length)
{
    *piece = p->text;
    if (p->text == p->end) {
        *length = 0;
        return CST_OK;
    }
    if (p->text == p->valid_end) { /* bytes that are no UTF-8 */
        p->text = run_end(p->text, p->end, 0);
        p->valid_end = run_end(p->text, p->end, 1);
    } else {
        int r = pcre2_match(p->split->code, (PCRE2_SPTR)p->text, (PCRE2_SIZE)(p->valid_end - p->text), 0, PCRE2_NO_UTF_CHECK, p->match,
                            p->split->limits);
        if (r < 0) {
            PCRE2_UCHAR words[128];
            pcre2_get_error_message(r, words, sizeof words);
            return cst_fail(r == PCRE2_ERROR_NOMEMORY ? CST_NO_MEMORY : CST_STATE, "matching the tokenizer's pattern: %s",
                            (const char *)words);
        }
        p->text += pcre2_get_ovector_pointer(p->match)[1];
    }
    *length = (size_t)(p->text - *piece);
    return CST_OK;
}
