/* castor bench plugins: one model, several batches, all of them with each way of placing a step. */
#include <stdlib.h>

#include "bench/plugins.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/plan_trace.h"
#include "device/program.h"

typedef struct sweep {
    cst_session_options o;
    const char *model;       /* as --config says */
    char device[256], driver[128];
    int64_t steps, batch[CST_INTS_MOST];
    cst_plugin plugin[CST_PLUGIN_COUNT];
    int batches, plugins, quiet;
    cst_ceilings ceilings;
    cst_plugin_row row[CST_INTS_MOST * CST_PLUGIN_COUNT];
    int rows;
    int compared;            /* rows whose losses were those of another one */
} sweep;

static int told(void *user, int64_t number, int64_t all, int warm)
{
    const sweep *w = user;
    const cst_plugin_row *r = &w->row[w->rows];
    char line[120];
    snprintf(line, sizeof line, "row %d of %d: batch %lld, %s, step %lld of %lld%s", w->rows + 1, w->batches * w->plugins,
             (long long)r->batch, cst_plugin_name(r->plugin), (long long)number, (long long)all, warm ? " (warm-up)" : "");
    if (!w->quiet) cst_status_line(line);
    return cst_interrupted();
}

static cst_status options(sweep *w, const cst_args *a)
{
    cst_config config;
    CST_TRY(cst_plugins_parse(w->plugin, &w->plugins, a->text[CST_OPTION_PLUGINS]));
    CST_TRY(cst_config_from(&config, a));
    CST_TRY(cst_session_options_from(&w->o, a, &config));
    w->model = a->text[CST_OPTION_CONFIG];
    w->batches = cst_args_ints(w->batch, a, CST_OPTION_BATCHES);
    w->steps = a->text[CST_OPTION_STEPS] ? cst_args_int(a, CST_OPTION_STEPS) : 20;
    w->quiet = cst_args_flag(a, CST_OPTION_QUIET);
    return CST_OK;
}

/* One budget for all rows: what is free on a CPU's machine changes while they run. */
static cst_status look_at_device(sweep *w)
{
    cst_device *dev;
    cst_mem *mem;
    cst_mem_stats stats;
    cst_status st;
    CST_TRY(cst_device_open(&dev, w->o.device, 0));
    CST_GO(cst_gemm_set_mode(dev, w->o.gemm), out);
    CST_GO(cst_mem_create(&mem, dev, w->o.device_mem), out);
    cst_mem_get_stats(mem, &stats);
    CST_GO(cst_mem_free(mem), out);
    w->o.device_mem = stats.budget;
    snprintf(w->device, sizeof w->device, "%s", dev->info.name);
    snprintf(w->driver, sizeof w->driver, "%s", dev->info.driver);
    if (!w->quiet) cst_status_line("the fastest matrix product");
    CST_GO(cst_ceilings_measure(&w->ceilings, dev, stats.budget), out);
out:
    cst_program_save(dev);
    cst_device_close(dev);
    return st;
}

static void log_row(const cst_plugin_row *r)
{
    char what[300], need[32];
    if (r->need) snprintf(what, sizeof what, "needs %s more", cst_bytes_text(need, (double)r->lacking));
    else if (r->missing[0]) snprintf(what, sizeof what, "%s", r->missing);
    else snprintf(what, sizeof what, "%.1f ms a step, %.1f tokens/s", r->step.ms, r->tokens_per_s);
    cst_log(CST_LOG_INFO, "batch %lld, %s: %s", (long long)r->batch, cst_plugin_name(r->plugin), what);
}

static cst_status measure(sweep *w)
{
    for (int b = 0; b < w->batches; b++) {
        const cst_plugin_row *ddp = NULL;
        w->o.batch = w->batch[b];
        for (int p = 0; p < w->plugins; p++) {
            cst_plugin_row *r = &w->row[w->rows];
            *r = (cst_plugin_row){.plugin = w->plugin[p], .batch = w->batch[b]};
            cst_status st = cst_plugin_run(r, w->plugin[p], &w->o, w->steps, &w->ceilings, ddp, told, w);
            w->rows++; /* a failed one is freed as well */
            CST_TRY(st);
            log_row(r);
            if (r->plugin == CST_PLUGIN_DDP) ddp = r;
        }
    }
    return CST_OK;
}

static void print_json(const sweep *w, const char *differ)
{
    json_t *rows = json_array();
    const cst_ceilings *c = &w->ceilings;
    for (int i = 0; i < w->rows; i++) json_array_append_new(rows, cst_plugin_row_json(&w->row[i], c->gemm));
    json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:I, s:i, s:I, s:s, s:I}", "model", w->model, "device", w->device, "driver", w->driver,
                          "type", "f32", "seq", (json_int_t)w->o.seq, "ranks", 1, "steps", (json_int_t)w->steps, "recompute",
                          cst_recompute_name(w->o.recompute), "budget_bytes", (json_int_t)w->o.device_mem);
    json_object_update_new(j, json_pack("{s:f, s:I, s:f, s:f}", "gemm_gflops", c->gemm * 1e-9, "gemm_size", (json_int_t)c->gemm_size,
                                        "up_bytes_per_s", c->up, "down_bytes_per_s", c->down));
    json_object_set_new(j, "losses_compared", json_integer(w->compared));
    json_object_set_new(j, "losses_differ", differ ? json_string(differ) : json_null());
    json_object_set_new(j, "rows", rows);
    json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(j);
}

static void print_head(const sweep *w)
{
    char x[32], y[32];
    const cst_ceilings *c = &w->ceilings;
    printf("%s on %s: %lld tokens a sequence, fp32, ranks: 1, %lld steps after the warm-up\n", w->model, w->device, (long long)w->o.seq,
           (long long)w->steps);
    printf("device memory: a budget of %s; fastest product: ", cst_bytes_text(x, (double)w->o.device_mem));
    if (c->gemm > 0) printf("%s (%lld rows and columns)", cst_thousands_text(x, c->gemm, "FLOP/s"), (long long)c->gemm_size);
    else printf("no room for one");
    if (c->up > 0 && c->down > 0)
        printf("; transfers: %s up, %s down", cst_thousands_text(x, c->up, "B/s"), cst_thousands_text(y, c->down, "B/s"));
    printf("\n%6s  %-14s %10s %10s %10s %10s %14s %8s %11s %11s %11s %11s %8s %6s\n", "batch", "plugin", "samples/s", "tokens/s",
           "ms a step", "first, ms", "model FLOP/s", "of GEMM", "device", "host", "up a step", "down a step", "overlap", "again");
}

static void print_row(const sweep *w, const cst_plugin_row *r)
{
    char text[5][32], of[16] = "-", overlap[16] = "-";
    printf("%6lld  %-14s ", (long long)r->batch, cst_plugin_name(r->plugin));
    if (r->need) {
        printf("doesn't fit: needs %s more (%s)\n", cst_bytes_text(text[0], (double)r->lacking), cst_bytes_text(text[1], (double)r->need));
        return;
    }
    if (r->missing[0]) {
        printf("%s\n", r->missing);
        return;
    }
    if (w->ceilings.gemm > 0) snprintf(of, sizeof of, "%.1f%%", 100 * r->flops / w->ceilings.gemm);
    if (r->overlap >= 0) snprintf(overlap, sizeof overlap, "%.0f%%", 100 * r->overlap);
    printf("%10.2f %10.1f %10.2f %10.1f %14s %8s %11s %11s %11s %11s %8s %6d\n", 1e3 * (double)r->batch / r->step.ms, r->tokens_per_s,
           r->step.ms, r->first_ms, cst_thousands_text(text[0], r->flops, "FLOP/s"), of, cst_bytes_text(text[1], (double)r->device_peak),
           cst_bytes_text(text[2], (double)r->host_peak), cst_bytes_text(text[3], r->up_bytes), cst_bytes_text(text[4], r->down_bytes),
           overlap, r->recomputed);
}

static void print_text(const sweep *w, const char *differ)
{
    print_head(w);
    for (int i = 0; i < w->rows; i++) print_row(w, &w->row[i]);
    if (differ) printf("losses differ: %s\n", differ);
    else if (w->compared) printf("losses: the same bits in all rows of a batch\n");
}

cst_status cst_cmd_bench_plugins(const cst_args *a)
{
    sweep *w = calloc(1, sizeof *w);
    cst_status st;
    char differ[300];
    if (!w) return cst_fail(CST_NO_MEMORY, "bench plugins");
    CST_GO(options(w, a), out);
    CST_GO(look_at_device(w), out);
    CST_GO(measure(w), out);
    cst_status_line(NULL);
    st = cst_plugins_agree(&w->compared, w->row, w->rows);
    snprintf(differ, sizeof differ, "%s", st == CST_OK ? "" : cst_detail());
    if (cst_args_flag(a, CST_OPTION_JSON)) print_json(w, st == CST_OK ? NULL : differ);
    else print_text(w, st == CST_OK ? NULL : differ);
    if (st != CST_OK) st = cst_fail(st, "%s", differ);
out:
    for (int i = 0; i < w->rows; i++) cst_plugin_row_free(&w->row[i]);
    free(w);
    return st;
}
