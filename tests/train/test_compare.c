/*
 * test_compare.c: comparisons on small data in which each of two modalities knows one bit of four
 * classes, so that either alone gets half of them right and both together all.
 */
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"
#include "train/compare_data.h"

static const char models[] = "only, joint-concat,late-mean,late-stacking";

static void fusion_wins_where_each_modality_knows_half(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_data(ctx, "bits.npz", true, true);
    const char *const folder = test_path("two-jobs");
    const mmf_compare_options options = quick(folder, models, 2);
    mmf_comparison c;
    test_ok(ctx, mmf_compare(ctx, &c, dataset, &options));
    assert_int_equal(c.n_trials, 10);
    assert_int_equal(c.n_leaders, 5);
    for (size_t i = 0; i < c.n_trials; i++) {
        if (c.trials[i].status != MMF_OK)
            fail_msg("%s: %s", c.trials[i].model, c.trials[i].error);
        assert_true(c.trials[i].n_parameters > 0 && c.trials[i].epochs > 0);
        assert_true(c.trials[i].latency > 0 && c.trials[i].latency < 1);
        assert_int_equal(c.trials[i].seed, 5 + i % 2);
    }
    assert_true(accuracy(&c, "joint-concat") > 0.95);
    assert_true(fabs(accuracy(&c, "only-left") - 0.5) < 0.12);
    assert_true(fabs(accuracy(&c, "only-right") - 0.5) < 0.12);
    assert_non_null(mmf_model_only_modality(c.best_single));
    assert_null(mmf_model_only_modality(c.best_fusion));
    assert_string_equal(c.leaders[0].model, c.best_fusion);
    const double difference = accuracy(&c, c.best_fusion) - accuracy(&c, c.best_single);
    assert_true(fabs(c.gain - difference) < 1e-9);
    assert_true(c.gain_low > 0.3 && c.gain_low < c.gain && c.gain < c.gain_high);
    assert_true(exists(folder, "results.csv") && exists(folder, "unimodal/only-left.5.chosen.mmf"));
    mmf_comparison_clear(&c);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

static void count_ended(void *user, const mmf_comparison *so_far, size_t n_done, size_t n_running,
                        double seconds)
{
    size_t *const most_running = user;
    assert_true(n_done <= so_far->n_trials && seconds >= 0);
    *most_running = n_running > *most_running ? n_running : *most_running;
}

static void scores_do_not_depend_on_jobs_and_resuming_runs_nothing(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_data(ctx, "same.npz", true, true);
    mmf_comparison one, two, again;
    size_t most_running = 0;
    mmf_compare_options options = quick(test_path("one-job"), models, 1);
    options.watch = count_ended;
    options.watch_user = &most_running;
    test_ok(ctx, mmf_compare(ctx, &one, dataset, &options));
    assert_int_equal(most_running, 1);
    options.n_jobs = 2;
    options.folder = test_path("more-jobs");
    test_ok(ctx, mmf_compare(ctx, &two, dataset, &options));
    assert_equal_scores(&one, &two);
    options.resume = true;
    most_running = 0;
    test_ok(ctx, mmf_compare(ctx, &again, dataset, &options));
    assert_int_equal(most_running, 0);
    assert_equal_scores(&two, &again);
    for (size_t i = 0; i < two.n_trials; i++)
        assert_true(two.trials[i].latency == again.trials[i].latency);
    mmf_comparison_clear(&again);
    options.train.epochs = 3; /* other options: nothing of the folder may be kept */
    test_ok(ctx, mmf_compare(ctx, &again, dataset, &options));
    assert_true(most_running > 0);
    for (size_t i = 0; i < again.n_trials; i++)
        assert_true(again.trials[i].epochs <= 3);
    mmf_comparison_clear(&again);
    mmf_comparison_clear(&one);
    mmf_comparison_clear(&two);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

static void two_comparisons_do_not_share_a_folder(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_data(ctx, "shared.npz", true, true);
    const mmf_compare_options options = quick(test_path("shared"), "only-left", 1);
    mmf_comparison c;
    int lock = -1;
    test_ok(ctx, mmf_make_folder(ctx, options.folder));
    test_ok(ctx, mmf_lock_folder(ctx, options.folder, &lock));
    test_fails(ctx, mmf_compare(ctx, &c, dataset, &options), MMF_STATE, "another process");
    mmf_unlock_folder(lock);
    test_ok(ctx, mmf_compare(ctx, &c, dataset, &options));
    mmf_comparison_clear(&c);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

static void files_say_what_the_comparison_says(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_data(ctx, "files.npz", true, true);
    const char *const folder = test_path("files");
    const mmf_compare_options options = quick(folder, "only-left,joint-concat", 2);
    mmf_comparison c;
    test_ok(ctx, mmf_compare(ctx, &c, dataset, &options));
    json_t *const results = results_of(folder);
    char *const text = mmf_comparison_json(&c);
    json_t *const given = json_loads(text, 0, NULL);
    assert_true(json_equal(results, given));
    assert_string_equal(json_string_value(json_object_get(results, "task")), "classification");
    assert_int_equal(json_array_size(json_object_get(results, "trials")), 4);
    const json_t *const first = json_array_get(json_object_get(results, "leaderboard"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "model")), "joint-concat");
    const json_t *const entry = json_object_get(json_object_get(first, "metrics"), "accuracy");
    assert_int_equal(json_integer_value(json_object_get(entry, "n")), 2);
    const double mean = json_number_value(json_object_get(entry, "mean"));
    assert_true(fabs(mean - accuracy(&c, "joint-concat")) < 1e-11);
    char path[1024];
    snprintf(path, sizeof path, "%s/predictions/joint-concat.6.npz", folder);
    mmf_archive *archive = NULL;
    test_ok(ctx, mmf_archive_open(ctx, &archive, path, NULL));
    mmf_array rows, y, target;
    test_ok(ctx, mmf_archive_load(archive, (size_t)mmf_archive_find(archive, "test.rows"), &rows));
    test_ok(ctx,
            mmf_archive_load(archive, (size_t)mmf_archive_find(archive, "test.prediction"), &y));
    test_ok(ctx,
            mmf_archive_load(archive, (size_t)mmf_archive_find(archive, "test.target"), &target));
    assert_int_equal(rows.shape[0], N_ROWS / 4);
    assert_true(y.shape[0] == N_ROWS / 4 && y.shape[1] == 4);
    double right = 0;
    for (int64_t i = 0; i < rows.shape[0]; i++) {
        int64_t best = 0;
        assert_int_equal(mmf_array_integer(&rows, i) % 4, 3);
        for (int64_t k = 1; k < 4; k++)
            best = mmf_array_number(&y, 4 * i + k) > mmf_array_number(&y, 4 * i + best) ? k : best;
        right += best == mmf_array_integer(&target, i) ? 1 : 0;
    }
    assert_true(fabs(right / (double)rows.shape[0] -
                     mmf_metrics_get(&c.trials[3].test, "accuracy")) < 1e-12);
    mmf_archive_close(archive);
    json_decref(results);
    json_decref(given);
    mmf_free(ctx, text);
    mmf_comparison_clear(&c);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

static double number(const json_t *object, const char *name)
{
    const json_t *const value = json_object_get(object, name);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static void models_are_tested_against_two_references(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_data(ctx, "against.npz", true, true);
    const char *const folder = test_path("against");
    const mmf_compare_options options = quick(folder, models, 2);
    mmf_comparison c;
    test_ok(ctx, mmf_compare(ctx, &c, dataset, &options));
    json_t *const results = results_of(folder);
    const json_t *const leaders = json_object_get(results, "leaderboard");
    bool any_pareto = false;
    for (size_t i = 0; i < c.n_leaders; i++) {
        const mmf_leader *const l = &c.leaders[i];
        const json_t *const row = json_array_get(leaders, i);
        const json_t *const against = json_object_get(row, "against");
        const bool is_concat = strcmp(l->model, "joint-concat") == 0;
        const bool is_single = strcmp(l->model, c.best_single) == 0;
        any_pareto = any_pareto || l->is_pareto;
        assert_int_equal(json_is_true(json_object_get(row, "pareto")), l->is_pareto);
        assert_int_equal(json_is_null(json_object_get(against, "joint-concat")), is_concat);
        assert_int_equal(json_is_null(json_object_get(against, "best_single")), is_single);
        if (is_single)
            continue;
        const json_t *const single = json_object_get(against, "best_single");
        const double difference = accuracy(&c, l->model) - accuracy(&c, c.best_single);
        assert_true(fabs(number(single, "difference") - difference) < 1e-9);
        assert_true(number(single, "low") <= difference && difference <= number(single, "high"));
        assert_true(number(single, "p_adjusted") >= number(single, "p"));
        if (is_concat) /* half of the rows more, on each of 120 */
            assert_true(number(single, "p") < 0.001 && number(single, "p_adjusted") < 0.005);
    }
    assert_true(any_pareto);
    json_decref(results);
    mmf_comparison_clear(&c);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

/* Models with an objective on hard labels do without smoothing, and say so. */
static void smoothing_is_left_aside_where_it_does_not_reach(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_data(ctx, "smooth.npz", true, true);
    mmf_compare_options options = quick(test_path("smooth"), "qmf,tmc,joint-concat,only-left", 2);
    options.n_seeds = 1;
    options.train.epochs = 3;
    options.train.smoothing = 0.1;
    options.train.balance = true;
    options.train.aid = "unimodal-heads";
    mmf_comparison c;
    test_ok(ctx, mmf_compare(ctx, &c, dataset, &options));
    for (size_t i = 0; i < c.n_trials; i++)
        assert_int_equal(c.trials[i].status, MMF_OK);
    assert_string_equal(c.trials[0].left_aside, "smoothing, balance");
    assert_string_equal(c.trials[1].left_aside, "smoothing, balance");
    assert_string_equal(c.trials[2].left_aside, "");
    assert_string_equal(c.trials[3].left_aside, "aids");
    mmf_comparison_clear(&c);
    options.train.aid = "omg-ge";
    test_fails(ctx, mmf_compare(ctx, &c, dataset, &options), MMF_ARG, "\"ogm-ge\"");
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

static void a_model_that_cannot_run_is_a_failed_row(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_data(ctx, "refused.npz", false, true);
    const char *const folder = test_path("refused");
    const mmf_compare_options options = quick(folder, "only-left,late-vote,joint-concat", 2);
    mmf_comparison c;
    test_ok(ctx, mmf_compare(ctx, &c, dataset, &options));
    assert_int_equal(c.n_trials, 6);
    assert_int_equal(c.n_leaders, 2);
    for (size_t i = 2; i < 4; i++) {
        assert_string_equal(c.trials[i].model, "late-vote");
        assert_int_equal(c.trials[i].status, MMF_UNSUPPORTED);
        assert_non_null(strstr(c.trials[i].error, "regression"));
    }
    assert_true(c.gain > 0); /* of errors, positive is better too */
    const double difference = mmf_metrics_get(&leader(&c, "only-left")->test_mean, "mae") -
                              mmf_metrics_get(&leader(&c, "joint-concat")->test_mean, "mae");
    assert_true(fabs(c.gain - difference) < 1e-9);
    json_t *const results = results_of(folder);
    const json_t *const row = json_array_get(json_object_get(results, "trials"), 2);
    assert_string_equal(json_string_value(json_object_get(row, "error")), c.trials[2].error);
    json_decref(results);
    mmf_comparison_clear(&c);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

static void a_trial_that_fails_in_its_process_is_a_failed_row(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_data(ctx, "failing.npz", true, true);
    const char *const folder = test_path("failing");
    mmf_compare_options options = quick(folder, "only-left,tfn,joint-concat", 2);
    options.n_seeds = 1;
    char path[1024]; /* where joint-concat's predictions would be is a folder */
    snprintf(path, sizeof path, "%s/predictions/joint-concat.5.npz", folder);
    mkdir(folder, 0777);
    snprintf(path, sizeof path, "%s/predictions", folder);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/predictions/joint-concat.5.npz", folder);
    mkdir(path, 0777);
    mmf_comparison c;
    test_ok(ctx, mmf_compare(ctx, &c, dataset, &options));
    assert_int_equal(c.n_leaders, 2);
    assert_int_equal(c.trials[2].status, MMF_IO);
    assert_non_null(strstr(c.trials[2].error, "joint-concat.5.npz"));
    rmdir(path);
    mmf_comparison_clear(&c);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

static void wrong_options_are_errors(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_data(ctx, "wrong.npz", true, true);
    mmf_comparison c;
    mmf_compare_options options = quick(test_path("wrong"), "joint-concta", 1);
    test_fails(ctx, mmf_compare(ctx, &c, dataset, &options), MMF_ARG, "\"joint-concat\"");
    options.models = "only-centre";
    test_fails(ctx, mmf_compare(ctx, &c, dataset, &options), MMF_ARG, "centre");
    options.models = "joint-concat";
    options.set = "hiden=8";
    test_fails(ctx, mmf_compare(ctx, &c, dataset, &options), MMF_ARG, "hiden");
    options.set = "hidden=zero";
    test_fails(ctx, mmf_compare(ctx, &c, dataset, &options), MMF_ARG, "hidden");
    options.set = NULL;
    options.encoders = "centre=mlp:8";
    test_fails(ctx, mmf_compare(ctx, &c, dataset, &options), MMF_ARG, "centre");
    options.encoders = NULL;
    options.n_seeds = -1;
    test_fails(ctx, mmf_compare(ctx, &c, dataset, &options), MMF_ARG, "seeds");
    options.n_seeds = 1;
    options.folder = NULL;
    test_fails(ctx, mmf_compare(ctx, &c, dataset, &options), MMF_ARG, "folder");
    assert_null(c.trials);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes > 0, 1);
    mmf_dataset_close(dataset);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void without_test_rows_each_row_is_tested_in_one_fold(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_data(ctx, "folds.npz", true, false);
    const char *const folder = test_path("folds");
    mmf_compare_options options = quick(folder, "only-left,joint-concat", 2);
    options.n_seeds = 0;
    options.split.n_folds = 4;
    options.set = "hidden=16";
    options.encoders = "left=mlp:8";
    mmf_comparison c;
    test_ok(ctx, mmf_compare(ctx, &c, dataset, &options));
    assert_int_equal(c.n_trials, 8);
    assert_int_equal(c.n_leaders, 2);
    int n_tested[N_ROWS] = {0};
    for (int seed = 5; seed < 9; seed++) {
        char path[1024];
        mmf_archive *archive = NULL;
        mmf_array rows[2];
        static const char *const keys[] = {"test.rows", "valid.rows"};
        snprintf(path, sizeof path, "%s/predictions/joint-concat.%d.npz", folder, seed);
        test_ok(ctx, mmf_archive_open(ctx, &archive, path, NULL));
        for (size_t k = 0; k < 2; k++)
            test_ok(ctx, mmf_archive_load(archive, (size_t)mmf_archive_find(archive, keys[k]),
                                          &rows[k]));
        for (int64_t i = 0; i < rows[0].shape[0]; i++) {
            const int64_t row = mmf_array_integer(&rows[0], i);
            n_tested[row]++;
            for (int64_t j = 0; j < rows[1].shape[0]; j++)
                assert_true(mmf_array_integer(&rows[1], j) != row);
        }
        mmf_archive_close(archive);
    }
    for (size_t row = 0; row < N_ROWS; row++)
        assert_int_equal(n_tested[row], 1);
    assert_true(c.gain_low > 0.3);
    mmf_comparison_clear(&c);
    options.split.n_folds = 2;
    test_fails(ctx, mmf_compare(ctx, &c, dataset, &options), MMF_ARG, "3 or more");
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

static void cancel(void *user, const mmf_comparison *so_far, size_t n_done, size_t n_running,
                   double seconds)
{
    (void)so_far;
    (void)n_running;
    (void)seconds;
    if (n_done >= 1)
        mmf_ctx_cancel(user);
}

static void a_cancelled_comparison_keeps_what_has_ended(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_data(ctx, "cancelled.npz", true, true);
    const char *const folder = test_path("cancelled");
    mmf_compare_options options = quick(folder, "only-left,joint-concat", 1);
    options.train.epochs = 400;
    options.train.patience = 400;
    options.watch = cancel;
    options.watch_user = ctx;
    mmf_comparison c;
    test_fails(ctx, mmf_compare(ctx, &c, dataset, &options), MMF_CANCELLED, folder);
    size_t n_done = 0;
    for (size_t i = 0; i < c.n_trials; i++) {
        n_done += c.trials[i].status == MMF_OK;
        if (c.trials[i].status != MMF_OK)
            assert_int_equal(c.trials[i].status, MMF_CANCELLED);
    }
    assert_true(n_done >= 1 && n_done < c.n_trials);
    assert_true(exists(folder, "results.json"));
    mmf_comparison_clear(&c);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fusion_wins_where_each_modality_knows_half),
        cmocka_unit_test(scores_do_not_depend_on_jobs_and_resuming_runs_nothing),
        cmocka_unit_test(two_comparisons_do_not_share_a_folder),
        cmocka_unit_test(files_say_what_the_comparison_says),
        cmocka_unit_test(models_are_tested_against_two_references),
        cmocka_unit_test(smoothing_is_left_aside_where_it_does_not_reach),
        cmocka_unit_test(a_model_that_cannot_run_is_a_failed_row),
        cmocka_unit_test(a_trial_that_fails_in_its_process_is_a_failed_row),
        cmocka_unit_test(wrong_options_are_errors),
        cmocka_unit_test(without_test_rows_each_row_is_tested_in_one_fold),
        cmocka_unit_test(a_cancelled_comparison_keeps_what_has_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
