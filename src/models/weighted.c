/* weighted.c: a learned weighted sum of encodings, then a head. */
#include "models/parts.h"

static const mmf_option options[] = {
    {"weighting", NULL, MMF_OPTION_TEXT, 0, 0, "scalar|softmax|dimension|dimension-softmax",
     "softmax",
     "one free scalar, or one softmax weight, a modality; or one a modality and dimension"},
    {"normalise", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true", "layer norm before the sum"},
    MMF_HIDDEN_OPTION,
    MMF_DROPOUT_OPTION,
    MMF_ENCODER_OPTION,
    {0},
};

typedef struct weighted_model {
    mmf_encoders encoders;
    mmf_operator sum;
    mmf_head head;
} weighted_model;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    weighted_model *const model = mmf_builder_alloc(b, sizeof *model);
    mmf_config *sum = NULL;
    if (!model || mmf_config_create(mmf_builder_ctx(b), &sum, &mmf_fusion_weighted_sum) != MMF_OK)
        return MMF_NOMEM;
    mmf_config_set(sum, "weighting", mmf_config_text(config, "weighting"));
    mmf_config_set(sum, "normalise", mmf_config_bool(config, "normalise") ? "true" : "false");
    /* The sum moves the weights of absent modalities to the others: nothing has to stand in. */
    model->encoders = mmf_encoders_build(b, config, inputs, false);
    if (mmf_builder_status(b) == MMF_OK)
        model->sum = mmf_operator_build(b, "fusion", &mmf_fusion_weighted_sum, sum, inputs,
                                        model->encoders.widths);
    if (mmf_builder_status(b) == MMF_OK)
        model->head = mmf_head_build(b, config, model->sum.width);
    mmf_config_free(sum);
    *self = model;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const weighted_model *const model = self;
    mmf_encoders_run(tape, &model->encoders, in, step, out);
    mmf_tensor *const fused = mmf_operator_run(tape, &model->sum, model->encoders.inputs,
                                               model->encoders.features, in, step, out);
    mmf_head_run(tape, &model->head, fused, out);
}

const mmf_def mmf_model_weighted = {
    .name = "weighted",
    .title = "Learned weighted sum of encodings",
    .paper = "Baltrusaitis, Ahuja, Morency, Multimodal machine learning: a survey and taxonomy, "
             "TPAMI 2019, doi:10.1109/TPAMI.2018.2798607",
    .equations = "y = head(sum_m w_m LN(f_m)); w = softmax(alpha), free, or one a dimension",
    .missing = "the weight of an absent modality is zero and the others are renormalised",
    .timing = "intermediate",
    .structure = "weighted",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
