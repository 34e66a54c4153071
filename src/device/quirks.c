#include "device/quirks.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define POCL "Portable Computing Language"
#define GPU CL_DEVICE_TYPE_GPU
#define H200 "H100 and H200, driver 580.159.04 (bench/LOG.md)"

const cst_quirk cst_quirks[] = {
    {.name = "opencl-1.0", .flag = CST_QUIRK_REFUSED, .version = "OpenCL 1.0",
     .what = "the driver has OpenCL 1.0; calls that came with 1.2 would crash",
     .does = "refused; install a newer driver (castor devices --doctor names it)",
     .evidence = "OpenCL 1.2 specification, appendix F", .test = "check_quirks"},
    {.name = "opencl-1.1", .flag = CST_QUIRK_REFUSED, .version = "OpenCL 1.1",
     .what = "the driver has OpenCL 1.1, as Mesa's Clover and NVIDIA's drivers before 350 do; calls that came with 1.2 would crash",
     .does = "refused; install a newer driver, for Clover's GPUs Mesa's rusticl (castor devices --doctor names it)",
     .evidence = "OpenCL 1.2 specification, appendix F", .test = "check_quirks"},
    {.name = "loops-end", .flag = CST_QUIRK_SHARE_ROWS, .platform = "rusticl", .type = CL_DEVICE_TYPE_CPU,
     .what = "llvmpipe ends a work-item's loops, silently, once they have turned 65,535 times together",
     .does = "rows are shared by work-groups, as on a GPU",
     .evidence = "Mesa 22.3.6, llvmpipe", .test = "check_rusticl.sh"},
    {.name = "first-releases", .flag = CST_QUIRK_OLD, .platform = "rusticl", .before = "23.1",
     .what = "this is one of rusticl's first releases, with errors in loops and in waiting",
     .does = "castor devices --doctor advises Mesa 23.1 or newer",
     .evidence = "Mesa 22.3.6: loops-end, wait-needs-flush, finish-returns-early", .test = "check_quirks"},
    {.name = "wait-needs-flush", .platform = "rusticl",
     .what = "a command waits forever for an event of another queue that wasn't flushed",
     .does = "queues are flushed behind every event that another one waits for, on all devices",
     .evidence = "Mesa 22.3.6, llvmpipe", .test = "check_rusticl.sh: check_memory"},
    {.name = "finish-returns-early", .platform = "rusticl",
     .what = "clFinish behind clFlush doesn't wait",
     .does = "the end is waited for by events, on all devices",
     .evidence = "Mesa 22.3.6, llvmpipe", .test = "check_rusticl.sh: check_memory"},
    {.name = "threads-wander", .platform = POCL, .setting = "POCL_AFFINITY", .value = "1",
     .what = "kernels of a millisecond sometimes run at half speed, because threads change cores",
     .does = "POCL_AFFINITY=1 is set, unless it is set already",
     .evidence = "PoCL 3.1, 2 of 3 runs", .test = "check_quirks"},
    {.name = "prefetch", .flag = CST_QUIRK_PREFETCH, .platform = POCL, .type = CL_DEVICE_TYPE_CPU,
     .what = "the compiler is clang, whose prefetch builtin is one instruction of the processor",
     .does = "matrix products prefetch their panels: 148 -> 178 GFLOP/s",
     .evidence = "PoCL 3.1 (bench/LOG.md)", .test = "check_gemm"},
    {.name = "slow-groups", .flag = CST_QUIRK_SLOW_GROUPS, .type = CL_DEVICE_TYPE_CPU,
     .what = "optimising attention with work-groups takes a CPU's compiler 20 seconds a head size",
     .does = "it is built without optimisation; only tests and llvmpipe use it",
     .evidence = "PoCL 3.1", .test = "check_gpu_shape.sh, check_rusticl.sh"},
    {.name = "kernel-per-group-size", .platform = POCL,
     .what = "a kernel is compiled anew for every size of its groups",
     .does = "one size of groups for tensors of all lengths, on all devices",
     .evidence = "PoCL 3.1", .test = "check_program"},
    {.name = "compiles-at-launch", .platform = POCL,
     .what = "a kernel is compiled at its first launch; a binary saved before holds no machine code",
     .does = "binaries are saved when kernels have run, on all devices",
     .evidence = "PoCL 3.1: reload 0.016 s instead of 1.5 s", .test = "check_program"},
    {.name = "memory-is-lazy", .platform = POCL,
     .what = "buffers are made without memory, more than there is too; the process is aborted when they are written",
     .does = "budgets are held to what the machine has free, wherever a device computes in host memory",
     .evidence = "PoCL 3.1, ulimit -d", .test = "check_memory"},
    {.name = "marker-waits", .platform = "NVIDIA", .vendor = "NVIDIA",
     .what = "a download that waits for a marker, or for a kernel, waits for all uploads issued before it as well",
     .does = "marks on the compute queue are barriers, on all devices",
     .evidence = H200 ": 18.0 instead of 13.6 ms", .test = "bench step at a tight budget"},
    {.name = "release-waits", .platform = "NVIDIA", .vendor = "NVIDIA",
     .what = "releasing a buffer waits for every running kernel, in use or not",
     .does = "slabs live as long as the manager; nothing is released during a step, on all devices",
     .evidence = H200, .test = "check_audit"},
    {.name = "fill-8gib", .platform = "NVIDIA", .vendor = "NVIDIA",
     .what = "clEnqueueFillBuffer beyond 8 GiB of a buffer faults or writes elsewhere",
     .does = "no buffer is larger than 4 GiB, on all devices",
     .evidence = H200, .test = "by construction: cst_mem_create sets it"},
    {.name = "hang-check-amd", .flag = CST_QUIRK_WATCHDOG, .vendor = "Advanced Micro", .type = GPU,
     .what = "the kernel driver resets a GPU whose work takes longer than 10 s (lockup_timeout); a desktop stands still meanwhile",
     .does = "large launches are cut into parts",
     .evidence = "Linux, parameters of amdgpu", .test = "check_quirks, check_op_attention, check_gemm"},
    {.name = "hang-check-amd", .flag = CST_QUIRK_WATCHDOG, .platform = "rusticl", .vendor = "AMD", .type = GPU,
     .what = "the kernel driver resets a GPU whose work takes longer than 10 s (lockup_timeout); a desktop stands still meanwhile",
     .does = "large launches are cut into parts",
     .evidence = "Linux, parameters of amdgpu", .test = "check_quirks, check_op_attention, check_gemm"},
    {.name = "hang-check-intel", .flag = CST_QUIRK_WATCHDOG, .vendor = "Intel", .type = GPU,
     .what = "the kernel driver resets a GPU whose work can't be interrupted within seconds",
     .does = "large launches are cut into parts",
     .evidence = "Linux, i915's Kconfig.profile; Intel's oneAPI installation guide, \"Allow Long-running GPU Kernels\"",
     .test = "check_quirks, check_op_attention, check_gemm"},
    {.name = NULL}};

int cst_version_compare(const char *a, const char *b)
{
    for (;;) {
        while (*a && !isdigit((unsigned char)*a)) a++;
        while (*b && !isdigit((unsigned char)*b)) b++;
        if (!*a || !*b) return (*a != 0) - (*b != 0);
        char *ea, *eb;
        unsigned long long x = strtoull(a, &ea, 10), y = strtoull(b, &eb, 10);
        if (x != y) return x < y ? -1 : 1;
        a = ea, b = eb;
    }
}

int cst_quirk_applies(const cst_quirk *q, const cst_device_info *d)
{
    if (q->platform && !cst_word_in(d->platform, q->platform)) return 0;
    if (q->vendor && !cst_word_in(d->vendor, q->vendor)) return 0;
    if (q->version && !cst_word_in(d->version, q->version)) return 0;
    if (q->type && !(d->type & q->type)) return 0;
    if (q->from && cst_version_compare(d->driver, q->from) < 0) return 0;
    return !q->before || cst_version_compare(d->driver, q->before) < 0;
}

unsigned cst_quirk_flags(const cst_device_info *d)
{
    unsigned flags = 0;
    for (const cst_quirk *q = cst_quirks; q->name; q++)
        if (q->flag && cst_quirk_applies(q, d)) flags |= q->flag;
    return flags;
}

cst_status cst_quirk_refusal(const cst_device_info *d)
{
    for (const cst_quirk *q = cst_quirks; q->name; q++)
        if (q->flag == CST_QUIRK_REFUSED && cst_quirk_applies(q, d))
            return cst_fail(CST_UNSUPPORTED, "\"%s\" (%s, driver %s): %s; %s", d->name, d->platform, d->driver, q->what, q->does);
    return CST_OK;
}
