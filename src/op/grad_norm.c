#include "op/grad_norm.h"

#include <inttypes.h>

#include "memory/launch.h"

#define BLOCK 16384 /* a multiple of any group times any vector, so that only the last block has a tail */
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define OPTIONS "-DBLOCK=" TEXT(BLOCK)

int64_t cst_grad_norm_blocks(int64_t count)
{
    return (count + BLOCK - 1) / BLOCK;
}

cst_status cst_grad_norm_partial(cst_mem *m, cst_tensor *partial, int64_t at, const cst_tensor *grad)
{
    cst_launch l;
    int64_t n = cst_tensor_count(grad), blocks = cst_grad_norm_blocks(n);
    size_t group = cst_group(m, "grad_norm"), items = (size_t)blocks * group;
    CST_TRY(cst_expect("grad_norm", grad, CST_F32, grad->rank, 0, 0));
    CST_TRY(cst_expect("grad_norm", partial, CST_F32, 1, 0, 0));
    if (at < 0 || at > partial->dim[0] || blocks > partial->dim[0] - at)
        return cst_fail(CST_USAGE, "grad_norm: %" PRId64 " partial sums of %s at %" PRId64 " of %s, which has %" PRId64,
                        blocks, grad->name, at, partial->name, partial->dim[0]);
    CST_TRY(cst_tensor_place(partial));
    cst_launch_begin(&l, m, "grad_norm", "grad_norm_partial", OPTIONS);
    cst_launch_update(&l, "partial", partial, at);
    cst_launch_read(&l, "grad", grad, 0);
    cst_launch_ulong(&l, "n", (uint64_t)n);
    return cst_launch_run(&l, 1, &items, &group);
}

cst_status cst_grad_norm_finish(cst_mem *m, cst_tensor *result, int64_t which, const cst_tensor *partial, int64_t at, int64_t count,
                                float clip)
{
    cst_launch l;
    size_t group = cst_group(m, "grad_norm");
    CST_TRY(cst_expect("grad_norm", result, CST_F32, 1, 0, 0));
    CST_TRY(cst_expect("grad_norm", partial, CST_F32, 1, 0, 0));
    if (which < 0 || which >= result->dim[0] / 4 || result->dim[0] % 4)
        return cst_fail(CST_USAGE, "grad_norm: result %" PRId64 " of %s, which has %" PRId64 " values, four a result", which, result->name,
                        result->dim[0]);
    if (at < 0 || count < 1 || count > partial->dim[0] - at)
        return cst_fail(CST_USAGE, "grad_norm: %" PRId64 " partial sums at %" PRId64 " of %s, which has %" PRId64, count, at,
                        partial->name, partial->dim[0]);
    CST_TRY(cst_tensor_place(result));
    cst_launch_begin(&l, m, "grad_norm", "grad_norm_finish", OPTIONS);
    cst_launch_update(&l, "result", result, 4 * which);
    cst_launch_read(&l, "partial", partial, at);
    cst_launch_ulong(&l, "n", (uint64_t)count);
    cst_launch_float(&l, "clip", clip);
    return cst_launch_run(&l, 1, &group, &group);
}
