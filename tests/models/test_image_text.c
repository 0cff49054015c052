/*
 * test_image_text.c: models that read an image's cells beside words, by what defines them.
 */
#include <math.h>
#include <stdlib.h>

#include "mmfuse/model.h"
#include "models/image_cells.h"
#include "support.h"

enum { T = 9, N_CELLS = 4, D = 5, VOCAB = 11, CLASSES = 3, SIDE = 24 };

#define SAME 2e-5

typedef struct sample {
    int64_t words[T];
    mmf_real cells[N_CELLS * D];
} sample;

static sample random_sample(void)
{
    sample s = {.words = {3, 1, 8, 2, 7, 5, 9, 4, 6}};
    mmf_rng rng = mmf_rng_make(5, 2);
    for (int i = 0; i < N_CELLS * D; i++)
        s.cells[i] = (mmf_real)mmf_rng_normal(&rng);
    return s;
}

static mmf_module *make(mmf_ctx *ctx, const char *model, const char *json, int64_t n_cells)
{
    mmf_input_schema inputs[] = {
        {.name = "text", .kind = MMF_TOKENS, .n_dims = 1, .shape = {T}, .vocab_size = VOCAB},
        {.name = "vision", .kind = MMF_SEQUENCE, .n_dims = 2, .shape = {n_cells, D}}};
    const mmf_schema schema = {2, inputs};
    mmf_config *config = NULL;
    mmf_module *module = NULL;
    test_ok(ctx, mmf_config_create(ctx, &config, mmf_model_find(model)));
    test_ok(ctx, mmf_config_set_json(config, json));
    test_ok(ctx, mmf_config_set(config, "num_classes", "3"));
    test_ok(ctx, mmf_module_create(ctx, &module, mmf_config_def(config), config, &schema, 5));
    mmf_config_free(config);
    /* Larger weights, so that what matters shows. */
    const mmf_params *const params = mmf_module_params(module);
    for (size_t i = 0; i < mmf_params_count(params); i++) {
        const mmf_param *const p = mmf_params_at(params, i);
        for (int64_t e = 0; !p->is_alias && p->tensor->n_dims > 1 && e < p->tensor->count; e++)
            p->tensor->data[e] *= 10;
    }
    return module;
}

static void run(mmf_ctx *ctx, mmf_module *module, sample *s, int64_t n_cells, const char *name,
                double *values, int64_t wanted)
{
    mmf_tape *tape = NULL;
    mmf_named in = {0}, out = {0};
    test_ok(ctx, mmf_tape_create(ctx, &tape));
    mmf_tape_begin(tape, &(mmf_pass){0});
    mmf_named_put(tape, &in, "text", mmf_input_ints(tape, s->words, 2, (int64_t[]){1, T}));
    mmf_named_put(tape, &in, "vision", mmf_input(tape, s->cells, 3, (int64_t[]){1, n_cells, D}));
    mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
    test_ok(ctx, mmf_tape_status(tape));
    const mmf_tensor *const y = mmf_named_get(&out, name);
    assert_non_null(y);
    assert_int_equal(y->count, wanted);
    for (int64_t i = 0; i < wanted; i++)
        values[i] = (double)y->data[i];
    mmf_tape_free(tape);
}

static double distance(const double *a, const double *b, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++)
        worst = fmax(worst, fabs(a[i] - b[i]));
    return worst;
}

static mmf_tensor *parameter(mmf_module *module, const char *name)
{
    const mmf_param *const p = mmf_params_find(mmf_module_params(module), name);
    if (!p)
        fail_msg("there is no parameter %s", name);
    return p ? p->tensor : NULL;
}

static void swap_rows(mmf_real *data, int64_t width, int64_t i, int64_t j)
{
    for (int64_t d = 0; d < width; d++) {
        const mmf_real kept = data[i * width + d];
        data[i * width + d] = data[j * width + d];
        data[j * width + d] = kept;
    }
}

/* ---- MMBT -------------------------------------------------------------------------------- */

#define MMBT "{\"hidden_size\": 8, \"num_attention_heads\": 2}"

/* Words that change places with their positions, beyond those that the image has as well. */
static void words_are_a_set_of_words_in_places(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx, "mmbt", MMBT, N_CELLS);
    sample s = random_sample();
    double before[CLASSES], moved[CLASSES], after[CLASSES];
    mmf_tensor *const positions =
        parameter(module, "enc.txt_embeddings.position_embeddings.weight");
    run(ctx, module, &s, N_CELLS, "logits", before, CLASSES);
    const int64_t first = s.words[6];
    s.words[6] = s.words[8];
    s.words[8] = first;
    run(ctx, module, &s, N_CELLS, "logits", moved, CLASSES);
    swap_rows(positions->data, 8, 6, 8);
    run(ctx, module, &s, N_CELLS, "logits", after, CLASSES);
    assert_true(distance(before, moved, CLASSES) > 1e-3);
    assert_true(distance(before, after, CLASSES) < SAME);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void without_the_layer_of_the_image_it_does_not_matter(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx, "mmbt", MMBT, N_CELLS);
    sample s = random_sample(), other = s;
    double first[CLASSES], second[CLASSES];
    for (int i = 0; i < N_CELLS * D; i++)
        other.cells[i] = -2 * s.cells[i];
    run(ctx, module, &s, N_CELLS, "logits", first, CLASSES);
    run(ctx, module, &other, N_CELLS, "logits", second, CLASSES);
    assert_true(distance(first, second, CLASSES) > 1e-3);
    mmf_tensor *const w = parameter(module, "enc.img_embeddings.img_embeddings.weight");
    memset(w->data, 0, (size_t)w->count * sizeof *w->data);
    run(ctx, module, &s, N_CELLS, "logits", first, CLASSES);
    run(ctx, module, &other, N_CELLS, "logits", second, CLASSES);
    assert_true(distance(first, second, CLASSES) == 0);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

static void image_and_text_share_their_tables(void **state)
{
    (void)state;
    static const char *const tables[] = {"word_embeddings.weight", "position_embeddings.weight",
                                         "token_type_embeddings.weight", "LayerNorm.weight",
                                         "LayerNorm.bias"};
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx, "mmbt", MMBT, N_CELLS);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        char name[100];
        snprintf(name, sizeof name, "enc.txt_embeddings.%s", tables[i]);
        const mmf_tensor *const text = parameter(module, name);
        snprintf(name, sizeof name, "enc.img_embeddings.%s", tables[i]);
        assert_ptr_equal(text, parameter(module, name));
    }
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* ---- ResNet, BERT and attention ---------------------------------------------------------- */

#define TOM                                                                                        \
    "{\"hidden_size\": 8, \"num_attention_heads\": 2, \"pooling\": \"concat\", "                   \
    "\"num_hidden_layers\": 1}"

static void cells_are_a_set(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx, "resnet-bert-attention", TOM, N_CELLS);
    sample s = random_sample();
    double before[CLASSES], after[CLASSES];
    run(ctx, module, &s, N_CELLS, "logits", before, CLASSES);
    swap_rows(s.cells, D, 0, 3);
    swap_rows(s.cells, D, 1, 2);
    run(ctx, module, &s, N_CELLS, "logits", after, CLASSES);
    assert_true(distance(before, after, CLASSES) < SAME);
    s.cells[0] += 1;
    run(ctx, module, &s, N_CELLS, "logits", after, CLASSES);
    assert_true(distance(before, after, CLASSES) > 1e-3);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* Whatever the attention is, it is over the same vector. */
static void equal_cells_need_no_attention(void **state)
{
    (void)state;
    mmf_ctx *const ctx = test_ctx();
    mmf_module *const module = make(ctx, "resnet-bert-attention", TOM, N_CELLS);
    sample s = random_sample();
    double before[8], after[8];
    for (int i = D; i < N_CELLS * D; i++)
        s.cells[i] = s.cells[i - D];
    run(ctx, module, &s, N_CELLS, "attended_image", before, 8);
    mmf_tensor *const keys =
        parameter(module, "ent2img_attention.layer.0.attention.self.key.weight");
    for (int64_t i = 0; i < keys->count; i++)
        keys->data[i] = -3 * keys->data[i] + 1;
    run(ctx, module, &s, N_CELLS, "attended_image", after, 8);
    assert_true(distance(before, after, 8) < SAME);
    mmf_module_free(module);
    mmf_ctx_free(ctx);
}

/* ---- Cells of a map ---------------------------------------------------------------------- */

static mmf_image_grid grid;

static const mmf_option cell_options[] = {MMF_IMAGE_OPTIONS, {0}};

static mmf_status build_cells(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                              void **self)
{
    mmf_image_cells *const cells = mmf_builder_alloc(b, sizeof *cells);
    if (!cells)
        return mmf_builder_status(b);
    *cells = mmf_image_cells_build(b, config, &inputs->inputs[0], "net", NULL, &grid);
    *self = cells;
    return mmf_builder_status(b);
}

static void run_cells(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                      mmf_named *out)
{
    (void)step;
    const mmf_image_cells *const c = self;
    mmf_tensor *const map = mmf_resnet_run(tape, &c->net, mmf_named_get(in, "image"));
    mmf_named_put(tape, out, "map", map);
    mmf_named_put(tape, out, "pooled", mmf_resnet_pool(tape, map));
    mmf_named_put(tape, out, "cells", mmf_image_cells_run(tape, c, in));
}

static const mmf_def cell_layer = {.name = "cells",
                                   .kind = MMF_KIND_LAYER,
                                   .options = cell_options,
                                   .build = build_cells,
                                   .run = run_cells};

/* Cells by their definition, of a map of 6 x 6 places: cell i of k has places floor(6 i / k) up to
 * ceil(6 (i + 1) / k). */
static void assert_cells(const mmf_tensor *map, const mmf_tensor *cells)
{
    const int64_t channels = map->shape[1], h = map->shape[2], w = map->shape[3];
    assert_int_equal(cells->shape[1], grid.rows * grid.columns);
    assert_int_equal(cells->shape[2], channels);
    for (int64_t cell = 0; cell < grid.rows * grid.columns; cell++) {
        const int64_t i = cell / grid.columns, j = cell % grid.columns;
        for (int64_t c = 0; c < channels; c++) {
            double sum = 0, most = -INFINITY;
            int64_t n = 0;
            for (int64_t y = i * h / grid.rows;
                 y < (int64_t)ceil((double)((i + 1) * h) / (double)grid.rows); y++) {
                for (int64_t x = j * w / grid.columns;
                     x < (int64_t)ceil((double)((j + 1) * w) / (double)grid.columns); x++, n++) {
                    const double value = (double)map->data[(c * h + y) * w + x];
                    sum += value;
                    most = fmax(most, value);
                }
            }
            const double wanted = grid.by_max ? most : sum / (double)n;
            assert_true(fabs((double)cells->data[cell * channels + c] - wanted) < 1e-5);
        }
    }
}

static void cells_are_bins_of_the_map(void **state)
{
    (void)state;
    static const mmf_image_grid grids[] = {{1, 1, false, false}, {3, 1, false, false},
                                           {4, 4, false, false}, {5, 1, false, true},
                                           {7, 7, true, false},  {2, 2, false, true}};
    mmf_ctx *const ctx = test_ctx();
    mmf_real image[3 * SIDE * SIDE];
    mmf_rng rng = mmf_rng_make(1, 1);
    for (int i = 0; i < 3 * SIDE * SIDE; i++)
        image[i] = (mmf_real)mmf_rng_normal(&rng);
    for (size_t g = 0; g < sizeof grids / sizeof *grids; g++) {
        mmf_input_schema input = {
            .name = "image", .kind = MMF_IMAGE, .n_dims = 3, .shape = {3, SIDE, SIDE}};
        const mmf_schema schema = {1, &input};
        mmf_module *module = NULL;
        mmf_tape *tape = NULL;
        mmf_named in = {0}, out = {0};
        grid = grids[g];
        test_ok(ctx, mmf_module_create(ctx, &module, &cell_layer, NULL, &schema, 1));
        test_ok(ctx, mmf_tape_create(ctx, &tape));
        mmf_tape_begin(tape, &(mmf_pass){0});
        mmf_named_put(tape, &in, "image", mmf_input(tape, image, 4, (int64_t[]){1, 3, SIDE, SIDE}));
        mmf_module_run(module, tape, &in, &(mmf_step){0}, &out);
        test_ok(ctx, mmf_tape_status(tape));
        const mmf_tensor *const cells = mmf_named_get(&out, "cells"), *const pooled = mmf_named_get(
                                                                          &out, "pooled");
        if (grid.at_most) /* the map has 6 x 6 places, so each is a cell */
            grid.rows = grid.columns = 6;
        assert_cells(mmf_named_get(&out, "map"), cells);
        for (int64_t c = 0; g == 0 && c < pooled->count; c++)
            assert_true(fabs((double)cells->data[c] - (double)pooled->data[c]) < 1e-5);
        mmf_tape_free(tape);
        mmf_module_free(module);
    }
    mmf_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_a_set_of_words_in_places),
        cmocka_unit_test(without_the_layer_of_the_image_it_does_not_matter),
        cmocka_unit_test(image_and_text_share_their_tables),
        cmocka_unit_test(cells_are_a_set),
        cmocka_unit_test(equal_cells_need_no_attention),
        cmocka_unit_test(cells_are_bins_of_the_map),
    };
    return cmocka_run_group_tests_name("image and text", tests, NULL, NULL);
}
