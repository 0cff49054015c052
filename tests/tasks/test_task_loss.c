/* test_task_loss.c: what is added to the loss of a task, and what takes its place. */
#include <math.h>

#include "support.h"
#include "tasks/task.h"

static double loss_of(mmf_ctx *ctx, bool with_part, bool with_objective, bool with_auxiliary)
{
    static mmf_real logits[] = {1, 2, 0.5f, -1};
    static int64_t label[] = {1, 0};
    const int64_t shape[] = {2, 2}, one = 1;
    const mmf_task task = {.kind = MMF_TARGET_CLASS, .n_outputs = 2};
    const mmf_loss_options options = {0};
    mmf_tape *tape = NULL;
    mmf_named out = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_named_put(tape, &out, "logits", mmf_input(tape, logits, 2, shape));
    if (with_part)
        mmf_named_put(tape, &out, "loss.part", mmf_full(tape, 1, &one, 0.25));
    if (with_objective)
        mmf_named_put(tape, &out, "objective", mmf_full(tape, 1, &one, 7));
    if (with_auxiliary)
        mmf_named_put(tape, &out, "auxiliary.clip-loss", mmf_full(tape, 1, &one, 2));
    const mmf_tensor *const loss =
        mmf_task_loss(tape, &task, &options, &out, mmf_input_ints(tape, label, 1, shape));
    test_ok(ctx, mmf_tape_status(tape));
    const double value = (double)loss->data[0];
    mmf_tape_free(tape);
    return value;
}

static void parts_are_added_and_an_objective_is_all(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const double plain = (log(1 + exp(-1.0)) + log(1 + exp(-1.5))) / 2;
    assert_true(fabs(loss_of(ctx, false, false, false) - plain) < 1e-6);
    assert_true(fabs(loss_of(ctx, true, false, false) - plain - 0.25) < 1e-6);
    assert_true(loss_of(ctx, true, true, false) == 7);
    assert_true(loss_of(ctx, true, true, true) == 9);
    assert_true(fabs(loss_of(ctx, true, false, true) - plain - 2.25) < 1e-6);
    mmf_ctx_free(ctx);
}

/* Rows are compared by the class that is counted as predicted, and by the errors of the rules. */
static void a_row_is_scored_as_its_metric_is(void **state)
{
    (void)state;
    const double tie[] = {0.5, 0.5}, three[] = {0.4, 0.4, 0.2}, second = 1, first = 0;
    const double soft[] = {0.5, 0.5}, far = 3, near = 0.5;
    mmf_task task = {.kind = MMF_TARGET_CLASS, .n_outputs = 2};
    assert_true(mmf_task_row_score(&task, tie, &second) == 1);
    assert_true(mmf_task_row_score(&task, tie, &first) == 0);
    task.n_outputs = 3;
    assert_true(mmf_task_row_score(&task, three, &first) == 1);
    task = (mmf_task){.kind = MMF_TARGET_SOFT, .n_outputs = 2};
    assert_true(mmf_task_row_score(&task, tie, soft) == 1);
    task = (mmf_task){.kind = MMF_TARGET_REAL, .n_outputs = 1};
    assert_true(mmf_task_row_score(&task, &far, &near) == -2.5);
    task.rules = MMF_MSA_SIMS; /* which clip to [-1, 1] */
    assert_true(mmf_task_row_score(&task, &far, &near) == -0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_is_scored_as_its_metric_is),
        cmocka_unit_test(parts_are_added_and_an_objective_is_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
