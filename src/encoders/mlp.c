/* mlp.c: one hidden layer and a projection, with ReLU and dropout; sequences are averaged over time
 * first. */
#include "mmfuse/nn.h"

static const mmf_option options[] = {
    {"width", NULL, MMF_OPTION_INT, 1, 65536, NULL, "64", "of the hidden layer and the feature"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0", "before each layer"},
    {0},
};

typedef struct mlp_encoder {
    const char *input;
    mmf_modality_kind kind;
    mmf_linear_layer linear_1, linear_2;
    double dropout;
} mlp_encoder;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    mlp_encoder *const e = mmf_builder_alloc(b, sizeof *e);
    if (!e)
        return mmf_builder_status(b);
    const mmf_input_schema *const in = &inputs->inputs[0];
    const int64_t width = mmf_config_int(config, "width");
    int64_t n_inputs = 1;
    for (int d = in->kind == MMF_SEQUENCE ? 1 : 0; d < in->n_dims; d++)
        n_inputs *= in->shape[d];
    *e = (mlp_encoder){
        .input = in->name, .kind = in->kind, .dropout = mmf_config_real(config, "dropout")};
    e->linear_1 = mmf_linear_build(b, "linear_1", n_inputs, width, true);
    e->linear_2 = mmf_linear_build(b, "linear_2", width, width, true);
    mmf_builder_set_width(b, width);
    *self = e;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const mlp_encoder *const e = self;
    mmf_tensor *x = mmf_named_get(in, e->input);
    if (e->kind == MMF_SEQUENCE)
        x = mmf_masked_mean(tape, x, mmf_named_part(in, e->input, "length"));
    else if (e->kind == MMF_IMAGE && x)
        x = mmf_reshape(tape, x, 2, (int64_t[]){x->shape[0], -1});
    x = mmf_linear_run(tape, &e->linear_1, mmf_dropout(tape, x, e->dropout), MMF_ACT_RELU);
    x = mmf_linear_run(tape, &e->linear_2, mmf_dropout(tape, x, e->dropout), MMF_ACT_RELU);
    mmf_named_put(tape, out, "feature", x);
}

const mmf_def mmf_encoder_mlp = {
    .name = "mlp",
    .title = "Two linear layers with ReLU",
    .equations = "relu(W2 relu(W1 x + b1) + b2)",
    .kind = MMF_KIND_ENCODER,
    .takes = MMF_TAKES_VECTORS | MMF_TAKES_SEQUENCES | MMF_TAKES_IMAGES,
    .options = options,
    .build = build,
    .run = run,
};
