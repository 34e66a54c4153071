/* Whole files: read, and write so that nothing is lost (temporary name, sync, rename). */
#ifndef CST_BASE_FILE_H
#define CST_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Read a whole file; *data is malloc'd with a 0 byte after its end, the caller frees it. */
cst_status cst_file_read(char **data, size_t *size, const char *path);

/* A file being written under a temporary name beside its final one. */
typedef struct cst_file cst_file;
cst_status cst_file_create(cst_file **out, const char *path);
cst_status cst_file_put(cst_file *f, const void *data, size_t size);
/* Flush, sync, rename into place, sync the folder, free f. On failure the old file is untouched. */
cst_status cst_file_commit(cst_file *f);
/* Throw the temporary away and free f; NULL is fine. */
void cst_file_discard(cst_file *f);

/* create + put + commit in one call. */
cst_status cst_file_write(const char *path, const void *data, size_t size);
/* Make a folder and its parents; an existing folder is fine. */
cst_status cst_make_dirs(const char *path);
/* "a" + "/" + "b", malloc'd; NULL when out of memory. */
char *cst_path_join(const char *a, const char *b);
int cst_path_exists(const char *path);

#endif
