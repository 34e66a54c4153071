/* Kernels prove themselves on a device before they are used: at the first use of a device and driver every family of
 * kernels (a file of cl/) runs once on small awkward data (odd sizes, rows that begin anywhere, long tails) and is compared
 * with sums in double on the host. The verdict is kept (device/verdict.h). A family that is wrong is tried in the other
 * shape, that of CPUs or of GPUs; when that is wrong too, the device is refused. Engines of matrix products prove
 * themselves in the same way when they are chosen (gemm/proof.c).
 */
#ifndef CST_SELFTEST_SELFTEST_H
#define CST_SELFTEST_SELFTEST_H

#include "device/device.h"
#include "op/activation.h"

/* What is going to run, so that nothing is built that isn't needed. */
typedef struct cst_self_test_use {
    int64_t columns, heads;   /* of attention */
    cst_activation activation;
    int dropout, train;       /* dropout; AdamW and gradient norm */
    int generate, cast;       /* attention with kept keys; conversions to and from 16 bits */
    uint64_t device_mem;      /* budget, 0: none; a trial that needs more (3 MiB at most) is left out */
} cst_self_test_use;

/* Prove what hasn't been proven. Warnings tell what is out of use. UNSUPPORTED when kernels are wrong that nothing can
 * stand in for: names kernels, device, driver, what is wrong and what to do. CASTOR_SELF_TEST=off in the environment: OK,
 * whatever is known. */
cst_status cst_self_test(cst_device *dev, const cst_self_test_use *use);

#endif
