/* An OPT model on a device: parameters, gradients, forward and backward.
 *
 * Source of the architecture: Zhang et al., "OPT: Open Pre-trained Transformer Language Models", 2022, and
 * the configuration files published with it. Everything is driven by cst_config. For each layer, with
 * N = rows * seq tokens, D = hidden_size, LN = layer norm, drop = dropout:
 *
 *   post-layer-norm (350m)               pre-layer-norm (the others)
 *   s1 = x + drop(attention(x))          s1 = x + drop(attention(LN1 x))
 *   h  = LN1 s1                          h  = LN2 s1
 *   s2 = h + drop(fc2 act(fc1 h))        y  = s1 + drop(fc2 act(fc1 h))
 *   y  = LN2 s2
 *
 * The model knows nothing of budgets: it asks the manager for tensors and gives them back.
 */
#ifndef CST_MODEL_MODEL_H
#define CST_MODEL_MODEL_H

#include "memory/memory.h"
#include "model/config.h"
#include "model/names.h"

typedef struct cst_model {
    cst_mem *mem;
    cst_config config;
    int params;
    cst_param *param;      /* [params], see names.h */
    cst_tensor **w;        /* [params] values, placed at creation */
    cst_tensor **g;        /* [params] gradients, placed at creation; NULL of a frozen parameter; g NULL for evaluation only */
    int backward_from;     /* first layer that backward reaches: below it everything is frozen */
    int behind;            /* updates of w that are still to come (optim/optim.h): until then nothing may read w */
} cst_model;

/* What one pass over a batch is given. All tensors i32, made by cst_batch_create. */
typedef struct cst_batch {
    cst_mem *mem;
    int64_t rows, seq;     /* sequences, tokens in each */
    cst_tensor *ids;       /* [rows * seq] */
    cst_tensor *targets;   /* [rows * seq]: the next token; -1 where there is none */
    cst_tensor *index;     /* [3 rows * seq + 1]: see cst_embed_index */
    int64_t unique;        /* distinct ids */
    int64_t count;         /* targets that are not -1 */
    cst_tensor *set[2][3]; /* what the three above point to in turns */
    cl_event read[2];      /* the operators that took the set's last batch are done */
    uint64_t turn;         /* batches set so far */
    int ahead;
    int32_t *host;         /* [ahead] ids, targets, index as they are sent */
    cl_event (*sent)[3];   /* [ahead] */
} cst_batch;

/* Keys and values of one sequence's tokens so far, so that the next one needs only its own row. */
typedef struct cst_kv {
    int layers;
    int64_t room, count;   /* tokens it can hold, tokens it holds */
    cst_tensor **k, **v;   /* [layers] of [room, hidden_size], placed at creation */
} cst_kv;

typedef struct cst_pass {
    float dropout;         /* probability, 0: none */
    uint64_t seed;         /* of the dropout masks */
    uint32_t step;         /* counts micro-batches: each gets its own masks */
    int recompute;         /* this many layers, from the first on, keep their input only and are computed again in backward */
    float scale;           /* gradients are those of scale * sum of the losses at all targets */
    int accumulate;        /* add to M->g; 0: overwrite it, whatever it holds */
    /* Called just before the first use of a layer's parameters (-1: those outside of the layers) in this pass; NULL: nothing. */
    cst_status (*before)(void *user, int layer);
    /* Called when no more will be added to their gradients in this pass, while they are likely to be on the device; NULL:
     * nothing. */
    cst_status (*complete)(void *user, int layer);
    void *user;
    cst_kv *kv;            /* forward only: the batch's tokens follow those in it, and are added; or NULL */
} cst_pass;

/* Make the parameters (content undefined) and, with_grads, their gradients, but for those where frozen[params] isn't 0
 * (NULL: none, see freeze.h). c must have passed cst_config_check; it is copied. */
cst_status cst_model_create(cst_model **out, cst_mem *m, const cst_config *c, int with_grads, const unsigned char *frozen);
void cst_model_free(cst_model *M);
/* Is parameter `param` one of the first trained ones that have this share (0 to 1) of all trained ones, by elements? Never
 * without gradients. */
int cst_model_among_first(const cst_model *M, int param, double share);
/* STATE while M->behind. */
cst_status cst_model_settled(const cst_model *M);
/* Random start by the configuration's init_std: a pure function of the seed, made on the host. */
cst_status cst_model_init(cst_model *M, uint64_t seed);

/* Room for batches of this shape, `ahead` (>= 1) of which may be on their way to the device at once. */
cst_status cst_batch_create(cst_batch **out, cst_mem *m, int64_t rows, int64_t seq, int ahead);
void cst_batch_free(cst_batch *b);
/* Fill it: ids[rows * seq]; length[rows] tokens of each row count, the rest is padding (NULL: all). Targets
 * are the next token of the same row. INPUT when an id is outside [0, vocab). Operators on
 * the batch before may still be running; it returns at once unless `ahead` batches are on their way. */
cst_status cst_batch_set(cst_batch *b, const int32_t *ids, const int32_t *length, int64_t vocab);
/* The same, but only tokens with counts[rows * seq] not 0 are targets; NULL: all. */
cst_status cst_batch_set_counted(cst_batch *b, const int32_t *ids, const int32_t *length, const unsigned char *counts, int64_t vocab);

/* loss[rows * seq] gets the loss at every position (0 where there is no target). Forward only. This and all that follow:
 * STATE while M->behind, unless a pass's `before` brings the weights up to date. */
cst_status cst_model_evaluate(cst_model *M, const cst_batch *b, cst_tensor *loss);
/* The same, and gradients go to M->g as p->accumulate says. */
cst_status cst_model_train(cst_model *M, const cst_batch *b, const cst_pass *p, cst_tensor *loss);
/* Logits [rows * seq, vocab] of a batch, for fixtures. */
cst_status cst_model_logits(cst_model *M, const cst_batch *b, cst_tensor *logits);

/* Room for the keys and values of `room` (>= 1) tokens: 8 room layers hidden_size bytes on the device. To begin another
 * sequence set count to 0. */
cst_status cst_kv_create(cst_kv **out, const cst_model *M, int64_t room);
void cst_kv_free(cst_kv *kv);
/* Logits [1, vocab] of the token that follows row `at` of b, which has one sequence. kv: NULL, or where the keys and
 * values of b's tokens are kept, behind those that are there; unless it is empty, b has one token. USAGE when it has no
 * room for them, or the model no positions. */
cst_status cst_model_next(cst_model *M, const cst_batch *b, int64_t at, cst_kv *kv, cst_tensor *logits);

/* FLOPs of matrix products and causal attention of one token, forward + backward, at this length. */
double cst_model_flops_per_token(const cst_config *c, int64_t seq);

#endif
