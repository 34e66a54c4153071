/* AdamW with its state on the host: gradients down, update, weights up, in overlapping pieces. */
#ifndef CST_OPTIM_HOST_H
#define CST_OPTIM_HOST_H

#include "model/model.h"
#include "op/adamw.h"

typedef struct cst_host_optim cst_host_optim;

/* State of the parameters with chosen[params] not 0, which stays the caller's: master weights copied from the device,
 * moments zero. 12 bytes a trained parameter on the host. */
cst_status cst_host_optim_create(cst_host_optim **out, cst_model *M, const unsigned char *chosen);
void cst_host_optim_free(cst_host_optim *h);
/* Parameter `param`'s first (which 0) or second (1) moment; only the step changes it. Borrowed. */
float *cst_host_optim_moment(cst_host_optim *h, int which, int param);
/* One update of its parameters. Returns when the last piece is updated and its upload enqueued; the manager
 * orders later operators behind the uploads. */
cst_status cst_host_optim_step(cst_host_optim *h, float coefficient, const cst_adamw_step *s, double weight_decay);

#endif
