/* What engines of matrix products look like to cst_gemm; for this room. */
#ifndef CST_GEMM_ENGINE_H
#define CST_GEMM_ENGINE_H

#include "gemm/choice.h"
#include "gemm/gemm.h"

/* Rows and columns of the native engine's tiles, and rows that one group packs into tiles, as in cl/gemm_cpu.cl. */
#define MR 8
#define PACK_ROWS 32
/* a / b, rounded up. */
static inline int64_t up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}
static inline int cst_panel_width(const cst_device *dev)
{
    return dev->narrow ? 24 : 32;
}

/* In all of these g is checked and its ld's are filled in, batch is 1; A, B, C and residual have storage and stay acquired
 * by the caller. */

/* The engine for devices that run one work-item per group (cl/gemm_cpu.cl). */
cst_status cst_native_gemm(cst_mem *m, const cst_gemm_args *g, const cst_gemm_choice *how);
/* What cst_gemm_keep_packed (packed.h) keeps. */
typedef struct cst_packed {
    cst_tensor *panels;   /* p[cols / panel width][rows][panel width] */
    uint64_t version;     /* of the tensor when it was packed */
    int filled;
} cst_packed;
/* B's packed copy when this product can take it, else NULL: B is the whole of a tensor, as it is stored. */
cst_packed *cst_packed_for(const cst_gemm_args *g);
/* Pack B again if it has changed. `options`: build options of cl/gemm_cpu.cl for this product. */
cst_status cst_packed_refresh(cst_mem *m, cst_packed *p, const cst_gemm_args *g, const char *options);
/* CLBlast adds up one long chain per element of C, whose rounding errors grow with its length (five times those
 * of PyTorch's product at k = 50,272): longer ones are cut into pieces that are added to C. */
#define CST_CLBLAST_K 4096
/* Pieces of k side by side (cl/gemm_split.cl), added up in order: for C = A B on GPUs, where tiles of C alone are too few for the
 * device. fits: can it; pays: is that so. Without epilogue. */
int cst_split_fits(const cst_device *dev, const cst_gemm_args *g);
int cst_split_pays(const cst_device *dev, const cst_gemm_args *g);
cst_status cst_split_gemm(cst_mem *m, const cst_gemm_args *g);
/* use[0..2] are A, B and C as acquired. f32 only. */
cst_status cst_clblast_gemm(cst_mem *m, const cst_gemm_args *g, const cst_use *use);
/* What an engine without epilogues leaves to do (cl/gemm_epilogue.cl). */
cst_status cst_gemm_epilogue(cst_mem *m, const cst_gemm_args *g);

/* The product with this engine and variant. */
cst_status cst_gemm_run(cst_mem *m, const cst_gemm_args *g, const cst_gemm_choice *how);

/* Run `how` once on small awkward data and compare it with a host product, unless there is a verdict already. Uses a manager
 * of its own for that (24 MiB at most). STATE: the result is wrong, or was so before (then *before is 1). */
cst_status cst_gemm_prove(int *before, cst_device *dev, const cst_gemm_args *g, const cst_gemm_choice *how);

#endif
