/*
 * test_cancellation.c: gradients that are small differences of large numbers keep their digits:
 * what rounding leaves of the difference must not come out as a gradient.
 */
#include <math.h>

#include "mmfuse/tensor.h"
#include "support.h"

enum { WIDTH = 12, ROWS = 20 };

/* A softmax of which one element is nearly 1, and a large gradient from above. */
static void saturated_softmax_has_its_gradient(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_rng rng = mmf_rng_make(1, 0);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (int row = 0; row < ROWS; row++) {
        mmf_real x[WIDTH], dy[WIDTH];
        double y[WIDTH], sum = 0, mean = 0, largest = 0;
        for (int i = 0; i < WIDTH; i++) {
            x[i] = (mmf_real)mmf_rng_normal(&rng) + (i == row % WIDTH ? 12 : 0);
            dy[i] = 1000 + (mmf_real)mmf_rng_normal(&rng);
            sum += y[i] = exp((double)x[i]);
        }
        for (int i = 0; i < WIDTH; i++)
            mean += y[i] / sum * (double)dy[i];
        mmf_tape_begin(tape, &(mmf_pass){.record = true});
        mmf_tensor *const in = mmf_variable(tape, x, 2, (int64_t[]){1, WIDTH});
        mmf_tensor *const out = mmf_softmax(tape, in, NULL, MMF_EMPTY_ZERO);
        test_ok(ctx, mmf_tape_backward_from(tape, out, dy));
        for (int i = 0; i < WIDTH; i++)
            largest = fmax(largest, fabs(y[i] / sum * ((double)dy[i] - mean)));
        for (int i = 0; i < WIDTH; i++) {
            const double wanted = y[i] / sum * ((double)dy[i] - mean);
            /* dy itself is rounded to 6e-5; taken as it is, only the mean of y could lose more. */
            if (!(fabs((double)in->grad[i] - wanted) < 1e-4 * largest))
                fail_msg("row %d: gradient %g, expected %g, of %g", row, (double)in->grad[i],
                         wanted, largest);
        }
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

typedef mmf_tensor *normalising(mmf_tape *tape, mmf_tensor *x);

static mmf_tensor *by_length(mmf_tape *tape, mmf_tensor *x)
{
    return mmf_l2_normalise(tape, x, 1e-12);
}

static mmf_tensor *by_layer(mmf_tape *tape, mmf_tensor *x)
{
    return mmf_layer_norm(tape, x, mmf_full(tape, 1, (int64_t[]){1}, 0.7), NULL, 1e-12);
}

/* One element has a sign or nothing: its gradient is 0 to the last bit. */
static void one_element_has_no_gradient(void **state)
{
    (void)state;
    static normalising *const norms[] = {by_length, by_layer};
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_rng rng = mmf_rng_make(2, 0);
    mmf_real x[ROWS], dy[ROWS];
    for (int i = 0; i < ROWS; i++) {
        x[i] = (mmf_real)mmf_rng_normal(&rng);
        dy[i] = (mmf_real)mmf_rng_normal(&rng);
    }
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (int n = 0; n < 2; n++) {
        mmf_tape_begin(tape, &(mmf_pass){.record = true});
        mmf_tensor *const in = mmf_variable(tape, x, 2, (int64_t[]){ROWS, 1});
        test_ok(ctx, mmf_tape_backward_from(tape, norms[n](tape, in), dy));
        for (int i = 0; i < ROWS; i++)
            assert_true(in->grad[i] == 0);
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* Shorter than eps, a row is divided by eps, and so is its gradient. */
static void short_rows_are_divided_by_eps(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_real x[] = {0, 0, 3e-3F, 4e-3F, 3, 4}, dy[] = {1, 2, 1, 2, 1, 2};
    const double y[] = {0, 0, 0.3, 0.4, 0.6, 0.8}, dx[] = {100, 200, 100, 200, -0.064, 0.048};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = true});
    mmf_tensor *const in = mmf_variable(tape, x, 2, (int64_t[]){3, 2});
    mmf_tensor *const out = mmf_l2_normalise(tape, in, 1e-2);
    test_ok(ctx, mmf_tape_backward_from(tape, out, dy));
    for (int i = 0; i < 6; i++) {
        assert_true(fabs((double)out->data[i] - y[i]) < 1e-6);
        assert_true(fabs((double)in->grad[i] - dx[i]) < 1e-5 * fmax(1, fabs(dx[i])));
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* The derivative by a divisor whose square no float holds. */
static void divisors_far_from_one_have_gradients(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_real a[] = {2e25F, 3e-25F}, b[] = {1e25F, 1e-25F}, dy[] = {1, 1};
    const double wanted[] = {-2e-25, -3e25};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = true});
    mmf_tensor *const divisor = mmf_variable(tape, b, 1, (int64_t[]){2});
    mmf_tensor *const y = mmf_div(tape, mmf_input(tape, a, 1, (int64_t[]){2}), divisor);
    test_ok(ctx, mmf_tape_backward_from(tape, y, dy));
    for (int i = 0; i < 2; i++)
        assert_true(fabs((double)divisor->grad[i] / wanted[i] - 1) < 1e-5);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saturated_softmax_has_its_gradient),
        cmocka_unit_test(one_element_has_no_gradient),
        cmocka_unit_test(short_rows_are_divided_by_eps),
        cmocka_unit_test(divisors_far_from_one_have_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
