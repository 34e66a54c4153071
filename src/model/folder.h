/* A model as a folder that transformers loads. */
#ifndef CST_MODEL_FOLDER_H
#define CST_MODEL_FOLDER_H

#include "model/model.h"

/* As transformers: 5 GB. */
#define CST_SHARD_BYTES 5000000000u

/* Write config.json, generation_config.json and the weights, f32, into dir (made if missing); see
 * cst_weights_save_folder for shard_bytes. Each file is whole or not there. */
cst_status cst_model_save(cst_model *M, const char *dir, uint64_t shard_bytes);

/* Small files of a model's folder that are passed on as they are, because they say more than what was understood of them.
 * Kept in memory: their folder may be gone when they are written. */
typedef struct cst_folder_files {
    int count;
    struct {
        const char *name;
        char *data;
        size_t size;
    } file[8];
} cst_folder_files;

/* Add those of a tokenizer's files that are in folder `from`: vocab.json, merges.txt, tokenizer.json, tokenizer_config.json,
 * special_tokens_map.json, added_tokens.json. Start with a zeroed *f; free it also after a failure. */
cst_status cst_folder_files_tokenizer(cst_folder_files *f, const char *from);
/* The same for generation_config.json. */
cst_status cst_folder_files_generation(cst_folder_files *f, const char *from);
cst_status cst_folder_files_write(const cst_folder_files *f, const char *dir);
void cst_folder_files_free(cst_folder_files *f);

#endif
