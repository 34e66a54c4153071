/* The reader of pickles: opcodes and their arguments. */
#include <stdlib.h>
#include <string.h>

#include "io/pickle_machine.h"

#define MEMO_MAX (1u << 20)

/* Names of all opcodes, for messages. */
static const char *const OPCODES[256] = {
    ['('] = "MARK", ['.'] = "STOP", ['0'] = "POP", ['1'] = "POP_MARK", ['2'] = "DUP", ['F'] = "FLOAT", ['I'] = "INT",
    ['J'] = "BININT", ['K'] = "BININT1", ['L'] = "LONG", ['M'] = "BININT2", ['N'] = "NONE", ['P'] = "PERSID",
    ['Q'] = "BINPERSID", ['R'] = "REDUCE", ['S'] = "STRING", ['T'] = "BINSTRING", ['U'] = "SHORT_BINSTRING",
    ['V'] = "UNICODE", ['X'] = "BINUNICODE", ['a'] = "APPEND", ['b'] = "BUILD", ['c'] = "GLOBAL", ['d'] = "DICT",
    ['}'] = "EMPTY_DICT", ['e'] = "APPENDS", ['g'] = "GET", ['h'] = "BINGET", ['i'] = "INST", ['j'] = "LONG_BINGET",
    ['l'] = "LIST", [']'] = "EMPTY_LIST", ['o'] = "OBJ", ['p'] = "PUT", ['q'] = "BINPUT", ['r'] = "LONG_BINPUT",
    ['s'] = "SETITEM", ['t'] = "TUPLE", [')'] = "EMPTY_TUPLE", ['u'] = "SETITEMS", ['G'] = "BINFLOAT", ['B'] = "BINBYTES",
    ['C'] = "SHORT_BINBYTES", [0x80] = "PROTO", [0x81] = "NEWOBJ", [0x82] = "EXT1", [0x83] = "EXT2", [0x84] = "EXT4",
    [0x85] = "TUPLE1", [0x86] = "TUPLE2", [0x87] = "TUPLE3", [0x88] = "NEWTRUE", [0x89] = "NEWFALSE", [0x8a] = "LONG1",
    [0x8b] = "LONG4", [0x8c] = "SHORT_BINUNICODE", [0x8d] = "BINUNICODE8", [0x8e] = "BINBYTES8", [0x8f] = "EMPTY_SET",
    [0x90] = "ADDITEMS", [0x91] = "FROZENSET", [0x92] = "NEWOBJ_EX", [0x93] = "STACK_GLOBAL", [0x94] = "MEMOIZE",
    [0x95] = "FRAME", [0x96] = "BYTEARRAY8", [0x97] = "NEXT_BUFFER", [0x98] = "READONLY_BUFFER",
};

/* ---- tuples and dictionaries ---- */

/* The values from `first` on become one tuple. */
static cst_status tuple(cst_pickle_machine *m, size_t first)
{
    cst_pickle_object *t;
    CST_TRY(cst_pickle_new(&t, m, CST_PICKLE_TUPLE));
    CST_TRY(cst_pickle_append(m, t, m->stack + first, m->depth - first));
    m->depth = first;
    return cst_pickle_push(m, t);
}

static cst_status tuple_of(cst_pickle_machine *m, size_t n)
{
    if (cst_pickle_above(m) < n) return CST_PICKLE_BAD(m, "no value on the stack");
    return tuple(m, m->depth - n);
}

static cst_status set_items(cst_pickle_machine *m, size_t first)
{
    cst_pickle_object *d, **item = m->stack + first;
    size_t n = m->depth - first;
    m->depth = first;
    CST_TRY(cst_pickle_peek(&d, m, CST_PICKLE_DICT));
    if (n % 2) return CST_PICKLE_BAD(m, "a key without a value");
    return cst_pickle_append(m, d, item, n);
}

/* ---- arguments of opcodes ---- */

static cst_status bytes(const unsigned char **p, cst_pickle_machine *m, uint64_t n)
{
    uint64_t left = (uint64_t)(m->end - m->at);
    if (n > left) return CST_PICKLE_BAD(m, "truncated: %llu bytes are missing", (unsigned long long)(n - left));
    *p = m->at;
    m->at += n;
    return CST_OK;
}

/* Little-endian, n <= 8. */
static cst_status number(uint64_t *v, cst_pickle_machine *m, unsigned n)
{
    const unsigned char *p;
    CST_TRY(bytes(&p, m, n));
    *v = 0;
    for (unsigned i = 0; i < n; i++) *v |= (uint64_t)p[i] << (8 * i);
    return CST_OK;
}

/* Two's complement in n <= 8 bytes. */
static cst_status push_signed(cst_pickle_machine *m, unsigned n)
{
    uint64_t v;
    CST_TRY(number(&v, m, n));
    if (n && n < 8 && v >> (8 * n - 1)) v |= ~(uint64_t)0 << (8 * n);
    return cst_pickle_push_new(m, CST_PICKLE_INT, (int64_t)v);
}

static cst_status push_long(cst_pickle_machine *m)
{
    uint64_t n;
    CST_TRY(number(&n, m, 1));
    if (n > 8) return CST_PICKLE_BAD(m, "an int of %u bytes; allowed: 8", (unsigned)n);
    return push_signed(m, (unsigned)n);
}

static cst_status push_string(cst_pickle_machine *m, unsigned width)
{
    uint64_t n;
    const unsigned char *text;
    void *copy;
    cst_pickle_object *o;
    CST_TRY(number(&n, m, width));
    CST_TRY(bytes(&text, m, n));
    if (memchr(text, 0, (size_t)n)) return CST_PICKLE_BAD(m, "a string with a 0 byte in it");
    CST_TRY(cst_pickle_take(&copy, m, (size_t)n + 1));
    memcpy(copy, text, (size_t)n);
    CST_TRY(cst_pickle_new(&o, m, CST_PICKLE_STRING));
    o->u.text = copy;
    return cst_pickle_push(m, o);
}

/* A line without its end. */
static cst_status line(const char **s, size_t *n, cst_pickle_machine *m)
{
    const unsigned char *end = memchr(m->at, '\n', (size_t)(m->end - m->at));
    if (!end) return CST_PICKLE_BAD(m, "truncated: a line without an end");
    *s = (const char *)m->at;
    *n = (size_t)(end - m->at);
    m->at = end + 1;
    return CST_OK;
}

static cst_status op_global(cst_pickle_machine *m)
{
    const char *module, *name;
    size_t module_n, name_n;
    CST_TRY(line(&module, &module_n, m));
    CST_TRY(line(&name, &name_n, m));
    return cst_pickle_global(m, module, module_n, name, name_n);
}

static cst_status op_stack_global(cst_pickle_machine *m)
{
    cst_pickle_object *name, *module;
    CST_TRY(cst_pickle_pop_kind(&name, m, CST_PICKLE_STRING));
    CST_TRY(cst_pickle_pop_kind(&module, m, CST_PICKLE_STRING));
    return cst_pickle_global(m, module->u.text, strlen(module->u.text), name->u.text, strlen(name->u.text));
}

/* ---- memo ---- */

static cst_status put(cst_pickle_machine *m, uint64_t i)
{
    if (i >= MEMO_MAX) return CST_PICKLE_BAD(m, "memo %llu; allowed: below %u", (unsigned long long)i, MEMO_MAX);
    if (!cst_pickle_above(m)) return CST_PICKLE_BAD(m, "no value on the stack");
    if (i >= m->memo_room) {
        size_t room = (size_t)i * 2 + 64;
        cst_pickle_object **p = realloc(m->memo, room * sizeof *p);
        if (!p) return cst_fail(CST_NO_MEMORY, "%s", m->where);
        memset(p + m->memo_room, 0, (room - m->memo_room) * sizeof *p);
        m->memo = p;
        m->memo_room = room;
    }
    m->memo[i] = m->stack[m->depth - 1];
    return CST_OK;
}

static cst_status op_put(cst_pickle_machine *m, unsigned width)
{
    uint64_t i;
    CST_TRY(number(&i, m, width));
    m->memoized++;
    return put(m, i);
}

static cst_status op_get(cst_pickle_machine *m, unsigned width)
{
    uint64_t i;
    CST_TRY(number(&i, m, width));
    if (i >= m->memo_room || !m->memo[i]) return CST_PICKLE_BAD(m, "memo %llu is empty", (unsigned long long)i);
    return cst_pickle_push(m, m->memo[i]);
}

/* ---- the program ---- */

static cst_status op_proto(cst_pickle_machine *m)
{
    uint64_t v;
    CST_TRY(number(&v, m, 1));
    return v >= 2 && v <= 5 ? CST_OK : CST_PICKLE_BAD(m, "pickle protocol %u; allowed: 2 to 5", (unsigned)v);
}

static cst_status op_frame(cst_pickle_machine *m)
{
    uint64_t n;
    CST_TRY(number(&n, m, 8));
    return n <= (uint64_t)(m->end - m->at) ? CST_OK : CST_PICKLE_BAD(m, "truncated: a frame of %llu bytes", (unsigned long long)n);
}

static cst_status op_mark(cst_pickle_machine *m)
{
    if (m->marks == CST_PICKLE_MARKS_MAX) return CST_PICKLE_BAD(m, "nested deeper than %u", CST_PICKLE_MARKS_MAX);
    m->mark[m->marks++] = m->depth;
    return CST_OK;
}

static cst_status op_marked(cst_pickle_machine *m, unsigned char op)
{
    size_t first;
    CST_TRY(cst_pickle_pop_mark(&first, m));
    return op == 't' ? tuple(m, first) : set_items(m, first);
}

static cst_status step(cst_pickle_machine *m, unsigned char op)
{
    uint64_t v = 0;
    switch (op) {
    case 0x80: return op_proto(m);
    case 0x95: return op_frame(m);
    case '(': return op_mark(m);
    case 't':
    case 'u': return op_marked(m, op);
    case 's': return cst_pickle_above(m) < 2 ? CST_PICKLE_BAD(m, "no value on the stack") : set_items(m, m->depth - 2);
    case ')': return tuple(m, m->depth);
    case 0x85:
    case 0x86:
    case 0x87: return tuple_of(m, op - 0x84u);
    case '}': return cst_pickle_push_new(m, CST_PICKLE_DICT, 0);
    case 'N': return cst_pickle_push_new(m, CST_PICKLE_NONE, 0);
    case 0x88:
    case 0x89: return cst_pickle_push_new(m, CST_PICKLE_BOOL, op == 0x88);
    case 'J': return push_signed(m, 4);
    case 'K':
    case 'M': CST_TRY(number(&v, m, op == 'K' ? 1 : 2)); return cst_pickle_push_new(m, CST_PICKLE_INT, (int64_t)v);
    case 0x8a: return push_long(m);
    case 'X': return push_string(m, 4);
    case 0x8c: return push_string(m, 1);
    case 0x8d: return push_string(m, 8);
    case 'c': return op_global(m);
    case 0x93: return op_stack_global(m);
    case 'q': return op_put(m, 1);
    case 'r': return op_put(m, 4);
    case 0x94: return put(m, m->memoized++);
    case 'h': return op_get(m, 1);
    case 'j': return op_get(m, 4);
    case 'Q': return cst_pickle_storage(m);
    case 'R': return cst_pickle_reduce(m);
    case 'b': return cst_pickle_build(m);
    default:
        m->at--;
        return CST_PICKLE_BAD(m, "opcode 0x%02x (%s); allowed: only those that make tensors", op, OPCODES[op] ? OPCODES[op] : "unknown");
    }
}

static cst_status run(cst_pickle_machine *m)
{
    if (m->at == m->end || *m->at != 0x80) return CST_PICKLE_BAD(m, "not a pickle of protocol 2 to 5");
    for (;;) {
        if (m->at == m->end) return CST_PICKLE_BAD(m, "truncated: no STOP");
        unsigned char op = *m->at++;
        if (op == '.') return cst_pickle_finish(m);
        CST_TRY(step(m, op));
    }
}

cst_status cst_pickle_read(cst_pickle **out, const void *data, size_t size, const char *where)
{
    cst_status st;
    cst_pickle_machine m = {.start = data, .at = data, .where = where};
    m.end = m.start + size;
    if (size > CST_PICKLE_SIZE_MAX) return cst_fail(CST_INPUT, "%s: %zu bytes; allowed: %u", where, size, CST_PICKLE_SIZE_MAX);
    m.out = calloc(1, sizeof *m.out);
    m.stack = malloc(CST_PICKLE_STACK_MAX * sizeof *m.stack);
    if (!m.out || !m.stack) {
        st = cst_fail(CST_NO_MEMORY, "%s", where);
        goto out;
    }
    CST_GO(run(&m), out);
    *out = m.out;
    m.out = NULL;
out:
    cst_pickle_free(m.out);
    free(m.stack);
    free(m.memo);
    return st;
}

size_t cst_pickle_count(const cst_pickle *p)
{
    return p->count;
}

const cst_pickle_tensor *cst_pickle_get(const cst_pickle *p, size_t i)
{
    return i < p->count ? &p->tensor[i] : NULL;
}
