#include "io/weights_source.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "io/torch_bin.h"

/* One file, of one of the two formats. */
typedef struct part {
    char *path;
    cst_safetensors *st;
    cst_torch_bin *bin;
} part;

struct cst_weights_source {
    part *part;
    size_t parts;
    cst_weights_entry *entry;
    size_t count;
    const cst_weights_entry **by_name;
    void *raw; /* bytes of an archive before conversion */
    size_t raw_bytes;
};

static const struct {
    const char *name;
    int is_bin, is_index;
} FORMS[] = {
    {"model.safetensors", 0, 0},
    {"model.safetensors.index.json", 0, 1},
    {"pytorch_model.bin", 1, 0},
    {"pytorch_model.bin.index.json", 1, 1},
};
#define FORM_COUNT (sizeof FORMS / sizeof *FORMS)

/* ---- entries ---- */

static cst_status add_part(cst_weights_source *s, const char *dir, const char *name, int is_bin)
{
    part *p = realloc(s->part, (s->parts + 1) * sizeof *p);
    if (!p) return cst_fail(CST_NO_MEMORY, "%s", dir);
    s->part = p;
    p += s->parts;
    *p = (part){cst_path_join(dir, name), NULL, NULL};
    if (!p->path) return cst_fail(CST_NO_MEMORY, "%s", dir);
    s->parts++;
    return is_bin ? cst_torch_bin_open(&p->bin, p->path) : cst_safetensors_open(&p->st, p->path);
}

static size_t part_count(const part *p)
{
    return p->bin ? cst_torch_bin_count(p->bin) : cst_safetensors_count(p->st);
}

static void describe(cst_weights_entry *e, const part *p, size_t i)
{
    if (p->bin) {
        const cst_torch_tensor *t = cst_torch_bin_get(p->bin, i);
        *e = (cst_weights_entry){.name = t->name, .dtype = t->dtype, .rank = t->rank, .count = t->count};
        memcpy(e->dims, t->dims, sizeof e->dims);
    } else {
        const cst_safetensors_view *v = cst_safetensors_get(p->st, i);
        *e = (cst_weights_entry){.name = v->name, .dtype = v->dtype, .rank = v->rank, .count = v->count};
        memcpy(e->dims, v->dims, sizeof e->dims);
    }
    e->file = p->path;
    e->index = i;
}

static int cmp_name(const void *a, const void *b)
{
    const cst_weights_entry *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* Entries of all parts, each name once. */
static cst_status list_entries(cst_weights_source *s)
{
    size_t n = 0, at = 0;
    for (size_t k = 0; k < s->parts; k++) n += part_count(&s->part[k]);
    s->entry = calloc(n + 1, sizeof *s->entry);
    s->by_name = calloc(n + 1, sizeof *s->by_name);
    if (!s->entry || !s->by_name) return cst_fail(CST_NO_MEMORY, "%s: %zu tensors", s->part[0].path, n);
    for (size_t k = 0; k < s->parts; k++)
        for (size_t i = 0; i < part_count(&s->part[k]); i++, at++) {
            describe(&s->entry[at], &s->part[k], i);
            s->entry[at].part = k;
            s->by_name[at] = &s->entry[at];
        }
    s->count = n;
    qsort(s->by_name, n, sizeof *s->by_name, cmp_name);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(s->by_name[i - 1]->name, s->by_name[i]->name))
            return cst_fail(CST_INPUT, "%s: tensor \"%.100s\" is there twice (also in %s)", s->by_name[i]->file, s->by_name[i]->name,
                            s->by_name[i - 1]->file);
    return CST_OK;
}

/* ---- shards ---- */

/* A file beside its index, and nothing else. */
static int is_file_name(const char *f)
{
    return *f && !strchr(f, '/') && !strchr(f, '\\') && strcmp(f, ".") && strcmp(f, "..") && strlen(f) < 256;
}

static size_t find_part(const cst_weights_source *s, const char *file)
{
    for (size_t k = 0; k < s->parts; k++)
        if (!strcmp(strrchr(s->part[k].path, '/') + 1, file)) return k;
    return s->parts;
}

static cst_status open_shards(cst_weights_source *s, const char *dir, const char *path, const json_t *map, int is_bin)
{
    const char *name;
    const json_t *value;
    if (!json_is_object(map) || !json_object_size(map))
        return cst_fail(CST_INPUT, "%s: no \"weight_map\": an object from tensors to files is wanted", path);
    json_object_foreach((json_t *)map, name, value) {
        const char *file = json_string_value(value);
        if (!file || !is_file_name(file))
            return cst_fail(CST_INPUT, "%s: \"weight_map\": tensor \"%.100s\" is in \"%.200s\"; allowed: the name of a file in the same "
                            "folder", path, name, file ? file : "(no string)");
        if (find_part(s, file) < s->parts) continue;
        if (s->parts == CST_WEIGHTS_SHARDS_MAX) return cst_fail(CST_INPUT, "%s: more than %d shards", path, CST_WEIGHTS_SHARDS_MAX);
        cst_status st = add_part(s, dir, file, is_bin);
        if (st != CST_OK) return cst_fail_in(st, "%s", path);
    }
    return CST_OK;
}

static cst_status check_index(const cst_weights_source *s, const char *path, const json_t *map)
{
    const char *name;
    const json_t *value;
    json_object_foreach((json_t *)map, name, value) {
        const cst_weights_entry *e = cst_weights_source_find(s, name);
        if (!e || e->part != find_part(s, json_string_value(value)))
            return cst_fail(CST_INPUT, "%s: tensor \"%.100s\" is not in \"%s\", where \"weight_map\" has it", path, name,
                            json_string_value(value));
    }
    for (size_t i = 0; i < s->count; i++)
        if (!json_object_get(map, s->entry[i].name))
            return cst_fail(CST_INPUT, "%s: \"weight_map\" lacks tensor \"%.100s\" of %s", path, s->entry[i].name, s->entry[i].file);
    return CST_OK;
}

static cst_status open_index(cst_weights_source *s, const char *dir, const char *path, int is_bin)
{
    cst_status st;
    json_t *j = NULL;
    CST_TRY(cst_json_load(&j, path, JSON_OBJECT));
    const json_t *map = json_object_get(j, "weight_map");
    CST_GO(open_shards(s, dir, path, map, is_bin), out);
    CST_GO(list_entries(s), out);
    CST_GO(check_index(s, path, map), out);
out:
    json_decref(j);
    return st;
}

/* ---- the interface ---- */

cst_status cst_weights_source_open(cst_weights_source **out, const char *dir)
{
    cst_status st;
    char *path = NULL;
    size_t form = 0;
    cst_weights_source *s = calloc(1, sizeof *s);
    if (!s) return cst_fail(CST_NO_MEMORY, "%s", dir);
    for (; form < FORM_COUNT; form++) {
        free(path);
        if (!(path = cst_path_join(dir, FORMS[form].name))) {
            st = cst_fail(CST_NO_MEMORY, "%s", dir);
            goto fail;
        }
        if (cst_path_exists(path)) break;
    }
    if (form == FORM_COUNT) {
        st = cst_fail(CST_IO, "%s: no weights there; allowed: %s, %s, %s or %s", dir, FORMS[0].name, FORMS[1].name, FORMS[2].name,
                      FORMS[3].name);
        goto fail;
    }
    if (FORMS[form].is_index) CST_GO(open_index(s, dir, path, FORMS[form].is_bin), fail);
    else {
        CST_GO(add_part(s, dir, FORMS[form].name, FORMS[form].is_bin), fail);
        CST_GO(list_entries(s), fail);
    }
    free(path);
    *out = s;
    return CST_OK;
fail:
    free(path);
    cst_weights_source_close(s);
    return st;
}

void cst_weights_source_close(cst_weights_source *s)
{
    if (!s) return;
    for (size_t k = 0; k < s->parts; k++) {
        cst_safetensors_close(s->part[k].st);
        cst_torch_bin_close(s->part[k].bin);
        free(s->part[k].path);
    }
    free(s->part);
    free(s->entry);
    free(s->by_name);
    free(s->raw);
    free(s);
}

size_t cst_weights_source_count(const cst_weights_source *s)
{
    return s->count;
}

const cst_weights_entry *cst_weights_source_get(const cst_weights_source *s, size_t i)
{
    return i < s->count ? &s->entry[i] : NULL;
}

const cst_weights_entry *cst_weights_source_find(const cst_weights_source *s, const char *name)
{
    cst_weights_entry key = {.name = name};
    const cst_weights_entry *k = &key;
    const cst_weights_entry **p = bsearch(&k, s->by_name, s->count, sizeof *s->by_name, cmp_name);
    return p ? *p : NULL;
}

static cst_status read_bin(cst_weights_source *s, const cst_weights_entry *e, float *dst, size_t first, size_t count)
{
    cst_torch_bin *bin = s->part[e->part].bin;
    const cst_torch_tensor *t = cst_torch_bin_get(bin, e->index);
    size_t bytes = count * cst_st_dtype_bytes(e->dtype);
    if (e->dtype == CST_ST_F32) return cst_torch_bin_read(bin, t, dst, first, count);
    if (bytes > s->raw_bytes) {
        void *p = realloc(s->raw, bytes);
        if (!p) return cst_fail(CST_NO_MEMORY, "%s: %zu bytes", e->file, bytes);
        s->raw = p;
        s->raw_bytes = bytes;
    }
    CST_TRY(cst_torch_bin_read(bin, t, s->raw, first, count));
    cst_st_to_f32(dst, s->raw, e->dtype, count);
    return CST_OK;
}

static cst_status check_finite(const float *x, const cst_weights_entry *e, size_t first, size_t count)
{
    int bad = 0;
#pragma omp parallel for schedule(static) reduction(| : bad) if (count > 1 << 18)
    for (size_t i = 0; i < count; i++) bad |= !isfinite(x[i]);
    for (size_t i = 0; bad && i < count; i++)
        if (!isfinite(x[i]))
            return cst_fail(CST_NOT_FINITE, "%s: tensor \"%.100s\": element %zu is %s; allowed: finite numbers", e->file, e->name,
                            first + i, isnan(x[i]) ? "NaN" : "infinite");
    return CST_OK;
}

cst_status cst_weights_source_read(cst_weights_source *s, const cst_weights_entry *e, float *dst, size_t first, size_t count)
{
    const part *p = &s->part[e->part];
    if (!cst_st_dtype_is_real(e->dtype))
        return cst_fail(CST_UNSUPPORTED, "%s: tensor \"%.100s\" is %s; allowed: F64, F32, F16, BF16", e->file, e->name,
                        cst_st_dtype_name(e->dtype));
    if (p->bin) CST_TRY(read_bin(s, e, dst, first, count));
    else {
        const cst_safetensors_view *v = cst_safetensors_get(p->st, e->index);
        CST_TRY(cst_safetensors_copy_f32(dst, v, first, count));
        cst_safetensors_forget(v, first, count);
    }
    return check_finite(dst, e, first, count);
}
