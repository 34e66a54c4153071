#include "model/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "model/layer.h"

/* Backward goes down to the lowest layer with a gradient, or through all of them to the embeddings. */
static int backward_from(const cst_model *M)
{
    int from = (int)M->config.num_hidden_layers;
    for (int i = M->params - 1; M->g && i >= 0; i--) {
        if (!M->g[i]) continue;
        if (M->param[i].layer >= 0) from = M->param[i].layer;
        else if (M->param[i].role <= CST_ROLE_PROJECT_IN) from = 0;
    }
    return from;
}

cst_status cst_model_create(cst_model **out, cst_mem *m, const cst_config *c, int with_grads, const unsigned char *frozen)
{
    cst_model *M = calloc(1, sizeof *M);
    cst_status st = CST_OK;
    if (!M) return cst_fail(CST_NO_MEMORY, "model");
    M->mem = m;
    M->config = *c;
    M->params = cst_param_count(c);
    M->param = calloc((size_t)M->params, sizeof *M->param);
    M->w = calloc((size_t)M->params, sizeof *M->w);
    if (with_grads) M->g = calloc((size_t)M->params, sizeof *M->g);
    if (!M->param || !M->w || (with_grads && !M->g)) {
        st = cst_fail(CST_NO_MEMORY, "model");
        goto fail;
    }
    for (int i = 0; i < M->params; i++) {
        cst_param *p = &M->param[i];
        CST_GO(cst_param_get(p, c, i), fail);
        CST_GO(cst_tensor_create(&M->w[i], m, CST_PARAM, CST_F32, p->rank, p->dims, "%s", p->name), fail);
        CST_GO(cst_tensor_place(M->w[i]), fail);
        if (!with_grads || (frozen && frozen[i])) continue;
        CST_GO(cst_tensor_create(&M->g[i], m, CST_GRAD, CST_F32, p->rank, p->dims, "gradient of %.80s", p->name), fail);
        CST_GO(cst_tensor_place(M->g[i]), fail);
    }
    M->backward_from = backward_from(M);
    *out = M;
    return CST_OK;
fail:
    cst_model_free(M);
    return st;
}

void cst_model_free(cst_model *M)
{
    if (!M) return;
    for (int i = 0; i < M->params; i++) {
        if (M->w) cst_tensor_free(M->w[i]);
        if (M->g) cst_tensor_free(M->g[i]);
    }
    free(M->param);
    free(M->w);
    free(M->g);
    free(M);
}

int cst_model_among_first(const cst_model *M, int param, double share)
{
    double all = 0, before = 0;
    if (!M->g || !M->g[param]) return 0;
    for (int i = 0; i < M->params; i++) {
        if (!M->g[i]) continue;
        all += (double)M->param[i].count;
        if (i < param) before += (double)M->param[i].count;
    }
    return before < share * all;
}

cst_status cst_model_settled(const cst_model *M)
{
    return M->behind ? cst_fail(CST_STATE, "the weights' last update is still to come (cst_optim_settle)") : CST_OK;
}

#define PIECE ((int64_t)1 << 20) /* values made at once */

/* n values of parameter `id` from `first` on. */
static void initial(float *v, const cst_param *p, int id, int64_t first, int64_t n, uint64_t seed)
{
    float mean = (float)p->init_value, std = (float)p->init_std;
    if (std > 0) cst_random_normal_part(v, (uint64_t)first, (size_t)n, mean, std, seed, (uint64_t)id);
    else
        for (int64_t j = 0; j < n; j++) v[j] = mean;
    if (p->zero_row < 0) return;
    int64_t from = p->zero_row * p->dims[1] - first, to = from + p->dims[1];
    for (int64_t j = from < 0 ? 0 : from; j < to && j < n; j++) v[j] = 0;
}

/* A piece goes up while the next one is made. */
cst_status cst_model_init(cst_model *M, uint64_t seed)
{
    float *v[2] = {malloc(PIECE * sizeof(float)), malloc(PIECE * sizeof(float))};
    cl_event sent[2] = {NULL, NULL};
    int turn = 0;
    cst_status st = v[0] && v[1] ? CST_OK : cst_fail(CST_NO_MEMORY, "initial weights");
    for (int i = 0; i < M->params && st == CST_OK; i++)
        for (int64_t first = 0, n; first < M->param[i].count && st == CST_OK; first += n, turn ^= 1) {
            n = M->param[i].count - first < PIECE ? M->param[i].count - first : PIECE;
            if ((st = cst_mem_wait(&sent[turn])) != CST_OK) break;
            initial(v[turn], &M->param[i], i, first, n, seed);
            st = cst_tensor_write_async(M->w[i], (size_t)first * sizeof(float), v[turn], (size_t)n * sizeof(float), &sent[turn]);
        }
    for (int i = 0; i < 2; i++) {
        cst_status done = cst_mem_wait(&sent[i]);
        if (st == CST_OK) st = done;
        free(v[i]);
    }
    return st;
}

double cst_model_flops_per_token(const cst_config *c, int64_t seq)
{
    double d = (double)c->hidden_size, e = (double)c->word_embed_proj_dim;
    double layer = 4 * d * d + 2 * d * (double)c->ffn_dim, head = e * (double)c->vocab_size + (e != d ? 2 * e * d : 0);
    double products = 2 * ((double)c->num_hidden_layers * layer + head);
    double attention = 2 * d * (double)seq * (double)c->num_hidden_layers; /* two products, half of the square */
    return 3 * products + 3.5 * attention;
}
