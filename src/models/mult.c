/*
 * mult.c: the multimodal transformer: every modality is translated from every other one.
 *
 * Tsai, Bai, Liang, Kolter, Morency, Salakhutdinov, ACL 2019, with the names of the authors' code
 * and MMSA's options. Sequences called text, audio and vision go through its convolutions (skipped
 * where the width is the model's already); anything else through the steps of its kind. Deviations:
 * any number of modalities; where lengths are known, padding is masked as keys and the last valid
 * step is read instead of the last one (without lengths padding counts, as in the reference); keys
 * and values share one mask of embedding dropout; linear layers start as PyTorch's.
 */
#include <string.h>

#include "models/parts.h"
#include "models/translation.h"

#define DROPOUT(name, standard, help)                                                              \
    {                                                                                              \
        name, NULL, MMF_OPTION_REAL, 0, 0.95, NULL, standard, help                                 \
    }
#define KERNEL(name, modality)                                                                     \
    {                                                                                              \
        name, NULL, MMF_OPTION_INT, 1, 64, NULL, "1",                                              \
            "steps that the convolution of " modality " reads at once"                             \
    }

static const mmf_option options[] = {
    {"dst_feature_dim_nheads", NULL, MMF_OPTION_INTS, 1, 8192, NULL, "",
     "width of the steps, and heads it is split into; by default 40,8, of more than three "
     "modalities "
     "narrower"},
    {"nlevels", NULL, MMF_OPTION_INT, 0, 64, "1|6", "0",
     "layers of a translation; 0: 4, of more than three modalities fewer; up to three, what reads "
     "translations has at least 3"},
    {"attn_mask", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "step i sees steps up to i, and so many more as the lengths differ"},
    {"position_embedding", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "sinusoids of the positions (MMSA has none)"},
    KERNEL("conv1d_kernel_size_l", "text"),
    KERNEL("conv1d_kernel_size_a", "audio"),
    KERNEL("conv1d_kernel_size_v", "vision"),
    DROPOUT("text_dropout", "0.1", "on text, or on what enters the steps of other modalities"),
    DROPOUT("embed_dropout", "0.1", "on steps that enter a transformer"),
    DROPOUT("attn_dropout", "0.1", "on attention weights, unless audio or vision is the source"),
    DROPOUT("attn_dropout_a", "0", "on attention weights where audio is the source"),
    DROPOUT("attn_dropout_v", "0", "on attention weights where vision is the source"),
    DROPOUT("relu_dropout", "0.1", "inside the linear layers of a transformer"),
    DROPOUT("res_dropout", "0.1", "on what transformer layers add"),
    DROPOUT("output_dropout", "0.1", "in the last block"),
    MMF_ENCODER_OPTION,
    {0},
};

typedef struct modality {
    const mmf_input_schema *input;
    const char *key; /* l, a, v, or the modality's name */
    const char *kernel, *dropout;
    bool is_paper, is_wide; /* convolved sequence; as wide as the model already */
    mmf_conv_layer proj;
    mmf_steps_encoder encoder;
    mmf_translation *from; /* one a source; unused for itself */
    mmf_translation memory;
    mmf_steps steps;
} modality;

typedef struct mult_model {
    size_t count;
    modality *m;
    mmf_tensor **features, **translations;
    int64_t width;
    bool is_regression;
    double text_dropout, output_dropout;
    mmf_linear_layer proj1, proj2, out;
} mult_model;

/* ---- Sizes ------------------------------------------------------------------------------- */

#define PAPER_WIDTH 40
#define PAPER_HEADS 8
#define PAPER_LEVELS 4

static int64_t step_width(const mmf_config *config, size_t n_modalities)
{
    return mmf_config_count(config, "dst_feature_dim_nheads") > 0
               ? (int64_t)mmf_config_number_at(config, "dst_feature_dim_nheads", 0)
               : mmf_translation_width(n_modalities, PAPER_WIDTH, PAPER_HEADS);
}

static int64_t n_heads(const mmf_config *config, size_t n_modalities)
{
    return mmf_config_count(config, "dst_feature_dim_nheads") > 0
               ? (int64_t)mmf_config_number_at(config, "dst_feature_dim_nheads", 1)
               : mmf_translation_heads(step_width(config, n_modalities), PAPER_WIDTH, PAPER_HEADS);
}

static int n_levels_of(const mmf_config *config, size_t n_modalities)
{
    const int given = (int)mmf_config_int(config, "nlevels");
    return given > 0 ? given : mmf_translation_levels(n_modalities, PAPER_LEVELS);
}

/* ---- Building ---------------------------------------------------------------------------- */

static mmf_translation build_stack(mmf_builder *b, const mmf_config *config,
                                   const mult_model *model, const char *name, int n_layers,
                                   int64_t width, const char *attention_dropout)
{
    const mmf_translation_options o = {.n_layers = n_layers,
                                       .width = width,
                                       .n_heads = n_heads(config, model->count),
                                       .causal = mmf_config_bool(config, "attn_mask"),
                                       .positions = mmf_config_bool(config, "position_embedding"),
                                       .embed_dropout = mmf_config_real(config, "embed_dropout"),
                                       .attention_dropout =
                                           mmf_config_real(config, attention_dropout),
                                       .inner_dropout = mmf_config_real(config, "relu_dropout"),
                                       .residual_dropout = mmf_config_real(config, "res_dropout")};
    return mmf_translation_build(b, name, &o);
}

/* Text, audio, vision, or as given. */
static void order_inputs(const mmf_schema *inputs, mult_model *model)
{
    static const char *const names[] = {"text", "audio", "vision"};
    static const char *const keys[] = {"l", "a", "v"};
    static const char *const dropouts[] = {"attn_dropout", "attn_dropout_a", "attn_dropout_v"};
    static const char *const kernels[] = {"conv1d_kernel_size_l", "conv1d_kernel_size_a",
                                          "conv1d_kernel_size_v"};
    const bool is_trio = mmf_is_sentiment_trio(inputs);
    for (size_t i = 0; i < (is_trio ? 3 : inputs->count); i++) {
        modality *const m = &model->m[i];
        m->input = is_trio ? mmf_schema_find(inputs, names[i]) : &inputs->inputs[i];
        m->key = is_trio ? keys[i] : m->input->name;
        m->dropout = is_trio ? dropouts[i] : dropouts[0];
        m->kernel = is_trio ? kernels[i] : NULL;
        m->is_paper = is_trio && m->input->kind == MMF_SEQUENCE;
    }
}

static void build_projection(mmf_builder *b, const mmf_config *config, const mult_model *model,
                             modality *m)
{
    const char *const name = mmf_builder_text(b, "proj_%s", m->key);
    m->is_paper = m->is_paper && !mmf_steps_spec(b, config, m->input);
    if (!m->is_paper) {
        m->encoder = mmf_steps_build(b, config, name, m->input, model->width, model->text_dropout);
        return;
    }
    m->is_wide = m->input->shape[1] == model->width;
    const int64_t kernel = mmf_config_int(config, m->kernel);
    if (!m->is_wide)
        mmf_step_kernel_check(b, mmf_builder_text(b, "mult: %s", m->kernel), kernel, m->input);
    /* Declared where it is skipped, too, as the reference does. */
    m->proj = mmf_step_convolution(b, name, m->input, model->width, kernel);
}

static void build_modality(mmf_builder *b, const mmf_config *config, mult_model *model, modality *m)
{
    const int n_levels = n_levels_of(config, model->count);
    m->from = mmf_builder_alloc(b, model->count * sizeof *m->from);
    for (size_t j = 0; mmf_builder_status(b) == MMF_OK && j < model->count; j++) {
        const modality *const source = &model->m[j];
        if (source != m)
            m->from[j] = build_stack(b, config, model,
                                     mmf_builder_text(b, "trans_%s_with_%s", m->key, source->key),
                                     n_levels, model->width, source->dropout);
    }
    if (mmf_builder_status(b) == MMF_OK)
        m->memory = build_stack(b, config, model, mmf_builder_text(b, "trans_%s_mem", m->key),
                                mmf_translation_memory_levels(model->count, n_levels),
                                (int64_t)(model->count - 1) * model->width, "attn_dropout");
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    mult_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    const size_t n = inputs->count;
    model->count = n;
    model->m = mmf_builder_alloc(b, n * sizeof *model->m);
    model->features = mmf_builder_alloc(b, n * sizeof(mmf_tensor *));
    model->translations = mmf_builder_alloc(b, n * sizeof(mmf_tensor *));
    if (!model->m || !model->features || !model->translations)
        return mmf_builder_status(b);
    model->width = step_width(config, n);
    model->text_dropout = mmf_config_real(config, "text_dropout");
    model->output_dropout = mmf_config_real(config, "output_dropout");
    model->is_regression = mmf_is_regression(config);
    order_inputs(inputs, model);
    for (size_t i = 0; mmf_builder_status(b) == MMF_OK && i < n; i++)
        build_projection(b, config, model, &model->m[i]);
    for (size_t i = 0; mmf_builder_status(b) == MMF_OK && i < n; i++)
        build_modality(b, config, model, &model->m[i]);
    const int64_t all = (int64_t)(n * (n - 1)) * model->width;
    model->proj1 = mmf_linear_build(b, "proj1", all, all, true);
    model->proj2 = mmf_linear_build(b, "proj2", all, all, true);
    model->out = mmf_linear_build(b, "out_layer", all, mmf_n_outputs(config), true);
    *self = model;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

/* The convolution sees zeros behind a length. */
static mmf_steps convolved(mmf_tape *tape, const mult_model *model, const modality *m,
                           const mmf_named *in)
{
    const int64_t n_steps = m->input->shape[0];
    mmf_steps s = {.x = mmf_named_get(in, m->input->name),
                   .mask = mmf_key_mask(tape, in, m->input->name, n_steps)};
    s.x = mmf_steps_masked(tape, &s);
    if (strcmp(m->key, "l") == 0)
        s.x = mmf_dropout(tape, s.x, model->text_dropout);
    return m->is_wide ? s : mmf_steps_convolve(tape, &m->proj, &s);
}

/* Another modality in the steps of m. */
static mmf_tensor *translated(mmf_tape *tape, const modality *m, const mmf_translation *from,
                              const modality *other, bool looks, mmf_named *out)
{
    mmf_tensor *weights = NULL;
    const bool has_steps = other->steps.x && other->steps.x->shape[1] > 1;
    mmf_tensor *const y = mmf_translation_run(tape, from, &m->steps, &other->steps,
                                              looks && has_steps ? &weights : NULL);
    if (weights) {
        mmf_named_putf(tape, out, weights, "%s_to_%s.attention", m->input->name,
                       other->input->name);
        mmf_named_axes(out, "BHQT");
    }
    return y;
}

static mmf_tensor *feature(mmf_tape *tape, const mult_model *model, const modality *m, bool looks,
                           mmf_named *out)
{
    size_t n = 0;
    for (size_t j = 0; j < model->count; j++) {
        if (&model->m[j] != m)
            model->translations[n++] = translated(tape, m, &m->from[j], &model->m[j], looks, out);
    }
    mmf_steps h = {.x = mmf_concat(tape, model->translations, (int)n, 2), .mask = m->steps.mask};
    h.x = mmf_translation_run(tape, &m->memory, &h, NULL, NULL);
    return mmf_steps_last(tape, &h);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const mult_model *const model = self;
    for (size_t i = 0; i < model->count; i++) {
        modality *const m = &model->m[i];
        m->steps =
            m->is_paper ? convolved(tape, model, m, in) : mmf_steps_run(tape, &m->encoder, in);
    }
    for (size_t i = 0; i < model->count; i++) {
        model->features[i] = feature(tape, model, &model->m[i], step->looks, out);
        mmf_named_putf(tape, out, model->features[i], "feature_%s", model->m[i].input->name);
    }
    mmf_tensor *const h = mmf_concat(tape, model->features, (int)model->count, 1);
    mmf_named_put(tape, out, "feature_fusion", h);
    mmf_tensor *y = mmf_linear_run(tape, &model->proj1, h, MMF_ACT_RELU);
    y = mmf_dropout(tape, y, model->output_dropout);
    y = mmf_add(tape, h, mmf_linear_run(tape, &model->proj2, y, MMF_ACT_NONE));
    mmf_put_result(tape, out, model->is_regression,
                   mmf_linear_run(tape, &model->out, y, MMF_ACT_NONE));
}

const mmf_def mmf_model_mult = {
    .name = "mult",
    .title = "Multimodal transformer",
    .paper = "Tsai, Bai, Liang, Kolter, Morency, Salakhutdinov, Multimodal transformer for "
             "unaligned multimodal language sequences, ACL 2019, arXiv:1906.00295",
    .equations = "Y_ba = Enc(x_a; x_b): x += Att(LN x, LN x_b), x += FF(LN x) a layer; h_a = last "
                 "step of Enc([Y_ba]_b); y = W (h + W2 relu(W1 h)), h = [h_a]_a",
    .missing = "as a source its steps are masked; its own feature is zero",
    .timing = "intermediate",
    .structure = "attention",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
