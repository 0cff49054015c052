/*
 * test_losses.c: losses over the features of modalities: what absent rows do, means over pairs, and
 * values known in closed form.
 */
#include <math.h>

#include "mmfuse/model.h"
#include "support.h"

enum { MAX_M = 3, ROWS = 4, WIDTH = 3 };

typedef struct views {
    size_t m;
    int64_t rows;
    mmf_real values[MAX_M][ROWS * WIDTH], present[MAX_M][ROWS];
    int64_t label[ROWS];
    bool has_present, has_label;
} views;

static views random_views(size_t m, uint64_t seed)
{
    views v = {.m = m, .rows = ROWS};
    mmf_rng rng = mmf_rng_make(seed, 0);
    for (size_t i = 0; i < m; i++) {
        for (int e = 0; e < ROWS * WIDTH; e++)
            v.values[i][e] = (mmf_real)mmf_rng_normal(&rng);
        for (int r = 0; r < ROWS; r++)
            v.present[i][r] = 1;
    }
    return v;
}

/* A layer or model may have the name too. */
static const mmf_def *find_loss(const char *name)
{
    size_t n = 0;
    const mmf_def *const *const losses = mmf_catalogue(MMF_KIND_LOSS, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(losses[i]->name, name) == 0)
            return losses[i];
    }
    fail_msg("there is no loss %s", name);
    return NULL;
}

static double loss_of(mmf_ctx *ctx, const char *name, views *v)
{
    static const char *const names[MAX_M] = {"p", "q", "r"};
    mmf_input_schema inputs[MAX_M] = {{0}};
    mmf_module *module = NULL;
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    for (size_t m = 0; m < v->m; m++)
        inputs[m] = (mmf_input_schema){.name = names[m],
                                       .kind = MMF_VECTOR,
                                       .n_dims = 1,
                                       .shape = {WIDTH},
                                       .has_present = v->has_present};
    const mmf_schema schema = {v->m, inputs};
    test_ok(ctx, mmf_module_create(ctx, &module, find_loss(name), NULL, &schema, 1));
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    for (size_t m = 0; m < v->m; m++) {
        mmf_named_put(tape, &in, names[m],
                      mmf_input(tape, v->values[m], 2, (int64_t[]){v->rows, WIDTH}));
        if (v->has_present)
            mmf_named_putf(tape, &in, mmf_input(tape, v->present[m], 1, &v->rows), "%s.present",
                           names[m]);
    }
    if (v->has_label)
        mmf_named_put(tape, &in, "label", mmf_input_ints(tape, v->label, 1, &v->rows));
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    const mmf_tensor *const loss = mmf_named_get(&out, "loss");
    test_ok(ctx, mmf_tape_status(tape));
    assert_true(loss && loss->count == 1);
    const double value = (double)loss->data[0];
    assert_true(isfinite(value));
    mmf_tape_free(tape);
    mmf_module_free(module);
    return value;
}

static const char *const all_names[] = {"clip-loss",   "supcon", "cmd", "difference",
                                        "adversarial", "vse-pp", "cpc"};

/* Equal features everywhere: every candidate is as likely as any other. */
static void equal_features_give_the_logarithm_of_the_candidates(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    views v = {.m = 2, .rows = ROWS};
    for (int e = 0; e < ROWS * WIDTH; e++)
        v.values[0][e] = v.values[1][e] = (mmf_real)(1 + e % WIDTH);
    assert_true(fabs(loss_of(ctx, "clip-loss", &v) - log(ROWS)) < 1e-5);
    assert_true(fabs(loss_of(ctx, "cpc", &v) - log(ROWS)) < 1e-5);
    assert_true(fabs(loss_of(ctx, "supcon", &v) - log(2 * ROWS - 1)) < 1e-4);
    mmf_ctx_free(ctx);
}

static void rows_that_lack_a_modality_are_left_out(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t n = 0; n < sizeof all_names / sizeof *all_names; n++) {
        views v = random_views(3, 5), fewer = v;
        fewer.rows = ROWS - 1;
        v.has_present = true;
        for (size_t m = 0; m < v.m; m++)
            v.present[m][ROWS - 1] = 0;
        const double wanted = loss_of(ctx, all_names[n], &fewer);
        assert_true(fabs(loss_of(ctx, all_names[n], &v) - wanted) < 1e-5);
        for (size_t m = 0; m < v.m; m++) /* nobody is there */
            memset(v.present[m], 0, sizeof v.present[m]);
        assert_true(loss_of(ctx, all_names[n], &v) == 0);
    }
    mmf_ctx_free(ctx);
}

static void three_modalities_are_the_mean_over_pairs(void **state)
{
    (void)state;
    static const char *const pairwise[] = {"clip-loss", "cmd", "difference", "vse-pp"};
    static const size_t pairs[][2] = {{0, 1}, {0, 2}, {1, 2}};
    mmf_ctx *const ctx = test_ctx();
    views v = random_views(3, 7);
    for (size_t n = 0; n < sizeof pairwise / sizeof *pairwise; n++) {
        double sum = 0;
        for (size_t i = 0; i < 3; i++) {
            views two = v;
            two.m = 2;
            memcpy(two.values[0], v.values[pairs[i][0]], sizeof two.values[0]);
            memcpy(two.values[1], v.values[pairs[i][1]], sizeof two.values[1]);
            sum += loss_of(ctx, pairwise[n], &two);
        }
        assert_true(sum > 1e-3);
        assert_true(fabs(loss_of(ctx, pairwise[n], &v) - sum / 3) < 1e-5);
    }
    mmf_ctx_free(ctx);
}

/* Features that are the same have no discrepancy, but vary together. */
static void like_features_are_close_and_not_different(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    views v = random_views(2, 13);
    memcpy(v.values[1], v.values[0], sizeof v.values[1]);
    assert_true(fabs(loss_of(ctx, "cmd", &v)) < 1e-6);
    assert_true(loss_of(ctx, "difference", &v) > 1e-3);
    for (int e = 0; e < ROWS * WIDTH; e++) /* one vector for all rows varies with nothing */
        v.values[1][e] = (mmf_real)(1 + e % WIDTH);
    assert_true(loss_of(ctx, "cmd", &v) > 1e-2);
    assert_true(fabs(loss_of(ctx, "difference", &v)) < 1e-6);
    mmf_ctx_free(ctx);
}

/* A label a sample says what no labels say. */
static void labels_of_their_own_are_no_labels(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    views v = random_views(2, 9);
    const double without = loss_of(ctx, "supcon", &v);
    v.has_label = true;
    for (int64_t i = 0; i < ROWS; i++)
        v.label[i] = 10 - i;
    assert_true(fabs(loss_of(ctx, "supcon", &v) - without) < 1e-6);
    v.label[1] = v.label[0];
    assert_true(fabs(loss_of(ctx, "supcon", &v) - without) > 1e-3);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_features_give_the_logarithm_of_the_candidates),
        cmocka_unit_test(rows_that_lack_a_modality_are_left_out),
        cmocka_unit_test(three_modalities_are_the_mean_over_pairs),
        cmocka_unit_test(like_features_are_close_and_not_different),
        cmocka_unit_test(labels_of_their_own_are_no_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
