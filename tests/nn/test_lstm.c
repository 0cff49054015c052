/* test_lstm.c: the registered layer `lstm`. */
#include "models/layer_case.h"

/* Time may come first, as torch.nn.LSTM has it by default. */
static void sequences_may_have_time_first(void **state)
{
    (void)state;
    enum { ROWS = 3, STEPS = 5, FEATURES = 4 };
    mmf_ctx *const ctx = test_ctx();
    mmf_real rows[ROWS * STEPS * FEATURES], turned[ROWS * STEPS * FEATURES];
    int64_t length[ROWS] = {5, 2, 4};
    draw(rows, ROWS * STEPS * FEATURES, 3);
    for (int64_t i = 0; i < ROWS * STEPS; i++)
        memcpy(turned + (i % STEPS * ROWS + i / STEPS) * FEATURES, rows + i * FEATURES,
               FEATURES * sizeof *rows);
    value by_row[] = {{"text", rows, NULL, 3, {ROWS, STEPS, FEATURES}},
                      {"text.length", NULL, length, 1, {ROWS}}};
    value by_step[] = {{"text", turned, NULL, 3, {STEPS, ROWS, FEATURES}},
                       {"text.length", NULL, length, 1, {ROWS}}};
    mmf_module *const first = make(ctx, "lstm", "{\"hidden_size\": 6}", by_row, 1);
    mmf_module *const later =
        make(ctx, "lstm", "{\"hidden_size\": 6, \"batch_first\": false}", by_step, 1);
    const shown a = run(ctx, first, by_row, 2, "output", NULL);
    const shown b = run(ctx, later, by_step, 2, "output", NULL);
    const shown end_a = run(ctx, first, by_row, 2, "h_n", NULL);
    const shown end_b = run(ctx, later, by_step, 2, "h_n", NULL);
    assert_same(&end_a, &end_b, 0);
    for (int64_t r = 0; r < ROWS; r++) {
        for (int64_t t = 0; t < STEPS; t++)
            assert_memory_equal(a.values + (r * STEPS + t) * 6, b.values + (t * ROWS + r) * 6,
                                6 * sizeof *a.values);
    }
    mmf_module_free(first);
    mmf_module_free(later);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences_may_have_time_first),
    };
    return cmocka_run_group_tests_name("lstm", tests, NULL, NULL);
}
