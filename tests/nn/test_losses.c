/*
 * test_losses.c: losses over the features of modalities: what absent rows do, means over pairs, and
 * values known in closed form.
 */
#include <math.h>
#include <stdlib.h>

#include "mmfuse/model.h"
#include "support.h"

enum { MAX_M = 3, ROWS = 4, WIDTH = 3 };

typedef struct views {
    size_t m;
    int64_t rows;
    mmf_real values[MAX_M][ROWS * WIDTH], present[MAX_M][ROWS];
    int64_t label[ROWS];
    bool has_present, has_label;
    const char *option, *value; /* NULL: as the loss is by itself */
    double *gradient;           /* of the first view, ROWS x WIDTH, NULL: not wanted */
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
    mmf_config *config = NULL;
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
    test_ok(ctx, mmf_config_create(ctx, &config, find_loss(name)));
    if (v->option)
        test_ok(ctx, mmf_config_set(config, v->option, v->value));
    test_ok(ctx, mmf_module_create(ctx, &module, find_loss(name), config, &schema, 1));
    mmf_config_free(config);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = v->gradient != NULL});
    for (size_t m = 0; m < v->m; m++) {
        const int64_t shape[] = {v->rows, WIDTH};
        mmf_named_put(tape, &in, names[m],
                      v->gradient ? mmf_variable(tape, v->values[m], 2, shape)
                                  : mmf_input(tape, v->values[m], 2, shape));
        if (v->has_present)
            mmf_named_putf(tape, &in, mmf_input(tape, v->present[m], 1, &v->rows), "%s.present",
                           names[m]);
    }
    if (v->has_label)
        mmf_named_put(tape, &in, "label", mmf_input_ints(tape, v->label, 1, &v->rows));
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    mmf_tensor *const loss = mmf_named_get(&out, "loss");
    test_ok(ctx, mmf_tape_status(tape));
    assert_true(loss && loss->count == 1);
    if (v->gradient) {
        test_ok(ctx, mmf_tape_backward(tape, loss));
        for (int64_t e = 0; e < v->rows * WIDTH; e++)
            v->gradient[e] = (double)mmf_named_get(&in, names[0])->grad[e];
    }
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
    assert_true(fabs(loss_of(ctx, "cpc", &v) - log(ROWS)) < 1e-5);
    assert_true(fabs(loss_of(ctx, "supcon", &v) - log(2 * ROWS - 1)) < 1e-4);
    static const char *const scales[] = {"-10", "0", "2.66", "4.6"}; /* logarithms */
    v.option = "logit_scale_init";
    for (size_t i = 0; i < 4; i++) {
        v.value = scales[i];
        assert_true(fabs(loss_of(ctx, "clip-loss", &v) - log(ROWS)) < 1e-4);
    }
    mmf_ctx_free(ctx);
}

/* Pairs at right angles: log(1 + (N - 1) e^-s); pairs that are the same and unlike all others: 0
 * for a large s; one pair alone: 0, and no gradient. */
static void contrast_at_its_limits(void **state)
{
    (void)state;
    static const char *const scales[] = {"0", "1", "-2"};
    mmf_ctx *const ctx = test_ctx();
    views axes = {.m = 2, .rows = WIDTH, .option = "logit_scale_init"};
    for (int e = 0; e < WIDTH * WIDTH; e++)
        axes.values[0][e] = axes.values[1][e] = e % (WIDTH + 1) == 0 ? 2 : 0;
    for (size_t i = 0; i < 3; i++) {
        axes.value = scales[i];
        const double wanted = log(1 + (WIDTH - 1) * exp(-exp(strtod(scales[i], NULL))));
        assert_true(fabs(loss_of(ctx, "clip-loss", &axes) - wanted) < 1e-6);
    }
    views v = random_views(2, 15);
    double gradient[ROWS * WIDTH];
    v.option = "logit_scale_init";
    v.value = "10";
    assert_true(loss_of(ctx, "clip-loss", &v) > 1);
    memcpy(v.values[1], v.values[0], sizeof v.values[1]);
    assert_true(fabs(loss_of(ctx, "clip-loss", &v)) < 1e-6);
    v = random_views(2, 16);
    v.rows = 1;
    v.gradient = gradient;
    assert_true(loss_of(ctx, "clip-loss", &v) == 0);
    for (int e = 0; e < WIDTH; e++)
        assert_true(gradient[e] == 0);
    mmf_ctx_free(ctx);
}

/* No pass touches the learned logarithm of the scale; an optimizer's step ends in [0, log 100]. */
static void the_scale_of_a_contrast_stays_within_bounds(void **state)
{
    (void)state;
    static const double given[] = {9, -3, 2}, kept[] = {4.605170186, 0, 2};
    mmf_ctx *const ctx = test_ctx();
    views v = random_views(2, 18);
    mmf_input_schema inputs[] = {{.name = "p", .n_dims = 1, .shape = {WIDTH}},
                                 {.name = "q", .n_dims = 1, .shape = {WIDTH}}};
    mmf_optimizer_options o = MMF_OPTIMIZER_OPTIONS_INIT;
    mmf_module *module = NULL;
    mmf_optimizer *optimizer = NULL;
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_module_create(ctx, &module, find_loss("clip-loss"), NULL,
                                   &(mmf_schema){2, inputs}, 1));
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    test_ok(ctx, mmf_optimizer_create(ctx, &optimizer, mmf_module_params(module), &o));
    mmf_real *const scale = mmf_params_find(mmf_module_params(module), "logit_scale")->tensor->data;
    for (int i = 0; i < 3; i++) {
        mmf_named in = {0}, out = {0};
        scale[0] = (mmf_real)given[i];
        mmf_tape_begin(tape, &(mmf_pass){.training = true});
        for (int m = 0; m < 2; m++)
            mmf_named_put(tape, &in, inputs[m].name,
                          mmf_input(tape, v.values[m], 2, (int64_t[]){ROWS, WIDTH}));
        mmf_module_run(module, tape, &in, &(mmf_step){.training = true}, &out);
        test_ok(ctx, mmf_tape_status(tape));
        assert_true(scale[0] == (mmf_real)given[i]);
        mmf_optimizer_step(optimizer, 0);
        assert_true(fabs((double)scale[0] - kept[i]) < 1e-6);
    }
    mmf_optimizer_free(optimizer);
    mmf_tape_free(tape);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Pairs in any order; never below 0; and the same when the two change places. */
static void contrast_does_not_see_the_order_of_pairs(void **state)
{
    (void)state;
    static const char *const pairwise[] = {"clip-loss", "supcon", "vse-pp", "cmd", "difference"};
    static const int order[ROWS] = {2, 0, 3, 1};
    mmf_ctx *const ctx = test_ctx();
    for (size_t n = 0; n < sizeof pairwise / sizeof *pairwise; n++) {
        const views v = random_views(2, 17);
        views turned = v, exchanged = v, own = v;
        for (int e = 0; e < ROWS * WIDTH; e++) {
            for (int m = 0; m < 2; m++)
                turned.values[m][e] = v.values[m][order[e / WIDTH] * WIDTH + e % WIDTH];
        }
        memcpy(exchanged.values[0], v.values[1], sizeof v.values[1]);
        memcpy(exchanged.values[1], v.values[0], sizeof v.values[0]);
        const double value = loss_of(ctx, pairwise[n], &own);
        assert_true(value >= 0);
        assert_true(fabs(loss_of(ctx, pairwise[n], &turned) - value) < 1e-5);
        assert_true(fabs(loss_of(ctx, pairwise[n], &exchanged) - value) < 1e-5);
    }
    mmf_ctx_free(ctx);
}

/* Two views, every label once: NT-Xent, -log of e^(z_i . z_j / T) over its sum for all but i. */
static double normalised_cross_entropy(const views *v, double temperature)
{
    double z[2 * ROWS][WIDTH], sum = 0;
    for (int i = 0; i < 2 * ROWS; i++) {
        double square = 0;
        for (int d = 0; d < WIDTH; d++) {
            z[i][d] = (double)v->values[i / ROWS][i % ROWS * WIDTH + d];
            square += z[i][d] * z[i][d];
        }
        for (int d = 0; d < WIDTH; d++)
            z[i][d] /= sqrt(square);
    }
    for (int i = 0; i < 2 * ROWS; i++) {
        double all = 0, own = 0;
        for (int j = 0; j < 2 * ROWS; j++) {
            double cosine = 0;
            for (int d = 0; d < WIDTH; d++)
                cosine += z[i][d] * z[j][d];
            all += j == i ? 0 : exp(cosine / temperature);
            own = j == (i + ROWS) % (2 * ROWS) ? cosine / temperature : own;
        }
        sum += log(all) - own;
    }
    return sum / (2 * ROWS);
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

/* A label a sample says what no labels say; what labels are called is not seen. */
static void labels_of_their_own_are_no_labels(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    views v = random_views(2, 9);
    const double without = loss_of(ctx, "supcon", &v);
    assert_true(fabs(without - normalised_cross_entropy(&v, 0.07)) < 1e-4 * without);
    v.has_label = true;
    for (int64_t i = 0; i < ROWS; i++)
        v.label[i] = 10 - i;
    assert_true(fabs(loss_of(ctx, "supcon", &v) - without) < 1e-6);
    v.label[1] = v.label[0];
    const double two_alike = loss_of(ctx, "supcon", &v);
    assert_true(fabs(two_alike - without) > 1e-3);
    for (int64_t i = 0; i < ROWS; i++)
        v.label[i] = (7 * v.label[i]) % 11;
    assert_true(fabs(loss_of(ctx, "supcon", &v) - two_alike) < 1e-6);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_features_give_the_logarithm_of_the_candidates),
        cmocka_unit_test(contrast_at_its_limits),
        cmocka_unit_test(the_scale_of_a_contrast_stays_within_bounds),
        cmocka_unit_test(contrast_does_not_see_the_order_of_pairs),
        cmocka_unit_test(rows_that_lack_a_modality_are_left_out),
        cmocka_unit_test(three_modalities_are_the_mean_over_pairs),
        cmocka_unit_test(like_features_are_close_and_not_different),
        cmocka_unit_test(labels_of_their_own_are_no_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
