/* run.json: what a training run was, in the folder it writes to. */
#ifndef CST_CLI_RUN_FILE_H
#define CST_CLI_RUN_FILE_H

#include <jansson.h>

#include "cli/cli.h"

/* Command, versions, libraries, device, options, model, placement, time of the start, "result": {"status": "running"}. *out:
 * json_decref it. */
cst_status cst_run_begin(json_t **out, const cst_args *a, const cst_session *s);
/* One file of data to "data": {"role", "path", "bytes", "xxh3"}; reads it once. */
cst_status cst_run_add_data(json_t *run, const char *role, const char *path);
/* Write DIR/run.json, with the engines of the products computed so far (another choice would round otherwise), and, with
 * `report`, DIR/report.html from it and metrics.jsonl. */
cst_status cst_run_save(json_t *run, cst_session *s, const char *dir, int report);
/* How it ended: the status, its detail, and the figures in `result` (reference is taken). Time of the end. */
cst_status cst_run_end(json_t *run, cst_status st, json_t *result);

#endif
