/* How much memory a device gives when it is asked for: for castor bench device. */
#ifndef CST_MEMORY_PROBE_H
#define CST_MEMORY_PROBE_H

#include "device/device.h"

typedef struct cst_mem_probe {
    uint64_t bytes;          /* that lived together */
    int pieces;
    int damaged;             /* pieces that didn't hold what had been written to them */
    int again;               /* after all were given back, one could be made once more */
    char refusal[128];       /* why there is not one piece more; "": none was asked for */
} cst_mem_probe;

/* Make buffers of `piece` bytes until `most` bytes are reached or the device refuses; write to each at its beginning, middle and end, and
 * read that back once all are there; release them. Nothing else may use the device's memory meanwhile. USAGE unless piece is at least
 * 64 KiB and most at most the device's memory. Where the device computes in host memory it is the caller who leaves some. */
cst_status cst_mem_probe_run(cst_mem_probe *p, cst_device *dev, uint64_t piece, uint64_t most);

#endif
