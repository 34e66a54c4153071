/* The operators that castor bench op times, at OPT-350M's sizes, and one of them set up on a device. */
#ifndef CST_BENCH_OP_CASES_H
#define CST_BENCH_OP_CASES_H

#include "memory/memory.h"

#define CST_OP_TENSORS 10

/* What a tensor of a case is and starts with. */
typedef enum cst_op_fill {
    CST_OP_NONE,     /* end of the list */
    CST_OP_NORMAL,   /* f32, normal numbers */
    CST_OP_POSITIVE, /* f32, their squares */
    CST_OP_EMPTY,    /* f32, to be overwritten */
    CST_OP_EMPTY_16, /* bf16, to be overwritten */
    CST_OP_NORM,     /* what cst_grad_norm_finish writes: norm, coefficient 1, finite */
    CST_OP_TARGETS,  /* i32, token ids */
    CST_OP_HOST      /* f32, squares of normal numbers in host memory: use host[], not t[] */
} cst_op_fill;

typedef struct cst_op_case cst_op_case;
typedef struct cst_op_trial cst_op_trial;

struct cst_op_case {
    const char *name, *shape;
    double bytes, flops;     /* of one call, by the operator's header; flops 0: not worth telling */
    struct {
        cst_op_fill fill;
        int64_t d0, d1;      /* d1 0: of rank 1 */
    } tensor[CST_OP_TENSORS];
    cst_status (*prepare)(cst_op_trial *c, cst_tensor **t);     /* NULL: nothing to do */
    cst_status (*run)(cst_op_trial *c, cst_tensor **t, float **host);
    int64_t p, q;            /* for run */
};

/* The list; the first one is the triad, whose rate is the ceiling of the others. */
int cst_op_cases(void);
const cst_op_case *cst_op_case_at(int i);

/* A case with its data, `copies` times (see cst_measure_copies). */
struct cst_op_trial {
    const cst_op_case *c;
    cst_mem *mem;
    int copies;
    cst_tensor **t;          /* [copies * CST_OP_TENSORS] */
    float **host;            /* the same */
};

/* trial is cleared first; close it also after a failure. */
cst_status cst_op_trial_open(cst_op_trial *trial, cst_mem *m, const cst_op_case *c);
void cst_op_trial_close(cst_op_trial *trial);
/* A cst_timed: enqueue the operator on copy call % copies. */
cst_status cst_op_trial_run(void *trial, int call);

#endif
