/* castor generate: go on with a text. */
#include <inttypes.h>
#include <jansson.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/cli.h"
#include "model/weights.h"
#include "text/utf8.h"
#include "train/generate.h"

typedef struct run {
    const cst_args *a;
    cst_tokenizer *tok;
    int32_t *prompt, *out;
    int64_t prompt_count, count;
    uint32_t eos;
    cst_utf8 chars;
    char *text;              /* what was generated, for --json */
    size_t n;
    double first;            /* when the first token came */
} run;

/* Text that is whole goes to the terminal; with --json it is gathered. */
static cst_status put(run *r, const char *bytes, size_t n)
{
    if (!cst_args_flag(r->a, CST_OPTION_JSON)) {
        fwrite(bytes, 1, n, stdout);
        return fflush(stdout) ? cst_fail(CST_IO, "standard output: can't be written") : CST_OK;
    }
    char *more = realloc(r->text, r->n + n + 1);
    if (!more) return cst_fail(CST_NO_MEMORY, "generated text");
    r->text = more;
    memcpy(r->text + r->n, bytes, n);
    r->n += n;
    r->text[r->n] = 0;
    return CST_OK;
}

/* piece NULL: what is left of the last character. */
static cst_status put_piece(run *r, const char *piece, size_t n)
{
    char *whole = malloc(3 * (n + 4));
    if (!whole) return cst_fail(CST_NO_MEMORY, "generated text");
    cst_status st = put(r, whole, cst_utf8_next(&r->chars, whole, piece, n));
    free(whole);
    return st;
}

static cst_status token(int32_t id, void *user)
{
    run *r = user;
    uint32_t one = (uint32_t)id;
    char *piece = NULL;
    size_t n = 0;
    if (!r->first) r->first = cst_now();
    if (cst_interrupted()) return cst_fail(CST_INTERRUPTED, "interrupted");
    if (one == r->eos) return CST_OK;
    /* Models have a few ids more than their tokenizer; text has none for them. */
    if (one < cst_tokenizer_size(r->tok)) CST_TRY(cst_tokenizer_decode(r->tok, &piece, &n, &one, 1, 1));
    cst_status st = piece ? put_piece(r, piece, n) : CST_OK;
    free(piece);
    return st;
}

/* The prompt's ids; </s> comes first, as OPT's tokenizer has it. */
static cst_status load_prompt(run *r)
{
    const char *given = r->a->text[CST_OPTION_PROMPT];
    char *input = NULL;
    uint32_t *ids = NULL;
    size_t n = strlen(given), count = 0;
    cst_status st;
    if (!strcmp(given, "-")) CST_GO(cst_input_read(&input, &n, given), out);
    if (!n) {
        st = cst_fail(CST_INPUT, "the prompt is empty");
        goto out;
    }
    CST_GO(cst_tokenizer_encode(r->tok, &ids, &count, input ? input : given, n, CST_ENCODE_BOS), out);
    if (!(r->prompt = malloc(count * sizeof *r->prompt))) {
        st = cst_fail(CST_NO_MEMORY, "prompt");
        goto out;
    }
    for (size_t i = 0; i < count; i++) r->prompt[i] = (int32_t)ids[i];
    r->prompt_count = (int64_t)count;
out:
    free(input);
    free(ids);
    return st;
}

static cst_status sampling_from(cst_sampling *s, const cst_args *a)
{
    int draws = a->text[CST_OPTION_TOP_K] || a->text[CST_OPTION_TOP_P];
    *s = (cst_sampling){.temperature = draws, .top_p = 1, .seed = (uint64_t)cst_args_int(a, CST_OPTION_SEED)};
    if (a->text[CST_OPTION_TEMPERATURE]) s->temperature = cst_args_real(a, CST_OPTION_TEMPERATURE);
    if (a->text[CST_OPTION_TOP_K]) s->top_k = cst_args_int(a, CST_OPTION_TOP_K);
    if (a->text[CST_OPTION_TOP_P]) s->top_p = cst_args_real(a, CST_OPTION_TOP_P);
    if (!(s->top_p > 0 && s->top_p <= 1)) return cst_fail(CST_USAGE, "--top-p %g: above 0 and up to 1 is allowed", s->top_p);
    return cst_sampling_check(s);
}

static void options_from(cst_generate_options *o, const run *r, const cst_config *config)
{
    const cst_args *a = r->a;
    *o = (cst_generate_options){.device = a->text[CST_OPTION_DEVICE],
                                .gemm = (cst_gemm_mode)cst_args_choice(a, CST_OPTION_GEMM),
                                .config = *config,
                                .prompt = r->prompt_count,
                                .tokens = cst_args_int(a, CST_OPTION_MAX_TOKENS),
                                .no_cache = cst_args_flag(a, CST_OPTION_NO_CACHE)};
    if (a->text[CST_OPTION_DEVICE_MEM]) o->device_mem = cst_args_size(a, CST_OPTION_DEVICE_MEM);
    if (a->text[CST_OPTION_HOST_THREADS]) omp_set_num_threads((int)cst_args_int(a, CST_OPTION_HOST_THREADS));
}

static void print_ids(const char *name, const int32_t *ids, int64_t n)
{
    printf("\"%s\": [", name);
    for (int64_t i = 0; i < n; i++) printf("%s%" PRId32, i ? ", " : "", ids[i]);
    printf("], ");
}

static cst_status print_json(const run *r, const cst_generator *g, cst_generate_end end)
{
    cst_mem_stats stats;
    json_t *text = json_stringn(r->text ? r->text : "", r->n);
    char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
    json_decref(text);
    if (!quoted) return cst_fail(CST_NO_MEMORY, "generated text");
    cst_mem_get_stats(g->mem, &stats);
    printf("{");
    print_ids("prompt_ids", r->prompt, r->prompt_count);
    print_ids("ids", r->out, r->count);
    printf("\"text\": %s, \"end\": \"%s\", \"device_peak_bytes\": %" PRIu64 "}\n", quoted, cst_generate_end_name(end), stats.reserved_peak);
    free(quoted);
    return CST_OK;
}

/* How it ended, on stderr. */
static void print_end(const run *r, const cst_generator *g, cst_generate_end end, double start)
{
    char why[80] = "more with --max-tokens";
    double rest = cst_now() - r->first;
    if (end == CST_GENERATE_EOS) snprintf(why, sizeof why, "the text has ended");
    if (end == CST_GENERATE_POSITIONS)
        snprintf(why, sizeof why, "the model's %" PRId64 " positions are used up", g->o.config.max_position_embeddings);
    cst_log(end == CST_GENERATE_POSITIONS ? CST_LOG_WARN : CST_LOG_INFO,
            "%" PRId64 " tokens, the first after %.2f s, the others at %.2f tokens/s; %s", r->count, r->first - start,
            r->count > 1 ? (double)(r->count - 1) / rest : 0, why);
}

static cst_status generate(run *r, cst_generator *g, const cst_sampling *s)
{
    cst_generate_end end = CST_GENERATE_TOKENS;
    double start;
    if (!(r->out = malloc((size_t)g->tokens * sizeof *r->out))) return cst_fail(CST_NO_MEMORY, "generated text");
    CST_TRY(cst_weights_load(g->model, r->a->text[CST_OPTION_MODEL]));
    start = cst_now();
    cst_status st = cst_generate(r->out, &r->count, &end, g, r->prompt, s, token, r);
    if (st != CST_OK && st != CST_INTERRUPTED) return st;
    CST_TRY(put_piece(r, NULL, 0));
    if (cst_args_flag(r->a, CST_OPTION_JSON)) {
        if (st == CST_OK) CST_TRY(print_json(r, g, end));
    } else
        CST_TRY(put(r, "\n", 1));
    if (st == CST_OK) print_end(r, g, end, start);
    return st == CST_OK ? CST_OK : cst_fail(st, "interrupted after %" PRId64 " tokens", r->count);
}

cst_status cst_cmd_generate(const cst_args *a)
{
    run r = {.a = a};
    cst_generate_options o;
    cst_generator *g = NULL;
    cst_sampling s;
    cst_config config;
    cst_status st;
    if (!a->text[CST_OPTION_MODEL] || !a->text[CST_OPTION_PROMPT])
        return cst_fail(CST_USAGE, "castor generate needs --model DIR and --prompt TEXT");
    CST_GO(sampling_from(&s, a), out);
    CST_GO(cst_config_load(&config, a->text[CST_OPTION_MODEL]), out);
    CST_GO(cst_tokenizer_from(&r.tok, a, &config), out);
    r.eos = config.eos_token_id < 0 ? UINT32_MAX : (uint32_t)config.eos_token_id;
    CST_GO(load_prompt(&r), out);
    options_from(&o, &r, &config);
    CST_GO(cst_generator_open(&g, &o), out);
    st = generate(&r, g, &s);
out:
    st = cst_generator_close(g, st);
    cst_tokenizer_free(r.tok);
    free(r.prompt);
    free(r.out);
    free(r.text);
    return st;
}
