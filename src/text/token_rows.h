/* A file of token ids: a JSON array of arrays. */
#ifndef CST_TEXT_TOKEN_ROWS_H
#define CST_TEXT_TOKEN_ROWS_H

#include <stdint.h>

#include "base/status.h"

typedef struct cst_token_rows {
    int64_t rows, seq;       /* arrays, the longest one's tokens */
    int32_t *ids, *length;   /* [rows * seq], padded with 0; tokens of each row */
} cst_token_rows;

/* Fill *t, which is all 0. INPUT, naming array and place, unless every array has 2 ids or more, each in [0, 2^31); NO_MEMORY when
 * the padded table can't be had. Free with cst_token_rows_free, also after a failure. */
cst_status cst_token_rows_read(cst_token_rows *t, const char *path);
void cst_token_rows_free(cst_token_rows *t);

#endif
