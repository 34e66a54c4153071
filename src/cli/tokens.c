#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/cli.h"

cst_status cst_token_rows_flat(uint32_t **ids, size_t *count, const char *path)
{
    cst_token_rows t = {0, 0, NULL, NULL};
    uint32_t *p = NULL;
    size_t n = 0;
    cst_status st;
    CST_GO(cst_token_rows_read(&t, path), out);
    p = malloc((size_t)(t.rows * t.seq) * sizeof *p);
    if (!p) {
        st = cst_fail(CST_NO_MEMORY, "%s", path);
        goto out;
    }
    for (int64_t row = 0; row < t.rows; row++)
        for (int32_t i = 0; i < t.length[row]; i++) p[n++] = (uint32_t)t.ids[row * t.seq + i];
    *ids = p;
    *count = n;
out:
    cst_token_rows_free(&t);
    return st;
}

cst_status cst_tokenizer_from(cst_tokenizer **t, const cst_args *a, const cst_config *c)
{
    const char *spec = a->text[CST_OPTION_TOKENIZER], *model = a->text[CST_OPTION_MODEL];
    char *vocab = !spec && model ? cst_path_join(model, "vocab.json") : NULL;
    int in_model = vocab && cst_path_exists(vocab);
    free(vocab);
    *t = NULL;
    if (!spec && !in_model && a->text[CST_OPTION_TOKENS_FILE]) return CST_OK;
    if (!spec) spec = in_model ? model : "bytes";
    CST_TRY(cst_tokenizer_open(t, spec));
    if ((int64_t)cst_tokenizer_size(*t) <= c->vocab_size) return CST_OK;
    cst_status st = cst_fail(CST_INPUT, "the tokenizer (%s) has %u ids, the model's \"vocab_size\" is %" PRId64 ": too small", spec,
                             cst_tokenizer_size(*t), c->vocab_size);
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
