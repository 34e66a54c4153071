/* What every test program shares: run a Check suite without forking (an OpenCL context doesn't survive a
 * fork) and turn its outcome into an exit status that `make check` understands: 0 pass, 1 fail, 77 skip.
 */
#ifndef TESTING_H
#define TESTING_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

/* Fails the test with the library's own words when a call that must work doesn't. */
#define ck_ok(e)                                                                                          \
    do {                                                                                                  \
        cst_status s_ = (e);                                                                              \
        if (s_ != CST_OK) ck_abort_msg("%s: %s: %s", #e, cst_status_text(s_), cst_detail());              \
    } while (0)

/* Fails the test unless the call returns exactly this status and a detail that contains `words`. */
#define ck_fails(e, status, words)                                                                        \
    do {                                                                                                  \
        cst_status s_ = (e);                                                                              \
        if (s_ != (status))                                                                               \
            ck_abort_msg("%s: %s (%s), wanted %s", #e, cst_status_text(s_), cst_detail(), #status);       \
        if (!strstr(cst_detail(), (words)))                                                               \
            ck_abort_msg("%s: detail \"%s\" lacks \"%s\"", #e, cst_detail(), (words));                    \
    } while (0)

static inline int test_run(Suite *s)
{
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r), ran = srunner_ntests_run(r);
    srunner_free(r);
    if (!ran) {
        fprintf(stderr, "no test ran\n");
        return 1;
    }
    return failed ? 1 : 0;
}

/* A folder for files of this test program, made anew; borrowed. */
static inline const char *test_dir(void)
{
    static char dir[256];
    if (!dir[0]) {
        const char *t = getenv("TMPDIR");
        snprintf(dir, sizeof dir, "%s/castor-test-XXXXXX", t ? t : "/tmp");
        if (!mkdtemp(dir)) abort();
    }
    return dir;
}

/* "<dir>/<name>", borrowed until the next call but 31. */
static inline const char *test_path(const char *dir, const char *name)
{
    static char path[32][1024];
    static int turn;
    char made[1024]; /* dir may be one of them */
    turn = (turn + 1) % 32;
    if (snprintf(made, sizeof made, "%s/%s", dir, name) >= (int)sizeof made) abort();
    return strcpy(path[turn], made);
}

/* The same for a file of this test program and for one of the sources. */
static inline const char *test_file(const char *name)
{
    return test_path(test_dir(), name);
}

static inline const char *source_path(const char *name)
{
    const char *dir = getenv("srcdir");
    return test_path(dir ? dir : ".", name);
}

#endif
