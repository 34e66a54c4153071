#include "op/cross_entropy.h"

#include <inttypes.h>

#include "gemm/gemm.h"
#include "memory/launch.h"

#define CHUNK_BYTES ((int64_t)64 << 20)
#define CHUNK_ROWS 64

int64_t cst_lm_loss_chunk(int64_t n, int64_t vocab)
{
    int64_t most = (n + CHUNK_ROWS - 1) / CHUNK_ROWS * CHUNK_ROWS;
    int64_t rows = CHUNK_BYTES / (4 * vocab) / CHUNK_ROWS * CHUNK_ROWS;
    if (rows < CHUNK_ROWS) rows = CHUNK_ROWS;
    return rows < most ? rows : most;
}

cst_status cst_cross_entropy(cst_mem *m, cst_tensor *x, const cst_tensor *targets, cst_tensor *loss, int64_t row0, int64_t rows, float scale,
                             int grad)
{
    cst_launch l;
    size_t group = cst_group(m, "cross_entropy"), items = (size_t)rows * group;
    CST_TRY(cst_expect("cross_entropy", x, CST_F32, 2, 0, 0));
    if (rows < 0 || rows > x->dim[0]) return cst_fail(CST_USAGE, "cross_entropy: %" PRId64 " rows of %s, which has %" PRId64, rows, x->name, x->dim[0]);
    cst_launch_begin(&l, m, "cross_entropy", "cross_entropy", NULL);
    cst_launch_update(&l, "logits", x, 0);
    cst_launch_read(&l, "targets", targets, row0);
    cst_launch_update(&l, "loss", loss, row0);
    cst_launch_int(&l, "n", rows);
    cst_launch_int(&l, "vocab", x->dim[1]);
    cst_launch_float(&l, "scale", scale);
    cst_launch_int(&l, "grad", grad);
    return cst_launch_run(&l, 1, &items, &group);
}

static cst_status run_chunk(cst_mem *m, const cst_lm_loss_args *a, cst_tensor *x, int64_t row0, int64_t rows)
{
    int64_t vocab = a->table->dim[0], width = a->table->dim[1];
    CST_TRY(cst_gemm(
        m,
        &(cst_gemm_args){
            .m = rows, .n = vocab, .k = width, .trans_b = 1, .a = a->h, .a_at = row0 * width, .b = a->table, .c = x}));
    CST_TRY(cst_cross_entropy(m, x, a->targets, a->loss, row0, rows, a->scale, a->dh || a->dtable));
    if (a->dh)
        CST_TRY(cst_gemm(m, &(cst_gemm_args){.m = rows, .n = width, .k = vocab, .a = x, .b = a->table, .c = a->dh,
                                             .c_at = row0 * width}));
    if (a->dtable)
        CST_TRY(cst_gemm(m, &(cst_gemm_args){.m = vocab, .n = width, .k = rows, .trans_a = 1, .a = x, .b = a->h,
                                             .b_at = row0 * width, .c = a->dtable, .accumulate = a->accumulate || row0}));
    return CST_OK;
}

/* Storage for everything that is written, or for nothing. */
static cst_status place_all(cst_mem *m, const cst_lm_loss_args *a, cst_tensor *x)
{
    cst_use use[4] = {{x, CST_WRITE, NULL, 0}, {a->loss, CST_WRITE, NULL, 0}};
    int n = 2;
    if (a->dh) use[n++] = (cst_use){a->dh, CST_WRITE, NULL, 0};
    if (a->dtable && !a->accumulate) use[n++] = (cst_use){a->dtable, CST_WRITE, NULL, 0};
    CST_TRY(cst_mem_acquire(m, "lm_loss", use, n, NULL, NULL));
    cst_mem_release(m, use, n);
    return CST_OK;
}

cst_status cst_lm_loss(cst_mem *m, const cst_lm_loss_args *a)
{
    CST_TRY(cst_expect("lm_loss", a->h, CST_F32, 2, 0, 0));
    int64_t n = a->h->dim[0], width = a->h->dim[1];
    CST_TRY(cst_expect("lm_loss", a->table, CST_F32, 2, 0, width));
    int64_t vocab = a->table->dim[0], chunk = cst_lm_loss_chunk(n, vocab);
    CST_TRY(cst_expect("lm_loss", a->targets, CST_I32, 1, n, 0));
    CST_TRY(cst_expect("lm_loss", a->loss, CST_F32, 1, n, 0));
    CST_TRY(cst_expect("lm_loss", a->dh, CST_F32, 2, n, width));
    CST_TRY(cst_expect("lm_loss", a->dtable, CST_F32, 2, vocab, width));
    if (chunk > n) chunk = n;
    cst_tensor *x;
    cst_status st;
    CST_TRY(cst_tensor_create(&x, m, CST_SCRATCH, CST_F32, 2, (int64_t[]){chunk, vocab}, "logits"));
    CST_GO(place_all(m, a, x), out);
    for (int64_t row = 0; row < n; row += chunk)
        CST_GO(run_chunk(m, a, x, row, n - row < chunk ? n - row : chunk), out);
out:
    cst_tensor_free(x);
    return st;
}

cst_status cst_logits(cst_mem *m, cst_tensor *logits, const cst_tensor *h, int64_t row0, int64_t rows,
                      const cst_tensor *table)
{
    CST_TRY(cst_expect("logits", h, CST_F32, 2, 0, 0));
    CST_TRY(cst_expect("logits", table, CST_F32, 2, 0, h->dim[1]));
    if (row0 < 0 || rows < 1 || row0 + rows > h->dim[0])
        return cst_fail(CST_USAGE, "logits: rows %" PRId64 " to %" PRId64 " of %s, which has %" PRId64, row0,
                        row0 + rows, h->name, h->dim[0]);
    CST_TRY(cst_expect("logits", logits, CST_F32, 2, rows, table->dim[0]));
    return cst_gemm(m, &(cst_gemm_args){.m = rows, .n = table->dim[0], .k = h->dim[1], .trans_b = 1, .a = h,
                                        .a_at = row0 * h->dim[1], .b = table, .c = logits});
}

cst_status cst_loss_sum(cst_mem *m, cst_tensor *out, int64_t slot, const cst_tensor *loss, float scale)
{
    cst_launch l;
    size_t group = cst_group(m, "cross_entropy");
    CST_TRY(cst_expect("loss_sum", out, CST_F32, 1, 0, 0));
    CST_TRY(cst_expect("loss_sum", loss, CST_F32, 1, 0, 0));
    if (slot < 0 || slot >= out->dim[0])
        return cst_fail(CST_USAGE, "loss_sum: slot %" PRId64 " of %s, which has %" PRId64, slot, out->name,
                        out->dim[0]);
    cst_launch_begin(&l, m, "cross_entropy", "loss_sum", NULL);
    cst_launch_update(&l, "out", out, slot);
    cst_launch_read(&l, "loss", loss, 0);
    cst_launch_ulong(&l, "n", (uint64_t)loss->dim[0]);
    cst_launch_float(&l, "scale", scale);
    return cst_launch_run(&l, 1, &group, &group);
}
