/* test_statistics.c: summaries and the paired bootstrap. */
#include "support.h"

#include <math.h>

#include "tasks/statistics.h"

static void near(double value, double wanted, double tolerance)
{
    if (!(fabs(value - wanted) <= tolerance))
        fail_msg("%.9g, expected %.9g", value, wanted);
}

static void summaries(void **state)
{
    (void)state;
    const double values[] = {1, NAN, 2, INFINITY, 6};
    const mmf_summary s = mmf_summarise(values, 5);
    assert_int_equal(s.n, 3);
    near(s.mean, 3, 1e-15);
    near(s.deviation, sqrt((4 + 1 + 9) / 2.0), 1e-15);
    const mmf_summary one = mmf_summarise(values, 2);
    assert_int_equal(one.n, 1);
    near(one.mean, 1, 0);
    near(one.deviation, 0, 0);
    const mmf_summary none = mmf_summarise(values + 1, 1);
    assert_int_equal(none.n, 0);
    assert_true(isnan(none.mean) && isnan(none.deviation));
    assert_int_equal(mmf_summarise(NULL, 0).n, 0);
}

static void interval_of_known_width(void **state)
{
    (void)state;
    enum { N = 400 };
    mmf_ctx *const ctx = test_ctx();
    double a[N], b[N];
    mmf_rng rng = mmf_rng_make(1, mmf_rng_stream("rows"));
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
        const double difference = .3 + mmf_rng_normal(&rng);
        b[i] = mmf_rng_normal(&rng);
        a[i] = b[i] + difference;
        sum += difference;
        squares += difference * difference;
    }
    const double mean = sum / N, error = sqrt((squares / N - mean * mean) / N);
    mmf_interval i = {0}, again = {0}, other = {0}, narrow = {0};
    test_ok(ctx, mmf_paired_bootstrap(ctx, &i, a, b, N, 4000, .95, 7));
    near(i.mean, mean, 1e-12);
    /* Normal theory: mean -+ 1.96 standard errors; 4,000 draws leave a few percent of noise. */
    near(i.low, mean - 1.96 * error, .15 * error);
    near(i.high, mean + 1.96 * error, .15 * error);
    test_ok(ctx, mmf_paired_bootstrap(ctx, &again, a, b, N, 4000, .95, 7));
    assert_memory_equal(&i, &again, sizeof i);
    test_ok(ctx, mmf_paired_bootstrap(ctx, &other, a, b, N, 4000, .95, 8));
    assert_true(other.low != i.low);
    test_ok(ctx, mmf_paired_bootstrap(ctx, &narrow, a, b, N, 4000, .5, 7));
    assert_true(narrow.low > i.low && narrow.high < i.high);
    mmf_ctx_free(ctx);
}

static void degenerate(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const double a[] = {1, 2}, b[] = {.5, 1.5}, bad[] = {0, NAN};
    mmf_interval i = {0};
    test_ok(ctx, mmf_paired_bootstrap(ctx, &i, a, b, 2, 1, .95, 0));
    near(i.low, .5, 0);
    near(i.high, .5, 0);
    test_fails(ctx, mmf_paired_bootstrap(ctx, &i, a, b, 0, 10, .95, 0), MMF_ARG, "0 rows");
    test_fails(ctx, mmf_paired_bootstrap(ctx, &i, a, b, 2, 0, .95, 0), MMF_ARG, "0 draws");
    test_fails(ctx, mmf_paired_bootstrap(ctx, &i, a, b, 2, 10, 1, 0), MMF_ARG, "level 1");
    test_fails(ctx, mmf_paired_bootstrap(ctx, &i, a, bad, 2, 10, .95, 0), MMF_NUMERIC, "row 1");
    mmf_ctx_free(ctx);
}

/* ---- Permutation ------------------------------------------------------------------------- */

static double p_of(mmf_ctx *ctx, const double *a, const double *b, int64_t n, uint64_t seed)
{
    double p = NAN;
    test_ok(ctx, mmf_sign_flip_test(ctx, &p, a, b, n, 9999, seed));
    return p;
}

static void few_differences_are_counted_out(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const double zero[6] = {0}, up[] = {1, 2, 3}, mixed[] = {3, -1, 0, 2, 0, 0};
    near(p_of(ctx, up, zero, 3, 0), 2.0 / 8, 0); /* only all up and all down */
    /* |sum| >= 4 of +-1 +-2 +-3: 6, 4 and their negatives. Zeros change nothing. */
    near(p_of(ctx, mixed, zero, 6, 0), 4.0 / 8, 0);
    near(p_of(ctx, zero, zero, 6, 0), 1, 0);
    const double tenths[] = {0.1, 0.2, 0.3}, shifted[] = {0.1, 0.1, 0};
    near(p_of(ctx, tenths, zero, 3, 0), 2.0 / 8, 0);
    near(p_of(ctx, tenths, shifted, 3, 0), p_of(ctx, shifted, tenths, 3, 9), 0);
    double p = 0;
    const double bad[] = {0, 1, NAN};
    test_fails(ctx, mmf_sign_flip_test(ctx, &p, bad, up, 3, 10, 0), MMF_NUMERIC, "row 2");
    test_fails(ctx, mmf_sign_flip_test(ctx, &p, up, zero, 0, 10, 0), MMF_ARG, "sign-flip");
    mmf_ctx_free(ctx);
}

static void many_differences_are_drawn(void **state)
{
    (void)state;
    enum { N = 400 };
    mmf_ctx *const ctx = test_ctx();
    double a[N], b[N], sum = 0, squares = 0;
    mmf_rng rng = mmf_rng_make(5, mmf_rng_stream("test"));
    for (int i = 0; i < N; i++) {
        b[i] = mmf_rng_normal(&rng);
        a[i] = b[i] + 0.1 + mmf_rng_normal(&rng);
        sum += a[i] - b[i];
        squares += (a[i] - b[i]) * (a[i] - b[i]);
    }
    /* Sums of flipped signs are near to normal with variance sum d^2. */
    const double wanted = erfc(fabs(sum) / sqrt(squares) / sqrt(2));
    const double p = p_of(ctx, a, b, N, 7);
    near(p, wanted, 4 * sqrt(wanted / 9999) + 1e-3);
    assert_true(p == p_of(ctx, a, b, N, 7));
    for (int i = 0; i < N; i++)
        a[i] = b[i] + 1;
    near(p_of(ctx, a, b, N, 7), 1e-4, 0); /* none of 9,999, and the observed one */
    /* Just beyond the exact count, draws agree with it. */
    double p_exact = 0, p_drawn = 0;
    for (int i = 0; i <= MMF_EXACT_FLIPS; i++)
        a[i] = b[i] + (i % 3 == 0 ? -1.0 : 0.9) * (1 + 0.01 * i);
    p_exact = p_of(ctx, a, b, MMF_EXACT_FLIPS, 1);
    a[MMF_EXACT_FLIPS] = b[MMF_EXACT_FLIPS] + 1e-9;
    p_drawn = p_of(ctx, a, b, MMF_EXACT_FLIPS + 1, 1);
    near(p_drawn, p_exact, 0.03);
    mmf_ctx_free(ctx);
}

static void holm_corrects_step_by_step(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    double p[] = {0.01, 0.04, NAN, 0.03, 0.005, 0.9};
    const double wanted[] = {0.04, 0.09, NAN, 0.09, 0.025, 0.9};
    test_ok(ctx, mmf_holm(ctx, p, 6));
    for (int i = 0; i < 6; i++) {
        if (isnan(wanted[i]))
            assert_true(isnan(p[i]));
        else
            near(p[i], wanted[i], 1e-15);
    }
    double equal[] = {0.3, 0.3, 0.3};
    test_ok(ctx, mmf_holm(ctx, equal, 3));
    near(equal[0], 0.9, 1e-15);
    near(equal[2], 0.9, 1e-15);
    double large[] = {0.6, 0.7};
    test_ok(ctx, mmf_holm(ctx, large, 2));
    near(large[1], 1, 0);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(summaries),
        cmocka_unit_test(interval_of_known_width),
        cmocka_unit_test(degenerate),
        cmocka_unit_test(few_differences_are_counted_out),
        cmocka_unit_test(many_differences_are_drawn),
        cmocka_unit_test(holm_corrects_step_by_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
