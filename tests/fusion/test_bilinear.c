/*
 * test_bilinear.c: the bilinear pooling family: what each member becomes at its limits. Sketches
 * are in test_count_sketch.c.
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

/* Output `o` of a linear layer. */
static double linear(mmf_module *module, const char *name, const mmf_real *x, int64_t o)
{
    char part[64];
    snprintf(part, sizeof part, "%s.weight", name);
    const mmf_tensor *const w = parameter(module, part);
    snprintf(part, sizeof part, "%s.bias", name);
    double sum = (double)parameter(module, part)->data[o];
    for (int64_t i = 0; i < w->shape[1]; i++)
        sum += (double)w->data[o * w->shape[1] + i] * (double)x[i];
    return sum;
}

static void assert_equal(mmf_ctx *ctx, mmf_module *a, mmf_module *b, features *f)
{
    const output x = run(ctx, a, f, "fused"), y = run(ctx, b, f, "fused");
    assert_int_equal(x.width, y.width);
    assert_near(&x, y.values, x.width * f->b, 1e-5);
    mmf_module_free(a);
    mmf_module_free(b);
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

static void gelu_is_of_the_normal_distribution(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const setting plain[] = {SMALL, LINEAR, {0}};
    const setting gelu[] = {SMALL, {"activ_input", "none"}, {"activ_output", "gelu"}, {0}};
    features f = random_features(2, MAX_B, 7, 43);
    output wanted = once(ctx, "mlb", &f, plain, "fused");
    for (int64_t i = 0; i < wanted.width * f.b; i++)
        wanted.values[i] *= 0.5 * (1 + erf(wanted.values[i] / sqrt(2)));
    const output found = once(ctx, "mlb", &f, gelu, "fused");
    assert_near(&found, wanted.values, wanted.width * f.b, 1e-5);
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

/* Chunks of one feature and rank 1: an affine map a channel, times another. */
static void blocks_of_one_feature_are_a_product(void **state)
{
    (void)state;
    enum { D = 6, OUT = 5 };
    mmf_ctx *const ctx = test_ctx();
    const setting settings[] = {
        SMALL, {"chunks", "6"}, {"rank", "1"}, {"pos_norm", "after_cat"}, {0}};
    features f = random_features(2, MAX_B, 7, 48);
    mmf_module *const block = make(ctx, "block", &f, settings);
    const output o = run(ctx, block, &f, "fused");
    for (int64_t b = 0; b < MAX_B; b++) {
        double z[D], square = 0;
        for (int c = 0; c < D; c++) {
            z[c] = 1;
            for (int m = 0; m < 2; m++) {
                char name[40];
                snprintf(name, sizeof name, "linear%d", m);
                const double x = linear(block, name, f.values[m] + b * 7, c);
                snprintf(name, sizeof name, "merge_linears%d.%d", m, c);
                const mmf_real channel = (mmf_real)x;
                z[c] *= linear(block, name, &channel, 0);
            }
            square += fabs(z[c]);
        }
        mmf_real length_one[D];
        for (int c = 0; c < D; c++) /* signed square root, length one */
            length_one[c] = (mmf_real)(copysign(sqrt(fabs(z[c])), z[c]) / sqrt(square));
        for (int k = 0; k < OUT; k++)
            assert_true(fabs(o.values[b * OUT + k] - linear(block, "linear_out", length_one, k)) <
                        1e-5);
    }
    mmf_module_free(block);
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

static const setting linear_to_one[] = {SMALL, LINEAR, {"normalize", "true"}, {0}};
static const setting plain_to_one[] = {SMALL, {"normalize", "true"}, {0}};
static const setting chunks_to_one[] = {SMALL, {"chunks", "2"}, {0}}, sketch[] = {SMALL, {0}};

/* Members that bring what they pool to length one. */
static const struct {
    const char *name;
    const setting *settings;
} normed[] = {{"mlb", linear_to_one},          {"mfb", linear_to_one},   {"mfh", linear_to_one},
              {"mutan", plain_to_one},         {"tucker", plain_to_one}, {"block", chunks_to_one},
              {"block-tucker", chunks_to_one}, {"mcb", sketch}};

/* A product that is exactly zero, as after dropout, has the gradient 0 under the square root, not
 * infinity times nothing. */
static void a_product_of_zeros_has_a_gradient(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (size_t o = 0; o < sizeof normed / sizeof *normed; o++) {
        features f = random_features(2, MAX_B, 7, 49);
        memset(f.values[0], 0, 7 * sizeof *f.values[0]); /* the first row */
        mmf_module *const module = make(ctx, normed[o].name, &f, normed[o].settings);
        mmf_params *const params = mmf_module_params(module);
        mmf_named in = {0}, out = {0};
        for (size_t i = 0; i < mmf_params_count(params); i++) {
            if (strstr(mmf_params_at(params, i)->name, "bias"))
                zero(module, mmf_params_at(params, i)->name);
        }
        mmf_tape_begin(tape, &(mmf_pass){.record = true, .training = true});
        for (int m = 0; m < 2; m++)
            mmf_named_put(tape, &in, names[m],
                          mmf_variable(tape, f.values[m], 2, (int64_t[]){MAX_B, 7}));
        mmf_module_run(module, tape, &in, &(mmf_step){.training = true}, &out);
        mmf_tensor *const y = mmf_named_get(&out, "fused");
        test_ok(ctx, mmf_tape_backward(tape, mmf_sum(tape, y, MMF_ALL_AXES)));
        mmf_params_finish_gradients(params, tape);
        for (int64_t i = 0; i < y->count / MAX_B; i++)
            assert_true(y->data[i] == 0);
        for (int64_t i = 0; i < mmf_params_size(params); i++)
            assert_true(isfinite(mmf_params_gradients(params)[i]));
        for (int64_t i = 0; i < MAX_B * 7; i++)
            assert_true(isfinite(mmf_named_get(&in, names[0])->grad[i]));
        mmf_module_free(module);
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

static void length_one_forgets_the_scale(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t o = 0; o < sizeof normed / sizeof *normed; o++) {
        features f = random_features(2, MAX_B, 7, 45);
        mmf_module *const module = make(ctx, normed[o].name, &f, normed[o].settings);
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

/* Without V, U and b the matrix form is linear in each of its inputs, so zeros give zeros. */
static void the_matrix_form_is_bilinear(void **state)
{
    (void)state;
    const setting matrix[] = {{"output", "3"}, {0}};
    mmf_ctx *const ctx = test_ctx();
    for (int m = 0; m < 2; m++) {
        features f = random_features(2, 3, 4, 52);
        mmf_module *const module = make(ctx, "multiplicative-interactions", &f, matrix);
        zero(module, "V");
        zero(module, "U");
        zero(module, "b");
        for (int i = 0; i < 4; i++) {
            f.values[m][8 + i] = 2 * f.values[m][i] - 3 * f.values[m][4 + i];
            f.values[1 - m][4 + i] = f.values[1 - m][8 + i] = f.values[1 - m][i];
        }
        const output y = run(ctx, module, &f, "fused");
        for (int64_t e = 0; e < 3; e++)
            assert_true(fabs(y.values[6 + e] - 2 * y.values[e] + 3 * y.values[3 + e]) < 1e-5);
        memset(f.values[m], 0, sizeof f.values[m]);
        const output none = run(ctx, module, &f, "fused");
        assert_near(&none, (double[9]){0}, 9, 0);
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
        cmocka_unit_test(mfb_of_factor_one_is_mlb),
        cmocka_unit_test(gelu_is_of_the_normal_distribution),
        cmocka_unit_test(mutan_with_identities_is_mlb),
        cmocka_unit_test(mutan_is_tucker_with_a_core_of_low_rank),
        cmocka_unit_test(one_block_is_the_whole),
        cmocka_unit_test(blocks_of_one_feature_are_a_product),
        cmocka_unit_test(mfh_without_its_second_block_is_mfb),
        cmocka_unit_test(a_product_of_zeros_has_a_gradient),
        cmocka_unit_test(length_one_forgets_the_scale),
        cmocka_unit_test(chunks_have_the_published_widths),
        cmocka_unit_test(shared_weights_are_one_tensor),
        cmocka_unit_test(the_vector_form_is_a_diagonal_matrix_form),
        cmocka_unit_test(the_condition_is_the_first_unless_said),
        cmocka_unit_test(the_matrix_form_is_bilinear),
        cmocka_unit_test(the_order_of_a_tensor_product_is_asked_for),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
