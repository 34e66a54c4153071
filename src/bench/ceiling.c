#include "bench/ceiling.h"

#include "bench/gemm_shapes.h"
#include "bench/measure.h"

#define SAMPLES 5
#define LONG_MS 10.0
#define SIZE_LEAST 512
#define SIZE_MOST 8192
#define TRANSFER_MOST ((uint64_t)64 << 20)

static cst_status square(double *ms, cst_device *dev, uint64_t budget, int64_t size)
{
    cst_mem *mem;
    cst_gemm_shape shape = {.name = "square", .m = size, .n = size, .k = size};
    cst_gemm_trial trial;
    cst_timing time;
    cst_status st;
    CST_TRY(cst_mem_create(&mem, dev, budget));
    CST_GO(cst_gemm_trial_open(&trial, mem, &shape), out);
    CST_GO(cst_gemm_trial_verify(&trial), out);
    CST_GO(cst_measure(&time, mem, SAMPLES, cst_gemm_trial_run, &trial), out);
    *ms = time.ms;
out:
    cst_gemm_trial_close(&trial);
    return cst_measure_end(mem, st);
}

static cst_status products(cst_ceilings *c, cst_device *dev, uint64_t budget)
{
    double ms = 0;
    for (int64_t size = SIZE_LEAST; size <= SIZE_MOST && ms < LONG_MS; size *= 2) {
        cst_status st = square(&ms, dev, budget, size);
        if (st == CST_OVER_BUDGET || st == CST_NO_MEMORY) return CST_OK;
        CST_TRY(st);
        double rate = 2e3 * (double)size * (double)size * (double)size / ms;
        if (rate > c->gemm) c->gemm = rate, c->gemm_size = size;
    }
    return CST_OK;
}

typedef struct transfer {
    cst_tensor *t;
    void *host;
    int up;
    cl_event done;
} transfer;

static cst_status run_transfer(void *p, int call)
{
    transfer *x = p;
    (void)call;
    CST_TRY(cst_mem_wait(&x->done));
    return x->up ? cst_tensor_write_async(x->t, 0, x->host, x->t->bytes, &x->done)
                 : cst_tensor_read_async(x->t, 0, x->host, x->t->bytes, &x->done);
}

static cst_status transfers(cst_ceilings *c, cst_device *dev, uint64_t budget)
{
    cst_mem *mem;
    cst_mem_stats stats;
    cst_timing time;
    transfer x = {.t = NULL};
    cst_status st;
    CST_TRY(cst_mem_create(&mem, dev, budget));
    cst_mem_get_stats(mem, &stats);
    int64_t n = (int64_t)((stats.budget / 4 < TRANSFER_MOST ? stats.budget / 4 : TRANSFER_MOST) / sizeof(float));
    if (n < 1) return cst_measure_end(mem, CST_OK);
    CST_GO(cst_tensor_create(&x.t, mem, CST_DATA, CST_F32, 1, &n, "transfer"), out);
    CST_GO(cst_host_alloc(&x.host, mem, x.t->bytes), out);
    for (x.up = 1; x.up >= 0; x.up--) {
        CST_GO(cst_measure(&time, mem, SAMPLES, run_transfer, &x), out);
        *(x.up ? &c->up : &c->down) = 1e3 * (double)x.t->bytes / time.ms;
    }
out:
    cst_mem_wait(&x.done);
    cst_host_free(mem, x.host);
    cst_tensor_free(x.t);
    st = cst_measure_end(mem, st);
    return st == CST_OVER_BUDGET ? CST_OK : st;
}

cst_status cst_ceilings_measure(cst_ceilings *c, cst_device *dev, uint64_t budget)
{
    *c = (cst_ceilings){.gemm = 0};
    CST_TRY(products(c, dev, budget));
    return transfers(c, dev, budget);
}
