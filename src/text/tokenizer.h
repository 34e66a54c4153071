/* OPT's tokenizer: byte-level BPE in the file format of GPT-2 (Radford et al., "Language models are
 * unsupervised multitask learners", 2019): vocab.json maps pieces to ids, merges.txt ranks the merges. A piece
 * is written with one printable character a byte (U+0021..U+007E, U+00A1..U+00AC and U+00AE..U+00FF stand for
 * themselves, the other 68 bytes in rising order for U+0100, U+0101, ...), so any bytes, valid UTF-8 or not,
 * make the round trip text -> ids -> text.
 *
 * A tokenizer doesn't change once opened and may be shared by threads.
 */
#ifndef CST_TEXT_TOKENIZER_H
#define CST_TEXT_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct cst_tokenizer cst_tokenizer;

/* spec "bytes": <s> 0, <pad> 1, </s> 2, <unk> 3, then byte b as id 4 + b; 260 ids, no files needed.
 * Else a folder with vocab.json and merges.txt (a folder called bytes is "./bytes"), or, where these aren't both there, with
 * tokenizer.json. Its special_tokens_map.json and tokenizer_config.json say which special tokens there are; without both
 * they are OPT's: </s> begins and ends a text, <pad> fills up. So do the added tokens of tokenizer.json.
 * CST_INPUT: the ids aren't 0..n-1 each once, or a special token or a byte is missing, or a piece has a character
 * that stands for no byte, or a merge is malformed, there twice, or of pieces that aren't in vocab.json; the
 * detail names the file and the piece or line. CST_UNSUPPORTED: a setting or a part that OPT's tokenizers don't have. */
cst_status cst_tokenizer_open(cst_tokenizer **out, const char *spec);

/* Learn a tokenizer from text[n]: the pair of neighbours that is most frequent becomes a piece (of several the one
 * with the lowest ids), until there are vocab_size pieces or no pair comes min_frequency times. The text is cut
 * line by line. The ids are the four special tokens, the 256 bytes in the order of the characters that stand for
 * them, and the merges in their order: what Hugging Face's BpeTrainer learns from a file.
 * CST_USAGE: vocab_size below 260. */
cst_status cst_tokenizer_train(cst_tokenizer **out, const char *text, size_t n, uint32_t vocab_size, uint32_t min_frequency);

/* NULL is fine. */
void cst_tokenizer_free(cst_tokenizer *t);

/* Number of ids; a model's vocabulary may be larger (padded), never smaller. */
uint32_t cst_tokenizer_size(const cst_tokenizer *t);
/* Number of merges. */
uint32_t cst_tokenizer_merges(const cst_tokenizer *t);
/* Id of </s>, which ends a text. */
uint32_t cst_tokenizer_eos(const cst_tokenizer *t);
/* The same for tokenizers that give the same ids, another one for others (but for accidents of hashing). */
uint64_t cst_tokenizer_hash(const cst_tokenizer *t);

enum {
    CST_ENCODE_BOS = 1,  /* put the token that begins a text (OPT: </s>) in front */
    CST_ENCODE_PLAIN = 2 /* "</s>" written in the text is four characters like others: it can't forge a special token */
};
/* Ids of text[n]; *ids is malloc'd (not NULL even for n = 0), the caller frees it. As in Hugging Face's tokenizers,
 * the names of the special tokens that the settings list (OPT: </s> and <pad>) become these tokens. */
cst_status cst_tokenizer_encode(const cst_tokenizer *t, uint32_t **ids, size_t *count, const char *text, size_t n, unsigned flags);

/* Text of ids[count]; *text is malloc'd with a 0 byte after its n bytes, the caller frees it. Special tokens
 * give their names, or nothing with skip_special. An id that isn't there is CST_INPUT. */
cst_status cst_tokenizer_decode(const cst_tokenizer *t, char **text, size_t *n, const uint32_t *ids, size_t count,
                                int skip_special);

/* Write vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json into folder dir (made if
 * missing), which transformers' AutoTokenizer and cst_tokenizer_open read. */
cst_status cst_tokenizer_save(const cst_tokenizer *t, const char *dir);

#endif
