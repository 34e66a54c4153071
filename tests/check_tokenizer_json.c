/* tokenizer.json in place of vocab.json and merges.txt: the same tokenizer, in all forms that Hugging Face's tokenizers write; what
 * would make other ids is refused by name. */
#include "testing.h"

#include <jansson.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer.h"

static json_t *fixture(void)
{
    json_t *j = NULL;
    ck_ok(cst_json_load(&j, source_path("tests/fixtures/tokenizer-json/tokenizer.json"), JSON_OBJECT));
    return j;
}

/* A folder with this tokenizer.json and nothing else. Takes j over. */
static const char *folder_of(json_t *j)
{
    const char *dir = test_file("folder");
    ck_ok(cst_make_dirs(dir));
    ck_ok(cst_json_save(j, test_path(dir, "tokenizer.json")));
    json_decref(j);
    return dir;
}

/* The fixture's, with one member replaced by JSON text: "" at the top, else of that member. */
static const char *folder_with(const char *part, const char *member, const char *value)
{
    json_t *j = fixture(), *v = json_loads(value, JSON_DECODE_ANY, NULL);
    ck_assert_msg(v != NULL, "%s", value);
    ck_assert_int_eq(json_object_set_new(*part ? json_object_get(j, part) : j, member, v), 0);
    return folder_of(j);
}

static cst_status open_with(const char *part, const char *member, const char *value)
{
    cst_tokenizer *t = NULL;
    cst_status st = cst_tokenizer_open(&t, folder_with(part, member, value));
    if (st != CST_OK) ck_assert_ptr_null(t);
    cst_tokenizer_free(t);
    return st;
}

static uint64_t hash_of(const char *dir)
{
    cst_tokenizer *t = NULL;
    ck_ok(cst_tokenizer_open(&t, dir));
    uint64_t h = cst_tokenizer_hash(t); /* pieces, ids, merges, special tokens */
    cst_tokenizer_free(t);
    return h;
}

static uint64_t hash_of_files(void)
{
    return hash_of(source_path("tests/fixtures/tokenizer"));
}

START_TEST(as_transformers_saves_it)
{
    json_t *rows = json_load_file(source_path("tests/fixtures/tokenizer/strings.json"), JSON_ALLOW_NUL, NULL), *row;
    cst_tokenizer *t = NULL;
    size_t i, k;
    ck_assert_uint_eq(hash_of(source_path("tests/fixtures/tokenizer-json")), hash_of_files());
    ck_ok(cst_tokenizer_open(&t, source_path("tests/fixtures/tokenizer-json")));
    ck_assert_uint_ge(json_array_size(rows), 200);
    json_array_foreach(rows, i, row)
    {
        const json_t *text = json_object_get(row, "text"), *want = json_object_get(row, "ids");
        uint32_t *ids;
        size_t count;
        ck_ok(cst_tokenizer_encode(t, &ids, &count, json_string_value(text), json_string_length(text), 0));
        ck_assert_uint_eq(count, json_array_size(want));
        for (k = 0; k < count; k++) ck_assert_int_eq(ids[k], json_integer_value(json_array_get(want, k)));
        free(ids);
    }
    cst_tokenizer_free(t);
    json_decref(rows);
}
END_TEST

/* Merges as strings, as before tokenizers 0.20; no file of settings; no type of the model, as in GPT-2's own. */
START_TEST(older_forms)
{
    json_t *j = fixture(), *model = json_object_get(j, "model"), *lines = json_array(), *pair;
    size_t i;
    json_array_foreach(json_object_get(model, "merges"), i, pair)
        json_array_append_new(
            lines, json_sprintf("%s %s", json_string_value(json_array_get(pair, 0)), json_string_value(json_array_get(pair, 1))));
    ck_assert_uint_eq(json_array_size(lines), 1240);
    json_object_set_new(model, "merges", lines);
    ck_assert_uint_eq(hash_of(folder_of(json_incref(j))), hash_of_files());
    json_object_del(model, "type");
    ck_assert_uint_eq(hash_of(folder_of(j)), hash_of_files());
    ck_ok(open_with("", "added_tokens", "null"));
}
END_TEST

/* vocab.json and merges.txt are what is used where both are there; one of them alone is no tokenizer. */
START_TEST(other_files_come_first)
{
    const char *dir = folder_with("", "normalizer", "{\"type\": \"NFC\"}");
    char *text;
    size_t n;
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "merges.txt" : "vocab.json";
        cst_tokenizer *t = NULL;
        ck_fails(cst_tokenizer_open(&t, dir), CST_UNSUPPORTED, "normalizer");
        ck_ok(cst_file_read(&text, &n, test_path(source_path("tests/fixtures/tokenizer"), name)));
        ck_ok(cst_file_write(test_path(dir, name), text, n));
        free(text);
    }
    ck_assert_uint_eq(hash_of(dir), hash_of_files());
    ck_assert_int_eq(unlink(test_path(dir, "merges.txt")) | unlink(test_path(dir, "vocab.json")), 0);
}
END_TEST

/* Added tokens may stand behind the model's vocabulary; their names in a text are one id, also after saving. */
START_TEST(added_tokens)
{
    static const char added[] =
        "[{\"id\": 2, \"content\": \"</s>\"}, {\"id\": 1500, \"content\": \"<mask>\", \"special\": true, \"lstrip\": false}]";
    cst_tokenizer *t = NULL;
    uint32_t *ids;
    size_t count;
    const char *dir = folder_with("", "added_tokens", added);
    ck_ok(cst_tokenizer_open(&t, dir));
    ck_assert_uint_eq(cst_tokenizer_size(t), 1501);
    ck_ok(cst_tokenizer_encode(t, &ids, &count, "<mask></s>", 10, 0));
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(ids[0], 1500);
    ck_assert_uint_eq(ids[1], 2);
    free(ids);
    ck_ok(cst_tokenizer_save(t, test_file("saved")));
    ck_assert_uint_eq(hash_of(test_file("saved")), cst_tokenizer_hash(t));
    cst_tokenizer_free(t);
    ck_fails(open_with("", "added_tokens", "[{\"id\": 3, \"content\": \"</s>\"}]"), CST_INPUT,
             "\"</s>\" has id 3, in the vocabulary another");
    ck_fails(open_with("", "added_tokens", "[{\"id\": 1600, \"content\": \"<x>\"}]"), CST_INPUT, "\"<x>\" has id 1600, outside 0..1500");
    ck_fails(open_with("", "added_tokens", "[{\"content\": \"<x>\"}]"), CST_INPUT, "\"added_tokens\", place 0: an \"id\"");
    ck_fails(open_with("", "added_tokens", "[7]"), CST_INPUT, "\"added_tokens\", place 0");
    ck_fails(open_with("", "added_tokens", "{}"), CST_INPUT, "\"added_tokens\" must be an array");
    ck_fails(open_with("", "added_tokens", "[{\"id\": 2, \"content\": \"</s>\", \"rstrip\": true}]"), CST_UNSUPPORTED,
             "\"added_tokens\" with \"rstrip\"");
}
END_TEST

START_TEST(other_tokenizers_are_refused)
{
    static const struct {
        const char *part, *member, *value, *words;
    } cases[] = {
        {"", "model", "{\"type\": \"Unigram\", \"vocab\": []}",
         "tokenizer.json: the type of \"model\" is \"Unigram\"; OPT's tokenizers have \"BPE\""},
        {"model", "type", "\"WordPiece\"", "\"model\" is \"WordPiece\""},
        {"", "model", "null", "\"model\" is \"null\""},
        {"", "model", "{}", "\"model\" is \"\""},
        {"", "normalizer", "{\"type\": \"Sequence\", \"normalizers\": []}",
         "\"normalizer\" is \"Sequence\"; OPT's tokenizers have \"null\""},
        {"", "pre_tokenizer", "{\"type\": \"Metaspace\"}", "\"pre_tokenizer\" is \"Metaspace\"; OPT's tokenizers have \"ByteLevel\""},
        {"", "pre_tokenizer", "null", "\"pre_tokenizer\" is \"null\""},
        {"", "decoder", "{\"type\": \"WordPiece\"}", "\"decoder\" is \"WordPiece\""},
        {"pre_tokenizer", "add_prefix_space", "true", "\"add_prefix_space\" of \"pre_tokenizer\" is true"},
        {"pre_tokenizer", "use_regex", "false", "\"use_regex\" of \"pre_tokenizer\" is false"},
        {"model", "byte_fallback", "true", "\"byte_fallback\" of \"model\" is true"},
        {"model", "ignore_merges", "true", "\"ignore_merges\" of \"model\" is true"},
        {"model", "dropout", "0.1", "\"dropout\" of \"model\" is 0.1"},
        {"model", "continuing_subword_prefix", "\"##\"", "\"continuing_subword_prefix\" of \"model\" is \"##\""},
        {"model", "end_of_word_suffix", "\"</w>\"", "\"end_of_word_suffix\" of \"model\" is \"</w>\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_fails(open_with(cases[i].part, cases[i].member, cases[i].value), CST_UNSUPPORTED, cases[i].words);
}
END_TEST

START_TEST(wrong_files)
{
    static const struct {
        const char *part, *member, *value, *words;
    } cases[] = {
        {"model", "merges", "{}", "tokenizer.json: \"merges\" must be an array"},
        {"model", "vocab", "[]", "tokenizer.json: \"vocab\" must be an object"},
        {"model", "vocab", "{}", "tokenizer.json: "},
        {"model", "vocab", "{\"<pad>\": 1, \"</s>\": 2, \"a\": 0}", "tokenizer.json: merge 1: \"\xc4\xa0\" is not in its vocabulary"},
        {"model", "vocab", "{\"<pad>\": 1, \"</s>\": 2, \"a\": 2}", "both have id 2"},
        {"model", "vocab", "{\"<pad>\": 1, \"</s>\": 2, \"a\": null}", "the id of \"a\" is no integer"},
        {"model", "merges", "[[\"h\", \"e\"], 5]", "tokenizer.json: merge 2: a string or an array of two strings"},
        {"model", "merges", "[[\"h\"]]", "merge 1: a string or an array of two strings"},
        {"model", "merges", "[[\"h\", 1]]", "merge 1: a string or an array of two strings"},
        {"model", "merges", "[\"he\"]", "merge 1: two pieces with one space"},
        {"model", "merges", "[[\"h\", \"\"]]", "merge 1: two pieces with one space"},
        {"model", "merges", "[\"\"]", "merge 1: two pieces with one space"},
        {"model", "merges", "[[\"h\", \"e e\"]]", "merge 1: two pieces with one space"},
        {"model", "merges", "[\"h e\", [\"h\", \"e\"]]", "merge 2: this merge was there before"},
        {"model", "merges", "[[\"q\", \"q\"]]", "merge 1 makes \"qq\", which is not in its vocabulary"},
        {"model", "ignore_merges", "0", "\"ignore_merges\" must be true or false"},
        {"model", "dropout", "\"no\"", "\"dropout\" must be a number"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_fails(open_with(cases[i].part, cases[i].member, cases[i].value), CST_INPUT, cases[i].words);
    cst_tokenizer *t = NULL;
    ck_ok(cst_file_write(test_file("folder/tokenizer.json"), "[]", 2));
    ck_fails(cst_tokenizer_open(&t, test_file("folder")), CST_INPUT, "tokenizer.json: expected a JSON object");
    ck_ok(cst_file_write(test_file("folder/tokenizer.json"), "{\"model\":", 9));
    ck_fails(cst_tokenizer_open(&t, test_file("folder")), CST_INPUT, "tokenizer.json: line 1");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tokenizer_json");
    TCase *c = tcase_create("tokenizer_json");
    tcase_set_timeout(c, 0);
    tcase_add_test(c, as_transformers_saves_it);
    tcase_add_test(c, older_forms);
    tcase_add_test(c, other_files_come_first);
    tcase_add_test(c, added_tokens);
    tcase_add_test(c, other_tokenizers_are_refused);
    tcase_add_test(c, wrong_files);
    suite_add_tcase(s, c);
    return test_run(s);
}
