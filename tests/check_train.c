/* Training as a whole: the same bits wherever things lie, budgets obeyed to the byte, files that mean what
 * they say.
 */
#include "model_testing.h"

#include "op/fill.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define STEPS 6

/* What a run leaves behind, to the bit. */
typedef struct outcome {
    float loss[STEPS];
    float *weights;
    size_t n;
    uint64_t peak;
    cst_placement placement;
} outcome;

static outcome run_session(const cst_session_options *o)
{
    outcome r = {.weights = NULL};
    cst_session *s;
    cst_mem_stats stats;
    int64_t n = o->batch * o->seq;
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    ck_ok(cst_session_open(&s, o));
    ck_ok(cst_model_init(s->model, o->seed));
    ck_ok(cst_session_start(s));
    for (int t = 0; t < STEPS; t++) {
        ck_ok(cst_session_begin(s, 1e-2, t + 1));
        for (int a = 0; a < o->accum; a++) {
            uint64_t index = (uint64_t)(t * o->accum + a);
            for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)(cst_random_u64(3, index, (uint64_t)i) % (uint64_t)o->config.vocab_size);
            ck_ok(cst_batch_set(s->batch, ids, NULL, o->config.vocab_size));
            ck_ok(cst_session_micro(s, index));
        }
        ck_ok(cst_optim_step(s->optim));
        ck_ok(cst_tensor_read(s->losses, 0, &r.loss[t], sizeof r.loss[t]));
        if (t == STEPS / 2) ck_ok(cst_session_evaluate(s)); /* changes nothing that follows */
        ck_ok(cst_mem_check(s->mem));
    }
    ck_ok(cst_session_settle(s));
    for (int i = 0; i < s->model->params; i++) r.n += (size_t)s->model->param[i].count;
    r.weights = malloc(r.n * sizeof *r.weights);
    size_t at = 0;
    for (int i = 0; i < s->model->params; i++) {
        ck_ok(cst_tensor_read(s->model->w[i], 0, r.weights + at, s->model->w[i]->bytes));
        at += (size_t)s->model->param[i].count;
    }
    cst_mem_get_stats(s->mem, &stats);
    r.peak = stats.reserved_peak;
    r.placement = s->placement;
    ck_assert_uint_ge(stats.reserved_peak, s->planned);
    if (!cst_mem_migrating(s->mem)) ck_assert_uint_eq(stats.reserved_peak, s->planned); /* else settling takes what the budget has left */
    ck_assert(stats.reserved_peak <= stats.budget);
    free(ids);
    ck_ok(cst_session_close(s, CST_OK)); /* fails unless everything was released */
    return r;
}

static void same_bits(const char *what, const outcome *a, const outcome *b)
{
    for (int t = 0; t < STEPS; t++)
        ck_assert_msg(!memcmp(&a->loss[t], &b->loss[t], 4), "%s: step %d: loss %.9g and %.9g", what, t, a->loss[t], b->loss[t]);
    ck_assert_uint_eq(a->n, b->n);
    size_t differ = 0;
    for (size_t i = 0; i < a->n; i++) differ += memcmp(&a->weights[i], &b->weights[i], 4) != 0;
    ck_assert_msg(!differ, "%s: %zu of %zu weights differ", what, differ, a->n);
}

static cst_session_options tiny(const char *model)
{
    cst_session_options o = fixture_options(model, 2, 12);
    o.with_optim = 1;
    o.placement = CST_PLACEMENT_RESIDENT;
    o.dropout = 0.1;
    return o;
}

static const char *const models[] = {"tiny-post", "tiny-pre"};

START_TEST(same_seed_same_bits)
{
    cst_session_options o = tiny(models[_i]);
    outcome a = run_session(&o), b = run_session(&o);
    same_bits("twice", &a, &b);
    o.seed = 2;
    outcome c = run_session(&o);
    ck_assert_msg(memcmp(a.weights, c.weights, a.n * 4), "another seed gives the same weights");
    free(a.weights), free(b.weights), free(c.weights);
}
END_TEST

/* Placement, recomputation and accumulation must not change a bit of the result. */
START_TEST(placement_and_recomputation_change_no_bit)
{
    cst_session_options o = tiny(models[_i / 2]);
    o.accum = _i % 2 ? 4 : 1;
    outcome base = run_session(&o);
    ck_assert_int_eq(base.placement, CST_PLACEMENT_RESIDENT);
    o.placement = CST_PLACEMENT_STATIC;
    if (dev->info.exact_divide) {
        outcome host = run_session(&o);
        ck_assert_int_eq(host.placement, CST_PLACEMENT_STATIC);
        ck_assert(host.peak < base.peak);
        same_bits("state on the host", &base, &host);
        free(host.weights);
    }
    o.placement = CST_PLACEMENT_RESIDENT;
    o.recompute = CST_RECOMPUTE_LAYER;
    outcome again = run_session(&o);
    ck_assert(again.peak < base.peak);
    same_bits("recomputed", &base, &again);
    free(base.weights), free(again.weights);
}
END_TEST

/* Weights kept packed: more memory, the same bits; auto does without where there is no room. */
START_TEST(packed_weights_change_no_bit)
{
    cst_session_options o = tiny(models[_i / 2]);
    o.accum = 4;
    o.pack = CST_PACK_NEVER;
    o.placement = _i % 2 ? CST_PLACEMENT_STATIC : CST_PLACEMENT_RESIDENT;
    outcome never = run_session(&o);
    o.pack = CST_PACK_ALWAYS;
    outcome always = run_session(&o);
    same_bits("packed", &never, &always);
    ck_assert(dev->group == 1 ? always.peak > never.peak : always.peak == never.peak);
    o.pack = CST_PACK_AUTO;
    o.device_mem = never.peak;
    outcome without = run_session(&o);
    ck_assert_uint_eq(without.peak, never.peak);
    ck_assert_int_eq(without.placement, o.placement);
    same_bits("no room", &never, &without);
    free(never.weights), free(always.weights), free(without.weights);
}
END_TEST

/* What lets the device go on when nobody else did, so that a step that waits fails instead of hanging. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    cl_event event;
    int open, late;
} gate;

static void *open_late(void *user)
{
    gate *g = user;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    pthread_mutex_lock(&g->lock);
    while (!g->open && pthread_cond_timedwait(&g->opened, &g->lock, &until) == 0) continue;
    if (!g->open) {
        g->late = 1;
        clSetUserEventStatus(g->event, CL_COMPLETE);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

/* Two steps of three micro-batches are enqueued while the device stands still: nothing in a step waits for it. What
 * comes out is what a run gives that waits after every step. */
START_TEST(nothing_in_a_step_waits_for_the_device)
{
    cst_session_options o = tiny(models[_i]);
    o.accum = 3;
    outcome want = run_session(&o);
    cst_session *s;
    float loss[STEPS];
    cl_event came[STEPS];
    ck_ok(cst_session_open(&s, &o));
    ck_ok(cst_model_init(s->model, o.seed));
    ck_ok(cst_session_start(s));
    for (int64_t t = 0; t < STEPS; t += 2) {
        gate g = {.lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER};
        pthread_t watch;
        cl_int err;
        g.event = clCreateUserEvent(s->dev->context, &err);
        ck_assert_int_eq(err, CL_SUCCESS);
        ck_assert_int_eq(clEnqueueBarrierWithWaitList(s->dev->compute, 1, &g.event, NULL), CL_SUCCESS);
        ck_assert_int_eq(pthread_create(&watch, NULL, open_late, &g), 0);
        for (int64_t k = t; k < t + 2; k++) {
            enqueue_step(s, k);
            ck_ok(cst_tensor_read_async(s->losses, 0, &loss[k], sizeof loss[k], &came[k]));
        }
        pthread_mutex_lock(&g.lock);
        int late = g.late;
        g.open = 1;
        if (!late) clSetUserEventStatus(g.event, CL_COMPLETE);
        pthread_cond_signal(&g.opened);
        pthread_mutex_unlock(&g.lock);
        pthread_join(watch, NULL);
        for (int64_t k = t; k < t + 2; k++) ck_ok(cst_mem_wait(&came[k]));
        clReleaseEvent(g.event);
        ck_assert_msg(!late, "steps %d and %d wait for the device", (int)t, (int)t + 1);
    }
    ck_assert(!memcmp(loss, want.loss, sizeof loss));
    free(want.weights);
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

START_TEST(dropout_reaches_the_loss)
{
    cst_session_options o = tiny("tiny-pre");
    o.dropout = 0;
    outcome plain = run_session(&o);
    o.dropout = 0.5;
    outcome dropped = run_session(&o);
    ck_assert_msg(memcmp(plain.loss, dropped.loss, sizeof plain.loss), "dropout changes nothing");
    free(plain.weights), free(dropped.weights);
}
END_TEST

/* Budgets: what just fits works and stays inside; with one byte less tensors migrate, or it is refused with the figure that
 * works. Smaller budgets: check_placement.c. */
START_TEST(budgets_are_obeyed_to_the_byte)
{
    cst_session_options o = tiny("tiny-post");
    outcome resident = run_session(&o);
    o.placement = CST_PLACEMENT_STATIC;
    outcome host = run_session(&o);
    o.placement = CST_PLACEMENT_AUTO;
    o.device_mem = resident.peak;
    outcome exact = run_session(&o);
    ck_assert_int_eq(exact.placement, CST_PLACEMENT_RESIDENT);
    same_bits("budget of exactly the peak", &resident, &exact);
    o.device_mem = resident.peak - 1;
    outcome less = run_session(&o);
    ck_assert_int_eq(less.placement, CST_PLACEMENT_AUTO);
    ck_assert(less.peak < resident.peak);
    same_bits("one byte less", &resident, &less);
    o.placement = CST_PLACEMENT_STATIC;
    o.device_mem = host.peak;
    outcome least = run_session(&o);
    ck_assert_uint_eq(least.peak, host.peak);
    if (dev->info.exact_divide) same_bits("the smallest budget", &resident, &least);
    cst_session *s;
    char want[64];
    o.device_mem = host.peak - 1;
    snprintf(want, sizeof want, "%llu bytes", (unsigned long long)host.peak);
    ck_fails(cst_session_open(&s, &o), CST_OVER_BUDGET, want);
    ck_assert(strstr(cst_detail(), "--placement auto"));
    free(resident.weights), free(host.weights), free(exact.weights), free(less.weights), free(least.weights);
}
END_TEST

START_TEST(a_longer_sequence_than_the_model_has_is_refused)
{
    cst_session_options o = tiny("tiny-post");
    cst_session *s;
    o.seq = o.config.max_position_embeddings + 1;
    ck_fails(cst_session_open(&s, &o), CST_USAGE, "positions");
}
END_TEST

/* The trainer's own loop against the session's parts, its metrics, and the model it leaves. */
static int64_t reports;
static double report_loss[STEPS];

static void note(const cst_step_report *r, void *user)
{
    (void)user;
    ck_assert_int_eq(r->step, reports + 1);
    report_loss[reports++] = r->loss;
}

static cst_status save_model(cst_session *s, const char *dir, void *user)
{
    (void)user;
    return cst_model_save(s->model, dir, CST_SHARD_BYTES);
}

static int stop_now(void *user)
{
    return reports >= *(int *)user;
}

static void train_once(const cst_session_options *o, cst_train_options *t, cst_status want, cst_train_result *result)
{
    cst_session *s;
    static uint32_t text[1000];
    for (int i = 0; i < 1000; i++) text[i] = (uint32_t)(cst_random_u64(7, 7, (uint64_t)i) % (uint64_t)o->config.vocab_size);
    cst_batches_config c = {.seq = (int)o->seq, .batch = (int)o->batch, .shuffle = 1, .seed = 1, .vocab = (uint32_t)o->config.vocab_size};
    cst_batches *train, *valid;
    ck_ok(cst_batches_create(&train, text, 1000, &c));
    c.keep_last = 1;
    c.shuffle = 0;
    ck_ok(cst_batches_create(&valid, text, 100, &c));
    t->train = train;
    t->valid = valid;
    t->report = note;
    t->save = save_model;
    reports = 0;
    ck_ok(cst_session_open(&s, o));
    ck_ok(cst_model_init(s->model, o->seed));
    ck_ok(cst_session_start(s));
    ck_assert_int_eq(cst_train(result, s, t), want);
    ck_ok(cst_mem_check(s->mem));
    ck_ok(cst_session_close(s, CST_OK));
    cst_batches_free(train);
    cst_batches_free(valid);
}

START_TEST(metrics_and_checkpoints)
{
    cst_session_options o = tiny("tiny-post");
    cst_train_result result;
    char dir[300], path[400], line[600];
    snprintf(dir, sizeof dir, "%s/run", test_dir());
    cst_train_options t = {
        .out_dir = dir, .steps = STEPS, .eval_every = 3, .save_every = 4, .schedule = {CST_SCHEDULE_LINEAR, 1e-2, 2, STEPS}};
    train_once(&o, &t, CST_OK, &result);
    ck_assert_int_eq(reports, STEPS);
    ck_assert(result.valid_loss > 1 && result.valid_loss < 10);
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    for (int i = 0; i < STEPS; i++) {
        ck_assert_ptr_nonnull(fgets(line, sizeof line, f));
        json_t *j = json_loads(line, 0, NULL);
        ck_assert_msg(j != NULL, "not JSON: %s", line);
        static const char *const keys[] = {
            "step", "loss", "lr", "grad_norm", "tokens_per_s", "ms", "device_bytes", "device_peak_bytes", "h2d_bytes", "d2h_bytes"};
        for (size_t k = 0; k < 10; k++) ck_assert_msg(json_is_number(json_object_get(j, keys[k])), "%s", keys[k]);
        ck_assert_int_eq(json_integer_value(json_object_get(j, "step")), i + 1);
        ck_assert((float)json_number_value(json_object_get(j, "loss")) == (float)report_loss[i]); /* all bits */
        ck_assert_int_eq(json_object_get(j, "valid_loss") != NULL, i == 2 || i == 5);
        json_decref(j);
    }
    ck_assert_ptr_null(fgets(line, sizeof line, f));
    fclose(f);
    snprintf(path, sizeof path, "%s/checkpoint-4/model.safetensors", dir);
    ck_assert(cst_path_exists(path));
}
END_TEST

START_TEST(stopping_finishes_the_step)
{
    cst_session_options o = tiny("tiny-post");
    cst_train_result result;
    int after = 2;
    cst_train_options t = {.steps = STEPS, .schedule = {CST_SCHEDULE_CONSTANT, 1e-3, 0, STEPS}, .stop = stop_now, .user = &after};
    train_once(&o, &t, CST_INTERRUPTED, &result);
    ck_assert_int_ge(result.steps, 2);
    ck_assert_int_lt(result.steps, STEPS);
    ck_assert_int_eq(reports, result.steps);
    t.stop = NULL;
    t.stop_after = 3;
    train_once(&o, &t, CST_OK, &result);
    ck_assert_int_eq(result.steps, 3);
}
END_TEST

START_TEST(evaluation_equals_the_mean_over_all_targets)
{
    cst_session_options o = tiny("tiny-pre");
    cst_session *s;
    uint32_t text[130]; /* 10 blocks of 12 in batches of 2, then one of 4 with 3 rows: padded */
    double a, b;
    for (int i = 0; i < 130; i++) text[i] = (uint32_t)(cst_random_u64(5, 5, (uint64_t)i) % 61);
    for (int batch = 2; batch <= 4; batch += 2) {
        cst_batches *v;
        cst_batches_config c = {.seq = 12, .batch = batch, .keep_last = 1};
        o.batch = batch;
        ck_ok(cst_batches_create(&v, text, 130, &c));
        ck_ok(cst_session_open(&s, &o));
        ck_ok(cst_model_init(s->model, 1));
        ck_ok(cst_session_start(s));
        ck_ok(cst_evaluate(batch == 2 ? &a : &b, s, v));
        ck_ok(cst_session_close(s, CST_OK));
        cst_batches_free(v);
    }
    ck_assert_msg(fabs(a - b) <= 1e-6 * a, "%.9g and %.9g", a, b);
}
END_TEST

/* A gradient that isn't finite: no update, on the device as on the host. */
START_TEST(an_update_with_infinite_gradients_is_left_out)
{
    cst_session_options o = tiny("tiny-pre");
    o.placement = _i ? CST_PLACEMENT_STATIC : CST_PLACEMENT_RESIDENT;
    cst_session *s;
    ck_ok(cst_session_open(&s, &o));
    ck_ok(cst_model_init(s->model, 1));
    ck_ok(cst_session_start(s));
    int id = s->model->params / 2;
    float *before = op_read(s->model->w[id]), bad = _i ? NAN : INFINITY, norm[4];
    ck_ok(cst_session_begin(s, 1e-2, 1));
    ck_ok(cst_tensor_write(s->model->g[1], 4, &bad, 4));
    ck_ok(cst_optim_step(s->optim));
    ck_ok(cst_tensor_read(cst_optim_norm(s->optim), 0, norm, sizeof norm));
    ck_assert(norm[2] == 0);
    ck_ok(cst_session_settle(s));
    float *after = op_read(s->model->w[id]);
    ck_assert(!memcmp(before, after, s->model->w[id]->bytes));
    free(before), free(after);
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

/* Without clipping a layer goes by its own gradients, the two ends of the model by all. */
START_TEST(without_clipping_a_layer_with_infinite_gradients_is_left_out)
{
    cst_session_options o = tiny("tiny-pre");
    o.placement = _i ? CST_PLACEMENT_STATIC : CST_PLACEMENT_RESIDENT;
    o.optim.clip = 0;
    cst_session *s;
    ck_ok(cst_session_open(&s, &o));
    ck_ok(cst_model_init(s->model, 1));
    ck_ok(cst_session_start(s));
    const cst_model *M = s->model;
    float **before = calloc((size_t)M->params, sizeof *before), bad = NAN;
    for (int i = 0; i < M->params; i++) before[i] = op_read(M->w[i]);
    ck_ok(cst_session_begin(s, 1e-2, 1));
    for (int i = 0; i < M->params; i++) ck_ok(cst_fill(s->mem, M->g[i], 1));
    ck_ok(cst_tensor_write(M->g[cst_param_id(&M->config, CST_ROLE_Q_WEIGHT, 0)], 8, &bad, 4));
    ck_ok(cst_optim_step(s->optim));
    ck_assert(_i || !M->behind); /* on the device nothing is left for the next step */
    ck_ok(cst_session_settle(s));
    for (int i = 0; i < M->params; i++) {
        float *after = op_read(M->w[i]);
        ck_assert_msg((memcmp(before[i], after, M->w[i]->bytes) != 0) == (M->param[i].layer > 0), "%s", M->param[i].name);
        free(before[i]), free(after);
    }
    free(before);
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

static float *moments(cst_session *s, int which, int id)
{
    size_t n = (size_t)s->model->param[id].count;
    float *m = malloc(n * sizeof *m);
    ck_ok(cst_optim_read(s->optim, which, id, 0, m, n));
    return m;
}

/* A step leaves its update to the next one. Until then nothing reads weights: who forgets to settle hears of it. */
START_TEST(nothing_reads_weights_whose_update_is_to_come)
{
    cst_session_options o = tiny("tiny-post");
    cst_session *s;
    char dir[300];
    snprintf(dir, sizeof dir, "%s/early", test_dir());
    ck_ok(cst_session_open(&s, &o));
    ck_ok(cst_model_init(s->model, 1));
    ck_ok(cst_session_start(s));
    int id = s->model->params / 2;
    float *before = op_read(s->model->w[id]);
    enqueue_step(s, 0);
    ck_assert_int_gt(s->model->behind, 0);
    ck_fails(cst_model_evaluate(s->model, s->batch, s->loss), CST_STATE, "settle");
    ck_fails(cst_weights_save_folder(s->model, dir, CST_SHARD_BYTES), CST_STATE, "settle");
    ck_fails(cst_weights_save(s->model, s->model->w, dir, NULL, 0), CST_STATE, "settle");
    ck_assert(!cst_path_exists(dir));
    float *early = op_read(s->model->w[id]);
    ck_assert(!memcmp(before, early, s->model->w[id]->bytes));
    float *m = moments(s, 0, id); /* settles */
    ck_assert_int_eq(s->model->behind, 0);
    float *after = op_read(s->model->w[id]);
    ck_assert(memcmp(before, after, s->model->w[id]->bytes));
    ck_assert(m[0] != 0);
    ck_ok(cst_session_settle(s)); /* once is enough */
    float *again = op_read(s->model->w[id]);
    ck_assert(!memcmp(again, after, s->model->w[id]->bytes));
    ck_ok(cst_session_evaluate(s));
    free(before), free(early), free(m), free(after), free(again);
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

/* Whether a step's update is done at once or in the next step, all weights and moments are the same. */
START_TEST(settling_between_steps_changes_no_bit)
{
    cst_session_options o = tiny("tiny-pre");
    o.accum = 2;
    float *w[2], *m[2][2];
    size_t bytes = 0;
    for (int k = 0; k < 2; k++) {
        cst_session *s;
        ck_ok(cst_session_open(&s, &o));
        ck_ok(cst_model_init(s->model, 1));
        ck_ok(cst_session_start(s));
        for (int64_t t = 0; t < STEPS; t++) {
            enqueue_step(s, t);
            if (k && t % 2) ck_ok(cst_session_settle(s));
        }
        ck_ok(cst_session_settle(s));
        bytes = s->model->w[0]->bytes;
        w[k] = op_read(s->model->w[0]);
        for (int i = 0; i < 2; i++) m[k][i] = moments(s, i, 0);
        ck_ok(cst_session_close(s, CST_OK));
    }
    ck_assert(!memcmp(w[0], w[1], bytes) && !memcmp(m[0][0], m[1][0], bytes) && !memcmp(m[0][1], m[1][1], bytes));
    for (int k = 0; k < 2; k++) free(w[k]), free(m[k][0]), free(m[k][1]);
}
END_TEST

START_TEST(saved_weights_come_back_bit_for_bit)
{
    cst_session_options o = tiny("tiny-post");
    cst_session *s;
    char dir[300];
    snprintf(dir, sizeof dir, "%s/model", test_dir());
    ck_ok(cst_session_open(&s, &o));
    ck_ok(cst_model_init(s->model, 9));
    float *before = op_read(s->model->w[3]);
    ck_ok(cst_model_save(s->model, dir, CST_SHARD_BYTES));
    ck_ok(cst_model_init(s->model, 10));
    ck_ok(cst_weights_load(s->model, dir));
    float *after = op_read(s->model->w[3]);
    ck_assert(!memcmp(before, after, s->model->w[3]->bytes));
    free(before), free(after);
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("train");
    TCase *tc = tcase_create("train");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, same_seed_same_bits, 0, 2);
    tcase_add_loop_test(tc, placement_and_recomputation_change_no_bit, 0, 4);
    tcase_add_loop_test(tc, packed_weights_change_no_bit, 0, 4);
    tcase_add_loop_test(tc, nothing_in_a_step_waits_for_the_device, 0, 2);
    tcase_add_test(tc, dropout_reaches_the_loss);
    tcase_add_test(tc, budgets_are_obeyed_to_the_byte);
    tcase_add_test(tc, a_longer_sequence_than_the_model_has_is_refused);
    tcase_add_test(tc, metrics_and_checkpoints);
    tcase_add_test(tc, stopping_finishes_the_step);
    tcase_add_test(tc, evaluation_equals_the_mean_over_all_targets);
    tcase_add_loop_test(tc, an_update_with_infinite_gradients_is_left_out, 0, 2);
    tcase_add_loop_test(tc, without_clipping_a_layer_with_infinite_gradients_is_left_out, 0, 2);
    tcase_add_test(tc, nothing_reads_weights_whose_update_is_to_come);
    tcase_add_test(tc, settling_between_steps_changes_no_bit);
    tcase_add_test(tc, saved_weights_come_back_bit_for_bit);
    suite_add_tcase(s, tc);
    return op_main(s);
}
