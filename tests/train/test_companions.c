/*
 * test_companions.c: boxes of regions and segments of texts, from a file to a model's inputs:
 * shared rows, lengths, model files, single samples, and what is wrong with them.
 */
#include <math.h>

#include "base/text.h"
#include "mmfuse/tool.h"
#include "train/training_data.h"

enum { N = 24, IMAGES = 6, R = 5, T = 4, BOX = 4 };

/* Questions about images that several of them share. */
typedef struct questions {
    float image[IMAGES * R * 3], box[IMAGES * R * BOX];
    int32_t words[N * T], segments[N * T], index[N], length[N], label[N];
    builder b;
} questions;

static questions *questions_make(void)
{
    questions *const q = calloc(1, sizeof *q);
    assert_non_null(q);
    mmf_rng rng = mmf_rng_make(1, mmf_rng_stream("questions"));
    for (int i = 0; i < IMAGES * R * 3; i++)
        q->image[i] = (float)mmf_rng_normal(&rng);
    for (int i = 0; i < IMAGES * R * BOX; i++)
        q->box[i] = (float)(mmf_rng_uniform(&rng) / 2 + (i % BOX > 1 ? 0.5 : 0));
    for (int i = 0; i < N; i++) {
        q->index[i] = (i * 7) % IMAGES;
        q->length[i] = 2 + i % (R - 1);
        q->label[i] = i % 2;
        for (int t = 0; t < T; t++) {
            q->words[i * T + t] = 1 + (int32_t)mmf_rng_below(&rng, 8);
            q->segments[i * T + t] = t > 1;
        }
    }
    put(&q->b, "image", floats(q->image, IMAGES, R, 3, 0));
    put(&q->b, "image.box", floats(q->box, IMAGES, R, BOX, 0));
    put(&q->b, "image.index", ints(q->index, N, 0));
    put(&q->b, "image.length", ints(q->length, N, 0));
    put(&q->b, "words", ints(q->words, N, T));
    put(&q->b, "words.segments", ints(q->segments, N, T));
    put(&q->b, "label", ints(q->label, N, 0));
    return q;
}

static mmf_dataset_options tokens_too(void)
{
    return options_of(NULL, "words=tokens", NULL, NULL);
}

/* ---- Batches ----------------------------------------------------------------------------- */

static void a_batch_brings_what_was_asked_for(void **state)
{
    (void)state;
    static const int64_t rows[] = {3, 17};
    mmf_ctx *const ctx = test_ctx();
    questions *const q = questions_make();
    mmf_batch batch = {0};
    const mmf_dataset_options o = tokens_too();
    mmf_dataset *const ds = open_built(ctx, &q->b, &o);
    const size_t image = (size_t)mmf_dataset_find(ds, "image"),
                 words = (size_t)mmf_dataset_find(ds, "words");
    assert_int_equal(mmf_dataset_modality(ds, image)->companions[MMF_COMPANION_BOX], BOX);
    assert_int_equal(mmf_dataset_modality(ds, words)->companions[MMF_COMPANION_SEGMENTS], 1);
    assert_null(mmf_dataset_note(ds, 0));
    test_ok(ctx, mmf_batch_create(ctx, &batch, ds, 2));
    test_ok(ctx, mmf_batch_fill(&batch, ds, NULL, rows, 2));
    assert_null(batch.inputs[image].companions[MMF_COMPANION_BOX]);
    test_ok(ctx, mmf_batch_want_companions(&batch, ds, image, (int64_t[]){BOX, 0, 0}));
    test_ok(ctx, mmf_batch_want_companions(&batch, ds, words, (int64_t[]){BOX, 1, 0}));
    test_ok(ctx, mmf_batch_track_presence(&batch));
    test_ok(ctx, mmf_batch_fill(&batch, ds, NULL, rows, 2));
    assert_null(batch.inputs[words].companions[MMF_COMPANION_BOX]);
    for (int b = 0; b < 2; b++) {
        const float *const box = batch.inputs[image].companions[MMF_COMPANION_BOX] + b * R * BOX;
        for (int i = 0; i < R * BOX; i++) {
            const bool behind = i / BOX >= q->length[rows[b]];
            const float stored = q->box[q->index[rows[b]] * R * BOX + i];
            assert_true(box[i] == (behind ? 0 : stored));
        }
        for (int t = 0; t < T; t++)
            assert_true(batch.inputs[words].companions[MMF_COMPANION_SEGMENTS][b * T + t] ==
                        (float)(t > 1));
    }
    mmf_batch_drop(&batch, ds, image, 1);
    for (int i = 0; i < R * BOX; i++)
        assert_true(batch.inputs[image].companions[MMF_COMPANION_BOX][R * BOX + i] == 0);
    mmf_batch_clear(&batch);
    mmf_dataset_close(ds);
    free(q);
    mmf_ctx_free(ctx);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    questions *const q = questions_make();
    const mmf_dataset_options o = tokens_too();
    mmf_dataset *ds = NULL;
    put(&q->b, "image.box", floats(q->box, IMAGES, R - 1, BOX, 0));
    test_fails(ctx, try_open(ctx, &ds, &q->b, &o), MMF_FORMAT, "\"image.box\": expected numbers");
    put(&q->b, "image.box", floats(q->box, IMAGES - 1, R, BOX, 0));
    test_fails(ctx, try_open(ctx, &ds, &q->b, &o), MMF_FORMAT, "found float32 of shape (5, 5, 4)");
    put(&q->b, "image.box", floats(q->box, IMAGES, R, BOX, 0));
    q->segments[5 * T + 1] = -1;
    test_fails(ctx, try_open(ctx, &ds, &q->b, &o), MMF_FORMAT,
               "\"words.segments\", row 5: step 1 holds -1");
    q->segments[5 * T + 1] = 0;
    q->box[2] = NAN;
    mmf_batch batch = {0};
    ds = open_built(ctx, &q->b, &o);
    const size_t image = (size_t)mmf_dataset_find(ds, "image");
    test_ok(ctx, mmf_batch_create(ctx, &batch, ds, N));
    test_ok(ctx, mmf_batch_want_companions(&batch, ds, image, (int64_t[]){BOX, 0, 0}));
    int64_t row = 0;
    while (q->index[row] != 0)
        row++;
    test_fails(ctx, mmf_batch_fill(&batch, ds, NULL, &row, 1), MMF_NUMERIC, "\"image.box\"");
    mmf_batch_clear(&batch);
    mmf_dataset_close(ds);
    free(q);
    mmf_ctx_free(ctx);
}

/* ---- Models ------------------------------------------------------------------------------ */

static void add_numbers(mmf_text *text, const char *name, const float *values, int steps, int width)
{
    mmf_text_add(text, "%s\"%s\": [", text->length > 1 ? ", " : "", name);
    for (int t = 0; t < steps; t++) {
        mmf_text_add(text, "%s%s", t ? ", " : "", width > 0 ? "[" : "");
        for (int i = 0; i < (width > 0 ? width : 1); i++)
            mmf_text_add(text, "%s%.9g", i ? ", " : "",
                         (double)values[t * (width > 0 ? width : 1) + i]);
        mmf_text_add(text, "%s", width > 0 ? "]" : "");
    }
    mmf_text_add(text, "]");
}

/* Row 0 of the data as a JSON object, without one key. */
static char *sample_json(mmf_ctx *ctx, const questions *q, const char *without)
{
    mmf_text text = {.ctx = ctx};
    float words[T], segments[T];
    for (int t = 0; t < T; t++) {
        words[t] = (float)q->words[t];
        segments[t] = (float)q->segments[t];
    }
    const int at = q->index[0] * R;
    mmf_text_add(&text, "{");
    add_numbers(&text, "image", q->image + (size_t)(at * 3), q->length[0], 3);
    if (strcmp(without, "image.box") != 0)
        add_numbers(&text, "image.box", q->box + (size_t)(at * BOX), q->length[0], BOX);
    add_numbers(&text, "words", words, T, 0);
    if (strcmp(without, "words.segments") != 0)
        add_numbers(&text, "words.segments", segments, T, 0);
    mmf_text_add(&text, "}");
    test_ok(ctx, text.status);
    return text.data;
}

/* Trains, saves, loads; predicts rows and a single sample; then without what it was trained with.
 */
static void check_model(mmf_ctx *ctx, questions *q, const char *name, const char *json,
                        const char *companion, const char *other)
{
    const mmf_dataset_options o = tokens_too();
    mmf_dataset *ds = open_built(ctx, &q->b, &o);
    const mmf_train_options options = quick_options(2, 8);
    mmf_config *const config = quick_config(ctx, name, 8, "0");
    simple_split split;
    mmf_model *model = NULL, *loaded = NULL;
    double rows[N][2], again[N][2], alone[2];
    int64_t order[N];
    char id[64];
    for (int64_t i = 0; i < N; i++)
        order[i] = i;
    test_ok(ctx, mmf_config_set_json(config, json));
    test_ok(ctx, mmf_train(ctx, &model, ds, data_split(&split, 18, 6), name, config, &options));
    test_ok(ctx, mmf_model_predict_rows(model, ds, order, N, MMF_ALL_MODALITIES, rows[0]));
    test_ok(ctx, mmf_model_save(model, test_path("companions.mmf")));
    test_ok(ctx, mmf_model_load(ctx, &loaded, test_path("companions.mmf")));
    mmf_dataset_close(ds);
    test_ok(ctx, mmf_model_open_data(ctx, &ds, loaded, write_file(ctx, &q->b), NULL));
    test_ok(ctx, mmf_model_predict_rows(loaded, ds, order, N, MMF_ALL_MODALITIES, again[0]));
    assert_memory_equal(rows, again, sizeof again);
    mmf_dataset_close(ds);
    char *sample = sample_json(ctx, q, other);
    test_ok(ctx, mmf_model_predict_json(loaded, sample, strlen(sample), alone, id, sizeof id));
    assert_true(fabs(alone[0] - rows[0][0]) < 1e-5);
    mmf_free(ctx, sample);
    sample = sample_json(ctx, q, companion);
    test_fails(ctx, mmf_model_predict_json(loaded, sample, strlen(sample), alone, id, sizeof id),
               MMF_ARG, "");
    mmf_free(ctx, sample);
    mmf_model_free(loaded);
    mmf_model_free(model);
    mmf_config_free(config);
}

static void models_read_and_keep_them(void **state)
{
    (void)state;
    static const struct {
        const char *model, *json, *companion, *other;
    } cases[] = {{"ban", "{\"objects\": 2}", "image.box", "words.segments"},
                 {"bert-lstm", "{}", "words.segments", "image.box"}};
    mmf_ctx *const ctx = one_thread();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        questions *const q = questions_make();
        check_model(ctx, q, cases[i].model, cases[i].json, cases[i].companion, cases[i].other);
        /* Data that lack it do not fit the model any more. */
        mmf_model *model = NULL;
        mmf_dataset *ds = NULL;
        size_t at = 0;
        while (strcmp(q->b.arrays[at].name, cases[i].companion) != 0)
            at++;
        q->b.arrays[at] = q->b.arrays[--q->b.n];
        test_ok(ctx, mmf_model_load(ctx, &model, test_path("companions.mmf")));
        test_fails(ctx, mmf_model_open_data(ctx, &ds, model, write_file(ctx, &q->b), NULL), MMF_ARG,
                   "has 0 numbers a step");
        mmf_model_free(model);
        free(q);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_brings_what_was_asked_for),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(models_read_and_keep_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
