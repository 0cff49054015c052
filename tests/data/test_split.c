/* test_split.c: properties of splits and folds. */
#include "data_builder.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_N = 1000 };

static float x[MAX_N];
static int32_t label[MAX_N], group[MAX_N], index_[MAX_N], given[MAX_N];
static float value[MAX_N];

static mmf_split_options split_options(double a, double b, double c, uint64_t seed)
{
    mmf_split_options o = MMF_SPLIT_OPTIONS_INIT;
    o.fractions[0] = a;
    o.fractions[1] = b;
    o.fractions[2] = c;
    o.seed = seed;
    return o;
}

static builder plain_file(int64_t n, int32_t n_classes)
{
    builder b = {.n = 0};
    for (int64_t i = 0; i < n; i++)
        label[i] = (int32_t)(i * i % n_classes); /* unequal counts */
    put(&b, "vec", floats(x, n, 1, 0, 0));
    put(&b, "label", ints(label, n, 0));
    return b;
}

/* Every row in exactly one part, ascending; returns the part of each row in `part`. */
static void read_parts(const mmf_split *split, int64_t n, int *part)
{
    for (int64_t i = 0; i < n; i++)
        part[i] = -1;
    for (int p = 0; p < 3; p++) {
        for (int64_t i = 0; i < split->count[p]; i++) {
            const int64_t row = split->rows[p][i];
            assert_in_range(row, 0, n - 1);
            assert_true(i == 0 || row > split->rows[p][i - 1]);
            assert_int_equal(part[row], -1);
            part[row] = p;
        }
    }
}

static void make_parts(mmf_ctx *ctx, const mmf_dataset *ds, const mmf_split_options *o, int *part,
                       int64_t count[3])
{
    mmf_split split;
    test_ok(ctx, mmf_split_make(ctx, &split, ds, o));
    read_parts(&split, mmf_dataset_count(ds), part);
    for (int p = 0; p < 3; p++)
        count[p] = split.count[p];
    mmf_split_clear(ctx, &split);
}

static void test_stratified_within_one_row(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int part[MAX_N];
    int64_t count[3];
    for (int64_t n = 30; n <= MAX_N; n += 97) {
        builder b = plain_file(n, 7);
        mmf_dataset *const ds = open_built(ctx, &b, NULL);
        const mmf_split_options o = split_options(0.6, 0.15, 0.25, (uint64_t)n);
        make_parts(ctx, ds, &o, part, count);
        for (int p = 0; p < 3; p++) {
            int64_t all = 0;
            for (int32_t c = 0; c < 7; c++) {
                int64_t there = 0, n_class = 0;
                for (int64_t i = 0; i < n; i++) {
                    n_class += label[i] == c;
                    there += label[i] == c && part[i] == p;
                }
                assert_true(fabs((double)there - o.fractions[p] * (double)n_class) < 1);
                all += there;
            }
            /* The remainders of the classes do not pile up in one part. */
            assert_true(fabs((double)all - o.fractions[p] * (double)n) < 2);
            assert_int_equal(all, count[p]);
        }
        assert_int_equal(count[0] + count[1] + count[2], n);
        mmf_dataset_close(ds);
    }
    mmf_ctx_free(ctx);
}

static void test_seeds(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int a[MAX_N], b[MAX_N];
    int64_t count[3];
    builder file = plain_file(200, 4);
    mmf_dataset *const ds = open_built(ctx, &file, NULL);
    mmf_split_options o = MMF_SPLIT_OPTIONS_INIT; /* 0.7, 0.1, 0.2 without a split in the file */
    make_parts(ctx, ds, &o, a, count);
    assert_true(labs(count[0] - 140) <= 1 && labs(count[1] - 20) <= 1 && labs(count[2] - 40) <= 1);
    make_parts(ctx, ds, &o, b, count);
    assert_memory_equal(a, b, 200 * sizeof a[0]);
    make_parts(ctx, ds, NULL, b, count);
    assert_memory_equal(a, b, 200 * sizeof a[0]);
    o.seed = 1;
    make_parts(ctx, ds, &o, b, count);
    int n_moved = 0;
    for (int i = 0; i < 200; i++)
        n_moved += a[i] != b[i];
    assert_true(n_moved > 40);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_groups_stay_together(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int part[MAX_N];
    int64_t count[3];
    builder b = plain_file(600, 3);
    for (int i = 0; i < 600; i++)
        group[i] = 1000 - i * 7 % 53;
    put(&b, "group", ints(group, 600, 0));
    mmf_dataset *ds = open_built(ctx, &b, NULL);
    assert_true(mmf_dataset_has_group(ds));
    for (uint64_t seed = 0; seed < 5; seed++) {
        const mmf_split_options o = split_options(0.7, 0.1, 0.2, seed);
        make_parts(ctx, ds, &o, part, count);
        for (int i = 0; i < 600; i++)
            assert_int_equal(part[i], part[i % 53]); /* i and i + 53 k are of one group */
        /* 53 groups of about 11 rows: within a group of the wanted counts. */
        assert_true(labs(count[0] - 420) <= 12 && labs(count[1] - 60) <= 12);
        for (int c = 0; c < 3; c++) {
            int64_t n_class = 0, n_test = 0;
            for (int i = 0; i < 600; i++) {
                n_class += label[i] == c;
                n_test += label[i] == c && part[i] == 2;
            }
            assert_true(fabs((double)n_test - 0.2 * (double)n_class) <= 12);
        }
    }
    mmf_dataset_close(ds);
    /* The same groups as texts. */
    static char text[600][8];
    for (int i = 0; i < 600; i++)
        snprintf(text[i], sizeof text[i], "g%d", i % 53);
    put(&b, "group", texts((const char(*)[8])text, 600));
    ds = open_built(ctx, &b, NULL);
    make_parts(ctx, ds, NULL, part, count);
    for (int i = 0; i < 600; i++)
        assert_int_equal(part[i], part[i % 53]);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_shared_rows_and_groups_join(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    enum { N = 300, IMAGES = 100 };
    int part[MAX_N];
    int64_t count[3];
    builder b = plain_file(N, 3);
    static uint8_t present[N];
    for (int i = 0; i < N; i++) {
        index_[i] = i % IMAGES;
        group[i] = i / 2;     /* 2i and 2i + 1 */
        present[i] = i < 200; /* the last hundred have no image: only their group ties them */
    }
    put(&b, "image", floats(x, IMAGES, 1, 1, 1));
    put(&b, "image.index", ints(index_, N, 0));
    put(&b, "image.present", numbers(MMF_U8, present, N, 0, 0, 0));
    put(&b, "group", ints(group, N, 0));
    mmf_dataset *ds = open_built(ctx, &b, NULL);
    make_parts(ctx, ds, NULL, part, count);
    int n_apart = 0;
    for (int i = 0; i < N; i += 2)
        assert_int_equal(part[i], part[i + 1]);
    for (int i = 0; i < IMAGES; i++) {
        assert_int_equal(part[i], part[i + IMAGES]);
        n_apart += part[i] != part[i + 2 * IMAGES];
    }
    assert_true(n_apart > 0);
    /* The choice of modalities does not change who is tested. */
    int again[MAX_N];
    const mmf_dataset_options only = options_of("vec", NULL, NULL, NULL);
    mmf_dataset *const other = open_built(ctx, &b, &only);
    make_parts(ctx, other, NULL, again, count);
    assert_memory_equal(part, again, N * sizeof part[0]);
    mmf_dataset_close(other);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_split_of_the_file(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int part[MAX_N];
    int64_t count[3];
    builder b = plain_file(100, 2);
    for (int i = 0; i < 100; i++)
        given[i] = i % 5 == 4 ? 2 : 0;
    put(&b, "split", ints(given, 100, 0));
    mmf_dataset *ds = open_built(ctx, &b, NULL);
    make_parts(ctx, ds, NULL, part, count);
    assert_int_equal(count[2], 20);
    assert_int_equal(count[1], 12); /* 0.15 of 80 */
    for (int i = 0; i < 100; i++)
        assert_int_equal(part[i] == 2, given[i] == 2);
    mmf_split_options o = MMF_SPLIT_OPTIONS_INIT;
    o.valid = 0.5;
    make_parts(ctx, ds, &o, part, count);
    assert_int_equal(count[1], 40);
    mmf_dataset_close(ds);

    given[0] = 1; /* a validation part of its own is left as it is */
    ds = open_built(ctx, &b, NULL);
    make_parts(ctx, ds, NULL, part, count);
    assert_int_equal(count[1], 1);
    assert_int_equal(part[0], 1);
    o = split_options(0.5, 0.25, 0.25, 3); /* explicit shares win over the file */
    make_parts(ctx, ds, &o, part, count);
    assert_true(labs(count[0] - 50) <= 1);
    mmf_dataset_close(ds);

    for (int i = 0; i < 100; i++) {
        given[i] = i < 50 ? 0 : 2;
        group[i] = i == 70 ? 3 : i;
    }
    put(&b, "group", ints(group, 100, 0));
    ds = open_built(ctx, &b, NULL);
    mmf_split split; /* who made the file may divide groups: a warning, see test_data_shared */
    make_parts(ctx, ds, NULL, part, count);
    assert_int_equal(part[3], 0);
    assert_int_equal(part[70], 2);
    o = split_options(0.5, 0.25, 0.25, 3);
    make_parts(ctx, ds, &o, part, count);
    assert_int_equal(part[3], part[70]);
    mmf_dataset_close(ds);
    for (int i = 0; i < 100; i++)
        group[i] = 0, index_[i] = i == 80 ? 2 : i;
    b.n = 3; /* without the group */
    put(&b, "image", floats(x, 100, 1, 1, 1));
    put(&b, "image.index", ints(index_, 100, 0));
    ds = open_built(ctx, &b, NULL);
    test_fails(ctx, mmf_split_make(ctx, &split, ds, NULL), MMF_FORMAT, "row 2 of the same image");
    mmf_dataset_close(ds);
    for (int i = 0; i < 100; i++)
        given[i] = 2;
    b.n = 3;
    ds = open_built(ctx, &b, NULL);
    make_parts(ctx, ds, NULL, part, count); /* a file of test rows alone */
    assert_int_equal(count[2], 100);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_folds(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int part[MAX_N], seen[MAX_N] = {0};
    int64_t count[3];
    builder b = plain_file(210, 4);
    mmf_dataset *ds = open_built(ctx, &b, NULL);
    mmf_split_options o = MMF_SPLIT_OPTIONS_INIT;
    o.n_folds = 5;
    for (o.fold = 0; o.fold < 5; o.fold++) {
        make_parts(ctx, ds, &o, part, count);
        assert_int_equal(count[2], 0);
        assert_int_equal(count[0] + count[1], 210);
        assert_true(labs(count[1] - 42) <= 1);
        for (int c = 0; c < 4; c++) {
            int64_t n_class = 0, n_valid = 0;
            for (int i = 0; i < 210; i++) {
                n_class += label[i] == c;
                n_valid += label[i] == c && part[i] == 1;
            }
            assert_true(fabs((double)n_valid - 0.2 * (double)n_class) < 1);
        }
        for (int i = 0; i < 210; i++)
            seen[i] += part[i] == 1;
    }
    for (int i = 0; i < 210; i++)
        assert_int_equal(seen[i], 1);
    mmf_dataset_close(ds);

    /* With a split in the file, its test rows stay out of the folds. */
    for (int i = 0; i < 210; i++)
        given[i] = i % 3;
    put(&b, "split", ints(given, 210, 0));
    ds = open_built(ctx, &b, NULL);
    o.fold = 2;
    make_parts(ctx, ds, &o, part, count);
    assert_int_equal(count[2], 70);
    assert_int_equal(count[1], 28);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_folds_by_group(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    enum { N = 240 };
    builder b = {.n = 0};
    for (int i = 0; i < N; i++) {
        value[i] = (float)i / 7.3f - 3;
        group[i] = i % 12;
    }
    put(&b, "vec", floats(x, N, 1, 0, 0));
    put(&b, "label", floats(value, N, 0, 0, 0));
    put(&b, "group", ints(group, N, 0));
    mmf_dataset *const ds = open_built(ctx, &b, NULL);
    int64_t rows[N], fold[N], sizes[6] = {0};
    for (int i = 0; i < N; i++)
        rows[i] = N - 1 - i;
    test_ok(ctx, mmf_split_folds(ctx, ds, rows, N, 6, 9, fold));
    for (int i = 0; i < N; i++) {
        assert_in_range(fold[i], 0, 5);
        assert_int_equal(fold[i], fold[i % 12]);
        sizes[fold[i]]++;
    }
    for (int k = 0; k < 6; k++)
        assert_int_equal(sizes[k], N / 6);
    test_ok(ctx, mmf_split_folds(ctx, ds, rows, N, 12, 9, fold));
    test_fails(ctx, mmf_split_folds(ctx, ds, rows, N, 13, 9, fold), MMF_ARG, "12 unrelated groups");
    test_fails(ctx, mmf_split_folds(ctx, ds, rows, N, 1, 9, fold), MMF_ARG, "found 1");
    rows[0] = N;
    test_fails(ctx, mmf_split_folds(ctx, ds, rows, N, 6, 9, fold), MMF_ARG, "row 240");
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

/* Numbers: each part sees the whole range. */
static void test_quantiles(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    enum { N = 500 };
    int part[MAX_N];
    int64_t count[3];
    builder b = {.n = 0};
    for (int i = 0; i < N; i++)
        value[i] = expf((float)(i * 331 % N) / 60);
    put(&b, "vec", floats(x, N, 1, 0, 0));
    put(&b, "label", floats(value, N, 0, 0, 0));
    mmf_dataset *const ds = open_built(ctx, &b, NULL);
    assert_int_equal(mmf_dataset_target_kind(ds), MMF_TARGET_REAL);
    make_parts(ctx, ds, NULL, part, count);
    const float tenth = expf(50 / 60.0f);
    int n_low = 0;
    for (int i = 0; i < N; i++)
        n_low += part[i] == 2 && value[i] < tenth;
    assert_int_equal(n_low, 10); /* 0.2 of the lowest 50 */
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_columns(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    enum { N = 200 };
    static float columns[N * 3];
    int part[MAX_N];
    int64_t count[3];
    for (int i = 0; i < N; i++) {
        columns[i * 3] = i % 2 == 0;
        columns[i * 3 + 1] = i % 10 == 0; /* 20 rows, all of which carry label 0 too */
        columns[i * 3 + 2] = 0;
    }
    builder b = {.n = 0};
    put(&b, "vec", floats(x, N, 1, 0, 0));
    put(&b, "label", floats(columns, N, 3, 0, 0));
    mmf_dataset_options o = options_of(NULL, NULL, NULL, "multilabel");
    mmf_dataset *ds = open_built(ctx, &b, &o);
    make_parts(ctx, ds, NULL, part, count);
    int n_rare = 0;
    for (int i = 0; i < N; i += 10)
        n_rare += part[i] == 2;
    assert_int_equal(n_rare, 4);
    mmf_dataset_close(ds);
    for (int i = 0; i < N; i++)
        columns[i * 3 + 1] = columns[i * 3] > 0 ? 0 : .75f,
                        columns[i * 3 + 2] = columns[i * 3] > 0 ? 0 : .25f;
    ds = open_built(ctx, &b, NULL);
    assert_int_equal(mmf_dataset_target_kind(ds), MMF_TARGET_SOFT);
    make_parts(ctx, ds, NULL, part, count);
    int n_even = 0;
    for (int i = 0; i < N; i += 2)
        n_even += part[i] == 2;
    assert_int_equal(n_even, 20);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_train_per_class(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int part[MAX_N], all[MAX_N];
    int64_t count[3];
    builder b = plain_file(200, 4); /* squares modulo 4: only classes 0 and 1 */
    mmf_dataset *ds = open_built(ctx, &b, NULL);
    mmf_split_options o = split_options(0.6, 0.2, 0.2, 5);
    make_parts(ctx, ds, &o, all, count);
    o.train_per_class = 7;
    make_parts(ctx, ds, &o, part, count);
    assert_int_equal(count[0], 14);
    for (int c = 0; c < 2; c++) {
        int n_taken = 0;
        for (int i = 0; i < 200; i++) {
            if (label[i] != c)
                continue;
            const bool wanted = all[i] == 0 && n_taken < 7;
            n_taken += wanted;
            assert_int_equal(part[i], wanted ? 0 : all[i] == 0 ? -1 : all[i]);
        }
    }
    mmf_dataset_close(ds);
    const mmf_dataset_options r = options_of(NULL, NULL, NULL, "regression");
    ds = open_built(ctx, &b, &r);
    mmf_split split;
    test_fails(ctx, mmf_split_make(ctx, &split, ds, &o), MMF_ARG, "train-per-class");
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_small_and_tied_files(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int part[MAX_N];
    int64_t count[3];
    builder b = plain_file(3, 2);
    mmf_dataset *ds = open_built(ctx, &b, NULL);
    make_parts(ctx, ds, NULL, part, count); /* every part gets a row */
    assert_true(count[0] == 1 && count[1] == 1 && count[2] == 1);
    mmf_dataset_close(ds);
    b = plain_file(2, 2);
    ds = open_built(ctx, &b, NULL);
    mmf_split split;
    test_fails(ctx, mmf_split_make(ctx, &split, ds, NULL), MMF_ARG, "cannot fill 3 parts");
    assert_null(split.rows[0]);
    mmf_dataset_close(ds);

    /* Three equal groups, where the shares alone would leave a part empty. */
    b = plain_file(30, 2);
    for (int i = 0; i < 30; i++)
        group[i] = i / 10;
    put(&b, "group", ints(group, 30, 0));
    ds = open_built(ctx, &b, NULL);
    make_parts(ctx, ds, NULL, part, count);
    assert_true(count[0] == 10 && count[1] == 10 && count[2] == 10);
    mmf_dataset_close(ds);

    /* All rows tied: nothing to cut, which is an error only when it was asked for. */
    for (int i = 0; i < 30; i++)
        group[i] = 5, given[i] = 0;
    put(&b, "split", ints(given, 30, 0));
    ds = open_built(ctx, &b, NULL);
    make_parts(ctx, ds, NULL, part, count);
    assert_true(count[0] == 30 && count[1] == 0);
    mmf_split_options o = MMF_SPLIT_OPTIONS_INIT;
    o.valid = 0.3;
    test_fails(ctx, mmf_split_make(ctx, &split, ds, &o), MMF_ARG, "1 unrelated groups");
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void test_bad_options(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    builder b = plain_file(50, 2);
    mmf_dataset *const ds = open_built(ctx, &b, NULL);
    mmf_split split;
    mmf_split_options o = split_options(0.5, 0.5, 0.5, 0);
    test_fails(ctx, mmf_split_make(ctx, &split, ds, &o), MMF_ARG, "0.5, 0.5, 0.5");
    o = split_options(0, 0.5, 0.5, 0);
    test_fails(ctx, mmf_split_make(ctx, &split, ds, &o), MMF_ARG, "sum to 1");
    o = split_options(1.5, -0.5, 0, 0);
    test_fails(ctx, mmf_split_make(ctx, &split, ds, &o), MMF_ARG, "sum to 1");
    o = split_options(NAN, 0, 0, 0);
    test_fails(ctx, mmf_split_make(ctx, &split, ds, &o), MMF_ARG, "sum to 1");
    o = (mmf_split_options){.valid = 1};
    test_fails(ctx, mmf_split_make(ctx, &split, ds, &o), MMF_ARG, "found 1");
    o = (mmf_split_options){.n_folds = 1};
    test_fails(ctx, mmf_split_make(ctx, &split, ds, &o), MMF_ARG, "folds: expected 2");
    o = (mmf_split_options){.n_folds = 3, .fold = 3};
    test_fails(ctx, mmf_split_make(ctx, &split, ds, &o), MMF_ARG, "fold: expected 0 to 2");
    o = (mmf_split_options){.n_folds = 51};
    test_fails(ctx, mmf_split_make(ctx, &split, ds, &o), MMF_ARG, "50 rows");
    o = (mmf_split_options){.train_per_class = -1};
    test_fails(ctx, mmf_split_make(ctx, &split, ds, &o), MMF_ARG, "found -1");
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stratified_within_one_row),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_groups_stay_together),
        cmocka_unit_test(test_shared_rows_and_groups_join),
        cmocka_unit_test(test_split_of_the_file),
        cmocka_unit_test(test_folds),
        cmocka_unit_test(test_folds_by_group),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_columns),
        cmocka_unit_test(test_train_per_class),
        cmocka_unit_test(test_small_and_tied_files),
        cmocka_unit_test(test_bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
