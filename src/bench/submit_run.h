/* The training runs of `castor bench submit`: always the same models, seeds and tokens, so that losses can be compared from device
 * to device. One batch of random tokens is learnt again and again: its loss falls from step to step, so that a wrong
 * gradient or update shows as surely as a wrong loss does.
 */
#ifndef CST_BENCH_SUBMIT_RUN_H
#define CST_BENCH_SUBMIT_RUN_H

#include <jansson.h>

#include "train/session.h"

#define CST_RUN_STEPS 20 /* most steps of a run */

typedef struct cst_run_case {
    const char *name;
    const char *about;              /* model and batch, for people */
    int quick;                      /* runs with --quick as well */
    cst_config config;
    int64_t batch, seq;
    int steps;
    double lr;
    double loss[CST_RUN_STEPS];     /* what they are to be */
    double tolerance;               /* how far a loss may be from that */
} cst_run_case;

int cst_run_cases(void);
const cst_run_case *cst_run_case_at(int i);
/* NULL: there is none of this name. */
const cst_run_case *cst_run_case_find(const char *name);

/* Largest distance of n losses to what they are to be; INFINITY when one isn't finite or n isn't the run's number of steps. */
double cst_run_difference(const cst_run_case *c, const double *loss, int n);

typedef struct cst_run_options {
    const char *device;             /* as cst_device_choose's spec */
    uint64_t device_mem, host_mem, pinned_mem; /* as in cst_session_options */
    cst_gemm_mode gemm;
    int (*stop)(void);              /* asked between two steps; NULL: never */
} cst_run_options;

/* Run it: *out becomes its member of a result's "training" (docs/results.md), a new reference. When the device is too
 * small or too slow for it, the member says so and the status is OK; other failures return and leave *out as it is. */
cst_status cst_run_train(json_t **out, const cst_run_case *c, const cst_run_options *o);

#endif
