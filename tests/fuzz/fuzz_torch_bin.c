/* Any bytes as a pytorch_model.bin and every tensor read, or refused. What doesn't begin like a zip archive is a pickle:
 * within an archive the checksum would keep changed ones away from the reader. */
#include <string.h>

#include "fuzzing.h"
#include "io/pickle.h"
#include "io/torch_bin.h"

static void read_archive(const uint8_t *data, size_t size)
{
    int fd;
    char chunk[257 * 8];
    cst_torch_bin *b;
    const char *path = fuzz_file(&fd, data, size);
    if (cst_torch_bin_open(&b, path) == CST_OK) {
        for (size_t i = 0; i < cst_torch_bin_count(b); i++) {
            const cst_torch_tensor *t = cst_torch_bin_get(b, i);
            size_t n = 0;
            for (size_t at = 0; at < t->count; at += n) {
                n = t->count - at < 257 ? t->count - at : 257;
                if (cst_torch_bin_read(b, t, chunk, at, n) != CST_OK) break; /* the checksum */
            }
        }
        cst_torch_bin_close(b);
    }
    close(fd);
}

static void read_pickle(const uint8_t *data, size_t size)
{
    cst_pickle *p;
    if (cst_pickle_read(&p, data, size, "fuzz") != CST_OK) return;
    for (size_t i = 0; i < cst_pickle_count(p); i++) {
        const cst_pickle_tensor *t = cst_pickle_get(p, i);
        if (strlen(t->name) + strlen(t->storage) > size || t->storage_count < 0 || t->offset < 0) abort();
    }
    cst_pickle_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 2 && !memcmp(data, "PK", 2)) read_archive(data, size);
    else read_pickle(data, size);
    return 0;
}
