#include "op/embed.h"

#include <inttypes.h>
#include <string.h>

#include "memory/launch.h"

static cst_status check_positions(const char *op, const cst_tensor *pos, int64_t n, int64_t d, int64_t seq,
                                  int64_t offset)
{
    CST_TRY(cst_expect(op, pos, CST_F32, 2, 0, d));
    if (seq < 1 || n % seq)
        return cst_fail(CST_USAGE, "%s: %" PRId64 " rows are no sequences of %" PRId64, op, n, seq);
    if (offset < 0 || seq > pos->dim[0] || offset > pos->dim[0] - seq)
        return cst_fail(CST_USAGE,
                        "%s: sequences of %" PRId64 " from position %" PRId64 " need more than the %" PRId64 " of %s",
                        op, seq, offset, pos->dim[0], pos->name);
    return CST_OK;
}

static void shape_arguments(cst_launch *l, int64_t n, int64_t d)
{
    cst_launch_ulong(l, "n", (uint64_t)n);
    cst_launch_int(l, "d", d);
}

static void position_arguments(cst_launch *l, int64_t seq, int64_t offset)
{
    cst_launch_ulong(l, "seq", (uint64_t)seq);
    cst_launch_ulong(l, "offset", (uint64_t)offset);
}

/* One group for each of `rows`. */
static cst_status run_rows(cst_launch *l, int64_t rows)
{
    size_t group = cst_group(l->m, "embed"), items = (size_t)rows * group;
    return cst_launch_run(l, 1, &items, &group);
}

cst_status cst_embed_forward(cst_mem *m, cst_tensor *out, const cst_tensor *table, const cst_tensor *ids,
                             const cst_tensor *pos, int64_t seq, int64_t offset)
{
    static const char op[] = "embed_forward";
    cst_launch l;
    int64_t n = out->dim[0], d = out->dim[1];
    CST_TRY(cst_expect(op, out, CST_F32, 2, 0, 0));
    CST_TRY(cst_expect(op, table, CST_F32, 2, 0, d));
    CST_TRY(cst_expect(op, ids, CST_I32, 1, n, 0));
    if (pos) CST_TRY(check_positions(op, pos, n, d, seq, offset));
    if (out == table || out == pos) return cst_fail(CST_USAGE, "%s: out can't be %s as well", op, out->name);
    cst_launch_begin(&l, m, "embed", "embed_forward", NULL);
    cst_launch_read(&l, "table", table, 0);
    cst_launch_read(&l, "ids", ids, 0);
    cst_launch_read(&l, "pos", pos, 0);
    cst_launch_write(&l, "out", out, 0);
    shape_arguments(&l, n, d);
    cst_launch_int(&l, "vocab", table->dim[0]);
    position_arguments(&l, pos ? seq : 1, pos ? offset : 0);
    cst_launch_int(&l, "has_pos", pos != NULL);
    return run_rows(&l, n);
}

cst_status cst_embed_add_positions(cst_mem *m, cst_tensor *x, const cst_tensor *pos, int64_t seq, int64_t offset)
{
    static const char op[] = "embed_add_positions";
    cst_launch l;
    int64_t n = x->dim[0], d = x->dim[1];
    CST_TRY(cst_expect(op, x, CST_F32, 2, 0, 0));
    CST_TRY(check_positions(op, pos, n, d, seq, offset));
    if (x == pos) return cst_fail(CST_USAGE, "%s: x can't be %s as well", op, x->name);
    cst_launch_begin(&l, m, "embed", "embed_add_positions", NULL);
    cst_launch_read(&l, "pos", pos, 0);
    cst_launch_update(&l, "x", x, 0);
    shape_arguments(&l, n, d);
    position_arguments(&l, seq, offset);
    return run_rows(&l, n);
}

/* Stable radix sort of the positions by id, a byte at a time. */
static void sort_by_id(int32_t *order, int32_t *spare, const int32_t *ids, int64_t n)
{
    int32_t *from = order, *to = spare;
    for (int64_t i = 0; i < n; i++) order[i] = (int32_t)i;
    for (int shift = 0; shift < 32; shift += 8) {
        int64_t at[256] = {0}, sum = 0;
        for (int64_t i = 0; i < n; i++) at[(uint32_t)ids[i] >> shift & 255]++;
        if (n && at[(uint32_t)ids[0] >> shift & 255] == n) continue; /* all alike: the usual case of the high bytes */
        for (int b = 0; b < 256; b++) {
            int64_t count = at[b];
            at[b] = sum;
            sum += count;
        }
        for (int64_t i = 0; i < n; i++) to[at[(uint32_t)ids[from[i]] >> shift & 255]++] = from[i];
        int32_t *t = from;
        from = to;
        to = t;
    }
    if (from != order) memcpy(order, from, (size_t)n * sizeof *order);
}

int64_t cst_embed_index(int32_t *index, const int32_t *ids, int64_t n)
{
    int32_t *order = index, *uid = index + n, *start = index + 2 * n;
    int64_t unique = 0;
    sort_by_id(order, uid, ids, n);
    for (int64_t i = 0; i < n; i++)
        if (!i || ids[order[i]] != ids[order[i - 1]]) {
            uid[unique] = ids[order[i]];
            start[unique++] = (int32_t)i;
        }
    for (int64_t u = unique; u < n; u++) uid[u] = 0;
    for (int64_t u = unique; u <= n; u++) start[u] = (int32_t)n;
    return unique;
}

cst_status cst_embed_backward(cst_mem *m, cst_tensor *dtable, const cst_tensor *dout, const cst_tensor *index,
                              int64_t unique)
{
    static const char op[] = "embed_backward";
    cst_launch l;
    int64_t n = dout->dim[0], d = dout->dim[1];
    CST_TRY(cst_expect(op, dout, CST_F32, 2, 0, 0));
    CST_TRY(cst_expect(op, dtable, CST_F32, 2, 0, d));
    CST_TRY(cst_expect(op, index, CST_I32, 1, 3 * n + 1, 0));
    if (unique < 0 || unique > n)
        return cst_fail(CST_USAGE, "%s: %" PRId64 " distinct ids among %" PRId64 " rows", op, unique, n);
    if (dtable == dout) return cst_fail(CST_USAGE, "%s: dtable can't be %s as well", op, dout->name);
    cst_launch_begin(&l, m, "embed", "embed_backward", NULL);
    cst_launch_read(&l, "dout", dout, 0);
    cst_launch_read(&l, "index", index, 0);
    cst_launch_update(&l, "dtable", dtable, 0);
    shape_arguments(&l, n, d);
    cst_launch_int(&l, "vocab", dtable->dim[0]);
    cst_launch_ulong(&l, "unique", (uint64_t)unique);
    return run_rows(&l, unique);
}

cst_status cst_embed_backward_positions(cst_mem *m, cst_tensor *dpos, const cst_tensor *dx, int64_t seq, int64_t offset,
                                        int accumulate)
{
    static const char op[] = "embed_backward_positions";
    cst_launch l;
    int64_t n = dx->dim[0], d = dx->dim[1];
    CST_TRY(cst_expect(op, dx, CST_F32, 2, 0, 0));
    CST_TRY(check_positions(op, dpos, n, d, seq, offset));
    if (dpos == dx) return cst_fail(CST_USAGE, "%s: dpos can't be %s as well", op, dx->name);
    cst_launch_begin(&l, m, "embed", "embed_backward_positions", NULL);
    cst_launch_read(&l, "dx", dx, 0);
    if (accumulate) cst_launch_update(&l, "dpos", dpos, 0);
    else cst_launch_write(&l, "dpos", dpos, 0);
    shape_arguments(&l, n, d);
    position_arguments(&l, seq, offset);
    cst_launch_int(&l, "accumulate", accumulate != 0);
    return run_rows(&l, accumulate ? seq : dpos->dim[0]);
}
