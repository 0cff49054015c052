/*
 * test_explain.c: explanations of small trained models: contributions sum up, subsets and clean
 * scores are those of plain prediction, areas those of their definition, errors count every row.
 */
#include <jansson.h>
#include <math.h>

#include "mmfuse/tool.h"
#include "train/training_data.h"

enum { N_TRAIN = 120, N_TEST = 40 };

typedef struct scene {
    mmf_ctx *ctx;
    mmf_dataset *dataset;
    mmf_model *model;
    int64_t rows[MAX_ROWS];
    mmf_explain_rows which;
} scene;

/* @param heads  of models that have them, each of width 4; 0: their own number */
static void make_scene_of_heads(scene *s, const char *model, const data_spec *spec, int heads)
{
    simple_split split;
    *s = (scene){.ctx = one_thread()};
    const mmf_train_options options = quick_options(8, 32);
    mmf_config *const config = quick_config(s->ctx, model, heads ? 4 * heads : 8, "0");
    char text[8];
    snprintf(text, sizeof text, "%d", heads);
    if (heads)
        test_ok(s->ctx, mmf_config_set(config, "heads", text));
    s->dataset = data_open(s->ctx, spec, "explain.npz");
    test_ok(s->ctx, mmf_train(s->ctx, &s->model, s->dataset, data_split(&split, N_TRAIN, 0), model,
                              config, &options));
    mmf_config_free(config);
    for (int64_t i = 0; i < MAX_ROWS; i++)
        s->rows[i] = i;
    s->which = (mmf_explain_rows){.part = "test",
                                  .rows = s->rows + N_TRAIN,
                                  .n = N_TEST,
                                  .train = s->rows,
                                  .n_train = N_TRAIN};
}

static void make_scene(scene *s, const char *model, const data_spec *spec)
{
    make_scene_of_heads(s, model, spec, 0);
}

static void end_scene(scene *s)
{
    mmf_model_free(s->model);
    mmf_dataset_close(s->dataset);
    mmf_ctx_free(s->ctx);
}

static json_t *explain(const scene *s, const mmf_explain_options *options)
{
    char *text = NULL;
    test_ok(s->ctx, mmf_explain(s->ctx, &text, s->model, s->dataset, &s->which, options));
    json_t *const e = json_loads(text, 0, NULL);
    assert_non_null(e);
    mmf_free(s->ctx, text);
    return e;
}

static mmf_explain_options quick(const char *noise)
{
    mmf_explain_options o = MMF_EXPLAIN_OPTIONS_INIT;
    o.noise = noise;
    o.n_draws = 1;
    o.seed = 4;
    return o;
}

static double number(const json_t *object, const char *key)
{
    const json_t *const value = json_object_get(object, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static double item(const json_t *object, const char *key, size_t i)
{
    const json_t *const value = json_array_get(json_object_get(object, key), i);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static double plain_metric(const scene *s, uint64_t use, const char *name)
{
    double y[N_TEST * N_CLASSES];
    mmf_metrics metrics = {0};
    const mmf_task *const task = mmf_model_task(s->model);
    test_ok(s->ctx, mmf_model_predict_rows(s->model, s->dataset, s->which.rows, N_TEST, use, y));
    test_ok(s->ctx, mmf_task_score(s->ctx, &metrics, task, s->dataset, s->which.rows, N_TEST, y));
    return mmf_metrics_get(&metrics, name);
}

static double plain_score(const scene *s, uint64_t use)
{
    return plain_metric(s, use, mmf_task_main_metric(mmf_model_task(s->model)->kind));
}

static const data_spec trio = {DATA_TRIO, N_TRAIN + N_TEST, false, true, 0, 6};
static const data_spec numbers_spec = {DATA_VECTORS, N_TRAIN + N_TEST, true, false, 0, 7};

static void check_contributions(const scene *s, const json_t *e, double sign)
{
    const json_t *const c = json_object_get(e, "contributions");
    const json_t *const values = json_object_get(c, "values");
    const size_t n = mmf_model_inputs(s->model)->count;
    double sum = 0;
    assert_int_equal(json_array_size(values), n);
    for (size_t m = 0; m < n; m++) {
        sum += number(json_array_get(values, m), "value");
        assert_true(number(json_array_get(values, m), "error") > 0);
    }
    assert_true(fabs(sum - (number(c, "full") - number(c, "empty"))) < 1e-9);
    assert_true(fabs(sign * number(c, "full") - plain_score(s, MMF_ALL_MODALITIES)) < 1e-9);
    assert_true(fabs(sign * number(c, "empty") - number(json_object_get(c, "prior"), "score")) <
                1e-9);
}

static void contributions_and_subsets_are_plain_scores(void **state)
{
    (void)state;
    scene s;
    make_scene(&s, "joint-concat", &trio);
    const mmf_explain_options options = quick("none");
    json_t *const e = explain(&s, &options);
    const json_t *const subsets = json_object_get(e, "subsets");
    check_contributions(&s, e, 1);
    assert_int_equal(json_array_size(subsets), 7);
    static const uint64_t bits[] = {1, 2, 4, 3, 5, 6, 7};
    for (size_t i = 0; i < 7; i++) {
        const json_t *const metrics = json_object_get(json_array_get(subsets, i), "metrics");
        assert_true(fabs(number(metrics, "accuracy") - plain_score(&s, bits[i])) < 1e-9);
    }
    /* Classes stand in turn: the prior is right for a third, rounded to rows. */
    assert_true(
        fabs(number(json_object_get(json_object_get(e, "contributions"), "prior"), "score") -
             1.0 / 3) < 0.02);
    assert_null(json_object_get(e, "robustness"));
    json_decref(e);
    end_scene(&s);
}

static void errors_count_every_row(void **state)
{
    (void)state;
    scene s;
    make_scene(&s, "joint-concat", &trio);
    const mmf_explain_options options = quick("none");
    json_t *const e = explain(&s, &options);
    const json_t *const counts = json_object_get(json_object_get(e, "confusion"), "counts");
    const json_t *const bins = json_object_get(e, "reliability");
    const json_t *const metrics = json_object_get(e, "metrics");
    double all = 0, right = 0, in_bins = 0, ece = 0;
    for (size_t i = 0; i < N_CLASSES; i++) {
        for (size_t k = 0; k < N_CLASSES; k++) {
            const json_t *const cell = json_array_get(json_array_get(counts, i), k);
            all += json_number_value(cell);
            right += i == k ? json_number_value(cell) : 0;
        }
    }
    assert_int_equal(json_array_size(bins), 15);
    for (size_t i = 0; i < 15; i++) {
        const json_t *const bin = json_array_get(bins, i);
        const double n = number(bin, "n");
        in_bins += n;
        if (n > 0)
            ece += n * fabs(number(bin, "confidence") - number(bin, "accuracy")) / N_TEST;
    }
    assert_true(all == N_TEST && in_bins == N_TEST);
    assert_true(fabs(right / N_TEST - number(metrics, "accuracy")) < 1e-9);
    assert_true(fabs(ece - number(metrics, "ece")) < 1e-9);
    json_decref(e);
    end_scene(&s);
}

/* Against itself a model is as sturdy as itself; areas are trapezoids over 0, 0.1 ... 0.9. */
static void areas_are_those_of_the_definition(void **state)
{
    (void)state;
    scene s;
    make_scene(&s, "joint-concat", &trio);
    mmf_explain_options options = quick(NULL);
    options.against = s.model;
    json_t *const e = explain(&s, &options);
    const json_t *const curves = json_object_get(json_object_get(e, "robustness"), "curves");
    /* Four kinds, on three sequences and on all of them. */
    assert_int_equal(json_array_size(curves), 16);
    for (size_t i = 0; i < json_array_size(curves); i++) {
        const json_t *const curve = json_array_get(curves, i);
        double area = 0;
        assert_true(fabs(item(curve, "scores", 0) - plain_score(&s, MMF_ALL_MODALITIES)) < 1e-9);
        for (size_t l = 0; l + 1 < 10; l++)
            area += 0.1 * (item(curve, "scores", l) + item(curve, "scores", l + 1)) / 2;
        assert_true(fabs(area - number(curve, "relative")) < 1e-9);
        assert_true(fabs(number(curve, "effective")) < 1e-9);
    }
    json_t *const again = explain(&s, &options);
    assert_true(json_equal(e, again));
    json_decref(e);
    json_decref(again);
    end_scene(&s);
}

static void numbers_have_errors_that_fall(void **state)
{
    (void)state;
    scene s;
    make_scene(&s, "joint-concat", &numbers_spec);
    const mmf_explain_options options = quick("gaussian");
    json_t *const e = explain(&s, &options);
    const json_t *const scatter = json_object_get(e, "scatter");
    const json_t *const curves = json_object_get(json_object_get(e, "robustness"), "curves");
    check_contributions(&s, e, -1);
    assert_true(json_is_false(json_object_get(e, "higher_is_better")));
    assert_int_equal(json_array_size(json_object_get(scatter, "true")), N_TEST);
    double mae = 0;
    for (size_t i = 0; i < N_TEST; i++)
        mae += fabs(item(scatter, "true", i) - item(scatter, "predicted", i)) / N_TEST;
    assert_true(fabs(mae - plain_score(&s, MMF_ALL_MODALITIES)) < 1e-6);
    assert_int_equal(json_array_size(curves), 3);
    assert_true(number(json_array_get(curves, 2), "relative") < 0); /* of the negative error */
    assert_true(json_is_null(json_object_get(json_array_get(curves, 2), "effective")));
    json_decref(e);
    end_scene(&s);
}

static void weights_of_modalities_are_named(void **state)
{
    (void)state;
    scene s;
    make_scene(&s, "weighted", &trio);
    const mmf_explain_options options = quick("none");
    json_t *const e = explain(&s, &options);
    const json_t *const output = json_array_get(json_object_get(e, "outputs"), 0);
    const json_t *const axis = json_array_get(json_object_get(output, "axes"), 0);
    assert_string_equal(json_string_value(json_object_get(output, "name")), "fusion_weights");
    assert_string_equal(json_string_value(json_array_get(json_object_get(axis, "labels"), 1)),
                        "audio");
    double sum = 0; /* of softmax weights, renormalised over what is there */
    for (size_t m = 0; m < 3; m++)
        sum += item(axis, "mean", m);
    assert_true(fabs(sum - 1) < 1e-5);
    json_decref(e);
    end_scene(&s);
}

static const json_t *output_of(const json_t *e, const char *name)
{
    const json_t *const outputs = json_object_get(e, "outputs");
    for (size_t i = 0; i < json_array_size(outputs); i++) {
        const json_t *const output = json_array_get(outputs, i);
        if (strcmp(json_string_value(json_object_get(output, "name")), name) == 0)
            return output;
    }
    return NULL;
}

static const json_t *axis_of(const json_t *e, const char *name, size_t axis)
{
    const json_t *const output = output_of(e, name);
    assert_non_null(output);
    return json_array_get(json_object_get(output, "axes"), axis);
}

static void assert_axis(const json_t *axis, const char *title, const char *first_label)
{
    assert_string_equal(json_string_value(json_object_get(axis, "title")), title);
    assert_string_equal(json_string_value(json_array_get(json_object_get(axis, "labels"), 0)),
                        first_label);
}

/* There are three modalities, three heads and three classes. */
static void other_axes_of_their_number_are_numbered(void **state)
{
    (void)state;
    const mmf_explain_options options = quick("none");
    scene s;
    make_scene_of_heads(&s, "gat", &trio, 3);
    const char *const first = mmf_model_inputs(s.model)->inputs[0].name;
    json_t *e = explain(&s, &options);
    assert_axis(axis_of(e, "attention.1", 0), "head", "1");
    assert_null(json_object_get(axis_of(e, "attention.1", 1), "labels")); /* those who attend */
    assert_axis(axis_of(e, "attention.1", 2), "modality", first);
    assert_null(output_of(e, "node")); /* features are nothing to look at */
    json_decref(e);
    end_scene(&s);
    make_scene(&s, "tmc", &trio);
    e = explain(&s, &options);
    assert_axis(axis_of(e, "belief", 0), "class", "1");
    json_decref(e);
    end_scene(&s);
}

/* The token that is read gives what it does not keep to the modalities. */
static void attention_is_shared_by_modality(void **state)
{
    (void)state;
    const mmf_explain_options options = quick("none");
    scene s;
    make_scene(&s, "attention", &trio);
    json_t *const e = explain(&s, &options);
    const json_t *const axis = axis_of(e, "attention.1", 1);
    assert_axis(axis, "modality", mmf_model_inputs(s.model)->inputs[0].name);
    double sum = 0;
    for (size_t m = 0; m < 3; m++) {
        assert_true(item(axis, "mean", m) > 0);
        sum += item(axis, "mean", m);
    }
    assert_true(sum > 0.1 && sum < 1);
    json_decref(e);
    end_scene(&s);
}

/* Looking keeps weights that predicting does not: the answers are those of predicting. */
static void looking_changes_no_answer(void **state)
{
    (void)state;
    static const char *const models[] = {"attention", "cross-attention", "mult", "perceiver"};
    const mmf_explain_options options = quick("none");
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        scene s;
        make_scene(&s, models[i], &trio);
        json_t *const e = explain(&s, &options);
        const double seen = number(json_object_get(e, "metrics"), "nll");
        assert_true(fabs(seen - plain_metric(&s, MMF_ALL_MODALITIES, "nll")) < 1e-5);
        json_decref(e);
        end_scene(&s);
    }
}

static void models_of_every_kind_are_explained(void **state)
{
    (void)state;
    static const char *const models[] = {"only-audio", "early-concat", "lmf",  "gmu",
                                         "attention",  "late-mean",    "mult", "misa"};
    for (size_t i = 0; i < (TEST_SAMPLE ? 4 : sizeof models / sizeof *models); i++) {
        scene s;
        make_scene(&s, models[i], &trio);
        const mmf_explain_options options = quick("step-drop,modality-drop");
        json_t *const e = explain(&s, &options);
        assert_string_equal(json_string_value(json_object_get(e, "model")), models[i]);
        assert_true(json_string_length(json_object_get(e, "absent")) > 0);
        json_decref(e);
        end_scene(&s);
    }
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    scene s, other;
    char *text = NULL;
    make_scene(&s, "joint-concat", &trio);
    make_scene(&other, "joint-concat", &numbers_spec);
    mmf_explain_options options = quick("gausian");
    test_fails(s.ctx, mmf_explain(s.ctx, &text, s.model, s.dataset, &s.which, &options), MMF_ARG,
               "gausian");
    options = quick("none");
    options.against = other.model;
    test_fails(s.ctx, mmf_explain(s.ctx, &text, s.model, s.dataset, &s.which, &options), MMF_ARG,
               "regression");
    options = quick(NULL);
    options.n_draws = 1001;
    test_fails(s.ctx, mmf_explain(s.ctx, &text, s.model, s.dataset, &s.which, &options), MMF_ARG,
               "1001");
    const mmf_explain_rows none = {.part = "test"};
    test_fails(s.ctx, mmf_explain(s.ctx, &text, s.model, s.dataset, &none, NULL), MMF_ARG,
               "no rows");
    assert_null(text);
    end_scene(&s);
    end_scene(&other);
}

static void stop_at_the_third_pass(void *user, const char *what, size_t n_done, size_t n_passes)
{
    (void)what;
    assert_true(n_done < n_passes);
    if (n_done == 2)
        mmf_ctx_cancel(user);
}

static void it_can_be_stopped(void **state)
{
    (void)state;
    scene s;
    char *text = NULL;
    make_scene(&s, "joint-concat", &trio);
    mmf_explain_options options = quick(NULL);
    options.watch = stop_at_the_third_pass;
    options.watch_user = s.ctx;
    assert_int_equal(mmf_explain(s.ctx, &text, s.model, s.dataset, &s.which, &options),
                     MMF_CANCELLED);
    assert_null(text);
    end_scene(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contributions_and_subsets_are_plain_scores),
        cmocka_unit_test(errors_count_every_row),
        cmocka_unit_test(areas_are_those_of_the_definition),
        cmocka_unit_test(numbers_have_errors_that_fall),
        cmocka_unit_test(weights_of_modalities_are_named),
        cmocka_unit_test(other_axes_of_their_number_are_numbered),
        cmocka_unit_test(attention_is_shared_by_modality),
        cmocka_unit_test(looking_changes_no_answer),
        cmocka_unit_test(models_of_every_kind_are_explained),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(it_can_be_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
