#include "text/token_rows.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/json.h"

#define WANTED "a JSON array of arrays of token ids, each with 2 or more, is wanted"

/* Count rows and the longest one's tokens. */
static cst_status measure(cst_token_rows *t, const json_t *j, const char *path)
{
    t->rows = (int64_t)json_array_size(j);
    if (!t->rows) return cst_fail(CST_INPUT, "%s: it is empty; " WANTED, path);
    for (int64_t r = 0; r < t->rows; r++) {
        const json_t *row = json_array_get(j, (size_t)r);
        if (!json_is_array(row)) return cst_fail(CST_INPUT, "%s: element %" PRId64 " is not an array; " WANTED, path, r);
        int64_t n = (int64_t)json_array_size(row);
        if (n < 2 || n > INT32_MAX) return cst_fail(CST_INPUT, "%s: array %" PRId64 " has %" PRId64 " ids; " WANTED, path, r, n);
        if (n > t->seq) t->seq = n;
    }
    return CST_OK;
}

static cst_status fill(cst_token_rows *t, const json_t *j, const char *path)
{
    for (int64_t r = 0; r < t->rows; r++) {
        const json_t *row = json_array_get(j, (size_t)r), *v;
        size_t i;
        t->length[r] = (int32_t)json_array_size(row);
        json_array_foreach(row, i, v) {
            json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
            if (id < 0 || id > INT32_MAX)
                return cst_fail(CST_INPUT, "%s: array %" PRId64 ", place %zu: no id from 0 to %d; " WANTED, path, r, i, INT32_MAX);
            t->ids[r * t->seq + (int64_t)i] = (int32_t)id;
        }
    }
    return CST_OK;
}

cst_status cst_token_rows_read(cst_token_rows *t, const char *path)
{
    json_t *j;
    cst_status st;
    CST_TRY(cst_json_load(&j, path, JSON_ARRAY));
    CST_GO(measure(t, j, path), out);
    t->ids = calloc((size_t)t->rows, (size_t)t->seq * sizeof *t->ids);
    t->length = calloc((size_t)t->rows, sizeof *t->length);
    if (!t->ids || !t->length) {
        st = cst_fail(CST_NO_MEMORY, "%s: %" PRId64 " arrays of up to %" PRId64 " ids", path, t->rows, t->seq);
        goto out;
    }
    st = fill(t, j, path);
out:
    json_decref(j);
    return st;
}

void cst_token_rows_free(cst_token_rows *t)
{
    free(t->ids);
    free(t->length);
    *t = (cst_token_rows){0, 0, NULL, NULL};
}
