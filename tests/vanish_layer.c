/* A device that vanishes: after $VANISH_AFTER kernel launches each further launch, read, write and new context fails with
 * CL_DEVICE_NOT_AVAILABLE. Loaded by the ICD loader, as tests/audit_layer.c is. */
#undef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 300
#include <CL/cl.h>
#include <CL/cl_layer.h>
#include <stdlib.h>
#include <string.h>

static cl_icd_dispatch next; /* what the loader has behind this layer */
static long left = -1;       /* launches until it is gone; below 0: it stays */

static int gone(int launch)
{
    if (left > 0 && launch) __atomic_sub_fetch(&left, 1, __ATOMIC_RELAXED);
    return left == 0;
}

static cl_int CL_API_CALL launch(cl_command_queue q, cl_kernel k, cl_uint dim, const size_t *offset, const size_t *global, const size_t *local,
                                 cl_uint n, const cl_event *wait, cl_event *event)
{
    return gone(1) ? CL_DEVICE_NOT_AVAILABLE : next.clEnqueueNDRangeKernel(q, k, dim, offset, global, local, n, wait, event);
}

static cl_int CL_API_CALL get(cl_command_queue q, cl_mem m, cl_bool block, size_t offset, size_t size, void *to, cl_uint n, const cl_event *wait,
                              cl_event *event)
{
    return gone(0) ? CL_DEVICE_NOT_AVAILABLE : next.clEnqueueReadBuffer(q, m, block, offset, size, to, n, wait, event);
}

static cl_int CL_API_CALL put(cl_command_queue q, cl_mem m, cl_bool block, size_t offset, size_t size, const void *from, cl_uint n,
                              const cl_event *wait, cl_event *event)
{
    return gone(0) ? CL_DEVICE_NOT_AVAILABLE : next.clEnqueueWriteBuffer(q, m, block, offset, size, from, n, wait, event);
}

static cl_context CL_API_CALL context(const cl_context_properties *p, cl_uint n, const cl_device_id *d,
                                      void(CL_CALLBACK *notify)(const char *, const void *, size_t, void *), void *user, cl_int *err)
{
    if (!gone(0)) return next.clCreateContext(p, n, d, notify, user, err);
    if (err) *err = CL_DEVICE_NOT_AVAILABLE;
    return NULL;
}

CL_API_ENTRY cl_int CL_API_CALL clGetLayerInfo(cl_layer_info name, size_t size, void *value, size_t *size_ret)
{
    static const char title[] = "castor vanish";
    const cl_layer_api_version version = CL_LAYER_API_VERSION_100;
    const void *from = name == CL_LAYER_API_VERSION ? (const void *)&version : title;
    size_t n = name == CL_LAYER_API_VERSION ? sizeof version : sizeof title;
    if (name != CL_LAYER_API_VERSION && name != CL_LAYER_NAME) return CL_INVALID_VALUE;
    if (value && size < n) return CL_INVALID_VALUE;
    if (value) memcpy(value, from, n);
    if (size_ret) *size_ret = n;
    return CL_SUCCESS;
}

CL_API_ENTRY cl_int CL_API_CALL clInitLayer(cl_uint count, const cl_icd_dispatch *target, cl_uint *count_ret,
                                            const cl_icd_dispatch **layer_ret)
{
    static cl_icd_dispatch mine;
    size_t bytes = count * sizeof(void *);
    const char *after = getenv("VANISH_AFTER");
    if (!target || !count_ret || !layer_ret) return CL_INVALID_VALUE;
    if (bytes > sizeof next) bytes = sizeof next;
    memcpy(&next, target, bytes);
    mine = next;
    mine.clEnqueueNDRangeKernel = launch;
    mine.clEnqueueReadBuffer = get;
    mine.clEnqueueWriteBuffer = put;
    mine.clCreateContext = context;
    if (after) left = atol(after);
    *count_ret = (cl_uint)(bytes / sizeof(void *));
    *layer_ret = &mine;
    return CL_SUCCESS;
}
