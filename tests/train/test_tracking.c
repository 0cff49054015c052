/*
 * test_tracking.c: a point moves, two sensors see it at different rates, one of them fails at times
 * and says so: the learned filter over both must be better than over either alone.
 *
 * The task of scripts/make_tracking.py, smaller.
 */
#include <math.h>

#include "train/training_data.h"

enum {
    ROWS = 400,
    TRAIN = 280,
    VALID = 40,
    TICKS = 15,
    EVERY = 5,
    SEEN = TICKS / EVERY,
    EPOCHS = 25
};

typedef struct tracks {
    float radar[ROWS * TICKS * 2], camera[ROWS * SEEN * 3], label[ROWS];
    int32_t gone[ROWS];
} tracks;

static void draw_track(mmf_rng *rng, tracks *t, int64_t row)
{
    double place[2], speed[2];
    for (int d = 0; d < 2; d++) {
        place[d] = mmf_rng_normal(rng);
        speed[d] = 0.1 * mmf_rng_normal(rng);
    }
    for (int64_t i = 0; i < TICKS; i++) {
        const bool seen = i % EVERY == EVERY - 1, fails = mmf_rng_uniform(rng) < 0.35;
        float *const camera = t->camera + (row * SEEN + i / EVERY) * 3;
        for (int d = 0; d < 2; d++) {
            speed[d] += 0.05 * mmf_rng_normal(rng);
            place[d] += speed[d];
            t->radar[(row * TICKS + i) * 2 + d] = (float)(place[d] + 0.8 * mmf_rng_normal(rng));
            if (seen)
                camera[d] = (float)(fails ? 2 * mmf_rng_normal(rng)
                                          : place[d] + 0.15 * mmf_rng_normal(rng));
        }
        if (seen)
            camera[2] = (float)((fails ? 0.2 : 0.8) + 0.08 * mmf_rng_normal(rng));
    }
    t->label[row] = (float)place[0];
}

/* @param without  "radar" or "camera": absent everywhere; NULL: both are there */
static void write_tracks(mmf_ctx *ctx, tracks *t, const char *without, const char *path)
{
    builder b = {0};
    mmf_npz_writer *writer = NULL;
    put(&b, "radar", floats(t->radar, ROWS, TICKS, 2, 0));
    put(&b, "camera", floats(t->camera, ROWS, SEEN, 3, 0));
    put(&b, "label", floats(t->label, ROWS, 0, 0, 0));
    if (without)
        put(&b, strcmp(without, "radar") == 0 ? "radar.present" : "camera.present",
            ints(t->gone, ROWS, 0));
    test_ok(ctx, mmf_npz_create(ctx, &writer, path, false));
    for (size_t i = 0; i < b.n; i++)
        test_ok(ctx, mmf_npz_add(writer, b.arrays[i].name, &b.arrays[i].array));
    test_ok(ctx, mmf_npz_commit(writer));
}

/* Mean absolute error on the rows that training did not see. */
static double error_without(tracks *t, const char *without)
{
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *dataset = NULL;
    mmf_config *config = NULL;
    mmf_model *model = NULL;
    int64_t rows[ROWS];
    const mmf_dataset_options options = options_of(NULL, NULL, NULL, "regression");
    write_tracks(ctx, t, without, test_path("tracks.npz"));
    test_ok(ctx, mmf_dataset_open(ctx, &dataset, test_path("tracks.npz"), &options));
    for (int64_t i = 0; i < ROWS; i++)
        rows[i] = i;
    const mmf_split split = {.rows = {rows, rows + TRAIN, rows + TRAIN + VALID},
                             .count = {TRAIN, VALID, ROWS - TRAIN - VALID}};
    test_ok(ctx, mmf_config_create(ctx, &config, mmf_model_find("kalman")));
    test_ok(ctx, mmf_config_set(config, "state", "4"));
    test_ok(ctx, mmf_config_set(config, "hidden", "16"));
    const mmf_train_options train = quick_options(TEST_SAMPLE ? 1 : EPOCHS, 40);
    test_ok(ctx, mmf_train(ctx, &model, dataset, &split, "kalman", config, &train));
    double sum = 0, y[ROWS];
    test_ok(ctx, mmf_model_predict_rows(model, dataset, rows, ROWS, MMF_ALL_MODALITIES, y));
    for (int64_t i = TRAIN + VALID; i < ROWS; i++)
        sum += fabs(y[i] - (double)t->label[i]);
    mmf_model_free(model);
    mmf_config_free(config);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
    return sum / (ROWS - TRAIN - VALID);
}

static void both_sensors_beat_either(void **state)
{
    (void)state;
    tracks *const t = calloc(1, sizeof *t);
    mmf_rng rng = mmf_rng_make(6, 0);
    assert_non_null(t);
    for (int64_t i = 0; i < ROWS; i++)
        draw_track(&rng, t, i);
    const double both = error_without(t, NULL);
    const double radar = error_without(t, "camera"), camera = error_without(t, "radar");
    printf("mean absolute error: both %.3f, radar %.3f, camera %.3f\n", both, radar, camera);
    assert_true(isfinite(both) && isfinite(radar) && isfinite(camera));
    if (!TEST_SAMPLE)
        assert_true(both < 0.9 * radar && both < 0.9 * camera);
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(both_sensors_beat_either)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
