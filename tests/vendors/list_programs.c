/* Lists the programs that Castor builds on a device of some shape, with each kernel's work-group, and writes their sources.
 *
 *     list_programs DIR [all-heads] [cpu | models | group=N local=BYTES sub_group=N | device=SPEC]
 *
 * DIR/N.cl is what the driver gets of program N; DIR/list has a line for each: N, file, build options, and
 * kernel:work-items for all launched kernels, separated by tabs (work-items 0: the runtime chooses). Without `device` the
 * device isn't there: a GPU, or a CPU, with these limits. models: also plan training steps of models, and fail when they
 * launch what isn't listed.
 *
 * It isn't kept by hand: the operators themselves are called, on a manager that is planning, with every
 * option that they know, and their calls of cst_launch_begin and cst_launch_run come here first (ld's --wrap).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "device/quirks.h"
#include "device/source.h"
#include "gemm/choice.h"
#include "gemm/packed.h"
#include "memory/launch.h"
#include "op/activation.h"
#include "op/adamw.h"
#include "op/attention.h"
#include "op/attention_decode.h"
#include "op/cast.h"
#include "op/cross_entropy.h"
#include "op/embed.h"
#include "op/fill.h"
#include "op/grad_norm.h"
#include "op/layer_norm.h"
#include "op/linear.h"
#include "op/residual.h"
#include "train/session.h"

#define HEADS_MOST 128

/* One kernel as launched. Calls with equal file and options are one program. */
typedef struct launched {
    char file[32], kernel[64], options[512];
    size_t items;            /* of a work-group, 0: the runtime chooses */
} launched;

static launched list[4096];
static int count, listing = 1;
static char begun_file[32], begun_options[512];
static cst_device *dev;
static cst_mem *mem;
static cst_tensor *made[64];
static int nmade;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "list_programs: %s: %s\n", what, cst_detail());
    exit(1);
}

static void ok(cst_status st, const char *what)
{
    if (st != CST_OK) die(what);
}

void __real_cst_launch_begin(cst_launch *l, cst_mem *m, const char *file, const char *kernel, const char *options);
void __wrap_cst_launch_begin(cst_launch *l, cst_mem *m, const char *file, const char *kernel, const char *options);
cst_status __real_cst_launch_run(cst_launch *l, int dims, const size_t *global, const size_t *group);
cst_status __wrap_cst_launch_run(cst_launch *l, int dims, const size_t *global, const size_t *group);

void __wrap_cst_launch_begin(cst_launch *l, cst_mem *m, const char *file, const char *kernel, const char *options)
{
    snprintf(begun_file, sizeof begun_file, "%s", file);
    ok(cst_program_options(begun_options, cst_mem_device(m), file, options), file);
    __real_cst_launch_begin(l, m, file, kernel, options);
}

cst_status __wrap_cst_launch_run(cst_launch *l, int dims, const size_t *global, const size_t *group)
{
    size_t items = group ? 1 : 0;
    int i = 0;
    for (int d = 0; group && d < dims; d++) items *= group[d];
    while (i < count && (strcmp(list[i].file, begun_file) || strcmp(list[i].kernel, l->name) ||
                         strcmp(list[i].options, begun_options))) i++;
    if (i == count) {
        if (!listing) {
            fprintf(stderr, "list_programs: a model launches %s of cl/%s.cl with %s, which isn't listed\n", l->name, begun_file,
                    begun_options);
            exit(1);
        }
        if (count == (int)(sizeof list / sizeof *list)) die("too many kernels");
        snprintf(list[i].file, sizeof list[i].file, "%s", begun_file);
        snprintf(list[i].kernel, sizeof list[i].kernel, "%s", l->name);
        snprintf(list[i].options, sizeof list[i].options, "%s", begun_options);
        count++;
    }
    if (items > list[i].items) list[i].items = items;
    return __real_cst_launch_run(l, dims, global, group);
}

/* A tensor with imaginary storage, until forget_tensors. d1 0: of rank 1. */
static cst_tensor *tensor(cst_type type, int64_t d0, int64_t d1)
{
    cst_tensor **t = &made[nmade++];
    ok(cst_tensor_create(t, mem, CST_DATA, type, d1 ? 2 : 1, (int64_t[]){d0, d1}, "tensor"), "tensor");
    ok(cst_tensor_place(*t), "tensor");
    return *t;
}
#define F(d0, d1) tensor(CST_F32, d0, d1)

static void forget_tensors(void)
{
    while (nmade) cst_tensor_free(made[--nmade]);
}

static void attention(int64_t hd)
{
    const int64_t t = 70, heads = 2, d = heads * hd;
    cst_tensor *q = F(t, d), *k = F(t, d), *v = F(t, d), *o = F(t, d), *lse = F(t, heads), *d_o = F(t, d), *cache = F(t, d);
    ok(cst_attention_forward(mem, o, lse, q, k, v, 1, t, heads), "attention");
    ok(cst_attention_backward(mem, F(t, d), F(t, d), F(t, d), d_o, o, lse, q, k, v, 1, t, heads), "attention");
    ok(cst_attention_decode(mem, F(1, d), F(1, d), k, v, t, heads), "attention_decode");
    ok(cst_attention_append(mem, cache, F(1, d), 3), "attention_append");
    forget_tensors();
}

/* How much of a head a work-item holds, and how its loads look, depends on the head's size: of each kind the largest; and
 * what published models have. */
static void attentions(int all)
{
    static const int sizes[] = {8, 15, 32, 40, 48, 62, 63, 64, 80, 96, 126, 127, 128};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes && !all; i++) attention(sizes[i]);
    for (int hd = 1; hd <= HEADS_MOST && all; hd++) attention(hd);
}

static void rows(void)
{
    const int64_t n = 33, d = 70;
    const cst_dropout drop = {.p = 0.1f, .seed = 1, .site = 1, .step = 1};
    cst_tensor *x = F(n, d), *y = F(n, d), *r = F(n, d), *s = F(n, d), *stats = F(n, 2), *gamma = F(d, 0), *beta = F(d, 0), *bias = F(d, 0);
    for (int kind = CST_RELU; kind <= CST_GELU; kind++) {
        ok(cst_activation_forward(mem, (cst_activation)kind, y, s, x, bias), "activation");
        ok(cst_activation_backward(mem, (cst_activation)kind, s, r, y), "activation");
    }
    ok(cst_layer_norm_forward(mem, y, stats, x, gamma, beta, 1e-5f), "layer_norm");
    for (int p = 0; p < 2; p++) {
        const cst_dropout *or = p ? &drop : NULL;
        ok(cst_layer_norm_residual_forward(mem, y, stats, s, x, bias, r, gamma, beta, 1e-5f, or), "layer_norm");
        ok(cst_residual_forward(mem, s, x, bias, r, or), "residual");
        ok(cst_residual_backward(mem, s, x, or), "residual");
    }
    ok(cst_layer_norm_backward(mem, s, gamma, beta, r, x, stats, bias, y, 1), "layer_norm");
    ok(cst_linear_backward_bias(mem, bias, x, 1), "linear");
    forget_tensors();
}

static void tables(void)
{
    const int64_t n = 33, d = 70, v = 90;
    cst_tensor *ids = tensor(CST_I32, n, 0), *table = F(v, d), *x = F(n, d), *pos = F(n + 2, d), *loss = F(n, 0);
    ok(cst_embed_forward(mem, x, table, ids, pos, n, 2), "embed");
    ok(cst_embed_add_positions(mem, x, pos, n, 2), "embed");
    ok(cst_embed_backward(mem, table, x, tensor(CST_I32, 3 * n + 1, 0), 3), "embed");
    ok(cst_embed_backward_positions(mem, pos, x, n, 2, 0), "embed");
    const cst_lm_loss_args a = {.h = x, .table = table, .targets = ids, .loss = loss, .dh = F(n, d), .dtable = F(v, d), .scale = 1};
    ok(cst_lm_loss(mem, &a), "cross_entropy");
    ok(cst_loss_sum(mem, F(1, 0), 0, loss, 1), "cross_entropy");
    forget_tensors();
}

static void arrays(void)
{
    static const cst_adamw_step step = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .bias1 = 0.1, .bias2 = 0.001};
    const int64_t n = 1000;
    cst_tensor *g = F(n, 0), *norm = F(4, 0), *partial = F(cst_grad_norm_blocks(n), 0);
    ok(cst_adamw(mem, F(n, 0), g, 0, F(n, 0), F(n, 0), norm, 0, &step), "adamw");
    ok(cst_grad_norm_partial(mem, partial, 0, g), "grad_norm");
    ok(cst_grad_norm_finish(mem, norm, 0, partial, 0, cst_grad_norm_blocks(n), 1), "grad_norm");
    ok(cst_fill(mem, g, 1), "fill");
    for (int from = CST_F32; from <= CST_BF16; from++)
        for (int to = CST_F32; to <= CST_BF16; to++) ok(cst_cast(mem, tensor((cst_type)to, n, 0), tensor((cst_type)from, n, 0)), "cast");
    forget_tensors();
}

/* Every form and type of product, by every engine and variant that can do it here; sizes that each rule's answer differs in. */
static void products(void)
{
    static const int64_t sizes[][3] = {{40, 70, 90}, {600, 70, 90}, {40, 4096, 90}, {600, 4096, 2000}, {4096, 70, 2000}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int form = 0; form < 4; form++)
            for (int types = 0; types < 9; types++) {
                const int64_t m = sizes[i][0], n = sizes[i][1], k = sizes[i][2];
                const int ta = form & 1, tb = form >> 1, a16 = types % 3, b16 = types / 3;
                if (dev->group > 1 && types) continue; /* f32 only, see cst_gemm_fits */
                cst_gemm_args g = {.m = m, .n = n, .k = k, .trans_a = ta, .trans_b = tb, .relu = 1};
                cst_tensor *b = tb ? tensor((cst_type)b16, n, k) : tensor((cst_type)b16, k, n);
                g.a = ta ? tensor((cst_type)a16, k, m) : tensor((cst_type)a16, m, k);
                g.b = b, g.c = F(m, n), g.bias = F(n, 0), g.residual = F(m, n);
                ok(cst_gemm(mem, &g), "gemm");
                if (dev->group == 1 && !types && !tb) {
                    ok(cst_gemm_keep_packed(b), "gemm");
                    ok(cst_gemm(mem, &g), "gemm");
                }
                forget_tensors();
            }
}

/* Pieces of k side by side, with rows that begin at multiples of 16 bytes and others: what the rule gives it depends on the device. */
static void split_products(void)
{
    const cst_gemm_choice split = {CST_GEMM_SPLIT, CST_GEMM_COLUMNS, 0, 0};
    if (dev->group == 1) return;
    ok(cst_gemm_force(dev, &split), "gemm");
    for (int64_t k = 5000; k < 5002; k++) {
        cst_gemm_args g = {.m = 128, .n = 64, .k = k, .a = F(128, k), .b = F(k, 64), .c = F(128, 64)};
        ok(cst_gemm(mem, &g), "gemm");
        forget_tensors();
    }
    ok(cst_gemm_force(dev, NULL), "gemm");
}

/* One kernel that needs a device to get as far as its launch. */
static void here_only(const char *file, const char *kernel, const char *options, size_t items)
{
    const size_t group = items;
    cst_launch l;
    cst_launch_begin(&l, mem, file, kernel, options);
    ok(cst_launch_run(&l, 1, &group, &group), kernel);
}

/* The search for periods, and what castor bench device measures with. check.sh tells when a kernel is missing here. */
static void searches_and_rulers(void)
{
    static const char *const period[] = {"period_view", "period_power", "period_real"}, *const flat[] = {"copy", "triad"},
                      *const rows[] = {"sum", "transpose", "softmax"};
    static const char *const cpu[] = {"-DWIDTH=16 -DCHAINS=8 -DFUSED=1", "-DWIDTH=8 -DCHAINS=12 -DFUSED=1",
                                      "-DWIDTH=16 -DCHAINS=8 -DFUSED=0"},
                      *const gpu[] = {"-DWIDTH=4 -DCHAINS=4 -DFUSED=1", "-DWIDTH=1 -DCHAINS=8 -DFUSED=1", "-DWIDTH=4 -DCHAINS=4 -DFUSED=0"};
    size_t group = (size_t)dev->group;
    for (int i = 0; i < 3; i++) here_only("period", period[i], NULL, cst_flat_group(dev, "period"));
    for (int i = 0; i < 2; i++) here_only("bench_memory", flat[i], NULL, cst_flat_group(dev, "bench_memory"));
    for (int i = 0; i < 3; i++) here_only("bench_memory", rows[i], NULL, group);
    here_only("bench_launch", "count_launch", NULL, 1);
    for (int i = 0; i < 3; i++) here_only("bench_peak", "peak", dev->group == 1 ? cpu[i] : gpu[i], group);
}

/* What a training step of published models, and of one with the other choices, launches on an imagined GPU must be listed. */
static void models(void)
{
    static const char *const preset[] = {"125m", "350m", "1.3b", "2.7b", "6.7b", "13b"};
    listing = 0;
    for (int i = 0; i < 12; i++) {
        cst_session_options o = {.batch = 1, .seq = 64, .accum = 2, .with_optim = 1, .placement = CST_PLACEMENT_RESIDENT,
                                 .recompute = CST_RECOMPUTE_LAYER, .dropout = i < 6 ? 0 : 0.1};
        cst_session *asked;
        ok(cst_config_preset(&o.config, preset[i % 6]), "model");
        o.config.num_hidden_layers = 2;
        if (i >= 6) o.config.activation_function = CST_GELU;
        o.optim = (cst_optim_options){.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .clip = 1};
        ok(cst_session_imagine(&asked, &o), preset[i % 6]);
        ok(cst_session_close(asked, CST_OK), preset[i % 6]);
    }
}

static int by_program(const void *a, const void *b)
{
    const launched *x = a, *y = b;
    int c = strcmp(x->file, y->file);
    if (!c) c = strcmp(x->options, y->options);
    return c ? c : strcmp(x->kernel, y->kernel);
}

static void write_all(const char *dir)
{
    char *path = cst_path_join(dir, "list"), name[32];
    FILE *f = path ? fopen(path, "w") : NULL;
    int n = 0;
    if (!f) die(dir);
    qsort(list, (size_t)count, sizeof *list, by_program);
    for (int i = 0; i < count; i++) {
        if (!i || strcmp(list[i].file, list[i - 1].file) || strcmp(list[i].options, list[i - 1].options)) {
            char *text, *file;
            snprintf(name, sizeof name, "%d.cl", ++n);
            ok(cst_source_get(&text, list[i].file), list[i].file);
            file = cst_path_join(dir, name);
            ok(file ? cst_file_write(file, text, strlen(text)) : CST_NO_MEMORY, name);
            free(text), free(file);
            fprintf(f, "%s%d\t%s\t%s\t", n > 1 ? "\n" : "", n, list[i].file, list[i].options);
        } else fputc(' ', f);
        fprintf(f, "%s:%zu", list[i].kernel, list[i].items);
    }
    fputc('\n', f);
    if (fclose(f)) die(path);
    free(path);
}

/* The device whose shape is asked for. */
static cst_device_info device_of(int argc, char **argv, int *all_heads, int *with_models)
{
    cst_device_info d = {.name = "no device", .type = CL_DEVICE_TYPE_GPU, .mem_bytes = (uint64_t)1 << 40, .max_alloc = (uint64_t)1 << 40,
                         .local_bytes = 48 << 10, .cache_bytes = 32 << 20, .units = 32, .max_group = 256, .align = 256, .exact_divide = 1};
    for (int i = 2; i < argc; i++) {
        const char *value = strchr(argv[i], '=');
        size_t n = value ? (size_t)strtoull(++value, NULL, 10) : 0;
        cst_device_info *here;
        size_t many, pick;
        if (!strcmp(argv[i], "all-heads")) *all_heads = 1;
        else if (!strcmp(argv[i], "models")) *with_models = 1;
        else if (!strcmp(argv[i], "cpu")) d.type = CL_DEVICE_TYPE_CPU, d.max_group = 4096, d.local_bytes = 1 << 20;
        else if (!strncmp(argv[i], "group=", 6)) d.max_group = n;
        else if (!strncmp(argv[i], "local=", 6)) d.local_bytes = n;
        else if (!strncmp(argv[i], "sub_group=", 10)) d.sub_group = n;
        else if (!strncmp(argv[i], "device=", 7)) {
            ok(cst_device_list(&here, &many), "devices");
            ok(cst_device_choose(&pick, here, many, value), "device");
            d = here[pick];
            free(here);
        } else {
            fprintf(stderr,
                    "list_programs: %s: all-heads, cpu, models, group=N, local=BYTES, sub_group=N and device=SPEC are known\n", argv[i]);
            exit(2);
        }
    }
    return d;
}

int main(int argc, char **argv)
{
    int all_heads = 0, with_models = 0;
    if (argc < 2) {
        fprintf(stderr, "usage: list_programs DIR [all-heads] [cpu | models | group=N local=BYTES sub_group=N | device=SPEC]\n");
        return 2;
    }
    const cst_device_info d = device_of(argc, argv, &all_heads, &with_models);
    ok(cst_device_imagine(&dev, with_models ? NULL : &d), "device"); /* NULL: what models are planned on */
    ok(cst_mem_create(&mem, dev, 1 << 30), "memory");
    ok(cst_mem_plan_begin(mem), "memory");
    attentions(all_heads);
    rows();
    tables();
    arrays();
    products();
    split_products();
    searches_and_rulers();
    ok(cst_mem_free(mem), "memory");
    if (with_models) models();
    ok(cst_make_dirs(argv[1]), argv[1]);
    write_all(argv[1]);
    cst_device_close(dev);
    return 0;
}
