/* One kernel, from named arguments to the queue: acquire, bind, enqueue, release.
 *
 *     cst_launch l;
 *     cst_launch_begin(&l, mem, "layer_norm", "layer_norm_forward", NULL);
 *     cst_launch_read(&l, "x", x, 0);
 *     cst_launch_write(&l, "y", y, 0);
 *     cst_launch_int(&l, "n", n);
 *     return cst_launch_run(&l, 1, (size_t[]){rows * group}, (size_t[]){group});
 *
 * Errors stick: the first one is what run returns, so nothing needs checking in between. Every argument of
 * the kernel must be given exactly once, by its name in the source, and be of the right kind (STATE
 * otherwise). While the manager is planning, tensors are placed and the rest is skipped.
 */
#ifndef CST_MEMORY_LAUNCH_H
#define CST_MEMORY_LAUNCH_H

#include "device/program.h"
#include "memory/memory.h"

typedef struct cst_launch {
    cst_mem *m;
    cst_kernel *k;              /* NULL while planning */
    const char *name;
    cst_status st;
    uint32_t given;             /* bit per formal argument */
    int next;                   /* where the next name is looked for first */
    int uses, use_arg[16];
    int64_t use_at[16];         /* elements */
    cst_use use[16];
} cst_launch;

/* file: cl/<file>.cl; kernel: its name; options: build options ("-DCAUSAL=1") or NULL. All three borrowed
 * until run. */
void cst_launch_begin(cst_launch *l, cst_mem *m, const char *file, const char *kernel, const char *options);
/* Tensors: IN, OUT and IO arguments. `at`: first element used. A NULL tensor passes a null pointer, for
 * arguments that a build option leaves unused. A write that doesn't start at 0 or covers a part only must
 * be an update of a tensor that has storage. */
void cst_launch_read(cst_launch *l, const char *name, const cst_tensor *t, int64_t at);
void cst_launch_write(cst_launch *l, const char *name, cst_tensor *t, int64_t at);
void cst_launch_update(cst_launch *l, const char *name, cst_tensor *t, int64_t at);
/* A memory object of cst_mem_scratch, for an argument declared as a plain __global pointer. */
void cst_launch_mem(cst_launch *l, const char *name, cl_mem mem);
/* Scalars: int, uint, ulong, float of OpenCL C. int takes any value that fits 31 bits, else STATE. */
void cst_launch_int(cst_launch *l, const char *name, int64_t v);
void cst_launch_uint(cst_launch *l, const char *name, uint32_t v);
void cst_launch_ulong(cst_launch *l, const char *name, uint64_t v);
void cst_launch_float(cst_launch *l, const char *name, float v);
/* dims 1..3; group NULL: the runtime chooses. A global size of 0 in any dimension is a no-op. With three dimensions and more
 * work (cst_mem_work) than dev->launch_flops the launch is cut into parts of the third and second dimension, whose groups
 * must be of size 1 there and add get_global_offset to get_group_id. */
cst_status cst_launch_run(cst_launch *l, int dims, const size_t *global, const size_t *group);

/* Work-items of a group for kernels without groups of their own. One size for all lengths (quirk kernel-per-group-size: with
 * NULL PoCL would choose another one for each length). */
size_t cst_flat_group(const cst_device *dev, const char *file);
/* Work-items of a group for kernels of cl/<file>.cl that share a row. */
size_t cst_group(const cst_mem *m, const char *file);
/* Smallest multiple of b that is >= a. */
size_t cst_round_up(size_t a, size_t b);

/* When the device keeps times: wait for it and add each launch's time to its kernel. */
cst_status cst_launch_collect(cst_mem *m);

/* OK when t is of this type and rank with these sizes (a size of 0 matches any); else USAGE naming `op`,
 * the tensor and both shapes. A NULL tensor is OK (optional arguments). */
cst_status cst_expect(const char *op, const cst_tensor *t, cst_type type, int rank, int64_t d0, int64_t d1);

#endif
