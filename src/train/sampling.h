/* Choosing the next token from its logits, on the host, in double. */
#ifndef CST_TRAIN_SAMPLING_H
#define CST_TRAIN_SAMPLING_H

#include <stdint.h>

#include "base/status.h"

/* p_i = exp(logit_i / temperature) / sum; of the top_k likeliest tokens, only the shortest run of the likeliest whose
 * probabilities come to top_p (nucleus sampling: Holtzman et al., "The curious case of neural text degeneration", 2020) is
 * drawn from. Of equal logits the lower id comes first. */
typedef struct cst_sampling {
    double temperature;   /* 0: always the likeliest token; else finite and above 0 */
    int64_t top_k;        /* 0: all */
    double top_p;         /* in (0, 1]; 1: all */
    uint64_t seed;
} cst_sampling;

/* USAGE names what is out of range. */
cst_status cst_sampling_check(const cst_sampling *s);
/* *id: the choice for token `index` of a text, a pure function of the arguments. NOT_FINITE when a logit is NaN or
 * infinite. */
cst_status cst_sample(int32_t *id, const float *logits, int64_t n, const cst_sampling *s, uint64_t index);

#endif
