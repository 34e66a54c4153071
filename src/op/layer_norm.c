#include "op/layer_norm.h"

#include "memory/launch.h"
#include "op/linear.h"

static cst_status expect_row_params(const char *op, int64_t n, int64_t d, const cst_tensor *stats,
                                    const cst_tensor *gamma, const cst_tensor *beta)
{
    CST_TRY(cst_expect(op, stats, CST_F32, 2, n, 2));
    CST_TRY(cst_expect(op, gamma, CST_F32, 1, d, 0));
    return cst_expect(op, beta, CST_F32, 1, d, 0);
}

cst_status cst_layer_norm_forward(cst_mem *m, cst_tensor *y, cst_tensor *stats, const cst_tensor *x,
                                  const cst_tensor *gamma, const cst_tensor *beta, float eps)
{
    static const char op[] = "layer_norm_forward";
    cst_launch l;
    int64_t n = x->dim[0], d = x->dim[1];
    size_t group = cst_group(m, "layer_norm"), items = (size_t)n * group;
    CST_TRY(cst_expect(op, x, CST_F32, 2, 0, 0));
    CST_TRY(expect_row_params(op, n, d, stats, gamma, beta));
    CST_TRY(cst_expect(op, y, CST_F32, 2, n, d));
    if (y == x) return cst_fail(CST_USAGE, "%s: %s can't be normalised in place", op, x->name);
    cst_launch_begin(&l, m, "layer_norm", "layer_norm_forward", NULL);
    cst_launch_read(&l, "x", x, 0);
    cst_launch_read(&l, "gamma", gamma, 0);
    cst_launch_read(&l, "beta", beta, 0);
    cst_launch_write(&l, "y", y, 0);
    cst_launch_write(&l, "stats", stats, 0);
    cst_launch_ulong(&l, "n", (uint64_t)n);
    cst_launch_int(&l, "d", d);
    cst_launch_float(&l, "eps", eps);
    return cst_launch_run(&l, 1, &items, &group);
}

cst_status cst_layer_norm_residual_forward(cst_mem *m, cst_tensor *y, cst_tensor *stats, cst_tensor *s,
                                           const cst_tensor *x, const cst_tensor *bias, const cst_tensor *r,
                                           const cst_tensor *gamma, const cst_tensor *beta, float eps,
                                           const cst_dropout *drop)
{
    static const char op[] = "layer_norm_residual_forward";
    cst_launch l;
    int64_t n = x->dim[0], d = x->dim[1];
    size_t group = cst_group(m, "layer_norm"), items = (size_t)n * group;
    CST_TRY(cst_expect(op, x, CST_F32, 2, 0, 0));
    CST_TRY(cst_expect(op, bias, CST_F32, 1, d, 0));
    CST_TRY(cst_expect(op, r, CST_F32, 2, n, d));
    CST_TRY(expect_row_params(op, n, d, stats, gamma, beta));
    CST_TRY(cst_expect(op, s, CST_F32, 2, n, d));
    CST_TRY(cst_expect(op, y, CST_F32, 2, n, d));
    CST_TRY(cst_dropout_check(op, drop));
    if (y == x || y == r || y == s) return cst_fail(CST_USAGE, "%s: y can't be %s as well", op, y->name);
    cst_launch_begin(&l, m, "layer_norm", "layer_norm_residual_forward", drop && drop->p > 0 ? "-DDROP=1" : NULL);
    cst_launch_read(&l, "x", x, 0);
    cst_launch_read(&l, "bias", bias, 0);
    cst_launch_read(&l, "r", r, 0);
    cst_launch_read(&l, "gamma", gamma, 0);
    cst_launch_read(&l, "beta", beta, 0);
    cst_launch_write(&l, "s", s, 0);
    cst_launch_write(&l, "y", y, 0);
    cst_launch_write(&l, "stats", stats, 0);
    cst_launch_ulong(&l, "n", (uint64_t)n);
    cst_launch_int(&l, "d", d);
    cst_launch_float(&l, "eps", eps);
    cst_launch_int(&l, "has_bias", bias != NULL);
    cst_dropout_bind(&l, drop);
    return cst_launch_run(&l, 1, &items, &group);
}

/* Rows a group takes one after the other. A GPU wants many groups; on a CPU 32 keep memory busy, and
 * cst_linear_backward_bias adds up so few parts in one launch. */
static int64_t block_rows(const cst_device *dev, int64_t n)
{
    int64_t most = dev->group == 1 ? 32 : 1024, least = dev->group == 1 ? 16 : 4, rows = (n + most - 1) / most;
    return rows < least ? least : rows;
}

static cst_status backward_rows(cst_mem *m, cst_tensor *dx, cst_tensor *dgamma_part, cst_tensor *dbeta_part,
                                int64_t block, const cst_tensor *dy, const cst_tensor *x, const cst_tensor *stats,
                                const cst_tensor *gamma, const cst_tensor *add)
{
    cst_launch l;
    size_t group = cst_group(m, "layer_norm"), items = (size_t)dgamma_part->dim[0] * group;
    cst_launch_begin(&l, m, "layer_norm", "layer_norm_backward", NULL);
    cst_launch_read(&l, "dy", dy, 0);
    cst_launch_read(&l, "x", x, 0);
    cst_launch_read(&l, "stats", stats, 0);
    cst_launch_read(&l, "gamma", gamma, 0);
    cst_launch_read(&l, "add", add, 0);
    cst_launch_write(&l, "dx", dx, 0);
    cst_launch_write(&l, "dgamma_part", dgamma_part, 0);
    cst_launch_write(&l, "dbeta_part", dbeta_part, 0);
    cst_launch_ulong(&l, "n", (uint64_t)x->dim[0]);
    cst_launch_int(&l, "d", x->dim[1]);
    cst_launch_ulong(&l, "block", (uint64_t)block);
    cst_launch_int(&l, "has_add", add != NULL);
    return cst_launch_run(&l, 1, &items, &group);
}

cst_status cst_layer_norm_backward(cst_mem *m, cst_tensor *dx, cst_tensor *dgamma, cst_tensor *dbeta,
                                   const cst_tensor *dy, const cst_tensor *x, const cst_tensor *stats,
                                   const cst_tensor *gamma, const cst_tensor *add, int accumulate)
{
    static const char op[] = "layer_norm_backward";
    int64_t n = x->dim[0], d = x->dim[1], block = block_rows(cst_mem_device(m), n),
        dims[2] = {(n + block - 1) / block, d};
    cst_tensor *dgamma_part = NULL, *dbeta_part = NULL;
    cst_status st;
    CST_TRY(cst_expect(op, x, CST_F32, 2, 0, 0));
    CST_TRY(expect_row_params(op, n, d, stats, gamma, dgamma));
    CST_TRY(cst_expect(op, dbeta, CST_F32, 1, d, 0));
    CST_TRY(cst_expect(op, dy, CST_F32, 2, n, d));
    CST_TRY(cst_expect(op, add, CST_F32, 2, n, d));
    CST_TRY(cst_expect(op, dx, CST_F32, 2, n, d));
    if (dx == x) return cst_fail(CST_USAGE, "%s: dx can't be %s as well", op, x->name);
    CST_GO(cst_tensor_create(&dgamma_part, m, CST_SCRATCH, CST_F32, 2, dims, "dgamma parts"), out);
    CST_GO(cst_tensor_create(&dbeta_part, m, CST_SCRATCH, CST_F32, 2, dims, "dbeta parts"), out);
    CST_GO(backward_rows(m, dx, dgamma_part, dbeta_part, block, dy, x, stats, gamma, add), out);
    if (dgamma) CST_GO(cst_linear_backward_bias(m, dgamma, dgamma_part, accumulate), out); /* the sum of rows that it is */
    if (dbeta) CST_GO(cst_linear_backward_bias(m, dbeta, dbeta_part, accumulate), out);
out:
    cst_tensor_free(dgamma_part);
    cst_tensor_free(dbeta_part);
    return st;
}
