/*
 * test_dynamic.c: the gate that chooses among experts: what is computed, what it costs, and how
 * experts are drawn.
 */
#include "models/layer_case.h"

static const model_case trio = {"text, audio, vision", 3, CASE_TRIO, false, false};

static void push_gate(mmf_module *module, double first)
{
    const mmf_tensor *const w = case_tensor(module, "gate.out.weight");
    mmf_real *const bias = case_tensor(module, "gate.out.bias")->data;
    memset(w->data, 0, (size_t)w->count * sizeof *w->data);
    bias[0] = (mmf_real)first;
    bias[1] = 0;
}

/* Where all samples choose the cheap expert, the other one and what only it needs is not computed.
 */
static void what_no_sample_chooses_is_not_computed(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &trio, 5);
    mmf_module *const module =
        case_module(ctx, mmf_model_find("dynmm"), &data.schema, "classification", NULL, NULL);
    static const char *const costly[] = {"expert.1", "feature_audio", "feature_vision"};
    for (int cheap = 0; cheap < 2; cheap++) {
        push_gate(module, cheap ? 5 : -5);
        const shown y = run_model(ctx, module, &data, &(mmf_step){0}, "logits");
        const shown own =
            run_model(ctx, module, &data, &(mmf_step){0}, cheap ? "expert.0" : "expert.1");
        assert_memory_equal(y.values, own.values, (size_t)y.count * sizeof *y.values);
        for (size_t i = 0; i < 3; i++)
            assert_true(shows(ctx, module, &data, &(mmf_step){0}, costly[i], NULL) == !cheap);
        assert_true(
            shows(ctx, module, &data, &(mmf_step){0}, "feature_text", NULL)); /* the gate's */
        const shown cost = run_model(ctx, module, &data, &(mmf_step){0}, "cost");
        assert_true(fabs(cost.values[0] - (cheap ? 1.0 / 3 : 1)) < 1e-6);
    }
    mmf_module_free(module);
    case_close(&data);
    mmf_ctx_free(ctx);
}

/* Every sample gets what its own expert says, and the cost is what was chosen, counted. */
static void chosen_experts_answer_alone_and_are_counted(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &trio, 7);
    mmf_module *const module =
        case_module(ctx, mmf_model_find("dynmm"), &data.schema, "classification", NULL, NULL);
    push_gate(module, 0);
    /* The bias that parts the scores in two halves. */
    const mmf_tensor *const w = case_tensor(module, "gate.out.weight");
    draw(w->data, w->count, 3);
    const shown z = run_model(ctx, module, &data, &(mmf_step){0}, "gate_logit");
    double gap = 0;
    for (int64_t i = 0; i < CASE_ROWS; i++)
        gap += (z.values[2 * i + 1] - z.values[2 * i]) / CASE_ROWS;
    case_tensor(module, "gate.out.bias")->data[0] = (mmf_real)gap;
    const shown g = run_model(ctx, module, &data, &(mmf_step){0}, "gate");
    const shown y = run_model(ctx, module, &data, &(mmf_step){0}, "logits");
    const shown own[] = {run_model(ctx, module, &data, &(mmf_step){0}, "expert.0"),
                         run_model(ctx, module, &data, &(mmf_step){0}, "expert.1")};
    const int64_t width = y.count / CASE_ROWS;
    int64_t n_costly = 0;
    for (int64_t i = 0; i < y.count; i++) {
        const int64_t row = i / width, costly = g.values[2 * row + 1] > g.values[2 * row];
        assert_true(g.values[2 * row + costly] == 1 && g.values[2 * row + !costly] == 0);
        assert_true(y.values[i] == own[costly].values[i]);
        n_costly += i % width == 0 ? costly : 0;
    }
    assert_true(n_costly > 0 && n_costly < CASE_ROWS);
    const double wanted = ((double)n_costly + (double)(CASE_ROWS - n_costly) / 3) / CASE_ROWS;
    assert_true(fabs(run_model(ctx, module, &data, &(mmf_step){0}, "cost").values[0] - wanted) <
                1e-6);
    mmf_module_free(module);
    case_close(&data);
    mmf_ctx_free(ctx);
}

/* With Gumbel noise training draws experts with the probabilities of their softmax, and evaluation
 * takes the likeliest one. */
static void noise_draws_experts_by_their_softmax(void **state)
{
    (void)state;
    enum { DRAWS = 2000 };
    const double p = 1 / (1 + exp(-1)), n = DRAWS * CASE_ROWS; /* of scores 1 and 0 */
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &trio, 8);
    mmf_module *const module =
        case_module(ctx, mmf_model_find("dynmm"), &data.schema, "classification", "gumbel", "true");
    mmf_tape *tape = NULL;
    double first = 0;
    push_gate(module, 1);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (uint64_t t = 0; t < DRAWS; t++) {
        mmf_named in = {0}, out = {0};
        mmf_tape_begin(tape, &(mmf_pass){.training = true, .seed = 5, .step = t});
        case_put(tape, &data, false, &in);
        mmf_module_run(module, tape, &in, &(mmf_step){.training = true, .epoch = 100}, &out);
        test_ok(ctx, mmf_tape_status(tape));
        for (int64_t i = 0; i < CASE_ROWS; i++)
            first += (double)mmf_named_get(&out, "gate")->data[2 * i] > 0.5;
    }
    assert_true(fabs(first / n - p) < 4 * sqrt(p * (1 - p) / n));
    const shown g = run_model(ctx, module, &data, &(mmf_step){0}, "gate");
    for (int64_t i = 0; i < g.count; i++)
        assert_true(g.values[i] == (i % 2 == 0));
    mmf_tape_free(tape);
    mmf_module_free(module);
    case_close(&data);
    mmf_ctx_free(ctx);
}

/* At a high temperature the soft gate mixes all experts equally. */
static void a_hot_gate_is_uniform(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &trio, 6);
    mmf_config *const config = case_config(ctx, mmf_model_find("dynmm"), "classification");
    mmf_module *module = NULL;
    test_ok(ctx, mmf_config_set(config, "hard", "false"));
    test_ok(ctx, mmf_config_set(config, "tau", "1e6"));
    test_ok(ctx, mmf_module_create(ctx, &module, mmf_model_find("dynmm"), config, &data.schema, 1));
    const shown g = run_model(ctx, module, &data, &(mmf_step){0}, "gate");
    for (int64_t i = 0; i < g.count; i++)
        assert_true(fabs(g.values[i] - 0.5) < 1e-5);
    const shown y = run_model(ctx, module, &data, &(mmf_step){0}, "logits");
    const shown a = run_model(ctx, module, &data, &(mmf_step){0}, "expert.0");
    const shown b = run_model(ctx, module, &data, &(mmf_step){0}, "expert.1");
    for (int64_t i = 0; i < y.count; i++)
        assert_true(fabs(y.values[i] - (a.values[i] + b.values[i]) / 2) < 1e-5);
    mmf_module_free(module);
    mmf_config_free(config);
    case_close(&data);
    mmf_ctx_free(ctx);
}

/* The released heads know their inputs by name, whichever is named first. */
static void modulated_heads_know_audio_by_name(void **state)
{
    (void)state;
    enum { ROWS = 3 };
    static const char *const configs[] = {
        "{\"fusion\": \"sum\", \"classes\": 4, \"modalities\": [\"audio\", \"vision\"]}",
        "{\"fusion\": \"sum\", \"classes\": 4, \"modalities\": [\"vision\", \"audio\"]}"};
    mmf_ctx *const ctx = test_ctx();
    mmf_real audio[ROWS * 5], vision[ROWS * 2];
    shown logits[2];
    draw(audio, ROWS * 5, 1);
    draw(vision, ROWS * 2, 2);
    value in[] = {{"audio", audio, NULL, 2, {ROWS, 5}}, {"vision", vision, NULL, 2, {ROWS, 2}}};
    for (int i = 0; i < 2; i++) {
        mmf_module *const module = make(ctx, "ogm-ge", configs[i], in, 2);
        assert_int_equal(case_tensor(module, "fc_x.weight")->shape[1], 5);
        logits[i] = run(ctx, module, in, 2, "logit.audio", NULL);
        mmf_module_free(module);
    }
    assert_int_equal(logits[0].count, logits[1].count);
    assert_memory_equal(logits[0].values, logits[1].values,
                        (size_t)logits[0].count * sizeof *logits[0].values);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modulated_heads_know_audio_by_name),
        cmocka_unit_test(what_no_sample_chooses_is_not_computed),
        cmocka_unit_test(chosen_experts_answer_alone_and_are_counted),
        cmocka_unit_test(noise_draws_experts_by_their_softmax),
        cmocka_unit_test(a_hot_gate_is_uniform),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
