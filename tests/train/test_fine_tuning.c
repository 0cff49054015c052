/*
 * test_fine_tuning.c: training that begins with the weights of others: a source behind an encoder,
 * frozen layers, learning rates of layers, and checkpoints that do not fit.
 */
#include <math.h>
#include <unistd.h>

#include "base/file.h"
#include "data/unicode.h"
#include "nn/scopes.h"
#include "train/training_data.h"

enum { N_TRAIN = 24, N_VALID = 8, MOST_TENSORS = 64 };

static const data_spec spec = {DATA_MIXED, N_TRAIN + N_VALID, false, false, 0, 2};

#define CONFIG                                                                                     \
    "{\"model_type\":\"bert\",\"vocab_size\":12,\"hidden_size\":8,\"num_hidden_layers\":2,"        \
    "\"num_attention_heads\":2,\"intermediate_size\":16,\"max_position_embeddings\":9}"

static const mmf_def *bert_encoder(void)
{
    size_t n = 0;
    const mmf_def *const *const table = mmf_catalogue(MMF_KIND_ENCODER, &n);
    while (n > 0 && strcmp(table[n - 1]->name, "bert") != 0)
        n--;
    assert_true(n > 0);
    return table[n - 1];
}

/* A small BERT of random weights. */
static mmf_module *make_bert(mmf_ctx *ctx)
{
    static const char *const settings[][2] = {{"hidden_size", "8"},
                                              {"num_hidden_layers", "2"},
                                              {"num_attention_heads", "2"},
                                              {"intermediate_size", "16"},
                                              {"max_position_embeddings", "9"}};
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    test_ok(ctx, mmf_config_create(ctx, &config, bert_encoder()));
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        test_ok(ctx, mmf_config_set(config, settings[i][0], settings[i][1]));
    mmf_input_schema input = {
        .name = "words", .kind = MMF_TOKENS, .n_dims = 1, .shape = {5}, .vocab_size = 12};
    test_ok(ctx,
            mmf_module_create(ctx, &module, bert_encoder(), config, &(mmf_schema){1, &input}, 77));
    mmf_config_free(config);
    return module;
}

/* How a checkpoint is spoilt. */
typedef enum damage { WHOLE, LACKS_ONE, MISFITS } damage;

/* A folder as Hugging Face has it, from a module whose names begin with "bert.". */
static void write_checkpoint(mmf_ctx *ctx, const mmf_module *bert, const char *folder, damage how)
{
    const mmf_params *const params = mmf_module_params(bert);
    mmf_named_array arrays[MOST_TENSORS];
    size_t n = 0;
    char path[600];
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        const bool last = i + 1 == mmf_params_count(params);
        mmf_array array = {MMF_F32, p->tensor->n_dims, {0}, 4, p->tensor->data};
        memcpy(array.shape, p->tensor->shape, sizeof array.shape);
        if (last && how == LACKS_ONE)
            continue;
        if (last && how == MISFITS)
            array.shape[0] -= 1;
        assert_true(n < MOST_TENSORS);
        arrays[n++] = (mmf_named_array){p->name, array};
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    test_write(ctx, folder, "config.json", CONFIG);
    test_ok(ctx, mmf_safetensors_save(ctx, path, arrays, n, NULL, 0));
}

/* One training of `name` with an encoder specification; `change` may set options. */
typedef struct training {
    const char *name, *encoder, *weights, *freeze, *rates;
    int64_t epochs;
} training;

static mmf_status train(mmf_ctx *ctx, mmf_model **model, const training *how)
{
    mmf_train_options options = quick_options(how->epochs ? how->epochs : 1, 8);
    options.weights = how->weights;
    options.freeze = how->freeze;
    options.rates = how->rates;
    mmf_dataset *const dataset = data_open(ctx, &spec, "fine-tuning.npz");
    const char *const name = how->name ? how->name : "joint-concat";
    mmf_config *const config = quick_config(ctx, name, 4, "0");
    if (how->encoder)
        test_ok(ctx, mmf_config_set(config, "encoder", how->encoder));
    simple_split s;
    const mmf_status status =
        mmf_train(ctx, model, dataset, data_split(&s, N_TRAIN, N_VALID), name, config, &options);
    mmf_config_free(config);
    mmf_dataset_close(dataset);
    return status;
}

/* Is the parameter of the model, below "words.", the one of the checkpoint? */
static bool is_kept(const mmf_module *bert, const mmf_model *model, const char *name)
{
    char full[300];
    snprintf(full, sizeof full, "words.%s", name);
    const mmf_param *const theirs = mmf_params_find(mmf_module_params(bert), name);
    const mmf_param *const ours = mmf_params_find(mmf_module_params(mmf_model_module(model)), full);
    assert_non_null(theirs);
    assert_non_null(ours);
    assert_int_equal(theirs->tensor->count, ours->tensor->count);
    return memcmp(theirs->tensor->data, ours->tensor->data,
                  (size_t)ours->tensor->count * sizeof *ours->tensor->data) == 0;
}

static const char low[] = "bert.encoder.layer.0.intermediate.dense.weight";
static const char high[] = "bert.encoder.layer.1.output.dense.weight";
static const char table[] = "bert.embeddings.position_embeddings.weight";

static void a_source_gives_sizes_and_weights(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_module *const bert = make_bert(ctx);
    const char *const folder = test_path("checkpoint"), *const file = test_path("tuned.mmf");
    char encoder[700];
    write_checkpoint(ctx, bert, folder, WHOLE);
    snprintf(encoder, sizeof encoder, "words=bert:pooling=mean=%s", folder);
    mmf_model *model = NULL, *loaded = NULL;
    test_ok(ctx, train(ctx, &model, &(training){.encoder = encoder, .freeze = "words"}));
    const mmf_params *const params = mmf_module_params(bert);
    for (size_t i = 0; i < mmf_params_count(params); i++)
        assert_true(is_kept(bert, model, mmf_params_at(params, i)->name));
    const mmf_config *const config = mmf_module_config(mmf_model_module(model));
    const char *const stored = mmf_config_text_at(config, "encoder", 0);
    assert_null(strstr(stored, folder));
    assert_non_null(strstr(stored, ":hidden_size=8:"));
    assert_non_null(strstr(stored, ":pooling=mean"));
    /* The vocabulary is that of the table, not of the ids that the training rows happen to have. */
    assert_int_equal(mmf_schema_find(mmf_model_inputs(model), "words")->vocab_size, 12);
    assert_non_null(strstr(mmf_model_record(model), "\"weights\""));
    test_ok(ctx, mmf_model_save(model, file));
    char gone[600];
    snprintf(gone, sizeof gone, "%s/config.json", folder);
    assert_int_equal(unlink(gone), 0);
    test_ok(ctx, mmf_model_load(ctx, &loaded, file));
    assert_true(is_kept(bert, loaded, high));
    mmf_model_free(loaded);
    mmf_model_free(model);
    mmf_module_free(bert);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void layers_freeze_from_below(void **state)
{
    (void)state;
    static const struct {
        const char *freeze;
        bool table, low, high;
    } cases[] = {
        {NULL, false, false, false},           {"words:0", true, false, false},
        {"words:1", true, true, false},        {"words:2", true, true, true},
        {"pixels,words:1", true, true, false},
    };
    mmf_ctx *const ctx = one_thread();
    mmf_module *const bert = make_bert(ctx);
    const char *const folder = test_path("freezing");
    char encoder[700];
    write_checkpoint(ctx, bert, folder, WHOLE);
    snprintf(encoder, sizeof encoder, "words=bert=%s", folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mmf_model *model = NULL;
        test_ok(ctx,
                train(ctx, &model, &(training){.encoder = encoder, .freeze = cases[i].freeze}));
        assert_int_equal(is_kept(bert, model, table), cases[i].table);
        assert_int_equal(is_kept(bert, model, low), cases[i].low);
        assert_int_equal(is_kept(bert, model, high), cases[i].high);
        mmf_model_free(model);
    }
    mmf_module_free(bert);
    mmf_ctx_free(ctx);
}

static double scale_of(const mmf_params *params, const char *name)
{
    const mmf_param *const p = mmf_params_find(params, name);
    assert_non_null(p);
    return p->lr_scale;
}

static void lower_layers_learn_slower(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_module *const bert = make_bert(ctx);
    mmf_params *const params = mmf_module_params(bert);
    test_ok(ctx, mmf_scopes_set_rates(ctx, params, "bert=2e-5:0.5", 1e-3));
    assert_true(fabs(scale_of(params, high) - 0.02) < 1e-12);
    assert_true(fabs(scale_of(params, low) - 0.01) < 1e-12);
    assert_true(fabs(scale_of(params, table) - 0.005) < 1e-12);
    test_ok(ctx, mmf_scopes_set_rates(ctx, params, "layer.0=1e-3,nothing=1", 1e-3));
    assert_true(scale_of(params, low) == 1 && fabs(scale_of(params, high) - 0.02) < 1e-12);
    assert_int_equal(mmf_scope_layer("vision.resnet.bn1.weight"), 0);
    assert_int_equal(mmf_scope_layer("vision.layer3.0.conv1.weight"), 3);
    assert_int_equal(mmf_scope_layer("layer_norm.weight"), -1);
    mmf_module_free(bert);
    mmf_ctx_free(ctx);
}

/* Late models train an encoder of their own for every modality. */
static void late_models_begin_with_it_too(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_module *const bert = make_bert(ctx);
    const char *const folder = test_path("late");
    char encoder[700];
    write_checkpoint(ctx, bert, folder, WHOLE);
    snprintf(encoder, sizeof encoder, "words=bert=%s", folder);
    mmf_model *model = NULL;
    test_ok(ctx,
            train(ctx, &model, &(training){"late-mean", encoder, .freeze = "words", .epochs = 1}));
    const mmf_params *const params = mmf_module_params(mmf_model_module(model));
    bool found = false;
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        if (!strstr(p->name, high))
            continue;
        const mmf_param *const theirs = mmf_params_find(mmf_module_params(bert), high);
        assert_memory_equal(p->tensor->data, theirs->tensor->data,
                            (size_t)p->tensor->count * sizeof *p->tensor->data);
        found = true;
    }
    assert_true(found);
    mmf_model_free(model);
    mmf_module_free(bert);
    mmf_ctx_free(ctx);
}

static void whole_models_begin_with_weights(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_module *const bert = make_bert(ctx);
    const char *const folder = test_path("whole");
    char weights[700];
    write_checkpoint(ctx, bert, folder, WHOLE);
    snprintf(weights, sizeof weights, "words.bert=%s", folder);
    mmf_model *model = NULL, *again = NULL;
    const training how = {.encoder = "words=bert:hidden_size=8:num_attention_heads=2:vocab_size=12:"
                                     "intermediate_size=16:max_position_embeddings=9",
                          .weights = weights,
                          .freeze = "words"};
    test_ok(ctx, train(ctx, &model, &how));
    assert_true(is_kept(bert, model, high));
    /* A model file is a checkpoint as well, by its whole names. */
    const char *const file = test_path("begun.mmf");
    test_ok(ctx, mmf_model_save(model, file));
    test_ok(ctx, train(ctx, &again,
                       &(training){.encoder = how.encoder, .weights = file, .freeze = "words"}));
    assert_true(is_kept(bert, again, high));
    mmf_model_free(again);
    mmf_model_free(model);
    mmf_module_free(bert);
    mmf_ctx_free(ctx);
}

/* A frozen encoder keeps its running statistics, too: of one epoch and of two it is the same. */
static void a_frozen_batch_norm_is_left_as_it_is(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_model *models[2] = {NULL};
    size_t n_moved = 0, n_kept = 0;
    for (int i = 0; i < 2; i++)
        test_ok(ctx,
                train(ctx, &models[i],
                      &(training){.encoder = "pixels=cnn2d", .freeze = "pixels", .epochs = 1 + i}));
    const mmf_params *const a = mmf_module_params(mmf_model_module(models[0]));
    const mmf_params *const b = mmf_module_params(mmf_model_module(models[1]));
    for (size_t i = 0; i < mmf_params_count(a); i++) {
        const mmf_param *const p = mmf_params_at(a, i), *const q = mmf_params_at(b, i);
        const bool same = memcmp(p->tensor->data, q->tensor->data,
                                 (size_t)p->tensor->count * sizeof *p->tensor->data) == 0;
        if (strncmp(p->name, "pixels.", 7) == 0) {
            n_kept += strstr(p->name, "running_mean") != NULL;
            if (!same)
                fail_msg("%s has moved", p->name);
        }
        n_moved += !same;
    }
    assert_true(n_kept > 0 && n_moved > 0);
    mmf_model_free(models[0]);
    mmf_model_free(models[1]);
    mmf_ctx_free(ctx);
}

/* Models over steps take the states of all tokens. */
static void models_over_steps_take_all_states(void **state)
{
    (void)state;
    static const char *const names[] = {"attention", "cross-attention", "mbt", "perceiver"};
    mmf_ctx *const ctx = one_thread();
    mmf_module *const bert = make_bert(ctx);
    const char *const folder = test_path("steps");
    char encoder[700];
    write_checkpoint(ctx, bert, folder, WHOLE);
    snprintf(encoder, sizeof encoder, "words=bert=%s", folder);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        mmf_model *model = NULL;
        test_ok(ctx, train(ctx, &model,
                           &(training){names[i], encoder, .freeze = "words:1", .epochs = 1}));
        assert_true(is_kept(bert, model, low));
        assert_false(is_kept(bert, model, high)); /* the last layer was reached by gradients */
        mmf_model_free(model);
    }
    mmf_module_free(bert);
    mmf_ctx_free(ctx);
}

/* ---- What does not fit ------------------------------------------------------------------- */

static void what_does_not_fit_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *folder, *encoder; /* the folder's path stands for "%s" */
        const char *weights, *freeze, *rates;
        mmf_status status;
        const char *message;
    } bad[] = {
        {"lacks", "words=bert=%s", NULL, NULL, NULL, MMF_FORMAT,
         "it lacks encoder.layer.1.output.LayerNorm.bias"},
        {"misfits", "words=bert=%s", NULL, NULL, NULL, MMF_FORMAT,
         "encoder.layer.1.output.LayerNorm.bias: float32 (7) in the file, (8) here"},
        {"whole", "words=bert:hidden_size=4:num_attention_heads=1=%s", NULL, NULL, NULL, MMF_FORMAT,
         "of another shape are embeddings."},
        {"whole", "words=bert:vocab_size=6=%s", NULL, NULL, NULL, MMF_SHAPE,
         "vocab_size is 6, but words has tokens up to"},
        {"whole", "words=bert:max_position_embeddings=3=%s", NULL, NULL, NULL, MMF_SHAPE,
         "max_position_embeddings is 3"},
        {"whole", "word=bert=%s", NULL, NULL, NULL, MMF_ARG, "no modality \"word\""},
        {"whole", "row=mlp=%s", NULL, NULL, NULL, MMF_ARG, "cannot start from weights"},
        {"whole", "row=bert=%s", NULL, NULL, NULL, MMF_ARG, "encoder \"bert\" does not take"},
        {"whole", "words=bert=", NULL, NULL, NULL, MMF_ARG, "path behind the last"},
        {"whole", "words=bert:hidden=3=%s", NULL, NULL, NULL, MMF_ARG, "hidden"},
        {"whole", "words=bert:pooling=none=%s", NULL, NULL, NULL, MMF_ARG, "pooling none gives"},
        {"whole", "words=bert=%s/none", NULL, NULL, NULL, MMF_IO, "none"},
        {"whole", "words=bert=%s", NULL, "text", NULL, MMF_ARG, "no such parameters"},
        {"whole", "words=bert=%s", NULL, "words:x", NULL, MMF_ARG, "MODALITY:LAYERS"},
        {"whole", "words=bert=%s", NULL, NULL, "words", MMF_ARG, "MODALITY=RATE"},
        {"whole", "words=bert=%s", NULL, NULL, "words=1e-3:2", MMF_ARG, "0 < DECAY <= 1"},
        {"whole", NULL, "nowhere=%s", NULL, NULL, MMF_FORMAT, "no tensor of it has the name"},
    };
    mmf_ctx *const ctx = one_thread();
    mmf_module *const bert = make_bert(ctx);
    write_checkpoint(ctx, bert, test_path("whole"), WHOLE);
    write_checkpoint(ctx, bert, test_path("lacks"), LACKS_ONE);
    write_checkpoint(ctx, bert, test_path("misfits"), MISFITS);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char encoder[700] = "", weights[700] = "";
        const char *const folder = test_path(bad[i].folder);
        const char *const forms[] = {bad[i].encoder, bad[i].weights};
        char *const texts[] = {encoder, weights};
        for (size_t k = 0; k < 2; k++) {
            const char *const place = forms[k] ? strstr(forms[k], "%s") : NULL;
            const size_t n = place ? (size_t)(place - forms[k]) : forms[k] ? strlen(forms[k]) : 0;
            snprintf(texts[k], sizeof encoder, "%.*s%s%s", (int)n, forms[k] ? forms[k] : "",
                     place ? folder : "", place ? place + 2 : "");
        }
        mmf_model *model = NULL;
        const training how = {.encoder = bad[i].encoder ? encoder : NULL,
                              .weights = bad[i].weights ? weights : NULL,
                              .freeze = bad[i].freeze,
                              .rates = bad[i].rates};
        test_fails(ctx, train(ctx, &model, &how), bad[i].status, bad[i].message);
        assert_null(model);
    }
    mmf_module_free(bert);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void a_vocabulary_beyond_the_table_is_refused(void **state)
{
    (void)state;
    if (!mmf_unicode_is_whole())
        return;
    mmf_ctx *const ctx = one_thread();
    mmf_module *const bert = make_bert(ctx);
    const char *const folder = test_path("vocabulary");
    char encoder[700];
    write_checkpoint(ctx, bert, folder, WHOLE);
    test_write(ctx, folder, "vocab.txt",
               "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\nd\ne\nf\ng\nh\n");
    snprintf(encoder, sizeof encoder, "words=bert=%s", folder);
    mmf_model *model = NULL;
    test_fails(ctx, train(ctx, &model, &(training){.encoder = encoder}), MMF_FORMAT,
               "vocab.txt has 13 pieces, but the table of words in config.json has 12 rows");
    mmf_module_free(bert);
    mmf_ctx_free(ctx);
}

/* A scope that is wrong, a part of a file, and what a sentence encoder says beside its sizes. */
static void scopes_are_guessed_and_parts_taken(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_module *const bert = make_bert(ctx);
    char folder[600], weights[1400], hint[700];
    mmf_model *model = NULL;
    snprintf(folder, sizeof folder, "%s", test_path("parts"));
    write_checkpoint(ctx, bert, folder, WHOLE);
    const char *const encoder =
        "words=bert:hidden_size=8:num_hidden_layers=2:num_attention_heads=2:"
        "intermediate_size=16:max_position_embeddings=9:vocab_size=12";
    snprintf(weights, sizeof weights, "bert=%s", folder);
    snprintf(hint, sizeof hint, "below bert; try --weights words.bert=%s", folder);
    test_fails(ctx, train(ctx, &model, &(training){.encoder = encoder, .weights = weights}),
               MMF_FORMAT, hint);
    snprintf(weights, sizeof weights, "words.bert.encoder=%s#encoder", folder);
    test_ok(ctx, train(ctx, &model,
                       &(training){.encoder = encoder, .weights = weights, .freeze = "words"}));
    assert_true(is_kept(bert, model, low));
    assert_true(is_kept(bert, model, high));
    assert_false(is_kept(bert, model, table));
    mmf_model_free(model);
    model = NULL;
    snprintf(weights, sizeof weights, "words.bert.encoder=%s#embeddings", folder);
    test_fails(ctx, train(ctx, &model, &(training){.encoder = encoder, .weights = weights}),
               MMF_FORMAT, "no tensor of it has the name");
    mmf_module_free(bert);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_source_gives_sizes_and_weights),
        cmocka_unit_test(layers_freeze_from_below),
        cmocka_unit_test(lower_layers_learn_slower),
        cmocka_unit_test(late_models_begin_with_it_too),
        cmocka_unit_test(whole_models_begin_with_weights),
        cmocka_unit_test(a_frozen_batch_norm_is_left_as_it_is),
        cmocka_unit_test(models_over_steps_take_all_states),
        cmocka_unit_test(what_does_not_fit_is_told),
        cmocka_unit_test(a_vocabulary_beyond_the_table_is_refused),
        cmocka_unit_test(scopes_are_guessed_and_parts_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
