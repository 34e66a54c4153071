/* castor plan: what a step would need and take, without a device. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "cli/plan_trace.h"

#define SHARES 7 /* budgets of the table: percents of what lets all stay, and the least */

typedef struct answer {
    uint64_t budget;
    cst_outlook x;
    cst_timeline *l;
} answer;

static void forget(answer *a)
{
    cst_outlook_clear(&a->x);
    cst_timeline_free(a->l);
}

/* Seconds in which no operator runs. */
static double waiting(const answer *a)
{
    double s = a->x.seconds - a->x.plan->compute_seconds;
    return s > 0 ? s : 0;
}

/* What sets the pace: as cst_timeline_limit, or the optimizer on the host, which comes behind all operators. */
static const char *limit(const answer *a)
{
    double optim = a->x.seconds - a->x.plan->seconds;
    return optim > 0.02 * a->x.seconds && optim > a->l->stall ? "optimizer" : cst_timeline_limit(a->l);
}

static json_t *answer_json(const answer *a, const cst_planner *p)
{
    const cst_outlook *x = &a->x;
    json_t *j = json_pack("{s:I, s:f, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:s}", "budget_bytes", (json_int_t)a->budget, "share_of_resident",
                          (double)a->budget / (double)p->resident, "peak_bytes", (json_int_t)x->bytes, "host_bytes",
                          (json_int_t)x->host_bytes, "up_bytes", (json_int_t)x->up_bytes, "down_bytes", (json_int_t)x->down_bytes,
                          "seconds", x->seconds, "compute_seconds", x->plan->compute_seconds, "stall_seconds", waiting(a), "limit",
                          limit(a));
    if (p->s) json_object_update_new(j, json_pack("{s:f, s:s, s:i, s:i}", "operators_measured", x->known, "placement", cst_placement_name(x->placement), "recomputed_layers", x->recompute,
                                                   "host_layers", x->host_layers));
    return j;
}

static void print_json(const cst_planner *p, const answer *main, const answer *table, int n, uint64_t bound)
{
    json_t *j = answer_json(main, p), *rows = json_array();
    json_object_set_new(j, "about", cst_json_text(p->t->about));
    json_object_set_new(j, "device", cst_json_text(p->t->device));
    json_object_set_new(j, "bound_bytes", json_integer((json_int_t)bound));
    json_object_set_new(j, "least_bytes", json_integer((json_int_t)p->least));
    json_object_set_new(j, "resident_bytes", json_integer((json_int_t)p->resident));
    for (int i = 0; i < n; i++) json_array_append_new(rows, answer_json(&table[i], p));
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
    const char *w = limit(a);
    return *w == 'r' ? "room for transfers in time" : *w == 'o' ? "transfers of the optimizer on the host" : w;
}

static void print_placement(const cst_planner *p, const answer *a)
{
    static const char *const text[] = {"tensors migrate", "all on the device", "master weights and optimizer state on the host"};
    printf("  placement         %s: %s", cst_placement_name(a->x.placement), text[a->x.placement]);
    if (a->x.placement == CST_PLACEMENT_STATIC && p->s->o.away_params > 0) printf(", parameters as they are used");
    if (a->x.recompute) printf("; %d of %lld layers computed again", a->x.recompute, (long long)p->s->o.config.num_hidden_layers);
    if (a->x.host_layers) printf("; %d of %lld layers updated on the host", a->x.host_layers, (long long)p->s->o.config.num_hidden_layers);
    putchar('\n');
}

static void print_answer(const cst_planner *p, const answer *a, uint64_t bound)
{
    const cst_trace *t = p->t;
    const cst_outlook *o = &a->x;
    char x[32], y[32], z[32];
    printf("%s%s%s\n", *t->about ? t->about : "a step", *t->device ? ", on " : "", t->device);
    printf("  fits              yes, in %s of %s: tensors %s, scratch %s\n", cst_bytes_text(x, (double)o->bytes),
           cst_bytes_text((char[32]){0}, (double)a->budget), cst_bytes_text(y, (double)(o->bytes - o->trace->scratch)),
           cst_bytes_text(z, (double)o->trace->scratch));
    if (p->s) print_placement(p, a);
    printf("  host memory       %s\n", cst_bytes_text(x, (double)o->host_bytes));
    if (o->up_bytes + o->down_bytes)
        printf("  moved a step      up %s, down %s", moved_text(x, o->up_bytes), moved_text(y, o->down_bytes));
    else printf("  moved a step      nothing");
    if (o->plan->up_bytes + o->plan->down_bytes) printf("; no plan within this budget moves less than %s", moved_text(z, bound));
    printf("\n  step              %s: operators %s, waiting for transfers %s\n", cst_seconds_text(x, o->seconds),
           cst_seconds_text(y, o->plan->compute_seconds), cst_seconds_text(z, waiting(a)));
    printf("  limited by        %s", limit_text(a));
    if (strchr("udr", *limit(a)))
        printf("; during the waiting an upload is under way for %.0f %%, a download for %.0f %%",
               100 * a->l->stall_with[CST_LANE_UP] / a->l->stall, 100 * a->l->stall_with[CST_LANE_DOWN] / a->l->stall);
    putchar('\n');
    printf("  smallest budget   %s (--device-mem %llu)\n", cst_bytes_text(x, (double)p->least), (unsigned long long)p->least);
    if (o->placement != CST_PLACEMENT_STATIC) printf("  nothing moves     from %s on\n", cst_bytes_text(x, (double)p->resident));
    printf("  rates             up %s, down %s, ", cst_thousands_text(x, t->rates.up, "B/s"), cst_thousands_text(y, t->rates.down, "B/s"));
    if (o->known > 0.5) printf("operators as measured at such work (%.0f %%)\n\n", 100 * o->known);
    else
        printf("memory %s, %s%s\n\n", cst_thousands_text(x, t->rates.memory, "B/s"), cst_thousands_text(y, t->rates.flops, "FLOP/s"),
               *t->device ? "; operators are guessed from these" : "; for a device of your own give --rates or --device");
}

static int asks_again(const cst_planner *p) { return p->s && p->s->o.recompute == CST_RECOMPUTE_AUTO; }

static void print_head(const cst_planner *p)
{
    printf("  %10s  %5s  %10s  %10s  %8s  %8s%s  %s\n", "budget", "", "up", "down", "step", "waiting", asks_again(p) ? "  layers again" : "",
           "limited by");
    fflush(stdout);
}

/* As soon as it is known: a table takes minutes for a large model. */
static void print_row(const cst_planner *p, const answer *a)
{
    char b[32], up[32], down[32], s[32], w[32];
    const cst_outlook *x = &a->x;
    printf("  %10s  %4.0f%%  %10s  %10s  %8s  %8s", cst_bytes_text(b, (double)a->budget), 100 * (double)a->budget / (double)p->resident,
           moved_text(up, x->up_bytes), moved_text(down, x->down_bytes), cst_seconds_text(s, x->seconds), cst_seconds_text(w, waiting(a)));
    if (asks_again(p)) printf("  %12d", x->recompute);
    printf("  %s\n", limit_text(a));
    fflush(stdout);
}

static cst_status ask(answer *a, cst_planner *p, uint64_t budget)
{
    if (cst_interrupted()) return cst_fail(CST_INTERRUPTED, "interrupted");
    a->budget = budget;
    return cst_planner_ask(&a->x, &a->l, p, budget);
}

cst_status cst_cmd_plan(const cst_args *a)
{
    static const int percent[SHARES - 1] = {100, 75, 50, 35, 20, 10};
    cst_planner p;
    answer main = {.l = NULL}, table[SHARES] = {{.l = NULL}};
    uint64_t bound;
    int n = 0, json = cst_args_flag(a, CST_OPTION_JSON);
    cst_status st;
    CST_TRY(cst_planner_open(&p, a));
    CST_GO(ask(&main, &p, a->text[CST_OPTION_BUDGET] ? cst_args_size(a, CST_OPTION_BUDGET) : p.resident), out);
    CST_GO(cst_plan_bound(&bound, main.x.trace, main.budget - main.x.trace->scratch), out);
    if (!json) {
        print_answer(&p, &main, bound);
        print_head(&p);
    }
    for (int i = 0; i < SHARES; i++) {
        uint64_t budget = i < SHARES - 1 ? (uint64_t)((double)p.resident / 100 * percent[i]) : p.least;
        if (i == 0) budget = p.resident;
        if (budget < p.least || (n && budget == table[n - 1].budget)) continue;
        CST_GO(ask(&table[n], &p, budget), out);
        if (!json) print_row(&p, &table[n]);
        n++;
    }
    if (json) print_json(&p, &main, table, n, bound);
out:
    forget(&main);
    for (int i = 0; i < n; i++) forget(&table[i]);
    return cst_planner_close(&p, st);
}
