/* What the children of check_audit.c do under the audit layer: OpenCL calls of known effect. Included there only. */
#ifndef AUDIT_CHILDREN_H
#define AUDIT_CHILDREN_H

#include <CL/cl.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIB 1024u
#define MIB (1024u * 1024u)
#define SKIP 77 /* exit status: what the child needs isn't there */

#define must(e)                                                                             \
    do {                                                                                    \
        cl_int r_ = (e);                                                                    \
        if (r_) fprintf(stderr, "line %d: %s gave %d\n", __LINE__, #e, r_), exit(1);        \
    } while (0)

static cl_context ctx;
static cl_command_queue queue;
static cl_device_id device;

static int find_device(void)
{
    cl_platform_id p[16];
    cl_uint n = 0;
    if (clGetPlatformIDs(16, p, &n)) return 0;
    for (cl_uint i = 0; i < n && i < 16; i++)
        if (!clGetDeviceIDs(p[i], CL_DEVICE_TYPE_ALL, 1, &device, NULL)) return 1;
    return 0;
}

static cl_mem make(cl_mem_flags flags, size_t size, void *p)
{
    cl_int r;
    cl_mem m = clCreateBuffer(ctx, flags, size, p, &r);
    must(r);
    return m;
}

static cl_mem make_sub(cl_mem parent, size_t at, size_t size)
{
    cl_int r;
    cl_buffer_region region = {at, size};
    cl_mem m = clCreateSubBuffer(parent, 0, CL_BUFFER_CREATE_TYPE_REGION, &region, &r);
    must(r);
    return m;
}

static void child_none(void)
{
}

/* A and B overlap, C comes after both. */
static void child_buffers(void)
{
    cl_mem a = make(CL_MEM_READ_WRITE, 1 * MIB, NULL);
    cl_mem b = make(CL_MEM_READ_WRITE, 2 * MIB, NULL);
    must(clReleaseMemObject(a));
    must(clReleaseMemObject(b));
    cl_mem c = make(CL_MEM_READ_WRITE, 512 * KIB, NULL);
    must(clReleaseMemObject(c));
}

/* A buffer retained once more lives through its first release. */
static void child_retain(void)
{
    cl_mem a = make(CL_MEM_READ_WRITE, 1 * MIB, NULL);
    must(clRetainMemObject(a));
    must(clReleaseMemObject(a));
    cl_mem b = make(CL_MEM_READ_WRITE, 1 * KIB, NULL);
    must(clReleaseMemObject(a));
    cl_mem c = make(CL_MEM_READ_WRITE, 1 * MIB, NULL);
    must(clReleaseMemObject(b));
    must(clReleaseMemObject(c));
}

/* The parent, released first, ends only with its last sub-buffer. */
static void child_subbuffer(void)
{
    cl_mem parent = make(CL_MEM_READ_WRITE, 1 * MIB, NULL);
    cl_mem s = make_sub(parent, 0, 64 * KIB), t = make_sub(parent, 64 * KIB, 64 * KIB);
    must(clReleaseMemObject(parent));
    must(clReleaseMemObject(s));
    cl_mem b = make(CL_MEM_READ_WRITE, 8 * KIB, NULL); /* the peak: 1 MiB and 8 KiB */
    must(clReleaseMemObject(t));
    cl_mem c = make(CL_MEM_READ_WRITE, 1 * MIB, NULL); /* the same again, not more */
    must(clReleaseMemObject(b));
    must(clReleaseMemObject(c));
}

/* The program ends while a sub-buffer holds its released parent. */
static void child_held(void)
{
    cl_mem parent = make(CL_MEM_READ_WRITE, 1 * MIB, NULL);
    make_sub(parent, 0, 64 * KIB);
    must(clReleaseMemObject(parent));
}

static char *host_block(size_t n)
{
    char *p = aligned_alloc(4096, n);
    if (!p) exit(1);
    memset(p, 1, n);
    return p;
}

static void child_kinds(void)
{
    char *p = host_block(128 * KIB);
    cl_mem a = make(CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, 128 * KIB, p);
    cl_mem b = make(CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, 64 * KIB, NULL);
    cl_mem c = make(CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, 32 * KIB, p);
    must(clEnqueueCopyBuffer(queue, a, c, 0, 0, 1000, 0, NULL, NULL));
    must(clEnqueueCopyBuffer(queue, c, a, 0, 0, 100, 0, NULL, NULL));
    must(clFinish(queue));
    must(clReleaseMemObject(a));
    must(clReleaseMemObject(b));
    must(clReleaseMemObject(c));
    free(p);
}

static void child_transfers(void)
{
    char *p = host_block(4096);
    const size_t zero[3] = {0, 0, 0}, region[3] = {16, 4, 2};
    cl_mem a = make(CL_MEM_READ_WRITE, 8192, NULL), b = make(CL_MEM_READ_WRITE, 8192, NULL);
    cl_int r;
    must(clEnqueueWriteBuffer(queue, a, CL_TRUE, 0, 1000, p, 0, NULL, NULL));
    must(clEnqueueWriteBuffer(queue, a, CL_FALSE, 0, 500, p, 0, NULL, NULL));
    must(clEnqueueWriteBufferRect(queue, a, CL_FALSE, zero, zero, region, 16, 64, 16, 64, p, 0, NULL, NULL));
    must(clEnqueueCopyBuffer(queue, a, b, 0, 0, 2048, 0, NULL, NULL));
    must(clEnqueueCopyBufferRect(queue, a, b, zero, zero, region, 16, 64, 16, 64, 0, NULL, NULL));
    must(clEnqueueFillBuffer(queue, b, "x", 1, 0, 300, 0, NULL, NULL));
    must(clEnqueueReadBuffer(queue, b, CL_TRUE, 0, 700, p, 0, NULL, NULL));
    must(clEnqueueReadBuffer(queue, b, CL_FALSE, 0, 50, p, 0, NULL, NULL));
    must(clEnqueueReadBufferRect(queue, b, CL_TRUE, zero, zero, region, 16, 64, 16, 64, p, 0, NULL, NULL));
    void *q = clEnqueueMapBuffer(queue, a, CL_TRUE, CL_MAP_READ, 0, 4000, 0, NULL, NULL, &r);
    must(r);
    must(clEnqueueUnmapMemObject(queue, a, q, 0, NULL, NULL));
    q = clEnqueueMapBuffer(queue, a, CL_FALSE, CL_MAP_WRITE_INVALIDATE_REGION, 0, 40, 0, NULL, NULL, &r);
    must(r);
    must(clFinish(queue));
    must(clEnqueueUnmapMemObject(queue, a, q, 0, NULL, NULL));
    must(clEnqueueMigrateMemObjects(queue, 1, &a, CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED, 0, NULL, NULL));
    must(clEnqueueMigrateMemObjects(queue, 1, &b, 0, 0, NULL, NULL));
    /* One that fails counts as failed and as nothing else. */
    if (!clEnqueueWriteBuffer(queue, a, CL_TRUE, 8000, 1000, p, 0, NULL, NULL)) exit(1);
    must(clFinish(queue));
    must(clReleaseMemObject(a));
    must(clReleaseMemObject(b));
    free(p);
}

/* An image of 16 x 8 pixels of 4 bytes. */
static void child_images(void)
{
    const cl_image_format format = {CL_RGBA, CL_UNORM_INT8};
    const cl_image_desc desc = {.image_type = CL_MEM_OBJECT_IMAGE2D, .image_width = 16, .image_height = 8};
    const size_t zero[3] = {0, 0, 0}, all[3] = {16, 8, 1}, part[3] = {4, 2, 1};
    const float color[4] = {0, 0, 0, 1};
    char p[16 * 8 * 4] = {0};
    size_t row = 0;
    cl_bool has = CL_FALSE;
    cl_int r;
    must(clGetDeviceInfo(device, CL_DEVICE_IMAGE_SUPPORT, sizeof has, &has, NULL));
    if (!has) exit(SKIP);
    cl_mem m = clCreateImage(ctx, CL_MEM_READ_WRITE, &format, &desc, NULL, &r);
    must(r);
    cl_mem b = make(CL_MEM_READ_WRITE, 512, NULL);
    must(clEnqueueWriteImage(queue, m, CL_TRUE, zero, all, 0, 0, p, 0, NULL, NULL));
    must(clEnqueueFillImage(queue, m, color, zero, part, 0, NULL, NULL));
    must(clEnqueueCopyImageToBuffer(queue, m, b, zero, all, 0, 0, NULL, NULL));
    must(clEnqueueCopyBufferToImage(queue, b, m, 0, zero, part, 0, NULL, NULL));
    must(clEnqueueReadImage(queue, m, CL_TRUE, zero, part, 0, 0, p, 0, NULL, NULL));
    void *q = clEnqueueMapImage(queue, m, CL_TRUE, CL_MAP_READ, zero, part, &row, NULL, 0, NULL, NULL, &r);
    must(r);
    must(clEnqueueUnmapMemObject(queue, m, q, 0, NULL, NULL));
    must(clFinish(queue));
    must(clReleaseMemObject(m));
    must(clReleaseMemObject(b));
}

/* Three launches, one with an event that is waited for and kept. */
static void child_kernel(void)
{
    const char *source = "kernel void twice(global int *p) { p[get_global_id(0)] *= 2; }";
    const size_t n = 64;
    cl_int r;
    cl_event ev;
    cl_program prog = clCreateProgramWithSource(ctx, 1, &source, NULL, &r);
    must(r);
    must(clBuildProgram(prog, 1, &device, "", NULL, NULL));
    cl_kernel k = clCreateKernel(prog, "twice", &r);
    must(r);
    cl_mem a = make(CL_MEM_READ_WRITE, n * sizeof(int), NULL);
    must(clSetKernelArg(k, 0, sizeof a, &a));
    for (int i = 0; i < 3; i++)
        must(clEnqueueNDRangeKernel(queue, k, 1, NULL, &n, NULL, 0, NULL, i == 2 ? &ev : NULL));
    must(clWaitForEvents(1, &ev));
    must(clRetainEvent(ev));
    must(clReleaseEvent(ev));
    must(clReleaseKernel(k));
    must(clReleaseProgram(prog));
    must(clReleaseMemObject(a));
}

static void child_leak(void)
{
    make(CL_MEM_READ_WRITE, 4096, NULL);
    make(CL_MEM_READ_WRITE, 100, NULL);
    must(clRetainContext(ctx));
}

static void child_null_release(void)
{
    cl_mem a = make(CL_MEM_READ_WRITE, 4096, NULL);
    must(clReleaseMemObject(a));
    /* A failed call, but nothing that could put the books out. */
    if (!clReleaseMemObject(NULL)) exit(1);
}

/* The second buffer, the second write, the first read and the fourth enqueue fail. */
static void child_faults(void)
{
    char p[64] = {0};
    cl_int r;
    cl_mem a = make(CL_MEM_READ_WRITE, 4096, NULL);
    cl_mem b = clCreateBuffer(ctx, CL_MEM_READ_WRITE, 4096, NULL, &r);
    if (b || r != CL_MEM_OBJECT_ALLOCATION_FAILURE) exit(1);
    must(clEnqueueWriteBuffer(queue, a, CL_TRUE, 0, 64, p, 0, NULL, NULL));
    if (clEnqueueWriteBuffer(queue, a, CL_TRUE, 0, 64, p, 0, NULL, NULL) != CL_MEM_OBJECT_ALLOCATION_FAILURE) exit(1);
    if (clEnqueueReadBuffer(queue, a, CL_TRUE, 0, 64, p, 0, NULL, NULL) != CL_MEM_OBJECT_ALLOCATION_FAILURE) exit(1);
    if (clEnqueueFillBuffer(queue, a, p, 1, 0, 64, 0, NULL, NULL) != CL_MEM_OBJECT_ALLOCATION_FAILURE) exit(1);
    must(clEnqueueFillBuffer(queue, a, p, 1, 0, 64, 0, NULL, NULL));
    must(clFinish(queue));
    must(clReleaseMemObject(a));
}

/* Everything from the second creation on fails. */
static void child_faults_onward(void)
{
    cl_int r;
    cl_mem a = make(CL_MEM_READ_WRITE, 4096, NULL);
    for (int i = 0; i < 3; i++)
        if (clCreateBuffer(ctx, CL_MEM_READ_WRITE, 4096, NULL, &r) || r != CL_MEM_OBJECT_ALLOCATION_FAILURE) exit(1);
    must(clReleaseMemObject(a));
}

#define THREADS 4
#define ROUNDS 100

static void *thread_work(void *arg)
{
    char p[256] = {0};
    for (int i = 0; i < ROUNDS; i++) {
        cl_event ev;
        cl_mem a = make(CL_MEM_READ_WRITE, 4096, NULL), s = make_sub(a, 0, 256);
        must(clReleaseMemObject(a));
        must(clEnqueueWriteBuffer(queue, s, CL_FALSE, 0, sizeof p, p, 0, NULL, &ev));
        must(clWaitForEvents(1, &ev));
        must(clReleaseEvent(ev));
        must(clReleaseMemObject(s));
    }
    return arg;
}

static void child_threads(void)
{
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++) if (pthread_create(&t[i], NULL, thread_work, NULL)) exit(1);
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
}

/* The multiplication of CLBlast, reached without linking it. It pads operands that its tile doesn't divide,
 * for which it creates a buffer in every call; for small sizes only when told so. The size that it says it
 * needs goes to the parent as the size of the only registered buffer. */
typedef int (*sgemm_fn)(int layout, int ta, int tb, size_t m, size_t n, size_t k, float alpha, cl_mem a, size_t ao,
                        size_t lda, cl_mem b, size_t bo, size_t ldb, float beta, cl_mem c, size_t co, size_t ldc,
                        cl_command_queue *q, cl_event *ev);
typedef int (*size_fn)(int layout, int ta, int tb, size_t m, size_t n, size_t k, size_t ao, size_t lda, size_t bo,
                       size_t ldb, size_t co, size_t ldc, cl_command_queue *q, size_t *size);
typedef int (*override_fn)(cl_device_id d, const char *kernel, int precision, size_t n, const char **names,
                           const size_t *values);

#define GEMM_N 65u
#define GEMM_CALLS 2

static void child_clblast(void)
{
    enum { ROW_MAJOR = 101, PLAIN = 111, SINGLE = 32 };
    const char *name = "XGEMM_MIN_INDIRECT_SIZE";
    const size_t n = GEMM_N, one = 1, bytes = n * n * sizeof(float);
    size_t temp = 0;
    void *lib = dlopen("libclblast.so.1", RTLD_NOW);
    if (!lib) exit(SKIP);
    sgemm_fn gemm = (sgemm_fn)dlsym(lib, "CLBlastSgemm");
    size_fn temp_size = (size_fn)dlsym(lib, "CLBlastSGemmTempBufferSize");
    override_fn override = (override_fn)dlsym(lib, "CLBlastOverrideParameters");
    if (!gemm || !temp_size || !override) exit(SKIP);
    must(override(device, "GemmRoutine", SINGLE, 1, &name, &one));
    must(temp_size(ROW_MAJOR, PLAIN, PLAIN, n, n, n, 0, n, 0, n, 0, n, &queue, &temp));
    char *p = aligned_alloc(4096, (temp + 4095) / 4096 * 4096);
    cl_mem a = make(CL_MEM_READ_WRITE, bytes, NULL), c = make(CL_MEM_READ_WRITE, bytes, NULL);
    cl_mem told = make(CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, temp, p);
    for (int i = 0; i < GEMM_CALLS; i++) {
        must(gemm(ROW_MAJOR, PLAIN, PLAIN, n, n, n, 1, a, 0, n, a, 0, n, 0, c, 0, n, &queue, NULL));
        must(clFinish(queue));
    }
    must(clReleaseMemObject(told));
    must(clReleaseMemObject(a));
    must(clReleaseMemObject(c));
    free(p);
}

static const struct {
    const char *name;
    void (*run)(void);
} children[] = {{"none", child_none},           {"buffers", child_buffers},
                {"retain", child_retain},       {"subbuffer", child_subbuffer},
                {"held", child_held},           {"kinds", child_kinds},
                {"transfers", child_transfers}, {"kernel", child_kernel},
                {"leak", child_leak},           {"null_release", child_null_release},
                {"faults", child_faults},       {"faults_onward", child_faults_onward},
                {"threads", child_threads},     {"clblast", child_clblast},
                {"images", child_images}};

/* Do what `name` says; the exit status. */
static int child_main(const char *name)
{
    cl_int r;
    size_t i = 0;
    while (i < sizeof children / sizeof *children && strcmp(children[i].name, name)) i++;
    if (i == sizeof children / sizeof *children) return 1;
    if (!find_device()) return SKIP;
    ctx = clCreateContext(NULL, 1, &device, NULL, NULL, &r);
    must(r);
    queue = clCreateCommandQueue(ctx, device, 0, &r);
    must(r);
    children[i].run();
    must(clReleaseCommandQueue(queue));
    must(clReleaseContext(ctx));
    return 0;
}

#endif
