/* AdamW over a model's parameters, with clipping, its state on the device or on the host.
 *
 * A part of the parameters, or all, can have their state on the host: fp32 master weights and both moments, and room for
 * gradients, which come down in backward (16 bytes a parameter); all host threads apply them, and the new weights go up. On the
 * device there are both moments (8 bytes a parameter beside weight and gradient). Both give the same bits on a device that
 * divides exactly. The norm is always computed on the device, over all gradients, in the same order. A frozen parameter (no
 * gradient in M->g) has no state and no part in the norm, and keeps its bits.
 *
 * When a weight is updated. With clipping an update waits for the norm, which is known at a step's end: it is done just before the
 * weight's first use in the next step (cst_optim_before), so that moments which don't fit the device travel while a forward pass is
 * computed. Without clipping (clip 0) an update waits for nothing but its gradient: a layer's is done as soon as backward is
 * through with it, so that its gradients needn't be kept; the model's two ends are updated at the step's end.
 *
 * The host updates in the same pass, while the device computes what was enqueued before: CST_OPTIM_AHEAD layers away from the one that is
 * being enqueued, or further, in even parts over a forward pass, because a queue takes only so many commands ahead. What backward leaves
 * to do is done before the next forward pass. Until all is done M->behind counts
 * what is to come, and whoever reads weights calls cst_optim_settle first. Numbers are the same either way.
 */
#ifndef CST_OPTIM_OPTIM_H
#define CST_OPTIM_OPTIM_H

#include "model/model.h"

#define CST_OPTIM_AHEAD 2 /* layers, see above */

typedef struct cst_optim_options {
    double beta1, beta2, eps, weight_decay; /* decay only where cst_param.decay says so */
    double clip;                            /* largest global gradient norm; 0: no clipping */
    double host_share;                      /* part of the parameters, by elements and from the first on, whose state is on the host */
    int host_layers;                        /* instead: matrices of so many layers, the last ones; for tensors that migrate */
} cst_optim_options;

typedef struct cst_optim cst_optim;

/* State for M's parameters, moments zero. While the manager is planning, host state is not made yet:
 * cst_optim_start does that. M must outlive *out. */
cst_status cst_optim_create(cst_optim **out, cst_model *M, const cst_optim_options *o);
void cst_optim_free(cst_optim *o);
/* Zero the moments and, on the host, take the master weights from the device; no update is to come. Call after the
 * plan is committed and the weights are set. */
cst_status cst_optim_start(cst_optim *o);
/* cst_pass.before, with the optimizer as user: what the step before left to do for the layer's parameters. For the first
 * micro-batch of every step, so that all iterations are the same: where nothing is to come, the same tensors are
 * acquired and nothing changes. What failed may be called again. */
cst_status cst_optim_before(void *optim, int layer);
/* Do all that is still to come, outside of iterations. STATE as cst_optim_begin. */
cst_status cst_optim_settle(cst_optim *o);
/* cst_pass.complete, with the optimizer as user: of gradients that are complete the sums of squares are taken at once,
 * instead of bringing them again in cst_optim_step, and without clipping the layer is updated. For the last micro-batch of a
 * step. When it, or what comes before cst_optim_step, fails without clipping, the step can't be begun anew. */
cst_status cst_optim_complete(void *optim, int layer);
/* A step begins, number t from 1 on (bias correction), with this learning rate. STATE when the one before failed in its backward pass
 * with a part of the weights updated: nothing but cst_optim_start goes on from there. */
cst_status cst_optim_begin(cst_optim *o, double lr, int64_t t);
/* One update with M's gradients, see above, which ends the manager's iteration. Does nothing when a gradient isn't finite, or,
 * without clipping, nothing to the layer that has it and to the two ends of the model. Gradients are
 * left as they are. Returns at once. */
cst_status cst_optim_step(cst_optim *o);
/* Elements [first, first + count) of parameter `param`'s first (which 0) or second (1) moment, to or from host memory;
 * returns when that may be used again. Only for parameters with a gradient, after cst_optim_start. Both settle first. */
cst_status cst_optim_read(cst_optim *o, int which, int param, size_t first, float *dst, size_t count);
cst_status cst_optim_write(cst_optim *o, int which, int param, size_t first, const float *src, size_t count);
/* Whether parameter `param` has its state on the host. */
int cst_optim_on_host(const cst_optim *o, int param);
/* The layer before whose forward pass the host updates it, -1: as soon as the norm is known; with clipping. */
int cst_optim_turn(const cst_optim *o, int param);
/* f32 on the device, its first four values: norm before clipping, coefficient, 1 when all gradients were finite, unused. */
cst_tensor *cst_optim_norm(const cst_optim *o);

#endif
