/* test_jacobi.c: singular values and vectors by rotations, on matrices whose answer is known. */
#include "tensor/jacobi.h"

#include <math.h>
#include <stdlib.h>

#include "support.h"

#define CLOSE 1e-11

enum { MOST = 40 };

typedef struct svd {
    int64_t m, n;
    double a[MOST * MOST], u[MOST * MOST], v[MOST * MOST], s[MOST]; /* a, u: by columns */
} svd;

static void draw(svd *d, int64_t m, int64_t n, uint64_t seed)
{
    mmf_rng rng = mmf_rng_make(seed, 0);
    d->m = m;
    d->n = n;
    for (int64_t i = 0; i < m * n; i++)
        d->a[i] = mmf_rng_normal(&rng);
}

static void solve(svd *d)
{
    memcpy(d->u, d->a, (size_t)(d->m * d->n) * sizeof *d->a);
    mmf_jacobi_svd(d->u, d->m, d->n, d->v, d->s);
}

static double product(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* A = U diag(s) V', s falling, orthonormal columns but for those of singular value 0. */
static void check(const svd *d)
{
    for (int64_t j = 0; j < d->n; j++) {
        assert_true(d->s[j] >= 0 && (j == 0 || d->s[j] <= d->s[j - 1] * (1 + CLOSE)));
        for (int64_t i = 0; i < d->n; i++) {
            const double vv = product(d->v + i * d->n, d->v + j * d->n, d->n);
            const double uu = product(d->u + i * d->m, d->u + j * d->m, d->m);
            assert_true(fabs(vv - (i == j)) < CLOSE);
            assert_true(fabs(uu - (i == j && d->s[j] > 1e-9)) < CLOSE);
        }
        for (int64_t row = 0; row < d->m; row++) {
            double sum = 0;
            for (int64_t k = 0; k < d->n; k++)
                sum += d->u[k * d->m + row] * d->s[k] * d->v[k * d->n + j];
            assert_true(fabs(sum - d->a[j * d->m + row]) < CLOSE * (1 + d->s[0]));
        }
    }
}

static void any_shape_is_put_together_again(void **state)
{
    (void)state;
    static const int64_t shapes[][2] = {{1, 1}, {5, 1}, {4, 4}, {17, 6}, {40, 39}, {40, 40}};
    svd *const d = calloc(1, sizeof *d);
    assert_non_null(d);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        draw(d, shapes[i][0], shapes[i][1], i);
        solve(d);
        check(d);
    }
    free(d);
}

static void columns_that_repeat_have_no_singular_value(void **state)
{
    (void)state;
    svd *const d = calloc(1, sizeof *d);
    assert_non_null(d);
    draw(d, 9, 5, 3);
    memcpy(d->a + 4 * 9, d->a + 9, 9 * sizeof *d->a); /* the last one is the second */
    memset(d->a, 0, 9 * sizeof *d->a);                /* the first one is nothing */
    solve(d);
    check(d);
    assert_true(d->s[2] > 0.1 && d->s[3] < 1e-12 && d->s[4] < 1e-12);
    memset(d->a, 0, sizeof d->a);
    solve(d);
    for (int64_t j = 0; j < 5; j++)
        assert_true(d->s[j] == 0);
    free(d);
}

static void symmetric_matrices_have_their_eigenvalues(void **state)
{
    (void)state;
    /* 2 I + ones: 5 once, 2 twice; and one of a wide range, whose small values keep their digits */
    svd *const d = calloc(1, sizeof *d);
    assert_non_null(d);
    d->m = d->n = 3;
    for (int i = 0; i < 9; i++)
        d->a[i] = i % 4 ? 1 : 3;
    solve(d);
    check(d);
    assert_true(fabs(d->s[0] - 5) < CLOSE && fabs(d->s[1] - 2) < CLOSE &&
                fabs(d->s[2] - 2) < CLOSE);
    assert_true(fabs(fabs(d->v[0]) - sqrt(1.0 / 3)) < CLOSE);
    const double wide[] = {1e8, 1, 1, 2e-4};
    d->m = d->n = 2;
    memcpy(d->a, wide, sizeof wide);
    solve(d);
    const double small = (1e8 * 2e-4 - 1) / d->s[0]; /* product of both: the determinant */
    assert_true(fabs(d->s[1] / small - 1) < 1e-9);
    free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_shape_is_put_together_again),
        cmocka_unit_test(columns_that_repeat_have_no_singular_value),
        cmocka_unit_test(symmetric_matrices_have_their_eigenvalues),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
