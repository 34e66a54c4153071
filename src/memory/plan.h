/* From a trace and a number of bytes to a plan for the whole cyclic iteration: which tensor is on the device when, where,
 * and what moves. Plain data, no OpenCL.
 *
 * Between two uses a tensor stays on the device or leaves it. Leaving costs a download if the device changed it since the
 * host's copy was made, and an upload before the next use, unless that overwrites it. The planner chooses those stays that
 * save the most bytes for the room there is, over all moments at once and across the end of the iteration, then gives each
 * stay its place in the slabs, and starts transfers early enough to be done in time where there is room for that.
 */
#ifndef CST_MEMORY_PLAN_H
#define CST_MEMORY_PLAN_H

#include "memory/trace.h"

typedef enum cst_plan_kind {
    CST_PLAN_PLACE,          /* give it room; it has no content worth keeping */
    CST_PLAN_UPLOAD,         /* give it room and bring the host's copy */
    CST_PLAN_EVICT,          /* copy to the host if the device changed it, then give up its room */
    CST_PLAN_DISCARD         /* give up its room; its content is worthless */
} cst_plan_kind;
const char *cst_plan_kind_name(cst_plan_kind k);

typedef struct cst_plan_action {
    int moment;              /* done before this moment's operator is enqueued; moments: at the end of the iteration, EVICT and
                              * DISCARD only */
    cst_plan_kind kind;
    int tensor;
    int slab;                /* of PLACE and UPLOAD: where to; of EVICT and DISCARD: where it is */
    uint64_t offset;
    int moves;               /* a transfer happens: always with UPLOAD; with EVICT when changed */
} cst_plan_action;

/* Where a tensor is when the iteration begins. */
typedef struct cst_plan_start {
    int slab;                /* -1: not on the device */
    uint64_t offset;
    int changed;             /* on the device, and the host's copy is older; 0 where worthless */
    int worthless;           /* no content is needed, wherever it is */
} cst_plan_start;

typedef struct cst_plan {
    cst_plan_action *action; /* by moment; within one in the order in which to do them */
    int actions;
    cst_plan_start *start;   /* [tensors] */
    int tensors, moments, slabs;
    uint64_t *slab;          /* [slabs] bytes */
    uint64_t bytes;          /* their sum: what the plan takes of the device, beside scratch */
    uint64_t up_bytes, down_bytes; /* an iteration */
    uint64_t up_count, down_count;
    uint64_t host_bytes;     /* most that the host keeps at once of what isn't on the device, until its next use */
    uint64_t live_peak;      /* most bytes of tensors on the device at once; bytes - live_peak is waste by place */
    double seconds;          /* predicted: an iteration */
    double compute_seconds;  /* of its operators alone */
    double stall_seconds;    /* that operators wait for transfers */
} cst_plan;

/* The fastest by prediction of several plans, then the one that moves least. A held WRITE counts as UPDATE: content in the
 * making. Deterministic: the same trace and bytes give the same plan. INPUT as cst_trace_check.
 * bytes: room for tensors (a budget less scratch). OVER_BUDGET when no plan fits: the detail names the moment with the
 * largest need, its tensors' bytes, and what cst_plan_least says. */
cst_status cst_plan_make(cst_plan **out, const cst_trace *t, uint64_t bytes);
/* The one of several plans that moves the fewest bytes, however long it takes: a measure of what the other gives for time. As cst_plan_make. */
cst_status cst_plan_fewest(cst_plan **out, const cst_trace *t, uint64_t bytes);
void cst_plan_free(cst_plan *p);
/* The smallest `bytes` for which cst_plan_make succeeds, and all that is used together stays. */
cst_status cst_plan_least(uint64_t *bytes, const cst_trace *t);
/* Bytes for which nothing ever moves. */
cst_status cst_plan_resident(uint64_t *bytes, const cst_trace *t);
/* What a program takes of `room` bytes for a plan, settled without measured times: all of them, a multiple of align, or less where less
 * lets all stay. `high`: bytes for which all stays in places that are taken as they come, or cst_plan_resident's. Of a static placement: what
 * stays, and as much as the largest operator uses, so that its weights can come before it. */
cst_status cst_plan_takes(uint64_t *bytes, const cst_trace *t, uint64_t room, uint64_t high);
/* Play the plan twice through, without a device: STATE naming the first moment where an operator's tensor is absent or
 * has lost its content, two tensors overlap or leave their slab, an action isn't possible in the state its tensor is in,
 * `moves` is wrong, or the end isn't the start. */
cst_status cst_plan_check(const cst_plan *p, const cst_trace *t);

/* Work of the host that no trace has: what an operator makes comes down, the host works on it, operators wait for that. */
typedef struct cst_plan_host_task {
    int made;                /* when this moment's operator is done ... */
    int from;                /* ... this tensor (-1: something else) ... */
    uint64_t down;           /* ... comes down, so many bytes: then the work may begin, */
    int after;               /* if this moment's operator is done, too, and the tasks before it in the list that come before the same moment */
    double seconds;          /* that it takes while nothing is transferred */
    int before;              /* from this moment on nothing is enqueued until it is done: in the same iteration if before > after, else the next (then
                              * made >= before as well) */
    int tensor;              /* this one's content is then made anew, -1: none: */
    uint64_t up;             /* so many bytes go up to it; 0: by the plan's uploads, which are put off until then */
} cst_plan_host_task;

typedef struct cst_plan_host {
    const cst_plan_host_task *task;
    int tasks;
    double share;            /* of its speed alone that the host's work keeps beside transfers both ways */
    double transfers;        /* of theirs that they keep beside it */
} cst_plan_host;

/* Seconds of a steady iteration with such work; plan->seconds is that without. */
cst_status cst_plan_seconds(double *seconds, const cst_plan *p, const cst_trace *t, const cst_plan_host *h);
/* A proven lower bound of bytes moved in an iteration (both directions), for any plan within `bytes`. */
cst_status cst_plan_bound(uint64_t *moved, const cst_trace *t, uint64_t bytes);

#endif
