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

/**
 * Paired permutation test of mean(a - b) = 0 by flipping the signs of the differences, two-sided.
 * Exact where at most MMF_EXACT_FLIPS differences are not zero; else by `n_draws` random flips, of
 * which the observed one counts as one more. Depends on the seed alone.
 */
#define MMF_EXACT_FLIPS 20
mmf_status mmf_sign_flip_test(mmf_ctx *ctx, double *p, const double *a, const double *b, int64_t n,
                              int n_draws, uint64_t seed);

/** Holm's correction of `n` p values, in place; NaN are left out and stay. */
mmf_status mmf_holm(mmf_ctx *ctx, double *p, int64_t n);

#endif
