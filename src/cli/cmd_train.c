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
#include "cli/resume.h"
#include "cli/run_file.h"
#include "model/folder.h"
#include "model/freeze.h"
#include "model/weights.h"
#include "text/mask.h"
#include "text/token_cache.h"
#include "text/wikitext.h"
#include "train/outdir.h"
#include "train/report.h"
#include "train/trainer.h"

/* One split: its tokens and how they are handed out. */
typedef struct split {
    uint32_t *ids;
    size_t count;
    size_t *end, ends;       /* where documents end, when the text came as arrays */
    unsigned char *counts;   /* [count] which tokens count for the loss; NULL: all */
    cst_batches *batches;
} split;

typedef struct run {
    const cst_args *a;
    cst_tokenizer *tok;
    split train, valid, test;
    int64_t steps;
    unsigned char *frozen;
    json_t *record;          /* run.json; NULL: not begun */
    cst_session *session;
    cst_train_result result;
    double test_loss;
    cst_checkpoint from;     /* dir NULL: from the start */
    char *run_dir;           /* whose it is */
    json_t *about;           /* for checkpoints */
    cst_folder_files files;  /* passed on to saved models */
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
    if (!data)
        return required
                   ? cst_fail(CST_USAGE, "castor train needs --data DIR or --train FILE (try data/sample, or data/fetch for WikiText-2)")
                   : CST_OK;
    cst_status st = cst_text_split_path(path, data, name);
    return st == CST_OK || required ? st : CST_OK;
}

/* The training text as ids from --tokens-file. */
static cst_status load_tokens(const run *r, split *s, const char *path)
{
    if (r->a->text[CST_OPTION_DATA] || r->a->text[CST_OPTION_TRAIN])
        return cst_fail(CST_USAGE, "--tokens-file is instead of --data or --train");
    return cst_token_rows_flat(&s->ids, &s->count, &s->end, &s->ends, path);
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

/* --mask-before: which tokens of the split count. */
static cst_status mask(run *r, split *s, const char *name)
{
    const char *marker = r->a->text[CST_OPTION_MASK_BEFORE];
    cst_mask_figures f;
    if (!marker || !s->ids) return CST_OK;
    if (!r->tok) return cst_fail(CST_USAGE, "--mask-before with --tokens-file needs --tokenizer, to know what the ids mean");
    if (!(s->counts = malloc(s->count))) return cst_fail(CST_NO_MEMORY, "%s text", name);
    CST_TRY(cst_mask_before(s->counts, &f, r->tok, s->ids, s->count, s->end, s->ends, marker));
    cst_log(CST_LOG_INFO, "  %s text: %" PRIu64 " of %zu tokens, those behind \"%s\", count for the loss", name, f.tokens, s->count,
            marker);
    if (f.unmarked)
        cst_log(CST_LOG_WARN, "%s text: %" PRIu64 " of %" PRIu64 " documents have no \"%s\": nothing of them counts for the loss", name,
                f.unmarked, f.documents, marker);
    return CST_OK;
}

static cst_status make_batches(run *r, split *s, const cst_session_options *o, const char *name, int training)
{
    CST_TRY(mask(r, s, name));
    cst_batches_config c = {.seq = (int)o->seq, .batch = (int)o->batch, .shuffle = training && !cst_args_flag(r->a, CST_OPTION_NO_SHUFFLE),
                            .keep_last = !training, .seed = o->seed, .vocab = (uint32_t)o->config.vocab_size, .counts = s->counts};
    cst_status st = s->ids ? cst_batches_create(&s->batches, s->ids, s->count, &c) : CST_OK;
    return st == CST_OK ? st : cst_fail_in(st, "%s text", name);
}

static void free_run(run *r)
{
    split *all[] = {&r->train, &r->valid, &r->test};
    for (int i = 0; i < 3; i++) {
        cst_batches_free(all[i]->batches);
        free(all[i]->ids);
        free(all[i]->end);
        free(all[i]->counts);
    }
    free(r->frozen);
    json_decref(r->record);
    cst_tokenizer_free(r->tok);
    cst_folder_files_free(&r->files);
    cst_checkpoint_close(&r->from);
    json_decref(r->about);
    free(r->run_dir);
}

/* run.json and report.html as of now. */
static cst_status update_record(run *r)
{
    const char *out = r->a->text[CST_OPTION_OUT];
    return r->record && out ? cst_run_save(r->record, r->session, out, 1) : CST_OK;
}

static cst_status begin_record(run *r, cst_session *s)
{
    const struct {
        const char *role;
        cst_option_id own;
        const split *split;
    } data[] = {{"train", CST_OPTION_TRAIN, &r->train}, {"valid", CST_OPTION_VALID, &r->valid}, {"test", CST_OPTION_TEST, &r->test}};
    const char *tokens = r->a->text[CST_OPTION_TOKENS_FILE];
    if (!r->a->text[CST_OPTION_OUT]) return CST_OK;
    json_t *report = r->record; /* of --init-from */
    r->record = NULL;
    cst_status st = cst_run_begin(&r->record, r->a, s);
    if (report) st == CST_OK ? (void)json_object_set_new(r->record, "init_from", report) : json_decref(report);
    CST_TRY(st);
    if (tokens) CST_TRY(cst_run_add_data(r->record, "train", tokens));
    for (int i = 0; i < 3; i++) {
        char *path = NULL;
        if (!data[i].split->ids || (!i && tokens)) continue;
        st = split_path(&path, r->a, data[i].own, data[i].role, 1);
        if (st == CST_OK && path) st = cst_run_add_data(r->record, data[i].role, path);
        free(path);
        CST_TRY(st);
    }
    r->session = s;
    return cst_run_save(r->record, s, r->a->text[CST_OPTION_OUT], 0);
}

/* A number, or nothing when it isn't one: JSON has no NaN. */
static void put_real(json_t *j, const char *name, double v)
{
    if (isfinite(v)) json_object_set_new(j, name, json_real(v));
}

/* How the run ended goes on record; returns st with its detail, or what went wrong with the record. */
static cst_status end_record(run *r, cst_session *s, cst_status st)
{
    char why[2048];
    cst_mem_stats stats;
    if (!r->record || !r->session) return st;
    snprintf(why, sizeof why, "%s", cst_detail());
    cst_mem_get_stats(s->mem, &stats);
    json_t *j = json_pack("{s:I, s:I}", "steps", (json_int_t)r->result.steps, "device_peak_bytes", (json_int_t)stats.reserved_peak);
    if (r->result.steps) {
        put_real(j, "first_loss", r->result.first_loss);
        put_real(j, "last_loss", r->result.last_loss);
        put_real(j, "valid_loss", r->result.valid_loss);
        put_real(j, "test_loss", r->test_loss);
        put_real(j, "tokens_per_s", r->result.tokens_per_s);
        put_real(j, "median_ms", r->result.median_ms);
    }
    cst_status saved = cst_run_end(r->record, st, j);
    if (saved == CST_OK) saved = cst_run_save(r->record, s, r->a->text[CST_OPTION_OUT], r->result.steps > 0);
    return st == CST_OK ? saved : cst_fail(st, "%s", why);
}

static void bar(char *out, size_t size, const cst_step_report *p)
{
    char fill[21], eta[32], mem[32], peak[32];
    int n = (int)(20 * p->step / p->steps);
    for (int i = 0; i < 20; i++) fill[i] = i < n ? '#' : '.';
    fill[20] = 0;
    snprintf(out, size, "[%s] %" PRId64 "/%" PRId64 " loss %.4f lr %.2e %.0f tok/s mem %s peak %s ETA %s", fill, p->step, p->steps, p->loss,
             p->lr, p->tokens_per_s, cst_bytes_text(mem, (double)p->device_bytes), cst_bytes_text(peak, (double)p->device_peak),
             cst_duration_text(eta, p->eta_s));
}

static void report(const cst_step_report *p, void *user)
{
    run *r = user;
    char line[256], peak[32], eta[32];
    double t = cst_now();
    if (!isnan(p->valid_loss) && update_record(r) != CST_OK) cst_log(CST_LOG_WARN, "%s", cst_detail());
    if (cst_args_flag(r->a, CST_OPTION_QUIET)) return;
    if (cst_status_is_terminal()) {
        bar(line, sizeof line, p);
        cst_status_line(line);
    }
    int due = p->step == 1 || p->step == p->steps || !isnan(p->valid_loss) || t - r->last_print > 2 ||
              cst_args_flag(r->a, CST_OPTION_VERBOSE);
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

static cst_status save(cst_session *s, const char *dir, void *user)
{
    run *r = user;
    CST_TRY(cst_model_save(s->model, dir, CST_SHARD_BYTES));
    if (r->tok) CST_TRY(cst_tokenizer_save(r->tok, dir));
    CST_TRY(cst_folder_files_write(&r->files, dir));
    return update_record(r);
}

/* Files to pass on, from where model and tokenizer come from. */
static cst_status read_files(run *r)
{
    const char *spec = r->a->text[CST_OPTION_TOKENIZER], *model = r->from.dir ? r->from.dir : r->a->text[CST_OPTION_MODEL];
    if (model) CST_TRY(cst_folder_files_generation(&r->files, model));
    if (!spec) spec = model;
    return spec && strcmp(spec, "bytes") ? cst_folder_files_tokenizer(&r->files, spec) : CST_OK;
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
    fprintf(stderr, "  %" PRId64 " parameters in %d tensors; placement %s: %s of device memory, budget %s\n",
            cst_config_parameters(&s->o.config), s->model->params, cst_placement_name(s->placement), cst_bytes_text(a, (double)s->planned),
            cst_bytes_text(b, (double)stats.budget));
    const cst_plan *plan = cst_mem_plan(s->mem);
    if (plan)
        fprintf(stderr, "  tensors migrate: %s up and %s down a step; of %" PRId64 " layers %d computed again, %d updated on the host\n",
                cst_bytes_text(a, (double)plan->up_bytes), cst_bytes_text(b, (double)(plan->down_bytes + cst_session_host_updates(s))), s->o.config.num_hidden_layers,
                s->recompute, s->host_layers);
    fprintf(stderr, "  %zu tokens of text in %" PRIu64 " batches of %" PRId64 " x %" PRId64 "; %" PRId64 " steps\n", r->train.count,
            cst_batches_count(r->train.batches), s->o.batch, s->o.seq, r->steps);
    if (r->from.dir) fprintf(stderr, "  going on after step %" PRId64 ": %s\n", r->from.step, r->from.dir);
}

static void print_result(const run *r, const cst_session *s, const cst_train_result *t, double test_loss)
{
    const char *out = r->a->text[CST_OPTION_OUT];
    cst_mem_stats stats;
    char peak[32];
    cst_mem_get_stats(s->mem, &stats);
    if (cst_args_flag(r->a, CST_OPTION_JSON)) {
        printf("{\"steps\": %" PRId64
               ", \"first_loss\": %.9g, \"last_loss\": %.9g, \"tokens_per_s\": %.1f, \"ms\": %.3f, \"device_peak_bytes\": %" PRIu64
               ", \"h2d_bytes\": %" PRIu64 ", \"d2h_bytes\": %" PRIu64,
               t->steps, t->first_loss, t->last_loss, t->tokens_per_s, t->median_ms, stats.reserved_peak, stats.h2d_bytes, stats.d2h_bytes);
        if (!isnan(t->valid_loss)) printf(", \"valid_loss\": %.9g", t->valid_loss);
        if (!isnan(t->best_loss)) printf(", \"best_loss\": %.9g, \"best_step\": %" PRId64, t->best_loss, t->best_step);
        if (!isnan(test_loss)) printf(", \"test_loss\": %.9g", test_loss);
        printf("}\n");
        return;
    }
    printf("%" PRId64 " steps: loss %.4f -> %.4f, %.1f tokens/s, device memory peak %s\n", t->steps, t->first_loss, t->last_loss,
           t->tokens_per_s, cst_bytes_text(peak, (double)stats.reserved_peak));
    if (!isnan(t->valid_loss)) printf("validation loss %.4f (perplexity %.2f)\n", t->valid_loss, exp(t->valid_loss));
    if (!isnan(t->best_loss) && out)
        printf("lowest validation loss %.4f, after step %" PRId64 ": %s/best\n", t->best_loss, t->best_step, out);
    if (!isnan(test_loss)) printf("test loss %.4f (perplexity %.2f)\n", test_loss, exp(test_loss));
    if (out && t->steps < r->steps) printf("model saved in %s; go on with: castor train --resume %s\n", out, out);
    else if (out) printf("model saved in %s; train it further: castor train --model %s --data DIR --out DIR2\n", out, out);
}

/* "a, b, c and 5 more" of a list of names; all of them with --verbose. */
static void print_names(const run *r, const char *what, const json_t *list)
{
    size_t n = json_array_size(list), most = cst_args_flag(r->a, CST_OPTION_VERBOSE) ? n : 6;
    if (!n || cst_args_flag(r->a, CST_OPTION_QUIET)) return;
    fprintf(stderr, "  %s (%zu):", what, n);
    for (size_t i = 0; i < n && i < most; i++) fprintf(stderr, "%s %s", i ? "," : "", json_string_value(json_array_get(list, i)));
    if (n > most) fprintf(stderr, " and %zu more (run.json, or --verbose, has all)", n - most);
    fputc('\n', stderr);
}

static cst_status init_from(run *r, cst_session *s)
{
    CST_TRY(cst_weights_init_from(s->model, r->a->text[CST_OPTION_INIT_FROM], &r->record));
    print_names(r, "weights taken", json_object_get(r->record, "taken"));
    print_names(r, "left random", json_object_get(r->record, "left"));
    print_names(r, "not used", json_object_get(r->record, "unused"));
    return CST_OK;
}

static cst_status train(run *r, cst_session *s, const cst_schedule *schedule)
{
    const cst_args *a = r->a;
    const char *out = a->text[CST_OPTION_OUT], *model = a->text[CST_OPTION_MODEL];
    const cst_checkpoint *from = r->from.dir ? &r->from : NULL;
    cst_train_result result;
    double test_loss = NAN;
    cst_train_options o = {.out_dir = out, .steps = r->steps, .stop_after = cst_args_int(a, CST_OPTION_STOP_AFTER),
                           .eval_every = cst_args_int(a, CST_OPTION_EVAL_EVERY), .save_every = cst_args_int(a, CST_OPTION_SAVE_EVERY),
                           .keep = cst_args_int(a, CST_OPTION_KEEP), .from = from, .about = r->about,
                           .from_dir = from && !cst_same_folder(out, r->run_dir) ? r->run_dir : NULL,
                           .schedule = *schedule, .train = r->train.batches, .valid = r->valid.batches, .report = report, .save = save,
                           .stop = stop, .user = r};
    if (from) {
        CST_TRY(cst_checkpoint_load(s, from));
        phase(r, "checkpoint");
    } else {
        if (model) CST_TRY(cst_weights_load(s->model, model));
        else CST_TRY(cst_model_init(s->model, s->o.seed));
        if (a->text[CST_OPTION_INIT_FROM]) CST_TRY(init_from(r, s));
        phase(r, "weights");
        CST_TRY(cst_session_start(s));
        phase(r, "optimizer");
    }
    CST_TRY(read_files(r));
    CST_TRY(begin_record(r, s));
    cst_log(CST_LOG_DEBUG, "start: %s", r->phases);
    cst_status st = cst_train(&result, s, &o);
    r->result = result;
    cst_status_line(NULL);
    if (st != CST_OK && st != CST_INTERRUPTED) return st;
    if (out) {
        cst_status saved = save(s, out, r);
        if (saved != CST_OK) return saved;
    }
    if (st == CST_INTERRUPTED && out)
        return cst_fail(st,
                        "interrupted after step %" PRId64 " of %" PRId64 "; the model is saved in %s; go on with: castor train --resume %s",
                        result.steps, r->steps, out, out);
    if (st == CST_INTERRUPTED) return cst_fail(st, "interrupted after step %" PRId64 " of %" PRId64, result.steps, r->steps);
    if (r->test.batches) CST_TRY(cst_evaluate(&test_loss, s, r->test.batches));
    r->test_loss = test_loss;
    print_result(r, s, &result, test_loss);
    return CST_OK;
}

/* The folder of a new run has no other run's checkpoints; a run that goes on gets its options. */
static cst_status begin(run *r, cst_args *a)
{
    if (a->text[CST_OPTION_RESUME]) CST_TRY(cst_resume_open(&r->from, &r->run_dir, a));
    const char *out = a->text[CST_OPTION_OUT];
    if (out && !(r->run_dir && cst_same_folder(out, r->run_dir))) CST_TRY(cst_outdir_check_new(out));
    int64_t stop_after = cst_args_int(a, CST_OPTION_STOP_AFTER);
    if (r->from.dir && stop_after && stop_after <= r->from.step)
        return cst_fail(CST_USAGE, "--stop-after %" PRId64 ": the checkpoint is of step %" PRId64 " already", stop_after, r->from.step);
    return CST_OK;
}

/* What checkpoints say of the run, and that it is the same run that goes on. */
static cst_status describe(run *r, const cst_session_options *o, const cst_schedule *schedule)
{
    json_t *settings = cst_run_settings(r->a, o, schedule, r->tok, (cst_run_text){r->train.ids, r->train.count},
                                        (cst_run_text){r->valid.ids, r->valid.count});
    cst_status st = CST_OK;
    r->about = settings ? cst_run_about(r->a, settings, r->tok) : NULL;
    if (!r->about) st = cst_fail(CST_NO_MEMORY, "settings");
    else if (r->from.dir) st = cst_resume_check(&r->from, settings);
    json_decref(settings);
    return st;
}

cst_status cst_cmd_train(const cst_args *given)
{
    cst_args args = *given, *a = &args; /* with what a resumed run brings */
    run r = {.a = a, .phase_from = cst_now(), .test_loss = NAN};
    int frozen = 0;
    cst_session_options o;
    cst_schedule schedule;
    cst_config config;
    cst_session *s = NULL;
    cst_status st;
    CST_GO(begin(&r, a), out);
    CST_GO(cst_config_from(&config, a), out);
    CST_GO(cst_session_options_from(&o, a, &config), out);
    if (a->text[CST_OPTION_INIT_FROM] && a->text[CST_OPTION_MODEL]) {
        st = cst_fail(CST_USAGE, "--init-from goes with --config: --model takes all weights from its folder");
        goto out;
    }
    if (a->text[CST_OPTION_FREEZE] && (st = cst_freeze(&r.frozen, &frozen, &config, a->text[CST_OPTION_FREEZE])) != CST_OK) {
        st = cst_fail_in(st, "--freeze");
        goto out;
    }
    o.frozen = r.frozen;
    CST_GO(cst_tokenizer_from(&r.tok, a, &config), out);
    if (a->text[CST_OPTION_TOKENS_FILE]) CST_GO(load_tokens(&r, &r.train, a->text[CST_OPTION_TOKENS_FILE]), out);
    else CST_GO(load_split(&r, &r.train, CST_OPTION_TRAIN, "train", 1), out);
    CST_GO(make_batches(&r, &r.train, &o, "train", 1), out);
    if (cst_args_int(a, CST_OPTION_EVAL_EVERY)) {
        CST_GO(load_split(&r, &r.valid, CST_OPTION_VALID, "valid", 0), out);
        CST_GO(make_batches(&r, &r.valid, &o, "valid", 0), out);
    }
    if (a->text[CST_OPTION_TEST]) {
        CST_GO(load_split(&r, &r.test, CST_OPTION_TEST, "test", 1), out);
        CST_GO(make_batches(&r, &r.test, &o, "test", 0), out);
    }
    CST_GO(plan_steps(&r, &schedule, &o), out);
    CST_GO(describe(&r, &o, &schedule), out);
    o.products = r.from.products;
    phase(&r, "text");
    CST_GO(cst_session_open(&s, &o), out);
    phase(&r, "device, plan and memory");
    print_start(&r, s);
    if (frozen) cst_log(CST_LOG_INFO, "  %d of %d tensors are frozen", frozen, s->model->params);
    st = end_record(&r, s, train(&r, s, &schedule));
out:
    st = cst_session_close(s, st);
    free_run(&r);
    return st;
}
