/*
 * test_kalman.c: the filter by what is known of it: one sensor by hand, three forms of one update,
 * what a measurement that is absent, worthless or an outlier does, and a covariance that stays one.
 */
#include <math.h>
#include <stdlib.h>

#include "nn/kalman.h"
#include "support.h"

enum { B = 2, T = 4, N = 4, MAX_K = 3, LONG_RUN = 100000, SHORT_RUN = 1000 };

/* A random system with two sensors; the filter's own copies of it. */
typedef struct world {
    mmf_real transition[N * N], process[N * N], state[B * N], covariance[B * N * N];
    mmf_real z[2][B * T * MAX_K], h[2][MAX_K * N], r[2][B * T * MAX_K * MAX_K], mask[2][B * T];
    int64_t k[2];
} world;

static void draw(mmf_rng *rng, mmf_real *out, int64_t n, double size)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (mmf_real)(size * mmf_rng_normal(rng));
}

/* G G' + 0.5 I */
static void definite(mmf_rng *rng, mmf_real *out, int64_t n)
{
    mmf_real g[N * N];
    draw(rng, g, n * n, 0.7);
    for (int64_t i = 0; i < n * n; i++) {
        double sum = i / n == i % n ? 0.5 : 0;
        for (int64_t p = 0; p < n; p++)
            sum += (double)g[i / n * n + p] * (double)g[i % n * n + p];
        out[i] = (mmf_real)sum;
    }
}

static world random_world(void)
{
    world w = {.k = {2, 3}};
    mmf_rng rng = mmf_rng_make(4, 0);
    draw(&rng, w.transition, N * N, 0.4);
    definite(&rng, w.process, N);
    draw(&rng, w.state, B * N, 1);
    for (int64_t b = 0; b < B; b++)
        definite(&rng, w.covariance + b * N * N, N);
    for (int s = 0; s < 2; s++) {
        draw(&rng, w.z[s], B * T * w.k[s], 1);
        draw(&rng, w.h[s], w.k[s] * N, 1);
        for (int64_t i = 0; i < B * T; i++) {
            definite(&rng, w.r[s] + i * w.k[s] * w.k[s], w.k[s]);
            w.mask[s][i] = (i + s) % 3 == 1 ? 0 : 1;
        }
    }
    return w;
}

static mmf_kalman filter_of(mmf_tape *tape, world *w, mmf_kalman_sensor *sensors)
{
    for (int s = 0; s < 2; s++)
        sensors[s] = (mmf_kalman_sensor){
            .z = mmf_input(tape, w->z[s], 3, (int64_t[]){B, T, w->k[s]}),
            .observation = mmf_input(tape, w->h[s], 2, (int64_t[]){w->k[s], N}),
            .noise = mmf_input(tape, w->r[s], 4, (int64_t[]){B, T, w->k[s], w->k[s]}),
            .mask = mmf_input(tape, w->mask[s], 2, (int64_t[]){B, T})};
    return (mmf_kalman){.transition = mmf_input(tape, w->transition, 2, (int64_t[]){N, N}),
                        .process_noise = mmf_input(tape, w->process, 2, (int64_t[]){N, N}),
                        .state = mmf_input(tape, w->state, 2, (int64_t[]){B, N}),
                        .covariance = mmf_input(tape, w->covariance, 3, (int64_t[]){B, N, N}),
                        .sensors = sensors,
                        .n_sensors = 2,
                        .joseph = true};
}

/* States and covariances of a run. */
typedef struct outcome {
    double state[B * T * N], covariance[B * T * N * N], prediction[B * T * N], nis[2][B * T];
} outcome;

static void copy(double *out, const mmf_tensor *x, int64_t n)
{
    assert_non_null(x);
    assert_int_equal(x->count, n);
    for (int64_t i = 0; i < n; i++)
        out[i] = (double)x->data[i];
}

static outcome outcome_of(mmf_ctx *ctx, mmf_tape *tape, mmf_kalman *f)
{
    outcome o = {0};
    const mmf_kalman_result r = mmf_kalman_run(tape, f);
    test_ok(ctx, mmf_tape_status(tape));
    copy(o.state, r.state, B * T * N);
    copy(o.covariance, r.covariance, B * T * N * N);
    copy(o.prediction, r.prediction, B * T * N);
    for (int s = 0; s < 2; s++)
        copy(o.nis[s], f->sensors[s].nis, B * T);
    return o;
}

typedef void change_fn(mmf_kalman *f);

static outcome with(world *w, change_fn *change)
{
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_kalman_sensor sensors[2];
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_kalman f = filter_of(tape, w, sensors);
    if (change)
        change(&f);
    const outcome o = outcome_of(ctx, tape, &f);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
    return o;
}

static void assert_near(const double *a, const double *b, int64_t n, double tolerance)
{
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs(a[i] - b[i]) <= tolerance * fmax(1, fabs(b[i]))))
            fail_msg("element %lld: %.9g and %.9g", (long long)i, a[i], b[i]);
    }
}

static void stacked(mmf_kalman *f)
{
    f->update = MMF_KALMAN_STACKED;
}

static void information(mmf_kalman *f)
{
    f->update = MMF_KALMAN_INFORMATION;
}

static void simple(mmf_kalman *f)
{
    f->joseph = false;
}

static void three_forms_of_an_update_agree(void **state)
{
    (void)state;
    world w = random_world();
    const outcome a = with(&w, NULL);
    static change_fn *const forms[] = {stacked, information, simple};
    for (int i = 0; i < 3; i++) {
        const outcome b = with(&w, forms[i]);
        assert_near(b.state, a.state, B * T * N, 1e-4);
        assert_near(b.covariance, a.covariance, B * T * N * N, 1e-4);
    }
}

/* Whatever stands where nothing was measured; and a tick that is left out for all. */
static const mmf_real not_third[T] = {1, 1, 0, 1};

static void leave_out_third(mmf_kalman *f)
{
    f->sensors[0].measures = not_third;
}

static void an_absent_measurement_is_a_term_left_out(void **state)
{
    (void)state;
    world w = random_world();
    for (int64_t b = 0; b < B; b++)
        w.mask[0][b * T + 2] = 0;
    const outcome a = with(&w, NULL), b = with(&w, leave_out_third);
    assert_near(b.state, a.state, B * T * N, 1e-6);
    for (int64_t i = 0; i < B * T; i++) {
        if (!(w.mask[0][i] > 0)) {
            w.z[0][i * w.k[0]] = 1000;
            assert_true(fabs(a.nis[0][i]) < 1e-12);
        }
    }
    for (int form = 0; form < 2; form++) {
        const outcome c = with(&w, form == 0 ? NULL : information);
        assert_near(c.state, a.state, B * T * N, 1e-4);
    }
}

static void worthless_sensors_leave_the_prediction(void **state)
{
    (void)state;
    world w = random_world();
    for (int s = 0; s < 2; s++) {
        for (int64_t i = 0; i < B * T * w.k[s] * w.k[s]; i++)
            w.r[s][i] *= (mmf_real)1e9;
    }
    const outcome o = with(&w, NULL);
    assert_near(o.state, o.prediction, B * T * N, 1e-5);
}

/* ---- One dimension ----------------------------------------------------------------------- */

/* A state of one number, `n` sensors that measure `z` with variance 1, one tick. */
static void one_number(double p, double q, size_t n, double z, double gate, double *x, double *var)
{
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_kalman_sensor sensors[2];
    const int64_t one[] = {1, 1, 1};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    for (size_t s = 0; s < n; s++)
        sensors[s] = (mmf_kalman_sensor){.z = mmf_full(tape, 3, one, z),
                                         .observation = mmf_full(tape, 2, one, 1),
                                         .noise = mmf_full(tape, 2, one, 1)};
    mmf_kalman f = {.transition = mmf_full(tape, 2, one, 1),
                    .process_noise = mmf_full(tape, 2, one, q),
                    .state = mmf_full(tape, 2, one, 0),
                    .covariance = mmf_full(tape, 3, one, p),
                    .sensors = sensors,
                    .n_sensors = n,
                    .joseph = true,
                    .gate = gate};
    const mmf_kalman_result r = mmf_kalman_run(tape, &f);
    test_ok(ctx, mmf_tape_status(tape));
    *x = (double)r.state->data[0];
    *var = (double)r.covariance->data[0];
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

static void one_sensor_by_hand(void **state)
{
    (void)state;
    double x = 0, p = 0;
    one_number(1, 0.5, 1, 2, 0, &x, &p); /* P = 1.5, K = 1.5 / 2.5 */
    assert_true(fabs(x - 1.2) < 1e-6 && fabs(p - 0.6) < 1e-6);
}

static void two_equal_sensors_halve_the_variance(void **state)
{
    (void)state;
    double x = 0, one = 0, two = 0;
    one_number(1e4, 0, 1, 2, 0, &x, &one);
    one_number(1e4, 0, 2, 2, 0, &x, &two);
    assert_true(fabs(two / one - 0.5) < 1e-3);
}

static void a_gate_leaves_outliers_out(void **state)
{
    (void)state;
    double x = 0, p = 0, open = 0;
    /* S = 2: with z = 3 the distance is 4.5, with z = 4 it is 8; the limit is 6.63. */
    one_number(1, 0, 1, 3, 0.99, &x, &p);
    one_number(1, 0, 1, 3, 0, &open, &p);
    assert_true(fabs(x - open) < 1e-6 && fabs(x - 1.5) < 1e-6);
    one_number(1, 0, 1, 4, 0.99, &x, &p);
    assert_true(fabs(x) < 1e-6 && fabs(p - 1) < 1e-6);
}

static void quantiles_are_those_of_tables(void **state)
{
    (void)state;
    assert_true(fabs(mmf_chi_squared_quantile(1, 0.99) - 6.634897) < 1e-5);
    assert_true(fabs(mmf_chi_squared_quantile(2, 0.99) - 9.210340) < 1e-5);
    assert_true(fabs(mmf_chi_squared_quantile(3, 0.95) - 7.814728) < 1e-5);
    assert_true(fabs(mmf_chi_squared_quantile(30, 0.5) - 29.336032) < 1e-5);
}

/* ---- A long run -------------------------------------------------------------------------- */

/* One tick of a point with a constant velocity, seen by a good and a bad sensor. */
static void step(mmf_ctx *ctx, mmf_tape *tape, mmf_rng *rng, mmf_real *x, mmf_real *p)
{
    static const double dt = 0.1;
    mmf_real f[N * N] = {0}, q[N * N] = {0}, h[2 * N] = {0}, z[2][2], r[2][4] = {{0}};
    mmf_kalman_sensor sensors[2];
    for (int i = 0; i < N; i++) {
        f[i * N + i] = 1;
        q[i * N + i] = (mmf_real)1e-5;
    }
    f[2] = f[N + 3] = (mmf_real)dt;
    h[0] = h[N + 1] = 1;
    mmf_tape_begin(tape, &(mmf_pass){0});
    for (int s = 0; s < 2; s++) {
        draw(rng, z[s], 2, 1);
        r[s][0] = r[s][3] = (mmf_real)(s == 0 ? 1e-4 : 10);
        sensors[s] = (mmf_kalman_sensor){.z = mmf_input(tape, z[s], 3, (int64_t[]){1, 1, 2}),
                                         .observation = mmf_input(tape, h, 2, (int64_t[]){2, N}),
                                         .noise = mmf_input(tape, r[s], 2, (int64_t[]){2, 2})};
    }
    mmf_kalman filter = {.transition = mmf_input(tape, f, 2, (int64_t[]){N, N}),
                         .process_noise = mmf_input(tape, q, 2, (int64_t[]){N, N}),
                         .state = mmf_input(tape, x, 2, (int64_t[]){1, N}),
                         .covariance = mmf_input(tape, p, 3, (int64_t[]){1, N, N}),
                         .sensors = sensors,
                         .n_sensors = 2,
                         .joseph = true};
    const mmf_kalman_result result = mmf_kalman_run(tape, &filter);
    test_ok(ctx, mmf_tape_status(tape));
    memcpy(x, result.state->data, N * sizeof *x);
    memcpy(p, result.covariance->data, N * N * sizeof *p);
}

static void a_covariance_stays_symmetric_and_definite(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_rng rng = mmf_rng_make(8, 0);
    mmf_real x[N] = {0}, p[N * N] = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (int i = 0; i < N; i++)
        p[i * N + i] = 100;
    for (int t = 0; t < (TEST_SAMPLE ? SHORT_RUN : LONG_RUN); t++)
        step(ctx, tape, &rng, x, p);
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++)
            assert_true(fabs((double)(p[i * N + j] - p[j * N + i])) <= 0);
    }
    mmf_tape_begin(tape, &(mmf_pass){0});
    const mmf_tensor *const log_det =
        mmf_log_determinant(tape, mmf_input(tape, p, 2, (int64_t[]){N, N}));
    test_ok(ctx, mmf_tape_status(tape));
    assert_true(isfinite(log_det->data[0])); /* NaN if it were not definite */
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_sensor_by_hand),
        cmocka_unit_test(two_equal_sensors_halve_the_variance),
        cmocka_unit_test(three_forms_of_an_update_agree),
        cmocka_unit_test(an_absent_measurement_is_a_term_left_out),
        cmocka_unit_test(worthless_sensors_leave_the_prediction),
        cmocka_unit_test(a_gate_leaves_outliers_out),
        cmocka_unit_test(quantiles_are_those_of_tables),
        cmocka_unit_test(a_covariance_stays_symmetric_and_definite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
