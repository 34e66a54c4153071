#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "cli/cli.h"

cst_status cst_token_rows_flat(uint32_t **ids, size_t *count, size_t **ends, size_t *rows, const char *path)
{
    cst_token_rows t = {0, 0, NULL, NULL};
    uint32_t *p = NULL;
    size_t n = 0, *end = NULL;
    cst_status st;
    CST_GO(cst_token_rows_read(&t, path), out);
    p = malloc((size_t)(t.rows * t.seq) * sizeof *p);
    end = malloc((size_t)t.rows * sizeof *end);
    if (!p || !end) {
        st = cst_fail(CST_NO_MEMORY, "%s", path);
        goto out;
    }
    for (int64_t row = 0; row < t.rows; row++) {
        for (int32_t i = 0; i < t.length[row]; i++) p[n++] = (uint32_t)t.ids[row * t.seq + i];
        end[row] = n;
    }
    *ids = p;
    *count = n;
    p = NULL;
    if (ends) {
        *ends = end;
        *rows = (size_t)t.rows;
        end = NULL;
    }
out:
    free(p);
    free(end);
    cst_token_rows_free(&t);
    return st;
}

/* A file in folder dir that belongs to a tokenizer, of whatever kind; NULL: none. */
static const char *tokenizer_file(const char *dir)
{
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                        "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt"};
    const char *found = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !found; i++) {
        char *path = cst_path_join(dir, names[i]);
        if (path && cst_path_exists(path)) found = names[i];
        free(path);
    }
    return found;
}

cst_status cst_tokenizer_from(cst_tokenizer **t, const cst_args *a, const cst_config *c)
{
    const char *spec = a->text[CST_OPTION_TOKENIZER], *model = a->text[CST_OPTION_MODEL];
    const char *file = !spec && model ? tokenizer_file(model) : NULL;
    int ids = a->text[CST_OPTION_TOKENS_FILE] != NULL;
    *t = NULL;
    if (!spec && !file && ids) return CST_OK;
    if (!spec && !file && model) cst_log(CST_LOG_WARN, "%s: no tokenizer; text is taken as bytes (--tokenizer)", model);
    cst_status st = cst_tokenizer_open(t, spec ? spec : file ? model : "bytes");
    if (st == CST_UNSUPPORTED && !spec && ids) {
        cst_log(CST_LOG_WARN, "%s; ids need no tokenizer", cst_detail());
        return CST_OK;
    }
    if (st != CST_OK && !spec)
        st = cst_fail_in(st, "the tokenizer that %s belongs to can't be used (--tokenizer names another one, or bytes)", file);
    CST_TRY(st);
    if ((int64_t)cst_tokenizer_size(*t) <= c->vocab_size) return CST_OK;
    st = cst_fail(CST_INPUT, "the tokenizer (%s) has %u ids, the model's \"vocab_size\" is %" PRId64 ": too small",
                  spec ? spec : file ? model : "bytes", cst_tokenizer_size(*t), c->vocab_size);
    cst_tokenizer_free(*t);
    *t = NULL;
    return st;
}

const char *cst_input_name(const char *path)
{
    return strcmp(path, "-") ? path : "standard input";
}

cst_status cst_input_read(char **data, size_t *n, const char *path)
{
    size_t room = 1 << 16, used = 0, got;
    FILE *f = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    if (!f) return cst_fail(CST_IO, "%s: %s", path, strerror(errno));
    cst_status st = CST_OK;
    char *p = malloc(room), *grown;
    errno = 0;
    while (p && (got = fread(p + used, 1, room - used - 1, f)) > 0) {
        used += got;
        if (used + 1 < room) continue;
        if (!(grown = realloc(p, room *= 2))) free(p);
        p = grown;
    }
    if (!p) st = cst_fail(CST_NO_MEMORY, "%s: more than %zu bytes", cst_input_name(path), used);
    else if (ferror(f)) st = cst_fail(CST_IO, "%s: %s", cst_input_name(path), strerror(errno));
    if (f != stdin) fclose(f);
    if (st != CST_OK) {
        free(p);
        return st;
    }
    p[used] = 0;
    *data = p;
    *n = used;
    return CST_OK;
}
