/* Results side by side on one page: what the devices are, a few bars, rooflines, tables. One file without scripts and without anything
 * from elsewhere; on a narrow screen each case of a table becomes a block with a line for each device.
 */
#include <math.h>
#include <string.h>

#include "bench/compare.h"
#include "train/chart.h"

#define COLOURS 8 /* of devices; more begin again */

static const char style[] =
    ":root{--d0:#1f6fd0;--d1:#d0680a;--d2:#1b8a52;--d3:#7b4fc4;--d4:#b3267d;--d5:#0e8a94;--d6:#8a6d00;--d7:#6b7785;--bad:#c22a1e;--good:#"
    "1b7f4b;"
    "--k0:#1f6fd0;--k1:#d0680a;--k2:#1f6fd0;--k3:#7b4fc4;--k4:#1b8a52;--k5:#b3267d;--k6:#0e8a94;--k7:#8a6d00;--k8:#46515e}\n"
    "@media(prefers-color-scheme:dark){:root{--d0:#5ea6fb;--d1:#f59a45;--d2:#4cc285;--d3:#b394f7;--d4:#f57fbc;--d5:#4cc9d4;--d6:#d9bb45;--"
    "d7:#93a0b0;"
    "--bad:#ff7b6b;--good:#4cc285;--k0:#5ea6fb;--k1:#f59a45;--k2:#5ea6fb;--k3:#b394f7;--k4:#4cc285;--k5:#f57fbc;--k6:#4cc9d4;--k7:#d9bb45;-"
    "-k8:#aeb9c6}}\n"
    "p.say{max-width:62rem;margin:0 0 1rem;color:var(--soft)}h2 "
    "small{font-weight:400;color:var(--soft);font-size:.85rem;margin-left:.4rem}\n"
    /* devices */
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr));gap:1rem}\n"
    ".card{background:var(--card);border-radius:.5rem;padding:.8rem;border-top:.25rem solid var(--d);min-width:0}\n"
    ".card h3{margin:0 0 .4rem;font-size:1rem;overflow-wrap:anywhere}.card th{width:7.5rem}.card table{font-size:.85rem}\n"
    ".card tr:last-child>*{border:0}.badge{display:inline-block;margin:0 .4rem .4rem 0;padding:.05rem "
    ".5rem;border-radius:1rem;font-size:.8rem;"
    "border:1px solid var(--b);color:var(--b)}.good{--b:var(--good)}.bad{--b:var(--bad);font-weight:600}.plain{--b:var(--soft)}\n"
    "details p{margin:0;font-size:.8rem;color:var(--soft);overflow-wrap:anywhere}summary{font-size:.85rem}\n"
    /* bars */
    ".bars{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem}.bars figure{padding:.8rem}\n"
    ".bars figcaption{margin-bottom:.3rem}.b{margin:.35rem 0}.b "
    "div{display:flex;justify-content:space-between;gap:.8rem;font-size:.85rem}\n"
    ".b div span:first-child{color:var(--soft);overflow-wrap:anywhere}.b div "
    "span:last-child{white-space:nowrap;font-variant-numeric:tabular-nums}\n"
    ".bar{display:block;height:.45rem;min-width:2px;border-radius:.2rem;background:var(--d);margin-top:.1rem}.r{color:var(--soft)}\n"
    /* rooflines */
    "figure.wide figcaption b{flex:1 0 100%}.roofs{grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr))}\n"
    ".plot.roofline{height:16rem;margin:2.1rem 0 2.6rem 4.2rem}.roof{stroke:var(--ink);stroke-width:1.6}\n"
    ".plot.roofline .dot{stroke-width:9}.keys{margin:0 0 .5rem;display:flex;flex-wrap:wrap;gap:.1rem .9rem}\n"
    ".key.k::before{height:.65em;width:.65em;border-radius:50%;vertical-align:-.02em;background:var(--k)}.key.roofkey::before{background:"
    "var(--ink);height:.15em}\n"
    ".plot .xname{right:0;top:100%;margin-top:1.65rem}.plot .yname{right:100%;bottom:100%;margin:0 .5rem .75rem 0}\n"
    /* tables */
    ".cmp{table-layout:fixed}.cmp th{width:auto;color:var(--ink)}.cmp thead th{vertical-align:bottom;font-weight:600;font-size:.85rem}.cmp "
    "thead th:first-child{width:19rem}\n"
    ".cmp thead th+th{border-bottom:.2rem solid var(--d);text-align:right;padding-right:0}.cmp td,.cmp thead th+th{padding-left:1.2rem}\n"
    ".cmp td{text-align:right;padding-right:0;font-variant-numeric:tabular-nums}.cmp td "
    ".bar{margin-left:auto;height:.25rem;margin-top:.15rem}\n"
    ".cmp small{color:var(--soft);font-size:.82em}.cmp td small{margin-left:.5em}.cmp td.no{color:var(--soft);font-size:.82em}.cmp tbody "
    "th small{white-space:nowrap}\n"
    "@media(max-width:46rem){.cmp,.cmp tbody,.cmp tr,.cmp th,.cmp td{display:block;width:auto}.cmp thead{display:none}\n"
    ".cmp tr{border-bottom:1px solid var(--rule);padding:.4rem 0}.cmp th,.cmp td{border:0;padding:.12rem 0}.cmp "
    "td::before{content:attr(data-d);float:left;"
    "color:var(--soft);max-width:60%;text-align:left;margin-right:1rem}.cmp td .bar{margin-left:0;clear:left}.cmp td.no{overflow:hidden}}\n"
    "@media(max-width:34rem){.plot.roofline{margin-left:3.6rem;height:13rem}.card th{width:36%}}\n";

static int colour(int i)
{
    return i % COLOURS;
}

/* ---- what the devices are ---- */

static void fact(FILE *f, const char *name, const char *value)
{
    if (!*value) return;
    fprintf(f, "<tr><th>%s</th><td>", name);
    cst_html_text(f, value);
    fputs("</td></tr>\n", f);
}

static void bytes_fact(FILE *f, const char *name, double bytes)
{
    char text[96], number[48];
    const char *unit;
    double by = cst_bytes_unit(bytes, &unit);
    snprintf(text, sizeof text, "%s %s", cst_compare_value_text(number, bytes / by), unit);
    if (bytes > 0) fact(f, name, text);
}

static void write_badges(FILE *f, const cst_compare *c, int i)
{
    const cst_result *r = &c->result[i];
    if (c->differs[i]) fprintf(f, "<span class=\"badge bad\">losses differ: it computes wrongly</span>");
    else if (c->checked[i]) fputs("<span class=\"badge good\">losses as expected</span>", f);
    else fputs("<span class=\"badge plain\">losses not measured</span>", f);
    if (!r->complete) {
        fputs("<span class=\"badge bad\">incomplete", f);
        if (*cst_compare_text(r, NULL, "stopped")) fputs(": ", f);
        cst_html_text(f, cst_compare_text(r, NULL, "stopped"));
        fputs("</span>", f);
    }
    if (json_is_true(json_object_get(r->json, "quick"))) fputs("<span class=\"badge plain\">quick</span>", f);
    fputc('\n', f);
}

static void write_extensions(FILE *f, const cst_result *r)
{
    const json_t *list = json_object_get(json_object_get(r->json, "device"), "extensions"), *e;
    size_t k;
    if (!json_array_size(list)) return;
    fprintf(f, "<details><summary>%zu extensions</summary><p>", json_array_size(list));
    json_array_foreach((json_t *)list, k, e) {
        if (k) fputc(' ', f);
        cst_html_text(f, json_string_value(e));
    }
    fputs("</p></details>\n", f);
}

static void write_card(FILE *f, const cst_compare *c, int i)
{
    char text[256];
    const cst_result *r = &c->result[i];
    fprintf(f, "<div class=\"card\" style=\"--d:var(--d%d)\"><h3>", colour(i));
    cst_html_text(f, r->name);
    fputs("</h3>\n", f);
    write_badges(f, c, i);
    fputs("<table>\n", f);
    fact(f, "device", cst_compare_text(r, "device", "name"));
    snprintf(text, sizeof text, "%s, %.0f units at %.0f MHz", cst_compare_text(r, "device", "type"),
             cst_compare_number(r, "device", "compute_units"), cst_compare_number(r, "device", "clock_mhz"));
    fact(f, "kind", text);
    bytes_fact(f, "memory", cst_compare_number(r, "device", "memory_bytes"));
    bytes_fact(f, "largest buffer", cst_compare_number(r, "device", "max_alloc_bytes"));
    bytes_fact(f, "local memory", cst_compare_number(r, "device", "local_bytes"));
    fact(f, "platform", cst_compare_text(r, "device", "platform"));
    fact(f, "driver", cst_compare_text(r, "device", "driver"));
    fact(f, "OpenCL", cst_compare_text(r, "device", "version"));
    fact(f, "compiler", cst_compare_text(r, "device", "opencl_c"));
    snprintf(text, sizeof text, "%s, %.0f cores", cst_compare_text(r, "environment", "cpu"), cst_compare_number(r, "environment", "cores"));
    fact(f, "host", text);
    snprintf(text, sizeof text, "%s, kernel %s", cst_compare_text(r, "environment", "os"), cst_compare_text(r, "environment", "kernel"));
    fact(f, "system", text);
    snprintf(text, sizeof text, "%s, castor %s", cst_compare_text(r, NULL, "date"), cst_compare_text(r, NULL, "castor"));
    fact(f, "measured", text);
    fputs("</table>\n", f);
    write_extensions(f, r);
    fputs("</div>\n", f);
}

/* ---- bars ---- */

static void write_bars(FILE *f, const cst_compare *c, const char *title, const char *row, const char *what)
{
    char text[48];
    double most = 0;
    for (int i = 0; i < c->results; i++) {
        const cst_row *r = cst_compare_best(c, row, what, i);
        if (r && r->value > most) most = r->value;
    }
    if (!(most > 0)) return;
    fprintf(f, "<figure><figcaption><b>%s</b></figcaption>\n", title);
    for (int i = 0; i < c->results; i++) {
        const cst_row *r = cst_compare_best(c, row, what, i);
        fprintf(f, "<div class=\"b\" style=\"--d:var(--d%d)\"><div><span>", colour(i));
        cst_html_text(f, c->result[i].name);
        if (r) fprintf(f, "</span><span>%s %s</span></div><span class=\"bar\" style=\"width:%.2f%%\"></span></div>\n",
                       cst_compare_value_text(text, r->value), r->unit, 100 * r->value / most);
        else fputs("</span><span class=\"r\">not measured</span></div></div>\n", f);
    }
    fputs("</figure>\n", f);
}

/* ---- tables ---- */

static void write_title(FILE *f, const cst_row *r)
{
    char text[48];
    fputs(" title=\"", f);
    cst_html_text(f, r->what);
    fputs(": ", f);
    if (r->seconds > 0) fprintf(f, "a call %s ms, spread %.1f %%; ", cst_compare_value_text(text, 1e3 * r->seconds), 100 * r->spread);
    if (r->ceiling > 0) {
        fprintf(f, "ceiling %s %s: ", cst_compare_value_text(text, r->ceiling), r->unit);
        cst_html_text(f, r->ceiling_of);
        fputs("; ", f);
    }
    if (r->error >= 0) fprintf(f, "error %.2g, limit %.2g", r->error, r->limit);
    fputc('"', f);
}

/* A bar is as long as the figure is good: for times the shortest one is the longest bar.
 * A result alone is as good as its part of the ceiling. */
static double bar_of(const cst_compare *c, const cst_compare_line *l, int i)
{
    double least = INFINITY, v = l->cell[i]->value, most = l->cell[i]->ceiling;
    if (c->results == 1) return !(most > 0) || !(v > 0) ? 0 : fmin(1, l->less ? most / v : v / most);
    for (int k = 0; k < c->results; k++)
        if (cst_compare_has(l, k) && l->cell[k]->value < least) least = l->cell[k]->value;
    return l->less ? v > 0 ? least / v : 1 : l->most > 0 ? v / l->most : 0;
}

static void write_cell(FILE *f, const cst_compare *c, const cst_compare_line *l, int i)
{
    char text[48];
    const cst_row *r = l->cell[i];
    double ratio = cst_compare_ratio(c, l, i);
    fprintf(f, "<td style=\"--d:var(--d%d)\" data-d=\"", colour(i));
    cst_html_text(f, c->result[i].name);
    fputc('"', f);
    if (!cst_compare_has(l, i)) {
        fputs(" class=\"no\">", f);
        cst_html_text(f, r ? r->missing : "\u2013");
        fputs("</td>", f);
        return;
    }
    write_title(f, r);
    fprintf(f, ">%s", cst_compare_value_text(text, r->value));
    if (r->ceiling > 0) fprintf(f, "<small>%.0f&nbsp;%%</small>", 100 * (r->less ? r->ceiling / r->value : r->value / r->ceiling));
    if (c->results > 1 && isfinite(ratio)) fprintf(f, "<small>%s\u00d7</small>", cst_compare_value_text(text, ratio));
    double bar = bar_of(c, l, i);
    if (bar > 0) fprintf(f, "<span class=\"bar\" style=\"width:%.1f%%\"></span>", 100 * bar);
    fputs("</td>", f);
}

static void open_table(FILE *f, const cst_compare *c, const char *row)
{
    fprintf(f, "<h2>%s<small>", row);
    cst_html_text(f, cst_compare_about(row));
    fputs("</small></h2>\n<table class=\"cmp\"><thead><tr><th>case</th>", f);
    for (int i = 0; i < c->results; i++) {
        fprintf(f, "<th style=\"--d:var(--d%d)\">", colour(i));
        cst_html_text(f, c->result[i].name);
        fputs("</th>", f);
    }
    fputs("</tr></thead>\n<tbody>\n", f);
}

static void write_tables(FILE *f, const cst_compare *c)
{
    for (int k = 0; k < c->lines; k++) {
        const cst_compare_line *l = &c->line[k];
        if (!k || strcmp(l->row, c->line[k - 1].row)) open_table(f, c, l->row);
        fputs("<tr><th>", f);
        cst_html_text(f, l->what);
        if (l->unit) fprintf(f, " <small>%s%s</small>", l->unit, l->less ? ", less is better" : "");
        fputs("</th>", f);
        for (int i = 0; i < c->results; i++) write_cell(f, c, l, i);
        fputs("</tr>\n", f);
        if (k + 1 == c->lines || strcmp(l->row, c->line[k + 1].row)) fputs("</tbody></table>\n", f);
    }
}

static void write_losses(FILE *f, const cst_compare *c)
{
    char text[48];
    for (int i = 0; i < c->results; i++) {
        const json_t *run;
        size_t k;
        json_array_foreach(json_object_get(c->result[i].json, "training"), k, run) {
            const json_t *list = json_object_get(run, "losses"), *v = json_object_get(run, "difference");
            if (!list) continue;
            fputs("<tr><th>", f);
            cst_html_text(f, c->result[i].name);
            fprintf(f, "</th><td>%s</td><td>", json_string_value(json_object_get(run, "run")));
            for (size_t s = 0; s < json_array_size(list); s++) {
                const json_t *x = json_array_get(list, s);
                if (json_is_number(x)) fprintf(f, "%s%.4f", s ? " " : "", json_number_value(x));
                else fprintf(f, "%snot finite", s ? " " : "");
            }
            int known = json_is_number(v), fine = known && json_number_value(v) <= json_number_value(json_object_get(run, "tolerance"));
            snprintf(text, sizeof text, known ? "%.1e" : "not finite", json_number_value(v));
            fprintf(f, "</td><td%s>%s</td></tr>\n", fine ? "" : " class=\"wrong\"", text);
        }
    }
}

/* ---- */

static void write_head(FILE *f, const cst_compare *c)
{
    fprintf(f,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>Castor: what OpenCL devices can do</title>\n"
            "<style>\n%s%s</style>\n</head>\n<body>\n<h1>What %s can do</h1>\n<p class=\"sub\">",
            cst_page_style, style, c->results > 1 ? "OpenCL devices" : "an OpenCL device");
    fputs("Measured with castor bench submit. ", f);
    if (c->results > 1) {
        fputs("\u00d7: how many times as good as ", f);
        if (c->best) fputs("the best of them", f);
        else cst_html_text(f, c->result[0].name);
        fputs(". ", f);
    }
    fputs("%: of the row\u2019s ceiling, which is measured or stated, as the figure says when it is pointed at.</p>\n", f);
}

void cst_compare_page(FILE *f, const cst_compare *c)
{
    write_head(f, c);
    fputs("<div class=\"cards\">\n", f);
    for (int i = 0; i < c->results; i++) write_card(f, c, i);
    fputs("</div>\n<h2>In short</h2>\n<div class=\"bars\">\n", f);
    write_bars(f, c, "Training OPT-125M, 1 x 128 tokens, fp32", CST_COMPARE_TRAINING, "opt-125m, speed");
    write_bars(f, c, "Training a tiny model, 4 x 64 tokens, fp32", CST_COMPARE_TRAINING, "tiny, speed");
    write_bars(f, c, "Best matrix product", "gemm", NULL);
    write_bars(f, c, "Multiply-adds", "peak", NULL);
    write_bars(f, c, "Memory: triad", "triad", NULL);
    write_bars(f, c, "Best Fourier transform", "fft", NULL);
    fputs("</div>\n<h2>Rooflines<small>what each row reaches, under what multiply-adds and memory allow</small></h2>\n", f);
    cst_compare_rooflines(f, c);
    write_tables(f, c);
    fputs("<h2>Losses<small>a device that computes rightly has the same, up to rounding</small></h2>\n<table class=\"losses\">"
          "<tr><th>device</th><th>run</th><th>loss of each step</th><th>largest difference</th></tr>\n",
          f);
    write_losses(f, c);
    fputs("</table>\n</body>\n</html>\n", f);
}
