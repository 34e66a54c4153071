#include "testing.h"

#include "base/random.h"
#include "memory/arena.h"

#define UNIT 256
#define SLABS 8
#define UNITS 64 /* of a slab, at most */

/* The model: who owns each unit of each slab; 0 is nobody. */
typedef struct model {
    int owner[SLABS][UNITS], units[SLABS], slabs;
} model;

/* Lowest run of `need` free units in the first slab that has one. */
static int find(const model *m, int need, int *slab, int *at)
{
    for (int s = 0; s < m->slabs; s++)
        for (int i = 0; i + need <= m->units[s]; i++) {
            int n = 0;
            while (n < need && !m->owner[s][i + n]) n++;
            if (n < need) continue;
            *slab = s;
            *at = i;
            return 1;
        }
    return 0;
}

static void own(model *m, int slab, int at, int n, int id)
{
    for (int i = 0; i < n; i++) m->owner[slab][at + i] = id;
}

static int units_used(const model *m)
{
    int n = 0;
    for (int s = 0; s < m->slabs; s++)
        for (int i = 0; i < m->units[s]; i++) n += m->owner[s][i] != 0;
    return n;
}

/* Maximal runs of free units: what the free list must have. */
static int runs_free(const model *m, int s)
{
    int n = 0;
    for (int i = 0; i < m->units[s]; i++) n += !m->owner[s][i] && (!i || m->owner[s][i - 1]);
    return n;
}

static uint64_t draw(uint64_t seed, uint64_t i, uint64_t n)
{
    return cst_random_u64(seed, 1, i) % n;
}

START_TEST(random_sequences_follow_the_model)
{
    enum { LIVE = 200, STEPS = 3000 };
    cst_arena a;
    model m = {.slabs = 3, .units = {UNITS, 17, 40}};
    struct { size_t bytes, offset; int slab, used; } block[LIVE] = {0};
    int placed = 0, refused = 0;
    cst_arena_init(&a, UNIT, UNITS * UNIT);
    for (int s = 0; s < 3; s++) ck_ok(cst_arena_add(&a, (size_t)m.units[s] * UNIT));
    for (uint64_t step = 0; step < STEPS; step++) {
        int b = (int)draw((uint64_t)_i, 3 * step, LIVE), slab, at, got_slab = -1;
        size_t offset = 0;
        if (block[b].used) {
            cst_arena_remove(&a, block[b].bytes, block[b].slab, block[b].offset);
            own(&m, block[b].slab, (int)(block[b].offset / UNIT), (int)((block[b].bytes + UNIT - 1) / UNIT), 0);
            block[b].used = 0;
        } else {
            size_t bytes =
                1 + draw((uint64_t)_i, 3 * step + 1, draw((uint64_t)_i, 3 * step + 2, 9) ? 3 * UNIT : 20 * UNIT);
            int need = (int)((bytes + UNIT - 1) / UNIT), fits = find(&m, need, &slab, &at);
            ck_assert_int_eq(cst_arena_place(&a, bytes, &got_slab, &offset), fits);
            placed += fits;
            refused += !fits;
            if (fits) {
                ck_assert_int_eq(got_slab, slab);
                ck_assert_uint_eq(offset, (size_t)at * UNIT);
                own(&m, slab, at, need, b + 1);
                block[b].bytes = bytes, block[b].offset = offset, block[b].slab = slab, block[b].used = 1;
            } else {
                ck_assert(got_slab == -1 && offset == 0);
            }
        }
        ck_assert_int_eq(cst_arena_wrong(&a), 0);
        ck_assert_uint_eq(a.used, (size_t)units_used(&m) * UNIT);
        for (int s = 0; s < 3; s++) ck_assert_int_eq(a.slab[s].holes, runs_free(&m, s)); /* neighbours coalesce */
    }
    ck_assert(placed > 500 && refused > 100);
    cst_arena_clear(&a);
    ck_assert(a.slabs == 0 && a.used == 0);
}
END_TEST

START_TEST(holes_join_on_both_sides)
{
    cst_arena a;
    size_t at[4];
    int slab;
    cst_arena_init(&a, UNIT, 4 * UNIT);
    ck_ok(cst_arena_add(&a, 4 * UNIT));
    for (int i = 0; i < 4; i++) ck_assert(cst_arena_place(&a, UNIT, &slab, &at[i]));
    ck_assert_int_eq(a.slab[0].holes, 0);
    cst_arena_remove(&a, UNIT, 0, at[0]);
    cst_arena_remove(&a, UNIT, 0, at[2]);
    ck_assert_int_eq(a.slab[0].holes, 2);
    cst_arena_remove(&a, UNIT, 0, at[1]); /* joins both */
    ck_assert_int_eq(a.slab[0].holes, 1);
    cst_arena_remove(&a, UNIT, 0, at[3]); /* joins the left one */
    ck_assert(a.slab[0].holes == 1 && a.slab[0].hole[0].offset == 0 && a.slab[0].hole[0].size == 4 * UNIT);
    ck_assert(cst_arena_place(&a, 4 * UNIT, &slab, &at[0]));
    ck_assert(!cst_arena_place(&a, 1, &slab, &at[1]));
    cst_arena_clear(&a);
}
END_TEST

/* One "step": places and removes; where everything lay goes to `places`. Slabs are added when `grow`. */
enum { MOVES = 400, BLOCKS = 60 };

static int run_step(cst_arena *a, uint64_t seed, int grow, size_t places[MOVES])
{
    struct { size_t bytes, offset; int slab; } block[BLOCKS] = {0};
    int ok = 1;
    for (uint64_t i = 0; i < MOVES; i++) {
        int b = (int)draw(seed, 2 * i, BLOCKS);
        places[i] = 0;
        if (block[b].bytes) {
            cst_arena_remove(a, block[b].bytes, block[b].slab, block[b].offset);
            block[b].bytes = 0;
            continue;
        }
        size_t bytes = 1 + draw(seed, 2 * i + 1, 9 * UNIT);
        if (!cst_arena_place(a, bytes, &block[b].slab, &block[b].offset)) {
            if (!grow) {
                ok = 0;
                break;
            }
            ck_ok(cst_arena_add(a, a->max_slab));
            ck_assert(cst_arena_place(a, bytes, &block[b].slab, &block[b].offset));
        }
        block[b].bytes = bytes;
        places[i] = (size_t)block[b].slab * 1000000 + block[b].offset + 1;
    }
    for (int b = 0; b < BLOCKS; b++)
        if (block[b].bytes) cst_arena_remove(a, block[b].bytes, block[b].slab, block[b].offset);
    return ok;
}

START_TEST(a_fixed_plan_takes_the_same_places)
{
    cst_arena a;
    size_t first[MOVES], again[MOVES], planned = 0, fixed = 0, keep;
    int slab;
    cst_arena_init(&a, UNIT, 40 * UNIT + 100); /* the odd bytes are not used */
    ck_assert_uint_eq(a.max_slab, 40 * UNIT);
    ck_ok(cst_arena_add(&a, a.max_slab));
    if (_i & 1) ck_assert(cst_arena_place(&a, 5 * UNIT, &slab, &keep)); /* something that outlives the step */
    run_step(&a, (uint64_t)_i, 1, first);
    ck_assert(a.slabs > 1);
    for (int i = 0; i < a.slabs; i++) planned += a.slab[i].high;
    cst_arena_fix(&a);
    for (int i = 0; i < a.slabs; i++) fixed += a.slab[i].capacity;
    ck_assert_uint_eq(planned, fixed);
    ck_assert_int_eq(cst_arena_wrong(&a), 0);
    for (int r = 0; r < 3; r++) {
        ck_assert(run_step(&a, (uint64_t)_i, 0, again));
        ck_assert(!memcmp(first, again, sizeof first));
        ck_assert_int_eq(cst_arena_wrong(&a), 0);
    }
    ck_assert_uint_eq(a.used, _i & 1 ? 5 * UNIT : 0);
    cst_arena_clear(&a);
}
END_TEST

START_TEST(an_unused_slab_is_fixed_to_nothing)
{
    cst_arena a;
    int slab;
    size_t at;
    cst_arena_init(&a, UNIT, 1 << 20);
    ck_ok(cst_arena_add(&a, 1 << 20));
    cst_arena_fix(&a);
    ck_assert(a.slab[0].capacity == 0 && !cst_arena_wrong(&a));
    ck_assert(!cst_arena_place(&a, 1, &slab, &at));
    cst_arena_clear(&a);
}
END_TEST

/* Every way in which the book can lie is found, and the untouched book is right. */
START_TEST(wrong_books_are_found)
{
    cst_arena a;
    size_t at[6];
    int slab;
    cst_arena_init(&a, UNIT, 8 * UNIT);
    ck_ok(cst_arena_add(&a, 8 * UNIT));
    for (int i = 0; i < 6; i++) ck_assert(cst_arena_place(&a, UNIT, &slab, &at[i]));
    cst_arena_remove(&a, UNIT, 0, at[1]);
    cst_arena_remove(&a, UNIT, 0, at[3]); /* holes: 1, 3, 6-7 */
    cst_slab *s = &a.slab[0];
    ck_assert_int_eq(s->holes, 3);
    ck_assert_int_eq(cst_arena_wrong(&a), 0);
    cst_range keep[3] = {s->hole[0], s->hole[1], s->hole[2]};
    const cst_range bad[][3] = {
        {{1 * UNIT, 2 * UNIT}, {3 * UNIT, 1 * UNIT}, {6 * UNIT, 1 * UNIT}}, /* touch, and the sum is right */
        {{1 * UNIT, 1 * UNIT}, {3 * UNIT, 1 * UNIT}, {6 * UNIT, 3 * UNIT}}, /* past the end */
        {{3 * UNIT, 1 * UNIT}, {1 * UNIT, 1 * UNIT}, {6 * UNIT, 2 * UNIT}}, /* out of order */
        {{1 * UNIT, 0}, {3 * UNIT, 2 * UNIT}, {6 * UNIT, 2 * UNIT}},        /* empty */
        {{1 * UNIT, 1 * UNIT}, {3 * UNIT, 2 * UNIT}, {6 * UNIT, 2 * UNIT}}, /* covers a block */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memcpy(s->hole, bad[i], sizeof keep);
        ck_assert_msg(cst_arena_wrong(&a), "case %d", (int)i);
        memcpy(s->hole, keep, sizeof keep);
        ck_assert_int_eq(cst_arena_wrong(&a), 0);
    }
    a.used += UNIT;
    ck_assert(cst_arena_wrong(&a));
    a.used -= UNIT;
    s->holes = 2; /* a lost range */
    ck_assert(cst_arena_wrong(&a));
    s->holes = 3;
    ck_assert_int_eq(cst_arena_wrong(&a), 0);
    cst_arena_clear(&a);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("arena");
    TCase *tc = tcase_create("arena");
    tcase_set_timeout(tc, 0);
    suite_add_tcase(s, tc);
    tcase_add_loop_test(tc, random_sequences_follow_the_model, 0, 10);
    tcase_add_test(tc, holes_join_on_both_sides);
    tcase_add_loop_test(tc, a_fixed_plan_takes_the_same_places, 0, 20);
    tcase_add_test(tc, an_unused_slab_is_fixed_to_nothing);
    tcase_add_test(tc, wrong_books_are_found);
    return test_run(s);
}
