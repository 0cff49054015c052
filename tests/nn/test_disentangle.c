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

/* A batch moved by d along every axis is d sqrt(D) away, by the means alone; the order of rows is
 * not seen. */
static void a_shift_is_as_far_as_its_length(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_real a[COUNT], b[COUNT], c[COUNT], turned[COUNT];
    const int64_t shape[] = {ROWS, WIDTH};
    fill(a, 0.4);
    fill(c, 1.9);
    for (int i = 0; i < COUNT; i++) {
        b[i] = a[i] + (mmf_real)0.25;
        turned[i] = a[(i + WIDTH) % COUNT];
    }
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_tensor *const x = mmf_input(tape, a, 2, shape), *const z = mmf_input(tape, c, 2, shape);
    const mmf_tensor *const shifted =
        mmf_moment_discrepancy(tape, x, mmf_input(tape, b, 2, shape), NULL, NULL, 5);
    const mmf_tensor *const own = mmf_moment_discrepancy(tape, x, z, NULL, NULL, 5);
    const mmf_tensor *const other =
        mmf_moment_discrepancy(tape, mmf_input(tape, turned, 2, shape), z, NULL, NULL, 5);
    test_ok(ctx, mmf_tape_status(tape));
    assert_true(fabs((double)shifted->data[0] - 0.25 * sqrt(WIDTH)) < 1e-6);
    assert_true(fabs((double)own->data[0] - (double)other->data[0]) < 1e-6);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* Centred rows that never speak together have no difference loss; C = P whose columns are at right
 * angles and as long as each other, N / D in square, (N / D)^2 / D. */
static void differences_at_their_limits(void **state)
{
    (void)state;
    enum { N = 6, D = 3 };
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_real c[N * D] = {0}, first[N * D] = {0}, last[N * D] = {0};
    const int64_t shape[] = {N, D};
    for (int k = 0; k < D; k++) {
        c[2 * k * D + k] = 2;
        c[(2 * k + 1) * D + k] = -2;
    }
    for (int k = 0; k < D; k++) { /* two rows each, which are each other's negatives */
        first[k] = (mmf_real)(k + 1);
        first[D + k] = -first[k];
        last[4 * D + k] = (mmf_real)(2 - k);
        last[5 * D + k] = -last[4 * D + k];
    }
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_tensor *const x = mmf_input(tape, c, 2, shape), *const y = mmf_input(tape, first, 2, shape);
    const mmf_tensor *const apart =
        mmf_difference_loss(tape, y, mmf_input(tape, last, 2, shape), NULL);
    const mmf_tensor *const same = mmf_difference_loss(tape, x, x, NULL);
    test_ok(ctx, mmf_tape_status(tape));
    assert_true(fabs((double)apart->data[0]) < 1e-10);
    assert_true(fabs((double)same->data[0] - 4.0 / D) < 1e-5); /* N / D = 2 */
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* The adversarial loss of two modalities; the gradient of the first one's features, and of the
 * weights that tell them apart. */
static double adversarial(mmf_ctx *ctx, mmf_real *a, const char *reversal, double *feature,
                          double *weight)
{
    size_t n = 0;
    const mmf_def *const *const losses = mmf_catalogue(MMF_KIND_LOSS, &n);
    const mmf_def *def = NULL;
    for (size_t i = 0; i < n; i++)
        def = strcmp(losses[i]->name, "adversarial") == 0 ? losses[i] : def;
    mmf_input_schema inputs[] = {{.name = "a", .n_dims = 1, .shape = {WIDTH}},
                                 {.name = "b", .n_dims = 1, .shape = {WIDTH}}};
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    mmf_real b[COUNT];
    const int64_t shape[] = {ROWS, WIDTH};
    fill(b, 1.9);
    test_ok(ctx, mmf_config_create(ctx, &config, def));
    test_ok(ctx, mmf_config_set(config, "reverse_grad_weight", reversal));
    test_ok(ctx, mmf_module_create(ctx, &module, def, config, &(mmf_schema){2, inputs}, 1));
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = true, .training = true});
    mmf_tensor *const x = mmf_variable(tape, a, 2, shape);
    mmf_named_put(tape, &in, "a", x);
    mmf_named_put(tape, &in, "b", mmf_input(tape, b, 2, shape));
    mmf_module_run(module, tape, &in, &(mmf_step){.training = true}, &out);
    mmf_tensor *const loss = mmf_named_get(&out, "loss");
    test_ok(ctx, mmf_tape_backward(tape, loss));
    const mmf_param *const w = mmf_params_find(mmf_module_params(module), "hidden.weight");
    for (int i = 0; i < COUNT; i++)
        feature[i] = (double)x->grad[i];
    *weight = (double)w->tensor->grad[0];
    const double value = (double)loss->data[0];
    mmf_tape_free(tape);
    mmf_module_free(module);
    mmf_config_free(config);
    return value;
}

/* What the features get is -lambda times the gradient of the loss, which differences find; what
 * tells modalities apart gets the true one. */
static void a_reversed_gradient_is_the_negative_one(void **state)
{
    (void)state;
    const double h = 1e-3;
    mmf_ctx *const ctx = test_ctx();
    mmf_real a[COUNT];
    double plain[COUNT], reversed[COUNT], unused[COUNT], weight = 0, same = 0, largest = 0;
    fill(a, 0.4);
    adversarial(ctx, a, "-1", plain, &weight); /* not reversed */
    adversarial(ctx, a, "0.7", reversed, &same);
    assert_true(fabs(weight - same) < 1e-7);
    for (int i = 0; i < COUNT; i++) {
        const mmf_real kept = a[i];
        a[i] = kept + (mmf_real)h;
        const double above = adversarial(ctx, a, "0.7", unused, &weight);
        a[i] = kept - (mmf_real)h;
        const double below = adversarial(ctx, a, "0.7", unused, &weight);
        a[i] = kept;
        assert_true(fabs(reversed[i] + 0.7 * plain[i]) < 1e-6);
        assert_true(fabs(reversed[i] + 0.7 * (above - below) / (2 * h)) < 1e-3);
        largest = fmax(largest, fabs(plain[i]));
    }
    assert_true(largest > 1e-2);
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
        cmocka_unit_test(a_shift_is_as_far_as_its_length),
        cmocka_unit_test(differences_at_their_limits),
        cmocka_unit_test(a_reversed_gradient_is_the_negative_one),
        cmocka_unit_test(absent_rows_are_left_out),
        cmocka_unit_test(zero_distances_have_finite_gradients),
        cmocka_unit_test(similarity_reaches_what_is_shared_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
