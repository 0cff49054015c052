/* concat.c: fused = [f_1 ; ... ; f_M]. */
#include "fusion/fusion.h"

typedef struct concat_operator {
    const mmf_schema *inputs;
    mmf_tensor **features;
} concat_operator;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    (void)config;
    concat_operator *const op = mmf_builder_alloc(b, sizeof *op);
    mmf_schema *const schema = mmf_builder_alloc(b, sizeof *schema);
    if (!op || !schema)
        return mmf_builder_status(b);
    *schema = *inputs;
    op->inputs = schema;
    op->features = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    int64_t width = 0;
    for (size_t m = 0; m < inputs->count; m++)
        width += inputs->inputs[m].shape[0];
    mmf_builder_set_width(b, width);
    *self = op;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const concat_operator *const op = self;
    for (size_t m = 0; m < op->inputs->count; m++)
        op->features[m] = mmf_named_get(in, op->inputs->inputs[m].name);
    mmf_named_put(tape, out, "fused", mmf_concat(tape, op->features, (int)op->inputs->count, -1));
}

const mmf_def mmf_fusion_concat = {
    .name = "concat",
    .title = "Concatenation of encodings",
    .paper = "Baltrusaitis, Ahuja, Morency, Multimodal machine learning: a survey and taxonomy, "
             "TPAMI 2019",
    .equations = "f = [f_1 ; ... ; f_M]",
    .missing = "a learned vector a modality stands in",
    .timing = "intermediate",
    .structure = "concatenation",
    .kind = MMF_KIND_OPERATOR,
    .takes = MMF_TAKES_VECTORS | MMF_MISSING_OK | MMF_STANDS_IN,
    .build = build,
    .run = run,
};
