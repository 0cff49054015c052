/*
 * test_retrieval.c: retrieval from end to end: rankings computed by hand, shared rows, classes,
 * what models learn from pairs, and what a model file keeps.
 */
#include <math.h>

#include "train/training_data.h"

static mmf_dataset_options retrieval_options(void)
{
    mmf_dataset_options o = MMF_DATASET_OPTIONS_INIT;
    o.task = "retrieval";
    return o;
}

static double score_of(const mmf_metrics *metrics, const char *name)
{
    const double value = mmf_metrics_get(metrics, name);
    if (isnan(value))
        fail_msg("%s is not there", name);
    return value;
}

static void assert_score(const mmf_metrics *metrics, const char *name, double wanted)
{
    const double found = mmf_metrics_get(metrics, name);
    if (!(fabs(found - wanted) < 1e-12))
        fail_msg("%s is %.12g, expected %.12g", name, found, wanted);
}

/* Features (rows, 2 modalities of width 2) of a file with these arrays. */
static void score(mmf_ctx *ctx, const builder *b, const double *features, int64_t n,
                  mmf_metrics *out)
{
    const mmf_dataset_options o = retrieval_options();
    mmf_dataset *const ds = open_built(ctx, b, &o);
    int64_t rows[16];
    mmf_task task = {0};
    for (int64_t i = 0; i < n; i++)
        rows[i] = i;
    assert_int_equal(mmf_dataset_target_kind(ds), MMF_TARGET_RETRIEVAL);
    test_ok(ctx, mmf_task_of(ctx, &task, ds, MMF_MSA_NONE));
    task.n_outputs = 4;
    test_ok(ctx, mmf_task_score(ctx, out, &task, ds, rows, n, features));
    mmf_dataset_close(ds);
}

static const float plain[8] = {1, 2, 3, 4, 5, 6, 7, 8};

/* Angles of a: 0, 90, 180; of b: 10, 80, 340 degrees. The last pair is second for a, third
 * for b. */
static void rows_are_ranked_by_cosine(void **state)
{
    (void)state;
    static const double degrees[3][2] = {{0, 10}, {90, 80}, {180, 340}};
    mmf_ctx *const ctx = test_ctx();
    builder b = {0};
    mmf_metrics m = {0};
    double f[12];
    for (int i = 0; i < 12; i++) {
        const double angle = degrees[i / 4][i / 2 % 2] * 3.14159265358979 / 180;
        f[i] = (1 + i / 4) * (i % 2 ? sin(angle) : cos(angle)); /* lengths do not matter */
    }
    put(&b, "a", floats(plain, 3, 2, 0, 0));
    put(&b, "b", floats(plain, 3, 2, 0, 0));
    score(ctx, &b, f, 3, &m);
    assert_score(&m, "a_to_b.recall@1", 2.0 / 3);
    assert_score(&m, "a_to_b.mean_rank", (1 + 1 + 2) / 3.0);
    assert_score(&m, "a_to_b.median_rank", 1);
    assert_score(&m, "a_to_b.map", (1 + 1 + 0.5) / 3);
    assert_score(&m, "b_to_a.recall@1", 2.0 / 3);
    assert_score(&m, "b_to_a.mean_rank", (1 + 1 + 3) / 3.0);
    assert_score(&m, "b_to_a.map", (1 + 1 + 1.0 / 3) / 3);
    assert_score(&m, "map", ((1 + 1 + 0.5) / 3 + (1 + 1 + 1.0 / 3) / 3) / 2);
    assert_score(&m, "recall@5", 1);
    assert_string_equal(m.items[0].name, "map");
    f[3] = NAN;
    m.count = 0;
    score(ctx, &b, f, 3, &m);
    assert_true(isnan(mmf_metrics_get(&m, "map")) && isnan(mmf_metrics_get(&m, "a_to_b.map")));
    mmf_ctx_free(ctx);
}

/* Two images with two captions each: an image asks once and finds either caption. */
static void rows_that_are_shared_ask_once(void **state)
{
    (void)state;
    static const int32_t index[] = {0, 0, 1, 1};
    /* image 0 points right, image 1 up; captions: right, up, left, up */
    static const double f[] = {1, 0, 1, 0, 1, 0, 0, 1, 0, 1, -1, 0, 0, 1, 0, 1};
    mmf_ctx *const ctx = test_ctx();
    builder b = {0};
    mmf_metrics m = {0};
    put(&b, "image", floats(plain, 2, 2, 0, 0));
    put(&b, "image.index", ints(index, 4, 0));
    put(&b, "text", floats(plain, 4, 2, 0, 0));
    score(ctx, &b, f, 4, &m);
    /* Image 0: caption 0, then 1 and 3 (tie, lower first). Image 1: 1 and 3 (tie), 0 and 2. */
    assert_score(&m, "image_to_text.recall@1", 0.5);
    assert_score(&m, "image_to_text.map", (1 + (1.0 / 2 + 2.0 / 4) / 2) / 2);
    assert_score(&m, "image_to_text.mean_rank", 1.5);
    /* Captions of 2 images: right, wrong, tie? left: image 1 (cosine 0) before image 0 (-1). */
    assert_score(&m, "text_to_image.recall@1", 0.75);
    assert_score(&m, "text_to_image.map", (1 + 0.5 + 1 + 1) / 4);
    mmf_ctx_free(ctx);
}

static void a_class_is_relevant_where_there_are_classes(void **state)
{
    (void)state;
    static const int32_t classes[] = {0, 1, 0}, there[] = {1, 1, 0};
    static const double f[] = {1, 0, 0, 1, 0, 1, 1, 0, 1, 0, 0, 0};
    mmf_ctx *const ctx = test_ctx();
    builder b = {0};
    mmf_metrics m = {0};
    put(&b, "a", floats(plain, 3, 2, 0, 0));
    put(&b, "b", floats(plain, 3, 2, 0, 0));
    put(&b, "b.present", ints(there, 3, 0));
    put(&b, "label", ints(classes, 3, 0));
    score(ctx, &b, f, 3, &m);
    /* a0, a2 find b1 before b0 (their class); a1 finds b0 before b1; b2 is no candidate. */
    assert_score(&m, "a_to_b.map", 0.5);
    assert_score(&m, "a_to_b.recall@1", 0);
    /* b0: a1, then a0 and a2; b1: a0, a2, then a1. */
    assert_score(&m, "b_to_a.map", ((1.0 / 2 + 2.0 / 3) / 2 + 1.0 / 3) / 2);
    mmf_ctx_free(ctx);
}

static void targets_that_are_no_classes_are_left_alone(void **state)
{
    (void)state;
    static const float values[] = {0.5F, 1.5F, 2.5F, 9};
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset_options o = retrieval_options();
    builder b = {0};
    put(&b, "a", floats(plain, 4, 2, 0, 0));
    put(&b, "b", floats(plain, 4, 2, 0, 0));
    put(&b, "label", floats(values, 4, 0, 0, 0));
    mmf_dataset *const ds = open_built(ctx, &b, &o);
    assert_int_equal(mmf_dataset_n_classes(ds), 0);
    mmf_dataset_close(ds);
    o.target = "label"; /* asked for by name */
    must_fail(ctx, &b, &o, MMF_FORMAT, "label", "row 0", "0.5 is no class");
    mmf_ctx_free(ctx);
}

/* ---- Learning ---------------------------------------------------------------------------- */

enum { PAIR_ROWS = 150, PAIR_TRAIN = 100, PAIR_TEST = 50, PAIR_WIDTH = 4 };

/* y = x Q + noise: a modality, the same turned, and the first again for a third one. */
static mmf_dataset *pairs(mmf_ctx *ctx, size_t n_modalities)
{
    static float x[PAIR_ROWS * PAIR_WIDTH], y[PAIR_ROWS * PAIR_WIDTH], z[PAIR_ROWS * 2];
    builder b = {0};
    mmf_rng rng = mmf_rng_make(5, 0);
    const mmf_dataset_options o = retrieval_options();
    for (int i = 0; i < PAIR_ROWS; i++) {
        float *const a = x + i * PAIR_WIDTH, *const c = y + i * PAIR_WIDTH;
        for (int k = 0; k < PAIR_WIDTH; k++)
            a[k] = (float)mmf_rng_normal(&rng);
        for (int k = 0; k < PAIR_WIDTH; k++)
            c[k] = a[(k + 1) % PAIR_WIDTH] - a[(k + 2) % PAIR_WIDTH] / 2 +
                   0.02F * (float)mmf_rng_normal(&rng);
        z[2 * i] = a[0] + a[1];
        z[2 * i + 1] = a[2];
    }
    put(&b, "x", floats(x, PAIR_ROWS, PAIR_WIDTH, 0, 0));
    put(&b, "y", floats(y, PAIR_ROWS, PAIR_WIDTH, 0, 0));
    if (n_modalities > 2)
        put(&b, "z", floats(z, PAIR_ROWS, 2, 0, 0));
    return open_built(ctx, &b, &o);
}

static mmf_model *learn(mmf_ctx *ctx, mmf_dataset *ds, const char *name, const char *loss,
                        int64_t epochs)
{
    simple_split s;
    mmf_model *model = NULL;
    mmf_train_options o = quick_options(epochs, 0);
    mmf_config *const config = quick_config(ctx, name, 16, "0");
    o.loss = loss;
    test_ok(ctx,
            mmf_train(ctx, &model, ds, data_split(&s, PAIR_TRAIN, PAIR_TEST), name, config, &o));
    mmf_config_free(config);
    return model;
}

/* Scores of the rows behind those of training. */
static mmf_metrics score_model(mmf_ctx *ctx, mmf_dataset *ds, mmf_model *model)
{
    mmf_metrics m = {0};
    int64_t rows[PAIR_TEST];
    const mmf_task *const task = mmf_model_task(model);
    double *const features = calloc((size_t)(PAIR_TEST * task->n_outputs), sizeof *features);
    assert_non_null(features);
    for (int64_t i = 0; i < PAIR_TEST; i++)
        rows[i] = PAIR_TRAIN + i;
    test_ok(ctx, mmf_model_predict_rows(model, ds, rows, PAIR_TEST, MMF_ALL_MODALITIES, features));
    test_ok(ctx, mmf_task_score(ctx, &m, task, ds, rows, PAIR_TEST, features));
    free(features);
    return m;
}

static void pairs_find_each_other(void **state)
{
    (void)state;
    static const struct {
        const char *model, *loss;
        int64_t epochs;
        double recall; /* of one in fifty */
    } rows[] = {{"cca", NULL, 1, 0.95},
                {"dcca", NULL, 30, 0.5},
                {"two-tower", NULL, 60, 0.8},
                {"vse-pp", NULL, 60, 0.8},
                {"joint-concat", "clip-loss", 60, 0.8}};
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *const ds = pairs(ctx, 2);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mmf_model *const model = learn(ctx, ds, rows[i].model, rows[i].loss, rows[i].epochs);
        const mmf_metrics m = score_model(ctx, ds, model);
        if (score_of(&m, "recall@1") < rows[i].recall)
            fail_msg("%s: recall@1 %.3f", rows[i].model, score_of(&m, "recall@1"));
        mmf_model_free(model);
    }
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void three_modalities_have_six_directions(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *const ds = pairs(ctx, 3);
    mmf_model *const model = learn(ctx, ds, "two-tower", NULL, 40);
    const mmf_metrics m = score_model(ctx, ds, model);
    assert_int_equal(m.count, 4 + 6 * 6);
    assert_true(score_of(&m, "x_to_y.recall@10") > 0.8 && score_of(&m, "z_to_x.recall@10") > 0.3);
    mmf_model_free(model);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void model_files_keep_the_features(void **state)
{
    (void)state;
    static const char *const names[] = {"cca", "dcca", "two-tower", "vse-pp"};
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *const ds = pairs(ctx, 2);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        mmf_model *const model = learn(ctx, ds, names[i], NULL, 2);
        mmf_model *again = NULL;
        test_ok(ctx, mmf_model_save(model, test_path("pairs.mmf")));
        test_ok(ctx, mmf_model_load(ctx, &again, test_path("pairs.mmf")));
        assert_same_weights(names[i], model, again);
        assert_int_equal(mmf_model_task(again)->kind, MMF_TARGET_RETRIEVAL);
        const mmf_metrics a = score_model(ctx, ds, model), b = score_model(ctx, ds, again);
        assert_memory_equal(&a, &b, sizeof a);
        mmf_model_free(again);
        mmf_model_free(model);
    }
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

/* The features of cca on the training rows: mean 0, variance 1, correlations as its definition. */
static void canonical_features_are_white(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *const ds = pairs(ctx, 2);
    mmf_model *const model = learn(ctx, ds, "cca", NULL, 1);
    double *const f = predict_all(ctx, model, ds, PAIR_TRAIN);
    const mmf_param *const d =
        mmf_params_find(mmf_module_params(mmf_model_module(model)), "correlation");
    assert_non_null(d);
    for (int k = 0; k < PAIR_WIDTH; k++) {
        double mean = 0, square = 0, cross = 0;
        for (int i = 0; i < PAIR_TRAIN; i++) {
            const double u = f[i * 2 * PAIR_WIDTH + k], v = f[i * 2 * PAIR_WIDTH + PAIR_WIDTH + k];
            mean += u;
            square += u * u;
            cross += u * v;
        }
        assert_true(fabs(mean / PAIR_TRAIN) < 1e-4);
        assert_true(fabs(square / (PAIR_TRAIN - 1) - 1) < 0.01);
        assert_true(fabs(cross / (PAIR_TRAIN - 1) - (double)d->tensor->data[k]) < 0.01);
    }
    free(f);
    mmf_model_free(model);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

static void refusals_name_models_that_can(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *const ds = pairs(ctx, 2);
    simple_split s;
    const mmf_split *const split = data_split(&s, PAIR_TRAIN, PAIR_TEST);
    mmf_train_options o = quick_options(1, 0);
    mmf_model *model = NULL;
    test_fails(ctx, mmf_train(ctx, &model, ds, split, "lmf", NULL, &o), MMF_UNSUPPORTED,
               "two-tower");
    test_fails(ctx, mmf_train(ctx, &model, ds, split, "only-x", NULL, &o), MMF_UNSUPPORTED,
               "two-tower");
    test_fails(ctx, mmf_train(ctx, &model, ds, split, "joint-concat", NULL, &o), MMF_UNSUPPORTED,
               "--loss clip-loss");
    mmf_config *config = NULL;
    test_ok(ctx, mmf_config_create(ctx, &config, mmf_model_find("joint-concat")));
    test_ok(ctx, mmf_config_set(config, "encoder", "x=mlp:7"));
    o.loss = "clip-loss";
    test_fails(ctx, mmf_train(ctx, &model, ds, split, "joint-concat", config, &o), MMF_UNSUPPORTED,
               "different widths");
    mmf_config_free(config);
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_ranked_by_cosine),
        cmocka_unit_test(rows_that_are_shared_ask_once),
        cmocka_unit_test(a_class_is_relevant_where_there_are_classes),
        cmocka_unit_test(targets_that_are_no_classes_are_left_alone),
        cmocka_unit_test(pairs_find_each_other),
        cmocka_unit_test(three_modalities_have_six_directions),
        cmocka_unit_test(model_files_keep_the_features),
        cmocka_unit_test(canonical_features_are_white),
        cmocka_unit_test(refusals_name_models_that_can),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
