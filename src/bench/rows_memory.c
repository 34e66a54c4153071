/* Rows of what moves memory: the triad and copy, and operators that should be as fast as these. */
#include <math.h>
#include <stdlib.h>

#include "bench/rows.h"
#include "memory/launch.h"
#include "op/fill.h"
#include "op/layer_norm.h"

#define COLS 1024     /* of a row of softmax and layer norm */
#define SUMS 2048     /* groups of the reduction's first pass */
#define TILE 32       /* as in cl/bench_memory.cl */
#define LEAST ((int64_t)SUMS * SUMS)

/* One operator with its data. */
typedef struct trial {
    cst_mem *m;
    int64_t n, rows, cols;   /* n = rows * cols elements of x and of most results */
    int64_t results;         /* elements of y */
    float *x[2], *got;       /* inputs and result on the host */
    cst_tensor *in[2], *y, *more[3];
    double error;
} trial;

/* What a row does. */
typedef struct kind {
    const char *row, *what;
    int inputs;
    int64_t results;         /* elements of y; 0: as many as of x */
    double bytes, limit;     /* of an element of x, moved */
    cst_status (*prepare)(trial *t);                /* NULL: nothing more */
    cst_status (*run)(void *t, int call);
    double (*error)(const trial *t, int64_t row);   /* largest in a row of x */
} kind;

/* Elements of an array that no cache holds, fewer where three don't fit half of the budget. */
static int64_t elements(const cst_mem *m)
{
    cst_mem_stats s;
    int64_t n = cst_mem_device(m)->is_cpu ? (int64_t)1 << 24 : (int64_t)1 << 26;
    cst_mem_get_stats(m, &s);
    while (n > LEAST && 24 * (uint64_t)n > s.budget) n /= 2;
    return n;
}

static cst_status open_trial(trial *t, cst_row_run *r, const kind *k)
{
    *t = (trial){.m = NULL};
    CST_TRY(cst_row_mem(&t->m, r));
    t->n = elements(t->m);
    t->cols = COLS;
    t->rows = t->n / COLS;
    t->results = k->results ? k->results : t->n;
    for (int i = 0; i < k->inputs; i++) {
        CST_TRY(cst_row_numbers(&t->x[i], t->n, (uint64_t)i));
        CST_TRY(cst_row_tensor(&t->in[i], t->m, t->rows, t->cols, "input"));
    }
    CST_TRY(cst_row_tensor(&t->y, t->m, k->results ? 1 : t->rows, k->results ? k->results : t->cols, "result"));
    if (k->prepare) CST_TRY(k->prepare(t));
    for (int i = 0; i < k->inputs; i++) CST_TRY(cst_tensor_write(t->in[i], 0, t->x[i], t->in[i]->bytes));
    return cst_fill(t->m, t->y, NAN); /* what isn't written shows */
}

static cst_status close_trial(trial *t, cst_status st)
{
    for (int i = 0; i < 2; i++) cst_tensor_free(t->in[i]), free(t->x[i]);
    for (int i = 0; i < 3; i++) cst_tensor_free(t->more[i]);
    cst_tensor_free(t->y);
    free(t->got);
    return t->m ? cst_measure_end(t->m, st) : st;
}

typedef struct checked {
    trial t;
    const kind *k;
} checked;

static cst_status run_checked(void *p, int call)
{
    checked *c = p;
    return c->k->run(&c->t, call);
}

static cst_status check(double *error, void *p)
{
    checked *c = p;
    trial *t = &c->t;
    double worst = 0;
    if (!t->got) t->got = malloc((size_t)t->results * sizeof *t->got);
    if (!t->got) return cst_fail(CST_NO_MEMORY, "a result on the host");
    CST_TRY(cst_tensor_read(t->y, 0, t->got, t->y->bytes));
#pragma omp parallel for reduction(max : worst)
    for (int64_t i = 0; i < (c->k->results ? 1 : t->rows); i++) worst = fmax(worst, c->k->error(t, i));
    *error = worst;
    return CST_OK;
}

static cst_status one_row(cst_row_run *r, const kind *k, double *rate)
{
    checked c = {.k = k};
    cst_row_case x = {.row = cst_row_begin(k->row, "GB/s", "%s", k->what), .run = run_checked, .check = check, .what = &c};
    size_t before = r->rows->n;
    CST_TRY(cst_row_tell(r, &x.row));
    cst_status st = open_trial(&c.t, r, k);
    if (st == CST_OK) {
        if (c.t.n >= 1 << 20) cst_row_case_name(&x.row, "%s%lld Mi numbers", *k->what ? ", " : "", (long long)(c.t.n >> 20));
        x.row.limit = k->limit;
        x.row.ceiling = 1e-9 * r->triad;
        x.row.ceiling_of = "triad";
        x.work = 1e-9 * k->bytes * (double)c.t.n;
        st = cst_row_measure(r, c.t.m, &x);
    }
    st = close_trial(&c.t, st);
    if (st != CST_OK) return cst_row_end(r, &x.row, st);
    if (rate && r->rows->n > before && !r->rows->list[before].missing[0]) *rate = 1e9 * r->rows->list[before].value;
    return CST_OK;
}

static cst_status flat(trial *t, const char *kernel, int inputs)
{
    cst_launch l;
    const cst_device *dev = cst_mem_device(t->m);
    size_t group = cst_flat_group(dev, "bench_memory"), items = (size_t)t->n / (size_t)cst_device_shape(dev, "bench_memory").vec;
    cst_launch_begin(&l, t->m, "bench_memory", kernel, NULL);
    cst_launch_write(&l, "y", t->y, 0);
    cst_launch_read(&l, "x", t->in[0], 0);
    if (inputs == 2) {
        cst_launch_read(&l, "z", t->in[1], 0);
        cst_launch_float(&l, "s", 0.75f);
    }
    return cst_launch_run(&l, 1, &items, &group);
}

static cst_status run_copy(void *t, int call)
{
    (void)call;
    return flat(t, "copy", 1);
}

static double copy_error(const trial *t, int64_t row)
{
    double worst = 0;
    for (int64_t i = row * t->cols; i < (row + 1) * t->cols; i++) worst = cst_row_worse(worst, t->got[i], t->x[0][i], 1);
    return worst;
}

static cst_status run_triad(void *t, int call)
{
    (void)call;
    return flat(t, "triad", 2);
}

static double triad_error(const trial *t, int64_t row)
{
    double worst = 0;
    for (int64_t i = row * t->cols; i < (row + 1) * t->cols; i++) {
        double x = t->x[0][i], z = 0.75 * t->x[1][i];
        worst = cst_row_worse(worst, t->got[i], x + z, fabs(x) + fabs(z) + 1e-30);
    }
    return worst;
}

/* Numbers whose sums are exact in any order. */
static cst_status prepare_sum(trial *t)
{
#pragma omp parallel for
    for (int64_t i = 0; i < t->n; i++) t->x[0][i] = rintf(t->x[0][i] * 8) / 8;
    return cst_row_tensor(&t->more[0], t->m, 1, SUMS, "sums of parts");
}

static cst_status sum_pass(trial *t, cst_tensor *y, const cst_tensor *x, int64_t groups, int64_t per)
{
    cst_launch l;
    size_t group = cst_group(t->m, "bench_memory"), items = (size_t)groups * group;
    cst_launch_begin(&l, t->m, "bench_memory", "sum", NULL);
    cst_launch_write(&l, "y", y, 0);
    cst_launch_read(&l, "x", x, 0);
    cst_launch_int(&l, "per", per);
    return cst_launch_run(&l, 1, &items, &group);
}

static cst_status run_sum(void *p, int call)
{
    trial *t = p;
    (void)call;
    CST_TRY(sum_pass(t, t->more[0], t->in[0], SUMS, t->n / SUMS));
    return sum_pass(t, t->y, t->more[0], 1, SUMS);
}

static double sum_error(const trial *t, int64_t row)
{
    double sum = 0;
    for (int64_t i = 0; i < t->n; i++) sum += t->x[0][i];
    return cst_row_worse((double)row, t->got[0], sum, fabs(sum) + 1);
}

/* The matrix is as near to a square as 1024 x 2^k numbers can be, and never one. */
static cst_status prepare_transpose(trial *t)
{
    while (t->rows >= t->cols) t->rows /= 2, t->cols *= 2;
    return CST_OK;
}

static cst_status run_transpose(void *p, int call)
{
    trial *t = p;
    cst_launch l;
    const cst_shape s = cst_device_shape(cst_mem_device(t->m), "bench_memory");
    size_t group[] = {(size_t)s.group, 1};
    size_t items[] = {(size_t)t->cols / TILE * group[0], (size_t)t->rows / TILE};
    if (s.group == 1) items[0] = (size_t)t->cols / (8 * TILE), items[1] = (size_t)t->rows / (size_t)s.vec;
    (void)call;
    cst_launch_begin(&l, t->m, "bench_memory", "transpose", NULL);
    cst_launch_write(&l, "y", t->y, 0);
    cst_launch_read(&l, "x", t->in[0], 0);
    cst_launch_int(&l, "rows", t->rows);
    cst_launch_int(&l, "cols", t->cols);
    return cst_launch_run(&l, 2, items, group);
}

static double transpose_error(const trial *t, int64_t row)
{
    double worst = 0;
    for (int64_t c = 0; c < t->cols; c++) worst = cst_row_worse(worst, t->got[c * t->rows + row], t->x[0][row * t->cols + c], 1);
    return worst;
}

static cst_status prepare_softmax(trial *t)
{
#pragma omp parallel for
    for (int64_t i = 0; i < t->n; i++) t->x[0][i] *= 8;
    return CST_OK;
}

static cst_status run_softmax(void *p, int call)
{
    trial *t = p;
    cst_launch l;
    size_t group = cst_group(t->m, "bench_memory"), items = (size_t)t->rows * group;
    (void)call;
    cst_launch_begin(&l, t->m, "bench_memory", "softmax", NULL);
    cst_launch_write(&l, "y", t->y, 0);
    cst_launch_read(&l, "x", t->in[0], 0);
    return cst_launch_run(&l, 1, &items, &group);
}

static double softmax_error(const trial *t, int64_t row)
{
    const float *x = t->x[0] + row * t->cols, *got = t->got + row * t->cols;
    double sum = 0, worst = 0;
    for (int64_t i = 0; i < t->cols; i++) sum += exp((double)x[i]);
    for (int64_t i = 0; i < t->cols; i++) worst = cst_row_worse(worst, got[i], exp((double)x[i]) / sum, exp((double)x[i]) / sum);
    return worst;
}

static cst_status prepare_layer_norm(trial *t)
{
    float v[2 * COLS];
    for (int i = 0; i < 2 * COLS; i++) v[i] = cst_row_number(7, (uint64_t)i);
    for (int i = 0; i < 2; i++) {
        CST_TRY(cst_tensor_create(&t->more[i], t->m, CST_DATA, CST_F32, 1, (const int64_t[]){COLS}, i ? "beta" : "gamma"));
        CST_TRY(cst_tensor_write(t->more[i], 0, v + i * COLS, COLS * sizeof *v));
    }
    return cst_row_tensor(&t->more[2], t->m, t->rows, 2, "statistics");
}

static cst_status run_layer_norm(void *p, int call)
{
    trial *t = p;
    (void)call;
    return cst_layer_norm_forward(t->m, t->y, t->more[2], t->in[0], t->more[0], t->more[1], 1e-5f);
}

static double layer_norm_error(const trial *t, int64_t row)
{
    const float *x = t->x[0] + row * COLS, *got = t->got + row * COLS;
    double mean = 0, var = 0, worst = 0;
    for (int i = 0; i < COLS; i++) mean += x[i] / (double)COLS;
    for (int i = 0; i < COLS; i++) var += (x[i] - mean) * (x[i] - mean) / COLS;
    for (int i = 0; i < COLS; i++) {
        double want = (x[i] - mean) / sqrt(var + 1e-5) * cst_row_number(7, (uint64_t)i) + cst_row_number(7, (uint64_t)(COLS + i));
        worst = cst_row_worse(worst, got[i], want, 1);
    }
    return worst;
}

/* Limits: 0 where nothing is rounded, else some roundings of 2^-24 each. */
cst_status cst_rows_triad(cst_row_run *r)
{
    static const kind k = {"triad", "a = b + s c", 2, 0, 12, 1.2e-7, NULL, run_triad, triad_error};
    return one_row(r, &k, &r->triad);
}

cst_status cst_rows_copy(cst_row_run *r)
{
    static const kind k = {"copy", "a = b", 1, 0, 8, 0, NULL, run_copy, copy_error};
    return one_row(r, &k, NULL);
}

cst_status cst_rows_reduction(cst_row_run *r)
{
    static const kind k = {"reduction", "sum", 1, 1, 4, 0, prepare_sum, run_sum, sum_error};
    return one_row(r, &k, NULL);
}

cst_status cst_rows_transpose(cst_row_run *r)
{
    static const kind k = {"transpose", "", 1, 0, 8, 0, prepare_transpose, run_transpose, transpose_error};
    return one_row(r, &k, NULL);
}

cst_status cst_rows_softmax(cst_row_run *r)
{
    static const kind k = {"softmax", "rows of 1024", 1, 0, 8, 4e-6, prepare_softmax, run_softmax, softmax_error};
    return one_row(r, &k, NULL);
}

cst_status cst_rows_layer_norm(cst_row_run *r)
{
    static const kind k = {"layer-norm", "rows of 1024", 1, 0, 8, 2e-6, prepare_layer_norm, run_layer_norm, layer_norm_error};
    return one_row(r, &k, NULL);
}
