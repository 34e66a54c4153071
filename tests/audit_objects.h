/* The audit layer's wrappers of calls that make, retain and release objects, memory among them. Part of audit_layer.c, which is one shared object; included there only. */
#ifndef AUDIT_OBJECTS_H
#define AUDIT_OBJECTS_H

#define RETAIN_RELEASE(name, cltype, type)                            \
    static cl_int CL_API_CALL audit_Retain##name(cltype o)            \
    {                                                                 \
        begin(F_NONE);                                                \
        return leave_retained(next.clRetain##name(o), type, o);       \
    }                                                                 \
    static cl_int CL_API_CALL audit_Release##name(cltype o)           \
    {                                                                 \
        enter_release(type, o);                                       \
        return leave_release(next.clRelease##name(o), o);             \
    }
RETAIN_RELEASE(Context, cl_context, T_contexts)
RETAIN_RELEASE(CommandQueue, cl_command_queue, T_queues)
RETAIN_RELEASE(Program, cl_program, T_programs)
RETAIN_RELEASE(Kernel, cl_kernel, T_kernels)
RETAIN_RELEASE(Event, cl_event, T_events)
RETAIN_RELEASE(Sampler, cl_sampler, T_samplers)
RETAIN_RELEASE(MemObject, cl_mem, T_mems)

/* A call that makes an object: cltype audit_name(params) { ... clName(args) ... } */
#define MAKE(name, cltype, type, params, args)                        \
    static cltype CL_API_CALL audit_##name params                     \
    {                                                                 \
        begin(F_NONE);                                                \
        return leave_made(type, next.cl##name args);                  \
    }
typedef void(CL_CALLBACK *context_notify)(const char *, const void *, size_t, void *);
typedef void(CL_CALLBACK *program_notify)(cl_program, void *);

MAKE(CreateContext, cl_context, T_contexts, (const cl_context_properties *p, cl_uint n, const cl_device_id *d,
     context_notify f, void *u, cl_int *err), (p, n, d, f, u, err))
MAKE(CreateContextFromType, cl_context, T_contexts, (const cl_context_properties *p, cl_device_type t,
     context_notify f, void *u, cl_int *err), (p, t, f, u, err))
MAKE(CreateCommandQueue, cl_command_queue, T_queues, (cl_context c, cl_device_id d, cl_command_queue_properties p,
     cl_int *err), (c, d, p, err))
MAKE(CreateCommandQueueWithProperties, cl_command_queue, T_queues, (cl_context c, cl_device_id d,
     const cl_queue_properties *p, cl_int *err), (c, d, p, err))
MAKE(CreateProgramWithSource, cl_program, T_programs, (cl_context c, cl_uint n, const char **s, const size_t *l,
     cl_int *err), (c, n, s, l, err))
MAKE(CreateProgramWithBinary, cl_program, T_programs, (cl_context c, cl_uint n, const cl_device_id *d,
     const size_t *l, const unsigned char **b, cl_int *s, cl_int *err), (c, n, d, l, b, s, err))
MAKE(CreateProgramWithBuiltInKernels, cl_program, T_programs, (cl_context c, cl_uint n, const cl_device_id *d,
     const char *k, cl_int *err), (c, n, d, k, err))
MAKE(CreateProgramWithIL, cl_program, T_programs, (cl_context c, const void *il, size_t l, cl_int *err),
     (c, il, l, err))
MAKE(CreateKernel, cl_kernel, T_kernels, (cl_program p, const char *name, cl_int *err), (p, name, err))
MAKE(CloneKernel, cl_kernel, T_kernels, (cl_kernel k, cl_int *err), (k, err))
MAKE(CreateUserEvent, cl_event, T_events, (cl_context c, cl_int *err), (c, err))
MAKE(CreateSampler, cl_sampler, T_samplers, (cl_context c, cl_bool n, cl_addressing_mode a, cl_filter_mode f,
     cl_int *err), (c, n, a, f, err))
MAKE(CreateSamplerWithProperties, cl_sampler, T_samplers, (cl_context c, const cl_sampler_properties *p,
     cl_int *err), (c, p, err))

static cl_int CL_API_CALL audit_CreateKernelsInProgram(cl_program p, cl_uint n, cl_kernel *k, cl_uint *n_ret)
{
    cl_uint made = 0;
    begin(F_NONE);
    cl_int r = next.clCreateKernelsInProgram(p, n, k, &made);
    if (!r && n_ret) *n_ret = made;
    pthread_mutex_lock(&lock);
    for (cl_uint i = 0; !r && k && i < made; i++) add(T_kernels, k[i]);
    return leave(r, NULL);
}

static cl_int CL_API_CALL audit_BuildProgram(cl_program p, cl_uint n, const cl_device_id *d, const char *o,
                                             program_notify f, void *u)
{
    begin(F_NONE);
    return leave_counting(next.clBuildProgram(p, n, d, o, f, u), NULL, C_builds, C_COUNT, 0);
}

static cl_int CL_API_CALL audit_CompileProgram(cl_program p, cl_uint n, const cl_device_id *d, const char *o,
                                               cl_uint nh, const cl_program *h, const char **names,
                                               program_notify f, void *u)
{
    begin(F_NONE);
    return leave_counting(next.clCompileProgram(p, n, d, o, nh, h, names, f, u), NULL, C_compiles, C_COUNT, 0);
}

static cl_program CL_API_CALL audit_LinkProgram(cl_context c, cl_uint n, const cl_device_id *d, const char *o,
                                                cl_uint np, const cl_program *p, program_notify f, void *u,
                                                cl_int *err)
{
    begin(F_NONE);
    cl_program made = next.clLinkProgram(c, n, d, o, np, p, f, u, err);
    pthread_mutex_lock(&lock);
    if (made) add(T_programs, made), audit.n[C_links]++;
    leave(made ? CL_SUCCESS : CL_INVALID_VALUE, NULL);
    return made;
}

/* ---- memory ---- */

static cl_mem CL_API_CALL audit_CreateBuffer(cl_context c, cl_mem_flags flags, size_t size, void *p, cl_int *err)
{
    cl_int r = begin(F_create);
    if (r) return refuse(r, err);
    return leave_memory(next.clCreateBuffer(c, flags, size, p, err), S_BUFFER, flags, size, NULL);
}

static cl_mem CL_API_CALL audit_CreateBufferWithProperties(cl_context c, const cl_mem_properties *props,
                                                           cl_mem_flags flags, size_t size, void *p, cl_int *err)
{
    cl_int r = begin(F_create);
    if (r) return refuse(r, err);
    cl_mem m = next.clCreateBufferWithProperties(c, props, flags, size, p, err);
    return leave_memory(m, S_BUFFER, flags, size, NULL);
}

static cl_mem CL_API_CALL audit_CreateSubBuffer(cl_mem parent, cl_mem_flags flags, cl_buffer_create_type type,
                                                const void *info, cl_int *err)
{
    begin(F_NONE);
    cl_mem m = next.clCreateSubBuffer(parent, flags, type, info, err);
    return leave_memory(m, S_SUBBUFFER, 0, memory_size(m), parent);
}

static cl_mem CL_API_CALL audit_CreateImage(cl_context c, cl_mem_flags flags, const cl_image_format *f,
                                            const cl_image_desc *d, void *p, cl_int *err)
{
    begin(F_NONE);
    cl_mem m = next.clCreateImage(c, flags, f, d, p, err);
    return leave_memory(m, S_IMAGE, flags, memory_size(m), m ? d->mem_object : NULL);
}

static cl_mem CL_API_CALL audit_CreateImageWithProperties(cl_context c, const cl_mem_properties *props,
                                                          cl_mem_flags flags, const cl_image_format *f,
                                                          const cl_image_desc *d, void *p, cl_int *err)
{
    begin(F_NONE);
    cl_mem m = next.clCreateImageWithProperties(c, props, flags, f, d, p, err);
    return leave_memory(m, S_IMAGE, flags, memory_size(m), m ? d->mem_object : NULL);
}

static cl_mem CL_API_CALL audit_CreateImage2D(cl_context c, cl_mem_flags flags, const cl_image_format *f, size_t x,
                                              size_t y, size_t pitch, void *p, cl_int *err)
{
    begin(F_NONE);
    cl_mem m = next.clCreateImage2D(c, flags, f, x, y, pitch, p, err);
    return leave_memory(m, S_IMAGE, flags, memory_size(m), NULL);
}

static cl_mem CL_API_CALL audit_CreateImage3D(cl_context c, cl_mem_flags flags, const cl_image_format *f, size_t x,
                                              size_t y, size_t z, size_t pitch, size_t slice, void *p, cl_int *err)
{
    begin(F_NONE);
    cl_mem m = next.clCreateImage3D(c, flags, f, x, y, z, pitch, slice, p, err);
    return leave_memory(m, S_IMAGE, flags, memory_size(m), NULL);
}

static cl_mem CL_API_CALL audit_CreatePipe(cl_context c, cl_mem_flags flags, cl_uint packet, cl_uint count,
                                           const cl_pipe_properties *props, cl_int *err)
{
    begin(F_NONE);
    cl_mem m = next.clCreatePipe(c, flags, packet, count, props, err);
    return leave_memory(m, S_PIPE, 0, (uint64_t)packet * count, NULL);
}

static void *CL_API_CALL audit_SVMAlloc(cl_context c, cl_svm_mem_flags flags, size_t size, cl_uint align)
{
    begin(F_NONE);
    void *p = next.clSVMAlloc(c, flags, size, align);
    pthread_mutex_lock(&lock);
    if (p) add_memory(T_svm, p, S_SVM, 0, size, NULL);
    leave(p ? CL_SUCCESS : CL_INVALID_VALUE, NULL);
    return p;
}

static void CL_API_CALL audit_SVMFree(cl_context c, void *p)
{
    if (p) enter_release(T_svm, p);
    next.clSVMFree(c, p);
    if (p) leave_release(CL_SUCCESS, p);
}

typedef void(CL_CALLBACK *svm_free_notify)(cl_command_queue, cl_uint, void **, void *);

/* With a callback the program frees the memory there itself, by clSVMFree. */
static cl_int CL_API_CALL audit_EnqueueSVMFree(cl_command_queue q, cl_uint n, void **p, svm_free_notify f, void *u,
                                               WAIT)
{
    cl_int r = begin(F_enqueue);
    if (r) return leave_counting(r, NULL, C_COUNT, C_COUNT, 0);
    pthread_mutex_lock(&lock);
    for (cl_uint i = 0; p && !f && i < n; i++) if (p[i]) release(T_svm, p[i]);
    pthread_mutex_unlock(&lock);
    r = next.clEnqueueSVMFree(q, n, p, f, u, nw, w, ev);
    pthread_mutex_lock(&lock);
    if (r && !f) audit.n[C_book_errors]++;
    return leave(r, ev);
}

#endif
