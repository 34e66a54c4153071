/* Another program that uses Castor's memory manager: a field of 2 GiB on a device that may take 256 MiB.
 *
 * Two layers of 32 stripes of 32 MiB: an iteration computes each stripe of the second from three of the first, and back. The
 * program marks its iterations; the manager records the first and plans the others. Nothing else in here knows that the field
 * doesn't fit. Some numbers of each stripe are computed on the host as well and compared.
 *
 *     over_budget [MiB of the field, 2048] [MiB of device memory, 256] [iterations, 3]
 */
#include <stdio.h>
#include <stdlib.h>

#include "memory/memory.h"

#define STRIPES 32

static const char source[] =
    "__kernel void relax(__global uint *to, ulong t, __global const uint *l, ulong lo, __global const uint *c, ulong co,\n"
    "                    __global const uint *r, ulong ro)\n"
    "{\n"
    "    size_t i = get_global_id(0);\n"
    "    to[t + i] = 3u * c[co + i] + l[lo + i] - 5u * r[ro + i] + 1u;\n"
    "}\n";

typedef struct field {
    cst_mem *m;
    cl_program program;
    cl_kernel relax;
    cst_tensor *stripe[2][STRIPES];
    int64_t n;               /* numbers in a stripe */
} field;

static cst_status relax(field *f, cst_tensor *to, cst_tensor *l, cst_tensor *c, cst_tensor *r)
{
    cst_use use[4] = {{to, CST_WRITE, NULL, 0}, {l, CST_READ, NULL, 0}, {c, CST_READ, NULL, 0}, {r, CST_READ, NULL, 0}};
    size_t n = (size_t)f->n;
    CST_TRY(cst_mem_acquire(f->m, "relax", use, 4, NULL, NULL));
    cl_int err = CL_SUCCESS;
    for (cl_uint i = 0; i < 4 && err == CL_SUCCESS; i++) {
        cl_ulong at = use[i].offset / 4;
        err = clSetKernelArg(f->relax, 2 * i, sizeof use[i].mem, &use[i].mem);
        if (err == CL_SUCCESS) err = clSetKernelArg(f->relax, 2 * i + 1, sizeof at, &at);
    }
    if (err == CL_SUCCESS) err = clEnqueueNDRangeKernel(cst_mem_device(f->m)->compute, f->relax, 1, NULL, &n, NULL, 0, NULL, NULL);
    cst_mem_release(f->m, use, 4);
    return cst_cl(err, "clEnqueueNDRangeKernel");
}

static cst_status iterate(field *f)
{
    CST_TRY(cst_mem_step(f->m));
    for (int half = 0; half < 2; half++)
        for (int s = 0; s < STRIPES; s++) {
            cst_tensor **x = f->stripe[half];
            CST_TRY(relax(f, f->stripe[1 - half][s], x[(s + STRIPES - 1) % STRIPES], x[s], x[(s + 1) % STRIPES]));
        }
    return cst_mem_step_end(f->m);
}

static uint32_t first_value(int stripe, int64_t i)
{
    return (uint32_t)(stripe * 2654435761u + (uint32_t)i * 40503u);
}

static cst_status set_up(field *f, cst_device *dev, uint64_t bytes, uint64_t budget)
{
    const char *text = source;
    cl_int err;
    f->n = (int64_t)(bytes / (2 * STRIPES) / 4);
    f->program = clCreateProgramWithSource(dev->context, 1, &text, NULL, &err);
    CST_TRY(cst_cl(err, "clCreateProgramWithSource"));
    CST_TRY(cst_cl(clBuildProgram(f->program, 1, &dev->info.id, "", NULL, NULL), "clBuildProgram"));
    f->relax = clCreateKernel(f->program, "relax", &err);
    CST_TRY(cst_cl(err, "clCreateKernel"));
    CST_TRY(cst_mem_create(&f->m, dev, budget));
    cst_mem_migrate(f->m, 0, UINT64_MAX);
    uint32_t *v = malloc((size_t)f->n * sizeof *v);
    cst_status st = v ? CST_OK : cst_fail(CST_NO_MEMORY, "first values");
    for (int s = 0; s < STRIPES && st == CST_OK; s++) {
        for (int half = 0; half < 2 && st == CST_OK; half++)
            st = cst_tensor_create(&f->stripe[half][s], f->m, CST_DATA, CST_I32, 1, &f->n, "stripe %d of layer %d", s, half);
        for (int64_t i = 0; i < f->n && st == CST_OK; i++) v[i] = first_value(s, i);
        if (st == CST_OK) st = cst_tensor_write(f->stripe[0][s], 0, v, (size_t)f->n * sizeof *v);
    }
    free(v);
    return st;
}

/* Column i of all stripes, on the host. */
static cst_status check(field *f, int iterations, int64_t i)
{
    uint32_t x[2][STRIPES], got;
    for (int s = 0; s < STRIPES; s++) x[0][s] = first_value(s, i);
    for (int k = 0; k < 2 * iterations; k++)
        for (int s = 0; s < STRIPES; s++) {
            const uint32_t *o = x[k % 2];
            x[1 - k % 2][s] = 3u * o[s] + o[(s + STRIPES - 1) % STRIPES] - 5u * o[(s + 1) % STRIPES] + 1u;
        }
    for (int s = 0; s < STRIPES; s++) {
        CST_TRY(cst_tensor_read(f->stripe[0][s], (size_t)i * 4, &got, 4));
        if (got != x[0][s]) return cst_fail(CST_STATE, "number %lld of stripe %d is %u, wanted %u", (long long)i, s, got, x[0][s]);
    }
    return CST_OK;
}

static cst_status work(field *f, cst_device *dev, uint64_t bytes, uint64_t budget, int iterations)
{
    cst_mem_stats a, b;
    CST_TRY(set_up(f, dev, bytes, budget));
    for (int k = 0; k < iterations; k++) {
        cst_mem_get_stats(f->m, &a);
        CST_TRY(iterate(f));
        cst_mem_get_stats(f->m, &b);
        printf("iteration %d: %llu MiB up, %llu MiB down%s\n", k + 1, (unsigned long long)((b.h2d_bytes - a.h2d_bytes) >> 20),
               (unsigned long long)((b.d2h_bytes - a.d2h_bytes) >> 20), cst_mem_plan(f->m) ? ", as planned" : ", on demand");
    }
    for (int64_t i = 0; i < f->n; i += f->n / 7 + 1) CST_TRY(check(f, iterations, i));
    CST_TRY(check(f, iterations, f->n - 1));
    printf("right; %.1f MiB of tensors, %.1f MiB of the device at most, of %.1f allowed\n", (double)bytes / 1048576,
           (double)b.reserved_peak / 1048576, (double)b.budget / 1048576);
    return b.reserved_peak <= b.budget ? CST_OK : cst_fail(CST_STATE, "more device memory than allowed");
}

int main(int argc, char **argv)
{
    uint64_t bytes = (uint64_t)(argc > 1 ? atoi(argv[1]) : 2048) << 20, budget = (uint64_t)(argc > 2 ? atoi(argv[2]) : 256) << 20;
    int iterations = argc > 3 ? atoi(argv[3]) : 3;
    field f = {.m = NULL};
    cst_device *dev = NULL;
    cst_device_prepare();
    cst_status st = cst_device_open(&dev, getenv("CASTOR_DEVICE"), 0);
    if (st == CST_OK) st = work(&f, dev, bytes, budget, iterations);
    if (st != CST_OK) fprintf(stderr, "over_budget: %s: %s\n", cst_status_text(st), cst_detail());
    for (int s = 0; s < STRIPES; s++)
        for (int half = 0; half < 2; half++) cst_tensor_free(f.stripe[half][s]);
    cst_status books = cst_mem_free(f.m);
    if (f.relax) clReleaseKernel(f.relax);
    if (f.program) clReleaseProgram(f.program);
    cst_device_close(dev);
    return st == CST_NO_DEVICE ? 77 : st != CST_OK || books != CST_OK;
}
