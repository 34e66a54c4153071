#include "device/source.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static cst_status file_text(char **text, const char *name)
{
    const char *dir = getenv("CASTOR_CL_DIR");
    if (dir && *dir) {
        size_t n;
        char *path = cst_path_join(dir, name);
        if (!path) return cst_fail(CST_NO_MEMORY, "%s", name);
        cst_status st = cst_file_read(text, &n, path);
        free(path);
        return st;
    }
    for (const cst_embedded *e = cst_embedded_files; e->name; e++)
        if (!strcmp(e->name, name)) {
            *text = strdup(e->text);
            return *text ? CST_OK : cst_fail(CST_NO_MEMORY, "%s", name);
        }
    return cst_fail(CST_STATE, "kernel file %s is not in the program", name);
}

/* Append `text` with its includes expanded: each time, or once where the file says "#pragma once". */
static cst_status expand(FILE *f, const char *text, char (*seen)[64], int *nseen, const char *own_name)
{
    while (*text) {
        const char *end = strchr(text, '\n');
        size_t n = end ? (size_t)(end - text) + 1 : strlen(text);
        char name[64];
        if (sscanf(text, "#include \"%63[^\"\n]\"", name) == 1) {
            int known = 0;
            for (int i = 0; i < *nseen; i++) known |= !strcmp(seen[i], name);
            if (!known) {
                char *inner;
                CST_TRY(file_text(&inner, name));
                cst_status st = expand(f, inner, seen, nseen, name);
                free(inner);
                if (st != CST_OK) return st;
            }
        } else if (!strncmp(text, "#pragma once", 12)) {
            if (*nseen == 16) return cst_fail(CST_STATE, "%s: too many includes", own_name);
            snprintf(seen[(*nseen)++], 64, "%s", own_name);
        } else {
            fwrite(text, 1, n, f);
        }
        text += n;
    }
    return CST_OK;
}

cst_status cst_source_get(char **text, const char *name)
{
    char file[128], seen[16][64], *top = NULL;
    int nseen = 0;
    size_t size;
    snprintf(file, sizeof file, "%s.cl", name);
    CST_TRY(file_text(&top, file));
    FILE *f = open_memstream(text, &size);
    cst_status st = f ? expand(f, top, seen, &nseen, file) : cst_fail(CST_NO_MEMORY, "%s", file);
    if (f) fclose(f);
    free(top);
    if (f && st != CST_OK) {
        free(*text);
        *text = NULL;
    }
    return st;
}

/* Start of the argument list of `kernel`, behind its "(". */
static const char *find_kernel(const char *s, const char *kernel)
{
    size_t n = strlen(kernel);
    for (const char *p = s; (p = strstr(p, kernel)); p += n) {
        int starts = p > s && (isspace((unsigned char)p[-1]) || p[-1] == '*');
        if (starts && p[n] == '(' && p >= s + 5 && !strncmp(p - 5, "void ", 5)) return p + n + 1;
    }
    return NULL;
}

cst_status cst_source_arguments(char *names[32], int is_buffer[32], int *n, const char *source, const char *kernel)
{
    const char *p = find_kernel(source, kernel);
    if (!p) return cst_fail(CST_STATE, "kernel %s is not in its source", kernel);
    size_t room = 0;
    for (int depth = 1; p[room] && depth; room++) depth += (p[room] == '(') - (p[room] == ')');
    char *store = malloc(room + 32);
    if (!store) return cst_fail(CST_NO_MEMORY, "kernel %s", kernel);
    *n = 0;
    for (int depth = 0;; ) {
        /* one argument: up to a comma or the closing parenthesis at depth 0; its name is its last word */
        const char *start = p, *word = NULL;
        size_t len = 0;
        while (isspace((unsigned char)*start)) start++;
        int buffer = !strncmp(start, "IN(", 3) || !strncmp(start, "OUT(", 4) || !strncmp(start, "IO(", 3);
        for (; *p && !(depth == 0 && (*p == ',' || *p == ')')); p++) {
            depth += (*p == '(') - (*p == ')');
            if (isalpha((unsigned char)*p) || *p == '_') {
                word = p;
                while (isalnum((unsigned char)p[1]) || p[1] == '_') p++;
                len = (size_t)(p - word) + 1;
            }
        }
        if (word) {
            if (*n == 32) {
                free(store);
                return cst_fail(CST_STATE, "kernel %s has more than 32 arguments", kernel);
            }
            names[*n] = *n ? names[*n - 1] + strlen(names[*n - 1]) + 1 : store;
            memcpy(names[*n], word, len);
            names[*n][len] = 0;
            is_buffer[(*n)++] = buffer;
        }
        if (*p != ',') break;
        p++;
    }
    if (!*n) free(store);
    return CST_OK;
}
