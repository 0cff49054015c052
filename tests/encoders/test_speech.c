/* test_speech.c: SpecAugment masks what it says, and encoders over recordings of their own lengths.
 */
#include <stdlib.h>

#include "mmfuse/model.h"
#include "support.h"

enum { ROWS = 64, STEPS = 40, WIDTH = 16 };

typedef struct augment_test {
    mmf_ctx *ctx;
    mmf_tape *tape;
    mmf_real x[ROWS * STEPS * WIDTH];
    int64_t length[ROWS];
    mmf_augment_options options;
} augment_test;

static augment_test *open_test(void)
{
    augment_test *const t = test_calloc(1, sizeof *t);
    t->ctx = test_ctx();
    test_ok(t->ctx, mmf_tape_create(t->ctx, &t->tape));
    for (int64_t i = 0; i < ROWS * STEPS * WIDTH; i++)
        t->x[i] = (mmf_real)(1 + i % 7);
    for (int64_t b = 0; b < ROWS; b++)
        t->length[b] = 5 + b % (STEPS - 4);
    return t;
}

static void close_test(augment_test *t)
{
    mmf_ctx *const ctx = t->ctx;
    mmf_tape_free(t->tape);
    test_free(t);
    mmf_ctx_free(ctx);
}

static const mmf_tensor *augmented(augment_test *t, uint64_t seed, uint64_t step, bool training)
{
    mmf_tape_begin(t->tape, &(mmf_pass){.training = training, .seed = seed, .step = step});
    mmf_tensor *const x = mmf_input(t->tape, t->x, 3, (int64_t[]){ROWS, STEPS, WIDTH});
    mmf_tensor *const length = mmf_input_ints(t->tape, t->length, 1, (int64_t[]){ROWS});
    const mmf_tensor *const y = mmf_spec_augment(t->tape, x, length, &t->options);
    test_ok(t->ctx, mmf_tape_status(t->tape));
    return y;
}

/* Whole columns within the length, or whole rows, that are zero; everything else is as it was. */
static void count_masks(const augment_test *t, const mmf_tensor *y, int64_t b, int64_t *n_columns,
                        int64_t *n_rows)
{
    const mmf_real *const row = y->data + b * STEPS * WIDTH;
    bool column[WIDTH], whole[STEPS];
    *n_columns = *n_rows = 0;
    for (int64_t k = 0; k < WIDTH; k++) {
        column[k] = true;
        for (int64_t s = 0; s < t->length[b]; s++)
            column[k] = column[k] && row[s * WIDTH + k] == 0;
        *n_columns += column[k];
    }
    for (int64_t s = 0; s < STEPS; s++) {
        whole[s] = true;
        for (int64_t k = 0; k < WIDTH; k++)
            whole[s] = whole[s] && row[s * WIDTH + k] == 0;
        *n_rows += whole[s];
    }
    for (int64_t s = 0; s < STEPS; s++) {
        for (int64_t k = 0; k < WIDTH; k++) {
            const bool masked = whole[s] || (column[k] && s < t->length[b]);
            const mmf_real original = t->x[(b * STEPS + s) * WIDTH + k];
            assert_true(row[s * WIDTH + k] == (masked ? 0 : original));
        }
    }
}

static void test_masks_of_features(void **state)
{
    (void)state;
    augment_test *const t = open_test();
    t->options = (mmf_augment_options){.n_feature_masks = 1, .feature_span = 6, .time_share = 1};
    const mmf_tensor *const y = augmented(t, 3, 5, true);
    int64_t seen[7] = {0};
    for (int64_t b = 0; b < ROWS; b++) {
        int64_t n_columns = 0, n_rows = 0;
        count_masks(t, y, b, &n_columns, &n_rows);
        assert_int_equal(n_rows, 0);
        assert_in_range(n_columns, 0, 6);
        seen[n_columns]++;
    }
    /* Widths are uniform over 0 to 6: sixty-four rows meet each of them. */
    for (int64_t w = 0; w <= 6; w++)
        assert_in_range(seen[w], 1, ROWS / 3);
    close_test(t);
}

static void test_masks_of_time(void **state)
{
    (void)state;
    augment_test *const t = open_test();
    t->options = (mmf_augment_options){.n_time_masks = 2, .time_span = 10, .time_share = .25};
    const mmf_tensor *const y = augmented(t, 3, 5, true);
    int64_t total = 0;
    for (int64_t b = 0; b < ROWS; b++) {
        int64_t n_columns = 0, n_rows = 0;
        count_masks(t, y, b, &n_columns, &n_rows);
        const int64_t most = t->length[b] / 4 < 10 ? t->length[b] / 4 : 10;
        assert_int_equal(n_columns, 0);
        assert_in_range(n_rows, 0, 2 * most);
        total += n_rows;
        /* What stands behind a length is none of the recording. */
        for (int64_t s = t->length[b]; s < STEPS; s++)
            assert_true(y->data[(b * STEPS + s) * WIDTH] != 0);
    }
    assert_in_range(total, ROWS, ROWS * 8);
    close_test(t);
}

static void test_draws(void **state)
{
    (void)state;
    augment_test *const t = open_test();
    static mmf_real first[ROWS * STEPS * WIDTH];
    t->options = (mmf_augment_options){2, 5, 2, 9, 1};
    memcpy(first, augmented(t, 3, 5, true)->data, sizeof first);
    assert_memory_equal(augmented(t, 3, 5, true)->data, first, sizeof first);
    assert_memory_not_equal(augmented(t, 3, 6, true)->data, first, sizeof first);
    assert_memory_not_equal(augmented(t, 4, 5, true)->data, first, sizeof first);
    assert_ptr_equal(augmented(t, 3, 5, false)->data, t->x); /* not in training: as it is */
    t->options = (mmf_augment_options){.feature_span = 5, .time_span = 9, .time_share = 1};
    assert_ptr_equal(augmented(t, 3, 5, true)->data, t->x); /* no masks: as it is */
    /* Spans as large as everything, and recordings of one step. */
    t->options = (mmf_augment_options){1, 1000, 1, 1000, 1};
    t->length[0] = 1;
    (void)augmented(t, 3, 5, true);
    mmf_tape_begin(t->tape, &(mmf_pass){.training = true});
    mmf_tensor *const flat = mmf_input(t->tape, t->x, 2, (int64_t[]){ROWS, WIDTH});
    assert_null(mmf_spec_augment(t->tape, flat, NULL, &t->options));
    test_fails(t->ctx, mmf_tape_status(t->tape), MMF_SHAPE, "(B, T, D)");
    close_test(t);
}

/* ---- Encoders ---------------------------------------------------------------------------- */

static mmf_input_schema audio = {.name = "audio",
                                 .kind = MMF_SEQUENCE,
                                 .n_dims = 2,
                                 .shape = {STEPS, WIDTH},
                                 .has_length = true};

/* A model of one encoder, chosen by `spec`. */
static mmf_module *module_of(mmf_ctx *ctx, const char *spec, mmf_status wanted, const char *message)
{
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    const mmf_schema schema = {1, &audio};
    test_ok(ctx, mmf_config_create(ctx, &config, mmf_model_find("only")));
    test_ok(ctx, mmf_config_set(config, "encoder", spec));
    test_ok(ctx, mmf_config_set(config, "train_mode", "classification"));
    test_ok(ctx, mmf_config_set(config, "num_classes", "3"));
    test_ok(ctx, mmf_config_set(config, "dropout", "0"));
    const mmf_status status =
        mmf_module_create(ctx, &module, mmf_config_def(config), config, &schema, 7);
    if (wanted == MMF_OK)
        test_ok(ctx, status);
    else
        test_fails(ctx, status, wanted, message);
    mmf_config_free(config);
    return module;
}

static const mmf_tensor *logits(augment_test *t, mmf_module *module, bool training, uint64_t step)
{
    mmf_tape_begin(t->tape, &(mmf_pass){.training = training, .seed = 1, .step = step});
    mmf_named in = {0}, out = {0};
    mmf_named_put(t->tape, &in, "audio",
                  mmf_input(t->tape, t->x, 3, (int64_t[]){ROWS, STEPS, WIDTH}));
    mmf_named_put(t->tape, &in, "audio.length",
                  mmf_input_ints(t->tape, t->length, 1, (int64_t[]){ROWS}));
    mmf_module_run(module, t->tape, &in, &(mmf_step){.training = training}, &out);
    test_ok(t->ctx, mmf_tape_status(t->tape));
    return mmf_named_get(&out, "logits");
}

/* Options of an encoder reach it: masks change what training sees and nothing else. */
static void test_options_reach_encoders(void **state)
{
    (void)state;
    augment_test *const t = open_test();
    static const char *const names[] = {"lstm", "gru", "transformer"};
    mmf_real plain[ROWS * 3], masked[ROWS * 3];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char spec[80];
        snprintf(spec, sizeof spec, "audio=%s:8", names[i]);
        mmf_module *const without = module_of(t->ctx, spec, MMF_OK, NULL);
        snprintf(spec, sizeof spec, "audio=%s:8:time_masks=1:time_mask=20:freq_masks=1:freq_mask=9",
                 names[i]);
        mmf_module *const with = module_of(t->ctx, spec, MMF_OK, NULL);
        memcpy(plain, logits(t, without, false, 1)->data, sizeof plain);
        assert_memory_equal(logits(t, with, false, 1)->data, plain, sizeof plain);
        memcpy(plain, logits(t, without, true, 1)->data, sizeof plain);
        memcpy(masked, logits(t, with, true, 1)->data, sizeof masked);
        assert_memory_not_equal(masked, plain, sizeof plain);
        assert_memory_not_equal(logits(t, with, true, 2)->data, masked, sizeof masked);
        mmf_module_free(with);
        mmf_module_free(without);
    }
    (void)module_of(t->ctx, "audio=transformer:8:time_maks=1", MMF_ARG, "did you mean");
    (void)module_of(t->ctx, "audio=transformer:8:heads=3", MMF_ARG, "multiple of 3 heads");
    close_test(t);
}

/* What stands behind a length counts for nothing, whatever the stride. */
static void test_transformer_reads_valid_steps(void **state)
{
    (void)state;
    augment_test *const t = open_test();
    for (int64_t b = 0; b < ROWS; b++) {
        for (int64_t i = 0; i < STEPS * WIDTH; i++) /* recordings of one length differ */
            t->x[b * STEPS * WIDTH + i] += (mmf_real)(b % 5);
    }
    static const char *const specs[] = {"audio=transformer:8", "audio=transformer:8:stride=3",
                                        "audio=transformer:8:stride=64:layers=1"};
    mmf_real before[ROWS * 3];
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        mmf_module *const module = module_of(t->ctx, specs[i], MMF_OK, NULL);
        memcpy(before, logits(t, module, false, 1)->data, sizeof before);
        for (int64_t b = 0; b < ROWS; b++) {
            for (int64_t k = t->length[b] * WIDTH; k < STEPS * WIDTH; k++)
                t->x[b * STEPS * WIDTH + k] += 11;
        }
        assert_memory_equal(logits(t, module, false, 1)->data, before, sizeof before);
        t->x[0] += 1; /* and what stands within it counts */
        assert_memory_not_equal(logits(t, module, false, 1)->data, before, sizeof before);
        mmf_module_free(module);
    }
    close_test(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks_of_features),
        cmocka_unit_test(test_masks_of_time),
        cmocka_unit_test(test_draws),
        cmocka_unit_test(test_options_reach_encoders),
        cmocka_unit_test(test_transformer_reads_valid_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
