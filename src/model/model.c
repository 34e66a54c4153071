#include "model/model.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "model/layer.h"

cst_status cst_model_create(cst_model **out, cst_mem *m, const cst_config *c, int with_grads)
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
        if (!with_grads) continue;
        CST_GO(cst_tensor_create(&M->g[i], m, CST_GRAD, CST_F32, p->rank, p->dims, "gradient of %.80s", p->name), fail);
        CST_GO(cst_tensor_place(M->g[i]), fail);
    }
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

cst_status cst_model_init(cst_model *M, uint64_t seed)
{
    size_t most = 0;
    for (int i = 0; i < M->params; i++)
        if ((size_t)M->param[i].count > most) most = (size_t)M->param[i].count;
    float *v = malloc(most * sizeof *v);
    if (!v) return cst_fail(CST_NO_MEMORY, "initial weights");
    cst_status st = CST_OK;
    for (int i = 0; i < M->params && st == CST_OK; i++) {
        const cst_param *p = &M->param[i];
        size_t n = (size_t)p->count;
        if (p->init_std > 0) cst_random_normal(v, n, (float)p->init_value, (float)p->init_std, seed, (uint64_t)i);
        else
            for (size_t j = 0; j < n; j++) v[j] = (float)p->init_value;
        if (p->zero_row >= 0) memset(v + p->zero_row * p->dims[1], 0, (size_t)p->dims[1] * sizeof *v);
        st = cst_tensor_write(M->w[i], 0, v, n * sizeof *v);
    }
    free(v);
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
