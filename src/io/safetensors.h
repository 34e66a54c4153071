/* The safetensors file format: read by mmap, write tensor by tensor.
 *
 * A file is: u64 little-endian length of the header, the header (JSON: name -> dtype, shape, data_offsets;
 * "__metadata__" -> strings), then the data, little-endian, row-major, without gaps.
 * Source: https://github.com/huggingface/safetensors, "Format" in its README.
 */
#ifndef CST_IO_SAFETENSORS_H
#define CST_IO_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define CST_SAFETENSORS_RANK_MAX 8
/* The format's own limit on the header, in bytes. */
#define CST_SAFETENSORS_HEADER_MAX 100000000u

/* name in the file, bytes of one element */
#define CST_ST_DTYPE_LIST(X) \
    X(F64, 8)                \
    X(F32, 4)                \
    X(F16, 2)                \
    X(BF16, 2)               \
    X(I64, 8)                \
    X(I32, 4)                \
    X(I16, 2)                \
    X(I8, 1)                 \
    X(U64, 8)                \
    X(U32, 4)                \
    X(U16, 2)                \
    X(U8, 1)                 \
    X(BOOL, 1)               \
    X(F8_E5M2, 1)            \
    X(F8_E4M3, 1)            \
    X(F8_E8M0, 1)            \
    X(C64, 8)

typedef enum cst_st_dtype {
#define X(name, bytes) CST_ST_##name,
    CST_ST_DTYPE_LIST(X)
#undef X
    CST_ST_DTYPE_COUNT
} cst_st_dtype;

/* The name in the file ("BF16"); static. */
const char *cst_st_dtype_name(cst_st_dtype t);
/* Bytes of one element. */
size_t cst_st_dtype_bytes(cst_st_dtype t);
/* Can its values become f32: F64, F32, F16, BF16? */
int cst_st_dtype_is_real(cst_st_dtype t);
/* dst[i] = (float)src[i], i in [0, count), on all host threads; t is one of the real types. src may be unaligned. */
void cst_st_to_f32(float *dst, const void *src, cst_st_dtype t, size_t count);

/* ---- reading ---- */

/* One tensor of an open file; all pointers are borrowed until the file is closed. */
typedef struct cst_safetensors_view {
    const char *name;
    cst_st_dtype dtype;
    const char *dtype_name;
    int rank; /* 0: a scalar */
    int64_t dims[CST_SAFETENSORS_RANK_MAX];
    size_t count;     /* elements, the product of dims */
    const void *data; /* `bytes` bytes, row-major; may be unaligned, so read it with memcpy */
    size_t bytes;
} cst_safetensors_view;

typedef struct cst_safetensors cst_safetensors;

/* Map a file and check all of it: header, types, shapes, and that the tensors fill the data without overlap
 * or hole. CST_INPUT (naming file and tensor) when the content is wrong, CST_UNSUPPORTED for more than
 * CST_SAFETENSORS_RANK_MAX dimensions, CST_IO, CST_NO_MEMORY. The file must not shrink while it is open.
 * The caller closes *out. */
cst_status cst_safetensors_open(cst_safetensors **out, const char *path);
/* NULL is fine. */
void cst_safetensors_close(cst_safetensors *s);
size_t cst_safetensors_count(const cst_safetensors *s);
/* i in [0, count), in the order of the data; NULL outside it. */
const cst_safetensors_view *cst_safetensors_get(const cst_safetensors *s, size_t i);
/* NULL when there is no such tensor. */
const cst_safetensors_view *cst_safetensors_find(const cst_safetensors *s, const char *name);
/* Let the kernel take the pages of elements [first, first + count) back: reading a whole file through this keeps the
 * process small. The data stays valid; reading it again costs a fault. */
void cst_safetensors_forget(const cst_safetensors_view *v, size_t first, size_t count);
/* A string of "__metadata__", NULL when absent. */
const char *cst_safetensors_metadata(const cst_safetensors *s, const char *key);

/* dst[i] = (float)v[first + i], i in [0, count), from F64, F32, F16 or BF16, on all host threads.
 * CST_UNSUPPORTED for another type, CST_USAGE for a range outside the tensor. */
cst_status cst_safetensors_copy_f32(float *dst, const cst_safetensors_view *v, size_t first, size_t count);

/* ---- writing ---- */

/* create, declare every tensor, begin, put the data in the order of declaration, commit. The file has a
 * temporary name until commit. After a failure of any call but commit, call discard. */
typedef struct cst_safetensors_writer cst_safetensors_writer;

cst_status cst_safetensors_writer_create(cst_safetensors_writer **out, const char *path);
/* rank 0 is a scalar (dims may be NULL). Declare wide types first and every tensor's data is aligned.
 * CST_USAGE for a duplicate or invalid name or shape, CST_STATE after begin. */
cst_status cst_safetensors_writer_declare(cst_safetensors_writer *w, const char *name, cst_st_dtype dtype, int rank,
                                          const int64_t *dims);
/* Add a string to "__metadata__", which begins as {"format": "pt"}. */
cst_status cst_safetensors_writer_metadata(cst_safetensors_writer *w, const char *key, const char *value);
cst_status cst_safetensors_writer_begin(cst_safetensors_writer *w);
/* Append data; a tensor may come in several pieces. CST_STATE before begin or beyond what was declared. */
cst_status cst_safetensors_writer_put(cst_safetensors_writer *w, const void *data, size_t bytes);
/* Sync, rename into place, free w (on failure too: the old file is then untouched). CST_STATE when the data
 * is less than was declared. */
cst_status cst_safetensors_writer_commit(cst_safetensors_writer *w);
/* Throw away and free; NULL is fine. */
void cst_safetensors_writer_discard(cst_safetensors_writer *w);

#endif
