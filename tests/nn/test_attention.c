/*
 * test_attention.c: attention and the layers made of it, by the properties that define them: masks,
 * order, what is shared. The operations below them are in test_attention_operations.c.
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
        for (int64_t k = 0; k < 5; k++) {
            assert_true(weights.values[row * 5 + k] >= 0);
            sum += (double)weights.values[row * 5 + k];
        }
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

static mmf_tensor *tensor_of(mmf_module *module, const char *name)
{
    const mmf_param *const p = mmf_params_find(mmf_module_params(module), name);
    if (!p)
        fail_msg("there is no parameter %s", name);
    return p ? p->tensor : NULL;
}

/* Rows `first`, first + 1, ... of w, x W' + b. */
static double projection(const mmf_tensor *w, const mmf_tensor *b, int64_t row, const mmf_real *x)
{
    double sum = (double)b->data[row];
    for (int64_t i = 0; i < w->shape[1]; i++)
        sum += (double)w->data[row * w->shape[1] + i] * (double)x[i];
    return sum;
}

/* As many heads as features: every channel attends by itself, softmax_k(q_c k_c) v_c. Without
 * queries, which are rows 0 to 3 of the packed weight, it is the mean of the values. */
static void heads_of_one_channel_attend_by_themselves(void **state)
{
    (void)state;
    enum { D = 4, T = 5 };
    mmf_ctx *const ctx = test_ctx();
    input x = random_input("x", 1, T, D);
    mmf_module *const module = make(ctx, "attention", "{\"num_heads\": 4}", &x, 1);
    draw(module);
    mmf_tensor *const w = tensor_of(module, "in_proj_weight");
    mmf_tensor *const b = tensor_of(module, "in_proj_bias");
    mmf_tensor *const out = tensor_of(module, "out_proj.weight");
    for (int64_t i = 0; i < D * D; i++)
        out->data[i] = i % (D + 1) == 0;
    memset(tensor_of(module, "out_proj.bias")->data, 0, D * sizeof(mmf_real));
    for (int uniform = 0; uniform < 2; uniform++) {
        const output y = run(ctx, module, &x, 1, "output");
        for (int64_t i = 0; i < T * D; i++) {
            const double q = projection(w, b, i % D, x.values + i / D * D);
            double sum = 0, weight = 0;
            for (int64_t k = 0; k < T; k++) {
                const mmf_real *const key = x.values + k * D;
                const double e = uniform ? 1 : exp(q * projection(w, b, D + i % D, key));
                sum += e * projection(w, b, 2 * D + i % D, key);
                weight += e;
            }
            assert_true(fabs((double)y.values[i] - sum / weight) < 1e-5);
        }
        memset(w->data, 0, D * D * sizeof *w->data);
        memset(b->data, 0, D * sizeof *b->data);
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Rows of the packed weight are those of queries, keys and values, as when they are stored apart
 * because the keys have another width: here by a column of zeros. */
static void packed_projections_are_three(void **state)
{
    (void)state;
    enum { D = 4, WIDE = 5 };
    static const char *const names[] = {"q_proj_weight", "k_proj_weight", "v_proj_weight"};
    static const char *const same_names[] = {"in_proj_bias", "out_proj.weight", "out_proj.bias"};
    mmf_ctx *const ctx = test_ctx();
    input in[] = {random_input("query", 2, 3, D), random_input("key", 2, 5, D)};
    input wide[] = {in[0], random_input("key", 2, 5, WIDE)};
    for (int64_t i = 0; i < 2 * 5 * WIDE; i++)
        wide[1].values[i] = i % WIDE < D ? in[1].values[i / WIDE * D + i % WIDE] : 7;
    mmf_module *const a = make(ctx, "attention", "{\"num_heads\": 2}", in, 2);
    mmf_module *const b = make(ctx, "attention", "{\"num_heads\": 2}", wide, 2);
    draw(a);
    const mmf_tensor *const packed = tensor_of(a, "in_proj_weight");
    for (int64_t p = 0; p < 3; p++) {
        mmf_tensor *const own = tensor_of(b, names[p]);
        for (int64_t i = 0; i < own->count; i++) {
            const int64_t row = i / own->shape[1], column = i % own->shape[1];
            own->data[i] = column < D ? packed->data[(p * D + row) * D + column] : 0;
        }
        memcpy(tensor_of(b, same_names[p])->data, tensor_of(a, same_names[p])->data,
               (size_t)tensor_of(a, same_names[p])->count * sizeof(mmf_real));
    }
    const output x = run(ctx, a, in, 2, "output"), y = run(ctx, b, wide, 2, "output");
    assert_true(same(x.values, y.values, x.count));
    mmf_module_free(a);
    mmf_module_free(b);
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

/* Without bottleneck tokens nothing passes even between blocks that could: late fusion. */
static void without_a_bottleneck_nothing_passes(void **state)
{
    (void)state;
    enum { TOKENS = 3, D = 4 };
    mmf_ctx *const ctx = test_ctx();
    for (int tokens = 0; tokens < 2; tokens++) {
        input in[] = {random_input("a", 1, TOKENS, D), random_input("b", 1, 2, D)};
        const char *const json =
            tokens ? "{" MBT "\"fusion_layer\": 0, \"classifier\": \"gap\"}"
                   : "{\"hidden\": 4, \"heads\": 2, \"layers\": 2, \"bottlenecks\": 0, "
                     "\"classes\": 3, \"fusion_layer\": 0, \"classifier\": \"gap\"}";
        mmf_module *const module = make(ctx, "mbt", json, in, 2);
        draw(module);
        const output before = run(ctx, module, in, 2, "encoded");
        in[1].values[0] += 1;
        const output after = run(ctx, module, in, 2, "encoded");
        assert_int_equal(same(before.values, after.values, TOKENS * D), !tokens);
        assert_false(same(before.values + TOKENS * D, after.values + TOKENS * D, 2 * D));
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

/* Blocks that add nothing leave the bottleneck as it is, and a new head says exactly nothing. */
static void blocks_that_add_nothing_leave_the_bottleneck(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    input in[] = {random_input("a", 2, 3, 4), random_input("b", 2, 2, 4)};
    mmf_module *const module = make(ctx, "mbt", "{" MBT "\"fusion_layer\": 0}", in, 2);
    mmf_params *const params = mmf_module_params(module);
    const output logits = run(ctx, module, in, 2, "logit");
    for (int64_t i = 0; i < logits.count; i++)
        assert_true(logits.values[i] == 0);
    const mmf_tensor *const z = tensor_of(module, "bottleneck"); /* (1, 3, 4) */
    const output moved = run(ctx, module, in, 2, "bottleneck");
    assert_false(same(moved.values, z->data, z->count));
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        if (strstr(p->name, ".out.") || strstr(p->name, ".fc2."))
            memset(p->tensor->data, 0, (size_t)p->tensor->count * sizeof(mmf_real));
    }
    const output still = run(ctx, module, in, 2, "bottleneck");
    for (int64_t b = 0; b < 2; b++)
        assert_true(same(still.values + b * z->count, z->data, z->count));
    mmf_module_free(module);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_causal_layer_does_not_look_ahead),
        cmocka_unit_test(order_of_keys_does_not_matter_and_that_of_queries_carries_over),
        cmocka_unit_test(masked_keys_are_as_if_they_were_not_there),
        cmocka_unit_test(heads_of_one_channel_attend_by_themselves),
        cmocka_unit_test(packed_projections_are_three),
        cmocka_unit_test(wrong_widths_are_refused),
        cmocka_unit_test(bottlenecks_are_the_only_way_between_modalities),
        cmocka_unit_test(without_a_bottleneck_nothing_passes),
        cmocka_unit_test(blocks_that_add_nothing_leave_the_bottleneck),
        cmocka_unit_test(order_of_modalities_does_not_matter_to_a_bottleneck),
        cmocka_unit_test(a_perceiver_reads_a_set_of_valid_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
