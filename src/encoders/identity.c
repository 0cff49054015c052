/* identity.c: a vector as it is; a sequence as its mean over valid steps; anything else flattened.
 */
#include "mmfuse/nn.h"

static const mmf_option options[] = {
    {"width", NULL, MMF_OPTION_INT, 1, 1e9, NULL, "1", "not used: the width is the input's"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0", "on the feature"},
    {0},
};

typedef struct identity_encoder {
    const char *input;
    mmf_modality_kind kind;
    double dropout;
} identity_encoder;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    identity_encoder *const e = mmf_builder_alloc(b, sizeof *e);
    if (!e)
        return mmf_builder_status(b);
    const mmf_input_schema *const in = &inputs->inputs[0];
    *e = (identity_encoder){in->name, in->kind, mmf_config_real(config, "dropout")};
    int64_t width = 1;
    for (int d = in->kind == MMF_SEQUENCE ? 1 : 0; d < in->n_dims; d++)
        width *= in->shape[d];
    mmf_builder_set_width(b, width);
    *self = e;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const identity_encoder *const e = self;
    mmf_tensor *x = mmf_named_get(in, e->input);
    if (e->kind == MMF_SEQUENCE)
        x = mmf_masked_mean(tape, x, mmf_named_part(in, e->input, "length"));
    else if (e->kind == MMF_IMAGE && x)
        x = mmf_reshape(tape, x, 2, (int64_t[]){x->shape[0], -1});
    mmf_named_put(tape, out, "feature", mmf_dropout(tape, x, e->dropout));
}

const mmf_def mmf_encoder_identity = {
    .name = "identity",
    .title = "Input as it is",
    .equations = "vector: x; sequence: mean over valid steps; image: flattened",
    .kind = MMF_KIND_ENCODER,
    .takes = MMF_TAKES_VECTORS | MMF_TAKES_SEQUENCES | MMF_TAKES_IMAGES,
    .options = options,
    .build = build,
    .run = run,
};
