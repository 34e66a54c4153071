/* A toy program for the memory manager: tensors of whole numbers, operators on them, random iterations, and the same on the
 * host. Whatever a manager does wrong (a lost copy, a transfer that comes too early or too late, memory given twice) changes
 * the numbers.
 */
#ifndef MIGRATION_TESTING_H
#define MIGRATION_TESTING_H

#include "op_testing.h"

#include "memory/fault.h"
#include "op/fill.h"

#define TOY_TENSORS 96
#define TOY_OPS 128
#define MIB ((uint64_t)1 << 20)

typedef enum toy_kind {
    TOY_FILL,                /* dst = c */
    TOY_MIX,                 /* dst = f(a, b, c) */
    TOY_KEEP,                /* dst = f(dst, a, b, c) */
    TOY_NEST                 /* dst = f(dst, a, a, c), and inside of that b = c */
} toy_kind;

typedef struct toy_op {
    toy_kind kind;
    int dst, a, b;
    uint32_t c;
} toy_op;

typedef struct toy {
    uint64_t seed, drawn;
    int tensors, persistent; /* the first ones live on, the others are made and freed in each iteration */
    int64_t count[TOY_TENSORS];
    int fixed[TOY_TENSORS], worthless[TOY_TENSORS]; /* the iteration overwrites it first */
    toy_op op[TOY_OPS];
    int ops;
    size_t guard;
    cst_mem *m;
    cst_tensor *t[TOY_TENSORS];
    uint32_t *host[TOY_TENSORS];
    int valid[TOY_TENSORS];
} toy;

static cl_program toy_program;
static cl_kernel toy_kernel;

static inline void toy_build(void)
{
    static const char *source =
        "__kernel void blend(__global uint *s, ulong so, __global const uint *a, ulong ao, uint na,\n"
        "                    __global const uint *b, ulong bo, uint nb, uint c, int keep)\n"
        "{\n"
        "    size_t i = get_global_id(0);\n"
        "    uint v = keep ? s[so + i] * 747796405u : 0u;\n"
        "    s[so + i] = v + a[ao + i % na] * 1664525u + b[bo + i % nb] * 22695477u + c;\n"
        "}\n";
    cl_int err;
    toy_program = clCreateProgramWithSource(dev->context, 1, &source, NULL, &err);
    ck_assert_int_eq(err, CL_SUCCESS);
    ck_assert_int_eq(clBuildProgram(toy_program, 1, &dev->info.id, "", NULL, NULL), CL_SUCCESS);
    toy_kernel = clCreateKernel(toy_program, "blend", &err);
    ck_assert_int_eq(err, CL_SUCCESS);
}

static inline void toy_unbuild(void)
{
    clReleaseKernel(toy_kernel);
    clReleaseProgram(toy_program);
}

static inline cst_mem_stats toy_stats(const toy *y)
{
    cst_mem_stats s;
    cst_mem_get_stats(y->m, &s);
    return s;
}

/* 0 .. n - 1, the same for the same seed. */
static inline uint32_t toy_random(toy *y, uint32_t n)
{
    return (uint32_t)(cst_random_u64(y->seed, 77, y->drawn++) >> 33) % n;
}

/* --- a random iteration ----------------------------------------------------------------------------------- */

static inline int toy_other(toy *y, const int *written, int not1, int not2)
{
    for (int tries = 0; tries < 1000; tries++) {
        int i = (int)toy_random(y, (uint32_t)y->tensors);
        if (i != not1 && i != not2 && (i < y->persistent || written[i])) return i;
    }
    return 0; /* not reached: there are three persistent ones */
}

/* persistent >= 3, sizes of elements within [low, high]; nest: with operators inside of operators. */
static inline void toy_make(toy *y, uint64_t seed, int persistent, int transient, int ops, int64_t low, int64_t high, int nest)
{
    int written[TOY_TENSORS] = {0}, used[TOY_TENSORS] = {0};
    memset(y, 0, sizeof *y);
    y->seed = seed;
    y->persistent = persistent;
    y->tensors = persistent + transient;
    for (int i = 0; i < y->tensors; i++) y->count[i] = low + (int64_t)(toy_random(y, 1u << 20) % (uint64_t)(high - low + 1));
    for (y->ops = 0; y->ops < ops; y->ops++) {
        toy_op *o = &y->op[y->ops];
        o->dst = (int)toy_random(y, (uint32_t)y->tensors);
        o->c = toy_random(y, 1u << 20);
        o->a = toy_other(y, written, o->dst, -1);
        o->b = toy_other(y, written, o->dst, -1);
        int fresh = o->dst >= persistent && !written[o->dst];
        o->kind = fresh ? (toy_kind)toy_random(y, 2) : (toy_kind)toy_random(y, nest ? 4 : 3);
        if (o->kind == TOY_NEST) o->b = toy_other(y, written, o->dst, o->a);
        int reads = o->kind != TOY_FILL, inner = o->kind == TOY_NEST;
        if (reads) used[o->a] = 1;
        if (reads && !inner && !used[o->b]) used[o->b] = 1;
        if (!used[o->dst] && o->kind < TOY_KEEP) y->worthless[o->dst] = 1;
        used[o->dst] = 1;
        if (inner && !used[o->b]) y->worthless[o->b] = 1;
        used[o->b] |= inner;
        written[o->dst] = 1;
    }
    for (int i = 0; i < y->tensors; i++) y->host[i] = malloc((size_t)y->count[i] * sizeof *y->host[i]);
}

static inline void toy_free(toy *y)
{
    for (int i = 0; i < y->tensors; i++) free(y->host[i]);
}

/* --- carried out ------------------------------------------------------------------------------------------ */

static inline cst_status toy_create(toy *y, int i)
{
    static const cst_class cls[] = {CST_PARAM, CST_GRAD, CST_OPTIM};
    CST_TRY(cst_tensor_create(&y->t[i], y->m, i < y->persistent ? cls[i % 3] : CST_ACTIVATION, CST_F32, 1, &y->count[i], "t%d", i));
    if (y->fixed[i]) cst_tensor_fix(y->t[i]);
    return CST_OK;
}

static inline cst_status toy_enqueue(toy *y, const toy_op *o, const cst_use *a, const cst_use *b, const cst_use *dst, cl_uint nwait,
                                     const cl_event *wait)
{
    size_t n = (size_t)y->count[o->dst];
    cl_ulong at[3] = {dst->offset / 4, a->offset / 4, b->offset / 4};
    cl_uint na = (cl_uint)cst_tensor_count(a->t), nb = (cl_uint)cst_tensor_count(b->t);
    int keep = o->kind != TOY_MIX;
    if (cst_mem_planning(y->m)) return CST_OK;
    clSetKernelArg(toy_kernel, 0, sizeof(cl_mem), &dst->mem), clSetKernelArg(toy_kernel, 1, 8, &at[0]);
    clSetKernelArg(toy_kernel, 2, sizeof(cl_mem), &a->mem), clSetKernelArg(toy_kernel, 3, 8, &at[1]), clSetKernelArg(toy_kernel, 4, 4, &na);
    clSetKernelArg(toy_kernel, 5, sizeof(cl_mem), &b->mem), clSetKernelArg(toy_kernel, 6, 8, &at[2]), clSetKernelArg(toy_kernel, 7, 4, &nb);
    clSetKernelArg(toy_kernel, 8, 4, &o->c), clSetKernelArg(toy_kernel, 9, 4, &keep);
    cl_command_queue q = cst_mem_device(y->m)->compute;
    cl_int err = CST_FAULT(CST_FAULT_KERNEL, CL_OUT_OF_RESOURCES,
                           clEnqueueNDRangeKernel(q, toy_kernel, 1, NULL, &n, NULL, nwait, nwait ? wait : NULL, NULL));
    if (err != CL_SUCCESS && nwait) clWaitForEvents(nwait, wait); /* later operators count on that */
    return cst_cl(err, "clEnqueueNDRangeKernel");
}

/* On the device alone. Half of the operators take the events to wait for themselves. */
static inline cst_status toy_on_device(toy *y, const toy_op *o, const char *name)
{
    cl_event wait[32];
    cl_uint nwait = 0;
    int own = o->c % 2 && o->kind != TOY_NEST; /* what is nested comes first */
    if (!y->t[o->dst]) CST_TRY(toy_create(y, o->dst));
    if (o->kind == TOY_FILL) return cst_fill(y->m, y->t[o->dst], (float)o->c);
    cst_access access = o->kind == TOY_MIX ? CST_WRITE : CST_UPDATE;
    cst_use use[3] = {{y->t[o->a], CST_READ, NULL, 0}, {y->t[o->dst], access, NULL, 0}, {y->t[o->b], CST_READ, NULL, 0}};
    int n = o->kind == TOY_NEST ? 2 : 3;
    CST_TRY(cst_mem_acquire(y->m, name, use, n, own ? wait : NULL, &nwait));
    cst_status st = o->kind == TOY_NEST ? cst_fill(y->m, y->t[o->b], (float)o->c) : CST_OK;
    if (st == CST_OK) st = toy_enqueue(y, o, &use[0], &use[n == 3 ? 2 : 0], &use[1], nwait, wait);
    else if (nwait) clWaitForEvents(nwait, wait);
    for (cl_uint i = 0; i < nwait; i++) clReleaseEvent(wait[i]);
    cst_mem_release(y->m, use, n);
    return st;
}

static inline void toy_fill_host(toy *y, int i, float value)
{
    for (int64_t k = 0; k < y->count[i]; k++) memcpy(&y->host[i][k], &value, 4);
    y->valid[i] = 1;
}

static inline void toy_on_host(toy *y, const toy_op *o)
{
    uint32_t *s = y->host[o->dst];
    const uint32_t *a = y->host[o->a], *b = y->host[o->kind == TOY_NEST ? o->a : o->b];
    uint64_t na = (uint64_t)y->count[o->a], nb = (uint64_t)y->count[o->kind == TOY_NEST ? o->a : o->b], ia = 0, ib = 0;
    y->valid[o->dst] = 1;
    if (o->kind == TOY_FILL) {
        toy_fill_host(y, o->dst, (float)o->c);
        return;
    }
    for (int64_t i = 0; i < y->count[o->dst]; i++) {
        s[i] = (o->kind == TOY_MIX ? 0 : s[i] * 747796405u) + a[ia] * 1664525u + b[ib] * 22695477u + o->c;
        if (++ia == na) ia = 0;
        if (++ib == nb) ib = 0;
    }
    if (o->kind == TOY_NEST) toy_fill_host(y, o->b, (float)o->c);
}

/* Has what it reads any content? */
static inline int toy_may(const toy *y, const toy_op *o)
{
    if (o->kind == TOY_FILL) return 1;
    return y->valid[o->a] && (o->kind == TOY_NEST || y->valid[o->b]) && (o->kind == TOY_MIX || y->valid[o->dst]);
}

/* Is tensor i not used any more from operator k on? */
static inline int toy_dead(const toy *y, int i, int k)
{
    for (; k < y->ops; k++)
        if (y->op[k].dst == i || (y->op[k].kind != TOY_FILL && (y->op[k].a == i || y->op[k].b == i))) return 0;
    return 1;
}

static inline void toy_drop_transients(toy *y, int from)
{
    for (int i = y->persistent; i < y->tensors; i++)
        if (y->t[i] && toy_dead(y, i, from)) {
            cst_tensor_free(y->t[i]);
            y->t[i] = NULL;
            y->valid[i] = 0;
        }
}

/* Between iterations: what the next one overwrites first is worthless. */
static inline void toy_between(toy *y)
{
    toy_drop_transients(y, y->ops);
    for (int i = 0; i < y->persistent; i++) y->valid[i] &= !y->worthless[i];
}

/* The first `ops` operators of an iteration; other >= 0: that one under another name. */
static inline void toy_iterate(toy *y, int ops, int other)
{
    for (int k = 0; k < ops; k++) {
        if (!cst_mem_planning(y->m)) ck_assert_msg(toy_may(y, &y->op[k]), "seed %llu: the toy is wrong", (unsigned long long)y->seed);
        ck_ok(toy_on_device(y, &y->op[k], k == other ? "other" : "mix"));
        if (!cst_mem_planning(y->m)) toy_on_host(y, &y->op[k]);
        toy_drop_transients(y, k + 1);
    }
}

static inline void toy_iteration(toy *y)
{
    ck_ok(cst_mem_step(y->m));
    toy_iterate(y, y->ops, -1);
    ck_ok(cst_mem_step_end(y->m));
    toy_between(y);
}

/* --- a run ------------------------------------------------------------------------------------------------ */

/* A manager with this budget and the persistent tensors in it, without storage. */
static inline void toy_open(toy *y, uint64_t budget)
{
    ck_ok(cst_mem_create(&y->m, dev, budget));
    cst_mem_set_guard(y->m, y->guard);
    for (int i = 0; i < y->persistent; i++) ck_ok(toy_create(y, i));
}

/* The iteration recorded without the device. */
static inline void toy_plan(toy *y)
{
    ck_ok(cst_mem_plan_begin(y->m));
    cst_mem_migrate(y->m, 0, UINT64_MAX);
    for (int i = 0; i < y->persistent; i++) ck_ok(cst_tensor_place(y->t[i]));
    toy_iteration(y);
}

/* First contents, by writes from the host. */
static inline void toy_start(toy *y)
{
    for (int i = 0; i < y->persistent; i++) {
        y->valid[i] = !y->worthless[i];
        for (int64_t k = 0; k < y->count[i]; k++) y->host[i][k] = (uint32_t)cst_random_u64(y->seed, 78 + (uint64_t)i, (uint64_t)k);
        if (y->valid[i]) ck_ok(cst_tensor_write(y->t[i], 0, y->host[i], (size_t)y->count[i] * 4));
    }
}

static inline void toy_close(toy *y)
{
    for (int i = 0; i < y->tensors; i++) {
        cst_tensor_free(y->t[i]);
        y->t[i] = NULL;
        y->valid[i] = 0;
    }
    ck_ok(cst_mem_free(y->m));
    y->m = NULL;
}

/* Elements [first, first + n) are the host's. */
static inline void toy_compare_part(toy *y, int i, int64_t first, int64_t n)
{
    uint32_t *got = malloc((size_t)n * sizeof *got);
    ck_ok(cst_tensor_read(y->t[i], (size_t)first * 4, got, (size_t)n * 4));
    for (int64_t k = 0; k < n; k++)
        if (got[k] != y->host[i][first + k])
            ck_abort_msg("seed %llu, budget %llu: t%d[%lld of %lld] is %08x, wanted %08x", (unsigned long long)y->seed,
                         (unsigned long long)toy_stats(y).budget, i, (long long)(first + k), (long long)y->count[i], got[k],
                         y->host[i][first + k]);
    free(got);
}

static inline void toy_compare(toy *y)
{
    for (int i = 0; i < y->persistent; i++)
        if (y->valid[i]) toy_compare_part(y, i, 0, y->count[i]);
    ck_ok(cst_mem_check(y->m));
    if (y->guard && cst_mem_migrating(y->m)) ck_ok(cst_mem_guards_check(y->m)); /* planning fills none */
    cst_mem_stats s = toy_stats(y);
    ck_assert(s.reserved_peak <= s.budget);
}

/* What a tensor's place may be larger by than the tensor. */
static inline uint64_t toy_round(const toy *y)
{
    uint64_t align = dev->info.align > 256 ? dev->info.align : 256;
    return align + 2 * ((y->guard + align - 1) / align * align);
}

/* Bytes for everything, and the smallest budget. */
static inline void toy_needs(toy *y, uint64_t *all, uint64_t *least)
{
    toy_open(y, (uint64_t)1 << 30);
    toy_plan(y);
    *all = cst_mem_plan_bytes(y->m);
    ck_ok(cst_mem_plan_least(least, y->m));
    toy_close(y);
}

#endif
