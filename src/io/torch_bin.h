/* pytorch_model.bin: the zip archive that torch.save writes since PyTorch 1.6, read without running anything.
 *
 * An archive has one folder: "<folder>/data.pkl" (a pickle, see pickle.h) describes the tensors, "<folder>/data/<key>" are
 * their storages, little-endian, stored without compression.
 * Source: PyTorch's documentation, "Serialization semantics", and its caffe2/serialize/inline_container.h.
 */
#ifndef CST_IO_TORCH_BIN_H
#define CST_IO_TORCH_BIN_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "io/safetensors.h"

typedef struct cst_torch_bin cst_torch_bin;

/* One tensor of an open archive, row by row in its storage; borrowed until the archive is closed. */
typedef struct cst_torch_tensor {
    const char *name;
    cst_st_dtype dtype;
    int rank;
    int64_t dims[CST_SAFETENSORS_RANK_MAX];
    size_t count;      /* elements */
    uint64_t member;   /* its storage in the archive */
    uint64_t offset;   /* elements before it in the storage */
    uint64_t storage;  /* elements of the storage */
} cst_torch_tensor;

/* Open an archive and check all of it but the data: members, pickle, and that every tensor lies within its storage.
 * INPUT names the file and what is wrong; UNSUPPORTED: the format before PyTorch 1.6, tensors that are not row-major.
 * The file must not change while it is open. The caller closes *out. */
cst_status cst_torch_bin_open(cst_torch_bin **out, const char *path);
/* NULL is fine. */
void cst_torch_bin_close(cst_torch_bin *b);
size_t cst_torch_bin_count(const cst_torch_bin *b);
/* i in [0, count), in the order of the pickle; NULL outside it. */
const cst_torch_tensor *cst_torch_bin_get(const cst_torch_bin *b, size_t i);
/* Elements [first, first + count) of tensor t into dst (row-major, as in the file). Cheap when called in order. A tensor
 * that is a whole storage, read from first to last, is held against the archive's checksum: INPUT names it. */
cst_status cst_torch_bin_read(cst_torch_bin *b, const cst_torch_tensor *t, void *dst, size_t first, size_t count);

#endif
