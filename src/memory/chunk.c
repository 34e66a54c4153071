/* Small tensors that live alike move together: one transfer instead of dozens. A chunk is a tensor of its own; its parts
 * lie in it one behind the other. Which tensors go together is decided on the trace alone. */
#include <stdio.h>
#include <stdlib.h>

#include "memory/internal.h"

#define CHUNK_MOST (4 * CST_MIB)
#define CHUNKS 2048      /* about so many would hold all that migrates */
#define SPAN 64          /* a chunk's tensors are first used within this part of the iteration */

typedef struct part {
    int tensor, cls, first; /* moment of the first use */
} part;

static int by_use(const void *a, const void *b)
{
    const part *x = a, *y = b;
    if (x->cls != y->cls) return x->cls < y->cls ? -1 : 1;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x->tensor < y->tensor ? -1 : x->tensor > y->tensor;
}

static int moves(const cst_trace_tensor *x)
{
    return x->persistent && !x->fixed;
}

/* Small tensors, by class and first use. */
static int collect(part *p, const cst_trace *t, uint64_t most)
{
    int n = 0;
    for (int i = 0; i < t->tensors; i++)
        if (moves(&t->tensor[i]) && t->tensor[i].bytes <= most) p[n++] = (part){i, t->tensor[i].cls, t->moments};
    int *at = malloc(((size_t)t->tensors + 1) * sizeof *at);
    if (!at) return -1;
    for (int i = 0; i < t->tensors; i++) at[i] = -1;
    for (int i = 0; i < n; i++) at[p[i].tensor] = i;
    for (int k = t->moments - 1; k >= 0; k--)
        for (int u = t->moment[k].first; u < t->moment[k].first + t->moment[k].uses; u++)
            if (at[t->use[u].tensor] >= 0) p[at[t->use[u].tensor]].first = k;
    free(at);
    qsort(p, (size_t)n, sizeof *p, by_use);
    return n;
}

/* part_of[tensor]: number of its chunk, -1: none. *chunks: how many. */
static cst_status group(int *part_of, int *chunks, const cst_trace *t)
{
    uint64_t sum = 0, most;
    for (int i = 0; i < t->tensors; i++) {
        part_of[i] = -1;
        if (moves(&t->tensor[i])) sum += t->tensor[i].bytes;
    }
    most = sum / CHUNKS < CHUNK_MOST ? sum / CHUNKS : CHUNK_MOST;
    part *p = malloc(((size_t)t->tensors + 1) * sizeof *p);
    int n = p ? collect(p, t, most / 2) : -1, span = t->moments / SPAN + 1;
    *chunks = 0;
    for (int i = 0, j; i < n; i = j) {
        uint64_t bytes = 0;
        for (j = i; j < n && p[j].cls == p[i].cls && p[j].first <= p[i].first + span && bytes + t->tensor[p[j].tensor].bytes <= most; j++)
            bytes += t->tensor[p[j].tensor].bytes;
        if (j == i + 1) continue;
        for (int k = i; k < j; k++) part_of[p[k].tensor] = *chunks;
        ++*chunks;
    }
    free(p);
    return n < 0 ? cst_fail(CST_NO_MEMORY, "memory manager") : CST_OK;
}

/* Tensors of the new trace: id[old] and, in chunks, at[old]. */
static cst_status add_tensors(cst_trace *t, const cst_trace *old, const int *part_of, int chunks, int *id, uint64_t *at)
{
    int *of = malloc(((size_t)chunks + 1) * sizeof *of);
    cst_status st = of ? CST_OK : cst_fail(CST_NO_MEMORY, "memory manager");
    for (int c = 0; of && c < chunks; c++) of[c] = -1;
    for (int i = 0; i < old->tensors && st == CST_OK; i++) {
        const cst_trace_tensor *x = &old->tensor[i];
        int c = part_of[i];
        char name[96];
        at[i] = 0;
        if (c < 0) {
            st = cst_trace_add_tensor(t, x->name, x->cls, x->bytes, x->persistent, x->fixed, &id[i]);
            continue;
        }
        if (of[c] < 0) {
            snprintf(name, sizeof name, "chunk %d of %s", c, cst_class_name((cst_class)x->cls));
            st = cst_trace_add_tensor(t, name, x->cls, x->bytes, 1, 0, &of[c]);
        } else {
            at[i] = t->tensor[of[c]].bytes;
            t->tensor[of[c]].bytes += x->bytes;
        }
        id[i] = of[c];
    }
    free(of);
    return st;
}

cst_status cst_chunks_trace(cst_trace **out, cst_chunk_part **part, const cst_trace *old)
{
    size_t n = (size_t)old->tensors + 1;
    int *part_of = malloc(n * sizeof *part_of), *id = malloc(n * sizeof *id), chunks;
    uint64_t *at = malloc(n * sizeof *at);
    cst_trace *t = NULL;
    cst_status st = CST_OK;
    *part = calloc(n, sizeof **part);
    if (!part_of || !id || !at || !*part) CST_GO(cst_fail(CST_NO_MEMORY, "memory manager"), out);
    CST_GO(cst_trace_create(&t), out);
    snprintf(t->device, sizeof t->device, "%s", old->device);
    snprintf(t->about, sizeof t->about, "%s", old->about);
    t->align = old->align, t->max_slab = old->max_slab, t->scratch = old->scratch, t->rates = old->rates, t->enqueue = old->enqueue;
    CST_GO(group(part_of, &chunks, old), out);
    CST_GO(add_tensors(t, old, part_of, chunks, id, at), out);
    for (int k = 0; k < old->moments; k++) {
        const cst_trace_moment *o = &old->moment[k];
        CST_GO(cst_trace_add_moment(t, o->op, o->flops), out);
        t->moment[k].seconds = o->seconds;
        t->moment[k].bytes = cst_trace_bytes(old, k);
        for (int u = o->first; u < o->first + o->uses; u++) {
            const cst_trace_use *x = &old->use[u];
            int whole = part_of[x->tensor] < 0 || x->access != CST_WRITE; /* overwriting a part leaves the rest as it is */
            CST_GO(cst_trace_add_use(t, id[x->tensor], whole ? x->access : CST_UPDATE, x->held), out);
        }
    }
    for (int i = 0; i < old->tensors; i++) (*part)[i] = (cst_chunk_part){id[i], part_of[i] >= 0, at[i]};
out:
    free(part_of);
    free(id);
    free(at);
    if (st == CST_OK) *out = t;
    else {
        cst_trace_free(t);
        free(*part);
        *part = NULL;
    }
    return st;
}

cst_status cst_chunks_make(cst_mem *m)
{
    cst_tensor **chunk = calloc((size_t)m->trace->tensors + 1, sizeof *chunk);
    cst_status st = chunk ? CST_OK : cst_fail(CST_NO_MEMORY, "memory manager");
    for (cst_tensor *t = m->first; t && st == CST_OK; t = t->next) {
        if (t->traced < 0 || t->parts) continue;
        const cst_chunk_part *p = &m->part[t->traced];
        t->traced = p->tensor;
        if (!p->in_chunk) continue;
        const cst_trace_tensor *x = &m->trace->tensor[p->tensor];
        if (!chunk[p->tensor]) { /* put in front of the list: this walk doesn't meet it */
            int64_t bytes = (int64_t)(x->bytes - 2 * m->guard); /* the trace has tensors with their guards */
            st = cst_tensor_create(&chunk[p->tensor], m, (cst_class)x->cls, CST_U8, 1, &bytes, "%s", x->name);
            if (st != CST_OK) break;
            chunk[p->tensor]->traced = p->tensor;
        }
        t->chunk = chunk[p->tensor];
        t->chunk_at = p->at;
        t->chunk->parts++;
        t->traced = -1;
    }
    free(chunk);
    free(m->part);
    m->part = NULL;
    return st;
}

void cst_chunks_dissolve(cst_mem *m)
{
    for (cst_tensor *t = m->first; t; t = t->next) t->chunk = NULL;
    for (cst_tensor *t = m->first, *next; t; t = next) {
        next = t->next;
        if (t->parts) cst_tensor_free(t);
    }
}
