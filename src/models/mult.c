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
#include <math.h>
#include <string.h>

#include "models/parts.h"

#define NORM_EPS 1e-5
/* The layers that read a modality's translations: at least so many. */
#define MEMORY_LEVELS 3

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
     "layers of a translation; what reads translations has at least 3; 0: 4, of more than three "
     "modalities fewer"},
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
    {0},
};

static const mmf_transformer_names layer_names = {.attention = "self_attn",
                                                  .norm1 = "layer_norms.0",
                                                  .norm2 = "layer_norms.1",
                                                  .linear1 = "fc1",
                                                  .linear2 = "fc2"};

/* Layers over steps that are scaled and given positions, and a last norm. */
typedef struct stack {
    int n_layers;
    mmf_transformer_layer *layers;
    mmf_layer_norm_layer norm;
    double scale;
} stack;

typedef struct modality {
    const mmf_input_schema *input;
    const char *key; /* l, a, v, or the modality's name */
    const char *kernel, *dropout;
    bool is_paper, is_wide; /* convolved sequence; as wide as the model already */
    mmf_conv_layer proj;
    mmf_steps_encoder encoder;
    stack *from; /* one a source; unused for itself */
    stack memory;
    mmf_steps steps;
} modality;

typedef struct mult_model {
    size_t count;
    modality *m;
    mmf_tensor **features, **translations;
    int64_t width;
    bool causal, positions, is_regression;
    double text_dropout, embed_dropout, output_dropout;
    mmf_linear_layer proj1, proj2, out;
} mult_model;

/* ---- Sizes ------------------------------------------------------------------------------- */

#define PAPER_WIDTH 40
#define PAPER_HEADS 8
#define PAPER_LEVELS 4
#define PAPER_MODALITIES 3

/* What reads a modality's translations is as wide as all of them: beyond the papers' three
 * modalities it stays as wide as theirs, in whole heads. */
static int64_t step_width(const mmf_config *config, size_t n_modalities)
{
    if (mmf_config_count(config, "dst_feature_dim_nheads") > 0)
        return (int64_t)mmf_config_number_at(config, "dst_feature_dim_nheads", 0);
    if (n_modalities <= PAPER_MODALITIES)
        return PAPER_WIDTH;
    const int64_t even = PAPER_WIDTH * (PAPER_MODALITIES - 1) / ((int64_t)n_modalities - 1);
    return even < PAPER_HEADS ? PAPER_HEADS : even / PAPER_HEADS * PAPER_HEADS;
}

static int64_t n_heads(const mmf_config *config)
{
    return mmf_config_count(config, "dst_feature_dim_nheads") > 0
               ? (int64_t)mmf_config_number_at(config, "dst_feature_dim_nheads", 1)
               : PAPER_HEADS;
}

/* About as many layers over all translations as with three modalities. */
static int n_levels_of(const mmf_config *config, size_t n_modalities)
{
    const int given = (int)mmf_config_int(config, "nlevels"), n = (int)n_modalities;
    if (given > 0 || n_modalities <= PAPER_MODALITIES)
        return given > 0 ? given : PAPER_LEVELS;
    const int fewer = PAPER_LEVELS * PAPER_MODALITIES * (PAPER_MODALITIES - 1) / (n * (n - 1));
    return fewer < 1 ? 1 : fewer;
}

/* ---- Building ---------------------------------------------------------------------------- */

static stack build_stack(mmf_builder *b, const mmf_config *config, const char *name, int n_layers,
                         int64_t width, const char *attention_dropout)
{
    const mmf_transformer_options layer = {.width = width,
                                           .n_heads = n_heads(config),
                                           .norm_first = true,
                                           .activation = MMF_ACT_RELU,
                                           .eps = NORM_EPS,
                                           .dropout = mmf_config_real(config, "res_dropout"),
                                           .attention_dropout =
                                               mmf_config_real(config, attention_dropout),
                                           .inner_dropout = mmf_config_real(config, "relu_dropout"),
                                           .names = &layer_names};
    stack s = {.n_layers = n_layers, .scale = sqrt((double)width)};
    s.layers = mmf_builder_alloc(b, (size_t)n_layers * sizeof *s.layers);
    mmf_builder_enter(b, name);
    for (int l = 0; mmf_builder_status(b) == MMF_OK && l < n_layers; l++)
        s.layers[l] = mmf_transformer_build(b, mmf_builder_text(b, "layers.%d", l), &layer);
    s.norm = mmf_layer_norm_build(b, "layer_norm", width, NORM_EPS);
    mmf_builder_leave(b);
    return s;
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
    for (size_t i = 0; i < inputs->count; i++) {
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
    if (!m->is_paper) {
        m->encoder = mmf_steps_build(b, name, m->input, model->width, model->text_dropout);
        return;
    }
    const mmf_window window = {.kernel = {mmf_config_int(config, m->kernel)}};
    m->is_wide = m->input->shape[1] == model->width;
    if (window.kernel[0] > m->input->shape[0])
        mmf_builder_fail(b, MMF_ARG, "mult: %s is %lld, but %s has %lld steps", m->kernel,
                         (long long)window.kernel[0], m->input->name,
                         (long long)m->input->shape[0]);
    /* Declared where it is skipped, too, as the reference does. */
    m->proj = mmf_conv_build(b, name, 1, m->input->shape[1], model->width, &window, false);
}

static void build_modality(mmf_builder *b, const mmf_config *config, mult_model *model, modality *m)
{
    const int n_levels = n_levels_of(config, model->count);
    m->from = mmf_builder_alloc(b, model->count * sizeof *m->from);
    for (size_t j = 0; mmf_builder_status(b) == MMF_OK && j < model->count; j++) {
        const modality *const source = &model->m[j];
        if (source != m)
            m->from[j] =
                build_stack(b, config, mmf_builder_text(b, "trans_%s_with_%s", m->key, source->key),
                            n_levels, model->width, source->dropout);
    }
    if (mmf_builder_status(b) == MMF_OK)
        m->memory = build_stack(b, config, mmf_builder_text(b, "trans_%s_mem", m->key),
                                n_levels > MEMORY_LEVELS ? n_levels : MEMORY_LEVELS,
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
    model->causal = mmf_config_bool(config, "attn_mask");
    model->positions = mmf_config_bool(config, "position_embedding");
    model->text_dropout = mmf_config_real(config, "text_dropout");
    model->embed_dropout = mmf_config_real(config, "embed_dropout");
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

/* The convolution sees zeros behind a length; a result is valid if all that it reads is, and the
 * first one if there is anything. */
static mmf_steps convolved(mmf_tape *tape, const mult_model *model, const modality *m,
                           const mmf_named *in)
{
    const int64_t n_steps = m->input->shape[0], kernel = m->proj.window.kernel[0];
    mmf_steps s = {.x = mmf_named_get(in, m->input->name),
                   .mask = mmf_key_mask(tape, in, m->input->name, n_steps)};
    s.x = mmf_steps_masked(tape, &s);
    if (strcmp(m->key, "l") == 0)
        s.x = mmf_dropout(tape, s.x, model->text_dropout);
    if (m->is_wide)
        return s;
    s.x = mmf_conv_run(tape, &m->proj, mmf_transpose(tape, s.x, 1, 2));
    s.x = mmf_transpose(tape, s.x, 1, 2);
    if (s.mask && kernel < n_steps) {
        mmf_tensor *const parts[] = {mmf_slice(tape, s.mask, 1, 0, 1),
                                     mmf_slice(tape, s.mask, 1, kernel, n_steps - kernel)};
        s.mask = mmf_concat(tape, parts, 2, 1);
    } else if (s.mask) {
        s.mask = mmf_slice(tape, s.mask, 1, 0, 1);
    }
    return s;
}

/* sqrt(D) x and, if asked for, sinusoids of the positions 1, 2, ...: none where the first feature
 * is exactly zero, by which the reference knows padding. */
static mmf_tensor *embedded(mmf_tape *tape, const mult_model *model, const stack *s, mmf_tensor *x)
{
    mmf_tensor *y = mmf_affine(tape, x, s->scale, 0);
    if (model->positions && x) {
        mmf_tensor *const first = mmf_detach(tape, mmf_slice(tape, x, 2, 0, 1));
        mmf_tensor *const table = mmf_sinusoid(tape, x->shape[1], x->shape[2], 1);
        y = mmf_add(tape, y, mmf_mul(tape, mmf_abs(tape, mmf_sign(tape, first)), table));
    }
    return mmf_dropout(tape, y, model->embed_dropout);
}

/* @param source  NULL: the steps themselves */
static mmf_tensor *run_stack(mmf_tape *tape, const mult_model *model, const stack *s,
                             const mmf_steps *target, const mmf_steps *source)
{
    const mmf_steps *const keys = source ? source : target;
    if (!target->x || !keys->x)
        return NULL;
    const int64_t n_queries = target->x->shape[1], n_keys = keys->x->shape[1];
    const int64_t ahead = n_keys > n_queries ? n_keys - n_queries : n_queries - n_keys;
    mmf_tensor *const between =
        model->causal ? mmf_causal_mask(tape, n_queries, n_keys, ahead) : NULL;
    mmf_tensor *const mask = mmf_attention_mask(tape, keys->mask, between);
    mmf_tensor *x = embedded(tape, model, s, target->x);
    mmf_tensor *const k = source ? embedded(tape, model, s, source->x) : NULL;
    for (int l = 0; l < s->n_layers; l++)
        x = mmf_transformer_run(tape, &s->layers[l], x, k, mask);
    return mmf_layer_norm_run(tape, &s->norm, x);
}

static mmf_tensor *feature(mmf_tape *tape, const mult_model *model, const modality *m)
{
    size_t n = 0;
    for (size_t j = 0; j < model->count; j++) {
        if (&model->m[j] != m)
            model->translations[n++] =
                run_stack(tape, model, &m->from[j], &m->steps, &model->m[j].steps);
    }
    mmf_steps h = {.x = mmf_concat(tape, model->translations, (int)n, 2), .mask = m->steps.mask};
    h.x = run_stack(tape, model, &m->memory, &h, NULL);
    return mmf_steps_last(tape, &h);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mult_model *const model = self;
    for (size_t i = 0; i < model->count; i++) {
        modality *const m = &model->m[i];
        m->steps =
            m->is_paper ? convolved(tape, model, m, in) : mmf_steps_run(tape, &m->encoder, in);
    }
    for (size_t i = 0; i < model->count; i++) {
        model->features[i] = feature(tape, model, &model->m[i]);
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
