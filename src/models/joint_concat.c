/* joint_concat.c: encodings side by side, then a head: the usual strong baseline. */
#include "models/parts.h"

static const mmf_option options[] = {
    MMF_HIDDEN_OPTION,
    MMF_DROPOUT_OPTION,
    MMF_ENCODER_OPTION,
    {0},
};

typedef struct joint_model {
    mmf_encoders encoders;
    mmf_operator concat;
    mmf_head head;
} joint_model;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    joint_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    model->encoders = mmf_encoders_build(b, config, inputs, true);
    if (mmf_builder_status(b) == MMF_OK)
        model->concat =
            mmf_operator_build(b, "", &mmf_fusion_concat, NULL, inputs, model->encoders.widths);
    if (mmf_builder_status(b) == MMF_OK)
        model->head = mmf_head_build(b, config, model->concat.width);
    *self = model;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const joint_model *const model = self;
    mmf_encoders_run(tape, &model->encoders, in, step, out);
    mmf_tensor *const fused = mmf_operator_run(tape, &model->concat, model->encoders.inputs,
                                               model->encoders.features, in, step, out);
    mmf_head_run(tape, &model->head, fused, out);
}

const mmf_def mmf_model_joint_concat = {
    .name = "joint-concat",
    .title = "Concatenation of encodings",
    .paper = "Baltrusaitis, Ahuja, Morency, Multimodal machine learning: a survey and taxonomy, "
             "TPAMI 2019, doi:10.1109/TPAMI.2018.2798607",
    .equations = "y = head([f_1 ; ... ; f_M]), f_m = encode_m(x_m)",
    .missing = "a learned vector a modality stands in",
    .timing = "intermediate",
    .structure = "concatenation",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
