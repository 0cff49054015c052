/*
 * test_pairing.c: canonical correlations and hinge losses: values known in closed form, what must
 * not change them, and rows that are left out.
 */
#include <math.h>
#include <stdlib.h>

#include "nn/hinge.h"
#include "support.h"

enum { ROWS = 60, WIDTH = 3 };

static void draw(mmf_real *out, int64_t n, uint64_t seed)
{
    mmf_rng rng = mmf_rng_make(seed, 0);
    for (int64_t i = 0; i < n; i++)
        out[i] = (mmf_real)mmf_rng_normal(&rng);
}

/* y = x R + shift for a fixed R that can be inverted. */
static void transform(mmf_real *y, const mmf_real *x, int64_t rows, mmf_real shift)
{
    static const mmf_real r[WIDTH][WIDTH] = {{2, 1, 0}, {0, 1, -1}, {1, 0, 3}};
    for (int64_t i = 0; i < rows; i++) {
        for (int j = 0; j < WIDTH; j++) {
            y[i * WIDTH + j] = shift;
            for (int k = 0; k < WIDTH; k++)
                y[i * WIDTH + j] += x[i * WIDTH + k] * r[k][j];
        }
    }
}

static mmf_tape *begin(mmf_ctx *ctx)
{
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    return tape;
}

static mmf_tensor *matrix(mmf_tape *tape, mmf_real *values, int64_t rows, int64_t columns)
{
    return mmf_input(tape, values, 2, (int64_t[]){rows, columns});
}

/* ---- Correlations ------------------------------------------------------------------------ */

static void a_transformed_copy_correlates_fully(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *const tape = begin(ctx);
    mmf_real x[ROWS * WIDTH], y[ROWS * WIDTH];
    draw(x, ROWS * WIDTH, 1);
    transform(y, x, ROWS, 4);
    const mmf_correlation c = mmf_canonical_correlation(
        tape, matrix(tape, x, ROWS, WIDTH), matrix(tape, y, ROWS, WIDTH), NULL, WIDTH, 1e-3);
    test_ok(ctx, mmf_tape_status(tape));
    double sum = 0;
    for (int i = 0; i < WIDTH; i++)
        sum += (double)c.correlation->data[i];
    assert_true(sum < WIDTH && sum > WIDTH - 0.01); /* r takes a little off */
    const mmf_correlation exact = mmf_canonical_correlation(
        tape, matrix(tape, x, ROWS, WIDTH), matrix(tape, y, ROWS, WIDTH), NULL, WIDTH, 0);
    for (int i = 0; i < WIDTH; i++)
        assert_true(fabs((double)exact.correlation->data[i] - 1) < 1e-6);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

static void affine_maps_of_a_view_change_nothing(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *const tape = begin(ctx);
    mmf_real x[ROWS * WIDTH], y[ROWS * 2], z[ROWS * WIDTH];
    draw(x, ROWS * WIDTH, 2);
    draw(y, ROWS * 2, 3);
    for (int i = 0; i < ROWS; i++)
        y[2 * i] += x[WIDTH * i];
    transform(z, x, ROWS, -7);
    mmf_tensor *const other = matrix(tape, y, ROWS, 2);
    const mmf_correlation a =
        mmf_canonical_correlation(tape, matrix(tape, x, ROWS, WIDTH), other, NULL, 2, 0);
    const mmf_correlation b =
        mmf_canonical_correlation(tape, matrix(tape, z, ROWS, WIDTH), other, NULL, 2, 0);
    const mmf_correlation turned =
        mmf_canonical_correlation(tape, other, matrix(tape, x, ROWS, WIDTH), NULL, 2, 0);
    test_ok(ctx, mmf_tape_status(tape));
    for (int i = 0; i < 2; i++) {
        const double wanted = (double)a.correlation->data[i];
        assert_true(wanted > 0 && wanted < 1);
        assert_true(fabs((double)b.correlation->data[i] - wanted) < 1e-5);
        assert_true(fabs((double)turned.correlation->data[i] - wanted) < 1e-5);
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* The projections whiten: variates of one view are uncorrelated, those of a pair correlate by d. */
static void variates_have_unit_covariance(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *const tape = begin(ctx);
    mmf_real x[ROWS * WIDTH], y[ROWS * WIDTH];
    draw(x, ROWS * WIDTH, 4);
    draw(y, ROWS * WIDTH, 5);
    mmf_tensor *const a = matrix(tape, x, ROWS, WIDTH), *const b = matrix(tape, y, ROWS, WIDTH);
    const mmf_correlation c = mmf_canonical_correlation(tape, a, b, NULL, WIDTH, 0);
    mmf_tensor *const p =
        mmf_matmul(tape, mmf_sub(tape, a, mmf_mean(tape, a, 0)), c.x_projection, false, false);
    mmf_tensor *const q =
        mmf_matmul(tape, mmf_sub(tape, b, mmf_mean(tape, b, 0)), c.y_projection, false, false);
    const mmf_tensor *const own = mmf_matmul(tape, p, p, true, false);
    const mmf_tensor *const cross = mmf_matmul(tape, p, q, true, false);
    test_ok(ctx, mmf_tape_status(tape));
    for (int i = 0; i < WIDTH * WIDTH; i++) {
        const bool diagonal = i % (WIDTH + 1) == 0;
        const double d = diagonal ? (double)c.correlation->data[i / WIDTH] : 0;
        assert_true(fabs((double)own->data[i] / (ROWS - 1) - diagonal) < 1e-4);
        assert_true(fabs((double)cross->data[i] / (ROWS - 1) - d) < 1e-4);
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

static void rows_that_are_left_out_do_not_count(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *const tape = begin(ctx);
    mmf_real x[ROWS * WIDTH], y[ROWS * WIDTH], both[ROWS];
    draw(x, ROWS * WIDTH, 6);
    draw(y, ROWS * WIDTH, 7);
    const int64_t kept = ROWS - 20, rows = ROWS;
    for (int64_t i = 0; i < ROWS; i++)
        both[i] = i < kept;
    const mmf_correlation some =
        mmf_canonical_correlation(tape, matrix(tape, x, ROWS, WIDTH), matrix(tape, y, ROWS, WIDTH),
                                  mmf_input(tape, both, 1, &rows), WIDTH, 1e-3);
    const mmf_correlation fewer = mmf_canonical_correlation(
        tape, matrix(tape, x, kept, WIDTH), matrix(tape, y, kept, WIDTH), NULL, WIDTH, 1e-3);
    assert_memory_equal(some.correlation->data, fewer.correlation->data, WIDTH * sizeof(mmf_real));
    memset(both, 0, sizeof both);
    const mmf_correlation none =
        mmf_canonical_correlation(tape, matrix(tape, x, ROWS, WIDTH), matrix(tape, y, ROWS, WIDTH),
                                  mmf_input(tape, both, 1, &rows), WIDTH, 1e-3);
    test_ok(ctx, mmf_tape_status(tape));
    for (int i = 0; i < WIDTH; i++)
        assert_true(none.correlation->data[i] == 0);
    assert_null(mmf_canonical_correlation(tape, matrix(tape, x, ROWS, WIDTH),
                                          matrix(tape, y, ROWS, WIDTH), NULL, WIDTH + 1, 0)
                    .correlation);
    test_fails(ctx, mmf_tape_status(tape), MMF_ARG, "4 correlations");
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* ---- Hinges ------------------------------------------------------------------------------ */

static void hinges_have_their_limits(void **state)
{
    (void)state;
    enum { N = 4 };
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *const tape = begin(ctx);
    const mmf_hinge apart = mmf_hinge_losses(tape, mmf_identity(tape, N), NULL, 0.2);
    assert_true(apart.max->data[0] == 0 && apart.sum->data[0] == 0);
    mmf_tensor *const same = mmf_full(tape, 2, (int64_t[]){N, N}, 0.7);
    const mmf_hinge collapsed = mmf_hinge_losses(tape, same, NULL, 0.2);
    assert_true(fabs((double)collapsed.max->data[0] - 1.6) < 1e-5);
    assert_true(fabs((double)collapsed.sum->data[0] - 4.8) < 1e-5);
    mmf_real s[N * N];
    draw(s, N * N, 8);
    const mmf_hinge two = mmf_hinge_losses(tape, matrix(tape, s, 2, 2), NULL, 0.2);
    assert_true(fabs((double)two.max->data[0] - (double)two.sum->data[0]) < 1e-6);
    mmf_tensor *const drawn = matrix(tape, s, N, N);
    const mmf_hinge rows = mmf_hinge_losses(tape, drawn, NULL, 0.2);
    const mmf_hinge turned = mmf_hinge_losses(tape, mmf_transpose(tape, drawn, 0, 1), NULL, 0.2);
    assert_true(fabs((double)rows.max->data[0] - (double)turned.max->data[0]) < 1e-5);
    assert_true(fabs((double)rows.sum->data[0] - (double)turned.sum->data[0]) < 1e-5);
    assert_true((double)rows.max->data[0] <= (double)rows.sum->data[0]);
    test_ok(ctx, mmf_tape_status(tape));
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

static void absent_rows_are_no_negatives(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *const tape = begin(ctx);
    mmf_real s[9], fewer[4] = {0}, both[3] = {1, 0, 1};
    draw(s, 9, 9);
    for (int i = 0; i < 4; i++)
        fewer[i] = s[(i / 2 ? 6 : 0) + (i % 2 ? 2 : 0)];
    const mmf_hinge masked =
        mmf_hinge_losses(tape, matrix(tape, s, 3, 3), matrix(tape, both, 3, 1), 0.5);
    const mmf_hinge small = mmf_hinge_losses(tape, matrix(tape, fewer, 2, 2), NULL, 0.5);
    assert_true(fabs((double)masked.max->data[0] - (double)small.max->data[0]) < 1e-6);
    assert_true(fabs((double)masked.sum->data[0] - (double)small.sum->data[0]) < 1e-6);
    test_ok(ctx, mmf_tape_status(tape));
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* Zero where b is below a in every coordinate, else the length of what is above. */
static void order_similarity_looks_at_what_is_above(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *const tape = begin(ctx);
    mmf_real a[] = {1, 2, 0, 0}, b[] = {1, 1, 4, 5};
    const mmf_tensor *const s =
        mmf_order_similarity(tape, matrix(tape, a, 2, 2), matrix(tape, b, 2, 2));
    test_ok(ctx, mmf_tape_status(tape));
    const double wanted[] = {0, -sqrt(18), -sqrt(2), -sqrt(41)};
    for (int i = 0; i < 4; i++)
        assert_true(fabs((double)s->data[i] - wanted[i]) < 1e-5);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_transformed_copy_correlates_fully),
        cmocka_unit_test(affine_maps_of_a_view_change_nothing),
        cmocka_unit_test(variates_have_unit_covariance),
        cmocka_unit_test(rows_that_are_left_out_do_not_count),
        cmocka_unit_test(hinges_have_their_limits),
        cmocka_unit_test(absent_rows_are_no_negatives),
        cmocka_unit_test(order_similarity_looks_at_what_is_above),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
