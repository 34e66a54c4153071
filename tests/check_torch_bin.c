/* The pickle reader, opcode by opcode, and archives that PyTorch wrote. */
#include <math.h>

#include "base/file.h"
#include "io/pickle.h"
#include "io/torch_bin.h"
#include "testing.h"

static const char *fixture(const char *name)
{
    return test_path(source_path("tests/fixtures/hf"), name);
}

/* Pieces of pickles. */
#define STR(n, s) "X" n "\0\0\0" s
#define ORDERED "ccollections\nOrderedDict\n)R"
#define STORAGE(type) "(" STR("\7", "storage") "ctorch\n" type "\n" STR("\1", "0") STR("\3", "cpu") "K\6tQ"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"
#define TENSOR(type) REBUILD "(" STORAGE(type) "K\1K\2K\2\x86K\2K\1\x86\x89" ORDERED "tR"
#define NAME STR("\1", "a")

static cst_status read_all(const char *code, size_t n)
{
    cst_pickle *p = NULL;
    char *copy = malloc(n); /* of exactly n bytes, so that a sanitizer sees what reads past them */
    memcpy(copy, code, n);
    cst_status st = cst_pickle_read(&p, copy, n, "test.pkl");
    free(copy);
    ck_assert((st == CST_OK) == (p != NULL));
    cst_pickle_free(p);
    return st;
}
#define READ(code) read_all(code, sizeof(code) - 1)

static void check_tensor(const char *code, size_t n, cst_st_dtype dtype)
{
    cst_pickle *p;
    ck_ok(cst_pickle_read(&p, code, n, "test.pkl"));
    ck_assert_uint_eq(cst_pickle_count(p), 1);
    const cst_pickle_tensor *t = cst_pickle_get(p, 0);
    ck_assert_str_eq(t->name, "a");
    ck_assert_str_eq(t->storage, "0");
    ck_assert(t->dtype == dtype && t->storage_count == 6 && t->offset == 1 && t->rank == 2);
    ck_assert(t->dims[0] == 2 && t->dims[1] == 2 && t->strides[0] == 2 && t->strides[1] == 1);
    ck_assert_ptr_null(cst_pickle_get(p, 1));
    cst_pickle_free(p);
}
#define CHECK(code, dtype) check_tensor(code, sizeof(code) - 1, dtype)

START_TEST(good_pickles)
{
    CHECK("\x80\2}" NAME TENSOR("FloatStorage") "s.", CST_ST_F32);
    CHECK("\x80\2" ORDERED "(" NAME TENSOR("HalfStorage") "u.", CST_ST_F16);
    CHECK("\x80\2" ORDERED "q\0(" NAME "q\1" TENSOR("BFloat16Storage") "q\2u}" STR("\1", "m") "}sb.", CST_ST_BF16); /* _metadata */
    CHECK("\x80\2}" NAME "ctorch._utils\n_rebuild_parameter\n" TENSOR("DoubleStorage") "\x88" ORDERED "\x87Rs.", CST_ST_F64);
    CHECK("\x80\4\x95\0\0\0\0\0\0\0\0}\x8c\1a\x94" REBUILD "(" "(" STR("\7", "storage") "\x8c\5torch\x8c\014FloatStorage\x93"
          "\x8d\1\0\0\0\0\0\0\0" "0" STR("\3", "cpu") "J\6\0\0\0tQM\1\0\x8a\1\2\x8a\2\2\0\x86K\2K\1\x86\x89NtRs.", CST_ST_F32);
    ck_ok(READ("\x80\2}."));
}
END_TEST

START_TEST(other_opcodes_are_named)
{
    static const struct {
        unsigned char op;
        const char *name;
    } ops[] = {{'0', "POP"}, {'2', "DUP"}, {'i', "INST"}, {'o', "OBJ"}, {'R' + 0x80, "unknown"}, {0x81, "NEWOBJ"}, {0x82, "EXT1"},
               {'P', "PERSID"}, {'G', "BINFLOAT"}, {']', "EMPTY_LIST"}, {'B', "BINBYTES"}, {0x8f, "EMPTY_SET"}, {0x92, "NEWOBJ_EX"},
               {0x97, "NEXT_BUFFER"}, {0, "unknown"}};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        char code[] = "\x80\2?", words[40];
        code[2] = (char)ops[i].op;
        snprintf(words, sizeof words, "at byte 2: opcode 0x%02x (%s)", ops[i].op, ops[i].name);
        ck_fails(read_all(code, 3), CST_INPUT, words);
    }
}
END_TEST

START_TEST(other_names_are_named)
{
    ck_fails(READ("\x80\2cos\nsystem\n" STR("\2", "ls") "\x85R."), CST_INPUT,
             "test.pkl: at byte 13: the pickle asks for \"os.system\"; allowed:");
    ck_fails(READ("\x80\4\x8c\010builtins\x8c\4" "eval\x93."), CST_INPUT, "\"builtins.eval\"");
    ck_fails(READ("\x80\2ctorch\nload\n."), CST_INPUT, "\"torch.load\"");
    ck_fails(READ("\x80\2ctorch\nFloatStorag\n."), CST_INPUT, "\"torch.FloatStorag\"");
    ck_fails(READ("\x80\2ctorch\nFloatStorage2\n."), CST_INPUT, "\"torch.FloatStorage2\"");
    ck_fails(READ("\x80\2c\033[2J\nx\n."), CST_INPUT, "\"?[2J.x\""); /* nothing that steers a terminal */
    ck_fails(READ("\x80\2ctorch._utils\n_rebuild_tensor\n."), CST_INPUT, "_rebuild_tensor\"");
    ck_fails(READ("\x80\2ctorch\nFloatStorage\n)R."), CST_INPUT, "FloatStorage is called");
}
END_TEST

START_TEST(wrong_tensors)
{
    ck_fails(READ("\x80\2}" NAME "K\5s."), CST_INPUT, "\"a\" is an int; allowed: tensors");
    ck_fails(READ("\x80\2}" NAME "}s."), CST_INPUT, "\"a\" is a dict");
    ck_fails(READ("\x80\2}K\1" TENSOR("FloatStorage") "s."), CST_INPUT, "a key of the state_dict is an int");
    ck_fails(READ("\x80\2)."), CST_INPUT, "a tuple where a dict is wanted");
    ck_fails(READ("\x80\2" TENSOR("FloatStorage") "."), CST_INPUT, "a tensor where a dict is wanted");
    ck_fails(READ("\x80\2" STR("\1", "x") "\x85Q."), CST_INPUT, "persistent id \"x\"");
    ck_fails(READ("\x80\2" STR("\1", "x") "Q."), CST_INPUT, "a string where a tuple is wanted");
    ck_fails(READ("\x80\2" STR("\7", "storage") "\x85Q."), CST_INPUT, "persistent id lacks its part 1");
    ck_fails(READ("\x80\2" STR("\7", "storage") "ccollections\nOrderedDict\n\x86Q."), CST_INPUT, "OrderedDict is no type of a storage");
    ck_fails(READ("\x80\2" REBUILD "K\1\x85R."), CST_INPUT, "part 0 is an int where a storage is wanted");
    ck_fails(READ("\x80\2" REBUILD ")R."), CST_INPUT, "lacks its part 0");
    ck_fails(READ("\x80\2" REBUILD "(" STORAGE("FloatStorage") "J\xff\xff\xff\xff))\x89NtR."), CST_INPUT, "part 1 is negative");
    ck_fails(READ("\x80\2" REBUILD "(" STORAGE("FloatStorage") "K\0K\1\x85)\x89NtR."), CST_INPUT, "1 sizes, 0 strides");
    ck_fails(READ("\x80\2" REBUILD "(" STORAGE("FloatStorage") "K\0))\x89NNNtR."), CST_INPUT, "with 8 arguments");
    ck_fails(READ("\x80\2" REBUILD "(" STORAGE("FloatStorage") "K\0))\x89K\1tR."), CST_INPUT, "hooks or metadata");
    ck_fails(READ("\x80\2" REBUILD "(" STORAGE("FloatStorage") "K\0(K\1K\1K\1K\1K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1K\1K\1K\1K\1t\x89NtR."),
             CST_INPUT, "9 sizes, 9 strides; allowed: as many of both, up to 8");
    ck_fails(READ("\x80\2ctorch._utils\n_rebuild_parameter\nK\1\x85R."), CST_INPUT, "part 0 is an int where a tensor is wanted");
    ck_fails(READ("\x80\2ccollections\nOrderedDict\nK\1\x85R."), CST_INPUT, "OrderedDict with arguments");
}
END_TEST

START_TEST(broken_programs)
{
    ck_fails(READ(""), CST_INPUT, "not a pickle");
    ck_fails(READ("(dp0\n."), CST_INPUT, "not a pickle of protocol 2 to 5");
    ck_fails(READ("\x80\1}."), CST_INPUT, "protocol 1");
    ck_fails(READ("\x80\6}."), CST_INPUT, "protocol 6; allowed: 2 to 5");
    ck_fails(READ("\x80\2."), CST_INPUT, "0 values and 0 marks at its end");
    ck_fails(READ("\x80\2}}."), CST_INPUT, "2 values");
    ck_fails(READ("\x80\2(}."), CST_INPUT, "1 marks");
    ck_fails(READ("\x80\2}.}"), CST_INPUT, "1 bytes after its end");
    ck_fails(READ("\x80\2}"), CST_INPUT, "no STOP");
    ck_fails(READ("\x80\2X\377\377\377\377x"), CST_INPUT, "truncated: 4294967294 bytes are missing");
    ck_fails(READ("\x80\2\x8d\377\377\377\377\377\377\377\377x"), CST_INPUT, "truncated");
    ck_fails(READ("\x80\2X\2\0\0\0a\0."), CST_INPUT, "a string with a 0 byte");
    ck_fails(READ("\x80\2ctorch"), CST_INPUT, "a line without an end");
    ck_fails(READ("\x80\2\x8a\11"), CST_INPUT, "an int of 9 bytes");
    ck_fails(READ("\x80\4\x95\377\0\0\0\0\0\0\0}."), CST_INPUT, "a frame of 255 bytes");
    ck_fails(READ("\x80\2\x85."), CST_INPUT, "no value on the stack");
    ck_fails(READ("\x80\2}(\x85."), CST_INPUT, "no value on the stack"); /* not below a mark */
    ck_fails(READ("\x80\2}(s."), CST_INPUT, "no value on the stack");
    ck_fails(READ("\x80\2t."), CST_INPUT, "no MARK");
    ck_fails(READ("\x80\2}(K\1u."), CST_INPUT, "a key without a value");
    ck_fails(READ("\x80\2)(K\1K\1u."), CST_INPUT, "a tuple where a dict is wanted");
    ck_fails(READ("\x80\2q\0."), CST_INPUT, "no value on the stack");
    ck_fails(READ("\x80\2h\0."), CST_INPUT, "memo 0 is empty");
    ck_fails(READ("\x80\2j\377\377\377\377."), CST_INPUT, "memo 4294967295 is empty");
    ck_fails(READ("\x80\2}r\377\377\377\377."), CST_INPUT, "memo 4294967295; allowed: below 1048576");
    ck_fails(READ("\x80\2})b."), CST_INPUT, "a tuple where a dict is wanted");
    ck_fails(READ("\x80\2)}b."), CST_INPUT, "a tuple where a dict is wanted");
}
END_TEST

/* n times the same opcode after the protocol. */
static cst_status repeat(int op, size_t n)
{
    char *code = malloc(n + 2);
    memset(code, op, n + 2);
    memcpy(code, "\x80\2", 2);
    cst_status st = read_all(code, n + 2);
    free(code);
    return st;
}

START_TEST(limits)
{
    ck_fails(repeat('(', 100000), CST_INPUT, "nested deeper than 256");
    ck_fails(repeat(')', 100000), CST_INPUT, "more than 65536 values on the stack");
    ck_fails(repeat('N', CST_PICKLE_SIZE_MAX), CST_INPUT, "test.pkl: 16777218 bytes; allowed: 16777216");
    /* a tuple in a tuple in a tuple ...: built and freed without recursion */
    enum { N = 1000000 };
    char *code = malloc(N + 4);
    memset(code, 0x85, N + 4);
    memcpy(code, "\x80\2)", 3);
    code[N + 3] = '.';
    ck_fails(read_all(code, N + 4), CST_INPUT, "a tuple where a dict is wanted");
    free(code);
    /* memory is bounded, whatever the program builds */
    size_t n = CST_PICKLE_SIZE_MAX;
    code = malloc(n);
    memset(code, 0x85, n);
    memcpy(code, "\x80\2)", 3);
    ck_fails(read_all(code, n), CST_INPUT, "it builds more than 256 MiB");
    free(code);
}
END_TEST

/* However short a pickle is cut, and whatever byte of it changes, reading it ends. */
START_TEST(cut_and_changed)
{
    static const char good[] = "\x80\2" ORDERED "q\0(" NAME "q\1ctorch._utils\n_rebuild_parameter\n" TENSOR("FloatStorage") "\x88" ORDERED
                               "\x87Ru.";
    char code[sizeof good - 1];
    ck_ok(READ(good));
    for (size_t n = 0; n < sizeof code; n++) ck_fails(read_all(good, n), CST_INPUT, "test.pkl");
    for (size_t i = 0; i < sizeof code; i++)
        for (int b = 0; b < 256; b++) {
            memcpy(code, good, sizeof code);
            code[i] = (char)b;
            cst_status st = read_all(code, sizeof code);
            ck_assert(st == CST_OK || st == CST_INPUT);
        }
}
END_TEST

START_TEST(views_of_one_storage)
{
    cst_torch_bin *b;
    ck_ok(cst_torch_bin_open(&b, fixture("good-views.bin")));
    ck_assert_uint_eq(cst_torch_bin_count(b), 20);
    int seen = 0;
    for (size_t i = 0; i < cst_torch_bin_count(b); i++) {
        const cst_torch_tensor *t = cst_torch_bin_get(b, i);
        float all[64], one;
        ck_assert_uint_le(t->count, 64);
        ck_ok(cst_torch_bin_read(b, t, all, 0, t->count));
        for (size_t k = t->count; k-- > 0;) { /* backwards, one at a time */
            ck_ok(cst_torch_bin_read(b, t, &one, k, 1));
            ck_assert(one == all[k]);
        }
        ck_fails(cst_torch_bin_read(b, t, &one, t->count, 1), CST_USAGE, t->name);
        seen += t->offset > 0;
    }
    ck_assert_int_eq(seen, 2); /* k and v lie behind q */
    ck_assert_ptr_null(cst_torch_bin_get(b, 20));
    cst_torch_bin_close(b);
    cst_torch_bin_close(NULL);
}
END_TEST

START_TEST(tied_tensors_are_one)
{
    cst_torch_bin *b;
    const cst_torch_tensor *embed = NULL, *head = NULL;
    ck_ok(cst_torch_bin_open(&b, fixture("good-parameters.bin")));
    for (size_t i = 0; i < cst_torch_bin_count(b); i++) {
        const cst_torch_tensor *t = cst_torch_bin_get(b, i);
        if (!strcmp(t->name, "lm_head.weight")) head = t;
        if (!strcmp(t->name, "embed_tokens.weight")) embed = t;
    }
    ck_assert(embed && head && embed->member == head->member && embed->offset == head->offset && embed->count == 22);
    cst_torch_bin_close(b);
    ck_fails(cst_torch_bin_open(&b, "/nonexistent"), CST_IO, "/nonexistent");
    ck_fails(cst_torch_bin_open(&b, test_dir()), CST_IO, "not a regular file");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("torch_bin");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, good_pickles);
    tcase_add_test(t, other_opcodes_are_named);
    tcase_add_test(t, other_names_are_named);
    tcase_add_test(t, wrong_tensors);
    tcase_add_test(t, broken_programs);
    tcase_add_test(t, limits);
    tcase_add_test(t, cut_and_changed);
    tcase_add_test(t, views_of_one_storage);
    tcase_add_test(t, tied_tensors_are_one);
    suite_add_tcase(s, t);
    return test_run(s);
}
