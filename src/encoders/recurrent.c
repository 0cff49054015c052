/*
 * recurrent.c: LSTM or GRU over a packed sequence; the feature joins the final state with the mean
 * over valid steps, because a final state alone forgets early steps of long sensor recordings.
 */
#include "encoders/encoder.h"

static const mmf_option options[] = {
    {"width", NULL, MMF_OPTION_INT, 1, 8192, NULL, "64",
     "of the feature; its units, shared by the directions"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0", "on inputs and feature"},
    {"bidirectional", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true", "a second direction from the end"},
    MMF_AUGMENT_OPTIONS,
    {0},
};

typedef struct recurrent_encoder {
    const char *input;
    mmf_rnn_layer rnn;
    mmf_linear_layer linear;
    double dropout;
    mmf_augment_options augment;
} recurrent_encoder;

static mmf_status build_as(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                           bool is_gru, void **self)
{
    recurrent_encoder *const e = mmf_builder_alloc(b, sizeof *e);
    if (!e)
        return mmf_builder_status(b);
    const mmf_input_schema *const in = &inputs->inputs[0];
    const int64_t width = mmf_config_int(config, "width");
    const bool two = mmf_config_bool(config, "bidirectional");
    const int64_t units = two ? (width + 1) / 2 : width;
    *e = (recurrent_encoder){.input = in->name,
                             .dropout = mmf_config_real(config, "dropout"),
                             .augment = mmf_augment_read(config)};
    const mmf_rnn_options o = {.inputs = in->shape[1],
                               .hidden = units,
                               .n_layers = 1,
                               .bidirectional = two,
                               .is_gru = is_gru};
    e->rnn = mmf_rnn_build(b, "rnn", &o);
    e->linear = mmf_linear_build(b, "linear", (two ? 4 : 2) * units, width, true);
    mmf_builder_set_width(b, width);
    *self = e;
    return mmf_builder_status(b);
}

static mmf_status build_lstm(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                             void **self)
{
    return build_as(b, config, inputs, false, self);
}

static mmf_status build_gru(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                            void **self)
{
    return build_as(b, config, inputs, true, self);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const recurrent_encoder *const e = self;
    const mmf_tensor *const length = mmf_named_part(in, e->input, "length");
    mmf_tensor *x = mmf_spec_augment(tape, mmf_named_get(in, e->input), length, &e->augment);
    x = mmf_dropout(tape, x, e->dropout);
    const mmf_rnn_result r = mmf_rnn_run(tape, &e->rnn, x, length, false);
    mmf_tensor *const both[] = {r.last, mmf_masked_mean(tape, r.sequence, length)};
    mmf_tensor *const joined = mmf_dropout(tape, mmf_concat(tape, both, 2, -1), e->dropout);
    mmf_named_put(tape, out, "feature", mmf_linear_run(tape, &e->linear, joined, MMF_ACT_RELU));
}

const mmf_def mmf_encoder_recurrent_lstm = {
    .name = "lstm",
    .title = "LSTM over valid steps",
    .paper = "Hochreiter, Schmidhuber, Long short-term memory, Neural Computation 1997",
    .equations = "relu(W [h_end ; mean_t h_t] + b)",
    .kind = MMF_KIND_ENCODER,
    .takes = MMF_TAKES_SEQUENCES,
    .options = options,
    .build = build_lstm,
    .run = run,
};

const mmf_def mmf_encoder_recurrent_gru = {
    .name = "gru",
    .title = "GRU over valid steps",
    .paper = "Cho et al., Learning phrase representations using RNN encoder-decoder, EMNLP 2014, "
             "D14-1179",
    .equations = "relu(W [h_end ; mean_t h_t] + b)",
    .kind = MMF_KIND_ENCODER,
    .takes = MMF_TAKES_SEQUENCES,
    .options = options,
    .build = build_gru,
    .run = run,
};
