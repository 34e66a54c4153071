/* The native engine for devices that run one work-item per group: see cl/gemm_cpu.cl. */
#include <stdio.h>

#include "gemm/engine.h"
#include "memory/launch.h"

#define MR 8
#define NR 32
#define PACKED_BYTES ((int64_t)16 << 20) /* of A at once */
#define K_MOST 8192                      /* columns of A packed at once */

int cst_native_cpu_serves(const cst_device *dev)
{
    return dev->group == 1;
}

/* C[rows m0 .. m0 + m] (+)= op(A) op(B) over k0 .. k0 + k. */
static cst_status block(cst_mem *mem, const cst_gemm_args *g, int64_t m0, int64_t m, int64_t k0, int64_t k)
{
    char options[64];
    cl_mem packed;
    cst_launch l;
    int64_t tiles = (m + MR - 1) / MR;
    size_t kc = 512;
    while (kc > 16 && kc * NR * sizeof(float) > cst_mem_device(mem)->info.local_bytes / 2) kc /= 2;
    CST_TRY(cst_mem_scratch(mem, (size_t)(tiles * MR * k) * sizeof(float), &packed));
    snprintf(options, sizeof options, "-DTA=%d -DTB=%d -DKC=%d", g->trans_a, g->trans_b, (int)kc);
    cst_launch_begin(&l, mem, "gemm_cpu", "gemm_pack", options);
    cst_launch_read(&l, "a", g->a, g->a_at + (g->trans_a ? k0 * g->lda + m0 : m0 * g->lda + k0));
    cst_launch_mem(&l, "packed", packed);
    cst_launch_int(&l, "m", m);
    cst_launch_int(&l, "k", k);
    cst_launch_ulong(&l, "lda", (uint64_t)g->lda);
    CST_TRY(cst_launch_run(&l, 1, (size_t[]){(size_t)tiles}, (size_t[]){1}));
    cst_launch_begin(&l, mem, "gemm_cpu", "gemm_panel", options);
    cst_launch_mem(&l, "packed", packed);
    cst_launch_read(&l, "b", g->b, g->b_at + (g->trans_b ? k0 : k0 * g->ldb));
    cst_launch_update(&l, "c", g->c, g->c_at + m0 * g->ldc);
    cst_launch_int(&l, "m", m);
    cst_launch_int(&l, "n", g->n);
    cst_launch_int(&l, "k", k);
    cst_launch_ulong(&l, "ldb", (uint64_t)g->ldb);
    cst_launch_ulong(&l, "ldc", (uint64_t)g->ldc);
    cst_launch_int(&l, "accumulate", g->accumulate || k0);
    return cst_launch_run(&l, 1, (size_t[]){(size_t)((g->n + NR - 1) / NR)}, (size_t[]){1});
}

cst_status cst_native_cpu_gemm(cst_mem *mem, const cst_gemm_args *g)
{
    int64_t k_most = g->k < K_MOST ? g->k : K_MOST, rows = PACKED_BYTES / ((int64_t)sizeof(float) * k_most) / MR * MR;
    for (int64_t m0 = 0; m0 < g->m; m0 += rows)
        for (int64_t k0 = 0; k0 < g->k; k0 += k_most)
            CST_TRY(block(mem, g, m0, g->m - m0 < rows ? g->m - m0 : rows, k0, g->k - k0 < k_most ? g->k - k0 : k_most));
    return CST_OK;
}
