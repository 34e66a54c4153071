/* clFFT's transforms: 1-D, complex and real, as many at once as fill memory, in place.
 *
 *     X[k] = s sum over j of x[j] exp(-2 pi i j k / n), s = 1 / sqrt(n) (real: sqrt(2 / n)),
 * so that numbers keep their size however often they are transformed. 5 n log2 n FLOPs, half of that for real ones.
 */
#include <clFFT.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/rows.h"
#include "memory/launch.h"

#define BINS 8        /* frequencies looked at in each of three transforms */
#define LIMIT 3e-6    /* of the results' mean size: some 20 steps, each with roundings and a twiddle factor of 2^-24 */

typedef struct fft {
    cst_mem *m;
    clfftPlanHandle plan;
    int planned, real;
    int64_t n, batch, room;  /* room: floats of a transform, in and out */
    cst_tensor *data;
    cl_mem scratch;
    float *x;
} fft;

static cst_status failed(int code, const char *call)
{
    static const struct {
        int code;
        const char *name;
    } names[] = {{CLFFT_BUGCHECK, "a bug in clFFT"}, {CLFFT_NOTIMPLEMENTED, "not implemented"},
                 {CLFFT_TRANSPOSED_NOTIMPLEMENTED, "not implemented"},
                 {CLFFT_DEVICE_NO_DOUBLE, "no double"}, {CLFFT_DEVICE_MISMATCH, "device mismatch"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].code == code) return cst_fail(CST_DEVICE, "%s: %s (%d)", call, names[i].name, code);
    return cst_cl(code, call);
}

#define FFT_TRY(call, name)                                   \
    do {                                                      \
        int code_ = (call);                                   \
        if (code_ != CLFFT_SUCCESS) return failed(code_, name); \
    } while (0)

/* Device memory that clFFT takes for itself, whatever it is given: a buffer of 128 bytes for each part of a plan, and for
 * long real transforms a second scratch, of 4.25 to 6 bytes a number where the length is a power of two (seen with
 * 2.12.2; clFFT doesn't tell). This is more. */
static uint64_t own_bytes(int64_t n, int64_t batch, int real)
{
    return (1u << 20) + (real && n > 4096 ? 8 * (uint64_t)n * (uint64_t)batch : 0);
}

static cst_status make_plan(fft *f)
{
    cst_device *dev = cst_mem_device(f->m);
    size_t n = (size_t)f->n, room = (size_t)f->room, one = 1, bytes = 0;
    FFT_TRY(clfftCreateDefaultPlan(&f->plan, dev->context, CLFFT_1D, &n), "clfftCreateDefaultPlan");
    f->planned = 1;
    FFT_TRY(clfftSetPlanPrecision(f->plan, CLFFT_SINGLE), "clfftSetPlanPrecision");
    FFT_TRY(clfftSetLayout(f->plan, f->real ? CLFFT_REAL : CLFFT_COMPLEX_INTERLEAVED,
                           f->real ? CLFFT_HERMITIAN_INTERLEAVED : CLFFT_COMPLEX_INTERLEAVED), "clfftSetLayout");
    FFT_TRY(clfftSetResultLocation(f->plan, CLFFT_INPLACE), "clfftSetResultLocation");
    FFT_TRY(clfftSetPlanInStride(f->plan, CLFFT_1D, &one), "clfftSetPlanInStride");
    FFT_TRY(clfftSetPlanOutStride(f->plan, CLFFT_1D, &one), "clfftSetPlanOutStride");
    FFT_TRY(clfftSetPlanDistance(f->plan, f->real ? room : room / 2, room / 2), "clfftSetPlanDistance");
    FFT_TRY(clfftSetPlanBatchSize(f->plan, (size_t)f->batch), "clfftSetPlanBatchSize");
    FFT_TRY(clfftSetPlanScale(f->plan, CLFFT_FORWARD, (cl_float)sqrt((f->real ? 2.0 : 1.0) / (double)f->n)), "clfftSetPlanScale");
    FFT_TRY(clfftBakePlan(f->plan, 1, &dev->compute, NULL, NULL), "clfftBakePlan");
    FFT_TRY(clfftGetTmpBufSize(f->plan, &bytes), "clfftGetTmpBufSize");
    return bytes ? cst_mem_scratch(f->m, bytes, &f->scratch) : CST_OK;
}

static cst_status open_fft(fft *f, cst_row_run *r)
{
    uint64_t own = own_bytes(f->n, f->batch, f->real), budget = r->o->device_mem ? r->o->device_mem : cst_mem_default_budget(r->dev);
    if (own >= budget) return cst_fail(CST_OVER_BUDGET, "clFFT's own %.1f MiB are more than the budget", (double)own / 1048576);
    CST_TRY(cst_mem_create(&f->m, r->dev, budget - own));
    CST_TRY(cst_row_numbers(&f->x, f->batch * f->room, 30));
    CST_TRY(cst_row_tensor(&f->data, f->m, f->batch, f->room, "transforms"));
    CST_TRY(cst_tensor_write(f->data, 0, f->x, f->data->bytes));
    return make_plan(f);
}

static cst_status close_fft(fft *f, cst_status st)
{
    if (f->m) cst_mem_finish(f->m);
    if (f->planned) clfftDestroyPlan(&f->plan);
    cst_tensor_free(f->data);
    free(f->x);
    return f->m ? cst_measure_end(f->m, st) : st;
}

static cst_status run(void *what, int call)
{
    fft *f = what;
    cl_command_queue queue = cst_mem_device(f->m)->compute;
    cst_use use = {.t = f->data, .access = CST_UPDATE};
    (void)call;
    CST_TRY(cst_mem_acquire(f->m, "fft", &use, 1, NULL, NULL));
    cst_status st = use.offset ? cst_fail(CST_STATE, "clFFT takes no offset") : CST_OK; /* the manager's only tensor begins its slab */
    if (st == CST_OK) {
        int code = clfftEnqueueTransform(f->plan, CLFFT_FORWARD, 1, &queue, 0, NULL, NULL, &use.mem, NULL, f->scratch);
        if (code != CLFFT_SUCCESS) st = failed(code, "clfftEnqueueTransform");
    }
    cst_mem_release(f->m, &use, 1);
    return st;
}

/* Frequency k of x's transform in double. turn: cos and sin of 2 pi j / n. */
static void bin(double out[2], const fft *f, const double *turn, const float *x, int64_t k)
{
    double re = 0, im = 0, s = sqrt((f->real ? 2.0 : 1.0) / (double)f->n);
#pragma omp parallel for reduction(+ : re, im)
    for (int64_t j = 0; j < f->n; j++) {
        const double *w = turn + 2 * (j * k % f->n);
        double a = f->real ? x[j] : x[2 * j], b = f->real ? 0 : x[2 * j + 1];
        re += a * w[0] + b * w[1];
        im += b * w[0] - a * w[1];
    }
    out[0] = re * s;
    out[1] = im * s;
}

/* By Parseval's theorem: the difference between the energy of a transform and of what it was made of, of the latter. */
static double energy_error(const fft *f, const float *x, const float *got)
{
    double in = 0, out = 0;
    for (int64_t j = 0; j < (f->real ? f->n : 2 * f->n); j++) in += (double)x[j] * x[j];
    if (!f->real)
        for (int64_t j = 0; j < 2 * f->n; j++) out += (double)got[j] * got[j];
    for (int64_t k = 0; f->real && k <= f->n / 2; k++) /* the other half is the same again; the scale has it in already */
        out += ((double)got[2 * k] * got[2 * k] + (double)got[2 * k + 1] * got[2 * k + 1]) * (k == 0 || 2 * k == f->n ? 0.5 : 1);
    return cst_row_worse(0, out, in, in);
}

/* Every transform's energy; in three of them some frequencies against sums in double, by the results' mean size. */
static cst_status check(double *error, void *what)
{
    fft *f = what;
    const double mean = sqrt(2.0 / 3);
    float *got = malloc(f->data->bytes);
    double *turn = malloc(2 * (size_t)f->n * sizeof *turn), worst = 0;
    cst_status st = got && turn ? cst_tensor_read(f->data, 0, got, f->data->bytes) : cst_fail(CST_NO_MEMORY, "transforms on the host");
    if (st != CST_OK) goto out;
#pragma omp parallel for
    for (int64_t j = 0; j < f->n; j++) {
        double angle = 2 * M_PI * (double)j / (double)f->n;
        turn[2 * j] = cos(angle);
        turn[2 * j + 1] = sin(angle);
    }
#pragma omp parallel for reduction(max : worst)
    for (int64_t b = 0; b < f->batch; b++) worst = fmax(worst, energy_error(f, f->x + b * f->room, got + b * f->room));
    for (int t = 0; t < 3; t++) {
        int64_t b = t * (f->batch - 1) / 2, most = f->real ? f->n / 2 : f->n - 1;
        for (int i = 0; i < BINS; i++) {
            int64_t k = i == 0 ? 0 : i == 1 ? most : (int64_t)((1 + cst_row_number(31, (uint64_t)(t * BINS + i))) / 2 * (float)most);
            double want[2];
            bin(want, f, turn, f->x + b * f->room, k);
            for (int c = 0; c < 2; c++) worst = cst_row_worse(worst, got[b * f->room + 2 * k + c], want[c], mean);
        }
    }
out:
    free(got);
    free(turn);
    *error = worst;
    return st;
}

/* "2^16" or "5040" */
static void size_text(char text[32], int64_t n)
{
    int bits = 0;
    while ((int64_t)1 << bits < n) bits++;
    if ((int64_t)1 << bits == n) snprintf(text, 32, "2^%d", bits);
    else snprintf(text, 32, "%lld", (long long)n);
}

static cst_status one(cst_row_run *r, int64_t n, int real)
{
    int64_t room = real ? 2 * (n / 2 + 1) : 2 * n, batch = (r->dev->is_cpu ? 16 << 20 : 256 << 20) / 4 / room;
    fft f = {.n = n, .real = real, .room = room, .batch = batch ? batch : 1};
    char size[32];
    size_text(size, n);
    double work = (real ? 2.5e-9 : 5e-9) * (double)n * log2((double)n) * (double)f.batch, bytes = 8.0 * (double)(room * f.batch);
    cst_row_case c = {.row = cst_row_begin("fft", "GFLOP/s", "%s %s, %lld at once", real ? "real" : "complex", size, (long long)f.batch),
                      .work = work, .run = run, .check = check, .what = &f};
    c.row.limit = LIMIT;
    c.row.ceiling = work / bytes * r->triad;
    c.row.ceiling_of = "one read and one write at the triad's rate";
    CST_TRY(cst_row_tell(r, &c.row));
    cst_status st = open_fft(&f, r);
    if (st == CST_OK) st = cst_row_measure(r, f.m, &c);
    st = close_fft(&f, st);
    return st == CST_OK ? CST_OK : cst_row_end(r, &c.row, st);
}

cst_status cst_rows_fft(cst_row_run *r)
{
    /* 1000 = 2^3 5^3, 5040 = 2^4 3^2 5 7, 59049 = 3^10, 78125 = 5^7, 117649 = 7^6, 100000 = 2^5 5^5. A CPU's runtime compiles each
     * for seconds, so a quick run has few. */
    static const int64_t few[] = {1 << 10, 1000}, some[] = {1 << 8, 1 << 12, 1 << 16, 1 << 20, 1000, 5040},
                         all[] = {1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1000, 5040, 59049, 78125, 100000, 117649};
    const int64_t *list = !r->o->quick ? all : r->dev->is_cpu ? few : some;
    size_t count = (!r->o->quick ? sizeof all : r->dev->is_cpu ? sizeof few : sizeof some) / sizeof *all;
    clfftSetupData data = {clfftVersionMajor, clfftVersionMinor, clfftVersionPatch, 0};
    int code = clfftSetup(&data);
    if (code != CLFFT_SUCCESS) {
        cst_row row = cst_row_begin("fft", "GFLOP/s", "%s", "clFFT");
        return cst_row_end(r, &row, failed(code, "clfftSetup"));
    }
    cst_status st = CST_OK;
    for (int real = 0; real < 2; real++)
        for (size_t i = 0; i < (real && list == few ? 1 : count) && st == CST_OK; i++) st = one(r, list[i], real);
    clfftTeardown();
    return st;
}
