/* castor tune: find settings of CLBlast's matrix product that suit this device, then the fastest engine for each product
 * of training; prove all that, keep it. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "cli/cli.h"
#include "bench/measure.h"
#include "cli/tune.h"
#include "device/program.h"
#include "gemm/gemm.h"
#include "gemm/state.h"

#define PRODUCTS 3
#define SAMPLES 64 /* elements of each product that are compared with a double-precision sum */

/* One product of the kind that training needs, with its data on both sides. */
typedef struct product {
    cst_gemm_args g;
    cst_tensor *a, *b, *c;
    float *host_a, *host_b;
    double flops;
} product;

typedef struct tuner {
    const cst_args *args;
    cst_mem *mem;
    cst_device *dev;
    product p[PRODUCTS];
    double start, limit;     /* s */
    int tried, failed, wrong;
    double default_ms, best_ms;
    cst_xgemm best;
    cst_tuning store;        /* what will be kept */
    cst_tune_sum sum;
} tuner;

static cst_status make_tensor(cst_tensor **t, float **host, cst_mem *m, int64_t rows, int64_t cols, uint64_t stream)
{
    CST_TRY(cst_tensor_create(t, m, CST_DATA, CST_F32, 2, (int64_t[]){rows, cols}, "operand %d", (int)stream));
    *host = malloc((*t)->bytes);
    if (!*host) return cst_fail(CST_NO_MEMORY, "operand");
    cst_random_normal(*host, (size_t)(rows * cols), 0, 1, 1, stream);
    return cst_tensor_write(*t, 0, *host, (*t)->bytes);
}

/* y = x W^T, dx = dy W and dW = dy^T x of a feed-forward layer at this many tokens. */
static cst_status make_products(tuner *t, int64_t tokens)
{
    const int64_t shape[PRODUCTS][5] = {{tokens, 4096, 1024, 0, 1}, {tokens, 1024, 4096, 0, 0}, {1024, 4096, tokens, 1, 0}};
    for (int i = 0; i < PRODUCTS; i++) {
        product *p = &t->p[i];
        int64_t m = shape[i][0], n = shape[i][1], k = shape[i][2];
        p->g = (cst_gemm_args){.m = m, .n = n, .k = k, .trans_a = (int)shape[i][3], .trans_b = (int)shape[i][4]};
        CST_TRY(make_tensor(&p->a, &p->host_a, t->mem, p->g.trans_a ? k : m, p->g.trans_a ? m : k, (uint64_t)(3 * i)));
        CST_TRY(make_tensor(&p->b, &p->host_b, t->mem, p->g.trans_b ? n : k, p->g.trans_b ? k : n, (uint64_t)(3 * i + 1)));
        CST_TRY(cst_tensor_create(&p->c, t->mem, CST_DATA, CST_F32, 2, (int64_t[]){m, n}, "product %d", i));
        CST_TRY(cst_tensor_place(p->c));
        p->g.a = p->a;
        p->g.b = p->b;
        p->g.c = p->c;
        p->flops = 2.0 * (double)m * (double)n * (double)k;
    }
    return CST_OK;
}

static void free_products(tuner *t)
{
    for (int i = 0; i < PRODUCTS; i++) {
        product *p = &t->p[i];
        cst_tensor_free(p->a);
        cst_tensor_free(p->b);
        cst_tensor_free(p->c);
        free(p->host_a);
        free(p->host_b);
        memset(p, 0, sizeof *p);
    }
}

static cst_status run_product(void *what, int call)
{
    product *p = what;
    (void)call;
    return cst_gemm(p->a->mem, &p->g);
}

/* Poison C, compute it, and compare elements all over it with sums in double. */
static cst_status verify(tuner *t, product *p)
{
    const cst_gemm_args *g = &p->g;
    float *c = malloc(p->c->bytes);
    cst_status st = CST_OK;
    if (!c) return cst_fail(CST_NO_MEMORY, "product");
    memset(c, 0xff, p->c->bytes); /* NaN */
    CST_GO(cst_tensor_write(p->c, 0, c, p->c->bytes), out);
    CST_GO(cst_gemm(t->mem, g), out);
    CST_GO(cst_tensor_read(p->c, 0, c, p->c->bytes), out);
    for (int s = 0; s < SAMPLES && st == CST_OK; s++) {
        int64_t i = (int64_t)(cst_random_u64(2, 0, (uint64_t)s) % (uint64_t)g->m),
                j = (int64_t)(cst_random_u64(2, 1, (uint64_t)s) % (uint64_t)g->n);
        if (s < 4) i = s & 1 ? g->m - 1 : 0, j = s & 2 ? g->n - 1 : 0;
        double sum = 0, size = 0;
        for (int64_t k = 0; k < g->k; k++) {
            double x = p->host_a[g->trans_a ? k * g->m + i : i * g->k + k], y = p->host_b[g->trans_b ? j * g->k + k : k * g->n + j];
            sum += x * y;
            size += fabs(x * y);
        }
        if (!(fabs(c[i * g->n + j] - sum) <= 1e-5 * size)) st = cst_fail(CST_STATE, "wrong result");
    }
out:
    free(c);
    return st;
}

/* Milliseconds of all products with what CLBlast uses now; verified first. */
static cst_status total_ms(tuner *t, double *ms)
{
    *ms = 0;
    for (int i = 0; i < PRODUCTS; i++) {
        cst_timing timing;
        CST_TRY(verify(t, &t->p[i]));
        CST_TRY(cst_measure(&timing, t->mem, 3, run_product, &t->p[i]));
        *ms += timing.ms;
        if (t->best_ms > 0 && *ms > 1.5 * t->best_ms) break; /* hopeless: the rest needn't be known */
    }
    return CST_OK;
}

static double gflops(const tuner *t, double ms)
{
    double flops = 0;
    for (int i = 0; i < PRODUCTS; i++) flops += t->p[i].flops;
    return flops / (ms * 1e6);
}

static uint64_t next(uint64_t *draw)
{
    return cst_random_u64(77, 5, (*draw)++);
}

static size_t pick(const size_t *list, size_t n, uint64_t *draw)
{
    return list[next(draw) % n];
}
#define PICK(draw, ...) pick((const size_t[]){__VA_ARGS__}, sizeof((size_t[]){__VA_ARGS__}) / sizeof(size_t), draw)

/* A random point of the space that CLBlast's kernel can be built for; near != NULL: two of its values drawn anew. */
static cst_xgemm candidate(const tuner *t, const cst_xgemm *near, uint64_t *draw)
{
    for (;;) {
        cst_xgemm x = {.GEMMK = 0, .KREG = 1, .KWI = 2, .STRM = 0, .STRN = 0, .min_indirect = 128};
        size_t *v[] = {&x.KWG, &x.MDIMA, &x.MDIMC, &x.MWG, &x.NDIMB, &x.NDIMC, &x.NWG, &x.SA, &x.SB, &x.VWM, &x.VWN};
        size_t fresh[] = {PICK(draw, 16, 32), PICK(draw, 8, 16, 32), PICK(draw, 8, 16, 32), PICK(draw, 32, 64, 128), PICK(draw, 8, 16, 32),
                          PICK(draw, 8, 16, 32), PICK(draw, 32, 64, 128), PICK(draw, 0, 1, 1), PICK(draw, 0, 1, 1), PICK(draw, 1, 2, 4, 8),
                          PICK(draw, 1, 2, 4, 8)};
        size_t n = sizeof v / sizeof *v, a = next(draw) % n, b = next(draw) % n;
        if (near) x = *near;
        for (size_t i = 0; i < n; i++)
            if (!near || i == a || i == b) *v[i] = fresh[i];
        size_t sums = (x.MWG / x.MDIMC) * (x.NWG / x.NDIMC), threads = x.MDIMC * x.NDIMC;
        if (sums < 4 || sums > 128 || threads < 32) continue; /* too little work for an item, or more than its registers hold */
        if (cst_xgemm_check(&x, &t->dev->info) == CST_OK) return x;
    }
}

static void progress(const tuner *t)
{
    char line[160], left[32];
    double used = cst_now() - t->start;
    int n = (int)(20 * used / t->limit);
    char bar[21] = "....................";
    if (cst_args_flag(t->args, CST_OPTION_QUIET)) return;
    for (int i = 0; i < n && i < 20; i++) bar[i] = '#';
    snprintf(line, sizeof line, "[%s] %d settings tried, best %.1f GFLOP/s (default %.1f), %s left", bar, t->tried, gflops(t, t->best_ms),
             gflops(t, t->default_ms), cst_duration_text(left, t->limit - used));
    cst_status_line(line);
}

/* What other devices do well with, random settings for a part of the time, then neighbours of the best. */
static void search(tuner *t)
{
    cst_xgemm known[8];
    uint64_t draw = 0;
    int improved = 0, shipped = cst_tuning_shipped(known, 8, &t->dev->info);
    for (double used; (used = cst_now() - t->start) < t->limit && !cst_interrupted();) {
        cst_xgemm x = t->tried < shipped ? known[t->tried] : candidate(t, improved && used > 0.4 * t->limit ? &t->best : NULL, &draw);
        double ms;
        t->tried++;
        cst_status st = cst_xgemm_use(t->dev, &x);
        if (st == CST_OK) st = total_ms(t, &ms);
        if (st == CST_STATE) t->wrong++;
        else if (st != CST_OK) t->failed++;
        else if (ms < 0.98 * t->best_ms) {
            t->best_ms = ms;
            t->best = x;
            improved = 1;
        }
        if (st != CST_OK) cst_log(CST_LOG_DEBUG, "a setting was left out: %s", cst_detail());
        progress(t);
    }
    cst_status_line(NULL);
}

/* Defaults first, at a size that takes them about 50 ms. */
static cst_status measure_defaults(tuner *t)
{
    int64_t tokens = 128;
    CST_TRY(make_products(t, tokens));
    CST_TRY(total_ms(t, &t->default_ms));
    while (tokens < 2048 && t->default_ms * (double)tokens / 128 < 25) tokens *= 2;
    free_products(t);
    CST_TRY(make_products(t, tokens));
    CST_TRY(total_ms(t, &t->default_ms));
    t->best_ms = t->default_ms;
    return CST_OK;
}

/* CLBlast's settings; a device whose own rule is the native engine has its time for that. */
static cst_status tune_clblast(tuner *t, uint64_t budget)
{
    const cst_gemm_choice clblast = {CST_GEMM_CLBLAST, CST_GEMM_COLUMNS, 0, 0};
    cst_status st;
    CST_TRY(cst_gemm_force(t->dev, &clblast));
    CST_TRY(cst_mem_create(&t->mem, t->dev, budget));
    CST_GO(measure_defaults(t), out);
    search(t);
    t->store.gflops_default = gflops(t, t->default_ms);
    t->store.gflops = gflops(t, t->best_ms);
    if (t->best_ms < t->default_ms) {
        t->store.xgemm = t->best;
        t->store.has_xgemm = 1;
        st = cst_xgemm_use(t->dev, &t->best); /* the last one tried may be another */
    }
out:
    free_products(t);
    st = cst_measure_end(t->mem, st);
    t->mem = NULL;
    cst_gemm_force(t->dev, NULL);
    return st;
}

static void product_progress(void *user, int done, int all, const char *what)
{
    const tuner *t = user;
    char line[120], bar[21] = "....................";
    int n = 20 * done / all;
    if (cst_args_flag(t->args, CST_OPTION_QUIET)) return;
    for (int i = 0; i < n; i++) bar[i] = '#';
    snprintf(line, sizeof line, "[%s] engines for %d of %d products: %s", bar, done + 1, all, what);
    cst_status_line(line);
}

static cst_status keep(const tuner *t, const char *path)
{
    if (!t->args->text[CST_OPTION_OUT]) {
        char *dir = cst_cache_dir();
        cst_status st = dir ? cst_make_dirs(dir) : CST_OK;
        free(dir);
        CST_TRY(st);
    }
    return cst_tuning_save(&t->store, path, &t->dev->info);
}

static cst_status finish(const tuner *t)
{
    char *path = t->args->text[CST_OPTION_OUT] ? strdup(t->args->text[CST_OPTION_OUT]) : cst_tuning_path(&t->dev->info);
    const cst_tune_sum *p = &t->sum;
    double rate = p->ms > 0 ? p->flops / (p->ms * 1e6) : 0;
    if (!path) return cst_fail(CST_IO, "no folder for the settings: set CASTOR_CACHE_DIR or HOME, or give --out FILE");
    cst_status st = keep(t, path);
    if (st == CST_OK && cst_args_flag(t->args, CST_OPTION_JSON)) {
        printf(
            "{\"clblast_tried\": %d, \"clblast_failed\": %d, \"clblast_wrong\": %d, \"clblast_gflops_default\": %.2f, \"clblast_gflops\": %.2f, "
            "\"products\": %d, \"variants_tried\": %d, \"variants_failed\": %d, \"native_wins\": %d, \"gflops\": %.2f}\n",
            t->tried, t->failed, t->wrong, t->store.gflops_default, t->store.gflops, p->shapes, p->tried, p->failed, p->native, rate);
    } else if (st == CST_OK) {
        printf("%s\n", t->dev->info.name);
        if (t->tried)
            printf("CLBlast: %.1f GFLOP/s by default, %.1f with the best of %d settings (%d gave wrong results, %d didn't run)\n",
                   t->store.gflops_default, t->store.gflops, t->tried, t->wrong, t->failed);
        if (!p->shapes) printf("CLBlast's defaults stay\n");
        else
            printf(
                "products of training steps: %.1f GFLOP/s with the fastest engine of each; the native engine in %d of %d (%d variants timed, %d failed)\n",
                rate, p->native, p->shapes, p->tried, p->failed);
        printf("kept in %s\n", path);
    }
    free(path);
    return st;
}

cst_status cst_cmd_tune(const cst_args *a)
{
    double seconds = (double)cst_args_int(a, CST_OPTION_SECONDS);
    tuner t = {.args = a, .limit = 0.7 * seconds};
    uint64_t budget = a->text[CST_OPTION_DEVICE_MEM] ? cst_args_size(a, CST_OPTION_DEVICE_MEM) : 0;
    cst_gemm_state *state;
    cst_status st;
    CST_GO(cst_device_open(&t.dev, a->text[CST_OPTION_DEVICE], 0), out);
    CST_GO(cst_gemm_state_get(&state, t.dev), out);
    state->xgemm_used = 1; /* defaults are what is compared with */
    t.start = cst_now();
    if (t.dev->group > 1) CST_GO(tune_clblast(&t, budget), out);
    /* without better settings CLBlast still uses the last ones tried, and there is no way back: its defaults stay unmatched */
    if (t.dev->group == 1 || t.store.has_xgemm)
        CST_GO(cst_tune_products(&t.sum, &t.store, t.dev, budget, t.start + seconds, product_progress, &t), out);
    cst_status_line(NULL);
    CST_GO(finish(&t), out);
    if (cst_interrupted()) st = cst_fail(CST_INTERRUPTED, "interrupted; the best settings so far are kept");
out:
    cst_tuning_clear(&t.store);
    if (t.dev) cst_program_save(t.dev);
    cst_device_close(t.dev);
    return st;
}
