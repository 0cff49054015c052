/*
 * transformer.c: a transformer over valid steps, for spectrograms and other sequences of features.
 *
 * A convolution over three steps brings frames to the width and, with a stride, shortens long
 * recordings before attention, whose cost grows with the square of the steps; then sinusoids of the
 * positions and pre-norm layers. The feature is the mean over valid steps.
 */
#include "encoders/encoder.h"
#include "encoders/steps.h"

#define KERNEL 3

static const mmf_option options[] = {
    {"width", NULL, MMF_OPTION_INT, 1, 8192, NULL, "64", "of the feature and of the steps"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0", "on steps, inside layers, on the mean"},
    {"layers", "num_layers", MMF_OPTION_INT, 1, 64, "1|4", "2", "layers"},
    {"heads", "nhead", MMF_OPTION_INT, 0, 1024, "-", "0",
     "heads that the width is split into; 0: at most 4 that divide it"},
    {"inner", "dim_feedforward", MMF_OPTION_INT, 0, 1048576, "-", "0",
     "hidden width of a layer; 0: twice the width"},
    {"stride", NULL, MMF_OPTION_INT, 1, 1024, "1|4", "1",
     "steps of the data to one of the transformer"},
    MMF_AUGMENT_OPTIONS,
    {0},
};

typedef struct transformer_encoder {
    const char *input;
    int64_t n_steps, stride, width, n_layers;
    mmf_conv_layer conv;
    mmf_transformer_layer *layers;
    mmf_layer_norm_layer norm;
    mmf_linear_layer linear;
    double dropout;
    mmf_augment_options augment;
} transformer_encoder;

static int64_t n_heads(const mmf_config *config, int64_t width)
{
    int64_t heads = mmf_config_int(config, "heads");
    if (heads > 0)
        return heads;
    for (heads = 4; width % heads != 0; heads--)
        ;
    return heads;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    transformer_encoder *const e = mmf_builder_alloc(b, sizeof *e);
    if (!e)
        return mmf_builder_status(b);
    const mmf_input_schema *const in = &inputs->inputs[0];
    const int64_t width = mmf_config_int(config, "width"), inner = mmf_config_int(config, "inner");
    *e = (transformer_encoder){.input = in->name,
                               .n_steps = in->shape[0],
                               .stride = mmf_config_int(config, "stride"),
                               .width = width,
                               .n_layers = mmf_config_int(config, "layers"),
                               .dropout = mmf_config_real(config, "dropout"),
                               .augment = mmf_augment_read(config)};
    const mmf_window window = {{KERNEL, 1}, {e->stride, 1}, {KERNEL / 2, 0}};
    e->conv = mmf_conv_build(b, "conv", 1, in->shape[1], width, &window, true);
    const mmf_transformer_options o = {.width = width,
                                       .n_heads = n_heads(config, width),
                                       .inner = inner ? inner : 2 * width,
                                       .norm_first = true,
                                       .activation = MMF_ACT_GELU,
                                       .eps = 1e-5,
                                       .dropout = e->dropout,
                                       .inner_dropout = e->dropout};
    e->layers = mmf_builder_alloc(b, (size_t)e->n_layers * sizeof *e->layers);
    for (int64_t i = 0; mmf_builder_status(b) == MMF_OK && i < e->n_layers; i++)
        e->layers[i] =
            mmf_transformer_build(b, mmf_builder_text(b, "layers.%lld", (long long)i), &o);
    e->norm = mmf_layer_norm_build(b, "norm", width, 1e-5);
    e->linear = mmf_linear_build(b, "linear", width, width, true);
    mmf_builder_set_width(b, width);
    *self = e;
    return mmf_builder_status(b);
}

/* (B, T, D) -> (B, T', width); the convolution must not see what stands behind a length. */
static mmf_tensor *shorten(mmf_tape *tape, const transformer_encoder *e, mmf_tensor *x,
                           mmf_tensor *mask)
{
    if (mask)
        x = mmf_mul(tape, x, mmf_reshape(tape, mask, 3, (int64_t[]){-1, e->n_steps, 1}));
    x = mmf_conv_run(tape, &e->conv, mmf_transpose(tape, x, 1, 2));
    return mmf_gelu(tape, mmf_transpose(tape, x, 1, 2));
}

/* A step of the transformer counts if the step in its middle does. */
static mmf_tensor *shorten_mask(mmf_tape *tape, const transformer_encoder *e, mmf_tensor *mask)
{
    const mmf_window every = {{1, 1}, {e->stride, 1}, {0, 0}};
    if (!mask || e->stride == 1)
        return mask;
    mask = mmf_reshape(tape, mask, 3, (int64_t[]){-1, 1, e->n_steps});
    mask = mmf_max_pool(tape, mask, &every);
    return mask ? mmf_reshape(tape, mask, 2, (int64_t[]){-1, mask->shape[2]}) : NULL;
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const transformer_encoder *const e = self;
    const mmf_tensor *const length = mmf_named_part(in, e->input, "length");
    mmf_tensor *const valid = length ? mmf_length_mask(tape, length, e->n_steps) : NULL;
    mmf_tensor *x = mmf_spec_augment(tape, mmf_named_get(in, e->input), length, &e->augment);
    x = shorten(tape, e, x, valid);
    mmf_tensor *const mask = shorten_mask(tape, e, valid);
    mmf_tensor *const keys = mmf_attention_mask(tape, mask, NULL);
    const int64_t n_steps = x ? x->shape[1] : 1;
    x = mmf_add(tape, x, mmf_sinusoid(tape, n_steps, e->width, 0));
    x = mmf_dropout(tape, x, e->dropout);
    for (int64_t i = 0; i < e->n_layers; i++) {
        const mmf_tape_mark mark = mmf_tape_enter(tape);
        x = mmf_tape_leave(tape, mark, mmf_transformer_run(tape, &e->layers[i], x, NULL, keys));
    }
    const mmf_steps steps = {mmf_layer_norm_run(tape, &e->norm, x), mask};
    x = mmf_dropout(tape, mmf_steps_mean(tape, &steps), e->dropout);
    x = mmf_linear_run(tape, &e->linear, x, MMF_ACT_RELU);
    mmf_named_put(tape, out, "feature", x);
}

const mmf_def mmf_encoder_transformer = {
    .name = "transformer",
    .title = "Transformer over valid steps",
    .paper = "Vaswani et al., Attention is all you need, NeurIPS 2017, arXiv:1706.03762; over "
             "speech: Dong, Xu, Xu, ICASSP 2018",
    .equations = "h = gelu(conv3(x)) + sinusoids; pre-norm layers; relu(W mean_t LN(h_t) + b)",
    .kind = MMF_KIND_ENCODER,
    .takes = MMF_TAKES_SEQUENCES,
    .options = options,
    .build = build,
    .run = run,
};
