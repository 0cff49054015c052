/* test_fixed_pass.c: what passes over fixed parameters keep, and when they forget it. */
#include <math.h>
#include <stdlib.h>
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

enum { STEPS = 12, WIDE = 500, HIDDEN = 160, BATCH = 3, STATES = STEPS * HIDDEN };

typedef struct recurrent_case {
    bool is_gru, reverse, has_length;
    int64_t batch;
} recurrent_case;

/* The states of a recurrent layer that is large enough for panels and for two threads, with units
 * that do not divide into equal pieces. */
static void recurrent_states(mmf_tape *tape, const recurrent_case *c, bool fixed,
                             mmf_real *const values[5], mmf_real *out)
{
    static int64_t ends[BATCH] = {STEPS - 3, STEPS, 1};
    const int64_t rows = (c->is_gru ? 3 : 4) * HIDDEN;
    mmf_tape_begin(tape, &(mmf_pass){.fixed = fixed});
    mmf_tensor *const x = mmf_input(tape, values[0], 3, (const int64_t[]){c->batch, STEPS, WIDE});
    const mmf_tensor *const length =
        c->has_length ? mmf_input_ints(tape, ends, 1, &c->batch) : NULL;
    const mmf_rnn_weights w = {
        mmf_variable(tape, values[1], 2, (const int64_t[]){rows, WIDE}),
        mmf_variable(tape, values[2], 2, (const int64_t[]){rows, HIDDEN}),
        mmf_variable(tape, values[3], 1, (const int64_t[]){rows}),
        mmf_variable(tape, values[4], 1, (const int64_t[]){rows}),
    };
    const mmf_tensor *const y =
        (c->is_gru ? mmf_gru : mmf_lstm)(tape, x, &w, length, c->reverse).sequence;
    assert_non_null(y);
    memcpy(out, y->data, (size_t)y->count * sizeof *out);
}

static void recurrent_layers_have_the_same_states(void **state)
{
    (void)state;
    enum { MOST = 4 * HIDDEN * WIDE };
    static mmf_real storage[5][MOST], fresh[BATCH * STATES], one[BATCH * STATES],
        two[BATCH * STATES];
    mmf_real *const values[] = {storage[0], storage[1], storage[2], storage[3], storage[4]};
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tapes[2] = {NULL};
    for (int t = 0; t < 2; t++)
        test_ok(ctx, mmf_tape_create(ctx, &tapes[t]));
    for (int64_t i = 0; i < 5 * MOST; i++)
        storage[i / MOST][i % MOST] = (mmf_real)(i % 1013 - 506) / 5000;
    for (int i = 0; i < 16; i++) {
        const recurrent_case c = {i & 1, i & 2, i & 4, i & 8 ? BATCH : 1};
        const size_t n = (size_t)c.batch * STATES;
        for (int t = 0; t < 2; t++) /* which also forget the case before */
            recurrent_states(tapes[t], &c, false, values, fresh);
        for (int pass = 0; pass < 3; pass++) {
            mmf_ctx_set_threads(ctx, 1);
            recurrent_states(tapes[0], &c, true, values, one);
            mmf_ctx_set_threads(ctx, 2);
            recurrent_states(tapes[1], &c, true, values, two);
            assert_memory_equal(one, two, n * sizeof *one);
            for (size_t j = 0; j < n; j++)
                assert_true(fabs((double)(fresh[j] - one[j])) < 1e-5);
        }
    }
    for (int t = 0; t < 2; t++) {
        test_ok(ctx, mmf_tape_status(tapes[t]));
        mmf_tape_free(tapes[t]);
    }
    mmf_ctx_free(ctx);
}

/* One row through a matrix, right after a product that had a region of its own, so that the other
 * thread is awake still; and where threads sleep. */
static void how_threads_wait_changes_no_bits(void **state)
{
    (void)state;
    enum { FROM = 1024, TO = 700, ROWS = 8 };
    static mmf_real x[ROWS * FROM], w[TO * FROM], y[2][TO];
    mmf_ctx *const ctx = test_ctx();
    mmf_ctx_set_threads(ctx, 2);
    for (int64_t i = 0; i < TO * FROM; i++)
        x[i % (ROWS * FROM)] = w[i] = (mmf_real)(i % 1013 - 506) / 500;
    for (int asleep = 0; asleep < 2; asleep++) {
        mmf_tape *tape = NULL;
        assert_int_equal(setenv("OMP_WAIT_POLICY", asleep ? "PASSIVE" : "active", 1), 0);
        test_ok(ctx, mmf_tape_create(ctx, &tape));
        mmf_tape_begin(tape, &(mmf_pass){0});
        mmf_tensor *const matrix = mmf_input(tape, w, 2, (const int64_t[]){TO, FROM});
        mmf_tensor *const rows = mmf_input(tape, x, 2, (const int64_t[]){ROWS, FROM});
        mmf_tensor *const row = mmf_input(tape, x, 2, (const int64_t[]){1, FROM});
        mmf_linear(tape, rows, matrix, NULL, MMF_ACT_NONE);
        const mmf_tensor *const product = mmf_linear(tape, row, matrix, NULL, MMF_ACT_NONE);
        test_ok(ctx, mmf_tape_status(tape));
        memcpy(y[asleep], product->data, sizeof y[asleep]);
        mmf_tape_free(tape);
    }
    assert_int_equal(unsetenv("OMP_WAIT_POLICY"), 0);
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    mmf_ctx_free(ctx);
}

/* One row reads statistics that the first pass worked out, until a pass is not fixed. */
static void a_row_keeps_its_statistics(void **state)
{
    (void)state;
    enum { CHANNELS = 5 };
    mmf_real x[CHANNELS] = {1, -2, 3, 0, 5}, w[CHANNELS] = {1, 2, -1, 3, 1};
    mmf_real b[CHANNELS] = {0, 1, 2, 3, 4}, mean[CHANNELS] = {0, 1, 0, 1, 0};
    mmf_real var[CHANNELS] = {1, 4, 9, 16, 25};
    const bool fixed[] = {false, true, true, true, false};
    const mmf_real last[] = {5, 5, 5, 5, 4.5}; /* of the last channel: 4 + 5 / sqrt(var) */
    const int64_t n = CHANNELS;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (int pass = 0; pass < 5; pass++) {
        var[CHANNELS - 1] = pass < 3 ? 25 : 100;
        mmf_tape_begin(tape, &(mmf_pass){.fixed = fixed[pass]});
        const mmf_tensor *const y =
            mmf_batch_norm(tape, mmf_input(tape, x, 2, (const int64_t[]){1, n}),
                           mmf_variable(tape, w, 1, &n), mmf_variable(tape, b, 1, &n),
                           mmf_input(tape, mean, 1, &n), mmf_input(tape, var, 1, &n), 1, 0.1, 0);
        test_ok(ctx, mmf_tape_status(tape));
        assert_true(fabs((double)y->data[1] - (1 + 2 * (-2 - 1) / 2.0)) < 1e-6);
        assert_true(fabs((double)(y->data[CHANNELS - 1] - last[pass])) < 1e-6);
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
        cmocka_unit_test(how_threads_wait_changes_no_bits),
        cmocka_unit_test(a_row_keeps_its_statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
