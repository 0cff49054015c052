/* test_panels.c: linear layers over fixed parameters, whose weights stand in panels, against plain
 * products. */
#include <math.h>
#include <stdlib.h>

#include "support.h"
#include "tensor/panels.h"

#define TOLERANCE 1e-5 /* of the largest magnitude */

typedef struct layer_case {
    int64_t rows, inputs, outputs;
    mmf_activation activation;
    bool has_bias;
} layer_case;

/* One row, several tiles of rows; outputs and inputs that fill no panel, few inputs; too small. */
static const layer_case cases[] = {
    {1, 512, 512, MMF_ACT_RELU, true},    {1, 517, 701, MMF_ACT_NONE, true},
    {2, 512, 512, MMF_ACT_NONE, true},    {2, 512, 512, MMF_ACT_RELU, false},
    {2, 512, 512, MMF_ACT_NONE, false},   {14, 512, 512, MMF_ACT_RELU, true},
    {14, 512, 512, MMF_ACT_GELU, true},   {100, 512, 300, MMF_ACT_TANH, false},
    {100, 512, 300, MMF_ACT_RELU, true},  {129, 260, 1111, MMF_ACT_SIGMOID, true},
    {65, 131, 1500, MMF_ACT_RELU, false}, {3, 260, 513, MMF_ACT_RELU, true},
    {4, 300, 449, MMF_ACT_NONE, true},    {5, 512, 256, MMF_ACT_RELU, true},
    {6, 256, 512, MMF_ACT_GELU, false},   {3, 8, 8, MMF_ACT_RELU, true},
    {13, 9, 15000, MMF_ACT_NONE, true},   {15, 300, 449, MMF_ACT_RELU, true},
    {28, 17, 9000, MMF_ACT_NONE, false},  {29, 260, 513, MMF_ACT_TANH, true},
};

enum { N_CASES = sizeof cases / sizeof *cases };

typedef struct layer {
    mmf_ctx *ctx;
    mmf_tape *tape;
    mmf_real *x, *w, *b, *y;
} layer;

static void make(layer *l, const layer_case *c)
{
    mmf_rng rng = mmf_rng_make(5, (uint64_t)(c - cases));
    const int64_t sizes[] = {c->rows * c->inputs, c->outputs * c->inputs, c->outputs,
                             c->rows * c->outputs};
    mmf_real **const arrays[] = {&l->x, &l->w, &l->b, &l->y};
    l->ctx = test_ctx();
    test_ok(l->ctx, mmf_tape_create(l->ctx, &l->tape));
    for (int i = 0; i < 4; i++) {
        *arrays[i] = mmf_alloc(l->ctx, (size_t)sizes[i] * sizeof **arrays[i]);
        assert_non_null(*arrays[i]);
        for (int64_t e = 0; e < sizes[i]; e++)
            (*arrays[i])[e] = (mmf_real)(0.3 * mmf_rng_normal(&rng));
    }
}

static void drop(layer *l)
{
    mmf_free(l->ctx, l->x);
    mmf_free(l->ctx, l->w);
    mmf_free(l->ctx, l->b);
    mmf_free(l->ctx, l->y);
    mmf_tape_free(l->tape);
    mmf_ctx_free(l->ctx);
}

static const mmf_tensor *run(layer *l, const layer_case *c, bool fixed)
{
    mmf_tape_begin(l->tape, &(mmf_pass){.fixed = fixed});
    mmf_tensor *const x = mmf_input(l->tape, l->x, 2, (int64_t[]){c->rows, c->inputs});
    mmf_tensor *const w = mmf_variable(l->tape, l->w, 2, (int64_t[]){c->outputs, c->inputs});
    mmf_tensor *const b = c->has_bias ? mmf_variable(l->tape, l->b, 1, &c->outputs) : NULL;
    const mmf_tensor *const y = mmf_linear(l->tape, x, w, b, c->activation);
    test_ok(l->ctx, mmf_tape_status(l->tape));
    return y;
}

static void assert_equals(const layer *l, const layer_case *c, const mmf_tensor *y)
{
    double worst = 0, scale = 0;
    for (int64_t i = 0; i < y->count; i++) {
        worst = fmax(worst, fabs((double)y->data[i] - (double)l->y[i]));
        scale = fmax(scale, fabs((double)l->y[i]));
    }
    if (!(worst <= TOLERANCE * scale))
        fail_msg("%lld x %lld x %lld differs by %.2g of %.2g", (long long)c->rows,
                 (long long)c->inputs, (long long)c->outputs, worst, scale);
}

/* On every level of processor: the environment caps it. */
static void test_equals_plain_products(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES * (MMF_CPU_AVX512 + 1); i++) {
        const layer_case *const c = &cases[i % N_CASES];
        assert_int_equal(setenv("MMFUSE_CPU", mmf_cpu_name((mmf_cpu)(i / N_CASES)), 1), 0);
        layer l;
        make(&l, c);
        const mmf_tensor *const plain = run(&l, c, false);
        memcpy(l.y, plain->data, (size_t)plain->count * sizeof *l.y);
        for (int pass = 0; pass < 2; pass++)
            assert_equals(&l, c, run(&l, c, true));
        drop(&l);
    }
    assert_int_equal(unsetenv("MMFUSE_CPU"), 0);
}

/* The second pass reads the panels, which the first one made, until a pass is not fixed. */
static void test_panels_last_as_long_as_parameters(void **state)
{
    (void)state;
    const layer_case c = {14, 512, 512, MMF_ACT_RELU, true};
    layer l;
    make(&l, &c);
    run(&l, &c, true);
    for (int64_t i = 0; i < c.inputs * c.outputs; i++)
        l.w[i] = 0;
    l.b[0] = 3;
    assert_true(run(&l, &c, true)->data[0] != 3);
    assert_true(run(&l, &c, false)->data[0] == 3);
    assert_true(run(&l, &c, true)->data[0] == 3);
    drop(&l);
}

/* One row reads a plain weight, or the panels of one that can go back to its file. */
static void test_one_row(void **state)
{
    (void)state;
    const layer_case c = {1, 512, 700, MMF_ACT_RELU, true};
    layer l;
    make(&l, &c);
    const mmf_tensor *const plain = run(&l, &c, false);
    memcpy(l.y, plain->data, (size_t)plain->count * sizeof *l.y);
    mmf_tape_begin(l.tape, &(mmf_pass){.fixed = true});
    mmf_tensor *const x = mmf_input(l.tape, l.x, 2, (int64_t[]){1, c.inputs});
    mmf_tensor *const b = mmf_variable(l.tape, l.b, 1, &c.outputs);
    mmf_tensor *const w = mmf_variable(l.tape, l.w, 2, (int64_t[]){c.outputs, c.inputs});
    mmf_tensor *const y = mmf_full(l.tape, 2, (int64_t[]){1, c.outputs}, 0);
    assert_false(mmf_panels_linear(l.tape, x, w, b, MMF_ACT_RELU, y));
    mmf_tensor mapped = *w;
    void *page = NULL;
    assert_int_equal(posix_memalign(&page, 4096, (size_t)w->count * sizeof *w->data), 0);
    memcpy(page, l.w, (size_t)w->count * sizeof *w->data);
    mapped.data = page;
    mapped.is_mapped =
        true; /* private pages here: given back, they would be lost, not read again */
    assert_true(mmf_panels_linear(l.tape, x, &mapped, b, MMF_ACT_RELU, y));
    assert_equals(&l, &c, y);
    free(page);
    drop(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_plain_products),
        cmocka_unit_test(test_panels_last_as_long_as_parameters),
        cmocka_unit_test(test_one_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
