#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "op/embed.h"

cst_status cst_batch_create(cst_batch **out, cst_mem *m, int64_t rows, int64_t seq)
{
    int64_t n = rows * seq;
    cst_batch *b = calloc(1, sizeof *b);
    cst_status st;
    if (!b || !(b->host = calloc((size_t)(5 * n + 1), sizeof *b->host))) {
        free(b);
        return cst_fail(CST_NO_MEMORY, "batch");
    }
    b->rows = rows;
    b->seq = seq;
    b->unique = n < 64 ? n : 64; /* something to plan with; what is planned doesn't depend on it */
    b->count = rows * (seq - 1);
    CST_GO(cst_tensor_create(&b->ids, m, CST_DATA, CST_I32, 1, &n, "token ids"), fail);
    CST_GO(cst_tensor_create(&b->targets, m, CST_DATA, CST_I32, 1, &n, "targets"), fail);
    CST_GO(cst_tensor_create(&b->index, m, CST_DATA, CST_I32, 1, (int64_t[]){3 * n + 1}, "tokens by id"), fail);
    CST_GO(cst_tensor_place(b->ids), fail);
    CST_GO(cst_tensor_place(b->targets), fail);
    CST_GO(cst_tensor_place(b->index), fail);
    *out = b;
    return CST_OK;
fail:
    cst_batch_free(b);
    return st;
}

void cst_batch_free(cst_batch *b)
{
    if (!b) return;
    for (int i = 0; i < 3; i++) cst_mem_wait(&b->sent[i]);
    cst_tensor_free(b->ids);
    cst_tensor_free(b->targets);
    cst_tensor_free(b->index);
    free(b->host);
    free(b);
}

cst_status cst_batch_set(cst_batch *b, const int32_t *ids, const int32_t *length, int64_t vocab)
{
    int64_t n = b->rows * b->seq;
    int32_t *h_ids = b->host, *h_targets = b->host + n, *h_index = b->host + 2 * n;
    for (int i = 0; i < 3; i++) CST_TRY(cst_mem_wait(&b->sent[i]));
    b->count = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = i / b->seq, t = i % b->seq, len = length ? length[row] : b->seq;
        int real = t < len;
        if (real && (ids[i] < 0 || ids[i] >= vocab))
            return cst_fail(CST_INPUT, "token %" PRId32 " at position %" PRId64 " of row %" PRId64 ": the vocabulary is 0 to %" PRId64, ids[i], t, row, vocab - 1);
        h_ids[i] = real ? ids[i] : 0;
        h_targets[i] = t + 1 < len ? ids[i + 1] : -1;
        b->count += h_targets[i] >= 0;
    }
    b->unique = cst_embed_index(h_index, h_ids, n);
    CST_TRY(cst_tensor_write_async(b->ids, 0, h_ids, (size_t)n * 4, &b->sent[0]));
    CST_TRY(cst_tensor_write_async(b->targets, 0, h_targets, (size_t)n * 4, &b->sent[1]));
    return cst_tensor_write_async(b->index, 0, h_index, (size_t)(3 * n + 1) * 4, &b->sent[2]);
}
