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

/* ---- the wrappers: audit_Name for clName ---- */

#define WAIT cl_uint nw, const cl_event *w, cl_event *ev

#include "audit_objects.h"

#include "audit_commands.h"

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
