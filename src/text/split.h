/* Cut text into the pieces that byte-level BPE works on, by GPT-2's pattern (Radford et al., 2019): contractions;
 * runs of letters, of numbers, of other characters, each with one space in front if there is one; runs of
 * spaces, the last of which is left to the word behind. Pieces stand one behind the other and leave nothing out.
 *
 * Letters and numbers are Unicode's as of version 16, whatever older version PCRE2 knows; spaces are those with
 * the property White_Space. A run of bytes that isn't UTF-8 is a piece by itself, and what stands before it is
 * cut as if the text ended there.
 */
#ifndef CST_TEXT_SPLIT_H
#define CST_TEXT_SPLIT_H

#include <stddef.h>

#include "base/status.h"

/* The compiled pattern; doesn't change and may be shared by threads. */
typedef struct cst_split cst_split;
/* UNSUPPORTED: PCRE2 was built without Unicode. */
cst_status cst_split_create(cst_split **out);
void cst_split_free(cst_split *s);
/* Version of the Unicode tables in use, which the pieces may depend on. */
void cst_split_version(char version[64]);

/* A walk over the pieces of one text after the other. */
typedef struct cst_pieces cst_pieces;
cst_status cst_pieces_create(cst_pieces **out, const cst_split *s);
void cst_pieces_free(cst_pieces *p);
/* Begin with text[n], borrowed until the walk ends. */
void cst_pieces_start(cst_pieces *p, const char *text, size_t n);
/* The next piece, a part of text; *length = 0 at the end. */
cst_status cst_pieces_next(cst_pieces *p, const char **piece, size_t *length);

#endif
