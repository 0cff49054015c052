/*
 * mmbt.c: cells of an image as words in front of the text, through one BERT.
 *
 * Kiela, Bhooshan, Firooz, Perez, Testuggine, 2019: supervised multimodal bitransformers. Names of
 * the reference: the image's embeddings share the tables of the text's, so both names are one
 * tensor. Its layer `enc.clf`, which nothing reads, is kept for its files.
 */
#include "models/image_cells.h"
#include "models/parts.h"
#include "nn/bert.h"

#define MAX_CELLS 9

static const mmf_option options[] = {
    MMF_BERT_OPTIONS,
    MMF_IMAGE_OPTIONS,
    {"num_image_embeds", NULL, MMF_OPTION_INT, 1, MAX_CELLS, NULL, "3",
     "cells of the image; of features: as many as there are"},
    {"img_embed_pool_type", NULL, MMF_OPTION_TEXT, 0, 0, "avg|max", "avg",
     "mean or maximum over the places of a cell"},
    {"cls_id", NULL, MMF_OPTION_INT, -1, 100000000, "-", "-1",
     "word in front of the image; -1: one behind the vocabulary (BERT's tables: 101)"},
    {"sep_id", NULL, MMF_OPTION_INT, -1, 100000000, "-", "-1",
     "word behind the image; -1: one behind the vocabulary (BERT's tables: 102)"},
    {"task", NULL, MMF_OPTION_TEXT, 0, 0, NULL, "", "the reference's data set; changes nothing"},
    {"n_classes", NULL, MMF_OPTION_INT, 0, 1000000, NULL, "0", "outputs; 0: the task's"},
    {0},
};

typedef struct mmbt {
    const char *text;
    mmf_image_cells image;
    mmf_linear_layer img_embeddings, clf;
    mmf_bert bert;
    int64_t cls_id, sep_id;
    bool is_regression;
} mmbt;

static const char *refuses(const mmf_schema *inputs)
{
    const mmf_input_schema *const text = mmf_bert_text(inputs);
    if (!text || inputs->count != 2)
        return "it needs one modality of tokens (--kind NAME=tokens) and one image, or features of "
               "one; choose with --modalities";
    const mmf_input_schema *const image = &inputs->inputs[text == &inputs->inputs[0] ? 1 : 0];
    return mmf_image_cells_take(image) ? NULL
                                       : "beside the tokens it takes an image, or features of one";
}

/* ---- Building ---------------------------------------------------------------------------- */

/* Rows and columns of 1 to 9 cells in the reference. */
static mmf_image_grid grid_of(const mmf_config *config)
{
    static const int64_t cells[MAX_CELLS][2] = {{1, 1}, {2, 1}, {3, 1}, {2, 2}, {5, 1},
                                                {3, 2}, {7, 1}, {4, 2}, {3, 3}};
    const int64_t *const at = cells[mmf_config_int(config, "num_image_embeds") - 1];
    return (mmf_image_grid){.rows = at[0],
                            .columns = at[1],
                            .by_max = mmf_config_text(config, "img_embed_pool_type")[0] == 'm'};
}

/* Words of the model's own stand behind those of the data. */
static int64_t own_word(mmf_builder *b, const mmf_config *config, const char *option,
                        mmf_bert_sizes *sizes)
{
    const int64_t given = mmf_config_int(config, option);
    if (given < 0)
        return sizes->vocab++;
    if (given >= sizes->vocab)
        mmf_builder_fail(b, MMF_ARG, "mmbt: %s is %lld, but there are %lld words", option,
                         (long long)given, (long long)sizes->vocab);
    return given;
}

static void share_tables(mmf_builder *b, const mmf_bert_embeddings *e)
{
    mmf_builder_alias(b, "enc.img_embeddings.word_embeddings.weight", e->words.weight);
    mmf_builder_alias(b, "enc.img_embeddings.position_embeddings.weight", e->positions);
    mmf_builder_alias(b, "enc.img_embeddings.token_type_embeddings.weight", e->types);
    mmf_layer_norm_alias(b, "enc.img_embeddings.LayerNorm", &e->norm);
}

static void keep_unused(mmf_builder *b, int64_t width, int64_t n_outputs)
{
    const mmf_init zero = mmf_init_constant(0);
    mmf_builder_param(b, "enc.clf.weight", MMF_PARAM_FIXED, zero, 2, (int64_t[]){n_outputs, width});
    mmf_builder_param(b, "enc.clf.bias", MMF_PARAM_FIXED, zero, 1, &n_outputs);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    static const mmf_resnet_names names = {"0", "1", {"4", "5", "6", "7", "8", "9", "10", "11"}};
    mmbt *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    const char *const problem = refuses(inputs);
    if (problem)
        return mmf_builder_fail(b, MMF_SHAPE, "mmbt: %s", problem);
    const mmf_input_schema *const text = mmf_bert_text(inputs);
    const mmf_input_schema *const image = &inputs->inputs[text == &inputs->inputs[0] ? 1 : 0];
    const mmf_image_grid grid = grid_of(config);
    mmf_bert_sizes sizes = mmf_bert_sizes_read(b, config, text);
    model->text = text->name;
    model->cls_id = own_word(b, config, "cls_id", &sizes);
    model->sep_id = own_word(b, config, "sep_id", &sizes);
    model->image = mmf_image_cells_build(b, config, image, "enc.img_encoder.model", &names, &grid);
    const int64_t n_words = model->image.n_cells + 2;
    if (sizes.types < 2)
        mmf_builder_fail(b, MMF_ARG,
                         "mmbt: type_vocab_size is 1: the image is segment 0, the text "
                         "segment 1");
    if (mmf_config_int(config, "max_position_embeddings") == 0 && sizes.positions < n_words)
        sizes.positions = n_words;
    if (sizes.positions < n_words)
        mmf_builder_fail(b, MMF_SHAPE,
                         "mmbt: max_position_embeddings is %lld, the image has %lld words",
                         (long long)sizes.positions, (long long)n_words);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    model->bert = mmf_bert_build_as(b, "enc", "txt_embeddings", &sizes, true);
    share_tables(b, &model->bert.embeddings);
    model->img_embeddings = mmf_linear_build(b, "enc.img_embeddings.img_embeddings",
                                             model->image.width, sizes.width, true);
    const int64_t given = mmf_config_int(config, "n_classes");
    const int64_t outputs = mmf_n_answers(b, config, "n_classes");
    model->clf = mmf_linear_build(b, "clf", sizes.width, outputs, true);
    keep_unused(b, sizes.width, outputs);
    model->is_regression = given ? given == 1 : mmf_is_value(config);
    *self = model;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

/* The vector of one word for every sample. @return (B, 1, D) */
static mmf_tensor *word(mmf_tape *tape, const mmbt *model, int64_t id, int64_t n)
{
    const mmf_bert_embeddings *const e = &model->bert.embeddings;
    mmf_tensor *const row = mmf_slice(tape, e->words.weight, 0, id, 1);
    return mmf_expand(tape, row, 3, (int64_t[]){n, 1, model->bert.sizes.width});
}

/* [CLS] cells [SEP], positions from 0, segment 0. @return (B, N + 2, D) */
static mmf_tensor *embed_image(mmf_tape *tape, const mmbt *model, const mmf_named *in)
{
    mmf_tensor *const cells = mmf_linear_run(
        tape, &model->img_embeddings, mmf_image_cells_run(tape, &model->image, in), MMF_ACT_NONE);
    if (!cells)
        return NULL;
    const int64_t n = cells->shape[0];
    mmf_tensor *const parts[] = {word(tape, model, model->cls_id, n), cells,
                                 word(tape, model, model->sep_id, n)};
    return mmf_bert_embed(tape, &model->bert.embeddings, mmf_concat(tape, parts, 3, 1), NULL, 0);
}

/* Positions from 0 again, segment 1 where the data has no segments. @return (B, T, D) */
static mmf_tensor *embed_text(mmf_tape *tape, const mmbt *model, const mmf_named *in)
{
    const mmf_bert_embeddings *const e = &model->bert.embeddings;
    mmf_tensor *const words = mmf_bert_words(tape, e, mmf_named_get(in, model->text));
    return mmf_bert_embed(tape, e, words, mmf_named_part(in, model->text, "segments"), 1);
}

/* The words around the image count always, so that something is there to attend to. */
static mmf_tensor *keys_of(mmf_tape *tape, const mmbt *model, const mmf_named *in)
{
    mmf_tensor *const cells = mmf_image_cells_keys(tape, &model->image, in);
    mmf_tensor *const around = cells ? mmf_pad(tape, cells, 1, 1, 1, 1) : NULL;
    return mmf_concat(tape, (mmf_tensor *[]){around, mmf_bert_keys(tape, in, model->text)}, 2, 1);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mmbt *const model = self;
    mmf_tensor *const blocks[] = {embed_image(tape, model, in), embed_text(tape, model, in)};
    mmf_tensor *const x = mmf_bert_encode(tape, &model->bert, mmf_concat(tape, blocks, 2, 1),
                                          keys_of(tape, model, in));
    mmf_tensor *const pooled = mmf_bert_pool(tape, &model->bert, x);
    mmf_named_put(tape, out, "last_hidden_state", x);
    mmf_named_put(tape, out, "pooler_output", pooled);
    mmf_named_put(tape, out, "feature_fusion", pooled);
    mmf_put_result(tape, out, model->is_regression,
                   mmf_linear_run(tape, &model->clf, pooled, MMF_ACT_NONE));
}

const mmf_def mmf_model_mmbt = {
    .name = "mmbt",
    .title = "Multimodal bitransformer",
    .paper = "Kiela, Bhooshan, Firooz, Perez, Testuggine, Supervised multimodal bitransformers for "
             "classifying images and text, 2019, arXiv:1909.02950",
    .equations = "BERT over [CLS] W c_1..c_N [SEP] (segment 0), then the words (segment 1, "
                 "positions from 0 again); y = W tanh(W_p h_CLS + b_p) + b; c_i the mean of a cell "
                 "of the image network's last map. Smaller by default than the paper's; images are "
                 "normalised as the data's, not by the paper's constants",
    .missing = "cells of an absent image, and words of an absent text, are not attended to",
    .lr = 3e-4,
    .timing = "intermediate",
    .structure = "attention",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_TWO_ONLY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
    .refuses = refuses,
};
