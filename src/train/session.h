/* A model set up on a device for one shape of batch: device, manager, model, optimizer, placed so that they
 * fit the budget. What train, grads and bench share.
 */
#ifndef CST_TRAIN_SESSION_H
#define CST_TRAIN_SESSION_H

#include "gemm/choice.h"
#include "model/model.h"
#include "optim/optim.h"

typedef enum cst_placement {
    CST_PLACEMENT_AUTO,      /* everything on the device where that fits; else tensors migrate as the manager plans */
    CST_PLACEMENT_RESIDENT,  /* everything on the device */
    CST_PLACEMENT_STATIC     /* master weights and optimizer state, and parameters between their uses, on the host as far as the
                              * options say; the rest on the device */
} cst_placement;
const char *cst_placement_name(cst_placement p);

/* Activations that backward needs. */
typedef enum cst_recompute {
    CST_RECOMPUTE_NONE,      /* all are kept, or leave the device and come back */
    CST_RECOMPUTE_LAYER,     /* each layer keeps its input and is computed again */
    CST_RECOMPUTE_AUTO       /* as many layers, from the first on, as make the predicted step shortest; none when all fits */
} cst_recompute;
const char *cst_recompute_name(cst_recompute r);

/* Keep weights packed for backward products too (see gemm/packed.h), on devices that the native engine serves. */
typedef enum cst_pack {
    CST_PACK_AUTO,           /* when all is resident, accum >= 4 and there is room */
    CST_PACK_NEVER,
    CST_PACK_ALWAYS
} cst_pack;

typedef struct cst_session_options {
    const char *device;      /* as cst_device_choose's spec */
    uint64_t device_mem;     /* budget in bytes, 0: the default */
    int profile;             /* keep kernel times */
    cst_gemm_mode gemm;      /* engines of matrix products */
    const json_t *products;  /* the choices that a run to go on with made (cst_gemm_choices_json); NULL: none */
    cst_config config;
    const unsigned char *frozen; /* [params of config] not 0: keeps its value (see model/freeze.h); NULL: none; borrowed */
    int64_t batch, seq;      /* sequences of a micro-batch; tokens of each */
    int accum;               /* micro-batches a step */
    int with_optim;          /* 0: gradients only */
    int forward_only;        /* not even those: cst_model_evaluate is all that is planned for; needs with_optim 0 */
    cst_optim_options optim; /* host_share is set by the placement */
    double device_optim;     /* part of the optimizer's state that placement STATIC leaves on the device: 0 to 1 */
    int host_layers;         /* with placement AUTO, where tensors migrate: of so many layers, the last ones, the optimizer's
                              * state is on the host; 0: as many as make the predicted step shortest; -1: of none */
    double away_params;      /* part of the trained parameters, by elements and from the first on, that placement STATIC has on
                              * the device for their uses only: 0 to 1 */
    cst_placement placement;
    cst_pack pack;
    cst_recompute recompute;
    uint64_t host_mem, pinned_mem; /* most bytes of host memory for what isn't on the device; of them pinned; 0: any */
    double dropout;
    uint64_t seed;
    int rehearses;           /* tensors migrate even where all fit, so that operators are measured: see train/rehearsal.h */
} cst_session_options;

typedef struct cst_session {
    cst_session_options o;
    cst_device *dev;
    cst_mem *mem;
    cst_model *model;
    cst_optim *optim;
    cst_batch *batch;
    cst_tensor *loss;        /* [batch * seq] of the last micro-batch */
    cst_tensor *losses;      /* [1] sum over a step's micro-batches */
    cst_placement placement; /* what was chosen */
    int packed;              /* weights are kept packed as well */
    int recompute;           /* layers computed again in backward */
    int host_layers;         /* layers, from the last on, whose optimizer state is on the host while tensors migrate */
    uint64_t planned;        /* bytes on the device that the plan needs */
    cst_host_speed host_speed; /* of AdamW on the host, seconds an element; 0: not measured */
    int micros;              /* micro-batches of the step so far */
    int imagined;            /* for questions only */
    int rehearsed;           /* the device's times of operators were asked for: */
    double known;            /* part of a step's that is measured */
    int keeps_gradients;     /* they stay in M->g, for who looks at them; no cst_optim_step follows */
} cst_session;

/* Open the device, plan, place. The weights are undefined afterwards: set them (cst_model_init,
 * cst_weights_load), then call cst_session_start. OVER_BUDGET names the smallest budget that works with these
 * settings and what would lower it; UNSUPPORTED a kernel that is wrong on this device (selftest/selftest.h). */
cst_status cst_session_open(cst_session **out, const cst_session_options *o);
cst_status cst_session_start(cst_session *s);
/* Release everything and return st, its detail kept; when st is OK: STATE if the books are not even. A NULL
 * session is fine. */
cst_status cst_session_close(cst_session *s, cst_status st);

/* Bytes of the smallest budget with which cst_session_open works, whatever o->device_mem is. */
cst_status cst_session_need(uint64_t *bytes, const cst_session_options *o);

/* Bytes of the weights that the optimizer on the host updates: so many gradients come down in a step, beside what is planned. */
uint64_t cst_session_host_updates(const cst_session *s);

/* What a step should take by the plan in use, in seconds, with the updates on the host; 0 where nothing is planned. */
double cst_session_seconds(const cst_session *s);

/* A session for questions only, which never touches a device's memory: about placement and budgets, with the same answers as
 * cst_session_open's. o->device NULL: no device is needed; else the device's own scratch and rates. o->device_mem isn't
 * looked at. Weights are not kept packed. Close it as any other. */
cst_status cst_session_imagine(cst_session **out, const cst_session_options *o);
/* What a step does with memory, as asked about last, first of all with everything on the device and, with recompute AUTO, no
 * layer computed again. *out: cst_trace_free. */
cst_status cst_session_trace(cst_trace **out, const cst_session *s);

/* What cst_session_open would choose, and what a step would then be like. */
typedef struct cst_outlook {
    cst_placement placement;
    int recompute;           /* layers computed again */
    int host_layers;         /* layers whose matrices the host updates, with placement AUTO */
    uint64_t bytes;          /* of device memory */
    uint64_t host_bytes;     /* of tensors that are not on the device, and the optimizer's on the host */
    uint64_t up_bytes, down_bytes; /* a step */
    double known;            /* part of the predicted time of operators that was measured on the device at similar work; the rest is guessed from rates */
    double seconds;          /* a step, predicted; an optimizer on the host is taken to keep up with its transfers */
    cst_trace *trace;        /* of a step */
    cst_plan *plan;          /* for it, without the optimizer on the host */
} cst_outlook;
/* For this many bytes of device memory. OVER_BUDGET as cst_session_open. Free with cst_outlook_clear. */
cst_status cst_session_foresee(cst_outlook *out, cst_session *s, uint64_t budget, const cst_rates *rates);
void cst_outlook_clear(cst_outlook *x);
/* *least: the smallest budget that works; *all: one for which nothing migrates. */
cst_status cst_session_extremes(uint64_t *least, uint64_t *all, cst_session *s);

/* One step's parts. begin: the sum of losses becomes 0; gradients are undefined until the first micro; lr, t: cst_optim_begin's, unused
 * without an optimizer. micro:
 * forward and backward of the batch set in s->batch; the first one after begin overwrites the gradients, the others
 * add to them. index counts all micro-batches since the run's first. */
cst_status cst_session_begin(cst_session *s, double lr, int64_t t);
cst_status cst_session_micro(cst_session *s, uint64_t index);
/* Weights and moments as they are after the last cst_optim_step: its update may be left to the next step's forward pass. Before
 * anything but a step's parts reads M->w (cst_session_evaluate, cst_evaluate, cst_train and checkpoints do it themselves). */
cst_status cst_session_settle(cst_session *s);
/* Losses of the batch set in s->batch to s->loss. */
cst_status cst_session_evaluate(cst_session *s);

#endif
