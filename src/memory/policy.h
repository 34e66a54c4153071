/* Policies that decide on demand, use by use, as comparison for planned iterations. Plain data, no OpenCL. */
#ifndef CST_MEMORY_POLICY_H
#define CST_MEMORY_POLICY_H

#include "memory/trace.h"

typedef enum cst_policy {
    CST_POLICY_FARTHEST,     /* evict what is used again last, looking past the end of the iteration (Belady 1966) */
    CST_POLICY_LRU           /* evict what was used longest ago */
} cst_policy;

/* Bytes moved in a steady iteration within `bytes`, places disregarded: content that is worthless goes for nothing, clean
 * content without a download. OVER_BUDGET if a moment's uses alone need more. */
cst_status cst_policy_run(uint64_t *moved, const cst_trace *t, uint64_t bytes, cst_policy policy);

#endif
