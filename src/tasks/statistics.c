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

static mmf_status check(mmf_ctx *ctx, const char *what, const double *a, const double *b, int64_t n,
                        int n_draws, double level)
{
    if (n < 1 || n_draws < 1 || !(level > 0 && level < 1))
        return mmf_fail(ctx, MMF_ARG,
                        "%s: %lld rows, %d draws, level %g; expected 1 or more rows "
                        "and draws and a level between 0 and 1",
                        what, (long long)n, n_draws, level);
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(a[i]) || !isfinite(b[i]))
            return mmf_fail(ctx, MMF_NUMERIC,
                            "%s: the scores of row %lld are %g and %g, expected finite numbers",
                            what, (long long)i, a[i], b[i]);
    }
    return MMF_OK;
}

mmf_status mmf_paired_bootstrap(mmf_ctx *ctx, mmf_interval *out, const double *a, const double *b,
                                int64_t n, int n_draws, double level, uint64_t seed)
{
    MMF_TRY(check(ctx, "paired bootstrap", a, b, n, n_draws, level));
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

/* ---- Permutation ------------------------------------------------------------------------- */

/* Sums that are equal but for rounding count as equal. */
static bool reaches(double sum, double observed, double scale)
{
    return fabs(sum) >= fabs(observed) - 1e-12 * scale;
}

/* All 2^n sums: the Gray code flips one sign at a time. */
static double exact_flips(const double *d, int n, double observed, double scale)
{
    const uint64_t all = UINT64_C(1) << n;
    uint64_t reached = 0, signs = 0;
    double sum = observed;
    for (uint64_t i = 0; i < all; i++) {
        reached += reaches(sum, observed, scale);
        int bit = 0;
        while (bit < n && !((i + 1) >> bit & 1))
            bit++;
        if (bit == n)
            break;
        signs ^= UINT64_C(1) << bit;
        sum += signs >> bit & 1 ? -2 * d[bit] : 2 * d[bit];
    }
    return (double)reached / (double)all;
}

static double drawn_flips(const double *d, int64_t n, double observed, double scale, int n_draws,
                          uint64_t seed)
{
    mmf_rng rng = mmf_rng_make(seed, mmf_rng_stream("sign flips"));
    int64_t reached = 1;
    for (int k = 0; k < n_draws; k++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i += 32) {
            uint32_t signs = mmf_rng_u32(&rng);
            for (int64_t j = i; j < n && j < i + 32; j++, signs >>= 1)
                sum += signs & 1 ? d[j] : -d[j];
        }
        reached += reaches(sum, observed, scale);
    }
    return (double)reached / (double)(n_draws + 1);
}

mmf_status mmf_sign_flip_test(mmf_ctx *ctx, double *p, const double *a, const double *b, int64_t n,
                              int n_draws, uint64_t seed)
{
    MMF_TRY(check(ctx, "sign-flip test", a, b, n, n_draws, 0.5));
    double *const d = mmf_alloc_zero(ctx, (size_t)n, sizeof *d);
    if (!d)
        return MMF_NOMEM;
    double observed = 0, scale = 0;
    int64_t n_other = 0; /* differences that are not zero: flipping zeros changes nothing */
    for (int64_t i = 0; i < n; i++) {
        if (a[i] == b[i])
            continue;
        d[n_other++] = a[i] - b[i];
        observed += a[i] - b[i];
        scale += fabs(a[i] - b[i]);
    }
    *p = n_other <= MMF_EXACT_FLIPS ? exact_flips(d, (int)n_other, observed, scale)
                                    : drawn_flips(d, n_other, observed, scale, n_draws, seed);
    mmf_free(ctx, d);
    return MMF_OK;
}

mmf_status mmf_holm(mmf_ctx *ctx, double *p, int64_t n)
{
    double *const sorted = mmf_alloc_zero(ctx, (size_t)n + 1, sizeof *sorted);
    if (!sorted)
        return MMF_NOMEM;
    int64_t m = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isnan(p[i]))
            sorted[m++] = p[i];
    }
    qsort(sorted, (size_t)m, sizeof *sorted, ascending);
    for (int64_t i = 0; i < n; i++) {
        double adjusted = 0;
        for (int64_t k = 0; k < m && sorted[k] <= p[i]; k++)
            adjusted = fmax(adjusted, (double)(m - k) * sorted[k]);
        p[i] = isnan(p[i]) ? p[i] : fmin(1, adjusted);
    }
    mmf_free(ctx, sorted);
    return MMF_OK;
}
