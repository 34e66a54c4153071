/* Rows of transfers between host and device, alone and beside a kernel. */
#include <stdlib.h>
#include <string.h>

#include "bench/rows.h"

#define BYTES ((size_t)64 << 20)
#define RING 4        /* transfers of one direction under way at once */
enum { UP = 1, DOWN = 2 };

typedef struct transfer {
    cst_mem *m;
    int ways;                /* UP, DOWN or both */
    int pinned;
    cst_tensor *up, *down;
    char *src, *dst;
    cl_event under_way[2][RING];
    cst_peak *beside;        /* `launches` of it behind each call's transfers, or NULL */
    int launches;
} transfer;

static void fill(char *p, uint64_t stream)
{
    uint32_t *v = (uint32_t *)(void *)p;
#pragma omp parallel for
    for (size_t i = 0; i < BYTES / 4; i++) v[i] = (uint32_t)(i * 2654435761u + stream);
}

static cst_status host_memory(char **p, const transfer *t)
{
    if (t->pinned) return cst_host_alloc((void **)p, t->m, BYTES);
    *p = malloc(BYTES);
    return *p ? CST_OK : cst_fail(CST_NO_MEMORY, "%zu bytes of host memory", BYTES);
}

static void host_free(transfer *t, char *p)
{
    if (t->pinned) cst_host_free(t->m, p);
    else free(p);
}

static cst_status open_transfer(transfer *t, cst_row_run *r)
{
    const int64_t n = BYTES / 4;
    CST_TRY(cst_row_mem(&t->m, r));
    CST_TRY(host_memory(&t->src, t));
    CST_TRY(host_memory(&t->dst, t));
    CST_TRY(cst_row_tensor(&t->up, t->m, 1, n, "up"));
    CST_TRY(cst_row_tensor(&t->down, t->m, 1, n, "down"));
    fill(t->src, 1);
    CST_TRY(cst_tensor_write(t->down, 0, t->src, BYTES));
    memset(t->dst, 0, BYTES);
    fill(t->src, 2);
    return CST_OK;
}

static cst_status close_transfer(transfer *t, cst_status st)
{
    if (!t->m) return st;
    cst_mem_finish(t->m);
    for (int i = 0; i < 2 * RING; i++) cst_mem_wait(&t->under_way[i / RING][i % RING]);
    cst_tensor_free(t->up);
    cst_tensor_free(t->down);
    if (t->src) host_free(t, t->src);
    if (t->dst) host_free(t, t->dst);
    return cst_measure_end(t->m, st);
}

/* The transfers come first: each waits for the kernels enqueued before it. */
static cst_status run(void *what, int call)
{
    transfer *t = what;
    cl_event *up = &t->under_way[0][call % RING], *down = &t->under_way[1][call % RING];
    if (t->ways & UP) {
        CST_TRY(cst_mem_wait(up));
        CST_TRY(cst_tensor_write_async(t->up, 0, t->src, BYTES, up));
    }
    if (t->ways & DOWN) {
        CST_TRY(cst_mem_wait(down));
        CST_TRY(cst_tensor_read_async(t->down, 0, t->dst, BYTES, down));
    }
    for (int i = 0; t->beside && i < t->launches; i++) CST_TRY(cst_peak_run(t->beside, i));
    return CST_OK;
}

/* Both sides hold the same bytes; as a part of all bytes that don't. */
static cst_status check(double *error, void *what)
{
    transfer *t = what;
    char *got = malloc(BYTES), *want = malloc(BYTES);
    size_t wrong = 0;
    cst_status st = got && want ? CST_OK : cst_fail(CST_NO_MEMORY, "a copy of what was transferred");
    if (st == CST_OK && t->ways & UP) st = cst_tensor_read(t->up, 0, got, BYTES);
    if (st == CST_OK && t->ways & UP)
        for (size_t i = 0; i < BYTES; i++) wrong += got[i] != t->src[i];
    if (st == CST_OK && t->ways & DOWN) {
        fill(want, 1);
        for (size_t i = 0; i < BYTES; i++) wrong += want[i] != t->dst[i];
    }
    free(got);
    free(want);
    *error = (double)wrong / (double)BYTES;
    if (st == CST_OK && t->beside) {
        double other;
        st = cst_peak_check(&other, t->beside);
        if (st == CST_OK && !(other <= CST_PEAK_LIMIT)) *error = INFINITY;
    }
    return st;
}

/* Why pinned memory can't be measured here; NULL: it can. */
static const char *not_pinned(const transfer *t)
{
    cst_mem_stats s;
    const cst_device *dev = cst_mem_device(t->m);
    cst_mem_get_stats(t->m, &s);
    if (s.pinned_bytes) return NULL;
    return dev->is_cpu || dev->info.unified ? "this device computes in the host's memory: there is nothing to pin"
                                            : "the driver registers no host memory";
}

static const char *const way_name[] = {"", "up", "down", "both ways at once"};

/* The best rate of one way among the transfers measured so far, GB/s; 0: none. */
static double best(const cst_row_run *r, size_t from, const char *way)
{
    double most = 0;
    for (size_t i = from; i < r->rows->n; i++) {
        const cst_row *x = &r->rows->list[i];
        if (!strncmp(x->what, way, strlen(way)) && !x->missing[0] && x->value > most) most = x->value;
    }
    return most;
}

cst_status cst_rows_transfer(cst_row_run *r)
{
    size_t from = r->rows->n;
    for (int pinned = 0; pinned < 2; pinned++)
        for (int ways = UP; ways <= (UP | DOWN); ways++) {
            transfer t = {.ways = ways, .pinned = pinned};
            cst_row_case c = {.row = cst_row_begin("transfer", "GB/s", "%s, %s, 64 MiB", way_name[ways], pinned ? "pinned" : "pageable"),
                              .work = 1e-9 * (double)BYTES * (ways == (UP | DOWN) ? 2 : 1), .run = run, .check = check, .what = &t};
            const char *lacks = NULL;
            CST_TRY(cst_row_tell(r, &c.row));
            cst_status st = open_transfer(&t, r);
            if (st == CST_OK && pinned) lacks = not_pinned(&t);
            if (st == CST_OK && !lacks) st = cst_row_measure(r, t.m, &c);
            st = close_transfer(&t, st);
            if (st != CST_OK) CST_TRY(cst_row_end(r, &c.row, st));
            else if (lacks) CST_TRY(cst_row_missing(r, &c.row, "%s", lacks));
        }
    double up = best(r, from, "up"), down = best(r, from, "down"), one = up > down ? up : down;
    for (size_t i = from; i < r->rows->n; i++) {
        cst_row *x = &r->rows->list[i];
        int both = !strncmp(x->what, "both", 4);
        x->ceiling = both && up > 0 && down > 0 ? up + down : one;
        x->ceiling_of = both ? "best up and best down" : "best transfer measured";
    }
    return CST_OK;
}

/* --- beside a kernel -------------------------------------------------------------------------------------------- */

/* Times of the transfers alone, of about as long a row of kernels alone, and of both at once: how much of the shorter is hidden. */
static cst_status measure_overlap(cst_row_run *r, cst_row *row, transfer *t, cst_peak *p)
{
    cst_timing copy, kernel, both;
    int samples = cst_row_samples(r), right;
    CST_TRY(cst_measure(&copy, t->m, samples, run, t));
    CST_TRY(cst_measure(&kernel, p->m, samples, cst_peak_run, p));
    if (kernel.ms > 1.5 * copy.ms) { /* much longer, and its noise would be all there is to see */
        int64_t items = (int64_t)((double)p->items * copy.ms / kernel.ms) / 1024 * 1024;
        p->items = items < 1024 ? p->items < 1024 ? p->items : 1024 : items;
        CST_TRY(cst_measure(&kernel, p->m, samples, cst_peak_run, p));
    }
    double launches = copy.ms / kernel.ms;
    t->launches = launches < 1 ? 1 : launches > 100 ? 100 : (int)(launches + 0.5);
    t->beside = p;
    CST_TRY(run(t, 0));
    CST_TRY(cst_mem_finish(t->m));
    CST_TRY(check(&row->error, t));
    CST_TRY(cst_row_right(&right, r, row));
    if (!right) return CST_OK;
    CST_TRY(cst_measure(&both, t->m, samples, run, t));
    cst_row_time(row, &both, 0);
    kernel.ms *= t->launches;
    double hidden = copy.ms + kernel.ms - both.ms, shorter = copy.ms < kernel.ms ? copy.ms : kernel.ms;
    row->value = hidden <= 0 ? 0 : hidden >= shorter ? 100 : 100 * hidden / shorter;
    return cst_rows_add(r->rows, row);
}

cst_status cst_rows_overlap(cst_row_run *r)
{
    for (int ways = UP; ways <= (UP | DOWN); ways++) {
        transfer t = {.ways = ways, .pinned = 1};
        cst_peak p = {.m = NULL};
        cst_row row = cst_row_begin("overlap", "%", "%s, 64 MiB, beside multiply-adds", way_name[ways]);
        row.ceiling = 100;
        row.ceiling_of = "the shorter one hidden whole";
        CST_TRY(cst_row_tell(r, &row));
        cst_status st = open_transfer(&t, r);
        if (st == CST_OK) st = cst_peak_open(&p, r, &cst_peak_shapes(r->dev)[r->peak_shape]);
        if (st == CST_OK) st = measure_overlap(r, &row, &t, &p);
        st = close_transfer(&t, st);
        st = cst_peak_close(&p, st);
        if (st != CST_OK) CST_TRY(cst_row_end(r, &row, st));
    }
    return CST_OK;
}
