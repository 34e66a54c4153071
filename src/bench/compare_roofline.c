/* Rooflines (Williams, Waterman, Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009): what a device can
 * reach at an arithmetic intensity is the smaller of its multiply-add peak and of what its memory brings; a row's distance from that
 * is what is left to gain.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/compare.h"
#include "train/chart.h"

#define WIDTH 1000.0
#define HEIGHT 400.0
#define X_LOW -4.0 /* of the axis: log2 of FLOP a byte */
#define X_HIGH 11.0

/* Which rows are drawn, as what; `flops`: FLOP a byte of those whose shape doesn't matter. */
static const struct {
    const char *row, *what, *name;
    double flops;
} kinds[] = {
    {"gemm", "CLBlast", "matrix products, CLBlast", 0},
    {"gemm", "native", "matrix products, Castor's own", 0},
    {"gemm", "", "matrix products", 0},
    {"attention", "", "attention", 0},
    {"fft", "", "FFT", 0},
    {"layer-norm", "", "layer norm", 1},     /* 8 FLOP a number: mean, variance, (x - mean) * scale * gain + bias */
    {"softmax", "", "softmax", 0.5},         /* 4: maximum, difference, sum, quotient; the exponential isn't counted */
    {"reduction", "", "sum", 0.25},
    {"triad", "", "triad", 1.0 / 6},
};
#define KINDS ((int)(sizeof kinds / sizeof *kinds))

static int kind_of(const cst_row *r)
{
    int k = 0;
    while (k < KINDS && (strcmp(kinds[k].row, r->row) || !strstr(r->what, kinds[k].what))) k++;
    return k;
}

/* FLOP a byte when each operand is moved once, as fp32; 0 when the case doesn't tell. */
static double intensity_of(const cst_row *r)
{
    double m, n, k;
    int e;
    const char *p = strstr(r->what, "2^");
    if (!strcmp(r->row, "gemm")) return sscanf(r->what, "%lf x %lf x %lf", &m, &n, &k) == 3 ? m * n * k / (2 * (m * k + k * n + m * n)) : 0;
    if (!strcmp(r->row, "attention")) { /* causal: T (T + 1) / 2 pairs; 4 tensors forward, 8 backward with 2.5 times the work */
        int back = !strncmp(r->what, "backward", 8);
        if (sscanf(r->what, "%*[a-z], %lf x %lf", &m, &n) != 2) return 0;
        return back ? 5 * (n + 1) / 32 : (n + 1) / 8;
    }
    if (!strcmp(r->row, "fft")) { /* 5 N log2 N for 16 N bytes, read and written; half of both for real numbers */
        if (p && sscanf(p, "2^%d", &e) == 1) return 5.0 * e / 16;
        p = strpbrk(r->what, "0123456789");
        n = p ? strtod(p, NULL) : 0;
        return n > 1 ? 5 * log2(n) / 16 : 0;
    }
    return kind_of(r) < KINDS ? kinds[kind_of(r)].flops : 0;
}

int cst_compare_point(const cst_row *r, double *intensity, double *gflops)
{
    if (r->missing[0] || !(r->value > 0)) return 0;
    *intensity = intensity_of(r);
    *gflops = !strcmp(r->unit, "GFLOP/s") ? r->value : !strcmp(r->unit, "GB/s") ? r->value * *intensity : 0;
    return *intensity > 0 && *gflops > 0;
}

/* The vertical axis: whole powers of ten. */
typedef struct axis {
    int low, high;
} axis;

static double x_of(double intensity)
{
    double x = (log2(intensity) - X_LOW) / (X_HIGH - X_LOW);
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

static double y_of(const axis *a, double gflops)
{
    double y = (log10(gflops) - a->low) / (a->high - a->low);
    return y < 0 ? 0 : y > 1 ? 1 : y;
}

static double best_of(const cst_compare *c, const char *row, int i)
{
    const cst_row *r = cst_compare_best(c, row, NULL, i);
    return r ? r->value : 0;
}

/* All figures have the same axes, so that they can be compared. */
static axis axis_of(const cst_compare *c)
{
    double low = INFINITY, high = 0, x, y;
    for (int i = 0; i < c->results; i++) {
        double peak = best_of(c, "peak", i);
        if (peak > high) high = peak;
        for (size_t k = 0; k < c->result[i].rows; k++) {
            if (!cst_compare_point(&c->result[i].row[k], &x, &y)) continue;
            if (y > high) high = y;
            if (y < low) low = y;
        }
    }
    if (!(low < INFINITY)) low = 1;
    if (!(high > low)) high = 10 * low;
    axis a = {(int)floor(log10(low)), (int)ceil(log10(high) - 1e-9)};
    if (a.high == a.low) a.high++;
    return a;
}

static void write_grid(FILE *f, const axis *a)
{
    fputs("<path class=\"grid\" d=\"", f);
    for (int e = a->low; e <= a->high; e++) fprintf(f, "M0 %.1fH%g", HEIGHT * (1 - y_of(a, pow(10, e))), WIDTH);
    for (int e = (int)X_LOW; e <= X_HIGH; e += 3) fprintf(f, "M%.1f 0V%g", WIDTH * x_of(exp2(e)), HEIGHT);
    fputs("\"/>\n", f);
}

static void write_roofs(FILE *f, const axis *a, double peak, double triad)
{
    double low = triad > 0 ? pow(10, a->low) / triad : 0, knee = peak > 0 && triad > 0 ? peak / triad : 0; /* FLOP a byte */
    if (low < exp2(X_LOW)) low = exp2(X_LOW);
    fputs("<path class=\"roof\" d=\"", f);
    if (triad > 0) {
        double to = knee > 0 ? knee : pow(10, a->high) / triad;
        fprintf(f, "M%.1f %.1fL%.1f %.1f", WIDTH * x_of(low), HEIGHT * (1 - y_of(a, triad * low)), WIDTH * x_of(to),
                HEIGHT * (1 - y_of(a, triad * to)));
    }
    if (peak > 0) fprintf(f, "M%.1f %.1fH%g", WIDTH * x_of(knee > 0 ? knee : exp2(X_LOW)), HEIGHT * (1 - y_of(a, peak)), WIDTH);
    fputs("\"/>\n", f);
}

static void write_points(FILE *f, const cst_result *r, const axis *a, int *seen)
{
    char text[48];
    double x, y;
    for (size_t k = 0; k < r->rows; k++) {
        int kind = kind_of(&r->row[k]);
        if (kind == KINDS || !cst_compare_point(&r->row[k], &x, &y)) continue;
        seen[kind] = 1;
        fprintf(f, "<path class=\"dot\" style=\"stroke:var(--k%d)\" d=\"M%.1f %.1fh0\"><title>%s ", kind, WIDTH * x_of(x),
                HEIGHT * (1 - y_of(a, y)), r->row[k].row);
        cst_html_text(f, r->row[k].what);
        fprintf(f, ": %s GFLOP/s, ", cst_compare_value_text(text, y));
        fprintf(f, "%s FLOP a byte</title></path>\n", cst_compare_value_text(text, x));
    }
}

static void write_numbers(FILE *f, const axis *a)
{
    char text[48];
    for (int e = a->low; e <= a->high; e++)
        fprintf(f, "<span class=\"y\" style=\"bottom:%.2f%%\">%s</span>\n", 100 * y_of(a, pow(10, e)), cst_number_text(text, pow(10, e)));
    for (int e = (int)X_LOW; e <= X_HIGH; e += 3) {
        if (e < 0) snprintf(text, sizeof text, "1/%d", 1 << -e);
        else snprintf(text, sizeof text, "%d", 1 << e);
        fprintf(f, "<span class=\"x\" style=\"left:%.2f%%\">%s</span>\n", 100 * x_of(exp2(e)), text);
    }
    fputs("<span class=\"xname\">FLOP a byte</span>\n", f);
}

static void write_figure(FILE *f, const cst_compare *c, int i, const axis *a)
{
    char text[48];
    int seen[KINDS] = {0};
    const cst_result *r = &c->result[i];
    double peak = best_of(c, "peak", i), triad = best_of(c, "triad", i);
    fputs("<figure class=\"wide\">\n<figcaption><b>", f);
    cst_html_text(f, r->name);
    fputs("</b>", f);
    if (peak > 0) fprintf(f, " <span class=\"key roofkey\">multiply-adds: %s GFLOP/s</span>", cst_compare_value_text(text, peak));
    if (triad > 0) fprintf(f, " <span class=\"key roofkey\">triad: %s GB/s</span>", cst_compare_value_text(text, triad));
    fprintf(f,
            "</figcaption>\n<div class=\"plot roofline\">\n<svg viewBox=\"0 0 %g %g\" preserveAspectRatio=\"none\" role=\"img\" "
            "aria-label=\"Roofline of ",
            WIDTH, HEIGHT);
    cst_html_text(f, r->name);
    fputs("\">\n", f);
    write_grid(f, a);
    write_roofs(f, a, peak, triad);
    write_points(f, r, a, seen);
    fputs("</svg>\n", f);
    write_numbers(f, a);
    fputs("<span class=\"yname\">GFLOP/s</span></div>\n<p class=\"keys\">", f);
    for (int k = 0; k < KINDS; k++)
        if (seen[k]) fprintf(f, "<span class=\"key k\" style=\"--k:var(--k%d)\">%s</span>\n", k, kinds[k].name);
    fputs("</p>\n</figure>\n", f);
}

void cst_compare_rooflines(FILE *f, const cst_compare *c)
{
    axis a = axis_of(c);
    double x, y;
    fputs("<div class=\"charts roofs\">\n", f);
    for (int i = 0; i < c->results; i++) {
        int points = best_of(c, "peak", i) > 0 || best_of(c, "triad", i) > 0;
        for (size_t k = 0; k < c->result[i].rows; k++) points += cst_compare_point(&c->result[i].row[k], &x, &y);
        if (points) write_figure(f, c, i, &a);
    }
    fputs("</div>\n", f);
}
