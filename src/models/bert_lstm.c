/*
 * bert_lstm.c: BERT on the text, an LSTM on every other modality, three layers over all of them.
 *
 * The fusion branch of Self-MM: Yu, Xu, Yuan, Wu, AAAI 2021, with its names. The text is the raw
 * state of the first token; the pooler is stored and not used. Without the unimodal labels and
 * heads of the whole method.
 */
#include <string.h>

#include "models/parts.h"
#include "nn/bert.h"

static const mmf_option options[] = {
    MMF_BERT_OPTIONS,
    {"a_lstm_hidden_size", NULL, MMF_OPTION_INT, 1, 8192, NULL, "16",
     "hidden width of the LSTM of audio and of modalities of other names"},
    {"v_lstm_hidden_size", NULL, MMF_OPTION_INT, 1, 8192, NULL, "32",
     "hidden width of the LSTM of vision"},
    {"audio_out", NULL, MMF_OPTION_INT, 1, 8192, NULL, "16",
     "width of the feature of audio and of modalities of other names"},
    {"video_out", NULL, MMF_OPTION_INT, 1, 8192, NULL, "32", "width of the feature of vision"},
    {"lstm_layers", "a_lstm_layers", MMF_OPTION_INT, 1, 16, NULL, "1", "layers of the LSTMs"},
    {"lstm_dropout", "a_lstm_dropout", MMF_OPTION_REAL, 0, 0.95, NULL, "0",
     "on the last state of an LSTM"},
    {"post_fusion_dim", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128", "width of the layers after"},
    {"post_fusion_dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.1",
     "on what enters the layers after"},
    {0},
};

typedef struct branch {
    const mmf_input_schema *input;
    mmf_rnn_layer rnn;
    mmf_linear_layer linear_1;
} branch;

typedef struct bert_lstm {
    const char *text;
    mmf_bert bert;
    branch *branches; /* audio, vision, others */
    size_t n_branches;
    mmf_tensor **features; /* text and branches of the last run */
    mmf_linear_layer layer_1, layer_2, layer_3;
    double lstm_dropout, dropout;
    bool is_regression;
} bert_lstm;

/* ---- Building ---------------------------------------------------------------------------- */

static bool is_vision(const mmf_input_schema *in)
{
    return strcmp(in->name, "vision") == 0 || strcmp(in->name, "video") == 0;
}

static int rank_of(const mmf_input_schema *in)
{
    if (strcmp(in->name, "audio") == 0)
        return 0;
    return is_vision(in) ? 1 : 2;
}

static const char *refuses(const mmf_schema *inputs)
{
    const mmf_input_schema *const text = mmf_bert_text(inputs);
    if (!text)
        return "it needs one modality of tokens; name it with --kind NAME=tokens";
    for (size_t m = 0; m < inputs->count; m++) {
        const mmf_input_schema *const in = &inputs->inputs[m];
        if (in != text && in->kind != MMF_SEQUENCE && in->kind != MMF_VECTOR)
            return "its other modalities are sequences or vectors; choose with --modalities, or "
                   "use joint-concat";
    }
    return NULL;
}

/* @return width of its feature */
static int64_t build_branch(mmf_builder *b, const mmf_config *config, const mmf_input_schema *in,
                            branch *out)
{
    const bool vision = is_vision(in);
    const int64_t width = mmf_config_int(config, vision ? "video_out" : "audio_out");
    const mmf_rnn_options rnn = {
        .inputs = in->shape[in->n_dims - 1],
        .hidden = mmf_config_int(config, vision ? "v_lstm_hidden_size" : "a_lstm_hidden_size"),
        .n_layers = (int)mmf_config_int(config, "lstm_layers")};
    out->input = in;
    mmf_builder_enter(b, mmf_builder_text(b, "%s_model", vision ? "video" : in->name));
    out->rnn = mmf_rnn_build(b, "rnn", &rnn);
    out->linear_1 = mmf_linear_build(b, "linear_1", rnn.hidden, width, true);
    mmf_builder_leave(b);
    return width;
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    bert_lstm *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    const char *const problem = refuses(inputs);
    if (problem)
        return mmf_builder_fail(b, MMF_SHAPE, "bert-lstm: %s", problem);
    const mmf_input_schema *const text = mmf_bert_text(inputs);
    const mmf_bert_sizes sizes = mmf_bert_sizes_read(b, config, text);
    model->text = text->name;
    model->branches = mmf_builder_alloc(b, inputs->count * sizeof *model->branches);
    model->features = mmf_builder_alloc(b, inputs->count * sizeof(mmf_tensor *));
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    model->bert = mmf_bert_build(b, "text_model.model", &sizes, true);
    int64_t width = sizes.width;
    for (int rank = 0; rank < 3; rank++) {
        for (size_t m = 0; m < inputs->count; m++) {
            const mmf_input_schema *const in = &inputs->inputs[m];
            if (in != text && rank_of(in) == rank)
                width += build_branch(b, config, in, &model->branches[model->n_branches++]);
        }
    }
    const int64_t p = mmf_config_int(config, "post_fusion_dim");
    model->layer_1 = mmf_linear_build(b, "post_fusion_layer_1", width, p, true);
    model->layer_2 = mmf_linear_build(b, "post_fusion_layer_2", p, p, true);
    model->layer_3 = mmf_linear_build(b, "post_fusion_layer_3", p, mmf_n_outputs(config), true);
    model->lstm_dropout = mmf_config_real(config, "lstm_dropout");
    model->dropout = mmf_config_real(config, "post_fusion_dropout");
    model->is_regression = mmf_is_value(config);
    *self = model;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

/* W D(h at the end) + b; zeros where the modality is absent. */
static mmf_tensor *run_branch(mmf_tape *tape, const bert_lstm *model, const branch *side,
                              const mmf_named *in)
{
    const char *const name = side->input->name;
    mmf_tensor *x = mmf_named_get(in, name);
    if (x && side->input->kind == MMF_VECTOR)
        x = mmf_reshape(tape, x, 3, (int64_t[]){x->shape[0], 1, x->shape[1]});
    const mmf_tensor *const length = mmf_named_part(in, name, "length");
    mmf_tensor *h = mmf_rnn_run(tape, &side->rnn, x, length, false).last;
    h = mmf_linear_run(tape, &side->linear_1, mmf_dropout(tape, h, model->lstm_dropout),
                       MMF_ACT_NONE);
    mmf_tensor *const present = mmf_present_column(tape, in, name);
    return present ? mmf_mul(tape, h, present) : h;
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const bert_lstm *const model = self;
    mmf_tensor *const keys = mmf_bert_keys(tape, in, model->text);
    mmf_tensor *const z = mmf_bert_embed_input(tape, &model->bert, in, model->text);
    mmf_tensor *const states = mmf_bert_encode(tape, &model->bert, z, keys);
    model->features[0] = mmf_bert_first(tape, states);
    mmf_named_putf(tape, out, model->features[0], "feature_%s", model->text);
    for (size_t m = 0; m < model->n_branches; m++) {
        const branch *const side = &model->branches[m];
        model->features[m + 1] = run_branch(tape, model, side, in);
        mmf_named_putf(tape, out, model->features[m + 1], "feature_%s", side->input->name);
    }
    mmf_tensor *h = mmf_concat(tape, model->features, (int)model->n_branches + 1, 1);
    h = mmf_linear_run(tape, &model->layer_1, mmf_dropout(tape, h, model->dropout), MMF_ACT_RELU);
    mmf_named_put(tape, out, "feature_fusion", h);
    h = mmf_linear_run(tape, &model->layer_2, h, MMF_ACT_RELU);
    mmf_put_result(tape, out, model->is_regression,
                   mmf_linear_run(tape, &model->layer_3, h, MMF_ACT_NONE));
}

const mmf_def mmf_model_bert_lstm = {
    .name = "bert-lstm",
    .title = "BERT and LSTMs",
    .paper = "Yu, Xu, Yuan, Wu, Learning modality-specific representations with self-supervised "
             "multi-task learning for multimodal sentiment analysis (its fusion branch), AAAI "
             "2021, arXiv:2102.04830",
    .equations = "f = [BERT(text)_0; W_m LSTM_m(x_m) at its end]; y = W3 relu(W2 relu(W1 f)); "
                 "without the unimodal labels",
    .missing = "the feature of an absent modality is zeros; an absent text is words of zeros",
    .timing = "intermediate",
    .structure = "concatenation",
    .kind = MMF_KIND_MODEL,
    .takes =
        MMF_TAKES_TOKENS | MMF_TAKES_SEQUENCES | MMF_TAKES_VECTORS | MMF_MISSING_OK | MMF_ANY_TASK,
    .companions = 1u << MMF_COMPANION_SEGMENTS,
    .options = options,
    .build = build,
    .run = run,
    .refuses = refuses,
};
