#include "model/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "io/safetensors.h"

static cst_status copy_in(cst_model *M, int id, const cst_safetensors_view *v, const char *path)
{
    const cst_param *p = &M->param[id];
    int same = v->rank == p->rank;
    for (int i = 0; same && i < v->rank; i++) same = v->dims[i] == p->dims[i];
    if (!same) {
        char shape[160] = "";
        for (int i = 0, at = 0; i < v->rank && at < 140; i++)
            at += snprintf(shape + at, sizeof shape - (size_t)at, "%s%" PRId64, i ? ", " : "", v->dims[i]);
        return cst_fail(CST_INPUT, "%s: %s has shape [%s]; config.json asks for [%" PRId64 "%s%.0" PRId64 "]", path, v->name, shape,
                        p->dims[0], p->rank > 1 ? ", " : "", p->rank > 1 ? p->dims[1] : 0);
    }
    float *host = malloc((size_t)p->count * sizeof *host);
    if (!host) return cst_fail(CST_NO_MEMORY, "%s: %s", path, v->name);
    cst_status st = cst_safetensors_copy_f32(host, v, 0, (size_t)p->count);
    if (st == CST_OK) st = cst_tensor_write(M->w[id], 0, host, (size_t)p->count * sizeof *host);
    free(host);
    return st;
}

static int ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

cst_status cst_weights_load(cst_model *M, const char *dir)
{
    cst_safetensors *file = NULL;
    char *path = cst_path_join(dir, "model.safetensors");
    unsigned char *have = calloc((size_t)M->params, 1);
    cst_status st = CST_OK;
    if (!path || !have) {
        st = cst_fail(CST_NO_MEMORY, "%s", dir);
        goto out;
    }
    if (!cst_path_exists(path)) {
        st = cst_fail(CST_UNSUPPORTED, "%s: no such file; weights are read from one safetensors file so far (convert others with transformers: save_pretrained)", path);
        goto out;
    }
    CST_GO(cst_safetensors_open(&file, path), out);
    for (size_t i = 0; i < cst_safetensors_count(file); i++) {
        const cst_safetensors_view *v = cst_safetensors_get(file, i);
        int id = cst_param_find(&M->config, v->name);
        if (id < 0) {
            st = cst_fail(CST_INPUT, "%s: tensor %s is none of this model's", path, v->name);
            goto out;
        }
        if (have[id] || (ends_with(v->name, "lm_head.weight") && i + 1 < cst_safetensors_count(file) && !have[id] &&
                         (cst_safetensors_find(file, M->param[id].name) || cst_safetensors_find(file, M->param[id].name + 6))))
            continue; /* the tied head, stored a second time */
        CST_GO(copy_in(M, id, v, path), out);
        have[id] = 1;
    }
    for (int i = 0; i < M->params; i++)
        if (!have[i]) {
            st = cst_fail(CST_INPUT, "%s: %s is missing", path, M->param[i].name);
            goto out;
        }
out:
    cst_safetensors_close(file);
    free(path);
    free(have);
    return st;
}

cst_status cst_weights_save(cst_model *M, cst_tensor *const *tensor, const char *path, const char *scalar_name, float scalar)
{
    cst_safetensors_writer *w = NULL;
    size_t most = 0;
    float *host = NULL;
    cst_status st;
    CST_GO(cst_safetensors_writer_create(&w, path), out);
    for (int i = 0; i < M->params; i++) {
        const cst_param *p = &M->param[i];
        if ((size_t)p->count > most) most = (size_t)p->count;
        CST_GO(cst_safetensors_writer_declare(w, p->name, CST_ST_F32, p->rank, p->dims), out);
    }
    if (scalar_name) CST_GO(cst_safetensors_writer_declare(w, scalar_name, CST_ST_F32, 0, NULL), out);
    CST_GO(cst_safetensors_writer_begin(w), out);
    if (!(host = malloc(most * sizeof *host))) {
        st = cst_fail(CST_NO_MEMORY, "%s", path);
        goto out;
    }
    for (int i = 0; i < M->params; i++) {
        CST_GO(cst_tensor_read(tensor[i], 0, host, tensor[i]->bytes), out);
        CST_GO(cst_safetensors_writer_put(w, host, tensor[i]->bytes), out);
    }
    if (scalar_name) CST_GO(cst_safetensors_writer_put(w, &scalar, sizeof scalar), out);
    st = cst_safetensors_writer_commit(w);
    w = NULL;
out:
    cst_safetensors_writer_discard(w);
    free(host);
    return st;
}

cst_status cst_model_save(cst_model *M, const char *dir)
{
    CST_TRY(cst_make_dirs(dir));
    char *path = cst_path_join(dir, "model.safetensors");
    if (!path) return cst_fail(CST_NO_MEMORY, "%s", dir);
    cst_status st = cst_weights_save(M, M->w, path, NULL, 0);
    free(path);
    return st == CST_OK ? cst_config_save(&M->config, dir) : st;
}
