/* WikiText's raw format: one split a file, wiki.{train,valid,test}.raw, plain UTF-8 text in which headings
 * look like " = Title = " and every line, the empty one too, ends in " \n". The text is used as it stands:
 * nothing is stripped, so that token counts agree with the literature.
 */
#ifndef CST_TEXT_WIKITEXT_H
#define CST_TEXT_WIKITEXT_H

#include <stddef.h>

#include "base/status.h"

/* Path of a split ("train", "valid" or "test") in folder dir; malloc'd, the caller frees it.
 * Another name of a split: CST_USAGE. No such file: CST_IO, and the detail says where to get it. */
cst_status cst_text_split_path(char **path, const char *dir, const char *split);

/* Read a text file as it is; *text is malloc'd with a 0 byte after its n bytes, the caller frees it.
 * A file without a byte in it is CST_INPUT. */
cst_status cst_text_load(char **text, size_t *n, const char *path);

/* The text that perplexities in papers are taken of: each line of text[n] is a row of the data set, its newline included, but a
 * line of nothing but spaces is an empty row; the rows are joined by two newlines. *out is malloc'd with a 0 byte after its
 * *count bytes, the caller frees it. */
cst_status cst_text_join_rows(char **out, size_t *count, const char *text, size_t n);

#endif
