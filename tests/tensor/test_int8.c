/* test_int8.c: linear layers in eight bits: exact where bytes hold the numbers, close elsewhere,
 * and left alone where they were not asked for. */
#include <math.h>
#include <stdlib.h>

#include "mmfuse/tensor.h"
#include "support.h"
#include "tensor/kernels/byte_kernel.h"
#include "tensor/kernels/kernels.h"

typedef struct layer {
    mmf_ctx *ctx;
    mmf_tape *tape;
    int64_t rows, inputs, outputs;
    mmf_real *x, *w, *b, *exact;
} layer;

static mmf_real *room(int64_t n)
{
    return test_calloc((size_t)n, sizeof(mmf_real));
}

static layer make(int n_threads, int64_t rows, int64_t inputs, int64_t outputs)
{
    layer l = {.rows = rows, .inputs = inputs, .outputs = outputs};
    mmf_ctx_options o = MMF_CTX_OPTIONS_INIT;
    o.n_threads = n_threads;
    assert_int_equal(mmf_ctx_create(&l.ctx, &o), MMF_OK);
    test_ok(l.ctx, mmf_tape_create(l.ctx, &l.tape));
    l.x = room(rows * inputs);
    l.w = room(outputs * inputs);
    l.b = room(outputs);
    l.exact = room(rows * outputs);
    return l;
}

static void drop(layer *l)
{
    mmf_tape_free(l->tape);
    test_free(l->x);
    test_free(l->w);
    test_free(l->b);
    test_free(l->exact);
    mmf_ctx_free(l->ctx);
}

static const mmf_real *run(layer *l, mmf_pass pass, mmf_activation activation)
{
    mmf_tape_begin(l->tape, &pass);
    mmf_tensor *const x = mmf_input(l->tape, l->x, 2, (int64_t[]){l->rows, l->inputs});
    mmf_tensor *const w = mmf_variable(l->tape, l->w, 2, (int64_t[]){l->outputs, l->inputs});
    mmf_tensor *const b = mmf_variable(l->tape, l->b, 1, &l->outputs);
    const mmf_tensor *const y = mmf_linear(l->tape, x, w, b, activation);
    test_ok(l->ctx, mmf_tape_status(l->tape));
    return y->data;
}

static const mmf_pass bytes = {.fixed = true, .int8 = true};

/* Whole numbers that fill the bytes: then nothing is rounded. */
static void fill_whole(layer *l)
{
    mmf_rng rng = mmf_rng_make(1, 1);
    const int levels = mmf_blas_byte_levels();
    for (int64_t i = 0; i < l->rows * l->inputs; i++)
        l->x[i] = (mmf_real)mmf_rng_below(&rng, (uint64_t)levels + 1);
    for (int64_t i = 0; i < l->outputs * l->inputs; i++)
        l->w[i] = (mmf_real)mmf_rng_below(&rng, 255) - 127;
    for (int64_t r = 0; r < l->rows; r++)
        l->x[r * l->inputs + r % l->inputs] = (mmf_real)levels;
    for (int64_t o = 0; o < l->outputs; o++) {
        l->w[o * l->inputs + o % l->inputs] = 127;
        l->b[o] = (mmf_real)(o % 5) - 2;
    }
}

static void test_whole_numbers_are_exact(void **state)
{
    (void)state;
    static const int64_t sizes[][3] = {{1, 128, 64},   {63, 130, 65},  {64, 256, 256},
                                       {65, 200, 257}, {130, 129, 70}, {7, 777, 513},
                                       {6, 777, 513},  {2, 1000, 64},  {128, 384, 1536}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        layer l = make(2, sizes[s][0], sizes[s][1], sizes[s][2]);
        fill_whole(&l);
        for (int64_t r = 0; r < l.rows; r++) {
            for (int64_t o = 0; o < l.outputs; o++) {
                double sum = (double)l.b[o];
                for (int64_t i = 0; i < l.inputs; i++)
                    sum += (double)l.x[r * l.inputs + i] * (double)l.w[o * l.inputs + i];
                l.exact[r * l.outputs + o] = (mmf_real)sum;
            }
        }
        for (int again = 0; again < 2; again++) { /* the second time from the kept weight */
            const mmf_real *const y = run(&l, bytes, MMF_ACT_NONE);
            for (int64_t i = 0; i < l.rows * l.outputs; i++) {
                if (fabs((double)y[i] - (double)l.exact[i]) >
                    1e-6 * fabs((double)l.exact[i]) + 1e-3)
                    fail_msg("%lld x %lld x %lld, element %lld: expected %g, got %g",
                             (long long)l.rows, (long long)l.inputs, (long long)l.outputs,
                             (long long)i, (double)l.exact[i], (double)y[i]);
            }
        }
        drop(&l);
    }
}

static void fill_normal(layer *l)
{
    mmf_rng rng = mmf_rng_make(2, 1);
    for (int64_t i = 0; i < l->rows * l->inputs; i++)
        l->x[i] = (mmf_real)mmf_rng_normal(&rng);
    for (int64_t i = 0; i < l->outputs * l->inputs; i++)
        l->w[i] = (mmf_real)(mmf_rng_normal(&rng) / sqrt((double)l->inputs));
    for (int64_t o = 0; o < l->outputs; o++)
        l->b[o] = (mmf_real)(mmf_rng_normal(&rng) / 4);
}

static void test_close_elsewhere(void **state)
{
    (void)state;
    layer l = make(2, 100, 384, 300);
    fill_normal(&l);
    const size_t n = (size_t)(l.rows * l.outputs);
    memcpy(l.exact, run(&l, (mmf_pass){.fixed = true}, MMF_ACT_GELU), n * sizeof *l.exact);
    const mmf_real *const y = run(&l, bytes, MMF_ACT_GELU);
    double off = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        off += pow((double)y[i] - (double)l.exact[i], 2);
        all += pow((double)l.exact[i], 2);
    }
    assert_true(off > 0); /* it did happen */
    if (!(sqrt(off / all) < (mmf_blas_byte_levels() == 255 ? .015 : .025)))
        fail_msg("relative error %g", sqrt(off / all));
    drop(&l);
}

/* A weight (inputs, outputs) has the same bytes as its transpose in a linear layer. */
static void test_rows_by_input(void **state)
{
    (void)state;
    for (int64_t rows = 1; rows <= 100; rows += 99) {
        layer l = make(2, rows, 384, 300);
        fill_normal(&l);
        memset(l.b, 0, (size_t)l.outputs * sizeof *l.b);
        const size_t n = (size_t)(l.rows * l.outputs);
        memcpy(l.exact, run(&l, bytes, MMF_ACT_NONE), n * sizeof *l.exact);
        mmf_real *const w = room(l.inputs * l.outputs);
        for (int64_t i = 0; i < l.inputs * l.outputs; i++)
            w[i] = l.w[i % l.outputs * l.inputs + i / l.outputs];
        mmf_tape_begin(l.tape, &bytes);
        const mmf_tensor *const y =
            mmf_matmul(l.tape, mmf_input(l.tape, l.x, 2, (int64_t[]){l.rows, l.inputs}),
                       mmf_variable(l.tape, w, 2, (int64_t[]){l.inputs, l.outputs}), false, false);
        test_ok(l.ctx, mmf_tape_status(l.tape));
        for (size_t i = 0; i < n; i++)
            assert_true(y->data[i] == l.exact[i]);
        test_free(w);
        drop(&l);
    }
}

static void test_threads_agree(void **state)
{
    (void)state;
    layer one = make(1, 130, 512, 700), many = make(3, 130, 512, 700);
    fill_normal(&one);
    fill_normal(&many);
    assert_memory_equal(run(&one, bytes, MMF_ACT_GELU), run(&many, bytes, MMF_ACT_GELU),
                        130 * 700 * sizeof(mmf_real));
    drop(&many);
    drop(&one);
}

/* A row that is not finite spoils itself alone; a row of zeros gives the bias. */
static void test_odd_rows(void **state)
{
    (void)state;
    layer l = make(1, 4, 256, 80);
    fill_normal(&l);
    l.x[1 * 256 + 3] = (mmf_real)NAN;
    l.x[2 * 256 + 7] = (mmf_real)INFINITY;
    memset(l.x + 3 * 256, 0, 256 * sizeof *l.x);
    const mmf_real *const y = run(&l, bytes, MMF_ACT_NONE);
    for (int64_t o = 0; o < 80; o++) {
        assert_true(isfinite((double)y[o]));
        assert_true(isnan((double)y[80 + o]) && isnan((double)y[160 + o]));
        assert_true(y[240 + o] == l.b[o]);
    }
    drop(&l);
}

static void test_only_where_asked(void **state)
{
    (void)state;
    layer l = make(1, 20, 256, 80), small = make(1, 20, 127, 80);
    fill_normal(&l);
    fill_normal(&small);
    const size_t n = 20 * 80 * sizeof(mmf_real);
    memcpy(l.exact, run(&l, (mmf_pass){0}, MMF_ACT_NONE), n);
    static const mmf_pass passes[] = {
        {.fixed = true}, {.int8 = true}, {.fixed = true, .int8 = true, .record = true}};
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++)
        assert_memory_equal(run(&l, passes[i], MMF_ACT_NONE), l.exact, n);
    assert_memory_not_equal(run(&l, bytes, MMF_ACT_NONE), l.exact, n);
    memcpy(small.exact, run(&small, (mmf_pass){.fixed = true}, MMF_ACT_NONE), n);
    assert_memory_equal(run(&small, bytes, MMF_ACT_NONE), small.exact, n);
    drop(&small);
    drop(&l);
}

/* A row has the same bits alone, among few and among many. */
static void test_rows_are_alone(void **state)
{
    (void)state;
    enum { MOST = 9, INPUTS = 300, OUTPUTS = 270 };
    layer all = make(2, MOST, INPUTS, OUTPUTS);
    fill_normal(&all);
    memcpy(all.exact, run(&all, bytes, MMF_ACT_GELU), MOST * OUTPUTS * sizeof(mmf_real));
    for (all.rows = 1; all.rows < MOST; all.rows++)
        assert_memory_equal(run(&all, bytes, MMF_ACT_GELU), all.exact,
                            (size_t)(all.rows * OUTPUTS) * sizeof(mmf_real));
    drop(&all);
}

/* Layers share the bytes of one input, but not of another that came to stand in its place. */
static void test_inputs_are_told_apart(void **state)
{
    (void)state;
    enum { ROWS = 40, INPUTS = 256, OUTPUTS = 80, COUNT = ROWS * OUTPUTS };
    layer l = make(1, ROWS, INPUTS, OUTPUTS);
    fill_normal(&l);
    mmf_real found[4][COUNT];
    for (int apart = 0; apart < 2; apart++) {
        for (int k = 0; k < 2; k++) {
            const double factor = k == 0 ? 1 : -3;
            if (apart || k == 0)
                mmf_tape_begin(l.tape, &bytes);
            mmf_tensor *const w = mmf_variable(l.tape, l.w, 2, (int64_t[]){OUTPUTS, INPUTS});
            mmf_tensor *const x = mmf_input(l.tape, l.x, 2, (int64_t[]){ROWS, INPUTS});
            const mmf_tape_mark mark = mmf_tape_enter(l.tape);
            mmf_tensor *const scaled = mmf_affine(l.tape, x, factor, 0);
            mmf_tensor *const first = mmf_linear(l.tape, scaled, w, NULL, MMF_ACT_NONE);
            mmf_tensor *const again = mmf_linear(l.tape, scaled, w, NULL, MMF_ACT_NONE);
            test_ok(l.ctx, mmf_tape_status(l.tape));
            assert_memory_equal(first->data, again->data, sizeof found[0]);
            memcpy(found[2 * apart + k], again->data, sizeof found[0]);
            mmf_tape_leave(l.tape, mark, mmf_full(l.tape, 1, (int64_t[]){1}, 0));
        }
    }
    assert_memory_equal(found[0], found[2], sizeof found[0]);
    assert_memory_equal(found[1], found[3], sizeof found[0]);
    assert_memory_not_equal(found[0], found[1], sizeof found[0]);
    drop(&l);
}

/* Every processor level, every rest of rows and of inputs; the largest bytes, whose pairs overflow
 * sixteen bits. */
static void test_levels_agree(void **state)
{
    (void)state;
    enum { MOST_ROWS = 9, MOST_INPUTS = 150 };
    mmf_rng rng = mmf_rng_make(3, 1);
    mmf_ctx *ctx = NULL;
    assert_int_equal(mmf_ctx_create(&ctx, NULL), MMF_OK);
    for (int64_t n = 1; n <= MOST_INPUTS; n++) {
        const int64_t rows = 1 + n % MOST_ROWS;
        uint8_t *const a = test_calloc((size_t)n, 1);
        int8_t *const b = test_calloc((size_t)(rows * n), 1);
        int32_t sum[MOST_ROWS], expected[MOST_ROWS] = {0};
        const bool largest = n % 3 == 0;
        for (int64_t i = 0; i < n; i++)
            a[i] = largest ? 255 : (uint8_t)mmf_rng_below(&rng, 256);
        for (int64_t i = 0; i < rows * n; i++) {
            b[i] = (int8_t)(largest ? -127 : (int64_t)mmf_rng_below(&rng, 255) - 127);
            expected[i / n] += (int32_t)a[i % n] * (int32_t)b[i];
        }
        for (int level = 0; level <= (int)mmf_ctx_cpu(ctx); level++) {
            mmf_kernels_for((mmf_cpu)level)->dot_bytes(rows, n, a, b, sum);
            assert_memory_equal(sum, expected, (size_t)rows * sizeof *sum);
        }
        test_free(b);
        test_free(a);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_numbers_are_exact),
        cmocka_unit_test(test_close_elsewhere),
        cmocka_unit_test(test_rows_by_input),
        cmocka_unit_test(test_threads_agree),
        cmocka_unit_test(test_odd_rows),
        cmocka_unit_test(test_only_where_asked),
        cmocka_unit_test(test_rows_are_alone),
        cmocka_unit_test(test_inputs_are_told_apart),
        cmocka_unit_test(test_levels_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
