/* The text of the kernels in cl/, embedded in the library. */
#ifndef CST_DEVICE_SOURCE_H
#define CST_DEVICE_SOURCE_H

#include "base/status.h"

/* One embedded file; the table ends with a NULL name. Generated from cl/ when the library is built. */
typedef struct cst_embedded {
    const char *name; /* "layer_norm.cl" */
    const char *text;
} cst_embedded;
extern const cst_embedded cst_embedded_files[];

/* Source of cl/<name>.cl with every `#include "x.clh"` replaced by that file's text. *text is malloc'd.
 * With the environment variable CASTOR_CL_DIR set, files are read from that folder instead (development). */
cst_status cst_source_get(char **text, const char *name);

/* Formal arguments of kernel `kernel` in `source`, in order: names[i], and is_buffer[i] != 0 where the
 * argument is written IN(type, name), OUT(type, name) or IO(type, name) (see cl/common.clh), which stands
 * for two OpenCL arguments: the memory object and an offset in elements. A macro may stand for several arguments
 * when its name is all that is written there and its #define is in `source`. The names are malloc'd: free
 * names[0] only. At most 32 arguments. */
cst_status cst_source_arguments(char *names[32], int is_buffer[32], int *n, const char *source, const char *kernel);

#endif
