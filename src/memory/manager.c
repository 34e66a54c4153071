#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/host_memory.h"
#include "base/log.h"
#include "memory/fault.h"
#include "memory/internal.h"

#define MIB CST_MIB
#define GIB ((uint64_t)1 << 30)

const char *cst_class_name(cst_class c)
{
    static const char *const name[] = {
#define X(n, text) text,
        CST_CLASS_LIST(X)
#undef X
    };
    return (unsigned)c < CST_CLASS_COUNT ? name[c] : "?";
}

/* Does this device compute in the memory that the host uses as well? */
static int in_host_memory(const cst_device *dev)
{
    return dev->is_cpu || dev->info.unified;
}

uint64_t cst_mem_default_budget(const cst_device *dev)
{
    uint64_t b = dev->info.mem_bytes / 10 * 9, room = cst_host_available() / 2;
    if (b > 600 * MIB) b -= 300 * MIB;
    if (in_host_memory(dev) && room) b = room;
    return b;
}

cst_status cst_mem_create(cst_mem **out, cst_device *dev, uint64_t budget)
{
    uint64_t most = dev->info.mem_bytes;
    if (in_host_memory(dev) && cst_host_available() > most) most = cst_host_available(); /* PoCL's own figure wanders */
    if (!budget) budget = cst_mem_default_budget(dev);
    if (budget > most)
        return cst_fail(CST_USAGE, "device memory of %.1f MiB asked for; \"%s\" has %.1f MiB", (double)budget / MIB,
                        dev->info.name, (double)most / MIB);
    cst_mem *m = calloc(1, sizeof *m);
    if (!m) return cst_fail(CST_NO_MEMORY, "memory manager");
    m->dev = dev;
    m->stats.budget = budget;
    m->pinned_limit = UINT64_MAX;
    /* At most 4 GiB a slab: CLBlast's kernels count elements in 32-bit integers; quirk fill-8gib. */
    uint64_t slab = dev->info.max_alloc < 4 * GIB ? dev->info.max_alloc : 4 * GIB;
    cst_arena_init(&m->arena, dev->info.align > 256 ? dev->info.align : 256, slab);
    cst_arena_init(&m->host_arena, 4096, (size_t)1 << 62);
    m->rates = (cst_rates){.up = 12e9, .down = 12e9, .both = 0.9, .memory = dev->is_cpu ? 20e9 : 500e9, .flops = dev->is_cpu ? 100e9 : 10e12,
                           .launch = dev->is_cpu ? 20e-6 : 5e-6};
    *out = m;
    return CST_OK;
}

static void release_buffers(cst_mem *m)
{
    cst_mem_drop_slabs(m);
    free(m->buffer);
    m->buffer = NULL;
    if (m->scratch) {
        clReleaseMemObject(m->scratch);
        m->dev->released++;
    }
    m->scratch = NULL;
    m->scratch_bytes = 0;
    m->stats.reserved = 0;
}

cst_status cst_mem_free(cst_mem *m)
{
    if (!m) return CST_OK;
    cst_measure_stop(m);
    cst_status st = cst_mem_finish(m);
    cst_step_clear(m);
    if (st == CST_OK && m->acquired) st = cst_fail(CST_STATE, "%d tensors were acquired and not released", m->acquired);
    if (st == CST_OK && m->first) st = cst_fail(CST_STATE, "tensor %s was not freed", m->first->name);
    for (cst_tensor *t = m->first; t;) { /* companions may own tensors of the list */
        cst_tensor *owner = t->companion ? t : NULL;
        if (owner) cst_tensor_accompany(owner, NULL, NULL);
        t = owner ? m->first : t->next;
    }
    cst_chunks_dissolve(m);
    while (m->first) {
        m->first->pins = 0;
        cst_tensor_free(m->first);
    }
    cst_fence_clear(m);
    cst_unmarked_clear(m);
    cst_operators_clear(&m->operators);
    free(m->held);
    cst_arena_clear(&m->host_arena);
    free(m->host_base);
    release_buffers(m);
    while (m->host) cst_host_free(m, m->host->p);
    free(m);
    return st;
}

cst_device *cst_mem_device(const cst_mem *m)
{
    return m->dev;
}

void cst_mem_get_stats(const cst_mem *m, cst_mem_stats *s)
{
    *s = m->stats;
    s->slabs = (uint64_t)m->arena.slabs;
}

/* A CPU's runtime takes the pages at the first write: let that be now, on all threads, and in large pages, which are
 * quicker to get and to find. */
static cl_int touch(cl_command_queue queue, cl_mem b, size_t bytes)
{
    const size_t page = 4096, huge = (size_t)2 << 20;
    cl_int err;
    char *p = clEnqueueMapBuffer(queue, b, CL_TRUE, CL_MAP_WRITE_INVALIDATE_REGION, 0, bytes, 0, NULL, NULL, &err);
    if (err != CL_SUCCESS) return err;
    uintptr_t start = ((uintptr_t)p + page - 1) / page * page, end = ((uintptr_t)p + bytes) / page * page;
    if (end > start) (void)madvise((void *)start, end - start, MADV_HUGEPAGE);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < bytes; i += huge)
        for (size_t j = i; j < bytes && j < i + huge; j += page) p[j] = 0;
    return clEnqueueUnmapMemObject(queue, b, p, 0, NULL, NULL);
}

cst_status cst_mem_buffer(cst_mem *m, cl_mem *out, size_t bytes)
{
    cl_int err;
    if (m->stats.reserved + bytes > m->stats.budget)
        return cst_fail(CST_OVER_BUDGET, "%.1f MiB more than the %.1f MiB in use, with a budget of %.1f MiB",
                        (double)bytes / MIB, (double)m->stats.reserved / MIB, (double)m->stats.budget / MIB);
    uint64_t room = cst_host_available();
    if (in_host_memory(m->dev) && room && bytes + 128 * MIB > room) /* quirk memory-is-lazy */
        return cst_fail(CST_DEVICE, "the machine has %.1f MiB left, %.1f MiB are needed for \"%s\"; lower --device-mem",
                        (double)room / MIB, (double)bytes / MIB, m->dev->info.name);
    cl_mem b = CST_FAULT(CST_FAULT_CREATE, (err = CL_MEM_OBJECT_ALLOCATION_FAILURE, (cl_mem)NULL),
                         clCreateBuffer(m->dev->context, CL_MEM_READ_WRITE, bytes, NULL, &err));
    if (err == CL_SUCCESS) {
        err = clEnqueueMigrateMemObjects(m->dev->compute, 1, &b, CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED, 0, NULL, NULL);
        if (err == CL_SUCCESS && m->dev->is_cpu) err = touch(m->dev->compute, b, bytes);
        if (err == CL_SUCCESS) err = clFinish(m->dev->compute);
        if (err != CL_SUCCESS) clReleaseMemObject(b);
    }
    if (err != CL_SUCCESS) {
        cst_cl(err, "clCreateBuffer");
        return cst_fail_in(CST_DEVICE, "\"%s\" refuses %.1f MiB beside %.1f MiB in use; lower --device-mem", m->dev->info.name,
                           (double)bytes / MIB, (double)m->stats.reserved / MIB);
    }
    m->stats.reserved += bytes;
    if (m->stats.reserved > m->stats.reserved_peak) m->stats.reserved_peak = m->stats.reserved;
    *out = b;
    return CST_OK;
}

cst_status cst_mem_grow(cst_mem *m, size_t bytes)
{
    size_t need = cst_arena_round(&m->arena, bytes), size = need < 32 * MIB ? 32 * MIB : need;
    if (m->planning) size = need > m->arena.max_slab ? need : m->arena.max_slab;
    else if (m->stats.reserved + size > m->stats.budget) size = need;
    cl_mem *more = realloc(m->buffer, (size_t)(m->arena.slabs + 1) * sizeof *more), b = NULL;
    if (!more) return cst_fail(CST_NO_MEMORY, "slab");
    m->buffer = more;
    if (!m->planning) CST_TRY(cst_mem_buffer(m, &b, size));
    m->buffer[m->arena.slabs] = b;
    cst_status st = cst_arena_add(&m->arena, size);
    if (st != CST_OK && b) {
        clReleaseMemObject(b);
        m->dev->released++;
        m->stats.reserved -= size;
    }
    return st;
}

/* Blocks in use, for what is enqueued inside of this operator. */
static cst_status hold(cst_mem *m, const cst_use *use, int n)
{
    while (m->helds + n > m->held_room) {
        int room = m->held_room ? 2 * m->held_room : 64;
        cst_tensor **more = realloc(m->held, (size_t)room * sizeof *more);
        if (!more) return cst_fail(CST_NO_MEMORY, "memory manager");
        m->held = more;
        m->held_room = room;
    }
    if (m->depth == 16) return cst_fail(CST_STATE, "operators within operators, 16 deep");
    for (int i = 0; i < n; i++) m->held[m->helds++] = cst_block(use[i].t);
    return CST_OK;
}

/* Bytes of all that is in use now. */
static uint64_t bytes_in_use(const cst_mem *m)
{
    uint64_t sum = 0;
    for (int i = 0; i < m->helds; i++) {
        int first = 1;
        for (int j = 0; j < i && first; j++) first = m->held[j] != m->held[i];
        if (first) sum += cst_arena_round(&m->arena, cst_tensor_extent(m->held[i]));
    }
    return sum;
}

/* All are on the device: pin them, say where they are and what to wait for. */
static void take(cst_mem *m, cst_use *use, int n, cst_waits *w)
{
    m->clock++;
    for (int i = 0; i < n; i++) {
        cst_tensor *t = use[i].t, *b = cst_block(t);
        b->pins++;
        b->stamp = m->clock;
        use[i].mem = m->buffer[b->slab];
        use[i].offset = b->offset + t->chunk_at;
        cst_waits_add(w, b->uploaded);
        if (b->uploaded) clReleaseEvent(b->uploaded);
        b->uploaded = NULL;
        if (use[i].access == CST_READ) continue;
        cst_waits_add(w, b->downloaded);
        if (b->downloaded) clReleaseEvent(b->downloaded);
        b->downloaded = NULL;
        cst_block_become(b, CST_TENSOR_DEVICE);
        t->version++;
    }
    m->acquired += n;
    m->stats.acquires++;
}

cst_status cst_mem_acquire(cst_mem *m, const char *op, cst_use *use, int n, cl_event *wait, cl_uint *nwait)
{
    cst_waits w = {.n = 0};
    if (n > 16) return cst_fail(CST_STATE, "%s: more than 16 tensors", op);
#ifdef CST_DEBUG
    CST_TRY(cst_mem_check(m));
#endif
    CST_TRY(hold(m, use, n));
    m->helds -= n; /* these are what is acquired now; below they count */
    cst_status st = cst_step_acquire(m, op, use, n, &w);
    for (int i = 0; i < n && st == CST_OK; i++) st = cst_block_send(cst_block(use[i].t));
    if (st != CST_OK) {
        cst_waits_settle(&w);
        return st;
    }
    m->helds += n;
    take(m, use, n, &w);
    if (m->planning || m->migrating) {
        uint64_t together = bytes_in_use(m);
        if (together > m->largest) m->largest = together;
    }
    int moment = m->on_plan && m->inside ? m->at - 1 : -1;
    m->open[m->depth++] = moment;
    if (wait) *nwait = 0;
    if (wait && w.n <= 32 && !m->measure.usual) { /* ours become the caller's */
        for (cl_uint i = 0; i < w.n; i++) wait[i] = w.e[i];
        *nwait = w.n;
        return CST_OK;
    }
    st = cst_waits_order(&w, m);
    if (st != CST_OK) cst_mem_release(m, use, n);
    else if (m->measure.usual) cst_measure_mark(m, moment, 0);
    return st;
}

void cst_mem_release(cst_mem *m, cst_use *use, int n)
{
    for (int i = 0; i < n; i++) cst_block(use[i].t)->pins--;
    m->acquired -= n;
    m->helds -= n;
    m->depth--;
    if (m->measure.usual) cst_measure_mark(m, m->open[m->depth], 1);
}

cst_status cst_mem_scratch(cst_mem *m, size_t bytes, cl_mem *out)
{
    *out = NULL;
    if (m->planning) {
        if (bytes > m->scratch_bytes) m->scratch_bytes = bytes;
        return CST_OK;
    }
    if (bytes > m->scratch_bytes || !m->scratch) {
        size_t old = m->scratch_bytes;
        if (m->scratch) { /* released first: two at once may not fit */
            CST_TRY(cst_mem_finish(m));
            clReleaseMemObject(m->scratch);
            m->dev->released++;
            m->scratch = NULL;
            m->scratch_bytes = 0;
            m->stats.reserved -= old;
            m->stats.class_used[CST_SCRATCH] -= old;
        }
        cst_status st = cst_mem_buffer(m, &m->scratch, bytes);
        if (st != CST_OK) return cst_fail_in(st, "scratch of a matrix product");
        m->scratch_bytes = bytes;
        m->stats.class_used[CST_SCRATCH] += bytes;
        if (m->stats.class_used[CST_SCRATCH] > m->stats.class_peak[CST_SCRATCH])
            m->stats.class_peak[CST_SCRATCH] = m->stats.class_used[CST_SCRATCH];
    }
    *out = m->scratch;
    return CST_OK;
}

cst_status cst_mem_plan_begin(cst_mem *m)
{
    for (cst_tensor *t = m->first; t; t = t->next)
        if (t->state != CST_TENSOR_EMPTY) return cst_fail(CST_STATE, "%s has storage already", t->name);
    CST_TRY(cst_mem_finish(m));
    cst_step_clear(m);
    cst_unmarked_clear(m);
    cst_chunks_dissolve(m);
    release_buffers(m);
    memset(m->stats.class_used, 0, sizeof m->stats.class_used);
    memset(m->stats.class_peak, 0, sizeof m->stats.class_peak);
    m->stats.used = m->stats.used_peak = 0;
    m->largest = m->room = 0;
    m->planning = 1;
    m->migrating = 0;
    return CST_OK;
}

uint64_t cst_mem_plan_bytes(const cst_mem *m)
{
    uint64_t sum = m->scratch_bytes;
    for (int i = 0; i < m->arena.slabs; i++) sum += m->arena.slab[i].high;
    return sum;
}

cst_status cst_mem_plan_least(uint64_t *bytes, const cst_mem *m)
{
    *bytes = cst_mem_plan_bytes(m);
    if (!m->trace || !m->trace->moments) return CST_OK;
    uint64_t least;
    CST_TRY(cst_plan_least(&least, m->trace));
    if (least < m->largest) least = m->largest;
    *bytes = least + m->scratch_bytes;
    return CST_OK;
}

/* Bytes for tensors. */
static cst_status room_for_plan(const cst_mem *m, uint64_t *room)
{
    uint64_t left = m->stats.budget > m->scratch_bytes ? m->stats.budget - m->scratch_bytes : 0;
    if (m->largest <= left) return cst_plan_takes(room, m->trace, left, cst_mem_plan_bytes(m) - m->scratch_bytes);
    return cst_fail(CST_OVER_BUDGET, "%.1f MiB are needed for what one operator uses, the budget is %.1f MiB",
                    (double)(m->largest + m->scratch_bytes) / MIB, (double)m->stats.budget / MIB);
}

/* Once: a device's rates don't change. */
static cst_status know_rates(cst_mem *m)
{
    if (!m->rates_known && m->dev->context) CST_TRY(cst_measure_rates(m));
    m->rates_known = 1;
    if (!m->trace) return CST_OK;
    double known;
    m->trace->rates = m->rates;
    if (m->operators.n) cst_operators_apply(&m->operators, m->trace, &known);
    return CST_OK;
}

cst_status cst_mem_know_operators(double *known, double *seconds, cst_mem *m)
{
    *known = *seconds = 0;
    if (!m->trace || !m->dev->context || m->other_device) return CST_OK;
    cst_measure_load(m);
    for (int k = 0; k < m->trace->moments; k++) m->trace->moment[k].seconds = -1;
    cst_operators_apply(&m->operators, m->trace, known);
    for (int k = 0; k < m->trace->moments; k++) *seconds += cst_trace_seconds(m->trace, k);
    return CST_OK;
}

void cst_mem_keep_times(cst_mem *m) { m->keep_times = 1; }

cst_status cst_mem_rates(cst_rates *r, cst_mem *m)
{
    if (m->planning) CST_TRY(know_rates(m));
    *r = m->rates;
    return CST_OK;
}

void cst_mem_suppose(cst_mem *m, uint64_t budget, const cst_rates *r)
{
    int other = r->memory != m->rates.memory || r->flops != m->rates.flops || r->launch != m->rates.launch;
    m->other_device |= m->rates_known && other;
    if (m->other_device) cst_operators_clear(&m->operators);
    m->stats.budget = budget;
    m->rates = *r;
    m->rates_known = 1;
}

cst_status cst_mem_plan_try(cst_plan **out, uint64_t *bytes, cst_mem *m)
{
    uint64_t room;
    if (!m->planning || !m->trace || !m->trace->moments) return cst_fail(CST_STATE, "no iteration was recorded");
    CST_TRY(room_for_plan(m, &room));
    CST_TRY(know_rates(m));
    CST_TRY(cst_plan_make(out, m->trace, room));
    if (bytes) *bytes = room + m->scratch_bytes;
    return CST_OK;
}

static cst_status commit_scratch(cst_mem *m)
{
    size_t bytes = m->scratch_bytes;
    cl_mem scratch;
    m->scratch_bytes = 0;
    return bytes ? cst_mem_scratch(m, bytes, &scratch) : CST_OK;
}

uint64_t cst_mem_plan_room(const cst_mem *m)
{
    uint64_t left = (m->stats.budget - m->scratch_bytes) / m->arena.align * m->arena.align;
    return m->room && m->room < left ? m->room : left;
}

/* Bytes that all slabs get: what was said when the plan was committed. Of a program that was recorded at work: what the plan takes,
 * or the most that operators outside of the plan use at once, beside what never leaves the device. */
static uint64_t bytes_of_slabs(const cst_mem *m)
{
    uint64_t need = m->largest, room = cst_mem_plan_room(m);
    if (m->room) return room;
    for (const cst_tensor *t = m->first; t; t = t->next)
        if (t->fixed) need += cst_arena_round(&m->arena, cst_tensor_extent(t));
    if (need > room) need = room;
    return need > m->plan->bytes ? need : m->plan->bytes;
}

/* Between iterations only: quirk release-waits. */
void cst_mem_drop_slabs(cst_mem *m)
{
    for (int i = 0; i < m->arena.slabs; i++) {
        if (!m->buffer[i]) continue;
        clReleaseMemObject(m->buffer[i]);
        m->stats.reserved -= m->arena.slab[i].capacity;
        m->dev->released++;
    }
    cst_arena_clear(&m->arena);
}

static cst_status add_slab(cst_mem *m, uint64_t bytes)
{
    cl_mem *more = realloc(m->buffer, (size_t)(m->arena.slabs + 1) * sizeof *more), b;
    if (!more) return cst_fail(CST_NO_MEMORY, "slab");
    m->buffer = more;
    CST_TRY(cst_mem_buffer(m, &b, bytes));
    m->buffer[m->arena.slabs] = b;
    cst_status st = cst_arena_add(&m->arena, bytes);
    if (st == CST_OK) return st;
    clReleaseMemObject(b);
    m->dev->released++;
    m->stats.reserved -= bytes;
    return st;
}

/* What the plan leaves over goes to the first slabs that may be larger. */
cst_status cst_mem_plan_slabs(cst_mem *m)
{
    const cst_plan *p = m->plan;
    uint64_t rest = bytes_of_slabs(m) - p->bytes;
    cst_mem_drop_slabs(m);
    for (int i = 0; i < p->slabs || rest; i++) {
        uint64_t bytes = i < p->slabs ? p->slab[i] : 0, more = m->arena.max_slab - bytes;
        if (more > rest) more = rest;
        rest -= more;
        CST_TRY(add_slab(m, bytes + more));
    }
    return cst_host_room(m, p->host_bytes);
}

/* The imaginary storage that planning gave goes. */
static void forget_places(cst_mem *m)
{
    for (cst_tensor *t = m->first; t; t = t->next) t->state = CST_TENSOR_EMPTY;
    m->contents = 0;
    memset(m->stats.class_used, 0, sizeof m->stats.class_used);
    memset(m->stats.class_peak, 0, sizeof m->stats.class_peak);
    m->stats.used = m->stats.used_peak = 0;
}

/* The tensors don't fit together: they migrate. Nothing but what never leaves the device has storage after this. */
static cst_status commit_migration(cst_mem *m)
{
    uint64_t bytes;
    cst_plan *plan;
    CST_TRY(cst_mem_plan_try(&plan, &bytes, m));
    m->room = bytes - m->scratch_bytes;
    cst_tensor **bound = calloc((size_t)m->trace->tensors + 1, sizeof *bound);
    cst_status st = bound ? CST_OK : cst_fail(CST_NO_MEMORY, "memory manager");
    if (st == CST_OK && m->part) st = cst_chunks_make(m);
    if (st != CST_OK) {
        cst_plan_free(plan);
        free(bound);
        return st;
    }
    cst_step_follow(m, plan, bound);
    forget_places(m);
    m->planning = 0;
    m->migrating = 1;
    m->measured = 0;
    m->plan_iterations = 0;
    CST_TRY(cst_mem_plan_slabs(m));
    CST_TRY(commit_scratch(m));
    for (cst_tensor *t = m->first; t; t = t->next) /* what never leaves the device has its place from now on */
        if (t->fixed && t->traced >= 0 && m->plan->start[t->traced].slab >= 0) {
            cst_waits w = {.n = 0};
            int placed;
            CST_TRY(cst_block_place(t, m->plan->start[t->traced].slab, m->plan->start[t->traced].offset, &placed, &w));
            cst_waits_settle(&w);
        }
    return CST_OK;
}

/* The device hasn't got the memory: as before plan_begin. */
static void undo_commit(cst_mem *m)
{
    forget_places(m);
    cst_step_clear(m);
    cst_chunks_dissolve(m);
    release_buffers(m);
    m->planning = m->migrating = 0;
    m->room = 0;
}

cst_status cst_mem_plan_commit(cst_mem *m)
{
    uint64_t need = cst_mem_plan_bytes(m);
    if (!m->planning) return cst_fail(CST_STATE, "no plan to commit");
    m->stats.h2d_bytes = m->stats.d2h_bytes = m->stats.acquires = 0;
    if (m->may_migrate && m->trace && m->trace->moments && (need > m->stats.budget || m->keep_times || cst_trace_away(m->trace))) {
        cst_status st = commit_migration(m);
        if (st != CST_OK && !m->planning) undo_commit(m);
        return st;
    }
    if (need > m->stats.budget)
        return cst_fail(CST_OVER_BUDGET, "%.1f MiB are needed, the budget is %.1f MiB", (double)need / MIB,
                        (double)m->stats.budget / MIB);
    cst_arena_fix(&m->arena);
    m->planning = 0;
    cst_status st = CST_OK;
    for (int i = 0; i < m->arena.slabs && st == CST_OK; i++) st = cst_mem_buffer(m, &m->buffer[i], m->arena.slab[i].capacity);
    if (st == CST_OK) st = commit_scratch(m);
    if (st != CST_OK) undo_commit(m);
    return st;
}

void cst_mem_migrate(cst_mem *m, uint64_t host, uint64_t pinned)
{
    m->may_migrate = 1;
    m->host_limit = host;
    m->pinned_limit = pinned;
    if (!m->planning) m->migrating = 1;
}

int cst_mem_migrating(const cst_mem *m)
{
    return m->migrating;
}

int cst_mem_planning(const cst_mem *m)
{
    return m->planning;
}

/* After a failure: the caller may go on to release what commands use, so let there be none where that can be had. */
static void drain(cl_command_queue q)
{
    cl_event end = NULL;
    if (clEnqueueMarkerWithWaitList(q, 0, NULL, &end) == CL_SUCCESS) {
        clFlush(q);
        clWaitForEvents(1, &end);
        clReleaseEvent(end);
    } else {
        clFinish(q);
    }
}

cst_status cst_mem_finish(cst_mem *m)
{
    if (m->planning || !m->dev->context) return CST_OK;
    cl_command_queue q[] = {m->dev->up, m->dev->compute, m->dev->down};
    cl_event end[3] = {NULL, NULL, NULL};
    cst_status st = CST_OK;
    /* events: quirk finish-returns-early */
    for (int i = 0; i < 3 && st == CST_OK; i++) {
        cl_int err = CST_FAULT(CST_FAULT_MARKER, CL_OUT_OF_RESOURCES, clEnqueueMarkerWithWaitList(q[i], 0, NULL, &end[i]));
        st = cst_cl(err, "clEnqueueMarkerWithWaitList");
        if (st == CST_OK) st = cst_cl(clFlush(q[i]), "clFlush");
    }
    for (int i = 0; i < 3 && st == CST_OK; i++) st = cst_cl(clWaitForEvents(1, &end[i]), "clWaitForEvents");
    for (int i = 0; i < 3; i++) {
        if (end[i]) clReleaseEvent(end[i]);
        if (st != CST_OK) drain(q[i]);
    }
    return st;
}

/* What a state says is so, and rooms on the host add up. */
static cst_status check_states(const cst_mem *m)
{
    size_t host = 0;
    if (cst_arena_wrong(&m->host_arena)) return cst_fail(CST_STATE, "the books of host memory are wrong");
    for (const cst_tensor *t = m->first; t; t = t->next) {
        if (t->chunk) continue;
        int copy = t->host_slab >= 0, on = cst_on_device(t);
        if (copy) host += cst_arena_round(&m->host_arena, t->bytes);
        if ((t->state == CST_TENSOR_HOST || t->state == CST_TENSOR_BOTH) && !copy)
            return cst_fail(CST_STATE, "%s is %s without room on the host", t->name, cst_tensor_state_name(t->state));
        if (t->state == CST_TENSOR_EMPTY && copy) return cst_fail(CST_STATE, "%s is EMPTY and has room on the host", t->name);
        if (!on && (t->pins || t->uploaded || t->downloaded)) return cst_fail(CST_STATE, "%s is in use and not on the device", t->name);
    }
    return host == m->host_arena.used ? CST_OK : cst_fail(CST_STATE, "the books of host memory are wrong");
}

cst_status cst_mem_check(const cst_mem *m)
{
    const cst_mem_stats *s = &m->stats;
    uint64_t used = 0;
    cst_tensor **live;
    int n;
    if (s->used > s->reserved && !m->planning) return cst_fail(CST_STATE, "used %llu > reserved %llu", (unsigned long long)s->used, (unsigned long long)s->reserved);
    if (s->reserved > s->budget) return cst_fail(CST_STATE, "reserved %llu > budget %llu", (unsigned long long)s->reserved, (unsigned long long)s->budget);
    if (cst_arena_wrong(&m->arena) || m->arena.used != s->used) return cst_fail(CST_STATE, "the arena's books are wrong");
    CST_TRY(cst_blocks_list(&live, &n, m));
    for (int i = 0; i < n; i++) used += cst_arena_round(&m->arena, cst_tensor_extent(live[i]));
    cst_status states = check_states(m);
    cst_status st = states != CST_OK ? states : used == s->used ? CST_OK : cst_fail(CST_STATE, "tensors use %llu bytes, the books say %llu", (unsigned long long)used, (unsigned long long)s->used);
    for (int i = 1; i < n && st == CST_OK; i++)
        if (live[i - 1]->slab == live[i]->slab && live[i - 1]->offset + live[i - 1]->bytes > live[i]->offset)
            st = cst_fail(CST_STATE, "%s and %s overlap", live[i - 1]->name, live[i]->name);
    free(live);
    return st;
}
