/* Training in less memory than it takes: the same bits in every budget, placement and recomputation, and not a byte more than
 * was allowed.
 */
#include "model_testing.h"

#define STEPS 20

/* What a run leaves behind, to the bit. */
typedef struct outcome {
    float loss[STEPS], eval;
    float *weights;
    size_t bytes;
    cst_mem_stats stats;
    int migrating, on_host;      /* on_host: parameters whose state is there */
} outcome;

static void take_weights(outcome *r, cst_session *s)
{
    cst_model *M = s->model;
    ck_ok(cst_session_settle(s));
    r->bytes = 0;
    for (int i = 0; i < M->params; i++) r->bytes += M->w[i]->bytes;
    r->weights = malloc(r->bytes);
    char *at = (char *)r->weights;
    for (int i = 0; i < M->params; at += M->w[i++]->bytes) ck_ok(cst_tensor_read(M->w[i], 0, at, M->w[i]->bytes));
}

static void set_batch(cst_session *s, uint64_t index)
{
    int32_t ids[64];
    int64_t n = s->o.batch * s->o.seq, vocab = s->o.config.vocab_size;
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)(cst_random_u64(3, index, (uint64_t)i) % (uint64_t)vocab);
    ck_ok(cst_batch_set(s->batch, ids, NULL, vocab));
}

/* 0: the budget is too small; then *least is what would do. */
static int run_session(outcome *r, const cst_session_options *o, uint64_t *least)
{
    cst_session *s;
    cst_status st = cst_session_open(&s, o);
    memset(r, 0, sizeof *r);
    if (st == CST_OVER_BUDGET) {
        const char *p = strstr(cst_detail(), "tokens is ");
        ck_assert_msg(p && sscanf(p, "tokens is %llu bytes", (unsigned long long *)least) == 1, "%s", cst_detail());
        ck_assert(*least > o->device_mem);
        return 0;
    }
    ck_ok(st);
    ck_ok(cst_model_init(s->model, o->seed));
    ck_ok(cst_session_start(s));
    for (int t = 0; t < STEPS; t++) {
        cst_mem_stats before, after;
        cst_mem_get_stats(s->mem, &before);
        ck_ok(cst_session_begin(s, 1e-2, t + 1));
        for (int a = 0; a < o->accum; a++) {
            set_batch(s, (uint64_t)(t * o->accum + a));
            ck_ok(cst_session_micro(s, (uint64_t)(t * o->accum + a)));
        }
        ck_ok(cst_optim_step(s->optim));
        ck_ok(cst_tensor_read(s->losses, 0, &r->loss[t], sizeof r->loss[t]));
        cst_mem_get_stats(s->mem, &after);
        ck_assert_uint_eq(after.strays, 0);
        if (t > 4 && t != STEPS / 2 + 1) ck_assert_uint_eq(after.moves - before.moves, after.planned_moves - before.planned_moves);
        if (t == STEPS / 2) { /* changes nothing that follows */
            set_batch(s, 1000);
            ck_ok(cst_session_evaluate(s));
            ck_ok(cst_tensor_read(s->loss, 0, &r->eval, sizeof r->eval));
        }
        ck_ok(cst_mem_check(s->mem));
    }
    r->migrating = cst_mem_migrating(s->mem);
    for (int i = 0; i < s->model->params; i++) r->on_host += cst_optim_on_host(s->optim, i);
    take_weights(r, s);
    cst_mem_get_stats(s->mem, &r->stats);
    ck_assert(!o->device_mem || r->stats.reserved_peak <= o->device_mem);
    ck_ok(cst_session_close(s, CST_OK)); /* fails unless everything was released */
    return 1;
}

static void same_bits(const char *what, const cst_session_options *o, const outcome *a, const outcome *b)
{
    for (int t = 0; t < STEPS; t++)
        ck_assert_msg(!memcmp(&a->loss[t], &b->loss[t], 4), "%s, %llu bytes, accum %d, recompute %s: step %d: loss %.9g and %.9g", what,
                      (unsigned long long)o->device_mem, o->accum, cst_recompute_name(o->recompute), t, a->loss[t], b->loss[t]);
    ck_assert_msg(!memcmp(&a->eval, &b->eval, 4), "%s: evaluation %.9g and %.9g", what, a->eval, b->eval);
    ck_assert_uint_eq(a->bytes, b->bytes);
    ck_assert_msg(!memcmp(a->weights, b->weights, a->bytes), "%s, %llu bytes, accum %d, recompute %s: weights differ", what,
                  (unsigned long long)o->device_mem, o->accum, cst_recompute_name(o->recompute));
}

static cst_session_options options(int i)
{
    cst_session_options o = fixture_options(i % 2 ? "tiny-pre" : "tiny-post", 2, 12);
    o.with_optim = 1;
    o.dropout = 0.1;
    o.accum = i / 2 % 2 ? 4 : 1;
    if (i / 4 % 2) o.optim.clip = 0; /* layers are updated in backward */
    o.pack = CST_PACK_NEVER;
    o.placement = CST_PLACEMENT_RESIDENT;
    return o;
}

START_TEST(every_budget_gives_the_same_bits)
{
    static const int percent[] = {100, 75, 50, 35, 20, 10};
    cst_session_options o = options(_i);
    outcome want, got;
    uint64_t least = 0;
    ck_assert(run_session(&want, &o, &least));
    ck_assert(!want.migrating);
    if (o.optim.clip <= 0) { /* never clipped, but waiting for the norm */
        o.optim.clip = 1e30;
        ck_assert(run_session(&got, &o, &least));
        same_bits("updated later", &o, &want, &got);
        free(got.weights);
        o.optim.clip = 0;
    }
    o.placement = CST_PLACEMENT_AUTO;
    for (int r = CST_RECOMPUTE_NONE; r <= CST_RECOMPUTE_AUTO; r++) {
        o.recompute = (cst_recompute)r;
        least = 0;
        for (int k = 0; k < 6 && !least; k++) {
            o.device_mem = want.stats.reserved_peak * (uint64_t)percent[k] / 100;
            if (!run_session(&got, &o, &least)) break;
            ck_assert_int_eq(got.migrating, r == CST_RECOMPUTE_LAYER ? got.migrating : k > 0); /* binding */
            same_bits("migrating", &o, &want, &got);
            free(got.weights);
        }
        if (!least) { /* even 10 % do: ask with less than anything takes */
            o.device_mem = 4096;
            ck_assert(!run_session(&got, &o, &least));
        }
        o.device_mem = least;
        ck_assert_msg(run_session(&got, &o, &least), "%s", cst_detail());
        same_bits("the smallest budget", &o, &want, &got);
        free(got.weights);
        o.device_mem = least - 1;
        ck_assert(!run_session(&got, &o, &least));
    }
    free(want.weights);
}
END_TEST

START_TEST(state_on_the_host_gives_the_same_bits)
{
    cst_session_options o = options(_i);
    outcome want, got;
    uint64_t least;
    if (!dev->info.exact_divide) return;
    ck_assert(run_session(&want, &o, &least));
    o.placement = CST_PLACEMENT_STATIC;
    ck_assert(run_session(&got, &o, &least));
    ck_assert(got.stats.reserved_peak < want.stats.reserved_peak);
    same_bits("static", &o, &want, &got);
    free(want.weights), free(got.weights);
}
END_TEST

/* Tensors migrate, and the host updates the matrices of some layers. */
START_TEST(layers_that_the_host_updates_give_the_same_bits)
{
    static const int percent[] = {75, 40, 20};
    cst_session_options o = options(_i);
    outcome want, got;
    uint64_t least = 0;
    if (!dev->info.exact_divide) return;
    ck_assert(run_session(&want, &o, &least));
    o.placement = CST_PLACEMENT_AUTO;
    for (int layers = 1; layers <= (int)o.config.num_hidden_layers; layers++)
        for (int k = 0; k < 3; k++) {
            o.host_layers = layers;
            o.recompute = k == 1 ? CST_RECOMPUTE_LAYER : CST_RECOMPUTE_NONE;
            o.device_mem = want.stats.reserved_peak * (uint64_t)percent[k] / 100;
            if (!run_session(&got, &o, &least)) {
                o.device_mem = least;
                ck_assert(run_session(&got, &o, &least));
            }
            ck_assert(got.migrating);
            ck_assert_int_eq(got.on_host, 6 * layers);
            same_bits("the host updates layers", &o, &want, &got);
            free(got.weights);
        }
    o.host_layers = 0; /* a device that computes in host memory has no use for it */
    ck_assert(run_session(&got, &o, &least));
    if (dev->is_cpu) ck_assert_int_eq(got.on_host, 0);
    same_bits("as predicted", &o, &want, &got);
    free(want.weights), free(got.weights);
}
END_TEST

/* Parameters that come for their uses only, beside any part of the optimizer's state on the host. */
START_TEST(parameters_on_the_host_give_the_same_bits)
{
    static const double part[][2] = {{1, 0.5}, {1, 1}, {0.5, 0.5}, {0, 1}, {0.3, 0.7}}; /* of the optimizer, of the parameters */
    cst_session_options o = options(_i % 4);
    outcome want, got;
    uint64_t least = 0, all = 0;
    if (!dev->info.exact_divide) return;
    o.recompute = _i / 4 % 2 ? CST_RECOMPUTE_LAYER : CST_RECOMPUTE_NONE;
    ck_assert(run_session(&want, &o, &least));
    o.placement = CST_PLACEMENT_STATIC;
    for (int k = 0; k < 5; k++) {
        o.device_optim = 1 - part[k][0];
        o.away_params = 0;
        o.device_mem = 0;
        ck_assert(run_session(&got, &o, &least));
        ck_assert(!got.migrating);
        all = got.stats.reserved_peak;
        free(got.weights);
        o.away_params = part[k][1];
        o.device_mem = 4096;
        ck_assert(!run_session(&got, &o, &least));
        ck_assert(least < all);
        for (int room = 0; room < 3; room++) {
            o.device_mem = least + (all - least) * (uint64_t)room;
            ck_assert_msg(run_session(&got, &o, &least), "%s", cst_detail());
            ck_assert(got.migrating);
            same_bits("parameters away", &o, &want, &got);
            free(got.weights);
        }
        o.device_mem = least - 1;
        ck_assert(!run_session(&got, &o, &least));
    }
    free(want.weights);
}
END_TEST

/* The chosen parameters leave after each use and none is there when a step begins; nothing else moves. */
START_TEST(only_what_is_away_moves)
{
    cst_session_options o = options(_i);
    cst_session *s;
    o.placement = CST_PLACEMENT_STATIC;
    o.away_params = 0.6;
    ck_ok(cst_session_open(&s, &o));
    const cst_plan *p = cst_mem_plan(s->mem);
    const cst_trace *t = cst_mem_trace(s->mem);
    int away = 0, moves = 0;
    ck_assert_ptr_nonnull(p);
    ck_ok(cst_plan_check(p, t));
    for (int i = 0; i < t->tensors; i++) {
        away += t->tensor[i].away;
        if (t->tensor[i].away) ck_assert_int_eq(p->start[i].slab, -1);
    }
    ck_assert(away > 3 && away < s->model->params);
    for (int i = 0; i < s->model->params; i++)
        if (s->model->w[i]->traced >= 0) ck_assert_int_eq(t->tensor[s->model->w[i]->traced].away, s->model->w[i]->away);
    for (int i = 0; i < p->actions; i++) {
        const cst_plan_action *a = &p->action[i];
        moves += a->kind == CST_PLAN_UPLOAD;
        if (a->kind == CST_PLAN_UPLOAD || a->kind == CST_PLAN_EVICT) ck_assert(t->tensor[a->tensor].away);
        if (a->kind == CST_PLAN_EVICT) ck_assert_int_eq(a->moves, 0); /* the optimizer on the host changes them */
    }
    ck_assert_int_gt(moves, away);
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

/* What a session for questions says is what a session does. */
START_TEST(foreseen_is_what_happens)
{
    static const int percent[] = {200, 100, 80, 50, 10, 0}; /* of what lies between the least and what lets all stay */
    cst_session_options o = options(_i / 3);
    o.device = dev->info.name; /* without one, a session for questions imagines another */
    cst_session *asked, *s;
    cst_outlook x;
    cst_rates rates;
    uint64_t least, all;
    o.recompute = (cst_recompute)(_i % 3);
    o.placement = CST_PLACEMENT_AUTO;
    ck_ok(cst_session_imagine(&asked, &o));
    ck_ok(cst_mem_rates(&rates, asked->mem));
    ck_ok(cst_session_extremes(&least, &all, asked));
    ck_assert(least < all);
    for (int k = 0; k < 6; k++) {
        uint64_t budget = least + (all - least) * (uint64_t)percent[k] / 100;
        o.device_mem = budget;
        ck_ok(cst_session_open(&s, &o));
        const cst_plan *p = cst_mem_plan(s->mem);
        if (p) rates = cst_mem_trace(s->mem)->rates; /* what it has measured */
        ck_ok(cst_session_foresee(&x, asked, budget, &rates));
        ck_assert_int_eq(x.placement, s->placement);
        ck_assert(k == 1 || x.placement == (k ? CST_PLACEMENT_AUTO : CST_PLACEMENT_RESIDENT));
        ck_assert_int_eq(x.recompute, s->recompute);
        ck_assert_uint_eq(x.bytes, s->planned);
        ck_assert(x.bytes <= budget);
        ck_assert_uint_eq(x.up_bytes, p ? p->up_bytes : 0);
        ck_assert_uint_eq(x.down_bytes, p ? p->down_bytes : 0);
        ck_assert_double_eq_tol(x.seconds, p ? p->seconds : x.plan->compute_seconds, 1e-9 * x.seconds);
        cst_outlook_clear(&x);
        ck_ok(cst_session_close(s, CST_OK));
    }
    ck_assert_int_eq(cst_session_foresee(&x, asked, least - 1, &rates), CST_OVER_BUDGET);
    ck_assert(strstr(cst_detail(), "smallest --device-mem"));
    ck_ok(cst_session_close(asked, CST_OK));
}
END_TEST

START_TEST(static_is_foreseen)
{
    cst_session_options o = options(_i);
    cst_session *asked, *s;
    cst_outlook x;
    cst_rates rates;
    uint64_t least, all;
    o.device = dev->info.name;
    o.placement = CST_PLACEMENT_STATIC;
    o.device_optim = 0.25 * _i;
    ck_ok(cst_session_imagine(&asked, &o));
    ck_ok(cst_session_extremes(&least, &all, asked));
    ck_assert_uint_eq(least, all);
    o.device_mem = least;
    ck_ok(cst_session_open(&s, &o));
    ck_assert_uint_eq(s->planned, least);
    ck_ok(cst_mem_rates(&rates, asked->mem));
    ck_ok(cst_session_foresee(&x, asked, least, &rates));
    ck_assert_int_eq(x.placement, CST_PLACEMENT_STATIC);
    ck_assert_uint_eq(x.bytes, least);
    uint64_t up = 0, on_host = 0; /* what a step really sends to the device, beside its batch, and keeps on the host */
    cst_mem_stats before, after;
    ck_ok(cst_model_init(s->model, o.seed));
    cst_mem_get_stats(s->mem, &before);
    ck_ok(cst_session_start(s));
    cst_mem_get_stats(s->mem, &after);
    on_host = after.host_bytes - before.host_bytes;
    ck_ok(cst_session_begin(s, 1e-2, 1));
    for (int a = 0; a < o.accum; a++) {
        set_batch(s, (uint64_t)a);
        ck_ok(cst_session_micro(s, (uint64_t)a));
    }
    cst_mem_get_stats(s->mem, &before);
    ck_ok(cst_optim_step(s->optim));
    ck_ok(cst_session_settle(s));
    cst_mem_get_stats(s->mem, &after);
    up = after.h2d_bytes - before.h2d_bytes;
    ck_assert_uint_eq(x.up_bytes, up);
    ck_assert(x.host_bytes <= on_host && x.down_bytes == up);
    cst_outlook_clear(&x);
    o.device_mem = least - 1;
    ck_ok(cst_session_close(s, CST_OK));
    ck_assert_int_eq(cst_session_open(&s, &o), CST_OVER_BUDGET);
    ck_ok(cst_session_close(asked, CST_OK));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("placement");
    TCase *tc = tcase_create("placement");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, every_budget_gives_the_same_bits, 0, 8);
    tcase_add_loop_test(tc, state_on_the_host_gives_the_same_bits, 0, 8);
    tcase_add_loop_test(tc, layers_that_the_host_updates_give_the_same_bits, 0, 6);
    tcase_add_loop_test(tc, parameters_on_the_host_give_the_same_bits, 0, 8);
    tcase_add_loop_test(tc, only_what_is_away_moves, 0, 4);
    tcase_add_loop_test(tc, foreseen_is_what_happens, 0, 12);
    tcase_add_loop_test(tc, static_is_foreseen, 0, 4);
    suite_add_tcase(s, tc);
    return op_main(s);
}
