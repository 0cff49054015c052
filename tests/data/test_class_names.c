/* test_class_names.c: the classes of a file in the order of another's names. */
#include "data/class_names.h"
#include "data_builder.h"

enum { N = 4, K = 3 };

static const float vec[N] = {0, 1, 2, 3};
static const int32_t label[N] = {0, 2, 1, 0};
static const float columns[N * K] = {1, 0, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0};
static const char own[K][8] = {"green", "red", "blue"};
static const char *const models[] = {"blue", "white", "green", "red"};

static mmf_dataset *opened(mmf_ctx *ctx, bool wide, bool named)
{
    builder b = {.n = 0};
    const mmf_dataset_options options = options_of(NULL, NULL, NULL, wide ? "multilabel" : NULL);
    put(&b, "vec", floats(vec, N, 1, 0, 0));
    put(&b, "label", wide ? floats(columns, N, K, 0, 0) : ints(label, N, 0));
    if (named)
        put(&b, "label.names", texts(own, K));
    return open_built(ctx, &b, &options);
}

static void classes_follow_their_names(void **state)
{
    (void)state;
    static const double wanted[N] = {2, 0, 3, 2};
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const ds = opened(ctx, false, true);
    test_ok(ctx, mmf_dataset_order_classes(ds, models, 4));
    assert_int_equal(mmf_dataset_n_classes(ds), 4);
    assert_null(mmf_dataset_foreign_class(ds));
    for (int64_t i = 0; i < N; i++) {
        double found = -1;
        mmf_dataset_target(ds, i, &found);
        assert_true(found == wanted[i]);
    }
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void columns_follow_their_names(void **state)
{
    (void)state;
    static const int from[] = {2, -1, 0, 1}; /* the file's column */
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const ds = opened(ctx, true, true);
    test_ok(ctx, mmf_dataset_order_classes(ds, models, 4));
    assert_int_equal(mmf_dataset_n_classes(ds), 4);
    for (int64_t i = 0; i < N; i++) {
        double found[4];
        mmf_dataset_target(ds, i, found);
        for (int k = 0; k < 4; k++)
            assert_true(found[k] == (from[k] < 0 ? 0 : (double)columns[i * K + from[k]]));
    }
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

/* It stands behind the others, where scoring finds it. */
static void a_foreign_class_is_named(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (int wide = 0; wide < 2; wide++) {
        mmf_dataset *const ds = opened(ctx, wide, true);
        test_ok(ctx, mmf_dataset_order_classes(ds, models, 3)); /* without red */
        assert_int_equal(mmf_dataset_n_classes(ds), 4);
        assert_string_equal(mmf_dataset_foreign_class(ds), "red");
        mmf_dataset_close(ds);
    }
    mmf_ctx_free(ctx);
}

static void numbers_without_names_stay(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const char *const same[] = {"green", "red", "blue", "white"};
    for (int named = 0; named < 2; named++) {
        mmf_dataset *const ds = opened(ctx, false, named);
        test_ok(ctx, mmf_dataset_order_classes(ds, named ? same : models, 4));
        assert_int_equal(mmf_dataset_n_classes(ds), K);
        for (int64_t i = 0; i < N; i++) {
            double found = -1;
            mmf_dataset_target(ds, i, &found);
            assert_true(found == label[i]);
        }
        mmf_dataset_close(ds);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_follow_their_names),
        cmocka_unit_test(columns_follow_their_names),
        cmocka_unit_test(a_foreign_class_is_named),
        cmocka_unit_test(numbers_without_names_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
