/* The audit layer's wrappers of commands, and of the calls that wait for them. Part of audit_layer.c, which is one shared object; included there only. */
#ifndef AUDIT_COMMANDS_H
#define AUDIT_COMMANDS_H

static cl_int CL_API_CALL audit_EnqueueReadBuffer(cl_command_queue q, cl_mem m, cl_bool b, size_t o, size_t n,
                                                  void *p, WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_read);
    if (!r) r = next.clEnqueueReadBuffer(q, m, b, o, n, p, nw, w, ev);
    return leave_move(r, ev, C_d2h_bytes, b, n, start);
}

static cl_int CL_API_CALL audit_EnqueueWriteBuffer(cl_command_queue q, cl_mem m, cl_bool b, size_t o, size_t n,
                                                   const void *p, WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_write);
    if (!r) r = next.clEnqueueWriteBuffer(q, m, b, o, n, p, nw, w, ev);
    return leave_move(r, ev, C_h2d_bytes, b, n, start);
}

static cl_int CL_API_CALL audit_EnqueueReadBufferRect(cl_command_queue q, cl_mem m, cl_bool b, const size_t *mo,
                                                      const size_t *ho, const size_t *n, size_t mr, size_t ms,
                                                      size_t hr, size_t hs, void *p, WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_read);
    if (!r) r = next.clEnqueueReadBufferRect(q, m, b, mo, ho, n, mr, ms, hr, hs, p, nw, w, ev);
    return leave_move(r, ev, C_d2h_bytes, b, r ? 0 : volume(n), start);
}

static cl_int CL_API_CALL audit_EnqueueWriteBufferRect(cl_command_queue q, cl_mem m, cl_bool b, const size_t *mo,
                                                       const size_t *ho, const size_t *n, size_t mr, size_t ms,
                                                       size_t hr, size_t hs, const void *p, WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_write);
    if (!r) r = next.clEnqueueWriteBufferRect(q, m, b, mo, ho, n, mr, ms, hr, hs, p, nw, w, ev);
    return leave_move(r, ev, C_h2d_bytes, b, r ? 0 : volume(n), start);
}

static cl_int CL_API_CALL audit_EnqueueReadImage(cl_command_queue q, cl_mem m, cl_bool b, const size_t *o,
                                                 const size_t *n, size_t row, size_t slice, void *p, WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_read);
    if (!r) r = next.clEnqueueReadImage(q, m, b, o, n, row, slice, p, nw, w, ev);
    return leave_move(r, ev, C_d2h_bytes, b, r ? 0 : image_bytes(m, n), start);
}

static cl_int CL_API_CALL audit_EnqueueWriteImage(cl_command_queue q, cl_mem m, cl_bool b, const size_t *o,
                                                  const size_t *n, size_t row, size_t slice, const void *p, WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_write);
    if (!r) r = next.clEnqueueWriteImage(q, m, b, o, n, row, slice, p, nw, w, ev);
    return leave_move(r, ev, C_h2d_bytes, b, r ? 0 : image_bytes(m, n), start);
}

static cl_int CL_API_CALL audit_EnqueueCopyBuffer(cl_command_queue q, cl_mem s, cl_mem d, size_t so, size_t o,
                                                  size_t n, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueCopyBuffer(q, s, d, so, o, n, nw, w, ev);
    return leave_copy(r, ev, s, d, n);
}

static cl_int CL_API_CALL audit_EnqueueCopyBufferRect(cl_command_queue q, cl_mem s, cl_mem d, const size_t *so,
                                                      const size_t *o, const size_t *n, size_t sr, size_t ss,
                                                      size_t dr, size_t ds, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueCopyBufferRect(q, s, d, so, o, n, sr, ss, dr, ds, nw, w, ev);
    return leave_copy(r, ev, s, d, r ? 0 : volume(n));
}

static cl_int CL_API_CALL audit_EnqueueCopyImage(cl_command_queue q, cl_mem s, cl_mem d, const size_t *so,
                                                 const size_t *o, const size_t *n, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueCopyImage(q, s, d, so, o, n, nw, w, ev);
    return leave_copy(r, ev, s, d, r ? 0 : image_bytes(s, n));
}

static cl_int CL_API_CALL audit_EnqueueCopyImageToBuffer(cl_command_queue q, cl_mem s, cl_mem d, const size_t *so,
                                                         const size_t *n, size_t o, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueCopyImageToBuffer(q, s, d, so, n, o, nw, w, ev);
    return leave_copy(r, ev, s, d, r ? 0 : image_bytes(s, n));
}

static cl_int CL_API_CALL audit_EnqueueCopyBufferToImage(cl_command_queue q, cl_mem s, cl_mem d, size_t so,
                                                         const size_t *o, const size_t *n, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueCopyBufferToImage(q, s, d, so, o, n, nw, w, ev);
    return leave_copy(r, ev, s, d, r ? 0 : image_bytes(d, n));
}

static cl_int CL_API_CALL audit_EnqueueFillBuffer(cl_command_queue q, cl_mem m, const void *pattern, size_t pn,
                                                  size_t o, size_t n, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueFillBuffer(q, m, pattern, pn, o, n, nw, w, ev);
    return leave_counting(r, ev, C_fill_calls, C_fill_bytes, n);
}

static cl_int CL_API_CALL audit_EnqueueFillImage(cl_command_queue q, cl_mem m, const void *color, const size_t *o,
                                                 const size_t *n, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueFillImage(q, m, color, o, n, nw, w, ev);
    return leave_counting(r, ev, C_fill_calls, C_fill_bytes, r ? 0 : image_bytes(m, n));
}

static void *CL_API_CALL audit_EnqueueMapBuffer(cl_command_queue q, cl_mem m, cl_bool b, cl_map_flags flags,
                                                size_t o, size_t n, WAIT, cl_int *err)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_enqueue);
    if (r) return refuse(r, err);
    void *p = next.clEnqueueMapBuffer(q, m, b, flags, o, n, nw, w, ev, err);
    leave_map(p ? CL_SUCCESS : CL_MAP_FAILURE, ev, flags, b, n, start);
    return p;
}

static void *CL_API_CALL audit_EnqueueMapImage(cl_command_queue q, cl_mem m, cl_bool b, cl_map_flags flags,
                                               const size_t *o, const size_t *n, size_t *row, size_t *slice, WAIT,
                                               cl_int *err)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_enqueue);
    if (r) return refuse(r, err);
    void *p = next.clEnqueueMapImage(q, m, b, flags, o, n, row, slice, nw, w, ev, err);
    leave_map(p ? CL_SUCCESS : CL_MAP_FAILURE, ev, flags, b, p ? image_bytes(m, n) : 0, start);
    return p;
}

static cl_int CL_API_CALL audit_EnqueueUnmapMemObject(cl_command_queue q, cl_mem m, void *p, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueUnmapMemObject(q, m, p, nw, w, ev);
    return leave_counting(r, ev, C_unmap_calls, C_COUNT, 0);
}

static enum counter migrate_way(cl_mem_migration_flags flags)
{
    if (flags & CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED) return C_migrate_undefined_bytes;
    return flags & CL_MIGRATE_MEM_OBJECT_HOST ? C_migrate_d2h_bytes : C_migrate_h2d_bytes;
}

static cl_int CL_API_CALL audit_EnqueueMigrateMemObjects(cl_command_queue q, cl_uint n, const cl_mem *m,
                                                         cl_mem_migration_flags flags, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueMigrateMemObjects(q, n, m, flags, nw, w, ev);
    pthread_mutex_lock(&lock);
    if (!r) audit.n[C_migrate_calls]++;
    for (cl_uint i = 0; !r && i < n; i++) {
        struct object *o = find(T_mems, m[i]);
        if (o) audit.n[migrate_way(flags)] += o->size;
    }
    return leave(r, ev);
}

static cl_int CL_API_CALL audit_EnqueueSVMMemcpy(cl_command_queue q, cl_bool b, void *d, const void *s, size_t n, WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueSVMMemcpy(q, b, d, s, n, nw, w, ev);
    pthread_mutex_lock(&lock);
    if (!r) audit.n[C_svm_copy_calls]++, audit.n[C_svm_copy_bytes] += n;
    if (!r && b) count_blocking(start);
    return leave(r, ev);
}

static cl_int CL_API_CALL audit_EnqueueSVMMemFill(cl_command_queue q, void *p, const void *pattern, size_t pn,
                                                  size_t n, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueSVMMemFill(q, p, pattern, pn, n, nw, w, ev);
    return leave_counting(r, ev, C_fill_calls, C_fill_bytes, n);
}

static cl_int CL_API_CALL audit_EnqueueSVMMap(cl_command_queue q, cl_bool b, cl_map_flags flags, void *p, size_t n,
                                              WAIT)
{
    uint64_t start = now_ns();
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueSVMMap(q, b, flags, p, n, nw, w, ev);
    return leave_map(r, ev, flags, b, n, start);
}

static cl_int CL_API_CALL audit_EnqueueSVMUnmap(cl_command_queue q, void *p, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueSVMUnmap(q, p, nw, w, ev);
    return leave_counting(r, ev, C_unmap_calls, C_COUNT, 0);
}

/* A size of 0 (or no sizes) stands for the whole allocation that the pointer begins. */
static cl_int CL_API_CALL audit_EnqueueSVMMigrateMem(cl_command_queue q, cl_uint n, const void **p,
                                                     const size_t *sizes, cl_mem_migration_flags flags, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueSVMMigrateMem(q, n, p, sizes, flags, nw, w, ev);
    pthread_mutex_lock(&lock);
    if (!r) audit.n[C_migrate_calls]++;
    for (cl_uint i = 0; !r && i < n; i++) {
        struct object *o = find(T_svm, p[i]);
        audit.n[migrate_way(flags)] += sizes && sizes[i] ? sizes[i] : o ? o->size : 0;
    }
    return leave(r, ev);
}

static cl_int CL_API_CALL audit_EnqueueNDRangeKernel(cl_command_queue q, cl_kernel k, cl_uint dims, const size_t *o,
                                                     const size_t *g, const size_t *l, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueNDRangeKernel(q, k, dims, o, g, l, nw, w, ev);
    return leave_counting(r, ev, C_kernel_launches, C_COUNT, 0);
}

static cl_int CL_API_CALL audit_EnqueueTask(cl_command_queue q, cl_kernel k, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueTask(q, k, nw, w, ev);
    return leave_counting(r, ev, C_kernel_launches, C_COUNT, 0);
}

static cl_int CL_API_CALL audit_EnqueueNativeKernel(cl_command_queue q, void(CL_CALLBACK *f)(void *), void *args,
                                                    size_t size, cl_uint n, const cl_mem *m, const void **at, WAIT)
{
    cl_int r = begin(F_enqueue);
    if (!r) r = next.clEnqueueNativeKernel(q, f, args, size, n, m, at, nw, w, ev);
    return leave_counting(r, ev, C_kernel_launches, C_COUNT, 0);
}

/* Markers and barriers move nothing and are no target of faults: only their events count. */
static cl_int leave_plain(cl_int r, cl_event *ev)
{
    pthread_mutex_lock(&lock);
    return leave(r, ev);
}

static cl_int CL_API_CALL audit_EnqueueMarker(cl_command_queue q, cl_event *ev)
{
    begin(F_NONE);
    return leave_plain(next.clEnqueueMarker(q, ev), ev);
}

static cl_int CL_API_CALL audit_EnqueueMarkerWithWaitList(cl_command_queue q, WAIT)
{
    begin(F_NONE);
    return leave_plain(next.clEnqueueMarkerWithWaitList(q, nw, w, ev), ev);
}

static cl_int CL_API_CALL audit_EnqueueBarrierWithWaitList(cl_command_queue q, WAIT)
{
    begin(F_NONE);
    return leave_plain(next.clEnqueueBarrierWithWaitList(q, nw, w, ev), ev);
}

static cl_int leave_wait(cl_int r, enum counter calls, uint64_t start)
{
    pthread_mutex_lock(&lock);
    audit.n[calls]++;
    count_blocking(start);
    return leave(r, NULL);
}

static cl_int CL_API_CALL audit_Finish(cl_command_queue q)
{
    uint64_t start = now_ns();
    begin(F_NONE);
    return leave_wait(next.clFinish(q), C_finish_calls, start);
}

static cl_int CL_API_CALL audit_WaitForEvents(cl_uint n, const cl_event *events)
{
    uint64_t start = now_ns();
    begin(F_NONE);
    return leave_wait(next.clWaitForEvents(n, events), C_wait_calls, start);
}

#endif
