#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

static cst_log_sink log_sink;
static void *log_user;
static cst_log_level log_most = CST_LOG_INFO;

void cst_log_set(cst_log_sink sink, void *user, cst_log_level most)
{
    log_sink = sink;
    log_user = user;
    log_most = most;
}

int cst_log_wants(cst_log_level level)
{
    return log_sink && level <= log_most;
}

void cst_log(cst_log_level level, const char *fmt, ...)
{
    if (!cst_log_wants(level)) return;
    char line[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    log_sink(level, line, log_user);
}
