/* The table of an OPT model's parameters: names as in Hugging Face files, shapes, how each begins.
 *
 * Parameters are numbered 0 to cst_param_count() - 1 in the order in which the forward pass meets them.
 * Within a layer the weights of k, v and q are neighbours, and so are their biases, so that whoever lays
 * parameters out by number may compute all three in one product. The head is embed_tokens, once.
 * Linear weights are [out, in], row-major: y = x W^T + b.
 */
#ifndef CST_MODEL_NAMES_H
#define CST_MODEL_NAMES_H

#include <stdint.h>

#include "base/status.h"
#include "model/config.h"

/* D: hidden_size, F: ffn_dim, E: word_embed_proj_dim */
typedef enum cst_role {
    CST_ROLE_EMBED_TOKENS,      /* [vocab_size, E] */
    CST_ROLE_EMBED_POSITIONS,   /* [max_position_embeddings + 2, D]; position p is row p + 2 */
    CST_ROLE_PROJECT_IN,        /* [D, E], absent when E == D */
    CST_ROLE_K_WEIGHT,          /* from here on: once per layer; [D, D] */
    CST_ROLE_V_WEIGHT,
    CST_ROLE_Q_WEIGHT,
    CST_ROLE_K_BIAS,            /* [D] */
    CST_ROLE_V_BIAS,
    CST_ROLE_Q_BIAS,
    CST_ROLE_OUT_WEIGHT,        /* self_attn.out_proj [D, D] */
    CST_ROLE_OUT_BIAS,          /* [D] */
    CST_ROLE_ATTN_NORM_WEIGHT,  /* self_attn_layer_norm [D] */
    CST_ROLE_ATTN_NORM_BIAS,
    CST_ROLE_FC1_WEIGHT,        /* [F, D] */
    CST_ROLE_FC1_BIAS,          /* [F] */
    CST_ROLE_FC2_WEIGHT,        /* [D, F] */
    CST_ROLE_FC2_BIAS,          /* [D] */
    CST_ROLE_FFN_NORM_WEIGHT,   /* the layer's own final_layer_norm [D] */
    CST_ROLE_FFN_NORM_BIAS,     /* the last of a layer */
    CST_ROLE_FINAL_NORM_WEIGHT, /* decoder.final_layer_norm [D], absent in post-layer-norm models */
    CST_ROLE_FINAL_NORM_BIAS,
    CST_ROLE_PROJECT_OUT,       /* [E, D], absent when E == D */
    CST_ROLE_COUNT
} cst_role;

#define CST_ROLE_LAYER_FIRST CST_ROLE_K_WEIGHT
#define CST_ROLE_LAYER_LAST CST_ROLE_FFN_NORM_BIAS
#define CST_ROLES_PER_LAYER (CST_ROLE_LAYER_LAST - CST_ROLE_LAYER_FIRST + 1)

typedef enum cst_param_kind {
    CST_PARAM_WEIGHT,
    CST_PARAM_BIAS,
    CST_PARAM_NORM_WEIGHT,
    CST_PARAM_NORM_BIAS,
    CST_PARAM_EMBEDDING
} cst_param_kind;

typedef struct cst_param {
    char name[80]; /* "model.decoder.layers.3.self_attn.q_proj.weight" */
    cst_role role;
    int layer; /* -1 outside the layers */
    cst_param_kind kind;
    int rank; /* 1 or 2 */
    int64_t dims[2];
    const char *dim_name[2]; /* what config.json calls them ("hidden_size"); static */
    int64_t count; /* elements */
    double init_std;   /* normal with this deviation about init_value; 0: init_value exactly */
    double init_value;
    int64_t zero_row; /* row that begins as zero (the padding token's), -1: none */
    int decay;        /* 1 where AdamW's weight decay applies: all but biases and norms */
} cst_param;

/* Number of parameter tensors: 388 for 350m. c must have passed cst_config_check. */
int cst_param_count(const cst_config *c);
/* Describe parameter id. CST_USAGE outside [0, count). */
cst_status cst_param_get(cst_param *p, const cst_config *c, int id);
/* Number of the parameter with this role; `layer` is not looked at for roles outside the layers.
 * -1 when the model has none. */
int cst_param_id(const cst_config *c, cst_role role, int layer);
/* Number of the parameter with this name, -1: none. Names without the leading "model." or "decoder." (as in files
 * of the bare model or decoder) are found too, and "lm_head.weight" is embed_tokens. */
int cst_param_find(const cst_config *c, const char *name);

#endif
