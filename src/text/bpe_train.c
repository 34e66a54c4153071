/* Learning merges: words with their counts, a count for each pair of neighbours, and a queue of pairs by count, each with
 * the words it came up in. The outcome is that of Hugging Face's BpeTrainer to the last merge.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "text/vocabulary.h"

typedef struct word {
    uint32_t *id; /* [length], a part of trainer.ids */
    uint32_t length;
    int64_t count;
} word;

/* Words that have a pair, each once. */
typedef struct places {
    uint32_t *word;
    size_t count, room;
} places;

/* A pair that may be merged next, with the count it had when it was lined up. */
typedef struct candidate {
    int64_t count;
    uint32_t pair; /* number in trainer.pairs */
    uint32_t turn; /* the earlier one first */
    places at;
} candidate;

typedef struct trainer {
    char bytes[256];
    cst_word_map seen;     /* the corpus's words */
    uint32_t *ids;
    word *words;           /* [seen.count] */
    size_t ids_room, words_room;
    cst_pair_map pairs;
    int64_t *pair_count;   /* [pairs.count] */
    places *found;         /* [pairs.count]: where the pair came up since it was lined up */
    size_t pair_count_room, found_room;
    uint32_t *touched;     /* [touched_count]: pairs with something in found */
    size_t touched_count, touched_room;
    candidate *queue;      /* a heap, the best one first */
    size_t queue_count, queue_room;
    uint32_t turn;
    cst_word_map pieces;   /* every piece once, by id */
    char **made;           /* [made_count], text of the pieces that merges made */
    size_t made_count, made_room;
    cst_merges merges;
} trainer;

static void trainer_free(trainer *r)
{
    for (uint32_t p = 0; r->found && p < r->pairs.count; p++) free(r->found[p].word);
    for (size_t c = 0; c < r->queue_count; c++) free(r->queue[c].at.word);
    for (size_t m = 0; m < r->made_count; m++) free(r->made[m]);
    cst_word_map_free(&r->seen);
    free(r->ids);
    free(r->words);
    cst_pair_map_free(&r->pairs);
    free(r->pair_count);
    free(r->found);
    free(r->touched);
    free(r->queue);
    cst_word_map_free(&r->pieces);
    free(r->made);
    cst_merges_free(&r->merges);
}

/* ---- words ---- */

static cst_status count_word(trainer *r, const char *piece, size_t n)
{
    uint32_t index, known = r->seen.count;
    if (n > INT32_MAX) return cst_fail(CST_UNSUPPORTED, "%zu bytes of text without a place to part them", n);
    CST_TRY(cst_word_map_add(&r->seen, &index, piece, (uint32_t)n));
    CST_TRY(cst_grow(&r->words, &r->words_room, (size_t)index + 1, sizeof *r->words));
    if (index == known) r->words[index] = (word){.length = (uint32_t)n};
    r->words[index].count++;
    return CST_OK;
}

static cst_status count_words(trainer *r, const char *text, size_t n)
{
    cst_split *split = NULL;
    cst_pieces *walk = NULL;
    const char *piece;
    size_t length;
    cst_status st;
    CST_GO(cst_split_create(&split), out);
    CST_GO(cst_pieces_create(&walk, split), out);
    for (const char *p = text, *end = text + n; p < end;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p)), *next = stop ? stop + 1 : end;
        cst_pieces_start(walk, p, (size_t)(next - p));
        for (;;) {
            CST_GO(cst_pieces_next(walk, &piece, &length), out);
            if (!length) break;
            CST_GO(count_word(r, piece, length), out);
        }
        p = next;
    }
out:
    cst_pieces_free(walk);
    cst_split_free(split);
    return st;
}

/* The special tokens and the bytes, in the order of the characters that stand for them. */
static cst_status first_pieces(trainer *r, uint32_t byte_id[256])
{
    uint16_t code[256];
    int16_t byte[CST_ALPHABET];
    uint32_t index;
    cst_alphabet(code, byte);
    for (int s = 0; s < CST_SPECIALS; s++)
        CST_TRY(cst_word_map_add(&r->pieces, &index, cst_special_name[s], (uint32_t)strlen(cst_special_name[s])));
    for (int c = 0; c < CST_ALPHABET; c++) {
        if (byte[c] < 0) continue;
        r->bytes[byte[c]] = (char)byte[c];
        CST_TRY(cst_word_map_add(&r->pieces, &byte_id[byte[c]], &r->bytes[byte[c]], 1));
    }
    return CST_OK;
}

static cst_status spell_words(trainer *r, const uint32_t byte_id[256])
{
    size_t total = 0, k = 0;
    for (uint32_t w = 0; w < r->seen.count; w++) total += r->words[w].length;
    CST_TRY(cst_grow(&r->ids, &r->ids_room, total + 1, sizeof *r->ids));
    for (uint32_t w = 0; w < r->seen.count; w++) {
        r->words[w].id = r->ids + k;
        for (uint32_t i = 0; i < r->words[w].length; i++) r->ids[k++] = byte_id[(unsigned char)r->seen.word[w].text[i]];
    }
    return CST_OK;
}

/* ---- pairs ---- */

/* Is a to be merged before b? */
static int before(const trainer *r, const candidate *a, const candidate *b)
{
    if (a->count != b->count) return a->count > b->count;
    uint64_t x = r->pairs.pair[a->pair], y = r->pairs.pair[b->pair];
    return x != y ? x < y : a->turn < b->turn;
}

static cst_status queue_push(trainer *r, candidate c)
{
    cst_status st = cst_grow(&r->queue, &r->queue_room, r->queue_count + 1, sizeof *r->queue);
    if (st != CST_OK) {
        free(c.at.word);
        return st;
    }
    size_t i = r->queue_count++;
    for (; i && before(r, &c, &r->queue[(i - 1) / 2]); i = (i - 1) / 2) r->queue[i] = r->queue[(i - 1) / 2];
    r->queue[i] = c;
    return CST_OK;
}

static candidate queue_pop(trainer *r)
{
    candidate top = r->queue[0], last = r->queue[--r->queue_count];
    size_t i = 0, n = r->queue_count;
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(r, &r->queue[child + 1], &r->queue[child])) child++;
        if (!before(r, &r->queue[child], &last)) break;
        r->queue[i] = r->queue[child];
    }
    r->queue[i] = last;
    return top;
}

/* The pair came up (sign 1) or went away (-1) in word w. */
static cst_status count_pair(trainer *r, uint32_t left, uint32_t right, uint32_t w, int sign)
{
    uint32_t p, known = r->pairs.count;
    CST_TRY(cst_grow(&r->pair_count, &r->pair_count_room, (size_t)known + 1, sizeof *r->pair_count));
    CST_TRY(cst_grow(&r->found, &r->found_room, (size_t)known + 1, sizeof *r->found));
    r->pair_count[known] = 0;
    r->found[known] = (places){0};
    CST_TRY(cst_pair_map_add(&r->pairs, &p, cst_pair(left, right)));
    r->pair_count[p] += sign * r->words[w].count;
    places *f = &r->found[p];
    if (sign < 0 || (f->count && f->word[f->count - 1] == w)) return CST_OK;
    if (!f->count) {
        CST_TRY(cst_grow(&r->touched, &r->touched_room, r->touched_count + 1, sizeof *r->touched));
        r->touched[r->touched_count++] = p;
    }
    CST_TRY(cst_grow(&f->word, &f->room, f->count + 1, sizeof *f->word));
    f->word[f->count++] = w;
    return CST_OK;
}

/* Line up the pairs that have come up. */
static cst_status queue_found(trainer *r)
{
    for (size_t i = 0; i < r->touched_count; i++) {
        uint32_t p = r->touched[i];
        candidate c = {.count = r->pair_count[p], .pair = p, .turn = r->turn++, .at = r->found[p]};
        r->found[p] = (places){0};
        if (c.count > 0) CST_TRY(queue_push(r, c));
        else free(c.at.word);
    }
    r->touched_count = 0;
    return CST_OK;
}

static cst_status count_pairs(trainer *r)
{
    for (uint32_t w = 0; w < r->seen.count; w++)
        for (uint32_t i = 0; i + 1 < r->words[w].length; i++) CST_TRY(count_pair(r, r->words[w].id[i], r->words[w].id[i + 1], w, 1));
    return queue_found(r);
}

/* ---- merges ---- */

/* Merge left and right in word w from left to right, keeping the counts of their neighbours. */
static cst_status merge_word(trainer *r, uint32_t w, uint32_t left, uint32_t right, uint32_t made)
{
    uint32_t *id = r->words[w].id, n = r->words[w].length, k = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (id[i] != left || i + 1 == n || id[i + 1] != right) {
            id[k++] = id[i];
            continue;
        }
        if (k) {
            CST_TRY(count_pair(r, id[k - 1], left, w, -1));
            CST_TRY(count_pair(r, id[k - 1], made, w, 1));
        }
        if (i + 2 < n) {
            CST_TRY(count_pair(r, right, id[i + 2], w, -1));
            CST_TRY(count_pair(r, made, id[i + 2], w, 1));
        }
        id[k++] = made;
        i++;
    }
    r->words[w].length = k;
    return CST_OK;
}

/* Id of the piece that the pair makes: a new one, unless the text has the name of a special token. */
static cst_status make_piece(trainer *r, uint32_t *made, uint32_t left, uint32_t right)
{
    const cst_word *a = &r->pieces.word[left], *b = &r->pieces.word[right];
    size_t n = (size_t)a->length + b->length;
    char *text = n < UINT32_MAX ? malloc(n) : NULL;
    if (!text) return cst_fail(CST_NO_MEMORY, "a piece of %zu bytes", n);
    memcpy(text, a->text, a->length);
    memcpy(text + a->length, b->text, b->length);
    cst_status st;
    CST_GO(cst_grow(&r->made, &r->made_room, r->made_count + 1, sizeof *r->made), out);
    uint32_t known = r->pieces.count;
    CST_GO(cst_word_map_add(&r->pieces, made, text, (uint32_t)n), out);
    if (*made == known) {
        r->made[r->made_count++] = text;
        text = NULL;
    }
out:
    free(text);
    return st;
}

static cst_status merge_pair(trainer *r, const candidate *c)
{
    uint64_t pair = r->pairs.pair[c->pair];
    uint32_t left = (uint32_t)(pair >> 32), right = (uint32_t)pair, made;
    CST_TRY(make_piece(r, &made, left, right));
    if (cst_pair_map_find(&r->merges.pair, pair) == CST_NO_INDEX) CST_TRY(cst_merges_add(&r->merges, left, right, made));
    for (size_t i = 0; i < c->at.count; i++) CST_TRY(merge_word(r, c->at.word[i], left, right, made));
    return queue_found(r);
}

static cst_status learn(trainer *r, uint32_t vocab_size, uint32_t min_frequency)
{
    while (r->pieces.count < vocab_size && r->queue_count) {
        candidate top = queue_pop(r);
        int64_t count = r->pair_count[top.pair];
        if (top.count != count) { /* lined up again with the count it has by now */
            top.count = count;
            CST_TRY(queue_push(r, top));
            continue;
        }
        cst_status st = CST_OK;
        int enough = count < 1 || count < min_frequency;
        if (!enough) st = merge_pair(r, &top);
        free(top.at.word);
        if (st != CST_OK || enough) return st;
    }
    return CST_OK;
}

static cst_status build(cst_tokenizer **out, trainer *r)
{
    cst_tokenizer *t;
    size_t room = 0;
    cst_status st;
    for (uint32_t id = 0; id < r->pieces.count; id++) room += r->pieces.word[id].length;
    if (room > UINT32_MAX) return cst_fail(CST_UNSUPPORTED, "pieces of %zu bytes together", room);
    CST_TRY(cst_vocabulary_new(&t, r->pieces.count, room));
    CST_GO(cst_vocabulary_opt(t), out);
    for (uint32_t id = CST_SPECIALS; id < r->pieces.count; id++)
        cst_vocabulary_add(t, id, r->pieces.word[id].text, r->pieces.word[id].length, 0);
    t->merges = r->merges;
    r->merges = (cst_merges){0};
    CST_GO(cst_vocabulary_finish(t, "learned vocabulary"), out);
    *out = t;
    t = NULL;
out:
    cst_tokenizer_free(t);
    return st;
}

cst_status cst_tokenizer_train(cst_tokenizer **out, const char *text, size_t n, uint32_t vocab_size, uint32_t min_frequency)
{
    trainer r = {0};
    uint32_t byte_id[256];
    cst_status st;
    if (vocab_size < CST_SPECIALS + 256)
        return cst_fail(CST_USAGE, "a vocabulary of %" PRIu32 ": at least %d, the bytes and the special tokens", vocab_size,
                        CST_SPECIALS + 256);
    CST_GO(first_pieces(&r, byte_id), out);
    CST_GO(count_words(&r, text, n), out);
    CST_GO(spell_words(&r, byte_id), out);
    CST_GO(count_pairs(&r), out);
    CST_GO(learn(&r, vocab_size, min_frequency), out);
    st = build(out, &r);
out:
    trainer_free(&r);
    return st;
}
