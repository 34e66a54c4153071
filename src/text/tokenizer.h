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
 * Else a folder with vocab.json and merges.txt (a folder called bytes is "./bytes").
 * CST_UNSUPPORTED: merges.txt has merges, which are not done yet. CST_INPUT: the ids aren't 0..n-1 each once,
 * or one of the four special tokens or a byte is missing, or a piece has a character that stands for no byte;
 * the detail names the file and the piece. */
cst_status cst_tokenizer_open(cst_tokenizer **out, const char *spec);
/* NULL is fine. */
void cst_tokenizer_free(cst_tokenizer *t);

/* Number of ids; a model's vocabulary may be larger (padded), never smaller. */
uint32_t cst_tokenizer_size(const cst_tokenizer *t);
/* Id of </s>: OPT puts it in front of a text and it ends a text. */
uint32_t cst_tokenizer_eos(const cst_tokenizer *t);

/* Ids of text[n]; *ids is malloc'd (not NULL even for n = 0), the caller frees it. Nothing is put in front.
 * "</s>" written in the text is four characters like others: a text can't forge a special token. */
cst_status cst_tokenizer_encode(const cst_tokenizer *t, uint32_t **ids, size_t *count, const char *text, size_t n);

/* Text of ids[count]; *text is malloc'd with a 0 byte after its n bytes, the caller frees it. Special tokens
 * give their names, or nothing with skip_special. An id that isn't there is CST_INPUT. */
cst_status cst_tokenizer_decode(const cst_tokenizer *t, char **text, size_t *n, const uint32_t *ids, size_t count,
                                int skip_special);

/* Write vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json into folder dir (made if
 * missing), which transformers' AutoTokenizer and cst_tokenizer_open read. */
cst_status cst_tokenizer_save(const cst_tokenizer *t, const char *dir);

#endif
