/* Order between the queues where memory changes hands. */
#include <stdlib.h>
#include <string.h>

#include "memory/internal.h"

void cst_waits_add(cst_waits *w, cl_event e)
{
    if (!e) return;
    for (cl_uint i = 0; i < w->n; i++)
        if (w->e[i] == e) return;
    if (w->n == sizeof w->e / sizeof *w->e) { /* never in practice; waiting is always right */
        clWaitForEvents(1, &e);
        return;
    }
    clRetainEvent(e);
    w->e[w->n++] = e;
}

void cst_waits_clear(cst_waits *w)
{
    for (cl_uint i = 0; i < w->n; i++) clReleaseEvent(w->e[i]);
    w->n = 0;
}

cst_status cst_waits_order(cst_waits *w, cst_mem *m)
{
    if (!w->n) return CST_OK;
    cst_status st = cst_cl(clEnqueueMarkerWithWaitList(m->dev->compute, w->n, w->e, NULL), "clEnqueueMarkerWithWaitList");
    if (st == CST_OK) cst_waits_clear(w);
    return st;
}

static int is_done(cl_event e)
{
    cl_int status = CL_QUEUED;
    return clGetEventInfo(e, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status, NULL) == CL_SUCCESS && status <= CL_COMPLETE;
}

static void drop(cst_mem *m, int i)
{
    if (m->fence[i].event) clReleaseEvent(m->fence[i].event);
    m->fence[i] = m->fence[--m->fences];
}

cst_status cst_fence_add(cst_mem *m, cst_side side, cst_queue queue, int slab, size_t begin, size_t bytes, cl_event event)
{
    if (m->fences == m->fence_room) {
        for (int i = m->fences - 1; i >= 0; i--)
            if (m->fence[i].event && is_done(m->fence[i].event)) drop(m, i);
        if (2 * m->fences >= m->fence_room) {
            int room = m->fence_room ? 2 * m->fence_room : 64;
            cst_fence *more = realloc(m->fence, (size_t)room * sizeof *more);
            if (!more) return cst_fail(CST_NO_MEMORY, "memory manager");
            m->fence = more;
            m->fence_room = room;
        }
    }
    if (event) clRetainEvent(event);
    m->fence[m->fences++] = (cst_fence){side, queue, slab, begin, begin + bytes, event};
    return CST_OK;
}

cst_status cst_fence_mark(cst_mem *m)
{
    cl_event now = NULL;
    cst_status st = CST_OK;
    for (int i = 0; i < m->fences && st == CST_OK; i++) {
        if (m->fence[i].event) continue;
        if (!now) st = cst_mem_mark(m, &now);
        if (st != CST_OK) break;
        clRetainEvent(now);
        m->fence[i].event = now;
    }
    if (now) clReleaseEvent(now);
    return st;
}

cst_status cst_fence_wait(cst_waits *w, cst_mem *m, cst_side side, cst_queue queue, int slab, size_t begin, size_t bytes)
{
    for (int i = m->fences - 1; i >= 0; i--) {
        cst_fence *f = &m->fence[i];
        if (f->side != side || f->slab != slab || f->end <= begin || f->begin >= begin + bytes || f->queue == queue) continue;
        if (!f->event) CST_TRY(cst_fence_mark(m));
        if (is_done(f->event)) drop(m, i);
        else cst_waits_add(w, f->event);
    }
    return CST_OK;
}

void cst_fence_clear(cst_mem *m)
{
    while (m->fences) drop(m, m->fences - 1);
    free(m->fence);
    m->fence = NULL;
    m->fence_room = 0;
}
