/*
 * test_target_scale.c: targets far from zero and of a large spread are learned by every model of
 * real values, as by themselves: models see them standardised, and what is fitted behind a model
 * sees the model's own numbers.
 */
#include <math.h>

#include "train/training_data.h"

enum { ROWS = 120, TRAIN = 72, VALID = 24, EPOCHS = 40 };

#define FAR 1000.0
#define WIDE 50.0

static mmf_dataset *open_far(mmf_ctx *ctx)
{
    static const data_part parts[] = {{"a", 1, {5}, false}, {"b", 1, {4}, false}};
    static float values[2][ROWS * 5], targets[ROWS];
    mmf_dataset *dataset = NULL;
    builder b = {0};
    mmf_rng rng = mmf_rng_make(4, 0);
    for (int64_t i = 0; i < ROWS; i++) {
        const double y = mmf_rng_normal(&rng);
        targets[i] = (float)(FAR + WIDE * y);
        for (int m = 0; m < 2; m++) {
            for (int64_t d = 0; d < parts[m].shape[0]; d++)
                values[m][i * parts[m].shape[0] + d] =
                    (float)((d % 2 ? -0.5 : 1) * y + 0.3 * mmf_rng_normal(&rng));
        }
    }
    for (int m = 0; m < 2; m++)
        put(&b, parts[m].name, floats(values[m], ROWS, parts[m].shape[0], 0, 0));
    put(&b, "label", floats(targets, ROWS, 0, 0, 0));
    const mmf_dataset_options options = options_of(NULL, NULL, NULL, "regression");
    test_ok(ctx, mmf_dataset_open(ctx, &dataset, write_file(ctx, &b), &options));
    return dataset;
}

/* Root of the mean squared error on rows that training did not see, in deviations of the target. */
static double error_of(mmf_ctx *ctx, mmf_model *model, const mmf_dataset *dataset)
{
    double square = 0;
    double *const y = predict_all(ctx, model, (mmf_dataset *)(uintptr_t)dataset, ROWS);
    for (int64_t i = TRAIN + VALID; i < ROWS; i++) {
        double target = 0;
        mmf_dataset_target(dataset, i, &target);
        square += (y[i] - target) * (y[i] - target) / (ROWS - TRAIN - VALID);
    }
    free(y);
    return sqrt(square) / WIDE;
}

static double learned_at(double lr, const char *name, bool refit)
{
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *const dataset = open_far(ctx);
    mmf_config *const config = quick_config(ctx, name, 32, "0");
    mmf_model *model = NULL;
    simple_split s;
    mmf_train_options options = quick_options(TEST_SAMPLE ? 1 : EPOCHS, 12);
    options.refit = refit;
    options.optimizer.lr = lr;
    test_ok(ctx,
            mmf_train(ctx, &model, dataset, data_split(&s, TRAIN, VALID), name, config, &options));
    const double error = error_of(ctx, model, dataset);
    mmf_model_free(model);
    mmf_config_free(config);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
    return error;
}

/* Some models diverge at the rate that suits most. One modality alone leaves .2, a constant 1. */
static void learn(const char *name, const data_spec *spec, void *user)
{
    (void)spec;
    const bool *const refit = user;
    double error = learned_at(3e-3, name, *refit);
    error = error < 0.5 ? error : learned_at(5e-4, name, *refit);
    if (!TEST_SAMPLE && !(error < 0.5))
        fail_msg("%s: error of %.2f deviations", name, error);
}

static void every_model_learns_far_targets(void **state)
{
    (void)state;
    const data_spec spec = {.kind = DATA_VECTORS, .n_rows = ROWS, .regression = true};
    for (int refit = 0; refit < 2; refit++)
        each_model(&spec, learn, &(bool){refit == 1});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model_learns_far_targets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
