/* castor eval: perplexity of a text. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "model/weights.h"
#include "text/wikitext.h"
#include "train/perplexity.h"

typedef struct run {
    const cst_args *a;
    uint32_t *ids;
    size_t n;
    int64_t length, stride;
    float *losses;
    double start, last_print;
} run;

/* The text's ids; </s> comes first, as OPT's tokenizer has it. */
static cst_status encode(run *r, const char *path, const cst_tokenizer *t)
{
    char *text = NULL, *joined = NULL;
    size_t n;
    cst_status st;
    CST_GO(cst_text_load(&text, &n, path), out);
    if (!cst_args_flag(r->a, CST_OPTION_RAW)) CST_GO(cst_text_join_rows(&joined, &n, text, n), out);
    st = cst_tokenizer_encode(t, &r->ids, &r->n, joined ? joined : text, n, CST_ENCODE_BOS);
out:
    free(text);
    free(joined);
    return st;
}

static cst_status load_text(run *r, const cst_config *c)
{
    const char *data = r->a->text[CST_OPTION_DATA], *file = r->a->text[CST_OPTION_TEXT], *tokens = r->a->text[CST_OPTION_TOKENS_FILE];
    cst_tokenizer *t = NULL;
    char *path = NULL;
    cst_status st;
    if (!!data + !!file + !!tokens != 1)
        return cst_fail(CST_USAGE, "castor eval needs one of --data DIR, --text FILE and --tokens-file F.json (try --data data/sample)");
    if (tokens) return cst_token_rows_flat(&r->ids, &r->n, NULL, NULL, tokens);
    if (data) CST_TRY(cst_text_split_path(&path, data, "test"));
    CST_GO(cst_tokenizer_from(&t, r->a, c), out);
    st = encode(r, path ? path : file, t);
out:
    free(path);
    cst_tokenizer_free(t);
    return st;
}

/* Windows: as asked for, within what model and text have. */
static cst_status plan_windows(run *r, cst_session_options *o)
{
    const cst_args *a = r->a;
    int64_t limit = o->config.max_position_embeddings, n = (int64_t)r->n;
    r->length = cst_args_int(a, CST_OPTION_LENGTH);
    if (r->length > limit) {
        if (a->given[CST_OPTION_LENGTH])
            return cst_fail(CST_USAGE, "--length %" PRId64 ": the model has positions for %" PRId64 " tokens", r->length, limit);
        r->length = limit;
    }
    r->stride = a->text[CST_OPTION_STRIDE] ? cst_args_int(a, CST_OPTION_STRIDE) : r->length;
    if (r->stride > r->length)
        return cst_fail(CST_USAGE, "--stride %" PRId64 ": at most --length, %" PRId64 ", or tokens would be left out", r->stride,
                        r->length);
    int64_t windows = cst_window_count(n, r->length, r->stride);
    o->seq = n < r->length ? n : r->length;
    o->batch = cst_args_int(a, CST_OPTION_BATCH);
    if (o->batch > windows) o->batch = windows;
    if (r->stride > o->seq) r->stride = o->seq;
    return CST_OK;
}

static void report(const cst_loss_total *t, int64_t windows, void *user)
{
    run *r = user;
    char line[160], eta[32];
    double now = cst_now(), used = now - r->start;
    if (cst_args_flag(r->a, CST_OPTION_QUIET)) return;
    snprintf(line, sizeof line, "%" PRId64 "/%" PRId64 " windows  perplexity %.4f  %.1f tok/s  ETA %s", t->windows, windows,
             cst_perplexity_of(t), (double)t->tokens / used,
             cst_duration_text(eta, used * (double)(windows - t->windows) / (double)t->windows));
    if (cst_status_is_terminal()) cst_status_line(line);
    else if (now - r->last_print > 10) {
        fprintf(stderr, "%s\n", line);
        r->last_print = now;
    }
}

static int stop(void *user)
{
    (void)user;
    return cst_interrupted();
}

static void print_total(const char *name, const cst_loss_total *t)
{
    printf("%s\"perplexity\": %.9g, \"loss\": %.9g, \"tokens\": %" PRId64 ", \"windows\": %" PRId64, name, cst_perplexity_of(t),
           t->sum / (double)t->tokens, t->tokens, t->windows);
}

static void print_json(const run *r, const cst_session *s, const cst_loss_total *all, const cst_loss_total *whole, double seconds)
{
    cst_mem_stats stats;
    cst_mem_get_stats(s->mem, &stats);
    print_total("{", all);
    if (whole->tokens) print_total(", \"whole_windows\": {", whole);
    printf("%s, \"text_tokens\": %zu, \"length\": %" PRId64 ", \"stride\": %" PRId64 ", \"seconds\": %.3f, \"device_peak_bytes\": %" PRIu64
           ", \"ids\": [",
           whole->tokens ? "}" : "", r->n, r->length, r->stride, seconds, stats.reserved_peak);
    for (size_t i = 0; i < r->n; i++) printf("%s%" PRIu32, i ? ", " : "", r->ids[i]);
    printf("], \"losses\": [");
    for (size_t i = 0; i < r->n; i++) {
        if (isnan(r->losses[i])) printf("%snull", i ? ", " : "");
        else printf("%s%.9g", i ? ", " : "", r->losses[i]);
    }
    printf("]}\n");
}

static void print_result(const run *r, const cst_session *s, const cst_loss_total *all, const cst_loss_total *whole)
{
    char peak[32];
    cst_mem_stats stats;
    double seconds = cst_now() - r->start;
    if (cst_args_flag(r->a, CST_OPTION_JSON)) {
        print_json(r, s, all, whole, seconds);
        return;
    }
    cst_mem_get_stats(s->mem, &stats);
    printf("perplexity %.4f (loss %.6f over %" PRId64 " of %zu tokens; %" PRId64 " windows of %" PRId64 ", stride %" PRId64 ")\n",
           cst_perplexity_of(all), all->sum / (double)all->tokens, all->tokens, r->n, all->windows, r->length, r->stride);
    if (whole->tokens && whole->windows < all->windows)
        printf("perplexity %.4f of the %" PRId64 " whole windows, as papers have it\n", cst_perplexity_of(whole), whole->windows);
    printf("%.1f tokens/s, device memory peak %s\n", (double)all->tokens / seconds, cst_bytes_text(peak, (double)stats.reserved_peak));
}

static cst_status evaluate(run *r, cst_session *s)
{
    cst_loss_total all, whole;
    char peak[32];
    cst_perplexity_options o = {.stride = r->stride, .losses = r->losses, .report = report, .stop = stop, .user = r};
    if (!cst_args_flag(r->a, CST_OPTION_QUIET))
        fprintf(stderr,
                "castor %s on %s (%s)\n  %zu tokens in %" PRId64 " windows of %" PRId64 ", %" PRId64 " at once; %s of device memory\n",
                PACKAGE_VERSION, s->dev->info.name, s->dev->info.platform, r->n, cst_window_count((int64_t)r->n, s->o.seq, r->stride),
                r->length, s->o.batch, cst_bytes_text(peak, (double)s->planned));
    CST_TRY(cst_weights_load(s->model, r->a->text[CST_OPTION_MODEL]));
    r->start = r->last_print = cst_now();
    CST_TRY(cst_perplexity(&all, &whole, s, r->ids, r->n, &o));
    cst_status_line(NULL);
    print_result(r, s, &all, &whole);
    return CST_OK;
}

cst_status cst_cmd_eval(const cst_args *a)
{
    run r = {.a = a};
    cst_session *s = NULL;
    cst_session_options o;
    cst_config config;
    cst_status st;
    if (!a->text[CST_OPTION_MODEL]) return cst_fail(CST_USAGE, "castor eval needs --model DIR");
    CST_GO(cst_config_load(&config, a->text[CST_OPTION_MODEL]), out);
    CST_GO(cst_session_options_from(&o, a, &config), out);
    o.forward_only = 1;
    CST_GO(load_text(&r, &config), out);
    CST_GO(plan_windows(&r, &o), out);
    if (!(r.losses = malloc(r.n * sizeof *r.losses))) {
        st = cst_fail(CST_NO_MEMORY, "losses of %zu tokens", r.n);
        goto out;
    }
    CST_GO(cst_session_open(&s, &o), out);
    st = evaluate(&r, s);
out:
    st = cst_session_close(s, st);
    free(r.ids);
    free(r.losses);
    return st;
}
