/* Traces as JSON: docs/trace.md. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "memory/memory.h"
#include "memory/trace.h"

#define SCHEMA 1
#define MOST_ALIGN (1 << 30)
#define MOST_BYTES (1ll << 48) /* of a slab; with MOST_TENSORS every sum of bytes stays below 2^62 */
#define MOST_TENSORS (1 << 14)
#define MOST_MOMENTS (1 << 18)
#define MOST_USES 256                 /* of a moment */

static const char *const classes[CST_CLASS_COUNT] = {
#define X(name, text) text,
    CST_CLASS_LIST(X)
#undef X
};

static const struct rate {
    const char *name;
    size_t at;
    double least, most;
} rates[] = {
    {"up", offsetof(cst_rates, up), 1, 1e18},       {"down", offsetof(cst_rates, down), 1, 1e18},
    {"both", offsetof(cst_rates, both), 0.01, 1},   {"memory", offsetof(cst_rates, memory), 1, 1e18},
    {"flops", offsetof(cst_rates, flops), 1, 1e24}, {"launch", offsetof(cst_rates, launch), 1e-12, 1e3},
};
#define RATES (sizeof rates / sizeof *rates)

static double *rate_at(cst_rates *r, size_t i)
{
    return (double *)((char *)r + rates[i].at);
}

/* What cst_trace_check leaves to the file: sizes that sums and times can bear. Saving holds to it too, so that what was saved loads. */
static cst_status check_ranges(const cst_trace *t)
{
    cst_rates r = t->rates;
    for (size_t i = 0; i < RATES; i++)
        if (!(*rate_at(&r, i) >= rates[i].least && *rate_at(&r, i) <= rates[i].most))
            return cst_fail(CST_INPUT, "\"rates\": \"%s\" is %g; allowed: %g to %g", rates[i].name, *rate_at(&r, i), rates[i].least,
                            rates[i].most);
    if (t->align > MOST_ALIGN || t->max_slab > MOST_BYTES || t->scratch > MOST_BYTES)
        return cst_fail(CST_INPUT, "\"align\", \"max_slab\" or \"scratch\" is too large; allowed: 2^30, 2^48, 2^48");
    if (t->tensors > MOST_TENSORS) return cst_fail(CST_INPUT, "\"tensors\": %d are too many; allowed: %d", t->tensors, MOST_TENSORS);
    if (t->moments > MOST_MOMENTS) return cst_fail(CST_INPUT, "\"moments\": %d are too many; allowed: %d", t->moments, MOST_MOMENTS);
    for (int i = 0; i < t->tensors; i++)
        if ((unsigned)t->tensor[i].cls >= CST_CLASS_COUNT)
            return cst_fail(CST_INPUT, "\"tensors\"[%d]: there is no class %d", i, t->tensor[i].cls);
    for (int i = 0; i < t->moments; i++) {
        const cst_trace_moment *m = &t->moment[i];
        if (!(m->flops >= 0 && m->flops <= 1e24)) return cst_fail(CST_INPUT, "\"moments\"[%d]: %g FLOP; allowed: 0 to 1e24", i, m->flops);
        if (!(m->seconds <= 1e6)) return cst_fail(CST_INPUT, "\"moments\"[%d]: %g seconds; allowed: 0 to 1e6", i, m->seconds);
        if (m->uses > MOST_USES) return cst_fail(CST_INPUT, "\"moments\"[%d]: %d uses are too many; allowed: %d", i, m->uses, MOST_USES);
    }
    return CST_OK;
}

/* ---- saving ---- */

/* One value on the running line; takes the reference. */
static void put(FILE *f, json_t *v)
{
    json_dumpf(v, f, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(v);
}

static void put_tensor(FILE *f, const cst_trace_tensor *x)
{
    fputs("{\"name\":", f);
    put(f, cst_json_text(x->name));
    fprintf(f, ",\"class\":\"%s\",\"bytes\":%" PRIu64 ",\"persistent\":%s,\"fixed\":%s%s}", classes[x->cls], x->bytes,
            x->persistent ? "true" : "false", x->fixed ? "true" : "false", x->away ? ",\"away\":true" : "");
}

static void put_moment(FILE *f, const cst_trace *t, const cst_trace_moment *m)
{
    fputc('[', f);
    put(f, cst_json_text(m->op));
    fputc(',', f);
    put(f, json_real(m->flops));
    fputc(',', f);
    put(f, m->seconds < 0 ? json_null() : json_real(m->seconds));
    fputs(",[", f);
    for (int i = m->first; i < m->first + m->uses; i++)
        fprintf(f, "%s[%d,%d,%d]", i > m->first ? "," : "", t->use[i].tensor, t->use[i].access, t->use[i].held != 0);
    fputs("]]", f);
}

static void put_trace(FILE *f, const cst_trace *t)
{
    cst_rates r = t->rates;
    fprintf(f, "{\n\"castor_trace\": %d,\n\"device\": ", SCHEMA);
    put(f, cst_json_text(t->device));
    fputs(",\n\"about\": ", f);
    put(f, cst_json_text(t->about));
    fprintf(f, ",\n\"align\": %" PRIu64 ",\n\"max_slab\": %" PRIu64 ",\n\"scratch\": %" PRIu64 ",\n\"rates\": {", t->align, t->max_slab,
            t->scratch);
    for (size_t i = 0; i < RATES; i++) {
        fprintf(f, "%s\"%s\": ", i ? ", " : "", rates[i].name);
        put(f, json_real(*rate_at(&r, i)));
    }
    fputs("},\n\"tensors\": [", f);
    for (int i = 0; i < t->tensors; i++) {
        fputs(i ? ",\n" : "\n", f);
        put_tensor(f, &t->tensor[i]);
    }
    fputs("\n],\n\"moments\": [", f);
    for (int i = 0; i < t->moments; i++) {
        fputs(i ? ",\n" : "\n", f);
        put_moment(f, t, &t->moment[i]);
    }
    fputs("\n]\n}\n", f);
}

cst_status cst_trace_save(const cst_trace *t, const char *path)
{
    char *text = NULL;
    size_t size;
    cst_status st = cst_trace_check(t);
    if (st == CST_OK) st = check_ranges(t);
    if (st != CST_OK) return cst_fail_in(st, "%s", path);
    FILE *f = open_memstream(&text, &size);
    if (!f) return cst_fail(CST_NO_MEMORY, "%s", path);
    put_trace(f, t);
    int bad = ferror(f);
    if (fclose(f) || bad) st = cst_fail(CST_NO_MEMORY, "%s", path);
    else st = cst_file_write(path, text, size);
    free(text);
    return st;
}

/* ---- loading ---- */

/* cst_json_* take an absent member for its default; here nearly all must be there. */
static cst_status need(const json_t *obj, const char *name, const char *where)
{
    if (json_is_null(json_object_get(obj, name)) || !json_object_get(obj, name))
        return cst_fail(CST_INPUT, "%s: \"%s\" is missing", where, name);
    return CST_OK;
}

static cst_status get_size(uint64_t *v, const json_t *obj, const char *name, int64_t least, int64_t most, const char *where)
{
    int64_t x = 0;
    CST_TRY(need(obj, name, where));
    CST_TRY(cst_json_int(&x, obj, name, least, most, where));
    *v = (uint64_t)x;
    return CST_OK;
}

/* A string with less than `room` bytes; absent is empty. */
static cst_status get_text(char *to, size_t room, const json_t *obj, const char *name, const char *where)
{
    const char *s = "";
    CST_TRY(cst_json_string(&s, obj, name, where));
    if (strlen(s) >= room) return cst_fail(CST_INPUT, "%s: \"%s\" is longer than %zu bytes", where, name, room - 1);
    snprintf(to, room, "%s", s);
    return CST_OK;
}

static cst_status get_list(const json_t **v, const json_t *obj, const char *name, size_t most, const char *where)
{
    CST_TRY(need(obj, name, where));
    *v = json_object_get(obj, name);
    if (!json_is_array(*v)) return cst_fail(CST_INPUT, "%s: \"%s\" must be an array", where, name);
    if (json_array_size(*v) > most)
        return cst_fail(CST_INPUT, "%s: \"%s\": %zu are too many; allowed: %zu", where, name, json_array_size(*v), most);
    return CST_OK;
}

static cst_status get_rates(cst_rates *r, const json_t *j, const char *where)
{
    for (size_t i = 0; i < RATES; i++) {
        double *v = rate_at(r, i);
        CST_TRY(cst_json_real(v, j, rates[i].name, where));
        if (!(*v >= rates[i].least && *v <= rates[i].most))
            return cst_fail(CST_INPUT, "%s: \"%s\" is %g; allowed: %g to %g", where, rates[i].name, *v, rates[i].least, rates[i].most);
    }
    return CST_OK;
}

static cst_status get_tensor(cst_trace *t, const json_t *j, const char *where)
{
    char name[sizeof t->tensor->name];
    const char *word = "";
    int cls = 0, persistent = 0, fixed = 0, away = 0, id;
    uint64_t bytes = 0;
    if (!json_is_object(j)) return cst_fail(CST_INPUT, "%s must be an object", where);
    CST_TRY(need(j, "name", where));
    CST_TRY(get_text(name, sizeof name, j, "name", where));
    CST_TRY(need(j, "class", where));
    CST_TRY(cst_json_string(&word, j, "class", where));
    while (cls < CST_CLASS_COUNT && strcmp(word, classes[cls])) cls++;
    if (cls == CST_CLASS_COUNT)
        return cst_fail(CST_INPUT, "%s: \"class\" is \"%s\"; allowed: parameters, gradients, optimizer, activations, scratch, data", where,
                        word);
    CST_TRY(get_size(&bytes, j, "bytes", 1, MOST_BYTES, where));
    CST_TRY(cst_json_bool(&persistent, j, "persistent", where));
    CST_TRY(cst_json_bool(&fixed, j, "fixed", where));
    CST_TRY(cst_json_bool(&away, j, "away", where));
    if (fixed && !persistent) return cst_fail(CST_INPUT, "%s: \"fixed\" is true, but \"persistent\" isn't", where);
    if (away && (fixed || !persistent)) return cst_fail(CST_INPUT, "%s: \"away\" is true, but it is fixed or not persistent", where);
    if (bytes % t->align) return cst_fail(CST_INPUT, "%s: \"bytes\" is %" PRIu64 ", no multiple of \"align\"", where, bytes);
    CST_TRY(cst_trace_add_tensor(t, name, cls, bytes, persistent, fixed, &id));
    t->tensor[id].away = away;
    return CST_OK;
}

/* [tensor, access, held]. last[tensor]: the latest moment that used it, + 1. */
static cst_status get_use(cst_trace *t, const json_t *j, int *last, const char *where)
{
    int64_t v[3] = {0};
    const int64_t low[3] = {0, CST_READ, 0}, high[3] = {t->tensors - 1, CST_UPDATE, 1};
    static const char *const names[3] = {"tensor", "access", "held"};
    if (!json_is_array(j) || json_array_size(j) != 3)
        return cst_fail(CST_INPUT, "%s: a use must be an array [tensor, access, held]", where);
    for (size_t i = 0; i < 3; i++) {
        const json_t *x = json_array_get(j, i);
        v[i] = json_integer_value(x);
        if (!json_is_integer(x) || v[i] < low[i] || v[i] > high[i])
            return cst_fail(CST_INPUT, "%s: a use's %s must be an integer from %" PRId64 " to %" PRId64, where, names[i], low[i], high[i]);
    }
    if (last[v[0]] == t->moments) return cst_fail(CST_INPUT, "%s: tensor %" PRId64 " is used twice", where, v[0]);
    last[v[0]] = t->moments;
    return cst_trace_add_use(t, (int)v[0], (int)v[1], (int)v[2]);
}

static cst_status get_moment(cst_trace *t, const json_t *j, int *last, const char *where)
{
    const json_t *op = json_array_get(j, 0), *flops = json_array_get(j, 1), *seconds = json_array_get(j, 2), *uses = json_array_get(j, 3),
                 *u;
    size_t i;
    if (!json_is_array(j) || json_array_size(j) != 4) return cst_fail(CST_INPUT, "%s must be an array [op, flops, seconds, uses]", where);
    if (!json_is_string(op) || json_string_length(op) >= sizeof t->moment->op)
        return cst_fail(CST_INPUT, "%s: its op must be a string of less than %zu bytes", where, sizeof t->moment->op);
    if (!json_is_number(flops) || !(json_number_value(flops) >= 0))
        return cst_fail(CST_INPUT, "%s: its flops must be a number of 0 or more", where);
    if (!json_is_null(seconds) && (!json_is_number(seconds) || !(json_number_value(seconds) >= 0)))
        return cst_fail(CST_INPUT, "%s: its seconds must be a number of 0 or more, or null", where);
    if (!json_is_array(uses) || json_array_size(uses) > MOST_USES)
        return cst_fail(CST_INPUT, "%s: its uses must be an array of at most %d", where, MOST_USES);
    CST_TRY(cst_trace_add_moment(t, json_string_value(op), json_number_value(flops)));
    t->moment[t->moments - 1].seconds = json_is_null(seconds) ? -1 : json_number_value(seconds);
    json_array_foreach(uses, i, u) CST_TRY(get_use(t, u, last, where));
    return CST_OK;
}

static cst_status get_trace(cst_trace *t, const json_t *j, const char *path)
{
    char where[640];
    const json_t *list, *r, *x;
    int64_t schema = 0;
    size_t i;
    int *last = NULL;
    cst_status st = CST_OK;
    CST_TRY(need(j, "castor_trace", path));
    CST_TRY(cst_json_int(&schema, j, "castor_trace", INT64_MIN, INT64_MAX, path));
    if (schema != SCHEMA) return cst_fail(CST_INPUT, "%s: \"castor_trace\" is %" PRId64 "; this program reads %d", path, schema, SCHEMA);
    CST_TRY(get_text(t->device, sizeof t->device, j, "device", path));
    CST_TRY(get_text(t->about, sizeof t->about, j, "about", path));
    CST_TRY(get_size(&t->align, j, "align", 1, MOST_ALIGN, path));
    CST_TRY(get_size(&t->max_slab, j, "max_slab", 1, MOST_BYTES, path));
    CST_TRY(get_size(&t->scratch, j, "scratch", 0, MOST_BYTES, path));
    r = json_object_get(j, "rates");
    if (!json_is_object(r)) return cst_fail(CST_INPUT, "%s: \"rates\" must be an object", path);
    snprintf(where, sizeof where, "%.512s: \"rates\"", path);
    for (i = 0; i < RATES; i++) CST_TRY(need(r, rates[i].name, where));
    CST_TRY(get_rates(&t->rates, r, where));
    CST_TRY(get_list(&list, j, "tensors", MOST_TENSORS, path));
    json_array_foreach(list, i, x) {
        snprintf(where, sizeof where, "%.512s: \"tensors\"[%zu]", path, i);
        CST_TRY(get_tensor(t, x, where));
    }
    CST_TRY(get_list(&list, j, "moments", MOST_MOMENTS, path));
    last = calloc((size_t)t->tensors + 1, sizeof *last);
    if (!last) return cst_fail(CST_NO_MEMORY, "%s", path);
    json_array_foreach(list, i, x) {
        snprintf(where, sizeof where, "%.512s: \"moments\"[%zu]", path, i);
        CST_GO(get_moment(t, x, last, where), out);
    }
    st = cst_trace_check(t);
    if (st == CST_OK) st = check_ranges(t);
    if (st != CST_OK) cst_fail_in(st, "%s", path);
out:
    free(last);
    return st;
}

cst_status cst_trace_load(cst_trace **out, const char *path)
{
    json_t *j;
    cst_trace *t = NULL;
    CST_TRY(cst_json_load(&j, path, JSON_OBJECT));
    cst_status st = cst_trace_create(&t);
    if (st == CST_OK) st = get_trace(t, j, path);
    json_decref(j);
    if (st == CST_OK) *out = t;
    else cst_trace_free(t);
    return st;
}

cst_status cst_rates_save(const cst_rates *r, const char *path)
{
    cst_rates copy = *r;
    json_t *j = json_object();
    cst_status st = CST_OK;
    for (size_t i = 0; i < RATES; i++)
        if (json_object_set_new(j, rates[i].name, json_real(*rate_at(&copy, i)))) st = cst_fail(CST_NO_MEMORY, "%s", path);
    if (st == CST_OK) st = cst_json_save(j, path);
    json_decref(j);
    return st;
}

cst_status cst_rates_load(cst_rates *r, const char *path, int *computing)
{
    json_t *j;
    cst_rates was = *r, now = *r;
    CST_TRY(cst_json_load(&j, path, JSON_OBJECT));
    const json_t *inner = json_object_get(j, "rates"), *from = inner ? inner : j;
    size_t named = 0;
    cst_status st = json_is_object(from) ? CST_OK : cst_fail(CST_INPUT, "%s: \"rates\" must be an object", path);
    for (size_t i = 0; i < RATES; i++) named += json_object_get(from, rates[i].name) != NULL;
    if (st == CST_OK && !named) st = cst_fail(CST_INPUT, "%s: none of up, down, both, memory, flops and launch is there", path);
    if (st == CST_OK) st = get_rates(&now, from, path);
    json_decref(j);
    if (st != CST_OK) return st;
    *r = now;
    *computing = now.memory != was.memory || now.flops != was.flops || now.launch != was.launch;
    return CST_OK;
}
