#include "op/attention.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "memory/launch.h"

#define MAX_HD 128

/* One call's sizes, and how its kernels are built and launched. */
typedef struct shape {
    int64_t batch, seq, heads, hd;
    int tx, ty, tile;       /* work-items across and down, rows of a tile: see cl/attention.cl */
    char options[64];
    size_t global[3], group[3];
} shape;

static cst_status shape_get(shape *s, const char *op, const cst_mem *m, const cst_tensor *q, int64_t batch, int64_t seq,
                            int64_t heads)
{
    const cst_device *dev = cst_mem_device(m);
    if (batch < 1 || seq < 1 || heads < 1 || seq > INT32_MAX / 2 || batch > INT64_MAX / seq)
        return cst_fail(CST_USAGE, "%s: %" PRId64 " sequences of %" PRId64 " tokens with %" PRId64 " heads", op, batch,
                        seq, heads);
    CST_TRY(cst_expect(op, q, CST_F32, 2, batch * seq, 0));
    if (q->dim[1] % heads)
        return cst_fail(CST_USAGE, "%s: %" PRId64 " heads don't divide the %" PRId64 " columns of %s", op, heads,
                        q->dim[1], q->name);
    *s = (shape){.batch = batch, .seq = seq, .heads = heads, .hd = q->dim[1] / heads, .tx = 1, .ty = 1, .tile = 32};
    if (s->hd > MAX_HD)
        return cst_fail(CST_UNSUPPORTED, "%s: head size %" PRId64 "; up to %d is what this operator takes", op, s->hd,
                        MAX_HD);
    if (dev->group > 1) {
        int tx = s->hd <= 64 ? 8 : 16, ty = 16; /* so that an item's results stay in its registers */
        if ((size_t)(tx * ty) <= dev->info.max_group) s->tx = tx, s->ty = ty, s->tile = 64;
    }
    /* Work-groups on a CPU serve the tests; optimising that code costs PoCL 20 seconds a head size. */
    snprintf(s->options, sizeof s->options, "-DHD=%d -DTX=%d -DTY=%d%s", (int)s->hd, s->tx, s->ty,
             dev->is_cpu && dev->group > 1 ? " -cl-opt-disable" : "");
    s->group[0] = (size_t)(s->tx * s->ty);
    s->group[1] = s->group[2] = 1;
    s->global[0] = ((size_t)seq + (size_t)s->tile - 1) / (size_t)s->tile * s->group[0];
    s->global[1] = (size_t)heads;
    s->global[2] = (size_t)batch;
    return CST_OK;
}

static cst_status expect_like_q(const char *op, const shape *s, const cst_tensor *const *t, int n,
                                const cst_tensor *lse)
{
    for (int i = 0; i < n; i++) CST_TRY(cst_expect(op, t[i], CST_F32, 2, s->batch * s->seq, s->heads * s->hd));
    return cst_expect(op, lse, CST_F32, 2, s->batch * s->seq, s->heads);
}

/* The arguments that all tile kernels end with. */
static cst_status run(cst_launch *l, const shape *s, const cst_tensor *q, const cst_tensor *k, const cst_tensor *v)
{
    cst_launch_read(l, "q", q, 0);
    cst_launch_read(l, "k", k, 0);
    cst_launch_read(l, "v", v, 0);
    cst_launch_int(l, "seq", s->seq);
    cst_launch_int(l, "heads", s->heads);
    cst_launch_float(l, "scale", (float)(1 / sqrt((double)s->hd)));
    return cst_launch_run(l, 3, s->global, s->group);
}

cst_status cst_attention_forward(cst_mem *m, cst_tensor *o, cst_tensor *lse, const cst_tensor *q, const cst_tensor *k,
                                 const cst_tensor *v, int64_t batch, int64_t seq, int64_t heads)
{
    shape s;
    cst_launch l;
    CST_TRY(shape_get(&s, "attention_forward", m, q, batch, seq, heads));
    CST_TRY(expect_like_q("attention_forward", &s, (const cst_tensor *[]){o, k, v}, 3, lse));
    cst_launch_begin(&l, m, "attention", "attention_forward", s.options);
    cst_launch_write(&l, "o", o, 0);
    cst_launch_write(&l, "lse", lse, 0);
    return run(&l, &s, q, k, v);
}

static cst_status delta_get(cst_mem *m, const shape *s, cst_tensor *delta, const cst_tensor *d_o, const cst_tensor *o)
{
    cst_launch l;
    size_t n = (size_t)cst_tensor_count(delta), group = (size_t)cst_mem_device(m)->group;
    cst_launch_begin(&l, m, "attention", "attention_delta", s->options);
    cst_launch_write(&l, "delta", delta, 0);
    cst_launch_read(&l, "d_o", d_o, 0);
    cst_launch_read(&l, "o", o, 0);
    cst_launch_ulong(&l, "n", n);
    /* On a CPU the runtime chooses the group: a short work-item a group would cost more than it does. */
    return cst_launch_run(&l, 1, (size_t[]){cst_round_up(n, group)}, group > 1 ? &group : NULL);
}

cst_status cst_attention_backward(cst_mem *m, cst_tensor *dq, cst_tensor *dk, cst_tensor *dv, const cst_tensor *d_o,
                                  const cst_tensor *o, const cst_tensor *lse, const cst_tensor *q, const cst_tensor *k,
                                  const cst_tensor *v, int64_t batch, int64_t seq, int64_t heads)
{
    shape s;
    cst_launch l;
    cst_tensor *delta = NULL;
    cst_status st;
    CST_TRY(shape_get(&s, "attention_backward", m, q, batch, seq, heads));
    CST_TRY(expect_like_q("attention_backward", &s, (const cst_tensor *[]){dq, dk, dv, d_o, o, k, v}, 7, lse));
    CST_TRY(cst_tensor_create(&delta, m, CST_SCRATCH, CST_F32, 2, lse->dim, "attention delta"));
    CST_GO(delta_get(m, &s, delta, d_o, o), out);
    cst_launch_begin(&l, m, "attention", "attention_dq", s.options);
    cst_launch_write(&l, "dq", dq, 0);
    cst_launch_read(&l, "d_o", d_o, 0);
    cst_launch_read(&l, "lse", lse, 0);
    cst_launch_read(&l, "delta", delta, 0);
    CST_GO(run(&l, &s, q, k, v), out);
    cst_launch_begin(&l, m, "attention", "attention_dkv", s.options);
    cst_launch_write(&l, "dk", dk, 0);
    cst_launch_write(&l, "dv", dv, 0);
    cst_launch_read(&l, "d_o", d_o, 0);
    cst_launch_read(&l, "lse", lse, 0);
    cst_launch_read(&l, "delta", delta, 0);
    CST_GO(run(&l, &s, q, k, v), out);
out:
    cst_tensor_free(delta);
    return st;
}
