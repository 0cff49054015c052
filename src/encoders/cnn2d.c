/* cnn2d.c: a small convolutional network for images: two blocks of 3x3 convolution, batch norm,
 * ReLU, pooling. */
#include "mmfuse/nn.h"
#include "nn/channels_last.h"

#define CHANNELS_1 16
#define CHANNELS_2 32

static const mmf_option options[] = {
    {"width", NULL, MMF_OPTION_INT, 1, 8192, NULL, "64", "of the feature"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0", "before the last layer"},
    {0},
};

typedef struct cnn2d_encoder {
    const char *input;
    mmf_conv_layer conv_1, conv_2;
    mmf_batch_norm_layer norm_1, norm_2;
    mmf_linear_layer linear;
    double dropout;
} cnn2d_encoder;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    cnn2d_encoder *const e = mmf_builder_alloc(b, sizeof *e);
    if (!e)
        return mmf_builder_status(b);
    const mmf_input_schema *const in = &inputs->inputs[0];
    const int64_t width = mmf_config_int(config, "width");
    const mmf_window window = {{3, 3}, {1, 1}, {1, 1}};
    *e = (cnn2d_encoder){.input = in->name, .dropout = mmf_config_real(config, "dropout")};
    if (in->shape[1] < 4 || in->shape[2] < 4)
        return mmf_builder_fail(b, MMF_SHAPE,
                                "cnn2d: images of %s are %lld x %lld, at least 4 x 4 are needed",
                                in->name, (long long)in->shape[1], (long long)in->shape[2]);
    e->conv_1 = mmf_conv_build(b, "conv_1", 2, in->shape[0], CHANNELS_1, &window, false);
    e->norm_1 = mmf_batch_norm_build(b, "norm_1", CHANNELS_1, 1);
    e->conv_2 = mmf_conv_build(b, "conv_2", 2, CHANNELS_1, CHANNELS_2, &window, false);
    e->norm_2 = mmf_batch_norm_build(b, "norm_2", CHANNELS_2, 1);
    const int64_t area = (in->shape[1] / 2 / 2) * (in->shape[2] / 2 / 2);
    e->linear = mmf_linear_build(b, "linear", CHANNELS_2 * area, width, true);
    mmf_builder_set_width(b, width);
    *self = e;
    return mmf_builder_status(b);
}

/* The convolution has no bias: the norm would take it out again. */
static mmf_tensor *block(mmf_tape *tape, const mmf_conv_layer *conv,
                         const mmf_batch_norm_layer *norm, mmf_tensor *x)
{
    const mmf_window two = {{2, 2}, {2, 2}, {0, 0}};
    return mmf_batch_norm_last_run(tape, norm, mmf_conv_last_run(tape, conv, x), false,
                                   &(mmf_norm_around){.pool = &two, .relu = true});
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const cnn2d_encoder *const e = self;
    mmf_tensor *x = mmf_channels_last(tape, mmf_named_get(in, e->input));
    x = block(tape, &e->conv_1, &e->norm_1, x);
    x = mmf_channels_first(tape, block(tape, &e->conv_2, &e->norm_2, x));
    x = x ? mmf_reshape(tape, x, 2, (int64_t[]){x->shape[0], -1}) : NULL;
    x = mmf_linear_run(tape, &e->linear, mmf_dropout(tape, x, e->dropout), MMF_ACT_RELU);
    mmf_named_put(tape, out, "feature", x);
}

const mmf_def mmf_encoder_cnn2d = {
    .name = "cnn2d",
    .title = "Small convolutional network for images",
    .equations = "twice: relu(max2x2(BN(conv3x3(x)))); then a linear layer over what is left",
    .kind = MMF_KIND_ENCODER,
    .takes = MMF_TAKES_IMAGES,
    .options = options,
    .build = build,
    .run = run,
};
