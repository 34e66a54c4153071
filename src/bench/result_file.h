/* Result files: what `castor bench submit` writes and `castor bench report` reads. docs/results.md tells people what is in them,
 * bench/result.schema.json programs; the tables in result_file.c are the same rules once more, and tests/check_result_schema.c
 * fails when the two differ.
 */
#ifndef CST_BENCH_RESULT_FILE_H
#define CST_BENCH_RESULT_FILE_H

#include "bench/result.h"

/* A result that was read. */
typedef struct cst_result {
    const char *file;        /* as given, borrowed */
    json_t *json;            /* all of it, checked */
    const char *name;        /* its "name", borrowed from json, as the rows' texts are */
    cst_row *row;            /* [rows] its "rows" */
    size_t rows;
    int complete;
} cst_result;

/* Read and check. INPUT names file and member: not JSON, another schema version, a member that is missing, unknown or of another type,
 * an unknown row, a training run twice, neither rows nor training. A case may come
 * twice, as one product in two lists of them does. The rows' names must be those of bench/device_rows.h.
 * r: cst_result_free, also after a failure. */
cst_status cst_result_load(cst_result *r, const char *path);
void cst_result_free(cst_result *r);
/* The check alone; `where` begins the message. */
cst_status cst_result_check(const json_t *j, const char *where);

#endif
