/* Text generation: the prompt in one pass, then token by token with the keys and values of all earlier tokens on the
 * device. A generator is set up for one length of prompt and text, planned like a training step and held to a budget. */
#ifndef CST_TRAIN_GENERATE_H
#define CST_TRAIN_GENERATE_H

#include "gemm/choice.h"
#include "model/model.h"
#include "train/sampling.h"

typedef struct cst_generate_options {
    const char *device;      /* as cst_device_choose's spec */
    uint64_t device_mem;     /* budget in bytes, 0: the default */
    cst_gemm_mode gemm;
    cst_config config;
    int64_t prompt, tokens;  /* tokens of the prompt; most to generate */
    int no_cache;            /* compute all of the text anew for each token (for checking) */
} cst_generate_options;

typedef struct cst_generator {
    cst_generate_options o;
    int64_t tokens;          /* most that it generates: o.tokens, or what the model has positions for */
    int64_t room;            /* tokens that go through the model: all but the last one */
    cst_device *dev;
    cst_mem *mem;
    cst_model *model;
    cst_kv *kv;              /* NULL with no_cache */
    cst_batch *all, *one;    /* [1, prompt], or [1, room] with no_cache; [1, 1] */
    cst_tensor *logits;      /* [1, vocab] */
    uint64_t planned;        /* bytes on the device */
} cst_generator;

typedef enum cst_generate_end {
    CST_GENERATE_EOS,        /* the end-of-text token came */
    CST_GENERATE_TOKENS,     /* as many as wanted */
    CST_GENERATE_POSITIONS   /* the model has no more positions */
} cst_generate_end;
/* "eos", "max-tokens", "positions" */
const char *cst_generate_end_name(cst_generate_end e);

/* Open the device, plan, place. Prompt and text together are at most max_position_embeddings tokens. The weights are undefined afterwards (cst_weights_load). USAGE: an empty prompt, one that
 * leaves no position, or no token to generate; OVER_BUDGET: the sizes of weights and of keys and values, and the budget
 * that does. */
cst_status cst_generator_open(cst_generator **out, const cst_generate_options *o);
/* Release everything and return st, its detail kept; when st is OK: STATE if the books are not even. NULL is fine. */
cst_status cst_generator_close(cst_generator *g, cst_status st);

/* Generate: out[g->tokens] gets *count ids, an end-of-text token (config.eos_token_id) included. token, which may be NULL, is
 * called with each as it comes; anything but OK from it is returned at once (*count then says how many there are). ids has
 * as many as the generator was opened for; INPUT when one is outside the vocabulary. May be called again. */
cst_status cst_generate(int32_t *out, int64_t *count, cst_generate_end *end, cst_generator *g, const int32_t *ids, const cst_sampling *s,
                        cst_status (*token)(int32_t id, void *user), void *user);

#endif
