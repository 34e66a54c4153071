#include "memory/operators.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "memory/internal.h"

#define MOST 4096            /* operators kept: the oldest go */
#define SAME 1.02            /* ratio of work up to which two are one */
#define LIKE 1.25            /* ... up to which a time in bytes is known; one in FLOP at the same work only, as shapes differ */

void cst_operators_clear(cst_operators *x)
{
    free(x->o);
    *x = (cst_operators){.o = NULL};
}

static double ratio(double a, double b) { return a > b ? a / b : b / a; }

static double work_of(const cst_trace *t, int moment, int *by_flops)
{
    const cst_trace_moment *m = &t->moment[moment];
    *by_flops = m->flops > 0;
    return *by_flops ? m->flops : m->bytes > 0 ? m->bytes : cst_trace_bytes(t, moment);
}

/* The one whose work is most similar, or NULL. */
static cst_operator *nearest(const cst_operators *x, const char *op, int by_flops, double work)
{
    cst_operator *best = NULL;
    for (int i = 0; i < x->n; i++) {
        cst_operator *o = &x->o[i];
        if (o->by_flops == by_flops && !strcmp(o->op, op) && (!best || ratio(o->work, work) < ratio(best->work, work))) best = o;
    }
    return best;
}

static cst_status add(cst_operators *x, const cst_operator *o)
{
    if (x->n == MOST) memmove(x->o, x->o + 1, (size_t)--x->n * sizeof *x->o);
    if (!cst_array_more((void **)&x->o, x->n, &x->room, sizeof *x->o)) return cst_fail(CST_NO_MEMORY, "operators");
    x->o[x->n++] = *o;
    return CST_OK;
}

cst_status cst_operators_learn(cst_operators *x, const cst_trace *t)
{
    cst_operators sum = {.o = NULL};
    int *count = calloc((size_t)t->moments + 1, sizeof *count);
    cst_status st = count ? CST_OK : cst_fail(CST_NO_MEMORY, "operators");
    for (int k = 0; k < t->moments && st == CST_OK; k++) {
        const cst_trace_moment *m = &t->moment[k];
        int by_flops;
        double work = work_of(t, k, &by_flops);
        if (m->seconds < 0 || work <= 0) continue; /* 0: all of it is in the operators inside */
        cst_operator *o = nearest(&sum, m->op, by_flops, work);
        if (!o || ratio(o->work, work) > SAME) {
            if (sum.n == MOST) continue;
            cst_operator one = {.by_flops = by_flops, .work = work};
            snprintf(one.op, sizeof one.op, "%s", m->op);
            st = add(&sum, &one);
            if (st == CST_OK) o = &sum.o[sum.n - 1];
        }
        if (st != CST_OK) break;
        o->seconds += m->seconds;
        count[o - sum.o]++;
    }
    for (int i = 0; i < sum.n && st == CST_OK; i++) {
        cst_operator *o = &sum.o[i];
        o->seconds /= count[i];
        cst_operator *known = nearest(x, o->op, o->by_flops, o->work);
        if (known && ratio(known->work, o->work) <= SAME) *known = *o;
        else st = add(x, o);
    }
    if (t->enqueue > 0) x->enqueue = t->enqueue;
    cst_operators_clear(&sum);
    free(count);
    return st;
}

void cst_operators_apply(const cst_operators *x, cst_trace *t, double *known)
{
    double all = 0, near = 0;
    if (x->enqueue > 0) t->enqueue = x->enqueue;
    for (int k = 0; k < t->moments; k++) {
        cst_trace_moment *m = &t->moment[k];
        int by_flops, like = m->seconds >= 0;
        double work = work_of(t, k, &by_flops);
        const cst_operator *o = like || work <= 0 ? NULL : nearest(x, m->op, by_flops, work);
        if (o) {
            m->seconds = o->seconds * (work / o->work);
            like = ratio(o->work, work) <= (by_flops ? SAME : LIKE);
        }
        double s = cst_trace_seconds(t, k);
        all += s;
        if (like) near += s;
    }
    *known = all > 0 ? near / all : 0;
}

cst_status cst_operators_save(const cst_operators *x, const char *path)
{
    json_t *j = json_object(), *list = json_array();
    for (int i = 0; i < x->n; i++) {
        const cst_operator *o = &x->o[i];
        json_array_append_new(list, json_pack("{s:s, s:f, s:f}", "op", o->op, o->by_flops ? "flop" : "bytes", o->work, "seconds", o->seconds));
    }
    int all = (int)json_array_size(list) == x->n;
    if (x->enqueue > 0) json_object_set_new(j, "enqueue", json_real(x->enqueue));
    cst_status st = !json_object_set_new(j, "operators", list) && all ? cst_json_save(j, path) : cst_fail(CST_NO_MEMORY, "%s", path);
    json_decref(j);
    return st;
}

static cst_status read_one(cst_operator *o, const json_t *j, const char *path)
{
    const char *op = NULL;
    *o = (cst_operator){.by_flops = json_object_get(j, "flop") != NULL, .seconds = -1};
    if (!json_is_object(j)) return cst_fail(CST_INPUT, "%s: \"operators\" must be an array of objects", path);
    CST_TRY(cst_json_string(&op, j, "op", path));
    CST_TRY(cst_json_real(&o->work, j, o->by_flops ? "flop" : "bytes", path));
    CST_TRY(cst_json_real(&o->seconds, j, "seconds", path));
    if (!op || !(o->work > 0) || !(o->seconds >= 0) || isinf(o->work) || isinf(o->seconds))
        return cst_fail(CST_INPUT, "%s: an operator needs \"op\", and \"flop\" or \"bytes\", and \"seconds\"", path);
    snprintf(o->op, sizeof o->op, "%s", op);
    return CST_OK;
}

cst_status cst_operators_load(cst_operators *x, const char *path)
{
    json_t *j;
    cst_operators now = {.o = NULL};
    cst_operator one;
    CST_TRY(cst_json_load(&j, path, JSON_OBJECT));
    const json_t *list = json_object_get(j, "operators");
    cst_status st = json_is_array(list) ? cst_json_real(&now.enqueue, j, "enqueue", path) : cst_fail(CST_INPUT, "%s: \"operators\" must be an array", path);
    if (st == CST_OK && !(now.enqueue >= 0 && now.enqueue < 1)) st = cst_fail(CST_INPUT, "%s: \"enqueue\" is %g; allowed: 0 to 1", path, now.enqueue);
    for (size_t i = 0; st == CST_OK && i < json_array_size(list); i++) {
        st = read_one(&one, json_array_get(list, i), path);
        if (st == CST_OK) st = add(&now, &one);
    }
    json_decref(j);
    if (st != CST_OK) {
        cst_operators_clear(&now);
        return st;
    }
    cst_operators_clear(x);
    *x = now;
    return CST_OK;
}
