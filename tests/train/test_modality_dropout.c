/*
 * test_modality_dropout.c: what training leaves out: how often, never everything, never what a
 * sample does not have, the same again for the same seed; and what is refused.
 */
#include <math.h>

#include "train/trainer.h"
#include "train/training_data.h"

enum { N_ROWS = 160, N_MODALITIES = 3, N_ROUNDS = 60 };

static const size_t places[] = {0, 1, 2};

/* A filled batch of the trio from which modalities were left out. */
static void drop(mmf_batch *batch, mmf_dataset *dataset, double rate, uint64_t stream)
{
    int64_t rows[N_ROWS];
    for (int64_t i = 0; i < N_ROWS; i++)
        rows[i] = i;
    mmf_rng rng = mmf_rng_make(7, stream);
    assert_int_equal(mmf_batch_fill(batch, dataset, NULL, rows, N_ROWS), MMF_OK);
    mmf_modality_dropout(batch, dataset, places, N_MODALITIES, rate, &rng);
}

static mmf_batch tracking(mmf_ctx *ctx, const mmf_dataset *dataset)
{
    mmf_batch batch;
    test_ok(ctx, mmf_batch_create(ctx, &batch, dataset, N_ROWS));
    test_ok(ctx, mmf_batch_track_presence(&batch));
    return batch;
}

static void one_modality_always_stays(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    const data_spec spec = {DATA_TRIO, N_ROWS, false, false, 0, 6};
    mmf_dataset *const dataset = data_open(ctx, &spec, "drop.npz");
    mmf_batch batch = tracking(ctx, dataset);
    static const double rates[] = {0.2, 0.5, 0.9};
    for (size_t r = 0; r < 3; r++) {
        int64_t kept[N_MODALITIES] = {0};
        for (uint64_t round = 0; round < N_ROUNDS; round++) {
            drop(&batch, dataset, rates[r], round);
            for (int64_t i = 0; i < N_ROWS; i++) {
                float there = 0;
                for (size_t m = 0; m < N_MODALITIES; m++) {
                    there += batch.inputs[m].present[i];
                    kept[m] += batch.inputs[m].present[i] != 0;
                }
                assert_true(there >= 1);
            }
        }
        /* 1 - p + p^M / M, within five deviations of the mean of 9600 draws. */
        const double wanted = 1 - rates[r] + pow(rates[r], 3) / 3;
        const double n = N_ROWS * N_ROUNDS, width = 5 * sqrt(wanted * (1 - wanted) / n);
        for (size_t m = 0; m < N_MODALITIES; m++)
            assert_true(fabs((double)kept[m] / n - wanted) < width);
    }
    mmf_batch_clear(&batch);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

/* What is left out looks like what the data lack; the rest is as it was. */
static void what_is_left_out_is_absent(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    const data_spec spec = {DATA_TRIO, N_ROWS, false, true, 0, 6};
    mmf_dataset *const dataset = data_open(ctx, &spec, "drop.npz");
    mmf_batch batch = tracking(ctx, dataset), whole = tracking(ctx, dataset),
              again = tracking(ctx, dataset);
    drop(&batch, dataset, 0.5, 3);
    drop(&again, dataset, 0.5, 3);
    drop(&whole, dataset, 0, 3);
    for (size_t m = 0; m < N_MODALITIES; m++) {
        const mmf_modality *const modality = mmf_dataset_modality(dataset, m);
        const size_t row = (size_t)(modality->shape[0] * modality->shape[1]);
        for (size_t i = 0; i < N_ROWS; i++) {
            const mmf_batch_input *const in = &batch.inputs[m], *const was = &whole.inputs[m];
            assert_true(in->present[i] <= was->present[i]);
            assert_true(in->present[i] == again.inputs[m].present[i]);
            if (in->present[i] != 0) {
                assert_memory_equal(in->values + i * row, was->values + i * row,
                                    row * sizeof(float));
                continue;
            }
            assert_int_equal(in->length[i], 1);
            for (size_t e = 0; e < row; e++)
                assert_true(in->values[i * row + e] == 0);
        }
    }
    mmf_batch_clear(&batch);
    mmf_batch_clear(&again);
    mmf_batch_clear(&whole);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

static void the_rate_rises_and_stays(void **state)
{
    (void)state;
    mmf_train_options o = MMF_TRAIN_OPTIONS_INIT;
    o.modality_dropout = 0.4;
    assert_true(mmf_modality_dropout_rate(&o, 0, 10) == 0.4);
    o.modality_dropout_rise = 3;
    double last = 0;
    for (int64_t step = 0; step < 30; step++) {
        const double rate = mmf_modality_dropout_rate(&o, step, 10);
        assert_true(rate > last && rate < 0.4);
        last = rate;
    }
    assert_true(mmf_modality_dropout_rate(&o, 30, 10) == 0.4);
}

static mmf_model *fit(mmf_ctx *ctx, mmf_dataset *dataset, double rate)
{
    mmf_train_options o = quick_options(2, 16);
    mmf_config *const config = quick_config(ctx, "joint-concat", 6, "0");
    mmf_model *model = NULL;
    simple_split s;
    o.modality_dropout = rate;
    test_ok(ctx,
            mmf_train(ctx, &model, dataset, data_split(&s, 120, 40), "joint-concat", config, &o));
    mmf_config_free(config);
    return model;
}

/* A model for data that are always whole learns stand-ins, and its record says at what rate. */
static void a_model_learns_to_do_without(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    const data_spec spec = {DATA_TRIO, N_ROWS, false, false, 0, 6};
    mmf_dataset *const dataset = data_open(ctx, &spec, "drop.npz");
    mmf_model *const plain = fit(ctx, dataset, 0), *const model = fit(ctx, dataset, 0.4);
    const mmf_params *const params = mmf_module_params(mmf_model_module(model));
    const mmf_param *const absent = mmf_params_find(params, "audio.absent");
    assert_null(mmf_params_find(mmf_module_params(mmf_model_module(plain)), "audio.absent"));
    assert_non_null(absent);
    double size = 0;
    for (int64_t i = 0; i < absent->tensor->count; i++)
        size += fabs((double)absent->tensor->data[i]);
    assert_true(size > 0);
    assert_non_null(strstr(mmf_model_record(model), "\"modality_dropout\": 0.4"));
    mmf_model_free(plain);
    mmf_model_free(model);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

static void probabilities_are_below_one(void **state)
{
    (void)state;
    static const double rates[] = {1, -0.1, NAN};
    mmf_ctx *const ctx = one_thread();
    const data_spec spec = {DATA_TRIO, N_ROWS, false, false, 0, 6};
    mmf_dataset *const dataset = data_open(ctx, &spec, "drop.npz");
    for (size_t i = 0; i < 3; i++) {
        mmf_train_options o = quick_options(1, 16);
        mmf_model *model = NULL;
        simple_split s;
        o.modality_dropout = rates[i];
        test_fails(
            ctx, mmf_train(ctx, &model, dataset, data_split(&s, 120, 40), "joint-concat", NULL, &o),
            MMF_ARG, "modality dropout");
    }
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_modality_always_stays),
        cmocka_unit_test(what_is_left_out_is_absent),
        cmocka_unit_test(the_rate_rises_and_stays),
        cmocka_unit_test(a_model_learns_to_do_without),
        cmocka_unit_test(probabilities_are_below_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
