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

static cst_status copy_file(const char *dir, const char *from, const char *name)
{
    size_t n;
    char *data = NULL, *source = cst_path_join(from, name), *path = cst_path_join(dir, name);
    cst_status st = CST_OK;
    if (!source || !path) {
        st = cst_fail(CST_NO_MEMORY, "%s", dir);
        goto out;
    }
    if (!cst_path_exists(source)) goto out;
    CST_GO(cst_file_read(&data, &n, source), out);
    st = cst_file_write(path, data, n);
out:
    free(data);
    free(source);
    free(path);
    return st;
}

cst_status cst_folder_copy_tokenizer(const char *dir, const char *from)
{
    static const char *const names[] = {"vocab.json",            "merges.txt",              "tokenizer.json",
                                        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) CST_TRY(copy_file(dir, from, names[i]));
    return CST_OK;
}

cst_status cst_folder_copy_generation(const char *dir, const char *from)
{
    return copy_file(dir, from, GENERATION);
}
