/*
 * tfn.c: tensor fusion network.
 *
 * Zadeh, Chen, Poria, Cambria, Morency, EMNLP 2017: z_m by sub-networks (section 4.1), tensor
 * fusion eq. (2), inference sub-network (section 4.3). Names, order (audio slowest, text fastest)
 * and the bounded regression output are those of the authors' code.
 */
#include "models/parts.h"

#include <math.h>

/* Width of the product that default widths stay under; the papers' own (140,481 for MOSI) are to be
 * asked for: hidden_dims=128,32,128. */
#define DEFAULT_PRODUCT 32768

static const mmf_option options[] = {
    MMF_SUBNET_OPTIONS,
    {"post_fusion_dim", NULL, MMF_OPTION_INT, 1, 8192, NULL, "64", "width of the hidden layers"},
    {"output_range", NULL, MMF_OPTION_REAL, 0, 1e9, NULL, "6",
     "regression lies between output_shift and output_shift + output_range"},
    {"output_shift", NULL, MMF_OPTION_REAL, -1e9, 1e9, NULL, "-3", "lower end of the regression"},
    {0},
};

typedef struct tfn_model {
    mmf_subnets subnets;
    mmf_operator product;
    mmf_linear_layer layer_1, layer_2, layer_3;
    mmf_tensor *output_range, *output_shift; /* (1), used for regression */
    double dropout;
    bool is_regression;
} tfn_model;

/* 33 x 33 x 30 for the papers' three modalities; for others the widest sub-networks whose product
 * stays in bounds, at most the papers' 32. */
static int64_t other_width(size_t n_modalities)
{
    const double root = pow(DEFAULT_PRODUCT, 1 / (double)n_modalities);
    const int64_t width = (int64_t)floor(root + 1e-9) - 1;
    return width < 1 ? 1 : (width > 32 ? 32 : width);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    tfn_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    const mmf_init range = mmf_init_constant(mmf_config_real(config, "output_range"));
    const mmf_init shift = mmf_init_constant(mmf_config_real(config, "output_shift"));
    const int64_t one = 1;
    model->is_regression = mmf_is_regression(config);
    model->output_range = mmf_builder_param(b, "output_range", MMF_PARAM_FIXED, range, 1, &one);
    model->output_shift = mmf_builder_param(b, "output_shift", MMF_PARAM_FIXED, shift, 1, &one);
    const mmf_subnet_widths widths = {{128, 32, 32}, 29, other_width(inputs->count)};
    model->dropout = mmf_config_number_at(config, "dropouts", 3);
    model->subnets = mmf_subnets_build(b, config, inputs, &widths, false);
    if (mmf_builder_status(b) == MMF_OK)
        model->product = mmf_operator_build(b, "", &mmf_fusion_tensor_product, NULL,
                                            &model->subnets.inputs, model->subnets.widths);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    const int64_t p = mmf_config_int(config, "post_fusion_dim");
    model->layer_1 = mmf_linear_build(b, "post_fusion_layer_1", model->product.width, p, true);
    model->layer_2 = mmf_linear_build(b, "post_fusion_layer_2", p, p, true);
    model->layer_3 = mmf_linear_build(b, "post_fusion_layer_3", p, mmf_n_outputs(config), true);
    *self = model;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const tfn_model *const model = self;
    mmf_subnets_run(tape, &model->subnets, in, step, out);
    mmf_tensor *h = mmf_operator_run(tape, &model->product, &model->subnets.inputs,
                                     model->subnets.features, in, step, out);
    mmf_named_put(tape, out, "feature_fusion", h);
    h = mmf_dropout(tape, h, model->dropout);
    h = mmf_linear_run(tape, &model->layer_1, h, MMF_ACT_RELU);
    h = mmf_linear_run(tape, &model->layer_2, h, MMF_ACT_RELU);
    h = mmf_linear_run(tape, &model->layer_3, h, MMF_ACT_NONE);
    if (model->is_regression) {
        h = mmf_mul(tape, mmf_sigmoid(tape, h), model->output_range);
        h = mmf_add(tape, h, model->output_shift);
    }
    mmf_put_result(tape, out, model->is_regression, h);
}

const mmf_def mmf_model_tfn = {
    .name = "tfn",
    .title = "Tensor fusion network",
    .paper = "Zadeh, Chen, Poria, Cambria, Morency, Tensor fusion network for multimodal sentiment "
             "analysis, EMNLP 2017, arXiv:1707.07250",
    .equations = "y = W3 relu(W2 relu(W1 vec([1;z_1] x ... x [1;z_M]))); regression: range "
                 "sigmoid(y) + shift",
    .missing = "only the prepended 1 of an absent modality remains: the product over the others",
    .timing = "intermediate",
    .structure = "tensor",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
