#include "bench/result_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bench/device_rows.h"
#include "bench/submit_run.h"

/* ---- what is in a result: one table an object ---- */

typedef enum kind {
    TEXT,    /* a string */
    NAME,    /* one that isn't empty */
    DAY,     /* "2026-11-24" */
    WHOLE,   /* a whole number of `least` or more */
    NUMBER,  /* a number of 0 or more */
    MEASURE, /* the same, or null: it wasn't finite */
    FLAG,    /* true or false */
    TRUTH,   /* true */
    WORD,    /* one of `words` */
    WORDS,   /* a list of strings */
    NUMBERS, /* a list of MEASUREs */
    ROW,     /* the name of a row */
    RUN,     /* the name of a training run */
    OBJECT,  /* one of `shape` */
    LIST     /* of objects of `shape` */
} kind;

struct shape;
typedef const struct shape *shape_of(const json_t *j); /* which shape an object of a list has */

typedef struct member {
    const char *name;
    kind kind;
    int optional;
    int64_t least;           /* of WHOLE; longest TEXT, where not 0 */
    const char *words;       /* of WORD, with | */
    const struct shape *shape;
    shape_of *shape_by;
} member;

typedef struct shape {
    const char *what;
    const member *member;
    int n;
} shape;

#define MUST(name_, kind_, ...) {.name = name_, .kind = kind_, ##__VA_ARGS__}
#define MAY(name_, kind_, ...) {.name = name_, .kind = kind_, .optional = 1, ##__VA_ARGS__}
#define SHAPE(what, list) {what, list, (int)(sizeof list / sizeof *list)}

static const member device_members[] = {
    MUST("platform", TEXT),       MAY("platform_version", TEXT),
    MUST("name", TEXT),           MUST("vendor", TEXT),
    MUST("driver", TEXT),         MUST("version", TEXT),
    MUST("opencl_c", TEXT),       MUST("type", WORD, .words = "GPU|CPU|accelerator|other"),
    MUST("memory_bytes", WHOLE),  MUST("max_alloc_bytes", WHOLE),
    MUST("local_bytes", WHOLE),   MUST("cache_bytes", WHOLE),
    MUST("compute_units", WHOLE), MUST("clock_mhz", WHOLE),
    MUST("max_group", WHOLE),     MUST("fp16", FLAG),
    MUST("fp64", FLAG),           MUST("exact_divide", FLAG),
    MUST("unified_memory", FLAG), MAY("icd_suffix", TEXT),
    MAY("quirks", WORDS),         MAY("short_kernels", FLAG),
    MUST("extensions", WORDS),
};
static const member environment_members[] = {
    MUST("os", TEXT),         MUST("kernel", TEXT), MUST("machine", TEXT), MUST("cpu", TEXT), MUST("cores", WHOLE, .least = 1),
    MUST("ram_bytes", WHOLE), MAY("loader", TEXT),
};
static const member row_members[] = {
    MUST("row", ROW),
    MUST("case", TEXT, .least = 63),
    MUST("unit", WORD, .words = "GFLOP/s|GB/s|us|ms|MiB|%"),
    MUST("value", NUMBER),
    MUST("spread", NUMBER),
    MUST("seconds", NUMBER),
    MAY("less", TRUTH),
    MAY("ceiling", NUMBER),
    MAY("ceiling_of", TEXT),
    MAY("error", NUMBER),
    MAY("limit", NUMBER),
};
static const member missing_row_members[] = {MUST("row", ROW), MUST("case", TEXT, .least = 63), MUST("missing", TEXT, .least = 159)};
static const member run_members[] = {
    MUST("run", RUN),
    MUST("batch", WHOLE, .least = 1),
    MUST("seq", WHOLE, .least = 1),
    MUST("steps", WHOLE, .least = 1),
    MUST("placement", WORD, .words = "auto|resident|static"),
    MUST("first_step_ms", NUMBER),
    MUST("step_ms", NUMBER),
    MUST("spread", NUMBER),
    MUST("tokens_per_s", NUMBER),
    MUST("device_peak_bytes", WHOLE),
    MUST("losses", NUMBERS),
    MUST("difference", MEASURE),
    MUST("tolerance", NUMBER),
    MUST("verdict", WORD, .words = "as expected|differs"),
};
static const member missing_run_members[] = {MUST("run", RUN), MUST("missing", TEXT)};

static const shape device_shape = SHAPE("device", device_members), environment_shape = SHAPE("environment", environment_members),
                   row_shape = SHAPE("row", row_members), missing_row_shape = SHAPE("missing row", missing_row_members),
                   run_shape = SHAPE("run", run_members), missing_run_shape = SHAPE("missing run", missing_run_members);

static const shape *row_by(const json_t *j)
{
    return json_object_get(j, "missing") ? &missing_row_shape : &row_shape;
}

static const shape *run_by(const json_t *j)
{
    return json_object_get(j, "missing") ? &missing_run_shape : &run_shape;
}

static const member result_members[] = {
    MUST("schema", WHOLE, .least = CST_RESULT_SCHEMA),
    MUST("castor", TEXT),
    MUST("name", NAME, .least = 63),
    MUST("date", DAY),
    MUST("complete", FLAG),
    MAY("stopped", TEXT),
    MUST("quick", FLAG),
    MUST("device", OBJECT, .shape = &device_shape),
    MUST("environment", OBJECT, .shape = &environment_shape),
    MUST("rows", LIST, .shape_by = row_by),
    MUST("training", LIST, .shape_by = run_by),
};
static const shape result_shape = SHAPE("result", result_members);

/* ---- values ---- */

static int is_day(const json_t *v)
{
    const char *s = json_string_value(v), *form = "0000-00-00";
    if (!s || strlen(s) != strlen(form)) return 0;
    for (int i = 0; form[i]; i++)
        if (form[i] == '-' ? s[i] != '-' : s[i] < '0' || s[i] > '9') return 0;
    return 1;
}

static int is_word(const json_t *v, const char *words)
{
    const char *s = json_string_value(v);
    for (size_t n; s && *words; words += n + (words[n] == '|')) {
        n = strcspn(words, "|");
        if (strlen(s) == n && !strncmp(s, words, n)) return 1;
    }
    return 0;
}

static int is_number(const json_t *v)
{
    return json_is_number(v) && json_number_value(v) >= 0;
}

static int is_row(const char *name)
{
    const cst_bench_device_name *list;
    int n = cst_bench_device_names(&list);
    for (int i = 0; i < n; i++)
        if (name && !strcmp(name, list[i].name)) return 1;
    return 0;
}

static cst_status wrong(const char *where, const char *name, const char *wanted)
{
    return cst_fail(CST_INPUT, "%s: \"%s\": %s is wanted", where, name, wanted);
}

static cst_status unknown_row(const char *where, const char *name)
{
    char known[512] = "";
    const cst_bench_device_name *list;
    int n = cst_bench_device_names(&list);
    for (int i = 0; i < n; i++) snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", list[i].name);
    return cst_fail(CST_INPUT, "%s: \"row\": there is no row \"%s\"; those that there are: %s", where, name ? name : "?", known);
}

static cst_status check_list(const json_t *v, const member *m, const char *where)
{
    const json_t *e;
    size_t i;
    if (!json_is_array(v)) return wrong(where, m->name, "a list");
    json_array_foreach((json_t *)v, i, e) {
        if (m->kind == WORDS && !json_is_string(e)) return wrong(where, m->name, "a list of strings");
        if (m->kind == NUMBERS && !json_is_null(e) && !is_number(e))
            return wrong(where, m->name, "a list of numbers of 0 or more, or null,");
    }
    return CST_OK;
}

static cst_status check_text(const json_t *v, const member *m, const char *where)
{
    char wanted[64];
    size_t n = 0;
    for (const char *p = json_string_value(v); p && *p; p++) n += (*p & 0xc0) != 0x80; /* characters, of at most four bytes */
    if (json_is_string(v) && (n || m->kind == TEXT) && (!m->least || n <= (size_t)m->least)) return CST_OK;
    if (!m->least) return wrong(where, m->name, "a text");
    snprintf(wanted, sizeof wanted, m->kind == NAME ? "a text of 1 to %d characters" : "a text of at most %d characters", (int)m->least);
    return wrong(where, m->name, wanted);
}

static cst_status check_whole(const json_t *v, const member *m, const char *where)
{
    char wanted[64];
    if (json_is_number(v) && json_number_value(v) >= (double)m->least && json_number_value(v) == floor(json_number_value(v))) return CST_OK;
    snprintf(wanted, sizeof wanted, "a whole number of %d or more", (int)m->least);
    return wrong(where, m->name, wanted);
}

static cst_status check_shape(const json_t *j, const shape *s, const char *where);

static cst_status check_objects(const json_t *v, const member *m, const char *where)
{
    char place[512];
    const json_t *e;
    size_t i;
    if (!json_is_array(v)) return wrong(where, m->name, "a list");
    json_array_foreach((json_t *)v, i, e) {
        snprintf(place, sizeof place, "%s: %s[%zu]", where, m->name, i);
        CST_TRY(check_shape(e, m->shape_by(e), place));
    }
    return CST_OK;
}

static cst_status check_member(const json_t *v, const member *m, const char *where)
{
    char place[512];
    const char *s = json_string_value(v);
    switch (m->kind) {
    case TEXT:
    case NAME: return check_text(v, m, where);
    case DAY: return is_day(v) ? CST_OK : wrong(where, m->name, "a day as 2026-11-24");
    case WHOLE: return check_whole(v, m, where);
    case NUMBER: return is_number(v) ? CST_OK : wrong(where, m->name, "a number of 0 or more");
    case MEASURE: return is_number(v) || json_is_null(v) ? CST_OK : wrong(where, m->name, "a number of 0 or more, or null,");
    case FLAG: return json_is_boolean(v) ? CST_OK : wrong(where, m->name, "true or false");
    case TRUTH: return json_is_true(v) ? CST_OK : wrong(where, m->name, "true (or no such member)");
    case WORD: return is_word(v, m->words) ? CST_OK : wrong(where, m->name, m->words);
    case WORDS:
    case NUMBERS: return check_list(v, m, where);
    case ROW: return is_row(s) ? CST_OK : unknown_row(where, s);
    case RUN:
        return s && cst_run_case_find(s) ? CST_OK : cst_fail(CST_INPUT, "%s: \"run\": there is no training run \"%s\"", where, s ? s : "?");
    case OBJECT: snprintf(place, sizeof place, "%s: %s", where, m->name); return check_shape(v, m->shape, place);
    case LIST: return check_objects(v, m, where);
    }
    return CST_OK;
}

static cst_status check_shape(const json_t *j, const shape *s, const char *where)
{
    const char *key;
    json_t *v;
    if (!json_is_object(j)) return cst_fail(CST_INPUT, "%s: a JSON object is wanted", where);
    for (int i = 0; i < s->n; i++) {
        const json_t *x = json_object_get(j, s->member[i].name);
        if (x) CST_TRY(check_member(x, &s->member[i], where));
        else if (!s->member[i].optional) return cst_fail(CST_INPUT, "%s: \"%s\" is missing", where, s->member[i].name);
    }
    json_object_foreach((json_t *)j, key, v) {
        int i = 0;
        while (i < s->n && strcmp(s->member[i].name, key)) i++;
        if (i == s->n) return cst_fail(CST_INPUT, "%s: \"%s\" is no member of a %s", where, key, s->what);
    }
    return CST_OK;
}

/* ---- */

/* Another version may have anything in it, so this comes before all else. */
static cst_status check_version(const json_t *j, const char *where)
{
    const json_t *v = json_object_get(j, "schema");
    const char *by = json_string_value(json_object_get(j, "castor"));
    if (!json_is_integer(v))
        return cst_fail(CST_INPUT, "%s: \"schema\" is no whole number: is this a result of castor bench submit?", where);
    if (json_integer_value(v) == CST_RESULT_SCHEMA) return CST_OK;
    return cst_fail(CST_INPUT, "%s: \"schema\" is %lld%s%s; this castor (%s) reads %d", where, (long long)json_integer_value(v),
                    by ? ", written by castor " : "", by ? by : "", PACKAGE_VERSION, CST_RESULT_SCHEMA);
}

cst_status cst_result_check(const json_t *j, const char *where)
{
    if (!json_is_object(j)) return cst_fail(CST_INPUT, "%s: a JSON object is wanted", where);
    CST_TRY(check_version(j, where));
    return check_shape(j, &result_shape, where);
}

static const char *text_of(const json_t *j, const char *name)
{
    return json_string_value(json_object_get(j, name));
}

/* Absent: 0, what cst_row calls unknown, or -1 for the error. */
static double number_of(const json_t *j, const char *name)
{
    const json_t *v = json_object_get(j, name);
    return v ? json_number_value(v) : strcmp(name, "error") ? 0 : -1;
}

static cst_row row_of(const json_t *j)
{
    const char *of = text_of(j, "ceiling_of");
    cst_row r = {.row = text_of(j, "row"), .unit = text_of(j, "unit"), .less = json_is_true(json_object_get(j, "less")),
                 .value = number_of(j, "value"), .spread = number_of(j, "spread"), .seconds = number_of(j, "seconds"),
                 .ceiling = number_of(j, "ceiling"), .ceiling_of = of ? of : "", .error = number_of(j, "error"),
                 .limit = number_of(j, "limit")};
    const char *missing = text_of(j, "missing");
    snprintf(r.what, sizeof r.what, "%s", text_of(j, "case"));
    snprintf(r.missing, sizeof r.missing, "%s", missing ? missing : "");
    return r;
}

static cst_status read_rows(cst_result *r)
{
    const json_t *list = json_object_get(r->json, "rows");
    r->row = calloc(json_array_size(list) + 1, sizeof *r->row);
    if (!r->row) return cst_fail(CST_NO_MEMORY, "%s", r->file);
    for (size_t i = 0; i < json_array_size(list); i++) {
        r->row[r->rows++] = row_of(json_array_get(list, i));
    }
    return CST_OK;
}

static cst_status runs_once(const cst_result *r)
{
    const json_t *list = json_object_get(r->json, "training");
    for (size_t i = 0; i < json_array_size(list); i++)
        for (size_t k = 0; k < i; k++)
            if (!strcmp(text_of(json_array_get(list, i), "run"), text_of(json_array_get(list, k), "run")))
                return cst_fail(CST_INPUT, "%s: training[%zu] is training[%zu] once more", r->file, i, k);
    return CST_OK;
}

cst_status cst_result_load(cst_result *r, const char *path)
{
    *r = (cst_result){.file = path};
    CST_TRY(cst_json_load(&r->json, path, JSON_OBJECT));
    CST_TRY(cst_result_check(r->json, path));
    r->name = text_of(r->json, "name");
    r->complete = json_is_true(json_object_get(r->json, "complete"));
    if (!json_array_size(json_object_get(r->json, "rows")) && !json_array_size(json_object_get(r->json, "training")))
        return cst_fail(CST_INPUT, "%s: nothing was measured: \"rows\" and \"training\" are empty", path);
    CST_TRY(runs_once(r));
    return read_rows(r);
}

void cst_result_free(cst_result *r)
{
    json_decref(r->json);
    free(r->row);
    *r = (cst_result){NULL};
}
