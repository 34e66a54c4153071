#include "bench/submit_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "bench/measure.h"

#define SEED 42
#define SLOW 20 /* seconds of a step, beyond which a run that isn't quick is given up */

/* What both configurations have alike. */
#define COMMON                                                                                                                      \
    .enable_bias = 1, .layer_norm_elementwise_affine = 1, .tie_word_embeddings = 1, .activation_function = CST_RELU, .init_std = 0.02, \
    .layer_norm_eps = 1e-5, .bos_token_id = 2, .eos_token_id = 2, .pad_token_id = 1

/* The losses are those of PoCL on an x86-64 processor; docs/results.md tells how far other devices were from them, which is
 * what the tolerances come from. */
static const cst_run_case cases[] = {
    {.name = "tiny",
     .about = "2 post-norm layers of 64, projected from 32; 4 x 64 tokens, 20 steps",
     .quick = 1,
     .config = {.vocab_size = 512,
                .hidden_size = 64,
                .num_hidden_layers = 2,
                .ffn_dim = 256,
                .num_attention_heads = 4,
                .word_embed_proj_dim = 32,
                .max_position_embeddings = 64,
                .do_layer_norm_before = 0,
                COMMON},
     .batch = 4,
     .seq = 64,
     .steps = 20,
     .lr = 3e-3,
     .loss = {6.23731232, 6.20818138, 6.17317152, 6.12949562, 6.07338333, 6.00163984, 5.91221046, 5.80606222, 5.68572235, 5.55569458,
              5.42366409, 5.29491901, 5.17377663, 5.06126928, 4.9571991,  4.85557938, 4.75537109, 4.6513586,  4.54741955, 4.4415102},
     .tolerance = 1e-3},
    {.name = "opt-125m",
     .about = "OPT-125M; 1 x 128 tokens, 10 steps",
     .config = {.vocab_size = 50272,
                .hidden_size = 768,
                .num_hidden_layers = 12,
                .ffn_dim = 3072,
                .num_attention_heads = 12,
                .word_embed_proj_dim = 768,
                .max_position_embeddings = 2048,
                .do_layer_norm_before = 1,
                COMMON},
     .batch = 1,
     .seq = 128,
     .steps = 10,
     .lr = 5e-6,
     .loss = {11.0037575, 10.8366175, 10.6791792, 10.5303383, 10.391571, 10.259841, 10.1339264, 10.0133085, 9.8969383, 9.7832766},
     .tolerance = 1e-3},
};

int cst_run_cases(void)
{
    return (int)(sizeof cases / sizeof *cases);
}

const cst_run_case *cst_run_case_at(int i)
{
    return &cases[i];
}

const cst_run_case *cst_run_case_find(const char *name)
{
    for (int i = 0; i < cst_run_cases(); i++)
        if (!strcmp(cases[i].name, name)) return &cases[i];
    return NULL;
}

double cst_run_difference(const cst_run_case *c, const double *loss, int n)
{
    double most = 0;
    if (n != c->steps) return INFINITY;
    for (int i = 0; i < n; i++) {
        double d = fabs(loss[i] - c->loss[i]);
        if (!isfinite(loss[i])) return INFINITY;
        if (d > most) most = d;
    }
    return most;
}

/* What a run has left. */
typedef struct outcome {
    double loss[CST_RUN_STEPS], ms[CST_RUN_STEPS];
    cst_placement placement;
    uint64_t peak;
} outcome;

/* Each step is waited for: the losses of a device that fails are known up to there, and the first step's time, which has the
 * building of kernels in it, stands apart. */
static cst_status one_step(cst_session *s, const int32_t *ids, double lr, int t, outcome *r)
{
    float loss;
    cl_event done = NULL;
    double begin = cst_now();
    CST_TRY(cst_session_begin(s, lr, t + 1));
    CST_TRY(cst_batch_set(s->batch, ids, NULL, s->o.config.vocab_size));
    CST_TRY(cst_session_micro(s, (uint64_t)t));
    CST_TRY(cst_optim_step(s->optim));
    CST_TRY(cst_tensor_read_async(s->losses, 0, &loss, sizeof loss, &done));
    CST_TRY(cst_mem_wait(&done));
    r->loss[t] = loss;
    r->ms[t] = 1e3 * (cst_now() - begin);
    return CST_OK;
}

static cst_status run(outcome *r, const cst_run_case *c, const cst_run_options *o)
{
    cst_session_options so = {.device = o->device, .device_mem = o->device_mem, .host_mem = o->host_mem, .pinned_mem = o->pinned_mem,
                              .gemm = o->gemm, .config = c->config, .batch = c->batch, .seq = c->seq, .accum = 1, .with_optim = 1,
                              .optim = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .clip = 1.0},
                              .placement = CST_PLACEMENT_AUTO, .pack = CST_PACK_AUTO, .recompute = CST_RECOMPUTE_AUTO, .seed = SEED};
    cst_session *s = NULL;
    cst_mem_stats stats;
    int64_t n = c->batch * c->seq;
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    cst_status st = ids ? CST_OK : cst_fail(CST_NO_MEMORY, "tokens");
    if (st != CST_OK) return st;
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)(cst_random_u64(SEED, 1, (uint64_t)i) % (uint64_t)c->config.vocab_size);
    CST_GO(cst_session_open(&s, &so), out);
    CST_GO(cst_model_init(s->model, SEED), out);
    CST_GO(cst_session_start(s), out);
    for (int t = 0; t < c->steps; t++) {
        CST_GO(one_step(s, ids, c->lr, t, r), out);
        if (r->ms[t] > 1e3 * SLOW && !c->quick) {
            st = cst_fail(CST_UNSUPPORTED, "too slow: step %d took %.0f s, more than %d", t + 1, 1e-3 * r->ms[t], SLOW);
            goto out;
        }
        if (o->stop && o->stop()) {
            st = cst_fail(CST_INTERRUPTED, "interrupted in training run %s", c->name);
            goto out;
        }
    }
    cst_mem_get_stats(s->mem, &stats);
    r->peak = stats.reserved_peak;
    r->placement = s->placement;
out:
    free(ids);
    return cst_session_close(s, st);
}

/* JSON has no word for what isn't finite. */
static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *outcome_json(outcome *r, const cst_run_case *c)
{
    cst_timing time;
    json_t *loss = json_array();
    double tokens = (double)(c->batch * c->seq), first = r->ms[0], difference = cst_run_difference(c, r->loss, c->steps);
    cst_timing_from(&time, r->ms + 1, c->steps - 1, 1);
    for (int i = 0; i < c->steps; i++) json_array_append_new(loss, number(r->loss[i]));
    return json_pack("{s:s, s:I, s:I, s:i, s:s, s:f, s:f, s:f, s:f, s:I, s:o, s:o, s:f, s:s}", "run", c->name, "batch",
                     (json_int_t)c->batch, "seq", (json_int_t)c->seq, "steps", c->steps, "placement", cst_placement_name(r->placement),
                     "first_step_ms", first, "step_ms", time.ms, "spread", (time.ms_max - time.ms_min) / time.ms, "tokens_per_s",
                     tokens / (1e-3 * time.ms), "device_peak_bytes", (json_int_t)r->peak, "losses", loss, "difference", number(difference),
                     "tolerance", c->tolerance, "verdict", difference <= c->tolerance ? "as expected" : "differs");
}

cst_status cst_run_train(json_t **out, const cst_run_case *c, const cst_run_options *o)
{
    outcome r = {.peak = 0};
    cst_status st = run(&r, c, o);
    json_t *j;
    if (st == CST_OVER_BUDGET || st == CST_UNSUPPORTED) j = json_pack("{s:s, s:s}", "run", c->name, "missing", cst_detail());
    else if (st != CST_OK) return st;
    else j = outcome_json(&r, c);
    if (!j) return cst_fail(CST_NO_MEMORY, "training run %s", c->name);
    *out = j;
    return CST_OK;
}
