/*
 * lf_dnn.c: sub-network a modality, concatenation, two hidden layers. (The name says late fusion;
 * what is joined are features.)
 *
 * Structure and names of MMSA's LF_DNN (thuiar/MMSA), after Williams et al., ACL 2018 workshop;
 * order audio, vision, text.
 */
#include "models/parts.h"

static const mmf_option options[] = {
    MMF_SUBNET_OPTIONS,
    {"post_fusion_dim", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128", "width of the hidden layers"},
    {0},
};

static const mmf_subnet_widths standard = {{128, 16, 128}, 256, 64};

typedef struct lf_dnn_model {
    mmf_subnets subnets;
    mmf_operator concat;
    mmf_linear_layer layer_1, layer_2, layer_3;
    double dropout;
    bool is_regression;
} lf_dnn_model;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    lf_dnn_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    model->is_regression = mmf_is_regression(config);
    model->dropout = mmf_config_number_at(config, "dropouts", 3);
    model->subnets = mmf_subnets_build(b, config, inputs, &standard, true);
    if (mmf_builder_status(b) == MMF_OK)
        model->concat = mmf_operator_build(b, "", &mmf_fusion_concat, NULL, &model->subnets.inputs,
                                           model->subnets.widths);
    const int64_t p = mmf_config_int(config, "post_fusion_dim");
    model->layer_1 = mmf_linear_build(b, "post_fusion_layer_1", model->concat.width, p, true);
    model->layer_2 = mmf_linear_build(b, "post_fusion_layer_2", p, p, true);
    model->layer_3 = mmf_linear_build(b, "post_fusion_layer_3", p, mmf_n_outputs(config), true);
    *self = model;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const lf_dnn_model *const model = self;
    mmf_subnets_run(tape, &model->subnets, in, step, out);
    mmf_tensor *h = mmf_operator_run(tape, &model->concat, &model->subnets.inputs,
                                     model->subnets.features, in, step, out);
    mmf_named_put(tape, out, "feature_fusion", h);
    h = mmf_dropout(tape, h, model->dropout);
    h = mmf_linear_run(tape, &model->layer_1, h, MMF_ACT_RELU);
    h = mmf_linear_run(tape, &model->layer_2, h, MMF_ACT_RELU);
    h = mmf_linear_run(tape, &model->layer_3, h, MMF_ACT_NONE);
    mmf_put_result(tape, out, model->is_regression, h);
}

const mmf_def mmf_model_lf_dnn = {
    .name = "lf-dnn",
    .title = "Sub-networks, concatenation and a deep head",
    .paper = "Williams et al., DNN multimodal fusion techniques for predicting video sentiment, "
             "ACL 2018 workshop, W18-3309; reference thuiar/MMSA",
    .equations = "y = W3 relu(W2 relu(W1 [z_a ; z_v ; z_t])); z by sub-networks",
    .missing = "a learned vector a modality stands in",
    .timing = "intermediate",
    .structure = "concatenation",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
