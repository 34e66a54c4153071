/* What the fuzz targets share. Each is a file with libFuzzer's entry; `./configure --enable-fuzz && make fuzz` builds and runs
 * all of them from copies of their seeds (see run.sh). What they find becomes a bad-* file or a case in a check_* program.
 */
#ifndef FUZZING_H
#define FUZZING_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The path of a file in memory with this content; close *fd when done. */
static inline const char *fuzz_file(int *fd, const uint8_t *data, size_t size)
{
    static char path[64];
    *fd = memfd_create("fuzz", 0);
    if (*fd < 0) abort();
    while (size) {
        ssize_t n = write(*fd, data, size);
        if (n <= 0) abort();
        data += n;
        size -= (size_t)n;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", *fd);
    return path;
}

#endif
