/*
 * text_graph_model.c: `mm-gnn`, questions about texts in images.
 *
 * Gao, Li, Wang, Shan, Chen, CVPR 2020. Graphs of regions and of tokens as released
 * (nn/text_graph.h), and the paper's graph of numbers, which the released model lacks: a token that
 * is a number has a node with its value, which hears the tokens around it and joins the token's
 * state. Classes are the words of a vocabulary, then the slots of tokens to copy.
 */
#include <string.h>

#include "models/parts.h"
#include "nn/text_graph.h"

/* Boxes are standardised like other features, so that a height may be near 0. */
#define DAMPING 0.01

static const mmf_option options[] = {
    {"width", NULL, MMF_OPTION_INT, 1, 8192, NULL, "64", "of the question's vector"},
    MMF_DROPOUT_OPTION,
    MMF_ENCODER_OPTION,
    MMF_TEXT_GRAPH_OPTIONS("4", "32", "16", "64", "64", "64"),
    {"numeric", NULL, MMF_OPTION_BOOL, 0, 0, NULL, "true",
     "the graph of numbers, if `number` is there"},
    {0},
};

typedef struct number_stage {
    mmf_normed_linear number, token, question, message;
    mmf_tensor *distance; /* softplus of it weighs how far a token is */
} number_stage;

typedef struct text_model {
    mmf_encoder question;
    mmf_vs_stage vs;
    mmf_ss_stage ss;
    number_stage sn;
    mmf_guided_score at_vision, at_token;
    mmf_copy_output output;
    int64_t n_tokens, n_regions, n_values; /* values of a number; 0: no such graph */
    bool is_regression;
} text_model;

/* ---- Building ---------------------------------------------------------------------------- */

static const mmf_input_schema *sequence(const mmf_schema *inputs, const char *name, int64_t steps,
                                        int64_t least)
{
    const mmf_input_schema *const in = mmf_schema_find(inputs, name);
    const bool fits = in && in->kind == MMF_SEQUENCE && in->shape[1] >= least &&
                      (steps == 0 || in->shape[0] == steps);
    return fits ? in : NULL;
}

static const char *refuses(const mmf_schema *inputs)
{
    const mmf_input_schema *const token = sequence(inputs, "token", 0, 1);
    const mmf_input_schema *const vision = sequence(inputs, "vision", 0, 1);
    const bool fits =
        mmf_schema_find(inputs, "question") && token && vision &&
        sequence(inputs, "token_box", token->shape[0], 4) &&
        sequence(inputs, "vision_box", vision->shape[0], 4) &&
        (!mmf_schema_find(inputs, "number") || sequence(inputs, "number", token->shape[0], 2));
    return fits
               ? NULL
               : "it takes modalities called question, token and vision (sequences), token_box and "
                 "vision_box (x0, y0, x1, y1 a step), and number if there are any";
}

static void build_numbers(mmf_builder *b, text_model *model, const mmf_text_graph_widths *w,
                          int64_t message)
{
    const int64_t one = 1, joint = w->token;
    mmf_builder_enter(b, "sn_gnn");
    model->sn.number = mmf_normed_linear_build(b, "number", model->n_values, joint);
    model->sn.token = mmf_normed_linear_build(b, "token", w->token, joint);
    model->sn.question = mmf_normed_linear_build(b, "question", w->question, joint);
    model->sn.message = mmf_normed_linear_build(b, "message", w->token, message);
    model->sn.distance =
        mmf_builder_param(b, "distance", MMF_PARAM_TRAINED, mmf_init_constant(0), 1, &one);
    mmf_builder_leave(b);
}

static void build_graphs(mmf_builder *b, const mmf_config *config, text_model *model,
                         mmf_text_graph_widths w)
{
    const int64_t token = w.token, n_answers = mmf_n_outputs(config);
    model->vs = mmf_vs_build(b, config, &w);
    w.token *= 2;
    model->ss = mmf_ss_build(b, config, &w);
    w.token *= 2;
    if (model->n_values > 0) {
        build_numbers(b, model, &w, token);
        w.token += model->n_values + token;
    }
    model->at_vision = mmf_guided_score_build(b, "image_feature_embeddings_list", w.vision,
                                              w.question, mmf_config_int(config, "image_hidden"));
    model->at_token = mmf_guided_score_build(b, "context_feature_embeddings_list", w.token,
                                             w.question, mmf_config_int(config, "context_hidden"));
    model->output = mmf_copy_output_build(b, config, &w, n_answers - model->n_tokens);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    text_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    if (refuses(inputs))
        return mmf_builder_fail(b, MMF_SHAPE, "mm-gnn: %s", refuses(inputs));
    const mmf_input_schema *const token = mmf_schema_find(inputs, "token");
    const mmf_input_schema *const vision = mmf_schema_find(inputs, "vision");
    const mmf_input_schema *const number = mmf_schema_find(inputs, "number");
    model->n_tokens = token->shape[0];
    model->n_regions = vision->shape[0];
    model->n_values = number && mmf_config_bool(config, "numeric") ? number->shape[1] - 1 : 0;
    if (mmf_n_outputs(config) <= model->n_tokens)
        return mmf_builder_fail(b, MMF_SHAPE,
                                "mm-gnn has a class for every word of its vocabulary and then one "
                                "for each of %lld tokens; expected more than %lld classes, found "
                                "%lld",
                                (long long)model->n_tokens, (long long)model->n_tokens,
                                (long long)mmf_n_outputs(config));
    const mmf_encoder_choice choice = {.spec = mmf_encoder_spec(config, "encoder", "question"),
                                       .width = mmf_config_int(config, "width"),
                                       .dropout = mmf_config_real(config, "dropout")};
    model->question =
        mmf_encoder_build(b, "question", mmf_schema_find(inputs, "question"), &choice);
    if (mmf_builder_status(b) == MMF_OK)
        build_graphs(b, config, model,
                     (mmf_text_graph_widths){model->question.width, token->shape[1],
                                             vision->shape[1], MMF_BOX_NUMBERS});
    *self = model;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

/* 1 where a step is within the lengths of all of these, NULL if none has lengths. */
static mmf_tensor *within(mmf_tape *tape, const mmf_named *in, const char *const *names, int n,
                          int64_t n_steps)
{
    mmf_tensor *mask = NULL;
    for (int i = 0; i < n; i++) {
        const mmf_tensor *const length = mmf_named_part(in, names[i], "length");
        mmf_tensor *const own = length ? mmf_length_mask(tape, length, n_steps) : NULL;
        mask = mask && own ? mmf_mul(tape, mask, own) : own ? own : mask;
    }
    return mask;
}

/* Squared distances between centres of boxes, (B, T, T). */
static mmf_tensor *far_apart(mmf_tape *tape, mmf_tensor *box)
{
    mmf_tensor *const c = mmf_box_centres(tape, box);
    const int64_t n = c ? c->shape[1] : 1;
    mmf_tensor *const a = mmf_reshape(tape, c, 4, (int64_t[]){-1, n, 1, 2});
    mmf_tensor *const d = mmf_sub(tape, a, mmf_reshape(tape, c, 4, (int64_t[]){-1, 1, n, 2}));
    return mmf_sum(tape, mmf_mul(tape, d, d), -1);
}

/* x_i = [values, sum_j a_ij h(s_j)], near tokens weighing more; then s_i = [s_i, x_i], zeros where
 * a token is no number: what its last column says, which is below 0 there. */
static mmf_tensor *hear_numbers(mmf_tape *tape, const text_model *model,
                                const mmf_text_graph_inputs *in, mmf_tensor *number,
                                mmf_tensor *token, mmf_named *out)
{
    const number_stage *const g = &model->sn;
    mmf_tensor *const values = mmf_sigmoid(tape, mmf_slice(tape, number, -1, 0, model->n_values));
    mmf_tensor *const flag = mmf_slice(tape, number, -1, model->n_values, 1);
    mmf_tensor *const is_number = mmf_affine(
        tape, mmf_sign(tape, mmf_relu(tape, mmf_affine(tape, mmf_detach(tape, flag), -1, 0))), -1,
        1);
    mmf_tensor *const asked =
        mmf_reshape(tape, mmf_normed_linear_run(tape, &g->question, in->question, MMF_ACT_RELU), 3,
                    (int64_t[]){-1, 1, token ? token->shape[2] : 1});
    mmf_tensor *const keys =
        mmf_mul(tape, mmf_normed_linear_run(tape, &g->token, token, MMF_ACT_RELU), asked);
    mmf_tensor *const alike = mmf_matmul(
        tape, mmf_normed_linear_run(tape, &g->number, values, MMF_ACT_RELU), keys, false, true);
    mmf_tensor *const far =
        mmf_mul(tape, far_apart(tape, in->token_box), mmf_softplus(tape, g->distance));
    mmf_tensor *const pairs =
        mmf_token_pairs(tape, in->token_mask, token ? token->shape[0] : 1, model->n_tokens);
    mmf_tensor *const a = mmf_softmax(tape, mmf_sub(tape, alike, far), pairs, MMF_EMPTY_ZERO);
    mmf_named_put(tape, out, "attention.sn", a);
    mmf_named_axes(out, "BQT");
    mmf_tensor *const said = mmf_normed_linear_run(tape, &g->message, token, MMF_ACT_RELU);
    mmf_tensor *const parts[] = {values, mmf_matmul(tape, a, said, false, false)};
    mmf_tensor *x = mmf_mul(tape, mmf_concat(tape, parts, 2, -1), is_number);
    if (in->token_mask)
        x = mmf_mul(tape, x,
                    mmf_reshape(tape, in->token_mask, 3, (int64_t[]){-1, model->n_tokens, 1}));
    mmf_tensor *const both[] = {token, x};
    return mmf_concat(tape, both, 2, -1);
}

static void run(mmf_tape *tape, void *self, const mmf_named *named, const mmf_step *step,
                mmf_named *out)
{
    const text_model *const model = self;
    static const char *const of_tokens[] = {"token", "token_box", "number"};
    static const char *const of_regions[] = {"vision", "vision_box"};
    const mmf_text_graph_inputs in = {
        .question = mmf_encoder_run(tape, &model->question, named, step),
        .token = mmf_named_get(named, "token"),
        .token_box = mmf_named_get(named, "token_box"),
        .token_mask = within(tape, named, of_tokens, 3, model->n_tokens),
        .vision = mmf_named_get(named, "vision"),
        .vision_box = mmf_named_get(named, "vision_box"),
        .vision_mask = within(tape, named, of_regions, 2, model->n_regions),
        .masks_senders = true,
        .damping = DAMPING};
    mmf_tensor *attention = NULL, *sharpness = NULL, *bias = NULL;
    const mmf_vs_result vs = mmf_vs_run(tape, &model->vs, &in);
    mmf_tensor *token = mmf_ss_run(tape, &model->ss, &in, vs.token, &attention, &sharpness);
    if (model->n_values > 0)
        token = hear_numbers(tape, model, &in, mmf_named_get(named, "number"), token, out);
    mmf_tensor *const copy = mmf_guided_score_run(tape, &model->at_token, token, in.question);
    mmf_tensor *const seen = mmf_guided_score_run(tape, &model->at_vision, vs.vision, in.question);
    const mmf_text_graph_pooled p = mmf_text_graph_pool(tape, &in, vs.vision, seen, token, copy);
    mmf_named_put(tape, out, "attention.vs", vs.attention);
    mmf_named_axes(out, "BQT");
    mmf_named_put(tape, out, "attention.ss", attention);
    mmf_named_axes(out, "BQT");
    mmf_named_put(tape, out, "attention.image", p.at_vision);
    mmf_named_axes(out, "BT");
    mmf_named_put(tape, out, "attention.token", p.at_token);
    mmf_named_axes(out, "BT");
    mmf_put_result(tape, out, false,
                   mmf_copy_output_run(tape, &model->output, in.question, p.vision, p.token,
                                       mmf_reshape(tape, copy, 2, (int64_t[]){-1, model->n_tokens}),
                                       in.token_mask, &bias));
    mmf_named_put(tape, out, "bias", bias);
}

const mmf_def mmf_model_mm_gnn = {
    .name = "mm-gnn",
    .title = "Graphs of regions, tokens and numbers",
    .paper = "Gao, Li, Wang, Shan, Chen, Multi-modal graph neural network for joint reasoning on "
             "vision and scene text, CVPR 2020, arXiv:2003.13962",
    .equations =
        "A_vs = softmax((1/K) sum_k (E_s W1_k)(E_v W2_k)'), s' = [s, A m_v], v' = v + epsilon A' "
        "m_s; A_ss = softmax(f(c) (g(c) l(q))' / temperature) without the diagonal, s'' = [s', "
        "relu(W A m)]; A_sn = softmax(h(x) (g(s'') l(q))' - d^2), s''' = [s'', sigmoid(x), A m]; "
        "scores of words - beta, and of copying each token + beta. Deviations: the graph of "
        "numbers "
        "is the paper's, with near tokens preferred, where an old module of the code preferred far "
        "ones; padding sends nothing to regions; no noise on A_ss in training; cross entropy over "
        "one class, unless the task has several labels",
    .timing = "intermediate",
    .structure = "graph",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_CLASSES_OK,
    .options = options,
    .build = build,
    .run = run,
    .refuses = refuses,
};
