#include "train/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

#define NAME "metrics.jsonl"

/* Step of a line, 0 when it is none: a killed run may have left half a line. */
static int64_t step_of(const char *line, size_t n)
{
    json_t *j = json_loadb(line, n, 0, NULL);
    int64_t step = json_integer_value(json_object_get(j, "step"));
    json_decref(j);
    return step > 0 ? step : 0;
}

/* Leave those lines of `text` whose steps are at most `last` and grow; returns the bytes. from: for the warning. */
static size_t keep_lines(char *text, int64_t last, const char *from)
{
    int64_t before = 0;
    size_t kept = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        size_t n = (size_t)(end - line);
        int64_t step = step_of(line, n);
        if (step > last || step <= before) continue;
        memmove(text + kept, line, n + 1);
        kept += n + 1;
        before = step;
    }
    if (before != last) cst_log(CST_LOG_WARN, "%s ends with step %" PRId64 ", the checkpoint is of step %" PRId64, from, before, last);
    return kept;
}

static cst_status copy_lines(const char *path, const char *from, int64_t step)
{
    char *text = NULL;
    size_t n;
    if (cst_path_exists(from)) CST_TRY(cst_file_read(&text, &n, from));
    cst_status st = cst_file_write(path, text ? text : "", keep_lines(text ? text : "", step, from));
    free(text);
    return st;
}

cst_status cst_metrics_open(int *fd, const char *out_dir, const char *from_dir, int64_t step)
{
    cst_status st = CST_OK;
    char *path = cst_path_join(out_dir, NAME), *from = cst_path_join(from_dir ? from_dir : out_dir, NAME);
    if (!path || !from) {
        st = cst_fail(CST_NO_MEMORY, "%s", out_dir);
        goto out;
    }
    if (step) CST_GO(copy_lines(path, from, step), out);
    *fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (step ? 0 : O_TRUNC), 0666);
    if (*fd < 0) st = cst_fail(CST_IO, "%s: %s", path, strerror(errno));
out:
    free(path);
    free(from);
    return st;
}
