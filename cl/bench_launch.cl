/* Next to nothing, for the time of a launch: one work-item counts. */
#include "common.clh"

__kernel void count_launch(IO(int, n))
{
    USE_IO(int, n);
    n[0] += 1;
}
