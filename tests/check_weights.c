/* Hugging Face folders in and out: every form of weights loads to the same values, everything bad is refused in words,
 * shards come back as they went. The cases are fixtures/hf/cases.json; see make_hf_fixtures.py. */
#include "model_testing.h"

#include <sys/stat.h>
#include <unistd.h>

#include "io/weights_source.h"

static cst_session *session;
static cst_safetensors *truth;

static void open_session(void)
{
    cst_session_options o = fixture_options("hf", 1, 4);
    ck_ok(cst_session_open(&session, &o));
    ck_ok(cst_safetensors_open(&truth, fixture("hf", "good-f32.safetensors")));
}

static void close_session(void)
{
    cst_safetensors_close(truth);
    ck_ok(cst_session_close(session, CST_OK));
}

static const char *ending(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot : "";
}

/* A folder with the fixture as its weights: the fixture itself, or a new one with a link; in a static buffer. */
static const char *folder_of(const char *name)
{
    static char dir[400], path[600];
    struct stat sb;
    const char *from = fixture("hf", name), *dot = ending(name);
    ck_assert_msg(!stat(from, &sb), "no fixture %s", from);
    if (S_ISDIR(sb.st_mode)) return from;
    char *real = realpath(from, NULL);
    snprintf(dir, sizeof dir, "%s/%s", test_dir(), name);
    ck_ok(cst_make_dirs(dir));
    snprintf(path, sizeof path, "%s/%s", dir, !strcmp(dot, ".bin") ? "pytorch_model.bin" : "model.safetensors");
    unlink(path);
    ck_assert(!symlink(real, path));
    free(real);
    return dir;
}

static void clear_weights(void)
{
    for (int i = 0; i < session->model->params; i++) {
        float *zero = calloc(1, session->model->w[i]->bytes);
        ck_ok(cst_tensor_write(session->model->w[i], 0, zero, session->model->w[i]->bytes));
        free(zero);
    }
}

static void check_values(const char *name)
{
    for (int i = 0; i < session->model->params; i++) {
        const cst_safetensors_view *v = cst_safetensors_find(truth, session->model->param[i].name);
        float *got = op_read(session->model->w[i]);
        ck_assert_uint_eq(v->bytes, session->model->w[i]->bytes);
        ck_assert_msg(!memcmp(got, v->data, v->bytes), "%s: %s is wrong", name, v->name);
        free(got);
    }
}

static cst_status status_named(const char *name)
{
    static const char *const names[] = {
#define X(n, text, code) #n,
        CST_STATUS_LIST(X)
#undef X
    };
    for (int i = 0; i < CST_STATUS_COUNT; i++)
        if (!strcmp(name, names[i])) return (cst_status)i;
    ck_abort_msg("no status %s", name);
    return CST_OK;
}

START_TEST(every_fixture_loads_or_is_refused)
{
    json_t *cases, *c;
    size_t i;
    int good = 0, bad = 0;
    ck_ok(cst_json_load(&cases, fixture("hf", "cases.json"), JSON_ARRAY));
    json_array_foreach(cases, i, c) {
        const char *name = json_string_value(json_object_get(c, "name")), *words = json_string_value(json_object_get(c, "words"));
        const char *dir = folder_of(name);
        clear_weights();
        cst_status st = cst_weights_load(session->model, dir);
        if (!words) {
            ck_assert_msg(st == CST_OK, "%s: %s", name, cst_detail());
            check_values(name);
            good++;
            continue;
        }
        cst_status want = status_named(json_string_value(json_object_get(c, "status")));
        ck_assert_msg(st == want, "%s: %s: %s", name, cst_status_text(st), cst_detail());
        ck_assert_msg(strstr(cst_detail(), words) != NULL, "%s: \"%s\" lacks \"%s\"", name, cst_detail(), words);
        ck_assert_msg(strstr(cst_detail(), dir) != NULL, "%s: \"%s\" lacks the file", name, cst_detail());
        int code = cst_status_exit(st);
        ck_assert(code == 1 || code == 2);
        bad++;
    }
    json_decref(cases);
    ck_assert_int_ge(good, 14);
    ck_assert_int_ge(bad, 40);
}
END_TEST

START_TEST(an_empty_folder_is_told_what_to_hold)
{
    char dir[300];
    snprintf(dir, sizeof dir, "%s/nothing", test_dir());
    ck_ok(cst_make_dirs(dir));
    ck_fails(cst_weights_load(session->model, dir), CST_IO, "allowed: model.safetensors, model.safetensors.index.json, pytorch_model.bin");
}
END_TEST

/* However short an archive is cut, loading it is a clean error. */
START_TEST(every_truncation_of_an_archive)
{
    char dir[300], path[400], *all;
    size_t n;
    snprintf(dir, sizeof dir, "%s/cut", test_dir());
    snprintf(path, sizeof path, "%s/pytorch_model.bin", dir);
    ck_ok(cst_make_dirs(dir));
    ck_ok(cst_file_read(&all, &n, fixture("hf", "good-f32.bin")));
    for (size_t k = 0; k < n; k += k < n - 100 ? 61 : 1) {
        cst_weights_source *s = NULL;
        ck_ok(cst_file_write(path, all, k));
        ck_fails(cst_weights_source_open(&s, dir), CST_INPUT, path);
        ck_assert_ptr_null(s);
    }
    free(all);
}
END_TEST

static int count_files(const char *dir, const char *name)
{
    char path[500];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return cst_path_exists(path);
}

static void check_shard(const char *dir, const char *name, uint64_t most)
{
    char path[500];
    uint64_t bytes = 0;
    cst_safetensors *s;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ck_ok(cst_safetensors_open(&s, path));
    for (size_t i = 0; i < cst_safetensors_count(s); i++) bytes += cst_safetensors_get(s, i)->bytes;
    ck_assert_msg(bytes <= most || cst_safetensors_count(s) == 1, "%s: %d bytes", name, (int)bytes);
    cst_safetensors_close(s);
}

START_TEST(shards_come_back)
{
    char dir[300], name[64];
    snprintf(dir, sizeof dir, "%s/shards", test_dir());
    ck_ok(cst_weights_load(session->model, folder_of("good-f16.bin")));
    static const struct {
        uint64_t bytes;
        int files;
    } sizes[] = {{CST_SHARD_BYTES, 1}, {300, 3}, {1, 20}, {5000, 1}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        ck_ok(cst_model_save(session->model, dir, sizes[k].bytes));
        /* one form at a time, or transformers would read the older one */
        ck_assert_int_eq(count_files(dir, "model.safetensors"), sizes[k].files == 1);
        ck_assert_int_eq(count_files(dir, "model.safetensors.index.json"), sizes[k].files > 1);
        for (int i = 0; sizes[k].files > 1 && i < sizes[k].files; i++) {
            snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", i + 1, sizes[k].files);
            ck_assert_msg(count_files(dir, name), "no %s for %d shards", name, sizes[k].files);
            check_shard(dir, name, sizes[k].bytes);
        }
        ck_assert(count_files(dir, "generation_config.json"));
        clear_weights();
        ck_ok(cst_weights_load(session->model, dir));
        check_values("shards");
        cst_config c;
        ck_ok(cst_config_load(&c, dir));
        ck_assert_mem_eq(&c, &session->model->config, sizeof c);
    }
}
END_TEST

START_TEST(a_tokenizers_files_are_copied)
{
    char from[300], dir[300], path[400], *text;
    size_t n;
    snprintf(from, sizeof from, "%s/from", test_dir());
    snprintf(dir, sizeof dir, "%s/to", test_dir());
    ck_ok(cst_make_dirs(from));
    ck_ok(cst_make_dirs(dir));
    snprintf(path, sizeof path, "%s/vocab.json", from);
    ck_ok(cst_file_write(path, "{\"a\": 0}", 8));
    snprintf(path, sizeof path, "%s/generation_config.json", from);
    ck_ok(cst_file_write(path, "{}", 2));
    cst_folder_files files = {.count = 0};
    ck_ok(cst_folder_files_tokenizer(&files, from));
    ck_ok(cst_folder_files_write(&files, dir));
    ck_assert(!count_files(dir, "generation_config.json") && !count_files(dir, "merges.txt"));
    ck_ok(cst_folder_files_generation(&files, from));
    snprintf(path, sizeof path, "%s/vocab.json", from);
    ck_assert_int_eq(unlink(path), 0); /* they are kept in memory */
    ck_ok(cst_folder_files_write(&files, dir));
    cst_folder_files_free(&files);
    ck_assert(count_files(dir, "generation_config.json"));
    snprintf(path, sizeof path, "%s/vocab.json", dir);
    ck_ok(cst_file_read(&text, &n, path));
    ck_assert_str_eq(text, "{\"a\": 0}");
    free(text);
}
END_TEST

/* Weights that fit are taken, the others stay as they were; nothing that fits is an error. */
START_TEST(weights_from_another_folder)
{
    cst_session_options o = fixture_options("tiny-post", 1, 4);
    cst_session *s;
    cst_safetensors *f;
    json_t *report, *list;
    size_t i, taken = 0;
    o.config.ffn_dim = 41; /* fc1 and its bias, and fc2, don't fit */
    o.config.num_hidden_layers = 1;
    ck_ok(cst_session_open(&s, &o));
    ck_ok(cst_model_init(s->model, 3));
    float *random = op_read(s->model->w[cst_param_id(&o.config, CST_ROLE_FC2_WEIGHT, 0)]);
    ck_ok(cst_weights_init_from(s->model, fixture("tiny-post", NULL), &report));
    ck_ok(cst_safetensors_open(&f, fixture("tiny-post", "model.safetensors")));
    for (int id = 0; id < s->model->params; id++) {
        const cst_param *p = &s->model->param[id];
        float *w = op_read(s->model->w[id]);
        if (strstr(p->name, "fc2.weight")) ck_assert(!memcmp(w, random, s->model->w[id]->bytes));
        else if (!strstr(p->name, "fc1")) {
            ck_assert(!memcmp(w, cst_safetensors_find(f, p->name)->data, s->model->w[id]->bytes));
            taken++;
        }
        free(w);
    }
    ck_assert_uint_eq(json_array_size(json_object_get(report, "taken")), taken);
    list = json_object_get(report, "left");
    ck_assert_uint_eq(json_array_size(list), 3);
    ck_assert_str_eq(json_string_value(json_array_get(list, 0)), "model.decoder.layers.0.fc1.weight");
    list = json_object_get(report, "unused"); /* layer 1 and three of layer 0 */
    ck_assert_uint_eq(json_array_size(list), CST_ROLES_PER_LAYER + 3);
    json_t *v;
    int shapes = 0;
    json_array_foreach(list, i, v) shapes += strstr(json_string_value(v), "has shape [24, 40]; config.json asks for [24, 41]") != NULL;
    ck_assert_int_eq(shapes, 1);
    json_decref(report);
    ck_fails(cst_weights_init_from(s->model, fixture("tiny-gelu", NULL), &report), CST_INPUT, "no tensor agrees with the model");
    ck_fails(cst_weights_init_from(s->model, fixture("tokenizer", NULL), &report), CST_IO, "tokenizer");
    free(random);
    cst_safetensors_close(f);
    ck_ok(cst_session_close(s, CST_OK));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("weights");
    TCase *tc = tcase_create("weights");
    tcase_set_timeout(tc, 0);
    tcase_add_unchecked_fixture(tc, open_session, close_session);
    tcase_add_test(tc, every_fixture_loads_or_is_refused);
    tcase_add_test(tc, an_empty_folder_is_told_what_to_hold);
    tcase_add_test(tc, every_truncation_of_an_archive);
    tcase_add_test(tc, shards_come_back);
    tcase_add_test(tc, weights_from_another_folder);
    tcase_add_test(tc, a_tokenizers_files_are_copied);
    suite_add_tcase(s, tc);
    return op_main(s);
}
