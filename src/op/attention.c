#include "op/attention.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "device/quirks.h"
#include "memory/launch.h"

#define MAX_HD 128
#define OWN 128 /* as in cl/attention_cpu.clh */

/* One call's sizes, and how its kernels are built and launched. */
typedef struct shape {
    int64_t batch, seq, heads, hd;
    int tx, ty, own;        /* work-items across and down, rows of a group: see cl/attention.cl */
    char options[96];
    size_t global[3], group[3];
} shape;

/* A work-item alone in its group takes more rows, while all compute units have enough to do: it copies the other
 * side's rows fewer times. The results are the same. */
static int rows_owned(const cst_device *dev, int64_t batch, int64_t seq, int64_t heads)
{
    int own = OWN;
    while (own > 64 && /* a block of the other side */ (seq + own - 1) / own * heads * batch < 4 * (int64_t)dev->info.units) own /= 2;
    return own;
}

static void groups_set(shape *s)
{
    s->global[0] = ((size_t)s->seq + (size_t)s->own - 1) / (size_t)s->own * s->group[0];
    s->global[1] = (size_t)s->heads;
    s->global[2] = (size_t)s->batch;
}

static void build_options(shape *s, const cst_device *dev, int group)
{
    char groups[32] = "";
    if (s->tx > 1) snprintf(groups, sizeof groups, " -DTILE=%d -DSUB_GROUP=%d", s->own, (int)dev->info.sub_group);
    snprintf(s->options, sizeof s->options, "-DHD=%d -DTX=%d -DTY=%d%s%s", (int)s->hd, s->tx, s->ty, groups,
             group > 1 && dev->info.quirks & CST_QUIRK_SLOW_GROUPS ? " -cl-opt-disable" : "");
}

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
    *s = (shape){.batch = batch, .seq = seq, .heads = heads, .hd = q->dim[1] / heads, .tx = 1, .ty = 1};
    if (s->hd > MAX_HD)
        return cst_fail(CST_UNSUPPORTED, "%s: head size %" PRId64 "; up to %d is what this operator takes", op, s->hd,
                        MAX_HD);
    s->own = rows_owned(dev, batch, seq, heads);
    int group = cst_device_shape(dev, "attention").group;
    if (group > 1) { /* so that an item's results stay in its registers, and what it loads: single floats take more */
        int few = dev->registers < 255, tx = s->hd <= (s->hd % 4 ? few ? 32 : 56 : 64) ? 8 : 16, ty = 16;
        if ((size_t)(tx * ty) <= dev->info.max_group) s->tx = tx, s->ty = ty, s->own = few ? 32 : 64;
    }
    build_options(s, dev, group);
    s->group[0] = (size_t)(s->tx * s->ty);
    s->group[1] = s->group[2] = 1;
    groups_set(s);
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
    cst_launch_int(l, "own", s->own);
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
    cst_mem_work(m, 2.0 * (double)cst_tensor_count(q) * (double)seq); /* two products, half of the square */
    return run(&l, &s, q, k, v);
}

static cst_status delta_get(cst_mem *m, const shape *s, cst_tensor *delta, const cst_tensor *d_o, const cst_tensor *o)
{
    cst_launch l;
    size_t n = (size_t)cst_tensor_count(delta), group = cst_group(m, "attention");
    cst_launch_begin(&l, m, "attention", "attention_delta", s->options);
    cst_launch_write(&l, "delta", delta, 0);
    cst_launch_read(&l, "d_o", d_o, 0);
    cst_launch_read(&l, "o", o, 0);
    cst_launch_ulong(&l, "n", n);
    /* On a CPU the runtime chooses the group: a short work-item a group would cost more than it does. */
    return cst_launch_run(&l, 1, (size_t[]){cst_round_up(n, group)}, group > 1 ? &group : NULL);
}

typedef struct inputs {
    const cst_tensor *d_o, *lse, *delta, *q, *k, *v;
} inputs;

/* dq unless NULL, dk and dv unless NULL; all at once with TX = 1 only. */
static cst_status gradients(cst_mem *m, const shape *s, cst_tensor *dq, cst_tensor *dk, cst_tensor *dv,
                            const inputs *in)
{
    cst_launch l;
    int one = s->tx == 1; /* one kernel for all */
    cst_launch_begin(&l, m, "attention", one ? "attention_backward" : dq ? "attention_dq" : "attention_dkv", s->options);
    if (dq || one) cst_launch_write(&l, "dq", dq, 0);
    if (dk || one) cst_launch_write(&l, "dk", dk, 0);
    if (dv || one) cst_launch_write(&l, "dv", dv, 0);
    if (one) cst_launch_int(&l, "parts", (dq ? 1 : 0) + (dk ? 2 : 0));
    cst_launch_read(&l, "d_o", in->d_o, 0);
    cst_launch_read(&l, "lse", in->lse, 0);
    cst_launch_read(&l, "delta", in->delta, 0);
    cst_mem_work(m, (one && dq && dk ? 5.0 : dq ? 3.0 : 4.0) * (double)cst_tensor_count(in->q) * (double)s->seq);
    return run(&l, s, in->q, in->k, in->v);
}

/* Is a head too large a piece of work? Whole heads take 5 products, but the last ones may leave compute units idle;
 * two launches of smaller pieces take 7. Both give the same bits. */
static int whole_heads(const shape *s, const cst_device *dev)
{
    int64_t heads = s->batch * s->heads, units = (int64_t)dev->info.units;
    return s->tx == 1 && 5 * ((heads + units - 1) / units) * units <= 7 * heads;
}

cst_status cst_attention_backward(cst_mem *m, cst_tensor *dq, cst_tensor *dk, cst_tensor *dv, const cst_tensor *d_o,
                                  const cst_tensor *o, const cst_tensor *lse, const cst_tensor *q, const cst_tensor *k,
                                  const cst_tensor *v, int64_t batch, int64_t seq, int64_t heads)
{
    shape s;
    cst_tensor *delta = NULL;
    cst_status st;
    CST_TRY(shape_get(&s, "attention_backward", m, q, batch, seq, heads));
    CST_TRY(expect_like_q("attention_backward", &s, (const cst_tensor *[]){dq, dk, dv, d_o, o, k, v}, 7, lse));
    CST_TRY(cst_tensor_create(&delta, m, CST_SCRATCH, CST_F32, 2, lse->dim, "attention delta"));
    const inputs in = {d_o, lse, delta, q, k, v};
    CST_GO(delta_get(m, &s, delta, d_o, o), out);
    if (whole_heads(&s, cst_mem_device(m))) {
        s.own = OWN;
        s.global[0] = 1;
        CST_GO(gradients(m, &s, dq, dk, dv, &in), out);
    } else {
        CST_GO(gradients(m, &s, dq, NULL, NULL, &in), out);
        CST_GO(gradients(m, &s, NULL, dk, dv, &in), out);
    }
out:
    cst_tensor_free(delta);
    return st;
}
