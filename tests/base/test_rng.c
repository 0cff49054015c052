/* test_rng.c: known answers of Philox, ranges and moments of the draws, independence of streams. */
#include <math.h>

#include "support.h"

static void known_answers_come_out(void **state)
{
    (void)state;
    /* Test vectors for philox4x32-10 that its authors publish with their library Random123. */
    static const struct {
        uint64_t seed, stream, counter;
        uint32_t wanted[4];
    } cases[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822,
         0x0370734413198a2e,
         0x85a308d3243f6a88,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        uint32_t got[4];
        mmf_philox(cases[c].seed, cases[c].stream, cases[c].counter, got);
        assert_memory_equal(got, cases[c].wanted, sizeof got);
    }
    mmf_rng rng = mmf_rng_make(0, 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(mmf_rng_u32(&rng), cases[0].wanted[i]);
    uint32_t second[4];
    mmf_philox(0, 0, 1, second);
    assert_int_equal(mmf_rng_u32(&rng), second[0]);
}

static void uniform_and_normal_have_their_moments(void **state)
{
    (void)state;
    mmf_rng rng = mmf_rng_make(1, mmf_rng_stream("test"));
    const int n = 200000;
    double sum = 0, squares = 0, normal = 0, normal_squares = 0, fourth = 0;
    for (int i = 0; i < n; i++) {
        const double u = mmf_rng_uniform(&rng), z = mmf_rng_normal(&rng);
        assert_true(u >= 0 && u < 1 && isfinite(z));
        sum += u;
        squares += u * u;
        normal += z;
        normal_squares += z * z;
        fourth += z * z * z * z;
    }
    /* Five standard errors of each mean. */
    assert_true(fabs(sum / n - 0.5) < 5 * sqrt(1.0 / 12 / n));
    assert_true(fabs(squares / n - 1.0 / 3) < 5 * sqrt(4.0 / 45 / n));
    assert_true(fabs(normal / n) < 5 / sqrt(n));
    assert_true(fabs(normal_squares / n - 1) < 5 * sqrt(2.0 / n));
    assert_true(fabs(fourth / n - 3) < 5 * sqrt(96.0 / n));
}

static void below_is_even_and_bounded(void **state)
{
    (void)state;
    mmf_rng rng = mmf_rng_make(2, 3);
    int counts[7] = {0};
    for (int i = 0; i < 70000; i++)
        counts[mmf_rng_below(&rng, 7)]++;
    double chi = 0;
    for (int i = 0; i < 7; i++)
        chi += (counts[i] - 10000.0) * (counts[i] - 10000.0) / 10000.0;
    assert_true(chi < 33); /* 6 degrees of freedom: exceeded once in 100,000 seeds */
    for (int i = 0; i < 100; i++) {
        assert_int_equal(mmf_rng_below(&rng, 1), 0);
        assert_true(mmf_rng_below(&rng, UINT64_MAX) < UINT64_MAX);
    }
}

static void shuffles_keep_every_element(void **state)
{
    (void)state;
    int64_t index[100], again[100], first[4] = {0};
    for (int64_t i = 0; i < 100; i++)
        index[i] = again[i] = i;
    mmf_rng a = mmf_rng_make(5, mmf_rng_stream("shuffle")), b = a;
    mmf_rng_shuffle(&a, index, 100);
    mmf_rng_shuffle(&b, again, 100);
    assert_memory_equal(index, again, sizeof index);
    bool seen[100] = {false};
    int n_moved = 0;
    for (int64_t i = 0; i < 100; i++) {
        assert_false(seen[index[i]]);
        seen[index[i]] = true;
        n_moved += index[i] != i;
    }
    assert_true(n_moved > 80);
    mmf_rng_shuffle(&a, index, 0);
    mmf_rng_shuffle(&a, index, 1);
    for (int round = 0; round < 4000; round++) {
        int64_t four[4] = {0, 1, 2, 3};
        mmf_rng_shuffle(&a, four, 4);
        first[four[0]]++;
    }
    for (int i = 0; i < 4; i++)
        assert_true(first[i] > 850 && first[i] < 1150);
}

static void streams_and_seeds_differ(void **state)
{
    (void)state;
    assert_true(mmf_rng_stream("shuffle") != mmf_rng_stream("init"));
    assert_true(mmf_rng_stream("") == 0xcbf29ce484222325u);
    mmf_rng a = mmf_rng_make(1, mmf_rng_stream("a")), b = mmf_rng_make(1, mmf_rng_stream("b")),
            c = mmf_rng_make(2, mmf_rng_stream("a"));
    int n_equal = 0;
    for (int i = 0; i < 1000; i++) {
        const uint32_t x = mmf_rng_u32(&a), y = mmf_rng_u32(&b), z = mmf_rng_u32(&c);
        n_equal += (x == y) + (x == z) + (y == z);
    }
    assert_true(n_equal < 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers_come_out),
        cmocka_unit_test(uniform_and_normal_have_their_moments),
        cmocka_unit_test(below_is_even_and_bounded),
        cmocka_unit_test(shuffles_keep_every_element),
        cmocka_unit_test(streams_and_seeds_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
