#include "cli/run_file.h"

#include <clFFT.h>
#include <clblast_c.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>
#include <zip.h>

#include "base/file.h"
#include "base/json.h"
#include "train/report.h"

static cst_status set(json_t *j, const char *name, json_t *value)
{
    return json_object_set_new(j, name, value) ? cst_fail(CST_NO_MEMORY, "run.json") : CST_OK;
}

static json_t *time_json(void)
{
    char text[32];
    time_t t = time(NULL);
    struct tm tm;
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
    return json_string(text);
}

static json_t *command_json(const cst_args *a)
{
    json_t *words = json_array();
    for (int i = 0; i < a->argc; i++) json_array_append_new(words, cst_json_text(a->argv[i]));
    return words;
}

static json_t *libraries_json(void)
{
    cl_uint major = 0, minor = 0, patch = 0;
    unsigned xxh = XXH_versionNumber();
    clfftGetVersion(&major, &minor, &patch);
    return json_pack("{s:o, s:o, s:s, s:o, s:s, s:o}", "clblast",
                     json_sprintf("%d.%d.%d", CLBLAST_VERSION_MAJOR, CLBLAST_VERSION_MINOR, CLBLAST_VERSION_PATCH), "clfft",
                     json_sprintf("%u.%u.%u", major, minor, patch), "jansson", jansson_version_str(), "pcre2",
                     json_sprintf("%d.%d", PCRE2_MAJOR, PCRE2_MINOR), "libzip", zip_libzip_version(), "xxhash",
                     json_sprintf("%u.%u.%u", xxh / 10000, xxh / 100 % 100, xxh % 100));
}

static json_t *model_json(const cst_session *s)
{
    int64_t trained = 0;
    int frozen = 0;
    for (int i = 0; i < s->model->params; i++) {
        if (s->model->g[i]) trained += s->model->param[i].count;
        else frozen++;
    }
    const cst_config *c = &s->o.config;
    return json_pack("{s:I, s:I, s:i, s:i, s:I, s:I, s:I, s:I}", "parameters", (json_int_t)cst_config_parameters(c), "trained_parameters",
                     (json_int_t)trained, "tensors", s->model->params, "frozen_tensors", frozen, "layers", (json_int_t)c->num_hidden_layers,
                     "hidden_size", (json_int_t)c->hidden_size, "vocab_size", (json_int_t)c->vocab_size, "positions",
                     (json_int_t)c->max_position_embeddings);
}

cst_status cst_run_begin(json_t **out, const cst_args *a, const cst_session *s)
{
    char folder[PATH_MAX];
    cst_mem_stats stats;
    json_t *j = json_object();
    cst_status st;
    cst_mem_get_stats(s->mem, &stats);
    if (!getcwd(folder, sizeof folder)) snprintf(folder, sizeof folder, "?");
    CST_GO(set(j, "castor", json_string(PACKAGE_VERSION)), fail);
    CST_GO(set(j, "command", command_json(a)), fail);
    CST_GO(set(j, "working_folder", cst_json_text(folder)), fail);
    CST_GO(set(j, "started", time_json()), fail);
    CST_GO(set(j, "ended", json_null()), fail);
    CST_GO(set(j, "result", json_pack("{s:s}", "status", "running")), fail);
    CST_GO(set(j, "device", cst_device_json(&s->dev->info)), fail);
    CST_GO(set(j, "libraries", libraries_json()), fail);
    CST_GO(set(j, "options", cst_args_json(a)), fail);
    CST_GO(set(j, "model", model_json(s)), fail);
    CST_GO(set(j, "placement", json_string(cst_placement_name(s->placement))), fail);
    CST_GO(set(j, "planned_bytes", json_integer((json_int_t)s->planned)), fail);
    CST_GO(set(j, "budget_bytes", json_integer((json_int_t)stats.budget)), fail);
    CST_GO(set(j, "data", json_array()), fail);
    *out = j;
    return CST_OK;
fail:
    json_decref(j);
    return st;
}

static cst_status hash_file(uint64_t *hash, uint64_t *bytes, const char *path)
{
    static char part[1 << 20];
    cst_status st = CST_OK;
    XXH3_state_t *state = XXH3_createState();
    FILE *f = fopen(path, "rb");
    *bytes = 0;
    if (!f || !state || XXH3_64bits_reset(state) != XXH_OK) {
        st = f ? cst_fail(CST_NO_MEMORY, "%s", path) : cst_fail(CST_IO, "%s: %s", path, strerror(errno));
        goto out;
    }
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0; *bytes += n) XXH3_64bits_update(state, part, n);
    if (ferror(f)) st = cst_fail(CST_IO, "%s: %s", path, strerror(errno));
    *hash = XXH3_64bits_digest(state);
out:
    if (f) fclose(f);
    XXH3_freeState(state);
    return st;
}

cst_status cst_run_add_data(json_t *run, const char *role, const char *path)
{
    uint64_t hash = 0, bytes;
    CST_TRY(hash_file(&hash, &bytes, path));
    json_t *j = json_pack("{s:s, s:o, s:I, s:o}", "role", role, "path", cst_json_text(path), "bytes", (json_int_t)bytes, "xxh3",
                          json_sprintf("%016" PRIx64, hash));
    return json_array_append_new(json_object_get(run, "data"), j) ? cst_fail(CST_NO_MEMORY, "run.json") : CST_OK;
}

cst_status cst_run_save(json_t *run, cst_session *s, const char *dir, int report)
{
    cst_status st;
    CST_TRY(cst_make_dirs(dir));
    char *path = cst_path_join(dir, "run.json");
    if (!path) return cst_fail(CST_NO_MEMORY, "%s", dir);
    CST_GO(set(run, "gemm", cst_gemm_choices_json(s->dev)), out);
    CST_GO(cst_json_save(run, path), out);
    if (report) st = cst_report_write(dir);
out:
    free(path);
    return st;
}

cst_status cst_run_end(json_t *run, cst_status st, json_t *result)
{
    const char *text = st == CST_OK ? "done" : st == CST_INTERRUPTED ? "interrupted" : "failed";
    json_t *all = json_pack("{s:s}", "status", text);
    if (st != CST_OK) json_object_set_new(all, "message", cst_json_text(cst_detail()));
    if (result) json_object_update(all, result);
    json_decref(result);
    CST_TRY(set(run, "ended", time_json()));
    return set(run, "result", all);
}
