/*
 * test_row_sums.c: one row through a matrix, by rows of it, on every processor level: any number of
 * columns, rows further apart than they are long, rows that are multiplied by 0 and not read.
 */
#include <math.h>

#include "support.h"
#include "tensor/kernels/kernels.h"

enum { ROWS = 37, MOST_COLUMNS = 150, STRIDE = MOST_COLUMNS + 3 };

static void every_number_of_columns(void **state)
{
    (void)state;
    static mmf_real w[ROWS * STRIDE], x[ROWS], y[MOST_COLUMNS + 1];
    mmf_rng rng = mmf_rng_make(3, 0);
    for (int i = 0; i < ROWS; i++) {
        x[i] = i % 5 == 2 ? 0 : (mmf_real)mmf_rng_normal(&rng);
        for (int j = 0; j < STRIDE; j++)
            w[i * STRIDE + j] = i % 5 == 2 ? (mmf_real)NAN : (mmf_real)mmf_rng_normal(&rng);
    }
    mmf_ctx *const ctx = test_ctx();
    for (int level = 0; level <= (int)mmf_ctx_cpu(ctx); level++) {
        const mmf_kernels *const k = mmf_kernels_for((mmf_cpu)level);
        for (int64_t columns = 1; columns <= MOST_COLUMNS; columns++) {
            y[columns] = 7;
            k->sum_rows(ROWS, columns, x, w, STRIDE, y);
            for (int64_t j = 0; j < columns; j++) {
                double wanted = 0;
                for (int i = 0; i < ROWS; i++)
                    wanted += i % 5 == 2 ? 0 : (double)x[i] * (double)w[i * STRIDE + j];
                if (!(fabs((double)y[j] - wanted) < 1e-5))
                    fail_msg("%s kernels, %d columns: column %d is %g, expected %g",
                             mmf_cpu_name((mmf_cpu)level), (int)columns, (int)j, (double)y[j],
                             wanted);
            }
            assert_true(y[columns] == 7);
        }
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_of_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
