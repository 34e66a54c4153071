/* Bring an operator's tensors to the device when no plan says how: first where there is room, then by moving away what was
 * used longest ago, in one piece of a slab that is large enough. */
#include <stdlib.h>
#include <string.h>

#include "memory/internal.h"

static int by_place(const void *a, const void *b)
{
    const cst_tensor *x = *(cst_tensor *const *)a, *y = *(cst_tensor *const *)b;
    if (x->slab != y->slab) return x->slab < y->slab ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

cst_status cst_blocks_list(cst_tensor ***list, int *n, const cst_mem *m)
{
    *n = 0;
    for (cst_tensor *t = m->first; t; t = t->next) *n += !t->chunk && cst_on_device(t);
    *list = malloc((size_t)(*n + 1) * sizeof **list);
    if (!*list) return cst_fail(CST_NO_MEMORY, "memory manager");
    *n = 0;
    for (cst_tensor *t = m->first; t; t = t->next)
        if (!t->chunk && cst_on_device(t)) (*list)[(*n)++] = t;
    qsort(*list, (size_t)*n, sizeof **list, by_place);
    return CST_OK;
}

static size_t end_of(const cst_mem *m, const cst_tensor *b)
{
    return cst_block_begin(b) + cst_arena_round(&m->arena, cst_tensor_extent(b));
}

/* Blocks i to j - 1, all of one slab and movable, whose place and the holes around them hold `need`; j is the least, 0:
 * there is none. */
static int window(const cst_mem *m, cst_tensor *const *b, int n, int i, size_t need)
{
    int slab = b[i]->slab;
    size_t from = i && b[i - 1]->slab == slab ? end_of(m, b[i - 1]) : 0;
    for (int j = i; j < n && b[j]->slab == slab && !b[j]->pins && !b[j]->fixed; j++) {
        size_t to = j + 1 < n && b[j + 1]->slab == slab ? cst_block_begin(b[j + 1]) : m->arena.slab[slab].capacity;
        if (to - from >= need) return j + 1;
    }
    return 0;
}

/* Move away what was used longest ago. *made 0: there is no such piece. */
static cst_status make_room(cst_mem *m, size_t bytes, int *made)
{
    cst_tensor **b;
    int n, best = -1, best_end = 0, moved;
    uint64_t best_stamp = 0;
    size_t need = cst_arena_round(&m->arena, bytes);
    CST_TRY(cst_blocks_list(&b, &n, m));
    for (int i = 0; i < n; i++) {
        int end = window(m, b, n, i, need);
        uint64_t stamp = 0;
        for (int j = i; j < end; j++)
            if (b[j]->stamp > stamp) stamp = b[j]->stamp;
        if (end && (best < 0 || stamp < best_stamp)) best = i, best_end = end, best_stamp = stamp;
    }
    cst_status st = CST_OK;
    for (int i = best < 0 ? 0 : best; i < best_end && st == CST_OK; i++) {
        st = cst_block_evict(b[i], &moved);
        m->stats.evictions++;
    }
    *made = best >= 0;
    free(b);
    return st;
}

/* Everything that isn't in use goes: what is used then finds one piece. */
static cst_status clear_all(cst_mem *m)
{
    cst_status st = CST_OK;
    int moved;
    for (cst_tensor *t = m->first; t && st == CST_OK; t = t->next)
        if (!t->chunk && cst_on_device(t) && !t->pins && !t->fixed) {
            st = cst_block_evict(t, &moved);
            m->stats.evictions++;
        }
    return st;
}

/* One block to the device. keep: its content is needed. */
static cst_status bring(cst_mem *m, cst_tensor *b, int keep, cst_waits *w)
{
    int made = 1, placed = 0;
    while (1) {
        if (b->state == CST_TENSOR_HOST && keep) CST_TRY(cst_block_upload(b, -1, 0, &placed));
        else CST_TRY(cst_block_place(b, -1, 0, &placed, w));
        if (placed) return CST_OK;
        if (m->planning || !m->migrating || m->stats.reserved + cst_arena_round(&m->arena, cst_tensor_extent(b)) <= m->stats.budget) {
            cst_status st = cst_mem_grow(m, cst_tensor_extent(b));
            if (st != CST_OK) return cst_fail_in(st, "%s", b->name);
            continue;
        }
        CST_TRY(make_room(m, cst_tensor_extent(b), &made));
        if (!made)
            return cst_fail(CST_OVER_BUDGET, "%s: no piece of %.1f MiB can be freed beside what is in use, with a budget of %.1f MiB", b->name,
                            (double)cst_tensor_extent(b) / CST_MIB, (double)m->stats.budget / CST_MIB);
    }
}

/* Without a plan slabs are as large as what came first. When nothing is on the device, they can be made anew: one for the
 * largest sum so far; what else fits gets more of them. */
static cst_status new_slabs(cst_mem *m)
{
    if (m->plan || m->arena.used) return CST_OK;
    for (int i = 0; i < m->arena.slabs; i++)
        if (m->arena.slab[i].capacity >= m->largest && m->arena.slabs == 1) return CST_OK;
    CST_TRY(cst_mem_finish(m));
    cst_mem_drop_slabs(m);
    cst_status st = m->largest && m->largest <= m->arena.max_slab ? cst_mem_grow(m, m->largest) : CST_OK;
    return st == CST_OVER_BUDGET ? CST_OK : st;
}

/* Do others run inside of this operator? What the iteration recorded doesn't have perhaps does. */
static int has_inner(const cst_mem *m, const char *op)
{
    const cst_trace *t = m->trace;
    int known = 0;
    if (!t || m->recording) return 1;
    for (int k = 0; k + 1 < t->moments; k++) {
        const cst_trace_moment *next = &t->moment[k + 1];
        if (strncmp(t->moment[k].op, op, sizeof t->moment[k].op - 1)) continue;
        known = 1;
        for (int u = next->first; u < next->first + next->uses; u++)
            if (t->use[u].held) return 1;
    }
    return !known;
}

/* An operator that others run inside of must leave them one piece: where little room is left beside it, it takes the lowest
 * places. The largest such sum so far is known. */
static int must_pack(const cst_mem *m, const char *op, const cst_use *use, int n)
{
    uint64_t own = 0;
    if (m->helds || m->planning || !m->migrating || m->stats.budget >= 2 * m->largest) return 0;
    for (int i = 0; i < n; i++) own += cst_arena_round(&m->arena, cst_tensor_extent(cst_block(use[i].t)));
    return m->largest > own && has_inner(m, op);
}

/* Largest first, after everything else has gone. */
static cst_status bring_all_again(cst_mem *m, cst_use *use, int n, cst_waits *w)
{
    for (int i = 0; i < n; i++) cst_block(use[i].t)->pins--;
    cst_status st = clear_all(m);
    for (int i = 0; i < n; i++) cst_block(use[i].t)->pins++;
    if (st == CST_OK) st = new_slabs(m);
    while (st == CST_OK) {
        cst_tensor *largest = NULL;
        for (int i = 0; i < n; i++) {
            cst_tensor *b = cst_block(use[i].t);
            if (!cst_on_device(b) && (!largest || b->bytes > largest->bytes)) largest = b;
        }
        if (!largest) return CST_OK;
        st = bring(m, largest, 1, w);
    }
    return st;
}

/* Does another use of the same operator overwrite the whole tensor first? */
static int written_before(const cst_use *use, int i)
{
    for (int j = 0; j < i; j++)
        if (use[j].t == use[i].t && use[j].access == CST_WRITE) return 1;
    return 0;
}

/* Is older content of use i's tensor needed? A chunk's always is: it has other tensors. */
static int needed(const cst_use *use, int n, int i)
{
    if (use[i].t->chunk) return 1;
    for (int j = 0; j < n; j++)
        if (use[j].t == use[i].t && use[j].access != CST_WRITE) return 1;
    return 0;
}

cst_status cst_demand(cst_mem *m, const char *op, cst_use *use, int n, cst_waits *w)
{
    cst_tensor *fresh[16];
    int nfresh = 0, absent = 0;
    for (int i = 0; i < n; i++) {
        const cst_tensor *b = cst_block(use[i].t);
        absent += !cst_on_device(b);
        if (b->state != CST_TENSOR_EMPTY || use[i].access == CST_WRITE || written_before(use, i)) continue;
        return cst_fail(CST_STATE, "%s reads %s before anything wrote it", op, use[i].t->name);
    }
    int pack = must_pack(m, op, use, n);
    if (!absent && !pack) return CST_OK;
    cst_status st = pack ? clear_all(m) : CST_OK;
    if (st == CST_OK && pack) st = new_slabs(m);
    for (int i = 0; i < n; i++) cst_block(use[i].t)->pins++;
    for (int i = 0; i < n && st == CST_OK; i++) {
        cst_tensor *b = cst_block(use[i].t);
        int empty = b->state == CST_TENSOR_EMPTY;
        if (cst_on_device(b)) continue;
        st = bring(m, b, needed(use, n, i), w);
        if (st == CST_OK && empty) fresh[nfresh++] = b;
    }
    if (st == CST_OVER_BUDGET && m->migrating) st = bring_all_again(m, use, n, w);
    for (int i = 0; i < n; i++) cst_block(use[i].t)->pins--;
    if (st == CST_OK) return st;
    while (nfresh) cst_block_discard(fresh[--nfresh]); /* nothing has changed */
    return cst_fail_in(st, "%s", op);
}
