/* Where blocks lie in slabs: plain data, no OpenCL, so that it is tested without a device.
 *
 * First fit at the lowest address. While planning, slabs are as large as a buffer may be and only their
 * high-water mark counts; fixing the plan cuts each slab to its mark. First fit then takes the same places
 * when the same calls are repeated, because no decision ever depended on space above the mark.
 */
#ifndef CST_MEMORY_ARENA_H
#define CST_MEMORY_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct cst_range {
    size_t offset, size;
} cst_range;

typedef struct cst_slab {
    size_t capacity, high;   /* bytes; high: end of the highest block ever placed */
    cst_range *hole;         /* free ranges, by address, never touching each other */
    int holes, room;
} cst_slab;

typedef struct cst_arena {
    cst_slab *slab;
    int slabs;
    size_t align, max_slab;  /* bytes */
    size_t used;             /* sum of live blocks, rounded up to align */
} cst_arena;

void cst_arena_init(cst_arena *a, size_t align, size_t max_slab);
void cst_arena_clear(cst_arena *a);
/* Add a slab; its index is a->slabs - 1 afterwards. */
cst_status cst_arena_add(cst_arena *a, size_t capacity);
/* Place a block in an existing slab. Returns 1, or 0 when none has room (nothing changed). */
int cst_arena_place(cst_arena *a, size_t bytes, int *slab, size_t *offset);
/* Place a block here. 1, or 0 when that isn't free (nothing changed). */
int cst_arena_place_at(cst_arena *a, size_t bytes, int slab, size_t offset);
/* Give a block back; `bytes` as it was placed. */
void cst_arena_remove(cst_arena *a, size_t bytes, int slab, size_t offset);
/* Cut every slab to its high-water mark. */
void cst_arena_fix(cst_arena *a);
size_t cst_arena_round(const cst_arena *a, size_t bytes);
/* 0 when holes are ordered, apart and inside, and used + holes = capacity; else 1. */
int cst_arena_wrong(const cst_arena *a);

#endif
