/* statistics.h: summaries over seeds and rows, for leaderboards and claims. */
#ifndef MMFUSE_TASKS_STATISTICS_H
#define MMFUSE_TASKS_STATISTICS_H

#include "mmfuse/base.h"

/** Mean and sample deviation (n - 1; 0 for n = 1) of the finite values; n counts them, and without
 * any both are NaN. */
typedef struct mmf_summary {
    double mean, deviation;
    int64_t n;
} mmf_summary;

mmf_summary mmf_summarise(const double *values, int64_t n);

/** Mean difference a - b with a percentile interval. */
typedef struct mmf_interval {
    double mean, low, high;
} mmf_interval;

/**
 * Paired bootstrap over rows: per-row scores of two methods (already averaged over seeds),
 * `n_draws` resamples, two-sided `level` (0.95). Depends on the seed alone.
 */
mmf_status mmf_paired_bootstrap(mmf_ctx *ctx, mmf_interval *out, const double *a, const double *b,
                                int64_t n, int n_draws, double level, uint64_t seed);

#endif
