/*
 * test_image_source.c: an image network that begins with the weights of others: what is loaded,
 * what stays, and how images are normalised.
 */
#include <math.h>

#include "train/frozen.h"
#include "train/training_data.h"

enum { N_TRAIN = 12, N_VALID = 4, N = N_TRAIN + N_VALID, SIDE = 8, MOST_TENSORS = 256 };

static const mmf_def *encoder_of(const char *name)
{
    size_t n = 0;
    const mmf_def *const *const table = mmf_catalogue(MMF_KIND_ENCODER, &n);
    while (n > 0 && strcmp(table[n - 1]->name, name) != 0)
        n--;
    assert_true(n > 0);
    return table[n - 1];
}

/* A small network, its norms as training leaves them. */
static mmf_module *make_net(mmf_ctx *ctx)
{
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    mmf_input_schema input = {
        .name = "image", .kind = MMF_IMAGE, .n_dims = 3, .shape = {3, SIDE, SIDE}};
    test_ok(ctx, mmf_config_create(ctx, &config, encoder_of("resnet20")));
    test_ok(ctx, mmf_config_set(config, "base", "4"));
    test_ok(ctx, mmf_module_create(ctx, &module, encoder_of("resnet20"), config,
                                   &(mmf_schema){1, &input}, 77));
    mmf_config_free(config);
    const mmf_params *const params = mmf_module_params(module);
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        for (int64_t e = 0; p->role == MMF_PARAM_BUFFER && e < p->tensor->count; e++)
            p->tensor->data[e] = (mmf_real)(0.5 + 0.1 * (double)(e % 7));
    }
    return module;
}

/* As torchvision has it: a classifier and the norms' counters beside the network. */
static void write_weights(mmf_ctx *ctx, const mmf_module *net, const char *path,
                          const char *without)
{
    const mmf_params *const params = mmf_module_params(net);
    static const float classifier[6] = {1, 2, 3, 4, 5, 6};
    static const int64_t counter = 9;
    mmf_named_array arrays[MOST_TENSORS] = {
        {"fc.weight", {MMF_F32, 2, {2, 3}, 4, classifier}},
        {"bn1.num_batches_tracked", {MMF_I64, 1, {1}, 8, &counter}}};
    size_t n = 2;
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        mmf_array array = {MMF_F32, p->tensor->n_dims, {0}, 4, p->tensor->data};
        memcpy(array.shape, p->tensor->shape, sizeof array.shape);
        assert_true(n < MOST_TENSORS);
        if (!without || strcmp(p->name, without) != 0)
            arrays[n++] = (mmf_named_array){p->name, array};
    }
    test_ok(ctx, mmf_safetensors_save(ctx, path, arrays, n, NULL, 0));
}

static mmf_dataset *open_images(mmf_ctx *ctx)
{
    static unsigned char pixels[N * 3 * SIDE * SIDE];
    static int64_t labels[N];
    mmf_rng rng = mmf_rng_make(3, 3);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (unsigned char)mmf_rng_below(&rng, 256);
    for (int i = 0; i < N; i++)
        labels[i] = i % 2;
    const mmf_named_array arrays[] = {
        {"image", {MMF_U8, 4, {N, 3, SIDE, SIDE}, 1, pixels}},
        {"label", {MMF_I64, 1, {N}, 8, labels}},
    };
    const char *const path = test_path("images.safetensors");
    mmf_dataset *dataset = NULL;
    const mmf_dataset_options options = MMF_DATASET_OPTIONS_INIT;
    test_ok(ctx, mmf_safetensors_save(ctx, path, arrays, 2, NULL, 0));
    test_ok(ctx, mmf_dataset_open(ctx, &dataset, path, &options));
    return dataset;
}

static mmf_status train_with(mmf_ctx *ctx, mmf_model **model, const char *encoder,
                             const char *freeze, const char *head)
{
    mmf_train_options options = quick_options(1, 8);
    mmf_config *config = NULL;
    mmf_dataset *const dataset = open_images(ctx);
    simple_split s;
    options.freeze = freeze;
    test_ok(ctx, mmf_config_create(ctx, &config, mmf_model_find("only")));
    test_ok(ctx, mmf_config_set(config, "encoder", encoder));
    test_ok(ctx, mmf_config_set(config, "head", head));
    const mmf_status status = mmf_train(ctx, model, dataset, data_split(&s, N_TRAIN, N_VALID),
                                        "only-image", config, &options);
    mmf_config_free(config);
    mmf_dataset_close(dataset);
    return status;
}

static mmf_status train(mmf_ctx *ctx, mmf_model **model, const char *encoder, const char *freeze)
{
    return train_with(ctx, model, encoder, freeze, "hidden");
}

static bool same_values(const mmf_module *net, const mmf_model *model, mmf_param_role role)
{
    const mmf_params *const params = mmf_module_params(net);
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        char name[300];
        snprintf(name, sizeof name, "image.%s", p->name);
        const mmf_param *const q =
            mmf_params_find(mmf_module_params(mmf_model_module(model)), name);
        if (!q)
            fail_msg("the model has no %s", name);
        if (p->role == role && q &&
            memcmp(p->tensor->data, q->tensor->data, (size_t)p->tensor->count * sizeof(mmf_real)) !=
                0)
            return false;
    }
    return true;
}

static void a_source_gives_weights_and_normalisation(void **state)
{
    (void)state;
    static const double mean[] = {0.485, 0.456, 0.406}, deviation[] = {0.229, 0.224, 0.225};
    mmf_ctx *const ctx = one_thread();
    mmf_module *const net = make_net(ctx);
    const char *const path = test_path("net.safetensors");
    char encoder[700];
    write_weights(ctx, net, path, NULL);
    snprintf(encoder, sizeof encoder, "image=resnet20:base=4=%s", path);
    for (int frozen = 0; frozen < 2; frozen++) {
        mmf_model *model = NULL;
        test_ok(ctx, train(ctx, &model, encoder, frozen ? "image" : NULL));
        assert_true(same_values(net, model, MMF_PARAM_TRAINED) == (frozen == 1));
        assert_true(same_values(net, model, MMF_PARAM_BUFFER)); /* statistics are fixed */
        const mmf_normalisation *const norm = mmf_model_normalisation(model);
        for (int c = 0; c < 3; c++) {
            assert_true(fabs((double)norm->mean[0][c] - 255 * mean[c]) < 1e-3);
            assert_true(fabs((double)norm->scale[0][c] * 255 * deviation[c] - 1) < 1e-5);
        }
        mmf_model_free(model);
    }
    mmf_module_free(net);
    mmf_ctx_free(ctx);
}

static size_t count_mapped(const mmf_model *model)
{
    const mmf_params *const params = mmf_module_params(mmf_model_module(model));
    size_t n = 0;
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        assert_true(!p->tensor->is_mapped || p->tensor->n_dims == 4);
        n += p->tensor->is_mapped;
    }
    return n;
}

/* What a loaded network predicts for every image, after batches of other sizes. */
static void predict_images(mmf_ctx *ctx, mmf_model *model, mmf_dataset *images, double *out)
{
    int64_t rows[N];
    for (int64_t i = 0; i < N; i++)
        rows[i] = i;
    test_ok(ctx, mmf_model_predict_rows(model, images, rows, 1, MMF_ALL_MODALITIES, out));
    test_ok(ctx, mmf_model_predict_rows(model, images, rows, N, MMF_ALL_MODALITIES, out));
}

static void a_loaded_network_leaves_its_weights_in_the_file(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    const char *const path = test_path("images.mmf");
    mmf_model *trained = NULL, *loaded = NULL, *again = NULL;
    double before[2 * N], after[2 * N];
    mmf_dataset *const images = open_images(ctx);
    test_ok(ctx, train(ctx, &trained, "image=resnet20:base=4", NULL));
    test_ok(ctx, mmf_model_save(trained, path));
    test_ok(ctx, mmf_model_load(ctx, &loaded, path));
    assert_int_equal(count_mapped(trained), 0);
    assert_int_equal(count_mapped(loaded), 19);
    predict_images(ctx, trained, images, before);
    predict_images(ctx, loaded, images, after);
    assert_memory_equal(before, after, sizeof before);
    test_ok(ctx, mmf_model_save(loaded, path)); /* over the file that it reads */
    predict_images(ctx, loaded, images, after);
    assert_memory_equal(before, after, sizeof before);
    test_ok(ctx, mmf_model_load(ctx, &again, path));
    predict_images(ctx, again, images, after);
    assert_memory_equal(before, after, sizeof before);
    mmf_model_free(trained);
    mmf_model_free(loaded);
    mmf_model_free(again);
    mmf_dataset_close(images);
    assert_int_equal(mmf_ctx_memory(ctx).live_bytes, 0);
    mmf_ctx_free(ctx);
}

static void weights_that_lack_a_tensor_are_refused(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_module *const net = make_net(ctx);
    const char *const path = test_path("part.safetensors");
    char encoder[700];
    mmf_model *model = NULL;
    write_weights(ctx, net, path, "layer2.0.conv1.weight");
    snprintf(encoder, sizeof encoder, "image=resnet20:base=4=%s", path);
    test_fails(ctx, train(ctx, &model, encoder, NULL), MMF_FORMAT, "layer2.0.conv1.weight");
    assert_null(model);
    mmf_module_free(net);
    mmf_ctx_free(ctx);
}

/* Clips of two pictures. */
static mmf_dataset *open_clips(mmf_ctx *ctx)
{
    static unsigned char pixels[N * 2 * 3 * SIDE * SIDE];
    static int64_t labels[N];
    mmf_rng rng = mmf_rng_make(4, 4);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (unsigned char)mmf_rng_below(&rng, 256);
    for (int i = 0; i < N; i++)
        labels[i] = i % 2;
    const mmf_named_array arrays[] = {
        {"clip", {MMF_U8, 5, {N, 2, 3, SIDE, SIDE}, 1, pixels}},
        {"label", {MMF_I64, 1, {N}, 8, labels}},
    };
    const char *const path = test_path("clips.safetensors");
    mmf_dataset *dataset = NULL;
    const mmf_dataset_options options = MMF_DATASET_OPTIONS_INIT;
    test_ok(ctx, mmf_safetensors_save(ctx, path, arrays, 2, NULL, 0));
    test_ok(ctx, mmf_dataset_open(ctx, &dataset, path, &options));
    return dataset;
}

static void frames_begin_with_weights_too(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_module *const net = make_net(ctx);
    const char *const path = test_path("frames.safetensors");
    char encoder[700];
    mmf_model *model = NULL;
    mmf_config *config = NULL;
    simple_split split;
    mmf_train_options options = quick_options(1, 8);
    options.freeze = "clip";
    write_weights(ctx, net, path, NULL);
    mmf_dataset *const dataset = open_clips(ctx);
    test_ok(ctx, mmf_config_create(ctx, &config, mmf_model_find("only")));
    snprintf(encoder, sizeof encoder, "clip=video:mean=.5:base=4:frame=resnet20:pool=gru=%s", path);
    test_ok(ctx, mmf_config_set(config, "encoder", encoder));
    test_ok(ctx, mmf_train(ctx, &model, dataset, data_split(&split, N_TRAIN, N_VALID), "only-clip",
                           config, &options));
    const mmf_params *const theirs = mmf_module_params(net);
    for (size_t i = 0; i < mmf_params_count(theirs); i++) {
        char name[300];
        const mmf_param *const p = mmf_params_at(theirs, i);
        snprintf(name, sizeof name, "clip.frame.%s", p->name);
        const mmf_param *const q =
            mmf_params_find(mmf_module_params(mmf_model_module(model)), name);
        if (!q || memcmp(p->tensor->data, q->tensor->data,
                         (size_t)p->tensor->count * sizeof(mmf_real)) != 0)
            fail_msg("%s is not that of the file", name);
    }
    const mmf_normalisation *const norm = mmf_model_normalisation(model);
    assert_true(fabs((double)norm->mean[0][2] - 127.5) < 1e-3);
    mmf_model_free(model);
    mmf_config_free(config);
    mmf_dataset_close(dataset);
    mmf_module_free(net);
    mmf_ctx_free(ctx);
}

/* A frozen clip is the mean of its frozen frames. */
static void frozen_clips_are_means_of_pictures(void **state)
{
    (void)state;
    enum { PICTURE = 3 * SIDE * SIDE, WIDTH = 16 };
    mmf_ctx *const ctx = one_thread();
    mmf_module *const net = make_net(ctx);
    const char *const path = test_path("frozen.safetensors");
    write_weights(ctx, net, path, NULL);
    const mmf_input_schema image = {
        .name = "image", .kind = MMF_IMAGE, .n_dims = 3, .shape = {3, SIDE, SIDE}};
    const mmf_input_schema clip = {.name = "clip",
                                   .kind = MMF_VIDEO,
                                   .n_dims = 4,
                                   .shape = {2, 3, SIDE, SIDE},
                                   .has_length = true};
    mmf_frozen *of_image = NULL, *of_clip = NULL, *of_gru = NULL;
    test_ok(ctx, mmf_frozen_open(ctx, &of_image, "resnet20:base=4", path, &image));
    test_ok(ctx, mmf_frozen_open(ctx, &of_clip, "video:frame=resnet20:base=4", path, &clip));
    test_fails(ctx,
               mmf_frozen_open(ctx, &of_gru, "video:pool=gru:frame=resnet20:base=4", path, &clip),
               MMF_ARG, "rnn");
    assert_int_equal(mmf_frozen_width(of_image), mmf_frozen_width(of_clip));
    const int64_t width = mmf_frozen_width(of_image);
    static float pixels[2 * PICTURE], same[2 * PICTURE], apart[2 * 4 * WIDTH];
    for (int i = 0; i < 2 * PICTURE; i++)
        pixels[i] = same[i] = (float)(i * 37 % 256);
    int64_t length = 2;
    const float *features = NULL;
    assert_true(width <= 4 * WIDTH);
    test_ok(ctx, mmf_frozen_run(of_image, &(mmf_batch_input){.values = pixels}, 2, 3, &features));
    memcpy(apart, features, 2 * (size_t)width * sizeof *apart);
    test_ok(ctx, mmf_frozen_run(of_clip, &(mmf_batch_input){.values = same, .length = &length}, 1,
                                2, &features));
    for (int64_t i = 0; i < width; i++)
        assert_true(fabsf(features[i] - (apart[i] + apart[width + i]) / 2) < 1e-5F);
    mmf_frozen_free(of_image);
    mmf_frozen_free(of_clip);
    mmf_module_free(net);
    mmf_ctx_free(ctx);
}

/* Without a source as with one: what the specification says stands in the place of statistics. */
static void a_specification_says_how_images_are_normalised(void **state)
{
    (void)state;
    static const struct {
        const char *options;
        double mean[3], deviation[3];
    } rows[] = {
        {"mean=.5:deviation=.25", {.5, .5, .5}, {.25, .25, .25}},
        {"mean=.1/.2/.3:deviation=.5/.6/.7", {.1, .2, .3}, {.5, .6, .7}},
        {"mean=0", {0, 0, 0}, {.229, .224, .225}},
        {"deviation=1", {.485, .456, .406}, {1, 1, 1}},
    };
    mmf_ctx *const ctx = one_thread();
    char encoder[200];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mmf_model *model = NULL;
        snprintf(encoder, sizeof encoder, "image=resnet20:base=4:%s", rows[i].options);
        test_ok(ctx, train(ctx, &model, encoder, NULL));
        const mmf_normalisation *const norm = mmf_model_normalisation(model);
        for (int c = 0; c < 3; c++) {
            assert_true(fabs((double)norm->mean[0][c] - 255 * rows[i].mean[c]) < 1e-3);
            assert_true(fabs((double)norm->scale[0][c] * 255 * rows[i].deviation[c] - 1) < 1e-5);
        }
        mmf_model_free(model);
    }
    mmf_model *model = NULL;
    test_fails(ctx, train(ctx, &model, "image=resnet20:base=4:mean=.1/.2", NULL), MMF_ARG,
               "mean has 2 numbers; the images have 3 channels");
    test_fails(ctx, train(ctx, &model, "image=resnet20:base=4:deviation=0", NULL), MMF_ARG,
               "deviation");
    mmf_ctx_free(ctx);
}

/* The network with the classifier that it came with is a model that has nothing to learn. */
static void a_checkpoint_predicts_as_it_is(void **state)
{
    (void)state;
    mmf_ctx *const ctx = one_thread();
    mmf_config *config = NULL;
    mmf_module *net = NULL;
    mmf_input_schema input = {
        .name = "image", .kind = MMF_IMAGE, .n_dims = 3, .shape = {3, SIDE, SIDE}};
    test_ok(ctx, mmf_config_create(ctx, &config, encoder_of("resnet20")));
    test_ok(ctx, mmf_config_set_json(config,
                                     "{\"base\": 4, \"output\": \"logits\", \"num_classes\": 2}"));
    test_ok(ctx, mmf_module_create(ctx, &net, encoder_of("resnet20"), config,
                                   &(mmf_schema){1, &input}, 5));
    const char *const path = test_path("classifier.safetensors");
    write_weights(ctx, net, path, NULL);
    char encoder[700];
    mmf_model *model = NULL;
    snprintf(encoder, sizeof encoder, "image=resnet20:base=4:output=logits=%s", path);
    test_ok(ctx, train_with(ctx, &model, encoder, "image", "none"));
    assert_true(same_values(net, model, MMF_PARAM_TRAINED));
    assert_int_equal(mmf_params_size(mmf_module_params(mmf_model_module(model))), 0);
    mmf_model_free(model);
    model = NULL;
    test_ok(ctx, train_with(ctx, &model, encoder, "image", "linear"));
    const mmf_params *const params = mmf_module_params(mmf_model_module(model));
    assert_int_equal(mmf_params_find(params, "head.out.weight")->tensor->count, 2 * 2);
    assert_null(mmf_params_find(params, "head.hidden.weight"));
    assert_true(mmf_params_size(params) > 0);
    mmf_model_free(model);
    snprintf(encoder, sizeof encoder, "image=resnet20:base=4=%s", path);
    model = NULL;
    test_fails(ctx, train_with(ctx, &model, encoder, "image", "none"), MMF_ARG,
               "puts out 128 numbers, the task has 2 outputs");
    test_fails(ctx, train(ctx, &model, "image=resnet20:output=logits:pooling=none", NULL), MMF_ARG,
               "pooling none gives a sequence");
    mmf_config_free(config);
    mmf_module_free(net);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_source_gives_weights_and_normalisation),
        cmocka_unit_test(a_loaded_network_leaves_its_weights_in_the_file),
        cmocka_unit_test(weights_that_lack_a_tensor_are_refused),
        cmocka_unit_test(a_specification_says_how_images_are_normalised),
        cmocka_unit_test(a_checkpoint_predicts_as_it_is),
        cmocka_unit_test(frames_begin_with_weights_too),
        cmocka_unit_test(frozen_clips_are_means_of_pictures),
    };
    return cmocka_run_group_tests_name("image source", tests, NULL, NULL);
}
