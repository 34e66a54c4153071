#include "model/folder.h"

#include <jansson.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"
#include "model/weights.h"

#define GENERATION "generation_config.json"

static cst_status save_generation(const cst_config *c, const char *dir)
{
    const struct {
        const char *name;
        int64_t id;
    } tokens[] = {{"bos_token_id", c->bos_token_id}, {"eos_token_id", c->eos_token_id}, {"pad_token_id", c->pad_token_id}};
    char *path = cst_path_join(dir, GENERATION);
    json_t *j = json_pack("{s:b}", "_from_model_config", 1);
    int bad = !path || !j;
    for (int i = 0; i < 3; i++)
        if (tokens[i].id >= 0) bad |= json_object_set_new(j, tokens[i].name, json_integer(tokens[i].id)) != 0;
    cst_status st = bad ? cst_fail(CST_NO_MEMORY, "%s", dir) : cst_json_save(j, path);
    json_decref(j);
    free(path);
    return st;
}

cst_status cst_model_save(cst_model *M, const char *dir, uint64_t shard_bytes)
{
    CST_TRY(cst_make_dirs(dir));
    CST_TRY(cst_weights_save_folder(M, dir, shard_bytes));
    CST_TRY(cst_config_save(&M->config, dir));
    return save_generation(&M->config, dir);
}

static cst_status add_file(cst_folder_files *f, const char *from, const char *name)
{
    char *path = cst_path_join(from, name);
    if (!path) return cst_fail(CST_NO_MEMORY, "%s", from);
    cst_status st = CST_OK;
    if (cst_path_exists(path)) {
        st = cst_file_read(&f->file[f->count].data, &f->file[f->count].size, path);
        if (st == CST_OK) f->file[f->count++].name = name;
    }
    free(path);
    return st;
}

cst_status cst_folder_files_tokenizer(cst_folder_files *f, const char *from)
{
    static const char *const names[] = {"vocab.json",            "merges.txt",              "tokenizer.json",
                                        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) CST_TRY(add_file(f, from, names[i]));
    return CST_OK;
}

cst_status cst_folder_files_generation(cst_folder_files *f, const char *from)
{
    return add_file(f, from, GENERATION);
}

cst_status cst_folder_files_write(const cst_folder_files *f, const char *dir)
{
    cst_status st = CST_OK;
    for (int i = 0; st == CST_OK && i < f->count; i++) {
        char *path = cst_path_join(dir, f->file[i].name);
        st = path ? cst_file_write(path, f->file[i].data, f->file[i].size) : cst_fail(CST_NO_MEMORY, "%s", dir);
        free(path);
    }
    return st;
}

void cst_folder_files_free(cst_folder_files *f)
{
    for (int i = 0; i < f->count; i++) free(f->file[i].data);
    f->count = 0;
}
