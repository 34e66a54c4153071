#include "gemm/tuning.h"

#include <clblast_c.h>
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
    else if (x->KWG % (threads / x->MDIMA) || x->KWG % (threads / x->NDIMB))
        rule = "KWG must be a multiple of MDIMC * NDIMC / MDIMA and of MDIMC * NDIMC / NDIMB";
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

void cst_tuning_clear(cst_tuning *t)
{
    free(t->product);
    memset(t, 0, sizeof *t);
}

cst_status cst_tuning_add(cst_tuning *t, const cst_gemm_shape_key *key, const cst_gemm_choice *how, double gflops)
{
    cst_tuned_product *more = realloc(t->product, (size_t)(t->products + 1) * sizeof *more);
    if (!more) return cst_fail(CST_NO_MEMORY, "settings");
    t->product = more;
    t->product[t->products++] = (cst_tuned_product){*key, *how, gflops};
    return CST_OK;
}

char *cst_tuning_path(const cst_device_info *d)
{
    return cst_cache_file("tuning", d);
}

static cst_status read_clblast(cst_tuning *t, const json_t *j, const char *where, const cst_device_info *d)
{
    const json_t *clblast = json_object_get(j, "clblast"), *params = json_object_get(clblast, "Xgemm");
    int64_t v;
    if (!clblast) return CST_OK;
    if (!json_is_object(params)) return cst_fail(CST_INPUT, "%s: \"clblast\" has no object \"Xgemm\"", where);
    for (size_t i = 0; i < XGEMM_COUNT; i++) {
        v = -1;
        CST_TRY(cst_json_int(&v, params, xgemm_name[i], 0, 1024, where));
        if (v < 0) return cst_fail(CST_INPUT, "%s: \"%s\" is missing", where, xgemm_name[i]);
        *value_at(&t->xgemm, i) = (size_t)v;
    }
    v = 1;
    CST_TRY(cst_json_int(&v, clblast, "min_indirect", 1, 1 << 20, where));
    t->xgemm.min_indirect = (size_t)v;
    t->has_xgemm = 1;
    cst_status st = cst_xgemm_check(&t->xgemm, d);
    return st == CST_OK ? st : cst_fail_in(CST_INPUT, "%s", where);
}

static cst_status read_products(cst_tuning *t, const json_t *j, const char *where)
{
    const json_t *all = json_object_get(j, "products"), *item;
    size_t i;
    if (all && !json_is_array(all)) return cst_fail(CST_INPUT, "%s: \"products\" must be an array", where);
    json_array_foreach(all, i, item)
    {
        cst_gemm_shape_key key;
        cst_gemm_choice how;
        double gflops = 0;
        CST_TRY(cst_gemm_key_read(&key, &how, item, where));
        CST_TRY(cst_json_real(&gflops, item, "gflops", where));
        CST_TRY(cst_tuning_add(t, &key, &how, gflops));
    }
    return CST_OK;
}

static cst_status read_json(cst_tuning *t, const json_t *j, const char *where, const cst_device_info *d)
{
    const char *device = "", *vendor = "";
    int64_t schema = 0;
    CST_TRY(cst_json_int(&schema, j, "schema", 0, 1000, where));
    if (schema != 2) return cst_fail(CST_INPUT, "%s: \"schema\" is %d; this program reads 2", where, (int)schema);
    CST_TRY(cst_json_string(&device, j, "device", where));
    CST_TRY(cst_json_string(&vendor, j, "vendor", where));
    if (strcmp(device, d->name) || strcmp(vendor, d->vendor))
        return cst_fail(CST_INPUT, "%s: it is for \"%s\" of \"%s\", not for \"%s\" of \"%s\"", where, device, vendor, d->name, d->vendor);
    CST_TRY(read_clblast(t, j, where, d));
    return read_products(t, j, where);
}

cst_status cst_tuning_load(cst_tuning *t, const char *path, const cst_device_info *d)
{
    json_t *j;
    CST_TRY(cst_json_load(&j, path, JSON_OBJECT));
    cst_status st = read_json(t, j, path, d);
    json_decref(j);
    if (st != CST_OK) cst_tuning_clear(t);
    return st;
}

cst_status cst_tuning_save(const cst_tuning *t, const char *path, const cst_device_info *d)
{
    json_t *all = json_array();
    for (int i = 0; i < t->products; i++) {
        json_t *item = cst_gemm_key_json(&t->product[i].key, &t->product[i].how);
        json_object_set_new(item, "gflops", json_real(t->product[i].gflops));
        json_array_append_new(all, item);
    }
    json_t *j = json_pack("{s:i, s:s, s:s, s:s, s:o, s:{s:f, s:f}}", "schema", 2, "vendor", d->vendor, "device", d->name, "driver",
                          d->driver, "products", all, "measured", "gflops_default", t->gflops_default, "gflops", t->gflops);
    if (!j) return cst_fail(CST_NO_MEMORY, "%s", path);
    if (t->has_xgemm) {
        json_t *params = json_object();
        for (size_t i = 0; i < XGEMM_COUNT; i++)
            json_object_set_new(params, xgemm_name[i], json_integer((json_int_t)*value_at((cst_xgemm *)&t->xgemm, i)));
        json_object_set_new(j, "clblast", json_pack("{s:o, s:I}", "Xgemm", params, "min_indirect", (json_int_t)t->xgemm.min_indirect));
    }
    cst_status st = cst_json_save(j, path);
    json_decref(j);
    return st;
}

int cst_tuning_shipped(cst_xgemm *list, int most, const cst_device_info *d)
{
    int n = 0;
    for (const cst_embedded *f = cst_embedded_files; f->name && n < most; f++) {
        size_t length = strlen(f->name);
        if (length < 5 || strcmp(f->name + length - 5, ".json")) continue;
        cst_tuning t = {.has_xgemm = 0};
        json_t *j = json_loads(f->text, 0, NULL);
        int known = !j || read_clblast(&t, j, f->name, d) != CST_OK || !t.has_xgemm; /* of no use here */
        for (int i = 0; i < n; i++) known |= !memcmp(&list[i], &t.xgemm, sizeof *list);
        if (!known) list[n++] = t.xgemm;
        json_decref(j);
    }
    return n;
}

/* The library's own file for this device. */
static int find_shipped(cst_tuning *t, const cst_device_info *d)
{
    char name[160] = "";
    json_error_t e;
    cst_word_add(name, sizeof name - 8, d->name);
    strcat(name, ".json");
    for (const cst_embedded *f = cst_embedded_files; f->name; f++) {
        if (strcmp(f->name, name)) continue;
        json_t *j = json_loads(f->text, JSON_REJECT_DUPLICATES, &e);
        cst_status st = j ? read_json(t, j, name, d) : cst_fail(CST_INPUT, "%s: %s", name, e.text);
        json_decref(j);
        if (st == CST_OK) return 1;
        cst_log(CST_LOG_WARN, "%s; left aside", cst_detail());
        cst_tuning_clear(t);
        return 0;
    }
    return 0;
}

int cst_tuning_find(cst_tuning *t, const char **where, const cst_device *dev)
{
    char *path = cst_tuning_path(&dev->info);
    int found = 0;
    memset(t, 0, sizeof *t);
    if (path && cst_path_exists(path)) {
        found = cst_tuning_load(t, path, &dev->info) == CST_OK;
        if (!found) cst_log(CST_LOG_WARN, "%s; left aside", cst_detail());
    }
    free(path);
    *where = found ? "the user's" : "shipped";
    return found || find_shipped(t, &dev->info);
}
