/* What make check-vendors must notice, one kernel for each of its rules; FAULT says which. */
#if FAULT == 1 /* an array with indices that only run time knows */
__kernel void scratch(__global int *x, __global int *y)
{
    int a[256], sum = 0;
    const int l = (int)get_global_id(0);
    for (int i = 0; i < 256; i++) a[i] = y[i * 64 + l];
    for (int i = 0; i < 1000; i++) a[x[i + l] & 255] += a[x[i + 7 * l] & 255];
    for (int i = 0; i < 256; i++) sum ^= a[i] * i;
    y[l] = sum;
}
#elif FAULT == 2 /* a function that stays one */
__attribute__((noinline)) int twice(__global int *x, const int i)
{
    for (int k = 0; k < x[i]; k++) x[i + k] = x[i - k];
    return x[i];
}
__kernel void calls(__global int *x)
{
    x[0] = twice(x, x[1]) + twice(x, x[2]);
}
#elif FAULT == 3 /* more local memory than there is */
__kernel void local_memory(__global int *x)
{
    __local int a[INTS];
    for (int i = (int)get_local_id(0); i < INTS; i += 64) a[i] = x[i];
    barrier(CLK_LOCAL_MEM_FENCE);
    x[get_local_id(0)] = a[x[get_local_id(0)]];
}
#elif FAULT == 4 /* listed with a group that is too large */
__kernel void groups(__global int *x)
{
    x[get_global_id(0)] = 1;
}
#else
#error planted
__kernel void broken(__global int *x)
{
    x[get_global_id(0)] = 1;
}
#endif
