/*
 * mmim.c: MultiModal InfoMax: fusion that keeps the information between modalities, and between
 * each modality and the fused vector, high.
 *
 * Han, Chen, Poria, EMNLP 2021, names of declare-lab/Multimodal-Infomax. The main modality (text)
 * predicts the others through a Gaussian bound whose entropy term remembers the batch before; the
 * fused vector predicts every modality contrastively. Any modalities, any number of them: the first
 * is the main one unless one is called text, sequences go through the paper's LSTM.
 *
 * The output `loss` is the released objective. Training takes `objective`, in which the Gaussian
 * likelihood has the -l/2 that the released code leaves out (without it l grows without end), of a
 * modality that is standardised over the batch: the entropy is that of a learned projection, which
 * does not see the scale, so a likelihood of the vector itself is raised by shrinking it to
 * nothing. All parameters take one step together: the paper alternates between the likelihood's own
 * parameters and the rest, and both steps ascend the same bound.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "nn/disentangle.h"
#include "nn/infomax.h"
#include "models/parts.h"

#define VARIANCE_EPS 1e-5
/* Log-variances in training: a likelihood of what does not vary has no bound. */
#define MOST_LOGVAR 8

#define WIDTH(name, standard, help)                                                                \
    {                                                                                              \
        name, NULL, MMF_OPTION_INT, 1, 8192, NULL, standard, help                                  \
    }

static const mmf_option options[] = {
    WIDTH("d_tout", "128", "width of the main modality, unless text is a vector already"),
    WIDTH("d_vh", "16", "units of the LSTM of vision and of modalities with other names"),
    WIDTH("d_vout", "16", "width of their vectors"),
    WIDTH("d_ah", "16", "units of the LSTM of audio"),
    WIDTH("d_aout", "16", "width of its vector"),
    WIDTH("d_prjh", "128", "width of the fused vector"),
    {"bidirectional", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false", "LSTMs in both directions"},
    {"mmilb_mid_activation", NULL, MMF_OPTION_TEXT, 0, 0, "ReLU|Tanh", "ReLU",
     "inside the networks of the Gaussian bound"},
    {"cpc_layers", NULL, MMF_OPTION_INT, 1, 16, NULL, "1",
     "layers from the fused vector to a modality"},
    {"cpc_activation", NULL, MMF_OPTION_TEXT, 0, 0, "ReLU|Tanh", "Tanh", "between these layers"},
    {"add_va", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false",
     "bound the information between the other modalities, too"},
    {"cpc_weight", "alpha", MMF_OPTION_REAL, 0, 1e6, NULL, "0.1",
     "weight of the contrastive losses"},
    {"mi_weight", "beta", MMF_OPTION_REAL, 0, 1e6, NULL, "0.1",
     "weight of the bounds between modalities: likelihood and entropy"},
    {"memory", NULL, MMF_OPTION_INT, 1, 4096, NULL, "64",
     "rows of the batch before that the entropy remembers, for each sign of the target"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.1", "on what enters the fusion"},
    MMF_ENCODER_OPTION,
    {0},
};

typedef struct modality {
    const mmf_input_schema *input;
    const char *key; /* t, v, a, or the modality's name */
    bool is_given;   /* a text vector, which is what a language model put out */
    bool is_sequence;
    mmf_rnn_layer rnn;
    mmf_linear_layer linear;
    mmf_encoder encoder;
    mmf_tensor *absent; /* (width): learned; NULL if never absent */
    mmf_cpc cpc;
    int64_t width;
    mmf_tensor *x, *present; /* of the last run */
} modality;

typedef struct pair {
    const char *key; /* tv, ta, or p_q */
    size_t from, to;
    mmf_mi_bound bound;
} pair;

typedef struct mmim_model {
    modality *m; /* the main one first */
    pair *pairs;
    mmf_tensor **fused; /* in the paper's order: text, audio, vision */
    size_t count, n_pairs;
    bool trio, by_sign;
    mmf_result_kind kind;
    double dropout, alpha, beta;
    mmf_linear_layer linear_1, linear_2, linear_3;
} mmim_model;

/* ---- Building ---------------------------------------------------------------------------- */

static mmf_activation activation_of(const mmf_config *config, const char *option)
{
    return strcmp(mmf_config_text(config, option), "Tanh") == 0 ? MMF_ACT_TANH : MMF_ACT_RELU;
}

/* Memories that are given with the inputs (`memory.tv.pos`) are no modalities. */
static mmf_schema *modalities_of(mmf_builder *b, const mmf_schema *inputs)
{
    mmf_schema *const own = mmf_builder_alloc(b, sizeof *own);
    if (!own)
        return NULL;
    own->inputs = mmf_builder_alloc(b, (inputs->count + 1) * sizeof *own->inputs);
    for (size_t i = 0; own->inputs && i < inputs->count; i++) {
        if (strncmp(inputs->inputs[i].name, "memory.", 7) != 0)
            own->inputs[own->count++] = inputs->inputs[i];
    }
    return own->inputs ? own : NULL;
}

/* Text, vision, audio; else text or the first, then the others as they come. */
static void order_modalities(mmim_model *model, const mmf_schema *inputs)
{
    static const char *const names[] = {"text", "vision", "audio"}, *const keys[] = {"t", "v", "a"};
    const mmf_input_schema *const text = mmf_schema_find(inputs, "text");
    const mmf_input_schema *const main = text ? text : &inputs->inputs[0];
    size_t next = 0;
    for (size_t i = 0; i < inputs->count; i++) {
        modality *const m = &model->m[i];
        const mmf_input_schema *const named =
            model->trio && i < 3 ? mmf_schema_find(inputs, names[i]) : NULL;
        next += i > 0 && &inputs->inputs[next] == main; /* the main one came first */
        m->input = named ? named : i == 0 ? main : &inputs->inputs[next++];
        m->key = named ? keys[i] : m->input->name;
        m->is_given = i == 0 && m->input == text && m->input->kind == MMF_VECTOR;
    }
}

static const char *scope_of(mmf_builder *b, const mmim_model *model, const char *name)
{
    if (model->trio && strcmp(name, "vision") == 0)
        return "visual_enc";
    if (model->trio && strcmp(name, "audio") == 0)
        return "acoustic_enc";
    return mmf_builder_text(b, "%s_enc", name);
}

static void build_modality(mmf_builder *b, const mmf_config *config, const mmim_model *model,
                           modality *m)
{
    const char *const name = m->input->name, *const scope = scope_of(b, model, name);
    const char *const spec = mmf_encoder_spec(config, "encoder", name);
    const bool is_main = m == model->m, is_audio = strcmp(name, "audio") == 0;
    m->width = mmf_config_int(config, is_main ? "d_tout" : is_audio ? "d_aout" : "d_vout");
    m->is_given = m->is_given && !spec;
    m->is_sequence = !is_main && m->input->kind == MMF_SEQUENCE && !spec;
    if (m->is_given) {
        m->width = m->input->shape[0];
    } else if (m->is_sequence) {
        const mmf_rnn_options rnn = {.inputs = m->input->shape[1],
                                     .hidden = mmf_config_int(config, is_audio ? "d_ah" : "d_vh"),
                                     .n_layers = 1,
                                     .bidirectional = mmf_config_bool(config, "bidirectional")};
        mmf_builder_enter(b, scope);
        m->rnn = mmf_rnn_build(b, "rnn", &rnn);
        m->linear = mmf_linear_build(b, "linear_1", rnn.hidden * (rnn.bidirectional ? 2 : 1),
                                     m->width, true);
        mmf_builder_leave(b);
    } else {
        const mmf_encoder_choice choice = {
            .spec = spec, .width = m->width, .dropout = model->dropout};
        m->encoder = mmf_encoder_build(b, scope, m->input, &choice);
        m->width = m->encoder.width;
    }
    if (m->input->has_present && mmf_builder_status(b) == MMF_OK)
        m->absent = mmf_builder_param(b, mmf_builder_text(b, "absent_%s", m->key),
                                      MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &m->width);
}

static void build_pair(mmf_builder *b, const mmf_config *config, mmim_model *model, size_t from,
                       size_t to)
{
    pair *const p = &model->pairs[model->n_pairs++];
    const modality *const x = &model->m[from], *const y = &model->m[to];
    *p = (pair){.from = from, .to = to};
    p->key = mmf_builder_text(b, model->trio ? "%s%s" : "%s_%s", x->key, y->key);
    p->bound = mmf_mi_build(b, mmf_builder_text(b, "mi_%s", p->key), x->width, y->width,
                            activation_of(config, "mmilb_mid_activation"), model->by_sign,
                            mmf_config_int(config, "memory"));
}

static void build_losses(mmf_builder *b, const mmf_config *config, mmim_model *model)
{
    const bool all = mmf_config_bool(config, "add_va");
    for (size_t i = 0; i < (all ? model->count : 1); i++) {
        for (size_t j = i + 1; mmf_builder_status(b) == MMF_OK && j < model->count; j++)
            build_pair(b, config, model, i, j);
    }
    for (size_t i = 0; mmf_builder_status(b) == MMF_OK && i < model->count; i++)
        model->m[i].cpc = mmf_cpc_build(b, mmf_builder_text(b, "cpc_z%s", model->m[i].key),
                                        mmf_config_int(config, "d_prjh"), model->m[i].width,
                                        (int)mmf_config_int(config, "cpc_layers"),
                                        activation_of(config, "cpc_activation"));
}

static void build_fusion(mmf_builder *b, const mmf_config *config, mmim_model *model)
{
    const int64_t hidden = mmf_config_int(config, "d_prjh");
    int64_t width = 0;
    for (size_t i = 0; i < model->count; i++)
        width += model->m[i].width;
    mmf_builder_enter(b, "fusion_prj");
    model->linear_1 = mmf_linear_build(b, "linear_1", width, hidden, true);
    model->linear_2 = mmf_linear_build(b, "linear_2", hidden, hidden, true);
    model->linear_3 = mmf_linear_build(b, "linear_3", hidden, mmf_n_outputs(config), true);
    mmf_builder_leave(b);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    mmim_model *const model = mmf_builder_alloc(b, sizeof *model);
    const mmf_schema *const own = modalities_of(b, inputs);
    if (!model || !own)
        return mmf_builder_status(b);
    *self = model;
    *model = (mmim_model){.count = own->count,
                          .trio = mmf_is_sentiment_trio(own),
                          .kind = mmf_result_kind_of(config),
                          .dropout = mmf_config_real(config, "dropout"),
                          .alpha = mmf_config_real(config, "cpc_weight"),
                          .beta = mmf_config_real(config, "mi_weight")};
    model->by_sign = model->kind == MMF_RESULT_VALUE;
    model->m = mmf_builder_alloc(b, own->count * sizeof *model->m);
    model->pairs = mmf_builder_alloc(b, own->count * own->count * sizeof *model->pairs);
    model->fused = mmf_builder_alloc(b, own->count * sizeof(mmf_tensor *));
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    order_modalities(model, own);
    for (size_t i = 0; mmf_builder_status(b) == MMF_OK && i < model->count; i++)
        build_modality(b, config, model, &model->m[i]);
    if (mmf_builder_status(b) == MMF_OK)
        build_losses(b, config, model);
    if (mmf_builder_status(b) == MMF_OK)
        build_fusion(b, config, model);
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

static void encode(mmf_tape *tape, modality *m, const mmf_named *in, const mmf_step *step,
                   mmf_named *out)
{
    const char *const name = m->input->name;
    if (m->is_given) {
        m->x = mmf_named_get(in, name);
    } else if (m->is_sequence) {
        const mmf_rnn_result r = mmf_rnn_run(tape, &m->rnn, mmf_named_get(in, name),
                                             mmf_named_part(in, name, "length"), false);
        m->x = mmf_linear_run(tape, &m->linear, r.last, MMF_ACT_NONE);
    } else {
        m->x = mmf_encoder_run(tape, &m->encoder, in, step);
    }
    m->present = mmf_present_column(tape, in, name);
    m->x = mmf_replace_absent(tape, m->x, m->present, m->absent);
    mmf_named_putf(tape, out, m->x, "feature_%s", name);
}

/* z = tanh(W2 tanh(W1 [t; a; v])) */
static mmf_tensor *fuse(mmf_tape *tape, const mmim_model *model)
{
    for (size_t i = 0; i < model->count; i++) {
        const size_t place = model->trio && i > 0 ? 3 - i : i;
        model->fused[place] = model->m[i].x;
    }
    mmf_tensor *h = mmf_concat(tape, model->fused, (int)model->count, 1);
    h = mmf_dropout(tape, h, model->dropout);
    h = mmf_linear_run(tape, &model->linear_1, h, MMF_ACT_TANH);
    return mmf_linear_run(tape, &model->linear_2, h, MMF_ACT_TANH);
}

/* Sums over the terms; NULL: no term yet. */
typedef struct bounds {
    mmf_tensor *nce, *lld, *unscaled, *entropy;
} bounds;

/* Mean 0 and variance 1 over the rows that are there. */
static mmf_tensor *standardised(mmf_tape *tape, mmf_tensor *x, mmf_tensor *present)
{
    mmf_tensor *const d = mmf_sub(tape, x, mmf_row_mean(tape, x, present));
    mmf_tensor *const variance = mmf_row_mean(tape, mmf_mul(tape, d, d), present);
    return mmf_div(tape, d, mmf_sqrt(tape, mmf_affine(tape, variance, 1, VARIANCE_EPS)));
}

static void add_to(mmf_tape *tape, mmf_tensor **sum, mmf_tensor *term)
{
    *sum = *sum ? mmf_add(tape, *sum, term) : term;
}

static void add_entropy(mmf_tape *tape, pair *p, const modality *y, const mmf_named *in,
                        mmf_tensor *sign, mmf_tensor *present, mmf_mi_result *r, mmf_named *out)
{
    mmf_tensor *given[MMF_MI_GROUPS] = {NULL};
    char name[128];
    for (size_t g = 0; g < p->bound.n_groups; g++) {
        const char *const group = p->bound.groups[g];
        (void)snprintf(name, sizeof name, "memory.%s.%s", p->key, group);
        given[g] = mmf_named_get(in, name);
    }
    mmf_mi_entropy(tape, &p->bound, y->x, sign, present, given, r);
    for (size_t g = 0; g < p->bound.n_groups; g++) {
        if (r->samples[g])
            mmf_named_putf(tape, out, r->samples[g], "sample.%s.%s", p->key, p->bound.groups[g]);
    }
    if (r->entropy)
        mmf_named_putf(tape, out, r->entropy, "entropy.%s", p->key);
}

/* @param label  NULL outside of training: then there is no entropy, which needs a memory */
static bounds all_bounds(mmf_tape *tape, const mmim_model *model, const mmf_named *in,
                         mmf_tensor *z, mmf_tensor *label, mmf_named *out)
{
    bounds sum = {0};
    mmf_tensor *const sign = model->by_sign ? label : NULL;
    for (size_t i = 0; i < model->count; i++) {
        const modality *const m = &model->m[i];
        mmf_tensor *const nce = mmf_cpc_run(tape, &m->cpc, m->x, z, m->present);
        mmf_named_putf(tape, out, nce, "nce.%s", m->key);
        add_to(tape, &sum.nce, nce);
    }
    for (size_t i = 0; i < model->n_pairs; i++) {
        pair *const p = &model->pairs[i];
        const modality *const x = &model->m[p->from], *const y = &model->m[p->to];
        mmf_tensor *const both = mmf_both_present(tape, x->present, y->present);
        mmf_mi_result r = mmf_mi_likelihood(tape, &p->bound, x->x, y->x, both, INFINITY);
        mmf_named_putf(tape, out, r.likelihood, "lld.%s", p->key);
        mmf_named_putf(tape, out, r.likelihood_in_full, "lld_with_logvar.%s", p->key);
        add_to(tape, &sum.lld, r.likelihood);
        if (label) {
            add_entropy(tape, p, y, in, sign, y->present, &r, out);
            mmf_tensor *const unscaled = standardised(tape, y->x, both);
            mmf_tensor *const term =
                mmf_mi_likelihood(tape, &p->bound, x->x, unscaled, both, MOST_LOGVAR)
                    .likelihood_in_full;
            mmf_named_putf(tape, out, term, "likelihood.%s", p->key);
            add_to(tape, &sum.unscaled, term);
        }
        if (r.entropy)
            add_to(tape, &sum.entropy, r.entropy);
    }
    mmf_named_put(tape, out, "nce", sum.nce);
    mmf_named_put(tape, out, "lld", sum.lld);
    if (sum.entropy)
        mmf_named_put(tape, out, "entropy", sum.entropy);
    return sum;
}

/* task + alpha nce - beta (likelihood + entropy) */
static mmf_tensor *objective(mmf_tape *tape, const mmim_model *model, const bounds *sum,
                             mmf_tensor *task, mmf_tensor *likelihood)
{
    mmf_tensor *const nce = mmf_affine(tape, sum->nce, model->alpha, 0);
    mmf_tensor *const mi = sum->entropy ? mmf_add(tape, likelihood, sum->entropy) : likelihood;
    return mmf_add(tape, mmf_add(tape, task, nce), mmf_affine(tape, mi, -model->beta, 0));
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const mmim_model *const model = self;
    for (size_t i = 0; i < model->count; i++)
        encode(tape, &model->m[i], in, step, out);
    mmf_tensor *const z = fuse(tape, model);
    mmf_tensor *const y = mmf_linear_run(tape, &model->linear_3, z, MMF_ACT_NONE);
    mmf_named_put(tape, out, "feature_fusion", z);
    mmf_put_result(tape, out, model->kind == MMF_RESULT_VALUE, y);
    /* Predicting needs no bounds. */
    if (!step->training && !mmf_tape_pass(tape)->record)
        return;
    mmf_tensor *const label = step->training ? mmf_named_get(in, "label") : NULL;
    const bounds sum = all_bounds(tape, model, in, z, label, out);
    if (!label)
        return;
    mmf_tensor *const task = mmf_result_loss(tape, model->kind, y, label);
    mmf_named_put(tape, out, "loss.task", task);
    mmf_named_put(tape, out, "loss", objective(tape, model, &sum, task, sum.lld));
    mmf_named_put(tape, out, "objective", objective(tape, model, &sum, task, sum.unscaled));
}

const mmf_def mmf_model_mmim = {
    .name = "mmim",
    .title = "MultiModal InfoMax",
    .paper = "Han, Chen, Poria, Improving multimodal fusion with hierarchical mutual information "
             "maximization for multimodal sentiment analysis, EMNLP 2021, arXiv:2109.00412",
    .equations =
        "z = tanh(W2 tanh(W1 [x_m])), y = W3 z; loss + a sum_m NCE(x_m, z) - b sum_m (log N(x_m; "
        "mu(t), e^l(t)) + H(x_m)), H = mean over signs of log|S|/2 over this batch and the one "
        "before; unlike the released code -l/2 is part of log N, |l| <= 8, in it x_m is "
        "standardised over the batch, and all parameters take one step together; targets without a "
        "sign: one H for all rows",
    .missing = "a learned vector stands in; the bounds leave such rows out",
    .timing = "intermediate",
    .structure = "contrastive",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
