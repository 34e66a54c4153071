#include "op/activation.h"

#include "memory/launch.h"

static cst_status check_kind(const char *op, cst_activation kind)
{
    if (kind == CST_RELU || kind == CST_GELU) return CST_OK;
    return cst_fail(CST_USAGE, "%s: no activation has number %d", op, (int)kind);
}

static const char *options(cst_activation kind)
{
    return kind == CST_RELU ? "-DKIND=relu" : "-DKIND=gelu";
}

cst_status cst_activation_forward(cst_mem *m, cst_activation kind, cst_tensor *y, cst_tensor *u, const cst_tensor *x,
                                  const cst_tensor *bias)
{
    static const char op[] = "activation_forward";
    cst_launch l;
    int64_t n = x->dim[0], d = x->dim[1];
    size_t group = cst_group(m, "activation"), items = (size_t)n * group;
    CST_TRY(check_kind(op, kind));
    CST_TRY(cst_expect(op, x, CST_F32, 2, 0, 0));
    CST_TRY(cst_expect(op, bias, CST_F32, 1, d, 0));
    CST_TRY(cst_expect(op, u, CST_F32, 2, n, d));
    CST_TRY(cst_expect(op, y, CST_F32, 2, n, d));
    if (y == u) return cst_fail(CST_USAGE, "%s: y and u are both %s", op, y->name);
    cst_launch_begin(&l, m, "activation", "activation_forward", options(kind));
    cst_launch_read(&l, "x", x, 0);
    cst_launch_read(&l, "bias", bias, 0);
    cst_launch_write(&l, "y", y, 0);
    cst_launch_write(&l, "u", u, 0);
    cst_launch_ulong(&l, "n", (uint64_t)n);
    cst_launch_int(&l, "d", d);
    cst_launch_int(&l, "has_bias", bias != NULL);
    cst_launch_int(&l, "has_u", u != NULL);
    return cst_launch_run(&l, 1, &items, &group);
}

cst_status cst_activation_backward(cst_mem *m, cst_activation kind, cst_tensor *dx, const cst_tensor *dy,
                                   const cst_tensor *saved)
{
    static const char op[] = "activation_backward";
    cst_launch l;
    int64_t n = dy->dim[0], d = dy->dim[1];
    size_t group = cst_group(m, "activation"), items = (size_t)n * group;
    CST_TRY(check_kind(op, kind));
    CST_TRY(cst_expect(op, dy, CST_F32, 2, 0, 0));
    CST_TRY(cst_expect(op, saved, CST_F32, 2, n, d));
    CST_TRY(cst_expect(op, dx, CST_F32, 2, n, d));
    cst_launch_begin(&l, m, "activation", "activation_backward", options(kind));
    cst_launch_read(&l, "saved", saved, 0);
    cst_launch_read(&l, "dy", dy, 0);
    cst_launch_write(&l, "dx", dx, 0);
    cst_launch_ulong(&l, "n", (uint64_t)n);
    cst_launch_int(&l, "d", d);
    return cst_launch_run(&l, 1, &items, &group);
}
