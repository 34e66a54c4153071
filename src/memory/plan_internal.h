/* The planner's stages, on plain data. plan.c runs them: gaps and the stays between those given up (plan_gaps.c), which of
 * them to keep (plan_select.c), places of the stays (plan_pack.c), and actions, times and lead times (plan_actions.c, plan_time.c). */
#ifndef CST_MEMORY_PLAN_INTERNAL_H
#define CST_MEMORY_PLAN_INTERNAL_H

#include "memory/plan.h"

/* A tensor between a use and its next one; fixed tensors have none. Moments count on past the end: to <= from + moments. */
typedef struct cst_gap {
    int tensor;
    int from, to;            /* moments of the two uses: to > from */
    int group;               /* of paid ones: gaps after one change share its download */
    int paid;                /* giving it up costs an upload; else its fate is settled: content is worthless or nothing is between */
    int keep;                /* stays on the device */
    int away;                /* paid, and given up whatever room there is */
    int tail, head;          /* given up, its room is still not free in so many moments after `from` and before `to` */
} cst_gap;

typedef struct cst_gaps {
    const cst_trace *t;
    cst_gap *gap;
    int gaps, groups;
    int *first;              /* [tensors + 1]: a tensor's gaps, by `from` */
    uint8_t *changes;        /* [gaps]: the use at `from` changes the content */
    uint64_t *download;      /* [groups] bytes of its download, once; 0: never changed */
    int away;                /* some gaps are away: the others' fates are settled */
    uint64_t *use;           /* [moments] bytes of what is used there, or stays there in any case */
    uint64_t need;           /* largest of use */
    int need_moment;
} cst_gaps;

cst_status cst_gaps_make(cst_gaps *g, const cst_trace *t);
void cst_gaps_free(cst_gaps *g);
/* Bytes that the gaps given up move, both directions. */
uint64_t cst_gaps_moved(const cst_gaps *g);
/* most[m]: bytes on the device at moment m if all paid gaps stay that can. Its largest is returned. */
uint64_t cst_gaps_full(const cst_gaps *g, uint64_t *most);

/* Lagrange multipliers by moment, handed from one selection to the next: NULL where there are none yet. */
typedef struct cst_prices {
    double *moment;
} cst_prices;

/* Set keep of all paid gaps so that no moment needs more than `capacity`, moving few bytes; leads (tail, head) are honoured
 * as far as they fit and shortened where they don't. effort: 0 to 2. OVER_BUDGET if a moment's uses alone need more. */
cst_status cst_plan_select(cst_gaps *g, uint64_t capacity, cst_prices *p, int effort);
/* The capacity-only view of a whole plan: bytes moved of the selection at `bytes`, without leads and places. */
cst_status cst_plan_select_bytes(uint64_t *moved, const cst_trace *t, uint64_t bytes);

/* A tensor on the device from its first use to its last one between two gaps given up. */
typedef struct cst_stay {
    int tensor;
    int from, to;            /* moments of the first and last use: 0 <= from < moments, to < from + moments */
    int in, out;             /* the gaps given up before and after; -1 both: always there */
    int start, end;          /* moments that its room is taken for: start <= from, end >= to, leads included */
    int slab;
    uint64_t offset;
    int issue;               /* of an upload: moment of its action, <= from, may be negative: in the iteration before */
} cst_stay;

typedef struct cst_stays {
    cst_stay *s;
    int n, room;
    int slabs;
    uint64_t *top;           /* [slabs] bytes taken */
    uint64_t total;          /* their sum */
} cst_stays;

/* Stays of the gaps kept. */
cst_status cst_stays_make(cst_stays *y, const cst_gaps *g);
void cst_stays_free(cst_stays *y);

/* Give all stays a place within `limit` bytes. For up to `patience` rounds those that find none go first in the next one.
 * After that its leads are dropped, then it is split at a paid gap, which is given up (keep = 0). *fits = 0: some stay that can't be split has none. */
cst_status cst_plan_pack(cst_stays *y, cst_gaps *g, uint64_t limit, int order, int patience, int *fits);
/* Places for stays as they are, no leads, none split: tries orders until it fits within `limit`, else the best of them. The
 * smaller the limit the longer it tries, but always in the same sequence: what a large limit accepts, a small one finds. */
cst_status cst_plan_pack_best(cst_stays *y, cst_gaps *g, uint64_t limit);
/* Keep paid gaps that were given up, where the earlier stay's place is free until the later one ends: bounded work. */
cst_status cst_plan_rejoin(cst_stays *y, cst_gaps *g);

/* tail and head of all paid gaps: `factor` times what their transfers need, queueing behind those of the gaps given up now,
 * but for no longer than a few transfers and the part `queue` of an iteration. */
cst_status cst_plan_leads(cst_gaps *g, double factor, double queue);

/* Actions of placed stays. order: 0 uploads queue by deadline, 1 as soon as there is room. */
cst_status cst_plan_actions(cst_plan **out, cst_stays *y, const cst_gaps *g, int order);
/* Predicted times of a plan: a steady iteration after a first one. */
cst_status cst_plan_simulate(cst_plan *p, const cst_trace *t);

/* Who was last in which part of a slab: ranges that hold no common byte, with a mark each. */
typedef struct cst_rooms {
    struct cst_room { uint64_t begin, end; int64_t mark; } *room;
    int n, space;
} cst_rooms;

/* mark the range, in place of older marks there. */
cst_status cst_rooms_set(cst_rooms *r, uint64_t begin, uint64_t end, int64_t mark);
/* Index of the first range that ends after `begin`. */
int cst_rooms_find(const cst_rooms *r, uint64_t begin);

#endif
