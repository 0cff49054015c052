/*
 * ef_lstm.c: early fusion of aligned sequences: all modalities of a step side by side into one
 * LSTM.
 *
 * Structure and names of MMSA's EF_LSTM (thuiar/MMSA): batch norm whose channels are the time
 * steps, LSTM over all T steps, the last layer's final state, two linear layers. Sequences of other
 * lengths are pooled to the shortest, as MMSA aligns them.
 */
#include "models/parts.h"

static const mmf_option options[] = {
    {"hidden_dims", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128", "units of the LSTM"},
    {"num_layers", NULL, MMF_OPTION_INT, 1, 32, NULL, "2", "layers of the LSTM"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.3", "between layers and in the head"},
    {0},
};

typedef struct ef_lstm_model {
    const char **order; /* text, audio, vision, or as given */
    mmf_tensor **parts;
    size_t count;
    int64_t steps;
    mmf_batch_norm_layer norm;
    mmf_rnn_layer lstm;
    mmf_linear_layer linear, out;
    double dropout;
    bool is_regression;
} ef_lstm_model;

/* Orders the inputs, finds the shortest time axis and returns the width of a step. */
static int64_t order_inputs(mmf_builder *b, ef_lstm_model *model, const mmf_schema *inputs)
{
    static const char *const paper[] = {"text", "audio", "vision"};
    const size_t n_paper = mmf_is_sentiment_trio(inputs) ? sizeof paper / sizeof paper[0] : 0;
    int64_t width = 0;
    model->count = inputs->count;
    model->order = mmf_builder_alloc(b, inputs->count * sizeof *model->order);
    model->parts = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    for (size_t m = 0; mmf_builder_status(b) == MMF_OK && m < inputs->count; m++) {
        const mmf_input_schema *const in =
            m < n_paper ? mmf_schema_find(inputs, paper[m]) : &inputs->inputs[m];
        if (in->kind != MMF_SEQUENCE) {
            mmf_builder_fail(b, MMF_UNSUPPORTED,
                             "ef-lstm joins sequences step by step; %s is of kind %s: leave it out "
                             "with --modalities, or use early-concat",
                             in->name, mmf_modality_kind_name(in->kind));
            break;
        }
        model->order[m] = in->name;
        model->steps = m == 0 || in->shape[0] < model->steps ? in->shape[0] : model->steps;
        width += in->shape[1];
    }
    return width;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    ef_lstm_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    model->dropout = mmf_config_real(config, "dropout");
    model->is_regression = mmf_is_regression(config);
    const int64_t width = order_inputs(b, model, inputs);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    const mmf_rnn_options rnn = {.inputs = width,
                                 .hidden = mmf_config_int(config, "hidden_dims"),
                                 .n_layers = (int)mmf_config_int(config, "num_layers"),
                                 .dropout = model->dropout};
    model->norm = mmf_batch_norm_build(b, "norm", model->steps, 1);
    model->lstm = mmf_rnn_build(b, "lstm", &rnn);
    model->linear = mmf_linear_build(b, "linear", rnn.hidden, rnn.hidden, true);
    model->out = mmf_linear_build(b, "out", rnn.hidden, mmf_n_outputs(config), true);
    *self = model;
    return mmf_builder_status(b);
}

/*
 * (B, T, D) to (B, steps, D): the last step is repeated until `steps` divides the number of steps,
 * then windows of equal length are averaged.
 */
static mmf_tensor *align(mmf_tape *tape, mmf_tensor *x, int64_t steps)
{
    if (!x || x->shape[1] == steps)
        return x;
    const int64_t batch = x->shape[0], given = x->shape[1], width = x->shape[2];
    const int64_t missing = given % steps ? steps - given % steps : 0;
    if (missing > 0) {
        mmf_tensor *const last = mmf_slice(tape, x, 1, given - 1, 1);
        mmf_tensor *const repeated = mmf_expand(tape, last, 3, (int64_t[]){batch, missing, width});
        x = mmf_concat(tape, (mmf_tensor *[]){x, repeated}, 2, 1);
    }
    const int64_t window = (given + missing) / steps;
    x = mmf_reshape(tape, x, 4, (int64_t[]){batch, steps, window, width});
    return mmf_mean(tape, x, 2);
}

/* (B, T, D) with zeros where the modality is absent. */
static mmf_tensor *without_absent(mmf_tape *tape, const mmf_named *in, const char *name)
{
    mmf_tensor *const x = mmf_named_get(in, name), *const present =
                                                       mmf_named_part(in, name, "present");
    return present ? mmf_mul(tape, x, mmf_reshape(tape, present, 3, (int64_t[]){-1, 1, 1})) : x;
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const ef_lstm_model *const model = self;
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    for (size_t m = 0; m < model->count; m++)
        model->parts[m] = align(tape, without_absent(tape, in, model->order[m]), model->steps);
    mmf_tensor *x = mmf_concat(tape, model->parts, (int)model->count, 2);
    x = mmf_rnn_run(tape, &model->lstm, mmf_batch_norm_run(tape, &model->norm, x), NULL, false)
            .last;
    x = mmf_tape_leave(tape, mark, x);
    x = mmf_linear_run(tape, &model->linear, mmf_dropout(tape, x, model->dropout), MMF_ACT_RELU);
    x = mmf_linear_run(tape, &model->out, mmf_dropout(tape, x, model->dropout), MMF_ACT_NONE);
    mmf_put_result(tape, out, model->is_regression, x);
}

const mmf_def mmf_model_ef_lstm = {
    .name = "ef-lstm",
    .title = "Early fusion by one LSTM over aligned sequences",
    .paper = "Williams et al., Recognizing emotions in video using multimodal DNN feature fusion, "
             "ACL 2018 workshop, W18-3302; reference thuiar/MMSA",
    .equations = "h = LSTM(BN([x_1t ; ... ; x_Mt])); y = W2 relu(W1 h_T)",
    .missing = "zeros stand in for the features of an absent modality at every step",
    .timing = "early",
    .structure = "concatenation",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_SEQUENCES | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
