#include "bench/compare.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/device_rows.h"
#include "bench/submit_run.h"
#include "train/chart.h"

/* ---- training runs as rows ---- */

static cst_status add_run_row(cst_rows *rows, const cst_run_case *c, const char *kind, const char *unit, int less, double value,
                              const char *missing)
{
    cst_row r = {.row = CST_COMPARE_TRAINING, .unit = unit, .less = less, .value = value, .error = -1};
    snprintf(r.what, sizeof r.what, "%s, %s", c->name, kind);
    snprintf(r.missing, sizeof r.missing, "%s", missing ? missing : "");
    return cst_rows_add(rows, &r);
}

static double number_in(const json_t *j, const char *name)
{
    return json_number_value(json_object_get(j, name));
}

/* The losses themselves decide, not the verdict that the file has. */
static int losses_differ(const cst_run_case *c, const json_t *losses)
{
    double loss[CST_RUN_STEPS];
    size_t n = json_array_size(losses);
    if (n > CST_RUN_STEPS) return 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(losses, i);
        loss[i] = json_is_number(v) ? json_number_value(v) : NAN;
    }
    return !(cst_run_difference(c, loss, (int)n) <= c->tolerance);
}

static cst_status add_runs(cst_compare *c, int i)
{
    const json_t *run;
    size_t k;
    json_array_foreach(json_object_get(c->result[i].json, "training"), k, run) {
        const cst_run_case *rc = cst_run_case_find(json_string_value(json_object_get(run, "run")));
        const char *missing = json_string_value(json_object_get(run, "missing"));
        CST_TRY(add_run_row(&c->rows[i], rc, "speed", "tokens/s", 0, number_in(run, "tokens_per_s"), missing));
        if (missing) continue;
        CST_TRY(add_run_row(&c->rows[i], rc, "first step", "ms", 1, number_in(run, "first_step_ms"), NULL));
        CST_TRY(add_run_row(&c->rows[i], rc, "device memory", "MiB", 1, number_in(run, "device_peak_bytes") / 1048576, NULL));
        c->checked[i]++;
        c->differs[i] += losses_differ(rc, json_object_get(run, "losses"));
    }
    return CST_OK;
}

/* ---- lines ---- */

/* More is better. */
static double merit(const cst_row *r)
{
    return !r->less ? r->value : r->value > 0 ? 1 / r->value : INFINITY;
}

static int better(const cst_row *a, const cst_row *b)
{
    return !a->missing[0] && (b->missing[0] || merit(a) > merit(b));
}

/* The case's name without what each device chose for itself: the widths of its fastest multiply-adds, sizes by its caches and memory. */
static void common_name(char name[64], const cst_row *r)
{
    char *p = NULL;
    snprintf(name, 64, "%s", r->what);
    if (!strcmp(r->row, "peak")) snprintf(name, 64, "the fastest way");
    else if (!strcmp(r->row, "allocation")) name[strcspn(name, ",0123456789")] = 0;
    else if ((p = strstr(name, " Mi numbers")) && !p[strlen(" Mi numbers")]) {
        while (p > name && (isdigit((unsigned char)p[-1]))) p--;
        *p = 0;
        if (p == name) snprintf(name, 64, "large");
    }
    size_t n = strlen(name);
    while (n && strchr(" ,", name[n - 1])) name[--n] = 0;
}

static cst_compare_line *find_line(cst_compare *c, const char *row, const char *name)
{
    for (int k = 0; k < c->lines; k++)
        if (!strcmp(c->line[k].row, row) && !strcmp(c->line[k].what, name)) return &c->line[k];
    return NULL;
}

static cst_status add_cell(cst_compare *c, int i, const cst_row *r)
{
    char name[64];
    common_name(name, r);
    cst_compare_line *l = find_line(c, r->row, name);
    if (!l) {
        l = realloc(c->line, (size_t)(c->lines + 1) * sizeof *l);
        if (!l) return cst_fail(CST_NO_MEMORY, "a report's lines");
        c->line = l;
        l += c->lines;
        *l = (cst_compare_line){.row = r->row, .cell = calloc((size_t)c->results, sizeof *l->cell)};
        snprintf(l->what, sizeof l->what, "%s", name);
        if (!l->cell) return cst_fail(CST_NO_MEMORY, "a report's lines");
        c->lines++;
    }
    if (!l->cell[i] || better(r, l->cell[i])) l->cell[i] = r; /* of cases with one common name the best */
    if (r->missing[0]) return CST_OK;
    if (l->unit && (strcmp(l->unit, r->unit) || l->less != r->less))
        return cst_fail(CST_INPUT, "%s: %s, %s is in %s, in other results in %s", c->result[i].file, r->row, r->what, r->unit, l->unit);
    l->unit = r->unit;
    l->less = r->less;
    if (r->value > l->most) l->most = r->value;
    return CST_OK;
}

static int section_of(const char *row)
{
    const cst_bench_device_name *list;
    int n = cst_bench_device_names(&list), i = 0;
    if (!strcmp(row, CST_COMPARE_TRAINING)) return -1;
    while (i < n && strcmp(list[i].name, row)) i++;
    return i;
}

/* Lines of a section stand together, otherwise as they came. */
static void sort_lines(cst_compare *c)
{
    for (int i = 1; i < c->lines; i++) {
        cst_compare_line l = c->line[i];
        int k = i;
        for (; k && section_of(c->line[k - 1].row) > section_of(l.row); k--) c->line[k] = c->line[k - 1];
        c->line[k] = l;
    }
}

cst_status cst_compare_make(cst_compare *c, const cst_result *result, int results, int best)
{
    *c = (cst_compare){.result = result, .results = results, .best = best};
    if (results < 1) return cst_fail(CST_USAGE, "castor bench report needs a FILE that castor bench submit wrote");
    for (int i = 0; i < results; i++)
        for (int k = 0; k < i; k++)
            if (!strcmp(result[i].name, result[k].name))
                return cst_fail(CST_USAGE, "%s and %s are both named \"%s\"; bench submit --name gives another one", result[k].file,
                                result[i].file, result[i].name);
    c->rows = calloc((size_t)results, sizeof *c->rows);
    c->differs = calloc((size_t)results, sizeof *c->differs);
    c->checked = calloc((size_t)results, sizeof *c->checked);
    if (!c->rows || !c->differs || !c->checked) return cst_fail(CST_NO_MEMORY, "a report");
    for (int i = 0; i < results; i++) {
        CST_TRY(add_runs(c, i));
        for (size_t k = 0; k < c->rows[i].n; k++) CST_TRY(add_cell(c, i, &c->rows[i].list[k]));
        for (size_t k = 0; k < result[i].rows; k++) CST_TRY(add_cell(c, i, &result[i].row[k]));
    }
    sort_lines(c);
    return CST_OK;
}

void cst_compare_free(cst_compare *c)
{
    for (int i = 0; c->rows && i < c->results; i++) cst_rows_free(&c->rows[i]);
    for (int i = 0; i < c->lines; i++) free(c->line[i].cell);
    free(c->line);
    free(c->rows);
    free(c->differs);
    free(c->checked);
    *c = (cst_compare){NULL};
}

/* ---- figures ---- */

int cst_compare_has(const cst_compare_line *l, int i)
{
    return l->cell[i] && !l->cell[i]->missing[0];
}

double cst_compare_ratio(const cst_compare *c, const cst_compare_line *l, int i)
{
    double one = 0;
    if (!cst_compare_has(l, i)) return NAN;
    for (int k = 0; k < (c->best ? c->results : 1); k++)
        if (cst_compare_has(l, k) && merit(l->cell[k]) > one) one = merit(l->cell[k]);
    double ratio = merit(l->cell[i]) / one;
    return one > 0 && isfinite(ratio) ? ratio : NAN;
}

const cst_row *cst_compare_best(const cst_compare *c, const char *row, const char *what, int i)
{
    const cst_row *best = NULL;
    for (int k = 0; k < c->lines; k++) {
        const cst_compare_line *l = &c->line[k];
        if (strcmp(l->row, row) || !cst_compare_has(l, i) || (what && !strstr(l->what, what))) continue;
        if (!best || better(l->cell[i], best)) best = l->cell[i];
    }
    return best;
}

const char *cst_compare_about(const char *row)
{
    const cst_bench_device_name *list;
    int n = cst_bench_device_names(&list);
    if (!strcmp(row, CST_COMPARE_TRAINING)) return "a fixed run: always the same models, tokens and seed";
    for (int i = 0; i < n; i++)
        if (!strcmp(list[i].name, row)) return list[i].about;
    return "";
}

const char *cst_compare_value_text(char buf[48], double v)
{
    if (v >= 999.5) return cst_number_text(buf, v);
    snprintf(buf, 48, "%.*f", v >= 99.95 ? 0 : v >= 9.995 ? 1 : v >= 0.9995 || v <= 0 ? 2 : v >= 0.09995 ? 3 : 4, v);
    if (v > 0 && v < 0.001) snprintf(buf, 48, "%.2e", v);
    return buf;
}

static const json_t *member_of(const cst_result *r, const char *of, const char *name)
{
    return json_object_get(of ? json_object_get(r->json, of) : r->json, name);
}

const char *cst_compare_text(const cst_result *r, const char *of, const char *name)
{
    const char *s = json_string_value(member_of(r, of, name));
    return s ? s : "";
}

double cst_compare_number(const cst_result *r, const char *of, const char *name)
{
    return json_number_value(member_of(r, of, name));
}
