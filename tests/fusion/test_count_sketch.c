/*
 * test_count_sketch.c: compact bilinear pooling: the worked example, what is hashed where, what
 * sketches keep in expectation, and that they are bilinear.
 */
#include "fusion/operator_case.h"

static void put(mmf_module *module, const char *name, const double *values, int64_t n)
{
    mmf_tensor *const t = parameter(module, name);
    assert_int_equal(t->count, n);
    for (int64_t i = 0; i < n; i++)
        t->data[i] = (mmf_real)values[i];
}

static void compact_pooling_gives_the_worked_example(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const setting settings[] = {{"mm_dim", "4"}, {"output_dim", "2"}, {0}};
    features f = {
        .m = 2, .b = 1, .width = {5, 3}, .values = {{1, 2, 3, 4, 5}, {(mmf_real)0.5, -1, 2}}};
    mmf_module *const module = make(ctx, "mcb", &f, settings);
    put(module, "mcb.sketch1.h", (double[]){0, 2, 1, 3, 2}, 5);
    put(module, "mcb.sketch1.s", (double[]){1, -1, 1, 1, -1}, 5);
    put(module, "mcb.sketch2.h", (double[]){1, 3, 0}, 3);
    put(module, "mcb.sketch2.s", (double[]){-1, 1, 1}, 3);
    const output x = run(ctx, module, &f, "sketch.p"), y = run(ctx, module, &f, "sketch.q");
    const output z = run(ctx, module, &f, "pooled");
    assert_near(&x, (double[]){1, 3, -7, 4}, 4, 1e-6);
    assert_near(&y, (double[]){2, -0.5, 0, -1}, 4, 1e-6);
    assert_near(&z, (double[]){-3, 12.5, -19.5, 10.5}, 4, 1e-6);
    put(module, "mcb.sketch2.h", (double[]){1, 4, 0}, 3); /* from a broken file: out of range */
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    for (int m = 0; m < 2; m++)
        mmf_named_put(tape, &in, names[m],
                      mmf_input(tape, f.values[m], 2, (int64_t[]){1, f.width[m]}));
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    test_fails(ctx, mmf_tape_status(tape), MMF_ARG, "index 4");
    mmf_tape_free(tape);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Unit vectors e_i, e_j give one +-1 at (h(i) + h(j)) mod D, for even and odd D. */
static void units_are_hashed_to_one_place(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const char *const widths[] = {"1", "2", "7", "12", "15"};
    for (size_t w = 0; w < 5; w++) {
        const setting settings[] = {{"mm_dim", widths[w]}, {"output_dim", "2"}, {0}};
        features f = {.m = 2, .b = 1, .width = {5, 3}};
        mmf_module *const module = make(ctx, "mcb", &f, settings);
        const mmf_real *const h1 = parameter(module, "mcb.sketch1.h")->data;
        const mmf_real *const h2 = parameter(module, "mcb.sketch2.h")->data;
        const mmf_real *const s1 = parameter(module, "mcb.sketch1.s")->data;
        const mmf_real *const s2 = parameter(module, "mcb.sketch2.s")->data;
        for (int i = 0; i < 5; i++) {
            for (int j = 0; j < 3; j++) {
                features unit = f;
                unit.values[0][i] = unit.values[1][j] = 1;
                const output z = run(ctx, module, &unit, "pooled");
                const int64_t place = ((int64_t)h1[i] + (int64_t)h2[j]) % z.width;
                assert_true(fabs((double)s1[i]) == 1 && fabs((double)s2[j]) == 1);
                for (int64_t e = 0; e < z.width; e++)
                    assert_true(z.values[e] == (e == place ? (double)s1[i] * (double)s2[j] : 0));
            }
        }
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

static double inner(const double *a, const double *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

static double inner_rows(const features *f, int m)
{
    double sum = 0;
    for (int64_t i = 0; i < f->width[m]; i++)
        sum += (double)f->values[m][i] * (double)f->values[m][f->width[m] + i];
    return sum;
}

/* (|x|^2 |x'|^2 + <x, x'>^2 - 2 sum_i x_i^2 x'_i^2) / D: the variance of <psi(x), psi(x')>. */
static double sketch_variance(const features *f, int64_t width)
{
    const mmf_real *const x = f->values[0], *const y = x + f->width[0];
    double xx = 0, yy = 0, xy = 0, squares = 0;
    for (int64_t i = 0; i < f->width[0]; i++) {
        const double a = (double)x[i], b = (double)y[i];
        xx += a * a;
        yy += b * b;
        xy += a * b;
        squares += a * a * b * b;
    }
    return (xx * yy + xy * xy - 2 * squares) / (double)width;
}

/* E <psi(x), psi(x')> = <x, x'> and E <phi(x, y), phi(x', y')> = <x, x'> <y, y'> over the draws of
 * hashes and signs: within four standard errors of the mean; and the variance of the former. */
static void sketches_keep_inner_products_in_expectation(void **state)
{
    (void)state;
    enum { DRAWS = 4000, WIDTH = 16 };
    mmf_ctx *const ctx = test_ctx();
    const setting settings[] = {{"mm_dim", "16"}, {"output_dim", "2"}, {0}};
    features f = random_features(2, 2, 6, 31);
    mmf_module *const module = make(ctx, "mcb", &f, settings);
    static const char *const outputs[] = {"sketch.p", "pooled"};
    const double wanted[] = {inner_rows(&f, 0), inner_rows(&f, 0) * inner_rows(&f, 1)};
    for (int o = 0; o < 2; o++) {
        double sum = 0, square = 0;
        for (uint64_t draw = 0; draw < DRAWS; draw++) {
            mmf_params_init(mmf_module_params(module), draw);
            const output z = run(ctx, module, &f, outputs[o]);
            assert_int_equal(z.width, WIDTH);
            const double product = inner(z.values, z.values + WIDTH, WIDTH);
            sum += product;
            square += product * product;
        }
        const double mean = sum / DRAWS;
        const double error = sqrt((square / DRAWS - mean * mean) / DRAWS);
        assert_true(error < 0.5);
        if (!(fabs(mean - wanted[o]) < 4 * error))
            fail_msg("%s: mean %.4f, expected %.4f +- %.4f", outputs[o], mean, wanted[o], error);
        const double variance = square / DRAWS - mean * mean;
        assert_true(o == 1 || fabs(variance / sketch_variance(&f, WIDTH) - 1) < 0.15);
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Linear in each, and its sum is the product of the signed sums. */
static void compact_pooling_is_bilinear(void **state)
{
    (void)state;
    const setting settings[] = {{"mm_dim", "9"}, {"output_dim", "2"}, {0}};
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(2, 3, 6, 32);
    mmf_module *const module = make(ctx, "mcb", &f, settings);
    for (int m = 0; m < 2; m++) { /* the third row is 2 of the first and -3 of the second */
        for (int i = 0; i < 6; i++) {
            f.values[m][12 + i] = 2 * f.values[m][i] - 3 * f.values[m][6 + i];
            f.values[1 - m][6 + i] = f.values[1 - m][12 + i] = f.values[1 - m][i];
        }
        const output z = run(ctx, module, &f, "pooled");
        double sum = 0, first = 0, second = 0;
        for (int64_t e = 0; e < z.width; e++) {
            const double mixed = 2 * z.values[e] - 3 * z.values[z.width + e];
            assert_true(fabs(z.values[2 * z.width + e] - mixed) < 1e-5);
            sum += z.values[e];
        }
        for (int i = 0; i < 6; i++) {
            first += (double)(parameter(module, "mcb.sketch1.s")->data[i] * f.values[0][i]);
            second += (double)(parameter(module, "mcb.sketch2.s")->data[i] * f.values[1][i]);
        }
        assert_true(fabs(sum - first * second) < 1e-5);
        f = random_features(2, 3, 6, 33);
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compact_pooling_gives_the_worked_example),
        cmocka_unit_test(units_are_hashed_to_one_place),
        cmocka_unit_test(sketches_keep_inner_products_in_expectation),
        cmocka_unit_test(compact_pooling_is_bilinear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
