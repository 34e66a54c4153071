#include "train/chart.h"

#include <math.h>
#include <string.h>

#define WIDTH 1000.0 /* of the drawing, in its own units */
#define HEIGHT 400.0
#define POINTS 400   /* of a line at most */
#define TICKS 4

const char cst_page_style[] =
    ":root{color-scheme:light dark;--paper:#fff;--card:#f6f7f9;--ink:#1c2127;--soft:#5f6b7a;--rule:#d9dee5;--a:#1f6fd0;--b:#c2570c}\n"
    "@media(prefers-color-scheme:dark){:root{--paper:#14171b;--card:#1d2127;--ink:#e6e9ee;--soft:#9aa6b5;--rule:#343b45;--a:#6cb0ff;--b:#ffa657}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;padding:1.2rem;max-width:80rem;background:var(--paper);color:var(--ink);font:15px/1.45 system-ui,sans-serif}\n"
    "h1{font-size:1.35rem;margin:0 0 .2rem;overflow-wrap:anywhere}h2{font-size:1.05rem;margin:1.6rem 0 .5rem}\n"
    ".sub{color:var(--soft);margin:0 0 1rem;overflow-wrap:anywhere}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.7rem;margin:0 0 1.2rem;padding:0}\n"
    ".tiles div{background:var(--card);border-radius:.5rem;padding:.6rem .8rem}\n"
    ".tiles dt{color:var(--soft);font-size:.85rem}.tiles dd{margin:0;font-size:1.15rem;font-weight:600;overflow-wrap:anywhere}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,28rem),1fr));gap:1rem}\n"
    "figure{margin:0;background:var(--card);border-radius:.5rem;padding:.8rem 1.7rem .5rem .8rem;min-width:0}\n"
    "figcaption{display:flex;flex-wrap:wrap;gap:.1rem .9rem;align-items:baseline;min-height:1.6rem}\n"
    ".key{color:var(--soft);font-size:.85rem}\n"
    ".key::before{content:\"\";display:inline-block;width:.9em;height:.25em;margin-right:.35em;vertical-align:middle;background:var(--a)}\n"
    ".key.s1::before{background:var(--b)}\n"
    ".plot{position:relative;height:13rem;margin:.8rem 0 1.7rem 3.6rem}\n"
    ".plot svg{display:block;width:100%;height:100%;overflow:visible}\n"
    ".plot path{fill:none;vector-effect:non-scaling-stroke;stroke-linejoin:round}\n"
    ".grid{stroke:var(--rule);stroke-width:1}.line{stroke-width:1.8}.s0{stroke:var(--a)}.s1{stroke:var(--b)}\n"
    ".band{stroke-width:2.5;opacity:.22}.dot{stroke-width:7;stroke-linecap:round}\n"
    ".plot span{position:absolute;color:var(--soft);font-size:.78rem;line-height:1;font-variant-numeric:tabular-nums;white-space:nowrap}\n"
    ".y{right:100%;margin:0 .5rem -.4em 0}.x{top:100%;margin-top:.5rem;transform:translateX(-50%)}\n"
    ".none{color:var(--soft);padding:2rem 0}\n"
    "table{border-collapse:collapse;width:100%;font-size:.9rem}\n"
    "th,td{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--rule);overflow-wrap:anywhere}\n"
    "th{font-weight:400;color:var(--soft);width:13rem}\n"
    "summary{cursor:pointer;font-weight:600;padding:.5rem 0}\n"
    "@media(max-width:34rem){body{padding:.8rem}th{width:38%}.plot{margin-left:3.1rem;height:11rem}}\n";

void cst_html_text(FILE *f, const char *s)
{
    for (; *s; s++) switch (*s) {
        case '&': fputs("&amp;", f); break;
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        case '"': fputs("&quot;", f); break;
        case '\'': fputs("&#39;", f); break;
        default: fputc(*s, f);
        }
}

const char *cst_number_text(char buf[48], double v)
{
    char digits[40];
    if (fabs(v) < 1000 || fabs(v) >= 1e15) {
        snprintf(buf, 48, "%.4g", v);
        return buf;
    }
    int n = snprintf(digits, sizeof digits, "%.0f", fabs(v)), at = 0;
    if (v < 0) buf[at++] = '-';
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) buf[at++] = ',';
        buf[at++] = digits[i];
    }
    buf[at] = 0;
    return buf;
}

double cst_bytes_unit(double most, const char **name)
{
    *name = most >= 1073741824.0 ? "GiB" : most >= 1048576.0 ? "MiB" : "KiB";
    return most >= 1073741824.0 ? 1073741824.0 : most >= 1048576.0 ? 1048576.0 : 1024.0;
}

typedef struct axis {
    double low, high, tick; /* low and high are multiples of tick */
} axis;

double cst_chart_tick(double range)
{
    double raw = range / TICKS, power = pow(10, floor(log10(raw)));
    return power * (raw <= power ? 1 : raw <= 2 * power ? 2 : raw <= 5 * power ? 5 : 10);
}

static axis axis_of(const cst_chart *c)
{
    axis a = {INFINITY, -INFINITY, 1};
    for (int k = 0; k < c->count; k++)
        for (size_t i = 0; i < c->n; i++) {
            double v = c->series[k].y[i] / c->unit;
            if (v < a.low) a.low = v;
            if (v > a.high) a.high = v;
        }
    if (a.low > a.high) return a;
    if (c->from_zero && a.low > 0) a.low = 0;
    if (a.high - a.low < 1e-9 * fabs(a.high) || a.high == a.low) a.high = a.low + (a.low == 0 ? 1 : fabs(a.low) * 0.1);
    a.tick = cst_chart_tick(a.high - a.low);
    a.low = floor(a.low / a.tick + 1e-9) * a.tick;
    a.high = ceil(a.high / a.tick - 1e-9) * a.tick;
    return a;
}

/* From 0 to 1. */
static double x_of(const cst_chart *c, double step)
{
    double first = c->step[0], last = c->step[c->n - 1];
    return last > first ? (step - first) / (last - first) : 0.5;
}

static double y_of(const axis *a, double v)
{
    return (v - a->low) / (a->high - a->low);
}

typedef struct bucket {
    double x, mean, low, high;
    size_t n;
} bucket;

/* Values of steps [from, to). */
static bucket bucket_of(const cst_chart *c, const double *y, size_t from, size_t to)
{
    bucket b = {0, 0, INFINITY, -INFINITY, 0};
    for (size_t i = from; i < to; i++) {
        double v = y[i] / c->unit;
        if (!isfinite(v)) continue;
        b.x += x_of(c, c->step[i]);
        b.mean += v;
        if (v < b.low) b.low = v;
        if (v > b.high) b.high = v;
        b.n++;
    }
    if (b.n) b.x /= (double)b.n, b.mean /= (double)b.n;
    return b;
}

static void write_line(FILE *f, const cst_chart *c, int k, const axis *a)
{
    const cst_series *s = &c->series[k];
    size_t per = s->dots ? 1 : (c->n + POINTS - 1) / POINTS;
    int pen = 0;
    fprintf(f, "<path class=\"line s%d\" d=\"", k);
    for (size_t i = 0; i < c->n; i += per) {
        bucket b = bucket_of(c, s->y, i, i + per < c->n ? i + per : c->n);
        if (b.n) fprintf(f, "%s%.1f %.1f", pen ? "L" : "M", WIDTH * b.x, HEIGHT * (1 - y_of(a, b.mean)));
        if (b.n || !s->dots) pen = b.n != 0; /* a line is broken where values are missing; dots are rare by nature */
    }
    fputs("\"/>\n", f);
    if (per > 1) {
        fprintf(f, "<path class=\"band s%d\" d=\"", k);
        for (size_t i = 0; i < c->n; i += per) {
            bucket b = bucket_of(c, s->y, i, i + per < c->n ? i + per : c->n);
            if (b.n) fprintf(f, "M%.1f %.1fV%.1f", WIDTH * b.x, HEIGHT * (1 - y_of(a, b.low)), HEIGHT * (1 - y_of(a, b.high)));
        }
        fputs("\"/>\n", f);
    }
    if (!s->dots && c->n > 1) return;
    fprintf(f, "<path class=\"dot s%d\" d=\"", k);
    for (size_t i = 0; i < c->n; i++)
        if (isfinite(s->y[i])) fprintf(f, "M%.1f %.1fh0", WIDTH * x_of(c, c->step[i]), HEIGHT * (1 - y_of(a, s->y[i] / c->unit)));
    fputs("\"/>\n", f);
}

static void write_x_numbers(FILE *f, const cst_chart *c)
{
    char text[48];
    double first = c->step[0], last = c->step[c->n - 1], tick = last > first ? cst_chart_tick(last - first) : 1;
    if (tick < 1) tick = 1;
    for (double v = ceil(first / tick) * tick; v <= last; v += tick)
        fprintf(f, "<span class=\"x\" style=\"left:%.2f%%\">%s</span>\n", 100 * x_of(c, v), cst_number_text(text, v));
}

/* Last value and the best one, a series. */
static void write_caption(FILE *f, const cst_chart *c)
{
    char a[48], b[48], d[48];
    fputs("<figcaption><b>", f);
    cst_html_text(f, c->title);
    fputs("</b>", f);
    for (int k = 0; k < c->count; k++) {
        double last = NAN, low = INFINITY, high = -INFINITY;
        for (size_t i = 0; i < c->n; i++) {
            double v = c->series[k].y[i] / c->unit;
            if (!isfinite(v)) continue;
            last = v;
            if (v < low) low = v;
            if (v > high) high = v;
        }
        if (isnan(last)) continue;
        fprintf(f, " <span class=\"key s%d\">", k);
        cst_html_text(f, c->series[k].name);
        fprintf(f, " %s (%s to %s)</span>", cst_number_text(a, last), cst_number_text(b, low), cst_number_text(d, high));
    }
    fputs("</figcaption>\n", f);
}

void cst_chart_write(FILE *f, const cst_chart *c)
{
    char text[48];
    axis a = axis_of(c);
    fputs("<figure>\n", f);
    write_caption(f, c);
    if (!c->n || a.low > a.high) {
        fputs("<p class=\"none\">no values yet</p>\n</figure>\n", f);
        return;
    }
    fprintf(f, "<div class=\"plot\">\n<svg viewBox=\"0 0 %g %g\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    cst_html_text(f, c->title);
    fputs(" by step\">\n<path class=\"grid\" d=\"", f);
    int ticks = (int)((a.high - a.low) / a.tick + 0.5);
    for (int i = 0; i <= ticks; i++) fprintf(f, "M0 %.1fH%g", HEIGHT * (1 - (double)i / ticks), WIDTH);
    fputs("\"/>\n", f);
    for (int k = 0; k < c->count; k++) write_line(f, c, k, &a);
    fputs("</svg>\n", f);
    for (int i = 0; i <= ticks; i++) {
        double v = a.low + i * a.tick;
        if (fabs(v) < 1e-9 * a.tick) v = 0;
        fprintf(f, "<span class=\"y\" style=\"bottom:%.2f%%\">%s</span>\n", 100.0 * i / ticks, cst_number_text(text, v));
    }
    write_x_numbers(f, c);
    fputs("</div>\n</figure>\n", f);
}
