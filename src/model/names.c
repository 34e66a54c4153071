#include "model/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A dimension of a shape, by meaning. */
enum dim { NONE, HIDDEN, FFN, EMBED, VOCAB, POSITIONS };

static const struct {
    const char *name; /* after "model.decoder." or "model.decoder.layers.N." */
    cst_param_kind kind;
    enum dim rows, cols;
} ROLES[CST_ROLE_COUNT] = {
    [CST_ROLE_EMBED_TOKENS] = {"embed_tokens.weight", CST_PARAM_EMBEDDING, VOCAB, EMBED},
    [CST_ROLE_EMBED_POSITIONS] = {"embed_positions.weight", CST_PARAM_EMBEDDING, POSITIONS, HIDDEN},
    [CST_ROLE_PROJECT_IN] = {"project_in.weight", CST_PARAM_WEIGHT, HIDDEN, EMBED},
    [CST_ROLE_K_WEIGHT] = {"self_attn.k_proj.weight", CST_PARAM_WEIGHT, HIDDEN, HIDDEN},
    [CST_ROLE_V_WEIGHT] = {"self_attn.v_proj.weight", CST_PARAM_WEIGHT, HIDDEN, HIDDEN},
    [CST_ROLE_Q_WEIGHT] = {"self_attn.q_proj.weight", CST_PARAM_WEIGHT, HIDDEN, HIDDEN},
    [CST_ROLE_K_BIAS] = {"self_attn.k_proj.bias", CST_PARAM_BIAS, HIDDEN, NONE},
    [CST_ROLE_V_BIAS] = {"self_attn.v_proj.bias", CST_PARAM_BIAS, HIDDEN, NONE},
    [CST_ROLE_Q_BIAS] = {"self_attn.q_proj.bias", CST_PARAM_BIAS, HIDDEN, NONE},
    [CST_ROLE_OUT_WEIGHT] = {"self_attn.out_proj.weight", CST_PARAM_WEIGHT, HIDDEN, HIDDEN},
    [CST_ROLE_OUT_BIAS] = {"self_attn.out_proj.bias", CST_PARAM_BIAS, HIDDEN, NONE},
    [CST_ROLE_ATTN_NORM_WEIGHT] = {"self_attn_layer_norm.weight", CST_PARAM_NORM_WEIGHT, HIDDEN, NONE},
    [CST_ROLE_ATTN_NORM_BIAS] = {"self_attn_layer_norm.bias", CST_PARAM_NORM_BIAS, HIDDEN, NONE},
    [CST_ROLE_FC1_WEIGHT] = {"fc1.weight", CST_PARAM_WEIGHT, FFN, HIDDEN},
    [CST_ROLE_FC1_BIAS] = {"fc1.bias", CST_PARAM_BIAS, FFN, NONE},
    [CST_ROLE_FC2_WEIGHT] = {"fc2.weight", CST_PARAM_WEIGHT, HIDDEN, FFN},
    [CST_ROLE_FC2_BIAS] = {"fc2.bias", CST_PARAM_BIAS, HIDDEN, NONE},
    [CST_ROLE_FFN_NORM_WEIGHT] = {"final_layer_norm.weight", CST_PARAM_NORM_WEIGHT, HIDDEN, NONE},
    [CST_ROLE_FFN_NORM_BIAS] = {"final_layer_norm.bias", CST_PARAM_NORM_BIAS, HIDDEN, NONE},
    [CST_ROLE_FINAL_NORM_WEIGHT] = {"final_layer_norm.weight", CST_PARAM_NORM_WEIGHT, HIDDEN, NONE},
    [CST_ROLE_FINAL_NORM_BIAS] = {"final_layer_norm.bias", CST_PARAM_NORM_BIAS, HIDDEN, NONE},
    [CST_ROLE_PROJECT_OUT] = {"project_out.weight", CST_PARAM_WEIGHT, EMBED, HIDDEN},
};

static int in_layer(cst_role role)
{
    return role >= CST_ROLE_LAYER_FIRST && role <= CST_ROLE_LAYER_LAST;
}

/* Number of the first parameter of layer 0. */
static int layers_begin(const cst_config *c)
{
    return 2 + cst_config_has_projections(c);
}

static int layers_end(const cst_config *c)
{
    return layers_begin(c) + (int)c->num_hidden_layers * CST_ROLES_PER_LAYER;
}

int cst_param_count(const cst_config *c)
{
    return layers_end(c) + 2 * cst_config_has_final_norm(c) + cst_config_has_projections(c);
}

int cst_param_id(const cst_config *c, cst_role role, int layer)
{
    int norm = cst_config_has_final_norm(c), project = cst_config_has_projections(c);
    if (in_layer(role)) {
        if (layer < 0 || layer >= c->num_hidden_layers) return -1;
        return layers_begin(c) + layer * CST_ROLES_PER_LAYER + (int)(role - CST_ROLE_LAYER_FIRST);
    }
    switch (role) {
    case CST_ROLE_EMBED_TOKENS: return 0;
    case CST_ROLE_EMBED_POSITIONS: return 1;
    case CST_ROLE_PROJECT_IN: return project ? 2 : -1;
    case CST_ROLE_FINAL_NORM_WEIGHT: return norm ? layers_end(c) : -1;
    case CST_ROLE_FINAL_NORM_BIAS: return norm ? layers_end(c) + 1 : -1;
    case CST_ROLE_PROJECT_OUT: return project ? layers_end(c) + 2 * norm : -1;
    default: return -1;
    }
}

/* Inverse of cst_param_id; id is in range. */
static void role_of(cst_role *role, int *layer, const cst_config *c, int id)
{
    static const cst_role outside[] = {CST_ROLE_EMBED_TOKENS,      CST_ROLE_EMBED_POSITIONS, CST_ROLE_PROJECT_IN,
                                       CST_ROLE_FINAL_NORM_WEIGHT, CST_ROLE_FINAL_NORM_BIAS, CST_ROLE_PROJECT_OUT};
    int begin = layers_begin(c);
    if (id >= begin && id < layers_end(c)) {
        *layer = (id - begin) / CST_ROLES_PER_LAYER;
        *role = (cst_role)(CST_ROLE_LAYER_FIRST + (id - begin) % CST_ROLES_PER_LAYER);
        return;
    }
    *layer = -1;
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        if (cst_param_id(c, outside[i], -1) == id) *role = outside[i];
}

static int64_t size_of(const cst_config *c, enum dim d)
{
    switch (d) {
    case HIDDEN: return c->hidden_size;
    case FFN: return c->ffn_dim;
    case EMBED: return c->word_embed_proj_dim;
    case VOCAB: return c->vocab_size;
    case POSITIONS: return c->max_position_embeddings + 2;
    default: return 1;
    }
}

static const char *name_of(enum dim d)
{
    static const char *const names[] = {
        [NONE] = "",
        [HIDDEN] = "hidden_size",
        [FFN] = "ffn_dim",
        [EMBED] = "word_embed_proj_dim",
        [VOCAB] = "vocab_size",
        [POSITIONS] = "max_position_embeddings + 2",
    };
    return names[d];
}

cst_status cst_param_get(cst_param *p, const cst_config *c, int id)
{
    if (id < 0 || id >= cst_param_count(c))
        return cst_fail(CST_USAGE, "parameter %d of %d", id, cst_param_count(c));
    *p = (cst_param){.zero_row = -1};
    role_of(&p->role, &p->layer, c, id);
    const char *name = ROLES[p->role].name;
    if (p->layer < 0) snprintf(p->name, sizeof p->name, "model.decoder.%s", name);
    else snprintf(p->name, sizeof p->name, "model.decoder.layers.%d.%s", p->layer, name);
    p->kind = ROLES[p->role].kind;
    p->rank = ROLES[p->role].cols == NONE ? 1 : 2;
    p->dims[0] = size_of(c, ROLES[p->role].rows);
    p->dims[1] = size_of(c, ROLES[p->role].cols);
    p->dim_name[0] = name_of(ROLES[p->role].rows);
    p->dim_name[1] = name_of(ROLES[p->role].cols);
    p->count = p->dims[0] * p->dims[1];
    p->decay = p->kind == CST_PARAM_WEIGHT || p->kind == CST_PARAM_EMBEDDING;
    p->init_std = p->decay ? c->init_std : 0;
    p->init_value = p->kind == CST_PARAM_NORM_WEIGHT ? 1 : 0;
    if (p->role == CST_ROLE_EMBED_TOKENS) p->zero_row = c->pad_token_id;
    return CST_OK;
}

int cst_param_find(const cst_config *c, const char *name)
{
    if (!strcmp(name, "lm_head.weight")) return cst_param_id(c, CST_ROLE_EMBED_TOKENS, -1);
    if (!strncmp(name, "model.", 6)) name += 6;
    if (!strncmp(name, "decoder.", 8)) name += 8;
    int layer = -1;
    if (!strncmp(name, "layers.", 7)) {
        char *end, digits[16];
        long n = strtol(name + 7, &end, 10);
        if (*end != '.' || n < 0 || n >= c->num_hidden_layers) return -1;
        /* refuses "+3", " 3" and "03", which strtol takes */
        int length = snprintf(digits, sizeof digits, "%ld", n);
        if (end - (name + 7) != length || strncmp(name + 7, digits, (size_t)length)) return -1;
        layer = (int)n;
        name = end + 1;
    }
    for (int r = 0; r < CST_ROLE_COUNT; r++)
        if (in_layer((cst_role)r) == (layer >= 0) && !strcmp(name, ROLES[r].name))
            return cst_param_id(c, (cst_role)r, layer);
    return -1;
}
