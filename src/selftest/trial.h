/* What the families' trials share; for this room. */
#ifndef CST_SELFTEST_TRIAL_H
#define CST_SELFTEST_TRIAL_H

#include "memory/memory.h"
#include "op/residual.h"
#include "selftest/selftest.h"

/* Rows and columns that leave tails in both shapes: VW = 16, and 128 work-items of 4. */
#define CST_TRIAL_ROWS 19
#define CST_TRIAL_COLS 531

/* Tensors and host memory of one trial, all freed when it ends. */
typedef struct cst_trial {
    cst_mem *m;
    const cst_self_test_use *use;
    int tensors, rooms;
    cst_tensor *tensor[24];
    void *room[40];
} cst_trial;

/* Room for n doubles, zeros. */
cst_status cst_trial_room(double **out, cst_trial *r, int64_t n);
/* A tensor [rows, cols] (cols 0: [rows]) with random numbers in [lo, hi), and the same as doubles. */
cst_status cst_trial_random(cst_tensor **t, double **x, cst_trial *r, int64_t rows, int64_t cols, double lo, double hi);
/* One whose numbers are all NaN. */
cst_status cst_trial_empty(cst_tensor **t, cst_trial *r, int64_t rows, int64_t cols);
/* One of integers. */
cst_status cst_trial_ints(cst_tensor **t, cst_trial *r, int64_t n, const int32_t *x);
/* STATE when |t[i] - want[i]| > tol (|want[i]| + scale) for an i; `what` names it. scale: of terms that cancel out. */
cst_status cst_trial_compare(cst_trial *r, const char *what, cst_tensor *t, const double *want, double tol, double scale);
void cst_trial_end(cst_trial *r);

/* The trials. */
cst_status cst_trial_activation(cst_trial *r);
cst_status cst_trial_adamw(cst_trial *r);
cst_status cst_trial_attention(cst_trial *r);
cst_status cst_trial_attention_decode(cst_trial *r);
cst_status cst_trial_cast(cst_trial *r);
cst_status cst_trial_cross_entropy(cst_trial *r);
cst_status cst_trial_embed(cst_trial *r);
cst_status cst_trial_fill(cst_trial *r);
cst_status cst_trial_gemm_epilogue(cst_trial *r);
cst_status cst_trial_grad_norm(cst_trial *r);
cst_status cst_trial_layer_norm(cst_trial *r);
cst_status cst_trial_linear(cst_trial *r);
cst_status cst_trial_residual(cst_trial *r);

#endif
