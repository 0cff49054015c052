/*
 * test_encode.c: features of frozen encoders: of trained models, in eight bits, and of published
 * weights.
 */
#include <dirent.h>

#include "mmfuse/train.h"
#include "train/prepare_data.h"

static int count_files(const char *folder)
{
    DIR *const entries = opendir(folder);
    int n = 0;
    assert_non_null(entries);
    while (readdir(entries))
        n++;
    closedir(entries);
    return n;
}

/* A model of one modality as a frozen encoder: its features, and those of rows that lack it. */
static void trained_models_encode(void **state)
{
    (void)state;
    needs_media();
    write_files();
    mmf_ctx *const ctx = test_ctx();
    mmf_prepare_options options = prepare_options(test_path("cache-features"));
    static char many[4096];
    write_many(many, sizeof many, 24);
    mmf_archive *archive = NULL;
    mmf_dataset *dataset = NULL;
    mmf_model *model = NULL;
    mmf_split split;
    const mmf_split_options all = {.size = sizeof all, .fractions = {1, 0, 0}};
    test_ok(ctx, mmf_prepare(ctx, &archive, write_table("many.csv", many), &options));
    test_ok(ctx, mmf_dataset_from_archive(ctx, &dataset, archive, NULL));
    test_ok(ctx, mmf_split_make(ctx, &split, dataset, &all));
    mmf_train_options training = MMF_TRAIN_OPTIONS_INIT;
    training.epochs = 2;
    test_ok(ctx, mmf_train(ctx, &model, dataset, &split, "only-sound", NULL, &training));
    test_ok(ctx, mmf_model_save(model, test_path("sound.mmf")));
    mmf_model_free(model);
    mmf_dataset_close(dataset);
    mmf_split_clear(ctx, &split);
    char spec[512], wrong[512];
    snprintf(spec, sizeof spec, "sound=features=%s", test_path("sound.mmf"));
    snprintf(wrong, sizeof wrong, "picture=features=%s", test_path("sound.mmf"));
    const char *const specs[] = {spec, wrong};
    options.specs = specs;
    options.n_specs = 1;
    const char *const path =
        write_table("few.csv", "label,sound,picture\n0,s1.wav,p0.png\n1,,p1.png\n0,s3.wav,\n");
    test_ok(ctx, mmf_prepare(ctx, &archive, path, &options));
    const mmf_array features = load_array(ctx, archive, "sound");
    const mmf_array present = load_array(ctx, archive, "sound.present");
    assert_int_equal(features.n_dims, 2);
    assert_int_equal(features.shape[0], 2);
    assert_int_equal(mmf_array_integer(&present, 1), 0);
    assert_int_equal(mmf_archive_find(archive, "sound.length"), -1);
    double different = 0;
    for (int64_t d = 0; d < features.shape[1]; d++)
        different += fabs(mmf_array_number(&features, d) -
                          mmf_array_number(&features, features.shape[1] + d));
    assert_true(different > 0);
    /* In eight bits it is another entry of the cache. */
    const int n_files = count_files(options.cache);
    mmf_archive *bytes = NULL;
    options.int8 = true;
    for (int round = 0; round < 2; round++) {
        test_ok(ctx, mmf_prepare(ctx, &bytes, path, &options));
        const mmf_array near = load_array(ctx, bytes, "sound");
        assert_int_equal(mmf_array_count(&near), mmf_array_count(&features));
        mmf_archive_close(bytes);
        assert_true(count_files(options.cache) > n_files);
    }
    options.int8 = false;
    /* What was settled does it again, and knows the weights. */
    mmf_prepare_options again = prepare_options(test_path("cache-features-again"));
    test_ok(ctx, mmf_dataset_from_archive(ctx, &dataset, archive, NULL));
    again.settled = mmf_dataset_preparations(dataset);
    test_ok(ctx, mmf_prepare(ctx, &archive, path, &again));
    const mmf_array same = load_array(ctx, archive, "sound");
    assert_memory_equal(features.data, same.data, (size_t)mmf_array_count(&same) * same.item_bytes);
    mmf_archive_close(archive);
    FILE *const file = fopen(test_path("sound.mmf"), "ab");
    fputc(' ', file);
    fclose(file);
    test_fails(ctx, mmf_prepare(ctx, &archive, path, &again), MMF_FORMAT,
               "not the weights that the training data were encoded with");
    mmf_dataset_close(dataset);
    options.specs = specs + 1;
    mmf_status status = mmf_prepare(ctx, &archive, path, &options);
    assert_true(status != MMF_OK);
    const char *const missing[] = {"sound=features=none.mmf", "sound=features", "sound=gru"};
    for (size_t i = 0; i < 3; i++) {
        options.specs = missing + i;
        status = mmf_prepare(ctx, &archive, path, &options);
        test_fails(ctx, status, i ? MMF_ARG : MMF_IO, i ? "without weights" : "none.mmf");
    }
    mmf_ctx_free(ctx);
}

/* The reference's features and logits of real pictures, through files and the network's published
 * weights. */
static void published_weights_encode(void **state)
{
    (void)state;
    needs_media();
    enum { N_PICTURES = 40, SIDE = 32, PLANE = SIDE * SIDE };
    mmf_ctx *const ctx = test_ctx();
    mmf_archive *reference = NULL, *archive = NULL;
    const char *const data = test_shared("data/cifar10-test1000.npz");
    if (data)
        test_ok(ctx, mmf_archive_open(ctx, &reference, data, NULL));
    const char *const weights = test_shared("data/weights/cifar_resnet20.safetensors");
    if (!reference || !weights) {
        mmf_archive_close(reference);
        mmf_ctx_free(ctx);
        skip();
    }
    char table[N_PICTURES * 24] = "label,picture\n", name[32], spec[1024];
    const mmf_array image = load_array(ctx, reference, "image");
    for (int i = 0; i < N_PICTURES; i++) {
        unsigned char pixels[3 * PLANE];
        for (int64_t p = 0; p < PLANE; p++) {
            for (int64_t c = 0; c < 3; c++)
                pixels[3 * p + c] =
                    (unsigned char)mmf_array_integer(&image, (3 * i + c) * PLANE + p);
        }
        snprintf(name, sizeof name, "c%d.png", i);
        write_png(test_path(name), SIDE, SIDE, 3, pixels);
        snprintf(table + strlen(table), sizeof table - strlen(table), "%d,%s\n", i % 2, name);
    }
    static const char *const asked[][2] = {
        {"", "features"},
        {":output=logits", "logits"},
        {":output=logits:mean=.485/.456/.406:deviation=.229/.224/.225", "logits"},
    };
    const char *const path = write_table("cifar.csv", table);
    for (size_t k = 0; k < sizeof asked / sizeof *asked; k++) {
        snprintf(spec, sizeof spec, "@image=resnet20%s=%s", asked[k][0], weights);
        snprintf(name, sizeof name, "reference.%s", asked[k][1]);
        const mmf_array wanted = load_array(ctx, reference, name);
        const char *const specs[] = {spec};
        mmf_prepare_options options = prepare_options(test_path("cache-published"));
        options.specs = specs;
        options.n_specs = 1;
        test_ok(ctx, mmf_prepare(ctx, &archive, path, &options));
        const mmf_array got = load_array(ctx, archive, "picture");
        assert_int_equal(got.shape[0], N_PICTURES);
        assert_int_equal(got.shape[1], wanted.shape[1]);
        for (int64_t i = 0; i < mmf_array_count(&got); i++)
            assert_true(fabs(mmf_array_number(&got, i) - mmf_array_number(&wanted, i)) < 1e-3);
        mmf_archive_close(archive);
    }
    mmf_archive_close(reference);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trained_models_encode),
        cmocka_unit_test(published_weights_encode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
