/* castor bench op: time of everything but the matrix products, beside what memory can do. */
#include <jansson.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "bench/measure.h"
#include "bench/op_cases.h"
#include "device/program.h"
#include "gemm/choice.h"
#include "selftest/selftest.h"

/* What was measured of one operator: its time, and its bytes a second as a part of the triad's beside it. */
typedef struct result {
    cst_timing t;
    double of_triad;
} result;

static double rate(const cst_op_case *c, const cst_timing *t)
{
    return c->bytes / (t->ms * 1e6);
}

/* One operator and the triad in turn; managers of their own, so that memory is given back. */
static cst_status time_case(result *r, cst_device *dev, uint64_t device_mem, int64_t repeat, const cst_op_case *c)
{
    const cst_op_case *both[2] = {c, cst_op_case_at(0)};
    cst_mem *mem[2] = {NULL};
    cst_op_trial trial[2] = {{0}};
    cst_timing t[2];
    double ratio;
    cst_status st;
    for (int k = 0; k < 2; k++) {
        CST_GO(cst_mem_create(&mem[k], dev, device_mem), out);
        CST_GO(cst_op_trial_open(&trial[k], mem[k], both[k]), out);
    }
    CST_GO(cst_measure_pair(t, &ratio, mem, repeat, (const cst_timed[]){cst_op_trial_run, cst_op_trial_run},
                            (void *const[]){&trial[0], &trial[1]}), out);
    *r = (result){t[0], c == both[1] ? 1 : c->bytes / both[1]->bytes / ratio};
out:
    for (int k = 0; k < 2; k++) {
        cst_op_trial_close(&trial[k]);
        if (mem[k]) st = cst_measure_end(mem[k], st);
    }
    return st;
}

static json_t *case_json(const cst_op_case *c, const result *r)
{
    const cst_timing *t = &r->t;
    return json_pack("{s:s, s:s, s:f, s:f, s:f, s:i, s:i, s:f, s:f, s:f, s:f, s:f}", "operator", c->name, "shape", c->shape, "ms", t->ms,
                     "ms_min", t->ms_min, "ms_max", t->ms_max, "samples", t->samples, "calls_per_sample", t->calls, "bytes", c->bytes,
                     "gb_per_s", rate(c, t), "percent_of_triad", 100 * r->of_triad, "flops", c->flops, "gflops",
                     c->flops / (t->ms * 1e6));
}

static void print_case(const cst_op_case *c, const result *r)
{
    const cst_timing *t = &r->t;
    printf("%-29s %-19s %10.3f %7.1f%% %9.2f %8.1f%%", c->name, c->shape, t->ms, cst_timing_spread(t), rate(c, t),
           100 * r->of_triad);
    if (c->flops > 0) printf(" %9.1f", c->flops / (t->ms * 1e6));
    putchar('\n');
}

/* Is this one to be timed? The triad, the first one, always is. */
static int wanted(const cst_args *a, int i)
{
    return !i || !a->text[CST_OPTION_ONLY] || strstr(cst_op_case_at(i)->name, a->text[CST_OPTION_ONLY]);
}

static cst_status time_all(result *r, cst_device *dev, const cst_args *a)
{
    uint64_t device_mem = a->text[CST_OPTION_DEVICE_MEM] ? cst_args_size(a, CST_OPTION_DEVICE_MEM) : 0;
    int n = cst_op_cases();
    for (int i = 0; i < n; i++) {
        char line[80];
        if (!wanted(a, i)) continue;
        snprintf(line, sizeof line, "%d of %d: %s", i + 1, n, cst_op_case_at(i)->name);
        if (!cst_args_flag(a, CST_OPTION_QUIET)) cst_status_line(line);
        cst_status st = time_case(&r[i], dev, device_mem, cst_args_int(a, CST_OPTION_REPEAT), cst_op_case_at(i));
        if (st != CST_OK) return cst_fail_in(st, "%s, %s", cst_op_case_at(i)->name, cst_op_case_at(i)->shape);
        if (cst_interrupted()) return cst_fail(CST_INTERRUPTED, "bench op");
    }
    cst_status_line(NULL);
    return CST_OK;
}

static void print_result(const cst_device *dev, const result *r, const cst_args *a)
{
    int json = cst_args_flag(a, CST_OPTION_JSON);
    json_t *all = json_array();
    if (!json)
        printf("%s, fp32\n%-29s %-19s %10s %8s %9s %9s %9s\n", dev->info.name, "operator", "shape", "ms", "spread", "GB/s", "of triad",
               "GFLOP/s");
    for (int i = 0; i < cst_op_cases(); i++) {
        if (!wanted(a, i)) continue;
        if (json) json_array_append_new(all, case_json(cst_op_case_at(i), &r[i]));
        else print_case(cst_op_case_at(i), &r[i]);
    }
    if (json) {
        json_t *j = json_pack("{s:s, s:s, s:s, s:i, s:O}", "device", dev->info.name, "driver", dev->info.driver, "type", "f32",
                              "host_threads", omp_get_max_threads(), "operators", all);
        json_dumpf(j, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(j);
    }
    json_decref(all);
}

cst_status cst_cmd_bench_op(const cst_args *a)
{
    cst_device *dev = NULL;
    cst_status st;
    result *r = calloc((size_t)cst_op_cases(), sizeof *r);
    int some = 0;
    if (!r) return cst_fail(CST_NO_MEMORY, "bench op");
    if (a->text[CST_OPTION_HOST_THREADS]) omp_set_num_threads((int)cst_args_int(a, CST_OPTION_HOST_THREADS));
    for (int i = 1; i < cst_op_cases(); i++) some += wanted(a, i);
    if (!some && strcmp(a->text[CST_OPTION_ONLY], cst_op_case_at(0)->name)) {
        st = cst_fail(CST_USAGE, "--only %s: no operator has this in its name (see castor bench op)", a->text[CST_OPTION_ONLY]);
        goto out;
    }
    CST_GO(cst_device_open(&dev, a->text[CST_OPTION_DEVICE], 0), out);
    if (!a->text[CST_OPTION_ONLY])
        for (int i = 0; i < 2; i++)
            CST_GO(cst_self_test(dev, &(cst_self_test_use){1024, 16, i ? CST_GELU : CST_RELU, .dropout = 1, .train = 1, .generate = 1, .cast = 1}), out);
    CST_GO(cst_gemm_set_mode(dev, (cst_gemm_mode)cst_args_choice(a, CST_OPTION_GEMM)), out);
    CST_GO(time_all(r, dev, a), out);
    print_result(dev, r, a);
out:
    if (dev) cst_program_save(dev);
    cst_device_close(dev);
    free(r);
    return st;
}
