/*
 * test_bilinear.c: the bilinear pooling family: published numbers, what each member becomes at its
 * limits, and what the count sketch keeps in expectation.
 */
#include "fusion/operator_case.h"

static void copy_parameter(mmf_module *to, const char *name, mmf_module *from, const char *other)
{
    mmf_tensor *const a = parameter(to, name);
    const mmf_tensor *const b = parameter(from, other);
    assert_int_equal(a->count, b->count);
    memcpy(a->data, b->data, (size_t)a->count * sizeof *a->data);
}

static void copy_layer(mmf_module *to, const char *name, mmf_module *from, const char *other)
{
    static const char *const parts[] = {"weight", "bias"};
    char a[96], b[96];
    for (int i = 0; i < 2; i++) {
        snprintf(a, sizeof a, "%s.%s", name, parts[i]);
        snprintf(b, sizeof b, "%s.%s", other, parts[i]);
        copy_parameter(to, a, from, b);
    }
}

static void zero(mmf_module *module, const char *name)
{
    mmf_tensor *const t = parameter(module, name);
    memset(t->data, 0, (size_t)t->count * sizeof *t->data);
}

static void identity(mmf_module *module, const char *name)
{
    zero(module, name);
    mmf_tensor *const t = parameter(module, name);
    for (int64_t i = 0; i < t->shape[0]; i++)
        t->data[i * t->shape[1] + i] = 1;
}

static void assert_equal(mmf_ctx *ctx, mmf_module *a, mmf_module *b, features *f)
{
    const output x = run(ctx, a, f, "fused"), y = run(ctx, b, f, "fused");
    assert_int_equal(x.width, y.width);
    assert_near(&x, y.values, x.width * f->b, 1e-5);
    mmf_module_free(a);
    mmf_module_free(b);
}

/* ---- Count sketches ---------------------------------------------------------------------- */

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

/* E <psi(x), psi(x')> = <x, x'> and E <phi(x, y), phi(x', y')> = <x, x'> <y, y'> over the draws of
 * hashes and signs: within four standard errors of the mean. */
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
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* ---- Each member at its limits ----------------------------------------------------------- */

#define SMALL                                                                                      \
    {"mm_dim", "6"},                                                                               \
    {                                                                                              \
        "output_dim", "5"                                                                          \
    }
#define LINEAR                                                                                     \
    {"activ_input", "none"},                                                                       \
    {                                                                                              \
        "activ_output", "none"                                                                     \
    }

/* Parameters of equal names are drawn equal, so nothing has to be copied. */
static void mfb_of_factor_one_is_mlb(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const char *const activations[] = {"none", "relu", "tanh"};
    for (int a = 0; a < 3; a++) {
        for (int normalize = 0; normalize < 2; normalize++) {
            const setting settings[] = {SMALL,
                                        {"activ_input", activations[a]},
                                        {"normalize", normalize ? "true" : "false"},
                                        {"activ_output", "none"},
                                        {0}};
            const setting one[] = {settings[0], settings[1],     settings[2], settings[3],
                                   settings[4], {"factor", "1"}, {0}};
            features f = random_features(2, MAX_B, 7, 40);
            assert_equal(ctx, make(ctx, "mfb", &f, one), make(ctx, "mlb", &f, settings), &f);
        }
    }
    mmf_ctx_free(ctx);
}

static void mutan_with_identities_is_mlb(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const setting settings[] = {SMALL, {"rank", "1"}, {0}}, linear[] = {SMALL, LINEAR, {0}};
    features f = random_features(2, MAX_B, 7, 41);
    mmf_module *const mutan = make(ctx, "mutan", &f, settings);
    identity(mutan, "merge_linear0.weight");
    identity(mutan, "merge_linear1.weight");
    zero(mutan, "merge_linear0.bias");
    zero(mutan, "merge_linear1.bias");
    assert_equal(ctx, mutan, make(ctx, "mlb", &f, linear), &f);
    mmf_ctx_free(ctx);
}

/* G_o = sum_r M_r[o] N_r[o]': a core of low rank. */
static void mutan_is_tucker_with_a_core_of_low_rank(void **state)
{
    (void)state;
    enum { D = 6, R = 3 };
    mmf_ctx *const ctx = test_ctx();
    const setting settings[] = {SMALL, {"rank", "3"}, {0}}, full[] = {SMALL, {0}};
    features f = random_features(2, MAX_B, 7, 42);
    mmf_module *const mutan = make(ctx, "mutan", &f, settings);
    mmf_module *const tucker = make(ctx, "tucker", &f, full);
    zero(mutan, "merge_linear0.bias");
    zero(mutan, "merge_linear1.bias");
    zero(tucker, "bilinear.bias");
    const mmf_real *const m = parameter(mutan, "merge_linear0.weight")->data;
    const mmf_real *const n = parameter(mutan, "merge_linear1.weight")->data;
    mmf_real *const g = parameter(tucker, "bilinear.weight")->data;
    for (int o = 0; o < D; o++) {
        for (int i = 0; i < D; i++) {
            for (int j = 0; j < D; j++) {
                g[(o * D + i) * D + j] = 0;
                for (int r = 0; r < R; r++)
                    g[(o * D + i) * D + j] += m[(r * D + o) * D + i] * n[(r * D + o) * D + j];
            }
        }
    }
    assert_equal(ctx, mutan, tucker, &f);
    mmf_ctx_free(ctx);
}

static void one_block_is_the_whole(void **state)
{
    (void)state;
    static const char *const norms[] = {"before_cat", "after_cat"};
    mmf_ctx *const ctx = test_ctx();
    const setting whole[] = {SMALL, {"normalize", "true"}, {0}};
    features f = random_features(2, MAX_B, 7, 43);
    for (int n = 0; n < 2; n++) {
        const setting one[] = {SMALL, {"chunks", "1"}, {"pos_norm", norms[n]}, {0}};
        mmf_module *const block = make(ctx, "block", &f, one);
        mmf_module *const mutan = make(ctx, "mutan", &f, whole);
        copy_layer(block, "merge_linears0.0", mutan, "merge_linear0");
        copy_layer(block, "merge_linears1.0", mutan, "merge_linear1");
        assert_equal(ctx, block, mutan, &f);
        mmf_module *const cores = make(ctx, "block-tucker", &f, one);
        mmf_module *const tucker = make(ctx, "tucker", &f, whole);
        copy_layer(cores, "bilinears.0", tucker, "bilinear");
        assert_equal(ctx, cores, tucker, &f);
    }
    mmf_ctx_free(ctx);
}

/* Without its second block's weights the second half of MFH is 0, and the first is MFB. */
static void mfh_without_its_second_block_is_mfb(void **state)
{
    (void)state;
    enum { D = 6, OUT = 5 };
    mmf_ctx *const ctx = test_ctx();
    const setting settings[] = {SMALL, {"factor", "2"}, {"normalize", "true"}, {0}};
    features f = random_features(2, MAX_B, 7, 44);
    mmf_module *const mfh = make(ctx, "mfh", &f, settings);
    mmf_module *const mfb = make(ctx, "mfb", &f, settings);
    copy_layer(mfb, "linear0", mfh, "linear0_0");
    copy_layer(mfb, "linear1", mfh, "linear1_0");
    zero(mfh, "linear0_1.weight");
    zero(mfh, "linear0_1.bias");
    const mmf_real *const wide = parameter(mfh, "linear_out.weight")->data;
    mmf_real *const narrow = parameter(mfb, "linear_out.weight")->data;
    for (int o = 0; o < OUT; o++)
        memcpy(narrow + o * D, wide + o * 2 * D, D * sizeof *narrow);
    copy_parameter(mfb, "linear_out.bias", mfh, "linear_out.bias");
    assert_equal(ctx, mfh, mfb, &f);
    mmf_ctx_free(ctx);
}

static void length_one_forgets_the_scale(void **state)
{
    (void)state;
    static const setting linear[] = {SMALL, LINEAR, {"normalize", "true"}, {0}};
    static const setting plain[] = {SMALL, {"normalize", "true"}, {0}};
    static const setting chunks[] = {SMALL, {"chunks", "2"}, {0}}, sketch[] = {SMALL, {0}};
    static const struct {
        const char *name;
        const setting *settings;
    } rows[] = {{"mlb", linear},   {"mfb", linear},   {"mfh", linear},          {"mutan", plain},
                {"tucker", plain}, {"block", chunks}, {"block-tucker", chunks}, {"mcb", sketch}};
    mmf_ctx *const ctx = test_ctx();
    for (size_t o = 0; o < sizeof rows / sizeof *rows; o++) {
        features f = random_features(2, MAX_B, 7, 45);
        mmf_module *const module = make(ctx, rows[o].name, &f, rows[o].settings);
        const mmf_params *const params = mmf_module_params(module);
        for (size_t i = 0; i < mmf_params_count(params); i++) {
            if (strstr(mmf_params_at(params, i)->name, "bias"))
                zero(module, mmf_params_at(params, i)->name);
        }
        const output before = run(ctx, module, &f, "fused");
        for (int64_t i = 0; i < MAX_B * 7; i++)
            f.values[0][i] *= 9;
        const output after = run(ctx, module, &f, "fused");
        assert_near(&after, before.values, MAX_B * before.width, 1e-5);
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

static void chunks_have_the_published_widths(void **state)
{
    (void)state;
    static const struct {
        const char *mm_dim, *chunks, *place;
        int64_t width;
    } rows[] = {
        {"1600", "18", "0", 89}, {"1600", "18", "17", 87}, {"1600", "20", "19", 80},
        {"10", "8", "1", 2},     {"10", "8", "2", 1},      {"10", "8", "7", 1},
        {"700", "20", "19", 35}, {"10", "6", "1", 2},      {"10", "6", "5", 1},
        {"10", "10", "9", 1},
    };
    mmf_ctx *const ctx = test_ctx();
    const features f = random_features(2, 1, 2, 46);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const setting settings[] = {{"mm_dim", rows[i].mm_dim}, {"chunks", rows[i].chunks}, {0}};
        char name[64];
        mmf_module *const module = make(ctx, "block-tucker", &f, settings);
        snprintf(name, sizeof name, "bilinears.%s.bias", rows[i].place);
        assert_int_equal(parameter(module, name)->count, rows[i].width);
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

static void shared_weights_are_one_tensor(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const setting settings[] = {SMALL, {"shared", "true"}, {0}}, own[] = {SMALL, {0}};
    const features f = random_features(2, MAX_B, 7, 47);
    mmf_module *const shared = make(ctx, "tucker", &f, settings);
    mmf_module *const apart = make(ctx, "tucker", &f, own);
    assert_ptr_equal(parameter(shared, "linear0.weight"), parameter(shared, "linear1.weight"));
    assert_ptr_not_equal(parameter(apart, "linear0.weight"), parameter(apart, "linear1.weight"));
    assert_int_equal(mmf_params_count(mmf_module_params(shared)),
                     mmf_params_count(mmf_module_params(apart)));
    assert_true(mmf_params_size(mmf_module_params(shared)) <
                mmf_params_size(mmf_module_params(apart)));
    mmf_module_free(shared);
    mmf_module_free(apart);
    mmf_ctx_free(ctx);
}

/* ---- Multiplicative interactions --------------------------------------------------------- */

/* The vector form is the matrix form with W[i, j, j] and V[j, j] alone. */
static void the_vector_form_is_a_diagonal_matrix_form(void **state)
{
    (void)state;
    enum { D = 4 };
    mmf_ctx *const ctx = test_ctx();
    const setting vector[] = {{"form", "vector"}, {0}}, matrix[] = {{"output", "4"}, {0}};
    features f = random_features(2, MAX_B, D, 50);
    mmf_module *const a = make(ctx, "multiplicative-interactions", &f, vector);
    mmf_module *const b = make(ctx, "multiplicative-interactions", &f, matrix);
    copy_parameter(b, "U", a, "U");
    copy_parameter(b, "b", a, "b");
    zero(b, "W");
    zero(b, "V");
    for (int j = 0; j < D; j++) {
        parameter(b, "V")->data[j * D + j] = parameter(a, "V")->data[j];
        for (int i = 0; i < D; i++)
            parameter(b, "W")->data[(i * D + j) * D + j] = parameter(a, "W")->data[i * D + j];
    }
    assert_equal(ctx, a, b, &f);
    mmf_ctx_free(ctx);
}

static void the_condition_is_the_first_unless_said(void **state)
{
    (void)state;
    static const setting rows[][3] = {{{0}},
                                      {{"flip", "true"}, {0}},
                                      {{"condition", "q"}, {0}},
                                      {{"condition", "q"}, {"flip", "true"}, {0}},
                                      {{"modalities", "q,p"}, {0}}};
    static const bool is_first[] = {true, false, false, true, false};
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        features f = random_features(2, MAX_B, 4, 51);
        mmf_module *const module = make(ctx, "multiplicative-interactions", &f, rows[i]);
        zero(module, "W"); /* y = x1 U + b: nothing else is read */
        zero(module, "V");
        const output before = run(ctx, module, &f, "fused");
        for (int64_t e = 0; e < MAX_B * 4; e++)
            f.values[is_first[i] ? 1 : 0][e] += 1;
        const output same = run(ctx, module, &f, "fused");
        assert_near(&same, before.values, MAX_B * before.width, 0);
        for (int64_t e = 0; e < MAX_B * 4; e++)
            f.values[is_first[i] ? 0 : 1][e] += 1;
        const output other = run(ctx, module, &f, "fused");
        assert_true(fabs(other.values[0] - before.values[0]) > 1e-3);
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

static void the_order_of_a_tensor_product_is_asked_for(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = {.m = 2, .b = 1, .width = {1, 2}, .values = {{2}, {3, 5}}};
    const setting turned[] = {{"modalities", "q,p"}, {0}};
    const output a = once(ctx, "tensor-fusion-n", &f, NULL, "output");
    const output b = once(ctx, "tensor-fusion-n", &f, turned, "fused");
    assert_near(&a, (double[]){1, 3, 5, 2, 6, 10}, 6, 0);
    assert_near(&b, (double[]){1, 2, 3, 6, 5, 10}, 6, 0);
    mmf_ctx_free(ctx);
}

/* ---- Refusals ---------------------------------------------------------------------------- */

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        setting settings[2];
        int64_t m, width; /* modalities, and features of the second and third; the first has 3 */
        mmf_status status;
        const char *piece;
    } rows[] = {
        {"mlb", {{0}}, 3, 3, MMF_UNSUPPORTED, "fuses two modalities, there are 3"},
        {"mcb", {{0}}, 1, 3, MMF_UNSUPPORTED, "there are 1"},
        {"mutan", {{"shared", "true"}}, 2, 4, MMF_SHAPE, "need modalities of one width"},
        {"block", {{"mm_dim", "4"}}, 2, 4, MMF_ARG, "16 chunks of 4 features"},
        {"block-tucker",
         {{"mm_dim", "4096"}, {"chunks", "2"}},
         2,
         4,
         MMF_LIMIT,
         "choose more chunks"},
        {"multiplicative-interactions", {{0}}, 1, 3, MMF_UNSUPPORTED, "two or three"},
        {"multiplicative-interactions",
         {{"form", "vector"}, {"output", "5"}},
         2,
         4,
         MMF_ARG,
         "keep the width 4 of q, option output is 5"},
        {"multiplicative-interactions", {{"form", "scalar"}}, 3, 4, MMF_UNSUPPORTED, "matrix form"},
        {"multiplicative-interactions", {{"condition", "x"}}, 2, 4, MMF_ARG, "\"x\""},
        {"multiplicative-interactions", {{"condition", "q"}}, 3, 4, MMF_ARG, "the first modality"},
        {"multiplicative-interactions", {{"output", "8192"}}, 2, 8192, MMF_LIMIT, "vector form"},
        {"tensor-fusion-n", {{"modalities", "p,x"}}, 2, 4, MMF_ARG, "no input \"x\""},
        {"tensor-fusion-n", {{"modalities", "p,p"}}, 2, 4, MMF_ARG, "twice \"p\""},
        {"tensor-fusion-n", {{"modalities", "p"}}, 2, 4, MMF_ARG, "1 of 2"},
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const mmf_def *const def = find(rows[i].name);
        mmf_input_schema inputs[3];
        for (int m = 0; m < 3; m++)
            inputs[m] = (mmf_input_schema){
                .name = names[m], .n_dims = 1, .shape = {m == 0 ? 3 : rows[i].width}};
        mmf_config *config = NULL;
        mmf_module *module = NULL;
        test_ok(ctx, mmf_config_create(ctx, &config, def));
        for (int s = 0; s < 2 && rows[i].settings[s].name; s++)
            test_ok(ctx,
                    mmf_config_set(config, rows[i].settings[s].name, rows[i].settings[s].value));
        const mmf_schema schema = {(size_t)rows[i].m, inputs};
        test_fails(ctx, mmf_module_create(ctx, &module, def, config, &schema, 0), rows[i].status,
                   rows[i].piece);
        mmf_config_free(config);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compact_pooling_gives_the_worked_example),
        cmocka_unit_test(units_are_hashed_to_one_place),
        cmocka_unit_test(sketches_keep_inner_products_in_expectation),
        cmocka_unit_test(mfb_of_factor_one_is_mlb),
        cmocka_unit_test(mutan_with_identities_is_mlb),
        cmocka_unit_test(mutan_is_tucker_with_a_core_of_low_rank),
        cmocka_unit_test(one_block_is_the_whole),
        cmocka_unit_test(mfh_without_its_second_block_is_mfb),
        cmocka_unit_test(length_one_forgets_the_scale),
        cmocka_unit_test(chunks_have_the_published_widths),
        cmocka_unit_test(shared_weights_are_one_tensor),
        cmocka_unit_test(the_vector_form_is_a_diagonal_matrix_form),
        cmocka_unit_test(the_condition_is_the_first_unless_said),
        cmocka_unit_test(the_order_of_a_tensor_product_is_asked_for),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
