/* The options of every command, in one table: the parser, --help, the manual page and the settings printed at
 * the start of a run all come from it. */
#ifndef CST_CLI_OPTIONS_H
#define CST_CLI_OPTIONS_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

typedef enum cst_option_kind {
    CST_OPT_FLAG,    /* no value */
    CST_OPT_TEXT,
    CST_OPT_LIST,    /* text; given more than once, the values are joined by commas */
    CST_OPT_INT,     /* whole number >= min */
    CST_OPT_INTS,    /* up to CST_INTS_MOST of them with commas */
    CST_OPT_REAL,    /* number >= min */
    CST_OPT_SIZE,    /* bytes: 384MiB, 4GiB, 1500000 */
    CST_OPT_SIZES,   /* some of them with commas; given more than once, joined */
    CST_OPT_CHOICE   /* one of the words in `value`, separated by | */
} cst_option_kind;

#define CST_INTS_MOST 8

/* commands an option belongs to */
#define IN_DEVICES 1u
#define IN_TRAIN 2u
#define IN_GRADS 4u
#define IN_BENCH_STEP 8u
#define IN_BENCH_GEMM 16u
#define IN_BENCH_OP 32u
#define IN_TUNE 64u
#define IN_ENCODE 128u
#define IN_DECODE 256u
#define IN_LEARN 512u /* castor tokenizer train */
#define IN_PLAN 1024u
#define IN_RECORD 2048u /* castor trace record, show, replay, html, perfetto */
#define IN_SHOW 65536u
#define IN_REPLAY 131072u
#define IN_PAGE 262144u
#define IN_EVENTS 524288u
#define IN_BENCH_DEVICE 1048576u
#define IN_SUBMIT 4194304u
#define IN_COMPARE 8388608u /* castor bench report */
#define IN_PERIOD 67108864u
#define IN_REPORT 16384u
#define IN_COMPLETION 32768u
#define IN_TOKENIZER (IN_ENCODE | IN_DECODE | IN_LEARN)
#define IN_PLUGINS 16777216u /* castor bench plugins */
#define IN_EVAL 4096u
#define IN_GENERATE 8192u
#define IN_TRACED (IN_SHOW | IN_REPLAY | IN_PAGE | IN_EVENTS) /* takes a trace's FILE */
#define IN_OPERANDS IN_COMPARE /* takes several FILEs */
#define IN_OPERAND (IN_TOKENIZER | IN_REPORT | IN_TRACED | IN_PERIOD | IN_OPERANDS) /* takes a FILE or DIR besides its options */
#define IN_MEASURE (IN_BENCH_GEMM | IN_BENCH_OP)
#define IN_ROWS (IN_BENCH_DEVICE | IN_SUBMIT) /* measures a device's rows */
#define IN_RUN (IN_TRAIN | IN_GRADS | IN_BENCH_STEP | IN_EVAL | IN_GENERATE | IN_PLUGINS)
#define IN_STEP (IN_TRAIN | IN_BENCH_STEP)
#define IN_SHAPE (IN_STEP | IN_PLAN | IN_RECORD) /* has a step's shape */
#define IN_JSON (IN_DEVICES | IN_RUN | IN_MEASURE | IN_BENCH_DEVICE | IN_TUNE | IN_ENCODE | IN_LEARN | IN_PLAN | IN_SHOW | IN_REPLAY | IN_PERIOD)
#define IN_ALL (IN_JSON | IN_DECODE | IN_REPORT | IN_COMPLETION | IN_RECORD | IN_PAGE | IN_EVENTS | IN_SUBMIT | IN_COMPARE)

/* id, name, kind, value shown in help, smallest value, default (NULL: none), commands, help */
#define CST_OPTION_LIST(X)                                                                                                        \
    X(MODEL, "model", TEXT, "DIR", 0, NULL, IN_TRAIN | IN_GRADS | IN_EVAL | IN_GENERATE, "start from this Hugging Face folder (config.json, weights)")     \
    X(CONFIG, "config", TEXT, "NAME|FILE", 0, NULL, IN_SHAPE | IN_PLUGINS,                                                                      \
      "random start: opt-125m, opt-350m, opt-1.3b, opt-2.7b, opt-6.7b, opt-13b, or any OPT config.json")                          \
    X(DATA, "data", TEXT, "DIR", 0, NULL, IN_TRAIN | IN_EVAL, "folder with wiki.train.raw, wiki.valid.raw, wiki.test.raw (eval: the last)")  \
    X(TEXT, "text", TEXT, "FILE", 0, NULL, IN_EVAL, "this text, instead of --data")                                               \
    X(RAW, "raw", FLAG, NULL, 0, NULL, IN_EVAL, "the text as it is, instead of its lines joined by two newlines")                 \
    X(LENGTH, "length", INT, "T", 2, "2048", IN_EVAL, "tokens of a window, at most what the model has positions for")             \
    X(STRIDE, "stride", INT, "S", 1, NULL, IN_EVAL, "tokens from a window's start to the next one's; default: --length, so that none overlap") \
    X(PROMPT, "prompt", TEXT, "TEXT", 0, NULL, IN_GENERATE, "text to go on with; - reads standard input")                         \
    X(MAX_TOKENS, "max-tokens", INT, "N", 1, "100", IN_GENERATE, "most tokens to generate")                                       \
    X(TEMPERATURE, "temperature", REAL, "X", 0, NULL, IN_GENERATE,                                                                \
      "0: always the likeliest token; else logits are divided by X and the next token is drawn. Default: 0, or 1 when --top-k or --top-p is given") \
    X(TOP_K, "top-k", INT, "N", 1, NULL, IN_GENERATE, "draw from the N likeliest tokens only")                                    \
    X(TOP_P, "top-p", REAL, "X", 0, NULL, IN_GENERATE, "draw from the likeliest tokens only, as many as have probability X together") \
    X(NO_CACHE, "no-cache", FLAG, NULL, 0, NULL, IN_GENERATE, "compute the whole text anew for each token (slow; for checking)")  \
    X(TRAIN, "train", TEXT, "FILE", 0, NULL, IN_TRAIN, "training text, instead of --data")                                        \
    X(VALID, "valid", TEXT, "FILE", 0, NULL, IN_TRAIN, "validation text")                                                         \
    X(TEST, "test", TEXT, "FILE", 0, NULL, IN_TRAIN, "test text: its loss is told at the end")                                    \
    X(TOKENIZER, "tokenizer", TEXT, "DIR|bytes", 0, NULL, IN_TRAIN | IN_ENCODE | IN_DECODE | IN_EVAL | IN_GENERATE,                                       \
      "folder with vocab.json and merges.txt; default: the model folder, else bytes")                                             \
    X(INIT_FROM, "init-from", TEXT, "DIR", 0, NULL, IN_TRAIN,                                                                     \
      "with --config: weights of this folder where name and shape agree, the others random")                                      \
    X(FREEZE, "freeze", LIST, "PATTERN", 0, NULL, IN_TRAIN,                                                                       \
      "parameters whose names match keep their values: shell patterns, with commas or repeated, as model.decoder.embed_*,*.layers.[0-9].*") \
    X(MASK_BEFORE, "mask-before", TEXT, "TEXT", 0, NULL, IN_TRAIN,                                                                \
      "loss only on what follows the last TEXT of each document: an array of --tokens-file, or text up to </s> (without any: a line)") \
    X(BOS, "bos", FLAG, NULL, 0, NULL, IN_ENCODE, "put the token that begins a text in front (OPT: </s>)")                        \
    X(PLAIN, "plain", FLAG, NULL, 0, NULL, IN_ENCODE, "names of special tokens in the text are ordinary text")                    \
    X(SKIP_SPECIAL, "skip-special", FLAG, NULL, 0, NULL, IN_DECODE, "leave special tokens out")                                   \
    X(VOCAB_SIZE, "vocab-size", INT, "N", 260, "50265", IN_LEARN, "pieces to have in the end: 4 special tokens, 256 bytes, merges") \
    X(MIN_FREQUENCY, "min-frequency", INT, "N", 1, "2", IN_LEARN, "merge only pairs that come N times")                          \
    X(TOKENS_FILE, "tokens-file", TEXT, "F.json", 0, NULL, IN_TRAIN | IN_GRADS | IN_EVAL,                                                \
      "a JSON array of arrays of token ids: the batch (grads), or the text, one array after the other")                  \
    X(OUT, "out", TEXT, "PATH", 0, NULL, IN_TRAIN | IN_GRADS | IN_TUNE | IN_LEARN | IN_RECORD | IN_PAGE | IN_EVENTS,                  \
      "where results go: train and tokenizer train a folder, grads a safetensors file, tune and trace record JSON, trace html a page")       \
    X(RESULT, "out", TEXT, "FILE", 0, NULL, IN_SUBMIT, "where the result goes (JSON)")                                             \
    X(PAGES, "out", LIST, "FILE,...", 0, NULL, IN_COMPARE,                                                                        \
      "files to write, by their ends: .html a page, .md Markdown, .csv a line a row and device, .svg a picture; default: text on stdout") \
    X(FORMAT, "format", CHOICE, "markdown|csv|html|svg", 0, "markdown", IN_COMPARE, "what stdout gets when there is no --out")     \
    X(RATIO, "ratio", CHOICE, "first|best", 0, "first", IN_COMPARE, "each figure over that of the first FILE, or over the best one") \
    X(NAME, "name", TEXT, "NAME", 0, NULL, IN_SUBMIT, "what reports call the result, at most 63 bytes; default: device and platform") \
    X(LOGITS, "logits", TEXT, "FILE", 0, NULL, IN_GRADS, "write the logits [sequences, tokens, vocabulary] to this safetensors file too") \
    X(BATCH, "batch", INT, "N", 1, "8", IN_SHAPE | IN_EVAL, "sequences a micro-batch; eval: windows at once")                                              \
    X(BATCHES, "batch", INTS, "N,...", 1, "8,32,128", IN_PLUGINS, "sequences a step, one or more sizes")                               \
    X(PLUGINS, "plugins", LIST, "NAME,...", 0, "ddp,ddp_fp16,low_level_zero,gemini", IN_PLUGINS,                                       \
      "ddp: all resident in fp32; ddp_fp16: all resident in mixed precision (not yet); low_level_zero: optimizer state on the host; " \
      "gemini: automatic placement")                                                                                                  \
    X(SEQ, "seq", INT, "T", 2, NULL, IN_SHAPE | IN_PLUGINS, "tokens a sequence; default: 1024, or the model's limit")                           \
    X(ACCUM, "accum", INT, "N", 1, "1", IN_SHAPE, "micro-batches a step")                                                          \
    X(STEPS, "steps", INT, "N", 1, NULL, IN_STEP | IN_PLUGINS, "steps to train; bench: steps to time (default 10, plugins 20)")    \
    X(EPOCHS, "epochs", REAL, "X", 0, NULL, IN_TRAIN, "passes over the text, instead of --steps (default 3)")                     \
    X(LR, "lr", REAL, "X", 0, "5e-5", IN_TRAIN, "highest learning rate")                                                          \
    X(WARMUP, "warmup", REAL, "RATIO|STEPS", 0, "0.1", IN_TRAIN, "rise of the learning rate: below 1 a part of the run, else steps") \
    X(SCHEDULE, "schedule", CHOICE, "linear|cosine|constant", 0, "linear", IN_TRAIN, "learning rate after the warm-up")           \
    X(WEIGHT_DECAY, "weight-decay", REAL, "X", 0, "0.01", IN_TRAIN, "AdamW's decay; biases and norms have none")                  \
    X(BETA1, "beta1", REAL, "X", 0, "0.9", IN_TRAIN, "AdamW's first moment")                                                      \
    X(BETA2, "beta2", REAL, "X", 0, "0.999", IN_TRAIN, "AdamW's second moment")                                                   \
    X(EPS, "eps", REAL, "X", 0, "1e-8", IN_TRAIN, "AdamW's epsilon")                                                              \
    X(CLIP, "clip", REAL, "X", 0, "1.0", IN_SHAPE | IN_PLUGINS, "largest global gradient norm; 0: no clipping")                                \
    X(DROPOUT, "dropout", REAL, "X", 0, NULL, IN_SHAPE, "default: the configuration's (bench: 0)")                                 \
    X(RECOMPUTE, "recompute", CHOICE, "none|layer|auto", 0, "auto", IN_SHAPE | IN_PLUGINS, "compute layers again in backward instead of keeping activations; auto: as many as make the step shortest, none where all fits") \
    X(PLACEMENT, "placement", CHOICE, "auto|resident|static", 0, "auto", IN_STEP | IN_PLAN,                                                 \
      "resident: all on the device; static: master weights and optimizer state (--offload-optim), and parameters between their uses " \
      "(--offload-param), on the host; auto: all on the device where it fits, " \
      "else tensors migrate during the step")                     \
    X(OFFLOAD_OPTIM, "offload-optim", REAL, "F", 0, NULL, IN_STEP | IN_PLAN,                                                                \
      "part (0 to 1) of the optimizer state that is on the host: with --placement static of all (default 1), with auto, where "     \
      "tensors migrate, of the layers' matrices (default: as much as makes the step shortest)")                                     \
    X(OFFLOAD_PARAM, "offload-param", REAL, "F", 0, "0", IN_STEP | IN_PLAN,                                                       \
      "with --placement static: part of the parameters (0 to 1), from the first on, that are on the host and come to the device for " \
      "each use")                                                                                                                 \
    X(HOST_MEM, "host-mem", SIZE, "SIZE", 1, NULL, IN_STEP | IN_GRADS | IN_EVAL | IN_PLUGINS,                                                                       \
      "most host memory for what isn't on the device (placement auto, --offload-param); default: any")                                             \
    X(PINNED_MEM, "pinned-mem", SIZE, "SIZE", 1, NULL, IN_STEP | IN_GRADS | IN_EVAL | IN_PLUGINS,                                                                   \
      "most of that to register with the driver, which makes transfers fast; default: all")                                       \
    X(PACK_WEIGHTS, "pack-weights", CHOICE, "auto|never|always", 0, "auto", IN_STEP | IN_PLAN,                                              \
      "keep weights packed for the backward pass on CPU devices; auto: from --accum 4, when all is resident and there is room")   \
    X(NO_SHUFFLE, "no-shuffle", FLAG, NULL, 0, NULL, IN_TRAIN, "take the text's blocks in order")                                 \
    X(EVAL_EVERY, "eval-every", INT, "N", 0, "500", IN_TRAIN, "validation loss after every N steps and at the end, the best model as OUT/best; 0: never")     \
    X(SAVE_EVERY, "save-every", INT, "N", 0, "0", IN_TRAIN, "checkpoint for --resume after every N steps, as OUT/checkpoint-N; 0: never")   \
    X(KEEP, "keep", INT, "N", 0, "0", IN_TRAIN, "keep the newest N checkpoints only; 0: all")                                     \
    X(STOP_AFTER, "stop-after", INT, "N", 0, "0", IN_TRAIN,                                                                       \
      "end after step N with a checkpoint, the schedule being that of the whole run; 0: no")                                      \
    X(RESUME, "resume", TEXT, "DIR", 0, NULL, IN_TRAIN,                                                                           \
      "go on with the run in this folder from its newest checkpoint, or from the checkpoint that this folder is; options, model " \
      "and data are the run's")                                                                                                   \
    X(TOKENS, "tokens", INTS, "N,N", 1, "128,1024", IN_BENCH_GEMM, "tokens of the steps whose products are timed")                \
    X(SHAPE, "shape", TEXT, "m,n,k,NT", 0, NULL, IN_BENCH_GEMM,                                                                   \
      "this product only: rows and columns of C, length of the sums, N or T (transposed) for A and for B")                        \
    X(ONLY, "only", TEXT, "WORD", 0, NULL, IN_BENCH_OP, "only the operators with this in their name, and the triad")              \
    X(QUICK, "quick", FLAG, NULL, 0, NULL, IN_ROWS, "few cases and samples: under half a minute on two cores")                    \
    X(ROWS, "rows", LIST, "NAME,...", 0, NULL, IN_ROWS,                                                                           \
      "these only, and the ceilings they are compared with: peak, triad, copy, gemm, fft, reduction, transpose, softmax, layer-norm, " \
      "attention, transfer, overlap, launch, build, allocation; default: all")                                                    \
    X(REPEAT, "repeat", INT, "N", 1, "7", IN_MEASURE, "samples; their median counts")                                             \
    X(SECONDS, "seconds", INT, "N", 1, "240", IN_TUNE, "time for the search")                                                     \
    X(GEMM, "gemm", CHOICE, "auto|clblast|native", 0, "auto", IN_RUN | IN_MEASURE,                                                \
      "matrix products: what castor tune found fastest, else what suits the kind of device; or one engine for all")               \
    X(DEVICE_OF, "device", TEXT, "SPEC", 0, NULL, IN_PLAN | IN_RECORD,                                                             \
      "with the scratch and rates of this device; default: no device is needed, rates are guesses")                               \
    X(DEVICE, "device", TEXT, "SPEC", 0, NULL, IN_RUN | IN_MEASURE | IN_ROWS | IN_TUNE | IN_PERIOD,                                                               \
      "device by index or by part of its platform's or its own name; default: $CASTOR_DEVICE, else the largest GPU, else a CPU")  \
    X(DEVICE_MEM, "device-mem", SIZE, "SIZE", 1, NULL, IN_RUN | IN_MEASURE | IN_ROWS | IN_TUNE | IN_PERIOD,                                                       \
      "budget of device memory, as 384MiB or 4GiB; default: what is safe")                                                        \
    X(TRACE, "trace", TEXT, "FILE", 0, NULL, IN_PLAN, "plan this trace (castor trace record), instead of --config")                \
    X(RATES, "rates", TEXT, "FILE", 0, NULL, IN_PLAN | IN_RECORD | IN_TRACED,                                                     \
      "rates of a device: JSON with some of up, down, both, memory, flops, launch (docs/trace.md), or another trace")             \
    X(BUDGET, "device-mem", SIZE, "SIZE", 1, NULL, IN_PLAN | IN_PAGE | IN_EVENTS,                                                 \
      "budget of device memory, as 384MiB or 4GiB; default: as much as lets all stay")                                            \
    X(BUDGETS, "device-mem", SIZES, "SIZE,...", 1, NULL, IN_REPLAY, "budgets of device memory, as 384MiB or 2GiB,4GiB; default: some") \
    X(HOST_THREADS, "host-threads", INT, "N", 1, NULL, IN_RUN | IN_BENCH_OP, "threads for work on the host; default: all cores")  \
    X(SEED, "seed", INT, "S", 0, "42", IN_RUN & ~IN_EVAL, "of weights, order of the text, dropout and sampling")                                       \
    X(PROFILE, "profile", FLAG, NULL, 0, NULL, IN_BENCH_STEP, "time of each kernel as well (slows the step)")                     \
    X(DOCTOR, "doctor", FLAG, NULL, 0, NULL, IN_DEVICES, "why there is no usable device, or not the one expected, and what to install")   \
    X(JSON, "json", FLAG, NULL, 0, NULL, IN_JSON, "the result as JSON on stdout")                                                  \
    X(QUIET, "quiet", FLAG, NULL, 0, NULL, IN_ALL, "errors only on stderr")                                                       \
    X(VERBOSE, "verbose", FLAG, NULL, 0, NULL, IN_ALL, "more on stderr")                                                          \
    X(HELP, "help", FLAG, NULL, 0, NULL, IN_ALL, "this text")

typedef enum cst_option_id {
#define X(id, name, kind, value, min, def, commands, help) CST_OPTION_##id,
    CST_OPTION_LIST(X)
#undef X
    CST_OPTION_COUNT
} cst_option_id;

#define CST_OPERANDS_MOST 32

typedef struct cst_args {
    unsigned command;                     /* one IN_ bit */
    const char *command_name;
    const char *operand;                  /* FILE or DIR, the first of several; NULL: none */
    const char *operands[CST_OPERANDS_MOST];
    int operand_count;
    const char *text[CST_OPTION_COUNT];   /* value as given, or the default; NULL: none */
    unsigned char given[CST_OPTION_COUNT];
    char list[4096];                      /* joined values of LISTs and SIZES */
    size_t listed;
    int argc;                             /* the whole command line, borrowed */
    char **argv;
} cst_args;

/* Parse argv[0..argc) as options of one command: --name VALUE, --name=VALUE, --flag; those in
 * IN_OPERAND take one word more, a file or - for standard input, those in IN_OPERANDS several. USAGE names the option
 * and what is allowed. Values are borrowed from argv. */
cst_status cst_args_parse(cst_args *a, unsigned command, const char *command_name, int argc, char **argv);

/* Set an option that the command line didn't give; USAGE as parse. text is borrowed. */
cst_status cst_args_set(cst_args *a, cst_option_id id, const char *text);
/* The table's columns: name, kind, whether one of the commands (IN_ bits) takes it. */
const char *cst_option_name(int id);
cst_option_kind cst_option_kind_of(int id);
int cst_option_in(int id, unsigned commands);

/* Typed values; the text has been checked by the parser. The option must have a value. */
int cst_args_flag(const cst_args *a, cst_option_id id);
int64_t cst_args_int(const cst_args *a, cst_option_id id);
double cst_args_real(const cst_args *a, cst_option_id id);
uint64_t cst_args_size(const cst_args *a, cst_option_id id);
/* The first `most` values of SIZES; how many there are. */
int cst_args_sizes(uint64_t *list, int most, const cst_args *a, cst_option_id id);
/* Those of INTS, each once, in the order given; how many there are. */
int cst_args_ints(int64_t list[CST_INTS_MOST], const cst_args *a, cst_option_id id);
/* Position of a CHOICE's word in its list. */
int cst_args_choice(const cst_args *a, cst_option_id id);

/* Print a command's options, two columns. */
void cst_args_help(FILE *f, unsigned command);
/* The same as manual page source. */
void cst_args_man(FILE *f, unsigned command);
/* The words that complete `--name VALUE` of a command, as cases of a shell's `case` statement, see completion.c. */
void cst_args_completion(FILE *f, unsigned command);
/* {"name": value} of all options of the command, numbers as numbers; null without a value. New reference. */
json_t *cst_args_json(const cst_args *a);
/* The settings in force, "name value" pairs over few lines. */
void cst_args_settings(FILE *f, const cst_args *a);

#endif
