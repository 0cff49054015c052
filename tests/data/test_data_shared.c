/* test_data_shared.c: the shared data sets open with the shapes that their page promises. */
#include "data_builder.h"

static mmf_dataset *open_shared(mmf_ctx *ctx, const char *name, const char *modalities)
{
    const char *const path = test_shared(name);
    if (!path)
        return NULL;
    mmf_dataset_options o = options_of(modalities, NULL, NULL, NULL);
    o.check_finite = true;
    mmf_dataset *ds = NULL;
    test_ok(ctx, mmf_dataset_open(ctx, &ds, path, &o));
    return ds;
}

static void check_modality(const mmf_dataset *ds, const char *name, mmf_modality_kind kind,
                           int64_t a, int64_t b, int64_t c)
{
    const int64_t i = mmf_dataset_find(ds, name);
    assert_true(i >= 0);
    const mmf_modality *const m = mmf_dataset_modality(ds, (size_t)i);
    const int64_t wanted[] = {a, b, c};
    assert_int_equal(m->kind, kind);
    for (int d = 0; d < 3; d++)
        assert_int_equal(d < m->n_dims ? m->shape[d] : 0, wanted[d]);
    assert_int_equal(m->n_nonfinite, 0);
}

/* Fits on train and reads every row once; normalised training values have mean 0, deviation 1. */
static void read_through(mmf_ctx *ctx, mmf_dataset *ds, const int64_t counts[3])
{
    mmf_split split;
    test_ok(ctx, mmf_split_make(ctx, &split, ds, NULL));
    for (int p = 0; p < 3; p++)
        assert_int_equal(split.count[p], counts[p]);
    mmf_normalisation norm;
    test_ok(ctx, mmf_normalisation_fit(ctx, &norm, ds, split.rows[0], split.count[0]));
    mmf_batch batch;
    test_ok(ctx, mmf_batch_create(ctx, &batch, ds, 64));
    for (int p = 0; p < 3; p++) {
        double sum = 0, square = 0, n = 0;
        for (int64_t at = 0; at < split.count[p]; at += 64) {
            const int64_t left = split.count[p] - at;
            const int64_t n_rows = left < 64 ? left : 64;
            test_ok(ctx, mmf_batch_fill(&batch, ds, &norm, split.rows[p] + at, n_rows));
            for (int64_t i = 0; batch.inputs[0].values && i < n_rows * norm.n_features[0]; i++) {
                const double v = (double)batch.inputs[0].values[i];
                sum += v;
                square += v * v;
                n++;
            }
        }
        const mmf_modality *const m = mmf_dataset_modality(ds, 0);
        if (p == 0 && m->kind == MMF_VECTOR && !m->has_present) {
            assert_true(sum / n < 1e-4 && sum / n > -1e-4);
            assert_true(square / n < 1.001 && square / n > 0.8); /* constant features add 0 */
        }
    }
    mmf_batch_clear(&batch);
    mmf_normalisation_clear(ctx, &norm);
    mmf_split_clear(ctx, &split);
}

static void test_digits_views(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const ds = open_shared(ctx, "data/digits-views.npz", NULL);
    if (ds) {
        assert_int_equal(mmf_dataset_count(ds), 2000);
        assert_int_equal(mmf_dataset_n_modalities(ds), 6);
        static const char *const names[] = {"fou", "fac", "kar", "pix", "zer", "mor"};
        static const int64_t widths[] = {76, 216, 64, 240, 47, 6};
        for (size_t i = 0; i < 6; i++) {
            assert_int_equal(mmf_dataset_find(ds, names[i]), (int64_t)i);
            check_modality(ds, names[i], MMF_VECTOR, widths[i], 0, 0);
        }
        assert_int_equal(mmf_dataset_target_kind(ds), MMF_TARGET_CLASS);
        assert_int_equal(mmf_dataset_n_classes(ds), 10);
        assert_int_equal(mmf_dataset_class_names(ds).shape[0], 10);
        assert_true(mmf_dataset_has_split(ds));
        assert_null(mmf_dataset_note(ds, 0));
        read_through(ctx, ds, (int64_t[]){1000, 200, 800});
    }
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_utd_mhad(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const ds = open_shared(ctx, "data/utd-mhad.npz", NULL);
    if (ds) {
        assert_int_equal(mmf_dataset_count(ds), 861);
        check_modality(ds, "skeleton", MMF_SEQUENCE, 40, 60, 0);
        check_modality(ds, "inertial", MMF_SEQUENCE, 80, 6, 0);
        check_modality(ds, "depth", MMF_IMAGE, 1, 30, 40);
        assert_int_equal(mmf_dataset_n_classes(ds), 27);
        assert_string_equal(mmf_dataset_note(ds, 0), "caption");
        mmf_split split;
        test_ok(ctx, mmf_split_make(ctx, &split, ds, NULL));
        assert_int_equal(split.count[2], 430);
        assert_int_equal(split.count[0] + split.count[1], 431);
        assert_true(split.count[1] > 30); /* whole subjects */
        const int64_t counts[] = {split.count[0], split.count[1], split.count[2]};
        mmf_split_clear(ctx, &split);
        read_through(ctx, ds, counts);
    }
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_easy_vqa(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const ds = open_shared(ctx, "data/easy-vqa.npz", NULL);
    if (ds) {
        assert_int_equal(mmf_dataset_count(ds), 48248);
        check_modality(ds, "image", MMF_IMAGE, 3, 32, 32);
        check_modality(ds, "question", MMF_TOKENS, 9, 0, 0);
        assert_int_equal(mmf_dataset_modality(ds, 0)->n_rows, 5000);
        assert_true(mmf_dataset_modality(ds, 0)->has_index);
        assert_int_equal(mmf_dataset_modality(ds, 1)->vocab_size, 28);
        assert_int_equal(mmf_dataset_n_classes(ds), 13);
        mmf_split split;
        test_ok(ctx, mmf_split_make(ctx, &split, ds, NULL));
        assert_int_equal(split.count[2], 9673);
        assert_true(split.count[1] > 5700 && split.count[1] < 5870); /* 0.15 of 38,575 */
        const int64_t counts[] = {split.count[0], split.count[1], split.count[2]};
        mmf_split_clear(ctx, &split);
        read_through(ctx, ds, counts);
    }
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_tcga_brca(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const ds = open_shared(ctx, "data/tcga-brca.npz", NULL);
    if (ds) {
        check_modality(ds, "mrna", MMF_VECTOR, 200, 0, 0);
        check_modality(ds, "mirna", MMF_VECTOR, 184, 0, 0);
        check_modality(ds, "protein", MMF_VECTOR, 142, 0, 0);
        assert_int_equal(mmf_dataset_n_classes(ds), 3);
        const mmf_modality *const protein = mmf_dataset_modality(ds, 2);
        assert_true(protein->has_present);
        assert_int_equal(protein->n_absent, 70);
        assert_int_equal(protein->names.shape[0], 142);
        mmf_split split;
        test_ok(ctx, mmf_split_make(ctx, &split, ds, NULL));
        assert_int_equal(split.count[2], 70);
        for (int64_t i = 0; i < split.count[2]; i++)
            assert_false(mmf_dataset_present(ds, 2, split.rows[2][i]));
        const int64_t counts[] = {split.count[0], split.count[1], split.count[2]};
        assert_true(counts[0] == 127 || counts[0] == 128);
        mmf_split_clear(ctx, &split);
        read_through(ctx, ds, counts);
    }
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_mosi_dev(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const ds = open_shared(ctx, "data/mosi-dev.npz", NULL);
    if (ds) {
        assert_int_equal(mmf_dataset_count(ds), 229);
        assert_int_equal(mmf_dataset_n_modalities(ds), 3);
        check_modality(ds, "text", MMF_SEQUENCE, 44, 300, 0);
        check_modality(ds, "audio", MMF_SEQUENCE, 44, 74, 0);
        check_modality(ds, "vision", MMF_SEQUENCE, 44, 47, 0);
        assert_true(mmf_dataset_modality(ds, 0)->has_length);
        assert_int_equal(mmf_dataset_target_kind(ds), MMF_TARGET_REAL);
        assert_true(mmf_dataset_has_group(ds));
        assert_string_equal(mmf_dataset_note(ds, 0), "words");
        mmf_split_options o = MMF_SPLIT_OPTIONS_INIT;
        o.n_folds = 5;
        int64_t n_valid = 0;
        for (o.fold = 0; o.fold < 5; o.fold++) {
            mmf_split split;
            test_ok(ctx, mmf_split_make(ctx, &split, ds, &o));
            assert_int_equal(split.count[2], 0);
            n_valid += split.count[1];
            mmf_split_clear(ctx, &split);
        }
        assert_int_equal(n_valid, 229);
    }
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void count_warning(void *user, mmf_log_level level, const char *text)
{
    *(int *)user += level == MMF_LOG_WARNING && strstr(text, "of the same group");
}

/* The speakers of these two are in every part of the files' own split, which is warned of; shares
 * divide them by speaker. */
static void test_avmnist_tears_its_groups(void **state)
{
    (void)state;
    static const char *const files[] = {"data/avmnist.npz", "data/avmnist-hard.npz"};
    int n_warnings = 0;
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.log = count_warning;
    options.log_user = &n_warnings;
    mmf_ctx *ctx = NULL;
    assert_int_equal(mmf_ctx_create(&ctx, &options), MMF_OK);
    for (size_t i = 0; i < 2; i++) {
        mmf_dataset *const ds = open_shared(ctx, files[i], NULL);
        if (!ds)
            continue;
        assert_int_equal(mmf_dataset_count(ds), 3000);
        check_modality(ds, "image", MMF_IMAGE, 1, 28, 28);
        check_modality(ds, "audio", MMF_SEQUENCE, 32, 26, 0);
        mmf_split split;
        n_warnings = 0;
        test_ok(ctx, mmf_split_make(ctx, &split, ds, NULL));
        assert_int_equal(n_warnings, 1);
        assert_int_equal(split.count[MMF_TRAIN], 2400);
        mmf_split_clear(ctx, &split);
        mmf_split_options o = MMF_SPLIT_OPTIONS_INIT;
        o.fractions[0] = 0.7;
        o.fractions[1] = 0.1;
        o.fractions[2] = 0.2;
        test_ok(ctx, mmf_split_make(ctx, &split, ds, &o));
        for (int p = 0; p < 3; p++)
            assert_true(split.count[p] > 0 && split.count[p] % 500 == 0);
        mmf_split_clear(ctx, &split);
        mmf_dataset_close(ds);
    }
    mmf_ctx_free(ctx);
}

/* The other files, each with the number of modalities it has. */
static void test_the_rest_opens(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t n_modalities;
        int64_t n, n_classes;
    } files[] = {
        {"data/shapes-vqa.npz", 2, 2688, 2},        {"data/wiki.npz", 3, 2866, 10},
        {"data/nutrimouse.npz", 2, 40, 5},          {"data/robot-failure-lp1.npz", 2, 88, 4},
        {"data/robot-failure-lp4.npz", 2, 117, 3},  {"data/robot-failure-lp5.npz", 2, 164, 5},
        {"data/cifar10-test1000.npz", 1, 1000, 10},
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        mmf_dataset *const ds = open_shared(ctx, files[i].name, NULL);
        if (!ds)
            continue;
        assert_int_equal(mmf_dataset_n_modalities(ds), files[i].n_modalities);
        assert_int_equal(mmf_dataset_count(ds), files[i].n);
        assert_int_equal(mmf_dataset_n_classes(ds), files[i].n_classes);
        mmf_split split;
        test_ok(ctx, mmf_split_make(ctx, &split, ds, NULL));
        mmf_split_clear(ctx, &split);
        mmf_dataset_close(ds);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digits_views),   cmocka_unit_test(test_utd_mhad),
        cmocka_unit_test(test_easy_vqa),       cmocka_unit_test(test_tcga_brca),
        cmocka_unit_test(test_mosi_dev),       cmocka_unit_test(test_avmnist_tears_its_groups),
        cmocka_unit_test(test_the_rest_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
