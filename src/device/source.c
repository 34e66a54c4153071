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

/* What the macro of this name stands for, up to the end of its line, or NULL. */
static const char *find_macro(const char *s, const char *name, size_t n)
{
    for (const char *p = s; (p = strstr(p, "#define ")); p += 8)
        if (!strncmp(p + 8, name, n) && isspace((unsigned char)p[8 + n])) return p + 8 + n;
    return NULL;
}

static int in_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* The arguments from p to their ")", in f. One that is a macro's name and nothing else becomes what the macro stands for. */
static void argument_text(FILE *f, const char *source, const char *p)
{
    int depth = 0, starts = 1;
    for (; *p && !(depth == 0 && *p == ')'); p++) {
        size_t n = 0, gap;
        while (in_word(p[n])) n++;
        gap = n + strspn(p + n, " \t\n");
        const char *text = n && starts && (p[gap] == ',' || p[gap] == ')') ? find_macro(source, p, n) : NULL;
        if (n) {
            if (!text) fwrite(p, 1, n, f);
            for (; text && *text && *text != '\n'; text++) {
                if (text[0] == '\\' && text[1] == '\n') text++; /* the line goes on */
                fputc(*text, f);
            }
            p += n - 1;
        } else {
            fputc(*p, f);
        }
        depth += (*p == '(') - (*p == ')');
        starts = (depth == 0 && *p == ',') || (starts && isspace((unsigned char)*p));
    }
    fputc(')', f);
}

cst_status cst_source_arguments(char *names[32], int is_buffer[32], int *n, const char *source, const char *kernel)
{
    const char *first = find_kernel(source, kernel), *p;
    if (!first) return cst_fail(CST_STATE, "kernel %s is not in its source", kernel);
    size_t room = 0;
    char *list = NULL;
    FILE *f = open_memstream(&list, &room);
    if (f) argument_text(f, source, first);
    char *store = f && !fclose(f) ? malloc(room + 32) : NULL;
    if (!store) {
        free(list);
        return cst_fail(CST_NO_MEMORY, "kernel %s", kernel);
    }
    p = list;
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
                while (in_word(p[1])) p++;
                len = (size_t)(p - word) + 1;
            }
        }
        if (word) {
            if (*n == 32) {
                free(store);
                free(list);
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
    free(list);
    return CST_OK;
}
