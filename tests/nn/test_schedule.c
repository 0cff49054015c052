/* test_schedule.c: the learning rate's factor over a run, kind by kind. */
#include <math.h>

#include "mmfuse/nn.h"
#include "support.h"

/* 100 steps, 10 an epoch. */
static mmf_schedule make(mmf_schedule_kind kind, double warmup)
{
    return (mmf_schedule){.kind = kind,
                          .warmup = warmup,
                          .factor = 0.5,
                          .period = 3,
                          .total_steps = 100,
                          .steps_per_epoch = 10,
                          .scale = 1,
                          .best = INFINITY};
}

typedef struct point {
    mmf_schedule_kind kind;
    double warmup;
    int64_t step;
    double wanted;
} point;

static const point points[] = {
    {MMF_SCHEDULE_CONSTANT, 0, 0, 1},
    {MMF_SCHEDULE_CONSTANT, 0, 99, 1},
    {MMF_SCHEDULE_STEP, 0, 29, 1},
    {MMF_SCHEDULE_STEP, 0, 30, 0.5},
    {MMF_SCHEDULE_STEP, 0, 59, 0.5},
    {MMF_SCHEDULE_STEP, 0, 60, 0.25},
    {MMF_SCHEDULE_STEP, 0, 99, 0.125},
    {MMF_SCHEDULE_COSINE, 0, 0, 1},
    {MMF_SCHEDULE_COSINE, 0, 50, 0.5},
    {MMF_SCHEDULE_COSINE, 0, 100, 0},
    {MMF_SCHEDULE_COSINE, 0, 250, 0},
    {MMF_SCHEDULE_COSINE, 0.2, 60, 0.5},
    {MMF_SCHEDULE_LINEAR, 0, 0, 1},
    {MMF_SCHEDULE_LINEAR, 0, 25, 0.75},
    {MMF_SCHEDULE_LINEAR, 0, 100, 0},
    {MMF_SCHEDULE_LINEAR, 0.2, 60, 0.5},
    /* Warmup rises in equal steps to the first one behind it; no step has a rate of zero. */
    {MMF_SCHEDULE_CONSTANT, 0.2, 0, 1.0 / 21},
    {MMF_SCHEDULE_CONSTANT, 0.2, 9, 10.0 / 21},
    {MMF_SCHEDULE_CONSTANT, 0.2, 19, 20.0 / 21},
    {MMF_SCHEDULE_CONSTANT, 0.2, 20, 1},
    {MMF_SCHEDULE_COSINE, 0.2, 20, 1},
    {MMF_SCHEDULE_PLATEAU, 0, 40, 1},
};

static void factors_at_steps(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        const point *const p = &points[i];
        const mmf_schedule s = make(p->kind, p->warmup);
        const double found = mmf_schedule_at(&s, p->step);
        if (!(fabs(found - p->wanted) < 1e-12))
            fail_msg("kind %d, warmup %g, step %lld: %.15g, expected %.15g", (int)p->kind,
                     p->warmup, (long long)p->step, found, p->wanted);
    }
}

/* Never negative, never above one, never rising behind the warmup. */
static void factors_stay_within_bounds(void **state)
{
    (void)state;
    for (int kind = MMF_SCHEDULE_CONSTANT; kind <= MMF_SCHEDULE_LINEAR; kind++) {
        for (int w = 0; w < 3; w++) {
            const mmf_schedule s = make((mmf_schedule_kind)kind, 0.15 * w);
            double last = 0;
            for (int64_t step = 0; step < 120; step++) {
                const double f = mmf_schedule_at(&s, step);
                assert_true(f >= 0 && f <= 1);
                const double rise = s.warmup * 100;
                assert_true((double)step < rise ? f > last : true);
                assert_true((double)step > rise ? f <= last : true);
                last = f;
            }
        }
    }
}

static void a_plateau_waits_then_lowers(void **state)
{
    (void)state;
    mmf_schedule s = make(MMF_SCHEDULE_PLATEAU, 0);
    const double losses[] = {1.0, 0.9, 0.95, 0.9, 0.91, 0.92, 0.8, 0.8, 0.8, 0.8, 0.8};
    const double wanted[] = {1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25};
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        mmf_schedule_epoch(&s, losses[i]);
        assert_true(mmf_schedule_at(&s, 0) == wanted[i]);
    }
    assert_true(s.best == 0.8);
    /* A loss that is not a number is no improvement. */
    for (int i = 0; i < 4; i++)
        mmf_schedule_epoch(&s, NAN);
    assert_true(mmf_schedule_at(&s, 0) == 0.125);
    mmf_schedule other = make(MMF_SCHEDULE_STEP, 0);
    for (int i = 0; i < 20; i++)
        mmf_schedule_epoch(&other, 1);
    assert_true(mmf_schedule_at(&other, 0) == 1);
}

static void degenerate_runs_have_a_factor(void **state)
{
    (void)state;
    for (int kind = MMF_SCHEDULE_CONSTANT; kind <= MMF_SCHEDULE_LINEAR; kind++) {
        mmf_schedule s = {.kind = (mmf_schedule_kind)kind, .factor = 0.5, .scale = 1};
        assert_true(mmf_schedule_at(&s, 0) == 1);
        s.warmup = 1;
        s.total_steps = 4;
        assert_true(mmf_schedule_at(&s, 3) > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factors_at_steps),
        cmocka_unit_test(factors_stay_within_bounds),
        cmocka_unit_test(a_plateau_waits_then_lowers),
        cmocka_unit_test(degenerate_runs_have_a_factor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
