#include "train/session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/host_memory.h"
#include "base/log.h"
#include "op/adamw.h"
#include "op/cross_entropy.h"
#include "device/program.h"
#include "gemm/packed.h"
#include "memory/recompute.h"
#include "op/fill.h"
#include "selftest/selftest.h"
#include "train/host_time.h"
#include "train/rehearsal.h"

#define MIB 1048576.0
#define HOST_MARGIN ((uint64_t)1 << 30) /* bytes to leave to the machine */
#define HOST_BOOKS 32     /* one byte in so many goes to page tables and the driver's lists of what is pinned: 2 % seen at 250 GB */
#define KNOWN 0.9         /* part of a step's predicted time from operators measured at similar work, below which they are measured */
#define WORTH_MEASURING 0.05 /* s: a shorter step's operators aren't */
#define TOO_LONG 15       /* s of a step of two layers, without head: then a rehearsal would take minutes */
#define WORTH_IT 0.97     /* the host updates where that makes the predicted step so much shorter */

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

/* Is it a static placement with parameters that come and go? */
static int moves_statically(const cst_session *s, cst_placement p)
{
    return p == CST_PLACEMENT_STATIC && s->o.away_params > 0;
}

static int wants_packed(const cst_session *s, cst_placement placement)
{
    if (s->dev->group != 1 || moves_statically(s, placement) || s->o.gemm == CST_GEMM_MODE_CLBLAST || s->o.pack == CST_PACK_NEVER) return 0;
    return s->o.pack == CST_PACK_ALWAYS || (s->o.accum >= 4 && placement == CST_PLACEMENT_RESIDENT);
}

/* The matrices that backward multiplies gradients with: all but the table of positions. */
static cst_status keep_packed(cst_model *M)
{
    for (int i = 0; i < M->params; i++)
        if (M->param[i].rank == 2 && M->param[i].role != CST_ROLE_EMBED_POSITIONS) CST_TRY(cst_gemm_keep_packed(M->w[i]));
    return CST_OK;
}

/* With placement STATIC: parameters that come for their uses only. What the optimizer on the host reads when a step's operators
 * are done must be left where it is. */
static void keep_away(cst_session *s)
{
    cst_model *M = s->model;
    for (int i = 0; i < M->params; i++) {
        if (cst_model_among_first(M, i, s->o.away_params)) cst_tensor_keep_away(M->w[i]);
        if (cst_model_among_first(M, i, 1 - s->o.device_optim)) cst_tensor_fix(M->g[i]);
    }
}

static cst_status set_up(cst_session *s, cst_placement placement)
{
    const cst_session_options *o = &s->o;
    int64_t n = o->batch * o->seq, one = 1;
    cst_optim_options optim = o->optim;
    optim.host_share = placement == CST_PLACEMENT_STATIC ? 1 - o->device_optim : 0;
    optim.host_layers = s->host_layers;
    CST_TRY(cst_model_create(&s->model, s->mem, &o->config, !o->forward_only, o->frozen));
    if (moves_statically(s, placement)) keep_away(s);
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
        CST_TRY(cst_session_begin(s, 0, 1));
        for (int i = 0; i < micros; i++) CST_TRY(cst_session_micro(s, (uint64_t)i));
        if (s->optim) CST_TRY(cst_optim_step(s->optim));
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
                    stats.budget / MIB, (long long)s->o.batch, (long long)s->o.seq, (unsigned long long)need, ceil(10 * (double)need / MIB) / 10,
                    cst_placement_name(s->o.placement), hint, s->o.forward_only ? "length" : "seq");
}

static cst_placement fixed_placement(const cst_session *s)
{
    return s->o.placement == CST_PLACEMENT_STATIC && s->o.with_optim ? CST_PLACEMENT_STATIC : CST_PLACEMENT_RESIDENT;
}

/* All on the device, or its static part: what the step needs. *fits 0: more than the budget. */
static cst_status decide_fixed(cst_session *s, cst_placement p, int *fits)
{
    cst_mem_stats stats;
    int layers = layers_of(s, s->o.recompute), moves = moves_statically(s, p), micros = s->o.accum < 2 || moves ? s->o.accum : 2;
    s->packed = wants_packed(s, p);
    CST_TRY(dry_run(s, p, layers, micros));
    cst_mem_get_stats(s->mem, &stats);
    if (s->planned > stats.budget && s->packed && s->o.pack == CST_PACK_AUTO) {
        take_down(s);
        s->packed = 0;
        CST_TRY(dry_run(s, p, layers, micros));
    }
    if (moves) {
        cst_mem_migrate(s->mem, s->o.host_mem, s->o.pinned_mem ? s->o.pinned_mem : UINT64_MAX);
        CST_TRY(cst_mem_plan_least(&s->planned, s->mem));
    }
    *fits = s->planned <= stats.budget;
    if (*fits) s->placement = p;
    return CST_OK;
}

/* --- what migrates: how much is computed again, and what the host updates, is a question of predicted time --------- */

uint64_t cst_session_host_updates(const cst_session *s)
{
    uint64_t bytes = 0;
    for (int i = 0; s->optim && i < s->model->params; i++)
        if (cst_optim_on_host(s->optim, i)) bytes += s->model->w[i]->bytes;
    return bytes;
}

double cst_session_seconds(const cst_session *s)
{
    const cst_plan *plan = cst_mem_plan(s->mem);
    double seconds;
    return plan && cst_host_time(&seconds, s, plan) == CST_OK ? seconds : 0;
}

/* cst_mem_judge: there must be room for the host's state as well. */
static double with_host(void *user, const cst_plan *plan)
{
    const cst_session *s = user;
    uint64_t bytes = cst_session_host_updates(s), host = plan->host_bytes + 4 * bytes, left = cst_host_available();
    if (bytes && s->placement == CST_PLACEMENT_AUTO && ((s->o.host_mem && host > s->o.host_mem) || (left && host + host / HOST_BOOKS + HOST_MARGIN > left)))
        return INFINITY;
    double seconds;
    return cst_host_time(&seconds, s, plan) == CST_OK ? seconds : INFINITY;
}

/* cst_mem_record, for a number of layers that are computed again where that is to be chosen. */
static cst_status record(void *user, int layers)
{
    cst_session *s = user;
    take_down(s);
    return dry_run(s, CST_PLACEMENT_RESIDENT, s->o.recompute == CST_RECOMPUTE_AUTO ? layers : layers_of(s, s->o.recompute), s->o.accum);
}

/* The same, for a number of layers that the host updates. */
static cst_status record_host(void *user, int layers)
{
    cst_session *s = user;
    s->host_layers = layers;
    return record(s, s->recompute);
}

/* May the host update at all? Placement never changes numbers; and a device that computes in host memory has no use for it. Of one
 * that isn't there nothing is known. */
static int host_may(const cst_session *s)
{
    return s->o.with_optim && s->o.host_layers == 0 && s->dev->context && s->dev->info.exact_divide && !s->dev->is_cpu && !s->dev->info.unified;
}

/* Once, where there is a device and memory for it. */
static cst_status know_host_speed(cst_session *s)
{
    if (s->host_speed.seconds > 0 || !s->dev->context) return CST_OK;
    cst_status st = cst_adamw_host_speed(&s->host_speed, s->mem);
    if (st != CST_OK) s->host_speed.seconds = 0;
    if (st == CST_NO_MEMORY) return CST_OK;
    if (st == CST_OK)
        cst_log(CST_LOG_DEBUG, "AdamW on the host: %.2f G elements/s alone, %.2f of that beside transfers, which keep %.2f of theirs",
                1e-9 / s->host_speed.seconds, s->host_speed.share, s->host_speed.transfers);
    return st;
}

/* Tensors migrate: s->recompute and s->host_layers are chosen. */
static cst_status decide_migrating(cst_session *s)
{
    int all = layers_of(s, CST_RECOMPUTE_LAYER), groups = s->o.recompute == CST_RECOMPUTE_AUTO && !s->o.forward_only ? all : 0;
    int again, host = 0;
    double least, with;
    s->packed = 0;
    s->placement = CST_PLACEMENT_AUTO;
    if (s->o.with_optim && s->o.host_layers > 0) s->host_layers = s->o.host_layers < all ? s->o.host_layers : all;
    cst_mem_migrate(s->mem, s->o.host_mem, s->o.pinned_mem ? s->o.pinned_mem : UINT64_MAX);
    if (s->o.rehearses) cst_mem_keep_times(s->mem);
    cst_mem_search search = {.m = s->mem, .n = groups, .near = -1, .record = record, .judge = with_host, .user = s};
    CST_TRY(cst_mem_groups(&again, &least, &search));
    if (!host_may(s)) return CST_OK;
    CST_TRY(know_host_speed(s));
    if (s->host_speed.seconds <= 0) return CST_OK;
    int other = again;
    cst_mem_search host_search = {.m = s->mem, .n = all, .near = -1, .record = record_host, .judge = with_host, .user = s};
    CST_TRY(cst_mem_groups(&host, &with, &host_search));
    if (host && groups) {
        search.near = again;
        CST_TRY(cst_mem_groups(&other, &with, &search));
    }
    if (!host || with < WORTH_IT * least) return CST_OK;
    s->host_layers = 0;
    return record(s, again);
}

/* Once: what is to be chosen by predicted time needs the times of this device's operators. */
static cst_status know_operators(cst_session *s)
{
    double seconds;
    cst_mem_stats stats;
    if (s->rehearsed || s->o.rehearses || !s->o.with_optim) return CST_OK;
    s->rehearsed = 1;
    CST_TRY(cst_mem_know_operators(&s->known, &seconds, s->mem));
    if (s->known >= KNOWN || seconds < WORTH_MEASURING) return CST_OK;
    if (seconds * CST_REHEARSAL_LAYERS / (double)s->o.config.num_hidden_layers > TOO_LONG) {
        cst_log(CST_LOG_WARN, "to measure operators of this shape on \"%s\" would take minutes: their times are guessed until a run has measured them",
                s->dev->info.name);
        return CST_OK;
    }
    cst_log(CST_LOG_INFO, "measuring operators of this shape on \"%s\" (first use; kept for later runs)", s->dev->info.name);
    cst_mem_get_stats(s->mem, &stats);
    uint64_t most = cst_mem_default_budget(s->dev);
    cst_status st = cst_rehearse(&s->o, s->imagined && stats.budget > most ? most : stats.budget);
    if (st == CST_OK) return cst_mem_know_operators(&s->known, &seconds, s->mem);
    cst_log(CST_LOG_WARN, "operators couldn't be measured, their times are guessed: %s", cst_detail());
    return CST_OK;
}

/* What to do within the budget, left recorded: cst_mem_plan_commit carries it out. */
static cst_status decide(cst_session *s)
{
    int fits;
    s->host_layers = 0;
    CST_TRY(decide_fixed(s, fixed_placement(s), &fits));
    if (s->imagined || (!fits && s->o.placement == CST_PLACEMENT_AUTO)) CST_TRY(know_operators(s));
    if (fits && !s->o.rehearses) return CST_OK;
    return s->o.placement == CST_PLACEMENT_AUTO ? decide_migrating(s) : explain(s, s->planned);
}

/* OVER_BUDGET: what was decided needs more. Other errors stay what they are. */
static cst_status too_little(cst_session *s, cst_status st)
{
    uint64_t need;
    if (st != CST_OVER_BUDGET) return st;
    CST_TRY(cst_mem_plan_least(&need, s->mem));
    return explain(s, need);
}

static cst_status place(cst_session *s)
{
    cst_mem_stats stats;
    CST_TRY(decide(s));
    cst_status st = cst_mem_plan_commit(s->mem);
    if (st != CST_OK) return too_little(s, st);
    const cst_plan *plan = cst_mem_plan(s->mem);
    cst_mem_get_stats(s->mem, &stats);
    if (plan) s->planned = stats.reserved;
    cst_log(CST_LOG_DEBUG, "placement %s%s: %.1f MiB on the device, budget %.1f MiB", cst_placement_name(s->placement),
            s->packed ? ", weights packed" : "", (double)s->planned / MIB, (double)stats.budget / MIB);
    if (plan)
        cst_log(CST_LOG_DEBUG, "%.1f MiB up and %.1f MiB down a step, of %d layers %d computed again, %d updated on the host", (double)plan->up_bytes / MIB,
                (double)plan->down_bytes / MIB, layers_of(s, CST_RECOMPUTE_LAYER), s->recompute, s->host_layers);
    return CST_OK;
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
                             .dropout = o->dropout > 0, .train = o->with_optim, .device_mem = o->device_mem};
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
    int layers = layers_of(s, migrates && o->recompute == CST_RECOMPUTE_AUTO ? CST_RECOMPUTE_LAYER : o->recompute);
    CST_GO(check(o), out);
    CST_GO(cst_device_open(&s->dev, o->device, 0), out);
    CST_GO(cst_gemm_set_mode(s->dev, o->gemm), out);
    CST_GO(cst_mem_create(&s->mem, s->dev, o->device_mem), out);
    CST_GO(dry_run(s, fixed_placement(s), layers, migrates || o->accum < 2 ? o->accum : 2), out);
    *bytes = s->planned;
    if (migrates) CST_GO(cst_mem_plan_least(bytes, s->mem), out);
out:
    return cst_session_close(s, st);
}

cst_status cst_session_imagine(cst_session **out, const cst_session_options *o)
{
    cst_session *s = calloc(1, sizeof *s);
    cst_status st;
    if (!s) return cst_fail(CST_NO_MEMORY, "session");
    s->o = *o;
    s->imagined = 1;
    CST_GO(check(o), fail);
    if (o->device) CST_GO(cst_device_open(&s->dev, o->device, 0), fail);
    else CST_GO(cst_device_imagine(&s->dev, NULL), fail);
    CST_GO(cst_gemm_set_mode(s->dev, o->device ? o->gemm : CST_GEMM_MODE_CLBLAST), fail);
    CST_GO(cst_mem_create(&s->mem, s->dev, o->device ? 0 : (uint64_t)1 << 49), fail);
    s->host_layers = o->host_layers > 0 ? o->host_layers : 0;
    CST_GO(dry_run(s, CST_PLACEMENT_RESIDENT, layers_of(s, o->recompute), o->accum), fail);
    *out = s;
    return CST_OK;
fail:
    return cst_session_close(s, st);
}

cst_status cst_session_trace(cst_trace **out, const cst_session *s)
{
    cst_rates rates;
    CST_TRY(cst_mem_rates(&rates, s->mem));
    CST_TRY(cst_trace_copy(out, cst_mem_trace(s->mem)));
    if (!s->o.device) (*out)->device[0] = 0;
    return CST_OK;
}

/* The optimizer on the host, which no trace has: gradients come down. With a static placement weights go up as well; where
 * tensors migrate their way up is planned. */
static cst_status add_host_optim(cst_outlook *x, cst_session *s)
{
    uint64_t bytes = cst_session_host_updates(s);
    if (!bytes) return CST_OK;
    x->down_bytes += bytes;
    x->host_bytes += 4 * bytes; /* master weights, two moments, gradients */
    if (x->placement == CST_PLACEMENT_STATIC) x->up_bytes += bytes;
    CST_TRY(know_host_speed(s));
    return cst_host_time(&x->seconds, s, x->plan);
}

cst_status cst_session_foresee(cst_outlook *out, cst_session *s, uint64_t budget, const cst_rates *rates)
{
    cst_outlook x = {.plan = NULL};
    cst_status st;
    cst_mem_suppose(s->mem, budget, rates);
    take_down(s);
    CST_TRY(decide(s));
    x.bytes = s->planned;
    x.placement = s->placement;
    x.recompute = s->recompute;
    x.host_layers = s->host_layers;
    x.known = s->known;
    int moves = x.placement == CST_PLACEMENT_AUTO || moves_statically(s, x.placement);
    if (!moves) { /* nothing does, whatever the order of places */
        take_down(s);
        CST_TRY(dry_run(s, x.placement, x.recompute, s->o.accum));
        cst_mem_suppose(s->mem, UINT64_MAX / 4, rates);
    }
    st = cst_mem_plan_try(&x.plan, moves ? &x.bytes : NULL, s->mem);
    if (st != CST_OK) return too_little(s, st);
    CST_GO(cst_session_trace(&x.trace, s), fail);
    x.host_bytes = x.plan->host_bytes;
    x.up_bytes = x.plan->up_bytes;
    x.down_bytes = x.plan->down_bytes;
    x.seconds = x.plan->seconds;
    CST_GO(add_host_optim(&x, s), fail);
    *out = x;
    return CST_OK;
fail:
    cst_outlook_clear(&x);
    return st;
}

cst_status cst_session_extremes(uint64_t *least, uint64_t *all, cst_session *s)
{
    cst_rates rates;
    int fits;
    CST_TRY(cst_mem_rates(&rates, s->mem));
    cst_pack pack = s->o.pack;
    cst_mem_suppose(s->mem, UINT64_MAX / 4, &rates);
    take_down(s);
    if (pack == CST_PACK_AUTO) s->o.pack = CST_PACK_NEVER; /* weights are packed where there is more room than these */
    cst_status st = decide_fixed(s, fixed_placement(s), &fits);
    s->o.pack = pack;
    if (st != CST_OK) return st;
    *least = *all = s->planned;
    if (s->o.placement != CST_PLACEMENT_AUTO) return CST_OK;
    s->packed = 0;
    s->host_layers = 0;
    CST_TRY(record(s, 0));
    CST_TRY(cst_plan_resident(all, cst_mem_trace(s->mem)));
    *all += cst_mem_trace(s->mem)->scratch;
    if (s->o.recompute == CST_RECOMPUTE_AUTO) CST_TRY(record(s, layers_of(s, CST_RECOMPUTE_LAYER)));
    return cst_mem_plan_least(least, s->mem);
}

void cst_outlook_clear(cst_outlook *x)
{
    cst_plan_free(x->plan);
    cst_trace_free(x->trace);
    *x = (cst_outlook){.plan = NULL};
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

cst_status cst_session_begin(cst_session *s, double lr, int64_t t)
{
    s->micros = 0;
    if (s->optim && !s->keeps_gradients) CST_TRY(cst_optim_begin(s->optim, lr, t));
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
