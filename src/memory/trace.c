#include "memory/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory/internal.h"

cst_status cst_trace_create(cst_trace **out)
{
    cst_trace *t = calloc(1, sizeof *t);
    if (!t) return cst_fail(CST_NO_MEMORY, "trace");
    t->align = 256;
    t->max_slab = (uint64_t)4 << 30;
    t->rates = (cst_rates){.up = 12e9, .down = 12e9, .both = 0.9, .memory = 300e9, .flops = 5e12, .launch = 5e-6};
    *out = t;
    return CST_OK;
}

void cst_trace_free(cst_trace *t)
{
    if (!t) return;
    free(t->tensor);
    free(t->moment);
    free(t->use);
    free(t);
}

int cst_array_more(void **array, int count, int *room, size_t size)
{
    if (count < *room) return 1;
    int next = *room ? 2 * *room : 64;
    void *a = realloc(*array, (size_t)next * size);
    if (!a) return 0;
    *array = a;
    *room = next;
    return 1;
}

cst_status cst_trace_copy(cst_trace **out, const cst_trace *t)
{
    cst_trace *c = malloc(sizeof *c);
    if (!c) return cst_fail(CST_NO_MEMORY, "trace");
    *c = *t;
    c->tensor = malloc((size_t)(t->tensors + 1) * sizeof *c->tensor);
    c->moment = malloc((size_t)(t->moments + 1) * sizeof *c->moment);
    c->use = malloc((size_t)(t->uses + 1) * sizeof *c->use);
    if (!c->tensor || !c->moment || !c->use) {
        cst_trace_free(c);
        return cst_fail(CST_NO_MEMORY, "trace");
    }
    if (t->tensors) memcpy(c->tensor, t->tensor, (size_t)t->tensors * sizeof *c->tensor);
    if (t->moments) memcpy(c->moment, t->moment, (size_t)t->moments * sizeof *c->moment);
    if (t->uses) memcpy(c->use, t->use, (size_t)t->uses * sizeof *c->use);
    c->room[0] = t->tensors + 1;
    c->room[1] = t->moments + 1;
    c->room[2] = t->uses + 1;
    *out = c;
    return CST_OK;
}

cst_status cst_trace_add_tensor(cst_trace *t, const char *name, int cls, uint64_t bytes, int persistent, int fixed, int *id)
{
    if (!cst_array_more((void **)&t->tensor, t->tensors, &t->room[0], sizeof *t->tensor)) return cst_fail(CST_NO_MEMORY, "trace");
    cst_trace_tensor *x = &t->tensor[t->tensors];
    memset(x, 0, sizeof *x);
    snprintf(x->name, sizeof x->name, "%s", name);
    x->cls = cls;
    x->bytes = (bytes + t->align - 1) / t->align * t->align;
    x->persistent = persistent || fixed;
    x->fixed = fixed;
    *id = t->tensors++;
    return CST_OK;
}

int cst_trace_away(const cst_trace *t)
{
    for (int i = 0; i < t->tensors; i++)
        if (t->tensor[i].away) return 1;
    return 0;
}

cst_status cst_trace_add_moment(cst_trace *t, const char *op, double flops)
{
    if (!cst_array_more((void **)&t->moment, t->moments, &t->room[1], sizeof *t->moment)) return cst_fail(CST_NO_MEMORY, "trace");
    cst_trace_moment *x = &t->moment[t->moments++];
    memset(x, 0, sizeof *x);
    snprintf(x->op, sizeof x->op, "%s", op);
    x->first = t->uses;
    x->flops = flops;
    x->seconds = -1;
    return CST_OK;
}

cst_status cst_trace_add_use(cst_trace *t, int tensor, int access, int held)
{
    cst_trace_moment *m = &t->moment[t->moments - 1];
    for (int i = m->first; i < t->uses; i++) {
        cst_trace_use *u = &t->use[i];
        if (u->tensor != tensor) continue;
        if (u->access != access) u->access = CST_UPDATE;
        u->held &= held;
        return CST_OK;
    }
    if (!cst_array_more((void **)&t->use, t->uses, &t->room[2], sizeof *t->use)) return cst_fail(CST_NO_MEMORY, "trace");
    t->use[t->uses++] = (cst_trace_use){tensor, access, held};
    m->uses++;
    return CST_OK;
}

double cst_trace_bytes(const cst_trace *t, int moment)
{
    const cst_trace_moment *m = &t->moment[moment];
    double bytes = 0;
    for (int i = m->first; i < m->first + m->uses; i++)
        if (!t->use[i].held) bytes += (double)t->tensor[t->use[i].tensor].bytes * (t->use[i].access == CST_UPDATE ? 2 : 1);
    return bytes;
}

double cst_trace_seconds(const cst_trace *t, int moment)
{
    const cst_trace_moment *m = &t->moment[moment];
    if (m->seconds >= 0) return m->seconds;
    double bytes = cst_trace_bytes(t, moment), s = m->flops / t->rates.flops;
    if (bytes / t->rates.memory > s) s = bytes / t->rates.memory;
    return s > t->rates.launch ? s : t->rates.launch;
}

cst_status cst_trace_check(const cst_trace *t)
{
    const cst_rates *r = &t->rates;
    if (!(r->up > 0 && r->down > 0 && r->both > 0 && r->memory > 0 && r->flops > 0 && r->launch > 0))
        return cst_fail(CST_INPUT, "trace: a rate isn't above 0");
    if (!t->align || !t->max_slab || t->max_slab % t->align)
        return cst_fail(CST_INPUT, "trace: align or max_slab is 0, or they don't fit each other");
    if (!t->moments) return cst_fail(CST_INPUT, "trace: it has no moments");
    unsigned char *written = calloc((size_t)t->tensors + 1, 1);
    cst_status st = CST_OK;
    if (!written) return cst_fail(CST_NO_MEMORY, "trace");
    for (int i = 0; i < t->tensors && st == CST_OK; i++) {
        const cst_trace_tensor *x = &t->tensor[i];
        if (!x->bytes || x->bytes % t->align || x->bytes > t->max_slab)
            st = cst_fail(CST_INPUT, "trace: tensor %d (%s) has %llu bytes; multiples of %llu up to %llu are allowed", i, x->name,
                          (unsigned long long)x->bytes, (unsigned long long)t->align, (unsigned long long)t->max_slab);
        else if (x->fixed && !x->persistent) st = cst_fail(CST_INPUT, "trace: tensor %d (%s) is fixed but not persistent", i, x->name);
        else if (x->away && (x->fixed || !x->persistent))
            st = cst_fail(CST_INPUT, "trace: tensor %d (%s) is away, but fixed or not persistent", i, x->name);
    }
    for (int k = 0; k < t->moments && st == CST_OK; k++) {
        const cst_trace_moment *m = &t->moment[k];
        if (m->first < 0 || m->uses < 0 || m->first > t->uses - m->uses)
            st = cst_fail(CST_INPUT, "trace: moment %d (%s) uses what isn't there", k, m->op);
        for (int i = m->first; i < m->first + m->uses && st == CST_OK; i++) {
            const cst_trace_use *u = &t->use[i];
            if (u->tensor < 0 || u->tensor >= t->tensors || u->access < CST_READ || u->access > CST_UPDATE)
                st = cst_fail(CST_INPUT, "trace: moment %d (%s): there is no such tensor or access", k, m->op);
            else if (!t->tensor[u->tensor].persistent && !written[u->tensor] && u->access != CST_WRITE)
                st = cst_fail(CST_INPUT, "trace: moment %d (%s) reads %s before anything wrote it", k, m->op, t->tensor[u->tensor].name);
            else written[u->tensor] = 1;
        }
    }
    free(written);
    return st;
}
