/* Multiply-adds in registers, for the peak that castor bench device measures.
 *
 * A work-item has CHAINS vectors of WIDTH floats; each becomes a v + b, LENGTH times `turns` times. A chain waits for itself only, so
 * CHAINS of them hide the latency. What comes out depends on every step, and the lanes come from memory, so that a compiler
 * can leave nothing out. FUSED 0: a product and a sum, for devices whose fma is slow. */
#include "common.clh"

#ifndef WIDTH
#define WIDTH 4
#endif
#ifndef CHAINS
#define CHAINS 8
#endif
#ifndef FUSED
#define FUSED 1
#endif
#define LENGTH 16 /* steps in a turn */

#if WIDTH == 1
#define vec float
#define vec_load(p) (*(p))
#define vec_store(v, p) (*(p) = (v))
#else
#define vec CAT(float, WIDTH)
#define vec_load(p) CAT(vload, WIDTH)(0, p)
#define vec_store(v, p) CAT(vstore, WIDTH)(v, 0, p)
#endif
#if FUSED
#define STEP(v) fma(a, v, b)
#else
#define STEP(v) (a * (v) + b)
#endif

/* y[i, j]: the sum over c of what chain c made of lane[j] + ((i % 1024) CHAINS + c) 2^-14. lane: [WIDTH]. */
__kernel void peak(OUT(float, y), IN(float, lane), const float a1, const float b1, const int turns)
{
    USE_OUT(float, y);
    USE_IN(float, lane);
    const ulong i = get_global_id(0);
    const vec a = (vec)(a1), b = (vec)(b1), first = vec_load(lane);
    vec v[CHAINS];
#pragma unroll
    for (int c = 0; c < CHAINS; c++) v[c] = first + (vec)((float)((int)(i & 1023) * CHAINS + c) * 0x1p-14f);
    for (int t = 0; t < turns; t++) {
#pragma unroll
        for (int u = 0; u < LENGTH; u++) {
#pragma unroll
            for (int c = 0; c < CHAINS; c++) v[c] = STEP(v[c]);
        }
    }
    vec sum = v[0];
#pragma unroll
    for (int c = 1; c < CHAINS; c++) sum += v[c];
    vec_store(sum, y + i * WIDTH);
}
