/* The native engine: see cl/gemm_cpu.cl. */
#include <stdio.h>

#include "gemm/engine.h"
#include "memory/launch.h"

#define K_MOST 8192 /* of k packed at once */
/* Processors with narrow vectors were found to lose a fifth to a block that other users of the last cache leave no room for. */
#define BLOCK_NARROW ((int64_t)4 << 20) /* bytes */
#define K_LEAST_NARROW 1024

/* A part of the product: rows m0.., columns n0.. of C, k0.. of k. */
typedef struct part {
    int64_t m0, n0, k0, m, n, k;
} part;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* As the kernels name storage types. */
static int type_code(const cst_tensor *t)
{
    return t->type == CST_F16 ? 1 : t->type == CST_BF16 ? 2 : 0;
}

/* kept: with B's panels packed beforehand. */
static void build_options(char *s, size_t size, const cst_gemm_args *g, const cst_gemm_choice *how, int kept)
{
    int kind = how->kind == CST_GEMM_COLUMNS ? kept : how->kind == CST_GEMM_ROWS ? 2 : 3; /* as cl/gemm_cpu.cl has them */
    int strips = how->kind == CST_GEMM_STRIPS, a = type_code(g->a), b = type_code(g->b);
    snprintf(s, size, "-DTA=%d -DTB=%d -DTILE_TYPE=%d -DPANEL_TYPE=%d -DKC=%d -DCOUNT=%d -DKIND=%d", g->trans_a, g->trans_b,
             strips ? b : a, strips ? a : b, how->kc, how->count, kind);
}

static int64_t a_at(const cst_gemm_args *g, const part *b)
{
    return g->a_at + (g->trans_a ? b->k0 * g->lda + b->m0 : b->m0 * g->lda + b->k0);
}

static int64_t b_at(const cst_gemm_args *g, const part *b)
{
    return g->b_at + (g->trans_b ? b->n0 * g->ldb + b->k0 : b->k0 * g->ldb + b->n0);
}

/* Rows, or columns, that one group packs for all groups: whole tiles, or a panel. */
static int64_t packed_at_once(const cst_mem *mem, const cst_gemm_choice *how)
{
    return how->kind == CST_GEMM_COLUMNS ? PACK_ROWS : cst_panel_width(cst_mem_device(mem));
}

/* What all groups read, into scratch. */
static cst_status pack(cst_mem *mem, const cst_gemm_args *g, const cst_gemm_choice *how, const part *b, const char *options, cl_mem packed)
{
    cst_launch l;
    int64_t rows = how->kind == CST_GEMM_ROWS ? b->n : b->m;
    if (how->kind == CST_GEMM_COLUMNS) {
        cst_launch_begin(&l, mem, "gemm_cpu", "gemm_pack_tiles", options);
        cst_launch_read(&l, "a", g->a, a_at(g, b));
        cst_launch_mem(&l, "packed", packed);
        cst_launch_int(&l, "m", b->m);
        cst_launch_int(&l, "k", b->k);
        cst_launch_ulong(&l, "lda", (uint64_t)g->lda);
    } else {
        int from_a = how->kind == CST_GEMM_STRIPS;
        cst_launch_begin(&l, mem, "gemm_cpu", "gemm_pack_panels", options);
        cst_launch_read(&l, "x", from_a ? g->a : g->b, from_a ? a_at(g, b) : b_at(g, b));
        cst_launch_mem(&l, "packed", packed);
        cst_launch_int(&l, "rows", rows);
        cst_launch_int(&l, "k", b->k);
        cst_launch_ulong(&l, "ld", (uint64_t)(from_a ? g->lda : g->ldb));
        cst_launch_int(&l, "along", from_a ? g->trans_a : !g->trans_b);
    }
    return cst_launch_run(&l, 1, (size_t[]){(size_t)up(rows, packed_at_once(mem, how))}, (size_t[]){1});
}

/* kept: B's panels, or NULL. */
static cst_status multiply(cst_mem *mem, const cst_gemm_args *g, const cst_gemm_choice *how, const part *b, const char *options, cl_mem packed,
                           const cst_packed *kept)
{
    static const char *const name[] = {"gemm_columns", "gemm_rows", "gemm_strips"};
    cst_launch l;
    int rows = how->kind == CST_GEMM_ROWS;
    int64_t width = cst_panel_width(cst_mem_device(mem));
    int64_t groups = how->kind == CST_GEMM_COLUMNS ? up(b->n, width * how->count) : up(rows ? b->m : b->n, MR * how->count);
    cst_launch_begin(&l, mem, "gemm_cpu", kept ? "gemm_packed" : name[how->kind], options);
    if (rows) cst_launch_read(&l, "a", g->a, a_at(g, b));
    cst_launch_mem(&l, "packed", packed);
    if (kept) cst_launch_read(&l, "b", kept->panels, b->n0 * g->k + b->k0 * width);
    else if (!rows) cst_launch_read(&l, "b", g->b, b_at(g, b));
    cst_launch_int(&l, "m", b->m);
    cst_launch_int(&l, "n", b->n);
    cst_launch_int(&l, "k", b->k);
    if (kept) cst_launch_ulong(&l, "step", (uint64_t)(g->k * width));
    else cst_launch_ulong(&l, rows ? "lda" : "ldb", (uint64_t)(rows ? g->lda : g->ldb));
    cst_launch_update(&l, "c", g->c, g->c_at + b->m0 * g->ldc + b->n0);
    cst_launch_ulong(&l, "ldc", (uint64_t)g->ldc);
    cst_launch_int(&l, "accumulate", g->accumulate || b->k0);
    cst_launch_int(&l, "last", b->k0 + b->k == g->k);
    cst_launch_read(&l, "bias", g->bias, g->bias ? b->n0 : 0);
    cst_launch_int(&l, "has_bias", g->bias != NULL);
    cst_launch_int(&l, "relu", g->relu);
    cst_launch_read(&l, "residual", g->residual, g->residual ? g->residual_at + b->m0 * g->ldr + b->n0 : 0);
    cst_launch_int(&l, "has_residual", g->residual != NULL);
    cst_launch_ulong(&l, "ldr", (uint64_t)g->ldr);
    return cst_launch_run(&l, 1, (size_t[]){(size_t)groups}, (size_t[]){1});
}

/* What is packed for all groups shall stay in half of the device's last cache. */
static int64_t packed_bytes(const cst_device *dev)
{
    int64_t half = (int64_t)dev->info.cache_bytes / 2, low = (int64_t)2 << 20, high = dev->narrow ? BLOCK_NARROW : (int64_t)64 << 20;
    return half < low ? low : half > high ? high : half;
}

cst_status cst_native_gemm(cst_mem *mem, const cst_gemm_args *g, const cst_gemm_choice *how)
{
    char options[160];
    cst_packed *kept = cst_packed_for(g);
    const cst_gemm_choice columns = {CST_GEMM_NATIVE, CST_GEMM_COLUMNS, how->kind == CST_GEMM_COLUMNS ? how->count : 2, how->kc};
    if (kept) how = &columns; /* with the same kc, so the same bits */
    int by_rows = how->kind == CST_GEMM_ROWS;
    int64_t width = packed_at_once(mem, how), k_most = K_MOST;
    if (cst_mem_device(mem)->narrow)
        while (k_most > K_LEAST_NARROW && k_most * (by_rows ? g->n : g->m) * (int64_t)sizeof(float) >= BLOCK_NARROW) k_most /= 2;
    int64_t k = least(g->k, how->kc < k_most ? k_most / how->kc * how->kc : how->kc); /* whole kc's: then parts change no bit */
    int64_t most = packed_bytes(cst_mem_device(mem)) / 4 / k / width * width;
    if (most < width) most = width;
    int64_t m = by_rows ? g->m : least(g->m, most), n = by_rows ? least(g->n, most) : g->n;
    build_options(options, sizeof options, g, how, kept != NULL);
    if (kept) CST_TRY(cst_packed_refresh(mem, kept, g, options));
    for (int64_t m0 = 0; m0 < g->m; m0 += m)
        for (int64_t n0 = 0; n0 < g->n; n0 += n)
            for (int64_t k0 = 0; k0 < g->k; k0 += k) {
                part b = {m0, n0, k0, least(g->m - m0, m), least(g->n - n0, n), least(g->k - k0, k)};
                cl_mem packed;
                CST_TRY(cst_mem_scratch(mem, (size_t)(up(by_rows ? b.n : b.m, width) * width * b.k) * sizeof(float), &packed));
                CST_TRY(pack(mem, g, how, &b, options, packed));
                CST_TRY(multiply(mem, g, how, &b, options, packed, kept));
            }
    return CST_OK;
}
