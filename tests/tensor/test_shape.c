/* test_shape.c: what the examples of operations on shapes do not ask. */
#include "mmfuse/tensor.h"
#include "support.h"

static void any_number_of_tensors_stacks(void **state)
{
    (void)state;
    enum { MANY = 300 };
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_real values[MANY][2];
    mmf_tensor *parts[MANY];
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = true});
    for (int i = 0; i < MANY; i++) {
        values[i][0] = (mmf_real)i;
        values[i][1] = (mmf_real)-i;
        parts[i] = mmf_variable(tape, values[i], 1, (int64_t[]){2});
    }
    mmf_tensor *const y = mmf_stack(tape, parts, MANY, 0);
    test_ok(ctx, mmf_tape_backward(tape, mmf_sum(tape, mmf_mul(tape, y, y), MMF_ALL_AXES)));
    assert_true(y->n_dims == 2 && y->shape[0] == MANY && y->shape[1] == 2);
    for (int i = 0; i < MANY; i++) {
        assert_true(y->data[2 * i] == (mmf_real)i && y->data[2 * i + 1] == (mmf_real)-i);
        assert_true(parts[i]->grad[0] == (mmf_real)(2 * i));
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

static void integers_are_not_read_as_reals(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    int64_t ints[] = {1, 2};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    assert_null(mmf_detach(tape, mmf_input_ints(tape, ints, 1, (int64_t[]){2})));
    test_fails(ctx, mmf_tape_status(tape), MMF_DTYPE, "detach: takes reals");
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_of_tensors_stacks),
        cmocka_unit_test(integers_are_not_read_as_reals),
    };
    return cmocka_run_group_tests_name("shape", tests, NULL, NULL);
}
