#include "op/cast.h"

#include <inttypes.h>
#include <stdio.h>

#include "memory/launch.h"

cst_status cst_cast(cst_mem *m, cst_tensor *dst, const cst_tensor *src)
{
    cst_launch l;
    char options[32];
    const cst_device *dev = cst_mem_device(m);
    size_t n = (size_t)cst_tensor_count(src), vec = (size_t)cst_device_shape(dev, "cast").vec;
    /* one size for all tensors (quirk kernel-per-group-size) */
    size_t group = cst_flat_group(dev, "cast");
    size_t items = cst_round_up(cst_round_up(n, vec) / vec, group);
    /* cl/cast.cl counts f32, f16, bf16 from 0, as cst_type does */
    if (src->type > CST_BF16 || dst->type > CST_BF16)
        return cst_fail(CST_UNSUPPORTED, "cast: %s is %s, %s is %s; f32, f16 and bf16 are what can be converted",
                        src->name, cst_type_name(src->type), dst->name, cst_type_name(dst->type));
    if ((size_t)cst_tensor_count(dst) != n)
        return cst_fail(CST_USAGE, "cast: %s has %zu elements, %s has %" PRId64, src->name, n, dst->name,
                        cst_tensor_count(dst));
    snprintf(options, sizeof options, "-DFROM=%d -DTO=%d", (int)src->type, (int)dst->type);
    cst_launch_begin(&l, m, "cast", "cast", options);
    cst_launch_write(&l, "y", dst, 0);
    cst_launch_read(&l, "x", src, 0);
    cst_launch_ulong(&l, "n", n);
    return cst_launch_run(&l, 1, &items, &group);
}
