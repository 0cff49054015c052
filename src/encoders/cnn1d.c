/*
 * cnn1d.c: a small convolutional network over time: two blocks of convolution, batch norm, ReLU and
 * max-pooling, then means of four quarters of the time axis, so that order survives the pooling.
 */
#include "encoders/encoder.h"

#define KERNEL 5
#define N_PARTS 4
/* Channels, unless the feature is narrower: more of them cost in proportion and overfitted the
 * sensor recordings they were tried on (validation, UTD-MHAD). */
#define MAX_CHANNELS 64

static const mmf_option options[] = {
    {"width", NULL, MMF_OPTION_INT, 1, 8192, NULL, "64", "of the feature"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0", "before the last layer"},
    MMF_AUGMENT_OPTIONS,
    {0},
};

typedef struct cnn1d_encoder {
    const char *input;
    mmf_conv_layer conv_1, conv_2;
    mmf_batch_norm_layer norm_1, norm_2;
    mmf_linear_layer linear;
    int64_t pooled_steps;
    double dropout;
    mmf_augment_options augment;
} cnn1d_encoder;

static int64_t n_parts(int64_t steps)
{
    return steps < N_PARTS ? steps : N_PARTS;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    cnn1d_encoder *const e = mmf_builder_alloc(b, sizeof *e);
    if (!e)
        return mmf_builder_status(b);
    const mmf_input_schema *const in = &inputs->inputs[0];
    const int64_t width = mmf_config_int(config, "width"), steps = in->shape[0];
    const int64_t channels = width < MAX_CHANNELS ? width : MAX_CHANNELS;
    const mmf_window window = {{KERNEL, 1}, {1, 1}, {KERNEL / 2, 0}};
    *e = (cnn1d_encoder){.input = in->name,
                         .dropout = mmf_config_real(config, "dropout"),
                         .augment = mmf_augment_read(config)};
    e->conv_1 = mmf_conv_build(b, "conv_1", 1, in->shape[1], channels, &window, false);
    e->norm_1 = mmf_batch_norm_build(b, "norm_1", channels, 1);
    e->conv_2 = mmf_conv_build(b, "conv_2", 1, channels, channels, &window, false);
    e->norm_2 = mmf_batch_norm_build(b, "norm_2", channels, 1);
    e->pooled_steps = steps / 4 >= N_PARTS ? steps / 2 / 2 : steps;
    e->linear = mmf_linear_build(b, "linear", n_parts(e->pooled_steps) * channels, width, true);
    mmf_builder_set_width(b, width);
    *self = e;
    return mmf_builder_status(b);
}

static mmf_tensor *block(mmf_tape *tape, const mmf_conv_layer *conv,
                         const mmf_batch_norm_layer *norm, mmf_tensor *x, bool pool)
{
    const mmf_window two = {{2, 1}, {2, 1}, {0, 0}};
    x = mmf_batch_norm_run(tape, norm, mmf_conv_run(tape, conv, x));
    return mmf_relu(tape, pool ? mmf_max_pool(tape, x, &two) : x);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const cnn1d_encoder *const e = self;
    const mmf_tensor *const length = mmf_named_part(in, e->input, "length");
    mmf_tensor *x = mmf_spec_augment(tape, mmf_named_get(in, e->input), length, &e->augment);
    x = mmf_transpose(tape, x, 1, 2); /* (B, D, T) */
    const bool pool = x && e->pooled_steps != x->shape[2];
    x = block(tape, &e->conv_1, &e->norm_1, x, pool);
    x = block(tape, &e->conv_2, &e->norm_2, x, pool);
    const int64_t parts = n_parts(e->pooled_steps), span = e->pooled_steps / parts;
    const mmf_window quarter = {{span, 1}, {span, 1}, {0, 0}};
    x = mmf_slice(tape, mmf_avg_pool(tape, x, &quarter), 2, 0, parts);
    x = x ? mmf_reshape(tape, x, 2, (int64_t[]){x->shape[0], -1}) : NULL;
    x = mmf_linear_run(tape, &e->linear, mmf_dropout(tape, x, e->dropout), MMF_ACT_RELU);
    mmf_named_put(tape, out, "feature", x);
}

const mmf_def mmf_encoder_cnn1d = {
    .name = "cnn1d",
    .title = "Small convolutional network over time",
    .equations = "twice: relu(max2(BN(conv5(x)))); then means of four quarters and a linear layer",
    .kind = MMF_KIND_ENCODER,
    .takes = MMF_TAKES_SEQUENCES,
    .options = options,
    .build = build,
    .run = run,
};
