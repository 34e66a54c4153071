/* Measuring time on the host. */
#ifndef CST_BASE_CLOCK_H
#define CST_BASE_CLOCK_H

#include <stddef.h>

/* Seconds of a clock that only goes forward. */
double cst_now(void);
/* Sort times, shortest first. */
void cst_sort_times(double *t, size_t n);

#endif
