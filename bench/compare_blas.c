/* Castor's matrix products against OpenBLAS: OPT-350M's shapes, both in one process on the same cores, in turn.
 *
 *     make && gcc -std=gnu11 -D_GNU_SOURCE -O2 -fopenmp -Isrc -I/usr/include/x86_64-linux-gnu/openblas-pthread \
 *         bench/compare_blas.c src/bench/gemm_shapes.c src/bench/measure.c libcastor.a -o compare_blas \
 *         -lclblast -lclFFT -lOpenCL -ljansson -lxxhash -lpcre2-8 -lzip \
 *         -L/usr/lib/x86_64-linux-gnu/openblas-pthread -lopenblas -lm
 *     ./compare_blas [tokens ...]          (default: 128 1024; CASTOR_DEVICE chooses the device, a CPU to be fair)
 *
 * Debian: libopenblas-pthread-dev. Not part of `make all`. stdout: the table; exit status 1 on a wrong result.
 */
#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/gemm_shapes.h"
#include "bench/measure.h"
#include "device/program.h"

#define SAMPLES 7
#define REST_US 60000 /* OpenBLAS's threads go on looking for work for a while: not while the other side is timed */

/* The host's copies of the same data, and both sides' times. */
typedef struct contest {
    cst_gemm_trial trial;
    float *x[3];
    cst_timing ours, theirs;
} contest;

typedef struct total {
    double ours, theirs;
} total;

static cst_status run_blas(void *what, int call)
{
    contest *c = what;
    const cst_gemm_shape *s = &c->trial.shape;
    int64_t copy = call % c->trial.copies;
    cblas_sgemm(CblasRowMajor, s->trans_a ? CblasTrans : CblasNoTrans, s->trans_b ? CblasTrans : CblasNoTrans, (blasint)s->m, (blasint)s->n,
                (blasint)s->k, 1, c->x[0] + copy * c->trial.stride[0], (blasint)(s->trans_a ? s->m : s->k),
                c->x[1] + copy * c->trial.stride[1], (blasint)(s->trans_b ? s->k : s->n), (float)s->accumulate,
                c->x[2] + copy * c->trial.stride[2], (blasint)s->n);
    return CST_OK;
}

/* Milliseconds of one call, of `calls` of them after one that wakes the threads. */
static cst_status sample(double *ms, cst_mem *m, cst_timed run, void *what, int *at, int calls)
{
    usleep(REST_US);
    CST_TRY(run(what, (*at)++));
    CST_TRY(cst_mem_finish(m));
    double t0 = cst_now();
    for (int i = 0; i < calls; i++) CST_TRY(run(what, (*at)++));
    CST_TRY(cst_mem_finish(m));
    *ms = (cst_now() - t0) * 1e3 / calls;
    return CST_OK;
}

static cst_status time_both(contest *c, cst_mem *m)
{
    double ours[SAMPLES], theirs[SAMPLES];
    int a = 1, b = 1;
    CST_TRY(sample(ours, m, cst_gemm_trial_run, &c->trial, &a, 1));
    int calls = cst_measure_calls(ours[0] * 1e-3);
    for (int i = 0; i < SAMPLES; i++) {
        if (i % 2) CST_TRY(sample(&theirs[i], m, run_blas, c, &b, calls));
        CST_TRY(sample(&ours[i], m, cst_gemm_trial_run, &c->trial, &a, calls));
        if (i % 2 == 0) CST_TRY(sample(&theirs[i], m, run_blas, c, &b, calls));
    }
    cst_timing_from(&c->ours, ours, SAMPLES, calls);
    cst_timing_from(&c->theirs, theirs, SAMPLES, calls);
    return CST_OK;
}

static cst_status compete(contest *c, cst_device *dev, const cst_gemm_shape *s)
{
    cst_mem *m;
    cst_status st;
    memset(c, 0, sizeof *c);
    CST_TRY(cst_mem_create(&m, dev, 0));
    CST_GO(cst_gemm_trial_open(&c->trial, m, s), out);
    for (int i = 0; i < 3; i++) {
        size_t one = (size_t)c->trial.stride[i] * sizeof(float);
        if (posix_memalign((void **)&c->x[i], 4096, one * (size_t)c->trial.copies)) {
            st = cst_fail(CST_NO_MEMORY, "copies of %s", s->name);
            goto out;
        }
        for (int k = 0; k < c->trial.copies; k++)
            memcpy((char *)c->x[i] + one * (size_t)k, c->trial.x[i], (size_t)c->trial.count[i] * sizeof(float));
    }
    CST_GO(cst_gemm_trial_verify(&c->trial), out);
    run_blas(c, 0);
    CST_GO(cst_gemm_trial_check(&c->trial, c->x[2], "OpenBLAS"), out);
    CST_GO(time_both(c, m), out);
out:
    cst_gemm_trial_close(&c->trial);
    for (int i = 0; i < 3; i++) free(c->x[i]);
    return cst_measure_end(m, st);
}

static void print_row(const cst_gemm_shape *s, const contest *c)
{
    double f = cst_gemm_shape_flops(s) * 1e-6;
    printf("%-20s %6lld %6lld %6lld  %s%-2s %9.3f %5.0f%% %7.1f %9.3f %5.0f%% %7.1f %7.2f\n", s->name, (long long)s->m, (long long)s->n,
           (long long)s->k, cst_gemm_shape_form(s), s->accumulate ? "+" : "", c->ours.ms, cst_timing_spread(&c->ours), f / c->ours.ms,
           c->theirs.ms, cst_timing_spread(&c->theirs), f / c->theirs.ms, c->theirs.ms / c->ours.ms);
    fflush(stdout);
}

/* All shapes of one list; sum counts each once, the figure of the step as often as a step has it. */
static cst_status run_list(total *sum, cst_device *dev, const cst_gemm_shape *list, int n, int64_t tokens)
{
    total step = {0, 0};
    for (int i = 0; i < n; i++) {
        contest c;
        CST_TRY(compete(&c, dev, &list[i]));
        print_row(&list[i], &c);
        sum->ours += c.ours.ms, sum->theirs += c.theirs.ms;
        step.ours += c.ours.ms * list[i].per_step, step.theirs += c.theirs.ms * list[i].per_step;
    }
    if (tokens)
        printf("all products of a step of %lld tokens: %.1f ms, OpenBLAS %.1f ms, ratio %.3f\n", (long long)tokens, step.ours, step.theirs,
               step.theirs / step.ours);
    return CST_OK;
}

static cst_status run_all(cst_device *dev, int argc, char **argv)
{
    cst_gemm_shape list[CST_GEMM_SHAPES_MOST];
    static char *both[] = {"", "128", "1024"};
    total sum = {0, 0};
    if (argc < 2) argc = 3, argv = both;
    printf("%s, %s; OpenBLAS: %s, %d threads; medians of %d, ratio = OpenBLAS's time / ours\n", dev->info.name, dev->info.driver,
           openblas_get_config(), openblas_get_num_threads(), SAMPLES);
    printf("%-20s %6s %6s %6s  %-4s %9s %6s %7s %9s %6s %7s %7s\n", "product", "m", "n", "k", "form", "ours ms", "spread", "GFLOP/s",
           "BLAS ms", "spread", "GFLOP/s", "ratio");
    for (int i = 1; i < argc; i++) {
        int64_t tokens = strtoll(argv[i], NULL, 10);
        if (tokens < 1 || tokens > 1 << 20) return cst_fail(CST_USAGE, "%s: a number of tokens from 1 to 1048576 is wanted", argv[i]);
        CST_TRY(run_list(&sum, dev, list, cst_gemm_shapes_opt350m(list, tokens), tokens));
    }
    CST_TRY(run_list(&sum, dev, list, cst_gemm_shapes_square(list), 0));
    printf("sum over all shapes: %.1f ms, OpenBLAS %.1f ms, ratio %.3f\n", sum.ours, sum.theirs, sum.theirs / sum.ours);
    return CST_OK;
}

int main(int argc, char **argv)
{
    cst_device *dev = NULL;
    cst_device_prepare();
    openblas_set_num_threads(omp_get_num_procs());
    cst_status st = cst_device_open(&dev, getenv("CASTOR_DEVICE"), 0);
    if (st == CST_OK) {
        st = run_all(dev, argc, argv);
        cst_program_save(dev);
    }
    if (st != CST_OK) fprintf(stderr, "compare_blas: %s\n", cst_detail());
    cst_device_close(dev);
    return cst_status_exit(st);
}
