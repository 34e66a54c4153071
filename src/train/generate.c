#include "train/generate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "device/program.h"
#include "selftest/selftest.h"

#define MIB 1048576.0

const char *cst_generate_end_name(cst_generate_end e)
{
    static const char *const name[] = {"eos", "max-tokens", "positions"};
    return (unsigned)e < 3 ? name[e] : "?";
}

static void take_down(cst_generator *g)
{
    cst_batch_free(g->all);
    cst_batch_free(g->one);
    cst_tensor_free(g->logits);
    cst_kv_free(g->kv);
    cst_model_free(g->model);
    g->all = g->one = NULL;
    g->logits = NULL;
    g->kv = NULL;
    g->model = NULL;
}

static cst_status set_up(cst_generator *g)
{
    const cst_generate_options *o = &g->o;
    CST_TRY(cst_model_create(&g->model, g->mem, &o->config, 0, NULL));
    if (!o->no_cache) CST_TRY(cst_kv_create(&g->kv, g->model, g->room));
    CST_TRY(cst_batch_create(&g->all, g->mem, 1, o->no_cache ? g->room : o->prompt, 1));
    CST_TRY(cst_batch_create(&g->one, g->mem, 1, 1, 2));
    CST_TRY(cst_tensor_create(&g->logits, g->mem, CST_DATA, CST_F32, 2, (int64_t[]){1, o->config.vocab_size}, "logits of the next token"));
    return cst_tensor_place(g->logits);
}

/* Set up and generate two tokens without the device, so that the manager learns what that needs. */
static cst_status plan(cst_generator *g)
{
    CST_TRY(cst_mem_plan_begin(g->mem));
    CST_TRY(set_up(g));
    CST_TRY(cst_model_next(g->model, g->all, 0, g->kv, g->logits));
    if (g->kv && g->room > g->o.prompt) CST_TRY(cst_model_next(g->model, g->one, 0, g->kv, g->logits));
    if (g->kv) g->kv->count = 0;
    g->planned = cst_mem_plan_bytes(g->mem);
    return CST_OK;
}

static cst_status place(cst_generator *g)
{
    cst_mem_stats s;
    CST_TRY(plan(g));
    cst_mem_get_stats(g->mem, &s);
    cst_log(CST_LOG_DEBUG, "generation: %.1f MiB on the device, budget %.1f MiB", g->planned / MIB, s.budget / MIB);
    if (g->planned <= s.budget) return cst_mem_plan_commit(g->mem);
    uint64_t kv = g->kv ? 8 * (uint64_t)(g->room * g->o.config.num_hidden_layers * g->o.config.hidden_size) : 0;
    return cst_fail(CST_OVER_BUDGET,
                    "%.1f MiB of device memory are too little: the smallest --device-mem is %" PRIu64
                    " bytes (%.1f MiB: weights %.1f, keys and "
                    "values of %" PRId64 " tokens %.1f); a shorter prompt or a smaller --max-tokens needs less",
                    s.budget / MIB, g->planned, g->planned / MIB, 4 * (double)cst_config_parameters(&g->o.config) / MIB, g->room, kv / MIB);
}

cst_status cst_generator_open(cst_generator **out, const cst_generate_options *o)
{
    int64_t positions = o->config.max_position_embeddings;
    if (o->prompt < 1) return cst_fail(CST_USAGE, "the prompt has no token");
    if (o->tokens < 1) return cst_fail(CST_USAGE, "%" PRId64 " tokens to generate: 1 or more is allowed", o->tokens);
    if (o->prompt >= positions)
        return cst_fail(CST_USAGE,
                        "the prompt has %" PRId64 " tokens; the model has positions for %" PRId64 ", prompt and generated text together",
                        o->prompt, positions);
    cst_generator *g = calloc(1, sizeof *g);
    cst_status st;
    if (!g) return cst_fail(CST_NO_MEMORY, "generator");
    g->o = *o;
    g->tokens = o->tokens < positions - o->prompt ? o->tokens : positions - o->prompt;
    g->room = o->prompt + g->tokens - 1;
    CST_GO(cst_device_open(&g->dev, o->device, 0), fail);
    CST_GO(cst_self_test(g->dev, &(cst_self_test_use){.columns = o->config.hidden_size, .heads = o->config.num_attention_heads,
                                                      .activation = o->config.activation_function, .generate = !o->no_cache, .device_mem = o->device_mem}), fail);
    CST_GO(cst_gemm_set_mode(g->dev, o->gemm), fail);
    CST_GO(cst_mem_create(&g->mem, g->dev, o->device_mem), fail);
    CST_GO(place(g), fail);
    *out = g;
    return CST_OK;
fail:
    return cst_generator_close(g, st);
}

cst_status cst_generator_close(cst_generator *g, cst_status st)
{
    char why[2048];
    if (!g) return st;
    snprintf(why, sizeof why, "%s", cst_detail());
    if (g->mem) cst_mem_finish(g->mem);
    take_down(g);
    cst_status books = cst_mem_free(g->mem);
    if (g->dev) cst_program_save(g->dev);
    cst_device_close(g->dev);
    free(g);
    return st == CST_OK ? books : cst_fail(st, "%s", why);
}

/* Logits of what follows text[n]. */
static cst_status next_logits(float *logits, cst_generator *g, const int32_t *text, int64_t n)
{
    int32_t length = (int32_t)n;
    int first = n == g->o.prompt, whole = first || !g->kv;
    cst_batch *b = whole ? g->all : g->one;
    if (first && g->kv) g->kv->count = 0;
    CST_TRY(cst_batch_set(b, whole ? text : text + n - 1, whole ? &length : NULL, g->o.config.vocab_size));
    CST_TRY(cst_model_next(g->model, b, whole ? n - 1 : 0, g->kv, g->logits));
    return cst_tensor_read(g->logits, 0, logits, g->logits->bytes);
}

cst_status cst_generate(int32_t *out, int64_t *count, cst_generate_end *end, cst_generator *g, const int32_t *ids, const cst_sampling *s,
                        cst_status (*token)(int32_t id, void *user), void *user)
{
    int64_t prompt = g->o.prompt;
    int32_t *text = calloc((size_t)(g->room + 1), sizeof *text); /* with no_cache, zeros stand for what is to come */
    float *logits = malloc(g->logits->bytes);
    cst_status st = text && logits ? CST_OK : cst_fail(CST_NO_MEMORY, "generation");
    *count = 0;
    *end = g->tokens < g->o.tokens ? CST_GENERATE_POSITIONS : CST_GENERATE_TOKENS;
    if (st == CST_OK) memcpy(text, ids, (size_t)prompt * sizeof *text);
    while (st == CST_OK && *count < g->tokens && *end != CST_GENERATE_EOS) {
        int64_t n = prompt + *count;
        CST_GO(next_logits(logits, g, text, n), out);
        CST_GO(cst_sample(&text[n], logits, g->o.config.vocab_size, s, (uint64_t)*count), out);
        out[(*count)++] = text[n];
        if (text[n] == g->o.config.eos_token_id) *end = CST_GENERATE_EOS;
        if (token) st = token(text[n], user);
    }
out:
    free(text);
    free(logits);
    return st;
}
