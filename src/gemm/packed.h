/* Weights kept packed for matrix products.
 *
 * dx = dy W reads W [k,n] in panels of 32 columns. The native engine makes them in each product; a copy that is kept
 * saves that as long as W doesn't change. It pays off when W is used several times between two changes, as with
 * gradient accumulation, and when m is small, as packing costs the same for any m. Results have the same bits.
 */
#ifndef CST_GEMM_PACKED_H
#define CST_GEMM_PACKED_H

#include "memory/memory.h"

/* Keep a packed copy of w (2-D f32, [rows,cols]) from now on. It takes rows * (cols rounded up to 32) floats of device
 * memory at once (class CST_PARAM) and is filled by the first product that uses it after w changed. Products use it where B
 * is the whole of w, not transposed, and the native engine does them. w owns it: it is freed with w. Nothing to do when w
 * has one. USAGE on other shapes, UNSUPPORTED on other types, OVER_BUDGET. */
cst_status cst_gemm_keep_packed(cst_tensor *w);

#endif
