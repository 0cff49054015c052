/* test_tape_flops.c: what mmf_tape_flops counts, by hand. */
#include "mmfuse/tensor.h"
#include "support.h"

static mmf_real zeros[256];

static mmf_tensor *variable(mmf_tape *tape, int n_dims, const int64_t *shape)
{
    return mmf_variable(tape, zeros, n_dims, shape);
}

static void products_are_counted_forward_and_backward(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = true, .training = true});
    mmf_tensor *const x = variable(tape, 2, (const int64_t[]){2, 3});
    mmf_tensor *const w = variable(tape, 2, (const int64_t[]){4, 3});
    mmf_tensor *const y = mmf_linear(tape, x, w, NULL, MMF_ACT_RELU);
    const double forward = 2 * 2 * 3 * 4;
    assert_true(mmf_tape_flops(tape) == forward);
    test_ok(ctx, mmf_tape_backward_from(tape, y, zeros));
    assert_true(mmf_tape_flops(tape) == 3 * forward); /* both gradients are such products */
    mmf_tape_begin(tape, &(mmf_pass){0});
    assert_true(mmf_tape_flops(tape) == 0);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

static void batches_windows_and_steps_are_counted(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_matmul(tape, variable(tape, 3, (const int64_t[]){2, 3, 4}),
               variable(tape, 3, (const int64_t[]){2, 4, 5}), false, false);
    double wanted = 2 * 2 * 3 * 4 * 5;
    assert_true(mmf_tape_flops(tape) == wanted);
    /* 2 samples, 3 heads of 2 columns, 4 queries, 5 keys: scores, and what they mix */
    mmf_tensor *const q = variable(tape, 3, (const int64_t[]){2, 4, 6});
    mmf_tensor *const k = variable(tape, 3, (const int64_t[]){2, 5, 6});
    mmf_head_mix(tape, mmf_head_scores(tape, q, k, 3, 1), k);
    wanted += 2 * (2 * 2 * 3 * 2 * 4 * 5);
    assert_true(mmf_tape_flops(tape) == wanted);
    /* 2 x 2 places of the window, 1 x 2 x 2 weights each, 2 outputs */
    mmf_conv2d(tape, variable(tape, 4, (const int64_t[]){1, 1, 3, 3}),
               variable(tape, 4, (const int64_t[]){2, 1, 2, 2}), NULL,
               &(mmf_window){.stride = {1, 1}});
    wanted += 2 * 4 * 4 * 2;
    assert_true(mmf_tape_flops(tape) == wanted);
    /* 3 steps of 2 rows: 5 inputs and 2 units into 4 x 2 gates */
    const mmf_rnn_weights lstm = {.weight_ih = variable(tape, 2, (const int64_t[]){8, 5}),
                                  .weight_hh = variable(tape, 2, (const int64_t[]){8, 2})};
    mmf_lstm(tape, variable(tape, 3, (const int64_t[]){2, 3, 5}), &lstm, NULL, false);
    wanted += 2 * 6 * 8 * (5 + 2);
    assert_true(mmf_tape_flops(tape) == wanted);
    test_ok(ctx, mmf_tape_status(tape));
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_counted_forward_and_backward),
        cmocka_unit_test(batches_windows_and_steps_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
