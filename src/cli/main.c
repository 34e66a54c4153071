/* The program `castor`: finds the command, sets up logging, turns its status into an exit status. */
#include <CL/cl.h>
#include <clFFT.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"

static const cst_command commands[] = {
    {{"devices", NULL}, IN_DEVICES, cst_cmd_devices, "list the OpenCL devices", "castor devices [--doctor] [--json]"},
    {{"train", NULL}, IN_TRAIN, cst_cmd_train, "train or fine-tune an OPT model",
     "castor train --config NAME|--model DIR --data DIR [--out DIR] [options]\n       castor train --resume DIR [options]"},
    {{"grads", NULL}, IN_GRADS, cst_cmd_grads, "loss and gradients of one batch, as a file",
     "castor grads --model DIR --tokens-file F.json --out F.safetensors [options]"},
    {{"eval", NULL}, IN_EVAL, cst_cmd_eval, "perplexity of a text", "castor eval --model DIR --data DIR|--text FILE [options]"},
    {{"generate", NULL}, IN_GENERATE, cst_cmd_generate, "go on with a text", "castor generate --model DIR --prompt TEXT [options]"},
    {{"bench", "step"}, IN_BENCH_STEP, cst_cmd_bench_step, "time a training step", "castor bench step --config NAME [options]"},
    {{"bench", "gemm"}, IN_BENCH_GEMM, cst_cmd_bench_gemm, "time the matrix products of OPT-350M", "castor bench gemm [options]"},
    {{"bench", "op"}, IN_BENCH_OP, cst_cmd_bench_op, "time the other operators", "castor bench op [options]"},
    {{"bench", "plugins"}, IN_PLUGINS, cst_cmd_bench_plugins, "train with each placement at several batches",
     "castor bench plugins --config NAME [--batch N,...] [--plugins NAME,...] [options]"},
    {{"bench", "device"}, IN_BENCH_DEVICE, cst_cmd_bench_device, "measure what a device can do", "castor bench device [--quick] [--rows NAME,...] [options]"},
    {{"bench", "submit"}, IN_SUBMIT, cst_cmd_bench_submit, "write a file of what a device can do, and of how it trains",
     "castor bench submit --out FILE.json [--quick] [options]"},
    {{"bench", "report"}, IN_COMPARE, cst_cmd_bench_report, "compare devices by the files of bench submit",
     "castor bench report FILE.json ... [--out PAGE.html] [options]"},
    {{"tune", NULL}, IN_TUNE, cst_cmd_tune, "find and keep good settings for a device's matrix products", "castor tune [--seconds N] [options]"},
    {{"plan", NULL}, IN_PLAN, cst_cmd_plan, "tell, without a device, whether a step fits, what moves and how long it takes",
     "castor plan --config NAME|--trace FILE [--device-mem SIZE] [options]"},
    {{"trace", "record"}, IN_RECORD, cst_cmd_trace_record, "write what a step does with memory to a file",
     "castor trace record --config NAME --out FILE [options]"},
    {{"trace", "show"}, IN_SHOW, cst_cmd_trace_show, "print what is in a trace", "castor trace show FILE [--json]"},
    {{"trace", "replay"}, IN_REPLAY, cst_cmd_trace_replay, "compare ways to move a trace's tensors",
     "castor trace replay FILE [--device-mem SIZE,...] [--json]"},
    {{"trace", "html"}, IN_PAGE, cst_cmd_trace_html, "draw a trace and its plan on one page",
     "castor trace html FILE --out PAGE.html [--device-mem SIZE]"},
    {{"trace", "perfetto"}, IN_EVENTS, cst_cmd_trace_perfetto, "write a plan's times as trace events for ui.perfetto.dev",
     "castor trace perfetto FILE --out T.json [--device-mem SIZE]"},
    {{"trace", "period"}, IN_PERIOD, cst_cmd_trace_period, "find what repeats in a sequence of accesses",
     "castor trace period FILE|- [--json]"},
    {{"report", NULL}, IN_REPORT, cst_cmd_report, "make a training run's report.html anew", "castor report DIR"},
    {{"completion", "bash"}, IN_COMPLETION, cst_cmd_completion, "print a script that completes castor's words in bash",
     "castor completion bash"},
    {{"tokenizer", "encode"}, IN_ENCODE, cst_cmd_tokenizer_encode, "token ids of a text",
     "castor tokenizer encode [--tokenizer DIR] [--bos] [--json] FILE|-"},
    {{"tokenizer", "decode"}, IN_DECODE, cst_cmd_tokenizer_decode, "text of token ids",
     "castor tokenizer decode [--tokenizer DIR] [--skip-special] FILE|-"},
    {{"tokenizer", "train"}, IN_LEARN, cst_cmd_tokenizer_train, "learn a tokenizer from a text",
     "castor tokenizer train --out DIR [--vocab-size N] [options] FILE|-"},
};
#define COMMANDS (sizeof commands / sizeof *commands)

cst_status cst_cmd_completion(const cst_args *a)
{
    (void)a;
    cst_print_completion(commands, COMMANDS);
    return CST_OK;
}

static void command_name(char buf[32], const cst_command *c)
{
    snprintf(buf, 32, "%s%s%s", c->words[0], c->words[1] ? " " : "", c->words[1] ? c->words[1] : "");
}

static void print_help(FILE *f)
{
    char name[32];
    fprintf(f, "castor trains OPT language models on any OpenCL device.\n\nusage: castor COMMAND [options]\n\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        command_name(name, &commands[i]);
        fprintf(f, "  %-16s %s\n", name, commands[i].summary);
    }
    fprintf(f, "\n  castor COMMAND --help   a command's options\n  castor --version        version and libraries\n");
}

static void print_version(void)
{
    cl_uint major = 0, minor = 0, patch = 0;
    clfftGetVersion(&major, &minor, &patch);
    printf("castor %s\nclFFT %u.%u.%u\n", PACKAGE_VERSION, major, minor, patch);
}

static void sink(cst_log_level level, const char *line, void *user)
{
    (void)user;
    cst_status_line(NULL);
    fprintf(stderr, "%s%s\n", level == CST_LOG_WARN ? "warning: " : "", line);
}

/* The command that argv names; *skip words of argv belong to it. */
static const cst_command *find_command(int argc, char **argv, int *skip)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        const cst_command *c = &commands[i];
        if (argc < 2 || strcmp(argv[1], c->words[0])) continue;
        if (c->words[1] && (argc < 3 || strcmp(argv[2], c->words[1]))) continue;
        *skip = c->words[1] ? 3 : 2;
        return c;
    }
    return NULL;
}

static int finish(cst_status st)
{
    cst_status_line(NULL);
    if (fflush(stdout) || ferror(stdout)) st = cst_fail(CST_IO, "standard output: can't be written");
    if (st != CST_OK) fprintf(stderr, "castor: %s\n", *cst_detail() ? cst_detail() : cst_status_text(st));
    return cst_status_exit(st);
}

int main(int argc, char **argv)
{
    int skip = 0;
    char name[32];
    cst_args a;
    if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help"))) return print_help(stdout), finish(CST_OK);
    if (argc == 2 && !strcmp(argv[1], "--version")) return print_version(), finish(CST_OK);
    if (argc == 3 && !strcmp(argv[1], "help") && !strcmp(argv[2], "--man")) return cst_print_man(commands, COMMANDS), finish(CST_OK);
    const cst_command *c = find_command(argc, argv, &skip);
    if (!c) {
        if (argc < 2) print_help(stderr);
        else {
            int two = argc > 2 && (!strcmp(argv[1], "bench") || !strcmp(argv[1], "tokenizer") || !strcmp(argv[1], "trace") ||
                                   !strcmp(argv[1], "completion"));
            fprintf(stderr, "castor: %s%s%s: no such command (see castor --help)\n", argv[1], two ? " " : "", two ? argv[2] : "");
        }
        return 2;
    }
    command_name(name, c);
    cst_status st = cst_args_parse(&a, c->bit, name, argc - skip, argv + skip);
    if (st != CST_OK) return finish(st);
    a.argc = argc;
    a.argv = argv;
    if (cst_args_flag(&a, CST_OPTION_HELP)) {
        printf("usage: %s\n\n%s.\n\n", c->usage, c->summary);
        cst_args_help(stdout, c->bit);
        return finish(CST_OK);
    }
    /* a step that isn't run has nothing to tell of engines and pinned memory; on a device its operators may be measured */
    int imagined = c->bit & (IN_PLAN | IN_RECORD) && !a.text[CST_OPTION_DEVICE_OF];
    int quiet = cst_args_flag(&a, CST_OPTION_QUIET) || (imagined && !cst_args_flag(&a, CST_OPTION_VERBOSE));
    cst_log_set(sink, NULL, quiet                                   ? CST_LOG_ERROR
                            : cst_args_flag(&a, CST_OPTION_VERBOSE) ? CST_LOG_DEBUG
                                                                    : CST_LOG_INFO);
    cst_device_prepare();
    if (!(c->bit & IN_TOKENIZER)) cst_catch_signals(); /* these may end at once: what they write is whole or not there */
    return finish(c->run(&a));
}
