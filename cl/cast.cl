/* y[i] = x[i] in another type: f32, f16 (IEEE 754 binary16) or bf16 (the upper half of an f32's bits), rounded
 * to nearest, ties to even; too large becomes infinite, NaN stays NaN. The 16-bit types are held as ushort and
 * are never computed with, so that no extension is needed.
 *
 * The host sets what x and y are: -DFROM=... and -DTO=... with these values.
 */
#include "common.clh"

#define F32 0
#define F16 1
#define BF16 2
#define ushortv CAT(ushort, VW)
#define convert_uintv CAT(convert_uint, VW)
#define convert_ushortv CAT(convert_ushort, VW)
#define as_floatv CAT(as_float, VW)
#define as_uintv CAT(as_uint, VW)
#define vload_halfv CAT(vload_half, VW)
#define vstore_halfv_rte CAT(CAT(vstore_half, VW), _rte)

#if FROM == F32
#define from_t float
#define get1(i, p) ((p)[i])
#define getv(p) vloadv(0, p)
#elif FROM == F16
#define from_t ushort
#define get1(i, p) vload_half(i, (__global const half *)(p))
#define getv(p) vload_halfv(0, (__global const half *)(p))
#else
#define from_t ushort
#define get1(i, p) as_float((uint)(p)[i] << 16)
#define getv(p) as_floatv(convert_uintv(vloadv(0, p)) << 16)
#endif

/* Adding just under half of the last kept bit, and that bit, carries as rounding to nearest even does. */
uint bf16_bits(float x)
{
    const uint u = as_uint(x);
    return isnan(x) ? u >> 16 | 0x40 : (u + 0x7FFF + (u >> 16 & 1)) >> 16;
}
uintv bf16_bitsv(floatv x)
{
    const uintv u = as_uintv(x), nan = u >> 16 | 0x40, rounded = (u + 0x7FFF + (u >> 16 & 1)) >> 16;
    return select(rounded, nan, x != x);
}

#if TO == F32
#define to_t float
#define put1(x, i, p) ((p)[i] = (x))
#define putv(x, p) vstorev(x, 0, p)
#elif TO == F16
#define to_t ushort
#define put1(x, i, p) vstore_half_rte(x, i, (__global half *)(p))
#define putv(x, p) vstore_halfv_rte(x, 0, (__global half *)(p))
#else
#define to_t ushort
#define put1(x, i, p) ((p)[i] = (ushort)bf16_bits(x))
#define putv(x, p) vstorev(convert_ushortv(bf16_bitsv(x)), 0, p)
#endif

/* x [n], y [n]: written */
__kernel void cast(OUT(to_t, y), IN(from_t, x), const ulong n)
{
    USE_OUT(to_t, y);
    USE_IN(from_t, x);
    const ulong i = (ulong)get_global_id(0) * VW;
    if (i + VW <= n) {
        putv(getv(x + i), y + i);
    } else {
        for (ulong j = i; j < n; j++) put1(get1(j, x), j, y);
    }
}
