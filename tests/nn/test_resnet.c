/*
 * test_resnet.c: residual networks: sizes of the published ones, properties of the map, and a
 * trained network on real images.
 */
#include <math.h>
#include <stdlib.h>

#include "mmfuse/io.h"
#include "mmfuse/model.h"
#include "nn/resnet.h"
#include "support.h"

static mmf_module *make(mmf_ctx *ctx, const char *json, int64_t channels, int64_t height,
                        int64_t width)
{
    mmf_input_schema input = {
        .name = "image", .kind = MMF_IMAGE, .n_dims = 3, .shape = {channels, height, width}};
    const mmf_schema schema = {1, &input};
    const mmf_def *const def = mmf_definition_find("resnet");
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    assert_non_null(def);
    test_ok(ctx, mmf_config_create(ctx, &config, def));
    test_ok(ctx, mmf_config_set_json(config, json));
    test_ok(ctx, mmf_module_create(ctx, &module, def, config, &schema, 3));
    mmf_config_free(config);
    return module;
}

/* Norms that do something: means and deviations of their own. */
static void draw_norms(mmf_module *module)
{
    const mmf_params *const params = mmf_module_params(module);
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        mmf_rng rng = mmf_rng_make(9, mmf_rng_stream(p->name));
        const bool above_zero = strstr(p->name, "running_var") || p->init.a == 1;
        for (int64_t e = 0; p->tensor->n_dims == 1 && e < p->tensor->count; e++)
            p->tensor->data[e] =
                (mmf_real)(above_zero ? 0.5 + mmf_rng_uniform(&rng) : 0.3 * mmf_rng_normal(&rng));
    }
}

/* An output of one pass that is not recorded, copied; freed by the caller. */
static mmf_real *run(mmf_ctx *ctx, mmf_module *module, mmf_real *images, const int64_t *shape,
                     const char *wanted, int64_t *count)
{
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_named_put(tape, &in, "image", mmf_input(tape, images, 4, shape));
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    test_ok(ctx, mmf_tape_status(tape));
    const mmf_tensor *const y = mmf_named_get(&out, wanted);
    assert_non_null(y);
    mmf_real *const copy = malloc((size_t)y->count * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, y->data, (size_t)y->count * sizeof *copy);
    *count = y->count;
    mmf_tape_free(tape);
    return copy;
}

static mmf_real *noise(int64_t n)
{
    mmf_rng rng = mmf_rng_make(4, 1);
    mmf_real *const values = malloc((size_t)n * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < n; i++)
        values[i] = (mmf_real)mmf_rng_normal(&rng);
    return values;
}

/* ---- Sizes ------------------------------------------------------------------------------- */

/* Numbers of torchvision's networks with 1000 classes. */
static const struct {
    const char *name, *json;
    int64_t parameters, entries, width;
} published[] = {
    {"resnet18", "{\"layers\": [2, 2, 2, 2]}", 11689512, 122, 512},
    {"resnet34", "{\"layers\": [3, 4, 6, 3]}", 21797672, 218, 512},
    {"resnet50", "{\"block\": \"bottleneck\", \"layers\": [3, 4, 6, 3]}", 25557032, 320, 2048},
    {"resnet101", "{\"block\": \"bottleneck\", \"layers\": [3, 4, 23, 3]}", 44549160, 626, 2048},
    {"resnet152", "{\"block\": \"bottleneck\", \"layers\": [3, 8, 36, 3]}", 60192808, 932, 2048},
};

static void the_published_networks_have_their_sizes(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    const size_t n = TEST_SAMPLE ? 1 : sizeof published / sizeof *published;
    for (size_t i = 0; i < n; i++) {
        mmf_module *const module = make(ctx, published[i].json, 3, 224, 224);
        const mmf_params *const params = mmf_module_params(module);
        int64_t trained = 0, entries = 0;
        for (size_t p = 0; p < mmf_params_count(params); p++) {
            const mmf_param *const param = mmf_params_at(params, p);
            trained += param->role == MMF_PARAM_TRAINED ? param->tensor->count : 0;
            /* The reference counts the batches of each norm in one more entry. */
            entries += strstr(param->name, "running_var") ? 2 : 1;
        }
        assert_int_equal(trained, published[i].parameters);
        assert_int_equal(entries, published[i].entries);
        mmf_resnet_sizes sizes;
        int64_t rows = 0, columns = 0;
        assert_true(mmf_resnet_named(published[i].name, &sizes));
        mmf_resnet_grid(&sizes, 224, 224, &rows, &columns);
        assert_int_equal(mmf_resnet_width(&sizes), published[i].width);
        assert_int_equal(rows, 7);
        assert_int_equal(columns, 7);
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

static void the_grid_is_that_of_the_map(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        mmf_resnet_sizes sizes;
    } nets[] = {
        {"{\"layers\": [1, 1, 1], \"width\": 3, \"num_classes\": 2}",
         {.n_stages = 3, .layers = {1, 1, 1}, .width = 3, .channels = 2}},
        {"{\"layers\": [1, 1, 1], \"width\": 2, \"stem\": \"cifar\", \"shortcut\": \"A\", "
         "\"num_classes\": 2}",
         {.small_stem = true, .n_stages = 3, .layers = {1, 1, 1}, .width = 2, .channels = 2}},
    };
    mmf_ctx *const ctx = test_ctx();
    for (int64_t height = 1; height < 40; height += 3) {
        for (size_t i = 0; i < sizeof nets / sizeof *nets; i++) {
            const int64_t shape[] = {1, 2, height, 41 - height};
            mmf_module *const module = make(ctx, nets[i].json, 2, shape[2], shape[3]);
            mmf_real *const images = noise(2 * shape[2] * shape[3]);
            int64_t count = 0, rows = 0, columns = 0;
            free(run(ctx, module, images, shape, "feature_map", &count));
            mmf_resnet_grid(&nets[i].sizes, shape[2], shape[3], &rows, &columns);
            assert_int_equal(count, mmf_resnet_width(&nets[i].sizes) * rows * columns);
            free(images);
            mmf_module_free(module);
        }
    }
    mmf_ctx_free(ctx);
}

/* ---- Properties -------------------------------------------------------------------------- */

/* A picture that is moved by the whole stride moves the map by one cell, away from its borders. */
static void the_map_moves_with_the_picture(void **state)
{
    (void)state;
    enum { SIDE = 320, MOVE = 32, CELLS = 10, CHANNELS = 32, FIRST = 4, LAST = 5 };
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module =
        make(ctx, "{\"layers\": [1, 1, 1, 1], \"width\": 4, \"num_classes\": 0}", 1, SIDE, SIDE);
    const int64_t shape[] = {1, 1, SIDE, SIDE};
    mmf_real *const wide = noise(SIDE * (SIDE + MOVE)), *const view = noise(SIDE * SIDE);
    mmf_real *maps[2];
    int64_t count = 0;
    draw_norms(module);
    for (int v = 0; v < 2; v++) {
        for (int64_t y = 0; y < SIDE; y++)
            memcpy(view + y * SIDE, wide + y * (SIDE + MOVE) + v * MOVE, SIDE * sizeof *view);
        maps[v] = run(ctx, module, view, shape, "feature_map", &count);
        assert_int_equal(count, CHANNELS * CELLS * CELLS);
    }
    /* A cell sees 97 pixels around its place, which is at 32 times its number. */
    double largest = 0, difference = 0;
    for (int64_t c = 0; c < CHANNELS; c++) {
        for (int64_t y = FIRST; y <= LAST; y++) {
            const mmf_real *const row = maps[1] + (c * CELLS + y) * CELLS;
            const mmf_real *const moved = maps[0] + (c * CELLS + y) * CELLS + 1;
            for (int64_t x = FIRST; x <= LAST; x++) {
                difference = fmax(difference, fabs((double)row[x] - (double)moved[x]));
                largest = fmax(largest, fabs((double)row[x]));
            }
        }
    }
    assert_true(largest > 0.1);
    assert_true(difference < 1e-5 * largest);
    free(maps[0]);
    free(maps[1]);
    free(wide);
    free(view);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void fixed_statistics_stay_in_training(void **state)
{
    (void)state;
    enum { N = 2 * 3 * 32 * 32 };
    mmf_ctx *const ctx = test_ctx();
    mmf_real *const images = noise(N);
    for (int fixed = 0; fixed < 2; fixed++) {
        mmf_module *const module =
            make(ctx,
                 fixed ? "{\"layers\": [1, 1], \"width\": 4, \"fixed_statistics\": true}"
                       : "{\"layers\": [1, 1], \"width\": 4}",
                 3, 32, 32);
        mmf_tape *tape = NULL;
        mmf_named in = {0}, out = {0};
        draw_norms(module);
        const mmf_tensor *const mean =
            mmf_params_find(mmf_module_params(module), "bn1.running_mean")->tensor;
        const mmf_real before = mean->data[0];
        test_ok(ctx, mmf_tape_create(ctx, &tape));
        mmf_tape_begin(tape, &(mmf_pass){.record = true, .training = true});
        mmf_named_put(tape, &in, "image", mmf_input(tape, images, 4, (int64_t[]){2, 3, 32, 32}));
        mmf_module_run(module, tape, &in, &(mmf_step){.training = true}, &out);
        test_ok(ctx, mmf_tape_backward(tape,
                                       mmf_sum(tape, mmf_named_get(&out, "logits"), MMF_ALL_AXES)));
        if (fixed)
            assert_true(mean->data[0] == before);
        else
            assert_true(mean->data[0] != before);
        mmf_tape_free(tape);
        mmf_module_free(module);
    }
    free(images);
    mmf_ctx_free(ctx);
}

/* ---- Blocked layouts against operation by operation -------------------------------------- */

typedef struct net_case {
    const char *json;
    int64_t n, channels, height, width;
} net_case;

/* Odd widths, images of one to three channels and of more, few and many images, both stems. */
static const net_case net_cases[] = {
    {"{\"layers\": [1, 1, 1, 1], \"width\": 64, \"num_classes\": 0}", 1, 3, 64, 96},
    {"{\"layers\": [2, 2], \"width\": 64, \"num_classes\": 0}", 3, 1, 45, 33},
    {"{\"block\": \"bottleneck\", \"layers\": [1, 2, 1], \"width\": 32, \"num_classes\": 0}", 5, 3,
     64, 64},
    {"{\"block\": \"bottleneck\", \"layers\": [1, 1], \"width\": 5, \"num_classes\": 0}", 2, 2, 32,
     40},
    {"{\"layers\": [2, 1, 1], \"width\": 16, \"stem\": \"cifar\", \"shortcut\": \"A\", "
     "\"num_classes\": 0}",
     9, 3, 32, 32},
    {"{\"layers\": [1, 2], \"width\": 6, \"stem\": \"cifar\", \"shortcut\": \"A\", "
     "\"num_classes\": 0}",
     2, 4, 7, 9},
};

/* The map of one pass, and how much memory was asked for in two more; freed by the caller. */
static mmf_real *map_of(const net_case *c, const mmf_pass *pass, int n_threads, int64_t *count)
{
    mmf_ctx *ctx = NULL;
    mmf_ctx_options options = MMF_CTX_OPTIONS_INIT;
    options.n_threads = n_threads;
    assert_int_equal(mmf_ctx_create(&ctx, &options), MMF_OK);
    mmf_module *const module = make(ctx, c->json, c->channels, c->height, c->width);
    mmf_real *const images = noise(c->n * c->channels * c->height * c->width);
    mmf_real *copy = NULL;
    mmf_tape *tape = NULL;
    uint64_t before = 0;
    draw_norms(module);
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    for (int round = 0; round < 4; round++) {
        mmf_named in = {0}, out = {0};
        before = round == 2 ? mmf_ctx_memory(ctx).n_allocations : before;
        mmf_tape_begin(tape, pass);
        mmf_named_put(
            tape, &in, "image",
            mmf_input(tape, images, 4, (int64_t[]){c->n, c->channels, c->height, c->width}));
        mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
        test_ok(ctx, mmf_tape_status(tape));
        const mmf_tensor *const y = mmf_named_get(&out, "feature_map");
        if (!copy)
            copy = malloc((size_t)y->count * sizeof *copy);
        assert_non_null(copy);
        memcpy(copy, y->data, (size_t)y->count * sizeof *copy);
        *count = y->count;
    }
    if (!TEST_ARENAS_ALLOCATE)
        assert_int_equal(mmf_ctx_memory(ctx).n_allocations, before);
    mmf_tape_free(tape);
    mmf_module_free(module);
    free(images);
    mmf_ctx_free(ctx);
    return copy;
}

/* A recorded pass runs the operations one after the other. */
static void blocked_layouts_agree_with_operations(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof net_cases / sizeof *net_cases; i++) {
        int64_t count = 0;
        mmf_real *const wanted = map_of(&net_cases[i], &(mmf_pass){.record = true}, 1, &count);
        double largest = 0;
        for (int64_t e = 0; e < count; e++)
            largest = fmax(largest, fabs((double)wanted[e]));
        assert_true(largest > 0.01);
        for (int fixed = 0; fixed < 2; fixed++) {
            mmf_real *const found =
                map_of(&net_cases[i], &(mmf_pass){.fixed = fixed}, 1 + fixed, &count);
            double worst = 0;
            for (int64_t e = 0; e < count; e++)
                worst = fmax(worst, fabs((double)found[e] - (double)wanted[e]));
            if (!(worst <= 1e-5 * largest))
                fail_msg("%s: off by %.2g of the largest value", net_cases[i].json,
                         worst / largest);
            free(found);
        }
        free(wanted);
    }
}

static void results_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof net_cases / sizeof *net_cases; i++) {
        int64_t count = 0;
        mmf_real *const one = map_of(&net_cases[i], &(mmf_pass){.fixed = true}, 1, &count);
        mmf_real *const three = map_of(&net_cases[i], &(mmf_pass){.fixed = true}, 3, &count);
        assert_memory_equal(one, three, (size_t)count * sizeof *one);
        free(one);
        free(three);
    }
}

/* ---- Refusals ---------------------------------------------------------------------------- */

static void an_image_that_is_too_small_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *spec;
        int64_t side;
        const char *says;
    } rows[] = {{"image=resnet18", 1, "images of image are 1 x 1, at least 32 x 32"},
                {"image=resnet50", 31, "at least 32 x 32"},
                {"image=resnet20", 3, "at least 4 x 4"}};
    mmf_ctx *const ctx = test_ctx();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        mmf_input_schema input = {.name = "image",
                                  .kind = MMF_IMAGE,
                                  .n_dims = 3,
                                  .shape = {3, rows[i].side, rows[i].side}};
        const mmf_schema schema = {1, &input};
        mmf_config *config = NULL;
        mmf_module *module = NULL;
        test_ok(ctx, mmf_config_create(ctx, &config, mmf_model_find("only")));
        test_ok(ctx, mmf_config_set(config, "encoder", rows[i].spec));
        const mmf_status status =
            mmf_module_create(ctx, &module, mmf_model_find("only"), config, &schema, 1);
        test_fails(ctx, status, MMF_SHAPE, rows[i].says);
        mmf_config_free(config);
    }
    mmf_ctx_free(ctx);
}

/* ---- A trained network ------------------------------------------------------------------- */

static void load_weights(mmf_ctx *ctx, mmf_module *module, const char *path)
{
    mmf_archive *archive = NULL;
    test_ok(ctx, mmf_archive_open(ctx, &archive, path, NULL));
    const mmf_params *const params = mmf_module_params(module);
    assert_int_equal(mmf_archive_count(archive), mmf_params_count(params));
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        const int64_t place = mmf_archive_find(archive, p->name);
        mmf_array array;
        if (place < 0)
            fail_msg("%s has no %s", path, p->name);
        test_ok(ctx, mmf_archive_load(archive, (size_t)place, &array));
        assert_int_equal(mmf_array_count(&array), p->tensor->count);
        mmf_array_floats(&array, 0, p->tensor->count, p->tensor->data);
    }
    mmf_archive_close(archive);
}

static mmf_array load_array(mmf_ctx *ctx, mmf_archive *archive, const char *name)
{
    mmf_array array;
    const int64_t place = mmf_archive_find(archive, name);
    assert_true(place >= 0);
    test_ok(ctx, mmf_archive_load(archive, (size_t)place, &array));
    return array;
}

enum { PLANE = 32 * 32, IMAGE = 3 * PLANE, N_CLASSES = 10, BATCH = 100 };

static int classify(mmf_ctx *ctx, mmf_module *module, const mmf_array *images,
                    const mmf_array *wanted, const mmf_array *labels, int64_t first, double *worst)
{
    static const double mean[] = {0.485, 0.456, 0.406}, deviation[] = {0.229, 0.224, 0.225};
    mmf_real *const x = malloc((size_t)BATCH * IMAGE * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < (int64_t)BATCH * IMAGE; i++) {
        const int64_t c = i % IMAGE / PLANE;
        x[i] = (mmf_real)((mmf_array_number(images, first * IMAGE + i) / 255 - mean[c]) /
                          deviation[c]);
    }
    int64_t count = 0;
    int right = 0;
    mmf_real *const logits = run(ctx, module, x, (int64_t[]){BATCH, 3, 32, 32}, "logits", &count);
    assert_int_equal(count, BATCH * N_CLASSES);
    for (int64_t i = 0; i < BATCH; i++) {
        const mmf_real *const row = logits + i * N_CLASSES;
        int64_t best = 0;
        for (int64_t k = 0; k < N_CLASSES; k++) {
            best = row[k] > row[best] ? k : best;
            *worst = fmax(*worst, fabs((double)row[k] -
                                       mmf_array_number(wanted, (first + i) * N_CLASSES + k)));
        }
        right += best == mmf_array_integer(labels, first + i);
    }
    free(logits);
    free(x);
    return right;
}

/* On 1000 images of CIFAR-10's test set, with the weights of a public ResNet-20. */
static void a_trained_network_gives_its_published_logits(void **state)
{
    (void)state;
    const char *const weights = test_shared("data/weights/cifar_resnet20.safetensors");
    char weights_path[600];
    if (!weights)
        skip();
    snprintf(weights_path, sizeof weights_path, "%s", weights);
    const char *const data = test_shared("data/cifar10-test1000.npz");
    if (!data)
        skip();
    mmf_ctx *const ctx = test_ctx();
    mmf_archive *archive = NULL;
    test_ok(ctx, mmf_archive_open(ctx, &archive, data, NULL));
    const mmf_array images = load_array(ctx, archive, "image"),
                    labels = load_array(ctx, archive, "label"),
                    logits = load_array(ctx, archive, "reference.logits");
    mmf_module *const module = make(ctx,
                                    "{\"layers\": [3, 3, 3], \"width\": 16, \"num_classes\": 10, "
                                    "\"stem\": \"cifar\", \"shortcut\": \"A\"}",
                                    3, 32, 32);
    load_weights(ctx, module, weights_path);
    const int64_t n = TEST_SAMPLE ? BATCH : images.shape[0];
    double worst = 0;
    int right = 0;
    for (int64_t first = 0; first + BATCH <= n; first += BATCH)
        right += classify(ctx, module, &images, &logits, &labels, first, &worst);
    fprintf(stderr, "ResNet-20: %d of %lld right, logits off by %.2g at most\n", right,
            (long long)n, worst);
    assert_true(worst < 1e-3);
    if (!TEST_SAMPLE)
        assert_int_equal(right, 809);
    mmf_module_free(module);
    mmf_archive_close(archive);
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_networks_have_their_sizes),
        cmocka_unit_test(the_grid_is_that_of_the_map),
        cmocka_unit_test(the_map_moves_with_the_picture),
        cmocka_unit_test(fixed_statistics_stay_in_training),
        cmocka_unit_test(blocked_layouts_agree_with_operations),
        cmocka_unit_test(results_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(an_image_that_is_too_small_is_refused),
        cmocka_unit_test(a_trained_network_gives_its_published_logits),
    };
    return cmocka_run_group_tests_name("resnet", tests, NULL, NULL);
}
