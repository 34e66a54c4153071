/* The machine that a pickle is a program for: its objects, its stack, and what becomes of them; for the files io/pickle*.c. */
#ifndef CST_IO_PICKLE_MACHINE_H
#define CST_IO_PICKLE_MACHINE_H

#include "io/pickle.h"

#define CST_PICKLE_STACK_MAX (1u << 16)
#define CST_PICKLE_MARKS_MAX 256u

typedef enum cst_pickle_kind {
    CST_PICKLE_NONE, CST_PICKLE_BOOL, CST_PICKLE_INT, CST_PICKLE_STRING, CST_PICKLE_TUPLE, CST_PICKLE_DICT, CST_PICKLE_GLOBAL,
    CST_PICKLE_STORED, CST_PICKLE_TENSOR
} cst_pickle_kind;
/* "an int", for messages */
extern const char *const cst_pickle_kind_name[];

/* A value. Nothing here is ever walked recursively, so nesting costs no stack. */
typedef struct cst_pickle_object cst_pickle_object;
struct cst_pickle_object {
    cst_pickle_kind kind;
    union {
        int64_t integer;            /* BOOL, INT; GLOBAL: its place in the table of names */
        const char *text;           /* STRING, without 0 bytes inside */
        struct {
            cst_pickle_object **item;
            size_t n, room;
        } list;                     /* TUPLE; DICT: key, value, key, value, ... */
        cst_pickle_tensor *tensor;  /* TENSOR; STORED: its storage, dtype and storage_count */
    } u;
};

typedef struct cst_pickle_block {
    struct cst_pickle_block *next;
    char data[];
} cst_pickle_block;

struct cst_pickle {
    cst_pickle_block *blocks; /* everything built, freed together */
    cst_pickle_tensor *tensor;
    size_t count;
};

typedef struct cst_pickle_machine {
    const unsigned char *start, *at, *end;
    const char *where;
    cst_pickle *out;
    size_t room, used;    /* left in the newest block, bytes in all blocks */
    cst_pickle_object **stack, **memo;
    size_t depth, marks, memo_room, memoized;
    size_t mark[CST_PICKLE_MARKS_MAX];
} cst_pickle_machine;

/* Every failure says where it happened. */
#define CST_PICKLE_BAD(m, ...) \
    (cst_fail(CST_INPUT, __VA_ARGS__), cst_fail_in(CST_INPUT, "%s: at byte %zu", (m)->where, (size_t)((m)->at - (m)->start)), CST_INPUT)

/* Objects (pickle_objects.c). Memory of `bytes` zeros, and an object in it; they live as long as m->out. */
cst_status cst_pickle_take(void **out, cst_pickle_machine *m, size_t bytes);
cst_status cst_pickle_new(cst_pickle_object **out, cst_pickle_machine *m, cst_pickle_kind k);
cst_status cst_pickle_append(cst_pickle_machine *m, cst_pickle_object *o, cst_pickle_object *const *item, size_t n);
/* The stack; a value below the topmost mark is out of reach. */
cst_status cst_pickle_push(cst_pickle_machine *m, cst_pickle_object *o);
cst_status cst_pickle_push_new(cst_pickle_machine *m, cst_pickle_kind k, int64_t integer);
/* Values above the topmost mark. */
size_t cst_pickle_above(const cst_pickle_machine *m);
cst_status cst_pickle_pop(cst_pickle_object **o, cst_pickle_machine *m);
cst_status cst_pickle_pop_kind(cst_pickle_object **o, cst_pickle_machine *m, cst_pickle_kind k);
/* The topmost value, of this kind, without taking it. */
cst_status cst_pickle_peek(cst_pickle_object **o, cst_pickle_machine *m, cst_pickle_kind k);
/* Take the topmost mark away: the values above it are m->stack[*first..m->depth). */
cst_status cst_pickle_pop_mark(size_t *first, cst_pickle_machine *m);

/* What a state_dict is made of (pickle_state_dict.c): a name; a storage by its persistent id; calls and attributes; and in the end
 * the list of tensors. */
cst_status cst_pickle_global(cst_pickle_machine *m, const char *module, size_t module_n, const char *name, size_t name_n);
cst_status cst_pickle_storage(cst_pickle_machine *m);
cst_status cst_pickle_reduce(cst_pickle_machine *m);
cst_status cst_pickle_build(cst_pickle_machine *m);
cst_status cst_pickle_finish(cst_pickle_machine *m);

#endif
