/* Text: reading a split, the byte tokenizer and its files (merges: check_tokenizer.c), batches; and that data/ is what it says it is. */
#include "testing.h"

#include <sys/wait.h>

#include "base/file.h"
#include "text/batches.h"
#include "text/tokenizer.h"
#include "text/utf8.h"
#include "text/wikitext.h"

/* ---- a split ---- */

START_TEST(split_paths)
{
    char *path = NULL;
    ck_ok(cst_text_split_path(&path, source_path("data/sample"), "valid"));
    ck_assert_ptr_nonnull(strstr(path, "data/sample/wiki.valid.raw"));
    free(path);
    ck_fails(cst_text_split_path(&path, source_path("data/sample"), "dev"), CST_USAGE, "\"dev\"");
    ck_fails(cst_text_split_path(&path, test_dir(), "train"), CST_IO, "wiki.train.raw: no such file");
}
END_TEST

START_TEST(load_as_it_is)
{
    static const char bytes[] = " \n = A = \n\0\xff \r\n";
    char *text = NULL;
    size_t n = 0;
    ck_ok(cst_file_write(test_file("plain"), bytes, sizeof bytes - 1));
    ck_ok(cst_text_load(&text, &n, test_file("plain")));
    ck_assert_uint_eq(n, sizeof bytes - 1);
    ck_assert_mem_eq(text, bytes, n + 1);
    free(text);
    ck_ok(cst_file_write(test_file("empty"), "", 0));
    ck_fails(cst_text_load(&text, &n, test_file("empty")), CST_INPUT, "empty: empty corpus");
    ck_fails(cst_text_load(&text, &n, test_file("nowhere")), CST_IO, "nowhere");
}
END_TEST

/* Is [p, p + n) valid UTF-8 without control characters? Overlong forms are let through: enough for a typo. */
static int readable(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        int more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : -1;
        if (c < 0x20 || c == 0x7f || more < 0) return 0;
        while (more-- > 0)
            if (++i >= n || ((unsigned char)p[i] & 0xc0) != 0x80) return 0;
    }
    return 1;
}

/* Every line begins with a space and ends in " \n"; a heading stands between empty lines. Returns titles. */
static int check_format(const char *text, size_t n)
{
    int titles = 0, empty_before = 0, want_empty = 0;
    for (const char *p = text, *end = text + n; p < end;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        ck_assert_ptr_nonnull(stop);
        size_t length = (size_t)(stop - p);
        ck_assert_msg(length >= 1 && p[0] == ' ' && stop[-1] == ' ', "line \"%.*s\"", (int)length, p);
        ck_assert_msg(readable(p, length), "line \"%.*s\"", (int)length, p);
        int empty = length == 1, heading = length > 4 && p[1] == '=';
        ck_assert_msg(!want_empty || empty, "no empty line before \"%.*s\"", (int)length, p);
        if (heading) {
            ck_assert_msg(empty_before && stop[-2] == '=', "heading \"%.*s\"", (int)length, p);
            titles += p[3] != '=';
        }
        empty_before = empty;
        want_empty = heading;
        p = stop + 1;
    }
    return titles;
}

START_TEST(sample_has_the_format)
{
    static const char *const split[] = {"train", "valid", "test"};
    size_t total = 0;
    int articles = 0, beyond_ascii = 0;
    for (int i = 0; i < 3; i++) {
        char *path = NULL, *text = NULL;
        size_t n;
        ck_ok(cst_text_split_path(&path, source_path("data/sample"), split[i]));
        ck_ok(cst_text_load(&text, &n, path));
        ck_assert_uint_ge(n, 6000);
        articles += check_format(text, n);
        ck_assert_ptr_nonnull(strstr(text, " @.@ "));
        for (size_t k = 0; k < n; k++) beyond_ascii += (unsigned char)text[k] >= 0xc0;
        total += n;
        free(text);
        free(path);
    }
    ck_assert_uint_ge(total, 60000);
    ck_assert_int_ge(articles, 20);
    ck_assert_int_ge(beyond_ascii, 20);
}
END_TEST

/* ---- tokenizer ---- */

static void check_round_trip(const cst_tokenizer *t, const char *text, size_t n)
{
    uint32_t *ids = NULL;
    char *back = NULL;
    size_t count, m;
    ck_ok(cst_tokenizer_encode(t, &ids, &count, text, n, 0));
    ck_ok(cst_tokenizer_decode(t, &back, &m, ids, count, 0));
    ck_assert_uint_eq(m, n);
    if (n) ck_assert_mem_eq(back, text, n);
    ck_assert_int_eq(back[m], 0);
    free(back);
    free(ids);
}

START_TEST(bytes_round_trip)
{
    cst_tokenizer *t = NULL;
    uint32_t *ids = NULL;
    char all[256];
    size_t count;
    for (int b = 0; b < 256; b++) all[b] = (char)b;
    ck_ok(cst_tokenizer_open(&t, "bytes"));
    ck_assert_uint_eq(cst_tokenizer_size(t), 260);
    ck_assert_uint_eq(cst_tokenizer_eos(t), 2);
    ck_ok(cst_tokenizer_encode(t, &ids, &count, all, sizeof all, 0));
    ck_assert_uint_eq(count, 256);
    for (uint32_t b = 0; b < 256; b++) ck_assert_uint_eq(ids[b], 4 + b);
    free(ids);
    check_round_trip(t, all, sizeof all);
    check_round_trip(t, "", 0);
    check_round_trip(t, "</s> caf\xc3\xa9 \xe4\xb8 \xff\xfe", 16); /* a special token, cut and invalid UTF-8 */
    ck_ok(cst_tokenizer_encode(t, &ids, &count, "</s>", 4, CST_ENCODE_PLAIN));
    ck_assert_uint_eq(count, 4);
    free(ids);
    ck_ok(cst_tokenizer_encode(t, &ids, &count, "</s>", 4, CST_ENCODE_BOS));
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(ids[0], 2);
    ck_assert_uint_eq(ids[1], 2);
    free(ids);
    cst_tokenizer_free(t);
    cst_tokenizer_free(NULL);
}
END_TEST

START_TEST(decode_specials)
{
    static const uint32_t ids[] = {2, 4 + 'H', 4 + 'i', 0, 1, 3}, out_of_range[] = {5, 260};
    cst_tokenizer *t = NULL;
    char *text = NULL;
    size_t n;
    ck_ok(cst_tokenizer_open(&t, "bytes"));
    ck_ok(cst_tokenizer_decode(t, &text, &n, ids, 6, 0));
    ck_assert_str_eq(text, "</s>Hi<s><pad><unk>");
    free(text);
    ck_ok(cst_tokenizer_decode(t, &text, &n, ids, 6, 1));
    ck_assert_str_eq(text, "Hi");
    ck_assert_uint_eq(n, 2);
    free(text);
    ck_fails(cst_tokenizer_decode(t, &text, &n, out_of_range, 2, 0), CST_INPUT, "id 260 at place 1");
    cst_tokenizer_free(t);
}
END_TEST

START_TEST(save_and_open)
{
    static const char *const config[] = {"saved/tokenizer_config.json", "saved/special_tokens_map.json"};
    cst_tokenizer *t = NULL, *u = NULL;
    char dir[512], all[256], *text;
    uint32_t *a, *b;
    size_t n, m;
    for (int i = 0; i < 256; i++) all[i] = (char)(255 - i);
    snprintf(dir, sizeof dir, "%s", test_file("saved"));
    ck_ok(cst_tokenizer_open(&t, "bytes"));
    ck_ok(cst_tokenizer_save(t, dir));
    ck_ok(cst_tokenizer_open(&u, dir));
    ck_assert_uint_eq(cst_tokenizer_size(u), 260);
    ck_ok(cst_tokenizer_encode(t, &a, &n, all, 256, 0));
    ck_ok(cst_tokenizer_encode(u, &b, &m, all, 256, 0));
    ck_assert_uint_eq(n, m);
    ck_assert_mem_eq(a, b, n * sizeof *a);
    check_round_trip(u, all, 256);
    free(a);
    free(b);
    ck_ok(cst_file_read(&text, &n, test_file("saved/merges.txt")));
    ck_assert_str_eq(text, "#version: 0.2\n");
    free(text);
    /* Known characters of GPT-2's alphabet: space is U+0120, newline U+010A, 0xad U+0143, and 0xff itself. */
    ck_ok(cst_file_read(&text, &n, test_file("saved/vocab.json")));
    ck_assert_ptr_nonnull(strstr(text, "\"\xc4\xa0\": 36"));
    ck_assert_ptr_nonnull(strstr(text, "\"\xc4\x8a\": 14"));
    ck_assert_ptr_nonnull(strstr(text, "\"\xc5\x83\": 177"));
    ck_assert_ptr_nonnull(strstr(text, "\"\xc3\xbf\": 259"));
    ck_assert_ptr_nonnull(strstr(text, "\"</s>\": 2"));
    free(text);
    for (int i = 0; i < 2; i++) {
        ck_ok(cst_file_read(&text, &n, test_file(config[i])));
        ck_assert_ptr_nonnull(strstr(text, "\"bos_token\": \"</s>\""));
        free(text);
    }
    cst_tokenizer_free(u);
    cst_tokenizer_free(t);
}
END_TEST

/* Save a good tokenizer, replace `from` by `to` in its vocab.json, and give the outcome of opening it. */
static cst_status open_edited(const char *from, const char *to)
{
    cst_tokenizer *t = NULL;
    char dir[512], vocab[600], *text, edited[16384];
    size_t n;
    snprintf(dir, sizeof dir, "%s", test_file("edited"));
    snprintf(vocab, sizeof vocab, "%s/vocab.json", dir);
    ck_ok(cst_tokenizer_open(&t, "bytes"));
    ck_ok(cst_tokenizer_save(t, dir));
    cst_tokenizer_free(t);
    ck_ok(cst_file_read(&text, &n, vocab));
    char *at = strstr(text, from);
    ck_assert_msg(at != NULL, "no %s in vocab.json", from);
    int k = snprintf(edited, sizeof edited, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    free(text);
    ck_ok(cst_file_write(vocab, edited, (size_t)k));
    t = NULL;
    cst_status st = cst_tokenizer_open(&t, dir);
    if (st != CST_OK) ck_assert_ptr_null(t);
    cst_tokenizer_free(t);
    return st;
}

START_TEST(bad_vocab)
{
    ck_fails(open_edited("\"A\": 69", "\"A\": 70"), CST_INPUT, "both have id 70");
    ck_fails(open_edited("\"A\": 69", "\"A\": 260"), CST_INPUT, "vocab.json: \"A\" has id 260, outside 0..259");
    ck_fails(open_edited("\"A\": 69", "\"A\": -1"), CST_INPUT, "id -1");
    ck_fails(open_edited("\"A\": 69", "\"A\": \"x\""), CST_INPUT, "no integer");
    ck_fails(open_edited("\"A\": 69", "\"AA\": 69"), CST_INPUT, "vocab.json: no piece for byte 0x41");
    ck_fails(open_edited("\"</s>\": 2", "\"<end>\": 2"), CST_INPUT, "vocab.json: no piece \"</s>\"");
    ck_fails(open_edited("\"A\": 69", "\"A\": 69, \"\xe2\x82\xac\": 260"), CST_INPUT, "stands for no byte");
    ck_fails(open_edited("\"A\": 69", "\"A\": 69, \"\xc5\x84\": 260"), CST_INPUT, "stands for no byte");
    ck_fails(open_edited("\"A\": 69", "\"A\": 69, \"\": 260"), CST_INPUT, "a piece of 0 bytes");
    ck_fails(open_edited("\"A\": 69", "\"A\" 69"), CST_INPUT, "vocab.json: line");
    ck_ok(open_edited("\"A\": 69", "\"A\": 69, \"\xc4\xa0the\": 260")); /* a longer piece that no merge makes */
}
END_TEST

/* ---- batches ---- */

enum { SEQ = 7, BATCH = 4, BLOCKS = 30, TOKENS = BLOCKS * SEQ + 3 };

/* ids[i] = i, so that a batch shows where it comes from. */
static const uint32_t *counting(void)
{
    static uint32_t ids[TOKENS];
    for (uint32_t i = 0; i < TOKENS; i++) ids[i] = i;
    return ids;
}

static cst_batches *new_batches(int shuffle, int keep_last, uint64_t seed)
{
    cst_batches *b = NULL;
    cst_batches_config c = {.seq = SEQ, .batch = BATCH, .shuffle = shuffle, .keep_last = keep_last, .seed = seed};
    ck_ok(cst_batches_create(&b, counting(), TOKENS, &c));
    ck_assert_uint_eq(cst_batches_blocks(b), BLOCKS);
    ck_assert_uint_eq(cst_batches_count(b), keep_last ? 8 : 7);
    return b;
}

/* Batch `index`, with -1 behind its last row; checks that rows are whole blocks. Returns rows. */
static int get(cst_batches *b, uint64_t index, int32_t ids[BATCH * SEQ])
{
    int rows = -1;
    for (int i = 0; i < BATCH * SEQ; i++) ids[i] = -1;
    cst_batches_get(b, index, ids, &rows);
    ck_assert(rows >= 1 && rows <= BATCH);
    for (int r = 0; r < BATCH; r++)
        for (int i = 0; i < SEQ; i++) ck_assert_int_eq(ids[r * SEQ + i], r < rows ? ids[r * SEQ] + i : -1);
    for (int r = 0; r < rows; r++) ck_assert(ids[r * SEQ] % SEQ == 0 && ids[r * SEQ] < BLOCKS * SEQ);
    return rows;
}

START_TEST(in_order)
{
    int32_t ids[BATCH * SEQ];
    cst_batches *b = new_batches(0, 1, 5);
    for (uint64_t i = 0; i < 20; i++) {
        int last = i % 8 == 7;
        ck_assert_int_eq(get(b, i, ids), last ? BLOCKS % BATCH : BATCH);
        ck_assert_int_eq(ids[0], (int)(i % 8) * BATCH * SEQ);
        ck_assert_int_eq(ids[SEQ], ids[0] + SEQ);
    }
    cst_batches_free(b);
}
END_TEST

/* Every block comes at most once an epoch; once exactly if the last batch is kept. */
START_TEST(covers_each_epoch)
{
    for (int keep = 0; keep <= 1; keep++) {
        int32_t ids[BATCH * SEQ];
        cst_batches *b = new_batches(1, keep, 11);
        uint64_t count = cst_batches_count(b);
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            int seen[BLOCKS] = {0}, total = 0;
            for (uint64_t i = 0; i < count; i++) {
                int rows = get(b, epoch * count + i, ids);
                for (int r = 0; r < rows; r++) ck_assert_int_eq(seen[ids[r * SEQ] / SEQ]++, 0);
                total += rows;
            }
            ck_assert_int_eq(total, keep ? BLOCKS : BLOCKS / BATCH * BATCH);
        }
        cst_batches_free(b);
    }
}
END_TEST

/* A batch depends on seed and index alone, in whatever order batches are asked for. */
START_TEST(pure_function_of_index)
{
    enum { N = 28 };
    int32_t forward[N][BATCH * SEQ], again[BATCH * SEQ];
    int same_as_before = 0, same_as_other = 0, in_text_order = 1;
    cst_batches *b = new_batches(1, 0, 1), *c = new_batches(1, 0, 1), *other = new_batches(1, 0, 2);
    for (int i = 0; i < N; i++) get(b, (uint64_t)i, forward[i]);
    for (int i = N - 1; i >= 0; i -= 3) {
        get(c, (uint64_t)i, again);
        ck_assert_mem_eq(again, forward[i], sizeof again);
    }
    for (int i = 0; i < N; i++) {
        get(b, (uint64_t)i, again);
        ck_assert_mem_eq(again, forward[i], sizeof again);
        get(other, (uint64_t)i, again);
        same_as_other += !memcmp(again, forward[i], sizeof again);
        if (i >= 7) same_as_before += !memcmp(forward[i], forward[i - 7], sizeof again);
        if (i < 7) in_text_order &= forward[i][0] == i * BATCH * SEQ;
    }
    ck_assert_int_eq(same_as_other, 0);
    ck_assert_int_eq(same_as_before, 0);
    ck_assert(!in_text_order);
    get(b, UINT64_MAX, again); /* an index far away is an epoch far away, no overflow */
    cst_batches_free(b);
    cst_batches_free(c);
    cst_batches_free(other);
    cst_batches_free(NULL);
}
END_TEST

START_TEST(batches_refuse)
{
    uint32_t ids[16] = {0};
    cst_batches *b = NULL;
    cst_batches_config c = {.seq = 8, .batch = 2};
    ck_fails(cst_batches_create(&b, ids, 15, &c), CST_INPUT, "has 15 tokens, 16 are needed");
    c.keep_last = 1;
    ck_fails(cst_batches_create(&b, ids, 7, &c), CST_INPUT, "has 7 tokens, 8 are needed");
    c.seq = 0;
    ck_fails(cst_batches_create(&b, ids, 16, &c), CST_USAGE, "sequence length 0");
    c.seq = 8;
    c.batch = -1;
    ck_fails(cst_batches_create(&b, ids, 16, &c), CST_USAGE, "batch size -1");
    c.batch = 2;
    c.vocab = 260;
    ids[9] = 260;
    ck_fails(cst_batches_create(&b, ids, 16, &c), CST_INPUT, "token 9 has id 260, outside the vocabulary of 260");
    c.vocab = 0;
    ids[9] = UINT32_C(1) << 31; /* no int32 can hold it */
    ck_fails(cst_batches_create(&b, ids, 16, &c), CST_INPUT, "token 9");
    ck_assert_ptr_null(b);
    ids[9] = 259;
    c.vocab = 260;
    ck_ok(cst_batches_create(&b, ids, 16, &c));
    cst_batches_free(b);
    c.shuffle = 1;
    ck_ok(cst_batches_create(&b, ids, 8, &c)); /* one block, one short batch */
    ck_assert_uint_eq(cst_batches_count(b), 1);
    cst_batches_free(b);
}
END_TEST

/* ---- data/fetch: what can be seen of it without a network ---- */

static int run_fetch(const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "sh '%s' %s >/dev/null 2>&1", source_path("data/fetch"), arguments);
    int r = system(command);
    return WIFEXITED(r) ? WEXITSTATUS(r) : -1;
}

START_TEST(fetch_arguments)
{
    ck_assert_int_eq(run_fetch("--help"), 0);
    ck_assert_int_eq(run_fetch("--bogus"), 2);
    ck_assert_int_eq(run_fetch("wikitext-3"), 2);
    ck_assert_int_eq(run_fetch("--dir"), 2);
}
END_TEST

/* A row keeps its newline, a blank line is an empty row, between rows stand two newlines. */
START_TEST(rows_joined_for_perplexity)
{
    static const char *const cases[][2] = {
        {" \n = A = \n \n b c \n", "\n\n = A = \n\n\n\n\n b c \n"},
        {"a", "a"},
        {"a\n", "a\n"},
        {"\n\n", "\n\n"},
        {"a\n\t \r\n b", "a\n\n\n\n\n b"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *out;
        size_t n;
        ck_ok(cst_text_join_rows(&out, &n, cases[i][0], strlen(cases[i][0])));
        ck_assert_str_eq(out, cases[i][1]);
        ck_assert_uint_eq(n, strlen(cases[i][1]));
        free(out);
    }
    char *out;
    size_t n;
    ck_ok(cst_text_join_rows(&out, &n, "\0\nx", 3)); /* a byte like others */
    ck_assert(n == 5 && !memcmp(out, "\0\n\n\nx", 5));
    free(out);
}
END_TEST

#define BAD "\xef\xbf\xbd"

/* Bytes and what Python's bytes.decode("utf-8", "replace") makes of them. */
static const char *const utf8_cases[][2] = {
    {"plain", "plain"},
    {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80!", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80!"},
    {"\xff\xfe" "a", BAD BAD "a"},
    {"a\xe2\x82", "a" BAD},
    {"\xe2\x82\xe2\x82\xac", BAD "\xe2\x82\xac"},
    {"\xf0\x9f\x98" "a\xf0\x9f", BAD "a" BAD},
    {"\xc0\xaf\xe0\x80\xaf", BAD BAD BAD BAD BAD},         /* longer than need be */
    {"\xed\xa0\x80", BAD BAD BAD},                           /* a surrogate */
    {"\xf4\x90\x80\x80\xf4\x8f\xbf\xbf", BAD BAD BAD BAD "\xf4\x8f\xbf\xbf"}, /* past U+10FFFF; U+10FFFF */
    {"\xf0\x9f\xf0\x9f\x98\x80\xc3", BAD "\xf0\x9f\x98\x80" BAD},
};

START_TEST(whole_characters)
{
    for (size_t i = 0; i < sizeof utf8_cases / sizeof *utf8_cases; i++) {
        char out[200];
        cst_utf8 u = {.n = 0};
        size_t n = cst_utf8_next(&u, out, utf8_cases[i][0], strlen(utf8_cases[i][0]));
        n += cst_utf8_next(&u, out + n, NULL, 0);
        out[n] = 0;
        ck_assert_msg(!strcmp(out, utf8_cases[i][1]), "case %d: \"%s\"", (int)i, out);
    }
}
END_TEST

/* Cut at two places each: the same text, and never half of a character at the end of what came out. */
START_TEST(characters_in_any_pieces)
{
    for (size_t i = 0; i < sizeof utf8_cases / sizeof *utf8_cases; i++) {
        const char *in = utf8_cases[i][0];
        size_t length = strlen(in);
        for (size_t a = 0; a <= length; a++)
            for (size_t b = a; b <= length; b++) {
                char out[200];
                const size_t cuts[] = {0, a, b, length};
                size_t n = 0;
                cst_utf8 u = {.n = 0};
                for (int k = 0; k < 3; k++) {
                    n += cst_utf8_next(&u, out + n, in + cuts[k], cuts[k + 1] - cuts[k]);
                    for (size_t p = 0; p < n; ) {
                        int c = cst_utf8_character(out + p, out + n, NULL);
                        ck_assert_msg(c > 0, "case %d, cut at %d and %d", (int)i, (int)a, (int)b);
                        p += (size_t)c;
                    }
                }
                n += cst_utf8_next(&u, out + n, NULL, 0);
                out[n] = 0;
                ck_assert_msg(!strcmp(out, utf8_cases[i][1]), "case %d, cut at %d and %d: \"%s\"", (int)i, (int)a, (int)b, out);
            }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("text");
    TCase *c = tcase_create("text");
    tcase_add_test(c, split_paths);
    tcase_add_test(c, load_as_it_is);
    tcase_add_test(c, sample_has_the_format);
    tcase_add_test(c, rows_joined_for_perplexity);
    tcase_add_test(c, whole_characters);
    tcase_add_test(c, characters_in_any_pieces);
    tcase_add_test(c, bytes_round_trip);
    tcase_add_test(c, decode_specials);
    tcase_add_test(c, save_and_open);
    tcase_add_test(c, bad_vocab);
    tcase_add_test(c, in_order);
    tcase_add_test(c, covers_each_epoch);
    tcase_add_test(c, pure_function_of_index);
    tcase_add_test(c, batches_refuse);
    tcase_add_test(c, fetch_arguments);
    suite_add_tcase(s, c);
    return test_run(s);
}
