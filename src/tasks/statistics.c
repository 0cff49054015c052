/* statistics.c: see statistics.h. */
#include "tasks/statistics.h"

#include <math.h>
#include <stdlib.h>

mmf_summary mmf_summarise(const double *values, int64_t n)
{
    mmf_summary s = {.mean = NAN, .deviation = NAN};
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isfinite(values[i])) {
            sum += values[i];
            s.n++;
        }
    }
    if (s.n == 0)
        return s;
    s.mean = sum / (double)s.n;
    for (int64_t i = 0; i < n; i++) {
        if (isfinite(values[i]))
            squares += (values[i] - s.mean) * (values[i] - s.mean);
    }
    s.deviation = s.n > 1 ? sqrt(squares / (double)(s.n - 1)) : 0;
    return s;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Quantile between order statistics (Hyndman & Fan, 1996, definition 7). */
static double quantile(const double *sorted, int64_t n, double q)
{
    const double position = q * (double)(n - 1);
    const int64_t below = (int64_t)position;
    const int64_t above = below + 1 < n ? below + 1 : below;
    return sorted[below] + (position - (double)below) * (sorted[above] - sorted[below]);
}

static mmf_status check(mmf_ctx *ctx, const double *a, const double *b, int64_t n, int n_draws,
                        double level)
{
    if (n < 1 || n_draws < 1 || !(level > 0 && level < 1))
        return mmf_fail(ctx, MMF_ARG,
                        "paired bootstrap: %lld rows, %d draws, level %g; expected 1 or more rows "
                        "and draws and a level between 0 and 1",
                        (long long)n, n_draws, level);
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(a[i]) || !isfinite(b[i]))
            return mmf_fail(ctx, MMF_NUMERIC,
                            "paired bootstrap: the scores of row %lld are %g and %g, expected "
                            "finite numbers",
                            (long long)i, a[i], b[i]);
    }
    return MMF_OK;
}

mmf_status mmf_paired_bootstrap(mmf_ctx *ctx, mmf_interval *out, const double *a, const double *b,
                                int64_t n, int n_draws, double level, uint64_t seed)
{
    MMF_TRY(check(ctx, a, b, n, n_draws, level));
    double *const means = mmf_alloc_zero(ctx, (size_t)n_draws, sizeof *means);
    if (!means)
        return MMF_NOMEM;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] - b[i];
    mmf_rng rng = mmf_rng_make(seed, mmf_rng_stream("paired bootstrap"));
    for (int d = 0; d < n_draws; d++) {
        double drawn = 0;
        for (int64_t i = 0; i < n; i++) {
            const uint64_t row = mmf_rng_below(&rng, (uint64_t)n);
            drawn += a[row] - b[row];
        }
        means[d] = drawn / (double)n;
    }
    qsort(means, (size_t)n_draws, sizeof *means, ascending);
    out->mean = sum / (double)n;
    out->low = quantile(means, n_draws, (1 - level) / 2);
    out->high = quantile(means, n_draws, (1 + level) / 2);
    mmf_free(ctx, means);
    return MMF_OK;
}
