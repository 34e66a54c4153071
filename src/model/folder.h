/* A model as a folder that transformers loads. */
#ifndef CST_MODEL_FOLDER_H
#define CST_MODEL_FOLDER_H

#include "model/model.h"

/* As transformers: 5 GB. */
#define CST_SHARD_BYTES 5000000000u

/* Write config.json, generation_config.json and the weights, f32, into dir (made if missing); see
 * cst_weights_save_folder for shard_bytes. Each file is whole or not there. */
cst_status cst_model_save(cst_model *M, const char *dir, uint64_t shard_bytes);

/* Copy those of a tokenizer's files that are in folder `from` into folder dir: vocab.json, merges.txt, tokenizer.json,
 * tokenizer_config.json, special_tokens_map.json, added_tokens.json. */
cst_status cst_folder_copy_tokenizer(const char *dir, const char *from);
/* The same for generation_config.json. */
cst_status cst_folder_copy_generation(const char *dir, const char *from);

#endif
