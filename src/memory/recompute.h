/* What to compute again instead of keeping it: a question of predicted time, for any program whose work falls into groups
 * (layers, blocks) whose results can be dropped after their first use and computed again before their next one.
 *
 * The program orders its n groups; computed again are always the first k of them, 0 <= k <= n. The manager finds k:
 *
 *     static cst_status record(void *user, int k)
 *     {
 *         free what the last call made; cst_mem_plan_begin(m); make the tensors;
 *         cst_mem_step(m); run an iteration in which groups 0 .. k - 1 are computed again; cst_mem_step_end(m);
 *     }
 *     ...
 *     cst_mem_migrate(m, 0, UINT64_MAX);
 *     cst_mem_groups(&k, NULL, &(cst_mem_search){.m = m, .n = n, .near = -1, .record = record, .user = &program});
 *     cst_mem_plan_commit(m);
 */
#ifndef CST_MEMORY_RECOMPUTE_H
#define CST_MEMORY_RECOMPUTE_H

#include "memory/memory.h"

typedef cst_status (*cst_mem_record)(void *user, int k);
/* Seconds of an iteration by this plan, which was made for what was recorded last, where the program knows of costs that no trace
 * has: at least plan->seconds; INFINITY when it can't be. */
typedef double (*cst_mem_judge)(void *user, const cst_plan *plan);

typedef struct cst_mem_search {
    cst_mem *m;
    int n;
    int near;                /* begin there; -1: anywhere */
    cst_mem_record record;
    cst_mem_judge judge;     /* NULL: plan->seconds */
    void *user;
} cst_mem_search;

/* *best: the k with the shortest predicted iteration within the budget, the smaller one of equals; n when none fits (then
 * cst_mem_plan_commit says OVER_BUDGET). *seconds, unless NULL: that time, or INFINITY. record is called for some of 0 .. n, at last with
 * *best, so that the manager is planning for that when this returns. Asked in quarters of n, then in halves around the best: about
 * 5 + 2 log2(n / 4) plans. Errors are record's and those of planning. */
cst_status cst_mem_groups(int *best, double *seconds, const cst_mem_search *search);

#endif
