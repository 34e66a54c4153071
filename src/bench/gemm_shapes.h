/* The matrix products that measurements are made of, and one of them set up on a device. `castor bench gemm` and
 * bench/compare_blas.c share both. */
#ifndef CST_BENCH_GEMM_SHAPES_H
#define CST_BENCH_GEMM_SHAPES_H

#include "gemm/choice.h"

typedef struct cst_gemm_shape {
    char name[32];
    int64_t tokens;       /* of the step it is part of; 0: of none */
    int64_t m, n, k;      /* as in cst_gemm_args */
    int trans_a, trans_b, accumulate;
    int per_step;         /* how often a training step has it */
} cst_gemm_shape;

#define CST_GEMM_SHAPES_MOST 24

/* OPT-350M's products (24 layers, hidden 1024, feed-forward 4096, projection 512, vocabulary 50272) in a step of
 * `tokens` tokens, the head in the pieces that cst_lm_loss makes. Fills list, returns how many. */
int cst_gemm_shapes_opt350m(cst_gemm_shape list[CST_GEMM_SHAPES_MOST], int64_t tokens);
/* Squares of 512, 1024 and 2048. */
int cst_gemm_shapes_square(cst_gemm_shape list[CST_GEMM_SHAPES_MOST]);
/* "m,n,k,NT": a product that is overwritten. USAGE says what is wanted. */
cst_status cst_gemm_shape_parse(cst_gemm_shape *s, const char *text);
/* "NN", "NT", "TN" or "TT". */
const char *cst_gemm_shape_form(const cst_gemm_shape *s);
double cst_gemm_shape_flops(const cst_gemm_shape *s);

/* One product with its data: `copies` times A, B and C in three tensors, one copy of A, B and C (as it was) on the
 * host. Numbers are even in [-1, 1); a C that is overwritten starts as NaN. */
typedef struct cst_gemm_trial {
    cst_gemm_shape shape;
    cst_mem *mem;
    int copies;
    int64_t count[3], stride[3]; /* elements of A, B, C; between their copies */
    float *x[3];
    cst_tensor *t[3];
    double error;                /* largest that the last check found, of |C| + sqrt(k); below 0: none yet */
} cst_gemm_trial;

/* What that may be: terms are of size 1, whatever order the engine adds them in. A fault is larger, rounding is
 * tests/check_gemm's. */
#define CST_GEMM_TRIAL_LIMIT 1e-5

/* t is cleared first; close it also after a failure. */
cst_status cst_gemm_trial_open(cst_gemm_trial *t, cst_mem *m, const cst_gemm_shape *s);
void cst_gemm_trial_close(cst_gemm_trial *t);
/* A cst_timed: enqueue the product on copy call % copies. */
cst_status cst_gemm_trial_run(void *trial, int call);
/* The engine and variant that serve it. */
cst_status cst_gemm_trial_choice(cst_gemm_choice *how, const cst_gemm_trial *t);
/* Run once on the first copy, C as it was at first, and look at the result. */
cst_status cst_gemm_trial_verify(cst_gemm_trial *t);
/* Is c[m,n] the result? No element may be NaN, and the corners and 252 elements in between must agree with a product
 * in double on the host. DEVICE ("wrong result ...", naming `who`, the product and an element) when not. */
cst_status cst_gemm_trial_check(cst_gemm_trial *t, const float *c, const char *who);

#endif
