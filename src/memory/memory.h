/* Device memory: one owner, one budget.
 *
 * A cst_mem owns every byte of device memory that the process uses on its device. It makes a few large
 * buffers (slabs) and places tensors in them. A program that uses it
 *     creates tensors                        cst_tensor_create
 *     brackets each operator                 cst_mem_acquire ... enqueue on dev->compute ... cst_mem_release
 *     moves data                             cst_tensor_write, cst_tensor_read and their async forms
 * and nothing else makes device buffers. cst_launch (launch.h) does the bracketing for a single kernel.
 *
 * Contract:
 *   1. used <= reserved <= budget at every moment; reserved is the sum of live buffers, and its peak is
 *      what "device memory" means in every report.
 *   2. Slabs are materialised when they are made, so that a device that hasn't got the memory says so
 *      then. None is released in a step (releasing waits for running kernels).
 *   3. OVER_BUDGET changes nothing; the caller may free something, or raise the budget, and call again.
 *   4. Between acquire and release a tensor stays where it is. All operators run on dev->compute, which
 *      is in order; transfers run on dev->up and dev->down and are ordered against it by events.
 *   5. Where a tensor lies never changes what is computed.
 *   6. An operator whose call failed has changed no tensor that has content: the same call may be made again, and the work
 *      goes on, outside of the plan until the next iteration. Or the iteration is begun anew, where it hasn't updated yet
 *      what it began with.
 *
 * Planning: between cst_mem_plan_begin and cst_mem_plan_commit nothing touches the device: acquire places
 * tensors in an imaginary arena, launches are skipped, transfers are counted as nothing. The caller runs
 * its step once like that; commit then makes slabs of exactly the size that the step needs, and the real
 * step takes the same places.
 *
 * Migration: a program whose work repeats marks each iteration (cst_mem_step, cst_mem_step_end). When its tensors
 * don't fit the budget together and cst_mem_migrate was asked for, tensors leave the device and come back as a plan for
 * the whole iteration says (plan.h), made from a trace of the iteration (trace.h) that was recorded while planning, or
 * by the first real iteration. Outside of marked iterations, and where an iteration isn't the recorded one, tensors are
 * moved on demand; at the next mark the plan goes on. What an iteration overwrites next has no
 * content worth keeping, so the plan drops it: an iteration that ends early, and what is read between iterations, must not
 * count on it. What a tensor's states are and how they change: docs/memory.md.
 *
 * A program that never calls cst_mem_step needn't know any of this: after its first two iterations the manager marks the others
 * by itself (docs/memory.md, "Without marks"). Such a program may stop, read and do something else at any place: nothing is
 * dropped but what it overwrites, drops or frees itself. It says which tensor is which by their names: what is made anew in each
 * iteration has the same name, shape and class there, and is freed in the iteration.
 *
 * This room knows nothing of models, operators or training.
 */
#ifndef CST_MEMORY_MEMORY_H
#define CST_MEMORY_MEMORY_H

#include "device/device.h"
#include "memory/plan.h"

typedef enum cst_type { CST_F32, CST_F16, CST_BF16, CST_I32, CST_U8, CST_TYPE_COUNT } cst_type;
/* Bytes of one element, and "f32", "bf16" ... */
size_t cst_type_size(cst_type t);
const char *cst_type_name(cst_type t);

/* What a tensor is for; memory is reported by class. */
#define CST_CLASS_LIST(X) X(PARAM, "parameters") X(GRAD, "gradients") X(OPTIM, "optimizer") \
    X(ACTIVATION, "activations") X(SCRATCH, "scratch") X(DATA, "data")
typedef enum cst_class {
#define X(name, text) CST_##name,
    CST_CLASS_LIST(X)
#undef X
    CST_CLASS_COUNT
} cst_class;
const char *cst_class_name(cst_class c);

typedef struct cst_mem cst_mem;

typedef enum cst_tensor_state {
    CST_TENSOR_EMPTY,  /* no storage; a WRITE gives it some */
    CST_TENSOR_DEVICE, /* on the device only; the host's copy, if there is one, is older */
    CST_TENSOR_BOTH,   /* on the device and, the same, on the host */
    CST_TENSOR_HOST    /* on the host only */
} cst_tensor_state;

/* The table of docs/memory.md. Staying as it is counts as legal. */
int cst_tensor_may_become(cst_tensor_state from, cst_tensor_state to);
const char *cst_tensor_state_name(cst_tensor_state s);

/* Fields may be read by anyone, written by this room only. */
typedef struct cst_tensor {
    cst_mem *mem;
    char name[96];
    cst_class cls;
    cst_type type;
    int rank;
    int64_t dim[4];          /* row-major; unused dims are 1 */
    size_t bytes;
    struct cst_tensor *chunk; /* moves as a part of this one, which then owns all fields from state to downloaded; or NULL */
    size_t chunk_at;         /* bytes into it */
    int parts;               /* of a chunk: its tensors not yet freed */
    int fixed;               /* never leaves the device */
    int away;                /* on the device for its uses only */
    int renews;              /* cst_tensor_host_renews */
    int put_off;             /* on the device by its state, but the upload is still to be enqueued */
    cst_tensor_state state;
    int pins;                /* acquires not yet released */
    int slab;                /* where it lies, when on the device */
    size_t offset;           /* bytes into the slab */
    int host_slab;           /* its room on the host, -1: none */
    size_t host_offset;
    cl_event uploaded;       /* upload that the next operator must wait for, or NULL */
    cl_event downloaded;     /* download that the next writer, or upload, must wait for, or NULL */
    uint64_t stamp;          /* last use, for eviction on demand */
    uint64_t born;           /* counts tensors */
    int traced;              /* number in the trace, -1: none */
    uint64_t kind;           /* hash of name, class, type and shape, 0: not needed so far */
    int twin;                /* the least number that no other tensor of this kind has */
    uint64_t version;        /* changes whenever the content may have */
    void *companion;         /* what cst_tensor_accompany was given, or NULL */
    void (*companion_free)(void *);
    struct cst_tensor *prev, *next;
} cst_tensor;

typedef enum cst_access {
    CST_READ = 1,
    CST_WRITE = 2,           /* overwritten whole; old content is lost */
    CST_UPDATE = 3           /* read and written: accumulated into, or changed in place */
} cst_access;

/* One tensor of an operator; mem and offset are filled by acquire and valid until release. */
typedef struct cst_use {
    cst_tensor *t;
    cst_access access;
    cl_mem mem;
    size_t offset;           /* bytes */
} cst_use;

typedef struct cst_mem_stats {
    uint64_t budget, reserved, used, reserved_peak, used_peak; /* bytes on the device */
    uint64_t class_used[CST_CLASS_COUNT], class_peak[CST_CLASS_COUNT];
    uint64_t host_bytes, host_peak;      /* by cst_host_alloc */
    uint64_t pinned_bytes;               /* those of them registered with the driver */
    uint64_t h2d_bytes, d2h_bytes;       /* enqueued so far */
    uint64_t acquires, tensors, slabs;
    uint64_t iterations;                 /* of the plan, begun */
    uint64_t planned_moves, moves;       /* transfers of tensors: by the plan so far; done in planned iterations */
    uint64_t strays;                     /* iterations that left the plan */
    uint64_t evictions;                  /* on demand */
} cst_mem_stats;

/* budget: bytes of device memory that may ever be live at once; 0 asks for cst_mem_default_budget. USAGE
 * when it is more than the device has. dev must outlive *out. */
cst_status cst_mem_create(cst_mem **out, cst_device *dev, uint64_t budget);
/* Wait for the queues, release everything. STATE (and it is released all the same) when a tensor or an
 * acquire is left over: the detail names one. */
cst_status cst_mem_free(cst_mem *m);
/* 90 % of the device's memory less 300 MB; half of the memory available now where the device computes in
 * host memory, so that both sides fit the machine. */
uint64_t cst_mem_default_budget(const cst_device *dev);
cst_device *cst_mem_device(const cst_mem *m);
void cst_mem_get_stats(const cst_mem *m, cst_mem_stats *s);
/* Check the books (contract 1, no two live tensors overlap, free lists exact): STATE when they are wrong. */
cst_status cst_mem_check(const cst_mem *m);

/* Planning, see above. plan_begin: STATE unless no tensor has storage; earlier slabs and plans are dropped.
 * plan_bytes: what the steps run so far need. plan_commit: OVER_BUDGET (detail: needed and budget) leaves
 * the manager planning; DEVICE, NO_MEMORY: there is no such memory, begin with plan_begin again; OK makes the slabs. */
cst_status cst_mem_plan_begin(cst_mem *m);
uint64_t cst_mem_plan_bytes(const cst_mem *m);
cst_status cst_mem_plan_commit(cst_mem *m);
int cst_mem_planning(const cst_mem *m);
/* Bytes of the smallest budget with which commit works: with migration when a trace was recorded, else plan_bytes. */
cst_status cst_mem_plan_least(uint64_t *bytes, const cst_mem *m);
/* The plan that commit would make for migration; *out: cst_plan_free it. *bytes (may be NULL): what the device's memory would be
 * in use at most, to the byte, whatever times are measured later. OVER_BUDGET. */
cst_status cst_mem_plan_try(cst_plan **out, uint64_t *bytes, cst_mem *m);
/* What predictions reckon with. Rates of transfers are measured, where there is a device, when a plan or, while planning, this
 * asks first. */
cst_status cst_mem_rates(cst_rates *r, cst_mem *m);

/* Times of operators that earlier runs on this device measured, given to the iteration recorded. *known: the part of its seconds,
 * *seconds, that comes from operators measured at similar work; the rest is guessed. For a device that isn't there, or other rates than its own (cst_mem_suppose): 0. */
cst_status cst_mem_know_operators(double *known, double *seconds, cst_mem *m);
/* Before plan_commit, beside cst_mem_migrate: iterations are planned and measured even where nothing has to move, and what operators
 * take is kept for other runs, however short the iterations. */
void cst_mem_keep_times(cst_mem *m);

/* How work of the host and transfers in both directions slow each other down, where both use its memory. */
typedef struct cst_host_speed {
    double seconds;          /* that the work takes alone */
    double share;            /* of its speed that it keeps beside transfers: 0.1 to 1; 1: not measured */
    double transfers;        /* of theirs that they keep beside it */
} cst_host_speed;
/* Measure them, while planning and after cst_mem_rates, by calling `work` some ten times. Its data should be many times what
 * caches hold (cst_host_alloc_pageable). Errors of transfers. */
cst_status cst_mem_host_speed(cst_host_speed *s, cst_mem *m, void (*work)(void *user), void *user);
/* Plan as if the budget and the rates were these. Where the device hasn't got so much memory, nothing can be committed. */
void cst_mem_suppose(cst_mem *m, uint64_t budget, const cst_rates *r);

/* Let tensors migrate where they don't fit together. Call while planning, or before anything has storage. host: most bytes
 * of host memory for what isn't on the device, 0: any; pinned: most of those that are registered with the driver (the
 * rest is slower), UINT64_MAX: all. */
void cst_mem_migrate(cst_mem *m, uint64_t host, uint64_t pinned);
int cst_mem_migrating(const cst_mem *m);
/* An iteration begins; cst_mem_step_end: what follows is none of it (evaluation, saving). While planning, what is
 * acquired in between is recorded. OVER_BUDGET, DEVICE when a plan's tensors can't be brought to their places. */
cst_status cst_mem_step(cst_mem *m);
cst_status cst_mem_step_end(cst_mem *m);
/* Write the operators acquired of late, by a program that doesn't mark its iterations and may migrate, as text for castor trace
 * period: one a line, as a hash of what it does. STATE when there are none; IO. */
cst_status cst_mem_accesses_save(const cst_mem *m, const char *path);
/* The iteration recorded last, its small tensors gathered in chunks when migrating; NULL: none. Borrowed. */
const cst_trace *cst_mem_trace(const cst_mem *m);
/* The plan that iterations follow, NULL: none. Borrowed. */
const cst_plan *cst_mem_plan(const cst_mem *m);
/* Floating-point operations of the next acquire's operator, for predictions. */
void cst_mem_work(cst_mem *m, double flops);

/* A tensor without storage yet. dims: `rank` (1..4) sizes >= 1. */
cst_status cst_tensor_create(cst_tensor **out, cst_mem *m, cst_class cls, cst_type type, int rank, const int64_t *dims,
                             const char *name, ...) CST_PRINTF(7, 8);
/* Give it storage now (content undefined); nothing to do when it has some. */
cst_status cst_tensor_place(cst_tensor *t);
/* It never leaves the device: what the host reads and writes in every step, and small. Call before it has storage. */
void cst_tensor_fix(cst_tensor *t);
/* Let it live on the host and be on the device for its uses only, in iterations of a plan; all other tensors then stay between
 * their uses. Call before it has storage; without cst_mem_migrate it says nothing. */
void cst_tensor_keep_away(cst_tensor *t);
/* Take its storage away; its content is lost. Kernels already enqueued may still use it. */
void cst_tensor_drop(cst_tensor *t);
/* Drop and free, its companion first; NULL is fine. */
void cst_tensor_free(cst_tensor *t);
/* Let the tensor own something derived from it: `release` gets it when the tensor is freed or given another companion. */
void cst_tensor_accompany(cst_tensor *t, void *companion, void (*release)(void *));
int64_t cst_tensor_count(const cst_tensor *t);

/* Make n (<= 16) tensors resident for one operator. `op` names it in messages and traces. wait (room for
 * 32 events) gets what the operator's first command must wait for; pass NULL to have this function order it
 * itself (a marker on dev->compute). STATE when a READ or UPDATE meets an empty tensor. */
cst_status cst_mem_acquire(cst_mem *m, const char *op, cst_use *use, int n, cl_event *wait, cl_uint *nwait);
void cst_mem_release(cst_mem *m, cst_use *use, int n);

/* A buffer of at least `bytes` for a library that takes no offset (CLBlast). One per manager, shared by all
 * callers in the order of dev->compute; inside the budget; grows outside of steps only when planned. */
cst_status cst_mem_scratch(cst_mem *m, size_t bytes, cl_mem *out);

/* Transfers of `bytes` from `offset` bytes into the tensor, or from and to the host's copy where that is the one there
 * is. write makes an empty tensor's storage. The blocking forms return when the host memory may be used again. */
cst_status cst_tensor_write(cst_tensor *t, size_t offset, const void *src, size_t bytes);
cst_status cst_tensor_read(cst_tensor *t, size_t offset, void *dst, size_t bytes);
/* The async forms return at once; src/dst stays untouched until *done is waited for. *done may be NULL on
 * return (planning): cst_mem_wait takes that. done itself must not be NULL. */
cst_status cst_tensor_write_async(cst_tensor *t, size_t offset, const void *src, size_t bytes, cl_event *done);
cst_status cst_tensor_read_async(cst_tensor *t, size_t offset, void *dst, size_t bytes, cl_event *done);
/* A mark behind everything enqueued on dev->compute so far, in place of the one that *mark holds; NULL while planning. */
cst_status cst_mem_mark(cst_mem *m, cl_event *mark);
/* As write_async, but waiting for `mark` only instead of all operators enqueued so far: none behind it may use the
 * tensor's place. */
cst_status cst_tensor_write_behind(cst_tensor *t, size_t offset, const void *src, size_t bytes, cl_event mark, cl_event *done);
/* A tensor that the host makes anew, whole, in the middle of an iteration, while operators only read it: the plan needn't know.
 * host_room: where to write it: its room on the host, which no transfer uses any more; NULL: there is none (it doesn't
 * migrate, is part of a chunk, or an operator has changed it): then cst_tensor_write. host_renewed: it is written; a copy
 * on the device is renewed too, behind all operators enqueued so far. In between, and while host_renewed fails, nothing
 * may use the tensor. host_renews, told as soon as it is known: uploads are put off until then, or until something uses it. */
void cst_tensor_host_renews(cst_tensor *t, int renews);
cst_status cst_tensor_host_room(cst_tensor *t, void **room);
cst_status cst_tensor_host_renewed(cst_tensor *t);
/* Wait for *done, release it, set it to NULL. */
cst_status cst_mem_wait(cl_event *done);
/* The same for a download; *end_ns: when it ended by the device's clock, 0 where the device doesn't tell. */
cst_status cst_mem_wait_time(cl_event *done, uint64_t *end_ns);
/* Wait until the device has nothing left to do. */
cst_status cst_mem_finish(cst_mem *m);

/* Host memory for transfers: huge pages, touched by all threads, registered with the driver where that
 * makes it pinned. Freed by cst_host_free; NULL is fine there. */
cst_status cst_host_alloc(void **out, cst_mem *m, size_t bytes);
/* The same, left pageable: for what isn't transferred. */
cst_status cst_host_alloc_pageable(void **out, cst_mem *m, size_t bytes);
void cst_host_free(cst_mem *m, void *p);

/* Test aid: put `bytes` of a known pattern before and after every tensor placed from now on;
 * guards_check reads them back: STATE names the tensor whose border was written. */
void cst_mem_set_guard(cst_mem *m, size_t bytes);
cst_status cst_mem_guards_check(cst_mem *m);

#endif
