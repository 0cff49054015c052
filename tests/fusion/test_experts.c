/*
 * test_experts.c: the product of Gaussian experts: published numbers, limits, the prior, and what
 * training adds.
 */
#include "fusion/operator_case.h"

enum { LATENT = 2 };

/* Two modalities of [mu, mu; log s^2, log s^2]. */
static features two_experts(double mean_p, double mean_q, double log_variance)
{
    features f = {.m = 2, .b = 1, .width = {2 * LATENT, 2 * LATENT}, .has_present = true};
    for (int i = 0; i < LATENT; i++) {
        f.values[0][i] = (mmf_real)mean_p;
        f.values[1][i] = (mmf_real)mean_q;
        f.values[0][LATENT + i] = f.values[1][LATENT + i] = (mmf_real)log_variance;
    }
    f.present[0][0] = f.present[1][0] = 1;
    return f;
}

static void two_experts_meet_in_the_middle(void **state)
{
    (void)state;
    const setting settings[] = {{"form", "gaussian"}, {"latent", "2"}, {"prior", "false"}, {0}};
    mmf_ctx *const ctx = test_ctx();
    features f = two_experts(0, 2, 0);
    const output mean = once(ctx, "product-of-experts", &f, settings, "fused");
    assert_near(&mean, (double[]){1, 1}, LATENT, 1e-6);
    const output spread = once(ctx, "product-of-experts", &f, settings, "log_variance");
    assert_near(&spread, (double[]){-0.693147, -0.693147}, LATENT, 1e-5);
    mmf_ctx_free(ctx);
}

/* Without one of them it is the other; with the prior they are held towards zero; with nobody there
 * the prior is what is left, whether it is an expert or not. */
static void an_absent_expert_is_not_in_the_product(void **state)
{
    (void)state;
    const setting alone[] = {{"form", "gaussian"}, {"latent", "2"}, {"prior", "false"}, {0}};
    const setting held[] = {{"form", "gaussian"}, {"latent", "2"}, {"prior", "true"}, {0}};
    mmf_ctx *const ctx = test_ctx();
    features f = two_experts(0.5, 2, 0);
    f.present[0][0] = 0;
    output o = once(ctx, "product-of-experts", &f, alone, "mean");
    assert_near(&o, (double[]){2, 2}, LATENT, 1e-6);
    o = once(ctx, "product-of-experts", &f, held, "mean");
    assert_near(&o, (double[]){1, 1}, LATENT, 1e-6);
    f.present[1][0] = 0;
    for (int i = 0; i < 2; i++) {
        o = once(ctx, "product-of-experts", &f, i ? held : alone, "mean");
        assert_near(&o, (double[]){0, 0}, LATENT, 1e-6);
        o = once(ctx, "product-of-experts", &f, i ? held : alone, "variance");
        assert_near(&o, (double[]){1, 1}, LATENT, 1e-6);
    }
    mmf_ctx_free(ctx);
}

static void an_unsure_expert_has_no_say(void **state)
{
    (void)state;
    const setting settings[] = {{"form", "gaussian"}, {"latent", "2"}, {"prior", "false"}, {0}};
    mmf_ctx *const ctx = test_ctx();
    features f = two_experts(-1, 3, 0);
    f.values[1][LATENT] = f.values[1][LATENT + 1] = 30; /* a variance of e^30 */
    const output o = once(ctx, "product-of-experts", &f, settings, "mean");
    assert_near(&o, (double[]){-1, -1}, LATENT, 1e-6);
    mmf_ctx_free(ctx);
}

/* Mean and variance of what training passes draw, over steps; and their divergence by hand. */
static void training_draws_from_the_product(void **state)
{
    (void)state;
    enum { DRAWS = 4000 };
    const setting settings[] = {{"form", "gaussian"}, {"latent", "2"}, {"kl_weight", "0.5"}, {0}};
    mmf_ctx *const ctx = test_ctx();
    features f = two_experts(1, 2, 0);
    mmf_module *const module = make(ctx, "product-of-experts", &f, settings);
    mmf_tape *tape = NULL;
    double sum = 0, square = 0, first = 0, kl = 0;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (int t = 0; t <= DRAWS; t++) {
        mmf_named in = {0}, out = {0};
        const int64_t shape[] = {1, 2 * LATENT};
        /* The last pass repeats the first step: the same draw. */
        const uint64_t at = t < DRAWS ? (uint64_t)t : 0;
        mmf_tape_begin(tape, &(mmf_pass){.training = true, .seed = 5, .step = at});
        for (int m = 0; m < 2; m++)
            mmf_named_put(tape, &in, names[m], mmf_input(tape, f.values[m], 2, shape));
        mmf_module_run(module, tape, &in, &(mmf_step){.training = true}, &out);
        test_ok(ctx, mmf_tape_status(tape));
        const double z = (double)mmf_named_get(&out, "fused")->data[0];
        kl = (double)mmf_named_get(&out, "loss.kl")->data[0];
        if (t == 0)
            first = z;
        if (t == DRAWS)
            assert_true(fabs(z - first) < 1e-12);
        sum += z;
        square += z * z;
    }
    const double mean = sum / (DRAWS + 1), variance = square / (DRAWS + 1) - mean * mean;
    /* 1 / s^2 = 3, mu = 3 / 3 */
    assert_true(fabs(mean - 1) < 0.04 && fabs(variance - 1.0 / 3) < 0.03);
    const double one = 0.5 * (1 + 1.0 / 3 - 1 + log(3.0));
    assert_true(fabs(kl - 0.5 * LATENT * one) < 1e-5);
    mmf_tape_free(tape);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_experts_meet_in_the_middle),
        cmocka_unit_test(an_absent_expert_is_not_in_the_product),
        cmocka_unit_test(an_unsure_expert_has_no_say),
        cmocka_unit_test(training_draws_from_the_product),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
