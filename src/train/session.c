#include "train/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "op/cross_entropy.h"
#include "device/program.h"
#include "gemm/packed.h"
#include "op/fill.h"

#define MIB 1048576.0

const char *cst_placement_name(cst_placement p)
{
    static const char *const name[] = {"auto", "resident", "static"};
    return (unsigned)p < 3 ? name[p] : "?";
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
    optim.on_host = placement == CST_PLACEMENT_STATIC;
    CST_TRY(cst_model_create(&s->model, s->mem, &o->config, !o->forward_only, o->frozen));
    if (s->packed) CST_TRY(keep_packed(s->model));
    if (o->with_optim) CST_TRY(cst_optim_create(&s->optim, s->model, &optim));
    /* The host is at most two steps ahead, as a step's loss is read when the next one has been enqueued. */
    CST_TRY(cst_batch_create(&s->batch, s->mem, o->batch, o->seq, 2 * o->accum));
    CST_TRY(cst_tensor_create(&s->losses, s->mem, CST_DATA, CST_F32, 1, &one, "loss of the step"));
    CST_TRY(cst_tensor_create(&s->loss, s->mem, CST_DATA, CST_F32, 1, &n, "loss of each token"));
    CST_TRY(cst_tensor_place(s->losses));
    return cst_tensor_place(s->loss);
}

/* Set up and run one step without the device, so that the manager learns what the step needs. */
static cst_status try_placement(cst_session *s, cst_placement placement, cst_recompute recompute, uint64_t *bytes)
{
    cst_recompute keep = s->o.recompute;
    cst_status st;
    CST_TRY(cst_mem_plan_begin(s->mem));
    s->o.recompute = recompute;
    CST_GO(set_up(s, placement), out);
    if (!s->o.forward_only) {
        CST_GO(cst_session_begin(s), out);
        CST_GO(cst_session_micro(s, 0), out);
    }
    if (s->optim) CST_GO(cst_optim_step(s->optim, 0, 1), out);
    CST_GO(cst_model_evaluate(s->model, s->batch, s->loss), out);
    *bytes = cst_mem_plan_bytes(s->mem);
out:
    s->o.recompute = keep;
    return st;
}

/* OVER_BUDGET with what would work. */
static cst_status explain(cst_session *s, cst_placement least, uint64_t need)
{
    cst_mem_stats stats;
    uint64_t less = 0;
    char hint[160] = "";
    cst_mem_get_stats(s->mem, &stats);
    take_down(s);
    if (!s->o.forward_only && s->o.recompute == CST_RECOMPUTE_NONE && try_placement(s, least, CST_RECOMPUTE_LAYER, &less) == CST_OK && less < need)
        snprintf(hint, sizeof hint, "; with --recompute layer %.0f MiB do", less / MIB + 1);
    take_down(s);
    return cst_fail(CST_OVER_BUDGET,
                    "%.1f MiB of device memory are too little: the smallest --device-mem for batch %lld of %lld tokens is %llu bytes "
                    "(%.1f MiB, --placement %s)%s; a smaller --batch or --%s needs less",
                    stats.budget / MIB, (long long)s->o.batch, (long long)s->o.seq, (unsigned long long)need, need / MIB,
                    cst_placement_name(least), hint, s->o.forward_only ? "length" : "seq");
}

static cst_status place(cst_session *s)
{
    cst_placement first = s->o.placement == CST_PLACEMENT_STATIC ? CST_PLACEMENT_STATIC : CST_PLACEMENT_RESIDENT;
    cst_placement last = s->o.placement == CST_PLACEMENT_RESIDENT || !s->o.with_optim ? CST_PLACEMENT_RESIDENT : CST_PLACEMENT_STATIC;
    if (!s->o.with_optim) first = last;
    cst_mem_stats stats;
    for (cst_placement p = first;; p++) {
        s->packed = wants_packed(s, p);
        CST_TRY(try_placement(s, p, s->o.recompute, &s->planned));
        cst_mem_get_stats(s->mem, &stats);
        if (s->planned > stats.budget && s->packed && s->o.pack == CST_PACK_AUTO) {
            take_down(s);
            s->packed = 0;
            CST_TRY(try_placement(s, p, s->o.recompute, &s->planned));
        }
        if (s->planned <= stats.budget) {
            s->placement = p;
            cst_log(CST_LOG_DEBUG, "placement %s%s: %.1f MiB on the device, budget %.1f MiB", cst_placement_name(p),
                    s->packed ? ", weights packed" : "", s->planned / MIB, stats.budget / MIB);
            return cst_mem_plan_commit(s->mem);
        }
        if (p == last) return explain(s, p, s->planned);
        take_down(s);
    }
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

cst_status cst_session_open(cst_session **out, const cst_session_options *o)
{
    cst_session *s = calloc(1, sizeof *s);
    cst_status st;
    if (!s) return cst_fail(CST_NO_MEMORY, "session");
    s->o = *o;
    if (o->batch < 1 || o->seq < 1 || o->accum < 1) {
        st = cst_fail(CST_USAGE, "batch, seq and accum must be 1 or more");
        goto fail;
    }
    if (o->seq > o->config.max_position_embeddings) {
        st = cst_fail(CST_USAGE, "sequences of %lld tokens (--seq): the model has positions for %lld tokens", (long long)o->seq, (long long)o->config.max_position_embeddings);
        goto fail;
    }
    CST_GO(cst_device_open(&s->dev, o->device, o->profile), fail);
    CST_GO(cst_gemm_set_mode(s->dev, o->gemm), fail);
    if (o->products) CST_GO(pin_products(s), fail);
    CST_GO(cst_mem_create(&s->mem, s->dev, o->device_mem), fail);
    CST_GO(place(s), fail);
    *out = s;
    return CST_OK;
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
    return cst_fill(s->mem, s->losses, 0);
}

cst_status cst_session_micro(cst_session *s, uint64_t index)
{
    int64_t targets = s->batch->count * s->o.accum;
    float scale = targets ? (float)(1.0 / (double)targets) : 0;
    cst_pass p = {.dropout = (float)s->o.dropout, .seed = s->o.seed, .step = (uint32_t)index, .recompute = s->o.recompute, .scale = scale,
                  .accumulate = s->micros > 0};
    CST_TRY(cst_model_train(s->model, s->batch, &p, s->loss));
    s->micros++;
    return cst_loss_sum(s->mem, s->losses, 0, s->loss, scale);
}
