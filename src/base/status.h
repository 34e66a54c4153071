/* Status codes and the detail message that goes with them.
 *
 * Every function of the library that can fail returns a cst_status. The library never prints, exits or
 * aborts on its own: it returns the code and leaves one line of detail for the caller in cst_detail().
 * The detail is kept per thread and holds until the next failure on that thread.
 */
#ifndef CST_BASE_STATUS_H
#define CST_BASE_STATUS_H

/* name, text, exit status of the program when a command ends with it */
#define CST_STATUS_LIST(X)                                                   \
    X(OK, "ok", 0)                                                           \
    X(USAGE, "wrong use", 2)             /* the caller asked for nonsense */ \
    X(UNSUPPORTED, "not supported", 2)   /* sensible, but not done here */   \
    X(INPUT, "bad input", 1)             /* a file's content is wrong */     \
    X(IO, "input/output error", 1)                                           \
    X(NO_MEMORY, "out of host memory", 1)                                    \
    X(OVER_BUDGET, "over the device-memory budget", 1) /* nothing changed */ \
    X(DEVICE, "device error", 1)         /* an OpenCL call failed */         \
    X(BUILD, "kernel build failed", 1)                                       \
    X(NO_DEVICE, "no such device", 1)                                        \
    X(STATE, "call out of order", 1)     /* a contract was broken: a bug */  \
    X(NOT_FINITE, "not a finite number", 1)                                  \
    X(INTERRUPTED, "interrupted", 130)

typedef enum cst_status {
#define X(name, text, code) CST_##name,
    CST_STATUS_LIST(X)
#undef X
    CST_STATUS_COUNT
} cst_status;

#if defined(__GNUC__)
#define CST_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define CST_PRINTF(f, a)
#endif

/* Static text of a status ("over the device-memory budget"). */
const char *cst_status_text(cst_status s);
/* Exit status of the program for it (0, 1, 2 or 130). */
int cst_status_exit(cst_status s);
/* Record a detail line (printf-style) for this thread and return s. Control characters become "?". */
cst_status cst_fail(cst_status s, const char *fmt, ...) CST_PRINTF(2, 3);
/* Put "prefix: " in front of the current detail and return s: who was doing what. */
cst_status cst_fail_in(cst_status s, const char *fmt, ...) CST_PRINTF(2, 3);
/* The last detail of this thread, "" if none. Borrowed until the next failure. */
const char *cst_detail(void);

/* Return from the calling function when `e` fails. */
#define CST_TRY(e)                                  \
    do {                                            \
        cst_status cst_try_ = (e);                  \
        if (cst_try_ != CST_OK) return cst_try_;    \
    } while (0)

/* Jump to the function's one cleanup label when `e` fails; needs a variable `st`. */
#define CST_GO(e, label)                            \
    do {                                            \
        st = (e);                                   \
        if (st != CST_OK) goto label;               \
    } while (0)

#endif
