/* castor plan: what a step would need and take, without a device. */
#include <stdio.h>

#include "base/json.h"
#include "cli/plan_trace.h"

#define SHARES 7 /* budgets of the table: percents of what lets all stay, and the least */

typedef struct answer {
    uint64_t budget;
    cst_plan *p;
    cst_timeline *l;
} answer;

static void forget(answer *a)
{
    cst_plan_free(a->p);
    cst_timeline_free(a->l);
}

static json_t *answer_json(const answer *a, const cst_trace *t, uint64_t resident)
{
    const cst_plan *p = a->p;
    return json_pack("{s:I, s:f, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:s}", "budget_bytes", (json_int_t)a->budget, "share_of_resident",
                     (double)a->budget / (double)resident, "peak_bytes", (json_int_t)(p->bytes + t->scratch), "host_bytes",
                     (json_int_t)p->host_bytes, "up_bytes", (json_int_t)p->up_bytes, "down_bytes", (json_int_t)p->down_bytes, "seconds",
                     p->seconds, "compute_seconds", p->compute_seconds, "stall_seconds", p->stall_seconds, "limit",
                     cst_timeline_limit(a->l));
}

static void print_json(const cst_trace *t, const answer *main, const answer *table, int n, uint64_t least, uint64_t resident,
                       uint64_t bound)
{
    json_t *j = answer_json(main, t, resident), *rows = json_array();
    json_object_set_new(j, "about", cst_json_text(t->about));
    json_object_set_new(j, "device", cst_json_text(t->device));
    json_object_set_new(j, "bound_bytes", json_integer((json_int_t)bound));
    json_object_set_new(j, "least_bytes", json_integer((json_int_t)least));
    json_object_set_new(j, "resident_bytes", json_integer((json_int_t)resident));
    for (int i = 0; i < n; i++) json_array_append_new(rows, answer_json(&table[i], t, resident));
    json_object_set_new(j, "budgets", rows);
    json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(j);
}

static const char *moved_text(char buf[32], uint64_t bytes)
{
    return bytes ? cst_bytes_text(buf, (double)bytes) : "0";
}

/* What sets the pace, in words. */
static const char *limit_text(const answer *a)
{
    const char *w = cst_timeline_limit(a->l);
    return *w == 'r' ? "room for transfers in time" : w;
}

static void print_answer(const cst_trace *t, const answer *a, uint64_t least, uint64_t resident, uint64_t bound)
{
    const cst_plan *p = a->p;
    char x[32], y[32], z[32];
    printf("%s%s%s\n", *t->about ? t->about : "a step", *t->device ? ", on " : "", t->device);
    printf("  fits              yes, in %s of %s: tensors %s, scratch %s\n", cst_bytes_text(x, (double)(p->bytes + t->scratch)),
           cst_bytes_text((char[32]){0}, (double)a->budget), cst_bytes_text(y, (double)p->bytes), cst_bytes_text(z, (double)t->scratch));
    printf("  host memory       %s\n", cst_bytes_text(x, (double)p->host_bytes));
    if (p->up_bytes + p->down_bytes)
        printf("  moved a step      up %s, down %s; no plan within this budget moves less than %s\n", moved_text(x, p->up_bytes),
               moved_text(y, p->down_bytes), moved_text(z, bound));
    else printf("  moved a step      nothing\n");
    printf("  step              %s: operators %s, waiting for transfers %s\n", cst_seconds_text(x, p->seconds),
           cst_seconds_text(y, p->compute_seconds), cst_seconds_text(z, p->stall_seconds));
    printf("  limited by        %s", limit_text(a));
    if (*cst_timeline_limit(a->l) != 'c')
        printf("; during the waiting an upload is under way for %.0f %%, a download for %.0f %%",
               100 * a->l->stall_with[CST_LANE_UP] / a->l->stall, 100 * a->l->stall_with[CST_LANE_DOWN] / a->l->stall);
    putchar('\n');
    printf("  smallest budget   %s (--device-mem %llu)\n", cst_bytes_text(x, (double)least), (unsigned long long)least);
    printf("  nothing moves     from %s on\n", cst_bytes_text(x, (double)resident));
    printf("  rates             up %s, down %s, ", cst_thousands_text(x, t->rates.up, "B/s"), cst_thousands_text(y, t->rates.down, "B/s"));
    printf("memory %s, %s%s\n\n", cst_thousands_text(x, t->rates.memory, "B/s"), cst_thousands_text(y, t->rates.flops, "FLOP/s"),
           *t->device ? "" : "; for a device of your own give --rates or --device");
}

static void print_table(const answer *table, int n, uint64_t resident)
{
    char b[32], up[32], down[32], s[32], w[32];
    printf("  %10s  %5s  %10s  %10s  %8s  %8s  %s\n", "budget", "", "up", "down", "step", "waiting", "limited by");
    for (int i = 0; i < n; i++) {
        const cst_plan *p = table[i].p;
        printf("  %10s  %4.0f%%  %10s  %10s  %8s  %8s  %s\n", cst_bytes_text(b, (double)table[i].budget),
               100 * (double)table[i].budget / (double)resident, moved_text(up, p->up_bytes), moved_text(down, p->down_bytes),
               cst_seconds_text(s, p->seconds), cst_seconds_text(w, p->stall_seconds), limit_text(&table[i]));
    }
}

cst_status cst_cmd_plan(const cst_args *a)
{
    static const int percent[SHARES - 1] = {100, 75, 50, 35, 20, 10};
    cst_trace *t;
    answer main = {0}, table[SHARES] = {{0}};
    uint64_t least, resident, bound;
    int n = 0;
    cst_status st;
    CST_TRY(cst_trace_from(&t, a));
    CST_GO(cst_trace_extremes(&least, &resident, t), out);
    CST_GO(cst_trace_budget(&main.budget, a, t), out);
    CST_GO(cst_trace_plan(&main.p, &main.l, t, main.budget), out);
    CST_GO(cst_plan_bound(&bound, t, main.budget - t->scratch), out);
    for (int i = 0; i < SHARES; i++) {
        uint64_t budget = i < SHARES - 1 ? (uint64_t)((double)resident / 100 * percent[i]) : least;
        if (i == 0) budget = resident;
        if (budget < least || (n && budget == table[n - 1].budget)) continue;
        if (cst_interrupted()) {
            st = cst_fail(CST_INTERRUPTED, "interrupted");
            goto out;
        }
        table[n].budget = budget;
        CST_GO(cst_trace_plan(&table[n].p, &table[n].l, t, budget), out);
        n++;
    }
    if (cst_args_flag(a, CST_OPTION_JSON)) print_json(t, &main, table, n, least, resident, bound);
    else {
        print_answer(t, &main, least, resident, bound);
        print_table(table, n, resident);
    }
out:
    forget(&main);
    for (int i = 0; i < n; i++) forget(&table[i]);
    cst_trace_free(t);
    return st;
}
