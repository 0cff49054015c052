/*
 * test_bert.c: BERT is the transformer layer it is said to be, padding does not reach it, and the
 * models around it have the properties that they are published with.
 */
#include "models/layer_case.h"
#include "models/pretraining.h"

enum { B = 2, T = 6, D = 8, V = 30 };

/* A module on the first `n_inputs` values; what follows describes them. */
static mmf_module *make_on(mmf_ctx *ctx, const char *name, const char *json, const value *values,
                           size_t n_inputs, double spread)
{
    mmf_input_schema inputs[MAX_TENSORS];
    for (size_t i = 0; i < n_inputs; i++) {
        const value *const v = &values[i];
        inputs[i] = (mmf_input_schema){.name = v->name,
                                       .kind = !v->reals        ? MMF_TOKENS
                                               : v->n_dims == 3 ? MMF_SEQUENCE
                                                                : MMF_VECTOR,
                                       .n_dims = v->n_dims - 1,
                                       .vocab_size = v->reals ? 0 : V};
        memcpy(inputs[i].shape, v->shape + 1, (size_t)(v->n_dims - 1) * sizeof *v->shape);
    }
    const mmf_schema schema = {n_inputs, inputs};
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    test_ok(ctx, mmf_config_create(ctx, &config, mmf_definition_find(name)));
    test_ok(ctx, mmf_config_set_json(config, json));
    test_ok(ctx, mmf_module_create(ctx, &module, mmf_config_def(config), config, &schema, 3));
    mmf_config_free(config);
    mmf_params *const params = mmf_module_params(module);
    mmf_rng rng = mmf_rng_make(9, 2);
    for (int64_t i = 0; spread > 0 && i < mmf_params_size(params); i++)
        mmf_params_values(params)[i] += (mmf_real)(spread * mmf_rng_normal(&rng));
    return module;
}

static mmf_tensor *weight(mmf_module *module, const char *name)
{
    const mmf_param *const p = mmf_params_find(mmf_module_params(module), name);
    if (!p)
        fail_msg("there is no parameter %s", name);
    return p->tensor;
}

static void draw_tokens(int64_t *tokens, int64_t n, uint64_t seed)
{
    mmf_rng rng = mmf_rng_make(seed, 5);
    for (int64_t i = 0; i < n; i++)
        tokens[i] = 1 + (int64_t)mmf_rng_below(&rng, V - 1);
}

/* ---- BERT -------------------------------------------------------------------------------- */

static void copy_to(mmf_module *to, const char *name, mmf_module *from, const char *other,
                    int64_t at)
{
    const mmf_tensor *const w = weight(from, other);
    memcpy(weight(to, name)->data + at, w->data, (size_t)w->count * sizeof *w->data);
}

static void a_layer_is_the_transformer_layer(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {{"self_attn.out_proj", "attention.output.dense"},
                                           {"norm1", "attention.output.LayerNorm"},
                                           {"linear1", "intermediate.dense"},
                                           {"linear2", "output.dense"},
                                           {"norm2", "output.LayerNorm"}};
    static const char *const parts[] = {"query", "key", "value"};
    static const char *const kinds[] = {"weight", "bias"};
    mmf_ctx *const ctx = test_ctx();
    int64_t tokens[B * T], mask[B * T] = {1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0};
    draw_tokens(tokens, B * T, 1);
    value text[] = {{"text", NULL, tokens, 2, {B, T}}, {"text.mask", NULL, mask, 2, {B, T}}};
    const char *const sizes = "{\"hidden_size\": 8, \"num_attention_heads\": 2, "
                              "\"intermediate_size\": 12, \"num_hidden_layers\": %d}";
    char json[200];
    snprintf(json, sizeof json, sizes, 1);
    mmf_module *const bert = make_on(ctx, "bert", json, text, 1, 0.4);
    snprintf(json, sizeof json, sizes, 0);
    mmf_module *const embedding = make_on(ctx, "bert", json, text, 1, 0);
    static const char *const tables[] = {"word_embeddings.weight", "position_embeddings.weight",
                                         "token_type_embeddings.weight", "LayerNorm.weight",
                                         "LayerNorm.bias"};
    for (size_t i = 0; i < 5; i++) {
        char name[80];
        snprintf(name, sizeof name, "embeddings.%s", tables[i]);
        copy_to(embedding, name, bert, name, 0);
    }
    const shown x = run(ctx, embedding, text, 2, "last_hidden_state", NULL);
    mmf_real values[B * T * D];
    for (int64_t i = 0; i < x.count; i++)
        values[i] = (mmf_real)x.values[i];
    value sequence[] = {{"text", values, NULL, 3, {B, T, D}}, text[1]};
    mmf_module *const layer =
        make_on(ctx, "attention",
                "{\"block\": \"encoder-layer\", \"nhead\": 2, \"dim_feedforward\": 12, "
                "\"activation\": \"gelu\", \"layer_norm_eps\": 1e-12}",
                sequence, 1, 0);
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < 5; i++) {
            char to[80], from[80];
            snprintf(to, sizeof to, "%s.%s", pairs[i][0], kinds[k]);
            snprintf(from, sizeof from, "encoder.layer.0.%s.%s", pairs[i][1], kinds[k]);
            copy_to(layer, to, bert, from, 0);
        }
        for (size_t i = 0; i < 3; i++) {
            char from[80];
            snprintf(from, sizeof from, "encoder.layer.0.attention.self.%s.%s", parts[i], kinds[k]);
            copy_to(layer, k ? "self_attn.in_proj_bias" : "self_attn.in_proj_weight", bert, from,
                    (int64_t)i * (k ? D : D * D));
        }
    }
    const shown a = run(ctx, bert, text, 2, "last_hidden_state", NULL);
    const shown b = run(ctx, layer, sequence, 2, "output", NULL);
    assert_same(&a, &b, 2e-6);
    mmf_module_free(bert);
    mmf_module_free(embedding);
    mmf_module_free(layer);
    mmf_ctx_free(ctx);
}

static const char small[] = "{\"hidden_size\": 8, \"num_attention_heads\": 2, "
                            "\"max_position_embeddings\": 12}";

/* What the pooler reads does not depend on how much padding follows, nor on what it holds. */
/* LN(act(W x)) with the activation that the configuration names, in front of every decoder. */
static void transforms_have_the_activation_asked_for(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *tape = NULL;
    mmf_real x[D], one[D], zero[D] = {0}, identity[D * D] = {0};
    const int64_t width = D;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    draw(x, D, 4);
    for (int i = 0; i < D; i++)
        one[i] = identity[i * D + i] = 1;
    for (mmf_bert_activation act = MMF_BERT_GELU; act <= MMF_BERT_SWISH; act++) {
        mmf_tape_begin(tape, &(mmf_pass){0});
        const mmf_transform t = {
            .dense = {mmf_input(tape, identity, 2, (int64_t[]){D, D}), NULL},
            .norm = {mmf_input(tape, one, 1, &width), mmf_input(tape, zero, 1, &width), 1e-12},
            .activation = act};
        mmf_real wanted[D];
        for (int i = 0; i < D; i++) {
            const double v = (double)x[i], cube = 0.7978845608 * (v + 0.044715 * v * v * v);
            wanted[i] = (mmf_real)(act == MMF_BERT_GELU        ? v * 0.5 * (1 + erf(v / sqrt(2)))
                                   : act == MMF_BERT_GELU_TANH ? v * 0.5 * (1 + tanh(cube))
                                   : act == MMF_BERT_RELU      ? fmax(v, 0)
                                                               : v / (1 + exp(-v)));
        }
        const int64_t row[] = {1, D};
        const mmf_tensor *const y = mmf_transform_run(tape, &t, mmf_input(tape, x, 2, row));
        const mmf_tensor *const z =
            mmf_layer_norm_run(tape, &t.norm, mmf_input(tape, wanted, 2, row));
        test_ok(ctx, mmf_tape_status(tape));
        for (int i = 0; i < D; i++)
            assert_true(fabs((double)(y->data[i] - z->data[i])) < 2e-5);
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

static void padding_does_not_reach_the_first_token(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int64_t tokens[B * 12] = {0}, shorter[B * T], mask[B * 12] = {0}, length[B] = {4, 5};
    draw_tokens(shorter, B * T, 3);
    for (int64_t b = 0; b < B; b++) {
        for (int64_t t = 0; t < T; t++) {
            tokens[b * 12 + t] = t < length[b] ? shorter[b * T + t] : 0;
            mask[b * 12 + t] = t < length[b];
        }
    }
    value wide[] = {{"text", NULL, tokens, 2, {B, 12}}, {"text.mask", NULL, mask, 2, {B, 12}}};
    value narrow[] = {{"text", NULL, shorter, 2, {B, T}}, {"text.length", NULL, length, 1, {B}}};
    mmf_module *const a = make_on(ctx, "bert", small, wide, 1, 0.3);
    mmf_module *const b = make_on(ctx, "bert", small, narrow, 1, 0.3);
    const shown masked = run(ctx, a, wide, 2, "pooler_output", NULL);
    const shown padded = run(ctx, a, wide, 1, "pooler_output", NULL); /* zeros end the text */
    const shown ended = run(ctx, b, narrow, 2, "pooler_output", NULL);
    assert_same(&masked, &padded, 1e-6);
    assert_same(&masked, &ended, 1e-5);
    for (int64_t t = 8; t < 12; t++)
        tokens[t] = tokens[12 + t] = 7;
    const shown garbage = run(ctx, a, wide, 2, "pooler_output", NULL);
    assert_same(&masked, &garbage, 1e-6);
    mmf_module_free(a);
    mmf_module_free(b);
    mmf_ctx_free(ctx);
}

/* Adding the same large number to all scores of a row changes nothing. */
static void a_text_without_a_key_attends_to_all(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int64_t tokens[B * T], mask[B * T] = {0};
    draw_tokens(tokens, B * T, 4);
    value text[] = {{"text", NULL, tokens, 2, {B, T}}, {"text.mask", NULL, mask, 2, {B, T}}};
    mmf_module *const module = make_on(ctx, "bert", small, text, 1, 0.3);
    const shown none = run(ctx, module, text, 2, "last_hidden_state", NULL);
    const shown all = run(ctx, module, text, 1, "last_hidden_state", NULL);
    assert_same(&none, &all, 1e-6);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static size_t peak_of(mmf_ctx *ctx, int n_layers, bool record)
{
    char json[160];
    int64_t tokens[B * T];
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    draw_tokens(tokens, B * T, 4);
    value text = {"text", NULL, tokens, 2, {B, T}};
    snprintf(json, sizeof json,
             "{\"hidden_size\": 64, \"num_attention_heads\": 2, \"num_hidden_layers\": %d}",
             n_layers);
    mmf_module *const module = make_on(ctx, "bert", json, &text, 1, 0);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (int pass = 0; pass < 2; pass++) { /* the second one has a single block of memory */
        in = out = (mmf_named){0};
        mmf_tape_begin(tape, &(mmf_pass){.record = record});
        mmf_named_put(tape, &in, "text", mmf_input_ints(tape, tokens, 2, text.shape));
        mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
        test_ok(ctx, mmf_tape_status(tape));
    }
    const size_t peak = mmf_tape_peak_bytes(tape);
    mmf_tape_free(tape);
    mmf_module_free(module);
    return peak;
}

static void inference_needs_the_memory_of_one_layer(void **state)
{
    (void)state;
#ifdef MMF_TEST_SAMPLE
    skip(); /* sanitizer builds keep every piece */
#endif
    mmf_ctx *const ctx = test_ctx();
    const size_t few = peak_of(ctx, 2, false), many = peak_of(ctx, 12, false);
    assert_true(many <= few + few / 10);
    assert_true(peak_of(ctx, 12, true) > 4 * many);
    mmf_ctx_free(ctx);
}

static void sizes_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name, *option, *value, *wanted;
    } cases[] = {{"bert", "max_position_embeddings", "3", "has 6 steps"},
                 {"bert", "vocab_size", "4", "has tokens up to 29"},
                 {"bert", "num_attention_heads", "3", "not a multiple of 3 heads"}};
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mmf_input_schema text = {
            .name = "text", .kind = MMF_TOKENS, .n_dims = 1, .shape = {T}, .vocab_size = V};
        const mmf_schema schema = {1, &text};
        mmf_config *config = NULL;
        mmf_module *module = NULL;
        test_ok(ctx, mmf_config_create(ctx, &config, mmf_definition_find(cases[i].name)));
        test_ok(ctx, mmf_config_set(config, cases[i].option, cases[i].value));
        test_fails(ctx, mmf_module_create(ctx, &module, mmf_config_def(config), config, &schema, 1),
                   i == 2 ? MMF_ARG : MMF_SHAPE, cases[i].wanted);
        mmf_config_free(config);
    }
    mmf_ctx_free(ctx);
}

/* ---- The adaptation gate ----------------------------------------------------------------- */

typedef struct gate_case {
    mmf_real text[B * T * D], audio[B * T * 3], vision[B * T * 4];
    value values[3];
} gate_case;

static void open_gate(gate_case *c)
{
    draw(c->text, B * T * D, 1);
    draw(c->audio, B * T * 3, 2);
    draw(c->vision, B * T * 4, 3);
    c->values[0] = (value){"text", c->text, NULL, 3, {B, T, D}};
    c->values[1] = (value){"audio", c->audio, NULL, 3, {B, T, 3}};
    c->values[2] = (value){"vision", c->vision, NULL, 3, {B, T, 4}};
}

/* The layer norm of the text alone: what is left where nothing moves it. */
static shown norm_of_text(mmf_ctx *ctx, mmf_module *module, gate_case *c)
{
    mmf_tape *tape = NULL;
    shown s = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_tensor *const x = mmf_input(tape, c->text, 3, c->values[0].shape);
    const mmf_tensor *const y = mmf_layer_norm(tape, x, weight(module, "LayerNorm.weight"),
                                               weight(module, "LayerNorm.bias"), 1e-5);
    keep(&s, y->data, y->count);
    mmf_tape_free(tape);
    return s;
}

static void nothing_beside_the_words_leaves_them(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    gate_case c;
    open_gate(&c);
    mmf_module *const still = make_on(ctx, "mag", "{\"beta_shift\": 0}", c.values, 3, 0.5);
    const shown a = run(ctx, still, c.values, 3, "output", NULL), na = norm_of_text(ctx, still, &c);
    assert_same(&a, &na, 1e-6);
    memset(c.audio, 0, sizeof c.audio);
    memset(c.vision, 0, sizeof c.vision);
    mmf_module *const empty = make_on(ctx, "mag", "{}", c.values, 3, 0.5);
    static const char *const biases[] = {"W_hv.bias", "W_ha.bias", "W_v.bias", "W_a.bias"};
    for (size_t i = 0; i < 4; i++)
        memset(weight(empty, biases[i])->data, 0, D * sizeof(mmf_real));
    shown gradient = {0};
    const shown b = run(ctx, empty, c.values, 3, "output", &gradient),
                nb = norm_of_text(ctx, empty, &c);
    assert_same(&b, &nb, 1e-6);
    for (int64_t i = 0; i < gradient.count; i++) /* where the length of h is 0 */
        assert_true(isfinite(gradient.values[i]));
    mmf_module_free(still);
    mmf_module_free(empty);
    mmf_ctx_free(ctx);
}

static void no_word_is_moved_farther_than_beta_says(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    gate_case c;
    open_gate(&c);
    mmf_module *const module = make_on(ctx, "mag", "{\"beta_shift\": 0.5}", c.values, 3, 0.5);
    const shown shift = run(ctx, module, c.values, 3, "shift", NULL);
    int n_bound = 0, n_free = 0;
    for (int64_t i = 0; i < B * T; i++) {
        double moved = 0, length = 0;
        for (int64_t d = 0; d < D; d++) {
            moved += shift.values[i * D + d] * shift.values[i * D + d];
            length += (double)c.text[i * D + d] * (double)c.text[i * D + d];
        }
        const double ratio = sqrt(moved / length);
        assert_true(ratio <= 0.5 * (1 + 1e-6));
        n_bound += ratio > 0.499;
        n_free += ratio < 0.499;
    }
    assert_true(n_bound > 0 && n_free > 0); /* both branches of the minimum are met */
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* ---- BERT beside LSTMs ------------------------------------------------------------------- */

static void bert_lstm_without_the_audio_columns_is_bert(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int64_t tokens[B * T], length[B] = {3, 7}, full[B] = {7, 7};
    mmf_real audio[B * 7 * 3];
    draw_tokens(tokens, B * T, 6);
    draw(audio, B * 7 * 3, 7);
    value values[] = {{"text", NULL, tokens, 2, {B, T}},
                      {"audio", audio, NULL, 3, {B, 7, 3}},
                      {"audio.length", NULL, length, 1, {B}}};
    mmf_module *const module = make_on(ctx, "bert-lstm", small, values, 2, 0.3);
    const shown before = run(ctx, module, values, 3, "prediction", NULL);
    audio[3 * 3] = 9; /* behind the length of row 0 */
    const shown behind = run(ctx, module, values, 3, "prediction", NULL);
    assert_same(&before, &behind, 0);
    values[2].ints = full;
    const shown whole = run(ctx, module, values, 3, "prediction", NULL);
    const shown unpacked = run(ctx, module, values, 2, "prediction", NULL);
    assert_same(&whole, &unpacked, 0);
    assert_true(differs(&before, &whole));
    mmf_tensor *const w = weight(module, "post_fusion_layer_1.weight");
    for (int64_t i = 0; i < w->shape[0]; i++)
        memset(w->data + i * w->shape[1] + D, 0, (size_t)(w->shape[1] - D) * sizeof *w->data);
    const shown alone = run(ctx, module, values, 2, "prediction", NULL);
    draw(audio, B * 7 * 3, 8);
    const shown other = run(ctx, module, values, 2, "prediction", NULL);
    assert_same(&alone, &other, 0);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_is_the_transformer_layer),
        cmocka_unit_test(transforms_have_the_activation_asked_for),
        cmocka_unit_test(padding_does_not_reach_the_first_token),
        cmocka_unit_test(a_text_without_a_key_attends_to_all),
        cmocka_unit_test(inference_needs_the_memory_of_one_layer),
        cmocka_unit_test(sizes_that_do_not_fit_are_refused),
        cmocka_unit_test(nothing_beside_the_words_leaves_them),
        cmocka_unit_test(no_word_is_moved_farther_than_beta_says),
        cmocka_unit_test(bert_lstm_without_the_audio_columns_is_bert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
