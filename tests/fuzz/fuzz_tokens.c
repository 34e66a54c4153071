/* Any bytes as a --tokens-file: what is accepted has rows of 2 ids or more, padded with zeros; what isn't says why. */
#include "base/status.h"
#include "fuzzing.h"
#include "text/token_rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd;
    cst_token_rows t = {0, 0, NULL, NULL};
    const char *path = fuzz_file(&fd, data, size);
    if (cst_token_rows_read(&t, path) == CST_OK) {
        int64_t longest = 0;
        for (int64_t r = 0; r < t.rows; r++) {
            if (t.length[r] < 2 || t.length[r] > t.seq) abort();
            if (t.length[r] > longest) longest = t.length[r];
            for (int64_t i = 0; i < t.seq; i++)
                if (t.ids[r * t.seq + i] < 0 || (i >= t.length[r] && t.ids[r * t.seq + i])) abort();
        }
        if (t.rows < 1 || longest != t.seq) abort();
    } else if (!*cst_detail()) {
        abort();
    }
    cst_token_rows_free(&t);
    close(fd);
    return 0;
}
