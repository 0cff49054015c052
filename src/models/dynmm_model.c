/*
 * dynmm_model.c: a gate that chooses for each sample how many modalities are worth their cost.
 *
 * Xue, Marculescu, Dynamic multimodal fusion, CVPR 2023 workshops, modality level, eq. (1) to (4).
 * Experts see some of the modalities each, and a loss charges for what they cost. Deviations: the
 * experts share one encoder a modality; by default the gate sees the modalities of the first expert
 * only, since a gate over all of them saves nothing; and at inference what no sample of the batch
 * has chosen, experts and the encoders that only they need, is not computed, where the released
 * code computes everything and counts savings. The paper's Gumbel noise on the scores, which the
 * released code lacks, is there on request. Training begins with the softmax and goes on with
 * one-hot weights that have its gradient.
 */
#include <string.h>

#include "models/parts.h"
#include "nn/gate.h"

static const mmf_option options[] = {
    MMF_HIDDEN_OPTION,
    MMF_DROPOUT_OPTION,
    MMF_ENCODER_OPTION,
    {"experts", NULL, MMF_OPTION_TEXTS, 0, 0, NULL, "",
     "modalities of each expert, as in text,text+vision; default: the first, and all"},
    {"costs", NULL, MMF_OPTION_REALS, 0, 1e9, NULL, "",
     "of each expert; default: its share of the modalities"},
    {"cost_weight", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "0.01",
     "of the expected cost in the training loss"},
    {"hard", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "one expert a sample; else a mixture of all"},
    {"soft_epochs", NULL, MMF_OPTION_INT, 0, 1000000, NULL, "5",
     "epochs of training that mix experts before one is chosen"},
    {"tau", NULL, MMF_OPTION_REAL, 1e-6, 1e6, NULL, "1", "temperature of the gate"},
    {"gumbel", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false",
     "Gumbel noise on the gate's scores in training, as in the paper: experts are drawn by their "
     "softmax"},
    {"gate_hidden", NULL, MMF_OPTION_INT, 1, 65536, NULL, "32", "hidden layer of the gate"},
    {"gate_sees", NULL, MMF_OPTION_TEXT, 0, 0, "first|all", "first",
     "encodings that the gate sees: those of the first expert, or all"},
    {0},
};

typedef struct dynmm_expert {
    uint64_t sees; /* bit m: modality m */
    double cost;
    mmf_linear_layer hidden, out;
} dynmm_expert;

typedef struct dynmm_model {
    mmf_encoders encoders;
    dynmm_expert *experts;
    int64_t n_experts;
    uint64_t gate_sees;
    bool gate_sees_presence;
    mmf_linear_layer gate_hidden, gate_out;
    bool hard, gumbel, is_regression;
    int64_t soft_epochs;
    double tau, cost_weight, dropout;
    mmf_tensor **inputs; /* of one concatenation */
} dynmm_model;

/* ---- Building ---------------------------------------------------------------------------- */

/* "a+b" as bits; 0 after an error. */
static uint64_t parse_expert(mmf_builder *b, const mmf_schema *inputs, const char *text)
{
    uint64_t sees = 0;
    for (const char *at = text; *at;) {
        const size_t n = strcspn(at, "+");
        size_t m = 0;
        while (m < inputs->count &&
               (strlen(inputs->inputs[m].name) != n || strncmp(inputs->inputs[m].name, at, n) != 0))
            m++;
        if (m == inputs->count) {
            mmf_builder_fail(b, MMF_ARG, "dynmm: expert \"%s\": there is no modality \"%.*s\"",
                             text, (int)n, at);
            return 0;
        }
        sees |= UINT64_C(1) << m;
        at += n + (at[n] == '+');
    }
    if (!sees)
        mmf_builder_fail(b, MMF_ARG, "dynmm: an expert without modalities");
    return sees;
}

static int64_t width_of(const dynmm_model *model, uint64_t sees)
{
    int64_t width = 0;
    for (size_t m = 0; m < model->encoders.inputs->count; m++)
        width += sees >> m & 1 ? model->encoders.widths[m] : 0;
    return width;
}

static double share_of(const dynmm_model *model, uint64_t sees)
{
    double n = 0;
    for (size_t m = 0; m < model->encoders.inputs->count; m++)
        n += (double)(sees >> m & 1);
    return n / (double)model->encoders.inputs->count;
}

static void build_experts(mmf_builder *b, const mmf_config *config, dynmm_model *model)
{
    const mmf_schema *const inputs = model->encoders.inputs;
    const size_t given = mmf_config_count(config, "experts");
    const size_t n_costs = mmf_config_count(config, "costs");
    const int64_t hidden = mmf_config_int(config, "hidden");
    const uint64_t all = ~UINT64_C(0) >> (64 - inputs->count);
    model->n_experts = given > 0 ? (int64_t)given : 2;
    model->experts = mmf_builder_alloc(b, (size_t)model->n_experts * sizeof *model->experts);
    if (n_costs > 0 && n_costs != (size_t)model->n_experts)
        mmf_builder_fail(b, MMF_ARG, "dynmm: option costs has %zu numbers for %lld experts",
                         n_costs, (long long)model->n_experts);
    for (int64_t i = 0; i < model->n_experts && mmf_builder_status(b) == MMF_OK; i++) {
        dynmm_expert *const e = &model->experts[i];
        const char *const text =
            given > 0 ? mmf_config_text_at(config, "experts", (size_t)i) : NULL;
        e->sees = text ? parse_expert(b, inputs, text) : (i == 0 ? 1 : all);
        e->cost = n_costs > 0 ? mmf_config_number_at(config, "costs", (size_t)i)
                              : share_of(model, e->sees);
        mmf_builder_enter(b, mmf_builder_text(b, "experts.%lld", (long long)i));
        e->hidden = mmf_linear_build(b, "hidden", width_of(model, e->sees), hidden, true);
        e->out = mmf_linear_build(b, "out", hidden, mmf_n_outputs(config), true);
        mmf_builder_leave(b);
    }
}

static void build_gate(mmf_builder *b, const mmf_config *config, dynmm_model *model)
{
    const mmf_schema *const inputs = model->encoders.inputs;
    const bool first = strcmp(mmf_config_text(config, "gate_sees"), "first") == 0;
    const int64_t hidden = mmf_config_int(config, "gate_hidden");
    const uint64_t all = inputs->count < 64 ? (UINT64_C(1) << inputs->count) - 1 : UINT64_MAX;
    model->gate_sees = first ? model->experts[0].sees : all;
    for (size_t m = 0; m < inputs->count; m++)
        model->gate_sees_presence = model->gate_sees_presence || inputs->inputs[m].has_present;
    const int64_t bits = model->gate_sees_presence ? (int64_t)inputs->count : 0;
    mmf_builder_enter(b, "gate");
    model->gate_hidden =
        mmf_linear_build(b, "hidden", width_of(model, model->gate_sees) + bits, hidden, true);
    model->gate_out = mmf_linear_build(b, "out", hidden, model->n_experts, true);
    mmf_builder_leave(b);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    dynmm_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    model->hard = mmf_config_bool(config, "hard");
    model->gumbel = mmf_config_bool(config, "gumbel");
    model->soft_epochs = mmf_config_int(config, "soft_epochs");
    model->tau = mmf_config_real(config, "tau");
    model->cost_weight = mmf_config_real(config, "cost_weight");
    model->dropout = mmf_config_real(config, "dropout");
    model->is_regression = mmf_is_regression(config);
    model->inputs = mmf_builder_alloc(b, (inputs->count + 1) * sizeof(mmf_tensor *));
    model->encoders = mmf_encoders_build(b, config, inputs, true);
    if (mmf_builder_status(b) == MMF_OK)
        build_experts(b, config, model);
    if (mmf_builder_status(b) == MMF_OK)
        build_gate(b, config, model);
    *self = model;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

/* The encodings of some modalities, computed when they are first asked for. @return the number */
static int gather(mmf_tape *tape, const dynmm_model *model, uint64_t sees, const mmf_named *in,
                  const mmf_step *step, mmf_named *out)
{
    const mmf_encoders *const e = &model->encoders;
    int n = 0;
    for (size_t m = 0; m < e->inputs->count; m++) {
        if (!(sees >> m & 1))
            continue;
        if (!e->features[m]) {
            e->features[m] = mmf_encoder_run(tape, &e->encoders[m], in, step);
            mmf_named_putf(tape, out, e->features[m], "feature_%s", e->inputs->inputs[m].name);
        }
        model->inputs[n++] = e->features[m];
    }
    return n;
}

static mmf_tensor *run_gate(mmf_tape *tape, const dynmm_model *model, const mmf_named *in,
                            const mmf_step *step, mmf_named *out)
{
    const mmf_schema *const inputs = model->encoders.inputs;
    int n = gather(tape, model, model->gate_sees, in, step, out);
    if (model->gate_sees_presence) {
        const mmf_tensor *const x = model->inputs[0];
        mmf_tensor *const present = mmf_presence(tape, inputs, in);
        const int64_t shape[] = {x ? x->shape[0] : 1, (int64_t)inputs->count};
        model->inputs[n++] = present ? present : mmf_full(tape, 2, shape, 1);
    }
    mmf_tensor *const h = mmf_linear_run(tape, &model->gate_hidden,
                                         mmf_concat(tape, model->inputs, n, -1), MMF_ACT_RELU);
    mmf_tensor *const logits = mmf_linear_run(tape, &model->gate_out, h, MMF_ACT_NONE);
    const bool soft = !model->hard || (step->training && step->epoch < model->soft_epochs);
    mmf_named_put(tape, out, "gate_logit", logits);
    const bool drawn = model->gumbel && step->training && logits;
    mmf_tensor *const scores =
        drawn ? mmf_add(tape, logits, mmf_gumbel_noise(tape, logits->n_dims, logits->shape))
              : logits;
    return mmf_gate(tape, scores, model->tau,
                    soft             ? MMF_GATE_SOFT
                    : step->training ? MMF_GATE_STRAIGHT
                                     : MMF_GATE_HARD,
                    NULL);
}

/* False if every sample gives the expert the weight 0: only a hard gate does that. */
static bool is_chosen(const mmf_tensor *gate, int64_t expert)
{
    for (int64_t at = expert; gate && at < gate->count; at += gate->shape[1]) {
        if (gate->data[at] != 0)
            return true;
    }
    return !gate;
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const dynmm_model *const model = self;
    mmf_tensor *y = NULL, *cost = NULL;
    memset((void *)model->encoders.features, 0,
           model->encoders.inputs->count * sizeof *model->encoders.features);
    mmf_tensor *const g = run_gate(tape, model, in, step, out);
    mmf_named_put(tape, out, "gate", g);
    mmf_named_axes(out, "BE");
    for (int64_t i = 0; i < model->n_experts; i++) {
        const dynmm_expert *const e = &model->experts[i];
        mmf_tensor *const weight = mmf_slice(tape, g, 1, i, 1);
        mmf_tensor *const charge =
            mmf_affine(tape, mmf_mean(tape, weight, MMF_ALL_AXES), e->cost, 0);
        cost = cost ? mmf_add(tape, cost, charge) : charge;
        if (!step->training && !step->all_features && !is_chosen(g, i))
            continue;
        const int n = gather(tape, model, e->sees, in, step, out);
        mmf_tensor *h = mmf_dropout(tape, mmf_concat(tape, model->inputs, n, -1), model->dropout);
        h = mmf_dropout(tape, mmf_linear_run(tape, &e->hidden, h, MMF_ACT_RELU), model->dropout);
        mmf_tensor *const own = mmf_linear_run(tape, &e->out, h, MMF_ACT_NONE);
        mmf_named_putf(tape, out, own, "expert.%lld", (long long)i);
        mmf_tensor *const part = mmf_mul(tape, weight, own);
        y = y ? mmf_add(tape, y, part) : part;
    }
    mmf_named_put(tape, out, "cost", cost);
    if (step->training)
        mmf_named_put(tape, out, "loss.cost", mmf_affine(tape, cost, model->cost_weight, 0));
    mmf_put_result(tape, out, model->is_regression, y);
}

const mmf_def mmf_model_dynmm = {
    .name = "dynmm",
    .title = "Dynamic multimodal fusion",
    .paper = "Xue, Marculescu, Dynamic multimodal fusion, CVPR 2023 workshops, arXiv:2204.00102",
    .equations = "y = sum_e g_e y_e, g = one-hot of the largest of softmax(G(x) / tau), L + lambda "
                 "sum_e C_e mean g_e",
    .missing = "a learned vector stands in, and the gate sees which are there",
    .timing = "intermediate",
    .structure = "dynamic",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
