#include "train/trainer.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "device/program.h"
#include "train/metrics.h"
#include "train/outdir.h"
#include "train/tensorboard.h"

/* A step whose loss is still on its way. */
typedef struct pending {
    int64_t step;
    double lr, valid_loss;
    double done_at;          /* when it was known to be done, where something else came before its report; else 0 */
    uint64_t end_ns;         /* when its loss had been read, by the device's clock; 0: unknown */
    float loss, norm[4];
    cl_event loss_read, norm_read;
    uint64_t h2d, d2h;
} pending;

typedef struct run {
    cst_session *s;
    const cst_train_options *o;
    cst_train_result *result;
    int metrics, lock;       /* file descriptors, -1: none */
    int64_t start;           /* steps done before */
    cst_events *events;      /* the same figures for TensorBoard */
    double last_time;        /* when the last step's figures came, s */
    uint64_t last_end_ns;    /* the same by the device's clock; 0: unknown, or something came in between */
    double *ms;              /* of all steps reported */
    int64_t reported;
    double sum_ms;           /* of all but the first, which builds kernels */
    int32_t *ids;
    uint64_t h2d, d2h;       /* counters at the end of the last step enqueued */
} run;

/* One line of metrics.jsonl. %.9g gives back every bit of a float. */
static cst_status write_metrics(run *r, const cst_step_report *p)
{
    char line[512], valid[48] = "";
    if (r->metrics < 0) return CST_OK;
    if (!isnan(p->valid_loss)) snprintf(valid, sizeof valid, ", \"valid_loss\": %.17g", p->valid_loss);
    char loss[32] = "null", norm[32] = "null"; /* JSON has no word for what isn't finite */
    if (isfinite(p->loss)) snprintf(loss, sizeof loss, "%.9g", p->loss);
    if (isfinite(p->grad_norm)) snprintf(norm, sizeof norm, "%.9g", p->grad_norm);
    int n = snprintf(line, sizeof line,
                     "{\"step\": %lld, \"loss\": %s, \"lr\": %.9g, \"grad_norm\": %s, \"tokens_per_s\": %.1f, \"ms\": %.3f, "
                     "\"device_bytes\": %llu, \"device_peak_bytes\": %llu, \"h2d_bytes\": %llu, \"d2h_bytes\": %llu%s}\n",
                     (long long)p->step, loss, p->lr, norm, p->tokens_per_s, p->ms, (unsigned long long)p->device_bytes,
                     (unsigned long long)p->device_peak, (unsigned long long)p->h2d_bytes, (unsigned long long)p->d2h_bytes, valid);
    if (write(r->metrics, line, (size_t)n) != n) return cst_fail(CST_IO, "%s/metrics.jsonl: %s", r->o->out_dir, strerror(errno));
    const cst_scalar scalar[] = {{"loss", p->loss}, {"lr", p->lr}, {"grad_norm", p->grad_norm}, {"tokens_per_s", p->tokens_per_s},
                                 {"device_bytes", (double)p->device_bytes}, {"valid_loss", p->valid_loss}};
    return cst_events_write(r->events, p->step, scalar, sizeof scalar / sizeof *scalar);
}

static cst_status wait_for(pending *p)
{
    if (p->loss_read) CST_TRY(cst_mem_wait_time(&p->loss_read, &p->end_ns));
    return cst_mem_wait(&p->norm_read);
}

/* Wait for a step's figures and pass them on. Its time is that between the ends of two steps on the device: the
 * host runs ahead by as much as the queue holds, so its own clock tells nothing about a single step. */
static cst_status finish_step(run *r, pending *p)
{
    if (!p->step) return CST_OK;
    CST_TRY(wait_for(p));
    double t = p->done_at ? p->done_at : cst_now();
    cst_mem_stats stats;
    cst_mem_get_stats(r->s->mem, &stats);
    const cst_session_options *so = &r->s->o;
    double tokens = (double)(so->batch * so->seq * so->accum), s = t - r->last_time;
    if (r->last_end_ns && p->end_ns > r->last_end_ns) s = 1e-9 * (double)(p->end_ns - r->last_end_ns);
    r->last_end_ns = p->done_at ? 0 : p->end_ns;
    int64_t last = r->o->stop_after && r->o->stop_after < r->o->steps ? r->o->stop_after : r->o->steps;
    r->last_time = cst_now();
    r->ms[r->reported++] = s * 1e3;
    if (r->reported > 1) r->sum_ms += s * 1e3;
    double mean_s = r->reported > 1 ? r->sum_ms * 1e-3 / (double)(r->reported - 1) : s;
    cst_step_report rep = {.step = p->step, .steps = r->o->steps, .loss = p->loss, .lr = p->lr, .grad_norm = p->norm[0],
                           .finite = p->norm[2] != 0, .ms = s * 1e3, .tokens_per_s = tokens / s,
                           .eta_s = mean_s * (double)(last - p->step), .valid_loss = p->valid_loss, .device_bytes = stats.used,
                           .device_peak = stats.reserved_peak, .h2d_bytes = p->h2d, .d2h_bytes = p->d2h};
    if (!rep.finite) cst_log(CST_LOG_WARN, "step %lld: a gradient is not finite; %s left out", (long long)p->step,
                             so->optim.clip > 0 ? "the update was" : "its layer's update and those of the embeddings and the head were");
    if (p->step == r->start + 1) r->result->first_loss = p->loss;
    r->result->last_loss = p->loss;
    r->result->steps = p->step;
    p->step = 0;
    CST_TRY(write_metrics(r, &rep));
    if (r->o->report) r->o->report(&rep, r->o->user);
    return isfinite(rep.loss) ? CST_OK : cst_train_not_finite(r->s, r->o, rep.step);
}

/* Enqueue step t (from 0) and the reading of its figures. */
static cst_status enqueue_step(run *r, int64_t t, pending *p)
{
    cst_session *s = r->s;
    int64_t accum = s->o.accum;
    p->lr = cst_schedule_lr(&r->o->schedule, t);
    CST_TRY(cst_session_begin(s, p->lr, t + 1));
    for (int64_t a = 0; a < accum; a++) {
        int rows;
        uint64_t index = (uint64_t)(t * accum + a);
        cst_batches_get(r->o->train, index, r->ids, &rows);
        CST_TRY(cst_batch_set_counted(s->batch, r->ids, NULL, cst_batches_counts(r->o->train), s->o.config.vocab_size));
        CST_TRY(cst_session_micro(s, index));
    }
    p->valid_loss = NAN;
    p->done_at = 0;
    p->end_ns = 0;
    CST_TRY(cst_optim_step(s->optim));
    CST_TRY(cst_tensor_read_async(s->losses, 0, &p->loss, sizeof p->loss, &p->loss_read));
    CST_TRY(cst_tensor_read_async(cst_optim_norm(s->optim), 0, p->norm, sizeof p->norm, &p->norm_read));
    cst_mem_stats stats;
    cst_mem_get_stats(s->mem, &stats);
    p->h2d = stats.h2d_bytes - r->h2d;
    p->d2h = stats.d2h_bytes - r->d2h;
    r->h2d = stats.h2d_bytes;
    r->d2h = stats.d2h_bytes;
    p->step = t + 1;
    return CST_OK;
}

/* The step's line is in metrics.jsonl already, so that a run that goes on from here lacks none. */
static cst_status save_checkpoint(run *r, int64_t step)
{
    const cst_train_options *o = r->o;
    cst_checkpoint c = {.step = step, .best_loss = r->result->best_loss, .best_step = r->result->best_step, .about = o->about};
    if (fdatasync(r->metrics) && errno != EINVAL) return cst_fail(CST_IO, "%s/metrics.jsonl: %s", o->out_dir, strerror(errno));
    double start = cst_now();
    CST_TRY(cst_checkpoint_save(r->s, o->out_dir, &c, o->save, o->user));
    cst_log(CST_LOG_DEBUG, "checkpoint of step %" PRId64 " saved in %.2f s", c.step, cst_now() - start);
    r->result->saved = step;
    return cst_outdir_keep(o->out_dir, o->keep);
}

/* The median leaves the first step out: it builds kernels. */
static void speed(run *r)
{
    int64_t skip = r->reported > 1, n = r->reported - skip;
    if (n < 1) return;
    cst_sort_times(r->ms + skip, (size_t)n);
    const cst_session_options *so = &r->s->o;
    r->result->median_ms = r->ms[skip + n / 2];
    r->result->tokens_per_s = (double)(so->batch * so->seq * so->accum) / (r->result->median_ms * 1e-3);
}

static cst_status open_out(run *r)
{
    const cst_train_options *o = r->o;
    if (!o->out_dir) return CST_OK;
    CST_TRY(cst_outdir_open(&r->lock, o->out_dir));
    if (!o->from || o->from_dir) CST_TRY(cst_outdir_check_new(o->out_dir));
    if (o->save && o->save_every) CST_TRY(cst_outdir_room(o->out_dir, cst_checkpoint_bytes(r->s, 0)));
    CST_TRY(cst_metrics_open(&r->metrics, o->out_dir, o->from_dir, r->start));
    CST_TRY(cst_events_open(&r->events, o->out_dir));
    return cst_outdir_drop_after(o->out_dir, r->start);
}

/* What was done since the last step is none of the next one: neither its time nor its transfers. */
static void begin_count(run *r)
{
    cst_mem_stats stats;
    cst_mem_get_stats(r->s->mem, &stats);
    r->h2d = stats.h2d_bytes;
    r->d2h = stats.d2h_bytes;
    r->last_time = cst_now();
}

/* The model with the lowest validation loss. */
static cst_status keep_best(run *r, int64_t done)
{
    cst_train_result *t = r->result;
    if (!isfinite(t->valid_loss) || t->valid_loss >= t->best_loss) return CST_OK; /* a NaN best_loss is no obstacle */
    t->best_loss = t->valid_loss;
    t->best_step = done;
    return r->o->save && r->o->out_dir ? cst_checkpoint_save_best(r->s, r->o->out_dir, r->o->save, r->o->user) : CST_OK;
}

/* What comes between two steps: evaluation and checkpoints. */
static cst_status between(run *r, int64_t done, pending *p, int stopped)
{
    const cst_train_options *o = r->o;
    int evaluated = o->valid && o->eval_every && (done % o->eval_every == 0 || done == o->steps);
    int ends = stopped || done == o->stop_after;
    int save = o->save && o->out_dir && done < o->steps && (ends || (o->save_every && done % o->save_every == 0));
    if (!evaluated && !save) return CST_OK;
    CST_TRY(wait_for(p)); /* the time of what follows isn't the step's */
    p->done_at = cst_now();
    if (evaluated) {
        CST_TRY(cst_evaluate(&p->valid_loss, r->s, o->valid));
        r->result->valid_loss = p->valid_loss;
    }
    CST_TRY(finish_step(r, p));
    if (evaluated) CST_TRY(keep_best(r, done));
    if (save) CST_TRY(save_checkpoint(r, done));
    begin_count(r);
    return CST_OK;
}

cst_status cst_train(cst_train_result *result, cst_session *s, const cst_train_options *o)
{
    pending ring[2];
    run r = {.s = s, .o = o, .result = result, .metrics = -1, .lock = -1, .start = o->from ? o->from->step : 0};
    int64_t last = o->stop_after && o->stop_after < o->steps ? o->stop_after : o->steps;
    cst_status st;
    int stopped = 0;
    memset(ring, 0, sizeof ring);
    *result = (cst_train_result){.steps = r.start, .saved = r.start, .valid_loss = NAN, .first_loss = NAN, .last_loss = NAN,
                                 .best_loss = o->from ? o->from->best_loss : NAN, .best_step = o->from ? o->from->best_step : 0};
    r.ms = calloc((size_t)(last > r.start ? last - r.start : 1), sizeof *r.ms);
    r.ids = calloc((size_t)(s->o.batch * s->o.seq), sizeof *r.ids);
    if (!r.ms || !r.ids) {
        st = cst_fail(CST_NO_MEMORY, "training");
        goto out;
    }
    CST_GO(open_out(&r), out);
    begin_count(&r);
    for (int64_t t = r.start; t < last && !stopped; t++) {
        pending *p = &ring[t % 2], *before = &ring[(t + 1) % 2];
        CST_GO(enqueue_step(&r, t, p), out);
        if (t == r.start) {
            CST_GO(cst_mem_finish(s->mem), out); /* every kernel has run once: now its binary is worth keeping */
            cst_program_save(s->dev);
        }
        CST_GO(finish_step(&r, before), out);
        stopped = o->stop && o->stop(o->user);
        CST_GO(between(&r, t + 1, p, stopped), out);
    }
    for (int64_t i = 0; i < 2; i++) CST_GO(finish_step(&r, &ring[(last + i) % 2]), out);
    CST_GO(cst_session_settle(s), out);
    if (stopped && result->steps < last)
        st = cst_fail(CST_INTERRUPTED, "stopped after step %lld of %lld", (long long)result->steps, (long long)o->steps);
out:
    for (int i = 0; i < 2; i++) {
        cst_mem_wait(&ring[i].loss_read);
        cst_mem_wait(&ring[i].norm_read);
    }
    speed(&r);
    if (r.metrics >= 0) close(r.metrics);
    cst_events_close(r.events);
    if (r.lock >= 0) close(r.lock);
    free(r.ms);
    free(r.ids);
    return st;
}
