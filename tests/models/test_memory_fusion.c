/*
 * test_memory_fusion.c: memory fusion networks at their limits: gates that keep everything, a graph
 * without efficacies, and how many edges that graph has.
 */
#include <math.h>

#include "models/model_case.h"

enum { MEMORY = 4, MAX_VALUES = 4096 };

static const model_case trio = {"text, audio, vision", 3, CASE_TRIO, true, true};

static void set(mmf_module *module, const char *name, double value)
{
    mmf_tensor *const t = case_tensor(module, name);
    for (int64_t i = 0; i < t->count; i++)
        t->data[i] = (mmf_real)value;
}

/* An output of a run. @return its width */
static int64_t run(mmf_ctx *ctx, mmf_module *module, case_data *data, const char *name, double *y)
{
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    case_put(tape, data, false, &in);
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    test_ok(ctx, mmf_tape_status(tape));
    const mmf_tensor *const t = mmf_named_get(&out, name);
    assert_non_null(t);
    assert_true(t->count <= MAX_VALUES);
    for (int64_t i = 0; i < t->count; i++)
        y[i] = (double)t->data[i];
    const int64_t width = t->shape[t->n_dims - 1];
    mmf_tape_free(tape);
    return width;
}

/* Largest size of a number of the memory, which stands last in the state. */
static double memory_of(mmf_ctx *ctx, mmf_module *module, case_data *data)
{
    double state[MAX_VALUES], largest = 0;
    const int64_t width = run(ctx, module, data, "last_state", state);
    for (int64_t i = 0; i < CASE_ROWS * width; i++)
        largest = fmax(largest, i % width >= width - MEMORY ? fabs(state[i]) : 0);
    return largest;
}

/* A memory that is kept whole and not written stays as it began, with zeros; one that is written is
 * something else. */
static void a_memory_that_is_not_written_stays_empty(void **state)
{
    (void)state;
    static const char *const models[] = {"mfn", "graph-mfn"};
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &trio, 1);
    for (int i = 0; i < 2; i++) {
        mmf_module *const module =
            case_module(ctx, mmf_model_find(models[i]), &data.schema, "regression", NULL, NULL);
        assert_true(memory_of(ctx, module, &data) > 1e-3);
        set(module, "gamma1_fc2.weight", 0);
        set(module, "gamma1_fc2.bias", 1000);
        set(module, "gamma2_fc2.weight", 0);
        set(module, "gamma2_fc2.bias", -1000);
        assert_true(memory_of(ctx, module, &data) == 0);
        mmf_module_free(module);
    }
    case_close(&data);
    mmf_ctx_free(ctx);
}

/* Without efficacies what is proposed to the memory comes from biases alone: nothing that is said
 * moves it, as long as as much is said. */
static void without_efficacies_the_graph_says_its_biases(void **state)
{
    (void)state;
    static const model_case whole = {"text, audio, vision", 3, CASE_TRIO, false, false};
    mmf_ctx *const ctx = test_ctx();
    case_data data, other;
    case_open(&data, &whole, 2);
    case_open(&other, &whole, 3);
    mmf_module *const module =
        case_module(ctx, mmf_model_find("graph-mfn"), &data.schema, "regression", NULL, NULL);
    set(module, "graph_mfn.efficacy_model.2.bias", 3);
    for (int without = 0; without < 2; without++) {
        double a[MAX_VALUES], b[MAX_VALUES], moved = 0, bias = 0;
        const int64_t width = run(ctx, module, &data, "last_state", a);
        run(ctx, module, &other, "last_state", b);
        for (int64_t i = 0; i < CASE_ROWS * width; i++) {
            if (i % width < width - MEMORY)
                continue;
            moved = fmax(moved, fabs(a[i] - b[i]));
            moved = fmax(moved, fabs(a[i] - a[i % width]));
            bias = fmax(bias, fabs(a[i]));
        }
        assert_true(bias > 1e-3);
        assert_true(without ? moved == 0 : moved > 1e-3);
        set(module, "graph_mfn.efficacy_model.2.weight", 0);
        set(module, "graph_mfn.efficacy_model.2.bias", 0);
    }
    mmf_module_free(module);
    case_close(&data);
    case_close(&other);
    mmf_ctx_free(ctx);
}

/* Every set of modalities hears all its parts, and the summary all sets. */
static void efficacies_are_as_many_as_edges(void **state)
{
    (void)state;
    static const model_case cases[] = {
        {"two", 2, {{"a", MMF_SEQUENCE, {5, 2}, 0}, {"b", MMF_SEQUENCE, {4, 3}, 0}}, false, false},
        {"three", 3, CASE_TRIO, false, false},
        {"four",
         4,
         {{"a", MMF_SEQUENCE, {5, 2}, 0},
          {"b", MMF_SEQUENCE, {4, 3}, 0},
          {"c", MMF_SEQUENCE, {5, 2}, 0},
          {"d", MMF_SEQUENCE, {3, 2}, 0}},
         false,
         false}};
    static const int64_t wanted[] = {5, 19, 65};
    mmf_ctx *const ctx = test_ctx();
    for (int i = 0; i < 3; i++) {
        case_data data;
        double efficacy[MAX_VALUES];
        case_open(&data, &cases[i], 4);
        mmf_module *const module =
            case_module(ctx, mmf_model_find("graph-mfn"), &data.schema, "regression", NULL, NULL);
        assert_int_equal(run(ctx, module, &data, "efficacy", efficacy), wanted[i]);
        mmf_module_free(module);
        case_close(&data);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_memory_that_is_not_written_stays_empty),
        cmocka_unit_test(without_efficacies_the_graph_says_its_biases),
        cmocka_unit_test(efficacies_are_as_many_as_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
