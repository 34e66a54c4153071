/* Measured settings of CLBlast's matrix product for a device, kept as JSON.
 *
 * A file is {"schema": 1, "vendor", "device", "driver", "clblast": {"Xgemm": {name: value, ...}, "min_indirect": N},
 * "measured": {...}}. A user's own files lie in the cache folder (cst_cache_dir) as tuning-<device>.json; what was
 * measured for the project is in data/tuning/<device>.json and part of the library. <device> is the device's name in
 * small letters with everything else than letters and digits turned into '-'. The user's own file wins.
 */
#ifndef CST_GEMM_TUNING_H
#define CST_GEMM_TUNING_H

#include "device/device.h"

#define CST_XGEMM_LIST(X) \
    X(GEMMK) X(KREG) X(KWG) X(KWI) X(MDIMA) X(MDIMC) X(MWG) X(NDIMB) X(NDIMC) X(NWG) X(SA) X(SB) X(STRM) X(STRN) X(VWM) X(VWN)

/* CLBlast's parameters of its kernel for large products (its Xgemm), and the size from which it is used. */
typedef struct cst_xgemm {
#define X(name) size_t name;
    CST_XGEMM_LIST(X)
#undef X
    size_t min_indirect;   /* m, n, k below this take CLBlast's direct kernel, which isn't tuned here */
} cst_xgemm;

/* OK when CLBlast's kernel can be built so for this device: sizes divide each other as the kernel assumes, the
 * work-group and its local memory fit. CLBlast itself checks nothing and computes nonsense. USAGE names the rule. */
cst_status cst_xgemm_check(const cst_xgemm *x, const cst_device_info *d);
/* Make CLBlast use them on this device from the next product on. Plans made before are void. */
cst_status cst_xgemm_use(const cst_device *dev, const cst_xgemm *x);

/* The device's settings: 1 and *x, *where ("user", "shipped") when there are any that fit it, else 0. A file that
 * can't be read or doesn't fit is told as a warning and left aside. */
int cst_tuning_find(cst_xgemm *x, const char **where, const cst_device *dev);
/* Read one file: INPUT names file and member, also when it is for another device. */
cst_status cst_tuning_load(cst_xgemm *x, const char *path, const cst_device_info *d);
/* Write one: gflops_before and after are kept as a note of what was gained. */
cst_status cst_tuning_save(const cst_xgemm *x, const char *path, const cst_device_info *d, double gflops_before, double gflops_after);
/* Where the user's own file of this device is; malloc'd, NULL when there is no cache folder. */
char *cst_tuning_path(const cst_device_info *d);
/* Use what cst_tuning_find finds, once per device: called by the CLBlast engine before its first product. Untuned
 * devices keep CLBlast's defaults, and one line says that `castor tune` exists. */
cst_status cst_tuning_apply(cst_device *dev);

#endif
