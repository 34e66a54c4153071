#include "model/config.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/json.h"

#define MEMBER(m) #m, offsetof(cst_config, m)
#define AT(type, c, offset) ((type *)(void *)((char *)(c) + (offset)))
#define AT_CONST(type, c, offset) ((const type *)(const void *)((const char *)(c) + (offset)))
#define LENGTH(a) (sizeof(a) / sizeof *(a))

/* The limits keep every product of sizes well within 63 bits; the largest OPT stays far below them. */
static const struct {
    const char *name;
    size_t offset;
    int64_t max;
} SIZES[] = {
    {MEMBER(vocab_size), 1 << 24},
    {MEMBER(hidden_size), 1 << 17},
    {MEMBER(num_hidden_layers), 1 << 12},
    {MEMBER(ffn_dim), 1 << 20},
    {MEMBER(num_attention_heads), 1 << 17},
    {MEMBER(word_embed_proj_dim), 1 << 17},
    {MEMBER(max_position_embeddings), 1 << 24},
};

static const struct {
    const char *name;
    size_t offset;
    int must; /* the only value allowed, -1: both */
} FLAGS[] = {
    {MEMBER(do_layer_norm_before), -1},
    {"_remove_final_layer_norm", offsetof(cst_config, remove_final_layer_norm), -1},
    {MEMBER(enable_bias), 1},
    {MEMBER(layer_norm_elementwise_affine), 1},
    {MEMBER(tie_word_embeddings), 1},
};

static const struct {
    const char *name;
    size_t offset;
    int must_be_zero;
} REALS[] = {
    {MEMBER(dropout), 0},
    {MEMBER(attention_dropout), 1},
    {MEMBER(layerdrop), 1},
    {MEMBER(init_std), 0},
};

static const struct {
    const char *name;
    size_t offset;
} TOKENS[] = {
    {MEMBER(bos_token_id)},
    {MEMBER(eos_token_id)},
    {MEMBER(pad_token_id)},
};

static const char *const ACTIVATIONS[] = {[CST_RELU] = "relu", [CST_GELU] = "gelu"};

/* Zhang et al., "OPT: Open Pre-trained Transformer Language Models", 2022, table 1, and the published
 * config.json files. */
static const struct {
    const char *name;
    int layers, hidden, heads, ffn, embed, pre_norm;
} PRESETS[] = {
    {"125m", 12, 768, 12, 3072, 768, 1},    {"350m", 24, 1024, 16, 4096, 512, 0},
    {"1.3b", 24, 2048, 32, 8192, 2048, 1},  {"2.7b", 32, 2560, 32, 10240, 2560, 1},
    {"6.7b", 32, 4096, 32, 16384, 4096, 1}, {"13b", 40, 5120, 40, 20480, 5120, 1},
};

void cst_config_default(cst_config *c)
{
    *c = (cst_config){
        .vocab_size = 50272,
        .hidden_size = 768,
        .num_hidden_layers = 12,
        .ffn_dim = 3072,
        .num_attention_heads = 12,
        .word_embed_proj_dim = 768,
        .max_position_embeddings = 2048,
        .do_layer_norm_before = 1,
        .enable_bias = 1,
        .layer_norm_elementwise_affine = 1,
        .tie_word_embeddings = 1,
        .activation_function = CST_RELU,
        .dropout = 0.1,
        .init_std = 0.02,
        .layer_norm_eps = 1e-5,
        .bos_token_id = 2,
        .eos_token_id = 2,
        .pad_token_id = 1,
    };
}

cst_status cst_config_preset(cst_config *c, const char *name)
{
    const char *n = name;
    if (!strncmp(n, "facebook/opt-", 13)) n += 13;
    else if (!strncmp(n, "opt-", 4)) n += 4;
    for (size_t i = 0; i < LENGTH(PRESETS); i++) {
        if (strcmp(n, PRESETS[i].name)) continue;
        cst_config_default(c);
        c->num_hidden_layers = PRESETS[i].layers;
        c->hidden_size = PRESETS[i].hidden;
        c->num_attention_heads = PRESETS[i].heads;
        c->ffn_dim = PRESETS[i].ffn;
        c->word_embed_proj_dim = PRESETS[i].embed;
        c->do_layer_norm_before = PRESETS[i].pre_norm;
        return CST_OK;
    }
    return cst_fail(CST_USAGE, "no model named \"%s\"; known: opt-125m, 350m, 1.3b, 2.7b, 6.7b, 13b", name);
}

int cst_config_has_final_norm(const cst_config *c)
{
    return c->do_layer_norm_before && !c->remove_final_layer_norm;
}

int cst_config_has_projections(const cst_config *c)
{
    return c->word_embed_proj_dim != c->hidden_size;
}

int64_t cst_config_parameters(const cst_config *c)
{
    int64_t d = c->hidden_size, f = c->ffn_dim, e = c->word_embed_proj_dim;
    int64_t layer = 4 * (d * d + d) + 2 * d * f + f + d + 4 * d; /* attention, two linear, two norms */
    int64_t n = c->vocab_size * e + (c->max_position_embeddings + 2) * d + c->num_hidden_layers * layer;
    if (cst_config_has_projections(c)) n += 2 * d * e;
    if (cst_config_has_final_norm(c)) n += 2 * d;
    return n;
}

/* ---- check ---- */

static cst_status check_sizes(const cst_config *c, const char *where)
{
    for (size_t i = 0; i < LENGTH(SIZES); i++) {
        int64_t v = *AT_CONST(int64_t, c, SIZES[i].offset);
        if (v < 1 || v > SIZES[i].max)
            return cst_fail(CST_INPUT, "%s: \"%s\" is %" PRId64 "; allowed: 1 to %" PRId64, where, SIZES[i].name, v,
                            SIZES[i].max);
    }
    if (c->hidden_size % c->num_attention_heads)
        return cst_fail(CST_INPUT, "%s: \"num_attention_heads\" %" PRId64 " doesn't divide \"hidden_size\" %" PRId64,
                        where, c->num_attention_heads, c->hidden_size);
    for (size_t i = 0; i < LENGTH(TOKENS); i++) {
        int64_t v = *AT_CONST(int64_t, c, TOKENS[i].offset);
        if (v < -1 || v >= c->vocab_size)
            return cst_fail(CST_INPUT, "%s: \"%s\" is %" PRId64 "; allowed: 0 to %" PRId64, where, TOKENS[i].name, v,
                            c->vocab_size - 1);
    }
    return CST_OK;
}

cst_status cst_config_check(const cst_config *c, const char *where)
{
    CST_TRY(check_sizes(c, where));
    for (size_t i = 0; i < LENGTH(FLAGS); i++) {
        int v = *AT_CONST(int, c, FLAGS[i].offset);
        if (FLAGS[i].must >= 0 && v != FLAGS[i].must)
            return cst_fail(CST_UNSUPPORTED, "%s: \"%s\" is %s; allowed: %s", where, FLAGS[i].name,
                            v ? "true" : "false", FLAGS[i].must ? "true" : "false");
    }
    for (size_t i = 0; i < LENGTH(REALS); i++) {
        double v = *AT_CONST(double, c, REALS[i].offset);
        if (REALS[i].must_be_zero && v != 0)
            return cst_fail(CST_UNSUPPORTED, "%s: \"%s\" is %g; allowed: 0", where, REALS[i].name, v);
    }
    if (!(c->dropout >= 0 && c->dropout < 1))
        return cst_fail(CST_INPUT, "%s: \"dropout\" is %g; allowed: 0 to less than 1", where, c->dropout);
    if (!(c->init_std > 0 && c->init_std <= 100))
        return cst_fail(CST_INPUT, "%s: \"init_std\" is %g; allowed: more than 0, up to 100", where, c->init_std);
    if ((size_t)c->activation_function >= LENGTH(ACTIVATIONS))
        return cst_fail(CST_UNSUPPORTED, "%s: unknown \"activation_function\"; allowed: relu, gelu", where);
    return CST_OK;
}

/* ---- load and save ---- */

/* The file meant by a path that may be a folder; the caller frees it, NULL when out of memory. */
static char *config_path(const char *path)
{
    struct stat sb;
    return !stat(path, &sb) && S_ISDIR(sb.st_mode) ? cst_path_join(path, "config.json") : strdup(path);
}

static cst_status parse_type(const json_t *j, const char *where)
{
    const char *type = NULL;
    CST_TRY(cst_json_string(&type, j, "model_type", where));
    if (!type) return cst_fail(CST_INPUT, "%s: no \"model_type\"", where);
    if (strcmp(type, "opt"))
        return cst_fail(CST_UNSUPPORTED, "%s: \"model_type\" is \"%s\"; allowed: opt", where, type);
    return CST_OK;
}

static cst_status parse_activation(cst_activation *a, const json_t *j, const char *where)
{
    const char *s = ACTIVATIONS[*a];
    CST_TRY(cst_json_string(&s, j, "activation_function", where));
    for (size_t i = 0; i < LENGTH(ACTIVATIONS); i++) {
        if (strcmp(s, ACTIVATIONS[i])) continue;
        *a = (cst_activation)i;
        return CST_OK;
    }
    return cst_fail(CST_UNSUPPORTED, "%s: \"activation_function\" is \"%s\"; allowed: relu, gelu", where, s);
}

/* null says that there is no such token, which is not the same as an absent member. */
static cst_status parse_token(int64_t *v, const json_t *j, const char *name, const char *where)
{
    const json_t *m = json_object_get(j, name);
    if (json_is_array(m)) m = json_array_get(m, 0);
    else if (!m) return CST_OK;
    if (json_is_null(m)) {
        *v = -1;
        return CST_OK;
    }
    if (!json_is_integer(m) || json_integer_value(m) < 0)
        return cst_fail(CST_INPUT, "%s: \"%s\" must be a token's number or null", where, name);
    *v = json_integer_value(m);
    return CST_OK;
}

static cst_status parse(cst_config *c, const json_t *j, const char *where)
{
    CST_TRY(parse_type(j, where));
    cst_config_default(c);
    c->word_embed_proj_dim = -1;
    for (size_t i = 0; i < LENGTH(SIZES); i++)
        CST_TRY(cst_json_int(AT(int64_t, c, SIZES[i].offset), j, SIZES[i].name, 1, SIZES[i].max, where));
    if (c->word_embed_proj_dim < 0) c->word_embed_proj_dim = c->hidden_size;
    for (size_t i = 0; i < LENGTH(FLAGS); i++)
        CST_TRY(cst_json_bool(AT(int, c, FLAGS[i].offset), j, FLAGS[i].name, where));
    for (size_t i = 0; i < LENGTH(REALS); i++)
        CST_TRY(cst_json_real(AT(double, c, REALS[i].offset), j, REALS[i].name, where));
    for (size_t i = 0; i < LENGTH(TOKENS); i++)
        CST_TRY(parse_token(AT(int64_t, c, TOKENS[i].offset), j, TOKENS[i].name, where));
    CST_TRY(parse_activation(&c->activation_function, j, where));
    return cst_config_check(c, where);
}

cst_status cst_config_load(cst_config *c, const char *path_or_dir)
{
    cst_status st;
    json_t *j = NULL;
    cst_config read;
    char *path = config_path(path_or_dir);
    if (!path) return cst_fail(CST_NO_MEMORY, "%s", path_or_dir);
    CST_GO(cst_json_load(&j, path, JSON_OBJECT), out);
    CST_GO(parse(&read, j, path), out);
    *c = read;
out:
    json_decref(j);
    free(path);
    return st;
}

json_t *cst_config_json(const cst_config *c)
{
    json_t *j = json_pack("{s:[s], s:s, s:s, s:s, s:b}", "architectures", "OPTForCausalLM", "model_type", "opt",
                          "torch_dtype", "float32", "activation_function", ACTIVATIONS[c->activation_function],
                          "use_cache", 1);
    int bad = !j;
    for (size_t i = 0; i < LENGTH(SIZES); i++)
        bad |= json_object_set_new(j, SIZES[i].name, json_integer(*AT_CONST(int64_t, c, SIZES[i].offset)));
    for (size_t i = 0; i < LENGTH(FLAGS); i++)
        bad |= json_object_set_new(j, FLAGS[i].name, json_boolean(*AT_CONST(int, c, FLAGS[i].offset)));
    for (size_t i = 0; i < LENGTH(REALS); i++)
        bad |= json_object_set_new(j, REALS[i].name, json_real(*AT_CONST(double, c, REALS[i].offset)));
    for (size_t i = 0; i < LENGTH(TOKENS); i++) {
        int64_t v = *AT_CONST(int64_t, c, TOKENS[i].offset);
        bad |= json_object_set_new(j, TOKENS[i].name, v < 0 ? json_null() : json_integer(v));
    }
    if (!bad) return j;
    json_decref(j);
    return NULL;
}

cst_status cst_config_save(const cst_config *c, const char *path_or_dir)
{
    cst_status st = CST_OK;
    json_t *j = NULL;
    char *path = config_path(path_or_dir);
    if (!path) return cst_fail(CST_NO_MEMORY, "%s", path_or_dir);
    CST_GO(cst_config_check(c, path), out);
    j = cst_config_json(c);
    st = j ? cst_json_save(j, path) : cst_fail(CST_NO_MEMORY, "%s", path);
out:
    json_decref(j);
    free(path);
    return st;
}
