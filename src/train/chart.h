/* Line charts as HTML with inline SVG, and what pages share; internal to this room. Lines are SVG that is stretched to the width there is, numbers
 * are text beside it, so that they can be read on a phone as on a desk. */
#ifndef CST_TRAIN_CHART_H
#define CST_TRAIN_CHART_H

#include <stddef.h>
#include <stdio.h>

typedef struct cst_series {
    const char *name;
    const double *y;  /* [n] NaN: no value */
    int dots;         /* single values, joined by a thin line */
} cst_series;

typedef struct cst_chart {
    const char *title;  /* with its unit */
    int from_zero;      /* the axis begins at 0 */
    double unit;        /* values are divided by it */
    cst_series series[2];
    int count;          /* of series */
    const double *step; /* [n] ascending */
    size_t n;
} cst_chart;

/* A <figure>; one without any value says so. Long series are drawn as the mean of several steps with the range around it. */
void cst_chart_write(FILE *f, const cst_chart *c);
/* What all pages look like, for <style>: light or dark as the reader's screen is. */
extern const char cst_page_style[];
/* 1, 2 or 5 times a power of ten, so that about four of them cover the range. */
double cst_chart_tick(double range);
/* The unit for sizes up to `most`, and its bytes. */
double cst_bytes_unit(double most, const char **name);
/* Text with &, <, > and quotes written as HTML wants them. */
void cst_html_text(FILE *f, const char *s);
/* 12,975; 3.142; 5e-05 */
const char *cst_number_text(char buf[48], double v);

#endif
