#include "base/random.h"

#include <math.h>

void cst_philox(uint32_t out[4], const uint32_t c[4], const uint32_t k[2])
{
    uint32_t c0 = c[0], c1 = c[1], c2 = c[2], c3 = c[3], k0 = k[0], k1 = k[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

static void block(uint32_t r[4], uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t c[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
    uint32_t k[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    cst_philox(r, c, k);
}

uint64_t cst_random_u64(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t r[4];
    block(r, seed, stream, index);
    return (uint64_t)r[1] << 32 | r[0];
}

/* Two normals from 64 random bits; u in (0, 1]. */
static void normal_pair(double z[2], uint32_t a, uint32_t b)
{
    const double two_pi = 6.283185307179586476925286766559;
    double u = (a + 1.0) * 0x1p-32, r = sqrt(-2.0 * log(u)), t = two_pi * (b * 0x1p-32);
    z[0] = r * cos(t);
    z[1] = r * sin(t);
}

void cst_random_normal(float *dst, size_t n, float mean, float std, uint64_t seed, uint64_t stream)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < (n + 3) / 4; i++) {
        uint32_t r[4];
        double z[4];
        block(r, seed, stream, i);
        normal_pair(z, r[0], r[1]);
        normal_pair(z + 2, r[2], r[3]);
        for (size_t j = 0; j < 4 && 4 * i + j < n; j++) dst[4 * i + j] = (float)(mean + std * z[j]);
    }
}

void cst_random_shuffle(uint32_t *p, size_t n, uint64_t seed, uint64_t stream)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = cst_random_u64(seed, stream, i) % i; /* bias below 2^-32: not seen at any corpus size */
        uint32_t t = p[i - 1];
        p[i - 1] = p[j];
        p[j] = t;
    }
}
