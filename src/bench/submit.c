#include "bench/submit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "bench/result_file.h"
#include "device/program.h"

#ifndef CL_PLATFORM_ICD_SUFFIX_KHR
#define CL_PLATFORM_ICD_SUFFIX_KHR 0x0920
#endif

typedef struct submission {
    const cst_submit_options *o;
    json_t *json, *training;
    cst_rows rows;
    size_t saved;            /* rows in the file */
    cst_status st;           /* of the last time it was written */
} submission;

/* ---- what the device and the machine are ---- */

/* A text of the platform (platform != 0) or of the device; NULL when it has none. New reference. */
static json_t *text_info(const cst_device_info *d, int platform, cl_uint what)
{
    size_t size = 0;
    cl_int err = platform ? clGetPlatformInfo(d->platform_id, what, 0, NULL, &size) : clGetDeviceInfo(d->id, what, 0, NULL, &size);
    char *text = err == CL_SUCCESS && size ? malloc(size) : NULL;
    if (!text) return NULL;
    err = platform ? clGetPlatformInfo(d->platform_id, what, size, text, NULL) : clGetDeviceInfo(d->id, what, size, text, NULL);
    json_t *j = err == CL_SUCCESS && *text ? cst_json_text(text) : NULL;
    free(text);
    return j;
}

static json_t *words(json_t *text)
{
    json_t *list = json_array();
    const char *s = text ? json_string_value(text) : "";
    for (size_t n; *s; s += n) {
        s += strspn(s, " ");
        n = strcspn(s, " ");
        if (n) json_array_append_new(list, json_stringn(s, n));
    }
    json_decref(text);
    return list;
}

static json_t *device_json(json_t *known, const cst_device_info *d)
{
    json_t *j = json_deep_copy(known), *names = json_array(), *q;
    size_t i;
    json_array_foreach(json_object_get(j, "quirks"), i, q) json_array_append(names, json_object_get(q, "name"));
    json_object_set_new(j, "quirks", names); /* `castor devices` tells what they are */
    json_object_del(j, "index");             /* means nothing elsewhere */
    json_object_set_new(j, "platform_version", text_info(d, 1, CL_PLATFORM_VERSION)); /* NULL: no such member */
    json_object_set_new(j, "icd_suffix", text_info(d, 1, CL_PLATFORM_ICD_SUFFIX_KHR));
    json_object_set_new(j, "extensions", words(text_info(d, 0, CL_DEVICE_EXTENSIONS)));
    return j;
}

/* The value of the first "name = value" or "name: value" line of a file, without quotes. */
static json_t *line_of(const char *path, const char *name)
{
    char line[1024];
    FILE *f = fopen(path, "r");
    json_t *j = NULL;
    while (f && !j && fgets(line, sizeof line, f)) {
        size_t n = strlen(name);
        if (strncmp(line, name, n) || !strchr("=:\t ", line[n])) continue;
        char *s = line + n + strspn(line + n, "=:\t \"'");
        s[strcspn(s, "\"'\n")] = 0;
        if (*s) j = cst_json_text(s);
    }
    if (f) fclose(f);
    return j;
}

/* The loader's own name and version, where it tells them (both loaders in use do, by this function of ocl-icd's). */
static json_t *loader(void)
{
    typedef cl_int ask(cl_uint what, size_t size, void *value, size_t *needed);
    enum { LOADER_VERSION = 2, LOADER_NAME = 3 };
    char name[128] = "", version[128] = "", both[260];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* of OpenCL 1.2: the only way to a function of the loader itself */
    ask *info = (ask *)clGetExtensionFunctionAddress("clGetICDLoaderInfoOCLICD");
#pragma GCC diagnostic pop
    if (!info || info(LOADER_NAME, sizeof name, name, NULL) || info(LOADER_VERSION, sizeof version, version, NULL)) return NULL;
    snprintf(both, sizeof both, "%s %s", name, version);
    return cst_json_text(both);
}

static json_t *or_unknown(json_t *j)
{
    return j ? j : json_string("unknown");
}

static json_t *environment_json(void)
{
    struct utsname u;
    json_t *os = line_of("/etc/os-release", "PRETTY_NAME"), *j;
    int known = !uname(&u);
    if (known) u.release[strcspn(u.release, "-")] = 0; /* what is behind it names a builder or a host as often as a kernel */
    j = json_pack("{s:o, s:o, s:s, s:o, s:I, s:I}", "os", os ? os : known ? cst_json_text(u.sysname) : json_string("unknown"), "kernel",
                  or_unknown(known ? cst_json_text(u.release) : NULL), "machine", known ? u.machine : "unknown", "cpu",
                  or_unknown(line_of("/proc/cpuinfo", "model name")), "cores", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "ram_bytes",
                  (json_int_t)sysconf(_SC_PHYS_PAGES) * (json_int_t)sysconf(_SC_PAGESIZE));
    json_object_set_new(j, "loader", loader());
    return j;
}

/* ---- the file ---- */

/* At most 63 bytes, cut between characters. */
static json_t *name_json(const cst_submit_options *o, const cst_device_info *d)
{
    char name[400];
    if (o->name) snprintf(name, sizeof name, "%s", o->name);
    else snprintf(name, sizeof name, "%s (%s)", d->name, d->platform);
    size_t n = strlen(name);
    if (n > 63) n = 63;
    while (n && ((unsigned char)name[n] & 0xc0) == 0x80) n--;
    name[n] = 0;
    return cst_json_text(name);
}

static cst_status begin(submission *s, const cst_device_info *d)
{
    char day[16];
    time_t now = time(NULL);
    struct tm tm;
    strftime(day, sizeof day, "%Y-%m-%d", gmtime_r(&now, &tm));
    s->training = json_array();
    s->json = json_pack("{s:i, s:s, s:o, s:s, s:b, s:b, s:o, s:o, s:[], s:O}", "schema", CST_RESULT_SCHEMA, "castor", PACKAGE_VERSION,
                        "name", name_json(s->o, d), "date", day, "complete", 0, "quick", s->o->quick, "device",
                        device_json(s->o->device, d), "environment", environment_json(), "rows", "training", s->training);
    return s->json ? cst_result_check(s->json, s->o->out) : cst_fail(CST_NO_MEMORY, "%s", s->o->out);
}

/* Replace the file by what is known now. */
static cst_status save(submission *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->rows.n; i++) json_array_append_new(list, cst_row_json(&s->rows.list[i]));
    json_object_set_new(s->json, "rows", list);
    s->saved = s->rows.n;
    char *text = json_dumps(s->json, JSON_INDENT(2) | JSON_REAL_PRECISION(9)), *all = NULL; /* nine digits give back every float */
    int n = text ? asprintf(&all, "%s\n", text) : -1;
    cst_status st = n < 0 ? cst_fail(CST_NO_MEMORY, "%s", s->o->out) : cst_file_write(s->o->out, all, (size_t)n);
    if (n >= 0) free(all);
    free(text);
    return st;
}

/* ---- measuring ---- */

static void progress(void *user, const char *row, const char *what)
{
    submission *s = user;
    char line[128];
    if (!*what && s->rows.n > s->saved && s->st == CST_OK) s->st = save(s); /* a row begins: those before it are whole */
    snprintf(line, sizeof line, "%s%s%s", row, *what ? ": " : "", what);
    if (s->o->tell) s->o->tell(line);
}

static int interrupted(void *user)
{
    submission *s = user;
    return s->st != CST_OK || (s->o->run.stop && s->o->run.stop());
}

static cst_status measure(submission *s)
{
    cst_bench_device_options o = {.quick = s->o->quick, .rows = s->o->rows, .device_mem = s->o->run.device_mem, .progress = progress,
                                  .interrupted = interrupted, .user = s};
    cst_device *dev;
    CST_TRY(cst_device_open(&dev, s->o->run.device, 0));
    cst_status st = begin(s, &dev->info);
    if (st == CST_OK) st = cst_bench_device(&s->rows, dev, &o);
    if (s->st != CST_OK) st = s->st; /* the file can't be written, which was why it stopped */
    if (st == CST_OK) cst_program_save(dev);
    cst_device_close(dev);
    return st;
}

static cst_status train(submission *s)
{
    for (int i = 0; i < cst_run_cases(); i++) {
        const cst_run_case *c = cst_run_case_at(i);
        json_t *j = NULL;
        if (s->o->quick && !c->quick) continue;
        if (s->o->tell) s->o->tell(c->about);
        CST_TRY(cst_run_train(&j, c, &s->o->run));
        json_array_append_new(s->training, j);
        CST_TRY(save(s));
    }
    return CST_OK;
}

/* What failed, for the file and for the caller; what was measured stays. */
static cst_status stopped(submission *s, cst_status st)
{
    char why[512];
    snprintf(why, sizeof why, "%s", *cst_detail() ? cst_detail() : cst_status_text(st));
    if (!s->rows.n && !json_array_size(s->training)) return st;
    json_object_set_new(s->json, "stopped", cst_json_text(why));
    cst_status saved = save(s);
    if (saved != CST_OK) return cst_fail_in(saved, "%s; what was measured can't be kept", why);
    return cst_fail(st, "%s; what was measured until then is in %s", why, s->o->out);
}

/* Can it be written at all? Better known now than when all has been measured. */
static cst_status try_writing(const char *path)
{
    cst_file *f;
    CST_TRY(cst_file_create(&f, path));
    cst_file_discard(f);
    return CST_OK;
}

cst_status cst_submit(const cst_submit_options *o)
{
    submission s = {.o = o};
    char why[512] = "";
    CST_TRY(cst_bench_device_check(o->rows));
    CST_TRY(try_writing(o->out));
    cst_status st = measure(&s), trained = st;
    if (st == CST_DEVICE) snprintf(why, sizeof why, "%s", cst_detail());
    if (s.json && (st == CST_OK || st == CST_DEVICE)) trained = train(&s); /* a device with wrong results shows its losses, too */
    if (s.json && trained != CST_OK) st = stopped(&s, st == CST_DEVICE ? cst_fail(st, "%s", why) : trained);
    else if (s.json) {
        json_object_set_new(s.json, "complete", json_true());
        trained = save(&s);
        if (trained != CST_OK || st == CST_OK) st = trained;
        else cst_fail(st, "%s", why);
    }
    json_decref(s.json);
    json_decref(s.training);
    cst_rows_free(&s.rows);
    return st;
}
