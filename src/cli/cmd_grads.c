/* castor grads: loss and every parameter's gradient of one batch, for comparing with other programs. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"
#include "model/weights.h"

/* The batch as rows * seq ids, rows padded with 0 to the longest. */
typedef struct token_rows {
    int64_t rows, seq;
    int32_t *ids, *length;
} token_rows;

static cst_status bad_tokens(const char *path)
{
    return cst_fail(CST_INPUT, "%s: expected a JSON array of arrays of token ids, each with 2 or more", path);
}

static cst_status read_tokens(token_rows *t, const char *path)
{
    json_t *j;
    cst_status st = CST_OK;
    CST_TRY(cst_json_load(&j, path, JSON_ARRAY));
    t->rows = (int64_t)json_array_size(j);
    for (int64_t r = 0; r < t->rows; r++) {
        json_t *row = json_array_get(j, (size_t)r);
        int64_t n = json_is_array(row) ? (int64_t)json_array_size(row) : 0;
        if (n < 2 || n > INT32_MAX) {
            st = bad_tokens(path);
            goto out;
        }
        if (n > t->seq) t->seq = n;
    }
    if (!t->rows) {
        st = bad_tokens(path);
        goto out;
    }
    t->ids = calloc((size_t)(t->rows * t->seq), sizeof *t->ids);
    t->length = calloc((size_t)t->rows, sizeof *t->length);
    if (!t->ids || !t->length) {
        st = cst_fail(CST_NO_MEMORY, "%s", path);
        goto out;
    }
    for (int64_t r = 0; r < t->rows; r++) {
        json_t *row = json_array_get(j, (size_t)r), *v;
        size_t i;
        t->length[r] = (int32_t)json_array_size(row);
        json_array_foreach(row, i, v) {
            json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
            if (id < 0 || id > INT32_MAX) {
                st = bad_tokens(path);
                goto out;
            }
            t->ids[r * t->seq + (int64_t)i] = (int32_t)id;
        }
    }
out:
    json_decref(j);
    return st;
}

cst_status cst_cmd_grads(const cst_args *a)
{
    const char *dir = a->text[CST_OPTION_MODEL], *tokens = a->text[CST_OPTION_TOKENS_FILE], *out = a->text[CST_OPTION_OUT];
    token_rows t = {0, 0, NULL, NULL};
    cst_session *s = NULL;
    cst_session_options o;
    cst_config config;
    float loss = 0;
    cst_status st;
    if (!dir || !tokens || !out) return cst_fail(CST_USAGE, "castor grads needs --model DIR, --tokens-file F.json and --out F.safetensors");
    CST_GO(cst_config_load(&config, dir), out);
    CST_GO(read_tokens(&t, tokens), out);
    CST_GO(cst_session_options_from(&o, a, &config), out);
    o.batch = t.rows;
    o.seq = t.seq;
    CST_GO(cst_session_open(&s, &o), out);
    CST_GO(cst_weights_load(s->model, dir), out);
    CST_GO(cst_session_start(s), out);
    CST_GO(cst_batch_set(s->batch, t.ids, t.length, config.vocab_size), out);
    CST_GO(cst_session_begin(s), out);
    CST_GO(cst_session_micro(s, 0), out);
    CST_GO(cst_tensor_read(s->losses, 0, &loss, sizeof loss), out);
    CST_GO(cst_weights_save(s->model, s->model->g, out, "loss", loss), out);
    if (cst_args_flag(a, CST_OPTION_JSON)) printf("{\"loss\": %.9g, \"targets\": %" PRId64 "}\n", loss, s->batch->count);
    else printf("loss %.9g over %" PRId64 " targets; gradients of %d tensors in %s\n", loss, s->batch->count, s->model->params, out);
out:
    free(t.ids);
    free(t.length);
    return cst_session_close(s, st);
}
