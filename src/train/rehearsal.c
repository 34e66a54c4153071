#include "train/rehearsal.h"

#include <stdlib.h>

#include "base/random.h"

#define STEPS 4 /* the second and third are measured; the fourth begins with a plan made from that */

cst_status cst_random_step(cst_session *s, int32_t *ids, int64_t t)
{
    int64_t n = s->o.batch * s->o.seq;
    CST_TRY(cst_session_begin(s, 1e-5, t + 1));
    for (int64_t a = 0; a < s->o.accum; a++) {
        uint64_t index = (uint64_t)(t * s->o.accum + a);
        for (int64_t i = 0; i < n; i++)
            ids[i] = (int32_t)(cst_random_u64(s->o.seed, index + 1, (uint64_t)i) % (uint64_t)s->o.config.vocab_size);
        CST_TRY(cst_batch_set(s->batch, ids, NULL, s->o.config.vocab_size));
        CST_TRY(cst_session_micro(s, index));
    }
    return cst_optim_step(s->optim);
}

cst_status cst_rehearse(const cst_session_options *like, uint64_t budget)
{
    cst_session_options o = *like;
    cst_session *s;
    cst_status st = CST_OK;
    if (o.config.num_hidden_layers > CST_REHEARSAL_LAYERS) o.config.num_hidden_layers = CST_REHEARSAL_LAYERS;
    o.device_mem = budget;
    o.accum = 1;
    o.frozen = NULL;
    o.products = NULL;
    o.profile = 0;
    o.placement = CST_PLACEMENT_AUTO;
    o.pack = CST_PACK_NEVER;
    o.recompute = CST_RECOMPUTE_NONE;
    o.host_layers = -1;
    o.rehearses = 1;
    int32_t *ids = malloc((size_t)(o.batch * o.seq) * sizeof *ids);
    if (!ids) return cst_fail(CST_NO_MEMORY, "rehearsal");
    CST_GO(cst_session_open(&s, &o), out);
    st = cst_model_init(s->model, o.seed);
    if (st == CST_OK) st = cst_session_start(s);
    for (int64_t t = 0; t < STEPS && st == CST_OK; t++) {
        st = cst_random_step(s, ids, t);
        if (st == CST_OK) st = cst_mem_finish(s->mem);
    }
    st = cst_session_close(s, st);
out:
    free(ids);
    return st;
}
