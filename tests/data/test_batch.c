/* test_batch.c: normalisation by hand, and what a batch holds. */
#include "data_builder.h"

#include <math.h>

enum { N = 4 };

static const int32_t label[N] = {0, 1, 2, 1};

static void near(double a, double b)
{
    if (!(fabs(a - b) <= 1e-6 * (1 + fabs(b))))
        fail_msg("expected %.9g, got %.9g", b, a);
}

static mmf_normalisation fit_all(mmf_ctx *ctx, mmf_dataset *ds, int64_t n_rows)
{
    static const int64_t rows[] = {0, 1, 2, 3};
    mmf_normalisation norm;
    test_ok(ctx, mmf_normalisation_fit(ctx, &norm, ds, rows, n_rows));
    return norm;
}

static void test_vector_by_hand(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    /* Feature 0: 1, 3, 8 over the first three rows; feature 1 constant, at a value without an
     * exact mean in single precision; feature 2 far from zero. */
    static const float x[N * 3] = {1, .1f, 1e7f, 3, .1f, 1e7f + 2, 8, .1f, 1e7f + 4, 100, 5, 0};
    builder b = {.n = 0};
    put(&b, "vec", floats(x, N, 3, 0, 0));
    put(&b, "label", ints(label, N, 0));
    mmf_dataset *const ds = open_built(ctx, &b, NULL);
    mmf_normalisation norm = fit_all(ctx, ds, 3);
    assert_int_equal(norm.n_modalities, 1);
    assert_int_equal(norm.n_features[0], 3);
    near((double)norm.mean[0][0], 4);
    near((double)norm.scale[0][0], 1 / sqrt(26.0 / 3));
    assert_true(norm.mean[0][1] == .1f);
    assert_true(norm.scale[0][1] == 1);
    near((double)norm.mean[0][2], 1e7 + 2);
    near((double)norm.scale[0][2], 1 / sqrt(8.0 / 3));

    mmf_batch batch;
    test_ok(ctx, mmf_batch_create(ctx, &batch, ds, 3));
    test_ok(ctx, mmf_batch_fill(&batch, ds, &norm, (int64_t[]){3, 0}, 2));
    assert_int_equal(batch.n_rows, 2);
    assert_int_equal(batch.n_modalities, 1);
    near((double)batch.inputs[0].values[0], 96 / sqrt(26.0 / 3));
    near((double)batch.inputs[0].values[3], -3 / sqrt(26.0 / 3));
    assert_true(batch.inputs[0].values[4] == 0);
    near((double)batch.inputs[0].values[5], -2 / sqrt(8.0 / 3));
    assert_null(batch.inputs[0].tokens);
    assert_null(batch.inputs[0].length);
    assert_null(batch.inputs[0].present);
    assert_null(batch.target_values);
    assert_int_equal(batch.target_classes[0], 1);
    assert_int_equal(batch.target_classes[1], 0);
    test_ok(ctx, mmf_batch_fill(&batch, ds, NULL, (int64_t[]){2}, 1)); /* without normalisation */
    assert_true(batch.inputs[0].values[0] == 8);
    mmf_batch_clear(&batch);
    mmf_normalisation_clear(ctx, &norm);
    mmf_normalisation_clear(ctx, &norm);

    norm = fit_all(ctx, ds, 0); /* no rows: nothing is moved */
    assert_true(norm.mean[0][0] == 0 && norm.scale[0][0] == 1);
    mmf_normalisation_clear(ctx, &norm);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_sequence_with_lengths(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const float x[N * 3 * 2] = {1,  10, 2,  20, 99, 99,  /* length 2 */
                                       3,  30, 99, 99, 99, 99,  /* length 1 */
                                       99, 99, 99, 99, 99, 99,  /* length 0: absent */
                                       4,  40, 5,  50, 6,  60}; /* length 3, not present */
    static const int32_t length[N] = {2, 1, 0, 3};
    static const uint8_t present[N] = {1, 1, 1, 0};
    builder b = {.n = 0};
    put(&b, "seq", floats(x, N, 3, 2, 0));
    put(&b, "seq.length", ints(length, N, 0));
    put(&b, "seq.present", numbers(MMF_BOOL, present, N, 0, 0, 0));
    put(&b, "label", ints(label, N, 0));
    const mmf_dataset_options o = options_of(NULL, NULL, NULL, "regression");
    mmf_dataset *const ds = open_built(ctx, &b, &o);
    mmf_normalisation norm = fit_all(ctx, ds, N);
    assert_int_equal(norm.n_features[0], 2);
    near((double)norm.mean[0][0], 2);
    near((double)norm.mean[0][1], 20);
    near((double)norm.scale[0][0], 1 / sqrt(2.0 / 3));
    near((double)norm.scale[0][1], 0.1 / sqrt(2.0 / 3));

    mmf_batch batch;
    test_ok(ctx, mmf_batch_create(ctx, &batch, ds, N));
    memset(batch.inputs[0].values, 0x7f, N * 6 * sizeof(float)); /* what an earlier batch left */
    test_ok(ctx, mmf_batch_fill(&batch, ds, &norm, (int64_t[]){3, 2, 1, 0}, N));
    const double s = 1 / sqrt(2.0 / 3);
    const double wanted[N * 6] = {0, 0, 0, 0, 0, 0, 0,  0,  0, 0, 0, 0,
                                  s, s, 0, 0, 0, 0, -s, -s, 0, 0, 0, 0};
    for (int i = 0; i < N * 6; i++)
        near((double)batch.inputs[0].values[i], wanted[i]);
    static const int64_t lengths[N] = {1, 1, 1, 2};
    static const float there[N] = {0, 0, 1, 1};
    static const float target[N] = {1, 2, 1, 0};
    assert_memory_equal(batch.inputs[0].length, lengths, sizeof lengths);
    assert_memory_equal(batch.inputs[0].present, there, sizeof there);
    assert_memory_equal(batch.target_values, target, sizeof target);
    assert_null(batch.target_classes);
    mmf_batch_clear(&batch);
    mmf_normalisation_clear(ctx, &norm);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_shared_image(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    /* Two channels of two pixels; image 0 is used three times, image 1 once, image 2 never. */
    static const uint8_t pixels[3 * 2 * 1 * 2] = {0, 2, 10, 10, 4, 6, 20, 40, 255, 255, 255, 255};
    static const int32_t index[N] = {0, 1, 0, 0};
    builder b = {.n = 0};
    put(&b, "image", numbers(MMF_U8, pixels, 3, 2, 1, 2));
    put(&b, "image.index", ints(index, N, 0));
    put(&b, "label", ints(label, N, 0));
    mmf_dataset *ds = open_built(ctx, &b, NULL);
    assert_int_equal(mmf_dataset_count(ds), N);
    mmf_normalisation norm = fit_all(ctx, ds, N);
    assert_int_equal(norm.n_features[0], 2);
    near((double)norm.mean[0][0], 16.0 / 8); /* 0 2 0 2 0 2 4 6 */
    near((double)norm.scale[0][0], 1 / sqrt(64.0 / 8 - 4));
    near((double)norm.mean[0][1], 15); /* 10 six times, 20, 40 */
    near((double)norm.scale[0][1], 1 / sqrt(2600.0 / 8 - 225));
    mmf_batch batch;
    test_ok(ctx, mmf_batch_create(ctx, &batch, ds, 2));
    test_ok(ctx, mmf_batch_fill(&batch, ds, NULL, (int64_t[]){3, 1}, 2));
    static const float plain[] = {0, 2, 10, 10, 4, 6, 20, 40};
    assert_memory_equal(batch.inputs[0].values, plain, sizeof plain);
    test_ok(ctx, mmf_batch_fill(&batch, ds, &norm, (int64_t[]){1}, 1));
    near((double)batch.inputs[0].values[0], (4 - 2) / 2.0);
    near((double)batch.inputs[0].values[3], (40 - 15) / sqrt(2600.0 / 8 - 225));
    mmf_batch_clear(&batch);
    mmf_normalisation_clear(ctx, &norm);
    mmf_dataset_close(ds);

    /* Lengths belong to samples, so a shared sequence may be cut differently. */
    static const float steps[1 * 3 * 1] = {1, 5, 9};
    static const int32_t zero[N] = {0}, length[N] = {1, 2, 3, 1};
    builder c = {.n = 0};
    put(&c, "seq", floats(steps, 1, 3, 1, 0));
    put(&c, "seq.index", ints(zero, N, 0));
    put(&c, "seq.length", ints(length, N, 0));
    put(&c, "label", ints(label, N, 0));
    ds = open_built(ctx, &c, NULL);
    norm = fit_all(ctx, ds, N);
    near((double)norm.mean[0][0], (1 * 4 + 5 * 2 + 9) / 7.0);
    mmf_normalisation_clear(ctx, &norm);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_tokens(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const int16_t tokens[N * 3] = {5, 6, 7, 1, -1, -1, 9, 9, 9, 2, 3, -1};
    static const int32_t length[N] = {3, 1, 0, 2};
    builder b = {.n = 0};
    put(&b, "tok", numbers(MMF_I16, tokens, N, 3, 0, 0));
    put(&b, "tok.length", ints(length, N, 0));
    put(&b, "label", ints(label, N, 0));
    const mmf_dataset_options o = options_of(NULL, "tok=tokens", NULL, NULL);
    mmf_dataset *const ds = open_built(ctx, &b, &o);
    mmf_normalisation norm = fit_all(ctx, ds, N);
    assert_int_equal(norm.n_features[0], 0);
    assert_null(norm.mean[0]);
    mmf_batch batch;
    test_ok(ctx, mmf_batch_create(ctx, &batch, ds, N));
    assert_null(batch.inputs[0].values);
    test_ok(ctx, mmf_batch_fill(&batch, ds, &norm, (int64_t[]){0, 1, 2, 3}, N));
    static const int64_t wanted[N * 3] = {5, 6, 7, 1, 0, 0, 0, 0, 0, 2, 3, 0};
    static const int64_t lengths[N] = {3, 1, 1, 2};
    static const float there[N] = {1, 1, 0, 1};
    assert_memory_equal(batch.inputs[0].tokens, wanted, sizeof wanted);
    assert_memory_equal(batch.inputs[0].length, lengths, sizeof lengths);
    assert_memory_equal(batch.inputs[0].present, there, sizeof there);
    mmf_batch_clear(&batch);
    mmf_normalisation_clear(ctx, &norm);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_nonfinite_values(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const float x[N * 2] = {1, 2, 3, INFINITY, 5, 6, NAN, 8};
    static const int64_t rows[N] = {0, 1, 2, 3};
    builder b = {.n = 0};
    put(&b, "vec", floats(x, N, 2, 0, 0));
    put(&b, "label", ints(label, N, 0));
    mmf_dataset_options o = MMF_DATASET_OPTIONS_INIT;
    mmf_dataset *ds = open_built(ctx, &b, &o); /* not scanned on opening: found when used */
    mmf_normalisation norm;
    mmf_batch batch;
    test_fails(ctx, mmf_normalisation_fit(ctx, &norm, ds, rows, N), MMF_NUMERIC,
               "array \"vec\", row 1: value 1 of the row is inf");
    assert_null(norm.mean);
    test_ok(ctx, mmf_batch_create(ctx, &batch, ds, N));
    test_fails(ctx, mmf_batch_fill(&batch, ds, NULL, rows + 2, 2), MMF_NUMERIC,
               "array \"vec\", row 3: value 0");
    assert_int_equal(batch.n_rows, 0);
    mmf_batch_clear(&batch);
    mmf_dataset_close(ds);

    o.nonfinite = MMF_NONFINITE_ZERO;
    ds = open_built(ctx, &b, &o);
    norm = fit_all(ctx, ds, N);
    near((double)norm.mean[0][0], 9.0 / 4); /* 1 3 5 0 */
    near((double)norm.mean[0][1], 16.0 / 4);
    test_ok(ctx, mmf_batch_create(ctx, &batch, ds, N));
    test_ok(ctx, mmf_batch_fill(&batch, ds, NULL, rows, N));
    static const float zeroed[N * 2] = {1, 2, 3, 0, 5, 6, 0, 8};
    assert_memory_equal(batch.inputs[0].values, zeroed, sizeof zeroed);
    assert_null(batch.inputs[0].present);
    mmf_batch_clear(&batch);
    mmf_normalisation_clear(ctx, &norm);
    mmf_dataset_close(ds);

    o.nonfinite = MMF_NONFINITE_ABSENT;
    ds = open_built(ctx, &b, &o);
    norm = fit_all(ctx, ds, N);
    near((double)norm.mean[0][0], 3);
    near((double)norm.mean[0][1], 4);
    test_ok(ctx, mmf_batch_create(ctx, &batch, ds, N));
    test_ok(ctx, mmf_batch_fill(&batch, ds, NULL, rows, N));
    static const float gone[N * 2] = {1, 2, 0, 0, 5, 6, 0, 0}, there[N] = {1, 0, 1, 0};
    assert_memory_equal(batch.inputs[0].values, gone, sizeof gone);
    assert_memory_equal(batch.inputs[0].present, there, sizeof there);
    mmf_batch_clear(&batch);
    mmf_normalisation_clear(ctx, &norm);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

/* A number that double precision holds and single does not is as bad as an infinite one. */
static void test_double_beyond_single(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const double x[N] = {1, 2, 1e300, 4};
    builder b = {.n = 0};
    put(&b, "vec", numbers(MMF_F64, x, N, 1, 0, 0));
    put(&b, "label", ints(label, N, 0));
    mmf_dataset_options o = MMF_DATASET_OPTIONS_INIT;
    o.check_finite = true;
    must_fail(ctx, &b, &o, MMF_NUMERIC, "\"vec\"", "row 2", "inf");
    mmf_ctx_free(ctx);
}

static void test_columns_as_targets(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const float x[N];
    static const double scores[N * 2] = {.5, .5, 1, 0, .25, .75, 0, 1};
    builder b = {.n = 0};
    put(&b, "vec", floats(x, N, 1, 0, 0));
    put(&b, "label", numbers(MMF_F64, scores, N, 2, 0, 0));
    mmf_dataset *const ds = open_built(ctx, &b, NULL);
    mmf_batch batch;
    test_ok(ctx, mmf_batch_create(ctx, &batch, ds, 2));
    test_ok(ctx, mmf_batch_fill(&batch, ds, NULL, (int64_t[]){2, 1}, 2));
    static const float wanted[] = {.25f, .75f, 1, 0};
    assert_memory_equal(batch.target_values, wanted, sizeof wanted);
    double target[2];
    mmf_dataset_target(ds, 2, target);
    assert_true(target[0] == .25 && target[1] == .75);
    mmf_batch_clear(&batch);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_misuse(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const float x[N * 2];
    builder b = {.n = 0};
    put(&b, "a", floats(x, N, 2, 0, 0));
    put(&b, "b", floats(x, N, 1, 0, 0));
    put(&b, "label", ints(label, N, 0));
    mmf_dataset *const both = open_built(ctx, &b, NULL);
    mmf_dataset_options o = options_of("b,a", NULL, NULL, NULL);
    mmf_dataset *const swapped = open_built(ctx, &b, &o);
    o = options_of("b", NULL, NULL, NULL);
    mmf_dataset *const one = open_built(ctx, &b, &o);
    mmf_batch batch;
    test_fails(ctx, mmf_batch_create(ctx, &batch, both, 0), MMF_ARG, "found 0");
    test_fails(ctx, mmf_batch_create(ctx, &batch, both, INT64_MAX), MMF_NOMEM, "");
    test_ok(ctx, mmf_batch_create(ctx, &batch, both, 2));
    static const int64_t rows[] = {0, 1, 2, N, -1};
    test_fails(ctx, mmf_batch_fill(&batch, both, NULL, rows, 3), MMF_ARG, "3 rows");
    test_fails(ctx, mmf_batch_fill(&batch, both, NULL, rows + 3, 1), MMF_ARG, "row 4");
    test_fails(ctx, mmf_batch_fill(&batch, both, NULL, rows + 4, 1), MMF_ARG, "row -1");
    test_fails(ctx, mmf_batch_fill(&batch, one, NULL, rows, 1), MMF_STATE, "2 modalities");
    mmf_normalisation norm;
    test_fails(ctx, mmf_normalisation_fit(ctx, &norm, both, rows, 4), MMF_ARG, "row 4");
    test_ok(ctx, mmf_normalisation_fit(ctx, &norm, swapped, rows, 2));
    test_fails(ctx, mmf_batch_fill(&batch, both, &norm, rows, 1), MMF_SHAPE, "\"a\"");
    mmf_normalisation_clear(ctx, &norm);
    test_ok(ctx, mmf_normalisation_fit(ctx, &norm, one, rows, 2));
    test_fails(ctx, mmf_batch_fill(&batch, both, &norm, rows, 1), MMF_SHAPE, "1 modalities");
    mmf_normalisation_clear(ctx, &norm);
    mmf_batch_clear(&batch);
    mmf_dataset_close(one);
    mmf_dataset_close(swapped);
    mmf_dataset_close(both);
    mmf_ctx_free(ctx);
}

/* Filling takes no memory, whatever the kinds of the modalities. */
static void test_filling_allocates_nothing(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const float x[N * 2 * 3];
    static const int32_t length[N] = {1, 2, 0, 1};
    builder b = {.n = 0};
    put(&b, "seq", floats(x, N, 2, 3, 0));
    put(&b, "seq.length", ints(length, N, 0));
    put(&b, "tok", ints(label, N, 1));
    put(&b, "label", ints(label, N, 0));
    const mmf_dataset_options o = options_of(NULL, "tok=tokens", NULL, NULL);
    mmf_dataset *const ds = open_built(ctx, &b, &o);
    mmf_normalisation norm = fit_all(ctx, ds, N);
    mmf_batch batch;
    test_ok(ctx, mmf_batch_create(ctx, &batch, ds, 3));
    const uint64_t before = mmf_ctx_memory(ctx).n_allocations;
    for (int64_t i = 0; i < 50; i++)
        test_ok(ctx, mmf_batch_fill(&batch, ds, &norm, (int64_t[]){i % N, 0, 3}, i % 4));
    assert_int_equal(mmf_ctx_memory(ctx).n_allocations, before);
    mmf_batch_clear(&batch);
    mmf_normalisation_clear(ctx, &norm);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vector_by_hand),
        cmocka_unit_test(test_sequence_with_lengths),
        cmocka_unit_test(test_shared_image),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_nonfinite_values),
        cmocka_unit_test(test_double_beyond_single),
        cmocka_unit_test(test_columns_as_targets),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_filling_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
