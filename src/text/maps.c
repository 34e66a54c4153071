#include "text/maps.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { FIRST_ROOM = 64 };

cst_status cst_grow(void *p, size_t *room, size_t want, size_t size)
{
    void **at = p;
    if (want <= *room) return CST_OK;
    size_t next = *room < FIRST_ROOM ? FIRST_ROOM : *room * 2;
    if (next < want) next = want;
    void *grown = next < SIZE_MAX / size ? realloc(*at, next * size) : NULL;
    if (!grown) return cst_fail(CST_NO_MEMORY, "%zu elements of %zu bytes", next, size);
    *at = grown;
    *room = next;
    return CST_OK;
}

/* As cst_grow, for the keys of a map, whose numbers have 32 bits. */
static cst_status grow_keys(void *p, uint32_t *room, uint32_t count, size_t size)
{
    size_t have = *room;
    if (count >= UINT32_MAX / 4) return cst_fail(CST_UNSUPPORTED, "a map of more than %u keys", count);
    CST_TRY(cst_grow(p, &have, (size_t)count + 1, size));
    *room = (uint32_t)have;
    return CST_OK;
}

/* A table at most half full has short chains. *full: it must be filled anew. */
static cst_status grow_slots(uint32_t **slot, uint32_t *slots, uint32_t count, int *full)
{
    *full = (uint64_t)count * 2 >= *slots;
    if (!*full) return CST_OK;
    uint32_t n = *slots ? *slots * 2 : 2 * FIRST_ROOM;
    uint32_t *p = malloc((size_t)n * sizeof *p);
    if (!p) return cst_fail(CST_NO_MEMORY, "a map of %u slots", n);
    memset(p, 0xff, (size_t)n * sizeof *p);
    free(*slot);
    *slot = p;
    *slots = n;
    return CST_OK;
}

static uint32_t word_slot(const cst_word_map *m, const char *text, uint32_t length, uint32_t hash)
{
    uint32_t s = hash & (m->slots - 1);
    for (; m->slot[s] != CST_NO_INDEX; s = (s + 1) & (m->slots - 1)) {
        const cst_word *w = &m->word[m->slot[s]];
        if (w->hash == hash && w->length == length && !memcmp(w->text, text, length)) break;
    }
    return s;
}

static uint32_t word_hash(const char *text, uint32_t length)
{
    return (uint32_t)XXH3_64bits(text, length);
}

uint32_t cst_word_map_find(const cst_word_map *m, const char *text, uint32_t length)
{
    return m->slots ? m->slot[word_slot(m, text, length, word_hash(text, length))] : CST_NO_INDEX;
}

cst_status cst_word_map_add(cst_word_map *m, uint32_t *index, const char *text, uint32_t length)
{
    uint32_t hash = word_hash(text, length);
    int full;
    CST_TRY(grow_slots(&m->slot, &m->slots, m->count, &full));
    for (uint32_t i = 0; full && i < m->count; i++)
        m->slot[word_slot(m, m->word[i].text, m->word[i].length, m->word[i].hash)] = i;
    uint32_t s = word_slot(m, text, length, hash);
    if (m->slot[s] == CST_NO_INDEX) {
        CST_TRY(grow_keys(&m->word, &m->room, m->count, sizeof *m->word));
        m->word[m->count] = (cst_word){text, length, hash};
        m->slot[s] = m->count++;
    }
    *index = m->slot[s];
    return CST_OK;
}

void cst_word_map_free(cst_word_map *m)
{
    free(m->word);
    free(m->slot);
    *m = (cst_word_map){0};
}

/* Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4): the product's upper bits depend on all of it. */
static uint32_t pair_slot(const cst_pair_map *m, uint64_t pair)
{
    uint32_t s = (uint32_t)((pair ^ pair >> 29) * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (m->slots - 1);
    while (m->slot[s] != CST_NO_INDEX && m->pair[m->slot[s]] != pair) s = (s + 1) & (m->slots - 1);
    return s;
}

uint32_t cst_pair_map_find(const cst_pair_map *m, uint64_t pair)
{
    return m->slots ? m->slot[pair_slot(m, pair)] : CST_NO_INDEX;
}

cst_status cst_pair_map_add(cst_pair_map *m, uint32_t *index, uint64_t pair)
{
    int full;
    CST_TRY(grow_slots(&m->slot, &m->slots, m->count, &full));
    for (uint32_t i = 0; full && i < m->count; i++) m->slot[pair_slot(m, m->pair[i])] = i;
    uint32_t s = pair_slot(m, pair);
    if (m->slot[s] == CST_NO_INDEX) {
        CST_TRY(grow_keys(&m->pair, &m->room, m->count, sizeof *m->pair));
        m->pair[m->count] = pair;
        m->slot[s] = m->count++;
    }
    *index = m->slot[s];
    return CST_OK;
}

void cst_pair_map_free(cst_pair_map *m)
{
    free(m->pair);
    free(m->slot);
    *m = (cst_pair_map){0};
}
