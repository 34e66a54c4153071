#include "text/tokenizer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

enum { TOKEN_BOS, TOKEN_PAD, TOKEN_EOS, TOKEN_UNK, SPECIALS };
static const char *const special_name[SPECIALS] = {"<s>", "<pad>", "</s>", "<unk>"};

enum { ALPHABET = 324, PIECE_MAX = 4096 }; /* characters in use lie below U+0144; bytes in one piece */

struct cst_tokenizer {
    uint32_t size;
    uint32_t special[SPECIALS];
    uint32_t byte_id[256];
    uint32_t *at;  /* [size + 1]: piece i is bytes[at[i]..at[i + 1]) */
    char *bytes;   /* the pieces one after another, in plain bytes */
    size_t filled; /* bytes in use while the tokenizer is built */
};

static int stands_for_itself(int byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

/* Fill both directions of the byte alphabet: code[byte] and byte[code] (-1: no such character). */
static void alphabet(uint16_t code[256], int16_t byte[ALPHABET])
{
    int next = 256;
    for (int c = 0; c < ALPHABET; c++) byte[c] = -1;
    for (int b = 0; b < 256; b++) {
        code[b] = (uint16_t)(stands_for_itself(b) ? b : next++);
        byte[code[b]] = (int16_t)b;
    }
}

/* The piece as vocab.json writes it: UTF-8, two bytes at most for each of n; returns the length. */
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
    return k;
}

/* The other way; -1 when a character stands for no byte. `piece` is valid UTF-8: jansson takes no other. */
static long piece_read(char *dst, const char *piece, const int16_t byte[ALPHABET])
{
    long k = 0;
    for (const unsigned char *p = (const unsigned char *)piece; *p; p++) {
        unsigned c = *p;
        if (c >= 0xe0) return -1;
        if (c >= 0x80) c = (c & 0x1f) << 6 | (*++p & 0x3f);
        if (c >= ALPHABET || byte[c] < 0) return -1;
        dst[k++] = (char)byte[c];
    }
    return k;
}

static int special_index(const char *piece)
{
    for (int s = 0; s < SPECIALS; s++)
        if (!strcmp(piece, special_name[s])) return s;
    return -1;
}

static int special_of(const cst_tokenizer *t, uint32_t id)
{
    for (int s = 0; s < SPECIALS; s++)
        if (t->special[s] == id) return s;
    return -1;
}

/* Room for `size` pieces of `room` bytes together; no byte and no special token has an id yet. */
static cst_status tokenizer_new(cst_tokenizer **out, uint32_t size, size_t room)
{
    cst_tokenizer *t = calloc(1, sizeof *t);
    if (t) {
        t->size = size;
        t->at = calloc((size_t)size + 1, sizeof *t->at);
        t->bytes = malloc(room + 1);
        memset(t->special, 0xff, sizeof t->special);
        memset(t->byte_id, 0xff, sizeof t->byte_id);
    }
    if (!t || !t->at || !t->bytes) {
        cst_tokenizer_free(t);
        return cst_fail(CST_NO_MEMORY, "tokenizer of %" PRIu32 " pieces", size);
    }
    *out = t;
    return CST_OK;
}

/* Append the piece of the next id; special is its index or -1. */
static void piece_add(cst_tokenizer *t, uint32_t id, const char *bytes, size_t n, int special)
{
    memcpy(t->bytes + t->filled, bytes, n);
    t->filled += n;
    t->at[id + 1] = (uint32_t)t->filled;
    if (special >= 0)
        t->special[special] = id;
    else if (n == 1)
        t->byte_id[(unsigned char)bytes[0]] = id;
}

static cst_status open_bytes(cst_tokenizer **out)
{
    cst_tokenizer *t;
    CST_TRY(tokenizer_new(&t, SPECIALS + 256, 256 + SPECIALS * 8));
    for (int s = 0; s < SPECIALS; s++) piece_add(t, (uint32_t)s, special_name[s], strlen(special_name[s]), s);
    for (int b = 0; b < 256; b++) {
        char c = (char)b;
        piece_add(t, (uint32_t)(SPECIALS + b), &c, 1, -1);
    }
    *out = t;
    return CST_OK;
}

/* piece[id] borrowed from the JSON object; *room = bytes of all pieces. Checks that ids are 0..n-1, each once. */
static cst_status sort_pieces(const char **piece, size_t *room, json_t *vocab, const char *path)
{
    json_int_t n = (json_int_t)json_object_size(vocab);
    const char *key;
    json_t *value;
    *room = 0;
    json_object_foreach(vocab, key, value)
    {
        json_int_t id = json_integer_value(value);
        size_t length = strlen(key);
        if (!json_is_integer(value)) return cst_fail(CST_INPUT, "%s: the id of \"%s\" is no integer", path, key);
        if (id < 0 || id >= n)
            return cst_fail(CST_INPUT, "%s: \"%s\" has id %lld, outside 0..%lld", path, key, (long long)id,
                            (long long)n - 1);
        if (piece[id])
            return cst_fail(CST_INPUT, "%s: \"%s\" and \"%s\" both have id %lld", path, piece[id], key, (long long)id);
        if (!length || length > PIECE_MAX) return cst_fail(CST_INPUT, "%s: a piece of %zu bytes", path, length);
        piece[id] = key;
        *room += length;
    }
    if (*room > UINT32_MAX) return cst_fail(CST_INPUT, "%s: pieces of %zu bytes together", path, *room);
    return CST_OK;
}

/* Is there a way to write every byte, and every special token? */
static cst_status check_complete(const cst_tokenizer *t, const char *path)
{
    for (int s = 0; s < SPECIALS; s++)
        if (t->special[s] == UINT32_MAX) return cst_fail(CST_INPUT, "%s: no piece \"%s\"", path, special_name[s]);
    for (int b = 0; b < 256; b++)
        if (t->byte_id[b] == UINT32_MAX) return cst_fail(CST_INPUT, "%s: no piece for byte 0x%02x", path, b);
    return CST_OK;
}

static cst_status read_vocab(cst_tokenizer **out, const char *path)
{
    cst_status st = CST_OK;
    cst_tokenizer *t = NULL;
    const char **piece = NULL;
    json_t *vocab = NULL;
    uint16_t code[256];
    int16_t byte[ALPHABET];
    char buffer[PIECE_MAX];
    size_t room;

    CST_TRY(cst_json_load(&vocab, path, JSON_OBJECT));
    size_t n = json_object_size(vocab);
    if (n > INT32_MAX || !(piece = calloc(n + 1, sizeof *piece))) {
        st = cst_fail(CST_NO_MEMORY, "%s: %zu pieces", path, n);
        goto out;
    }
    CST_GO(sort_pieces(piece, &room, vocab, path), out);
    CST_GO(tokenizer_new(&t, (uint32_t)n, room), out);
    alphabet(code, byte);
    for (uint32_t id = 0; id < n; id++) {
        int special = special_index(piece[id]);
        long k = special < 0 ? piece_read(buffer, piece[id], byte) : 0;
        if (k < 0) {
            st = cst_fail(CST_INPUT, "%s: \"%s\" has a character that stands for no byte", path, piece[id]);
            goto out;
        }
        piece_add(t, id, special < 0 ? buffer : piece[id], special < 0 ? (size_t)k : strlen(piece[id]), special);
    }
    CST_GO(check_complete(t, path), out);
    *out = t;
    t = NULL;
out:
    cst_tokenizer_free(t);
    free(piece);
    json_decref(vocab);
    return st;
}

/* Only the version line and empty lines may stand in merges.txt for now. */
static cst_status read_merges(const char *path)
{
    char *text;
    size_t n;
    CST_TRY(cst_file_read(&text, &n, path));
    cst_status st = CST_OK;
    int first = 1;
    for (char *p = text, *end = text + n; p < end; first = 0) {
        char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t length = (size_t)((stop ? stop : end) - p);
        if (length && p[length - 1] == '\r') length--;
        if (length && !(first && !strncmp(p, "#version", 8))) {
            st = cst_fail(CST_UNSUPPORTED, "%s: has merges, which are not supported yet; use --tokenizer bytes", path);
            break;
        }
        p = stop ? stop + 1 : end;
    }
    free(text);
    return st;
}

static cst_status open_dir(cst_tokenizer **out, const char *dir)
{
    char *vocab = cst_path_join(dir, "vocab.json"), *merges = cst_path_join(dir, "merges.txt");
    cst_status st = CST_OK;
    if (!vocab || !merges) {
        st = cst_fail(CST_NO_MEMORY, "%s", dir);
        goto out;
    }
    CST_GO(read_merges(merges), out);
    CST_GO(read_vocab(out, vocab), out);
out:
    free(vocab);
    free(merges);
    return st;
}

cst_status cst_tokenizer_open(cst_tokenizer **out, const char *spec)
{
    return strcmp(spec, "bytes") ? open_dir(out, spec) : open_bytes(out);
}

void cst_tokenizer_free(cst_tokenizer *t)
{
    if (!t) return;
    free(t->at);
    free(t->bytes);
    free(t);
}

uint32_t cst_tokenizer_size(const cst_tokenizer *t)
{
    return t->size;
}

uint32_t cst_tokenizer_eos(const cst_tokenizer *t)
{
    return t->special[TOKEN_EOS];
}

cst_status cst_tokenizer_encode(const cst_tokenizer *t, uint32_t **ids, size_t *count, const char *text, size_t n)
{
    uint32_t *p = n < SIZE_MAX / sizeof *p ? malloc((n + !n) * sizeof *p) : NULL;
    if (!p) return cst_fail(CST_NO_MEMORY, "ids of %zu bytes of text", n);
    for (size_t i = 0; i < n; i++) p[i] = t->byte_id[(unsigned char)text[i]];
    *ids = p;
    *count = n;
    return CST_OK;
}

cst_status cst_tokenizer_decode(const cst_tokenizer *t, char **text, size_t *n, const uint32_t *ids, size_t count,
                                int skip_special)
{
    size_t total = 0, k = 0;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] >= t->size)
            return cst_fail(CST_INPUT, "id %" PRIu32 " at place %zu: the tokenizer has %" PRIu32, ids[i], i, t->size);
        total += t->at[ids[i] + 1] - t->at[ids[i]];
    }
    char *p = malloc(total + 1);
    if (!p) return cst_fail(CST_NO_MEMORY, "%zu bytes of text", total);
    for (size_t i = 0; i < count; i++) {
        size_t length = t->at[ids[i] + 1] - t->at[ids[i]];
        if (skip_special && special_of(t, ids[i]) >= 0) continue;
        memcpy(p + k, t->bytes + t->at[ids[i]], length);
        k += length;
    }
    p[k] = 0;
    *text = p;
    *n = k;
    return CST_OK;
}

/* {piece: id} in the order of the ids. */
static json_t *vocab_json(const cst_tokenizer *t)
{
    uint16_t code[256];
    int16_t byte[ALPHABET];
    char key[2 * PIECE_MAX + 1];
    json_t *j = json_object();
    alphabet(code, byte);
    for (uint32_t id = 0; j && id < t->size; id++) {
        int s = special_of(t, id);
        size_t n = s < 0 ? piece_write(key, t->bytes + t->at[id], t->at[id + 1] - t->at[id], code) : 0;
        key[n] = 0;
        if (json_object_set_new(j, s < 0 ? key : special_name[s], json_integer(id))) {
            json_decref(j);
            j = NULL;
        }
    }
    return j;
}

/* The settings of facebook/opt-*: </s> begins, ends and stands for the unknown. */
static json_t *settings_json(int whole)
{
    json_t *j = json_pack("{s:s, s:s, s:s, s:s}", "bos_token", "</s>", "eos_token", "</s>", "pad_token", "<pad>",
                          "unk_token", "</s>");
    if (!j || !whole) return j;
    int bad = json_object_set_new(j, "add_bos_token", json_true());
    bad |= json_object_set_new(j, "add_prefix_space", json_false());
    bad |= json_object_set_new(j, "errors", json_string("replace"));
    bad |= json_object_set_new(j, "tokenizer_class", json_string("GPT2Tokenizer"));
    if (!bad) return j;
    json_decref(j);
    return NULL;
}

/* Takes j over; NULL is "out of memory". */
static cst_status save_json(json_t *j, const char *dir, const char *name)
{
    char *path = cst_path_join(dir, name);
    cst_status st = path && j ? cst_json_save(j, path) : cst_fail(CST_NO_MEMORY, "%s/%s", dir, name);
    free(path);
    json_decref(j);
    return st;
}

cst_status cst_tokenizer_save(const cst_tokenizer *t, const char *dir)
{
    static const char version[] = "#version: 0.2\n";
    CST_TRY(cst_make_dirs(dir));
    char *merges = cst_path_join(dir, "merges.txt");
    if (!merges) return cst_fail(CST_NO_MEMORY, "%s", dir);
    cst_status st = cst_file_write(merges, version, sizeof version - 1);
    free(merges);
    CST_TRY(st);
    CST_TRY(save_json(vocab_json(t), dir, "vocab.json"));
    CST_TRY(save_json(settings_json(1), dir, "tokenizer_config.json"));
    return save_json(settings_json(0), dir, "special_tokens_map.json");
}
