/*
 * dmd.c: decoupled multimodal distilling: the steps of every modality are taken apart into what is
 * its own and what is shared, and a graph of learned edges distils between modalities on both
 * sides.
 *
 * Li, Wang, Cui, CVPR 2023, names of mdswyz/DMD. Sequences called text, vision and audio go through
 * its convolutions; anything else through the steps of its kind, vectors as sequences of one. The
 * losses stand in dmd_losses.c. Letters: s own, c shared, B samples, T steps, D width.
 */
#include "models/dmd.h"

#include <string.h>

#define KERNEL(name, modality)                                                                     \
    {                                                                                              \
        name, NULL, MMF_OPTION_INT, 0, 64, NULL, "0",                                              \
            "steps that the convolution of " modality " reads at once; 0: 5, or all if fewer"      \
    }

static const mmf_option options[] = {
    MMF_ENCODER_OPTION,
    {"hidden", NULL, MMF_OPTION_INT, 0, 4096, "16|64", "0",
     "width of the steps, a multiple of heads; 0: 50, of more than three modalities less"},
    {"heads", NULL, MMF_OPTION_INT, 0, 256, NULL, "0",
     "of attention; 0: the most, up to 10, that divide hidden into parts of at least 5"},
    {"nlevels", "levels", MMF_OPTION_INT, 0, 64, "1|6", "0",
     "layers of a transformer; 0: 4, of more than three modalities fewer; up to three, what reads "
     "translations has at least 3"},
    KERNEL("kernel_text", "text"),
    KERNEL("kernel_audio", "audio"),
    KERNEL("kernel_vision", "vision"),
    {"length", NULL, MMF_OPTION_INT, 0, 1000000, NULL, "0",
     "steps that the sequences must have; 0: any number"},
    {"attn_mask", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "step i sees steps up to i, and so many more as the lengths differ"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.1", "in transformers and heads"},
    {"loss", NULL, MMF_OPTION_TEXT, 0, 0, "full|decoupling", "full",
     "decoupling leaves the distillation out"},
    {"margin", NULL, MMF_OPTION_REAL, 0, 1e3, NULL, "0.15",
     "between samples of different targets, times how far these are apart"},
    {"decoupling_weight", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "0.1",
     "weight of reconstruction and cycle, and of a tenth of margin and orthogonality"},
    {"distillation_weight", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "0.05",
     "weight of the two distillations"},
    {"gd_size", NULL, MMF_OPTION_INTS, 1, 8192, NULL, "64,32",
     "width of the edges' networks, of what is shared and of what is own"},
    {"alpha", NULL, MMF_OPTION_REAL, 0, 1e3, NULL, "0.125", "edges are the softmax of alpha e"},
    {"gd_reg", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "10", "weight of the edges' prior"},
    {"w_losses", NULL, MMF_OPTION_REALS, 0, 1e6, NULL, "1,10",
     "weights of the distances of logits and of representations"},
    {"metric", NULL, MMF_OPTION_TEXT, 0, 0, "l1|l2", "l1", "distance of logits"},
    {"prior", NULL, MMF_OPTION_REALS, 0, 1, NULL, "",
     "of the edges (0 from 1), (0 from 2), ...; default: the paper's for three, else all alike"},
    {"part", NULL, MMF_OPTION_TEXT, 0, 0, NULL, "",
     "distillation-kernel: the graph alone, over the inputs logits and reprs"},
    {"graph", NULL, MMF_OPTION_TEXT, 0, 0, "homo|hetero", "homo",
     "of that part: hetero adds the distance of representations to its loss"},
    {0},
};

#define DEFAULT_KERNEL 5
#define PAPER_WIDTH 50
#define PAPER_HEADS 10
#define PAPER_LEVELS 4
/* Modalities of a distillation whose prior does not say. */
#define DEFAULT_COUNT 3

/* ---- Building ---------------------------------------------------------------------------- */

static mmf_residual_mlp residual_build(mmf_builder *b, const char *end, int64_t width)
{
    return (mmf_residual_mlp){
        mmf_linear_build(b, mmf_builder_text(b, "proj1%s", end), width, width, true),
        mmf_linear_build(b, mmf_builder_text(b, "proj2%s", end), width, width, true)};
}

/* x + W2 relu(W1 x) */
static mmf_tensor *residual_run(mmf_tape *tape, const mmf_residual_mlp *mlp, mmf_tensor *x,
                                double dropout)
{
    mmf_tensor *const h =
        mmf_dropout(tape, mmf_linear_run(tape, &mlp->proj1, x, MMF_ACT_RELU), dropout);
    return mmf_add(tape, x, mmf_linear_run(tape, &mlp->proj2, h, MMF_ACT_NONE));
}

static int64_t width_of(const mmf_config *config, size_t n_modalities)
{
    const int64_t asked = mmf_config_int(config, "hidden");
    return asked > 0 ? asked : mmf_translation_width(n_modalities, PAPER_WIDTH, PAPER_HEADS);
}

static int levels_of(const mmf_config *config, size_t n_modalities)
{
    const int asked = (int)mmf_config_int(config, "nlevels");
    return asked > 0 ? asked : mmf_translation_levels(n_modalities, PAPER_LEVELS);
}

static int64_t heads_of(const mmf_config *config, int64_t width)
{
    const int64_t asked = mmf_config_int(config, "heads");
    return asked > 0 ? asked : mmf_translation_heads(width, PAPER_WIDTH, PAPER_HEADS);
}

/* @param width  of the layers: as many widths of the steps as they read side by side */
static mmf_translation stack(mmf_builder *b, const mmf_config *config, const mmf_dmd *model,
                             const char *name, int n_layers, int64_t width)
{
    const double dropout = mmf_config_real(config, "dropout");
    const mmf_translation_options o = {.n_layers = n_layers,
                                       .width = width,
                                       .n_heads = heads_of(config, model->width),
                                       .causal = mmf_config_bool(config, "attn_mask"),
                                       .positions = true,
                                       .embed_dropout = dropout,
                                       .attention_dropout = dropout,
                                       .inner_dropout = dropout,
                                       .residual_dropout = dropout};
    return mmf_translation_build(b, name, &o);
}

/* Text, vision, audio, or as given. */
static void order_inputs(const mmf_schema *inputs, mmf_dmd *model)
{
    static const char *const names[] = {"text", "vision", "audio"}, *const keys[] = {"l", "v", "a"};
    model->trio = mmf_is_sentiment_trio(inputs);
    for (size_t i = 0; i < inputs->count; i++) {
        mmf_dmd_part *const m = &model->m[i];
        const mmf_input_schema *const named =
            model->trio && i < 3 ? mmf_schema_find(inputs, names[i]) : NULL;
        m->input = named ? named : &inputs->inputs[i];
        m->key = named ? keys[i] : m->input->name;
        m->is_paper = named && m->input->kind == MMF_SEQUENCE;
    }
}

static void build_steps(mmf_builder *b, const mmf_config *config, const mmf_dmd *model,
                        mmf_dmd_part *m)
{
    const char *const name = mmf_builder_text(b, "proj_%s", m->key);
    const int64_t length = mmf_config_int(config, "length"), n_steps = m->input->shape[0];
    if (length > 0 && m->input->kind == MMF_SEQUENCE && n_steps != length) {
        mmf_builder_fail(b, MMF_ARG, "dmd: length is %lld, but %s has %lld steps",
                         (long long)length, m->input->name, (long long)n_steps);
        return;
    }
    m->is_paper = m->is_paper && !mmf_steps_spec(b, config, m->input);
    if (!m->is_paper) {
        m->encoder = mmf_steps_build(b, config, name, m->input, model->width, model->dropout);
        m->n_steps = m->encoder.n_steps;
        return;
    }
    const char *const option = mmf_builder_text(b, "kernel_%s", m->input->name);
    const int64_t standard = n_steps < DEFAULT_KERNEL ? n_steps : DEFAULT_KERNEL;
    const int64_t asked = mmf_config_int(config, option), kernel = asked > 0 ? asked : standard;
    mmf_step_kernel_check(b, mmf_builder_text(b, "dmd: %s", option), kernel, m->input);
    m->proj = mmf_step_convolution(b, name, m->input, model->width, kernel);
    m->n_steps = n_steps - kernel + 1;
}

static mmf_conv_layer pointwise(mmf_builder *b, const char *name, int64_t inputs, int64_t outputs)
{
    const mmf_window window = {.kernel = {1}};
    return mmf_conv_build(b, name, 1, inputs, outputs, &window, false);
}

/* What takes a modality's steps apart, and the heads of its two parts. */
static void build_part(mmf_builder *b, const mmf_dmd *model, mmf_dmd_part *m)
{
    const int64_t d = model->width, flat = m->n_steps * d, own = (int64_t)(model->count - 1) * d;
    const char *const k = m->key;
    m->own = pointwise(b, mmf_builder_text(b, "encoder_s_%s", k), d, d);
    m->decoder = pointwise(b, mmf_builder_text(b, "decoder_%s", k), 2 * d, d);
    m->align = mmf_linear_build(b, mmf_builder_text(b, "align_c_%s", k), flat, d, true);
    m->low_1 = mmf_linear_build(b, mmf_builder_text(b, "proj1_%s_low", k), flat, d, true);
    m->low_2 = mmf_linear_build(b, mmf_builder_text(b, "proj2_%s_low", k), d, flat, true);
    m->low_out =
        mmf_linear_build(b, mmf_builder_text(b, "out_layer_%s_low", k), flat, model->outputs, true);
    m->high = residual_build(b, mmf_builder_text(b, "_%s_high", k), own);
    m->high_out =
        mmf_linear_build(b, mmf_builder_text(b, "out_layer_%s_high", k), own, model->outputs, true);
    m->weight = mmf_linear_build(b, mmf_builder_text(b, "weight_%s", k), own, own, true);
}

static void build_stacks(mmf_builder *b, const mmf_config *config, const mmf_dmd *model,
                         mmf_dmd_part *m)
{
    const int levels = levels_of(config, model->count);
    m->from = mmf_builder_alloc(b, model->count * sizeof *m->from);
    m->shared = stack(b, config, model, mmf_builder_text(b, "self_attentions_c_%s", m->key), levels,
                      model->width);
    for (size_t j = 0; mmf_builder_status(b) == MMF_OK && j < model->count; j++) {
        if (&model->m[j] != m)
            m->from[j] = stack(b, config, model,
                               mmf_builder_text(b, "trans_%s_with_%s", m->key, model->m[j].key),
                               levels, model->width);
    }
    if (mmf_builder_status(b) == MMF_OK)
        m->memory = stack(b, config, model, mmf_builder_text(b, "trans_%s_mem", m->key),
                          mmf_translation_memory_levels(model->count, levels),
                          (int64_t)(model->count - 1) * model->width);
}

static void build_fusion(mmf_builder *b, mmf_dmd *model)
{
    const int64_t n = (int64_t)model->count, d = model->width, all = n * (n - 1) * d + n * d;
    model->encoder_c = pointwise(b, "encoder_c", d, d);
    model->mlp_c = residual_build(b, "_c", n * d);
    model->out_c = mmf_linear_build(b, "out_layer_c", n * d, model->outputs, true);
    model->weight_c = mmf_linear_build(b, "weight_c", n * d, n * d, true);
    model->mlp = residual_build(b, "", all);
    model->out = mmf_linear_build(b, "out_layer", all, model->outputs, true);
}

static void build_model(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        mmf_dmd *model)
{
    order_inputs(inputs, model);
    for (size_t i = 0; mmf_builder_status(b) == MMF_OK && i < model->count; i++)
        build_steps(b, config, model, &model->m[i]);
    for (size_t i = 0; mmf_builder_status(b) == MMF_OK && i < model->count; i++) {
        build_part(b, model, &model->m[i]);
        build_stacks(b, config, model, &model->m[i]);
    }
    if (mmf_builder_status(b) == MMF_OK)
        build_fusion(b, model);
    if (mmf_builder_status(b) == MMF_OK)
        mmf_dmd_build_losses(b, config, model);
}

/* The reference's kernel on its own: logits and reprs hold one row a modality. */
static void build_kernel(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                         mmf_dmd *model)
{
    const mmf_input_schema *const z = mmf_schema_find(inputs, "logits");
    const mmf_input_schema *const h = mmf_schema_find(inputs, "reprs");
    const size_t edges = mmf_config_count(config, "prior");
    if (strcmp(mmf_config_text(config, "part"), "distillation-kernel") != 0 || !z || !h ||
        z->n_dims != 2 || h->n_dims != 2) {
        mmf_builder_fail(b, MMF_ARG,
                         "dmd: part \"%s\" is not distillation-kernel over the inputs logits and "
                         "reprs (modalities, batch, width); leave the option out for the model",
                         mmf_config_text(config, "part"));
        return;
    }
    model->count = edges > 0 ? 0 : DEFAULT_COUNT;
    for (size_t n = 2; n * (n - 1) <= edges; n++)
        model->count = n;
    model->kernel_alone = true;
    model->hetero = strcmp(mmf_config_text(config, "graph"), "hetero") == 0;
    model->outputs = z->shape[1];
    model->width = h->shape[1];
    mmf_dmd_build_losses(b, config, model);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    mmf_dmd *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    *self = model;
    *model = (mmf_dmd){.count = inputs->count,
                       .width = width_of(config, inputs->count),
                       .outputs = mmf_n_outputs(config),
                       .kind = mmf_result_kind_of(config),
                       .dropout = mmf_config_real(config, "dropout")};
    model->m = mmf_builder_alloc(b, (inputs->count + 1) * sizeof *model->m);
    model->list = mmf_builder_alloc(b, (inputs->count + DEFAULT_COUNT) * sizeof(mmf_tensor *));
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    if (*mmf_config_text(config, "part"))
        build_kernel(b, config, inputs, model);
    else
        build_model(b, config, inputs, model);
    return mmf_builder_status(b);
}

/* ---- Decoupling -------------------------------------------------------------------------- */

/* x (B, D, T), zero where masked; without biases s, c and what is rebuilt from them are, too. */
static void decouple(mmf_tape *tape, const mmf_dmd *model, mmf_dmd_part *m, const mmf_named *in)
{
    const char *const name = m->input->name;
    mmf_steps s = {0};
    if (m->is_paper) {
        s = (mmf_steps){mmf_named_get(in, name), mmf_key_mask(tape, in, name, m->input->shape[0])};
        s.x = mmf_steps_masked(tape, &s);
        s = mmf_steps_convolve(tape, &m->proj, &s);
        s.x = mmf_steps_masked(tape, &s);
    } else {
        s = mmf_steps_run(tape, &m->encoder, in);
    }
    m->mask = s.mask;
    m->present = mmf_present_column(tape, in, name);
    m->x = mmf_transpose(tape, s.x, 1, 2);
    m->s = mmf_conv_run(tape, &m->own, m->x);
    m->c = mmf_conv_run(tape, &model->encoder_c, m->x);
    m->rebuilt =
        mmf_conv_run(tape, &m->decoder, mmf_concat(tape, (mmf_tensor *[]){m->s, m->c}, 2, 1));
    m->s_again = mmf_conv_run(tape, &m->own, m->rebuilt);
}

static mmf_steps steps_of(mmf_tape *tape, const mmf_dmd_part *m, mmf_tensor *x)
{
    return (mmf_steps){mmf_transpose(tape, x, 1, 2), m->mask};
}

/* (B, D T): `x` row by row. */
static mmf_tensor *flat(mmf_tape *tape, mmf_tensor *x)
{
    return x ? mmf_reshape(tape, x, 2, (int64_t[]){x->shape[0], x->count / x->shape[0]}) : NULL;
}

/* ---- Branches ---------------------------------------------------------------------------- */

/* What is shared: a head a modality over all its steps, and the last step of a transformer. */
static void run_low(mmf_tape *tape, const mmf_dmd *model, mmf_dmd_part *m)
{
    const mmf_steps c = steps_of(tape, m, m->c);
    mmf_tensor *const f = flat(tape, c.x);
    m->repr_low = mmf_linear_run(tape, &m->low_1, f, MMF_ACT_RELU);
    mmf_tensor *const h = mmf_linear_run(
        tape, &m->low_2, mmf_dropout(tape, m->repr_low, model->dropout), MMF_ACT_NONE);
    m->logits_low = mmf_linear_run(tape, &m->low_out, mmf_add(tape, h, f), MMF_ACT_NONE);
    m->likeness = mmf_linear_run(tape, &m->align, flat(tape, m->c), MMF_ACT_NONE);
    const mmf_steps y = {mmf_translation_run(tape, &m->shared, &c, NULL, NULL), m->mask};
    m->last_c = mmf_steps_last(tape, &y);
}

/* What is own: translated from every other modality, then read by the memory. */
static void run_high(mmf_tape *tape, const mmf_dmd *model, mmf_dmd_part *m)
{
    const mmf_steps own = steps_of(tape, m, m->s);
    size_t n = 0;
    for (size_t i = 0; i < model->count; i++) {
        /* Sources come as text, audio, vision. */
        const size_t j = model->trio && i > 0 ? 3 - i : i;
        const mmf_steps source = steps_of(tape, &model->m[j], model->m[j].s);
        if (&model->m[j] != m)
            model->list[n++] = mmf_translation_run(tape, &m->from[j], &own, &source, NULL);
    }
    mmf_steps h = {mmf_concat(tape, model->list, (int)n, 2), m->mask};
    h.x = mmf_translation_run(tape, &m->memory, &h, NULL, NULL);
    m->last_s = mmf_steps_last(tape, &h);
    m->repr_high = residual_run(tape, &m->high, m->last_s, model->dropout);
    m->logits_high = mmf_linear_run(tape, &m->high_out, m->repr_high, MMF_ACT_NONE);
}

static void put_part(mmf_tape *tape, const mmf_dmd_part *m, mmf_named *out)
{
    static const int steps_first[] = {2, 0, 1};
    mmf_named_putf(tape, out, m->last_s, "feature_%s", m->input->name);
    mmf_named_putf(tape, out, m->repr_low, "repr_%s_homo", m->key);
    mmf_named_putf(tape, out, m->logits_low, "logits_%s_homo", m->key);
    mmf_named_putf(tape, out, m->repr_high, "repr_%s_hetero", m->key);
    mmf_named_putf(tape, out, m->logits_high, "logits_%s_hetero", m->key);
    mmf_named_putf(tape, out, m->likeness, "c_%s_sim", m->key);
    mmf_named_putf(tape, out, m->rebuilt, "recon_%s", m->key);
    mmf_named_putf(tape, out, m->s_again, "s_%s_r", m->key);
    mmf_named_putf(tape, out, mmf_permute(tape, m->s, steps_first), "s_%s", m->key);
    mmf_named_putf(tape, out, mmf_permute(tape, m->c, steps_first), "c_%s", m->key);
}

/* The shared head's logits, and what it adds to the fusion. */
static mmf_tensor *shared_head(mmf_tape *tape, const mmf_dmd *model, mmf_tensor **logits)
{
    for (size_t i = 0; i < model->count; i++)
        model->list[i] = model->m[i].last_c;
    mmf_tensor *const all = mmf_concat(tape, model->list, (int)model->count, 1);
    *logits = mmf_linear_run(tape, &model->out_c,
                             residual_run(tape, &model->mlp_c, all, model->dropout), MMF_ACT_NONE);
    return mmf_linear_run(tape, &model->weight_c, all, MMF_ACT_SIGMOID);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    mmf_dmd *const model = self;
    if (model->kernel_alone) {
        mmf_dmd_run_kernel(tape, model, in, out);
        return;
    }
    for (size_t i = 0; i < model->count; i++)
        decouple(tape, model, &model->m[i], in);
    for (size_t i = 0; i < model->count; i++) {
        run_low(tape, model, &model->m[i]);
        run_high(tape, model, &model->m[i]);
        put_part(tape, &model->m[i], out);
    }
    mmf_tensor *const shared = shared_head(tape, model, &model->logits_c);
    for (size_t i = 0; i < model->count; i++)
        model->list[i] =
            mmf_linear_run(tape, &model->m[i].weight, model->m[i].last_s, MMF_ACT_SIGMOID);
    model->list[model->count] = shared;
    mmf_tensor *const fused = mmf_concat(tape, model->list, (int)model->count + 1, 1);
    model->output = mmf_linear_run(
        tape, &model->out, residual_run(tape, &model->mlp, fused, model->dropout), MMF_ACT_NONE);
    mmf_named_put(tape, out, "feature_fusion", fused);
    mmf_named_put(tape, out, "logits_c", model->logits_c);
    mmf_named_put(tape, out, "output", model->output);
    mmf_put_result(tape, out, model->kind == MMF_RESULT_VALUE, model->output);
    mmf_tensor *const label = mmf_named_get(in, "label");
    if (label)
        mmf_dmd_put_losses(tape, model, label, step, out);
}

const mmf_def mmf_model_dmd = {
    .name = "dmd",
    .title = "Decoupled multimodal distilling",
    .paper = "Li, Wang, Cui, Decoupled multimodal distilling for emotion recognition, CVPR 2023, "
             "arXiv:2303.13802",
    .equations =
        "s_m = S_m x_m, c_m = C x_m a step; y from sigmoid(W_m h_m), h_m the last step of "
        "transformers from all s_j to s_m, and from those over c_m; loss: all heads + a (|D(s, c) "
        "- x|^2 + |S D(s, c) - s|^2 + (margin(c) + max(0, cos(s, c))) / 10) + b (graph "
        "distillation of c and of s); unlike the released code representations are distilled by 1 "
        "- cos, the cosine of s and c is taken a step, padding is masked; classes are 1 apart",
    .missing = "its steps are masked as sources and zero in the heads; its own heads, edges and "
               "margins are left out of the losses",
    .timing = "intermediate",
    .structure = "disentangled",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .lr = 1e-4,
    .build = build,
    .run = run,
};
