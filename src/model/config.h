/* The shape of an OPT model, as config.json of a Hugging Face folder says it. */
#ifndef CST_MODEL_CONFIG_H
#define CST_MODEL_CONFIG_H

#include <jansson.h>
#include <stdint.h>

#include "base/status.h"
#include "op/activation.h"

/* Members have the names of config.json; where a file lacks one it keeps the default of transformers'
 * OPTConfig, the value in brackets. */
typedef struct cst_config {
    int64_t vocab_size;              /* rows of the token embedding [50272] */
    int64_t hidden_size;             /* [768] */
    int64_t num_hidden_layers;       /* [12] */
    int64_t ffn_dim;                 /* [3072] */
    int64_t num_attention_heads;     /* divides hidden_size [12] */
    int64_t word_embed_proj_dim;     /* columns of the token embedding [hidden_size] */
    int64_t max_position_embeddings; /* tokens in a sequence; the table has 2 rows more [2048] */
    int do_layer_norm_before;        /* 1: pre-layer-norm; 0: post-layer-norm, as OPT-350M [1] */
    int remove_final_layer_norm;     /* "_remove_final_layer_norm" [0] */
    int enable_bias;                 /* must be 1 [1] */
    int layer_norm_elementwise_affine; /* must be 1 [1] */
    int tie_word_embeddings;           /* must be 1 [1] */
    cst_activation activation_function; /* [relu] */
    double dropout;                     /* after out_proj and fc2, in [0, 1) [0.1] */
    double attention_dropout;           /* must be 0 [0] */
    double layerdrop;                   /* must be 0 [0] */
    double init_std;                    /* of random weights, more than 0 [0.02] */
    double layer_norm_eps;              /* not in the file: always 1e-5 */
    int64_t bos_token_id;               /* -1: none [2] */
    int64_t eos_token_id;               /* -1: none; the first one where the file has a list [2] */
    int64_t pad_token_id;               /* -1: none [1] */
} cst_config;

/* Every member its default. */
void cst_config_default(cst_config *c);
/* Read a config.json, or the one in a folder, and check it. CST_INPUT or CST_UNSUPPORTED names the file and
 * the member. */
cst_status cst_config_load(cst_config *c, const char *path_or_dir);
/* A published model: 125m, 350m, 1.3b, 2.7b, 6.7b, 13b, each also with "opt-" or "facebook/opt-" before it.
 * CST_USAGE for another name. */
cst_status cst_config_preset(cst_config *c, const char *name);
/* Write a config.json (or into a folder) that transformers' OPTForCausalLM loads. */
cst_status cst_config_save(const cst_config *c, const char *path_or_dir);
/* The same as JSON, a new reference; NULL when out of memory. */
json_t *cst_config_json(const cst_config *c);
/* CST_INPUT for sizes that make no sense, CST_UNSUPPORTED for what Castor doesn't compute; `where` starts
 * the message. */
cst_status cst_config_check(const cst_config *c, const char *where);
/* Parameters of a checked configuration, the tied head counted once: 331196416 for 350m. */
int64_t cst_config_parameters(const cst_config *c);
/* Is there a layer norm after the last layer, before the head? */
int cst_config_has_final_norm(const cst_config *c);
/* Are there project_in and project_out? */
int cst_config_has_projections(const cst_config *c);

#endif
