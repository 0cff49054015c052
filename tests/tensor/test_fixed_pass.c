/* test_fixed_pass.c: what passes over fixed parameters keep, and when they forget it. */
#include <math.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sparse_row_has_the_same_product),
        cmocka_unit_test(another_pass_forgets_old_values),
        cmocka_unit_test(steady_passes_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
