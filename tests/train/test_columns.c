/*
 * test_columns.c: a model reads other files with the names of its training data in mind: features
 * in another order are brought into its own, those that are not there are named, tokens that
 * another vocabulary numbers are refused.
 */
#include <math.h>

#include "train/training_data.h"

enum { ROWS = 40, WIDTH = 3, LENGTH = 4, WORDS = 5 };

static const char in_order[][8] = {"age", "height", "weight"};
static const char words[][8] = {"", "no", "so", "yes", "ja"};

/* A file with the columns in the order of `places`, under these names, and this vocabulary. */
static const char *write_columns(mmf_ctx *ctx, const int *places, const char (*names)[8],
                                 const char (*vocab)[8], int64_t n_vocab)
{
    static float values[ROWS * WIDTH];
    static int32_t tokens[ROWS * LENGTH], label[ROWS];
    builder b = {0};
    mmf_rng rng = mmf_rng_make(6, 0);
    for (int64_t i = 0; i < ROWS; i++) {
        double x[WIDTH];
        label[i] = (int32_t)mmf_rng_below(&rng, 2);
        for (int d = 0; d < WIDTH; d++)
            x[d] = mmf_rng_normal(&rng) + (d == 0 ? 3 * label[i] : 0);
        for (int d = 0; d < WIDTH; d++)
            values[i * WIDTH + d] = (float)x[places[d]];
        for (int t = 0; t < LENGTH; t++)
            tokens[i * LENGTH + t] = 1 + (int32_t)mmf_rng_below(&rng, WORDS - 1);
    }
    put(&b, "table", floats(values, ROWS, WIDTH, 0, 0));
    put(&b, "table.names", texts(names, WIDTH));
    put(&b, "words", numbers(MMF_I32, tokens, ROWS, LENGTH, 0, 0));
    put(&b, "words.vocab", texts(vocab, n_vocab));
    put(&b, "label", ints(label, ROWS, 0));
    return write_file(ctx, &b);
}

static const int straight[] = {0, 1, 2}, turned[] = {2, 0, 1};

static mmf_model *trained_model(mmf_ctx *ctx)
{
    mmf_dataset *dataset = NULL;
    mmf_model *model = NULL;
    mmf_config *const config = quick_config(ctx, "joint-concat", 8, "0");
    const mmf_train_options options = quick_options(3, 10);
    simple_split s;
    test_ok(ctx, mmf_dataset_open(ctx, &dataset,
                                  write_columns(ctx, straight, in_order, words, WORDS), NULL));
    test_ok(ctx, mmf_train(ctx, &model, dataset, data_split(&s, 30, 10), "joint-concat", config,
                           &options));
    mmf_config_free(config);
    mmf_dataset_close(dataset);
    return model;
}

static void features_go_by_their_names(void **state)
{
    (void)state;
    static const char other_order[][8] = {"weight", "age", "height"};
    static const char other_names[][8] = {"age", "size", "weight"};
    mmf_ctx *const ctx = one_thread();
    mmf_model *const model = trained_model(ctx);
    double *const wanted =
        predict_file(ctx, model, write_columns(ctx, straight, in_order, words, WORDS), ROWS);
    double *const got =
        predict_file(ctx, model, write_columns(ctx, turned, other_order, words, WORDS), ROWS);
    assert_memory_equal(got, wanted, ROWS * 2 * sizeof *got);
    mmf_dataset *dataset = NULL;
    test_fails(ctx,
               mmf_model_open_data(ctx, &dataset, model,
                                   write_columns(ctx, straight, other_names, words, WORDS), NULL),
               MMF_ARG, "there is no column \"height\", which the model was trained on");
    free(wanted);
    free(got);
    mmf_model_free(model);
    mmf_ctx_free(ctx);
}

static void tokens_keep_their_vocabulary(void **state)
{
    (void)state;
    static const char turned_round[][8] = {"", "yes", "so", "no", "ja"};
    mmf_ctx *const ctx = one_thread();
    mmf_model *const model = trained_model(ctx);
    mmf_dataset *dataset = NULL;
    test_fails(ctx,
               mmf_model_open_data(ctx, &dataset, model,
                                   write_columns(ctx, straight, in_order, turned_round, WORDS),
                                   NULL),
               MMF_ARG, "words.vocab is not that of training");
    mmf_model_free(model);
    mmf_ctx_free(ctx);
}

static void names_that_cannot_be_told_apart_are_refused(void **state)
{
    (void)state;
    static const char classes[][8] = {"a", "b", "a"};
    static const int32_t label[] = {0, 1, 2, 1};
    static const float values[] = {1, 2, 3, 4};
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *dataset = NULL;
    builder b = {0};
    put(&b, "x", floats(values, 4, 1, 0, 0));
    put(&b, "label", ints(label, 4, 0));
    put(&b, "label.names", texts(classes, 3));
    test_fails(ctx, mmf_dataset_open(ctx, &dataset, write_file(ctx, &b), NULL), MMF_FORMAT,
               "two classes are called \"a\"");
    builder c = {0};
    put(&c, "x,y", floats(values, 4, 1, 0, 0));
    put(&c, "label", ints(label, 4, 0));
    test_fails(ctx, mmf_dataset_open(ctx, &dataset, write_file(ctx, &c), NULL), MMF_FORMAT,
               "no comma or slash in its name");
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(features_go_by_their_names),
        cmocka_unit_test(tokens_keep_their_vocabulary),
        cmocka_unit_test(names_that_cannot_be_told_apart_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
