/* How a block changes its state. docs/memory.md has the table; each function here is one of its arrows. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/host_memory.h"
#include "base/log.h"
#include "memory/fault.h"
#include "memory/internal.h"

#define HOST_SLAB (64 * CST_MIB)

/* From row to column: EMPTY, DEVICE, BOTH, HOST. */
static const unsigned char legal[4][4] = {
    {1, 1, 0, 1},
    {1, 1, 0, 1},
    {1, 1, 1, 1},
    {1, 1, 1, 1},
};

int cst_tensor_may_become(cst_tensor_state from, cst_tensor_state to)
{
    return (unsigned)from < 4 && (unsigned)to < 4 && legal[from][to];
}

const char *cst_tensor_state_name(cst_tensor_state s)
{
    static const char *const name[] = {"EMPTY", "DEVICE", "BOTH", "HOST"};
    return (unsigned)s < 4 ? name[s] : "?";
}

void cst_block_become(cst_tensor *b, cst_tensor_state s)
{
    assert(cst_tensor_may_become(b->state, s));
    b->mem->contents += (uint32_t)(s != CST_TENSOR_EMPTY) - (uint32_t)(b->state != CST_TENSOR_EMPTY);
    b->state = s;
}

void cst_block_count(cst_tensor *b, int there)
{
    cst_mem_stats *s = &b->mem->stats;
    uint64_t bytes = cst_arena_round(&b->mem->arena, cst_tensor_extent(b));
    if (!there) {
        s->used -= bytes;
        s->class_used[b->cls] -= b->bytes;
        return;
    }
    s->used += bytes;
    if (s->used > s->used_peak) s->used_peak = s->used;
    s->class_used[b->cls] += b->bytes;
    if (s->class_used[b->cls] > s->class_peak[b->cls]) s->class_peak[b->cls] = s->class_used[b->cls];
}

/* Room in the arena for b. 0: none. */
static int take(cst_tensor *b, int slab, size_t offset)
{
    cst_arena *a = &b->mem->arena;
    size_t bytes = cst_tensor_extent(b), at = offset;
    if (slab >= 0 ? !cst_arena_place_at(a, bytes, slab, offset) : !cst_arena_place(a, bytes, &slab, &at)) return 0;
    b->slab = slab;
    b->offset = at + (bytes - b->bytes) / 2;
    cst_block_count(b, 1);
    return 1;
}

/* Give its room on the device up. */
static void leave(cst_tensor *b)
{
    cst_arena_remove(&b->mem->arena, cst_tensor_extent(b), b->slab, cst_block_begin(b));
    cst_block_count(b, 0);
    b->put_off = 0;
}

static cst_status flush(cl_command_queue q)
{
    return cst_cl(CST_FAULT(CST_FAULT_MARKER, CL_OUT_OF_RESOURCES, clFlush(q)), "clFlush");
}

static void release_event(cl_event *e)
{
    if (*e) clReleaseEvent(*e);
    *e = NULL;
}

cst_status cst_block_place(cst_tensor *b, int slab, size_t offset, int *placed, cst_waits *w)
{
    cst_mem *m = b->mem;
    *placed = take(b, slab, offset);
    if (!*placed) return CST_OK;
    cst_status st = m->planning ? CST_OK : cst_fence_wait(w, m, CST_ON_DEVICE, CST_COMPUTE, b->slab, cst_block_begin(b), cst_tensor_extent(b));
    if (st == CST_OK && m->guard && !m->planning) st = cst_guard_fill(b);
    if (st != CST_OK) {
        leave(b);
        *placed = 0;
        return st;
    }
    cst_block_become(b, CST_TENSOR_DEVICE);
    return CST_OK;
}

/* Enqueue the upload to the place that it has. */
static cst_status send(cst_tensor *b)
{
    cst_mem *m = b->mem;
    cst_waits w = {.n = 0};
    cl_event done = NULL;
    cst_status st = cst_fence_wait(&w, m, CST_ON_DEVICE, CST_UP, b->slab, cst_block_begin(b), cst_tensor_extent(b));
    if (st == CST_OK) st = cst_fence_wait(&w, m, CST_ON_HOST, CST_UP, b->host_slab, b->host_offset, b->bytes);
    if (st == CST_OK) {
        cl_int err = CST_FAULT(CST_FAULT_TRANSFER, CL_OUT_OF_RESOURCES,
                               clEnqueueWriteBuffer(m->dev->up, m->buffer[b->slab], CL_FALSE, b->offset, b->bytes,
                                                    cst_block_host_address(b), w.n, w.n ? w.e : NULL, &done));
        st = cst_cl(err, "clEnqueueWriteBuffer");
    }
    if (st == CST_OK && (st = flush(m->dev->up)) != CST_OK) clWaitForEvents(1, &done);
    cst_waits_clear(&w);
    if (st != CST_OK) {
        if (done) clReleaseEvent(done);
        return cst_fail_in(st, "upload of %s", b->name);
    }
    m->stats.h2d_bytes += b->bytes;
    cst_fence_add(m, CST_ON_HOST, CST_UP, b->host_slab, b->host_offset, b->bytes, done);
    release_event(&b->uploaded);
    b->uploaded = done;
    b->put_off = 0;
    return CST_OK;
}

cst_status cst_block_send(cst_tensor *b) { return b->put_off ? send(b) : CST_OK; }

cst_status cst_block_upload(cst_tensor *b, int slab, size_t offset, int *placed)
{
    *placed = take(b, slab, offset);
    if (!*placed) return CST_OK;
    cst_status st = b->mem->guard ? cst_guard_fill(b) : CST_OK;
    if (st == CST_OK && !b->renews) st = send(b);
    if (st != CST_OK) {
        leave(b);
        *placed = 0;
        return st;
    }
    b->put_off = b->renews;
    cst_block_become(b, CST_TENSOR_BOTH);
    return CST_OK;
}

static cst_status download(cst_tensor *b, cl_event *done)
{
    cst_mem *m = b->mem;
    cst_waits w = {.n = 0};
    cl_event now = NULL;
    cst_status st = cst_mem_mark(m, &now);
    if (st == CST_OK) {
        cst_waits_add(&w, now);
        cst_waits_add(&w, b->uploaded);
        st = cst_fence_wait(&w, m, CST_ON_HOST, CST_DOWN, b->host_slab, b->host_offset, b->bytes);
    }
    if (st == CST_OK) {
        cl_int err = CST_FAULT(CST_FAULT_TRANSFER, CL_OUT_OF_RESOURCES,
                               clEnqueueReadBuffer(m->dev->down, m->buffer[b->slab], CL_FALSE, b->offset, b->bytes,
                                                   cst_block_host_address(b), w.n, w.e, done));
        st = cst_cl(err, "clEnqueueReadBuffer");
    }
    if (st == CST_OK && (st = flush(m->dev->down)) != CST_OK) {
        clWaitForEvents(1, done);
        release_event(done);
    }
    if (now) clReleaseEvent(now);
    cst_waits_clear(&w);
    return st;
}

/* Commands may still use its place on the device. */
static void fence_off(const cst_tensor *b)
{
    cst_mem *m = b->mem;
    size_t begin = cst_block_begin(b), bytes = cst_tensor_extent(b);
    cst_fence_add(m, CST_ON_DEVICE, CST_COMPUTE, b->slab, begin, bytes, NULL);
    if (b->uploaded) cst_fence_add(m, CST_ON_DEVICE, CST_UP, b->slab, begin, bytes, b->uploaded);
    if (b->downloaded) cst_fence_add(m, CST_ON_DEVICE, CST_DOWN, b->slab, begin, bytes, b->downloaded);
}

cst_status cst_block_evict(cst_tensor *b, int *moved)
{
    cst_mem *m = b->mem;
    *moved = b->state == CST_TENSOR_DEVICE;
    if (*moved) {
        cl_event done = NULL;
        if (b->host_slab < 0) CST_TRY(cst_block_host(b));
        cst_status st = download(b, &done);
        if (st != CST_OK) return cst_fail_in(st, "download of %s", b->name);
        m->stats.d2h_bytes += b->bytes;
        cst_fence_add(m, CST_ON_HOST, CST_DOWN, b->host_slab, b->host_offset, b->bytes, done);
        cst_fence_add(m, CST_ON_DEVICE, CST_DOWN, b->slab, cst_block_begin(b), cst_tensor_extent(b), done);
        clReleaseEvent(done);
    } else {
        fence_off(b);
    }
    release_event(&b->uploaded);
    release_event(&b->downloaded);
    leave(b);
    cst_block_become(b, CST_TENSOR_HOST);
    return CST_OK;
}

/* Its room on the host may still be read or written by transfers: their fences stay. */
static void leave_host(cst_tensor *b)
{
    if (b->host_slab >= 0) cst_arena_remove(&b->mem->host_arena, b->bytes, b->host_slab, b->host_offset);
    b->host_slab = -1;
}

void cst_block_discard(cst_tensor *b)
{
    cst_mem *m = b->mem;
    if (cst_on_device(b)) {
        if (m->migrating && !m->planning) fence_off(b);
        else { /* its place may be written again by another queue's command */
            cst_mem_wait(&b->uploaded);
            cst_mem_wait(&b->downloaded);
        }
        leave(b);
    }
    leave_host(b);
    release_event(&b->uploaded);
    release_event(&b->downloaded);
    cst_block_become(b, CST_TENSOR_EMPTY);
    b->version++;
}

/* --- the host's side ------------------------------------------------------------------------------------ */

void *cst_block_host_address(const cst_tensor *b)
{
    return (char *)b->mem->host_base[b->host_slab] + b->host_offset;
}

static cst_status host_grow(cst_mem *m, size_t bytes)
{
    uint64_t size = bytes > HOST_SLAB ? bytes : HOST_SLAB, all = 0;
    size_t n = (size_t)m->host_arena.slabs;
    void **base = realloc(m->host_base, (n + 1) * sizeof *base);
    if (!base) return cst_fail(CST_NO_MEMORY, "memory manager");
    m->host_base = base;
    for (int i = 0; i < m->host_arena.slabs; i++) all += m->host_arena.slab[i].capacity;
    if (m->host_limit && all + size > m->host_limit) size = bytes;
    if (m->host_limit && all + size > m->host_limit)
        return cst_fail(CST_OVER_BUDGET, "%.1f MiB of host memory beside the %.1f MiB in use are more than --host-mem allows (%.1f MiB)",
                        (double)size / CST_MIB, (double)all / CST_MIB, (double)m->host_limit / CST_MIB);
    CST_TRY(cst_host_alloc(&base[n], m, size));
    cst_status st = cst_arena_add(&m->host_arena, size);
    if (st != CST_OK) cst_host_free(m, base[n]);
    return st;
}

cst_status cst_host_room(cst_mem *m, uint64_t bytes)
{
    uint64_t all = 0, most = (uint64_t)4 << 30, left = cst_host_available();
    for (int i = 0; i < m->host_arena.slabs; i++) all += m->host_arena.slab[i].capacity;
    if (left && bytes > all && bytes - all + 128 * CST_MIB > left) /* known before the first of it is taken */
        return cst_fail(CST_NO_MEMORY, "%.1f MiB of host memory are needed for what isn't on the device, the machine has %.1f MiB left",
                        (double)(bytes - all) / CST_MIB, (double)left / CST_MIB);
    for (; all < bytes; all += bytes - all < most ? bytes - all : most)
        CST_TRY(host_grow(m, cst_arena_round(&m->host_arena, bytes - all < most ? bytes - all : most)));
    return CST_OK;
}

/* Copies older than the device's are of use to nobody. */
static void drop_stale(cst_mem *m)
{
    for (cst_tensor *t = m->first; t; t = t->next)
        if (!t->chunk && t->state == CST_TENSOR_DEVICE) leave_host(t);
}

cst_status cst_block_host(cst_tensor *b)
{
    cst_mem *m = b->mem;
    if (b->host_slab < 0) {
        int slab;
        size_t offset;
        if (!cst_arena_place(&m->host_arena, b->bytes, &slab, &offset)) {
            cst_status st = host_grow(m, cst_arena_round(&m->host_arena, b->bytes));
            if (st != CST_OK) drop_stale(m);
            if (!cst_arena_place(&m->host_arena, b->bytes, &slab, &offset))
                return st != CST_OK ? cst_fail_in(st, "%s", b->name) : cst_fail(CST_STATE, "%s: no room in a new slab", b->name);
        }
        b->host_slab = slab;
        b->host_offset = offset;
    }
    if (b->state == CST_TENSOR_EMPTY) cst_block_become(b, CST_TENSOR_HOST);
    return CST_OK;
}
