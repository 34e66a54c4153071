/* UTF-8, character by character (Unicode 16, table 3-7). */
#ifndef CST_TEXT_UTF8_H
#define CST_TEXT_UTF8_H

#include <stddef.h>

/* Bytes of the character at p < end. None there: -k, where k >= 1 bytes are what begins like one, or the one byte that
 * doesn't; *cut (may be NULL) tells that nothing but the end is wrong with them. */
int cst_utf8_character(const char *p, const char *end, int *cut);

/* Text that comes in pieces of any bytes and goes on in whole characters. Start with zeros. */
typedef struct cst_utf8 {
    char kept[4];          /* the beginning of a character */
    int n;
} cst_utf8;

/* out, room for 3 (n + 4) bytes, gets what is complete now; what is no UTF-8 becomes U+FFFD, as in Python's and Hugging
 * Face's decoders, and a character's beginning is kept. Returns the bytes written. piece NULL: nothing more comes. */
size_t cst_utf8_next(cst_utf8 *u, char *out, const char *piece, size_t n);

#endif
