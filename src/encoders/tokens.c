/* tokens.c: word embeddings, read by an LSTM or averaged over the valid tokens. Id 0 is padding. */
#include "mmfuse/nn.h"

static const mmf_option options[] = {
    {"width", NULL, MMF_OPTION_INT, 1, 8192, NULL, "64", "of the embedding and the feature"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0", "on the embeddings"},
    {0},
};

typedef struct tokens_encoder {
    const char *input;
    mmf_embedding_layer embedding;
    mmf_rnn_layer rnn;
    mmf_linear_layer linear;
    bool averages;
    double dropout;
} tokens_encoder;

static mmf_status build_as(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                           bool averages, void **self)
{
    tokens_encoder *const e = mmf_builder_alloc(b, sizeof *e);
    if (!e)
        return mmf_builder_status(b);
    const mmf_input_schema *const in = &inputs->inputs[0];
    const int64_t width = mmf_config_int(config, "width");
    *e = (tokens_encoder){
        .input = in->name, .averages = averages, .dropout = mmf_config_real(config, "dropout")};
    e->embedding = mmf_embedding_build(b, "embedding", in->vocab_size, width, 0);
    if (!averages) {
        const mmf_rnn_options o = {.inputs = width, .hidden = width, .n_layers = 1};
        e->rnn = mmf_rnn_build(b, "rnn", &o);
    }
    e->linear = mmf_linear_build(b, "linear", width, width, true);
    mmf_builder_set_width(b, width);
    *self = e;
    return mmf_builder_status(b);
}

static mmf_status build_lstm(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                             void **self)
{
    return build_as(b, config, inputs, false, self);
}

static mmf_status build_mean(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                             void **self)
{
    return build_as(b, config, inputs, true, self);
}

/* Without lengths in the data, tokens end where only padding follows. */
static mmf_tensor *token_lengths(mmf_tape *tape, const mmf_named *in, const char *name,
                                 mmf_tensor *tokens)
{
    mmf_tensor *const given = mmf_named_part(in, name, "length");
    return given || !tokens ? given : mmf_token_lengths(tape, tokens, 0);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const tokens_encoder *const e = self;
    mmf_tensor *const tokens = mmf_named_get(in, e->input);
    const mmf_tensor *const length = token_lengths(tape, in, e->input, tokens);
    mmf_tensor *x = mmf_dropout(tape, mmf_embedding_run(tape, &e->embedding, tokens), e->dropout);
    x = e->averages ? mmf_masked_mean(tape, x, length)
                    : mmf_rnn_run(tape, &e->rnn, x, length, false).last;
    mmf_named_put(tape, out, "feature", mmf_linear_run(tape, &e->linear, x, MMF_ACT_RELU));
}

const mmf_def mmf_encoder_tokens_lstm = {
    .name = "lstm",
    .title = "Word embedding and LSTM",
    .equations = "relu(W h_end + b) over embedded tokens",
    .kind = MMF_KIND_ENCODER,
    .takes = MMF_TAKES_TOKENS,
    .options = options,
    .build = build_lstm,
    .run = run,
};

const mmf_def mmf_encoder_tokens_mean = {
    .name = "mean",
    .title = "Mean of word embeddings",
    .equations = "relu(W mean_t e_t + b)",
    .kind = MMF_KIND_ENCODER,
    .takes = MMF_TAKES_TOKENS,
    .options = options,
    .build = build_mean,
    .run = run,
};
