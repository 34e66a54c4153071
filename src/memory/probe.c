#include "memory/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory/internal.h"

#define MARK 4096 /* bytes written at three places of a buffer */

static void pattern(uint32_t v[MARK / 4], int piece, int place)
{
    for (uint32_t i = 0; i < MARK / 4; i++) v[i] = (uint32_t)piece * 2654435761u + (uint32_t)place * 40503u + i;
}

static uint64_t place_of(int place, uint64_t bytes)
{
    return place == 0 ? 0 : place == 1 ? bytes / 2 / MARK * MARK : bytes - MARK;
}

static cst_status write_marks(cst_device *dev, cl_mem b, uint64_t bytes, int piece)
{
    uint32_t v[MARK / 4];
    for (int k = 0; k < 3; k++) {
        pattern(v, piece, k);
        CST_TRY(cst_cl(clEnqueueWriteBuffer(dev->compute, b, CL_TRUE, place_of(k, bytes), MARK, v, 0, NULL, NULL), "clEnqueueWriteBuffer"));
    }
    return CST_OK;
}

static cst_status read_marks(int *right, cst_device *dev, cl_mem b, uint64_t bytes, int piece)
{
    uint32_t v[MARK / 4], got[MARK / 4];
    *right = 1;
    for (int k = 0; k < 3; k++) {
        pattern(v, piece, k);
        CST_TRY(cst_cl(clEnqueueReadBuffer(dev->compute, b, CL_TRUE, place_of(k, bytes), MARK, got, 0, NULL, NULL), "clEnqueueReadBuffer"));
        *right &= !memcmp(v, got, MARK);
    }
    return CST_OK;
}

static void release(cst_mem *m, cl_mem b, uint64_t bytes)
{
    clReleaseMemObject(b);
    m->dev->released++;
    m->stats.reserved -= bytes;
}

/* One more buffer that can be written to, in *b; a device that refuses that is none of our failures: NULL, and p says why. */
static void one_more(cst_mem_probe *p, cl_mem *b, cst_mem *m, uint64_t piece)
{
    cst_status st = cst_mem_buffer(m, b, piece);
    if (st == CST_OK && (st = write_marks(m->dev, *b, piece, p->pieces)) != CST_OK) release(m, *b, piece);
    if (st == CST_OK) return;
    const char *why = cst_detail(), *last = strstr(why, "clCreateBuffer: "); /* past who asked for how much */
    snprintf(p->refusal, sizeof p->refusal, "%s", last ? last + strlen("clCreateBuffer: ") : why);
    *b = NULL;
}

cst_status cst_mem_probe_run(cst_mem_probe *p, cst_device *dev, uint64_t piece, uint64_t most)
{
    cst_mem *m = NULL;
    cl_mem *list = NULL, b;
    cst_status st;
    memset(p, 0, sizeof *p);
    if (piece < 64 << 10) return cst_fail(CST_USAGE, "pieces of %llu bytes", (unsigned long long)piece);
    CST_TRY(cst_mem_create(&m, dev, most));
    list = calloc((size_t)(most / piece) + 1, sizeof *list);
    st = list ? CST_OK : cst_fail(CST_NO_MEMORY, "list of buffers");
    while (st == CST_OK && m->stats.reserved + piece <= most) {
        one_more(p, &b, m, piece);
        if (!b) break;
        list[p->pieces++] = b;
    }
    p->bytes = (uint64_t)p->pieces * piece;
    for (int i = 0; i < p->pieces && st == CST_OK; i++) {
        int right = 0;
        st = read_marks(&right, dev, list[i], piece, i);
        p->damaged += !right;
    }
    for (int i = 0; i < p->pieces; i++) release(m, list[i], piece);
    if (st == CST_OK) st = cst_mem_finish(m);
    if (st == CST_OK && p->pieces) {
        cst_mem_probe last = {.pieces = 0};
        one_more(&last, &b, m, piece);
        p->again = b != NULL;
        if (b) release(m, b, piece);
    }
    free(list);
    cst_status freed = cst_mem_free(m);
    return st == CST_OK ? freed : st;
}
