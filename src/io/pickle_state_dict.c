/* What a state_dict is made of: the few names that a pickle may use, storages, tensors and the dictionary of them. */
#include <string.h>

#include "io/pickle_machine.h"

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

static int same_text(const char *text, const char *s, size_t n)
{
    return strlen(text) == n && !memcmp(text, s, n);
}

cst_status cst_pickle_global(cst_pickle_machine *m, const char *module, size_t module_n, const char *name, size_t name_n)
{
    for (size_t i = 0; i < GLOBAL_COUNT; i++)
        if (same_text(GLOBALS[i].module, module, module_n) && same_text(GLOBALS[i].name, name, name_n))
            return cst_pickle_push_new(m, CST_PICKLE_GLOBAL, (int64_t)i);
    return CST_PICKLE_BAD(m, "the pickle asks for \"%.*s.%.*s\"; allowed: only what makes tensors (collections.OrderedDict, "
               "torch._utils._rebuild_tensor_v2, torch._utils._rebuild_parameter, torch.FloatStorage and its like)",
               module_n < 100 ? (int)module_n : 100, module, name_n < 100 ? (int)name_n : 100, name);
}

/* ---- tensors ---- */

static cst_status item_of(cst_pickle_object **o, cst_pickle_machine *m, const cst_pickle_object *t, size_t i, cst_pickle_kind k,
                          const char *what)
{
    if (i >= t->u.list.n) return CST_PICKLE_BAD(m, "%s lacks its part %zu", what, i);
    *o = t->u.list.item[i];
    if ((*o)->kind != k)
        return CST_PICKLE_BAD(m, "%s: part %zu is %s where %s is wanted", what, i, cst_pickle_kind_name[(*o)->kind],
                              cst_pickle_kind_name[k]);
    return CST_OK;
}

static cst_status count_of(int64_t *v, cst_pickle_machine *m, const cst_pickle_object *t, size_t i, const char *what)
{
    cst_pickle_object *o;
    CST_TRY(item_of(&o, m, t, i, CST_PICKLE_INT, what));
    if (o->u.integer < 0) return CST_PICKLE_BAD(m, "%s: part %zu is negative", what, i);
    *v = o->u.integer;
    return CST_OK;
}

static cst_status new_tensor(cst_pickle_object **out, cst_pickle_machine *m, cst_pickle_kind k)
{
    void *t;
    CST_TRY(cst_pickle_take(&t, m, sizeof(cst_pickle_tensor)));
    CST_TRY(cst_pickle_new(out, m, k));
    (*out)->u.tensor = t;
    return CST_OK;
}

/* ("storage", its type, key, device, elements) -> a storage */
cst_status cst_pickle_storage(cst_pickle_machine *m)
{
    static const char what[] = "persistent id";
    cst_pickle_object *t, *tag, *type, *key, *device, *o;
    int64_t n;
    CST_TRY(cst_pickle_pop_kind(&t, m, CST_PICKLE_TUPLE));
    CST_TRY(item_of(&tag, m, t, 0, CST_PICKLE_STRING, what));
    if (strcmp(tag->u.text, "storage")) return CST_PICKLE_BAD(m, "%s \"%.60s\"; allowed: \"storage\"", what, tag->u.text);
    CST_TRY(item_of(&type, m, t, 1, CST_PICKLE_GLOBAL, what));
    if (type->u.integer < STORAGE) return CST_PICKLE_BAD(m, "%s: %s is no type of a storage", what, GLOBALS[type->u.integer].name);
    CST_TRY(item_of(&key, m, t, 2, CST_PICKLE_STRING, what));
    CST_TRY(item_of(&device, m, t, 3, CST_PICKLE_STRING, what));
    CST_TRY(count_of(&n, m, t, 4, what));
    if (t->u.list.n != 5) return CST_PICKLE_BAD(m, "%s has %zu parts; allowed: 5", what, t->u.list.n);
    CST_TRY(new_tensor(&o, m, CST_PICKLE_STORED));
    *o->u.tensor = (cst_pickle_tensor){.storage = key->u.text, .dtype = GLOBALS[type->u.integer].dtype, .storage_count = n};
    return cst_pickle_push(m, o);
}

static int is_nothing(const cst_pickle_object *o)
{
    return o->kind == CST_PICKLE_NONE || (o->kind == CST_PICKLE_DICT && !o->u.list.n);
}

/* (storage, offset, sizes, strides, requires_grad, backward_hooks[, metadata]) */
static cst_status rebuild_tensor(cst_pickle_object **out, cst_pickle_machine *m, const cst_pickle_object *a)
{
    static const char what[] = "_rebuild_tensor_v2";
    cst_pickle_object *storage, *size, *stride, *grad;
    CST_TRY(item_of(&storage, m, a, 0, CST_PICKLE_STORED, what));
    CST_TRY(new_tensor(out, m, CST_PICKLE_TENSOR));
    cst_pickle_tensor *t = (*out)->u.tensor;
    *t = *storage->u.tensor;
    CST_TRY(count_of(&t->offset, m, a, 1, what));
    CST_TRY(item_of(&size, m, a, 2, CST_PICKLE_TUPLE, what));
    CST_TRY(item_of(&stride, m, a, 3, CST_PICKLE_TUPLE, what));
    CST_TRY(item_of(&grad, m, a, 4, CST_PICKLE_BOOL, what));
    if (a->u.list.n < 6 || a->u.list.n > 7) return CST_PICKLE_BAD(m, "%s with %zu arguments; allowed: 6 or 7", what, a->u.list.n);
    for (size_t i = 5; i < a->u.list.n; i++)
        if (!is_nothing(a->u.list.item[i])) return CST_PICKLE_BAD(m, "%s: a tensor with hooks or metadata", what);
    if (size->u.list.n > RANK_MAX || size->u.list.n != stride->u.list.n)
        return CST_PICKLE_BAD(m, "%s: %zu sizes, %zu strides; allowed: as many of both, up to %d", what, size->u.list.n, stride->u.list.n,
                              RANK_MAX);
    t->rank = (int)size->u.list.n;
    for (int i = 0; i < t->rank; i++) {
        CST_TRY(count_of(&t->dims[i], m, size, (size_t)i, "a tensor's sizes"));
        CST_TRY(count_of(&t->strides[i], m, stride, (size_t)i, "a tensor's strides"));
    }
    return CST_OK;
}

/* (tensor, requires_grad, backward_hooks) */
static cst_status rebuild_parameter(cst_pickle_object **out, cst_pickle_machine *m, const cst_pickle_object *a)
{
    static const char what[] = "_rebuild_parameter";
    cst_pickle_object *grad;
    CST_TRY(item_of(out, m, a, 0, CST_PICKLE_TENSOR, what));
    CST_TRY(item_of(&grad, m, a, 1, CST_PICKLE_BOOL, what));
    if (a->u.list.n != 3 || !is_nothing(a->u.list.item[2])) return CST_PICKLE_BAD(m, "%s: allowed: a tensor, a bool and no hooks", what);
    return CST_OK;
}

cst_status cst_pickle_reduce(cst_pickle_machine *m)
{
    cst_pickle_object *args, *f, *o = NULL;
    CST_TRY(cst_pickle_pop_kind(&args, m, CST_PICKLE_TUPLE));
    CST_TRY(cst_pickle_pop_kind(&f, m, CST_PICKLE_GLOBAL));
    switch (f->u.integer) {
    case ORDERED_DICT:
        if (args->u.list.n) return CST_PICKLE_BAD(m, "OrderedDict with arguments; allowed: none");
        CST_TRY(cst_pickle_new(&o, m, CST_PICKLE_DICT));
        break;
    case REBUILD_TENSOR: CST_TRY(rebuild_tensor(&o, m, args)); break;
    case REBUILD_PARAMETER: CST_TRY(rebuild_parameter(&o, m, args)); break;
    default: return CST_PICKLE_BAD(m, "%s is called; allowed: as a type only", GLOBALS[f->u.integer].name);
    }
    return cst_pickle_push(m, o);
}

/* A state_dict carries "_metadata" as an attribute: versions of modules, which say nothing about the weights. */
cst_status cst_pickle_build(cst_pickle_machine *m)
{
    cst_pickle_object *state, *o;
    CST_TRY(cst_pickle_pop_kind(&state, m, CST_PICKLE_DICT));
    return cst_pickle_peek(&o, m, CST_PICKLE_DICT);
}

/* The dictionary that is left becomes the list of tensors. */
cst_status cst_pickle_finish(cst_pickle_machine *m)
{
    cst_pickle_object *d;
    void *list;
    if (m->marks || m->depth != 1) return CST_PICKLE_BAD(m, "%zu values and %zu marks at its end; allowed: one value", m->depth, m->marks);
    CST_TRY(cst_pickle_peek(&d, m, CST_PICKLE_DICT));
    if (m->at != m->end) return CST_PICKLE_BAD(m, "%zu bytes after its end", (size_t)(m->end - m->at));
    CST_TRY(cst_pickle_take(&list, m, d->u.list.n / 2 * sizeof(cst_pickle_tensor)));
    m->out->tensor = list;
    for (size_t i = 0; i < d->u.list.n; i += 2) {
        const cst_pickle_object *key = d->u.list.item[i], *value = d->u.list.item[i + 1];
        if (key->kind != CST_PICKLE_STRING)
            return CST_PICKLE_BAD(m, "a key of the state_dict is %s; allowed: strings", cst_pickle_kind_name[key->kind]);
        if (value->kind != CST_PICKLE_TENSOR)
            return CST_PICKLE_BAD(m, "\"%.100s\" is %s; allowed: tensors (a state_dict, no whole training checkpoint)", key->u.text,
                       cst_pickle_kind_name[value->kind]);
        cst_pickle_tensor *t = &m->out->tensor[m->out->count++];
        *t = *value->u.tensor;
        t->name = key->u.text;
    }
    return CST_OK;
}
