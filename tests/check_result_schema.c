/* bench/result.schema.json and the program say the same about result files: every committed result is valid by both, and of a
 * thousand changes to a valid one (a member gone, of another type, out of range, unknown) both refuse the same ones. The schema is
 * read by a validator of what it uses of JSON Schema 2020-12; a keyword that it doesn't know fails the test.
 */
#include <dirent.h>
#include <jansson.h>
#include <regex.h>
#include <sys/wait.h>

#include "testing.h"

static json_t *schema;
static char path[512];

static json_t *load(const char *file)
{
    json_error_t e;
    json_t *j = json_load_file(file, JSON_REJECT_DUPLICATES, &e);
    if (!j) ck_abort_msg("%s: line %d: %s", file, e.line, e.text);
    return j;
}

static const char *source(const char *name)
{
    static char full[4][512];
    static int next;
    const char *dir = getenv("srcdir");
    snprintf(full[next = (next + 1) % 4], sizeof full[0], "%s/%s", dir ? dir : ".", name);
    return full[next];
}

/* ---- a validator ---- */

static int is_type(const json_t *v, const char *type)
{
    if (!strcmp(type, "object")) return json_is_object(v);
    if (!strcmp(type, "array")) return json_is_array(v);
    if (!strcmp(type, "string")) return json_is_string(v);
    if (!strcmp(type, "boolean")) return json_is_boolean(v);
    if (!strcmp(type, "null")) return json_is_null(v);
    if (!strcmp(type, "number")) return json_is_number(v);
    if (!strcmp(type, "integer"))
        return json_is_integer(v) || (json_is_real(v) && json_real_value(v) == (double)(int64_t)json_real_value(v));
    ck_abort_msg("type %s in the schema", type);
    return 0;
}

static int valid(const json_t *v, const json_t *s);

static int has_type(const json_t *v, const json_t *t)
{
    if (json_is_string(t)) return is_type(v, json_string_value(t));
    for (size_t i = 0; i < json_array_size(t); i++)
        if (is_type(v, json_string_value(json_array_get(t, i)))) return 1;
    return 0;
}

static int any_of(const json_t *v, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (valid(v, json_array_get(list, i))) return 1;
    return 0;
}

static int one_of_values(const json_t *v, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(v, json_array_get(list, i))) return 1;
    return 0;
}

static int has_all(const json_t *v, const json_t *names)
{
    for (size_t i = 0; json_is_object(v) && i < json_array_size(names); i++)
        if (!json_object_get(v, json_string_value(json_array_get(names, i)))) return 0;
    return 1;
}

static int members_valid(const json_t *v, const json_t *properties)
{
    const char *key;
    json_t *x;
    json_object_foreach((json_t *)v, key, x) {
        const json_t *s = json_object_get(properties, key);
        if (s && !valid(x, s)) return 0;
    }
    return 1;
}

static int no_others(const json_t *v, const json_t *properties)
{
    const char *key;
    json_t *x;
    json_object_foreach((json_t *)v, key, x) if (!json_object_get(properties, key)) return 0;
    return 1;
}

static int items_valid(const json_t *v, const json_t *s)
{
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!valid(json_array_get(v, i), s)) return 0;
    return 1;
}

/* Characters: bytes but those that go on with one. */
static json_int_t length(const json_t *v)
{
    json_int_t n = 0;
    for (const char *p = json_string_value(v); p && *p; p++) n += (*p & 0xc0) != 0x80;
    return n;
}

static int matches(const json_t *v, const char *pattern)
{
    regex_t re;
    if (!json_is_string(v)) return 1;
    ck_assert_int_eq(regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int ok = !regexec(&re, json_string_value(v), 0, NULL, 0);
    regfree(&re);
    return ok;
}

static const json_t *referred(const char *ref)
{
    const char *name = strrchr(ref, '/') + 1;
    const json_t *s = json_object_get(json_object_get(schema, "$defs"), name);
    if (strncmp(ref, "#/$defs/", 8) || !s) ck_abort_msg("%s isn't in the schema", ref);
    return s;
}

static int keyword(const json_t *v, const json_t *s, const char *key, const json_t *k)
{
    if (!strcmp(key, "type")) return has_type(v, k);
    if (!strcmp(key, "$ref")) return valid(v, referred(json_string_value(k)));
    if (!strcmp(key, "anyOf")) return any_of(v, k);
    if (!strcmp(key, "const")) return json_equal(v, k);
    if (!strcmp(key, "enum")) return one_of_values(v, k);
    if (!strcmp(key, "required")) return has_all(v, k);
    if (!strcmp(key, "properties")) return members_valid(v, k);
    if (!strcmp(key, "additionalProperties")) return json_is_true(k) || no_others(v, json_object_get(s, "properties"));
    if (!strcmp(key, "items")) return items_valid(v, k);
    if (!strcmp(key, "minimum")) return !json_is_number(v) || json_number_value(v) >= json_number_value(k);
    if (!strcmp(key, "minLength")) return !json_is_string(v) || length(v) >= json_integer_value(k);
    if (!strcmp(key, "maxLength")) return !json_is_string(v) || length(v) <= json_integer_value(k);
    if (!strcmp(key, "pattern")) return matches(v, json_string_value(k));
    static const char *const words[] = {"$schema", "$id", "$defs", "title", "description"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(key, words[i])) return 1;
    ck_abort_msg("%s: a keyword that the test doesn't know", key);
    return 0;
}

static int valid(const json_t *v, const json_t *s)
{
    const char *key;
    json_t *k;
    json_object_foreach((json_t *)s, key, k) if (!keyword(v, s, key, k)) return 0;
    return 1;
}

/* ---- the program ---- */

/* Does castor bench report take it? Its exit status is 0 or 1, nothing else. */
static int taken(const char *file)
{
    char command[1200];
    snprintf(command, sizeof command, "\"$CASTOR\" bench report --quiet --format csv '%s' >%s/out 2>%s/err", file, test_dir(), test_dir());
    int status = system(command);
    ck_assert(WIFEXITED(status));
    if (WEXITSTATUS(status) > 1) ck_abort_msg("%s: exit status %d", command, WEXITSTATUS(status));
    return WEXITSTATUS(status) == 0;
}

static int changes, refused;

/* Both must say the same of root as it is now. */
static void compare(const json_t *root, const char *where, const char *what)
{
    ck_assert_int_eq(json_dump_file(root, path, 0), 0);
    int by_schema = valid(root, schema), by_program = taken(path);
    if (by_schema != by_program)
        ck_abort_msg("%s %s: the schema %s it, the program %s it", where, what, by_schema ? "allows" : "refuses",
                     by_program ? "allows" : "refuses");
    changes++;
    refused += !by_schema;
}

static void change_all(json_t *root, json_t *at, const char *where);

static void change_value(json_t *root, json_t *at, const char *key, size_t index, const char *where)
{
    static const char *const others[] = {"null", "true", "-1", "0.5", "7", "\"\"", "\"2026-1-01\"", "[]", "[-1]", "{}",
                                         "\"0123456789012345678901234567890123456789012345678901234567890123\""};
    json_t *old = json_incref(key ? json_object_get(at, key) : json_array_get(at, index));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        json_t *v = json_loads(others[i], JSON_DECODE_ANY, NULL);
        if (key) json_object_set_new(at, key, v);
        else json_array_set_new(at, index, v);
        compare(root, where, others[i]);
    }
    if (key) {
        json_object_del(at, key);
        compare(root, where, "gone");
        json_object_set(at, key, old);
    } else json_array_set(at, index, old);
    change_all(root, old, where);
    json_decref(old);
}

static void change_all(json_t *root, json_t *at, const char *where)
{
    char place[512];
    if (json_is_object(at)) {
        const char *key;
        json_t *v, *copy = json_copy(at); /* `at` changes on the way */
        json_object_foreach(copy, key, v) {
            snprintf(place, sizeof place, "%s.%s", where, key);
            change_value(root, at, key, 0, place);
        }
        json_decref(copy);
        json_object_set_new(at, "zzz", json_integer(1));
        compare(root, where, "with another member");
        json_object_del(at, "zzz");
    }
    for (size_t i = 0; i < json_array_size(at) && (i < 2 || json_is_object(json_array_get(at, i))); i++) { /* numbers are alike */
        snprintf(place, sizeof place, "%s[%zu]", where, i);
        change_value(root, at, NULL, i, place);
    }
}

START_TEST(test_same_changes_refused)
{
    json_t *root = load(source("tests/fixtures/results/alpha.json"));
    compare(root, "the file", "as it is");
    ck_assert_int_eq(refused, 0);
    json_object_set_new(root, "stopped", json_string("why")); /* all members are there */
    change_all(root, root, "");
    compare(root, "the file", "as it was");
    ck_assert_int_gt(changes, 800);
    ck_assert_int_gt(refused, 600);
    ck_assert_int_gt(changes - refused, 100);
    json_decref(root);
}
END_TEST

/* Names that tables of the program have: rows and units of the schema are taken. */
START_TEST(test_every_name)
{
    static const char *const names[][2] = {{"row_name", "row"}, {"row", "unit"}};
    for (int k = 0; k < 2; k++) {
        json_t *root = load(source("tests/fixtures/results/beta.json")), *row = json_array_get(json_object_get(root, "rows"), 0);
        const json_t *def = json_object_get(json_object_get(schema, "$defs"), names[k][0]);
        if (k) def = json_object_get(json_object_get(def, "properties"), "unit");
        const json_t *list = json_object_get(def, "enum");
        ck_assert_int_gt((int)json_array_size(list), 5);
        for (size_t i = 0; i < json_array_size(list); i++) {
            json_object_set(row, names[k][1], json_array_get(list, i));
            compare(root, names[k][1], json_string_value(json_array_get(list, i)));
        }
        json_decref(root);
    }
}
END_TEST

/* The rows that castor bench device knows are those of the schema, no more and no less. */
START_TEST(test_rows_of_the_program)
{
    char text[2048] = "";
    const json_t *list = json_object_get(json_object_get(json_object_get(schema, "$defs"), "row_name"), "enum");
    json_t *root = load(source("tests/fixtures/results/beta.json"));
    json_object_set_new(json_array_get(json_object_get(root, "rows"), 0), "row", json_string("warp"));
    ck_assert_int_eq(json_dump_file(root, path, 0), 0);
    ck_assert(!taken(path));
    FILE *f = fopen(test_path(test_dir(), "err"), "r");
    ck_assert(fgets(text, sizeof text, f) != NULL);
    fclose(f);
    char *known = strstr(text, "those that there are: ");
    ck_assert_ptr_nonnull(known);
    size_t n = 0;
    for (char *p = strtok(known + strlen("those that there are: "), ", \n"); p; p = strtok(NULL, ", \n"), n++) {
        size_t i = 0;
        while (i < json_array_size(list) && strcmp(json_string_value(json_array_get(list, i)), p)) i++;
        if (i == json_array_size(list)) ck_abort_msg("%s isn't in the schema", p);
    }
    ck_assert_int_eq((int)n, (int)json_array_size(list));
    json_decref(root);
}
END_TEST

/* Results that travel with Castor. */
START_TEST(test_committed_results)
{
    static const char *const folders[] = {"bench/results", "tests/fixtures/results"};
    for (int k = 0; k < 2; k++) {
        int n = 0;
        DIR *d = opendir(source(folders[k]));
        ck_assert_ptr_nonnull(d);
        for (struct dirent *e; (e = readdir(d));) {
            char file[800];
            size_t len = strlen(e->d_name);
            if (len < 5 || strcmp(e->d_name + len - 5, ".json")) continue;
            snprintf(file, sizeof file, "%s/%s", source(folders[k]), e->d_name);
            json_t *j = load(file);
            if (!valid(j, schema)) ck_abort_msg("%s: not by the schema", file);
            if (!taken(file)) ck_abort_msg("%s: castor bench report refuses it", file);
            json_decref(j);
            n++;
        }
        closedir(d);
        ck_assert_int_ge(n, 1);
    }
}
END_TEST

int main(void)
{
    if (!getenv("CASTOR")) {
        fprintf(stderr, "CASTOR must name the program\n");
        return 99;
    }
    Suite *s = suite_create("result schema");
    TCase *t = tcase_create("all");
    snprintf(path, sizeof path, "%s/result.json", test_dir());
    schema = load(source("bench/result.schema.json"));
    tcase_add_test(t, test_same_changes_refused);
    tcase_add_test(t, test_every_name);
    tcase_add_test(t, test_rows_of_the_program);
    tcase_add_test(t, test_committed_results);
    suite_add_tcase(s, t);
    int failed = test_run(s);
    json_decref(schema);
    return failed;
}
