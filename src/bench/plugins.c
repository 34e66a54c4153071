#include "bench/plugins.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[CST_PLUGIN_COUNT] = {"ddp", "ddp_fp16", "low_level_zero", "gemini"};

const char *cst_plugin_name(cst_plugin p)
{
    return (unsigned)p < CST_PLUGIN_COUNT ? names[p] : "?";
}

static int find(const char *word, size_t length)
{
    for (int i = 0; i < CST_PLUGIN_COUNT; i++)
        if (strlen(names[i]) == length && !strncmp(names[i], word, length)) return i;
    return -1;
}

cst_status cst_plugins_parse(cst_plugin list[CST_PLUGIN_COUNT], int *n, const char *text)
{
    *n = 0;
    for (const char *at = text;; at++) {
        size_t length = strcspn(at, ",");
        int p = find(at, length), known = 0;
        if (p < 0)
            return cst_fail(CST_USAGE, "--plugins: \"%.*s\" is none: ddp, ddp_fp16, low_level_zero and gemini are, separated by commas",
                            (int)(length < 100 ? length : 100), at);
        for (int i = 0; i < *n; i++) known |= (int)list[i] == p;
        if (!known) list[(*n)++] = (cst_plugin)p;
        at += length;
        if (!*at) return CST_OK;
    }
}

/* Not measured, because it doesn't fit. */
static cst_status say_missing(cst_plugin_row *r, cst_status why, const cst_session_options *o)
{
    if (why == CST_NO_MEMORY) {
        snprintf(r->missing, sizeof r->missing, "%.200s", cst_detail());
        return CST_OK;
    }
    CST_TRY(cst_session_need(&r->need, o));
    r->lacking = r->need > o->device_mem ? r->need - o->device_mem : 0;
    snprintf(r->missing, sizeof r->missing, "doesn't fit");
    return CST_OK;
}

static void fill(cst_plugin_row *r, const cst_session *s, const cst_ceilings *c, const cst_plugin_row *ddp)
{
    cst_mem_stats stats;
    const cst_plan *plan = cst_mem_plan(s->mem);
    double tokens = (double)(s->o.batch * s->o.seq), steps = (double)r->run.steps;
    cst_timing_from(&r->step, r->run.ms, (int)r->run.steps, 1);
    cst_mem_get_stats(s->mem, &stats);
    r->first_ms = r->run.first_ms;
    r->tokens_per_s = tokens / (r->step.ms * 1e-3);
    r->flops = cst_model_flops_per_token(&s->o.config, s->o.seq) * r->tokens_per_s;
    r->device_peak = stats.reserved_peak;
    r->host_peak = stats.host_peak;
    r->up_bytes = (double)r->run.up_bytes / steps;
    r->down_bytes = (double)r->run.down_bytes / steps;
    r->recomputed = s->recompute;
    r->comparable = (s->placement != CST_PLACEMENT_STATIC && !s->host_layers) || s->dev->info.exact_divide;
    r->compute_ms = plan ? 1e3 * plan->compute_seconds : ddp && !ddp->missing[0] ? ddp->step.ms : -1;
    int moves = plan ? plan->up_bytes + plan->down_bytes > 0 : s->placement == CST_PLACEMENT_STATIC;
    if (!moves || r->compute_ms < 0 || c->up <= 0 || c->down <= 0) return;
    r->transfer_ms = 1e3 * (r->up_bytes / c->up + r->down_bytes / c->down);
    r->stall_ms = r->step.ms > r->compute_ms ? r->step.ms - r->compute_ms : 0;
    r->overlap = r->stall_ms < r->transfer_ms ? 1 - r->stall_ms / r->transfer_ms : 0;
}

cst_status cst_plugin_run(cst_plugin_row *r, cst_plugin plugin, const cst_session_options *options, int64_t steps, const cst_ceilings *c,
                          const cst_plugin_row *ddp, cst_steps_told told, void *user)
{
    static const cst_placement placement[] = {CST_PLACEMENT_RESIDENT, CST_PLACEMENT_RESIDENT, CST_PLACEMENT_STATIC, CST_PLACEMENT_AUTO};
    cst_session *s = NULL;
    cst_session_options o = *options;
    *r = (cst_plugin_row){.plugin = plugin, .batch = o.batch, .compute_ms = -1, .overlap = -1};
    if (plugin == CST_PLUGIN_DDP_FP16) {
        snprintf(r->missing, sizeof r->missing, "not yet: there is no mixed precision");
        return CST_OK;
    }
    o.placement = placement[plugin];
    o.device_optim = 0;
    cst_status st = cst_session_open(&s, &o);
    if (st == CST_OK) st = cst_steps_run(&r->run, s, steps, told, user);
    if (st == CST_OK) fill(r, s, c, ddp);
    st = cst_session_close(s, st);
    if (st == CST_OVER_BUDGET || st == CST_NO_MEMORY) return say_missing(r, st, &o);
    return st == CST_OK ? st : cst_fail_in(st, "%s, batch %lld", cst_plugin_name(plugin), (long long)o.batch);
}

void cst_plugin_row_free(cst_plugin_row *r)
{
    cst_steps_free(&r->run);
}

static int64_t losses(const cst_plugin_row *r)
{
    return r->missing[0] || !r->comparable ? 0 : r->run.warm + r->run.steps;
}

cst_status cst_plugins_agree(int *compared, const cst_plugin_row *row, int n)
{
    *compared = 0;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i && losses(&row[i]); k++) {
            if (row[k].batch != row[i].batch || !losses(&row[k])) continue;
            int64_t both = losses(&row[i]) < losses(&row[k]) ? losses(&row[i]) : losses(&row[k]);
            for (int64_t t = 0; t < both; t++)
                if (memcmp(&row[i].run.loss[t], &row[k].run.loss[t], sizeof(float)))
                    return cst_fail(CST_STATE, "batch %lld, step %lld: loss %.9g with %s, %.9g with %s; where tensors are must not "
                                    "change it", (long long)row[i].batch, (long long)t + 1, (double)row[k].run.loss[t],
                                    cst_plugin_name(row[k].plugin), (double)row[i].run.loss[t], cst_plugin_name(row[i].plugin));
            *compared += 1;
            break; /* being the same goes from one to the next */
        }
    return CST_OK;
}

json_t *cst_plugin_row_json(const cst_plugin_row *r, double gemm)
{
    json_t *j = json_pack("{s:s, s:I}", "plugin", cst_plugin_name(r->plugin), "batch", (json_int_t)r->batch);
    if (r->missing[0]) {
        json_object_set_new(j, "missing", json_string(r->missing));
        if (r->need)
            json_object_update_new(j, json_pack("{s:I, s:I}", "need_bytes", (json_int_t)r->need, "lacking_bytes", (json_int_t)r->lacking));
        return j;
    }
    json_object_update_new(j, json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "ms", r->step.ms, "ms_min", r->step.ms_min,
                                        "ms_max", r->step.ms_max, "first_ms", r->first_ms, "samples_per_s",
                                        1e3 * (double)r->batch / r->step.ms, "tokens_per_s", r->tokens_per_s, "gflops", r->flops * 1e-9));
    json_object_update_new(j, json_pack("{s:I, s:I, s:f, s:f, s:i}", "device_peak_bytes", (json_int_t)r->device_peak, "host_peak_bytes",
                                        (json_int_t)r->host_peak, "up_bytes_step", r->up_bytes, "down_bytes_step", r->down_bytes,
                                        "recomputed_layers", r->recomputed));
    if (gemm > 0) json_object_set_new(j, "percent_of_gemm", json_real(100 * r->flops / gemm));
    if (r->overlap >= 0)
        json_object_update_new(j, json_pack("{s:f, s:f, s:f, s:f}", "overlap_percent", 100 * r->overlap, "transfer_ms", r->transfer_ms,
                                            "stall_ms", r->stall_ms, "operators_ms", r->compute_ms));
    json_t *list = json_array();
    for (int64_t t = 0; t < r->run.warm + r->run.steps; t++) json_array_append_new(list, json_real((double)r->run.loss[t]));
    json_object_update_new(j, json_pack("{s:I, s:o}", "warm_up_steps", (json_int_t)r->run.warm, "losses", list));
    return j;
}
