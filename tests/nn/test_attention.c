/*
 * test_attention.c: attention and the layers made of it, by the properties that define them: masks,
 * order, what is shared, published numbers.
 */
#include <math.h>
#include <stdlib.h>

#include "mmfuse/model.h"
#include "support.h"

enum { MAX_INPUTS = 3, MAX_OUT = 512 };

#define SAME 1e-5

typedef struct input {
    const char *name;
    int64_t rows, steps, width;
    const int64_t *length; /* NULL: all */
    mmf_real values[256];
} input;

typedef struct output {
    int64_t count;
    mmf_real values[MAX_OUT];
} output;

static input random_input(const char *name, int64_t rows, int64_t steps, int64_t width)
{
    input in = {.name = name, .rows = rows, .steps = steps, .width = width};
    mmf_rng rng = mmf_rng_make(3, mmf_rng_stream(name));
    assert_true(rows * steps * width <= 256);
    for (int64_t i = 0; i < rows * steps * width; i++)
        in.values[i] = (mmf_real)mmf_rng_normal(&rng);
    return in;
}

static mmf_module *make(mmf_ctx *ctx, const char *layer, const char *json, const input *in,
                        size_t count)
{
    mmf_input_schema inputs[MAX_INPUTS] = {{0}};
    const mmf_schema schema = {count, inputs};
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    for (size_t i = 0; i < count; i++)
        inputs[i] = (mmf_input_schema){.name = in[i].name,
                                       .kind = MMF_SEQUENCE,
                                       .n_dims = 2,
                                       .shape = {in[i].steps, in[i].width},
                                       .has_length = in[i].length != NULL};
    test_ok(ctx, mmf_config_create(ctx, &config, mmf_definition_find(layer)));
    test_ok(ctx, mmf_config_set_json(config, json));
    test_ok(ctx, mmf_module_create(ctx, &module, mmf_config_def(config), config, &schema, 5));
    mmf_config_free(config);
    return module;
}

static output run(mmf_ctx *ctx, mmf_module *module, input *in, size_t count, const char *name)
{
    mmf_tape *tape = NULL;
    mmf_named given = {0}, out = {0};
    const mmf_step step = {0};
    output o = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    for (size_t i = 0; i < count; i++) {
        const int64_t shape[] = {in[i].rows, in[i].steps, in[i].width};
        mmf_named_put(tape, &given, in[i].name, mmf_input(tape, in[i].values, 3, shape));
        if (in[i].length)
            mmf_named_putf(tape, &given,
                           mmf_input_ints(tape, (int64_t *)(uintptr_t)in[i].length, 1, shape),
                           "%s.length", in[i].name);
    }
    mmf_module_run(module, tape, &given, &step, &out);
    test_ok(ctx, mmf_tape_status(tape));
    const mmf_tensor *const y = mmf_named_get(&out, name);
    assert_non_null(y);
    o.count = y->count;
    assert_true(o.count <= MAX_OUT);
    memcpy(o.values, y->data, (size_t)o.count * sizeof *y->data);
    mmf_tape_free(tape);
    return o;
}

static bool same(const mmf_real *a, const mmf_real *b, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (!(fabs((double)a[i] - (double)b[i]) <= SAME))
            return false;
    }
    return true;
}

static void swap_steps(input *in, int64_t row, int64_t a, int64_t b)
{
    mmf_real *const x = in->values + row * in->steps * in->width;
    for (int64_t d = 0; d < in->width; d++) {
        const mmf_real kept = x[a * in->width + d];
        x[a * in->width + d] = x[b * in->width + d];
        x[b * in->width + d] = kept;
    }
}

/* Zero-initialised heads say nothing: draw everything anew. */
static void draw(mmf_module *module)
{
    mmf_params *const params = mmf_module_params(module);
    mmf_rng rng = mmf_rng_make(9, 1);
    for (int64_t i = 0; i < mmf_params_size(params); i++)
        mmf_params_values(params)[i] = (mmf_real)(0.3 * mmf_rng_normal(&rng));
}

/* ---- Attention --------------------------------------------------------------------------- */

static void a_causal_layer_does_not_look_ahead(void **state)
{
    (void)state;
    static const char *const configs[] = {
        "{\"num_heads\": 2, \"causal\": true}",
        "{\"block\": \"encoder-layer\", \"nhead\": 2, \"dim_feedforward\": 5, \"causal\": true}",
    };
    mmf_ctx *const ctx = test_ctx();
    for (size_t c = 0; c < 2; c++) {
        input x = random_input("x", 1, 5, 4);
        mmf_module *const module = make(ctx, "attention", configs[c], &x, 1);
        const output before = run(ctx, module, &x, 1, "output");
        for (int64_t i = 3 * 4; i < 5 * 4; i++)
            x.values[i] += 2;
        const output after = run(ctx, module, &x, 1, "output");
        assert_true(same(before.values, after.values, 3 * 4));
        for (int64_t t = 3; t < 5; t++)
            assert_false(same(before.values + t * 4, after.values + t * 4, 4));
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

static void order_of_keys_does_not_matter_and_that_of_queries_carries_over(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    input in[] = {random_input("query", 1, 3, 4), random_input("key", 1, 5, 6)};
    mmf_module *const module = make(ctx, "attention", "{\"num_heads\": 2}", in, 2);
    const output before = run(ctx, module, in, 2, "output");
    swap_steps(&in[1], 0, 0, 3);
    const output keys = run(ctx, module, in, 2, "output");
    assert_true(same(before.values, keys.values, before.count));
    swap_steps(&in[0], 0, 0, 2);
    const output queries = run(ctx, module, in, 2, "output");
    assert_true(same(before.values, queries.values + 2 * 4, 4));
    assert_true(same(before.values + 2 * 4, queries.values, 4));
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Rows of 2 and 5 valid keys, and one of none: that one keeps the bias of the last projection. */
static void masked_keys_are_as_if_they_were_not_there(void **state)
{
    (void)state;
    static const int64_t length[] = {2, 5, 0}, two = 2;
    mmf_ctx *const ctx = test_ctx();
    input in[] = {random_input("query", 3, 3, 4), random_input("key", 3, 5, 6)};
    in[1].length = length;
    mmf_module *const module = make(ctx, "attention", "{\"num_heads\": 2}", in, 2);
    mmf_tensor *const bias = mmf_params_find(mmf_module_params(module), "out_proj.bias")->tensor;
    for (int64_t i = 0; i < 4; i++)
        bias->data[i] = (mmf_real)(i + 1);
    const output whole = run(ctx, module, in, 2, "output");
    const output weights = run(ctx, module, in, 2, "attention"); /* (3, 2, 3, 5) */
    for (int64_t row = 0; row < 18; row++) {
        double sum = 0;
        for (int64_t k = 0; k < 5; k++)
            sum += (double)weights.values[row * 5 + k];
        assert_true(fabs(sum - (row < 12 ? 1 : 0)) < 1e-6);
    }
    for (int64_t q = 0; q < 3; q++)
        assert_true(same(whole.values + (2 * 3 + q) * 4, bias->data, 4));
    input few[] = {in[0], in[1]};
    few[0].rows = few[1].rows = 1;
    few[1].length = &two;
    for (int64_t i = 2 * 6; i < 5 * 6; i++)
        few[1].values[i] = 1000;
    const output cut = run(ctx, module, few, 2, "output");
    assert_true(same(whole.values, cut.values, 3 * 4));
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void wrong_widths_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json, *message;
    } rows[] = {{"{\"num_heads\": 3}", "not a multiple of 3 heads"},
                {"{\"embed_dim\": 5}", "embed_dim is 5"},
                {"{\"kdim\": 7}", "kdim is 7"}};
    mmf_ctx *const ctx = test_ctx();
    mmf_input_schema in = {.name = "x", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {3, 4}};
    const mmf_schema schema = {1, &in};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mmf_config *config = NULL;
        mmf_module *module = NULL;
        test_ok(ctx, mmf_config_create(ctx, &config, mmf_definition_find("attention")));
        test_ok(ctx, mmf_config_set_json(config, rows[i].json));
        const mmf_status status =
            mmf_module_create(ctx, &module, mmf_config_def(config), config, &schema, 1);
        test_fails(ctx, status, i == 0 ? MMF_ARG : MMF_SHAPE, rows[i].message);
        mmf_config_free(config);
    }
    mmf_ctx_free(ctx);
}

/* ---- Layers over tokens ------------------------------------------------------------------ */

#define MBT "\"hidden\": 4, \"heads\": 2, \"layers\": 2, \"bottlenecks\": 2, \"classes\": 3, "

static void bottlenecks_are_the_only_way_between_modalities(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        bool meets;
    } rows[] = {{"{" MBT "\"fusion_layer\": 2}", false},
                {"{" MBT "\"bottleneck_tokens\": 1, \"fusion_layer\": 1}", false},
                {"{" MBT "\"fusion_layer\": 0}", true}};
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < 3; i++) {
        input in[] = {random_input("a", 1, 3, 4), random_input("b", 1, 2, 4)};
        mmf_module *const module = make(ctx, "mbt", rows[i].json, in, 2);
        draw(module);
        const output before = run(ctx, module, in, 2, "logit.a");
        in[1].values[0] += 1;
        const output after = run(ctx, module, in, 2, "logit.a");
        /* Only what one block writes into the bottleneck, a later one can read. */
        assert_int_equal(same(before.values, after.values, 3), !rows[i].meets);
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

static void order_of_modalities_does_not_matter_to_a_bottleneck(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    static const char *const configs[] = {
        "{" MBT "\"fusion_layer\": 0, \"modalities\": [\"a\", \"b\"]}",
        "{" MBT "\"fusion_layer\": 0, \"modalities\": [\"b\", \"a\"]}"};
    input in[] = {random_input("a", 1, 3, 4), random_input("b", 1, 2, 4)};
    output o[2];
    for (size_t i = 0; i < 2; i++) {
        mmf_module *const module = make(ctx, "mbt", configs[i], in, 2);
        mmf_params *const params = mmf_module_params(module);
        for (size_t p = 0; p < mmf_params_count(params); p++) {
            const mmf_param *const param = mmf_params_at(params, p);
            mmf_rng rng = mmf_rng_make(9, mmf_rng_stream(param->name));
            for (int64_t e = 0; e < param->tensor->count; e++)
                param->tensor->data[e] = (mmf_real)(0.3 * mmf_rng_normal(&rng));
        }
        o[i] = run(ctx, module, in, 2, "logit");
        mmf_module_free(module);
    }
    assert_true(same(o[0].values, o[1].values, 3));
    mmf_ctx_free(ctx);
}

static void a_perceiver_reads_a_set_of_valid_tokens(void **state)
{
    (void)state;
    static const int64_t length = 2;
    mmf_ctx *const ctx = test_ctx();
    const char *const json = "{\"dim\": 4, \"latents\": 3, \"latent_dim\": 4, \"depth\": 1, "
                             "\"cross_dim_head\": 2, \"latent_heads\": 2, \"latent_dim_head\": 2, "
                             "\"queries_dim\": 4, \"classes\": 3}";
    input in[] = {random_input("a", 1, 3, 4), random_input("b", 1, 4, 4)};
    mmf_module *const module = make(ctx, "perceiver", json, in, 2);
    draw(module);
    const output before = run(ctx, module, in, 2, "logit");
    swap_steps(&in[0], 0, 0, 2);
    const output swapped = run(ctx, module, in, 2, "logit");
    assert_true(same(before.values, swapped.values, 3));
    in[1].length = &length;
    const output masked = run(ctx, module, in, 2, "logit");
    assert_false(same(before.values, masked.values, 3));
    in[1].length = NULL;
    in[1].steps = 2;
    const output deleted = run(ctx, module, in, 2, "logit");
    assert_true(same(masked.values, deleted.values, 3));
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* ---- Operations -------------------------------------------------------------------------- */

static void tables_and_masks_hold_what_they_say(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    const mmf_tensor *const table = mmf_sinusoid(tape, 2, 5, 1);
    const double wanted[] = {sin(1.0), sin(1e-4), cos(1.0), cos(1e-4), 0};
    for (int64_t i = 0; i < 5; i++)
        assert_true(fabs((double)table->data[i] - wanted[i]) < 1e-6);
    assert_true(fabs((double)table->data[5] - sin(2.0)) < 1e-6);
    const mmf_tensor *const mask = mmf_causal_mask(tape, 2, 4, 2);
    assert_memory_equal(mask->data, ((mmf_real[]){1, 1, 1, 0, 1, 1, 1, 1}), 8 * sizeof(mmf_real));
    int64_t tokens[] = {3, 0, 1, 0};
    const mmf_tensor *const words =
        mmf_token_mask(tape, mmf_input_ints(tape, tokens, 2, (int64_t[]){2, 2}), 0);
    assert_memory_equal(words->data, ((mmf_real[]){1, 0, 1, 0}), 4 * sizeof(mmf_real));
    mmf_real scores[] = {1, 5, 5, 2, 7, 0, 0, 0};
    const mmf_tensor *const top =
        mmf_top_rows(tape, mmf_input(tape, scores, 2, (int64_t[]){2, 4}), 3);
    assert_memory_equal(top->ints, ((int64_t[]){1, 2, 3, 4, 5, 6}), 6 * sizeof(int64_t));
    test_ok(ctx, mmf_tape_status(tape));
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* A row of 1, 2, 3, 4, and a constant one, whose deviation has no gradient. */
static void deviation_norm_gives_the_published_numbers(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = true});
    mmf_real rows[] = {1, 2, 3, 4, 6, 6, 6, 6}, ones[] = {1, 1, 1, 1}, zeros[4] = {0};
    const int64_t width = 4;
    mmf_tensor *const x = mmf_variable(tape, rows, 2, (int64_t[]){2, 4});
    mmf_tensor *const y = mmf_deviation_norm(tape, x, mmf_input(tape, ones, 1, &width),
                                             mmf_input(tape, zeros, 1, &width), 1e-6);
    test_ok(ctx, mmf_tape_status(tape));
    static const double wanted[] = {-1.16189410, -0.38729803, 0.38729803, 1.16189410, 0, 0, 0, 0};
    for (int64_t i = 0; i < 8; i++)
        assert_true(fabs((double)y->data[i] - wanted[i]) < 1e-6);
    mmf_real cotangent[8] = {0, 0, 0, 0, 1, 0, 0, 0};
    test_ok(ctx, mmf_tape_backward_from(tape, y, cotangent));
    assert_true(fabs((double)x->grad[4] / 0.75e6 - 1) < 1e-5);
    assert_true(fabs((double)x->grad[5] / -0.25e6 - 1) < 1e-5);
    mmf_real one = 1;
    const int64_t single = 1;
    mmf_tensor *const narrow = mmf_input(tape, &one, 1, &single);
    assert_null(mmf_deviation_norm(tape, narrow, narrow, narrow, 1e-6));
    test_fails(ctx, mmf_tape_status(tape), MMF_SHAPE, "two features or more");
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* What the mean of equal numbers is rounded by is far larger than eps allows. */
static void a_constant_row_is_zero_though_its_mean_is_rounded(void **state)
{
    (void)state;
    enum { WIDTH = 100 };
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = true});
    mmf_real row[WIDTH], ones[WIDTH], cotangent[WIDTH] = {1};
    for (int i = 0; i < WIDTH; i++) {
        row[i] = (mmf_real)1000.1;
        ones[i] = 1;
    }
    const int64_t width = WIDTH, shape[] = {1, WIDTH};
    mmf_tensor *const x = mmf_variable(tape, row, 2, shape);
    mmf_tensor *const bias = mmf_full(tape, 1, &width, 0);
    mmf_tensor *const y = mmf_deviation_norm(tape, x, mmf_input(tape, ones, 1, &width), bias, 1e-6);
    test_ok(ctx, mmf_tape_backward_from(tape, y, cotangent));
    for (int i = 0; i < WIDTH; i++)
        assert_true(fabs((double)y->data[i]) < 1e-3);
    assert_true(fabs((double)x->grad[0] / (0.99 * 1e6) - 1) < 1e-3);
    assert_true(fabs((double)x->grad[1] / (-0.01 * 1e6) - 1) < 1e-3);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* Steps turn from one to the next: far ones must still be where sine and cosine have them. */
static void far_positions_are_exact(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    const int64_t n_steps = 20000, width = 8, half = 4, first = 7;
    const mmf_tensor *const table = mmf_sinusoid(tape, n_steps, width, first);
    test_ok(ctx, mmf_tape_status(tape));
    for (int64_t t = n_steps - 50; t < n_steps; t++) {
        for (int64_t k = 0; k < half; k++) {
            const double angle =
                (double)(first + t) * exp(-(double)k * log(10000) / (double)(half - 1));
            assert_true(fabs((double)table->data[t * width + k] - sin(angle)) < 1e-6);
            assert_true(fabs((double)table->data[t * width + half + k] - cos(angle)) < 1e-6);
        }
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* A head at a time, where nobody asks for the weights: the same bits, masked rows included. */
static void attention_without_weights_has_the_same_bits(void **state)
{
    (void)state;
    enum { B = 3, H = 4, TQ = 70, TK = 65, D = 32 };
    static mmf_real q[B * TQ * D], k[B * TK * D], v[B * TK * D], mask[B * TK], y[B * TQ * D];
    static const mmf_empty_row rules[] = {MMF_EMPTY_ZERO, MMF_EMPTY_UNIFORM, MMF_EMPTY_SHIFTED};
    mmf_real *const all[] = {q, k, v};
    const int64_t sizes[] = {B * TQ * D, B * TK * D, B * TK * D};
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_rng rng = mmf_rng_make(4, 4);
    for (int i = 0; i < 3; i++) {
        for (int64_t e = 0; e < sizes[i]; e++)
            all[i][e] = (mmf_real)mmf_rng_normal(&rng);
    }
    for (int i = 0; i < B * TK; i++)
        mask[i] = i >= TK && i % 3 > 0 ? 1 : 0; /* the first sample has no key */
    mmf_ctx_set_threads(ctx, 2);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (int c = 0; c < 6; c++) {
        mmf_tape_begin(tape, &(mmf_pass){0});
        mmf_tensor *const t[] = {mmf_input(tape, q, 3, (int64_t[]){B, TQ, D}),
                                 mmf_input(tape, k, 3, (int64_t[]){B, TK, D}),
                                 mmf_input(tape, v, 3, (int64_t[]){B, TK, D})};
        const mmf_heads heads = {.count = H,
                                 .mask = c < 3 ? mmf_input(tape, mask, 4, (int64_t[]){B, 1, 1, TK})
                                               : NULL,
                                 .empty = rules[c % 3]};
        mmf_tensor *weights = NULL;
        const mmf_tensor *const seen = mmf_attend(tape, t[0], t[1], t[2], &heads, &weights);
        test_ok(ctx, mmf_tape_status(tape));
        memcpy(y, seen->data, sizeof y);
        const mmf_tensor *const unseen = mmf_attend(tape, t[0], t[1], t[2], &heads, NULL);
        test_ok(ctx, mmf_tape_status(tape));
        assert_memory_equal(y, unseen->data, sizeof y);
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_causal_layer_does_not_look_ahead),
        cmocka_unit_test(order_of_keys_does_not_matter_and_that_of_queries_carries_over),
        cmocka_unit_test(masked_keys_are_as_if_they_were_not_there),
        cmocka_unit_test(wrong_widths_are_refused),
        cmocka_unit_test(bottlenecks_are_the_only_way_between_modalities),
        cmocka_unit_test(order_of_modalities_does_not_matter_to_a_bottleneck),
        cmocka_unit_test(a_perceiver_reads_a_set_of_valid_tokens),
        cmocka_unit_test(tables_and_masks_hold_what_they_say),
        cmocka_unit_test(deviation_norm_gives_the_published_numbers),
        cmocka_unit_test(a_constant_row_is_zero_though_its_mean_is_rounded),
        cmocka_unit_test(far_positions_are_exact),
        cmocka_unit_test(attention_without_weights_has_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
