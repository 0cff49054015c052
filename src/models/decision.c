/*
 * decision.c: models whose operator ends in a decision: one encoder a modality, and an operator
 * that puts out logits or probabilities itself and, in training, the whole loss.
 *
 * A row below is all that such a model needs, as in joint.c.
 */
#include <stdio.h>

#include "base/context.h"
#include "models/parts.h"

static const mmf_option options[] = {
    {"width", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128", "of encodings"},
    MMF_DROPOUT_OPTION,
    MMF_ENCODER_OPTION,
    {0},
};

typedef struct decision_model {
    mmf_encoders encoders;
    mmf_operator fusion;
    const char *result; /* "logits" or "probability" */
} decision_model;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    const mmf_def *const operator= mmf_config_def(config)->fuses;
    decision_model *const model = mmf_builder_alloc(b, sizeof *model);
    mmf_config *own = NULL;
    if (!model || mmf_config_create(mmf_builder_ctx(b), &own, operator) != MMF_OK)
        return MMF_NOMEM;
    char classes[32];
    mmf_status status = mmf_config_share(own, config);
    snprintf(classes, sizeof classes, "%lld", (long long)mmf_n_outputs(config));
    if (status == MMF_OK)
        status = mmf_config_set(own, "classes", classes);
    if (status != MMF_OK)
        mmf_builder_fail(b, status, "%s: %s", operator->name, mmf_ctx_error(mmf_builder_ctx(b)));
    model->result = operator== & mmf_fusion_tmc ? "probability" : "logits";
    model->encoders =
        mmf_encoders_build_wide(b, config, inputs, mmf_config_int(config, "width"), false);
    if (mmf_builder_status(b) == MMF_OK)
        model->fusion =
            mmf_operator_build(b, "fusion", operator, own, inputs, model->encoders.widths);
    mmf_config_free(own);
    *self = model;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const decision_model *const model = self;
    mmf_encoders_run(tape, &model->encoders, in, step, out);
    mmf_tensor *const fused = mmf_operator_run(tape, &model->fusion, model->encoders.inputs,
                                               model->encoders.features, in, step, out);
    mmf_named_put(tape, out, model->result, fused);
}

#define DECISION(id, text)                                                                         \
    const mmf_def mmf_model_##id = {                                                               \
        .name = text,                                                                              \
        .fuses = &mmf_fusion_##id,                                                                 \
        .timing = "late",                                                                          \
        .structure = "dynamic",                                                                    \
        .kind = MMF_KIND_MODEL,                                                                    \
        .takes = MMF_TAKES_ANY | MMF_MISSING_OK | MMF_CLASSES_OK | MMF_ONE_CLASS,                  \
        .options = options,                                                                        \
        .build = build,                                                                            \
        .run = run,                                                                                \
    }

DECISION(qmf, "qmf");
DECISION(tmc, "tmc");
