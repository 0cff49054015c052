/*
 * text_graph_layer.c: the registered layer `mm-gnn`: the stages of text_graph.h one by one, or
 * chained as in the released model, from the question's vector and features with their boxes.
 *
 * Gao, Li, Wang, Shan, Chen, Multi-modal graph neural network for joint reasoning on vision and
 * scene text, CVPR 2020. The released model has no graph of numbers, so this has none either.
 */
#include <string.h>

#include "nn/text_graph.h"

static const mmf_option options[] = {
    {"stage", NULL, MMF_OPTION_TEXT, 0, 0, "full|vs|ss|output", "full",
     "regions and tokens (vs), tokens among themselves (ss), answers (output), or all"},
    MMF_TEXT_GRAPH_OPTIONS("12", "128", "50", "2048", "4096", "4096"),
    {"vocabulary", NULL, MMF_OPTION_INT, 1, 10000000, NULL, "3997", "answers that are not copied"},
    {"iterations", NULL, MMF_OPTION_INT, 1, 1, NULL, "1", "rounds of a stage; defined for one"},
    {"tokens", NULL, MMF_OPTION_INT, 0, 100000, NULL, "0", "slots of tokens; 0: the inputs'"},
    {"question_dim", NULL, MMF_OPTION_INT, 0, 1000000, NULL, "0",
     "width of the question; 0: the input's"},
    {"fsd", NULL, MMF_OPTION_INT, 0, 1000000, NULL, "0",
     "width of a token's first feature; 0: the input's"},
    {"fvd", NULL, MMF_OPTION_INT, 0, 1000000, NULL, "0", "width of a region; 0: the input's"},
    {0},
};

typedef struct text_graph {
    char stage; /* 'v', 's', 'o' or 'f' */
    mmf_vs_stage vs;
    mmf_ss_stage ss;
    mmf_guided_score at_vision, at_token;
    mmf_copy_output output;
    int64_t n_tokens;
} text_graph;

static int64_t last_of(const mmf_schema *inputs, const char *name)
{
    const mmf_input_schema *const in = mmf_schema_find(inputs, name);
    return in && in->n_dims > 0 ? in->shape[in->n_dims - 1] : 0;
}

/* An option that repeats what the inputs say must say the same. */
static bool agrees(mmf_builder *b, const mmf_config *config, const char *name, int64_t times,
                   int64_t found)
{
    const int64_t wanted = mmf_config_int(config, name);
    if (wanted == 0 || wanted * times == found)
        return true;
    mmf_builder_fail(b, MMF_SHAPE, "mm-gnn: %s is %lld, so %lld numbers were expected, found %lld",
                     name, (long long)wanted, (long long)(wanted * times), (long long)found);
    return false;
}

static bool read_widths(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        text_graph *net, mmf_text_graph_widths *w)
{
    const mmf_input_schema *const slots =
        mmf_schema_find(inputs, net->stage == 'o' ? "copy" : "token");
    const bool sees = net->stage != 's';
    *w = (mmf_text_graph_widths){.question = last_of(inputs, "question"),
                                 .token = last_of(inputs, "token"),
                                 .vision = last_of(inputs, "vision"),
                                 .box = MMF_BOX_NUMBERS};
    net->n_tokens = slots ? slots->shape[0] : 0;
    if (w->question == 0 || w->token == 0 || (sees && w->vision == 0) || net->n_tokens == 0) {
        mmf_builder_fail(b, MMF_SHAPE,
                         "mm-gnn takes question (B, Q), token (B, T, D), token.box (B, T, 4), "
                         "vision (B, O, D), vision.box (B, O, 4) and token.length; its answers "
                         "take pooled vision and token, and copy (B, T)");
        return false;
    }
    const int64_t parts = net->stage == 's' ? 2 : net->stage == 'o' ? 4 : 1;
    return agrees(b, config, "tokens", 1, net->n_tokens) &&
           agrees(b, config, "question_dim", 1, w->question) &&
           agrees(b, config, "fsd", parts, w->token) &&
           (!sees || agrees(b, config, "fvd", 1, w->vision));
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    text_graph *const net = mmf_builder_alloc(b, sizeof *net);
    mmf_text_graph_widths w;
    if (!net)
        return mmf_builder_status(b);
    net->stage = *mmf_config_text(config, "stage");
    if (!read_widths(b, config, inputs, net, &w))
        return mmf_builder_status(b);
    const bool all = net->stage == 'f';
    if (all || net->stage == 'v')
        net->vs = mmf_vs_build(b, config, &w);
    w.token *= all ? 2 : 1;
    if (all || net->stage == 's')
        net->ss = mmf_ss_build(b, config, &w);
    w.token *= all ? 2 : 1;
    if (all) {
        net->at_vision = mmf_guided_score_build(b, "image_feature_embeddings_list", w.vision,
                                                w.question, mmf_config_int(config, "image_hidden"));
        net->at_token =
            mmf_guided_score_build(b, "context_feature_embeddings_list", w.token, w.question,
                                   mmf_config_int(config, "context_hidden"));
    }
    if (all || net->stage == 'o')
        net->output = mmf_copy_output_build(b, config, &w, mmf_config_int(config, "vocabulary"));
    *self = net;
    return mmf_builder_status(b);
}

static mmf_tensor *flat(mmf_tape *tape, mmf_tensor *x)
{
    return x ? mmf_reshape(tape, x, 2, (int64_t[]){x->shape[0], -1}) : NULL;
}

static void run_vs(mmf_tape *tape, const text_graph *net, const mmf_text_graph_inputs *in,
                   mmf_named *out)
{
    const mmf_vs_result r = mmf_vs_run(tape, &net->vs, in);
    mmf_tensor *const both[] = {flat(tape, r.token), flat(tape, r.vision)};
    mmf_named_put(tape, out, "concat", mmf_concat(tape, both, 2, 1));
    mmf_named_put(tape, out, "token", r.token);
    mmf_named_put(tape, out, "vision", r.vision);
    mmf_named_put(tape, out, "attention", r.attention);
    mmf_named_put(tape, out, "sharpness", r.sharpness);
}

static void run_full(mmf_tape *tape, const text_graph *net, const mmf_text_graph_inputs *in,
                     mmf_named *out)
{
    mmf_tensor *attention = NULL, *sharpness = NULL, *bias = NULL;
    const mmf_vs_result vs = mmf_vs_run(tape, &net->vs, in);
    mmf_tensor *const token = mmf_ss_run(tape, &net->ss, in, vs.token, &attention, &sharpness);
    mmf_tensor *const copy = mmf_guided_score_run(tape, &net->at_token, token, in->question);
    mmf_named_put(tape, out, "attention.vs", vs.attention);
    mmf_named_put(tape, out, "sharpness.vs", vs.sharpness);
    mmf_named_put(tape, out, "attention.ss", attention);
    mmf_named_put(tape, out, "sharpness.ss", sharpness);
    const mmf_text_graph_pooled pooled = mmf_text_graph_pool(
        tape, in, vs.vision, mmf_guided_score_run(tape, &net->at_vision, vs.vision, in->question),
        token, copy);
    mmf_named_put(tape, out, "attention.image", pooled.at_vision);
    mmf_named_put(tape, out, "attention.token", pooled.at_token);
    mmf_tensor *const slots = mmf_reshape(tape, copy, 2, (int64_t[]){-1, net->n_tokens});
    mmf_named_put(tape, out, "score",
                  mmf_copy_output_run(tape, &net->output, in->question, pooled.vision, pooled.token,
                                      slots, in->token_mask, &bias));
    mmf_named_put(tape, out, "bias", bias);
}

static void run(mmf_tape *tape, void *self, const mmf_named *named, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const text_graph *const net = self;
    const mmf_tensor *const length = mmf_named_get(named, "token.length");
    const mmf_text_graph_inputs in = {
        .question = mmf_named_get(named, "question"),
        .token = mmf_named_get(named, "token"),
        .token_box = mmf_named_get(named, "token.box"),
        .token_mask = length ? mmf_length_mask(tape, length, net->n_tokens) : NULL,
        .vision = mmf_named_get(named, "vision"),
        .vision_box = mmf_named_get(named, "vision.box")};
    mmf_tensor *attention = NULL, *sharpness = NULL, *bias = NULL;
    if (net->stage == 'v') {
        run_vs(tape, net, &in, out);
    } else if (net->stage == 's') {
        mmf_tensor *const token = mmf_ss_run(tape, &net->ss, &in, in.token, &attention, &sharpness);
        mmf_named_put(tape, out, "token", token);
        mmf_named_put(tape, out, "attention", attention);
        mmf_named_put(tape, out, "sharpness", sharpness);
    } else if (net->stage == 'o') {
        mmf_named_put(tape, out, "score",
                      mmf_copy_output_run(tape, &net->output, in.question, in.vision, in.token,
                                          mmf_named_get(named, "copy"), in.token_mask, &bias));
        mmf_named_put(tape, out, "bias", bias);
    } else {
        run_full(tape, net, &in, out);
    }
}

const mmf_def mmf_layer_mm_gnn = {
    .name = "mm-gnn",
    .title = "Graphs of regions, tokens and numbers for questions about texts in images",
    .paper = "Gao, Li, Wang, Shan, Chen, Multi-modal graph neural network for joint reasoning on "
             "vision and scene text, CVPR 2020, arXiv:2003.13962",
    .equations =
        "A_vs = softmax((1/K) sum_k (E_s W1_k)(E_v W2_k)'), s' = [s, A m_v], v' = v + epsilon A' "
        "m_s; A_ss = softmax(f(c) (g(c) l(q))' / temperature) without the diagonal, s'' = [s', "
        "relu(W A m)]; scores of words - beta, and of copying each token + beta. As released, "
        "without the graph of numbers and without the noise that its training adds to A_ss",
    .kind = MMF_KIND_LAYER,
    .takes = MMF_TAKES_ANY,
    .options = options,
    .build = build,
    .run = run,
};
