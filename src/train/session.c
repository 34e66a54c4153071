#include "train/session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "op/adamw.h"
#include "op/cross_entropy.h"
#include "device/program.h"
#include "gemm/packed.h"
#include "op/fill.h"
#include "selftest/selftest.h"

#define MIB 1048576.0
#define NORM_ARRIVES 1e-4 /* s until the host knows that the norm is there */
#define HOST_SHARE 0.6    /* of its rate alone that the host keeps while transfers use its memory in both directions */
#define HOST_MARGIN ((uint64_t)1 << 30) /* bytes to leave to the machine */
#define WORTH_IT 0.97     /* the host updates where that makes the predicted step so much shorter: prediction is no better than that */

const char *cst_placement_name(cst_placement p)
{
    static const char *const name[] = {"auto", "resident", "static"};
    return (unsigned)p < 3 ? name[p] : "?";
}

const char *cst_recompute_name(cst_recompute r)
{
    static const char *const name[] = {"none", "layer", "auto"};
    return (unsigned)r < 3 ? name[r] : "?";
}

static void take_down(cst_session *s)
{
    cst_optim_free(s->optim);
    cst_batch_free(s->batch);
    cst_tensor_free(s->loss);
    cst_tensor_free(s->losses);
    cst_model_free(s->model);
    s->optim = NULL;
    s->batch = NULL;
    s->loss = s->losses = NULL;
    s->model = NULL;
}

static int wants_packed(const cst_session *s, cst_placement placement)
{
    if (s->dev->group != 1 || s->o.gemm == CST_GEMM_MODE_CLBLAST || s->o.pack == CST_PACK_NEVER) return 0;
    return s->o.pack == CST_PACK_ALWAYS || (s->o.accum >= 4 && placement == CST_PLACEMENT_RESIDENT);
}

/* The matrices that backward multiplies gradients with: all but the table of positions. */
static cst_status keep_packed(cst_model *M)
{
    for (int i = 0; i < M->params; i++)
        if (M->param[i].rank == 2 && M->param[i].role != CST_ROLE_EMBED_POSITIONS) CST_TRY(cst_gemm_keep_packed(M->w[i]));
    return CST_OK;
}

static cst_status set_up(cst_session *s, cst_placement placement)
{
    const cst_session_options *o = &s->o;
    int64_t n = o->batch * o->seq, one = 1;
    cst_optim_options optim = o->optim;
    optim.host_share = placement == CST_PLACEMENT_STATIC ? 1 - o->device_optim : 0;
    optim.host_layers = s->host_layers;
    CST_TRY(cst_model_create(&s->model, s->mem, &o->config, !o->forward_only, o->frozen));
    if (s->packed) CST_TRY(keep_packed(s->model));
    if (o->with_optim) CST_TRY(cst_optim_create(&s->optim, s->model, &optim));
    /* The host is at most two steps ahead, as a step's loss is read when the next one has been enqueued. */
    CST_TRY(cst_batch_create(&s->batch, s->mem, o->batch, o->seq, 2 * o->accum));
    CST_TRY(cst_tensor_create(&s->losses, s->mem, CST_DATA, CST_F32, 1, &one, "loss of the step"));
    CST_TRY(cst_tensor_create(&s->loss, s->mem, CST_DATA, CST_F32, 1, &n, "loss of each token"));
    cst_tensor_fix(s->losses);
    cst_tensor_fix(s->loss);
    CST_TRY(cst_tensor_place(s->losses));
    return cst_tensor_place(s->loss);
}

/* Set up and run a step of `micros` micro-batches without the device, so that the manager learns what it needs. */
static cst_status dry_run(cst_session *s, cst_placement placement, int recompute, int micros)
{
    cst_status st = CST_OK;
    CST_TRY(cst_mem_plan_begin(s->mem));
    s->recompute = recompute;
    CST_TRY(set_up(s, placement));
    if (!s->o.forward_only) {
        CST_TRY(cst_session_begin(s));
        for (int i = 0; i < micros; i++) CST_TRY(cst_session_micro(s, (uint64_t)i));
        if (s->optim) CST_TRY(cst_optim_step(s->optim, 0, 1));
    }
    CST_TRY(cst_session_evaluate(s));
    s->planned = cst_mem_plan_bytes(s->mem);
    return st;
}

static int layers_of(const cst_session *s, cst_recompute r)
{
    return r == CST_RECOMPUTE_LAYER ? (int)s->o.config.num_hidden_layers : 0;
}

/* OVER_BUDGET with what would work. */
static cst_status explain(cst_session *s, uint64_t need)
{
    cst_mem_stats stats;
    uint64_t less = 0;
    char hint[200] = "";
    int layers = layers_of(s, CST_RECOMPUTE_LAYER);
    cst_mem_get_stats(s->mem, &stats);
    take_down(s);
    if (!s->o.forward_only && s->o.placement != CST_PLACEMENT_AUTO) {
        if (dry_run(s, CST_PLACEMENT_RESIDENT, 0, s->o.accum) == CST_OK && cst_mem_plan_least(&less, s->mem) == CST_OK && less < need)
            snprintf(hint, sizeof hint, "; with --placement auto %.0f MiB do", less / MIB + 1);
    } else if (!s->o.forward_only && s->o.recompute == CST_RECOMPUTE_NONE) {
        if (dry_run(s, CST_PLACEMENT_RESIDENT, layers, s->o.accum) == CST_OK && cst_mem_plan_least(&less, s->mem) == CST_OK && less < need)
            snprintf(hint, sizeof hint, "; with --recompute layer %.0f MiB do", less / MIB + 1);
    }
    take_down(s);
    return cst_fail(CST_OVER_BUDGET,
                    "%.1f MiB of device memory are too little: the smallest --device-mem for batch %lld of %lld tokens is %llu bytes "
                    "(%.1f MiB, --placement %s)%s; a smaller --batch or --%s needs less",
                    stats.budget / MIB, (long long)s->o.batch, (long long)s->o.seq, (unsigned long long)need, need / MIB,
                    cst_placement_name(s->o.placement), hint, s->o.forward_only ? "length" : "seq");
}

/* All on the device, or its static part: exactly what the step needs. *fits 0: more than the budget. */
static cst_status place_fixed(cst_session *s, cst_placement p, int *fits)
{
    cst_mem_stats stats;
    int layers = layers_of(s, s->o.recompute), micros = s->o.accum < 2 ? s->o.accum : 2;
    s->packed = wants_packed(s, p);
    CST_TRY(dry_run(s, p, layers, micros));
    cst_mem_get_stats(s->mem, &stats);
    if (s->planned > stats.budget && s->packed && s->o.pack == CST_PACK_AUTO) {
        take_down(s);
        s->packed = 0;
        CST_TRY(dry_run(s, p, layers, micros));
    }
    *fits = s->planned <= stats.budget;
    if (!*fits) return CST_OK;
    s->placement = p;
    cst_log(CST_LOG_DEBUG, "placement %s%s: %.1f MiB on the device, budget %.1f MiB", cst_placement_name(p), s->packed ? ", weights packed" : "",
            s->planned / MIB, stats.budget / MIB);
    return cst_mem_plan_commit(s->mem);
}

/* --- what migrates: how much is computed again, and what the host updates, is a question of predicted time --------- */

/* When the first operator begins that uses a tensor of this name, if nothing waits; 0: none does. */
static double first_use(const cst_trace *t, const char *name)
{
    double now = 0;
    int x = 0;
    while (x < t->tensors && strcmp(t->tensor[x].name, name)) x++;
    for (int k = 0; k < t->moments; now += cst_trace_seconds(t, k++))
        for (int u = t->moment[k].first; u < t->moment[k].first + t->moment[k].uses; u++)
            if (t->use[u].tensor == x) return now;
    return 0;
}

/* Seconds by which the host's updates come later than the operators that wait for them, when the device never waits. The
 * host begins when the norm is known, which is when the iteration begins; a layer is enqueued when the one that is
 * CST_OPTIM_AHEAD further on is updated. */
static double host_is_late(const cst_session *s, uint64_t *bytes)
{
    const cst_trace *t = cst_mem_trace(s->mem);
    const cst_model *M = s->model;
    double now = NORM_ARRIVES, late = 0, needed = 0;
    *bytes = 0;
    for (int i = 0, layer = -1; i < M->params; i++) {
        if (!cst_optim_on_host(s->optim, i)) continue;
        now += (double)M->param[i].count / s->host_rate;
        *bytes += M->w[i]->bytes;
        int before = M->param[i].layer - CST_OPTIM_AHEAD;
        if (M->param[i].layer != layer && before >= 0)
            needed = first_use(t, M->w[cst_param_id(&M->config, CST_ROLE_K_WEIGHT, before)]->name);
        layer = M->param[i].layer;
        if (now - needed > late) late = now - needed;
    }
    return late;
}

/* Predicted seconds of a step with so many layers computed again and updated on the host; infinite when that doesn't fit. */
static cst_status predict(cst_session *s, int layers, int host_layers, double *seconds)
{
    cst_plan *plan;
    uint64_t bytes;
    take_down(s);
    s->host_layers = host_layers;
    CST_TRY(dry_run(s, CST_PLACEMENT_RESIDENT, layers, s->o.accum));
    cst_status st = cst_mem_plan_try(&plan, s->mem);
    *seconds = INFINITY;
    if (st != CST_OK) return st == CST_OVER_BUDGET ? CST_OK : st;
    *seconds = plan->seconds;
    if (host_layers && s->host_rate > 0) {
        const cst_rates *r = &cst_mem_trace(s->mem)->rates;
        double late = host_is_late(s, &bytes), down = (double)(plan->down_bytes + bytes) / (r->down * r->both);
        uint64_t host = plan->host_bytes + 4 * bytes, left = cst_host_available();
        *seconds = fmax(*seconds + late, down);
        if ((s->o.host_mem && host > s->o.host_mem) || (left && host + HOST_MARGIN > left)) *seconds = INFINITY;
    }
    cst_plan_free(plan);
    return CST_OK;
}

/* The best of 0 to `all` layers in *layers (s->recompute or s->host_layers, as `host` says), asked in halves: from quarters
 * on (step 0) or from what it is now on. */
static cst_status search(cst_session *s, int host, int all, int step, int best[2], double *least)
{
    double seconds;
    int k[2] = {best[0], best[1]};
    for (int i = 0; i <= 4 && !step; i++) {
        k[host] = all * i / 4;
        CST_TRY(predict(s, k[0], k[1], &seconds));
        if (seconds < *least) best[host] = k[host], *least = seconds;
    }
    for (int d = step ? step : all / 8, at = best[host]; d >= 1; d /= 2, at = best[host])
        for (k[host] = at - d; k[host] <= at + d; k[host] += 2 * d) {
            if (k[host] < 0 || k[host] > all) continue;
            CST_TRY(predict(s, k[0], k[1], &seconds));
            if (seconds < *least) best[host] = k[host], *least = seconds;
        }
    return CST_OK;
}

/* May the host update at all? Placement never changes numbers; and a device that computes in host memory has no use for it. */
static int host_may(const cst_session *s)
{
    return s->o.with_optim && s->o.host_layers >= 0 && s->dev->info.exact_divide && !s->dev->is_cpu && !s->dev->info.unified;
}

/* Into s->recompute and s->host_layers. */
static cst_status choose_places(cst_session *s)
{
    int all = layers_of(s, CST_RECOMPUTE_LAYER), again = s->o.recompute == CST_RECOMPUTE_AUTO && !s->o.forward_only;
    int given = s->o.host_layers > 0 && s->o.with_optim ? s->o.host_layers : 0;
    int best[2] = {layers_of(s, s->o.recompute), given < all ? given : all};
    int may = host_may(s) && !given;
    double least = INFINITY;
    if (again) {
        CST_TRY(search(s, 0, all, 0, best, &least));
        if (least == INFINITY) best[0] = all;
    }
    if (may) {
        if (!again) CST_TRY(predict(s, best[0], best[1], &least));
        int other[2] = {best[0], 0};
        double with = least;
        s->host_rate = HOST_SHARE * cst_adamw_host_rate(s->mem);
        if (s->host_rate > 0) CST_TRY(search(s, 1, all, 0, other, &with));
        if (again && other[1]) CST_TRY(search(s, 0, all, all / 8 ? all / 8 : 1, other, &with));
        if (with < WORTH_IT * least) memcpy(best, other, sizeof best);
    }
    s->recompute = best[0];
    s->host_layers = best[1];
    return CST_OK;
}

static cst_status place_migrating(cst_session *s)
{
    s->packed = 0;
    cst_mem_migrate(s->mem, s->o.host_mem, s->o.pinned_mem ? s->o.pinned_mem : UINT64_MAX);
    CST_TRY(choose_places(s));
    take_down(s);
    CST_TRY(dry_run(s, CST_PLACEMENT_RESIDENT, s->recompute, s->o.accum));
    cst_status st = cst_mem_plan_commit(s->mem);
    if (st == CST_OVER_BUDGET) {
        uint64_t need;
        CST_TRY(cst_mem_plan_least(&need, s->mem));
        return explain(s, need);
    }
    CST_TRY(st);
    s->placement = CST_PLACEMENT_AUTO;
    const cst_plan *plan = cst_mem_plan(s->mem);
    s->planned = plan->bytes + cst_mem_trace(s->mem)->scratch;
    cst_log(CST_LOG_DEBUG,
            "placement auto: %.1f MiB on the device, %.1f MiB up and %.1f MiB down a step, of %d layers %d computed again, %d updated on the host",
            s->planned / MIB, (double)plan->up_bytes / MIB, (double)plan->down_bytes / MIB, layers_of(s, CST_RECOMPUTE_LAYER), s->recompute,
            s->host_layers);
    return CST_OK;
}

static cst_status place(cst_session *s)
{
    int fits;
    cst_placement p = s->o.placement == CST_PLACEMENT_STATIC && s->o.with_optim ? CST_PLACEMENT_STATIC : CST_PLACEMENT_RESIDENT;
    CST_TRY(place_fixed(s, p, &fits));
    if (fits) return CST_OK;
    if (s->o.placement != CST_PLACEMENT_AUTO) return explain(s, s->planned);
    return place_migrating(s);
}

/* Before anything is planned, so that nothing is chosen anew. Another device has other engines: then it can't be helped. */
static cst_status pin_products(cst_session *s)
{
    const char *was = json_string_value(json_object_get(s->o.products, "device"));
    const char *driver = json_string_value(json_object_get(s->o.products, "driver"));
    if (!was || strcmp(was, s->dev->info.name)) {
        cst_log(CST_LOG_WARN, "the run was on \"%s\" so far, now it is on \"%s\": numbers differ in their last digits", was ? was : "?",
                s->dev->info.name);
        return CST_OK;
    }
    if (!driver || strcmp(driver, s->dev->info.driver))
        cst_log(CST_LOG_WARN, "the run was under driver \"%s\" so far, now it is \"%s\": numbers may differ", driver ? driver : "?",
                s->dev->info.driver);
    return cst_gemm_choices_pin(s->dev, s->o.products, "the checkpoint's \"matrix_products\"");
}

static cst_status check(const cst_session_options *o)
{
    if (o->batch < 1 || o->seq < 1 || o->accum < 1) return cst_fail(CST_USAGE, "batch, seq and accum must be 1 or more");
    if (o->seq <= o->config.max_position_embeddings) return CST_OK;
    return cst_fail(CST_USAGE, "sequences of %lld tokens (--seq): the model has positions for %lld tokens", (long long)o->seq,
                    (long long)o->config.max_position_embeddings);
}

static cst_status self_test(cst_device *dev, const cst_session_options *o)
{
    cst_self_test_use use = {.columns = o->config.hidden_size, .heads = o->config.num_attention_heads, .activation = o->config.activation_function,
                             .dropout = o->dropout > 0, .train = o->with_optim};
    return cst_self_test(dev, &use);
}

cst_status cst_session_open(cst_session **out, const cst_session_options *o)
{
    cst_session *s = calloc(1, sizeof *s);
    cst_status st;
    if (!s) return cst_fail(CST_NO_MEMORY, "session");
    s->o = *o;
    CST_GO(check(o), fail);
    CST_GO(cst_device_open(&s->dev, o->device, o->profile), fail);
    CST_GO(self_test(s->dev, o), fail);
    CST_GO(cst_gemm_set_mode(s->dev, o->gemm), fail);
    if (o->products) CST_GO(pin_products(s), fail);
    CST_GO(cst_mem_create(&s->mem, s->dev, o->device_mem), fail);
    CST_GO(place(s), fail);
    *out = s;
    return CST_OK;
fail:
    return cst_session_close(s, st);
}

cst_status cst_session_need(uint64_t *bytes, const cst_session_options *o)
{
    cst_session *s = calloc(1, sizeof *s);
    cst_status st;
    if (!s) return cst_fail(CST_NO_MEMORY, "session");
    s->o = *o;
    int migrates = o->placement == CST_PLACEMENT_AUTO;
    cst_placement p = o->placement == CST_PLACEMENT_STATIC && o->with_optim ? CST_PLACEMENT_STATIC : CST_PLACEMENT_RESIDENT;
    int layers = layers_of(s, migrates && o->recompute == CST_RECOMPUTE_AUTO ? CST_RECOMPUTE_LAYER : o->recompute);
    CST_GO(check(o), out);
    CST_GO(cst_device_open(&s->dev, o->device, 0), out);
    CST_GO(cst_gemm_set_mode(s->dev, o->gemm), out);
    CST_GO(cst_mem_create(&s->mem, s->dev, o->device_mem), out);
    CST_GO(dry_run(s, p, layers, migrates || o->accum < 2 ? o->accum : 2), out);
    *bytes = s->planned;
    if (migrates) CST_GO(cst_mem_plan_least(bytes, s->mem), out);
out:
    return cst_session_close(s, st);
}

cst_status cst_session_trace(cst_trace **out, const cst_session_options *o)
{
    cst_session *s = calloc(1, sizeof *s);
    cst_status st;
    if (!s) return cst_fail(CST_NO_MEMORY, "session");
    s->o = *o;
    s->o.pack = CST_PACK_NEVER;
    CST_GO(check(o), fail);
    if (o->device) CST_GO(cst_device_open(&s->dev, o->device, 0), fail);
    else CST_GO(cst_device_imagine(&s->dev, (uint64_t)1 << 50), fail);
    CST_GO(cst_gemm_set_mode(s->dev, o->device ? o->gemm : CST_GEMM_MODE_CLBLAST), fail);
    CST_GO(cst_mem_create(&s->mem, s->dev, o->device ? 0 : (uint64_t)1 << 49), fail);
    s->host_layers = o->host_layers > 0 ? o->host_layers : 0;
    CST_GO(dry_run(s, CST_PLACEMENT_RESIDENT, layers_of(s, o->recompute), o->accum), fail);
    CST_GO(cst_trace_copy(out, cst_mem_trace(s->mem)), fail);
    snprintf((*out)->about, sizeof (*out)->about, "%lld layers of %lld, batch %lld of %lld tokens, %d micro-batches, recompute %s",
             (long long)o->config.num_hidden_layers, (long long)o->config.hidden_size, (long long)o->batch, (long long)o->seq, o->accum,
             cst_recompute_name(o->recompute));
fail:
    return cst_session_close(s, st);
}

cst_status cst_session_start(cst_session *s)
{
    return s->optim ? cst_optim_start(s->optim) : CST_OK;
}

cst_status cst_session_close(cst_session *s, cst_status st)
{
    char why[2048];
    if (!s) return st;
    snprintf(why, sizeof why, "%s", cst_detail());
    if (s->mem) cst_mem_finish(s->mem);
    take_down(s);
    cst_status books = cst_mem_free(s->mem);
    if (s->dev) cst_program_save(s->dev);
    cst_device_close(s->dev);
    free(s);
    return st == CST_OK ? books : cst_fail(st, "%s", why);
}

cst_status cst_session_begin(cst_session *s)
{
    s->micros = 0;
    CST_TRY(cst_mem_step(s->mem));
    return cst_fill(s->mem, s->losses, 0);
}

/* Without an optimizer gradients are what the step is for: the plan shall not take them for worthless at its end. */
static cst_status keep_gradients(cst_session *s)
{
    for (int i = 0; i < s->model->params; i++) {
        if (!s->model->g[i]) continue;
        cst_use use = {s->model->g[i], CST_READ, NULL, 0};
        CST_TRY(cst_mem_acquire(s->mem, "gradients", &use, 1, NULL, NULL));
        cst_mem_release(s->mem, &use, 1);
    }
    return cst_mem_step_end(s->mem);
}

cst_status cst_session_micro(cst_session *s, uint64_t index)
{
    int64_t targets = s->batch->count * s->o.accum;
    float scale = targets ? (float)(1.0 / (double)targets) : 0;
    cst_pass p = {.dropout = (float)s->o.dropout, .seed = s->o.seed, .step = (uint32_t)index, .recompute = s->recompute, .scale = scale,
                  .accumulate = s->micros > 0};
    p.user = s->optim;
    if (s->optim && !s->micros) p.before = cst_optim_before;
    if (s->optim && s->micros + 1 == s->o.accum && !s->keeps_gradients) p.complete = cst_optim_complete;
    CST_TRY(cst_model_train(s->model, s->batch, &p, s->loss));
    s->micros++;
    CST_TRY(cst_loss_sum(s->mem, s->losses, 0, s->loss, scale));
    return !s->optim && s->micros == s->o.accum ? keep_gradients(s) : CST_OK;
}

cst_status cst_session_settle(cst_session *s)
{
    return s->optim ? cst_optim_settle(s->optim) : CST_OK;
}

cst_status cst_session_evaluate(cst_session *s)
{
    CST_TRY(cst_session_settle(s));
    if (s->o.forward_only) CST_TRY(cst_mem_step(s->mem)); /* else it is between two steps */
    CST_TRY(cst_model_evaluate(s->model, s->batch, s->loss));
    return s->o.forward_only ? cst_mem_step_end(s->mem) : CST_OK;
}
