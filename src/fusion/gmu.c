/*
 * gmu.c: gated multimodal unit: each modality's hidden vector is let through by a gate that sees
 * all of them.
 *
 * Arevalo, Solorio, Montes-y-Gomez, Gonzalez, Gated multimodal units for information fusion, ICLR
 * 2017 workshop. `form` paper is section 3.1, of which the tied form for two modalities is the
 * special case z_2 = 1 - z_1. `form` released is the authors' code: batch norm and a projection
 * before the unit, a gate that sees the projections, and on request (`classes`) the maxout
 * classifier behind it. The released gate is tied for two modalities; ours goes on to any number.
 */
#include <string.h>

#include "fusion/fusion.h"

static const mmf_option options[] = {
    MMF_ORDER_OPTION,
    {"hidden", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128",
     "width of the fused vector; models: of encodings and of the head too"},
    {"form", NULL, MMF_OPTION_TEXT, 0, 0, "paper|released", "paper",
     "gate over the inputs, or over their normalised projections as in the authors' code"},
    {"tied", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "two modalities share one gate, z and 1 - z; more than two always have one each"},
    {"bias", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false", "add biases to projections and gates"},
    {"bn_eps", NULL, MMF_OPTION_REAL, 1e-12, 1, NULL, "1e-4", "released form: batch norm's eps"},
    {"pieces", NULL, MMF_OPTION_INT, 1, 64, NULL, "2",
     "released form: pieces of the classifier's maxout layers"},
    {"classes", NULL, MMF_OPTION_INT, 0, 1000000, NULL, "0",
     "released form: outputs of the unit's own maxout classifier; 0: it has none"},
    {0},
};

/* x W + b in row layout. */
typedef struct rows_layer {
    mmf_tensor *weight, *bias; /* (D, O), (O) or NULL */
} rows_layer;

typedef struct gmu_operator {
    const mmf_schema *inputs; /* in the order of concatenation */
    bool tied, released, with_classifier;
    int64_t width, pieces;
    rows_layer *project, *gate;
    mmf_batch_norm_layer *norms; /* released: of the inputs */
    mmf_batch_norm_layer bn1, bn2, bnl;
    rows_layer linear1, linear2, linear;
    mmf_tensor **x, **u; /* vectors that the gate sees; projections */
} gmu_operator;

static rows_layer declare(mmf_builder *b, const char *weight, const char *bias, int64_t inputs,
                          int64_t outputs)
{
    rows_layer layer = {0};
    layer.weight = mmf_builder_param(b, weight, MMF_PARAM_TRAINED, mmf_init_fan_in(inputs), 2,
                                     (int64_t[]){inputs, outputs});
    if (bias)
        layer.bias =
            mmf_builder_param(b, bias, MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &outputs);
    return layer;
}

static mmf_tensor *apply(mmf_tape *tape, const rows_layer *layer, mmf_tensor *x)
{
    mmf_tensor *const y = mmf_matmul(tape, x, layer->weight, false, false);
    return layer->bias ? mmf_add(tape, y, layer->bias) : y;
}

/* ---- The paper's form -------------------------------------------------------------------- */

static void build_paper(mmf_builder *b, gmu_operator *op, bool bias)
{
    int64_t total = 0;
    for (size_t m = 0; m < op->inputs->count; m++)
        total += op->inputs->inputs[m].shape[0];
    for (size_t m = 0; m < op->inputs->count; m++) {
        const mmf_input_schema *const in = &op->inputs->inputs[m];
        op->project[m] =
            declare(b, mmf_builder_text(b, "W_%s", in->name),
                    bias ? mmf_builder_text(b, "b_%s", in->name) : NULL, in->shape[0], op->width);
    }
    for (size_t m = 0; m < (op->tied ? 1 : op->inputs->count); m++) {
        const char *const name = op->inputs->inputs[m].name;
        op->gate[m] = declare(b, op->tied ? "Y" : mmf_builder_text(b, "Y_%s", name),
                              !bias      ? NULL
                              : op->tied ? "c"
                                         : mmf_builder_text(b, "c_%s", name),
                              total, op->width);
    }
}

/* ---- The released form ------------------------------------------------------------------- */

static mmf_batch_norm_layer norm(mmf_builder *b, const mmf_config *config, const char *name,
                                 int64_t width)
{
    mmf_batch_norm_layer layer = mmf_batch_norm_build(b, name, width, 1);
    layer.eps = mmf_config_real(config, "bn_eps");
    return layer;
}

static rows_layer linear(mmf_builder *b, const char *name, int64_t inputs, int64_t outputs,
                         bool bias)
{
    mmf_builder_enter(b, name);
    const rows_layer layer = declare(b, "W", bias ? "b" : NULL, inputs, outputs);
    mmf_builder_leave(b);
    return layer;
}

static const char *tower_name(mmf_builder *b, const char *modality)
{
    if (strcmp(modality, "vision") == 0)
        return "visual_mlp";
    return strcmp(modality, "text") == 0 ? "textual_mlp" : mmf_builder_text(b, "%s_mlp", modality);
}

static void build_released(mmf_builder *b, const mmf_config *config, gmu_operator *op)
{
    const bool bias = mmf_config_bool(config, "bias");
    const int64_t h = op->width, n = (int64_t)op->inputs->count;
    const int64_t classes = mmf_config_int(config, "classes");
    op->with_classifier = classes > 0;
    for (size_t m = 0; m < op->inputs->count; m++) {
        const mmf_input_schema *const in = &op->inputs->inputs[m];
        mmf_builder_enter(b, tower_name(b, in->name));
        op->norms[m] = norm(b, config, "batchnormalization", in->shape[0]);
        op->project[m] = linear(b, "linear", in->shape[0], h, bias);
        mmf_builder_leave(b);
    }
    mmf_builder_enter(b, "gbu");
    for (size_t m = 0; m < (op->tied ? 1 : op->inputs->count); m++) {
        const char *const name =
            op->tied ? "input_to_gate"
                     : mmf_builder_text(b, "input_to_gate_%s", op->inputs->inputs[m].name);
        op->gate[m] =
            declare(b, name, bias ? mmf_builder_text(b, "%s_bias", name) : NULL, n * h, h);
    }
    mmf_builder_leave(b);
    if (!op->with_classifier)
        return;
    mmf_builder_enter(b, "logistic_mlp");
    op->bn1 = norm(b, config, "bn1", h);
    op->linear1 = linear(b, "linear1", h, op->pieces * h, false);
    op->bn2 = norm(b, config, "bn2", h);
    op->linear2 = linear(b, "linear2", h, op->pieces * h, false);
    op->bnl = norm(b, config, "bnl", h);
    op->linear = linear(b, "linear", h, classes, false);
    mmf_builder_leave(b);
}

/* The largest of `pieces` neighbours: Goodfellow et al., ICML 2013. */
static mmf_tensor *maxout(mmf_tape *tape, const gmu_operator *op, const rows_layer *layer,
                          mmf_tensor *x)
{
    mmf_tensor *const y = apply(tape, layer, x);
    return mmf_max(tape, mmf_reshape(tape, y, 3, (int64_t[]){-1, op->width, op->pieces}), -1);
}

static void classify(mmf_tape *tape, const gmu_operator *op, mmf_tensor *h, mmf_named *out)
{
    h = maxout(tape, op, &op->linear1, mmf_batch_norm_run(tape, &op->bn1, h));
    h = maxout(tape, op, &op->linear2, mmf_batch_norm_run(tape, &op->bn2, h));
    mmf_tensor *const logit = apply(tape, &op->linear, mmf_batch_norm_run(tape, &op->bnl, h));
    mmf_named_put(tape, out, "logit", logit);
    mmf_named_put(tape, out, "probability", mmf_sigmoid(tape, logit));
}

/* ---- The unit ---------------------------------------------------------------------------- */

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    gmu_operator *const op = mmf_builder_alloc(b, sizeof *op);
    if (!op)
        return mmf_builder_status(b);
    op->inputs = mmf_operator_order(b, config, inputs);
    op->width = mmf_config_int(config, "hidden");
    op->pieces = mmf_config_int(config, "pieces");
    op->released = strcmp(mmf_config_text(config, "form"), "released") == 0;
    op->tied = mmf_config_bool(config, "tied") && inputs->count == 2;
    op->project = mmf_builder_alloc(b, inputs->count * sizeof *op->project);
    op->gate = mmf_builder_alloc(b, inputs->count * sizeof *op->gate);
    op->norms = mmf_builder_alloc(b, inputs->count * sizeof *op->norms);
    op->x = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    op->u = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    if (op->released)
        build_released(b, config, op);
    else
        build_paper(b, op, mmf_config_bool(config, "bias"));
    mmf_builder_set_width(b, op->width);
    *self = op;
    return mmf_builder_status(b);
}

/* h = z * h_1 + (1 - z) * h_2, or h = sum_m z_m * h_m. */
static mmf_tensor *gated_sum(mmf_tape *tape, const gmu_operator *op, mmf_tensor *seen,
                             mmf_named *out)
{
    mmf_tensor *sum = NULL, *z = NULL;
    for (size_t m = 0; m < op->inputs->count; m++) {
        if (op->tied && m == 1) {
            z = mmf_affine(tape, z, -1, 1);
        } else {
            z = mmf_sigmoid(tape, apply(tape, &op->gate[m], seen));
            if (op->tied)
                mmf_named_put(tape, out, "gate", z);
            else
                mmf_named_putf(tape, out, z, "gate.%s", op->inputs->inputs[m].name);
            mmf_named_axes(out, "BD");
        }
        mmf_tensor *const part = mmf_mul(tape, z, mmf_tanh(tape, op->u[m]));
        sum = m == 0 ? part : mmf_add(tape, sum, part);
    }
    return sum;
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const gmu_operator *const op = self;
    for (size_t m = 0; m < op->inputs->count; m++) {
        op->x[m] = mmf_named_get(in, op->inputs->inputs[m].name);
        if (op->released)
            op->x[m] = mmf_batch_norm_run(tape, &op->norms[m], op->x[m]);
        op->u[m] = apply(tape, &op->project[m], op->x[m]);
    }
    mmf_tensor *const seen =
        mmf_concat(tape, op->released ? op->u : op->x, (int)op->inputs->count, -1);
    mmf_tensor *const h = gated_sum(tape, op, seen, out);
    mmf_named_put(tape, out, op->released ? "hidden" : "output", h);
    if (op->with_classifier)
        classify(tape, op, h, out);
    mmf_named_put(tape, out, "fused", h);
}

const mmf_def mmf_fusion_gmu = {
    .name = "gmu",
    .title = "Gated multimodal unit",
    .paper = "Arevalo, Solorio, Montes-y-Gomez, Gonzalez, Gated multimodal units for information "
             "fusion, ICLR 2017 workshop, arXiv:1702.01992",
    .equations =
        "h_m = tanh(x_m W_m), z_m = sigmoid([x_1; ...; x_M] Y_m), f = sum_m z_m * h_m; two "
        "modalities: z_2 = 1 - z_1",
    .missing = "a learned vector a modality stands in, which the gates see",
    .timing = "intermediate",
    .structure = "gating",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK | MMF_STANDS_IN,
    .options = options,
    .build = build,
    .run = run,
};
