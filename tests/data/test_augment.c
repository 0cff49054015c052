/* test_augment.c: pictures moved and mirrored, the same for the same draws; batches filled ahead.
 */
#include <math.h>

#include "data/batch_ahead.h"
#include "data/data_builder.h"

enum { N = 40, CHANNELS = 2, HEIGHT = 5, WIDTH = 4, PLANE = HEIGHT * WIDTH, CROP = 2, WORDS = 2 };

static mmf_dataset *open_pictures(mmf_ctx *ctx)
{
    static float pictures[N * CHANNELS * PLANE], features[N * 3];
    static int32_t labels[N];
    for (int i = 0; i < N * CHANNELS * PLANE; i++)
        pictures[i] = (float)(1 + i % 97);
    for (int i = 0; i < N * 3; i++)
        features[i] = (float)(i % 11);
    for (int i = 0; i < N; i++)
        labels[i] = i % 2;
    builder b = {0};
    put(&b, "picture", floats(pictures, N, CHANNELS, HEIGHT, WIDTH));
    put(&b, "table", floats(features, N, 3, 0, 0));
    static float words[N * 3 * 2], boxes[N * 3 * 4];
    for (int i = 0; i < N * 3 * 4; i++)
        boxes[i] = (float)(i % 13);
    put(&b, "words", floats(words, N, 3, 2, 0));
    put(&b, "words.box", floats(boxes, N, 3, 4, 0));
    put(&b, "label", ints(labels, N, 0));
    mmf_dataset *dataset = NULL;
    test_ok(ctx, mmf_dataset_open(ctx, &dataset, write_file(ctx, &b), NULL));
    return dataset;
}

static mmf_batch filled(mmf_ctx *ctx, mmf_dataset *dataset, const mmf_augment *augment,
                        uint64_t seed, uint64_t step)
{
    static int64_t rows[N];
    mmf_batch batch;
    for (int64_t i = 0; i < N; i++)
        rows[i] = i;
    test_ok(ctx, mmf_batch_create(ctx, &batch, dataset, N));
    const mmf_batch_order order = {
        .augment = augment, .rows = rows, .n_rows = N, .seed = seed, .step = step};
    test_ok(ctx, mmf_batch_fill_order(&batch, dataset, &order));
    return batch;
}

/* The pixel that the definition puts there: 0 from outside, else of the moved, mirrored picture. */
static float wanted(const float *plane, int64_t y, int64_t x, int64_t down, int64_t right,
                    bool flips)
{
    const int64_t from_x = (flips ? WIDTH - 1 - x : x) - right, from_y = y - down;
    const bool inside = from_x >= 0 && from_x < WIDTH && from_y >= 0 && from_y < HEIGHT;
    return inside ? plane[from_y * WIDTH + from_x] : 0;
}

static bool is_change(const float *before, const float *after, int64_t down, int64_t right,
                      bool flips)
{
    for (int64_t c = 0; c < CHANNELS; c++) {
        for (int64_t i = 0; i < PLANE; i++) {
            if (after[c * PLANE + i] !=
                wanted(before + c * PLANE, i / WIDTH, i % WIDTH, down, right, flips))
                return false;
        }
    }
    return true;
}

static void pictures_are_moved_and_mirrored(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_pictures(ctx);
    mmf_augment augment;
    test_ok(ctx, mmf_augment_parse(ctx, &augment, dataset, "picture=crop:2,picture=flip"));
    mmf_batch before = filled(ctx, dataset, NULL, 0, 0);
    mmf_batch after = filled(ctx, dataset, &augment, 7, 3);
    int n_flips = 0, seen[2 * CROP + 1] = {0};
    for (int64_t b = 0; b < N; b++) {
        const float *const was = before.inputs[0].values + b * CHANNELS * PLANE;
        const float *const is = after.inputs[0].values + b * CHANNELS * PLANE;
        bool found = false;
        for (int64_t k = 0; !found && k < 50; k++) {
            const int64_t down = k % 5 - CROP, right = k / 5 % 5 - CROP;
            found = is_change(was, is, down, right, k >= 25);
            n_flips += found && k >= 25;
            seen[down + CROP] += found;
        }
        assert_true(found);
    }
    assert_true(n_flips > N / 4 && n_flips < 3 * N / 4);
    for (int k = 0; k <= 2 * CROP; k++)
        assert_true(seen[k] > 0);
    assert_memory_equal(before.inputs[1].values, after.inputs[1].values, N * 3 * sizeof(float));
    mmf_batch again = filled(ctx, dataset, &augment, 7, 3);
    mmf_batch other = filled(ctx, dataset, &augment, 7, 4);
    const size_t n_bytes = (size_t)N * CHANNELS * PLANE * sizeof(float);
    assert_memory_equal(after.inputs[0].values, again.inputs[0].values, n_bytes);
    assert_memory_not_equal(after.inputs[0].values, other.inputs[0].values, n_bytes);
    mmf_batch_clear(&before);
    mmf_batch_clear(&after);
    mmf_batch_clear(&again);
    mmf_batch_clear(&other);
    mmf_augment_clear(&augment);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

static void wrong_changes_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *piece;
    } cases[] = {
        {"photo=crop", "no modality \"photo\"; there are: picture, table, words"},
        {"table=flip", "is a vector"},
        {"picture=crop:4", "from 0 to 3"},
        {"picture=crop:1.5", "whole pixels"},
        {"picture=crop:x", "whole pixels"},
        {"picture=flip:2", "from 0 to 1"},
        {"picture=turn", "expected MODALITY=crop"},
        {"picture", "expected MODALITY=crop"},
        {",", "expected MODALITY=crop"},
    };
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_pictures(ctx);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mmf_augment augment;
        test_fails(ctx, mmf_augment_parse(ctx, &augment, dataset, cases[i].text), MMF_ARG,
                   cases[i].piece);
        mmf_augment_clear(&augment);
    }
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

/* What the thread fills is what the caller would have filled; anything else is not taken. */
static void batches_ahead_are_the_same(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_pictures(ctx);
    mmf_augment augment;
    mmf_batch_ahead *ahead = NULL;
    test_ok(ctx, mmf_augment_parse(ctx, &augment, dataset, "picture=crop:2"));
    mmf_batch here = filled(ctx, dataset, NULL, 0, 0), there = filled(ctx, dataset, NULL, 0, 0);
    const int64_t *const widths = mmf_dataset_modality(dataset, WORDS)->companions;
    assert_int_equal(widths[MMF_COMPANION_BOX], 4);
    test_ok(ctx, mmf_batch_want_companions(&here, dataset, WORDS, widths));
    test_ok(ctx, mmf_batch_want_companions(&there, dataset, WORDS, widths));
    test_ok(ctx, mmf_batch_ahead_create(ctx, &ahead, dataset, &there));
    int64_t rows[64];
    for (int64_t i = 0; i < 64; i++)
        rows[i] = (7 * i) % N;
    for (uint64_t step = 0; step < 50; step++) {
        const mmf_batch_order order = {.augment = &augment,
                                       .rows = rows + step % 20,
                                       .n_rows = 1 + (int64_t)step % 8,
                                       .seed = 1,
                                       .step = step};
        assert_false(mmf_batch_ahead_take(ahead, &order, &there));
        mmf_batch_ahead_start(ahead, &order);
        test_ok(ctx, mmf_batch_fill_order(&here, dataset, &order));
        assert_true(mmf_batch_ahead_take(ahead, &order, &there));
        assert_int_equal(there.n_rows, order.n_rows);
        assert_memory_equal(here.inputs[0].values, there.inputs[0].values,
                            (size_t)order.n_rows * CHANNELS * PLANE * sizeof(float));
        assert_non_null(there.inputs[WORDS].companions[MMF_COMPANION_BOX]);
        assert_memory_equal(here.inputs[WORDS].companions[MMF_COMPANION_BOX],
                            there.inputs[WORDS].companions[MMF_COMPANION_BOX],
                            (size_t)order.n_rows * 3 * 4 * sizeof(float));
        assert_memory_equal(here.target_classes, there.target_classes,
                            (size_t)order.n_rows * sizeof(int64_t));
    }
    const int64_t beyond = N;
    mmf_batch_order bad = {.rows = &beyond, .n_rows = 1};
    mmf_batch_ahead_start(ahead, &bad);
    assert_false(mmf_batch_ahead_take(ahead, &bad, &there));
    test_fails(ctx, mmf_batch_fill_order(&there, dataset, &bad), MMF_ARG, "row 40 was asked for");
    mmf_batch_order good = {.rows = rows, .n_rows = 1};
    mmf_batch_ahead_start(ahead, &good); /* given up while it is filled */
    mmf_batch_ahead_free(ahead);
    mmf_batch_clear(&here);
    mmf_batch_clear(&there);
    mmf_augment_clear(&augment);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_moved_and_mirrored),
        cmocka_unit_test(wrong_changes_are_refused),
        cmocka_unit_test(batches_ahead_are_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
