/*
 * video.c: an image encoder on every frame, then the mean, the maximum, or a GRU over valid frames.
 *
 * Only valid frames reach the image encoder: its batch norm must not count padding, and padding
 * costs nothing.
 */
#include <string.h>

#include "encoders/encoder.h"
#include "encoders/steps.h"

static const mmf_option options[] = {
    {"width", NULL, MMF_OPTION_INT, 0, 8192, NULL, "64",
     "of a frame's feature and of the feature; 0: the image encoder's own"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0",
     "in the image encoder and on its features"},
    {MMF_FRAME_OPTION, NULL, MMF_OPTION_TEXT, 0, 0, NULL, "cnn2d",
     "image encoder of the frames, to which options that are not of this table are handed on, as "
     "in "
     "video:frame=resnet18:statistics=batch, and a SOURCE of weights"},
    {"pool", NULL, MMF_OPTION_TEXT, 0, 0, "mean|max|gru", "mean",
     "over valid frames; gru reads them in order"},
    {0},
};

typedef enum pooling { POOL_MEAN, POOL_MAX, POOL_GRU } pooling;

typedef struct video_encoder {
    const mmf_input_schema *input;
    mmf_input_schema image;
    mmf_encoder frame;
    pooling pool;
    mmf_rnn_layer rnn;
    mmf_linear_layer linear;
    double dropout;
} video_encoder;

static pooling parse_pooling(const char *text)
{
    if (strcmp(text, "max") == 0)
        return POOL_MAX;
    return strcmp(text, "gru") == 0 ? POOL_GRU : POOL_MEAN;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    video_encoder *const e = mmf_builder_alloc(b, sizeof *e);
    if (!e)
        return mmf_builder_status(b);
    const mmf_input_schema *const in = &inputs->inputs[0];
    const int64_t width = mmf_config_int(config, "width");
    *e = (video_encoder){.input = in,
                         .image = {.name = in->name,
                                   .kind = MMF_IMAGE,
                                   .n_dims = 3,
                                   .shape = {in->shape[1], in->shape[2], in->shape[3]}},
                         .pool = parse_pooling(mmf_config_text(config, "pool")),
                         .dropout = mmf_config_real(config, "dropout")};
    const mmf_encoder_choice choice = {
        .spec = mmf_builder_text(b, "%s", mmf_config_text(config, MMF_FRAME_OPTION)),
        .width = width,
        .dropout = e->dropout};
    e->frame = mmf_encoder_build(b, "frame", &e->image, &choice);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    const int64_t hidden = width > 0 ? width : e->frame.width;
    if (e->pool == POOL_GRU) {
        const mmf_rnn_options o = {
            .inputs = e->frame.width, .hidden = hidden, .n_layers = 1, .is_gru = true};
        e->rnn = mmf_rnn_build(b, "rnn", &o);
        e->linear = mmf_linear_build(b, "linear", 2 * hidden, hidden, true);
    }
    mmf_builder_set_width(b, e->pool == POOL_GRU ? hidden : e->frame.width);
    *self = e;
    return mmf_builder_status(b);
}

/* (B T, C, H, W) -> (B T, D); `valid` (B, T) leaves frames out, whose features are zeros. */
static mmf_tensor *frame_features(mmf_tape *tape, const video_encoder *e, mmf_tensor *frames,
                                  mmf_tensor *valid, const mmf_step *step)
{
    const int64_t n_frames = frames ? frames->shape[0] : 0;
    mmf_tensor *const rows = valid ? mmf_rows_where(tape, valid) : NULL;
    mmf_named one = {0};
    mmf_named_put(tape, &one, e->image.name, rows ? mmf_index_select(tape, frames, rows) : frames);
    mmf_tensor *const y = mmf_encoder_run(tape, &e->frame, &one, step);
    return rows ? mmf_scatter_add(tape, y, rows, n_frames) : y;
}

static mmf_tensor *largest(mmf_tape *tape, mmf_tensor *x, mmf_tensor *valid)
{
    if (valid && x) {
        /* What is below every feature in place of frames that do not count. */
        mmf_tensor *const low = mmf_affine(tape, valid, 1e30, -1e30);
        x = mmf_add(tape, x, mmf_reshape(tape, low, 3, (int64_t[]){-1, x->shape[1], 1}));
    }
    return mmf_max(tape, x, 1);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    const video_encoder *const e = self;
    const int64_t *const shape = e->input->shape;
    const mmf_tensor *const length = mmf_named_part(in, e->input->name, "length");
    mmf_tensor *const valid = length ? mmf_length_mask(tape, length, shape[0]) : NULL;
    mmf_tensor *x = mmf_named_get(in, e->input->name);
    x = mmf_reshape(tape, x, 4, (int64_t[]){-1, shape[1], shape[2], shape[3]});
    x = frame_features(tape, e, x, valid, step);
    x = mmf_reshape(tape, x, 3, (int64_t[]){-1, shape[0], e->frame.width});
    x = mmf_dropout(tape, x, e->dropout);
    mmf_tensor *y = NULL;
    if (e->pool == POOL_GRU) {
        const mmf_rnn_result r = mmf_rnn_run(tape, &e->rnn, x, length, false);
        mmf_tensor *const both[] = {r.last, mmf_masked_mean(tape, r.sequence, length)};
        y = mmf_linear_run(tape, &e->linear, mmf_concat(tape, both, 2, -1), MMF_ACT_RELU);
    } else {
        y = e->pool == POOL_MAX ? largest(tape, x, valid) : mmf_masked_mean(tape, x, length);
    }
    mmf_named_put(tape, out, "feature", y);
}

const mmf_def mmf_encoder_video = {
    .name = "video",
    .title = "Image encoder on every frame",
    .equations = "mean_t f(x_t), max_t f(x_t), or relu(W [h_end ; mean_t h_t] + b) of a GRU over "
                 "f(x_t), for an image encoder f; video:frame=NAME=SOURCE takes weights for f",
    .kind = MMF_KIND_ENCODER,
    .takes = MMF_TAKES_VIDEOS,
    .options = options,
    .build = build,
    .run = run,
};
