/*
 * test_padding.c: a model reads files whose sequences are padded to another number of steps than
 * those of its training; predictions are the same to the bit.
 */
#include "mmfuse/tool.h"
#include "train/training_data.h"

enum { ROWS = 36, STEPS = 6, SHORTEST = 4, LONGEST = 9, WIDTH = 2, WORDS = 7 };

typedef enum length_kind { VARIED, EQUAL, UNTOLD } length_kind;

/* The same samples of `true_steps` steps, or up to as many, in rows of `steps`. */
static const char *write_padded(mmf_ctx *ctx, int64_t steps, int64_t true_steps,
                                length_kind lengths)
{
    static float values[ROWS * LONGEST * WIDTH], boxes[ROWS * LONGEST * WIDTH];
    static int32_t words[ROWS * LONGEST], length[ROWS], label[ROWS];
    builder b = {0};
    memset(values, 0, sizeof values);
    memset(boxes, 0, sizeof boxes);
    memset(words, 0, sizeof words);
    for (int64_t i = 0; i < ROWS; i++) {
        mmf_rng rng = mmf_rng_make(8, (uint64_t)i);
        length[i] = (int32_t)(lengths == VARIED ? 1 + i % true_steps : true_steps);
        label[i] = (int32_t)mmf_rng_below(&rng, 2);
        for (int64_t t = 0; t < length[i]; t++) {
            words[i * steps + t] = 1 + (int32_t)mmf_rng_below(&rng, WORDS - 1);
            for (int64_t d = 0; d < WIDTH; d++) {
                const int64_t at = (i * steps + t) * WIDTH + d;
                values[at] = (float)(mmf_rng_normal(&rng) + label[i]);
                boxes[at] = (float)mmf_rng_uniform(&rng);
            }
        }
    }
    put(&b, "signal", floats(values, ROWS, steps, WIDTH, 0));
    put(&b, "signal.box", floats(boxes, ROWS, steps, WIDTH, 0));
    put(&b, "words", numbers(MMF_I32, words, ROWS, steps, 0, 0));
    if (lengths != UNTOLD)
        put(&b, "signal.length", ints(length, ROWS, 0));
    put(&b, "label", ints(label, ROWS, 0));
    return write_file(ctx, &b);
}

static mmf_model *trained_model(mmf_ctx *ctx, const char *path, const char *name)
{
    mmf_dataset *dataset = NULL;
    mmf_model *model = NULL;
    mmf_config *const config = quick_config(ctx, name, 8, "0");
    const mmf_train_options options = quick_options(2, 10);
    const mmf_dataset_options reading = options_of(NULL, "words=tokens", NULL, NULL);
    simple_split s;
    test_ok(ctx, mmf_dataset_open(ctx, &dataset, path, &reading));
    test_ok(ctx, mmf_train(ctx, &model, dataset, data_split(&s, 28, 8), name, config, &options));
    mmf_config_free(config);
    mmf_dataset_close(dataset);
    return model;
}

static void padding_may_have_any_length(void **state)
{
    (void)state;
    static const char *const names[] = {"joint-concat", "mcan", "mult", "butd"};
    static const int64_t widths[] = {SHORTEST, LONGEST};
    mmf_ctx *const ctx = one_thread();
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        mmf_model *const model =
            trained_model(ctx, write_padded(ctx, STEPS, STEPS, VARIED), names[k]);
        double *const wanted =
            predict_file(ctx, model, write_padded(ctx, STEPS, SHORTEST, VARIED), ROWS);
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            double *const got =
                predict_file(ctx, model, write_padded(ctx, widths[w], SHORTEST, VARIED), ROWS);
            assert_memory_equal(got, wanted, ROWS * 2 * sizeof *got);
            free(got);
        }
        free(wanted);
        mmf_model_free(model);
    }
    mmf_ctx_free(ctx);
}

/* Without lengths every step of a shorter file counts. */
static void shorter_files_need_no_lengths(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_model *const model =
        trained_model(ctx, write_padded(ctx, STEPS, STEPS, VARIED), "joint-concat");
    double *const wanted =
        predict_file(ctx, model, write_padded(ctx, STEPS, SHORTEST, EQUAL), ROWS);
    double *const got =
        predict_file(ctx, model, write_padded(ctx, SHORTEST, SHORTEST, UNTOLD), ROWS);
    assert_memory_equal(got, wanted, ROWS * 2 * sizeof *got);
    free(got);
    free(wanted);
    mmf_model_free(model);
    mmf_ctx_free(ctx);
}

static void what_is_no_padding_is_refused(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *dataset = NULL;
    mmf_model *model = trained_model(ctx, write_padded(ctx, STEPS, STEPS, VARIED), "joint-concat");
    test_fails(ctx,
               mmf_model_open_data(ctx, &dataset, model,
                                   write_padded(ctx, LONGEST, LONGEST, VARIED), NULL),
               MMF_ARG, "\"signal\", row 6: 7 steps, but the model was trained on at most 6");
    mmf_model_free(model);
    /* A model without lengths takes padding for values. */
    model = trained_model(ctx, write_padded(ctx, STEPS, STEPS, UNTOLD), "joint-concat");
    test_fails(ctx,
               mmf_model_open_data(ctx, &dataset, model,
                                   write_padded(ctx, SHORTEST, SHORTEST, UNTOLD), NULL),
               MMF_ARG, "signal is a sequence of shape (4, 2) a sample");
    mmf_model_free(model);
    mmf_ctx_free(ctx);
}

/* One sample of fewer steps: taken where padding is known, refused where zeros would be values. */
static void a_shorter_sample(void **state)
{
    (void)state;
    static const char json[] = "{\"signal\": [[0, 1], [1, 0], [2, 1]], \"words\": [1, 2]}";
    static const float values[STEPS * WIDTH] = {0, 1, 1, 0, 2, 1};
    static const int64_t words[STEPS] = {1, 2};
    mmf_sample samples[] = {{.values = values, .length = 3}, {.tokens = words, .length = 2}};
    double out[2];
    char id[8];
    mmf_ctx *const ctx = one_thread();
    mmf_model *model = trained_model(ctx, write_padded(ctx, STEPS, STEPS, VARIED), "joint-concat");
    test_ok(ctx, mmf_model_predict_json(model, json, strlen(json), out, id, sizeof id));
    test_ok(ctx, mmf_model_predict(model, samples, out));
    mmf_model_free(model);
    model = trained_model(ctx, write_padded(ctx, STEPS, STEPS, UNTOLD), "joint-concat");
    test_fails(ctx, mmf_model_predict_json(model, json, strlen(json), out, id, sizeof id), MMF_ARG,
               "signal: expected a list of 6 steps, each a list of 2 numbers; it is a list of 3");
    test_fails(ctx, mmf_model_predict(model, samples, out), MMF_ARG,
               "signal: 3 steps, the model takes 6: it was trained without lengths");
    samples[0].length = 0;
    test_ok(ctx, mmf_model_predict(model, samples, out));
    mmf_model_free(model);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(padding_may_have_any_length),
        cmocka_unit_test(shorter_files_need_no_lengths),
        cmocka_unit_test(what_is_no_padding_is_refused),
        cmocka_unit_test(a_shorter_sample),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
