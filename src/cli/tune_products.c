/* castor tune, second part: which engine and variant is fastest for each product of training. */
#include "cli/tune.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "bench/gemm_shapes.h"
#include "bench/measure.h"
#include "gemm/tuning.h"

#define HOPELESS 2.0 /* a first call this many times slower than the best so far isn't timed further */

static const cst_gemm_choice candidates[] = {
    {CST_GEMM_CLBLAST, CST_GEMM_COLUMNS, 0, 0},  {CST_GEMM_NATIVE, CST_GEMM_COLUMNS, 1, 512},  {CST_GEMM_NATIVE, CST_GEMM_COLUMNS, 2, 512},
    {CST_GEMM_NATIVE, CST_GEMM_COLUMNS, 4, 512}, {CST_GEMM_NATIVE, CST_GEMM_COLUMNS, 4, 1024}, {CST_GEMM_NATIVE, CST_GEMM_ROWS, 8, 512},
    {CST_GEMM_NATIVE, CST_GEMM_ROWS, 16, 512},   {CST_GEMM_NATIVE, CST_GEMM_ROWS, 32, 256},    {CST_GEMM_NATIVE, CST_GEMM_STRIPS, 2, 1024},
    {CST_GEMM_NATIVE, CST_GEMM_STRIPS, 4, 1024}, {CST_GEMM_NATIVE, CST_GEMM_COLUMNS, 1, 256}, {CST_GEMM_NATIVE, CST_GEMM_COLUMNS, 1, 64},
    {CST_GEMM_NATIVE, CST_GEMM_ROWS, 4, 64},     {CST_GEMM_SPLIT, CST_GEMM_COLUMNS, 0, 0},
};
#define CANDIDATES ((int)(sizeof candidates / sizeof *candidates))

typedef struct contest {
    cst_gemm_trial trial;
    cst_device *dev;
    double ms[CANDIDATES];   /* fastest sample; 0: not timed */
} contest;

/* One more sample of candidate i. Others on the machine only ever slow a sample down, so the fastest counts. */
static cst_status sample(contest *c, int i, int samples)
{
    cst_timing timing;
    CST_TRY(cst_gemm_force(c->dev, &candidates[i]));
    CST_TRY(cst_measure(&timing, c->trial.mem, samples, cst_gemm_trial_run, &c->trial));
    if (!c->ms[i] || timing.ms_min < c->ms[i]) c->ms[i] = timing.ms_min;
    return CST_OK;
}

/* The first: its result is checked. One far behind `best` is told by a single call. */
static cst_status first_sample(contest *c, int i, double best)
{
    CST_TRY(cst_gemm_force(c->dev, &candidates[i]));
    CST_TRY(cst_gemm_trial_verify(&c->trial)); /* builds the kernels, too */
    double t0 = cst_now();
    CST_TRY(cst_gemm_trial_run(&c->trial, 1));
    CST_TRY(cst_mem_finish(c->trial.mem));
    c->ms[i] = (cst_now() - t0) * 1e3;
    return best > 0 && c->ms[i] > HOPELESS * best ? CST_OK : sample(c, i, 2);
}

static int fastest(const contest *c)
{
    int best = -1;
    for (int i = 0; i < CANDIDATES; i++)
        if (c->ms[i] > 0 && (best < 0 || c->ms[i] < c->ms[best])) best = i;
    return best;
}

/* Fastest candidate of one product, -1: none works. skip: engines that other products have shown to be far behind. */
static cst_status compete(int *winner, contest *c, cst_tune_sum *sum, const int skip[CST_GEMM_ENGINE_COUNT])
{
    const cst_gemm_shape *s = &c->trial.shape;
    cst_gemm_args g = {
        .m = s->m, .n = s->n, .k = s->k, .trans_a = s->trans_a, .trans_b = s->trans_b, .a = c->trial.t[0], .b = c->trial.t[1]};
    for (int i = 0; i < CANDIDATES && !cst_interrupted(); i++) {
        int best = fastest(c);
        if (skip[candidates[i].engine] || !cst_gemm_fits(&candidates[i], c->dev, &g)) continue;
        sum->tried++;
        if (first_sample(c, i, best < 0 ? 0 : c->ms[best]) == CST_OK) continue;
        c->ms[i] = 0; /* wrong, or it doesn't build here */
        sum->failed++;
        cst_log(CST_LOG_DEBUG, "a variant was left out: %s", cst_detail());
    }
    for (int round = 0; round < 3 && fastest(c) >= 0; round++) /* those near the best again, in turn */
        for (int i = 0; i < CANDIDATES && !cst_interrupted(); i++)
            if (c->ms[i] > 0 && c->ms[i] < 1.15 * c->ms[fastest(c)]) CST_TRY(sample(c, i, 1));
    *winner = fastest(c);
    return CST_OK;
}

static cst_status tune_shape(cst_tune_sum *sum, cst_tuning *store, cst_device *dev, const cst_gemm_shape *s,
                             int skip[CST_GEMM_ENGINE_COUNT], uint64_t device_mem)
{
    cst_mem *mem;
    contest c;
    int best = -1;
    cst_status st;
    memset(&c, 0, sizeof c);
    c.dev = dev;
    CST_TRY(cst_mem_create(&mem, dev, device_mem));
    CST_GO(cst_gemm_trial_open(&c.trial, mem, s), out);
    CST_GO(compete(&best, &c, sum, skip), out);
    if (best >= 0) {
        cst_gemm_shape_key key = {s->m, s->n, s->k, s->trans_a, s->trans_b, CST_F32, CST_F32};
        double engine_ms[CST_GEMM_ENGINE_COUNT] = {0, 0};
        CST_GO(cst_tuning_add(store, &key, &candidates[best], cst_gemm_shape_flops(s) / (c.ms[best] * 1e6)), out);
        for (int i = 0; i < CANDIDATES; i++) {
            double *ms = &engine_ms[candidates[i].engine];
            if (c.ms[i] > 0 && (!*ms || c.ms[i] < *ms)) *ms = c.ms[i];
        }
        for (int e = 0; e < CST_GEMM_ENGINE_COUNT; e++)
            if (engine_ms[e] > 4 * c.ms[best]) skip[e] = 1;
        sum->ms += c.ms[best] * s->per_step;
        sum->flops += cst_gemm_shape_flops(s) * s->per_step;
        sum->native += candidates[best].engine == CST_GEMM_NATIVE;
    }
out:
    cst_gemm_force(dev, NULL);
    cst_gemm_trial_close(&c.trial);
    return cst_measure_end(mem, st);
}

cst_status cst_tune_products(cst_tune_sum *sum, cst_tuning *store, cst_device *dev, uint64_t device_mem, double until,
                             cst_tune_progress progress, void *user)
{
    static const int64_t tokens[] = {128, 1024};
    cst_gemm_shape list[2 * CST_GEMM_SHAPES_MOST];
    int n = 0, skip[CST_GEMM_ENGINE_COUNT] = {0, 0};
    memset(sum, 0, sizeof *sum);
    for (int i = 0; i < 2; i++) n += cst_gemm_shapes_opt350m(list + n, tokens[i]);
    for (int i = 0; i < n && cst_now() < until && !cst_interrupted(); i++) {
        progress(user, i, n, list[i].name);
        CST_TRY(tune_shape(sum, store, dev, &list[i], skip, device_mem));
        sum->shapes++;
    }
    return CST_OK;
}
