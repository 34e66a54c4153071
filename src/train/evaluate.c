#include <stdlib.h>

#include "op/cross_entropy.h"
#include "op/fill.h"
#include "train/trainer.h"

cst_status cst_evaluate(double *mean_loss, cst_session *s, cst_batches *b)
{
    int64_t rows = s->o.batch, n = rows * s->o.seq, targets = 0;
    uint64_t batches = cst_batches_count(b);
    double sum = 0;
    cst_status st = CST_OK;
    int32_t *ids = calloc((size_t)n, sizeof *ids), *length = calloc((size_t)rows, sizeof *length);
    if (!ids || !length) {
        st = cst_fail(CST_NO_MEMORY, "evaluation");
        goto out;
    }
    for (uint64_t i = 0; i < batches; i++) {
        int got = 0;
        float part = 0;
        cst_batches_get(b, i, ids, &got);
        for (int64_t r = 0; r < rows; r++) length[r] = r < got ? (int32_t)s->o.seq : 0; /* a short batch is padded */
        CST_GO(cst_batch_set_counted(s->batch, ids, length, cst_batches_counts(b), s->o.config.vocab_size), out);
        CST_GO(cst_session_evaluate(s), out);
        CST_GO(cst_fill(s->mem, s->losses, 0), out);
        CST_GO(cst_loss_sum(s->mem, s->losses, 0, s->loss, 1.0f), out);
        CST_GO(cst_tensor_read(s->losses, 0, &part, sizeof part), out);
        sum += part;
        targets += s->batch->count;
    }
    *mean_loss = targets ? sum / (double)targets : 0;
out:
    free(ids);
    free(length);
    return st;
}
