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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(summaries),
        cmocka_unit_test(interval_of_known_width),
        cmocka_unit_test(degenerate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
