#include "device/cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/log.h"
#include "device/program.h"

/* A cache file: this header, then the binary. */
typedef struct header {
    char magic[8]; /* "CSTKRN1" */
    uint64_t key[2], size, sum;
} header;

static const char magic[8] = "CSTKRN1";

static header make_header(cst_device *dev, const char *source, const char *options)
{
    const cst_device_info *d = &dev->info;
    const char *part[] = {source, options, d->platform, d->name, d->vendor, d->driver, d->version};
    header h = {{0}, {0, 0}, 0, 0};
    XXH3_state_t *s = XXH3_createState();
    if (s) {
        XXH3_128bits_reset(s);
        for (size_t i = 0; i < sizeof part / sizeof *part; i++) XXH3_128bits_update(s, part[i], strlen(part[i]) + 1);
        XXH128_hash_t k = XXH3_128bits_digest(s);
        XXH3_freeState(s);
        h.key[0] = k.low64;
        h.key[1] = k.high64;
    }
    memcpy(h.magic, magic, sizeof magic);
    return h;
}

char *cst_cache_dir(void)
{
    const char *own = getenv("CASTOR_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (own && *own) return strdup(own);
    if (xdg && *xdg == '/') return cst_path_join(xdg, "castor");
    if (home && *home) return cst_path_join(home, ".cache/castor");
    return NULL;
}

char *cst_cache_file(const char *what, const cst_device_info *d)
{
    char word[256], file[300], *dir = cst_cache_dir(), *path = NULL;
    cst_device_word(word, sizeof word, d);
    snprintf(file, sizeof file, "%s-%s.json", what, word);
    if (dir) path = cst_path_join(dir, file);
    free(dir);
    return path;
}

static char *cache_path(const header *h)
{
    char name[64], *dir = cst_cache_dir();
    if (!dir) return NULL;
    snprintf(name, sizeof name, "kernel-%016llx%016llx.bin", (unsigned long long)h->key[1], (unsigned long long)h->key[0]);
    char *path = cst_path_join(dir, name);
    free(dir);
    return path;
}

cl_program cst_cache_load(cst_device *dev, const char *source, const char *options)
{
    header want = make_header(dev, source, options), got;
    char *path = cache_path(&want), *data = NULL;
    size_t size = 0;
    cl_program p = NULL;
    if (!path || !cst_path_exists(path) || cst_file_read(&data, &size, path) != CST_OK) goto out;
    if (size <= sizeof got) goto damaged;
    memcpy(&got, data, sizeof got);
    const unsigned char *binary = (unsigned char *)data + sizeof got;
    if (memcmp(got.magic, magic, sizeof magic) || memcmp(got.key, want.key, sizeof want.key) ||
        got.size != size - sizeof got || got.sum != XXH3_64bits(binary, got.size))
        goto damaged;
    size_t n = got.size;
    cl_int status, err;
    p = clCreateProgramWithBinary(dev->context, 1, &dev->info.id, &n, &binary, &status, &err);
    if (err != CL_SUCCESS || status != CL_SUCCESS) {
        if (err == CL_SUCCESS) clReleaseProgram(p);
        p = NULL;
    }
    goto out;
damaged:
    cst_log(CST_LOG_DEBUG, "%s: damaged, building anew", path);
out:
    free(data);
    free(path);
    return p;
}

void cst_cache_store(cst_device *dev, const char *source, const char *options, cl_program p)
{
    header h = make_header(dev, source, options);
    char *path = cache_path(&h), *dir = cst_cache_dir(), *blob = NULL;
    size_t size = 0;
    if (!path || !dir || cst_make_dirs(dir) != CST_OK) goto out;
    if (clGetProgramInfo(p, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL) != CL_SUCCESS || !size) goto out;
    blob = malloc(sizeof h + size);
    if (!blob) goto out;
    unsigned char *binary = (unsigned char *)blob + sizeof h;
    if (clGetProgramInfo(p, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) != CL_SUCCESS) goto out;
    h.size = size;
    h.sum = XXH3_64bits(binary, size);
    memcpy(blob, &h, sizeof h);
    if (cst_file_write(path, blob, sizeof h + size) != CST_OK) cst_log(CST_LOG_DEBUG, "kernel cache: %s", cst_detail());
out:
    free(blob);
    free(path);
    free(dir);
}
