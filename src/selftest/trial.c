#include "selftest/trial.h"

#include <math.h>
#include <stdlib.h>

#include "base/random.h"

static cst_status keep(cst_trial *r, void *p)
{
    if (!p || r->rooms == (int)(sizeof r->room / sizeof *r->room)) {
        free(p);
        return p ? cst_fail(CST_STATE, "a trial has too many arrays") : cst_fail(CST_NO_MEMORY, "self-test");
    }
    r->room[r->rooms++] = p;
    return CST_OK;
}

cst_status cst_trial_room(double **out, cst_trial *r, int64_t n)
{
    *out = calloc((size_t)n, sizeof **out);
    return keep(r, *out);
}

static cst_status make(cst_tensor **t, cst_trial *r, cst_type type, int64_t rows, int64_t cols, const void *x)
{
    if (r->tensors == (int)(sizeof r->tensor / sizeof *r->tensor)) return cst_fail(CST_STATE, "a trial has too many tensors");
    CST_TRY(cst_tensor_create(t, r->m, CST_DATA, type, cols ? 2 : 1, (int64_t[]){rows, cols}, "self-test %d", r->tensors));
    r->tensor[r->tensors++] = *t;
    return cst_tensor_write(*t, 0, x, (*t)->bytes);
}

cst_status cst_trial_random(cst_tensor **t, double **x, cst_trial *r, int64_t rows, int64_t cols, double lo, double hi)
{
    int64_t n = rows * (cols ? cols : 1);
    CST_TRY(cst_trial_room(x, r, n));
    float *f = malloc((size_t)n * sizeof *f);
    CST_TRY(keep(r, f));
    for (int64_t i = 0; i < n; i++) {
        f[i] = (float)(lo + (hi - lo) * 0x1p-53 * (double)(cst_random_u64(11, (uint64_t)r->tensors, (uint64_t)i) >> 11));
        (*x)[i] = f[i];
    }
    return make(t, r, CST_F32, rows, cols, f);
}

cst_status cst_trial_empty(cst_tensor **t, cst_trial *r, int64_t rows, int64_t cols)
{
    int64_t n = rows * (cols ? cols : 1);
    float *f = malloc((size_t)n * sizeof *f);
    CST_TRY(keep(r, f));
    for (int64_t i = 0; i < n; i++) f[i] = NAN;
    return make(t, r, CST_F32, rows, cols, f);
}

cst_status cst_trial_ints(cst_tensor **t, cst_trial *r, int64_t n, const int32_t *x)
{
    return make(t, r, CST_I32, n, 0, x);
}

cst_status cst_trial_compare(cst_trial *r, const char *what, cst_tensor *t, const double *want, double tol, double scale)
{
    float *got = malloc(t->bytes);
    CST_TRY(keep(r, got));
    CST_TRY(cst_tensor_read(t, 0, got, t->bytes));
    for (int64_t i = 0; i < cst_tensor_count(t); i++)
        if (!(fabs(got[i] - want[i]) <= tol * (fabs(want[i]) + scale)))
            return cst_fail(CST_STATE, "wrong result: %s[%lld] is %.9g, not %.9g", what, (long long)i, got[i], want[i]);
    return CST_OK;
}

void cst_trial_end(cst_trial *r)
{
    while (r->tensors) cst_tensor_free(r->tensor[--r->tensors]);
    while (r->rooms) free(r->room[--r->rooms]);
}
