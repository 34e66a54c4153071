#include "op/attention_decode.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "memory/launch.h"

#define MAX_HD 128

cst_status cst_attention_decode(cst_mem *m, cst_tensor *o, const cst_tensor *q, const cst_tensor *k, const cst_tensor *v,
                                int64_t count, int64_t heads)
{
    static const char op[] = "attention_decode";
    cst_launch l;
    char options[32];
    size_t group = cst_group(m, "attention_decode"), items = (size_t)heads * group;
    CST_TRY(cst_expect(op, q, CST_F32, 2, 1, 0));
    int64_t dim = q->dim[1];
    CST_TRY(cst_expect(op, o, CST_F32, 2, 1, dim));
    CST_TRY(cst_expect(op, k, CST_F32, 2, 0, dim));
    CST_TRY(cst_expect(op, v, CST_F32, 2, k->dim[0], dim));
    if (o == q || o == k || o == v) return cst_fail(CST_USAGE, "%s: o can't be %s as well", op, o->name);
    if (heads < 1 || dim % heads)
        return cst_fail(CST_USAGE, "%s: %" PRId64 " heads don't divide the %" PRId64 " columns of %s", op, heads, dim, q->name);
    if (count < 1 || count > k->dim[0] || count > INT32_MAX / 2)
        return cst_fail(CST_USAGE, "%s: %" PRId64 " rows of %s, which has %" PRId64, op, count, k->name, k->dim[0]);
    if (dim / heads > MAX_HD)
        return cst_fail(CST_UNSUPPORTED, "%s: head size %" PRId64 "; up to %d is what this operator takes", op, dim / heads, MAX_HD);
    snprintf(options, sizeof options, "-DHD=%d", (int)(dim / heads));
    cst_launch_begin(&l, m, "attention_decode", "attention_decode", options);
    cst_launch_write(&l, "o", o, 0);
    cst_launch_read(&l, "q", q, 0);
    cst_launch_read(&l, "k", k, 0);
    cst_launch_read(&l, "v", v, 0);
    cst_launch_int(&l, "count", count);
    cst_launch_int(&l, "heads", heads);
    cst_launch_float(&l, "scale", (float)(1 / sqrt((double)(dim / heads))));
    return cst_launch_run(&l, 1, &items, &group);
}

cst_status cst_attention_append(cst_mem *m, cst_tensor *cache, const cst_tensor *x, int64_t at)
{
    static const char op[] = "attention_append";
    cst_launch l;
    const cst_device *dev = cst_mem_device(m);
    size_t n = (size_t)cst_tensor_count(x), group = cst_flat_group(dev, "attention_decode"), vec = (size_t)cst_device_shape(dev, "attention_decode").vec;
    size_t items = cst_round_up(cst_round_up(n, vec) / vec, group);
    CST_TRY(cst_expect(op, x, CST_F32, 2, 0, 0));
    CST_TRY(cst_expect(op, cache, CST_F32, 2, 0, x->dim[1]));
    if (cache == x) return cst_fail(CST_USAGE, "%s: cache can't be %s as well", op, x->name);
    if (at < 0 || at > cache->dim[0] - x->dim[0])
        return cst_fail(CST_USAGE, "%s: %" PRId64 " rows from row %" PRId64 " on of %s, which has %" PRId64, op, x->dim[0], at, cache->name,
                        cache->dim[0]);
    cst_launch_begin(&l, m, "attention_decode", "attention_append", "-DHD=1"); /* which this kernel doesn't use */
    cst_launch_update(&l, "cache", cache, at * x->dim[1]);
    cst_launch_read(&l, "x", x, 0);
    cst_launch_ulong(&l, "n", n);
    return cst_launch_run(&l, 1, &items, &group);
}
