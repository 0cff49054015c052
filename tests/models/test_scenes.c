/*
 * test_scenes.c: graphs of tokens and numbers in a picture, and of the subjects of a study: who
 * hears whom.
 */
#include "models/layer_case.h"

enum { B = 2 };

/* ---- Tokens and numbers ------------------------------------------------------------------ */

enum { T = 5, O = 3, D = 4, Q = 3, BOX = 4, WORDS = 3 };

typedef struct scene {
    mmf_real question[B * Q], token[B * T * D], token_box[B * T * BOX];
    mmf_real vision[B * O * D], vision_box[B * O * BOX];
    int64_t length[B];
    value in[6];
} scene;

static void make_scene(scene *s)
{
    draw(s->question, B * Q, 1);
    draw(s->token, B * T * D, 2);
    draw(s->token_box, B * T * BOX, 3);
    draw(s->vision, B * O * D, 4);
    draw(s->vision_box, B * O * BOX, 5);
    s->length[0] = 4;
    s->length[1] = 1;
    const value in[6] = {{"question", s->question, NULL, 2, {B, Q}},
                         {"token", s->token, NULL, 3, {B, T, D}},
                         {"token.box", s->token_box, NULL, 3, {B, T, BOX}},
                         {"vision", s->vision, NULL, 3, {B, O, D}},
                         {"vision.box", s->vision_box, NULL, 3, {B, O, BOX}},
                         {"token.length", NULL, s->length, 1, {B}}};
    memcpy(s->in, in, sizeof in);
}

static const char small_scene[] =
    "{\"K\": 2, \"inter_dim\": 3, \"box_dim\": 3, \"image_hidden\": 4, \"context_hidden\": 4, "
    "\"output_inter_dim\": 4, \"vocabulary\": 3}";

static void tokens_hear_others_and_padding_nothing(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    scene s;
    make_scene(&s);
    mmf_module *const module = make(ctx, "mm-gnn", small_scene, s.in, 5);
    const shown a = run(ctx, module, s.in, 6, "attention.ss", NULL);
    const shown copies = run(ctx, module, s.in, 6, "attention.token", NULL);
    for (int64_t b = 0; b < B; b++) {
        for (int64_t i = 0; i < T; i++) {
            const double *const row = a.values + (b * T + i) * T;
            double sum = 0;
            for (int64_t j = 0; j < T; j++) {
                sum += row[j];
                assert_true(j < s.length[b] || row[j] == 0);
            }
            assert_true(fabs(sum - (i < s.length[b] ? 1 : 0)) < 1e-5);
            assert_true(row[i] == (b == 1 && i == 0 ? 1 : 0)); /* a single token hears itself */
            assert_true(i < s.length[b] || copies.values[b * T + i] == 0);
        }
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void copies_follow_their_tokens(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    scene s;
    make_scene(&s);
    s.length[0] = s.length[1] = T;
    static const int64_t order[T] = {3, 0, 4, 2, 1};
    mmf_module *const module = make(ctx, "mm-gnn", small_scene, s.in, 5);
    const shown before = run(ctx, module, s.in, 6, "score", NULL);
    const scene old = s;
    for (int64_t b = 0; b < B; b++) {
        for (int64_t t = 0; t < T; t++) {
            memcpy(s.token + (b * T + t) * D, old.token + (b * T + order[t]) * D,
                   D * sizeof *s.token);
            memcpy(s.token_box + (b * T + t) * BOX, old.token_box + (b * T + order[t]) * BOX,
                   BOX * sizeof *s.token_box);
        }
    }
    const shown after = run(ctx, module, s.in, 6, "score", NULL);
    for (int64_t b = 0; b < B; b++) {
        for (int64_t k = 0; k < WORDS + T; k++) {
            const int64_t from = k < WORDS ? k : WORDS + order[k - WORDS];
            const double wanted = before.values[b * (WORDS + T) + from];
            assert_true(fabs(after.values[b * (WORDS + T) + k] - wanted) <
                        1e-4 * fmax(1, fabs(wanted)));
        }
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void forget(mmf_module *module, const char *name)
{
    const mmf_param *const p = mmf_params_find(mmf_module_params(module), name);
    if (!p)
        fail_msg("there is no parameter %s", name);
    memset(p->tensor->data, 0, (size_t)p->tensor->count * sizeof(mmf_real));
}

/* A question of zeros opens every message to tokens alike, whatever its weights: as a projection of
 * zeros does to any question. Regions then hear nothing but a bias. */
static void a_question_of_zeros_is_an_even_gate(void **state)
{
    (void)state;
    static const char json[] = "{\"stage\": \"vs\", \"K\": 2, \"inter_dim\": 3, \"box_dim\": 3}";
    mmf_ctx *const ctx = test_ctx();
    scene s;
    make_scene(&s);
    mmf_real asked[B * Q], *const question = s.question;
    memcpy(asked, question, sizeof asked);
    mmf_module *const module = make(ctx, "mm-gnn", json, s.in, 5);
    mmf_params *const params = mmf_module_params(module);
    forget(module, "si_gnn.output_proj2.layers.0.bias");
    const shown other = run(ctx, module, s.in, 6, "token", NULL);
    memset(question, 0, sizeof asked);
    const shown zeros = run(ctx, module, s.in, 6, "token", NULL);
    const shown regions = run(ctx, module, s.in, 6, "vision", NULL);
    assert_true(differs(&other, &zeros));
    for (int64_t i = 0; i < regions.count; i++)
        assert_true(fabs(regions.values[i] - (double)s.vision[i]) < 1e-6);
    mmf_params_find(params, "si_gnn.l_proj2.lc.weight_g")->tensor->data[0] = 9;
    const shown louder = run(ctx, module, s.in, 6, "token", NULL);
    assert_same(&zeros, &louder, 0);
    memcpy(question, asked, sizeof asked);
    forget(module, "si_gnn.l_proj2.lc.weight_g");
    const shown even = run(ctx, module, s.in, 6, "token", NULL);
    assert_same(&zeros, &even, 1e-6);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* A large bias towards copies makes every answer one. */
static void a_large_bias_copies(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    scene s;
    make_scene(&s);
    mmf_module *const module = make(ctx, "mm-gnn", small_scene, s.in, 5);
    mmf_tensor *const bias = case_tensor(module, "output.bias.layers.0.bias");
    for (int copies = 0; copies < 2; copies++) {
        bias->data[0] = copies ? 1000 : -1000; /* behind a ReLU: at least 0 */
        const shown y = run(ctx, module, s.in, 6, "score", NULL);
        const shown beta = run(ctx, module, s.in, 6, "bias", NULL);
        for (int64_t b = 0; b < B; b++) {
            const double *const row = y.values + b * (WORDS + T);
            int64_t best = 0;
            for (int64_t k = 1; k < WORDS + T; k++)
                best = row[k] > row[best] ? k : best;
            assert_true(copies ? beta.values[b] > 900 : beta.values[b] == 0);
            assert_true(!copies || (best >= WORDS && best < WORDS + s.length[b]));
        }
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Where content says nothing, a number hears the token nearest to it most. */
static void the_nearest_token_weighs_most(void **state)
{
    (void)state;
    enum { SLOTS = 4 };
    static const model_case row = {"scene",
                                   6,
                                   {{"question", MMF_VECTOR, {4}, 0},
                                    {"token", MMF_SEQUENCE, {SLOTS, 3}, 0},
                                    {"token_box", MMF_SEQUENCE, {SLOTS, 4}, 0},
                                    {"vision", MMF_SEQUENCE, {3, 3}, 0},
                                    {"vision_box", MMF_SEQUENCE, {3, 4}, 0},
                                    {"number", MMF_SEQUENCE, {SLOTS, 2}, 0}},
                                   false,
                                   false};
    mmf_ctx *const ctx = test_ctx();
    case_data data;
    case_open(&data, &row, 3);
    mmf_config *const config = case_config(ctx, mmf_model_find("mm-gnn"), "classification");
    mmf_module *module = NULL;
    test_ok(ctx, mmf_config_set(config, "num_classes", "6"));
    test_ok(ctx,
            mmf_module_create(ctx, &module, mmf_model_find("mm-gnn"), config, &data.schema, 1));
    forget(module, "sn_gnn.number.weight_g");
    forget(module, "sn_gnn.number.bias");
    const shown a = run_model(ctx, module, &data, &(mmf_step){0}, "attention.sn");
    for (int64_t i = 0; i < CASE_ROWS * SLOTS; i++) {
        const mmf_real *const boxes = data.values[2] + i / SLOTS * SLOTS * BOX;
        const mmf_real *const own = boxes + i % SLOTS * BOX;
        int64_t nearest = -1, heaviest = 0;
        double least = INFINITY;
        for (int64_t j = 0; j < SLOTS; j++) {
            const mmf_real *const box = boxes + j * BOX;
            const double dx = (double)(own[0] + own[2] - box[0] - box[2]);
            const double dy = (double)(own[1] + own[3] - box[1] - box[3]);
            if (j != i % SLOTS && dx * dx + dy * dy < least) {
                least = dx * dx + dy * dy;
                nearest = j;
            }
            heaviest = a.values[i * SLOTS + j] > a.values[i * SLOTS + heaviest] ? j : heaviest;
        }
        assert_int_equal(heaviest, nearest);
    }
    mmf_module_free(module);
    mmf_config_free(config);
    case_close(&data);
    mmf_ctx_free(ctx);
}

/* ---- Subjects ---------------------------------------------------------------------------- */

static const model_case study = {"vectors", 2, CASE_VECTORS, false, false};

static double filled(mmf_module *module)
{
    const mmf_tensor *const t = case_tensor(module, "anchor.filled");
    double sum = 0;
    for (int64_t i = 0; i < t->count; i++)
        sum += (double)t->data[i];
    return sum;
}

static mmf_module *population(mmf_ctx *ctx, const case_data *data, const char *anchors,
                              const char *order)
{
    mmf_config *const config =
        case_config(ctx, mmf_model_find("population-graph"), "classification");
    mmf_module *module = NULL;
    test_ok(ctx, mmf_config_set(config, "anchors", anchors));
    test_ok(ctx, mmf_config_set(config, "order", order));
    test_ok(ctx, mmf_module_create(ctx, &module, mmf_model_find("population-graph"), config,
                                   &data->schema, 1));
    mmf_config_free(config);
    return module;
}

/* Rows are kept in the first epoch while there is room, and stay as they are. */
static void subjects_are_kept_once(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_data first, second;
    case_open(&first, &study, 1);
    case_open(&second, &study, 2);
    mmf_module *const module = population(ctx, &first, "6", "3");
    const mmf_tensor *const kept = case_tensor(module, "anchor.a");
    assert_true(filled(module) == 0);
    run_model(ctx, module, &first, &(mmf_step){.training = true}, "logits");
    assert_true(filled(module) == CASE_ROWS);
    assert_memory_equal(kept->data, first.values[0],
                        (size_t)(CASE_ROWS * first.row_size[0]) * sizeof(mmf_real));
    run_model(ctx, module, &second, &(mmf_step){.training = true}, "logits");
    assert_true(filled(module) == 6);
    assert_memory_equal(kept->data + CASE_ROWS * first.row_size[0], second.values[0],
                        (size_t)(2 * first.row_size[0]) * sizeof(mmf_real));
    mmf_real before[64];
    assert_true(kept->count <= 64);
    memcpy(before, kept->data, (size_t)kept->count * sizeof *before);
    run_model(ctx, module, &second, &(mmf_step){.training = true, .epoch = 1}, "logits");
    run_model(ctx, module, &second, &(mmf_step){0}, "logits");
    assert_memory_equal(before, kept->data, (size_t)kept->count * sizeof *before);
    mmf_module_free(module);
    case_close(&first);
    case_close(&second);
    mmf_ctx_free(ctx);
}

/* A new subject hears kept ones but not itself among them; with one order it hears nobody. */
static void subjects_hear_others(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    case_data old, new;
    case_open(&old, &study, 3);
    case_open(&new, &study, 4);
    for (int order = 1; order < 4; order += 2) {
        mmf_module *const module = population(ctx, &old, "4", order == 1 ? "1" : "3");
        const shown alone = run_model(ctx, module, &new, &(mmf_step){0}, "logits");
        run_model(ctx, module, &old, &(mmf_step){.training = true}, "logits");
        const shown among = run_model(ctx, module, &new, &(mmf_step){0}, "logits");
        assert_true(differs(&alone, &among) == (order > 1));
        mmf_module_free(module);
    }
    /* The only kept subject is the one that is asked about: as if nobody were kept. */
    case_data one;
    const int64_t row = 2;
    case_select(&one, &old, &row, 1, -1);
    mmf_module *const module = population(ctx, &old, "1", "3");
    const shown alone = run_model(ctx, module, &one, &(mmf_step){0}, "logits");
    run_model(ctx, module, &one, &(mmf_step){.training = true}, "logits");
    assert_true(filled(module) == 1);
    const shown itself = run_model(ctx, module, &one, &(mmf_step){0}, "logits");
    assert_same(&alone, &itself, 1e-6);
    mmf_module_free(module);
    case_close(&one);
    case_close(&old);
    case_close(&new);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_hear_others_and_padding_nothing),
        cmocka_unit_test(copies_follow_their_tokens),
        cmocka_unit_test(a_question_of_zeros_is_an_even_gate),
        cmocka_unit_test(a_large_bias_copies),
        cmocka_unit_test(the_nearest_token_weighs_most),
        cmocka_unit_test(subjects_are_kept_once),
        cmocka_unit_test(subjects_hear_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
