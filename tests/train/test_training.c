/*
 * test_training.c: every model learns what it can, ends with the same bits for any number of
 * threads, and survives being saved; batches of odd sizes, no validation rows, losses that are not
 * finite, and memory in a steady state.
 */
#include <math.h>
#include <unistd.h>

#include "train/training_data.h"

/* ---- Learning ---------------------------------------------------------------------------- */

enum { OVERFIT_ROWS = 32, FEW_STEPS = 80, OVERFIT_STEPS = 300 };

/* Mean of -log p(class), or the mean absolute error. */
static double mean_loss(const mmf_dataset *dataset, const double *y, int64_t n, int64_t width)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double target = 0;
        mmf_dataset_target(dataset, i, &target);
        sum += width == 1 ? fabs(y[i] - target) : -log(fmax(y[i * width + (int64_t)target], 1e-9));
    }
    return sum / (double)n;
}

/* Losses beside the task's hold a model back from learning rows by heart: off. */
static void task_loss_alone(mmf_ctx *ctx, mmf_config *config)
{
    const mmf_option *row = NULL;
    while ((row = mmf_option_next(mmf_config_def(config), row))) {
        const size_t n = strlen(row->name);
        if (row->type == MMF_OPTION_REAL && n > 7 && strcmp(row->name + n - 7, "_weight") == 0)
            test_ok(ctx, mmf_config_set(config, row->name, "0"));
    }
}

/* Loss on the training rows after training with a learning rate. */
static double overfit_at(double lr, int steps, const char *name, const data_spec *spec,
                         const char *folder)
{
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *const dataset = data_open(ctx, spec, "overfit.npz");
    mmf_config *const config = quick_config(ctx, name, 32, "0");
    mmf_model *model = NULL;
    simple_split s;
    mmf_split split = *data_split(&s, OVERFIT_ROWS, 0);
    task_loss_alone(ctx, config);
    mmf_train_options options = quick_options(TEST_SAMPLE ? 3 : steps, OVERFIT_ROWS);
    /* Rules are fitted on validation rows: here the same ones. */
    split.rows[MMF_VALID] = split.rows[MMF_TRAIN];
    split.count[MMF_VALID] = OVERFIT_ROWS;
    options.unimodal_folder = folder;
    options.optimizer.lr = lr;
    options.schedule = MMF_SCHEDULE_COSINE;
    test_ok(ctx, mmf_train(ctx, &model, dataset, &split, name, config, &options));
    double *const y = predict_all(ctx, model, dataset, OVERFIT_ROWS);
    const double loss = mean_loss(dataset, y, OVERFIT_ROWS, mmf_model_task(model)->n_outputs);
    free(y);
    mmf_model_free(model);
    mmf_config_free(config);
    mmf_dataset_close(dataset);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
    return loss;
}

static void overfit(const char *name, const data_spec *spec, void *user)
{
    /* Three kinds of inputs at once say enough of models that take them. */
    const bool takes_three = !(mmf_model_find(name)->takes & MMF_TWO_ONLY);
    if (takes_three && (spec->kind == DATA_VECTORS || spec->kind == DATA_SEQUENCES))
        return;
    /* A stacking rule sees predictions for rows that its parts were not trained on, and its weights
     * decay: it cannot overfit. */
    double wanted = strcmp(name, "late-stacking") == 0 ? 0.6 : 0.05;
    /* Of sequences cca sees the mean step in a few directions, too little to tell rows apart by. */
    if (strcmp(name, "cca") == 0 && spec->kind == DATA_SEQUENCES)
        wanted = 0.5;
    /* Most need few steps. Transformers whose norms follow diverge at the rate that suits others.
     */
    static const struct {
        double lr;
        int steps;
    } tries[] = {{1e-2, FEW_STEPS}, {1e-2, OVERFIT_STEPS}, {1e-3, OVERFIT_STEPS}};
    double loss = INFINITY;
    for (int i = 0; i < (TEST_SAMPLE ? 1 : 3) && !(loss < wanted); i++)
        loss = overfit_at(tries[i].lr, tries[i].steps, name, spec, user);
    if (!TEST_SAMPLE && !(loss < wanted))
        fail_msg("%s, data %d: loss %.4f after %d steps", name, (int)spec->kind, loss,
                 OVERFIT_STEPS);
}

static void every_model_overfits_32_rows(void **state)
{
    (void)state;
    static const data_spec specs[] = {
        {DATA_TRIO, OVERFIT_ROWS, true, false, 0, 1},
        {DATA_MIXED, OVERFIT_ROWS, false, false, 0, 2},
        {DATA_VECTORS, OVERFIT_ROWS, false, false, 0, 3},
        {DATA_SEQUENCES, OVERFIT_ROWS, true, false, 0, 4},
    };
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        char folder[32];
        snprintf(folder, sizeof folder, "unimodal.%zu", i);
        char *const path = strdup(test_path(folder));
        each_model(&specs[i], overfit, path);
        free(path);
    }
}

/* ---- The same bits ----------------------------------------------------------------------- */

static mmf_model *train_on(mmf_ctx *ctx, mmf_dataset *dataset, const char *name, int width,
                           const char *dropout, int64_t n_train, int64_t n_valid,
                           const mmf_train_options *options)
{
    simple_split s;
    mmf_model *model = NULL;
    mmf_config *const config = quick_config(ctx, name, width, dropout);
    const mmf_split *const split = data_split(&s, n_train, n_valid);
    test_ok(ctx, mmf_train(ctx, &model, dataset, split, name, config, options));
    mmf_config_free(config);
    return model;
}

/* The defaults are wide enough that products and element-wise loops are divided between threads. */
static void check_threads(const char *name, const data_spec *spec, void *user)
{
    (void)user;
    /* The parts of late models are only-models, which are checked at full width. */
    const int late_width = mmf_model_find(name)->takes & MMF_LATE ? 8 : 0;
    const mmf_train_options options = quick_options(1, 80);
    mmf_ctx *ctx[3];
    mmf_dataset *dataset[3];
    mmf_model *model[3];
    for (int i = 0; i < 3; i++) {
        mmf_ctx_options o = MMF_CTX_OPTIONS_INIT;
        o.n_threads = i == 1 ? 2 : 1;
        assert_int_equal(mmf_ctx_create(&ctx[i], &o), MMF_OK);
        dataset[i] = data_open(ctx[i], spec, "threads.npz");
        model[i] = train_on(ctx[i], dataset[i], name, late_width, "0.3", 160, 32, &options);
    }
    assert_same_weights(name, model[0], model[1]);
    assert_same_weights(name, model[0], model[2]);
    double *const one = predict_all(ctx[0], model[0], dataset[0], MAX_ROWS);
    double *const two = predict_all(ctx[1], model[1], dataset[1], MAX_ROWS);
    const int64_t width = mmf_model_task(model[0])->n_outputs;
    assert_memory_equal(one, two, (size_t)(MAX_ROWS * width) * sizeof *one);
    free(one);
    free(two);
    for (int i = 0; i < 3; i++) {
        mmf_model_free(model[i]);
        mmf_dataset_close(dataset[i]);
        mmf_ctx_free(ctx[i]);
    }
}

static void bits_do_not_depend_on_threads(void **state)
{
    (void)state;
    each_model(&(data_spec){DATA_TRIO, MAX_ROWS, true, false, 0, 5}, check_threads, NULL);
    each_model(&(data_spec){DATA_MIXED, MAX_ROWS, false, true, 0, 6}, check_threads, NULL);
}

static void other_seeds_give_other_models(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    const data_spec spec = {DATA_VECTORS, 48, false, false, 0, 5};
    mmf_dataset *const dataset = data_open(ctx, &spec, "seeds.npz");
    mmf_train_options options = quick_options(2, 16);
    mmf_model *const a = train_on(ctx, dataset, "joint-concat", 8, "0.3", 32, 16, &options);
    options.seed = 4;
    mmf_model *const b = train_on(ctx, dataset, "joint-concat", 8, "0.3", 32, 16, &options);
    const mmf_params *const p = mmf_module_params(mmf_model_module(a));
    const mmf_params *const q = mmf_module_params(mmf_model_module(b));
    assert_memory_not_equal(mmf_params_values(p), mmf_params_values(q),
                            (size_t)mmf_params_size(p) * sizeof(mmf_real));
    mmf_model_free(a);
    mmf_model_free(b);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

/* ---- Saving ------------------------------------------------------------------------------ */

/* One sample through mmf_model_predict, put together from the stored arrays. */
static void check_samples(mmf_ctx *ctx, mmf_model *model, const data_spec *spec,
                          mmf_dataset *dataset, const double *wanted)
{
    const mmf_schema *const schema = mmf_model_inputs(model);
    const int64_t width = mmf_model_task(model)->n_outputs;
    mmf_batch batch = {0};
    double y[N_CLASSES];
    test_ok(ctx, mmf_batch_create(ctx, &batch, dataset, 1));
    for (int64_t i = 0; i < spec->n_rows; i++) {
        mmf_sample samples[3] = {{0}};
        test_ok(ctx, mmf_batch_fill(&batch, dataset, NULL, &i, 1));
        for (size_t m = 0; m < schema->count; m++) {
            const size_t place = (size_t)mmf_dataset_find(dataset, schema->inputs[m].name);
            const mmf_batch_input *const in = &batch.inputs[place];
            samples[m] = (mmf_sample){.values = in->values,
                                      .tokens = in->tokens,
                                      .length = in->length ? in->length[0] : 0,
                                      .absent = in->present && in->present[0] == 0};
        }
        test_ok(ctx, mmf_model_predict(model, samples, y));
        for (int64_t k = 0; k < width; k++) {
            if (!(fabs(y[k] - wanted[i * width + k]) < 1e-5 * fmax(1, fabs(wanted[i * width + k]))))
                fail_msg("%s: row %lld: %.9g as a sample, %.9g as a row", mmf_model_name(model),
                         (long long)i, y[k], wanted[i * width + k]);
        }
    }
    const uint64_t before = mmf_ctx_memory(ctx).n_allocations;
    mmf_sample none[3] = {{.absent = true}, {.absent = true}, {.absent = true}};
    (void)mmf_model_predict(model, none, y);
    if (!TEST_ARENAS_ALLOCATE)
        assert_int_equal(mmf_ctx_memory(ctx).n_allocations, before);
    mmf_batch_clear(&batch);
}

static void check_saving(const char *name, const data_spec *spec, void *user)
{
    (void)user;
    mmf_ctx *const ctx = one_thread();
    const mmf_train_options options = quick_options(2, 16);
    mmf_dataset *const dataset = data_open(ctx, spec, "saved.npz"), *again = NULL;
    mmf_model *const model = train_on(ctx, dataset, name, 8, "0.1", 32, 12, &options);
    mmf_model *loaded = NULL;
    test_ok(ctx, mmf_model_save(model, test_path("saved.mmf")));
    test_ok(ctx, mmf_model_load(ctx, &loaded, test_path("saved.mmf")));
    assert_string_equal(mmf_model_name(loaded), name);
    assert_string_equal(mmf_model_record(loaded), mmf_model_record(model));
    assert_int_equal(mmf_model_n_parameters(loaded), mmf_model_n_parameters(model));
    assert_same_weights(name, model, loaded);
    /* The same rows, with other values where nothing may be read. */
    data_spec other = *spec;
    other.behind = 7;
    data_write(ctx, &other, test_path("other.npz"));
    test_ok(ctx, mmf_model_open_data(ctx, &again, loaded, test_path("other.npz"), NULL));
    const size_t bytes = (size_t)(spec->n_rows * mmf_model_task(model)->n_outputs) * sizeof(double);
    double *const x = predict_all(ctx, model, dataset, spec->n_rows);
    double *const y = predict_all(ctx, loaded, again, spec->n_rows);
    if (memcmp(x, y, bytes) != 0)
        fail_msg("%s, data %d: a loaded model predicts otherwise", name, (int)spec->kind);
    check_samples(ctx, loaded, spec, again, x);
    free(x);
    free(y);
    mmf_model_free(model);
    mmf_model_free(loaded);
    mmf_dataset_close(dataset);
    mmf_dataset_close(again);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void loaded_models_predict_the_same_bits(void **state)
{
    (void)state;
    for (int kind = 0; kind < N_DATA_KINDS; kind++) {
        each_model(&(data_spec){(data_kind)kind, 48, kind % 2 == 1, false, 0, 7}, check_saving,
                   NULL);
        each_model(&(data_spec){(data_kind)kind, 48, kind % 2 == 0, true, 0, 8}, check_saving,
                   NULL);
    }
}

/* ---- Odd sizes --------------------------------------------------------------------------- */

/* 33 rows in batches of 32, then the whole range of small sizes; with and without validation. */
static void check_sizes(const char *name, const data_spec *spec, void *user)
{
    (void)user;
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *const dataset = data_open(ctx, spec, "sizes.npz");
    const mmf_def *const def = mmf_model_find(name);
    const bool fitted =
        strcmp(name, "late-learned") == 0; /* its weights are fitted on validation rows */
    static const int64_t sizes[][2] = {{33, 32}, {9, 4}, {9, 8}, {4, 64}, {13, 3}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const mmf_train_options options = quick_options(2, sizes[i][1]);
        for (int64_t n_valid = fitted ? 2 : 0; n_valid <= 2; n_valid += 2) {
            if (strcmp(name, "late-stacking") == 0 && sizes[i][0] < 9)
                continue; /* folds of single rows */
            mmf_model *const model =
                train_on(ctx, dataset, name, 4, "0", sizes[i][0], n_valid, &options);
            assert_non_null(strstr(mmf_model_record(model), "\"epochs\":"));
            mmf_model_free(model);
        }
    }
    assert_non_null(def);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

static void sizes_that_do_not_divide_train(void **state)
{
    (void)state;
    each_model(&(data_spec){DATA_TRIO, 40, true, false, 0, 9}, check_sizes, NULL);
    each_model(&(data_spec){DATA_MIXED, 40, false, false, 0, 9}, check_sizes, NULL);
}

static void fails_to_train(const char *name, data_kind kind, int64_t n_train, int64_t n_valid,
                           const mmf_train_options *options, mmf_status wanted, const char *piece)
{
    mmf_ctx *const ctx = one_thread();
    const data_spec spec = {kind, 40, kind == DATA_TRIO, false, 0, 9};
    mmf_dataset *const dataset = data_open(ctx, &spec, "fails.npz");
    mmf_config *const config = mmf_model_find(name) ? quick_config(ctx, name, 8, "0") : NULL;
    mmf_model *model = NULL;
    simple_split s;
    const mmf_split *const split = data_split(&s, n_train, n_valid);
    test_fails(ctx, mmf_train(ctx, &model, dataset, split, name, config, options), wanted, piece);
    assert_null(model);
    mmf_config_free(config);
    mmf_dataset_close(dataset);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void what_cannot_be_trained_says_why(void **state)
{
    (void)state;
    mmf_train_options o = quick_options(2, 8);
    fails_to_train("tfn", DATA_TRIO, 1, 4, &o, MMF_SHAPE, "batch_norm");
    fails_to_train("joint-concat", DATA_VECTORS, 0, 4, &o, MMF_ARG, "no training rows");
    fails_to_train("late-learned", DATA_VECTORS, 20, 0, &o, MMF_ARG, "validation rows");
    fails_to_train("joint-conct", DATA_VECTORS, 20, 4, &o, MMF_ARG,
                   "did you mean \"joint-concat\"");
    fails_to_train("only-c", DATA_VECTORS, 20, 4, &o, MMF_ARG, "no modality \"c\"");
    fails_to_train("ef-lstm", DATA_VECTORS, 20, 4, &o, MMF_UNSUPPORTED,
                   "it takes sequences, and \"a\" is of kind vector");
    fails_to_train("late-vote", DATA_TRIO, 20, 4, &o, MMF_UNSUPPORTED, "late-mean");
    o.loss = "huber";
    fails_to_train("joint-concat", DATA_TRIO, 20, 4, &o, MMF_ARG, "smooth-l1");
    o.loss = "l1,mse";
    fails_to_train("joint-concat", DATA_TRIO, 20, 4, &o, MMF_ARG, "two losses");
    o.loss = "l1:0.5";
    fails_to_train("joint-concat", DATA_TRIO, 20, 4, &o, MMF_ARG, "takes no weight");
    o.loss = "clip-loss:";
    fails_to_train("joint-concat", DATA_TRIO, 20, 4, &o, MMF_ARG, "NAME:WEIGHT");
    o.loss = "supcon:1x";
    fails_to_train("joint-concat", DATA_TRIO, 20, 4, &o, MMF_ARG, "NAME:WEIGHT");
    o.loss = "supcon,supcon:2";
    fails_to_train("joint-concat", DATA_TRIO, 20, 4, &o, MMF_ARG, "twice");
    o.loss = "clip-loss";
    fails_to_train("early-concat", DATA_VECTORS, 20, 4, &o, MMF_UNSUPPORTED, "features");
    fails_to_train("late-mean", DATA_VECTORS, 20, 4, &o, MMF_UNSUPPORTED, "one modality at a time");
    o.loss = NULL;
    o.balance = true;
    fails_to_train("joint-concat", DATA_TRIO, 20, 4, &o, MMF_ARG, "class weights need classes");
}

/* ---- Losses that are not finite ---------------------------------------------------------- */

static void check_explosion(const char *name, const data_spec *spec, void *user)
{
    int *const n_exploded = user;
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *const dataset = data_open(ctx, spec, "explodes.npz");
    mmf_config *const config = quick_config(ctx, name, 8, "0");
    mmf_train_options options = quick_options(3, 8);
    options.optimizer.kind = MMF_SGD;
    options.optimizer.lr = 1e30;
    mmf_model *model = NULL;
    simple_split s;
    const mmf_status status =
        mmf_train(ctx, &model, dataset, data_split(&s, 32, 8), name, config, &options);
    if (status != MMF_OK) {
        test_fails(ctx, status, MMF_NUMERIC, "epoch 1, step ");
        test_fails(ctx, status, MMF_NUMERIC, "first operation with a non-finite result is ");
        test_fails(ctx, status, MMF_NUMERIC, "--lr");
        assert_null(strstr(mmf_ctx_error(ctx), "the loss itself"));
        ++*n_exploded;
    }
    mmf_model_free(model);
    mmf_config_free(config);
    mmf_dataset_close(dataset);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void a_loss_that_is_not_finite_stops_with_its_place(void **state)
{
    (void)state;
    int n_exploded = 0;
    each_model(&(data_spec){DATA_VECTORS, 40, true, false, 0, 1}, check_explosion, &n_exploded);
    each_model(&(data_spec){DATA_TRIO, 40, false, false, 0, 1}, check_explosion, &n_exploded);
    assert_true(n_exploded > 10);
}

/* ---- Memory ------------------------------------------------------------------------------ */

typedef struct counter {
    mmf_ctx *ctx;
    uint64_t at_epoch[16];
    size_t live[16];
} counter;

static void count_allocations(void *user, const mmf_train_event *event)
{
    counter *const c = user;
    if (!event->epoch_ended)
        return;
    c->at_epoch[event->epoch] = mmf_ctx_memory(c->ctx).n_allocations;
    c->live[event->epoch] = mmf_ctx_memory(c->ctx).live_bytes;
}

/* Without validation rows an epoch is steps alone: from the third on, nothing is allocated. */
static void check_steady(const char *name, const data_spec *spec, void *user)
{
    (void)user;
    if (mmf_model_find(name)->takes &
        MMF_LATE) /* its parts are the only-models, checked here too */
        return;
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *const dataset = data_open(ctx, spec, "steady.npz");
    counter c = {.ctx = ctx};
    mmf_train_options options = quick_options(5, 8);
    options.watch = count_allocations;
    options.watch_user = &c;
    mmf_model *const model = train_on(ctx, dataset, name, 16, "0.2", 44, 0, &options);
    for (int e = 3; e < 5; e++) {
        if (c.at_epoch[e + 1] != c.at_epoch[e] && !TEST_ARENAS_ALLOCATE)
            fail_msg("%s, data %d: %llu allocations in epoch %d", name, (int)spec->kind,
                     (unsigned long long)(c.at_epoch[e + 1] - c.at_epoch[e]), e + 1);
        assert_int_equal(c.live[e + 1], c.live[e]);
    }
    mmf_model_free(model);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

static void a_steady_step_allocates_nothing(void **state)
{
    (void)state;
    for (int kind = 0; kind < N_DATA_KINDS; kind++)
        each_model(&(data_spec){(data_kind)kind, 48, kind % 2 == 0, kind > 1, 0, 4}, check_steady,
                   NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model_overfits_32_rows),
        cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(other_seeds_give_other_models),
        cmocka_unit_test(loaded_models_predict_the_same_bits),
        cmocka_unit_test(sizes_that_do_not_divide_train),
        cmocka_unit_test(what_cannot_be_trained_says_why),
        cmocka_unit_test(a_loss_that_is_not_finite_stops_with_its_place),
        cmocka_unit_test(a_steady_step_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
