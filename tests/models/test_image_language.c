/*
 * test_image_language.c: what ViLBERT and UNITER are defined by: padding, exchanged streams, a
 * single token, compaction, transport plans; and that pre-training finds out what it hides.
 */
#include "models/layer_case.h"

enum { B = 3, T = 5, R = 4, F = 6, V = 12 };

/* ---- Draws ------------------------------------------------------------------------------- */

static mmf_tape *begin(mmf_ctx *ctx, uint64_t step)
{
    mmf_tape *tape = NULL;
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.training = true, .seed = 4, .step = step});
    return tape;
}

static void hidden_tokens_keep_the_shares(void **state)
{
    (void)state;
    enum { ROWS = 200, STEPS = 20 };
    static const int64_t special[] = {0, 3};
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *const tape = begin(ctx, 1);
    int64_t tokens[ROWS * STEPS], n_hidden = 0, n_replaced = 0, n_kept = 0, n_free = 0;
    mmf_tensor *labels = NULL;
    for (int64_t i = 0; i < ROWS * STEPS; i++)
        tokens[i] = i % 20 == 19 ? 0 : 3 + i % 7;
    const mmf_masking how = {.rate = 0.3,
                             .mask_token = 2,
                             .vocab = 50,
                             .special = special,
                             .n_special = 2,
                             .at_least_one = true};
    const mmf_tensor *const y = mmf_mask_tokens(
        tape, mmf_input_ints(tape, tokens, 2, (int64_t[]){ROWS, STEPS}), NULL, &how, &labels);
    test_ok(ctx, mmf_tape_status(tape));
    for (int64_t i = 0; i < ROWS * STEPS; i++) {
        const bool hidden = labels->ints[i] >= 0;
        const bool is_special = tokens[i] == 0 || tokens[i] == 3;
        assert_true(!hidden || (labels->ints[i] == tokens[i] && !is_special));
        assert_true(hidden || y->ints[i] == tokens[i]);
        assert_true(y->ints[i] >= 0 && y->ints[i] < 50);
        n_free += !is_special;
        n_hidden += hidden;
        n_replaced += hidden && y->ints[i] == 2;
        n_kept += hidden && y->ints[i] == tokens[i];
    }
    assert_true(fabs((double)n_hidden / (double)n_free - 0.3) < 0.03);
    assert_true(fabs((double)n_replaced / (double)n_hidden - 0.8) < 0.05);
    assert_true(fabs((double)n_kept / (double)n_hidden - 0.1) < 0.04);
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

static void exchanged_rows_are_those_of_others(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    int n_moved = 0;
    for (uint64_t step = 0; step < 50; step++) {
        mmf_tape *const tape = begin(ctx, step);
        mmf_tensor *moved = NULL;
        const mmf_tensor *const from = mmf_exchange(tape, 8, 0.5, &moved);
        for (int64_t b = 0; b < 8; b++) {
            assert_true(from->ints[b] >= 0 && from->ints[b] < 8);
            assert_int_equal(from->ints[b] != b, moved->data[b] == 1);
            n_moved += moved->data[b] == 1;
        }
        assert_int_equal(mmf_exchange(tape, 1, 0.9, &moved)->ints[0], 0); /* there is no other */
        mmf_tape_free(tape);
    }
    assert_true(n_moved > 160 && n_moved < 240);
    mmf_ctx_free(ctx);
}

static void what_was_compacted_comes_back(void **state)
{
    (void)state;
    mmf_real x[B * T * 2], valid[B * T] = {1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 1};
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *const tape = begin(ctx, 0);
    draw(x, B * T * 2, 3);
    const mmf_compaction c = mmf_compact(tape, mmf_input(tape, valid, 2, (int64_t[]){B, T}));
    assert_int_equal(c.gather->shape[1], 4);
    mmf_tensor *y = mmf_index_select(tape, mmf_input(tape, x, 2, (int64_t[]){B * T, 2}), c.gather);
    y = mmf_index_select(tape, mmf_reshape(tape, y, 2, (int64_t[]){B * 4, 2}), c.scatter);
    test_ok(ctx, mmf_tape_status(tape));
    for (int64_t i = 0; i < B * T; i++) {
        for (int64_t d = 0; d < 2 && valid[i] > 0; d++)
            assert_true(y->data[2 * i + d] == x[2 * i + d]);
    }
    for (int64_t i = 0; i < B * 4; i++) /* 3, 1 and 4 steps, in front */
        assert_true(c.mask->data[i] == (i % 4 < (i / 4 == 0 ? 3 : i / 4 == 1 ? 1 : 4)));
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* ---- Transport --------------------------------------------------------------------------- */

static void a_plan_has_the_marginals_of_its_points(void **state)
{
    (void)state;
    mmf_real cost[4 * 5], from[4] = {1, 1, 1, 0}, to[5] = {1, 1, 0, 1, 1};
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *const tape = begin(ctx, 0);
    draw(cost, 20, 6);
    const mmf_tensor *const plan =
        mmf_transport_plan(tape, mmf_input(tape, cost, 3, (int64_t[]){1, 4, 5}),
                           mmf_input(tape, from, 2, (int64_t[]){1, 4}),
                           mmf_input(tape, to, 2, (int64_t[]){1, 5}), 0.5, 50);
    for (int64_t j = 0; j < 5; j++) {
        double sum = 0;
        for (int64_t i = 0; i < 4; i++)
            sum += (double)plan->data[i * 5 + j];
        assert_true(fabs(sum - (to[j] > 0 ? 0.25 : 0)) < 1e-6); /* exact after every iteration */
    }
    for (int64_t i = 0; i < 4; i++) {
        double sum = 0;
        for (int64_t j = 0; j < 5; j++)
            sum += (double)plan->data[i * 5 + j];
        assert_true(fabs(sum - (from[i] > 0 ? 1.0 / 3 : 0)) < 1e-2); /* in the limit */
    }
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

static void equal_costs_spread_and_equal_points_meet(void **state)
{
    (void)state;
    mmf_real flat[3 * 4], same[3 * 3];
    static const int order[] = {2, 0, 1}; /* point i is the other set's order[i] */
    mmf_ctx *const ctx = test_ctx();
    mmf_tape *const tape = begin(ctx, 0);
    for (int i = 0; i < 12; i++)
        flat[i] = (mmf_real)0.7;
    for (int i = 0; i < 9; i++)
        same[i] = order[i / 3] == i % 3 ? 0 : 1;
    const mmf_tensor *const even = mmf_transport_plan(
        tape, mmf_input(tape, flat, 3, (int64_t[]){1, 3, 4}), NULL, NULL, 0.5, 50);
    const mmf_tensor *const meets = mmf_transport_plan(
        tape, mmf_input(tape, same, 3, (int64_t[]){1, 3, 3}), NULL, NULL, 0.5, 50);
    for (int i = 0; i < 12; i++)
        assert_true(fabs((double)even->data[i] - 1.0 / 12) < 1e-6);
    draw(flat, 12, 4); /* costs that differ do not count beside a large beta */
    const mmf_tensor *const first = mmf_transport_plan(
        tape, mmf_input(tape, flat, 3, (int64_t[]){1, 3, 4}), NULL, NULL, 1e7, 1);
    for (int i = 0; i < 12; i++)
        assert_true(fabs((double)first->data[i] - 1.0 / 12) < 1e-6);
    for (int i = 0; i < 9; i++)
        assert_true(fabs((double)meets->data[i] - (order[i / 3] == i % 3 ? 1.0 / 3 : 0)) < 1e-6);
    assert_null(mmf_transport_plan(tape, mmf_input(tape, same, 3, (int64_t[]){1, 3, 3}), NULL, NULL,
                                   0, 50));
    test_fails(ctx, mmf_tape_status(tape), MMF_ARG, "above 0");
    mmf_tape_free(tape);
    mmf_ctx_free(ctx);
}

/* ---- Models ------------------------------------------------------------------------------ */

/* A text and regions, with lengths. */
typedef struct scene {
    int64_t tokens[B * T], text_length[B], region_length[B];
    mmf_real regions[B * R * F], box[B * R * 5];
    value values[5];
} scene;

static void open_scene(scene *s, uint64_t seed)
{
    *s = (scene){.text_length = {5, 3, 2}, .region_length = {2, 4, 3}};
    mmf_rng rng = mmf_rng_make(seed, 1);
    for (int64_t i = 0; i < B * T; i++)
        s->tokens[i] = 3 + (int64_t)mmf_rng_below(&rng, V - 3);
    draw(s->regions, B * R * F, seed + 1);
    draw(s->box, B * R * 5, seed + 2);
    s->values[0] = (value){"text", NULL, s->tokens, 2, {B, T}};
    s->values[1] = (value){"vision", s->regions, NULL, 3, {B, R, F}};
    s->values[2] = (value){"text.length", NULL, s->text_length, 1, {B}};
    s->values[3] = (value){"vision.length", NULL, s->region_length, 1, {B}};
    s->values[4] = (value){"vision.box", s->box, NULL, 3, {B, R, 5}};
}

static mmf_module *make_sized(mmf_ctx *ctx, const char *name, const char *json, double spread,
                              int64_t words, int64_t regions, int64_t width)
{
    mmf_input_schema inputs[] = {
        {.name = "text", .kind = MMF_TOKENS, .n_dims = 1, .shape = {words}, .vocab_size = V},
        {.name = "vision", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {regions, width}}};
    const mmf_schema schema = {2, inputs};
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    test_ok(ctx, mmf_config_create(ctx, &config, mmf_model_find(name)));
    test_ok(ctx, mmf_config_set_json(config, json));
    test_ok(ctx, mmf_module_create(ctx, &module, mmf_config_def(config), config, &schema, 3));
    mmf_config_free(config);
    mmf_params *const params = mmf_module_params(module);
    mmf_rng rng = mmf_rng_make(9, 2);
    for (int64_t i = 0; i < mmf_params_size(params); i++)
        mmf_params_values(params)[i] += (mmf_real)(spread * mmf_rng_normal(&rng));
    return module;
}

static mmf_module *make_pair(mmf_ctx *ctx, const char *name, const char *json, double spread)
{
    return make_sized(ctx, name, json, spread, T, R, F);
}

static const char vilbert_heads[] =
    "{\"hidden_size\": 8, \"num_attention_heads\": 2, \"v_hidden_size\": 8, \"bi_hidden_size\": 8, "
    "\"v_num_attention_heads\": 2, \"bi_num_attention_heads\": 2, \"head\": \"pretraining\"}";
static const char uniter_heads[] = "{\"hidden_size\": 8, \"num_attention_heads\": 2}";

static void padding_reaches_nothing_else(void **state)
{
    (void)state;
    static const struct {
        const char *model, *json, *outputs[3];
        size_t n_values;
    } cases[] = {
        {"vilbert", vilbert_heads, {"logits.alignment", "sequence.text", "sequence.vision"}, 5},
        {"uniter", uniter_heads, {"pooled", "wra.distance", "sequence"}, 4}};
    mmf_ctx *const ctx = test_ctx();
    for (size_t c = 0; c < 2; c++) {
        scene a, b;
        open_scene(&a, 5);
        open_scene(&b, 5);
        for (int64_t i = 0; i < B * T; i++)
            b.tokens[i] = i % T < b.text_length[i / T] ? b.tokens[i] : 4;
        for (int64_t i = 0; i < B * R * F; i++)
            b.regions[i] = i / F % R < b.region_length[i / (R * F)] ? b.regions[i] : 9;
        mmf_module *const module = make_pair(ctx, cases[c].model, cases[c].json, 0.3);
        for (size_t o = 0; o < 3; o++) {
            const shown x =
                run(ctx, module, a.values, cases[c].n_values, cases[c].outputs[o], NULL);
            const shown y =
                run(ctx, module, b.values, cases[c].n_values, cases[c].outputs[o], NULL);
            assert_same(&x, &y, 1e-6);
        }
        b.regions[0] += 1; /* a region that counts */
        const shown x = run(ctx, module, a.values, cases[c].n_values, cases[c].outputs[0], NULL);
        const shown y = run(ctx, module, b.values, cases[c].n_values, cases[c].outputs[0], NULL);
        assert_true(differs(&x, &y));
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

/* Sizes of one stream for both: what is left of the difference between them is the embedding. */
static void connections_without_their_sums_are_two_streams(void **state)
{
    (void)state;
    static const char *const cut[] = {"dense1.weight", "dense1.bias", "dense2.weight",
                                      "dense2.bias"};
    mmf_ctx *const ctx = test_ctx();
    scene a, b;
    open_scene(&a, 5);
    open_scene(&b, 5);
    for (int64_t i = 0; i < B * R * F; i++)
        b.regions[i] += 1;
    mmf_module *const module = make_pair(ctx, "vilbert", vilbert_heads, 0.3);
    const shown before = run(ctx, module, a.values, 5, "sequence.text", NULL);
    const shown other = run(ctx, module, b.values, 5, "sequence.text", NULL);
    assert_true(differs(&before, &other));
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < 4; k++) {
            char name[80];
            snprintf(name, sizeof name, "bert.encoder.c_layer.%d.biOutput.%s", i, cut[k]);
            const mmf_param *const p = mmf_params_find(mmf_module_params(module), name);
            assert_non_null(p);
            memset(p->tensor->data, 0, (size_t)p->tensor->count * sizeof(mmf_real));
        }
    }
    const shown alone = run(ctx, module, a.values, 5, "sequence.text", NULL);
    const shown still = run(ctx, module, b.values, 5, "sequence.text", NULL);
    assert_same(&alone, &still, 0);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* With a single word, whatever a region asks for, it gets that word's value. */
static void a_single_word_is_what_every_region_hears(void **state)
{
    (void)state;
    static const char *const asked[] = {"query1.weight", "query1.bias", "key2.weight"};
    mmf_ctx *const ctx = test_ctx();
    for (int words = 1; words < 3; words++) {
        scene s;
        open_scene(&s, 6);
        for (int i = 0; i < B; i++)
            s.text_length[i] = words;
        mmf_module *const module = make_pair(ctx, "vilbert", vilbert_heads, 0.3);
        const shown before = run(ctx, module, s.values, 5, "sequence.vision", NULL);
        for (int i = 0; i < 2; i++) {
            for (size_t k = 0; k < 3; k++) {
                char name[80];
                snprintf(name, sizeof name, "bert.encoder.c_layer.%d.biattention.%s", i, asked[k]);
                const mmf_param *const p = mmf_params_find(mmf_module_params(module), name);
                assert_non_null(p);
                for (int64_t e = 0; e < p->tensor->count; e++)
                    p->tensor->data[e] *= -3;
            }
        }
        const shown after = run(ctx, module, s.values, 5, "sequence.vision", NULL);
        if (words == 1)
            assert_same(&before, &after, 1e-5);
        else
            assert_true(differs(&before, &after));
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

/* What stream text has under a name, stream vision has under this one, and the other way round.
 * @return false: it has none */
static bool other_name(const char *name, char *out, size_t size)
{
    static const char *const pairs[][2] = {
        {"bert.encoder.layer.", "bert.encoder.v_layer."},
        {"bert.embeddings.LayerNorm.", "bert.v_embeddings.LayerNorm."},
        {"query1.", "query2."},
        {"key1.", "key2."},
        {"value1.", "value2."},
        {"biOutput.dense1.", "biOutput.dense2."},
        {"LayerNorm1.", "LayerNorm2."},
        {"v_intermediate.", "t_intermediate."},
        {"v_output.", "t_output."}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        for (int k = 0; k < 2; k++) {
            const char *const found = strstr(name, pairs[i][k]);
            if (!found)
                continue;
            snprintf(out, size, "%.*s%s%s", (int)(found - name), name, pairs[i][1 - k],
                     found + strlen(pairs[i][k]));
            return true;
        }
    }
    return false;
}

enum { STEPS = 3, WIDE = 8 };

/* Words whose vectors are `words`, regions that are `regions`, (STEPS, WIDE) of one sample each,
 * as the streams see them: nothing is added to either. */
static void put_vectors(mmf_module *module, value *in, const mmf_real *words, mmf_real *regions)
{
    static const char *const none[] = {"bert.embeddings.position_embeddings.weight",
                                       "bert.embeddings.token_type_embeddings.weight",
                                       "bert.v_embeddings.image_location_embeddings.weight",
                                       "bert.v_embeddings.image_location_embeddings.bias",
                                       "bert.v_embeddings.image_embeddings.bias"};
    mmf_real *const image = case_tensor(module, "bert.v_embeddings.image_embeddings.weight")->data;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        const mmf_tensor *const t = mmf_params_find(mmf_module_params(module), none[i])->tensor;
        memset(t->data, 0, (size_t)t->count * sizeof *t->data);
    }
    for (int i = 0; i < WIDE * WIDE; i++)
        image[i] = i % (WIDE + 1) == 0;
    memcpy(case_tensor(module, "bert.embeddings.word_embeddings.weight")->data, words,
           STEPS * WIDE * sizeof *words);
    in[1].reals = regions;
}

/* Exchanging what goes into the streams and their weights exchanges what comes out of them: both
 * directions of a connection read the states before it. */
static void streams_may_be_exchanged(void **state)
{
    (void)state;
    static const char json[] =
        "{\"hidden_size\": 8, \"num_attention_heads\": 2, \"v_hidden_size\": 8, "
        "\"intermediate_size\": 6, \"v_intermediate_size\": 6, \"bi_hidden_size\": 8, "
        "\"num_hidden_layers\": 2, \"v_num_hidden_layers\": 2, \"v_num_attention_heads\": 2, "
        "\"bi_num_attention_heads\": 2, \"head\": \"pretraining\"}";
    mmf_ctx *const ctx = test_ctx();
    mmf_real x[STEPS * WIDE], y[STEPS * WIDE], box[STEPS * 5];
    int64_t tokens[STEPS] = {0, 1, 2}, length = STEPS;
    draw(x, STEPS * WIDE, 1);
    draw(y, STEPS * WIDE, 2);
    draw(box, STEPS * 5, 3);
    value in[] = {{"text", NULL, tokens, 2, {1, STEPS}},
                  {"vision", x, NULL, 3, {1, STEPS, WIDE}},
                  {"text.length", NULL, &length, 1, {1}},
                  {"vision.length", NULL, &length, 1, {1}},
                  {"vision.box", box, NULL, 3, {1, STEPS, 5}}};
    mmf_module *const a = make_sized(ctx, "vilbert", json, 0.3, STEPS, STEPS, WIDE);
    mmf_module *const b = make_sized(ctx, "vilbert", json, 0, STEPS, STEPS, WIDE);
    const mmf_params *const params = mmf_module_params(a);
    int n_exchanged = 0;
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        char name[120];
        if (!other_name(p->name, name, sizeof name))
            continue;
        memcpy(case_tensor(b, name)->data, p->tensor->data,
               (size_t)p->tensor->count * sizeof(mmf_real));
        n_exchanged++;
    }
    assert_true(n_exchanged > 100);
    put_vectors(a, in, y, x);
    const shown words = run(ctx, a, in, 5, "sequence.text", NULL);
    const shown regions = run(ctx, a, in, 5, "sequence.vision", NULL);
    assert_true(differs(&words, &regions));
    put_vectors(b, in, x, y);
    const shown turned_words = run(ctx, b, in, 5, "sequence.text", NULL);
    const shown turned_regions = run(ctx, b, in, 5, "sequence.vision", NULL);
    assert_same(&words, &turned_regions, 1e-5);
    assert_same(&regions, &turned_words, 1e-5);
    mmf_module_free(a);
    mmf_module_free(b);
    mmf_ctx_free(ctx);
}

/* UNITER's loss of hidden regions, and its gradient for the weight that embeds regions and, turned,
 * predicts them. */
static double hidden_region_loss(mmf_ctx *ctx, mmf_module *module, scene *s, mmf_real *gradient)
{
    int64_t masked[B * R] = {1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0};
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){.record = true});
    mmf_named_put(tape, &in, "text", mmf_input_ints(tape, s->tokens, 2, (int64_t[]){B, T}));
    mmf_named_put(tape, &in, "vision", mmf_input(tape, s->regions, 3, (int64_t[]){B, R, F}));
    mmf_named_put(tape, &in, "vision.masked", mmf_input_ints(tape, masked, 2, (int64_t[]){B, R}));
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    mmf_tensor *const loss = mmf_named_get(&out, "loss.mrfr");
    assert_non_null(loss);
    test_ok(ctx, mmf_tape_backward(tape, loss));
    const mmf_param *const w =
        mmf_params_find(mmf_module_params(module), "uniter.img_embeddings.img_linear.weight");
    memcpy(gradient, w->tensor->grad, (size_t)w->tensor->count * sizeof *gradient);
    const double found = (double)loss->data[0];
    mmf_tape_free(tape);
    return found;
}

/* Differences along the gradient find its length in square: both uses of the weight are in it. */
static void a_tied_weight_hears_both_uses(void **state)
{
    (void)state;
    enum { SIZE = 8 * F };
    mmf_ctx *const ctx = test_ctx();
    scene s;
    open_scene(&s, 7);
    mmf_module *const module = make_pair(ctx, "uniter", uniter_heads, 0.3);
    mmf_real *const w = case_tensor(module, "uniter.img_embeddings.img_linear.weight")->data;
    assert_ptr_equal(w, case_tensor(module, "feat_regress.weight")->data);
    mmf_real gradient[SIZE], unused[SIZE], start[SIZE];
    double square = 0, sides[2];
    memcpy(start, w, sizeof start);
    hidden_region_loss(ctx, module, &s, gradient);
    for (int i = 0; i < SIZE; i++)
        square += (double)gradient[i] * (double)gradient[i];
    const double h = 1e-2 / sqrt(square);
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < SIZE; i++)
            w[i] = start[i] + (mmf_real)((side ? h : -h) * (double)gradient[i]);
        sides[side] = hidden_region_loss(ctx, module, &s, unused);
    }
    assert_true(fabs((sides[1] - sides[0]) / (2 * h) / square - 1) < 1e-2);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void what_does_not_fit_is_said(void **state)
{
    (void)state;
    static const struct {
        const char *model, *option, *value, *wanted;
    } cases[] = {{"vilbert", "v_biattention_id", "0,1,2", "t_biattention_id 2"},
                 {"vilbert", "t_biattention_id", "1,0", "must rise"},
                 {"vilbert", "bi_num_attention_heads", "3", "not a multiple of 3 heads"},
                 {"vilbert", "head", "answers", "not tasks or pretraining"},
                 {"vilbert", "v_feature_size", "7", "has 6 features"},
                 {"vilbert", "hidden_act", "mish", "not gelu"},
                 {"uniter", "type_vocab_size", "1", "words and regions are two"},
                 {"uniter", "mask_token", "12", "there are 12 words"}};
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mmf_input_schema inputs[] = {
            {.name = "text", .kind = MMF_TOKENS, .n_dims = 1, .shape = {T}, .vocab_size = V},
            {.name = "vision", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {R, F}}};
        const mmf_schema schema = {2, inputs};
        mmf_config *config = NULL;
        mmf_module *module = NULL;
        test_ok(ctx, mmf_config_create(ctx, &config, mmf_model_find(cases[i].model)));
        test_ok(ctx, mmf_config_set(config, cases[i].option, cases[i].value));
        assert_true(mmf_module_create(ctx, &module, mmf_config_def(config), config, &schema, 1) !=
                    MMF_OK);
        if (!strstr(mmf_ctx_error(ctx), cases[i].wanted))
            fail_msg("%s: %s", cases[i].option, mmf_ctx_error(ctx));
        mmf_config_free(config);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hidden_tokens_keep_the_shares),
        cmocka_unit_test(exchanged_rows_are_those_of_others),
        cmocka_unit_test(what_was_compacted_comes_back),
        cmocka_unit_test(a_plan_has_the_marginals_of_its_points),
        cmocka_unit_test(equal_costs_spread_and_equal_points_meet),
        cmocka_unit_test(padding_reaches_nothing_else),
        cmocka_unit_test(connections_without_their_sums_are_two_streams),
        cmocka_unit_test(a_single_word_is_what_every_region_hears),
        cmocka_unit_test(streams_may_be_exchanged),
        cmocka_unit_test(a_tied_weight_hears_both_uses),
        cmocka_unit_test(what_does_not_fit_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
