/*
 * self_attention.c: one transformer over the tokens of all modalities.
 *
 * The single stream of VisualBERT and UNITER without their pre-training: every step of every
 * modality is a token with learned embeddings of its modality and its position, or every modality
 * is one token, its encoder's feature. A CLS token, or the mean over valid tokens, is what the head
 * sees. Layers have the norm in front (Xiong et al. 2020), and one norm after the last.
 */
#include <string.h>

#include "models/parts.h"
#include "nn/projected_attention.h"

#define EMBEDDING_DEVIATION 0.02
#define NORM_EPS 1e-5

static const mmf_option options[] = {
    MMF_HIDDEN_OPTION,
    MMF_DROPOUT_OPTION,
    MMF_ENCODER_OPTION,
    {"tokens", NULL, MMF_OPTION_TEXT, 0, 0, "steps|modality", "steps",
     "every step is a token, or every modality is one: its encoder's feature"},
    {"readout", NULL, MMF_OPTION_TEXT, 0, 0, "cls|mean", "cls",
     "what the head sees: a token of its own, or the mean over valid tokens"},
    {"heads", NULL, MMF_OPTION_INT, 1, 256, NULL, "4", "heads that the width is split into"},
    {"layers", NULL, MMF_OPTION_INT, 1, 64, NULL, "2", "transformer layers"},
    {"attention_dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.1", "in the transformer layers"},
    {0},
};

typedef struct attention_model {
    const mmf_schema *inputs;
    mmf_encoders encoders; /* tokens = modality */
    mmf_all_steps all;     /* tokens = steps */
    bool has_steps;
    mmf_tensor *cls;        /* (1, 1, D), NULL: mean */
    mmf_tensor *modalities; /* (M, D) */
    mmf_tensor **positions; /* (T_m, D), NULL for a single step */
    mmf_steps *tokens;
    mmf_tensor **keys; /* of each modality */
    int n_layers;
    mmf_transformer_layer *layers;
    mmf_layer_norm_layer norm;
    mmf_head head;
} attention_model;

static mmf_tensor *embedding(mmf_builder *b, const char *name, int n_dims, const int64_t *shape)
{
    return mmf_builder_param(b, name, MMF_PARAM_TRAINED, mmf_init_normal(EMBEDDING_DEVIATION),
                             n_dims, shape);
}

static void build_tokens(mmf_builder *b, const mmf_config *config, attention_model *model)
{
    const int64_t width = mmf_config_int(config, "hidden"), n = (int64_t)model->inputs->count;
    if (model->has_steps)
        model->all = mmf_all_steps_build(b, config, model->inputs, width,
                                         mmf_config_real(config, "dropout"));
    else
        model->encoders = mmf_encoders_build(b, config, model->inputs, false);
    for (size_t m = 0; mmf_builder_status(b) == MMF_OK && m < model->inputs->count; m++) {
        const char *const name = model->inputs->inputs[m].name;
        const int64_t n_steps = model->has_steps ? model->all.encoders[m].n_steps : 1;
        if (!model->has_steps && model->encoders.widths[m] != width)
            mmf_builder_fail(b, MMF_ARG, "attention: the encoder of %s must have width %lld", name,
                             (long long)width);
        if (n_steps > 1)
            model->positions[m] = embedding(b, mmf_builder_text(b, "position.%s", name), 2,
                                            (int64_t[]){n_steps, width});
    }
    model->modalities = embedding(b, "modality", 2, (int64_t[]){n, width});
    if (strcmp(mmf_config_text(config, "readout"), "cls") == 0)
        model->cls = embedding(b, "cls", 3, (int64_t[]){1, 1, width});
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    const int64_t width = mmf_config_int(config, "hidden");
    const double dropout = mmf_config_real(config, "attention_dropout");
    const mmf_transformer_options layer = {.width = width,
                                           .n_heads = mmf_config_int(config, "heads"),
                                           .norm_first = true,
                                           .activation = MMF_ACT_GELU,
                                           .eps = NORM_EPS,
                                           .dropout = dropout,
                                           .attention_dropout = dropout,
                                           .inner_dropout = dropout};
    attention_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    model->inputs = inputs;
    model->has_steps = strcmp(mmf_config_text(config, "tokens"), "steps") == 0;
    model->positions = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    model->tokens = mmf_builder_alloc(b, (inputs->count + 1) * sizeof *model->tokens);
    model->keys = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    model->n_layers = (int)mmf_config_int(config, "layers");
    model->layers = mmf_builder_alloc(b, (size_t)model->n_layers * sizeof *model->layers);
    if (mmf_builder_status(b) == MMF_OK)
        build_tokens(b, config, model);
    for (int l = 0; mmf_builder_status(b) == MMF_OK && l < model->n_layers; l++)
        model->layers[l] = mmf_transformer_build(b, mmf_builder_text(b, "layers.%d", l), &layer);
    if (mmf_builder_status(b) == MMF_OK) {
        model->norm = mmf_layer_norm_build(b, "norm", width, NORM_EPS);
        model->head = mmf_head_build(b, config, width);
    }
    *self = model;
    return mmf_builder_status(b);
}

/* Tokens with their embeddings, the CLS token last. Returns their number of sequences. */
static size_t embed(mmf_tape *tape, const attention_model *model, const mmf_named *in,
                    const mmf_step *step, mmf_named *out)
{
    const size_t n = model->inputs->count;
    if (model->has_steps)
        mmf_all_steps_run(tape, &model->all, in);
    else
        mmf_encoders_run(tape, &model->encoders, in, step, out);
    for (size_t m = 0; m < n; m++) {
        mmf_steps *const t = &model->tokens[m];
        *t = model->has_steps ? model->all.steps[m]
                              : mmf_single_step(tape, in, model->inputs->inputs[m].name,
                                                model->encoders.features[m]);
        t->x = mmf_add(tape, t->x, mmf_slice(tape, model->modalities, 0, (int64_t)m, 1));
        if (model->positions[m])
            t->x = mmf_add(tape, t->x, model->positions[m]);
    }
    if (!model->cls || !model->tokens[0].x)
        return n;
    const int64_t shape[] = {model->tokens[0].x->shape[0], 1, model->cls->shape[2]};
    model->tokens[n] = (mmf_steps){.x = mmf_expand(tape, model->cls, 3, shape)};
    return n + 1;
}

/* What each modality's tokens get: from CLS, which alone is read, or from all tokens. */
static void put_attention(mmf_tape *tape, const attention_model *model, mmf_tensor *weights, int l,
                          mmf_named *out)
{
    if (!weights)
        return;
    for (size_t m = 0; m < model->inputs->count; m++)
        model->keys[m] = model->tokens[m].x;
    if (model->cls)
        weights = mmf_slice(tape, weights, 2, weights->shape[2] - 1, 1);
    mmf_named_putf(tape, out,
                   mmf_attention_shares(tape, weights, model->keys, model->inputs->count),
                   "attention.%d", l + 1);
    mmf_named_axes(out, "BHQM");
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const attention_model *const model = self;
    const size_t n = embed(tape, model, in, step, out);
    mmf_steps all = mmf_steps_join(tape, model->tokens, n);
    mmf_tensor *const mask = mmf_attention_mask(tape, all.mask, NULL);
    for (int l = 0; l < model->n_layers; l++) {
        mmf_tensor *weights = NULL;
        all.x = mmf_transformer_attend(tape, &model->layers[l], all.x, NULL, mask,
                                       step->looks ? &weights : NULL);
        put_attention(tape, model, weights, l, out);
    }
    all.x = mmf_layer_norm_run(tape, &model->norm, all.x);
    mmf_tensor *fused = NULL;
    if (model->cls && all.x)
        fused = mmf_reshape(tape, mmf_slice(tape, all.x, 1, all.x->shape[1] - 1, 1), 2,
                            (int64_t[]){-1, all.x->shape[2]});
    else
        fused = mmf_steps_mean(tape, &all);
    mmf_head_run(tape, &model->head, fused, out);
}

const mmf_def mmf_model_attention = {
    .name = "attention",
    .title = "Self-attention over the tokens of all modalities",
    .paper = "Vaswani et al., Attention is all you need, NeurIPS 2017, arXiv:1706.03762; single "
             "stream as in Li et al., VisualBERT, 2019, arXiv:1908.03557",
    .equations = "x = [tokens_m + modality_m + position_t]_m, CLS; x += Att(LN x), x += FF(LN x) a "
                 "layer; head(LN x_CLS) or head(mean LN x)",
    .missing = "its tokens are masked as keys and left out of the mean",
    .timing = "intermediate",
    .structure = "attention",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
