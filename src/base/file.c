#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct cst_file {
    int fd;
    char *path, *temp;
};

cst_status cst_file_read(char **data, size_t *size, const char *path)
{
    cst_status st = CST_OK;
    char *p = NULL;
    struct stat sb;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return cst_fail(CST_IO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &sb) || !S_ISREG(sb.st_mode)) {
        st = cst_fail(CST_IO, "%s: not a regular file", path);
        goto out;
    }
    size_t n = (size_t)sb.st_size, got = 0;
    p = malloc(n + 1);
    if (!p) {
        st = cst_fail(CST_NO_MEMORY, "%s: %zu bytes", path, n);
        goto out;
    }
    while (got < n) {
        ssize_t r = read(fd, p + got, n - got);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) {
            st = cst_fail(CST_IO, "%s: %s", path, r ? strerror(errno) : "file shrank while it was read");
            goto out;
        }
        got += (size_t)r;
    }
    p[n] = 0;
    *data = p;
    *size = n;
    p = NULL;
out:
    free(p);
    close(fd);
    return st;
}

cst_status cst_file_create(cst_file **out, const char *path)
{
    cst_file *f = calloc(1, sizeof *f);
    size_t n = strlen(path) + 8;
    if (!f || !(f->path = strdup(path)) || !(f->temp = malloc(n))) {
        if (f) free(f->path);
        free(f);
        return cst_fail(CST_NO_MEMORY, "%s", path);
    }
    snprintf(f->temp, n, "%s.XXXXXX", path);
    f->fd = mkstemp(f->temp);
    if (f->fd < 0) {
        cst_status st = cst_fail(CST_IO, "%s: %s", path, strerror(errno));
        free(f->path);
        free(f->temp);
        free(f);
        return st;
    }
    mode_t mask = umask(0);
    umask(mask);
    (void)fchmod(f->fd, 0666 & ~mask);
    *out = f;
    return CST_OK;
}

cst_status cst_file_put(cst_file *f, const void *data, size_t size)
{
    const char *p = data;
    while (size) {
        ssize_t w = write(f->fd, p, size > (1u << 30) ? 1u << 30 : size);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return cst_fail(CST_IO, "%s: %s", f->path, strerror(errno));
        p += w;
        size -= (size_t)w;
    }
    return CST_OK;
}

static void file_free(cst_file *f)
{
    free(f->path);
    free(f->temp);
    free(f);
}

static cst_status sync_parent(const char *path)
{
    char *copy = strdup(path);
    if (!copy) return cst_fail(CST_NO_MEMORY, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0) return CST_OK; /* a folder we may write but not read: the rename stands */
    int r = fsync(fd);
    close(fd);
    return r && errno != EINVAL ? cst_fail(CST_IO, "%s: %s", path, strerror(errno)) : CST_OK;
}

cst_status cst_file_commit(cst_file *f)
{
    if (fsync(f->fd) && errno != EINVAL) {
        cst_status st = cst_fail(CST_IO, "%s: %s", f->path, strerror(errno));
        cst_file_discard(f);
        return st;
    }
    int r = close(f->fd);
    f->fd = -1;
    if (r || rename(f->temp, f->path)) {
        cst_status st = cst_fail(CST_IO, "%s: %s", f->path, strerror(errno));
        cst_file_discard(f);
        return st;
    }
    cst_status st = sync_parent(f->path);
    file_free(f);
    return st;
}

void cst_file_discard(cst_file *f)
{
    if (!f) return;
    if (f->fd >= 0) close(f->fd);
    unlink(f->temp);
    file_free(f);
}

cst_status cst_file_write(const char *path, const void *data, size_t size)
{
    cst_file *f;
    CST_TRY(cst_file_create(&f, path));
    cst_status st = cst_file_put(f, data, size);
    if (st != CST_OK) {
        cst_file_discard(f);
        return st;
    }
    return cst_file_commit(f);
}

cst_status cst_make_dirs(const char *path)
{
    char *p = strdup(path);
    if (!p) return cst_fail(CST_NO_MEMORY, "%s", path);
    cst_status st = CST_OK;
    for (char *s = p + 1; st == CST_OK; s++) {
        char c = *s;
        if (c != '/' && c != 0) continue;
        *s = 0;
        if (mkdir(p, 0777) && errno != EEXIST) st = cst_fail(CST_IO, "%s: %s", p, strerror(errno));
        *s = c;
        if (c == 0) break;
    }
    struct stat sb;
    if (st == CST_OK && (stat(path, &sb) || !S_ISDIR(sb.st_mode))) st = cst_fail(CST_IO, "%s: not a folder", path);
    free(p);
    return st;
}

char *cst_path_join(const char *a, const char *b)
{
    size_t n = strlen(a) + strlen(b) + 2;
    char *p = malloc(n);
    if (p) snprintf(p, n, "%s/%s", a, b);
    return p;
}

int cst_path_exists(const char *path)
{
    return access(path, F_OK) == 0;
}
