/* timing.h: the clock, and summaries of measured durations. */
#ifndef MMFUSE_TRAIN_TIMING_H
#define MMFUSE_TRAIN_TIMING_H

#include "mmfuse/base.h"

/** Seconds of a monotonic clock. */
double mmf_seconds(void);
/** Median (the mean of the middle two of an even number); sorts `seconds`. NaN for n = 0. */
double mmf_timing_median(double *seconds, int64_t n);

#endif
