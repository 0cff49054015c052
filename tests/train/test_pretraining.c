/*
 * test_pretraining.c: training without a target: it finds out what it hides, its file holds a model
 * that another training begins with, and what cannot be is said.
 */
#include <math.h>

#include "train/model_parts.h"
#include "train/training_data.h"

enum { N = 96, T = 4, R = 3, KINDS = 4, F = 6, CLASSES = KINDS + 1 };

/* Captions name what the regions show, in their order. */
typedef struct captions {
    int32_t text[N * T], label[N];
    float regions[N * R * F], target[N * R * CLASSES], box[N * R * 4];
    builder b;
} captions;

static captions *captions_make(bool with_label)
{
    captions *const c = calloc(1, sizeof *c);
    assert_non_null(c);
    mmf_rng rng = mmf_rng_make(2, mmf_rng_stream("captions"));
    for (int i = 0; i < N * R; i++) {
        const int kind = (int)mmf_rng_below(&rng, KINDS);
        for (int f = 0; f < F; f++)
            c->regions[i * F + f] = (float)((f == kind) + 0.1 * mmf_rng_normal(&rng));
        for (int k = 0; k < CLASSES; k++)
            c->target[i * CLASSES + k] = k == kind + 1 ? 0.8f : 0.05f;
        for (int k = 0; k < 4; k++)
            c->box[i * 4 + k] = (float)(0.2 * (i % R) + (k > 1 ? 0.3 : 0));
        c->text[i / R * T + 1 + i % R] = 2 + kind;
        c->label[i / R] = i % R == 0 ? kind : c->label[i / R];
    }
    for (int i = 0; i < N; i++)
        c->text[i * T] = 1;
    put(&c->b, "text", ints(c->text, N, T));
    put(&c->b, "vision", floats(c->regions, N, R, F, 0));
    put(&c->b, "vision.target", floats(c->target, N, R, CLASSES, 0));
    put(&c->b, "vision.box", floats(c->box, N, R, 4, 0));
    if (with_label)
        put(&c->b, "label", ints(c->label, N, 0));
    return c;
}

static mmf_dataset *open_captions(mmf_ctx *ctx, bool with_label, const char *task)
{
    captions *const c = captions_make(with_label);
    const mmf_dataset_options o = options_of(NULL, "text=tokens", NULL, task);
    mmf_dataset *const ds = open_built(ctx, &c->b, &o);
    free(c);
    return ds;
}

static mmf_config *small_config(mmf_ctx *ctx, const char *model)
{
    mmf_config *config = NULL;
    test_ok(ctx, mmf_config_create(ctx, &config, mmf_model_find(model)));
    test_ok(ctx,
            mmf_config_set_json(config, "{\"hidden_size\": 16, \"num_attention_heads\": 2, "
                                        "\"num_hidden_layers\": 1, \"special_tokens\": [0, 1], "
                                        "\"mask_rate\": 0.3, \"hidden_dropout_prob\": 0, "
                                        "\"attention_probs_dropout_prob\": 0}"));
    if (strcmp(model, "vilbert") == 0)
        test_ok(ctx, mmf_config_set_json(
                         config, "{\"v_hidden_size\": 16, \"bi_hidden_size\": 16, "
                                 "\"v_num_attention_heads\": 2, \"bi_num_attention_heads\": 2, "
                                 "\"v_num_hidden_layers\": 1, \"global_region\": \"add\"}"));
    return config;
}

static mmf_model *train_on(mmf_ctx *ctx, mmf_dataset *ds, const char *model, int64_t epochs,
                           const char *weights)
{
    mmf_train_options options = quick_options(epochs, 16);
    mmf_config *const config = small_config(ctx, model);
    simple_split split;
    mmf_model *trained = NULL;
    options.weights = weights;
    options.optimizer.lr = 3e-3;
    test_ok(ctx, mmf_train(ctx, &trained, ds, data_split(&split, 80, 16), model, config, &options));
    mmf_config_free(config);
    return trained;
}

static double loss_of(mmf_ctx *ctx, mmf_model *model, mmf_dataset *ds)
{
    int64_t rows[N];
    double losses[N];
    mmf_metrics metrics = {0};
    for (int64_t i = 0; i < N; i++)
        rows[i] = i;
    test_ok(ctx, mmf_model_predict_rows(model, ds, rows, N, MMF_ALL_MODALITIES, losses));
    test_ok(ctx, mmf_task_score(ctx, &metrics, mmf_model_task(model), ds, rows, N, losses));
    return mmf_metrics_get(&metrics, "loss");
}

static void a_model_finds_out_what_it_hides(void **state)
{
    (void)state;
    static const char *const models[] = {"vilbert", "uniter"};
    /* Two streams need far more pairs than these before they meet. */
    static const double shares[] = {0.95, 0.85};
    mmf_ctx *const ctx = one_thread();
    for (size_t i = 0; i < 2; i++) {
        mmf_dataset *const ds = open_captions(ctx, i == 1, "pretraining");
        assert_int_equal(mmf_dataset_target_kind(ds), MMF_TARGET_PRETRAINING);
        mmf_model *const begun = train_on(ctx, ds, models[i], 1, NULL);
        mmf_model *const trained = train_on(ctx, ds, models[i], TEST_SAMPLE ? 3 : 150, NULL);
        mmf_model *const again = train_on(ctx, ds, models[i], TEST_SAMPLE ? 3 : 150, NULL);
        const double before = loss_of(ctx, begun, ds), after = loss_of(ctx, trained, ds);
        if (!(after < (TEST_SAMPLE ? 1 : shares[i]) * before))
            fail_msg("%s: the loss was %g after one epoch and %g in the end", models[i], before,
                     after);
        assert_true(loss_of(ctx, again, ds) == after); /* draws depend on the seed alone */
        mmf_model *loaded = NULL;
        test_ok(ctx, mmf_model_save(trained, test_path("pretrained.mmf")));
        test_ok(ctx, mmf_model_load(ctx, &loaded, test_path("pretrained.mmf")));
        assert_int_equal(mmf_model_task(loaded)->kind, MMF_TARGET_PRETRAINING);
        assert_true(loss_of(ctx, loaded, ds) == after);
        mmf_model_free(loaded);
        mmf_model_free(again);
        mmf_model_free(trained);
        mmf_model_free(begun);
        mmf_dataset_close(ds);
    }
    mmf_ctx_free(ctx);
}

static void another_training_begins_with_it(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *const plain = open_captions(ctx, false, "pretraining");
    mmf_model *const pretrained = train_on(ctx, plain, "uniter", 2, NULL);
    mmf_dataset_close(plain);
    test_ok(ctx, mmf_model_save(pretrained, test_path("pretrained.mmf")));
    mmf_dataset *const ds = open_captions(ctx, true, NULL);
    mmf_train_options options = quick_options(1, 16);
    mmf_config *const config = small_config(ctx, "uniter");
    simple_split split;
    mmf_model *tuned = NULL;
    options.weights = test_path("pretrained.mmf");
    options.optimizer.lr = 1e-12; /* what it began with is what is left */
    test_ok(ctx,
            mmf_train(ctx, &tuned, ds, data_split(&split, 80, 16), "uniter", config, &options));
    const char *const name = "uniter.encoder.layer.0.intermediate.dense.weight";
    const mmf_tensor *const a =
        mmf_params_find(mmf_module_params(mmf_model_module(pretrained)), name)->tensor;
    const mmf_tensor *const b =
        mmf_params_find(mmf_module_params(mmf_model_module(tuned)), name)->tensor;
    for (int64_t i = 0; i < a->count; i++)
        assert_true(fabs((double)a->data[i] - (double)b->data[i]) < 1e-6);
    assert_non_null(
        mmf_params_find(mmf_module_params(mmf_model_module(tuned)), "vqa_output.3.weight"));
    mmf_model_free(tuned);
    mmf_config *other = NULL;
    test_ok(ctx, mmf_config_create(ctx, &other, mmf_model_find("uniter")));
    test_ok(ctx, mmf_config_set(other, "num_attention_heads", "1"));
    test_ok(ctx, mmf_model__take_options(ctx, other, options.weights));
    assert_int_equal(mmf_config_int(other, "hidden_size"), 16);        /* the file's */
    assert_int_equal(mmf_config_int(other, "num_attention_heads"), 1); /* what was set stays */
    mmf_config_free(other);
    other = small_config(ctx, "vilbert");
    test_ok(ctx, mmf_model__take_options(ctx, other, options.weights)); /* of another model */
    options.weights = test_path("built.npz");
    assert_true(mmf_train(ctx, &tuned, ds, data_split(&split, 80, 16), "uniter", config,
                          &options) != MMF_OK);
    mmf_config_free(other);
    mmf_config_free(config);
    mmf_dataset_close(ds);
    mmf_model_free(pretrained);
    mmf_ctx_free(ctx);
}

static void only_some_models_learn_without_a_target(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_dataset *const ds = open_captions(ctx, true, "pretraining");
    const mmf_train_options options = quick_options(1, 16);
    simple_split split;
    mmf_model *model = NULL;
    test_fails(
        ctx, mmf_train(ctx, &model, ds, data_split(&split, 80, 16), "joint-concat", NULL, &options),
        MMF_UNSUPPORTED, "vilbert and uniter can be pre-trained");
    mmf_dataset_close(ds);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_finds_out_what_it_hides),
        cmocka_unit_test(another_training_begins_with_it),
        cmocka_unit_test(only_some_models_learn_without_a_target),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
