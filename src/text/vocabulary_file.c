/* Reading a tokenizer's folder: vocab.json and merges.txt, or tokenizer.json in their place, and the two files that say which special
 * tokens there are. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "text/vocabulary.h"

/* What is being read. */
typedef struct reader {
    char *vocab_path, *merges_path, *json_path, *config_path, *map_path;
    json_t *vocab;
    const char *vocab_name; /* what messages about merges call it */
    cst_tokenizer_json json; /* what tokenizer.json says; all NULL: it isn't used */
    const char **name; /* [size], borrowed from vocab */
    size_t room;       /* bytes of all names */
    cst_tokenizer *t;
} reader;

/* ---- vocab.json ---- */

/* The other way of what vocabulary_save.c does; -1 when a character stands for no byte. `piece` is valid UTF-8: jansson takes no other. */
static long piece_read(char *dst, const char *piece, const int16_t byte[CST_ALPHABET])
{
    long k = 0;
    for (const unsigned char *p = (const unsigned char *)piece; *p; p++) {
        unsigned c = *p;
        if (c >= 0xe0) return -1;
        if (c >= 0x80) c = (c & 0x1f) << 6 | (*++p & 0x3f);
        if (c >= CST_ALPHABET || byte[c] < 0) return -1;
        dst[k++] = (char)byte[c];
    }
    return k;
}

/* Checks that ids are 0..n-1, each once, and fills r->name. */
static cst_status sort_names(reader *r)
{
    json_int_t n = (json_int_t)json_object_size(r->vocab);
    const char *key, *path = r->vocab_path;
    json_t *value;
    json_object_foreach(r->vocab, key, value)
    {
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value)) return cst_fail(CST_INPUT, "%s: the id of \"%s\" is no integer", path, key);
        if (id < 0 || id >= n)
            return cst_fail(CST_INPUT, "%s: \"%s\" has id %lld, outside 0..%lld", path, key, (long long)id, (long long)n - 1);
        if (r->name[id])
            return cst_fail(CST_INPUT, "%s: \"%s\" and \"%s\" both have id %lld", path, r->name[id], key, (long long)id);
        if (!*key) return cst_fail(CST_INPUT, "%s: a piece of 0 bytes has id %lld", path, (long long)id);
        r->name[id] = key;
        r->room += strlen(key);
    }
    if (r->room > UINT32_MAX) return cst_fail(CST_INPUT, "%s: pieces of %zu bytes together", path, r->room);
    return CST_OK;
}

static cst_status add_pieces(reader *r)
{
    uint16_t code[256];
    int16_t byte[CST_ALPHABET];
    cst_tokenizer *t = r->t;
    cst_alphabet(code, byte);
    for (uint32_t id = 0; id < t->size; id++) {
        const char *name = r->name[id];
        if (cst_vocabulary_special_of(t, id)) {
            cst_vocabulary_add(t, id, name, strlen(name), 1);
            continue;
        }
        long n = piece_read(t->bytes + t->filled, name, byte); /* never longer than the name */
        if (n < 0) return cst_fail(CST_INPUT, "%s: \"%s\" has a character that stands for no byte", r->vocab_path, name);
        cst_vocabulary_add(t, id, t->bytes + t->filled, (size_t)n, 0);
    }
    return CST_OK;
}

/* ---- special tokens ---- */

/* A special token by its name; where: the file and member that name it. */
static cst_status add_special(reader *r, uint32_t *id, const char *name, const char *path, const char *member)
{
    json_t *found = json_object_get(r->vocab, name);
    if (!found) return cst_fail(CST_INPUT, "%s: no piece \"%s\", which is \"%s\" in %s", r->vocab_path, name, member, path);
    *id = (uint32_t)json_integer_value(found);
    return cst_vocabulary_special(r->t, *id, 1);
}

/* A special token as a string or as an object with "content". */
static cst_status read_special(reader *r, uint32_t *id, const json_t *token, const char *path, const char *member)
{
    static const char *const unsupported[] = {"lstrip", "rstrip", "single_word"};
    const char *name = json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
    if (!name || !*name)
        return cst_fail(CST_INPUT, "%s: \"%s\" must be a name, or an object with the name as \"content\"", path, member);
    for (int i = 0; i < 3; i++)
        if (json_is_true(json_object_get(token, unsupported[i])))
            return cst_fail(CST_UNSUPPORTED, "%s: \"%s\" with \"%s\"", path, member, unsupported[i]);
    return add_special(r, id, name, path, member);
}

/* Members "bos_token", ... of one of the two files. The later file has the last word on bos and eos. */
static cst_status read_settings(reader *r, json_t *settings, const char *path)
{
    const char *key;
    json_t *value, *item;
    size_t i, length;
    uint32_t id;
    int prefix = 0;
    CST_TRY(cst_json_bool(&prefix, settings, "add_prefix_space", path));
    if (prefix) return cst_fail(CST_UNSUPPORTED, "%s: \"add_prefix_space\" is true; OPT's tokenizers have false", path);
    json_object_foreach(settings, key, value)
    {
        length = strlen(key);
        if (length > 6 && !strcmp(key + length - 6, "_token") && (json_is_string(value) || json_is_object(value))) {
            CST_TRY(read_special(r, &id, value, path, key));
            if (!strcmp(key, "bos_token")) r->t->bos = id;
            if (!strcmp(key, "eos_token")) r->t->eos = id;
        } else if (!strcmp(key, "additional_special_tokens") && json_is_array(value)) {
            json_array_foreach(value, i, item) CST_TRY(read_special(r, &id, item, path, key));
        } else if (!strcmp(key, "added_tokens_decoder") && json_is_object(value)) {
            const char *number;
            json_object_foreach(value, number, item) CST_TRY(read_special(r, &id, item, path, key));
        }
    }
    return CST_OK;
}

/* One of the two files, if it is there; what it says goes over what is in *settings. */
static cst_status load_settings(reader *r, json_t **settings, const char *path)
{
    json_t *j = NULL;
    if (!cst_path_exists(path)) return CST_OK;
    CST_TRY(cst_json_load_big(&j, path, JSON_OBJECT)); /* transformers writes "model_max_length": 10^30 for "no limit" */
    cst_status st = read_settings(r, j, path);
    if (st == CST_OK && *settings && json_object_update(*settings, j)) st = cst_fail(CST_NO_MEMORY, "%s", path);
    if (st == CST_OK && !*settings) *settings = json_incref(j);
    json_decref(j);
    return st;
}

/* The added tokens of tokenizer.json go into the settings, where tokenizer_config.json has them, so that they are saved. */
static cst_status read_added(reader *r)
{
    cst_tokenizer *t = r->t;
    size_t i;
    json_t *token, *list = json_object();
    cst_status st = list ? CST_OK : cst_fail(CST_NO_MEMORY, "%s", r->json_path);
    json_array_foreach(r->json.added, i, token)
    {
        uint32_t id;
        char number[16];
        CST_GO(read_special(r, &id, token, r->json_path, "added_tokens"), out);
        snprintf(number, sizeof number, "%" PRIu32, id);
        json_t *copy = json_copy(token);
        json_object_del(copy, "id"); /* there it is the key */
        if (json_object_set_new(list, number, copy)) st = cst_fail(CST_NO_MEMORY, "%s", r->json_path);
    }
    if (st != CST_OK || !json_object_size(list)) goto out;
    if (!t->settings) t->settings = cst_vocabulary_opt_settings();
    json_t *known = json_object_get(t->settings, "added_tokens_decoder");
    if (json_is_object(known) ? json_object_update_missing(known, list) : json_object_set(t->settings, "added_tokens_decoder", list))
        st = cst_fail(CST_NO_MEMORY, "%s", r->json_path);
out:
    json_decref(list);
    return st;
}

static cst_status read_specials(reader *r)
{
    cst_tokenizer *t = r->t;
    t->bos = t->eos = UINT32_MAX;
    CST_TRY(load_settings(r, &t->settings, r->map_path));
    CST_TRY(load_settings(r, &t->settings, r->config_path));
    int opt = !t->settings;
    CST_TRY(read_added(r));
    if (t->bos == UINT32_MAX) CST_TRY(add_special(r, &t->bos, "</s>", "OPT", "bos_token"));
    if (t->eos == UINT32_MAX) CST_TRY(add_special(r, &t->eos, "</s>", "OPT", "eos_token"));
    /* OPT's other two are no more than pieces that no text gives, but decoding may leave them out. */
    for (int s = 0; s < CST_SPECIALS; s++) {
        json_t *id = json_object_get(r->vocab, cst_special_name[s]);
        int in_text = opt && s == CST_TOKEN_PAD;
        if (id) CST_TRY(cst_vocabulary_special(t, (uint32_t)json_integer_value(id), in_text));
    }
    return CST_OK;
}

/* ---- merges ---- */

/* One merge, "left right", cut in place; the byte at end may be overwritten. what, number: "line" 7 of the file. */
static cst_status read_merge(reader *r, char *line, char *end, const char *what, size_t number)
{
    const char *path = r->merges_path;
    char *left = line, *right = memchr(line, ' ', (size_t)(end - line));
    *end = 0;
    if (!right || right == left || right + 1 == end || strlen(line) < (size_t)(end - line) || strchr(right + 1, ' '))
        return cst_fail(CST_INPUT, "%s: %s %zu: two pieces with one space between them are wanted", path, what, number);
    *right++ = 0;
    json_t *a = json_object_get(r->vocab, left), *b = json_object_get(r->vocab, right);
    if (!a || !b) return cst_fail(CST_INPUT, "%s: %s %zu: \"%s\" is not in %s", path, what, number, a ? right : left, r->vocab_name);
    size_t n = (size_t)(right - left) - 1;
    memmove(left + 1, left, n); /* over the 0 byte between them */
    json_t *made = json_object_get(r->vocab, left + 1);
    if (!made) return cst_fail(CST_INPUT, "%s: %s %zu makes \"%s\", which is not in %s", path, what, number, left + 1, r->vocab_name);
    cst_status st = cst_merges_add(&r->t->merges, (uint32_t)json_integer_value(a), (uint32_t)json_integer_value(b),
                                   (uint32_t)json_integer_value(made));
    return st == CST_INPUT ? cst_fail(st, "%s: %s %zu: this merge was there before", path, what, number) : st;
}

/* tokenizer.json's: each is "left right" or, since tokenizers 0.20, ["left", "right"]. */
static cst_status read_json_merges(reader *r)
{
    size_t i, room = 0;
    json_t *merge;
    char *line = NULL;
    cst_status st = CST_OK;
    json_array_foreach(r->json.merges, i, merge)
    {
        int pair = json_array_size(merge) == 2;
        const char *left = json_string_value(pair ? json_array_get(merge, 0) : merge),
                   *right = pair ? json_string_value(json_array_get(merge, 1)) : "";
        if (!left || !right) {
            st = cst_fail(CST_INPUT, "%s: merge %zu: a string or an array of two strings is wanted", r->merges_path, i + 1);
            goto out;
        }
        size_t n = strlen(left) + strlen(right) + 1;
        CST_GO(cst_grow(&line, &room, n + 1, 1), out);
        n = (size_t)sprintf(line, "%s%s%s", left, pair ? " " : "", right);
        CST_GO(read_merge(r, line, line + n, "merge", i + 1), out);
    }
out:
    free(line);
    return st;
}

/* A line that begins with #version, and an empty one, says nothing. */
static cst_status read_merges(reader *r)
{
    char *text;
    size_t n, number = 1;
    if (r->json.merges) return read_json_merges(r);
    CST_TRY(cst_file_read(&text, &n, r->merges_path));
    cst_status st = CST_OK;
    for (char *p = text, *end = text + n; p < end && st == CST_OK; number++) {
        char *stop = memchr(p, '\n', (size_t)(end - p));
        char *next = stop ? stop + 1 : end, *last = stop ? stop : end;
        if (last > p && last[-1] == '\r') last--;
        if (last > p && strncmp(p, "#version", 8)) st = read_merge(r, p, last, "line", number);
        p = next;
    }
    free(text);
    return st;
}

/* ---- the folder ---- */

/* tokenizer.json serves where the other two aren't both there. */
static cst_status load_files(reader *r)
{
    int both = cst_path_exists(r->vocab_path) && cst_path_exists(r->merges_path);
    if (both || !cst_path_exists(r->json_path)) {
        r->vocab_name = CST_VOCAB_FILE;
        return cst_json_load(&r->vocab, r->vocab_path, JSON_OBJECT);
    }
    CST_TRY(cst_tokenizer_json_load(&r->json, r->json_path));
    free(r->vocab_path);
    free(r->merges_path);
    r->vocab_path = r->merges_path = NULL;
    if (!(r->vocab_path = strdup(r->json_path)) || !(r->merges_path = strdup(r->json_path)))
        return cst_fail(CST_NO_MEMORY, "%s", r->json_path);
    r->vocab = json_incref(r->json.vocab);
    r->vocab_name = "its vocabulary";
    return CST_OK;
}

static cst_status reader_open(reader *r, const char *dir)
{
    r->vocab_path = cst_path_join(dir, CST_VOCAB_FILE);
    r->merges_path = cst_path_join(dir, CST_MERGES_FILE);
    r->json_path = cst_path_join(dir, CST_TOKENIZER_JSON_FILE);
    r->config_path = cst_path_join(dir, "tokenizer_config.json");
    r->map_path = cst_path_join(dir, "special_tokens_map.json");
    if (!r->vocab_path || !r->merges_path || !r->json_path || !r->config_path || !r->map_path) return cst_fail(CST_NO_MEMORY, "%s", dir);
    CST_TRY(load_files(r));
    size_t n = json_object_size(r->vocab);
    if (n > INT32_MAX || !(r->name = calloc(n + 1, sizeof *r->name))) return cst_fail(CST_NO_MEMORY, "%s: %zu pieces", r->vocab_path, n);
    CST_TRY(sort_names(r));
    return cst_vocabulary_new(&r->t, (uint32_t)n, r->room);
}

cst_status cst_vocabulary_read(cst_tokenizer **out, const char *dir)
{
    reader r = {0};
    cst_status st;
    CST_GO(reader_open(&r, dir), out);
    CST_GO(read_specials(&r), out);
    CST_GO(add_pieces(&r), out);
    CST_GO(read_merges(&r), out);
    CST_GO(cst_vocabulary_finish(r.t, r.vocab_path), out);
    *out = r.t;
    r.t = NULL;
out:
    cst_tokenizer_free(r.t);
    free(r.name);
    json_decref(r.vocab);
    cst_tokenizer_json_free(&r.json);
    free(r.vocab_path);
    free(r.merges_path);
    free(r.json_path);
    free(r.config_path);
    free(r.map_path);
    return st;
}
