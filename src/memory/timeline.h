/* What happens when, in an iteration of a plan: the same queues as on a device, played on plain numbers.
 *
 * Three queues work in order: operators, uploads, downloads. A download begins after the tensor's last operator. An upload
 * begins when whoever was in its room is gone and the tensor's own download is done. An operator waits for the uploads of
 * its tensors and for downloads from room that they newly take. A transfer takes rates.launch besides; while both directions
 * are busy each keeps rates.both of its rate. The host is never late.
 */
#ifndef CST_MEMORY_TIMELINE_H
#define CST_MEMORY_TIMELINE_H

#include "memory/memory.h"
#include "memory/plan.h"

typedef enum cst_lane {
    CST_LANE_COMPUTE,        /* an operator */
    CST_LANE_UP, CST_LANE_DOWN,
    CST_LANE_ROOM,           /* a tensor has its place, from the begin of its upload or first operator until it is gone */
    CST_LANE_COUNT
} cst_lane;

typedef struct cst_span {
    cst_lane lane;
    int moment;              /* of the operator, or of the action that made the transfer or the place; -1: before the iteration */
    int tensor;              /* COMPUTE: the one that was waited for, -1: none */
    double begin, end;       /* s since the iteration's begin; cut to [0, seconds] */
    double wait;             /* COMPUTE: s before begin in which no operator ran */
    uint64_t bytes;          /* of the tensor; 0 for COMPUTE */
} cst_span;

typedef struct cst_timeline {
    cst_span *span;          /* by lane, within one by begin */
    int spans;
    int first[CST_LANE_COUNT + 1]; /* of a lane in span[] */
    double seconds;          /* an iteration, once it has become the same as the one before */
    double busy[3];          /* s that COMPUTE, UP and DOWN are busy */
    double stall;            /* s without an operator: seconds - busy[CST_LANE_COMPUTE] */
    double stall_with[3];    /* s of that during which UP and DOWN are busy; [CST_LANE_COMPUTE]: 0 */
} cst_timeline;

/* STATE for a plan of another trace. */
cst_status cst_timeline_make(cst_timeline **out, const cst_plan *p, const cst_trace *t);
void cst_timeline_free(cst_timeline *l);
/* What sets the pace: "compute" when operators wait for at most 2 % of the time; else "uploads" or "downloads", whichever
 * is under way during more of the waiting; "room" when neither is during half of it: transfers that are waited for could
 * not begin, because their room was still taken. */
const char *cst_timeline_limit(const cst_timeline *l);

/* Bytes on the device from `at` on, until the next level. */
typedef struct cst_level {
    double at;
    uint64_t bytes[CST_CLASS_COUNT], sum;
} cst_level;
/* All changes of the ROOM spans, by time, the first at 0; *out: free() it. */
cst_status cst_timeline_levels(cst_level **out, int *n, const cst_timeline *l, const cst_trace *t);

/* A trace's operators of one name. */
typedef struct cst_trace_kind {
    const char *op;          /* the trace's */
    int count;
    double flops, seconds;
} cst_trace_kind;
/* All kinds, the one that takes longest first; *out: free() it. */
cst_status cst_trace_kinds(cst_trace_kind **out, int *n, const cst_trace *t);

#endif
