#include "cli/resume.h"

#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/json.h"

#define WHERE "trainer.json"

/* ---- what is kept ---- */

/* Options that decide numbers and mean the same in every run. What depends on files or on other options is added below. */
static const cst_option_id plain[] = {CST_OPTION_BATCH, CST_OPTION_ACCUM, CST_OPTION_LR, CST_OPTION_SCHEDULE, CST_OPTION_WEIGHT_DECAY,
                                      CST_OPTION_BETA1, CST_OPTION_BETA2, CST_OPTION_EPS, CST_OPTION_CLIP, CST_OPTION_SEED,
                                      CST_OPTION_NO_SHUFFLE, CST_OPTION_GEMM, CST_OPTION_FREEZE, CST_OPTION_MASK_BEFORE};

/* Options that are of one start of the program, not of the run; the model and the tokenizer are in the checkpoint. */
static const cst_option_id passing[] = {CST_OPTION_MODEL, CST_OPTION_CONFIG, CST_OPTION_TOKENIZER, CST_OPTION_OUT, CST_OPTION_RESUME,
                                         CST_OPTION_INIT_FROM,
                                        CST_OPTION_STOP_AFTER, CST_OPTION_HOST_THREADS, CST_OPTION_JSON, CST_OPTION_QUIET,
                                        CST_OPTION_VERBOSE, CST_OPTION_HELP};

static const cst_option_id files[] = {CST_OPTION_DATA, CST_OPTION_TRAIN, CST_OPTION_VALID, CST_OPTION_TEST, CST_OPTION_TOKENS_FILE};

#define HAS(list, id) has(list, sizeof list / sizeof *list, id)

static int has(const cst_option_id *list, size_t n, cst_option_id id)
{
    for (size_t i = 0; i < n; i++)
        if (list[i] == id) return 1;
    return 0;
}

static json_t *hash_json(uint64_t hash)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, hash);
    return json_string(text);
}

static json_t *text_json(cst_run_text t)
{
    if (!t.ids) return json_null();
    return json_pack("{s:I, s:o}", "tokens", (json_int_t)t.count, "xxh3", hash_json(XXH3_64bits(t.ids, t.count * sizeof *t.ids)));
}

static json_t *option_json(const cst_args *a, cst_option_id id)
{
    switch (cst_option_kind_of(id)) {
    case CST_OPT_FLAG: return json_boolean(cst_args_flag(a, id));
    case CST_OPT_INT: return json_integer(cst_args_int(a, id));
    case CST_OPT_REAL: return json_real(cst_args_real(a, id));
    default: return json_string(a->text[id] ? a->text[id] : "");
    }
}

json_t *cst_run_settings(const cst_args *a, const cst_session_options *o, const cst_schedule *s, const cst_tokenizer *tok,
                         cst_run_text train, cst_run_text valid)
{
    json_t *j = json_pack("{s:o, s:I, s:I, s:I, s:f, s:o, s:o, s:o}", "config", cst_config_json(&o->config), "seq", (json_int_t)o->seq,
                          "steps", (json_int_t)s->steps, "warmup", (json_int_t)s->warmup, "dropout", o->dropout, "tokenizer",
                          tok ? hash_json(cst_tokenizer_hash(tok)) : json_null(), "train", text_json(train), "valid", text_json(valid));
    int bad = !j;
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        bad |= json_object_set_new(j, cst_option_name(plain[i]), option_json(a, plain[i])) != 0;
    if (!bad) return j;
    json_decref(j);
    return NULL;
}

/* Files by a path that holds from everywhere. */
static json_t *kept_option(const cst_args *a, cst_option_id id)
{
    char *path = HAS(files, id) ? realpath(a->text[id], NULL) : NULL;
    json_t *j = json_string(path ? path : a->text[id]);
    free(path);
    return j;
}

json_t *cst_run_about(const cst_args *a, const json_t *settings, const cst_tokenizer *tok)
{
    const char *spec = a->text[CST_OPTION_TOKENIZER];
    json_t *options = json_object();
    int bad = !options;
    for (int id = 0; id < CST_OPTION_COUNT; id++)
        if (a->text[id] && cst_option_in(id, a->command) && !HAS(passing, (cst_option_id)id))
            bad |= json_object_set_new(options, cst_option_name(id), kept_option(a, id)) != 0;
    /* "." is the checkpoint's own folder. */
    int bytes = spec ? !strcmp(spec, "bytes") : !a->text[CST_OPTION_MODEL];
    if (tok) bad |= json_object_set_new(options, cst_option_name(CST_OPTION_TOKENIZER), json_string(bytes ? "bytes" : ".")) != 0;
    if (!bad) return json_pack("{s:O, s:o}", "settings", settings, "options", options);
    json_decref(options);
    return NULL;
}

/* ---- going on ---- */

int cst_same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* An option of the command line that another one stands for. */
static int replaced(const cst_args *a, cst_option_id id)
{
    int data = a->given[CST_OPTION_DATA], train = a->given[CST_OPTION_TRAIN], tokens = a->given[CST_OPTION_TOKENS_FILE];
    switch (id) {
    case CST_OPTION_STEPS: return a->given[CST_OPTION_EPOCHS];
    case CST_OPTION_EPOCHS: return a->given[CST_OPTION_STEPS];
    case CST_OPTION_DATA: return tokens;
    case CST_OPTION_TRAIN: return data || tokens;
    case CST_OPTION_VALID:
    case CST_OPTION_TEST: return data;
    case CST_OPTION_TOKENS_FILE: return data || train;
    default: return 0;
    }
}

static cst_status restore(cst_args *a, const json_t *options, const char *dir)
{
    for (int id = 0; id < CST_OPTION_COUNT; id++) {
        const char *text = NULL;
        int env = id == CST_OPTION_DEVICE && a->text[id];
        if (!cst_option_in(id, a->command) || a->given[id] || env || replaced(a, (cst_option_id)id)) continue;
        CST_TRY(cst_json_string(&text, options, cst_option_name(id), WHERE));
        if (text && id == CST_OPTION_TOKENIZER && !strcmp(text, ".")) text = dir;
        if (text) CST_TRY(cst_args_set(a, (cst_option_id)id, text));
    }
    if (!a->given[CST_OPTION_MODEL] && !a->given[CST_OPTION_CONFIG]) return cst_args_set(a, CST_OPTION_MODEL, dir);
    return CST_OK;
}

/* The run's folder: `path`, or where a checkpoint that was named itself is. */
static cst_status find_run(char **run_dir, const cst_checkpoint *c, const char *path, int out_given)
{
    if (!cst_same_folder(c->dir, path)) {
        *run_dir = strdup(path);
        return *run_dir ? CST_OK : cst_fail(CST_NO_MEMORY, "%s", path);
    }
    char *real = realpath(path, NULL);
    if (!real) return cst_fail(CST_NO_MEMORY, "%s", path);
    char *slash = strrchr(real, '/');
    cst_status st = CST_OK;
    if (strncmp(slash + 1, "checkpoint-", 11) && !out_given)
        st = cst_fail(CST_USAGE, "--resume %s: this checkpoint isn't in its run's folder any more; --out is wanted", path);
    *slash = 0;
    *run_dir = real;
    return st;
}

cst_status cst_resume_open(cst_checkpoint *c, char **run_dir, cst_args *a)
{
    const char *path = a->text[CST_OPTION_RESUME];
    CST_TRY(cst_checkpoint_read(c, path));
    const json_t *options = json_object_get(c->about, "options");
    if (!json_is_object(options)) return cst_fail(CST_INPUT, "%s/" WHERE ": \"about\" has no \"options\"", c->dir);
    CST_TRY(find_run(run_dir, c, path, a->given[CST_OPTION_OUT]));
    cst_status st = restore(a, options, c->dir);
    if (st != CST_OK) return cst_fail_in(CST_INPUT, "%s/" WHERE, c->dir);
    return a->text[CST_OPTION_OUT] ? CST_OK : cst_args_set(a, CST_OPTION_OUT, *run_dir);
}

/* Append "name NEW (was OLD)" for every member that differs. A null on either side is no claim: a text may be left out. */
static void differences(char *out, size_t size, const json_t *now, const json_t *was, const char *prefix)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)now, key, value)
    {
        char name[128];
        const json_t *old = json_object_get(was, key);
        snprintf(name, sizeof name, "%s%s", prefix, key);
        if (json_is_object(value) && json_is_object(old)) {
            strncat(name, ".", sizeof name - strlen(name) - 1);
            differences(out, size, value, old, name);
        } else if (old && !json_is_null(value) && !json_is_null(old) && !json_equal(value, old)) {
            size_t at = strlen(out), flags = JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9);
            char *a = json_dumps(value, flags), *b = json_dumps(old, flags);
            if (a && b) snprintf(out + at, size - at, "%s%s %s (was %s)", at ? ", " : "", name, a, b);
            free(a);
            free(b);
        }
    }
}

cst_status cst_resume_check(const cst_checkpoint *c, const json_t *settings)
{
    char list[1500] = "";
    const json_t *was = json_object_get(c->about, "settings");
    if (!json_is_object(was)) return cst_fail(CST_INPUT, "%s/" WHERE ": \"about\" has no \"settings\"", c->dir);
    differences(list, sizeof list, settings, was, "");
    return *list ? cst_fail(CST_USAGE, "a resumed run goes on as it began, but these settings differ: %s", list) : CST_OK;
}
