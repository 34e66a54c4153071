/* Cut a tokenized split into blocks of seq tokens and hand them out in batches.
 *
 * Block k is tokens [k seq, (k + 1) seq) of the whole split; what is left at its end and doesn't fill a
 * block is dropped. Batch i of an epoch holds the blocks at places [i batch, (i + 1) batch) of that epoch's
 * order. The order, and with it every batch, is a pure function of seed and batch index: a run that resumes
 * at step s asks for batch s and needs no other state.
 */
#ifndef CST_TEXT_BATCHES_H
#define CST_TEXT_BATCHES_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct cst_batches cst_batches;

typedef struct cst_batches_config {
    int seq;        /* tokens a block, >= 1 */
    int batch;      /* blocks a batch, >= 1 */
    int shuffle;    /* 0: blocks in the order of the text; else a new order every epoch */
    int keep_last;  /* 0: drop the epoch's last batch if it is short (training); else keep it (evaluation) */
    uint64_t seed;  /* of the shuffle */
    uint32_t vocab; /* ids must be below it; 0: unchecked */
    const unsigned char *counts; /* [n] 0: this token is no target (see mask.h); NULL: all are; borrowed like ids */
} cst_batches_config;

/* ids[n] is borrowed: it must stay unchanged until cst_batches_free.
 * CST_USAGE: seq or batch below 1. CST_INPUT: too few tokens for one batch (one block with keep_last), an
 * id outside the vocabulary, or no token that counts. CST_UNSUPPORTED: more than 2^32 - 1 blocks. */
cst_status cst_batches_create(cst_batches **out, const uint32_t *ids, size_t n, const cst_batches_config *config);
/* NULL is fine. */
void cst_batches_free(cst_batches *b);

/* Blocks an epoch cuts the text into, and batches it hands out, both >= 1. */
uint64_t cst_batches_blocks(const cst_batches *b);
uint64_t cst_batches_count(const cst_batches *b);

/* Copy batch `index` (counted on through the epochs: epoch = index / count) into ids, which has room for
 * batch * seq. *rows is the number of blocks in it: `batch`, or fewer in the last batch of an epoch with
 * keep_last; what lies behind rows * seq in ids is left alone. Keeps the order of the last epoch asked for,
 * so b is not to be used by two threads at once. */
void cst_batches_get(cst_batches *b, uint64_t index, int32_t *ids, int *rows);
/* [batch * seq] which tokens of the batch last got count as targets; NULL: all. Borrowed until the next get. */
const unsigned char *cst_batches_counts(const cst_batches *b);

#endif
