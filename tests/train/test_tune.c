/* test_tune.c: settings that are tried before a comparison, and what becomes of them. */
#include <math.h>

#include "train/compare_data.h"

static void count_all_ended(void *user, const mmf_comparison *so_far, size_t n_done,
                            size_t n_running, double seconds)
{
    size_t *const most_running = user;
    assert_true(n_done <= so_far->n_trials + so_far->n_draws && seconds >= 0);
    *most_running = n_running > *most_running ? n_running : *most_running;
}

static void assert_no_test_score(json_t *value)
{
    const char *key = NULL;
    json_t *member = NULL;
    size_t i = 0;
    json_object_foreach(value, key, member)
    {
        assert_null(strstr(key, "test"));
        assert_string_not_equal(key, "metrics");
        assert_no_test_score(member);
    }
    json_array_foreach(value, i, member) assert_no_test_score(member);
}

static void tuning_chooses_on_validation(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_dataset *const dataset = open_data(ctx, "tuned.npz", true, true);
    const char *const folder = test_path("tuned");
    mmf_compare_options options = quick(folder, "only-left,joint-concat,late-mean", 2);
    options.n_tune = 4;
    options.train.optimizer.lr = 0; /* to be drawn */
    mmf_comparison c, again;
    test_ok(ctx, mmf_compare(ctx, &c, dataset, &options));
    assert_int_equal(c.n_draws, 8); /* not the late one */
    size_t n_chosen = 0;
    for (size_t i = 0; i < c.n_draws; i++) {
        const mmf_draw *const d = &c.draws[i];
        assert_int_equal(d->status, MMF_OK);
        assert_int_equal(d->number, i % 4);
        assert_string_equal(d->model, i < 4 ? "only-left" : "joint-concat");
        assert_non_null(strstr(d->setting, "\"lr\""));
        assert_non_null(strstr(d->setting, "\"hidden\""));
        n_chosen += d->is_chosen;
        for (size_t j = i - i % 4; j < i - i % 4 + 4; j++) {
            if (d->is_chosen)
                assert_true(mmf_metrics_get(&d->valid, "accuracy") >=
                            mmf_metrics_get(&c.draws[j].valid, "accuracy"));
            if (j < i)
                assert_string_not_equal(d->setting, c.draws[j].setting);
        }
    }
    assert_int_equal(n_chosen, 2);
    /* The first seed has what its setting had as a draw. */
    const mmf_trial *const first = &c.trials[2];
    for (size_t i = 4; i < 8; i++) {
        if (c.draws[i].is_chosen)
            assert_true(fabs(mmf_metrics_get(&c.draws[i].valid, "nll") -
                             mmf_metrics_get(&first->valid, "nll")) < 1e-9);
    }
    json_t *const results = results_of(folder);
    assert_int_equal(json_array_size(json_object_get(json_object_get(results, "tune"), "models")),
                     2);
    assert_no_test_score(json_object_get(results, "tune"));
    json_decref(results);
    options.resume = true;
    size_t most_running = 0;
    options.watch = count_all_ended;
    options.watch_user = &most_running;
    test_ok(ctx, mmf_compare(ctx, &again, dataset, &options));
    assert_int_equal(most_running, 0);
    assert_equal_scores(&c, &again);
    mmf_comparison_clear(&again);
    mmf_comparison_clear(&c);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

static void cancel_in_tuning(void *user, const mmf_comparison *so_far, size_t n_done,
                             size_t n_running, double seconds)
{
    (void)so_far;
    (void)n_running;
    (void)seconds;
    if (n_done >= 2)
        mmf_ctx_cancel(user);
}

static void tuning_goes_on_where_it_was(void **state)
{
    (void)state;
    mmf_dataset *dataset = NULL;
    mmf_comparison whole, c;
    mmf_ctx *ctx = test_ctx();
    dataset = open_data(ctx, "resumed.npz", true, true);
    mmf_compare_options options = quick(test_path("unbroken"), "only-left,joint-concat", 1);
    options.n_tune = 3;
    test_ok(ctx, mmf_compare(ctx, &whole, dataset, &options));
    mmf_ctx *const other = test_ctx();
    mmf_dataset *same = NULL;
    test_ok(other, mmf_dataset_open(other, &same, test_path("resumed.npz"), NULL));
    options.folder = test_path("broken");
    options.watch = cancel_in_tuning;
    options.watch_user = other;
    test_fails(other, mmf_compare(other, &c, same, &options), MMF_CANCELLED, "interrupted");
    size_t n_done = 0;
    for (size_t i = 0; i < c.n_draws; i++)
        n_done += c.draws[i].status == MMF_OK;
    assert_true(n_done >= 2 && n_done < c.n_draws);
    mmf_comparison_clear(&c);
    mmf_dataset_close(same);
    mmf_ctx_free(other);
    options.watch = NULL;
    options.resume = true;
    test_ok(ctx, mmf_compare(ctx, &c, dataset, &options));
    assert_equal_scores(&whole, &c);
    mmf_comparison_clear(&whole);
    mmf_comparison_clear(&c);
    mmf_dataset_close(dataset);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tuning_chooses_on_validation),
        cmocka_unit_test(tuning_goes_on_where_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
