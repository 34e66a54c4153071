#include "selftest/selftest.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "device/verdict.h"
#include "memory/launch.h"
#include "selftest/trial.h"

#define BUDGET ((uint64_t)8 << 20) /* below what a manager grows by, so that it takes what is needed only */
#define TRIALS 2 /* counts changes of the trials themselves: older verdicts don't hold */

/* Families: file of cl/, its trial, when it is wanted, and what of its use is in its build options. */
typedef struct family {
    const char *file;
    cst_status (*run)(cst_trial *r);
    int (*wanted)(const cst_self_test_use *use, const cst_device *dev);
    int by_head, by_activation, by_dropout;
} family;

static int when_training(const cst_self_test_use *use, const cst_device *dev)
{
    (void)dev;
    return use->train;
}

static int when_generating(const cst_self_test_use *use, const cst_device *dev)
{
    (void)dev;
    return use->generate;
}

static int when_dropping(const cst_self_test_use *use, const cst_device *dev)
{
    (void)dev;
    return use->dropout;
}

static int when_casting(const cst_self_test_use *use, const cst_device *dev)
{
    (void)dev;
    return use->cast;
}

static int when_in_groups(const cst_self_test_use *use, const cst_device *dev)
{
    (void)use;
    return dev->group > 1; /* where CLBlast serves, which has no epilogues */
}

static const family families[] = {
    {"fill", cst_trial_fill, NULL, 0, 0, 0},
    {"embed", cst_trial_embed, NULL, 0, 0, 0},
    {"linear", cst_trial_linear, NULL, 0, 0, 0},
    {"gemm_epilogue", cst_trial_gemm_epilogue, when_in_groups, 0, 0, 0},
    {"layer_norm", cst_trial_layer_norm, NULL, 0, 0, 1},
    {"residual", cst_trial_residual, when_dropping, 0, 0, 1},
    {"activation", cst_trial_activation, NULL, 0, 1, 0},
    {"attention", cst_trial_attention, NULL, 1, 0, 0},
    {"attention_decode", cst_trial_attention_decode, when_generating, 1, 0, 0},
    {"cross_entropy", cst_trial_cross_entropy, NULL, 0, 0, 0},
    {"grad_norm", cst_trial_grad_norm, when_training, 0, 0, 0},
    {"adamw", cst_trial_adamw, when_training, 0, 0, 0},
    {"cast", cst_trial_cast, when_casting, 0, 0, 0},
};

/* What the verdict is on. */
static void describe(char *text, size_t size, const cst_device *dev, const family *f, const cst_self_test_use *use)
{
    cst_shape s = cst_device_shape(dev, f->file);
    char head[24] = "";
    if (f->by_head) snprintf(head, sizeof head, " heads of %d", (int)(use->columns / use->heads));
    snprintf(text, size, "%s%s%s%s, groups of %d, vectors of %d, %d %016llx", f->file, head,
             !f->by_activation ? "" : use->activation == CST_RELU ? " relu" : " gelu", f->by_dropout && use->dropout ? " dropout" : "", s.group, s.vec,
             TRIALS, (unsigned long long)cst_verdict_hash(f->file));
}

static cst_status run(cst_device *dev, const family *f, const cst_self_test_use *use)
{
    cst_trial r = {.use = use};
    char detail[512];
    CST_TRY(cst_mem_create(&r.m, dev, use->device_mem && use->device_mem < BUDGET ? use->device_mem : BUDGET));
    cst_mem_set_guard(r.m, 256);
    cst_status st = f->run(&r);
    if (st == CST_OK) st = cst_mem_finish(r.m);
    if (st == CST_OK) st = cst_mem_guards_check(r.m);
    if (dev->profile) cst_launch_collect(r.m);
    cst_kernel_counts_clear(dev);
    snprintf(detail, sizeof detail, "%s", st == CST_OK ? "" : cst_detail());
    cst_trial_end(&r);
    cst_status books = cst_mem_free(r.m);
    return st == CST_OK ? books : cst_fail(st, "%s", detail);
}

/* The known verdict, or a trial's. *before: it was known. */
static cst_status prove(int *before, cst_device *dev, const family *f, const cst_self_test_use *use)
{
    char what[160], detail[512];
    const char *wrong;
    describe(what, sizeof what, dev, f, use);
    cst_verdict v = cst_verdict_get(&wrong, dev, what);
    *before = v != CST_UNPROVEN;
    if (v == CST_RIGHT) return CST_OK;
    if (v == CST_WRONG) return cst_fail(CST_STATE, "%s", wrong);
    cst_status st = run(dev, f, use);
    if (st != CST_OK && st != CST_STATE) return st; /* no verdict */
    snprintf(detail, sizeof detail, "%s", st == CST_OK ? "" : cst_detail());
    cst_verdict_set(dev, what, st == CST_OK ? NULL : detail);
    return st == CST_OK ? CST_OK : cst_fail(st, "%s", detail);
}

static cst_status refuse(const cst_device *dev, const family *f, const char *why)
{
    return cst_fail(CST_UNSUPPORTED,
                    "the kernels of cl/%s.cl don't work on \"%s\" (%s, driver %s): %s. Nothing else can do their work: update the driver, or "
                    "choose another device (castor devices lists them); CASTOR_SELF_TEST=off in the environment goes on nevertheless",
                    f->file, dev->info.name, dev->info.platform, dev->info.driver, why);
}

/* A family proves itself, in the other shape if it must. */
static cst_status settle(int *proved, cst_device *dev, const family *f, const cst_self_test_use *use)
{
    int before, again;
    char why[512];
    cst_status st = prove(&before, dev, f, use);
    *proved += !before;
    if (st == CST_OVER_BUDGET) { /* a budget for toys: another run will tell */
        cst_log(CST_LOG_DEBUG, "self-test of cl/%s.cl left out: %s", f->file, cst_detail());
        return CST_OK;
    }
    if (st != CST_STATE && st != CST_BUILD && st != CST_DEVICE) return st;
    snprintf(why, sizeof why, "%s", cst_detail());
    if (cst_device_reshape(dev, f->file) != CST_OK) return refuse(dev, f, why);
    st = prove(&again, dev, f, use);
    if (st != CST_OK) {
        cst_device_reshape(dev, f->file);
        return refuse(dev, f, why);
    }
    cst_shape s = cst_device_shape(dev, f->file);
    cst_log(before && again ? CST_LOG_DEBUG : CST_LOG_WARN,
            "the kernels of cl/%s.cl are out of use on \"%s\" as it takes them best (%s); with groups of %d and vectors of %d they are right", f->file,
            dev->info.name, why, s.group, s.vec);
    return CST_OK;
}

cst_status cst_self_test(cst_device *dev, const cst_self_test_use *use)
{
    int proved = 0;
    double start = cst_now();
    cst_status st = CST_OK;
    if (!dev->context || cst_verdicts_off()) return CST_OK;
    if (use->heads < 1 || use->columns % use->heads)
        return cst_fail(CST_USAGE, "self-test: %lld heads don't divide %lld columns", (long long)use->heads, (long long)use->columns);
    for (size_t i = 0; i < sizeof families / sizeof *families && st == CST_OK; i++)
        if (!families[i].wanted || families[i].wanted(use, dev)) st = settle(&proved, dev, &families[i], use);
    if (proved) {
        char why[1024];
        snprintf(why, sizeof why, "%s", cst_detail());
        cst_verdict_save(dev);
        if (st != CST_OK) return cst_fail(st, "%s", why);
        cst_log(CST_LOG_INFO, "self-test: %d families of kernels tried on \"%s\", %.1f s (first use; kept for later runs)", proved, dev->info.name,
                cst_now() - start);
    }
    return st;
}
