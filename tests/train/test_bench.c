/* test_bench.c: benchmarks time what they should: every model, every example of an operation. */
#include <math.h>

#include "mmfuse/tool.h"
#include "support.h"
#include "tensor/ops.h"

static void check_timing(mmf_timing timing)
{
    assert_true(timing.n_runs >= 5);
    assert_true(timing.best > 0 && timing.best <= timing.median && timing.median < 10);
}

static void every_model_is_timed(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_input_schema inputs[] = {
        {.name = "left", .kind = MMF_VECTOR, .n_dims = 1, .shape = {12}, .has_present = true},
        {.name = "right", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {6, 5}, .has_length = true}};
    const mmf_schema both = {2, inputs}, one = {1, inputs};
    const mmf_task tasks[] = {{.kind = MMF_TARGET_CLASS, .n_outputs = 3},
                              {.kind = MMF_TARGET_REAL, .n_outputs = 1},
                              {.kind = MMF_TARGET_MULTILABEL, .n_outputs = 3},
                              {.kind = MMF_TARGET_SOFT, .n_outputs = 3}};
    size_t n_models = 0, n_timed = 0;
    const mmf_def *const *const models = mmf_catalogue(MMF_KIND_MODEL, &n_models);
    for (size_t i = 0; i < n_models; i++) {
        for (size_t t = 0; t < sizeof tasks / sizeof *tasks; t++) {
            if (TEST_SAMPLE && i % 4 != t)
                continue;
            const mmf_schema *const schema = models[i]->takes & MMF_ONE_ONLY ? &one : &both;
            mmf_model_cost cost;
            const mmf_status status =
                mmf_bench_model(ctx, models[i], NULL, schema, &tasks[t], 8, 0.001, &cost);
            if (mmf_model_refusal(models[i], schema, tasks[t].kind, &(mmf_refusal){0})) {
                assert_int_equal(status, MMF_UNSUPPORTED);
                continue;
            }
            if (status != MMF_OK)
                fail_msg("%s, %s: %s", models[i]->name, mmf_task_name(tasks[t].kind),
                         mmf_ctx_error(ctx));
            check_timing(cost.step);
            check_timing(cost.latency);
            assert_true(cost.n_parameters > 0 && cost.flops > 0);
            n_timed++;
        }
    }
    assert_true(n_timed > (TEST_SAMPLE ? n_models / 2 : n_models));
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void every_example_of_an_operation_is_timed(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    size_t n_ops = 0, n_examples = 0, i = 0;
    const mmf_op *const *const ops = mmf_ops(&n_ops);
    for (size_t op = 0; op < n_ops; op++)
        n_examples += (size_t)ops[op]->n_cases;
    mmf_bench_op timed;
    for (; mmf_bench_operation(ctx, i, 2, 0.0002, &timed); i++) {
        if (!(timed.forward_backward.best > 0))
            fail_msg("%s, example %zu: %s", timed.name, i, mmf_ctx_error(ctx));
        check_timing(timed.forward_backward);
        assert_true(timed.flops >= 0);
    }
    assert_int_equal(i, n_examples);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void the_machine_is_described(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const mmf_system system = mmf_system_info(ctx);
    assert_true(system.processor[0] != '\0' && system.blas[0] != '\0');
    assert_string_equal(system.kernels, mmf_cpu_name(mmf_ctx_cpu(ctx)));
    assert_int_equal(system.n_threads, mmf_ctx_threads(ctx));
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model_is_timed),
        cmocka_unit_test(every_example_of_an_operation_is_timed),
        cmocka_unit_test(the_machine_is_described),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
