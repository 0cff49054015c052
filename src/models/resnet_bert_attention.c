/*
 * resnet_bert_attention.c: words look at the cells of an image; what they saw goes in front of them
 * through one more layer.
 *
 * Yu and Jiang, IJCAI 2019 (TomBERT), with its names, for an image and a text; a third modality of
 * tokens called `target` asks in the text's place.
 */
#include <string.h>

#include "models/image_cells.h"
#include "models/parts.h"
#include "nn/bert.h"

#define CELLS 7

static const mmf_option options[] = {
    MMF_BERT_OPTIONS,
    MMF_IMAGE_OPTIONS,
    {"pooling", NULL, MMF_OPTION_TEXT, 0, 0, "first|cls|concat", "first",
     "what is classified: what was seen, the text's first word, or both"},
    {"share_bert", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "one BERT for the text and for what asks; else `s2_bert` reads that"},
    {"num_labels", NULL, MMF_OPTION_INT, 0, 1000000, NULL, "0", "outputs; 0: the task's"},
    {0},
};

typedef enum pooling { POOL_FIRST, POOL_CLS, POOL_BOTH } pooling;

typedef struct tom_bert {
    const mmf_input_schema *text, *target; /* target NULL: the text asks */
    mmf_image_cells image;
    mmf_bert bert, s2_bert; /* s2_bert without layers and tables where it is bert */
    bool shares;
    mmf_linear_layer vismap2text, ent2img_pooler, img_pooler, text_pooler, classifier;
    mmf_bert_layer cross, comb;
    pooling pooling;
    bool is_regression;
} tom_bert;

static const mmf_input_schema *target_of(const mmf_schema *inputs)
{
    const mmf_input_schema *const in = mmf_schema_find(inputs, "target");
    return in && in->kind == MMF_TOKENS ? in : NULL;
}

/* Of the tokens that are no target, and of what is no tokens, the only one. */
static const mmf_input_schema *only_one(const mmf_schema *inputs, bool tokens)
{
    const mmf_input_schema *const target = target_of(inputs), *found = NULL;
    for (size_t m = 0; m < inputs->count; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        if (in == target || (in->kind == MMF_TOKENS) != tokens)
            continue;
        if (found)
            return NULL;
        found = in;
    }
    return found;
}

static const char *refuses(const mmf_schema *inputs)
{
    const mmf_input_schema *const image = only_one(inputs, false);
    if (!only_one(inputs, true) || !image || !mmf_image_cells_take(image))
        return "it needs one modality of tokens (--kind NAME=tokens), one image or features of "
               "one, and, if there are more tokens, those called target; choose with --modalities";
    return NULL;
}

/* ---- Building ---------------------------------------------------------------------------- */

static pooling pooling_of(const mmf_config *config)
{
    const char *const text = mmf_config_text(config, "pooling");
    if (strcmp(text, "cls") == 0)
        return POOL_CLS;
    return strcmp(text, "concat") == 0 ? POOL_BOTH : POOL_FIRST;
}

static mmf_bert_layer one_layer(mmf_builder *b, const char *scope, const mmf_bert_sizes *sizes)
{
    mmf_builder_enter(b, scope);
    const mmf_bert_layer layer = mmf_bert_layer_build(b, "layer.0", sizes);
    mmf_builder_leave(b);
    return layer;
}

/* Tables large enough for both texts, where one BERT reads both. */
static mmf_bert_sizes read_sizes(mmf_builder *b, const mmf_config *config, const tom_bert *model)
{
    mmf_bert_sizes sizes = mmf_bert_sizes_read(b, config, model->text);
    if (model->target && mmf_builder_status(b) == MMF_OK) {
        const mmf_bert_sizes other = mmf_bert_sizes_read(b, config, model->target);
        sizes.vocab = sizes.vocab > other.vocab ? sizes.vocab : other.vocab;
        sizes.positions = sizes.positions > other.positions ? sizes.positions : other.positions;
    }
    return sizes;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    tom_bert *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    const char *const problem = refuses(inputs);
    if (problem)
        return mmf_builder_fail(b, MMF_SHAPE, "resnet-bert-attention: %s", problem);
    const mmf_image_grid grid = {.rows = CELLS, .columns = CELLS, .at_most = true};
    *model = (tom_bert){.text = only_one(inputs, true),
                        .target = target_of(inputs),
                        .shares = mmf_config_bool(config, "share_bert"),
                        .pooling = pooling_of(config)};
    const mmf_bert_sizes sizes = read_sizes(b, config, model);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    const int64_t d = sizes.width, given = mmf_config_int(config, "num_labels");
    model->image = mmf_image_cells_build(b, config, only_one(inputs, false), "resnet", NULL, &grid);
    model->bert = mmf_bert_build(b, "bert", &sizes, true);
    model->s2_bert = model->shares ? model->bert : mmf_bert_build(b, "s2_bert", &sizes, true);
    model->vismap2text = mmf_bert_linear_build(b, "vismap2text", model->image.width, d);
    model->cross = one_layer(b, "ent2img_attention", &sizes);
    model->ent2img_pooler = mmf_bert_linear_build(b, "ent2img_pooler.dense", d, d);
    model->comb = one_layer(b, "comb_attention", &sizes);
    if (model->pooling != POOL_FIRST)
        model->text_pooler = mmf_bert_linear_build(b, "text_pooler.dense", d, d);
    if (model->pooling != POOL_CLS)
        model->img_pooler = mmf_bert_linear_build(b, "img_pooler.dense", d, d);
    model->classifier =
        mmf_bert_linear_build(b, "classifier", model->pooling == POOL_BOTH ? 2 * d : d,
                              mmf_n_answers(b, config, "num_labels"));
    model->is_regression = given ? given == 1 : mmf_is_value(config);
    *self = model;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

static mmf_tensor *read_text(mmf_tape *tape, const mmf_bert *bert, const mmf_named *in,
                             const char *name)
{
    return mmf_bert_encode(tape, bert, mmf_bert_embed_input(tape, bert, in, name),
                           mmf_bert_keys(tape, in, name));
}

/* tanh(W x_i + b) for one word. @return (B, D) */
static mmf_tensor *pool_word(mmf_tape *tape, const mmf_linear_layer *layer, mmf_tensor *x,
                             int64_t i)
{
    if (!x)
        return NULL;
    mmf_tensor *const row =
        mmf_reshape(tape, mmf_slice(tape, x, 1, i, 1), 2, (int64_t[]){x->shape[0], x->shape[2]});
    return mmf_linear_run(tape, layer, row, MMF_ACT_TANH);
}

/* g = tanh(W q_0 + b) of q = layer(queries, cells). */
static mmf_tensor *look(mmf_tape *tape, const tom_bert *model, const mmf_named *in, mmf_tensor *q)
{
    mmf_tensor *const cells = mmf_linear_run(
        tape, &model->vismap2text, mmf_image_cells_run(tape, &model->image, in), MMF_ACT_NONE);
    mmf_tensor *const keys = mmf_image_cells_keys(tape, &model->image, in);
    const mmf_tensor *const mask = mmf_attention_mask(tape, keys, NULL);
    return pool_word(tape, &model->ent2img_pooler,
                     mmf_bert_layer_run(tape, &model->cross, q, cells, mask, NULL), 0);
}

static mmf_tensor *pooled(mmf_tape *tape, const tom_bert *model, mmf_tensor *x)
{
    mmf_tensor *const seen =
        model->pooling == POOL_CLS ? NULL : pool_word(tape, &model->img_pooler, x, 0);
    if (model->pooling == POOL_FIRST)
        return seen;
    mmf_tensor *const said = pool_word(tape, &model->text_pooler, x, 1);
    return model->pooling == POOL_CLS ? said : mmf_concat(tape, (mmf_tensor *[]){said, seen}, 2, 1);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const tom_bert *const model = self;
    const char *const text = model->text->name;
    mmf_tensor *const s = read_text(tape, &model->bert, in, text);
    mmf_tensor *const q =
        model->target || !model->shares
            ? read_text(tape, &model->s2_bert, in, model->target ? model->target->name : text)
            : s;
    mmf_tensor *g = look(tape, model, in, q);
    mmf_tensor *const present = mmf_present_column(tape, in, model->image.input->name);
    g = present ? mmf_mul(tape, g, present) : g;
    if (!g)
        return;
    mmf_tensor *const first = mmf_reshape(tape, g, 3, (int64_t[]){g->shape[0], 1, g->shape[1]});
    mmf_tensor *const keys =
        mmf_pad(tape, mmf_bert_keys(tape, in, text), 1, 1, 0, 1); /* what was seen counts */
    mmf_tensor *const x =
        mmf_bert_layer_run(tape, &model->comb, mmf_concat(tape, (mmf_tensor *[]){first, s}, 2, 1),
                           NULL, mmf_attention_mask(tape, keys, NULL), NULL);
    mmf_tensor *const fused = pooled(tape, model, x);
    mmf_named_put(tape, out, "attended_image", g);
    mmf_named_put(tape, out, "last_hidden_state", s);
    mmf_named_put(tape, out, "feature_fusion", fused);
    mmf_tensor *const kept = mmf_dropout(tape, fused, model->bert.sizes.dropout);
    mmf_put_result(tape, out, model->is_regression,
                   mmf_linear_run(tape, &model->classifier, kept, MMF_ACT_NONE));
}

const mmf_def mmf_model_resnet_bert_attention = {
    .name = "resnet-bert-attention",
    .title = "ResNet, BERT and attention between them",
    .paper = "Yu, Jiang, Adapting BERT for target-oriented multimodal sentiment classification, "
             "IJCAI 2019, doi:10.24963/ijcai.2019/751",
    .equations = "S = BERT(text), Q = BERT(target) or S; g = tanh(W layer(Q; W_v grid)_0 + b); y = "
                 "W pool(layer([g; S])) + b, pool of g, of the text's first word, or of both. "
                 "Smaller by default than the paper's; a map of less than 7 x 7 cells stays as it "
                 "is",
    .missing = "what is seen of an absent image is a vector of zeros; the words of an absent text "
               "are zeros and are not attended to",
    .lr = 3e-4,
    .timing = "intermediate",
    .structure = "attention",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
    .refuses = refuses,
};
