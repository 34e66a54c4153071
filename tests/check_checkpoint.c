/* Checkpoints: what is loaded is what was saved, to the bit and wherever the optimizer's state lies; damage is named; what
 * is there stays whatever fails.
 */
#include "model_testing.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/freeze.h"
#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/outdir.h"

/* on_host 1: all state of the optimizer; 2: that of the layers' matrices, in half of the memory, where tensors migrate. */
static cst_session_options tiny(int on_host)
{
    cst_session_options o = fixture_options("tiny-post", 2, 12);
    o.with_optim = 1;
    o.accum = 2;
    o.dropout = 0.1;
    o.placement = on_host == 1 ? CST_PLACEMENT_STATIC : on_host ? CST_PLACEMENT_AUTO : CST_PLACEMENT_RESIDENT;
    if (on_host == 2) o.device_mem = 120000, o.host_layers = 2;
    return o;
}

/* Steps [from, to) of a run; loss[t] of each. */
static void steps(cst_session *s, int from, int to, float *loss)
{
    for (int t = from; t < to; t++) {
        enqueue_step(s, t);
        ck_ok(cst_tensor_read(s->losses, 0, &loss[t], sizeof loss[t]));
    }
}

static cst_session *open_new(const cst_session_options *o)
{
    cst_session *s;
    ck_ok(cst_session_open(&s, o));
    ck_ok(cst_model_init(s->model, o->seed));
    ck_ok(cst_session_start(s));
    return s;
}

/* Weights and moments, one after the other; malloc'd. */
static float *state_of(cst_session *s, size_t *n)
{
    const cst_model *M = s->model;
    ck_ok(cst_session_settle(s));
    *n = 3 * (size_t)cst_config_parameters(&M->config);
    float *all = malloc(*n * sizeof *all), *p = all;
    for (int i = 0; i < M->params; i++) {
        size_t count = (size_t)M->param[i].count;
        ck_ok(cst_tensor_read(M->w[i], 0, p, M->w[i]->bytes));
        for (int k = 0; k < 2; k++) ck_ok(cst_optim_read(s->optim, k, i, 0, p + (k + 1) * count, count));
        p += 3 * count;
    }
    return all;
}

static cst_status save_model(cst_session *s, const char *dir, void *user)
{
    CST_TRY(cst_model_save(s->model, dir, CST_SHARD_BYTES));
    return user ? cst_fail(CST_IO, "no more") : CST_OK;
}

/* Entries of a folder. */
static int entries(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d));) n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

static void make_out(const char *dir)
{
    int lock;
    ck_ok(cst_outdir_open(&lock, dir));
    close(lock);
}

static void put(const char *path, const char *text)
{
    ck_ok(cst_file_write(path, text, strlen(text)));
}

/* Saved in one placement, loaded in the same or the other one: same state, and the same losses as without a stop. */
START_TEST(a_run_goes_on_to_the_bit)
{
    int first = _i % 3, second = _i / 3;
    cst_session_options o = tiny(first);
    float want[6], got[6];
    size_t n, m;
    cst_checkpoint c = {.step = 3, .best_loss = 0.1 + 0.2, .best_step = 2, .about = json_pack("{s:i}", "x", 7)}, r;
    char dir[300];
    if (first != second && !dev->info.exact_divide) return;
    snprintf(dir, sizeof dir, "%s/run%d", test_dir(), _i);
    make_out(dir);
    cst_session *s = open_new(&o);
    ck_assert_int_eq(s->host_layers, first == 2 ? 2 : 0);
    steps(s, 0, 3, want);
    ck_ok(cst_checkpoint_save(s, dir, &c, save_model, NULL));
    float *saved = state_of(s, &n);
    steps(s, 3, 6, want);
    float *end = state_of(s, &n);
    ck_ok(cst_session_close(s, CST_OK));

    ck_ok(cst_checkpoint_read(&r, dir));
    ck_assert_int_eq(r.step, 3);
    ck_assert(r.best_loss == 0.1 + 0.2 && r.best_step == 2);
    ck_assert(json_equal(r.about, c.about));
    o = tiny(second);
    o.products = r.products;
    ck_ok(cst_session_open(&s, &o));
    ck_ok(cst_checkpoint_load(s, &r));
    float *loaded = state_of(s, &m);
    ck_assert_uint_eq(n, m);
    ck_assert(!memcmp(saved, loaded, n * sizeof *saved));
    steps(s, 3, 6, got);
    ck_assert(!memcmp(want + 3, got + 3, 3 * sizeof *got));
    float *again = state_of(s, &m);
    ck_assert(!memcmp(end, again, n * sizeof *end));
    ck_ok(cst_session_close(s, CST_OK));
    cst_checkpoint_close(&r);
    json_decref(c.about);
    free(saved), free(loaded), free(end), free(again);
}
END_TEST

/* ---- damage ---- */

static char *keep_file(const char *path, size_t *n)
{
    char *data;
    ck_ok(cst_file_read(&data, n, path));
    return data;
}

static cst_status try_load(const char *dir)
{
    cst_checkpoint c;
    cst_session_options o = tiny(0);
    cst_session *s = NULL;
    cst_status st = cst_checkpoint_read(&c, dir);
    if (st == CST_OK) st = cst_session_open(&s, &o);
    if (st == CST_OK) st = cst_checkpoint_load(s, &c);
    st = cst_session_close(s, st);
    cst_checkpoint_close(&c);
    return st;
}

/* Each file missing, cut off and with one bit changed. */
START_TEST(damage_is_named)
{
    static const struct {
        const char *name, *missing, *cut, *bit;
    } files[] = {
        {"model.safetensors", "no weights", "model.safetensors", "checksum"},
        {"optimizer.safetensors", "optimizer.safetensors: No such file", "optimizer.safetensors", "optimizer.safetensors: its numbers"},
        {"trainer.json", "no complete checkpoint", "trainer.json", NULL},
        {"complete", "isn't complete", NULL, NULL}};
    cst_session_options o = tiny(0);
    cst_checkpoint c = {.step = 2, .best_loss = NAN};
    float loss[2];
    char dir[300], point[400];
    snprintf(dir, sizeof dir, "%s", test_file("damage"));
    snprintf(point, sizeof point, "%s/checkpoint-2", dir);
    make_out(dir);
    cst_session *s = open_new(&o);
    steps(s, 0, 2, loss);
    ck_ok(cst_checkpoint_save(s, dir, &c, save_model, NULL));
    ck_ok(cst_session_close(s, CST_OK));
    ck_ok(try_load(point));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t n;
        const char *path = test_path(point, files[i].name);
        char *data = keep_file(path, &n), copy[600];
        snprintf(copy, sizeof copy, "%s", path);
        ck_assert_int_eq(unlink(copy), 0);
        ck_assert_msg(try_load(point) != CST_OK && strstr(cst_detail(), files[i].missing), "without %s: %s", files[i].name, cst_detail());
        for (int k = 1; files[i].cut && k < 8; k++) {
            ck_ok(cst_file_write(copy, data, n * (size_t)k / 8));
            ck_assert_msg(try_load(point) == CST_INPUT && strstr(cst_detail(), files[i].cut), "%s cut off: %s", files[i].name,
                          cst_detail());
        }
        if (files[i].bit) { /* the lowest bit of a number in the middle */
            size_t at = n - n / 8 * 4;
            data[at] ^= 1;
            ck_ok(cst_file_write(copy, data, n));
            ck_fails(try_load(point), CST_INPUT, files[i].bit);
            data[at] ^= 1;
        }
        ck_ok(cst_file_write(copy, data, n));
        free(data);
    }
    ck_ok(try_load(dir));
}
END_TEST

START_TEST(a_wrong_trainer_json_is_named)
{
    static const struct {
        const char *text, *words;
        cst_status st;
    } cases[] = {{"[]", "JSON object", CST_INPUT},
                 {"{\"schema\": 2}", "allowed: 1", CST_UNSUPPORTED},
                 {"{\"schema\": 1}", "no \"step\"", CST_INPUT},
                 {"{\"schema\": 1, \"step\": -3}", "\"step\" is -3", CST_INPUT},
                 {"{\"schema\": 1, \"step\": 3}", "\"xxh3\"", CST_INPUT},
                 {"{\"schema\": 1, \"step\": 3, \"xxh3\": {\"weights\": \"12\"}}", "16 hex", CST_INPUT},
                 {"{\"schema\": 1, \"step\": 3, \"xxh3\": {\"weights\": \"0123456789abcdef\", \"moments\": \"0123456789abcdef\"}}",
                  "matrix_products", CST_INPUT}};
    const char *dir = test_file("wrong");
    ck_ok(cst_make_dirs(dir));
    put(test_path(dir, "complete"), "");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cst_checkpoint c;
        put(test_path(dir, "trainer.json"), cases[i].text);
        ck_fails(cst_checkpoint_read(&c, dir), cases[i].st, cases[i].words);
        cst_checkpoint_close(&c);
    }
    cst_checkpoint c;
    ck_fails(cst_checkpoint_read(&c, test_file("nowhere")), CST_IO, "nowhere: No such file");
    cst_checkpoint_close(&c);
}
END_TEST

/* ---- the folder ---- */

START_TEST(the_newest_are_kept_and_others_left_alone)
{
    cst_session_options o = tiny(0);
    cst_session *s = open_new(&o);
    char dir[300];
    snprintf(dir, sizeof dir, "%s", test_file("keep"));
    make_out(dir);
    ck_ok(cst_make_dirs(test_path(dir, "checkpoint-1"))); /* another program's: no trainer.json */
    ck_ok(cst_make_dirs(test_path(dir, "checkpoint-7x")));
    for (int64_t t = 8; t <= 12; t++) {
        cst_checkpoint c = {.step = t, .best_loss = NAN};
        ck_ok(cst_checkpoint_save(s, dir, &c, save_model, NULL));
        ck_ok(cst_outdir_keep(dir, 2));
    }
    ck_assert_int_eq(entries(dir), 4);
    ck_assert(cst_path_exists(test_path(dir, "checkpoint-11")) &&
              cst_path_exists(test_path(dir, "checkpoint-12"))); /* not by the alphabet */
    ck_ok(cst_outdir_keep(dir, 0));
    ck_assert_int_eq(entries(dir), 4);
    ck_fails(cst_outdir_check_new(dir), CST_USAGE, "the last of step 12");
    ck_ok(cst_outdir_drop_after(dir, 11));
    char *newest;
    ck_ok(cst_outdir_find(&newest, dir));
    ck_assert_str_eq(newest, test_path(dir, "checkpoint-11"));
    free(newest);
    /* A name that is taken is an error, not a loss. */
    cst_checkpoint c = {.step = 1, .best_loss = NAN};
    put(test_path(dir, "checkpoint-1/mine"), "x");
    ck_fails(cst_checkpoint_save(s, dir, &c, save_model, NULL), CST_IO, "checkpoint-1");
    ck_assert(cst_path_exists(test_path(dir, "checkpoint-1/mine")));
    ck_assert_int_eq(entries(dir), 3);
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

START_TEST(what_killed_runs_left_is_put_right)
{
    char dir[300];
    int lock, other;
    snprintf(dir, sizeof dir, "%s", test_file("stale"));
    ck_ok(cst_make_dirs(test_path(dir, ".checkpoint-5.tmp-abc123")));
    put(test_path(dir, ".checkpoint-5.tmp-abc123/model.safetensors"), "half");
    ck_ok(cst_make_dirs(test_path(dir, ".best.tmp-abc123")));
    ck_ok(cst_make_dirs(test_path(dir, ".best.old")));
    put(test_path(dir, ".best.old/config.json"), "old");
    ck_ok(cst_make_dirs(test_path(dir, "checkpoint-4"))); /* renamed, but without its mark */
    put(test_path(dir, "checkpoint-4/trainer.json"), "{}");
    ck_ok(cst_make_dirs(test_path(dir, ".hidden.tmp-mine")));
    ck_ok(cst_outdir_open(&lock, dir));
    ck_assert_int_eq(entries(dir), 2);
    ck_assert(cst_path_exists(test_path(dir, "best/config.json"))); /* it came back */
    ck_assert(cst_path_exists(test_path(dir, ".hidden.tmp-mine")));
    ck_fails(cst_outdir_open(&other, dir), CST_STATE, "another run");
    close(lock);
    ck_ok(cst_make_dirs(test_path(dir, ".best.old")));
    ck_ok(cst_outdir_open(&lock, dir));
    close(lock);
    ck_assert_int_eq(entries(dir), 2);
}
END_TEST

START_TEST(a_failed_save_leaves_what_was_there)
{
    cst_session_options o = tiny(0);
    cst_session *s = open_new(&o);
    char dir[300], *newest;
    size_t n;
    int fail = 1;
    snprintf(dir, sizeof dir, "%s", test_file("failed"));
    make_out(dir);
    cst_checkpoint c = {.step = 1, .best_loss = NAN};
    ck_ok(cst_checkpoint_save(s, dir, &c, save_model, NULL));
    ck_ok(cst_checkpoint_save_best(s, dir, save_model, NULL));
    char *best = keep_file(test_path(dir, "best/model.safetensors"), &n);
    float loss[1];
    steps(s, 0, 1, loss);
    c.step = 2;
    ck_fails(cst_checkpoint_save(s, dir, &c, save_model, &fail), CST_IO, "no more");
    ck_fails(cst_checkpoint_save_best(s, dir, save_model, &fail), CST_IO, "no more");
    ck_assert_int_eq(entries(dir), 2);
    ck_ok(cst_outdir_find(&newest, dir));
    ck_assert_str_eq(newest, test_path(dir, "checkpoint-1"));
    free(newest);
    char *still = keep_file(test_path(dir, "best/model.safetensors"), &n);
    ck_assert(!memcmp(best, still, n));
    ck_ok(cst_checkpoint_save_best(s, dir, save_model, NULL)); /* and this takes its place */
    char *better = keep_file(test_path(dir, "best/model.safetensors"), &n);
    ck_assert(memcmp(best, better, n));
    ck_assert_int_eq(entries(dir), 2);
    ck_fails(cst_outdir_room(dir, UINT64_MAX), CST_IO, "18446744073709551615 bytes");
    ck_ok(cst_outdir_room(dir, 1));
    free(best), free(still), free(better);
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

START_TEST(metrics_go_on_without_a_step_twice)
{
    char dir[300], *text;
    size_t n;
    int fd;
    snprintf(dir, sizeof dir, "%s", test_file("metrics"));
    ck_ok(cst_make_dirs(dir));
    put(test_path(dir, "metrics.jsonl"),
        "{\"step\": 1, \"loss\": 3}\n{\"step\": 2}\n{\"step\": 2}\nrubbish\n{\"step\": 3}\n{\"step\": 4}\n{\"ste");
    ck_ok(cst_metrics_open(&fd, dir, NULL, 3));
    ck_assert_int_eq(write(fd, "+\n", 2), 2);
    close(fd);
    text = keep_file(test_path(dir, "metrics.jsonl"), &n);
    ck_assert_str_eq(text, "{\"step\": 1, \"loss\": 3}\n{\"step\": 2}\n{\"step\": 3}\n+\n");
    free(text);
    ck_ok(cst_metrics_open(&fd, dir, NULL, 0));
    close(fd);
    text = keep_file(test_path(dir, "metrics.jsonl"), &n);
    ck_assert_uint_eq(n, 0);
    free(text);
}
END_TEST

/* ---- a loss that isn't finite ---- */

/* One run whose parameter `id` has this value at its place 3 when it starts. freeze: patterns, or NULL. */
static void train_with(int on_host, const char *freeze, int id, float value, const char *words)
{
    cst_session_options o = tiny(on_host);
    unsigned char *frozen = NULL;
    int count;
    if (freeze) ck_ok(cst_freeze(&frozen, &count, &o.config, freeze));
    o.frozen = frozen;
    cst_session *s = open_new(&o);
    static uint32_t text[1000];
    char want[200];
    cst_batches *b;
    cst_batches_config c = {.seq = 12, .batch = 2, .shuffle = 1, .seed = 1};
    cst_train_result result;
    for (int i = 0; i < 1000; i++) text[i] = (uint32_t)(cst_random_u64(7, 7, (uint64_t)i) % (uint64_t)o.config.vocab_size);
    ck_ok(cst_batches_create(&b, text, 1000, &c));
    ck_ok(cst_tensor_write(s->model->w[id], 12, &value, 4));
    cst_train_options t = {.out_dir = test_file("nan"),
                           .steps = 5,
                           .save_every = 1,
                           .schedule = {CST_SCHEDULE_CONSTANT, 1e-3, 0, 5},
                           .train = b,
                           .save = save_model};
    snprintf(want, sizeof want, words, s->model->param[id].name);
    ck_fails(cst_train(&result, s, &t), CST_NOT_FINITE, want);
    ck_assert(strstr(cst_detail(), "step 1: the loss"));
    ck_assert(!cst_path_exists(test_path(t.out_dir, "checkpoint-1")) && !cst_path_exists(test_path(t.out_dir, "best")));
    cst_batches_free(b);
    ck_ok(cst_session_close(s, CST_OK));
    free(frozen);
}

START_TEST(a_loss_that_is_not_finite_names_the_first_tensor)
{
    cst_session_options o = tiny(0);
    int norm = cst_param_id(&o.config, CST_ROLE_FFN_NORM_WEIGHT, 1);
    train_with(_i, NULL, norm, NAN, "weight \"%s\" (NaN at element 3)");
    train_with(_i, NULL, norm, INFINITY, "weight \"%s\" (infinity at element 3)");
    train_with(_i, NULL, norm, 3e38f, "the gradient of \"model.decoder.embed_tokens.weight\"");
}
END_TEST

/* Weights that are frozen are named as others are; of gradients, the first of those that there are. */
START_TEST(with_frozen_parameters_too)
{
    cst_session_options o = tiny(0);
    int norm = cst_param_id(&o.config, CST_ROLE_FFN_NORM_WEIGHT, 1);
    train_with(_i, "layers.1.*", norm, NAN, "weight \"%s\" (NaN at element 3)");
    train_with(_i, "embed_*,layers.0.*", norm, INFINITY, "weight \"%s\" (infinity at element 3)");
    train_with(_i, "layers.1.*", norm, 3e38f, "the gradient of \"model.decoder.embed_tokens.weight\"");
    train_with(_i, "embed_*,project_*,layers.1.*", norm, 3e38f, "the gradient of \"model.decoder.layers.0.self_attn.k_proj.weight\"");
    train_with(_i, "embed_*,project_*,layers.0.*", norm, 3e38f, "the gradient of \"model.decoder.layers.1.self_attn.k_proj.weight\"");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("checkpoint");
    TCase *tc = tcase_create("checkpoint");
    tcase_set_timeout(tc, 0);
    tcase_add_loop_test(tc, a_run_goes_on_to_the_bit, 0, 9);
    tcase_add_test(tc, damage_is_named);
    tcase_add_test(tc, a_wrong_trainer_json_is_named);
    tcase_add_test(tc, the_newest_are_kept_and_others_left_alone);
    tcase_add_test(tc, what_killed_runs_left_is_put_right);
    tcase_add_test(tc, a_failed_save_leaves_what_was_there);
    tcase_add_test(tc, metrics_go_on_without_a_step_twice);
    tcase_add_loop_test(tc, a_loss_that_is_not_finite_names_the_first_tensor, 0, 3);
    tcase_add_loop_test(tc, with_frozen_parameters_too, 0, 3);
    suite_add_tcase(s, tc);
    return op_main(s);
}
