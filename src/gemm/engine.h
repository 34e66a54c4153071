/* What engines of matrix products look like to cst_gemm. */
#ifndef CST_GEMM_ENGINE_H
#define CST_GEMM_ENGINE_H

#include "gemm/gemm.h"

/* g is checked, its ld's are filled in; use[0..2] are A, B and C, acquired. */
cst_status cst_clblast_gemm(cst_mem *m, const cst_gemm_args *g, const cst_use *use);

#endif
