/*
 * compare_data.h: comparisons on small data in which each of two modalities knows one bit of four
 * classes, so that either alone gets half of them right and both together all.
 */
#ifndef MMFUSE_TESTS_COMPARE_DATA_H
#define MMFUSE_TESTS_COMPARE_DATA_H

#include <math.h>
#include <unistd.h>

#include <jansson.h>

#include "mmfuse/train.h"
#include "support.h"

enum { N_ROWS = 480, WIDTH = 6 };

static inline void add(mmf_ctx *ctx, mmf_npz_writer *writer, const char *name, mmf_dtype dtype,
                       const void *data, int64_t width)
{
    const mmf_array array = {.dtype = dtype,
                             .n_dims = width > 0 ? 2 : 1,
                             .shape = {N_ROWS, width},
                             .item_bytes = mmf_dtype_bytes(dtype),
                             .data = data};
    test_ok(ctx, mmf_npz_add(writer, name, &array));
}

/* `classes`: bits of left and right; else the target is left + right, with noise in both. */
static inline void write_data(mmf_ctx *ctx, const char *path, bool classes, bool with_split)
{
    static float left[N_ROWS * WIDTH], right[N_ROWS * WIDTH];
    static int64_t labels[N_ROWS], split[N_ROWS];
    static double values[N_ROWS];
    mmf_rng rng = mmf_rng_make(11, mmf_rng_stream("test"));
    for (int64_t i = 0; i < N_ROWS; i++) {
        const int64_t a = (int64_t)mmf_rng_below(&rng, 2), b = (int64_t)mmf_rng_below(&rng, 2);
        for (int64_t j = 0; j < WIDTH; j++) {
            left[i * WIDTH + j] = (float)(mmf_rng_normal(&rng) + (j == 0 ? 5.0 * (double)a : 0));
            right[i * WIDTH + j] = (float)(mmf_rng_normal(&rng) + (j == 1 ? 5.0 * (double)b : 0));
        }
        labels[i] = 2 * a + b;
        values[i] = (double)left[i * WIDTH] + (double)right[i * WIDTH + 1];
        split[i] = i % 4 == 3 ? 2 : (i % 4 == 2 ? 1 : 0);
    }
    mmf_npz_writer *writer = NULL;
    test_ok(ctx, mmf_npz_create(ctx, &writer, path, false));
    add(ctx, writer, "left", MMF_F32, left, WIDTH);
    add(ctx, writer, "right", MMF_F32, right, WIDTH);
    if (classes)
        add(ctx, writer, "label", MMF_I64, labels, 0);
    else
        add(ctx, writer, "label", MMF_F64, values, 0);
    if (with_split)
        add(ctx, writer, "split", MMF_I64, split, 0);
    test_ok(ctx, mmf_npz_commit(writer));
}

static inline mmf_dataset *open_data(mmf_ctx *ctx, const char *name, bool classes, bool with_split)
{
    mmf_dataset *dataset = NULL;
    write_data(ctx, test_path(name), classes, with_split);
    test_ok(ctx, mmf_dataset_open(ctx, &dataset, test_path(name), NULL));
    return dataset;
}

static inline mmf_compare_options quick(const char *folder, const char *models, int n_jobs)
{
    mmf_compare_options options = MMF_COMPARE_OPTIONS_INIT;
    options.models = models;
    options.n_seeds = 2;
    options.n_jobs = n_jobs;
    options.folder = folder;
    options.train.seed = 5;
    options.train.epochs = 12;
    options.train.optimizer.lr = 1e-2;
    return options;
}

static inline const mmf_leader *leader(const mmf_comparison *c, const char *model)
{
    for (size_t i = 0; i < c->n_leaders; i++) {
        if (strcmp(c->leaders[i].model, model) == 0)
            return &c->leaders[i];
    }
    fail_msg("%s is not on the leaderboard", model);
    return NULL;
}

static inline double accuracy(const mmf_comparison *c, const char *model)
{
    return mmf_metrics_get(&leader(c, model)->test_mean, "accuracy");
}

static inline bool exists(const char *folder, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, R_OK) == 0;
}

static inline json_t *results_of(const char *folder)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/results.json", folder);
    json_error_t error;
    json_t *const results = json_load_file(path, 0, &error);
    if (!results)
        fail_msg("%s: line %d: %s", path, error.line, error.text);
    return results;
}

/* Everything but times, which differ from run to run. */
static inline void assert_equal_scores(const mmf_comparison *a, const mmf_comparison *b)
{
    assert_int_equal(a->n_trials, b->n_trials);
    for (size_t i = 0; i < a->n_trials; i++) {
        const mmf_trial *const x = &a->trials[i], *const y = &b->trials[i];
        assert_string_equal(x->model, y->model);
        assert_int_equal(x->epochs, y->epochs);
        assert_int_equal(x->test.count, y->test.count);
        assert_int_equal(x->valid.count, y->valid.count);
        assert_true(x->test.count > 0 && x->valid.count > 0);
        for (size_t k = 0; k < x->test.count; k++)
            assert_true(x->test.items[k].value == y->test.items[k].value);
        for (size_t k = 0; k < x->valid.count; k++)
            assert_true(x->valid.items[k].value == y->valid.items[k].value);
    }
    assert_true(a->gain == b->gain && a->gain_low == b->gain_low);
}

#endif
