#include "gemm/tuning.h"

#include <clblast_c.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "device/program.h"
#include "device/source.h"

static const char *const xgemm_name[] = {
#define X(name) #name,
    CST_XGEMM_LIST(X)
#undef X
};
#define XGEMM_COUNT (sizeof xgemm_name / sizeof *xgemm_name)

static size_t *value_at(cst_xgemm *x, size_t i)
{
    size_t *all[] = {
#define X(name) &x->name,
        CST_XGEMM_LIST(X)
#undef X
    };
    return all[i];
}

cst_status cst_xgemm_check(const cst_xgemm *x, const cst_device_info *d)
{
    const char *rule = NULL;
    for (size_t i = 0; i < XGEMM_COUNT; i++) {
        size_t v = *value_at((cst_xgemm *)x, i);
        int may_be_0 = !strcmp(xgemm_name[i], "GEMMK") || xgemm_name[i][0] == 'S';
        if ((!v && !may_be_0) || v > 1024) return cst_fail(CST_USAGE, "%s = %zu is out of range", xgemm_name[i], v);
    }
    size_t threads = x->MDIMC * x->NDIMC, local = (x->SA ? x->KWG * x->MWG : 0) + (x->SB ? x->KWG * x->NWG : 0);
    if (x->GEMMK || x->KREG != 1) rule = "GEMMK must be 0 and KREG 1: the other kernel isn't verified";
    else if (x->KWG % x->KWI) rule = "KWI must divide KWG";
    else if (x->MWG % (x->MDIMC * x->VWM) || x->MWG % (x->MDIMA * x->VWM)) rule = "MDIMC * VWM and MDIMA * VWM must divide MWG";
    else if (x->NWG % (x->NDIMC * x->VWN) || x->NWG % (x->NDIMB * x->VWN)) rule = "NDIMC * VWN and NDIMB * VWN must divide NWG";
    else if (threads % x->MDIMA || threads % x->NDIMB) rule = "MDIMA and NDIMB must divide MDIMC * NDIMC";
    else if (x->KWG % (threads / x->MDIMA) || x->KWG % (threads / x->NDIMB)) rule = "KWG must be a multiple of MDIMC * NDIMC / MDIMA and of MDIMC * NDIMC / NDIMB";
    else if (threads > d->max_group) rule = "MDIMC * NDIMC is more than the device's largest work-group";
    else if (local * sizeof(float) > d->local_bytes) rule = "the tiles need more local memory than the device has";
    return rule ? cst_fail(CST_USAGE, "%s", rule) : CST_OK;
}

cst_status cst_xgemm_use(const cst_device *dev, const cst_xgemm *x)
{
    size_t values[XGEMM_COUNT];
    CST_TRY(cst_xgemm_check(x, &dev->info));
    for (size_t i = 0; i < XGEMM_COUNT; i++) values[i] = *value_at((cst_xgemm *)x, i);
    int code = CLBlastOverrideParameters(dev->info.id, "Xgemm", CLBlastPrecisionSingle, XGEMM_COUNT, (const char **)xgemm_name, values);
    const char *routine = "XGEMM_MIN_INDIRECT_SIZE"; /* small products would leave the tuned kernel unused */
    if (!code) code = CLBlastOverrideParameters(dev->info.id, "GemmRoutine", CLBlastPrecisionSingle, 1, &routine, &x->min_indirect);
    return code ? cst_fail(CST_DEVICE, "CLBlastOverrideParameters: status %d", code) : CST_OK;
}

/* "NVIDIA H200" -> "nvidia-h200" */
static void device_word(char *dst, size_t size, const char *name)
{
    size_t n = 0;
    for (; *name && n + 1 < size; name++) {
        int c = tolower((unsigned char)*name);
        if (isalnum(c)) dst[n++] = (char)c;
        else if (n && dst[n - 1] != '-') dst[n++] = '-';
    }
    while (n && dst[n - 1] == '-') n--;
    dst[n] = 0;
}

char *cst_tuning_path(const cst_device_info *d)
{
    char word[128], file[160], *dir = cst_cache_dir(), *path = NULL;
    device_word(word, sizeof word, d->name);
    snprintf(file, sizeof file, "tuning-%s.json", word);
    if (dir) path = cst_path_join(dir, file);
    free(dir);
    return path;
}

static cst_status read_json(cst_xgemm *x, const json_t *j, const char *where, const cst_device_info *d)
{
    const char *device = "", *vendor = "";
    int64_t schema = 0, v;
    CST_TRY(cst_json_int(&schema, j, "schema", 0, 1000, where));
    if (schema != 1) return cst_fail(CST_INPUT, "%s: \"schema\" is %d; this program reads 1", where, (int)schema);
    CST_TRY(cst_json_string(&device, j, "device", where));
    CST_TRY(cst_json_string(&vendor, j, "vendor", where));
    if (strcmp(device, d->name) || strcmp(vendor, d->vendor))
        return cst_fail(CST_INPUT, "%s: it is for \"%s\" of \"%s\", not for \"%s\" of \"%s\"", where, device, vendor, d->name, d->vendor);
    const json_t *clblast = json_object_get(j, "clblast"), *params = json_object_get(clblast, "Xgemm");
    if (!json_is_object(params)) return cst_fail(CST_INPUT, "%s: \"clblast\" has no object \"Xgemm\"", where);
    for (size_t i = 0; i < XGEMM_COUNT; i++) {
        v = -1;
        CST_TRY(cst_json_int(&v, params, xgemm_name[i], 0, 1024, where));
        if (v < 0) return cst_fail(CST_INPUT, "%s: \"%s\" is missing", where, xgemm_name[i]);
        *value_at(x, i) = (size_t)v;
    }
    v = 1;
    CST_TRY(cst_json_int(&v, clblast, "min_indirect", 1, 1 << 20, where));
    x->min_indirect = (size_t)v;
    cst_status st = cst_xgemm_check(x, d);
    return st == CST_OK ? st : cst_fail_in(CST_INPUT, "%s", where);
}

cst_status cst_tuning_load(cst_xgemm *x, const char *path, const cst_device_info *d)
{
    json_t *j;
    CST_TRY(cst_json_load(&j, path, JSON_OBJECT));
    cst_status st = read_json(x, j, path, d);
    json_decref(j);
    return st;
}

cst_status cst_tuning_save(const cst_xgemm *x, const char *path, const cst_device_info *d, double gflops_before, double gflops_after)
{
    json_t *params = json_object();
    for (size_t i = 0; i < XGEMM_COUNT; i++) json_object_set_new(params, xgemm_name[i], json_integer((json_int_t)*value_at((cst_xgemm *)x, i)));
    json_t *j = json_pack("{s:i, s:s, s:s, s:s, s:{s:o, s:I}, s:{s:f, s:f}}", "schema", 1, "vendor", d->vendor, "device", d->name, "driver",
                          d->driver, "clblast", "Xgemm", params, "min_indirect", (json_int_t)x->min_indirect, "measured", "gflops_default",
                          gflops_before, "gflops", gflops_after);
    if (!j) return cst_fail(CST_NO_MEMORY, "%s", path);
    cst_status st = cst_json_save(j, path);
    json_decref(j);
    return st;
}

/* The library's own file for this device. */
static int find_shipped(cst_xgemm *x, const cst_device_info *d)
{
    char name[160];
    json_error_t e;
    device_word(name, sizeof name - 8, d->name);
    strcat(name, ".json");
    for (const cst_embedded *f = cst_embedded_files; f->name; f++) {
        if (strcmp(f->name, name)) continue;
        json_t *j = json_loads(f->text, JSON_REJECT_DUPLICATES, &e);
        cst_status st = j ? read_json(x, j, name, d) : cst_fail(CST_INPUT, "%s: %s", name, e.text);
        json_decref(j);
        if (st != CST_OK) cst_log(CST_LOG_WARN, "%s; left aside", cst_detail());
        return st == CST_OK;
    }
    return 0;
}

int cst_tuning_find(cst_xgemm *x, const char **where, const cst_device *dev)
{
    char *path = cst_tuning_path(&dev->info);
    int found = 0;
    if (path && cst_path_exists(path)) {
        found = cst_tuning_load(x, path, &dev->info) == CST_OK;
        if (!found) cst_log(CST_LOG_WARN, "%s; left aside", cst_detail());
    }
    free(path);
    *where = found ? "user" : "shipped";
    return found || find_shipped(x, &dev->info);
}

cst_status cst_tuning_apply(cst_device *dev)
{
    cst_xgemm x;
    const char *where;
    if (dev->tuned) return CST_OK;
    dev->tuned = 1;
    if (!cst_tuning_find(&x, &where, dev)) {
        cst_log(CST_LOG_INFO, "matrix products use CLBlast's defaults: `castor tune` measures what \"%s\" does better", dev->info.name);
        return CST_OK;
    }
    cst_log(CST_LOG_DEBUG, "matrix products use %s settings for \"%s\"", where, dev->info.name);
    return cst_xgemm_use(dev, &x);
}
