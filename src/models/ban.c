/*
 * ban.c: bilinear attention networks: attention over pairs of words and regions.
 *
 * Kim, Jun, Zhang, NeurIPS 2018, with the names of jnhwkim/ban-vqa. As there, padding words are
 * neither masked nor left out of the sum; steps of other data are, behind a length. Regions of
 * zeros are padding; where no pair is left, nothing is attended to (there: NaN). With `objects` the
 * counter reads boxes from the input `<regions>.box`.
 */
#include <math.h>
#include <string.h>

#include "models/counter.h"
#include "models/question.h"
#include "tensor/tape.h"

/* The attention net is so many times as wide as the model. */
#define ATTENTION_TIMES 3

static const mmf_option options[] = {
    {"num_hid", NULL, MMF_OPTION_INT, 1, 8192, NULL, "128", "width (paper: 1280)"},
    {"glimpse", NULL, MMF_OPTION_INT, 1, 64, NULL, "2", "maps of attention (paper: 8)"},
    {"op", NULL, MMF_OPTION_TEXT, 0, 0, NULL, "", "c: a second table of words beside the first"},
    {"objects", NULL, MMF_OPTION_INT, 0, 100, NULL, "0",
     "boxes that the counter compares (paper: 10); 0: no counter"},
    MMF_QUESTION_OPTIONS,
    {"input_dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.2", "on what enters a projection"},
    {"dropout", NULL, MMF_OPTION_REAL, 0, 0.95, NULL, "0.5",
     "in the attention net and before the answers"},
    {0},
};

typedef struct glimpse {
    mmf_normed_linear v_net, q_net, q_prj, c_prj;
} glimpse;

typedef struct ban_model {
    mmf_question question;
    mmf_normed_linear v_net, q_net; /* of the attention */
    mmf_tensor *h_mat_v, *h_mat_g;  /* (1, G, 1, K), (1) */
    mmf_tensor *h_bias;             /* (1, G, 1, 1) */
    int64_t n_glimpses, width, k;
    glimpse *glimpses;
    mmf_counter counter;
    mmf_answers answers;
    mmf_tensor **counts; /* one a glimpse */
    double input_dropout, dropout;
} ban_model;

/* ---- Building ---------------------------------------------------------------------------- */

static void build_attention(mmf_builder *b, ban_model *model)
{
    const int64_t g = model->n_glimpses, k = model->k, one = 1;
    mmf_builder_enter(b, "v_att.logits");
    model->v_net = mmf_normed_linear_build(b, "v_net.main.1", model->question.image_width, k);
    model->q_net = mmf_normed_linear_build(b, "q_net.main.1", model->width, k);
    model->h_mat_v = mmf_builder_param(b, "h_mat_v", MMF_PARAM_TRAINED, mmf_init_normal(1), 4,
                                       (int64_t[]){1, g, 1, k});
    model->h_mat_g = mmf_builder_param(b, "h_mat_g", MMF_PARAM_TRAINED,
                                       mmf_init_constant(sqrt((double)g * (double)k)), 1, &one);
    model->h_bias = mmf_builder_param(b, "h_bias", MMF_PARAM_TRAINED, mmf_init_normal(1), 4,
                                      (int64_t[]){1, g, 1, 1});
    mmf_builder_leave(b);
}

static void build_glimpses(mmf_builder *b, ban_model *model)
{
    const int64_t h = model->width, objects = model->counter.objects;
    for (int64_t i = 0; mmf_builder_status(b) == MMF_OK && i < model->n_glimpses; i++) {
        glimpse *const g = &model->glimpses[i];
        const long long at = (long long)i;
        g->v_net = mmf_normed_linear_build(b, mmf_builder_text(b, "b_net.%lld.v_net.main.1", at),
                                           model->question.image_width, h);
        g->q_net =
            mmf_normed_linear_build(b, mmf_builder_text(b, "b_net.%lld.q_net.main.1", at), h, h);
        g->q_prj = mmf_normed_linear_build(b, mmf_builder_text(b, "q_prj.%lld.main.1", at), h, h);
        if (objects)
            g->c_prj = mmf_normed_linear_build(b, mmf_builder_text(b, "c_prj.%lld.main.0", at),
                                               objects + 1, h);
    }
}

static void build_counter(mmf_builder *b, ban_model *model, int64_t objects)
{
    const mmf_input_schema *const image = model->question.image;
    if (objects == 0)
        return;
    if (image->kind != MMF_SEQUENCE || image->shape[0] < objects)
        mmf_builder_fail(b, MMF_ARG, "ban: the counter needs %lld regions or more in %s",
                         (long long)objects, image->name);
    model->counter = mmf_counter_build(b, "counter", objects);
}

static mmf_status build(mmf_builder *b, const mmf_config *config, const mmf_schema *inputs,
                        void **self)
{
    ban_model *const model = mmf_builder_alloc(b, sizeof *model);
    if (!model)
        return mmf_builder_status(b);
    const char *const op = mmf_config_text(config, "op");
    if (*op && strcmp(op, "c") != 0)
        return mmf_builder_fail(b, MMF_ARG, "ban: option op is \"%s\"; there is \"c\" alone", op);
    model->width = mmf_config_int(config, "num_hid");
    model->k = ATTENTION_TIMES * model->width;
    model->n_glimpses = mmf_config_int(config, "glimpse");
    model->dropout = mmf_config_real(config, "dropout");
    model->input_dropout = mmf_config_real(config, "input_dropout");
    model->glimpses = mmf_builder_alloc(b, (size_t)model->n_glimpses * sizeof *model->glimpses);
    model->counts = mmf_builder_alloc(b, (size_t)model->n_glimpses * sizeof(mmf_tensor *));
    model->question = mmf_question_build(b, config, inputs, model->width, *op != 0);
    if (mmf_builder_status(b) != MMF_OK)
        return mmf_builder_status(b);
    build_attention(b, model);
    build_counter(b, model, mmf_config_int(config, "objects"));
    build_glimpses(b, model);
    model->answers = mmf_answers_build(b, config, model->width, model->dropout);
    *self = model;
    return mmf_builder_status(b);
}

/* ---- Running ----------------------------------------------------------------------------- */

static mmf_tensor *projected(mmf_tape *tape, const ban_model *model, const mmf_normed_linear *net,
                             mmf_tensor *x)
{
    return mmf_normed_linear_run(tape, net, mmf_dropout(tape, x, model->input_dropout),
                                 MMF_ACT_RELU);
}

/* S_g[r, t] = sum_k P_g[k] v[r, k] q[t, k] + beta_g: (B, G, R, T). */
static mmf_tensor *logits_of(mmf_tape *tape, const ban_model *model, mmf_tensor *x, mmf_tensor *y)
{
    const int64_t rows = x->shape[0], n = x->shape[1], t = y->shape[1], g = model->n_glimpses;
    mmf_tensor *v = projected(tape, model, &model->v_net, x);
    v = mmf_dropout(tape, v, model->dropout);
    mmf_tensor *const q = projected(tape, model, &model->q_net, y);
    mmf_tensor *const p = mmf_normed_weight(tape, model->h_mat_v, model->h_mat_g);
    v = mmf_mul(tape, mmf_reshape(tape, v, 4, (int64_t[]){rows, 1, n, model->k}), p);
    v = mmf_reshape(tape, v, 3, (int64_t[]){rows, g * n, model->k});
    mmf_tensor *const s = mmf_matmul(tape, v, q, false, true);
    return mmf_add(tape, mmf_reshape(tape, s, 4, (int64_t[]){rows, g, n, t}), model->h_bias);
}

/* Softmax over the pairs of valid regions and steps: (B, G, R, T). */
static mmf_tensor *attention_of(mmf_tape *tape, mmf_tensor *s, mmf_tensor *regions,
                                mmf_tensor *steps)
{
    if (!s)
        return NULL;
    const int64_t rows = s->shape[0], n = s->shape[2], t = s->shape[3];
    mmf_tensor *mask = mmf_reshape(tape, regions, 3, (int64_t[]){rows, n, 1});
    mmf_tensor *const columns = steps ? mmf_reshape(tape, steps, 3, (int64_t[]){rows, 1, t})
                                      : mmf_full(tape, 3, (int64_t[]){1, 1, t}, 1);
    mask = mmf_reshape(tape, mmf_mul(tape, mask, columns), 3, (int64_t[]){rows, 1, n * t});
    s = mmf_reshape(tape, s, 3, (int64_t[]){rows, s->shape[1], n * t});
    s = mmf_softmax(tape, s, mask, MMF_EMPTY_ZERO);
    return mmf_reshape(tape, s, 4, (int64_t[]){rows, -1, n, t});
}

/* (B, A, C) of glimpse g of x (B, G, A, C). */
static mmf_tensor *glimpse_of(mmf_tape *tape, mmf_tensor *x, int64_t g)
{
    return x ? mmf_reshape(tape, mmf_slice(tape, x, 1, g, 1), 3,
                           (int64_t[]){x->shape[0], x->shape[2], x->shape[3]})
             : NULL;
}

/* f[k] = sum_rt A[r, t] v[r, k] q[t, k]: (B, 1, H). */
static mmf_tensor *pooled(mmf_tape *tape, const ban_model *model, const glimpse *g, mmf_tensor *x,
                          mmf_tensor *y, mmf_tensor *a)
{
    mmf_tensor *const v = projected(tape, model, &g->v_net, x);
    mmf_tensor *const q = projected(tape, model, &g->q_net, y);
    mmf_tensor *const f = mmf_sum(tape, mmf_mul(tape, v, mmf_matmul(tape, a, q, false, false)), 1);
    return mmf_reshape(tape, f, 3, (int64_t[]){-1, 1, model->width});
}

/* (B, R): rows of zeros are padding, but not where they are what an encoder makes. */
static mmf_tensor *regions_of(mmf_tape *tape, const ban_model *model, const mmf_steps *v)
{
    if (model->question.has_regions)
        return mmf_region_mask(tape, v->x);
    return v->mask ? v->mask : mmf_full(tape, 2, v->x->shape, 1);
}

static void run(mmf_tape *tape, void *self, const mmf_named *in, const mmf_step *step,
                mmf_named *out)
{
    (void)step;
    const ban_model *const model = self;
    const mmf_steps v = mmf_question_regions(tape, &model->question, in);
    mmf_steps q = mmf_question_states(tape, &model->question, in);
    if (!v.x || !q.x)
        return;
    mmf_tensor *const boxes = mmf_named_part(in, model->question.image->name, "box");
    if (model->counter.objects && !boxes)
        mmf_tape__fail(tape, MMF_ARG, "ban",
                       "the counter needs an input %s.box; objects=0 does "
                       "without",
                       model->question.image->name);
    mmf_tensor *const regions = regions_of(tape, model, &v);
    mmf_tensor *const s = logits_of(tape, model, v.x, q.x);
    mmf_tensor *const a = attention_of(tape, s, regions, q.mask);
    for (int64_t i = 0; i < model->n_glimpses; i++) {
        const glimpse *const g = &model->glimpses[i];
        mmf_tensor *const f = pooled(tape, model, g, v.x, q.x, glimpse_of(tape, a, i));
        q.x =
            mmf_add(tape, q.x,
                    mmf_normed_linear_run(
                        tape, &g->q_prj, mmf_dropout(tape, f, model->input_dropout), MMF_ACT_NONE));
        if (!model->counter.objects)
            continue;
        mmf_tensor *const count = mmf_counter_run(
            tape, &model->counter, boxes, mmf_max(tape, glimpse_of(tape, s, i), 2), regions);
        mmf_tensor *const added = mmf_normed_linear_run(tape, &g->c_prj, count, MMF_ACT_RELU);
        model->counts[i] = count;
        q.x = mmf_add(tape, q.x, mmf_reshape(tape, added, 3, (int64_t[]){-1, 1, model->width}));
    }
    mmf_named_put(tape, out, "attention", a);
    mmf_named_axes(out, "BGTT");
    if (model->counter.objects)
        mmf_named_put(tape, out, "counter",
                      mmf_stack(tape, model->counts, (int)model->n_glimpses, 1));
    mmf_answers_run(tape, &model->answers, mmf_sum(tape, mmf_steps_masked(tape, &q), 1), out);
}

const mmf_def mmf_model_ban = {
    .name = "ban",
    .title = "Bilinear attention network",
    .paper = "Kim, Jun, Zhang, Bilinear attention networks, NeurIPS 2018, arXiv:1805.07932",
    .equations = "A_g = softmax_rt(sum_k P_g v q + beta_g); f_g = sum_rt A_g relu(V_g v_r) * "
                 "relu(U_g q_t); q_t += P f_g + relu(C c_g); y = W2 relu(W1 sum_t q_t)",
    .missing = "a question is one step of zeros; without regions nothing is attended to",
    .timing = "intermediate",
    .structure = "attention",
    .kind = MMF_KIND_MODEL,
    .takes = MMF_TAKES_ANY | MMF_TWO_ONLY | MMF_MISSING_OK | MMF_ANY_TASK,
    .companions = 1u << MMF_COMPANION_BOX,
    .options = options,
    .build = build,
    .run = run,
};
