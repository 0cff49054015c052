/*
 * ogm_ge.c: the four heads of on-the-fly gradient modulation, with the scores, ratios and
 * coefficients that its training loop takes from them.
 *
 * Peng, Wei, Deng, Wang, Hu, Balanced multimodal learning via on-the-fly gradient modulation, CVPR
 * 2022; heads and names of the authors' code. A head of a sum or of a concatenation falls apart
 * into logits of each modality; with a sum each has its own full bias, of a concatenation each
 * takes half of the one bias. FiLM and gated heads do not fall apart, and have no ratio here.
 * `train --aid ogm-ge` modulates the gradients of a model.
 */
#include "nn/ogm_ge.h"

#include <math.h>
#include <string.h>

#define MAX_MODALITIES 64
/* A modality that gives the right classes less than this altogether counts as giving this. */
#define LEAST_SCORE 1e-30
/* Of a mean of equal scores. */
#define ROUNDING 1e-6

static const mmf_option options[] = {
    {"fusion", "fusion_method", MMF_OPTION_TEXT, 0, 0, "sum|concat|film|gated", "concat",
     "the head"},
    {"classes", "n_classes", MMF_OPTION_INT, 1, 1000000, NULL, "2", "outputs"},
    {"alpha", NULL, MMF_OPTION_REAL, 0, 1e6, NULL, "0.1", "strength of the modulation"},
    {"condition", NULL, MMF_OPTION_TEXT, 0, 0, NULL, "",
     "film, gated: the modality that conditions the other; default: the first"},
    {"hidden", NULL, MMF_OPTION_INT, 1, 65536, NULL, "512", "gated: common width"},
    {"modalities", NULL, MMF_OPTION_TEXTS, 0, 0, NULL, "",
     "the two in the order x, y; default: that of the inputs"},
    {0},
};

/* ---- Balance ----------------------------------------------------------------------------- */

/* (1): sum over the batch of the probability of the right class. */
static mmf_tensor *score_of(mmf_tape *tape, mmf_tensor *logits, const mmf_tensor *classes)
{
    mmf_tensor *const p = mmf_softmax(tape, mmf_detach(tape, logits), NULL, MMF_EMPTY_ZERO);
    if (!p || !classes)
        return NULL;
    mmf_tensor *const right = mmf_mul(tape, p, mmf_one_hot(tape, classes, p->shape[1]));
    return mmf_sum(tape, mmf_reshape(tape, right, 1, (int64_t[]){-1}), MMF_ALL_AXES);
}

/* The mean of all scores but that of m. */
static mmf_tensor *score_of_others(mmf_tape *tape, mmf_tensor *const *scores, size_t n, size_t m)
{
    mmf_tensor *others[MAX_MODALITIES];
    int n_others = 0;
    for (size_t i = 0; i < n; i++) {
        if (i != m)
            others[n_others++] = scores[i];
    }
    mmf_tensor *const sum = mmf_sum(tape, mmf_concat(tape, others, n_others, 0), MMF_ALL_AXES);
    return mmf_clamp(tape, mmf_affine(tape, sum, 1 / (double)n_others, 0), LEAST_SCORE, INFINITY);
}

mmf_ogm mmf_ogm_balance(mmf_tape *tape, mmf_tensor *const *logits, size_t n_modalities,
                        const mmf_tensor *classes, double alpha)
{
    mmf_tensor *scores[MAX_MODALITIES], *ratios[MAX_MODALITIES];
    mmf_ogm result = {0};
    if (n_modalities < 2 || n_modalities > MAX_MODALITIES)
        return result;
    for (size_t m = 0; m < n_modalities; m++)
        scores[m] = score_of(tape, logits[m], classes);
    for (size_t m = 0; m < n_modalities; m++)
        ratios[m] = mmf_div(tape, scores[m], score_of_others(tape, scores, n_modalities, m));
    mmf_tensor *const rho = mmf_concat(tape, ratios, (int)n_modalities, 0);
    /* 1 where rho > 1, else 0: nothing is damped at 1 itself, where rounding may end above. */
    mmf_tensor *const ahead =
        mmf_clamp(tape, mmf_sign(tape, mmf_affine(tape, rho, 1, -1 - ROUNDING)), 0, 1);
    mmf_tensor *const damped = mmf_tanh(tape, mmf_affine(tape, rho, alpha, 0));
    result.score = mmf_concat(tape, scores, (int)n_modalities, 0);
    result.ratio = rho;
    result.coefficient = mmf_affine(tape, mmf_mul(tape, ahead, damped), -1, 1);
    return result;
}

/* ---- Heads ------------------------------------------------------------------------------- */

typedef enum ogm_head { HEAD_SUM, HEAD_CONCAT, HEAD_FILM, HEAD_GATED } ogm_head;

typedef struct ogm_layer {
    ogm_head head;
    const char *x, *y;         /* inputs */
    const char *projection[2]; /* names of outputs */
    const char *unimodal[2];
    bool x_conditions;
    int64_t width_x, width_y, n_classes;
    double alpha;
    mmf_linear_layer fc, fc_x, fc_y, fc_out;
} ogm_layer;

static const mmf_input_schema *pick(mmf_builder *b, const mmf_config *config,
                                    const mmf_schema *inputs, size_t i)
{
    const bool named = mmf_config_count(config, "modalities") == 2;
    const mmf_input_schema *const found =
        named ? mmf_schema_find(inputs, mmf_config_text_at(config, "modalities", i))
              : &inputs->inputs[i];
    if (!found || found->n_dims != 1) {
        mmf_builder_fail(b, MMF_SHAPE, "ogm-ge takes two vectors; %s is %s",
                         found ? found->name : mmf_config_text_at(config, "modalities", i),
                         found ? "none" : "no input");
        return NULL;
    }
    return found;
}

static void build_head(mmf_builder *b, ogm_layer *l, int64_t hidden)
{
    const int64_t k = l->n_classes, condition = l->x_conditions ? l->width_x : l->width_y;
    const int64_t other = l->x_conditions ? l->width_y : l->width_x;
    switch (l->head) {
    case HEAD_SUM:
        l->fc_x = mmf_linear_build(b, "fc_x", l->width_x, k, true);
        l->fc_y = mmf_linear_build(b, "fc_y", l->width_y, k, true);
        break;
    case HEAD_CONCAT:
        l->fc_out = mmf_linear_build(b, "fc_out", l->width_x + l->width_y, k, true);
        break;
    case HEAD_FILM:
        l->fc = mmf_linear_build(b, "fc", condition, 2 * other, true);
        l->fc_out = mmf_linear_build(b, "fc_out", other, k, true);
        break;
    case HEAD_GATED:
        l->fc_x = mmf_linear_build(b, "fc_x", l->width_x, hidden, true);
        l->fc_y = mmf_linear_build(b, "fc_y", l->width_y, hidden, true);
        l->fc_out = mmf_linear_build(b, "fc_out", hidden, k, true);
        break;
    }
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    static const char *const heads[] = {"sum", "concat", "film", "gated"};
    ogm_layer *const l = mmf_builder_alloc(b, sizeof *l);
    if (!l)
        return mmf_builder_status(b);
    if (inputs->count != 2)
        return mmf_builder_fail(b, MMF_SHAPE, "ogm-ge takes two modalities, got %zu",
                                inputs->count);
    const mmf_input_schema *x = pick(b, config, inputs, 0);
    const mmf_input_schema *y = x ? pick(b, config, inputs, 1) : NULL;
    if (!y)
        return mmf_builder_status(b);
    /* The released heads know their inputs by name: fc_x is of audio. */
    if (strcmp(x->name, "vision") == 0 && strcmp(y->name, "audio") == 0) {
        const mmf_input_schema *const vision = x;
        x = y;
        y = vision;
    }
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        if (strcmp(mmf_config_text(config, "fusion"), heads[i]) == 0)
            l->head = (ogm_head)i;
    }
    const char *const condition = mmf_config_text(config, "condition");
    if (*condition && strcmp(condition, x->name) != 0 && strcmp(condition, y->name) != 0)
        return mmf_builder_fail(b, MMF_ARG, "ogm-ge: there is no modality \"%s\" to condition on",
                                condition);
    l->x = x->name;
    l->y = y->name;
    l->x_conditions = !*condition || strcmp(condition, x->name) == 0;
    l->width_x = x->shape[0];
    l->width_y = y->shape[0];
    l->n_classes = mmf_config_int(config, "classes");
    l->alpha = mmf_config_real(config, "alpha");
    for (int i = 0; i < 2; i++) {
        l->unimodal[i] = mmf_builder_text(b, "logit.%s", i ? l->y : l->x);
        l->projection[i] = mmf_builder_text(b, "projection.%s", i ? l->y : l->x);
    }
    build_head(b, l, mmf_config_int(config, "hidden"));
    *self = l;
    return mmf_builder_status(b);
}

/* Logits of each modality, whose sum is the head's. */
static void run_parts(mmf_tape *tape, const ogm_layer *l, mmf_tensor *const in[2],
                      mmf_tensor *parts[2])
{
    if (l->head == HEAD_SUM) {
        parts[0] = mmf_linear_run(tape, &l->fc_x, in[0], MMF_ACT_NONE);
        parts[1] = mmf_linear_run(tape, &l->fc_y, in[1], MMF_ACT_NONE);
        return;
    }
    mmf_tensor *const half = mmf_affine(tape, l->fc_out.bias, 0.5, 0);
    for (int i = 0; i < 2; i++) {
        mmf_tensor *const w =
            mmf_slice(tape, l->fc_out.weight, 1, i ? l->width_x : 0, i ? l->width_y : l->width_x);
        parts[i] = mmf_linear(tape, in[i], w, half, MMF_ACT_NONE);
    }
}

static mmf_tensor *run_film(mmf_tape *tape, const ogm_layer *l, mmf_tensor *condition,
                            mmf_tensor *other)
{
    const int64_t width = l->x_conditions ? l->width_y : l->width_x;
    mmf_tensor *const both = mmf_linear_run(tape, &l->fc, condition, MMF_ACT_NONE);
    mmf_tensor *const gamma = mmf_slice(tape, both, 1, 0, width);
    mmf_tensor *const beta = mmf_slice(tape, both, 1, width, width);
    return mmf_add(tape, mmf_mul(tape, gamma, other), beta);
}

static mmf_tensor *run_gated(mmf_tape *tape, const ogm_layer *l, mmf_tensor *const in[2],
                             mmf_named *out)
{
    mmf_tensor *const x = mmf_linear_run(tape, &l->fc_x, in[0], MMF_ACT_NONE);
    mmf_tensor *const y = mmf_linear_run(tape, &l->fc_y, in[1], MMF_ACT_NONE);
    mmf_named_put(tape, out, l->projection[0], x);
    mmf_named_put(tape, out, l->projection[1], y);
    mmf_tensor *const gate = mmf_sigmoid(tape, l->x_conditions ? x : y);
    return mmf_mul(tape, gate, l->x_conditions ? y : x);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const ogm_layer *const l = self;
    mmf_tensor *const inputs[2] = {mmf_named_get(in, l->x), mmf_named_get(in, l->y)};
    mmf_tensor *const label = mmf_named_get(in, "label");
    if (l->head == HEAD_FILM || l->head == HEAD_GATED) {
        const int c = l->x_conditions ? 0 : 1;
        mmf_tensor *const h = l->head == HEAD_FILM ? run_film(tape, l, inputs[c], inputs[1 - c])
                                                   : run_gated(tape, l, inputs, out);
        mmf_named_put(tape, out, "logit", mmf_linear_run(tape, &l->fc_out, h, MMF_ACT_NONE));
        return;
    }
    mmf_tensor *parts[2] = {NULL, NULL};
    run_parts(tape, l, inputs, parts);
    mmf_named_put(tape, out, "logit", mmf_add(tape, parts[0], parts[1]));
    mmf_named_put(tape, out, l->unimodal[0], parts[0]);
    mmf_named_put(tape, out, l->unimodal[1], parts[1]);
    if (!label)
        return;
    const mmf_ogm ogm = mmf_ogm_balance(tape, parts, 2, label, l->alpha);
    mmf_named_put(tape, out, "score", ogm.score);
    mmf_named_put(tape, out, "ratio", ogm.ratio);
    mmf_named_put(tape, out, "coefficient", ogm.coefficient);
}

const mmf_def mmf_layer_ogm_ge = {
    .name = "ogm-ge",
    .title = "Heads and coefficients of on-the-fly gradient modulation",
    .paper = "Peng, Wei, Deng, Wang, Hu, Balanced multimodal learning via on-the-fly gradient "
             "modulation, CVPR 2022, arXiv:2203.15332",
    .equations = "s_m = sum_i softmax(z_m,i)[y_i], rho_m = s_m / s of the other, k_m = 1 - "
                 "tanh(alpha rho_m) where rho_m > 1, else 1, eq. (8) to (10)",
    .structure = "gating",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_VECTORS | MMF_TWO_ONLY | MMF_CLASSES_OK,
    .options = options,
    .build = build,
    .run = run,
};
