/* A tokenizer's folder: vocab.json, merges.txt, and the two files that say which special tokens there are. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "text/vocabulary.h"

/* What is being read. */
typedef struct reader {
    char *vocab_path, *merges_path, *config_path, *map_path;
    json_t *vocab;
    const char **name; /* [size], borrowed from vocab */
    size_t room;       /* bytes of all names */
    cst_tokenizer *t;
} reader;

/* ---- vocab.json ---- */

/* The other way of piece_write; -1 when a character stands for no byte. `piece` is valid UTF-8: jansson takes no other. */
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
    CST_TRY(cst_json_load(&j, path, JSON_OBJECT));
    cst_status st = read_settings(r, j, path);
    if (st == CST_OK && *settings && json_object_update(*settings, j)) st = cst_fail(CST_NO_MEMORY, "%s", path);
    if (st == CST_OK && !*settings) *settings = json_incref(j);
    json_decref(j);
    return st;
}

static cst_status read_specials(reader *r)
{
    cst_tokenizer *t = r->t;
    t->bos = t->eos = UINT32_MAX;
    CST_TRY(load_settings(r, &t->settings, r->map_path));
    CST_TRY(load_settings(r, &t->settings, r->config_path));
    if (t->bos == UINT32_MAX) CST_TRY(add_special(r, &t->bos, "</s>", "OPT", "bos_token"));
    if (t->eos == UINT32_MAX) CST_TRY(add_special(r, &t->eos, "</s>", "OPT", "eos_token"));
    /* OPT's other two are no more than pieces that no text gives, but decoding may leave them out. */
    for (int s = 0; s < CST_SPECIALS; s++) {
        json_t *id = json_object_get(r->vocab, cst_special_name[s]);
        int in_text = !t->settings && s == CST_TOKEN_PAD;
        if (id) CST_TRY(cst_vocabulary_special(t, (uint32_t)json_integer_value(id), in_text));
    }
    return CST_OK;
}

/* ---- merges.txt ---- */

/* One line, "left right", cut in place. */
static cst_status read_merge(reader *r, char *line, char *end, int number)
{
    const char *path = r->merges_path;
    char *left = line, *right = memchr(line, ' ', (size_t)(end - line));
    *end = 0;
    if (!right || right == left || right + 1 == end || strlen(line) < (size_t)(end - line) || strchr(right + 1, ' '))
        return cst_fail(CST_INPUT, "%s: line %d: two pieces with one space between them are wanted", path, number);
    *right++ = 0;
    json_t *a = json_object_get(r->vocab, left), *b = json_object_get(r->vocab, right);
    if (!a || !b) return cst_fail(CST_INPUT, "%s: line %d: \"%s\" is not in vocab.json", path, number, a ? right : left);
    size_t n = (size_t)(right - left) - 1;
    memmove(left + 1, left, n); /* over the 0 byte between them */
    json_t *made = json_object_get(r->vocab, left + 1);
    if (!made) return cst_fail(CST_INPUT, "%s: line %d makes \"%s\", which is not in vocab.json", path, number, left + 1);
    cst_status st = cst_merges_add(&r->t->merges, (uint32_t)json_integer_value(a), (uint32_t)json_integer_value(b),
                                   (uint32_t)json_integer_value(made));
    return st == CST_INPUT ? cst_fail(st, "%s: line %d: this merge was there before", path, number) : st;
}

/* A line that begins with #version, and an empty one, says nothing. */
static cst_status read_merges(reader *r)
{
    char *text;
    size_t n;
    int number = 1;
    CST_TRY(cst_file_read(&text, &n, r->merges_path));
    cst_status st = CST_OK;
    for (char *p = text, *end = text + n; p < end && st == CST_OK; number++) {
        char *stop = memchr(p, '\n', (size_t)(end - p));
        char *next = stop ? stop + 1 : end, *last = stop ? stop : end;
        if (last > p && last[-1] == '\r') last--;
        if (last > p && strncmp(p, "#version", 8)) st = read_merge(r, p, last, number);
        p = next;
    }
    free(text);
    return st;
}

/* ---- the folder ---- */

static cst_status reader_open(reader *r, const char *dir)
{
    r->vocab_path = cst_path_join(dir, "vocab.json");
    r->merges_path = cst_path_join(dir, "merges.txt");
    r->config_path = cst_path_join(dir, "tokenizer_config.json");
    r->map_path = cst_path_join(dir, "special_tokens_map.json");
    if (!r->vocab_path || !r->merges_path || !r->config_path || !r->map_path) return cst_fail(CST_NO_MEMORY, "%s", dir);
    CST_TRY(cst_json_load(&r->vocab, r->vocab_path, JSON_OBJECT));
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
    free(r.vocab_path);
    free(r.merges_path);
    free(r.config_path);
    free(r.map_path);
    return st;
}

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
    char *path = cst_path_join(dir, "merges.txt");
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

/* The settings of facebook/opt-*: </s> begins, ends and stands for the unknown. */
static json_t *opt_settings(void)
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
    json_t *settings = t->settings ? json_deep_copy(t->settings) : opt_settings();
    cst_status st;
    CST_GO(cst_make_dirs(dir), out);
    CST_GO(make_names(&text, &name, t), out);
    CST_GO(save_merges(t, name, dir), out);
    CST_GO(save_json(vocab_json(t, name), dir, "vocab.json"), out);
    CST_GO(save_json(settings ? special_map(settings) : NULL, dir, "special_tokens_map.json"), out);
    st = save_json(settings, dir, "tokenizer_config.json");
    settings = NULL;
out:
    json_decref(settings);
    free(name);
    free(text);
    return st;
}
