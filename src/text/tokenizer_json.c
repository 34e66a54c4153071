/* tokenizer.json, the one file of Hugging Face's tokenizers: the model's vocabulary and merges, and proof that nothing in it makes
 * other ids than the tokenizer that this project has. Its "post_processor" only says what is put in front of a text. */
#include <string.h>

#include "base/json.h"
#include "text/vocabulary.h"

/* A part's type; "null" when there is no part, "" when it doesn't say. */
static const char *type_of(const json_t *part)
{
    const char *type = json_string_value(json_object_get(part, "type"));
    return type ? type : json_is_object(part) ? "" : "null";
}

static cst_status want_type(const json_t *file, const char *member, const char *want, const char *path)
{
    const char *type = type_of(json_object_get(file, member));
    if (!strcmp(type, want)) return CST_OK;
    return cst_fail(CST_UNSUPPORTED, "%s: the type of \"%s\" is \"%s\"; OPT's tokenizers have \"%s\"", path, member, type, want);
}

/* member of part must be absent, null or `want`. */
static cst_status want_flag(const json_t *file, const char *part, const char *member, int want, const char *path)
{
    int v = want;
    CST_TRY(cst_json_bool(&v, json_object_get(file, part), member, path));
    if (v == want) return CST_OK;
    return cst_fail(CST_UNSUPPORTED, "%s: \"%s\" of \"%s\" is %s; OPT's tokenizers have %s", path, member, part, v ? "true" : "false",
                    want ? "true" : "false");
}

/* All that decides how text is cut and which pieces it becomes. */
static cst_status check_parts(const json_t *file, const char *path)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *model = json_object_get(file, "model");
    double dropout = 0;
    if (*type_of(model) || !json_object_get(model, "merges")) CST_TRY(want_type(file, "model", "BPE", path)); /* GPT-2's own has no type */
    CST_TRY(want_type(file, "normalizer", "null", path));
    CST_TRY(want_type(file, "pre_tokenizer", "ByteLevel", path));
    CST_TRY(want_type(file, "decoder", "ByteLevel", path));
    CST_TRY(want_flag(file, "pre_tokenizer", "add_prefix_space", 0, path));
    CST_TRY(want_flag(file, "pre_tokenizer", "use_regex", 1, path));
    CST_TRY(want_flag(file, "model", "byte_fallback", 0, path));
    CST_TRY(want_flag(file, "model", "ignore_merges", 0, path));
    CST_TRY(cst_json_real(&dropout, model, "dropout", path));
    if (dropout != 0) return cst_fail(CST_UNSUPPORTED, "%s: \"dropout\" of \"model\" is %g; OPT's tokenizers have none", path, dropout);
    for (int i = 0; i < 2; i++) {
        const char *affix = "";
        CST_TRY(cst_json_string(&affix, model, affixes[i], path));
        if (*affix)
            return cst_fail(CST_UNSUPPORTED, "%s: \"%s\" of \"model\" is \"%s\"; OPT's tokenizers have none", path, affixes[i], affix);
    }
    return CST_OK;
}

static cst_status want_member(json_t **out, const json_t *from, const char *member, json_type type, const char *path)
{
    json_t *j = json_object_get(from, member);
    if (!j || json_typeof(j) != type)
        return cst_fail(CST_INPUT, "%s: \"%s\" must be an %s", path, member, type == JSON_ARRAY ? "array" : "object");
    *out = json_incref(j);
    return CST_OK;
}

/* Added tokens are of the vocabulary, whether the model has them or not. */
static cst_status join_added(cst_tokenizer_json *j, const char *path)
{
    size_t i;
    json_t *token;
    json_array_foreach(j->added, i, token)
    {
        const char *name = json_string_value(json_object_get(token, "content"));
        const json_t *id = json_object_get(token, "id"), *known = name ? json_object_get(j->vocab, name) : NULL;
        if (!name || !json_is_integer(id))
            return cst_fail(CST_INPUT, "%s: \"added_tokens\", place %zu: an \"id\" and a name as \"content\" are wanted", path, i);
        if (known && !json_equal(known, id))
            return cst_fail(CST_INPUT, "%s: the added token \"%s\" has id %lld, in the vocabulary another one", path, name,
                            (long long)json_integer_value(id));
        if (!known && json_object_set_new(j->vocab, name, json_integer(json_integer_value(id)))) return cst_fail(CST_NO_MEMORY, "%s", path);
    }
    return CST_OK;
}

cst_status cst_tokenizer_json_load(cst_tokenizer_json *j, const char *path)
{
    json_t *file = NULL;
    cst_status st;
    CST_TRY(cst_json_load(&file, path, JSON_OBJECT));
    const json_t *model = json_object_get(file, "model"), *added = json_object_get(file, "added_tokens");
    CST_GO(check_parts(file, path), out);
    CST_GO(want_member(&j->vocab, model, "vocab", JSON_OBJECT, path), out);
    CST_GO(want_member(&j->merges, model, "merges", JSON_ARRAY, path), out);
    if (added && !json_is_null(added)) CST_GO(want_member(&j->added, file, "added_tokens", JSON_ARRAY, path), out);
    st = join_added(j, path);
out:
    json_decref(file);
    return st;
}

void cst_tokenizer_json_free(cst_tokenizer_json *j)
{
    json_decref(j->vocab);
    json_decref(j->merges);
    json_decref(j->added);
}
