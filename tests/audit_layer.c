/* Audit layer: counts from outside what a program and its libraries do with OpenCL. The ICD loader puts it
 * between the program and the platform when OPENCL_LAYERS names it:
 *
 *     gcc -shared -fPIC -o audit_layer.so audit_layer.c -lpthread
 *     OPENCL_LAYERS=./audit_layer.so CASTOR_AUDIT_FILE=report.json program
 *
 * Environment and the keys of the report: docs/audit.md.
 *
 * Rules that keep the figures right:
 *   - an object enters the table after the platform made it and leaves before the platform may free it, so
 *     that a handle which is used again at once by another thread is never mixed up;
 *   - the lock is never held while the platform runs: callbacks may come back in here;
 *   - a memory object's bytes end when its own count is zero and nothing made from it is left.
 */
#undef CL_TARGET_OPENCL_VERSION /* the whole table, whatever the program is built for */
#define CL_TARGET_OPENCL_VERSION 300
#include <CL/cl.h>
#include <CL/cl_layer.h>

#include "audit_report.h"

static cl_icd_dispatch next; /* what the loader has behind this layer */

/* ---- the end of a call: what to book ---- */

/* Last step of every wrapper, with the lock held. Libraries may release objects after the report was
 * written, since the order of destructors between shared objects is open: write it again then. */
static cl_int leave(cl_int r, cl_event *event)
{
    if (r) audit.n[C_failed_calls]++;
    else if (event && *event) add(T_events, *event);
    if (audit.closed) write_report();
    pthread_mutex_unlock(&lock);
    return r;
}

static cl_int leave_counting(cl_int r, cl_event *event, enum counter calls, enum counter bytes, uint64_t n)
{
    pthread_mutex_lock(&lock);
    if (!r) {
        audit.n[calls]++;
        if (bytes != C_COUNT) audit.n[bytes] += n;
    }
    return leave(r, event);
}

/* A read or a write; dir is the first of the direction's four counters. */
static cl_int leave_move(cl_int r, cl_event *event, enum counter dir, cl_bool blocking, uint64_t bytes, uint64_t start)
{
    pthread_mutex_lock(&lock);
    if (!r) {
        audit.n[dir + M_BYTES] += bytes;
        audit.n[dir + M_CALLS]++;
        if (blocking) {
            audit.n[dir + M_BLOCKING_BYTES] += bytes;
            audit.n[dir + M_BLOCKING_CALLS]++;
            count_blocking(start);
        }
    }
    return leave(r, event);
}

static int over_host_memory(cl_mem m)
{
    struct object *o = find(T_mems, m);
    return o && o->host;
}

static cl_int leave_copy(cl_int r, cl_event *event, cl_mem src, cl_mem dst, uint64_t bytes)
{
    static const enum counter way[2][2] = {{C_d2d_bytes, C_copy_d2h_bytes}, {C_copy_h2d_bytes, C_copy_h2h_bytes}};
    pthread_mutex_lock(&lock);
    if (!r) {
        audit.n[C_copy_calls]++;
        audit.n[way[over_host_memory(src)][over_host_memory(dst)]] += bytes;
    }
    return leave(r, event);
}

static cl_int leave_map(cl_int r, cl_event *event, cl_map_flags flags, cl_bool blocking, uint64_t bytes, uint64_t start)
{
    pthread_mutex_lock(&lock);
    if (!r) {
        audit.n[C_map_calls]++;
        audit.n[C_map_bytes] += bytes;
        if (flags & CL_MAP_READ) audit.n[C_map_read_bytes] += bytes;
        if (flags & (CL_MAP_WRITE | CL_MAP_WRITE_INVALIDATE_REGION)) audit.n[C_map_write_bytes] += bytes;
        if (blocking) {
            audit.n[C_map_blocking_calls]++;
            count_blocking(start);
        }
    }
    return leave(r, event);
}

static void *leave_made(enum type type, void *handle)
{
    pthread_mutex_lock(&lock);
    if (handle) add(type, handle);
    leave(handle ? CL_SUCCESS : CL_INVALID_VALUE, NULL);
    return handle;
}

static cl_mem leave_memory(cl_mem m, enum shape shape, cl_mem_flags flags, uint64_t size, cl_mem parent)
{
    pthread_mutex_lock(&lock);
    if (m) add_memory(T_mems, m, shape, flags, size, parent);
    leave(m ? CL_SUCCESS : CL_INVALID_VALUE, NULL);
    return m;
}

static cl_int leave_retained(cl_int r, enum type type, const void *handle)
{
    pthread_mutex_lock(&lock);
    struct object *o = r ? NULL : find(type, handle);
    if (o) o->refs++;
    else if (!r) audit.n[C_book_errors]++;
    return leave(r, NULL);
}

static void enter_release(enum type type, const void *handle)
{
    begin(F_NONE);
    pthread_mutex_lock(&lock);
    if (handle) release(type, handle);
    pthread_mutex_unlock(&lock);
}

/* A release that the platform refused was booked all the same: say so. */
static cl_int leave_release(cl_int r, const void *handle)
{
    pthread_mutex_lock(&lock);
    if (r && handle) audit.n[C_book_errors]++;
    return leave(r, NULL);
}

/* What a creating call gives back when it is made to fail. */
static void *refuse(cl_int r, cl_int *err)
{
    if (err) *err = r;
    pthread_mutex_lock(&lock);
    leave(r, NULL);
    return NULL;
}

static uint64_t volume(const size_t *region)
{
    return (uint64_t)region[0] * region[1] * region[2];
}

static uint64_t image_bytes(cl_mem image, const size_t *region)
{
    size_t element = 0;
    if (next.clGetImageInfo(image, CL_IMAGE_ELEMENT_SIZE, sizeof element, &element, NULL)) element = 0;
    return volume(region) * element;
}

static uint64_t memory_size(cl_mem m)
{
    size_t size = 0;
    if (!m || next.clGetMemObjectInfo(m, CL_MEM_SIZE, sizeof size, &size, NULL)) size = 0;
    return size;
}

/* ---- wrappers: objects ---- */

#define WAIT cl_uint nw, const cl_event *w, cl_event *ev

#define RETAIN_RELEASE(name, cltype, type)                            \
    static cl_int CL_API_CALL audit_Retain##name(cltype o)            \
    {                                                                 \
        begin(F_NONE);                                                \
        return leave_retained(next.clRetain##name(o), type, o);       \
    }                                                                 \
    static cl_int CL_API_CALL audit_Release##name(cltype o)           \
    {                                                                 \
        enter_release(type, o);                                       \
        return leave_release(next.clRelease##name(o), o);             \
    }
RETAIN_RELEASE(Context, cl_context, T_contexts)
RETAIN_RELEASE(CommandQueue, cl_command_queue, T_queues)
RETAIN_RELEASE(Program, cl_program, T_programs)
RETAIN_RELEASE(Kernel, cl_kernel, T_kernels)
RETAIN_RELEASE(Event, cl_event, T_events)
RETAIN_RELEASE(Sampler, cl_sampler, T_samplers)
RETAIN_RELEASE(MemObject, cl_mem, T_mems)

/* A call that makes an object: cltype audit_name(params) { ... clName(args) ... } */
#define MAKE(name, cltype, type, params, args)                        \
    static cltype CL_API_CALL audit_##name params                     \
    {                                                                 \
        begin(F_NONE);                                                \
        return leave_made(type, next.cl##name args);                  \
    }
typedef void(CL_CALLBACK *context_notify)(const char *, const void *, size_t, void *);
typedef void(CL_CALLBACK *program_notify)(cl_program, void *);

MAKE(CreateContext, cl_context, T_contexts, (const cl_context_properties *p, cl_uint n, const cl_device_id *d,
     context_notify f, void *u, cl_int *err), (p, n, d, f, u, err))
MAKE(CreateContextFromType, cl_context, T_contexts, (const cl_context_properties *p, cl_device_type t,
     context_notify f, void *u, cl_int *err), (p, t, f, u, err))
MAKE(CreateCommandQueue, cl_command_queue, T_queues, (cl_context c, cl_device_id d, cl_command_queue_properties p,
     cl_int *err), (c, d, p, err))
MAKE(CreateCommandQueueWithProperties, cl_command_queue, T_queues, (cl_context c, cl_device_id d,
     const cl_queue_properties *p, cl_int *err), (c, d, p, err))
MAKE(CreateProgramWithSource, cl_program, T_programs, (cl_context c, cl_uint n, const char **s, const size_t *l,
     cl_int *err), (c, n, s, l, err))
MAKE(CreateProgramWithBinary, cl_program, T_programs, (cl_context c, cl_uint n, const cl_device_id *d,
     const size_t *l, const unsigned char **b, cl_int *s, cl_int *err), (c, n, d, l, b, s, err))
MAKE(CreateProgramWithBuiltInKernels, cl_program, T_programs, (cl_context c, cl_uint n, const cl_device_id *d,
     const char *k, cl_int *err), (c, n, d, k, err))
MAKE(CreateProgramWithIL, cl_program, T_programs, (cl_context c, const void *il, size_t l, cl_int *err),
     (c, il, l, err))
MAKE(CreateKernel, cl_kernel, T_kernels, (cl_program p, const char *name, cl_int *err), (p, name, err))
MAKE(CloneKernel, cl_kernel, T_kernels, (cl_kernel k, cl_int *err), (k, err))
MAKE(CreateUserEvent, cl_event, T_events, (cl_context c, cl_int *err), (c, err))
MAKE(CreateSampler, cl_sampler, T_samplers, (cl_context c, cl_bool n, cl_addressing_mode a, cl_filter_mode f,
     cl_int *err), (c, n, a, f, err))
MAKE(CreateSamplerWithProperties, cl_sampler, T_samplers, (cl_context c, const cl_sampler_properties *p,
     cl_int *err), (c, p, err))

static cl_int CL_API_CALL audit_CreateKernelsInProgram(cl_program p, cl_uint n, cl_kernel *k, cl_uint *n_ret)
{
    cl_uint made = 0;
    begin(F_NONE);
    cl_int r = next.clCreateKernelsInProgram(p, n, k, &made);
    if (!r && n_ret) *n_ret = made;
    pthread_mutex_lock(&lock);
    for (cl_uint i = 0; !r && k && i < made; i++) add(T_kernels, k[i]);
    return leave(r, NULL);
}

static cl_int CL_API_CALL audit_BuildProgram(cl_program p, cl_uint n, const cl_device_id *d, const char *o,
                                             program_notify f, void *u)
{
    begin(F_NONE);
    return leave_counting(next.clBuildProgram(p, n, d, o, f, u), NULL, C_builds, C_COUNT, 0);
}

static cl_int CL_API_CALL audit_CompileProgram(cl_program p, cl_uint n, const cl_device_id *d, const char *o,
                                               cl_uint nh, const cl_program *h, const char **names,
                                               program_notify f, void *u)
{
    begin(F_NONE);
    return leave_counting(next.clCompileProgram(p, n, d, o, nh, h, names, f, u), NULL, C_compiles, C_COUNT, 0);
}

static cl_program CL_API_CALL audit_LinkProgram(cl_context c, cl_uint n, const cl_device_id *d, const char *o,
                                                cl_uint np, const cl_program *p, program_notify f, void *u,
                                                cl_int *err)
{
    begin(F_NONE);
    cl_program made = next.clLinkProgram(c, n, d, o, np, p, f, u, err);
    pthread_mutex_lock(&lock);
    if (made) add(T_programs, made), audit.n[C_links]++;
    leave(made ? CL_SUCCESS : CL_INVALID_VALUE, NULL);
    return made;
}

/* ---- wrappers: memory ---- */

static cl_mem CL_API_CALL audit_CreateBuffer(cl_context c, cl_mem_flags flags, size_t size, void *p, cl_int *err)
{
    cl_int r = begin(F_create);
    if (r) return refuse(r, err);
    return leave_memory(next.clCreateBuffer(c, flags, size, p, err), S_BUFFER, flags, size, NULL);
}

static cl_mem CL_API_CALL audit_CreateBufferWithProperties(cl_context c, const cl_mem_properties *props,
                                                           cl_mem_flags flags, size_t size, void *p, cl_int *err)
{
    cl_int r = begin(F_create);
    if (r) return refuse(r, err);
    cl_mem m = next.clCreateBufferWithProperties(c, props, flags, size, p, err);
    return leave_memory(m, S_BUFFER, flags, size, NULL);
}

static cl_mem CL_API_CALL audit_CreateSubBuffer(cl_mem parent, cl_mem_flags flags, cl_buffer_create_type type,
                                                const void *info, cl_int *err)
{
    begin(F_NONE);
    cl_mem m = next.clCreateSubBuffer(parent, flags, type, info, err);
    return leave_memory(m, S_SUBBUFFER, 0, memory_size(m), parent);
}

static cl_mem CL_API_CALL audit_CreateImage(cl_context c, cl_mem_flags flags, const cl_image_format *f,
                                            const cl_image_desc *d, void *p, cl_int *err)
{
    begin(F_NONE);
    cl_mem m = next.clCreateImage(c, flags, f, d, p, err);
    return leave_memory(m, S_IMAGE, flags, memory_size(m), m ? d->mem_object : NULL);
}

static cl_mem CL_API_CALL audit_CreateImageWithProperties(cl_context c, const cl_mem_properties *props,
                                                          cl_mem_flags flags, const cl_image_format *f,
                                                          const cl_image_desc *d, void *p, cl_int *err)
{
    begin(F_NONE);
    cl_mem m = next.clCreateImageWithProperties(c, props, flags, f, d, p, err);
    return leave_memory(m, S_IMAGE, flags, memory_size(m), m ? d->mem_object : NULL);
}

static cl_mem CL_API_CALL audit_CreateImage2D(cl_context c, cl_mem_flags flags, const cl_image_format *f, size_t x,
                                              size_t y, size_t pitch, void *p, cl_int *err)
{
    begin(F_NONE);
    cl_mem m = next.clCreateImage2D(c, flags, f, x, y, pitch, p, err);
    return leave_memory(m, S_IMAGE, flags, memory_size(m), NULL);
}

static cl_mem CL_API_CALL audit_CreateImage3D(cl_context c, cl_mem_flags flags, const cl_image_format *f, size_t x,
                                              size_t y, size_t z, size_t pitch, size_t slice, void *p, cl_int *err)
{
    begin(F_NONE);
    cl_mem m = next.clCreateImage3D(c, flags, f, x, y, z, pitch, slice, p, err);
    return leave_memory(m, S_IMAGE, flags, memory_size(m), NULL);
}

static cl_mem CL_API_CALL audit_CreatePipe(cl_context c, cl_mem_flags flags, cl_uint packet, cl_uint count,
                                           const cl_pipe_properties *props, cl_int *err)
{
    begin(F_NONE);
    cl_mem m = next.clCreatePipe(c, flags, packet, count, props, err);
    return leave_memory(m, S_PIPE, 0, (uint64_t)packet * count, NULL);
}

static void *CL_API_CALL audit_SVMAlloc(cl_context c, cl_svm_mem_flags flags, size_t size, cl_uint align)
{
    begin(F_NONE);
    void *p = next.clSVMAlloc(c, flags, size, align);
    pthread_mutex_lock(&lock);
    if (p) add_memory(T_svm, p, S_SVM, 0, size, NULL);
    leave(p ? CL_SUCCESS : CL_INVALID_VALUE, NULL);
    return p;
}

static void CL_API_CALL audit_SVMFree(cl_context c, void *p)
{
    if (p) enter_release(T_svm, p);
    next.clSVMFree(c, p);
    if (p) leave_release(CL_SUCCESS, p);
}

typedef void(CL_CALLBACK *svm_free_notify)(cl_command_queue, cl_uint, void **, void *);

/* With a callback the program frees the memory there itself, by clSVMFree. */
static cl_int CL_API_CALL audit_EnqueueSVMFree(cl_command_queue q, cl_uint n, void **p, svm_free_notify f, void *u,
                                               WAIT)
{
    cl_int r = begin(F_enqueue);
    if (r) return leave_counting(r, NULL, C_COUNT, C_COUNT, 0);
    pthread_mutex_lock(&lock);
    for (cl_uint i = 0; p && !f && i < n; i++) if (p[i]) release(T_svm, p[i]);
    pthread_mutex_unlock(&lock);
    r = next.clEnqueueSVMFree(q, n, p, f, u, nw, w, ev);
    pthread_mutex_lock(&lock);
    if (r && !f) audit.n[C_book_errors]++;
    return leave(r, ev);
}

/* ---- wrappers: commands ---- */

static cl_int CL_API_CALL audit_EnqueueReadBuffer(cl_command_queue q, cl_mem m, cl_bool b, size_t o, size_t n,
                                                  void *p, WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_read);
    if (!r) r = next.clEnqueueReadBuffer(q, m, b, o, n, p, nw, w, ev);
    return leave_move(r, ev, C_d2h_bytes, b, n, start);
}

static cl_int CL_API_CALL audit_EnqueueWriteBuffer(cl_command_queue q, cl_mem m, cl_bool b, size_t o, size_t n,
                                                   const void *p, WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_write);
    if (!r) r = next.clEnqueueWriteBuffer(q, m, b, o, n, p, nw, w, ev);
    return leave_move(r, ev, C_h2d_bytes, b, n, start);
}

static cl_int CL_API_CALL audit_EnqueueReadBufferRect(cl_command_queue q, cl_mem m, cl_bool b, const size_t *mo,
                                                      const size_t *ho, const size_t *n, size_t mr, size_t ms,
                                                      size_t hr, size_t hs, void *p, WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_read);
    if (!r) r = next.clEnqueueReadBufferRect(q, m, b, mo, ho, n, mr, ms, hr, hs, p, nw, w, ev);
    return leave_move(r, ev, C_d2h_bytes, b, r ? 0 : volume(n), start);
}

static cl_int CL_API_CALL audit_EnqueueWriteBufferRect(cl_command_queue q, cl_mem m, cl_bool b, const size_t *mo,
                                                       const size_t *ho, const size_t *n, size_t mr, size_t ms,
                                                       size_t hr, size_t hs, const void *p, WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_write);
    if (!r) r = next.clEnqueueWriteBufferRect(q, m, b, mo, ho, n, mr, ms, hr, hs, p, nw, w, ev);
    return leave_move(r, ev, C_h2d_bytes, b, r ? 0 : volume(n), start);
}

static cl_int CL_API_CALL audit_EnqueueReadImage(cl_command_queue q, cl_mem m, cl_bool b, const size_t *o,
                                                 const size_t *n, size_t row, size_t slice, void *p, WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_read);
    if (!r) r = next.clEnqueueReadImage(q, m, b, o, n, row, slice, p, nw, w, ev);
    return leave_move(r, ev, C_d2h_bytes, b, r ? 0 : image_bytes(m, n), start);
}

static cl_int CL_API_CALL audit_EnqueueWriteImage(cl_command_queue q, cl_mem m, cl_bool b, const size_t *o,
                                                  const size_t *n, size_t row, size_t slice, const void *p, WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_write);
    if (!r) r = next.clEnqueueWriteImage(q, m, b, o, n, row, slice, p, nw, w, ev);
    return leave_move(r, ev, C_h2d_bytes, b, r ? 0 : image_bytes(m, n), start);
}

static cl_int CL_API_CALL audit_EnqueueCopyBuffer(cl_command_queue q, cl_mem s, cl_mem d, size_t so, size_t o,
                                                  size_t n, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueCopyBuffer(q, s, d, so, o, n, nw, w, ev);
    return leave_copy(r, ev, s, d, n);
}

static cl_int CL_API_CALL audit_EnqueueCopyBufferRect(cl_command_queue q, cl_mem s, cl_mem d, const size_t *so,
                                                      const size_t *o, const size_t *n, size_t sr, size_t ss,
                                                      size_t dr, size_t ds, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueCopyBufferRect(q, s, d, so, o, n, sr, ss, dr, ds, nw, w, ev);
    return leave_copy(r, ev, s, d, r ? 0 : volume(n));
}

static cl_int CL_API_CALL audit_EnqueueCopyImage(cl_command_queue q, cl_mem s, cl_mem d, const size_t *so,
                                                 const size_t *o, const size_t *n, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueCopyImage(q, s, d, so, o, n, nw, w, ev);
    return leave_copy(r, ev, s, d, r ? 0 : image_bytes(s, n));
}

static cl_int CL_API_CALL audit_EnqueueCopyImageToBuffer(cl_command_queue q, cl_mem s, cl_mem d, const size_t *so,
                                                         const size_t *n, size_t o, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueCopyImageToBuffer(q, s, d, so, n, o, nw, w, ev);
    return leave_copy(r, ev, s, d, r ? 0 : image_bytes(s, n));
}

static cl_int CL_API_CALL audit_EnqueueCopyBufferToImage(cl_command_queue q, cl_mem s, cl_mem d, size_t so,
                                                         const size_t *o, const size_t *n, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueCopyBufferToImage(q, s, d, so, o, n, nw, w, ev);
    return leave_copy(r, ev, s, d, r ? 0 : image_bytes(d, n));
}

static cl_int CL_API_CALL audit_EnqueueFillBuffer(cl_command_queue q, cl_mem m, const void *pattern, size_t pn,
                                                  size_t o, size_t n, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueFillBuffer(q, m, pattern, pn, o, n, nw, w, ev);
    return leave_counting(r, ev, C_fill_calls, C_fill_bytes, n);
}

static cl_int CL_API_CALL audit_EnqueueFillImage(cl_command_queue q, cl_mem m, const void *color, const size_t *o,
                                                 const size_t *n, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueFillImage(q, m, color, o, n, nw, w, ev);
    return leave_counting(r, ev, C_fill_calls, C_fill_bytes, r ? 0 : image_bytes(m, n));
}

static void *CL_API_CALL audit_EnqueueMapBuffer(cl_command_queue q, cl_mem m, cl_bool b, cl_map_flags flags,
                                                size_t o, size_t n, WAIT, cl_int *err)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_enqueue);
    if (r) return refuse(r, err);
    void *p = next.clEnqueueMapBuffer(q, m, b, flags, o, n, nw, w, ev, err);
    leave_map(p ? CL_SUCCESS : CL_MAP_FAILURE, ev, flags, b, n, start);
    return p;
}

static void *CL_API_CALL audit_EnqueueMapImage(cl_command_queue q, cl_mem m, cl_bool b, cl_map_flags flags,
                                               const size_t *o, const size_t *n, size_t *row, size_t *slice, WAIT,
                                               cl_int *err)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_enqueue);
    if (r) return refuse(r, err);
    void *p = next.clEnqueueMapImage(q, m, b, flags, o, n, row, slice, nw, w, ev, err);
    leave_map(p ? CL_SUCCESS : CL_MAP_FAILURE, ev, flags, b, p ? image_bytes(m, n) : 0, start);
    return p;
}

static cl_int CL_API_CALL audit_EnqueueUnmapMemObject(cl_command_queue q, cl_mem m, void *p, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueUnmapMemObject(q, m, p, nw, w, ev);
    return leave_counting(r, ev, C_unmap_calls, C_COUNT, 0);
}

static enum counter migrate_way(cl_mem_migration_flags flags)
{
    if (flags & CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED) return C_migrate_undefined_bytes;
    return flags & CL_MIGRATE_MEM_OBJECT_HOST ? C_migrate_d2h_bytes : C_migrate_h2d_bytes;
}

static cl_int CL_API_CALL audit_EnqueueMigrateMemObjects(cl_command_queue q, cl_uint n, const cl_mem *m,
                                                         cl_mem_migration_flags flags, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueMigrateMemObjects(q, n, m, flags, nw, w, ev);
    pthread_mutex_lock(&lock);
    if (!r) audit.n[C_migrate_calls]++;
    for (cl_uint i = 0; !r && i < n; i++) {
        struct object *o = find(T_mems, m[i]);
        if (o) audit.n[migrate_way(flags)] += o->size;
    }
    return leave(r, ev);
}

static cl_int CL_API_CALL audit_EnqueueSVMMemcpy(cl_command_queue q, cl_bool b, void *d, const void *s, size_t n, WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueSVMMemcpy(q, b, d, s, n, nw, w, ev);
    pthread_mutex_lock(&lock);
    if (!r) audit.n[C_svm_copy_calls]++, audit.n[C_svm_copy_bytes] += n;
    if (!r && b) count_blocking(start);
    return leave(r, ev);
}

static cl_int CL_API_CALL audit_EnqueueSVMMemFill(cl_command_queue q, void *p, const void *pattern, size_t pn,
                                                  size_t n, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueSVMMemFill(q, p, pattern, pn, n, nw, w, ev);
    return leave_counting(r, ev, C_fill_calls, C_fill_bytes, n);
}

static cl_int CL_API_CALL audit_EnqueueSVMMap(cl_command_queue q, cl_bool b, cl_map_flags flags, void *p, size_t n,
                                              WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueSVMMap(q, b, flags, p, n, nw, w, ev);
    return leave_map(r, ev, flags, b, n, start);
}

static cl_int CL_API_CALL audit_EnqueueSVMUnmap(cl_command_queue q, void *p, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueSVMUnmap(q, p, nw, w, ev);
    return leave_counting(r, ev, C_unmap_calls, C_COUNT, 0);
}

/* A size of 0 (or no sizes) stands for the whole allocation that the pointer begins. */
static cl_int CL_API_CALL audit_EnqueueSVMMigrateMem(cl_command_queue q, cl_uint n, const void **p,
                                                     const size_t *sizes, cl_mem_migration_flags flags, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueSVMMigrateMem(q, n, p, sizes, flags, nw, w, ev);
    pthread_mutex_lock(&lock);
    if (!r) audit.n[C_migrate_calls]++;
    for (cl_uint i = 0; !r && i < n; i++) {
        struct object *o = find(T_svm, p[i]);
        audit.n[migrate_way(flags)] += sizes && sizes[i] ? sizes[i] : o ? o->size : 0;
    }
    return leave(r, ev);
}

static cl_int CL_API_CALL audit_EnqueueNDRangeKernel(cl_command_queue q, cl_kernel k, cl_uint dims, const size_t *o,
                                                     const size_t *g, const size_t *l, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueNDRangeKernel(q, k, dims, o, g, l, nw, w, ev);
    return leave_counting(r, ev, C_kernel_launches, C_COUNT, 0);
}

static cl_int CL_API_CALL audit_EnqueueTask(cl_command_queue q, cl_kernel k, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueTask(q, k, nw, w, ev);
    return leave_counting(r, ev, C_kernel_launches, C_COUNT, 0);
}

static cl_int CL_API_CALL audit_EnqueueNativeKernel(cl_command_queue q, void(CL_CALLBACK *f)(void *), void *args,
                                                    size_t size, cl_uint n, const cl_mem *m, const void **at, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueNativeKernel(q, f, args, size, n, m, at, nw, w, ev);
    return leave_counting(r, ev, C_kernel_launches, C_COUNT, 0);
}

/* Markers and barriers move nothing and are no target of faults: only their events count. */
static cl_int leave_plain(cl_int r, cl_event *ev)
{
    pthread_mutex_lock(&lock);
    return leave(r, ev);
}

static cl_int CL_API_CALL audit_EnqueueMarker(cl_command_queue q, cl_event *ev)
{
    begin(F_NONE);
    return leave_plain(next.clEnqueueMarker(q, ev), ev);
}

static cl_int CL_API_CALL audit_EnqueueMarkerWithWaitList(cl_command_queue q, WAIT)
{
    begin(F_NONE);
    return leave_plain(next.clEnqueueMarkerWithWaitList(q, nw, w, ev), ev);
}

static cl_int CL_API_CALL audit_EnqueueBarrierWithWaitList(cl_command_queue q, WAIT)
{
    begin(F_NONE);
    return leave_plain(next.clEnqueueBarrierWithWaitList(q, nw, w, ev), ev);
}

static cl_int leave_wait(cl_int r, enum counter calls, uint64_t start)
{
    pthread_mutex_lock(&lock);
    audit.n[calls]++;
    count_blocking(start);
    return leave(r, NULL);
}

static cl_int CL_API_CALL audit_Finish(cl_command_queue q)
{
    uint64_t start = now_ns();
    begin(F_NONE);
    return leave_wait(next.clFinish(q), C_finish_calls, start);
}

static cl_int CL_API_CALL audit_WaitForEvents(cl_uint n, const cl_event *events)
{
    uint64_t start = now_ns();
    begin(F_NONE);
    return leave_wait(next.clWaitForEvents(n, events), C_wait_calls, start);
}

/* ---- the layer itself ---- */

#define WRAPPED(X)                                                                                           \
    X(CreateContext) X(CreateContextFromType) X(RetainContext) X(ReleaseContext)                             \
    X(CreateCommandQueue) X(CreateCommandQueueWithProperties) X(RetainCommandQueue) X(ReleaseCommandQueue)   \
    X(CreateProgramWithSource) X(CreateProgramWithBinary) X(CreateProgramWithBuiltInKernels)                 \
    X(CreateProgramWithIL) X(RetainProgram) X(ReleaseProgram) X(BuildProgram) X(CompileProgram)              \
    X(LinkProgram) X(CreateKernel) X(CreateKernelsInProgram) X(CloneKernel) X(RetainKernel) X(ReleaseKernel) \
    X(CreateUserEvent) X(RetainEvent) X(ReleaseEvent) X(CreateSampler) X(CreateSamplerWithProperties)        \
    X(RetainSampler) X(ReleaseSampler) X(CreateBuffer) X(CreateBufferWithProperties) X(CreateSubBuffer)      \
    X(CreateImage) X(CreateImageWithProperties) X(CreateImage2D) X(CreateImage3D) X(CreatePipe)              \
    X(RetainMemObject) X(ReleaseMemObject) X(SVMAlloc) X(SVMFree) X(EnqueueSVMFree) X(EnqueueReadBuffer)     \
    X(EnqueueWriteBuffer) X(EnqueueReadBufferRect) X(EnqueueWriteBufferRect) X(EnqueueReadImage)             \
    X(EnqueueWriteImage) X(EnqueueCopyBuffer) X(EnqueueCopyBufferRect) X(EnqueueCopyImage)                   \
    X(EnqueueCopyImageToBuffer) X(EnqueueCopyBufferToImage) X(EnqueueFillBuffer) X(EnqueueFillImage)         \
    X(EnqueueMapBuffer) X(EnqueueMapImage) X(EnqueueUnmapMemObject) X(EnqueueMigrateMemObjects)              \
    X(EnqueueSVMMemcpy) X(EnqueueSVMMemFill) X(EnqueueSVMMap) X(EnqueueSVMUnmap) X(EnqueueSVMMigrateMem)     \
    X(EnqueueNDRangeKernel) X(EnqueueTask) X(EnqueueNativeKernel) X(EnqueueMarker)                           \
    X(EnqueueMarkerWithWaitList) X(EnqueueBarrierWithWaitList) X(Finish) X(WaitForEvents)

CL_API_ENTRY cl_int CL_API_CALL clGetLayerInfo(cl_layer_info name, size_t size, void *value, size_t *size_ret)
{
    static const char title[] = "castor audit";
    const cl_layer_api_version version = CL_LAYER_API_VERSION_100;
    const void *from = name == CL_LAYER_API_VERSION ? (const void *)&version : title;
    size_t n = name == CL_LAYER_API_VERSION ? sizeof version : sizeof title;
    if (name != CL_LAYER_API_VERSION && name != CL_LAYER_NAME) return CL_INVALID_VALUE;
    if (value && size < n) return CL_INVALID_VALUE;
    if (value) memcpy(value, from, n);
    if (size_ret) *size_ret = n;
    return CL_SUCCESS;
}

/* A loader older or newer than the header has fewer or more entries: take over what both know. */
CL_API_ENTRY cl_int CL_API_CALL clInitLayer(cl_uint count, const cl_icd_dispatch *target, cl_uint *count_ret,
                                            const cl_icd_dispatch **layer_ret)
{
    static cl_icd_dispatch mine;
    size_t bytes = count * sizeof(void *);
    if (!target || !count_ret || !layer_ret) return CL_INVALID_VALUE;
    if (bytes > sizeof next) bytes = sizeof next;
    memcpy(&next, target, bytes);
    mine = next;
#define X(name) if (next.cl##name) mine.cl##name = audit_##name;
    WRAPPED(X)
#undef X
    read_settings();
    *count_ret = (cl_uint)(bytes / sizeof(void *));
    *layer_ret = &mine;
    return CL_SUCCESS;
}

static void __attribute__((destructor)) at_end(void)
{
    pthread_mutex_lock(&lock);
    audit.closed = 1;
    if (audit.pid) write_report();
    pthread_mutex_unlock(&lock);
}
