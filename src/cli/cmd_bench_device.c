/* castor bench device: what a device can do. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "bench/device_rows.h"
#include "cli/cli.h"
#include "device/program.h"

static void progress(void *user, const char *row, const char *what)
{
    char line[96];
    (void)user;
    snprintf(line, sizeof line, "%s%s%s", row, *what ? ": " : "", what);
    cst_status_line(line);
}

static int interrupted(void *user)
{
    (void)user;
    return cst_interrupted();
}

static void print_json(const cst_device *dev, const cst_rows *rows)
{
    json_t *list = json_array(), *j = json_pack("{s:o, s:o}", "device", cst_device_json(&dev->info), "rows", list);
    for (size_t i = 0; i < rows->n; i++) json_array_append_new(list, cst_row_json(&rows->list[i]));
    json_dumpf(j, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(j);
}

static void print_row(const cst_row *r, int width)
{
    if (r->missing[0]) {
        printf("%-11s %-*s  missing: %s\n", r->row, width, r->what, r->missing);
        return;
    }
    char value[32], percent[16] = "", error[24] = "";
    snprintf(value, sizeof value, r->value >= 100 ? "%.1f" : r->value >= 1 ? "%.2f" : "%.4f", r->value);
    if (r->ceiling > 0) snprintf(percent, sizeof percent, "%.1f%%", 100 * (r->less ? r->ceiling / r->value : r->value / r->ceiling));
    if (r->error >= 0) snprintf(error, sizeof error, "%.1e", r->error);
    printf("%-11s %-*s %10s %-7s %6.1f%% %7s  %s\n", r->row, width, r->what, value, r->unit, 100 * r->spread, percent, error);
}

static void print_text(const cst_device *dev, const cst_rows *rows)
{
    int width = 0;
    for (size_t i = 0; i < rows->n; i++)
        if ((int)strlen(rows->list[i].what) > width) width = (int)strlen(rows->list[i].what);
    printf("%s, %s, driver %s\n%-11s %-*s %10s %-7s %7s %7s  %s\n", dev->info.name, dev->info.platform, dev->info.driver, "row", width,
           "case", "value", "", "spread", "of most", "error");
    for (size_t i = 0; i < rows->n; i++) {
        if (i && strcmp(rows->list[i].row, rows->list[i - 1].row)) putchar('\n');
        print_row(&rows->list[i], width);
    }
}

cst_status cst_cmd_bench_device(const cst_args *a)
{
    cst_device *dev = NULL;
    cst_rows rows = {NULL, 0, 0};
    cst_bench_device_options o = {.quick = cst_args_flag(a, CST_OPTION_QUICK), .rows = a->text[CST_OPTION_ROWS], .interrupted = interrupted,
                                  .progress = cst_args_flag(a, CST_OPTION_QUIET) ? NULL : progress};
    cst_status st;
    if (a->text[CST_OPTION_DEVICE_MEM]) o.device_mem = cst_args_size(a, CST_OPTION_DEVICE_MEM);
    CST_GO(cst_bench_device_check(o.rows), out);
    CST_GO(cst_device_open(&dev, a->text[CST_OPTION_DEVICE], 0), out);
    st = cst_bench_device(&rows, dev, &o);
    cst_status_line(NULL);
    if (rows.n && cst_args_flag(a, CST_OPTION_JSON)) print_json(dev, &rows);
    else if (rows.n) print_text(dev, &rows);
out:
    if (dev) cst_program_save(dev);
    cst_device_close(dev);
    cst_rows_free(&rows);
    return st;
}
