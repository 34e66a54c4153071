#include "bench/rows.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gemm/choice.h"

#define SLOW 2.0 /* s: a call, its kernels' builds included, that isn't repeated more often than needed */
enum { PEAK, TRIAD };
#define NEEDS(i) (1u << (i))

static const cst_bench_device_name names[] = {
    {"peak", "fp32 multiply-adds a second"},
    {"triad", "a = b + s c, the ceiling of what moves memory"},
    {"copy", "a = b"},
    {"gemm", "matrix products, CLBlast and native: squares and OPT-350M's shapes"},
    {"fft", "clFFT, complex and real, in batches: 2^8 to 2^20 and sizes with 3, 5, 7"},
    {"reduction", "sum of all numbers"},
    {"transpose", "of a matrix"},
    {"softmax", "of rows"},
    {"layer-norm", "forward"},
    {"attention", "causal, forward and backward"},
    {"transfer", "host to device and back: pageable, pinned, both ways at once"},
    {"overlap", "transfers beside a kernel"},
    {"launch", "time of a kernel that does next to nothing"},
    {"build", "a kernel from its source, and from the binary kept"},
    {"allocation", "largest buffer, and what happens near the limit"},
};
#define ROWS ((int)(sizeof names / sizeof *names))

static const struct {
    cst_status (*run)(cst_row_run *r);
    unsigned needs;
} rows[ROWS] = {
    {cst_rows_peak, 0},
    {cst_rows_triad, 0},
    {cst_rows_copy, NEEDS(TRIAD)},
    {cst_rows_gemm, NEEDS(PEAK)},
    {cst_rows_fft, NEEDS(TRIAD)},
    {cst_rows_reduction, NEEDS(TRIAD)},
    {cst_rows_transpose, NEEDS(TRIAD)},
    {cst_rows_softmax, NEEDS(TRIAD)},
    {cst_rows_layer_norm, NEEDS(TRIAD)},
    {cst_rows_attention, NEEDS(PEAK)},
    {cst_rows_transfer, 0},
    {cst_rows_overlap, NEEDS(PEAK)},
    {cst_rows_launch, 0},
    {cst_rows_build, 0},
    {cst_rows_allocation, 0},
};

int cst_bench_device_names(const cst_bench_device_name **list)
{
    *list = names;
    return ROWS;
}

/* chosen[i] for each row that the words name; USAGE for a word that names none. */
static cst_status choose(unsigned char chosen[ROWS], const char *words)
{
    memset(chosen, !words, ROWS);
    for (const char *w = words; w && *w; w += strcspn(w, ","), w += *w == ',') {
        int n = (int)strcspn(w, ","), at = 0;
        while (at < ROWS && (strlen(names[at].name) != (size_t)n || strncmp(names[at].name, w, (size_t)n))) at++;
        if (at == ROWS) {
            char all[512] = "";
            for (int i = 0; i < ROWS; i++) {
                if (i) strcat(all, ", ");
                strcat(all, names[i].name);
            }
            return cst_fail(CST_USAGE, "--rows: there is no row \"%.*s\"; there are %s", n, w, all);
        }
        chosen[at] = 1;
    }
    for (int i = ROWS - 1; i >= 0; i--)
        for (int k = 0; k < i; k++)
            if (chosen[i] && rows[i].needs & NEEDS(k)) chosen[k] = 1;
    return CST_OK;
}

cst_status cst_bench_device_check(const char *words)
{
    unsigned char chosen[ROWS];
    return choose(chosen, words);
}

cst_row cst_row_begin(const char *row, const char *unit, const char *what, ...)
{
    cst_row x = {.row = row, .unit = unit, .error = -1};
    va_list ap;
    va_start(ap, what);
    vsnprintf(x.what, sizeof x.what, what, ap);
    va_end(ap);
    return x;
}

void cst_row_case_name(cst_row *row, const char *more, ...)
{
    size_t n = strlen(row->what);
    va_list ap;
    va_start(ap, more);
    vsnprintf(row->what + n, sizeof row->what - n, more, ap);
    va_end(ap);
}

cst_status cst_row_tell(cst_row_run *r, const cst_row *row)
{
    if (r->o->interrupted && r->o->interrupted(r->o->user)) return cst_fail(CST_INTERRUPTED, "bench device");
    if (r->o->progress) r->o->progress(r->o->user, row->row, row->what);
    return CST_OK;
}

cst_status cst_row_missing(cst_row_run *r, cst_row *row, const char *why, ...)
{
    va_list ap;
    va_start(ap, why);
    vsnprintf(row->missing, sizeof row->missing, why, ap);
    va_end(ap);
    for (char *c = row->missing; *c; c++)
        if ((unsigned char)*c < ' ' || (unsigned char)*c > '~') *c = '?';
    return cst_rows_add(r->rows, row);
}

/* A row may fail for itself; on a device that is gone all the others would, too. */
static int device_gone(const cst_row_run *r)
{
    return clFlush(r->dev->compute) != CL_SUCCESS || clFlush(r->dev->up) != CL_SUCCESS || clFlush(r->dev->down) != CL_SUCCESS;
}

cst_status cst_row_end(cst_row_run *r, cst_row *row, cst_status st)
{
    if (st == CST_OK) return cst_rows_add(r->rows, row);
    if (st == CST_INTERRUPTED || st == CST_STATE || st == CST_USAGE) return st;
    char why[1024];
    snprintf(why, sizeof why, "%s", cst_detail());
    CST_TRY(cst_row_missing(r, row, "%s", why));
    return device_gone(r) ? cst_fail(CST_DEVICE, "\"%s\" is gone: %s", r->dev->info.name, why) : CST_OK;
}

cst_status cst_row_right(int *right, cst_row_run *r, cst_row *row)
{
    *right = row->error <= row->limit; /* not when it is NaN */
    if (*right) return CST_OK;
    size_t n = strlen(r->wrong);
    if (!strstr(r->wrong, row->row)) snprintf(r->wrong + n, sizeof r->wrong - n, "%s%s", n ? ", " : "", row->row);
    return cst_row_missing(r, row, "wrong result: error %.3g, at most %.3g is right", row->error, row->limit);
}

void cst_row_time(cst_row *row, const cst_timing *t, double work)
{
    row->seconds = 1e-3 * t->ms;
    row->spread = cst_timing_spread(t) / 100;
    row->value = work > 0 ? work / row->seconds : !strcmp(row->unit, "us") ? 1e3 * t->ms : t->ms;
}

int cst_row_samples(const cst_row_run *r)
{
    return r->o->quick ? 5 : 9;
}

cst_status cst_row_measure(cst_row_run *r, cst_mem *m, cst_row_case *c)
{
    cst_timing t;
    int right = 1, samples = cst_row_samples(r);
    double start = cst_now();
    CST_TRY(c->run(c->what, 0));
    CST_TRY(cst_mem_finish(m));
    if (cst_now() - start > SLOW) samples = 3;
    if (c->check) CST_TRY(c->check(&c->row.error, c->what));
    CST_TRY(cst_row_right(&right, r, &c->row));
    if (!right) return CST_OK;
    CST_TRY(cst_measure(&t, m, samples, c->run, c->what));
    cst_row_time(&c->row, &t, c->work);
    return cst_rows_add(r->rows, &c->row);
}

cst_status cst_row_mem(cst_mem **m, const cst_row_run *r)
{
    return cst_mem_create(m, r->dev, r->o->device_mem);
}

cst_status cst_row_tensor(cst_tensor **t, cst_mem *m, int64_t n, int64_t cols, const char *name)
{
    return cst_tensor_create(t, m, CST_DATA, CST_F32, 2, (const int64_t[]){n, cols}, "%s", name);
}

float cst_row_number(uint64_t stream, uint64_t i)
{
    uint64_t z = (stream << 40) + (i + 1) * UINT64_C(0x9E3779B97F4A7C15); /* SplitMix64: Steele, Lea, Flood, OOPSLA 2014 */
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (float)((int32_t)((z ^ z >> 31) >> 40) - (1 << 23)) * 0x1p-23f;
}

cst_status cst_row_numbers(float **x, int64_t n, uint64_t stream)
{
    float *p = *x = malloc((size_t)n * sizeof *p);
    if (!p) return cst_fail(CST_NO_MEMORY, "%.1f MiB of numbers", (double)n / 262144);
#pragma omp parallel for
    for (int64_t i = 0; i < n; i++) p[i] = cst_row_number(stream, (uint64_t)i);
    return CST_OK;
}

cst_status cst_bench_device(cst_rows *out, cst_device *dev, const cst_bench_device_options *o)
{
    cst_row_run r = {.rows = out, .dev = dev, .o = o};
    unsigned char chosen[ROWS];
    CST_TRY(choose(chosen, o->rows));
    for (int i = 0; i < ROWS; i++) {
        cst_row row = cst_row_begin(names[i].name, "", "%s", "");
        if (!chosen[i] || !rows[i].run) continue;
        CST_TRY(cst_row_tell(&r, &row));
        CST_TRY(rows[i].run(&r));
    }
    return r.wrong[0] ? cst_fail(CST_DEVICE, "\"%s\" computes wrong results: %s", dev->info.name, r.wrong) : CST_OK;
}
