/* The engine for long inner dimensions on GPUs: see cl/gemm_split.cl. */
#include <stdio.h>

#include "gemm/engine.h"
#include "memory/launch.h"

#define TM 64
#define TN 128
#define KT 16
#define ITEMS 256
#define GROUPS_A_UNIT 2 /* that run side by side; a launch of fewer leaves the device idle */

static int64_t tiles_of(const cst_gemm_args *g) { return up(g->m, TM) * up(g->n, TN); }

int cst_split_fits(const cst_device *dev, const cst_gemm_args *g)
{
    return dev->group > 1 && dev->info.max_group >= ITEMS && dev->info.local_bytes >= 4 * KT * (TM + 4 + TN) && !g->trans_a && !g->trans_b &&
           g->a->type == CST_F32 && g->b->type == CST_F32;
}

int cst_split_pays(const cst_device *dev, const cst_gemm_args *g)
{
    return cst_split_fits(dev, g) && g->m >= TM && g->k > CST_CLBLAST_K && tiles_of(g) * 2 <= (int64_t)dev->info.units * GROUPS_A_UNIT;
}

/* Of k in a piece: at most as much as CLBlast adds up in one chain, and so little that every unit has work; a multiple of KT. */
static int64_t piece_of(const cst_device *dev, const cst_gemm_args *g)
{
    int64_t pieces = up(g->k, CST_CLBLAST_K), fill = (int64_t)dev->info.units * GROUPS_A_UNIT / tiles_of(g);
    if (fill > pieces) pieces = fill;
    if (pieces > g->k / 256) pieces = g->k / 256;
    if (pieces < 1) pieces = 1;
    return up(up(g->k, pieces), KT) * KT;
}

cst_status cst_split_gemm(cst_mem *m, const cst_gemm_args *g)
{
    cst_device *dev = cst_mem_device(m);
    cst_launch l;
    cl_mem parts;
    char options[48];
    int64_t kc = piece_of(dev, g), pieces = up(g->k, kc);
    size_t group = cst_group(m, "gemm_split"), items = (size_t)g->m * group, all = (size_t)(tiles_of(g) * pieces) * ITEMS;
    int aligned = (g->lda | g->ldb | g->a_at | g->b_at) % 4 == 0;
    snprintf(options, sizeof options, "-DALIGNED=%d -DSUB_GROUP=%d", aligned, (int)dev->info.sub_group);
    CST_TRY(cst_mem_scratch(m, 4 * (size_t)(pieces * g->m * g->n), &parts));
    cst_launch_begin(&l, m, "gemm_split", "gemm_split", options);
    cst_launch_read(&l, "a", g->a, g->a_at);
    cst_launch_read(&l, "b", g->b, g->b_at);
    cst_launch_mem(&l, "parts", parts);
    cst_launch_int(&l, "m", g->m);
    cst_launch_int(&l, "n", g->n);
    cst_launch_ulong(&l, "k", (uint64_t)g->k);
    cst_launch_ulong(&l, "lda", (uint64_t)g->lda);
    cst_launch_ulong(&l, "ldb", (uint64_t)g->ldb);
    cst_launch_int(&l, "kc", kc);
    CST_TRY(cst_launch_run(&l, 1, &all, (size_t[]){ITEMS}));
    cst_launch_begin(&l, m, "gemm_split", "gemm_split_sum", options);
    cst_launch_mem(&l, "parts", parts);
    cst_launch_update(&l, "c", g->c, g->c_at);
    cst_launch_ulong(&l, "m", (uint64_t)g->m);
    cst_launch_int(&l, "n", g->n);
    cst_launch_ulong(&l, "ldc", (uint64_t)g->ldc);
    cst_launch_int(&l, "pieces", pieces);
    cst_launch_int(&l, "accumulate", g->accumulate);
    return cst_launch_run(&l, 1, &items, &group);
}
