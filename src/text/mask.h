/* Which tokens count for the loss when only what follows a marker shall be learned, as in instructions with answers.
 *
 * Text is cut into documents. In each, the tokens behind the last occurrence of the marker count; the marker's own tokens,
 * a token that reaches over its end, and everything before it don't. A document without the marker counts for nothing. The
 * </s> that ends a document belongs to it, so that a model learns to stop. The marker is sought in the text that the ids
 * stand for: how it was cut into tokens doesn't matter.
 */
#ifndef CST_TEXT_MASK_H
#define CST_TEXT_MASK_H

#include "text/tokenizer.h"

typedef struct cst_mask_figures {
    uint64_t documents, unmarked; /* with more than spaces in them; of these without marker */
    uint64_t tokens;              /* that count */
} cst_mask_figures;

/* counts[i] = 1 or 0, i in [0, n). Document k is ids [end[k - 1], end[k]), end[ends - 1] = n; end NULL: documents end behind each
 * </s>, or, when there is none in ids, behind each token with a line end in it. marker: one byte or more. */
cst_status cst_mask_before(unsigned char *counts, cst_mask_figures *f, const cst_tokenizer *t, const uint32_t *ids, size_t n,
                           const size_t *end, size_t ends, const char *marker);

#endif
