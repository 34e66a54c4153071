/* Any bytes as a safetensors file: opened and every tensor read, or refused. */
#include "fuzzing.h"
#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd;
    float chunk[257];
    cst_safetensors *s;
    const char *path = fuzz_file(&fd, data, size);
    if (cst_safetensors_open(&s, path) == CST_OK) {
        for (size_t i = 0; i < cst_safetensors_count(s); i++) {
            const cst_safetensors_view *v = cst_safetensors_get(s, i);
            if (cst_safetensors_find(s, v->name) != v) abort();
            for (size_t at = 0; at < v->count && cst_st_dtype_is_real(v->dtype); at += 257) {
                size_t n = v->count - at < 257 ? v->count - at : 257;
                if (cst_safetensors_copy_f32(chunk, v, at, n) != CST_OK) abort();
                cst_safetensors_forget(v, at, n);
            }
        }
        cst_safetensors_close(s);
    }
    close(fd);
    return 0;
}
