/* test_late_rules.c: late rules on given predictions: published numbers, identities, refusals. */
#include "fusion/operator_case.h"

/* Rows that sum to 1. */
static features random_probabilities(int64_t m, int64_t b, int64_t width, uint64_t seed)
{
    features f = random_features(m, b, width, seed);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t r = 0; r < b; r++) {
            mmf_real *const row = f.values[i] + r * width, sum = 0;
            for (int64_t k = 0; k < width; k++)
                sum += row[k] = (mmf_real)exp((double)row[k]);
            for (int64_t k = 0; k < width; k++)
                row[k] /= sum;
        }
    }
    return f;
}

static int64_t largest(const double *row, int64_t n)
{
    int64_t best = 0;
    for (int64_t k = 1; k < n; k++)
        best = row[k] > row[best] ? k : best;
    return best;
}

/* ---- Late rules -------------------------------------------------------------------------- */

static const char *const rules[] = {"mean", "weighted", "learned",  "soft-vote",
                                    "max",  "product",  "stacking", "vote"};

enum { N_RULES = sizeof rules / sizeof *rules };

static void rules_give_the_published_numbers(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = {.m = 2, .b = 1, .width = {3, 3}, .values = {{.6f, .3f, .1f}, {.2f, .5f, .3f}}};
    const setting product[] = {{"rule", "product"}, {0}}, maximum[] = {{"rule", "max"}, {0}};
    const setting weighted[] = {{"rule", "weighted"}, {"weights", "3,1"}, {0}};
    const setting mean[] = {{"rule", "mean"}, {0}};
    const output a = once(ctx, "late", &f, product, "output");
    assert_near(&a, (double[]){.4, .5, .1}, 3, 1e-6);
    const output b = once(ctx, "late", &f, maximum, "output");
    assert_near(&b, (double[]){.428571, .357143, .214286}, 3, 1e-6);
    const output c = once(ctx, "late", &f, weighted, "output");
    assert_near(&c, (double[]){.5, .35, .15}, 3, 1e-6);
    const output d = once(ctx, "late", &f, mean, "output");
    assert_near(&d, (double[]){.4, .4, .2}, 3, 1e-6);
    const output e = once(ctx, "late", &f, product, "label");
    assert_true(e.values[0] == 1);
    mmf_ctx_free(ctx);
}

/* A zero vetoes a class in the product, and does not make anything infinite. */
static void a_zero_vetoes_in_the_product(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const setting product[] = {{"rule", "product"}, {0}};
    features f = {.m = 2, .b = 1, .width = {3, 3}, .values = {{1, 0, 0}, {.2f, .5f, .3f}}};
    const output o = once(ctx, "late", &f, product, "output");
    assert_near(&o, (double[]){1, 0, 0}, 3, 1e-6);
    f.values[1][0] = 0;
    f.values[1][1] = 1;
    f.values[1][2] = 0;
    const output both = once(ctx, "late", &f, product, "output");
    assert_near(&both, (double[]){.5, .5, 0}, 3, 1e-6);
    mmf_ctx_free(ctx);
}

static void one_modality_is_the_identity(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t r = 0; r < N_RULES; r++) {
        features f = random_probabilities(1, MAX_B, 3, r + 1);
        const setting settings[] = {{"rule", rules[r]}, {0}};
        mmf_module *const module = make(ctx, "late", &f, settings);
        if (strcmp(rules[r], "stacking") == 0) { /* its layer as the identity on scores */
            memset(parameter(module, "stack.weight")->data, 0, 9 * sizeof(mmf_real));
            memset(parameter(module, "stack.bias")->data, 0, 3 * sizeof(mmf_real));
            for (int k = 0; k < 3; k++)
                parameter(module, "stack.weight")->data[4 * k] = 1;
        }
        const char *const wanted = strcmp(rules[r], "stacking") == 0 ? "logits" : "fused";
        const output o = run(ctx, module, &f, wanted);
        for (int64_t i = 0; i < MAX_B; i++) {
            double row[3];
            for (int k = 0; k < 3; k++)
                row[k] = (double)f.values[0][3 * i + k];
            const int64_t best = largest(row, 3);
            for (int k = 0; k < 3 && strcmp(rules[r], "vote") == 0; k++)
                row[k] = k == best;
            for (int k = 0; k < 3; k++)
                assert_true(fabs(o.values[3 * i + k] - row[k]) < 1e-6);
        }
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

/* The order of the modalities does not count as long as weights move with them. */
static void modalities_may_be_permuted(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t r = 0; r < N_RULES; r++) {
        features f = random_probabilities(3, MAX_B, 4, 10 + r), g = f;
        const bool given = strcmp(rules[r], "weighted") == 0 || strcmp(rules[r], "soft-vote") == 0;
        const setting one[] = {{"rule", rules[r]}, {given ? "weights" : NULL, "5,2,1"}, {0}};
        const setting two[] = {{"rule", rules[r]}, {given ? "weights" : NULL, "1,5,2"}, {0}};
        for (int m = 0; m < 3; m++)
            memcpy(g.values[(m + 1) % 3], f.values[m], sizeof f.values[m]);
        mmf_module *const a = make(ctx, "late", &f, one), *const b = make(ctx, "late", &g, two);
        if (strcmp(rules[r], "learned") == 0) {
            fill(parameter(a, "alpha")->data, 3, 0.4);
            for (int m = 0; m < 3; m++)
                parameter(b, "alpha")->data[(m + 1) % 3] = parameter(a, "alpha")->data[m];
        }
        for (int64_t o = 0; strcmp(rules[r], "stacking") == 0 && o < 4; o++) {
            const mmf_real *const from = parameter(a, "stack.weight")->data + 12 * o;
            for (int m = 0; m < 3; m++)
                memcpy(parameter(b, "stack.weight")->data + 12 * o + 4 * ((m + 1) % 3),
                       from + 4 * m, 4 * sizeof(mmf_real));
            parameter(b, "stack.bias")->data[o] = parameter(a, "stack.bias")->data[o];
        }
        const output x = run(ctx, a, &f, "fused"), y = run(ctx, b, &g, "fused");
        assert_near(&y, x.values, MAX_B * 4, 1e-6);
        mmf_module_free(a);
        mmf_module_free(b);
    }
    mmf_ctx_free(ctx);
}

static void equal_predictors_agree(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t r = 0; r < N_RULES; r++) {
        features f = random_probabilities(3, MAX_B, 4, 30 + r);
        const setting settings[] = {{"rule", rules[r]}, {0}};
        if (strcmp(rules[r], "stacking") == 0) /* learns what it wants from them */
            continue;
        memcpy(f.values[1], f.values[0], sizeof f.values[0]);
        memcpy(f.values[2], f.values[0], sizeof f.values[0]);
        const output o = once(ctx, "late", &f, settings, "fused");
        for (int64_t i = 0; i < MAX_B; i++) {
            double row[4];
            for (int k = 0; k < 4; k++)
                row[k] = (double)f.values[0][4 * i + k];
            assert_int_equal(largest(o.values + 4 * i, 4), largest(row, 4));
        }
    }
    mmf_ctx_free(ctx);
}

static void a_soft_vote_of_one_hot_rows_is_a_hard_vote(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const setting soft[] = {{"rule", "soft-vote"}, {0}}, hard[] = {{"rule", "vote"}, {0}};
    features f = random_probabilities(3, MAX_B, 4, 50);
    for (int m = 0; m < 3; m++) {
        for (int64_t i = 0; i < MAX_B; i++) {
            for (int k = 0; k < 4; k++)
                f.values[m][4 * i + k] = k == (m == 0 ? (i + 1) % 4 : i % 4);
        }
    }
    const output a = once(ctx, "late", &f, soft, "label"),
                 b = once(ctx, "late", &f, hard, "output");
    const output counts = once(ctx, "late", &f, hard, "count");
    for (int64_t i = 0; i < MAX_B; i++) {
        assert_true(a.values[i] == b.values[i] && a.values[i] == (double)(i % 4));
        assert_true(counts.values[4 * i + i % 4] == 2);
    }
    mmf_ctx_free(ctx);
}

static void ties_go_where_the_option_says(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const setting lowest[] = {{"rule", "vote"}, {"tie", "lowest"}, {0}};
    const setting summed[] = {{"rule", "vote"}, {"tie", "probability"}, {0}};
    features f = {.m = 2, .b = 1, .width = {3, 3}, .values = {{.4f, .3f, .3f}, {0, .1f, .9f}}};
    const output a = once(ctx, "late", &f, lowest, "output");
    const output b = once(ctx, "late", &f, summed, "output");
    assert_true(a.values[0] == 0 && b.values[0] == 2);
    mmf_ctx_free(ctx);
}

/* Classes whose probabilities sum to the same go to the lowest, however many modalities there are.
 */
static void equal_means_are_a_tie(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const setting mean[] = {{"rule", "mean"}, {0}};
    features f = {.m = 3,
                  .b = 1,
                  .width = {2, 2, 2},
                  .values = {{.125f, .875f}, {.625f, .375f}, {.75f, .25f}}};
    const output label = once(ctx, "late", &f, mean, "label");
    assert_true(label.values[0] == 0);
    mmf_ctx_free(ctx);
}

/* With one of two absent every rule falls back on the other; its values are not read. */
static void rules_leave_the_absent_out(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t r = 0; r < N_RULES; r++) {
        features f = random_probabilities(2, MAX_B, 3, 70 + r);
        const setting settings[] = {{"rule", rules[r]}, {0}};
        if (strcmp(rules[r], "stacking") == 0) /* zeros stand in */
            continue;
        f.has_present = true;
        for (int64_t i = 0; i < MAX_B; i++)
            f.present[1][i] = 0;
        features alone = f;
        alone.m = 1;
        alone.has_present = false;
        const output o = once(ctx, "late", &f, settings, "fused");
        const output wanted = once(ctx, "late", &alone, settings, "fused");
        assert_near(&o, wanted.values, MAX_B * 3, 1e-5);
    }
    mmf_ctx_free(ctx);
}

static void rules_refuse_what_they_cannot_do(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const mmf_def *const def = find("late");
    mmf_input_schema inputs[] = {{.name = "p", .n_dims = 1, .shape = {3}},
                                 {.name = "q", .n_dims = 1, .shape = {3}}};
    const mmf_schema schema = {2, inputs};
    static const struct {
        setting settings[2];
        mmf_status status;
        const char *piece;
    } rows[] = {
        {{{"rule", "vote"}, {"task", "regression"}}, MMF_UNSUPPORTED, "for regression use mean"},
        {{{"rule", "max"}, {"task", "multilabel"}}, MMF_UNSUPPORTED, "for multilabel use mean"},
        {{{"rule", "weighted"}, {"weights", "1,2,3"}}, MMF_ARG, "3 weights for 2 modalities"},
        {{{"rule", "weighted"}, {"weights", "0,0"}}, MMF_ARG, "sum to 0"},
        {{{"rule", "mean"}, {"modalities", "p,x"}}, MMF_ARG, "no input \"x\""},
        {{{"rule", "mean"}, {"modalities", "p,q,p"}}, MMF_ARG, "3 of 2"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mmf_config *config = NULL;
        mmf_module *module = NULL;
        test_ok(ctx, mmf_config_create(ctx, &config, def));
        for (int s = 0; s < 2; s++)
            test_ok(ctx,
                    mmf_config_set(config, rows[i].settings[s].name, rows[i].settings[s].value));
        test_fails(ctx, mmf_module_create(ctx, &module, def, config, &schema, 0), rows[i].status,
                   rows[i].piece);
        mmf_config_free(config);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_give_the_published_numbers),
        cmocka_unit_test(a_zero_vetoes_in_the_product),
        cmocka_unit_test(one_modality_is_the_identity),
        cmocka_unit_test(modalities_may_be_permuted),
        cmocka_unit_test(equal_predictors_agree),
        cmocka_unit_test(a_soft_vote_of_one_hot_rows_is_a_hard_vote),
        cmocka_unit_test(ties_go_where_the_option_says),
        cmocka_unit_test(equal_means_are_a_tie),
        cmocka_unit_test(rules_leave_the_absent_out),
        cmocka_unit_test(rules_refuse_what_they_cannot_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
