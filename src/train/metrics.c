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

/* Those lines of `text` whose steps are at most `last` and grow. */
static cst_status put_lines(cst_file *f, const char *text, int64_t last, const char *path)
{
    int64_t before = 0;
    for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
        int64_t step = step_of(text, (size_t)(end - text));
        if (step > last || step <= before) continue;
        CST_TRY(cst_file_put(f, text, (size_t)(end - text) + 1));
        before = step;
    }
    if (before != last) cst_log(CST_LOG_WARN, "%s ends with step %" PRId64 ", the checkpoint is of step %" PRId64, path, before, last);
    return CST_OK;
}

static cst_status copy_lines(const char *path, const char *from, int64_t step)
{
    cst_file *f = NULL;
    char *text = NULL;
    size_t n;
    cst_status st = CST_OK;
    if (cst_path_exists(from)) CST_GO(cst_file_read(&text, &n, from), out);
    CST_GO(cst_file_create(&f, path), out);
    CST_GO(put_lines(f, text ? text : "", step, from), out);
    st = cst_file_commit(f);
    f = NULL;
out:
    cst_file_discard(f);
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
