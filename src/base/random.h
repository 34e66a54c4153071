/* Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011). The number is a pure function of key and counter, so any thread, device
 * or restart gets the same one. cl/random.clh is the same function for kernels.
 */
#ifndef CST_BASE_RANDOM_H
#define CST_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* out[0..3] = philox(counter c[0..3], key k[0..1]). */
void cst_philox(uint32_t out[4], const uint32_t c[4], const uint32_t k[2]);

/* 64 random bits for position `index` of stream `stream` under `seed`. */
uint64_t cst_random_u64(uint64_t seed, uint64_t stream, uint64_t index);

/* dst[i] = mean + std * normal(seed, stream, i), i in [0, n). Box-Muller in double, rounded once, so the
 * result doesn't depend on threads or on the device. Runs on all host threads, in vectors where the processor has
 * them. part: the n values from `first`, a multiple of 4, on. */
void cst_random_normal(float *dst, size_t n, float mean, float std, uint64_t seed, uint64_t stream);
void cst_random_normal_part(float *dst, uint64_t first, size_t n, float mean, float std, uint64_t seed, uint64_t stream);

/* Uniform shuffle of p[0..n) (Fisher-Yates), a pure function of seed and stream. */
void cst_random_shuffle(uint32_t *p, size_t n, uint64_t seed, uint64_t stream);

#endif
