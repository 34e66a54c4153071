#include "op_testing.h"

#include "op/fill.h"

START_TEST(fills_every_element)
{
    static const int64_t sizes[] = {1, 2, 3, 15, 16, 17, 255, 256, 257, 5003};
    int64_t n = sizes[_i];
    cst_tensor *t = op_tensor("t", CST_DATA, n, 0, NULL);
    ck_ok(cst_fill(mem, t, 1.25f));
    float *got = op_read(t);
    for (int64_t i = 0; i < n; i++) ck_assert_msg(got[i] == 1.25f, "element %d of %d", (int)i, (int)n);
    op_check();
    free(got);
    cst_tensor_free(t);
}
END_TEST

START_TEST(gives_storage_to_an_empty_tensor)
{
    cst_tensor *t;
    ck_ok(cst_tensor_create(&t, mem, CST_GRAD, CST_F32, 2, (int64_t[]){7, 9}, "t"));
    ck_ok(cst_fill(mem, t, -3.0f));
    float *got = op_read(t);
    for (int i = 0; i < 63; i++) ck_assert(got[i] == -3.0f);
    op_check();
    free(got);
    cst_tensor_free(t);
}
END_TEST

START_TEST(refuses_other_types)
{
    cst_tensor *t;
    ck_ok(cst_tensor_create(&t, mem, CST_DATA, CST_BF16, 1, (int64_t[]){8}, "halves"));
    ck_fails(cst_fill(mem, t, 0), CST_UNSUPPORTED, "halves is bf16");
    cst_tensor_free(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fill");
    TCase *tc = op_case(s, "fill");
    tcase_add_loop_test(tc, fills_every_element, 0, 10);
    tcase_add_test(tc, gives_storage_to_an_empty_tensor);
    tcase_add_test(tc, refuses_other_types);
    return op_main(s);
}
