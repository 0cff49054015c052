/*
 * butd.c: bottom-up and top-down attention: a question weighs regions.
 *
 * Anderson et al., CVPR 2018, and Teney et al., CVPR 2018, in the form and with the names of
 * hengyuan-hu/bottom-up-attention-vqa. Deviation: regions are masked where the data says how many
 * there are; the reference weighs all.
 */
#include <string.h>

#include "models/question.h"

static const mmf_option options[] = {
    {"num_hid", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128", "width (paper: 1024)"},
    {"attention", NULL, MMF_OPTION_TEXT, 0, 0, "newatt|baseline0", "newatt",
     "scores from a product of projections, or from question and region side by side"},
    MMF_QUESTION_OPTIONS,
    {"attention_dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.2",
     "newatt: on the product of projections"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.5", "before the answers"},
    {0},
};

typedef struct butd_model {
    mmf_question question;
    bool is_product;
    mmf_normed_linear v_proj, q_proj, nonlinear, linear;
    mmf_normed_linear q_net, v_net;
    mmf_answers answers;
    double attention_dropout;
} butd_model;

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    butd_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    const int64_t h = mmf_config_int(config, "num_hid");
    model->question = mmf_question_build(b, config, inputs, h, false);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    const int64_t dv = model->question.image_width;
    model->is_product = strcmp(mmf_config_text(config, "attention"), "newatt") == 0;
    model->attention_dropout = mmf_config_real(config, "attention_dropout");
    mmf_builder_enter(b, "v_att");
    if (model->is_product) {
        model->v_proj = mmf_normed_linear_build(b, "v_proj.main.0", dv, h);
        model->q_proj = mmf_normed_linear_build(b, "q_proj.main.0", h, h);
    } else {
        model->nonlinear = mmf_normed_linear_build(b, "nonlinear.main.0", dv + h, h);
    }
    model->linear = mmf_normed_linear_build(b, "linear", h, 1);
    mmf_builder_leave(b);
    model->q_net = mmf_normed_linear_build(b, "q_net.main.0", h, h);
    model->v_net = mmf_normed_linear_build(b, "v_net.main.0", dv, h);
    model->answers = mmf_answers_build(b, config, h, mmf_config_real(config, "dropout"));
    *self = model;
    return mmf_builder_status(b);
}

/* (B, R) */
static mmf_tensor *weights(mmf_tape *tape, const butd_model *model, const mmf_steps *v,
                           mmf_tensor *q)
{
    const int64_t rows = v->x->shape[0], n = v->x->shape[1];
    mmf_tensor *joint = NULL;
    if (model->is_product) {
        mmf_tensor *const from_v = mmf_normed_linear_run(tape, &model->v_proj, v->x, MMF_ACT_RELU);
        mmf_tensor *const from_q = mmf_normed_linear_run(tape, &model->q_proj, q, MMF_ACT_RELU);
        joint = mmf_mul(tape, from_v, mmf_reshape(tape, from_q, 3, (int64_t[]){rows, 1, -1}));
        joint = mmf_dropout(tape, joint, model->attention_dropout);
    } else {
        mmf_tensor *const one = mmf_reshape(tape, q, 3, (int64_t[]){rows, 1, q->shape[1]});
        mmf_tensor *const repeated = mmf_expand(tape, one, 3, (int64_t[]){rows, n, q->shape[1]});
        joint = mmf_concat(tape, (mmf_tensor *[]){v->x, repeated}, 2, 2);
        joint = mmf_normed_linear_run(tape, &model->nonlinear, joint, MMF_ACT_RELU);
    }
    mmf_tensor *const scores = mmf_normed_linear_run(tape, &model->linear, joint, MMF_ACT_NONE);
    return mmf_softmax(tape, mmf_reshape(tape, scores, 2, (int64_t[]){rows, n}), v->mask,
                       MMF_EMPTY_ZERO);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const butd_model *const model = self;
    const mmf_steps states = mmf_question_states(tape, &model->question, in);
    const mmf_steps v = mmf_question_regions(tape, &model->question, in);
    mmf_tensor *const q = mmf_steps_last(tape, &states);
    if (!q || !v.x)
        return;
    mmf_tensor *const a = weights(tape, model, &v, q);
    mmf_tensor *const rows = mmf_reshape(tape, a, 3, (int64_t[]){-1, 1, v.x->shape[1]});
    mmf_tensor *const seen = mmf_reshape(tape, mmf_matmul(tape, rows, v.x, false, false), 2,
                                         (int64_t[]){-1, v.x->shape[2]});
    mmf_tensor *const joint =
        mmf_mul(tape, mmf_normed_linear_run(tape, &model->q_net, q, MMF_ACT_RELU),
                mmf_normed_linear_run(tape, &model->v_net, seen, MMF_ACT_RELU));
    mmf_named_put(tape, out, "attention", a);
    mmf_named_axes(out, "BT");
    mmf_answers_run(tape, &model->answers, joint, out);
}

const mmf_def mmf_model_butd = {
    .name = "butd",
    .title = "Bottom-up and top-down attention",
    .paper =
        "Anderson, He, Buehler, Teney, Johnson, Gould, Zhang, Bottom-up and top-down attention "
        "for image captioning and visual question answering, CVPR 2018, arXiv:1707.07998; "
        "Teney et al., CVPR 2018, arXiv:1708.02711",
    .equations =
        "a = softmax_r(w (P v_r * Q q)); y = W2 relu(W1 (relu(U q) * relu(V sum_r a_r v_r)))",
    .missing = "a question is one step of zeros; regions get no weight, their sum is zero",
    .timing = "intermediate",
    .structure = "attention",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_TWO_ONLY | MMF_MISSING_OK | MMF_ANY_TASK,
    .options = options,
    .build = build,
    .run = run,
};
