#include "device/device.h"

#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "device/program.h"
#include "device/quirks.h"

void cst_device_prepare(void)
{
    for (const cst_quirk *q = cst_quirks; q->name; q++)
        if (q->setting) setenv(q->setting, q->value, 0);
}

static void text_info(char *dst, size_t size, cl_device_id id, cl_device_info what)
{
    char buf[1024] = "";
    if (clGetDeviceInfo(id, what, sizeof buf - 1, buf, NULL) != CL_SUCCESS) buf[0] = 0;
    char *s = buf;
    while (*s == ' ') s++;
    snprintf(dst, size, "%.*s", (int)size - 1, s);
    for (size_t n = strlen(dst); n && dst[n - 1] == ' ';) dst[--n] = 0;
}

#define SUB_GROUP_SIZES_INTEL 0x4108 /* cl_intel_required_subgroup_size */

/* Smallest sub-group that kernels may ask for, 0: unknown. */
static size_t least_sub_group(cl_device_id id)
{
    size_t list[8], n = 0, least = 0;
    if (clGetDeviceInfo(id, SUB_GROUP_SIZES_INTEL, sizeof list, list, &n) != CL_SUCCESS) return 0;
    for (size_t i = 0; i < n / sizeof *list; i++)
        if (!least || list[i] < least) least = list[i];
    return least;
}

#define KERNEL_EXEC_TIMEOUT_NV 0x4005 /* of cl_nv_device_attribute_query: the GPU drives a display */
#define SCALAR(id, what, var) clGetDeviceInfo(id, what, sizeof(var), &(var), NULL)

static void describe(cst_device_info *d, cl_platform_id p, cl_device_id id)
{
    memset(d, 0, sizeof *d);
    d->platform_id = p;
    d->id = id;
    clGetPlatformInfo(p, CL_PLATFORM_NAME, sizeof d->platform - 1, d->platform, NULL);
    text_info(d->name, sizeof d->name, id, CL_DEVICE_NAME);
    text_info(d->vendor, sizeof d->vendor, id, CL_DEVICE_VENDOR);
    text_info(d->driver, sizeof d->driver, id, CL_DRIVER_VERSION);
    text_info(d->version, sizeof d->version, id, CL_DEVICE_VERSION);
    text_info(d->c_version, sizeof d->c_version, id, CL_DEVICE_OPENCL_C_VERSION);
    cl_ulong mem = 0, alloc = 0, local = 0, cache = 0;
    cl_uint align_bits = 0;
    cl_bool unified = CL_FALSE;
    cl_device_fp_config single = 0, dbl = 0;
    SCALAR(id, CL_DEVICE_TYPE, d->type);
    SCALAR(id, CL_DEVICE_GLOBAL_MEM_SIZE, mem);
    SCALAR(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, alloc);
    SCALAR(id, CL_DEVICE_LOCAL_MEM_SIZE, local);
    SCALAR(id, CL_DEVICE_GLOBAL_MEM_CACHE_SIZE, cache);
    SCALAR(id, CL_DEVICE_MAX_COMPUTE_UNITS, d->units);
    SCALAR(id, CL_DEVICE_MAX_CLOCK_FREQUENCY, d->clock_mhz);
    SCALAR(id, CL_DEVICE_MAX_WORK_GROUP_SIZE, d->max_group);
    SCALAR(id, CL_DEVICE_MEM_BASE_ADDR_ALIGN, align_bits);
    SCALAR(id, CL_DEVICE_HOST_UNIFIED_MEMORY, unified);
    SCALAR(id, CL_DEVICE_SINGLE_FP_CONFIG, single);
    SCALAR(id, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, d->vector);
    SCALAR(id, CL_DEVICE_DOUBLE_FP_CONFIG, dbl);
    d->mem_bytes = mem;
    d->max_alloc = alloc;
    d->local_bytes = local;
    d->cache_bytes = cache;
    d->align = align_bits / 8 ? align_bits / 8 : 1; /* the query answers in bits */
    d->unified = unified == CL_TRUE;
    d->exact_divide = (single & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT) != 0;
    d->fp64 = dbl != 0;
    size_t n = 0;
    char *ext = NULL;
    if (clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, 0, NULL, &n) == CL_SUCCESS && (ext = calloc(1, n + 1)))
        clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, n, ext, NULL);
    d->fp16 = ext && strstr(ext, "cl_khr_fp16") != NULL;
    d->sub_group = ext && strstr(ext, "cl_intel_required_subgroup_size") ? least_sub_group(id) : 0;
    d->quirks = cst_quirk_flags(d);
    cl_bool killed = CL_FALSE;
    if (ext && strstr(ext, "cl_nv_device_attribute_query") && SCALAR(id, KERNEL_EXEC_TIMEOUT_NV, killed) == CL_SUCCESS && killed)
        d->quirks |= CST_QUIRK_WATCHDOG;
    free(ext);
}

cst_status cst_device_list(cst_device_info **list, size_t *n)
{
    cl_platform_id platforms[64];
    cl_uint np = 0;
    cst_device_info *all = NULL;
    size_t count = 0;
    *list = NULL;
    *n = 0;
    cl_int err = clGetPlatformIDs(64, platforms, &np);
    if (err != CL_SUCCESS) np = 0; /* -1001: the loader found no platform */
    if (np > 64) np = 64;
    for (cl_uint p = 0; p < np; p++) {
        cl_device_id ids[64];
        cl_uint nd = 0;
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, 64, ids, &nd) != CL_SUCCESS) continue;
        if (nd > 64) nd = 64;
        cst_device_info *more = realloc(all, (count + nd) * sizeof *all);
        if (!more && nd) {
            free(all);
            return cst_fail(CST_NO_MEMORY, "list of devices");
        }
        all = more;
        for (cl_uint i = 0; i < nd; i++) {
            describe(&all[count], platforms[p], ids[i]);
            all[count].index = (int)count;
            count++;
        }
    }
    *list = all;
    *n = count;
    return CST_OK;
}

int cst_word_in(const char *text, const char *part)
{
    size_t n = strlen(part);
    for (; *text; text++) {
        size_t i = 0;
        while (i < n && text[i] && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i])) i++;
        if (i == n) return 1;
    }
    return 0;
}

/* A compute unit that did one multiplication and one addition a clock would be the slowest there is: GPUs have 8 to 128 lanes
 * in one, of which large kernels keep a tenth busy at least. */
#define LAUNCH_SECONDS 0.25

static int rank(cl_device_type t)
{
    return t & CL_DEVICE_TYPE_GPU ? 3 : t & CL_DEVICE_TYPE_ACCELERATOR ? 2 : t & CL_DEVICE_TYPE_CPU ? 1 : 0;
}

static int preference(const cst_device_info *d)
{
    return d->quirks & CST_QUIRK_REFUSED ? -1 : rank(d->type);
}

cst_status cst_device_choose(size_t *pick, const cst_device_info *list, size_t n, const char *spec)
{
    if (!n)
        return cst_fail(CST_NO_DEVICE, "no OpenCL device found: castor devices --doctor tells why, and what to install");
    if (!spec || !*spec) {
        *pick = 0;
        for (size_t i = 1; i < n; i++) {
            int a = preference(&list[i]), b = preference(&list[*pick]);
            if (a > b || (a == b && list[i].mem_bytes > list[*pick].mem_bytes)) *pick = i;
        }
        return CST_OK;
    }
    if (strspn(spec, "0123456789") == strlen(spec)) {
        unsigned long i = strtoul(spec, NULL, 10);
        if (i < n) {
            *pick = i;
            return CST_OK;
        }
        return cst_fail(CST_NO_DEVICE, "device %s: there are %zu, numbered from 0 (see `castor devices`)", spec, n);
    }
    for (size_t i = 0; i < n; i++)
        if (cst_word_in(list[i].name, spec) || cst_word_in(list[i].platform, spec)) {
            *pick = i;
            return CST_OK;
        }
    char names[1024] = "";
    for (size_t i = 0, at = 0; i < n && at < sizeof names; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", list[i].name);
    return cst_fail(CST_NO_DEVICE, "device \"%s\": no platform or device has it in its name; there is: %s", spec, names);
}

static void CL_CALLBACK context_error(const char *info, const void *priv, size_t cb, void *user)
{
    (void)priv, (void)cb, (void)user;
    cst_log(CST_LOG_DEBUG, "OpenCL: %s", info);
}

static const cst_shape cpu_shape = {1, 16};

static cst_shape gpu_shape(const cst_device_info *d)
{
    cst_shape s = {1, 4};
    while (s.group < 128 && (size_t)s.group * 2 <= d->max_group) s.group *= 2;
    return s;
}

/* Position in dev->reshaped, -1: none. */
static int reshaped(const cst_device *dev, const char *file)
{
    for (int i = 0; i < dev->reshapes; i++)
        if (!strcmp(dev->reshaped[i], file)) return i;
    return -1;
}

cst_shape cst_device_shape(const cst_device *dev, const char *file)
{
    if (!dev->reshapes || reshaped(dev, file) < 0) return (cst_shape){dev->group, dev->vec};
    return dev->group > 1 ? cpu_shape : gpu_shape(&dev->info);
}

cst_status cst_device_reshape(cst_device *dev, const char *file)
{
    int i = reshaped(dev, file), most = (int)(sizeof dev->reshaped / sizeof *dev->reshaped);
    if (i < 0 && dev->info.quirks & CST_QUIRK_SHARE_ROWS) return cst_fail(CST_UNSUPPORTED, "\"%s\" runs kernels in groups only", dev->info.name);
    if (i < 0 && dev->group == 1 && gpu_shape(&dev->info).group == 1)
        return cst_fail(CST_UNSUPPORTED, "\"%s\" has no groups of more than one work-item", dev->info.name);
    if (i < 0 && dev->reshapes == most) return cst_fail(CST_STATE, "too many kernels in another shape");
    if (i < 0) snprintf(dev->reshaped[dev->reshapes++], sizeof *dev->reshaped, "%s", file);
    else memmove(dev->reshaped[i], dev->reshaped[--dev->reshapes], sizeof *dev->reshaped);
    cst_kernel_forget(dev, file);
    return CST_OK;
}

/* What kernels are told of the device. */
static void shape_set(cst_device *dev)
{
    const cst_device_info *d = &dev->info;
    dev->is_cpu = (d->type & CL_DEVICE_TYPE_CPU) != 0;
    /* The tests ask for a GPU's shape on CPUs too. */
    int as_gpu = !dev->is_cpu || d->quirks & CST_QUIRK_SHARE_ROWS || getenv("CASTOR_GPU_SHAPE");
    cst_shape shape = as_gpu ? gpu_shape(d) : cpu_shape;
    dev->group = shape.group;
    dev->vec = shape.vec;
    /* Intel's GPUs have 128 registers as wide as their smallest sub-group; AMD's and NVIDIA's have about 255 */
    dev->registers = d->sub_group ? 128 : 255;
    dev->narrow = dev->is_cpu && d->vector > 1 && d->vector < 16;
}

cst_status cst_device_open(cst_device **out, const char *spec, int profile)
{
    cst_device_info *list;
    size_t n, pick = 0;
    cst_device *dev = NULL;
    cl_int err;
    CST_TRY(cst_device_list(&list, &n));
    cst_status st;
    CST_GO(cst_device_choose(&pick, list, n, spec), out);
    dev = calloc(1, sizeof *dev);
    if (!dev) {
        st = cst_fail(CST_NO_MEMORY, "device");
        goto out;
    }
    dev->info = list[pick];
    CST_GO(cst_quirk_refusal(&dev->info), out);
    dev->profile = profile;
    shape_set(dev);
    if (dev->info.quirks & CST_QUIRK_WATCHDOG) dev->launch_flops = LAUNCH_SECONDS * 2e6 * dev->info.clock_mhz * dev->info.units;
    cl_context_properties props[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)dev->info.platform_id, 0};
    dev->context = clCreateContext(props, 1, &dev->info.id, context_error, NULL, &err);
    CST_GO(cst_cl(err, "clCreateContext"), out);
    cl_command_queue *queues[] = {&dev->compute, &dev->up, &dev->down};
    for (int i = 0; i < 3; i++) {
        /* downloads are few, and their times are how a training step is timed */
        int times = profile || queues[i] == &dev->down;
        *queues[i] = clCreateCommandQueue(dev->context, dev->info.id, times ? CL_QUEUE_PROFILING_ENABLE : 0, &err);
        CST_GO(cst_cl(err, "clCreateCommandQueue"), out);
    }
    CST_GO(cst_program_table_create(&dev->programs), out);
    *out = dev;
    dev = NULL;
out:
    cst_device_close(dev);
    free(list);
    return st;
}

/* "NVIDIA H200" -> "nvidia-h200", behind what is in dst */
void cst_word_add(char *dst, size_t size, const char *name)
{
    size_t n = strlen(dst), start = n;
    for (; *name && n + 1 < size; name++) {
        int c = tolower((unsigned char)*name);
        if (isalnum(c)) dst[n++] = (char)c;
        else if (n > start && dst[n - 1] != '-') dst[n++] = '-';
    }
    while (n > start && dst[n - 1] == '-') n--;
    dst[n] = 0;
}

void cst_device_word(char *dst, size_t size, const cst_device_info *d)
{
    *dst = 0;
    cst_word_add(dst, size - 1, d->name);
    strcat(dst, "-");
    cst_word_add(dst, size, d->driver);
}

cst_status cst_device_imagine(cst_device **out, const cst_device_info *info)
{
    static const cst_device_info gpu = {.name = "no device", .type = CL_DEVICE_TYPE_GPU, .mem_bytes = (uint64_t)1 << 50,
                                        .max_alloc = (uint64_t)1 << 50, .local_bytes = 48 << 10, .units = 32, .max_group = 256,
                                        .align = 256};
    cst_device *dev = calloc(1, sizeof *dev);
    if (!dev) return cst_fail(CST_NO_MEMORY, "device");
    dev->info = info ? *info : gpu;
    shape_set(dev);
    cst_status st = cst_program_table_create(&dev->programs);
    if (st == CST_OK) *out = dev;
    else cst_device_close(dev);
    return st;
}

void cst_device_close(cst_device *dev)
{
    if (!dev) return;
    cl_command_queue queues[] = {dev->compute, dev->up, dev->down};
    for (int i = 0; i < 3; i++)
        if (queues[i]) {
            clFinish(queues[i]);
            clReleaseCommandQueue(queues[i]);
        }
    if (dev->gemm_free) dev->gemm_free(dev->gemm);
    cst_program_table_free(dev->programs);
    json_decref(dev->verdicts);
    if (dev->context) clReleaseContext(dev->context);
    free(dev);
}

const char *cst_device_type_name(cl_device_type t)
{
    static const char *const name[] = {"other", "CPU", "accelerator", "GPU"};
    return name[rank(t)];
}

static const struct {
    cl_int code;
    const char *name;
} cl_errors[] = {
#define E(x) {x, #x}
    E(CL_DEVICE_NOT_FOUND), E(CL_DEVICE_NOT_AVAILABLE), E(CL_COMPILER_NOT_AVAILABLE),
    E(CL_MEM_OBJECT_ALLOCATION_FAILURE), E(CL_OUT_OF_RESOURCES), E(CL_OUT_OF_HOST_MEMORY),
    E(CL_PROFILING_INFO_NOT_AVAILABLE), E(CL_MEM_COPY_OVERLAP), E(CL_BUILD_PROGRAM_FAILURE), E(CL_MAP_FAILURE),
    E(CL_MISALIGNED_SUB_BUFFER_OFFSET), E(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST), E(CL_INVALID_VALUE),
    E(CL_INVALID_PLATFORM), E(CL_INVALID_DEVICE), E(CL_INVALID_CONTEXT), E(CL_INVALID_COMMAND_QUEUE),
    E(CL_INVALID_MEM_OBJECT), E(CL_INVALID_BINARY), E(CL_INVALID_BUILD_OPTIONS), E(CL_INVALID_PROGRAM),
    E(CL_INVALID_KERNEL_NAME), E(CL_INVALID_KERNEL), E(CL_INVALID_ARG_INDEX), E(CL_INVALID_ARG_VALUE),
    E(CL_INVALID_ARG_SIZE), E(CL_INVALID_KERNEL_ARGS), E(CL_INVALID_WORK_DIMENSION), E(CL_INVALID_WORK_GROUP_SIZE),
    E(CL_INVALID_WORK_ITEM_SIZE), E(CL_INVALID_EVENT_WAIT_LIST), E(CL_INVALID_EVENT), E(CL_INVALID_OPERATION),
    E(CL_INVALID_BUFFER_SIZE), E(CL_INVALID_GLOBAL_WORK_SIZE), E(CL_INVALID_PROGRAM_EXECUTABLE),
#undef E
};

cst_status cst_cl(cl_int err, const char *call)
{
    if (err == CL_SUCCESS) return CST_OK;
    const char *name = "unknown error";
    for (size_t i = 0; i < sizeof cl_errors / sizeof *cl_errors; i++)
        if (cl_errors[i].code == err) name = cl_errors[i].name;
    return cst_fail(CST_DEVICE, "%s: %s (%d)", call, name, (int)err);
}
