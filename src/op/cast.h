#ifndef CST_OP_CAST_H
#define CST_OP_CAST_H

#include "memory/memory.h"

/* dst[i] = src[i] in dst's type. Each of the two is f32, f16 (IEEE 754 binary16) or bf16, of any shape, with
 * the same number of elements; dst is written. Rounds to nearest, ties to even, exact when dst can hold the
 * value; what is too large becomes infinite, NaN stays NaN. From 16 bits to the other 16 bits the value goes
 * through f32, where it is exact. Moves the bytes of both once. USAGE on different counts, UNSUPPORTED on
 * other types. dst and src are different tensors. */
cst_status cst_cast(cst_mem *m, cst_tensor *dst, const cst_tensor *src);

#endif
