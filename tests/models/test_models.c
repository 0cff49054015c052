/*
 * test_models.c: what must hold for every model: shapes, independence of order and company in a
 * batch, of what stands behind a length and of an absent modality's values; how training passes
 * differ; and the properties that TFN and LMF are published with.
 */
#include <math.h>

#include "models/model_case.h"

/* Sums of a product may be taken in another order for another number of rows. */
#define SAME 2e-5

/* Classes, or the widest feature of an encoder. */
enum { MAX_WIDTH = 64 };

typedef struct result {
    int64_t count, width;
    mmf_real values[CASE_ROWS * MAX_WIDTH];
} result;

static result run(mmf_ctx *ctx, mmf_module *module, case_data *data, const mmf_pass *pass)
{
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    const mmf_step step = {.training = pass->training};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, pass);
    case_put(tape, data, false, &in);
    mmf_module_run(module, tape, &in, &step, &out);
    const mmf_tensor *const y = case_result(&out);
    test_ok(ctx, mmf_tape_status(tape));
    assert_non_null(y);
    assert_int_equal(y->n_dims, 2);
    assert_int_equal(y->shape[0], data->n_rows);
    assert_true(y->shape[1] <= MAX_WIDTH);
    result r = {.count = y->count, .width = y->shape[1]};
    for (int64_t i = 0; i < y->count; i++) {
        if (!isfinite(y->data[i]))
            fail_msg("%s, %s: not finite", mmf_module_def(module)->name, data->name);
        r.values[i] = y->data[i];
    }
    mmf_tape_free(tape);
    return r;
}

static result infer(mmf_ctx *ctx, mmf_module *module, case_data *data)
{
    return run(ctx, module, data, &(mmf_pass){0});
}

static void assert_close(const mmf_def *def, const case_data *data, const char *what,
                         const mmf_real *a, const mmf_real *b, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (!(fabs((double)a[i] - (double)b[i]) <= SAME * fmax(1, fabs((double)a[i]))))
            fail_msg("%s, %s: %s: %.9g became %.9g", def->name, data->name, what, (double)a[i],
                     (double)b[i]);
    }
}

static bool has_outputs(const mmf_def *def)
{
    return def->takes & MMF_REGRESSION_OK;
}

/* ---- Every model ------------------------------------------------------------------------- */

static void check_shape(mmf_ctx *ctx, const mmf_def *def, case_data *data, void *user)
{
    static const char *const modes[] = {"classification", "soft", "multilabel", "regression"};
    (void)user;
    for (size_t i = 0; i < (has_outputs(def) ? 4 : 2); i++) {
        mmf_module *const module = case_module(ctx, def, &data->schema, modes[i], NULL, NULL);
        const result r = infer(ctx, module, data);
        assert_int_equal(r.width, strcmp(modes[i], "regression") == 0 ? 1 : CASE_CLASSES);
        if ((def->takes & MMF_LATE) && i < 2) { /* probabilities */
            for (int64_t row = 0; row < data->n_rows; row++) {
                double sum = 0;
                for (int64_t k = 0; k < CASE_CLASSES; k++) {
                    assert_true(r.values[row * CASE_CLASSES + k] >= 0);
                    sum += (double)r.values[row * CASE_CLASSES + k];
                }
                assert_true(fabs(sum - 1) < 1e-5);
            }
        }
        mmf_module_free(module);
    }
}

static void outputs_have_the_tasks_shape(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_each(ctx, MMF_KIND_MODEL, 1, check_shape, NULL);
    mmf_ctx_free(ctx);
}

static void check_batch(mmf_ctx *ctx, const mmf_def *def, case_data *data, void *user)
{
    (void)user;
    static const int64_t order[CASE_ROWS] = {2, 0, 3, 1};
    mmf_module *const module = case_module(ctx, def, &data->schema, "classification", NULL, NULL);
    const result whole = infer(ctx, module, data);
    const result again = infer(ctx, module, data);
    assert_memory_equal(whole.values, again.values, (size_t)whole.count * sizeof(mmf_real));
    case_data part;
    case_select(&part, data, order, CASE_ROWS, -1);
    const result permuted = infer(ctx, module, &part);
    case_close(&part);
    for (int64_t i = 0; i < CASE_ROWS; i++) {
        const mmf_real *const wanted = whole.values + order[i] * whole.width;
        assert_close(def, data, "another order of rows", wanted, permuted.values + i * whole.width,
                     whole.width);
        case_select(&part, data, &order[i], 1, -1);
        const result alone = infer(ctx, module, &part);
        assert_close(def, data, "a row by itself", wanted, alone.values, whole.width);
        case_close(&part);
    }
    mmf_module_free(module);
}

static void evaluation_does_not_depend_on_the_batch(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_each(ctx, MMF_KIND_MODEL, 2, check_batch, NULL);
    case_each(ctx, MMF_KIND_ENCODER, 2, check_batch, NULL);
    mmf_ctx_free(ctx);
}

/* These read whole sequences by definition, and batches put zeros behind every length. */
static bool reads_padding(const mmf_def *def)
{
    static const char *const names[] = {"early-concat", "ef-lstm", "cnn1d"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(def->name, names[i]) == 0)
            return true;
    }
    return false;
}

static int64_t step_size(const case_data *d, size_t m)
{
    return d->row_size[m] / d->inputs[m].shape[0];
}

static void check_padding(mmf_ctx *ctx, const mmf_def *def, case_data *data, void *user)
{
    int *const n_checked = user;
    if (reads_padding(def))
        return;
    mmf_module *const module = case_module(ctx, def, &data->schema, "classification", NULL, NULL);
    const result before = infer(ctx, module, data);
    int64_t n_moved = 0;
    for (size_t m = 0; m < data->schema.count; m++) {
        const int64_t step = step_size(data, m), size = data->row_size[m];
        if (!data->inputs[m].has_length)
            continue;
        for (int64_t i = 0; i < data->n_rows; i++) {
            for (int64_t e = data->length[m][i] * step; e < size; e++, n_moved++) {
                data->values[m][i * size + e] = (mmf_real)(100 + e);
                data->tokens[m][i * size + e] = data->inputs[m].vocab_size - 1;
            }
        }
    }
    const result after = infer(ctx, module, data);
    assert_close(def, data, "what stands behind a length", before.values, after.values,
                 before.count);
    *n_checked += n_moved > 0;
    mmf_module_free(module);
}

static void what_stands_behind_a_length_is_not_read(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int n_checked = 0;
    case_each(ctx, MMF_KIND_MODEL, 3, check_padding, &n_checked);
    case_each(ctx, MMF_KIND_ENCODER, 3, check_padding, &n_checked);
    assert_true(n_checked > 20);
    mmf_ctx_free(ctx);
}

static void check_absent(mmf_ctx *ctx, const mmf_def *def, case_data *data, void *user)
{
    int *const n_checked = user;
    if (!data->inputs[0].has_present || !(def->takes & MMF_MISSING_OK))
        return;
    mmf_module *const module = case_module(ctx, def, &data->schema, "classification", NULL, NULL);
    const result before = infer(ctx, module, data);
    int64_t n_moved = 0, n_felt = 0;
    for (size_t m = 0; m < data->schema.count; m++) {
        for (int64_t i = 0; i < data->n_rows; i++) {
            if (data->present[m][i] != 0)
                continue;
            for (int64_t e = 0; e < data->row_size[m]; e++, n_moved++) {
                data->values[m][i * data->row_size[m] + e] = (mmf_real)(e % 5 - 3);
                data->tokens[m][i * data->row_size[m] + e] = 1 + e % 2;
            }
        }
    }
    const result after = infer(ctx, module, data);
    assert_close(def, data, "values of an absent modality", before.values, after.values,
                 before.count);
    /* Taking all but one away does matter; for a single row a head may happen to be dead. */
    for (size_t m = 0; m < data->schema.count; m++) {
        for (int64_t i = 0; i < data->n_rows; i++)
            data->present[m][i] = m == 0 ? 1 : 0;
    }
    const result fewer = infer(ctx, module, data);
    for (int64_t i = 0; i < before.count; i++)
        n_felt += before.values[i] != fewer.values[i];
    const bool votes = strcmp(def->name, "late-vote") == 0; /* few different outcomes */
    if (data->schema.count > 1 && !votes && n_felt == 0)
        fail_msg("%s, %s: absence changes nothing", def->name, data->name);
    *n_checked += n_moved > 0;
    mmf_module_free(module);
}

static void an_absent_modality_is_not_read(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int n_checked = 0;
    case_each(ctx, MMF_KIND_MODEL, 4, check_absent, &n_checked);
    assert_true(n_checked > 20);
    mmf_ctx_free(ctx);
}

static void check_training(mmf_ctx *ctx, const mmf_def *def, case_data *data, void *user)
{
    int *const n_random = user;
    mmf_config *const config = case_config(ctx, def, "classification");
    for (const mmf_option *row = mmf_option_next(def, NULL); row && !mmf_option_is_common(row);
         row = mmf_option_next(def, row)) {
        if (strstr(row->name, "dropout"))
            test_ok(ctx, mmf_config_set(config, row->name, "0.5"));
    }
    mmf_module *module = NULL;
    test_ok(ctx, mmf_module_create(ctx, &module, def, config, &data->schema, 1));
    case_draw(mmf_module_params(module), 3);
    mmf_pass pass = {.training = true, .seed = 8, .step = 3};
    const result first = run(ctx, module, data, &pass);
    const result same = run(ctx, module, data, &pass);
    assert_memory_equal(first.values, same.values, (size_t)first.count * sizeof(mmf_real));
    pass.record = true;
    const result recorded = run(ctx, module, data, &pass);
    assert_memory_equal(first.values, recorded.values, (size_t)first.count * sizeof(mmf_real));
    pass.step = 4;
    const result other = run(ctx, module, data, &pass);
    *n_random += memcmp(first.values, other.values, (size_t)first.count * sizeof(mmf_real)) != 0;
    mmf_module_free(module);
    mmf_config_free(config);
}

static void dropout_depends_on_seed_and_step_alone(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int n_random = 0;
    case_each(ctx, MMF_KIND_MODEL, 5, check_training, &n_random);
    assert_true(n_random > 20);
    mmf_ctx_free(ctx);
}

/* Batch norm: evaluation leaves the buffers alone, training moves them. */
static void check_buffers(mmf_ctx *ctx, const mmf_def *def, case_data *data, void *user)
{
    int *const n_moved = user;
    mmf_module *const module = case_module(ctx, def, &data->schema, "classification", NULL, NULL);
    mmf_params *const params = mmf_module_params(module);
    const size_t bytes = (size_t)mmf_params_state_size(params) * sizeof(mmf_real);
    mmf_real *const before = malloc(bytes + 1);
    assert_non_null(before);
    memcpy(before, mmf_params_state(params), bytes);
    infer(ctx, module, data);
    assert_memory_equal(before, mmf_params_state(params), bytes);
    run(ctx, module, data, &(mmf_pass){.training = true});
    *n_moved += bytes > 0 && memcmp(before, mmf_params_state(params), bytes) != 0;
    free(before);
    mmf_module_free(module);
}

static void only_training_moves_running_statistics(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int n_moved = 0;
    case_each(ctx, MMF_KIND_MODEL, 6, check_buffers, &n_moved);
    assert_true(n_moved > 10);
    mmf_ctx_free(ctx);
}

/* ---- TFN and LMF ------------------------------------------------------------------------- */

static const model_case trio = {"text, audio, vision", 3, CASE_TRIO, false, true};

static mmf_tensor *parameter(mmf_module *module, const char *name)
{
    const mmf_param *const p = mmf_params_find(mmf_module_params(module), name);
    if (!p)
        fail_msg("there is no parameter %s", name);
    return p ? p->tensor : NULL;
}

/* 6 sigmoid(0) - 3 = 0, exactly. */
static void tfn_without_its_last_layer_predicts_zero(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &trio, 1);
    mmf_module *const module =
        case_module(ctx, mmf_model_find("tfn"), &data.schema, "regression", NULL, NULL);
    const result some = infer(ctx, module, &data);
    for (int64_t i = 0; i < some.count; i++)
        assert_true(some.values[i] != 0 && fabsf(some.values[i]) < 3);
    mmf_tensor *const w = parameter(module, "post_fusion_layer_3.weight");
    memset(w->data, 0, (size_t)w->count * sizeof *w->data);
    parameter(module, "post_fusion_layer_3.bias")->data[0] = 0;
    const result none = infer(ctx, module, &data);
    for (int64_t i = 0; i < none.count; i++)
        assert_true(none.values[i] == 0);
    mmf_module_free(module);
    case_close(&data);
    mmf_ctx_free(ctx);
}

/* With audio and vision absent, columns of the first layer outside the text block do not count. */
static void tfn_without_two_modalities_reads_the_third(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &trio, 2);
    for (int64_t i = 0; i < data.n_rows; i++) {
        data.present[0][i] = 1;
        data.present[1][i] = data.present[2][i] = 0;
    }
    mmf_module *const module =
        case_module(ctx, mmf_model_find("tfn"), &data.schema, "classification", NULL, NULL);
    const result before = infer(ctx, module, &data);
    mmf_tensor *const w = parameter(module, "post_fusion_layer_1.weight");
    const int64_t text = 4 + 1; /* width of the text feature, and its 1; it is the fastest index */
    for (int64_t o = 0; o < w->shape[0]; o++) {
        for (int64_t i = text; i < w->shape[1]; i++)
            w->data[o * w->shape[1] + i] += 7;
    }
    const result outside = infer(ctx, module, &data);
    assert_memory_equal(before.values, outside.values, (size_t)before.count * sizeof(mmf_real));
    for (int64_t o = 0; o < w->shape[0]; o++)
        w->data[o * w->shape[1]] += 1;
    const result inside = infer(ctx, module, &data);
    assert_memory_not_equal(before.values, inside.values, (size_t)before.count * sizeof(mmf_real));
    mmf_module_free(module);
    case_close(&data);
    mmf_ctx_free(ctx);
}

/* Scaling one factor by k and another by 1/k, and permuting the rank with its weights. */
static void lmf_keeps_its_symmetries(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &trio, 3);
    mmf_module *const module =
        case_module(ctx, mmf_model_find("lmf"), &data.schema, "classification", NULL, NULL);
    const mmf_def *const def = mmf_module_def(module);
    const result before = infer(ctx, module, &data);
    static const char *const factors[] = {"audio_factor", "video_factor", "text_factor"};
    mmf_tensor *const audio = parameter(module, factors[0]);
    mmf_tensor *const video = parameter(module, factors[1]);
    for (int64_t i = 0; i < audio->count; i++)
        audio->data[i] *= 4;
    for (int64_t i = 0; i < video->count; i++)
        video->data[i] /= 4;
    const result scaled = infer(ctx, module, &data);
    assert_close(def, &data, "factors scaled by 4 and 1/4", before.values, scaled.values,
                 before.count);
    mmf_tensor *const weights = parameter(module, "fusion_weights");
    for (size_t f = 0; f < 3; f++) { /* exchange slices 0 and 2 of the rank */
        mmf_tensor *const factor = parameter(module, factors[f]);
        const int64_t slice = factor->count / factor->shape[0];
        for (int64_t i = 0; i < slice; i++) {
            const mmf_real kept = factor->data[i];
            factor->data[i] = factor->data[2 * slice + i];
            factor->data[2 * slice + i] = kept;
        }
    }
    const mmf_real kept = weights->data[0];
    weights->data[0] = weights->data[2];
    weights->data[2] = kept;
    const result permuted = infer(ctx, module, &data);
    assert_close(def, &data, "the rank permuted", before.values, permuted.values, before.count);
    mmf_module_free(module);
    case_close(&data);
    mmf_ctx_free(ctx);
}

/* Without rows 1.. of its factor, a modality does not count. */
static void lmf_ignores_a_modality_without_a_factor(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &trio, 4);
    mmf_module *const module =
        case_module(ctx, mmf_model_find("lmf"), &data.schema, "classification", NULL, NULL);
    mmf_tensor *const f = parameter(module, "video_factor");
    for (int64_t r = 0; r < f->shape[0]; r++) {
        for (int64_t i = f->shape[2]; i < f->shape[1] * f->shape[2]; i++)
            f->data[r * f->shape[1] * f->shape[2] + i] = 0;
    }
    const result before = infer(ctx, module, &data);
    for (int64_t i = 0; i < data.n_rows * data.row_size[2]; i++)
        data.values[2][i] += 3;
    const result other_vision = infer(ctx, module, &data);
    assert_memory_equal(before.values, other_vision.values,
                        (size_t)before.count * sizeof(mmf_real));
    for (int64_t i = 0; i < data.n_rows * data.row_size[0]; i++)
        data.values[0][i] += 3;
    const result other_text = infer(ctx, module, &data);
    assert_memory_not_equal(before.values, other_text.values,
                            (size_t)before.count * sizeof(mmf_real));
    mmf_module_free(module);
    case_close(&data);
    mmf_ctx_free(ctx);
}

/* MISA puts its whole loss out in training, whatever the task. */
static void misa_learns_every_kind_of_target(void **state)
{
    (void)state;
    static const char *const kinds[] = {"regression", "classification", "multilabel", "soft"};
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &trio, 5);
    for (int i = 0; i < 4; i++) {
        mmf_module *const module =
            case_module(ctx, mmf_model_find("misa"), &data.schema, kinds[i], NULL, NULL);
        mmf_tape *tape = NULL;
        mmf_named in = {0}, out = {0};
        int64_t classes[CASE_ROWS] = {0};
        test_ok(ctx, mmf_tape_create(ctx, &tape));
        mmf_tape_begin(tape, &(mmf_pass){.training = true, .record = true});
        case_put(tape, &data, false, &in);
        mmf_module_run(module, tape, &in, &(mmf_step){.training = true}, &out);
        const mmf_tensor *const y = case_result(&out);
        mmf_named_put(tape, &in, "label",
                      i == 1 ? mmf_input_ints(tape, classes, 1, y->shape)
                             : mmf_full(tape, 2, y->shape, 0.25));
        out = (mmf_named){0};
        mmf_module_run(module, tape, &in, &(mmf_step){.training = true}, &out);
        test_ok(ctx, mmf_tape_backward(tape, mmf_named_get(&out, "loss")));
        mmf_tape_free(tape);
        mmf_module_free(module);
    }
    case_close(&data);
    mmf_ctx_free(ctx);
}

/* MulT leaves its convolution out where a modality has the model's width, so its kernel may be any.
 */
static void only_a_kernel_that_runs_must_fit(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_input_schema inputs[] = {
        {.name = "text", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {2, 6}},
        {.name = "audio", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {4, 5}},
        {.name = "vision", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {4, 5}}};
    const mmf_schema schema = {3, inputs};
    for (int64_t width = 6; width >= 5; width--) {
        mmf_config *config = NULL;
        mmf_module *module = NULL;
        inputs[0].shape[1] = width;
        test_ok(ctx, mmf_config_create(ctx, &config, mmf_model_find("mult")));
        test_ok(ctx, mmf_config_set_json(config, "{\"dst_feature_dim_nheads\": [6, 2], "
                                                 "\"conv1d_kernel_size_l\": 3}"));
        const mmf_status status =
            mmf_module_create(ctx, &module, mmf_model_find("mult"), config, &schema, 0);
        if (width == 6)
            test_ok(ctx, status);
        else
            test_fails(ctx, status, MMF_ARG, "is 3, but text has 2 steps");
        mmf_module_free(module);
        mmf_config_free(config);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_have_the_tasks_shape),
        cmocka_unit_test(only_a_kernel_that_runs_must_fit),
        cmocka_unit_test(misa_learns_every_kind_of_target),
        cmocka_unit_test(evaluation_does_not_depend_on_the_batch),
        cmocka_unit_test(what_stands_behind_a_length_is_not_read),
        cmocka_unit_test(an_absent_modality_is_not_read),
        cmocka_unit_test(dropout_depends_on_seed_and_step_alone),
        cmocka_unit_test(only_training_moves_running_statistics),
        cmocka_unit_test(tfn_without_its_last_layer_predicts_zero),
        cmocka_unit_test(tfn_without_two_modalities_reads_the_third),
        cmocka_unit_test(lmf_keeps_its_symmetries),
        cmocka_unit_test(lmf_ignores_a_modality_without_a_factor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
