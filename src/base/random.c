#include "base/random.h"

#include <math.h>
#include <string.h>

#define ROUNDS 10
#define M0 0xD2511F53u
#define M1 0xCD9E8D57u
#define K0 0x9E3779B9u
#define K1 0xBB67AE85u

void cst_philox(uint32_t out[4], const uint32_t c[4], const uint32_t k[2])
{
    uint32_t c0 = c[0], c1 = c[1], c2 = c[2], c3 = c[3], k0 = k[0], k1 = k[1];
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t p0 = (uint64_t)M0 * c0, p1 = (uint64_t)M1 * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += K0;
        k1 += K1;
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

#define TWO_PI 6.283185307179586476925286766559

/* Two normals from 64 random bits; u in (0, 1]. */
static void normal_pair(double z[2], uint32_t a, uint32_t b)
{
    double u = (a + 1.0) * 0x1p-32, r = sqrt(-2.0 * log(u)), t = TWO_PI * (b * 0x1p-32);
    z[0] = r * cos(t);
    z[1] = r * sin(t);
}

/* What a row of normals is made of. */
typedef struct source {
    uint64_t seed, stream;
    double mean, std;
} source;

/* n values from block `index` on, one after the other: what the result is defined by. */
static void normals(float *dst, size_t n, uint64_t index, const source *s)
{
    for (size_t i = 0; i < n; i += 4, index++) {
        uint32_t r[4];
        double z[4];
        block(r, s->seed, s->stream, index);
        normal_pair(z, r[0], r[1]);
        normal_pair(z + 2, r[2], r[3]);
        for (size_t j = 0; j < 4 && i + j < n; j++) dst[i + j] = (float)(s->mean + s->std * z[j]);
    }
}

/* The same for LANES blocks at once in vector instructions. log, cos and sin are series here, with errors of a few
 * 2^-53 like the mathematical library's own. That decides the float only where the double lies next to the middle
 * between two floats: then the row says so (0), and the library's functions decide. So the bits are always those
 * of normals(). */
#if defined(__GNUC__) && defined(__x86_64__)
#define LANES 64
#define MARGIN 0x1p-46 /* of the value: ten times the error of both */
#define LN2 0.6931471805599453094
#define PI_2_HIGH 1.57079632679489661923 /* rounded, and the rest of it */
#define PI_2_LOW 6.123233995736766036e-17

static inline __attribute__((always_inline)) double from_bits(uint64_t b)
{
    double d;
    memcpy(&d, &b, sizeof d);
    return d;
}

static inline __attribute__((always_inline)) uint64_t to_bits(double d)
{
    uint64_t b;
    memcpy(&b, &d, sizeof b);
    return b;
}

/* An integer below 2^52. */
static inline __attribute__((always_inline)) double from_integer(uint64_t i)
{
    return from_bits(i | 0x4330000000000000u) - 0x1p52;
}

/* ln(d / 2^32) for an integer d of 1 to 2^32: exponent and 2 atanh((m - 1) / (m + 1)), m in [sqrt(1/2), sqrt 2). */
static inline __attribute__((always_inline)) double log_of(double d)
{
    uint64_t bits = to_bits(d), e = (bits - 0x3fe6a09e667f3bcdu) >> 52;
    double m = from_bits(bits - (e << 52)), s = (m - 1.0) / (m + 1.0), z = s * s, p = 1.0 / 21;
    p = fma(p, z, 1.0 / 19), p = fma(p, z, 1.0 / 17), p = fma(p, z, 1.0 / 15), p = fma(p, z, 1.0 / 13), p = fma(p, z, 1.0 / 11);
    p = fma(p, z, 1.0 / 9), p = fma(p, z, 1.0 / 7), p = fma(p, z, 1.0 / 5), p = fma(p, z, 1.0 / 3);
    return fma(from_integer(e) - 32.0, LN2, fma(2.0 * s * z, p, 2.0 * s));
}

/* cos t and sin t, 0 <= t < 2 pi: what is left of the nearest multiple of pi/2, by Taylor's series. */
static inline __attribute__((always_inline)) void cos_sin(double *c, double *s, double t)
{
    double shifted = fma(t, 1 / PI_2_HIGH, 0x1.8p52), q = shifted - 0x1.8p52;
    double y = fma(-q, PI_2_LOW, fma(-q, PI_2_HIGH, t)), z = y * y, a = 1.0 / 355687428096000, b = 1.0 / 20922789888000;
    a = fma(a, z, -1.0 / 1307674368000), a = fma(a, z, 1.0 / 6227020800), a = fma(a, z, -1.0 / 39916800);
    a = fma(a, z, 1.0 / 362880), a = fma(a, z, -1.0 / 5040), a = fma(a, z, 1.0 / 120), a = fma(a, z, -1.0 / 6);
    b = fma(b, z, -1.0 / 87178291200), b = fma(b, z, 1.0 / 479001600), b = fma(b, z, -1.0 / 3628800);
    b = fma(b, z, 1.0 / 40320), b = fma(b, z, -1.0 / 720), b = fma(b, z, 1.0 / 24), b = fma(b, z, -0.5);
    uint64_t sin_y = to_bits(fma(y * z, a, y)), cos_y = to_bits(fma(b, z, 1.0)), quarter = to_bits(shifted);
    uint64_t odd = -(quarter & 1); /* then the two change places */
    *c = from_bits(((cos_y & ~odd) | (sin_y & odd)) ^ ((quarter ^ quarter << 1) & 2) << 62);
    *s = from_bits(((sin_y & ~odd) | (cos_y & odd)) ^ (quarter & 2) << 62);
}

static inline __attribute__((always_inline)) int rows(float *dst, uint64_t index, const source *src)
{
    const double mean = src->mean, std = src->std;
    uint32_t r[4][LANES], k0 = (uint32_t)src->seed, k1 = (uint32_t)(src->seed >> 32);
    float out[4][LANES];
    int bad = 0;
    for (int j = 0; j < LANES; j++) {
        r[0][j] = (uint32_t)(index + (uint64_t)j), r[1][j] = (uint32_t)((index + (uint64_t)j) >> 32);
        r[2][j] = (uint32_t)src->stream, r[3][j] = (uint32_t)(src->stream >> 32);
    }
    for (int round = 0; round < ROUNDS; round++, k0 += K0, k1 += K1) {
#pragma omp simd
        for (int j = 0; j < LANES; j++) {
            uint64_t p0 = (uint64_t)M0 * r[0][j], p1 = (uint64_t)M1 * r[2][j];
            uint32_t n0 = (uint32_t)(p1 >> 32) ^ r[1][j] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ r[3][j] ^ k1;
            r[1][j] = (uint32_t)p1, r[3][j] = (uint32_t)p0, r[0][j] = n0, r[2][j] = n2;
        }
    }
    for (int h = 0; h < 4; h += 2) {
#pragma omp simd reduction(| : bad)
        for (int j = 0; j < LANES; j++) {
            double c, s, t = TWO_PI * (from_integer(r[h + 1][j]) * 0x1p-32);
            double radius = sqrt(-2.0 * log_of(from_integer(r[h][j]) + 1.0));
            cos_sin(&c, &s, t);
            double x = std * (radius * c), y = std * (radius * s), near_x = fabs(x) * MARGIN, near_y = fabs(y) * MARGIN;
            float low_x = (float)(mean + (x - near_x)), low_y = (float)(mean + (y - near_y));
            bad |= (low_x != (float)(mean + (x + near_x))) | (low_y != (float)(mean + (y + near_y)));
            out[h][j] = low_x, out[h + 1][j] = low_y;
        }
    }
    for (int j = 0; j < LANES; j++)
        for (int i = 0; i < 4; i++) dst[4 * j + i] = out[i][j];
    return !bad;
}

typedef int rows_fn(float *, uint64_t, const source *);

__attribute__((target("avx2,fma")))
static int rows_avx2(float *dst, uint64_t index, const source *s)
{
    return rows(dst, index, s);
}

__attribute__((target("avx512f,avx512dq,avx2,fma,prefer-vector-width=512")))
static int rows_avx512(float *dst, uint64_t index, const source *s)
{
    return rows(dst, index, s);
}

static rows_fn *choose(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) return rows_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return rows_avx2;
    return NULL;
}
#else
#define LANES 64
typedef int rows_fn(float *, uint64_t, const source *);

static rows_fn *choose(void)
{
    return NULL;
}
#endif

void cst_random_normal_part(float *dst, uint64_t first, size_t n, float mean, float std, uint64_t seed, uint64_t stream)
{
    const source s = {seed, stream, mean, std};
    const size_t turn = 4 * LANES;
    rows_fn *fast = choose();
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += turn) {
        size_t take = n - i < turn ? n - i : turn;
        uint64_t index = (first + i) / 4;
        if (take < turn || !fast || !fast(dst + i, index, &s)) normals(dst + i, take, index, &s);
    }
}

void cst_random_normal(float *dst, size_t n, float mean, float std, uint64_t seed, uint64_t stream)
{
    cst_random_normal_part(dst, 0, n, mean, std, seed, stream);
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
