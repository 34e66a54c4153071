/* Sequences of accesses with a known period. */
#ifndef PERIOD_TESTING_H
#define PERIOD_TESTING_H

#include "plan_traces.h"

#include "memory/period.h"
#include "train/session.h"

/* A sequence that grows. */
typedef struct tape {
    uint64_t *s;
    int64_t n, room;
} tape;

static inline void tape_add(tape *t, const uint64_t *s, int64_t n)
{
    while (t->n + n > t->room) {
        t->room = t->room ? 2 * t->room : 1024;
        t->s = realloc(t->s, (size_t)t->room * sizeof *t->s);
    }
    if (n) memcpy(t->s + t->n, s, (size_t)n * sizeof *s);
    t->n += n;
}

static inline void tape_free(tape *t)
{
    free(t->s);
    *t = (tape){NULL, 0, 0};
}

/* The accesses of a training step as castor trains it, with its own trace; of its forward part alone. */
static inline tape opt_step(const char *config, int64_t batch, int64_t seq, int accum, int forward_only)
{
    cst_session_options o = {.batch = batch, .seq = seq, .accum = accum, .seed = 1, .with_optim = !forward_only, .forward_only = forward_only,
                             .optim = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .clip = 1}};
    cst_session *asked;
    cst_trace *t;
    uint64_t *s;
    tape x = {NULL, 0, 0};
    if (strchr(config, '/')) ck_ok(cst_config_load(&o.config, source_path(config)));
    else ck_ok(cst_config_preset(&o.config, config));
    ck_ok(cst_session_imagine(&asked, &o));
    ck_ok(cst_session_trace(&t, asked));
    ck_ok(cst_session_close(asked, CST_OK));
    ck_ok(cst_period_accesses(&s, t));
    tape_add(&x, s, t->moments);
    free(s);
    cst_trace_free(t);
    return x;
}

/* Of a trace of plan_traces.h. */
static inline tape made_step(const opt_shape *o)
{
    uint64_t *s;
    tape x = {NULL, 0, 0};
    cst_trace *t = opt_trace(o);
    ck_ok(cst_period_accesses(&s, t));
    tape_add(&x, s, t->moments);
    free(s);
    cst_trace_free(t);
    return x;
}

/* t with so many of 1000 insertions before each access: anything of `from`, or (from NULL) what is never seen again. */
static inline tape disturbed(const tape *t, const tape *from, int of1000, uint64_t seed)
{
    dice d = {seed, 0};
    tape x = {NULL, 0, 0};
    for (int64_t i = 0; i < t->n; i++) {
        while (roll(&d, 1000) < of1000) {
            uint64_t odd = from ? from->s[roll(&d, (int)from->n)] : cst_random_u64(seed, 11, d.at++);
            tape_add(&x, &odd, 1);
        }
        tape_add(&x, &t->s[i], 1);
    }
    return x;
}

static inline void repeat(tape *t, const tape *step, double times)
{
    for (; times >= 1; times--) tape_add(t, step->s, step->n);
    tape_add(t, step->s, (int64_t)(times * (double)step->n));
}

#endif
