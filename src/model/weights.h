/* A model's weights in files with Hugging Face's names. */
#ifndef CST_MODEL_WEIGHTS_H
#define CST_MODEL_WEIGHTS_H

#include <jansson.h>

#include "model/model.h"

/* Fill M->w from a folder's weights in any of the forms of io/weights_source.h, tensor by tensor (f32, f16, bf16 or f64
 * there), through a few MiB of host memory. Every parameter must be there once, with its shape and finite; names may lack
 * "model." and "decoder."; lm_head.weight may be there as well, or in place of embed_tokens.weight, but is the same
 * tensor. Names and shapes are checked before anything is written. INPUT, UNSUPPORTED or NOT_FINITE names file and
 * tensor. */
cst_status cst_weights_load(cst_model *M, const char *dir);

/* Fill those of M->w whose name and shape are in a folder's weights (names as above), and leave the others as they are.
 * *report, a new reference: {"folder", "taken": [name], "left": [name], "unused": ["name: why"]}. INPUT when nothing agrees;
 * NOT_FINITE, IO and so on as in cst_weights_load, and then some parameters may have changed. */
cst_status cst_weights_init_from(cst_model *M, const char *dir, json_t **report);

/* Write `tensor[i]`, i in [0, params) (M->w or M->g) to one safetensors file under the parameters' names, and, where
 * scalar_name is not NULL, one more f32 scalar. Atomic: the old file stays until the new one is complete. */
cst_status cst_weights_save(cst_model *M, cst_tensor *const *tensor, const char *path, const char *scalar_name, float scalar);

/* Write M->w into a folder: model.safetensors, or, when that would be more than shard_bytes of data,
 * model-0000i-of-0000n.safetensors of at most so much (unless one tensor is larger) and their index. All shards are
 * complete before the first gets its name; a model.safetensors or index of an earlier save is removed at the end. */
cst_status cst_weights_save_folder(cst_model *M, const char *dir, uint64_t shard_bytes);

#endif
