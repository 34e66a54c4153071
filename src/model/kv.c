#include <stdlib.h>

#include "model/model.h"

cst_status cst_kv_create(cst_kv **out, const cst_model *M, int64_t room)
{
    int layers = (int)M->config.num_hidden_layers;
    const int64_t dims[] = {room, M->config.hidden_size};
    cst_kv *kv = calloc(1, sizeof *kv);
    cst_status st = CST_OK;
    if (!kv) return cst_fail(CST_NO_MEMORY, "keys and values");
    kv->layers = layers;
    kv->room = room;
    kv->k = calloc((size_t)layers, sizeof *kv->k);
    kv->v = calloc((size_t)layers, sizeof *kv->v);
    if (!kv->k || !kv->v) {
        st = cst_fail(CST_NO_MEMORY, "keys and values");
        goto fail;
    }
    for (int l = 0; l < layers; l++) {
        CST_GO(cst_tensor_create(&kv->k[l], M->mem, CST_DATA, CST_F32, 2, dims, "keys of layer %d", l), fail);
        CST_GO(cst_tensor_create(&kv->v[l], M->mem, CST_DATA, CST_F32, 2, dims, "values of layer %d", l), fail);
        CST_GO(cst_tensor_place(kv->k[l]), fail);
        CST_GO(cst_tensor_place(kv->v[l]), fail);
    }
    *out = kv;
    return CST_OK;
fail:
    cst_kv_free(kv);
    return st;
}

void cst_kv_free(cst_kv *kv)
{
    if (!kv) return;
    for (int l = 0; l < kv->layers; l++) {
        if (kv->k) cst_tensor_free(kv->k[l]);
        if (kv->v) cst_tensor_free(kv->v[l]);
    }
    free(kv->k);
    free(kv->v);
    free(kv);
}
