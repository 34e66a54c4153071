/* Writing a tokenizer's folder. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "text/vocabulary.h"

/* The piece as the files write it: UTF-8, two bytes at most for each of n, and a 0 byte; returns the length. */
static size_t piece_write(char *dst, const char *bytes, size_t n, const uint16_t code[256])
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned c = code[(unsigned char)bytes[i]];
        if (c < 0x80) {
            dst[k++] = (char)c;
        } else {
            dst[k++] = (char)(0xc0 | c >> 6);
            dst[k++] = (char)(0x80 | (c & 0x3f));
        }
    }
    dst[k] = 0;
    return k;
}

/* The names of all pieces one behind the other, each with a 0 byte; name[id] points there. Free both. */
static cst_status make_names(char **text, char ***name, const cst_tokenizer *t)
{
    uint16_t code[256];
    int16_t byte[CST_ALPHABET];
    char *p = *text = malloc(2 * t->filled + t->size + 1);
    *name = malloc(((size_t)t->size + 1) * sizeof **name);
    if (!p || !*name) return cst_fail(CST_NO_MEMORY, "names of %" PRIu32 " pieces", t->size);
    cst_alphabet(code, byte);
    for (uint32_t id = 0; id < t->size; id++) {
        const char *bytes;
        size_t n = cst_vocabulary_piece(t, &bytes, id);
        (*name)[id] = p;
        if (cst_vocabulary_special_of(t, id)) {
            memcpy(p, bytes, n);
            p[n] = 0;
        } else {
            n = piece_write(p, bytes, n, code);
        }
        p += n + 1;
    }
    return CST_OK;
}

/* Takes j over; NULL is "out of memory". */
static cst_status save_json(json_t *j, const char *dir, const char *file)
{
    char *path = cst_path_join(dir, file);
    cst_status st = path && j ? cst_json_save(j, path) : cst_fail(CST_NO_MEMORY, "%s/%s", dir, file);
    free(path);
    json_decref(j);
    return st;
}

/* {piece: id} in the order of the ids. */
static json_t *vocab_json(const cst_tokenizer *t, char **name)
{
    json_t *j = json_object();
    for (uint32_t id = 0; j && id < t->size; id++)
        if (json_object_set_new(j, name[id], json_integer(id))) {
            json_decref(j);
            return NULL;
        }
    return j;
}

static cst_status save_merges(const cst_tokenizer *t, char **name, const char *dir)
{
    static const char version[] = "#version: 0.2\n";
    cst_file *f = NULL;
    char *path = cst_path_join(dir, CST_MERGES_FILE);
    cst_status st = path ? CST_OK : cst_fail(CST_NO_MEMORY, "%s", dir);
    size_t room = 0, used = 0;
    char *text = NULL;
    if (st != CST_OK) goto out;
    for (uint32_t m = 0; m < t->merges.pair.count; m++) {
        const char *left = name[t->merges.pair.pair[m] >> 32], *right = name[(uint32_t)t->merges.pair.pair[m]];
        size_t a = strlen(left), b = strlen(right);
        CST_GO(cst_grow(&text, &room, used + a + b + 3, 1), out);
        used += (size_t)sprintf(text + used, "%s %s\n", left, right);
    }
    CST_GO(cst_file_create(&f, path), out);
    CST_GO(cst_file_put(f, version, sizeof version - 1), out);
    CST_GO(cst_file_put(f, text, used), out);
    st = cst_file_commit(f);
    f = NULL;
out:
    cst_file_discard(f);
    free(text);
    free(path);
    return st;
}

json_t *cst_vocabulary_opt_settings(void)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:s, s:s}", "bos_token", "</s>", "eos_token", "</s>", "pad_token", "<pad>",
                     "unk_token", "</s>", "add_bos_token", 1, "add_prefix_space", 0, "errors", "replace", "tokenizer_class",
                     "GPT2Tokenizer");
}

/* What of the settings special_tokens_map.json holds. */
static json_t *special_map(json_t *settings)
{
    const char *key;
    json_t *value, *j = json_object();
    json_object_foreach(settings, key, value)
    {
        size_t length = strlen(key);
        int token = length > 6 && !strcmp(key + length - 6, "_token") && (json_is_string(value) || json_is_object(value));
        if (!token && strcmp(key, "additional_special_tokens")) continue;
        if (json_object_set(j, key, value)) {
            json_decref(j);
            return NULL;
        }
    }
    return j;
}

cst_status cst_tokenizer_save(const cst_tokenizer *t, const char *dir)
{
    char *text = NULL, **name = NULL;
    json_t *settings = t->settings ? json_deep_copy(t->settings) : cst_vocabulary_opt_settings();
    cst_status st;
    CST_GO(cst_make_dirs(dir), out);
    CST_GO(make_names(&text, &name, t), out);
    CST_GO(save_merges(t, name, dir), out);
    CST_GO(save_json(vocab_json(t, name), dir, CST_VOCAB_FILE), out);
    CST_GO(save_json(settings ? special_map(settings) : NULL, dir, "special_tokens_map.json"), out);
    st = save_json(settings, dir, "tokenizer_config.json");
    settings = NULL;
out:
    json_decref(settings);
    free(name);
    free(text);
    return st;
}
