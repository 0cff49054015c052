/* clock.c: see clock.h. */
#include "train/clock.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

double mmf_clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double mmf_clock_median(double *seconds, int64_t n)
{
    if (n < 1)
        return NAN;
    qsort(seconds, (size_t)n, sizeof *seconds, ascending);
    return 0.5 * (seconds[(n - 1) / 2] + seconds[n / 2]);
}
