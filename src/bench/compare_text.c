/* Results side by side as Markdown and as CSV. */
#include <math.h>
#include <string.h>

#include "bench/compare.h"

/* A | would end the cell. */
static void cell_text(FILE *f, const char *s)
{
    for (; *s; s++) {
        if (*s == '|') fputc('\\', f);
        fputc(*s == '\n' ? ' ' : *s, f);
    }
}

static void row_of_texts(FILE *f, const cst_compare *c, const char *title, const char *of, const char *name)
{
    fprintf(f, "| %s |", title);
    for (int i = 0; i < c->results; i++) {
        fputc(' ', f);
        cell_text(f, cst_compare_text(&c->result[i], of, name));
        fputs(" |", f);
    }
    fputc('\n', f);
}

static void head(FILE *f, const cst_compare *c, const char *first, int left)
{
    fprintf(f, "| %s |", first);
    for (int i = 0; i < c->results; i++) {
        fputc(' ', f);
        cell_text(f, c->result[i].name);
        fputs(" |", f);
    }
    fputs("\n|---|", f);
    for (int i = 0; i < c->results; i++) fputs(left ? "---|" : "---:|", f);
    fputc('\n', f);
}

static const char *losses_text(const cst_compare *c, int i)
{
    return c->differs[i] ? "**differ: a wrong device**" : c->checked[i] ? "as expected" : "not measured";
}

static void devices(FILE *f, const cst_compare *c)
{
    head(f, c, "", 1);
    row_of_texts(f, c, "platform", "device", "platform");
    row_of_texts(f, c, "driver", "device", "driver");
    row_of_texts(f, c, "OpenCL", "device", "version");
    row_of_texts(f, c, "processor of the host", "environment", "cpu");
    fputs("| compute units, clock |", f);
    for (int i = 0; i < c->results; i++)
        fprintf(f, " %.0f, %.0f MHz |", cst_compare_number(&c->result[i], "device", "compute_units"),
                cst_compare_number(&c->result[i], "device", "clock_mhz"));
    fputs("\n| memory |", f);
    for (int i = 0; i < c->results; i++)
        fprintf(f, " %.1f GiB |", cst_compare_number(&c->result[i], "device", "memory_bytes") / 1073741824.0);
    fputs("\n| losses of training |", f);
    for (int i = 0; i < c->results; i++) fprintf(f, " %s |", losses_text(c, i));
    fputs("\n| measured |", f);
    for (int i = 0; i < c->results; i++)
        fprintf(f, " %s, castor %s%s |", cst_compare_text(&c->result[i], NULL, "date"), cst_compare_text(&c->result[i], NULL, "castor"),
                c->result[i].complete ? "" : ", **incomplete**");
    fputs("\n", f);
}

static void value(FILE *f, const cst_compare *c, const cst_compare_line *l, int i)
{
    char text[48];
    double ratio = cst_compare_ratio(c, l, i);
    if (!l->cell[i]) fputs(" \u2013 |", f);
    else if (l->cell[i]->missing[0]) {
        fputc(' ', f);
        cell_text(f, l->cell[i]->missing);
        fputs(" |", f);
    } else {
        fprintf(f, " %s", cst_compare_value_text(text, l->cell[i]->value));
        if (c->results > 1 && isfinite(ratio)) fprintf(f, " (%s\u00d7)", cst_compare_value_text(text, ratio));
        fputs(" |", f);
    }
}

void cst_compare_markdown(FILE *f, const cst_compare *c)
{
    devices(f, c);
    for (int k = 0; k < c->lines; k++) {
        const cst_compare_line *l = &c->line[k];
        if (!k || strcmp(l->row, c->line[k - 1].row)) {
            const char *about = cst_compare_about(l->row);
            fprintf(f, "\n### %s\n\n%s%s", l->row, about, *about ? "\n\n" : "");
            head(f, c, "case", 0);
        }
        fputs("| ", f);
        cell_text(f, l->what);
        if (l->unit) fprintf(f, ", %s%s", l->unit, l->less ? " (less is better)" : "");
        fputs(" |", f);
        for (int i = 0; i < c->results; i++) value(f, c, l, i);
        fputc('\n', f);
    }
    if (c->results > 1)
        fprintf(f, "\nIn brackets: how many times as good as %s%s.\n", c->best ? "the best of them" : "", c->best ? "" : c->result[0].name);
}

/* ---- CSV, by RFC 4180 but for its line ends ---- */

static void csv_text(FILE *f, const char *s)
{
    if (!strpbrk(s, ",\"\n\r")) {
        fputs(s, f);
        return;
    }
    fputc('"', f);
    for (; *s; s++) {
        if (*s == '"') fputc('"', f);
        fputc(*s, f);
    }
    fputc('"', f);
}

static void csv_number(FILE *f, double v, int known)
{
    fputc(',', f);
    if (known && isfinite(v)) fprintf(f, "%.9g", v);
}

void cst_compare_csv(FILE *f, const cst_compare *c)
{
    fputs("row,case,result,unit,less_is_better,value,ratio,spread,seconds,ceiling,ceiling_of,error,limit,missing\n", f);
    for (int k = 0; k < c->lines; k++)
        for (int i = 0; i < c->results; i++) {
            const cst_compare_line *l = &c->line[k];
            const cst_row *r = l->cell[i];
            if (!r) continue;
            int has = cst_compare_has(l, i), measured = has && r->seconds > 0;
            csv_text(f, l->row);
            fputc(',', f);
            csv_text(f, l->what);
            fputc(',', f);
            csv_text(f, c->result[i].name);
            fprintf(f, ",%s,%s", has ? r->unit : "", !has ? "" : l->less ? "yes" : "no");
            csv_number(f, r->value, has);
            csv_number(f, cst_compare_ratio(c, l, i), has);
            csv_number(f, r->spread, measured);
            csv_number(f, r->seconds, measured);
            csv_number(f, r->ceiling, has && r->ceiling > 0);
            fputc(',', f);
            if (has && r->ceiling > 0) csv_text(f, r->ceiling_of);
            csv_number(f, r->error, has && r->error >= 0);
            csv_number(f, r->limit, has && r->error >= 0);
            fputc(',', f);
            csv_text(f, r->missing);
            fputc('\n', f);
        }
}
