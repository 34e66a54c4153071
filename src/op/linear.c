#include "op/linear.h"

#include "gemm/gemm.h"
#include "memory/launch.h"

/* y (or dy) [N,out], x (or dx) [N,in], w (or dw) [out,in]. */
static cst_status check(const char *op, const cst_tensor *y, const cst_tensor *x, const cst_tensor *w)
{
    CST_TRY(cst_expect(op, w, CST_F32, 2, 0, 0));
    CST_TRY(cst_expect(op, x, CST_F32, 2, 0, w->dim[1]));
    CST_TRY(cst_expect(op, y, CST_F32, 2, x->dim[0], w->dim[0]));
    if (y == x || y == w || x == w) return cst_fail(CST_USAGE, "%s: one tensor is given twice", op);
    return CST_OK;
}

cst_status cst_linear_forward_fused(cst_mem *m, cst_tensor *y, const cst_tensor *x, const cst_tensor *w, const cst_tensor *bias, int relu,
                                    const cst_tensor *residual)
{
    CST_TRY(check("linear_forward", y, x, w));
    CST_TRY(cst_expect("linear_forward", bias, CST_F32, 1, w->dim[0], 0));
    CST_TRY(cst_expect("linear_forward", residual, CST_F32, 2, x->dim[0], w->dim[0]));
    return cst_gemm(m, &(cst_gemm_args){.m = x->dim[0], .n = w->dim[0], .k = w->dim[1], .trans_b = 1, .a = x, .b = w, .c = y, .bias = bias,
                                        .relu = relu != 0, .residual = residual});
}

cst_status cst_linear_forward(cst_mem *m, cst_tensor *y, const cst_tensor *x, const cst_tensor *w, const cst_tensor *bias)
{
    return cst_linear_forward_fused(m, y, x, w, bias, 0, NULL);
}

cst_status cst_linear_backward_input(cst_mem *m, cst_tensor *dx, const cst_tensor *dy, const cst_tensor *w,
                                     int accumulate)
{
    CST_TRY(check("linear_backward_input", dy, dx, w));
    cst_gemm_args g = {.m = dy->dim[0], .n = w->dim[1], .k = w->dim[0], .a = dy, .b = w, .c = dx,
                       .accumulate = accumulate != 0};
    return cst_gemm(m, &g);
}

cst_status cst_linear_backward_weight(cst_mem *m, cst_tensor *dw, const cst_tensor *dy, const cst_tensor *x,
                                      int accumulate)
{
    CST_TRY(check("linear_backward_weight", dy, x, dw));
    cst_gemm_args g = {.m = dw->dim[0], .n = dw->dim[1], .k = x->dim[0], .trans_a = 1, .a = dy, .b = x, .c = dw,
                       .accumulate = accumulate != 0};
    return cst_gemm(m, &g);
}

/* out[b] (+)= the sum of block b's rows of x. */
static cst_status column_sum(cst_mem *m, cst_tensor *out, const cst_tensor *x, int64_t block, int add)
{
    cst_launch l;
    int64_t n = x->dim[0], d = x->dim[1];
    size_t group = cst_group(m, "linear"), blocks = (size_t)((n + block - 1) / block), width;
    if (group > 1) width = group < 32 ? group : 32;
    else width = blocks > 1 ? 4096 : 256; /* long rows that leave room in the first cache; else many strips */
    size_t global[2] = {cst_round_up((size_t)d, width) / width * group, blocks}, local[2] = {group, 1};
    cst_launch_begin(&l, m, "linear", "column_sum", NULL);
    cst_launch_read(&l, "x", x, 0);
    if (add) cst_launch_update(&l, "out", out, 0);
    else cst_launch_write(&l, "out", out, 0);
    cst_launch_ulong(&l, "n", (uint64_t)n);
    cst_launch_int(&l, "d", d);
    cst_launch_ulong(&l, "block", (uint64_t)block);
    cst_launch_int(&l, "width", (int64_t)width);
    cst_launch_int(&l, "add", add);
    return cst_launch_run(&l, 2, global, local);
}

cst_status cst_linear_backward_bias(cst_mem *m, cst_tensor *db, const cst_tensor *dy, int accumulate)
{
    int64_t n = dy->dim[0], d = dy->dim[1], block = (n + 63) / 64 < 32 ? 32 : (n + 63) / 64;
    cst_tensor *parts = NULL;
    cst_status st;
    CST_TRY(cst_expect("linear_backward_bias", dy, CST_F32, 2, 0, 0));
    CST_TRY(cst_expect("linear_backward_bias", db, CST_F32, 1, d, 0));
    if (n <= block) return column_sum(m, db, dy, n, accumulate != 0);
    CST_TRY(cst_tensor_create(&parts, m, CST_SCRATCH, CST_F32, 2, (int64_t[]){(n + block - 1) / block, d},
                              "bias parts"));
    CST_GO(column_sum(m, parts, dy, block, 0), out);
    st = column_sum(m, db, parts, parts->dim[0], accumulate != 0);
out:
    cst_tensor_free(parts);
    return st;
}
