/* Why a machine has no usable OpenCL device, or not the one it should have, and what to install: looks at the loader's
 * settings and list of drivers, at GPUs in sysfs, at device nodes and who may use them. Changes nothing.
 */
#ifndef CST_DEVICE_DOCTOR_H
#define CST_DEVICE_DOCTOR_H

#include <jansson.h>
#include <sys/types.h>

#include "device/device.h"

/* Where it looks; a test shows it another machine. */
typedef struct cst_doctor_place {
    const char *root;             /* folder that stands for "/"; NULL: this machine */
    uid_t uid;                    /* with root: whose rights count */
    const gid_t *group;           /* with root: its groups */
    int groups;
    const cst_device_info *device; /* what OpenCL lists */
    size_t devices;
} cst_doctor_place;

/* *out, a new reference: {"system": "Debian GNU/Linux 12", "container": bool, "drivers": [{"file", "library", "problem": text
 * or null}], "gpus": [{"address", "vendor", "driver", "usable": bool}], "findings": [{"what", "fix": text or null}],
 * "usable": is there a device that can be used at all}. NO_MEMORY. */
cst_status cst_doctor(json_t **out, const cst_doctor_place *place);

#endif
