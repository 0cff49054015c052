/*
 * test_conv_last.c: convolution with channels last, by the back end's kernels, against im2col and
 * products with channels first.
 */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#include "support.h"
#include "tensor/conv_cache.h"
#include "tensor/tape.h"

#define TOLERANCE 2e-6 /* of the largest magnitude, for each root of the number of terms */

enum { N_ARRAYS = 4 }; /* the result, and the gradients of x, w and b */

typedef struct conv_case {
    int64_t batch, channels, height, width, outputs;
    mmf_window window;
    bool with_bias;
} conv_case;

static const conv_case cases[] = {
    {16, 1, 28, 28, 16, {{3, 3}, {1, 1}, {1, 1}}, false},
    {19, 16, 14, 14, 32, {{3, 3}, {1, 1}, {1, 1}}, true},
    {5, 3, 32, 31, 16, {{3, 3}, {1, 1}, {1, 1}}, true},
    {2, 3, 45, 45, 64, {{7, 7}, {2, 2}, {3, 3}}, false},
    {4, 64, 15, 14, 128, {{1, 1}, {2, 2}, {0, 0}}, false},
    {3, 32, 9, 7, 48, {{1, 1}, {1, 1}, {0, 0}}, true},
    {1, 20, 11, 13, 24, {{3, 2}, {2, 1}, {0, 1}}, true},
    {6, 17, 8, 5, 33, {{2, 3}, {2, 3}, {1, 0}}, true},
    {2, 512, 7, 7, 520, {{3, 3}, {1, 1}, {1, 1}}, false},
    {67, 8, 6, 6, 16, {{5, 5}, {1, 1}, {2, 2}}, true},
    {3, 16, 1, 40, 16, {{1, 3}, {1, 1}, {0, 1}}, true},
    {2, 24, 5, 5, 70, {{3, 3}, {2, 2}, {1, 1}}, true},
    {2, 16, 4, 4, 16, {{4, 4}, {4, 4}, {0, 0}}, true},
    {3, 8, 56, 56, 16, {{1, 1}, {2, 2}, {0, 0}}, false},
    {5, 3, 28, 27, 24, {{1, 1}, {1, 2}, {0, 0}}, true},
    {2, 40, 14, 14, 64, {{1, 1}, {2, 2}, {0, 0}}, false},
};

enum { N_CASES = sizeof cases / sizeof *cases };

typedef struct arrays {
    int64_t count[N_ARRAYS];
    mmf_real *data[N_ARRAYS];
} arrays;

static mmf_real *draw(mmf_rng *rng, int64_t count)
{
    mmf_real *const data = malloc((size_t)count * sizeof *data);
    assert_non_null(data);
    for (int64_t i = 0; i < count; i++)
        data[i] = (mmf_real)mmf_rng_normal(rng);
    return data;
}

static void keep(arrays *out, int which, const mmf_real *from, int64_t count)
{
    out->count[which] = count;
    out->data[which] = malloc((size_t)count * sizeof *from);
    assert_non_null(out->data[which]);
    memcpy(out->data[which], from, (size_t)count * sizeof *from);
}

static void drop(arrays *a)
{
    for (int i = 0; i < N_ARRAYS; i++)
        free(a->data[i]);
}

/* Result with channels first, and gradients of the sum of its products with drawn values.
 * @param twice  the convolution is added to itself: gradients meet others that stand there */
static arrays run(mmf_tape *tape, const conv_case *c, bool last, bool twice)
{
    mmf_rng rng = mmf_rng_make(7, (uint64_t)(c - cases));
    const int64_t x_shape[] = {c->batch, c->channels, c->height, c->width};
    const int64_t w_shape[] = {c->outputs, c->channels, c->window.kernel[0], c->window.kernel[1]};
    mmf_real *const x_data = draw(&rng, c->batch * c->channels * c->height * c->width);
    mmf_real *const w_data = draw(&rng, c->outputs * c->channels * w_shape[2] * w_shape[3]);
    mmf_real *const b_data = draw(&rng, c->outputs);
    mmf_tape_begin(tape, &(mmf_pass){.record = true, .training = true});
    mmf_tensor *const x = mmf_variable(tape, x_data, 4, x_shape);
    mmf_tensor *const w = mmf_variable(tape, w_data, 4, w_shape);
    mmf_tensor *const b = c->with_bias ? mmf_variable(tape, b_data, 1, &c->outputs) : NULL;
    mmf_tensor *const in = last ? mmf_channels_last(tape, x) : x;
    mmf_tensor *y = NULL;
    for (int i = 0; i < (twice ? 2 : 1); i++) {
        mmf_tensor *const once = last ? mmf_conv_last(tape, in, w, b, &c->window)
                                      : mmf_conv2d(tape, in, w, b, &c->window);
        y = y ? mmf_add(tape, y, once) : once;
    }
    y = last ? mmf_channels_first(tape, y) : y;
    test_ok(mmf_tape_ctx(tape), mmf_tape_status(tape));
    mmf_real *const cotangent = draw(&rng, y->count);
    test_ok(mmf_tape_ctx(tape), mmf_tape_backward_from(tape, y, cotangent));
    arrays out = {{0}, {NULL}};
    keep(&out, 0, y->data, y->count);
    keep(&out, 1, x->grad, x->count);
    keep(&out, 2, w->grad, w->count);
    if (b)
        keep(&out, 3, b->grad, b->count);
    free(cotangent);
    free(x_data);
    free(w_data);
    free(b_data);
    return out;
}

static void assert_close(const conv_case *c, const arrays *got, const arrays *wanted)
{
    static const char *const names[] = {"result", "gradient of x", "of w", "of b"};
    const double terms[] = {(double)(c->channels * c->window.kernel[0] * c->window.kernel[1]),
                            (double)(c->outputs * c->window.kernel[0] * c->window.kernel[1]),
                            (double)(c->batch * c->height * c->width),
                            (double)(c->batch * c->height * c->width)};
    for (int i = 0; i < N_ARRAYS; i++) {
        assert_int_equal(got->count[i], wanted->count[i]);
        double worst = 0, scale = 1e-6;
        for (int64_t e = 0; e < got->count[i]; e++) {
            const double d = fabs((double)got->data[i][e] - (double)wanted->data[i][e]);
            scale = fmax(scale, fabs((double)wanted->data[i][e]));
            worst = d <= worst ? worst : isnan(d) ? INFINITY : d;
        }
        if (!(worst < TOLERANCE * sqrt(terms[i]) * scale))
            fail_msg("case %d: %s differs by %.2g of %.2g", (int)(c - cases), names[i], worst,
                     scale);
    }
}

static void assert_same(const arrays *a, const arrays *b)
{
    for (int i = 0; i < N_ARRAYS; i++) {
        assert_int_equal(a->count[i], b->count[i]);
        if (a->count[i] > 0)
            assert_memory_equal(a->data[i], b->data[i], (size_t)a->count[i] * sizeof *a->data[i]);
    }
}

static mmf_tape *new_tape(int n_threads)
{
    mmf_ctx *ctx = NULL;
    mmf_tape *tape = NULL;
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.n_threads = n_threads;
    assert_int_equal(mmf_ctx_create(&ctx, &options), MMF_OK);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    return tape;
}

static void free_tape(mmf_tape *tape)
{
    mmf_ctx *const ctx = mmf_tape_ctx(tape);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

static void both_orders_agree(void **state)
{
    (void)state;
    mmf_tape *const tape = new_tape(1);
    for (int i = 0; i < N_CASES; i++) {
        for (int twice = 0; twice < 2; twice++) {
            arrays plain = run(tape, &cases[i], false, twice),
                   last = run(tape, &cases[i], true, twice);
            assert_close(&cases[i], &last, &plain);
            drop(&plain);
            drop(&last);
        }
    }
    /* Where the back end has kernels it must have been them. */
    const int64_t kinds[] = {MMF_CONV_FORWARD, MMF_CONV_DATA, MMF_CONV_WEIGHTS};
    for (int i = 0; i < 3; i++) {
        mmf_conv_shape shape;
        memset(&shape, 0, sizeof shape); /* compared as bytes */
        shape.kind = kinds[i];
        shape.images = 1;
        shape.inputs = shape.outputs = 32;
        shape.height = shape.width = shape.out_height = shape.out_width = 14;
        for (int d = 0; d < 2; d++)
            shape.kernel[d] = shape.stride[d] = 1;
        assert_true((mmf_blas_block() > 0) == (mmf_conv_cache_get(tape, &shape) != NULL));
    }
    free_tape(tape);
}

static void threads_do_not_change_bits(void **state)
{
    (void)state;
    mmf_tape *const one = new_tape(1), *const three = new_tape(3);
    for (int i = 0; i < N_CASES; i++) {
        arrays a = run(one, &cases[i], true, false), b = run(three, &cases[i], true, false);
        assert_same(&a, &b);
        drop(&a);
        drop(&b);
    }
    free_tape(one);
    free_tape(three);
}

typedef struct elsewhere {
    mmf_tape *tape;
    arrays results[N_CASES];
} elsewhere;

static void *run_all(void *argument)
{
    elsewhere *const e = argument;
    for (int i = 0; i < N_CASES; i++)
        e->results[i] = run(e->tape, &cases[i], true, false);
    return NULL;
}

/* Tapes of other threads, at once: made here, used there. */
static void contexts_are_independent(void **state)
{
    (void)state;
    enum { N = 3 };
    elsewhere here = {.tape = new_tape(1)}, there[N];
    pthread_t threads[N];
    (void)run_all(&here);
    for (int t = 0; t < N; t++) {
        there[t].tape = new_tape(2);
        assert_int_equal(pthread_create(&threads[t], NULL, run_all, &there[t]), 0);
    }
    for (int t = 0; t < N; t++) {
        assert_int_equal(pthread_join(threads[t], NULL), 0);
        for (int i = 0; i < N_CASES; i++) {
            assert_same(&here.results[i], &there[t].results[i]);
            drop(&there[t].results[i]);
        }
        free_tape(there[t].tape);
    }
    for (int i = 0; i < N_CASES; i++)
        drop(&here.results[i]);
    free_tape(here.tape);
}

/* A fixed pass keeps the weights in the back end's form until another one. */
static void fixed_passes_follow_new_weights(void **state)
{
    (void)state;
    enum { SIDE = 6, CHANNELS = 16, N_X = SIDE * SIDE * CHANNELS, N_W = CHANNELS * CHANNELS };
    static mmf_real x[N_X], w[N_W];
    mmf_tape *const tape = new_tape(1);
    const mmf_window one = {{1, 1}, {1, 1}, {0, 0}};
    for (int i = 0; i < N_X; i++)
        x[i] = 1;
    for (int pass = 0; pass < 6; pass++) {
        const bool changes = pass == 3;
        for (int i = 0; i < N_W; i++)
            w[i] = pass < 3 ? 1 : 2;
        mmf_tape_begin(tape, &(mmf_pass){.fixed = !changes});
        const mmf_tensor *const y = mmf_conv_last(
            tape, mmf_input(tape, x, 4, (int64_t[]){1, SIDE, SIDE, CHANNELS}),
            mmf_variable(tape, w, 4, (int64_t[]){CHANNELS, CHANNELS, 1, 1}), NULL, &one);
        test_ok(mmf_tape_ctx(tape), mmf_tape_status(tape));
        for (int64_t i = 0; i < y->count; i++)
            assert_true(y->data[i] == (pass < 3 ? CHANNELS : 2 * CHANNELS));
    }
    free_tape(tape);
}

static void an_empty_batch_has_no_gradient(void **state)
{
    (void)state;
    static mmf_real w[16];
    mmf_real nothing = 0;
    mmf_tape *const tape = new_tape(1);
    const mmf_window one = {{1, 1}, {1, 1}, {0, 0}};
    mmf_tape_begin(tape, &(mmf_pass){.record = true});
    mmf_tensor *const weight = mmf_variable(tape, w, 4, (int64_t[]){4, 4, 1, 1});
    mmf_tensor *const y = mmf_conv_last(
        tape, mmf_variable(tape, &nothing, 4, (int64_t[]){0, 5, 5, 4}), weight, NULL, &one);
    test_ok(mmf_tape_ctx(tape), mmf_tape_status(tape));
    assert_int_equal(y->count, 0);
    test_ok(mmf_tape_ctx(tape), mmf_tape_backward_from(tape, y, &nothing));
    for (int i = 0; i < 16; i++)
        assert_true(weight->grad[i] == 0);
    free_tape(tape);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_orders_agree),
        cmocka_unit_test(threads_do_not_change_bits),
        cmocka_unit_test(contexts_are_independent),
        cmocka_unit_test(fixed_passes_follow_new_weights),
        cmocka_unit_test(an_empty_batch_has_no_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
