/* What one iteration does with memory: plain data, no OpenCL, so that it can be kept in a file, planned and replayed
 * without a device.
 *
 * A trace is a cyclic list of moments. A moment is one operator: the tensors it uses and how. Between two moments a
 * tensor may be anywhere; while a moment runs, all it uses are on the device. After the last moment the first follows.
 *
 *   persistent tensors live in every iteration. Their content at a moment is what the last write before it left, across
 *   the end of the iteration too. A WRITE makes older content worthless.
 *   the others begin with a WRITE and are worthless after their last use in the list.
 *   fixed tensors (always persistent) never leave the device.
 *   away tensors (always persistent, never fixed) are on the device for their uses only and leave after each; the host may
 *   change them between iterations, so none is there when one begins. In a trace with such tensors the others stay
 *   between their uses: a static placement.
 */
#ifndef CST_MEMORY_TRACE_H
#define CST_MEMORY_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct cst_trace_tensor {
    char name[96];
    int cls;                 /* cst_class */
    uint64_t bytes;          /* a multiple of the trace's align, >= align */
    int persistent, fixed, away;
} cst_trace_tensor;

typedef struct cst_trace_use {
    int tensor;
    int access;              /* cst_access: 1 READ, 2 WRITE (whole), 3 UPDATE */
    int held;                /* only kept in place here: an operator around this one acquired it */
} cst_trace_use;

typedef struct cst_trace_moment {
    char op[48];
    int first, uses;         /* into use[]: no tensor twice */
    double flops;            /* 0: unknown */
    double seconds;          /* of device time; < 0: not measured */
    double bytes;            /* as cst_trace_bytes, before small tensors were gathered in chunks; 0: they weren't; not in files */
} cst_trace_moment;

/* What a device and its connection do, for times where none were measured. All > 0. */
typedef struct cst_rates {
    double up, down;         /* bytes/s host to device, device to host, while the other direction is idle */
    double both;             /* share of its rate that each keeps while both are busy: 0.5 (one wire) to 1 */
    double memory;           /* bytes/s of the device's own memory */
    double flops;            /* FLOP/s of matrix products */
    double launch;           /* s that an operator takes at least */
} cst_rates;

typedef struct cst_trace {
    char device[128], about[256]; /* where it is from; what ran: "opt-350m, batch 8 x 1024 ..." */
    uint64_t align;          /* offsets are multiples of it, bytes */
    uint64_t max_slab;       /* no tensor crosses a border of slabs, and none is larger than one */
    uint64_t scratch;        /* bytes of the library's buffer, beside all tensors */
    cst_rates rates;
    double enqueue;          /* s of the host to enqueue a moment's operator and transfers; 0: unknown; not in files */
    cst_trace_tensor *tensor;
    int tensors;
    cst_trace_moment *moment;
    int moments;
    cst_trace_use *use;
    int uses;
    int room[3];             /* of the arrays */
} cst_trace;

cst_status cst_trace_create(cst_trace **out);
void cst_trace_free(cst_trace *t);
cst_status cst_trace_copy(cst_trace **out, const cst_trace *t);
/* A tensor; *id gets its number. bytes is rounded up to align (set before the first one). */
cst_status cst_trace_add_tensor(cst_trace *t, const char *name, int cls, uint64_t bytes, int persistent, int fixed, int *id);
/* Has it tensors that are away? */
int cst_trace_away(const cst_trace *t);
/* A moment without uses; those added next belong to it. */
cst_status cst_trace_add_moment(cst_trace *t, const char *op, double flops);
/* A use of the last moment; a tensor used twice there becomes one use: its accesses joined (READ and WRITE make UPDATE),
 * held only if both are. */
cst_status cst_trace_add_use(cst_trace *t, int tensor, int access, int held);
/* Bytes that a moment's operator moves in the device's memory if it reads, writes or updates its tensors whole. */
double cst_trace_bytes(const cst_trace *t, int moment);
/* Seconds a moment takes: measured, or from flops, bytes and rates. */
double cst_trace_seconds(const cst_trace *t, int moment);
/* INPUT naming what is wrong with a trace that came from outside: sizes, numbers out of range, a tensor that isn't
 * persistent and is read before it is written, fixed but not persistent, away but not persistent or fixed, rates that aren't positive. */
cst_status cst_trace_check(const cst_trace *t);

/* JSON, see docs/trace.md. save: INPUT, and no file, for a trace that load wouldn't take. load: INPUT naming the file, the
 * member and what is allowed, for wrong types, numbers out of range, another schema, and what cst_trace_check finds. */
cst_status cst_trace_save(const cst_trace *t, const char *path);
cst_status cst_trace_load(cst_trace **out, const char *path);
/* Replace those rates that a JSON file names, at its top or in "rates" (so that a trace may be given); errors as load, *r is
 * then as it was. *computing: one of memory, flops and launch changed, so measured times are another device's. */
cst_status cst_rates_load(cst_rates *r, const char *path, int *computing);
/* Write such a file, whole or not at all. */
cst_status cst_rates_save(const cst_rates *r, const char *path);

#endif
