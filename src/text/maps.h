/* Two hash maps that number their keys 0, 1, 2, ... in the order they come: of byte strings and of pairs of ids.
 * What belongs to a key is kept by the owner in an array under the key's number.
 */
#ifndef CST_TEXT_MAPS_H
#define CST_TEXT_MAPS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define CST_NO_INDEX UINT32_MAX

typedef struct cst_word {
    const char *text; /* borrowed: it must outlive the map */
    uint32_t length, hash;
} cst_word;

/* All zero is an empty map. */
typedef struct cst_word_map {
    cst_word *word; /* [count] */
    uint32_t count, room;
    uint32_t *slot; /* [slots], a power of two: number of a key or CST_NO_INDEX */
    uint32_t slots;
} cst_word_map;

/* Number of the key, CST_NO_INDEX if it isn't there. */
uint32_t cst_word_map_find(const cst_word_map *m, const char *text, uint32_t length);
/* Number of the key, which is added (then *index is the count before) if it isn't there. NO_MEMORY. */
cst_status cst_word_map_add(cst_word_map *m, uint32_t *index, const char *text, uint32_t length);
void cst_word_map_free(cst_word_map *m);

typedef struct cst_pair_map {
    uint64_t *pair; /* [count]: left id << 32 | right id */
    uint32_t count, room;
    uint32_t *slot;
    uint32_t slots;
} cst_pair_map;

static inline uint64_t cst_pair(uint32_t left, uint32_t right)
{
    return (uint64_t)left << 32 | right;
}

uint32_t cst_pair_map_find(const cst_pair_map *m, uint64_t pair);
cst_status cst_pair_map_add(cst_pair_map *m, uint32_t *index, uint64_t pair);
void cst_pair_map_free(cst_pair_map *m);

/* Make room for `want` elements of `size` bytes in *p, which has *room; at least doubles. NO_MEMORY. */
cst_status cst_grow(void *p, size_t *room, size_t want, size_t size);

#endif
