/* Devices: what there is, which one to use, and what it can do. */
#ifndef CST_DEVICE_DEVICE_H
#define CST_DEVICE_DEVICE_H

#ifndef CL_TARGET_OPENCL_VERSION
#define CL_TARGET_OPENCL_VERSION 120
#endif
#include <CL/cl.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct cst_device_info {
    cl_platform_id platform_id;
    cl_device_id id;
    int index;               /* position in the list of all devices, what --device N means */
    char platform[128], name[256], vendor[128], driver[128], version[128], c_version[128];
    cl_device_type type;
    uint64_t mem_bytes;      /* global memory as reported */
    uint64_t max_alloc;      /* largest single buffer as reported, bytes */
    uint64_t local_bytes;    /* work-group local memory */
    uint64_t cache_bytes;    /* last-level cache as reported */
    uint32_t units;          /* compute units */
    uint32_t clock_mhz;
    size_t max_group;        /* largest work-group */
    size_t align;            /* sub-buffer alignment in bytes */
    int fp16, fp64;          /* arithmetic in these types */
    int exact_divide;        /* correctly rounded fp32 divide and square root */
    int unified;             /* device and host share their memory */
    cl_uint vector;          /* numbers of a vector register, as the driver says; 1 where it speaks of scalars */
    size_t sub_group;        /* smallest sub-group, where the driver tells (Intel's), else 0 */
    unsigned quirks;         /* CST_QUIRK_ flags, see quirks.h */
} cst_device_info;

/* How kernels are built (-DWG, -DVW) and launched. */
typedef struct cst_shape {
    int group;               /* work-items of a row reduction: 1 on a CPU, else a power of two */
    int vec;                 /* floats a work-item handles at once: 16 on a CPU, else 4 */
} cst_shape;

/* A device in use: its context, its three in-order queues and the shape its kernels take. */
typedef struct cst_device {
    cst_device_info info;
    cl_context context;
    cl_command_queue compute, up, down;
    int is_cpu;              /* one work-item per group and wide vectors, instead of work-groups */
    int group, vec;          /* the shape of kernels, as in cst_shape, but of those in `reshaped` */
    int registers;           /* numbers that a work-item keeps in registers at most */
    int narrow;              /* a CPU whose vectors have less than 16 numbers: kernels get -DNARROW=1 and keep fewer sums in registers */
    char reshaped[16][24];   /* files of cl/ that are built in the other shape, see cst_device_reshape */
    int reshapes;
    struct json_t *verdicts; /* see verdict.h; NULL before they were asked for */
    double launch_flops;     /* most operations of one launch, so that it stays short; 0: any. See CST_QUIRK_WATCHDOG */
    int profile;             /* queues keep times (bench only: a launch then costs three times as much) */
    void *gemm;              /* the gemm room's choices for this device, made when first asked for, ... */
    void (*gemm_free)(void *gemm); /* ... and what frees them */
    uint64_t released;       /* device buffers released so far: their handles may come back for others */
    struct cst_program_table *programs; /* built kernels, see program.h */
} cst_device;

/* Settings that runtimes read at their first call (those of cst_quirks). Call before any other function here,
 * early in main; never overrides what the user has set. */
void cst_device_prepare(void);

/* All devices of all platforms, platforms without devices left out. *list is malloc'd, the caller frees
 * it; *n may be 0, which is not an error. */
cst_status cst_device_list(cst_device_info **list, size_t *n);

/* Pick from a list. spec: NULL or "" = the GPU with most memory, else an accelerator, else a CPU, none that is refused
 * (quirks.h) while there is another one; a number = index; otherwise a part of the platform's or the device's name, upper or lower case. NO_DEVICE names
 * what there is. */
cst_status cst_device_choose(size_t *pick, const cst_device_info *list, size_t n, const char *spec);

/* Open the device that spec names (as in cst_device_choose). profile != 0: queues with times. UNSUPPORTED where a quirk
 * refuses it. */
cst_status cst_device_open(cst_device **out, const char *spec, int profile);
/* A device that isn't there, with the shape that one described like this gets: enough for a manager that is planning,
 * nothing else. info NULL: a GPU with any amount of memory. */
cst_status cst_device_imagine(cst_device **out, const cst_device_info *info);
/* Wait for its queues, release everything. NULL is fine. */
void cst_device_close(cst_device *dev);

/* The shape of the kernels in cl/<file>.cl. */
cst_shape cst_device_shape(const cst_device *dev, const char *file);
/* Build and launch the kernels of cl/<file>.cl in the other shape from now on (that of CPUs or that of GPUs), or again in the
 * device's own. UNSUPPORTED where a quirk or the size of groups rules that out. */
cst_status cst_device_reshape(cst_device *dev, const char *file);

/* Is `part` in `text`, in upper or lower case? */
int cst_word_in(const char *text, const char *part);
/* "NVIDIA H200" as "nvidia-h200", behind what is in dst. */
void cst_word_add(char *dst, size_t size, const char *name);
/* Device and driver as a word for names of files: "nvidia-h200-580-159-04". */
void cst_device_word(char *dst, size_t size, const cst_device_info *d);
/* "GPU", "CPU", "accelerator". */
const char *cst_device_type_name(cl_device_type type);
/* CST_DEVICE with a detail that names the call and OpenCL's error ("clBuildProgram: CL_OUT_OF_RESOURCES
 * (-5)"); CL_SUCCESS gives CST_OK. */
cst_status cst_cl(cl_int err, const char *call);

#endif
