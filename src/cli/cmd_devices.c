/* castor devices: what there is. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "device/doctor.h"
#include "device/quirks.h"

static json_t *quirks_json(const cst_device_info *d)
{
    json_t *all = json_array();
    for (const cst_quirk *q = cst_quirks; q->name; q++)
        if (cst_quirk_applies(q, d))
            json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:s}", "name", q->name, "what", q->what, "does", q->does, "evidence", q->evidence));
    return all;
}

json_t *cst_device_json(const cst_device_info *d)
{
    json_t *j = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:i, s:i, s:I, s:b, s:b, s:b, s:b}", "index", d->index,
                     "platform", d->platform, "name", d->name, "vendor", d->vendor, "driver", d->driver, "version", d->version,
                     "opencl_c", d->c_version, "type", cst_device_type_name(d->type), "memory_bytes", (json_int_t)d->mem_bytes,
                     "max_alloc_bytes", (json_int_t)d->max_alloc, "local_bytes", (json_int_t)d->local_bytes, "cache_bytes",
                     (json_int_t)d->cache_bytes, "compute_units", (int)d->units, "clock_mhz", (int)d->clock_mhz, "max_group",
                     (json_int_t)d->max_group, "fp16", d->fp16, "fp64", d->fp64, "exact_divide", d->exact_divide, "unified_memory",
                     d->unified);
    json_object_set_new(j, "quirks", quirks_json(d));
    json_object_set_new(j, "short_kernels", json_boolean(d->quirks & CST_QUIRK_WATCHDOG));
    return j;
}

/* Findings and a verdict. */
static cst_status doctor(const cst_device_info *list, size_t n, int json)
{
    json_t *j, *item;
    size_t i;
    CST_TRY(cst_doctor(&j, &(cst_doctor_place){.device = list, .devices = n}));
    int usable = json_is_true(json_object_get(j, "usable"));
    if (json) {
        json_dumpf(j, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        printf("%s%s\n", json_string_value(json_object_get(j, "system")), json_is_true(json_object_get(j, "container")) ? ", in a container" : "");
        json_array_foreach(json_object_get(j, "drivers"), i, item)
            printf("driver  %s: %s%s\n", json_string_value(json_object_get(item, "file")), json_string_value(json_object_get(item, "library")),
                   json_is_null(json_object_get(item, "problem")) ? "" : " (doesn't load)");
        json_array_foreach(json_object_get(j, "gpus"), i, item)
            printf("GPU     %s, %s, kernel driver %s: %s\n", json_string_value(json_object_get(item, "vendor")),
                   json_string_value(json_object_get(item, "address")),
                   *json_string_value(json_object_get(item, "driver")) ? json_string_value(json_object_get(item, "driver")) : "none",
                   json_is_true(json_object_get(item, "usable")) ? "can be used" : "can't be used");
        for (i = 0; i < n; i++) printf("device  %zu  %s (%s, driver %s)\n", i, list[i].name, list[i].platform, list[i].driver);
        json_array_foreach(json_object_get(j, "findings"), i, item) {
            printf("\n- %s\n", json_string_value(json_object_get(item, "what")));
            if (json_is_string(json_object_get(item, "fix"))) printf("  -> %s\n", json_string_value(json_object_get(item, "fix")));
        }
        printf("\n%s\n", usable ? "There is a device that Castor can use." : "There is no device that Castor can use.");
    }
    json_decref(j);
    return usable ? CST_OK : cst_fail(CST_NO_DEVICE, "no usable OpenCL device");
}

cst_status cst_cmd_devices(const cst_args *a)
{
    cst_device_info *list;
    size_t n, pick = 0;
    char buf[32];
    CST_TRY(cst_device_list(&list, &n));
    cst_status st = CST_OK;
    if (cst_args_flag(a, CST_OPTION_DOCTOR)) {
        st = doctor(list, n, cst_args_flag(a, CST_OPTION_JSON));
    } else if (cst_args_flag(a, CST_OPTION_JSON)) {
        json_t *all = json_array();
        if (n) cst_device_choose(&pick, list, n, NULL);
        for (size_t i = 0; i < n; i++) {
            json_t *j = cst_device_json(&list[i]);
            json_object_set_new(j, "default", json_boolean(i == pick));
            json_array_append_new(all, j);
        }
        json_dumpf(all, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(all);
    } else if ((st = cst_device_choose(&pick, list, n, NULL)) == CST_OK) {
        for (size_t i = 0; i < n; i++) {
            const cst_device_info *d = &list[i];
            printf("%c %zu  %s\n", i == pick ? '*' : ' ', i, d->name);
            printf("     %s, %s, driver %s, %s\n", cst_device_type_name(d->type), d->platform, d->driver, d->version);
            printf("     %s of memory", cst_bytes_text(buf, (double)d->mem_bytes));
            printf(" (largest buffer %s)", cst_bytes_text(buf, (double)d->max_alloc));
            printf(", %s local, %" PRIu32 " compute units, %" PRIu32 " MHz%s%s%s\n", cst_bytes_text(buf, (double)d->local_bytes), d->units,
                   d->clock_mhz, d->fp16 ? ", fp16" : "", d->fp64 ? ", fp64" : "", d->unified ? ", shares the host's memory" : "");
            if (d->quirks & CST_QUIRK_WATCHDOG) printf("     kernels are kept short, because it kills long ones\n");
            for (const cst_quirk *q = cst_quirks; q->name; q++)
                if (cst_quirk_applies(q, d)) printf("     quirk %s: %s\n", q->name, q->what);
        }
        printf("* is the default; choose another with --device INDEX or part of a name\n");
    }
    free(list);
    return st;
}
