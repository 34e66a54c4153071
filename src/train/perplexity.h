/* Perplexity of a text longer than the model's context.
 *
 * Windows of `length` tokens (L) begin every `stride` tokens (S): window i is [i S, min(i S + L, n)) of n tokens, and the
 * first one that reaches n is the last. A token is predicted in the first window that holds it, from what stands before it in
 * that window; a window's first token has nothing before it. So with S = L every token but the first of each block counts,
 * and the last, shorter block counts like the others; with S < L every token but the text's first, each with at least L - S
 * tokens before it once the text is that long. The loss is the mean over all tokens that count, and
 *     perplexity = exp(loss)
 * (Hugging Face, "Perplexity of fixed-length models"). The published figures of OPT on WikiText-2 are those of S = L = 2048
 * without a last block that isn't whole: `whole` below.
 */
#ifndef CST_TRAIN_PERPLEXITY_H
#define CST_TRAIN_PERPLEXITY_H

#include <stddef.h>

#include "train/session.h"

/* Tokens [begin, end) of the text; those from `first` on are predicted (first > begin; may be end). */
typedef struct cst_window {
    int64_t begin, end, first;
} cst_window;

/* Number of windows of n >= 1 tokens, and window i of them. 1 <= stride <= length. */
int64_t cst_window_count(int64_t n, int64_t length, int64_t stride);
cst_window cst_window_at(int64_t i, int64_t n, int64_t length, int64_t stride);

/* Tokens that were predicted, and the sum of their losses -log p, in double. */
typedef struct cst_loss_total {
    int64_t windows, tokens;
    double sum;
} cst_loss_total;

typedef struct cst_perplexity_options {
    int64_t stride;
    float *losses;         /* [n] gets each token's loss, NaN where it isn't predicted; or NULL */
    /* Called after each batch of windows with what is known so far; both may be NULL. stop: != 0 ends with INTERRUPTED. */
    void (*report)(const cst_loss_total *sofar, int64_t windows, void *user);
    int (*stop)(void *user);
    void *user;
} cst_perplexity_options;

/* Losses of ids[n], session s having L as its seq; s->o.batch windows are computed at once. all: of all windows; whole: of
 * those that are L long. USAGE on a stride outside 1..L, INPUT on fewer than 2 tokens and ids outside the vocabulary,
 * NOT_FINITE when a loss isn't finite. */
cst_status cst_perplexity(cst_loss_total *all, cst_loss_total *whole, cst_session *s, const uint32_t *ids, size_t n,
                          const cst_perplexity_options *o);

/* exp(mean loss); NaN without tokens. */
double cst_perplexity_of(const cst_loss_total *t);

#endif
