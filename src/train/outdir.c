#include "train/outdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

#define PREFIX "checkpoint-"
#define COMPLETE "complete"   /* the file that says so */
#define STATE_FILE "trainer.json" /* by which Castor knows a checkpoint as its own */
#define TEMP ".tmp-"
#define BEST "best"
#define BEST_OLD ".best.old"  /* what it is called while another takes its place */
#define PATH_SIZE 4096

/* ---- small things ---- */

/* Does dir/name exist? */
static int has(const char *dir, const char *name)
{
    char path[PATH_SIZE + 64];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return cst_path_exists(path);
}

static cst_status fail_errno(const char *path)
{
    return cst_fail(CST_IO, "%s: %s", path, strerror(errno));
}

/* Longer ones could be cut off below, and then name something else. */
static cst_status check_length(const char *out)
{
    if (strlen(out) <= PATH_SIZE - 320) return CST_OK;
    return cst_fail(CST_USAGE, "%.80s...: the folder's path is too long; allowed: %d bytes", out, PATH_SIZE - 320);
}

/* Not every file system syncs folders; what it says then is EINVAL. */
static cst_status sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail_errno(path);
    cst_status st = fsync(fd) && errno != EINVAL ? fail_errno(path) : CST_OK;
    close(fd);
    return st;
}

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    (void)sb, (void)type, (void)ftw;
    return remove(path);
}

static cst_status remove_tree(const char *path)
{
    return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) && errno != ENOENT ? fail_errno(path) : CST_OK;
}

/* A checkpoint gets a hidden name first, so that no half of it is ever taken for a whole. */
static cst_status remove_checkpoint(const char *out, int64_t step)
{
    char path[PATH_SIZE], hidden[PATH_SIZE];
    snprintf(path, sizeof path, "%s/" PREFIX "%" PRId64, out, step);
    snprintf(hidden, sizeof hidden, "%s/." PREFIX "%" PRId64 TEMP "gone", out, step);
    CST_TRY(remove_tree(hidden));
    if (rename(path, hidden)) return fail_errno(path);
    return remove_tree(hidden);
}

/* The step of a name "checkpoint-40", -1 for other names. */
static int64_t step_of(const char *name)
{
    size_t n = strlen(PREFIX);
    if (strncmp(name, PREFIX, n) || strspn(name + n, "0123456789") != strlen(name + n) || !name[n] || strlen(name + n) > 18) return -1;
    return strtoll(name + n, NULL, 10);
}

/* ---- what there is ---- */

typedef struct steps {
    int64_t *step;           /* ascending */
    size_t n;
} steps;

static int ascending(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static cst_status add(steps *l, int64_t step)
{
    int64_t *more = realloc(l->step, (l->n + 1) * sizeof *more);
    if (!more) return cst_fail(CST_NO_MEMORY, "checkpoints");
    l->step = more;
    l->step[l->n++] = step;
    return CST_OK;
}

/* The complete checkpoints, or with complete == 0 those of Castor's that aren't. Free l->step, also after a failure. */
static cst_status list(steps *l, const char *out, int complete)
{
    cst_status st = CST_OK;
    DIR *d = opendir(out);
    *l = (steps){NULL, 0};
    if (!d) return fail_errno(out);
    for (struct dirent *e; st == CST_OK && (e = readdir(d));) {
        char path[PATH_SIZE];
        int64_t step = step_of(e->d_name);
        snprintf(path, sizeof path, "%s/%s", out, e->d_name);
        if (step >= 0 && has(path, STATE_FILE) && has(path, COMPLETE) == complete) st = add(l, step);
    }
    closedir(d);
    if (l->n) qsort(l->step, l->n, sizeof *l->step, ascending);
    return st;
}

cst_status cst_outdir_check_new(const char *out)
{
    steps l;
    CST_TRY(check_length(out));
    if (!cst_path_exists(out)) return CST_OK;
    cst_status st = list(&l, out, 1);
    if (st == CST_OK && l.n)
        st = cst_fail(CST_USAGE,
                      "%s has checkpoints of another run, the last of step %" PRId64
                      ": go on with --resume %s, or take another --out, or remove them",
                      out, l.step[l.n - 1], out);
    free(l.step);
    return st;
}

cst_status cst_outdir_find(char **dir, const char *path)
{
    char name[PATH_SIZE];
    steps l;
    CST_TRY(check_length(path));
    if (has(path, STATE_FILE)) {
        if (!has(path, COMPLETE))
            return cst_fail(CST_INPUT, "%s: this checkpoint isn't complete (it has no file \"" COMPLETE "\")", path);
        *dir = strdup(path);
        return *dir ? CST_OK : cst_fail(CST_NO_MEMORY, "%s", path);
    }
    cst_status st = list(&l, path, 1);
    if (st == CST_OK && !l.n)
        st = cst_fail(CST_INPUT, "%s: no complete checkpoint is there (checkpoint-N with a file \"" COMPLETE "\")", path);
    if (st == CST_OK) {
        snprintf(name, sizeof name, "%s/" PREFIX "%" PRId64, path, l.step[l.n - 1]);
        *dir = strdup(name);
        if (!*dir) st = cst_fail(CST_NO_MEMORY, "%s", path);
    }
    free(l.step);
    return st;
}

/* ---- opening ---- */

/* What a killed run left under hidden names. */
static cst_status clean_hidden(const char *out)
{
    char path[PATH_SIZE], best[PATH_SIZE];
    cst_status st = CST_OK;
    snprintf(best, sizeof best, "%s/" BEST, out);
    snprintf(path, sizeof path, "%s/" BEST_OLD, out);
    if (cst_path_exists(path) && !cst_path_exists(best)) /* killed between two renames */
        if (rename(path, best)) return fail_errno(path);
    DIR *d = opendir(out);
    if (!d) return fail_errno(out);
    for (struct dirent *e; st == CST_OK && (e = readdir(d));) {
        const char *name = e->d_name;
        int temp = !strncmp(name, "." PREFIX, strlen("." PREFIX)) && strstr(name, TEMP);
        if (!temp && strncmp(name, "." BEST TEMP, strlen("." BEST TEMP)) && strcmp(name, BEST_OLD)) continue;
        snprintf(path, sizeof path, "%s/%s", out, name);
        cst_log(CST_LOG_DEBUG, "%s: left by a run that was killed; removed", path);
        st = remove_tree(path);
    }
    closedir(d);
    return st;
}

static cst_status clean(const char *out)
{
    steps l;
    CST_TRY(clean_hidden(out));
    cst_status st = list(&l, out, 0);
    for (size_t i = 0; st == CST_OK && i < l.n; i++) st = remove_checkpoint(out, l.step[i]);
    free(l.step);
    return st;
}

cst_status cst_outdir_open(int *lock, const char *out)
{
    CST_TRY(check_length(out));
    CST_TRY(cst_make_dirs(out));
    int fd = open(out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail_errno(out);
    cst_status st = CST_OK;
    if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) st = cst_fail(CST_STATE, "%s: another run is using this folder", out);
    if (st == CST_OK) st = clean(out);
    if (st != CST_OK) {
        close(fd);
        return st;
    }
    *lock = fd;
    return CST_OK;
}

/* ---- making ---- */

cst_status cst_outdir_room(const char *out, uint64_t bytes)
{
    struct statvfs v;
    if (statvfs(out, &v)) return fail_errno(out);
    uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
    if (room >= bytes) return CST_OK;
    return cst_fail(CST_IO, "%s: the disk is too full: %" PRIu64 " bytes (%.1f MiB) are needed, %" PRIu64 " (%.1f MiB) are free", out,
                    bytes, (double)bytes / 1048576.0, room, (double)room / 1048576.0);
}

cst_status cst_outdir_begin(char **temp, const char *out, const char *name)
{
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/.%s" TEMP "XXXXXX", out, name);
    if (!mkdtemp(path)) return cst_fail(CST_IO, "%s/%s: %s", out, name, strerror(errno));
    mode_t mask = umask(0);
    umask(mask);
    (void)chmod(path, 0777 & ~mask); /* mkdtemp's is for its owner only */
    *temp = strdup(path);
    if (*temp) return CST_OK;
    rmdir(path);
    return cst_fail(CST_NO_MEMORY, "%s", path);
}

void cst_outdir_discard(const char *temp)
{
    char why[2048];
    snprintf(why, sizeof why, "%s", cst_detail());
    if (remove_tree(temp) != CST_OK) cst_log(CST_LOG_WARN, "%s", cst_detail());
    if (*why) cst_fail(CST_OK, "%s", why); /* the failure before is the one to tell */
}

cst_status cst_outdir_commit(const char *temp, const char *out, int64_t step)
{
    char path[PATH_SIZE], mark[PATH_SIZE + 16];
    cst_status st;
    snprintf(path, sizeof path, "%s/" PREFIX "%" PRId64, out, step);
    snprintf(mark, sizeof mark, "%s/" COMPLETE, path);
    CST_GO(sync_folder(temp), fail);
    if (rename(temp, path)) {
        st = fail_errno(path);
        goto fail;
    }
    CST_GO(sync_folder(out), undo);
    CST_GO(cst_file_write(mark, "", 0), undo);
    return CST_OK;
undo:
    temp = path;
fail:
    cst_outdir_discard(temp);
    return st;
}

/* With two renames, where the file system can't exchange; what is in between is put right by clean_hidden. */
static int replace_by_two(const char *temp, const char *path, const char *old)
{
    if (rename(path, old)) return -1;
    if (!rename(temp, path)) return 0;
    int why = errno;
    (void)rename(old, path);
    errno = why;
    return -1;
}

cst_status cst_outdir_commit_best(const char *temp, const char *out)
{
    char path[PATH_SIZE], old[PATH_SIZE];
    const char *gone = old;
    cst_status st;
    int failed;
    snprintf(path, sizeof path, "%s/" BEST, out);
    snprintf(old, sizeof old, "%s/" BEST_OLD, out);
    CST_GO(sync_folder(temp), fail);
    if (!cst_path_exists(path)) {
        failed = rename(temp, path);
    } else {
#ifdef RENAME_EXCHANGE
        failed = renameat2(AT_FDCWD, temp, AT_FDCWD, path, RENAME_EXCHANGE);
        if (!failed) gone = temp;
        else if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP)
#endif
            failed = replace_by_two(temp, path, old);
    }
    if (failed) {
        st = fail_errno(path);
        goto fail;
    }
    CST_TRY(sync_folder(out));
    return remove_tree(gone);
fail:
    cst_outdir_discard(temp);
    return st;
}

/* ---- removing ---- */

cst_status cst_outdir_keep(const char *out, int64_t keep)
{
    steps l;
    if (!keep) return CST_OK;
    cst_status st = list(&l, out, 1);
    for (size_t i = 0; st == CST_OK && i + (size_t)keep < l.n; i++) st = remove_checkpoint(out, l.step[i]);
    free(l.step);
    return st;
}

cst_status cst_outdir_drop_after(const char *out, int64_t step)
{
    steps l;
    cst_status st = list(&l, out, 1);
    for (size_t i = 0; st == CST_OK && i < l.n; i++) {
        if (l.step[i] <= step) continue;
        cst_log(CST_LOG_INFO, "%s/" PREFIX "%" PRId64 " is of a step that is trained again: removed", out, l.step[i]);
        st = remove_checkpoint(out, l.step[i]);
    }
    free(l.step);
    return st;
}
