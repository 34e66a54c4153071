/* How a block changes its state. docs/memory.md has the table; each function here is one of its arrows. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "memory/internal.h"

#define HOST_SLAB (64 * CST_MIB)

/* Where its extent begins: guards lie around the tensor. */
static size_t begin_of(const cst_tensor *b)
{
    return b->offset - (cst_tensor_extent(b) - b->bytes) / 2;
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
    cst_arena_remove(&b->mem->arena, cst_tensor_extent(b), b->slab, begin_of(b));
    cst_block_count(b, 0);
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
    cst_status st = m->planning ? CST_OK : cst_fence_wait(w, m, CST_ON_DEVICE, CST_COMPUTE, b->slab, begin_of(b), cst_tensor_extent(b));
    if (st == CST_OK && m->guard && !m->planning) st = cst_guard_fill(b);
    if (st != CST_OK) {
        leave(b);
        *placed = 0;
        return st;
    }
    b->state = CST_TENSOR_DEVICE;
    return CST_OK;
}

cst_status cst_block_upload(cst_tensor *b, int slab, size_t offset, int *placed)
{
    cst_mem *m = b->mem;
    cst_waits w = {.n = 0};
    cl_event done = NULL;
    *placed = take(b, slab, offset);
    if (!*placed) return CST_OK;
    cst_status st = m->guard ? cst_guard_fill(b) : CST_OK;
    if (st == CST_OK) st = cst_fence_wait(&w, m, CST_ON_DEVICE, CST_UP, b->slab, begin_of(b), cst_tensor_extent(b));
    if (st == CST_OK) {
        cst_waits_add(&w, b->downloaded);
        st = cst_cl(clEnqueueWriteBuffer(m->dev->up, m->buffer[b->slab], CL_FALSE, b->offset, b->bytes, cst_block_host_address(b), w.n,
                                         w.n ? w.e : NULL, &done), "clEnqueueWriteBuffer");
    }
    if (st == CST_OK && (st = cst_cl(clFlush(m->dev->up), "clFlush")) != CST_OK) clWaitForEvents(1, &done);
    cst_waits_clear(&w);
    if (st != CST_OK) {
        if (done) clReleaseEvent(done);
        leave(b);
        *placed = 0;
        return cst_fail_in(st, "upload of %s", b->name);
    }
    m->stats.h2d_bytes += b->bytes;
    release_event(&b->uploaded);
    release_event(&b->downloaded); /* the upload waited for it */
    b->uploaded = done;
    b->state = CST_TENSOR_BOTH;
    return CST_OK;
}

static cst_status download(cst_tensor *b, cl_event *done)
{
    cst_mem *m = b->mem;
    cst_waits w = {.n = 0};
    cl_event now = NULL;
    size_t bytes = cst_arena_round(&m->host_arena, b->bytes);
    cst_status st = cst_mem_mark(m, &now);
    if (st == CST_OK) {
        cst_waits_add(&w, now);
        cst_waits_add(&w, b->uploaded);
        st = cst_fence_wait(&w, m, CST_ON_HOST, CST_DOWN, b->host_slab, b->host_offset, bytes);
    }
    if (st == CST_OK)
        st = cst_cl(clEnqueueReadBuffer(m->dev->down, m->buffer[b->slab], CL_FALSE, b->offset, b->bytes, cst_block_host_address(b), w.n, w.e,
                                        done), "clEnqueueReadBuffer");
    if (st == CST_OK && (st = cst_cl(clFlush(m->dev->down), "clFlush")) != CST_OK) {
        clWaitForEvents(1, done);
        release_event(done);
    }
    if (now) clReleaseEvent(now);
    cst_waits_clear(&w);
    return st;
}

cst_status cst_block_evict(cst_tensor *b, int *moved)
{
    cst_mem *m = b->mem;
    size_t begin = begin_of(b), bytes = cst_tensor_extent(b);
    *moved = b->state == CST_TENSOR_DEVICE;
    if (*moved) {
        cl_event done = NULL;
        if (b->host_slab < 0) CST_TRY(cst_block_host(b));
        cst_status st = download(b, &done);
        if (st != CST_OK) return cst_fail_in(st, "download of %s", b->name);
        m->stats.d2h_bytes += b->bytes;
        release_event(&b->downloaded);
        b->downloaded = done;
        CST_TRY(cst_fence_add(m, CST_ON_DEVICE, CST_DOWN, b->slab, begin, bytes, done));
    } else {
        CST_TRY(cst_fence_add(m, CST_ON_DEVICE, CST_COMPUTE, b->slab, begin, bytes, NULL));
        if (b->uploaded) CST_TRY(cst_fence_add(m, CST_ON_DEVICE, CST_UP, b->slab, begin, bytes, b->uploaded));
        if (b->downloaded) CST_TRY(cst_fence_add(m, CST_ON_DEVICE, CST_DOWN, b->slab, begin, bytes, b->downloaded));
    }
    release_event(&b->uploaded);
    leave(b);
    b->state = CST_TENSOR_HOST;
    return CST_OK;
}

/* Its room on the host may still be read or written by transfers. */
static cst_status leave_host(cst_tensor *b, cst_status st)
{
    cst_mem *m = b->mem;
    size_t bytes = cst_arena_round(&m->host_arena, b->bytes);
    if (b->host_slab < 0) return st;
    if (st == CST_OK && b->uploaded) st = cst_fence_add(m, CST_ON_HOST, CST_UP, b->host_slab, b->host_offset, bytes, b->uploaded);
    if (st == CST_OK && b->downloaded) st = cst_fence_add(m, CST_ON_HOST, CST_DOWN, b->host_slab, b->host_offset, bytes, b->downloaded);
    cst_arena_remove(&m->host_arena, b->bytes, b->host_slab, b->host_offset);
    b->host_slab = -1;
    return st;
}

void cst_block_discard(cst_tensor *b)
{
    cst_mem *m = b->mem;
    cst_status st = CST_OK;
    if (cst_on_device(b)) {
        size_t begin = begin_of(b), bytes = cst_tensor_extent(b);
        if (m->migrating && !m->planning) {
            st = cst_fence_add(m, CST_ON_DEVICE, CST_COMPUTE, b->slab, begin, bytes, NULL);
            if (st == CST_OK && b->uploaded) st = cst_fence_add(m, CST_ON_DEVICE, CST_UP, b->slab, begin, bytes, b->uploaded);
            if (st == CST_OK && b->downloaded) st = cst_fence_add(m, CST_ON_DEVICE, CST_DOWN, b->slab, begin, bytes, b->downloaded);
        } else { /* its place may be written again by another queue's command */
            cst_mem_wait(&b->uploaded);
            cst_mem_wait(&b->downloaded);
        }
        leave(b);
    }
    st = leave_host(b, st);
    if (st != CST_OK) cst_mem_finish(m); /* no memory for a fence: then nothing may be running */
    release_event(&b->uploaded);
    release_event(&b->downloaded);
    b->state = CST_TENSOR_EMPTY;
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
    uint64_t all = 0, most = (uint64_t)4 << 30;
    for (int i = 0; i < m->host_arena.slabs; i++) all += m->host_arena.slab[i].capacity;
    for (; all < bytes; all += bytes - all < most ? bytes - all : most)
        CST_TRY(host_grow(m, cst_arena_round(&m->host_arena, bytes - all < most ? bytes - all : most)));
    return CST_OK;
}

cst_status cst_block_host(cst_tensor *b)
{
    cst_mem *m = b->mem;
    if (b->host_slab < 0) {
        int slab;
        size_t offset;
        if (!cst_arena_place(&m->host_arena, b->bytes, &slab, &offset)) {
            cst_status st = host_grow(m, cst_arena_round(&m->host_arena, b->bytes));
            if (st != CST_OK) return cst_fail_in(st, "%s", b->name);
            if (!cst_arena_place(&m->host_arena, b->bytes, &slab, &offset)) return cst_fail(CST_STATE, "%s: no room in a new slab", b->name);
        }
        b->host_slab = slab;
        b->host_offset = offset;
    }
    if (b->state == CST_TENSOR_EMPTY) b->state = CST_TENSOR_HOST;
    return CST_OK;
}
