/* AdamW with its state on the host: gradients down, update, weights up, each parameter for itself. Its gradient is fetched
 * when it is complete, in backward, and it is updated from there whenever the caller likes, before the weight's next use; the
 * weight must be one that operators only read.
 */
#ifndef CST_OPTIM_HOST_H
#define CST_OPTIM_HOST_H

#include "model/model.h"
#include "op/adamw.h"

typedef struct cst_host_optim cst_host_optim;

/* State of the parameters with chosen[params] not 0, which stays the caller's: master weights copied from the device,
 * moments zero, room for gradients: 16 bytes a trained parameter on the host. */
cst_status cst_host_optim_create(cst_host_optim **out, cst_model *M, const unsigned char *chosen);
void cst_host_optim_free(cst_host_optim *h);
/* Parameter `param`'s first (which 0) or second (1) moment; only cst_host_optim_update changes it. Borrowed. */
float *cst_host_optim_moment(cst_host_optim *h, int which, int param);
/* Let parameter `param`'s gradient come down. */
cst_status cst_host_optim_fetch(cst_host_optim *h, int param);
/* One update of a parameter with the gradient fetched last; waits for that. Its new weight is M->w[param]'s content for all
 * operators enqueued from now on. step NULL: nothing but the latter. *updated: the update is done, and if sending it has
 * failed, step NULL is what is left to do. */
cst_status cst_host_optim_update(cst_host_optim *h, int param, float coefficient, const cst_adamw_step *step, int *updated);

#endif
