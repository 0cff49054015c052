/*
 * text_graph.c: see text_graph.h. Structure and names of the released code (s_mmgnn), which the
 * comments of the stages follow; layers there whose names end in `.layers.0` have a bias and ReLU,
 * those in `.lc` neither.
 */
#include "nn/text_graph.h"

#include <math.h>

/* Keeps a box without height from an infinite ratio. */
#define SMALLEST_HEIGHT 1e-14
/* Score of copying a token that is not there. */
#define NEVER 1e20

static mmf_normed_linear rectified(mmf_builder *b, const char *name, int64_t inputs,
                                   int64_t outputs)
{
    return mmf_normed_linear_build(b, mmf_builder_text(b, "%s.layers.0", name), inputs, outputs);
}

static mmf_normed_linear plain(mmf_builder *b, const char *name, int64_t inputs, int64_t outputs)
{
    return mmf_normed_matrix_build(b, mmf_builder_text(b, "%s.lc", name), inputs, outputs);
}

static mmf_tensor *relu_of(mmf_tape *tape, const mmf_normed_linear *layer, mmf_tensor *x)
{
    return mmf_normed_linear_run(tape, layer, x, MMF_ACT_RELU);
}

static mmf_tensor *linear_of(mmf_tape *tape, const mmf_normed_linear *layer, mmf_tensor *x)
{
    return mmf_normed_linear_run(tape, layer, x, MMF_ACT_NONE);
}

/* Corners, width, height, centre, area, width over height: (B, N, 10). */
static mmf_tensor *describe(mmf_tape *tape, mmf_tensor *box, double damping)
{
    mmf_tensor *c[4], *parts[MMF_BOX_NUMBERS];
    for (int i = 0; i < 4; i++)
        parts[i] = c[i] = mmf_slice(tape, box, -1, i, 1);
    mmf_tensor *const w = mmf_sub(tape, c[2], c[0]), *const h = mmf_sub(tape, c[3], c[1]);
    parts[4] = w;
    parts[5] = h;
    parts[6] = mmf_affine(tape, mmf_add(tape, c[0], c[2]), 0.5, 0);
    parts[7] = mmf_affine(tape, mmf_add(tape, c[1], c[3]), 0.5, 0);
    parts[8] = mmf_mul(tape, w, h);
    parts[9] = damping > 0
                   ? mmf_div(tape, parts[8], mmf_affine(tape, mmf_mul(tape, h, h), 1, damping))
                   : mmf_div(tape, w, mmf_affine(tape, h, 1, SMALLEST_HEIGHT));
    return mmf_concat(tape, parts, MMF_BOX_NUMBERS, -1);
}

mmf_tensor *mmf_box_centres(mmf_tape *tape, mmf_tensor *box)
{
    return mmf_affine(tape,
                      mmf_add(tape, mmf_slice(tape, box, -1, 0, 2), mmf_slice(tape, box, -1, 2, 2)),
                      0.5, 0);
}

/* (B, D) to (B, 1, D), for every position. */
static mmf_tensor *for_all(mmf_tape *tape, mmf_tensor *x)
{
    return x ? mmf_reshape(tape, x, 3, (int64_t[]){-1, 1, x->shape[x->n_dims - 1]}) : NULL;
}

/* (B, N) to (B, N, 1) or (B, 1, N). */
static mmf_tensor *mask_as(mmf_tape *tape, mmf_tensor *mask, bool as_row)
{
    const int64_t n = mask ? mask->shape[1] : 1;
    return mmf_reshape(tape, mask, 3, (int64_t[]){-1, as_row ? 1 : n, as_row ? n : 1});
}

static mmf_tensor *masked(mmf_tape *tape, mmf_tensor *x, mmf_tensor *mask)
{
    return mask ? mmf_mul(tape, x, mask_as(tape, mask, false)) : x;
}

/* -1 / penalty sum over the batch of the mean length of the rows of attention. */
static mmf_tensor *sharpness_of(mmf_tape *tape, mmf_tensor *attention, mmf_tensor *mask,
                                double penalty)
{
    if (!attention)
        return NULL;
    mmf_tensor *const square = mmf_sum(tape, mmf_mul(tape, attention, attention), -1);
    mmf_tensor *const rows = mmf_sum(tape, mmf_signed_sqrt(tape, square), -1);
    mmf_tensor *const count = mask ? mmf_clamp(tape, mmf_sum(tape, mask, -1), 1, INFINITY) : NULL;
    mmf_tensor *const mean = count ? mmf_div(tape, rows, count)
                                   : mmf_affine(tape, rows, 1 / (double)attention->shape[1], 0);
    return mmf_affine(tape, mmf_sum(tape, mean, MMF_ALL_AXES), -1 / penalty, 0);
}

/* ---- Regions and tokens ------------------------------------------------------------------ */

mmf_vs_stage mmf_vs_build(mmf_builder *b, const mmf_config *config, const mmf_text_graph_widths *w)
{
    const int64_t box = mmf_config_int(config, "box_dim"), v = w->vision + box, s = w->token + box;
    const int64_t heads[] = {mmf_config_int(config, "K"), box, mmf_config_int(config, "inter_dim")};
    const int64_t one = 1;
    mmf_vs_stage stage = {.penalty = mmf_config_real(config, "penalty")};
    mmf_builder_enter(b, "si_gnn");
    stage.w1 =
        mmf_builder_param(b, "W1", MMF_PARAM_TRAINED, mmf_init_xavier_normal(3, heads), 3, heads);
    stage.w2 =
        mmf_builder_param(b, "W2", MMF_PARAM_TRAINED, mmf_init_xavier_normal(3, heads), 3, heads);
    stage.epsilon = mmf_builder_param(b, "epsilon", MMF_PARAM_TRAINED, mmf_init_normal(1), 1, &one);
    stage.boxes = plain(b, "bb_proj", w->box, box);
    stage.fs = plain(b, "fs_fa4", s, v);
    stage.fv = plain(b, "fv_fa2", v, v);
    stage.question_2 = plain(b, "l_proj2", w->question, v);
    stage.question_3 = plain(b, "l_proj3", w->question, v);
    stage.to_token = rectified(b, "output_proj1", v, w->token);
    stage.to_vision = rectified(b, "output_proj2", v, w->vision);
    mmf_builder_leave(b);
    return stage;
}

/* All heads' projections of embedded boxes side by side: their products add up in one. */
static mmf_tensor *project_heads(mmf_tape *tape, mmf_tensor *boxes, mmf_tensor *w)
{
    const int64_t width = w ? w->shape[0] * w->shape[2] : 1, box = w ? w->shape[1] : 1;
    mmf_tensor *const beside =
        mmf_reshape(tape, mmf_transpose(tape, w, 0, 1), 2, (int64_t[]){box, width});
    return mmf_matmul(tape, boxes, beside, false, false);
}

mmf_vs_result mmf_vs_run(mmf_tape *tape, const mmf_vs_stage *g, const mmf_text_graph_inputs *in)
{
    mmf_vs_result r = {0};
    if (!g->w1)
        return r;
    mmf_tensor *const at_s = linear_of(tape, &g->boxes, describe(tape, in->token_box, in->damping));
    mmf_tensor *const at_v =
        linear_of(tape, &g->boxes, describe(tape, in->vision_box, in->damping));
    /* A = softmax over regions of the mean over heads of (E_s W1)(E_v W2)' */
    mmf_tensor *const logits = mmf_affine(tape,
                                          mmf_matmul(tape, project_heads(tape, at_s, g->w1),
                                                     project_heads(tape, at_v, g->w2), false, true),
                                          1 / (double)g->w1->shape[0], 0);
    mmf_tensor *const mask_v = in->vision_mask ? mask_as(tape, in->vision_mask, true) : NULL;
    mmf_tensor *a = mmf_softmax(tape, logits, mask_v, MMF_EMPTY_ZERO);
    r.attention = masked(tape, a, in->token_mask);
    r.sharpness = sharpness_of(tape, a, in->token_mask, g->penalty);
    a = in->masks_senders ? r.attention : a;
    mmf_tensor *const v_place[] = {in->vision, at_v}, *const s_place[] = {in->token, at_s};
    mmf_tensor *const gate =
        mmf_softmax(tape, linear_of(tape, &g->question_2, in->question), NULL, MMF_EMPTY_ZERO);
    mmf_tensor *const m_v =
        relu_of(tape, &g->to_token,
                mmf_mul(tape, linear_of(tape, &g->fv, mmf_concat(tape, v_place, 2, -1)),
                        for_all(tape, gate)));
    mmf_tensor *const m_s =
        relu_of(tape, &g->to_vision,
                mmf_mul(tape, linear_of(tape, &g->fs, mmf_concat(tape, s_place, 2, -1)),
                        for_all(tape, linear_of(tape, &g->question_3, in->question))));
    mmf_tensor *const joined[] = {in->token, mmf_matmul(tape, a, m_v, false, false)};
    r.token = masked(tape, mmf_concat(tape, joined, 2, -1), in->token_mask);
    r.vision =
        mmf_add(tape, in->vision, mmf_mul(tape, mmf_matmul(tape, a, m_s, true, false), g->epsilon));
    return r;
}

/* ---- Tokens ------------------------------------------------------------------------------ */

mmf_ss_stage mmf_ss_build(mmf_builder *b, const mmf_config *config, const mmf_text_graph_widths *w)
{
    static const char *const names[] = {"fea_fa1", "fea_fa2", "fea_fa3", "fea_fa4", "fea_fa5"};
    const int64_t box = mmf_config_int(config, "box_dim"), x = w->token + box;
    mmf_ss_stage stage = {.temperature = mmf_config_real(config, "temperature"),
                          .penalty = mmf_config_real(config, "penalty")};
    mmf_builder_enter(b, "s_gnn");
    stage.boxes = rectified(b, "bb_proj", w->box, box);
    for (int i = 0; i < 5; i++)
        stage.fa[i] = rectified(b, names[i], i < 2 ? x : 2 * x, i < 2 ? x : 2 * x);
    stage.question_1 = rectified(b, "l_proj1", w->question, 2 * x);
    stage.question_2 = rectified(b, "l_proj2", w->question, 2 * x);
    stage.to_token = rectified(b, "output_proj", 2 * x, w->token);
    mmf_builder_leave(b);
    return stage;
}

mmf_tensor *mmf_token_pairs(mmf_tape *tape, mmf_tensor *mask, int64_t rows, int64_t n)
{
    mmf_tensor *const valid = mask ? mask : mmf_full(tape, 2, (int64_t[]){rows, n}, 1);
    mmf_tensor *const pairs =
        mmf_mul(tape, mask_as(tape, valid, false), mask_as(tape, valid, true));
    mmf_tensor *const eye = mmf_identity(tape, n);
    mmf_tensor *const others = mmf_mul(tape, pairs, mmf_affine(tape, eye, -1, 1));
    /* 1 where a sample has a single token: it alone may attend to itself. */
    mmf_tensor *const more = mmf_affine(tape, mmf_sum(tape, valid, -1), 1, -1);
    mmf_tensor *const single = mmf_affine(tape, mmf_sign(tape, mmf_relu(tape, more)), -1, 1);
    return mmf_add(tape, others,
                   mmf_mul(tape, mmf_mul(tape, pairs, eye),
                           mmf_reshape(tape, single, 3, (int64_t[]){-1, 1, 1})));
}

mmf_tensor *mmf_ss_run(mmf_tape *tape, const mmf_ss_stage *g, const mmf_text_graph_inputs *in,
                       mmf_tensor *token, mmf_tensor **attention, mmf_tensor **sharpness)
{
    if (!token)
        return NULL;
    mmf_tensor *const place = relu_of(tape, &g->boxes, describe(tape, in->token_box, in->damping));
    mmf_tensor *const placed[] = {token, place};
    mmf_tensor *const x = mmf_concat(tape, placed, 2, -1);
    mmf_tensor *const both[] = {
        x, mmf_mul(tape, relu_of(tape, &g->fa[0], x), relu_of(tape, &g->fa[1], x))};
    mmf_tensor *const c = mmf_concat(tape, both, 2, -1);
    mmf_tensor *const asked = mmf_mul(tape, relu_of(tape, &g->fa[2], c),
                                      for_all(tape, relu_of(tape, &g->question_1, in->question)));
    mmf_tensor *const logits = mmf_matmul(tape, relu_of(tape, &g->fa[3], c), asked, false, true);
    mmf_tensor *const pairs =
        mmf_token_pairs(tape, in->token_mask, token->shape[0], token->shape[1]);
    /* Weights to the power 1 / temperature, brought back to sum 1. */
    mmf_tensor *const a =
        mmf_softmax(tape, mmf_affine(tape, logits, 1 / g->temperature, 0), pairs, MMF_EMPTY_ZERO);
    *attention = a;
    *sharpness = sharpness_of(tape, a, in->token_mask, g->penalty);
    mmf_tensor *const gate =
        mmf_softmax(tape, relu_of(tape, &g->question_2, in->question), NULL, MMF_EMPTY_ZERO);
    mmf_tensor *const sent = mmf_mul(tape, relu_of(tape, &g->fa[4], c), for_all(tape, gate));
    mmf_tensor *const message =
        relu_of(tape, &g->to_token, mmf_matmul(tape, a, sent, false, false));
    mmf_tensor *const joined[] = {token, message};
    return masked(tape, mmf_concat(tape, joined, 2, -1), in->token_mask);
}

/* ---- Answers ----------------------------------------------------------------------------- */

mmf_guided_score mmf_guided_score_build(mmf_builder *b, const char *name, int64_t feature,
                                        int64_t question, int64_t hidden)
{
    mmf_guided_score s = {0};
    mmf_builder_enter(b, mmf_builder_text(b, "%s.0.0.image_attention_model.module", name));
    s.feature = rectified(b, "combination_layer.module.fa_image", feature, hidden);
    s.question = rectified(b, "combination_layer.module.fa_txt", question, hidden);
    s.out = plain(b, "transform.module", hidden, 1);
    mmf_builder_leave(b);
    return s;
}

mmf_tensor *mmf_guided_score_run(mmf_tape *tape, const mmf_guided_score *s, mmf_tensor *x,
                                 mmf_tensor *question)
{
    mmf_tensor *const joint = mmf_mul(tape, relu_of(tape, &s->feature, x),
                                      for_all(tape, relu_of(tape, &s->question, question)));
    return linear_of(tape, &s->out, joint);
}

mmf_text_graph_pooled mmf_text_graph_pool(mmf_tape *tape, const mmf_text_graph_inputs *in,
                                          mmf_tensor *vision, mmf_tensor *vision_score,
                                          mmf_tensor *token, mmf_tensor *token_score)
{
    mmf_text_graph_pooled p = {0};
    const int64_t n = vision_score ? vision_score->shape[1] : 1;
    mmf_tensor *const scores = mmf_reshape(tape, vision_score, 2, (int64_t[]){-1, n});
    p.at_vision = mmf_reshape(tape, mmf_softmax(tape, scores, in->vision_mask, MMF_EMPTY_ZERO), 3,
                              (int64_t[]){-1, n, 1});
    p.at_token = masked(tape, mmf_sigmoid(tape, token_score), in->token_mask);
    p.vision = mmf_sum(tape, mmf_mul(tape, vision, p.at_vision), 1);
    p.token = mmf_sum(tape, mmf_mul(tape, token, p.at_token), 1);
    return p;
}

mmf_copy_output mmf_copy_output_build(mmf_builder *b, const mmf_config *config,
                                      const mmf_text_graph_widths *w, int64_t vocabulary)
{
    static const char *const names[] = {"l_proj1", "l_proj2", "l_proj3"};
    const int64_t h = mmf_config_int(config, "output_inter_dim");
    mmf_copy_output o = {0};
    mmf_builder_enter(b, "output");
    o.vision = rectified(b, "i_proj", w->vision, h);
    o.token = rectified(b, "s_proj", w->token, h);
    for (int i = 0; i < 3; i++)
        o.question[i] = rectified(b, names[i], w->question, h);
    o.both = rectified(b, "si2l", 2 * h, h);
    o.bias = rectified(b, "bias", 2 * h, 1);
    o.vocabulary = plain(b, "vocab_predict", 2 * h, vocabulary);
    mmf_builder_leave(b);
    return o;
}

mmf_tensor *mmf_copy_output_run(mmf_tape *tape, const mmf_copy_output *o, mmf_tensor *question,
                                mmf_tensor *vision, mmf_tensor *token, mmf_tensor *copy,
                                mmf_tensor *mask, mmf_tensor **bias)
{
    mmf_tensor *l[3];
    for (int i = 0; i < 3; i++)
        l[i] = relu_of(tape, &o->question[i], question);
    mmf_tensor *const v = relu_of(tape, &o->vision, vision);
    mmf_tensor *const s = relu_of(tape, &o->token, token);
    mmf_tensor *const known[] = {mmf_mul(tape, l[1], s), mmf_mul(tape, l[2], v)};
    mmf_tensor *const words = linear_of(tape, &o->vocabulary, mmf_concat(tape, known, 2, -1));
    mmf_tensor *const both[] = {s, v};
    mmf_tensor *const asked[] = {l[0], relu_of(tape, &o->both, mmf_concat(tape, both, 2, -1))};
    *bias = relu_of(tape, &o->bias, mmf_concat(tape, asked, 2, -1));
    copy = mmf_add(tape, copy, *bias);
    if (mask)
        copy = mmf_add(tape, mmf_mul(tape, copy, mask), mmf_affine(tape, mask, NEVER, -NEVER));
    mmf_tensor *const scores[] = {mmf_sub(tape, words, *bias), copy};
    return mmf_concat(tape, scores, 2, 1);
}
