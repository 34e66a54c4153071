/* What the files of this room share; not for others. */
#ifndef CST_MEMORY_INTERNAL_H
#define CST_MEMORY_INTERNAL_H

#include "memory/arena.h"
#include "memory/memory.h"

typedef struct cst_host_block {
    struct cst_host_block *next;
    void *base, *p;          /* what mmap returned; what the caller got */
    size_t mapped, bytes;
    cl_mem registered;       /* NULL where registering gains nothing */
} cst_host_block;

struct cst_mem {
    cst_device *dev;
    cst_arena arena;
    cl_mem *buffer;          /* one per slab; NULL entries while planning */
    int planning;
    cl_mem scratch;          /* for cst_mem_scratch */
    size_t scratch_bytes, guard;
    cst_tensor *first;
    cst_host_block *host;
    cst_mem_stats stats;
    int acquired;            /* tensors acquired and not yet released */
};

/* Make a device buffer of this size and materialise it. The one place that calls clCreateBuffer for device
 * memory. */
cst_status cst_mem_buffer(cst_mem *m, cl_mem *out, size_t bytes);
/* Bytes a tensor takes in the arena: its own and its guards. */
size_t cst_tensor_extent(const cst_tensor *t);
cst_status cst_guard_fill(cst_tensor *t);

#endif
