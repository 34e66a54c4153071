#include "memory/launch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "memory/fault.h"
#include "memory/internal.h"

/* Times of launches not collected yet; only while measuring, one device at a time. */
static struct {
    cl_event event;
    cst_kernel *k;
} pending[512];
static int npending;

void cst_launch_begin(cst_launch *l, cst_mem *m, const char *file, const char *kernel, const char *options)
{
    l->m = m;
    l->k = NULL;
    l->name = kernel;
    l->st = CST_OK;
    l->given = 0;
    l->next = l->uses = 0;
    if (m->planning) return;
    l->st = cst_kernel_get(&l->k, m->dev, file, kernel, options);
    if (l->st == CST_OK && l->k->bound_at != m->dev->released) { /* a handle bound may now be another buffer's */
        memset(l->k->bound, 0, sizeof l->k->bound);
        l->k->bound_at = m->dev->released;
    }
}

/* Formal argument `name`; callers mostly name them in order. -1 with l->st set when there is no such one. */
static int find(cst_launch *l, const char *name, int buffer)
{
    const cst_kernel *k = l->k;
    for (int i = 0; i < k->args; i++) {
        int a = (l->next + i) % k->args;
        if (strcmp(k->arg_name[a], name)) continue;
        if (k->arg_buffer[a] != buffer || l->given & 1u << a) break;
        l->given |= 1u << a;
        l->next = a + 1;
        return a;
    }
    l->st = cst_fail(CST_STATE, "kernel %s: argument \"%s\" isn't there, is given twice or is of another kind", l->name, name);
    return -1;
}

/* clSetKernelArg, left out when the kernel has this value already: most arguments are those of the launch before.
 * v NULL: a null memory object. */
static cl_int bind(cst_kernel *k, cl_uint at, size_t size, const void *v)
{
    static const unsigned char null[8];
    unsigned char *last = k->bound[at].value;
    if (k->bound[at].size == size && !memcmp(last, v ? v : null, size)) return CL_SUCCESS;
    cl_int err = clSetKernelArg(k->handle, at, size, v);
    k->bound[at].size = err == CL_SUCCESS ? size : 0;
    memcpy(last, v ? v : null, size);
    return err;
}

static cl_int bind_buffer(cst_kernel *k, int a, const cl_mem *mem, cl_ulong at)
{
    cl_int err = bind(k, k->arg_at[a], sizeof *mem, mem);
    return err == CL_SUCCESS ? bind(k, k->arg_at[a] + 1, sizeof at, &at) : err;
}

static void scalar(cst_launch *l, const char *name, size_t size, const void *v)
{
    if (l->st != CST_OK || !l->k) return;
    int a = find(l, name, 0);
    if (a < 0) return;
    l->st = cst_cl(bind(l->k, l->k->arg_at[a], size, v), "clSetKernelArg");
    if (l->st != CST_OK) cst_fail_in(l->st, "kernel %s, argument %s", l->name, name);
}

static void tensor(cst_launch *l, const char *name, cst_tensor *t, int64_t at, cst_access access)
{
    if (l->st != CST_OK) return;
    int a = l->k ? find(l, name, 1) : 0;
    if (a < 0) return;
    if (!t) {
        if (l->k) l->st = cst_cl(bind_buffer(l->k, a, NULL, 0), "clSetKernelArg");
        return;
    }
    if (at < 0 || at > cst_tensor_count(t)) {
        l->st = cst_fail(CST_STATE, "kernel %s: %s starts at element %" PRId64 " of %" PRId64, l->name, t->name, at, cst_tensor_count(t));
        return;
    }
    if (l->uses == 16) {
        l->st = cst_fail(CST_STATE, "kernel %s: more than 16 tensors", l->name);
        return;
    }
    l->use[l->uses] = (cst_use){t, access, NULL, 0};
    l->use_at[l->uses] = at;
    l->use_arg[l->uses++] = a;
}

void cst_launch_read(cst_launch *l, const char *name, const cst_tensor *t, int64_t at)
{
    tensor(l, name, (cst_tensor *)t, at, CST_READ);
}

void cst_launch_write(cst_launch *l, const char *name, cst_tensor *t, int64_t at)
{
    tensor(l, name, t, at, CST_WRITE);
}

void cst_launch_update(cst_launch *l, const char *name, cst_tensor *t, int64_t at)
{
    tensor(l, name, t, at, CST_UPDATE);
}

void cst_launch_mem(cst_launch *l, const char *name, cl_mem mem)
{
    scalar(l, name, sizeof mem, &mem);
}

void cst_launch_int(cst_launch *l, const char *name, int64_t v)
{
    cl_int x = (cl_int)v;
    if (l->st == CST_OK && x != v) l->st = cst_fail(CST_STATE, "kernel %s: %s = %" PRId64 " doesn't fit an int", l->name, name, v);
    scalar(l, name, sizeof x, &x);
}

void cst_launch_uint(cst_launch *l, const char *name, uint32_t v)
{
    cl_uint x = v;
    scalar(l, name, sizeof x, &x);
}

void cst_launch_ulong(cst_launch *l, const char *name, uint64_t v)
{
    cl_ulong x = v;
    scalar(l, name, sizeof x, &x);
}

void cst_launch_float(cst_launch *l, const char *name, float v)
{
    cl_float x = v;
    scalar(l, name, sizeof x, &x);
}

static cst_status bind_tensors(cst_launch *l)
{
    for (int i = 0; i < l->uses; i++) {
        const cst_use *u = &l->use[i];
        cl_ulong at = u->offset / cst_type_size(u->t->type) + (cl_ulong)l->use_at[i];
        CST_TRY(cst_cl(bind_buffer(l->k, l->use_arg[i], &u->mem, at), "clSetKernelArg"));
    }
    return CST_OK;
}

/* One call of clEnqueueNDRangeKernel; offset NULL: none. */
static cst_status enqueue(cst_launch *l, int dims, const size_t *offset, const size_t *global, const size_t *group, cl_uint nwait,
                          const cl_event *wait)
{
    cst_mem *m = l->m;
    cl_event event = NULL;
    cl_int err = CST_FAULT(CST_FAULT_KERNEL, CL_OUT_OF_RESOURCES,
                           clEnqueueNDRangeKernel(m->dev->compute, l->k->handle, (cl_uint)dims, offset, global, group, nwait,
                                                  nwait ? wait : NULL, m->dev->profile ? &event : NULL));
    CST_TRY(cst_cl(err, "clEnqueueNDRangeKernel"));
    l->k->launches++;
    if (!event) return CST_OK;
    cst_status st = npending == 512 ? cst_launch_collect(m) : CST_OK;
    pending[npending].event = event;
    pending[npending++].k = l->k;
    return st;
}

/* The same in parts of the third and second dimension that have at most dev->launch_flops each, if that can be. */
static cst_status enqueue_parts(cst_launch *l, const size_t *global, const size_t *group, double flops, cl_uint nwait, const cl_event *wait)
{
    double each = flops / (double)(global[1] * global[2]), most = l->m->dev->launch_flops;
    size_t step = most < 2 * each ? 1 : (size_t)(most / each), step1 = step < global[1] ? step : global[1], step2 = step / global[1];
    if (!step2) step2 = 1;
    for (size_t z = 0; z < global[2]; z += step2)
        for (size_t y = 0; y < global[1]; y += step1) {
            size_t offset[3] = {0, y, z};
            size_t part[3] = {global[0], global[1] - y < step1 ? global[1] - y : step1, global[2] - z < step2 ? global[2] - z : step2};
            CST_TRY(enqueue(l, 3, offset, part, group, nwait, wait));
            nwait = 0;
        }
    return CST_OK;
}

cst_status cst_launch_run(cst_launch *l, int dims, const size_t *global, const size_t *group)
{
    cst_mem *m = l->m;
    cl_event wait[32];
    cl_uint nwait = 0;
    double flops = m->flops;
    if (l->st != CST_OK) return l->st;
    if (l->k && l->given != (l->k->args == 32 ? ~0u : (1u << l->k->args) - 1))
        for (int a = 0; a < l->k->args; a++)
            if (!(l->given & 1u << a)) return cst_fail(CST_STATE, "kernel %s: argument \"%s\" was not given", l->name, l->k->arg_name[a]);
    CST_TRY(cst_mem_acquire(m, l->name, l->use, l->uses, wait, &nwait));
    m->flops = 0;
    cst_status st = CST_OK;
    int empty = 0;
    for (int i = 0; i < dims; i++) empty |= !global[i];
    if (empty && nwait) /* acquire handed these over: later operators count on the queue having waited for them */
        CST_GO(cst_cl(clEnqueueMarkerWithWaitList(m->dev->compute, nwait, wait, NULL), "clEnqueueMarkerWithWaitList"), out);
    if (l->k && !empty) {
        CST_GO(bind_tensors(l), out);
        int whole = dims < 3 || !m->dev->launch_flops || flops <= m->dev->launch_flops;
        CST_GO(whole ? enqueue(l, dims, NULL, global, group, nwait, wait) : enqueue_parts(l, global, group, flops, nwait, wait), out);
    }
out:
    if (st != CST_OK && nwait) clWaitForEvents(nwait, wait); /* later operators count on that */
    for (cl_uint i = 0; i < nwait; i++) clReleaseEvent(wait[i]);
    cst_mem_release(m, l->use, l->uses);
    return st == CST_OK ? st : cst_fail_in(st, "kernel %s", l->name);
}

cst_status cst_launch_collect(cst_mem *m)
{
    cst_status st = cst_cl(clFinish(m->dev->compute), "clFinish");
    for (int i = 0; i < npending; i++) {
        cl_ulong start = 0, end = 0;
        clGetEventProfilingInfo(pending[i].event, CL_PROFILING_COMMAND_START, sizeof start, &start, NULL);
        clGetEventProfilingInfo(pending[i].event, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL);
        pending[i].k->time_ns += end - start;
        if (end - start > pending[i].k->longest_ns) pending[i].k->longest_ns = end - start;
        clReleaseEvent(pending[i].event);
    }
    npending = 0;
    return st;
}

size_t cst_flat_group(const cst_device *dev, const char *file)
{
    int group = cst_device_shape(dev, file).group;
    return group > 1 ? (size_t)group : dev->info.max_group < 256 ? 1 : 256;
}

size_t cst_group(const cst_mem *m, const char *file)
{
    return (size_t)cst_device_shape(m->dev, file).group;
}

size_t cst_round_up(size_t a, size_t b)
{
    return (a + b - 1) / b * b;
}

cst_status cst_expect(const char *op, const cst_tensor *t, cst_type type, int rank, int64_t d0, int64_t d1)
{
    if (!t) return CST_OK;
    if (t->type != type)
        return cst_fail(CST_UNSUPPORTED, "%s: %s is %s; %s is what this operator takes", op, t->name, cst_type_name(t->type), cst_type_name(type));
    if (t->rank != rank || (d0 && t->dim[0] != d0) || (d1 && t->dim[1] != d1))
        return cst_fail(CST_USAGE, "%s: %s is %d-d [%" PRId64 ", %" PRId64 "]; %d-d [%" PRId64 ", %" PRId64 "] wanted", op, t->name,
                        t->rank, t->dim[0], t->dim[1], rank, d0, d1);
    return CST_OK;
}
