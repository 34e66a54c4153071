/* The weights of a Hugging Face folder, whatever form they have there: model.safetensors, its shards
 * (model.safetensors.index.json), pytorch_model.bin or its shards (pytorch_model.bin.index.json). The first of
 * these four that is there counts, as in transformers.
 */
#ifndef CST_IO_WEIGHTS_SOURCE_H
#define CST_IO_WEIGHTS_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "io/safetensors.h"

#define CST_WEIGHTS_SHARDS_MAX 500

/* One tensor; borrowed until the source is closed. */
typedef struct cst_weights_entry {
    const char *name;
    const char *file;  /* path, for messages */
    cst_st_dtype dtype;
    int rank;
    int64_t dims[CST_SAFETENSORS_RANK_MAX];
    size_t count;      /* elements */
    size_t part, index; /* where it is: for the source */
} cst_weights_entry;

typedef struct cst_weights_source cst_weights_source;

/* Open a folder's weights and check everything but the numbers: headers, and that index and shards agree. INPUT
 * names file and tensor, IO a file that is missing. The files must not change while they are open. The caller
 * closes *out. */
cst_status cst_weights_source_open(cst_weights_source **out, const char *dir);
/* NULL is fine. */
void cst_weights_source_close(cst_weights_source *s);
size_t cst_weights_source_count(const cst_weights_source *s);
/* i in [0, count): file by file, in the order of the data; NULL outside it. */
const cst_weights_entry *cst_weights_source_get(const cst_weights_source *s, size_t i);
/* NULL when there is no such tensor. */
const cst_weights_entry *cst_weights_source_find(const cst_weights_source *s, const char *name);
/* dst[i] = (float)e[first + i], i in [0, count). Holds no more than `count` elements of the file in memory; cheap when a
 * tensor is read from first to last. UNSUPPORTED for integers, NOT_FINITE (naming the tensor) for NaN or infinity. */
cst_status cst_weights_source_read(cst_weights_source *s, const cst_weights_entry *e, float *dst, size_t first, size_t count);

#endif
