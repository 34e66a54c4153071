/* The manager that migrates tensors, without models: toy programs (migration_testing.h) in budgets from everything fits to the
 * smallest, against the same program on the host, to the bit.
 */
#include "migration_testing.h"

#include "base/file.h"
#include "memory/internal.h"
#include "memory/plan.h"

/* Nothing but unchanged iterations since the last change of plan or contents. */
static int steady;

/* What may happen between iterations: reads and writes of parts, other operators, a tensor made anew. */
static void interlude(toy *y)
{
    for (int what = (int)toy_random(y, 4); what > 0; what--) {
        int i = (int)toy_random(y, (uint32_t)y->persistent), j = (int)toy_random(y, (uint32_t)y->persistent);
        int64_t first = toy_random(y, (uint32_t)y->count[i]), n = 1 + toy_random(y, (uint32_t)(y->count[i] - first));
        toy_op o = {TOY_KEEP, i, j, j, toy_random(y, 1u << 20)};
        if (!y->valid[i]) continue;
        switch (toy_random(y, 8)) {
        case 0: case 1: case 2:
            toy_compare_part(y, i, first, n);
            break;
        case 3: case 4:
            for (int64_t k = first; k < first + n; k++) y->host[i][k] += 12345;
            ck_ok(cst_tensor_write(y->t[i], (size_t)first * 4, y->host[i] + first, (size_t)n * 4));
            steady = 0;
            break;
        case 5: case 6:
            if (i == j || !y->valid[j]) break;
            ck_ok(toy_on_device(y, &o, "outside"));
            toy_on_host(y, &o);
            steady = 0;
            break;
        default:
            if (y->fixed[i] || toy_random(y, 3)) break;
            cst_tensor_free(y->t[i]);
            y->t[i] = NULL;
            ck_ok(toy_create(y, i));
            ck_ok(cst_tensor_write(y->t[i], 0, y->host[i], (size_t)y->count[i] * 4));
            steady = 0;
        }
    }
}

/* A shorter iteration may end where the plan has dropped what would have been overwritten next: it is written anew. */
static void write_again(toy *y)
{
    for (int k = 0; k < y->ops; k++) {
        const toy_op *o = &y->op[k];
        int i = o->kind == TOY_NEST ? o->b : o->dst;
        if (o->kind != TOY_KEEP && i < y->persistent && y->valid[i])
            ck_ok(cst_tensor_write(y->t[i], 0, y->host[i], (size_t)y->count[i] * 4));
    }
}

/* Shorter, or with another operator. */
static void other_iteration(toy *y)
{
    ck_ok(cst_mem_step(y->m));
    int planned = cst_mem_plan(y->m) != NULL, half = (int)toy_random(y, 2);
    uint64_t strays = toy_stats(y).strays;
    int k = (int)toy_random(y, (uint32_t)y->ops);
    if (cst_mem_migrating(y->m) && !planned) toy_iterate(y, y->ops, -1); /* it is being recorded */
    else toy_iterate(y, half ? k : y->ops, half || y->op[k].kind == TOY_FILL ? -1 : k);
    ck_ok(cst_mem_step_end(y->m));
    toy_between(y);
    if (half && planned) write_again(y);
    int other = planned && (half || y->op[k].kind != TOY_FILL);
    ck_assert_msg(toy_stats(y).strays == strays + (uint64_t)other, "seed %llu: %d strays, wanted %d", (unsigned long long)y->seed,
                  (int)(toy_stats(y).strays - strays), other);
    steady = 0;
}

static void same_iteration(toy *y)
{
    cst_mem_stats before = toy_stats(y), after;
    const cst_plan *plan = cst_mem_plan(y->m);
    int planned = plan != NULL;
    toy_iteration(y);
    after = toy_stats(y);
    if (cst_mem_plan(y->m) != plan) steady = 0; /* made anew, with measured times: what it wants changed may not be so yet */
    ck_assert_msg(after.strays == before.strays, "seed %llu: strayed", (unsigned long long)y->seed);
    steady++;
    if (planned && steady > 2) {
        const cst_plan *p = cst_mem_plan(y->m);
        ck_assert_uint_eq(after.evictions, before.evictions);
        uint64_t moves = after.moves - before.moves, said = after.planned_moves - before.planned_moves, planned_moves = p->up_count + p->down_count;
        ck_assert_msg(moves == said && moves == planned_moves, "seed %llu: %d moves, %d planned, %d in the plan", (unsigned long long)y->seed,
                      (int)moves, (int)said, (int)planned_moves);
        uint64_t up = after.h2d_bytes - before.h2d_bytes, down = after.d2h_bytes - before.d2h_bytes, round = toy_round(y);
        ck_assert(up <= p->up_bytes && up + p->up_count * round >= p->up_bytes); /* plans count in whole blocks */
        ck_assert(down <= p->down_bytes && down + p->down_count * round >= p->down_bytes);
    }
}

/* iterations with all kinds of things between them. wild 0: none. */
static void run(toy *y, uint64_t budget, int recorded_before, int iterations, int wild)
{
    toy_open(y, budget);
    if (recorded_before) {
        toy_plan(y);
        ck_ok(cst_mem_plan_commit(y->m));
    } else cst_mem_migrate(y->m, 0, UINT64_MAX);
    toy_start(y);
    toy_compare(y);
    steady = 0;
    for (int k = 0; k < iterations; k++) {
        if (wild && toy_random(y, 4) == 0) other_iteration(y);
        else same_iteration(y);
        ck_ok(cst_mem_check(y->m));
        if (wild && toy_random(y, 2) == 0) interlude(y);
        if (toy_random(y, 3) == 0) toy_compare(y);
    }
    toy_compare(y);
    toy_close(y);
}

static void make_random(toy *y, uint64_t seed)
{
    int large = seed % 16 == 5, small = seed % 3 == 0;
    toy z = {.seed = seed};
    int persistent = 4 + (int)toy_random(&z, large ? 5 : 12), transient = (int)toy_random(&z, 6);
    int ops = 8 + (int)toy_random(&z, large ? 12 : 32), low = large ? 1 << 18 : small ? 1 : 5000, high = large ? 1 << 19 : small ? 3000 : 20000;
    toy_make(y, seed, persistent, transient, ops, low, high, seed % 4 != 0);
    if (seed % 5 == 1) y->guard = 256;
    if (seed % 4 == 2) y->fixed[seed % (uint64_t)persistent] = 1;
}

#define PROGRAMS 210

START_TEST(random_programs_in_random_budgets)
{
    const char *only = getenv("CASTOR_SEED"); /* one program alone, to look into */
    for (uint64_t seed = 1 + (uint64_t)_i; seed <= PROGRAMS; seed += 10) {
        if (only && seed != strtoull(only, NULL, 10)) continue;
        toy y;
        uint64_t all, least;
        make_random(&y, seed);
        toy_needs(&y, &all, &least);
        ck_assert(least <= all);
        uint64_t some = least + (all - least) * toy_random(&y, 100) / 100;
        run(&y, some, 1, 12, 1);
        run(&y, least, 1, 8, 1);
        if (seed % 2) run(&y, seed % 4 == 1 ? all : least + (all - least) / 2, 1, 8, 0);
        else run(&y, seed % 4 ? 2 * all : (all + least) / 2, 0, 10, 1); /* recording finds places for nested operators only by luck */
        toy_free(&y);
    }
}
END_TEST

/* Dozens of small tensors beside large ones move in chunks; parts are read, written, freed and made anew as any tensor. */
START_TEST(small_tensors_move_in_chunks)
{
    toy y;
    uint64_t all, least;
    toy_make(&y, 1000 + (uint64_t)_i, 60, 4, 120, 1 << 18, 1 << 18, 1);
    for (int i = 8; i < 60; i++) y.count[i] = 16 + i;
    y.guard = _i % 2 ? 256 : 0;
    toy_needs(&y, &all, &least);
    toy_open(&y, least);
    toy_plan(&y);
    ck_ok(cst_mem_plan_commit(y.m));
    int parts = 0;
    for (int i = 8; i < 60; i++) parts += y.t[i]->chunk != NULL;
    ck_assert_int_gt(parts, 20);
    ck_assert_ptr_null(y.t[0]->chunk);
    toy_close(&y);
    run(&y, least, 1, 10, _i > 1);
    run(&y, (least + all) / 2, 1, 10, _i > 1);
    toy_free(&y);
}
END_TEST

/* More than --host-mem allows: refused, and what was there is still there. */
START_TEST(host_memory_has_a_limit)
{
    cst_mem *m;
    cst_tensor *t[6];
    int64_t n = (int64_t)(MIB / 4);
    float *value = malloc(MIB), *got = malloc(MIB);
    ck_ok(cst_mem_create(&m, dev, 2 * MIB));
    cst_mem_migrate(m, 3 * MIB, UINT64_MAX);
    for (int i = 0; i < 6; i++) {
        ck_ok(cst_tensor_create(&t[i], m, CST_PARAM, CST_F32, 1, &n, "t%d", i));
        for (int64_t k = 0; k < n; k++) value[k] = (float)(i * 1000000 + k);
        if (i < 5) ck_ok(i < 3 ? cst_tensor_write(t[i], 0, value, MIB) : cst_fill(m, t[i], (float)i));
    }
    ck_fails(cst_tensor_write(t[5], 0, value, MIB), CST_OVER_BUDGET, "--host-mem");
    ck_fails(cst_fill(m, t[5], 1), CST_OVER_BUDGET, "--host-mem");
    ck_assert(t[5]->state == CST_TENSOR_EMPTY);
    ck_ok(cst_mem_check(m));
    for (int i = 0; i < 5; i++) {
        ck_ok(cst_tensor_read(t[i], 0, got, MIB));
        for (int64_t k = 0; k < n; k++)
            if (got[k] != (i < 3 ? (float)(i * 1000000 + k) : (float)i)) ck_abort_msg("t%d[%d] = %g", i, (int)k, got[k]);
    }
    cst_tensor_drop(t[1]); /* then there is room */
    ck_ok(cst_fill(m, t[5], 7));
    ck_ok(cst_tensor_read(t[5], 0, got, MIB));
    ck_assert(got[0] == 7 && got[n - 1] == 7);
    ck_ok(cst_tensor_read(t[2], 0, got, MIB));
    ck_assert(got[5] == 2000005);
    ck_ok(cst_mem_check(m));
    for (int i = 0; i < 6; i++) cst_tensor_free(t[i]);
    ck_ok(cst_mem_free(m));
    free(value), free(got);
}
END_TEST

static void use(cst_tensor *t)
{
    cst_use u = {t, CST_READ, NULL, 0};
    ck_ok(cst_mem_acquire(t->mem, "use", &u, 1, NULL, NULL));
    cst_mem_release(t->mem, &u, 1);
}

static void all_are(cst_tensor *t, const float *value)
{
    float *got = malloc(MIB);
    ck_ok(cst_tensor_read(t, 0, got, MIB));
    ck_assert(!memcmp(got, value, MIB));
    free(got);
}

/* Brought to the device while the host is to make it anew: nothing is sent. */
static void put_off(cst_tensor *a, cst_tensor *b, cst_tensor *c)
{
    cst_mem_stats before, after;
    int placed;
    use(b), use(c); /* a leaves */
    ck_assert(a->state == CST_TENSOR_HOST);
    cst_tensor_host_renews(a, 1);
    if (b->state == CST_TENSOR_BOTH) ck_ok(cst_block_evict(b, &placed)); /* its place */
    cst_mem_get_stats(a->mem, &before);
    ck_ok(cst_block_upload(a, -1, 0, &placed));
    cst_mem_get_stats(a->mem, &after);
    ck_assert(placed && a->state == CST_TENSOR_BOTH && a->put_off);
    ck_assert_uint_eq(after.h2d_bytes, before.h2d_bytes);
}

/* An upload that is put off is done by who makes the content anew, or by who uses it before. */
START_TEST(uploads_of_what_the_host_renews)
{
    cst_mem *m;
    cst_tensor *t[3];
    cst_mem_stats before, after;
    int64_t n = (int64_t)(MIB / 4);
    float *value = malloc(MIB);
    void *room;
    int moved;
    ck_ok(cst_mem_create(&m, dev, 2 * MIB));
    cst_mem_migrate(m, 0, UINT64_MAX);
    for (int64_t k = 0; k < n; k++) value[k] = (float)k;
    for (int i = 0; i < 3; i++) {
        ck_ok(cst_tensor_create(&t[i], m, CST_PARAM, CST_F32, 1, &n, "t%d", i));
        ck_ok(cst_tensor_write(t[i], 0, value, MIB));
    }
    /* The host makes it anew: sent once. */
    put_off(t[0], t[1], t[2]);
    ck_ok(cst_tensor_host_room(t[0], &room));
    ck_assert_ptr_nonnull(room);
    for (int64_t k = 0; k < n; k++) value[k] = (float)(k + 7);
    memcpy(room, value, MIB);
    cst_mem_get_stats(m, &before);
    ck_ok(cst_tensor_host_renewed(t[0]));
    cst_mem_get_stats(m, &after);
    ck_assert_uint_eq(after.h2d_bytes, before.h2d_bytes + MIB);
    ck_assert(!t[0]->put_off);
    all_are(t[0], value);
    /* An operator uses it before, or a transfer. */
    put_off(t[0], t[1], t[2]);
    use(t[0]);
    ck_assert(!t[0]->put_off);
    all_are(t[0], value);
    put_off(t[0], t[1], t[2]);
    all_are(t[0], value);
    put_off(t[0], t[1], t[2]);
    ck_ok(cst_tensor_write(t[0], 400, &(float){-1}, 4));
    value[100] = -1;
    all_are(t[0], value);
    /* It leaves before. */
    put_off(t[0], t[1], t[2]);
    ck_ok(cst_block_evict(t[0], &moved));
    ck_assert(!moved && !t[0]->put_off);
    all_are(t[0], value);
    /* And the host doesn't after all. */
    cst_tensor_host_renews(t[0], 0);
    use(t[1]), use(t[2]);
    cst_mem_get_stats(m, &before);
    use(t[0]);
    cst_mem_get_stats(m, &after);
    ck_assert_uint_eq(after.h2d_bytes, before.h2d_bytes + MIB);
    all_are(t[0], value);
    ck_ok(cst_mem_check(m));
    for (int i = 0; i < 3; i++) cst_tensor_free(t[i]);
    ck_ok(cst_mem_free(m));
    free(value);
}
END_TEST

/* The table of docs/memory.md is the library's. */
START_TEST(the_documented_transitions_are_the_legal_ones)
{
    const char *src = getenv("srcdir");
    char path[1024], line[1024];
    int rows = 0;
    snprintf(path, sizeof path, "%s/docs/memory.md", src ? src : ".");
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s", path);
    while (fgets(line, sizeof line, f)) {
        for (int from = 0; from < 4; from++) {
            char head[32];
            snprintf(head, sizeof head, "| **%s** |", cst_tensor_state_name((cst_tensor_state)from));
            if (strncmp(line, head, strlen(head))) continue;
            rows++;
            char *cell = line + strlen(head);
            for (int to = 0; to < 4; to++, cell = strchr(cell, '|') + 1) {
                ck_assert_ptr_nonnull(strchr(cell, '|'));
                int never = !strncmp(cell, " never ", 7);
                ck_assert_msg(cst_tensor_may_become((cst_tensor_state)from, (cst_tensor_state)to) == !never, "%s to %s", head,
                              cst_tensor_state_name((cst_tensor_state)to));
            }
        }
    }
    fclose(f);
    ck_assert_int_eq(rows, 4);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("migration");
    TCase *tc = tcase_create("migration");
    tcase_set_timeout(tc, 0);
    tcase_add_unchecked_fixture(tc, toy_build, toy_unbuild);
    tcase_add_loop_test(tc, random_programs_in_random_budgets, 0, 10);
    tcase_add_loop_test(tc, small_tensors_move_in_chunks, 0, 4);
    tcase_add_test(tc, host_memory_has_a_limit);
    tcase_add_test(tc, uploads_of_what_the_host_renews);
    tcase_add_test(tc, the_documented_transitions_are_the_legal_ones);
    suite_add_tcase(s, tc);
    return op_main(s);
}
