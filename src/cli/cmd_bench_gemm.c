/* castor bench gemm: time of the matrix products of OPT-350M. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "bench/gemm_shapes.h"
#include "bench/measure.h"
#include "device/program.h"
#include "gemm/choice.h"

typedef struct gemm_row {
    cst_gemm_shape shape;
    cst_timing time;
    int copies;
    char engine[48];
} gemm_row;

static double gflops(const gemm_row *r)
{
    return cst_gemm_shape_flops(&r->shape) / (r->time.ms * 1e6);
}

/* The shapes to time, in rows[0..*n); the array is the caller's to free. */
static cst_status choose_rows(gemm_row **rows, int *n, const cst_args *a)
{
    cst_gemm_shape list[CST_GEMM_SHAPES_MOST];
    int64_t tokens[CST_INTS_MOST];
    int count, k;
    *n = 0;
    if (a->text[CST_OPTION_SHAPE]) CST_TRY(cst_gemm_shape_parse(list, a->text[CST_OPTION_SHAPE]));
    count = cst_args_ints(tokens, a, CST_OPTION_TOKENS);
    for (int i = 0; i < count; i++)
        if (tokens[i] > 1 << 20) return cst_fail(CST_USAGE, "--tokens %lld: 1048576 is the most", (long long)tokens[i]);
    gemm_row *r = *rows = calloc((CST_INTS_MOST + 1) * CST_GEMM_SHAPES_MOST, sizeof *r);
    if (!r) return cst_fail(CST_NO_MEMORY, "bench gemm");
    if (a->text[CST_OPTION_SHAPE]) {
        r[(*n)++].shape = list[0];
        return CST_OK;
    }
    for (int t = 0; t <= count; t++) {
        k = t < count ? cst_gemm_shapes_opt350m(list, tokens[t]) : cst_gemm_shapes_square(list);
        for (int i = 0; i < k; i++) r[(*n)++].shape = list[i];
    }
    return CST_OK;
}

/* One product, checked and timed; a manager of its own, so that a row's memory is given back. */
static cst_status time_row(gemm_row *r, cst_device *dev, uint64_t device_mem, int64_t repeat)
{
    cst_mem *mem;
    cst_gemm_trial trial;
    cst_status st;
    CST_TRY(cst_mem_create(&mem, dev, device_mem));
    CST_GO(cst_gemm_trial_open(&trial, mem, &r->shape), out);
    CST_GO(cst_gemm_trial_verify(&trial), out);
    CST_GO(cst_measure(&r->time, mem, repeat, cst_gemm_trial_run, &trial), out);
    r->copies = trial.copies;
    cst_gemm_choice how;
    CST_GO(cst_gemm_trial_choice(&how, &trial), out);
    cst_gemm_choice_text(r->engine, &how);
out:
    cst_gemm_trial_close(&trial);
    return cst_measure_end(mem, st);
}

/* Time and rate of all products of a step. */
static void step_sum(const gemm_row *r, int n, int64_t tokens, double *ms, double *rate)
{
    double flops = 0;
    *ms = 0;
    for (int i = 0; i < n; i++) {
        if (r[i].shape.tokens != tokens) continue;
        *ms += r[i].time.ms * r[i].shape.per_step;
        flops += cst_gemm_shape_flops(&r[i].shape) * r[i].shape.per_step;
    }
    *rate = flops / (*ms * 1e6);
}

static json_t *row_json(const gemm_row *r, double best)
{
    const cst_gemm_shape *s = &r->shape;
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:b, s:i, s:f, s:f, s:f, s:i, s:i, s:i, s:f, s:f, s:s}", "product", s->name, "tokens",
                     (json_int_t)s->tokens, "m", (json_int_t)s->m, "n", (json_int_t)s->n, "k", (json_int_t)s->k, "form",
                     cst_gemm_shape_form(s), "accumulate", s->accumulate, "per_step", s->per_step, "ms", r->time.ms, "ms_min",
                     r->time.ms_min, "ms_max", r->time.ms_max, "samples", r->time.samples, "calls_per_sample", r->time.calls, "copies",
                     r->copies, "gflops", gflops(r), "percent_of_best", 100 * (gflops(r) / best), "engine", r->engine);
}

static json_t *to_json(const cst_device *dev, const gemm_row *r, int n, double best)
{
    json_t *all = json_array(), *steps = json_array();
    double ms, rate;
    for (int i = 0; i < n; i++) {
        const cst_gemm_shape *s = &r[i].shape;
        json_array_append_new(all, row_json(&r[i], best));
        if (!s->tokens || (i && r[i - 1].shape.tokens == s->tokens)) continue;
        step_sum(r, n, s->tokens, &ms, &rate);
        json_array_append_new(steps, json_pack("{s:I, s:f, s:f}", "tokens", (json_int_t)s->tokens, "ms", ms, "gflops", rate));
    }
    return json_pack("{s:s, s:s, s:s, s:o, s:o}", "device", dev->info.name, "driver", dev->info.driver, "type", "f32", "products", all,
                     "steps", steps);
}

static void print_text(const cst_device *dev, const gemm_row *r, int n, double best)
{
    double ms, rate;
    printf("%s, fp32, C = op(A) op(B), + where added to C\n", dev->info.name);
    printf("%-20s %6s %6s %6s  %-4s %10s %8s %10s %7s  %s\n", "product", "m", "n", "k", "form", "ms", "spread", "GFLOP/s", "of best",
           "engine");
    for (int i = 0; i < n; i++) {
        const cst_gemm_shape *s = &r[i].shape;
        if (s->tokens && (!i || r[i - 1].shape.tokens != s->tokens)) {
            step_sum(r, n, s->tokens, &ms, &rate);
            printf("%lld tokens; all products of a step %.1f ms, %.1f GFLOP/s\n", (long long)s->tokens, ms, rate);
        }
        printf("%-20s %6lld %6lld %6lld  %s%-2s %10.3f %7.1f%% %10.1f %6.1f%%  %s\n", s->name, (long long)s->m, (long long)s->n,
               (long long)s->k, cst_gemm_shape_form(s), s->accumulate ? "+" : "", r[i].time.ms, cst_timing_spread(&r[i].time),
               gflops(&r[i]), 100 * (gflops(&r[i]) / best), r[i].engine);
    }
}

cst_status cst_cmd_bench_gemm(const cst_args *a)
{
    gemm_row *r = NULL;
    cst_device *dev = NULL;
    cst_status st;
    double best = 0;
    int n = 0;
    int64_t repeat = cst_args_int(a, CST_OPTION_REPEAT);
    uint64_t device_mem = a->text[CST_OPTION_DEVICE_MEM] ? cst_args_size(a, CST_OPTION_DEVICE_MEM) : 0;
    CST_GO(choose_rows(&r, &n, a), out);
    CST_GO(cst_device_open(&dev, a->text[CST_OPTION_DEVICE], 0), out);
    CST_GO(cst_gemm_set_mode(dev, (cst_gemm_mode)cst_args_choice(a, CST_OPTION_GEMM)), out);
    for (int i = 0; i < n; i++) {
        char line[80];
        snprintf(line, sizeof line, "%d of %d: %s, %lld tokens", i + 1, n, r[i].shape.name, (long long)r[i].shape.tokens);
        if (!cst_args_flag(a, CST_OPTION_QUIET)) cst_status_line(line);
        CST_GO(time_row(&r[i], dev, device_mem, repeat), out);
        if (gflops(&r[i]) > best) best = gflops(&r[i]);
        if (cst_interrupted()) {
            st = cst_fail(CST_INTERRUPTED, "bench gemm");
            goto out;
        }
    }
    cst_status_line(NULL);
    if (cst_args_flag(a, CST_OPTION_JSON)) {
        json_t *j = to_json(dev, r, n, best);
        json_dumpf(j, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(j);
    } else {
        print_text(dev, r, n, best);
    }
out:
    if (dev) cst_program_save(dev);
    cst_device_close(dev);
    free(r);
    return st;
}
