/* castor trace period: what repeats in a sequence of accesses. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/plan_trace.h"
#include "memory/period.h"

/* One access a line, any text; empty lines aren't any. */
static cst_status from_lines(uint64_t **out, int64_t *n, const char *text, const char *path)
{
    size_t lines = 1;
    *n = 0;
    for (const char *p = text; (p = strchr(p, '\n')); p++) lines++;
    *out = malloc(lines * sizeof **out);
    if (!*out) return cst_fail(CST_NO_MEMORY, "%s", path);
    for (const char *p = text; *p;) {
        size_t length = strcspn(p, "\r\n");
        if (length) (*out)[(*n)++] = XXH3_64bits(p, length);
        p += length;
        p += strspn(p, "\r\n");
    }
    if (*n) return CST_OK;
    free(*out);
    return cst_fail(CST_INPUT, "%s: no accesses; allowed: one a line, or a trace as castor trace record writes it", path);
}

static cst_status read_accesses(uint64_t **out, int64_t *n, const cst_args *a)
{
    char *text;
    size_t size;
    cst_trace *t;
    const char *path = cst_input_name(a->operand);
    CST_TRY(cst_input_read(&text, &size, a->operand));
    const char *p = text;
    while (isspace((unsigned char)*p)) p++;
    int json = *p == '{';
    cst_status st = CST_OK;
    if (!json && strlen(text) != size) st = cst_fail(CST_INPUT, "%s: byte %zu is 0; allowed: lines of text", path, strlen(text));
    else if (!json) st = from_lines(out, n, text, path);
    free(text);
    if (st != CST_OK || !json) return st;
    CST_TRY(cst_trace_load(&t, a->operand)); /* a pipe can't be read twice; the loader says so */
    *n = t->moments;
    st = cst_period_accesses(out, t);
    cst_trace_free(t);
    return st;
}

/* For long sequences, where there is one; else the host does it. */
static void open_device(cst_device **dev, cst_mem **m, const cst_args *a, int64_t n)
{
    *dev = NULL;
    *m = NULL;
    if (n < CST_PERIOD_DEVICE_FROM) return;
    if (cst_device_open(dev, a->text[CST_OPTION_DEVICE], 0) == CST_OK && cst_mem_create(m, *dev, cst_args_size(a, CST_OPTION_DEVICE_MEM)) == CST_OK) return;
    cst_log(CST_LOG_INFO, "%s; the host does it", cst_detail());
}

static void print(const cst_args *a, const cst_period *p, int64_t n, double seconds)
{
    char took[32];
    if (cst_args_flag(a, CST_OPTION_JSON)) {
        json_t *j = json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:b, s:s, s:f}", "accesses", (json_int_t)n, "length", (json_int_t)p->length, "span",
                              (json_int_t)p->span, "first", (json_int_t)p->first, "end", (json_int_t)p->end, "share", p->share, "exact",
                              p->exact, "found_on", p->on_device ? "device" : "host", "seconds", seconds);
        json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(j);
        return;
    }
    printf("accesses     %lld\n", (long long)n);
    if (!p->length) {
        printf("period       none\n");
        return;
    }
    printf("period       %lld%s\n", (long long)p->length, p->exact ? ", access by access" : ", with others in between");
    if (!p->exact) printf("comes every  %lld\n", (long long)p->span);
    printf("seen         from %lld to %lld, %.1f times, %.0f %% of the accesses there\n", (long long)p->first, (long long)p->end,
           (double)(p->end - p->first) / (double)p->span, 100 * p->share);
    printf("found        in %s, on the %s\n", cst_seconds_text(took, seconds), p->on_device ? "device" : "host");
}

cst_status cst_cmd_trace_period(const cst_args *a)
{
    uint64_t *s;
    int64_t n;
    cst_period p;
    cst_device *dev;
    cst_mem *m;
    if (!a->operand) return cst_fail(CST_USAGE, "castor trace period needs a FILE: accesses, one a line, or a trace");
    CST_TRY(read_accesses(&s, &n, a));
    open_device(&dev, &m, a, n);
    double begin = cst_now();
    cst_status st = cst_period_find(&p, s, n, m);
    if (st == CST_OK) print(a, &p, n, cst_now() - begin);
    cst_status books = cst_mem_free(m);
    cst_device_close(dev);
    free(s);
    return st == CST_OK ? books : st;
}
