/* castor bench report: results side by side, as a page, as text and as a picture. */
#ifndef CST_BENCH_COMPARE_H
#define CST_BENCH_COMPARE_H

#include <stdio.h>

#include "bench/result_file.h"

#define CST_COMPARE_TRAINING "training" /* the section of the training runs */

/* A case, with what each result has of it: the cells' own `what` may say more. */
typedef struct cst_compare_line {
    const char *row, *unit;
    char what[64];
    int less;
    double most;             /* largest value */
    const cst_row **cell;    /* [results] NULL: not measured there; else perhaps only `missing` */
} cst_compare_line;

typedef struct cst_compare {
    const cst_result *result; /* [results] borrowed */
    int results;
    int best;                /* ratios are to the best value; 0: to the first result's */
    cst_compare_line *line;  /* [lines] by section: training, then the rows in their order */
    int lines;
    cst_rows *rows;          /* [results] the training runs as rows */
    int *differs;            /* [results] training runs whose losses aren't what they are to be */
    int *checked;            /* [results] training runs with losses */
} cst_compare;

/* Line the results up. USAGE when there is none or two have one name, INPUT when two have other units for a case. The results must outlive
 * c; cst_compare_free, also after a failure. */
cst_status cst_compare_make(cst_compare *c, const cst_result *result, int results, int best);
void cst_compare_free(cst_compare *c);

/* How many times as good result i is, 1 being the one that ratios are to; NaN where there is none. Times count the other way. */
double cst_compare_ratio(const cst_compare *c, const cst_compare_line *l, int i);
/* The value is there. */
int cst_compare_has(const cst_compare_line *l, int i);
/* The best line of a row for result i: highest value, lowest of a time; NULL when it has none. what: only cases with this in their name. */
const cst_row *cst_compare_best(const cst_compare *c, const char *row, const char *what, int i);
/* What a section is about, for a heading: "matrix products"; "" when nothing is known. */
const char *cst_compare_about(const char *row);
/* Three digits that count: "0.0123", "4.56", "78.9", "12,345". */
const char *cst_compare_value_text(char buf[48], double v);
/* A text of a result: member `name` of its object `of`, or of itself when of is NULL; "" when there is none. */
const char *cst_compare_text(const cst_result *r, const char *of, const char *name);
double cst_compare_number(const cst_result *r, const char *of, const char *name);

/* A point of a roofline: FLOP a byte of memory traffic that can't be avoided, and GFLOP/s; 0 when the row isn't one (times) or its case
 * doesn't tell the shape. Whoever computes the bytes: cst_compare_intensity. */
int cst_compare_point(const cst_row *r, double *intensity, double *gflops);

/* The forms; each a whole file. */
void cst_compare_page(FILE *f, const cst_compare *c);
void cst_compare_markdown(FILE *f, const cst_compare *c);
void cst_compare_csv(FILE *f, const cst_compare *c);
/* A few bars as SVG, for a README: training, multiply-adds, matrix products, memory. */
void cst_compare_picture(FILE *f, const cst_compare *c);
/* A <figure> for each result: its measured roofs, and where its rows are below them. */
void cst_compare_rooflines(FILE *f, const cst_compare *c);

#endif
