#include "text/wikitext.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

cst_status cst_text_split_path(char **path, const char *dir, const char *split)
{
    char name[32];
    if (strcmp(split, "train") && strcmp(split, "valid") && strcmp(split, "test"))
        return cst_fail(CST_USAGE, "no split \"%s\": train, valid or test", split);
    snprintf(name, sizeof name, "wiki.%s.raw", split);
    char *p = cst_path_join(dir, name);
    if (!p) return cst_fail(CST_NO_MEMORY, "%s", dir);
    if (!cst_path_exists(p)) {
        cst_status st = cst_fail(CST_IO, "%s: no such file (data/fetch gets WikiText-2, data/sample is small)", p);
        free(p);
        return st;
    }
    *path = p;
    return CST_OK;
}

cst_status cst_text_load(char **text, size_t *n, const char *path)
{
    char *p;
    size_t size;
    CST_TRY(cst_file_read(&p, &size, path));
    if (!size) {
        free(p);
        return cst_fail(CST_INPUT, "%s: empty corpus", path);
    }
    *text = p;
    *n = size;
    return CST_OK;
}

static int is_blank(const char *p, const char *end)
{
    while (p < end && strchr(" \t\n\v\f\r", *p) && *p) p++;
    return p == end;
}

cst_status cst_text_join_rows(char **out, size_t *count, const char *text, size_t n)
{
    size_t lines = 1;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    char *joined = malloc(n + 2 * lines + 1), *to = joined;
    if (!joined) return cst_fail(CST_NO_MEMORY, "text of %zu bytes", n);
    for (const char *p = text, *end = text + n, *next; p < end; p = next) {
        next = memchr(p, '\n', (size_t)(end - p));
        next = next ? next + 1 : end;
        if (p > text) {
            memcpy(to, "\n\n", 2);
            to += 2;
        }
        if (is_blank(p, next)) continue;
        memcpy(to, p, (size_t)(next - p));
        to += next - p;
    }
    *to = 0;
    *out = joined;
    *count = (size_t)(to - joined);
    return CST_OK;
}
