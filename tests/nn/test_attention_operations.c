/*
 * test_attention_operations.c: operations that attention is made of: tables, masks, rows without a
 * key, MCAN's norm, by published numbers and definitions.
 */
#include <math.h>
#include <stdlib.h>

#include "mmfuse/model.h"
#include "support.h"

static void tables_and_masks_hold_what_they_say(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    const mmf_tensor *const table = mmf_sinusoid(tape, 2, 5, 1);
    const double wanted[] = {sin(1.0), sin(1e-4), cos(1.0), cos(1e-4), 0};
    for (int64_t i = 0; i < 5; i++)
        assert_true(fabs((double)table->data[i] - wanted[i]) < 1e-6);
    assert_true(fabs((double)table->data[5] - sin(2.0)) < 1e-6);
    const mmf_tensor *const mask = mmf_causal_mask(tape, 2, 4, 2);
    assert_memory_equal(mask->data, ((mmf_real[]){1, 1, 1, 0, 1, 1, 1, 1}), 8 * sizeof(mmf_real));
    int64_t tokens[] = {3, 0, 1, 0};
    const mmf_tensor *const words =
        mmf_token_mask(tape, mmf_input_ints(tape, tokens, 2, (int64_t[]){2, 2}), 0);
    assert_memory_equal(words->data, ((mmf_real[]){1, 0, 1, 0}), 4 * sizeof(mmf_real));
    mmf_real scores[] = {1, 5, 5, 2, 7, 0, 0, 0};
    const mmf_tensor *const top =
        mmf_top_rows(tape, mmf_input(tape, scores, 2, (int64_t[]){2, 4}), 3);
    assert_memory_equal(top->ints, ((int64_t[]){1, 2, 3, 4, 5, 6}), 6 * sizeof(int64_t));
    test_ok(ctx, mmf_tape_status(tape));
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* A row without a key: nothing, all alike, or as if nothing were masked. */
static void a_row_without_keys_has_three_answers(void **state)
{
    (void)state;
    static const struct {
        mmf_empty_row rule;
        double wanted[3];
    } rows[] = {{MMF_EMPTY_ZERO, {0, 0, 0}},
                {MMF_EMPTY_UNIFORM, {1.0 / 3, 1.0 / 3, 1.0 / 3}},
                {MMF_EMPTY_SHIFTED, {0.09003057, 0.24472847, 0.66524096}}};
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_real scores[] = {1, 2, 3}, mask[] = {0, 0, 0};
    const int64_t shape[] = {1, 3};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    for (size_t i = 0; i < 3; i++) {
        const mmf_tensor *const a = mmf_softmax(tape, mmf_input(tape, scores, 2, shape),
                                                mmf_input(tape, mask, 2, shape), rows[i].rule);
        test_ok(ctx, mmf_tape_status(tape));
        for (int k = 0; k < 3; k++)
            assert_true(fabs((double)a->data[k] - rows[i].wanted[k]) < 1e-6);
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* A row of 1, 2, 3, 4, and a constant one, whose deviation has no gradient. */
static void deviation_norm_gives_the_published_numbers(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = true});
    mmf_real rows[] = {1, 2, 3, 4, 6, 6, 6, 6}, ones[] = {1, 1, 1, 1}, zeros[4] = {0};
    const int64_t width = 4;
    mmf_tensor *const x = mmf_variable(tape, rows, 2, (int64_t[]){2, 4});
    mmf_tensor *const y = mmf_deviation_norm(tape, x, mmf_input(tape, ones, 1, &width),
                                             mmf_input(tape, zeros, 1, &width), 1e-6);
    test_ok(ctx, mmf_tape_status(tape));
    static const double wanted[] = {-1.16189410, -0.38729803, 0.38729803, 1.16189410, 0, 0, 0, 0};
    for (int64_t i = 0; i < 8; i++)
        assert_true(fabs((double)y->data[i] - wanted[i]) < 1e-6);
    mmf_real cotangent[8] = {0, 0, 0, 0, 1, 0, 0, 0};
    test_ok(ctx, mmf_tape_backward_from(tape, y, cotangent));
    assert_true(fabs((double)x->grad[4] / 0.75e6 - 1) < 1e-5);
    assert_true(fabs((double)x->grad[5] / -0.25e6 - 1) < 1e-5);
    mmf_real one = 1;
    const int64_t single = 1;
    mmf_tensor *const narrow = mmf_input(tape, &one, 1, &single);
    assert_null(mmf_deviation_norm(tape, narrow, narrow, narrow, 1e-6));
    test_fails(ctx, mmf_tape_status(tape), MMF_SHAPE, "two features or more");
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* What the mean of equal numbers is rounded by is far larger than eps allows. */
static void a_constant_row_is_zero_though_its_mean_is_rounded(void **state)
{
    (void)state;
    enum { WIDTH = 100 };
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = true});
    mmf_real row[WIDTH], ones[WIDTH], cotangent[WIDTH] = {1};
    for (int i = 0; i < WIDTH; i++) {
        row[i] = (mmf_real)1000.1;
        ones[i] = 1;
    }
    const int64_t width = WIDTH, shape[] = {1, WIDTH};
    mmf_tensor *const x = mmf_variable(tape, row, 2, shape);
    mmf_tensor *const bias = mmf_full(tape, 1, &width, 0);
    mmf_tensor *const y = mmf_deviation_norm(tape, x, mmf_input(tape, ones, 1, &width), bias, 1e-6);
    test_ok(ctx, mmf_tape_backward_from(tape, y, cotangent));
    for (int i = 0; i < WIDTH; i++)
        assert_true(fabs((double)y->data[i]) < 1e-3);
    assert_true(fabs((double)x->grad[0] / (0.99 * 1e6) - 1) < 1e-3);
    assert_true(fabs((double)x->grad[1] / (-0.01 * 1e6) - 1) < 1e-3);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* Steps turn from one to the next: far ones must still be where sine and cosine have them. */
static void far_positions_are_exact(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    const int64_t n_steps = 20000, width = 8, half = 4, first = 7;
    const mmf_tensor *const table = mmf_sinusoid(tape, n_steps, width, first);
    test_ok(ctx, mmf_tape_status(tape));
    for (int64_t t = n_steps - 50; t < n_steps; t++) {
        for (int64_t k = 0; k < half; k++) {
            const double angle =
                (double)(first + t) * exp(-(double)k * log(10000) / (double)(half - 1));
            assert_true(fabs((double)table->data[t * width + k] - sin(angle)) < 1e-6);
            assert_true(fabs((double)table->data[t * width + half + k] - cos(angle)) < 1e-6);
        }
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* @return the largest difference between attention with and without its weights asked for, by the
 * three rules for rows without a key, and without a mask */
static double unlike_without_weights(int64_t n_heads, int64_t width, int64_t n_queries,
                                     int64_t n_keys, bool mask_of_queries)
{
    enum { B = 3 };
    static const mmf_empty_row rules[] = {MMF_EMPTY_ZERO, MMF_EMPTY_UNIFORM, MMF_EMPTY_SHIFTED};
    const int64_t d = n_heads * width, n_rows = mask_of_queries ? n_queries : 1;
    const int64_t sizes[] = {B * n_queries * d, B * n_keys * d, B * n_keys * d};
    mmf_real *inputs[3], *const mask = calloc((size_t)(B * n_rows * n_keys), sizeof *mask);
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_rng rng = mmf_rng_make(4, 4);
    double most = 0;
    for (int i = 0; i < 3; i++) {
        inputs[i] = calloc((size_t)sizes[i], sizeof **inputs);
        for (int64_t e = 0; e < sizes[i]; e++)
            inputs[i][e] = (mmf_real)mmf_rng_normal(&rng);
    }
    /* The first sample has no key, and of others not every query has one. */
    for (int64_t i = n_rows * n_keys; i < B * n_rows * n_keys; i++)
        mask[i] = i % 3 > 0 && i / n_keys % 5 > 0;
    mmf_ctx_set_threads(ctx, 2);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (int c = 0; c < 6; c++) {
        mmf_tape_begin(tape, &(mmf_pass){0});
        mmf_tensor *const q = mmf_input(tape, inputs[0], 3, (int64_t[]){B, n_queries, d});
        mmf_tensor *const k = mmf_input(tape, inputs[1], 3, (int64_t[]){B, n_keys, d});
        mmf_tensor *const v = mmf_input(tape, inputs[2], 3, (int64_t[]){B, n_keys, d});
        mmf_tensor *const keep = mmf_input(tape, mask, 4, (int64_t[]){B, 1, n_rows, n_keys});
        const mmf_heads heads = {
            .count = n_heads, .mask = c < 3 ? keep : NULL, .empty = rules[c % 3]};
        mmf_tensor *weights = NULL;
        const mmf_tensor *const seen = mmf_attend(tape, q, k, v, &heads, &weights);
        const mmf_tensor *const unseen = mmf_attend(tape, q, k, v, &heads, NULL);
        test_ok(ctx, mmf_tape_status(tape));
        for (int64_t i = 0; i < seen->count; i++)
            most = fmax(most, fabs((double)(seen->data[i] - unseen->data[i])));
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
    for (int i = 0; i < 3; i++)
        free(inputs[i]);
    free(mask);
    return most;
}

/* On every level of processor: the environment caps it. */
static void attention_without_weights_is_the_same(void **state)
{
    (void)state;
    for (mmf_cpu cpu = MMF_CPU_PORTABLE; cpu <= MMF_CPU_AVX512; cpu++) {
        assert_int_equal(setenv("MMFUSE_CPU", mmf_cpu_name(cpu), 1), 0);
        assert_true(unlike_without_weights(2, 80, 70, 65, false) == 0);
        assert_true(unlike_without_weights(4, 8, 70, 65, false) < 1e-6);
        assert_true(unlike_without_weights(4, 8, 70, 65, true) < 1e-6);
        assert_true(unlike_without_weights(3, 5, 16, 1, true) < 1e-6);
        assert_true(unlike_without_weights(1, 64, 3, 19, true) < 1e-6);
    }
    assert_int_equal(unsetenv("MMFUSE_CPU"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_and_masks_hold_what_they_say),
        cmocka_unit_test(a_row_without_keys_has_three_answers),
        cmocka_unit_test(deviation_norm_gives_the_published_numbers),
        cmocka_unit_test(a_constant_row_is_zero_though_its_mean_is_rounded),
        cmocka_unit_test(far_positions_are_exact),
        cmocka_unit_test(attention_without_weights_is_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
