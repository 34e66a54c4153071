/* Iterations that the program doesn't mark: found in the sequence of its operators, recorded, followed.
 *
 *     SEEK --the last two are the same--> WAIT --the best place to begin--> RECORD --whole--> FOLLOW
 *      ^                                   |                                  |                 |
 *      +-----------------------------------+----- something else is done -----+-----------------+
 *
 * From SEEK it also goes straight to FOLLOW: when the iteration that was recorded has been done once more, from its beginning to
 * its end. Whatever is guessed wrong costs time and nothing else: no content is dropped on a guess (step.c).
 *
 * An access is a hash of the operator's name and of how it uses which tensors. A tensor is known by its kind (name, class, shape)
 * and by the least number that no other of the kind has, so that what is made anew in each iteration looks the same each time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/file.h"
#include "base/log.h"
#include "memory/internal.h"
#include "memory/period.h"

#define KEPT (1 << 17)       /* accesses at most: the longest iteration is half of that */
#define FIRST 64             /* accesses after which to look for the first time */
#define INSIDE (1u << 31)
#define PATIENCE 1024        /* at most */

/* --- what is done --------------------------------------------------------------------------------------- */

static uint64_t identity(cst_tensor *t)
{
    if (t->fixed) return 1; /* batches have two sets, in turns */
    if (!t->kind) {
        uint64_t taken = 0, kind = XXH3_64bits_withSeed(t->dim, sizeof t->dim, XXH3_64bits(t->name, strlen(t->name)));
        int64_t what[2] = {t->cls, t->type};
        kind = XXH3_64bits_withSeed(what, sizeof what, kind) | 1;
        for (const cst_tensor *o = t->mem->first; o; o = o->next)
            if (o->kind == kind && o->twin < 64) taken |= (uint64_t)1 << o->twin;
        t->kind = kind;
        t->twin = ~taken ? __builtin_ctzll(~taken) : 64;
    }
    return t->kind + 2 * (uint64_t)t->twin;
}

static uint64_t access_of(const cst_mem *m, const char *op, const cst_use *use, int n)
{
    uint64_t hash = XXH3_64bits(op, strlen(op));
    for (int i = 0; i < n + m->helds; i++) {
        cst_tensor *t = i < n ? use[i].t : m->held[i - n];
        uint64_t one[2] = {identity(t), i < n ? (uint64_t)use[i].access : 8};
        hash = XXH3_64bits_withSeed(one, sizeof one, hash);
    }
    return hash;
}

/* The older half goes when there are too many. */
static void forget_old(cst_unmarked *u)
{
    int gone = KEPT / 2;
    u->count -= gone;
    memmove(u->access, u->access + gone, (size_t)u->count * sizeof *u->access);
    memmove(u->alive, u->alive + gone, (size_t)u->count * sizeof *u->alive);
    u->from = u->from > gone ? u->from - gone : 0;
    u->check -= gone;
    u->begin -= gone;
}

static int keep(cst_mem *m, uint64_t access)
{
    cst_unmarked *u = &m->unmarked;
    if (u->count == KEPT) forget_old(u);
    if (!cst_array_more((void **)&u->access, u->count, &u->room[0], sizeof *u->access) ||
        !cst_array_more((void **)&u->alive, u->count, &u->room[1], sizeof *u->alive))
        return 0;
    u->access[u->count] = access;
    u->alive[u->count++] = m->contents | (m->helds ? INSIDE : 0);
    return 1;
}

/* --- the iteration that is known -------------------------------------------------------------------------- */

/* The last `period` accesses: the next ones will be them again. */
static int learn(cst_unmarked *u)
{
    size_t n = (size_t)u->period;
    free(u->cycle);
    free(u->border);
    u->length = u->matched = 0;
    u->cycle = malloc(n * sizeof *u->cycle);
    u->border = malloc(n * sizeof *u->border);
    if (!u->cycle || !u->border) return 0;
    memcpy(u->cycle, u->access + u->count - u->period, n * sizeof *u->cycle);
    u->border[0] = 0;
    for (int i = 1, b = 0; i < u->period; i++) {
        while (b && u->cycle[i] != u->cycle[b]) b = u->border[b - 1];
        b += u->cycle[i] == u->cycle[b];
        u->border[i] = b;
    }
    u->length = u->period;
    return 1;
}

/* How much of the iteration, and how often, has just been done: u->matched. */
static void match(cst_unmarked *u, uint64_t access)
{
    if (!u->length) return;
    int whole = u->matched / u->length, b = u->matched % u->length;
    if (access == u->cycle[b]) {
        u->matched++;
        return;
    }
    if (whole && !b) b = u->border[u->length - 1];
    while (b && access != u->cycle[b]) b = u->border[b - 1];
    u->matched = b + (access == u->cycle[b]);
}

/* All that lives on was there before the recorded iteration and is there after it. */
static int complete(const cst_mem *m)
{
    int persistent = 0;
    for (int i = 0; i < m->trace->tensors; i++) persistent += m->trace->tensor[i].persistent;
    for (const cst_tensor *t = m->first; t; t = t->next) persistent -= t->traced >= 0 && m->trace->tensor[t->traced].persistent;
    return !persistent;
}

/* --- the period ------------------------------------------------------------------------------------------- */

/* Begin where the fewest blocks have content: then none is alive that lives for a part of an iteration only. */
static void wait_for(cst_unmarked *u, int period)
{
    int best = -1, past = u->count - period;
    for (int k = 0; k < period; k++)
        if (!(u->alive[past + k] & INSIDE) && (best < 0 || u->alive[past + k] < u->alive[past + best])) best = k;
    if (best < 0) return;
    u->period = period;
    u->begin = u->count + best;
    u->state = CST_UNMARKED_WAIT;
}

/* In all accesses from `from` on. Looks again when there are twice as many; or when what repeats now will have done so. */
static cst_status look(cst_unmarked *u, int from, int longer_than)
{
    cst_period p;
    int n = u->count - from;
    CST_TRY(cst_period_suffix(&p, u->access + from, n, u->patience + 1));
    u->check = u->count + (n > FIRST ? n : FIRST);
    if (p.next && p.next < n + n) u->check = u->count + (p.next - n > n / 32 ? (int)p.next - n : n / 32 + 1);
    if (p.length > longer_than) wait_for(u, (int)p.length);
    return CST_OK;
}

/* Something else is done than the iteration. If that happens often, there is a longer one around it. */
static cst_status lose(cst_mem *m)
{
    cst_unmarked *u = &m->unmarked;
    int followed = u->state == CST_UNMARKED_FOLLOW;
    cst_status st = cst_step_finish(m);
    if (u->state != CST_UNMARKED_WAIT) u->patience = u->whole ? 1 : u->patience < PATIENCE ? 2 * u->patience : PATIENCE;
    if (u->state == CST_UNMARKED_RECORD || !m->trace) { /* half of one */
        cst_step_clear(m);
        u->length = 0;
    }
    u->state = CST_UNMARKED_SEEK;
    u->from = u->count;
    u->check = u->count + FIRST;
    u->matched = u->whole = 0;
    if (st == CST_OK && followed && 4 * u->followed < 3 * u->since) st = look(u, 0, u->length);
    return st;
}

static cst_status start_recording(cst_mem *m)
{
    cst_unmarked *u = &m->unmarked;
    if (!learn(u)) return cst_fail(CST_NO_MEMORY, "memory manager");
    cst_step_clear(m);
    u->state = CST_UNMARKED_RECORD;
    u->followed = u->since = 0;
    u->whole = 0;
    cst_log(CST_LOG_INFO, "%d operators repeat: they are recorded as the iteration, and planned for from then on", u->length);
    return cst_step_begin(m);
}

static cst_status follow(cst_mem *m)
{
    m->unmarked.state = CST_UNMARKED_FOLLOW;
    return cst_step_begin(m);
}

/* --- an access -------------------------------------------------------------------------------------------- */

/* The recorded iteration is whole; outer: and begins again. */
static cst_status end_recording(cst_mem *m, int again)
{
    cst_unmarked *u = &m->unmarked;
    CST_TRY(cst_step_finish(m));
    if (!complete(m)) return lose(m);
    if (again) return follow(m);
    u->whole = 1; /* there is nothing wrong with it: it comes again later */
    u->state = CST_UNMARKED_FOLLOW;
    return lose(m);
}

static cst_status mark(cst_mem *m, uint64_t access)
{
    cst_unmarked *u = &m->unmarked;
    int outer = !m->helds, begins = outer && u->length && access == u->cycle[0];
    if (u->state == CST_UNMARKED_RECORD) {
        int at = m->trace ? m->trace->moments : 0;
        if (at == u->length) return end_recording(m, begins);
        return m->trace && access == u->cycle[at] ? CST_OK : lose(m);
    }
    if (u->state == CST_UNMARKED_FOLLOW) {
        if (m->plan && m->on_plan && m->at == u->length) {
            u->whole++;
            return begins ? cst_step_begin(m) : lose(m);
        }
        return m->plan && m->on_plan && access == u->cycle[m->at] ? CST_OK : lose(m);
    }
    if (u->state == CST_UNMARKED_SEEK && u->length && begins && u->matched >= u->patience * u->length && u->matched % u->length == 0) return follow(m);
    return CST_OK;
}

static cst_status wait(cst_mem *m, uint64_t access)
{
    cst_unmarked *u = &m->unmarked;
    if (access != u->access[u->count - u->period] || (u->count == u->begin && m->helds)) return lose(m);
    return u->count == u->begin ? start_recording(m) : CST_OK;
}

static cst_status next(cst_mem *m, uint64_t access)
{
    cst_unmarked *u = &m->unmarked;
    CST_TRY(mark(m, access));
    if (u->state == CST_UNMARKED_WAIT) CST_TRY(wait(m, access));
    u->followed += u->state == CST_UNMARKED_FOLLOW;
    u->since++;
    if (!keep(m, access)) return cst_fail(CST_NO_MEMORY, "memory manager");
    if (u->state != CST_UNMARKED_SEEK) return CST_OK;
    match(u, access);
    return u->count >= u->check ? look(u, u->from, 0) : CST_OK;
}

void cst_unmarked_acquire(cst_mem *m, const char *op, const cst_use *use, int n)
{
    cst_unmarked *u = &m->unmarked;
    if (u->off) return;
    if (!u->patience) u->patience = 1, u->check = FIRST;
    if (next(m, access_of(m, op, use, n)) == CST_OK) return;
    cst_log(CST_LOG_INFO, "iterations aren't planned for: %s; tensors move on demand", cst_detail());
    m->inside = 0;
    cst_step_clear(m);
    cst_unmarked_clear(m);
    u->off = 1;
}

void cst_unmarked_clear(cst_mem *m)
{
    cst_unmarked *u = &m->unmarked;
    free(u->access);
    free(u->alive);
    free(u->cycle);
    free(u->border);
    memset(u, 0, sizeof *u);
}

cst_status cst_mem_accesses_save(const cst_mem *m, const char *path)
{
    const cst_unmarked *u = &m->unmarked;
    char *text = NULL;
    size_t size;
    if (!u->count) return cst_fail(CST_STATE, "no operators were acquired without marks while tensors may migrate");
    FILE *f = open_memstream(&text, &size);
    if (!f) return cst_fail(CST_NO_MEMORY, "%s", path);
    for (int i = 0; i < u->count; i++) fprintf(f, "%016" PRIx64 "\n", u->access[i]);
    int bad = ferror(f);
    cst_status st = fclose(f) || bad ? cst_fail(CST_NO_MEMORY, "%s", path) : cst_file_write(path, text, size);
    free(text);
    return st;
}
