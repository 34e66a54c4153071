/* Byte-level BPE: ids against Hugging Face's on difficult strings, learning against Hugging Face's, merging against
 * the definition, bytes that are no UTF-8, files that are wrong, and ids kept on disk. */
#include "testing.h"

#include <dirent.h>
#include <jansson.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/log.h"
#include "base/random.h"
#include "text/bpe.h"
#include "text/split.h"
#include "text/token_cache.h"
#include "text/tokenizer.h"

static cst_tokenizer *open_small(void)
{
    cst_tokenizer *t = NULL;
    ck_ok(cst_tokenizer_open(&t, source_path("tests/fixtures/tokenizer")));
    return t;
}

static void check_round_trip(const cst_tokenizer *t, const char *text, size_t n, unsigned flags)
{
    uint32_t *ids;
    char *back;
    size_t count, m;
    ck_ok(cst_tokenizer_encode(t, &ids, &count, text, n, flags));
    ck_ok(cst_tokenizer_decode(t, &back, &m, ids, count, 0));
    ck_assert_uint_eq(m, n);
    if (n) ck_assert_mem_eq(back, text, n);
    free(back);
    free(ids);
}

/* ---- against Hugging Face ---- */

static void check_ids(const cst_tokenizer *t, const char *text, size_t n, const json_t *want, size_t row)
{
    uint32_t *ids;
    size_t count;
    ck_ok(cst_tokenizer_encode(t, &ids, &count, text, n, CST_ENCODE_BOS));
    ck_assert_uint_eq(ids[0], 2);
    ck_assert_msg(count - 1 == json_array_size(want),
                  "row %zu \"%s\": %zu ids, wanted %zu", row, text, count - 1, json_array_size(want));
    for (size_t i = 0; i + 1 < count; i++)
        ck_assert_msg(ids[i + 1] == json_integer_value(json_array_get(want, i)),
                      "row %zu \"%s\": id %u at place %zu", row, text, ids[i + 1], i);
    free(ids);
}

/* OPT's own vocabulary isn't part of the project: its ids are checked when CASTOR_OPT_TOKENIZER names the folder. */
START_TEST(difficult_strings)
{
    const char *opt_dir = getenv("CASTOR_OPT_TOKENIZER");
    json_t *rows = json_load_file(source_path("tests/fixtures/tokenizer/strings.json"), JSON_ALLOW_NUL, NULL), *row;
    cst_tokenizer *t = open_small(), *opt = NULL;
    size_t i;
    ck_assert_uint_eq(cst_tokenizer_size(t), 1500);
    ck_assert_uint_ge(json_array_size(rows), 200);
    if (opt_dir) ck_ok(cst_tokenizer_open(&opt, opt_dir));
    json_array_foreach(rows, i, row)
    {
        const json_t *text = json_object_get(row, "text");
        check_ids(t, json_string_value(text), json_string_length(text), json_object_get(row, "ids"), i);
        check_round_trip(t, json_string_value(text), json_string_length(text), 0);
        check_round_trip(t, json_string_value(text), json_string_length(text), CST_ENCODE_PLAIN);
        if (opt) check_ids(opt, json_string_value(text), json_string_length(text), json_object_get(row, "opt"), i);
    }
    cst_tokenizer_free(opt);
    cst_tokenizer_free(t);
    json_decref(rows);
}
END_TEST

static void check_same_file(const char *a, const char *b)
{
    char *x, *y;
    size_t n, m;
    ck_ok(cst_file_read(&x, &n, a));
    ck_ok(cst_file_read(&y, &m, b));
    ck_assert_msg(n == m && !memcmp(x, y, n), "%s and %s differ", a, b);
    free(x);
    free(y);
}

/* The fixture's merges were learned by Hugging Face's BpeTrainer from the same text. */
START_TEST(learns_the_same)
{
    cst_tokenizer *small = open_small(), *t = NULL;
    char *text;
    size_t n;
    ck_ok(cst_file_read(&text, &n, source_path("data/sample/wiki.train.raw")));
    ck_ok(cst_tokenizer_train(&t, text, n, 1500, 2));
    ck_assert_uint_eq(cst_tokenizer_size(t), 1500);
    ck_assert_uint_eq(cst_tokenizer_merges(t), 1240);
    ck_assert_uint_eq(cst_tokenizer_hash(t), cst_tokenizer_hash(small)); /* pieces, ids, merges, special tokens */
    ck_ok(cst_tokenizer_save(t, test_file("learned")));
    check_same_file(test_file("learned/merges.txt"), source_path("tests/fixtures/tokenizer/merges.txt"));
    cst_tokenizer_free(t);
    /* What was saved is the same tokenizer. */
    ck_ok(cst_tokenizer_open(&t, test_file("learned")));
    ck_assert_uint_eq(cst_tokenizer_hash(t), cst_tokenizer_hash(small));
    cst_tokenizer_free(t);
    cst_tokenizer_free(small);
    free(text);
}
END_TEST

START_TEST(learns_what_there_is)
{
    cst_tokenizer *t = NULL;
    uint32_t *ids;
    size_t count;
    ck_fails(cst_tokenizer_train(&t, "a", 1, 259, 2), CST_USAGE, "a vocabulary of 259");
    ck_ok(cst_tokenizer_train(&t, "", 0, 1000, 1)); /* nothing to merge: the bytes, in another order than "bytes" */
    ck_assert_uint_eq(cst_tokenizer_size(t), 260);
    cst_tokenizer_free(t);
    ck_ok(cst_tokenizer_train(&t, "aaaa aaaa\xff\xfe\n", 12, 1000, 2)); /* aa 4 times, then aaaa twice; the rest comes once */
    ck_assert_uint_eq(cst_tokenizer_merges(t), 2);
    ck_ok(cst_tokenizer_encode(t, &ids, &count, "aaaaaa", 6, 0));
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(ids[0], 261);
    ck_assert_uint_eq(ids[1], 260);
    free(ids);
    cst_tokenizer_free(t);
}
END_TEST

/* ---- against the definition ---- */

static const uint32_t LETTERS = 6;

/* Merges of random pairs: not in an order that learning would give, so that ranks and places matter. */
static void random_merges(cst_merges *m, uint64_t seed)
{
    uint32_t pieces = LETTERS;
    for (uint64_t i = 0; m->pair.count < 60; i++) {
        uint64_t x = cst_random_u64(seed, 1, i);
        uint32_t left = (uint32_t)(x % pieces), right = (uint32_t)((x >> 32) % pieces);
        if (cst_pair_map_find(&m->pair, cst_pair(left, right)) == CST_NO_INDEX) ck_ok(cst_merges_add(m, left, right, pieces++));
    }
}

/* The lowest rank of all neighbours, the leftmost of those, again and again. */
static size_t merge_slowly(const cst_merges *m, uint32_t *id, size_t n)
{
    for (;;) {
        uint32_t best = CST_NO_INDEX;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t rank = cst_pair_map_find(&m->pair, cst_pair(id[i], id[i + 1]));
            if (rank < best) {
                best = rank;
                at = i;
            }
        }
        if (best == CST_NO_INDEX) return n;
        id[at] = m->made[best];
        memmove(id + at + 1, id + at + 2, (n - at - 2) * sizeof *id);
        n--;
    }
}

START_TEST(merges_by_definition)
{
    static const size_t lengths[] = {0, 1, 2, 3, 4, 5, 7, 8, 16, 31, 100, 1000};
    cst_bpe b = {0};
    for (uint64_t seed = 0; seed < 40; seed++) {
        cst_merges m = {0};
        random_merges(&m, seed);
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
            uint32_t fast[1000], slow[1000];
            size_t n = lengths[l], k = n;
            for (size_t i = 0; i < n; i++) fast[i] = slow[i] = (uint32_t)(cst_random_u64(seed, 2, i) % (l % 2 ? LETTERS : 2));
            ck_ok(cst_bpe_merge(&b, &m, fast, &k));
            ck_assert_uint_eq(k, merge_slowly(&m, slow, n));
            if (k) ck_assert_mem_eq(fast, slow, k * sizeof *fast);
        }
        cst_merges_free(&m);
    }
    cst_bpe_free(&b);
}
END_TEST

/* ---- text ---- */

/* Pieces of text, with | between them. */
static const char *cut(const char *text, size_t n)
{
    static char out[256];
    cst_split *s = NULL;
    cst_pieces *p = NULL;
    const char *piece;
    size_t length, k = 0, total = 0;
    ck_ok(cst_split_create(&s));
    ck_ok(cst_pieces_create(&p, s));
    cst_pieces_start(p, text, n);
    for (;;) {
        ck_ok(cst_pieces_next(p, &piece, &length));
        if (!length) break;
        ck_assert_ptr_eq(piece, text + total); /* nothing is left out */
        total += length;
        k += (size_t)snprintf(out + k, sizeof out - k, "%s%.*s", k ? "|" : "", (int)length, piece);
    }
    ck_assert_uint_eq(total, n);
    out[k] = 0;
    cst_pieces_free(p);
    cst_split_free(s);
    return out;
}

START_TEST(pieces)
{
    ck_assert_str_eq(cut("", 0), "");
    ck_assert_str_eq(cut("Hello, I'm 42!  ok  ", 20), "Hello|,| I|'m| 42|!| | ok|  ");
    ck_assert_str_eq(cut("we'LL we'll x'd", 15), "we|'|LL| we|'ll| x|'d");
    ck_assert_str_eq(cut("a\n\n b", 5), "a|\n\n| b");
    ck_assert_str_eq(cut("e\xcc\x81", 3), "e|\xcc\x81"); /* a combining mark is no letter */
    /* Bytes that are no UTF-8 are pieces of their own: stray, cut off, overlong, a surrogate, beyond U+10FFFF. */
    ck_assert_str_eq(cut("ab\xff\xfe" "cd", 6), "ab|\xff\xfe|cd");
    ck_assert_str_eq(cut(" \x80 a\xe4\xb8", 6), " |\x80| a|\xe4\xb8");
    ck_assert_str_eq(cut("\xc0\xaf", 2), "\xc0\xaf");
    ck_assert_str_eq(cut("a\xed\xa0\x80" "b", 5), "a|\xed\xa0\x80|b");
    ck_assert_str_eq(cut("1\xf4\x90\x80\x80", 5), "1|\xf4\x90\x80\x80");
    ck_assert_str_eq(cut("\xf0\x9f\x98\x80\xf0\x9f\x98", 7), "\xf0\x9f\x98\x80|\xf0\x9f\x98");
    /* U+1FFFE is no character, but UTF-8; U+180E is no space; U+2EBF0 is a letter since Unicode 15.1. */
    ck_assert_str_eq(cut("\xf0\x9f\xbf\xbe!", 5), "\xf0\x9f\xbf\xbe!");
    ck_assert_str_eq(cut("\xe1\xa0\x8e!", 4), "\xe1\xa0\x8e!");
    ck_assert_str_eq(cut("a\xf0\xae\xaf\xb0", 5), "a\xf0\xae\xaf\xb0");
}
END_TEST

START_TEST(any_bytes_round_trip)
{
    cst_tokenizer *t = open_small();
    char text[512];
    for (int b = 0; b < 256; b++) text[b] = text[511 - b] = (char)b;
    check_round_trip(t, text, sizeof text, 0);
    for (uint64_t seed = 0; seed < 300; seed++) {
        size_t n = seed % sizeof text;
        for (size_t i = 0; i < n; i++) { /* half of it bytes that are likely in UTF-8 */
            uint64_t x = cst_random_u64(seed, 3, i);
            text[i] = x & 1 ? (char)(x >> 8) : "a 1\n\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80"[(x >> 8) % 13];
        }
        check_round_trip(t, text, n, 0);
    }
    cst_tokenizer_free(t);
}
END_TEST

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A word without an end must not take the square of its length: that would be 10^12 steps here. */
START_TEST(long_words)
{
    enum { N = 1000000 };
    static const char *const filling[] = {"a", " ", "th", "\xff", "!", "\n", "e n", "\xe4\xb8\xad", "ab1"};
    cst_tokenizer *t = open_small();
    char *text = malloc(N);
    double begin = seconds();
    for (size_t f = 0; f < sizeof filling / sizeof *filling; f++) {
        size_t n = strlen(filling[f]);
        for (size_t i = 0; i < N; i++) text[i] = filling[f][i % n];
        check_round_trip(t, text, N, 0);
    }
    for (size_t i = 0; i < N; i++) text[i] = (char)('a' + cst_random_u64(7, 4, i) % 26);
    check_round_trip(t, text, N, 0);
    ck_assert_double_lt(seconds() - begin, 100);
    free(text);
    cst_tokenizer_free(t);
}
END_TEST

START_TEST(decode_names)
{
    static const uint32_t ids[] = {2, 4 + 'A' - '!', 1, 0, 3}, wrong[] = {1500};
    cst_tokenizer *t = open_small();
    char *text;
    size_t n;
    ck_ok(cst_tokenizer_decode(t, &text, &n, ids, 5, 0));
    ck_assert_str_eq(text, "</s>A<pad><s><unk>");
    free(text);
    ck_ok(cst_tokenizer_decode(t, &text, &n, ids, 5, 1));
    ck_assert_str_eq(text, "A");
    free(text);
    ck_fails(cst_tokenizer_decode(t, &text, &n, wrong, 1, 0), CST_INPUT, "id 1500 at place 0: the tokenizer has 1500");
    cst_tokenizer_free(t);
}
END_TEST

/* ---- files ---- */

/* A folder with the fixture's files, of which one is replaced (NULL: none; text NULL: taken away). */
static const char *folder_with(const char *file, const char *text)
{
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"};
    static char dir[512], path[600];
    snprintf(dir, sizeof dir, "%s", test_file("changed"));
    ck_ok(cst_make_dirs(dir));
    for (int i = 0; i < 4; i++) {
        char from[64], *data;
        size_t n;
        snprintf(from, sizeof from, "tests/fixtures/tokenizer/%s", names[i]);
        ck_ok(cst_file_read(&data, &n, source_path(from)));
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        ck_ok(cst_file_write(path, data, n));
        free(data);
    }
    if (!file) return dir;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    if (text) ck_ok(cst_file_write(path, text, strlen(text)));
    else ck_assert_int_eq(unlink(path), 0);
    return dir;
}

static cst_status open_with(const char *file, const char *text)
{
    cst_tokenizer *t = NULL;
    cst_status st = cst_tokenizer_open(&t, folder_with(file, text));
    if (st != CST_OK) ck_assert_ptr_null(t);
    cst_tokenizer_free(t);
    return st;
}

START_TEST(wrong_merges)
{
    static const char *const bad[] = {"#version: 0.2\nt\n", "#version: 0.2\n h e\n", "#version: 0.2\nh  e\n",
                                      "#version: 0.2\nh e \n", "#version: 0.2\nh e x\n"};
    ck_fails(open_with("merges.txt", NULL), CST_IO, "merges.txt");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_fails(open_with("merges.txt", bad[i]), CST_INPUT, "merges.txt: line 2: two pieces with one space between them are wanted");
    ck_fails(open_with("merges.txt", "#version: 0.2\nh e\nh qqq\n"), CST_INPUT, "merges.txt: line 3: \"qqq\" is not in vocab.json");
    ck_fails(open_with("merges.txt", "qqq e\n"), CST_INPUT, "line 1: \"qqq\" is not in vocab.json");
    ck_fails(open_with("merges.txt", "h e\nq q\n"), CST_INPUT, "merges.txt: line 2 makes \"qq\", which is not in vocab.json");
    ck_fails(open_with("merges.txt", "h e\nt h\n\nh e\n"), CST_INPUT, "merges.txt: line 4: this merge was there before");
    /* As Hugging Face's reader, no version line is needed, wherever one stands it is none, and \r\n ends a line. */
    ck_ok(open_with("merges.txt", "h e\r\n#version: 9\nt h\r\n\n"));
    ck_ok(open_with("merges.txt", "h e"));
    ck_ok(open_with("merges.txt", ""));
}
END_TEST

START_TEST(wrong_vocab)
{
    ck_fails(open_with("vocab.json", NULL), CST_IO, "vocab.json");
    ck_fails(open_with("vocab.json", "[]"), CST_INPUT, "vocab.json: expected a JSON object");
    ck_fails(open_with("vocab.json", "{\"a\": 0, \"a\": 1}"), CST_INPUT, "vocab.json: line 1: duplicate");
    ck_fails(open_with("vocab.json", "{\"a\": 0, \"b\": 0}"), CST_INPUT, "both have id 0");
    ck_fails(open_with("vocab.json", "{\"a\": 0, \"b\": 2}"), CST_INPUT, "\"b\" has id 2, outside 0..1");
    ck_fails(open_with("vocab.json", "{\"a\": 0.5}"), CST_INPUT, "the id of \"a\" is no integer");
    ck_fails(open_with("vocab.json", "{}"), CST_INPUT, "no piece \"</s>\"");
    ck_fails(open_with("vocab.json", "{\"</s>\": 0, \"<pad>\": 1, \"a\": 2}"), CST_INPUT,
             "merges.txt: line 2: \"\xc4\xa0\" is not in vocab.json");
    ck_fails(open_with("vocab.json", "{\"</s>\": 0, \"\xe2\x82\xac\": 1, \"<pad>\": 2}"), CST_INPUT, "stands for no byte");
    ck_fails(open_with("vocab.json", ""), CST_INPUT, "vocab.json");
    ck_fails(cst_tokenizer_open(&(cst_tokenizer *){NULL}, test_file("nowhere")), CST_IO, "nowhere/vocab.json");
}
END_TEST

/* Tokens that "<s></s><pad>" gives with these settings. */
static size_t count_with(const char *file, const char *text)
{
    cst_tokenizer *t = NULL;
    uint32_t *ids;
    size_t n;
    ck_ok(cst_tokenizer_open(&t, folder_with(file, text)));
    ck_ok(cst_tokenizer_encode(t, &ids, &n, "<s></s><pad>", 12, CST_ENCODE_BOS));
    n = n * 10 + ids[0];
    free(ids);
    cst_tokenizer_free(t);
    return n;
}

START_TEST(settings)
{
    static const char config[] = "tokenizer_config.json";
    ck_assert_uint_eq(count_with(NULL, NULL), 62); /* </s>, the three characters of <s>, </s>, <pad> */
    ck_assert_uint_eq(count_with("special_tokens_map.json", NULL), 62);
    ck_assert_uint_eq(count_with("special_tokens_map.json", "{\"mask_token\": {\"content\": \"<s>\"}, \"sep_token\": null}"), 42);
    ck_assert_uint_eq(count_with(config, "{\"bos_token\": \"<s>\"}"), 40);
    ck_assert_uint_eq(count_with(config, "{\"additional_special_tokens\": [\"<s>\"]}"), 42);
    ck_assert_uint_eq(count_with(config, "{\"added_tokens_decoder\": {\"0\": {\"content\": \"<s>\"}}}"), 42);
    ck_fails(open_with(config, "{\"mask_token\": \"<mask>\"}"), CST_INPUT, "no piece \"<mask>\", which is \"mask_token\" in ");
    ck_fails(open_with(config, "{\"bos_token\": {\"text\": \"</s>\"}}"), CST_INPUT, "\"bos_token\" must be a name");
    ck_fails(open_with(config, "{\"bos_token\": \"\"}"), CST_INPUT, "\"bos_token\" must be a name");
    ck_fails(open_with(config, "{\"bos_token\": {\"content\": \"</s>\", \"lstrip\": true}}"), CST_UNSUPPORTED,
             "\"bos_token\" with \"lstrip\"");
    ck_fails(open_with(config, "{\"add_prefix_space\": true}"), CST_UNSUPPORTED, "add_prefix_space");
    ck_fails(open_with(config, "{\"add_prefix_space\": 1}"), CST_INPUT, "add_prefix_space");
    ck_fails(open_with(config, "[]"), CST_INPUT, "tokenizer_config.json: expected a JSON object");
    /* Without both files the settings are OPT's. */
    const char *dir = folder_with(config, NULL);
    char path[600];
    cst_tokenizer *t = NULL, *small = open_small();
    snprintf(path, sizeof path, "%s/special_tokens_map.json", dir);
    ck_assert_int_eq(unlink(path), 0);
    ck_ok(cst_tokenizer_open(&t, dir));
    ck_assert_uint_eq(cst_tokenizer_hash(t), cst_tokenizer_hash(small));
    cst_tokenizer_free(t);
    cst_tokenizer_free(small);
}
END_TEST

/* Settings are saved as they were read. */
START_TEST(settings_are_kept)
{
    static const char text[] = "{\"bos_token\": {\"content\": \"<s>\", \"lstrip\": false}, \"model_max_length\": 2048}";
    cst_tokenizer *t = NULL, *u = NULL;
    char *saved;
    size_t n;
    ck_ok(cst_tokenizer_open(&t, folder_with("tokenizer_config.json", text)));
    ck_ok(cst_tokenizer_save(t, test_file("kept")));
    ck_ok(cst_tokenizer_open(&u, test_file("kept")));
    ck_assert_uint_eq(cst_tokenizer_hash(t), cst_tokenizer_hash(u));
    ck_ok(cst_file_read(&saved, &n, test_file("kept/tokenizer_config.json")));
    ck_assert_ptr_nonnull(strstr(saved, "\"model_max_length\": 2048"));
    ck_assert_ptr_nonnull(strstr(saved, "\"pad_token\": \"<pad>\"")); /* from the other file */
    free(saved);
    cst_tokenizer_free(u);
    cst_tokenizer_free(t);
}
END_TEST

/* ---- ids kept on disk ---- */

static int warnings;

static void count_warnings(cst_log_level level, const char *line, void *user)
{
    (void)line;
    (void)user;
    warnings += level == CST_LOG_WARN;
}

/* The ids of `text` through the cache must be the tokenizer's; returns the warnings that came. */
static int through_cache(const cst_tokenizer *t, const char *text, const char *dir)
{
    uint32_t *a, *b;
    size_t n, m;
    warnings = 0;
    ck_ok(cst_token_cache_encode(&a, &n, t, text, strlen(text), dir));
    ck_ok(cst_tokenizer_encode(t, &b, &m, text, strlen(text), 0));
    ck_assert_uint_eq(n, m);
    ck_assert_mem_eq(a, b, n * sizeof *a);
    free(a);
    free(b);
    return warnings;
}

/* Files in dir; the path of one of them in path. */
static int files_in(const char *dir, char path[600])
{
    DIR *d = opendir(dir);
    int n = 0;
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, 600, "%s/%s", dir, e->d_name);
        n++;
    }
    closedir(d);
    return n;
}

START_TEST(ids_are_kept)
{
    static const char text[] = "The cat sat on the mat.\nIt was a mat of the best kind.\n";
    cst_tokenizer *t = open_small(), *bytes = NULL;
    char dir[512], path[600], *good, *bad;
    size_t n, m;
    snprintf(dir, sizeof dir, "%s", test_file("cache/of/ids"));
    cst_log_set(count_warnings, NULL, CST_LOG_WARN);
    ck_ok(cst_tokenizer_open(&bytes, "bytes"));
    ck_assert_int_eq(through_cache(t, text, NULL), 0);
    ck_assert_int_eq(through_cache(t, text, dir), 0);
    ck_assert_int_eq(files_in(dir, path), 1);
    ck_ok(cst_file_read(&good, &n, path));
    ck_assert_int_eq(through_cache(t, text, dir), 0);
    /* A change anywhere in the file, a file cut off or too long: it is written anew, whole. */
    for (size_t i = 0; i <= n + 8; i++) {
        bad = malloc(n + 8);
        memcpy(bad, good, n);
        memset(bad + n, 0, 8);
        if (i < n) bad[i] ^= 1;
        ck_ok(cst_file_write(path, bad, i < n ? n : i == n ? n / 2 : i == n + 1 ? 0 : i));
        free(bad);
        ck_assert_msg(through_cache(t, text, dir) == 1, "byte %zu of %zu", i, n);
        ck_ok(cst_file_read(&bad, &m, path));
        ck_assert_uint_eq(m, n);
        ck_assert_mem_eq(bad, good, n);
        free(bad);
    }
    /* The file is really read: another first id with the right checksum is believed, one outside the vocabulary isn't. */
    uint32_t *ids, first = 1499;
    for (; first <= 1500; first++) {
        memcpy(good + 48, &first, sizeof first);
        uint64_t sum = XXH3_64bits(good + 48, n - 48);
        memcpy(good + 40, &sum, sizeof sum);
        ck_ok(cst_file_write(path, good, n));
        warnings = 0;
        ck_ok(cst_token_cache_encode(&ids, &m, t, text, strlen(text), dir));
        ck_assert_int_eq(ids[0] == 1499, first == 1499);
        ck_assert_int_eq(warnings, first == 1500);
        free(ids);
    }
    ck_assert_int_eq(files_in(dir, path), 1);
    /* Another text and another tokenizer have files of their own. */
    ck_assert_int_eq(through_cache(bytes, text, dir), 0);
    ck_assert_int_eq(through_cache(t, "The cat", dir), 0);
    ck_assert_int_eq(through_cache(t, "", dir), 0);
    ck_assert_int_eq(files_in(dir, path), 4);
    /* Where nothing can be written there is a warning and no failure. */
    ck_assert_int_eq(through_cache(t, text, "/proc/none"), 1);
    cst_log_set(NULL, NULL, CST_LOG_ERROR);
    free(good);
    cst_tokenizer_free(bytes);
    cst_tokenizer_free(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tokenizer");
    TCase *c = tcase_create("tokenizer");
    tcase_set_timeout(c, 0);
    tcase_add_test(c, difficult_strings);
    tcase_add_test(c, learns_the_same);
    tcase_add_test(c, learns_what_there_is);
    tcase_add_test(c, merges_by_definition);
    tcase_add_test(c, pieces);
    tcase_add_test(c, any_bytes_round_trip);
    tcase_add_test(c, long_words);
    tcase_add_test(c, decode_names);
    tcase_add_test(c, wrong_merges);
    tcase_add_test(c, wrong_vocab);
    tcase_add_test(c, settings);
    tcase_add_test(c, settings_are_kept);
    tcase_add_test(c, ids_are_kept);
    suite_add_tcase(s, c);
    return test_run(s);
}
