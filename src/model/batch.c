#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "op/embed.h"

static cst_status make_set(cst_tensor *set[3], cst_mem *m, int64_t n)
{
    static const char *const name[] = {"token ids", "targets", "tokens by id"};
    for (int i = 0; i < 3; i++) {
        CST_TRY(cst_tensor_create(&set[i], m, CST_DATA, CST_I32, 1, (int64_t[]){i < 2 ? n : 3 * n + 1}, "%s", name[i]));
        cst_tensor_fix(set[i]);
        CST_TRY(cst_tensor_place(set[i]));
    }
    return CST_OK;
}

static void use_set(cst_batch *b)
{
    cst_tensor **set = b->set[b->turn % 2];
    b->ids = set[0];
    b->targets = set[1];
    b->index = set[2];
}

cst_status cst_batch_create(cst_batch **out, cst_mem *m, int64_t rows, int64_t seq, int ahead)
{
    int64_t n = rows * seq;
    cst_batch *b = calloc(1, sizeof *b);
    cst_status st;
    if (!b || !(b->sent = calloc((size_t)ahead, sizeof *b->sent))) {
        free(b);
        return cst_fail(CST_NO_MEMORY, "batch");
    }
    b->mem = m;
    b->rows = rows;
    b->seq = seq;
    b->ahead = ahead;
    b->unique = n < 64 ? n : 64; /* something to plan with; what is planned doesn't depend on it */
    b->count = rows * (seq - 1);
    CST_GO(cst_host_alloc((void **)&b->host, m, (size_t)(5 * n + 1) * sizeof *b->host * (size_t)ahead), fail);
    CST_GO(make_set(b->set[0], m, n), fail);
    CST_GO(make_set(b->set[1], m, n), fail);
    use_set(b);
    *out = b;
    return CST_OK;
fail:
    cst_batch_free(b);
    return st;
}

void cst_batch_free(cst_batch *b)
{
    if (!b) return;
    for (int i = 0; i < b->ahead; i++)
        for (int k = 0; k < 3; k++) cst_mem_wait(&b->sent[i][k]);
    for (int i = 0; i < 2; i++) {
        cst_mem_wait(&b->read[i]);
        for (int k = 0; k < 3; k++) cst_tensor_free(b->set[i][k]);
    }
    cst_host_free(b->mem, b->host);
    free(b->sent);
    free(b);
}

/* Ids, targets and index of the batch, in host memory. */
static cst_status prepare(cst_batch *b, int32_t *host, const int32_t *ids, const int32_t *length, const unsigned char *counts, int64_t vocab)
{
    int64_t n = b->rows * b->seq;
    int32_t *h_ids = host, *h_targets = host + n;
    b->count = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = i / b->seq, t = i % b->seq, len = length ? length[row] : b->seq;
        int real = t < len;
        if (real && (ids[i] < 0 || ids[i] >= vocab))
            return cst_fail(CST_INPUT, "token %" PRId32 " at position %" PRId64 " of row %" PRId64 ": the vocabulary is 0 to %" PRId64, ids[i],
                            t, row, vocab - 1);
        h_ids[i] = real ? ids[i] : 0;
        h_targets[i] = t + 1 < len && (!counts || counts[i + 1]) ? ids[i + 1] : -1;
        b->count += h_targets[i] >= 0;
    }
    b->unique = cst_embed_index(host + 2 * n, h_ids, n);
    return CST_OK;
}

cst_status cst_batch_set(cst_batch *b, const int32_t *ids, const int32_t *length, int64_t vocab)
{
    return cst_batch_set_counted(b, ids, length, NULL, vocab);
}

/* Two sets of tensors take turns, so that a batch goes up while the one before it is computed with: the upload waits
 * only for the kernels that read the same set before. */
cst_status cst_batch_set_counted(cst_batch *b, const int32_t *ids, const int32_t *length, const unsigned char *counts, int64_t vocab)
{
    int64_t n = b->rows * b->seq;
    int slot = (int)(b->turn % b->ahead), next = (int)((b->turn + 1) % 2);
    int32_t *host = b->host + slot * (5 * n + 1), *part[] = {host, host + n, host + 2 * n};
    cl_event *sent = b->sent[slot];
    for (int i = 0; i < 3; i++) CST_TRY(cst_mem_wait(&sent[i]));
    CST_TRY(prepare(b, host, ids, length, counts, vocab));
    CST_TRY(cst_mem_mark(b->mem, &b->read[b->turn % 2])); /* who reads the current set is enqueued by now */
    if (!b->read[next]) CST_TRY(cst_mem_mark(b->mem, &b->read[next]));
    b->turn++;
    use_set(b);
    for (int i = 0; i < 3; i++)
        CST_TRY(cst_tensor_write_behind(b->set[next][i], 0, part[i], b->set[next][i]->bytes, b->read[next], &sent[i]));
    return CST_OK;
}
