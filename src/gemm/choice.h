/* Which engine, and which variant of it, serves which product on a device.
 *
 * In this order: what was chosen for this very shape before in this process; what a resumed run did; the nearest shape that
 * `castor tune` measured (see tuning.h); a rule from the device's kind and cache sizes. The choice depends on the product's
 * shape, its types and the device only, so that the numbers don't depend on placement.
 */
#ifndef CST_GEMM_CHOICE_H
#define CST_GEMM_CHOICE_H

#include <jansson.h>

#include "device/device.h"
#include "gemm/gemm.h"

typedef enum cst_gemm_engine { CST_GEMM_CLBLAST, CST_GEMM_NATIVE, CST_GEMM_SPLIT, CST_GEMM_ENGINE_COUNT } cst_gemm_engine;

/* What a group of the native engine owns, see cl/gemm_cpu.cl. */
typedef enum cst_gemm_kind { CST_GEMM_COLUMNS, CST_GEMM_ROWS, CST_GEMM_STRIPS, CST_GEMM_KIND_COUNT } cst_gemm_kind;

typedef struct cst_gemm_choice {
    cst_gemm_engine engine;
    cst_gemm_kind kind;   /* the rest is for the native engine */
    int count;            /* panels, tiles or strips of a group */
    int kc;               /* of k at a time */
} cst_gemm_choice;

typedef struct cst_gemm_shape_key {
    int64_t m, n, k;
    int trans_a, trans_b;
    cst_type type_a, type_b;
} cst_gemm_shape_key;

/* --gemm: choose, or one engine for everything. */
typedef enum cst_gemm_mode { CST_GEMM_AUTO, CST_GEMM_MODE_CLBLAST, CST_GEMM_MODE_NATIVE } cst_gemm_mode;

/* For products from now on; earlier choices of the process are forgotten. */
cst_status cst_gemm_set_mode(cst_device *dev, cst_gemm_mode mode);
/* Use exactly this for everything (for measuring); NULL: choose again. `how` is copied. */
cst_status cst_gemm_force(cst_device *dev, const cst_gemm_choice *how);
/* The choice for this product. prove: a choice that this device hasn't proven yet is tested first, and one that computes
 * wrong results is taken out of use with a warning. DEVICE when nothing is left, UNSUPPORTED when no engine takes the types. */
cst_status cst_gemm_choose(cst_gemm_choice *how, cst_device *dev, const cst_gemm_args *g, int prove);

/* The rule for a device without measurements. */
cst_gemm_choice cst_gemm_rule(const cst_device *dev, const cst_gemm_args *g);
/* Can it do this product on this device? CLBlast takes f32 only; the native engine is for devices that run one work-item
 * per group, needs local memory, and strips a transposed f32 B; pieces of k side by side are for GPUs and f32, both operands as stored. */
int cst_gemm_fits(const cst_gemm_choice *how, const cst_device *dev, const cst_gemm_args *g);

/* "clblast", "split", "native columns 4x512"; parse: INPUT naming `where` and the text. */
const char *cst_gemm_choice_text(char buf[48], const cst_gemm_choice *how);
cst_status cst_gemm_choice_parse(cst_gemm_choice *how, const char *text, const char *where);

/* One product and its engine as JSON, and back (INPUT names `where` and the member). */
json_t *cst_gemm_key_json(const cst_gemm_shape_key *k, const cst_gemm_choice *how);
cst_status cst_gemm_key_read(cst_gemm_shape_key *k, cst_gemm_choice *how, const json_t *j, const char *where);

/* What has been chosen so far: {"device", "driver", "products": [{"form", "m", "n", "k", "types", "engine"}]}; new
 * reference. pin: take such an object's choices for the same shapes; INPUT names what is wrong, also when it is for another
 * device. */
json_t *cst_gemm_choices_json(cst_device *dev);
cst_status cst_gemm_choices_pin(cst_device *dev, const json_t *j, const char *where);

#endif
