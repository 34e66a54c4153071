/* castor tokenizer encode, decode and train. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "text/tokenizer.h"

static cst_status read_input(char **data, size_t *n, const cst_args *a)
{
    if (!a->operand) return cst_fail(CST_USAGE, "castor %s needs a FILE, or - for standard input", a->command_name);
    return cst_input_read(data, n, a->operand);
}

static cst_status open_tokenizer(cst_tokenizer **t, const cst_args *a)
{
    const char *spec = a->text[CST_OPTION_TOKENIZER];
    return cst_tokenizer_open(t, spec ? spec : "bytes");
}

cst_status cst_cmd_tokenizer_encode(const cst_args *a)
{
    cst_tokenizer *t = NULL;
    char *text = NULL;
    uint32_t *ids = NULL;
    size_t n, count;
    unsigned flags = (cst_args_flag(a, CST_OPTION_BOS) ? CST_ENCODE_BOS : 0) | (cst_args_flag(a, CST_OPTION_PLAIN) ? CST_ENCODE_PLAIN : 0);
    int json = cst_args_flag(a, CST_OPTION_JSON);
    cst_status st;
    CST_GO(read_input(&text, &n, a), out);
    CST_GO(open_tokenizer(&t, a), out);
    CST_GO(cst_tokenizer_encode(t, &ids, &count, text, n, flags), out);
    if (json) fputs("{\"ids\": [", stdout);
    for (size_t i = 0; i < count; i++) printf("%s%" PRIu32, i ? json ? ", " : " " : "", ids[i]);
    puts(json ? "]}" : "");
out:
    free(ids);
    free(text);
    cst_tokenizer_free(t);
    return st;
}

/* ids[*count] has room for as many as the text can hold. */
static cst_status parse_json_ids(uint32_t *ids, size_t *count, const char *text, size_t n, const char *name)
{
    json_error_t e;
    json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e), *list, *v;
    size_t i;
    cst_status st = CST_OK;
    if (!j) return cst_fail(CST_INPUT, "%s: line %d: %s", name, e.line, e.text);
    list = json_is_object(j) ? json_object_get(j, "ids") : j;
    if (!json_is_array(list)) {
        st = cst_fail(CST_INPUT, "%s: expected a JSON array of ids, or an object with it as \"ids\"", name);
        goto out;
    }
    json_array_foreach(list, i, v)
    {
        json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || id > UINT32_MAX) {
            st = cst_fail(CST_INPUT, "%s: \"ids\" has no id of a token at place %zu", name, i);
            goto out;
        }
        ids[(*count)++] = (uint32_t)id;
    }
out:
    json_decref(j);
    return st;
}

/* Whole numbers with spaces, newlines or commas between them. */
static cst_status parse_text_ids(uint32_t *ids, size_t *count, const char *text, size_t n, const char *name)
{
    static const char between[] = " \t\r\n,";
    for (const char *p = text, *end = text + n; (p += strspn(p, between)) < end;) {
        size_t length = strcspn(p, between), digits = strspn(p, "0123456789");
        uint64_t id = strtoull(p, NULL, 10); /* at most 10 digits: no overflow */
        if (!length || digits != length || length > 10 || id > UINT32_MAX)
            return cst_fail(CST_INPUT, "%s: \"%.*s\" at place %zu is no id of a token", name, length < 40 ? (int)length : 40, p, *count);
        ids[(*count)++] = (uint32_t)id;
        p += length;
    }
    return CST_OK;
}

cst_status cst_cmd_tokenizer_decode(const cst_args *a)
{
    cst_tokenizer *t = NULL;
    char *text = NULL, *decoded = NULL;
    uint32_t *ids = NULL;
    size_t n, count = 0, length;
    cst_status st;
    CST_GO(read_input(&text, &n, a), out);
    CST_GO(open_tokenizer(&t, a), out);
    ids = malloc((n / 2 + 1) * sizeof *ids); /* a digit and what parts it from the next */
    if (!ids) {
        st = cst_fail(CST_NO_MEMORY, "ids of %zu bytes", n);
        goto out;
    }
    char first = text[strspn(text, " \t\r\n")];
    CST_GO((first == '{' || first == '[' ? parse_json_ids : parse_text_ids)(ids, &count, text, n, cst_input_name(a->operand)), out);
    st = cst_tokenizer_decode(t, &decoded, &length, ids, count, cst_args_flag(a, CST_OPTION_SKIP_SPECIAL));
    if (st != CST_OK) {
        st = cst_fail_in(st, "%s", cst_input_name(a->operand));
        goto out;
    }
    fwrite(decoded, 1, length, stdout);
out:
    free(decoded);
    free(ids);
    free(text);
    cst_tokenizer_free(t);
    return st;
}

cst_status cst_cmd_tokenizer_train(const cst_args *a)
{
    cst_tokenizer *t = NULL;
    char *text = NULL;
    const char *out_dir = a->text[CST_OPTION_OUT];
    int64_t size = cst_args_int(a, CST_OPTION_VOCAB_SIZE), least = cst_args_int(a, CST_OPTION_MIN_FREQUENCY);
    size_t n;
    cst_status st;
    if (!out_dir) return cst_fail(CST_USAGE, "castor tokenizer train needs --out DIR");
    if (size > INT32_MAX || least > INT32_MAX) return cst_fail(CST_USAGE, "--vocab-size and --min-frequency: at most %d", INT32_MAX);
    CST_GO(read_input(&text, &n, a), out);
    if (!n) {
        st = cst_fail(CST_INPUT, "%s: empty corpus", cst_input_name(a->operand));
        goto out;
    }
    CST_GO(cst_tokenizer_train(&t, text, n, (uint32_t)size, (uint32_t)least), out);
    CST_GO(cst_tokenizer_save(t, out_dir), out);
    printf(cst_args_flag(a, CST_OPTION_JSON) ? "{\"pieces\": %u, \"merges\": %u}\n" : "%u pieces, %u of them by merges\n",
           cst_tokenizer_size(t), cst_tokenizer_merges(t));
out:
    free(text);
    cst_tokenizer_free(t);
    return st;
}
