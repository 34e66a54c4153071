/* Builds a program with an installed OpenCL driver, and says what its kernels take.
 *
 *     driver DEVICE                 the device, as a line of tests/vendors/targets, behind a comment that names it
 *     driver DEVICE FILE OPTIONS    builds FILE; a line for each kernel, as compile.sh writes them: its name, registers ("-": unknown
 *                                   here), bytes of scratch, of local memory, 0, work-items of a hardware thread, most work-items of
 *                                   a group, bytes of private memory, separated by tabs. The build log goes to stderr.
 *
 * DEVICE is what castor --device takes, "" the best one. A CPU keeps private memory on its stack, on a GPU it is scratch.
 * On NVIDIA the log is ptxas's, which compile.sh reads: it alone tells registers and spills.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "device/quirks.h"

#define CAPABILITY_MAJOR_NV 0x4000 /* cl_nv_device_attribute_query */
#define CAPABILITY_MINOR_NV 0x4001
#define SPILLED_INTEL 0x4109       /* cl_intel_required_subgroup_size */

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "driver: %s: %s\n", what, cst_detail());
    exit(1);
}

static void ok(cst_status st, const char *what)
{
    if (st != CST_OK) die(what);
}

static int has(const cst_device_info *d, const char *extension)
{
    char all[16384] = "";
    return clGetDeviceInfo(d->id, CL_DEVICE_EXTENSIONS, sizeof all - 1, all, NULL) == CL_SUCCESS && strstr(all, extension);
}

static cst_device_info device_of(const char *spec)
{
    cst_device_info *list, d;
    size_t n, pick;
    cst_device_prepare();
    ok(cst_device_list(&list, &n), "devices");
    ok(cst_device_choose(&pick, list, n, spec), "device");
    d = list[pick];
    free(list);
    ok(cst_quirk_refusal(&d), "device");
    return d;
}

/* What is "-" is known of some GPUs, in tests/vendors/targets. */
static void describe(const cst_device_info *d)
{
    char arch[32] = "-";
    cl_uint major = 0, minor = 0;
    if (d->type & CL_DEVICE_TYPE_CPU) snprintf(arch, sizeof arch, "cpu");
    else if (has(d, "cl_nv_device_attribute_query") &&
             clGetDeviceInfo(d->id, CAPABILITY_MAJOR_NV, sizeof major, &major, NULL) == CL_SUCCESS &&
             clGetDeviceInfo(d->id, CAPABILITY_MINOR_NV, sizeof minor, &minor, NULL) == CL_SUCCESS)
        snprintf(arch, sizeof arch, "sm_%u%u", major, minor);
    printf("# \"%s\" (%s, driver %s)\n", d->name, d->platform, d->driver);
    printf("driver driver %s %zu %llu - %zu - - - - -\n", arch, d->max_group, (unsigned long long)d->local_bytes, d->sub_group);
}

static void print_log(cl_program p, const cst_device_info *d)
{
    size_t n = 0;
    char *log = NULL;
    clGetProgramBuildInfo(p, d->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &n);
    if (n && (log = calloc(1, n + 1))) clGetProgramBuildInfo(p, d->id, CL_PROGRAM_BUILD_LOG, n, log, NULL);
    if (log && *log) fprintf(stderr, "%s\n", log);
    free(log);
}

#define ASK(what, var) ok(cst_cl(clGetKernelWorkGroupInfo(k, d->id, what, sizeof(var), &(var), NULL), #what), name)

static void print_kernel(cl_kernel k, const cst_device_info *d)
{
    char name[256] = "";
    cl_ulong local = 0, private = 0, spilled = 0;
    size_t most = 0, width = 0;
    ok(cst_cl(clGetKernelInfo(k, CL_KERNEL_FUNCTION_NAME, sizeof name - 1, name, NULL), "clGetKernelInfo"), "kernel");
    ASK(CL_KERNEL_LOCAL_MEM_SIZE, local);
    ASK(CL_KERNEL_PRIVATE_MEM_SIZE, private);
    ASK(CL_KERNEL_WORK_GROUP_SIZE, most);
    ASK(CL_KERNEL_PREFERRED_WORK_GROUP_SIZE_MULTIPLE, width);
    if (d->sub_group) ASK(SPILLED_INTEL, spilled);
    const cl_ulong scratch = d->type & CL_DEVICE_TYPE_CPU ? 0 : private + spilled;
    printf("%s\t-\t%llu\t%llu\t0\t%zu\t%zu\t%llu\n", name, (unsigned long long)scratch, (unsigned long long)local, width, most,
           (unsigned long long)private);
}

static void build(const cst_device_info *d, const char *file, const char *options)
{
    char *text, all[640];
    size_t size;
    cl_int err;
    cl_uint n = 0;
    cl_kernel kernels[32];
    const cl_context_properties props[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)d->platform_id, 0};
    ok(cst_file_read(&text, &size, file), file);
    snprintf(all, sizeof all, "%s%s", options, has(d, "cl_nv_compiler_options") ? " -cl-nv-verbose" : "");
    cl_context context = clCreateContext(props, 1, &d->id, NULL, NULL, &err);
    ok(cst_cl(err, "clCreateContext"), d->name);
    cl_program p = clCreateProgramWithSource(context, 1, &(const char *){text}, NULL, &err);
    ok(cst_cl(err, "clCreateProgramWithSource"), file);
    err = clBuildProgram(p, 1, &d->id, all, NULL, NULL);
    print_log(p, d);
    ok(cst_cl(err, "clBuildProgram"), file);
    ok(cst_cl(clCreateKernelsInProgram(p, 32, kernels, &n), "clCreateKernelsInProgram"), file);
    for (cl_uint i = 0; i < n; i++) {
        print_kernel(kernels[i], d);
        clReleaseKernel(kernels[i]);
    }
    clReleaseProgram(p);
    clReleaseContext(context);
    free(text);
}

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 4) {
        fprintf(stderr, "usage: driver DEVICE [FILE OPTIONS]\n");
        return 2;
    }
    const cst_device_info d = device_of(argv[1]);
    if (argc == 2) describe(&d);
    else build(&d, argv[2], argv[3]);
    return fflush(stdout) || ferror(stdout);
}
