/* What a device does at best, to hold a training step against. */
#ifndef CST_BENCH_CEILING_H
#define CST_BENCH_CEILING_H

#include "memory/memory.h"

typedef struct cst_ceilings {
    double gemm;             /* FLOP/s of the fastest large square fp32 product; 0: none fits */
    int64_t gemm_size;       /* its rows */
    double up, down;         /* bytes/s from pinned host memory to the device and back, one direction at a time; 0: no room for it */
} cst_ceilings;

/* Measure them within `budget` bytes (as cst_mem_create), with the engines that dev is set to. Squares grow from 512 rows to 8,192 until
 * one takes ten milliseconds or doesn't fit. DEVICE when a product is wrong, besides what the device returns. */
cst_status cst_ceilings_measure(cst_ceilings *c, cst_device *dev, uint64_t budget);

#endif
