/* castor grads: loss and every parameter's gradient of one batch, for comparing with other programs. */
#include <inttypes.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "io/safetensors.h"
#include "model/weights.h"

static cst_status save_logits(cst_session *s, const char *path)
{
    const int64_t dims[] = {s->batch->rows, s->batch->seq, s->o.config.vocab_size};
    cst_safetensors_writer *w = NULL;
    cst_tensor *t = NULL;
    float *host = NULL;
    cst_status st;
    CST_GO(cst_tensor_create(&t, s->mem, CST_SCRATCH, CST_F32, 2, (int64_t[]){dims[0] * dims[1], dims[2]}, "logits"), out);
    CST_GO(cst_model_logits(s->model, s->batch, t), out);
    if (!(host = malloc(t->bytes))) {
        st = cst_fail(CST_NO_MEMORY, "%s", path);
        goto out;
    }
    CST_GO(cst_tensor_read(t, 0, host, t->bytes), out);
    CST_GO(cst_safetensors_writer_create(&w, path), out);
    CST_GO(cst_safetensors_writer_declare(w, "logits", CST_ST_F32, 3, dims), out);
    CST_GO(cst_safetensors_writer_begin(w), out);
    CST_GO(cst_safetensors_writer_put(w, host, t->bytes), out);
    st = cst_safetensors_writer_commit(w);
    w = NULL;
out:
    cst_safetensors_writer_discard(w);
    free(host);
    cst_tensor_free(t);
    return st;
}

cst_status cst_cmd_grads(const cst_args *a)
{
    const char *dir = a->text[CST_OPTION_MODEL], *tokens = a->text[CST_OPTION_TOKENS_FILE], *out = a->text[CST_OPTION_OUT];
    cst_token_rows t = {0, 0, NULL, NULL};
    cst_session *s = NULL;
    cst_session_options o;
    cst_config config;
    float loss = 0;
    cst_status st;
    if (!dir || !tokens || !out) return cst_fail(CST_USAGE, "castor grads needs --model DIR, --tokens-file F.json and --out F.safetensors");
    CST_GO(cst_config_load(&config, dir), out);
    CST_GO(cst_token_rows_read(&t, tokens), out);
    CST_GO(cst_session_options_from(&o, a, &config), out);
    o.batch = t.rows;
    o.seq = t.seq;
    CST_GO(cst_session_open(&s, &o), out);
    CST_GO(cst_weights_load(s->model, dir), out);
    CST_GO(cst_session_start(s), out);
    CST_GO(cst_batch_set(s->batch, t.ids, t.length, config.vocab_size), out);
    CST_GO(cst_session_begin(s, 0, 1), out);
    CST_GO(cst_session_micro(s, 0), out);
    CST_GO(cst_tensor_read(s->losses, 0, &loss, sizeof loss), out);
    CST_GO(cst_weights_save(s->model, s->model->g, out, "loss", loss), out);
    if (a->text[CST_OPTION_LOGITS]) CST_GO(save_logits(s, a->text[CST_OPTION_LOGITS]), out);
    if (cst_args_flag(a, CST_OPTION_JSON)) printf("{\"loss\": %.9g, \"targets\": %" PRId64 "}\n", loss, s->batch->count);
    else printf("loss %.9g over %" PRId64 " targets; gradients of %d tensors in %s\n", loss, s->batch->count, s->model->params, out);
out:
    cst_token_rows_free(&t);
    return cst_session_close(s, st);
}
