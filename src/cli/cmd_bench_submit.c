/* castor bench submit and castor bench report: result files, and devices side by side. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "bench/compare.h"
#include "bench/submit.h"
#include "cli/cli.h"

/* ---- submit ---- */

cst_status cst_cmd_bench_submit(const cst_args *a)
{
    cst_device_info *list;
    size_t n, pick = 0;
    cst_submit_options o = {.out = a->text[CST_OPTION_RESULT],
                            .name = a->text[CST_OPTION_NAME],
                            .quick = cst_args_flag(a, CST_OPTION_QUICK),
                            .rows = a->text[CST_OPTION_ROWS],
                            .run = {.device = a->text[CST_OPTION_DEVICE], .stop = cst_interrupted},
                            .tell = cst_args_flag(a, CST_OPTION_QUIET) ? NULL : cst_status_line};
    if (!o.out) return cst_fail(CST_USAGE, "castor bench submit needs --out FILE");
    if (o.name && strlen(o.name) > 63) return cst_fail(CST_USAGE, "--name: at most 63 bytes");
    if (a->text[CST_OPTION_DEVICE_MEM]) o.run.device_mem = cst_args_size(a, CST_OPTION_DEVICE_MEM);
    CST_TRY(cst_device_list(&list, &n));
    cst_status st = cst_device_choose(&pick, list, n, o.run.device);
    if (st == CST_OK) o.device = cst_device_json(&list[pick]);
    free(list);
    if (st == CST_OK) st = cst_submit(&o);
    json_decref(o.device);
    cst_status_line(NULL);
    if (st == CST_OK && !cst_args_flag(a, CST_OPTION_QUIET)) printf("%s\n", o.out);
    return st;
}

/* ---- report ---- */

typedef void form(FILE *f, const cst_compare *c);

static const struct {
    const char *name, *end;
    form *write;
} forms[] = {{"markdown", ".md", cst_compare_markdown}, {"csv", ".csv", cst_compare_csv}, {"html", ".html", cst_compare_page},
             {"svg", ".svg", cst_compare_picture}};
#define FORMS (sizeof forms / sizeof *forms)

static form *form_of(const char *path)
{
    size_t n = strlen(path);
    for (size_t i = 0; i < FORMS; i++) {
        size_t k = strlen(forms[i].end);
        if (n > k && !strcmp(path + n - k, forms[i].end)) return forms[i].write;
    }
    return NULL;
}

/* The files of --out, cut out of `names` with 0 bytes between them; every end must be a form's. */
static cst_status split(char *names, int *count)
{
    *count = 0;
    for (char *p = names; p; (*count)++) {
        char *end = strchr(p, ',');
        if (end) *end = 0;
        if (!form_of(p)) return cst_fail(CST_USAGE, "--out %s: a name that ends in .html, .md, .csv or .svg is wanted", p);
        p = end ? end + 1 : NULL;
    }
    return CST_OK;
}

static cst_status write_file(const char *path, const cst_compare *c)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) return cst_fail(CST_NO_MEMORY, "%s", path);
    form_of(path)(f, c);
    int bad = ferror(f);
    cst_status st = fclose(f) || bad ? cst_fail(CST_NO_MEMORY, "%s", path) : cst_file_write(path, text, size);
    free(text);
    return st;
}

static cst_status write_all(const cst_args *a, const cst_compare *c, const char *names, int count)
{
    if (!count) {
        for (size_t i = 0; i < FORMS; i++)
            if (!strcmp(forms[i].name, a->text[CST_OPTION_FORMAT])) forms[i].write(stdout, c);
        return CST_OK;
    }
    for (const char *p = names; count--; p += strlen(p) + 1) {
        CST_TRY(write_file(p, c));
        if (!cst_args_flag(a, CST_OPTION_QUIET)) printf("%s\n", p);
    }
    return CST_OK;
}

/* A wrong device and a result that isn't whole are told on stderr, too. */
static void warn(const cst_compare *c)
{
    for (int i = 0; i < c->results; i++) {
        if (c->differs[i])
            fprintf(stderr,
                    "warning: %s: %d of %d training runs have other losses than they should: the device or its driver computes wrongly\n",
                    c->result[i].file, c->differs[i], c->checked[i]);
        if (!c->result[i].complete)
            fprintf(stderr, "warning: %s: incomplete: %s\n", c->result[i].file, cst_compare_text(&c->result[i], NULL, "stopped"));
    }
}

cst_status cst_cmd_bench_report(const cst_args *a)
{
    cst_result result[CST_OPERANDS_MOST];
    cst_compare c = {NULL};
    int n = 0, count = 0;
    char *names = a->text[CST_OPTION_PAGES] ? strdup(a->text[CST_OPTION_PAGES]) : NULL;
    cst_status st = a->text[CST_OPTION_PAGES] && !names ? cst_fail(CST_NO_MEMORY, "--out") : CST_OK;
    if (names) CST_GO(split(names, &count), out);
    while (n < a->operand_count && st == CST_OK) {
        st = cst_result_load(&result[n], a->operands[n]);
        n++;
    }
    if (st == CST_OK) st = cst_compare_make(&c, result, n, !strcmp(a->text[CST_OPTION_RATIO], "best"));
    if (st == CST_OK) st = write_all(a, &c, names, count);
    if (st == CST_OK && !cst_args_flag(a, CST_OPTION_QUIET)) warn(&c);
out:
    cst_compare_free(&c);
    while (n) cst_result_free(&result[--n]);
    free(names);
    return st;
}
