/* Inside of the tokenizer, shared by the files that build, use, read, write and learn one. */
#ifndef CST_TEXT_VOCABULARY_H
#define CST_TEXT_VOCABULARY_H

#include <jansson.h>

#include "text/bpe.h"
#include "text/split.h"
#include "text/tokenizer.h"

/* OPT's four; the byte tokenizer and learned ones give them the first ids in this order. */
enum { CST_TOKEN_BOS, CST_TOKEN_PAD, CST_TOKEN_EOS, CST_TOKEN_UNK, CST_SPECIALS };
extern const char *const cst_special_name[CST_SPECIALS];

typedef struct cst_special {
    uint32_t id;
    int in_text; /* its name written in a text is this token */
} cst_special;

struct cst_tokenizer {
    uint32_t size;
    uint32_t byte_id[256];
    uint32_t *at;  /* [size + 1]: piece i is bytes[at[i]..at[i + 1]) */
    char *bytes;   /* the pieces one after another, in plain bytes */
    size_t filled; /* bytes in use while the tokenizer is built */
    cst_merges merges;
    cst_special *special; /* [specials], by id */
    size_t specials, specials_room;
    uint32_t bos, eos;
    cst_split *split;
    json_t *settings; /* what tokenizer_config.json says, for saving */
    uint64_t hash;
};

/* The characters that stand for bytes in the files: code[byte], and byte[code] or -1. */
enum { CST_ALPHABET = 324 }; /* they lie below U+0144 */
void cst_alphabet(uint16_t code[256], int16_t byte[CST_ALPHABET]);

/* Empty, with room for `size` pieces of `room` bytes together. */
cst_status cst_vocabulary_new(cst_tokenizer **out, uint32_t size, size_t room);
/* Append the piece of the next id; if it is one byte and no special token, it is that byte. */
void cst_vocabulary_add(cst_tokenizer *t, uint32_t id, const char *bytes, size_t n, int special);
/* Length of a piece and where it is. */
size_t cst_vocabulary_piece(const cst_tokenizer *t, const char **bytes, uint32_t id);
/* Note a special token; once it is noted, in_text can only be set. */
cst_status cst_vocabulary_special(cst_tokenizer *t, uint32_t id, int in_text);
const cst_special *cst_vocabulary_special_of(const cst_tokenizer *t, uint32_t id);
/* The four special tokens have the ids 0..3 and OPT's settings are in force. */
cst_status cst_vocabulary_opt(cst_tokenizer *t);
/* The last step of building one: every byte must have a piece (where: for the message). */
cst_status cst_vocabulary_finish(cst_tokenizer *t, const char *where);

#define CST_VOCAB_FILE "vocab.json"
#define CST_MERGES_FILE "merges.txt"
#define CST_TOKENIZER_JSON_FILE "tokenizer.json"

/* Read the files of folder dir. */
cst_status cst_vocabulary_read(cst_tokenizer **out, const char *dir);
/* The settings of facebook/opt-*: </s> begins, ends and stands for the unknown. New reference; NULL when out of memory. */
json_t *cst_vocabulary_opt_settings(void);

/* The parts of a tokenizer.json that stand for the other files, new references. */
typedef struct cst_tokenizer_json {
    json_t *vocab;  /* {piece: id}, with the added tokens, unchecked */
    json_t *merges; /* an array, its elements unchecked */
    json_t *added;  /* an array of objects, each with a name as "content"; NULL: none */
} cst_tokenizer_json;

/* Load one. UNSUPPORTED, naming the member and what it is: anything in it makes other ids than byte-level BPE with GPT-2's pattern.
 * Free *j, which must be all NULL, also after a failure. */
cst_status cst_tokenizer_json_load(cst_tokenizer_json *j, const char *path);
void cst_tokenizer_json_free(cst_tokenizer_json *j);

#endif
