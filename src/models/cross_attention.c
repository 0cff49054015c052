/*
 * cross_attention.c: every modality attends to the steps of every other one.
 *
 * For an ordered pair (a, b) the steps of a are queries, those of b keys and values, in a
 * transformer layer whose norms follow (as in the decoders of Vaswani et al., without their
 * self-attention). The means over valid steps of a are put behind each other.
 */
#include "models/parts.h"

#define NORM_EPS 1e-5

static const mmf_option options[] = {
    MMF_ENCODER_OPTION,
    MMF_HIDDEN_OPTION,
    MMF_DROPOUT_OPTION,
    {"width", NULL, MMF_OPTION_INT, 1, 8192, "32|256", "",
     "width of the steps; by default `hidden`, of more than three modalities half of it"},
    {"heads", NULL, MMF_OPTION_INT, 1, 256, NULL, "4", "heads that the width is split into"},
    {"layers", NULL, MMF_OPTION_INT, 1, 64, NULL, "1",
     "layers a pair; all attend to the same steps"},
    {"attention_dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.1", "in the layers"},
    {0},
};

typedef struct cross_model {
    mmf_all_steps all;
    int n_layers;
    size_t n_pairs;
    mmf_transformer_layer *layers; /* n_layers a pair; (0, 1), (0, 2), ..., (1, 0), ... */
    mmf_tensor **means;
    mmf_head head;
} cross_model;

static void build_pair(mmf_builder *b, const mmf_config *config, cross_model *model, size_t pair,
                       const char *name)
{
    const double dropout = mmf_config_real(config, "attention_dropout");
    const mmf_transformer_options layer = {.width = model->all.width,
                                           .n_heads = mmf_config_int(config, "heads"),
                                           .activation = MMF_ACT_GELU,
                                           .eps = NORM_EPS,
                                           .dropout = dropout,
                                           .attention_dropout = dropout,
                                           .inner_dropout = dropout};
    mmf_builder_enter(b, name);
    for (int l = 0; mmf_builder_status(b) == MMF_OK && l < model->n_layers; l++)
        model->layers[pair * (size_t)model->n_layers + (size_t)l] =
            mmf_transformer_build(b, mmf_builder_text(b, "layers.%d", l), &layer);
    mmf_builder_leave(b);
}

/* The pairs grow with the square of the modalities. */
static int64_t steps_width(const mmf_config *config, size_t n_modalities)
{
    const int64_t hidden = mmf_config_int(config, "hidden"),
                  given = mmf_config_int(config, "width");
    const int64_t heads = mmf_config_int(config, "heads");
    if (given > 0 || n_modalities <= 3 || hidden % (2 * heads) != 0)
        return given > 0 ? given : hidden;
    return hidden / 2;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    cross_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    model->n_layers = (int)mmf_config_int(config, "layers");
    model->n_pairs = inputs->count * (inputs->count - 1);
    model->layers =
        mmf_builder_alloc(b, model->n_pairs * (size_t)model->n_layers * sizeof *model->layers);
    model->means = mmf_builder_alloc(b, model->n_pairs * sizeof(mmf_tensor *));
    model->all = mmf_all_steps_build(b, config, inputs, steps_width(config, inputs->count),
                                     mmf_config_real(config, "dropout"));
    size_t pair = 0;
    for (size_t i = 0; i < inputs->count; i++) {
        for (size_t j = 0; j < inputs->count; j++) {
            if (j != i && mmf_builder_status(b) == MMF_OK)
                build_pair(b, config, model, pair++,
                           mmf_builder_text(b, "%s_to_%s", inputs->inputs[i].name,
                                            inputs->inputs[j].name));
        }
    }
    if (mmf_builder_status(b) == MMF_OK)
        model->head = mmf_head_build(b, config, (int64_t)model->n_pairs * model->all.width);
    *self = model;
    return mmf_builder_status(b);
}

/* (B, D): what a's steps, on average, take from b's. @param weights  of the last layer, or NULL */
static mmf_tensor *attended(mmf_tape *tape, const cross_model *model, size_t pair,
                            const mmf_steps *a, const mmf_steps *b, mmf_tensor **weights)
{
    mmf_tensor *const mask = mmf_attention_mask(tape, b->mask, NULL);
    mmf_steps y = *a;
    for (int l = 0; l < model->n_layers; l++)
        y.x =
            mmf_transformer_attend(tape, &model->layers[pair * (size_t)model->n_layers + (size_t)l],
                                   y.x, b->x, mask, weights);
    return mmf_steps_mean(tape, &y);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const cross_model *const model = self;
    const mmf_schema *const inputs = model->all.inputs;
    mmf_all_steps_run(tape, &model->all, in);
    size_t pair = 0;
    for (size_t i = 0; i < inputs->count; i++) {
        for (size_t j = 0; j < inputs->count; j++) {
            if (j == i)
                continue;
            const char *const from = inputs->inputs[i].name, *const to = inputs->inputs[j].name;
            const mmf_steps *const b = &model->all.steps[j];
            const bool looks = step->looks && b->x && b->x->shape[1] > 1;
            mmf_tensor *weights = NULL;
            model->means[pair] =
                attended(tape, model, pair, &model->all.steps[i], b, looks ? &weights : NULL);
            mmf_named_putf(tape, out, model->means[pair++], "feature_%s_to_%s", from, to);
            if (weights) {
                mmf_named_putf(tape, out, weights, "%s_to_%s.attention", from, to);
                mmf_named_axes(out, "BHQT");
            }
        }
    }
    mmf_head_run(tape, &model->head, mmf_concat(tape, model->means, (int)model->n_pairs, 1), out);
}

const mmf_def mmf_model_cross_attention = {
    .name = "cross-attention",
    .title = "Cross-attention between every ordered pair of modalities",
    .paper = "Vaswani et al., Attention is all you need, NeurIPS 2017, arXiv:1706.03762; pairs as "
             "in Tsai et al., ACL 2019, arXiv:1906.00295",
    .equations = "u = LN(a + Att(a, b, b)), y_ab = LN(u + FF(u)); head([mean_t y_ab] over a != b)",
    .missing = "as keys it is masked: the others keep their own steps; as queries it gives zeros",
    .timing = "intermediate",
    .structure = "attention",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
