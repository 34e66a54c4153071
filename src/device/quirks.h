/* What is known of platforms and drivers, in one table: what they do, where it was seen, what Castor does about it, and
 * which test holds it to that. Nothing else in the library looks at the name of a platform, vendor or device.
 */
#ifndef CST_DEVICE_QUIRKS_H
#define CST_DEVICE_QUIRKS_H

#include "device/device.h"

/* What code asks for; bits of cst_device_info.quirks. An entry without a flag is cared for on every device: the code that
 * does so says "quirk <name>". */
enum {
    CST_QUIRK_REFUSED = 1,        /* not to be used at all */
    CST_QUIRK_SHARE_ROWS = 2,     /* a row's work must be shared by a group, on a CPU too, whatever its length */
    CST_QUIRK_PREFETCH = 4,       /* __builtin_prefetch is there and is one instruction */
    CST_QUIRK_SLOW_GROUPS = 8,    /* optimising a large kernel with work-groups takes its compiler too long */
    CST_QUIRK_WATCHDOG = 16,      /* a kernel that runs for seconds is killed */
    CST_QUIRK_OLD = 32            /* a newer driver is to be had and better */
};

typedef struct cst_quirk {
    const char *name;             /* a word with hyphens */
    unsigned flag;                /* one of the above, or 0 */
    const char *platform, *vendor, *version; /* parts of what OpenCL tells, upper or lower case; NULL: any */
    cl_device_type type;          /* 0: any */
    const char *from, *before;    /* driver versions: from this one on, before that one; NULL: no end */
    const char *setting, *value;  /* environment variable that is set before the first call, unless the user has; NULL: none */
    const char *what, *does;      /* what is wrong, and what Castor does about it */
    const char *evidence, *test;
} cst_quirk;

/* All entries, the last one's name is NULL. */
extern const cst_quirk cst_quirks[];

/* Does the entry concern this device? Looks at names, driver and type only. */
int cst_quirk_applies(const cst_quirk *q, const cst_device_info *d);
/* Flags of all entries that do. */
unsigned cst_quirk_flags(const cst_device_info *d);
/* UNSUPPORTED, with what to do instead, when one of them refuses the device. */
cst_status cst_quirk_refusal(const cst_device_info *d);
/* Numbers between dots and other signs, one after the other: below 0, 0, above 0. "3.1+debian" is above "3.1". */
int cst_version_compare(const char *a, const char *b);

#endif
