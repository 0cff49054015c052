/* test_video.c: clips from the file to the batch, to a trained model, its file, and one sample as
 * JSON. */
#include "mmfuse/tool.h"
#include "train/training_data.h"

#include <math.h>

enum { CLIPS = 96, TRAIN_CLIPS = 64, FRAMES = 4, SIDE = 6, PIXELS = SIDE * SIDE };

static mmf_array clips_array(const uint8_t *data, int64_t n, int64_t t, int64_t c, int64_t side)
{
    return (mmf_array){.dtype = MMF_U8,
                       .n_dims = 5,
                       .shape = {n, t, c, side, side},
                       .item_bytes = 1,
                       .data = data};
}

static void near(double found, double wanted)
{
    if (!(fabs(found - wanted) <= 1e-5))
        fail_msg("expected %.8g, got %.8g", wanted, found);
}

/* Two clips of two frames of two channels of one pixel; the second frame of the second is padding.
 */
static void test_batch_by_hand(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const uint8_t pixels[] = {1, 10, 3, 20, 5, 60, 77, 99};
    static const int32_t length[] = {2, 1}, label[] = {0, 1};
    builder b = {.n = 0};
    put(&b, "clip", clips_array(pixels, 2, 2, 2, 1));
    put(&b, "clip.length", ints(length, 2, 0));
    put(&b, "label", ints(label, 2, 0));
    mmf_dataset *const ds = open_built(ctx, &b, NULL);
    const mmf_modality *const m = mmf_dataset_modality(ds, 0);
    assert_int_equal(m->kind, MMF_VIDEO);
    assert_string_equal(mmf_modality_kind_name(m->kind), "video");
    assert_int_equal(m->n_dims, 4);
    assert_int_equal(m->shape[0], 2);
    assert_int_equal(m->shape[1], 2);
    assert_true(m->has_length);
    mmf_normalisation norm;
    test_ok(ctx, mmf_normalisation_fit(ctx, &norm, ds, (int64_t[]){0, 1}, 2));
    assert_int_equal(norm.n_features[0], 2);
    near((double)norm.mean[0][0], 3);
    near((double)norm.scale[0][0], 1 / sqrt(8.0 / 3));
    near((double)norm.mean[0][1], 30);
    near((double)norm.scale[0][1], 1 / sqrt(1400.0 / 3));
    mmf_batch batch;
    test_ok(ctx, mmf_batch_create(ctx, &batch, ds, 2));
    test_ok(ctx, mmf_batch_fill(&batch, ds, &norm, (int64_t[]){1, 0}, 2));
    const double s = 1 / sqrt(8.0 / 3), u = 1 / sqrt(1400.0 / 3);
    const double wanted[] = {2 * s, 30 * u, 0, 0, -2 * s, -20 * u, 0, -10 * u};
    for (int i = 0; i < 8; i++)
        near((double)batch.inputs[0].values[i], wanted[i]);
    assert_int_equal(batch.inputs[0].length[0], 1);
    assert_int_equal(batch.inputs[0].length[1], 2);
    mmf_batch_clear(&batch);
    mmf_normalisation_clear(ctx, &norm);
    mmf_dataset_close(ds);
    static const int32_t too_long[] = {2, 3};
    put(&b, "clip.length", ints(too_long, 2, 0));
    must_fail(ctx, &b, NULL, MMF_FORMAT, "clip.length", "row 1", "3");
    const mmf_dataset_options o = options_of(NULL, "clip=sequence", NULL, NULL);
    must_fail(ctx, &b, &o, MMF_ARG, "clip", "a sequence has shape", "(2, 2, 2, 1, 1)");
    mmf_ctx_free(ctx);
}

/* Clips whose first or last valid frame is bright, which is their class; the other frames, two to
 * four in all, are dark. What stands behind a length is as bright. */
typedef struct order_data {
    uint8_t pixels[CLIPS * FRAMES * PIXELS];
    int32_t length[CLIPS], label[CLIPS];
} order_data;

static mmf_dataset *order_clips(mmf_ctx *ctx, order_data *d)
{
    mmf_rng rng = mmf_rng_make(1, mmf_rng_stream("clips"));
    for (int i = 0; i < CLIPS; i++) {
        d->label[i] = i % 2;
        d->length[i] = 2 + (int32_t)mmf_rng_below(&rng, FRAMES - 1);
        const int bright = d->label[i] ? d->length[i] - 1 : 0;
        for (int t = 0; t < FRAMES; t++) {
            for (int p = 0; p < PIXELS; p++)
                d->pixels[(i * FRAMES + t) * PIXELS + p] =
                    (uint8_t)((t == bright || t >= d->length[i] ? 180 : 20) +
                              mmf_rng_below(&rng, 40));
        }
    }
    builder b = {.n = 0};
    put(&b, "clip", clips_array(d->pixels, CLIPS, FRAMES, 1, SIDE));
    put(&b, "clip.length", ints(d->length, CLIPS, 0));
    put(&b, "label", ints(d->label, CLIPS, 0));
    return open_built(ctx, &b, NULL);
}

static mmf_model *learn(mmf_ctx *ctx, mmf_dataset *ds, const char *encoder)
{
    simple_split s;
    mmf_model *model = NULL;
    const mmf_train_options o = quick_options(25, 16);
    mmf_config *const config = quick_config(ctx, "only", 8, "0");
    test_ok(ctx, mmf_config_set(config, "encoder", encoder));
    test_ok(ctx, mmf_train(ctx, &model, ds, data_split(&s, TRAIN_CLIPS, CLIPS - TRAIN_CLIPS),
                           "only-clip", config, &o));
    mmf_config_free(config);
    return model;
}

static double accuracy(const double *p, const order_data *d)
{
    int n_right = 0;
    for (int i = TRAIN_CLIPS; i < CLIPS; i++)
        n_right += (p[2 * i + 1] > p[2 * i]) == d->label[i];
    return n_right / (double)(CLIPS - TRAIN_CLIPS);
}

/* Order is there for a GRU to see, and for no mean. */
static void test_order_of_frames(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    order_data *const d = test_calloc(1, sizeof *d);
    mmf_dataset *const ds = order_clips(ctx, d);
    static const struct {
        const char *encoder;
        double least, most;
    } rows[] = {{"clip=video:8:pool=gru", .95, 1},
                {"clip=video:8", .2, .8},
                {"clip=video:8:pool=max:frame=mlp", .2, .8}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mmf_model *const model = learn(ctx, ds, rows[i].encoder);
        double *const p = predict_all(ctx, model, ds, CLIPS);
        const double found = accuracy(p, d);
        if (found < rows[i].least || found > rows[i].most)
            fail_msg("%s: accuracy %.3f", rows[i].encoder, found);
        free(p);
        mmf_model_free(model);
    }
    mmf_dataset_close(ds);
    test_free(d);
    mmf_ctx_free(ctx);
}

/* The clip as nested arrays, only its valid frames. */
static void write_json(char *out, size_t size, const order_data *d, int i)
{
    size_t n = (size_t)snprintf(out, size, "{\"clip\": [");
    for (int t = 0; t < d->length[i]; t++) {
        n += (size_t)snprintf(out + n, size - n, "%s[[", t ? "," : "");
        for (int y = 0; y < SIDE; y++) {
            n += (size_t)snprintf(out + n, size - n, "%s[", y ? "," : "");
            for (int x = 0; x < SIDE; x++)
                n += (size_t)snprintf(out + n, size - n, "%s%d", x ? "," : "",
                                      d->pixels[((i * FRAMES + t) * SIDE + y) * SIDE + x]);
            n += (size_t)snprintf(out + n, size - n, "]");
        }
        n += (size_t)snprintf(out + n, size - n, "]]");
    }
    snprintf(out + n, size - n, "]}");
}

static void test_file_and_json(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    order_data *const d = test_calloc(1, sizeof *d);
    mmf_dataset *const ds = order_clips(ctx, d);
    mmf_model *const model = learn(ctx, ds, "clip=video:8:pool=gru");
    mmf_model *again = NULL;
    test_ok(ctx, mmf_model_save(model, test_path("clips.mmf")));
    test_ok(ctx, mmf_model_load(ctx, &again, test_path("clips.mmf")));
    assert_same_weights("video", model, again);
    double *const p = predict_all(ctx, model, ds, CLIPS);
    double *const q = predict_all(ctx, again, ds, CLIPS);
    assert_memory_equal(p, q, 2 * CLIPS * sizeof *p);
    static char json[20000];
    char id[32];
    for (int i = 0; i < 8; i++) {
        double one[2] = {0};
        write_json(json, sizeof json, d, i);
        test_ok(ctx, mmf_model_predict_json(again, json, strlen(json), one, id, sizeof id));
        near(one[0], p[2 * i]);
        near(one[1], p[2 * i + 1]);
    }
    static const char flat[] = "{\"clip\": [[[1, 2], [3, 4]]]}";
    double one[2];
    test_fails(ctx, mmf_model_predict_json(again, flat, sizeof flat - 1, one, id, sizeof id),
               MMF_ARG,
               "clip: expected a list of up to 4 frames, each a list of 1 channel, each a list "
               "of 6 rows, each a list of 6 numbers; clip[0] is a list of 2 lists");
    free(q);
    free(p);
    mmf_model_free(again);
    mmf_model_free(model);
    mmf_dataset_close(ds);
    test_free(d);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_by_hand),
        cmocka_unit_test(test_order_of_frames),
        cmocka_unit_test(test_file_and_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
