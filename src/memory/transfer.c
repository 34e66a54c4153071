#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/host_memory.h"
#include "base/log.h"
#include "memory/fault.h"
#include "memory/internal.h"

static cst_status check_span(const cst_tensor *t, size_t offset, size_t bytes)
{
    if (offset > t->bytes || bytes > t->bytes - offset)
        return cst_fail(CST_USAGE, "%s: transfer of %zu bytes at %zu in %zu", t->name, bytes, offset, t->bytes);
    return CST_OK;
}

/* An event that says: everything on the compute queue up to now is done. */
static cst_status compute_now(cst_mem *m, cl_event *e)
{
    /* a barrier: quirk marker-waits */
    cl_int err = CST_FAULT(CST_FAULT_MARKER, CL_OUT_OF_RESOURCES, clEnqueueBarrierWithWaitList(m->dev->compute, 0, NULL, e));
    CST_TRY(cst_cl(err, "clEnqueueBarrierWithWaitList"));
    /* quirk wait-needs-flush */
    err = CST_FAULT(CST_FAULT_MARKER, CL_OUT_OF_RESOURCES, clFlush(m->dev->compute));
    if (err == CL_SUCCESS) return CST_OK;
    clReleaseEvent(*e);
    *e = NULL;
    return cst_cl(err, "clFlush");
}

static void keep_event(cl_event *slot, cl_event e)
{
    if (*slot) clReleaseEvent(*slot); /* the newer command of the same in-order queue covers it */
    clRetainEvent(e);
    *slot = e;
}

cst_status cst_mem_mark(cst_mem *m, cl_event *mark)
{
    if (*mark) clReleaseEvent(*mark);
    *mark = NULL;
    return m->planning ? CST_OK : compute_now(m, mark);
}

/* The host's copy, to be read or written by the host now. */
static cst_status host_copy(char **p, const cst_tensor *t, int write)
{
    cst_tensor *b = cst_block(t);
    CST_TRY(cst_fence_settle(b->mem, CST_ON_HOST, write ? CST_NO_QUEUE : CST_UP, b->host_slab, b->host_offset, b->bytes));
    *p = (char *)cst_block_host_address(b) + t->chunk_at;
    return CST_OK;
}

/* When that fails, the caller gets no event: the transfer is waited for. */
static cst_status flush(cl_command_queue q, cl_event *done)
{
    cl_int err = CST_FAULT(CST_FAULT_MARKER, CL_OUT_OF_RESOURCES, clFlush(q));
    if (err != CL_SUCCESS) cst_mem_wait(done);
    return cst_cl(err, "clFlush");
}

cst_status cst_tensor_write_behind(cst_tensor *t, size_t offset, const void *src, size_t bytes, cl_event mark, cl_event *done)
{
    cst_mem *m = t->mem;
    cst_tensor *b = cst_block(t);
    CST_TRY(check_span(t, offset, bytes));
    *done = NULL;
    t->version++;
    if (m->migrating && !m->planning && !cst_on_device(b) && (!b->fixed || b->state == CST_TENSOR_HOST)) {
        char *p;
        CST_TRY(cst_block_host(b));
        CST_TRY(host_copy(&p, t, 1));
        memcpy(p + offset, src, bytes);
        return CST_OK;
    }
    CST_TRY(cst_block_send(b));
    cl_event placed = NULL;
    if (b->state == CST_TENSOR_EMPTY) { /* operators wait for whoever used its place before: so must this */
        CST_TRY(cst_tensor_place(t));
        CST_TRY(cst_mem_mark(m, &placed));
    }
    if (m->planning || !bytes) {
        if (placed) clReleaseEvent(placed);
        return CST_OK;
    }
    cl_event before[2] = {placed ? placed : mark, b->downloaded};
    cl_int err = CST_FAULT(CST_FAULT_TRANSFER, CL_OUT_OF_RESOURCES,
                           clEnqueueWriteBuffer(m->dev->up, m->buffer[b->slab], CL_FALSE, b->offset + t->chunk_at + offset, bytes, src,
                                                before[1] ? 2 : 1, before, done));
    if (placed) clReleaseEvent(placed);
    CST_TRY(cst_cl(err, "clEnqueueWriteBuffer"));
    m->stats.h2d_bytes += bytes;
    keep_event(&b->uploaded, *done);
    cst_block_become(b, CST_TENSOR_DEVICE);
    return flush(m->dev->up, done);
}

cst_status cst_tensor_write_async(cst_tensor *t, size_t offset, const void *src, size_t bytes, cl_event *done)
{
    cl_event now = NULL;
    CST_TRY(cst_mem_mark(t->mem, &now));
    cst_status st = cst_tensor_write_behind(t, offset, src, bytes, now, done);
    if (now) clReleaseEvent(now);
    return st;
}

cst_status cst_tensor_read_async(cst_tensor *t, size_t offset, void *dst, size_t bytes, cl_event *done)
{
    cst_mem *m = t->mem;
    cst_tensor *b = cst_block(t);
    CST_TRY(check_span(t, offset, bytes));
    if (b->state == CST_TENSOR_EMPTY) return cst_fail(CST_STATE, "%s is read before anything wrote it", t->name);
    *done = NULL;
    if (m->planning || !bytes) return CST_OK;
    if (b->state == CST_TENSOR_HOST) {
        char *p;
        CST_TRY(host_copy(&p, t, 0));
        memcpy(dst, p + offset, bytes);
        return CST_OK;
    }
    CST_TRY(cst_block_send(b));
    cl_event before[2] = {NULL, b->uploaded};
    CST_TRY(compute_now(m, &before[0]));
    cl_int err = CST_FAULT(CST_FAULT_TRANSFER, CL_OUT_OF_RESOURCES,
                           clEnqueueReadBuffer(m->dev->down, m->buffer[b->slab], CL_FALSE, b->offset + t->chunk_at + offset, bytes, dst,
                                               before[1] ? 2 : 1, before, done));
    clReleaseEvent(before[0]);
    CST_TRY(cst_cl(err, "clEnqueueReadBuffer"));
    m->stats.d2h_bytes += bytes;
    keep_event(&b->downloaded, *done);
    return flush(m->dev->down, done);
}

void cst_tensor_host_renews(cst_tensor *t, int renews)
{
    if (!t->chunk) t->renews = renews;
}

cst_status cst_tensor_host_room(cst_tensor *t, void **room)
{
    char *p;
    *room = NULL;
    if (t->chunk || !t->mem->migrating || t->mem->planning || t->fixed || t->state == CST_TENSOR_DEVICE) return CST_OK;
    CST_TRY(cst_block_host(t));
    CST_TRY(host_copy(&p, t, 1));
    *room = p;
    return CST_OK;
}

cst_status cst_tensor_host_renewed(cst_tensor *t)
{
    cst_mem *m = t->mem;
    cl_event before[2] = {NULL, t->downloaded}, done = NULL;
    t->version++;
    if (t->state == CST_TENSOR_HOST) return CST_OK;
    if (t->put_off) return cst_block_send(t);
    CST_TRY(compute_now(m, &before[0]));
    cl_int err = CST_FAULT(CST_FAULT_TRANSFER, CL_OUT_OF_RESOURCES,
                           clEnqueueWriteBuffer(m->dev->up, m->buffer[t->slab], CL_FALSE, t->offset, t->bytes, cst_block_host_address(t),
                                                before[1] ? 2 : 1, before, &done));
    clReleaseEvent(before[0]);
    CST_TRY(cst_cl(err, "clEnqueueWriteBuffer"));
    m->stats.h2d_bytes += t->bytes;
    cst_fence_add(m, CST_ON_HOST, CST_UP, t->host_slab, t->host_offset, t->bytes, done);
    keep_event(&t->uploaded, done);
    cl_event flushed = done;
    cst_status st = flush(m->dev->up, &flushed);
    if (flushed) clReleaseEvent(flushed);
    return st;
}

cst_status cst_mem_wait(cl_event *done)
{
    uint64_t end;
    return cst_mem_wait_time(done, &end);
}

cst_status cst_mem_wait_time(cl_event *done, uint64_t *end_ns)
{
    cl_ulong end = 0;
    *end_ns = 0;
    if (!*done) return CST_OK;
    cl_int err = clWaitForEvents(1, done);
    if (clGetEventProfilingInfo(*done, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL) == CL_SUCCESS) *end_ns = end;
    clReleaseEvent(*done);
    *done = NULL;
    return cst_cl(err, "clWaitForEvents");
}

cst_status cst_tensor_write(cst_tensor *t, size_t offset, const void *src, size_t bytes)
{
    cl_event done;
    CST_TRY(cst_tensor_write_async(t, offset, src, bytes, &done));
    return cst_mem_wait(&done);
}

cst_status cst_tensor_read(cst_tensor *t, size_t offset, void *dst, size_t bytes)
{
    cl_event done;
    CST_TRY(cst_tensor_read_async(t, offset, dst, bytes, &done));
    return cst_mem_wait(&done);
}

/* Host memory. Registered (CL_MEM_USE_HOST_PTR, never mapped, never an argument of a kernel) it is pinned on
 * the drivers measured and takes nothing on the device; where the device computes in host memory there is
 * nothing to pin. */

#define HUGE_PAGE ((size_t)2 << 20)

/* Pageable where that is refused: slower, not wrong. */
static void register_block(cst_mem *m, cst_host_block *b)
{
    cl_int err = CL_SUCCESS;
    if (m->dev->is_cpu || m->dev->info.unified) return;
    if (b->bytes <= m->pinned_limit - m->stats.pinned_bytes) {
        b->registered = clCreateBuffer(m->dev->context, CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, b->bytes, b->p, &err);
        if (err != CL_SUCCESS) b->registered = NULL;
        else m->stats.pinned_bytes += b->bytes;
    }
    if (b->registered || m->warned_pageable) return;
    cst_log(CST_LOG_WARN, "%.1f MiB of host memory %s: its transfers are several times slower", (double)b->bytes / CST_MIB,
            err == CL_SUCCESS ? "aren't pinned, as --pinned-mem says" : "can't be pinned");
    m->warned_pageable = 1;
}

static cst_status allocate(void **out, cst_mem *m, size_t bytes, int pin)
{
    static size_t stagger;
    uint64_t left = cst_host_available();
    if (left && bytes + 128 * CST_MIB > left) /* the system would end the process later */
        return cst_fail(CST_NO_MEMORY, "%.1f MiB of host memory are needed, the machine has %.1f MiB left", (double)bytes / CST_MIB, (double)left / CST_MIB);
    cst_host_block *b = calloc(1, sizeof *b);
    if (!b) return cst_fail(CST_NO_MEMORY, "%zu bytes of host memory", bytes);
    /* Arrays that all start on a 2 MiB border collide in the caches: AdamW over four of them is five times
     * slower. Each starts an odd number of cache lines further in. */
    size_t shift = (stagger++ % 16) * (69 * 1024 + 256);
    b->bytes = bytes;
    b->mapped = (bytes + shift + 2 * HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    b->base = CST_FAULT(CST_FAULT_HOST, MAP_FAILED, mmap(NULL, b->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (b->base == MAP_FAILED) {
        free(b);
        return cst_fail(CST_NO_MEMORY, "%zu bytes of host memory", bytes);
    }
    uintptr_t start = ((uintptr_t)b->base + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    b->p = (char *)start + shift;
    (void)madvise((void *)start, bytes + shift, MADV_HUGEPAGE);
    char *p = b->p;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < bytes; i += 4096) p[i] = 0;
    if (pin) register_block(m, b);
    b->next = m->host;
    m->host = b;
    m->stats.host_bytes += bytes;
    if (m->stats.host_bytes > m->stats.host_peak) m->stats.host_peak = m->stats.host_bytes;
    *out = b->p;
    return CST_OK;
}

cst_status cst_host_alloc(void **out, cst_mem *m, size_t bytes) { return allocate(out, m, bytes, 1); }
cst_status cst_host_alloc_pageable(void **out, cst_mem *m, size_t bytes) { return allocate(out, m, bytes, 0); }

void cst_host_free(cst_mem *m, void *p)
{
    for (cst_host_block **at = &m->host; *at; at = &(*at)->next) {
        cst_host_block *b = *at;
        if (b->p != p) continue;
        *at = b->next;
        if (b->registered) {
            clReleaseMemObject(b->registered);
            m->stats.pinned_bytes -= b->bytes;
        }
        munmap(b->base, b->mapped);
        m->stats.host_bytes -= b->bytes;
        free(b);
        return;
    }
}
