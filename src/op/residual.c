#include "op/residual.h"

#include "memory/launch.h"

cst_status cst_dropout_check(const char *op, const cst_dropout *drop)
{
    if (drop && !(drop->p >= 0 && drop->p < 1))
        return cst_fail(CST_USAGE, "%s: dropout of %g; it must be at least 0 and below 1", op, (double)drop->p);
    return CST_OK;
}

void cst_dropout_bind(cst_launch *l, const cst_dropout *drop)
{
    static const cst_dropout none;
    if (!drop) drop = &none;
    cst_launch_uint(l, "key0", (uint32_t)drop->seed);
    cst_launch_uint(l, "key1", (uint32_t)(drop->seed >> 32));
    cst_launch_uint(l, "site", drop->site);
    cst_launch_uint(l, "step", drop->step);
    cst_launch_uint(l, "threshold", (uint32_t)((double)drop->p * 0x1p32)); /* p < 1 has 24 bits: it fits */
    cst_launch_float(l, "scale", 1.0f / (1.0f - drop->p));
}

cst_status cst_residual_forward(cst_mem *m, cst_tensor *s, const cst_tensor *x, const cst_tensor *bias,
                                const cst_tensor *r, const cst_dropout *drop)
{
    static const char op[] = "residual_forward";
    cst_launch l;
    int64_t n = x->dim[0], d = x->dim[1];
    size_t group = cst_group(m, "residual"), items = (size_t)n * group;
    CST_TRY(cst_expect(op, x, CST_F32, 2, 0, 0));
    CST_TRY(cst_expect(op, bias, CST_F32, 1, d, 0));
    CST_TRY(cst_expect(op, r, CST_F32, 2, n, d));
    CST_TRY(cst_expect(op, s, CST_F32, 2, n, d));
    CST_TRY(cst_dropout_check(op, drop));
    cst_launch_begin(&l, m, "residual", "residual_forward", NULL);
    cst_launch_read(&l, "x", x, 0);
    cst_launch_read(&l, "bias", bias, 0);
    cst_launch_read(&l, "r", r, 0);
    cst_launch_write(&l, "s", s, 0);
    cst_launch_ulong(&l, "n", (uint64_t)n);
    cst_launch_int(&l, "d", d);
    cst_launch_int(&l, "has_bias", bias != NULL);
    cst_dropout_bind(&l, drop);
    return cst_launch_run(&l, 1, &items, &group);
}

cst_status cst_residual_backward(cst_mem *m, cst_tensor *dx, const cst_tensor *ds, const cst_dropout *drop)
{
    static const char op[] = "residual_backward";
    cst_launch l;
    int64_t n = ds->dim[0], d = ds->dim[1];
    size_t group = cst_group(m, "residual"), items = (size_t)n * group;
    CST_TRY(cst_expect(op, ds, CST_F32, 2, 0, 0));
    CST_TRY(cst_expect(op, dx, CST_F32, 2, n, d));
    CST_TRY(cst_dropout_check(op, drop));
    if (dx == ds && (!drop || drop->p == 0)) return CST_OK;
    cst_launch_begin(&l, m, "residual", "residual_backward", NULL);
    cst_launch_read(&l, "ds", ds, 0);
    cst_launch_write(&l, "dx", dx, 0);
    cst_launch_ulong(&l, "n", (uint64_t)n);
    cst_launch_int(&l, "d", d);
    cst_dropout_bind(&l, drop);
    return cst_launch_run(&l, 1, &items, &group);
}
