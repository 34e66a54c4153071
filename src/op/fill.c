#include "op/fill.h"

#include "memory/launch.h"

cst_status cst_fill(cst_mem *m, cst_tensor *t, float value)
{
    cst_launch l;
    const cst_device *dev = cst_mem_device(m);
    size_t n = (size_t)cst_tensor_count(t), group = cst_flat_group(dev, "fill"), vec = (size_t)cst_device_shape(dev, "fill").vec;
    size_t items = cst_round_up(cst_round_up(n, vec) / vec, group);
    CST_TRY(cst_expect("fill", t, CST_F32, t->rank, 0, 0));
    cst_launch_begin(&l, m, "fill", "fill", NULL);
    cst_launch_write(&l, "y", t, 0);
    cst_launch_float(&l, "value", value);
    cst_launch_ulong(&l, "n", n);
    return cst_launch_run(&l, 1, &items, &group);
}
