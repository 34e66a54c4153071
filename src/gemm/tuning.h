/* What was measured about matrix products on a device, kept as JSON.
 *
 * A file is {"schema": 2, "vendor", "device", "driver", "clblast": {"Xgemm": {name: value, ...}, "min_indirect": N} (optional),
 * "products": [{"form", "m", "n", "k", "types", "engine", "gflops"}, ...], "measured": {...}}. A user's own files lie in the
 * cache folder (cst_cache_dir) as tuning-<device>-<driver>.json; what was measured for the project is in
 * data/tuning/<device>.json and part of the library. <device> and <driver> are their names in small letters with everything
 * else than letters and digits turned into '-'. The user's own file wins.
 */
#ifndef CST_GEMM_TUNING_H
#define CST_GEMM_TUNING_H

#include "device/device.h"
#include "gemm/choice.h"

#define CST_XGEMM_LIST(X) \
    X(GEMMK) X(KREG) X(KWG) X(KWI) X(MDIMA) X(MDIMC) X(MWG) X(NDIMB) X(NDIMC) X(NWG) X(SA) X(SB) X(STRM) X(STRN) X(VWM) X(VWN)

/* CLBlast's parameters of its kernel for large products (its Xgemm), and the size from which it is used. */
typedef struct cst_xgemm {
#define X(name) size_t name;
    CST_XGEMM_LIST(X)
#undef X
    size_t min_indirect;   /* m, n, k below this take CLBlast's direct kernel, which isn't tuned here */
} cst_xgemm;

/* The engine that was fastest for one product. */
typedef struct cst_tuned_product {
    cst_gemm_shape_key key;
    cst_gemm_choice how;
    double gflops;
} cst_tuned_product;

typedef struct cst_tuning {
    int has_xgemm;
    cst_xgemm xgemm;
    int products;
    cst_tuned_product *product;
    double gflops_default, gflops; /* all products: CLBlast's defaults, and with this; kept as a note */
} cst_tuning;
void cst_tuning_clear(cst_tuning *t);
cst_status cst_tuning_add(cst_tuning *t, const cst_gemm_shape_key *key, const cst_gemm_choice *how, double gflops);

/* OK when CLBlast's kernel can be built so for this device: sizes divide each other as the kernel assumes, the
 * work-group and its local memory fit. CLBlast itself checks nothing and computes nonsense. USAGE names the rule. */
cst_status cst_xgemm_check(const cst_xgemm *x, const cst_device_info *d);
/* Make CLBlast use them on this device from the next product on. Plans made before are void. */
cst_status cst_xgemm_use(const cst_device *dev, const cst_xgemm *x);

/* What is known of the device: 1 and *t, *where ("user's", "shipped") when there is something that fits it, else 0 and an
 * empty *t. A file that can't be read or doesn't fit is told as a warning and left aside. Clear *t. */
int cst_tuning_find(cst_tuning *t, const char **where, const cst_device *dev);
/* Read one file into an empty *t: INPUT names file and member, also when it is for another device. */
cst_status cst_tuning_load(cst_tuning *t, const char *path, const cst_device_info *d);
/* CLBlast's settings that ship with the library for whatever device, as far as this one can have them: up to `most` into
 * list, each once; returns their number. */
int cst_tuning_shipped(cst_xgemm *list, int most, const cst_device_info *d);
cst_status cst_tuning_save(const cst_tuning *t, const char *path, const cst_device_info *d);
/* Where the user's own file of this device is; malloc'd, NULL when there is no cache folder. */
char *cst_tuning_path(const cst_device_info *d);

#endif
