/* Configurations (presets, config.json, what is refused) and the table of parameters. */
#include <stdint.h>

#include "base/file.h"
#include "io/safetensors.h"
#include "model/config.h"
#include "model/names.h"
#include "testing.h"

static const char *fixture(const char *name)
{
    return test_path(source_path("tests/fixtures"), name);
}

static cst_status load_text(cst_config *c, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/config.json", test_dir());
    ck_ok(cst_file_write(path, text, strlen(text)));
    return cst_config_load(c, path);
}

START_TEST(presets)
{
    static const struct {
        const char *name;
        int64_t parameters;
        int tensors;
    } want[] = {
        {"125m", 125239296, 196},           {"opt-350m", 331196416, 388},  {"facebook/opt-1.3b", 1315758080, 388},
        {"facebook/opt-2.7b", 2651596800, 516}, {"6.7b", 6658473984, 516}, {"13b", 12853473280, 644},
    };
    cst_config c;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        ck_ok(cst_config_preset(&c, want[i].name));
        ck_ok(cst_config_check(&c, want[i].name));
        ck_assert_int_eq(cst_config_parameters(&c), want[i].parameters);
        ck_assert_int_eq(cst_param_count(&c), want[i].tensors);
    }
    ck_fails(cst_config_preset(&c, "opt-350"), CST_USAGE, "350m");
    ck_fails(cst_config_preset(&c, ""), CST_USAGE, "350m");
}
END_TEST

START_TEST(preset_350m)
{
    cst_config c;
    ck_ok(cst_config_preset(&c, "350m"));
    ck_assert(c.vocab_size == 50272 && c.hidden_size == 1024 && c.num_hidden_layers == 24 && c.ffn_dim == 4096);
    ck_assert(c.num_attention_heads == 16 && c.word_embed_proj_dim == 512 && c.max_position_embeddings == 2048);
    ck_assert(!c.do_layer_norm_before && c.activation_function == CST_RELU && c.layer_norm_eps == 1e-5);
    ck_assert(c.bos_token_id == 2 && c.eos_token_id == 2 && c.pad_token_id == 1);
    ck_assert(cst_config_has_projections(&c) && !cst_config_has_final_norm(&c));
}
END_TEST

START_TEST(defaults)
{
    cst_config c, d;
    cst_config_default(&d);
    ck_ok(load_text(&c, "{\"model_type\": \"opt\"}"));
    ck_assert_mem_eq(&c, &d, sizeof c);
    ck_ok(load_text(&c, "{\"model_type\": \"opt\", \"hidden_size\": 36, \"word_embed_proj_dim\": null,"
                        "\"pad_token_id\": null, \"eos_token_id\": [5, 6], \"activation_function\": \"gelu\","
                        "\"_remove_final_layer_norm\": true, \"dropout\": 0, \"unknown\": {}}"));
    ck_assert(c.hidden_size == 36 && c.word_embed_proj_dim == 36 && c.pad_token_id == -1 && c.eos_token_id == 5);
    ck_assert(c.activation_function == CST_GELU && !cst_config_has_final_norm(&c) && c.dropout == 0);
}
END_TEST

START_TEST(save_and_load)
{
    cst_config c, d;
    memset(&c, 0, sizeof c);
    memset(&d, 1, sizeof d);
    ck_ok(cst_config_preset(&c, "350m"));
    c.activation_function = CST_GELU;
    c.pad_token_id = -1;
    c.dropout = 0.25;
    c.init_std = 0.006;
    c.remove_final_layer_norm = 1;
    ck_ok(cst_config_save(&c, test_dir()));
    ck_ok(cst_config_load(&d, test_dir()));
    ck_assert_mem_eq(&c, &d, sizeof c);
    c.ffn_dim = 0;
    ck_fails(cst_config_save(&c, test_dir()), CST_INPUT, "ffn_dim");
    ck_ok(cst_config_load(&d, test_dir())); /* the old file is still there */
}
END_TEST

static void check_refused(const char *members, cst_status status, const char *words)
{
    cst_config c;
    char text[512];
    memset(&c, 7, sizeof c);
    cst_config before = c;
    snprintf(text, sizeof text, "{\"model_type\": \"opt\", %s}", members);
    ck_fails(load_text(&c, text), status, words);
    ck_assert_msg(strstr(cst_detail(), "config.json") != NULL, "the detail lacks the file: %s", cst_detail());
    ck_assert_mem_eq(&c, &before, sizeof c);
}

START_TEST(refused)
{
    static const char *const sizes[] = {"vocab_size",          "hidden_size",         "num_hidden_layers",
                                        "ffn_dim",             "num_attention_heads", "word_embed_proj_dim",
                                        "max_position_embeddings"};
    static const char *const values[] = {"0", "-1", "99999999999", "\"12\"", "1.5", "[1]"};
    char text[128];
    cst_config c;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t k = 0; k < sizeof values / sizeof *values; k++) {
            snprintf(text, sizeof text, "\"%s\": %s", sizes[i], values[k]);
            check_refused(text, CST_INPUT, sizes[i]);
        }
    check_refused("\"num_attention_heads\": 7", CST_INPUT, "num_attention_heads");
    check_refused("\"pad_token_id\": 50272", CST_INPUT, "pad_token_id");
    check_refused("\"bos_token_id\": -3", CST_INPUT, "bos_token_id");
    check_refused("\"eos_token_id\": \"x\"", CST_INPUT, "eos_token_id");
    check_refused("\"dropout\": 1", CST_INPUT, "dropout");
    check_refused("\"dropout\": -0.1", CST_INPUT, "dropout");
    check_refused("\"init_std\": 0", CST_INPUT, "init_std");
    check_refused("\"do_layer_norm_before\": 1", CST_INPUT, "do_layer_norm_before");
    check_refused("\"enable_bias\": false", CST_UNSUPPORTED, "\"enable_bias\" is false; allowed: true");
    check_refused("\"layer_norm_elementwise_affine\": false", CST_UNSUPPORTED, "layer_norm_elementwise_affine");
    check_refused("\"tie_word_embeddings\": false", CST_UNSUPPORTED, "tie_word_embeddings");
    check_refused("\"attention_dropout\": 0.1", CST_UNSUPPORTED, "attention_dropout");
    check_refused("\"layerdrop\": 0.1", CST_UNSUPPORTED, "layerdrop");
    check_refused("\"activation_function\": \"gelu_new\"", CST_UNSUPPORTED, "\"gelu_new\"; allowed: relu, gelu");
    check_refused("\"activation_function\": 3", CST_INPUT, "activation_function");
    ck_fails(load_text(&c, "{\"model_type\": \"gpt2\"}"), CST_UNSUPPORTED, "\"gpt2\"");
    ck_fails(load_text(&c, "{}"), CST_INPUT, "model_type");
    ck_fails(load_text(&c, "[]"), CST_INPUT, "object");
    ck_fails(load_text(&c, "{"), CST_INPUT, "config.json");
    ck_fails(cst_config_load(&c, "/nonexistent"), CST_IO, "/nonexistent");
}
END_TEST

/* Every row of the table is consistent with the lookups and adds up. */
static void check_table(const cst_config *c)
{
    int64_t sum = 0;
    cst_param p;
    for (int id = 0; id < cst_param_count(c); id++) {
        ck_ok(cst_param_get(&p, c, id));
        sum += p.count;
        ck_assert_int_eq(p.count, p.rank == 2 ? p.dims[0] * p.dims[1] : p.dims[0]);
        ck_assert_int_eq(cst_param_id(c, p.role, p.layer), id);
        ck_assert_int_eq(cst_param_find(c, p.name), id);
        ck_assert_int_eq(cst_param_find(c, p.name + 6), id); /* without "model." */
        ck_assert_int_eq(p.decay, !(strstr(p.name, ".bias") || strstr(p.name, "layer_norm")));
        ck_assert(p.decay ? p.init_std == c->init_std && p.init_value == 0 : p.init_std == 0);
        if (p.kind == CST_PARAM_NORM_WEIGHT) ck_assert(p.init_value == 1 && strstr(p.name, "layer_norm.weight"));
        else ck_assert(p.init_value == 0);
    }
    ck_assert_int_eq(sum, cst_config_parameters(c));
    ck_fails(cst_param_get(&p, c, -1), CST_USAGE, "parameter -1");
    ck_fails(cst_param_get(&p, c, cst_param_count(c)), CST_USAGE, "parameter");
}

START_TEST(table)
{
    static const char *const names[] = {"125m", "350m", "13b"};
    cst_config c;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ck_ok(cst_config_preset(&c, names[i]));
        check_table(&c);
    }
    c.remove_final_layer_norm = 1;
    check_table(&c);
    c.word_embed_proj_dim = 8; /* projections and pre-layer-norm together */
    c.remove_final_layer_norm = 0;
    check_table(&c);
}
END_TEST

START_TEST(lookup_350m)
{
    cst_config c;
    cst_param p;
    ck_ok(cst_config_preset(&c, "350m"));
    ck_ok(cst_param_get(&p, &c, cst_param_id(&c, CST_ROLE_Q_WEIGHT, 3)));
    ck_assert_str_eq(p.name, "model.decoder.layers.3.self_attn.q_proj.weight");
    ck_assert(p.rank == 2 && p.dims[0] == 1024 && p.dims[1] == 1024 && p.layer == 3 && p.decay && p.zero_row == -1);
    ck_ok(cst_param_get(&p, &c, cst_param_id(&c, CST_ROLE_FC1_WEIGHT, 23)));
    ck_assert(p.dims[0] == 4096 && p.dims[1] == 1024);
    ck_ok(cst_param_get(&p, &c, cst_param_id(&c, CST_ROLE_EMBED_POSITIONS, -1)));
    ck_assert(p.dims[0] == 2050 && p.dims[1] == 1024 && p.kind == CST_PARAM_EMBEDDING);
    ck_ok(cst_param_get(&p, &c, cst_param_id(&c, CST_ROLE_EMBED_TOKENS, -1)));
    ck_assert(p.dims[0] == 50272 && p.dims[1] == 512 && p.zero_row == 1);
    ck_ok(cst_param_get(&p, &c, cst_param_id(&c, CST_ROLE_PROJECT_IN, -1)));
    ck_assert(p.dims[0] == 1024 && p.dims[1] == 512);
    ck_ok(cst_param_get(&p, &c, cst_param_id(&c, CST_ROLE_PROJECT_OUT, -1)));
    ck_assert(p.dims[0] == 512 && p.dims[1] == 1024);
    ck_assert_int_eq(cst_param_id(&c, CST_ROLE_FINAL_NORM_WEIGHT, -1), -1);
    ck_assert_int_eq(cst_param_id(&c, CST_ROLE_FINAL_NORM_BIAS, -1), -1);
    ck_assert_int_eq(cst_param_id(&c, CST_ROLE_K_WEIGHT, 24), -1);
    ck_assert_int_eq(cst_param_id(&c, CST_ROLE_K_WEIGHT, -1), -1);
    ck_assert_int_eq(cst_param_find(&c, "lm_head.weight"), cst_param_id(&c, CST_ROLE_EMBED_TOKENS, -1));
    static const char *const absent[] = {"model.decoder.final_layer_norm.weight", "model.decoder.layers.24.fc1.bias",
                                         "model.decoder.layers.-1.fc1.bias", "model.decoder.layers.03.fc1.bias",
                                         "model.decoder.layers.+3.fc1.bias", "model.decoder.layers.3.fc3.bias",
                                         "model.decoder.fc1.bias", "model.decoder.layers.3.embed_tokens.weight", ""};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) ck_assert_int_eq(cst_param_find(&c, absent[i]), -1);

    ck_ok(cst_config_preset(&c, "125m"));
    ck_assert_int_eq(cst_param_id(&c, CST_ROLE_PROJECT_IN, -1), -1);
    ck_assert_int_eq(cst_param_id(&c, CST_ROLE_PROJECT_OUT, -1), -1);
    ck_assert_int_ge(cst_param_id(&c, CST_ROLE_FINAL_NORM_WEIGHT, -1), 0);
}
END_TEST

/* The table agrees with the files that transformers' model gave. */
START_TEST(fixtures)
{
    static const char *const names[] = {"tiny-post", "tiny-pre", "tiny-gelu"};
    char path[64];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        cst_config c;
        cst_safetensors *s;
        ck_ok(cst_config_load(&c, fixture(names[i])));
        snprintf(path, sizeof path, "%s/model.safetensors", names[i]);
        ck_ok(cst_safetensors_open(&s, fixture(path)));
        ck_assert_int_eq(cst_param_count(&c), (int)cst_safetensors_count(s));
        for (int id = 0; id < cst_param_count(&c); id++) {
            cst_param p;
            ck_ok(cst_param_get(&p, &c, id));
            const cst_safetensors_view *v = cst_safetensors_find(s, p.name);
            ck_assert_msg(v != NULL, "%s: no %s", names[i], p.name);
            ck_assert_int_eq(v->rank, p.rank);
            for (int k = 0; k < p.rank; k++) ck_assert_int_eq(v->dims[k], p.dims[k]);
        }
        cst_safetensors_close(s);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("config");
    TCase *t = tcase_create("all");
    tcase_add_test(t, presets);
    tcase_add_test(t, preset_350m);
    tcase_add_test(t, defaults);
    tcase_add_test(t, save_and_load);
    tcase_add_test(t, refused);
    tcase_add_test(t, table);
    tcase_add_test(t, lookup_350m);
    tcase_add_test(t, fixtures);
    suite_add_tcase(s, t);
    return test_run(s);
}
