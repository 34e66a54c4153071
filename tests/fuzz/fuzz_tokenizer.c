/* Fuzz a tokenizer's folder and the text it encodes. The input is five parts with the byte 0xff between them: text,
 * merges.txt, tokenizer_config.json, what stands behind the bytes' pieces in vocab.json (so that many inputs get
 * past the check that every byte has a piece), and more members of tokenizer.json. There is a tokenizer.json in place of
 * the two other files where the second part begins with "[": it is its merges. Whatever opens must encode, give the text
 * back, learn, and be the same after saving.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

enum { PARTS = 5 };

static char dir[64];

static void remove_folder(void)
{
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.json"};
    char path[128];
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

static void make_folder(void)
{
    if (dir[0]) return;
    snprintf(dir, sizeof dir, "%s", "/tmp/fuzz-tokenizer-XXXXXX");
    if (!mkdtemp(dir)) abort();
    atexit(remove_folder);
}

static void write_file(const char *name, const void *data, size_t n)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb"); /* not cst_file_write, whose waiting for the disk would take most of the time */
    if (!f || (n && fwrite(data, 1, n, f) != n) || fclose(f)) abort();
}

/* {the four special tokens, the bytes, `more`}; malloc'd. */
static char *vocab_text(size_t *length, const char *more, size_t n)
{
    uint16_t code[256];
    int16_t byte[CST_ALPHABET];
    char *text = malloc(16384 + n);
    int k = sprintf(text, "{\"<s>\": 0, \"<pad>\": 1, \"</s>\": 2, \"<unk>\": 3");
    cst_alphabet(code, byte);
    for (int b = 0; b < 256; b++) k += sprintf(text + k, ", \"\\u%04x\": %d", code[b], 4 + b);
    memcpy(text + k, more, n);
    text[k + (int)n] = '}';
    *length = (size_t)k + n + 1;
    return text;
}

static void write_json(const char *vocab, size_t vocab_length, const char *merges, size_t n, const char *more, size_t m)
{
    static const char begin[] =
        "{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"vocab\": ",
                      middle[] = ", \"merges\": ";
    char *text = malloc(sizeof begin + sizeof middle + vocab_length + n + m + 2), *p = text;
    p = mempcpy(p, begin, sizeof begin - 1);
    p = mempcpy(p, vocab, vocab_length);
    p = mempcpy(p, middle, sizeof middle - 1);
    p = mempcpy(p, merges, n);
    *p++ = '}';
    p = mempcpy(p, more, m);
    *p++ = '}';
    write_file("tokenizer.json", text, (size_t)(p - text));
    free(text);
}

static void check_text(const cst_tokenizer *t, const char *text, size_t n, unsigned flags)
{
    uint32_t *ids;
    char *back;
    size_t count, m;
    if (cst_tokenizer_encode(t, &ids, &count, text, n, flags) != CST_OK) abort();
    if (cst_tokenizer_decode(t, &back, &m, ids, count, 0) != CST_OK) abort();
    if (m != n || memcmp(back, text, n)) abort();
    free(ids);
    free(back);
}

static void check_learning(const char *text, size_t n)
{
    cst_tokenizer *t;
    if (cst_tokenizer_train(&t, text, n, 300, 1) != CST_OK) abort();
    check_text(t, text, n, 0);
    cst_tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *part[PARTS], *p = (const char *)data, *end = p + size;
    size_t length[PARTS];
    cst_tokenizer *t;
    for (int i = 0; i < PARTS; i++) {
        const char *stop = p < end && i + 1 < PARTS ? memchr(p, 0xff, (size_t)(end - p)) : NULL;
        part[i] = p;
        length[i] = (size_t)((stop ? stop : end) - p);
        p = stop ? stop + 1 : end;
    }
    make_folder();
    size_t n;
    char *vocab = vocab_text(&n, part[3], length[3]);
    if (length[1] && *part[1] == '[') {
        write_json(vocab, n, part[1], length[1], part[4], length[4]);
    } else {
        write_file("vocab.json", vocab, n);
        write_file("merges.txt", part[1], length[1]);
    }
    free(vocab);
    if (length[2]) write_file("tokenizer_config.json", part[2], length[2]);
    cst_status st = cst_tokenizer_open(&t, dir);
    if (st == CST_OK) {
        uint64_t hash = cst_tokenizer_hash(t);
        check_text(t, part[0], length[0], 0);
        check_text(t, (const char *)data, size, CST_ENCODE_PLAIN);
        st = cst_tokenizer_save(t, dir);
        cst_tokenizer_free(t);
        if (st != CST_OK || cst_tokenizer_open(&t, dir) != CST_OK || cst_tokenizer_hash(t) != hash) abort();
        cst_tokenizer_free(t);
    } else if (!*cst_detail()) {
        abort();
    }
    check_learning(part[0], length[0]);
    remove_folder();
    if (mkdir(dir, 0700)) abort();
    return 0;
}
