/* What the files about periods share; not for others. */
#ifndef CST_MEMORY_PERIOD_INTERNAL_H
#define CST_MEMORY_PERIOD_INTERNAL_H

#include "memory/period.h"

/* Bits of the views of one access. */
static inline uint64_t cst_period_mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u; /* the finalizer of splitmix64 */
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Points of the transform for n accesses: a power of two, with room for distances up to n/2. */
static inline int64_t cst_period_points(int64_t n)
{
    int64_t points = 64;
    while (points < n + n / 2 + 1) points *= 2;
    return points;
}

/* Is it so that about every `span` accesses the same come again, others in between? Aligns the last three spans with what comes a
 * span later, and three iterations with each other. p->length 0: no. */
cst_status cst_period_align(cst_period *p, const uint64_t *s, int64_t n, int64_t span);

#endif
