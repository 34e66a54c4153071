/* castor bench step: time of a training step on random tokens. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "cli/cli.h"
#include "bench/measure.h"
#include "device/program.h"
#include "memory/launch.h"

/* One whole step; *loss has arrived when *done is. */
static cst_status one_step(cst_session *s, int32_t *ids, int64_t t, float *loss, cl_event *done)
{
    int64_t n = s->o.batch * s->o.seq;
    CST_TRY(cst_session_begin(s));
    for (int64_t a = 0; a < s->o.accum; a++) {
        uint64_t index = (uint64_t)(t * s->o.accum + a);
        for (int64_t i = 0; i < n; i++)
            ids[i] = (int32_t)(cst_random_u64(s->o.seed, index + 1, (uint64_t)i) % (uint64_t)s->o.config.vocab_size);
        CST_TRY(cst_batch_set(s->batch, ids, NULL, s->o.config.vocab_size));
        CST_TRY(cst_session_micro(s, index));
    }
    CST_TRY(cst_optim_step(s->optim, 1e-5, t + 1));
    return cst_tensor_read_async(s->losses, 0, loss, sizeof *loss, done);
}

/* Steps as training runs them: one is enqueued while the one before it is computed. ms[t]: from the end of step t - 1 to
 * that of step t, by the device's clock where it has one: the host may be waiting elsewhere when a step ends. */
static cst_status run_steps(cst_session *s, int32_t *ids, double *ms, int64_t warm, int64_t steps, int quiet)
{
    float loss[2];
    cl_event done[2] = {NULL, NULL};
    double last = cst_now();
    uint64_t end = 0, last_end = 0;
    cst_status st = CST_OK;
    for (int64_t t = 0; t <= warm + steps && st == CST_OK; t++) {
        char line[80];
        snprintf(line, sizeof line, "step %lld of %lld%s", (long long)(t + 1), (long long)(warm + steps), t < warm ? " (warm-up)" : "");
        if (!quiet && t < warm + steps) cst_status_line(line);
        if (t < warm + steps) CST_GO(one_step(s, ids, t, &loss[t % 2], &done[t % 2]), out);
        if (t < warm) CST_GO(cst_mem_wait_time(&done[t % 2], &last_end), out);
        if (t < warm) last = cst_now();
        if (!t || t - 1 < warm) continue;
        CST_GO(cst_mem_wait_time(&done[(t - 1) % 2], &end), out);
        ms[t - 1 - warm] = end > last_end && last_end ? 1e-6 * (double)(end - last_end) : (cst_now() - last) * 1e3;
        last = cst_now();
        last_end = end;
        if (cst_interrupted()) st = cst_fail(CST_INTERRUPTED, "bench step");
    }
out:
    for (int i = 0; i < 2; i++) cst_mem_wait(&done[i]);
    return st;
}

/* What the plan promised, beside what was measured. */
static void add_plan(json_t *j, const cst_session *s)
{
    const cst_plan *p = cst_mem_plan(s->mem);
    cst_mem_stats stats;
    cst_mem_get_stats(s->mem, &stats);
    if (!p) return;
    json_object_update_new(j, json_pack("{s:I, s:I, s:f, s:f, s:f, s:i, s:I, s:I, s:I}", "h2d_bytes_step", (json_int_t)p->up_bytes, "d2h_bytes_step",
                                        (json_int_t)p->down_bytes, "predicted_ms", 1e3 * p->seconds, "compute_ms", 1e3 * p->compute_seconds,
                                        "stall_ms", 1e3 * p->stall_seconds, "recomputed_layers", s->recompute, "moves", (json_int_t)stats.moves,
                                        "planned_moves", (json_int_t)stats.planned_moves, "strays", (json_int_t)stats.strays));
}

typedef struct kernel_row {
    const char *name;
    double ms;
    unsigned long long launches;
} kernel_row;

typedef struct kernel_rows {
    kernel_row row[128];
    int n;
} kernel_rows;

static void collect(const cst_kernel *k, void *user)
{
    kernel_rows *r = user;
    if (k->launches && r->n < 128) r->row[r->n++] = (kernel_row){k->name, (double)k->time_ns * 1e-6, (unsigned long long)k->launches};
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
        json_array_append_new(all, json_pack("{s:s, s:f, s:f}", "kernel", r.row[i].name, "ms_per_step", r.row[i].ms / (double)steps,
                                             "launches_per_step", (double)r.row[i].launches / (double)steps));
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
        printf("predicted %.2f ms, %.2f of it operators; %.1f MiB up and %.1f MiB down a step, %d layers computed again\n",
               json_number_value(json_object_get(j, "predicted_ms")), json_number_value(json_object_get(j, "compute_ms")),
               json_number_value(json_object_get(j, "h2d_bytes_step")) / 1048576, json_number_value(json_object_get(j, "d2h_bytes_step")) / 1048576,
               (int)json_integer_value(json_object_get(j, "recomputed_layers")));
    json_t *k = json_object_get(j, "kernels"), *row;
    size_t i;
    if (k) printf("%-36s %12s %10s   (matrix products apart)\n", "kernel", "ms a step", "launches");
    json_array_foreach(k, i, row)
        printf("%-36s %12.3f %10.1f\n", json_string_value(json_object_get(row, "kernel")), json_number_value(json_object_get(row, "ms_per_step")),
               json_number_value(json_object_get(row, "launches_per_step")));
}

cst_status cst_cmd_bench_step(const cst_args *a)
{
    cst_session_options o;
    cst_config config;
    cst_session *s = NULL;
    cst_mem_stats stats;
    cst_timing time;
    int32_t *ids = NULL;
    double *ms = NULL;
    json_t *j = NULL;
    cst_status st;
    int64_t steps = a->text[CST_OPTION_STEPS] ? cst_args_int(a, CST_OPTION_STEPS) : 10, warm = 2;
    CST_TRY(cst_config_from(&config, a));
    CST_TRY(cst_session_options_from(&o, a, &config));
    o.profile = cst_args_flag(a, CST_OPTION_PROFILE);
    CST_GO(cst_session_open(&s, &o), out);
    ids = malloc((size_t)(o.batch * o.seq) * sizeof *ids);
    ms = malloc((size_t)steps * sizeof *ms);
    if (!ids || !ms) {
        st = cst_fail(CST_NO_MEMORY, "bench");
        goto out;
    }
    CST_GO(cst_model_init(s->model, o.seed), out);
    CST_GO(cst_session_start(s), out);
    if (cst_mem_plan(s->mem)) warm += 3; /* the second and third are measured, then it plans again */
    CST_GO(run_steps(s, ids, ms, warm, steps, cst_args_flag(a, CST_OPTION_QUIET)), out);
    cst_status_line(NULL);
    cst_timing_from(&time, ms, (int)steps, 1);
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
        json_object_set_new(j, "kernels", kernels_json(s, warm + steps));
    }
    if (cst_args_flag(a, CST_OPTION_JSON)) {
        json_dumpf(j, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_text(s, j);
    }
out:
    json_decref(j);
    free(ids);
    free(ms);
    return cst_session_close(s, st);
}
