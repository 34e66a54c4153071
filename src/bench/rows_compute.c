/* Rows of what computes: multiply-adds in registers, matrix products, attention. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/gemm_shapes.h"
#include "bench/rows.h"
#include "device/device.h"
#include "memory/launch.h"
#include "op/attention.h"
#include "op/fill.h"

#define TURNS 64      /* of 16 steps each, see cl/bench_peak.cl */
#define STEPS (16 * TURNS)
#define A (1 - 0x1p-10)
#define B 0x1p-11

/* --- multiply-adds ------------------------------------------------------------------------------------------ */

cst_status cst_peak_open(cst_peak *p, cst_row_run *r, const cst_peak_shape *s)
{
    float lane[16];
    *p = (cst_peak){.width = s->width, .chains = s->chains};
    CST_TRY(cst_row_mem(&p->m, r));
    p->items = (int64_t)(r->dev->info.units ? r->dev->info.units : 1) * (cst_device_shape(r->dev, "bench_peak").group == 1 ? 256 : 2048);
    p->flops = 2.0 * (double)p->items * s->width * s->chains * STEPS;
    snprintf(p->options, sizeof p->options, "-DWIDTH=%d -DCHAINS=%d -DFUSED=%d", s->width, s->chains, s->fused);
    for (int j = 0; j < 16; j++) lane[j] = (float)j / 16;
    CST_TRY(cst_row_tensor(&p->lane, p->m, 1, 16, "lanes"));
    CST_TRY(cst_tensor_write(p->lane, 0, lane, sizeof lane));
    CST_TRY(cst_row_tensor(&p->y, p->m, p->items, s->width, "result"));
    return cst_fill(p->m, p->y, NAN);
}

cst_status cst_peak_close(cst_peak *p, cst_status st)
{
    cst_tensor_free(p->lane);
    cst_tensor_free(p->y);
    return p->m ? cst_measure_end(p->m, st) : st;
}

cst_status cst_peak_run(void *what, int call)
{
    cst_peak *p = what;
    cst_launch l;
    size_t items = (size_t)p->items, group = cst_group(p->m, "bench_peak");
    (void)call;
    cst_launch_begin(&l, p->m, "bench_peak", "peak", p->options);
    cst_launch_write(&l, "y", p->y, 0);
    cst_launch_read(&l, "lane", p->lane, 0);
    cst_launch_float(&l, "a1", (float)A);
    cst_launch_float(&l, "b1", (float)B);
    cst_launch_int(&l, "turns", TURNS);
    return cst_launch_run(&l, 1, &items, &group);
}

/* A chain is linear in its start: after n steps a^n v + b (1 - a^n) / (1 - a). */
cst_status cst_peak_check(double *error, void *what)
{
    cst_peak *p = what;
    double worst = 0, power = pow(A, STEPS), rest = B * (1 - power) / (1 - A);
    float *y = malloc(p->y->bytes);
    if (!y) return cst_fail(CST_NO_MEMORY, "a result on the host");
    cst_status st = cst_tensor_read(p->y, 0, y, p->y->bytes);
    for (int64_t i = 0; i < p->items && st == CST_OK; i++)
        for (int j = 0; j < p->width; j++) {
            double sum = 0;
            for (int c = 0; c < p->chains; c++) sum += power * (j / 16.0 + (double)((i & 1023) * p->chains + c) * 0x1p-14) + rest;
            worst = cst_row_worse(worst, y[i * p->width + j], sum, fabs(sum));
        }
    free(y);
    *error = worst;
    return st;
}

/* fp32 multiply-adds a compute unit starts each clock, where the vendor's queries tell; else 0. */
static double lanes_of_unit(const cst_device *dev)
{
    cl_uint major = 0, minor = 0, simds = 0, width = 0, instruction = 0;
    cl_device_id id = dev->info.id;
    if (!(dev->info.type & CL_DEVICE_TYPE_GPU)) return 0;
    if (clGetDeviceInfo(id, 0x4000 /* CL_DEVICE_COMPUTE_CAPABILITY_MAJOR_NV */, sizeof major, &major, NULL) == CL_SUCCESS &&
        clGetDeviceInfo(id, 0x4001 /* ..._MINOR_NV */, sizeof minor, &minor, NULL) == CL_SUCCESS && major >= 5)
        return major == 5 || (major == 6 && minor) || major >= 9 || (major == 8 && minor) ? 128 : 64;
    if (clGetDeviceInfo(id, 0x4040 /* CL_DEVICE_SIMD_PER_COMPUTE_UNIT_AMD */, sizeof simds, &simds, NULL) == CL_SUCCESS &&
        clGetDeviceInfo(id, 0x4041 /* CL_DEVICE_SIMD_WIDTH_AMD */, sizeof width, &width, NULL) == CL_SUCCESS &&
        clGetDeviceInfo(id, 0x4042 /* CL_DEVICE_SIMD_INSTRUCTION_WIDTH_AMD */, sizeof instruction, &instruction, NULL) == CL_SUCCESS)
        return (double)simds * width * instruction;
    return 0;
}

static const cst_peak_shape cpu_shapes[] = {{16, 8, 1}, {8, 12, 1}, {16, 8, 0}}, gpu_shapes[] = {{4, 4, 1}, {1, 8, 1}, {4, 4, 0}};

const cst_peak_shape *cst_peak_shapes(const cst_device *dev)
{
    return cst_device_shape(dev, "bench_peak").group == 1 ? cpu_shapes : gpu_shapes;
}

cst_status cst_rows_peak(cst_row_run *r)
{
    cst_rows all = {NULL, 0, 0}, *rows = r->rows;
    size_t best = 0;
    double most = 0; /* the value of one that is missing, too */
    cst_status st = CST_OK;
    r->rows = &all; /* the fastest shape is what counts */
    for (int i = 0; i < 3 && st == CST_OK; i++) {
        cst_peak p;
        const cst_peak_shape *s = &cst_peak_shapes(r->dev)[i];
        cst_row_case c = {.row = cst_row_begin("peak", "GFLOP/s", "%d chains of %d float%s", s->chains, s->width,
                                               s->fused ? "" : ", * and + apart"),
                          .run = cst_peak_run, .check = cst_peak_check, .what = &p};
        c.row.limit = CST_PEAK_LIMIT;
        c.row.ceiling = 2e-3 * r->dev->info.units * r->dev->info.clock_mhz * lanes_of_unit(r->dev);
        c.row.ceiling_of = "stated units x clock x lanes";
        CST_GO(cst_row_tell(r, &c.row), out);
        st = cst_peak_open(&p, r, s);
        c.work = 1e-9 * p.flops;
        if (st == CST_OK) st = cst_row_measure(r, p.m, &c);
        st = cst_peak_close(&p, st);
        if (st != CST_OK) st = cst_row_end(r, &c.row, st);
        if (all.n && all.list[all.n - 1].value > most) most = all.list[all.n - 1].value, best = all.n - 1, r->peak_shape = i;
    }
out:
    r->rows = rows;
    for (size_t i = 0; i < all.n && st == CST_OK; i++) /* a shape that is wrong stands beside the best */
        if (i == best || all.list[i].missing[0]) st = cst_rows_add(rows, &all.list[i]);
    if (all.n && !all.list[best].missing[0]) r->peak = 1e9 * all.list[best].value;
    cst_rows_free(&all);
    return st;
}

static void below_peak(const cst_row_run *r, cst_row *row)
{
    row->ceiling = 1e-9 * r->peak;
    row->ceiling_of = "multiply-add peak, measured";
}

/* --- matrix products ---------------------------------------------------------------------------------------- */

static cst_status one_product(cst_row_run *r, const cst_gemm_shape *s, cst_row_case *c)
{
    cst_mem *m;
    cst_gemm_trial t;
    cst_status st;
    CST_TRY(cst_row_mem(&m, r));
    CST_GO(cst_gemm_trial_open(&t, m, s), out);
    st = cst_gemm_trial_verify(&t);
    c->row.error = t.error;
    if (st != CST_OK && !(t.error >= 0)) goto out; /* no result to judge */
    c->run = cst_gemm_trial_run;
    c->what = &t;
    st = cst_row_measure(r, m, c);
out:
    cst_gemm_trial_close(&t);
    return cst_measure_end(m, st);
}

/* Products of one engine, as long as one is expected to take less than `seconds`. */
static cst_status engine_rows(cst_row_run *r, const char *engine, const cst_gemm_shape *list, int n, double seconds)
{
    double rate = 0;
    for (int i = 0; i < n; i++) {
        const cst_gemm_shape *s = &list[i];
        size_t before = r->rows->n;
        cst_row_case c = {.row = cst_row_begin("gemm", "GFLOP/s", "%lld x %lld x %lld %s%s, %s", (long long)s->m, (long long)s->n,
                                               (long long)s->k, cst_gemm_shape_form(s), s->accumulate ? "+" : "", engine),
                          .work = 1e-9 * cst_gemm_shape_flops(s)};
        int known = 0; /* one of OPT's is one of the squares */
        for (int k = 0; k < i; k++)
            known |= list[k].m == s->m && list[k].n == s->n && list[k].k == s->k && list[k].trans_a == s->trans_a &&
                     list[k].trans_b == s->trans_b && list[k].accumulate == s->accumulate;
        if (known || (rate > 0 && cst_gemm_shape_flops(s) / rate > seconds)) continue;
        c.row.limit = CST_GEMM_TRIAL_LIMIT;
        below_peak(r, &c.row);
        CST_TRY(cst_row_tell(r, &c.row));
        cst_status st = one_product(r, s, &c);
        if (st == CST_UNSUPPORTED) {
            cst_row row = cst_row_begin("gemm", "GFLOP/s", "%s", engine);
            return cst_row_missing(r, &row, "%s", "this device's group shape has no kernel of this engine");
        }
        if (st != CST_OK) CST_TRY(cst_row_end(r, &c.row, st));
        if (r->rows->n > before && !r->rows->list[before].missing[0]) rate = 1e9 * r->rows->list[before].value;
    }
    return CST_OK;
}

cst_status cst_rows_gemm(cst_row_run *r)
{
    static const struct {
        cst_gemm_mode mode;
        const char *name;
    } engines[] = {{CST_GEMM_MODE_CLBLAST, "CLBlast"}, {CST_GEMM_MODE_NATIVE, "native"}};
    cst_gemm_shape list[5 + CST_GEMM_SHAPES_MOST];
    cst_status st = CST_OK;
    int n = 0;
    for (int64_t k = 256; k <= 4096; k *= 2)
        if (!r->o->quick || k == 512 || k == 1024 || k == 4096) list[n++] = (cst_gemm_shape){.name = "square", .m = k, .n = k, .k = k};
    int opt = cst_gemm_shapes_opt350m(list + n, 1024);
    if (r->o->quick) list[n + 1] = list[n + 3], opt = 2; /* attention's and the first of the feed-forward ones */
    for (int i = 0; i < 2 && st == CST_OK; i++) {
        /* PoCL compiles CLBlast's kernels for most of a minute */
        if (r->o->quick && r->dev->group == 1 && engines[i].mode == CST_GEMM_MODE_CLBLAST) continue;
        CST_TRY(cst_gemm_set_mode(r->dev, engines[i].mode));
        st = engine_rows(r, engines[i].name, list, n + opt, r->o->quick ? 0.1 : 1);
    }
    CST_TRY(cst_gemm_set_mode(r->dev, CST_GEMM_AUTO));
    return st;
}

/* --- attention ------------------------------------------------------------------------------------------------ */

#define HEADS 16
#define HD 64
#define D (HEADS * HD)
enum { Q, K, V, DO, O, LSE, DQ, DK, DV, TENSORS };

typedef struct attention {
    cst_mem *m;
    int64_t batch, seq;
    float *x[4];             /* q, k, v, gradient of o */
    cst_tensor *t[TENSORS];
    int backward;
} attention;

static cst_status attention_open(attention *a, cst_row_run *r)
{
    CST_TRY(cst_row_mem(&a->m, r));
    for (int i = 0; i < TENSORS; i++) {
        int64_t cols = i == LSE ? HEADS : D, rows = a->batch * a->seq;
        CST_TRY(cst_row_tensor(&a->t[i], a->m, rows, cols, "attention"));
        if (i > DO) {
            CST_TRY(cst_fill(a->m, a->t[i], NAN));
            continue;
        }
        CST_TRY(cst_row_numbers(&a->x[i], rows * cols, 20 + (uint64_t)i));
        CST_TRY(cst_tensor_write(a->t[i], 0, a->x[i], a->t[i]->bytes));
    }
    return CST_OK;
}

static cst_status attention_close(attention *a, cst_status st)
{
    for (int i = 0; i < 4; i++) free(a->x[i]);
    for (int i = 0; i < TENSORS; i++) cst_tensor_free(a->t[i]);
    return a->m ? cst_measure_end(a->m, st) : st;
}

static cst_status attention_run(void *what, int call)
{
    attention *a = what;
    cst_tensor **t = a->t;
    if (!a->backward || !call) CST_TRY(cst_attention_forward(a->m, t[O], t[LSE], t[Q], t[K], t[V], a->batch, a->seq, HEADS));
    if (!a->backward) return CST_OK;
    return cst_attention_backward(a->m, t[DQ], t[DK], t[DV], t[DO], t[O], t[LSE], t[Q], t[K], t[V], a->batch, a->seq, HEADS);
}

/* Results of one head in double: out[4][seq][HD], o, dq, dk, dv. p: room for seq * seq. */
static void attention_head(double *out, double *p, const attention *a, int64_t sequence, int head)
{
    int64_t T = a->seq;
    const float *x[4];
    double *o = out, *dq = out + T * HD, *dk = out + 2 * T * HD, *dv = out + 3 * T * HD, scale = 1 / sqrt((double)HD);
    for (int k = 0; k < 4; k++) x[k] = a->x[k] + sequence * T * D + head * HD;
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t i = 0; i < T; i++) { /* p[i,j]: the weights; o */
        double sum = 0;
        for (int64_t j = 0; j <= i; j++) {
            double s = 0;
            for (int d = 0; d < HD; d++) s += (double)x[Q][i * D + d] * x[K][j * D + d];
            p[i * T + j] = exp(s * scale);
            sum += p[i * T + j];
        }
        for (int d = 0; d < HD; d++) o[i * HD + d] = 0;
        for (int64_t j = 0; j <= i; j++) {
            p[i * T + j] /= sum;
            for (int d = 0; d < HD; d++) o[i * HD + d] += p[i * T + j] * x[V][j * D + d];
        }
    }
    if (!a->backward) return;
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t j = 0; j < T; j++) /* dv: before p becomes ds */
        for (int d = 0; d < HD; d++) {
            double sum = 0;
            for (int64_t i = j; i < T; i++) sum += p[i * T + j] * x[DO][i * D + d];
            dv[j * HD + d] = sum;
        }
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t i = 0; i < T; i++) { /* ds = p (dp - delta); dq */
        double delta = 0;
        for (int d = 0; d < HD; d++) delta += x[DO][i * D + d] * o[i * HD + d], dq[i * HD + d] = 0;
        for (int64_t j = 0; j <= i; j++) {
            double dp = 0;
            for (int d = 0; d < HD; d++) dp += (double)x[DO][i * D + d] * x[V][j * D + d];
            p[i * T + j] *= (dp - delta) * scale;
            for (int d = 0; d < HD; d++) dq[i * HD + d] += p[i * T + j] * x[K][j * D + d];
        }
    }
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t j = 0; j < T; j++)
        for (int d = 0; d < HD; d++) {
            double sum = 0;
            for (int64_t i = j; i < T; i++) sum += p[i * T + j] * x[Q][i * D + d];
            dk[j * HD + d] = sum;
        }
}

/* The last head of the last sequence as a whole, each result by its largest number; of the others that they are numbers. */
static cst_status attention_check(double *error, void *what)
{
    attention *a = what;
    static const int results[] = {O, DQ, DK, DV};
    int64_t T = a->seq, from = (a->batch - 1) * T;
    double *want = malloc(4 * (size_t)T * HD * sizeof *want), *p = malloc((size_t)(T * T) * sizeof *p), worst = 0;
    float *got = malloc(a->t[O]->bytes);
    cst_status st = want && p && got ? CST_OK : cst_fail(CST_NO_MEMORY, "attention on the host");
    if (st == CST_OK) attention_head(want, p, a, a->batch - 1, HEADS - 1);
    for (int k = 0; k < (a->backward ? 4 : 1) && st == CST_OK; k++) {
        double most = 0;
        CST_GO(cst_tensor_read(a->t[results[k]], 0, got, a->t[O]->bytes), out);
        for (int64_t i = 0; i < T * HD; i++) most = fmax(most, fabs(want[k * T * HD + i]));
        for (int64_t i = 0; i < T * HD; i++)
            worst = cst_row_worse(worst, got[(from + i / HD) * D + (HEADS - 1) * HD + i % HD], want[k * T * HD + i], most);
        for (int64_t i = 0; i < a->batch * T * D; i++)
            if (!isfinite(got[i])) worst = INFINITY;
    }
out:
    free(want);
    free(p);
    free(got);
    *error = worst;
    return st;
}

cst_status cst_rows_attention(cst_row_run *r)
{
    int small = r->dev->is_cpu && r->o->quick;
    for (int backward = 0; backward < 2; backward++) {
        attention a = {.batch = r->dev->is_cpu ? 2 : 8, .seq = small ? 256 : 1024, .backward = backward};
        cst_row_case c = {.row = cst_row_begin("attention", "GFLOP/s", "%s, %lld x %lld, 16 x 64, causal",
                                               backward ? "backward" : "forward", (long long)a.batch, (long long)a.seq),
                          .run = attention_run, .check = attention_check, .what = &a};
        c.work = 1e-9 * (backward ? 5.0 : 2.0) * (double)a.batch * HEADS * (double)a.seq * (double)(a.seq + 1) * HD;
        c.row.limit = 1e-5; /* sums of up to 1,024 weights and products, each rounded */
        below_peak(r, &c.row);
        CST_TRY(cst_row_tell(r, &c.row));
        cst_status st = attention_open(&a, r);
        if (st == CST_OK) st = cst_row_measure(r, a.m, &c);
        st = attention_close(&a, st);
        if (st != CST_OK) CST_TRY(cst_row_end(r, &c.row, st));
    }
    return CST_OK;
}
