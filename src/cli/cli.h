/* What the commands share. Each command returns a status; main prints its detail and turns it into the exit
 * status (see base/status.h): 0, 1 failure, 2 wrong use or unsupported, 130 interrupted.
 * stdout is the result, stderr the status.
 */
#ifndef CST_CLI_CLI_H
#define CST_CLI_CLI_H

#include <jansson.h>

#include "cli/options.h"
#include "text/token_rows.h"
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
cst_status cst_cmd_bench_plugins(const cst_args *a);
cst_status cst_cmd_bench_submit(const cst_args *a);
cst_status cst_cmd_bench_report(const cst_args *a);
cst_status cst_cmd_bench_device(const cst_args *a);
cst_status cst_cmd_tune(const cst_args *a);
cst_status cst_cmd_plan(const cst_args *a);
cst_status cst_cmd_trace_record(const cst_args *a);
cst_status cst_cmd_trace_show(const cst_args *a);
cst_status cst_cmd_trace_replay(const cst_args *a);
cst_status cst_cmd_trace_html(const cst_args *a);
cst_status cst_cmd_trace_perfetto(const cst_args *a);
cst_status cst_cmd_trace_period(const cst_args *a);
cst_status cst_cmd_report(const cst_args *a);
cst_status cst_cmd_completion(const cst_args *a);
cst_status cst_cmd_tokenizer_encode(const cst_args *a);
cst_status cst_cmd_tokenizer_decode(const cst_args *a);
cst_status cst_cmd_tokenizer_train(const cst_args *a);

/* Common part of a session's options: device, budget, batch, placement, recompute, seed, optimizer. config
 * must be set already. Checks what the option table can't. */
cst_status cst_session_options_from(cst_session_options *o, const cst_args *a, const cst_config *config);
/* --config as a name or a file, or --model's config.json. */
cst_status cst_config_from(cst_config *c, const cst_args *a);

/* The ids of a --tokens-file (text/token_rows.h), one array after the other; array k ends at (*ends)[k], k < *rows. ends and rows
 * may be NULL together; what comes back is malloc'd. */
cst_status cst_token_rows_flat(uint32_t **ids, size_t *count, size_t **ends, size_t *rows, const char *path);

/* The tokenizer that --tokenizer names, else the model folder's, else bytes, which a model's folder gets only when it has no
 * file of a tokenizer; for token ids from a file NULL unless it is named or there and of a kind that can be read.
 * INPUT when it has more ids than the model. */
cst_status cst_tokenizer_from(cst_tokenizer **t, const cst_args *a, const cst_config *c);
/* The whole of a file, or of standard input for "-"; pipes are fine. *data is malloc'd, with a 0 byte behind its n. */
cst_status cst_input_read(char **data, size_t *n, const char *path);
/* How messages call it. */
const char *cst_input_name(const char *path);
/* What is known of a device; new reference. */
json_t *cst_device_json(const cst_device_info *d);

/* Shell completion and the manual page, from the tables of commands (main.c) and options. */
typedef struct cst_command {
    const char *words[2];    /* the second may be NULL */
    unsigned bit;
    cst_status (*run)(const cst_args *a);
    const char *summary;
    const char *usage;
} cst_command;
void cst_print_completion(const cst_command *list, size_t n);
void cst_print_man(const cst_command *list, size_t n);

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
