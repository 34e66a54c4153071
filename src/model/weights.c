#include "model/weights.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "io/safetensors.h"
#include "io/weights_source.h"

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"

/* Elements that are on their way at a time. */
#define CHUNK ((size_t)1 << 22)

/* ---- load ---- */

typedef struct loading {
    cst_model *M;
    const char *dir;
    cst_weights_source *source;
    const cst_weights_entry **from; /* [params] */
    const cst_weights_entry *head;  /* a copy of embed_tokens, NULL: none */
    float *chunk, *other;           /* [CHUNK] each */
} loading;

static int is_head(const char *name)
{
    return !strcmp(name, "lm_head.weight");
}

/* metaseq's models carry their format's version; transformers leaves it aside as well. */
static int is_ignored(const char *name)
{
    return !strcmp(name, "decoder.version") || !strcmp(name, "model.decoder.version");
}

static cst_status check_entry(const cst_weights_entry *e, const cst_param *p)
{
    int same = e->rank == p->rank;
    for (int i = 0; same && i < e->rank; i++) same = e->dims[i] == p->dims[i];
    if (!same) {
        char shape[200] = "";
        for (int i = 0, at = 0; i < e->rank; i++)
            at += snprintf(shape + at, sizeof shape - (size_t)at, "%s%" PRId64, i ? ", " : "", e->dims[i]);
        if (p->rank == 1)
            return cst_fail(CST_INPUT, "%s: tensor \"%s\" has shape [%s]; config.json asks for [%" PRId64 "] (%s)", e->file, e->name, shape,
                            p->dims[0], p->dim_name[0]);
        return cst_fail(CST_INPUT, "%s: tensor \"%s\" has shape [%s]; config.json asks for [%" PRId64 ", %" PRId64 "] (%s, %s)", e->file,
                        e->name, shape, p->dims[0], p->dims[1], p->dim_name[0], p->dim_name[1]);
    }
    if (!cst_st_dtype_is_real(e->dtype))
        return cst_fail(CST_UNSUPPORTED, "%s: tensor \"%s\" is %s; allowed: F64, F32, F16, BF16", e->file, e->name,
                        cst_st_dtype_name(e->dtype));
    return CST_OK;
}

/* Which tensor is which parameter; every one has its place and no place stays empty. */
static cst_status match(loading *l)
{
    const cst_model *M = l->M;
    int embed = cst_param_id(&M->config, CST_ROLE_EMBED_TOKENS, -1);
    for (size_t i = 0; i < cst_weights_source_count(l->source); i++) {
        const cst_weights_entry *e = cst_weights_source_get(l->source, i);
        if (is_ignored(e->name)) continue;
        int id = cst_param_find(&M->config, e->name);
        if (id < 0) return cst_fail(CST_INPUT, "%s: tensor \"%.200s\" is none of the model that config.json describes", e->file, e->name);
        CST_TRY(check_entry(e, &M->param[id]));
        const cst_weights_entry **place = is_head(e->name) ? &l->head : &l->from[id];
        if (*place) return cst_fail(CST_INPUT, "%s: tensors \"%s\" and \"%s\" are the same parameter", e->file, (*place)->name, e->name);
        *place = e;
    }
    if (!l->from[embed]) {
        l->from[embed] = l->head;
        l->head = NULL;
    }
    for (int i = 0; i < M->params; i++)
        if (!l->from[i]) return cst_fail(CST_INPUT, "%s: the weights lack tensor \"%s\"", l->dir, M->param[i].name);
    return CST_OK;
}

static cst_status copy_in(loading *l, const cst_weights_entry *e, cst_tensor *w)
{
    for (size_t at = 0; at < e->count; at += CHUNK) {
        size_t n = e->count - at < CHUNK ? e->count - at : CHUNK;
        CST_TRY(cst_weights_source_read(l->source, e, l->chunk, at, n));
        CST_TRY(cst_tensor_write(w, at * sizeof(float), l->chunk, n * sizeof(float)));
    }
    return CST_OK;
}

/* A head of its own would be lost without a word. */
static cst_status check_head(loading *l, const cst_weights_entry *embed)
{
    for (size_t at = 0; at < embed->count; at += CHUNK) {
        size_t n = embed->count - at < CHUNK ? embed->count - at : CHUNK;
        CST_TRY(cst_weights_source_read(l->source, embed, l->chunk, at, n));
        CST_TRY(cst_weights_source_read(l->source, l->head, l->other, at, n));
        for (size_t i = 0; i < n; i++)
            if (l->chunk[i] != l->other[i])
                return cst_fail(CST_UNSUPPORTED, "%s: tensor \"%s\" differs from \"%s\" at element %zu; allowed: a tied head",
                                l->head->file, l->head->name, embed->name, at + i);
    }
    return CST_OK;
}

static int cmp_entry(const void *a, const void *b)
{
    const cst_weights_entry *const *x = a, *const *y = b;
    return (*x > *y) - (*x < *y);
}

/* In the order of the files, which is that of the entries. */
static cst_status copy_all(loading *l)
{
    int n = l->M->params, embed = cst_param_id(&l->M->config, CST_ROLE_EMBED_TOKENS, -1);
    const cst_weights_entry *tied = l->from[embed];
    cst_status st = CST_OK;
    const cst_weights_entry **order = malloc((size_t)n * sizeof *order);
    if (!order) return cst_fail(CST_NO_MEMORY, "%s", l->dir);
    memcpy(order, l->from, (size_t)n * sizeof *order);
    qsort(order, (size_t)n, sizeof *order, cmp_entry);
    for (int i = 0; st == CST_OK && i < n; i++) st = copy_in(l, order[i], l->M->w[cst_param_find(&l->M->config, order[i]->name)]);
    free(order);
    return st == CST_OK && l->head ? check_head(l, tied) : st;
}

cst_status cst_weights_load(cst_model *M, const char *dir)
{
    cst_status st;
    loading l = {.M = M, .dir = dir};
    l.from = calloc((size_t)M->params, sizeof *l.from);
    l.chunk = malloc(CHUNK * sizeof *l.chunk);
    l.other = malloc(CHUNK * sizeof *l.other); /* untouched, and so not really there, without a stored head */
    if (!l.from || !l.chunk || !l.other) {
        st = cst_fail(CST_NO_MEMORY, "%s", dir);
        goto out;
    }
    CST_GO(cst_weights_source_open(&l.source, dir), out);
    CST_GO(match(&l), out);
    CST_GO(copy_all(&l), out);
out:
    cst_weights_source_close(l.source);
    free(l.from);
    free(l.chunk);
    free(l.other);
    return st;
}

/* ---- take what fits ---- */

/* Which of the folder's tensors go where; `unused` gets the others. */
static cst_status match_some(loading *l, json_t *unused)
{
    const cst_model *M = l->M;
    int embed = cst_param_id(&M->config, CST_ROLE_EMBED_TOKENS, -1), bad = 0;
    for (size_t i = 0; i < cst_weights_source_count(l->source); i++) {
        const cst_weights_entry *e = cst_weights_source_get(l->source, i);
        int id = cst_param_find(&M->config, e->name);
        const char *why = NULL;
        if (is_ignored(e->name)) continue;
        if (id < 0) why = "the model has no such parameter";
        else if (check_entry(e, &M->param[id]) != CST_OK) why = cst_detail();
        else if (is_head(e->name)) l->head = e;
        else if (l->from[id]) why = "it is there under another name";
        else l->from[id] = e;
        if (why) bad |= json_array_append_new(unused, json_sprintf("%s: %s", e->name, why)) != 0;
    }
    if (!l->from[embed]) l->from[embed] = l->head;
    return bad ? cst_fail(CST_NO_MEMORY, "%s", l->dir) : CST_OK;
}

static cst_status take(loading *l, json_t *report)
{
    json_t *taken = json_array(), *left = json_array(), *unused = json_array();
    int bad = json_object_set_new(report, "folder", cst_json_text(l->dir)) | json_object_set_new(report, "taken", taken) |
              json_object_set_new(report, "left", left) | json_object_set_new(report, "unused", unused);
    if (bad) return cst_fail(CST_NO_MEMORY, "%s", l->dir);
    CST_TRY(match_some(l, unused));
    for (int i = 0; i < l->M->params; i++) {
        bad |= json_array_append_new(l->from[i] ? taken : left, json_string(l->M->param[i].name)) != 0;
        if (l->from[i]) CST_TRY(copy_in(l, l->from[i], l->M->w[i]));
    }
    if (bad) return cst_fail(CST_NO_MEMORY, "%s", l->dir);
    if (json_array_size(taken)) return CST_OK;
    const char *first = json_string_value(json_array_get(unused, 0));
    return cst_fail(CST_INPUT, "%s: no tensor agrees with the model in name and shape%s%s", l->dir, first ? "; the first: " : "",
                    first ? first : "");
}

cst_status cst_weights_init_from(cst_model *M, const char *dir, json_t **report)
{
    loading l = {.M = M, .dir = dir};
    json_t *j = json_object();
    cst_status st;
    l.from = calloc((size_t)M->params, sizeof *l.from);
    l.chunk = malloc(CHUNK * sizeof *l.chunk);
    if (!j || !l.from || !l.chunk) {
        st = cst_fail(CST_NO_MEMORY, "%s", dir);
        goto out;
    }
    CST_GO(cst_weights_source_open(&l.source, dir), out);
    CST_GO(take(&l, j), out);
    *report = j;
    j = NULL;
out:
    cst_weights_source_close(l.source);
    json_decref(j);
    free(l.from);
    free(l.chunk);
    return st;
}

/* ---- save ---- */

static cst_status put_tensor(cst_safetensors_writer *w, cst_tensor *t, float *chunk)
{
    for (size_t at = 0; at < t->bytes; at += CHUNK * sizeof *chunk) {
        size_t n = t->bytes - at < CHUNK * sizeof *chunk ? t->bytes - at : CHUNK * sizeof *chunk;
        CST_TRY(cst_tensor_read(t, at, chunk, n));
        CST_TRY(cst_safetensors_writer_put(w, chunk, n));
    }
    return CST_OK;
}

/* A complete file of parameters [first, end), still under its temporary name. */
static cst_status write_file(cst_safetensors_writer **out, cst_model *M, cst_tensor *const *tensor, int first, int end, const char *path,
                             const char *scalar_name, float scalar)
{
    cst_safetensors_writer *w = NULL;
    cst_status st;
    float *chunk = malloc(CHUNK * sizeof *chunk);
    if (!chunk) return cst_fail(CST_NO_MEMORY, "%s", path);
    CST_GO(cst_safetensors_writer_create(&w, path), out);
    for (int i = first; i < end; i++)
        CST_GO(cst_safetensors_writer_declare(w, M->param[i].name, CST_ST_F32, M->param[i].rank, M->param[i].dims), out);
    if (scalar_name) CST_GO(cst_safetensors_writer_declare(w, scalar_name, CST_ST_F32, 0, NULL), out);
    CST_GO(cst_safetensors_writer_begin(w), out);
    for (int i = first; i < end; i++) CST_GO(put_tensor(w, tensor[i], chunk), out);
    if (scalar_name) CST_GO(cst_safetensors_writer_put(w, &scalar, sizeof scalar), out);
    *out = w;
    w = NULL;
out:
    cst_safetensors_writer_discard(w);
    free(chunk);
    return st;
}

cst_status cst_weights_save(cst_model *M, cst_tensor *const *tensor, const char *path, const char *scalar_name, float scalar)
{
    cst_safetensors_writer *w;
    if (tensor == M->w) CST_TRY(cst_model_settled(M));
    CST_TRY(write_file(&w, M, tensor, 0, M->params, path, scalar_name, scalar));
    return cst_safetensors_writer_commit(w);
}

/* First parameter of the shard after the one that begins with `first`. */
static int shard_end(const cst_model *M, int first, uint64_t shard_bytes)
{
    uint64_t sum = 0;
    int i = first;
    for (; i < M->params; i++) {
        sum += (uint64_t)M->param[i].count * sizeof(float);
        if (sum > shard_bytes && i > first) break;
    }
    return i;
}

static void shard_name(char name[64], int i, int n)
{
    snprintf(name, 64, "model-%05d-of-%05d.safetensors", i + 1, n);
}

static cst_status save_index(const cst_model *M, const char *dir, uint64_t shard_bytes, int shards)
{
    char name[64];
    json_int_t count = (json_int_t)cst_config_parameters(&M->config);
    json_t *map = json_object(), *j = NULL;
    cst_status st = CST_OK;
    char *path = cst_path_join(dir, INDEX);
    int bad = !map || !path;
    for (int k = 0, first = 0; k < shards; k++) {
        int end = shard_end(M, first, shard_bytes);
        shard_name(name, k, shards);
        for (; first < end; first++) bad |= json_object_set_new(map, M->param[first].name, json_string(name)) != 0;
    }
    if (!bad) j = json_pack("{s:{s:I, s:I}, s:O}", "metadata", "total_parameters", count, "total_size", count * 4, "weight_map", map);
    st = j ? cst_json_save(j, path) : cst_fail(CST_NO_MEMORY, "%s", dir);
    json_decref(j);
    json_decref(map);
    free(path);
    return st;
}

/* A file that would contradict the new ones. */
static cst_status remove_old(const char *dir, const char *name)
{
    char *path = cst_path_join(dir, name);
    cst_status st = !path ? cst_fail(CST_NO_MEMORY, "%s", dir) : CST_OK;
    if (path && unlink(path) && errno != ENOENT) st = cst_fail(CST_IO, "%s: %s", path, strerror(errno));
    free(path);
    return st;
}

static cst_status save_shards(cst_model *M, const char *dir, uint64_t shard_bytes, int shards)
{
    cst_status st = CST_OK;
    char name[64];
    int first = 0;
    cst_safetensors_writer **w = calloc((size_t)shards, sizeof *w);
    if (!w) return cst_fail(CST_NO_MEMORY, "%s", dir);
    for (int k = 0; k < shards; k++) {
        int end = shard_end(M, first, shard_bytes);
        shard_name(name, k, shards);
        char *path = cst_path_join(dir, name);
        st = path ? write_file(&w[k], M, M->w, first, end, path, NULL, 0) : cst_fail(CST_NO_MEMORY, "%s", dir);
        free(path);
        if (st != CST_OK) goto out;
        first = end;
    }
    for (int k = 0; k < shards; k++) {
        cst_safetensors_writer *complete = w[k];
        w[k] = NULL;
        CST_GO(cst_safetensors_writer_commit(complete), out);
    }
    CST_GO(save_index(M, dir, shard_bytes, shards), out);
    st = remove_old(dir, SINGLE);
out:
    for (int k = 0; k < shards; k++) cst_safetensors_writer_discard(w[k]);
    free(w);
    return st;
}

cst_status cst_weights_save_folder(cst_model *M, const char *dir, uint64_t shard_bytes)
{
    int shards = 0;
    CST_TRY(cst_model_settled(M));
    for (int first = 0; first < M->params; shards++) first = shard_end(M, first, shard_bytes);
    if (shards > 1) return save_shards(M, dir, shard_bytes, shards);
    char *path = cst_path_join(dir, SINGLE);
    if (!path) return cst_fail(CST_NO_MEMORY, "%s", dir);
    cst_status st = cst_weights_save(M, M->w, path, NULL, 0);
    free(path);
    return st == CST_OK ? remove_old(dir, INDEX) : st;
}
