#include <stdlib.h>

#include "base/json.h"
#include "cli/cli.h"

static cst_status bad_tokens(const char *path)
{
    return cst_fail(CST_INPUT, "%s: expected a JSON array of arrays of token ids, each with 2 or more", path);
}

cst_status cst_token_rows_read(cst_token_rows *t, const char *path)
{
    json_t *j;
    cst_status st = CST_OK;
    CST_TRY(cst_json_load(&j, path, JSON_ARRAY));
    t->rows = (int64_t)json_array_size(j);
    for (int64_t r = 0; r < t->rows; r++) {
        json_t *row = json_array_get(j, (size_t)r);
        int64_t n = json_is_array(row) ? (int64_t)json_array_size(row) : 0;
        if (n < 2 || n > INT32_MAX) {
            st = bad_tokens(path);
            goto out;
        }
        if (n > t->seq) t->seq = n;
    }
    if (!t->rows) {
        st = bad_tokens(path);
        goto out;
    }
    t->ids = calloc((size_t)(t->rows * t->seq), sizeof *t->ids);
    t->length = calloc((size_t)t->rows, sizeof *t->length);
    if (!t->ids || !t->length) {
        st = cst_fail(CST_NO_MEMORY, "%s", path);
        goto out;
    }
    for (int64_t r = 0; r < t->rows; r++) {
        json_t *row = json_array_get(j, (size_t)r), *v;
        size_t i;
        t->length[r] = (int32_t)json_array_size(row);
        json_array_foreach(row, i, v) {
            json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
            if (id < 0 || id > INT32_MAX) {
                st = bad_tokens(path);
                goto out;
            }
            t->ids[r * t->seq + (int64_t)i] = (int32_t)id;
        }
    }
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
