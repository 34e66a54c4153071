/* The period of a sequence of accesses: how long an iteration is that nobody marked.
 *
 * An access is 64 bits that say what is done to what (cst_mem makes them of an operator's name and tensors); only equality
 * counts. Plain data, no OpenCL, but for the autocorrelation of long sequences, which a device may do.
 *
 * Two questions, two functions:
 *   cst_period_suffix  do the last accesses repeat those before them, one by one? Linear time (Z algorithm: Gusfield, "Algorithms
 *                      on strings, trees and sequences", 1997, 1.3), no transform. What the memory manager asks while it runs.
 *   cst_period_find    what repeats in a whole recorded sequence, also when other accesses come in between? Candidates are peaks
 *                      of the autocorrelation, by fast Fourier transforms; each is then verified on the accesses themselves.
 *
 * Neither claims by chance: what agrees must be worth 2 log2(n) + 30 bits, so that of all the lengths and places that were
 * looked at in a sequence of independent accesses none is expected to reach it. A sequence of one access that never changes
 * tells nothing, and has no period here.
 */
#ifndef CST_MEMORY_PERIOD_H
#define CST_MEMORY_PERIOD_H

#include <stdint.h>

#include "memory/trace.h"

typedef struct cst_mem cst_mem;

typedef struct cst_period {
    int64_t length;          /* accesses of an iteration; 0: no period */
    int64_t span;            /* from an access to its repetition: length and, when not exact, what comes in between, on average */
    int64_t first, end;      /* the stretch of the sequence that was verified: [first, end) */
    double share;            /* of that stretch's accesses that have their repetition; 1 when exact */
    int exact;               /* each access of the stretch equals the one `length` later, and it has at least two iterations */
    int on_device;           /* a device did the transforms */
    int64_t next;            /* of suffix, when there is none: a repetition now under way will be whole at this length; 0: none */
} cst_period;

/* The shortest period of the end of s[0..n): the last `repeats` (2 or more) times p->length accesses are the same ones again and
 * again, and the stretch like that is at least half of all. NO_MEMORY. */
cst_status cst_period_suffix(cst_period *p, const uint64_t *s, int64_t n, int repeats);

/* The period of s[0..n), n up to 2^26; of several, that of its end; of one in another (micro-batches in a step), the shortest that
 * covers half. Looks at suffixes of n, n/2, n/4 ... 64 accesses. In each, first for an exact one; if no suffix has any, for one
 * with other accesses in between, as long as an iteration isn't longer than 40,000: its length is then what three whole iterations,
 * the last ones, have in common, in the same order. Where there are fewer it is what two have, and what comes in between twice at the
 * same place counts, too. m: its device, when it isn't a CPU, does suffixes of CST_PERIOD_DEVICE_FROM accesses or more, within the
 * budget; not between acquire and release. NULL, or no room: the host. INPUT, NO_MEMORY, DEVICE. */
cst_status cst_period_find(cst_period *p, const uint64_t *s, int64_t n, cst_mem *m);
#define CST_PERIOD_DEVICE_FROM ((int64_t)1 << 24) /* with its set-up clFFT is slower below, on an H200: bench/LOG.md */

/* The accesses of an iteration's trace, t->moments of them: an operator's name, its tensors by number, and how it uses them. *out:
 * free it. NO_MEMORY. */
cst_status cst_period_accesses(uint64_t **out, const cst_trace *t);

/* How often accesses agree at each distance: r[l], l in [0, n/2], estimates the number of i with s[i] == s[i + l], with an error
 * of about sqrt(n)/2.8. Each of CST_PERIOD_VIEWS sequences has +1 or -1 for each access, by a bit of its hash; two of them are the
 * parts of one complex transform, the spectra are added, and one transform back gives the sum of their correlations.
 * r: room for n/2 + 1. NO_MEMORY; of device: OVER_BUDGET, DEVICE, BUILD, STATE while planning. */
#define CST_PERIOD_VIEWS 8
cst_status cst_period_correlate_host(float *r, const uint64_t *s, int64_t n);
cst_status cst_period_correlate_device(float *r, const uint64_t *s, int64_t n, cst_mem *m);

#endif
