/* timing.c: see timing.h. */
#include "train/timing.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

double mmf_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double mmf_timing_median(double *seconds, int64_t n)
{
    if (n < 1)
        return NAN;
    qsort(seconds, (size_t)n, sizeof *seconds, ascending);
    return 0.5 * (seconds[(n - 1) / 2] + seconds[n / 2]);
}
