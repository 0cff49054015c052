/*
 * joint.c: models that are one encoder a modality, one operator and a head.
 *
 * A row below is all that such a model needs: its options are those of its operator and of the
 * encoders; paper, equations and what an absent modality does stand in the operator's definition.
 */
#include <stdlib.h>

#include "base/context.h"
#include "models/parts.h"

static const mmf_option options[] = {
    MMF_HIDDEN_OPTION,
    MMF_DROPOUT_OPTION,
    MMF_ENCODER_OPTION,
    {0},
};

/* For operators whose own `hidden` is that width too. */
static const mmf_option without_hidden[] = {
    MMF_DROPOUT_OPTION,
    MMF_ENCODER_OPTION,
    {0},
};

typedef struct joint_model {
    mmf_encoders encoders;
    mmf_operator fusion;
    mmf_head head;
} joint_model;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    const mmf_def *const operator= mmf_config_def(config)->fuses;
    joint_model *const model = mmf_builder_alloc(b, sizeof *model);
    mmf_config *own = NULL;
    if (!model || mmf_config_create(mmf_builder_ctx(b), &own, operator) != MMF_OK)
        return MMF_NOMEM;
    mmf_status status = mmf_config_share(own, config);
    if (status != MMF_OK)
        mmf_builder_fail(b, status, "%s: %s", operator->name, mmf_ctx_error(mmf_builder_ctx(b)));
    /* An operator that knows what to do without a modality is given zeros in its place. */
    model->encoders = mmf_encoders_build(b, config, inputs, operator->takes & MMF_STANDS_IN);
    if (mmf_builder_status(b) == MMF_OK)
        model->fusion =
            mmf_operator_build(b, "fusion", operator, own, inputs, model->encoders.widths);
    if (mmf_builder_status(b) == MMF_OK)
        model->head = mmf_head_build(b, config, model->fusion.width);
    mmf_config_free(own);
    mmf_encoders_set_width(b, &model->encoders);
    *self = model;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const joint_model *const model = self;
    mmf_encoders_run(tape, &model->encoders, in, step, out);
    mmf_tensor *const fused = mmf_operator_run(tape, &model->fusion, model->encoders.inputs,
                                               model->encoders.features, in, step, out);
    mmf_head_run(tape, &model->head, fused, out);
}

#define ANY (MMF_TAKES_ANY | MMF_MISSING_OK | MMF_ANY_TASK | MMF_COMMON_WIDTH)
#define TWO (ANY | MMF_TWO_ONLY)

#define JOINT_OF(id, operator, text, kind_of_structure, flags, rows)                               \
    const mmf_def mmf_model_##id = {                                                               \
        .name = text,                                                                              \
        .fuses = &mmf_fusion_##operator,                                                           \
        .timing = "intermediate",                                                                  \
        .structure = kind_of_structure,                                                            \
        .kind = MMF_KIND_MODEL,                                                                    \
        .takes = flags,                                                                            \
        .options = rows,                                                                           \
        .build = build,                                                                            \
        .run = run,                                                                                \
    }
#define JOINT(id, operator, text, kind_of_structure, flags)                                        \
    JOINT_OF(id, operator, text, kind_of_structure, flags, options)

JOINT(joint_concat, concat, "joint-concat", "concatenation", ANY);
JOINT(weighted, weighted_sum, "weighted", "weighted", ANY);
JOINT(mlb, mlb, "mlb", "tensor", TWO);
JOINT(mfb, mfb, "mfb", "tensor", TWO);
JOINT(mfh, mfh, "mfh", "tensor", TWO);
JOINT(mutan, mutan, "mutan", "tensor", TWO);
JOINT(tucker, tucker, "tucker", "tensor", TWO);
JOINT(block, block, "block", "tensor", TWO);
JOINT(block_tucker, block_tucker, "block-tucker", "tensor", TWO);
JOINT(mcb, mcb, "mcb", "tensor", TWO);
JOINT(multiplicative_interactions, multiplicative_interactions, "multiplicative-interactions",
      "tensor", TWO);
JOINT_OF(gmu, gmu, "gmu", "gating", ANY, without_hidden);
JOINT(film, film, "film", "gating", TWO);
JOINT(mmtm, mmtm, "mmtm", "gating", ANY);
JOINT(moe, moe, "moe", "dynamic", ANY);
JOINT(product_of_experts, product_of_experts, "product-of-experts", "weighted", ANY);
