/* What the files of this room share; not for others. */
#ifndef CST_MEMORY_INTERNAL_H
#define CST_MEMORY_INTERNAL_H

#include "memory/arena.h"
#include "memory/memory.h"
#include "memory/operators.h"
#include "memory/plan.h"
#include "memory/trace.h"

#define CST_MIB ((uint64_t)1 << 20)

typedef struct cst_host_block {
    struct cst_host_block *next;
    void *base, *p;          /* what mmap returned; what the caller got */
    size_t mapped, bytes;
    cl_mem registered;       /* NULL where registering gains nothing */
} cst_host_block;

typedef enum cst_queue { CST_COMPUTE, CST_UP, CST_DOWN, CST_NO_QUEUE } cst_queue; /* the last: the host itself */
typedef enum cst_side { CST_ON_DEVICE, CST_ON_HOST } cst_side;

/* A part of a slab of the device that was given up while commands that use it may still be running, or a part of the host's
 * that a transfer uses: whoever uses it next, on another queue, waits for them. event NULL: all operators enqueued so far,
 * not yet marked. */
typedef struct cst_fence {
    cst_side side;
    cst_queue queue;         /* of the commands */
    int slab;
    size_t begin, end;       /* bytes */
    cl_event event;
} cst_fence;

/* Events that a command waits for; all are released by cst_waits_clear. */
typedef struct cst_waits {
    cl_event e[64];
    cl_uint n;
} cst_waits;

/* Times of an iteration's operators while they are measured, by moment. */
typedef struct cst_measure {
    cl_command_queue usual;  /* the compute queue, for which one that keeps times stands in; NULL: not measuring */
    cl_event (*mark)[2];     /* begin and end */
    int *parent;             /* the moment of the operator around it, -1: none */
    double *called;          /* when the host enqueued its begin */
    int rounds;              /* iterations measured so far */
    int marks;               /* moments */
} cst_measure;

/* Where a recorded tensor is in the trace with chunks. */
typedef struct cst_chunk_part {
    int tensor, in_chunk;
    uint64_t at;             /* bytes into the chunk */
} cst_chunk_part;

/* Iterations of a program that doesn't mark them: see unmarked.c. */
typedef enum cst_unmarked_state {
    CST_UNMARKED_SEEK,       /* the period isn't known, or what is done isn't the iteration known */
    CST_UNMARKED_WAIT,       /* it is known; its best place to begin comes */
    CST_UNMARKED_RECORD,
    CST_UNMARKED_FOLLOW
} cst_unmarked_state;

typedef struct cst_unmarked {
    int off;                 /* nothing is looked for: the program marks its iterations, or there is no plan for them */
    cst_unmarked_state state;
    uint64_t *access;        /* [count] what was done, oldest first */
    uint32_t *alive;         /* [count] blocks with content then; INSIDE: within another operator */
    int count, room[2];
    int from;                /* since here the period is looked for */
    int check;               /* when there are so many: look */
    int period, begin;       /* WAIT: its length; access at which the iteration shall begin */
    uint64_t *cycle;         /* [length] the iteration recorded, or being recorded */
    int *border;             /* [length] for finding it again (Knuth, Morris, Pratt 1977) */
    int length, matched;     /* SEEK: so much of it has just been done; length and more: the whole */
    int patience;            /* how often it must have been done before it is followed, less one: doubled by each failure */
    uint64_t followed, since; /* accesses as planned, and all, since it was recorded */
    int whole;               /* iterations followed in a row */
} cst_unmarked;

struct cst_mem {
    cst_device *dev;
    cst_arena arena;
    cl_mem *buffer;          /* one per slab; NULL entries while planning */
    int planning;
    cl_mem scratch;          /* for cst_mem_scratch */
    size_t scratch_bytes, guard;
    cst_tensor *first;
    cst_host_block *host;
    cst_mem_stats stats;
    int acquired;            /* tensors acquired and not yet released */

    /* migration */
    int may_migrate, migrating;
    uint64_t host_limit, pinned_limit;
    int warned_pageable, warned_stray;
    cst_arena host_arena;    /* rooms of tensors on the host */
    void **host_base;        /* [its slabs] */
    cst_fence *fence;
    int fences, fence_room;
    cst_tensor **held;       /* blocks acquired now, in order; once for each acquire */
    int helds, held_room;
    uint64_t clock;          /* stamps of uses */
    double flops;            /* cst_mem_work */

    /* the iteration */
    cst_trace *trace;        /* recorded, or being recorded */
    int recording;
    cst_chunk_part *part;    /* [tensors recorded] until the chunks are made; NULL: there are none to make */
    cst_tensor **bound;      /* [tensors of trace] NULL: not there now */
    cst_plan *plan;
    int at, action;          /* next moment, next action */
    int on_plan, inside;     /* following the plan; between step and step_end */
    int moved;               /* something isn't where the iteration's beginning wants it */
    uint64_t plan_iterations; /* begun since the plan was made */
    int measured;            /* the plan was made with measured times, or they can't be had */
    int measure_tries;
    cst_measure measure;
    cst_rates rates;
    int rates_known;         /* measured, not guessed */
    cst_operators operators; /* known from earlier runs */
    int other_device;        /* rates were supposed that aren't its own: what is known of its operators doesn't count */
    int keep_times;          /* of operators, however short the iteration and though all would stay */
    uint64_t born, born_at_step; /* tensors made so far */
    uint64_t largest;        /* most bytes that operators had in use at once */
    uint64_t room;           /* for tensors, said when the plan was committed; 0: what the budget leaves */
    int marked;              /* the program marks its iterations: what the next one overwrites may be thrown away before */
    cst_unmarked unmarked;
    uint32_t contents;       /* blocks that aren't EMPTY */
    int open[16], depth;     /* moments of the operators acquired now, -1: not of a plan */
};

/* The unit that moves: the tensor, or the chunk it is a part of. */
static inline cst_tensor *cst_block(const cst_tensor *t)
{
    return t->chunk ? t->chunk : (cst_tensor *)t;
}

static inline int cst_on_device(const cst_tensor *block)
{
    return block->state == CST_TENSOR_DEVICE || block->state == CST_TENSOR_BOTH;
}

/* Where a block's extent begins in its slab: guards lie around the tensor. */
static inline size_t cst_block_begin(const cst_tensor *block)
{
    return block->offset - block->mem->guard;
}

/* manager.c. Make a device buffer of this size and materialise it: the one place that calls clCreateBuffer for device
 * memory. */
cst_status cst_mem_buffer(cst_mem *m, cl_mem *out, size_t bytes);
/* A new slab that holds at least `bytes`: a round size where the budget allows. */
cst_status cst_mem_grow(cst_mem *m, size_t bytes);
/* Release all slabs: nothing may be on the device, and nothing running. */
void cst_mem_drop_slabs(cst_mem *m);
/* Bytes for tensors that a new plan may take. */
uint64_t cst_mem_plan_room(const cst_mem *m);
/* Slabs that the plan finds room in, in place of those there are: as drop_slabs. */
cst_status cst_mem_plan_slabs(cst_mem *m);
cst_status cst_mem_other_slabs(cst_mem *m); /* step.c: move everything to the host, then that */

/* tensor.c. Bytes a tensor takes in the arena: its own and its guards. */
size_t cst_tensor_extent(const cst_tensor *t);
cst_status cst_guard_fill(cst_tensor *t);

/* fence.c */
void cst_waits_add(cst_waits *w, cl_event e); /* retains; NULL is fine */
void cst_waits_clear(cst_waits *w);
/* Wait for all of them here and now, and clear. */
void cst_waits_settle(cst_waits *w);
/* Let dev->compute wait for all of them, and clear. When that fails, they have been waited for. */
cst_status cst_waits_order(cst_waits *w, cst_mem *m);
/* See cst_fence. event is retained. Without memory for it, it waits. */
void cst_fence_add(cst_mem *m, cst_side side, cst_queue queue, int slab, size_t begin, size_t bytes, cl_event event);
/* Mark what operators enqueued so far have given up. Call before the next one is enqueued. */
cst_status cst_fence_mark(cst_mem *m);
/* What a command on `queue` must wait for before it uses this range. */
cst_status cst_fence_wait(cst_waits *w, cst_mem *m, cst_side side, cst_queue queue, int slab, size_t begin, size_t bytes);
/* Wait for that here and now. */
cst_status cst_fence_settle(cst_mem *m, cst_side side, cst_queue queue, int slab, size_t begin, size_t bytes);
void cst_fence_clear(cst_mem *m);

/* block.c: the legal changes of a block's state; all that fail have changed nothing. */
void cst_block_become(cst_tensor *b, cst_tensor_state s); /* the one place where a state changes */
/* EMPTY or HOST -> DEVICE, content undefined. The place must be free, or slab -1: anywhere (0 in *placed: no room). w gets
 * what operators must wait for. */
cst_status cst_block_place(cst_tensor *b, int slab, size_t offset, int *placed, cst_waits *w);
/* HOST -> BOTH. As place; operators wait for b->uploaded. */
cst_status cst_block_upload(cst_tensor *b, int slab, size_t offset, int *placed);
/* Enqueue its upload now, where that was put off. */
cst_status cst_block_send(cst_tensor *b);
/* DEVICE or BOTH -> HOST; *moved: a download was needed. */
cst_status cst_block_evict(cst_tensor *b, int *moved);
/* Any -> EMPTY: room on both sides is given up. */
void cst_block_discard(cst_tensor *b);
/* Room on the host, EMPTY -> HOST with undefined content. */
cst_status cst_block_host(cst_tensor *b);
void *cst_block_host_address(const cst_tensor *b);
/* Books of a placed or removed block. */
void cst_block_count(cst_tensor *b, int there);
cst_status cst_host_room(cst_mem *m, uint64_t bytes); /* make sure that so much fits without growing */

/* demand.c. All blocks on the device, by place; *list: free() it. */
cst_status cst_blocks_list(cst_tensor ***list, int *n, const cst_mem *m);
/* Bring these blocks to the device, moving others away: what an operator needs outside of a plan. */
cst_status cst_demand(cst_mem *m, const char *op, cst_use *use, int n, cst_waits *w);

/* step.c. The acquired operator's moment, before its commands: records it, or follows the plan. */
cst_status cst_step_acquire(cst_mem *m, const char *op, cst_use *use, int n, cst_waits *w);
void cst_step_forget(cst_tensor *t);   /* the tensor is going away */
void cst_step_clear(cst_mem *m);
void cst_step_follow(cst_mem *m, cst_plan *plan, cst_tensor **bound); /* owns both from now on; bound: room for all tensors of the trace */
cst_status cst_step_plan(cst_mem *m, uint64_t bytes); /* from the trace recorded */

cst_status cst_step_begin(cst_mem *m); /* what cst_mem_step and cst_mem_step_end do, whoever marks */
cst_status cst_step_finish(cst_mem *m);

/* unmarked.c. An operator is about to be acquired: find out where iterations begin and end, and mark them. */
void cst_unmarked_acquire(cst_mem *m, const char *op, const cst_use *use, int n);
void cst_unmarked_clear(cst_mem *m);

/* measure.c. An iteration begins: the second and third are measured, then planned for again. */
cst_status cst_measure_step(cst_mem *m);
void cst_measure_mark(cst_mem *m, int moment, int end); /* the commands of a moment begin, end */
void cst_measure_stop(cst_mem *m);     /* without a result */
cst_status cst_measure_rates(cst_mem *m); /* of transfers, into m->rates; what earlier runs measured of operators is loaded */
void cst_measure_load(cst_mem *m);     /* the latter alone */

/* trace.c. Room for one more of an array's elements, `room` of which fit: 0 when there is no memory. */
int cst_array_more(void **array, int count, int *room, size_t size);

/* chunk.c. Small tensors gathered in chunks: the same iteration as another trace, and where each old tensor is in it. *out:
 * cst_trace_free, *part: free. */
cst_status cst_chunks_trace(cst_trace **out, cst_chunk_part **part, const cst_trace *t);
cst_status cst_chunks_make(cst_mem *m); /* of the manager's tensors, as m->part says; it is used up */
void cst_chunks_dissolve(cst_mem *m);  /* each tensor for itself again, without storage */

#endif
