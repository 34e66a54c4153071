/* Iterations: recorded as a trace, then carried out as the plan says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "memory/internal.h"

/* --- what an operator uses, as traces have it ----------------------------------------------------------- */

/* Blocks of an operator and of those around it, each once. */
typedef struct moment {
    struct {
        cst_tensor *b;
        int access, held, empty;
    } use[64];
    int n;
} moment;

static void add(moment *x, cst_tensor *b, int access, int held)
{
    for (int i = 0; i < x->n; i++) {
        if (x->use[i].b != b) continue;
        if (x->use[i].access != access) x->use[i].access = CST_UPDATE;
        x->use[i].held &= held;
        return;
    }
    if (x->n == 64) return;
    x->use[x->n].b = b;
    x->use[x->n].access = access;
    x->use[x->n].empty = b->state == CST_TENSOR_EMPTY;
    x->use[x->n++].held = held;
}

static void describe(moment *x, const cst_mem *m, const cst_use *use, int n)
{
    x->n = 0;
    for (int i = 0; i < n; i++) {
        const cst_tensor *t = use[i].t;
        add(x, cst_block(t), t->chunk && use[i].access == CST_WRITE ? CST_UPDATE : use[i].access, 0); /* the rest of a chunk stays */
    }
    for (int i = 0; i < m->helds; i++) add(x, m->held[i], CST_READ, 1);
}

/* --- recording ------------------------------------------------------------------------------------------ */

/* x is as it was before the operator's tensors were brought: one made before the iteration, but empty, may be one of those that
 * live in it only. */
static cst_status record(cst_mem *m, const char *op, const moment *x)
{
    CST_TRY(cst_trace_add_moment(m->trace, op, m->flops));
    m->flops = 0;
    for (int i = 0; i < x->n; i++) {
        cst_tensor *b = x->use[i].b;
        int lasts = b->born <= m->born_at_step && (m->marked || b->fixed || !x->use[i].empty);
        if (b->traced < 0) {
            CST_TRY(cst_trace_add_tensor(m->trace, b->name, b->cls, cst_tensor_extent(b), lasts, b->fixed, &b->traced));
            m->trace->tensor[b->traced].away = b->away && lasts;
        }
        CST_TRY(cst_trace_add_use(m->trace, b->traced, x->use[i].access, x->use[i].held));
    }
    return CST_OK;
}

static cst_status record_begin(cst_mem *m)
{
    for (cst_tensor *t = m->first; t; t = t->next) t->traced = -1;
    cst_step_clear(m);
    CST_TRY(cst_trace_create(&m->trace));
    snprintf(m->trace->device, sizeof m->trace->device, "%.127s", m->dev->info.name);
    m->trace->align = m->arena.align;
    m->trace->max_slab = m->arena.max_slab;
    m->trace->rates = m->rates;
    m->recording = 1;
    m->born_at_step = m->born;
    return CST_OK;
}

/* What was made in the iteration and is still there lives on. Small tensors are gathered where nothing has storage yet; those
 * that are away are not: a chunk would come and go for each of its parts. */
static cst_status record_end(cst_mem *m)
{
    cst_trace *chunked;
    m->recording = 0;
    m->trace->scratch = m->scratch_bytes;
    for (cst_tensor *t = m->first; t; t = t->next) {
        if (t->traced >= 0) m->trace->tensor[t->traced].persistent = 1;
        else if (t->fixed && t->state != CST_TENSOR_EMPTY) /* takes room though the iteration doesn't use it */
            CST_TRY(cst_trace_add_tensor(m->trace, t->name, t->cls, cst_tensor_extent(t), 1, 1, &t->traced));
    }
    if (!m->planning || cst_trace_away(m->trace)) return CST_OK;
    CST_TRY(cst_chunks_trace(&chunked, &m->part, m->trace));
    cst_trace_free(m->trace);
    m->trace = chunked;
    return CST_OK;
}

/* --- following ------------------------------------------------------------------------------------------ */

static void stray(cst_mem *m, const char *op)
{
    m->on_plan = 0;
    m->moved = 1;
    m->stats.strays++;
    if (m->warned_stray) return;
    m->warned_stray = 1;
    cst_log(CST_LOG_INFO, "the iteration leaves its plan at moment %d (%s; planned: %s): tensors move on demand until the next one", m->at, op,
            m->at < m->trace->moments ? m->trace->moment[m->at].op : "the end");
}

/* Is this the plan's next moment? Then tensors it makes get their numbers. */
static int matches(cst_mem *m, const char *op, const cst_use *use, int n)
{
    const cst_trace *t = m->trace;
    if (m->at >= t->moments) return 0;
    const cst_trace_moment *k = &t->moment[m->at];
    moment x;
    describe(&x, m, use, n);
    if (x.n != k->uses || strncmp(k->op, op, sizeof k->op - 1)) return 0;
    for (int i = 0; i < x.n; i++) {
        const cst_trace_use *u = &t->use[k->first + i];
        const cst_trace_tensor *want = &t->tensor[u->tensor];
        cst_tensor *b = x.use[i].b, *bound = m->bound[u->tensor];
        if (want->fixed && b->fixed) continue; /* batches have two sets, in turns */
        int fresh = !bound && b->traced < 0 && !want->persistent && u->access == CST_WRITE && want->bytes == cst_arena_round(&m->arena, cst_tensor_extent(b));
        if ((bound != b && !fresh) || u->access != x.use[i].access || u->held != x.use[i].held) return 0;
    }
    for (int i = 0; i < x.n; i++) {
        int id = t->use[k->first + i].tensor;
        if (x.use[i].b->fixed) continue;
        m->bound[id] = x.use[i].b;
        x.use[i].b->traced = id;
    }
    return 1;
}

/* *possible 0: the tensor isn't in a state for it. */
static cst_status perform(cst_mem *m, const cst_plan_action *a, cst_waits *w, int *possible)
{
    cst_tensor *b = m->bound[a->tensor];
    int moved = 0;
    *possible = 1;
    if (!b) { /* freed by the program already */
        *possible = a->kind == CST_PLAN_EVICT || a->kind == CST_PLAN_DISCARD;
        return CST_OK;
    }
    switch (a->kind) {
    case CST_PLAN_PLACE:
    case CST_PLAN_UPLOAD:
        *possible = !cst_on_device(b);
        if (!*possible) return CST_OK;
        moved = a->kind == CST_PLAN_UPLOAD && b->state == CST_TENSOR_HOST;
        CST_TRY(moved ? cst_block_upload(b, a->slab, a->offset, possible) : cst_block_place(b, a->slab, a->offset, possible, w));
        break;
    case CST_PLAN_EVICT:
        *possible = cst_on_device(b) && !b->pins;
        if (*possible) CST_TRY(cst_block_evict(b, &moved));
        break;
    case CST_PLAN_DISCARD:
        *possible = !b->pins;
        if (!*possible || b->state == CST_TENSOR_EMPTY) break;
        if (m->marked) cst_block_discard(b);
        else if (cst_on_device(b)) CST_TRY(cst_block_evict(b, &moved)); /* who knows whether it is overwritten next */
        break;
    }
    m->stats.planned_moves += (uint64_t)(*possible && a->moves);
    m->stats.moves += (uint64_t)moved;
    return CST_OK;
}

/* The actions before moment `at`. *followed 0: one wasn't possible. */
static cst_status perform_all(cst_mem *m, int at, cst_waits *w, int *followed)
{
    *followed = 1;
    while (m->action < m->plan->actions && m->plan->action[m->action].moment <= at && *followed) {
        CST_TRY(perform(m, &m->plan->action[m->action], w, followed));
        m->action += *followed;
    }
    return CST_OK;
}

static int all_there(const cst_use *use, int n)
{
    for (int i = 0; i < n; i++)
        if (!cst_on_device(cst_block(use[i].t))) return 0;
    return 1;
}

cst_status cst_step_acquire(cst_mem *m, const char *op, cst_use *use, int n, cst_waits *w)
{
    moment x;
    if (m->migrating && !m->planning && !m->marked) cst_unmarked_acquire(m, op, use, n);
    if (m->migrating && !m->planning) CST_TRY(cst_fence_mark(m));
    if (m->on_plan && m->inside) {
        int followed = matches(m, op, use, n);
        if (followed) CST_TRY(perform_all(m, m->at, w, &followed));
        if (followed && all_there(use, n)) {
            m->at++;
            m->flops = 0;
            return CST_OK;
        }
        stray(m, op);
    } else if (m->plan) m->moved = 1;
    if (m->recording) describe(&x, m, use, n);
    CST_TRY(cst_demand(m, op, use, n, w));
    return m->recording && m->inside ? record(m, op, &x) : CST_OK;
}

/* Everything to where the iteration begins, whatever happened since the last one. */
static cst_status restore(cst_mem *m)
{
    int moved, placed;
    cst_waits w = {.n = 0};
    cst_status st = CST_OK;
    for (cst_tensor *b = m->first; b; b = b->next) { /* first all that is in the way */
        if (b->chunk || !cst_on_device(b)) continue;
        const cst_plan_start *s = b->traced >= 0 ? &m->plan->start[b->traced] : NULL;
        if (s && s->slab == b->slab && s->offset == cst_block_begin(b)) continue;
        if (s && s->worthless && !b->fixed && m->marked) cst_block_discard(b);
        else CST_TRY(cst_block_evict(b, &moved));
    }
    CST_TRY(cst_fence_mark(m));
    for (cst_tensor *b = m->first; b && st == CST_OK; b = b->next) {
        if (b->chunk || b->traced < 0 || cst_on_device(b)) continue;
        const cst_plan_start *s = &m->plan->start[b->traced];
        if (s->slab < 0) continue;
        if (b->state == CST_TENSOR_HOST && (!s->worthless || b->fixed || !m->marked)) st = cst_block_upload(b, s->slab, s->offset, &placed);
        else st = cst_block_place(b, s->slab, s->offset, &placed, &w);
        if (st == CST_OK && !placed) st = cst_fail(CST_STATE, "%s: its place at the beginning of an iteration is taken", b->name);
    }
    if (st == CST_OK) return cst_waits_order(&w, m);
    cst_waits_settle(&w);
    return st;
}

/* Something that never leaves the device has no place in the plan: it was made later. */
static int fixed_later(const cst_mem *m)
{
    for (const cst_tensor *b = m->first; b; b = b->next)
        if (b->fixed && cst_on_device(b) && b->traced < 0) return 1;
    return 0;
}

/* Bound are the tensors that live on; those of an iteration get their numbers when it makes them. */
static void bind_all(cst_mem *m)
{
    memset(m->bound, 0, (size_t)m->trace->tensors * sizeof *m->bound);
    for (cst_tensor *b = m->first; b; b = b->next) {
        if (b->traced < 0) continue;
        if (m->trace->tensor[b->traced].persistent) m->bound[b->traced] = b;
        else b->traced = -1;
    }
}

void cst_step_follow(cst_mem *m, cst_plan *plan, cst_tensor **bound)
{
    cst_plan_free(m->plan);
    free(m->bound);
    m->plan = plan;
    m->bound = bound;
    bind_all(m);
    m->on_plan = 0;
    m->moved = 1;
}

cst_status cst_step_plan(cst_mem *m, uint64_t bytes)
{
    cst_plan *plan;
    cst_tensor **bound = calloc((size_t)m->trace->tensors + 1, sizeof *bound);
    if (!bound) return cst_fail(CST_NO_MEMORY, "memory manager");
    cst_status st = cst_plan_make(&plan, m->trace, bytes);
    if (st == CST_OK) cst_step_follow(m, plan, bound);
    else free(bound);
    return st;
}

cst_status cst_mem_other_slabs(cst_mem *m)
{
    int moved;
    for (cst_tensor *b = m->first; b; b = b->next)
        if (!b->chunk && cst_on_device(b)) CST_TRY(cst_block_evict(b, &moved));
    CST_TRY(cst_mem_finish(m));
    return cst_mem_plan_slabs(m);
}

/* A program that was recorded at work: its memory becomes the plan's. */
static cst_status plan_after_recording(cst_mem *m)
{
    m->trace->scratch = m->scratch_bytes;
    CST_TRY(cst_step_plan(m, cst_mem_plan_room(m)));
    m->measured = !m->marked; /* measuring changes the queue, and who doesn't mark iterations doesn't expect that */
    m->plan_iterations = 0;
    cst_status st = cst_mem_other_slabs(m);
    if (st == CST_OK) return st;
    cst_plan_free(m->plan); /* there is no such memory: plan again when asked again */
    m->plan = NULL;
    return st;
}

/* A new plan's slabs needn't be those there are, and those may be gone: then all of them are made anew. */
static cst_status fit_slabs(cst_mem *m)
{
    int fits = m->plan->slabs <= m->arena.slabs;
    for (int i = 0; fits && i < m->plan->slabs; i++) fits = m->plan->slab[i] <= m->arena.slab[i].capacity;
    return fits ? cst_host_room(m, m->plan->host_bytes) : cst_mem_other_slabs(m);
}

cst_status cst_step_begin(cst_mem *m)
{
    CST_TRY(cst_step_finish(m));
    if (m->planning || (m->migrating && !m->plan)) {
        if (!m->planning && m->trace && m->trace->moments) CST_TRY(plan_after_recording(m));
        else CST_TRY(record_begin(m));
    }
    if (m->plan && fixed_later(m)) CST_TRY(record_begin(m));
    if (!m->plan) {
        m->inside = 1;
        return CST_OK;
    }
    CST_TRY(cst_measure_step(m));
    bind_all(m);
    if (m->moved) CST_TRY(fit_slabs(m));
    if (m->moved) CST_TRY(restore(m));
    m->moved = 0;
    m->inside = m->on_plan = 1;
    m->at = m->action = 0;
    m->stats.iterations++;
    return CST_OK;
}

cst_status cst_step_finish(cst_mem *m)
{
    if (!m->inside) return CST_OK;
    m->inside = 0;
    if (m->recording) CST_TRY(record_end(m));
    if (!m->on_plan) return CST_OK;
    cst_waits w = {.n = 0};
    int followed = m->at == m->trace->moments;
    cst_status st = CST_OK;
    if (followed) {
        CST_GO(cst_fence_mark(m), out);
        CST_GO(perform_all(m, m->at, &w, &followed), out);
        CST_GO(cst_waits_order(&w, m), out);
    }
    if (!followed) stray(m, "the end");
out:
    if (st != CST_OK) m->on_plan = 0, m->moved = 1;
    cst_waits_settle(&w);
    return st;
}

cst_status cst_mem_step(cst_mem *m)
{
    if (!m->marked) { /* what was found out so far is of no use: iterations may begin elsewhere */
        CST_TRY(cst_step_finish(m));
        cst_step_clear(m);
        cst_unmarked_clear(m);
        m->marked = 1;
    }
    return cst_step_begin(m);
}

cst_status cst_mem_step_end(cst_mem *m)
{
    return m->marked ? cst_step_finish(m) : CST_OK;
}

void cst_step_forget(cst_tensor *t)
{
    cst_mem *m = t->mem;
    const cst_tensor *b = cst_block(t);
    if (b->traced < 0 || m->recording) return;
    if (m->bound && m->bound[b->traced] == t) m->bound[b->traced] = NULL;
    /* The work has changed: record it anew. A trace made by planning is kept for those who ask for it. */
    if (m->trace && m->migrating && !m->planning && m->trace->tensor[b->traced].persistent) cst_step_clear(m);
    t->traced = -1;
}

void cst_step_clear(cst_mem *m)
{
    cst_measure_stop(m);
    cst_plan_free(m->plan);
    cst_trace_free(m->trace);
    free(m->bound);
    free(m->part);
    m->part = NULL;
    m->plan = NULL;
    m->trace = NULL;
    m->bound = NULL;
    m->on_plan = m->recording = 0;
}

const cst_trace *cst_mem_trace(const cst_mem *m)
{
    return m->trace && !m->recording ? m->trace : NULL;
}

const cst_plan *cst_mem_plan(const cst_mem *m)
{
    return m->plan;
}

void cst_mem_work(cst_mem *m, double flops)
{
    m->flops = flops;
}
