#include "train/trace_page.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "train/chart.h"

#define WIDTH 1000.0  /* of the drawings, in their own units */
#define HEIGHT 400.0
#define COLUMNS 500   /* of the areas at most */
#define TITLED 3000   /* spans of a lane that say what they are when pointed at */
#define ROWS 10       /* of a table */

typedef struct page {
    FILE *f;
    const cst_trace *t;
    const cst_plan *p;
    const cst_timeline *l;
    uint64_t budget;
    cst_level *level;
    int levels;
    uint64_t peak[CST_CLASS_COUNT], most; /* scratch included */
    double *present;                      /* [tensors] s on the device */
    uint64_t *up, *down;                  /* [tensors] bytes an iteration */
    cst_trace_kind *kind;
    int kinds;
    int *order;                           /* [tensors or moments] rows of a table */
    double unit, tick, top;               /* of the memory axis: bytes a unit; units */
    const char *unit_name;
} page;

static const char style[] =
    ":root{--c0:#1f6fd0;--c1:#d0680a;--c2:#7b4fc4;--c3:#1b8a52;--c4:#6b7785;--c5:#b3267d;--wait:#c22a1e;--op:#46515e}\n"
    "@media(prefers-color-scheme:dark){:root{--c0:#5ea6fb;--c1:#f59a45;--c2:#b394f7;--c3:#4cc285;--c4:#93a0b0;--c5:#f57fbc;"
    "--wait:#ff7b6b;--op:#aeb9c6}}\n"
    "p.say{max-width:62rem;margin:0 0 1.2rem}\n"
    ".key.k::before{height:.75em;width:.75em;border-radius:.15em;vertical-align:-.05em;background:var(--k)}\n"
    "figure.wide{padding-bottom:.2rem}figure.wide figcaption b{flex:1 0 100%}\n"
    ".plot.mem{height:18rem;margin:1.5rem 0 .4rem 5.2rem}.plot.mem path{stroke:var(--card);stroke-width:.7}\n"
    ".plot.mem path.grid{stroke:var(--rule);stroke-width:1}.plot.mem path.cap{stroke:var(--ink);stroke-width:1.4;stroke-dasharray:6 4}\n"
    ".plot .capname{right:0;margin-bottom:.3rem;color:var(--ink)}\n"
    ".plot.lane{height:1.35rem;margin:0 0 .35rem 5.2rem;background:var(--paper);border-radius:.2rem}\n"
    ".plot.lane path{stroke:none}.plot.lane .y{bottom:50%;margin-bottom:-.5em}.plot.lane.last{margin-bottom:2.9rem}\n"
    ".plot.lane.last .xname{right:0;top:100%;margin-top:1.75rem}\n"
    ".tables{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr));gap:0 "
    "2.5rem}.tables>div{min-width:0;overflow-x:auto}\n"
    ".list{overflow-wrap:break-word}.list th,.list td{width:auto;padding-right:1.1rem;overflow-wrap:inherit}.list th{white-space:nowrap}\n"
    ".list .n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\n"
    ".list td:last-child,.list th:last-child{padding-right:0}\n"
    ".list td.w{position:relative;padding-left:1.2em;overflow-wrap:anywhere}.list th.w{padding-left:1.2em}\n"
    ".dot{position:absolute;left:0;top:.75em;width:.7em;height:.7em;border-radius:.15em;background:var(--k)}\n"
    ".bar{display:block;height:.3em;min-width:1px;border-radius:.15em;background:var(--op);margin-top:.2em}.none{padding:.3rem 0}\n"
    "@media(max-width:34rem){.plot.mem,.plot.lane{margin-left:4.5rem}.plot.mem{height:14rem}.list{font-size:.82rem}.list "
    ".s{display:none}.list th,.list td{padding-right:.6rem}}\n";

/* "4.00 GiB", "12.5 MiB", "128 KiB" */
static const char *bytes_text(char buf[48], double bytes)
{
    const char *name;
    double v = bytes / cst_bytes_unit(bytes, &name);
    snprintf(buf, 48, "%.*f %s", v >= 99.95 || v <= 0 ? 0 : v >= 9.995 ? 1 : 2, v, v > 0 ? name : "bytes");
    return buf;
}

static double time_unit(double most, const char **name)
{
    *name = most >= 1 || most <= 0 ? "s" : most >= 1e-3 ? "ms" : "\u00b5s";
    return most >= 1 || most <= 0 ? 1 : most >= 1e-3 ? 1e-3 : 1e-6;
}

static const char *time_text(char buf[48], double s)
{
    const char *name;
    double by = time_unit(s, &name);
    snprintf(buf, 48, "%.3g %s", s / by, name);
    return buf;
}

static double x_of(const page *g, double s)
{
    return g->l->seconds > 0 ? WIDTH * s / g->l->seconds : 0;
}

static uint64_t bytes_of(const page *g, const cst_level *v, int cls)
{
    return v->bytes[cls] + (cls == CST_SCRATCH ? g->t->scratch : 0);
}

/* ---- what the tables need ---- */

static void count(page *g)
{
    for (int i = 0; i < g->levels; i++) {
        for (int c = 0; c < CST_CLASS_COUNT; c++)
            if (bytes_of(g, &g->level[i], c) > g->peak[c]) g->peak[c] = bytes_of(g, &g->level[i], c);
        if (g->level[i].sum + g->t->scratch > g->most) g->most = g->level[i].sum + g->t->scratch;
    }
    for (int i = g->l->first[CST_LANE_ROOM]; i < g->l->first[CST_LANE_ROOM + 1]; i++)
        g->present[g->l->span[i].tensor] += g->l->span[i].end - g->l->span[i].begin;
    for (int i = 0; i < g->p->actions; i++) {
        const cst_plan_action *a = &g->p->action[i];
        if (a->moves) *(a->kind == CST_PLAN_UPLOAD ? &g->up[a->tensor] : &g->down[a->tensor]) += g->t->tensor[a->tensor].bytes;
    }
}

/* ---- head ---- */

static void tile(FILE *f, const char *name, const char *value)
{
    fprintf(f, "<div><dt>%s</dt><dd>%s</dd></div>\n", name, value);
}

static void write_head(const page *g)
{
    FILE *f = g->f;
    fprintf(f,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>Castor: device memory of a "
            "step</title>\n<style>\n%s%s</style>\n"
            "</head>\n<body>\n<h1>Device memory of a training step</h1>\n<p class=\"sub\">",
            cst_page_style, style);
    cst_html_text(f, g->t->about);
    fputs(*g->t->about && *g->t->device ? ", on " : "", f);
    cst_html_text(f, g->t->device);
    fputs("</p>\n", f);
}

static void write_tiles(const page *g)
{
    char a[48], b[48], text[120];
    const cst_plan *p = g->p;
    double s = g->l->seconds;
    fputs("<dl class=\"tiles\">\n", g->f);
    tile(g->f, "budget", bytes_text(a, (double)g->budget));
    tile(g->f, "peak on the device", bytes_text(a, (double)(p->bytes + g->t->scratch)));
    tile(g->f, "a step", time_text(a, s));
    snprintf(text, sizeof text, "waiting, %.0f %% of it", s > 0 ? 100 * g->l->stall / s : 0);
    tile(g->f, text, time_text(a, g->l->stall));
    tile(g->f, "uploaded a step", bytes_text(a, (double)p->up_bytes));
    tile(g->f, "downloaded a step", bytes_text(b, (double)p->down_bytes));
    tile(g->f, "peak on the host", bytes_text(b, (double)p->host_bytes));
    fputs("</dl>\n", g->f);
}

static void write_words(const page *g, uint64_t resident)
{
    char a[48], b[48], d[48], e[48];
    const char *limit = cst_timeline_limit(g->l);
    double s = g->l->seconds > 0 ? g->l->seconds : 1;
    fprintf(g->f, "<p class=\"say\">The budget is %.0f %% of the %s within which nothing would ever move. ",
            100 * (double)g->budget / (double)resident, bytes_text(a, (double)resident));
    if (g->p->up_count + g->p->down_count)
        fprintf(g->f,
                "In each step %s tensors go up and %s come down, %s in all; the upload queue is busy for %.0f %% of the time, the download "
                "queue for %.0f %%. ",
                cst_number_text(d, (double)g->p->up_count), cst_number_text(e, (double)g->p->down_count),
                bytes_text(b, (double)(g->p->up_bytes + g->p->down_bytes)), 100 * g->l->busy[CST_LANE_UP] / s,
                100 * g->l->busy[CST_LANE_DOWN] / s);
    else fputs("Nothing moves. ", g->f);
    if (*limit == 'c') fprintf(g->f, "Operators alone set the pace%s.", g->p->up_count ? ": transfers hide behind them" : "");
    else if (*limit == 'r') fputs("Room sets the pace: transfers can\u2019t begin in time, because their place is still taken.", g->f);
    else
        fprintf(g->f, "%s set the pace: one is under way during %.0f %% of the time that operators wait.",
                *limit == 'u' ? "Uploads" : "Downloads", 100 * g->l->stall_with[*limit == 'u' ? CST_LANE_UP : CST_LANE_DOWN] / g->l->stall);
    fputs("</p>\n", g->f);
}

/* ---- memory over time ---- */

/* The level in force with the largest sum, in one column; *from goes on to the column's last one. */
static const cst_level *highest(const page *g, int *from, double until)
{
    const cst_level *v = &g->level[*from];
    while (*from + 1 < g->levels && g->level[*from + 1].at < until) {
        (*from)++;
        if (g->level[*from].sum > v->sum) v = &g->level[*from];
    }
    return v;
}

static double y_of(const page *g, double bytes)
{
    return HEIGHT * (1 - bytes / g->unit / g->top);
}

/* The class's area: its upper edge forwards, its lower edge back. */
static void write_area(const page *g, int cls, const cst_level *const *column)
{
    double upper[COLUMNS], lower[COLUMNS];
    for (int i = 0; i < COLUMNS; i++) {
        double b = 0;
        for (int c = 0; c < cls; c++) b += (double)bytes_of(g, column[i], c);
        lower[i] = y_of(g, b);
        upper[i] = y_of(g, b + (double)bytes_of(g, column[i], cls));
    }
    fprintf(g->f, "<path style=\"fill:var(--c%d)\" d=\"M0 %.1f", cls, upper[0]);
    for (int i = 1; i < COLUMNS; i++)
        if (fabs(upper[i] - upper[i - 1]) >= 0.05) fprintf(g->f, "H%.1fV%.1f", WIDTH * i / COLUMNS, upper[i]);
    fprintf(g->f, "H%gV%.1f", WIDTH, lower[COLUMNS - 1]);
    for (int i = COLUMNS - 1; i > 0; i--)
        if (fabs(lower[i] - lower[i - 1]) >= 0.05) fprintf(g->f, "H%.1fV%.1f", WIDTH * i / COLUMNS, lower[i - 1]);
    fputs("H0z\"/>\n", g->f);
}

static void write_memory(const page *g)
{
    FILE *f = g->f;
    char a[48];
    const cst_level *column[COLUMNS];
    int at = 0, cap = (double)g->budget <= g->top * g->unit * 1.0001;
    for (int i = 0; i < COLUMNS; i++) column[i] = highest(g, &at, g->l->seconds * (i + 1) / COLUMNS);
    fprintf(f, "<figure class=\"wide\">\n<figcaption><b>Device memory in one step, %s</b>", g->unit_name);
    for (int c = 0; c < CST_CLASS_COUNT; c++)
        if (g->peak[c])
            fprintf(f, " <span class=\"key k\" style=\"--k:var(--c%d)\">%s, up to %s</span>", c, cst_class_name((cst_class)c),
                    bytes_text(a, (double)g->peak[c]));
    fprintf(f,
            "</figcaption>\n<div class=\"plot mem\">\n<svg viewBox=\"0 0 %g %g\" preserveAspectRatio=\"none\" role=\"img\" "
            "aria-label=\"Device memory by class of "
            "tensor over one step\">\n<path class=\"grid\" d=\"",
            WIDTH, HEIGHT);
    int ticks = (int)(g->top / g->tick + 0.5);
    for (int i = 0; i <= ticks; i++) fprintf(f, "M0 %.1fH%g", HEIGHT * (1 - (double)i / ticks), WIDTH);
    fputs("\"/>\n", f);
    for (int c = 0; c < CST_CLASS_COUNT; c++)
        if (g->peak[c]) write_area(g, c, column);
    if (cap) fprintf(f, "<path class=\"cap\" d=\"M0 %.1fH%g\"/>\n", y_of(g, (double)g->budget), WIDTH);
    fputs("</svg>\n", f);
    for (int i = 0; i <= ticks; i++)
        fprintf(f, "<span class=\"y\" style=\"bottom:%.2f%%\">%s</span>\n", 100.0 * i / ticks, cst_number_text(a, i * g->tick));
    if (cap)
        fprintf(f, "<span class=\"capname\" style=\"bottom:%.2f%%\">budget %s</span>\n", 100 - 100 * y_of(g, (double)g->budget) / HEIGHT,
                bytes_text(a, (double)g->budget));
    fputs("</div>\n", f);
}

/* ---- lanes ---- */

static void lane_begin(const page *g, const char *name, const char *more)
{
    fprintf(g->f,
            "<div class=\"plot lane%s\">\n<svg viewBox=\"0 0 %g 10\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"%s over one "
            "step\">\n",
            more, WIDTH, name);
}

static void lane_end(const page *g, const char *name)
{
    fprintf(g->f, "</svg>\n<span class=\"y\">%s</span>\n", name);
}

/* Never thinner than what can be seen. */
static void box(const page *g, double begin, double end)
{
    double x = x_of(g, begin), w = x_of(g, end) - x;
    if (w < 0.5) w = 0.5;
    fprintf(g->f, "M%.2f 0h%.2fv10h-%.2fz", x, w, w);
}

/* Operators that follow each other without a wait are one box. */
static void write_operators(const page *g)
{
    const cst_span *s = &g->l->span[g->l->first[CST_LANE_COMPUTE]];
    int n = g->l->first[CST_LANE_COMPUTE + 1] - g->l->first[CST_LANE_COMPUTE];
    lane_begin(g, "operators", "");
    fputs("<path style=\"fill:var(--op)\" d=\"", g->f);
    for (int i = 0, from = 0; i < n; i++)
        if (i + 1 == n || x_of(g, s[i + 1].wait) >= 0.1) {
            box(g, s[from].begin, s[i].end);
            from = i + 1;
        }
    fputs("\"/>\n", g->f);
    lane_end(g, "operators");
    fputs("</div>\n", g->f);
    lane_begin(g, "waiting", "");
    for (int i = 0; i < n; i++) {
        char a[48];
        if (x_of(g, s[i].wait) < 0.1) continue;
        fputs("<path style=\"fill:var(--wait)\" d=\"", g->f);
        box(g, s[i].begin - s[i].wait, s[i].begin);
        fprintf(g->f, "\"><title>%s before ", time_text(a, s[i].wait));
        cst_html_text(g->f, g->t->moment[s[i].moment].op);
        fputs("</title></path>\n", g->f);
    }
    lane_end(g, "waiting");
    fputs("</div>\n", g->f);
}

static void write_transfers(const page *g, cst_lane lane, const char *name)
{
    int from = g->l->first[lane], to = g->l->first[lane + 1];
    lane_begin(g, name, lane == CST_LANE_DOWN ? " last" : "");
    for (int i = from; i < to; i++) {
        const cst_span *s = &g->l->span[i];
        const cst_trace_tensor *x = &g->t->tensor[s->tensor];
        char a[48], b[48];
        fprintf(g->f, "<path style=\"fill:var(--c%d)\" d=\"", x->cls);
        box(g, s->begin, s->end);
        if (to - from <= TITLED) {
            fputs("\"><title>", g->f);
            cst_html_text(g->f, x->name);
            fprintf(g->f, ": %s at %s</title></path>\n", bytes_text(a, (double)s->bytes), time_text(b, s->begin));
        } else fputs("\"/>\n", g->f);
    }
    lane_end(g, name);
}

static void write_lanes(const page *g)
{
    const char *unit;
    char a[48];
    double by = time_unit(g->l->seconds, &unit), tick = g->l->seconds > 0 ? cst_chart_tick(0.7 * g->l->seconds / by) : 1;
    write_operators(g);
    write_transfers(g, CST_LANE_UP, "uploads");
    fputs("</div>\n", g->f);
    write_transfers(g, CST_LANE_DOWN, "downloads");
    for (double v = 0; v * by <= g->l->seconds * (1 + 1e-9) && g->l->seconds > 0; v += tick)
        fprintf(g->f, "<span class=\"x\" style=\"left:%.2f%%\">%s</span>\n", 100 * v * by / g->l->seconds, cst_number_text(a, v));
    fprintf(g->f, "<span class=\"xname\">time in the step, %s</span>\n</div>\n</figure>\n", unit);
}

/* ---- tables ---- */

static int by_wait(const void *a, const void *b, void *user)
{
    const page *g = user;
    int x = *(const int *)a, y = *(const int *)b;
    double v = g->l->span[x].wait, w = g->l->span[y].wait;
    return v != w ? v < w ? 1 : -1 : x - y;
}

static int by_bytes(const void *a, const void *b, void *user)
{
    const page *g = user;
    int x = *(const int *)a, y = *(const int *)b;
    uint64_t m = g->t->tensor[x].bytes, n = g->t->tensor[y].bytes;
    return m != n ? m < n ? 1 : -1 : x - y;
}

static void tensor_cell(const page *g, int id)
{
    const cst_trace_tensor *x = &g->t->tensor[id];
    fprintf(g->f, "<td class=\"w\"><span class=\"dot\" style=\"--k:var(--c%d)\"></span>", x->cls);
    cst_html_text(g->f, x->name);
    fputs("</td>", g->f);
}

static void write_waits(page *g)
{
    char a[48], b[48];
    int n = g->l->first[CST_LANE_COMPUTE + 1] - g->l->first[CST_LANE_COMPUTE];
    for (int i = 0; i < n; i++) g->order[i] = g->l->first[CST_LANE_COMPUTE] + i;
    qsort_r(g->order, (size_t)n, sizeof *g->order, by_wait, g);
    fputs("<h2>Longest waits</h2>\n", g->f);
    if (!n || !(g->l->span[g->order[0]].wait > 1e-9 * g->l->seconds)) {
        fputs("<p class=\"none\">No operator waits.</p>\n", g->f);
        return;
    }
    fputs("<table class=\"list\"><tr><th class=\"n\">wait</th><th class=\"n\">at</th><th>before</th><th class=\"w\">for</th></tr>\n", g->f);
    for (int i = 0; i < n && i < ROWS && g->l->span[g->order[i]].wait > 1e-9 * g->l->seconds; i++) {
        const cst_span *s = &g->l->span[g->order[i]];
        fprintf(g->f, "<tr><td class=\"n\">%s</td><td class=\"n\">%s</td><td>", time_text(a, s->wait), time_text(b, s->begin - s->wait));
        cst_html_text(g->f, g->t->moment[s->moment].op);
        fputs("</td>", g->f);
        if (s->tensor >= 0) tensor_cell(g, s->tensor);
        else fputs("<td></td>", g->f);
        fputs("</tr>\n", g->f);
    }
    fputs("</table>\n", g->f);
}

static void write_tensors(page *g)
{
    char a[48], b[48], c[48];
    for (int i = 0; i < g->t->tensors; i++) g->order[i] = i;
    qsort_r(g->order, (size_t)g->t->tensors, sizeof *g->order, by_bytes, g);
    fputs("<h2>Largest tensors</h2>\n<table class=\"list\"><tr><th class=\"w\">tensor</th><th class=\"n\">size</th><th class=\"n s\">on "
          "device</th><th class=\"n\">up</th>"
          "<th class=\"n\">down</th></tr>\n",
          g->f);
    for (int i = 0; i < g->t->tensors && i < ROWS; i++) {
        int id = g->order[i];
        fputs("<tr>", g->f);
        tensor_cell(g, id);
        fprintf(g->f, "<td class=\"n\">%s</td><td class=\"n s\">%.0f %%</td><td class=\"n\">%s</td><td class=\"n\">%s</td></tr>\n",
                bytes_text(a, (double)g->t->tensor[id].bytes), g->l->seconds > 0 ? 100 * g->present[id] / g->l->seconds : 0,
                g->up[id] ? bytes_text(b, (double)g->up[id]) : "\u2013", g->down[id] ? bytes_text(c, (double)g->down[id]) : "\u2013");
    }
    fputs("</table>\n", g->f);
}

static void write_classes(const page *g)
{
    char a[48], b[48], c[48], d[48];
    fputs("<h2>Classes</h2>\n<table class=\"list\"><tr><th class=\"w\">class</th><th class=\"n s\">tensors</th><th class=\"n\">most on "
          "device</th><th class=\"n\">up</th>"
          "<th class=\"n\">down</th></tr>\n",
          g->f);
    for (int k = 0; k < CST_CLASS_COUNT; k++) {
        uint64_t up = 0, down = 0;
        int n = 0;
        for (int i = 0; i < g->t->tensors; i++)
            if (g->t->tensor[i].cls == k) n++, up += g->up[i], down += g->down[i];
        if (!g->peak[k] && !n) continue;
        fprintf(g->f,
                "<tr><td class=\"w\"><span class=\"dot\" style=\"--k:var(--c%d)\"></span>%s</td><td class=\"n s\">%s</td><td "
                "class=\"n\">%s</td><td class=\"n\">%s</td>"
                "<td class=\"n\">%s</td></tr>\n",
                k, cst_class_name((cst_class)k), cst_number_text(d, n), bytes_text(a, (double)g->peak[k]),
                up ? bytes_text(b, (double)up) : "\u2013", down ? bytes_text(c, (double)down) : "\u2013");
    }
    fputs("</table>\n", g->f);
}

static void write_operator_kinds(const page *g)
{
    char a[48], b[48];
    fputs("<h2>Operators</h2>\n<table class=\"list\"><tr><th>operator</th><th class=\"n\">times</th><th class=\"n\">in all</th><th "
          "class=\"n\">share</th></tr>\n",
          g->f);
    for (int i = 0; i < g->kinds && i < 2 * ROWS; i++) {
        const cst_trace_kind *k = &g->kind[i];
        double share = g->l->busy[CST_LANE_COMPUTE] > 0 ? 100 * k->seconds / g->l->busy[CST_LANE_COMPUTE] : 0;
        fputs("<tr><td>", g->f);
        cst_html_text(g->f, k->op);
        fprintf(g->f,
                "<span class=\"bar\" style=\"width:%.1f%%\"></span></td><td class=\"n\">%s</td><td class=\"n\">%s</td><td class=\"n\">%.1f "
                "%%</td></tr>\n",
                share, cst_number_text(a, k->count), time_text(b, k->seconds), share);
    }
    fputs("</table>\n", g->f);
}

/* ---- */

static void write_page(page *g, uint64_t resident)
{
    double most = (double)(g->budget < 1.5 * (double)g->most && g->budget > g->most ? g->budget : g->most);
    g->unit = cst_bytes_unit(most, &g->unit_name);
    g->tick = cst_chart_tick(most > 0 ? most / g->unit : 1);
    g->top = ceil(most / g->unit / g->tick - 1e-9) * g->tick;
    if (!(g->top > 0)) g->top = g->tick;
    write_head(g);
    write_tiles(g);
    write_words(g, resident);
    write_memory(g);
    write_lanes(g);
    fputs("<div class=\"tables\">\n", g->f);
    fputs("<div>", g->f);
    write_classes(g);
    write_tensors(g);
    fputs("</div>\n<div>", g->f);
    write_waits(g);
    write_operator_kinds(g);
    fputs("</div>\n</div>\n</body>\n</html>\n", g->f);
}

cst_status cst_trace_page_write(const char *path, const cst_trace *t, const cst_plan *p, const cst_timeline *l, uint64_t budget)
{
    page g = {.t = t, .p = p, .l = l, .budget = budget};
    size_t size, n = (size_t)(t->tensors > t->moments ? t->tensors : t->moments) + 1;
    uint64_t resident;
    char *text = NULL;
    cst_status st;
    CST_TRY(cst_plan_resident(&resident, t));
    CST_TRY(cst_timeline_levels(&g.level, &g.levels, l, t));
    CST_GO(cst_trace_kinds(&g.kind, &g.kinds, t), out);
    g.present = calloc(n, sizeof *g.present);
    g.up = calloc(n, sizeof *g.up);
    g.down = calloc(n, sizeof *g.down);
    g.order = calloc(n, sizeof *g.order);
    if (!g.present || !g.up || !g.down || !g.order || !(g.f = open_memstream(&text, &size))) {
        st = cst_fail(CST_NO_MEMORY, "%s", path);
        goto out;
    }
    count(&g);
    write_page(&g, resident + t->scratch);
    int bad = ferror(g.f);
    if (fclose(g.f) || bad) st = cst_fail(CST_NO_MEMORY, "%s", path);
    else st = cst_file_write(path, text, size);
out:
    free(text);
    free(g.level);
    free(g.kind);
    free(g.present);
    free(g.up);
    free(g.down);
    free(g.order);
    return st;
}
