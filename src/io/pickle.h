/* A restricted reader of Python pickles: it understands a dictionary of PyTorch tensors and nothing else.
 *
 * A pickle is a program for a stack machine that may name any function and call it. This reader knows the opcodes
 * and the few names that PyTorch's torch.save writes for a state_dict (see pickle.c); whatever else it meets is an
 * error that names it. Nothing is ever looked up or called.
 *
 * Sources: https://docs.python.org/3/library/pickletools.html (opcodes); what torch.save and torch._utils write.
 */
#ifndef CST_IO_PICKLE_H
#define CST_IO_PICKLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "io/safetensors.h"

/* Limits: bytes of a pickle, bytes of all that is built from it. A state_dict of 1,000 tensors takes 100 KB. */
#define CST_PICKLE_SIZE_MAX (16u << 20)
#define CST_PICKLE_MEMORY_MAX (256u << 20)

/* One tensor as the pickle describes it; nothing of it has been compared with any data. Strings are borrowed. */
typedef struct cst_pickle_tensor {
    const char *name;         /* its key in the dictionary */
    const char *storage;      /* key of the storage it is a view of */
    cst_st_dtype dtype;
    int64_t storage_count;    /* elements of the storage, >= 0 */
    int64_t offset;           /* of the first element in the storage, >= 0 */
    int rank;
    int64_t dims[CST_SAFETENSORS_RANK_MAX];    /* >= 0 */
    int64_t strides[CST_SAFETENSORS_RANK_MAX]; /* in elements, >= 0 */
} cst_pickle_tensor;

typedef struct cst_pickle cst_pickle;

/* Read a pickle of protocol 2 to 5; `where` starts every message. INPUT for anything but {name: tensor}.
 * The caller frees *out. */
cst_status cst_pickle_read(cst_pickle **out, const void *data, size_t size, const char *where);
/* NULL is fine. */
void cst_pickle_free(cst_pickle *p);
size_t cst_pickle_count(const cst_pickle *p);
/* i in [0, count), in the order of the dictionary; borrowed. */
const cst_pickle_tensor *cst_pickle_get(const cst_pickle *p, size_t i);

#endif
