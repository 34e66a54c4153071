#include "base/clock.h"

#include <stdlib.h>
#include <time.h>

double cst_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void cst_sort_times(double *t, size_t n)
{
    qsort(t, n, sizeof *t, by_size);
}
