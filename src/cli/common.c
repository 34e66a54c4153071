#include <math.h>
#include <omp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
    interrupted = 1;
    signal(sig, SIG_DFL); /* the second one kills */
}

void cst_catch_signals(void)
{
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_signal;
    sa.sa_flags = SA_RESTART;
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file over the limit (ulimit -f) is an error of write, with a message */
}

int cst_interrupted(void)
{
    return interrupted;
}

int cst_status_is_terminal(void)
{
    return isatty(STDERR_FILENO);
}

void cst_status_line(const char *line)
{
    static int shown;
    struct winsize w;
    if (!cst_status_is_terminal()) return;
    int width = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1 ? w.ws_col - 1 : 1000; /* a wrapped line would stay */
    if (line) fprintf(stderr, "\r%.*s\033[K", width, line);
    else if (shown) fprintf(stderr, "\r\033[K");
    shown = line != NULL;
    fflush(stderr);
}

const char *cst_bytes_text(char buf[32], double b)
{
    if (b >= 1073741824.0) snprintf(buf, 32, "%.2f GiB", b / 1073741824.0);
    else if (b >= 1048576.0) snprintf(buf, 32, "%.1f MiB", b / 1048576.0);
    else snprintf(buf, 32, "%.1f KiB", b / 1024.0);
    return buf;
}

const char *cst_duration_text(char buf[32], double s)
{
    long t = (long)(s + 0.5);
    if (t >= 3600) snprintf(buf, 32, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
    else snprintf(buf, 32, "%ld:%02ld", t / 60, t % 60);
    return buf;
}

cst_status cst_config_from(cst_config *c, const cst_args *a)
{
    const char *model = a->text[CST_OPTION_MODEL], *config = a->text[CST_OPTION_CONFIG];
    struct stat sb;
    if (model && config) return cst_fail(CST_USAGE, "--model and --config exclude each other: the model's folder has a config.json");
    if (model) return cst_config_load(c, model);
    if (!config) return cst_fail(CST_USAGE, "castor %s needs %s--config NAME%s", a->command_name,
                                 a->command & (IN_PLAN | IN_RECORD | IN_BENCH_STEP | IN_PLUGINS) ? "" : "--model DIR or ",
                                 a->command == IN_TRAIN ? ", or --resume DIR" : a->command == IN_PLAN ? " or --trace FILE" : "");
    return stat(config, &sb) == 0 ? cst_config_load(c, config) : cst_config_preset(c, config);
}

cst_status cst_session_options_from(cst_session_options *o, const cst_args *a, const cst_config *config)
{
    memset(o, 0, sizeof *o);
    o->config = *config;
    o->device = a->text[CST_OPTION_DEVICE];
    o->seed = (uint64_t)cst_args_int(a, CST_OPTION_SEED);
    o->accum = 1;
    o->batch = 1;
    o->gemm = (cst_gemm_mode)cst_args_choice(a, CST_OPTION_GEMM);
    if (a->text[CST_OPTION_DEVICE_MEM]) o->device_mem = cst_args_size(a, CST_OPTION_DEVICE_MEM);
    if (a->text[CST_OPTION_HOST_MEM]) o->host_mem = cst_args_size(a, CST_OPTION_HOST_MEM);
    if (a->text[CST_OPTION_PINNED_MEM]) o->pinned_mem = cst_args_size(a, CST_OPTION_PINNED_MEM);
    if (a->text[CST_OPTION_HOST_THREADS]) omp_set_num_threads((int)cst_args_int(a, CST_OPTION_HOST_THREADS));
    if (!(a->command & (IN_SHAPE | IN_PLUGINS))) return CST_OK;
    o->batch = cst_args_int(a, CST_OPTION_BATCH);
    o->accum = (int)cst_args_int(a, CST_OPTION_ACCUM);
    o->seq = a->text[CST_OPTION_SEQ] ? cst_args_int(a, CST_OPTION_SEQ) : config->max_position_embeddings < 1024 ? config->max_position_embeddings : 1024;
    o->placement = (cst_placement)cst_args_choice(a, CST_OPTION_PLACEMENT);
    double share = a->text[CST_OPTION_OFFLOAD_OPTIM] ? cst_args_real(a, CST_OPTION_OFFLOAD_OPTIM) : 1, params = cst_args_real(a, CST_OPTION_OFFLOAD_PARAM);
    if (share > 1) return cst_fail(CST_USAGE, "--offload-optim %g: it is a part, 0 to 1", share);
    if (params > 1) return cst_fail(CST_USAGE, "--offload-param %g: it is a part, 0 to 1", params);
    if (o->placement != CST_PLACEMENT_STATIC && params > 0) return cst_fail(CST_USAGE, "--offload-param goes with --placement static");
    if (a->text[CST_OPTION_OFFLOAD_OPTIM] && o->placement == CST_PLACEMENT_RESIDENT)
        return cst_fail(CST_USAGE, "--offload-optim goes with --placement static or auto");
    if (a->text[CST_OPTION_OFFLOAD_OPTIM]) o->host_layers = share > 0 ? (int)ceil(share * (double)config->num_hidden_layers) : -1;
    o->device_optim = 1 - share;
    o->away_params = params;
    o->pack = (cst_pack)cst_args_choice(a, CST_OPTION_PACK_WEIGHTS);
    o->recompute = (cst_recompute)cst_args_choice(a, CST_OPTION_RECOMPUTE);
    o->dropout = a->text[CST_OPTION_DROPOUT] ? cst_args_real(a, CST_OPTION_DROPOUT) : a->command == IN_TRAIN ? config->dropout : 0;
    if (o->dropout >= 1) return cst_fail(CST_USAGE, "--dropout %g: it must be below 1", o->dropout);
    o->with_optim = 1;
    o->optim = (cst_optim_options){.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.01, .clip = cst_args_real(a, CST_OPTION_CLIP)};
    if (a->command != IN_TRAIN) return CST_OK;
    o->optim.beta1 = cst_args_real(a, CST_OPTION_BETA1);
    o->optim.beta2 = cst_args_real(a, CST_OPTION_BETA2);
    o->optim.eps = cst_args_real(a, CST_OPTION_EPS);
    o->optim.weight_decay = cst_args_real(a, CST_OPTION_WEIGHT_DECAY);
    if (o->optim.beta1 >= 1 || o->optim.beta2 >= 1) return cst_fail(CST_USAGE, "--beta1 and --beta2 must be below 1");
    return CST_OK;
}
