/* The experiment that Castor comes from: an OPT model trained with each of ColossalAI's plugins, at several sizes of batch. What a plugin
 * does is a placement here:
 *     ddp              everything on the device, fp32
 *     ddp_fp16         everything on the device, mixed precision: a row that says "not yet"
 *     low_level_zero   master weights and optimizer state on the host
 *     gemini           automatic placement: tensors leave the device and come back where they don't fit together
 */
#ifndef CST_BENCH_PLUGINS_H
#define CST_BENCH_PLUGINS_H

#include <jansson.h>

#include "bench/ceiling.h"
#include "bench/measure.h"
#include "bench/step.h"

typedef enum cst_plugin {
    CST_PLUGIN_DDP,
    CST_PLUGIN_DDP_FP16,
    CST_PLUGIN_LOW_LEVEL_ZERO,
    CST_PLUGIN_GEMINI,
    CST_PLUGIN_COUNT
} cst_plugin;
const char *cst_plugin_name(cst_plugin p);
/* "ddp,gemini": each once, in the order given. USAGE naming the word that is none, and those that are. */
cst_status cst_plugins_parse(cst_plugin list[CST_PLUGIN_COUNT], int *n, const char *text);

/* One plugin at one size of batch. */
typedef struct cst_plugin_row {
    cst_plugin plugin;
    int64_t batch;
    char missing[256];       /* why nothing was measured; else "" */
    uint64_t need, lacking;  /* bytes of the smallest budget that works, and how much that is above the one there is; 0 where measured */
    cst_timing step;         /* of the steps after the warm-up */
    double first_ms;         /* the first step: kernels are built in it */
    double tokens_per_s, flops; /* by the median; model FLOP/s, without what is computed again */
    uint64_t device_peak, host_peak; /* by the manager's books */
    double up_bytes, down_bytes;     /* moved in a step */
    double compute_ms;       /* what operators take in a step, below 0 where not known: see stall_ms */
    double transfer_ms;      /* what the bytes moved take one after the other, at the rates measured */
    double stall_ms;         /* what a step is longer than its operators: with a plan (gemini) those measured for the plan, else the step of
                              * ddp in the same batch. AdamW on the host counts as waiting, too */
    double overlap;          /* share of transfer_ms that the step doesn't show: 1 - stall_ms / transfer_ms, 0..1; below 0 where nothing
                              * moves or compute_ms isn't known */
    int recomputed;          /* layers computed again in backward */
    int comparable;          /* its losses must be those of the others, to the bit */
    cst_steps run;
} cst_plugin_row;

/* Measure a row with o's model, batch and budget (o->device_mem must be set); its placement is the plugin's. What doesn't fit the
 * device or the host is a row that says so, no failure. ddp: that row of the same batch, or NULL. r: cst_plugin_row_free, also after a
 * failure. */
cst_status cst_plugin_run(cst_plugin_row *r, cst_plugin plugin, const cst_session_options *o, int64_t steps, const cst_ceilings *c,
                          const cst_plugin_row *ddp, cst_steps_told told, void *user);
void cst_plugin_row_free(cst_plugin_row *r);

/* Whether the losses of all rows of a batch are the same, bit by bit, as far as both ran: STATE naming the first step where they
 * aren't. *compared: rows that had another one to be compared with. */
cst_status cst_plugins_agree(int *compared, const cst_plugin_row *row, int n);

/* New reference, NULL when out of memory. gemm: cst_ceilings'. */
json_t *cst_plugin_row_json(const cst_plugin_row *r, double gemm);

#endif
