/* A few bars as one SVG, for a README. Light or dark as the reader's screen is; the text is text. */
#include <math.h>
#include <string.h>

#include "bench/compare.h"
#include "train/chart.h"

#define WIDTH 860
#define LEFT 250        /* of the bars */
#define BARS 430        /* the longest one */
#define STEP 24         /* from bar to bar */
#define NAME_BYTES 34   /* what fits before the bars */

static const char style[] = "text{font:13px system-ui,-apple-system,'Segoe "
                            "UI',sans-serif;fill:#1c2127}.t{font-weight:600;font-size:14px}.n{fill:#5f6b7a}.g{stroke:#d9dee5}"
                            ".d0{fill:#1f6fd0}.d1{fill:#d0680a}.d2{fill:#1b8a52}.d3{fill:#7b4fc4}.d4{fill:#b3267d}.d5{fill:#0e8a94}.d6{"
                            "fill:#8a6d00}.d7{fill:#6b7785}"
                            "@media(prefers-color-scheme:dark){text{fill:#e6e9ee}.n{fill:#9aa6b5}.g{stroke:#343b45}.d0{fill:#5ea6fb}.d1{"
                            "fill:#f59a45}.d2{fill:#4cc285}"
                            ".d3{fill:#b394f7}.d4{fill:#f57fbc}.d5{fill:#4cc9d4}.d6{fill:#d9bb45}.d7{fill:#93a0b0}}";

static const struct {
    const char *title, *row, *what;
} groups[] = {
    {"Training OPT-125M, 1 x 128 tokens, fp32", CST_COMPARE_TRAINING, "opt-125m, speed"},
    {"Training a tiny model, 4 x 64 tokens, fp32", CST_COMPARE_TRAINING, "tiny, speed"},
    {"Best matrix product, fp32", "gemm", NULL},
    {"Memory: triad", "triad", NULL},
};
#define GROUPS ((int)(sizeof groups / sizeof *groups))

static double most_of(const cst_compare *c, int g)
{
    double most = 0;
    for (int i = 0; i < c->results; i++) {
        const cst_row *r = cst_compare_best(c, groups[g].row, groups[g].what, i);
        if (r && r->value > most) most = r->value;
    }
    return most;
}

/* The name, cut between characters where it is too long. */
static void write_name(FILE *f, const char *name)
{
    char cut[NAME_BYTES + 4];
    size_t n = strlen(name);
    if (n > NAME_BYTES) {
        n = NAME_BYTES - 1;
        while (n && ((unsigned char)name[n] & 0xc0) == 0x80) n--;
        snprintf(cut, sizeof cut, "%.*s\u2026", (int)n, name);
        name = cut;
    }
    cst_html_text(f, name);
}

static int write_group(FILE *f, const cst_compare *c, int g, int y)
{
    char text[48];
    double most = most_of(c, g);
    fprintf(f, "<text class=\"t\" x=\"0\" y=\"%d\">%s</text>\n", y + 15, groups[g].title);
    y += 26;
    for (int i = 0; i < c->results; i++, y += STEP) {
        const cst_row *r = cst_compare_best(c, groups[g].row, groups[g].what, i);
        double w = r ? BARS * r->value / most : 0;
        fprintf(f, "<text class=\"n\" x=\"%d\" y=\"%d\" text-anchor=\"end\">", LEFT - 10, y + 14);
        write_name(f, c->result[i].name);
        fputs("</text>", f);
        if (r)
            fprintf(f, "<rect class=\"d%d\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"14\" rx=\"2\"/>", i % 8, LEFT, y + 2, w < 2 ? 2 : w);
        fprintf(f, "<text class=\"%s\" x=\"%.1f\" y=\"%d\">%s%s%s</text>\n", r ? "v" : "n", LEFT + (w < 2 ? 2 : w) + 8, y + 14,
                r ? cst_compare_value_text(text, r->value) : "not measured", r ? " " : "", r ? r->unit : "");
    }
    return y + 14;
}

void cst_compare_picture(FILE *f, const cst_compare *c)
{
    int height = 8, y = 4;
    for (int g = 0; g < GROUPS; g++) height += most_of(c, g) > 0 ? 40 + STEP * c->results : 0;
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" aria-label=\"Devices "
            "compared\">\n"
            "<style>%s</style>\n",
            WIDTH, height, WIDTH, height, style);
    for (int g = 0; g < GROUPS; g++)
        if (most_of(c, g) > 0) y = write_group(f, c, g, y);
    fputs("</svg>\n", f);
}
