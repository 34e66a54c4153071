/* castor train. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "model/folder.h"
#include "model/weights.h"
#include "text/token_cache.h"
#include "text/wikitext.h"
#include "train/trainer.h"

/* One split: its tokens and how they are handed out. */
typedef struct split {
    uint32_t *ids;
    size_t count;
    cst_batches *batches;
} split;

typedef struct run {
    const cst_args *a;
    cst_tokenizer *tok;
    split train, valid, test;
    int64_t steps;
    double last_print;       /* s: without a terminal, lines are spaced out */
    double phase_from;       /* when the phase of the start that goes on began */
    char phases[160];        /* and how long the others took */
} run;

/* The phase of the start that ends here. */
static void phase(run *r, const char *name)
{
    size_t at = strlen(r->phases);
    double t = cst_now();
    snprintf(r->phases + at, sizeof r->phases - at, "%s%s %.2f s", at ? ", " : "", name, t - r->phase_from);
    r->phase_from = t;
}

/* Path of a split from --data or its own option; NULL in *path when there is none. */
static cst_status split_path(char **path, const cst_args *a, cst_option_id own, const char *name, int required)
{
    const char *file = a->text[own], *data = a->text[CST_OPTION_DATA];
    *path = NULL;
    if (file) {
        *path = strdup(file);
        return *path ? CST_OK : cst_fail(CST_NO_MEMORY, "%s", file);
    }
    if (!data) return required ? cst_fail(CST_USAGE, "castor train needs --data DIR or --train FILE (try data/sample, or data/fetch for WikiText-2)") : CST_OK;
    cst_status st = cst_text_split_path(path, data, name);
    return st == CST_OK || required ? st : CST_OK;
}

/* The training text as ids from --tokens-file. */
static cst_status load_tokens(run *r, split *s, const char *path)
{
    if (r->a->text[CST_OPTION_DATA] || r->a->text[CST_OPTION_TRAIN]) return cst_fail(CST_USAGE, "--tokens-file is instead of --data or --train");
    return cst_token_rows_flat(&s->ids, &s->count, path);
}

static cst_status load_split(run *r, split *s, cst_option_id own, const char *name, int required)
{
    const char *out = r->a->text[CST_OPTION_OUT];
    char *path, *text = NULL, *cache = NULL;
    size_t n;
    cst_status st;
    if (!r->tok) return required ? cst_fail(CST_USAGE, "--%s needs --tokenizer", name) : CST_OK;
    CST_TRY(split_path(&path, r->a, own, name, required));
    if (!path) return CST_OK;
    if (out && !(cache = cst_path_join(out, "cache"))) {
        st = cst_fail(CST_NO_MEMORY, "%s", out);
        goto out;
    }
    CST_GO(cst_text_load(&text, &n, path), out);
    CST_GO(cst_token_cache_encode(&s->ids, &s->count, r->tok, text, n, cache), out);
out:
    if (st != CST_OK) st = cst_fail_in(st, "%s text", name);
    free(path);
    free(text);
    free(cache);
    return st;
}

static cst_status make_batches(run *r, split *s, const cst_session_options *o, int training)
{
    cst_batches_config c = {.seq = (int)o->seq, .batch = (int)o->batch, .shuffle = training && !cst_args_flag(r->a, CST_OPTION_NO_SHUFFLE),
                            .keep_last = !training, .seed = o->seed, .vocab = (uint32_t)o->config.vocab_size};
    return s->ids ? cst_batches_create(&s->batches, s->ids, s->count, &c) : CST_OK;
}

static void free_run(run *r)
{
    split *all[] = {&r->train, &r->valid, &r->test};
    for (int i = 0; i < 3; i++) {
        cst_batches_free(all[i]->batches);
        free(all[i]->ids);
    }
    cst_tokenizer_free(r->tok);
}

static void bar(char *out, size_t size, const cst_step_report *p)
{
    char fill[21], eta[32], mem[32], peak[32];
    int n = (int)(20 * p->step / p->steps);
    for (int i = 0; i < 20; i++) fill[i] = i < n ? '#' : '.';
    fill[20] = 0;
    snprintf(out, size, "[%s] %" PRId64 "/%" PRId64 " loss %.4f lr %.2e %.0f tok/s mem %s peak %s ETA %s", fill, p->step, p->steps, p->loss, p->lr,
             p->tokens_per_s, cst_bytes_text(mem, (double)p->device_bytes), cst_bytes_text(peak, (double)p->device_peak),
             cst_duration_text(eta, p->eta_s));
}

static void report(const cst_step_report *p, void *user)
{
    run *r = user;
    char line[256], peak[32], eta[32];
    double t = cst_now();
    if (cst_args_flag(r->a, CST_OPTION_QUIET)) return;
    if (cst_status_is_terminal()) {
        bar(line, sizeof line, p);
        cst_status_line(line);
    }
    int due = p->step == 1 || p->step == p->steps || !isnan(p->valid_loss) || t - r->last_print > 2 || cst_args_flag(r->a, CST_OPTION_VERBOSE);
    if (due && (!cst_status_is_terminal() || !isnan(p->valid_loss) || cst_args_flag(r->a, CST_OPTION_VERBOSE))) {
        cst_status_line(NULL);
        fprintf(stderr, "step %6" PRId64 "/%" PRId64 "  loss %8.5f  lr %.3e  norm %8.4f  %9.1f ms  %9.1f tok/s  peak %s  ETA %s", p->step,
                p->steps, p->loss, p->lr, p->grad_norm, p->ms, p->tokens_per_s, cst_bytes_text(peak, (double)p->device_peak),
                cst_duration_text(eta, p->eta_s));
        if (!isnan(p->valid_loss)) fprintf(stderr, "  valid %.5f", p->valid_loss);
        fputc('\n', stderr);
        r->last_print = t;
    }
}

/* The engines that computed this run's products: another choice would round otherwise. */
static cst_status save_choices(cst_session *s, const char *dir)
{
    char *path = cst_path_join(dir, "gemm.json");
    json_t *j = cst_gemm_choices_json(s->dev);
    cst_status st = path && j ? cst_json_save(j, path) : cst_fail(CST_NO_MEMORY, "%s/gemm.json", dir);
    json_decref(j);
    free(path);
    return st;
}

static cst_status save(cst_session *s, const char *dir, void *user)
{
    run *r = user;
    const char *spec = r->a->text[CST_OPTION_TOKENIZER], *model = r->a->text[CST_OPTION_MODEL];
    CST_TRY(cst_model_save(s->model, dir, CST_SHARD_BYTES));
    CST_TRY(save_choices(s, dir));
    if (r->tok) CST_TRY(cst_tokenizer_save(r->tok, dir));
    if (model) CST_TRY(cst_folder_copy_generation(dir, model));
    /* The files as they came say more than what was understood of them. */
    if (spec && strcmp(spec, "bytes")) return cst_folder_copy_tokenizer(dir, spec);
    return !spec && model ? cst_folder_copy_tokenizer(dir, model) : CST_OK;
}

static int stop(void *user)
{
    (void)user;
    return cst_interrupted();
}

/* Steps of the whole run and of the warm-up. */
static cst_status plan_steps(run *r, cst_schedule *s, const cst_session_options *o)
{
    const cst_args *a = r->a;
    if (a->text[CST_OPTION_STEPS] && a->text[CST_OPTION_EPOCHS]) return cst_fail(CST_USAGE, "--steps and --epochs exclude each other");
    double epochs = a->text[CST_OPTION_EPOCHS] ? cst_args_real(a, CST_OPTION_EPOCHS) : 3;
    double per_epoch = (double)cst_batches_count(r->train.batches) / (double)o->accum;
    r->steps = a->text[CST_OPTION_STEPS] ? cst_args_int(a, CST_OPTION_STEPS) : (int64_t)(epochs * per_epoch + 0.5);
    if (r->steps < 1) r->steps = 1;
    double w = cst_args_real(a, CST_OPTION_WARMUP);
    s->kind = (cst_schedule_kind)cst_args_choice(a, CST_OPTION_SCHEDULE);
    s->lr = cst_args_real(a, CST_OPTION_LR);
    s->steps = r->steps;
    s->warmup = w < 1 ? (int64_t)(w * (double)r->steps + 0.5) : (int64_t)w;
    if (s->warmup > r->steps) return cst_fail(CST_USAGE, "--warmup %g: the run has %" PRId64 " steps", w, r->steps);
    return CST_OK;
}

static void print_start(const run *r, const cst_session *s)
{
    char a[32], b[32];
    cst_mem_stats stats;
    if (cst_args_flag(r->a, CST_OPTION_QUIET)) return;
    cst_mem_get_stats(s->mem, &stats);
    fprintf(stderr, "castor %s on %s (%s)\n", PACKAGE_VERSION, s->dev->info.name, s->dev->info.platform);
    cst_args_settings(stderr, r->a);
    fprintf(stderr, "  %" PRId64 " parameters in %d tensors; placement %s: %s of device memory, budget %s\n", cst_config_parameters(&s->o.config),
            s->model->params, cst_placement_name(s->placement), cst_bytes_text(a, (double)s->planned), cst_bytes_text(b, (double)stats.budget));
    fprintf(stderr, "  %zu tokens of text in %" PRIu64 " batches of %" PRId64 " x %" PRId64 "; %" PRId64 " steps\n", r->train.count,
            cst_batches_count(r->train.batches), s->o.batch, s->o.seq, r->steps);
}

static void print_result(const run *r, const cst_session *s, const cst_train_result *t, double test_loss)
{
    const char *out = r->a->text[CST_OPTION_OUT];
    cst_mem_stats stats;
    char peak[32];
    cst_mem_get_stats(s->mem, &stats);
    if (cst_args_flag(r->a, CST_OPTION_JSON)) {
        printf("{\"steps\": %" PRId64 ", \"first_loss\": %.9g, \"last_loss\": %.9g, \"tokens_per_s\": %.1f, \"ms\": %.3f, \"device_peak_bytes\": %" PRIu64,
               t->steps, t->first_loss, t->last_loss, t->tokens_per_s, t->median_ms, stats.reserved_peak);
        if (!isnan(t->valid_loss)) printf(", \"valid_loss\": %.9g", t->valid_loss);
        if (!isnan(test_loss)) printf(", \"test_loss\": %.9g", test_loss);
        printf("}\n");
        return;
    }
    printf("%" PRId64 " steps: loss %.4f -> %.4f, %.1f tokens/s, device memory peak %s\n", t->steps, t->first_loss, t->last_loss,
           t->tokens_per_s, cst_bytes_text(peak, (double)stats.reserved_peak));
    if (!isnan(t->valid_loss)) printf("validation loss %.4f (perplexity %.2f)\n", t->valid_loss, exp(t->valid_loss));
    if (!isnan(test_loss)) printf("test loss %.4f (perplexity %.2f)\n", test_loss, exp(test_loss));
    if (out) printf("model saved in %s; train it further: castor train --model %s --data DIR --out DIR2\n", out, out);
}

static cst_status train(run *r, cst_session *s, const cst_schedule *schedule)
{
    const cst_args *a = r->a;
    const char *out = a->text[CST_OPTION_OUT], *model = a->text[CST_OPTION_MODEL];
    cst_train_result result;
    double test_loss = NAN;
    cst_train_options o = {.out_dir = out, .steps = r->steps, .stop_after = cst_args_int(a, CST_OPTION_STOP_AFTER),
                           .eval_every = cst_args_int(a, CST_OPTION_EVAL_EVERY), .save_every = cst_args_int(a, CST_OPTION_SAVE_EVERY),
                           .schedule = *schedule, .train = r->train.batches, .valid = r->valid.batches, .report = report, .save = save,
                           .stop = stop, .user = r};
    if (model) CST_TRY(cst_weights_load(s->model, model));
    else CST_TRY(cst_model_init(s->model, s->o.seed));
    phase(r, "weights");
    CST_TRY(cst_session_start(s));
    phase(r, "optimizer");
    cst_log(CST_LOG_DEBUG, "start: %s", r->phases);
    cst_status st = cst_train(&result, s, &o);
    cst_status_line(NULL);
    if (st != CST_OK && st != CST_INTERRUPTED) return st;
    if (out) {
        cst_status saved = save(s, out, r);
        if (saved != CST_OK) return saved;
    }
    if (st == CST_INTERRUPTED)
        return cst_fail(st, "interrupted after step %" PRId64 " of %" PRId64 "%s%s", result.steps, r->steps, out ? "; the model is saved in " : "", out ? out : "");
    if (r->test.batches) CST_TRY(cst_evaluate(&test_loss, s, r->test.batches));
    print_result(r, s, &result, test_loss);
    return CST_OK;
}

cst_status cst_cmd_train(const cst_args *a)
{
    run r = {.a = a, .phase_from = cst_now()};
    cst_session_options o;
    cst_schedule schedule;
    cst_config config;
    cst_session *s = NULL;
    cst_status st;
    CST_GO(cst_config_from(&config, a), out);
    CST_GO(cst_session_options_from(&o, a, &config), out);
    CST_GO(cst_tokenizer_from(&r.tok, a, &config), out);
    if (a->text[CST_OPTION_TOKENS_FILE]) CST_GO(load_tokens(&r, &r.train, a->text[CST_OPTION_TOKENS_FILE]), out);
    else CST_GO(load_split(&r, &r.train, CST_OPTION_TRAIN, "train", 1), out);
    CST_GO(make_batches(&r, &r.train, &o, 1), out);
    if (cst_args_int(a, CST_OPTION_EVAL_EVERY)) {
        CST_GO(load_split(&r, &r.valid, CST_OPTION_VALID, "valid", 0), out);
        CST_GO(make_batches(&r, &r.valid, &o, 0), out);
    }
    if (a->text[CST_OPTION_TEST]) {
        CST_GO(load_split(&r, &r.test, CST_OPTION_TEST, "test", 1), out);
        CST_GO(make_batches(&r, &r.test, &o, 0), out);
    }
    CST_GO(plan_steps(&r, &schedule, &o), out);
    phase(&r, "text");
    CST_GO(cst_session_open(&s, &o), out);
    phase(&r, "device, plan and memory");
    print_start(&r, s);
    st = train(&r, s, &schedule);
out:
    st = cst_session_close(s, st);
    free_run(&r);
    return st;
}
