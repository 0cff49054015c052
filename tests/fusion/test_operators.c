/*
 * test_operators.c: fusion operators and late rules on given vectors: published numbers, and the
 * identities between them.
 */
#include <math.h>
#include <stdlib.h>

#include "mmfuse/model.h"
#include "support.h"

enum { MAX_M = 3, MAX_B = 4, MAX_D = 8, MAX_OUT = 64 };

/* M modalities of `width` features, B rows; `present` NULL: always there. */
typedef struct features {
    int64_t m, b, width[MAX_M];
    mmf_real values[MAX_M][MAX_B * MAX_D];
    bool has_present;
    mmf_real present[MAX_M][MAX_B];
} features;

static const char *const names[MAX_M] = {"p", "q", "r"};

typedef struct setting {
    const char *name, *value;
} setting;

static const mmf_def *find(const char *name)
{
    size_t n = 0;
    const mmf_def *const *const table = mmf_catalogue(MMF_KIND_OPERATOR, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(table[i]->name, name) == 0)
            return table[i];
    }
    fail_msg("there is no operator %s", name);
    return NULL;
}

static mmf_module *make(mmf_ctx *ctx, const char *name, const features *f, const setting *settings)
{
    const mmf_def *const def = find(name);
    mmf_input_schema inputs[MAX_M] = {{0}};
    const mmf_schema schema = {(size_t)f->m, inputs};
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    for (int64_t m = 0; m < f->m; m++)
        inputs[m] = (mmf_input_schema){.name = names[m],
                                       .kind = MMF_VECTOR,
                                       .n_dims = 1,
                                       .shape = {f->width[m]},
                                       .has_present = f->has_present};
    test_ok(ctx, mmf_config_create(ctx, &config, def));
    for (const setting *s = settings; s && s->name; s++)
        test_ok(ctx, mmf_config_set(config, s->name, s->value));
    test_ok(ctx, mmf_module_create(ctx, &module, def, config, &schema, 1));
    mmf_config_free(config);
    return module;
}

/* One row of an output after the other. */
typedef struct output {
    int64_t width;
    double values[MAX_B * MAX_OUT];
} output;

static output run(mmf_ctx *ctx, mmf_module *module, features *f, const char *name)
{
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    const mmf_step step = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    for (int64_t m = 0; m < f->m; m++) {
        const int64_t shape[] = {f->b, f->width[m]};
        mmf_named_put(tape, &in, names[m], mmf_input(tape, f->values[m], 2, shape));
        if (f->has_present)
            mmf_named_putf(tape, &in, mmf_input(tape, f->present[m], 1, shape), "%s.present",
                           names[m]);
    }
    mmf_module_run(module, tape, &in, &step, &out);
    const mmf_tensor *const y = mmf_named_get(&out, name);
    test_ok(ctx, mmf_tape_status(tape));
    assert_non_null(y);
    assert_true(y->count <= MAX_B * MAX_OUT);
    output o = {.width = y->count / f->b};
    for (int64_t i = 0; i < y->count; i++)
        o.values[i] = y->is_int ? (double)y->ints[i] : (double)y->data[i];
    mmf_tape_free(tape);
    return o;
}

static output once(mmf_ctx *ctx, const char *name, features *f, const setting *settings,
                   const char *wanted)
{
    mmf_module *const module = make(ctx, name, f, settings);
    const output o = run(ctx, module, f, wanted);
    mmf_module_free(module);
    return o;
}

static void assert_near(const output *found, const double *wanted, int64_t n, double tolerance)
{
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs(found->values[i] - wanted[i]) <= tolerance * fmax(1, fabs(wanted[i]))))
            fail_msg("element %lld is %.9g, expected %.9g", (long long)i, found->values[i],
                     wanted[i]);
    }
}

static mmf_tensor *parameter(mmf_module *module, const char *name)
{
    const mmf_param *const p = mmf_params_find(mmf_module_params(module), name);
    if (!p)
        fail_msg("there is no parameter %s", name);
    return p ? p->tensor : NULL;
}

/* c sin(0.7 (i + 1) + s): the fill that the published numbers were made with. */
static void fill(mmf_real *out, int64_t n, double s)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (mmf_real)(0.5 * sin(0.7 * (double)(i + 1) + s));
}

static features random_features(int64_t m, int64_t b, int64_t width, uint64_t seed)
{
    features f = {.m = m, .b = b};
    mmf_rng rng = mmf_rng_make(seed, 0);
    for (int64_t i = 0; i < m; i++) {
        f.width[i] = width;
        for (int64_t e = 0; e < b * width; e++)
            f.values[i][e] = (mmf_real)mmf_rng_normal(&rng);
        for (int64_t r = 0; r < b; r++)
            f.present[i][r] = 1;
    }
    return f;
}

/* Rows that sum to 1. */
static features random_probabilities(int64_t m, int64_t b, int64_t width, uint64_t seed)
{
    features f = random_features(m, b, width, seed);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t r = 0; r < b; r++) {
            mmf_real *const row = f.values[i] + r * width, sum = 0;
            for (int64_t k = 0; k < width; k++)
                sum += row[k] = (mmf_real)exp((double)row[k]);
            for (int64_t k = 0; k < width; k++)
                row[k] /= sum;
        }
    }
    return f;
}

static int64_t largest(const double *row, int64_t n)
{
    int64_t best = 0;
    for (int64_t k = 1; k < n; k++)
        best = row[k] > row[best] ? k : best;
    return best;
}

/* ---- Late rules -------------------------------------------------------------------------- */

static const char *const rules[] = {"mean", "weighted", "learned",  "soft-vote",
                                    "max",  "product",  "stacking", "vote"};

enum { N_RULES = sizeof rules / sizeof *rules };

static void rules_give_the_published_numbers(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = {.m = 2, .b = 1, .width = {3, 3}, .values = {{.6f, .3f, .1f}, {.2f, .5f, .3f}}};
    const setting product[] = {{"rule", "product"}, {0}}, maximum[] = {{"rule", "max"}, {0}};
    const setting weighted[] = {{"rule", "weighted"}, {"weights", "3,1"}, {0}};
    const setting mean[] = {{"rule", "mean"}, {0}};
    const output a = once(ctx, "late", &f, product, "output");
    assert_near(&a, (double[]){.4, .5, .1}, 3, 1e-6);
    const output b = once(ctx, "late", &f, maximum, "output");
    assert_near(&b, (double[]){.428571, .357143, .214286}, 3, 1e-6);
    const output c = once(ctx, "late", &f, weighted, "output");
    assert_near(&c, (double[]){.5, .35, .15}, 3, 1e-6);
    const output d = once(ctx, "late", &f, mean, "output");
    assert_near(&d, (double[]){.4, .4, .2}, 3, 1e-6);
    const output e = once(ctx, "late", &f, product, "label");
    assert_true(e.values[0] == 1);
    mmf_ctx_free(ctx);
}

/* A zero vetoes a class in the product, and does not make anything infinite. */
static void a_zero_vetoes_in_the_product(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const setting product[] = {{"rule", "product"}, {0}};
    features f = {.m = 2, .b = 1, .width = {3, 3}, .values = {{1, 0, 0}, {.2f, .5f, .3f}}};
    const output o = once(ctx, "late", &f, product, "output");
    assert_near(&o, (double[]){1, 0, 0}, 3, 1e-6);
    f.values[1][0] = 0;
    f.values[1][1] = 1;
    f.values[1][2] = 0;
    const output both = once(ctx, "late", &f, product, "output");
    assert_near(&both, (double[]){.5, .5, 0}, 3, 1e-6);
    mmf_ctx_free(ctx);
}

static void one_modality_is_the_identity(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t r = 0; r < N_RULES; r++) {
        features f = random_probabilities(1, MAX_B, 3, r + 1);
        const setting settings[] = {{"rule", rules[r]}, {0}};
        mmf_module *const module = make(ctx, "late", &f, settings);
        if (strcmp(rules[r], "stacking") == 0) { /* its layer as the identity on scores */
            memset(parameter(module, "stack.weight")->data, 0, 9 * sizeof(mmf_real));
            memset(parameter(module, "stack.bias")->data, 0, 3 * sizeof(mmf_real));
            for (int k = 0; k < 3; k++)
                parameter(module, "stack.weight")->data[4 * k] = 1;
        }
        const char *const wanted = strcmp(rules[r], "stacking") == 0 ? "logits" : "fused";
        const output o = run(ctx, module, &f, wanted);
        for (int64_t i = 0; i < MAX_B; i++) {
            double row[3];
            for (int k = 0; k < 3; k++)
                row[k] = (double)f.values[0][3 * i + k];
            const int64_t best = largest(row, 3);
            for (int k = 0; k < 3 && strcmp(rules[r], "vote") == 0; k++)
                row[k] = k == best;
            for (int k = 0; k < 3; k++)
                assert_true(fabs(o.values[3 * i + k] - row[k]) < 1e-6);
        }
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

/* The order of the modalities does not count as long as weights move with them. */
static void modalities_may_be_permuted(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t r = 0; r < N_RULES; r++) {
        features f = random_probabilities(3, MAX_B, 4, 10 + r), g = f;
        const bool given = strcmp(rules[r], "weighted") == 0 || strcmp(rules[r], "soft-vote") == 0;
        const setting one[] = {{"rule", rules[r]}, {given ? "weights" : NULL, "5,2,1"}, {0}};
        const setting two[] = {{"rule", rules[r]}, {given ? "weights" : NULL, "1,5,2"}, {0}};
        for (int m = 0; m < 3; m++)
            memcpy(g.values[(m + 1) % 3], f.values[m], sizeof f.values[m]);
        mmf_module *const a = make(ctx, "late", &f, one), *const b = make(ctx, "late", &g, two);
        if (strcmp(rules[r], "learned") == 0) {
            fill(parameter(a, "alpha")->data, 3, 0.4);
            for (int m = 0; m < 3; m++)
                parameter(b, "alpha")->data[(m + 1) % 3] = parameter(a, "alpha")->data[m];
        }
        for (int64_t o = 0; strcmp(rules[r], "stacking") == 0 && o < 4; o++) {
            const mmf_real *const from = parameter(a, "stack.weight")->data + 12 * o;
            for (int m = 0; m < 3; m++)
                memcpy(parameter(b, "stack.weight")->data + 12 * o + 4 * ((m + 1) % 3),
                       from + 4 * m, 4 * sizeof(mmf_real));
            parameter(b, "stack.bias")->data[o] = parameter(a, "stack.bias")->data[o];
        }
        const output x = run(ctx, a, &f, "fused"), y = run(ctx, b, &g, "fused");
        assert_near(&y, x.values, MAX_B * 4, 1e-6);
        mmf_module_free(a);
        mmf_module_free(b);
    }
    mmf_ctx_free(ctx);
}

static void equal_predictors_agree(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t r = 0; r < N_RULES; r++) {
        features f = random_probabilities(3, MAX_B, 4, 30 + r);
        const setting settings[] = {{"rule", rules[r]}, {0}};
        if (strcmp(rules[r], "stacking") == 0) /* learns what it wants from them */
            continue;
        memcpy(f.values[1], f.values[0], sizeof f.values[0]);
        memcpy(f.values[2], f.values[0], sizeof f.values[0]);
        const output o = once(ctx, "late", &f, settings, "fused");
        for (int64_t i = 0; i < MAX_B; i++) {
            double row[4];
            for (int k = 0; k < 4; k++)
                row[k] = (double)f.values[0][4 * i + k];
            assert_int_equal(largest(o.values + 4 * i, 4), largest(row, 4));
        }
    }
    mmf_ctx_free(ctx);
}

static void a_soft_vote_of_one_hot_rows_is_a_hard_vote(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const setting soft[] = {{"rule", "soft-vote"}, {0}}, hard[] = {{"rule", "vote"}, {0}};
    features f = random_probabilities(3, MAX_B, 4, 50);
    for (int m = 0; m < 3; m++) {
        for (int64_t i = 0; i < MAX_B; i++) {
            for (int k = 0; k < 4; k++)
                f.values[m][4 * i + k] = k == (m == 0 ? (i + 1) % 4 : i % 4);
        }
    }
    const output a = once(ctx, "late", &f, soft, "label"),
                 b = once(ctx, "late", &f, hard, "output");
    const output counts = once(ctx, "late", &f, hard, "count");
    for (int64_t i = 0; i < MAX_B; i++) {
        assert_true(a.values[i] == b.values[i] && a.values[i] == (double)(i % 4));
        assert_true(counts.values[4 * i + i % 4] == 2);
    }
    mmf_ctx_free(ctx);
}

static void ties_go_where_the_option_says(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const setting lowest[] = {{"rule", "vote"}, {"tie", "lowest"}, {0}};
    const setting summed[] = {{"rule", "vote"}, {"tie", "probability"}, {0}};
    features f = {.m = 2, .b = 1, .width = {3, 3}, .values = {{.4f, .3f, .3f}, {0, .1f, .9f}}};
    const output a = once(ctx, "late", &f, lowest, "output");
    const output b = once(ctx, "late", &f, summed, "output");
    assert_true(a.values[0] == 0 && b.values[0] == 2);
    mmf_ctx_free(ctx);
}

/* With one of two absent every rule falls back on the other; its values are not read. */
static void rules_leave_the_absent_out(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t r = 0; r < N_RULES; r++) {
        features f = random_probabilities(2, MAX_B, 3, 70 + r);
        const setting settings[] = {{"rule", rules[r]}, {0}};
        if (strcmp(rules[r], "stacking") == 0) /* zeros stand in */
            continue;
        f.has_present = true;
        for (int64_t i = 0; i < MAX_B; i++)
            f.present[1][i] = 0;
        features alone = f;
        alone.m = 1;
        alone.has_present = false;
        const output o = once(ctx, "late", &f, settings, "fused");
        const output wanted = once(ctx, "late", &alone, settings, "fused");
        assert_near(&o, wanted.values, MAX_B * 3, 1e-5);
    }
    mmf_ctx_free(ctx);
}

static void rules_refuse_what_they_cannot_do(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const mmf_def *const def = find("late");
    mmf_input_schema inputs[] = {{.name = "p", .n_dims = 1, .shape = {3}},
                                 {.name = "q", .n_dims = 1, .shape = {3}}};
    const mmf_schema schema = {2, inputs};
    static const struct {
        setting settings[2];
        mmf_status status;
        const char *piece;
    } rows[] = {
        {{{"rule", "vote"}, {"task", "regression"}}, MMF_UNSUPPORTED, "for regression use mean"},
        {{{"rule", "max"}, {"task", "multilabel"}}, MMF_UNSUPPORTED, "for multilabel use mean"},
        {{{"rule", "weighted"}, {"weights", "1,2,3"}}, MMF_ARG, "3 weights for 2 modalities"},
        {{{"rule", "weighted"}, {"weights", "0,0"}}, MMF_ARG, "sum to 0"},
        {{{"rule", "mean"}, {"modalities", "p,x"}}, MMF_ARG, "no input \"x\""},
        {{{"rule", "mean"}, {"modalities", "p,q,p"}}, MMF_ARG, "3 of 2"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mmf_config *config = NULL;
        mmf_module *module = NULL;
        test_ok(ctx, mmf_config_create(ctx, &config, def));
        for (int s = 0; s < 2; s++)
            test_ok(ctx,
                    mmf_config_set(config, rows[i].settings[s].name, rows[i].settings[s].value));
        test_fails(ctx, mmf_module_create(ctx, &module, def, config, &schema, 0), rows[i].status,
                   rows[i].piece);
        mmf_config_free(config);
    }
    mmf_ctx_free(ctx);
}

/* ---- Weighted sums ----------------------------------------------------------------------- */

static void softmax_weights_give_the_published_numbers(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const setting settings[] = {{"weighting", "softmax"}, {"normalise", "false"}, {0}};
    features f = {.m = 2, .b = 1, .width = {3, 3}};
    mmf_real rows[6];
    fill(rows, 6, 0.1);
    memcpy(f.values[0], rows, 3 * sizeof *rows);
    memcpy(f.values[1], rows + 3, 3 * sizeof *rows);
    mmf_module *const module = make(ctx, "weighted-sum", &f, settings);
    parameter(module, "alpha")->data[0] = (mmf_real)0.2;
    parameter(module, "alpha")->data[1] = (mmf_real)-0.4;
    const output o = run(ctx, module, &f, "fused");
    assert_near(&o, (double[]){0.273970987, 0.243617300, 0.098686590}, 3, 1e-6);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Every kind of weights starts as the mean; a weight a dimension that does not vary is a scalar. */
static void all_weightings_start_as_the_mean(void **state)
{
    (void)state;
    static const char *const kinds[] = {"fixed", "scalar", "softmax", "dimension",
                                        "dimension-softmax"};
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(3, MAX_B, 5, 3);
    double mean[MAX_B * 5];
    for (int64_t i = 0; i < MAX_B * 5; i++)
        mean[i] = ((double)f.values[0][i] + (double)f.values[1][i] + (double)f.values[2][i]) / 3;
    for (size_t k = 0; k < 5; k++) {
        const setting settings[] = {{"weighting", kinds[k]}, {"normalise", "false"}, {0}};
        for (int present = 0; present < 2; present++) {
            f.has_present = present;
            const output o = once(ctx, "weighted-sum", &f, settings, "fused");
            assert_near(&o, mean, MAX_B * 5, 1e-5);
        }
    }
    f.has_present = false;
    const setting scalar[] = {{"weighting", "scalar"}, {"normalise", "false"}, {0}};
    const setting wide[] = {{"weighting", "dimension"}, {"normalise", "false"}, {0}};
    mmf_module *const a = make(ctx, "weighted-sum", &f, scalar);
    mmf_module *const b = make(ctx, "weighted-sum", &f, wide);
    for (int m = 0; m < 3; m++) {
        parameter(a, "weights")->data[m] = (mmf_real)(0.3 * m - 0.2);
        for (int d = 0; d < 5; d++)
            parameter(b, "weights")->data[5 * m + d] = (mmf_real)(0.3 * m - 0.2);
    }
    const output x = run(ctx, a, &f, "fused"), y = run(ctx, b, &f, "fused");
    assert_near(&y, x.values, MAX_B * 5, 1e-5);
    mmf_module_free(a);
    mmf_module_free(b);
    mmf_ctx_free(ctx);
}

/* The weights of absent modalities move to the others. */
static void weights_of_the_absent_move_on(void **state)
{
    (void)state;
    static const char *const kinds[] = {"scalar", "softmax", "dimension", "dimension-softmax"};
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(3, MAX_B, 4, 9);
    f.has_present = true;
    for (int64_t i = 0; i < MAX_B; i++)
        f.present[1][i] = 0;
    double mean[MAX_B * 4];
    for (int64_t i = 0; i < MAX_B * 4; i++)
        mean[i] = ((double)f.values[0][i] + (double)f.values[2][i]) / 2;
    for (size_t k = 0; k < 4; k++) {
        const setting settings[] = {{"weighting", kinds[k]}, {"normalise", "false"}, {0}};
        const output o = once(ctx, "weighted-sum", &f, settings, "fused");
        assert_near(&o, mean, MAX_B * 4, 1e-5);
    }
    mmf_ctx_free(ctx);
}

/* ---- Tensor and low-rank fusion ---------------------------------------------------------- */

static features published(void)
{
    return (features){.m = 3, .b = 1, .width = {2, 1, 2}, .values = {{.5f, -1}, {2}, {3, .25f}}};
}

static void the_outer_product_is_the_published_one(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = published();
    const output o = once(ctx, "tensor", &f, NULL, "fused");
    assert_int_equal(o.width, 18);
    assert_near(
        &o, (double[]){1, 3, .25, 2, 6, .5, .5, 1.5, .125, 1, 3, .25, -1, -3, -.25, -2, -6, -.5},
        18, 1e-6);
    mmf_ctx_free(ctx);
}

static void the_outer_product_sums_to_the_product_of_sums(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(3, MAX_B, 3, 17);
    const output o = once(ctx, "tensor", &f, NULL, "fused");
    assert_int_equal(o.width, 64);
    for (int64_t i = 0; i < MAX_B; i++) {
        double sum = 0, product = 1;
        for (int64_t e = 0; e < o.width; e++)
            sum += o.values[i * o.width + e];
        for (int m = 0; m < 3; m++) {
            double own = 1;
            for (int d = 0; d < 3; d++)
                own += (double)f.values[m][3 * i + d];
            product *= own;
        }
        assert_true(fabs(sum - product) < 1e-4 * fmax(1, fabs(product)));
    }
    mmf_ctx_free(ctx);
}

/* z = 0 of all others leaves [1; z_m] in its own place and zeros elsewhere. */
static void zeros_leave_the_unimodal_block(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const int64_t strides[] = {16, 4, 1};
    for (int m = 0; m < 3; m++) {
        features f = random_features(3, 1, 3, 18);
        for (int other = 0; other < 3; other++) {
            for (int d = 0; d < 3 && other != m; d++)
                f.values[other][d] = 0;
        }
        double wanted[64] = {1};
        for (int d = 0; d < 3; d++)
            wanted[(d + 1) * strides[m]] = (double)f.values[m][d];
        const output o = once(ctx, "tensor", &f, NULL, "fused");
        assert_near(&o, wanted, 64, 0);
        f.has_present = true; /* absence is the same as zeros */
        for (int other = 0; other < 3; other++) {
            f.present[other][0] = other == m;
            for (int d = 0; d < 3 && other != m; d++)
                f.values[other][d] = 5;
        }
        const output absent = once(ctx, "tensor", &f, NULL, "fused");
        assert_near(&absent, wanted, 64, 0);
    }
    mmf_ctx_free(ctx);
}

static const setting low_rank[] = {{"rank", "3"}, {"output", "2"}, {0}};

static void low_rank_fusion_gives_the_published_numbers(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = published();
    mmf_module *const module = make(ctx, "low-rank", &f, low_rank);
    static const char *const tensors[] = {"p_factor", "q_factor", "r_factor", "fusion_weights",
                                          "fusion_bias"};
    for (int i = 0; i < 5; i++)
        fill(parameter(module, tensors[i])->data, parameter(module, tensors[i])->count, i + 1);
    const output o = run(ctx, module, &f, "fused");
    assert_near(&o, (double[]){-0.737328764250610, -0.333781703554879}, 2, 1e-6);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* y = vec(Z) W' + beta with W[c, ijk] = sum_r w_r A[r,i,c] V[r,j,c] T[r,k,c]: a tensor fusion with
 * a linear head is low-rank fusion. */
static void low_rank_fusion_is_a_tensor_fusion_with_a_cp_weight(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(3, MAX_B, 3, 23);
    mmf_module *const module = make(ctx, "low-rank", &f, low_rank);
    const mmf_real *const a = parameter(module, "p_factor")->data;
    const mmf_real *const v = parameter(module, "q_factor")->data;
    const mmf_real *const t = parameter(module, "r_factor")->data;
    const mmf_real *const w = parameter(module, "fusion_weights")->data;
    parameter(module, "fusion_bias")->data[1] = 1;
    const output y = run(ctx, module, &f, "fused");
    const output z = once(ctx, "tensor", &f, NULL, "fused");
    for (int64_t b = 0; b < MAX_B; b++) {
        for (int64_t c = 0; c < 2; c++) {
            double sum = c == 1 ? 1 : 0;
            for (int64_t e = 0; e < 64; e++) {
                const int64_t i = e / 16, j = e / 4 % 4, k = e % 4;
                double weight = 0;
                for (int64_t r = 0; r < 3; r++)
                    weight += (double)w[r] * (double)a[(4 * r + i) * 2 + c] *
                              (double)v[(4 * r + j) * 2 + c] * (double)t[(4 * r + k) * 2 + c];
                sum += weight * z.values[64 * b + e];
            }
            assert_true(fabs(y.values[2 * b + c] - sum) < 1e-5 * fmax(1, fabs(sum)));
        }
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Rank 1, ones everywhere: the product of (1 + sum z_m); two factors (1, 0, ..): linear in z_3. */
static void low_rank_fusion_at_its_limits(void **state)
{
    (void)state;
    const setting one[] = {{"rank", "1"}, {"output", "1"}, {0}};
    mmf_ctx *const ctx = test_ctx();
    features f = random_features(3, MAX_B, 3, 29);
    mmf_module *const module = make(ctx, "low-rank", &f, one);
    static const char *const factors[] = {"p_factor", "q_factor", "r_factor"};
    for (int m = 0; m < 3; m++) {
        for (int i = 0; i < 4; i++)
            parameter(module, factors[m])->data[i] = 1;
    }
    parameter(module, "fusion_weights")->data[0] = 1;
    const output y = run(ctx, module, &f, "fused");
    for (int m = 0; m < 2; m++) {
        for (int i = 1; i < 4; i++)
            parameter(module, factors[m])->data[i] = 0;
    }
    const output linear = run(ctx, module, &f, "fused");
    for (int64_t b = 0; b < MAX_B; b++) {
        double product = 1, own = 1;
        for (int m = 0; m < 3; m++) {
            own = 1;
            for (int d = 0; d < 3; d++)
                own += (double)f.values[m][3 * b + d];
            product *= own;
        }
        assert_true(fabs(y.values[b] - product) < 1e-5 * fmax(1, fabs(product)));
        assert_true(fabs(linear.values[b] - own) < 1e-5);
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void concatenation_keeps_the_order(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    features f = published();
    const output o = once(ctx, "concat", &f, NULL, "fused");
    assert_near(&o, (double[]){.5, -1, 2, 3, .25}, 5, 0);
    mmf_ctx_free(ctx);
}

static void a_product_that_cannot_fit_is_refused(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_input_schema inputs[] = {{.name = "p", .n_dims = 1, .shape = {4095}},
                                 {.name = "q", .n_dims = 1, .shape = {4095}},
                                 {.name = "r", .n_dims = 1, .shape = {1}}};
    mmf_schema schema = {2, inputs};
    mmf_module *module = NULL;
    test_ok(ctx, mmf_module_create(ctx, &module, find("tensor"), NULL, &schema, 0)); /* 2^24 */
    assert_int_equal(mmf_module_width(module), 1 << 24);
    mmf_module_free(module);
    schema.count = 3;
    test_fails(ctx, mmf_module_create(ctx, &module, find("tensor"), NULL, &schema, 0), MMF_LIMIT,
               "33554432");
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_give_the_published_numbers),
        cmocka_unit_test(a_zero_vetoes_in_the_product),
        cmocka_unit_test(one_modality_is_the_identity),
        cmocka_unit_test(modalities_may_be_permuted),
        cmocka_unit_test(equal_predictors_agree),
        cmocka_unit_test(a_soft_vote_of_one_hot_rows_is_a_hard_vote),
        cmocka_unit_test(ties_go_where_the_option_says),
        cmocka_unit_test(rules_leave_the_absent_out),
        cmocka_unit_test(rules_refuse_what_they_cannot_do),
        cmocka_unit_test(softmax_weights_give_the_published_numbers),
        cmocka_unit_test(all_weightings_start_as_the_mean),
        cmocka_unit_test(weights_of_the_absent_move_on),
        cmocka_unit_test(the_outer_product_is_the_published_one),
        cmocka_unit_test(the_outer_product_sums_to_the_product_of_sums),
        cmocka_unit_test(zeros_leave_the_unimodal_block),
        cmocka_unit_test(low_rank_fusion_gives_the_published_numbers),
        cmocka_unit_test(low_rank_fusion_is_a_tensor_fusion_with_a_cp_weight),
        cmocka_unit_test(low_rank_fusion_at_its_limits),
        cmocka_unit_test(concatenation_keeps_the_order),
        cmocka_unit_test(a_product_that_cannot_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
