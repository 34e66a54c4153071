#include "bench/result.h"

#include <stdlib.h>

cst_status cst_rows_add(cst_rows *rows, const cst_row *row)
{
    if (rows->n == rows->room) {
        size_t room = rows->room ? 2 * rows->room : 64;
        cst_row *list = realloc(rows->list, room * sizeof *list);
        if (!list) return cst_fail(CST_NO_MEMORY, "rows of measurements");
        rows->list = list;
        rows->room = room;
    }
    rows->list[rows->n++] = *row;
    return CST_OK;
}

void cst_rows_free(cst_rows *rows)
{
    free(rows->list);
    *rows = (cst_rows){NULL, 0, 0};
}

json_t *cst_row_json(const cst_row *r)
{
    json_t *j = json_pack("{s:s, s:s}", "row", r->row, "case", r->what);
    if (r->missing[0]) {
        json_object_set_new(j, "missing", json_string(r->missing));
        return j;
    }
    json_object_update_new(j, json_pack("{s:s, s:f, s:f, s:f}", "unit", r->unit, "value", r->value, "spread", r->spread, "seconds", r->seconds));
    if (r->less) json_object_set_new(j, "less", json_true());
    if (r->ceiling > 0) json_object_update_new(j, json_pack("{s:f, s:s}", "ceiling", r->ceiling, "ceiling_of", r->ceiling_of));
    if (r->error >= 0) json_object_update_new(j, json_pack("{s:f, s:f}", "error", r->error, "limit", r->limit));
    return j;
}
