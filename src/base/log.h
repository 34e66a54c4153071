/* Status lines for people. The library itself writes nothing unless a sink is set: the program sets one
 * that writes to stderr. stdout stays free for results. */
#ifndef CST_BASE_LOG_H
#define CST_BASE_LOG_H

#include "base/status.h"

typedef enum cst_log_level { CST_LOG_ERROR, CST_LOG_WARN, CST_LOG_INFO, CST_LOG_DEBUG } cst_log_level;

typedef void (*cst_log_sink)(cst_log_level level, const char *line, void *user);

/* Set where lines go (NULL: nowhere) and the most detailed level that is passed on. */
void cst_log_set(cst_log_sink sink, void *user, cst_log_level most);
/* Is a line of this level wanted? */
int cst_log_wants(cst_log_level level);
/* One line without newline, printf-style. */
void cst_log(cst_log_level level, const char *fmt, ...) CST_PRINTF(2, 3);

#endif
