/*
 * misa.c: modality-invariant and -specific representations.
 *
 * Hazarika, Zimmermann, Poria, ACM Multimedia 2020: every modality is projected to u_m, from which
 * a matrix of its own makes the private p_m and one matrix for all the shared s_m; a transformer
 * layer over all 2 M vectors fuses them. Losses pull the s_m together (CMD, or a discriminator
 * behind a gradient reversal), keep p and s apart, and rebuild u_m from p_m + s_m. Names of
 * declare-lab/MISA for text, audio and vision; any other modalities, any number of them, use the
 * encoder of their shape under their own names. Deviations: PyTorch's initial LSTM weights (the
 * authors' are orthogonal); the loss terms leave out rows that lack a modality.
 */
#include <math.h>
#include <string.h>

#include "nn/disentangle.h"
#include "models/parts.h"

static const mmf_option options[] = {
    {"hidden", "hidden_size", MMF_OPTION_INT, 1, 8192, NULL, "128",
     "width of every representation; a multiple of nhead"},
    {"nhead", NULL, MMF_OPTION_INT, 1, 64, NULL, "2", "heads of the transformer layer"},
    {"dim_feedforward", NULL, MMF_OPTION_INT, 0, 65536, NULL, "0",
     "hidden width of the transformer layer; 0: 2048, of more than three modalities 4 hidden"},
    {"use_cmd_sim", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "similarity by central moment discrepancy; false: by an adversarial discriminator"},
    {"sim_weight", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "1", "weight of the similarity loss"},
    {"diff_weight", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "0.3", "weight of the difference loss"},
    {"recon_weight", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "1", "weight of the reconstruction loss"},
    {"reverse_grad_weight", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "1",
     "scale of the reversed gradient of the discriminator"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.5",
     "in encoders by shape, discriminator and head"},
    {"transformer_dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.1",
     "in the transformer layer"},
    MMF_ENCODER_OPTION,
    {0},
};

/* Moments of the discrepancy, as in the paper. */
#define PAPER_MODALITIES 3
#define PAPER_INNER 2048
#define MOMENTS 5
/* Outputs of a discriminator whose loss the authors' code never adds. */
#define DEAD_OUTPUTS 4

/* One modality: the authors' pair of LSTMs, or the encoder of its shape. */
typedef struct misa_part {
    const mmf_input_schema *input;
    bool has_pair;
    mmf_rnn_layer rnn1, rnn2;
    mmf_layer_norm_layer between, norm;
    mmf_encoder encoder;
    mmf_linear_layer project, private, recon;
    mmf_tensor *absent; /* (H): learned, takes the place of u_m; NULL if never absent */
    mmf_tensor *u, *p, *s, *r, *present; /* of the last run */
} misa_part;

typedef struct misa_model {
    misa_part *parts;
    mmf_tensor **codes; /* p_1 .. p_M, s_1 .. s_M */
    size_t count;
    int64_t hidden;
    bool trio, by_moments, is_regression;
    mmf_result_kind kind;
    double sim_weight, diff_weight, recon_weight, reversal, dropout;
    mmf_linear_layer shared, discriminator_1, discriminator_2, fusion_1, fusion_3;
    mmf_transformer_layer transformer;
} misa_model;

/* ---- Building ---------------------------------------------------------------------------- */

static mmf_linear_layer scoped_linear(mmf_builder *b, const char *scope, const char *name,
                                      int64_t inputs, int64_t outputs)
{
    mmf_builder_enter(b, scope);
    const mmf_linear_layer layer = mmf_linear_build(b, name, inputs, outputs, true);
    mmf_builder_leave(b);
    return layer;
}

/* Returns the width of the utterance vector. */
static int64_t build_encoder(mmf_builder *b, const mmf_config *config, const misa_model *model,
                             misa_part *part, const char *name)
{
    const mmf_input_schema *const in = part->input;
    const char *const spec = mmf_encoder_spec(config, "encoder", in->name);
    part->has_pair = model->trio && in->kind == MMF_SEQUENCE && !spec;
    if (!part->has_pair) {
        const mmf_encoder_choice choice = {
            .spec = spec, .width = model->hidden, .dropout = model->dropout};
        part->encoder = mmf_encoder_build(b, in->name, in, &choice);
        return part->encoder.width;
    }
    const int64_t d = in->shape[1];
    const mmf_rnn_options first = {.inputs = d, .hidden = d, .n_layers = 1, .bidirectional = true};
    const mmf_rnn_options second = {
        .inputs = 2 * d, .hidden = d, .n_layers = 1, .bidirectional = true};
    part->rnn1 = mmf_rnn_build(b, mmf_builder_text(b, "%srnn1", name), &first);
    part->rnn2 = mmf_rnn_build(b, mmf_builder_text(b, "%srnn2", name), &second);
    part->between = mmf_layer_norm_build(b, mmf_builder_text(b, "%slayer_norm", name), 2 * d, 1e-5);
    return 4 * d;
}

static void build_part(mmf_builder *b, const mmf_config *config, const misa_model *model,
                       misa_part *part)
{
    const char first[] = {part->input->name[0], '\0'};
    const char *const name = model->trio ? mmf_builder_text(b, "%s", first) : part->input->name;
    const int64_t width = build_encoder(b, config, model, part, name), hidden = model->hidden;
    if (mmf_builder_status(b) != MMF_OK)
        return;
    const char *const scope = mmf_builder_text(b, "project_%s", name);
    part->project = scoped_linear(b, scope, scope, width, hidden);
    mmf_builder_enter(b, scope);
    part->norm = mmf_layer_norm_build(b, mmf_builder_text(b, "%s_layer_norm", scope), hidden, 1e-5);
    mmf_builder_leave(b);
    /* The authors' names: private_t_1, private_v_1, but private_a_3. */
    const int place = model->trio && name[0] == 'a' ? 3 : 1;
    part->private =
        scoped_linear(b, mmf_builder_text(b, "private_%s", name),
                      mmf_builder_text(b, "private_%s_%d", name, place), hidden, hidden);
    part->recon = scoped_linear(b, mmf_builder_text(b, "recon_%s", name),
                                mmf_builder_text(b, "recon_%s_1", name), hidden, hidden);
    if (part->input->has_present)
        part->absent = mmf_builder_param(b, mmf_builder_text(b, "absent_%s", name),
                                         MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &hidden);
}

/* Never run; kept so that the authors' weights fit. */
static void declare_dead(mmf_builder *b, int64_t hidden)
{
    const int64_t shape[] = {DEAD_OUTPUTS, hidden};
    mmf_builder_enter(b, "sp_discriminator.sp_discriminator_layer_1");
    mmf_builder_param(b, "weight", MMF_PARAM_FIXED, mmf_init_constant(0), 2, shape);
    mmf_builder_param(b, "bias", MMF_PARAM_FIXED, mmf_init_constant(0), 1, shape);
    mmf_builder_leave(b);
}

/* The transformer reads two codes a modality; with many of them the paper's inner width would be
 * most of the work. */
static int64_t inner_width(const mmf_config *config, const misa_model *model)
{
    const int64_t given = mmf_config_int(config, "dim_feedforward");
    return given > 0 ? given : model->count > PAPER_MODALITIES ? 4 * model->hidden : PAPER_INNER;
}

static void build_rest(mmf_builder *b, const mmf_config *config, misa_model *model)
{
    const int64_t hidden = model->hidden, count = (int64_t)model->count;
    const double dropout = mmf_config_real(config, "transformer_dropout");
    const mmf_transformer_options layer = {.width = hidden,
                                           .n_heads = mmf_config_int(config, "nhead"),
                                           .inner = inner_width(config, model),
                                           .activation = MMF_ACT_RELU,
                                           .eps = 1e-5,
                                           .dropout = dropout,
                                           .attention_dropout = dropout,
                                           .inner_dropout = dropout};
    model->shared = scoped_linear(b, "shared", "shared_1", hidden, hidden);
    if (!model->by_moments) {
        model->discriminator_1 =
            scoped_linear(b, "discriminator", "discriminator_layer_1", hidden, hidden);
        model->discriminator_2 =
            scoped_linear(b, "discriminator", "discriminator_layer_2", hidden, count);
    }
    if (model->trio)
        declare_dead(b, hidden);
    const int64_t codes = 2 * count * hidden;
    model->fusion_1 = scoped_linear(b, "fusion", "fusion_layer_1", codes, codes / 2);
    model->fusion_3 =
        scoped_linear(b, "fusion", "fusion_layer_3", codes / 2,
                      model->is_regression ? 1 : mmf_config_int(config, "num_classes"));
    if (mmf_builder_status(b) == MMF_OK)
        model->transformer = mmf_transformer_build(b, "transformer_encoder.layers.0", &layer);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    static const char *const paper[] = {"text", "vision", "audio"};
    misa_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    *model = (misa_model){.count = inputs->count,
                          .hidden = mmf_config_int(config, "hidden"),
                          .trio = mmf_is_sentiment_trio(inputs),
                          .by_moments = mmf_config_bool(config, "use_cmd_sim"),
                          .is_regression = mmf_is_value(config),
                          .kind = mmf_result_kind_of(config),
                          .sim_weight = mmf_config_real(config, "sim_weight"),
                          .diff_weight = mmf_config_real(config, "diff_weight"),
                          .recon_weight = mmf_config_real(config, "recon_weight"),
                          .reversal = mmf_config_real(config, "reverse_grad_weight"),
                          .dropout = mmf_config_real(config, "dropout")};
    model->parts = mmf_builder_alloc(b, inputs->count * sizeof *model->parts);
    model->codes = mmf_builder_alloc(b, 2 * inputs->count * sizeof(mmf_tensor *));
    for (size_t m = 0; mmf_builder_status(b) == MMF_OK && m < inputs->count; m++) {
        const bool is_named = model->trio && m < sizeof paper / sizeof *paper;
        model->parts[m].input = is_named ? mmf_schema_find(inputs, paper[m]) : &inputs->inputs[m];
        build_part(b, config, model, &model->parts[m]);
    }
    if (mmf_builder_status(b) == MMF_OK)
        build_rest(b, config, model);
    *self = model;
    return mmf_builder_status(b);
}

/* ---- Representations --------------------------------------------------------------------- */

/* [h1 forward; h2 forward; h1 backward; h2 backward] */
static mmf_tensor *utterance(mmf_tape *tape, const misa_part *part, const mmf_named *in,
                             const mmf_step *step)
{
    const char *const name = part->input->name;
    if (!part->has_pair)
        return mmf_encoder_run(tape, &part->encoder, in, step);
    const mmf_tensor *const length = mmf_named_part(in, name, "length");
    const int64_t d = part->rnn1.hidden;
    const mmf_rnn_result one =
        mmf_rnn_run(tape, &part->rnn1, mmf_named_get(in, name), length, false);
    mmf_tensor *const between = mmf_layer_norm_run(tape, &part->between, one.sequence);
    const mmf_rnn_result two = mmf_rnn_run(tape, &part->rnn2, between, length, false);
    mmf_tensor *const states[] = {
        mmf_slice(tape, one.last, 1, 0, d), mmf_slice(tape, two.last, 1, 0, d),
        mmf_slice(tape, one.last, 1, d, d), mmf_slice(tape, two.last, 1, d, d)};
    return mmf_concat(tape, states, 4, 1);
}

static void run_part(mmf_tape *tape, const misa_model *model, misa_part *part, const mmf_named *in,
                     const mmf_step *step, mmf_named *out)
{
    const char *const name = part->input->name;
    mmf_tensor *u = utterance(tape, part, in, step);
    u = mmf_linear_run(tape, &part->project, u, MMF_ACT_RELU);
    u = mmf_layer_norm_run(tape, &part->norm, u);
    part->present = mmf_present_column(tape, in, name);
    part->u = mmf_replace_absent(tape, u, part->present, part->absent);
    part->p = mmf_linear_run(tape, &part->private, part->u, MMF_ACT_SIGMOID);
    part->s = mmf_linear_run(tape, &model->shared, part->u, MMF_ACT_SIGMOID);
    mmf_named_putf(tape, out, part->u, "feature_%s", name);
    mmf_named_putf(tape, out, part->u, "projected_%s", name);
    mmf_named_putf(tape, out, part->p, "private_%s", name);
    mmf_named_putf(tape, out, part->s, "shared_%s", name);
}

/* ---- Losses ------------------------------------------------------------------------------ */

/* Mean over the pairs of modalities. */
static mmf_tensor *moments(mmf_tape *tape, const misa_model *model)
{
    const size_t n = model->count;
    mmf_tensor *sum = NULL;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            const misa_part *const a = &model->parts[i], *const b = &model->parts[j];
            mmf_tensor *const cmd =
                mmf_moment_discrepancy(tape, a->s, b->s, a->present, b->present, MOMENTS);
            sum = sum ? mmf_add(tape, sum, cmd) : cmd;
        }
    }
    return mmf_affine(tape, sum, 2 / (double)(n * (n - 1)), 0);
}

/* Cross entropy of which modality a shared code is of, over all codes that are there. */
static mmf_tensor *domain(mmf_tape *tape, const misa_model *model, mmf_named *out)
{
    mmf_tensor *sum = NULL, *n = NULL;
    for (size_t m = 0; m < model->count; m++) {
        const misa_part *const part = &model->parts[m];
        mmf_tensor *h = mmf_gradient_reversal(tape, part->s, model->reversal);
        h = mmf_linear_run(tape, &model->discriminator_1, h, MMF_ACT_RELU);
        mmf_tensor *const q = mmf_linear_run(tape, &model->discriminator_2,
                                             mmf_dropout(tape, h, model->dropout), MMF_ACT_NONE);
        mmf_tensor *const log_q = mmf_log_softmax(tape, q, NULL, MMF_EMPTY_ZERO);
        mmf_tensor *own = mmf_slice(tape, log_q, 1, (int64_t)m, 1);
        mmf_tensor *rows = own ? mmf_full(tape, 1, (int64_t[]){1}, (double)own->shape[0]) : NULL;
        if (part->present) {
            own = mmf_mul(tape, own, part->present);
            rows = mmf_sum(tape, part->present, MMF_ALL_AXES);
        }
        own = mmf_sum(tape, own, MMF_ALL_AXES);
        sum = m > 0 ? mmf_add(tape, sum, own) : own;
        n = m > 0 ? mmf_add(tape, n, rows) : rows;
        mmf_named_putf(tape, out, q, "domain_logits_%s", part->input->name);
    }
    return mmf_affine(tape, mmf_div(tape, sum, mmf_clamp(tape, n, 1, INFINITY)), -1, 0);
}

static mmf_tensor *difference(mmf_tape *tape, const misa_model *model)
{
    mmf_tensor *sum = NULL;
    for (size_t i = 0; i < model->count; i++) {
        const misa_part *const a = &model->parts[i];
        mmf_tensor *const own = mmf_difference_loss(tape, a->p, a->s, a->present);
        sum = i > 0 ? mmf_add(tape, sum, own) : own;
        for (size_t j = i + 1; j < model->count; j++) {
            const misa_part *const b = &model->parts[j];
            mmf_tensor *const both = mmf_both_present(tape, a->present, b->present);
            sum = mmf_add(tape, sum, mmf_difference_loss(tape, a->p, b->p, both));
        }
    }
    return sum;
}

static mmf_tensor *reconstruction(mmf_tape *tape, const misa_model *model, mmf_named *out)
{
    mmf_tensor *sum = NULL;
    for (size_t m = 0; m < model->count; m++) {
        misa_part *const part = &model->parts[m];
        part->r = mmf_linear_run(tape, &part->recon, mmf_add(tape, part->p, part->s), MMF_ACT_NONE);
        mmf_tensor *const error = mmf_row_error(tape, part->u, part->r, part->present);
        sum = m > 0 ? mmf_add(tape, sum, error) : error;
        mmf_named_putf(tape, out, part->r, "reconstruction_%s", part->input->name);
    }
    return mmf_affine(tape, sum, 1 / (double)model->count, 0);
}

/* The three terms, and in training what they add to the task's loss. Given what to predict, the
 * authors' whole loss is put out as well. */
static void put_losses(mmf_tape *tape, const misa_model *model, const mmf_named *in,
                       const mmf_step *step, mmf_named *out)
{
    mmf_tensor *const sim = model->by_moments ? moments(tape, model) : domain(tape, model, out);
    mmf_tensor *const diff = difference(tape, model);
    mmf_tensor *const recon = reconstruction(tape, model, out);
    mmf_tensor *const weighted[] = {mmf_affine(tape, sim, model->sim_weight, 0),
                                    mmf_affine(tape, diff, model->diff_weight, 0),
                                    mmf_affine(tape, recon, model->recon_weight, 0)};
    mmf_named_put(tape, out, model->by_moments ? "cmd" : "domain", sim);
    mmf_named_put(tape, out, "diff", diff);
    mmf_named_put(tape, out, "recon", recon);
    if (!step->training)
        return;
    mmf_named_put(tape, out, "loss.similarity", weighted[0]);
    mmf_named_put(tape, out, "loss.difference", weighted[1]);
    mmf_named_put(tape, out, "loss.reconstruction", weighted[2]);
    mmf_tensor *const label = mmf_named_get(in, "label");
    mmf_tensor *const y = mmf_named_get(out, "prediction");
    mmf_tensor *const logits = mmf_named_get(out, "logits");
    if (!label || (!y && !logits))
        return;
    mmf_tensor *const task =
        y ? mmf_mse_loss(tape, y, label) : mmf_result_loss(tape, model->kind, logits, label);
    mmf_tensor *loss = task;
    for (int i = 0; i < 3; i++)
        loss = mmf_add(tape, loss, weighted[i]);
    mmf_named_put(tape, out, "task", task);
    mmf_named_put(tape, out, "loss", loss);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const misa_model *const model = self;
    const size_t n = model->count;
    for (size_t m = 0; m < n; m++) {
        run_part(tape, model, &model->parts[m], in, step, out);
        model->codes[m] = model->parts[m].p;
        model->codes[n + m] = model->parts[m].s;
    }
    mmf_tensor *const stack = mmf_stack(tape, model->codes, (int)(2 * n), 1); /* (B, 2 M, H) */
    mmf_tensor *const mixed = mmf_transformer_run(tape, &model->transformer, stack, NULL, NULL);
    mmf_tensor *const flat =
        mmf_reshape(tape, mixed, 2, (int64_t[]){-1, 2 * (int64_t)n * model->hidden});
    mmf_tensor *h = mmf_linear_run(tape, &model->fusion_1, flat, MMF_ACT_RELU);
    h = mmf_dropout(tape, h, model->dropout);
    mmf_named_put(tape, out, "feature_fusion", flat);
    mmf_put_result(tape, out, model->is_regression,
                   mmf_linear_run(tape, &model->fusion_3, h, MMF_ACT_NONE));
    /* Predicting needs no losses. */
    if (step->training || mmf_tape_pass(tape)->record)
        put_losses(tape, model, in, step, out);
}

const mmf_def mmf_model_misa = {
    .name = "misa",
    .title = "Modality-invariant and -specific representations",
    .paper = "Hazarika, Zimmermann, Poria, MISA: modality-invariant and -specific representations "
             "for multimodal sentiment analysis, ACM Multimedia 2020, arXiv:2005.03545",
    .equations =
        "u = LN(relu(W x)); p = sigmoid(P_m u), s = sigmoid(S u); transformer over all p, "
        "s; loss + a sim(s) + b sum |P' S|^2 + c |u - D(p + s)|^2; a modality's encoder is "
        "a pair of LSTMs for text, audio and vision sequences, else by its shape",
    .missing = "a learned u_m stands in; the loss terms leave such rows out",
    .timing = "intermediate",
    .structure = "disentangled",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    /* The paper's: at 1e-3 its transformer, whose norms follow, may end at chance. */
    .lr = 1e-4,
    .build = build,
    .run = run,
};
