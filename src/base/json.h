/* Small helpers over jansson that turn a wrong JSON file into a clear message. */
#ifndef CST_BASE_JSON_H
#define CST_BASE_JSON_H

#include <jansson.h>
#include <stdint.h>

#include "base/status.h"

/* Parse a file; the top level must be of type `want` (JSON_OBJECT or JSON_ARRAY). *out: json_decref it. */
cst_status cst_json_load(json_t **out, const char *path, json_type want);
/* The same; a file with a whole number beyond 64 bits is no error, but all of its numbers are reals then. */
cst_status cst_json_load_big(json_t **out, const char *path, json_type want);
/* Write with indent 2 and a final newline, atomically. */
cst_status cst_json_save(const json_t *j, const char *path);

/* A string from any bytes (paths, command lines): those that aren't UTF-8 become "?". New reference; NULL when out of memory. */
json_t *cst_json_text(const char *s);

/* Members with defaults. An absent (or null) member leaves *v as it is; a wrong type or range is an error
 * that names `where` (usually the file) and the member. */
cst_status cst_json_int(int64_t *v, const json_t *obj, const char *name, int64_t min, int64_t max, const char *where);
cst_status cst_json_real(double *v, const json_t *obj, const char *name, const char *where);
cst_status cst_json_bool(int *v, const json_t *obj, const char *name, const char *where);
/* *v is borrowed from obj. */
cst_status cst_json_string(const char **v, const json_t *obj, const char *name, const char *where);

#endif
