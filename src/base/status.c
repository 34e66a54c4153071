#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char detail[2048];

const char *cst_status_text(cst_status s)
{
    static const char *const text[] = {
#define X(name, t, code) t,
        CST_STATUS_LIST(X)
#undef X
    };
    return (unsigned)s < CST_STATUS_COUNT ? text[s] : "unknown status";
}

int cst_status_exit(cst_status s)
{
    static const int code[] = {
#define X(name, t, c) c,
        CST_STATUS_LIST(X)
#undef X
    };
    return (unsigned)s < CST_STATUS_COUNT ? code[s] : 1;
}

cst_status cst_fail(cst_status s, const char *fmt, ...)
{
    char line[sizeof detail];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    /* A file's own words may be in it: nothing there may steer a terminal. */
    for (char *p = line; *p; p++)
        if (((unsigned char)*p < ' ' && *p != '\n' && *p != '\t') || *p == 0x7f) *p = '?';
    memcpy(detail, line, sizeof detail);
    return s;
}

cst_status cst_fail_in(cst_status s, const char *fmt, ...)
{
    char what[sizeof detail / 4], line[sizeof detail];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    snprintf(line, sizeof line, "%s: %.*s", what, (int)(sizeof line - sizeof what - 4), detail);
    memcpy(detail, line, sizeof detail);
    return s;
}

const char *cst_detail(void)
{
    return detail;
}
