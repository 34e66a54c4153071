/* castor trace show: a trace as tables. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/plan_trace.h"

#define ROWS 12 /* of a table at most */

/* What is alive when a moment runs: persistent tensors, and the others from their first use to their last. */
typedef struct alive {
    int moment;
    uint64_t used, alive;
} alive;

typedef struct view {
    const cst_trace *t;
    cst_trace_kind *kind;
    int kinds;
    alive *at;               /* [moments], largest use first */
    int *big;                /* [tensors], largest first */
    int *uses;               /* [tensors] */
    uint64_t peak[CST_CLASS_COUNT], total[CST_CLASS_COUNT], persistent[CST_CLASS_COUNT], alive_peak;
    int count[CST_CLASS_COUNT];
    double flops, seconds;
    int measured;
} view;

static int by_used(const void *a, const void *b)
{
    const alive *x = a, *y = b;
    return x->used != y->used ? x->used < y->used ? 1 : -1 : x->moment - y->moment;
}

static int by_bytes(const void *a, const void *b, void *trace)
{
    const cst_trace *t = trace;
    int x = *(const int *)a, y = *(const int *)b;
    uint64_t m = t->tensor[x].bytes, n = t->tensor[y].bytes;
    return m != n ? m < n ? 1 : -1 : x - y;
}

static cst_status count_operators(view *v)
{
    CST_TRY(cst_trace_kinds(&v->kind, &v->kinds, v->t));
    for (int i = 0; i < v->kinds; i++) v->flops += v->kind[i].flops, v->seconds += v->kind[i].seconds;
    for (int k = 0; k < v->t->moments; k++) v->measured += v->t->moment[k].seconds >= 0;
    return CST_OK;
}

/* One pass over the moments: tensors come to life at their first use and die behind their last. */
static cst_status count_tensors(view *v)
{
    const cst_trace *t = v->t;
    uint64_t now[CST_CLASS_COUNT] = {0}, sum = 0;
    int *last = malloc(((size_t)t->tensors + 1) * sizeof *last);
    if (!last) return cst_fail(CST_NO_MEMORY, "trace");
    for (int i = 0; i < t->tensors; i++) {
        const cst_trace_tensor *x = &t->tensor[i];
        v->big[i] = i;
        last[i] = -1;
        v->count[x->cls]++;
        v->total[x->cls] += x->bytes;
        if (!x->persistent) continue;
        v->persistent[x->cls] += x->bytes;
        now[x->cls] += x->bytes;
        sum += x->bytes;
    }
    for (int i = 0; i < t->uses; i++) v->uses[t->use[i].tensor]++;
    for (int k = 0; k < t->moments; k++)
        for (int i = t->moment[k].first; i < t->moment[k].first + t->moment[k].uses; i++) last[t->use[i].tensor] = k;
    int *seen = calloc((size_t)t->tensors + 1, sizeof *seen);
    for (int k = 0; seen && k < t->moments; k++) {
        const cst_trace_moment *m = &t->moment[k];
        v->at[k].moment = k;
        for (int i = m->first; i < m->first + m->uses; i++) {
            int id = t->use[i].tensor;
            const cst_trace_tensor *x = &t->tensor[id];
            v->at[k].used += x->bytes;
            if (!x->persistent && !seen[id]) now[x->cls] += x->bytes, sum += x->bytes;
            seen[id] = 1;
        }
        v->at[k].alive = sum;
        for (int c = 0; c < CST_CLASS_COUNT; c++)
            if (now[c] > v->peak[c]) v->peak[c] = now[c];
        if (sum > v->alive_peak) v->alive_peak = sum;
        for (int i = m->first; i < m->first + m->uses; i++) {
            const cst_trace_tensor *x = &t->tensor[t->use[i].tensor];
            if (!x->persistent && last[t->use[i].tensor] == k) now[x->cls] -= x->bytes, sum -= x->bytes;
        }
    }
    free(last);
    if (!seen) return cst_fail(CST_NO_MEMORY, "trace");
    free(seen);
    qsort(v->at, (size_t)t->moments, sizeof *v->at, by_used);
    qsort_r(v->big, (size_t)t->tensors, sizeof *v->big, by_bytes, (void *)t);
    return CST_OK;
}

static void print_json(const view *v)
{
    const cst_trace *t = v->t;
    json_t *j =
        json_pack("{s:o, s:o, s:i, s:i, s:I, s:I, s:f, s:f, s:i}", "about", cst_json_text(t->about), "device", cst_json_text(t->device),
                  "moments", t->moments, "tensors", t->tensors, "scratch_bytes", (json_int_t)t->scratch, "alive_peak_bytes",
                  (json_int_t)v->alive_peak, "flops", v->flops, "seconds", v->seconds, "measured_moments", v->measured);
    json_t *classes = json_object(), *ops = json_array(), *moments = json_array(), *tensors = json_array();
    for (int c = 0; c < CST_CLASS_COUNT; c++)
        json_object_set_new(classes, cst_class_name((cst_class)c),
                            json_pack("{s:i, s:I, s:I, s:I}", "tensors", v->count[c], "bytes", (json_int_t)v->total[c], "persistent_bytes",
                                      (json_int_t)v->persistent[c], "alive_peak_bytes", (json_int_t)v->peak[c]));
    for (int i = 0; i < v->kinds; i++)
        json_array_append_new(ops, json_pack("{s:o, s:i, s:f, s:f}", "op", cst_json_text(v->kind[i].op), "count", v->kind[i].count, "flops",
                                             v->kind[i].flops, "seconds", v->kind[i].seconds));
    for (int i = 0; i < t->moments && i < ROWS; i++)
        json_array_append_new(moments, json_pack("{s:i, s:o, s:I, s:I}", "moment", v->at[i].moment, "op",
                                                 cst_json_text(t->moment[v->at[i].moment].op), "used_bytes", (json_int_t)v->at[i].used,
                                                 "alive_bytes", (json_int_t)v->at[i].alive));
    for (int i = 0; i < t->tensors && i < ROWS; i++) {
        const cst_trace_tensor *x = &t->tensor[v->big[i]];
        json_array_append_new(tensors, json_pack("{s:i, s:o, s:s, s:I, s:b, s:b, s:i}", "tensor", v->big[i], "name", cst_json_text(x->name),
                                                 "class", cst_class_name((cst_class)x->cls), "bytes", (json_int_t)x->bytes, "persistent",
                                                 x->persistent, "fixed", x->fixed, "uses", v->uses[v->big[i]]));
    }
    json_object_set_new(j, "classes", classes);
    json_object_set_new(j, "operators", ops);
    json_object_set_new(j, "largest_moments", moments);
    json_object_set_new(j, "largest_tensors", tensors);
    json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(j);
}

static void print_head(const view *v)
{
    const cst_trace *t = v->t;
    const cst_rates *r = &t->rates;
    char a[32], b[32], c[32], d[32];
    printf("%s%s%s\n", *t->about ? t->about : "a step", *t->device ? ", on " : "", t->device);
    printf("  %d operators, %d tensors, %s; %s, %d of %d operators measured\n", t->moments, t->tensors,
           cst_thousands_text(a, v->flops, "FLOP"), cst_seconds_text(b, v->seconds), v->measured, t->moments);
    printf("  rates: up %s, down %s (%.0f %% of them at once), memory %s, ", cst_thousands_text(a, r->up, "B/s"),
           cst_thousands_text(b, r->down, "B/s"), 100 * r->both, cst_thousands_text(c, r->memory, "B/s"));
    printf("%s, %s a launch\n", cst_thousands_text(a, r->flops, "FLOP/s"), cst_seconds_text(b, r->launch));
    printf("  alive at once %s, of that %s scratch; no buffer is larger than %s\n\n",
           cst_bytes_text(a, (double)(v->alive_peak + t->scratch)), cst_bytes_text(b, (double)t->scratch),
           cst_bytes_text(d, (double)t->max_slab));
}

static void print_text(const view *v)
{
    const cst_trace *t = v->t;
    char a[32], b[32], c[32];
    print_head(v);
    printf("  %-14s %8s %12s %12s %14s\n", "class", "tensors", "bytes", "persistent", "alive at once");
    for (int k = 0; k < CST_CLASS_COUNT; k++)
        if (v->count[k])
            printf("  %-14s %8d %12s %12s %14s\n", cst_class_name((cst_class)k), v->count[k], cst_bytes_text(a, (double)v->total[k]),
                   cst_bytes_text(b, (double)v->persistent[k]), cst_bytes_text(c, (double)v->peak[k]));
    printf("\n  %-24s %8s %10s %8s %14s\n", "operator", "times", "in all", "", "FLOP");
    for (int i = 0; i < v->kinds && i < 2 * ROWS; i++)
        printf("  %-24s %8d %10s %7.1f%% %14s\n", v->kind[i].op, v->kind[i].count, cst_seconds_text(a, v->kind[i].seconds),
               v->seconds > 0 ? 100 * v->kind[i].seconds / v->seconds : 0,
               v->kind[i].flops > 0 ? cst_thousands_text(b, v->kind[i].flops, "FLOP") : "-");
    if (v->kinds > 2 * ROWS) printf("  and %d more\n", v->kinds - 2 * ROWS);
    printf("\n  %-34s %12s %14s\n", "largest moments", "uses", "alive then");
    for (int i = 0, row = 0, n; i < t->moments && row < ROWS; i += n, row++) { /* neighbours that look alike are one row */
        const alive *x = &v->at[i];
        char op[64];
        for (n = 1; i + n < t->moments && x[n].used == x->used && !strcmp(t->moment[x[n].moment].op, t->moment[x->moment].op);) n++;
        snprintf(op, sizeof op, n > 1 ? "%s x %d" : "%s", t->moment[x->moment].op, n);
        printf("  %7d %-26s %12s %14s\n", x->moment, op, cst_bytes_text(a, (double)x->used), cst_bytes_text(b, (double)x->alive));
    }
    printf("\n  %-48s %-12s %12s %6s\n", "largest tensors", "class", "bytes", "uses");
    for (int i = 0; i < t->tensors && i < ROWS; i++) {
        const cst_trace_tensor *x = &t->tensor[v->big[i]];
        printf("  %-48s %-12s %12s %6d\n", x->name, cst_class_name((cst_class)x->cls), cst_bytes_text(a, (double)x->bytes),
               v->uses[v->big[i]]);
    }
}

cst_status cst_cmd_trace_show(const cst_args *a)
{
    cst_trace *t;
    CST_TRY(cst_trace_from(&t, a));
    view v = {.t = t};
    v.at = calloc((size_t)t->moments, sizeof *v.at);
    v.big = malloc(((size_t)t->tensors + 1) * sizeof *v.big);
    v.uses = calloc((size_t)t->tensors + 1, sizeof *v.uses);
    cst_status st = v.at && v.big && v.uses ? CST_OK : cst_fail(CST_NO_MEMORY, "trace");
    if (st == CST_OK) st = count_tensors(&v);
    if (st == CST_OK) st = count_operators(&v);
    if (st == CST_OK) {
        if (cst_args_flag(a, CST_OPTION_JSON)) print_json(&v);
        else print_text(&v);
    }
    free(v.kind);
    free(v.at);
    free(v.big);
    free(v.uses);
    cst_trace_free(t);
    return st;
}
