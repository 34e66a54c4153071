/* castor bench step: time of a training step on random tokens. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "bench/measure.h"
#include "bench/step.h"
#include "device/program.h"
#include "memory/launch.h"

static int told(void *quiet, int64_t number, int64_t all, int warm)
{
    char line[80];
    snprintf(line, sizeof line, "step %lld of %lld%s", (long long)number, (long long)all, warm ? " (warm-up)" : "");
    if (!*(int *)quiet) cst_status_line(line);
    return cst_interrupted();
}

/* What the plan promised, beside what was measured. */
static void add_plan(json_t *j, const cst_session *s)
{
    const cst_plan *p = cst_mem_plan(s->mem);
    cst_mem_stats stats;
    cst_mem_get_stats(s->mem, &stats);
    if (!p) return;
    json_object_update_new(j, json_pack("{s:I, s:I, s:f, s:f, s:f, s:i, s:i, s:I, s:I, s:I}", "h2d_bytes_step", (json_int_t)p->up_bytes, "d2h_bytes_step",
                                        (json_int_t)(p->down_bytes + cst_session_host_updates(s)), "predicted_ms", 1e3 * cst_session_seconds(s), "compute_ms", 1e3 * p->compute_seconds,
                                        "stall_ms", 1e3 * p->stall_seconds, "recomputed_layers", s->recompute,
                                        "host_layers", s->host_layers, "moves", (json_int_t)stats.moves,
                                        "planned_moves", (json_int_t)stats.planned_moves, "strays", (json_int_t)stats.strays));
}

typedef struct kernel_row {
    const char *name;
    double ms, longest;
    unsigned long long launches;
} kernel_row;

typedef struct kernel_rows {
    kernel_row row[128];
    int n;
} kernel_rows;

static void collect(const cst_kernel *k, void *user)
{
    kernel_rows *r = user;
    if (k->launches && r->n < 128) r->row[r->n++] = (kernel_row){k->name, (double)k->time_ns * 1e-6, (double)k->longest_ns * 1e-6, (unsigned long long)k->launches};
}

static int by_time(const void *a, const void *b)
{
    double x = ((const kernel_row *)a)->ms, y = ((const kernel_row *)b)->ms;
    return (x < y) - (x > y);
}

static json_t *kernels_json(cst_session *s, int64_t steps)
{
    kernel_rows r = {.n = 0};
    json_t *all = json_array();
    cst_kernel_each(s->dev, collect, &r);
    qsort(r.row, (size_t)r.n, sizeof *r.row, by_time);
    for (int i = 0; i < r.n; i++)
        json_array_append_new(all, json_pack("{s:s, s:f, s:f, s:f}", "kernel", r.row[i].name, "ms_per_step", r.row[i].ms / (double)steps,
                                             "launches_per_step", (double)r.row[i].launches / (double)steps, "longest_ms", r.row[i].longest));
    return all;
}

static void print_text(const cst_session *s, json_t *j)
{
    char buf[32];
    printf("%s, batch %lld x %lld tokens x %d, fp32, placement %s\n", s->dev->info.name, (long long)s->o.batch, (long long)s->o.seq, s->o.accum,
           cst_placement_name(s->placement));
    printf("step %.2f ms (median; fastest %.2f, slowest %.2f), %.1f tokens/s, %.1f GFLOP/s\n", json_number_value(json_object_get(j, "ms")),
           json_number_value(json_object_get(j, "ms_min")), json_number_value(json_object_get(j, "ms_max")),
           json_number_value(json_object_get(j, "tokens_per_s")), json_number_value(json_object_get(j, "gflops")));
    printf("device memory %s\n", cst_bytes_text(buf, json_number_value(json_object_get(j, "device_peak_bytes"))));
    if (json_object_get(j, "predicted_ms"))
        printf("predicted %.2f ms, %.2f of it operators; %.1f MiB up and %.1f MiB down a step, %d layers computed again, %d updated on the host\n",
               json_number_value(json_object_get(j, "predicted_ms")), json_number_value(json_object_get(j, "compute_ms")),
               json_number_value(json_object_get(j, "h2d_bytes_step")) / 1048576, json_number_value(json_object_get(j, "d2h_bytes_step")) / 1048576,
               (int)json_integer_value(json_object_get(j, "recomputed_layers")), (int)json_integer_value(json_object_get(j, "host_layers")));
    json_t *k = json_object_get(j, "kernels"), *row;
    size_t i;
    if (k) printf("%-36s %12s %10s %12s   (matrix products apart)\n", "kernel", "ms a step", "launches", "longest, ms");
    json_array_foreach(k, i, row)
        printf("%-36s %12.3f %10.1f %12.3f\n", json_string_value(json_object_get(row, "kernel")), json_number_value(json_object_get(row, "ms_per_step")),
               json_number_value(json_object_get(row, "launches_per_step")), json_number_value(json_object_get(row, "longest_ms")));
}

cst_status cst_cmd_bench_step(const cst_args *a)
{
    cst_session_options o;
    cst_config config;
    cst_session *s = NULL;
    cst_mem_stats stats;
    cst_timing time;
    cst_steps run = {.ms = NULL};
    json_t *j = NULL;
    cst_status st;
    int64_t steps = a->text[CST_OPTION_STEPS] ? cst_args_int(a, CST_OPTION_STEPS) : 10;
    int quiet = cst_args_flag(a, CST_OPTION_QUIET);
    CST_TRY(cst_config_from(&config, a));
    CST_TRY(cst_session_options_from(&o, a, &config));
    o.profile = cst_args_flag(a, CST_OPTION_PROFILE);
    CST_GO(cst_session_open(&s, &o), out);
    CST_GO(cst_steps_run(&run, s, steps, told, &quiet), out);
    cst_status_line(NULL);
    cst_timing_from(&time, run.ms, (int)steps, 1);
    cst_mem_get_stats(s->mem, &stats);
    double tokens = (double)(o.batch * o.seq * o.accum);
    j = json_pack("{s:s, s:s, s:s, s:I, s:I, s:i, s:s, s:s, s:I, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I}", "device", s->dev->info.name, "driver",
                  s->dev->info.driver, "type", "f32", "batch", (json_int_t)o.batch, "seq", (json_int_t)o.seq, "accum", o.accum, "placement",
                  cst_placement_name(s->placement), "recompute", cst_recompute_name(o.recompute), "steps", (json_int_t)steps, "ms", time.ms,
                  "ms_min", time.ms_min, "ms_max", time.ms_max, "tokens_per_s", tokens / (time.ms * 1e-3), "gflops",
                  cst_model_flops_per_token(&config, o.seq) * tokens / (time.ms * 1e6), "device_peak_bytes", (json_int_t)stats.reserved_peak,
                  "host_peak_bytes", (json_int_t)stats.host_peak, "h2d_bytes", (json_int_t)stats.h2d_bytes, "d2h_bytes", (json_int_t)stats.d2h_bytes);
    add_plan(j, s);
    if (o.profile) {
        CST_GO(cst_launch_collect(s->mem), out);
        json_object_set_new(j, "kernels", kernels_json(s, run.warm + steps));
    }
    if (cst_args_flag(a, CST_OPTION_JSON)) {
        json_dumpf(j, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_text(s, j);
    }
out:
    json_decref(j);
    cst_steps_free(&run);
    return cst_session_close(s, st);
}
