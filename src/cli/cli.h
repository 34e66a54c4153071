/* What the commands share. Each command returns a status; main prints its detail and turns it into the exit
 * status (see base/status.h): 0, 1 failure, 2 wrong use or unsupported, 130 interrupted.
 * stdout is the result, stderr the status.
 */
#ifndef CST_CLI_CLI_H
#define CST_CLI_CLI_H

#include "cli/options.h"
#include "text/tokenizer.h"
#include "train/session.h"

cst_status cst_cmd_devices(const cst_args *a);
cst_status cst_cmd_train(const cst_args *a);
cst_status cst_cmd_grads(const cst_args *a);
cst_status cst_cmd_eval(const cst_args *a);
cst_status cst_cmd_generate(const cst_args *a);
cst_status cst_cmd_bench_step(const cst_args *a);
cst_status cst_cmd_bench_gemm(const cst_args *a);
cst_status cst_cmd_bench_op(const cst_args *a);
cst_status cst_cmd_tune(const cst_args *a);
cst_status cst_cmd_tokenizer_encode(const cst_args *a);
cst_status cst_cmd_tokenizer_decode(const cst_args *a);
cst_status cst_cmd_tokenizer_train(const cst_args *a);

/* Common part of a session's options: device, budget, batch, placement, recompute, seed, optimizer. config
 * must be set already. Checks what the option table can't. */
cst_status cst_session_options_from(cst_session_options *o, const cst_args *a, const cst_config *config);
/* --config as a name or a file, or --model's config.json. */
cst_status cst_config_from(cst_config *c, const cst_args *a);

/* A --tokens-file: a JSON array of arrays of token ids. */
typedef struct cst_token_rows {
    int64_t rows, seq;       /* arrays, the longest one's tokens */
    int32_t *ids, *length;   /* [rows * seq], padded with 0; tokens of each row */
} cst_token_rows;
/* INPUT unless every array has 2 ids or more. Free with cst_token_rows_free, also after a failure. */
cst_status cst_token_rows_read(cst_token_rows *t, const char *path);
void cst_token_rows_free(cst_token_rows *t);
/* The same, one array after the other; *ids is malloc'd. */
cst_status cst_token_rows_flat(uint32_t **ids, size_t *count, const char *path);

/* The tokenizer that --tokenizer names, else the model folder's, else bytes; for token ids from a file NULL unless it is named
 * or there. INPUT when it has more ids than the model. */
cst_status cst_tokenizer_from(cst_tokenizer **t, const cst_args *a, const cst_config *c);
/* The whole of a file, or of standard input for "-"; pipes are fine. *data is malloc'd, with a 0 byte behind its n. */
cst_status cst_input_read(char **data, size_t *n, const char *path);
/* How messages call it. */
const char *cst_input_name(const char *path);

/* After Ctrl-C or SIGTERM this becomes 1; a second one ends the program at once. */
void cst_catch_signals(void);
int cst_interrupted(void);

/* Status on stderr. A line that is replaced by the next one, on a terminal only; NULL clears it. */
int cst_status_is_terminal(void);
void cst_status_line(const char *line);
/* "1.23 GiB", "12 MiB" */
const char *cst_bytes_text(char buf[32], double bytes);
/* "1:02:03", "4:05" */
const char *cst_duration_text(char buf[32], double seconds);

#endif
