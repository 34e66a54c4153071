/* castor bench submit: everything about a device into one result file. */
#ifndef CST_BENCH_SUBMIT_H
#define CST_BENCH_SUBMIT_H

#include "bench/device_rows.h"
#include "bench/submit_run.h"

typedef struct cst_submit_options {
    const char *out;         /* the file */
    const char *name;        /* how reports call the result; NULL: the device's name and, in brackets, the platform's */
    int quick;
    const char *rows;        /* names with commas; NULL: all */
    json_t *device;          /* what cst_device_json says of it, borrowed */
    cst_run_options run;     /* its device, memory and engines are those of the rows as well */
    void (*tell)(const char *what); /* what is being done; NULL: nobody wants to know */
} cst_submit_options;

/* Measure and write. The file is replaced after each row's cases, and by what was measured until then when something fails or
 * run.stop asks for an end: "complete" is false then, "stopped" tells why, and the call returns that status with a detail that
 * names the file. A file that is there stays until the first row has been measured. USAGE for unknown rows, before anything is done. */
cst_status cst_submit(const cst_submit_options *o);

#endif
