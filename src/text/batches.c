#include "text/batches.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

struct cst_batches {
    const uint32_t *ids; /* [blocks seq], borrowed */
    cst_batches_config config;
    uint64_t blocks, count;
    uint32_t *order; /* [blocks], a permutation, NULL without shuffle */
    uint64_t epoch;  /* the one that order is of */
    unsigned char *counts; /* [batch seq] of the batch last got, NULL when all count */
};

/* Always from the identity, so that an epoch's order doesn't depend on the epochs asked for before it. */
static void shuffle(cst_batches *b, uint64_t epoch)
{
    for (uint64_t i = 0; i < b->blocks; i++) b->order[i] = (uint32_t)i;
    cst_random_shuffle(b->order, b->blocks, b->config.seed, epoch);
    b->epoch = epoch;
}

static cst_status check_ids(const uint32_t *ids, size_t n, uint32_t vocab)
{
    /* Batches are int32, so there is a limit even when the caller names none. */
    uint32_t limit = vocab && vocab < UINT32_C(1) << 31 ? vocab : UINT32_C(1) << 31;
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= limit)
            return cst_fail(CST_INPUT, "token %zu has id %" PRIu32 ", outside the vocabulary of %" PRIu32, i, ids[i],
                            limit);
    return CST_OK;
}

/* A block's first token has none before it to be told from. */
static cst_status check_counts(const cst_batches_config *c, size_t n)
{
    size_t seq = (size_t)c->seq;
    if (!c->counts) return CST_OK;
    for (size_t i = 0; i < n / seq * seq; i++)
        if (c->counts[i] && i % seq) return CST_OK;
    return cst_fail(CST_INPUT, "no token of the text counts for the loss");
}

cst_status cst_batches_create(cst_batches **out, const uint32_t *ids, size_t n, const cst_batches_config *config)
{
    if (config->seq < 1) return cst_fail(CST_USAGE, "sequence length %d, must be at least 1", config->seq);
    if (config->batch < 1) return cst_fail(CST_USAGE, "batch size %d, must be at least 1", config->batch);
    uint64_t seq = (uint64_t)config->seq, batch = (uint64_t)config->batch;
    uint64_t blocks = n / seq, least = config->keep_last ? 1 : batch;
    if (blocks < least)
        return cst_fail(CST_INPUT, "the text has %zu tokens, %" PRIu64 " are needed (%" PRIu64 " x %d)", n, least * seq,
                        least, config->seq);
    if (blocks > UINT32_MAX) return cst_fail(CST_UNSUPPORTED, "%" PRIu64 " blocks of text", blocks);
    CST_TRY(check_ids(ids, n, config->vocab));
    CST_TRY(check_counts(config, n));

    cst_batches *b = calloc(1, sizeof *b);
    if (!b) return cst_fail(CST_NO_MEMORY, "batches");
    *b = (cst_batches){.ids = ids, .config = *config, .blocks = blocks};
    b->count = config->keep_last ? (blocks + batch - 1) / batch : blocks / batch;
    if (config->shuffle) {
        b->order = malloc(blocks * sizeof *b->order);
        if (!b->order) {
            cst_batches_free(b);
            return cst_fail(CST_NO_MEMORY, "order of %" PRIu64 " blocks", blocks);
        }
        shuffle(b, 0);
    }
    if (config->counts && !(b->counts = calloc(batch, seq))) {
        cst_batches_free(b);
        return cst_fail(CST_NO_MEMORY, "batches");
    }
    *out = b;
    return CST_OK;
}

void cst_batches_free(cst_batches *b)
{
    if (!b) return;
    free(b->order);
    free(b->counts);
    free(b);
}

const unsigned char *cst_batches_counts(const cst_batches *b)
{
    return b->counts;
}

uint64_t cst_batches_blocks(const cst_batches *b)
{
    return b->blocks;
}

uint64_t cst_batches_count(const cst_batches *b)
{
    return b->count;
}

void cst_batches_get(cst_batches *b, uint64_t index, int32_t *ids, int *rows)
{
    uint64_t epoch = index / b->count, first = index % b->count * (uint64_t)b->config.batch;
    uint64_t left = b->blocks - first;
    int take = left < (uint64_t)b->config.batch ? (int)left : b->config.batch;
    size_t seq = (size_t)b->config.seq;
    if (b->order && epoch != b->epoch) shuffle(b, epoch);
    for (int r = 0; r < take; r++) {
        uint64_t block = b->order ? b->order[first + (uint64_t)r] : first + (uint64_t)r;
        const uint32_t *from = b->ids + block * seq;
        for (size_t i = 0; i < seq; i++) ids[(size_t)r * seq + i] = (int32_t)from[i];
        if (b->counts) memcpy(b->counts + (size_t)r * seq, b->config.counts + block * seq, seq);
    }
    *rows = take;
}
