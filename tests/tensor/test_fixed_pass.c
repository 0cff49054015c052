/* test_fixed_pass.c: what passes over fixed parameters keep, and when they forget it. */
#include <math.h>
#include <string.h>

#include "mmfuse/tensor.h"
#include "support.h"

enum { INPUTS = 20000, OUTPUTS = 70, N = INPUTS * OUTPUTS };

typedef struct fixture {
    mmf_ctx *ctx;
    mmf_tape *tape;
    mmf_real *x, *w;
    mmf_real y[OUTPUTS];
} fixture;

/* Two of three inputs are 0, in runs and alone. */
static void make(fixture *f)
{
    f->ctx = test_ctx();
    test_ok(f->ctx, mmf_tape_create(f->ctx, &f->tape));
    f->x = mmf_alloc(f->ctx, INPUTS * sizeof *f->x);
    f->w = mmf_alloc(f->ctx, (size_t)N * sizeof *f->w);
    for (int i = 0; i < INPUTS; i++)
        f->x[i] = i / 65 % 3 == 0 || i % 97 == 0 ? (mmf_real)(i % 13 - 6) : 0;
    for (int i = 0; i < N; i++)
        f->w[i] = (mmf_real)(i % 1009 - 504) / 1009;
}

static void drop(fixture *f)
{
    mmf_free(f->ctx, f->x);
    mmf_free(f->ctx, f->w);
    mmf_tape_free(f->tape);
    mmf_ctx_free(f->ctx);
}

static void run(fixture *f, bool fixed)
{
    mmf_tape_begin(f->tape, &(mmf_pass){.fixed = fixed});
    mmf_tensor *const x = mmf_input(f->tape, f->x, 2, (const int64_t[]){1, INPUTS});
    mmf_tensor *const w = mmf_variable(f->tape, f->w, 2, (const int64_t[]){OUTPUTS, INPUTS});
    const mmf_tensor *const y = mmf_linear(f->tape, x, w, NULL, MMF_ACT_NONE);
    test_ok(f->ctx, mmf_tape_status(f->tape));
    for (int o = 0; o < OUTPUTS; o++)
        f->y[o] = y->data[o];
}

static void assert_is_product(const fixture *f)
{
    for (int o = 0; o < OUTPUTS; o++) {
        double sum = 0, magnitude = 0;
        for (int i = 0; i < INPUTS; i++) {
            const double term = (double)f->x[i] * (double)f->w[o * INPUTS + i];
            sum += term;
            magnitude += fabs(term);
        }
        assert_true(fabs((double)f->y[o] - sum) < 1e-5 * magnitude);
    }
}

static void a_sparse_row_has_the_same_product(void **state)
{
    (void)state;
    fixture f = {0};
    make(&f);
    run(&f, false);
    assert_is_product(&f);
    for (int pass = 0; pass < 3; pass++) {
        run(&f, true);
        assert_is_product(&f);
    }
    drop(&f);
}

static void another_pass_forgets_old_values(void **state)
{
    (void)state;
    fixture f = {0};
    make(&f);
    run(&f, true);
    for (int i = 0; i < N; i++)
        f.w[i] = -2 * f.w[i];
    run(&f, false);
    run(&f, true);
    assert_is_product(&f);
    drop(&f);
}

static void steady_passes_allocate_nothing(void **state)
{
    (void)state;
    fixture f = {0};
    make(&f);
    run(&f, false);
    const size_t before = mmf_ctx_memory(f.ctx).live_bytes;
    for (int pass = 0; pass < 3; pass++)
        run(&f, true);
    const uint64_t n = mmf_ctx_memory(f.ctx).n_allocations;
    run(&f, true);
    assert_true(TEST_ARENAS_ALLOCATE || mmf_ctx_memory(f.ctx).n_allocations == n);
    const size_t weight = (size_t)N * sizeof(mmf_real);
    assert_true(mmf_ctx_memory(f.ctx).live_bytes >= before + weight);
    run(&f, false); /* and gives the kept layout back */
    assert_true(mmf_ctx_memory(f.ctx).live_bytes < before + weight);
    drop(&f);
}

/* The states of a recurrent layer, whose input weight is large enough for panels. */
static void recurrent_states(mmf_tape *tape, bool is_gru, int64_t batch, bool fixed,
                             mmf_real *const values[5], mmf_real *out)
{
    enum { STEPS = 6, WIDE = 500, HIDDEN = 80 };
    const int64_t rows = (is_gru ? 3 : 4) * HIDDEN;
    mmf_tape_begin(tape, &(mmf_pass){.fixed = fixed});
    mmf_tensor *const x = mmf_input(tape, values[0], 3, (const int64_t[]){batch, STEPS, WIDE});
    const mmf_rnn_weights w = {
        mmf_variable(tape, values[1], 2, (const int64_t[]){rows, WIDE}),
        mmf_variable(tape, values[2], 2, (const int64_t[]){rows, HIDDEN}),
        mmf_variable(tape, values[3], 1, (const int64_t[]){rows}),
        mmf_variable(tape, values[4], 1, (const int64_t[]){rows}),
    };
    const mmf_tensor *const y =
        (is_gru ? mmf_gru(tape, x, &w, NULL, true) : mmf_lstm(tape, x, &w, NULL, false)).sequence;
    assert_non_null(y);
    memcpy(out, y->data, (size_t)y->count * sizeof *out);
}

static void recurrent_layers_have_the_same_states(void **state)
{
    (void)state;
    enum { MOST = 320 * 500, STATES = 3 * 6 * 80 };
    static mmf_real storage[5][MOST], fresh[STATES], kept[STATES];
    mmf_real *const values[] = {storage[0], storage[1], storage[2], storage[3], storage[4]};
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (int64_t i = 0; i < 5 * MOST; i++)
        storage[i / MOST][i % MOST] = (mmf_real)(i % 1013 - 506) / 5000;
    for (int c = 0; c < 4; c++) {
        const int64_t batch = c < 2 ? 1 : 3;
        recurrent_states(tape, c % 2 == 1, batch, false, values, fresh);
        for (int pass = 0; pass < 2; pass++) {
            recurrent_states(tape, c % 2 == 1, batch, true, values, kept);
            for (int64_t i = 0; i < batch * STATES / 3; i++)
                assert_true(fabs((double)(fresh[i] - kept[i])) < 1e-5);
        }
        test_ok(ctx, mmf_tape_status(tape));
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sparse_row_has_the_same_product),
        cmocka_unit_test(another_pass_forgets_old_values),
        cmocka_unit_test(steady_passes_allocate_nothing),
        cmocka_unit_test(recurrent_layers_have_the_same_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
