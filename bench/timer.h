/* timer.h: clocks and memory of the measuring process. */
#ifndef MMFUSE_BENCH_TIMER_H
#define MMFUSE_BENCH_TIMER_H

#include <stddef.h>

/** Seconds of a monotonic clock. */
double bench_seconds(void);
/** Processor seconds of this process, all threads together. */
double bench_cpu_seconds(void);
/** Largest resident memory of this process since its start, in bytes; 0 if the system does not
 * tell. */
size_t bench_peak_resident(void);
/** Median of `n` values, which are sorted in place. */
double bench_median(double *values, size_t n);

#endif
