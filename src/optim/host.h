/* AdamW with its state on the host: gradients down, update, weights up.
 *
 * Either all parameters at a step's end, in overlapping pieces (cst_host_optim_step). Or each for itself: its gradient is
 * fetched when it is complete, in backward, and is updated from there whenever the caller likes, before the weight's next
 * use; the weight must then be one that operators only read.
 */
#ifndef CST_OPTIM_HOST_H
#define CST_OPTIM_HOST_H

#include "model/model.h"
#include "op/adamw.h"

typedef struct cst_host_optim cst_host_optim;

/* State of the parameters with chosen[params] not 0, which stays the caller's: master weights copied from the device,
 * moments zero. 12 bytes a trained parameter on the host; each_apart: for fetch and update, 16 bytes, else for step. */
cst_status cst_host_optim_create(cst_host_optim **out, cst_model *M, const unsigned char *chosen, int each_apart);
void cst_host_optim_free(cst_host_optim *h);
/* Parameter `param`'s first (which 0) or second (1) moment; only the step changes it. Borrowed. */
float *cst_host_optim_moment(cst_host_optim *h, int which, int param);
/* One update of its parameters. result, which[params]: from 4 which[i] on, what cst_grad_norm_finish wrote for parameter i, which
 * keeps its values when a gradient isn't finite. Returns when the last piece is updated and its upload enqueued; the manager
 * orders later operators behind the uploads. */
cst_status cst_host_optim_step(cst_host_optim *h, const float *result, const int *which, const cst_adamw_step *s, double weight_decay);

/* Let parameter `param`'s gradient come down. */
cst_status cst_host_optim_fetch(cst_host_optim *h, int param);
/* One update of a parameter with the gradient fetched last; waits for that. Its new weight is M->w[param]'s content for all
 * operators enqueued from now on. step NULL: nothing but the latter. *updated: the update is done, and if sending it has
 * failed, step NULL is what is left to do. */
cst_status cst_host_optim_update(cst_host_optim *h, int param, float coefficient, const cst_adamw_step *step, int *updated);

#endif
