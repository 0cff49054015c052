/*
 * subnets.c: the sub-networks that TFN, LMF and LF-DNN share (names and structure of the authors'
 * code).
 *
 * Zadeh et al., EMNLP 2017, section 4.1; widths of the MMSA configurations. Deviation: means over
 * time and the LSTM stop at each sample's own length where the data has lengths; the reference
 * averages and reads the padding too.
 */
#include "models/parts.h"

#include <string.h>

bool mmf_is_sentiment_trio(const mmf_schema *inputs)
{
    return inputs->count == 3 && mmf_schema_find(inputs, "text") &&
           mmf_schema_find(inputs, "audio") && mmf_schema_find(inputs, "vision");
}

static mmf_schema paper_order(mmf_builder *b, const mmf_schema *inputs)
{
    static const char *const order[] = {"audio", "vision", "text"};
    mmf_schema ordered = {inputs->count,
                          mmf_builder_alloc(b, inputs->count * sizeof *ordered.inputs)};
    for (size_t m = 0; ordered.inputs && m < inputs->count; m++)
        ordered.inputs[m] =
            mmf_is_sentiment_trio(inputs) ? *mmf_schema_find(inputs, order[m]) : inputs->inputs[m];
    return ordered;
}

/* Place of a modality in `hidden_dims` (text, audio, vision), or its own place in the data. */
static size_t hidden_place(const mmf_schema *ordered, size_t i)
{
    static const size_t places[] = {1, 2, 0};
    return mmf_is_sentiment_trio(ordered) ? places[i] : i;
}

static bool is_text(const mmf_input_schema *in)
{
    return strcmp(in->name, "text") == 0 && in->kind == MMF_SEQUENCE;
}

static bool is_signal(const mmf_input_schema *in)
{
    return (strcmp(in->name, "audio") == 0 || strcmp(in->name, "vision") == 0) &&
           (in->kind == MMF_VECTOR || in->kind == MMF_SEQUENCE);
}

static int64_t hidden_width(const mmf_config *config, const mmf_schema *ordered, size_t i,
                            const mmf_subnet_widths *widths)
{
    const size_t place = hidden_place(ordered, i), n = mmf_config_count(config, "hidden_dims");
    if (n == 1 || place < n)
        return (int64_t)mmf_config_number_at(config, "hidden_dims", place);
    return mmf_is_sentiment_trio(ordered) ? widths->hidden[place] : widths->other;
}

static int64_t feature_width(const mmf_config *config, const mmf_schema *ordered, size_t i,
                             const mmf_subnet_widths *widths)
{
    const bool text = mmf_is_sentiment_trio(ordered) && hidden_place(ordered, i) == 0;
    if (!text)
        return hidden_width(config, ordered, i, widths);
    if (mmf_config_int(config, "text_out") > 0)
        return mmf_config_int(config, "text_out");
    return widths->text_out > 0 ? widths->text_out : hidden_width(config, ordered, i, widths) / 2;
}

static double dropout_of(const mmf_config *config, const mmf_schema *ordered, size_t i)
{
    const bool trio = mmf_is_sentiment_trio(ordered);
    return mmf_config_number_at(config, "dropouts", trio ? i : 0);
}

static void build_layers(mmf_builder *b, mmf_subnet *net, int64_t hidden)
{
    const mmf_input_schema *const in = net->input;
    const int64_t inputs = in->shape[in->n_dims - 1];
    if (net->kind == MMF_SUBNET_TEXT) {
        const mmf_rnn_options o = {.inputs = inputs, .hidden = hidden, .n_layers = 1};
        net->rnn = mmf_rnn_build(b, "rnn", &o);
        net->linear_1 = mmf_linear_build(b, "linear_1", hidden, net->width, true);
    } else {
        net->norm = mmf_batch_norm_build(b, "norm", inputs, 1);
        net->linear_1 = mmf_linear_build(b, "linear_1", inputs, hidden, true);
        net->linear_2 = mmf_linear_build(b, "linear_2", hidden, hidden, true);
        net->linear_3 = mmf_linear_build(b, "linear_3", hidden, hidden, true);
    }
}

static void build_net(mmf_builder *b, const mmf_config *config, mmf_subnet *net, int64_t hidden,
                      bool stand_in, const char *scope)
{
    const char *const spec = mmf_encoder_spec(config, "encoder", net->input->name);
    net->kind = spec                    ? MMF_SUBNET_ENCODER
                : is_text(net->input)   ? MMF_SUBNET_TEXT
                : is_signal(net->input) ? MMF_SUBNET_VECTOR
                                        : MMF_SUBNET_ENCODER;
    if (net->kind == MMF_SUBNET_ENCODER) {
        const mmf_encoder_choice choice = {
            .spec = spec, .width = net->width, .dropout = net->dropout, .stand_in = stand_in};
        net->encoder = mmf_encoder_build(b, scope, net->input, &choice);
        net->width = net->encoder.width;
        return;
    }
    mmf_builder_enter(b, scope);
    mmf_builder_place(b, net->input->name);
    build_layers(b, net, hidden);
    if (stand_in && net->input->has_present)
        net->absent =
            mmf_builder_param(b, "absent", MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &net->width);
    mmf_builder_leave(b);
}

mmf_subnets mmf_subnets_build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                              const mmf_subnet_widths *widths, bool stand_in)
{
    mmf_subnets s = {.inputs = paper_order(b, inputs)};
    s.nets = mmf_builder_alloc(b, inputs->count * sizeof *s.nets);
    s.widths = mmf_builder_alloc(b, inputs->count * sizeof *s.widths);
    s.features = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    const bool trio = mmf_is_sentiment_trio(inputs);
    for (size_t m = 0; mmf_builder_status(b) == MMF_OK && m < inputs->count; m++) {
        mmf_subnet *const net = &s.nets[m];
        net->input = &s.inputs.inputs[m];
        net->width = feature_width(config, &s.inputs, m, widths);
        net->dropout = dropout_of(config, &s.inputs, m);
        const bool video = trio && strcmp(net->input->name, "vision") == 0;
        const char *const scope =
            mmf_builder_text(b, "%s_subnet", video ? "video" : net->input->name);
        build_net(b, config, net, hidden_width(config, &s.inputs, m, widths), stand_in, scope);
        s.widths[m] = net->width;
    }
    return s;
}

static mmf_tensor *run_net(mmf_tape *tape, const mmf_subnet *net, const mmf_named *in,
                           const mmf_step *step)
{
    const char *const name = net->input->name;
    if (net->kind == MMF_SUBNET_ENCODER)
        return mmf_encoder_run(tape, &net->encoder, in, step);
    const mmf_tensor *const length = mmf_named_part(in, name, "length");
    const mmf_tape_mark mark = mmf_tape_enter(tape);
    mmf_tensor *x = mmf_named_get(in, name);
    if (net->kind == MMF_SUBNET_TEXT) {
        x = mmf_rnn_run(tape, &net->rnn, x, length, false).last;
        x = mmf_linear_run(tape, &net->linear_1, mmf_dropout(tape, x, net->dropout), MMF_ACT_NONE);
    } else {
        if (net->input->kind == MMF_SEQUENCE)
            x = mmf_masked_mean(tape, x, length);
        x = mmf_dropout(tape, mmf_batch_norm_run(tape, &net->norm, x), net->dropout);
        x = mmf_linear_run(tape, &net->linear_1, x, MMF_ACT_RELU);
        x = mmf_linear_run(tape, &net->linear_2, x, MMF_ACT_RELU);
        x = mmf_linear_run(tape, &net->linear_3, x, MMF_ACT_RELU);
    }
    x = mmf_replace_absent(tape, x, mmf_present_column(tape, in, name), net->absent);
    return mmf_tape_leave(tape, mark, x);
}

void mmf_subnets_run(mmf_tape *tape, const mmf_subnets *s, const mmf_named *in,
                     const mmf_step *step, mmf_named *out)
{
    for (size_t m = 0; m < s->inputs.count; m++) {
        s->features[m] = run_net(tape, &s->nets[m], in, step);
        mmf_named_putf(tape, out, s->features[m], "feature_%s", s->inputs.inputs[m].name);
    }
}
