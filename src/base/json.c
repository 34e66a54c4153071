#include "base/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

static cst_status load(json_t **out, const char *path, json_type want, int big)
{
    char *text;
    size_t n;
    json_error_t e;
    CST_TRY(cst_file_read(&text, &n, path));
    json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    if (!j && big && json_error_code(&e) == json_error_numeric_overflow)
        j = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &e);
    free(text);
    if (!j) return cst_fail(CST_INPUT, "%s: line %d: %s", path, e.line, e.text);
    if (json_typeof(j) != want) {
        json_decref(j);
        return cst_fail(CST_INPUT, "%s: expected a JSON %s at the top", path, want == JSON_ARRAY ? "array" : "object");
    }
    *out = j;
    return CST_OK;
}

cst_status cst_json_load(json_t **out, const char *path, json_type want)
{
    return load(out, path, want, 0);
}

cst_status cst_json_load_big(json_t **out, const char *path, json_type want)
{
    return load(out, path, want, 1);
}

cst_status cst_json_save(const json_t *j, const char *path)
{
    char *text = json_dumps(j, JSON_INDENT(2)), *all = NULL;
    int n = text ? asprintf(&all, "%s\n", text) : -1;
    cst_status st = n < 0 ? cst_fail(CST_NO_MEMORY, "%s", path) : cst_file_write(path, all, (size_t)n);
    if (n >= 0) free(all);
    free(text);
    return st;
}

static const json_t *member(const json_t *obj, const char *name)
{
    const json_t *m = json_object_get(obj, name);
    return m && !json_is_null(m) ? m : NULL;
}

cst_status cst_json_int(int64_t *v, const json_t *obj, const char *name, int64_t min, int64_t max, const char *where)
{
    const json_t *m = member(obj, name);
    if (!m) return CST_OK;
    if (!json_is_integer(m)) return cst_fail(CST_INPUT, "%s: \"%s\" must be an integer", where, name);
    int64_t x = json_integer_value(m);
    if (x < min || x > max)
        return cst_fail(CST_INPUT, "%s: \"%s\" is %" PRId64 "; allowed: %" PRId64 " to %" PRId64, where, name, x, min, max);
    *v = x;
    return CST_OK;
}

cst_status cst_json_real(double *v, const json_t *obj, const char *name, const char *where)
{
    const json_t *m = member(obj, name);
    if (!m) return CST_OK;
    if (!json_is_number(m)) return cst_fail(CST_INPUT, "%s: \"%s\" must be a number", where, name);
    *v = json_number_value(m);
    return CST_OK;
}

cst_status cst_json_bool(int *v, const json_t *obj, const char *name, const char *where)
{
    const json_t *m = member(obj, name);
    if (!m) return CST_OK;
    if (!json_is_boolean(m)) return cst_fail(CST_INPUT, "%s: \"%s\" must be true or false", where, name);
    *v = json_is_true(m);
    return CST_OK;
}

cst_status cst_json_string(const char **v, const json_t *obj, const char *name, const char *where)
{
    const json_t *m = member(obj, name);
    if (!m) return CST_OK;
    if (!json_is_string(m)) return cst_fail(CST_INPUT, "%s: \"%s\" must be a string", where, name);
    *v = json_string_value(m);
    return CST_OK;
}

json_t *cst_json_text(const char *s)
{
    json_t *j = json_string(s);
    char *copy = j ? NULL : strdup(s);
    if (!copy) return j;
    for (char *p = copy; *p; p++)
        if (*p & 0x80) *p = '?';
    j = json_string(copy);
    free(copy);
    return j;
}
