/* Token ids of whole texts on disk, so that a text is encoded once: a file for each text and tokenizer, found by
 * the hashes (XXH3) of the two.
 *
 * The file is six 64-bit numbers and then the ids, 32 bits each, all in the byte order of the machine: a mark, hash
 * and length of the text, hash of the tokenizer, number of ids, hash of the ids.
 */
#ifndef CST_TEXT_TOKEN_CACHE_H
#define CST_TEXT_TOKEN_CACHE_H

#include "text/tokenizer.h"

/* cst_tokenizer_encode, without flags, with the ids kept in folder dir, which is made if it is missing. A file that
 * isn't whole or doesn't hold what it should is reported (CST_LOG_WARN), ignored and written anew; so is a folder
 * that can't be written. dir NULL: nothing is kept. Fails only as cst_tokenizer_encode does. */
cst_status cst_token_cache_encode(uint32_t **ids, size_t *count, const cst_tokenizer *t, const char *text, size_t n, const char *dir);

#endif
