/* castor trace: record, replay, html, perfetto. show is in trace_show.c. */
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "cli/plan_trace.h"
#include "memory/policy.h"
#include "train/trace_events.h"
#include "train/trace_page.h"

#define BUDGETS 32

static cst_status wants_out(const char **out, const cst_args *a, const char *what)
{
    *out = a->text[CST_OPTION_OUT];
    return *out ? CST_OK : cst_fail(CST_USAGE, "castor %s needs --out %s", a->command_name, what);
}

static void say_written(const cst_args *a, const char *path)
{
    if (!cst_args_flag(a, CST_OPTION_QUIET)) printf("%s\n", path);
}

cst_status cst_cmd_trace_record(const cst_args *a)
{
    cst_trace *t;
    const char *out;
    CST_TRY(wants_out(&out, a, "FILE"));
    CST_TRY(cst_trace_from(&t, a));
    cst_status st = cst_trace_save(t, out);
    if (st == CST_OK) say_written(a, out);
    cst_trace_free(t);
    return st;
}

typedef cst_status (*writer)(const char *path, const cst_trace *t, const cst_plan *p, const cst_timeline *l, uint64_t budget);

static cst_status write_planned(const cst_args *a, const char *what, writer write)
{
    cst_trace *t;
    cst_plan *p = NULL;
    cst_timeline *l = NULL;
    uint64_t budget;
    const char *out;
    cst_status st;
    CST_TRY(wants_out(&out, a, what));
    CST_TRY(cst_trace_from(&t, a));
    CST_GO(cst_trace_budget(&budget, a, t), done);
    CST_GO(cst_trace_plan(&p, &l, t, budget), done);
    CST_GO(write(out, t, p, l, budget), done);
    say_written(a, out);
done:
    cst_timeline_free(l);
    cst_plan_free(p);
    cst_trace_free(t);
    return st;
}

static cst_status write_events(const char *path, const cst_trace *t, const cst_plan *p, const cst_timeline *l, uint64_t budget)
{
    (void)budget;
    return cst_trace_events_write(path, t, p, l);
}

cst_status cst_cmd_trace_html(const cst_args *a)
{
    return write_planned(a, "PAGE.html", cst_trace_page_write);
}

cst_status cst_cmd_trace_perfetto(const cst_args *a)
{
    return write_planned(a, "T.json", write_events);
}

/* ---- replay ---- */

typedef struct replay {
    uint64_t budget, up, down;        /* of the plan */
    uint64_t fewest, farthest, lru, bound; /* moved */
    double seconds, compute, fewest_seconds, farthest_seconds, lru_seconds;
} replay;

/* Transfers on demand: no operator runs while one is under way, and both directions move about the same. */
static double on_demand(const cst_trace *t, double compute, uint64_t moved)
{
    return compute + (double)moved * (1 / t->rates.up + 1 / t->rates.down) / 2;
}

static cst_status play(replay *r, const cst_trace *t)
{
    cst_plan *p;
    cst_timeline *l;
    uint64_t bytes = r->budget - t->scratch;
    CST_TRY(cst_trace_plan(&p, &l, t, r->budget));
    r->up = p->up_bytes;
    r->down = p->down_bytes;
    r->seconds = p->seconds;
    r->compute = p->compute_seconds;
    cst_timeline_free(l);
    cst_plan_free(p);
    CST_TRY(cst_plan_fewest(&p, t, bytes));
    r->fewest = p->up_bytes + p->down_bytes;
    r->fewest_seconds = p->seconds;
    cst_plan_free(p);
    CST_TRY(cst_policy_run(&r->farthest, t, bytes, CST_POLICY_FARTHEST));
    CST_TRY(cst_policy_run(&r->lru, t, bytes, CST_POLICY_LRU));
    r->farthest_seconds = on_demand(t, r->compute, r->farthest);
    r->lru_seconds = on_demand(t, r->compute, r->lru);
    return cst_plan_bound(&r->bound, t, bytes);
}

static void print_row(const char *budget, const char *policy, uint64_t moved, const replay *r, double seconds)
{
    char m[32], s[32], times[16] = "-";
    if (r->bound) snprintf(times, sizeof times, "%.2f", (double)moved / (double)r->bound);
    printf("  %10s  %-20s %10s  %8s  %8s\n", budget, policy, cst_bytes_text(m, (double)moved), times,
           seconds < 0 ? "" : cst_seconds_text(s, seconds));
}

static void print_replay(const cst_trace *t, const replay *r, int n)
{
    char b[32], up[32], down[32];
    printf("%s%s%s\n  %10s  %-20s %10s  %8s  %8s\n", *t->about ? t->about : "a step", *t->device ? ", on " : "", t->device, "budget",
           "policy", "moved", "x bound", "step");
    for (int i = 0; i < n; i++, r++) {
        print_row(cst_bytes_text(b, (double)r->budget), "plan", r->up + r->down, r, r->seconds);
        print_row("", "plan, fewest bytes", r->fewest, r, r->fewest_seconds);
        print_row("", "farthest next use", r->farthest, r, r->farthest_seconds);
        print_row("", "least recently used", r->lru, r, r->lru_seconds);
        print_row("", "proven bound", r->bound, r, -1);
        printf("  %10s  of the plan up %s, down %s; operators alone %s\n", "", cst_bytes_text(up, (double)r->up),
               cst_bytes_text(down, (double)r->down), cst_seconds_text(b, r->compute));
    }
    printf("The last two policies move on demand, so that no operator runs meanwhile, and have no trouble with places; plans have.\n");
}

static void print_replay_json(const cst_trace *t, const replay *r, int n)
{
    json_t *j = json_pack("{s:o, s:o}", "about", cst_json_text(t->about), "device", cst_json_text(t->device)), *rows = json_array();
    for (int i = 0; i < n; i++, r++)
        json_array_append_new(rows, json_pack("{s:I, s:f, s:{s:I, s:I, s:I, s:f}, s:{s:I, s:f}, s:{s:I, s:f}, s:{s:I, s:f}, s:I}", "budget_bytes",
                                              (json_int_t)r->budget, "compute_seconds", r->compute, "plan", "up_bytes", (json_int_t)r->up,
                                              "down_bytes", (json_int_t)r->down, "moved_bytes", (json_int_t)(r->up + r->down), "seconds",
                                              r->seconds, "fewest_bytes", "moved_bytes", (json_int_t)r->fewest, "seconds", r->fewest_seconds, "farthest_next_use", "moved_bytes", (json_int_t)r->farthest, "seconds",
                                              r->farthest_seconds, "least_recently_used", "moved_bytes", (json_int_t)r->lru, "seconds",
                                              r->lru_seconds, "bound_bytes", (json_int_t)r->bound));
    json_object_set_new(j, "budgets", rows);
    json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(j);
}

/* --device-mem, else halves from half of what lets all stay down to the least. */
static cst_status budgets(uint64_t *list, int *n, const cst_args *a, const cst_trace *t)
{
    uint64_t least, resident;
    *n = 0;
    if (a->text[CST_OPTION_BUDGETS]) {
        *n = cst_args_sizes(list, BUDGETS, a, CST_OPTION_BUDGETS);
        return *n == BUDGETS ? cst_fail(CST_USAGE, "--device-mem: %d budgets are too many", *n) : CST_OK;
    }
    CST_TRY(cst_trace_extremes(&least, &resident, t));
    for (uint64_t b = resident / 2; b > least && *n < BUDGETS - 1; b /= 2) list[(*n)++] = b;
    list[(*n)++] = least;
    return CST_OK;
}

cst_status cst_cmd_trace_replay(const cst_args *a)
{
    cst_trace *t;
    uint64_t list[BUDGETS];
    replay r[BUDGETS];
    int n;
    cst_status st;
    CST_TRY(cst_trace_from(&t, a));
    CST_GO(budgets(list, &n, a, t), out);
    for (int i = 0; i < n; i++) {
        r[i].budget = list[i];
        CST_GO(play(&r[i], t), out);
        if (!cst_interrupted()) continue;
        st = cst_fail(CST_INTERRUPTED, "interrupted");
        goto out;
    }
    if (cst_args_flag(a, CST_OPTION_JSON)) print_replay_json(t, r, n);
    else print_replay(t, r, n);
out:
    cst_trace_free(t);
    return st;
}
