#include "bench/step.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "train/rehearsal.h"

#define WARM 2
#define WARM_MIGRATING 5

/* One whole step; *loss has arrived when *done is. */
static cst_status one_step(cst_session *s, int32_t *ids, int64_t t, float *loss, cl_event *done)
{
    CST_TRY(cst_random_step(s, ids, t));
    return cst_tensor_read_async(s->losses, 0, loss, sizeof *loss, done);
}

static void count_bytes(cst_steps *r, const cst_session *s, int end)
{
    cst_mem_stats stats;
    cst_mem_get_stats(s->mem, &stats);
    r->up_bytes = end ? stats.h2d_bytes - r->up_bytes : stats.h2d_bytes;
    r->down_bytes = end ? stats.d2h_bytes - r->down_bytes : stats.d2h_bytes;
}

static cst_status check_loss(const cst_steps *r, int64_t t)
{
    if (isfinite(r->loss[t])) return CST_OK;
    return cst_fail(CST_NOT_FINITE, "the loss of step %lld is %g", (long long)t + 1, (double)r->loss[t]);
}

static cst_status run(cst_steps *r, cst_session *s, int32_t *ids, cst_steps_told told, void *user)
{
    cl_event done[2] = {NULL, NULL};
    double last = cst_now();
    uint64_t end = 0, last_end = 0;
    int64_t all = r->warm + r->steps;
    cst_status st = CST_OK;
    for (int64_t t = 0; t <= all; t++) {
        if (t == r->warm) count_bytes(r, s, 0);
        if (t < all) {
            if (told && told(user, t + 1, all, t < r->warm)) CST_GO(cst_fail(CST_INTERRUPTED, "interrupted"), out);
            CST_GO(one_step(s, ids, t, &r->loss[t], &done[t % 2]), out);
        } else count_bytes(r, s, 1);
        if (t < r->warm) {
            CST_GO(cst_mem_wait_time(&done[t % 2], &last_end), out);
            CST_GO(check_loss(r, t), out);
            if (!t) r->first_ms = (cst_now() - last) * 1e3;
            last = cst_now();
        }
        if (t <= r->warm) continue;
        CST_GO(cst_mem_wait_time(&done[(t - 1) % 2], &end), out);
        CST_GO(check_loss(r, t - 1), out);
        r->ms[t - 1 - r->warm] = end > last_end && last_end ? 1e-6 * (double)(end - last_end) : (cst_now() - last) * 1e3;
        last = cst_now();
        last_end = end;
    }
out:
    for (int i = 0; i < 2; i++) cst_mem_wait(&done[i]);
    return st;
}

cst_status cst_steps_run(cst_steps *r, cst_session *s, int64_t steps, cst_steps_told told, void *user)
{
    int64_t warm = cst_mem_plan(s->mem) ? WARM_MIGRATING : WARM;
    *r = (cst_steps){.warm = warm, .steps = steps};
    CST_TRY(cst_model_init(s->model, s->o.seed));
    CST_TRY(cst_session_start(s));
    int32_t *ids = malloc((size_t)(s->o.batch * s->o.seq) * sizeof *ids);
    r->ms = malloc((size_t)steps * sizeof *r->ms);
    r->loss = malloc((size_t)(warm + steps) * sizeof *r->loss);
    cst_status st = ids && r->ms && r->loss ? run(r, s, ids, told, user) : cst_fail(CST_NO_MEMORY, "steps");
    free(ids);
    return st;
}

void cst_steps_free(cst_steps *r)
{
    free(r->ms);
    free(r->loss);
    *r = (cst_steps){.ms = NULL};
}
