/*
 * test_gating.c: gates, opinions and mixtures on given vectors: what they are at their limits.
 */
#include "fusion/operator_case.h"

static void set(mmf_module *module, const char *name, double value)
{
    mmf_tensor *const t = parameter(module, name);
    for (int64_t i = 0; i < t->count; i++)
        t->data[i] = (mmf_real)value;
}

/* tanh(x W) by hand, for row layout. */
static double hidden(mmf_module *module, const char *weight, const mmf_real *x, int64_t column)
{
    const mmf_tensor *const w = parameter(module, weight);
    double sum = 0;
    for (int64_t d = 0; d < w->shape[0]; d++)
        sum += (double)x[d] * (double)w->data[d * w->shape[1] + column];
    return tanh(sum);
}

/* Without weights a gate is one half; a large bias shuts out the second modality, or the first. */
static void a_gated_unit_at_its_limits(void **state)
{
    (void)state;
    const setting settings[] = {{"hidden", "5"}, {"bias", "true"}, {0}};
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(2, MAX_B, 4, 5);
    mmf_module *const module = make(ctx, "gmu", &f, settings);
    set(module, "Y", 0);
    static const double biases[] = {0, 40, -40}, gates[] = {0.5, 1, 0};
    for (int i = 0; i < 3; i++) {
        double wanted[MAX_B * 5];
        set(module, "c", biases[i]);
        for (int64_t e = 0; e < MAX_B * 5; e++)
            wanted[e] = gates[i] * hidden(module, "W_p", f.values[0] + e / 5 * 4, e % 5) +
                        (1 - gates[i]) * hidden(module, "W_q", f.values[1] + e / 5 * 4, e % 5);
        const output o = run(ctx, module, &f, "fused");
        assert_near(&o, wanted, MAX_B * 5, 1e-5);
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Gates of three modalities do not sum to one: all open, the sum of all. */
static void gates_of_many_are_free(void **state)
{
    (void)state;
    const setting settings[] = {{"hidden", "3"}, {"bias", "true"}, {0}};
    static const char *const weights[] = {"W_p", "W_q", "W_r"}, *const biases[] = {"c_p", "c_q",
                                                                                   "c_r"};
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(3, MAX_B, 4, 6);
    mmf_module *const module = make(ctx, "gmu", &f, settings);
    double wanted[MAX_B * 3] = {0};
    for (int m = 0; m < 3; m++) {
        set(module, biases[m], 60);
        for (int64_t e = 0; e < MAX_B * 3; e++)
            wanted[e] += hidden(module, weights[m], f.values[m] + e / 3 * 4, e % 3);
    }
    const output o = run(ctx, module, &f, "fused");
    assert_near(&o, wanted, MAX_B * 3, 1e-5);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* gamma = 1 + 0 and beta = 0 leave the modulated modality as it is. */
static void modulation_starts_from_the_identity(void **state)
{
    (void)state;
    const setting settings[] = {{"by", "q"}, {0}};
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(2, MAX_B, 4, 7);
    mmf_module *const module = make(ctx, "film", &f, settings);
    set(module, "decoder_linear.weight", 0);
    set(module, "decoder_linear.bias", 0);
    double wanted[MAX_B * 4];
    for (int64_t i = 0; i < MAX_B * 4; i++)
        wanted[i] = (double)f.values[0][i];
    const output o = run(ctx, module, &f, "fused");
    assert_near(&o, wanted, MAX_B * 4, 0);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* What comes in at a channel's shift is the sum over its positions. The map comes first: the vector
 * conditions it all the same. */
static void the_shift_of_a_map_hears_all_its_positions(void **state)
{
    (void)state;
    enum { ROWS = 2, C = 3, PIXELS = 4 * 5, D = 2 };
    mmf_input_schema inputs[] = {
        {.name = "map", .kind = MMF_IMAGE, .n_dims = 3, .shape = {C, 4, 5}},
        {.name = "c", .kind = MMF_VECTOR, .n_dims = 1, .shape = {D}}};
    mmf_real c[ROWS * D] = {1, 2, -1, 3}, map[ROWS * C * PIXELS], above[ROWS * C * PIXELS];
    mmf_ctx *const ctx = test_ctx();
    mmf_module *module = NULL;
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    fill(map, ROWS * C * PIXELS, 1);
    fill(above, ROWS * C * PIXELS, 2);
    test_ok(ctx, mmf_module_create(ctx, &module, find("film"), NULL, &(mmf_schema){2, inputs}, 1));
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = true});
    mmf_named_put(tape, &in, "c", mmf_input(tape, c, 2, (int64_t[]){ROWS, D}));
    mmf_named_put(tape, &in, "map", mmf_input(tape, map, 4, (int64_t[]){ROWS, C, 4, 5}));
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    test_ok(ctx, mmf_tape_backward_from(tape, mmf_named_get(&out, "output"), above));
    const mmf_real *const bias = parameter(module, "decoder_linear.bias")->grad;
    for (int64_t k = 0; k < C; k++) {
        double shift = 0, scale = 0;
        for (int64_t i = 0; i < ROWS * PIXELS; i++) {
            const int64_t at = (i / PIXELS * C + k) * PIXELS + i % PIXELS;
            shift += (double)above[at];
            scale += (double)above[at] * (double)map[at];
        }
        assert_true(fabs((double)bias[C + k] - shift) < 1e-5);
        assert_true(fabs((double)bias[k] - scale) < 1e-5);
    }
    mmf_tape_free(tape);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Zero excitation: the identity with the paper's gate, half of it with the released one; for any
 * number of modalities, each with an excitation of its own behind one squeeze. */
static void transfer_starts_from_the_identity(void **state)
{
    (void)state;
    static const char *const gates[] = {"2sigmoid", "sigmoid"};
    static const char *const zeros[] = {"fc_p.weight", "fc_p.bias",   "fc_q.weight",
                                        "fc_q.bias",   "fc_r.weight", "fc_r.bias"};
    mmf_ctx *const ctx = test_ctx();
    for (int g = 0; g < 4; g++) {
        const int64_t n = 2 + g / 2, width = 4 * n;
        const setting settings[] = {{"gate", gates[g % 2]}, {0}};
        features f = random_features(n, MAX_B, 4, 8);
        mmf_module *const module = make(ctx, "mmtm", &f, settings);
        assert_int_equal(mmf_params_count(mmf_module_params(module)), 2 + 2 * n);
        for (int64_t i = 0; i < 2 * n; i++)
            set(module, zeros[i], 0);
        double wanted[MAX_B * MAX_M * 4];
        for (int64_t i = 0; i < MAX_B * width; i++)
            wanted[i] = (double)f.values[i % width / 4][i / width * 4 + i % 4] / (g % 2 + 1);
        const output o = run(ctx, module, &f, "fused");
        assert_near(&o, wanted, MAX_B * width, 1e-6);
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

static const setting three_classes[] = {{"classes", "3"}, {0}};

/* z = sum_m z_m logsumexp(z_m) / 10, and nothing from a modality that is not there. */
static void confidence_is_energy(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(2, MAX_B, 4, 9);
    f.has_present = true;
    f.present[1][2] = 0;
    mmf_module *const module = make(ctx, "qmf", &f, three_classes);
    const output z[] = {run(ctx, module, &f, "logit.p"), run(ctx, module, &f, "logit.q")};
    const output fused = run(ctx, module, &f, "fused");
    double wanted[MAX_B * 3] = {0};
    for (int m = 0; m < 2; m++) {
        for (int64_t b = 0; b < MAX_B; b++) {
            double sum = 0;
            for (int c = 0; c < 3; c++)
                sum += exp(z[m].values[3 * b + c]);
            for (int c = 0; c < 3; c++)
                wanted[3 * b + c] +=
                    (double)f.present[m][b] * z[m].values[3 * b + c] * log(sum) / 10;
        }
    }
    assert_near(&fused, wanted, MAX_B * 3, 1e-6);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Runs QMF with a target and the histories, and returns one of its losses. */
static double qmf_loss(mmf_ctx *ctx, mmf_module *module, features *f, mmf_real *history,
                       const char *name)
{
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    int64_t label[MAX_B] = {0, 2, 1, 1};
    const int64_t n = MAX_B;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.training = true});
    for (int64_t m = 0; m < f->m; m++) {
        mmf_named_put(tape, &in, names[m],
                      mmf_input(tape, f->values[m], 2, (int64_t[]){n, f->width[m]}));
        mmf_named_putf(tape, &in, mmf_input(tape, history, 1, &n), "history.%s", names[m]);
    }
    mmf_named_put(tape, &in, "label", mmf_input_ints(tape, label, 1, &n));
    mmf_module_run(module, tape, &in, &(mmf_step){.training = true}, &out);
    const mmf_tensor *const loss = mmf_named_get(&out, name);
    test_ok(ctx, mmf_tape_status(tape));
    assert_non_null(loss);
    const double value = (double)loss->data[0];
    mmf_tape_free(tape);
    return value;
}

/* Equal histories rank nothing (the reference: 0/0); with equal confidences the published form asks
 * for the margin, which the released one forgives. */
static void ranking_at_its_limits(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(2, MAX_B, 4, 10);
    mmf_module *const module = make(ctx, "qmf", &f, three_classes);
    mmf_real equal[] = {3, 3, 3, 3}, rising[] = {0, 1, 2, 4};
    assert_true(qmf_loss(ctx, module, &f, equal, "loss.rank.p") == 0);
    assert_true(isfinite(qmf_loss(ctx, module, &f, equal, "loss")));
    set(module, "clf_p.0.weight", 0);
    const double gaps = (0.25 + 0.25 + 0.5 + 1) / 4;
    assert_true(fabs(qmf_loss(ctx, module, &f, rising, "loss.rank.p") - gaps) < 1e-6);
    assert_true(qmf_loss(ctx, module, &f, rising, "loss.rank_released.p") == 0);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Beliefs and uncertainty sum to one; the order of modalities does not matter. */
static void opinions_are_whole_and_commute(void **state)
{
    (void)state;
    const setting turned[] = {{"classes", "3"}, {"modalities", "r,p,q"}, {0}};
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(3, MAX_B, 4, 11);
    mmf_module *const module = make(ctx, "tmc", &f, three_classes);
    mmf_module *const other = make(ctx, "tmc", &f, turned);
    const output b = run(ctx, module, &f, "belief"), u = run(ctx, module, &f, "uncertainty");
    for (int64_t i = 0; i < MAX_B; i++)
        assert_true(fabs(b.values[3 * i] + b.values[3 * i + 1] + b.values[3 * i + 2] + u.values[i] -
                         1) < 1e-5);
    const output p = run(ctx, module, &f, "fused");
    static const char *const weights[] = {"clf_p.0.weight", "clf_q.0.weight", "clf_r.0.weight",
                                          "clf_p.0.bias",   "clf_q.0.bias",   "clf_r.0.bias"};
    for (int i = 0; i < 6; i++)
        memcpy(parameter(other, weights[i])->data, parameter(module, weights[i])->data,
               (size_t)parameter(module, weights[i])->count * sizeof(mmf_real));
    const output same = run(ctx, other, &f, "fused");
    assert_near(&same, p.values, MAX_B * 3, 1e-5);
    mmf_module_free(module);
    mmf_module_free(other);
    mmf_ctx_free(ctx);
}

/* b = e / S for the evidence e = log(1 + exp(z)): so little of it is nothing beside the 1 of alpha.
 */
static void little_evidence_is_still_a_belief(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(1, MAX_B, 4, 13);
    mmf_module *const module = make(ctx, "tmc", &f, three_classes);
    const mmf_real z[] = {-18, -20, -25};
    set(module, "clf_p.0.weight", 0);
    memcpy(parameter(module, "clf_p.0.bias")->data, z, sizeof z);
    const output b = run(ctx, module, &f, "belief");
    for (int i = 0; i < 3 * MAX_B; i++)
        assert_true(fabs(b.values[i] / (exp((double)z[i % 3]) / 3) - 1) < 1e-5);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Of two opinions that contradict each other almost surely, little is left to share out, and it is
 * shared out evenly. */
static void near_certain_conflict_is_shared_evenly(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(2, MAX_B, 4, 14);
    mmf_module *const module = make(ctx, "tmc", &f, three_classes);
    const mmf_real first[] = {3e6F, -60, -60}, second[] = {-60, 3e6F, -60};
    set(module, "clf_p.0.weight", 0);
    set(module, "clf_q.0.weight", 0);
    memcpy(parameter(module, "clf_p.0.bias")->data, first, sizeof first);
    memcpy(parameter(module, "clf_q.0.bias")->data, second, sizeof second);
    const output b = run(ctx, module, &f, "belief");
    for (int i = 0; i < MAX_B; i++) {
        assert_true(fabs(b.values[3 * i] - 0.5) < 1e-4);
        assert_true(fabs(b.values[3 * i + 1] - 0.5) < 1e-4);
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* A modality that is not there has no opinion, which changes nothing. */
static void the_vacuous_opinion_is_neutral(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(2, MAX_B, 4, 12);
    f.has_present = true;
    for (int64_t i = 0; i < MAX_B; i++)
        f.present[1][i] = 0;
    mmf_module *const module = make(ctx, "tmc", &f, three_classes);
    const output alpha = run(ctx, module, &f, "alpha"), own = run(ctx, module, &f, "alpha.p");
    assert_near(&alpha, own.values, MAX_B * 3, 1e-5);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Largest gradient of the gate's bias under the sum of what comes out. */
static double gate_gradient(mmf_ctx *ctx, mmf_module *module, features *f)
{
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    double largest = 0;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = true});
    for (int64_t m = 0; m < f->m; m++)
        mmf_named_put(tape, &in, names[m],
                      mmf_input(tape, f->values[m], 2, (int64_t[]){f->b, f->width[m]}));
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    test_ok(ctx,
            mmf_tape_backward(tape, mmf_sum(tape, mmf_named_get(&out, "fused"), MMF_ALL_AXES)));
    const mmf_tensor *const bias = parameter(module, "gate.bias");
    for (int64_t i = 0; i < bias->count; i++)
        largest = fmax(largest, fabs((double)bias->grad[i]));
    mmf_tape_free(tape);
    return largest;
}

/* All of k experts is the dense mixture; equal experts do not feel the gate. */
static void a_mixture_at_its_limits(void **state)
{
    (void)state;
    const setting dense[] = {{"experts", "concat,concat,gmu"}, {"width", "4"}, {0}};
    const setting three[] = {{"experts", "concat,concat,gmu"}, {"width", "4"}, {"top_k", "3"}, {0}};
    const setting one[] = {{"experts", "concat,concat,gmu"}, {"width", "4"}, {"top_k", "1"}, {0}};
    const setting twins[] = {{"experts", "concat,concat"}, {"width", "4"}, {0}};
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(2, MAX_B, 4, 13);
    const output a = once(ctx, "moe", &f, dense, "fused"), b = once(ctx, "moe", &f, three, "fused");
    assert_near(&b, a.values, MAX_B * 4, 0);
    const output g = once(ctx, "moe", &f, one, "expert_weights");
    for (int64_t i = 0; i < MAX_B; i++) {
        double largest = 0, sum = 0;
        for (int e = 0; e < 3; e++) {
            largest = fmax(largest, g.values[3 * i + e]);
            sum += g.values[3 * i + e];
        }
        assert_true(largest == 1 && sum == 1);
    }
    mmf_module *const module = make(ctx, "moe", &f, twins);
    static const char *const parts[] = {"weight", "bias"};
    for (int i = 0; i < 2; i++) {
        char from[40], to[40];
        snprintf(from, sizeof from, "experts.0.out.%s", parts[i]);
        snprintf(to, sizeof to, "experts.1.out.%s", parts[i]);
        memcpy(parameter(module, to)->data, parameter(module, from)->data,
               (size_t)parameter(module, from)->count * sizeof(mmf_real));
    }
    const output before = run(ctx, module, &f, "fused");
    parameter(module, "gate.bias")->data[0] += 3;
    const output after = run(ctx, module, &f, "fused");
    assert_near(&after, before.values, MAX_B * 4, 1e-6);
    /* And the gate hears nothing back, until they differ. */
    assert_true(gate_gradient(ctx, module, &f) < 1e-6);
    parameter(module, "experts.1.out.bias")->data[0] += 1;
    assert_true(gate_gradient(ctx, module, &f) > 1e-3);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void what_cannot_be_an_expert_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"moe", "late", "tmc", "film", "nothing"};
    mmf_ctx *const ctx = test_ctx();
    mmf_input_schema inputs[] = {{.name = "p", .n_dims = 1, .shape = {4}},
                                 {.name = "q", .n_dims = 1, .shape = {4}},
                                 {.name = "r", .n_dims = 1, .shape = {4}}};
    const mmf_schema schema = {3, inputs};
    for (size_t i = 0; i < 5; i++) {
        mmf_config *config = NULL;
        mmf_module *module = NULL;
        test_ok(ctx, mmf_config_create(ctx, &config, find("moe")));
        test_ok(ctx, mmf_config_set(config, "experts", bad[i]));
        test_fails(ctx, mmf_module_create(ctx, &module, find("moe"), config, &schema, 0), MMF_ARG,
                   bad[i]);
        mmf_config_free(config);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gated_unit_at_its_limits),
        cmocka_unit_test(gates_of_many_are_free),
        cmocka_unit_test(modulation_starts_from_the_identity),
        cmocka_unit_test(the_shift_of_a_map_hears_all_its_positions),
        cmocka_unit_test(transfer_starts_from_the_identity),
        cmocka_unit_test(confidence_is_energy),
        cmocka_unit_test(ranking_at_its_limits),
        cmocka_unit_test(opinions_are_whole_and_commute),
        cmocka_unit_test(little_evidence_is_still_a_belief),
        cmocka_unit_test(near_certain_conflict_is_shared_evenly),
        cmocka_unit_test(the_vacuous_opinion_is_neutral),
        cmocka_unit_test(a_mixture_at_its_limits),
        cmocka_unit_test(what_cannot_be_an_expert_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
