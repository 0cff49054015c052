/* test_transform.c: circular convolution by Fourier transforms against direct sums in doubles. */
#include <math.h>
#include <stdlib.h>

#include "support.h"
#include "tensor/transform.h"

#define ROWS 3
#define TOLERANCE 2e-6 /* of the largest magnitude */

static const int64_t widths[] = {1, 2, 1000, 1001, 997, 4096, 16000};

enum { N_WIDTHS = sizeof widths / sizeof *widths };

/* sum_i x[i] y[(sign i + j) mod n], with sign -1 of a convolution and +1 of a correlation */
static double direct(const mmf_real *x, const mmf_real *y, int64_t n, int64_t j, int sign)
{
    double total = 0;
    for (int64_t i = 0; i < n; i++)
        total += (double)x[i] * (double)y[(j + sign * i + n) % n];
    return total;
}

static void assert_rows(const char *what, int64_t n, const mmf_real *got, const mmf_real *x,
                        const mmf_real *y, int sign)
{
    double worst = 0, scale = 0;
    for (int64_t r = 0; r < ROWS; r++) {
        for (int64_t j = 0; j<n; j += n> 2000 ? 37 : 1) {
            const double wanted = direct(x + r * n, y + r * n, n, j, sign);
            worst = fmax(worst, fabs((double)got[r * n + j] - wanted));
            scale = fmax(scale, fabs(wanted));
        }
    }
    if (!(worst <= TOLERANCE * scale))
        fail_msg("%s of %lld places differs by %.2g of %.2g", what, (long long)n, worst, scale);
}

static void test_equals_direct_sums(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (int i = 0; i < N_WIDTHS; i++) {
        const int64_t n = widths[i], count = ROWS * n;
        mmf_real *const all = calloc((size_t)(6 * count), sizeof *all);
        assert_non_null(all);
        mmf_real *const a = all, *const b = a + count, *const dy = b + count, *const y = dy + count;
        mmf_real *const da = y + count, *const db = da + count;
        mmf_rng rng = mmf_rng_make(3, (uint64_t)i);
        for (int64_t e = 0; e < 3 * count; e++)
            all[e] = (mmf_real)mmf_rng_normal(&rng);
        mmf_tape_begin(tape, &(mmf_pass){0});
        if (!mmf_transform_convolve(tape, ROWS, n, a, b, y)) {
            free(all);
            mmf_tape_free(tape);
            mmf_ctx_free(ctx);
            print_message("this build has no Fourier transforms; left out\n");
            skip();
        }
        assert_true(mmf_transform_convolve_back(tape, ROWS, n, a, b, dy, da, db));
        assert_rows("a convolution", n, y, a, b, -1);
        assert_rows("the gradient of the first", n, da, b, dy, 1);
        assert_rows("the gradient of the second", n, db, a, dy, 1);
        free(all);
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* Sketches of short vectors: what nothing reaches is 0, not a rounding error. */
static void test_few_elements_leave_zeros(void **state)
{
    (void)state;
    enum { N = 4000, FEW = 20, MOST = FEW * FEW };
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_real *const a = calloc(N, sizeof *a), *const b = calloc(N, sizeof *b);
    assert_true(a && b);
    for (int i = 0; i < FEW; i++) {
        a[i * 191 % N] = (mmf_real)1.5;
        b[i * 1777 % N] = (mmf_real)-.7;
    }
    mmf_tape_begin(tape, &(mmf_pass){0});
    const mmf_tensor *const y =
        mmf_circular_convolution(tape, mmf_input(tape, a, 2, (const int64_t[]){1, N}),
                                 mmf_input(tape, b, 2, (const int64_t[]){1, N}));
    test_ok(ctx, mmf_tape_status(tape));
    int others = 0;
    for (int i = 0; i < N; i++)
        others += y->data[i] != (mmf_real)0;
    assert_in_range(others, FEW, MOST);
    free(a);
    free(b);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_direct_sums),
        cmocka_unit_test(test_few_elements_leave_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
