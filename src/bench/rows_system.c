/* Rows of what the driver does: launches, builds, allocations. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/rows.h"
#include "device/program.h"
#include "device/source.h"
#include "memory/launch.h"
#include "memory/probe.h"

/* --- launches --------------------------------------------------------------------------------------------------- */

#define MANY 200
enum { IN_A_ROW, WAITED_FOR, BY_CASTOR };

typedef struct launch {
    cst_mem *m;
    cst_tensor *n;           /* i32: launches that have been */
    int how, many;           /* launches of a call */
} launch;

static cst_status count(launch *t)
{
    cst_launch l;
    cst_launch_begin(&l, t->m, "bench_launch", "count_launch", NULL);
    cst_launch_update(&l, "n", t->n, 0);
    return cst_launch_run(&l, 1, (size_t[]){1}, (size_t[]){1});
}

/* The kernel has its arguments from the launch through Castor that came before. */
static cst_status enqueue(launch *t)
{
    cst_device *dev = cst_mem_device(t->m);
    cst_kernel *k;
    cst_use use = {.t = t->n, .access = CST_UPDATE};
    const size_t one = 1;
    CST_TRY(cst_kernel_get(&k, dev, "bench_launch", "count_launch", NULL));
    CST_TRY(cst_mem_acquire(t->m, "launch", &use, 1, NULL, NULL));
    cst_status st = CST_OK;
    for (int i = 0; i < t->many && st == CST_OK; i++) {
        cl_event done = NULL;
        st = cst_cl(clEnqueueNDRangeKernel(dev->compute, k->handle, 1, NULL, &one, &one, 0, NULL, t->how == WAITED_FOR ? &done : NULL),
                    "clEnqueueNDRangeKernel");
        if (done) st = cst_mem_wait(&done);
    }
    cst_mem_release(t->m, &use, 1);
    return st;
}

static cst_status run_launch(void *what, int call)
{
    launch *t = what;
    (void)call;
    if (t->how != BY_CASTOR) return enqueue(t);
    for (int i = 0; i < t->many; i++) CST_TRY(count(t));
    return CST_OK;
}

static cst_status measure_launch(cst_row_run *r, cst_row *row, launch *t)
{
    cst_timing time;
    int32_t n = 0;
    int right;
    CST_TRY(cst_row_mem(&t->m, r));
    CST_TRY(cst_tensor_create(&t->n, t->m, CST_DATA, CST_I32, 1, (const int64_t[]){1}, "launches"));
    CST_TRY(cst_tensor_write(t->n, 0, &n, sizeof n));
    CST_TRY(count(t));
    CST_TRY(run_launch(t, 0));
    CST_TRY(cst_tensor_read(t->n, 0, &n, sizeof n));
    row->error = abs(n - 1 - t->many) / (double)t->many;
    CST_TRY(cst_row_right(&right, r, row));
    if (!right) return CST_OK;
    CST_TRY(cst_measure(&time, t->m, cst_row_samples(r), run_launch, t));
    time.ms /= t->many, time.ms_min /= t->many, time.ms_max /= t->many;
    cst_row_time(row, &time, 0);
    return cst_rows_add(r->rows, row);
}

cst_status cst_rows_launch(cst_row_run *r)
{
    static const char *const how[] = {"many in a row", "one, waited for", "many in a row, through cst_launch"};
    for (int i = 0; i < 3; i++) {
        launch t = {.how = i, .many = MANY};
        cst_row row = cst_row_begin("launch", "us", "%s", how[i]);
        row.less = 1;
        CST_TRY(cst_row_tell(r, &row));
        cst_status st = measure_launch(r, &row, &t);
        cst_tensor_free(t.n);
        if (t.m) st = cst_measure_end(t.m, st);
        if (st != CST_OK) CST_TRY(cst_row_end(r, &row, st));
    }
    return CST_OK;
}

/* --- builds --------------------------------------------------------------------------------------------------------- */

#define BUILDS 5 /* at most */

typedef struct build {
    cst_mem *m;
    cst_tensor *out;         /* i32 */
    char *source;            /* cl/layer_norm.cl */
    char options[512];
    unsigned char *binary;   /* of the build before */
    size_t binary_bytes;
} build;

static cst_status open_build(build *b, cst_row_run *r)
{
    CST_TRY(cst_program_options(b->options, r->dev, "layer_norm", NULL));
    CST_TRY(cst_row_mem(&b->m, r));
    CST_TRY(cst_source_get(&b->source, "layer_norm"));
    CST_TRY(cst_tensor_create(&b->out, b->m, CST_DATA, CST_I32, 1, (const int64_t[]){1}, "what a built kernel wrote"));
    return cst_tensor_write(b->out, 0, &(int32_t){0}, 4);
}

/* Launch the program's kernel: *out becomes its number. */
static cst_status launch_built(build *b, cl_program program)
{
    cst_device *dev = cst_mem_device(b->m);
    cst_use use = {.t = b->out, .access = CST_WRITE};
    const size_t one = 1;
    cl_int err;
    cl_kernel k = clCreateKernel(program, "built", &err);
    CST_TRY(cst_cl(err, "clCreateKernel"));
    cst_status st = cst_mem_acquire(b->m, "built", &use, 1, NULL, NULL);
    if (st == CST_OK) {
        cl_ulong at = use.offset / 4;
        err = clSetKernelArg(k, 0, sizeof use.mem, &use.mem);
        if (err == CL_SUCCESS) err = clSetKernelArg(k, 1, sizeof at, &at);
        if (err == CL_SUCCESS) err = clEnqueueNDRangeKernel(dev->compute, k, 1, NULL, &one, &one, 0, NULL, NULL);
        st = cst_cl(err, "clEnqueueNDRangeKernel");
        cst_mem_release(b->m, &use, 1);
    }
    if (st == CST_OK) st = cst_mem_finish(b->m);
    clReleaseKernel(k);
    return st;
}

static cst_status keep_binary(build *b, cl_program program)
{
    size_t bytes = 0;
    free(b->binary);
    b->binary = NULL;
    CST_TRY(cst_cl(clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL), "CL_PROGRAM_BINARY_SIZES"));
    if (!bytes || !(b->binary = malloc(bytes))) return cst_fail(bytes ? CST_NO_MEMORY : CST_DEVICE, "the driver gives no binary");
    b->binary_bytes = bytes;
    return cst_cl(clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof b->binary, &b->binary, NULL), "CL_PROGRAM_BINARIES");
}

/* One build and a first launch. cached: from the binary kept, else from a source that no cache has seen, because a kernel in it
 * writes `number`; its binary is then kept. */
static cst_status one_build(double *ms, double *error, build *b, int cached, int32_t number)
{
    cst_device *dev = cst_mem_device(b->m);
    cl_int err, taken = CL_SUCCESS;
    int32_t got = 0;
    char more[160];
    snprintf(more, sizeof more, "\n__kernel void built(OUT(int, y)) { USE_OUT(int, y); y[get_global_id(0)] = %d; }\n", (int)number);
    const char *text[] = {b->source, more};
    const unsigned char *binary = b->binary;
    double start = cst_now();
    cl_program program = cached ? clCreateProgramWithBinary(dev->context, 1, &dev->info.id, &b->binary_bytes, &binary, &taken, &err)
                                : clCreateProgramWithSource(dev->context, 2, text, NULL, &err);
    CST_TRY(cst_cl(err, cached ? "clCreateProgramWithBinary" : "clCreateProgramWithSource"));
    cst_status st = cst_cl(clBuildProgram(program, 1, &dev->info.id, b->options, NULL, NULL), "clBuildProgram");
    if (st == CST_OK) st = launch_built(b, program);
    *ms = 1e3 * (cst_now() - start);
    if (st == CST_OK && !cached) st = keep_binary(b, program);
    clReleaseProgram(program);
    if (st == CST_OK) st = cst_tensor_read(b->out, 0, &got, sizeof got);
    *error = got != number;
    return st;
}

static cst_status measure_build(cst_row_run *r, cst_row *row, build *b, int cached)
{
    double ms[BUILDS], error = 0;
    int n = r->o->quick ? 3 : BUILDS, right;
    static int32_t number; /* of the last build */
    if (!number) number = (int32_t)(time(NULL) & 0x3fffffff) + 1;
    for (int i = 0; i < n; i++) {
        if (!cached) number++;
        CST_TRY(one_build(&ms[i], &error, b, cached, number));
        row->error = fmax(row->error, error);
    }
    CST_TRY(cst_row_right(&right, r, row));
    if (!right) return CST_OK;
    cst_timing t;
    cst_timing_from(&t, ms, n, 1);
    cst_row_time(row, &t, 0);
    return cst_rows_add(r->rows, row);
}

cst_status cst_rows_build(cst_row_run *r)
{
    build b = {.m = NULL};
    cst_row row = cst_row_begin("build", "ms", "%s", "cl/layer_norm.cl");
    cst_status st = open_build(&b, r);
    for (int cached = 0; cached < 2 && st == CST_OK; cached++) {
        row = cst_row_begin("build", "ms", "cl/layer_norm.cl from its %s, with a launch", cached ? "binary" : "source");
        row.less = 1;
        if ((st = cst_row_tell(r, &row)) == CST_OK) st = measure_build(r, &row, &b, cached);
    }
    cst_tensor_free(b.out);
    if (b.m) st = cst_measure_end(b.m, st);
    free(b.source);
    free(b.binary);
    return st == CST_OK ? CST_OK : cst_row_end(r, &row, st);
}

/* --- allocations -------------------------------------------------------------------------------------------------------- */

#define MIB (1.0 / 1048576)

static cst_status probe_row(cst_row_run *r, cst_row *row, const cst_mem_probe *p)
{
    int right;
    row->error = (p->damaged + (p->pieces && !p->again)) / (double)(p->pieces ? p->pieces : 1);
    row->value = MIB * (double)p->bytes;
    CST_TRY(cst_row_right(&right, r, row));
    return right ? cst_rows_add(r->rows, row) : CST_OK;
}

/* Where memory is the host's, whose pages are touched one by one and missed by others, no more is asked for. */
#define HOST_MOST(quick) ((uint64_t)((quick) ? 1 : 4) << 30)

/* The largest of a few sizes that is given, as stated and beyond. */
static cst_status largest_buffer(cst_row_run *r, uint64_t most, int host)
{
    static const double part[] = {0.5, 0.75, 0.9, 0.95};
    cst_mem_probe p = {.pieces = 0}, best = {.pieces = 0};
    const cst_device_info *d = &r->dev->info;
    uint64_t stated = d->max_alloc < most ? d->max_alloc : most;
    if (host && stated > HOST_MOST(r->o->quick)) stated = HOST_MOST(r->o->quick);
    cst_row row = cst_row_begin("allocation", "MiB", "one buffer, %.0f MiB as stated", MIB * (double)d->max_alloc);
    if (stated < d->max_alloc) cst_row_case_name(&row, ", %.0f asked for", MIB * (double)stated);
    if (!host) row.ceiling = MIB * (double)d->mem_bytes;
    row.ceiling_of = "memory, as stated";
    CST_TRY(cst_row_tell(r, &row));
    double start = cst_now();
    cst_status st = cst_mem_probe_run(&best, r->dev, stated, stated);
    for (int i = 0; i < 4 && st == CST_OK && !host && best.pieces; i++) {
        uint64_t bytes = (uint64_t)(part[i] * (double)most) >> 20 << 20;
        if (bytes <= best.bytes) continue;
        if ((st = cst_mem_probe_run(&p, r->dev, bytes, bytes)) != CST_OK || !p.pieces) break;
        best = p;
    }
    row.seconds = cst_now() - start;
    if (st != CST_OK) return cst_row_end(r, &row, st);
    if (!best.pieces) return cst_row_missing(r, &row, "%.0f MiB are refused: %s", MIB * (double)stated, best.refusal);
    return probe_row(r, &row, &best);
}

/* Pieces until there is no more: what lived must have kept its content, and the memory must come back. */
static cst_status until_refused(cst_row_run *r, uint64_t most, int host)
{
    cst_mem_probe p;
    uint64_t piece = (uint64_t)1 << 30;
    while (piece > 16 << 20 && piece > most / 64) piece /= 2;
    cst_row row = cst_row_begin("allocation", "MiB", "buffers of %.0f MiB together", MIB * (double)piece);
    if (host) return cst_row_missing(r, &row, "not tried: this device's memory is the host's, which ends who takes the last of it");
    row.ceiling = MIB * (double)r->dev->info.mem_bytes;
    row.ceiling_of = "memory, as stated";
    CST_TRY(cst_row_tell(r, &row));
    double start = cst_now();
    cst_status st = cst_mem_probe_run(&p, r->dev, piece, most);
    row.seconds = cst_now() - start;
    if (st != CST_OK) return cst_row_end(r, &row, st);
    if (p.refusal[0]) cst_row_case_name(&row, ", then %s", p.refusal);
    return probe_row(r, &row, &p);
}

cst_status cst_rows_allocation(cst_row_run *r)
{
    int host = r->dev->is_cpu || r->dev->info.unified;
    uint64_t most = host ? cst_mem_default_budget(r->dev) : r->dev->info.mem_bytes;
    if (r->o->device_mem && r->o->device_mem < most) most = r->o->device_mem;
    CST_TRY(largest_buffer(r, most, host));
    return until_refused(r, most, host);
}
