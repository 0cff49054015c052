/*
 * lstm.c: LSTM and GRU of several layers and directions, and the registered layer `lstm`.
 *
 * Names, gate order and initialisation are those of torch.nn.LSTM and torch.nn.GRU; sequences of
 * their own lengths behave as packed ones: padding is never read, outputs behind a length are zero.
 */
#include <math.h>

#include "mmfuse/nn.h"

static mmf_rnn_weights direction(mmf_builder *b, const mmf_rnn_options *o, int64_t inputs,
                                 int layer, bool reverse)
{
    const mmf_init init = mmf_init_uniform(1 / sqrt((double)o->hidden));
    const int64_t rows = (o->is_gru ? 3 : 4) * o->hidden;
    const char *const suffix = reverse ? "_reverse" : "";
    mmf_rnn_weights w = {0};
    w.weight_ih = mmf_builder_param(b, mmf_builder_text(b, "weight_ih_l%d%s", layer, suffix),
                                    MMF_PARAM_TRAINED, init, 2, (int64_t[]){rows, inputs});
    w.weight_hh = mmf_builder_param(b, mmf_builder_text(b, "weight_hh_l%d%s", layer, suffix),
                                    MMF_PARAM_TRAINED, init, 2, (int64_t[]){rows, o->hidden});
    w.bias_ih = mmf_builder_param(b, mmf_builder_text(b, "bias_ih_l%d%s", layer, suffix),
                                  MMF_PARAM_TRAINED, init, 1, &rows);
    w.bias_hh = mmf_builder_param(b, mmf_builder_text(b, "bias_hh_l%d%s", layer, suffix),
                                  MMF_PARAM_TRAINED, init, 1, &rows);
    return w;
}

mmf_rnn_layer mmf_rnn_build(mmf_builder *b, const char *name, const mmf_rnn_options *o)
{
    mmf_rnn_layer layer = {.hidden = o->hidden,
                           .n_layers = o->n_layers,
                           .n_directions = o->bidirectional ? 2 : 1,
                           .is_gru = o->is_gru,
                           .dropout = o->dropout};
    const size_t n_parts = (size_t)layer.n_layers * (size_t)layer.n_directions;
    layer.weights = mmf_builder_alloc(b, n_parts * sizeof *layer.weights);
    if (!layer.weights)
        return layer;
    mmf_builder_enter(b, name);
    for (int l = 0; l < layer.n_layers; l++) {
        const int64_t inputs = l == 0 ? o->inputs : layer.n_directions * o->hidden;
        for (int d = 0; d < layer.n_directions; d++)
            layer.weights[l * layer.n_directions + d] = direction(b, o, inputs, l, d == 1);
    }
    mmf_builder_leave(b);
    return layer;
}

/* States kept for the stacks h_n and c_n. */
#define MAX_PARTS 64

mmf_rnn_result mmf_rnn_run(mmf_tape *tape, const mmf_rnn_layer *layer, mmf_tensor *x,
                           const mmf_tensor *length, bool all_states)
{
    mmf_tensor *h[MAX_PARTS], *c[MAX_PARTS];
    int n_parts = 0;
    mmf_rnn_result result = {.sequence = x};
    for (int l = 0; l < layer->n_layers; l++) {
        mmf_tensor *outputs[2] = {NULL, NULL}, *ends[2] = {NULL, NULL};
        if (l > 0)
            result.sequence = mmf_dropout(tape, result.sequence, layer->dropout);
        for (int d = 0; d < layer->n_directions; d++) {
            const mmf_rnn_weights *const w = &layer->weights[l * layer->n_directions + d];
            const mmf_rnn_output o = layer->is_gru
                                         ? mmf_gru(tape, result.sequence, w, length, d == 1)
                                         : mmf_lstm(tape, result.sequence, w, length, d == 1);
            outputs[d] = o.sequence;
            ends[d] = o.h_n;
            if (n_parts < MAX_PARTS) {
                h[n_parts] = o.h_n;
                c[n_parts++] = o.c_n;
            }
        }
        const bool two = layer->n_directions == 2;
        result.sequence = two ? mmf_concat(tape, outputs, 2, -1) : outputs[0];
        if (l + 1 == layer->n_layers)
            result.last = two ? mmf_concat(tape, ends, 2, -1) : ends[0];
    }
    if (all_states) {
        result.h_n = mmf_stack(tape, h, n_parts, 0);
        result.c_n = layer->is_gru ? NULL : mmf_stack(tape, c, n_parts, 0);
    }
    return result;
}

/* ---- The registered layer ---------------------------------------------------------------- */

static const mmf_option options[] = {
    {"hidden_size", NULL, MMF_OPTION_INT, 1, 65536, NULL, "128", "units of each direction"},
    {"num_layers", NULL, MMF_OPTION_INT, 1, 32, NULL, "1", "layers on top of each other"},
    {"bidirectional", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "false",
     "a second direction from the end"},
    {"batch_first", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "sequences come and go as (B, T, D); false: (T, B, D)"},
    {0},
};

typedef struct lstm_layer {
    const char *input;
    bool batch_first;
    mmf_rnn_layer rnn;
} lstm_layer;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    lstm_layer *const layer = mmf_builder_alloc(b, sizeof *layer);
    if (!layer)
        return mmf_builder_status(b);
    if (inputs->count != 1 || inputs->inputs[0].n_dims != 2)
        return mmf_builder_fail(b, MMF_SHAPE, "lstm takes one sequence (B, T, D)");
    layer->batch_first = mmf_config_bool(config, "batch_first");
    layer->input = inputs->inputs[0].name;
    const mmf_rnn_options o = {.inputs = inputs->inputs[0].shape[1],
                               .hidden = mmf_config_int(config, "hidden_size"),
                               .n_layers = (int)mmf_config_int(config, "num_layers"),
                               .bidirectional = mmf_config_bool(config, "bidirectional")};
    layer->rnn = mmf_rnn_build(b, "", &o);
    *self = layer;
    return mmf_builder_status(b);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const lstm_layer *const layer = self;
    mmf_tensor *const x = mmf_named_get(in, layer->input);
    const mmf_rnn_result r =
        mmf_rnn_run(tape, &layer->rnn, layer->batch_first ? x : mmf_transpose(tape, x, 0, 1),
                    mmf_named_part(in, layer->input, "length"), true);
    mmf_named_put(tape, out, "output",
                  layer->batch_first ? r.sequence : mmf_transpose(tape, r.sequence, 0, 1));
    mmf_named_put(tape, out, "h_n", r.h_n);
    mmf_named_put(tape, out, "c_n", r.c_n);
}

const mmf_def mmf_layer_lstm = {
    .name = "lstm",
    .title = "Long short-term memory",
    .paper = "Hochreiter, Schmidhuber, Long short-term memory, Neural Computation 1997; layout of "
             "torch.nn.LSTM",
    .equations = "i,f,o = sigmoid(.), g = tanh(.); c = f c + i g; h = o tanh(c)",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_SEQUENCES | MMF_ONE_ONLY,
    .options = options,
    .build = build,
    .run = run,
};
