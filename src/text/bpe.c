#include "text/bpe.h"

#include <stdlib.h>

/* What stands at a place of the piece. A symbol that went into its left neighbour has no rank and is in no list. */
struct cst_symbol {
    uint32_t id;
    uint32_t prev, next; /* places, NOWHERE at the ends */
    uint32_t rank;       /* of the merge with the next one, CST_NO_INDEX: none */
};
#define NOWHERE UINT32_MAX

cst_status cst_merges_add(cst_merges *m, uint32_t left, uint32_t right, uint32_t made)
{
    uint32_t rank, count = m->pair.count;
    CST_TRY(cst_grow(&m->made, &m->room, (size_t)count + 1, sizeof *m->made));
    CST_TRY(cst_pair_map_add(&m->pair, &rank, cst_pair(left, right)));
    if (rank != count) return cst_fail(CST_INPUT, "the merge of rank %u again", rank);
    m->made[rank] = made;
    return CST_OK;
}

void cst_merges_free(cst_merges *m)
{
    cst_pair_map_free(&m->pair);
    free(m->made);
    *m = (cst_merges){0};
}

void cst_bpe_free(cst_bpe *b)
{
    free(b->symbol);
    free(b->heap);
    *b = (cst_bpe){0};
}

static void heap_push(cst_bpe *b, uint64_t key)
{
    size_t i = b->heap_count++;
    for (; i && b->heap[(i - 1) / 2] > key; i = (i - 1) / 2) b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = key;
}

static uint64_t heap_pop(cst_bpe *b)
{
    uint64_t top = b->heap[0], last = b->heap[--b->heap_count];
    size_t i = 0, n = b->heap_count;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && b->heap[child + 1] < b->heap[child]) child++;
        if (b->heap[child] >= last) break;
        b->heap[i] = b->heap[child];
    }
    b->heap[i] = last;
    return top;
}

/* Find the merge of the symbol at this place with its next one, and line it up. */
static void look(cst_bpe *b, const cst_merges *m, uint32_t place)
{
    struct cst_symbol *s = &b->symbol[place];
    s->rank = s->next == NOWHERE ? CST_NO_INDEX : cst_pair_map_find(&m->pair, cst_pair(s->id, b->symbol[s->next].id));
    if (s->rank != CST_NO_INDEX) heap_push(b, (uint64_t)s->rank << 32 | place);
}

static void join(cst_bpe *b, const cst_merges *m, uint32_t place)
{
    struct cst_symbol *s = &b->symbol[place], *gone = &b->symbol[s->next];
    s->id = m->made[s->rank];
    s->next = gone->next;
    gone->rank = CST_NO_INDEX;
    if (s->next != NOWHERE) b->symbol[s->next].prev = place;
    look(b, m, place);
    if (s->prev != NOWHERE) look(b, m, s->prev);
}

cst_status cst_bpe_merge(cst_bpe *b, const cst_merges *m, uint32_t *id, size_t *n)
{
    size_t count = *n, k = 0;
    if (count < 2) return CST_OK;
    if (count > INT32_MAX) return cst_fail(CST_UNSUPPORTED, "%zu bytes of text without a place to part them", count);
    CST_TRY(cst_grow(&b->symbol, &b->symbols_room, count, sizeof *b->symbol));
    CST_TRY(cst_grow(&b->heap, &b->heap_room, 3 * count, sizeof *b->heap)); /* a join adds two at most */
    for (uint32_t i = 0; i < count; i++)
        b->symbol[i] = (struct cst_symbol){.id = id[i], .prev = i - 1, .next = i + 1 < count ? i + 1 : NOWHERE};
    b->heap_count = 0;
    for (uint32_t i = 0; i < count; i++) look(b, m, i);
    while (b->heap_count) {
        uint64_t top = heap_pop(b);
        uint32_t place = (uint32_t)top;
        if (b->symbol[place].rank == top >> 32) join(b, m, place); /* else a neighbour has changed since */
    }
    for (uint32_t i = 0; i != NOWHERE; i = b->symbol[i].next) id[k++] = b->symbol[i].id;
    *n = k;
    return CST_OK;
}
