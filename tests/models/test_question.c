/*
 * test_question.c: models that ask about regions: the counter's published number, and that padding
 * and the order of regions do not matter to them.
 */
#include <math.h>
#include <stdlib.h>

#include "mmfuse/model.h"
#include "models/counter.h"
#include "support.h"

enum { T = 4, R = 7, D = 5, VOCAB = 9, CLASSES = 3, MAX_R = 9, MAX_FOUND = 256 };

#define SAME 2e-5

/* ---- The counter ------------------------------------------------------------------------- */

static mmf_status build_counter(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                                void **self)
{
    (void)config, (void)inputs;
    mmf_counter *const counter = mmf_builder_alloc(b, sizeof *counter);
    if (!counter)
        return mmf_builder_status(b);
    *counter = mmf_counter_build(b, "counter", 3);
    *self = counter;
    return mmf_builder_status(b);
}

static void run_counter(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                        mmf_named *out)
{
    (void)step;
    mmf_named_put(tape, out, "count",
                  mmf_counter_run(tape, self, mmf_named_get(in, "box"), mmf_named_get(in, "score"),
                                  mmf_named_get(in, "mask")));
}

static const mmf_def counter_layer = {
    .name = "counter", .kind = MMF_KIND_LAYER, .build = build_counter, .run = run_counter};

/* Two identical boxes and one apart, all attended to: two objects. A fourth is not there. */
static void two_boxes_in_one_place_count_once(void **state)
{
    (void)state;
    static const double wanted[] = {0, 0.0000908, 0.9998638, 0};
    mmf_ctx *const ctx = test_ctx();
    mmf_module *module = NULL;
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    const mmf_schema none = {0};
    const mmf_step step = {0};
    test_ok(ctx, mmf_module_create(ctx, &module, &counter_layer, NULL, &none, 1));
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_real boxes[] = {0, 0, (mmf_real)0.4, (mmf_real)0.4, (mmf_real)0,   (mmf_real)0,   1, 1,
                        0, 0, (mmf_real)0.4, (mmf_real)0.4, (mmf_real)0.5, (mmf_real)0.5, 1, 1};
    mmf_real scores[] = {10, 99, 10, 10}, mask[] = {1, 0, 1, 1};
    mmf_named_put(tape, &in, "box", mmf_input(tape, boxes, 3, (int64_t[]){1, 4, 4}));
    mmf_named_put(tape, &in, "score", mmf_input(tape, scores, 2, (int64_t[]){1, 4}));
    mmf_named_put(tape, &in, "mask", mmf_input(tape, mask, 2, (int64_t[]){1, 4}));
    mmf_module_run(module, tape, &in, &step, &out);
    test_ok(ctx, mmf_tape_status(tape));
    const mmf_tensor *const count = mmf_named_get(&out, "count");
    assert_int_equal(count->count, 4);
    for (int i = 0; i < 4; i++)
        assert_true(fabs((double)count->data[i] - wanted[i]) < 2e-6);
    mmf_tape_free(tape);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* ---- Models ------------------------------------------------------------------------------ */

typedef struct sample {
    int64_t words[T], n_regions;
    mmf_real regions[MAX_R * D], boxes[MAX_R * 4];
} sample;

static sample random_sample(void)
{
    sample s = {.words = {3, 1, 8, 2}, .n_regions = R};
    mmf_rng rng = mmf_rng_make(5, 2);
    for (int i = 0; i < R * D; i++)
        s.regions[i] = (mmf_real)mmf_rng_normal(&rng);
    for (int i = 0; i < R; i++) {
        for (int c = 0; c < 2; c++) {
            s.boxes[4 * i + c] = (mmf_real)(0.5 * mmf_rng_uniform(&rng));
            s.boxes[4 * i + 2 + c] = s.boxes[4 * i + c] + (mmf_real)(0.5 * mmf_rng_uniform(&rng));
        }
    }
    return s;
}

static mmf_module *make(mmf_ctx *ctx, const char *model, const char *json, int64_t n_regions)
{
    mmf_input_schema inputs[] = {
        {.name = "text", .kind = MMF_TOKENS, .n_dims = 1, .shape = {T}, .vocab_size = VOCAB},
        {.name = "vision", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {n_regions, D}}};
    const mmf_schema schema = {2, inputs};
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    test_ok(ctx, mmf_config_create(ctx, &config, mmf_model_find(model)));
    test_ok(ctx, mmf_config_set_json(config, json));
    test_ok(ctx, mmf_config_set(config, "num_classes", "3"));
    test_ok(ctx, mmf_module_create(ctx, &module, mmf_config_def(config), config, &schema, 5));
    mmf_config_free(config);
    return module;
}

static mmf_tensor *tensor_of(mmf_module *module, const char *name)
{
    const mmf_param *const p = mmf_params_find(mmf_module_params(module), name);
    if (!p)
        fail_msg("there is no parameter %s", name);
    return p ? p->tensor : NULL;
}

/* @return how many numbers the output has */
static int64_t run_for(mmf_ctx *ctx, mmf_module *module, sample *s, const char *name, double *found)
{
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    const mmf_step step = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_named_put(tape, &in, "text", mmf_input_ints(tape, s->words, 2, (int64_t[]){1, T}));
    mmf_named_put(tape, &in, "vision",
                  mmf_input(tape, s->regions, 3, (int64_t[]){1, s->n_regions, D}));
    mmf_named_put(tape, &in, "vision.box",
                  mmf_input(tape, s->boxes, 3, (int64_t[]){1, s->n_regions, 4}));
    mmf_module_run(module, tape, &in, &step, &out);
    test_ok(ctx, mmf_tape_status(tape));
    const mmf_tensor *const y = mmf_named_get(&out, name);
    assert_non_null(y);
    assert_true(y->count <= MAX_FOUND);
    for (int64_t i = 0; i < y->count; i++) {
        assert_true(isfinite(y->data[i]));
        found[i] = (double)y->data[i];
    }
    const int64_t count = y->count;
    mmf_tape_free(tape);
    return count;
}

static void run(mmf_ctx *ctx, mmf_module *module, sample *s, double *logits)
{
    double found[MAX_FOUND];
    assert_int_equal(run_for(ctx, module, s, "logits", found), CLASSES);
    memcpy(logits, found, CLASSES * sizeof *logits);
}

static bool same(const double *a, const double *b)
{
    for (int i = 0; i < CLASSES; i++) {
        if (fabs(a[i] - b[i]) > SAME)
            return false;
    }
    return true;
}

#define SMALL_BAN "\"num_hid\": 4, \"embedding_dim\": 3"
#define SMALL_MCAN                                                                                 \
    "{\"hidden_size\": 4, \"multi_head\": 2, \"ff_size\": 6, \"flat_mlp_size\": 5, "               \
    "\"flat_out_size\": 6, \"word_embed_size\": 3}"

static const struct {
    const char *model, *json;
    bool masks_regions;
} models[] = {
    {"mcan", SMALL_MCAN, true},
    {"ban", "{" SMALL_BAN "}", true},
    {"ban", "{" SMALL_BAN ", \"objects\": 3, \"ntoken\": 9, \"op\": \"c\"}", true},
    {"butd", "{" SMALL_BAN "}", false},
    {"butd", "{" SMALL_BAN ", \"attention\": \"baseline0\", \"ntoken\": 9}", false},
};

static void swap(mmf_real *x, int64_t width, int64_t a, int64_t b)
{
    for (int64_t i = 0; i < width; i++) {
        const mmf_real kept = x[a * width + i];
        x[a * width + i] = x[b * width + i];
        x[b * width + i] = kept;
    }
}

static void regions_are_a_set(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        sample s = random_sample();
        double before[CLASSES], permuted[CLASSES], words[CLASSES], moved[CLASSES];
        mmf_module *const module = make(ctx, models[i].model, models[i].json, R);
        run(ctx, module, &s, before);
        swap(s.regions, D, 1, 5);
        swap(s.boxes, 4, 1, 5);
        run(ctx, module, &s, permuted);
        s.words[0] = 1;
        s.words[1] = 3;
        run(ctx, module, &s, words);
        s.regions[3] += 2;
        run(ctx, module, &s, moved);
        if (!same(before, permuted) || same(before, words) || same(words, moved))
            fail_msg("%s: order of regions, of words, or a region itself", models[i].model);
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

static void regions_of_zeros_are_padding(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        sample s = random_sample();
        double few[CLASSES], padded[CLASSES], none[CLASSES];
        mmf_module *const a = make(ctx, models[i].model, models[i].json, R);
        mmf_module *const b = make(ctx, models[i].model, models[i].json, MAX_R);
        run(ctx, a, &s, few);
        s.n_regions = MAX_R;
        run(ctx, b, &s, padded);
        if (same(few, padded) != models[i].masks_regions)
            fail_msg("%s: regions of zeros", models[i].model);
        memset(s.regions, 0, sizeof s.regions);
        run(ctx, b, &s, none); /* finite */
        mmf_module_free(a);
        mmf_module_free(b);
    }
    mmf_ctx_free(ctx);
}

/* Weights of a glimpse sum to 1 over all pairs of a region and a word, and padding has none. */
static void a_glimpse_is_one_over_all_pairs(void **state)
{
    (void)state;
    enum { N_VALID = R };
    mmf_ctx *const ctx = test_ctx();
    sample s = random_sample();
    double a[MAX_FOUND];
    s.n_regions = MAX_R;
    mmf_module *const module =
        make(ctx, "ban", "{" SMALL_BAN ", \"ntoken\": 9, \"glimpse\": 3}", MAX_R);
    assert_int_equal(run_for(ctx, module, &s, "attention", a), 3 * MAX_R * T);
    for (int g = 0; g < 3; g++) {
        double sum = 0;
        for (int i = 0; i < MAX_R * T; i++) {
            const double weight = a[g * MAX_R * T + i];
            assert_true(i / T < N_VALID ? weight > 0 : weight == 0);
            sum += weight;
        }
        assert_true(fabs(sum - 1) < 1e-5);
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Sets a weight-normed layer to the identity, with a bias. */
static void make_identity(mmf_module *module, const char *name, double bias)
{
    char part[64];
    snprintf(part, sizeof part, "%s.weight_v", name);
    mmf_tensor *const v = tensor_of(module, part);
    for (int64_t i = 0; i < v->count; i++)
        v->data[i] = i / v->shape[1] == i % v->shape[1];
    snprintf(part, sizeof part, "%s.weight_g", name);
    tensor_of(module, part)->data[0] = (mmf_real)sqrt((double)v->shape[0]);
    snprintf(part, sizeof part, "%s.bias", name);
    mmf_tensor *const b = tensor_of(module, part);
    for (int64_t i = 0; i < b->count; i++)
        b->data[i] = (mmf_real)bias;
}

/* With one glimpse and identities for weights, what is pooled is f = diag(V' A Q); where the map is
 * a b', ordinary co-attention: (V' a) * (Q' b). Values are above 0, where ReLU is not there. */
static void a_glimpse_pools_pairs(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    sample s = random_sample();
    double a[MAX_FOUND] = {0}, fused[MAX_FOUND] = {0}, q[T][D];
    for (int i = 0; i < R * D; i++)
        s.regions[i] = (mmf_real)(0.1 + fabs((double)s.regions[i]));
    mmf_module *const module = make(
        ctx, "ban", "{\"num_hid\": 5, \"embedding_dim\": 3, \"ntoken\": 9, \"glimpse\": 1}", R);
    static const char *const silent[] = {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0",
                                         "bias_hh_l0"};
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "q_emb.rnn.%s", silent[i]);
        mmf_tensor *const t = tensor_of(module, name);
        memset(t->data, 0, (size_t)t->count * sizeof *t->data);
    }
    /* Gates of one half: h_t = n (1 - 2^-t), n the tanh of the last third of the bias. */
    for (int k = 0; k < D; k++) {
        const double n = 0.2 + 0.1 * k;
        tensor_of(module, "q_emb.rnn.bias_ih_l0")->data[2 * D + k] = (mmf_real)atanh(n);
        for (int t = 0; t < T; t++)
            q[t][k] = n * (1 - pow(0.5, t + 1));
    }
    make_identity(module, "b_net.0.v_net.main.1", 0);
    make_identity(module, "b_net.0.q_net.main.1", 0);
    make_identity(module, "q_prj.0.main.1", 0);
    for (int even = 0; even < 2; even++) {
        if (even) /* no logits but the bias: a map of equal weights, a = 1 / R and b = 1 / T */
            tensor_of(module, "v_att.logits.h_mat_g")->data[0] = 0;
        assert_int_equal(run_for(ctx, module, &s, "attention", a), R * T);
        assert_int_equal(run_for(ctx, module, &s, "feature_fusion", fused), D);
        for (int k = 0; k < D; k++) {
            double f = 0, mean_v = 0, mean_q = 0, states = 0;
            for (int i = 0; i < R * T; i++)
                f += a[i] * (double)s.regions[i / T * D + k] * q[i % T][k];
            for (int r = 0; r < R; r++)
                mean_v += (double)s.regions[r * D + k] / R;
            for (int t = 0; t < T; t++) {
                mean_q += q[t][k] / T;
                states += q[t][k];
            }
            assert_true(fabs(fused[k] - (states + T * f)) < 1e-5);
            assert_true((fabs(f - mean_v * mean_q) < 1e-6) == even);
        }
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* An image of zeros has no region: MCAN attends to all alike, which among equal regions is what it
 * does to an image of next to nothing; so does what reads regions of zeros; BAN to none. */
static void an_image_of_zeros_is_read_evenly(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    sample zeros = random_sample(), faint = zeros;
    memset(zeros.regions, 0, sizeof zeros.regions);
    for (int i = 0; i < R * D; i++)
        faint.regions[i] = (mmf_real)1e-20;
    double a[CLASSES], b[CLASSES], weights[MAX_FOUND];
    mmf_module *module = make(ctx, "mcan", SMALL_MCAN, R);
    run(ctx, module, &zeros, a);
    run(ctx, module, &faint, b);
    assert_true(same(a, b));
    mmf_module_free(module);
    for (size_t i = 1; i < sizeof models / sizeof *models; i++) {
        if (models[i].masks_regions && strstr(models[i].json, "objects"))
            continue; /* it counts boxes too */
        module = make(ctx, models[i].model, models[i].json, R);
        const int64_t n = run_for(ctx, module, &zeros, "attention", weights);
        for (int64_t e = 0; e < n; e++)
            assert_true(fabs(weights[e] - (models[i].masks_regions ? 0 : 1.0 / R)) < 1e-6);
        run(ctx, module, &zeros, a); /* finite */
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

/* An option of the paper's name that contradicts the task is refused: what is read of a result is
 * what the task has. */
static void answers_are_those_of_the_task(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"mcan", "answer_size"}, {"butd", "num_ans_candidates"}, {"ban", "num_ans_candidates"}};
    mmf_ctx *const ctx = test_ctx();
    mmf_input_schema inputs[] = {
        {.name = "text", .kind = MMF_TOKENS, .n_dims = 1, .shape = {T}, .vocab_size = VOCAB},
        {.name = "vision", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {R, D}}};
    const mmf_schema schema = {2, inputs};
    for (size_t i = 0; i < 2 * sizeof names / sizeof *names; i++) {
        const char *const *const name = names[i / 2];
        mmf_config *config = NULL;
        mmf_module *module = NULL;
        test_ok(ctx, mmf_config_create(ctx, &config, mmf_model_find(name[0])));
        test_ok(ctx, mmf_config_set(config, "num_classes", "3"));
        test_ok(ctx, mmf_config_set(config, name[1], i % 2 ? "3" : "5"));
        const mmf_status status =
            mmf_module_create(ctx, &module, mmf_config_def(config), config, &schema, 1);
        if (i % 2)
            test_ok(ctx, status);
        else
            test_fails(ctx, status, MMF_ARG, "but the task has 3 outputs");
        mmf_module_free(module);
        mmf_config_free(config);
    }
    mmf_ctx_free(ctx);
}

static void a_counter_without_boxes_says_so(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    sample s = random_sample();
    mmf_module *const module = make(ctx, "ban", models[2].json, R);
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    const mmf_step step = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_named_put(tape, &in, "text", mmf_input_ints(tape, s.words, 2, (int64_t[]){1, T}));
    mmf_named_put(tape, &in, "vision", mmf_input(tape, s.regions, 3, (int64_t[]){1, R, D}));
    mmf_module_run(module, tape, &in, &step, &out);
    test_fails(ctx, mmf_tape_status(tape), MMF_ARG, "needs an input vision.box");
    mmf_tape_free(tape);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_boxes_in_one_place_count_once),
        cmocka_unit_test(regions_are_a_set),
        cmocka_unit_test(regions_of_zeros_are_padding),
        cmocka_unit_test(a_glimpse_is_one_over_all_pairs),
        cmocka_unit_test(a_glimpse_pools_pairs),
        cmocka_unit_test(an_image_of_zeros_is_read_evenly),
        cmocka_unit_test(answers_are_those_of_the_task),
        cmocka_unit_test(a_counter_without_boxes_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
