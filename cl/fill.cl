/* y[i] = value. clEnqueueFillBuffer is not used: it writes wrong places past 8 GiB on some drivers. */
#include "common.clh"

__kernel void fill(OUT(float, y), const float value, const ulong n)
{
    USE_OUT(float, y);
    const ulong i = (ulong)get_global_id(0) * VW;
    if (i + VW <= n) {
        vstorev((floatv)(value), 0, y + i);
    } else {
        for (ulong j = i; j < n; j++) y[j] = value;
    }
}
