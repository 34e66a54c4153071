/* Any bytes as a trace: what is accepted is a right trace, saves, and loads again as the same file. */
#include <string.h>

#include "base/file.h"
#include "fuzzing.h"
#include "memory/trace.h"

/* Saved bytes of a trace; the name is this process's own. */
static char *saved(const cst_trace *t, size_t *n)
{
    static char path[64];
    char *text;
    snprintf(path, sizeof path, "/tmp/castor-fuzz-%d.json", (int)getpid());
    if (cst_trace_save(t, path) != CST_OK || cst_file_read(&text, n, path) != CST_OK) abort();
    unlink(path);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd;
    cst_trace *t, *back;
    const char *path = fuzz_file(&fd, data, size);
    if (cst_trace_load(&t, path) == CST_OK) {
        size_t n, m;
        char *first = saved(t, &n), *second;
        int again;
        if (cst_trace_check(t) != CST_OK) abort();
        for (int k = 0; k < t->moments; k++)
            if (!(cst_trace_seconds(t, k) > 0) && t->moment[k].seconds < 0) abort();
        if (cst_trace_load(&back, fuzz_file(&again, (const uint8_t *)first, n)) != CST_OK) abort();
        second = saved(back, &m);
        if (n != m || memcmp(first, second, n)) abort();
        close(again);
        free(first);
        free(second);
        cst_trace_free(t);
        cst_trace_free(back);
    }
    close(fd);
    return 0;
}
