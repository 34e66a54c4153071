#ifndef CST_OP_FILL_H
#define CST_OP_FILL_H

#include "memory/memory.h"

/* t[i] = value for every element; t: f32, any shape, overwritten (an empty tensor gets storage). Writes
 * 4 bytes an element. UNSUPPORTED on other types. */
cst_status cst_fill(cst_mem *m, cst_tensor *t, float value);

#endif
