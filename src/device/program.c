#include "device/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/log.h"
#include "device/cache.h"
#include "device/quirks.h"
#include "device/source.h"

typedef struct program {
    struct program *next;
    char *file, *options, *source;
    cl_program handle;
    int unsaved;
    cst_kernel *kernels[32];
    int nkernels;
} program;

/* A kernel under the words it was asked for with. */
typedef struct known {
    struct known *next;
    uint64_t hash;
    char *file, *name, *options;
    cst_kernel *k;
} known;

#define BUCKETS 256

struct cst_program_table {
    program *first;
    known *bucket[BUCKETS];
};

cst_status cst_program_table_create(cst_program_table **out)
{
    *out = calloc(1, sizeof **out);
    return *out ? CST_OK : cst_fail(CST_NO_MEMORY, "program table");
}

static void kernel_free(cst_kernel *k)
{
    if (!k) return;
    if (k->handle) clReleaseKernel(k->handle);
    if (k->args) free(k->arg_name[0]);
    free((char *)k->name);
    free(k);
}

static void program_free(program *p)
{
    if (!p) return;
    for (int i = 0; i < p->nkernels; i++) kernel_free(p->kernels[i]);
    if (p->handle) clReleaseProgram(p->handle);
    free(p->file);
    free(p->options);
    free(p->source);
    free(p);
}

static void known_free(known *e)
{
    free(e->file);
    free(e->name);
    free(e->options);
    free(e);
}

void cst_program_table_free(cst_program_table *t)
{
    if (!t) return;
    for (int i = 0; i < BUCKETS; i++)
        while (t->bucket[i]) {
            known *e = t->bucket[i];
            t->bucket[i] = e->next;
            known_free(e);
        }
    while (t->first) {
        program *p = t->first;
        t->first = p->next;
        program_free(p);
    }
    free(t);
}

static cst_status build_failed(cst_device *dev, const program *p, cl_int err)
{
    size_t n = 0;
    char *log = NULL;
    clGetProgramBuildInfo(p->handle, dev->info.id, CL_PROGRAM_BUILD_LOG, 0, NULL, &n);
    if (n && (log = calloc(1, n + 1)))
        clGetProgramBuildInfo(p->handle, dev->info.id, CL_PROGRAM_BUILD_LOG, n, log, NULL);
    cst_status st = cst_fail(CST_BUILD, "cl/%s.cl doesn't build on \"%s\" (error %d) with options \"%s\"; the compiler says:\n%.1200s",
                             p->file, dev->info.name, (int)err, p->options, log ? log : "(nothing)");
    free(log);
    return st;
}

static cst_status program_build(program *p, cst_device *dev)
{
    cl_int err;
    p->handle = cst_cache_load(dev, p->source, p->options);
    if (p->handle) {
        if (clBuildProgram(p->handle, 1, &dev->info.id, p->options, NULL, NULL) == CL_SUCCESS) return CST_OK;
        clReleaseProgram(p->handle); /* a binary this driver doesn't take: build anew */
        p->handle = NULL;
    }
    cst_log(CST_LOG_INFO, "building cl/%s.cl for %s (first use; kept for later runs)", p->file, dev->info.name);
    const char *text = p->source;
    p->handle = clCreateProgramWithSource(dev->context, 1, &text, NULL, &err);
    CST_TRY(cst_cl(err, "clCreateProgramWithSource"));
    err = clBuildProgram(p->handle, 1, &dev->info.id, p->options, NULL, NULL);
    if (err != CL_SUCCESS) return build_failed(dev, p, err);
    p->unsaved = 1;
    return CST_OK;
}

cst_status cst_program_options(char all[512], const cst_device *dev, const char *file, const char *options)
{
    cst_shape shape = cst_device_shape(dev, file);
    int n = snprintf(all, 512, "-DWG=%d -DVW=%d%s%s%s%s%s", shape.group, shape.vec, dev->narrow && shape.group == 1 ? " -DNARROW=1" : "",
                     dev->info.quirks & CST_QUIRK_PREFETCH && shape.group == 1 ? " -DPREFETCH=1" : "",
                     dev->info.exact_divide ? " -cl-fp32-correctly-rounded-divide-sqrt" : "", options && *options ? " " : "",
                     options ? options : "");
    return n < 0 || n >= 512 ? cst_fail(CST_STATE, "options of cl/%s.cl are too long", file) : CST_OK;
}

static cst_status program_get(program **out, cst_device *dev, const char *file, const char *options)
{
    char all[512];
    CST_TRY(cst_program_options(all, dev, file, options));
    for (program *p = dev->programs->first; p; p = p->next)
        if (!strcmp(p->file, file) && !strcmp(p->options, all)) {
            *out = p;
            return CST_OK;
        }
    program *p = calloc(1, sizeof *p);
    if (!p || !(p->file = strdup(file)) || !(p->options = strdup(all))) {
        program_free(p);
        return cst_fail(CST_NO_MEMORY, "cl/%s.cl", file);
    }
    cst_status st;
    cst_log(CST_LOG_DEBUG, "cl/%s.cl with %s", file, all);
    CST_GO(cst_source_get(&p->source, file), fail);
    CST_GO(program_build(p, dev), fail);
    p->next = dev->programs->first;
    dev->programs->first = p;
    *out = p;
    return CST_OK;
fail:
    program_free(p);
    return st;
}

static void set_positions(cst_kernel *k)
{
    cl_uint at = 0;
    for (int a = 0; a < k->args; a++) {
        k->arg_at[a] = at;
        at += k->arg_buffer[a] ? 2 : 1;
    }
}

static cst_status kernel_make(cst_kernel **out, cst_device *dev, const char *file, const char *name, const char *options)
{
    program *p;
    CST_TRY(program_get(&p, dev, file, options));
    for (int i = 0; i < p->nkernels; i++)
        if (!strcmp(p->kernels[i]->name, name)) {
            *out = p->kernels[i];
            return CST_OK;
        }
    if (p->nkernels == 32) return cst_fail(CST_STATE, "cl/%s.cl has more than 32 kernels", file);
    cst_kernel *k = calloc(1, sizeof *k);
    cl_int err;
    cst_status st;
    if (!k || !(k->name = strdup(name))) {
        free(k);
        return cst_fail(CST_NO_MEMORY, "kernel %s", name);
    }
    k->file = p->file;
    CST_GO(cst_source_arguments(k->arg_name, k->arg_buffer, &k->args, p->source, name), fail);
    set_positions(k);
    k->handle = clCreateKernel(p->handle, name, &err);
    if (err != CL_SUCCESS) {
        cst_cl(err, "clCreateKernel");
        st = cst_fail_in(CST_DEVICE, "kernel %s of cl/%s.cl", name, file);
        goto fail;
    }
    p->kernels[p->nkernels++] = k;
    *out = k;
    return CST_OK;
fail:
    kernel_free(k);
    return st;
}

static uint64_t hash_of(const char *file, const char *name, const char *options)
{
    uint64_t h = XXH3_64bits(file, strlen(file));
    h = XXH3_64bits_withSeed(name, strlen(name), h);
    return XXH3_64bits_withSeed(options, strlen(options), h);
}

cst_status cst_kernel_get(cst_kernel **out, cst_device *dev, const char *file, const char *name, const char *options)
{
    const char *o = options ? options : "";
    uint64_t hash = hash_of(file, name, o);
    known **bucket = &dev->programs->bucket[hash % BUCKETS];
    for (known *e = *bucket; e; e = e->next)
        if (e->hash == hash && !strcmp(e->name, name) && !strcmp(e->file, file) && !strcmp(e->options, o)) {
            *out = e->k;
            return CST_OK;
        }
    CST_TRY(kernel_make(out, dev, file, name, options));
    known *e = calloc(1, sizeof *e);
    if (!e || !(e->file = strdup(file)) || !(e->name = strdup(name)) || !(e->options = strdup(o))) {
        if (e) known_free(e);
        return cst_fail(CST_NO_MEMORY, "kernel %s", name);
    }
    e->hash = hash;
    e->k = *out;
    e->next = *bucket;
    *bucket = e;
    return CST_OK;
}

void cst_kernel_forget(cst_device *dev, const char *file)
{
    for (int i = 0; i < BUCKETS; i++)
        for (known **p = &dev->programs->bucket[i]; *p;) {
            known *e = *p;
            if (strcmp(e->file, file)) {
                p = &e->next;
                continue;
            }
            *p = e->next;
            known_free(e);
        }
}

void cst_program_save(cst_device *dev)
{
    for (program *p = dev->programs->first; p; p = p->next)
        if (p->unsaved) {
            cst_cache_store(dev, p->source, p->options, p->handle);
            p->unsaved = 0;
        }
}

void cst_kernel_each(cst_device *dev, void (*f)(const cst_kernel *k, void *user), void *user)
{
    for (program *p = dev->programs->first; p; p = p->next)
        for (int i = 0; i < p->nkernels; i++) f(p->kernels[i], user);
}

void cst_kernel_counts_clear(cst_device *dev)
{
    for (program *p = dev->programs->first; p; p = p->next)
        for (int i = 0; i < p->nkernels; i++) p->kernels[i]->launches = p->kernels[i]->time_ns = p->kernels[i]->longest_ns = 0;
}
