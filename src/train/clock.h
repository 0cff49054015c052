/* clock.h: measuring time. POSIX. */
#ifndef MMFUSE_TRAIN_CLOCK_H
#define MMFUSE_TRAIN_CLOCK_H

#include "mmfuse/base.h"

/** Seconds of a clock that only goes forward. */
double mmf_clock_seconds(void);
/** Median (the mean of the middle two of an even number); sorts `seconds`. NaN for n = 0. */
double mmf_clock_median(double *seconds, int64_t n);

#endif
