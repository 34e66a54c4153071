/* The audit layer counts exactly what a program does. This program starts itself again with the layer in
 * OPENCL_LAYERS; the child makes OpenCL calls of known effect (argv[1] names which), and the parent reads
 * the report that the layer left behind.
 */
#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#include <CL/cl.h>
#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "testing.h"

#define KIB 1024u
#define MIB (1024u * 1024u)
#define SKIP 77

/* ---- the child ---- */

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

/* ---- the parent ---- */

static const char *self;

static const char *layer_path(void)
{
    const char *p = getenv("AUDIT_LAYER");
    return p ? p : "./tests/audit_layer.so";
}

static const char *report_path(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/report.json", test_dir());
    return path;
}

/* Run one child under the layer; its exit status. `name`, `value`: one more variable, or NULL. */
static int run_child(const char *scenario, const char *name, const char *value)
{
    int status;
    unlink(report_path());
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) {
        setenv("OPENCL_LAYERS", layer_path(), 1);
        setenv("CASTOR_AUDIT_FILE", report_path(), 1);
        unsetenv("CASTOR_AUDIT_LIMIT");
        unsetenv("CASTOR_AUDIT_FAIL");
        if (name) setenv(name, value, 1);
        execl(self, self, scenario, (char *)NULL);
        _exit(126);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return 125;
    return WEXITSTATUS(status);
}

static json_t *load_report(int child_status)
{
    json_t *j;
    ck_assert_int_eq(child_status, 0);
    ck_ok(cst_json_load(&j, report_path(), JSON_OBJECT));
    return j;
}

static json_t *audit_env(const char *scenario, const char *name, const char *value)
{
    return load_report(run_child(scenario, name, value));
}

static json_t *audit(const char *scenario)
{
    return audit_env(scenario, NULL, NULL);
}

/* NULL, with a word about it, when the child found that what it needs isn't there. */
static json_t *audit_or_skip(const char *scenario)
{
    int r = run_child(scenario, NULL, NULL);
    if (r != SKIP) return load_report(r);
    fprintf(stderr, "%s: not there, not tried\n", scenario);
    return NULL;
}

/* A whole number of the report; "alive.mems" looks one object deeper. */
static long long value(const json_t *j, const char *key)
{
    char outer[64];
    const char *dot = strchr(key, '.');
    if (dot) {
        snprintf(outer, sizeof outer, "%.*s", (int)(dot - key), key);
        j = json_object_get(j, outer);
        key = dot + 1;
    }
    json_t *v = json_object_get(j, key);
    if (!json_is_integer(v)) ck_abort_msg("the report lacks %s", key);
    return json_integer_value(v);
}

#define is(j, key, want)                                                                                  \
    do {                                                                                                  \
        long long got_ = value(j, key);                                                                   \
        if (got_ != (long long)(want)) ck_abort_msg("%s: %lld, wanted %lld", key, got_, (long long)(want)); \
    } while (0)

/* What holds at the end of every orderly child. */
static void is_clean(const json_t *j)
{
    static const char *const zero[] = {"device_bytes_live", "host_registered_bytes_live", "pinned_bytes_live",
                                       "buffers_alive", "subbuffers_alive", "alive.contexts", "alive.queues",
                                       "alive.programs", "alive.kernels", "alive.events", "alive.mems",
                                       "book_errors", "config_errors"};
    for (size_t i = 0; i < sizeof zero / sizeof *zero; i++) is(j, zero[i], 0);
}

START_TEST(peak_is_of_what_lives_together)
{
    json_t *j = audit("buffers");
    is(j, "device_bytes_peak", 3 * MIB);
    is(j, "device_bytes_allocated", 3 * MIB + 512 * KIB);
    is(j, "largest_allocation", 2 * MIB);
    is(j, "buffers_created", 3);
    is(j, "created.contexts", 1);
    is(j, "created.queues", 1);
    is(j, "created.mems", 3);
    is(j, "failed_calls", 0);
    is(j, "calls", 10);
    ck_assert(json_is_false(json_object_get(j, "over_limit")));
    ck_assert(json_is_null(json_object_get(j, "limit_bytes")));
    is_clean(j);
    json_decref(j);
}
END_TEST

START_TEST(retained_buffer_lives_on)
{
    json_t *j = audit("retain");
    is(j, "device_bytes_peak", 1 * MIB + 1 * KIB);
    is_clean(j);
    json_decref(j);
}
END_TEST

START_TEST(subbuffer_holds_its_parent)
{
    json_t *j = audit("subbuffer");
    is(j, "device_bytes_peak", 1 * MIB + 8 * KIB);
    is(j, "device_bytes_allocated", 2 * MIB + 8 * KIB);
    is(j, "buffers_created", 3);
    is(j, "subbuffers_created", 2);
    is_clean(j);
    json_decref(j);

    j = audit("held");
    is(j, "device_bytes_live", 1 * MIB);
    is(j, "buffers_alive", 1);
    is(j, "subbuffers_alive", 1);
    is(j, "alive.mems", 1);
    json_decref(j);
}
END_TEST

START_TEST(host_memory_is_apart)
{
    json_t *j = audit("kinds");
    is(j, "host_registered_bytes_peak", 128 * KIB);
    is(j, "device_bytes_peak", 96 * KIB);
    is(j, "pinned_bytes_peak", 64 * KIB);
    is(j, "init_bytes", 32 * KIB);
    is(j, "copy_calls", 2);
    is(j, "copy_h2d_bytes", 1000);
    is(j, "copy_d2h_bytes", 100);
    is(j, "d2d_bytes", 0);
    is_clean(j);
    json_decref(j);
}
END_TEST

START_TEST(transfers_are_exact)
{
    static const struct {
        const char *key;
        long long want;
    } t[] = {{"h2d_bytes", 1000 + 500 + 128}, {"h2d_calls", 3},         {"h2d_blocking_bytes", 1000},
             {"h2d_blocking_calls", 1},       {"d2h_calls", 3},         {"d2h_bytes", 700 + 50 + 128},
             {"d2h_blocking_calls", 2},       {"copy_calls", 2},        {"d2h_blocking_bytes", 700 + 128},
             {"d2d_bytes", 2048 + 128},       {"fill_calls", 1},        {"fill_bytes", 300},
             {"map_calls", 2},                {"map_bytes", 4040},      {"map_read_bytes", 4000},
             {"map_write_bytes", 40},         {"unmap_calls", 2},       {"map_blocking_calls", 1},
             {"migrate_calls", 2},            {"finish_calls", 2},      {"migrate_undefined_bytes", 8192},
             {"migrate_h2d_bytes", 8192},     {"migrate_d2h_bytes", 0}, {"blocking_calls", 1 + 2 + 1 + 2},
             {"failed_calls", 1},             {"wait_calls", 0},        {"created.events", 0},
             {"kernel_launches", 0}};
    json_t *j = audit("transfers");
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) is(j, t[i].key, t[i].want);
    ck_assert_int_gt(value(j, "blocking_ns"), 0);
    is_clean(j);
    json_decref(j);
}
END_TEST

START_TEST(images_count_their_pixels)
{
    json_t *j = audit_or_skip("images");
    if (!j) return;
    is(j, "images_created", 1);
    is(j, "images_alive", 0);
    ck_assert_int_ge(value(j, "device_bytes_peak"), 512 + 512);
    is(j, "h2d_bytes", 512);
    is(j, "d2h_bytes", 32);
    is(j, "fill_bytes", 32);
    is(j, "d2d_bytes", 512 + 32);
    is(j, "map_read_bytes", 32);
    is_clean(j);
    json_decref(j);
}
END_TEST

START_TEST(kernels_and_events)
{
    json_t *j = audit("kernel");
    is(j, "kernel_launches", 3);
    is(j, "builds", 1);
    is(j, "wait_calls", 1);
    is(j, "blocking_calls", 1);
    is(j, "created.programs", 1);
    is(j, "created.kernels", 1);
    is(j, "created.events", 1);
    is(j, "alive.events", 1); /* retained once too often */
    is(j, "alive.kernels", 0);
    is(j, "alive.programs", 0);
    is(j, "book_errors", 0);
    json_decref(j);
}
END_TEST

START_TEST(leaks_are_seen)
{
    json_t *j = audit("leak");
    is(j, "device_bytes_live", 4196);
    is(j, "buffers_alive", 2);
    is(j, "alive.mems", 2);
    is(j, "alive.contexts", 1);
    is(j, "alive.queues", 0);
    json_decref(j);

    j = audit("null_release");
    is(j, "failed_calls", 1);
    is_clean(j);
    json_decref(j);
}
END_TEST

/* Exactly at the limit is within it; one byte less is not, from the second creation (call 4) on. */
START_TEST(limit_is_seen)
{
    json_t *j = audit_env("buffers", "CASTOR_AUDIT_LIMIT", "3145728");
    is(j, "limit_bytes", 3 * MIB);
    ck_assert(json_is_false(json_object_get(j, "over_limit")));
    json_decref(j);

    j = audit_env("buffers", "CASTOR_AUDIT_LIMIT", "3145727");
    ck_assert(json_is_true(json_object_get(j, "over_limit")));
    is(j, "over_limit_call", 4);
    is(j, "over_limit_bytes", 3 * MIB);
    json_decref(j);

    j = audit_env("none", "CASTOR_AUDIT_LIMIT", "3M");
    is(j, "config_errors", 1);
    json_decref(j);
}
END_TEST

START_TEST(faults_are_injected)
{
    json_t *j = audit_env("faults", "CASTOR_AUDIT_FAIL", "create:2,write:2,read:1,enqueue:4");
    is(j, "faults_injected", 4);
    is(j, "failed_calls", 4);
    is(j, "buffers_created", 1);
    is(j, "h2d_calls", 1);
    is(j, "d2h_calls", 0);
    is(j, "fill_calls", 1);
    is_clean(j);
    json_decref(j);

    j = audit_env("faults_onward", "CASTOR_AUDIT_FAIL", "create:2+");
    is(j, "faults_injected", 3);
    is_clean(j);
    json_decref(j);

    static const char *const bad[] = {"create", "create:", "create:0", "create:2x", "make:1", "create:1,", ":1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        j = audit_env("buffers", "CASTOR_AUDIT_FAIL", bad[i]);
        is(j, "config_errors", 1);
        is(j, "faults_injected", 0);
        json_decref(j);
    }
}
END_TEST

START_TEST(threads_lose_nothing)
{
    json_t *j = audit("threads");
    is(j, "buffers_created", THREADS * ROUNDS);
    is(j, "subbuffers_created", THREADS * ROUNDS);
    is(j, "h2d_bytes", THREADS * ROUNDS * 256);
    is(j, "wait_calls", THREADS * ROUNDS);
    is(j, "created.events", THREADS * ROUNDS);
    is(j, "device_bytes_allocated", THREADS * ROUNDS * 4096);
    ck_assert_int_le(value(j, "device_bytes_peak"), THREADS * 4096);
    is_clean(j);
    json_decref(j);
}
END_TEST

/* Calls that a library makes by itself pass through the layer as well. */
START_TEST(libraries_are_seen)
{
    json_t *j = audit_or_skip("clblast");
    if (!j) return;
    long long temp = value(j, "host_registered_bytes_peak"), own = 2 * GEMM_N * GEMM_N * 4;
    is(j, "buffers_created", 3 + GEMM_CALLS);
    is(j, "device_bytes_allocated", own + GEMM_CALLS * temp);
    is(j, "device_bytes_peak", own + temp);
    ck_assert_int_gt(value(j, "kernel_launches"), GEMM_CALLS);
    ck_assert_int_gt(value(j, "builds"), 0);
    is_clean(j);
    json_decref(j);
}
END_TEST

/* %p in the name stands for the number of the process that wrote it. */
START_TEST(name_takes_the_process_number)
{
    char name[600];
    glob_t g;
    json_t *j;
    snprintf(name, sizeof name, "%s/p-%%p.json", test_dir());
    ck_assert_int_eq(run_child("none", "CASTOR_AUDIT_FILE", name), 0);
    snprintf(name, sizeof name, "%s/p-*", test_dir());
    ck_assert_int_eq(glob(name, 0, NULL, &g), 0);
    ck_assert_uint_eq(g.gl_pathc, 1);
    ck_ok(cst_json_load(&j, g.gl_pathv[0], JSON_OBJECT));
    snprintf(name, sizeof name, "%s/p-%lld.json", test_dir(), value(j, "pid"));
    ck_assert_str_eq(g.gl_pathv[0], name);
    json_decref(j);
    globfree(&g);
}
END_TEST

/* Does the loader that this program runs with know layers at all? Looked up in its own text, so that a
 * layer that fails to load is a failure and not a skip. */
static int loader_has_layers(void)
{
    Dl_info info;
    char *data = NULL;
    size_t size = 0;
    if (!dladdr((void *)clGetPlatformIDs, &info)) return 0;
    if (cst_file_read(&data, &size, info.dli_fname)) return 0;
    int found = memmem(data, size, "OPENCL_LAYERS", 13) != NULL;
    free(data);
    return found;
}

int main(int argc, char **argv)
{
    if (argc > 1) return child_main(argv[1]);
    self = cst_path_exists("/proc/self/exe") ? "/proc/self/exe" : argv[0];
    if (!loader_has_layers()) {
        fprintf(stderr, "skipped: this OpenCL loader has no layers\n");
        return SKIP;
    }
    if (run_child("none", NULL, NULL) == SKIP) {
        fprintf(stderr, "skipped: no OpenCL device\n");
        return SKIP;
    }
    Suite *s = suite_create("audit");
    TCase *t = tcase_create("audit");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, peak_is_of_what_lives_together);
    tcase_add_test(t, retained_buffer_lives_on);
    tcase_add_test(t, subbuffer_holds_its_parent);
    tcase_add_test(t, host_memory_is_apart);
    tcase_add_test(t, transfers_are_exact);
    tcase_add_test(t, images_count_their_pixels);
    tcase_add_test(t, kernels_and_events);
    tcase_add_test(t, leaks_are_seen);
    tcase_add_test(t, limit_is_seen);
    tcase_add_test(t, faults_are_injected);
    tcase_add_test(t, threads_lose_nothing);
    tcase_add_test(t, libraries_are_seen);
    tcase_add_test(t, name_takes_the_process_number);
    suite_add_tcase(s, t);
    return test_run(s);
}
