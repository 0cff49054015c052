/*
 * test_operators.c: fusion operators on given vectors: published numbers, and the identities
 * between them.
 */
#include "fusion/operator_case.h"

/* ---- Weighted sums ----------------------------------------------------------------------- */

static void softmax_weights_give_the_published_numbers(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const setting settings[] = {{"weighting", "softmax"}, {"normalise", "false"}, {0}};
    features f = {.m = 2, .b = 1, .width = {3, 3}};
    mmf_real rows[6];
    fill(rows, 6, 0.1);
    memcpy(f.values[0], rows, 3 * sizeof *rows);
    memcpy(f.values[1], rows + 3, 3 * sizeof *rows);
    mmf_module *const module = make(ctx, "weighted-sum", &f, settings);
    parameter(module, "alpha")->data[0] = (mmf_real)0.2;
    parameter(module, "alpha")->data[1] = (mmf_real)-0.4;
    const output o = run(ctx, module, &f, "fused");
    assert_near(&o, (double[]){0.273970987, 0.243617300, 0.098686590}, 3, 1e-6);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void refuses_weights(mmf_ctx *ctx, const char *weighting, const char *weights)
{
    mmf_input_schema inputs[] = {{.name = "p", .n_dims = 1, .shape = {2}},
                                 {.name = "q", .n_dims = 1, .shape = {2}}};
    const mmf_schema schema = {2, inputs};
    const mmf_def *const def = find("weighted-sum");
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    test_ok(ctx, mmf_config_create(ctx, &config, def));
    test_ok(ctx, mmf_config_set(config, "weighting", weighting));
    test_ok(ctx, mmf_config_set(config, "weights", weights));
    test_fails(ctx, mmf_module_create(ctx, &module, def, config, &schema, 1), MMF_ARG,
               "weights are for weighting=fixed");
    mmf_config_free(config);
}

/* Fixed weights are those given, one a modality; no other weighting takes any. */
static void fixed_weights_are_those_given(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const setting given[] = {
        {"weighting", "fixed"}, {"weights", "3,-0.5"}, {"normalise", "false"}, {0}};
    features f = {.m = 2, .b = 1, .width = {2, 2}, .values = {{1, 2}, {4, -2}}};
    const output o = once(ctx, "weighted-sum", &f, given, "fused");
    assert_near(&o, (double[]){1, 7}, 2, 1e-6);
    refuses_weights(ctx, "fixed", "1");
    refuses_weights(ctx, "fixed", "1,2,3");
    refuses_weights(ctx, "softmax", "1,2");
    mmf_ctx_free(ctx);
}

/* Every kind of weights starts as the mean; a weight a dimension that does not vary is a scalar. */
static void all_weightings_start_as_the_mean(void **state)
{
    (void)state;
    static const char *const kinds[] = {"fixed", "scalar", "softmax", "dimension",
                                        "dimension-softmax"};
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(3, MAX_B, 5, 3);
    double mean[MAX_B * 5];
    for (int64_t i = 0; i < MAX_B * 5; i++)
        mean[i] = ((double)f.values[0][i] + (double)f.values[1][i] + (double)f.values[2][i]) / 3;
    for (size_t k = 0; k < 5; k++) {
        const setting settings[] = {{"weighting", kinds[k]}, {"normalise", "false"}, {0}};
        for (int present = 0; present < 2; present++) {
            f.has_present = present;
            const output o = once(ctx, "weighted-sum", &f, settings, "fused");
            assert_near(&o, mean, MAX_B * 5, 1e-5);
        }
    }
    f.has_present = false;
    const setting scalar[] = {{"weighting", "scalar"}, {"normalise", "false"}, {0}};
    const setting wide[] = {{"weighting", "dimension"}, {"normalise", "false"}, {0}};
    mmf_module *const a = make(ctx, "weighted-sum", &f, scalar);
    mmf_module *const b = make(ctx, "weighted-sum", &f, wide);
    for (int m = 0; m < 3; m++) {
        parameter(a, "weights")->data[m] = (mmf_real)(0.3 * m - 0.2);
        for (int d = 0; d < 5; d++)
            parameter(b, "weights")->data[5 * m + d] = (mmf_real)(0.3 * m - 0.2);
    }
    const output x = run(ctx, a, &f, "fused"), y = run(ctx, b, &f, "fused");
    assert_near(&y, x.values, MAX_B * 5, 1e-5);
    mmf_module_free(a);
    mmf_module_free(b);
    mmf_ctx_free(ctx);
}

/* The weights of absent modalities move to the others. */
static void weights_of_the_absent_move_on(void **state)
{
    (void)state;
    static const char *const kinds[] = {"scalar", "softmax", "dimension", "dimension-softmax"};
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(3, MAX_B, 4, 9);
    f.has_present = true;
    for (int64_t i = 0; i < MAX_B; i++)
        f.present[1][i] = 0;
    double mean[MAX_B * 4];
    for (int64_t i = 0; i < MAX_B * 4; i++)
        mean[i] = ((double)f.values[0][i] + (double)f.values[2][i]) / 2;
    for (size_t k = 0; k < 4; k++) {
        const setting settings[] = {{"weighting", kinds[k]}, {"normalise", "false"}, {0}};
        const output o = once(ctx, "weighted-sum", &f, settings, "fused");
        assert_near(&o, mean, MAX_B * 4, 1e-5);
    }
    mmf_ctx_free(ctx);
}

/* ---- Tensor and low-rank fusion ---------------------------------------------------------- */

static features published(void)
{
    return (features){.m = 3, .b = 1, .width = {2, 1, 2}, .values = {{.5f, -1}, {2}, {3, .25f}}};
}

static void the_outer_product_is_the_published_one(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = published();
    const output o = once(ctx, "tensor", &f, NULL, "fused");
    assert_int_equal(o.width, 18);
    assert_near(
        &o, (double[]){1, 3, .25, 2, 6, .5, .5, 1.5, .125, 1, 3, .25, -1, -3, -.25, -2, -6, -.5},
        18, 1e-6);
    mmf_ctx_free(ctx);
}

static void the_outer_product_sums_to_the_product_of_sums(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(3, MAX_B, 3, 17);
    const output o = once(ctx, "tensor", &f, NULL, "fused");
    assert_int_equal(o.width, 64);
    for (int64_t i = 0; i < MAX_B; i++) {
        double sum = 0, product = 1;
        for (int64_t e = 0; e < o.width; e++)
            sum += o.values[i * o.width + e];
        for (int m = 0; m < 3; m++) {
            double own = 1;
            for (int d = 0; d < 3; d++)
                own += (double)f.values[m][3 * i + d];
            product *= own;
        }
        assert_true(fabs(sum - product) < 1e-4 * fmax(1, fabs(product)));
    }
    mmf_ctx_free(ctx);
}

/* z = 0 of all others leaves [1; z_m] in its own place and zeros elsewhere. */
static void zeros_leave_the_unimodal_block(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const int64_t strides[] = {16, 4, 1};
    for (int m = 0; m < 3; m++) {
        features f = random_features(3, 1, 3, 18);
        for (int other = 0; other < 3; other++) {
            for (int d = 0; d < 3 && other != m; d++)
                f.values[other][d] = 0;
        }
        double wanted[64] = {1};
        for (int d = 0; d < 3; d++)
            wanted[(d + 1) * strides[m]] = (double)f.values[m][d];
        const output o = once(ctx, "tensor", &f, NULL, "fused");
        assert_near(&o, wanted, 64, 0);
        f.has_present = true; /* absence is the same as zeros */
        for (int other = 0; other < 3; other++) {
            f.present[other][0] = other == m;
            for (int d = 0; d < 3 && other != m; d++)
                f.values[other][d] = 5;
        }
        const output absent = once(ctx, "tensor", &f, NULL, "fused");
        assert_near(&absent, wanted, 64, 0);
    }
    mmf_ctx_free(ctx);
}

static const setting low_rank[] = {{"rank", "3"}, {"output", "2"}, {0}};

static void low_rank_fusion_gives_the_published_numbers(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = published();
    mmf_module *const module = make(ctx, "low-rank", &f, low_rank);
    const mmf_params *const params = mmf_module_params(module);
    int64_t n_trained = 0;
    for (size_t i = 0; i < mmf_params_count(params); i++)
        n_trained += mmf_params_at(params, i)->role == MMF_PARAM_TRAINED
                         ? mmf_params_at(params, i)->tensor->count
                         : 0;
    /* sum_m r (d_m + 1) o + r + o: all of it is registered. */
    assert_int_equal(n_trained, 3 * (3 + 2 + 3) * 2 + 3 + 2);
    static const char *const tensors[] = {"p_factor", "q_factor", "r_factor", "fusion_weights",
                                          "fusion_bias"};
    for (int i = 0; i < 5; i++)
        fill(parameter(module, tensors[i])->data, parameter(module, tensors[i])->count, i + 1);
    const output o = run(ctx, module, &f, "fused");
    assert_near(&o, (double[]){-0.737328764250610, -0.333781703554879}, 2, 1e-6);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* y = vec(Z) W' + beta with W[c, ijk] = sum_r w_r A[r,i,c] V[r,j,c] T[r,k,c]: a tensor fusion with
 * a linear head is low-rank fusion. */
static void low_rank_fusion_is_a_tensor_fusion_with_a_cp_weight(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(3, MAX_B, 3, 23);
    mmf_module *const module = make(ctx, "low-rank", &f, low_rank);
    const mmf_real *const a = parameter(module, "p_factor")->data;
    const mmf_real *const v = parameter(module, "q_factor")->data;
    const mmf_real *const t = parameter(module, "r_factor")->data;
    const mmf_real *const w = parameter(module, "fusion_weights")->data;
    parameter(module, "fusion_bias")->data[1] = 1;
    const output y = run(ctx, module, &f, "fused");
    const output z = once(ctx, "tensor", &f, NULL, "fused");
    for (int64_t b = 0; b < MAX_B; b++) {
        for (int64_t c = 0; c < 2; c++) {
            double sum = c == 1 ? 1 : 0;
            for (int64_t e = 0; e < 64; e++) {
                const int64_t i = e / 16, j = e / 4 % 4, k = e % 4;
                double weight = 0;
                for (int64_t r = 0; r < 3; r++)
                    weight += (double)w[r] * (double)a[(4 * r + i) * 2 + c] *
                              (double)v[(4 * r + j) * 2 + c] * (double)t[(4 * r + k) * 2 + c];
                sum += weight * z.values[64 * b + e];
            }
            assert_true(fabs(y.values[2 * b + c] - sum) < 1e-5 * fmax(1, fabs(sum)));
        }
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Rank 1, ones everywhere: the product of (1 + sum z_m); two factors (1, 0, ..): linear in z_3. */
static void low_rank_fusion_at_its_limits(void **state)
{
    (void)state;
    const setting one[] = {{"rank", "1"}, {"output", "1"}, {0}};
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(3, MAX_B, 3, 29);
    mmf_module *const module = make(ctx, "low-rank", &f, one);
    static const char *const factors[] = {"p_factor", "q_factor", "r_factor"};
    for (int m = 0; m < 3; m++) {
        for (int i = 0; i < 4; i++)
            parameter(module, factors[m])->data[i] = 1;
    }
    parameter(module, "fusion_weights")->data[0] = 1;
    const output y = run(ctx, module, &f, "fused");
    for (int m = 0; m < 2; m++) {
        for (int i = 1; i < 4; i++)
            parameter(module, factors[m])->data[i] = 0;
    }
    const output linear = run(ctx, module, &f, "fused");
    for (int64_t b = 0; b < MAX_B; b++) {
        double product = 1, own = 1;
        for (int m = 0; m < 3; m++) {
            own = 1;
            for (int d = 0; d < 3; d++)
                own += (double)f.values[m][3 * b + d];
            product *= own;
        }
        assert_true(fabs(y.values[b] - product) < 1e-5 * fmax(1, fabs(product)));
        assert_true(fabs(linear.values[b] - own) < 1e-5);
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void concatenation_keeps_the_order(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = published();
    const output o = once(ctx, "concat", &f, NULL, "fused");
    assert_near(&o, (double[]){.5, -1, 2, 3, .25}, 5, 0);
    mmf_ctx_free(ctx);
}

static void a_product_that_cannot_fit_is_refused(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_input_schema inputs[] = {{.name = "p", .n_dims = 1, .shape = {4095}},
                                 {.name = "q", .n_dims = 1, .shape = {4095}},
                                 {.name = "r", .n_dims = 1, .shape = {1}}};
    mmf_schema schema = {2, inputs};
    mmf_module *module = NULL;
    test_ok(ctx, mmf_module_create(ctx, &module, find("tensor"), NULL, &schema, 0)); /* 2^24 */
    assert_int_equal(mmf_module_width(module), 1 << 24);
    mmf_module_free(module);
    schema.count = 3;
    test_fails(ctx, mmf_module_create(ctx, &module, find("tensor"), NULL, &schema, 0), MMF_LIMIT,
               "33554432");
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_weights_give_the_published_numbers),
        cmocka_unit_test(fixed_weights_are_those_given),
        cmocka_unit_test(all_weightings_start_as_the_mean),
        cmocka_unit_test(weights_of_the_absent_move_on),
        cmocka_unit_test(the_outer_product_is_the_published_one),
        cmocka_unit_test(the_outer_product_sums_to_the_product_of_sums),
        cmocka_unit_test(zeros_leave_the_unimodal_block),
        cmocka_unit_test(low_rank_fusion_gives_the_published_numbers),
        cmocka_unit_test(low_rank_fusion_is_a_tensor_fusion_with_a_cp_weight),
        cmocka_unit_test(low_rank_fusion_at_its_limits),
        cmocka_unit_test(concatenation_keeps_the_order),
        cmocka_unit_test(a_product_that_cannot_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
