#include "train/checkpoint.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/json.h"
#include "io/safetensors.h"
#include "model/weights.h"
#include "train/outdir.h"

#define SCHEMA 1
#define OPTIMIZER "optimizer.safetensors"
#define STATE "trainer.json"
#define CHUNK ((size_t)1 << 22)  /* elements that are on their way at a time */
#define SMALL_FILES ((uint64_t)4 << 20) /* room for all that isn't weights or moments */

static const char *const moment[2] = {"exp_avg", "exp_avg_sq"};

static void moment_name(char name[300], int which, const cst_param *p)
{
    snprintf(name, 300, "%s.%s", moment[which], p->name);
}

uint64_t cst_checkpoint_bytes(const cst_session *s, int model_only)
{
    uint64_t bytes = SMALL_FILES;
    for (int i = 0; i < s->model->params; i++) {
        uint64_t count = (uint64_t)s->model->param[i].count;
        bytes += 4 * count;
        if (!model_only && s->model->g[i]) bytes += 8 * count;
    }
    return bytes;
}

/* Hash of all weights as they are on the device: it tells whether what was loaded is what was saved, whatever went wrong
 * on the way. */
static cst_status hash_weights(uint64_t *hash, cst_model *M)
{
    cst_status st = CST_OK;
    float *chunk = malloc(CHUNK * sizeof *chunk);
    XXH3_state_t *x = XXH3_createState();
    if (!chunk || !x) {
        st = cst_fail(CST_NO_MEMORY, "checkpoint");
        goto out;
    }
    XXH3_64bits_reset(x);
    for (int i = 0; i < M->params; i++)
        for (size_t at = 0; at < M->w[i]->bytes; at += CHUNK * sizeof *chunk) {
            size_t n = M->w[i]->bytes - at < CHUNK * sizeof *chunk ? M->w[i]->bytes - at : CHUNK * sizeof *chunk;
            CST_GO(cst_tensor_read(M->w[i], at, chunk, n), out);
            XXH3_64bits_update(x, chunk, n);
        }
    *hash = XXH3_64bits_digest(x);
out:
    XXH3_freeState(x);
    free(chunk);
    return st;
}

/* ---- save ---- */

static cst_status declare_moments(cst_safetensors_writer *w, const cst_model *M)
{
    char name[300];
    for (int i = 0; i < M->params; i++)
        for (int k = 0; k < 2 && M->g[i]; k++) {
            moment_name(name, k, &M->param[i]);
            CST_TRY(cst_safetensors_writer_declare(w, name, CST_ST_F32, M->param[i].rank, M->param[i].dims));
        }
    return cst_safetensors_writer_begin(w);
}

/* In pieces: there is never a second copy of the state. */
static cst_status put_moments(cst_safetensors_writer *w, cst_session *s, float *chunk, XXH3_state_t *x)
{
    const cst_model *M = s->model;
    for (int i = 0; i < M->params; i++)
        for (int k = 0; k < 2 && M->g[i]; k++)
            for (size_t at = 0, count = (size_t)M->param[i].count; at < count; at += CHUNK) {
                size_t n = count - at < CHUNK ? count - at : CHUNK;
                CST_TRY(cst_optim_read(s->optim, k, i, at, chunk, n));
                XXH3_64bits_update(x, chunk, n * sizeof *chunk);
                CST_TRY(cst_safetensors_writer_put(w, chunk, n * sizeof *chunk));
            }
    return CST_OK;
}

static cst_status save_moments(uint64_t *hash, cst_session *s, const char *dir)
{
    cst_safetensors_writer *w = NULL;
    cst_status st;
    char *path = cst_path_join(dir, OPTIMIZER);
    float *chunk = malloc(CHUNK * sizeof *chunk);
    XXH3_state_t *x = XXH3_createState();
    if (!path || !chunk || !x) {
        st = cst_fail(CST_NO_MEMORY, "%s", dir);
        goto out;
    }
    XXH3_64bits_reset(x);
    CST_GO(cst_safetensors_writer_create(&w, path), out);
    CST_GO(declare_moments(w, s->model), out);
    CST_GO(put_moments(w, s, chunk, x), out);
    *hash = XXH3_64bits_digest(x);
    st = cst_safetensors_writer_commit(w);
    w = NULL;
out:
    cst_safetensors_writer_discard(w);
    XXH3_freeState(x);
    free(chunk);
    free(path);
    return st;
}

static json_t *hash_json(uint64_t hash)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, hash);
    return json_string(text);
}

static cst_status save_state(const cst_session *s, const cst_checkpoint *c, const char *dir, uint64_t weights, uint64_t moments)
{
    char *path = cst_path_join(dir, STATE);
    json_t *best = isnan(c->best_loss) ? json_null()
                                       : json_pack("{s:I, s:f}", "step", (json_int_t)c->best_step, "valid_loss", c->best_loss);
    json_t *random = json_pack("{s:s, s:I, s:I}", "generator", "philox4x32-10", "seed", (json_int_t)s->o.seed, "micro_batch",
                               (json_int_t)(c->step * s->o.accum));
    json_t *hashes = json_pack("{s:o, s:o}", "weights", hash_json(weights), "moments", hash_json(moments));
    json_t *j = json_pack("{s:i, s:s, s:I, s:o, s:o, s:o, s:o, s:O?}", "schema", SCHEMA, "castor", PACKAGE_VERSION, "step",
                          (json_int_t)c->step, "best", best, "random", random, "xxh3", hashes, "matrix_products",
                          cst_gemm_choices_json(s->dev), "about", c->about);
    cst_status st = path && j ? cst_json_save(j, path) : cst_fail(CST_NO_MEMORY, "%s", dir);
    json_decref(j);
    free(path);
    return st;
}

static cst_status save_all(cst_session *s, const cst_checkpoint *c, const char *dir, cst_save_model save, void *user)
{
    uint64_t weights = 0, moments = 0;
    CST_TRY(cst_session_settle(s));
    CST_TRY(save(s, dir, user));
    CST_TRY(hash_weights(&weights, s->model));
    CST_TRY(save_moments(&moments, s, dir));
    return save_state(s, c, dir, weights, moments);
}

cst_status cst_checkpoint_save(cst_session *s, const char *out_dir, const cst_checkpoint *c, cst_save_model save, void *user)
{
    char name[48], *temp;
    snprintf(name, sizeof name, "checkpoint-%" PRId64, c->step);
    CST_TRY(cst_outdir_room(out_dir, cst_checkpoint_bytes(s, 0)));
    CST_TRY(cst_outdir_begin(&temp, out_dir, name));
    cst_status st = save_all(s, c, temp, save, user);
    if (st == CST_OK) st = cst_outdir_commit(temp, out_dir, c->step);
    else cst_outdir_discard(temp);
    free(temp);
    return st;
}

cst_status cst_checkpoint_save_best(cst_session *s, const char *out_dir, cst_save_model save, void *user)
{
    char *temp;
    CST_TRY(cst_session_settle(s));
    CST_TRY(cst_outdir_room(out_dir, cst_checkpoint_bytes(s, 1)));
    CST_TRY(cst_outdir_begin(&temp, out_dir, "best"));
    cst_status st = save(s, temp, user);
    if (st == CST_OK) st = cst_outdir_commit_best(temp, out_dir);
    else cst_outdir_discard(temp);
    free(temp);
    return st;
}

/* ---- read ---- */

static cst_status read_hash(uint64_t *hash, const json_t *j, const char *name, const char *where)
{
    const char *text = "";
    char *end;
    CST_TRY(cst_json_string(&text, j, name, where));
    *hash = strtoull(text, &end, 16);
    return strlen(text) == 16 && !*end ? CST_OK : cst_fail(CST_INPUT, "%s: \"%s\" must be 16 hexadecimal digits", where, name);
}

static cst_status read_object(const json_t **out, const json_t *j, const char *name, const char *where)
{
    *out = json_object_get(j, name);
    return json_is_object(*out) ? CST_OK : cst_fail(CST_INPUT, "%s: \"%s\" must be an object", where, name);
}

static cst_status parse(cst_checkpoint *c, json_t *j, const char *where)
{
    const json_t *best = json_object_get(j, "best"), *hashes, *products;
    int64_t schema = 0;
    CST_TRY(cst_json_int(&schema, j, "schema", 1, INT32_MAX, where));
    if (schema != SCHEMA) return cst_fail(CST_UNSUPPORTED, "%s: \"schema\" is %" PRId64 "; allowed: %d", where, schema, SCHEMA);
    c->step = -1;
    CST_TRY(cst_json_int(&c->step, j, "step", 0, INT64_C(1) << 53, where));
    if (c->step < 0) return cst_fail(CST_INPUT, "%s: no \"step\"", where);
    if (json_is_object(best)) {
        CST_TRY(cst_json_int(&c->best_step, best, "step", 0, INT64_C(1) << 53, where));
        CST_TRY(cst_json_real(&c->best_loss, best, "valid_loss", where));
    }
    CST_TRY(read_object(&hashes, j, "xxh3", where));
    CST_TRY(read_hash(&c->weights_hash, hashes, "weights", where));
    CST_TRY(read_hash(&c->moments_hash, hashes, "moments", where));
    CST_TRY(read_object(&products, j, "matrix_products", where));
    c->products = json_incref((json_t *)products);
    c->about = json_incref(json_object_get(j, "about"));
    return CST_OK;
}

cst_status cst_checkpoint_read(cst_checkpoint *c, const char *path)
{
    json_t *j = NULL;
    cst_status st;
    char *file = NULL;
    memset(c, 0, sizeof *c);
    c->best_loss = NAN;
    CST_TRY(cst_outdir_find(&c->dir, path));
    file = cst_path_join(c->dir, STATE);
    if (!file) return cst_fail(CST_NO_MEMORY, "%s", path);
    CST_GO(cst_json_load(&j, file, JSON_OBJECT), out);
    CST_GO(parse(c, j, file), out);
out:
    json_decref(j);
    free(file);
    return st;
}

void cst_checkpoint_close(cst_checkpoint *c)
{
    json_decref(c->about);
    json_decref(c->products);
    free(c->dir);
    memset(c, 0, sizeof *c);
}

/* ---- load ---- */

static cst_status load_moment(cst_session *s, int which, int param, const cst_safetensors *f, float *chunk, XXH3_state_t *x,
                              const char *path)
{
    const cst_param *p = &s->model->param[param];
    char name[300];
    moment_name(name, which, p);
    const cst_safetensors_view *v = cst_safetensors_find(f, name);
    if (!v) return cst_fail(CST_INPUT, "%s: it lacks tensor \"%s\"", path, name);
    int same = v->dtype == CST_ST_F32 && v->rank == p->rank;
    for (int i = 0; same && i < p->rank; i++) same = v->dims[i] == p->dims[i];
    if (!same) return cst_fail(CST_INPUT, "%s: tensor \"%s\" must be F32 and have the shape of its parameter", path, name);
    for (size_t at = 0; at < v->count; at += CHUNK) {
        size_t n = v->count - at < CHUNK ? v->count - at : CHUNK;
        CST_TRY(cst_safetensors_copy_f32(chunk, v, at, n));
        cst_safetensors_forget(v, at, n);
        XXH3_64bits_update(x, chunk, n * sizeof *chunk);
        CST_TRY(cst_optim_write(s->optim, which, param, at, chunk, n));
    }
    return CST_OK;
}

static cst_status load_moments(cst_session *s, const cst_checkpoint *c)
{
    cst_safetensors *f = NULL;
    cst_status st;
    char *path = cst_path_join(c->dir, OPTIMIZER);
    float *chunk = malloc(CHUNK * sizeof *chunk);
    XXH3_state_t *x = XXH3_createState();
    if (!path || !chunk || !x) {
        st = cst_fail(CST_NO_MEMORY, "%s", c->dir);
        goto out;
    }
    XXH3_64bits_reset(x);
    CST_GO(cst_safetensors_open(&f, path), out);
    for (int i = 0; i < s->model->params; i++)
        for (int k = 0; k < 2 && s->model->g[i]; k++) CST_GO(load_moment(s, k, i, f, chunk, x, path), out);
    if (XXH3_64bits_digest(x) != c->moments_hash)
        st = cst_fail(CST_INPUT, "%s: its numbers are not those that were saved (checksum)", path);
out:
    cst_safetensors_close(f);
    XXH3_freeState(x);
    free(chunk);
    free(path);
    return st;
}

cst_status cst_checkpoint_load(cst_session *s, const cst_checkpoint *c)
{
    uint64_t hash;
    CST_TRY(cst_weights_load(s->model, c->dir));
    CST_TRY(hash_weights(&hash, s->model));
    if (hash != c->weights_hash) return cst_fail(CST_INPUT, "%s: the weights are not those that were saved (checksum)", c->dir);
    CST_TRY(cst_session_start(s));
    return load_moments(s, c);
}
