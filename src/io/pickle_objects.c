/* Objects of a pickle: their memory, which has a limit and is freed at once, and the stack they are on. */
#include <stdlib.h>
#include <string.h>

#include "io/pickle_machine.h"

const char *const cst_pickle_kind_name[] = {"None", "a bool", "an int", "a string", "a tuple", "a dict", "a name", "a storage", "a tensor"};

cst_status cst_pickle_take(void **out, cst_pickle_machine *m, size_t bytes)
{
    enum { BLOCK = 1 << 16 };
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > m->room) {
        size_t n = bytes > BLOCK ? bytes : BLOCK;
        if (n > CST_PICKLE_MEMORY_MAX - m->used)
            return CST_PICKLE_BAD(m, "it builds more than %u MiB of objects", CST_PICKLE_MEMORY_MAX >> 20);
        cst_pickle_block *b = malloc(sizeof *b + 16 + n);
        if (!b) return cst_fail(CST_NO_MEMORY, "%s", m->where);
        b->next = m->out->blocks;
        m->out->blocks = b;
        m->used += n;
        m->room = n;
    }
    /* a block is used from its end; the end is aligned whatever malloc's alignment leaves before `data` */
    uintptr_t base = ((uintptr_t)m->out->blocks->data + 15) & ~(uintptr_t)15;
    m->room -= bytes;
    *out = memset((void *)(base + m->room), 0, bytes);
    return CST_OK;
}

cst_status cst_pickle_new(cst_pickle_object **out, cst_pickle_machine *m, cst_pickle_kind k)
{
    void *p;
    CST_TRY(cst_pickle_take(&p, m, sizeof **out));
    *out = p;
    (*out)->kind = k;
    return CST_OK;
}

/* ---- the stack ---- */

cst_status cst_pickle_push(cst_pickle_machine *m, cst_pickle_object *o)
{
    if (m->depth == CST_PICKLE_STACK_MAX) return CST_PICKLE_BAD(m, "more than %u values on the stack", CST_PICKLE_STACK_MAX);
    m->stack[m->depth++] = o;
    return CST_OK;
}

cst_status cst_pickle_push_new(cst_pickle_machine *m, cst_pickle_kind k, int64_t integer)
{
    cst_pickle_object *o;
    CST_TRY(cst_pickle_new(&o, m, k));
    if (k == CST_PICKLE_BOOL || k == CST_PICKLE_INT || k == CST_PICKLE_GLOBAL) o->u.integer = integer;
    return cst_pickle_push(m, o);
}

size_t cst_pickle_above(const cst_pickle_machine *m)
{
    return m->depth - (m->marks ? m->mark[m->marks - 1] : 0);
}

cst_status cst_pickle_pop(cst_pickle_object **o, cst_pickle_machine *m)
{
    if (!cst_pickle_above(m)) return CST_PICKLE_BAD(m, "no value on the stack");
    *o = m->stack[--m->depth];
    return CST_OK;
}

cst_status cst_pickle_peek(cst_pickle_object **o, cst_pickle_machine *m, cst_pickle_kind k)
{
    if (!cst_pickle_above(m)) return CST_PICKLE_BAD(m, "no value on the stack");
    *o = m->stack[m->depth - 1];
    if ((*o)->kind != k) return CST_PICKLE_BAD(m, "%s where %s is wanted", cst_pickle_kind_name[(*o)->kind], cst_pickle_kind_name[k]);
    return CST_OK;
}

cst_status cst_pickle_pop_kind(cst_pickle_object **o, cst_pickle_machine *m, cst_pickle_kind k)
{
    CST_TRY(cst_pickle_peek(o, m, k));
    return cst_pickle_pop(o, m);
}

cst_status cst_pickle_pop_mark(size_t *first, cst_pickle_machine *m)
{
    if (!m->marks) return CST_PICKLE_BAD(m, "no MARK on the stack");
    *first = m->mark[--m->marks];
    return CST_OK;
}

cst_status cst_pickle_append(cst_pickle_machine *m, cst_pickle_object *o, cst_pickle_object *const *item, size_t n)
{
    if (n > o->u.list.room - o->u.list.n) {
        void *p;
        size_t room = 2 * o->u.list.room + n;
        CST_TRY(cst_pickle_take(&p, m, room * sizeof *item));
        if (o->u.list.n) memcpy(p, o->u.list.item, o->u.list.n * sizeof *item);
        o->u.list.item = p;
        o->u.list.room = room;
    }
    if (n) memcpy(o->u.list.item + o->u.list.n, item, n * sizeof *item);
    o->u.list.n += n;
    return CST_OK;
}

void cst_pickle_free(cst_pickle *p)
{
    if (!p) return;
    while (p->blocks) {
        cst_pickle_block *b = p->blocks;
        p->blocks = b->next;
        free(b);
    }
    free(p);
}
