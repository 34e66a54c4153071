#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory/internal.h"

size_t cst_type_size(cst_type t)
{
    static const size_t size[] = {4, 2, 2, 4, 1};
    return (unsigned)t < CST_TYPE_COUNT ? size[t] : 0;
}

const char *cst_type_name(cst_type t)
{
    static const char *const name[] = {"f32", "f16", "bf16", "i32", "u8"};
    return (unsigned)t < CST_TYPE_COUNT ? name[t] : "?";
}

cst_status cst_tensor_create(cst_tensor **out, cst_mem *m, cst_class cls, cst_type type, int rank, const int64_t *dims,
                             const char *name, ...)
{
    cst_tensor *t = calloc(1, sizeof *t);
    va_list ap;
    if (!t) return cst_fail(CST_NO_MEMORY, "tensor");
    va_start(ap, name);
    vsnprintf(t->name, sizeof t->name, name, ap);
    va_end(ap);
    t->mem = m;
    t->cls = cls;
    t->type = type;
    t->rank = rank;
    t->bytes = cst_type_size(type);
    int bad = rank < 1 || rank > 4;
    for (int i = 0; i < 4; i++) {
        t->dim[i] = !bad && i < rank ? dims[i] : 1;
        bad |= t->dim[i] < 1 || __builtin_mul_overflow(t->bytes, (size_t)t->dim[i], &t->bytes);
    }
    if (bad || t->bytes > ((size_t)1 << 62)) {
        cst_status st = cst_fail(CST_USAGE, "tensor %s: its shape has a size below 1 or is too large", t->name);
        free(t);
        return st;
    }
    t->host_slab = t->traced = -1;
    t->born = ++m->born;
    t->next = m->first;
    if (m->first) m->first->prev = t;
    m->first = t;
    m->stats.tensors++;
    *out = t;
    return CST_OK;
}

void cst_tensor_free(cst_tensor *t)
{
    if (!t) return;
    cst_tensor *chunk = t->chunk;
    cst_tensor_accompany(t, NULL, NULL);
    cst_tensor_drop(t);
    cst_step_forget(t);
    if (t->prev) t->prev->next = t->next;
    else t->mem->first = t->next;
    if (t->next) t->next->prev = t->prev;
    t->mem->stats.tensors--;
    free(t);
    if (chunk && !--chunk->parts) cst_tensor_free(chunk);
}

cst_status cst_tensor_place(cst_tensor *t)
{
    cst_tensor *b = cst_block(t);
    cst_mem *m = t->mem;
    if (b->state != CST_TENSOR_EMPTY) return CST_OK;
    cst_use use = {t, CST_WRITE, NULL, 0};
    cst_waits w = {.n = 0};
    cst_status st = cst_demand(m, "place", &use, 1, &w);
    if (st == CST_OK) return cst_waits_order(&w, m);
    cst_waits_settle(&w);
    return st;
}

void cst_tensor_drop(cst_tensor *t)
{
    if (t->chunk) t->version++; /* its room is the chunk's */
    else if (t->state != CST_TENSOR_EMPTY) cst_block_discard(t);
}

void cst_tensor_fix(cst_tensor *t)
{
    t->fixed = 1;
}

void cst_tensor_keep_away(cst_tensor *t)
{
    t->away = 1;
}

void cst_tensor_accompany(cst_tensor *t, void *companion, void (*release)(void *))
{
    if (t->companion) t->companion_free(t->companion);
    t->companion = companion;
    t->companion_free = release;
}

int64_t cst_tensor_count(const cst_tensor *t)
{
    return t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3];
}

size_t cst_tensor_extent(const cst_tensor *t)
{
    /* the guard is a multiple of the alignment, so the tensor itself stays aligned */
    return t->bytes + 2 * t->mem->guard;
}

/* Guards: a pattern before and after each tensor. Only tests use them, so they go the slow, sure way. */

static void guard_pattern(unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = (unsigned char)(0xA5 ^ (i * 7));
}

void cst_mem_set_guard(cst_mem *m, size_t bytes)
{
    m->guard = cst_arena_round(&m->arena, bytes);
}

cst_status cst_guard_fill(cst_tensor *t)
{
    cst_mem *m = t->mem;
    unsigned char *p = malloc(m->guard);
    if (!p) return cst_fail(CST_NO_MEMORY, "guard");
    guard_pattern(p, m->guard);
    cl_mem b = m->buffer[t->slab];
    cst_status st = cst_fence_settle(m, CST_ON_DEVICE, CST_COMPUTE, t->slab, t->offset - m->guard, cst_tensor_extent(t));
    if (st != CST_OK) {
        free(p);
        return st;
    }
    cl_int err = clEnqueueWriteBuffer(m->dev->compute, b, CL_TRUE, t->offset - m->guard, m->guard, p, 0, NULL, NULL);
    if (err == CL_SUCCESS) err = clEnqueueWriteBuffer(m->dev->compute, b, CL_TRUE, t->offset + t->bytes, m->guard, p, 0, NULL, NULL);
    free(p);
    return cst_cl(err, "clEnqueueWriteBuffer");
}

cst_status cst_mem_guards_check(cst_mem *m)
{
    if (!m->guard) return cst_fail(CST_STATE, "no guards are set");
    cst_status st = CST_OK;
    unsigned char *want = malloc(m->guard), *got = malloc(m->guard);
    if (!want || !got) {
        st = cst_fail(CST_NO_MEMORY, "guards");
        goto out;
    }
    guard_pattern(want, m->guard);
    for (cst_tensor *t = m->first; t && st == CST_OK; t = t->next) {
        if (t->chunk || !cst_on_device(t)) continue;
        for (int side = 0; side < 2 && st == CST_OK; side++) {
            size_t at = side ? t->offset + t->bytes : t->offset - m->guard;
            cl_int err = clEnqueueReadBuffer(m->dev->compute, m->buffer[t->slab], CL_TRUE, at, m->guard, got, 0, NULL, NULL);
            st = cst_cl(err, "clEnqueueReadBuffer");
            if (st == CST_OK && memcmp(want, got, m->guard))
                st = cst_fail(CST_STATE, "something was written %s %s", side ? "behind" : "before", t->name);
        }
    }
out:
    free(want);
    free(got);
    return st;
}
