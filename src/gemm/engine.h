/* What engines of matrix products look like to cst_gemm. */
#ifndef CST_GEMM_ENGINE_H
#define CST_GEMM_ENGINE_H

#include "gemm/gemm.h"

/* Is this device's kernel shape the one of the native engine for CPUs? */
int cst_native_cpu_serves(const cst_device *dev);
/* In both, g is checked and its ld's are filled in; A, B and C have storage and stay acquired by the caller. */
cst_status cst_native_cpu_gemm(cst_mem *m, const cst_gemm_args *g);
/* use[0..2] are A, B and C as acquired. */
cst_status cst_clblast_gemm(cst_mem *m, const cst_gemm_args *g, const cst_use *use);

#endif
