/* The manual page: from the tables of commands and options, with the words about each command that stand here. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const struct words {
    unsigned bit;
    const char *text;      /* paragraphs, with a line end between them */
    const char *examples;  /* "what it does|command", with line ends between them */
} words[] = {
    {IN_DEVICES,
     "Lists every device of every OpenCL platform with its memory, its abilities and the quirks of its driver that Castor knows and works around. The "
     "one with * is what --device would be.\n"
     "--doctor looks at the OpenCL loader's settings and drivers, at the machine's GPUs, their drivers in the kernel and the permission to use them, "
     "tells what is wrong and what to install on this distribution, and ends with 0 when there is a device that Castor can use, else with 1.",
     "Devices as JSON|castor devices --json\nWhy isn't my GPU there?|castor devices --doctor"},
    {IN_TRAIN,
     "Trains from a random start (--config) or goes on from a Hugging Face folder (--model). The text is one stream of tokens, cut into blocks "
     "of --seq tokens; a step is --accum micro-batches of --batch blocks. A step is planned before anything is allocated: what doesn't fit "
     "--device-mem is refused at once, with the smallest budget that works.\n"
     "The loss is the mean over the tokens that count, of each micro-batch; a step's is the mean of its micro-batches. With --mask-before, only "
     "tokens behind the last occurrence of the marker in their document count. A document is an array of --tokens-file; in other text it "
     "ends with </s>, or, in a text without any, with its line. A document without the marker counts for nothing, and a warning tells how many "
     "there are. Validation and test text are treated alike.\n"
     "Frozen parameters (--freeze) get no gradient and no optimizer state, their products in the backward pass are left out, and the clipping "
     "norm is that of the others. The head is the token embedding: lm_head.weight and model.decoder.embed_tokens.weight are the same "
     "parameter.\n"
     "Ctrl-C or SIGTERM ends the run after the step that is being computed and saves the model; a second one ends it at once.",
     "Fine-tune a model on WikiText-2|castor train --model opt-350m --data data/wikitext-2-raw --out run/a\n"
     "From a random start, within 16 GiB|castor train --config opt-1.3b --data data/wikitext-2-raw --batch 4 --device-mem 16GiB --recompute layer --out run/b\n"
     "Learn answers only, and keep the embeddings|castor train --model opt-350m --train chats.txt --mask-before 'Answer:' --freeze '*.embed_*' --out run/c\n"
     "A deeper model from a smaller one's weights|castor train --config deep.json --init-from opt-125m --data data/wikitext-2-raw --out run/d"},
    {IN_GRADS, "Computes the loss and the gradient of every parameter for one batch, without dropout, and writes them as safetensors under the "
               "parameters' names; \"loss\" is a scalar beside them.",
     "Gradients and logits of a batch|castor grads --model opt-350m --tokens-file batch.json --out grads.safetensors --logits logits.safetensors"},
    {IN_BENCH_STEP, "Times whole training steps on random text, after a first one that builds the kernels.",
     "Where the time goes|castor bench step --config opt-350m --batch 4 --seq 512 --profile"},
    {IN_BENCH_GEMM, "Times the matrix products of OPT-350M's training step, or one of any shape, against a check of their results.",
     "One product|castor bench gemm --shape 1024,4096,1024,NT"},
    {IN_BENCH_OP, "Times the other operators beside a triad, which shows what the memory gives.", "Attention only|castor bench op --only attention"},
    {IN_PLUGINS,
     "Trains on random tokens with each plugin at each batch, one after the other on one device, and prints a row for each: ddp has everything on the "
     "device, low_level_zero master weights and optimizer state on the host, gemini places tensors automatically; ddp_fp16 waits for mixed "
     "precision. What doesn't fit says by how much. The first step, in which kernels are built, stands apart; rates are by the median of the others. "
     "\"of GEMM\" is model FLOP/s as a part of the fastest square product's. \"overlap\" is the share of the transfers' time, one after the other at "
     "measured rates, that a step doesn't show: what it takes longer than its operators alone (gemini: as measured for its plan; "
     "low_level_zero: ddp's step, so that AdamW on the host counts as waiting) is not hidden.\n"
     "The same batch must give the same losses, bit by bit, with every plugin: if it doesn't, the exit status is 1.",
     "The original experiment|castor bench plugins --config opt-125m\n"
     "What fits 8 GiB|castor bench plugins --config opt-350m --batch 4,8 --device-mem 8GiB --json"},
    {IN_TUNE, "Tries engines and settings of the matrix products on this device and keeps what is fastest in the cache folder, where every "
              "later run finds it. What computes wrong results is never kept.",
     "Ten minutes|castor tune --seconds 600"},
    {IN_PLAN,
     "Tells, without any device, whether a step fits a budget of device memory, what moves between host and device in it, how long it would take and "
     "what sets the pace, the smallest budget that works, and the same for a number of other budgets. A budget that is too small is an error that "
     "names the smallest one.\n"
     "What training would do is planned, by the same code: with --placement and --recompute auto that is which tensors migrate and how many layers "
     "are computed again, chosen for each budget anew. With a FILE of a trace nothing is computed again but what its step does. "
     "Times are reckoned from the trace's measured times, or from rates of a device (--rates) where there are none. \"compute\" limits a step "
     "when operators wait for at most 2 % of it; \"uploads\" or \"downloads\", whichever is under way during more of the waiting; \"room\" when "
     "neither is: what is waited for could not begin in time; \"optimizer\" when its transfers are, with --placement static.",
     "Does it fit?|castor plan --config opt-350m --batch 8 --seq 1024 --device-mem 4GiB\n"
     "The same step on a device with another connection|echo '{\"up\": 25e9, \"down\": 25e9}' >pcie.json; castor plan --trace step.json --rates pcie.json"},
    {IN_RECORD, "Writes what one step does with memory, operator by operator, as JSON (docs/trace.md).",
     "A step with recomputed layers|castor trace record --config opt-1.3b --recompute layer --out step.json"},
    {IN_SHOW, "Prints a trace's totals by class of tensor, its operators by time, its largest moments and its largest tensors.", "Look at a trace|castor trace show step.json"},
    {IN_REPLAY,
     "Compares, for each budget, the bytes moved in a step by the plan, by eviction of what is used again last, by eviction of what was used longest ago, "
     "and a bound that no plan can go below. The policies' times are those of transfers on demand, none hidden.",
     "Three budgets|castor trace replay step.json --device-mem 1GiB,2GiB,4GiB"},
    {IN_PAGE,
     "Draws device memory over a step by class of tensor, operators, waits, uploads and downloads under one axis of time, and lists the longest "
     "waits and the largest tensors: one page that needs nothing else.",
     "Draw a plan|castor trace html step.json --device-mem 4GiB --out step.html"},
    {IN_EVENTS, "Writes the same times as trace events: open the file with ui.perfetto.dev or chrome://tracing.",
     "Zoom into a plan|castor trace perfetto step.json --device-mem 4GiB --out step.events.json"},
    {IN_PERIOD,
     "Finds the length of the iteration in a sequence of accesses: a text with one access a line, any words, or a trace, whose own operators are the "
     "sequence. The period is exact where iterations equal each other access by access; else it is that of what comes again in the same order with "
     "other accesses in between. Sequences of a million accesses and more are transformed on a GPU where there is one.",
     "What does a program repeat?|castor trace period accesses.txt"},
    {IN_REPORT, "Reads metrics.jsonl and run.json of a folder that castor train has written to, and writes report.html there. A run does that "
                "itself, after each evaluation and checkpoint and at its end; this is for one that goes on or was killed.",
     "Look at a run|castor report run/a && xdg-open run/a/report.html"},
    {IN_COMPLETION, "Writes a bash script to standard output. make install puts it where bash-completion looks for it.",
     "For this shell only|source <(castor completion bash)"},
    {IN_ENCODE, "Prints the token ids of a text, as Hugging Face's tokenizers give them.",
     "Ids of standard input|echo 'Hello world' | castor tokenizer encode --tokenizer opt-350m -"},
    {IN_DECODE, "Prints the text of token ids: numbers with spaces, commas or line ends between them, or what encode --json writes.",
     "There and back|castor tokenizer encode --tokenizer opt-350m a.txt | castor tokenizer decode --tokenizer opt-350m -"},
    {IN_LEARN, "Learns a byte-level BPE from a text and writes vocab.json, merges.txt and two files of settings, which transformers reads.",
     "8,000 pieces|castor tokenizer train --vocab-size 8000 --out tok data/sample/wiki.train.raw"},
};

static const struct words *find(unsigned bit)
{
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (words[i].bit == bit) return &words[i];
    return NULL;
}

/* roff wants a backslash before a hyphen that is one, before its own, and before a dot or quote that begins a line. */
static void roff(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '-') fputs("\\-", stdout);
        else if (s[i] == '\\') fputs("\\e", stdout);
        else if (s[i] == '\'') fputs("\\(aq", stdout);
        else putchar(s[i]);
    }
}

static void paragraphs(const char *s)
{
    for (; *s; s += strcspn(s, "\n"), s += *s == '\n') {
        printf(".PP\n");
        roff(s, strcspn(s, "\n"));
        putchar('\n');
    }
}

static void examples(const char *s)
{
    for (; *s; s += strcspn(s, "\n"), s += *s == '\n') {
        size_t n = strcspn(s, "\n"), what = strcspn(s, "|");
        printf(".TP\n");
        roff(s, what);
        printf(":\n.nf\n");
        roff(s + what + 1, n - what - 1);
        printf("\n.fi\n");
    }
}

static void entries(const char *const (*list)[2], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        printf(".TP\n.B ");
        roff(list[i][0], strlen(list[i][0]));
        putchar('\n');
        roff(list[i][1], strlen(list[i][1]));
        putchar('\n');
    }
}

static const char *const files[][2] = {
    {"OUT/config.json, model.safetensors, generation_config.json", "the model, as transformers reads it; above 5 GB in shards with an index"},
    {"OUT/vocab.json, merges.txt and what else belongs to a tokenizer", "the tokenizer's files, as they came"},
    {"OUT/checkpoint-N/", "the same after step N (--save-every)"},
    {"OUT/metrics.jsonl", "a JSON object a step: step, loss, lr, grad_norm, tokens_per_s, ms, device_bytes, device_peak_bytes, h2d_bytes, d2h_bytes, and "
                          "valid_loss after an evaluation"},
    {"OUT/events.out.tfevents.*", "the same figures for TensorBoard: tensorboard --logdir OUT"},
    {"OUT/run.json", "what the run was: command line, versions, device, options, model, placement and bytes, data files with their hashes, "
                     "engines of the matrix products, times, and how it ended"},
    {"OUT/report.html", "all that on one page, with charts; it needs nothing else and may be sent around"},
    {"OUT/cache/", "token ids of the texts, under hashes of text and tokenizer; may be deleted"},
    {"$CASTOR_CACHE_DIR", "built kernels, what castor tune found, and which kernels and engines compute right (proofs-*.json); may be deleted"},
};

static const char *const environment[][2] = {
    {"CASTOR_DEVICE", "default of --device"},
    {"CASTOR_CACHE_DIR", "where built kernels and tuned settings are kept (default: $XDG_CACHE_HOME/castor, else ~/.cache/castor)"},
    {"CASTOR_CL_DIR", "read kernels from this folder instead of the program (development)"},
    {"CASTOR_SELF_TEST", "off: use kernels and engines that computed wrong results on this device, or haven't been tried"},
    {"CASTOR_GPU_SHAPE", "1: build a CPU's kernels in the form for GPUs (development)"},
};

static const char *const statuses[][2] = {
    {"0", "success"},
    {"1", "failure: a file that is wrong or missing, a device that failed, memory that was too little"},
    {"2", "wrong use, or something that isn't supported"},
    {"130", "interrupted; a training run has finished its step and saved"},
};

static void print_command(const cst_command *c)
{
    const struct words *w = find(c->bit);
    printf(".SS castor %s%s%s\n", c->words[0], c->words[1] ? " " : "", c->words[1] ? c->words[1] : "");
    roff(c->summary, strlen(c->summary));
    printf(".\n.PP\n.B ");
    roff(c->usage, strlen(c->usage));
    putchar('\n');
    if (w) paragraphs(w->text);
    cst_args_man(stdout, c->bit);
}

void cst_print_man(const cst_command *list, size_t n)
{
    printf(".TH CASTOR 1 \"\" \"castor %s\" \"User Commands\"\n.SH NAME\ncastor \\- train OPT language models on any OpenCL device\n.SH SYNOPSIS\n",
           PACKAGE_VERSION);
    for (size_t i = 0; i < n; i++) {
        printf("%s", i ? ".br\n" : "");
        roff(list[i].usage, strlen(list[i].usage));
        putchar('\n');
    }
    printf(".SH DESCRIPTION\nCastor trains and fine\\-tunes language models of the OPT family on any device with an OpenCL driver: GPUs of any\n"
           "vendor, and the CPU. Results go to standard output, status and progress to standard error. Options are written\n"
           "\\-\\-name VALUE or \\-\\-name=VALUE; SIZEs take K, M, G and T (powers of 1024, as KiB) and KB, MB, GB, TB (of 1000).\n"
           ".SH COMMANDS\n");
    for (size_t i = 0; i < n; i++) print_command(&list[i]);
    printf(".SH FILES\nA run with \\-\\-out OUT leaves there:\n");
    entries(files, sizeof files / sizeof *files);
    printf(".SH ENVIRONMENT\n");
    entries(environment, sizeof environment / sizeof *environment);
    printf(".SH EXIT STATUS\n");
    entries(statuses, sizeof statuses / sizeof *statuses);
    printf(".SH EXAMPLES\n");
    for (size_t i = 0; i < n; i++) {
        const struct words *w = find(list[i].bit);
        if (w) examples(w->examples);
    }
    printf(".SH SEE ALSO\nREADME.md and docs/design.md in the source.\n");
}
