/* Byte-pair encoding of one piece of text (Sennrich, Haddow, Birch, "Neural machine translation of rare words
 * with subword units", 2016): of all neighbours that have a merge, those with the lowest rank become one id, the
 * leftmost ones first, until no neighbours have one.
 */
#ifndef CST_TEXT_BPE_H
#define CST_TEXT_BPE_H

#include "text/maps.h"

/* Merges by rank: pair.pair[rank] becomes made[rank]. */
typedef struct cst_merges {
    cst_pair_map pair;
    uint32_t *made;
    size_t room;
} cst_merges;

/* Give the pair the next rank. INPUT: it has one already. */
cst_status cst_merges_add(cst_merges *m, uint32_t left, uint32_t right, uint32_t made);
void cst_merges_free(cst_merges *m);

/* Memory for the work on a piece, kept from one to the next. All zero to begin with. */
typedef struct cst_bpe {
    struct cst_symbol *symbol;
    uint64_t *heap; /* of rank << 32 | place, the smallest first */
    size_t symbols_room, heap_room, heap_count;
} cst_bpe;

/* Merge id[*n] in place; *n becomes smaller. Time grows as n log n. UNSUPPORTED: more than 2^31 ids. */
cst_status cst_bpe_merge(cst_bpe *b, const cst_merges *m, uint32_t *id, size_t *n);
void cst_bpe_free(cst_bpe *b);

#endif
