/*
 * weighted_sum.c: fused = sum_m w_m f_m with fixed or learned weights.
 *
 * Vectors of other widths are projected first; a layer norm before the sum makes weights comparable
 * between modalities (without it, scaling f_m by k and w_m by 1/k changes nothing).
 */
#include <math.h>
#include <string.h>

#include "fusion/fusion.h"

typedef enum weighting { FIXED, SCALAR, SOFTMAX, DIMENSION, DIMENSION_SOFTMAX } weighting;

static const mmf_option options[] = {
    {"weighting", NULL, MMF_OPTION_TEXT, 0, 0, "fixed|scalar|softmax|dimension|dimension-softmax",
     "softmax",
     "fixed; one free scalar, or one softmax weight, a modality; or one a modality and dimension"},
    {"weights", NULL, MMF_OPTION_REALS, -1e6, 1e6, NULL, "",
     "for fixed weighting, in the order of the modalities"},
    {"normalise", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "layer norm of each vector before the sum"},
    {0},
};

typedef struct weighted_operator {
    const mmf_schema *inputs;
    weighting kind;
    int64_t width;
    bool normalise;
    mmf_linear_layer *projections; /* weight NULL: the vector has the width already */
    mmf_tensor *weight;            /* (1, M), or (M, width); NULL: `given` */
    mmf_tensor **given;            /* weights that the user fixed, (1) each */
    mmf_tensor **features;
} weighted_operator;

static weighting parse(const char *text)
{
    static const char *const names[] = {"fixed", "scalar", "softmax", "dimension",
                                        "dimension-softmax"};
    weighting kind = FIXED;
    while (strcmp(names[kind], text) != 0)
        kind++;
    return kind;
}

/* A constant each, so that what was given is what a model file holds. */
static mmf_tensor **given_weights(mmf_builder *b, const mmf_config *config,
                                  const weighted_operator *op)
{
    mmf_tensor **const given = mmf_builder_alloc(b, op->inputs->count * sizeof(mmf_tensor *));
    for (size_t m = 0; given && m < op->inputs->count; m++)
        given[m] = mmf_builder_param(
            b, mmf_builder_text(b, "weight.%s", op->inputs->inputs[m].name), MMF_PARAM_FIXED,
            mmf_init_constant(mmf_config_number_at(config, "weights", m)), 1, (int64_t[]){1});
    return given;
}

static void declare_weight(mmf_builder *b, const mmf_config *config, weighted_operator *op)
{
    const int64_t n = (int64_t)op->inputs->count;
    const bool wide = op->kind >= DIMENSION;
    const bool is_logit = op->kind == SOFTMAX || op->kind == DIMENSION_SOFTMAX;
    const int64_t shape[] = {wide ? n : 1, wide ? op->width : n};
    const size_t n_given = mmf_config_count(config, "weights");
    if (n_given > 0 && (op->kind != FIXED || n_given != op->inputs->count))
        mmf_builder_fail(b, MMF_ARG,
                         "weighted: %zu weights for %zu modalities, weighting %s; weights are for "
                         "weighting=fixed, one a modality",
                         n_given, op->inputs->count, mmf_config_text(config, "weighting"));
    if (op->kind == FIXED && n_given == op->inputs->count) {
        op->given = given_weights(b, config, op);
        return;
    }
    /* Every kind starts at the mean: free weights at 1/M, logits at 0. */
    op->weight = mmf_builder_param(b, is_logit ? "alpha" : "weights",
                                   op->kind == FIXED ? MMF_PARAM_FIXED : MMF_PARAM_TRAINED,
                                   mmf_init_constant(is_logit ? 0 : 1.0 / (double)n), 2, shape);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    weighted_operator *const op = mmf_builder_alloc(b, sizeof *op);
    mmf_schema *const schema = mmf_builder_alloc(b, sizeof *schema);
    if (!op || !schema)
        return mmf_builder_status(b);
    *schema = *inputs;
    op->inputs = schema;
    op->kind = parse(mmf_config_text(config, "weighting"));
    op->normalise = mmf_config_bool(config, "normalise");
    op->projections = mmf_builder_alloc(b, inputs->count * sizeof *op->projections);
    op->features = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    for (size_t m = 0; m < inputs->count; m++)
        op->width = inputs->inputs[m].shape[0] > op->width ? inputs->inputs[m].shape[0] : op->width;
    for (size_t m = 0; op->projections && m < inputs->count; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        if (in->shape[0] != op->width)
            op->projections[m] = mmf_linear_build(b, mmf_builder_text(b, "%s_projection", in->name),
                                                  in->shape[0], op->width, true);
    }
    declare_weight(b, config, op);
    mmf_builder_set_width(b, op->width);
    *self = op;
    return mmf_builder_status(b);
}

static mmf_tensor *free_weights(mmf_tape *tape, const weighted_operator *op)
{
    if (!op->given)
        return op->weight;
    return mmf_reshape(tape, mmf_concat(tape, op->given, (int)op->inputs->count, 0), 2,
                       (int64_t[]){1, -1});
}

/* (B, M) weights for every sample, or (1, M) when nothing is ever absent. */
static mmf_tensor *modality_weights(mmf_tape *tape, const weighted_operator *op,
                                    mmf_tensor *present)
{
    if (op->kind == SOFTMAX) {
        mmf_tensor *const scores =
            present ? mmf_expand(tape, op->weight, 2, present->shape) : op->weight;
        return mmf_softmax(tape, scores, present, MMF_EMPTY_UNIFORM);
    }
    mmf_tensor *const weight = free_weights(tape, op);
    if (!present)
        return weight;
    /* Free weights of the present modalities are scaled up by M / number present. */
    mmf_tensor *const count = mmf_clamp(tape, mmf_mean(tape, present, 1), 1e-6, INFINITY);
    mmf_tensor *const share =
        mmf_div(tape, present, mmf_reshape(tape, count, 2, (int64_t[]){-1, 1}));
    return mmf_mul(tape, share, weight);
}

/* (M, D) or (B, M, D) weights. */
static mmf_tensor *dimension_weights(mmf_tape *tape, const weighted_operator *op,
                                     mmf_tensor *present)
{
    mmf_tensor *w = op->weight;
    if (op->kind == DIMENSION_SOFTMAX)
        w = mmf_transpose(
            tape, mmf_softmax(tape, mmf_transpose(tape, w, 0, 1), NULL, MMF_EMPTY_ZERO), 0, 1);
    if (!present)
        return w;
    mmf_tensor *const mask =
        mmf_reshape(tape, present, 3, (int64_t[]){-1, (int64_t)op->inputs->count, 1});
    mmf_tensor *const kept = mmf_mul(tape, mask, w);
    mmf_tensor *total =
        op->kind == DIMENSION_SOFTMAX ? mmf_sum(tape, kept, 1) : mmf_mean(tape, mask, 1);
    total = total ? mmf_reshape(tape, total, 3, (int64_t[]){-1, 1, total->shape[1]}) : NULL;
    return mmf_div(tape, kept, mmf_clamp(tape, total, 1e-6, INFINITY));
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const weighted_operator *const op = self;
    for (size_t m = 0; m < op->inputs->count; m++) {
        mmf_tensor *f = mmf_named_get(in, op->inputs->inputs[m].name);
        if (op->projections[m].weight)
            f = mmf_linear_run(tape, &op->projections[m], f, MMF_ACT_NONE);
        op->features[m] = op->normalise ? mmf_layer_norm(tape, f, NULL, NULL, 1e-5) : f;
    }
    mmf_tensor *const stack =
        mmf_stack(tape, op->features, (int)op->inputs->count, 1); /* (B, M, D) */
    mmf_tensor *const present = mmf_presence(tape, op->inputs, in);
    mmf_tensor *fused = NULL, *weights = NULL;
    const bool wide = op->kind >= DIMENSION;
    if (wide) {
        weights = dimension_weights(tape, op, present);
        fused = mmf_sum(tape, mmf_mul(tape, stack, weights), 1);
    } else {
        weights = modality_weights(tape, op, present);
        mmf_tensor *const rows =
            present ? mmf_reshape(tape, weights, 3, (int64_t[]){-1, 1, (int64_t)op->inputs->count})
                    : weights;
        fused = mmf_reshape(tape, mmf_matmul(tape, rows, stack, false, false), 2,
                            (int64_t[]){-1, op->width});
    }
    mmf_named_put(tape, out, "fusion_weights", weights);
    mmf_named_axes(out, present ? (wide ? "BMD" : "BM") : wide ? "MD" : "1M");
    mmf_named_put(tape, out, "fused", fused);
}

const mmf_def mmf_fusion_weighted_sum = {
    .name = "weighted-sum",
    .title = "Learned weighted sum of encodings",
    .paper = "Baltrusaitis, Ahuja, Morency, Multimodal machine learning: a survey and taxonomy, "
             "TPAMI 2019",
    .equations = "f = sum_m w_m f_m; w fixed, free, softmax(alpha), or one a dimension",
    .missing = "weights of absent modalities are zero and the others are renormalised",
    .timing = "intermediate",
    .structure = "weighted",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK,
    .options = options,
    .build = build,
    .run = run,
};
