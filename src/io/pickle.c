#include "io/pickle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACK_MAX (1u << 16)
#define MARKS_MAX 256u
#define MEMO_MAX (1u << 20)
#define RANK_MAX CST_SAFETENSORS_RANK_MAX

/* What may be named. Anything from STORAGE on is the type of a storage. */
enum global { ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, STORAGE };

static const struct {
    const char *module, *name;
    cst_st_dtype dtype; /* of a storage */
} GLOBALS[] = {
    [ORDERED_DICT] = {"collections", "OrderedDict", 0},
    [REBUILD_TENSOR] = {"torch._utils", "_rebuild_tensor_v2", 0},
    [REBUILD_PARAMETER] = {"torch._utils", "_rebuild_parameter", 0},
    [STORAGE] = {"torch", "FloatStorage", CST_ST_F32},
    {"torch", "HalfStorage", CST_ST_F16},
    {"torch", "BFloat16Storage", CST_ST_BF16},
    {"torch", "DoubleStorage", CST_ST_F64},
    {"torch", "LongStorage", CST_ST_I64},
    {"torch", "IntStorage", CST_ST_I32},
    {"torch", "ShortStorage", CST_ST_I16},
    {"torch", "CharStorage", CST_ST_I8},
    {"torch", "ByteStorage", CST_ST_U8},
    {"torch", "BoolStorage", CST_ST_BOOL},
};
#define GLOBAL_COUNT (sizeof GLOBALS / sizeof *GLOBALS)

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

typedef enum kind { NONE, BOOL, INT, STRING, TUPLE, DICT, GLOBAL, STORED, TENSOR } kind;
static const char *const KINDS[] = {"None", "a bool", "an int", "a string", "a tuple", "a dict", "a name", "a storage", "a tensor"};

/* A value. Nothing here is ever walked recursively, so nesting costs no stack. */
typedef struct object object;
struct object {
    kind kind;
    union {
        int64_t integer;            /* BOOL, INT; GLOBAL: its place in GLOBALS */
        const char *text;           /* STRING, without 0 bytes inside */
        struct {
            object **item;
            size_t n, room;
        } list;                     /* TUPLE; DICT: key, value, key, value, ... */
        cst_pickle_tensor *tensor;  /* TENSOR; STORED: its storage, dtype and storage_count */
    } u;
};

typedef struct block {
    struct block *next;
    char data[];
} block;

struct cst_pickle {
    block *blocks; /* everything built, freed together */
    cst_pickle_tensor *tensor;
    size_t count;
};

typedef struct machine {
    const unsigned char *start, *at, *end;
    const char *where;
    cst_pickle *out;
    size_t room, used;    /* left in the newest block, bytes in all blocks */
    object **stack, **memo;
    size_t depth, marks, memo_room, memoized;
    size_t mark[MARKS_MAX];
} machine;

/* Every failure says where it happened. */
#define BAD(m, ...) \
    (cst_fail(CST_INPUT, __VA_ARGS__), cst_fail_in(CST_INPUT, "%s: at byte %zu", (m)->where, (size_t)((m)->at - (m)->start)), CST_INPUT)

/* ---- memory ---- */

static cst_status take(void **out, machine *m, size_t bytes)
{
    enum { BLOCK = 1 << 16 };
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > m->room) {
        size_t n = bytes > BLOCK ? bytes : BLOCK;
        if (n > CST_PICKLE_MEMORY_MAX - m->used)
            return BAD(m, "it builds more than %u MiB of objects", CST_PICKLE_MEMORY_MAX >> 20);
        block *b = malloc(sizeof *b + 16 + n);
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

static cst_status new_object(object **out, machine *m, kind k)
{
    void *p;
    CST_TRY(take(&p, m, sizeof **out));
    *out = p;
    (*out)->kind = k;
    return CST_OK;
}

/* ---- the stack ---- */

static cst_status push(machine *m, object *o)
{
    if (m->depth == STACK_MAX) return BAD(m, "more than %u values on the stack", STACK_MAX);
    m->stack[m->depth++] = o;
    return CST_OK;
}

static cst_status push_new(machine *m, kind k, int64_t integer)
{
    object *o;
    CST_TRY(new_object(&o, m, k));
    if (k == BOOL || k == INT || k == GLOBAL) o->u.integer = integer;
    return push(m, o);
}

/* Values above the topmost mark. */
static size_t above(const machine *m)
{
    return m->depth - (m->marks ? m->mark[m->marks - 1] : 0);
}

static cst_status pop(object **o, machine *m)
{
    if (!above(m)) return BAD(m, "no value on the stack");
    *o = m->stack[--m->depth];
    return CST_OK;
}

/* The topmost value, of this kind, without taking it. */
static cst_status peek(object **o, machine *m, kind k)
{
    if (!above(m)) return BAD(m, "no value on the stack");
    *o = m->stack[m->depth - 1];
    if ((*o)->kind != k) return BAD(m, "%s where %s is wanted", KINDS[(*o)->kind], KINDS[k]);
    return CST_OK;
}

static cst_status pop_kind(object **o, machine *m, kind k)
{
    CST_TRY(peek(o, m, k));
    return pop(o, m);
}

/* Take the topmost mark away: the values above it are m->stack[*first..m->depth). */
static cst_status pop_mark(size_t *first, machine *m)
{
    if (!m->marks) return BAD(m, "no MARK on the stack");
    *first = m->mark[--m->marks];
    return CST_OK;
}

static cst_status append(machine *m, object *o, object *const *item, size_t n)
{
    if (n > o->u.list.room - o->u.list.n) {
        void *p;
        size_t room = 2 * o->u.list.room + n;
        CST_TRY(take(&p, m, room * sizeof *item));
        if (o->u.list.n) memcpy(p, o->u.list.item, o->u.list.n * sizeof *item);
        o->u.list.item = p;
        o->u.list.room = room;
    }
    if (n) memcpy(o->u.list.item + o->u.list.n, item, n * sizeof *item);
    o->u.list.n += n;
    return CST_OK;
}

/* The values from `first` on become one tuple. */
static cst_status tuple(machine *m, size_t first)
{
    object *t;
    CST_TRY(new_object(&t, m, TUPLE));
    CST_TRY(append(m, t, m->stack + first, m->depth - first));
    m->depth = first;
    return push(m, t);
}

static cst_status tuple_of(machine *m, size_t n)
{
    if (above(m) < n) return BAD(m, "no value on the stack");
    return tuple(m, m->depth - n);
}

static cst_status set_items(machine *m, size_t first)
{
    object *d, **item = m->stack + first;
    size_t n = m->depth - first;
    m->depth = first;
    CST_TRY(peek(&d, m, DICT));
    if (n % 2) return BAD(m, "a key without a value");
    return append(m, d, item, n);
}

/* ---- arguments of opcodes ---- */

static cst_status bytes(const unsigned char **p, machine *m, uint64_t n)
{
    uint64_t left = (uint64_t)(m->end - m->at);
    if (n > left) return BAD(m, "truncated: %llu bytes are missing", (unsigned long long)(n - left));
    *p = m->at;
    m->at += n;
    return CST_OK;
}

/* Little-endian, n <= 8. */
static cst_status number(uint64_t *v, machine *m, unsigned n)
{
    const unsigned char *p;
    CST_TRY(bytes(&p, m, n));
    *v = 0;
    for (unsigned i = 0; i < n; i++) *v |= (uint64_t)p[i] << (8 * i);
    return CST_OK;
}

/* Two's complement in n <= 8 bytes. */
static cst_status push_signed(machine *m, unsigned n)
{
    uint64_t v;
    CST_TRY(number(&v, m, n));
    if (n && n < 8 && v >> (8 * n - 1)) v |= ~(uint64_t)0 << (8 * n);
    return push_new(m, INT, (int64_t)v);
}

static cst_status push_long(machine *m)
{
    uint64_t n;
    CST_TRY(number(&n, m, 1));
    if (n > 8) return BAD(m, "an int of %u bytes; allowed: 8", (unsigned)n);
    return push_signed(m, (unsigned)n);
}

static cst_status push_string(machine *m, unsigned width)
{
    uint64_t n;
    const unsigned char *text;
    void *copy;
    object *o;
    CST_TRY(number(&n, m, width));
    CST_TRY(bytes(&text, m, n));
    if (memchr(text, 0, (size_t)n)) return BAD(m, "a string with a 0 byte in it");
    CST_TRY(take(&copy, m, (size_t)n + 1));
    memcpy(copy, text, (size_t)n);
    CST_TRY(new_object(&o, m, STRING));
    o->u.text = copy;
    return push(m, o);
}

static int same_text(const char *text, const char *s, size_t n)
{
    return strlen(text) == n && !memcmp(text, s, n);
}

static cst_status push_global(machine *m, const char *module, size_t module_n, const char *name, size_t name_n)
{
    for (size_t i = 0; i < GLOBAL_COUNT; i++)
        if (same_text(GLOBALS[i].module, module, module_n) && same_text(GLOBALS[i].name, name, name_n))
            return push_new(m, GLOBAL, (int64_t)i);
    return BAD(m, "the pickle asks for \"%.*s.%.*s\"; allowed: only what makes tensors (collections.OrderedDict, "
               "torch._utils._rebuild_tensor_v2, torch._utils._rebuild_parameter, torch.FloatStorage and its like)",
               module_n < 100 ? (int)module_n : 100, module, name_n < 100 ? (int)name_n : 100, name);
}

/* A line without its end. */
static cst_status line(const char **s, size_t *n, machine *m)
{
    const unsigned char *end = memchr(m->at, '\n', (size_t)(m->end - m->at));
    if (!end) return BAD(m, "truncated: a line without an end");
    *s = (const char *)m->at;
    *n = (size_t)(end - m->at);
    m->at = end + 1;
    return CST_OK;
}

static cst_status op_global(machine *m)
{
    const char *module, *name;
    size_t module_n, name_n;
    CST_TRY(line(&module, &module_n, m));
    CST_TRY(line(&name, &name_n, m));
    return push_global(m, module, module_n, name, name_n);
}

static cst_status op_stack_global(machine *m)
{
    object *name, *module;
    CST_TRY(pop_kind(&name, m, STRING));
    CST_TRY(pop_kind(&module, m, STRING));
    return push_global(m, module->u.text, strlen(module->u.text), name->u.text, strlen(name->u.text));
}

/* ---- memo ---- */

static cst_status put(machine *m, uint64_t i)
{
    if (i >= MEMO_MAX) return BAD(m, "memo %llu; allowed: below %u", (unsigned long long)i, MEMO_MAX);
    if (!above(m)) return BAD(m, "no value on the stack");
    if (i >= m->memo_room) {
        size_t room = (size_t)i * 2 + 64;
        object **p = realloc(m->memo, room * sizeof *p);
        if (!p) return cst_fail(CST_NO_MEMORY, "%s", m->where);
        memset(p + m->memo_room, 0, (room - m->memo_room) * sizeof *p);
        m->memo = p;
        m->memo_room = room;
    }
    m->memo[i] = m->stack[m->depth - 1];
    return CST_OK;
}

static cst_status op_put(machine *m, unsigned width)
{
    uint64_t i;
    CST_TRY(number(&i, m, width));
    m->memoized++;
    return put(m, i);
}

static cst_status op_get(machine *m, unsigned width)
{
    uint64_t i;
    CST_TRY(number(&i, m, width));
    if (i >= m->memo_room || !m->memo[i]) return BAD(m, "memo %llu is empty", (unsigned long long)i);
    return push(m, m->memo[i]);
}

/* ---- tensors ---- */

static cst_status item_of(object **o, machine *m, const object *t, size_t i, kind k, const char *what)
{
    if (i >= t->u.list.n) return BAD(m, "%s lacks its part %zu", what, i);
    *o = t->u.list.item[i];
    if ((*o)->kind != k) return BAD(m, "%s: part %zu is %s where %s is wanted", what, i, KINDS[(*o)->kind], KINDS[k]);
    return CST_OK;
}

static cst_status count_of(int64_t *v, machine *m, const object *t, size_t i, const char *what)
{
    object *o;
    CST_TRY(item_of(&o, m, t, i, INT, what));
    if (o->u.integer < 0) return BAD(m, "%s: part %zu is negative", what, i);
    *v = o->u.integer;
    return CST_OK;
}

static cst_status new_tensor(object **out, machine *m, kind k)
{
    void *t;
    CST_TRY(take(&t, m, sizeof(cst_pickle_tensor)));
    CST_TRY(new_object(out, m, k));
    (*out)->u.tensor = t;
    return CST_OK;
}

/* ("storage", its type, key, device, elements) -> a storage */
static cst_status op_persistent(machine *m)
{
    static const char what[] = "persistent id";
    object *t, *tag, *type, *key, *device, *o;
    int64_t n;
    CST_TRY(pop_kind(&t, m, TUPLE));
    CST_TRY(item_of(&tag, m, t, 0, STRING, what));
    if (strcmp(tag->u.text, "storage")) return BAD(m, "%s \"%.60s\"; allowed: \"storage\"", what, tag->u.text);
    CST_TRY(item_of(&type, m, t, 1, GLOBAL, what));
    if (type->u.integer < STORAGE) return BAD(m, "%s: %s is no type of a storage", what, GLOBALS[type->u.integer].name);
    CST_TRY(item_of(&key, m, t, 2, STRING, what));
    CST_TRY(item_of(&device, m, t, 3, STRING, what));
    CST_TRY(count_of(&n, m, t, 4, what));
    if (t->u.list.n != 5) return BAD(m, "%s has %zu parts; allowed: 5", what, t->u.list.n);
    CST_TRY(new_tensor(&o, m, STORED));
    *o->u.tensor = (cst_pickle_tensor){.storage = key->u.text, .dtype = GLOBALS[type->u.integer].dtype, .storage_count = n};
    return push(m, o);
}

static int is_nothing(const object *o)
{
    return o->kind == NONE || (o->kind == DICT && !o->u.list.n);
}

/* (storage, offset, sizes, strides, requires_grad, backward_hooks[, metadata]) */
static cst_status rebuild_tensor(object **out, machine *m, const object *a)
{
    static const char what[] = "_rebuild_tensor_v2";
    object *storage, *size, *stride, *grad;
    CST_TRY(item_of(&storage, m, a, 0, STORED, what));
    CST_TRY(new_tensor(out, m, TENSOR));
    cst_pickle_tensor *t = (*out)->u.tensor;
    *t = *storage->u.tensor;
    CST_TRY(count_of(&t->offset, m, a, 1, what));
    CST_TRY(item_of(&size, m, a, 2, TUPLE, what));
    CST_TRY(item_of(&stride, m, a, 3, TUPLE, what));
    CST_TRY(item_of(&grad, m, a, 4, BOOL, what));
    if (a->u.list.n < 6 || a->u.list.n > 7) return BAD(m, "%s with %zu arguments; allowed: 6 or 7", what, a->u.list.n);
    for (size_t i = 5; i < a->u.list.n; i++)
        if (!is_nothing(a->u.list.item[i])) return BAD(m, "%s: a tensor with hooks or metadata", what);
    if (size->u.list.n > RANK_MAX || size->u.list.n != stride->u.list.n)
        return BAD(m, "%s: %zu sizes, %zu strides; allowed: as many of both, up to %d", what, size->u.list.n, stride->u.list.n, RANK_MAX);
    t->rank = (int)size->u.list.n;
    for (int i = 0; i < t->rank; i++) {
        CST_TRY(count_of(&t->dims[i], m, size, (size_t)i, "a tensor's sizes"));
        CST_TRY(count_of(&t->strides[i], m, stride, (size_t)i, "a tensor's strides"));
    }
    return CST_OK;
}

/* (tensor, requires_grad, backward_hooks) */
static cst_status rebuild_parameter(object **out, machine *m, const object *a)
{
    static const char what[] = "_rebuild_parameter";
    object *grad;
    CST_TRY(item_of(out, m, a, 0, TENSOR, what));
    CST_TRY(item_of(&grad, m, a, 1, BOOL, what));
    if (a->u.list.n != 3 || !is_nothing(a->u.list.item[2])) return BAD(m, "%s: allowed: a tensor, a bool and no hooks", what);
    return CST_OK;
}

static cst_status op_reduce(machine *m)
{
    object *args, *f, *o = NULL;
    CST_TRY(pop_kind(&args, m, TUPLE));
    CST_TRY(pop_kind(&f, m, GLOBAL));
    switch (f->u.integer) {
    case ORDERED_DICT:
        if (args->u.list.n) return BAD(m, "OrderedDict with arguments; allowed: none");
        CST_TRY(new_object(&o, m, DICT));
        break;
    case REBUILD_TENSOR: CST_TRY(rebuild_tensor(&o, m, args)); break;
    case REBUILD_PARAMETER: CST_TRY(rebuild_parameter(&o, m, args)); break;
    default: return BAD(m, "%s is called; allowed: as a type only", GLOBALS[f->u.integer].name);
    }
    return push(m, o);
}

/* A state_dict carries "_metadata" as an attribute: versions of modules, which say nothing about the weights. */
static cst_status op_build(machine *m)
{
    object *state, *o;
    CST_TRY(pop_kind(&state, m, DICT));
    return peek(&o, m, DICT);
}

/* ---- the program ---- */

static cst_status op_proto(machine *m)
{
    uint64_t v;
    CST_TRY(number(&v, m, 1));
    return v >= 2 && v <= 5 ? CST_OK : BAD(m, "pickle protocol %u; allowed: 2 to 5", (unsigned)v);
}

static cst_status op_frame(machine *m)
{
    uint64_t n;
    CST_TRY(number(&n, m, 8));
    return n <= (uint64_t)(m->end - m->at) ? CST_OK : BAD(m, "truncated: a frame of %llu bytes", (unsigned long long)n);
}

static cst_status op_mark(machine *m)
{
    if (m->marks == MARKS_MAX) return BAD(m, "nested deeper than %u", MARKS_MAX);
    m->mark[m->marks++] = m->depth;
    return CST_OK;
}

static cst_status op_marked(machine *m, unsigned char op)
{
    size_t first;
    CST_TRY(pop_mark(&first, m));
    return op == 't' ? tuple(m, first) : set_items(m, first);
}

static cst_status step(machine *m, unsigned char op)
{
    uint64_t v = 0;
    switch (op) {
    case 0x80: return op_proto(m);
    case 0x95: return op_frame(m);
    case '(': return op_mark(m);
    case 't':
    case 'u': return op_marked(m, op);
    case 's': return above(m) < 2 ? BAD(m, "no value on the stack") : set_items(m, m->depth - 2);
    case ')': return tuple(m, m->depth);
    case 0x85:
    case 0x86:
    case 0x87: return tuple_of(m, op - 0x84u);
    case '}': return push_new(m, DICT, 0);
    case 'N': return push_new(m, NONE, 0);
    case 0x88:
    case 0x89: return push_new(m, BOOL, op == 0x88);
    case 'J': return push_signed(m, 4);
    case 'K':
    case 'M': CST_TRY(number(&v, m, op == 'K' ? 1 : 2)); return push_new(m, INT, (int64_t)v);
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
    case 'Q': return op_persistent(m);
    case 'R': return op_reduce(m);
    case 'b': return op_build(m);
    default:
        m->at--;
        return BAD(m, "opcode 0x%02x (%s); allowed: only those that make tensors", op, OPCODES[op] ? OPCODES[op] : "unknown");
    }
}

/* The dictionary that is left becomes the list of tensors. */
static cst_status finish(machine *m)
{
    object *d;
    void *list;
    if (m->marks || m->depth != 1) return BAD(m, "%zu values and %zu marks at its end; allowed: one value", m->depth, m->marks);
    CST_TRY(peek(&d, m, DICT));
    if (m->at != m->end) return BAD(m, "%zu bytes after its end", (size_t)(m->end - m->at));
    CST_TRY(take(&list, m, d->u.list.n / 2 * sizeof(cst_pickle_tensor)));
    m->out->tensor = list;
    for (size_t i = 0; i < d->u.list.n; i += 2) {
        const object *key = d->u.list.item[i], *value = d->u.list.item[i + 1];
        if (key->kind != STRING) return BAD(m, "a key of the state_dict is %s; allowed: strings", KINDS[key->kind]);
        if (value->kind != TENSOR)
            return BAD(m, "\"%.100s\" is %s; allowed: tensors (a state_dict, no whole training checkpoint)", key->u.text,
                       KINDS[value->kind]);
        cst_pickle_tensor *t = &m->out->tensor[m->out->count++];
        *t = *value->u.tensor;
        t->name = key->u.text;
    }
    return CST_OK;
}

static cst_status run(machine *m)
{
    if (m->at == m->end || *m->at != 0x80) return BAD(m, "not a pickle of protocol 2 to 5");
    for (;;) {
        if (m->at == m->end) return BAD(m, "truncated: no STOP");
        unsigned char op = *m->at++;
        if (op == '.') return finish(m);
        CST_TRY(step(m, op));
    }
}

cst_status cst_pickle_read(cst_pickle **out, const void *data, size_t size, const char *where)
{
    cst_status st;
    machine m = {.start = data, .at = data, .where = where};
    m.end = m.start + size;
    if (size > CST_PICKLE_SIZE_MAX) return cst_fail(CST_INPUT, "%s: %zu bytes; allowed: %u", where, size, CST_PICKLE_SIZE_MAX);
    m.out = calloc(1, sizeof *m.out);
    m.stack = malloc(STACK_MAX * sizeof *m.stack);
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

void cst_pickle_free(cst_pickle *p)
{
    if (!p) return;
    while (p->blocks) {
        block *b = p->blocks;
        p->blocks = b->next;
        free(b);
    }
    free(p);
}

size_t cst_pickle_count(const cst_pickle *p)
{
    return p->count;
}

const cst_pickle_tensor *cst_pickle_get(const cst_pickle *p, size_t i)
{
    return i < p->count ? &p->tensor[i] : NULL;
}
