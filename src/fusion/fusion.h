/*
 * fusion.h: the registered operators and rules, and what models need to use one.
 *
 * An operator takes one vector (B, D_m) a modality under the modality's name, with `<name>.present`
 * where it may be absent, and puts out `fused`. A model builds it into its own parameters.
 */
#ifndef MMFUSE_FUSION_FUSION_H
#define MMFUSE_FUSION_FUSION_H

#include "mmfuse/nn.h"

/** An operator built into another definition's parameters. */
typedef struct mmf_operator {
    const mmf_def *def;
    void *self;
    int64_t width; /* of `fused` */
} mmf_operator;

#define MMF_FUSION(file, name) extern const mmf_def mmf_fusion_##name;
#include "fusion/fusion.def"
#undef MMF_FUSION

/** All operators and rules in the order of the table. */
const mmf_def *const *mmf_fusion_table(size_t *count);

/**
 * Builds `def` for encoded vectors of the given widths in the scope `name` ("" for none).
 *
 * @param config  of `def`
 * @param inputs  names and presence of the modalities
 */
mmf_operator mmf_operator_build(mmf_builder *builder, const char *name, const mmf_def *def,
                                const mmf_config *config, const mmf_schema *inputs,
                                const int64_t *widths);

/** `fused`; the operator's other outputs are appended to `out`. */
mmf_tensor *mmf_operator_run(mmf_tape *tape, const mmf_operator *op, const mmf_schema *inputs,
                             mmf_tensor *const *features, const mmf_named *in, const mmf_step *step,
                             mmf_named *out);

/**
 * The inputs in the order of option `modalities`, or as they are where it is not set (or `config`
 * NULL). Memory of the builder; NULL after setting its error.
 */
mmf_schema *mmf_operator_order(mmf_builder *builder, const mmf_config *config,
                               const mmf_schema *inputs);
/** The row of that option. */
#define MMF_ORDER_OPTION                                                                           \
    {                                                                                              \
        "modalities", NULL, MMF_OPTION_TEXTS, 0, 0, NULL, "",                                      \
            "order of the modalities; default: that of the inputs"                                 \
    }

/** (B, M) of 0/1, a column a modality; NULL when all are always there. */
mmf_tensor *mmf_presence(mmf_tape *tape, const mmf_schema *inputs, const mmf_named *in);

#endif
