/*
 * test_disentangle.c: the distances between representations: published numbers, absent rows, and
 * finite gradients where they are zero; and which weights MISA's losses reach.
 */
#include <math.h>

#include "nn/disentangle.h"
#include "models/model_case.h"

enum { ROWS = 3, WIDTH = 4, COUNT = ROWS * WIDTH };

/* sigmoid(2 sin(0.7 (i + 1) + s)): the fill that the published numbers were made with. */
static void fill(mmf_real *out, double s)
{
    for (int i = 0; i < COUNT; i++)
        out[i] = (mmf_real)(1 / (1 + exp(-2 * sin(0.7 * (i + 1) + s))));
}

static void the_distances_give_the_published_numbers(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_real a[COUNT], b[COUNT];
    const int64_t shape[] = {ROWS, WIDTH};
    fill(a, 0.4);
    fill(b, 1.9);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_tensor *const x = mmf_input(tape, a, 2, shape), *const y = mmf_input(tape, b, 2, shape);
    const mmf_tensor *const cmd = mmf_moment_discrepancy(tape, x, y, NULL, NULL, 5);
    const mmf_tensor *const diff = mmf_difference_loss(tape, x, y, NULL);
    const mmf_tensor *const error = mmf_row_error(tape, x, y, NULL);
    test_ok(ctx, mmf_tape_status(tape));
    assert_true(fabs((double)cmd->data[0] - 0.4711687066) < 1e-6);
    assert_true(fabs((double)diff->data[0] - 0.4253548258) < 1e-6);
    assert_true(fabs((double)error->data[0] - 0.1627586238) < 1e-6);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* A row that is absent counts as little as one that is not in the batch. */
static void absent_rows_are_left_out(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_real a[COUNT], b[COUNT], there[ROWS] = {1, 1, 0};
    const int64_t shape[] = {ROWS, WIDTH}, fewer[] = {ROWS - 1, WIDTH};
    fill(a, 0.4);
    fill(b, 1.9);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_tensor *const p = mmf_input(tape, there, 2, (int64_t[]){ROWS, 1});
    mmf_tensor *const x = mmf_input(tape, a, 2, shape), *const y = mmf_input(tape, b, 2, shape);
    mmf_tensor *const u = mmf_input(tape, a, 2, fewer), *const v = mmf_input(tape, b, 2, fewer);
    const mmf_tensor *const masked[] = {mmf_moment_discrepancy(tape, x, y, p, p, 5),
                                        mmf_difference_loss(tape, x, y, p),
                                        mmf_row_error(tape, x, y, p)};
    const mmf_tensor *const cut[] = {mmf_moment_discrepancy(tape, u, v, NULL, NULL, 5),
                                     mmf_difference_loss(tape, u, v, NULL),
                                     mmf_row_error(tape, u, v, NULL)};
    test_ok(ctx, mmf_tape_status(tape));
    for (int i = 0; i < 3; i++)
        assert_true(fabs((double)masked[i]->data[0] - (double)cut[i]->data[0]) < 1e-6);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* Equal batches, one row alone, nothing present: norms of zero vectors have gradient 0, not NaN. */
static void zero_distances_have_finite_gradients(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_real a[COUNT], b[COUNT], nothing[ROWS] = {0};
    fill(a, 0.4);
    fill(b, 0.4);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (int which = 0; which < 3; which++) {
        const int64_t shape[] = {which == 1 ? 1 : ROWS, WIDTH};
        mmf_tape_begin(tape, &(mmf_pass){.record = true, .training = true});
        mmf_tensor *const x = mmf_variable(tape, a, 2, shape), *const y =
                                                                   mmf_variable(tape, b, 2, shape);
        mmf_tensor *const p = which == 2 ? mmf_input(tape, nothing, 2, (int64_t[]){ROWS, 1}) : NULL;
        mmf_tensor *const loss = mmf_add(tape, mmf_moment_discrepancy(tape, x, y, p, p, 5),
                                         mmf_difference_loss(tape, x, y, p));
        test_ok(ctx, mmf_tape_backward(tape, loss));
        assert_true(isfinite(loss->data[0]));
        for (int64_t i = 0; i < x->count; i++)
            assert_true(isfinite(x->grad[i]) && isfinite(y->grad[i]));
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

static const model_case trio = {"text, audio, vision", 3, CASE_TRIO, true, true};

/* Whether the last backward pass gave a parameter a gradient. */
static bool moved(mmf_module *module, const char *name)
{
    const mmf_param *const p = mmf_params_find(mmf_module_params(module), name);
    double sum = 0;
    assert_non_null(p);
    for (int64_t i = 0; i < p->tensor->count; i++)
        sum += fabs((double)p->tensor->grad[i]);
    return sum > 0;
}

static void similarity_reaches_what_is_shared_alone(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &trio, 1);
    for (int adversarial = 0; adversarial < 2; adversarial++) {
        mmf_module *const module =
            case_module(ctx, mmf_model_find("misa"), &data.schema, "regression", "use_cmd_sim",
                        adversarial ? "false" : "true");
        mmf_tape *tape = NULL;
        mmf_named in = {0}, out = {0};
        test_ok(ctx, mmf_tape_create(ctx, &tape));
        mmf_tape_begin(tape, &(mmf_pass){.record = true, .training = true});
        case_put(tape, &data, false, &in);
        mmf_module_run(module, tape, &in, &(mmf_step){.training = true}, &out);
        test_ok(ctx, mmf_tape_backward(tape, mmf_named_get(&out, "loss.similarity")));
        mmf_params_finish_gradients(mmf_module_params(module), tape);
        assert_true(moved(module, "shared.shared_1.weight"));
        /* A small layer may be dead behind its ReLU; all three are not. */
        assert_true(moved(module, "project_t.project_t.weight") ||
                    moved(module, "project_v.project_v.weight") ||
                    moved(module, "project_a.project_a.weight"));
        assert_true(moved(module, "trnn1.weight_ih_l0") || moved(module, "vrnn1.weight_ih_l0") ||
                    moved(module, "arnn1.weight_ih_l0"));
        assert_false(moved(module, "private_t.private_t_1.weight"));
        assert_false(moved(module, "recon_v.recon_v_1.weight"));
        assert_false(moved(module, "fusion.fusion_layer_1.weight"));
        assert_non_null(mmf_named_get(&out, "loss.difference"));
        assert_non_null(mmf_named_get(&out, "loss.reconstruction"));
        mmf_tape_free(tape);
        mmf_module_free(module);
    }
    case_close(&data);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_distances_give_the_published_numbers),
        cmocka_unit_test(absent_rows_are_left_out),
        cmocka_unit_test(zero_distances_have_finite_gradients),
        cmocka_unit_test(similarity_reaches_what_is_shared_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
