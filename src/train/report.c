#include "train/report.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "train/chart.h"

/* The columns of metrics.jsonl that the page shows. */
enum { STEP, LOSS, VALID, LR, NORM, SPEED, BYTES, PEAK, MS, COLUMNS };
static const char *const names[COLUMNS] = {"step",         "loss",         "valid_loss",        "lr", "grad_norm",
                                           "tokens_per_s", "device_bytes", "device_peak_bytes", "ms"};

typedef struct table {
    double *col[COLUMNS]; /* [n] NaN where a line hasn't it */
    size_t n, room;
} table;

static cst_status add_line(table *t, const json_t *j)
{
    if (t->n == t->room) {
        t->room = t->room ? 2 * t->room : 1024;
        for (int k = 0; k < COLUMNS; k++) {
            double *p = realloc(t->col[k], t->room * sizeof *p);
            if (!p) return cst_fail(CST_NO_MEMORY, "metrics");
            t->col[k] = p;
        }
    }
    for (int k = 0; k < COLUMNS; k++) {
        const json_t *v = json_object_get(j, names[k]);
        t->col[k][t->n] = json_is_number(v) ? json_number_value(v) : NAN;
    }
    t->n++;
    return CST_OK;
}

/* A step that comes again (a run that was resumed before it) takes the place of what was there from it on. */
static void forget_from(table *t, double step)
{
    while (t->n && t->col[STEP][t->n - 1] >= step) t->n--;
}

static cst_status read_metrics(table *t, const char *dir)
{
    char *text = NULL, *path = cst_path_join(dir, "metrics.jsonl");
    size_t size;
    cst_status st = path ? CST_OK : cst_fail(CST_NO_MEMORY, "%s", dir);
    if (st == CST_OK) st = cst_file_read(&text, &size, path);
    int line = 1;
    for (char *p = text, *end; st == CST_OK && (end = strchr(p, '\n')); p = end + 1, line++) {
        json_t *j = json_loadb(p, (size_t)(end - p), 0, NULL);
        const json_t *step = json_object_get(j, "step");
        if (!json_is_integer(step)) st = cst_fail(CST_INPUT, "%s, line %d: a JSON object with a \"step\" is wanted", path, line);
        else {
            forget_from(t, json_number_value(step));
            st = add_line(t, j);
        }
        json_decref(j);
    }
    free(text);
    free(path);
    return st;
}

/* NULL where there is none: the page then has its charts only. */
static cst_status read_run(json_t **run, const char *dir)
{
    char *path = cst_path_join(dir, "run.json");
    cst_status st = !path ? cst_fail(CST_NO_MEMORY, "%s", dir) : cst_path_exists(path) ? cst_json_load(run, path, JSON_OBJECT) : CST_OK;
    free(path);
    return st;
}

/* Member `a` of j, or member `b` of that. */
static const json_t *at(const json_t *j, const char *a, const char *b)
{
    const json_t *v = json_object_get(j, a);
    return b ? json_object_get(v, b) : v;
}

static const char *text_at(const json_t *j, const char *a, const char *b)
{
    const char *s = json_string_value(at(j, a, b));
    return s ? s : "";
}

static void write_scalar(FILE *f, const json_t *v)
{
    char text[48];
    if (json_is_string(v)) cst_html_text(f, json_string_value(v));
    else if (json_is_integer(v)) fputs(cst_number_text(text, (double)json_integer_value(v)), f);
    else if (json_is_real(v)) fprintf(f, "%.9g", json_real_value(v));
    else fputs(json_is_true(v) ? "yes" : json_is_false(v) ? "no" : "\u2013", f);
}

/* A row a scalar; what is nested has its path as name; arrays of scalars stand in one row. */
static void write_rows(FILE *f, const char *prefix, const json_t *j)
{
    const char *key;
    json_t *v;
    size_t i;
    char name[256];
    if (json_is_object(j)) {
        json_object_foreach((json_t *)j, key, v) {
            snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? " " : "", key);
            write_rows(f, name, v);
        }
        return;
    }
    if (json_is_array(j) && json_is_object(json_array_get(j, 0))) {
        json_array_foreach(j, i, v) {
            snprintf(name, sizeof name, "%s %zu", prefix, i + 1);
            write_rows(f, name, v);
        }
        return;
    }
    fputs("<tr><th>", f);
    for (const char *p = prefix; *p; p++) fputc(*p == '_' ? ' ' : *p, f); /* names of our own */
    fputs("</th><td>", f);
    if (!json_is_array(j)) write_scalar(f, j);
    json_array_foreach(j, i, v) {
        if (i) fputs(" ", f);
        write_scalar(f, v);
    }
    fputs("</td></tr>\n", f);
}

static void write_section(FILE *f, const json_t *run, const char *key, const char *title, int open)
{
    const json_t *v = json_object_get(run, key);
    if (!v || json_is_null(v)) return;
    fprintf(f, "<details%s><summary>%s</summary>\n<table>\n", open ? " open" : "", title);
    write_rows(f, json_is_object(v) ? "" : title, v);
    fputs("</table></details>\n", f);
}

static void tile(FILE *f, const char *name, const char *value, const char *unit)
{
    fprintf(f, "<div><dt>%s</dt><dd>", name);
    cst_html_text(f, value);
    fprintf(f, "%s</dd></div>\n", unit);
}

static double last_of(const table *t, int k)
{
    for (size_t i = t->n; i-- > 0;)
        if (isfinite(t->col[k][i])) return t->col[k][i];
    return NAN;
}

static void write_tiles(FILE *f, const table *t, const json_t *run)
{
    char a[48], text[200];
    const char *unit;
    double peak = last_of(t, PEAK), valid = last_of(t, VALID), ms = 0;
    fputs("<dl class=\"tiles\">\n", f);
    if (*text_at(run, "result", "status")) tile(f, "state", text_at(run, "result", "status"), "");
    if (t->n) tile(f, "steps", cst_number_text(a, last_of(t, STEP)), "");
    if (isfinite(last_of(t, LOSS))) {
        double first = t->col[LOSS][0];
        if (isfinite(first)) snprintf(text, sizeof text, "%.4f \u2192 %.4f", first, last_of(t, LOSS));
        else snprintf(text, sizeof text, "%.4f", last_of(t, LOSS));
        tile(f, "loss", text, "");
    }
    if (isfinite(valid)) {
        snprintf(text, sizeof text, "%.4f", valid);
        tile(f, "validation loss", text, "");
    }
    const json_t *speed = at(run, "result", "tokens_per_s");
    if (json_is_number(speed) || t->n)
        tile(f, "tokens/s", cst_number_text(a, json_is_number(speed) ? json_number_value(speed) : last_of(t, SPEED)), "");
    if (isfinite(peak)) {
        double by = cst_bytes_unit(peak, &unit);
        snprintf(text, sizeof text, "%s %s", cst_number_text(a, peak / by), unit);
        tile(f, "device memory, peak", text, "");
    }
    for (size_t i = 0; i < t->n; i++) ms += isfinite(t->col[MS][i]) ? t->col[MS][i] : 0;
    if (t->n) {
        snprintf(text, sizeof text, "%s %s", cst_number_text(a, ms < 120e3 ? ms / 1e3 : ms < 7200e3 ? ms / 60e3 : ms / 3600e3),
                 ms < 120e3 ? "s" : ms < 7200e3 ? "min" : "h");
        tile(f, "time of the steps", text, "");
    }
    fputs("</dl>\n", f);
}

static void write_charts(FILE *f, const table *t)
{
    char memory[64];
    const char *unit;
    double by = cst_bytes_unit(t->n ? last_of(t, PEAK) : 0, &unit);
    snprintf(memory, sizeof memory, "Device memory, %s", unit);
    const cst_chart charts[] = {
        {"Loss", 0, 1, {{"training", t->col[LOSS], 0}, {"validation", t->col[VALID], 1}}, 2, t->col[STEP], t->n},
        {"Learning rate", 1, 1, {{"", t->col[LR], 0}}, 1, t->col[STEP], t->n},
        {"Gradient norm", 1, 1, {{"before clipping", t->col[NORM], 0}}, 1, t->col[STEP], t->n},
        {"Tokens/s", 1, 1, {{"", t->col[SPEED], 0}}, 1, t->col[STEP], t->n},
        {memory, 1, by, {{"in use", t->col[BYTES], 0}, {"peak", t->col[PEAK], 0}}, 2, t->col[STEP], t->n},
    };
    fputs("<div class=\"charts\">\n", f);
    for (size_t i = 0; i < sizeof charts / sizeof *charts; i++) cst_chart_write(f, &charts[i]);
    fputs("</div>\n", f);
}

static void write_page(FILE *f, const table *t, const json_t *run)
{
    const json_t *params = at(run, "model", "parameters");
    char number[48];
    fprintf(f, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
               "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>Castor: training run</title>\n<style>\n%s</style>\n"
               "</head>\n<body>\n<h1>Training run%s",
            cst_page_style, params ? ": " : "");
    if (params) {
        fprintf(f, "%s parameters on ", cst_number_text(number, json_number_value(params)));
        cst_html_text(f, text_at(run, "device", "name"));
    }
    fputs("</h1>\n<p class=\"sub\">", f);
    if (run) {
        fputs("castor ", f);
        cst_html_text(f, text_at(run, "castor", NULL));
        fputs(", begun ", f);
        cst_html_text(f, text_at(run, "started", NULL));
        if (*text_at(run, "ended", NULL)) fputs(", ended ", f);
        cst_html_text(f, text_at(run, "ended", NULL));
    }
    fputs("</p>\n", f);
    write_tiles(f, t, run);
    write_charts(f, t);
    if (run) {
        fputs("<h2>The run</h2>\n", f);
        write_section(f, run, "command", "command", 1);
        write_section(f, run, "result", "result", 1);
        write_section(f, run, "model", "model", 1);
        write_section(f, run, "device", "device", 1);
        write_section(f, run, "options", "options", 0);
        write_section(f, run, "data", "data", 0);
        write_section(f, run, "init_from", "weights taken from another folder", 0);
        write_section(f, run, "libraries", "libraries", 0);
        write_section(f, run, "gemm", "engines of the matrix products", 0);
    }
    fputs("</body>\n</html>\n", f);
}

cst_status cst_report_write(const char *dir)
{
    table t = {{NULL}, 0, 0};
    json_t *run = NULL;
    char *page = NULL, *path = cst_path_join(dir, "report.html");
    size_t size;
    FILE *f = NULL;
    cst_status st = path ? CST_OK : cst_fail(CST_NO_MEMORY, "%s", dir);
    if (st != CST_OK) return st;
    CST_GO(read_metrics(&t, dir), out);
    CST_GO(read_run(&run, dir), out);
    if (!(f = open_memstream(&page, &size))) {
        st = cst_fail(CST_NO_MEMORY, "%s", path);
        goto out;
    }
    write_page(f, &t, run);
    if (fclose(f)) st = cst_fail(CST_NO_MEMORY, "%s", path);
    else st = cst_file_write(path, page, size);
out:
    for (int k = 0; k < COLUMNS; k++) free(t.col[k]);
    json_decref(run);
    free(page);
    free(path);
    return st;
}
